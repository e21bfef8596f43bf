/* SentencePiece's BPE (Kudo and Richardson 2018): every character is a symbol, two neighbours may
 * become one when their text together is a token, and the highest score goes first. A character
 * that is left over and is no token is spelled by the tokens of its bytes.
 *
 * Vocabularies write a space as U+2581. Here pieces hold real spaces and the text stays as it is,
 * so a U+2581 in the text is a character like any other and does not come back as a space.
 */
#include "tok_int.h"

#include "unicode.h"

#include <stdlib.h>
#include <string.h>

static const char block[] = "\xe2\x96\x81"; /* U+2581 */

static struct gguf_str with_spaces(struct gguf_str text, char *out)
{
    struct gguf_str r = {out, 0};
    for (size_t i = 0; i < text.n;) {
        bool is_block = text.n - i >= 3 && memcmp(text.p + i, block, 3) == 0;
        out[r.n++] = is_block ? ' ' : text.p[i];
        i += is_block ? 3 : 1;
    }
    return r;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of "<0xXX>", or -1. */
static int byte_of(struct gguf_str s)
{
    if (s.n != 6 || memcmp(s.p, "<0x", 3) || s.p[5] != '>') return -1;
    int high = hex(s.p[3]), low = hex(s.p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static int load_byte(struct tok *t, int32_t i, struct err *e)
{
    int b = byte_of(t->text[i]);
    if (b < 0)
        return err_set(e, ERR_FORMAT, "token %d is of type byte but reads \"%.*s\"", (int)i,
                       t->text[i].n > 80 ? 80 : (int)t->text[i].n, t->text[i].p);
    if (t->byte[b] == TOK_NONE) t->byte[b] = i;
    t->piece[i] = (struct gguf_str){t->piece_bytes, 1};
    *t->piece_bytes++ = (char)b;
    return 0;
}

static int load_piece(struct tok *t, int32_t i, struct err *e)
{
    t->piece[i] = t->text[i];
    if (t->attr[i] & TOK__HIDDEN || t->text[i].n == 0) return 0;
    if (t->attr[i] & TOK__BYTE) return load_byte(t, i, e);
    if (memmem(t->text[i].p, t->text[i].n, block, 3)) {
        t->piece[i] = with_spaces(t->text[i], t->piece_bytes);
        t->piece_bytes += t->piece[i].n;
    }
    /* A real space in the vocabulary's own text: no text in its spelling could contain it. */
    if (t->attr[i] & TOK__USER || memchr(t->text[i].p, ' ', t->text[i].n)) return 0;
    bool ok = true;
    map_put(&t->ids, t->piece[i].p, (uint32_t)t->piece[i].n, (uint32_t)i, &ok);
    if (t->piece[i].n > t->longest) t->longest = t->piece[i].n;
    return ok ? 0 : err_nomem(e, sizeof(struct map_slot), "the vocabulary");
}

/* Floats in descending order as ascending integers; both zeros are one. */
static uint32_t order_of(float score)
{
    score += 0.0f;
    uint32_t u;
    memcpy(&u, &score, sizeof u);
    return u >> 31 ? u : ~u & 0x7fffffffu;
}

int tok__spm_load(struct tok *t, const struct gguf *g, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.scores");
    if (!kv || kv->type != GGUF_ARR || kv->item == GGUF_STR || kv->count < (uint64_t)t->n)
        return err_set(e, ERR_FORMAT, "tokenizer.ggml.scores holds %llu numbers for %d tokens",
                       kv && kv->type == GGUF_ARR ? (unsigned long long)kv->count : 0, (int)t->n);
    map_free(&t->ids);
    t->order = arena_alloc(&t->arena, (size_t)t->n, sizeof *t->order);
    if (!t->order || !map_init(&t->ids, (size_t)t->n))
        return err_nomem(e, (size_t)t->n * sizeof(struct map_slot), "the vocabulary");
    for (int b = 0; b < 256; b++) t->byte[b] = TOK_NONE;
    for (int32_t i = 0; i < t->n; i++) {
        double score = gguf_item_f64(kv, (uint64_t)i);
        if (score != score) return err_set(e, ERR_FORMAT, "the score of token %d is NaN", (int)i);
        t->order[i] = order_of((float)score);
        int r = load_piece(t, i, e);
        if (r) return r;
    }
    return 0;
}

static bool pair(const struct tok *t, const char *s, const struct tok__sym *l,
                 const struct tok__sym *r, struct tok__pair *out)
{
    (void)r;
    if (out->len > t->longest) return false;
    uint32_t id = map_get(&t->ids, s + l->at, out->len);
    if (id == MAP_NONE) return false;
    out->id = (int32_t)id;
    out->order = t->order[id];
    return true;
}

static bool put_bytes(struct tok__work *w, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t id = w->t->byte[(unsigned char)s[i]];
        if (id == TOK_NONE) id = w->t->unk;
        if (id != TOK_NONE && !tok__push(w->ids, id)) return false;
    }
    return true;
}

bool tok__spm_encode(struct tok__work *w, const char *s, size_t n)
{
    size_t n_sym = 0;
    for (size_t at = 0; at < n; n_sym++) {
        struct unicode_char c = unicode_at(s + at, n - at);
        if (!tok__reserve(w, n_sym + 1)) return false;
        uint32_t id = map_get(&w->t->ids, s + at, c.bytes);
        w->sym[n_sym] = (struct tok__sym){
            .at = (uint32_t)at, .len = c.bytes, .id = id == MAP_NONE ? TOK_NONE : (int32_t)id};
        at += c.bytes;
    }
    if (n_sym == 0) return true;
    tok__merge(w, s, n_sym, pair);
    for (uint32_t i = 0; i != TOK__NO_SYM; i = w->sym[i].next) {
        const struct tok__sym *y = &w->sym[i];
        if (!(y->id == TOK_NONE ? put_bytes(w, s + y->at, y->len) : tok__push(w->ids, y->id)))
            return false;
    }
    return true;
}
