/* Least squares for one scale. For given codes q the best scale is (x q) / (q q), and the error it
 * leaves is (x x) - (x q)^2 / (q q): so a search need only maximise the last term. Candidates put the
 * value of largest magnitude on a grid of places near either end of the codes (clipping it a little
 * is often best); the winner is polished by turns of rounding and solving, each of which cannot make it
 * worse. With a minimum it is the same with a straight line.
 *
 * Sums run in four lanes, a fixed order, so that compilers can use vectors and results do not vary.
 */
#include "quantize_int.h"

#include "quant.h"

#include <assert.h>
#include <math.h>

enum { LANES = 4, TRIES = 12, LINE_TRIES = 18, POLISH = 4, N_MAX = 32 };

static const int8_t mxfp4_rising[16] = {-12, -8, -6, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 6, 8, 12};

const struct quantize__codes quantize__iq4 = {-127, 113, quant_iq4_levels, 0.75f};
const struct quantize__codes quantize__mxfp4 = {-12, 12, mxfp4_rising, 1};

static float nearest_whole(float v) /* |v| < 2^22 */
{
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

static float between(float v, float lo, float hi)
{
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}

void quantize__code(const struct quantize__codes *c, const float *x, float inverse, int n, float *q)
{
    if (!c->level) {
        for (int j = 0; j < n; j++) q[j] = nearest_whole(between(x[j] * inverse, c->lo, c->hi));
        return;
    }
    float v[N_MAX];
    for (int j = 0; j < n; j++) {
        v[j] = x[j] * inverse;
        q[j] = c->level[0];
    }
    for (int i = 1; i < 16; i++) {
        float from = c->level[i - 1], to = c->level[i], middle = (from + to) / 2, gap = to - from;
        for (int j = 0; j < n; j++) q[j] += v[j] >= middle ? gap : 0;
    }
}

static float sum(const float *lane)
{
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

static void products(const float *x, const float *q, int n, float *xq, float *qq)
{
    float a[LANES] = {0}, b[LANES] = {0};
    for (int j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            a[l] += x[j + l] * q[j + l];
            b[l] += q[j + l] * q[j + l];
        }
    *xq = sum(a);
    *qq = sum(b);
}

float quantize__power(const float *x, int n)
{
    float xx, unused;
    products(x, x, n, &xx, &unused);
    return xx;
}

float quantize__try(const struct quantize__codes *c, const float *x, float d, int n, float *q)
{
    float e[LANES] = {0}, inverse = 1 / d;
    quantize__code(c, x, isfinite(inverse) ? inverse : 0, n, q);
    for (int j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            float r = x[j + l] - d * q[j + l];
            e[l] += r * r;
        }
    return sum(e);
}

/* The best scale for the codes that `inverse` gives, if it beats *gain. */
static bool improve(const struct quantize__codes *c, const float *x, int n, float inverse,
                    float *gain, float *d)
{
    float q[N_MAX], xq, qq;
    quantize__code(c, x, inverse, n, q);
    products(x, q, n, &xq, &qq);
    if (!(qq > 0) || !(xq * xq > *gain * qq)) return false;
    *gain = xq * xq / qq;
    *d = xq / qq;
    return true;
}

float quantize__scale(const struct quantize__codes *c, const float *x, int n)
{
    float most = 0, gain = 0, d = 0;
    assert(n <= N_MAX && n % LANES == 0);
    for (int j = 0; j < n; j++)
        if (fabsf(x[j]) > fabsf(most)) most = x[j];
    /* A scale so small that its inverse overflows is 0 as a half float anyway. */
    if (fabsf(most) < 0x1p-60f) return 0;
    for (int side = 0; side < 2; side++) {
        float end = side ? c->hi : c->lo, from = end * c->least;
        float to = end + (side ? 0.6f : -0.6f) * (c->level ? 10 : 1);
        for (int i = 0; i < TRIES; i++) {
            float at = from + (to - from) * (float)i / (TRIES - 1);
            improve(c, x, n, at / most, &gain, &d);
        }
        improve(c, x, n, end / most, &gain, &d);
    }
    for (int i = 0; i < POLISH && d != 0; i++)
        if (!improve(c, x, n, 1 / d, &gain, &d)) break;
    return d;
}

struct sums {
    float x, q, xq, qq;
};

static struct sums line_sums(const float *x, const float *q, int n)
{
    float a[LANES] = {0}, b[LANES] = {0};
    struct sums s;
    for (int j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            a[l] += x[j + l];
            b[l] += q[j + l];
        }
    s.x = sum(a);
    s.q = sum(b);
    products(x, q, n, &s.xq, &s.qq);
    return s;
}

static void code_line(const float *x, struct quantize__line l, int n, float hi, float *q)
{
    float inverse = l.d > 0 ? 1 / l.d : 0;
    for (int j = 0; j < n; j++) q[j] = nearest_whole(between((x[j] - l.m) * inverse, 0, hi));
}

float quantize__try_line(const float *x, struct quantize__line l, int n, float hi, float *q)
{
    float e[LANES] = {0};
    code_line(x, l, n, hi, q);
    for (int j = 0; j < n; j += LANES)
        for (int k = 0; k < LANES; k++) {
            float r = x[j + k] - (l.d * q[j + k] + l.m);
            e[k] += r * r;
        }
    return sum(e);
}

/* The best line for the codes that l gives, if it beats *gain. */
static bool improve_line(const float *x, struct quantize__line l, int n, float hi, bool below,
                         float *gain, struct quantize__line *best)
{
    float q[N_MAX];
    code_line(x, l, n, hi, q);
    struct sums s = line_sums(x, q, n);
    float det = (float)n * s.qq - s.q * s.q;
    if (!(s.qq > 0)) return false;
    l.d = ((float)n * s.xq - s.x * s.q) / det;
    l.m = (s.x * s.qq - s.q * s.xq) / det;
    if (!(det > 0) || (below && l.m > 0)) l = (struct quantize__line){s.xq / s.qq, 0};
    float now = l.d * s.xq + l.m * s.x;
    if (!(l.d > 0) || !(now > *gain)) return false;
    *gain = now;
    *best = l;
    return true;
}

struct quantize__line quantize__fit_line(const float *x, int n, float hi, bool below)
{
    float lo = x[0], top = x[0], gain = -1;
    assert(n <= N_MAX && n % LANES == 0);
    for (int j = 1; j < n; j++) {
        lo = x[j] < lo ? x[j] : lo;
        top = x[j] > top ? x[j] : top;
    }
    if (below && lo > 0) lo = 0;
    struct quantize__line best = {0, below && lo > 0 ? 0 : lo};
    if (top - lo < 0x1p-60f) return best;
    float slack = hi < 8 ? 0.8f : 1.5f;
    for (int i = 0; i < LINE_TRIES; i++) {
        float steps = hi + slack * (2 * (float)i / (LINE_TRIES - 1) - 1);
        improve_line(x, (struct quantize__line){(top - lo) / steps, lo}, n, hi, below, &gain,
                     &best);
    }
    for (int i = 0; i < POLISH && best.d > 0; i++)
        if (!improve_line(x, best, n, hi, below, &gain, &best)) break;
    return best;
}
