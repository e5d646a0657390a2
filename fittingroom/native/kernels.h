/* What the kernels and what calls them have in common: sizes, the arguments of calls, and the table of a level's functions. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define BLOCKS 32            /* at most so many partial sums */
#define BLOCK_ELEMENTS 16384 /* at least so many elements in each */
#define SERIAL_ELEMENTS 16384 /* below this, waking threads costs more than it saves */

#define IMAGE_BLOCKS 16      /* a convolution's partial sums: at most so many blocks of images */
#define LARGEST_KERNEL 5
#define MOST_INPUTS 8
#define MOST_OUTPUTS_OF_PLACES 8 /* a convolution of so few outputs leaves most lanes of a vector of channels empty */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

enum { NONE = 0, MAX = 1, AVERAGE = 2 };
enum { IDENTITY = 0, RELU = 1, TANH = 2, SIGMOID = 3 };
enum { AFTER = 1, BEFORE = 2 };
enum { WHOLE = 2 }; /* of numbers that are float32, and as many as fill all vectors */

/* The arguments of a call as Python packs them: 8 bytes each. Pointers may be 0 where the tensor does not take part. */
struct call {
    void *x, *out;
    uint8_t *code;   /* a byte for each output: bits 0–1 which of the window, bit 2 kept by dropout */
    void *picked;    /* the input that max-pooling chose; of average-pooling all activations, where they are kept (may be x) */
    float *stats;    /* [4, channels]: mean, 1 / deviation, scale, offset */
    float *gamma, *beta, *running_mean, *running_var;
    int64_t *batches;
    void *grad_out, *grad_x;
    float *grad_gamma, *grad_beta;
    int64_t batch, channels, height, width;
    int64_t act, norm, pool, wide, training, threads;
    uint64_t seed, counter;
    double epsilon, momentum, rate;
};

/* The arguments of a convolution's call. Outputs are [batch, out_height, out_width, outputs]; the stride is 1. */
struct convolution_call {
    void *x, *out, *grad_out, *grad_x;
    float *weight, *bias, *grad_weight, *grad_bias;
    int64_t batch, inputs, height, width, outputs, out_height, out_width;
    int64_t kernel_height, kernel_width, top, left; /* the last two: zeros around the image */
    int64_t stride_output, stride_input, stride_row, stride_column; /* of the weights and their gradient, in elements */
    int64_t wide_x, wide_out, threads;
};
typedef float unaligned_float __attribute__((aligned(1), may_alias));
typedef int32_t unaligned_int __attribute__((aligned(1), may_alias));
struct convolution {
    const void *x, *grad_out;
    void *out, *grad_x;
    float *grad_weight, *grad_bias;
    int64_t inputs, height, width, outputs, out_height, out_width, kernel_height, kernel_width, top, left;
    int wide_x, wide_out, pairs;
    int places;                 /* whether vectors hold neighbouring places, not channels (places.h) */
    int64_t run, taps;          /* kernel width · inputs; the same · kernel height */
    int64_t padded_outputs;     /* outputs in whole vectors */
    int64_t run_words, output_words; /* how many words the numbers of a run, or of all output channels, take */
    int64_t row, frame;         /* numbers in a row of an image with its zeros, and in all of it with some room */
    int64_t plane_row, plane;   /* the same for one channel */
    const float *weight, *bias; /* [taps + 1, padded_outputs] */
    const float *across;        /* weights as [outputs, across_size]: for each row of the kernel, `run` in whole vectors */
    int64_t across_size;
    float *partial;             /* [blocks, taps + 1, padded_outputs]: sums of the gradients of weights and bias */
    int64_t partial_size;
    int *failed;                /* set where there is no memory */
};

/* A convolution by fewer products (winograd.h). All numbers are float32. */
struct winograd {
    const float *x, *grad_out, *weight, *bias;
    float *out, *grad_weight, *grad_bias;
    int64_t inputs, height, width, outputs, out_height, out_width, kernel, tile, top, left;
    int64_t stride_output, stride_input, stride_row, stride_column;
    int64_t tiles_down, tiles_across, tiles; /* in an image, and in all of them */
    int64_t panels;                          /* outputs in whole panels */
    int64_t at_once, first, count;           /* tiles of a group, the first of it, how many they are */
    int64_t spread_apart, columns_apart, kernels_apart; /* numbers from one point to the next */
    float *kernels, *spread, *gradients, *sums;
    int *failed;                             /* set where there is no memory */
};

/* Memory for so many numbers that starts with a line of the cache, of no meaning; 0 where there is none. */
static inline float *aligned_memory(int64_t numbers) { return aligned_alloc(64, ((size_t)numbers * sizeof(float) + 63) / 64 * 64); }

/* To bfloat16, to nearest even; NaN stays NaN. */
static inline uint16_t rounded(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return value != value ? 0x7FC0 : (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

struct job {
    const struct convolution *convolution;
    const struct winograd *winograd;
    const void *x, *grad_out;
    void *out, *picked, *grad_x;
    uint8_t *code;
    const float *mean, *scale, *offset, *base, *tilt;
    float *partial;
    int64_t batch, channels, height, width, out_height, out_width, places, blocks, elements;
    int act, norm, pool, wide, threads;
    uint32_t key[2], threshold;
    float keep_scale;
};

typedef void work(const struct job *, int64_t first, int64_t last);
struct level {
    int lanes, pairs; /* whether it multiplies pairs of bfloat16 */
    work *moments, *forward, *sums, *backward, *dropout, *convolve, *convolve_back, *convolve_places, *convolve_places_back, *combine, *dense, *dense_back;
    /* of winograd.h, where vectors have 8 lanes */
    work *kernels_at_points, *convolve_tiles, *group_at_points, *add_products, *kernels_from_points, *sum_places;
};

/* Of level.c; the second and third where build.py could compile them. */
extern const struct level level_portable, level_avx2, level_avx512;
