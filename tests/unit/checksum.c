/* Any byte, any length, any place matters. */
#include "checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_every_byte(void **state)
{
    (void)state;
    uint8_t b[300] = {0};
    for (size_t n = 1; n < sizeof b; n++) {
        uint64_t sum = checksum(b, n, 0);
        assert_int_equal(sum, checksum(b, n, 0));
        assert_int_not_equal(sum, checksum(b, n - 1, 0));
        assert_int_not_equal(sum, checksum(b, n, 1));
        for (size_t i = 0; i < n; i++) {
            b[i] ^= 1;
            assert_int_not_equal(sum, checksum(b, n, 0));
            b[i] ^= 1;
        }
    }
}

static void test_places(void **state)
{
    (void)state;
    uint8_t a[256] = {0}, b[256] = {0};
    for (int i = 0; i < 256; i++) {
        memset(a, 0, sizeof a);
        a[i] = 1;
        for (int j = 0; j < i; j++) {
            memset(b, 0, sizeof b);
            b[j] = 1;
            assert_int_not_equal(checksum(a, 256, 0), checksum(b, 256, 0));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_byte),
                                       cmocka_unit_test(test_places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
