/* The file of models: what it says, and what is refused with its line and key. */
#include "model_ini.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model_ini ini;

static void a_whole_one(void **state)
{
    static const char text[] = "\xef\xbb\xbf; of a server\r\n"
                               "[chat]\r\n"
                               "model = qwen\r\n"
                               "alias = gpt-4o,  openai/small ; two\r\n"
                               "preload = Yes\n"
                               "keep_alive = 1h30m\n"
                               "ctx = 4096\n"
                               "kv = 1.5GiB\n"
                               "max_tokens: 50\n"
                               "system = You are brief.\n"
                               "\n"
                               "  [really]\n"
                               "\tAnd k\xc3\xafnd = good.\n"
                               "temperature = 0.25\n"
                               "top_k = 7\n"
                               "# the other\n"
                               "[e5:latest]\n"
                               "path = ./e5.gguf\n"
                               "system =\n";
    struct err e;
    (void)state;
    if (model_ini_parse(&ini, text, sizeof text - 1, "m.ini", &e)) fail_msg("%s", e.msg);
    assert_int_equal(ini.n, 2);
    const struct model_ini_item *it = &ini.items[0];
    assert_string_equal(it->model.name, "chat");
    assert_string_equal(it->source, "qwen");
    assert_int_equal(it->model.n_aliases, 2);
    assert_string_equal(it->model.aliases[0], "gpt-4o");
    assert_string_equal(it->model.aliases[1], "openai/small");
    assert_true(it->model.preload && it->keeps);
    assert_true(it->model.keep_ns == 5400000000000);
    assert_int_equal(it->model.ctx, 4096);
    assert_int_equal(it->model.kv_bytes, (size_t)3 << 29);
    assert_int_equal(it->model.max_tokens, 50);
    assert_string_equal(it->model.system, "You are brief.\n[really]\nAnd k\xc3\xafnd = good.");
    assert_true(it->model.sample.temp == 0.25f && it->model.sample.top_k == 7);
    assert_int_equal(it->line, 3);
    it++;
    const struct sample_params plain = SAMPLE_DEFAULTS;
    assert_string_equal(it->model.name, "e5:latest");
    assert_string_equal(it->source, "./e5.gguf");
    assert_true(!it->model.preload && !it->keeps && !it->model.system && !it->model.n_aliases);
    assert_true(it->model.sample.temp == plain.temp && it->model.sample.top_k == plain.top_k);
    model_ini_free(&ini);
}

static void what_is_refused(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "f:1: no [section]"},
        {"; nothing\n", "f:1: no [section]"},
        {"model = x\n", "f:1: model: stands before"},
        {"[a]\nmodel = x\nwarmth = 1\n", "f:3: warmth: an unknown key"},
        {"[a]\nmodel = x\ntemperature = 2.5\n", "f:3: temperature: 2.5 is not from 0 to 2"},
        {"[a]\nmodel = x\ntemperature = hot\n", "f:3: temperature: must be a number"},
        {"[a]\nmodel = x\ntemperature = nan\n", "f:3: temperature: must be a number"},
        {"[a]\nmodel = x\ntop_k = 1.5\n", "f:3: top_k: top_k is 1.5"},
        {"[a]\nmodel = x\nmirostat = 1\n", "f:3: mirostat: mirostat is 1"},
        {"[a]\nmodel = x\nctx = 0\n", "f:3: ctx: must be a whole number"},
        {"[a]\nmodel = x\nctx = 1e99\n", "f:3: ctx: must be a whole number"},
        {"[a]\nmodel = x\nmax_tokens = -1\n", "f:3: max_tokens: must be a whole number"},
        {"[a]\nmodel = x\nkeep_alive = soon\n", "f:3: keep_alive: 'soon' is no length of time"},
        {"[a]\nmodel = x\nkv = lots\n", "f:3: kv: 'lots' is no amount of bytes"},
        {"[a]\nmodel = x\npreload = maybe\n", "f:3: preload: must be yes or no"},
        {"[a]\nmodel = x\nmodel = y\n", "f:3: model: stands twice"},
        {"[a]\nmodel = x\npath = y\n", "f:3: path: the model has one already"},
        {"[a]\nmodel = x\ntop_p = 1\ntop_k = 1\ntop_p = 1\n", "f:5: top_p: stands twice"},
        {"[a]\nmodel = x\nmodel\n", "f:3: neither [section] nor"},
        {"[a\nmodel = x\n", "f:1: a section's name"},
        {"[a]\nmodel =\n", "f:2: model: has no value"},
        {"[a]\n[b]\nmodel = x\n", "f:1: a section without keys"},
        {"[a]\nmodel = x\n[b]\n", "f:3: a section without keys"},
        {"[a]\nalias = b\n", "f:2: a: has no key 'model'"},
        {"[a]\nmodel = x\n[a]\nmodel = y\n", "f:4: a: a name that is taken"},
        {"[a]\nmodel = x\nalias = b\n[b]\nmodel = y\n", "f:5: b: a name that is taken"},
        {"[a]\nmodel = x\nalias = a\n", "f:3: alias: a name that is taken"},
        {"[a]\nmodel = x\nalias = b, b\n", "f:3: alias: a name that is taken"},
        {"[a]\nmodel = x\nalias = b,,c\n", "f:3: alias: names have"},
        {"[a]\nmodel = x\nalias = b c\n", "f:3: alias: names have"},
        {"[a b]\nmodel = x\n", "f:2: a b: names have"},
        {"[]\nmodel = x\n", "f:2: model: stands before"},
        {"[a]\nmodel = x\n  y\n", "f:3: model: goes over several lines"},
        {"[a]\nmodel = x\nsystem = \xff\n", "f:3: system: must be UTF-8"},
        {"[a]\nmodel = x\nalias = 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16\n",
         "f:3: alias: more than 16"},
        {"[0123456789012345678901234567890123456789012345678]\nmodel = x\n",
         "f:1: a section's name"},
    };
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = model_ini_parse(&ini, cases[i].text, strlen(cases[i].text), "f", &e);
        if (rc != ERR_FORMAT || strncmp(e.msg, cases[i].error, strlen(cases[i].error)))
            fail_msg("%s\n-> %d %s\nnot %s", cases[i].text, rc, rc ? e.msg : "", cases[i].error);
        model_ini_free(&ini);
    }
}

static void refused(const char *text, size_t n, const char *error)
{
    struct err e;
    assert_int_equal(model_ini_parse(&ini, text, n, "f", &e), ERR_FORMAT);
    if (strncmp(e.msg, error, strlen(error))) fail_msg("%s, not %s", e.msg, error);
    model_ini_free(&ini);
}

static void what_is_too_long(void **state)
{
    enum { ROOM = 2 << 20 };
    char *text = malloc(ROOM);
    struct err e;
    (void)state;
    /* A line of 198 bytes is whole, one of 199 refused. */
    int n = sprintf(text, "[a]\nmodel = %0*d\n", 190, 0);
    assert_int_equal(n, 4 + 198 + 1);
    assert_int_equal(model_ini_parse(&ini, text, (size_t)n, "f", &e), 0);
    assert_int_equal(strlen(ini.items[0].source), 190);
    model_ini_free(&ini);
    n = sprintf(text, "[a]\nmodel = %0*d\n", 191, 0);
    refused(text, (size_t)n, "f:2: a line of more than 198 bytes");
    refused("[a]\nmodel = x\0y\n", 16, "f:2: a NUL byte");
    n = sprintf(text, "[a]\nmodel = x\nsystem = y\n");
    for (int i = 0; i < 400; i++) n += sprintf(text + n, " %0*d\n", 190, i);
    refused(text, (size_t)n, "f:347: system: longer than 65536 bytes");
    n = 0;
    for (int i = 0; i < MODEL_INI_MODELS + 1; i++) n += sprintf(text + n, "[m%d]\nmodel = x\n", i);
    refused(text, (size_t)n, "f:514: m256: more than 256 models");
    memset(text, '\n', ROOM);
    refused(text, MODEL_INI_BYTES + 1, "f:1: more than 1 MiB");
    free(text);
}

static void from_disk(void **state)
{
    struct err e;
    (void)state;
    assert_int_equal(model_ini_read(&ini, "/nothing.ini", &e), ERR_IO);
    assert_non_null(strstr(e.msg, "/nothing.ini"));
    model_ini_free(&ini);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_one),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(what_is_too_long),
        cmocka_unit_test(from_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
