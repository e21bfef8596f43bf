/* Inline pieces shared by the AVX2 files. A vector holds 8 rows, a line of the layout four of them. */
#ifndef SIMD2_INT_H
#define SIMD2_INT_H

#include "kern_int.h"
#include <immintrin.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define ROLLED _Pragma("GCC unroll 1")
#endif

/* Holds v where it is computed. gcc turns a running sum of vpaddw into a tree, whose leaves then do
 * not fit the registers: twice the time. */
ALWAYS __m256i held(__m256i v)
{
    __asm__("" : "+x"(v));
    return v;
}

ALWAYS __m256i line(const void *p)
{
    return _mm256_load_si256(p);
}

ALWAYS __m256i bits_at(__m256i v, int shift, int mask)
{
    if (shift > 0) v = _mm256_slli_epi16(v, shift);
    if (shift < 0) v = _mm256_srli_epi16(v, -shift);
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

enum { LINE = KERN_ROWS * 4 };

/* Quad q of a group for 8 rows, codes as unsigned bytes; `bits` and q are constants. */
ALWAYS __m256i code(const int bits, const uint8_t *p, int q)
{
    __m256i w = _mm256_setzero_si256();
    int have = 0, quads = bits == 6 ? 4 : 8;
    p += q / quads * LINE * bits / 2;
    q %= quads;
    if (bits >= 4) {
        w = bits_at(line(p + q / 2 * LINE), q % 2 * -4, 15);
        p += quads / 2 * LINE;
        have = 4;
    }
    if (bits == 2 || bits == 3 || bits == 6) {
        __m256i v = bits_at(line(p + q / 4 * LINE), have - q % 4 * 2, 3 << have);
        w = have ? _mm256_or_si256(w, v) : v;
        p += quads / 4 * LINE;
        have += 2;
    }
    if (bits == 3 || bits == 5) w = _mm256_or_si256(w, bits_at(line(p), have - q, 1 << have));
    return w;
}

ALWAYS __m256 f16x8(const void *p)
{
    return _mm256_cvtph_ps(_mm_load_si128(p));
}

/* Four activation bytes, the same in every lane. */
ALWAYS __m256i quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

ALWAYS float sum_lanes(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

ALWAYS float max_lanes(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* Lanes lo <= i < hi. */
ALWAYS __m256i lanes(int lo, int hi)
{
    __m256i i = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(lo), i),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), i));
}

/* The first n of 8 floats; the others are zeros and are not touched. */
ALWAYS __m256 load_n(const float *p, int n)
{
    if (n <= 0) return _mm256_setzero_ps();
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, lanes(0, n));
}

ALWAYS void store_n(float *p, int n, __m256 v)
{
    if (n >= 8)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, lanes(0, n), v);
}

/* exp(x) for x <= 88: 2^n * p(r), p of degree 6 on |r| <= ln2 / 2 (relative error below 2e-7);
 * 0 below -87. */
ALWAYS __m256 exp8(__m256 x)
{
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.0f / 720);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(e, 23)));
    return _mm256_and_ps(p, _mm256_cmp_ps(x, _mm256_set1_ps(-87), _CMP_NLT_UQ)); /* keeps NaN */
}

/* tanh(x): (e - 1) / (e + 1) with e = exp(2 |x|), and an odd polynomial below 0.625, where that
 * difference would cancel (S. Moshier, Cephes, tanhf.c). */
ALWAYS __m256 tanh8(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    __m256 a = _mm256_andnot_ps(sign, x), z = _mm256_mul_ps(x, x);
    __m256 e = exp8(_mm256_min_ps(_mm256_set1_ps(80), _mm256_add_ps(a, a)));
    __m256 big = _mm256_div_ps(_mm256_sub_ps(e, one), _mm256_add_ps(e, one));
    __m256 p = _mm256_set1_ps(-5.70498872745e-3f);
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.06390887954e-2f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.37397155531e-2f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(1.33314422036e-1f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-3.33332819422e-1f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(p, z), x, x);
    big = _mm256_or_ps(big, _mm256_and_ps(sign, x));
    return _mm256_blendv_ps(big, p, _mm256_cmp_ps(a, _mm256_set1_ps(0.625f), _CMP_LT_OQ));
}

#endif
