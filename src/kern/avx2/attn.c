/* A page of 32 keys against up to 24 query rows (the heads of a group, times queries). Keys lie
 * with the key in the lane, values with the dimension in the lane, so neither product needs a
 * shuffle. In decode it is bound by reading the page, in prefill by the FMA: 3 rows x 32 keys or 6
 * rows x 16 dimensions are 12 sums, with 7 or 8 loads a step. F16 is converted on the way when few
 * rows share it, else once into the scratch, where the scores of all rows are, too. */
#include "simd2_int.h"

#include <math.h>

enum { ON_THE_WAY = 3 }; /* rows up to which converting twice is not worth avoiding */

ALWAYS __m256 at8(const void *p, int i, const bool f32)
{
    return f32 ? _mm256_load_ps((const float *)p + i) : f16x8((const uint16_t *)p + i);
}

ALWAYS void scores(const int R, const bool f32, const void *keys, const float *q, int d, float *s,
                   const void *next)
{
    const size_t each = KERN_PAGE * (f32 ? 4 : 2);
    __m256 acc[3][4];
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int h = 0; h < 4; h++) acc[j][h] =
        _mm256_setzero_ps();
    for (int i = 0; i < d; i++) {
        __m256 v[3];
        if (next) fetch((const char *)next + (size_t)i * each, each);
        UNROLL for (int j = 0; j < R; j++) v[j] = _mm256_set1_ps(q[j * d + i]);
        UNROLL for (int h = 0; h < 4; h++)
        {
            __m256 k = at8(keys, i * KERN_PAGE + 8 * h, f32);
            UNROLL for (int j = 0; j < R; j++) acc[j][h] = _mm256_fmadd_ps(k, v[j], acc[j][h]);
        }
    }
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int h = 0; h < 4; h++)
        _mm256_store_ps(s + j * KERN_PAGE + 8 * h, acc[j][h]);
}

ALWAYS void values(const int R, const bool f32, const void *v, int d, float *out, const float *p,
                   int lo, int hi, const void *next)
{
    const size_t each = f32 ? 64 : 32; /* a page in d / 16 * KERN_PAGE of them */
    for (int i = 0; i < d; i += 16) {
        const char *ahead = (const char *)next + (size_t)i * 2 * each;
        __m256 acc[6][2];
        UNROLL for (int j = 0; j < R; j++) UNROLL for (int h = 0; h < 2; h++) acc[j][h] =
            _mm256_loadu_ps(out + j * d + i + 8 * h);
        for (int key = lo; key < hi; key++) {
            if (next) fetch(ahead + (size_t)key * each, each);
            __m256 v0 = at8(v, key * d + i, f32), v1 = at8(v, key * d + i + 8, f32);
            UNROLL for (int j = 0; j < R; j++)
            {
                __m256 w = _mm256_set1_ps(p[j * KERN_PAGE + key]);
                acc[j][0] = _mm256_fmadd_ps(v0, w, acc[j][0]);
                acc[j][1] = _mm256_fmadd_ps(v1, w, acc[j][1]);
            }
        }
        UNROLL for (int j = 0; j < R; j++) UNROLL for (int h = 0; h < 2; h++)
            _mm256_storeu_ps(out + j * d + i + 8 * h, acc[j][h]);
    }
}

static void soften(const struct kern_attn *a, int r, float *s)
{
    __m256 v[4], in[4], top = _mm256_set1_ps(a->max[r]), sum = _mm256_setzero_ps();
    for (int h = 0; h < 4; h++) {
        v[h] = _mm256_load_ps(s + 8 * h);
        in[h] = _mm256_castsi256_ps(lanes(a->lo[r] - 8 * h, a->hi[r] - 8 * h));
        if (a->softcap != 0)
            v[h] = _mm256_mul_ps(tanh8(_mm256_div_ps(v[h], _mm256_set1_ps(a->softcap))),
                                 _mm256_set1_ps(a->softcap));
        top = _mm256_max_ps(_mm256_blendv_ps(top, v[h], in[h]), top);
    }
    float max = max_lanes(top), shrink = expf(a->max[r] - max);
    for (int h = 0; h < 4; h++) {
        v[h] = _mm256_and_ps(in[h], exp8(_mm256_sub_ps(v[h], _mm256_set1_ps(max))));
        sum = _mm256_add_ps(sum, v[h]);
        _mm256_store_ps(s + 8 * h, v[h]);
    }
    a->sum[r] = a->sum[r] * shrink + sum_lanes(sum);
    a->max[r] = max;
    float *o = a->out + r * a->d;
    for (int i = 0; shrink != 1 && i < a->d; i += 8)
        _mm256_storeu_ps(o + i, _mm256_mul_ps(_mm256_loadu_ps(o + i), _mm256_set1_ps(shrink)));
}

ALWAYS void all_scores(const bool f32, const struct kern_attn *a, const void *keys, float *s,
                       const void *next)
{
    int r = 0, d = a->d;
    for (; a->m - r >= 3; r += 3, next = NULL)
        scores(3, f32, keys, a->q + r * d, d, s + r * KERN_PAGE, next);
    for (; a->m - r >= 1; r += 1, next = NULL)
        scores(1, f32, keys, a->q + r * d, d, s + r * KERN_PAGE, next);
}

/* The keys that some of the rows see. */
ALWAYS void some_values(const int R, const bool f32, const struct kern_attn *a, const void *v,
                        const float *s, int r, const void *next)
{
    int lo = KERN_PAGE, hi = 0;
    for (int i = r; i < r + R; i++) {
        if (a->lo[i] >= a->hi[i]) continue;
        if (a->lo[i] < lo) lo = a->lo[i];
        if (a->hi[i] > hi) hi = a->hi[i];
    }
    if (lo < hi) values(R, f32, v, a->d, a->out + r * a->d, s + r * KERN_PAGE, lo, hi, next);
}

ALWAYS void all_values(const bool f32, const struct kern_attn *a, const void *v, const float *s,
                       const void *next)
{
    int r = 0;
    for (; a->m - r >= 6; r += 6, next = NULL) some_values(6, f32, a, v, s, r, next);
    for (; a->m - r >= 3; r += 3, next = NULL) some_values(3, f32, a, v, s, r, next);
    for (; a->m - r >= 1; r += 1, next = NULL) some_values(1, f32, a, v, s, r, next);
}

static const float *to_f32(const struct kern_attn *a, const void *p, const void *next)
{
    for (int i = 0; i < a->d * KERN_PAGE; i += 32) {
        if (next) fetch((const uint16_t *)next + i, 64);
        UNROLL for (int h = 0; h < 32; h += 8)
            _mm256_store_ps(a->scratch + i + h, f16x8((const uint16_t *)p + i + h));
    }
    return a->scratch;
}

/* The values are fetched beside the keys, the keys of the next page beside the values. */
static void attn(const struct kern_attn *a)
{
    float *s = a->scratch + a->d * KERN_PAGE;
    const bool convert = !a->f32 && a->m > ON_THE_WAY;
    if (convert)
        all_scores(true, a, to_f32(a, a->k, a->v), s, NULL);
    else if (a->f32)
        all_scores(true, a, a->k, s, a->v);
    else
        all_scores(false, a, a->k, s, a->v);
    for (int r = 0; r < a->m; r++) {
        if (a->lo[r] < a->hi[r])
            soften(a, r, s + r * KERN_PAGE);
        else
            memset(s + r * KERN_PAGE, 0, KERN_PAGE * sizeof *s);
    }
    if (convert)
        all_values(true, a, to_f32(a, a->v, a->next), s, NULL);
    else if (a->f32)
        all_values(true, a, a->v, s, a->next);
    else
        all_values(false, a, a->v, s, a->next);
}

void kern__avx2_attn(struct kern *k)
{
    k->attn = attn;
}
