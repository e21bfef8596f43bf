/* 32 rows from an unpacked tile, 16 rows x 4 tokens at a time. A lane is a row, weights are the
 * unsigned operand of vpmaddubsw, so no shuffle and no horizontal sum; the products of a group are
 * added up in 16 bits, then one vpmaddwd widens them. Bound by the vector ports: for 8 rows, a token
 * and 32 columns of 4 bits 8 vpmaddubsw, 8 vpaddw, vpmaddwd, the bias, conversion, multiply and
 * FMA, so 21 operations where the probe has 17. Float sums stay in `out`, which leaves the 16
 * registers to 8 sums of 16 bits. The loop over quads is unrolled only twice: of all eight gcc takes
 * the loads and products first and spills them, which halves the speed (Zen 3: 40 for 95 GMAC/s).
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
 * ports (Zen 4, measured) where this has 18. Codes for one token are taken apart in registers: from
 * memory, unpacking first is 15 % slower (Zen 3, 1.5B), as nothing is fetched meanwhile, and fetching
 * by software 20 % slower still.
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
    UNROLL for (int l = 0; l < L; l++) UNROLL for (int r = 0; r < R; r++) d[l][r] =
        _mm256_madd_epi16(d[l][r], how == SPLIT && l % 2 ? sixteens : ones);
}

/* The same for one token and 32 rows, from codes as they lie in the block. */
ALWAYS void packed_dots(const int bits, const enum how how, const struct job *j, int g,
                        __m256i d[][4])
{
    const int quads = bits == 6 ? 4 : 8;
    const uint8_t *w = j->t->codes + g * quads * LINE * bits / 8;
    const int8_t *q = j->q + 4 * g * quads;
    UNROLL for (int r = 0; r < 4; r++) d[0][r] =
        how == CENTRED ? _mm256_set1_epi32(j->side->centre[g]) : _mm256_setzero_si256();
    UNROLL for (int i = 0; i < quads; i++)
    {
        __m256i x = quad(q + 4 * i);
        UNROLL for (int r = 0; r < 4; r++) d[0][r] =
            held(_mm256_add_epi16(d[0][r], _mm256_maddubs_epi16(code(bits, w + 32 * r, i), x)));
    }
    UNROLL for (int r = 0; r < 4; r++) d[0][r] = _mm256_madd_epi16(d[0][r], _mm256_set1_epi16(1));
}

ALWAYS void group(const int T, const int R, const int quads, const int bits, const enum how how,
                  const bool mins, const struct job *j, int g, int c)
{
    __m256i d[TOKENS][4];
    if (bits == 8)
        dots(how == SPLIT ? 2 * T : T, R, quads, how, j, g, c, d);
    else
        packed_dots(bits, how, j, g, d);
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

ALWAYS void tokens(const int T, const int quads, const int bits, const enum how how,
                   const struct job *j)
{
    const int R = (how == SPLIT ? 2 * T : T) <= 2 ? 4 : 2;
    for (int c = 0; c < KERN_ROWS / 8; c += R) {
        for (int g = 0; g < j->groups; g++) {
            if (!(j->some >> g & 1)) continue;
            if (j->mins)
                group(T, R, quads, bits, how, true, j, g, c);
            else
                group(T, R, quads, bits, how, false, j, g, c);
        }
    }
}

ALWAYS void some_tokens(const int quads, const enum how how, const struct job *j, int n)
{
    switch (n) {
    case 1: tokens(1, quads, 8, how, j); break;
    case 2: tokens(2, quads, 8, how, j); break;
    case 3:
        if (how != SPLIT) tokens(3, quads, 8, how, j);
        break;
    default:
        if (how != SPLIT) tokens(4, quads, 8, how, j);
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

/* Of 8 groups; returns which of them have a scale. */
ALWAYS uint32_t fill_8(struct side *s, int g, __m256 as, __m256 min, __m256i sum, int bias)
{
    _mm256_store_ps(s->scale + g, as);
    _mm256_store_ps(s->min + g, min);
    if (bias)
        _mm256_store_si256((__m256i *)(s->bias + g),
                           _mm256_mullo_epi32(sum, _mm256_set1_epi32(bias)));
    __m256 some = _mm256_cmp_ps(as, _mm256_setzero_ps(), _CMP_NEQ_UQ);
    return (uint32_t)_mm256_movemask_ps(some) << g;
}

ALWAYS uint32_t fill_side(struct side *s, const struct kern_fmt *f, int bias,
                          const struct kern_act *a, size_t row)
{
    const int32_t *sum = a->sum + row * 16;
    __m256 v = _mm256_loadu_ps(a->scale + row * KERN_GROUPS);
    __m256i p = _mm256_loadu_si256((const __m256i *)sum);
    __m256i q = _mm256_loadu_si256((const __m256i *)(sum + 8));
    if (f->group == 32) {
        __m256 min = _mm256_loadu_ps(a->total + row * KERN_GROUPS);
        p = _mm256_permute4x64_epi64(_mm256_hadd_epi32(p, q), 0xd8);
        return fill_8(s, 0, v, min, p, bias);
    }
    __m256i low = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
    __m256i high = _mm256_add_epi32(low, _mm256_set1_epi32(4));
    __m256 v0 = _mm256_permutevar8x32_ps(v, low), v1 = _mm256_permutevar8x32_ps(v, high);
    return fill_8(s, 0, v0, _mm256_mul_ps(v0, _mm256_cvtepi32_ps(p)), p, bias) |
           fill_8(s, 8, v1, _mm256_mul_ps(v1, _mm256_cvtepi32_ps(q)), q, bias);
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
            j.some |= fill_side(&side[s], f, bias, a, row);
        }
        if (t->bits == 4)
            tokens(1, 8, 4, PLAIN, &j);
        else if (t->bits == 5)
            tokens(1, 8, 5, CENTRED, &j);
        else if (t->bits == 6)
            tokens(1, 4, 6, CENTRED, &j);
        else if (how == SPLIT)
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
