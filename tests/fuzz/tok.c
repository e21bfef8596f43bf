/* Any text through small vocabularies, and any vocabulary. The first byte chooses.
 *
 * Text: every byte comes back from its ids, what a stream shows is well-formed and is those bytes
 * but for U+FFFD, and no text makes a control token unless that was allowed. WordPiece gives other
 * text back: it must have the same ids.
 *
 * Vocabulary: the rest describes tokens, types, scores and merges. What opens must encode any text
 * to ids of its own and must decode every id it has. */
#include "tok.h"

#include "../support/tok_vocab.h"
#include "unicode.h"

#include <stdlib.h>

static const char *const pres[] = {"gpt-2",          "smollm",  "llama-bpe", "qwen2",
                                   "tekken",         "gpt-4o",  "falcon",    "deepseek-llm",
                                   "deepseek-coder", "default", "qwen35"};
enum { PRES = sizeof pres / sizeof *pres, KNOWN = PRES + 4 };

static void check(bool ok)
{
    if (!ok) abort();
}

static void check_stream(const struct tok *t, const struct tok_ids *ids, const struct buf *text)
{
    struct buf seen = BUF_INIT(1 << 26);
    struct tok_stream s;
    tok_stream_init(&s, t);
    for (size_t i = 0; i < ids->len; i++) check(tok_stream_put(&s, ids->data[i], &seen));
    check(tok_stream_end(&s, &seen));
    size_t at = 0; /* of text */
    for (size_t i = 0; i < seen.len;) {
        int n = unicode_length(seen.data + i, seen.len - i);
        check(n > 0 && at < text->len);
        int held = unicode_length(text->data + at, text->len - at);
        if (held > 0) {
            check(held == n && memcmp(seen.data + i, text->data + at, (size_t)n) == 0);
            at += (size_t)n;
        } else {
            check(n == 3 && memcmp(seen.data + i, "\xef\xbf\xbd", 3) == 0);
            at = held ? at + (size_t)-held : text->len;
        }
        i += (size_t)n;
    }
    check(at == text->len);
    buf_free(&seen);
}

static void check_text(const struct tok *t, const char *text, size_t n, bool comes_back)
{
    struct tok_ids ids = {0};
    struct buf out = BUF_INIT(1 << 26);
    struct err e;
    check(tok_encode(t, text, n, TOK_SPECIAL | TOK_ADD_AUTO, &ids, &e) == 0);
    for (size_t i = 0; i < ids.len; i++) check(ids.data[i] >= 0 && ids.data[i] < tok_size(t));
    ids.len = 0;
    check(tok_encode(t, text, n, 0, &ids, &e) == 0);
    for (size_t i = 0; i < ids.len; i++) check(!tok_is_control(t, ids.data[i]));
    check(tok_decode(t, ids.data, ids.len, false, &out, &e) == 0);
    if (comes_back) check(out.len == n && (n == 0 || memcmp(out.data, text, n) == 0));
    check_stream(t, &ids, &out);
    buf_free(&out);
    tok_ids_free(&ids);
}

/* A text without unknown words: what its ids say is cut into the same ids again. */
static void check_words(const struct tok *t, const char *text, size_t n)
{
    struct tok_ids ids = {0}, again = {0};
    struct buf out = BUF_INIT(1 << 26);
    struct err e;
    int32_t unknown = tok_find(t, "[UNK]");
    bool known = true;
    check(tok_encode(t, text, n, 0, &ids, &e) == 0);
    for (size_t i = 0; i < ids.len; i++) known = known && ids.data[i] != unknown;
    check(tok_decode(t, ids.data, ids.len, false, &out, &e) == 0);
    check(tok_encode(t, out.data ? out.data : "", out.len, 0, &again, &e) == 0);
    if (known)
        check(ids.len == again.len &&
              (ids.len == 0 || !memcmp(ids.data, again.data, ids.len * sizeof *ids.data)));
    buf_free(&out);
    tok_ids_free(&ids);
    tok_ids_free(&again);
}

static void fuzz_text(unsigned which, const char *text, size_t n)
{
    static struct tok *known[KNOWN];
    which %= KNOWN;
    if (!known[which]) {
        struct tok_vocab *v = malloc(sizeof *v);
        struct err e;
        if (which < PRES)
            tok_vocab_bpe(v, pres[which]);
        else if (which < PRES + 2)
            tok_vocab_spm(v);
        else
            tok_vocab_wordpiece(v);
        v->add_space = which == PRES;
        v->lower = which == PRES + 2;
        check(tok_vocab_open(v, &known[which], &e) == 0);
        free(v);
    }
    check_text(known[which], text, n, which < PRES + 2);
    if (which >= PRES + 2) check_words(known[which], text, n);
}

/* Lines describe the vocabulary: the first byte its use, the second its type, the rest its text. */
static void fuzz_vocab(unsigned which, const char *p, size_t n)
{
    struct tok_vocab *v = malloc(sizeof *v);
    struct tok *t = NULL;
    struct err e = {0};
    bool spm = which & 1, bytes = which & 2;
    const char *all = p;
    size_t n_all = n;
    bool words = which / 4 % 16 == PRES;
    if (words)
        tok_vocab_wordpiece(v);
    else if (spm)
        tok_vocab_spm(v);
    else
        tok_vocab_bpe(v, pres[which / 4 % 16 % PRES]);
    if (!bytes) v->n = 0;
    while (n > 2) {
        const char *stop = memchr(p + 2, '\n', n - 2);
        size_t len = stop ? (size_t)(stop - p) : n;
        struct gguf_str text = {p + 2, len - 2};
        if (p[0] == 'm' && v->n_merge < 64)
            v->merge[v->n_merge++] = text;
        else if (p[0] == 'b')
            v->bos = (uint32_t)(signed char)p[1];
        else if (p[0] == 'e')
            v->eos = (uint32_t)(unsigned char)p[1];
        else if (v->n < TOK_VOCAB_MAX) {
            v->text[v->n] = text;
            v->type[v->n] = p[1] % 8;
            v->score[v->n++] = p[0];
        }
        len += stop != NULL;
        p += len, n -= len;
    }
    v->n_type = v->n;
    v->n_score = spm && !words ? v->n : 0;
    if (tok_vocab_open(v, &t, &e) == 0) {
        struct buf out = BUF_INIT(1 << 26);
        check_text(t, all, n_all, false);
        for (int32_t id = 0; id < tok_size(t); id++)
            check(tok_decode(t, &id, 1, true, &out, &e) == 0);
        buf_free(&out);
    } else {
        check(e.msg[0] && !t);
    }
    tok_close(t);
    free(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    unsigned which = data[0];
    if (which < 128)
        fuzz_text(which, (const char *)data + 1, size - 1);
    else
        fuzz_vocab(which - 128, (const char *)data + 1, size - 1);
    return 0;
}
