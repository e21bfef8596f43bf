/* Buffers hold what was put into them, stop at their cap, and stay failed. */
#include "buf.h"

#include "../support/oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_puts_and_takes(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    assert_null(b.data);
    assert_true(buf_put(&b, "abc", 2) && buf_putc(&b, 'x') && buf_puts(&b, "yz"));
    assert_true(buf_printf(&b, "%d%s", 17, "!"));
    assert_true(buf_put(&b, NULL, 0));
    assert_string_equal(b.data, "abxyz17!");
    assert_int_equal(b.len, 8);
    char *room = buf_reserve(&b, 3);
    memcpy(room, "end", 3);
    b.len += 3;
    assert_memory_equal(b.data, "abxyz17!end", 11);
    char *taken = buf_take(&b);
    assert_memory_equal(taken, "abxyz17!end", 11);
    free(taken);
    assert_null(b.data);
    assert_int_equal(b.cap, 1000);
    assert_true(buf_puts(&b, "again"));
    buf_reset(&b);
    assert_string_equal(b.data, "");
    buf_free(&b);
    buf_free(&b);
    buf_free(NULL);
}

static void test_many_small_puts(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(100000);
    for (int i = 0; i < 100000; i++) assert_true(buf_putc(&b, (char)('a' + i % 26)));
    for (int i = 0; i < 100000; i++) assert_int_equal(b.data[i], 'a' + i % 26);
    assert_int_equal(b.data[b.len], 0);
    assert_false(buf_putc(&b, 'x'));
    buf_free(&b);
}

static void test_cap_is_exact_and_failure_sticks(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(10);
    assert_true(buf_puts(&b, "0123456789"));
    assert_false(b.failed);
    assert_false(buf_putc(&b, 'x'));
    assert_true(b.failed);
    assert_false(buf_put(&b, "", 0));
    assert_false(buf_printf(&b, "y"));
    assert_string_equal(b.data, "0123456789");
    buf_reset(&b);
    assert_false(b.failed);
    assert_false(buf_printf(&b, "%s", "01234567890"));
    buf_reset(&b);
    assert_true(buf_printf(&b, "%s", "0123456789"));
    buf_free(&b);

    struct buf all = BUF_INIT(SIZE_MAX);
    assert_true(buf_puts(&all, "x"));
    assert_null(buf_reserve(&all, SIZE_MAX - 1)); /* with the NUL it would wrap to nothing */
    buf_free(&all);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    struct buf b = BUF_INIT(1000);
    oom_after(1);
    assert_false(buf_puts(&b, "x"));
    oom_after(-1);
    assert_true(b.failed);
    assert_false(buf_puts(&b, "x"));
    buf_reset(&b);
    assert_true(buf_puts(&b, "x"));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_puts_and_takes),
        cmocka_unit_test(test_many_small_puts),
        cmocka_unit_test(test_cap_is_exact_and_failure_sticks),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
