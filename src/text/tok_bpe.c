/* Byte-level BPE (Radford et al. 2019): every byte is a symbol, and a table of ranked merges says
 * which neighbours become one. Vocabularies spell bytes as printable characters: those of Latin-1
 * that are visible stand for themselves, the 68 others for U+0100 and up.
 *
 * Merges are kept as ids. A merge that names a piece missing from the vocabulary is refused at the
 * door; one that touches a control token is left out, so that no text can merge into such a token.
 * A byte without a token is dropped, as the original tokenizers drop it.
 */
#include "tok_int.h"

#include "unicode.h"

#include <assert.h>
#include <string.h>

enum { MERGES_MAX = 1 << 23, ALPHABET_END = 256 + 68 };

static bool visible(unsigned c)
{
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c != 0xad);
}

/* The character that spells a byte, and the byte that each character spells (-1: none). */
static void alphabet(uint16_t of_byte[256], int16_t of_char[ALPHABET_END])
{
    uint16_t next = 256;
    for (unsigned i = 0; i < ALPHABET_END; i++) of_char[i] = -1;
    for (unsigned b = 0; b < 256; b++) {
        of_byte[b] = visible(b) ? (uint16_t)b : next++;
        of_char[of_byte[b]] = (int16_t)b;
    }
    assert(next == ALPHABET_END);
}

/* The bytes that a token's text spells; n is 0 when it is no spelling. */
static struct gguf_str decode(struct gguf_str text, const int16_t of_char[], char *out)
{
    struct gguf_str r = {out, 0};
    for (size_t at = 0; at < text.n;) {
        struct unicode_char c = unicode_at(text.p + at, text.n - at);
        if (c.code >= ALPHABET_END || of_char[c.code] < 0) return (struct gguf_str){out, 0};
        out[r.n++] = (char)of_char[c.code];
        at += c.bytes;
    }
    return r;
}

static void load_pieces(struct tok *t)
{
    uint16_t of_byte[256];
    int16_t of_char[ALPHABET_END];
    alphabet(of_byte, of_char);
    for (int b = 0; b < 256; b++) t->byte[b] = TOK_NONE;
    for (int32_t i = 0; i < t->n; i++) {
        t->piece[i] = t->text[i];
        if (t->attr[i] & (TOK__SPECIAL | TOK__BYTE) || t->text[i].n == 0) continue;
        struct gguf_str bytes = decode(t->text[i], of_char, t->piece_bytes);
        t->piece_bytes += bytes.n;
        if (bytes.n) t->piece[i] = bytes;
        if (bytes.n == 1) t->byte[(unsigned char)*bytes.p] = i;
    }
}

/* "left right" -> ids; a space may be the first byte of left only. */
static int merge_ids(const struct tok *t, struct gguf_str line, uint64_t rank, int32_t out[3],
                     struct err *e)
{
    const char *gap = line.n > 1 ? memchr(line.p + 1, ' ', line.n - 1) : NULL;
    size_t left = gap ? (size_t)(gap - line.p) : 0, right = gap ? line.n - left - 1 : 0;
    if (left == 0 || right == 0)
        return err_set(e, ERR_FORMAT, "merge %llu of the vocabulary is no pair: \"%.*s\"",
                       (unsigned long long)rank, line.n > 80 ? 80 : (int)line.n, line.p);
    char both[2 * TOK_PIECE_MAX];
    uint32_t found[3] = {MAP_NONE, MAP_NONE, MAP_NONE};
    if (left <= TOK_PIECE_MAX && right <= TOK_PIECE_MAX) {
        memcpy(both, line.p, left);
        memcpy(both + left, gap + 1, right);
        found[0] = map_get(&t->ids, both, (uint32_t)left);
        found[1] = map_get(&t->ids, both + left, (uint32_t)right);
        found[2] = map_get(&t->ids, both, (uint32_t)(left + right));
    }
    for (int i = 0; i < 3; i++) {
        if (found[i] == MAP_NONE)
            return err_set(e, ERR_FORMAT, "merge %llu (\"%.*s\") needs a piece that is no token",
                           (unsigned long long)rank, line.n > 80 ? 80 : (int)line.n, line.p);
        out[i] = (int32_t)found[i];
    }
    return 0;
}

int tok__bpe_load(struct tok *t, const struct gguf *g, struct err *e)
{
    load_pieces(t);
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.merges");
    if (!kv || kv->type != GGUF_ARR || kv->item != GGUF_STR)
        return err_set(e, ERR_FORMAT, "tokenizer.ggml.merges is missing or no array of strings");
    if (kv->count > MERGES_MAX)
        return err_set(e, ERR_LIMIT, "%llu merges, at most %d are read",
                       (unsigned long long)kv->count, MERGES_MAX);
    t->merge = arena_alloc(&t->arena, kv->count + 1, sizeof *t->merge);
    if (!t->merge || !map_init(&t->merges, kv->count))
        return err_nomem(e, kv->count * sizeof *t->merge, "the merges");
    const uint8_t *at = kv->value;
    for (uint64_t i = 0; i < kv->count; i++) {
        int32_t *m = t->merge[i];
        int r = merge_ids(t, gguf_next_string(&at), i, m, e);
        if (r) return r;
        if ((t->attr[m[0]] | t->attr[m[1]] | t->attr[m[2]]) & TOK__HIDDEN) continue;
        bool ok = true;
        map_put(&t->merges, m, 2 * sizeof *m, (uint32_t)i,
                &ok); /* of equal ones the first counts */
        if (!ok) return err_nomem(e, kv->count * sizeof(struct map_slot), "the merges");
    }
    if (!tok_pre_whole_words(t->pre)) map_free(&t->ids); /* nobody asks for a text again */
    return 0;
}

static bool pair(const struct tok *t, const char *s, const struct tok__sym *l,
                 const struct tok__sym *r, struct tok__pair *out)
{
    (void)s;
    int32_t key[2] = {l->id, r->id};
    out->order = map_get(&t->merges, key, sizeof key);
    if (out->order == MAP_NONE) return false;
    out->id = t->merge[out->order][2];
    return true;
}

/* The token that is a word as it stands, or TOK_NONE. */
static int32_t whole(const struct tok *t, const char *s, size_t n)
{
    char text[TOK_PIECE_MAX];
    size_t len = 0;
    if (n > TOK_PIECE_MAX / 2) return TOK_NONE;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte[(unsigned char)s[i]];
        if (id == TOK_NONE) return TOK_NONE;
        memcpy(text + len, t->text[id].p, t->text[id].n);
        len += t->text[id].n;
    }
    uint32_t id = map_get(&t->ids, text, (uint32_t)len);
    return id == MAP_NONE || t->attr[id] & TOK__HIDDEN ? TOK_NONE : (int32_t)id;
}

static bool encode_word(void *arg, const char *s, size_t n)
{
    struct tok__work *w = arg;
    const struct tok *t = w->t;
    if (tok_pre_whole_words(t->pre)) {
        int32_t id = whole(t, s, n);
        if (id != TOK_NONE) return tok__push(w->ids, id);
    }
    if (!tok__reserve(w, n)) return false;
    for (size_t i = 0; i < n; i++)
        w->sym[i] =
            (struct tok__sym){.at = (uint32_t)i, .len = 1, .id = t->byte[(unsigned char)s[i]]};
    tok__merge(w, s, n, pair);
    for (uint32_t i = 0; i != TOK__NO_SYM; i = w->sym[i].next)
        if (w->sym[i].id != TOK_NONE && !tok__push(w->ids, w->sym[i].id)) return false;
    return true;
}

bool tok__bpe_encode(struct tok__work *w, const char *s, size_t n)
{
    return tok_pre_split(w->t->pre, s, n, encode_word, w);
}
