/* Tokens that must come next, and rows of tokens that may: against the bytes that must come, against masks. On
 * the tiny vocabulary of tok_vocab.h. */
#include "grammar.h"

#include "../support/tok_vocab.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct tok_vocab v;
static struct tok *tok;
static struct grammar_tokens *tokens;

static int setup(void **state)
{
    struct err e = {0};
    (void)state;
    tok_vocab_bpe(&v, "gpt-2"); /* ids below 256 are bytes */
    if (tok_vocab_open(&v, &tok, &e) || grammar_tokens_open(&tokens, tok, &e))
        fail_msg("%s", e.msg);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    grammar_tokens_close(tokens);
    tok_close(tok);
    return 0;
}

static struct grammar *opened(const char *regex)
{
    struct grammar *g = NULL;
    struct err e = {0};
    if (grammar_regex(&g, regex, strlen(regex), &e)) fail_msg("%s: %s", regex, e.msg);
    return g;
}

static struct grammar_match *match(const struct grammar *g)
{
    struct grammar_match *m = NULL;
    struct err e = {0};
    if (grammar_match_open(&m, g, tokens, false, &e)) fail_msg("%s", e.msg);
    return m;
}

static bool put(struct grammar_match *m, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!grammar_match_accept(m, (unsigned char)s[i])) return false;
    return true;
}

static bool bit(const uint64_t *bits, int32_t id)
{
    return bits[id >> 6] >> (id & 63) & 1;
}

/* The bytes of a token. */
static struct buf piece_of(int32_t id)
{
    struct buf b = BUF_INIT(TOK_PIECE_MAX);
    assert_true(tok_piece(tok, id, false, &b));
    return b;
}

/* In place of a token that is jumped none may stand that holds all the rest of what is forced, and more. */
static void assert_no_choice(struct grammar_match *m, const char *rest, size_t n)
{
    uint64_t bits[TOK_VOCAB_MAX / 64 + 1];
    grammar_match_mask(m, bits);
    for (int32_t id = 0; id < tok_size(tok); id++) {
        if (!bit(bits, id)) continue;
        struct buf b = piece_of(id);
        assert_false(b.len > n && memcmp(b.data, rest, n) == 0);
        buf_free(&b);
    }
}

static int check_jump(struct grammar_match *m)
{
    char forced[200];
    int32_t ids[40], again[40];
    size_t n = grammar_match_forced(m, forced, sizeof forced), at = 0;
    int k = grammar_match_jump(m, ids, 40);
    assert_int_equal(grammar_match_jump(m, again, 40), k); /* it stays where it is */
    assert_memory_equal(again, ids, (size_t)k * sizeof *ids);
    assert_int_equal(grammar_match_jump(m, again, 1), k > 0);
    assert_int_equal(grammar_match_allows(m, ids, k), k);
    for (int i = 0; i < k; i++) {
        struct buf b = piece_of(ids[i]);
        assert_true(b.len && b.len <= n - at);
        assert_memory_equal(b.data, forced + at, b.len);
        assert_no_choice(m, forced + at, n - at);
        assert_true(grammar_match_accept(m, ids[i]));
        at += b.len;
        buf_free(&b);
    }
    return k;
}

static void forced_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *regex, *before, *jumped; /* before: byte by byte; jumped: tokens, by "|" */
    } list[] = {
        {"xhello", "x", "hello"},
        {"x hello12", "x", "Ġhello|12"},
        {"xhello(a|b)", "x", "hello"},
        {"xhell(o|p)", "x", ""},  /* "hello" is as good a token as "hell" */
        {"x hell(o|p)", "x", ""}, /* and "Ġhello" as "Ġ" */
        {"x hell(a|p)", "x", "Ġ|hell"},
        {"x12hell(o|p)", "x", "12"},
        {"hello", "h", "e|ll|o"}, /* what was chosen stays, though it is no way to write it */
        {"hello hello", "", "hello|Ġhello"},
        {"xaaaa(a{4}|b)", "x", ""},
        {"xaaaa(ba{3}|c)", "x", "aaaa"},
        {"x(é|è)", "x", ""}, /* half a character is none */
        {"xé12", "x", "Ã|©|12"},
        {"x<tool>y", "x", ""}, /* a special token's text: left to the model */
        {"[ab]c", "", ""},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct grammar *g = opened(list[i].regex);
        struct grammar_match *m = match(g);
        int32_t ids[40];
        char text[200] = "";
        assert_true(put(m, list[i].before, strlen(list[i].before)));
        int k = grammar_match_jump(m, ids, 40);
        for (int j = 0; j < k; j++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.*s", j ? "|" : "",
                     (int)v.text[ids[j]].n, v.text[ids[j]].p);
        if (strcmp(text, list[i].jumped) != 0) fail_msg("%s: %s", list[i].regex, text);
        assert_int_equal(check_jump(m), k);
        grammar_match_close(m);
        grammar_close(g);
    }
}

/* Random answers, with jumps wherever there is one; longer than what is looked ahead at once, too. */
static void jumps_on_random_ways(void **state)
{
    (void)state;
    static const char *const list[] = {
        "(hello|hell|he|1212|  )*hello( hello aaaaaaaa12hello12(hello)? |<s>12)+hello",
        "([ab]{0,3}hellohello (12|aa)hellhello\n\n){2,5}",
        "(x(hello hello hello hello hello hello hello hello hello hello hello hello hello hello "
        "hello hello hello hello hello hello hello hello hello hello hello|12))+"};
    struct rng r;
    long jumped = 0;
    rng_init(&r, 3);
    for (int i = 0; i < 300; i++) {
        struct grammar *g = opened(list[i % 3]);
        struct grammar_match *m = match(g);
        uint64_t bits[TOK_VOCAB_MAX / 64 + 1];
        for (int steps = 0; steps < 300 && !grammar_match_must_end(m); steps++) {
            jumped += check_jump(m);
            grammar_match_mask(m, bits);
            int32_t id = (int32_t)rng_below(&r, (uint64_t)tok_size(tok));
            while (!bit(bits, id)) id = (id + 1) % tok_size(tok);
            if (tok_is_end(tok, id)) break;
            assert_int_equal(grammar_match_allows(m, &id, 1), 1);
            assert_true(grammar_match_accept(m, id));
        }
        grammar_match_close(m);
        grammar_close(g);
    }
    assert_true(jumped > 1000);
}

static void rows_of_tokens_are_looked_at(void **state)
{
    (void)state;
    struct grammar *g = opened("hello(12|aa)+x?");
    struct grammar_match *m = match(g);
    int32_t hello = tok_find(tok, "hello"), aa = tok_find(tok, "aa"), twelve = tok_find(tok, "12");
    int32_t rows[] = {hello, aa, twelve, 'x', 'x'}, ends[] = {hello, aa, tok_eos(tok)};
    assert_int_equal(grammar_match_allows(m, rows, 5), 4);
    assert_int_equal(grammar_match_allows(m, ends, 3), 2);
    assert_int_equal(grammar_match_allows(m, rows + 1, 4), 0);
    assert_int_equal(grammar_match_allows(m, (int32_t[]){-1}, 1), 0);
    assert_true(grammar_match_accept(m, hello));
    assert_int_equal(grammar_match_allows(m, rows + 1, 3), 3);
    grammar_match_close(m);
    grammar_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forced_tokens),
        cmocka_unit_test(jumps_on_random_ways),
        cmocka_unit_test(rows_of_tokens_are_looked_at),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
