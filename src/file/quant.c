/* What each block format means, one function a format, each turning one block into floats.
 *
 * The order of the float operations is part of the meaning (a product is rounded before the sum),
 * so that results equal the reference bit for bit; a compiler that fuses multiply and add would
 * break that, and baseline x86-64 has no such instruction. Blocks are read byte by byte: no
 * alignment is asked of the file. Fast paths for whole matrices live in kern/.
 */
#include "quant.h"

#include <assert.h>
#include <string.h>

const int8_t quant_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
const int8_t quant_mxfp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static float f16(const uint8_t *p)
{
    return quant_f16_to_f32(u16(p));
}

float quant_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 1023;
    if (exp == 0) return from_bits(sign | to_bits((float)man * 0x1p-24f));
    if (exp == 31) return from_bits(sign | 0x7f800000 | man << 13 | (man ? 0x400000 : 0));
    return from_bits(sign | (exp + 112) << 23 | man << 13);
}

uint16_t quant_f32_to_f16(float f)
{
    uint32_t bits = to_bits(f), a = bits & 0x7fffffff, h;
    if (a > 0x7f800000)
        h = 0x7e00;
    else if (a >= to_bits(65520.0f)) /* halfway from the largest half to the next */
        h = 0x7c00;
    else if (a < to_bits(0x1p-14f)) /* subnormal: next to 0.5 a float steps by 2^-24, as we need */
        h = to_bits(from_bits(a) + 0.5f) - to_bits(0.5f);
    else
        h = (a + 0xfff + (a >> 13 & 1) - (112u << 23)) >> 13;
    return (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)h;
}

float quant_bf16_to_f32(uint16_t h)
{
    return from_bits((uint32_t)h << 16);
}

uint16_t quant_f32_to_bf16(float f)
{
    uint32_t bits = to_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float quant_e8m0_half(uint8_t x)
{
    return from_bits(x < 2 ? 0x00200000u << x : (uint32_t)(x - 1) << 23);
}

static void f32_block(const uint8_t *b, float *y)
{
    *y = from_bits(u32(b));
}

static void f16_block(const uint8_t *b, float *y)
{
    *y = f16(b);
}

static void bf16_block(const uint8_t *b, float *y)
{
    *y = quant_bf16_to_f32(u16(b));
}

/* The 32-value formats keep value j in the low and value j + 16 in the high half of byte j. */

static void q4_0_block(const uint8_t *b, float *y)
{
    float d = f16(b);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[2 + j] & 15) - 8) * d;
        y[j + 16] = (float)((b[2 + j] >> 4) - 8) * d;
    }
}

static void q4_1_block(const uint8_t *b, float *y)
{
    float d = f16(b), m = f16(b + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)(b[4 + j] & 15) * d + m;
        y[j + 16] = (float)(b[4 + j] >> 4) * d + m;
    }
}

static void q5_0_block(const uint8_t *b, float *y)
{
    float d = f16(b);
    uint32_t high = u32(b + 2);
    for (int j = 0; j < 16; j++) {
        int lo = (b[6 + j] & 15) | (int)(high >> j & 1) << 4;
        int hi = b[6 + j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
        y[j] = (float)(lo - 16) * d;
        y[j + 16] = (float)(hi - 16) * d;
    }
}

static void q5_1_block(const uint8_t *b, float *y)
{
    float d = f16(b), m = f16(b + 2);
    uint32_t high = u32(b + 4);
    for (int j = 0; j < 16; j++) {
        int lo = (b[8 + j] & 15) | (int)(high >> j & 1) << 4;
        int hi = b[8 + j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
        y[j] = (float)lo * d + m;
        y[j + 16] = (float)hi * d + m;
    }
}

static void q8_0_block(const uint8_t *b, float *y)
{
    float d = f16(b);
    for (int j = 0; j < 32; j++) y[j] = (float)(int8_t)b[2 + j] * d;
}

static void iq4_nl_block(const uint8_t *b, float *y)
{
    float d = f16(b);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)quant_iq4_levels[b[2 + j] & 15];
        y[j + 16] = d * (float)quant_iq4_levels[b[2 + j] >> 4];
    }
}

static void mxfp4_block(const uint8_t *b, float *y)
{
    float d = quant_e8m0_half(b[0]);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)quant_mxfp4_levels[b[1 + j] & 15] * d;
        y[j + 16] = (float)quant_mxfp4_levels[b[1 + j] >> 4] * d;
    }
}

/* The 256-value formats hold two halves of 128 values (q4_K and q5_K: four quarters of 64); inside
 * one, value 32 * s + l takes its bits from byte l, shifted by s steps. */

static void q2_k_block(const uint8_t *b, float *y)
{
    const uint8_t *scale = b, *q = b + 16;
    float d = f16(b + 80), m = f16(b + 82);
    for (int i = 0; i < 256; i++) {
        int s = i / 32 % 4, sc = scale[i / 16];
        float dl = d * (float)(sc & 15), ml = m * (float)(sc >> 4);
        y[i] = dl * (float)(q[i / 128 * 32 + i % 32] >> 2 * s & 3) - ml;
    }
}

static void q3_k_block(const uint8_t *b, float *y)
{
    const uint8_t *high = b, *q = b + 32, *sc = b + 96;
    float d = f16(b + 108);
    for (int i = 0; i < 256; i++) {
        int s = i / 32 % 4, g = i / 16;
        /* scale g: low 4 bits in the halves of 8 bytes, high 2 in the quarters of 4 */
        int scale = (sc[g % 8] >> g / 8 * 4 & 15) | (sc[8 + g % 4] >> g / 4 * 2 & 3) << 4;
        int v = (q[i / 128 * 32 + i % 32] >> 2 * s & 3) | (high[i % 32] >> i / 32 & 1) << 2;
        y[i] = d * (float)(scale - 32) * (float)(v - 4);
    }
}

/* Scale and minimum j of the 8 pairs of 6 bits in 12 bytes: the first four pairs lie in the low 6
 * bits of bytes 0..7, the others take their low 4 bits from bytes 8..11 and 2 high bits above. */
static void scale_min(const uint8_t *p, int j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = p[j] & 63;
        *min = p[j + 4] & 63;
    } else {
        *scale = (uint8_t)((p[j + 4] & 15) | p[j - 4] >> 6 << 4);
        *min = (uint8_t)(p[j + 4] >> 4 | p[j] >> 6 << 4);
    }
}

static void q4_k_block(const uint8_t *b, float *y)
{
    const uint8_t *q = b + 16;
    float d = f16(b), m = f16(b + 2);
    for (int g = 0; g < 8; g++) {
        uint8_t scale, min;
        scale_min(b + 4, g, &scale, &min);
        float dl = d * (float)scale, ml = m * (float)min;
        for (int l = 0; l < 32; l++)
            y[32 * g + l] = dl * (float)(q[g / 2 * 32 + l] >> g % 2 * 4 & 15) - ml;
    }
}

static void q5_k_block(const uint8_t *b, float *y)
{
    const uint8_t *high = b + 16, *q = b + 48;
    float d = f16(b), m = f16(b + 2);
    for (int g = 0; g < 8; g++) {
        uint8_t scale, min;
        scale_min(b + 4, g, &scale, &min);
        float dl = d * (float)scale, ml = m * (float)min;
        for (int l = 0; l < 32; l++) {
            int v = (q[g / 2 * 32 + l] >> g % 2 * 4 & 15) | (high[l] >> g & 1) << 4;
            y[32 * g + l] = dl * (float)v - ml;
        }
    }
}

static void q6_k_block(const uint8_t *b, float *y)
{
    const uint8_t *low = b, *high = b + 128, *scale = b + 192;
    float d = f16(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, s = i / 32 % 4, l = i % 32;
        int v = (low[64 * half + s % 2 * 32 + l] >> s / 2 * 4 & 15) |
                (high[32 * half + l] >> 2 * s & 3) << 4;
        y[i] = d * (float)(int8_t)scale[i / 16] * (float)(v - 32);
    }
}

static void iq4_xs_block(const uint8_t *b, float *y)
{
    float d = f16(b);
    uint16_t high = u16(b + 2);
    for (int g = 0; g < 8; g++) {
        int scale = (b[4 + g / 2] >> g % 2 * 4 & 15) | (high >> 2 * g & 3) << 4;
        float dl = d * (float)(scale - 32);
        for (int j = 0; j < 16; j++) {
            uint8_t q = b[8 + 16 * g + j];
            y[32 * g + j] = dl * (float)quant_iq4_levels[q & 15];
            y[32 * g + j + 16] = dl * (float)quant_iq4_levels[q >> 4];
        }
    }
}

static const struct {
    const char *name;
    uint32_t block, bytes;
    void (*to_f32)(const uint8_t *block, float *out);
} types[QUANT_TYPE_END] = {
    [QUANT_F32] = {"f32", 1, 4, f32_block},
    [QUANT_F16] = {"f16", 1, 2, f16_block},
    [QUANT_BF16] = {"bf16", 1, 2, bf16_block},
    [QUANT_Q4_0] = {"q4_0", 32, 18, q4_0_block},
    [QUANT_Q4_1] = {"q4_1", 32, 20, q4_1_block},
    [QUANT_Q5_0] = {"q5_0", 32, 22, q5_0_block},
    [QUANT_Q5_1] = {"q5_1", 32, 24, q5_1_block},
    [QUANT_Q8_0] = {"q8_0", 32, 34, q8_0_block},
    [QUANT_Q2_K] = {"q2_K", 256, 84, q2_k_block},
    [QUANT_Q3_K] = {"q3_K", 256, 110, q3_k_block},
    [QUANT_Q4_K] = {"q4_K", 256, 144, q4_k_block},
    [QUANT_Q5_K] = {"q5_K", 256, 176, q5_k_block},
    [QUANT_Q6_K] = {"q6_K", 256, 210, q6_k_block},
    [QUANT_IQ4_NL] = {"iq4_nl", 32, 18, iq4_nl_block},
    [QUANT_IQ4_XS] = {"iq4_xs", 256, 136, iq4_xs_block},
    [QUANT_MXFP4] = {"mxfp4", 32, 17, mxfp4_block},
};

const char *quant_name(uint32_t type)
{
    return type < QUANT_TYPE_END ? types[type].name : NULL;
}

uint32_t quant_block(uint32_t type)
{
    return type < QUANT_TYPE_END ? types[type].block : 0;
}

uint32_t quant_bytes(uint32_t type)
{
    return type < QUANT_TYPE_END ? types[type].bytes : 0;
}

void quant_row_to_f32(uint32_t type, const void *row, float *out, size_t k)
{
    assert(quant_name(type) && k % types[type].block == 0);
    const uint8_t *b = row;
    for (size_t i = 0; i < k; i += types[type].block, b += types[type].bytes)
        types[type].to_f32(b, out + i);
}
