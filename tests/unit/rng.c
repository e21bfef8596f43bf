/* The generator gives the published numbers, and its derivatives have the right shape. */
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_published_numbers(void **state)
{
    (void)state;
    static const uint64_t splitmix[] = {6457827717110365317u, 3203168211198807973u,
                                        9817491932198370423u, 4593380528125082431u};
    static const uint64_t xoshiro[] = {
        11520, 0, 1509978240, 1215971899390074240, 1216172134540287360, 607988272756665600};
    struct rng r;
    rng_init(&r, 1234567);
    for (int i = 0; i < 4; i++) assert_true(r.s[i] == splitmix[i]);
    r = (struct rng){{1, 2, 3, 4}};
    for (int i = 0; i < 6; i++) assert_true(rng_u64(&r) == xoshiro[i]);
}

static void test_double_and_below(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 7);
    double sum = 0;
    int seen[10] = {0};
    for (int i = 0; i < 100000; i++) {
        double d = rng_double(&r);
        assert_true(d >= 0 && d < 1);
        sum += d;
        uint64_t n = rng_below(&r, 10);
        assert_true(n < 10);
        seen[n]++;
    }
    assert_true(sum > 49500 && sum < 50500);
    for (int i = 0; i < 10; i++) assert_in_range(seen[i], 9600, 10400);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rng_below(&r, 1), 0);
        assert_true(rng_below(&r, UINT64_MAX) < UINT64_MAX);
        assert_true(rng_below(&r, UINT64_C(1) << 63) < UINT64_C(1) << 63);
    }
}

static void test_normal(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct rng r;
    rng_init(&r, 9);
    double sum = 0, square = 0;
    int beyond_2 = 0;
    for (int i = 0; i < N; i++) {
        double x = rng_normal(&r);
        sum += x;
        square += x * x;
        beyond_2 += x > 2 || x < -2;
    }
    assert_true(sum / N > -0.02 && sum / N < 0.02);
    assert_true(square / N > 0.98 && square / N < 1.02);
    assert_in_range(beyond_2, 4350, 4750); /* 4.55 % */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_numbers),
        cmocka_unit_test(test_double_and_below),
        cmocka_unit_test(test_normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
