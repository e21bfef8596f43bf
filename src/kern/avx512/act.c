/* Activations to int8 with a scale for 32 columns. Eight groups at a time: their maxima are reduced
 * together (24 shuffles for what would be 40) and divided in one vector; sums of 16 bytes are psadbw
 * of the bytes + 128, two groups at a time. Nothing is read back before it is stored: where the other
 * core has read the rows before, that waits for its cache. The same numbers as ref/, bit for bit. */
#include "simd_int.h"

enum { VECTORS = KERN_K / 16 };

/* The larger of each lane's pair: 4 values of x and of y in each half. */
ALWAYS __m256 fold(__m256 x, __m256 y)
{
    return _mm256_max_ps(_mm256_shuffle_ps(x, y, 0x88), _mm256_shuffle_ps(x, y, 0xdd));
}

/* Lane g: the largest of |v[2g]| and |v[2g + 1]|. */
ALWAYS __m256 maxima(const __m512 v[VECTORS])
{
    const __m512 sign = _mm512_castsi512_ps(_mm512_set1_epi32(INT32_MAX));
    __m256 m[KERN_GROUPS];
    UNROLL for (int g = 0; g < KERN_GROUPS; g++)
    {
        __m512 x = _mm512_max_ps(_mm512_and_ps(v[2 * g], sign), _mm512_and_ps(v[2 * g + 1], sign));
        m[g] = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    }
    UNROLL for (int g = 0; g < 4; g++) m[g] = fold(m[2 * g], m[2 * g + 1]);
    UNROLL for (int g = 0; g < 2; g++) m[g] = fold(m[2 * g], m[2 * g + 1]);
    /* Each half has the groups 0 1 2 3 in m[0], 4 to 7 in m[1]. */
    return _mm256_max_ps(_mm256_permute2f128_ps(m[0], m[1], 0x20),
                         _mm256_permute2f128_ps(m[0], m[1], 0x31));
}

ALWAYS __m256 largest(__m256 v)
{
    v = _mm256_max_ps(v, _mm256_permute2f128_ps(v, v, 1));
    v = _mm256_max_ps(v, _mm256_shuffle_ps(v, v, 0x4e));
    return _mm256_max_ps(v, _mm256_shuffle_ps(v, v, 0xb1));
}

ALWAYS __m256 power(__m256i halves, bool up)
{
    __m256i one = _mm256_set1_epi32(0x3f800000);
    return _mm256_castsi256_ps(up ? _mm256_add_epi32(one, halves) : _mm256_sub_epi32(one, halves));
}

/* Of the largest of groups here: the part of the whole above it. */
ALWAYS __m256 part_above(__m256 here, __m256 whole, const int steps)
{
    __m256 part = _mm256_set1_ps(1);
    UNROLL for (int i = KERN_PARTS / steps; i < KERN_PARTS; i += KERN_PARTS / steps)
    {
        __m256 less = _mm256_set1_ps(1 - (float)i / 16);
        __mmask8 m = _mm256_cmp_ps_mask(here, _mm256_mul_ps(whole, less), _CMP_LE_OQ);
        part = _mm256_mask_mov_ps(part, m, less);
    }
    return part;
}

/* kern__act_scales. */
ALWAYS void scales(const struct kern_act *a, size_t row, __m256 amax, float *inv)
{
    __m256 most = _mm256_set1_ps(127);
    a->some[row] = _mm256_cmp_ps_mask(amax, _mm256_setzero_ps(), _CMP_NEQ_UQ);
    if (!a->steps) {
        __mmask8 some = _mm256_cmp_ps_mask(amax, _mm256_setzero_ps(), _CMP_GT_OQ);
        _mm256_storeu_ps(inv, _mm256_maskz_div_ps(some, most, amax));
        _mm256_storeu_ps(a->scale + row * KERN_GROUPS, _mm256_div_ps(amax, most));
        return;
    }
    __m256 top = largest(amax);
    __mmask8 some = _mm256_cmp_ps_mask(top, _mm256_set1_ps(KERN__TINY), _CMP_GT_OQ);
    __m256i halves = _mm256_sub_epi32(_mm256_castps_si256(top), _mm256_castps_si256(amax));
    halves = _mm256_min_epu32(_mm256_srli_epi32(halves, 23), _mm256_set1_epi32(KERN__HALVES));
    halves = _mm256_maskz_slli_epi32(some, halves, 23);
    __m256 rest = _mm256_mul_ps(amax, power(halves, true)), part;
    part = a->steps == 2 ? part_above(rest, top, 2) : part_above(rest, top, KERN_PARTS);
    part = _mm256_mask_mov_ps(_mm256_set1_ps(1), some, part);
    __m256 whole = _mm256_maskz_div_ps(some, top, most);
    __m256 by = _mm256_maskz_div_ps(some, most, top);
    a->whole[row] = _mm256_cvtss_f32(whole);
    __m256i *h = (__m256i *)(a->halves + row * 2 * KERN_GROUPS);
    _mm256_storeu_si256(h, halves);
    __m256 off =
        _mm256_mul_ps(_mm256_sub_ps(_mm256_set1_ps(1), part), _mm256_set1_ps(16 * KERN_PART));
    _mm256_storeu_si256(h + 1, _mm256_cvtps_epi32(off));
    __m256 share = _mm256_mul_ps(power(halves, false), part);
    _mm256_storeu_ps(a->share + row * KERN_GROUPS, share);
    _mm256_storeu_ps(a->scale + row * KERN_GROUPS, _mm256_mul_ps(whole, share));
    by = _mm256_mul_ps(by, power(halves, true));
    _mm256_storeu_ps(inv, _mm256_div_ps(by, part));
}

/* 64 numbers of 16 each, in order. */
ALWAYS __m512i bytes(const __m512i v[4])
{
    __m512i b = _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
    return _mm512_permutexvar_epi32(
        _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0), b);
}

/* Of each 16 bytes. */
ALWAYS __m128i sums(__m512i q)
{
    __m512i b = _mm512_xor_si512(q, _mm512_set1_epi8((char)0x80));
    __m256i s = _mm512_cvtepi64_epi32(_mm512_sad_epu8(b, _mm512_setzero_si512()));
    __m128i low = _mm256_castsi256_si128(s), high = _mm256_extracti128_si256(s, 1);
    return _mm_sub_epi32(_mm_hadd_epi32(low, high), _mm_set1_epi32(16 * 128));
}

/* kern__act_total. */
ALWAYS void totals(const struct kern_act *a, size_t row, __m512i s)
{
    __m256i sum = _mm512_cvtepi64_epi32(_mm512_add_epi32(s, _mm512_srli_epi64(s, 32)));
    __m256 by = _mm256_loadu_ps(a->scale + row * KERN_GROUPS);
    if (a->steps == 2) {
        const __m256i *halves = (const __m256i *)(a->halves + row * 2 * KERN_GROUPS);
        __m256i h = _mm256_srli_epi32(_mm256_loadu_si256(halves), 23);
        __mmask8 less =
            _mm256_test_epi32_mask(_mm256_loadu_si256(halves + 1), _mm256_set1_epi32(-1));
        __m256i half = _mm256_srli_epi32(_mm256_sllv_epi32(_mm256_set1_epi32(1), h), 1);
        sum = _mm256_slli_epi32(sum, 2);
        sum = _mm256_add_epi32(_mm256_add_epi32(sum, _mm256_mask_srai_epi32(sum, less, sum, 1)),
                               half);
        sum = _mm256_srav_epi32(sum, h);
        _mm_storeu_si128((__m128i *)(a->low + row * KERN_GROUPS), _mm256_cvtepi32_epi16(sum));
        by = _mm256_set1_ps(a->whole[row] * 0.125f);
    }
    _mm256_storeu_ps(a->total + row * KERN_GROUPS, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), by));
}

static void act(const struct kern_act *a, int t, const float *x, int64_t k)
{
    for (int64_t at = 0; at < k; at += KERN_K) {
        size_t row = (size_t)(at / KERN_K * a->m + t);
        int8_t *q = a->q + row * KERN_K;
        float inv[KERN_GROUPS];
        __m512 v[VECTORS];
        UNROLL for (int i = 0; i < VECTORS; i++)
        {
            int64_t left = k - at - 16 * i;
            v[i] = left >= 16  ? _mm512_loadu_ps(x + at + 16 * i)
                   : left <= 0 ? _mm512_setzero_ps()
                               : _mm512_maskz_loadu_ps(first_n((int)left), x + at + 16 * i);
        }
        scales(a, row, maxima(v), inv);
        __m512i sum = _mm512_setzero_si512();
        UNROLL for (int i = 0; i < 4; i++)
        {
            __m512i n[4];
            UNROLL for (int j = 0; j < 4; j++) n[j] =
                _mm512_cvtps_epi32(_mm512_mul_ps(v[4 * i + j], _mm512_set1_ps(inv[2 * i + j / 2])));
            __m512i b = bytes(n);
            _mm512_store_si512(q + 64 * i, b);
            sum = _mm512_inserti32x4(sum, sums(b), i);
        }
        _mm512_storeu_si512(a->sum + row * 16, sum);
        totals(a, row, sum);
    }
}

void kern__avx512_act(struct kern *k)
{
    k->act = act;
}
