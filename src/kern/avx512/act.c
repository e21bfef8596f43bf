/* Activations to int8 with a scale for 32 columns: two vectors a group, bound by the shuffles of the
 * horizontal maximum. Sums of 16 bytes are psadbw of the bytes + 128, two operations instead of a
 * reduction. The same numbers as ref/, bit for bit. */
#include "simd_int.h"

static void act(const struct kern_act *a, int t, const float *x, int64_t k)
{
    const __m512 sign = _mm512_castsi512_ps(_mm512_set1_epi32(INT32_MAX));
    for (int64_t kb = 0; kb * KERN_K < k; kb++) {
        size_t row = (size_t)(kb * a->m + t);
        int8_t *q = a->q + row * KERN_K;
        for (int g = 0; g < KERN_GROUPS; g++) {
            int64_t at = kb * KERN_K + g * KERN_GROUP;
            int left = at >= k ? 0 : k - at > KERN_GROUP ? KERN_GROUP : (int)(k - at);
            __m512 v[2], m[2];
            for (int h = 0; h < 2; h++) {
                int n = left - 16 * h;
                v[h] = _mm512_maskz_loadu_ps(n > 0 ? first_n(n) : 0, x + at + 16 * h);
                m[h] = _mm512_and_ps(v[h], sign);
            }
            float amax = _mm512_reduce_max_ps(_mm512_max_ps(m[0], m[1]));
            float inv = amax > 0 ? 127.0f / amax : 0;
            for (int h = 0; h < 2; h++) {
                __m512i i = _mm512_cvtps_epi32(_mm512_mul_ps(v[h], _mm512_set1_ps(inv)));
                __m128i b = _mm512_cvtepi32_epi8(i);
                _mm_store_si128((__m128i *)(q + g * KERN_GROUP + 16 * h), b);
                b = _mm_sad_epu8(_mm_xor_si128(b, _mm_set1_epi8((char)0x80)), _mm_setzero_si128());
                a->sum[row * 16 + 2 * (size_t)g + (size_t)h] =
                    _mm_cvtsi128_si32(b) + _mm_extract_epi32(b, 2) - 16 * 128;
            }
            a->scale[row * KERN_GROUPS + (size_t)g] = amax / 127.0f;
        }
    }
}

void kern__avx512_act(struct kern *k)
{
    k->act = act;
}
