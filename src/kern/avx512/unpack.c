/* Packed block -> bytes and floats in L1, once for many tokens. Bound by the stores: 128 lines a
 * block of 8192 codes, against 128 dot products for every token that uses them. */
#include "simd_int.h"

ALWAYS void codes_all(const int bits, struct kern_tile *t, const uint8_t *p, int ng,
                      const int8_t *lv)
{
    __m512i table = lv ? level_table(lv) : _mm512_setzero_si512();
    for (int g = 0; g < ng; g++)
        for (int h = 0; h < 2; h++, p += 64 * bits) {
            __m512i w[8];
            codes8(bits, p, w);
            UNROLL for (int i = 0; i < 8; i++)
            {
                if (lv) w[i] = _mm512_shuffle_epi8(table, w[i]);
                _mm512_store_si512(t->code[g * 8 + i][16 * h], w[i]);
            }
        }
}

static void unpack_u8(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *block, int ng)
{
    const uint8_t *p = codes_of(f, block, ng);
    scales_of(t->scale, t->min, f, block, ng);
    switch (f->bits) {
    case 2: codes_all(2, t, p, ng, NULL); break;
    case 3: codes_all(3, t, p, ng, NULL); break;
    case 4: codes_all(4, t, p, ng, f->levels); break;
    case 5: codes_all(5, t, p, ng, NULL); break;
    case 6: codes_all(6, t, p, ng, NULL); break;
    default: codes_all(8, t, p, ng, NULL); break;
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

static void unpack_f32(float *w, const struct kern_fmt *f, const uint8_t *block, int ng)
{
    if (!f->bits) {
        floats(w, f->f, block, ng * KERN_GROUP * KERN_ROWS);
        return;
    }
    struct kern_tile t;
    unpack_u8(&t, f, block, ng);
    __m512 bias = _mm512_set1_ps(f->levels ? 128 : f->bias);
    for (int q = 0; q < ng * 8; q++)
        for (int h = 0; h < 2; h++) {
            int g = q * 4 / f->group;
            __m512 s = _mm512_load_ps(t.scale[g] + 16 * h);
            __m512 m = f->mins ? _mm512_load_ps(t.min[g] + 16 * h) : _mm512_setzero_ps();
            __m512i v = _mm512_load_si512(t.code[q][16 * h]);
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
