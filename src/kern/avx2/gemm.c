/* 32 rows from an unpacked tile, 16 rows x 4 tokens at a time. A lane is a row, weights are the
 * unsigned operand of vpmaddubsw, so no shuffle and no horizontal sum; its pairs are added up in 16
 * bits as far as they fit, then one vpmaddwd widens them. Bound by the vector ports: for 8 rows, a
 * token and 32 columns of 4 bits 8 vpmaddubsw, 7 vpaddw, vpmaddwd, the bias, conversion, multiply
 * and FMA, so 20 operations where the probe has 17. Sums stay in `out`, which leaves the 16
 * registers to 8 sums of 16 bits.
 *
 * How many products fit: 4 bits 8 * 2 * 15 * 127 < 2^15, 5 bits 4 * 2 * 31 * 127, 6 bits
 * 2 * 2 * 63 * 127. Bytes do not fit at all (vpmaddubsw saturates), so there the activations are
 * split, x = 16 h + l with |h|, |l| <= 8: 8 * 2 * 255 * 8 < 2^15 again, the two halves take the
 * places of two tokens, and the vpmaddwd of h multiplies by 16.
 */
#include "simd2_int.h"

enum { TOKENS = 4 };

/* What a group adds beside its products. */
struct side {
    float scale[KERN_K / 16], min[KERN_K / 16]; /* of the activations; times their sum */
    int32_t start[KERN_K / 16];                 /* -bias * sum */
};

struct job {
    float *out;
    size_t ld;
    const struct kern_tile *t;
    const int8_t *q; /* [tokens][256], when split [tokens][2][256] */
    const struct side *side;
    int groups;
    bool mins;
};

/* d[l][r] = products of group g for 8 rows from 8 (c + r) on and the activations of row l. */
ALWAYS void dots(const int L, const int R, const int quads, const int fold, const bool split,
                 const struct job *j, int g, int c, __m256i d[][4])
{
    const __m256i ones = _mm256_set1_epi16(1), sixteens = _mm256_set1_epi16(16);
    UNROLL for (int f = 0; f < quads; f += fold)
    {
        __m256i acc[TOKENS][4], w[4];
        UNROLL for (int i = f; i < f + fold; i++)
        {
            int k = g * quads + i;
            UNROLL for (int r = 0; r < R; r++) w[r] = line(j->t->code[k][8 * (c + r)]);
            UNROLL for (int l = 0; l < L; l++)
            {
                __m256i x = quad(j->q + l * KERN_K + 4 * k);
                UNROLL for (int r = 0; r < R; r++)
                {
                    __m256i p = _mm256_maddubs_epi16(w[r], x);
                    acc[l][r] = held(i == f ? p : _mm256_add_epi16(acc[l][r], p));
                }
            }
        }
        UNROLL for (int l = 0; l < L; l++) UNROLL for (int r = 0; r < R; r++)
        {
            __m256i p = _mm256_madd_epi16(acc[l][r], split && l % 2 ? sixteens : ones);
            d[l][r] = f ? _mm256_add_epi32(d[l][r], p) : p;
        }
    }
}

ALWAYS void group(const int T, const int R, const int quads, const int fold, const bool split,
                  const bool mins, const struct job *j, int g, int c)
{
    __m256i d[TOKENS][4];
    dots(split ? 2 * T : T, R, quads, fold, split, j, g, c, d);
    UNROLL for (int r = 0; r < R; r++)
    {
        int row = 8 * (c + r);
        __m256 ws = _mm256_load_ps(j->t->scale[g] + row), wm = ws;
        if (mins) wm = _mm256_load_ps(j->t->min[g] + row);
        UNROLL for (int t = 0; t < T; t++)
        {
            const struct side *s = j->side + t;
            float *out = j->out + (size_t)t * j->ld + row;
            __m256i v = split ? _mm256_add_epi32(d[2 * t][r], d[2 * t + 1][r]) : d[t][r];
            if (!mins) v = _mm256_add_epi32(v, _mm256_set1_epi32(s->start[g]));
            __m256 sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(v),
                                         _mm256_mul_ps(ws, _mm256_set1_ps(s->scale[g])),
                                         _mm256_loadu_ps(out));
            if (mins) sum = _mm256_fmadd_ps(wm, _mm256_set1_ps(s->min[g]), sum);
            _mm256_storeu_ps(out, sum);
        }
    }
}

ALWAYS void tokens(const int T, const int quads, const int fold, const bool split,
                   const struct job *j)
{
    const int R = T * (split ? 2 : 1) <= 2 ? 4 : 2;
    for (int c = 0; c < KERN_ROWS / 8; c += R) {
        if (j->mins)
            for (int g = 0; g < j->groups; g++) group(T, R, quads, fold, split, true, j, g, c);
        else
            for (int g = 0; g < j->groups; g++) group(T, R, quads, fold, split, false, j, g, c);
    }
}

ALWAYS void some_tokens(const int quads, const int fold, const bool split, const struct job *j,
                        int n)
{
    switch (n) {
    case 1: tokens(1, quads, fold, split, j); break;
    case 2: tokens(2, quads, fold, split, j); break;
    case 3:
        if (!split) tokens(3, quads, fold, split, j);
        break;
    default:
        if (!split) tokens(4, quads, fold, split, j);
        break;
    }
}

/* x = 16 h + l with -8 <= l < 8: l [256], then h [256]. */
static void split_row(int8_t *out, const int8_t *q)
{
    const __m256i low = _mm256_set1_epi8(15), eight = _mm256_set1_epi8(8);
    for (int i = 0; i < KERN_K; i += 32) {
        __m256i x = line(q + i);
        __m256i l = _mm256_xor_si256(_mm256_and_si256(x, low), eight);
        __m256i h = _mm256_xor_si256(_mm256_and_si256(_mm256_srli_epi16(x, 4), low), eight);
        l = _mm256_sub_epi8(l, eight);
        h = _mm256_sub_epi8(_mm256_sub_epi8(h, eight),
                            _mm256_cmpgt_epi8(_mm256_setzero_si256(), l));
        _mm256_store_si256((__m256i *)(out + i), l);
        _mm256_store_si256((__m256i *)(out + KERN_K + i), h);
    }
}

static void fill_side(struct side *s, const struct kern_fmt *f, const float *as, const int32_t *sum)
{
    int bias = f->levels ? 128 : f->bias, per = f->group / 16;
    for (int g = 0; g < KERN_K / f->group; g++) {
        int32_t v = per == 1 ? sum[g] : sum[2 * g] + sum[2 * g + 1];
        s->scale[g] = as[per == 1 ? g / 2 : g];
        s->start[g] = -bias * v;
        s->min[g] = (float)v * s->scale[g];
    }
}

static void gemm_u8(float *out, size_t ld, const struct kern_tile *t, const struct kern_fmt *f,
                    int ng, const struct kern_act *a, int kb, int t0, int n, bool add)
{
    struct side side[TOKENS];
    _Alignas(64) int8_t halves[TOKENS][KERN_K];
    const bool split = f->levels || f->bits == 8;
    int most = split ? TOKENS / 2 : TOKENS, step;
    for (int i = 0; i < n; i += step, out += (size_t)step * ld) {
        size_t row = (size_t)kb * (size_t)a->m + (size_t)(t0 + i);
        const int8_t *q = a->q + row * KERN_K;
        struct job j = {out,    ld, t, split ? halves[0] : q, side, ng * KERN_GROUP / f->group,
                        f->mins};
        step = n - i < most ? n - i : most;
        for (int s = 0; s < step; s++, row++) {
            if (!add) memset(out + (size_t)s * ld, 0, KERN_ROWS * sizeof *out);
            if (split) split_row(halves[2 * s], q + s * KERN_K);
            fill_side(&side[s], f, a->scale + row * KERN_GROUPS, a->sum + row * 16);
        }
        if (split)
            some_tokens(8, 8, true, &j, step);
        else if (f->group == 16 && f->bits > 4)
            some_tokens(4, 2, false, &j, step);
        else if (f->group == 16)
            some_tokens(4, 4, false, &j, step);
        else if (f->bits > 4)
            some_tokens(8, 4, false, &j, step);
        else
            some_tokens(8, 8, false, &j, step);
    }
}

ALWAYS void f32_tokens(const int T, float *out, size_t ld, const float *w, int k, const float *x,
                       size_t ldx, bool add)
{
    __m256 acc[3][4];
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int r = 0; r < 4; r++) acc[t][r] =
        add ? _mm256_loadu_ps(out + (size_t)t * ld + 8 * r) : _mm256_setzero_ps();
    for (int i = 0; i < k; i++) {
        __m256 v[3];
        UNROLL for (int t = 0; t < T; t++) v[t] = _mm256_set1_ps(x[(size_t)t * ldx + (size_t)i]);
        UNROLL for (int r = 0; r < 4; r++)
        {
            __m256 row = _mm256_load_ps(w + i * KERN_ROWS + 8 * r);
            UNROLL for (int t = 0; t < T; t++) acc[t][r] = _mm256_fmadd_ps(row, v[t], acc[t][r]);
        }
    }
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int r = 0; r < 4; r++)
        _mm256_storeu_ps(out + (size_t)t * ld + 8 * r, acc[t][r]);
}

static void gemm_f32(float *out, size_t ld, const float *w, int k, const float *x, size_t ldx,
                     int n, bool add)
{
    for (; n >= 3; n -= 3, out += 3 * ld, x += 3 * ldx) f32_tokens(3, out, ld, w, k, x, ldx, add);
    if (n == 2) f32_tokens(2, out, ld, w, k, x, ldx, add);
    if (n == 1) f32_tokens(1, out, ld, w, k, x, ldx, add);
}

void kern__avx2_gemm(struct kern *k)
{
    k->gemm_u8 = gemm_u8;
    k->gemm_f32 = gemm_f32;
}
