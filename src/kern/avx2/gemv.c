/* 32 rows and one token, from the block as it lies: codes are taken apart in registers and scales stay
 * integers, which costs two thirds of unpacking both first. The next block is fetched beside each 32
 * columns: left to itself, with so many operations between its loads, a core reads a third less (Zen 3,
 * 1.5B: 25 for 33 tokens/s). The numbers are those of gemm.c, to the bit, and how a group fits in 16 bits
 * stands there. */
#include "simd2_int.h"

struct kind {
    int bits, group;
    bool k, mins; /* k: scales of KERN_SCALE_K */
};

/* Do 16-bit sums start at -centre times the activations? */
ALWAYS bool centred(const struct kind k)
{
    return !k.mins || (k.bits == 5 && !k.k);
}

struct job {
    const uint8_t *codes, *scales;
    const int8_t *q;
    const float *scale;             /* of the activations */
    const uint8_t (*sc)[KERN_ROWS]; /* of KERN_SCALE_K */
    const int32_t *sum;             /* of 16 of q */
    _Alignas(32) int32_t centre[KERN_K / 16];
};

/* d[r] = for rows from 8 r on, the sums of quads from .. to - 1 of 32 columns; x: their activations. */
ALWAYS void dots(const struct kind k, const int from, const int to, const uint8_t *w,
                 const int8_t *x, __m256i start, __m256i d[4])
{
    UNROLL for (int r = 0; r < 4; r++) d[r] = start;
    UNROLL for (int i = from; i < to; i++)
    {
        __m256i v = quad(x + 4 * i);
        UNROLL for (int r = 0; r < 4; r++) d[r] =
            held(_mm256_add_epi16(d[r], _mm256_maddubs_epi16(code(k.bits, w + 32 * r, i), v)));
        __asm__ volatile("" ::: "memory"); /* gcc would take all loads first, and spill */
    }
}

/* acc += the products of 32 columns, without what the rows' own scale of KERN_SCALE_K is. */
ALWAYS void unit(const struct kind k, const struct job *j, int u, __m256 acc[4])
{
    const int parts = k.group == 16 || (k.k && k.bits == 5) ? 2 : 1;
    const uint8_t *w = j->codes + u * LINE * k.bits;
    __m256 as = _mm256_set1_ps(j->scale[u]);
    __m256i d[4];
    UNROLL for (int s = 0; s < parts; s++)
    {
        int g = k.group == 16 ? 2 * u + s : u;
        __m256i start = centred(k) ? _mm256_set1_epi32(j->centre[g]) : _mm256_setzero_si256();
        dots(k, s * 8 / parts, (s + 1) * 8 / parts, w, j->q + 32 * u, start, d);
        UNROLL for (int r = 0; r < 4; r++)
        {
            __m256i by = k.k ? scale_pairs(j->sc[g], r) : _mm256_set1_epi16(1);
            __m256 ws = k.k ? as : _mm256_mul_ps(as, f16x8(j->scales + 64 * u + 16 * r));
            __m256i v = _mm256_madd_epi16(d[r], by);
            if (centred(k) && k.mins)
                v = _mm256_add_epi32(v,
                                     _mm256_set1_epi32(16 * (j->sum[2 * u] + j->sum[2 * u + 1])));
            acc[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(v), ws, acc[r]);
        }
    }
}

/* acc += minimum . total, from bytes. */
ALWAYS void add_minimums(const struct kind k, const uint8_t (*m)[KERN_ROWS], int groups,
                         const struct kern_act *a, size_t row, __m256 acc[4])
{
    for (int g = 0; g < groups; g++) {
        float total = k.group == 32 ? a->total[row * KERN_GROUPS + (size_t)g]
                                    : a->scale[row * KERN_GROUPS + (size_t)(g / 2)] *
                                          (float)a->sum[row * 16 + (size_t)g];
        __m256 by = _mm256_set1_ps(total);
        UNROLL for (int r = 0; r < 4; r++)
        {
            __m128i b = _mm_loadl_epi64((const __m128i *)(m[g] + 8 * r));
            __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b));
            acc[r] = _mm256_fmadd_ps(v, by, acc[r]);
        }
    }
}

/* Of one group, F16. */
ALWAYS void add_minimum(const uint8_t *m, float total, __m256 acc[4])
{
    UNROLL for (int r = 0; r < 4; r++) acc[r] =
        _mm256_fmadd_ps(f16x8(m + 16 * r), _mm256_set1_ps(total), acc[r]);
}

ALWAYS void one(const struct kind k, const struct kern_out *o, const struct kern_tile *t,
                const struct kern_fmt *f, int ng, const struct kern_act *a, size_t row)
{
    _Alignas(32) uint8_t s[KERN_K / 16][KERN_ROWS], m[KERN_K / 16][KERN_ROWS];
    struct job j = {
        t->codes,          t->scales, a->q + row * KERN_K, a->scale + row * KERN_GROUPS, s,
        a->sum + row * 16, {0}};
    int groups = ng * KERN_GROUP / k.group;
    if (k.k && k.mins) pairs_of(s, m, t->scales + 128, groups, k.group == 32);
    if (k.k && !k.mins) j.sc = (const uint8_t(*)[KERN_ROWS])(t->scales + 64);
    if (centred(k)) fill_centre(j.centre, j.q, k.mins ? 16 : f->bias, k.group);
    __m256 was[4], acc[4], low[4];
    UNROLL for (int r = 0; r < 4; r++)
    {
        was[r] = o->from ? _mm256_loadu_ps(o->from + 8 * r) : _mm256_setzero_ps();
        acc[r] = k.k ? _mm256_setzero_ps() : was[r];
        low[r] = _mm256_setzero_ps();
    }
    size_t each = t->next_bytes / (unsigned)ng;
    for (int u = 0; u < ng; u++) {
        fetch(t->next + (size_t)u * each, each);
        if (j.scale[u] == 0) continue;
        unit(k, &j, u, acc);
        if (k.mins && !k.k)
            add_minimum(t->scales + 64 * (ng + u), a->total[row * KERN_GROUPS + (size_t)u], acc);
    }
    if (k.mins && k.k) add_minimums(k, m, groups, a, row, low);
    UNROLL for (int r = 0; r < 4; r++)
    {
        if (k.k) acc[r] = row_scaled(t->scales, k.mins, r, acc[r], low[r], was[r]);
        _mm256_storeu_ps(o->to + 8 * r, acc[r]);
    }
}

/* Groups of 32, of 4 or 5 bits. */
ALWAYS void one_of_32(const int bits, const struct kern_out *o, const struct kern_tile *t,
                      const struct kern_fmt *f, int ng, const struct kern_act *a, size_t row)
{
    if (f->scale == KERN_SCALE_K)
        one((struct kind){bits, 32, true, true}, o, t, f, ng, a, row);
    else if (f->mins)
        one((struct kind){bits, 32, false, true}, o, t, f, ng, a, row);
    else
        one((struct kind){bits, 32, false, false}, o, t, f, ng, a, row);
}

/* The formats that there are. */
void kern__avx2_gemv(const struct kern_out *o, const struct kern_tile *t, const struct kern_fmt *f,
                     int ng, const struct kern_act *a, size_t row)
{
    switch (f->bits) {
    case 2: one((struct kind){2, 16, true, true}, o, t, f, ng, a, row); break;
    case 3: one((struct kind){3, 16, true, false}, o, t, f, ng, a, row); break;
    case 4: one_of_32(4, o, t, f, ng, a, row); break;
    case 5: one_of_32(5, o, t, f, ng, a, row); break;
    default: one((struct kind){6, 16, true, false}, o, t, f, ng, a, row); break;
    }
}
