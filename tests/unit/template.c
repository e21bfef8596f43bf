/* The language in small, budgets by name, marks of foreign bytes, failures that leave nothing. How
 * whole chat templates render is compared with the original in tests/golden/templates. */
#include "template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../support/oom.h"

enum { NOW = 1735732800 }; /* noon of 1 January 2025 in Greenwich */

static const char variables[] =
    "{\"n\": 3, \"f\": 2.5, \"s\": \"Hello, World\", \"u\": \"Gr\\u00fc\\u00dfe \\u4e16\", "
    "\"l\": [1, 2, 3, 4], \"d\": {\"b\": 1, \"a\": [true, null]}, \"no\": false, "
    "\"messages\": [{\"role\": \"user\", \"content\": \" Hi \"}, "
    "{\"role\": \"assistant\", \"content\": \"Yes\"}]}";

static int render(const char *source, const char *json, struct buf *out, struct buf *marks,
                  struct err *e)
{
    struct template *t = NULL;
    struct template_input in = {
        .json = json, .n_json = strlen(json), .now_s = NOW, .foreign = marks};
    int rc = template_open(&t, source, strlen(source), e);
    if (!rc) rc = template_render(t, &in, out, e);
    template_close(t);
    return rc;
}

static void check(const char *source, const char *want)
{
    struct buf out = BUF_INIT(100000);
    struct err e;
    if (render(source, variables, &out, NULL, &e)) fail_msg("%s: %s", source, e.msg);
    assert_string_equal(out.len ? out.data : "", want);
    buf_free(&out);
}

/* Fails with this code, and a message that holds `says`. */
static void refuse(const char *source, int code, const char *says)
{
    struct buf out = BUF_INIT(100000);
    struct err e = {0};
    assert_true(buf_puts(&out, "before"));
    int rc = render(source, variables, &out, NULL, &e);
    if (rc != code || !strstr(e.msg, says)) fail_msg("%.200s: %d, %s", source, rc, e.msg);
    assert_string_equal(out.data, "before");
    assert_int_equal(e.code, code);
    buf_free(&out);
}

static void test_expressions(void **state)
{
    (void)state;
    check("{{ 1 + 2 * 3 ** 2 - 7 // 2 }}", "16");
    check("{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 1e16 }} {{ 0.1 + 0.2 }}",
          "-4 2 3.5 1e+16 0.30000000000000004");
    check("{{ 'a' ~ 1 ~ none ~ true }} {{ 'ab' * 2 }} {{ 'x' in s }} {{ 1 < 2 < 3 }}",
          "a1NoneTrue abab False True");
    check("{{ l[1:] }}{{ l[::-1] }}{{ u[1:5] }}{{ u[-1] }}{{ u | length }}",
          "[2, 3, 4][4, 3, 2, 1]rüße世7");
    check("{{ d }}{{ (1,) }}{{ \"it's\" | list | first }}{{ [\"it's\", '\\n'] }}",
          "{'b': 1, 'a': [True, None]}(1,)i[\"it's\", '\\n']");
    check("{{ d.a[0] }}{{ d['b'] }}{{ d.zz is defined }}{{ nothing }}{{ 'y' if no }}{{ no or 5 }}",
          "True1False5");
    check("{{ n is divisibleby 3 and n is not even }}{{ s is string }}{{ d is mapping }}",
          "TrueTrueTrue");
}

static void test_methods_and_filters(void **state)
{
    (void)state;
    check("{{ s.split(', ') | last | upper }} {{ ' a '.strip() }} {{ u.upper() }}",
          "WORLD a GRÜSSE 世");
    check("{{ messages | map(attribute='role') | join('/') }}", "user/assistant");
    check("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1");
    check("{{ d | tojson }} {{ {'k': u, 'e': '<&>'} | tojson(ensure_ascii=true) }}",
          "{\"b\": 1, \"a\": [true, null]} "
          "{\"k\": \"Gr\\u00fc\\u00dfe \\u4e16\", \"e\": \"<&>\"}");
    check("{{ d | tojson(indent=2) }}", "{\n  \"b\": 1,\n  \"a\": [\n    true,\n    null\n  ]\n}");
    check("{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}", "a=[True, None];b=1;");
    check("{{ '%05.1f|%s' % (f, 'x') }} {{ '{:>6}|{k!r}'.format(n, k='v') }}",
          "002.5|x      3|'v'");
    check("{{ strftime_now('%Y-%m-%d %H:%M') }}", "2025-01-01 12:00");
}

static void test_statements(void **state)
{
    (void)state;
    check("{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }}"
          "{{ ',' if not loop.last }}{% else %}none{% endfor %}",
          "1/3:2,2/3:3,3/3:4");
    check("{% for x in l %}{% if x == 2 %}{% continue %}{% elif x == 4 %}{% break %}{% endif %}"
          "{{ x }}{{ loop.previtem }}{% endfor %}",
          "132");
    check("{% set x = 1 %}{% for i in l %}{% set x = 9 %}{% endfor %}{{ x }}"
          "{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = i %}{% endfor %}{{ ns.x }}",
          "14");
    check("{% macro m(a, b='B') %}[{{ a }}{{ b }}{{ caller() if caller }}]{% endmacro %}"
          "{{ m(1) }}{{ m(b=2, a=0) }}{% call m(7) %}c{% endcall %}",
          "[1B][02][7Bc]");
    check("{% set t | upper %}ab{{ n }}{% endset %}{{ t }}{% filter lower %}XY{% endfilter %}",
          "AB3xy");
    check("{% generation %}a{% endgeneration %}{% with a = 1 %}{{ a }}{% endwith %}{{ a }}", "a1");
}

static void test_white_space(void **state)
{
    (void)state;
    check("  {% if true %}\n  x\n  {% endif %}\ny\n", "  x\ny");
    check("a \n {{- 1 -}} \n b {%- if true -%} \n c {%+ endif %}", "a1bc ");
    check("{# c #}\n{% raw %}{{ x }}{% endraw %}\r\nz\n\n", "{{ x }}z\n");
}

static void test_failures_name_the_line(void **state)
{
    (void)state;
    refuse("a\n{% if %}", ERR_FORMAT, "line 2");
    refuse("{{ raise_exception('no ' ~ n ~ '\\n') }}", ERR_FORMAT, "no 3?");
    refuse("{% for x in l %}", ERR_FORMAT, "endfor");
    refuse("{{ nothing.x }}", ERR_FORMAT, "'nothing' is undefined");
    refuse("{{ messages[0].text.x }}", ERR_FORMAT, "has no 'text'");
    refuse("{{ l.append(1) }}", ERR_FORMAT, "has no 'append'");
    refuse("{{ s | nosuch }}", ERR_UNSUPPORTED, "nosuch");
    refuse("{% include 'x' %}", ERR_UNSUPPORTED, "include");
    refuse("{% break %}", ERR_FORMAT, "loop");
    refuse("{{ 9223372036854775807 + 1 }}", ERR_UNSUPPORTED, "64 bits");
    refuse("{{ 1 // 0 }}", ERR_FORMAT, "zero");
    refuse("\xff", ERR_FORMAT, "UTF-8");
}

static void test_budgets(void **state)
{
    (void)state;
    refuse("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
           ERR_LIMIT, "steps");
    refuse("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ERR_LIMIT, "nested");
    refuse("{% set n = namespace(x=[]) %}{% for i in range(600) %}{% set n.x = [n.x] %}{% endfor %}"
           "{{ n.x }}",
           ERR_LIMIT, "nested");
    refuse("{{ 'abcdefgh' * 40000000 }}", ERR_LIMIT, "memory");
    refuse("{% set x = 'abcdefgh' * 1000000 %}{{ x }}{{ x }}{{ x }}{{ x }}{{ x }}", ERR_LIMIT,
           "output");
    char deep[4000] = "{{ ";
    for (int i = 0; i < 1200; i++) strcat(deep, i < 600 ? "[" : "]");
    strcat(deep, " }}");
    refuse(deep, ERR_LIMIT, "nested");
    struct template *t = NULL;
    struct err e;
    char *big = calloc(1, TEMPLATE_SOURCE_MAX + 1);
    assert_int_equal(template_open(&t, big, TEMPLATE_SOURCE_MAX + 1, &e), ERR_LIMIT);
    free(big);
    assert_null(t);
}

static void bad_json(const char *json, int code)
{
    struct buf out = BUF_INIT(1000);
    struct err e;
    assert_int_equal(render("x{{ y }}", json, &out, NULL, &e), code);
    assert_int_equal(out.len, 0);
    buf_free(&out);
}

static void test_json(void **state)
{
    (void)state;
    bad_json("", ERR_FORMAT);
    bad_json("{\"a\": 1, \"a\": 2}", ERR_FORMAT);
    bad_json("\"text\"", ERR_FORMAT);
    bad_json("{\"a\": 1", ERR_FORMAT);
    char deep[2 * TEMPLATE_JSON_DEPTH_MAX + 3] = "";
    for (int i = 0; i <= TEMPLATE_JSON_DEPTH_MAX; i++) strcat(deep, "[");
    for (int i = 0; i <= TEMPLATE_JSON_DEPTH_MAX; i++) strcat(deep, "]");
    bad_json(deep, ERR_LIMIT);
    deep[2 * TEMPLATE_JSON_DEPTH_MAX + 1] = 0; /* one less of each */
    struct buf out = BUF_INIT(1000);
    struct err e;
    assert_int_equal(render("{{ messages }}", deep + 1, &out, NULL, &e), 0);
    assert_string_equal(out.data, deep + 1);
    buf_free(&out);
    char *wide = malloc(2 * TEMPLATE_JSON_CONTAINERS_MAX + 8);
    size_t n = 0;
    for (wide[n++] = '['; n < 2 * TEMPLATE_JSON_CONTAINERS_MAX; n++) wide[n] = "]["[n % 2];
    wide[n] = 0;
    bad_json(wide, ERR_LIMIT);
    free(wide);
}

/* json's member counts, then the program's own, then the function. */
static void test_whose_variable(void **state)
{
    (void)state;
    struct template *t = NULL;
    struct buf out = BUF_INIT(100);
    struct err e;
    const char *source = "{{ a }}{{ b }}{{ range }}";
    struct template_input in = {.json = "{\"a\": \"json \"}",
                                .n_json = 14,
                                .own = "{\"a\": 1, \"b\": \"own \", \"range\": 2}",
                                .n_own = 33};
    assert_int_equal(template_open(&t, source, strlen(source), &e), 0);
    assert_int_equal(template_render(t, &in, &out, &e), 0);
    assert_string_equal(out.data, "json own 2");
    buf_free(&out);
    template_close(t);
}

/* want: a letter for each byte of the text, 'x' where it is foreign. */
static void mark(const char *source, const char *text, const char *want)
{
    struct buf out = BUF_INIT(1000), marks = BUF_INIT(1000);
    struct err e;
    if (render(source, variables, &out, &marks, &e)) fail_msg("%s", e.msg);
    assert_string_equal(out.data, text);
    assert_int_equal(marks.len, strlen(want));
    for (size_t i = 0; i < marks.len; i++) assert_int_equal(marks.data[i], want[i] == 'x');
    buf_free(&out);
    buf_free(&marks);
}

static void test_marks(void **state)
{
    (void)state;
    mark("<{{ messages[1].content }}>", "<Yes>", ".xxx.");
    mark("{{ '<' + messages[0]['content'] | trim + '>' }}", "<Hi>", ".xx.");
    mark("{{ s.split(', ')[0][1:3] ~ '|' }}", "el|", "xx.");
    mark("{{ s | upper | replace('LL', '--') }}", "HE--O, WORLD", "xx..xxxxxxxx");
    mark("{{ ['a', messages[1].role] | join('b') }}", "abassistant", "..xxxxxxxxx");
    mark("{{ d | tojson }}", "{\"b\": 1, \"a\": [true, null]}", "..x.......x................");
    mark("{% set v %}({{ u }}){% endset %}{{ v[:4] }}{{ u[-1] }}", "(Gr\u00fc\u4e16", ".xxxxxxx");
}

/* The JSON library calls some of its own failures a broken text, so the code is not looked at. */
static void test_out_of_memory(void **state)
{
    (void)state;
    const char *source =
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}{{ d | tojson }}";
    for (long n = 1; OOM_WORKS; n++) {
        struct buf out = BUF_INIT(1000), marks = BUF_INIT(1000);
        struct err e;
        long alive = oom_alive;
        oom_after(n);
        int rc = render(source, variables, &out, &marks, &e);
        bool hit = oom_hit();
        assert_int_equal(rc ? out.len + marks.len : 0, 0);
        buf_free(&out);
        buf_free(&marks);
        assert_int_equal(oom_alive, alive);
        if (!hit) {
            assert_int_equal(rc, 0);
            break;
        }
    }
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_methods_and_filters),
        cmocka_unit_test(test_statements),
        cmocka_unit_test(test_white_space),
        cmocka_unit_test(test_failures_name_the_line),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_whose_variable),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
