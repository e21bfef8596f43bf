/* BERT's WordPiece with a vocabulary small enough to follow by hand. What a text must give was
 * compared with the `tokenizers` package on a real vocabulary; the cases here are those rules. */
#include "tok.h"

#include "../support/tok_vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct tok_vocab v;

static struct tok *opened(void)
{
    struct err e = {0};
    struct tok *t = NULL;
    if (tok_vocab_open(&v, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static struct tok *open_words(int lower, int strip)
{
    tok_vocab_wordpiece(&v);
    v.lower = lower, v.strip = strip;
    return opened();
}

static void check_n(const struct tok *t, const char *text, size_t n, unsigned flags,
                    const char *expected)
{
    struct tok_ids ids = {0};
    struct buf seen = BUF_INIT(1 << 20);
    struct err e;
    assert_int_equal(tok_encode(t, text, n, flags, &ids, &e), 0);
    for (size_t i = 0; i < ids.len; i++) {
        if (i) buf_putc(&seen, ' ');
        buf_put(&seen, v.text[ids.data[i]].p, v.text[ids.data[i]].n);
    }
    assert_string_equal(seen.data ? seen.data : "", expected);
    buf_free(&seen);
    tok_ids_free(&ids);
}

static void check(const struct tok *t, const char *text, const char *expected)
{
    check_n(t, text, strlen(text), 0, expected);
}

static void longest_piece_first(void **state)
{
    struct tok *t = open_words(-1, -1);
    (void)state;
    check(t, "", "");
    check(t, " \t\r\n", "");
    check(t, "hello", "▁hello");
    check(t, "unaffable", "▁un aff able");
    check(t, "hellohello", "[UNK]"); /* a word is covered whole or not at all */
    check(t, "hello unhello a", "▁hello [UNK] ▁a");
    check(t, "able", "[UNK]"); /* a piece that only continues words */
    check(t, "xxxx", "▁x xx x");
    check(t, "hello,a..", "▁hello ▁, ▁a ▁. ▁.");
    check(t, "$a`", "▁$ ▁a ▁`"); /* ASCII symbols are marks */
    check(t, "a字字a", "▁a ▁字 ▁字 ▁a");
    check(t, "▁", "▁▁"); /* a character like any other, here with a token */
    check(t, "x▁a", "[UNK]");
    tok_close(t);
}

static void letters_are_lowered_and_accents_dropped(void **state)
{
    struct tok *t = open_words(-1, -1); /* no capital in the vocabulary */
    (void)state;
    check(t, "HELLO École e\u0301cole", "▁hello ▁ecole ▁ecole");
    check(t, "İ", "▁i");
    check(t, "각", "▁ᄀ ᅡ ᆨ"); /* decomposed */
    check(t, "ΣΣ", "▁σ σ");
    check(t, "\u1fef", "▁`"); /* equal to an ASCII mark */
    check(t, "ẞ", "▁ß");
    tok_close(t);
    t = open_words(0, -1);
    check(t, "HELLO hello", "[UNK] ▁hello");
    check(t, "école 각", "▁école ▁각");
    tok_close(t);
    t = open_words(1, 0);
    check(t, "École HELLO İ", "▁école ▁hello ▁i \u0307");
    tok_close(t);
    t = open_words(0, 1);
    check(t, "école École", "▁ecole [UNK]");
    tok_close(t);
    tok_vocab_wordpiece(&v);
    tok_vocab_add(&v, "▁Berlin", NORMAL, 0), v.n_type++;
    t = opened(); /* a capital: cased */
    check(t, "Berlin école", "▁Berlin ▁école");
    tok_close(t);
}

static void controls_and_ill_formed_bytes_vanish(void **state)
{
    struct tok *t = open_words(-1, -1);
    (void)state;
    check_n(t, "he\0llo", 6, 0, "▁hello");
    check(t, "he\vl\x7f\u200blo\xff", "▁hello");
    check(t, "he\u00adllo\ue000\ufffd", "▁hello");
    check(t, "hello\u2028a\u3000a\u00a0a", "▁hello ▁a ▁a ▁a");
    check(t, "a\u0378", "[UNK]"); /* unassigned characters stay */
    tok_close(t);
}

static void long_words_are_unknown(void **state)
{
    struct tok *t = open_words(-1, -1);
    char text[402], *p = text;
    (void)state;
    memset(text, 'x', sizeof text);
    struct tok_ids ids = {0};
    struct err e;
    assert_int_equal(tok_encode(t, text, 100, 0, &ids, &e), 0);
    assert_int_equal(ids.len, 51); /* x, 49 xx, x */
    tok_ids_free(&ids);
    check_n(t, text, 101, 0, "[UNK]");
    for (int i = 0; i < 100; i++) p += sprintf(p, "😀");
    check_n(t, text, 400, 0, "[UNK]");
    tok_close(t);
}

static void control_tokens(void **state)
{
    struct tok *t = open_words(-1, -1);
    (void)state;
    check_n(t, "a", 1, TOK_ADD_AUTO, "[CLS] ▁a [SEP]");
    check_n(t, "a[SEP]a", 7, TOK_SPECIAL, "▁a [SEP] ▁a");
    check(t, "[CLS]", "▁[ ▁cls ▁]");
    check(t, "a<tool>a", "▁a ▁<tool> ▁a"); /* found by its text without the block */
    assert_int_equal(tok_bos(t), 2);
    assert_int_equal(tok_eos(t), 3);
    assert_true(tok_is_control(t, 2) && tok_is_control(t, 4));
    tok_close(t);
    tok_vocab_wordpiece(&v);
    v.type[tok_vocab_add(&v, "▁zz", CONTROL, 0)] = CONTROL, v.n_type++;
    t = opened();
    check(t, "zz", "[UNK]"); /* no text makes a control token */
    tok_close(t);
    tok_vocab_wordpiece(&v);
    v.text[1].p = "[OOV]";
    t = opened();
    check(t, "zz a", "▁a"); /* without an unknown token there is nothing to put */
    tok_close(t);
}

static void words_come_back(void **state)
{
    struct tok *t = open_words(-1, -1);
    struct tok_ids ids = {0};
    struct buf out = BUF_INIT(1 << 20);
    struct err e;
    (void)state;
    const char text[] = "Hello,  unaffable  字a";
    assert_int_equal(tok_encode(t, text, strlen(text), TOK_ADD_AUTO, &ids, &e), 0);
    assert_int_equal(tok_decode(t, ids.data, ids.len, false, &out, &e), 0);
    assert_string_equal(out.data, "hello , unaffable 字 a");
    buf_free(&out);
    tok_ids_free(&ids);
    tok_close(t);
}

/* n * n steps would not come back in the test's time. */
static void megabytes_of_one_thing(void **state)
{
    static const char *const things[] = {"x", "x ", "字", "\u0301", "\xff", "[UNK]", ",", "가"};
    enum { BYTES = 1 << 22 };
    struct tok *t = open_words(-1, -1);
    char *text = malloc(BYTES);
    (void)state;
    for (size_t k = 0; k < sizeof things / sizeof *things; k++) {
        struct tok_ids ids = {0};
        struct err e;
        size_t len = strlen(things[k]);
        for (size_t i = 0; i < BYTES; i++) text[i] = things[k][i % len];
        assert_int_equal(tok_encode(t, text, BYTES, TOK_ADD_AUTO, &ids, &e), 0);
        tok_ids_free(&ids);
    }
    free(text);
    tok_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(longest_piece_first),
        cmocka_unit_test(letters_are_lowered_and_accents_dropped),
        cmocka_unit_test(controls_and_ill_formed_bytes_vanish),
        cmocka_unit_test(long_words_are_unknown),
        cmocka_unit_test(control_tokens),
        cmocka_unit_test(words_come_back),
        cmocka_unit_test(megabytes_of_one_thing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
