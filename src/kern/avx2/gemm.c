/* 32 rows from an unpacked tile, 16 rows x 4 or 6 tokens at a time. A lane is a row, weights are the
 * unsigned operand of vpmaddubsw, so no shuffle and no horizontal sum; the products of a group are
 * added up in 16 bits, then one vpmaddwd widens them, and multiplies by the integer scales of
 * KERN_SCALE_K on the way: what the rows' own scale is, and the minimums, comes once a block then. Bound
 * by the vector ports: for 8 rows, a token and 32 columns of 4 bits 8 vpmaddubsw, 8 vpaddw, vpmaddwd,
 * conversion and FMA, with scales of floats a multiply and the bias or minimum, so 20 or 21 operations
 * where the probe has 17. Float sums stay in memory, which leaves the 16 registers to 8 sums of 16 bits
 * (12 without minimums beside them). The loop over quads is unrolled only twice: of all eight gcc takes
 * the loads and products first and spills them, which halves the speed (Zen 3: 40 for 95 GMAC/s). The
 * next block is fetched beside the products.
 *
 * How a group of 32 fits in 16 bits, exactly:
 *   up to 4 bits  as it is: 16 * 15 * 127 < 2^15
 *   5 and 6 bits  the sum starts at -C times the activations, so that in the end it is that of
 *                 code - C with |code - C| <= C, and 16 * 16 * 127 (8 * 32 * 127 in groups of 16) <
 *                 2^15; on the way it may wrap around. Q5_K in two halves: 8 * 31 * 127 < 2^15
 *   bytes         vpmaddubsw alone would saturate; activations are split, x = 16 h + l with
 *                 |h|, |l| <= 8, the halves take the places of two tokens: 16 * 255 * 8 < 2^15, and
 *                 the vpmaddwd of h multiplies by 16
 * Scales of KERN_SCALE_K are multiplied by 256 where pairs of them are made, so that one shuffle does for
 * signed ones, too: 2 * 2^15 * 2^15 < 2^31 still, as 8 * 32 * 127 < 2^15 by enough.
 * Rejected for bytes: vpsignb and a vpmaddwd for each product, 24 operations on the two multiply
 * ports (Zen 4, measured) where this has 18.
 */
#include "simd2_int.h"

enum { TOKENS = 6 }; /* without KERN_SCALE_K 4: more sums would be spilled */

enum how { PLAIN, CENTRED, SPLIT };

/* What a token brings to the groups of a block beside its bytes. */
struct side {
    _Alignas(32) float scale[KERN_K / 16];
    float min[KERN_K / 16];      /* scale * sum */
    int32_t bias[KERN_K / 16];   /* what the bias or the centre adds, times the sum */
    int32_t centre[KERN_K / 16]; /* -C times the sums of bytes 0, 1 and 2, 3 of the quads */
};

struct job {
    float *out;
    size_t ld;
    const struct kern_tile *t;
    const int8_t *q; /* [tokens][256], when split [tokens][2][256] */
    const struct side *side;
    int groups;
    uint32_t some;       /* groups in which a token is not all zeros */
    bool mins;           /* are added with the groups */
    const uint8_t *next; /* to be fetched, so many bytes beside 16 rows of a group */
    size_t each;
};

/* d[l][r] = products of group g for 8 rows from 8 (c + r) on and the activations of line l, in 16 bits. */
ALWAYS void dots(const int L, const int R, const int quads, const enum how how, const struct job *j,
                 int g, int c, __m256i d[][4])
{
    const uint8_t *w = j->t->codes + kern__code(4 * g * quads, 8 * c);
    const int8_t *q = j->q + 4 * g * quads;
    UNROLL for (int l = 0; l < L; l++) UNROLL for (int r = 0; r < R; r++) d[l][r] =
        how == CENTRED ? _mm256_set1_epi32(j->side[l].centre[g]) : _mm256_setzero_si256();
    ROLLED for (int i = 0; i < quads; i += 2, w += 8 * KERN_ROWS, q += 8)
    {
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m256i v[4];
            UNROLL for (int r = 0; r < R; r++) v[r] = line(w + h * 4 * KERN_ROWS + 32 * r);
            UNROLL for (int l = 0; l < L; l++)
            {
                __m256i x = quad(q + l * KERN_K + 4 * h);
                UNROLL for (int r = 0; r < R; r++) d[l][r] =
                    held(_mm256_add_epi16(d[l][r], _mm256_maddubs_epi16(v[r], x)));
            }
        }
    }
}

ALWAYS void group(const int T, const int R, const int quads, const enum how how, const bool k,
                  const bool mins, const struct job *j, int g, int c)
{
    __m256i d[TOKENS][4], by = _mm256_set1_epi16(1);
    dots(how == SPLIT ? 2 * T : T, R, quads, how, j, g, c, d);
    UNROLL for (int r = 0; r < R; r++)
    {
        int row = 8 * (c + r);
        __m256 ws = _mm256_load_ps(j->t->scale[g] + row), wm = ws;
        if (k) by = _mm256_castps_si256(ws);
        if (mins) wm = _mm256_load_ps(j->t->min[g] + row);
        UNROLL for (int t = 0; t < T; t++)
        {
            const struct side *s = j->side + t;
            float *out = j->out + (size_t)t * j->ld + row;
            __m256 as = _mm256_set1_ps(s->scale[g]);
            __m256i v = _mm256_madd_epi16(d[how == SPLIT ? 2 * t : t][r], by);
            if (how == SPLIT)
                v = _mm256_add_epi32(v, _mm256_madd_epi16(d[2 * t + 1][r], _mm256_set1_epi16(16)));
            if (!k && mins == (how == CENTRED))
                v = _mm256_add_epi32(v, _mm256_set1_epi32(s->bias[g]));
            __m256 sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(v), k ? as : _mm256_mul_ps(ws, as),
                                         _mm256_loadu_ps(out));
            if (mins) sum = _mm256_fmadd_ps(wm, _mm256_set1_ps(s->min[g]), sum);
            _mm256_storeu_ps(out, sum);
        }
    }
}

ALWAYS void tokens(const int T, const int quads, const enum how how, const bool k,
                   const struct job *j)
{
    const int R = (how == SPLIT ? 2 * T : T) <= 2 ? 4 : 2;
    for (int c = 0; c < KERN_ROWS / 8; c += R) {
        size_t each = j->each * (R / 2);
        const uint8_t *next = j->next + (size_t)(c / R * j->groups) * each;
        for (int g = 0; g < j->groups; g++, next += each) {
            fetch(next, each);
            if (!(j->some >> g & 1)) continue;
            if (!k && j->mins)
                group(T, R, quads, how, k, true, j, g, c);
            else
                group(T, R, quads, how, k, false, j, g, c);
        }
    }
}

ALWAYS void some_tokens(const int quads, const enum how how, const bool k, const struct job *j,
                        int n)
{
    switch (n) {
    case 1: tokens(1, quads, how, k, j); break;
    case 2: tokens(2, quads, how, k, j); break;
    case 3:
        if (how != SPLIT) tokens(3, quads, how, k, j);
        break;
    case 4:
        if (how != SPLIT) tokens(4, quads, how, k, j);
        break;
    case 5:
        if (k) tokens(5, quads, how, k, j);
        break;
    default:
        if (k) tokens(6, quads, how, k, j);
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

ALWAYS uint32_t not_zero(__m256 v)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
}

/* Groups of `columns`; returns which of them have a scale. */
ALWAYS uint32_t fill_side(struct side *s, const struct kern_fmt *f, int columns, int bias,
                          const struct kern_act *a, size_t row)
{
    const __m256i pairs = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
    const __m256i *sum = (const __m256i *)(a->sum + row * 16);
    __m256i low = _mm256_loadu_si256(sum), high = _mm256_loadu_si256(sum + 1);
    __m256 v0 = _mm256_loadu_ps(a->scale + row * KERN_GROUPS), v1 = _mm256_setzero_ps();
    if (columns == 16) {
        v1 = _mm256_permutevar8x32_ps(v0, _mm256_add_epi32(pairs, _mm256_set1_epi32(4)));
        v0 = _mm256_permutevar8x32_ps(v0, pairs);
        _mm256_store_ps(s->scale + 8, v1);
    }
    _mm256_store_ps(s->scale, v0);
    if (f->group == 32) {
        low = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
        low = _mm256_mullo_epi32(low, _mm256_set1_epi32(bias));
        _mm256_store_ps(s->min, _mm256_loadu_ps(a->total + row * KERN_GROUPS));
        _mm256_store_si256((__m256i *)s->bias, low);
    } else {
        _mm256_store_ps(s->min, _mm256_mul_ps(v0, _mm256_cvtepi32_ps(low)));
        _mm256_store_ps(s->min + 8, _mm256_mul_ps(v1, _mm256_cvtepi32_ps(high)));
    }
    return not_zero(v0) | not_zero(v1) << 8;
}

/* What the groups of KERN_SCALE_K add up to, by the scales of the rows, and the minimums. */
static void finish(float *out, size_t ld, const struct job *j, const struct kern_fmt *f, int groups,
                   int n, bool add)
{
    for (int t = 0; t < n; t++, out += ld) {
        __m256 low[4];
        UNROLL for (int r = 0; r < 4; r++) low[r] = _mm256_setzero_ps();
        for (int g = 0; f->mins && g < groups; g++)
            UNROLL for (int r = 0; r < 4; r++) low[r] = _mm256_fmadd_ps(
                _mm256_load_ps(j->t->min[g] + 8 * r), _mm256_set1_ps(j->side[t].min[g]), low[r]);
        UNROLL for (int r = 0; r < 4; r++)
        {
            __m256 was = add ? _mm256_loadu_ps(out + 8 * r) : _mm256_setzero_ps();
            __m256 sum = _mm256_load_ps(j->out + (size_t)t * KERN_ROWS + 8 * r);
            _mm256_storeu_ps(out + 8 * r, row_scaled(j->t->scales, f->mins, r, sum, low[r], was));
        }
    }
}

ALWAYS void zero_row(float *out)
{
    UNROLL for (int r = 0; r < KERN_ROWS; r += 8) _mm256_storeu_ps(out + r, _mm256_setzero_ps());
}

ALWAYS void gemm(float *out, size_t ld, const struct kern_tile *t, const struct kern_fmt *f, int ng,
                 const struct kern_act *a, size_t row, int n, bool add, const int quads,
                 const enum how how, const bool k)
{
    struct side side[TOKENS];
    _Alignas(64) int8_t halves[TOKENS][KERN_K];
    _Alignas(32) float sums[TOKENS][KERN_ROWS];
    int most = how == SPLIT ? 2 : k ? TOKENS : 4, step, columns = 4 * quads;
    int centre = how != CENTRED ? 0 : f->mins ? 1 << (f->bits - 1) : f->bias;
    int bias = centre - (f->levels ? 128 : f->bias), groups = ng * KERN_GROUP / columns;
    const uint8_t *next = t->next, *end = next + t->next_bytes;
    size_t pieces = (size_t)(2 * groups * ((n + most - 1) / most));
    size_t each = (t->next_bytes / pieces + 63) / 64 * 64;
    for (int i = 0; i < n; i += step, out += (size_t)step * ld) {
        const int8_t *q = a->q + row * KERN_K;
        struct job j = {k ? sums[0] : out,
                        k ? KERN_ROWS : ld,
                        t,
                        how == SPLIT ? halves[0] : q,
                        side,
                        groups,
                        0,
                        f->mins,
                        next,
                        each};
        step = n - i < most ? n - i : most;
        for (int s = 0; s < step; s++, row++) {
            if (k || !add) zero_row(j.out + (size_t)s * j.ld);
            if (how == SPLIT) split_row(halves[2 * s], q + s * KERN_K);
            if (how == CENTRED) fill_centre(side[s].centre, q + s * KERN_K, centre, columns);
            j.some |= fill_side(&side[s], f, columns, bias, a, row);
        }
        some_tokens(quads, how, k, &j, step);
        if (k) finish(out, ld, &j, f, ng * KERN_GROUP / f->group, step, add);
        next += (size_t)(2 * groups) * each;
        if (next >= end) each = 0;
    }
}

static void gemm_u8(float *out, size_t ld, const struct kern_tile *t, const struct kern_fmt *f,
                    int ng, const struct kern_act *a, int kb, int t0, int n, bool add)
{
    size_t row = (size_t)kb * (size_t)a->m + (size_t)t0;
    if (t->bits != 8)
        kern__avx2_gemv(out, t, f, ng, a, row, add);
    else if (f->levels || f->bits == 8)
        gemm(out, ld, t, f, ng, a, row, n, add, 8, SPLIT, false);
    else if (f->scale != KERN_SCALE_K && f->bits == 4)
        gemm(out, ld, t, f, ng, a, row, n, add, 8, PLAIN, false);
    else if (f->scale != KERN_SCALE_K)
        gemm(out, ld, t, f, ng, a, row, n, add, 8, CENTRED, false);
    else if (f->bits == 4)
        gemm(out, ld, t, f, ng, a, row, n, add, 8, PLAIN, true);
    else if (f->mins)
        gemm(out, ld, t, f, ng, a, row, n, add, 4, PLAIN, true);
    else
        gemm(out, ld, t, f, ng, a, row, n, add, 4, CENTRED, true);
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
