/* 32 rows from an unpacked tile, 16 rows x 4 tokens at a time. A lane is a row, weights are the
 * unsigned operand of vpmaddubsw, so no shuffle and no horizontal sum; the products of a group are
 * added up in 16 bits, then one vpmaddwd widens them. Bound by the vector ports: for 8 rows, a token
 * and 32 columns of 4 bits 8 vpmaddubsw, 7 vpaddw, vpmaddwd, the bias, conversion, multiply and
 * FMA, so 20 operations where the probe has 17. Float sums stay in `out`, which leaves the 16
 * registers to 8 sums of 16 bits.
 *
 * How a group of 32 fits in 16 bits, exactly:
 *   up to 4 bits  as it is: 16 * 15 * 127 < 2^15
 *   5 and 6 bits  the sum starts at -C times the activations, so that in the end it is that of
 *                 code - C with |code - C| <= C, and 16 * 16 * 127 (8 * 32 * 127 in groups of 16) <
 *                 2^15; on the way it may wrap around
 *   bytes         vpmaddubsw alone would saturate; activations are split, x = 16 h + l with
 *                 |h|, |l| <= 8, the halves take the places of two tokens: 16 * 255 * 8 < 2^15, and
 *                 the vpmaddwd of h multiplies by 16
 * Rejected for bytes: vpsignb and a vpmaddwd for each product, 24 operations on the two multiply
 * ports (Zen 4, measured) where this has 18. Rejected for few tokens: a path of its own from the
 * packed block, as unpacking and one token here take 12 to 39 GB/s of weights in the cache on one
 * core, so with all cores at work memory is the limit.
 */
#include "simd2_int.h"

enum { TOKENS = 4 };

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
    uint32_t some; /* groups in which a token is not all zeros */
    bool mins;
};

/* d[l][r] = products of group g for 8 rows from 8 (c + r) on and the activations of line l. */
ALWAYS void dots(const int L, const int R, const int quads, const enum how how, const struct job *j,
                 int g, int c, __m256i d[][4])
{
    const __m256i ones = _mm256_set1_epi16(1), sixteens = _mm256_set1_epi16(16);
    __m256i w[4];
    UNROLL for (int i = 0; i < quads; i++)
    {
        int k = g * quads + i;
        UNROLL for (int r = 0; r < R; r++) w[r] =
            line(j->t->codes + kern__code(4 * k, 8 * (c + r)));
        UNROLL for (int l = 0; l < L; l++)
        {
            __m256i x = quad(j->q + l * KERN_K + 4 * k), first = x;
            if (how == CENTRED) first = _mm256_set1_epi32(j->side[l].centre[g]);
            UNROLL for (int r = 0; r < R; r++)
            {
                __m256i p = _mm256_maddubs_epi16(w[r], x);
                if (i > 0)
                    p = _mm256_add_epi16(d[l][r], p);
                else if (how == CENTRED)
                    p = _mm256_add_epi16(first, p);
                d[l][r] = held(p);
            }
        }
    }
    UNROLL for (int l = 0; l < L; l++) UNROLL for (int r = 0; r < R; r++) d[l][r] =
        _mm256_madd_epi16(d[l][r], how == SPLIT && l % 2 ? sixteens : ones);
}

ALWAYS void group(const int T, const int R, const int quads, const enum how how, const bool mins,
                  const struct job *j, int g, int c)
{
    __m256i d[TOKENS][4];
    dots(how == SPLIT ? 2 * T : T, R, quads, how, j, g, c, d);
    UNROLL for (int r = 0; r < R; r++)
    {
        int row = 8 * (c + r);
        __m256 ws = _mm256_load_ps(j->t->scale[g] + row), wm = ws;
        if (mins) wm = _mm256_load_ps(j->t->min[g] + row);
        UNROLL for (int t = 0; t < T; t++)
        {
            const struct side *s = j->side + t;
            float *out = j->out + (size_t)t * j->ld + row;
            __m256i v = how == SPLIT ? _mm256_add_epi32(d[2 * t][r], d[2 * t + 1][r]) : d[t][r];
            if (mins == (how == CENTRED)) v = _mm256_add_epi32(v, _mm256_set1_epi32(s->bias[g]));
            __m256 sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(v),
                                         _mm256_mul_ps(ws, _mm256_set1_ps(s->scale[g])),
                                         _mm256_loadu_ps(out));
            if (mins) sum = _mm256_fmadd_ps(wm, _mm256_set1_ps(s->min[g]), sum);
            _mm256_storeu_ps(out, sum);
        }
    }
}

ALWAYS void tokens(const int T, const int quads, const enum how how, const struct job *j)
{
    const int R = (how == SPLIT ? 2 * T : T) <= 2 ? 4 : 2;
    for (int c = 0; c < KERN_ROWS / 8; c += R) {
        for (int g = 0; g < j->groups; g++) {
            if (!(j->some >> g & 1)) continue;
            if (j->mins)
                group(T, R, quads, how, true, j, g, c);
            else
                group(T, R, quads, how, false, j, g, c);
        }
    }
}

ALWAYS void some_tokens(const int quads, const enum how how, const struct job *j, int n)
{
    switch (n) {
    case 1: tokens(1, quads, how, j); break;
    case 2: tokens(2, quads, how, j); break;
    case 3:
        if (how != SPLIT) tokens(3, quads, how, j);
        break;
    default:
        if (how != SPLIT) tokens(4, quads, how, j);
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

/* The sums of the four quads in each 128-bit lane, pairs of 16 bits, of four vectors. */
ALWAYS __m256i add_quads(const __m256i *p)
{
    __m256i a =
        _mm256_add_epi16(_mm256_unpacklo_epi64(p[0], p[1]), _mm256_unpackhi_epi64(p[0], p[1]));
    __m256i b =
        _mm256_add_epi16(_mm256_unpacklo_epi64(p[2], p[3]), _mm256_unpackhi_epi64(p[2], p[3]));
    __m256 x = _mm256_castsi256_ps(a), y = _mm256_castsi256_ps(b);
    return _mm256_add_epi16(_mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88)),
                            _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd)));
}

static void fill_centre(int32_t *out, const int8_t *q, int centre, int group)
{
    const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    __m256i p[8], *to = (__m256i *)out;
    for (int i = 0; i < 8; i++)
        p[i] = _mm256_maddubs_epi16(_mm256_set1_epi8((char)centre), line(q + 32 * i));
    __m256i a = add_quads(p), b = add_quads(p + 4), zero = _mm256_setzero_si256();
    if (group == 16) {
        _mm256_store_si256(to, _mm256_sub_epi16(zero, _mm256_permutevar8x32_epi32(a, order)));
        _mm256_store_si256(to + 1, _mm256_sub_epi16(zero, _mm256_permutevar8x32_epi32(b, order)));
    } else {
        a = _mm256_add_epi16(_mm256_permute2x128_si256(a, b, 0x20),
                             _mm256_permute2x128_si256(a, b, 0x31));
        _mm256_store_si256(to, _mm256_sub_epi16(zero, a));
    }
}

ALWAYS void fill_8(struct side *s, int g, __m256 as, __m256i sum, int bias)
{
    _mm256_store_ps(s->scale + g, as);
    _mm256_store_ps(s->min + g, _mm256_mul_ps(as, _mm256_cvtepi32_ps(sum)));
    _mm256_store_si256((__m256i *)(s->bias + g), _mm256_mullo_epi32(sum, _mm256_set1_epi32(bias)));
}

/* From the scales of 32 columns and the sums of 16. */
ALWAYS void fill_side(struct side *s, const struct kern_fmt *f, int bias, const float *as,
                      const int32_t *sum)
{
    __m256 v = _mm256_loadu_ps(as);
    __m256i a = _mm256_loadu_si256((const __m256i *)sum);
    __m256i b = _mm256_loadu_si256((const __m256i *)(sum + 8));
    if (f->group == 16) {
        __m256i low = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
        __m256i high = _mm256_add_epi32(low, _mm256_set1_epi32(4));
        fill_8(s, 0, _mm256_permutevar8x32_ps(v, low), a, bias);
        fill_8(s, 8, _mm256_permutevar8x32_ps(v, high), b, bias);
    } else {
        fill_8(s, 0, v, _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8), bias);
    }
}

static void gemm_u8(float *out, size_t ld, const struct kern_tile *t, const struct kern_fmt *f,
                    int ng, const struct kern_act *a, int kb, int t0, int n, bool add)
{
    struct side side[TOKENS];
    _Alignas(64) int8_t halves[TOKENS][KERN_K];
    const enum how how = f->levels || f->bits == 8 ? SPLIT : f->bits > 4 ? CENTRED : PLAIN;
    int most = how == SPLIT ? TOKENS / 2 : TOKENS, step;
    int centre = how != CENTRED ? 0 : f->mins ? 1 << (f->bits - 1) : f->bias;
    int bias = centre - (f->levels ? 128 : f->bias);
    for (int i = 0; i < n; i += step, out += (size_t)step * ld) {
        size_t row = (size_t)kb * (size_t)a->m + (size_t)(t0 + i);
        const int8_t *q = a->q + row * KERN_K;
        struct job j = {
            out, ld, t, how == SPLIT ? halves[0] : q, side, ng * KERN_GROUP / f->group, 0, f->mins};
        step = n - i < most ? n - i : most;
        for (int s = 0; s < step; s++, row++) {
            if (!add) memset(out + (size_t)s * ld, 0, KERN_ROWS * sizeof *out);
            if (how == SPLIT) split_row(halves[2 * s], q + s * KERN_K);
            if (how == CENTRED) fill_centre(side[s].centre, q + s * KERN_K, centre, f->group);
            fill_side(&side[s], f, bias, a->scale + row * KERN_GROUPS, a->sum + row * 16);
            for (int g = 0; g < j.groups; g++) j.some |= (uint32_t)(side[s].scale[g] != 0) << g;
        }
        if (how == SPLIT)
            some_tokens(8, SPLIT, &j, step);
        else if (how == CENTRED && f->group == 16)
            some_tokens(4, CENTRED, &j, step);
        else if (how == CENTRED)
            some_tokens(8, CENTRED, &j, step);
        else if (f->group == 16)
            some_tokens(4, PLAIN, &j, step);
        else
            some_tokens(8, PLAIN, &j, step);
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
