/* Decode: one panel of 32 rows against 1 to 6 tokens, codes unpacked in registers. Bound by reading
 * the weights once (4.5 to 6.6 bits a value at some 12 GB/s a core), so everything here only has to
 * stay below that: a group of 32 rows x 32 columns at 4 bits is 512 bytes, 150 cycles of memory,
 * and costs about 60 operations for one token. Rejected: prefetching 2 KB ahead, which cost 15 %
 * on Zen 4; the hardware's own streams do better. */
#include "simd_int.h"

struct rows {
    const int8_t *q;
    const float *as;
    const int32_t *sum;
};

ALWAYS __m512 dot8(const int quads, const __m512i *w, const int8_t *q, int bias, const int32_t *sum,
                   const float *scale, float as, __m512 acc)
{
    int32_t s = quads == 4 ? sum[0] : sum[0] + sum[1];
    __m512i even = _mm512_set1_epi32(-bias * s), odd = _mm512_setzero_si512();
    UNROLL for (int i = 0; i < quads; i += 2)
    {
        even = _mm512_dpbusd_epi32(even, w[i], quad(q + 4 * i));
        odd = _mm512_dpbusd_epi32(odd, w[i + 1], quad(q + 4 * i + 4));
    }
    __m512 d = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
    return _mm512_fmadd_ps(d, _mm512_mul_ps(_mm512_load_ps(scale), _mm512_set1_ps(as)), acc);
}

ALWAYS void block(const int T, const int bits, const int group, const bool levels,
                  const struct kern_fmt *f, const uint8_t *p, int ng, struct rows x,
                  __m512 acc[][2])
{
    float scale[KERN_K / 16][KERN_ROWS] __attribute__((aligned(64)));
    float min[KERN_K / 16][KERN_ROWS] __attribute__((aligned(64)));
    __m512i table = levels ? level_table(f->levels) : _mm512_setzero_si512();
    const int per = KERN_GROUP / group, bias = levels ? 128 : f->bias;
    scales_of(scale, min, f, p, ng);
    p = codes_of(f, p, ng);
    for (int g = 0; g < ng; g++) UNROLL for (int h = 0; h < 2; h++)
        {
            __m512i w[8];
            codes8(bits, p, w);
            p += 64 * bits;
            if (levels) UNROLL for (int i = 0; i < 8; i++) w[i] = _mm512_shuffle_epi8(table, w[i]);
            UNROLL for (int t = 0; t < T; t++) UNROLL for (int s = 0; s < per; s++) acc[t][h] =
                dot8(8 / per, w + s * 4, x.q + t * KERN_K + g * 32 + s * 16, bias,
                     x.sum + t * 16 + 2 * g + s, scale[g * per + s] + 16 * h,
                     x.as[t * KERN_GROUPS + g], acc[t][h]);
        }
    for (int g = 0; f->mins && g < ng * per; g++) UNROLL for (int t = 0; t < T; t++)
        {
            const int32_t *s = x.sum + t * 16 + g * 2 / per;
            float v = (float)(per == 2 ? s[0] : s[0] + s[1]) * x.as[t * KERN_GROUPS + g / per];
            UNROLL for (int h = 0; h < 2; h++) acc[t][h] =
                _mm512_fmadd_ps(_mm512_load_ps(min[g] + 16 * h), _mm512_set1_ps(v), acc[t][h]);
        }
}

ALWAYS void panel(const int T, const int bits, const int group, const bool levels, float *out,
                  size_t ld, const struct kern_fmt *f, const uint8_t *p, int64_t k,
                  const struct kern_act *a, int t0, bool add)
{
    __m512 acc[6][2];
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++) acc[t][h] =
        add ? _mm512_loadu_ps(out + (size_t)t * ld + 16 * h) : _mm512_setzero_ps();
    for (int64_t at = 0; at < k; at += KERN_K) {
        size_t row = (size_t)(at / KERN_K) * (size_t)a->m + (size_t)t0;
        int ng = k - at >= KERN_K ? KERN_GROUPS : (int)((k - at + KERN_GROUP - 1) / KERN_GROUP);
        block(T, bits, group, levels, f, p, ng,
              (struct rows){a->q + row * KERN_K, a->scale + row * KERN_GROUPS, a->sum + row * 16},
              acc);
        p += kern_block_bytes(f, ng);
    }
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++)
        _mm512_storeu_ps(out + (size_t)t * ld + 16 * h, acc[t][h]);
}

#define FEW(T)                                                                             \
    static void few_##T(float *out, size_t ld, const struct kern_fmt *f, const uint8_t *p, \
                        int64_t k, const struct kern_act *a, int t0, bool add)             \
    {                                                                                      \
        if (f->levels)                                                                     \
            panel(T, 4, 32, true, out, ld, f, p, k, a, t0, add);                           \
        else if (f->bits == 2)                                                             \
            panel(T, 2, 16, false, out, ld, f, p, k, a, t0, add);                          \
        else if (f->bits == 3)                                                             \
            panel(T, 3, 16, false, out, ld, f, p, k, a, t0, add);                          \
        else if (f->bits == 4)                                                             \
            panel(T, 4, 32, false, out, ld, f, p, k, a, t0, add);                          \
        else if (f->bits == 5)                                                             \
            panel(T, 5, 32, false, out, ld, f, p, k, a, t0, add);                          \
        else if (f->bits == 6)                                                             \
            panel(T, 6, 16, false, out, ld, f, p, k, a, t0, add);                          \
        else                                                                               \
            panel(T, 8, 32, false, out, ld, f, p, k, a, t0, add);                          \
    }
FEW(1)
FEW(2)
FEW(3)
FEW(4)
FEW(5)
FEW(6)

static void gemm_few(float *out, size_t ld, const struct kern_fmt *f, const uint8_t *p, int64_t k,
                     const struct kern_act *a, int t0, int n, bool add)
{
    static void (*const by_tokens[])(float *, size_t, const struct kern_fmt *, const uint8_t *,
                                     int64_t, const struct kern_act *, int,
                                     bool) = {few_1, few_2, few_3, few_4, few_5, few_6};
    by_tokens[n - 1](out, ld, f, p, k, a, t0, add);
}

void kern__avx512_few(struct kern *k)
{
    k->gemm_few = gemm_few;
}
