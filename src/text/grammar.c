/* States -> a grammar, and what is known of it before the first byte: which bytes no set tells apart,
 * which rules may be empty, how deep each state's way to the end is, and an order of the rules in
 * which callers come before what they call without having read a byte. Where there is no such order
 * the grammar is left-recursive and refused. All of it is linear in the states and edges.
 */
#include "grammar_int.h"

#include <stdlib.h>
#include <string.h>

typedef struct grammar__build B;

static bool classes(struct grammar *g)
{
    unsigned n = 1;
    for (uint32_t i = 0; i < g->n_sets; i++) {
        uint16_t seen[512]; /* of (class, in the set): the class from now on, plus one */
        unsigned next = 0;
        memset(seen, 0, sizeof seen);
        for (unsigned c = 0; c < 256; c++) {
            unsigned key = g->class[c] * 2u + (g->bytes[i][c >> 6] >> (c & 63) & 1);
            if (!seen[key]) seen[key] = (uint16_t)++next;
            g->class[c] = (uint8_t)(seen[key] - 1);
        }
        n = next;
        if (n == 256) break;
    }
    g->n_classes = n;
    g->set = calloc(g->n_sets ? g->n_sets : 1, sizeof *g->set);
    if (!g->set) return false;
    for (uint32_t i = 0; i < g->n_sets; i++)
        for (unsigned c = 0; c < 256; c++)
            if (g->bytes[i][c >> 6] >> (c & 63) & 1)
                g->set[i][g->class[c] >> 6] |= 1ull << (g->class[c] & 63);
    return true;
}

/* Values that states have from those of the states they lead to, smallest first (Knuth 1977). */
struct flow {
    const struct grammar *g;
    const uint64_t *bytes;  /* NULL: all */
    bool empty;             /* what may be empty: no byte is ever read */
    uint16_t *value;        /* [n_states] */
    uint32_t *first, *from; /* who leads to a state: from[first[s]..first[s + 1]) */
    uint32_t *now, *later;
    uint32_t n_now, n_later;
};

static uint16_t value_of(const struct flow *f, const struct grammar__state *s)
{
    const uint16_t *v = f->value;
    switch ((enum grammar__op)s->op) {
    case GRAMMAR__END: return f->empty ? GRAMMAR__INF : 0;
    case GRAMMAR__RET: return 0;
    case GRAMMAR__SPLIT: return v[s->a] < v[s->b] ? v[s->a] : v[s->b];
    case GRAMMAR__BYTE:
        for (int i = 0; i < 4 && !f->empty; i++)
            if (f->g->bytes[s->a][i] & (f->bytes ? f->bytes[i] : UINT64_MAX)) return v[s->b];
        return GRAMMAR__INF;
    case GRAMMAR__CALL: {
        uint32_t start = v[f->g->start[s->a]], back = v[s->b];
        if (start == GRAMMAR__INF || back == GRAMMAR__INF) return GRAMMAR__INF;
        start += !f->empty && s->b != GRAMMAR__RET;
        return (uint16_t)(start > back ? start : back);
    }
    }
    return GRAMMAR__INF;
}

/* The states that s leads to, at most 2. */
static int leads_to(const struct grammar *g, const struct grammar__state *s, uint32_t to[2])
{
    switch ((enum grammar__op)s->op) {
    case GRAMMAR__SPLIT: to[0] = s->a, to[1] = s->b; return 2;
    case GRAMMAR__BYTE: to[0] = s->b; return 1;
    case GRAMMAR__CALL: to[0] = g->start[s->a], to[1] = s->b; return 2;
    case GRAMMAR__END:
    case GRAMMAR__RET: break;
    }
    return 0;
}

static bool edges(struct flow *f)
{
    const struct grammar *g = f->g;
    uint32_t to[2], n = g->n_states;
    f->first = calloc(n + 2, sizeof *f->first);
    f->from = malloc(2 * (size_t)n * sizeof *f->from);
    f->now = malloc((2 * (size_t)n + 2) * sizeof *f->now);
    f->later = malloc((2 * (size_t)n + 2) * sizeof *f->later);
    if (!f->first || !f->from || !f->now || !f->later) return false;
    for (uint32_t s = 0; s < n; s++)
        for (int k = leads_to(g, &g->state[s], to); k-- > 0;) f->first[to[k] + 2]++;
    for (uint32_t s = 0; s < n; s++) f->first[s + 2] += f->first[s + 1];
    for (uint32_t s = 0; s < n; s++)
        for (int k = leads_to(g, &g->state[s], to); k-- > 0;) f->from[f->first[to[k] + 1]++] = s;
    return true;
}

static void settle(struct flow *f)
{
    f->now[f->n_now++] = GRAMMAR__RET;
    f->now[f->n_now++] = GRAMMAR__END;
    for (uint16_t level = 0; f->n_now && level <= GRAMMAR_DEPTH_MAX; level++) {
        while (f->n_now) {
            uint32_t s = f->now[--f->n_now];
            if (f->value[s] != GRAMMAR__INF) continue;
            f->value[s] = level;
            for (uint32_t i = f->first[s]; i < f->first[s + 1]; i++) {
                uint32_t p = f->from[i];
                uint16_t v =
                    f->value[p] == GRAMMAR__INF ? value_of(f, &f->g->state[p]) : GRAMMAR__INF;
                if (v == GRAMMAR__INF) continue;
                if (v <= level)
                    f->now[f->n_now++] = p;
                else
                    f->later[f->n_later++] = p;
            }
        }
        uint32_t *swap = f->now;
        f->now = f->later, f->n_now = f->n_later;
        f->later = swap, f->n_later = 0;
    }
}

static bool flow(const struct grammar *g, const uint64_t *bytes, bool empty, uint16_t *value)
{
    struct flow f = {.g = g, .bytes = bytes, .empty = empty, .value = value};
    bool ok = edges(&f);
    memset(value, 0xff, g->n_states * sizeof *value);
    if (ok) settle(&f);
    if (empty) value[GRAMMAR__END] = GRAMMAR__INF;
    free(f.first);
    free(f.from);
    free(f.now);
    free(f.later);
    return ok;
}

bool grammar__needs(const struct grammar *g, const uint64_t bytes[4], uint16_t *need)
{
    return flow(g, bytes, false, need);
}

/* The rules that each rule may call before it reads a byte: callee[first[r]..first[r + 1]). */
struct calls {
    uint32_t *first, *callee, *stack, *seen;
    uint32_t n, room;
};

static bool calls_of(const struct grammar *g, struct calls *c, uint32_t rule)
{
    uint32_t n = 0;
    c->stack[n++] = g->start[rule];
    while (n) {
        uint32_t at = c->stack[--n];
        const struct grammar__state *s = &g->state[at];
        if (c->seen[at] == rule + 1 || g->need[at] == GRAMMAR__INF) continue;
        c->seen[at] = rule + 1;
        if (s->op == GRAMMAR__SPLIT) {
            c->stack[n++] = s->b;
            c->stack[n++] = s->a;
        } else if (s->op == GRAMMAR__CALL) {
            if (c->n == c->room) {
                uint32_t room = c->room ? c->room * 2 : 64;
                void *p = realloc(c->callee, room * sizeof *c->callee);
                if (!p) return false;
                c->callee = p, c->room = room;
            }
            c->callee[c->n++] = s->a;
            if (g->nullable[s->a]) c->stack[n++] = s->b;
        }
    }
    return true;
}

/* Depth first; a rule is in `order` once all it calls are. Returns a rule that calls itself, or
 * MAP_NONE. */
static uint32_t sort_rules(struct grammar *g, struct calls *c)
{
    enum { NEW, OPEN, DONE };
    uint32_t *next = c->seen, done = g->n_rules; /* `seen` has room for the rules' next edges */
    uint8_t *mark = calloc(g->n_rules, 1);
    if (!mark) return MAP_NONE - 1;
    uint32_t found = MAP_NONE;
    for (uint32_t r = 0; r < g->n_rules; r++) next[r] = c->first[r];
    for (uint32_t r = 0; r < g->n_rules && found == MAP_NONE; r++) {
        uint32_t n = 0;
        if (mark[r] == NEW) c->stack[n++] = r, mark[r] = OPEN;
        while (n && found == MAP_NONE) {
            uint32_t top = c->stack[n - 1];
            if (next[top] == c->first[top + 1]) {
                mark[top] = DONE;
                g->order[top] = --done;
                g->rule_at[done] = top;
                n--;
                continue;
            }
            uint32_t to = c->callee[next[top]++];
            if (mark[to] == OPEN) found = to;
            if (mark[to] == NEW) c->stack[n++] = to, mark[to] = OPEN;
        }
    }
    free(mark);
    return found;
}

static int order(struct grammar *g, const B *b, struct err *e)
{
    uint32_t n = g->n_states + g->n_rules + 1, bad = MAP_NONE - 1;
    struct calls c = {.first = calloc(g->n_rules + 1, sizeof *c.first),
                      .stack = malloc(2 * (size_t)n * sizeof *c.stack),
                      .seen = calloc(n, sizeof *c.seen)};
    bool ok = c.first && c.stack && c.seen;
    for (uint32_t r = 0; r < g->n_rules && ok; r++) {
        ok = calls_of(g, &c, r);
        c.first[r + 1] = c.n;
    }
    if (ok) bad = sort_rules(g, &c);
    free(c.first);
    free(c.callee);
    free(c.stack);
    free(c.seen);
    if (bad == MAP_NONE) return 0;
    if (bad == MAP_NONE - 1) return err_nomem(e, 8ull * n, "a grammar");
    const char *name = b->name[bad] ? b->name[bad] : "of a repetition";
    return err_set(e, ERR_UNSUPPORTED,
                   "rule %s is left-recursive: it calls itself before it reads a byte", name);
}

static int analyse(struct grammar *g, const B *b, struct err *e)
{
    size_t n = g->n_states;
    g->need = malloc(n * sizeof *g->need);
    g->nullable = calloc(g->n_rules, sizeof *g->nullable);
    g->order = calloc(g->n_rules, sizeof *g->order);
    g->rule_at = calloc(g->n_rules, sizeof *g->rule_at);
    if (!g->need || !g->nullable || !g->order || !g->rule_at || !classes(g) ||
        !flow(g, NULL, true, g->need))
        return err_nomem(e, n, "a grammar");
    for (uint32_t r = 0; r < g->n_rules; r++) g->nullable[r] = g->need[g->start[r]] != GRAMMAR__INF;
    if (!flow(g, NULL, false, g->need)) return err_nomem(e, n, "a grammar");
    if (g->need[g->start[g->root]] == GRAMMAR__INF)
        return err_set(e, ERR_FORMAT,
                       "nothing satisfies the grammar, or only what nests deeper than %d",
                       GRAMMAR_DEPTH_MAX);
    g->n_bytes = sizeof *g + n * (sizeof *g->state + sizeof *g->need) +
                 g->n_rules * (sizeof *g->start + 2 * sizeof *g->order + sizeof *g->nullable) +
                 g->n_sets * (sizeof *g->set + sizeof *g->bytes);
    return order(g, b, e);
}

/* What only the builder needs. */
static void release(B *b)
{
    arena_free(&b->arena);
    map_free(&b->sets);
    free(b->rule);
    free(b->name);
    free(b->state);
    free(b->set);
}

int grammar__finish(B *b, uint32_t root, struct grammar **out)
{
    struct err *e = b->e;
    uint32_t *start = NULL;
    struct grammar *g = calloc(1, sizeof *g);
    int r = 0;
    if (!g) grammar__fail(b, ERR_MEMORY, "out of memory for a grammar");
    if (b->failed || !grammar__compile(b, &start)) {
        free(start);
        grammar_close(g);
        release(b);
        return e->code;
    }
    *g = (struct grammar){.state = b->state,
                          .n_states = b->n_states,
                          .start = start,
                          .n_rules = b->n_rules,
                          .bytes = b->set,
                          .n_sets = b->n_sets,
                          .root = root};
    b->state = NULL, b->set = NULL;
    r = analyse(g, b, e);
    release(b);
    if (r) {
        grammar_close(g);
        return r;
    }
    *out = g;
    return 0;
}

void grammar_close(struct grammar *g)
{
    if (!g) return;
    free(g->state);
    free(g->start);
    free(g->order);
    free(g->rule_at);
    free(g->nullable);
    free(g->need);
    free(g->set);
    free(g->bytes);
    free(g);
}

size_t grammar_bytes(const struct grammar *g)
{
    return g->n_bytes;
}
