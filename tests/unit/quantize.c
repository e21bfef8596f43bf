/* Every type's error on seeded rows stays below a stored bound, which is what llama.cpp's quantiser leaves on
 * the same rows (measured with ggml_quantize_chunk of llama-cpp-python 0.3.36); values at the extremes. */
#include "quantize.h"
#include "rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { K = 2048, ROWS = 16 };

/* Relative rms error that llama.cpp leaves: normal rows, heavy tails (Student's t, 3 degrees). */
static const struct {
    uint32_t type;
    float normal, heavy;
} bounds[] = {
    {QUANT_F32, 1e-9f, 1e-9f},
    {QUANT_F16, 3e-4f, 3e-4f},
    {QUANT_BF16, 3e-3f, 3e-3f},
    {QUANT_Q8_0, 0.005369f, 0.008703f},
    {QUANT_Q4_0, 0.086089f, 0.130404f},
    {QUANT_Q4_1, 0.078493f, 0.101179f},
    {QUANT_Q5_0, 0.042798f, 0.068956f},
    {QUANT_Q5_1, 0.037990f, 0.050035f},
    {QUANT_Q2_K, 0.299423f, 0.351582f},
    {QUANT_Q3_K, 0.150843f, 0.188221f},
    {QUANT_Q4_K, 0.071619f, 0.095086f},
    {QUANT_Q5_K, 0.036174f, 0.048538f},
    {QUANT_Q6_K, 0.017819f, 0.026365f},
    {QUANT_IQ4_NL, 0.076509f, 0.105192f},
    {QUANT_IQ4_XS, 0.077065f, 0.106394f},
    {QUANT_MXFP4, 0.113626f, 0.149554f},
};

enum { TYPES = sizeof bounds / sizeof *bounds };

static uint8_t out[K * 4];
static float back[K];

/* Sums the squares of x and of what quantising it loses. */
static void add_errors(uint32_t type, const float *x, size_t k, double *error, double *power)
{
    assert_true(quantize_fits(type, x, k));
    quantize_row(type, x, out, k);
    quant_row_to_f32(type, out, back, k);
    for (size_t i = 0; i < k; i++) {
        *error += ((double)back[i] - (double)x[i]) * ((double)back[i] - (double)x[i]);
        *power += (double)x[i] * (double)x[i];
    }
}

static double relative(uint32_t type, const float *x, size_t k)
{
    double error = 0, power = 0;
    add_errors(type, x, k, &error, &power);
    return power > 0 ? sqrt(error / power) : sqrt(error);
}

static float heavy(struct rng *r)
{
    double a = rng_normal(r), b = rng_normal(r), c = rng_normal(r), d = rng_normal(r);
    return (float)(a / sqrt((b * b + c * c + d * d) / 3));
}

static void test_bounds(void **state)
{
    (void)state;
    for (int t = 0; t < TYPES; t++)
        for (int kind = 0; kind < 2; kind++) {
            struct rng r;
            float x[K];
            double error = 0, power = 0;
            rng_init(&r, 7);
            for (int row = 0; row < ROWS; row++) {
                for (int i = 0; i < K; i++)
                    x[i] = 0.02f * (kind ? heavy(&r) : (float)rng_normal(&r));
                add_errors(bounds[t].type, x, K, &error, &power);
            }
            double got = sqrt(error / power),
                   most = (double)(kind ? bounds[t].heavy : bounds[t].normal);
            if (!(got <= most))
                fail_msg("%s, %s rows: %.5f, at most %.5f", quant_name(bounds[t].type),
                         kind ? "heavy" : "normal", got, most);
        }
}

static void test_zeros(void **state)
{
    (void)state;
    static const float zeros[K];
    for (int t = 0; t < TYPES; t++) {
        assert_true(relative(bounds[t].type, zeros, K) == 0);
        for (int i = 0; i < K; i++) assert_true(back[i] == 0);
    }
}

/* Blocks that hold one value other than 0, of every size: it comes back nearly, the rest as 0. */
static void test_lone_values(void **state)
{
    (void)state;
    for (int t = 0; t < TYPES; t++)
        for (int exp = -3; exp < 16; exp++)
            for (int at = 0; at < 256; at += 17) {
                float x[256] = {0};
                x[at] = ldexpf(at % 2 ? 1.1f : -1.1f, exp);
                double bound = bounds[t].type == QUANT_MXFP4 ? 0.15 : 0.05;
                if (relative(bounds[t].type, x, 256) > bound)
                    fail_msg("%s: %g at %d became %g", quant_name(bounds[t].type), (double)x[at],
                             at, (double)back[at]);
            }
}

/* Whatever the size and shape of the values: finite, and never worse than leaving them out. */
static void test_sizes(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 3);
    for (int t = 0; t < TYPES; t++)
        for (int round = 0; round < 400; round++) {
            float x[256];
            int exp = (int)rng_below(&r, 60) - 45;
            bool one_sign = rng_below(&r, 2), sparse = rng_below(&r, 2);
            for (int i = 0; i < 256; i++) {
                float v = ldexpf((float)rng_normal(&r), exp);
                v = one_sign ? fabsf(v) : v;
                x[i] = sparse && rng_below(&r, 4) ? 0 : fmaxf(-65504, fminf(65504, v));
            }
            double got = relative(bounds[t].type, x, 256);
            for (int i = 0; i < 256; i++) assert_true(isfinite(back[i]));
            if (got > 1.01)
                fail_msg("%s, round %d, 2^%d: %g", quant_name(bounds[t].type), round, exp, got);
        }
}

static void test_equal_values(void **state)
{
    (void)state;
    static const float values[] = {1, -1, 65504, -65504, 0.37f, 1e-3f};
    for (int t = 0; t < TYPES; t++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            float x[256];
            for (int i = 0; i < 256; i++) x[i] = values[v];
            double bound = bounds[t].type == QUANT_MXFP4 ? 0.15 : 0.02;
            if (relative(bounds[t].type, x, 256) > bound)
                fail_msg("%s: 256 times %g became %g", quant_name(bounds[t].type),
                         (double)values[v], (double)back[0]);
        }
}

static void test_fits(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int t = 0; t < TYPES; t++) {
        float x[256] = {0};
        bool wide = bounds[t].type == QUANT_F32 || bounds[t].type == QUANT_BF16;
        for (int at = 0; at < 256; at += 51) {
            for (int b = 0; b < 3; b++) {
                x[at] = bad[b];
                assert_false(quantize_fits(bounds[t].type, x, 256));
            }
            x[at] = -65504;
            assert_true(quantize_fits(bounds[t].type, x, 256));
            x[at] = 70000;
            assert_int_equal(quantize_fits(bounds[t].type, x, 256), wide);
            x[at] = 0;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),       cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_lone_values),  cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_equal_values), cmocka_unit_test(test_fits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
