/* 32 rows x 6 tokens of weights that were F16 or BF16, in 16-bit integers. Bound by the multiply port:
 * a group of 32 columns costs a token and half 16 vpdpwssd and 1 FMA, where float32 costs 32 FMA. A
 * block is rounded once for all tokens: some 10 operations a 64 bytes, so that reading still binds decode.
 * Rejected: vdpbf16ps, 10 % faster over the whole of an encoder, but with both sides in BF16 the vectors
 * of MiniLM are 1.4e-5 from float32 (1 - cosine), with 14 bits 3e-7, which is what rounding the weights
 * to F16 took. Of simulations of 18 short texts: one scale for 256 columns on both sides, for which
 * only 12 and 13 bits fit the sum, 3e-6; weights with one for 32 too, a multiply a group more, 1.1e-7
 * where this is 1.6e-7. */
#include "simd_int.h"

/* Largest magnitudes to what rounds their rows, and to their scales. */
ALWAYS __m512 scale16(__m512 max, __m512 *inv)
{
    const __m512 most = _mm512_set1_ps(KERN_I16_MAX);
    __mmask16 some = _mm512_cmp_ps_mask(max, _mm512_set1_ps(KERN_I16_LEAST), _CMP_NLT_UQ);
    *inv = _mm512_maskz_div_ps(some, most, max);
    return _mm512_maskz_div_ps(some, max, most);
}

ALWAYS __m512 half16(const bool f16, __m256i h)
{
    if (f16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

ALWAYS __m512 load_half(const bool f16, const uint8_t *p)
{
    return half16(f16, _mm256_load_si256((const __m256i *)p));
}

ALWAYS void unpack(const bool f16, struct kern_tile16 *t, const uint8_t *p, int k)
{
    enum { COLUMN = 2 * KERN_ROWS };
    __m512i max[2] = {0};
    __m512 inv[2];
    for (int i = 0; i < k; i += 2)
        UNROLL for (int j = 0; j < 2; j++) max[j] = _mm512_max_epu16(
            max[j], _mm512_and_si512(line(p + (i + j) * COLUMN), _mm512_set1_epi16(INT16_MAX)));
    max[0] = _mm512_max_epu16(max[0], max[1]);
    _mm512_store_ps(t->scale, scale16(half16(f16, _mm512_castsi512_si256(max[0])), &inv[0]));
    _mm512_store_ps(t->scale + 16,
                    scale16(half16(f16, _mm512_extracti64x4_epi64(max[0], 1)), &inv[1]));
    for (int i = 0; i < k; i += 2, p += 2 * COLUMN) UNROLL for (int h = 0; h < 2; h++)
        {
            __m512i a = rounded(load_half(f16, p + 32 * h), inv[h]);
            __m512i b = rounded(load_half(f16, p + COLUMN + 32 * h), inv[h]);
            a = _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16));
            _mm512_store_si512(t->code[i / 2][16 * h], a);
        }
}

static void unpack_i16(struct kern_tile16 *t, const struct kern_fmt *f, const uint8_t *block,
                       int ng)
{
    if (f->f == KERN_F16)
        unpack(true, t, block, ng * KERN_GROUP);
    else
        unpack(false, t, block, ng * KERN_GROUP);
}

static void act_i16(const struct kern_act16 *a, int t, const float *x, int64_t k)
{
    const __m512i bits = _mm512_set1_epi32(INT32_MAX);
    for (int64_t at = 0; at < k; at += KERN_GROUP) {
        size_t row = (size_t)(at / KERN_K * a->m + t), in = (size_t)(at % KERN_K);
        int n = k - at < KERN_GROUP ? (int)(k - at) : KERN_GROUP;
        __m512 v = _mm512_maskz_loadu_ps(first_n(n), x + at), inv;
        __m512 w = _mm512_maskz_loadu_ps(n > 16 ? first_n(n - 16) : 0, x + at + 16);
        __m512i max = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v), bits),
                                       _mm512_and_si512(_mm512_castps_si512(w), bits));
        max = _mm512_set1_epi32((int)_mm512_reduce_max_epu32(max));
        __m512 scale = scale16(_mm512_castsi512_ps(max), &inv);
        __m256i *q = (__m256i *)(a->q + row * KERN_K + in);
        _mm256_store_si256(q, _mm512_cvtepi32_epi16(rounded(v, inv)));
        _mm256_store_si256(q + 1, _mm512_cvtepi32_epi16(rounded(w, inv)));
        a->scale[row * KERN_GROUPS + in / KERN_GROUP] = _mm512_cvtss_f32(scale);
    }
}

ALWAYS void group(const int T, const struct kern_tile16 *t, int g, const int16_t *q,
                  const float *as, __m512 acc[][2])
{
    __m512i dot[6][2];
    UNROLL for (int i = 0; i < T; i++) dot[i][0] = dot[i][1] = _mm512_setzero_si512();
    UNROLL for (int k = 0; k < KERN_GROUP; k += 2)
    {
        __m512i w0 = _mm512_load_si512(t->code[g * KERN_GROUP / 2 + k / 2][0]);
        __m512i w1 = _mm512_load_si512(t->code[g * KERN_GROUP / 2 + k / 2][16]);
        UNROLL for (int i = 0; i < T; i++)
        {
            __m512i x = pair(q + i * KERN_K + g * KERN_GROUP + k);
            dot[i][0] = _mm512_dpwssd_epi32(dot[i][0], w0, x);
            dot[i][1] = _mm512_dpwssd_epi32(dot[i][1], w1, x);
        }
    }
    UNROLL for (int i = 0; i < T; i++) UNROLL for (int h = 0; h < 2; h++) acc[i][h] =
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[i][h]), _mm512_set1_ps(as[i * KERN_GROUPS + g]),
                        acc[i][h]);
}

ALWAYS void tokens(const int T, const struct kern_out *o, const struct kern_tile16 *t, int ng,
                   const int16_t *q, const float *as)
{
    __m512 acc[6][2] = {0};
    for (int g = 0; g < ng; g++) group(T, t, g, q, as, acc);
    UNROLL for (int i = 0; i < T; i++) UNROLL for (int h = 0; h < 2; h++)
    {
        const float *from = kern_from(o, i);
        __m512 was = from ? _mm512_loadu_ps(from + 16 * h) : _mm512_setzero_ps();
        was = _mm512_fmadd_ps(acc[i][h], _mm512_load_ps(t->scale + 16 * h), was);
        _mm512_storeu_ps(o->to + (size_t)i * o->ld + 16 * h, was);
    }
}

static void gemm_i16(struct kern_out o, const struct kern_tile16 *t, int ng,
                     const struct kern_act16 *a, int kb, int t0, int n)
{
    size_t row = (size_t)kb * (size_t)a->m + (size_t)t0;
    const int16_t *q = a->q + row * KERN_K;
    const float *as = a->scale + row * KERN_GROUPS;
    for (; n > 0; n -= 6, kern_out_skip(&o, 6), q += 6 * KERN_K, as += 6 * KERN_GROUPS) switch (n) {
        case 1: tokens(1, &o, t, ng, q, as); break;
        case 2: tokens(2, &o, t, ng, q, as); break;
        case 3: tokens(3, &o, t, ng, q, as); break;
        case 4: tokens(4, &o, t, ng, q, as); break;
        case 5: tokens(5, &o, t, ng, q, as); break;
        default: tokens(6, &o, t, ng, q, as); break;
        }
}

void kern__avx512_i16(struct kern *k)
{
    k->i16 = true;
    k->act_i16 = act_i16;
    k->unpack_i16 = unpack_i16;
    k->gemm_i16 = gemm_i16;
}
