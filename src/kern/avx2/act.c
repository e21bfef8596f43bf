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

static void act(const struct kern_act *a, int t, const float *x, int64_t k)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (int64_t kb = 0; kb * KERN_K < k; kb++) {
        size_t row = (size_t)(kb * a->m + t);
        int8_t *q = a->q + row * KERN_K;
        int64_t at = kb * KERN_K;
        int left = k - at > KERN_K ? KERN_K : (int)(k - at);
        float amax[KERN_GROUPS], inv[KERN_GROUPS];
        for (int g = 0; g < KERN_GROUPS; g++) {
            __m256 max = _mm256_setzero_ps();
            for (int i = 32 * g; i < 32 * g + 32; i += 8) /* max stays if x is a NaN */
                max = _mm256_max_ps(_mm256_andnot_ps(sign, load_n(x + at + i, left - i)), max);
            amax[g] = max_lanes(max);
        }
        kern__act_scales(a, row, amax, inv);
        for (int g = 0; g < KERN_GROUPS; g++) {
            __m256 by = _mm256_set1_ps(inv[g]);
            __m256i v[4];
            for (int h = 0; h < 4; h++) {
                int i = 32 * g + 8 * h;
                v[h] = _mm256_cvtps_epi32(_mm256_mul_ps(load_n(x + at + i, left - i), by));
            }
            __m256i b = pack32(v);
            _mm256_store_si256((__m256i *)(q + g * KERN_GROUP), b);
            size_t group =
                row * KERN_GROUPS + (size_t)g; /* totals here: read back they would wait */
            a->total[group] = a->scale[group] * (float)sums16(a->sum + 2 * group, b);
        }
    }
}

void kern__avx2_act(struct kern *k)
{
    k->act = act;
}
