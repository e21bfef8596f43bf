/* A page of 32 keys against up to 24 query rows (the heads of a group, times queries). Keys lie
 * with the key in the lane, values with the dimension in the lane, pairs of what is summed beside each
 * other, so neither product needs a shuffle. In decode it is bound by reading the page, in prefill by
 * vpmaddwd, 16 products where float32 has 8: 3 rows x 32 keys or 6 rows x 16 dimensions are 12 sums,
 * with 7 or 8 loads a step. */
#include "simd2_int.h"

#include <math.h>

/* Into the second cache: the first has not enough lines under way to keep memory busy. */
ALWAYS void fetch_on(const char *p, int lines)
{
    for (int i = 0; i < lines; i++) _mm_prefetch(p + 64 * i, _MM_HINT_T1);
}

/* Beside them the next page's keys and scales are fetched. */
ALWAYS void scores(const int R, const struct kern_attn *a, int r, __m256i (*s)[4])
{
    const int16_t *keys = a->page, *q = a->q + 2 * r;
    const char *next = r == 0 ? a->next : NULL;
    __m256i acc[3][4];
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int h = 0; h < 4; h++) acc[j][h] =
        _mm256_setzero_si256();
    if (next) fetch_on(next + kern_page_scales(a->d), 2 * KERN_PAGE * sizeof(float) / 64);
    for (int i = 0; i < a->d; i += 2, keys += 2 * KERN_PAGE, q += 2 * KERN_ATTN_ROWS) {
        __m256i x[3];
        if (next) fetch_on(next + 64 * i, 2);
        UNROLL for (int j = 0; j < R; j++) x[j] = pair(q + 2 * j);
        UNROLL for (int h = 0; h < 4; h++)
        {
            __m256i k = line(keys + 16 * h);
            UNROLL for (int j = 0; j < R; j++) acc[j][h] =
                _mm256_add_epi32(acc[j][h], _mm256_madd_epi16(k, x[j]));
        }
    }
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int h = 0; h < 4; h++) s[r + j][h] = acc[j][h];
}

ALWAYS __m256 join(const bool max, __m256 a, __m256 b)
{
    return max ? _mm256_max_ps(a, b) : _mm256_add_ps(a, b);
}

/* The largest lane of each of 8 vectors, or the sum of its lanes: vector j's in lane j. */
ALWAYS __m256 over_lanes(const bool max, const __m256 *v)
{
    __m256 four[2];
    UNROLL for (int i = 0; i < 2; i++, v += 4)
    {
        __m256 x = join(max, _mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
        __m256 z = join(max, _mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
        four[i] = join(max, _mm256_shuffle_ps(x, z, 0x44), _mm256_shuffle_ps(x, z, 0xee));
    }
    return join(max, _mm256_permute2f128_ps(four[0], four[1], 0x20),
                _mm256_permute2f128_ps(four[0], four[1], 0x31));
}

/* Scores s of n rows, at most 8, to weights w; their steps, and the factors for what was gathered before.
 * In passes over the rows, which then do not wait for each other's results. */
static void soften(const struct kern_attn *a, int r, int n, __m256i (*s)[4],
                   int16_t (*w)[KERN_PAGE], float *step, float *shrink)
{
    const float *scale = kern__scales(a);
    const __m256 none = _mm256_set1_ps(-INFINITY);
    const __m256i here = lanes(0, n);
    __m256 v[8][4], all[8] = {none, none, none, none, none, none, none, none}, weigh[8] = {0};
    __m256 in[8][4];
    _Alignas(32) float base[8], by[8];
    for (int j = 0; j < n; j++) UNROLL for (int h = 0; h < 4; h++)
        {
            in[j][h] = _mm256_castsi256_ps(lanes(a->lo[r + j] - 8 * h, a->hi[r + j] - 8 * h));
            __m256 x =
                _mm256_mul_ps(_mm256_load_ps(scale + 8 * h), _mm256_set1_ps(a->q_scale[r + j]));
            x = _mm256_mul_ps(_mm256_cvtepi32_ps(s[j][h]), x);
            if (a->softcap != 0)
                x = _mm256_mul_ps(tanh8(_mm256_div_ps(x, _mm256_set1_ps(a->softcap))),
                                  _mm256_set1_ps(a->softcap));
            v[j][h] = _mm256_blendv_ps(none, x, in[j][h]);
            all[j] = _mm256_max_ps(all[j], v[j][h]);
        }
    __m256 old = _mm256_maskload_ps(a->max + r, here),
           max = _mm256_max_ps(old, over_lanes(true, all));
    _mm256_maskstore_ps(a->max + r, here, max);
    max = _mm256_and_ps(max, _mm256_cmp_ps(max, none, _CMP_NEQ_UQ));
    __m256 keep = exp2_8(_mm256_sub_ps(old, max));
    _mm256_store_ps(base, max);
    _mm256_storeu_ps(shrink, keep);
    for (int j = 0; j < 8; j++) all[j] = _mm256_setzero_ps();
    for (int j = 0; j < n; j++) UNROLL for (int h = 0; h < 4; h++)
        {
            __m256 x = exp2_8(_mm256_sub_ps(v[j][h], _mm256_set1_ps(base[j])));
            all[j] = _mm256_add_ps(all[j], _mm256_and_ps(in[j][h], x));
            x = _mm256_mul_ps(x, _mm256_load_ps(scale + KERN_PAGE + 8 * h));
            v[j][h] = _mm256_and_ps(in[j][h], x);
            weigh[j] = _mm256_add_ps(weigh[j], v[j][h]);
        }
    __m256 sum = _mm256_maskload_ps(a->sum + r, here);
    _mm256_maskstore_ps(a->sum + r, here, _mm256_fmadd_ps(sum, keep, over_lanes(false, all)));
    __m256 total = over_lanes(false, weigh);
    __m256 some = _mm256_cmp_ps(total, _mm256_set1_ps(KERN__WEIGHTS_LEAST), _CMP_NLT_UQ);
    _mm256_store_ps(by, _mm256_and_ps(some, _mm256_div_ps(_mm256_set1_ps(INT16_MAX), total)));
    _mm256_storeu_ps(step,
                     _mm256_and_ps(some, _mm256_mul_ps(total, _mm256_set1_ps(1.0f / INT16_MAX))));
    for (int j = 0; j < n; j++) UNROLL for (int h = 0; h < 4; h += 2)
        {
            __m256i x = _mm256_cvtps_epi32(_mm256_mul_ps(v[j][h], _mm256_set1_ps(by[j])));
            __m256i y = _mm256_cvtps_epi32(_mm256_mul_ps(v[j][h + 1], _mm256_set1_ps(by[j])));
            x = _mm256_permute4x64_epi64(_mm256_packs_epi32(x, y), 0xd8);
            _mm256_store_si256((__m256i *)(w[j] + 8 * h), x);
        }
}

/* What the values add: weights w, each row's with a step of its own, what was there before times
 * shrink. Beside them the next page's values are fetched, all of them. */
ALWAYS void values(const int R, const struct kern_attn *a, int r, const int16_t (*w)[KERN_PAGE],
                   const float *step, const float *shrink)
{
    const char *next = r == 0 && a->next ? (const char *)a->next + kern_page_values(a->d) : NULL;
    int lo, hi;
    if (!kern__pairs_seen(a, r, R, &lo, &hi)) return;
    for (int i = 0; i < a->d; i += 16) {
        __m256i acc[6][2];
        UNROLL for (int j = 0; j < R; j++) acc[j][0] = acc[j][1] = _mm256_setzero_si256();
        for (int p = 0; p < KERN_PAGE / 2; p++) {
            const int16_t *v = kern__values(a) + 2 * (p * a->d + i);
            if (next) fetch_on(next + 64 * (i + p), 1);
            if (p < lo || p >= hi) continue;
            UNROLL for (int j = 0; j < R; j++)
            {
                __m256i x = pair(w[r + j] + 2 * p);
                acc[j][0] = _mm256_add_epi32(acc[j][0], _mm256_madd_epi16(line(v), x));
                acc[j][1] = _mm256_add_epi32(acc[j][1], _mm256_madd_epi16(line(v + 16), x));
            }
        }
        UNROLL for (int j = 0; j < R; j++) UNROLL for (int h = 0; h < 2; h++)
        {
            float *out = a->out + (r + j) * a->d + i + 8 * h;
            __m256 was = _mm256_mul_ps(_mm256_loadu_ps(out), _mm256_set1_ps(shrink[r + j]));
            __m256 more = _mm256_cvtepi32_ps(acc[j][h]);
            _mm256_storeu_ps(out, _mm256_fmadd_ps(more, _mm256_set1_ps(step[r + j]), was));
        }
    }
}

static void attn(const struct kern_attn *a)
{
    __m256i s[KERN_ATTN_ROWS][4];
    _Alignas(32) int16_t w[KERN_ATTN_ROWS][KERN_PAGE];
    float step[KERN_ATTN_ROWS], shrink[KERN_ATTN_ROWS];
    int r = 0;
    for (; a->m - r >= 3; r += 3) scores(3, a, r, s);
    for (; a->m - r >= 1; r += 1) scores(1, a, r, s);
    for (r = 0; r < a->m; r += 8)
        soften(a, r, a->m - r < 8 ? a->m - r : 8, s + r, w + r, step + r, shrink + r);
    r = 0;
    for (; a->m - r >= 6; r += 6) values(6, a, r, w, step, shrink);
    for (; a->m - r >= 3; r += 3) values(3, a, r, w, step, shrink);
    for (; a->m - r >= 1; r += 1) values(1, a, r, w, step, shrink);
}

static float to_i16(int16_t *q, const float *x, int d)
{
    __m256i most = _mm256_setzero_si256();
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < d; i += 16) UNROLL for (int h = 0; h < 2; h++)
        {
            __m256 v = _mm256_loadu_ps(x + i + 8 * h);
            most = _mm256_max_epu32(
                most, _mm256_castps_si256(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), v)));
            sum[h] = _mm256_fmadd_ps(v, v, sum[h]);
        }
    float max = _mm256_cvtss_f32(_mm256_castsi256_ps(max_of_all(most)));
    float scale = kern__vector_scale(max, sum_lanes(_mm256_add_ps(sum[0], sum[1])));
    const __m256 inv = _mm256_set1_ps(scale == 0 ? 0 : 1 / scale);
    for (int i = 0; i < d; i += 16)
        _mm256_storeu_si256((__m256i *)(q + i),
                            low_halves(rounded(_mm256_loadu_ps(x + i), inv),
                                       rounded(_mm256_loadu_ps(x + i + 8), inv)));
    return scale;
}

/* The least even multiplier with which none leaves int8, as in ref/. */
static void to_i8(int8_t *q8, uint8_t *half, const int16_t *q, int d)
{
    for (int i = 0; i < d; i += KERN_KV_GROUP, half++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(q + i)), a = _mm256_abs_epi16(v);
        __m128i most = _mm_max_epu16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        most = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi32(-1))); /* of what they lack */
        int by = (UINT16_MAX - _mm_extract_epi16(most, 0) + 2 * INT8_MAX - 1) / (2 * INT8_MAX);
        const __m256 inv = _mm256_set1_ps(by ? 0.5f / (float)by : 0);
        __m256i n[2];
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m128i x = h ? _mm256_extracti128_si256(v, 1) : _mm256_castsi256_si128(v);
            n[h] = _mm256_cvtps_epi32(
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(x)), inv));
        }
        n[0] = _mm256_permute4x64_epi64(_mm256_packs_epi32(n[0], n[1]), 0xd8);
        _mm_storeu_si128((__m128i *)(q8 + i), _mm_packs_epi16(_mm256_castsi256_si128(n[0]),
                                                              _mm256_extracti128_si256(n[0], 1)));
        *half = (uint8_t)by;
    }
}

/* 8 pairs of bytes, each times one of m. */
ALWAYS void widen(int16_t *to, const int8_t *from, __m256i m)
{
    __m256i v = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)from));
    _mm256_store_si256((__m256i *)to, _mm256_mullo_epi16(v, m));
}

/* Multipliers of 8 keys, for both of a pair. */
ALWAYS __m256i for_pairs(const uint8_t *half)
{
    __m256i m = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)half));
    return _mm256_or_si256(_mm256_slli_epi32(m, 1), _mm256_slli_epi32(m, 17));
}

static void page_i16(void *page, const void *page8, const void *next, int d)
{
    const int8_t *from = page8;
    const uint8_t *half = (const uint8_t *)from + (size_t)d * KERN_PAGE;
    int16_t *to = page;
    if (next) fetch_on(next, (int)((kern_page_bytes(d, KERN_KV_I8) + 63) / 64));
    for (int g = 0; g < d; g += KERN_KV_GROUP, half += KERN_PAGE) {
        __m256i m[4];
        UNROLL for (int h = 0; h < 4; h++) m[h] = for_pairs(half + 8 * h);
        for (int i = 0; i < KERN_KV_GROUP; i += 2, from += 64, to += 64)
            UNROLL for (int h = 0; h < 4; h++) widen(to + 16 * h, from + 16 * h, m[h]);
    }
    kern__copy_scales(page, page8, d);
    from = (const int8_t *)page8 + kern_page8_values(d);
    to = (int16_t *)page + kern_page_values(d) / sizeof *to;
    for (int j = 0; j < KERN_PAGE; j += 2)
        for (int i = 0; i < d; i += 8, from += 16, to += 16) {
            const uint8_t *m = half + i / KERN_KV_GROUP * KERN_PAGE + j;
            widen(to, from, _mm256_set1_epi32(m[0] << 1 | m[1] << 17));
        }
}

void kern__avx2_attn(struct kern *k)
{
    k->to_i16 = to_i16;
    k->to_i8 = to_i8;
    k->page_i16 = page_i16;
    k->attn = attn;
}
