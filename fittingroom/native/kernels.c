/* What follows a convolution — activation, batch norm, 2×2 pooling, dropout — in as few passes over memory as there can be; and
 * convolutions, of few channels or by fewer products than they are defined by, and small dense layers.
 *
 * Plain C for gcc and clang, without headers of Python or PyTorch: built at installation or at first use, loaded with ctypes. The
 * kernels themselves are in lanes.h, which is included once for each instruction set; the best one is chosen at run time. Threads
 * are those of the OpenMP runtime that PyTorch has loaded, handed in by `fittingroom_threads`, since two pools of threads would
 * fight for the cores. Every sum is taken over fixed blocks that are combined in order: results do not depend on the number of threads.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && !defined(PORTABLE_ONLY)
#include <immintrin.h>
#endif

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
    void *picked;    /* the input that max-pooling chose */
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
static float *aligned_memory(int64_t numbers) { return aligned_alloc(64, ((size_t)numbers * sizeof(float) + 63) / 64 * 64); }

/* To bfloat16, to nearest even; NaN stays NaN. */
static uint16_t rounded(float value) {
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

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(a) JOIN(a, SUFFIX)

#define SUFFIX portable
#define LANES 4
#include "lanes.h"
#undef LANES
#undef SUFFIX

#if defined(__x86_64__) && !defined(PORTABLE_ONLY)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define SUFFIX avx2
#define LANES 8
#include "lanes.h"
#undef LANES
#undef SUFFIX
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if !defined(NO_AVX512)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
#endif
#define SUFFIX avx512
#define LANES 16
#include "lanes.h"
#undef LANES
#undef SUFFIX
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#endif

static struct level chosen;

/* Use level 0 (portable), 1 (AVX2) or 2 (AVX-512 with bf16); the best this processor has if that one is not there. Returns it. */
EXPORT int64_t fittingroom_level(int64_t wish) {
    int64_t best = 0;
    chosen = level_portable;
#if defined(__x86_64__) && !defined(PORTABLE_ONLY)
    __builtin_cpu_init();
    if (wish >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) chosen = level_avx2, best = 1;
#if !defined(NO_AVX512)
    if (wish >= 2 && best == 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16"))
        chosen = level_avx512, best = 2;
#endif
#endif
    return best;
}

/* ---- threads --------------------------------------------------------------------------------------------------------------- */

static void (*start_threads)(void (*)(void *), void *, unsigned, unsigned);
static int (*thread_number)(void), (*thread_count)(void);

/* Hand in GOMP_parallel, omp_get_thread_num and omp_get_num_threads of the runtime in use. */
EXPORT void fittingroom_threads(void *parallel, void *number, void *count) {
    start_threads = (void (*)(void (*)(void *), void *, unsigned, unsigned))parallel;
    thread_number = (int (*)(void))number;
    thread_count = (int (*)(void))count;
}

struct share {
    const struct job *job;
    work *run;
    int64_t count;
};
static void run_share(void *argument) {
    const struct share *share = argument;
    int64_t part = thread_number(), parts = thread_count();
    share->run(share->job, share->count * part / parts, share->count * (part + 1) / parts);
}
static void in_parallel(const struct job *job, work *run, int64_t count) {
    struct share share = {job, run, count};
    if (start_threads && job->threads > 1 && job->elements >= SERIAL_ELEMENTS) start_threads(run_share, &share, (unsigned)job->threads, 0);
    else run(job, 0, count);
}

/* ---- around the kernels ---------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z) { /* the finaliser of splitmix64 */
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static struct job prepare(const struct call *call) {
    struct job job = {0};
    int step = call->pool == NONE ? 1 : 2;
    job.x = call->x, job.out = call->out, job.code = call->code, job.picked = call->picked;
    job.grad_out = call->grad_out, job.grad_x = call->grad_x;
    job.batch = call->batch, job.channels = call->channels, job.height = call->height, job.width = call->width;
    job.out_height = call->height / step, job.out_width = call->width / step;
    job.places = call->batch * call->height * call->width;
    job.elements = job.places * call->channels;
    job.blocks = job.elements / BLOCK_ELEMENTS < 1 ? 1 : job.elements / BLOCK_ELEMENTS > BLOCKS ? BLOCKS : job.elements / BLOCK_ELEMENTS;
    if (job.blocks > job.places) job.blocks = job.places;
    job.act = (int)call->act, job.norm = (int)call->norm, job.pool = (int)call->pool, job.wide = (int)call->wide, job.threads = (int)call->threads;
    if (call->norm) job.mean = call->stats, job.scale = call->stats + 2 * call->channels, job.offset = call->stats + 3 * call->channels;
    if (call->training && call->rate > 0) {
        uint64_t key = mix(mix(call->seed) + call->counter);
        double threshold = floor(call->rate * 65536 + 0.5);
        job.key[0] = (uint32_t)key, job.key[1] = (uint32_t)(key >> 32);
        job.threshold = threshold > 65535 ? 65535 : (uint32_t)threshold;
        job.keep_scale = (float)(65536.0 / (65536.0 - job.threshold));
    }
    return job;
}

/* Combine the blocks' shifted sums in double precision; write mean and 1 / deviation, and move the running ones. */
static int finish_moments(const struct call *call, const struct job *job) {
    const int64_t channels = job->channels;
    const double count = (double)job->places;
    double *mean = calloc((size_t)channels * 2, sizeof(double)), *squares = mean + channels;
    if (!mean) return 1;
    for (int64_t block = 0; block < job->blocks; block++) {
        const float *part = job->partial + block * 3 * channels;
        double n = (double)(job->places * (block + 1) / job->blocks - job->places * block / job->blocks);
        for (int64_t c = 0; c < channels; c++) mean[c] += n * part[c] + part[channels + c];
    }
    for (int64_t c = 0; c < channels; c++) mean[c] /= count;
    for (int64_t block = 0; block < job->blocks; block++) {
        const float *part = job->partial + block * 3 * channels;
        double n = (double)(job->places * (block + 1) / job->blocks - job->places * block / job->blocks);
        for (int64_t c = 0; c < channels; c++) {
            double sum = part[channels + c], apart = part[c] + sum / n - mean[c];
            squares[c] += part[2 * channels + c] - sum * sum / n + n * apart * apart;
        }
    }
    for (int64_t c = 0; c < channels; c++) {
        double variance = squares[c] > 0 || squares[c] != squares[c] ? squares[c] / count : 0;
        call->stats[c] = (float)mean[c];
        call->stats[channels + c] = (float)(1 / sqrt(variance + call->epsilon));
        if (call->running_mean) {
            call->running_mean[c] += (float)(call->momentum * (mean[c] - call->running_mean[c]));
            call->running_var[c] += (float)(call->momentum * (variance * count / (count - 1) - call->running_var[c]));
        }
    }
    if (call->batches) ++*call->batches;
    free(mean);
    return 0;
}

/* Returns 0, or 1 when there is no memory. */
EXPORT int64_t fittingroom_forward(const struct call *call) {
    struct job job = prepare(call);
    const int64_t channels = job.channels;
    if (job.norm) {
        if (call->training) {
            job.partial = malloc((size_t)(job.blocks * 3 * channels) * sizeof(float));
            if (!job.partial) return 1;
            in_parallel(&job, chosen.moments, job.blocks);
            int failed = finish_moments(call, &job);
            free(job.partial);
            if (failed) return 1;
        } else
            for (int64_t c = 0; c < channels; c++) {
                call->stats[c] = call->running_mean[c];
                call->stats[channels + c] = (float)(1 / sqrt(call->running_var[c] + call->epsilon));
            }
        for (int64_t c = 0; c < channels; c++) {
            float scale = call->gamma[c] * call->stats[channels + c];
            call->stats[2 * channels + c] = scale;
            call->stats[3 * channels + c] = call->beta[c] - call->stats[c] * scale;
        }
    }
    in_parallel(&job, chosen.forward, job.batch * job.out_height);
    return 0;
}

EXPORT int64_t fittingroom_backward(const struct call *call) {
    struct job job = prepare(call);
    const int64_t channels = job.channels, step = job.pool == NONE ? 1 : 2;
    float *memory = NULL;
    if (job.norm) {
        memory = malloc((size_t)((job.blocks + 1) * 2 * channels) * sizeof(float));
        double *sums = calloc((size_t)channels * 2, sizeof(double));
        if (!memory || !sums) {
            free(memory), free(sums);
            return 1;
        }
        float *base = memory, *tilt = memory + channels;
        job.partial = memory + 2 * channels;
        in_parallel(&job, chosen.sums, job.blocks);
        for (int64_t block = 0; block < job.blocks; block++)
            for (int64_t i = 0; i < 2 * channels; i++) sums[i] += job.partial[block * 2 * channels + i];
        for (int64_t c = 0; c < channels; c++) {
            double mean = call->stats[c], inverse = call->stats[channels + c], scale = call->stats[2 * channels + c];
            double grad_beta = sums[c], grad_gamma = sums[channels + c] * inverse;
            double slope = -scale * grad_gamma / (double)job.places * inverse;
            call->grad_gamma[c] = (float)grad_gamma;
            call->grad_beta[c] = (float)grad_beta;
            tilt[c] = (float)slope;
            base[c] = (float)(-scale * grad_beta / (double)job.places - slope * mean);
        }
        job.base = base, job.tilt = tilt;
        free(sums);
    }
    if (job.grad_x) in_parallel(&job, chosen.backward, job.batch * ((job.height + step - 1) / step));
    free(memory);
    return 0;
}

/* Dropout of `width` elements from x to out; the same call on a gradient is its backward pass. */
EXPORT int64_t fittingroom_dropout(const struct call *call) {
    struct job job = prepare(call);
    job.elements = call->width;
    job.channels = 1024;
    in_parallel(&job, chosen.dropout, (job.elements + 1023) / 1024);
    return 0;
}

#include "convolution.c"
#include "winograd.c"

/* ---- a whole network ------------------------------------------------------------------------------------------------------- */

/* [batch, height, width] to [batch, width, height]: of what a flatten layer makes of channels-last memory, and its gradient. */
static int64_t transpose(const struct call *call) {
    const int64_t rows = call->height, columns = call->width, size = rows * columns;
    for (int64_t image = 0; image < call->batch; image++)
        for (int64_t row = 0; row < rows; row++)
            for (int64_t column = 0; column < columns; column++) {
                const int64_t from = image * size + row * columns + column, to = image * size + column * rows + row;
                if (call->wide) ((float *)call->out)[to] = ((const float *)call->x)[from];
                else ((uint16_t *)call->out)[to] = ((const uint16_t *)call->x)[from];
            }
    return 0;
}

/* Several calls, one after the other: their number, then for each its kind and its arguments. Returns 0, or 1 when there is no memory. */
EXPORT int64_t fittingroom_program(const char *at) {
    int64_t count, kind, failed = 0;
    memcpy(&count, at, sizeof count);
    at += sizeof count;
    for (; count > 0 && !failed; count--) {
        struct call call;
        struct convolution_call convolution;
        memcpy(&kind, at, sizeof kind);
        at += sizeof kind;
        if (kind < 4) memcpy(&call, at, sizeof call), at += sizeof call;
        else memcpy(&convolution, at, sizeof convolution), at += sizeof convolution;
        switch (kind) {
        case 0: failed = fittingroom_forward(&call); break;
        case 1: failed = fittingroom_backward(&call); break;
        case 2: failed = fittingroom_dropout(&call); break;
        case 3: failed = transpose(&call); break;
        case 4: failed = fittingroom_convolve(&convolution); break;
        case 5: failed = fittingroom_convolve_back(&convolution); break;
        case 6: failed = fittingroom_dense(&convolution); break;
        default: failed = fittingroom_dense_back(&convolution);
        }
    }
    return failed;
}

/* Which source this was built from, so that a build left over from another one is not used. */
#ifndef SOURCE
#define SOURCE "unknown"
#endif
EXPORT const char *fittingroom_source(void) { return SOURCE; }
