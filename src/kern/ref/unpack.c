/* Packed block -> codes, scales and minimums. This file is the plain statement of the layout in
 * kern.h. */
#include "kern_int.h"

#include <limits.h>
#include <math.h>
#include <string.h>

enum { LINE = KERN_ROWS * 4 };

static uint16_t u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

static void scales(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *p, int ng)
{
    int groups = ng * KERN_GROUP / f->group;
    const uint8_t *sc = p + KERN_ROWS * (f->mins ? 4 : 2);
    for (int g = 0; g < groups; g++)
        for (int r = 0; r < KERN_ROWS; r++) {
            int at = g * KERN_ROWS + r;
            float *scale = &t->scale[g][r], *min = &t->min[g][r];
            *min = 0;
            if (f->scale == KERN_SCALE_F16) {
                *scale = kern__f16(u16(p + at * 2));
                if (f->mins) *min = kern__f16(u16(p + (groups * KERN_ROWS + at) * 2));
            } else if (f->scale == KERN_SCALE_E8M0) {
                *scale = ldexpf(1.0f, p[at] - 128);
            } else if (!f->mins) {
                *scale = kern__f16(u16(p + r * 2)) * (float)(int8_t)sc[at] + KERN__NO_SCALE;
            } else {
                unsigned s = sc[at] & 15, m = sc[at] >> 4;
                if (f->group == 32) {
                    unsigned high = sc[(groups + g / 2) * KERN_ROWS + r] >> (g % 2 * 4);
                    s |= (high & 3) << 4;
                    m |= (high >> 2 & 3) << 4;
                }
                *scale = kern__f16(u16(p + r * 2)) * (float)s + KERN__NO_SCALE;
                *min = -kern__f16(u16(p + (KERN_ROWS + r) * 2)) * (float)m + 0.0f; /* no -0 */
            }
        }
}

/* Code of quad q, byte b of the group whose planes start at p. */
static unsigned code_at(const struct kern_fmt *f, const uint8_t *p, int q, int b)
{
    unsigned c = 0;
    int shift = 0, quads = f->bits == 6 ? 4 : 8;
    if (f->bits == 8) return p[q * LINE + b];
    p += q / quads * LINE * f->bits / 2;
    q %= quads;
    if (f->bits >= 4) {
        c = p[q / 2 * LINE + b] >> (q % 2 * 4) & 15;
        p += quads / 2 * LINE;
        shift = 4;
    }
    if (f->bits == 2 || f->bits == 3 || f->bits == 6) {
        c |= (p[q / 4 * LINE + b] >> (q % 4 * 2) & 3u) << shift;
        p += quads / 4 * LINE;
        shift += 2;
    }
    if (f->bits == 3 || f->bits == 5) c |= (p[b] >> q & 1u) << shift;
    return c;
}

static void unpack_u8(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *block, int ng,
                      int n)
{
    (void)n;
    t->codes = t->code[0][0];
    t->bits = 8;
    scales(t, f, block, ng);
    const uint8_t *codes = block + kern_scale_bytes(f, ng);
    for (int g = 0; g < ng; g++, codes += LINE * f->bits)
        for (int q = 0; q < 8; q++)
            for (int b = 0; b < LINE; b++) {
                unsigned c = code_at(f, codes, q, b);
                if (f->levels) c = (unsigned)(f->levels[c] + 128);
                t->code[g * 8 + q][b / 4][b % 4] = (uint8_t)c;
            }
}

static float float_at(const struct kern_fmt *f, const uint8_t *block, size_t i)
{
    float x;
    uint32_t bits;
    switch (f->f) {
    case KERN_F16: return kern__f16(u16(block + i * 2));
    case KERN_BF16: bits = (uint32_t)u16(block + i * 2) << 16; break;
    default: memcpy(&bits, block + i * 4, 4); break;
    }
    memcpy(&x, &bits, 4);
    return x;
}

static void unpack_f32(float *w, const struct kern_fmt *f, const uint8_t *block, int ng)
{
    struct kern_tile t;
    int n = ng * KERN_GROUP;
    if (f->bits) unpack_u8(&t, f, block, ng, INT_MAX);
    for (int k = 0; k < n; k++)
        for (int r = 0; r < KERN_ROWS; r++) {
            int g = k / (f->bits ? f->group : 1), bias = f->levels ? 128 : f->bias;
            w[k * KERN_ROWS + r] =
                f->bits ? t.scale[g][r] * (float)(t.codes[kern__code(k, r)] - bias) + t.min[g][r]
                        : float_at(f, block, (size_t)(k * KERN_ROWS + r));
        }
}

void kern__ref_unpack(struct kern *k)
{
    k->unpack_u8 = unpack_u8;
    k->unpack_f32 = unpack_f32;
}
