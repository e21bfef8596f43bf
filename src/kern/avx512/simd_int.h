/* Inline pieces shared by the AVX-512 files. */
#ifndef SIMD_INT_H
#define SIMD_INT_H

#include "kern_int.h"
#include <immintrin.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Holds loads and stores between them apart. gcc would put some loads of a group first, and the processor
 * fetches ahead only what is read in order (decode loses up to a quarter). */
ALWAYS void in_order(void)
{
    __asm__ volatile("" ::: "memory");
}

ALWAYS __m512i line(const uint8_t *p)
{
    return _mm512_load_si512(p);
}

/* a | b, and no part of vpternlogd, which takes the multiply ports. */
ALWAYS __m512i both(__m512i a, __m512i b)
{
    __asm__("" : "+v"(b));
    return _mm512_or_si512(a, b);
}

ALWAYS __m512i bits_at(__m512i v, int shift, int mask)
{
    if (shift > 0) v = _mm512_slli_epi16(v, shift);
    if (shift < 0) v = _mm512_srli_epi16(v, -shift);
    return _mm512_and_si512(v, _mm512_set1_epi8((char)mask));
}

enum { LINE = KERN_ROWS * 4 };

/* Quad q for 16 rows of the group whose codes start at p, as unsigned bytes; all but p and the table
 * of levels are constants. */
ALWAYS __m512i code(const int bits, const bool levels, const uint8_t *p, int q, __m512i table)
{
    __m512i w = _mm512_setzero_si512();
    int have = 0, quads = bits == 6 ? 4 : 8;
    if (bits == 8) return line(p + LINE * q);
    p += q / quads * LINE * bits / 2;
    q %= quads;
    if (bits >= 4) {
        w = bits_at(line(p + q / 2 * LINE), q % 2 * -4, 15);
        if (levels) return _mm512_shuffle_epi8(table, w);
        p += quads / 2 * LINE;
        have = 4;
    }
    if (bits == 2 || bits == 3 || bits == 6) {
        __m512i v = bits_at(line(p + q / 4 * LINE), have - q % 4 * 2, 3 << have);
        w = have ? both(w, v) : v;
        p += quads / 4 * LINE;
        have += 2;
    }
    if (bits == 3 || bits == 5) w = both(w, bits_at(line(p), have - q, 1 << have));
    return w;
}

/* The 16 levels + 128, in each 128-bit lane. */
ALWAYS __m512i level_table(const int8_t *levels)
{
    __m128i t = _mm_loadu_si128((const __m128i *)levels);
    return _mm512_broadcast_i32x4(_mm_xor_si128(t, _mm_set1_epi8((char)0x80)));
}

ALWAYS __m512 f16x16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_load_si256(p));
}

ALWAYS __m512 i8x16(__m128i v)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v));
}

ALWAYS __m256i load32(const uint8_t *p)
{
    return _mm256_load_si256((const __m256i *)p);
}

ALWAYS __m256i bits32(__m256i v, int shift, int mask)
{
    return _mm256_and_si256(_mm256_srli_epi16(v, shift), _mm256_set1_epi8((char)mask));
}

/* out = d * b + c for 32 rows. */
ALWAYS void times_bytes(float *out, const __m512 d[2], __m256i b, float c)
{
    __m512 low = i8x16(_mm256_castsi256_si128(b)), high = i8x16(_mm256_extracti128_si256(b, 1));
    _mm512_store_ps(out, _mm512_fmadd_ps(d[0], low, _mm512_set1_ps(c)));
    _mm512_store_ps(out + 16, _mm512_fmadd_ps(d[1], high, _mm512_set1_ps(c)));
}

/* From the pairs of kern.h, groups of 16. */
ALWAYS void scales_of_pairs(struct kern_tile *t, const uint8_t *p, int groups)
{
    __m512 d[2] = {f16x16(p), f16x16(p + 32)}, m[2], zero = _mm512_setzero_ps();
    UNROLL for (int h = 0; h < 2; h++) m[h] = _mm512_sub_ps(zero, f16x16(p + 64 + 32 * h));
    p += 128;
    for (int g = 0; g < groups; g++) {
        __m256i v = load32(p + g * KERN_ROWS);
        times_bytes(t->scale[g], d, bits32(v, 0, 15), KERN__NO_SCALE);
        times_bytes(t->min[g], m, bits32(v, 4, 15), 0);
    }
}

/* Groups of 32, with minimums as integers. */
ALWAYS void scales_of_six(struct kern_tile *t, const uint8_t *p)
{
    const __m512 by = _mm512_set1_ps(-0.125f);
    __m512 d[2] = {f16x16(p), f16x16(p + 32)};
    _mm512_store_ps(t->dmin, _mm512_mul_ps(f16x16(p + 64), by));
    _mm512_store_ps(t->dmin + 16, _mm512_mul_ps(f16x16(p + 96), by));
    p += 128;
    for (int g = 0; g < KERN_GROUPS; g += 2) {
        __m256i high = load32(p + (KERN_GROUPS + g / 2) * KERN_ROWS), m[2];
        UNROLL for (int i = 0; i < 2; i++)
        {
            __m256i v = load32(p + (g + i) * KERN_ROWS);
            __m256i s = _mm256_slli_epi16(bits32(high, 4 * i, 3), 4);
            times_bytes(t->scale[g + i], d, _mm256_or_si256(s, bits32(v, 0, 15)), KERN__NO_SCALE);
            m[i] = _mm256_slli_epi16(bits32(high, 4 * i + 2, 3), 4);
            m[i] = _mm256_or_si256(m[i], bits32(v, 4, 15));
        }
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m512i a = _mm512_cvtepu8_epi32(h ? _mm256_extracti128_si256(m[0], 1)
                                               : _mm256_castsi256_si128(m[0]));
            __m512i b = _mm512_cvtepu8_epi32(h ? _mm256_extracti128_si256(m[1], 1)
                                               : _mm256_castsi256_si128(m[1]));
            _mm512_store_si512(t->low[g / 2][16 * h], _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
        }
    }
}

/* Whose minimums lie in low and dmin. */
ALWAYS bool has_low(const struct kern_fmt *f)
{
    return f->scale == KERN_SCALE_K && f->mins && f->group == KERN_GROUP;
}

/* Tokens whose products are bound by memory: nothing is made ready for them that they can do without. */
enum { FEW = 2 };

/* Scales and minimums of a block. */
ALWAYS void scales_of(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *p, int ng)
{
    int groups = ng * KERN_GROUP / f->group, n = groups * KERN_ROWS;
    if (f->scale == KERN_SCALE_F16) {
        const __m512 none = _mm512_set1_ps(kern_steps(f, KERN_PARTS) ? KERN__NO_SCALE : 0);
        for (int i = 0; i < n; i += 16)
            _mm512_store_ps(t->scale[0] + i, _mm512_add_ps(f16x16(p + 2 * i), none));
        for (int i = 0; f->mins && i < n; i += 16)
            _mm512_store_ps(t->min[0] + i, f16x16(p + 2 * (n + i)));
    } else if (has_low(f)) {
        scales_of_six(t, p);
    } else if (f->scale == KERN_SCALE_K && f->mins) {
        scales_of_pairs(t, p, groups);
    } else if (f->scale == KERN_SCALE_K) {
        __m512 d[2] = {f16x16(p), f16x16(p + 32)};
        for (int g = 0; g < groups; g++)
            times_bytes(t->scale[g], d, load32(p + 64 + g * KERN_ROWS), KERN__NO_SCALE);
    } else { /* 2^(e - 128) */
        for (int i = 0; i < n; i += 16) {
            __m512i e = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(p + i)));
            e = _mm512_sub_epi32(e, _mm512_set1_epi32(128));
            _mm512_store_ps(t->scale[0] + i,
                            _mm512_scalef_ps(_mm512_set1_ps(1), _mm512_cvtepi32_ps(e)));
        }
    }
}

/* Four activation bytes, the same in every lane. */
ALWAYS __m512i quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* Two integers, the same in every lane. */
ALWAYS __m512i pair(const int16_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* acc + products of pairs. Held where it was: gcc would move sums that a loop carries from register to
 * register and spill them. */
ALWAYS __m512i add_pairs(__m512i acc, __m512i a, __m512i b)
{
    acc = _mm512_dpwssd_epi32(acc, a, b);
    __asm__("" : "+v"(acc));
    return acc;
}

/* The nearest integer of x * inv in the low half of each lane. */
ALWAYS __m512i rounded(__m512 x, __m512 inv)
{
    return _mm512_castps_si512(_mm512_fmadd_ps(x, inv, _mm512_set1_ps(0x1.8p23f)));
}

/* exp(x) for x <= 88: 2^n * p(r) with a minimax-like polynomial of degree 6 on |r| <= ln2 / 2
 * (relative error below 2e-7); underflows to 0. */
ALWAYS __m512 exp16(__m512 x)
{
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.0f / 720);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

/* 2^x: 2^n * p(f) with a polynomial of degree 5, the least relative error (below 2e-7) on |f| <= 1/2 that 1 at
 * 0 leaves; underflows to 0. 5 operations on the multiply ports, where exp16 has 9. */
ALWAYS __m512 exp2_16(__m512 x)
{
    __m512 n = _mm512_roundscale_ps(x, 8), f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(EXP2_5);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2_4));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2_3));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2_2));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2_1));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

ALWAYS __mmask16 first_n(int n)
{
    return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

#endif
