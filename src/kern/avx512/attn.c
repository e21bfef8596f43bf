/* A page of 32 keys against up to 24 query rows (the heads of a group, times queries). Keys lie
 * with the key in the lane, values with the dimension in the lane, pairs of what is summed beside each
 * other, so neither product needs a shuffle. In decode it is bound by reading the page, in prefill by
 * vpdpwssd, at twice the rate of float32; softmax is a third beside it, for which the lanes of 12 rows
 * are summed at once. Rejected: BF16 pairs with vdpbf16ps, the same rate, but 8 bits of mantissa cost
 * accuracy where keys carry large biases; F16 in float32, half the rate and less exact. Pages of 8 bits are
 * widened in registers, a conversion and a multiply for 16 pairs. */
#include "simd_int.h"

#include <math.h>

enum { ROWS = 12 /* at a time at most */ };

/* Into the second cache: the first has not enough lines under way to keep memory busy. */
ALWAYS void fetch(const char *p, int lines)
{
    for (int i = 0; i < lines; i++) _mm_prefetch(p + 64 * i, _MM_HINT_T1);
}

/* Where the parts of a page begin, in bytes. */
ALWAYS size_t scales_at(const bool i8, int d)
{
    return i8 ? kern_page8_scales(d) : kern_page_scales(d);
}
ALWAYS size_t values_at(const bool i8, int d)
{
    return i8 ? kern_page8_values(d) : kern_page_values(d);
}

/* 16 pairs of a page at p; of 8 bits each times one of m. */
ALWAYS __m512i pairs(const bool i8, const char *p, __m512i m)
{
    if (!i8) return _mm512_load_si512(p);
    return _mm512_mullo_epi16(_mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i *)p)), m);
}

/* Multipliers of 16 keys, for both of a pair. */
ALWAYS __m512i for_pairs(const uint8_t *half)
{
    __m512i m = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)half));
    return _mm512_or_si512(_mm512_slli_epi32(m, 1), _mm512_slli_epi32(m, 17));
}

/* Beside them the next page's keys are fetched. */
ALWAYS void scores(const int R, const bool i8, const struct kern_attn *a, int r, __m512i (*s)[2])
{
    enum { PAIRS = KERN_KV_GROUP / 2 };
    const int line = i8 ? 64 : 128; /* bytes of pairs of 32 keys */
    const char *keys = a->page, *next = r == 0 ? a->next : NULL;
    const uint8_t *half = (const uint8_t *)keys + (size_t)a->d * KERN_PAGE;
    const int16_t *q = a->q + 2 * r;
    __m512i acc[ROWS][2], m[2] = {0};
    UNROLL for (int j = 0; j < R; j++) acc[j][0] = acc[j][1] = _mm512_setzero_si512();
    for (int i = 0; i < a->d / 2; i++, keys += line, q += 2 * KERN_ATTN_ROWS) {
        if (next) fetch(next + line * i, line / 64);
        if (i8 && i % PAIRS == 0) {
            UNROLL for (int h = 0; h < 2; h++) m[h] = for_pairs(half + 16 * h);
            half += KERN_PAGE;
        }
        __m512i k0 = pairs(i8, keys, m[0]), k1 = pairs(i8, keys + line / 2, m[1]);
        UNROLL for (int j = 0; j < R; j++)
        {
            __m512i x = pair(q + 2 * j);
            acc[j][0] = add_pairs(acc[j][0], k0, x);
            acc[j][1] = add_pairs(acc[j][1], k1, x);
        }
    }
    UNROLL for (int j = 0; j < R; j++) s[j][0] = acc[j][0], s[j][1] = acc[j][1];
}

/* What the values add: weights w, each row's with a step of its own, what was there before times
 * shrink. Dimensions i .. i + 16 V - 1, pairs of keys from lo to hi; beside them the next page's values
 * are fetched, all of them. */
ALWAYS void some_values(const int R, const int V, const bool i8, const struct kern_attn *a, int r,
                        const int16_t (*w)[KERN_PAGE], const float *step, const float *shrink,
                        int lo, int hi, int i)
{
    const int line = i8 ? 32 : 64; /* bytes of 16 pairs */
    const char *values = (const char *)a->page + values_at(i8, a->d) + line * i / 16;
    const char *next =
        r == 0 && a->next ? (const char *)a->next + values_at(i8, a->d) + line * i : NULL;
    const uint8_t *half = (const uint8_t *)a->page +
                          (size_t)(a->d + kern_kv_groups(a->d) + i / KERN_KV_GROUP) * KERN_PAGE;
    __m512i acc[ROWS][4];
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int k = 0; k < V; k++) acc[j][k] =
        _mm512_setzero_si512();
    for (int p = 0; p < KERN_PAGE / 2; p++) {
        if (next) fetch(next + line * V * p, (line * V + 63) / 64);
        if (p < lo || p >= hi) continue;
        __m512i v[4];
        UNROLL for (int k = 0; k < V; k++)
        {
            const uint8_t *m = half + k * KERN_PAGE + 2 * p;
            __m512i by = i8 ? _mm512_set1_epi32(m[0] << 1 | m[1] << 17) : _mm512_setzero_si512();
            v[k] = pairs(i8, values + line * (p * a->d / 16 + k), by);
        }
        UNROLL for (int j = 0; j < R; j++)
        {
            __m512i x = pair(w[j] + 2 * p);
            UNROLL for (int k = 0; k < V; k++) acc[j][k] = add_pairs(acc[j][k], v[k], x);
        }
    }
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int k = 0; k < V; k++)
    {
        float *out = a->out + (r + j) * a->d + i + 16 * k;
        __m512 was = _mm512_mul_ps(_mm512_loadu_ps(out), _mm512_set1_ps(shrink[j]));
        was = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[j][k]), _mm512_set1_ps(step[j]), was);
        _mm512_storeu_ps(out, was);
    }
}

ALWAYS void values(const int R, const bool i8, const struct kern_attn *a, int r,
                   const int16_t (*w)[KERN_PAGE], const float *step, const float *shrink, int lo,
                   int hi)
{
    const int V = R > 6 ? 2 : 4;
    int i = 0;
    for (; i + 16 * V <= a->d; i += 16 * V) some_values(R, V, i8, a, r, w, step, shrink, lo, hi, i);
    for (; i < a->d; i += 16) some_values(R, 1, i8, a, r, w, step, shrink, lo, hi, i);
}

static __m512 cap16(__m512 s, float cap)
{
    __m512 e = exp16(_mm512_min_ps(_mm512_mul_ps(s, _mm512_set1_ps(2 / cap)), _mm512_set1_ps(80)));
    __m512 one = _mm512_set1_ps(1);
    __m512 tanh = _mm512_div_ps(_mm512_sub_ps(e, one), _mm512_add_ps(e, one));
    return _mm512_mul_ps(tanh, _mm512_set1_ps(cap));
}

ALWAYS __m512 join(const bool max, __m512 a, __m512 b)
{
    return max ? _mm512_max_ps(a, b) : _mm512_add_ps(a, b);
}

/* The largest lane of each of R vectors, or the sum of its lanes: vector j's in lane j. The order of the
 * sum is the same for any R. */
ALWAYS __m512 over_lanes(const int R, const bool max, const __m512 *v)
{
    __m512 four[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
        const int at = 4 * i < R ? 4 * i : 0, last = R - 1;
        __m512 x = v[at], y = v[at + 1 < R ? at + 1 : last];
        __m512 z = v[at + 2 < R ? at + 2 : last], w = v[at + 3 < R ? at + 3 : last];
        x = join(max, _mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
        z = join(max, _mm512_unpacklo_ps(z, w), _mm512_unpackhi_ps(z, w));
        four[i] = join(max, _mm512_shuffle_ps(x, z, 0x44), _mm512_shuffle_ps(x, z, 0xee));
    }
    UNROLL for (int i = 0; i < 4; i += 2) four[i] =
        join(max, _mm512_shuffle_f32x4(four[i], four[i + 1], 0x88),
             _mm512_shuffle_f32x4(four[i], four[i + 1], 0xdd));
    return join(max, _mm512_shuffle_f32x4(four[0], four[2], 0x88),
                _mm512_shuffle_f32x4(four[0], four[2], 0xdd));
}

static uint32_t below(int n)
{
    return n <= 0 ? 0 : n >= 32 ? UINT32_MAX : (1u << n) - 1;
}

/* Scores to weights w; what they weigh, and the factor for what was gathered before. */
ALWAYS void soften(const int R, const bool i8, const struct kern_attn *a, int r, __m512i (*s)[2],
                   int16_t (*w)[KERN_PAGE], float *step, float *shrink)
{
    const float *scale = (const float *)((const char *)a->page + scales_at(i8, a->d));
    const __m512 none = _mm512_set1_ps(-INFINITY);
    const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    const __mmask16 here = first_n(R);
    __m512 v[ROWS][2], all[ROWS], weigh[ROWS];
    __mmask16 m[ROWS][2];
    _Alignas(64) float base[16], by[16];
    UNROLL for (int j = 0; j < R; j++)
    {
        uint32_t seen = below(a->hi[r + j]) & ~below(a->lo[r + j]);
        m[j][0] = (__mmask16)seen, m[j][1] = (__mmask16)(seen >> 16);
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m512 x =
                _mm512_mul_ps(_mm512_load_ps(scale + 16 * h), _mm512_set1_ps(a->q_scale[r + j]));
            x = _mm512_mul_ps(_mm512_cvtepi32_ps(s[j][h]), x);
            if (a->softcap != 0) x = cap16(x, a->softcap);
            v[j][h] = _mm512_mask_mov_ps(none, m[j][h], x);
        }
        all[j] = _mm512_max_ps(v[j][0], v[j][1]);
    }
    __m512 old = _mm512_mask_loadu_ps(none, here, a->max + r);
    __m512 max = _mm512_max_ps(old, over_lanes(R, true, all));
    __mmask16 some = _mm512_cmp_ps_mask(max, none, _CMP_NEQ_UQ);
    _mm512_mask_storeu_ps(a->max + r, here, max);
    max = _mm512_maskz_mov_ps(some, max);
    __m512 keep = exp2_16(_mm512_max_ps(_mm512_sub_ps(old, max), _mm512_set1_ps(-200)));
    _mm512_store_ps(base, max);
    _mm512_store_ps(shrink, keep);
    UNROLL for (int j = 0; j < R; j++)
    {
        UNROLL for (int h = 0; h < 2; h++) v[j][h] =
            _mm512_maskz_mov_ps(m[j][h], exp2_16(_mm512_sub_ps(v[j][h], _mm512_set1_ps(base[j]))));
        all[j] = _mm512_add_ps(v[j][0], v[j][1]);
        UNROLL for (int h = 0; h < 2; h++) v[j][h] =
            _mm512_maskz_mul_ps(m[j][h], v[j][h], _mm512_load_ps(scale + KERN_PAGE + 16 * h));
        weigh[j] = _mm512_add_ps(v[j][0], v[j][1]);
    }
    __m512 sum = _mm512_maskz_loadu_ps(here, a->sum + r);
    sum = _mm512_fmadd_ps(sum, keep, over_lanes(R, false, all));
    _mm512_mask_storeu_ps(a->sum + r, here, sum);
    __m512 total = over_lanes(R, false, weigh);
    some = _mm512_cmp_ps_mask(total, _mm512_set1_ps(KERN__WEIGHTS_LEAST), _CMP_NLT_UQ);
    _mm512_store_ps(by, _mm512_maskz_div_ps(some, _mm512_set1_ps(INT16_MAX), total));
    _mm512_store_ps(step, _mm512_maskz_mul_ps(some, total, _mm512_set1_ps(1.0f / INT16_MAX)));
    UNROLL for (int j = 0; j < R; j++)
    {
        __m512 x = _mm512_set1_ps(by[j]);
        __m512i p = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(v[j][0], x)),
                                       _mm512_cvtps_epi32(_mm512_mul_ps(v[j][1], x)));
        _mm512_store_si512(w[j], _mm512_permutexvar_epi64(order, p));
    }
}

ALWAYS void rows(const int R, const bool i8, const struct kern_attn *a, int r)
{
    int lo, hi;
    __m512i s[ROWS][2];
    _Alignas(64) int16_t w[ROWS][KERN_PAGE];
    _Alignas(64) float step[16], shrink[16];
    if (!kern__pairs_seen(a, r, R, &lo, &hi)) return;
    scores(R, i8, a, r, s);
    if (r == 0 && a->next) {
        size_t from = (size_t)a->d * KERN_PAGE * (i8 ? 1 : 2), end = values_at(i8, a->d);
        fetch((const char *)a->next + from, (int)(end - from) / 64);
    }
    soften(R, i8, a, r, s, w, step, shrink);
    values(R, i8, a, r, w, step, shrink, lo, hi);
}

ALWAYS void all_rows(const bool i8, const struct kern_attn *a)
{
    int r = 0;
    for (; a->m - r >= ROWS; r += ROWS) rows(ROWS, i8, a, r);
    for (; a->m - r >= 8; r += 8) rows(8, i8, a, r);
    for (; a->m - r >= 6; r += 6) rows(6, i8, a, r);
    for (; a->m - r >= 4; r += 4) rows(4, i8, a, r);
    for (; a->m - r >= 3; r += 3) rows(3, i8, a, r);
    for (; a->m - r >= 1; r += 1) rows(1, i8, a, r);
}

static void attn(const struct kern_attn *a)
{
    all_rows(false, a);
}

static void attn_i8(const struct kern_attn *a)
{
    all_rows(true, a);
}

static float to_i16(int16_t *q, const float *x, int d)
{
    const __m512i bits = _mm512_set1_epi32(INT32_MAX);
    __m512i most = _mm512_setzero_si512();
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < d; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(v), bits));
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    __m256 s = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    t = _mm_add_ss(t, _mm_movehdup_ps(t));
    uint32_t top = _mm512_reduce_max_epu32(most);
    float max, scale;
    memcpy(&max, &top, 4);
    scale = kern__vector_scale(max, _mm_cvtss_f32(t));
    const __m512 inv = _mm512_set1_ps(scale == 0 ? 0 : 1 / scale);
    for (int i = 0; i < d; i += 16) {
        __m512i v = rounded(_mm512_loadu_ps(x + i), inv);
        _mm256_storeu_si256((__m256i *)(q + i), _mm512_cvtepi32_epi16(v));
    }
    return scale;
}

void kern__avx512_attn(struct kern *k)
{
    k->to_i16 = to_i16;
    k->attn = attn;
    k->attn_i8 = attn_i8;
}
