/* Which URLs are fetched, how links resolve, and what is printed of them. */
#include "url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void checks(void **state)
{
    (void)state;
    static const struct {
        const char *url, *from;
        int rc;
    } t[] = {
        {"https://example.org/a.gguf", NULL, 0},
        {"HTTPS://example.org:8443/a?b=c#d", NULL, 0},
        {"http://127.0.0.1:8080/a", NULL, 0},
        {"http://127.9.9.9/a", NULL, 0},
        {"http://localhost/a", NULL, 0},
        {"http://[::1]:1/a", NULL, 0},
        {"http://127.0.0.1/a", "http://localhost/b", 0},
        {"https://example.org/", "https://example.com/", 0},
        {"http://127.0.0.1/a", "https://example.com/", ERR_FORMAT},
        {"http://example.org/a", NULL, ERR_FORMAT},
        {"http://127.0.0.1.example.org/a", NULL, ERR_FORMAT},
        {"http://localhost.example.org/a", NULL, ERR_FORMAT},
        {"http://127.0.0.1@example.org/a", NULL, ERR_FORMAT},
        {"http://128.0.0.1/a", NULL, ERR_FORMAT},
        {"http://[::2]/a", NULL, ERR_FORMAT},
        {"ftp://127.0.0.1/a", NULL, ERR_FORMAT},
        {"file:///etc/passwd", NULL, ERR_FORMAT},
        {"https://", NULL, ERR_FORMAT},
        {"example.org/a", NULL, ERR_FORMAT},
        {"", NULL, ERR_FORMAT},
        {"https://example.org/a b", NULL, ERR_FORMAT},
        {"https://example.org/a\r\nX: y", NULL, ERR_FORMAT},
        {"https://example.org/\xc3\xa4", NULL, ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct err e = {0};
        int rc = url_check(t[i].url, t[i].from, &e);
        if (rc != t[i].rc) fail_msg("%s: %d, %s", t[i].url, rc, e.msg);
    }
    static char url[URL_MAX + 1];
    struct err e;
    memset(url, 'a', URL_MAX);
    memcpy(url, "https://a/", 10);
    assert_int_equal(url_check(url, NULL, &e), ERR_LIMIT);
    url[URL_MAX - 1] = 0;
    assert_int_equal(url_check(url, NULL, &e), 0);
}

static void joins(void **state)
{
    (void)state;
    static const struct {
        const char *base, *link, *want;
    } t[] = {
        {"https://h/simple/x/", "../../files/x.whl", "https://h/files/x.whl"},
        {"https://h/simple/x/", "/files/x.whl?a=b", "https://h/files/x.whl?a=b"},
        {"https://h/simple/x/", "//g/x.whl", "https://g/x.whl"},
        {"https://h/simple/x/", "http://g/x.whl", "http://g/x.whl"},
        {"https://u:p@h/simple/x/", "x.whl", "https://u:p@h/simple/x/x.whl"},
        {"https://u:p@h/simple/x/", "https://g/x.whl", "https://g/x.whl"},
    };
    struct buf b = BUF_INIT(URL_MAX);
    struct err e;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        assert_int_equal(url_join(t[i].base, t[i].link, &b, &e), 0);
        assert_string_equal(b.data, t[i].want);
    }
    assert_int_equal(url_join("none", "x", &b, &e), ERR_FORMAT);
    struct buf small = BUF_INIT(8);
    assert_int_equal(url_join("https://h/", "abcdefgh", &small, &e), ERR_FORMAT);
    buf_free(&small);
    buf_free(&b);
}

static void origins(void **state)
{
    (void)state;
    assert_true(url_same_origin("https://huggingface.co/a", "https://HuggingFace.co:443/b?c"));
    assert_false(url_same_origin("https://huggingface.co/a", "https://cdn.huggingface.co/a"));
    assert_false(url_same_origin("https://huggingface.co/a", "https://huggingface.co:444/a"));
    assert_false(url_same_origin("http://127.0.0.1/a", "https://127.0.0.1/a"));
    assert_false(url_same_origin("https://huggingface.co@evil/a", "https://huggingface.co/a"));
    assert_false(url_same_origin("nonsense", "nonsense"));
}

static void shown(void **state)
{
    (void)state;
    char s[URL_SHOWN];
    assert_string_equal(url_shown("https://user:pass@h:1/p/q?sig=secret#f", s), "https://h:1/p/q");
    assert_string_equal(url_shown("nonsense", s), "(no URL)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks),
        cmocka_unit_test(joins),
        cmocka_unit_test(origins),
        cmocka_unit_test(shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
