/* Convolutions of few input channels, stride 1: the first of a network, and those of small networks.
 *
 * General kernels lose here what they spend on preparing large matrices. Each image is copied once into a frame of zeros, so that the
 * loops know no edges; image and weights then stay in the first cache. All loops work on words of 32 bits: a float32, or where the
 * output is bfloat16 and the processor multiplies it (`pairs`) two bfloat16 that are neighbours in the sum; sums are float32. Vectors
 * hold neighbouring output channels, except in the gradient of the input: one output place reaches, in each row of the kernel,
 * `run` = kernel width · input channels neighbouring numbers, which are the lanes there. lanes.h includes this file.
 */

#define TILE 8 /* at most so many sums stay in registers together */
#define PAIR_TILE 5 /* or, of two vectors that are multiplied by the same number, which is then read once, so many for each */
/* call(n) with n, which is between 1 and TILE, as a constant */
#define WITH_CONSTANT(n, call)                                                                                                      \
    switch (n) {                                                                                                                    \
    case 1: call(1); break;                                                                                                         \
    case 2: call(2); break;                                                                                                         \
    case 3: call(3); break;                                                                                                         \
    case 4: call(4); break;                                                                                                         \
    case 5: call(5); break;                                                                                                         \
    case 6: call(6); break;                                                                                                         \
    case 7: call(7); break;                                                                                                         \
    default: call(8);                                                                                                               \
    }
/* The same, up to PAIR_TILE */
#define WITH_FEW(n, call)                                                                                                           \
    switch (n) {                                                                                                                    \
    case 1: call(1); break;                                                                                                         \
    case 2: call(2); break;                                                                                                         \
    case 3: call(3); break;                                                                                                         \
    case 4: call(4); break;                                                                                                         \
    default: call(5);                                                                                                               \
    }

#if LANES == 16
#define PAIRS(c) ((c)->pairs)
INLINE F NAME(multiply_add)(F sum, U words, const char *word, int pairs) {
    if (!pairs) return sum + (F)words * *(const unaligned_float *)word;
    return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)words, (__m512bh)_mm512_set1_epi32(*(const unaligned_int *)word));
}
#else
#define PAIRS(c) 0
INLINE F NAME(multiply_add)(F sum, U words, const char *word, int pairs) {
    (void)pairs;
    return sum + (F)words * *(const unaligned_float *)word;
}
#endif

/* Copy `length` numbers; those of `to` are float32 (wide_to) or bfloat16. */
INLINE void NAME(convert)(void *to, const void *from, int64_t at, int64_t length, int wide_to, int wide_from) {
    for (int64_t i = 0; i < length; i += LANES) {
        K valid = NAME(inside)(length - i);
        NAME(store)(to, i, valid, wide_to, NAME(load)(from, at + i, valid, wide_from));
    }
}

/* ---- forward --------------------------------------------------------------------------------------------------------------- */

/* One vector of channels of `n` neighbouring output places, or two. */
INLINE void NAME(convolve_places)(const struct convolution *c, const char *frame, int64_t channel, int64_t at, K valid, const int n, const int vectors, const int pairs) {
    const int64_t size = pairs ? 2 : 4;
    const U *weight = (const U *)(c->weight + channel);
    F sum[2][TILE];
    const char *from[TILE];
    UNROLL for (int i = 0; i < n; i++) {
        UNROLL for (int v = 0; v < vectors; v++) sum[v][i] = *(const F *)(c->bias + channel + v * LANES);
        from[i] = frame + i * c->inputs * size;
    }
    for (int64_t y = 0; y < c->kernel_height; y++) {
        const int64_t start = y * c->row * size, stop = start + c->run_words * 4;
        for (int64_t word = start; word < stop; word += 4, weight += c->padded_outputs / LANES)
            UNROLL for (int i = 0; i < n; i++)
                UNROLL for (int v = 0; v < vectors; v++) sum[v][i] = NAME(multiply_add)(sum[v][i], weight[v], from[i] + word, pairs);
    }
    UNROLL for (int i = 0; i < n; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            NAME(store)(c->out, at + i * c->outputs + v * LANES, v + 1 < vectors ? NAME(inside)(LANES) : valid, pairs ? 0 : c->wide_out, sum[v][i]);
}
INLINE void NAME(convolve_image)(const struct convolution *c, int64_t image, char *frame, const int pairs) {
    const int two = LANES == 8 && c->outputs > LANES; /* wider vectors are rarely two, and narrower ones have no registers left */
    const int64_t tile_size = two ? PAIR_TILE : TILE, size = pairs ? 2 : 4;
    const int64_t length = c->width * c->inputs, tiles = (c->out_width + tile_size - 1) / tile_size, end = (image + 1) * c->out_height * c->out_width * c->outputs;
    for (int64_t y = 0; y < c->height; y++)
        NAME(convert)(frame + ((y + c->top) * c->row + c->left * c->inputs) * size, c->x, (image * c->height + y) * length, length, !pairs, c->wide_x);
    for (int64_t y = 0; y < c->out_height; y++)
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t x = c->out_width * tile / tiles, n = c->out_width * (tile + 1) / tiles - x;
            const char *from = frame + (y * c->row + x * c->inputs) * size;
            int64_t channel = 0, at = ((image * c->out_height + y) * c->out_width + x) * c->outputs;
            if (two)
                for (; channel + LANES < c->outputs; channel += 2 * LANES) {
                    K valid = NAME(inside)(c->outputs - channel - LANES);
#define CALL(n) NAME(convolve_places)(c, from, channel, at + channel, valid, n, 2, pairs)
                    WITH_FEW(n, CALL)
#undef CALL
                }
            for (; channel < c->outputs; channel += LANES) {
                /* The lanes behind a place's channels are those of the next one, which is written after it. */
                K valid = NAME(inside)(c->outputs < LANES && at + n * c->outputs + LANES <= end ? LANES : c->outputs - channel);
#define CALL(n) NAME(convolve_places)(c, from, channel, at + channel, valid, n, 1, pairs)
                WITH_CONSTANT(n, CALL)
#undef CALL
            }
        }
}
static void NAME(convolve)(const struct job *job, int64_t first, int64_t last) {
    const struct convolution *c = job->convolution;
    char *frame = calloc((size_t)c->frame, sizeof(float));
    if (!frame) {
        *c->failed = 1;
        return;
    }
    for (int64_t image = first; image < last; image++)
        PAIRS(c) ? NAME(convolve_image)(c, image, frame, 1) : NAME(convolve_image)(c, image, frame, 0);
    free(frame);
}

/* ---- gradients ------------------------------------------------------------------------------------------------------------- */

/* One image's gradients of the output: `places` as the sums over places take them, a word for each output channel and place (pairs:
 * two neighbouring places of a row), and `channels` as the sums over channels do, a word for each place and channel (pairs: two). */
INLINE void NAME(arrange_gradient)(const struct convolution *c, int64_t image, float *places, float *channels, const int pairs) {
    const int64_t step = pairs ? 2 : 1;
    const int wide = pairs ? 0 : c->wide_out;
    for (int64_t y = 0; y < c->out_height; y++) {
        const int64_t from = (image * c->out_height + y) * c->out_width;
        for (int64_t x = 0; x < c->out_width; x += step, places += c->padded_outputs)
            for (int64_t channel = 0; channel < c->outputs; channel += LANES) {
                K valid = NAME(inside)(c->outputs - channel);
                U value = (U)NAME(load)(c->grad_out, (from + x) * c->outputs + channel, valid, wide);
                if (pairs) {
                    value >>= 16;
                    if (x + 1 < c->out_width) value |= (U)NAME(load)(c->grad_out, (from + x + 1) * c->outputs + channel, valid, wide);
                }
                *(U *)(places + channel) = value;
            }
        if (c->grad_x)
            for (int64_t x = 0; x < c->out_width; x++, channels += c->output_words)
                NAME(convert)(channels, c->grad_out, (from + x) * c->outputs, c->outputs, !pairs, wide);
    }
}

/* Copy an image into the middle of its frames, one for each channel (one more is all 1); `line` has room for a row of it. */
INLINE void NAME(frame_planes)(const struct convolution *c, int64_t image, void *frame, void *line, const int pairs) {
    const int64_t length = c->width * c->inputs, inputs = c->inputs;
    for (int64_t y = 0; y < c->height; y++) {
        NAME(convert)(line, c->x, (image * c->height + y) * length, length, !pairs, c->wide_x);
        for (int64_t channel = 0; channel < inputs; channel++) {
            const int64_t to = channel * c->plane + (y + c->top) * c->plane_row + c->left;
            if (pairs) for (int64_t x = 0; x < c->width; x++) ((uint16_t *)frame)[to + x] = ((const uint16_t *)line)[x * inputs + channel];
            else for (int64_t x = 0; x < c->width; x++) ((float *)frame)[to + x] = ((const float *)line)[x * inputs + channel];
        }
    }
}

/* Add one image's gradient of `n` weights, the same for each of a vector of output channels. */
INLINE void NAME(weights_tile)(const struct convolution *c, const char *frame, const float *grad, float *to, const int64_t *place, const int n, const int pairs) {
    const int64_t size = pairs ? 2 : 4, words = pairs ? (c->out_width + 1) / 2 : c->out_width;
    F sum[TILE];
    const char *from[TILE];
    UNROLL for (int i = 0; i < n; i++) {
        sum[i] = NAME(all)(0);
        from[i] = frame + place[i] * size;
    }
    for (int64_t y = 0; y < c->out_height; y++) {
        const int64_t start = y * c->plane_row * size, stop = start + words * 4;
        for (int64_t word = start; word < stop; word += 4, grad += c->padded_outputs) {
            U g = *(const U *)grad;
            UNROLL for (int i = 0; i < n; i++) sum[i] = NAME(multiply_add)(sum[i], g, from[i] + word, pairs);
        }
    }
    UNROLL for (int i = 0; i < n; i++) *(F *)(to + i * c->padded_outputs) += sum[i];
}
INLINE void NAME(weights_of_image)(const struct convolution *c, const char *frame, const float *grad, float *partial, const int64_t *place, const int pairs) {
    const int64_t taps = c->taps + 1, tiles = (taps + TILE - 1) / TILE; /* the bias is a weight whose input is always 1 */
    for (int64_t channel = 0; channel < c->padded_outputs; channel += LANES)
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t tap = taps * tile / tiles, n = taps * (tile + 1) / tiles - tap;
#define CALL(n) NAME(weights_tile)(c, frame, grad + channel, partial + tap * c->padded_outputs + channel, place + tap, n, pairs)
            WITH_CONSTANT(n, CALL)
#undef CALL
        }
}

/* Add what one output place sends to `n` vectors of the input's gradient. */
INLINE void NAME(input_tile)(const struct convolution *c, const float *grad, const float *weight, float *to, const int64_t *offset, const int n, const int pairs) {
    F sum[TILE];
    UNROLL for (int i = 0; i < n; i++) sum[i] = NAME(all)(0);
    for (int64_t word = 0; word < c->output_words; word++, weight += c->across_size)
        UNROLL for (int i = 0; i < n; i++) sum[i] = NAME(multiply_add)(sum[i], *(const U *)(weight + i * LANES), (const char *)(grad + word), pairs);
    UNROLL for (int i = 0; i < n; i++) *(F *)(to + offset[i]) += sum[i];
}
INLINE void NAME(input_of_image)(const struct convolution *c, int64_t image, float *frame, const float *grad, const int pairs) {
    const int64_t vectors = c->across_size / LANES, vectors_of_row = vectors / c->kernel_height, tiles = (vectors + TILE - 1) / TILE;
    int64_t offset[LARGEST_KERNEL * ((LARGEST_KERNEL * MOST_INPUTS + LANES - 1) / LANES)];
    for (int64_t i = 0; i < vectors; i++) offset[i] = i / vectors_of_row * c->row + i % vectors_of_row * LANES;
    memset(frame, 0, (size_t)c->frame * sizeof(float));
    for (int64_t y = 0; y < c->out_height; y++)
        for (int64_t x = 0; x < c->out_width; x++, grad += c->output_words)
            for (int64_t tile = 0; tile < tiles; tile++) {
                int64_t first = vectors * tile / tiles, n = vectors * (tile + 1) / tiles - first;
                float *to = frame + y * c->row + x * c->inputs;
#define CALL(n) NAME(input_tile)(c, grad, c->across + first * LANES, to, offset + first, n, pairs)
                WITH_CONSTANT(n, CALL)
#undef CALL
            }
    const int64_t length = c->width * c->inputs, size = c->wide_x ? 4 : 2;
    for (int64_t y = 0; y < c->height; y++)
        NAME(convert)((char *)c->grad_x + (image * c->height + y) * length * size, frame, (y + c->top) * c->row + c->left * c->inputs, length, c->wide_x, 1);
}

/* Blocks of images: each sums its weights' gradient in memory of its own. */
INLINE void NAME(convolve_back_as)(const struct job *job, int64_t first, int64_t last, const int pairs) {
    const struct convolution *c = job->convolution;
    const int64_t places = c->out_height * c->out_width;
    float *frame = calloc((size_t)(2 * c->frame + c->plane + c->row + places * (c->padded_outputs + c->output_words)), sizeof(float));
    if (!frame) {
        *c->failed = 1;
        return;
    }
    float *grad_frame = frame + c->frame + c->plane, *line = grad_frame + c->frame, *grad = line + c->row, *channels = grad + places * c->padded_outputs;
    for (int64_t i = c->inputs * c->plane; i < (c->inputs + 1) * c->plane; i++)
        if (pairs) ((uint16_t *)frame)[i] = 0x3F80; /* 1 */
        else frame[i] = 1;
    int64_t place[LARGEST_KERNEL * LARGEST_KERNEL * MOST_INPUTS + 1]; /* of each weight in the frame; the bias is the last */
    for (int64_t tap = 0; tap < c->taps; tap++) place[tap] = tap % c->inputs * c->plane + tap / c->run * c->plane_row + tap % c->run / c->inputs;
    place[c->taps] = c->inputs * c->plane;
    for (int64_t block = first; block < last; block++) {
        float *partial = c->partial + block * c->partial_size;
        memset(partial, 0, (size_t)c->partial_size * sizeof(float));
        for (int64_t image = job->batch * block / job->blocks; image < job->batch * (block + 1) / job->blocks; image++) {
            NAME(arrange_gradient)(c, image, grad, channels, pairs);
            if (c->grad_weight) {
                NAME(frame_planes)(c, image, frame, line, pairs);
                NAME(weights_of_image)(c, (const char *)frame, grad, partial, place, pairs);
            }
            if (c->grad_x) NAME(input_of_image)(c, image, grad_frame, channels, pairs);
        }
    }
    free(frame);
}
static void NAME(convolve_back)(const struct job *job, int64_t first, int64_t last) {
    PAIRS(job->convolution) ? NAME(convolve_back_as)(job, first, last, 1) : NAME(convolve_back_as)(job, first, last, 0);
}
/* Add all blocks' sums to the first one's, in order. */
static void NAME(combine)(const struct job *job, int64_t first, int64_t last) {
    const struct convolution *c = job->convolution;
    for (int64_t i = first * LANES; i < last * LANES; i += LANES) {
        F sum = *(const F *)(c->partial + i);
        for (int64_t block = 1; block < job->blocks; block++) sum += *(const F *)(c->partial + block * c->partial_size + i);
        *(F *)(c->partial + i) = sum;
    }
}
