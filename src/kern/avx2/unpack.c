/* Packed block -> bytes and floats in L1, once for many tokens. Bound by the stores: 256 vectors a
 * block of 8192 codes, against 256 vpmaddubsw for every token that uses them. */
#include "simd2_int.h"

enum { TILE_MIN = 6 }; /* tokens from which codes of 4 bits are wanted as bytes */

ALWAYS void codes_all(const int bits, struct kern_tile *t, const uint8_t *p, int ng,
                      const int8_t *lv)
{
    __m256i table = _mm256_setzero_si256();
    if (lv) table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)lv));
    table = _mm256_xor_si256(table, _mm256_set1_epi8((char)0x80));
    for (int g = 0; g < ng; g++, p += LINE * bits)
        for (int r = 0; r < KERN_ROWS; r += 8) {
            UNROLL for (int q = 0; q < 8; q++)
            {
                __m256i w = code(bits, p + 4 * r, q);
                if (lv) w = _mm256_shuffle_epi8(table, w);
                _mm256_store_si256((__m256i *)t->code[g * 8 + q][r], w);
            }
        }
}

ALWAYS __m128i load8(const uint8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)p);
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

static void from_f16(float (*out)[KERN_ROWS], const uint8_t *p, int groups)
{
    for (int i = 0; i < groups * KERN_ROWS; i += 8) _mm256_store_ps(out[0] + i, f16x8(p + 2 * i));
}

/* out = d * b + c, d of F16 for each row, b signed bytes. */
static void from_bytes(float (*out)[KERN_ROWS], const uint8_t *d, bool negative,
                       const uint8_t (*b)[KERN_ROWS], int groups, float c)
{
    __m256 v[4], sign = _mm256_set1_ps(negative ? -0.0f : 0);
    UNROLL for (int r = 0; r < 4; r++) v[r] = _mm256_xor_ps(f16x8(d + 16 * r), sign);
    for (int g = 0; g < groups; g++) UNROLL for (int r = 0; r < 4; r++)
        {
            __m256i i = _mm256_cvtepi8_epi32(load8(b[g] + 8 * r));
            __m256 x = _mm256_fmadd_ps(v[r], _mm256_cvtepi32_ps(i), _mm256_set1_ps(c));
            _mm256_store_ps(out[g] + 8 * r, x);
        }
}

static void scales_of(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *p, int ng)
{
    int groups = ng * KERN_GROUP / f->group;
    _Alignas(32) uint8_t s[KERN_K / 16][KERN_ROWS], m[KERN_K / 16][KERN_ROWS];
    if (f->scale == KERN_SCALE_F16) {
        from_f16(t->scale, p, groups);
        if (f->mins) from_f16(t->min, p + 64 * groups, groups);
    } else if (f->scale == KERN_SCALE_K && f->mins) {
        pairs_of(s, m, p + 128, groups, f->group == 32);
        from_bytes(t->scale, p, false, s, groups, KERN__NO_SCALE);
        from_bytes(t->min, p + 64, true, m, groups, 0);
    } else if (f->scale == KERN_SCALE_K) {
        from_bytes(t->scale, p, false, (const uint8_t(*)[KERN_ROWS])(p + 64), groups,
                   KERN__NO_SCALE);
    } else {
        for (int i = 0; i < groups * KERN_ROWS; i += 8)
            _mm256_store_ps(t->scale[0] + i, power8(p + i));
    }
}

static void bytes_of(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *p, int ng)
{
    t->bits = 8;
    t->codes = f->bits == 8 ? p : t->code[0][0];
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
    default: break;
    }
}

/* Integer scales as pairs for vpmaddwd, of 5 bits for each half of a group; minimums as floats. */
static void integers_of(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *p, int ng)
{
    int groups = ng * KERN_GROUP / f->group, halves = f->bits == 5 ? 2 : 1;
    _Alignas(32) uint8_t s[KERN_K / 16][KERN_ROWS], m[KERN_K / 16][KERN_ROWS];
    const uint8_t(*sc)[KERN_ROWS] = (const uint8_t(*)[KERN_ROWS])(p + 64);
    if (f->mins) {
        pairs_of(s, m, p + 128, groups, f->group == 32);
        sc = (const uint8_t(*)[KERN_ROWS])s;
    }
    for (int g = 0; g < groups; g++) UNROLL for (int r = 0; r < 4; r++)
        {
            __m256 v = _mm256_castsi256_ps(scale_pairs(sc[g], r));
            for (int h = 0; h < halves; h++) _mm256_store_ps(t->scale[g * halves + h] + 8 * r, v);
            __m256i i = _mm256_cvtepu8_epi32(load8(m[g] + 8 * r));
            if (f->mins) _mm256_store_ps(t->min[g] + 8 * r, _mm256_cvtepi32_ps(i));
        }
}

static void unpack_u8(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *block, int ng,
                      int n)
{
    t->scales = block;
    t->codes = block + kern_scale_bytes(f, ng);
    t->bits = f->bits;
    if (n == 1 && !f->levels && f->bits < 8) return; /* gemv.c takes them apart itself */
    if (n >= TILE_MIN || f->levels || f->bits != 4) bytes_of(t, f, t->codes, ng); /* else gemm.c */
    if (f->scale == KERN_SCALE_K && !f->levels)
        integers_of(t, f, block, ng);
    else
        scales_of(t, f, block, ng);
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
    bytes_of(&t, f, block + kern_scale_bytes(f, ng), ng);
    scales_of(&t, f, block, ng);
    __m256 bias = _mm256_set1_ps(f->levels ? 128 : f->bias);
    for (int q = 0; q < ng * 8; q++)
        for (int r = 0; r < KERN_ROWS; r += 8) {
            int g = q * 4 / f->group;
            __m256 s = _mm256_load_ps(t.scale[g] + r);
            __m256 m = f->mins ? _mm256_load_ps(t.min[g] + r) : _mm256_setzero_ps();
            __m256i v = line(t.codes + kern__code(4 * q, r));
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
