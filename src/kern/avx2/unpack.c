/* Packed block -> bytes and floats in L1, once for many tokens. Bound by the stores: 256 vectors a
 * block of 8192 codes, against 256 vpmaddubsw for every token that uses them. */
#include "simd2_int.h"

/* The eight quads of one group for 8 rows, codes as unsigned bytes; `bits` is a constant. */
ALWAYS void codes8(const int bits, const uint8_t *p, __m256i w[8])
{
    int have = 0;
    if (bits == 8) {
        UNROLL for (int i = 0; i < 8; i++) w[i] = line(p + 64 * i);
        return;
    }
    if (bits >= 4) {
        UNROLL for (int i = 0; i < 4; i++)
        {
            __m256i v = line(p + 64 * i);
            w[2 * i] = bits_at(v, 0, 15);
            w[2 * i + 1] = bits_at(v, -4, 15);
        }
        p += 256;
        have = 4;
    }
    if (bits == 2 || bits == 3 || bits == 6) {
        UNROLL for (int i = 0; i < 8; i++)
        {
            __m256i v = bits_at(line(p + i / 4 * 64), have - i % 4 * 2, 3 << have);
            w[i] = have ? _mm256_or_si256(w[i], v) : v;
        }
        p += 128;
        have += 2;
    }
    if (bits == 3 || bits == 5) {
        UNROLL for (int i = 0; i < 8; i++)
        {
            w[i] = _mm256_or_si256(w[i], bits_at(line(p), have - i, 1 << have));
        }
    }
}

ALWAYS void codes_all(const int bits, struct kern_tile *t, const uint8_t *p, int ng,
                      const int8_t *lv)
{
    __m256i table = _mm256_setzero_si256();
    if (lv) table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)lv));
    table = _mm256_xor_si256(table, _mm256_set1_epi8((char)0x80));
    for (int g = 0; g < ng; g++)
        for (int r = 0; r < KERN_ROWS; r += 8) {
            __m256i w[8];
            codes8(bits, p + r / 16 * 64 * bits + r % 16 * 4, w);
            UNROLL for (int i = 0; i < 8; i++)
            {
                if (lv) w[i] = _mm256_shuffle_epi8(table, w[i]);
                _mm256_store_si256((__m256i *)t->code[g * 8 + i][r], w[i]);
            }
            if (r == KERN_ROWS - 8) p += 128 * bits;
        }
}

ALWAYS __m128i load8(const uint8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)p);
}

ALWAYS __m256 bytes8(__m128i v)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v));
}

ALWAYS __m128i bits8(__m128i v, int shift, int mask)
{
    return _mm_and_si128(_mm_srli_epi16(v, shift), _mm_set1_epi8((char)mask));
}

/* Scale and minimum of group g, up to 6 bits, from 8 rows of the pairs of kern.h. */
ALWAYS void pair8(const struct kern_fmt *f, const uint8_t *sc, int groups, int g, __m128i *s,
                  __m128i *m)
{
    __m128i low = load8(sc + g * KERN_ROWS);
    *s = bits8(low, 0, 15);
    *m = bits8(low, 4, 15);
    if (f->group != 32) return;
    __m128i high = load8(sc + (groups + g / 2) * KERN_ROWS);
    high = _mm_srl_epi16(high, _mm_cvtsi32_si128(g % 2 * 4));
    *s = _mm_or_si128(*s, _mm_slli_epi16(bits8(high, 0, 3), 4));
    *m = _mm_or_si128(*m, _mm_slli_epi16(bits8(high, 2, 3), 4));
}

/* 2^(e - 128); the two smallest are subnormal. */
ALWAYS __m256 power8(const uint8_t *p)
{
    __m256i e = _mm256_cvtepu8_epi32(load8(p));
    __m256i v = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(1 << 21), e);
    __m256i which = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(v, small, which));
}

static void scales_of(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *p, int ng)
{
    int groups = ng * KERN_GROUP / f->group;
    const uint8_t *sc = p + 64 * (f->mins ? 2 : 1);
    for (int r = 0; r < KERN_ROWS; r += 8) {
        __m256 d = f16x8(p + 2 * r), dm = d;
        if (f->scale == KERN_SCALE_K && f->mins)
            dm = _mm256_xor_ps(f16x8(p + 64 + 2 * r), _mm256_set1_ps(-0.0f));
        for (int g = 0; g < groups; g++) {
            float *s = t->scale[g] + r, *m = t->min[g] + r;
            int at = g * KERN_ROWS + r;
            if (f->scale == KERN_SCALE_F16) {
                _mm256_store_ps(s, f16x8(p + 2 * at));
                if (f->mins) _mm256_store_ps(m, f16x8(p + 2 * (groups * KERN_ROWS + at)));
            } else if (f->scale == KERN_SCALE_K && f->mins) {
                __m128i si, mi;
                pair8(f, sc + r, groups, g, &si, &mi);
                _mm256_store_ps(s, _mm256_mul_ps(d, bytes8(si)));
                _mm256_store_ps(m, _mm256_mul_ps(dm, bytes8(mi)));
            } else if (f->scale == KERN_SCALE_K) {
                _mm256_store_ps(s, _mm256_mul_ps(d, bytes8(load8(sc + at))));
            } else {
                _mm256_store_ps(s, power8(p + at));
            }
        }
    }
}

static void unpack_u8(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *block, int ng)
{
    const uint8_t *p = block + kern_block_bytes(f, ng) - (size_t)ng * KERN_ROWS * 4 * f->bits;
    scales_of(t, f, block, ng);
    switch (f->bits) {
    case 2: codes_all(2, t, p, ng, NULL); break;
    case 3: codes_all(3, t, p, ng, NULL); break;
    case 4:
        if (f->levels)
            codes_all(4, t, p, ng, f->levels);
        else
            codes_all(4, t, p, ng, NULL);
        break;
    case 5: codes_all(5, t, p, ng, NULL); break;
    case 6: codes_all(6, t, p, ng, NULL); break;
    default: codes_all(8, t, p, ng, NULL); break;
    }
}

static void floats(float *w, enum kern_float kind, const uint8_t *p, int n)
{
    for (int i = 0; i < n; i += 8) {
        __m256 v;
        if (kind == KERN_F16) {
            v = f16x8(p + 2 * i);
        } else if (kind == KERN_BF16) {
            __m256i u = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(p + 2 * i)));
            v = _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
        } else {
            v = _mm256_load_ps((const float *)(const void *)(p + 4 * i));
        }
        _mm256_store_ps(w + i, v);
    }
}

static void unpack_f32(float *w, const struct kern_fmt *f, const uint8_t *block, int ng)
{
    if (!f->bits) {
        floats(w, f->f, block, ng * KERN_GROUP * KERN_ROWS);
        return;
    }
    struct kern_tile t;
    unpack_u8(&t, f, block, ng);
    __m256 bias = _mm256_set1_ps(f->levels ? 128 : f->bias);
    for (int q = 0; q < ng * 8; q++)
        for (int r = 0; r < KERN_ROWS; r += 8) {
            int g = q * 4 / f->group;
            __m256 s = _mm256_load_ps(t.scale[g] + r);
            __m256 m = f->mins ? _mm256_load_ps(t.min[g] + r) : _mm256_setzero_ps();
            __m256i v = line(t.code[q][r]);
            UNROLL for (int j = 0; j < 4; j++)
            {
                __m256i c = _mm256_and_si256(_mm256_srli_epi32(v, 8 * j), _mm256_set1_epi32(255));
                __m256 x = _mm256_sub_ps(_mm256_cvtepi32_ps(c), bias);
                _mm256_store_ps(w + (q * 4 + j) * KERN_ROWS + r, _mm256_fmadd_ps(s, x, m));
            }
        }
}

void kern__avx2_unpack(struct kern *k)
{
    k->unpack_u8 = unpack_u8;
    k->unpack_f32 = unpack_f32;
}
