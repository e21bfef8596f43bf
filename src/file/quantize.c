/* Placeholder head. */
#include "quantize.h"

#include <assert.h>
#include <math.h>
#include <string.h>

bool quantize_fits(uint32_t type, const float *x, size_t k)
{
    float most = type == QUANT_F32 || type == QUANT_BF16 ? 3.38e38f : 65504.0f;
    bool ok = true;
    for (size_t i = 0; i < k; i++) ok &= fabsf(x[i]) <= most;
    return ok;
}

static void put16(uint8_t *b, uint16_t v)
{
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

void quantize_row(uint32_t type, const float *x, void *out, size_t k)
{
    uint8_t *b = out;
    if (type == QUANT_F32) {
        memcpy(out, x, k * 4);
        return;
    }
    if (type == QUANT_F16) {
        for (size_t i = 0; i < k; i++) put16(b + 2 * i, quant_f32_to_f16(x[i]));
        return;
    }
    if (type == QUANT_BF16) {
        for (size_t i = 0; i < k; i++) put16(b + 2 * i, quant_f32_to_bf16(x[i]));
        return;
    }
    assert(type == QUANT_Q8_0);
    for (size_t i = 0; i < k; i += 32, b += 34) {
        float most = 0;
        for (size_t j = 0; j < 32; j++) most = fmaxf(most, fabsf(x[i + j]));
        uint16_t h = quant_f32_to_f16(most / 127);
        float d = quant_f16_to_f32(h);
        put16(b, h);
        for (size_t j = 0; j < 32; j++) {
            float q = d > 0 ? roundf(x[i + j] / d) : 0;
            b[2 + j] = (uint8_t)(int8_t)fmaxf(-127, fminf(127, q));
        }
    }
}
