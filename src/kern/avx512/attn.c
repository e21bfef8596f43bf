/* A page of 32 keys against up to 24 query rows (the heads of a group, times queries). Keys lie
 * with the key in the lane, values with the dimension in the lane, so neither product needs a
 * shuffle. In decode it is bound by reading the page (F16, converted on the way: 1 conversion to 6
 * FMA or fewer), in prefill by the FMA. Rejected: BF16 pairs with vdpbf16ps, twice the rate, but 8
 * bits of mantissa cost accuracy where keys carry large biases. */
#include "simd_int.h"

#include <math.h>

enum { ROWS = 12 /* at a time at most */ };

ALWAYS __m512 at16(const void *p, size_t i, const bool f32)
{
    return f32 ? _mm512_load_ps((const float *)p + i) : f16x16((const uint16_t *)p + i);
}

ALWAYS void scores(const int R, const bool f32, const struct kern_attn *a, int r, float *s)
{
    __m512 acc[ROWS][2];
    UNROLL for (int i = 0; i < R; i++) acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    for (int i = 0; i < a->d; i++) {
        if (r == 0) /* the values, as many lines as keys have; twice as many of float32 */
            _mm_prefetch((const char *)a->v + 64 * i, _MM_HINT_T0);
        __m512 k0 = at16(a->k, (size_t)i * KERN_PAGE, f32);
        __m512 k1 = at16(a->k, (size_t)i * KERN_PAGE + 16, f32);
        UNROLL for (int j = 0; j < R; j++)
        {
            __m512 q = _mm512_set1_ps(a->q[(r + j) * a->d + i]);
            acc[j][0] = _mm512_fmadd_ps(k0, q, acc[j][0]);
            acc[j][1] = _mm512_fmadd_ps(k1, q, acc[j][1]);
        }
    }
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int h = 0; h < 2; h++)
        _mm512_store_ps(s + (r + j) * KERN_PAGE + 16 * h, acc[j][h]);
}

/* Dimensions i .. i + 16 V - 1. */
ALWAYS void some_values(const int R, const int V, const bool f32, const struct kern_attn *a, int r,
                        const float *p, int lo, int hi, int i)
{
    __m512 acc[ROWS][4];
    float *out = a->out + r * a->d + i;
    const char *next = a->next;
    size_t each = (size_t)a->d * (f32 ? 4 : 2);
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int k = 0; k < V; k++) acc[j][k] =
        _mm512_loadu_ps(out + j * a->d + 16 * k);
    for (int key = lo; key < hi; key++) {
        for (size_t at = 0; next && i == 0 && at < each; at += 64)
            _mm_prefetch(next + (size_t)key * each + at, _MM_HINT_T0);
        UNROLL for (int k = 0; k < V; k++)
        {
            __m512 v = at16(a->v, (size_t)(key * a->d + i + 16 * k), f32);
            UNROLL for (int j = 0; j < R; j++) acc[j][k] =
                _mm512_fmadd_ps(v, _mm512_set1_ps(p[(r + j) * KERN_PAGE + key]), acc[j][k]);
        }
    }
    UNROLL for (int j = 0; j < R; j++) UNROLL for (int k = 0; k < V; k++)
        _mm512_storeu_ps(out + j * a->d + 16 * k, acc[j][k]);
}

ALWAYS void values(const int R, const bool f32, const struct kern_attn *a, int r, const float *p,
                   int lo, int hi)
{
    const int V = R > 6 ? 2 : 4;
    int i = 0;
    for (; i + 16 * V <= a->d; i += 16 * V) some_values(R, V, f32, a, r, p, lo, hi, i);
    for (; i < a->d; i += 16) some_values(R, 1, f32, a, r, p, lo, hi, i);
}

static __m512 cap16(__m512 s, float cap)
{
    __m512 e = exp16(_mm512_min_ps(_mm512_mul_ps(s, _mm512_set1_ps(2 / cap)), _mm512_set1_ps(80)));
    __m512 one = _mm512_set1_ps(1);
    __m512 tanh = _mm512_div_ps(_mm512_sub_ps(e, one), _mm512_add_ps(e, one));
    return _mm512_mul_ps(tanh, _mm512_set1_ps(cap));
}

static void soften(const struct kern_attn *a, int r, float *s)
{
    uint32_t seen = (a->hi[r] >= 32 ? UINT32_MAX : (1u << a->hi[r]) - 1) & ~((1u << a->lo[r]) - 1);
    __mmask16 m[2] = {(__mmask16)seen, (__mmask16)(seen >> 16)};
    __m512 v[2] = {_mm512_load_ps(s), _mm512_load_ps(s + 16)};
    if (a->softcap != 0)
        for (int h = 0; h < 2; h++) v[h] = cap16(v[h], a->softcap);
    __m512 top =
        _mm512_mask_max_ps(_mm512_set1_ps(a->max[r]), m[0], v[0], _mm512_set1_ps(a->max[r]));
    float max = _mm512_reduce_max_ps(_mm512_mask_max_ps(top, m[1], v[1], top));
    for (int h = 0; h < 2; h++) {
        v[h] = _mm512_maskz_mov_ps(m[h], exp16(_mm512_sub_ps(v[h], _mm512_set1_ps(max))));
        _mm512_store_ps(s + 16 * h, v[h]);
    }
    float shrink = expf(a->max[r] - max);
    a->sum[r] = a->sum[r] * shrink + _mm512_reduce_add_ps(_mm512_add_ps(v[0], v[1]));
    a->max[r] = max;
    if (shrink != 1)
        for (int i = 0; i < a->d; i += 16) {
            float *o = a->out + r * a->d + i;
            _mm512_storeu_ps(o, _mm512_mul_ps(_mm512_loadu_ps(o), _mm512_set1_ps(shrink)));
        }
}

ALWAYS void rows(const int R, const bool f32, const struct kern_attn *a, int r)
{
    float *s = a->scratch;
    int lo = KERN_PAGE, hi = 0;
    for (int i = r; i < r + R; i++) {
        if (a->lo[i] >= a->hi[i]) continue;
        if (a->lo[i] < lo) lo = a->lo[i];
        if (a->hi[i] > hi) hi = a->hi[i];
    }
    if (lo >= hi) return;
    scores(R, f32, a, r, s);
    for (int i = r; i < r + R; i++) {
        if (a->lo[i] < a->hi[i])
            soften(a, i, s + i * KERN_PAGE);
        else
            memset(s + i * KERN_PAGE, 0, KERN_PAGE * sizeof *s);
    }
    values(R, f32, a, r, s, lo, hi);
}

ALWAYS void all_rows(const bool f32, const struct kern_attn *a)
{
    int r = 0;
    for (; a->m - r >= ROWS; r += ROWS) rows(ROWS, f32, a, r);
    for (; a->m - r >= 6; r += 6) rows(6, f32, a, r);
    for (; a->m - r >= 3; r += 3) rows(3, f32, a, r);
    for (; a->m - r >= 1; r += 1) rows(1, f32, a, r);
}

static void attn(const struct kern_attn *a)
{
    if (a->f32)
        all_rows(true, a);
    else
        all_rows(false, a);
}

void kern__avx512_attn(struct kern *k)
{
    k->attn = attn;
}
