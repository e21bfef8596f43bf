/* Element-wise operations, 8 at a time with a masked tail; all are bound by memory but for the
 * exponentials, some 16 operations each. */
#include "simd2_int.h"

static void rms_norm(float *out, const float *x, const float *w, int n, float eps)
{
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    int i = 0;
    for (; i + 16 <= n; i += 16) UNROLL for (int h = 0; h < 2; h++)
        {
            __m256 v = _mm256_loadu_ps(x + i + 8 * h);
            sum[h] = _mm256_fmadd_ps(v, v, sum[h]);
        }
    for (; i < n; i += 8) {
        __m256 v = load_n(x + i, n - i);
        sum[0] = _mm256_fmadd_ps(v, v, sum[0]);
    }
    float s = 1.0f / __builtin_sqrtf(sum_lanes(_mm256_add_ps(sum[0], sum[1])) / (float)n + eps);
    for (i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(load_n(x + i, n - i), _mm256_set1_ps(s));
        if (w) v = _mm256_mul_ps(v, load_n(w + i, n - i));
        store_n(out + i, n - i, v);
    }
}

static void layer_norm(float *out, const float *x, const float *w, const float *b, int n, float eps)
{
    __m256 sum = _mm256_setzero_ps(), squares = sum;
    for (int i = 0; i < n; i += 8) sum = _mm256_add_ps(sum, load_n(x + i, n - i));
    __m256 mean = _mm256_set1_ps(sum_lanes(sum) / (float)n);
    for (int i = 0; i < n; i += 8) {
        __m256 v = _mm256_sub_ps(load_n(x + i, n - i), mean);
        if (n - i < 8) v = _mm256_and_ps(v, _mm256_castsi256_ps(lanes(0, n - i)));
        squares = _mm256_fmadd_ps(v, v, squares);
    }
    __m256 s = _mm256_set1_ps(1.0f / __builtin_sqrtf(sum_lanes(squares) / (float)n + eps));
    for (int i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(load_n(x + i, n - i), mean), s);
        store_n(out + i, n - i, _mm256_fmadd_ps(v, load_n(w + i, n - i), load_n(b + i, n - i)));
    }
}

static void rope_halves(float *x, const float *cs, int half)
{
    for (int i = 0; i < half; i += 8) {
        int n = half - i;
        __m256 c = load_n(cs + i, n), s = load_n(cs + half + i, n);
        __m256 a = load_n(x + i, n), b = load_n(x + half + i, n);
        store_n(x + i, n, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        store_n(x + half + i, n, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
    }
}

static void rope_pairs(float *x, const float *cs, int half)
{
    const __m256i twice = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
    for (int i = 0; i < half; i += 4) {
        int n = half - i < 4 ? half - i : 4;
        __m256 c = _mm256_permutevar8x32_ps(load_n(cs + i, n), twice);
        __m256 s = _mm256_permutevar8x32_ps(load_n(cs + half + i, n), twice);
        __m256 v = load_n(x + 2 * i, 2 * n), w = _mm256_permute_ps(v, 0xb1);
        store_n(x + 2 * i, 2 * n, _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(w, s)));
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
ALWAYS __m256 swish(__m256 x, __m256 s)
{
    __m256 e = _mm256_mul_ps(x, _mm256_xor_ps(s, _mm256_set1_ps(-0.0f)));
    e = exp8(_mm256_min_ps(_mm256_set1_ps(88), e));
    return _mm256_div_ps(x, _mm256_add_ps(e, _mm256_set1_ps(1)));
}

static void silu_mul(float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += 8) {
        __m256 v = swish(load_n(gate + i, n - i), _mm256_set1_ps(1));
        store_n(gate + i, n - i, _mm256_mul_ps(v, load_n(up + i, n - i)));
    }
}

/* 0.5 (1 + tanh u) = 1 / (1 + exp(-2 u)) */
static void gelu_mul(float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += 8) {
        __m256 x = load_n(gate + i, n - i);
        __m256 s =
            _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f), _mm256_set1_ps(1));
        x = swish(x, _mm256_mul_ps(s, _mm256_set1_ps(2 * 0.7978845608f)));
        store_n(gate + i, n - i, _mm256_mul_ps(x, load_n(up + i, n - i)));
    }
}

/* x Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, with erfc as in Abramowitz and Stegun 7.1.26,
 * which is off by 1.5e-7 at most. */
static void gelu(float *x, int n)
{
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    for (int i = 0; i < n; i += 8) {
        __m256 v = load_n(x + i, n - i), a = _mm256_andnot_ps(sign, v);
        __m256 z = _mm256_mul_ps(a, _mm256_set1_ps(0.70710678f));
        __m256 t = _mm256_div_ps(one, _mm256_fmadd_ps(z, _mm256_set1_ps(0.3275911f), one));
        __m256 p = _mm256_set1_ps(1.061405429f);
        p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(-1.453152027f));
        p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(1.421413741f));
        p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(-0.284496736f));
        p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0.254829592f));
        p = _mm256_mul_ps(_mm256_mul_ps(p, t), exp8(_mm256_xor_ps(sign, _mm256_mul_ps(z, z))));
        p = _mm256_mul_ps(p, _mm256_mul_ps(a, _mm256_set1_ps(0.5f)));
        v = _mm256_sub_ps(_mm256_max_ps(v, _mm256_setzero_ps()), p);
        store_n(x + i, n - i, v);
    }
}

static void add(float *x, const float *y, int n)
{
    for (int i = 0; i < n; i += 8)
        store_n(x + i, n - i, _mm256_add_ps(load_n(x + i, n - i), load_n(y + i, n - i)));
}

static void softcap(float *x, int n, float cap)
{
    for (int i = 0; i < n; i += 8) {
        __m256 v = tanh8(_mm256_div_ps(load_n(x + i, n - i), _mm256_set1_ps(cap)));
        store_n(x + i, n - i, _mm256_mul_ps(v, _mm256_set1_ps(cap)));
    }
}

void kern__avx2_elem(struct kern *k)
{
    k->rms_norm = rms_norm;
    k->layer_norm = layer_norm;
    k->rope = rope;
    k->silu_mul = silu_mul;
    k->gelu_mul = gelu_mul;
    k->gelu = gelu;
    k->add = add;
    k->softcap = softcap;
}
