/* 32 rows of weights that were F16 or BF16, in 16-bit integers, 16 rows x 4 tokens at a time. Bound by
 * the vector ports: for 8 rows, a token and a group of 32 columns 16 vpmaddwd and 16 vpaddd, then a
 * conversion and a FMA, where float32 costs 32 FMA on half the ports. What it costs in accuracy stands
 * in avx512/i16.c, which has the same numbers. */
#include "simd2_int.h"

enum { TOKENS = 4, COLUMN = 2 * KERN_ROWS };

/* Largest magnitudes to what rounds their rows, and to their scales. */
ALWAYS __m256 scale8(__m256 max, int largest, __m256 *inv)
{
    const __m256 most = _mm256_set1_ps((float)largest);
    __m256 some = _mm256_cmp_ps(max, _mm256_set1_ps(KERN_I16_LEAST), _CMP_NLT_UQ);
    *inv = _mm256_and_ps(some, _mm256_div_ps(most, max));
    return _mm256_and_ps(some, _mm256_div_ps(max, most));
}

ALWAYS __m256 half8(const bool f16, __m128i h)
{
    if (f16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

ALWAYS __m256i codes_of(const bool f16, const uint8_t *p, __m256 inv)
{
    return rounded(half8(f16, _mm_load_si128((const __m128i *)p)), inv);
}

ALWAYS void unpack(const bool f16, struct kern_tile16 *t, const uint8_t *p, int k)
{
    const __m256i bits = _mm256_set1_epi16(INT16_MAX);
    __m256i max[2] = {0};
    __m256 inv[4];
    for (int i = 0; i < k; i++)
        UNROLL for (int h = 0; h < 2; h++) max[h] =
            _mm256_max_epu16(max[h], _mm256_and_si256(line(p + i * COLUMN + 32 * h), bits));
    UNROLL for (int r = 0; r < 4; r++)
    {
        __m128i half =
            r % 2 ? _mm256_extracti128_si256(max[r / 2], 1) : _mm256_castsi256_si128(max[r / 2]);
        _mm256_store_ps(t->scale + 8 * r, scale8(half8(f16, half), KERN_I16_MAX, &inv[r]));
    }
    for (int i = 0; i < k; i += 2, p += 2 * COLUMN) {
        fetch(p + k * COLUMN, 2 * COLUMN);
        UNROLL for (int r = 0; r < 4; r++)
        {
            __m256i a = codes_of(f16, p + 16 * r, inv[r]);
            __m256i b = codes_of(f16, p + COLUMN + 16 * r, inv[r]);
            a = _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa);
            _mm256_store_si256((__m256i *)t->code[i / 2][8 * r], a);
        }
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

ALWAYS int32_t sum_of_lanes(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* With `u8` as they are wanted before bytes. */
ALWAYS void act(const bool u8, const struct kern_act16 *a, int t, const float *x, int64_t k)
{
    const __m256i quads = _mm256_broadcastsi128_si256(
        _mm_set_epi8(15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0));
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (int64_t at = 0; at < k; at += KERN_GROUP) {
        size_t row = (size_t)(at / KERN_K * a->m + t), in = (size_t)(at % KERN_K);
        int n = k - at < KERN_GROUP ? (int)(k - at) : KERN_GROUP;
        __m256i max = _mm256_setzero_si256(), *q = (__m256i *)(a->q + row * KERN_K + in);
        __m256 v[4], inv;
        UNROLL for (int i = 0; i < 4; i++)
        {
            v[i] = load_n(x + at + 8 * i, n - 8 * i);
            max = _mm256_max_epu32(max, _mm256_castps_si256(_mm256_andnot_ps(sign, v[i])));
        }
        __m256 scale =
            scale8(_mm256_castsi256_ps(max_of_all(max)), u8 ? KERN_I16_U8_MAX : KERN_I16_MAX, &inv);
        __m256i sum = _mm256_setzero_si256();
        UNROLL for (int i = 0; i < 2; i++)
        {
            __m256i y = low_halves(rounded(v[2 * i], inv), rounded(v[2 * i + 1], inv));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(y, _mm256_set1_epi16(1)));
            _mm256_store_si256(q + i, u8 ? _mm256_shuffle_epi8(y, quads) : y);
        }
        a->scale[row * KERN_GROUPS + in / KERN_GROUP] = _mm256_cvtss_f32(scale);
        if (u8) a->sum[row * KERN_GROUPS + in / KERN_GROUP] = sum_of_lanes(sum);
    }
}

static void act_i16(const struct kern_act16 *a, int t, const float *x, int64_t k)
{
    act(false, a, t, x, k);
}

static void act_u8_i16(const struct kern_act16 *a, int t, const float *x, int64_t k)
{
    act(true, a, t, x, k);
}

/* Adds to acc the products of a group for 16 rows from r on. */
ALWAYS void group(const int T, const struct kern_tile16 *t, int g, int r, const int16_t *q,
                  const float *as, __m256 acc[][2])
{
    const int32_t(*w)[KERN_ROWS] =
        (const int32_t(*)[KERN_ROWS])(const void *)t->code[g * KERN_GROUP / 2];
    __m256i d[TOKENS][2];
    q += g * KERN_GROUP;
    UNROLL for (int i = 0; i < T; i++) d[i][0] = d[i][1] = _mm256_setzero_si256();
    ROLLED for (int k = 0; k < KERN_GROUP; k += 4, q += 4, w += 2)
    {
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m256i w0 = line(w[h] + r), w1 = line(w[h] + r + 8);
            UNROLL for (int i = 0; i < T; i++)
            {
                __m256i x = pair(q + i * KERN_K + 2 * h);
                d[i][0] = held(_mm256_add_epi32(d[i][0], _mm256_madd_epi16(w0, x)));
                d[i][1] = held(_mm256_add_epi32(d[i][1], _mm256_madd_epi16(w1, x)));
            }
        }
    }
    UNROLL for (int i = 0; i < T; i++) UNROLL for (int h = 0; h < 2; h++) acc[i][h] =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(d[i][h]), _mm256_set1_ps(as[i * KERN_GROUPS + g]),
                        acc[i][h]);
}

ALWAYS void tokens(const int T, const struct kern_out *o, const struct kern_tile16 *t, int ng,
                   const int16_t *q, const float *as)
{
    for (int r = 0; r < KERN_ROWS; r += 16) {
        __m256 acc[TOKENS][2] = {0};
        for (int g = 0; g < ng; g++) group(T, t, g, r, q, as, acc);
        UNROLL for (int i = 0; i < T; i++) UNROLL for (int h = 0; h < 2; h++)
        {
            const float *from = kern_from(o, i);
            __m256 was = from ? _mm256_loadu_ps(from + r + 8 * h) : _mm256_setzero_ps();
            was = _mm256_fmadd_ps(acc[i][h], _mm256_load_ps(t->scale + r + 8 * h), was);
            _mm256_storeu_ps(o->to + (size_t)i * o->ld + r + 8 * h, was);
        }
    }
}

static void gemm_i16(struct kern_out o, const struct kern_tile16 *t, int ng,
                     const struct kern_act16 *a, int kb, int t0, int n)
{
    size_t row = (size_t)kb * (size_t)a->m + (size_t)t0;
    const int16_t *q = a->q + row * KERN_K;
    const float *as = a->scale + row * KERN_GROUPS;
    for (; n > 0; n -= 4, kern_out_skip(&o, 4), q += 4 * KERN_K, as += 4 * KERN_GROUPS) switch (n) {
        case 1: tokens(1, &o, t, ng, q, as); break;
        case 2: tokens(2, &o, t, ng, q, as); break;
        case 3: tokens(3, &o, t, ng, q, as); break;
        default: tokens(4, &o, t, ng, q, as); break;
        }
}

void kern__avx2_i16(struct kern *k)
{
    k->i16 = true;
    k->act_i16 = act_i16;
    k->act_u8_i16 = act_u8_i16;
    k->unpack_i16 = unpack_i16;
    k->gemm_i16 = gemm_i16;
}
