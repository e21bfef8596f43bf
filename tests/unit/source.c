/* Sources from the command line: what they stand for, what they would be called, what is refused. */
#include "source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct source_spec s;

static void urls(void **state)
{
    (void)state;
    static const struct {
        const char *arg, *name;
    } t[] = {
        {"https://h/dir/Model-7B.Q4_K_M.gguf", "model-7b.q4_k_m"},
        {"https://h/dir/model.gguf?download=true#x", "model"},
        {"https://h/a/model", "model"},
        {"https://h/My%20Model.gguf", "my-20model"},
        {"https://h/..hidden.gguf", "hidden"},
        {"https://h/x-00001-of-00002.gguf", "x-00001-of-00002"},
        {"hf:Owner/Repo-GGUF/sub/File.Q8_0.gguf", "file.q8_0"},
        {"pypi:Some_pkg==1.0+local/pkg/data/M.gguf", "m"},
    };
    struct err e;
    unsetenv("HF_ENDPOINT");
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        if (source_parse(&s, t[i].arg, true, &e)) fail_msg("%s: %s", t[i].arg, e.msg);
        assert_string_equal(s.name, t[i].name);
        assert_true(source_name_ok(s.name));
        assert_true(source_is_spec(t[i].arg));
        assert_int_equal(s.source.bytes, -1);
    }
}

static void meanings(void **state)
{
    (void)state;
    struct err e;
    unsetenv("HF_ENDPOINT");
    assert_int_equal(source_parse(&s, "hf:o/r/d/f.gguf", true, &e), 0);
    assert_string_equal(s.source.url, "https://huggingface.co/o/r/resolve/main/d/f.gguf");
    setenv("HF_ENDPOINT", "https://mirror.example//", 1);
    assert_int_equal(source_parse(&s, "hf:o/r/f.gguf", true, &e), 0);
    assert_string_equal(s.source.url, "https://mirror.example/o/r/resolve/main/f.gguf");
    setenv("HF_ENDPOINT", "http://mirror.example", 1);
    assert_int_equal(source_parse(&s, "hf:o/r/f.gguf", true, &e), ERR_FORMAT);
    unsetenv("HF_ENDPOINT");
    assert_int_equal(source_parse(&s, "pypi:a.b==1!2.0/c/d.bin", true, &e), 0);
    assert_null(s.source.url);
    assert_string_equal(s.source.package, "a.b");
    assert_string_equal(s.source.version, "1!2.0");
    assert_string_equal(s.source.member, "c/d.bin");
}

static void refused(void **state)
{
    (void)state;
    static const char *const t[] = {
        "http://h/x.gguf",
        "https://h/",
        "https://h/...",
        "https://h/a b.gguf",
        "hf:",
        "hf:o",
        "hf:o/r",
        "hf:o/r/",
        "hf:/r/f",
        "hf:o//f",
        "hf:o/../f",
        "hf:o/r/../../x",
        "hf:o/r/./f",
        "hf:o/r/f?x=y",
        "hf:o/r/f#x",
        "hf:o@evil/r/f",
        "hf:o/r/a%2e%2e/f",
        "hf:o/r/f\n",
        "pypi:",
        "pypi:x",
        "pypi:x==1",
        "pypi:x==1/",
        "pypi:==1/f",
        "pypi:x==/f",
        "pypi:x==1//f",
        "pypi:x==1/../f",
        "pypi:x==1/a/..",
        "pypi:../x==1/f",
        "pypi:x/y==1/f",
        "pypi:x==1 2/f",
        "pypi:x==1/a\x1b[2J/f",
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct err e = {0};
        int rc = source_parse(&s, t[i], true, &e);
        if (rc >= 0) fail_msg("%s: accepted as %s", t[i], s.name);
        assert_int_equal(rc, e.code);
        assert_true(e.msg[0] && !strpbrk(e.msg, "\n\x1b"));
    }
    static char url[3 * URL_MAX];
    struct err e;
    memset(url, 'a', sizeof url - 1);
    memcpy(url, "https://h/", 10);
    assert_int_equal(source_parse(&s, url, true, &e), ERR_USAGE);
    memcpy(url, "pypi:x==1/", 10);
    assert_true(source_parse(&s, url, true, &e) < 0);
    memcpy(url, "hf:o/r/aaa", 10);
    assert_true(source_parse(&s, url, true, &e) < 0);
}

static void names(void **state)
{
    (void)state;
    char s97[98];
    memset(s97, 'a', 97);
    s97[97] = 0;
    assert_false(source_name_ok(s97));
    s97[96] = 0;
    assert_true(source_name_ok(s97));
    static const char *const bad[] = {"",    ".", "..",  ".a",  "-a",      "_a",
                                      "a/b", "A", "a b", "a\n", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(source_name_ok(bad[i]));
    struct err e;
    assert_int_equal(source_parse(&s, "https://h/", false, &e), 0); /* the caller has a name */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        cmocka_unit_test(meanings),
        cmocka_unit_test(refused),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
