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

/* Holds loads and stores between them apart. gcc would take those of all eight quads of a group first and
 * spill them, which halves the speed (Zen 3: 40 for 95 GMAC/s). */
ALWAYS void in_order(void)
{
    __asm__ volatile("" ::: "memory");
}

/* A loop over the quads of a group, unrolled whole; with a sanitizer that would compile for a minute. */
#ifdef __SANITIZE_ADDRESS__
#define QUADS ROLLED
#else
#define QUADS UNROLL
#endif

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

ALWAYS void fetch(const void *p, size_t n)
{
    for (size_t at = 0; at < n; at += 64) _mm_prefetch((const char *)p + at, _MM_HINT_T0);
}

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

/* Scales and minimums of up to 6 bits from the pairs of kern.h. */
ALWAYS void pairs_of(uint8_t (*s)[KERN_ROWS], uint8_t (*m)[KERN_ROWS], const uint8_t *p, int groups,
                     bool high)
{
    for (int g = 0; g < groups; g++) {
        __m256i v = line(p + g * KERN_ROWS), sv = bits_at(v, 0, 15), mv = bits_at(v, -4, 15);
        if (high) {
            __m256i h = line(p + (groups + g / 2) * KERN_ROWS);
            if (g % 2) h = _mm256_srli_epi16(h, 4);
            sv = _mm256_or_si256(sv, bits_at(h, 4, 0x30));
            mv = _mm256_or_si256(mv, bits_at(h, 2, 0x30));
        }
        _mm256_store_si256((__m256i *)s[g], sv);
        _mm256_store_si256((__m256i *)m[g], mv);
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

/* -C times the sums of bytes 0 and 1, of 2 and 3 of the quads of each group, pairs of 16 bits. */
ALWAYS void fill_centre(int32_t *out, const int8_t *q, int centre, int group)
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

/* Two of 16 bits. */
ALWAYS __m256i pair(const int16_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

/* 256 times the scales of rows from 8 r on, a pair each. */
ALWAYS __m256i scale_pairs(const uint8_t *sc, int r)
{
    const __m256i rows = _mm256_set_epi16(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    __m256i at = _mm256_add_epi16(rows, _mm256_set1_epi16((short)(8 * (r % 2))));
    __m256i v = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(sc + r / 2 * 16)));
    at = _mm256_or_si256(_mm256_slli_epi16(at, 8), _mm256_set1_epi16(0x80));
    return _mm256_shuffle_epi8(v, at);
}

/* was + d sum - dmin low for rows from 8 r on of KERN_SCALE_K, sum of 256 times the scales. */
ALWAYS __m256 row_scaled(const uint8_t *p, bool mins, int r, __m256 sum, __m256 low, __m256 was)
{
    __m256 d = _mm256_mul_ps(f16x8(p + 16 * r), _mm256_set1_ps(0x1p-8f));
    sum = _mm256_fmadd_ps(d, sum, was);
    return mins ? _mm256_fnmadd_ps(f16x8(p + 64 + 16 * r), low, sum) : sum;
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

/* The nearest integer of x * inv in the low half of each lane. */
ALWAYS __m256i rounded(__m256 x, __m256 inv)
{
    return _mm256_castps_si256(_mm256_fmadd_ps(x, inv, _mm256_set1_ps(0x1.8p23f)));
}

/* The low halves of 16 lanes, in order. */
ALWAYS __m256i low_halves(__m256i a, __m256i b)
{
    a = _mm256_srai_epi32(_mm256_slli_epi32(a, 16), 16);
    b = _mm256_srai_epi32(_mm256_slli_epi32(b, 16), 16);
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}

/* Magnitudes compare as integers, with NaNs the largest of all. */
ALWAYS __m256i max_of_all(__m256i v)
{
    v = _mm256_max_epu32(v, _mm256_permute2x128_si256(v, v, 1));
    v = _mm256_max_epu32(v, _mm256_shuffle_epi32(v, 0x4e));
    return _mm256_max_epu32(v, _mm256_shuffle_epi32(v, 0xb1));
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

/* 2^x for x <= 0; 0 below 2^-126. */
ALWAYS __m256 exp2_8(__m256 x)
{
    __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 f = _mm256_sub_ps(x, n), p = _mm256_set1_ps(EXP2_5);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(EXP2_4));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(EXP2_3));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(EXP2_2));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(EXP2_1));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1));
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e));
    return _mm256_and_ps(p, _mm256_cmp_ps(x, _mm256_set1_ps(-126), _CMP_NLT_UQ)); /* keeps NaN */
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
