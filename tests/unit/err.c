/* Messages stay one clean line, whatever names they quote. */
#include "err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_code_and_text(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(err_set(&e, ERR_LIMIT, "%d of %s", 3, "x"), ERR_LIMIT);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_string_equal(e.msg, "3 of x");
    assert_int_equal(err_prefix(&e, "file %d", 7), ERR_LIMIT);
    assert_string_equal(e.msg, "file 7: 3 of x");
    assert_int_equal(err_nomem(&e, 123, "rows"), ERR_MEMORY);
    assert_string_equal(e.msg, "out of memory (wanted 123 bytes for rows)");
}

static void test_foreign_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a\nb\x1b[2J\x7f\t", "a?b?[2J??"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\x9b[2J", "?[2J"},      /* a control of 8-bit terminals */
        {"\xc2\x9b[2J", "??[2J"}, /* the same in UTF-8 */
        {"\xe2\x80\xae", "???"},  /* right-to-left override */
        {"\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf", "?? ??? ????"}, /* overlong */
        {"\xed\xa0\x80", "???"},                                   /* a surrogate */
        {"\xf4\x90\x80\x80 \xff", "???? ?"},                       /* beyond Unicode */
        {"\xe2\x82", "??"},                                        /* cut off */
        {"\xf0\x9f\x98", "???"},
        {"\xc3", "?"},
        {"\xc3(", "?("},
        {"\x80\xbf", "??"},
    };
    struct err e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err_set(&e, ERR_FORMAT, "%s", cases[i].in);
        assert_string_equal(e.msg, cases[i].out);
    }
}

static void test_long_text_is_cut_between_characters(void **state)
{
    (void)state;
    char in[1000];
    struct err e;
    for (size_t i = 0; i < sizeof in - 1; i += 3) memcpy(in + i, "\xe2\x82\xac", 3);
    in[sizeof in - 1] = 0;
    for (int shift = 0; shift < 3; shift++) {
        err_set(&e, ERR_FORMAT, "%.*s%s", shift, "xx", in);
        assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
        size_t whole = (sizeof e.msg - 1 - (size_t)shift) / 3 * 3 + (size_t)shift;
        assert_memory_equal(e.msg + shift, in, whole - (size_t)shift);
        for (size_t i = whole; e.msg[i]; i++) assert_int_equal(e.msg[i], '?');
    }
    err_prefix(&e, "%s", in);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code_and_text),
        cmocka_unit_test(test_foreign_bytes),
        cmocka_unit_test(test_long_text_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
