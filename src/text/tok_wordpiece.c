/* BERT's tokenizer (Devlin et al. 2018): text is cleaned, cut into words at white space, around
 * each punctuation mark and each Chinese character, and every word is covered from the left by the
 * longest pieces of the vocabulary; a word that cannot be covered, or has more than 100 characters,
 * is one unknown token. An uncased vocabulary lowers letters and drops their accents first.
 *
 * The file spells a piece that begins a word with U+2581 before it and one that continues a word
 * bare. Invariant: a lookup is never longer than the longest token, so work is linear in the text.
 * Decoding puts a space before each word: what cleaning took away does not come back.
 */
#include "tok_int.h"

#include "unicode.h"

#include <string.h>

enum { WORD_CHARS_MAX = 100, BLOCK = 3, DECOMPOSED_MAX = 8 };

static const char block[] = "\xe2\x96\x81"; /* U+2581 */

struct word {
    struct tok__work *w;
    char key[BLOCK + 4 * WORD_CHARS_MAX + 1]; /* U+2581, then the word */
    size_t n, chars;                          /* bytes behind the block; characters, counted on */
};

static bool begins_block(const char *p, size_t n)
{
    return n >= BLOCK && memcmp(p, block, BLOCK) == 0;
}

/* The longest piece that key[at..end) begins with; at 0: it begins the word. Returns its end. */
static size_t longest(const struct tok *t, const char *key, size_t at, size_t end, int32_t *id)
{
    if (at > 0 && begins_block(key + at, end - at)) return 0; /* not to be taken for a beginning */
    size_t least = at ? at : BLOCK;
    if (end - at > t->longest) end = at + t->longest;
    for (; end > least; end--) {
        if (((unsigned char)key[end] & 0xc0) == 0x80) continue; /* inside a character */
        uint32_t found = map_get(&t->ids, key + at, (uint32_t)(end - at));
        if (found == MAP_NONE || t->attr[found] & TOK__HIDDEN) continue;
        *id = (int32_t)found;
        return end;
    }
    return 0;
}

static bool end_word(struct word *d)
{
    const struct tok *t = d->w->t;
    struct tok_ids *ids = d->w->ids;
    size_t before = ids->len, end = BLOCK + d->n, at = 0;
    bool known = d->chars <= WORD_CHARS_MAX, any = d->chars > 0;
    d->n = d->chars = 0;
    if (!any) return true;
    if (known) d->key[end] = 0; /* no continuation byte */
    while (known && at < end) {
        int32_t id;
        at = longest(t, d->key, at, end, &id);
        known = at > 0;
        if (known && !tok__push(ids, id)) return false;
    }
    if (known) return true;
    ids->len = before;
    return t->unk == TOK_NONE || tok__push(ids, t->unk);
}

static bool is_mark(uint32_t c)
{
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
           (c >= 123 && c <= 126) || (c > 127 && unicode_class(c) == UNICODE_PUNCT);
}

/* The blocks that the original treats as Chinese. */
static bool is_chinese(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) ||
           (c >= 0x2b820 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) ||
           (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool put(struct word *d, uint32_t c)
{
    bool apart = is_mark(c);
    if (apart && !end_word(d)) return false;
    if (d->chars++ < WORD_CHARS_MAX) d->n += (size_t)unicode_put(c, d->key + BLOCK + d->n);
    return !apart || end_word(d);
}

static bool put_lower(struct word *d, uint32_t c)
{
    if (!d->w->t->lower) return put(d, c);
    if (!put(d, unicode_lower(c))) return false;
    return c != 0x130 || put(d, 0x307); /* the one letter that becomes two */
}

/* A character decomposed, without the marks that are accents. */
static bool put_bare(struct word *d, uint32_t c)
{
    uint32_t stack[DECOMPOSED_MAX] = {c}, part[2];
    for (int n = 1; n > 0;) {
        c = stack[--n];
        int parts = unicode_decompose(c, part);
        if (parts > 1) stack[n++] = part[1];
        if (parts)
            stack[n++] = part[0];
        else if (unicode_class(c) != UNICODE_NONSPACING && !put_lower(d, c))
            return false;
    }
    return true;
}

static bool put_char(struct word *d, uint32_t c)
{
    unsigned class = unicode_class(c);
    bool blank = c == '\t' || c == '\n' || c == '\r', chinese = is_chinese(c);
    bool control = class & UNICODE_CONTROL || c < ' ' || (c >= 0x7f && c < 0xa0);
    if (!blank && (control || c == UNICODE_REPLACEMENT)) return true;
    if (class & UNICODE_SPACE || chinese)
        if (!end_word(d)) return false;
    if (class & UNICODE_SPACE) return true;
    if (!(d->w->t->strip ? put_bare(d, c) : put_lower(d, c))) return false;
    return !chinese || end_word(d);
}

bool tok__wordpiece_encode(struct tok__work *w, const char *s, size_t n)
{
    struct word d = {.w = w};
    memcpy(d.key, block, BLOCK);
    for (size_t at = 0; at < n;) {
        struct unicode_char c = unicode_at(s + at, n - at);
        if (!put_char(&d, c.code)) return false;
        at += c.bytes;
    }
    return end_word(&d);
}

/* ---- the vocabulary ---- */

static void load_pieces(struct tok *t)
{
    for (int32_t i = 0; i < t->n; i++) {
        struct gguf_str text = t->text[i];
        if (text.n > t->longest) t->longest = text.n;
        t->piece[i] = text;
        if (t->attr[i] & TOK__HIDDEN || !begins_block(text.p, text.n)) continue;
        struct gguf_str bare = {text.p + BLOCK, text.n - BLOCK};
        if (t->attr[i] & TOK__USER) { /* found wherever it stands */
            t->piece[i] = bare;
            continue;
        }
        t->piece[i] = (struct gguf_str){t->piece_bytes, bare.n + 1};
        *t->piece_bytes++ = ' ';
        memcpy(t->piece_bytes, bare.p, bare.n);
        t->piece_bytes += bare.n;
    }
}

/* Whether no ordinary token has a capital: a file seldom says if its model is uncased. */
static bool looks_uncased(const struct tok *t)
{
    for (int32_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->text[i].n && t->text[i].p[k] != '['; k++)
            if (t->text[i].p[k] >= 'A' && t->text[i].p[k] <= 'Z') return false;
    return true;
}

void tok__wordpiece_load(struct tok *t, const struct gguf *g)
{
    t->lower = looks_uncased(t);
    gguf_bool(g, "tokenizer.ggml.normalizer.lowercase", &t->lower);
    t->strip = t->lower;
    gguf_bool(g, "tokenizer.ggml.normalizer.strip_accents", &t->strip);
    if (t->unk != TOK_NONE) t->attr[t->unk] = TOK__UNKNOWN;
    load_pieces(t);
}
