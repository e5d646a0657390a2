/* Small dense layers at small batches, where general matrix products spend most of the time on preparing. Arithmetic is float32.
 *
 * A dense layer is described as a convolution of one place. lanes.h includes this file after convolution.h, whose TILE it uses.
 */

INLINE float NAME(total)(F value) {
#if LANES == 16
    return _mm512_reduce_add_ps((__m512)value);
#else
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += value[i];
    return sum;
#endif
}
/* Rows of `length` numbers as float32, `stride` floats apart, the rest 0. */
static float *NAME(widened_rows)(const void *from, int64_t rows, int64_t length, int64_t stride, int wide) {
    float *to = malloc((size_t)(rows * stride) * sizeof(float));
    for (int64_t row = 0; to && row < rows; row++)
        for (int64_t i = 0; i < length; i += LANES) *(F *)(to + row * stride + i) = NAME(load)(from, row * length + i, NAME(inside)(length - i), wide);
    return to;
}

/* One output of `n` images. */
INLINE void NAME(dense_tile)(const struct convolution *c, const float *x, int64_t stride, int64_t output, int64_t image, const int n) {
    const float *weight = c->weight + output * c->inputs;
    F sum[TILE];
    UNROLL for (int i = 0; i < n; i++) sum[i] = NAME(all)(0);
    for (int64_t input = 0; input < c->inputs; input += LANES) {
        F w = NAME(load)(weight, input, NAME(inside)(c->inputs - input), 1);
        UNROLL for (int i = 0; i < n; i++) sum[i] += w * *(const F *)(x + i * stride + input);
    }
    UNROLL for (int i = 0; i < n; i++) {
        float y = NAME(total)(sum[i]) + (c->bias ? c->bias[output] : 0);
        int64_t at = (image + i) * c->outputs + output;
        if (c->wide_out) ((float *)c->out)[at] = y;
        else ((uint16_t *)c->out)[at] = rounded(y);
    }
}
static void NAME(dense)(const struct job *job, int64_t first, int64_t last) {
    const struct convolution *c = job->convolution;
    const int64_t stride = (c->inputs + LANES - 1) / LANES * LANES, tiles = (job->batch + TILE - 1) / TILE;
    float *x = NAME(widened_rows)(c->x, job->batch, c->inputs, stride, c->wide_x);
    if (!x) {
        *c->failed = 1;
        return;
    }
    for (int64_t output = first; output < last; output++)
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t image = job->batch * tile / tiles, n = job->batch * (tile + 1) / tiles - image;
#define CALL(n) NAME(dense_tile)(c, x + image * stride, stride, output, image, n)
            WITH_CONSTANT(n, CALL)
#undef CALL
        }
    free(x);
}

/* `n` rows of a vector's width of a matrix product: Σ over k of right[k · right_stride] times the numbers left[i · step + k · left_stride]. */
INLINE void NAME(product_tile)(const float *left, int64_t step, int64_t left_stride, const void *right, int64_t at, int64_t right_stride, int wide, int64_t count, K valid, F *sum, const int n) {
    F s[TILE];
    UNROLL for (int i = 0; i < n; i++) s[i] = NAME(all)(0);
    for (int64_t k = 0; k < count; k++) {
        F r = NAME(load)(right, at + k * right_stride, valid, wide);
        UNROLL for (int i = 0; i < n; i++) s[i] += r * left[i * step + k * left_stride];
    }
    UNROLL for (int i = 0; i < n; i++) sum[i] = s[i];
}
/* Vectors `first` to `last` − 1 of the inputs: their gradient, and that of the weights that they meet. */
static void NAME(dense_back)(const struct job *job, int64_t first, int64_t last) {
    const struct convolution *c = job->convolution;
    const int64_t stride = c->padded_outputs, batch = job->batch;
    float *g = NAME(widened_rows)(c->grad_out, batch, c->outputs, stride, c->wide_out);
    if (!g) {
        *c->failed = 1;
        return;
    }
    F sum[TILE];
    for (int64_t at = first * LANES; at < last * LANES; at += LANES) {
        const K valid = NAME(inside)(c->inputs - at);
        int64_t tiles = c->grad_x ? (batch + TILE - 1) / TILE : 0;
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t image = batch * tile / tiles, n = batch * (tile + 1) / tiles - image;
#define CALL(n) NAME(product_tile)(g + image * stride, stride, 1, c->weight, at, c->inputs, 1, c->outputs, valid, sum, n)
            WITH_CONSTANT(n, CALL)
#undef CALL
            for (int64_t i = 0; i < n; i++) NAME(store)(c->grad_x, (image + i) * c->inputs + at, valid, c->wide_x, sum[i]);
        }
        tiles = c->grad_weight ? (c->outputs + TILE - 1) / TILE : 0;
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t output = c->outputs * tile / tiles, n = c->outputs * (tile + 1) / tiles - output;
#define CALL(n) NAME(product_tile)(g + output, 1, stride, c->x, at, c->inputs, c->wide_x, batch, valid, sum, n)
            WITH_CONSTANT(n, CALL)
#undef CALL
            for (int64_t i = 0; i < n; i++) NAME(store)(c->grad_weight, (output + i) * c->inputs + at, valid, 1, sum[i]);
        }
    }
    if (first == 0 && c->grad_bias)
        for (int64_t at = 0; at < c->outputs; at += LANES) {
            F total = NAME(all)(0);
            for (int64_t image = 0; image < batch; image++) total += *(const F *)(g + image * stride + at);
            NAME(store)(c->grad_bias, at, NAME(inside)(c->outputs - at), 1, total);
        }
    free(g);
}
