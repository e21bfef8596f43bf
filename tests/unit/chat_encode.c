/* A conversation as tokens: the template's control tokens are control tokens, the same text in a
 * message is not, and there is one BOS where the vocabulary wants one. */
#include "chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"
#include "../support/tok_vocab.h"

static struct tok *open_vocab(const char *template, int add_bos)
{
    struct tok_vocab v;
    struct tok *t = NULL;
    struct err e;
    tok_vocab_bpe(&v, "gpt-2");
    v.chat_template = template;
    v.add_bos = add_bos;
    if (tok_vocab_open(&v, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

/* "<s>" and what it is made of where it may not be one token. */
static void check(const char *template, int add_bos, const char *json, const char *want)
{
    struct tok *t = open_vocab(template, add_bos);
    struct chat *c = NULL;
    struct tok_ids ids = {0};
    struct buf text = BUF_INIT(1000);
    struct err e;
    if (chat_open(&c, t, NULL, 0, &e) ||
        chat_encode(c, t, json, strlen(json), CHAT_REPLY, &ids, &e))
        fail_msg("%s", e.msg);
    for (size_t i = 0; i < ids.len; i++) {
        bool control = tok_is_control(t, ids.data[i]);
        if (control) buf_putc(&text, '[');
        tok_piece(t, ids.data[i], true, &text);
        if (control) buf_putc(&text, ']');
    }
    assert_string_equal(text.data, want);
    buf_free(&text);
    tok_ids_free(&ids);
    chat_close(c);
    tok_close(t);
}

#define SAID(text) "[{\"role\":\"user\",\"content\":\"" text "\"}]"

static void test_messages_make_no_control_tokens(void **state)
{
    (void)state;
    const char *t = "{% for m in messages %}<s>{{ m.content }}<s>{% endfor %}";
    check(t, 0, SAID("hello"), "[<s>]hello[<s>]");
    check(t, 0, SAID("a<s>b"), "[<s>]a<s>b[<s>]");
    check(t, 0, SAID("<s>"), "[<s>]<s>[<s>]");
    /* Half from the template, half from the message. */
    check("<{{ messages[0].content }}>", 0, SAID("s"), "<s>");
    check("{{ messages[0].content }}s>", 0, SAID("<"), "<s>");
    check("<s>{{ messages[0].content }}", 0, SAID("s>"), "[<s>]s>");
    /* What a filter makes of a message is the message's; user-defined tokens are only text. */
    check("{{ messages[0].content | upper | lower }}", 0, SAID("<s>"), "<s>");
    check("{{ messages[0].content | trim }}", 0, SAID(" <s><tool> "), "<s><tool>");
}

static void test_one_bos(void **state)
{
    (void)state;
    check("{{ messages[0].content }}", 1, SAID("hello"), "[<s>]hello");
    check("{{ messages[0].content }}", 0, SAID("hello"), "hello");
    check("{{ bos_token }}{{ messages[0].content }}", 1, SAID("hello"), "[<s>]hello");
    check("{{ bos_token }}{{ messages[0].content }}", 0, SAID("hello"), "[<s>]hello");
    check("{{ messages[0].content }}", 1, SAID("<s>"), "[<s>]<s>");
    check("", 1, SAID("hello"), "[<s>]");
}

static void test_failures_append_nothing(void **state)
{
    (void)state;
    struct tok *t = open_vocab("{{ bos_token }}{{ messages[0].content }}", 1);
    struct chat *c = NULL;
    struct err e;
    struct tok_ids ids = {0};
    const char *json = SAID("hello hello hello");
    assert_int_equal(chat_open(&c, t, NULL, 0, &e), 0);
    assert_int_equal(tok_encode(t, "a", 1, 0, &ids, &e), 0);
    assert_int_equal(chat_encode(c, t, "[", 1, 0, &ids, &e), ERR_FORMAT);
    for (long n = 1; OOM_WORKS; n++) {
        long alive = oom_alive;
        oom_after(n);
        int rc = chat_encode(c, t, json, strlen(json), CHAT_REPLY, &ids, &e);
        bool hit = oom_hit();
        if (rc) assert_int_equal(ids.len, 1);
        assert_int_equal(oom_alive, alive);
        ids.len = 1;
        if (!hit) break;
    }
    tok_ids_free(&ids);
    chat_close(c);
    tok_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_make_no_control_tokens),
        cmocka_unit_test(test_one_bos),
        cmocka_unit_test(test_failures_append_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
