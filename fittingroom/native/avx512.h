/* The case that matters most, by hand: bfloat16, ReLU, 2×2 max-pooling, channels in multiples of 32.
 *
 * lanes.h does the same on 16 floats at a time; here the choice of the largest is made on 32 bfloat16 at once, as integers: for
 * numbers that are not negative (a ReLU's) the order of the bits is the order of the numbers, and of the others the lower 15 bits
 * are turned round first. lanes.h includes this file; each function works on the same blocks and rows as its namesake there.
 */

typedef __m512i words; /* 32 bfloat16 */

INLINE int hot(const struct job *job) { return !job->wide && job->act == RELU && job->pool == MAX && job->channels % 32 == 0; }

INLINE __m512i spread_indices(int half) { /* word 2i + 1 of the result is word 16·half + i: a bfloat16 is the upper half of a float */
    __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_slli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(16 * half)), 16);
}
INLINE __m512 widen(words value, __m512i indices) { return (__m512)_mm512_maskz_permutexvar_epi16(0xAAAAAAAA, indices, value); }
INLINE words narrow(__mmask32 keep, __m512 low, __m512 high) { return (words)_mm512_maskz_cvtne2ps_pbh(keep, high, low); }
INLINE __mmask32 negative(__m512 low, __m512 high) {
    return _mm512_movepi32_mask((__m512i)low) | (__mmask32)_mm512_movepi32_mask((__m512i)high) << 16;
}
/* To integers in the order of the numbers, and back: the same for both. */
INLINE words ordered(words value) {
    return _mm512_xor_si512(value, _mm512_and_si512(_mm512_srai_epi16(value, 15), _mm512_set1_epi16(0x7FFF)));
}
INLINE words sortable(const uint16_t *from, int norm) {
    words value = _mm512_loadu_si512(from);
    if (norm == BEFORE) return ordered(value);
    words result = _mm512_max_epi16(value, _mm512_setzero_si512());
    if (norm == NONE) /* a NaN with the sign bit must not become 0 (with a norm the whole channel is NaN anyway) */
        result = _mm512_mask_mov_epi16(result, _mm512_cmpgt_epu16_mask(value, _mm512_set1_epi16((short)0xFF80)), _mm512_set1_epi16(0x7FC0));
    return result;
}
/* 32 decisions at once; the same as draw() of lanes.h. */
INLINE __mmask32 draw_32(const struct job *job, int64_t place, int64_t channel) {
    __m512i hash = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    hash = _mm512_add_epi32(hash, _mm512_set1_epi32((int)((uint32_t)(place * (job->channels / 2) + channel / 2) + job->key[0])));
    hash = _mm512_xor_si512(hash, _mm512_srli_epi32(hash, 16));
    hash = _mm512_mullo_epi32(hash, _mm512_set1_epi32((int)0x85EBCA6Bu));
    hash = _mm512_xor_si512(hash, _mm512_srli_epi32(hash, 13));
    hash = _mm512_add_epi32(hash, _mm512_set1_epi32((int)job->key[1]));
    hash = _mm512_mullo_epi32(hash, _mm512_set1_epi32((int)0xC2B2AE35u));
    hash = _mm512_xor_si512(hash, _mm512_srli_epi32(hash, 16));
    return _mm512_cmpge_epu16_mask(hash, _mm512_set1_epi16((short)job->threshold));
}

INLINE void forward_hot_as(const struct job *job, int64_t first, int64_t last, int norm, int drop) {
    const int64_t channels = job->channels, below = job->width * channels;
    const __m512i low = spread_indices(0), high = spread_indices(1);
    const __m512 keep_scale = _mm512_set1_ps(drop ? job->keep_scale : 1);
    for (int64_t row = first; row < last; row++) {
        int64_t image = row / job->out_height, y = row % job->out_height;
        const uint16_t *line = (const uint16_t *)job->x + (image * job->height + y * 2) * below;
        for (int64_t x = 0; x < job->out_width; x++)
            for (int64_t c = 0; c < channels; c += 32) {
                const int64_t place = row * job->out_width + x, at = place * channels + c;
                const uint16_t *from = line + x * 2 * channels + c;
                words a = sortable(from, norm), b = sortable(from + channels, norm);
                words d = sortable(from + below, norm), e = sortable(from + below + channels, norm), flip = _mm512_setzero_si512();
                __m512 scale_low, scale_high;
                if (norm) {
                    scale_low = _mm512_loadu_ps(job->scale + c), scale_high = _mm512_loadu_ps(job->scale + c + 16);
                    flip = _mm512_movm_epi16(negative(scale_low, scale_high));
                    a = _mm512_xor_si512(a, flip), b = _mm512_xor_si512(b, flip), d = _mm512_xor_si512(d, flip), e = _mm512_xor_si512(e, flip);
                }
                __mmask32 right = _mm512_cmpgt_epi16_mask(b, a), right_below = _mm512_cmpgt_epi16_mask(e, d), keep = 0xFFFFFFFF;
                a = _mm512_max_epi16(a, b), d = _mm512_max_epi16(d, e);
                __mmask32 lower = _mm512_cmpgt_epi16_mask(d, a), second = (lower & right_below) | (~lower & right);
                words best = _mm512_max_epi16(a, d);
                if (norm) best = _mm512_xor_si512(best, flip);
                if (norm == BEFORE) best = ordered(best);
                if (job->picked) _mm512_storeu_si512((uint16_t *)job->picked + at, best);
                if (drop) keep = draw_32(job, place, c);
                if (norm || drop) {
                    __m512 v = widen(best, low), w = widen(best, high);
                    if (norm) {
                        v = _mm512_fmadd_ps(v, scale_low, _mm512_loadu_ps(job->offset + c));
                        w = _mm512_fmadd_ps(w, scale_high, _mm512_loadu_ps(job->offset + c + 16));
                    }
                    if (norm == BEFORE) v = _mm512_max_ps(_mm512_setzero_ps(), v), w = _mm512_max_ps(_mm512_setzero_ps(), w);
                    if (drop) v = _mm512_mul_ps(v, keep_scale), w = _mm512_mul_ps(w, keep_scale);
                    best = narrow(keep, v, w);
                }
                _mm512_storeu_si512((uint16_t *)job->out + at, best);
                if (job->code) {
                    __m256i code = _mm256_or_si256(_mm256_maskz_set1_epi8(second, 1), _mm256_maskz_set1_epi8(lower, 2));
                    _mm256_storeu_si256((void *)(job->code + at), _mm256_or_si256(code, _mm256_maskz_set1_epi8(keep, 4)));
                }
            }
    }
}

/* Two vectors' sums side by side hide the latency of the additions. */
INLINE void sums_hot_of(const struct job *job, int64_t first, int64_t last, int64_t c, int vectors, float *out, int norm) {
    const __m512i low = spread_indices(0), high = spread_indices(1);
    const int64_t channels = job->channels;
    __m512 mean[4], scale[4], offset[4], sum[4], product[4];
    for (int i = 0; i < 2 * vectors; i++) {
        mean[i] = _mm512_loadu_ps(job->mean + c + 16 * i), scale[i] = _mm512_loadu_ps(job->scale + c + 16 * i);
        offset[i] = _mm512_loadu_ps(job->offset + c + 16 * i), sum[i] = product[i] = _mm512_setzero_ps();
    }
    for (int64_t start = first; start < last; start += 128) {
        int64_t stop = start + 128 < last ? start + 128 : last;
        __m512 s[4], q[4];
        for (int i = 0; i < 2 * vectors; i++) s[i] = q[i] = _mm512_setzero_ps();
        for (int64_t place = start; place < stop; place++)
            for (int k = 0; k < vectors; k++) {
                const int64_t at = place * channels + c + 32 * k;
                words gradient = _mm512_loadu_si512((const uint16_t *)job->grad_out + at), value = _mm512_loadu_si512((const uint16_t *)job->picked + at);
                if (job->threshold) {
                    __m256i code = _mm256_loadu_si256((const void *)(job->code + at));
                    gradient = _mm512_maskz_mov_epi16(_mm256_test_epi8_mask(code, _mm256_set1_epi8(4)), gradient);
                }
                for (int half = 0; half < 2; half++) {
                    const int i = 2 * k + half;
                    __m512 g = widen(gradient, half ? high : low), v = widen(value, half ? high : low);
                    if (norm == BEFORE)
                        g = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_fmadd_ps(v, scale[i], offset[i]), _mm512_setzero_ps(), _CMP_GT_OQ), g);
                    s[i] = _mm512_add_ps(s[i], g);
                    q[i] = _mm512_fmadd_ps(g, _mm512_sub_ps(v, mean[i]), q[i]);
                }
            }
        for (int i = 0; i < 2 * vectors; i++) sum[i] = _mm512_add_ps(sum[i], s[i]), product[i] = _mm512_add_ps(product[i], q[i]);
    }
    const __m512 keep_scale = _mm512_set1_ps(job->threshold ? job->keep_scale : 1);
    for (int i = 0; i < 2 * vectors; i++) {
        _mm512_storeu_ps(out + c + 16 * i, _mm512_mul_ps(sum[i], keep_scale));
        _mm512_storeu_ps(out + channels + c + 16 * i, _mm512_mul_ps(product[i], keep_scale));
    }
}
INLINE void sums_hot_as(const struct job *job, int64_t first_block, int64_t last_block, int norm) {
    const int64_t places = job->batch * job->out_height * job->out_width;
    for (int64_t block = first_block; block < last_block; block++) {
        int64_t first = places * block / job->blocks, last = places * (block + 1) / job->blocks, c = 0;
        float *out = job->partial + block * 2 * job->channels;
        for (; c + 64 <= job->channels; c += 64) sums_hot_of(job, first, last, c, 2, out, norm);
        if (c < job->channels) sums_hot_of(job, first, last, c, 1, out, norm);
    }
}

/* The gradients of a window's four places, for 32 channels: `g` reaches the one that was chosen. */
INLINE void window_hot(const struct job *job, int64_t to, int64_t at, int64_t c, int norm) {
    const int64_t channels = job->channels, below = job->width * channels;
    const __m512i low = spread_indices(0), high = spread_indices(1);
    const __m512 zero = _mm512_setzero_ps();
    __m256i code = _mm256_loadu_si256((const void *)(job->code + at)), position = _mm256_and_si256(code, _mm256_set1_epi8(3));
    __mmask32 keep = 0xFFFFFFFF;
    words gradient = _mm512_loadu_si512((const uint16_t *)job->grad_out + at), value = gradient;
    __m512 g = widen(gradient, low), h = widen(gradient, high), scale_low = zero, scale_high = zero, base_low = zero, base_high = zero, tilt_low = zero, tilt_high = zero;
    if (job->threshold) {
        const __m512 keep_scale = _mm512_set1_ps(job->keep_scale);
        keep = _mm256_test_epi8_mask(code, _mm256_set1_epi8(4));
        g = _mm512_maskz_mul_ps((__mmask16)keep, g, keep_scale), h = _mm512_maskz_mul_ps((__mmask16)(keep >> 16), h, keep_scale);
    }
    if (norm != AFTER) value = _mm512_loadu_si512((const uint16_t *)job->picked + at);
    if (norm) {
        scale_low = _mm512_loadu_ps(job->scale + c), scale_high = _mm512_loadu_ps(job->scale + c + 16);
        base_low = _mm512_loadu_ps(job->base + c), base_high = _mm512_loadu_ps(job->base + c + 16);
        tilt_low = _mm512_loadu_ps(job->tilt + c), tilt_high = _mm512_loadu_ps(job->tilt + c + 16);
        g = _mm512_mul_ps(g, scale_low), h = _mm512_mul_ps(h, scale_high);
    } else gradient = narrow(_mm512_cmpgt_epi16_mask(value, _mm512_setzero_si512()), g, h);
    if (norm == BEFORE) {
        __m512 v = _mm512_fmadd_ps(widen(value, low), scale_low, _mm512_loadu_ps(job->offset + c));
        __m512 w = _mm512_fmadd_ps(widen(value, high), scale_high, _mm512_loadu_ps(job->offset + c + 16));
        g = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, zero, _CMP_GT_OQ), g), h = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(w, zero, _CMP_GT_OQ), h);
    }
    for (int i = 0; i < 4; i++) {
        const int64_t there = to + (i >> 1) * below + (i & 1) * channels;
        __mmask32 here = _mm256_cmpeq_epi8_mask(position, _mm256_set1_epi8((char)i)), alive = 0xFFFFFFFF;
        words result;
        if (norm) {
            words x = _mm512_loadu_si512((const uint16_t *)job->x + there);
            __m512 v = _mm512_fmadd_ps(widen(x, low), tilt_low, base_low), w = _mm512_fmadd_ps(widen(x, high), tilt_high, base_high);
            if (norm == AFTER) alive = _mm512_cmpgt_epi16_mask(x, _mm512_setzero_si512());
            v = _mm512_mask_add_ps(v, (__mmask16)here, v, g), w = _mm512_mask_add_ps(w, (__mmask16)(here >> 16), w, h);
            result = narrow(alive, v, w);
        } else result = _mm512_maskz_mov_epi16(here, gradient);
        _mm512_storeu_si512((uint16_t *)job->grad_x + there, result);
    }
}
INLINE void backward_hot_as(const struct job *job, int64_t first, int64_t last, int norm) {
    const int64_t channels = job->channels, bands = (job->height + 1) / 2;
    for (int64_t band = first; band < last; band++) {
        int64_t image = band / bands, y = band % bands, to = (image * job->height + y * 2) * job->width * channels;
        if (y == job->out_height) {
            NAME(uncovered)(job, to, job->width);
            continue;
        }
        for (int64_t x = 0; x < job->out_width; x++)
            for (int64_t c = 0; c < channels; c += 32)
                window_hot(job, to + x * 2 * channels + c, ((image * job->out_height + y) * job->out_width + x) * channels + c, c, norm);
        if (job->out_width * 2 < job->width)
            for (int i = 0; i < 2; i++) NAME(uncovered)(job, to + ((i + 1) * job->width - 1) * channels, 1);
    }
}

static void NAME(forward_hot)(const struct job *job, int64_t first, int64_t last) {
    const int drop = job->threshold > 0;
    if (job->norm == AFTER) drop ? forward_hot_as(job, first, last, AFTER, 1) : forward_hot_as(job, first, last, AFTER, 0);
    else if (job->norm == BEFORE) drop ? forward_hot_as(job, first, last, BEFORE, 1) : forward_hot_as(job, first, last, BEFORE, 0);
    else drop ? forward_hot_as(job, first, last, NONE, 1) : forward_hot_as(job, first, last, NONE, 0);
}
static void NAME(sums_hot)(const struct job *job, int64_t first, int64_t last) {
    job->norm == AFTER ? sums_hot_as(job, first, last, AFTER) : sums_hot_as(job, first, last, BEFORE);
}
static void NAME(backward_hot)(const struct job *job, int64_t first, int64_t last) {
    if (job->norm == AFTER) backward_hot_as(job, first, last, AFTER);
    else if (job->norm == BEFORE) backward_hot_as(job, first, last, BEFORE);
    else backward_hot_as(job, first, last, NONE);
}
