/* Convolutions of many channels, stride 1, float32, by fewer products than they are defined by (Winograd, 1980; Lavin and Gray, 2016).
 *
 * An image is cut into tiles of `tile` × `tile` outputs. A tile, its part of the input (POINTS × POINTS, overlapping its neighbours') and
 * the kernel are polynomials in two variables; each is evaluated at the points 0, 1, −1, 2, −2 and ∞ in both, the values are multiplied,
 * and the product's coefficients are the outputs: POINTS² products for tile² outputs, where the definition takes tile² · kernel². For
 * all channels together these are POINTS² matrix products, whose time is what is saved: 4 times fewer for 3×3, 2.8 for 5×5, less what
 * tiles reach beyond the image. The gradient of the input is such a convolution with the kernel turned around; that of the kernel takes
 * the same values of the input and those of the output's gradient. Vectors hold neighbouring channels. lanes.h includes this file where vectors
 * have 8 lanes: with wider ones there is bfloat16, which PyTorch multiplies faster than this saves.
 */

#define POINTS 6
#define ALL_POINTS 36
#define ROWS 6               /* of a matrix product whose sums stay in registers together, in PANEL columns each */
#define PANEL (2 * LANES)

/* ---- polynomials ----------------------------------------------------------------------------------------------------------- */

/* Values of a polynomial with `n` coefficients at the points. The constants of the interpolation are left to `point_scales`. */
INLINE void NAME(evaluate)(const F *in, F *out, const int n) {
    F even = in[0], odd = in[1], even_two = in[0], odd_two = in[1] * 2.0f;
    if (n > 2) even += in[2], even_two += in[2] * 4.0f;
    if (n > 3) odd += in[3], odd_two += in[3] * 8.0f;
    if (n > 4) even += in[4], even_two += in[4] * 16.0f;
    out[0] = in[0];
    out[1] = even + odd, out[2] = even - odd;
    out[3] = even_two + odd_two, out[4] = even_two - odd_two;
    out[5] = in[n - 1];
}
/* The transpose of it: `n` sums over the points. */
INLINE void NAME(gather)(const F *in, F *out, const int n) {
    F sum = in[1] + in[2], difference = in[1] - in[2], sum_two = in[3] + in[4], difference_two = in[3] - in[4];
    out[0] = in[0] + sum + sum_two;
    out[1] = difference + difference_two * 2.0f;
    if (n > 2) out[2] = sum + sum_two * 4.0f;
    if (n > 3) out[3] = difference + difference_two * 8.0f;
    if (n > 4) out[4] = sum + sum_two * 16.0f;
    out[n - 1] += in[5];
}
/* The transpose of interpolation, but for its constants, of POINTS neighbouring numbers. */
INLINE void NAME(spread)(const F *in, F *out) {
    F even = in[4] - in[2] * 4.0f, odd = in[3] - in[1] * 4.0f, even_two = in[4] - in[2], odd_two = (in[3] - in[1]) * 2.0f;
    out[0] = in[0] * 4.0f - in[2] * 5.0f + in[4];
    out[1] = even + odd, out[2] = even - odd;
    out[3] = even_two + odd_two, out[4] = even_two - odd_two;
    out[5] = in[1] * 4.0f - in[3] * 5.0f + in[5];
}
/* The constants, of points in both directions. */
INLINE void NAME(point_scales)(float *scale) {
    static const float of[POINTS] = {1 / 4.0f, -1 / 6.0f, -1 / 6.0f, 1 / 24.0f, 1 / 24.0f, 1};
    for (int point = 0; point < ALL_POINTS; point++) scale[point] = of[point / POINTS] * of[point % POINTS];
}

/* ---- tiles ----------------------------------------------------------------------------------------------------------------- */

/* `side` × `side` places of an image of channels, from row `top` and column `left` on; zeros outside of it. */
struct NAME(window) {
    const float *from; /* its first place, perhaps outside */
    int64_t row, channels; /* numbers in a row and in a place */
    int64_t first_row, last_row, first_column, last_column; /* which of its places lie inside */
};
INLINE struct NAME(window) NAME(window_at)(const float *image, int64_t height, int64_t width, int64_t channels, int64_t top, int64_t left, int64_t side) {
    return (struct NAME(window)){
        .from = image + (top * width + left) * channels, .row = width * channels, .channels = channels,
        .first_row = top < 0 ? -top : 0, .last_row = top + side > height ? height - top : side,
        .first_column = left < 0 ? -left : 0, .last_column = left + side > width ? width - left : side,
    };
}
INLINE F NAME(place_of)(const struct NAME(window) *w, int64_t y, int64_t x, int64_t channel, const int whole) {
    if (!whole && (y < w->first_row || y >= w->last_row || x < w->first_column || x >= w->last_column)) return NAME(all)(0);
    return *(const F *)(w->from + y * w->row + x * w->channels + channel);
}
INLINE int NAME(whole)(const struct NAME(window) *w, int64_t side) {
    return w->first_row == 0 && w->first_column == 0 && w->last_row == side && w->last_column == side;
}
struct NAME(tile) {
    int64_t image, y, x; /* which image, and its first output place */
};
INLINE struct NAME(tile) NAME(tile_at)(const struct winograd *w, int64_t number) {
    int64_t place = number % (w->tiles_down * w->tiles_across);
    return (struct NAME(tile)){number / (w->tiles_down * w->tiles_across), place / w->tiles_across * w->tile, place % w->tiles_across * w->tile};
}

/* One tile's input at all points, for a vector of channels: ALL_POINTS vectors, `apart` numbers from each other. */
INLINE void NAME(spread_tile)(const struct NAME(window) *window, int64_t channel, float *to, int64_t apart, const int whole) {
    F between[POINTS][POINTS];
    for (int x = 0; x < POINTS; x++) {
        F column[POINTS], out[POINTS];
        UNROLL for (int y = 0; y < POINTS; y++) column[y] = NAME(place_of)(window, y, x, channel, whole);
        NAME(spread)(column, out);
        UNROLL for (int y = 0; y < POINTS; y++) between[y][x] = out[y];
    }
    for (int y = 0; y < POINTS; y++) {
        F out[POINTS];
        NAME(spread)(between[y], out);
        UNROLL for (int x = 0; x < POINTS; x++) *(F *)(to + (y * POINTS + x) * apart) = out[x];
    }
}
static void NAME(spread_input)(const struct winograd *w, int64_t number, float *to, int64_t apart) {
    struct NAME(tile) tile = NAME(tile_at)(w, number);
    const float *image = w->x + tile.image * w->height * w->width * w->inputs;
    struct NAME(window) window = NAME(window_at)(image, w->height, w->width, w->inputs, tile.y - w->top, tile.x - w->left, POINTS);
    if (NAME(whole)(&window, POINTS))
        for (int64_t channel = 0; channel < w->inputs; channel += LANES) NAME(spread_tile)(&window, channel, to + channel, apart, 1);
    else
        for (int64_t channel = 0; channel < w->inputs; channel += LANES) NAME(spread_tile)(&window, channel, to + channel, apart, 0);
}

/* A `size` × `size` polynomial at all points. */
INLINE void NAME(evaluate_square)(const F *coefficients, F *out, const int size) {
    F between[POINTS][LARGEST_KERNEL];
    for (int x = 0; x < size; x++) {
        F column[LARGEST_KERNEL], values[POINTS];
        UNROLL for (int y = 0; y < size; y++) column[y] = coefficients[y * size + x];
        NAME(evaluate)(column, values, size);
        UNROLL for (int y = 0; y < POINTS; y++) between[y][x] = values[y];
    }
    for (int y = 0; y < POINTS; y++) NAME(evaluate)(between[y], out + y * POINTS, size);
}
/* Sums over all points to `size` × `size` coefficients. */
INLINE void NAME(gather_square)(const F *values, F *out, const int size) {
    F between[LARGEST_KERNEL][POINTS];
    for (int x = 0; x < POINTS; x++) {
        F column[POINTS], sums[LARGEST_KERNEL];
        UNROLL for (int y = 0; y < POINTS; y++) column[y] = values[y * POINTS + x];
        NAME(gather)(column, sums, size);
        UNROLL for (int y = 0; y < size; y++) between[y][x] = sums[y];
    }
    for (int y = 0; y < size; y++) NAME(gather)(between[y], out + y * size, size);
}

/* ---- matrix products ------------------------------------------------------------------------------------------------------- */

/* `n` rows of a product in one panel of columns: to[i][·] = Σ a(i, j) · b[j][·] over `length` j, where a(i, j) stands at
 * a[i · row + j · column]; `more` adds it to what is there. */
INLINE void NAME(rows_of_product)(const float *a, int64_t row, int64_t column, const float *b, int64_t length, float *to, int64_t to_row, const int n, int more) {
    F low[ROWS], high[ROWS];
    UNROLL for (int i = 0; i < n; i++) {
        low[i] = more ? *(const F *)(to + i * to_row) : NAME(all)(0);
        high[i] = more ? *(const F *)(to + i * to_row + LANES) : NAME(all)(0);
    }
    for (int64_t j = 0; j < length; j++, a += column, b += PANEL) {
        F left = *(const F *)b, right = *(const F *)(b + LANES);
        UNROLL for (int i = 0; i < n; i++) {
            float factor = a[i * row];
            low[i] += left * factor;
            high[i] += right * factor;
        }
    }
    UNROLL for (int i = 0; i < n; i++) {
        *(F *)(to + i * to_row) = low[i];
        *(F *)(to + i * to_row + LANES) = high[i];
    }
}

/* ---- forward, and the gradient of the input ---------------------------------------------------------------------------------- */

/* Copy LANES rows of LANES numbers, rows becoming columns. */
INLINE void NAME(turn)(const float *from, int64_t from_row, float *to, int64_t to_row) {
    __m256 row[LANES], pair[LANES], four[LANES];
    UNROLL for (int i = 0; i < LANES; i++) row[i] = _mm256_loadu_ps(from + i * from_row);
    UNROLL for (int i = 0; i < LANES; i += 2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4)
        UNROLL for (int j = 0; j < 2; j++) {
            four[i + 2 * j] = _mm256_shuffle_ps(pair[i + j], pair[i + j + 2], 0x44);
            four[i + 2 * j + 1] = _mm256_shuffle_ps(pair[i + j], pair[i + j + 2], 0xEE);
        }
    UNROLL for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * to_row, _mm256_permute2f128_ps(four[i], four[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_row, _mm256_permute2f128_ps(four[i], four[i + 4], 0x31));
    }
}
/* Copy LANES × LANES kernels, of neighbouring inputs and outputs, from the weights to [size², inputs, outputs] (`out`: the other way).
 * Weights have inputs or outputs innermost where they lie channels last, which is fast. */
INLINE void NAME(copy_kernels)(const struct winograd *w, float *weight, float *kernels, const int size, const int out) {
    const int64_t input_row = w->stride_input, output_row = w->stride_output;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++, kernels += LANES * LANES) {
            float *at = weight + y * w->stride_row + x * w->stride_column;
            if (input_row == 1) out ? NAME(turn)(kernels, LANES, at, output_row) : NAME(turn)(at, output_row, kernels, LANES);
            else if (output_row == 1)
                UNROLL for (int i = 0; i < LANES; i++) {
                    if (out) *(F *)(at + i * input_row) = *(const F *)(kernels + i * LANES);
                    else *(F *)(kernels + i * LANES) = *(const F *)(at + i * input_row);
                }
            else
                for (int i = 0; i < LANES; i++)
                    for (int j = 0; j < LANES; j++) {
                        if (out) at[i * input_row + j * output_row] = kernels[i * LANES + j];
                        else kernels[i * LANES + j] = at[i * input_row + j * output_row];
                    }
        }
}
/* The kernels at all points, as [ALL_POINTS, panels of outputs, inputs, PANEL]; vectors of input channels first … last − 1. */
INLINE void NAME(kernels_at_points_as)(const struct winograd *w, int64_t first, int64_t last, const int size) {
    float kernels[LARGEST_KERNEL * LARGEST_KERNEL * LANES * LANES] __attribute__((aligned(64))), scale[ALL_POINTS];
    const int64_t apart = w->kernels_apart; /* a store could change `w`, for all that the compiler knows */
    NAME(point_scales)(scale);
    for (int64_t input = first * LANES; input < last * LANES; input += LANES)
        for (int64_t output = 0; output < w->panels * PANEL; output += LANES) {
            if (output < w->outputs) NAME(copy_kernels)(w, (float *)w->weight + input * w->stride_input + output * w->stride_output, kernels, size, 0);
            else memset(kernels, 0, sizeof kernels);
            for (int i = 0; i < LANES; i++) {
                F kernel[LARGEST_KERNEL * LARGEST_KERNEL], values[ALL_POINTS];
                for (int place = 0; place < size * size; place++) kernel[place] = *(const F *)(kernels + (place * LANES + i) * LANES);
                NAME(evaluate_square)(kernel, values, size);
                float *to = w->kernels + (output / PANEL * w->inputs + input + i) * PANEL + output % PANEL;
                UNROLL for (int point = 0; point < ALL_POINTS; point++) *(F *)(to + point * apart) = values[point] * scale[point];
            }
        }
}
static void NAME(kernels_at_points)(const struct job *job, int64_t first, int64_t last) {
    job->winograd->kernel == 3 ? NAME(kernels_at_points_as)(job->winograd, first, last, 3) : NAME(kernels_at_points_as)(job->winograd, first, last, 5);
}

/* Write one tile of outputs for a vector of channels. */
INLINE void NAME(write_tile)(const struct winograd *w, const struct NAME(tile) *tile, const float *sums, int64_t apart, int64_t channel, const int size) {
    F values[ALL_POINTS], out[LARGEST_KERNEL * LARGEST_KERNEL], bias = w->bias ? *(const F *)(w->bias + channel) : NAME(all)(0);
    for (int point = 0; point < ALL_POINTS; point++) values[point] = *(const F *)(sums + point * apart);
    NAME(gather_square)(values, out, size);
    const int64_t down = w->out_height - tile->y < size ? w->out_height - tile->y : size;
    const int64_t across = w->out_width - tile->x < size ? w->out_width - tile->x : size;
    const int64_t place = w->outputs, row = w->out_width * place;
    float *to = w->out + (tile->image * w->out_height + tile->y) * row + tile->x * place + channel;
    if (down == size && across == size)
        UNROLL for (int y = 0; y < size; y++)
            UNROLL for (int x = 0; x < size; x++) *(F *)(to + y * row + x * place) = out[y * size + x] + bias;
    else
        for (int64_t y = 0; y < down; y++)
            for (int64_t x = 0; x < across; x++) *(F *)(to + y * row + x * place) = out[y * size + x] + bias;
}
INLINE void NAME(convolve_tiles_as)(const struct winograd *w, int64_t first, int64_t last, float *inputs, float *sums, const int size) {
    const int64_t columns = w->panels * PANEL, count = last - first;
    for (int64_t i = 0; i < count; i++) NAME(spread_input)(w, first + i, inputs + i * w->inputs, w->spread_apart);
    for (int64_t point = 0; point < ALL_POINTS; point++)
        for (int64_t panel = 0; panel < w->panels; panel++) {
            const float *kernels = w->kernels + point * w->kernels_apart + panel * w->inputs * PANEL, *from = inputs + point * w->spread_apart;
            float *to = sums + point * w->columns_apart + panel * PANEL;
            for (int64_t i = 0; i < count; i += ROWS) /* rows beyond the last are numbers of no meaning, for which there is room */
                NAME(rows_of_product)(from + i * w->inputs, w->inputs, 1, kernels, w->inputs, to + i * columns, columns, ROWS, 0);
        }
    for (int64_t i = 0; i < count; i++) {
        struct NAME(tile) tile = NAME(tile_at)(w, first + i);
        for (int64_t channel = 0; channel < w->outputs; channel += LANES)
            NAME(write_tile)(w, &tile, sums + i * columns + channel, w->columns_apart, channel, size);
    }
}
/* Groups of `at_once` tiles. */
static void NAME(convolve_tiles)(const struct job *job, int64_t first, int64_t last) {
    const struct winograd *w = job->winograd;
    const int64_t inputs = ALL_POINTS * w->spread_apart;
    float *memory = aligned_memory(inputs + ALL_POINTS * w->columns_apart);
    if (!memory) {
        *w->failed = 1;
        return;
    }
    memset(memory, 0, (size_t)inputs * sizeof(float)); /* what stands in rows without a tile must not be slow to multiply */
    for (int64_t group = first; group < last; group++) {
        int64_t from = group * w->at_once, to = from + w->at_once < w->tiles ? from + w->at_once : w->tiles;
        if (w->kernel == 3) NAME(convolve_tiles_as)(w, from, to, memory, memory + inputs, 4);
        else NAME(convolve_tiles_as)(w, from, to, memory, memory + inputs, 2);
    }
    free(memory);
}

/* ---- the gradient of the kernel ---------------------------------------------------------------------------------------------- */

/* One tile of the output's gradient at all points: as [ALL_POINTS, panels, at_once, PANEL]. */
INLINE void NAME(gradient_at_points)(const struct winograd *w, int64_t number, float *to, const int size) {
    struct NAME(tile) tile = NAME(tile_at)(w, number);
    const float *image = w->grad_out + tile.image * w->out_height * w->out_width * w->outputs;
    struct NAME(window) window = NAME(window_at)(image, w->out_height, w->out_width, w->outputs, tile.y, tile.x, size);
    const int whole = NAME(whole)(&window, size);
    const int64_t apart = w->columns_apart;
    for (int64_t channel = 0; channel < w->outputs; channel += LANES) {
        F gradient[LARGEST_KERNEL * LARGEST_KERNEL], values[ALL_POINTS];
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++) gradient[y * size + x] = NAME(place_of)(&window, y, x, channel, whole);
        NAME(evaluate_square)(gradient, values, size);
        float *at = to + channel / PANEL * w->at_once * PANEL + channel % PANEL;
        UNROLL for (int point = 0; point < ALL_POINTS; point++) *(F *)(at + point * apart) = values[point];
    }
}
/* Tiles first … last − 1 of a group: their inputs and gradients at all points. */
static void NAME(group_at_points)(const struct job *job, int64_t first, int64_t last) {
    const struct winograd *w = job->winograd;
    for (int64_t i = first; i < last; i++) {
        NAME(spread_input)(w, w->first + i, w->spread + i * w->inputs, w->spread_apart);
        if (w->kernel == 3) NAME(gradient_at_points)(w, w->first + i, w->gradients + i * PANEL, 4);
        else NAME(gradient_at_points)(w, w->first + i, w->gradients + i * PANEL, 2);
    }
}
/* Add a group's products to the sums (those of the first group are the first there), as [ALL_POINTS, inputs, columns]; points first … last − 1. */
static void NAME(add_products)(const struct job *job, int64_t first, int64_t last) {
    const struct winograd *w = job->winograd;
    const int64_t columns = w->panels * PANEL;
    const int more = w->first > 0;
    for (int64_t point = first; point < last; point++)
        for (int64_t panel = 0; panel < w->panels; panel++) {
            const float *gradients = w->gradients + point * w->columns_apart + panel * w->at_once * PANEL;
            for (int64_t input = 0; input < w->inputs; input += ROWS) {
                const float *spread = w->spread + point * w->spread_apart + input;
                float *to = w->sums + point * w->kernels_apart + input * columns + panel * PANEL;
                const int64_t left = w->inputs - input; /* a multiple of LANES in all, so even */
                if (left >= ROWS) NAME(rows_of_product)(spread, 1, w->inputs, gradients, w->count, to, columns, ROWS, more);
                else if (left == 4) NAME(rows_of_product)(spread, 1, w->inputs, gradients, w->count, to, columns, 4, more);
                else NAME(rows_of_product)(spread, 1, w->inputs, gradients, w->count, to, columns, 2, more);
            }
        }
}
/* The sums to gradients of the weights; vectors of input channels first … last − 1. */
INLINE void NAME(kernels_from_points_as)(const struct winograd *w, int64_t first, int64_t last, const int size) {
    float kernels[LARGEST_KERNEL * LARGEST_KERNEL * LANES * LANES] __attribute__((aligned(64))), scale[ALL_POINTS];
    const int64_t apart = w->kernels_apart;
    NAME(point_scales)(scale);
    for (int64_t input = first * LANES; input < last * LANES; input += LANES)
        for (int64_t output = 0; output < w->outputs; output += LANES) {
            for (int i = 0; i < LANES; i++) {
                F values[ALL_POINTS], kernel[LARGEST_KERNEL * LARGEST_KERNEL];
                const float *from = w->sums + (input + i) * w->panels * PANEL + output;
                UNROLL for (int point = 0; point < ALL_POINTS; point++) values[point] = *(const F *)(from + point * apart) * scale[point];
                NAME(gather_square)(values, kernel, size);
                for (int place = 0; place < size * size; place++) *(F *)(kernels + (place * LANES + i) * LANES) = kernel[place];
            }
            NAME(copy_kernels)(w, w->grad_weight + input * w->stride_input + output * w->stride_output, kernels, size, 1);
        }
}
static void NAME(kernels_from_points)(const struct job *job, int64_t first, int64_t last) {
    job->winograd->kernel == 3 ? NAME(kernels_from_points_as)(job->winograd, first, last, 3) : NAME(kernels_from_points_as)(job->winograd, first, last, 5);
}
/* Sums of the output's gradient over all places; vectors of channels first … last − 1. */
static void NAME(sum_places)(const struct job *job, int64_t first, int64_t last) {
    const struct winograd *w = job->winograd;
    for (int64_t channel = first * LANES; channel < last * LANES; channel += LANES) {
        F sum = NAME(all)(0);
        for (int64_t start = 0; start < job->places; start += 128) { /* sums of sums: rounding grows with the chunk */
            F part = NAME(all)(0);
            for (int64_t place = start; place < job->places && place < start + 128; place++) part += *(const F *)(w->grad_out + place * w->outputs + channel);
            sum += part;
        }
        *(F *)(w->grad_bias + channel) = sum;
    }
}
