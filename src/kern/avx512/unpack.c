/* A block made ready: scales as floats in L1, and codes as bytes where that pays. It is bound by the
 * stores, 128 lines a block of 8192 codes, while taking codes apart beside the dot products uses
 * ports that those leave idle, unless they lie in two planes and many tokens do it again. */
#include "simd_int.h"

#include <limits.h>

/* Tokens from which codes of 6 bits, and of 5 and 3, are taken apart once, and all parts of scales pay. */
enum { MANY_6 = 13, MANY = 24 };

ALWAYS void codes_all(const int bits, const int8_t *levels, uint8_t *out, const uint8_t *p, int ng)
{
    __m512i table = levels ? level_table(levels) : _mm512_setzero_si512();
    for (int g = 0; g < ng; g++, p += LINE * bits, out += LINE * 8)
        UNROLL for (int q = 0; q < 8; q++)
        {
            _mm512_store_si512(out + LINE * q, code(bits, levels, p, q, table));
            _mm512_store_si512(out + LINE * q + 64, code(bits, levels, p + 64, q, table));
        }
}

/* Of scales the parts that activations of so many steps name. */
ALWAYS void parts_of_scales(struct kern_tile *t, int groups, const int steps)
{
    for (int g = 0; g < groups; g++) UNROLL for (int h = 0; h < 2; h++)
        {
            __m512 v = _mm512_load_ps(t->scale[g] + 16 * h);
            UNROLL for (int i = KERN_PARTS / steps; i < KERN_PARTS; i += KERN_PARTS / steps)
            {
                __m512 part = _mm512_mul_ps(v, _mm512_set1_ps(1 - (float)i / 16));
                _mm512_store_ps(t->scale[KERN_GROUPS * i + g] + 16 * h, part);
            }
        }
}

static void unpack_u8(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *block, int ng,
                      int n)
{
    const uint8_t *p = block + kern_scale_bytes(f, ng);
    uint8_t *out = t->code[0][0];
    scales_of(t, f, block, ng);
    int groups = ng * KERN_GROUP / f->group, steps = kern_steps(f, KERN_PARTS);
    t->parts = steps == 2 ? n > FEW : steps && n >= MANY;
    if (t->parts && steps == 2) parts_of_scales(t, groups, 2);
    if (t->parts && steps != 2) parts_of_scales(t, groups, KERN_PARTS);
    t->codes = p;
    t->bits = f->bits;
    int many = f->bits == 6 ? MANY_6 : f->bits == 3 || f->bits == 5 ? MANY : INT_MAX;
    if (f->bits == 8 || n < many) return;
    t->codes = out;
    t->bits = 8;
    switch (f->bits) {
    case 2: codes_all(2, NULL, out, p, ng); break;
    case 3: codes_all(3, NULL, out, p, ng); break;
    case 4: codes_all(4, f->levels, out, p, ng); break;
    case 5: codes_all(5, NULL, out, p, ng); break;
    default: codes_all(6, NULL, out, p, ng); break;
    }
}

static void floats(float *w, enum kern_float kind, const uint8_t *p, int n)
{
    for (int i = 0; i < n; i += 16) {
        __m512 v;
        if (kind == KERN_F16) {
            v = f16x16(p + 2 * i);
        } else if (kind == KERN_BF16) {
            __m512i u = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(p + 2 * i)));
            v = _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
        } else {
            v = _mm512_load_ps(p + 4 * i);
        }
        _mm512_store_ps(w + i, v);
    }
}

/* Of group g, rows from 16 h on. */
ALWAYS __m512 minimum(const struct kern_tile *t, int g, int h)
{
    __m512i m = _mm512_load_si512(t->low[g / 2][16 * h]);
    m = g % 2 ? _mm512_srli_epi32(m, 16) : _mm512_and_si512(m, _mm512_set1_epi32(UINT16_MAX));
    __m512 by = _mm512_mul_ps(_mm512_load_ps(t->dmin + 16 * h), _mm512_set1_ps(8));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(m), by);
}

static void unpack_f32(float *w, const struct kern_fmt *f, const uint8_t *block, int ng)
{
    if (!f->bits) {
        floats(w, f->f, block, ng * KERN_GROUP * KERN_ROWS);
        return;
    }
    struct kern_tile t;
    unpack_u8(&t, f, block, ng, INT_MAX);
    __m512 bias = _mm512_set1_ps(f->levels ? 128 : f->bias);
    for (int q = 0; q < ng * 8; q++)
        for (int h = 0; h < 2; h++) {
            int g = q * 4 / f->group;
            __m512 s = _mm512_load_ps(t.scale[g] + 16 * h);
            __m512 m = !f->mins     ? _mm512_setzero_ps()
                       : has_low(f) ? minimum(&t, g, h)
                                    : _mm512_load_ps(t.min[g] + 16 * h);
            __m512i v = line(t.codes + kern__code(4 * q, 16 * h));
            UNROLL for (int j = 0; j < 4; j++)
            {
                __m512i c = _mm512_and_si512(_mm512_srli_epi32(v, 8 * j), _mm512_set1_epi32(255));
                __m512 x = _mm512_sub_ps(_mm512_cvtepi32_ps(c), bias);
                _mm512_store_ps(w + (q * 4 + j) * KERN_ROWS + 16 * h, _mm512_fmadd_ps(s, x, m));
            }
        }
}

void kern__avx512_unpack(struct kern *k)
{
    k->unpack_u8 = unpack_u8;
    k->unpack_f32 = unpack_f32;
}
