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

ALWAYS __m512i line(const uint8_t *p)
{
    return _mm512_load_si512(p);
}

ALWAYS __m512i bits_at(__m512i v, int shift, int mask)
{
    if (shift > 0) v = _mm512_slli_epi16(v, shift);
    if (shift < 0) v = _mm512_srli_epi16(v, -shift);
    return _mm512_and_si512(v, _mm512_set1_epi8((char)mask));
}

/* The eight quads of one group and half, codes as unsigned bytes; `bits` is a constant. */
ALWAYS void codes8(const int bits, const uint8_t *p, __m512i w[8])
{
    int have = 0;
    if (bits == 8) {
        UNROLL for (int i = 0; i < 8; i++) w[i] = line(p + 64 * i);
        return;
    }
    if (bits >= 4) {
        UNROLL for (int i = 0; i < 4; i++)
        {
            __m512i v = line(p + 64 * i);
            w[2 * i] = bits_at(v, 0, 15);
            w[2 * i + 1] = bits_at(v, -4, 15);
        }
        p += 256;
        have = 4;
    }
    if (bits == 2 || bits == 3 || bits == 6) {
        UNROLL for (int i = 0; i < 8; i++)
        {
            __m512i v = bits_at(line(p + i / 4 * 64), have - i % 4 * 2, 3 << have);
            w[i] = have ? _mm512_or_si512(w[i], v) : v;
        }
        p += 128;
        have += 2;
    }
    if (bits == 3 || bits == 5) {
        UNROLL for (int i = 0; i < 8; i++)
        {
            w[i] = _mm512_or_si512(w[i], bits_at(line(p), have - i, 1 << have));
        }
    }
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

ALWAYS __m128i load16(const uint8_t *p)
{
    return _mm_load_si128((const __m128i *)p);
}

ALWAYS __m128i bits16(__m128i v, int shift, int mask)
{
    return _mm_and_si128(_mm_srli_epi16(v, shift), _mm_set1_epi8((char)mask));
}

/* Scale and minimum of group g, up to 6 bits, from 16 rows of the pairs of kern.h. */
ALWAYS void pair16(const struct kern_fmt *f, const uint8_t *sc, int groups, int g, __m128i *s,
                   __m128i *m)
{
    __m128i low = load16(sc + g * KERN_ROWS);
    *s = bits16(low, 0, 15);
    *m = bits16(low, 4, 15);
    if (f->group != 32) return;
    __m128i high = load16(sc + (groups + g / 2) * KERN_ROWS);
    high = _mm_srl_epi16(high, _mm_cvtsi32_si128(g % 2 * 4));
    *s = _mm_or_si128(*s, _mm_slli_epi16(bits16(high, 0, 3), 4));
    *m = _mm_or_si128(*m, _mm_slli_epi16(bits16(high, 2, 3), 4));
}

/* Scales and minimums of a block, [groups][32] each. */
ALWAYS void scales_of(float (*scale)[KERN_ROWS], float (*min)[KERN_ROWS], const struct kern_fmt *f,
                      const uint8_t *p, int ng)
{
    int groups = ng * KERN_GROUP / f->group;
    const uint8_t *sc = p + 64 * (f->mins ? 2 : 1);
    for (int h = 0; h < 2; h++) {
        __m512 d = f16x16(p + 32 * h), dm = d;
        if (f->scale == KERN_SCALE_K && f->mins)
            dm = _mm512_sub_ps(_mm512_setzero_ps(), f16x16(p + 64 + 32 * h));
        for (int g = 0; g < groups; g++) {
            float *s = scale[g] + 16 * h, *m = min[g] + 16 * h;
            int at = g * KERN_ROWS + 16 * h;
            if (f->scale == KERN_SCALE_F16) {
                _mm512_store_ps(s, f16x16(p + 2 * at));
                if (f->mins) _mm512_store_ps(m, f16x16(p + 2 * (groups * KERN_ROWS + at)));
            } else if (f->scale == KERN_SCALE_K && f->mins) {
                __m128i si, mi;
                pair16(f, sc + 16 * h, groups, g, &si, &mi);
                _mm512_store_ps(s, _mm512_mul_ps(d, i8x16(si)));
                _mm512_store_ps(m, _mm512_mul_ps(dm, i8x16(mi)));
            } else if (f->scale == KERN_SCALE_K) {
                _mm512_store_ps(s, _mm512_mul_ps(d, i8x16(load16(sc + at))));
            } else { /* 2^(e - 128) */
                __m512i e = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(p + at)));
                e = _mm512_sub_epi32(e, _mm512_set1_epi32(128));
                _mm512_store_ps(s, _mm512_scalef_ps(_mm512_set1_ps(1), _mm512_cvtepi32_ps(e)));
            }
        }
    }
}

ALWAYS const uint8_t *codes_of(const struct kern_fmt *f, const uint8_t *block, int ng)
{
    return block + kern_block_bytes(f, ng) - (size_t)ng * KERN_ROWS * 4 * f->bits;
}

/* Four activation bytes, the same in every lane. */
ALWAYS __m512i quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
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

ALWAYS __mmask16 first_n(int n)
{
    return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

#endif
