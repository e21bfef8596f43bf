/* The door of the quantiser, and the formats whose scales are floats of their own. A scale is rounded
 * to its half float before the codes are, so that the codes are the nearest for the scale that is stored.
 *
 * The search itself is in quantize_fit.c, the formats of 256 values in quantize_k.c.
 */
#include "quantize.h"

#include "quantize_int.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define HALF_MAX 65504.0f

bool quantize_fits(uint32_t type, const float *x, size_t k)
{
    float most = type == QUANT_F32 || type == QUANT_BF16 ? 0x1.fep127f : HALF_MAX;
    bool fits = true;
    for (size_t i = 0; i < k; i++) fits &= fabsf(x[i]) <= most;
    return fits;
}

static void put_u16(uint8_t *b, uint16_t v)
{
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

float quantize__half(float v)
{
    v = v > HALF_MAX ? HALF_MAX : v < -HALF_MAX ? -HALF_MAX : v;
    return quant_f16_to_f32(quant_f32_to_f16(v));
}

void quantize__put_half(uint8_t *b, float v)
{
    put_u16(b, quant_f32_to_f16(v));
}

/* 32 codes of 4 bits at b; with high, their fifth bits there. */
static void put_codes(const float *q, int zero, uint8_t *b, uint8_t *high)
{
    for (int j = 0; j < 16; j++) {
        int lo = (int)q[j] + zero, hi = (int)q[j + 16] + zero;
        b[j] = (uint8_t)((lo & 15) | (hi & 15) << 4);
        if (!high) continue;
        high[j / 8] |= (uint8_t)(lo >> 4 << j % 8);
        high[2 + j / 8] |= (uint8_t)(hi >> 4 << j % 8);
    }
}

static void scaled_block(uint32_t type, const float *x, uint8_t *b)
{
    static const struct quantize__codes four = {-8, 7, NULL, 0.72f}, five = {-16, 15, NULL, 0.8f},
                                        eight = {-127, 127, NULL, 0.99f};
    const struct quantize__codes *c = type == QUANT_Q4_0   ? &four
                                      : type == QUANT_Q5_0 ? &five
                                                           : &eight;
    float q[32], d = quantize__half(quantize__scale(c, x, 32));
    quantize__try(c, x, d, 32, q);
    quantize__put_half(b, d);
    if (type == QUANT_Q4_0) put_codes(q, 8, b + 2, NULL);
    if (type == QUANT_Q5_0) put_codes(q, 16, b + 6, memset(b + 2, 0, 4));
    if (type == QUANT_Q8_0)
        for (int j = 0; j < 32; j++) b[2 + j] = (uint8_t)(int8_t)q[j];
}

static void lined_block(uint32_t type, const float *x, uint8_t *b)
{
    float q[32], hi = type == QUANT_Q4_1 ? 15 : 31;
    struct quantize__line l = quantize__fit_line(x, 32, hi, false);
    l.d = quantize__half(l.d);
    l.m = quantize__half(l.m);
    /* Where half floats are too coarse for values this small, nothing is nearer. */
    if (quantize__try_line(x, l, 32, hi, q) > quantize__power(x, 32)) {
        l = (struct quantize__line){0, 0};
        quantize__try_line(x, l, 32, hi, q);
    }
    quantize__put_half(b, l.d);
    quantize__put_half(b + 2, l.m);
    if (type == QUANT_Q4_1)
        put_codes(q, 0, b + 4, NULL);
    else
        put_codes(q, 0, b + 8, memset(b + 4, 0, 4));
}

static uint8_t index_of(const int8_t *level, float q)
{
    uint8_t i = 0;
    while ((float)level[i] != q) i++;
    return i;
}

static void put_levels(const float *q, const int8_t *level, uint8_t *b)
{
    for (int j = 0; j < 16; j++)
        b[j] = (uint8_t)(index_of(level, q[j]) | index_of(level, q[j + 16]) << 4);
}

static void iq4_block(const float *x, uint8_t *b)
{
    float q[32], d = quantize__half(quantize__scale(&quantize__iq4, x, 32));
    quantize__try(&quantize__iq4, x, d, 32, q);
    quantize__put_half(b, d);
    put_levels(q, quant_iq4_levels, b + 2);
}

/* The scale is a power of two: of the few near the largest value, the one that leaves least. */
static void mxfp4_block(const float *x, uint8_t *b)
{
    float most = 0, q[32], least = INFINITY;
    for (int j = 0; j < 32; j++) most = fmaxf(most, fabsf(x[j]));
    int exp = most > 0x1p-124f ? ilogbf(most) + 125 : 1; /* most lies at 4 to 8 of levels to 6 */
    for (int at = exp - 1; at <= exp + 1; at++) {
        float e = quantize__try(&quantize__mxfp4, x, quant_e8m0_half((uint8_t)at), 32, q);
        if (e >= least) continue;
        least = e;
        b[0] = (uint8_t)at;
        put_levels(q, quant_mxfp4_levels, b + 1);
    }
}

static void block(uint32_t type, const float *x, uint8_t *b)
{
    switch (type) {
    case QUANT_Q4_0:
    case QUANT_Q5_0:
    case QUANT_Q8_0: return scaled_block(type, x, b);
    case QUANT_Q4_1:
    case QUANT_Q5_1: return lined_block(type, x, b);
    case QUANT_IQ4_NL: return iq4_block(x, b);
    case QUANT_MXFP4: return mxfp4_block(x, b);
    default: quantize__k_block(type, x, b);
    }
}

void quantize_row(uint32_t type, const float *x, void *out, size_t k)
{
    uint8_t *b = out;
    assert(quant_name(type) && k % quant_block(type) == 0);
    if (type == QUANT_F32)
        memcpy(out, x, k * sizeof *x);
    else if (type == QUANT_F16)
        for (size_t i = 0; i < k; i++) put_u16(b + 2 * i, quant_f32_to_f16(x[i]));
    else if (type == QUANT_BF16)
        for (size_t i = 0; i < k; i++) put_u16(b + 2 * i, quant_f32_to_bf16(x[i]));
    else
        for (size_t i = 0; i < k; i += quant_block(type), b += quant_bytes(type))
            block(type, x + i, b);
}
