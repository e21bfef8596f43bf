/* Amounts as people write them. */
#include "amount.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void bytes(void **state)
{
    static const struct {
        const char *text;
        size_t bytes;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"1K", 1024},
                {"1kb", 1000},
                {"1KiB", 1024},
                {"12GiB", (size_t)12 << 30},
                {"12g", (size_t)12 << 30},
                {"12GB", 12000000000},
                {"1.5G", (size_t)3 << 29},
                {"0.5MB", 500000},
                {"2T", (size_t)2 << 40},
                {"7B", 7}};
    static const char *const bad[] = {"",    "G",   "-1",  "+1",           " 1",    "1 G",
                                      "1.",  ".5",  "1x",  "1GiBB",        "1Gb/s", "0x10",
                                      "nan", "inf", "1e3", "99999999999T", "1GB "};
    size_t n;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(amount_bytes(good[i].text, &n, &e), 0);
        assert_int_equal(n, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        n = 77;
        assert_int_equal(amount_bytes(bad[i], &n, &e), ERR_USAGE);
        assert_int_equal(n, 77);
        assert_non_null(strstr(e.msg, bad[i]));
    }
}

static void times(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"0", 0},
                {"5", 5000000000},
                {"5m", 300000000000},
                {"1h30m", 5400000000000},
                {"1.5s", 1500000000},
                {"250ms", 250000000},
                {"3us", 3000},
                {"9ns", 9},
                {"-1", -1000000000},
                {"-2m", -120000000000},
                {"99999999999h", INT64_MAX},
                {"-99999999999h", -INT64_MAX}};
    static const char *const bad[] = {"",    "-",   "m",   "5 m",   "5d",  "1h30", "30 ",
                                      "1e3", "5mm", "--5", "5m-1s", "1.h", "inf"};
    int64_t ns;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(amount_ns(good[i].text, &ns, &e), 0);
        assert_true(ns == good[i].ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(amount_ns(bad[i], &ns, &e), ERR_USAGE);
    assert_true(amount_ns_of(0.5) == 500000000);
    assert_true(amount_ns_of(1e300) == INT64_MAX);
    assert_true(amount_ns_of(-1e300) == -INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes), cmocka_unit_test(times)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
