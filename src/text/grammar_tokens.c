/* Tries over the bytes of a vocabulary's tokens, in two: tokens of plain characters only (four in
 * five), which a mask takes as a whole where any text may follow, and the others, which it always
 * walks. A node knows how many plain characters its tokens go on with at most, so a walk that
 * reaches text in the middle of a token takes what is below in one go.
 */
#include "grammar_int.h"

#include "tok_int.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

bool grammar__tokens_special(const struct grammar_tokens *t, int32_t id)
{
    return t->t->attr[id] & TOK__SPECIAL;
}

struct gguf_str grammar__tokens_piece(const struct grammar_tokens *t, int32_t id)
{
    struct gguf_str none = {"", 0}, p;
    if (id < 0 || id >= t->t->n || t->t->attr[id] & (TOK__HIDDEN | TOK__END)) return none;
    p = t->t->piece[id];
    if (p.n == 0 || p.n > TOK_PIECE_MAX) return none;
    /* Whether it keeps its space depends on more than the text: another token does the same. */
    if (t->t->add_space && t->t->attr[id] & TOK__USER && p.p[0] == ' ') return none;
    return p;
}

struct piece {
    struct gguf_str s;
    int32_t id;
    bool plain;
};

static int by_bytes(const void *x, const void *y)
{
    const struct piece *p = x, *q = y;
    size_t n = p->s.n < q->s.n ? p->s.n : q->s.n;
    int d = memcmp(p->s.p, q->s.p, n);
    if (d) return d;
    if (p->s.n != q->s.n) return p->s.n < q->s.n ? -1 : 1;
    return p->id < q->id ? -1 : p->id > q->id;
}

/* How many plain characters s is; NOT_PLAIN where it is something else or too many. */
static unsigned plain_chars(struct gguf_str s)
{
    unsigned k = 0;
    for (size_t i = 0; i < s.n; k++) {
        if (unicode_length(s.p + i, s.n - i) <= 0) return GRAMMAR__NOT_PLAIN;
        struct unicode_char c = unicode_at(s.p + i, s.n - i);
        if (!grammar__is_plain(c.code)) return GRAMMAR__NOT_PLAIN;
        i += c.bytes;
    }
    return k < GRAMMAR__NOT_PLAIN ? k : GRAMMAR__NOT_PLAIN;
}

/* Notes at the nodes of a token (path[0..n), by bytes) what follows them. */
static void note_plain(struct grammar__trie *trie, const uint32_t *path, struct gguf_str s)
{
    unsigned k = 0; /* plain characters from i on */
    for (size_t i = s.n; i > 0; i--) {
        struct grammar__trie_node *node = &trie->node[path[i - 1]];
        bool begins = i == s.n || ((unsigned char)s.p[i] & 0xc0) != 0x80;
        if (i < s.n && begins && k != GRAMMAR__NOT_PLAIN) {
            int n = unicode_length(s.p + i, s.n - i);
            bool plain = n > 0 && grammar__is_plain(unicode_at(s.p + i, s.n - i).code);
            k = plain && k < GRAMMAR__NOT_PLAIN ? k + 1 : GRAMMAR__NOT_PLAIN;
        }
        unsigned here = begins ? k : GRAMMAR__NOT_PLAIN;
        if (here > node->plain) node->plain = (uint8_t)here;
    }
}

/* From n sorted pieces. */
static bool build(struct grammar__trie *trie, const struct piece *p, size_t n)
{
    size_t nodes = 0, common = 0;
    uint32_t path[TOK_PIECE_MAX];
    trie->token = malloc((n ? n : 1) * sizeof *trie->token);
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++) {
            struct gguf_str s = p[i].s, last = i ? p[i - 1].s : (struct gguf_str){"", 0};
            for (common = 0; common < s.n && common < last.n && s.p[common] == last.p[common];)
                common++;
            if (pass == 0) {
                nodes += s.n - common;
                continue;
            }
            for (size_t k = common; k < last.n; k++) trie->node[path[k]].skip = trie->n;
            for (size_t k = common; k < s.n; k++) {
                path[k] = trie->n;
                trie->node[trie->n++] = (struct grammar__trie_node){
                    0, (uint32_t)i, (uint16_t)(k + 1), (uint8_t)s.p[k], 0};
            }
            trie->token[i] = p[i].id;
            if (s.n > trie->depth) trie->depth = (uint16_t)s.n;
            note_plain(trie, path, s);
        }
        if (pass == 0) trie->node = calloc(nodes + 1, sizeof *trie->node);
        if (!trie->node || !trie->token) return false;
    }
    for (size_t k = 0; n && k < p[n - 1].s.n; k++) trie->node[path[k]].skip = trie->n;
    trie->node[trie->n].token = (uint32_t)n;
    return true;
}

static void sort_out(struct grammar_tokens *t, struct piece *p, size_t *n_plain, size_t *n_rest)
{
    size_t n = (size_t)t->t->n, plain = 0, rest = 0;
    for (size_t i = 0; i < n; i++) {
        struct piece x = {grammar__tokens_piece(t, (int32_t)i), (int32_t)i, false};
        if (t->t->attr[i] & TOK__END) t->end[t->n_end++] = x.id;
        if (x.s.n == 0) continue;
        unsigned k = plain_chars(x.s);
        if (x.s.n == 1) {
            uint8_t b = (uint8_t)x.s.p[0];
            t->bytes[b >> 6] |= 1ull << (b & 63);
        }
        if (k != GRAMMAR__NOT_PLAIN) {
            t->plain_bits[i >> 6] |= 1ull << (i & 63);
            if (k > t->plain_longest) t->plain_longest = k;
            p[plain++] = x;
        } else {
            p[n - ++rest] = x;
        }
    }
    *n_plain = plain;
    *n_rest = rest;
}

int grammar_tokens_open(struct grammar_tokens **out, const struct tok *tok, struct err *e)
{
    struct grammar_tokens *t = calloc(1, sizeof *t);
    size_t n = (size_t)tok->n, plain, rest;
    struct piece *p = malloc((n ? n : 1) * sizeof *p);
    if (!t || !p) goto fail;
    t->t = tok;
    t->n_words = (n + 63) / 64;
    t->plain_bits = calloc(t->n_words + 1, sizeof *t->plain_bits);
    t->end = malloc((n ? n : 1) * sizeof *t->end);
    if (!t->plain_bits || !t->end) goto fail;
    sort_out(t, p, &plain, &rest);
    qsort(p, plain, sizeof *p, by_bytes);
    qsort(p + n - rest, rest, sizeof *p, by_bytes);
    if (!build(&t->plain, p, plain) || !build(&t->rest, p + n - rest, rest)) goto fail;
    free(p);
    *out = t;
    return 0;
fail:
    free(p);
    grammar_tokens_close(t);
    return err_nomem(e, n * sizeof *p, "the tokens of a grammar");
}

void grammar_tokens_close(struct grammar_tokens *t)
{
    if (!t) return;
    free(t->plain.node);
    free(t->plain.token);
    free(t->rest.node);
    free(t->rest.token);
    free(t->plain_bits);
    free(t->end);
    free(t);
}
