/* Peaks of plain C: what the compiler makes of the inner product, and of a sum over memory. */
#include "kern_int.h"

enum { LANES = 64 };

static int64_t probe_int8(int64_t rounds)
{
    static volatile uint8_t seed = 3;
    int32_t acc[LANES] = {0};
    uint8_t w[LANES];
    for (int i = 0; i < LANES; i++) w[i] = (uint8_t)(seed + i);
    for (int64_t r = 0; r < rounds; r++) {
        int8_t x = (int8_t)r;
        for (int i = 0; i < LANES; i++) acc[i] += w[i] * x;
    }
    for (int i = 0; i < LANES; i++) seed = (uint8_t)(seed + acc[i]);
    return rounds * LANES;
}

static int64_t probe_f32(int64_t rounds)
{
    static volatile float seed = 0.5f;
    float acc[LANES] = {0}, w[LANES];
    for (int i = 0; i < LANES; i++) w[i] = seed + (float)i;
    for (int64_t r = 0; r < rounds; r++) {
        float x = (float)(r & 1);
        for (int i = 0; i < LANES; i++) acc[i] += w[i] * x;
    }
    for (int i = 0; i < LANES; i++) seed = acc[i];
    return rounds * LANES;
}

static uint64_t probe_read(const void *p, size_t n)
{
    const uint64_t *v = p;
    uint64_t sum[4] = {0, 0, 0, 0};
    for (size_t i = 0; i + 4 <= n / 8; i += 4)
        for (size_t j = 0; j < 4; j++) sum[j] += v[i + j];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

void kern__ref_probe(struct kern *k)
{
    k->probe_int8 = probe_int8;
    k->probe_f32 = probe_f32;
    k->probe_read = probe_read;
}
