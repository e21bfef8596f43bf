/* Grammars of every kind: the first byte chooses schema (s), GBNF (g) or a regular expression (r), as a capital with a
 * SentencePiece vocabulary; the rest is the source.
 *
 * What opens can be walked: a mask is never empty, what it allows is accepted and what it does not is refused, and bytes
 * and tokens that are forced are allowed. A walk that ends has made well-formed UTF-8, of a schema JSON. What does not open says
 * why in one line. */
#include "grammar.h"

#include "../support/tok_vocab.h"
#include "rng.h"
#include "unicode.h"

#include <jansson.h>
#include <stdlib.h>

enum { STEPS = 60, HASTE = 20 };

static struct tok *tok[2];
static struct grammar_tokens *tokens[2];

static void check(bool ok)
{
    if (!ok) abort();
}

static void start(void)
{
    static struct tok_vocab v;
    struct err e;
    for (int i = 0; i < 2; i++) {
        if (i)
            tok_vocab_spm(&v);
        else
            tok_vocab_bpe(&v, "gpt-2");
        check(tok_vocab_open(&v, &tok[i], &e) == 0 &&
              grammar_tokens_open(&tokens[i], tok[i], &e) == 0);
    }
}

static bool bit(const uint64_t *bits, int32_t id)
{
    return bits[id >> 6] >> (id & 63) & 1;
}

/* A token that is allowed; in haste the end, or what closes something. */
static int32_t pick(const struct tok *t, const uint64_t *bits, struct rng *r, bool haste)
{
    int32_t from = (int32_t)rng_below(r, (uint64_t)tok_size(t)), found = TOK_NONE;
    for (int32_t i = 0; i < tok_size(t); i++) {
        int32_t id = (from + i) % tok_size(t);
        struct buf piece = BUF_INIT(TOK_PIECE_MAX);
        if (!bit(bits, id)) continue;
        if (tok_is_end(t, id)) return id;
        if (found == TOK_NONE) found = id;
        tok_piece(t, id, false, &piece);
        if (haste && piece.len && strchr("\"]})", piece.data[0])) found = id;
        buf_free(&piece);
        if (!haste) return found;
    }
    check(found != TOK_NONE);
    return found;
}

static void check_forced(struct grammar_match *m, const uint64_t *bits, bool bytes)
{
    char forced[16];
    size_t n = grammar_match_forced(m, forced, sizeof forced);
    check(n == 0 || !grammar_match_may_end(m));
    if (n && bytes) check(bit(bits, (unsigned char)forced[0]));
}

/* Half of the time what must come is taken at once. */
static void jump(struct grammar_match *m, struct rng *r, struct tok_stream *s, struct buf *text)
{
    int32_t ids[8];
    char forced[128];
    size_t n = grammar_match_forced(m, forced, sizeof forced);
    int k = grammar_match_jump(m, ids, 8);
    check(n > 0 || k == 0);
    for (int i = 0; i < k && rng_below(r, 2); i++) {
        check(grammar_match_allows(m, ids + i, 1) <= 1 && grammar_match_accept(m, ids[i]));
        check(tok_stream_put(s, ids[i], text));
    }
}

static void check_text(const struct buf *text, bool json)
{
    for (size_t i = 0; i < text->len;) {
        int k = unicode_length(text->data + i, text->len - i);
        check(k > 0);
        i += (size_t)k;
    }
    if (!json) return;
    json_error_t e;
    json_t *j =
        json_loadb(text->data ? text->data : "", text->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    /* numbers and keys that jansson has no room for are JSON all the same */
    check(j || strstr(e.text, "number") || strstr(e.text, "integer") || strstr(e.text, "NUL"));
    json_decref(j);
}

static void walk(const struct grammar *g, int spm, uint64_t seed, bool json)
{
    struct tok *t = tok[spm];
    struct grammar_match *m = NULL;
    uint64_t bits[TOK_VOCAB_MAX / 64 + 1];
    struct buf text = BUF_INIT(1 << 20);
    struct tok_stream s;
    struct rng r;
    struct err e;
    bool ended = false;
    rng_init(&r, seed);
    if (grammar_match_open(&m, g, tokens[spm], false, &e)) {
        check(e.code == ERR_UNSUPPORTED || e.code == ERR_MEMORY);
        return;
    }
    tok_stream_init(&s, t);
    for (int i = 0; i < STEPS && !ended; i++) {
        jump(m, &r, &s, &text);
        grammar_match_mask(m, bits);
        int32_t other = (int32_t)rng_below(&r, (uint64_t)tok_size(t));
        int32_t id = pick(t, bits, &r, i >= HASTE);
        check_forced(m, bits, !spm);
        check(bit(bits, other) || !grammar_match_accept(m, other));
        ended = tok_is_end(t, id);
        check(ended == (ended && grammar_match_may_end(m)));
        check(grammar_match_accept(m, id));
        if (!ended) check(tok_stream_put(&s, id, &text));
    }
    if (ended) check_text(&text, json);
    buf_free(&text);
    grammar_match_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!tok[0]) start();
    if (n == 0) return 0;
    struct grammar *g = NULL;
    struct err e = {0};
    const char *source = (const char *)data + 1;
    int kind = (data[0] | 32) == 's' ? 0 : (data[0] | 32) == 'g' ? 1 : 2;
    int code = kind == 0   ? grammar_schema(&g, source, n - 1, &e)
               : kind == 1 ? grammar_gbnf(&g, source, n - 1, &e)
                           : grammar_regex(&g, source, n - 1, &e);
    if (code) {
        check(!g && code < 0 && e.code == code && e.msg[0] && !strchr(e.msg, '\n'));
        return 0;
    }
    check(g != NULL);
    for (uint64_t seed = 0; seed < 3; seed++) walk(g, !(data[0] & 32), seed, kind == 0);
    grammar_close(g);
    return 0;
}
