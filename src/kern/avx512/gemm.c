/* 32 rows x 6 tokens, codes as bytes or taken apart in registers. Weights are the unsigned operand, a
 * lane is a row: no shuffle, no horizontal sum. Bound by the two multiply ports: a token costs a group
 * of 32 columns and half 8 vpdpbusd, a FMA to scale, another with mins, and a multiply of the two
 * scales, unless the activations' have steps: then an exponent is subtracted from a part of the weights', on
 * ports that are idle, as are those that take codes apart. Minimums of groups of 32 of KERN_SCALE_K are products
 * of integers, half a vpdpwssd a group. So with steps and groups of 32 89 % of the int8 peak at best (with mins 83 %,
 * of floats 80 %), with scales of their own 80 %. Everything a token brings is broadcast from
 * memory. The bias of signed formats is in the start of the integer sum, where it is free. The next
 * block is fetched a few lines beside each group; all at once they would hold up the loads. Rejected:
 * 64 rows x 3 tokens, which needs twice the broadcasts; one token's row at a time for few tokens (each
 * broadcast then serves one half only); for one token scales converted beside the products, where they
 * lie (no longer read in one stream, blocks come at little more than half the speed). */
#include "simd_int.h"

/* Up to FEW tokens the processor fetches blocks best itself: asked to, it loses 10 %. But it stops
 * at the end of a page, so PAGE_LINES at the start of one are asked for (1: a little less, 16: too many). */
enum { TOKENS = 6, PAGE = 4096, PAGE_LINES = 4 };

/* What a token brings beside its bytes, from its sums of 16 columns. */
struct side {
    _Alignas(64) int32_t start[TOKENS][16]; /* -bias * sum; a group of 32 has the even ones */
    float total[TOKENS][16];                /* scale * sum of 16 */
};

struct job {
    struct kern_out o;
    const struct kern_tile *t;
    const int8_t *q;        /* [tokens][256] */
    const float *scale;     /* [tokens][8] */
    const uint32_t *halves; /* [tokens][2][8] */
    const float *share;     /* [tokens][8] */
    const float *whole;     /* [tokens] */
    const int16_t *low;     /* [tokens][8] */
    const int32_t *start;   /* [tokens][16] */
    const float *total;     /* [tokens][8 per] */
    const char *next;       /* to be fetched, next_bytes beside each group */
    size_t next_bytes;
    int ng;              /* groups of 32 */
    uint8_t some;        /* those in which a token is not all zeros */
    bool mins, integers; /* minimums: floats, or those of tile.low */
    __m512i table;
};

/* Scales of activations: the groups' own, or those with steps, multiplied or from tables of parts. */
enum scales { OWN, STEPS, PARTS };

/* Which integers: bits of the codes, parts of a group that have a scale, levels. */
struct kind {
    int bits, per;
    bool levels;
    enum scales scales;
};

ALWAYS __m512 halved(__m512 v, uint32_t exponent)
{
    return _mm512_castsi512_ps(
        _mm512_sub_epi32(_mm512_castps_si512(v), _mm512_set1_epi32((int)exponent)));
}

/* Scales `row` of a tile times token t's in group g, or its share of the whole there. Few tokens leave the
 * multiply ports idle; the product is the same as the part, and exact but for the part's rounding. */
ALWAYS __m512 both_scales(const int T, const enum scales kind, const struct job *j, int row, int h,
                          int t, int g)
{
    const char *at = (const char *)(j->t->scale[row] + 16 * h);
    const uint32_t *halves = j->halves + t * 2 * KERN_GROUPS + g;
    if (kind == PARTS && T > FEW)
        return halved(_mm512_load_ps((const float *)(at + halves[KERN_GROUPS])), halves[0]);
    const float *by = kind == OWN ? j->scale : j->share;
    return _mm512_mul_ps(_mm512_load_ps((const float *)at),
                         _mm512_set1_ps(by[t * KERN_GROUPS + g]));
}

ALWAYS void group(const int T, const struct kind k, const struct job *j, int g, __m512 acc[][2])
{
    const uint8_t *p = j->t->codes + g * LINE * k.bits;
    UNROLL for (int s = 0; s < k.per; s++)
    {
        __m512i dot[TOKENS][2];
        UNROLL for (int t = 0; t < T; t++)
        {
            dot[t][0] = dot[t][1] = _mm512_set1_epi32(j->start[t * 16 + 2 * g + s]);
        }
        UNROLL for (int i = s * 8 / k.per; i < (s + 1) * 8 / k.per; i++)
        {
            __m512i w0 = code(k.bits, k.levels, p, i, j->table);
            __m512i w1 = code(k.bits, k.levels, p + 64, i, j->table);
            UNROLL for (int t = 0; t < T; t++)
            {
                __m512i x = quad(j->q + t * KERN_K + g * KERN_GROUP + i * 4);
                dot[t][0] = _mm512_dpbusd_epi32(dot[t][0], w0, x);
                dot[t][1] = _mm512_dpbusd_epi32(dot[t][1], w1, x);
            }
            if (T <= FEW && i % 2) in_order();
        }
        UNROLL for (int t = 0; t < T; t++)
        {
            UNROLL for (int h = 0; h < 2; h++)
            {
                __m512 v = both_scales(T, k.scales, j, g * k.per + s, h, t, g);
                acc[t][h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[t][h]), v, acc[t][h]);
            }
        }
    }
}

ALWAYS __m512 sum_so_far(const struct job *j, int t, int h)
{
    const float *from = kern_from(&j->o, t);
    return from ? _mm512_loadu_ps(from + 16 * h) : _mm512_setzero_ps();
}

/* What minimums of KERN_SCALE_K add, of two groups at a time. */
ALWAYS void minimums(const int T, const struct job *j, __m512 acc[][2])
{
    __m512i sum[TOKENS][2];
    UNROLL for (int t = 0; t < T; t++) sum[t][0] = sum[t][1] = _mm512_setzero_si512();
    UNROLL for (int p = 0; p < KERN_GROUPS / 2; p++)
    {
        __m512i m0 = _mm512_load_si512(j->t->low[p][0]), m1 = _mm512_load_si512(j->t->low[p][16]);
        UNROLL for (int t = 0; t < T; t++)
        {
            __m512i x = pair(j->low + t * KERN_GROUPS + 2 * p);
            sum[t][0] = _mm512_dpwssd_epi32(sum[t][0], m0, x);
            sum[t][1] = _mm512_dpwssd_epi32(sum[t][1], m1, x);
        }
    }
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++)
    {
        acc[t][h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t][h]),
                                    _mm512_load_ps(j->t->dmin + 16 * h), acc[t][h]);
    }
}

ALWAYS void tokens(const int T, const struct kind k, const struct job *j)
{
    __m512 acc[TOKENS][2];
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++) acc[t][h] =
        k.scales != OWN ? _mm512_setzero_ps() : sum_so_far(j, t, h);
    for (int g = 0; g < j->ng; g++) {
        const char *next = j->next + (size_t)g * j->next_bytes;
        for (size_t at = 0; at < j->next_bytes; at += 64) _mm_prefetch(next + at, _MM_HINT_T1);
        if (j->some >> g & 1) group(T, k, j, g, acc);
    }
    if (j->integers) minimums(T, j, acc);
    if (k.scales != OWN)
        UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++) acc[t][h] =
            _mm512_fmadd_ps(acc[t][h], _mm512_set1_ps(j->whole[t]), sum_so_far(j, t, h));
    for (int g = 0; j->mins && g < j->ng * k.per; g++) {
        __m512 m0 = _mm512_load_ps(j->t->min[g]), m1 = _mm512_load_ps(j->t->min[g] + 16);
        UNROLL for (int t = 0; t < T; t++)
        {
            __m512 by = _mm512_set1_ps(j->total[t * KERN_GROUPS * k.per + g]);
            acc[t][0] = _mm512_fmadd_ps(m0, by, acc[t][0]);
            acc[t][1] = _mm512_fmadd_ps(m1, by, acc[t][1]);
        }
    }
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++)
        _mm512_storeu_ps(j->o.to + (size_t)t * j->o.ld + 16 * h, acc[t][h]);
}

typedef void some_tokens(const struct job *j, int n);

#define SOME_TOKENS(name, ...)                   \
    static void name(const struct job *j, int n) \
    {                                            \
        const struct kind k = {__VA_ARGS__};     \
        switch (n) {                             \
        case 1: tokens(1, k, j); break;          \
        case 2: tokens(2, k, j); break;          \
        case 3: tokens(3, k, j); break;          \
        case 4: tokens(4, k, j); break;          \
        case 5: tokens(5, k, j); break;          \
        default: tokens(6, k, j); break;         \
        }                                        \
    }
SOME_TOKENS(bits2_k, 2, 2, false, PARTS)
SOME_TOKENS(bits3_k, 3, 2, false, PARTS)
SOME_TOKENS(bits4, 4, 1, false, STEPS)
SOME_TOKENS(bits4_parts, 4, 1, false, PARTS)
SOME_TOKENS(levels4_own, 4, 1, true, OWN)
SOME_TOKENS(levels4, 4, 1, true, STEPS)
SOME_TOKENS(levels4_parts, 4, 1, true, PARTS)
SOME_TOKENS(bits5_own, 5, 1, false, OWN)
SOME_TOKENS(bits5_k, 5, 1, false, PARTS)
SOME_TOKENS(bits6_k, 6, 2, false, PARTS)
SOME_TOKENS(bytes_own, 8, 1, false, OWN)
SOME_TOKENS(bytes_parts, 8, 1, false, PARTS)
SOME_TOKENS(bytes_k16, 8, 2, false, PARTS)

static some_tokens *which(const struct kern_tile *t, const struct kern_fmt *f)
{
    bool own = !kern_steps(f, KERN_PARTS);
    switch (t->bits) {
    case 2: return bits2_k;
    case 3: return bits3_k;
    case 4:
        if (f->levels) return own ? levels4_own : t->parts ? levels4_parts : levels4;
        return t->parts ? bits4_parts : bits4;
    case 5: return own ? bits5_own : bits5_k;
    case 6: return bits6_k;
    default: return own ? bytes_own : f->group == 16 ? bytes_k16 : bytes_parts;
    }
}

ALWAYS void fill_start(struct side *s, const struct kern_fmt *f, int bias, const int32_t *sum,
                       int n)
{
    for (int t = 0; t < n; t++) {
        __m512i v = _mm512_loadu_si512(sum + t * 16);
        if (f->group == KERN_GROUP) v = _mm512_add_epi32(v, _mm512_srli_epi64(v, 32));
        _mm512_store_si512(s->start[t], _mm512_mullo_epi32(v, _mm512_set1_epi32(-bias)));
    }
}

ALWAYS void fill_total(struct side *s, const float *scale, const int32_t *sum, int n)
{
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for (int t = 0; t < n; t++) {
        __m512 by = _mm512_castps256_ps512(_mm256_loadu_ps(scale + t * KERN_GROUPS));
        __m512 v = _mm512_cvtepi32_ps(_mm512_loadu_si512(sum + t * 16));
        _mm512_store_ps(s->total[t], _mm512_mul_ps(v, _mm512_permutexvar_ps(twice, by)));
    }
}

ALWAYS void fetch_page_starts(const void *next, size_t bytes)
{
    uintptr_t from = (uintptr_t)next, page = (from + PAGE - 1) / PAGE * PAGE;
    for (; page < from + bytes; page += PAGE)
        UNROLL for (int i = 0; i < PAGE_LINES; i++)
            _mm_prefetch((const char *)page + 64 * i, _MM_HINT_T1);
}

static void gemm_u8(struct kern_out o, const struct kern_tile *t, const struct kern_fmt *f, int ng,
                    const struct kern_act *a, int kb, int t0, int n)
{
    static const int32_t none[TOKENS * 16];
    some_tokens *run = which(t, f);
    size_t pieces = (size_t)((n + TOKENS - 1) / TOKENS * ng); /* of next: one a tile and group */
    int bias = f->levels ? 128 : f->bias;
    struct side side;
    struct job j = {.o = o, .t = t, .start = none, .ng = ng};
    j.integers = has_low(f);
    j.mins = f->mins && !j.integers;
    j.next = (const char *)t->next;
    j.next_bytes = n <= FEW ? 0 : (t->next_bytes / pieces + 63) / 64 * 64;
    if (f->levels) j.table = level_table(f->levels);
    if (n <= FEW) fetch_page_starts(t->next, t->next_bytes);
    for (int i = 0; i < n; i += TOKENS) {
        size_t row = (size_t)kb * (size_t)a->m + (size_t)(t0 + i);
        int step = n - i < TOKENS ? n - i : TOKENS;
        const int32_t *sum = a->sum + row * 16;
        j.q = a->q + row * KERN_K;
        j.scale = a->scale + row * KERN_GROUPS;
        j.some = 0;
        for (int s = 0; s < step; s++) j.some |= a->some[row + (size_t)s];
        j.halves = a->halves + row * 2 * KERN_GROUPS;
        j.share = a->share + row * KERN_GROUPS;
        j.whole = a->whole + row;
        j.low = a->low + row * KERN_GROUPS;
        j.total = a->total + row * KERN_GROUPS;
        if (bias) {
            fill_start(&side, f, bias, sum, step);
            j.start = side.start[0];
        }
        if (f->mins && f->group != KERN_GROUP) {
            fill_total(&side, j.scale, sum, step);
            j.total = side.total[0];
        }
        run(&j, step);
        kern_out_skip(&j.o, step);
        j.next += (size_t)ng * j.next_bytes;
        if (j.next >= (const char *)t->next + t->next_bytes) j.next_bytes = 0;
    }
}

ALWAYS void f32_tokens(const int T, const struct kern_out *o, const float *w, int k, const float *x,
                       size_t ldx)
{
    __m512 acc[6][2];
    UNROLL for (int t = 0; t < T; t++)
    {
        const float *from = kern_from(o, t);
        UNROLL for (int h = 0; h < 2; h++) acc[t][h] =
            from ? _mm512_loadu_ps(from + 16 * h) : _mm512_setzero_ps();
    }
    for (int i = 0; i < k; i++) {
        __m512 w0 = _mm512_load_ps(w + i * KERN_ROWS), w1 = _mm512_load_ps(w + i * KERN_ROWS + 16);
        UNROLL for (int t = 0; t < T; t++)
        {
            __m512 v = _mm512_set1_ps(x[(size_t)t * ldx + (size_t)i]);
            acc[t][0] = _mm512_fmadd_ps(w0, v, acc[t][0]);
            acc[t][1] = _mm512_fmadd_ps(w1, v, acc[t][1]);
        }
    }
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++)
        _mm512_storeu_ps(o->to + (size_t)t * o->ld + 16 * h, acc[t][h]);
}

static void gemm_f32(struct kern_out o, const float *w, int k, const float *x, size_t ldx, int n)
{
    for (; n >= 6; n -= 6, kern_out_skip(&o, 6), x += 6 * ldx) f32_tokens(6, &o, w, k, x, ldx);
    for (; n >= 2; n -= 2, kern_out_skip(&o, 2), x += 2 * ldx) f32_tokens(2, &o, w, k, x, ldx);
    if (n) f32_tokens(1, &o, w, k, x, ldx);
}

void kern__avx512_gemm(struct kern *k)
{
    k->gemm_u8 = gemm_u8;
    k->f16_steps = KERN_PARTS;
    k->u8_i16 = false; /* vpdpbusd takes bytes */
    k->gemm_f32 = gemm_f32;
}
