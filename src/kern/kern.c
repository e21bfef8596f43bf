/* Which table, and the sizes of the packed layout; the loops are in the level folders. */
#include "kern.h"

#include "cpu.h"
#include "kern_int.h"
#include <math.h>
#include <string.h>

size_t kern_scale_bytes(const struct kern_fmt *f, int ng)
{
    size_t groups = (size_t)ng * (f->group == 16 ? 2 : 1);
    switch (f->scale) {
    case KERN_SCALE_F16: return groups * KERN_ROWS * 2u * (f->mins ? 2u : 1u);
    case KERN_SCALE_E8M0: return (groups * KERN_ROWS + 63) / 64 * 64;
    case KERN_SCALE_K:
        if (!f->mins) return KERN_ROWS * (2u + groups);
        return KERN_ROWS * (4u + groups + (f->group == 32 ? groups / 2 : 0));
    default: return 0;
    }
}

size_t kern_block_bytes(const struct kern_fmt *f, int ng)
{
    size_t values = (size_t)ng * KERN_GROUP * KERN_ROWS;
    if (!f->bits) return values * (f->f == KERN_F32 ? 4 : 2);
    return kern_scale_bytes(f, ng) + values * f->bits / 8;
}

size_t kern_panel_bytes(const struct kern_fmt *f, int64_t k)
{
    int64_t groups = (k + KERN_GROUP - 1) / KERN_GROUP;
    size_t bytes = (size_t)(groups / KERN_GROUPS) * kern_block_bytes(f, KERN_GROUPS);
    if (groups % KERN_GROUPS) bytes += kern_block_bytes(f, (int)(groups % KERN_GROUPS));
    return bytes;
}

static size_t blocks_of(int64_t k)
{
    return (size_t)((k + KERN_K - 1) / KERN_K);
}

size_t kern_act_bytes(int m, int64_t k)
{
    return blocks_of(k) *
           (((size_t)m * (KERN_K + (8 + 16 + 8 + 8 + 1 + 16) * 4 + 8 * 2 + 1) + 63) / 64 * 64);
}

void kern_act_bind(struct kern_act *a, void *mem, int m, int64_t k)
{
    size_t rows = blocks_of(k) * (size_t)m;
    *a = (struct kern_act){.m = m, .q = mem};
    a->sum = (int32_t *)(a->q + rows * KERN_K);
    a->scale = (float *)(a->sum + rows * 16);
    a->total = a->scale + rows * 8;
    a->share = a->total + rows * 8;
    a->halves = (uint32_t *)(a->share + rows * 8);
    a->whole = (float *)(a->halves + rows * 16);
    a->low = (int16_t *)(a->whole + rows);
    a->some = (uint8_t *)(a->low + rows * 8);
}

size_t kern_act16_bytes(int m, int64_t k)
{
    return blocks_of(k) * (((size_t)m * (KERN_K * 2 + KERN_GROUPS * 8) + 63) / 64 * 64);
}

void kern_act16_bind(struct kern_act16 *a, void *mem, int m, int64_t k)
{
    *a = (struct kern_act16){.m = m, .q = mem};
    a->scale = (float *)(a->q + blocks_of(k) * (size_t)m * KERN_K);
    a->sum = (int32_t *)(a->scale + blocks_of(k) * (size_t)m * KERN_GROUPS);
}

static void fill_ref(struct kern *k)
{
    k->name = "ref";
    kern__ref_act(k);
    kern__ref_attn(k);
    kern__ref_elem(k);
    kern__ref_gemm(k);
    kern__ref_i16(k);
    kern__ref_probe(k);
    kern__ref_unpack(k);
}

static void fill_avx2(struct kern *k)
{
    k->name = "avx2";
    kern__avx2_act(k);
    kern__avx2_attn(k);
    kern__avx2_elem(k);
    kern__avx2_gemm(k);
    kern__avx2_i16(k);
    kern__avx2_probe(k);
    kern__avx2_u8_i16(k);
    kern__avx2_unpack(k);
}

static void fill_avx512(struct kern *k)
{
    k->name = "avx512";
    kern__avx512_act(k);
    kern__avx512_attn(k);
    kern__avx512_elem(k);
    kern__avx512_gemm(k);
    kern__avx512_i16(k);
    kern__avx512_probe(k);
    kern__avx512_unpack(k);
}

int kern_get(const struct kern **out, const char *level, struct err *e)
{
    static struct kern table[3];
    static const char *const names[] = {"ref", "avx2", "avx512"};
    struct cpu cpu = cpu_detect();
    int best = cpu.avx512 ? 2 : cpu.avx2 ? 1 : 0, want = level ? -1 : best;
    for (int i = 0; level && i < 3; i++)
        if (strcmp(level, names[i]) == 0) want = i;
    if (want < 0)
        return err_set(e, ERR_USAGE, "no kernel level '%.20s'; there are ref, avx2, avx512", level);
    if (want > best)
        return err_set(e, ERR_UNSUPPORTED, "this processor cannot run %s (it can run %s)",
                       names[want], names[best]);
    struct kern *k = &table[want];
    if (!k->name) {
        struct kern fresh = {0};
        fill_ref(&fresh);
        if (want >= 1) fill_avx2(&fresh);
        if (want >= 2) fill_avx512(&fresh);
        *k = fresh;
    }
    *out = k;
    return 0;
}

float kern__f16(uint16_t h)
{
    uint32_t exp = h >> 10 & 31, man = h & 1023, bits;
    float f;
    if (exp == 0) {
        f = (float)man * 0x1p-24f;
        return h & 0x8000 ? -f : f;
    }
    bits = (uint32_t)(h & 0x8000) << 16 | (exp == 31 ? 255u : exp + 112) << 23 | man << 13;
    memcpy(&f, &bits, 4);
    return f;
}

void kern__act_total(const struct kern_act *a, size_t row, int g, int32_t sum)
{
    size_t at = row * KERN_GROUPS + (size_t)g;
    if (a->steps != 2) {
        a->total[at] = a->scale[at] * (float)sum;
        return;
    }
    const uint32_t *halves = a->halves + row * 2 * KERN_GROUPS + g;
    uint32_t h = halves[0] >> 23, less = halves[KERN_GROUPS] != 0;
    a->low[at] = (int16_t)((4 * sum + (4 * sum >> less) + (1 << h >> 1)) >> h);
    a->total[at] = (float)a->low[at] * (a->whole[row] * 0.125f);
}

float kern__larger(float a, float b)
{
    uint32_t u, v;
    memcpy(&u, &a, 4);
    memcpy(&v, &b, 4);
    u &= INT32_MAX;
    v &= INT32_MAX;
    if (u < v) u = v;
    memcpy(&a, &u, 4);
    return a;
}

float kern__vector_scale(float max, float squares)
{
    float scale = max / (float)INT16_MAX, other = sqrtf(squares) / KERN_NORM_MAX;
    if (max < KERN_VECTOR_LEAST) return 0;
    return other > scale ? other : scale;
}

static float power(uint32_t halves, int sign)
{
    float f;
    uint32_t bits = 0x3f800000 + (uint32_t)sign * halves;
    memcpy(&f, &bits, 4);
    return f;
}

/* Sixteenths to take off, the most that leave `here` below the rest. */
static int sixteenths(float here, float whole, int steps)
{
    int i = 0, next = KERN_PARTS / steps;
    while (i + next < KERN_PARTS && here <= whole * (1 - (float)(i + next) / 16)) i += next;
    return i;
}

void kern__act_scales(const struct kern_act *a, size_t row, const float *amax, float *inv)
{
    float *scale = a->scale + row * KERN_GROUPS, whole = 0;
    a->some[row] = 0;
    for (int g = 0; g < KERN_GROUPS; g++) a->some[row] |= (uint8_t)((amax[g] != 0) << g);
    if (!a->steps) {
        for (int g = 0; g < KERN_GROUPS; g++) {
            inv[g] = amax[g] > 0 ? 127.0f / amax[g] : 0;
            scale[g] = amax[g] / 127.0f;
        }
        return;
    }
    for (int g = 0; g < KERN_GROUPS; g++)
        if (amax[g] > whole) whole = amax[g];
    bool some = whole > KERN__TINY;
    a->whole[row] = some ? whole / 127.0f : 0;
    for (int g = 0; g < KERN_GROUPS; g++) {
        uint32_t most, here, h = 0, *halves = a->halves + row * 2 * KERN_GROUPS + g;
        float *share = a->share + row * KERN_GROUPS + g;
        memcpy(&most, &whole, 4);
        memcpy(&here, &amax[g], 4);
        if (some) h = (most - here) >> 23;
        if (h > KERN__HALVES) h = KERN__HALVES;
        h <<= 23;
        int off = some ? sixteenths(amax[g] * power(h, 1), whole, a->steps) : 0;
        halves[0] = h;
        halves[KERN_GROUPS] = (uint32_t)off * KERN_PART;
        *share = power(h, -1) * (1 - (float)off / 16);
        inv[g] = some ? 127.0f / whole * power(h, 1) / (1 - (float)off / 16) : 0;
        scale[g] = a->whole[row] * *share;
    }
}
