/* The kernels, written once over vectors of LANES floats; level.c includes this file, and is compiled once for each instruction set.
 *
 * Memory is channels-last, so the innermost index is the channel and one vector holds neighbouring channels of one place.
 * `wide`: whether the tensors hold float32 (1; WHOLE, where all vectors are full too) or bfloat16 (0). Loads widen, stores round to nearest
 * even; all arithmetic is float32.
 * Functions marked INLINE take their switches (wide, act, norm, pool) as constants in the cases that matter for speed.
 */

#define F NAME(floats)
#define U NAME(words)
#define I NAME(integers)
#define M NAME(mask)
#define K NAME(valid)

typedef float F __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t U __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

/* ---- what differs between instruction sets: masks, loads and stores -------------------------------------------------------- */

#if LANES == 16
typedef __mmask16 M; /* one bit a lane, from comparisons */
typedef __mmask16 K; /* which lanes lie inside the tensor */

INLINE K NAME(inside)(int64_t left) { return left >= 16 ? 0xFFFF : (K)((1u << left) - 1); }
INLINE F NAME(load)(const void *base, int64_t at, K valid, int wide) {
    if (wide) return (F)_mm512_maskz_loadu_ps(valid, (const float *)base + at);
    return (F)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(valid, (const uint16_t *)base + at)), 16);
}
INLINE void NAME(store)(void *base, int64_t at, K valid, int wide, F value) {
    if (wide) _mm512_mask_storeu_ps((float *)base + at, valid, (__m512)value);
    else _mm256_mask_storeu_epi16((uint16_t *)base + at, valid, (__m256i)_mm512_cvtneps_pbh((__m512)value));
}
INLINE M NAME(above)(F a, F b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
INLINE M NAME(nan)(F a) { return _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q); }
INLINE F NAME(choose)(M mask, F yes, F no) { return (F)_mm512_mask_blend_ps(mask, (__m512)no, (__m512)yes); }
INLINE F NAME(where)(M mask, F yes) { return (F)_mm512_maskz_mov_ps(mask, (__m512)yes); }
INLINE F NAME(all)(float value) { return (F)_mm512_set1_ps(value); }
INLINE U NAME(all_words)(uint32_t value) { return (U)_mm512_set1_epi32((int)value); }
INLINE F NAME(larger)(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); } /* b if one is NaN */
INLINE F NAME(inverse)(F a) { /* 14 bits, then one step of Newton's method */
    F guess = (F)_mm512_rcp14_ps((__m512)a);
    return guess * (2.0f - a * guess);
}
INLINE M NAME(at_least)(U a, U b) { return _mm512_cmpge_epu32_mask((__m512i)a, (__m512i)b); }
INLINE M NAME(everywhere)(void) { return 0xFFFF; }
INLINE void NAME(store_code)(uint8_t *to, K valid, M low, M high, M keep) {
    __m128i code = _mm_or_si128(_mm_maskz_set1_epi8(low, 1), _mm_maskz_set1_epi8(high, 2));
    _mm_mask_storeu_epi8(to, valid, _mm_or_si128(code, _mm_maskz_set1_epi8(keep, 4)));
}
typedef __m128i NAME(code);
INLINE NAME(code) NAME(load_code)(const uint8_t *from, K valid) { return _mm_maskz_loadu_epi8(valid, from); }
INLINE M NAME(kept)(NAME(code) code) { return _mm_test_epi8_mask(code, _mm_set1_epi8(4)); }
INLINE M NAME(chosen)(NAME(code) code, int place) {
    return _mm_cmpeq_epi8_mask(_mm_and_si128(code, _mm_set1_epi8(3)), _mm_set1_epi8((char)place));
}
#else
typedef I M;
typedef int K; /* how many lanes lie inside the tensor */
typedef uint16_t NAME(halves) __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef uint8_t NAME(bytes) __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE K NAME(inside)(int64_t left) { return left >= LANES ? LANES : (int)left; }
/* The first `valid` of LANES floats; copying a number of bytes that is not known beforehand would be a call of a function. */
INLINE F NAME(load_part)(const float *from, K valid) {
#if LANES == 8
    static const int32_t lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return (F)_mm256_maskload_ps(from, _mm256_loadu_si256((const __m256i *)(lanes + 8 - valid)));
#else
    F value = {0};
    for (int i = 0; i < valid; i++) value[i] = from[i];
    return value;
#endif
}
INLINE void NAME(store_part)(float *to, K valid, F value) {
#if LANES == 8
    __m128 part = _mm256_castps256_ps128((__m256)value); /* a masked store would take a dozen times as long on some processors */
    if (valid & 4) {
        _mm_storeu_ps(to, part);
        part = _mm256_extractf128_ps((__m256)value, 1), to += 4;
    }
    if (valid & 2) {
        _mm_storel_pi((__m64 *)to, part);
        part = _mm_movehl_ps(part, part), to += 2;
    }
    if (valid & 1) _mm_store_ss(to, part);
#else
    for (int i = 0; i < valid; i++) to[i] = value[i];
#endif
}
INLINE F NAME(load)(const void *base, int64_t at, K valid, int wide) {
    if (wide) {
        const float *from = (const float *)base + at;
        return wide == WHOLE || valid == LANES ? *(const F *)from : NAME(load_part)(from, valid);
    }
    NAME(halves) half = {0};
    const uint16_t *from = (const uint16_t *)base + at;
    if (valid == LANES) half = *(const NAME(halves) *)from;
    else memcpy(&half, from, (size_t)valid * 2);
    return (F)(__builtin_convertvector(half, U) << 16);
}
INLINE void NAME(store)(void *base, int64_t at, K valid, int wide, F value) {
    if (wide) {
        float *to = (float *)base + at;
        if (wide == WHOLE || valid == LANES) *(F *)to = value;
        else NAME(store_part)(to, valid, value);
        return;
    }
    U bits = (U)value;
    U rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    U not_a_number = (U)(value != value);
    rounded = (rounded & ~not_a_number) | (not_a_number & 0x7FC0);
    NAME(halves) half = __builtin_convertvector(rounded, NAME(halves));
    uint16_t *to = (uint16_t *)base + at;
    if (valid == LANES) *(NAME(halves) *)to = half;
    else memcpy(to, &half, (size_t)valid * 2);
}
INLINE M NAME(above)(F a, F b) { return (M)(a > b); }
INLINE M NAME(nan)(F a) { return (M)(a != a); }
INLINE F NAME(choose)(M mask, F yes, F no) { return (F)(((I)yes & mask) | ((I)no & ~mask)); }
INLINE F NAME(where)(M mask, F yes) { return (F)((I)yes & mask); }
INLINE F NAME(all)(float value) { return (F){0} + value; }
INLINE U NAME(all_words)(uint32_t value) { return (U){0} + value; }
#if LANES == 8
INLINE F NAME(larger)(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); } /* b if one is NaN */
#else
INLINE F NAME(larger)(F a, F b) { return NAME(choose)(a > b, a, b); } /* b if one is NaN */
#endif
INLINE F NAME(inverse)(F a) { return 1.0f / a; }
INLINE M NAME(at_least)(U a, U b) { return (M)((I)a >= (I)b); } /* both are below 2**31 here */
INLINE M NAME(everywhere)(void) { return (M){0} - 1; }
INLINE void NAME(store_code)(uint8_t *to, K valid, M low, M high, M keep) {
    NAME(bytes) code = __builtin_convertvector((low & 1) | (high & 2) | (keep & 4), NAME(bytes));
    if (valid == LANES) *(NAME(bytes) *)to = code;
    else for (int i = 0; i < valid; i++) to[i] = code[i];
}
typedef I NAME(code);
INLINE NAME(code) NAME(load_code)(const uint8_t *from, K valid) {
    NAME(bytes) code = {0};
    if (valid == LANES) code = *(const NAME(bytes) *)from;
    else for (int i = 0; i < valid; i++) code[i] = from[i];
    return __builtin_convertvector(code, I);
}
INLINE M NAME(kept)(NAME(code) code) { return (M)((code & 4) != 0); }
INLINE M NAME(chosen)(NAME(code) code, int place) { return (M)((code & 3) == place); }
#endif

INLINE K NAME(valid_at)(const struct job *job, int64_t channel, int wide) { return NAME(inside)(wide == WHOLE ? LANES : job->channels - channel); }

/* ---- dropout --------------------------------------------------------------------------------------------------------------- */

/* Keep where 16 bits drawn for the element are at least the threshold. One 32-bit hash serves two neighbouring channels. */
INLINE M NAME(draw)(const struct job *job, int64_t place, int64_t channel) {
    U lane;
    for (int i = 0; i < LANES; i++) lane[i] = (uint32_t)i;
    U pair = (lane >> 1) + (uint32_t)(place * ((job->channels + 1) / 2) + channel / 2);
    U hash = pair + job->key[0];
    hash ^= hash >> 16;
    hash *= 0x85EBCA6Bu;
    hash ^= hash >> 13;
    hash += job->key[1];
    hash *= 0xC2B2AE35u;
    hash ^= hash >> 16;
    U bits = (hash >> ((lane & 1) << 4)) & 0xFFFF;
    return NAME(at_least)(bits, NAME(all_words)(job->threshold));
}

/* ---- activations ----------------------------------------------------------------------------------------------------------- */

/* e^x for x of at most 88: 2^n · e^r with |r| ≤ ln 2 / 2, e^r by a polynomial fitted to a relative error of 1.3e-7. Keeps NaN. */
INLINE F NAME(exponential)(F x) {
    x = NAME(larger)(NAME(all)(-87.0f), x);
    F shifted = x * 1.44269504f + 12582912.0f; /* 1.5 · 2^23 rounds to a whole number in the lowest bits */
    F n = shifted - 12582912.0f;
    F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    F p = ((r * 0.00836915057f + 0.0419007204f) * r + 0.166665167f) * r + 0.499991208f;
    p = (p * r + 1.0f) * r + 1.0f;
    return p * (F)(((U)shifted + 127u) << 23);
}
INLINE F NAME(hyperbolic_tangent)(F x) {
    U sign = (U)x & 0x80000000u;
    F size = (F)((U)x ^ sign);
    F e = NAME(exponential)(size * -2.0f);
    F far = (1.0f - e) * NAME(inverse)(1.0f + e);
    F square = x * x; /* near zero the quotient would lose digits */
    F near = size * (1.0f + square * (-1.0f / 3 + square * (2.0f / 15 + square * (-17.0f / 315 + square * (62.0f / 2835)))));
    return (F)((U)NAME(choose)(NAME(above)(NAME(all)(0.25f), size), near, far) | sign);
}
INLINE F NAME(sigmoid)(F x) { return NAME(inverse)(1.0f + NAME(exponential)(-NAME(larger)(NAME(all)(-88.0f), x))); }
static __attribute__((noinline)) F NAME(hyperbolic_tangent_call)(F x) { return NAME(hyperbolic_tangent)(x); }
static __attribute__((noinline)) F NAME(sigmoid_call)(F x) { return NAME(sigmoid)(x); }

/* Where the activation is known at compile time its code stands in the loop, elsewhere it is called. */
INLINE F NAME(activate)(F x, int act) {
    if (act == RELU) return NAME(larger)(NAME(all)(0), x);
    if (act == TANH) return __builtin_constant_p(act) ? NAME(hyperbolic_tangent)(x) : NAME(hyperbolic_tangent_call)(x);
    if (act == SIGMOID) return NAME(sigmoid_call)(x);
    return x;
}
/* gradient · derivative of the activation, given its value a (for ReLU, x itself will do). */
INLINE F NAME(slope)(F gradient, F a, int act) {
    if (act == RELU) return NAME(where)(NAME(above)(a, NAME(all)(0)), gradient);
    if (act == TANH) return gradient * (1.0f - a * a);
    if (act == SIGMOID) return gradient * (a * (1.0f - a));
    return gradient;
}

/* ---- forward --------------------------------------------------------------------------------------------------------------- */

#define GROUP 4 /* vectors of channels whose sums stay in registers together */

/* Shifted sums over places first … last − 1 of `GROUP` or 1 vectors of channels: Σ(v − k), Σ(v − k)², with k the first value. */
INLINE void NAME(moments_of)(const struct job *job, int64_t first, int64_t last, int64_t channel, int vectors, float *out, int wide, int act) {
    const int64_t channels = job->channels;
    K valid = vectors == 1 ? NAME(valid_at)(job, channel, wide) : NAME(inside)(LANES);
    F shift[GROUP], sum[GROUP], squares[GROUP];
    UNROLL for (int g = 0; g < vectors; g++) {
        shift[g] = NAME(activate)(NAME(load)(job->x, first * channels + channel + g * LANES, valid, wide), act);
        sum[g] = squares[g] = NAME(all)(0);
    }
    for (int64_t start = first; start < last; start += 128) { /* sums of sums: rounding grows with the chunk, not the block */
        int64_t stop = start + 128 < last ? start + 128 : last;
        F s[GROUP], q[GROUP];
        UNROLL for (int g = 0; g < vectors; g++) s[g] = q[g] = NAME(all)(0);
        for (int64_t place = start; place < stop; place++)
            UNROLL for (int g = 0; g < vectors; g++) {
                F d = NAME(activate)(NAME(load)(job->x, place * channels + channel + g * LANES, valid, wide), act) - shift[g];
                s[g] += d;
                q[g] += d * d;
            }
        UNROLL for (int g = 0; g < vectors; g++) sum[g] += s[g], squares[g] += q[g];
    }
    UNROLL for (int g = 0; g < vectors; g++) {
        NAME(store)(out, channel + g * LANES, valid, 1, shift[g]);
        NAME(store)(out + channels, channel + g * LANES, valid, 1, sum[g]);
        NAME(store)(out + 2 * channels, channel + g * LANES, valid, 1, squares[g]);
    }
}
INLINE void NAME(moments_as)(const struct job *job, int64_t first_block, int64_t last_block, int wide, int act) {
    for (int64_t block = first_block; block < last_block; block++) {
        int64_t first = job->places * block / job->blocks, last = job->places * (block + 1) / job->blocks, channel = 0;
        float *out = job->partial + block * 3 * job->channels;
        for (; channel + GROUP * LANES <= job->channels; channel += GROUP * LANES) NAME(moments_of)(job, first, last, channel, GROUP, out, wide, act);
        for (; channel < job->channels; channel += LANES) NAME(moments_of)(job, first, last, channel, 1, out, wide, act);
    }
}
static void NAME(moments)(const struct job *job, int64_t first, int64_t last) {
    const int act = job->norm == BEFORE ? IDENTITY : job->act;
    const int whole = LANES < 16 && job->wide && job->channels % LANES == 0;
    if (act == RELU && whole) NAME(moments_as)(job, first, last, WHOLE, RELU);
    else if (act == IDENTITY && whole) NAME(moments_as)(job, first, last, WHOLE, IDENTITY);
    else if (act == RELU && !job->wide) NAME(moments_as)(job, first, last, 0, RELU);
    else if (act == IDENTITY && !job->wide) NAME(moments_as)(job, first, last, 0, IDENTITY);
    else job->wide ? NAME(moments_as)(job, first, last, 1, act) : NAME(moments_as)(job, first, last, 0, act);
}

/* One vector of one output place: activation, norm, pooling, dropout. */
INLINE void NAME(forward_vector)(const struct job *job, int64_t from, int64_t place, int64_t c, int wide, int act, int norm, int pool) {
    const int64_t channels = job->channels, below = job->width * channels;
    K valid = NAME(valid_at)(job, c, wide);
    F scale = NAME(all)(1), offset = NAME(all)(0), y;
    M low = NAME(everywhere)(), high = low, keep = low;
    low ^= low, high ^= high;
    if (norm) scale = NAME(load)(job->scale, c, valid, 1), offset = NAME(load)(job->offset, c, valid, 1);
    if (pool == MAX) {
        /* Activations here never decrease, so the largest result has the largest input (the smallest where the scale is below 0):
         * the activation is computed for the chosen one alone. NaN wins; with a norm it is everywhere in the channel anyway. */
        U flip = (U)scale & 0x80000000u;
        F a = NAME(load)(job->x, from, valid, wide), b = NAME(load)(job->x, from + channels, valid, wide);
        F d = NAME(load)(job->x, from + below, valid, wide), e = NAME(load)(job->x, from + below + channels, valid, wide);
        if (norm) a = (F)((U)a ^ flip), b = (F)((U)b ^ flip), d = (F)((U)d ^ flip), e = (F)((U)e ^ flip);
        M right = NAME(above)(b, a), right_below = NAME(above)(e, d);
        if (!norm) right |= NAME(nan)(b), right_below |= NAME(nan)(e);
        a = NAME(choose)(right, b, a), d = NAME(choose)(right_below, e, d);
        high = NAME(above)(d, a);
        if (!norm) high |= NAME(nan)(d);
        low = (high & right_below) | (~high & right);
        y = NAME(choose)(high, d, a);
        if (norm) y = (F)((U)y ^ flip);
        if (job->picked) NAME(store)(job->picked, place * channels + c, valid, wide, y);
        if (norm == BEFORE) y = y * scale + offset;
        y = NAME(activate)(y, act);
        if (norm == AFTER) y = y * scale + offset;
    } else {
        y = NAME(all)(0);
        for (int i = 0; i < (pool == AVERAGE ? 4 : 1); i++) {
            F v = NAME(load)(job->x, from + (i >> 1) * below + (i & 1) * channels, valid, wide);
            if (norm == BEFORE) v = v * scale + offset;
            y += NAME(activate)(v, act);
        }
        if (pool == AVERAGE) y *= 0.25f;
        if (norm == AFTER) y = y * scale + offset;
    }
    if (job->threshold) {
        keep = NAME(draw)(job, place, c);
        y = NAME(where)(keep, y * job->keep_scale);
    }
    if (job->code) NAME(store_code)(job->code + place * channels + c, valid, low, high, keep);
    NAME(store)(job->out, place * channels + c, valid, wide, y);
}
INLINE void NAME(forward_as)(const struct job *shared, int64_t first, int64_t last, int wide, int act, int norm, int pool) {
    const struct job own = *shared, *job = &own; /* no store can reach it, so what it says is not read again for each vector */
    const int step = pool == NONE ? 1 : 2;
    for (int64_t row = first; row < last; row++) {
        int64_t image = row / job->out_height, y = row % job->out_height;
        int64_t from = (image * job->height + y * step) * job->width * job->channels;
        for (int64_t x = 0; x < job->out_width; x++)
            for (int64_t c = 0; c < job->channels; c += LANES)
                NAME(forward_vector)(job, from + x * step * job->channels + c, row * job->out_width + x, c, wide, act, norm, pool);
    }
}

/* ---- backward -------------------------------------------------------------------------------------------------------------- */

/* What an output place sends to the norm: Σ over its window of the gradient at the norm's output, and the same times (v − mean). */
INLINE void NAME(sums_vector)(const struct job *job, int64_t place, int64_t c, K valid, F mean, F scale, F offset, F *sum, F *product, int wide, int act, int norm, int pool) {
    const int64_t at = place * job->channels + c;
    F g = NAME(load)(job->grad_out, at, valid, wide);
    if (job->threshold) g = NAME(where)(NAME(kept)(NAME(load_code)(job->code + at, valid)), g * job->keep_scale);
    if (pool == AVERAGE) {
        int64_t image_row = place / job->out_width, x = place % job->out_width;
        int64_t row = image_row / job->out_height * job->height + image_row % job->out_height * 2;
        int64_t from = (row * job->width + x * 2) * job->channels + c;
        g *= 0.25f;
        for (int i = 0; i < 4; i++) {
            F v = NAME(load)(job->x, from + (i >> 1) * job->width * job->channels + (i & 1) * job->channels, valid, wide), h = g;
            if (norm == BEFORE) h = NAME(slope)(g, NAME(activate)(v * scale + offset, act), act);
            else v = NAME(activate)(v, act);
            *sum += h;
            *product += h * (v - mean);
        }
        return;
    }
    F v = NAME(load)(pool == MAX ? job->picked : job->x, at, valid, wide);
    if (norm == BEFORE) g = NAME(slope)(g, NAME(activate)(v * scale + offset, act), act);
    else v = NAME(activate)(v, act);
    *sum += g;
    *product += g * (v - mean);
}
INLINE void NAME(sums_of)(const struct job *job, int64_t first, int64_t last, int64_t channel, int vectors, float *out, int wide, int act, int norm, int pool) {
    K valid = vectors == 1 ? NAME(valid_at)(job, channel, wide) : NAME(inside)(LANES);
    F mean[GROUP], scale[GROUP], offset[GROUP], sum[GROUP], product[GROUP];
    UNROLL for (int g = 0; g < vectors; g++) {
        mean[g] = NAME(load)(job->mean, channel + g * LANES, valid, 1);
        scale[g] = NAME(load)(job->scale, channel + g * LANES, valid, 1);
        offset[g] = NAME(load)(job->offset, channel + g * LANES, valid, 1);
        sum[g] = product[g] = NAME(all)(0);
    }
    for (int64_t start = first; start < last; start += 128) {
        int64_t stop = start + 128 < last ? start + 128 : last;
        F s[GROUP], q[GROUP];
        UNROLL for (int g = 0; g < vectors; g++) s[g] = q[g] = NAME(all)(0);
        for (int64_t place = start; place < stop; place++)
            UNROLL for (int g = 0; g < vectors; g++)
                NAME(sums_vector)(job, place, channel + g * LANES, valid, mean[g], scale[g], offset[g], &s[g], &q[g], wide, act, norm, pool);
        UNROLL for (int g = 0; g < vectors; g++) sum[g] += s[g], product[g] += q[g];
    }
    UNROLL for (int g = 0; g < vectors; g++) {
        NAME(store)(out, channel + g * LANES, valid, 1, sum[g]);
        NAME(store)(out + job->channels, channel + g * LANES, valid, 1, product[g]);
    }
}
INLINE void NAME(sums_as)(const struct job *job, int64_t first_block, int64_t last_block, int wide, int act, int norm, int pool) {
    const int64_t places = job->batch * job->out_height * job->out_width;
    for (int64_t block = first_block; block < last_block; block++) {
        int64_t first = places * block / job->blocks, last = places * (block + 1) / job->blocks, channel = 0;
        float *out = job->partial + block * 2 * job->channels;
        for (; channel + GROUP * LANES <= job->channels; channel += GROUP * LANES)
            NAME(sums_of)(job, first, last, channel, GROUP, out, wide, act, norm, pool);
        for (; channel < job->channels; channel += LANES) NAME(sums_of)(job, first, last, channel, 1, out, wide, act, norm, pool);
    }
}

/* The gradient at one place, given `g`, the gradient that reaches it from above: what comes through the norm's statistics
 * (base + tilt · v) is added, and the activation's slope taken where the norm follows it. */
INLINE void NAME(place_gradient)(const struct job *job, int64_t at, K valid, F g, F scale, F offset, F base, F tilt, int wide, int act, int norm, int pool) {
    if (norm || pool != MAX) {
        F v = NAME(load)(job->x, at, valid, wide);
        if (norm == BEFORE) {
            if (pool != MAX) g = NAME(slope)(g, NAME(activate)(v * scale + offset, act), act);
            g = g * scale + (base + tilt * v);
        } else if (norm == AFTER) {
            F a = NAME(activate)(v, act);
            g = NAME(slope)(g * scale + (base + tilt * a), a, act);
        } else g = NAME(slope)(g, act == RELU ? v : NAME(activate)(v, act), act);
    }
    NAME(store)(job->grad_x, at, valid, wide, g);
}
INLINE void NAME(backward_vector)(const struct job *job, int64_t to, int64_t place, int64_t c, int wide, int act, int norm, int pool) {
    const int64_t channels = job->channels, below = job->width * channels, at = place * channels + c;
    K valid = NAME(valid_at)(job, c, wide);
    F scale = NAME(all)(1), offset = NAME(all)(0), base = offset, tilt = offset, g = NAME(load)(job->grad_out, at, valid, wide);
    NAME(code) code;
    if (norm) {
        scale = NAME(load)(job->scale, c, valid, 1), base = NAME(load)(job->base, c, valid, 1), tilt = NAME(load)(job->tilt, c, valid, 1);
        if (norm == BEFORE) offset = NAME(load)(job->offset, c, valid, 1);
    }
    if (pool == MAX || job->threshold) code = NAME(load_code)(job->code + at, valid);
    if (job->threshold) g = NAME(where)(NAME(kept)(code), g * job->keep_scale);
    if (pool == MAX) {
        if (norm != AFTER && act != IDENTITY) {
            F v = NAME(load)(job->picked, at, valid, wide);
            if (norm == BEFORE) v = v * scale + offset;
            g = NAME(slope)(g, act == RELU ? v : NAME(activate)(v, act), act);
        }
        for (int i = 0; i < 4; i++)
            NAME(place_gradient)(job, to + (i >> 1) * below + (i & 1) * channels, valid, NAME(where)(NAME(chosen)(code, i), g), scale, offset, base, tilt, wide, act, norm, pool);
        return;
    }
    if (pool == AVERAGE) g *= 0.25f;
    for (int i = 0; i < (pool == AVERAGE ? 4 : 1); i++)
        NAME(place_gradient)(job, to + (i >> 1) * below + (i & 1) * channels, valid, g, scale, offset, base, tilt, wide, act, norm, pool);
}
/* Places that no window covers: only the norm's statistics send them a gradient. */
static void NAME(uncovered)(const struct job *job, int64_t to, int64_t places) {
    const F zero = NAME(all)(0);
    for (int64_t place = 0; place < places; place++)
        for (int64_t c = 0; c < job->channels; c += LANES) {
            K valid = NAME(inside)(job->channels - c);
            F base = zero, tilt = zero;
            if (job->norm) base = NAME(load)(job->base, c, valid, 1), tilt = NAME(load)(job->tilt, c, valid, 1);
            NAME(place_gradient)(job, to + place * job->channels + c, valid, zero, zero, zero, base, tilt, job->wide, job->act, job->norm, MAX);
        }
}
INLINE void NAME(backward_as)(const struct job *shared, int64_t first, int64_t last, int wide, int act, int norm, int pool) {
    const struct job own = *shared, *job = &own;
    const int step = pool == NONE ? 1 : 2;
    const int64_t channels = job->channels, bands = (job->height + step - 1) / step;
    for (int64_t band = first; band < last; band++) {
        int64_t image = band / bands, y = band % bands;
        int64_t to = (image * job->height + y * step) * job->width * channels;
        if (y == job->out_height) {
            NAME(uncovered)(shared, to, job->width);
            continue;
        }
        for (int64_t x = 0; x < job->out_width; x++)
            for (int64_t c = 0; c < channels; c += LANES)
                NAME(backward_vector)(job, to + x * step * channels + c, (image * job->out_height + y) * job->out_width + x, c, wide, act, norm, pool);
        if (job->out_width * step < job->width)
            for (int i = 0; i < step; i++) NAME(uncovered)(shared, to + ((i + 1) * job->width - 1) * channels, 1);
    }
}

/* ---- average-pooling, no norm, no dropout, where activations may take memory: they are kept, and computed once ---------------- */

INLINE int NAME(keeps)(const struct job *job) { return job->pool == AVERAGE && job->picked; } /* float32 alone: see program.py */

/* The activations of two rows lie behind each other, so that vectors are full whatever the channels. `picked` may be `x`. */
INLINE void NAME(forward_kept_as)(const struct job *job, int64_t first, int64_t last, int act) {
    const int64_t channels = job->channels, row_size = job->width * channels;
    for (int64_t row = first; row < last; row++) {
        int64_t image = row / job->out_height, y = row % job->out_height, from = (image * job->height + y * 2) * row_size;
        for (int64_t i = 0; i < 2 * row_size; i += LANES) {
            K valid = NAME(inside)(2 * row_size - i);
            NAME(store)(job->picked, from + i, valid, 1, NAME(activate)(NAME(load)(job->x, from + i, valid, 1), act));
        }
        for (int64_t x = 0; x < job->out_width; x++)
            for (int64_t c = 0; c < channels; c += LANES) {
                int64_t at = from + x * 2 * channels + c;
                K valid = NAME(inside)(channels - c);
                F sum = NAME(load)(job->picked, at, valid, 1) + NAME(load)(job->picked, at + channels, valid, 1);
                sum += NAME(load)(job->picked, at + row_size, valid, 1);
                sum += NAME(load)(job->picked, at + row_size + channels, valid, 1);
                NAME(store)(job->out, (row * job->out_width + x) * channels + c, valid, 1, sum * 0.25f);
            }
    }
}
static void NAME(forward_kept)(const struct job *job, int64_t first, int64_t last) {
    job->act == TANH ? NAME(forward_kept_as)(job, first, last, TANH) : NAME(forward_kept_as)(job, first, last, job->act);
}
static void NAME(backward_kept)(const struct job *job, int64_t first, int64_t last) {
    const int64_t channels = job->channels, row_size = job->width * channels, bands = (job->height + 1) / 2;
    const int64_t out_size = job->out_width * channels;
    for (int64_t band = first; band < last; band++) {
        int64_t image = band / bands, y = band % bands, row = image * job->out_height + y, start = (image * job->height + y * 2) * row_size;
        if (y == job->out_height) {
            NAME(uncovered)(job, start, job->width);
            continue;
        }
        for (int lower = 0; lower < 2; lower++, start += row_size) {
            for (int64_t x = 0; x < 2 * job->out_width; x++)
                for (int64_t c = 0; c < channels; c += LANES) {
                    /* The lanes behind a place's channels are those of the next one, which is written after it. */
                    int64_t from = x / 2 * channels + c, at = x * channels + c;
                    K valid = NAME(inside)(from + LANES <= out_size ? LANES : channels - c);
                    F g = NAME(load)(job->grad_out, row * out_size + from, valid, 1) * 0.25f;
                    F a = NAME(load)(job->picked, start + at, valid, 1);
                    NAME(store)(job->grad_x, start + at, valid, 1, NAME(slope)(g, a, job->act));
                }
            if (2 * job->out_width < job->width) NAME(uncovered)(job, start + row_size - channels, 1);
        }
    }
}
INLINE void NAME(sums_kept)(const struct job *job, int64_t first, int64_t last) { (void)job, (void)first, (void)last; } /* no norm, no sums */

#if LANES == 16
/* ---- few channels, no norm, no dropout: a vector holds several neighbouring places ------------------------------------------- */

INLINE int NAME(packs)(const struct job *job) { return job->channels <= 8 && job->norm == NONE && job->pool != NONE && !job->threshold; }
INLINE K NAME(first_lanes)(int64_t count) { return count <= 0 ? 0 : NAME(inside)(count); }
INLINE F NAME(pick)(F low, U index, F high) { return (F)_mm512_permutex2var_ps((__m512)low, (__m512i)index, (__m512)high); }

INLINE void NAME(forward_packed_as)(const struct job *job, int64_t first, int64_t last, int wide, int act, int pool) {
    const int64_t channels = job->channels, below = job->width * channels, together = LANES / channels;
    U even;
    for (int64_t i = 0; i < LANES; i++) even[i] = (uint32_t)(i / channels * 2 * channels + i % channels) & 31;
    const U odd = even + (uint32_t)channels;
    for (int64_t row = first; row < last; row++) {
        int64_t image = row / job->out_height, y = row % job->out_height;
        for (int64_t x = 0; x < job->out_width; x += together) {
            int64_t count = (job->out_width - x < together ? job->out_width - x : together) * channels;
            int64_t from = ((image * job->height + y * 2) * job->width + x * 2) * channels, to = (row * job->out_width + x) * channels;
            K low_lanes = NAME(first_lanes)(2 * count), high_lanes = NAME(first_lanes)(2 * count - LANES), valid = NAME(inside)(count);
            F top_low = NAME(load)(job->x, from, low_lanes, wide), top_high = NAME(load)(job->x, from + LANES, high_lanes, wide);
            F low = NAME(load)(job->x, from + below, low_lanes, wide), high = NAME(load)(job->x, from + below + LANES, high_lanes, wide);
            F out;
            if (pool == AVERAGE) {
                top_low = NAME(activate)(top_low, act), top_high = NAME(activate)(top_high, act);
                low = NAME(activate)(low, act), high = NAME(activate)(high, act);
                out = NAME(pick)(top_low, even, top_high) + NAME(pick)(top_low, odd, top_high); /* added up in PyTorch's order */
                out += NAME(pick)(low, even, high);
                out += NAME(pick)(low, odd, high);
                out *= 0.25f;
            } else {
                F a = NAME(pick)(top_low, even, top_high), b = NAME(pick)(top_low, odd, top_high);
                F d = NAME(pick)(low, even, high), e = NAME(pick)(low, odd, high);
                M right = NAME(above)(b, a) | NAME(nan)(b), right_below = NAME(above)(e, d) | NAME(nan)(e);
                a = NAME(choose)(right, b, a), d = NAME(choose)(right_below, e, d);
                M lower = NAME(above)(d, a) | NAME(nan)(d);
                out = NAME(choose)(lower, d, a);
                if (job->code) NAME(store_code)(job->code + to, valid, (lower & right_below) | (~lower & right), lower, 0);
                if (job->picked) NAME(store)(job->picked, to, valid, wide, out);
                out = NAME(activate)(out, act);
            }
            NAME(store)(job->out, to, valid, wide, out);
        }
    }
}
INLINE void NAME(backward_packed_as)(const struct job *job, int64_t first, int64_t last, int wide, int act, int pool) {
    const int64_t channels = job->channels, below = job->width * channels, together = LANES / channels, bands = (job->height + 1) / 2;
    U source[2], right[2]; /* for the lanes of the two vectors of inputs: their lane of the output, and whether they are its right half */
    for (int64_t i = 0; i < 2 * LANES; i++) {
        source[i / LANES][i % LANES] = (uint32_t)(i / (2 * channels) * channels + i % channels) & 15;
        right[i / LANES][i % LANES] = (uint32_t)(i / channels & 1);
    }
    for (int64_t band = first; band < last; band++) {
        int64_t image = band / bands, y = band % bands, row = image * job->out_height + y, start = (image * job->height + y * 2) * job->width * channels;
        if (y == job->out_height) {
            NAME(uncovered)(job, start, job->width);
            continue;
        }
        for (int64_t x = 0; x < job->out_width; x += together) {
            int64_t count = (job->out_width - x < together ? job->out_width - x : together) * channels;
            int64_t at = (row * job->out_width + x) * channels;
            K valid = NAME(inside)(count);
            F g = NAME(load)(job->grad_out, at, valid, wide);
            U code = NAME(all_words)(0);
            if (pool == AVERAGE) g *= 0.25f;
            else {
                F v = NAME(load)(job->picked, at, valid, wide);
                g = NAME(slope)(g, act == RELU ? v : NAME(activate)(v, act), act);
                code = (U)_mm512_cvtepu8_epi32(NAME(load_code)(job->code + at, valid)) & 3;
            }
            for (int half = 0; half < 2; half++) {
                K lanes = NAME(first_lanes)(2 * count - half * LANES);
                F spread = (F)_mm512_permutexvar_ps((__m512i)source[half], (__m512)g);
                U place = (U)_mm512_permutexvar_epi32((__m512i)source[half], (__m512i)code);
                for (int lower = 0; lower < 2; lower++) {
                    int64_t to = start + x * 2 * channels + lower * below + half * LANES;
                    F value = spread;
                    if (pool == AVERAGE) {
                        F v = NAME(load)(job->x, to, lanes, wide);
                        value = NAME(slope)(spread, act == RELU ? v : NAME(activate)(v, act), act);
                    } else
                        value = NAME(where)(_mm512_cmpeq_epi32_mask((__m512i)place, (__m512i)(right[half] + 2 * (uint32_t)lower)), spread);
                    NAME(store)(job->grad_x, to, lanes, wide, value);
                }
            }
        }
        if (job->out_width * 2 < job->width)
            for (int i = 0; i < 2; i++) NAME(uncovered)(job, start + ((i + 1) * job->width - 1) * channels, 1);
    }
}
#define PACKED(kernel)                                                                                                              \
    static void NAME(kernel##_packed)(const struct job *job, int64_t first, int64_t last) {                                         \
        if (job->pool == AVERAGE && job->act == TANH && !job->wide) NAME(kernel##_packed_as)(job, first, last, 0, TANH, AVERAGE);   \
        else if (job->pool == MAX) job->wide ? NAME(kernel##_packed_as)(job, first, last, 1, job->act, MAX)                              \
                                        : NAME(kernel##_packed_as)(job, first, last, 0, job->act, MAX);                             \
        else job->wide ? NAME(kernel##_packed_as)(job, first, last, 1, job->act, AVERAGE)                                           \
                       : NAME(kernel##_packed_as)(job, first, last, 0, job->act, AVERAGE);                                          \
    }
PACKED(forward)
PACKED(backward)
#undef PACKED
#include "avx512.h"
#define HOT(kernel, job, first, last) hot(job) ? (NAME(kernel##_hot)(job, first, last), 1) : 0
#else
#define HOT(kernel, job, first, last) 0
INLINE int NAME(packs)(const struct job *job) { return job == NULL; }
INLINE void NAME(forward_packed)(const struct job *job, int64_t first, int64_t last) { (void)job, (void)first, (void)last; }
INLINE void NAME(backward_packed)(const struct job *job, int64_t first, int64_t last) { (void)job, (void)first, (void)last; }
#endif
INLINE void NAME(sums_packed)(const struct job *job, int64_t first, int64_t last) { (void)job, (void)first, (void)last; } /* no norm, no sums */

/* ---- the same for each combination of switches; the common ones get code of their own ----------------------------------------- */

/* Each takes a second to compile, so that what nobody waits for is left out: all of them in what x86 hardly ever falls back to, and float32
 * where bfloat16 is fast. */
#if LANES == 4 && defined(__x86_64__)
#define VARIANTS(kernel)                                                                                                            \
    static void NAME(kernel)(const struct job *job, int64_t first, int64_t last) {                                                  \
        if (NAME(keeps)(job)) NAME(kernel##_kept)(job, first, last);                                                                \
        else if (job->wide) NAME(kernel##_as)(job, first, last, 1, job->act, job->norm, job->pool);                                 \
        else NAME(kernel##_as)(job, first, last, 0, job->act, job->norm, job->pool);                                                \
    }
#else
#define VARIANTS(kernel)                                                                                                            \
    static void NAME(kernel)(const struct job *job, int64_t first, int64_t last) {                                                  \
        const int whole = LANES < 16 && job->wide && job->channels % LANES == 0;                                                    \
        if (HOT(kernel, job, first, last)) return;                                                                                  \
        if (NAME(keeps)(job)) {                                                                                                     \
            NAME(kernel##_kept)(job, first, last);                                                                                  \
        } else if (NAME(packs)(job)) {                                                                                              \
            NAME(kernel##_packed)(job, first, last);                                                                                \
        } else if (job->act == RELU && job->pool == MAX && whole) {                                                                 \
            if (job->norm == AFTER) NAME(kernel##_as)(job, first, last, WHOLE, RELU, AFTER, MAX);                                   \
            else if (job->norm == BEFORE) NAME(kernel##_as)(job, first, last, WHOLE, RELU, BEFORE, MAX);                            \
            else NAME(kernel##_as)(job, first, last, WHOLE, RELU, NONE, MAX);                                                       \
        } else if (job->act == RELU && job->pool == NONE && whole) {                                                                \
            if (job->norm == BEFORE) NAME(kernel##_as)(job, first, last, WHOLE, RELU, BEFORE, NONE);                                \
            else if (job->norm == AFTER) NAME(kernel##_as)(job, first, last, WHOLE, RELU, AFTER, NONE);                             \
            else NAME(kernel##_as)(job, first, last, WHOLE, RELU, NONE, NONE);                                                      \
        } else if (job->act == IDENTITY && job->pool == NONE && job->norm == BEFORE && whole)                                       \
            NAME(kernel##_as)(job, first, last, WHOLE, IDENTITY, BEFORE, NONE);                                                     \
        else if (job->act == RELU && job->pool == MAX && !job->wide) {                                                              \
            if (job->norm == AFTER) NAME(kernel##_as)(job, first, last, 0, RELU, AFTER, MAX);                                       \
            else if (job->norm == BEFORE) NAME(kernel##_as)(job, first, last, 0, RELU, BEFORE, MAX);                                \
            else NAME(kernel##_as)(job, first, last, 0, RELU, NONE, MAX);                                                           \
        } else if (job->act == RELU && job->pool == NONE && !job->wide) {                                                           \
            if (job->norm == BEFORE) NAME(kernel##_as)(job, first, last, 0, RELU, BEFORE, NONE);                                    \
            else NAME(kernel##_as)(job, first, last, 0, RELU, job->norm, NONE);                                                     \
        } else if (job->act == TANH && job->pool == AVERAGE && job->norm == NONE)                                                   \
            job->wide ? NAME(kernel##_as)(job, first, last, 1, TANH, NONE, AVERAGE) : NAME(kernel##_as)(job, first, last, 0, TANH, NONE, AVERAGE); \
        else if (job->wide) NAME(kernel##_as)(job, first, last, 1, job->act, job->norm, job->pool);                                 \
        else NAME(kernel##_as)(job, first, last, 0, job->act, job->norm, job->pool);                                                \
    }
#endif
VARIANTS(forward)
VARIANTS(sums)
VARIANTS(backward)
#undef VARIANTS
#undef HOT

/* Dropout of a flat tensor: `places` runs of `channels` = 1024 elements, so that runs can be shared out among threads. */
static void NAME(dropout)(const struct job *job, int64_t first, int64_t last) {
    for (int64_t at = first * job->channels; at < last * job->channels && at < job->elements; at += LANES) {
        K valid = NAME(inside)(job->elements - at);
        M keep = NAME(draw)(job, at / job->channels, at % job->channels);
        NAME(store)(job->out, at, valid, job->wide, NAME(where)(keep, NAME(load)(job->x, at, valid, job->wide) * job->keep_scale));
    }
}

#include "convolution.h"
#include "places.h"
#include "dense.h"
#if LANES == 8
#include "winograd.h"
#define WINOGRAD , NAME(kernels_at_points), NAME(convolve_tiles), NAME(group_at_points), NAME(add_products), NAME(kernels_from_points), NAME(sum_places)
#else
#define WINOGRAD
#endif

const struct level NAME(level) = {
    LANES, LANES == 16, NAME(moments), NAME(forward), NAME(sums), NAME(backward), NAME(dropout),
    NAME(convolve), NAME(convolve_back), NAME(convolve_places_rows), NAME(convolve_places_back), NAME(combine), NAME(dense), NAME(dense_back) WINOGRAD
};
