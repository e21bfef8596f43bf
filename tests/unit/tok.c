/* Encoding and decoding with vocabularies small enough to follow by hand, and what a hostile
 * vocabulary or text may try. */
#include "tok.h"

#include "../support/oom.h"
#include "../support/tok_vocab.h"
#include "rng.h"

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

static struct tok *open_bpe(const char *pre)
{
    tok_vocab_bpe(&v, pre);
    return opened();
}

static struct tok *open_spm(void)
{
    tok_vocab_spm(&v);
    return opened();
}

/* The texts of the ids as the vocabulary has them, separated by spaces. */
static void check(const struct tok *t, const char *text, unsigned flags, const char *expected)
{
    struct tok_ids ids = {0};
    struct buf seen = BUF_INIT(1 << 20);
    struct err e;
    assert_int_equal(tok_encode(t, text, strlen(text), flags, &ids, &e), 0);
    for (size_t i = 0; i < ids.len; i++) {
        if (i) buf_putc(&seen, ' ');
        buf_put(&seen, v.text[ids.data[i]].p, v.text[ids.data[i]].n);
    }
    assert_string_equal(seen.data ? seen.data : "", expected);
    buf_free(&seen);
    tok_ids_free(&ids);
}

static void bpe_merges_by_rank_then_leftmost(void **state)
{
    (void)state;
    struct tok *t = open_bpe("gpt-2");
    check(t, "", 0, "");
    check(t, "hello", 0, "hello");
    check(t, " hello hell", 0, "Ġhello Ġ hell");
    check(t, "aaa", 0, "aa a");
    check(t, "aaaaaaaaaaaaa", 0, "aaaaaaaa aaaa a");
    check(t, "    x", 0, "ĠĠ Ġ Ġ x");
    check(t, "1212", 0, "12 12");
    check(t, "😀", 0, "ðŁ ĺ Ģ");
    check(t, "world", 0, "w o r l d"); /* a token, but no merges lead to it */
    tok_close(t);
    t = open_bpe("smollm");
    check(t, "1212", 0, "1 2 1 2");
    tok_close(t);
    t = open_bpe("llama-bpe");
    check(t, "world", 0, "world");
    check(t, "worlds", 0, "w o r l d s");
    tok_close(t);
}

static void special_tokens(void **state)
{
    (void)state;
    struct tok *t = open_bpe("gpt-2");
    check(t, "a<|im_end|>b", TOK_SPECIAL, "a <|im_end|> b");
    check(t, "a<|im_end|>b", 0, "a < | i m _ e n d | > b");
    check(t, "<s>", TOK_SPECIAL, "<s>");
    check(t, "<s>", 0, "< s >"); /* though a merge of the file makes it */
    check(t, "a<tool>b", 0, "a <tool> b");
    check(t, "<tool>>", 0, "<tool>>"); /* the longest */
    check(t, "<tool<tool>", 0, "< t o o l <tool>");
    check(t, "ü ü", 0, "ü ü");
    check(t, "[UNUSED]", TOK_SPECIAL, "[ U N U S E D ]");
    assert_true(tok_is_control(t, tok_find(t, "<s>")));
    assert_false(tok_is_control(t, tok_find(t, "<tool>")));
    assert_true(tok_is_control(t, tok_find(t, "<|im_end|>"))); /* by its text */
    assert_true(tok_is_end(t, tok_find(t, "<|im_end|>")));
    assert_false(tok_is_end(t, tok_find(t, "<s>")));
    assert_false(tok_is_end(t, TOK_NONE) || tok_is_end(t, tok_size(t)));
    assert_int_equal(tok_find(t, "<nothing>"), TOK_NONE);
    tok_close(t);
}

static void ends_of_a_text(void **state)
{
    (void)state;
    struct tok *t = open_bpe("gpt-2");
    assert_false(tok_add_bos(t));
    check(t, "a", TOK_ADD_AUTO, "a");
    tok_close(t);
    t = open_bpe("llama-bpe"); /* adds where the file is silent */
    check(t, "a", TOK_ADD_AUTO, "<s> a");
    check(t, "a", TOK_SPECIAL, "a");
    tok_close(t);
    tok_vocab_bpe(&v, "llama-bpe");
    v.add_bos = 0, v.add_eos = 1;
    t = opened();
    assert_true(!tok_add_bos(t) && tok_add_eos(t));
    check(t, "a", TOK_ADD_AUTO, "a <|im_end|>");
    tok_close(t);
    tok_vocab_bpe(&v, "llama-bpe");
    v.bos = v.eos = UINT32_MAX; /* as some writers spell "none" */
    t = opened();
    assert_int_equal(tok_bos(t), TOK_NONE);
    assert_int_equal(tok_eos(t), TOK_NONE);
    check(t, "a", TOK_ADD_AUTO, "a");
    tok_close(t);
    tok_vocab_spm(&v);
    v.bos = v.eos = TOK_VOCAB_NO_ID; /* SentencePiece's places */
    t = opened();
    assert_int_equal(tok_bos(t), 1);
    assert_int_equal(tok_eos(t), 2);
    check(t, "a", TOK_ADD_AUTO, "<s> ▁ a");
    tok_close(t);
}

static void spm_merges_by_score(void **state)
{
    (void)state;
    struct tok *t = open_spm();
    check(t, "hello", 0, "▁ he l lo"); /* lo and he before hell */
    check(t, "aaaaa", 0, "▁ aaaa a");
    check(t, "aab", 0, "▁ a ab");
    check(t, "😀😀é", 0, "▁ 😀😀 <0xC3> <0xA9>");
    check(t, "<0x41><s>", 0, "▁ <0x3C> <0x30> <0x78> <0x34> <0x31> <0x3E> <0x3C> <0x73> <0x3E>");
    check(t, "▁a", 0, "▁ <0xE2> <0x96> <0x81> a"); /* not a space */
    check(t, "a<tool>a", 0, "▁ a <tool> ▁ a");
    check(t, "a</s>a", TOK_SPECIAL, "▁ a </s> ▁ a");
    check(t, "    a", 0, "     ▁ a"); /* four spaces are a token of their own */
    check(t, " a", 0, "▁▁ a");
    tok_close(t);
    tok_vocab_spm(&v);
    v.add_space = 0;
    t = opened();
    check(t, "aa", 0, "aa");
    check(t, "é", 0, "<0xC3> <0xA9>");
    tok_close(t);
    tok_vocab_spm(&v);
    for (int b = 0; b < 256; b++) v.type[3 + b] = UNUSED; /* no bytes: the unknown token */
    t = opened();
    check(t, "aé", 0, "▁ a <unk> <unk>");
    tok_close(t);
}

static void phi3_swallows_space(void **state)
{
    (void)state;
    tok_vocab_spm(&v);
    v.name = "My Phi-3 Mini";
    struct tok *t = opened();
    check(t, "<tool> \n a", TOK_SPECIAL, "<tool> ▁ a");
    check(t, "<s> a", TOK_SPECIAL, "<s> ▁▁ a");
    check(t, "<tool> a", 0, "<tool> ▁▁ a"); /* without flags every byte comes back */
    tok_close(t);
}

static void decodes(const struct tok *t, const char *ids_text, bool special, const char *expected)
{
    struct tok_ids ids = {0};
    struct buf out = BUF_INIT(1 << 20);
    struct err e;
    assert_int_equal(tok_encode(t, ids_text, strlen(ids_text), TOK_SPECIAL, &ids, &e), 0);
    assert_int_equal(tok_decode(t, ids.data, ids.len, special, &out, &e), 0);
    assert_string_equal(out.data, expected);
    buf_free(&out);
    tok_ids_free(&ids);
}

static void decoding(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(1 << 20);
    struct err e;
    struct tok *t = open_bpe("gpt-2");
    decodes(t, " hello<|im_end|><tool>ü ü", true, " hello<|im_end|><tool>ü ü");
    decodes(t, " hello<|im_end|><tool>ü ü", false, " hello<tool>ü ü");
    int32_t bad[] = {0, tok_size(t)};
    assert_int_equal(tok_decode(t, bad, 2, true, &out, &e), ERR_FORMAT);
    assert_non_null(strstr(e.msg, "277 is not in 0..276"));
    bad[1] = -1;
    assert_int_equal(tok_decode(t, bad, 2, true, &out, &e), ERR_FORMAT);
    assert_int_equal(out.len, 0);
    assert_true(tok_piece(t, tok_find(t, "Ġhello"), false, &out));
    assert_true(tok_piece(t, tok_find(t, "<s>"), false, &out));
    assert_true(tok_piece(t, -1, true, &out));
    assert_string_equal(out.data, " hello");
    tok_close(t);
    t = open_spm();
    decodes(t, "<s>hello</s>a a", true, "<s>hello</s>a a");
    decodes(t, "<s> hello</s>a", false, " helloa");
    tok_close(t);
    buf_free(&out);
}

/* What a reader that never sees half a character should have seen: the bytes, with U+FFFD for each
 * maximal ill-formed part. Written apart from the code under test, after table 3-7 of the standard. */
static void lossy(const unsigned char *p, size_t n, struct buf *out)
{
    static const unsigned char row[][4] = {{0xc2, 0xdf, 0x80, 0xbf}, {0xe0, 0xe0, 0xa0, 0xbf},
                                           {0xe1, 0xec, 0x80, 0xbf}, {0xed, 0xed, 0x80, 0x9f},
                                           {0xee, 0xef, 0x80, 0xbf}, {0xf0, 0xf0, 0x90, 0xbf},
                                           {0xf1, 0xf3, 0x80, 0xbf}, {0xf4, 0xf4, 0x80, 0x8f}};
    for (size_t i = 0, k; i < n; i += k) {
        size_t whole = p[i] < 0x80 ? 1 : 0;
        k = 1;
        for (size_t r = 0; r < 8; r++) {
            if (p[i] < row[r][0] || p[i] > row[r][1]) continue;
            whole = p[i] < 0xe0 ? 2 : p[i] < 0xf0 ? 3 : 4;
            if (i + 1 < n && p[i + 1] >= row[r][2] && p[i + 1] <= row[r][3])
                for (k = 2; k < whole && i + k < n && p[i + k] >> 6 == 2;) k++;
        }
        if (k == whole)
            buf_put(out, p + i, k);
        else
            buf_puts(out, "\xef\xbf\xbd");
    }
}

static void check_round_trip(const struct tok *t, const unsigned char *text, size_t n)
{
    struct tok_ids ids = {0};
    struct buf out = BUF_INIT(1 << 28), streamed = BUF_INIT(1 << 28), wanted = BUF_INIT(1 << 28);
    struct tok_stream s;
    struct err e;
    assert_int_equal(tok_encode(t, (const char *)text, n, 0, &ids, &e), 0);
    assert_int_equal(tok_decode(t, ids.data, ids.len, false, &out, &e), 0);
    assert_int_equal(out.len, n);
    assert_memory_equal(out.data, text, n);
    tok_stream_init(&s, t);
    for (size_t i = 0; i < ids.len; i++) assert_true(tok_stream_put(&s, ids.data[i], &streamed));
    assert_true(tok_stream_end(&s, &streamed));
    lossy(text, n, &wanted);
    assert_int_equal(streamed.len, wanted.len);
    assert_memory_equal(streamed.data, wanted.data, wanted.len);
    buf_free(&out), buf_free(&streamed), buf_free(&wanted);
    tok_ids_free(&ids);
}

/* Pieces of text that the rules look at, and any bytes. */
static size_t random_text(struct rng *r, unsigned char *out, size_t room)
{
    static const char *const parts[] = {
        "hello", " ",        "  ",           "    ",     "\n",         "a",
        "aa",    "l",        "'s",           "12",       "😀",          "é",
        "ü",     "▁",        "<tool>",       "<tool",    "<s>",        ">",
        "\xc3",  "\xf0\x9f", "\xed\xa0\x80", "\xe2\x96", "<|im_end|>", "\u3000"};
    size_t n = 0, want = rng_below(r, 40);
    for (size_t i = 0; i < want && n + 16 < room; i++) {
        const char *part = parts[rng_below(r, sizeof parts / sizeof *parts)];
        if (rng_below(r, 4) == 0) {
            out[n++] = (unsigned char)rng_below(r, 256);
            continue;
        }
        memcpy(out + n, part, strlen(part));
        n += strlen(part);
    }
    return n;
}

static void every_byte_comes_back(void **state)
{
    (void)state;
    static const char *const pres[] = {"gpt-2",  "smollm", "llama-bpe",    "qwen2",  "tekken",
                                       "gpt-4o", "falcon", "deepseek-llm", "default"};
    unsigned char text[1024];
    struct rng r;
    rng_init(&r, 1);
    for (size_t k = 0; k <= sizeof pres / sizeof *pres; k++) {
        struct tok *t = k ? open_bpe(pres[k - 1]) : open_spm();
        for (int i = 0; i < 2000; i++)
            check_round_trip(t, text, random_text(&r, text, sizeof text));
        tok_close(t);
    }
}

static void half_characters_wait(void **state)
{
    (void)state;
    struct tok *t = open_spm();
    struct buf out = BUF_INIT(1000);
    struct tok_stream s;
    static const char bytes[] = "\xf0\x9f\x98\x80\xe2\x82";
    tok_stream_init(&s, t);
    for (int i = 0; i < 3; i++) assert_true(tok_stream_put(&s, 3 + (unsigned char)bytes[i], &out));
    assert_int_equal(out.len, 0);
    tok_stream_put(&s, 3 + (unsigned char)bytes[3], &out);
    assert_string_equal(out.data, "😀");
    for (int i = 4; i < 6; i++) tok_stream_put(&s, 3 + (unsigned char)bytes[i], &out);
    tok_stream_put(&s, tok_find(t, "▁hello"), &out);
    assert_string_equal(out.data, "😀\ufffd hello");
    tok_stream_put(&s, 3 + 0xf0, &out);
    assert_true(tok_stream_end(&s, &out));
    assert_true(tok_stream_end(&s, &out));
    assert_string_equal(out.data, "😀\ufffd hello\ufffd");
    buf_free(&out);
    tok_close(t);
}

/* A lot of the same, a megabyte of the first three: n * n steps would not come back in the test's
 * time. */
static void a_megabyte_of_one_thing(void **state)
{
    (void)state;
    static const char *const things[] = {"a",  " ",      "😀", "\n",   "<",     "<tool",
                                         "l ", "\u0301", "'", "\xff", "<|im_", "é"};
    static const char *const pres[] = {NULL, "gpt-2", "llama-bpe", "tekken", "deepseek-llm"};
    unsigned char *text = malloc(1 << 20);
    assert_non_null(text);
    for (size_t k = 0; k < sizeof pres / sizeof *pres; k++) {
        struct tok *t = pres[k] ? open_bpe(pres[k]) : open_spm();
        for (size_t j = 0; j < sizeof things / sizeof *things; j++) {
            size_t len = strlen(things[j]), n = j < 3 ? 1 << 20 : 1 << 17;
            for (size_t i = 0; i < n; i++) text[i] = (unsigned char)things[j][i % len];
            check_round_trip(t, text, n);
        }
        tok_close(t);
    }
    free(text);
}

static void vocabulary_without_some_bytes(void **state)
{
    (void)state;
    tok_vocab_bpe(&v, "gpt-2");
    v.type['q'] = CONTROL;
    struct tok *t = opened();
    check(t, "aqa", 0, "a a"); /* dropped, as the original tokenizers do */
    tok_close(t);
}

static void refused(int code, const char *says)
{
    struct err e = {0};
    struct tok *t = NULL;
    int r = tok_vocab_open(&v, &t, &e);
    if (r != code || !strstr(e.msg, says)) fail_msg("%d \"%s\" for \"%s\"", r, e.msg, says);
    assert_null(t);
}

static void hostile_bpe_vocabularies(void **state)
{
    (void)state;
    static char big[TOK_PIECE_MAX + 2];
    memset(big, 'x', sizeof big - 1);
    tok_vocab_bpe(&v, "no-such-thing"), refused(ERR_UNSUPPORTED, "\"no-such-thing\"");
    tok_vocab_bpe(&v, "gpt-2 phi-2"), refused(ERR_UNSUPPORTED, "pre-tokenizer");
    tok_vocab_bpe(&v, "gpt-2"), v.model = "t5", refused(ERR_UNSUPPORTED, "\"t5\"");
    tok_vocab_bpe(&v, "gpt-2"), v.model = NULL, refused(ERR_FORMAT, "tokenizer.ggml.model");
    tok_vocab_bpe(&v, "gpt-2"), v.n = v.n_type = 0, refused(ERR_LIMIT, "0 tokens");
    tok_vocab_bpe(&v, "gpt-2"), tok_vocab_add(&v, "hello", NORMAL, 0), v.n_type++;
    refused(ERR_FORMAT, "the same: \"hello\"");
    tok_vocab_bpe(&v, "gpt-2"), tok_vocab_add(&v, big, NORMAL, 0), v.n_type++;
    refused(ERR_LIMIT, "4097 bytes");
    tok_vocab_bpe(&v, "gpt-2"), v.n_type = 5, refused(ERR_FORMAT, "5 numbers");
    tok_vocab_bpe(&v, "gpt-2"), v.n_merge = 0, refused(ERR_FORMAT, "merges");
    tok_vocab_bpe(&v, "gpt-2"), tok_vocab_merge(&v, "x"), refused(ERR_FORMAT, "no pair");
    tok_vocab_bpe(&v, "gpt-2"), tok_vocab_merge(&v, "x "), refused(ERR_FORMAT, "no pair");
    tok_vocab_bpe(&v, "gpt-2"), tok_vocab_merge(&v, ""), refused(ERR_FORMAT, "no pair");
    tok_vocab_bpe(&v, "gpt-2"), tok_vocab_merge(&v, "x y"), refused(ERR_FORMAT, "(\"x y\")");
    tok_vocab_bpe(&v, "gpt-2"), tok_vocab_merge(&v, "a ?a"), refused(ERR_FORMAT, "no token");
    tok_vocab_bpe(&v, "gpt-2"), v.bos = (uint32_t)v.n, refused(ERR_FORMAT, "bos_token_id");
    tok_vocab_bpe(&v, "gpt-2"), v.eos = 1u << 31, refused(ERR_FORMAT, "eos_token_id");
    tok_vocab_bpe(&v, "gpt-2"), tok_vocab_merge(&v, "a a"); /* twice: the first counts */
    tok_vocab_add(&v, "", NORMAL, 0), tok_vocab_add(&v, "", CONTROL, 0), v.n_type += 2;
    struct tok *t = opened(); /* empty tokens are never written */
    check(t, "aaa", TOK_SPECIAL, "aa a");
    tok_close(t);
}

static void hostile_spm_vocabularies(void **state)
{
    (void)state;
    tok_vocab_spm(&v), v.n_score = 0, refused(ERR_FORMAT, "scores");
    tok_vocab_spm(&v), v.n_score = 7, refused(ERR_FORMAT, "7 numbers");
    tok_vocab_spm(&v), v.score[9] = (float)__builtin_nan(""), refused(ERR_FORMAT, "token 9 is NaN");
    tok_vocab_spm(&v), v.type[0] = BYTE, refused(ERR_FORMAT, "\"<unk>\"");
    tok_vocab_spm(&v), v.text[4].p = "<0x0G>", refused(ERR_FORMAT, "\"<0x0G>\"");
    tok_vocab_spm(&v), v.text[4] = v.text[5], refused(ERR_FORMAT, "the same");
    tok_vocab_spm(&v);
    v.score[265] = -__builtin_inff(), v.score[266] = __builtin_inff(), v.score[267] = -0.0f;
    v.n_type = 0; /* everything is a plain piece */
    struct tok *t = opened();
    check(t, "ll", 0, "▁ ll");
    tok_close(t);
}

static void too_much_text(void **state)
{
    (void)state;
    struct tok *t = open_bpe("gpt-2");
    struct tok_ids ids = {0};
    struct err e;
    assert_int_equal(tok_encode(t, "", SIZE_MAX, 0, &ids, &e), ERR_LIMIT);
    tok_close(t);
}

static void chat_template_is_kept(void **state)
{
    (void)state;
    struct tok *t = open_spm();
    assert_null(tok_chat_template(t));
    tok_close(t);
    tok_vocab_spm(&v);
    v.chat_template = "{{ messages }}";
    t = opened();
    assert_string_equal(tok_chat_template(t), "{{ messages }}");
    tok_close(t);
}

/* gpt-oss: <|end|> ends a part of an answer only, and the parts' marks are shown. */
static void ends_of_gpt_oss(void **state)
{
    (void)state;
    tok_vocab_bpe(&v, "gpt-4o");
    int32_t end = tok_vocab_add(&v, "<|end|>", CONTROL, 0);
    int32_t channel = tok_vocab_add(&v, "<|channel|>", CONTROL, 0);
    v.n_type = v.n;
    struct tok *t = opened();
    assert_true(tok_is_end(t, end));
    assert_false(tok_is_control(t, channel));
    tok_close(t);
    int32_t ret = tok_vocab_add(&v, "<|return|>", CONTROL, 0);
    tok_vocab_add(&v, "<|call|>", CONTROL, 0);
    v.n_type = v.n;
    t = opened();
    assert_false(tok_is_end(t, end));
    assert_true(tok_is_end(t, ret));
    tok_close(t);
}

static void memory_runs_out(void **state)
{
    (void)state;
    static const char text[] = "hello <tool> hello aaaa 😀 world";
    if (!OOM_WORKS) skip();
    for (int kind = 0; kind < 3; kind++) {
        struct gguf_writer w = GGUF_WRITER_INIT;
        struct gguf *g = NULL;
        struct err e;
        if (kind == 0)
            tok_vocab_bpe(&v, "gpt-2");
        else if (kind == 1)
            tok_vocab_spm(&v);
        else
            tok_vocab_wordpiece(&v);
        v.chat_template = "x";
        tok_vocab_write(&v, &w);
        assert_int_equal(gguf_writer_open(&w, &g, &e), 0);
        bool hit = true;
        for (long n = 1; hit; n++) {
            long alive = oom_alive;
            struct tok *t = NULL;
            struct tok_ids ids = {0};
            oom_after(n);
            int r = tok_open(&t, g, &e);
            if (r == 0) r = tok_encode(t, text, strlen(text), TOK_ADD_AUTO, &ids, &e);
            hit = oom_hit();
            assert_int_equal(r, hit ? ERR_MEMORY : 0);
            if (hit) assert_int_equal(ids.len, 0);
            tok_ids_free(&ids);
            tok_close(t);
            assert_int_equal(oom_alive, alive);
        }
        gguf_close(g);
        gguf_writer_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_merges_by_rank_then_leftmost),
        cmocka_unit_test(special_tokens),
        cmocka_unit_test(ends_of_a_text),
        cmocka_unit_test(spm_merges_by_score),
        cmocka_unit_test(phi3_swallows_space),
        cmocka_unit_test(decoding),
        cmocka_unit_test(every_byte_comes_back),
        cmocka_unit_test(half_characters_wait),
        cmocka_unit_test(a_megabyte_of_one_thing),
        cmocka_unit_test(vocabulary_without_some_bytes),
        cmocka_unit_test(hostile_bpe_vocabularies),
        cmocka_unit_test(hostile_spm_vocabularies),
        cmocka_unit_test(too_much_text),
        cmocka_unit_test(chat_template_is_kept),
        cmocka_unit_test(ends_of_gpt_oss),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
