/* What cleaning lets through: everything well-formed on the way in but NUL, everything but control
 * characters on the way out; and the result is well-formed and clean itself, for any bytes. */
#include "clean.h"
#include "rng.h"
#include "unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define BAD "\xef\xbf\xbd"

typedef void clean_fn(const char *p, size_t n, struct buf *out);

static void check(clean_fn *clean, const char *in, size_t n, const char *want)
{
    struct buf out = BUF_INIT(1000);
    clean(in, n, &out);
    assert_string_equal(out.data ? out.data : "", want);
    buf_free(&out);
}

static void test_utf8(void **state)
{
    (void)state;
    check(clean_utf8, "", 0, "");
    check(clean_utf8, "a\n\x1b€😀", 10, "a\n\x1b€😀");
    check(clean_utf8, "a\0b", 3, "a" BAD "b");
    check(clean_utf8, "\xff\xfe", 2, BAD BAD);
    check(clean_utf8, "\xe2\x82", 2, BAD);             /* cut inside a character */
    check(clean_utf8, "\xe2\x82x", 3, BAD "x");        /* one that ends too early */
    check(clean_utf8, "\xc0\x80", 2, BAD BAD);         /* overlong */
    check(clean_utf8, "\xed\xa0\x80", 3, BAD BAD BAD); /* a surrogate */
}

static void test_screen(void **state)
{
    (void)state;
    check(clean_screen, "plain\ttext\n", 11, "plain\ttext\n");
    check(clean_screen, "\x1b]0;title\x07", 10, BAD "]0;title" BAD);
    check(clean_screen, "\r\b\x7f\0", 4, BAD BAD BAD BAD);
    check(clean_screen,
          "\xc2\x9b"
          "2J\xc2\xa0",
          6, BAD "2J\xc2\xa0"); /* CSI in one character */
    check(clean_screen, "grüße ›😀", 15, "grüße ›😀");
}

static void test_any_bytes(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 3);
    for (int trial = 0; trial < 20000; trial++) {
        static const unsigned char likely[] = {0xc2, 0x9b, 0xe2, 0x82, 0xf0,
                                               0x9f, 0x98, 0x80, 0,    27};
        char in[24];
        struct buf whole = BUF_INIT(1000), shown = BUF_INIT(1000);
        size_t n = rng_below(&r, sizeof in);
        for (size_t i = 0; i < n; i++)
            in[i] = (char)(rng_u64(&r) & 1 ? likely[rng_below(&r, sizeof likely)] : rng_u64(&r));
        clean_utf8(in, n, &whole);
        clean_screen(whole.data, whole.len, &shown);
        for (size_t at = 0; at < shown.len;) {
            int length = unicode_length(shown.data + at, shown.len - at);
            assert_true(length > 0);
            uint32_t c = unicode_at(shown.data + at, shown.len - at).code;
            assert_true(c == '\n' || c == '\t' || (c >= 0x20 && (c < 0x7f || c >= 0xa0)));
            at += (size_t)length;
        }
        buf_free(&whole);
        buf_free(&shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_screen),
        cmocka_unit_test(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
