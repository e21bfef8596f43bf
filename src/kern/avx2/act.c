/* Activations to int8 with a scale for 32 columns, first the maxima of a block, then its bytes. The same
 * numbers as ref/, bit for bit, also where a value is no number (it becomes 0). */
#include "simd2_int.h"

/* 32 integers to bytes in order; what the conversion could not represent is 0. */
ALWAYS __m256i pack32(const __m256i v[4])
{
    const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    __m256i w[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
        __m256i bad = _mm256_cmpeq_epi32(v[i], _mm256_set1_epi32(INT32_MIN));
        w[i] = _mm256_andnot_si256(bad, v[i]);
    }
    __m256i a = _mm256_packs_epi32(w[0], w[1]), b = _mm256_packs_epi32(w[2], w[3]);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
}

/* psadbw adds 8 unsigned bytes, so of q + 128. Returns the sum of all 32. */
ALWAYS int32_t sums16(int32_t *out /* [2] */, __m256i q)
{
    __m256i s = _mm256_xor_si256(q, _mm256_set1_epi8((char)0x80));
    s = _mm256_sad_epu8(s, _mm256_setzero_si256());
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4e));
    out[0] = _mm256_extract_epi32(s, 0) - 16 * 128;
    out[1] = _mm256_extract_epi32(s, 4) - 16 * 128;
    return out[0] + out[1];
}

/* n > 0 columns of a group, from i on. */
ALWAYS __m256 some8(const float *x, int i, int n)
{
    return n >= KERN_GROUP ? _mm256_loadu_ps(x + i) : load_n(x + i, n - i);
}

static float largest(const float *x, int n)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 max = _mm256_setzero_ps();
    UNROLL for (int i = 0; i < KERN_GROUP; i += 8) /* max stays if x is a NaN */
        max = _mm256_max_ps(_mm256_andnot_ps(sign, some8(x, i, n)), max);
    return max_lanes(max);
}

static void act(const struct kern_act *a, int t, const float *x, int64_t k)
{
    for (int64_t at = 0; at < k; at += KERN_K, x += KERN_K) {
        size_t row = (size_t)(at / KERN_K * a->m + t), group = row * KERN_GROUPS;
        __m256i *q = (__m256i *)(a->q + row * KERN_K);
        int left = k - at > KERN_K ? KERN_K : (int)(k - at);
        float amax[KERN_GROUPS] = {0}, inv[KERN_GROUPS];
        for (int i = 0; i < left; i += KERN_GROUP) amax[i / KERN_GROUP] = largest(x + i, left - i);
        kern__act_scales(a, row, amax, inv);
        for (int g = 0; g < KERN_GROUPS; g++, group++) {
            const float *from = x + KERN_GROUP * g;
            int n = left - KERN_GROUP * g;
            __m256 by = _mm256_set1_ps(inv[g]);
            __m256i v[4] = {0};
            for (int h = 0; n > 0 && h < 4; h++)
                v[h] = _mm256_cvtps_epi32(_mm256_mul_ps(some8(from, 8 * h, n), by));
            __m256i b = pack32(v);
            _mm256_store_si256(q + g, b); /* totals here: read back they would wait */
            kern__act_total(a, row, g, sums16(a->sum + 2 * group, b));
        }
    }
}

void kern__avx2_act(struct kern *k)
{
    k->act = act;
}
