/* What follows a convolution — activation, batch norm, 2×2 pooling, dropout — in as few passes over memory as there can be; and
 * convolutions, of few channels or by fewer products than they are defined by, and small dense layers.
 *
 * Plain C for gcc and clang, without headers of Python or PyTorch: built at installation or at first use, loaded with ctypes. The
 * kernels themselves are in lanes.h, compiled by level.c once for each instruction set; the best one is chosen at run time. Threads
 * are those of the OpenMP runtime that PyTorch has loaded, handed in by `fittingroom_threads`, since two pools of threads would
 * fight for the cores. Every sum is taken over fixed blocks that are combined in order: results do not depend on the number of threads.
 */
#include "kernels.h"

static struct level chosen;

/* Use level 0 (portable), 1 (AVX2) or 2 (AVX-512 with bf16); the best this processor has if that one is not there. Returns it. */
EXPORT int64_t fittingroom_level(int64_t wish) {
    int64_t best = 0;
    chosen = level_portable;
#if defined(HAVE_AVX2)
    __builtin_cpu_init();
    if (wish >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) chosen = level_avx2, best = 1;
#if defined(HAVE_AVX512)
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
