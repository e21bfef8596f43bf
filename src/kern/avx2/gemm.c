/* 32 rows from an unpacked tile, 16 rows x 6 tokens at a time. A lane is a row, weights are the
 * unsigned operand of vpmaddubsw, so no shuffle and no horizontal sum; the products of a group are
 * added up in 16 bits, then one vpmaddwd widens them, and multiplies by the integer scales of
 * KERN_SCALE_K on the way: what the rows' own scale is, and the minimums, comes once a block then.
 * For 8 rows, a token and 32 columns of 4 bits 8 vpmaddubsw, 7 vpaddw, vpmaddwd, conversion and FMA, with
 * scales of floats a multiply and the bias or minimum, so 20 operations where the probe has 17; half of
 * what stands between this and the probe is these last ones (Zen 3). Float sums stay in memory, which
 * leaves the 16 registers to 12 sums of 16 bits. The next block is fetched beside the products. Codes of
 * 4 bits for fewer tokens are taken apart here, without a tile (2 tokens: -25 %, 4: -12 %; 6 lack registers).
 *
 * How a group of 32 fits in 16 bits, exactly:
 *   up to 4 bits  as it is: 16 * 15 * 127 < 2^15
 *   5 and 6 bits  the sum starts at -C times the activations, so that in the end it is that of
 *                 code - C with |code - C| <= C, and 16 * 16 * 127 (8 * 32 * 127 in groups of 16) <
 *                 2^15; on the way it may wrap around. Q5_K in two halves: 8 * 31 * 127 < 2^15
 *   bytes         would saturate vpmaddubsw: u8_i16.c
 * Scales of KERN_SCALE_K are multiplied by 256 where pairs of them are made, so that one shuffle does for
 * signed ones, too: 2 * 2^15 * 2^15 < 2^31 still, as 8 * 32 * 127 < 2^15 by enough.
 */
#include "simd2_int.h"

enum { TOKENS = 6 };

/* What a token brings to the groups of a block, where its activations do not hold it ready. */
struct side {
    _Alignas(32) float scale[KERN_K / 16]; /* of 16 columns */
    float min[KERN_K / 16];                /* that times their sum */
    int32_t bias[KERN_GROUPS];   /* what the bias or the centre adds, times the sum of 32 columns */
    int32_t centre[KERN_K / 16]; /* -C times the sums of bytes 0, 1 and 2, 3 of the quads */
};

/* What is `token` tokens further: of 32 columns in the activations, else in side. */
#define of_token(p, quads, token) \
    ((p) + (size_t)(token) * ((quads) == 8 ? KERN_GROUPS : sizeof(struct side) / sizeof *(p)))

struct job {
    float (*sums)[KERN_ROWS]; /* of the tokens */
    const struct kern_tile *t;
    const int8_t *q; /* [tokens][256] */
    const struct side *side;
    const float *scale, *min; /* [tokens][8] of a group; of 16 columns [tokens] of side */
    int groups;
    uint32_t some;       /* groups in which a token is not all zeros */
    const uint8_t *next; /* to be fetched, so many bytes beside 16 rows of a group */
    size_t each;
};

/* d[t][r] = products of 8 rows from 8 r on and the activations of token t, in 16 bits. */
ALWAYS void dots(const int T, const int R, const int quads, const bool centred, const bool packed,
                 const uint8_t *w, const int8_t *q, const int32_t *centre, __m256i d[][4])
{
    UNROLL for (int t = 0; centred && t < T; t++) UNROLL for (int r = 0; r < R; r++) d[t][r] =
        _mm256_set1_epi32(*of_token(centre, 4, t));
    QUADS for (int i = 0; i < quads; i++)
    {
        __m256i v[4];
        UNROLL for (int r = 0; r < R; r++) v[r] =
            packed ? code(4, w + 32 * r, i) : line(w + LINE * i + 32 * r);
        UNROLL for (int t = 0; t < T; t++)
        {
            __m256i x = quad(q + t * KERN_K + 4 * i);
            UNROLL for (int r = 0; r < R; r++)
            {
                __m256i p = _mm256_maddubs_epi16(v[r], x);
                d[t][r] = held(centred || i ? _mm256_add_epi16(d[t][r], p) : p);
            }
        }
        in_order();
    }
}

/* Group g of 8 R rows from `row` on. */
ALWAYS void group(const int T, const int R, const int quads, const bool centred, const bool k,
                  const bool mins, const bool packed, const struct job *j, int g, int row)
{
    const uint8_t *w = j->t->codes + (packed ? LINE / 2 : LINE) * quads * g + 4 * row;
    __m256i d[TOKENS][4];
    dots(T, R, quads, centred, packed, w, j->q + 4 * quads * g, j->side->centre + g, d);
    const float *ws = j->t->scale[g] + row, *wm = j->t->min[g] + row;
    UNROLL for (int t = 0; t < T; t++)
    {
        __m256 as = _mm256_set1_ps(*of_token(j->scale + g, quads, t)), am = as;
        if (mins) am = _mm256_set1_ps(*of_token(j->min + g, quads, t));
        UNROLL for (int r = 0; r < R; r++)
        {
            float *out = j->sums[t] + row + 8 * r;
            __m256 by = _mm256_load_ps(ws + 8 * r), sum = _mm256_load_ps(out);
            __m256i one = _mm256_set1_epi16(1), v = d[t][r];
            v = _mm256_madd_epi16(v, k ? _mm256_castps_si256(by) : one);
            if (!k && mins == centred)
                v = _mm256_add_epi32(v, _mm256_set1_epi32(*of_token(j->side->bias + g, 4, t)));
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(v), k ? as : _mm256_mul_ps(by, as), sum);
            if (mins) sum = _mm256_fmadd_ps(_mm256_load_ps(wm + 8 * r), am, sum);
            _mm256_store_ps(out, sum);
        }
    }
}

ALWAYS void tokens(const int T, const int quads, const bool centred, const bool k, const bool mins,
                   const bool packed, const struct job *j)
{
    const int R = T <= 2 ? 4 : 2;
    for (int row = 0; row < KERN_ROWS; row += 8 * R) {
        size_t each = j->each * (R / 2);
        const uint8_t *next = j->next + (size_t)(row / 8 / R * j->groups) * each;
        for (int g = 0; g < j->groups; g++, next += each) {
            fetch(next, each);
            if (j->some >> g & 1) group(T, R, quads, centred, k, mins, packed, j, g, row);
        }
    }
}

ALWAYS void some_tokens(const int quads, const bool centred, const bool k, const bool mins,
                        const bool packed, const struct job *j, int n)
{
    switch (n) {
    case 1: tokens(1, quads, centred, k, mins, packed, j); break;
    case 2: tokens(2, quads, centred, k, mins, packed, j); break;
    case 3: tokens(3, quads, centred, k, mins, packed, j); break;
    case 4: tokens(4, quads, centred, k, mins, packed, j); break;
    case 5: tokens(5, quads, centred, k, mins, packed, j); break;
    default:
        if (!packed) tokens(6, quads, centred, k, mins, packed, j);
        break;
    }
}

ALWAYS uint32_t not_zero(__m256 v)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
}

/* For groups of 16 columns; returns which have a scale. */
static uint32_t fill_halves(struct side *s, const struct kern_act *a, size_t row)
{
    const __m256i pairs = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
    __m256 v = _mm256_loadu_ps(a->scale + row * KERN_GROUPS);
    uint32_t some = 0;
    for (int h = 0; h < 2; h++) {
        __m256i at = _mm256_add_epi32(pairs, _mm256_set1_epi32(4 * h));
        __m256i sum = _mm256_loadu_si256((const __m256i *)(a->sum + row * 16 + 8 * h));
        __m256 scale = _mm256_permutevar8x32_ps(v, at);
        _mm256_store_ps(s->scale + 8 * h, scale);
        _mm256_store_ps(s->min + 8 * h, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum)));
        some |= not_zero(scale) << 8 * h;
    }
    return some;
}

static void fill_bias(struct side *s, const struct kern_act *a, size_t row, int bias)
{
    const __m256i *sum = (const __m256i *)(a->sum + row * 16);
    __m256i v = _mm256_hadd_epi32(_mm256_loadu_si256(sum), _mm256_loadu_si256(sum + 1));
    v = _mm256_mullo_epi32(_mm256_permute4x64_epi64(v, 0xd8), _mm256_set1_epi32(bias));
    _mm256_store_si256((__m256i *)s->bias, v);
}

/* What the groups of KERN_SCALE_K add up to, by the scales of the rows, and the minimums. */
static void finish_k(struct kern_out o, const struct job *j, const struct kern_fmt *f, int groups,
                     int n)
{
    for (int t = 0; t < n; t++, kern_out_skip(&o, 1)) {
        const float *min = of_token(j->min, f->group / 4, t);
        __m256 low[4];
        UNROLL for (int r = 0; r < 4; r++) low[r] = _mm256_setzero_ps();
        for (int g = 0; f->mins && g < groups; g++)
            UNROLL for (int r = 0; r < 4; r++) low[r] = _mm256_fmadd_ps(
                _mm256_load_ps(j->t->min[g] + 8 * r), _mm256_set1_ps(min[g]), low[r]);
        UNROLL for (int r = 0; r < 4; r++)
        {
            __m256 was = o.from ? _mm256_loadu_ps(o.from + 8 * r) : _mm256_setzero_ps();
            __m256 sum = _mm256_load_ps(j->sums[t] + 8 * r);
            _mm256_storeu_ps(o.to + 8 * r, row_scaled(j->t->scales, f->mins, r, sum, low[r], was));
        }
    }
}

/* Sums of a token from what is there, or zeros, and back. */
ALWAYS void begin(float *sums, const float *from)
{
    UNROLL for (int r = 0; r < KERN_ROWS; r += 8)
        _mm256_store_ps(sums + r, from ? _mm256_loadu_ps(from + r) : _mm256_setzero_ps());
}

ALWAYS void end(float *out, const float *sums)
{
    UNROLL for (int r = 0; r < KERN_ROWS; r += 8)
        _mm256_storeu_ps(out + r, _mm256_load_ps(sums + r));
}

ALWAYS void gemm(struct kern_out o, const struct kern_tile *t, const struct kern_fmt *f, int ng,
                 const struct kern_act *a, size_t row, int n, const int quads, const bool centred,
                 const bool k, const bool mins, const bool packed)
{
    struct side side[TOKENS];
    _Alignas(32) float sums[TOKENS][KERN_ROWS];
    const int most = packed ? TOKENS - 1 : TOKENS;
    int step, columns = 4 * quads;
    int centre = !centred ? 0 : f->mins ? 1 << (f->bits - 1) : f->bias;
    int bias = centre - f->bias, groups = ng * KERN_GROUP / columns;
    bool biased = !k && mins == centred;
    const uint8_t *next = t->next, *last = next + t->next_bytes;
    size_t pieces = (size_t)(2 * groups * ((n + most - 1) / most));
    size_t each = (t->next_bytes / pieces + 63) / 64 * 64;
    for (int i = 0; i < n; i += step, kern_out_skip(&o, step)) {
        const int8_t *q = a->q + row * KERN_K;
        struct job j = {sums,
                        t,
                        q,
                        side,
                        columns == 32 ? a->scale + row * KERN_GROUPS : side[0].scale,
                        f->group == 32 ? a->total + row * KERN_GROUPS : side[0].min,
                        groups,
                        0,
                        next,
                        each};
        step = n - i < most ? n - i : most;
        for (int s = 0; s < step; s++, row++) {
            begin(sums[s], k ? NULL : kern_from(&o, s));
            if (centred) fill_centre(side[s].centre, q + s * KERN_K, centre, columns);
            if (biased) fill_bias(&side[s], a, row, bias);
            j.some |= columns == 16 ? fill_halves(&side[s], a, row) : a->some[row];
        }
        some_tokens(quads, centred, k, mins, packed, &j, step);
        if (k) finish_k(o, &j, f, ng * KERN_GROUP / f->group, step);
        for (int s = 0; !k && s < step; s++) end(o.to + (size_t)s * o.ld, sums[s]);
        next += (size_t)(2 * groups) * each;
        if (next >= last) each = 0;
    }
}

/* Functions of their own: in one that held them all gcc's sanitizer would call for each check. */
#define KIND(name, ...)                                                                      \
    static __attribute__((noinline)) void name(struct kern_out o, const struct kern_tile *t, \
                                               const struct kern_fmt *f, int ng,             \
                                               const struct kern_act *a, size_t row, int n)  \
    {                                                                                        \
        gemm(o, t, f, ng, a, row, n, __VA_ARGS__);                                           \
    }
KIND(plain, 8, false, false, false, false)
KIND(plain_packed, 8, false, false, false, true)
KIND(plain_mins, 8, false, false, true, false)
KIND(plain_mins_packed, 8, false, false, true, true)
KIND(centred, 8, true, false, false, false)
KIND(centred_mins, 8, true, false, true, false)
KIND(k_plain, 8, false, true, false, false)
KIND(k_plain_packed, 8, false, true, false, true)
KIND(k_halves, 4, false, true, false, false)
KIND(k_centred, 4, true, true, false, false)

static void gemm_u8(struct kern_out o, const struct kern_tile *t, const struct kern_fmt *f, int ng,
                    const struct kern_act *a, int kb, int t0, int n)
{
    size_t row = (size_t)kb * (size_t)a->m + (size_t)t0;
    if (t->bits != 8 && n == 1)
        kern__avx2_gemv(&o, t, f, ng, a, row);
    else if (t->bits != 8) /* 4 */
        (f->scale == KERN_SCALE_K ? k_plain_packed
         : f->mins                ? plain_mins_packed
                                  : plain_packed)(o, t, f, ng, a, row, n);
    else if (f->scale == KERN_SCALE_K)
        (f->bits == 4 ? k_plain : f->mins ? k_halves : k_centred)(o, t, f, ng, a, row, n);
    else if (f->bits == 4)
        (f->mins ? plain_mins : plain)(o, t, f, ng, a, row, n);
    else
        (f->mins ? centred_mins : centred)(o, t, f, ng, a, row, n);
}

ALWAYS void f32_tokens(const int T, const struct kern_out *o, const float *w, int k, const float *x,
                       size_t ldx)
{
    __m256 acc[3][4];
    UNROLL for (int t = 0; t < T; t++)
    {
        const float *from = kern_from(o, t);
        UNROLL for (int r = 0; r < 4; r++) acc[t][r] =
            from ? _mm256_loadu_ps(from + 8 * r) : _mm256_setzero_ps();
    }
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
        _mm256_storeu_ps(o->to + (size_t)t * o->ld + 8 * r, acc[t][r]);
}

static void gemm_f32(struct kern_out o, const float *w, int k, const float *x, size_t ldx, int n)
{
    for (; n >= 3; n -= 3, kern_out_skip(&o, 3), x += 3 * ldx) f32_tokens(3, &o, w, k, x, ldx);
    if (n == 2) f32_tokens(2, &o, w, k, x, ldx);
    if (n == 1) f32_tokens(1, &o, w, k, x, ldx);
}

void kern__avx2_gemm(struct kern *k)
{
    k->gemm_u8 = gemm_u8;
    k->gemm_f32 = gemm_f32;
}
