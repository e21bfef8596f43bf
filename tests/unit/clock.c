/* The clock is the system's monotonic one, in nanoseconds, and never steps back. */
#include "clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

static int64_t system_ns(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void test_monotonic_nanoseconds(void **state)
{
    (void)state;
    int64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        int64_t before = system_ns(), now = clock_ns(), after = system_ns();
        assert_true(before <= now && now <= after);
        assert_true(now >= last);
        last = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_monotonic_nanoseconds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
