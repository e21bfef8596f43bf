/* The formats of 256 values: groups of 16 or 32 whose scales (and minima) are small whole numbers of
 * one or two half floats. Each group is fitted on its own first; then the half floats are chosen so that
 * the largest group reaches the end of the range, or nearly; then descent by turns: each group takes
 * the neighbouring whole numbers if they leave less error, and the half floats are solved anew.
 */
#include "quantize_int.h"

#include "quant.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { ROUNDS = 2, GROUPS_MAX = 16 };

static float between(float v, float lo, float hi)
{
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}

/* ---- a scale for each group ---- */

struct scaled {
    const struct quantize__codes *codes;
    int groups, size; /* groups * size = 256 */
    float lo, hi;     /* of the groups' whole numbers */
};

struct scaled_fit {
    float d, error;
    float s[GROUPS_MAX]; /* whole numbers */
    float q[256];
};

static float try_group(const struct scaled *k, const float *x, struct scaled_fit *f, int g, float s,
                       float *q)
{
    f->s[g] = s;
    return quantize__try(k->codes, x + g * k->size, f->d * s, k->size, q);
}

/* The groups' numbers nearest to want[], and what they leave. */
static void start_scaled(const struct scaled *k, const float *x, const float *want, float d,
                         struct scaled_fit *f)
{
    f->d = quantize__half(d);
    f->error = 0;
    for (int g = 0; g < k->groups; g++) {
        float s = f->d != 0 ? rintf(between(want[g] / f->d, k->lo, k->hi)) : 0;
        f->error += try_group(k, x, f, g, s, f->q + g * k->size);
    }
}

static void turn_scaled(const struct scaled *k, const float *x, struct scaled_fit *f)
{
    float q[32], xy = 0, yy = 0;
    f->error = 0;
    for (int g = 0; g < k->groups; g++) {
        float at = f->s[g], best = at, least = INFINITY;
        for (float s = fmaxf(at - 1, k->lo); s <= fminf(at + 1, k->hi); s++) {
            float e = try_group(k, x, f, g, s, q);
            if (e < least) {
                least = e;
                best = s;
                memcpy(f->q + g * k->size, q, (size_t)k->size * sizeof *q);
            }
        }
        f->s[g] = best;
        f->error += least;
        for (int j = g * k->size; j < (g + 1) * k->size; j++) {
            xy += x[j] * best * f->q[j];
            yy += best * f->q[j] * best * f->q[j];
        }
    }
    struct scaled_fit next = *f;
    next.d = yy > 0 ? quantize__half(xy / yy) : f->d;
    if (next.d == f->d) return;
    next.error = 0;
    for (int g = 0; g < k->groups; g++)
        next.error += try_group(k, x, &next, g, f->s[g], next.q + g * k->size);
    if (next.error < f->error) *f = next;
}

static void fit_scaled(const struct scaled *k, const float *x, struct scaled_fit *f)
{
    static const float shares[] = {1, 0.96f, 1.04f};
    float want[GROUPS_MAX], most = 0;
    for (int g = 0; g < k->groups; g++) {
        want[g] = quantize__scale(k->codes, x + g * k->size, k->size);
        if (fabsf(want[g]) > fabsf(most)) most = want[g];
    }
    start_scaled(k, x, want, most / k->lo, f);
    for (int i = 0; i < 6; i++) {
        struct scaled_fit other;
        float end = (i < 3 ? k->lo : k->hi) * shares[i % 3];
        start_scaled(k, x, want, most / end, &other);
        if (other.error < f->error) *f = other;
    }
    for (int i = 0; i < ROUNDS; i++) turn_scaled(k, x, f);
}

/* ---- a scale and a minimum for each group ---- */

struct lined {
    int groups, size;
    float codes, hi; /* codes 0..codes, groups' numbers 0..hi */
};

struct lined_fit {
    float d, m, error; /* x ~ d * s * q - m * t */
    float s[GROUPS_MAX], t[GROUPS_MAX];
    float q[256];
};

static float try_lined(const struct lined *k, const float *x, const struct lined_fit *f, int g,
                       float s, float t, float *q)
{
    struct quantize__line l = {f->d * s, -(f->m * t)};
    return quantize__try_line(x + g * k->size, l, k->size, k->codes, q);
}

static void start_lined(const struct lined *k, const float *x, const struct quantize__line *want,
                        float d, float m, struct lined_fit *f)
{
    f->d = quantize__half(d);
    f->m = quantize__half(m);
    f->error = 0;
    for (int g = 0; g < k->groups; g++) {
        f->s[g] = f->d > 0 ? rintf(between(want[g].d / f->d, 0, k->hi)) : 0;
        f->t[g] = f->m > 0 ? rintf(between(-want[g].m / f->m, 0, k->hi)) : 0;
        f->error += try_lined(k, x, f, g, f->s[g], f->t[g], f->q + g * k->size);
    }
}

/* Solves d and m for the codes and numbers of f, and takes them if they leave less. */
static void solve_lined(const struct lined *k, const float *x, struct lined_fit *f)
{
    double yy = 0, yt = 0, tt = 0, xy = 0, xt = 0;
    for (int g = 0; g < k->groups; g++)
        for (int j = g * k->size; j < (g + 1) * k->size; j++) {
            double y = (double)(f->s[g] * f->q[j]), t = (double)f->t[g];
            yy += y * y;
            yt += y * t;
            tt += t * t;
            xy += (double)x[j] * y;
            xt += (double)x[j] * t;
        }
    double det = yy * tt - yt * yt;
    if (!(det > 1e-9 * yy * tt)) return;
    struct lined_fit next = *f;
    next.d = quantize__half((float)((xy * tt - xt * yt) / det));
    next.m = quantize__half((float)((xy * yt - xt * yy) / det));
    if (!(next.d > 0) || !(next.m >= 0)) return;
    next.error = 0;
    for (int g = 0; g < k->groups; g++)
        next.error += try_lined(k, x, &next, g, f->s[g], f->t[g], next.q + g * k->size);
    if (next.error < f->error) *f = next;
}

static void turn_lined(const struct lined *k, const float *x, struct lined_fit *f)
{
    float q[32];
    f->error = 0;
    for (int g = 0; g < k->groups; g++) {
        float s0 = f->s[g], t0 = f->t[g], least = INFINITY;
        for (float s = fmaxf(s0 - 1, 0); s <= fminf(s0 + 1, k->hi); s++)
            for (float t = fmaxf(t0 - 1, 0); t <= fminf(t0 + 1, k->hi); t++) {
                float e = try_lined(k, x, f, g, s, t, q);
                if (!(e < least)) continue;
                least = e;
                f->s[g] = s;
                f->t[g] = t;
                memcpy(f->q + g * k->size, q, (size_t)k->size * sizeof *q);
            }
        f->error += least;
    }
    solve_lined(k, x, f);
}

static void fit_lined(const struct lined *k, const float *x, struct lined_fit *f)
{
    struct quantize__line want[GROUPS_MAX];
    float d = 0, m = 0;
    for (int g = 0; g < k->groups; g++) {
        want[g] = quantize__fit_line(x + g * k->size, k->size, k->codes, true);
        d = fmaxf(d, want[g].d);
        m = fmaxf(m, -want[g].m);
    }
    start_lined(k, x, want, d / k->hi, m / k->hi, f);
    for (int i = 1; i < 4; i++) {
        struct lined_fit other;
        float share = 1 - 0.05f * (float)i;
        start_lined(k, x, want, d / k->hi * (i & 1 ? share : 1), m / k->hi * (i & 2 ? share : 1),
                    &other);
        if (other.error < f->error) *f = other;
    }
    for (int i = 0; i < ROUNDS; i++) turn_lined(k, x, f);
    if (f->error > quantize__power(x, 256)) start_lined(k, x, want, 0, 0, f);
}

/* ---- bits; the layouts are those of quant.c, read backwards ---- */

static void write_q2(const struct lined_fit *f, uint8_t *b)
{
    for (int g = 0; g < 16; g++) b[g] = (uint8_t)((int)f->s[g] | (int)f->t[g] << 4);
    for (int i = 0; i < 256; i++)
        b[16 + i / 128 * 32 + i % 32] |= (uint8_t)((int)f->q[i] << i / 32 % 4 * 2);
    quantize__put_half(b + 80, f->d);
    quantize__put_half(b + 82, f->m);
}

static void write_q45(const struct lined_fit *f, uint8_t *b, bool five)
{
    uint8_t *sm = b + 4, *high = b + 16, *low = five ? b + 48 : b + 16;
    quantize__put_half(b, f->d);
    quantize__put_half(b + 2, f->m);
    for (int g = 0; g < 8; g++) {
        int s = (int)f->s[g], t = (int)f->t[g];
        if (g < 4) {
            sm[g] |= (uint8_t)s;
            sm[g + 4] |= (uint8_t)t;
        } else {
            sm[g + 4] |= (uint8_t)((s & 15) | t << 4);
            sm[g - 4] |= (uint8_t)(s >> 4 << 6);
            sm[g] |= (uint8_t)(t >> 4 << 6);
        }
    }
    for (int i = 0; i < 256; i++) {
        int q = (int)f->q[i], g = i / 32, l = i % 32;
        low[g / 2 * 32 + l] |= (uint8_t)((q & 15) << g % 2 * 4);
        if (five) high[l] |= (uint8_t)(q >> 4 << g);
    }
}

static void write_q3(const struct scaled_fit *f, uint8_t *b)
{
    uint8_t *sc = b + 96;
    for (int g = 0; g < 16; g++) {
        int s = (int)f->s[g] + 32;
        sc[g % 8] |= (uint8_t)((s & 15) << g / 8 * 4);
        sc[8 + g % 4] |= (uint8_t)(s >> 4 << g / 4 * 2);
    }
    for (int i = 0; i < 256; i++) {
        int q = (int)f->q[i] + 4;
        b[32 + i / 128 * 32 + i % 32] |= (uint8_t)((q & 3) << i / 32 % 4 * 2);
        b[i % 32] |= (uint8_t)(q >> 2 << i / 32);
    }
    quantize__put_half(b + 108, f->d);
}

static void write_q6(const struct scaled_fit *f, uint8_t *b)
{
    for (int g = 0; g < 16; g++) b[192 + g] = (uint8_t)(int8_t)f->s[g];
    for (int i = 0; i < 256; i++) {
        int q = (int)f->q[i] + 32, half = i / 128, s = i / 32 % 4, l = i % 32;
        b[64 * half + s % 2 * 32 + l] |= (uint8_t)((q & 15) << s / 2 * 4);
        b[128 + 32 * half + l] |= (uint8_t)(q >> 4 << 2 * s);
    }
    quantize__put_half(b + 208, f->d);
}

static int level_index(float level)
{
    int i = 0;
    while ((float)quant_iq4_levels[i] < level) i++;
    return i;
}

static void write_iq4(const struct scaled_fit *f, uint8_t *b)
{
    quantize__put_half(b, f->d);
    for (int g = 0; g < 8; g++) {
        int s = (int)f->s[g] + 32;
        b[2 + g / 4] |= (uint8_t)(s >> 4 << g % 4 * 2);
        b[4 + g / 2] |= (uint8_t)((s & 15) << g % 2 * 4);
        for (int j = 0; j < 16; j++)
            b[8 + 16 * g + j] =
                (uint8_t)(level_index(f->q[32 * g + j]) | level_index(f->q[32 * g + j + 16]) << 4);
    }
}

void quantize__k_block(uint32_t type, const float *x, uint8_t *b)
{
    static const struct quantize__codes three = {-4, 3, NULL, 0.5f}, six = {-32, 31, NULL, 0.88f};
    static const struct scaled q3 = {&three, 16, 16, -32, 31}, q6 = {&six, 16, 16, -128, 127};
    static const struct scaled iq4 = {&quantize__iq4, 8, 32, -32, 31};
    static const struct lined q2 = {16, 16, 3, 15}, q4 = {8, 32, 15, 63}, q5 = {8, 32, 31, 63};
    union {
        struct scaled_fit s;
        struct lined_fit l;
    } f;
    memset(b, 0, quant_bytes(type));
    switch (type) {
    case QUANT_Q2_K: fit_lined(&q2, x, &f.l); return write_q2(&f.l, b);
    case QUANT_Q4_K: fit_lined(&q4, x, &f.l); return write_q45(&f.l, b, false);
    case QUANT_Q5_K: fit_lined(&q5, x, &f.l); return write_q45(&f.l, b, true);
    case QUANT_Q3_K: fit_scaled(&q3, x, &f.s); return write_q3(&f.s, b);
    case QUANT_Q6_K: fit_scaled(&q6, x, &f.s); return write_q6(&f.s, b);
    default:
        assert(type == QUANT_IQ4_XS);
        fit_scaled(&iq4, x, &f.s);
        write_iq4(&f.s, b);
    }
}
