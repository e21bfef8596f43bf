/* Element-wise operations, 16 at a time with a masked tail; all are bound by memory but for the
 * exponentials, some 12 operations each. */
#include "simd_int.h"

static void rms_norm(float *out, const float *x, const float *w, int n, float eps)
{
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(first_n(n - i), x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    float s = 1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(sum) / (float)n + eps);
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = first_n(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(s));
        if (w) v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, w + i));
        _mm512_mask_storeu_ps(out + i, m, v);
    }
}

static void layer_norm(float *out, const float *x, const float *w, const float *b, int n, float eps)
{
    __m512 sum = _mm512_setzero_ps(), squares = sum;
    for (int i = 0; i < n; i += 16)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(first_n(n - i), x + i));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)n);
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = first_n(n - i);
        __m512 v = _mm512_maskz_sub_ps(m, _mm512_maskz_loadu_ps(m, x + i), mean);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    __m512 s =
        _mm512_set1_ps(1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / (float)n + eps));
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = first_n(n - i);
        __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), mean), s);
        v = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w + i), _mm512_maskz_loadu_ps(m, b + i));
        _mm512_mask_storeu_ps(out + i, m, v);
    }
}

static void rope_halves(float *x, const float *cs, int half)
{
    for (int i = 0; i < half; i += 16) {
        __mmask16 m = first_n(half - i);
        __m512 c = _mm512_maskz_loadu_ps(m, cs + i), s = _mm512_maskz_loadu_ps(m, cs + half + i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + half + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, m, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
    }
}

static void rope_pairs(float *x, const float *cs, int half)
{
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512 minus = _mm512_castsi512_ps(_mm512_set1_epi64(0x80000000));
    for (int i = 0; i < half; i += 8) {
        __mmask16 m = first_n(half - i < 8 ? half - i : 8), m2 = first_n(2 * (half - i));
        __m512 c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(m, cs + i));
        __m512 s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(m, cs + half + i));
        __m512 v = _mm512_maskz_loadu_ps(m2, x + 2 * i), w = _mm512_permute_ps(v, 0xb1);
        s = _mm512_xor_ps(s, minus);
        _mm512_mask_storeu_ps(x + 2 * i, m2, _mm512_fmadd_ps(v, c, _mm512_mul_ps(w, s)));
    }
}

static void rope(float *x, const float *cos_sin, int d_rot, enum kern_rope kind)
{
    if (kind == KERN_ROPE_PAIRS)
        rope_pairs(x, cos_sin, d_rot / 2);
    else
        rope_halves(x, cos_sin, d_rot / 2);
}

/* x / (1 + exp(-s x)) */
static __m512 swish(__m512 x, __m512 s)
{
    __m512 e = _mm512_mul_ps(x, _mm512_sub_ps(_mm512_setzero_ps(), s));
    e = exp16(_mm512_min_ps(e, _mm512_set1_ps(88)));
    return _mm512_div_ps(x, _mm512_add_ps(e, _mm512_set1_ps(1)));
}

static void silu_mul(float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = first_n(n - i);
        __m512 v = swish(_mm512_maskz_loadu_ps(m, gate + i), _mm512_set1_ps(1));
        _mm512_mask_storeu_ps(gate + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

/* 0.5 (1 + tanh u) = 1 / (1 + exp(-2 u)) */
static void gelu_mul(float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = first_n(n - i);
        __m512 x = _mm512_maskz_loadu_ps(m, gate + i);
        __m512 s =
            _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), _mm512_set1_ps(1));
        x = swish(x, _mm512_mul_ps(s, _mm512_set1_ps(2 * 0.7978845608f)));
        _mm512_mask_storeu_ps(gate + i, m, _mm512_mul_ps(x, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

/* x Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, with erfc as in Abramowitz and Stegun 7.1.26,
 * which is off by 1.5e-7 at most. */
static void gelu(float *x, int n)
{
    const __m512 one = _mm512_set1_ps(1);
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = first_n(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i), a = _mm512_abs_ps(v);
        __m512 z = _mm512_mul_ps(a, _mm512_set1_ps(0.70710678f));
        __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
        __m512 p = _mm512_set1_ps(1.061405429f);
        p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
        p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
        p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
        p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
        z = _mm512_max_ps(_mm512_set1_ps(-88), _mm512_fnmadd_ps(z, z, _mm512_setzero_ps()));
        p = _mm512_mul_ps(_mm512_mul_ps(p, t), exp16(z));
        p = _mm512_mul_ps(p, _mm512_mul_ps(a, _mm512_set1_ps(0.5f)));
        v = _mm512_sub_ps(_mm512_max_ps(v, _mm512_setzero_ps()), p);
        _mm512_mask_storeu_ps(x + i, m, v);
    }
}

static void add(float *x, const float *y, int n)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = first_n(n - i);
        _mm512_mask_storeu_ps(
            x + i, m,
            _mm512_add_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_maskz_loadu_ps(m, y + i)));
    }
}

void kern__avx512_elem(struct kern *k)
{
    k->rms_norm = rms_norm;
    k->layer_norm = layer_norm;
    k->rope = rope;
    k->silu_mul = silu_mul;
    k->gelu_mul = gelu_mul;
    k->gelu = gelu;
    k->add = add;
}
