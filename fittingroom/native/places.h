/* Convolutions of few output channels as well: the first of a small network, such as LeNet-5's of six.
 *
 * A vector of output channels would be more than half empty, so vectors hold neighbouring places of a row, of one channel each: every
 * number of the image is loaded once for each place of the kernel and multiplied by the weights of all outputs. Arithmetic is float32
 * throughout, which costs no more than pairs of bfloat16 do, as no lane is wasted. What differs is the memory: outputs and their
 * gradients have the channels innermost, and are taken apart and put together in registers. lanes.h includes this file.
 */

#if LANES == 16
#define COLUMNS 3 /* columns of the kernel whose gradients stay in registers together, for up to 8 outputs */

/* Word `w` of neighbouring places that have `words` words each belongs to place w / words: from vectors of one word for each place
 * to vectors of all words of a place. `vector` of the result. */
INLINE U NAME(interleaved)(const U *word, const int vector, const int words) {
    U place, result = NAME(all_words)(0);
    for (int lane = 0; lane < 16; lane++) place[lane] = (uint32_t)((16 * vector + lane) / words);
    UNROLL for (int i = 0; i < words; i++) {
        uint32_t mask = 0;
        for (int lane = 0; lane < 16; lane++) mask |= (uint32_t)((16 * vector + lane) % words == i) << lane;
        result = (U)_mm512_mask_permutexvar_epi32((__m512i)result, (__mmask16)mask, (__m512i)place, (__m512i)word[i]);
    }
    return result;
}
/* And back: word `i` of sixteen neighbouring places. */
INLINE U NAME(separated)(const U *vector, const int i, const int words) {
    U lane, result = NAME(all_words)(0);
    for (int place = 0; place < 16; place++) lane[place] = (uint32_t)((place * words + i) % 16);
    UNROLL for (int v = 0; v < words; v++) {
        uint32_t mask = 0;
        for (int place = 0; place < 16; place++) mask |= (uint32_t)((place * words + i) / 16 == v) << place;
        result = (U)_mm512_mask_permutexvar_epi32((__m512i)result, (__mmask16)mask, (__m512i)lane, (__m512i)vector[v]);
    }
    return result;
}
INLINE U NAME(bfloat16_bits)(F value) { return (U)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)value)); }

/* Store `count` neighbouring places of all outputs, from place `at`. */
INLINE void NAME(store_places)(const struct convolution *c, const F *sum, int64_t at, int64_t count, const int outputs, const int wide) {
    const int words = wide ? outputs : outputs / 2;
    U word[MOST_OUTPUTS_OF_PLACES];
    UNROLL for (int i = 0; i < words; i++)
        if (wide) word[i] = (U)sum[i];
        else word[i] = NAME(bfloat16_bits)(sum[2 * i]) | NAME(bfloat16_bits)(sum[2 * i + 1]) << 16;
    UNROLL for (int i = 0; i < words; i++)
        _mm512_mask_storeu_epi32((uint32_t *)c->out + at * words + 16 * i, NAME(first_lanes)(count * words - 16 * i), (__m512i)NAME(interleaved)(word, i, words));
}
/* Gradients of `count` neighbouring places of all outputs as a vector for each output; 0 beyond them. */
INLINE void NAME(load_places)(const struct convolution *c, F *gradient, int64_t at, int64_t count, const int outputs, const int wide) {
    const int words = wide ? outputs : outputs / 2;
    U vector[MOST_OUTPUTS_OF_PLACES];
    UNROLL for (int i = 0; i < words; i++)
        vector[i] = (U)_mm512_maskz_loadu_epi32(NAME(first_lanes)(count * words - 16 * i), (const uint32_t *)c->grad_out + at * words + 16 * i);
    UNROLL for (int i = 0; i < words; i++) {
        U word = NAME(separated)(vector, i, words);
        if (wide) gradient[i] = (F)word;
        else gradient[2 * i] = (F)(word << 16), gradient[2 * i + 1] = (F)(word & 0xFFFF0000u);
    }
}

/* `vectors` vectors of places of a row, for all outputs. */
INLINE void NAME(convolve_places_of)(const struct convolution *c, const float *frame, int64_t at, int64_t count, const int outputs, const int vectors, const int wide) {
    F sum[2][MOST_OUTPUTS_OF_PLACES];
    UNROLL for (int o = 0; o < outputs; o++)
        UNROLL for (int v = 0; v < vectors; v++) sum[v][o] = NAME(all)(c->bias[o]);
    const float *weight = c->weight;
    for (int64_t y = 0; y < c->kernel_height; y++)
        for (int64_t x = 0; x < c->kernel_width; x++)
            for (int64_t input = 0; input < c->inputs; input++, weight += c->padded_outputs) {
                const float *from = frame + input * c->plane + y * c->plane_row + x;
                F value[2];
                UNROLL for (int v = 0; v < vectors; v++) value[v] = *(const F *)(from + 16 * v);
                UNROLL for (int o = 0; o < outputs; o++) {
                    F w = NAME(all)(weight[o]);
                    UNROLL for (int v = 0; v < vectors; v++) sum[v][o] += w * value[v];
                }
            }
    UNROLL for (int v = 0; v < vectors; v++) NAME(store_places)(c, sum[v], at + 16 * v, count - 16 * v, outputs, wide);
}
INLINE void NAME(convolve_places_image)(const struct convolution *c, int64_t image, float *frame, float *line, const int outputs, const int wide) {
    NAME(frame_planes)(c, image, frame, line, 0);
    for (int64_t y = 0; y < c->out_height; y++) {
        const int64_t at = (image * c->out_height + y) * c->out_width;
        const float *from = frame + y * c->plane_row;
        for (int64_t x = 0; x < c->out_width; x += 32) {
            const int64_t left = c->out_width - x, count = left < 32 ? left : 32;
            if (count > 16) NAME(convolve_places_of)(c, from + x, at + x, count, outputs, 2, wide);
            else NAME(convolve_places_of)(c, from + x, at + x, count, outputs, 1, wide);
        }
    }
}
static void NAME(convolve_places_rows)(const struct job *job, int64_t first, int64_t last) {
    const struct convolution *c = job->convolution;
    float *frame = calloc((size_t)(c->frame + LANES + c->row), sizeof(float)), *line = frame + c->frame + LANES;
    if (!frame) {
        *c->failed = 1;
        return;
    }
    for (int64_t image = first; image < last; image++) {
#define CALL(n) c->wide_out ? NAME(convolve_places_image)(c, image, frame, line, n, 1) : NAME(convolve_places_image)(c, image, frame, line, (n + 1) / 2 * 2, 0)
        WITH_CONSTANT(c->outputs, CALL)
#undef CALL
    }
    free(frame);
}

/* Add an image's gradient of `columns` neighbouring columns of one row of the kernel. */
INLINE void NAME(places_columns)(const struct convolution *c, const float *from, const float *gradient, int64_t padded, F *to, const int outputs, const int columns) {
    F sum[MOST_OUTPUTS_OF_PLACES][COLUMNS];
    UNROLL for (int o = 0; o < outputs; o++)
        UNROLL for (int i = 0; i < columns; i++) sum[o][i] = to[i * MOST_OUTPUTS_OF_PLACES + o];
    for (int64_t y = 0; y < c->out_height; y++, from += c->plane_row)
        for (int64_t x = 0; x < padded; x += 16, gradient += 16 * outputs) {
            F value[COLUMNS];
            UNROLL for (int i = 0; i < columns; i++) value[i] = *(const F *)(from + x + i);
            UNROLL for (int o = 0; o < outputs; o++) {
                F g = *(const F *)(gradient + 16 * o);
                UNROLL for (int i = 0; i < columns; i++) sum[o][i] += g * value[i];
            }
        }
    UNROLL for (int o = 0; o < outputs; o++)
        UNROLL for (int i = 0; i < columns; i++) to[i * MOST_OUTPUTS_OF_PLACES + o] = sum[o][i];
}
INLINE void NAME(places_weights)(const struct convolution *c, int64_t image, const float *frame, float *gradient, F *sums, const int outputs, const int wide) {
    const int64_t padded = (c->out_width + 15) / 16 * 16;
    F *bias = sums + c->taps * MOST_OUTPUTS_OF_PLACES;
    for (int64_t y = 0; y < c->out_height; y++)
        for (int64_t x = 0; x < padded; x += 16) {
            F g[MOST_OUTPUTS_OF_PLACES];
            NAME(load_places)(c, g, (image * c->out_height + y) * c->out_width + x, c->out_width - x, outputs, wide);
            UNROLL for (int o = 0; o < outputs; o++) {
                bias[o] += g[o];
                *(F *)(gradient + (y * padded + x) * outputs + 16 * o) = g[o];
            }
        }
    for (int64_t input = 0; input < c->inputs; input++)
        for (int64_t y = 0; y < c->kernel_height; y++)
            for (int64_t x = 0; x < c->kernel_width; x += COLUMNS) {
                const float *from = frame + input * c->plane + y * c->plane_row + x;
                F *to = sums + ((input * c->kernel_height + y) * c->kernel_width + x) * MOST_OUTPUTS_OF_PLACES;
                const int64_t left = c->kernel_width - x;
                if (left >= 3) NAME(places_columns)(c, from, gradient, padded, to, outputs, 3);
                else if (left == 2) NAME(places_columns)(c, from, gradient, padded, to, outputs, 2);
                else NAME(places_columns)(c, from, gradient, padded, to, outputs, 1);
            }
}
/* Blocks of images, as in convolve_back; the input's gradient, which few networks need of such a layer, is taken as there. */
static void NAME(convolve_places_back)(const struct job *job, int64_t first, int64_t last) {
    const struct convolution *c = job->convolution;
    const int64_t places = c->out_height * c->out_width, padded = (c->out_width + 15) / 16 * 16, taps = c->taps + 1;
    const int64_t planes = c->frame + c->plane + LANES, gradients = c->out_height * padded * MOST_OUTPUTS_OF_PLACES;
    const int64_t arranged = c->grad_x ? places * (c->padded_outputs + c->output_words) : 0;
    float *frame = calloc((size_t)(planes + c->row + c->frame + gradients + arranged), sizeof(float));
    F *sums = aligned_alloc(sizeof(F), (size_t)(taps * MOST_OUTPUTS_OF_PLACES) * sizeof(F));
    if (!frame || !sums) {
        *c->failed = 1;
        free(frame), free(sums);
        return;
    }
    float *line = frame + planes, *grad_frame = line + c->row, *gradient = grad_frame + c->frame, *grad = gradient + gradients, *channels = grad + places * c->padded_outputs;
    for (int64_t block = first; block < last; block++) {
        float *partial = c->partial + block * c->partial_size;
        memset(sums, 0, (size_t)(taps * MOST_OUTPUTS_OF_PLACES) * sizeof(F));
        for (int64_t image = job->batch * block / job->blocks; image < job->batch * (block + 1) / job->blocks; image++) {
            if (c->grad_weight) {
                NAME(frame_planes)(c, image, frame, line, 0);
#define CALL(n) c->wide_out ? NAME(places_weights)(c, image, frame, gradient, sums, n, 1) : NAME(places_weights)(c, image, frame, gradient, sums, (n + 1) / 2 * 2, 0)
                WITH_CONSTANT(c->outputs, CALL)
#undef CALL
            }
            if (c->grad_x) {
                NAME(arrange_gradient)(c, image, grad, channels, 0);
                NAME(input_of_image)(c, image, grad_frame, channels, 0);
            }
        }
        memset(partial, 0, (size_t)c->partial_size * sizeof(float));
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t input = tap / (c->kernel_height * c->kernel_width), row = tap / c->kernel_width % c->kernel_height, column = tap % c->kernel_width;
            float *to = partial + (tap < c->taps ? row * c->run + column * c->inputs + input : tap) * c->padded_outputs;
            for (int64_t o = 0; o < c->outputs; o++) to[o] = _mm512_reduce_add_ps((__m512)sums[tap * MOST_OUTPUTS_OF_PLACES + o]);
        }
    }
    free(frame), free(sums);
}
#undef COLUMNS
#else /* never chosen */
static void NAME(convolve_places_rows)(const struct job *job, int64_t first, int64_t last) { (void)job, (void)first, (void)last; }
static void NAME(convolve_places_back)(const struct job *job, int64_t first, int64_t last) { (void)job, (void)first, (void)last; }
#endif
