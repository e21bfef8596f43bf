/* JSON as it is written: what jansson reads back. */
#include "out.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rng.h"

static void string_is(const char *p, size_t n, const char *want)
{
    struct buf b = BUF_INIT(1000);
    out_string(&b, p, n);
    assert_string_equal(b.data, want);
    buf_free(&b);
}

static void strings(void **state)
{
    struct buf b = BUF_INIT(1000);
    (void)state;
    string_is("", 0, "\"\"");
    string_is("a\"b\\c\n\t\x01\x7f\0z", 11, "\"a\\\"b\\\\c\\n\\t\\u0001\\u007f\\u0000z\"");
    string_is("Gr\xc3\xbc\xc3\x9f"
              "e \xf0\x9f\x98\x80 \xef\xbf\xbd",
              16,
              "\"Gr\xc3\xbc\xc3\x9f"
              "e \xf0\x9f\x98\x80 \xef\xbf\xbd\"");
    string_is("\xff"
              "a\xc3",
              3,
              "\"\xef\xbf\xbd"
              "a\xef\xbf\xbd\"");
    string_is("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    out_cstring(&b, NULL);
    assert_string_equal(b.data, "null");
    buf_free(&b);
}

static void any_bytes_are_json(void **state)
{
    struct rng rng;
    (void)state;
    rng_init(&rng, 7);
    for (int i = 0; i < 3000; i++) {
        char bytes[40];
        struct buf b = BUF_INIT(1000);
        size_t n = rng_below(&rng, sizeof bytes);
        for (size_t k = 0; k < n; k++) bytes[k] = (char)rng_u64(&rng);
        out_string(&b, bytes, n);
        json_t *j = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_true(json_is_string(j));
        json_decref(j);
        buf_free(&b);
    }
}

static void numbers(void **state)
{
    struct rng rng;
    struct buf b = BUF_INIT(1000);
    (void)state;
    rng_init(&rng, 8);
    for (int i = 0; i < 3000; i++) {
        uint32_t bits = (uint32_t)rng_u64(&rng);
        float x;
        memcpy(&x, &bits, sizeof x);
        buf_reset(&b);
        out_float(&b, x);
        if (isfinite(x))
            assert_true(strtof(b.data, NULL) == x);
        else
            assert_string_equal(b.data, "null");
    }
    buf_reset(&b);
    out_float(&b, 0.1f);
    assert_string_equal(b.data, "0.1");
    buf_free(&b);
}

static void lists_and_base64(void **state)
{
    static const char *const want[] = {"\"\"", "\"Zg==\"", "\"Zm8=\"", "\"Zm9v\"", "\"Zm9vYg==\""};
    struct buf b = BUF_INIT(1000);
    (void)state;
    for (size_t n = 0; n < 5; n++) {
        buf_reset(&b);
        out_base64(&b, "foob", n);
        assert_string_equal(b.data, want[n]);
    }
    buf_reset(&b);
    out_bytes(&b, "a\xff", 2);
    assert_string_equal(b.data, "[97,255]");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings),
        cmocka_unit_test(any_bytes_are_json),
        cmocka_unit_test(numbers),
        cmocka_unit_test(lists_and_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
