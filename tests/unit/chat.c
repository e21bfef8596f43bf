/* The variables a chat template gets beside the conversation, and what stands in for a template. */
#include "chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"
#include "../support/tok_vocab.h"

static struct tok *open_vocab(const char *template, const char *extra)
{
    struct tok_vocab v;
    struct tok *t = NULL;
    struct err e;
    tok_vocab_bpe(&v, "gpt-2");
    v.chat_template = template;
    if (extra) tok_vocab_add(&v, extra, CONTROL, 0), v.n_type++;
    if (tok_vocab_open(&v, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static void check(const struct tok *t, const char *source, const char *json, unsigned flags,
                  const char *want)
{
    struct chat *c = NULL;
    struct buf out = BUF_INIT(1000);
    struct err e;
    if (chat_open(&c, t, source, source ? strlen(source) : 0, &e) ||
        chat_render(c, json, strlen(json), flags, &out, NULL, &e))
        fail_msg("%s", e.msg);
    assert_string_equal(out.len ? out.data : "", want);
    buf_free(&out);
    chat_close(c);
}

#define TALK                                                                             \
    "[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":null}," \
    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"                \
    "{\"type\":\"text\",\"text\":\"b\"}]}]"

static void test_variables(void **state)
{
    (void)state;
    struct tok *t = open_vocab("{{ bos_token }}|{{ eos_token }}|{{ add_generation_prompt }}", NULL);
    check(t, NULL, "[]", CHAT_REPLY, "<s>|<|im_end|>|True");
    check(t, NULL, "[]", 0, "<s>|<|im_end|>|False");
    check(t, NULL, "{\"add_generation_prompt\": 7, \"bos_token\": \"B\"}", 0, "B|<|im_end|>|7");
    check(t, "{{ messages | length }}{{ bos_token }}", "[{}]", 0, "1<s>");
    check(t, "{{ messages | length }}{{ tools }}{{ x }}",
          "{\"messages\": [1, 2], \"tools\": null, \"x\": 3}", 0, "2None3");
    check(NULL, "{{ bos_token }}{{ messages }}", "[]", 0, "[]");
    check(t, "", "[]", 0, "");
    tok_close(t);
}

static void test_no_template(void **state)
{
    (void)state;
    struct tok *t = open_vocab(NULL, "<|im_start|>");
    check(t, NULL, TALK, CHAT_REPLY,
          "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
          "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n");
    tok_close(t);
    t = open_vocab(NULL, NULL);
    check(t, NULL, TALK, CHAT_REPLY, "<s>user: Hi\nassistant: \nuser: ab\nassistant:");
    check(t, NULL, TALK, 0, "<s>user: Hi\nassistant: \nuser: ab\n");
    tok_close(t);
}

static void test_a_broken_template_fails_at_open(void **state)
{
    (void)state;
    struct tok *t = open_vocab("{% if %}", NULL);
    struct chat *c = NULL;
    struct err e;
    assert_int_equal(chat_open(&c, t, NULL, 0, &e), ERR_FORMAT);
    assert_null(c);
    tok_close(t);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct tok *t = open_vocab("{{ bos_token }}", NULL);
    for (long n = 1; OOM_WORKS; n++) {
        struct chat *c = NULL;
        struct err e;
        long alive = oom_alive;
        oom_after(n);
        int rc = chat_open(&c, t, NULL, 0, &e);
        bool hit = oom_hit();
        if (hit && rc) assert_null(c);
        chat_close(c);
        assert_int_equal(oom_alive, alive);
        if (!hit) break;
    }
    tok_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_no_template),
        cmocka_unit_test(test_a_broken_template_fails_at_open),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
