/* Bytes and levels times activations of 16 bits: vpmaddubsw would saturate with bytes, so both sides are
 * widened anyhow, and activations of 16 bits cost no more than int8. 16 rows x 6 tokens at a time (32 x 2);
 * even and odd columns of the bytes are taken apart in registers, the sum starts at what the bias of 128
 * adds. For 8 rows, a token and a group of 32 columns 16 vpmaddwd and 16 vpaddd, which have two ports and
 * four; then a conversion, a multiply of the two scales and a FMA. Rejected, as the multiplies bind:
 * vpsignb and vpmaddubsw for signed bytes (24 of them), either side in halves of 4 bits (18).
 */
#include "simd2_int.h"

enum { TOKENS = 6 };

struct job {
    const struct kern_tile *t;
    const int16_t *q;   /* [tokens][256] */
    const float *scale; /* [tokens][8] */
    const int32_t *sum; /* [tokens][8] */
    float (*sums)[KERN_ROWS];
    int ng;
    const uint8_t *next; /* to be fetched, so many bytes beside 16 rows of a group */
    size_t each;
};

/* Group g of 8 R rows from `row` on. */
ALWAYS void group(const int T, const int R, const struct job *j, int g, int row)
{
    const __m256i even = _mm256_set1_epi16(255);
    const uint8_t *w = j->t->codes + LINE * 8 * g + 4 * row;
    const int16_t *q = j->q + KERN_GROUP * g;
    __m256i d[TOKENS][4];
    UNROLL for (int t = 0; t < T; t++)
    {
        __m256i start = _mm256_set1_epi32(-128 * j->sum[t * KERN_GROUPS + g]);
        UNROLL for (int r = 0; r < R; r++) d[t][r] = start;
    }
    QUADS for (int i = 0; i < 8; i++)
    {
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m256i v[4];
            UNROLL for (int r = 0; r < R; r++)
            {
                v[r] = line(w + LINE * i + 32 * r);
                v[r] = h ? _mm256_srli_epi16(v[r], 8) : _mm256_and_si256(v[r], even);
            }
            UNROLL for (int t = 0; t < T; t++)
            {
                __m256i x = pair(q + t * KERN_K + 4 * i + 2 * h);
                UNROLL for (int r = 0; r < R; r++) d[t][r] =
                    held(_mm256_add_epi32(d[t][r], _mm256_madd_epi16(v[r], x)));
            }
            in_order();
        }
    }
    UNROLL for (int t = 0; t < T; t++)
    {
        __m256 as = _mm256_set1_ps(j->scale[t * KERN_GROUPS + g]);
        UNROLL for (int r = 0; r < R; r++)
        {
            float *sum = j->sums[t] + row + 8 * r;
            __m256 by = _mm256_mul_ps(_mm256_load_ps(j->t->scale[g] + row + 8 * r), as);
            __m256 v = _mm256_cvtepi32_ps(d[t][r]);
            _mm256_store_ps(sum, _mm256_fmadd_ps(v, by, _mm256_load_ps(sum)));
        }
    }
}

ALWAYS void tokens(const int T, const struct job *j)
{
    const int R = T <= 2 ? 4 : 2;
    for (int row = 0; row < KERN_ROWS; row += 8 * R) {
        size_t each = j->each * (R / 2);
        const uint8_t *next = j->next + (size_t)(row / 8 / R * j->ng) * each;
        for (int g = 0; g < j->ng; g++, next += each) {
            fetch(next, each);
            group(T, R, j, g, row);
        }
    }
}

static void gemm_u8_i16(struct kern_out o, const struct kern_tile *t, int ng,
                        const struct kern_act16 *a, int kb, int t0, int n)
{
    _Alignas(32) float sums[TOKENS][KERN_ROWS];
    const uint8_t *last = t->next + t->next_bytes;
    size_t row = (size_t)kb * (size_t)a->m + (size_t)t0, size = sizeof *sums;
    size_t pieces = (size_t)(2 * ng * ((n + TOKENS - 1) / TOKENS));
    struct job j = {.t = t,
                    .sums = sums,
                    .ng = ng,
                    .next = t->next,
                    .each = (t->next_bytes / pieces + 63) / 64 * 64};
    for (int step; n > 0; n -= step, kern_out_skip(&o, step), row += (size_t)step) {
        step = n < TOKENS ? n : TOKENS;
        j.q = a->q + row * KERN_K;
        j.scale = a->scale + row * KERN_GROUPS;
        j.sum = a->sum + row * KERN_GROUPS;
        memset(sums, 0, sizeof sums);
        for (int s = 0; o.from && s < step; s++) memcpy(sums[s], kern_from(&o, s), size);
        switch (step) {
        case 1: tokens(1, &j); break;
        case 2: tokens(2, &j); break;
        case 3: tokens(3, &j); break;
        case 4: tokens(4, &j); break;
        case 5: tokens(5, &j); break;
        default: tokens(6, &j); break;
        }
        for (int s = 0; s < step; s++) memcpy(o.to + (size_t)s * o.ld, sums[s], size);
        j.next += (size_t)(2 * ng) * j.each;
        if (j.next >= last) j.each = 0;
    }
}

void kern__avx2_u8_i16(struct kern *k)
{
    k->u8_i16 = true;
    k->gemm_u8_i16 = gemm_u8_i16;
}
