/* Calls of tools in text that comes in pieces of every size. */
#include "toolcall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static bool known(void *arg, const char *name)
{
    (void)arg;
    return strcmp(name, "add") == 0 || strcmp(name, "now") == 0;
}

/* text, said in pieces of `step` bytes: "plain text|name(arguments)|name(arguments)" */
static void says(const char *text, const char *want)
{
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        struct toolcall t = TOOLCALL_INIT;
        struct buf out = BUF_INIT(10000);
        struct err e;
        size_t n = strlen(text);
        for (size_t i = 0; i < n; i += step)
            toolcall_put(&t, text + i, n - i < step ? n - i : step, &out);
        assert_int_equal(toolcall_end(&t, known, NULL, &out, &e), 0);
        for (int i = 0; i < t.n_calls; i++)
            buf_printf(&out, "|%s(%s)", t.calls[i].name, t.calls[i].arguments);
        assert_string_equal(out.data ? out.data : "", want);
        toolcall_free(&t);
        buf_free(&out);
    }
}

static void calls(void **state)
{
    (void)state;
    says("<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>",
         "|add({\"a\":1})");
    says("Let me see. "
         "<tool_call>{\"name\":\"add\",\"arguments\":{}}</"
         "tool_call>\n<tool_call>\n{\"name\":\"now\"}\n</tool_call>",
         "Let me see. |add({})|now({})");
    says("[TOOL_CALLS][{\"name\":\"add\",\"arguments\":{\"a\":\"]\"}},{\"name\":\"now\","
         "\"arguments\":{}}]",
         "|add({\"a\":\"]\"})|now({})");
    says("```json\n{\"name\": \"add\", \"arguments\": {}}\n```", "|add({})");
    says(" {\"name\": \"now\", \"parameters\": {\"x\": [1, 2]}}", "|now({\"x\":[1,2]})");
}

static void text(void **state)
{
    (void)state;
    says("", "");
    says("  ", "  ");
    says("```js", "```js");
    says("```json\n{\"a\": 1}\n```", "```json\n{\"a\": 1}\n```");
    says("```c\nint x;\n```", "```c\nint x;\n```");
    says("Just words < and <tool and [TOOL.", "Just words < and <tool and [TOOL.");
    says("{\"a\": 1}", "{\"a\": 1}");
    says("<tool_call>{\"name\":\"unknown\",\"arguments\":{}}</tool_call>",
         "<tool_call>{\"name\":\"unknown\",\"arguments\":{}}</tool_call>");
    says("<tool_call>{\"name\":\"add\",\"arguments\":",
         "<tool_call>{\"name\":\"add\",\"arguments\":");
    says("<tool_call>{\"name\":\"add\",\"arguments\":[]}</tool_call>",
         "<tool_call>{\"name\":\"add\",\"arguments\":[]}</tool_call>");
    says("<tool_call>{\"name\":\"add\"}</tool_call> and then",
         "<tool_call>{\"name\":\"add\"}</tool_call> and then");
    says("<tool_call>", "<tool_call>");
}

static void deep_nesting(void **state)
{
    struct toolcall t = TOOLCALL_INIT;
    struct buf out = BUF_INIT(1 << 21);
    struct err e;
    (void)state;
    toolcall_put(&t, "<tool_call>", 11, &out);
    for (int i = 0; i < 500000; i++) toolcall_put(&t, "[", 1, &out);
    assert_int_equal(toolcall_end(&t, known, NULL, &out, &e), 0);
    assert_int_equal(out.len, 500011);
    toolcall_free(&t);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls),
        cmocka_unit_test(text),
        cmocka_unit_test(deep_nesting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
