/* Masks: a walk along the tries with the sets of stacks beside it, a node a step. Where the stacks
 * say that any text of k characters may follow, all tokens of as many are taken at once. Masks
 * are kept by config, the latest first to be found.
 *
 * A mask has a budget (WORK, in states looked at). Single bytes come first, so what it cuts are
 * longer tokens, and since the stacks keep a way to the end at all times there is one in the mask.
 */
#include "grammar_int.h"

#include "tok_int.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

enum { WORK = 1 << 18, CACHED = 16, NO_CONFIG = UINT32_MAX };
enum { JUMP_BYTES = 128, BEFORE_BYTES = 64 /* of the last token, or it is not looked at */ };

struct grammar_match {
    const struct grammar *g;
    const struct grammar_tokens *t;
    struct grammar__stacks *s;
    uint16_t *need;  /* its own where the vocabulary lacks bytes, else NULL */
    uint32_t config; /* 0: ended */
    bool strip;      /* the next token loses its leading space */
    uint32_t *path;  /* [deepest token + 1] configs along a walk */
    struct {
        uint32_t config;
        uint64_t *bits;
    } cached[CACHED];
    unsigned next; /* to be replaced */
    int32_t last;  /* the token accepted last, TOK_NONE at first */
    struct tok__work work;
    struct tok_ids ids; /* of a jump */
};

/* Bytes of well-formed UTF-8 that no token of one byte produces. */
static bool lacks_bytes(const struct grammar_tokens *t)
{
    for (unsigned b = 0; b < 0xf5; b++)
        if (b != 0xc0 && b != 0xc1 && !(t->bytes[b >> 6] >> (b & 63) & 1)) return true;
    return false;
}

int grammar_match_open(struct grammar_match **out, const struct grammar *g,
                       const struct grammar_tokens *t, bool started, struct err *e)
{
    struct grammar_match *m = calloc(1, sizeof *m);
    size_t deepest = t->plain.depth > t->rest.depth ? t->plain.depth : t->rest.depth;
    if (!m) return err_nomem(e, sizeof *m, "a match");
    *m = (struct grammar_match){
        .g = g, .t = t, .strip = t->t->add_space && !started, .last = TOK_NONE};
    m->path = malloc((deepest + 1) * sizeof *m->path);
    m->cached[0].bits = malloc(CACHED * (t->n_words + 1) * sizeof *m->cached[0].bits);
    if (lacks_bytes(t)) {
        m->need = malloc(g->n_states * sizeof *m->need);
        if (!m->need || !grammar__needs(g, t->bytes, m->need)) goto fail;
        if (m->need[g->start[g->root]] == GRAMMAR__INF) {
            grammar_match_close(m);
            return err_set(e, ERR_UNSUPPORTED,
                           "the vocabulary has no tokens for what the grammar needs");
        }
    }
    m->s = grammar__stacks_open(g, m->need ? m->need : g->need);
    bool work = tok__work_open(&m->work, t->t, &m->ids, JUMP_BYTES + BEFORE_BYTES);
    if (!m->path || !m->cached[0].bits || !m->s || !work) goto fail;
    for (unsigned i = 0; i < CACHED; i++) {
        m->cached[i].config = NO_CONFIG;
        m->cached[i].bits = m->cached[0].bits + i * t->n_words;
    }
    m->config = grammar__stacks_start(m->s);
    *out = m;
    return 0;
fail:
    grammar_match_close(m);
    return err_nomem(e, g->n_bytes, "a match");
}

void grammar_match_close(struct grammar_match *m)
{
    if (!m) return;
    grammar__stacks_close(m->s);
    free(m->need);
    free(m->path);
    free(m->cached[0].bits);
    tok__work_close(&m->work);
    tok_ids_free(&m->ids);
    free(m);
}

/* Memory is used up: all but the current config, and another, is forgotten. */
static void forget(struct grammar_match *m, uint32_t *other)
{
    uint32_t keep[2] = {m->config, other ? *other : 0};
    grammar__stacks_keep(m->s, keep, other ? 2 : 1);
    m->config = keep[0];
    if (other) *other = keep[1];
    for (unsigned i = 0; i < CACHED; i++) m->cached[i].config = NO_CONFIG;
}

/* --- a mask --- */

struct walk {
    struct grammar_match *m;
    const struct grammar__trie *trie;
    uint64_t *bits, limit; /* of work */
    bool full;
};

static void allow(uint64_t *bits, const int32_t *token, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) bits[token[i] >> 6] |= 1ull << (token[i] & 63);
}

/* The nodes from..to, which have depths above `base`; m->path[base] is where they begin. */
static void walk(struct walk *w, uint32_t from, uint32_t to)
{
    struct grammar__stacks *s = w->m->s;
    const struct grammar__trie_node *node = w->trie->node;
    uint32_t *path = w->m->path;
    for (uint32_t i = from; i < to;) {
        if (w->full) return;
        uint32_t config = grammar__stacks_step(s, path[node[i].depth - 1], node[i].byte);
        w->full |= config == GRAMMAR__FULL || grammar__stacks_work(s) > w->limit;
        if (config == 0 || config == GRAMMAR__FULL) {
            i = node[i].skip;
            continue;
        }
        path[node[i].depth] = config;
        uint32_t last = i + 1;
        if (node[i].plain != GRAMMAR__NOT_PLAIN && grammar__stacks_run(s, config) >= node[i].plain)
            last = node[i].skip;
        allow(w->bits, w->trie->token + node[i].token, node[last].token - node[i].token);
        i = last;
    }
}

/* Single bytes alone, whatever they cost. */
static void walk_bytes(struct walk *w)
{
    const struct grammar__trie_node *node = w->trie->node;
    for (uint32_t i = 0; i < w->trie->n; i = node[i].skip) {
        uint32_t config = grammar__stacks_step(w->m->s, w->m->config, node[i].byte);
        if (config == GRAMMAR__FULL) {
            forget(w->m, NULL);
            config = grammar__stacks_step(w->m->s, w->m->config, node[i].byte);
        }
        if (config == 0 || config == GRAMMAR__FULL) continue;
        if (w->m->strip && node[i].byte == ' ') continue;
        allow(w->bits, w->trie->token + node[i].token, node[i + 1].token - node[i].token);
    }
}

static void walk_trie(struct walk *w)
{
    const struct grammar__trie_node *node = w->trie->node;
    w->m->path[0] = w->m->config;
    if (!w->m->strip) {
        walk(w, 0, w->trie->n);
        return;
    }
    for (uint32_t i = 0; i < w->trie->n; i = node[i].skip) {
        if (node[i].byte == ' ') {
            w->m->path[1] = w->m->config;
            walk(w, i + 1, node[i].skip);
        } else {
            walk(w, i, node[i].skip);
        }
    }
}

/* False: memory was used up. */
static bool fill(struct grammar_match *m, uint64_t *bits)
{
    uint64_t limit = grammar__stacks_work(m->s) + WORK;
    struct walk rest = {m, &m->t->rest, bits, limit, false};
    struct walk plain = {m, &m->t->plain, bits, limit, false};
    memset(bits, 0, m->t->n_words * sizeof *bits);
    walk_bytes(&rest);
    walk_bytes(&plain);
    if (!m->strip && grammar__stacks_run(m->s, m->config) >= m->t->plain_longest)
        memcpy(bits, m->t->plain_bits, m->t->n_words * sizeof *bits), walk_bytes(&rest);
    else
        walk_trie(&plain);
    walk_trie(&rest);
    if (grammar__stacks_may_end(m->s, m->config)) allow(bits, m->t->end, (uint32_t)m->t->n_end);
    return !(rest.full || plain.full) || grammar__stacks_work(m->s) > limit;
}

void grammar_match_mask(struct grammar_match *m, uint64_t *bits)
{
    size_t bytes = m->t->n_words * sizeof *bits;
    if (m->config == 0) {
        memset(bits, 0, bytes);
        allow(bits, m->t->end, (uint32_t)m->t->n_end);
        return;
    }
    for (unsigned i = 0; i < CACHED && !m->strip; i++) {
        if (m->cached[i].config != m->config) continue;
        memcpy(bits, m->cached[i].bits, bytes);
        return;
    }
    if (!fill(m, bits)) {
        forget(m, NULL);
        fill(m, bits);
    }
    if (m->strip) return;
    m->cached[m->next].config = m->config;
    memcpy(m->cached[m->next].bits, bits, bytes);
    m->next = (m->next + 1) % CACHED;
}

/* --- what was chosen --- */

bool grammar_match_accept(struct grammar_match *m, int32_t id)
{
    struct gguf_str p = grammar__tokens_piece(m->t, id);
    if (tok_is_end(m->t->t, id)) {
        if (!grammar_match_may_end(m)) return false;
        m->config = 0;
        return true;
    }
    if (m->strip && p.n && p.p[0] == ' ') p.p++, p.n--;
    uint32_t config = p.n ? m->config : 0;
    for (size_t i = 0; i < p.n && config; i++) {
        uint32_t next = grammar__stacks_step(m->s, config, (uint8_t)p.p[i]);
        if (next == GRAMMAR__FULL) {
            forget(m, &config);
            next = grammar__stacks_step(m->s, config, (uint8_t)p.p[i]);
        }
        config = next == GRAMMAR__FULL ? 0 : next;
    }
    if (!config) return false;
    m->config = config;
    m->strip = m->t->t->add_space && grammar__tokens_special(m->t, id);
    m->last = id;
    return true;
}

bool grammar_match_may_end(const struct grammar_match *m)
{
    return m->config && grammar__stacks_may_end(m->s, m->config);
}

bool grammar_match_must_end(const struct grammar_match *m)
{
    return !m->config || grammar__stacks_must_end(m->s, m->config);
}

size_t grammar_match_forced(struct grammar_match *m, char *out, size_t n)
{
    uint32_t config = m->config;
    uint64_t limit = grammar__stacks_work(m->s) + WORK; /* beyond it nothing is said to be forced */
    size_t k = 0, whole = 0;
    while (k < n && config && !grammar__stacks_may_end(m->s, config)) {
        uint32_t only = 0;
        unsigned ways = 0;
        for (unsigned b = 0; b < 256 && ways < 2; b++) {
            uint32_t next = grammar__stacks_step(m->s, config, (uint8_t)b);
            if (next == 0) continue;
            out[k] = (char)b;
            only = next;
            ways++;
        }
        if (ways != 1 || only == GRAMMAR__FULL || grammar__stacks_work(m->s) > limit) break;
        config = only;
        k++;
    }
    while (whole < k) {
        int c = unicode_length(out + whole, k - whole);
        if (c <= 0) break;
        whole += (size_t)c;
    }
    return whole;
}

/* Where the bytes of a token lead, which is no end; 0: nowhere, or memory is used up. */
static uint32_t after(const struct grammar_match *m, uint32_t config, struct gguf_str p)
{
    if (p.n == 0) return 0;
    for (size_t i = 0; i < p.n && config; i++) {
        config = grammar__stacks_step(m->s, config, (uint8_t)p.p[i]);
        if (config == GRAMMAR__FULL) return 0;
    }
    return config;
}

int grammar_match_allows(struct grammar_match *m, const int32_t *ids, int n)
{
    uint32_t config = m->config;
    for (int i = 0; i < n; i++) {
        if (m->strip || tok_is_end(m->t->t, ids[i])) return i;
        config = after(m, config, grammar__tokens_piece(m->t, ids[i]));
        if (!config) return i;
    }
    return n;
}

/* Is there a token that begins with s and goes on as config, which is where s leads, allows? */
static bool is_swallowed(const struct grammar_match *m, const struct grammar__trie *trie,
                         const char *s, size_t n, uint32_t config)
{
    const struct grammar__trie_node *node = trie->node;
    uint32_t i = 0, end = trie->n;
    for (size_t k = 0; k < n; k++) {
        while (i < end && node[i].byte != (uint8_t)s[k]) i = node[i].skip;
        if (i >= end) return false;
        end = node[i].skip;
        i++;
    }
    for (; i < end; i = node[i].skip)
        if (grammar__stacks_step(m->s, config, node[i].byte))
            return true; /* no memory: it may be */
    return false;
}

/* The ids of n bytes that follow the last token, in m->ids; returns how many of them, from which on. */
static size_t encode(struct grammar_match *m, const char *s, size_t n, const int32_t **ids)
{
    char both[BEFORE_BYTES + JUMP_BYTES];
    struct gguf_str last = {"", 0};
    if (m->last != TOK_NONE) last = grammar__tokens_piece(m->t, m->last);
    if (last.n > BEFORE_BYTES) last.n = 0;
    memcpy(both, last.p, last.n);
    memcpy(both + last.n, s, n);
    if (!tok__encode_on(&m->work, both, last.n + n)) return 0;
    bool follows = last.n > 0 && m->ids.len > 1 && m->ids.data[0] == m->last;
    if (last.n > 0 && !follows) { /* the two are not what the tokenizer would have written anyway */
        if (!tok__encode_on(&m->work, s, n)) return 0;
    }
    *ids = m->ids.data + follows; /* not before: it may have moved */
    return m->ids.len - follows;
}

int grammar_match_jump(struct grammar_match *m, int32_t *ids, int n)
{
    char bytes[JUMP_BYTES];
    const int32_t *all;
    size_t n_bytes = m->strip ? 0 : grammar_match_forced(m, bytes, sizeof bytes);
    if (n_bytes == 0) return 0;
    uint32_t end = after(m, m->config, (struct gguf_str){bytes, n_bytes});
    size_t n_all = encode(m, bytes, n_bytes, &all), at = 0;
    int k = 0;
    for (; k < n && (size_t)k < n_all && end; k++) {
        struct gguf_str p = grammar__tokens_piece(m->t, all[k]);
        if (p.n == 0 || p.n > n_bytes - at || memcmp(p.p, bytes + at, p.n) != 0) break;
        if (grammar__tokens_special(m->t, all[k])) break;
        if (is_swallowed(m, &m->t->plain, bytes + at, n_bytes - at, end) ||
            is_swallowed(m, &m->t->rest, bytes + at, n_bytes - at, end))
            break;
        ids[k] = all[k];
        at += p.n;
    }
    return k;
}
