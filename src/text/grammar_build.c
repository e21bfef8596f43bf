/* Nodes, and nodes -> states, from the end to the beginning: what follows is there already when
 * something is made. A repetition repeats its states; where that is more than a few they become a
 * rule, and it repeats the call. Sets of characters become the byte sequences of UTF-8, which
 * share their ends.
 */
#include "grammar_int.h"

#include "unicode.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAST = 0x10ffff, SETS = 1 << 14, INLINE_WEIGHT = 3, RANGES = 1 << 14 };

typedef struct grammar__build B;

void grammar__begin(B *b, struct err *e)
{
    *b = (B){.arena = ARENA_INIT(GRAMMAR__NODES_BYTES),
             .e = e,
             .string_char = MAP_NONE,
             .any = MAP_NONE};
}

grammar__n *grammar__fail(B *b, int code, const char *fmt, ...)
{
    va_list ap;
    char msg[sizeof b->e->msg];
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (!b->failed) err_set(b->e, code, "%s", msg);
    b->failed = true;
    return NULL;
}

static grammar__n *no_memory(B *b)
{
    if (b->arena.used > GRAMMAR__NODES_BYTES / 2)
        return grammar__fail(b, ERR_LIMIT, "the grammar is too large");
    return grammar__fail(b, ERR_MEMORY, "out of memory for a grammar");
}

static struct grammar__node *node(B *b, enum grammar__kind kind)
{
    struct grammar__node *x = b->failed ? NULL : arena_alloc(&b->arena, 1, sizeof *x);
    if (!x) return no_memory(b), NULL;
    x->kind = (uint8_t)kind;
    return x;
}

grammar__n *grammar__bytes(B *b, const char *s, size_t n)
{
    struct grammar__node *x = node(b, GRAMMAR__TEXT);
    if (!x) return NULL;
    x->text = arena_strndup(&b->arena, s, n);
    x->n = n;
    x->weight = (uint32_t)n;
    return x->text ? x : no_memory(b);
}

grammar__n *grammar__lit(B *b, const char *s)
{
    return grammar__bytes(b, s, strlen(s));
}

grammar__n *grammar__empty(B *b)
{
    return grammar__list(b, GRAMMAR__SEQ, NULL, 0);
}

grammar__n *grammar__none(B *b)
{
    return grammar__list(b, GRAMMAR__ALT, NULL, 0);
}

bool grammar__is_none(grammar__n *n)
{
    return n && n->kind == GRAMMAR__ALT && n->n == 0;
}

static bool nested(B *b, struct grammar__node *x, grammar__n *kid)
{
    if (kid->nesting >= x->nesting) x->nesting = (uint16_t)(kid->nesting + 1);
    x->weight += kid->weight;
    if (x->weight > GRAMMAR__STATES) x->weight = GRAMMAR__STATES;
    if (x->nesting < GRAMMAR__NESTING) return true;
    grammar__fail(b, ERR_LIMIT, "the grammar is nested too deep, at most %d", GRAMMAR__NESTING);
    return false;
}

grammar__n *grammar__list(B *b, enum grammar__kind kind, grammar__n *const *kid, size_t n)
{
    if (n == 1) return kid[0];
    struct grammar__node *x = node(b, kind);
    if (!x) return NULL;
    x->kid = arena_alloc(&b->arena, n ? n : 1, sizeof *x->kid);
    if (!x->kid) return no_memory(b);
    for (size_t i = 0; i < n; i++) {
        if (!kid[i] || !nested(b, x, kid[i])) return NULL;
        if (kind == GRAMMAR__ALT && grammar__is_none(kid[i])) continue;
        if (kind == GRAMMAR__SEQ && grammar__is_none(kid[i])) return kid[i];
        x->kid[x->n++] = kid[i];
        x->covers |= kind == GRAMMAR__ALT && kid[i]->covers;
    }
    x->weight += kind == GRAMMAR__ALT ? (uint32_t)x->n : 0;
    return x->n == 1 ? x->kid[0] : x;
}

grammar__n *grammar__two(B *b, enum grammar__kind kind, grammar__n *x, grammar__n *y)
{
    grammar__n *kid[] = {x, y};
    return grammar__list(b, kind, kid, 2);
}

void grammar__parts_add(B *b, struct grammar__parts *p, grammar__n *x)
{
    if (p->n == p->room) {
        size_t room = p->room ? p->room * 2 : 8;
        void *kid = b->failed ? NULL : realloc(p->kid, room * sizeof *p->kid);
        if (!kid) {
            no_memory(b);
            return;
        }
        p->kid = kid, p->room = room;
    }
    p->kid[p->n++] = x;
}

grammar__n *grammar__parts_node(B *b, enum grammar__kind kind, struct grammar__parts *p)
{
    grammar__n *x = b->failed ? NULL : grammar__list(b, kind, p->kid, p->n);
    free(p->kid);
    *p = (struct grammar__parts){0};
    return x;
}

grammar__n *grammar__rep(B *b, grammar__n *kid, uint32_t min, uint32_t max)
{
    if (!kid) return NULL;
    if (grammar__is_none(kid) && min == 0) return grammar__empty(b);
    if (grammar__is_none(kid) || (min == 1 && max == 1)) return kid;
    if (min > max) return grammar__none(b);
    if (max == 0) return grammar__empty(b);
    struct grammar__node *x = node(b, GRAMMAR__REP);
    if (!x || !nested(b, x, kid)) return NULL;
    x->kid = arena_alloc(&b->arena, 1, sizeof *x->kid);
    if (!x->kid) return no_memory(b);
    x->kid[0] = kid;
    x->n = 1;
    x->min = min, x->max = max;
    x->covers = kid->covers && min <= 1;
    uint64_t copies = max == GRAMMAR__ENDLESS ? (uint64_t)min + 1 : max;
    uint64_t weight = copies * (1 + (kid->weight > INLINE_WEIGHT ? 1 : kid->weight)) + kid->weight;
    x->weight = weight > GRAMMAR__STATES ? GRAMMAR__STATES : (uint32_t)weight;
    return x;
}

grammar__n *grammar__opt(B *b, grammar__n *x)
{
    return grammar__rep(b, x, 0, 1);
}

/* Doubles an array for the n-th element. */
static bool grow(void **p, uint32_t n, uint32_t *room, size_t size)
{
    if (n < *room) return true;
    uint32_t more = *room ? *room * 2 : 64;
    void *q = realloc(*p, more * size);
    if (!q) return false;
    *p = q, *room = more;
    return true;
}

uint32_t grammar__rule(B *b, const char *name)
{
    if (b->failed) return MAP_NONE;
    if (b->n_rules == GRAMMAR__RULES) {
        grammar__fail(b, ERR_LIMIT, "the grammar has more than %d rules", GRAMMAR__RULES);
        return MAP_NONE;
    }
    if (b->n_rules == b->rules_room) {
        uint32_t room = b->rules_room, again = room;
        bool ok = grow((void **)&b->rule, b->n_rules, &room, sizeof *b->rule) &&
                  grow((void **)&b->name, b->n_rules, &again, sizeof *b->name);
        if (!ok) return no_memory(b), MAP_NONE;
        b->rules_room = room;
    }
    b->rule[b->n_rules] = NULL;
    b->name[b->n_rules] = name ? arena_strndup(&b->arena, name, strlen(name)) : NULL;
    return b->n_rules++;
}

void grammar__define(B *b, uint32_t rule, grammar__n *body)
{
    if (rule != MAP_NONE) b->rule[rule] = body;
}

grammar__n *grammar__call(B *b, uint32_t rule)
{
    struct grammar__node *x = rule == MAP_NONE ? NULL : node(b, GRAMMAR__RULE);
    if (!x) return NULL;
    x->min = rule;
    x->weight = 1;
    x->covers = b->rule[rule] && b->rule[rule]->covers;
    return x;
}

/* Characters */

void grammar__chars_add(struct grammar__chars *c, uint32_t first, uint32_t last)
{
    if (c->failed || first > last || last > LAST) return;
    if (c->n == c->room) {
        size_t room = c->room ? c->room * 2 : 16;
        void *p = room <= RANGES ? realloc(c->range, room * sizeof *c->range) : NULL;
        c->failed = !p;
        if (!p) return;
        c->range = p, c->room = room;
    }
    c->range[c->n][0] = first;
    c->range[c->n++][1] = last;
}

static int by_first(const void *x, const void *y)
{
    const uint32_t *p = x, *q = y;
    return (p[0] > q[0]) - (p[0] < q[0]);
}

static void tidy(struct grammar__chars *c)
{
    size_t n = 0;
    if (c->n) qsort(c->range, c->n, sizeof *c->range, by_first);
    for (size_t i = 0; i < c->n; i++) {
        if (n && c->range[i][0] <= c->range[n - 1][1] + 1) {
            if (c->range[i][1] > c->range[n - 1][1]) c->range[n - 1][1] = c->range[i][1];
        } else {
            memmove(c->range[n++], c->range[i], sizeof *c->range);
        }
    }
    c->n = n;
}

void grammar__chars_not(struct grammar__chars *c)
{
    struct grammar__chars other = {.failed = c->failed};
    uint32_t next = 0;
    tidy(c);
    for (size_t i = 0; i < c->n; i++) {
        if (c->range[i][0] > next) grammar__chars_add(&other, next, c->range[i][0] - 1);
        next = c->range[i][1] + 1;
    }
    grammar__chars_add(&other, next, LAST);
    free(c->range);
    *c = other;
}

static const uint32_t gaps[][2] = {{0, 0x1f},    {'"', '"'},       {'\\', '\\'},
                                   {0x7f, 0x7f}, {0x2028, 0x2029}, {0xd800, 0xdfff}};

bool grammar__is_plain(uint32_t code)
{
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++)
        if (code >= gaps[i][0] && code <= gaps[i][1]) return false;
    return true;
}

/* All plain characters are in the sorted set. */
static bool covers_plain(const struct grammar__chars *c)
{
    uint32_t next = 0; /* what is before it is covered or a gap */
    size_t i = 0, gap = 0, n_gaps = sizeof gaps / sizeof *gaps;
    while (next <= LAST) {
        if (gap < n_gaps && next >= gaps[gap][0] && next <= gaps[gap][1])
            next = gaps[gap++][1] + 1;
        else if (gap < n_gaps && next > gaps[gap][1])
            gap++;
        else if (i < c->n && next > c->range[i][1])
            i++;
        else if (i < c->n && next >= c->range[i][0])
            next = c->range[i++][1] + 1;
        else
            return false;
    }
    return true;
}

/* The part of a sorted set between two characters. */
static grammar__n *ranges(B *b, const struct grammar__chars *c, uint32_t first, uint32_t last)
{
    struct grammar__node *x = node(b, GRAMMAR__RANGE);
    if (!x) return NULL;
    x->range = arena_alloc(&b->arena, c->n ? c->n : 1, sizeof *x->range);
    if (!x->range) return no_memory(b);
    for (size_t i = 0; i < c->n; i++) {
        uint32_t low = c->range[i][0] > first ? c->range[i][0] : first;
        uint32_t high = c->range[i][1] < last ? c->range[i][1] : last;
        if (low > high || (low >= 0xd800 && high <= 0xdfff)) continue;
        x->range[x->n][0] = low;
        x->range[x->n++][1] = high;
    }
    x->weight = (uint32_t)x->n + (x->n && x->range[x->n - 1][1] > 0x7f ? 8 : 0);
    return x->n ? x : grammar__none(b);
}

static bool in(const struct grammar__chars *c, uint32_t code)
{
    for (size_t i = 0; i < c->n; i++)
        if (code >= c->range[i][0] && code <= c->range[i][1]) return true;
    return false;
}

/* What JSON strings may hold as it is, and the shortest escapes of the rest. */
static grammar__n *json_chars(B *b, const struct grammar__chars *c)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    grammar__n *part[3 + 34];
    size_t n = 0;
    part[n++] = ranges(b, c, 0x20, 0x21);
    part[n++] = ranges(b, c, 0x23, 0x5b);
    part[n++] = ranges(b, c, 0x5d, LAST);
    for (uint32_t code = 0; code <= '\\'; code++) {
        if ((code >= 0x20 && code != '"' && code != '\\') || !in(c, code)) continue;
        char text[8];
        const char *at = code ? memchr(shorts, (int)code, sizeof shorts - 1) : NULL;
        if (at && (at - shorts) % 2 == 0)
            snprintf(text, sizeof text, "\\%c", at[1]);
        else
            snprintf(text, sizeof text, "\\u%04x", (unsigned)code);
        part[n++] = grammar__lit(b, text);
    }
    return grammar__list(b, GRAMMAR__ALT, part, n);
}

grammar__n *grammar__chars_node(B *b, struct grammar__chars *c, bool json)
{
    tidy(c);
    grammar__n *x = NULL;
    if (c->failed)
        no_memory(b);
    else
        x = json ? json_chars(b, c) : ranges(b, c, 0, LAST);
    if (x && x->n && covers_plain(c)) ((struct grammar__node *)x)->covers = true;
    free(c->range);
    *c = (struct grammar__chars){0};
    return x;
}

/* States. 0 stands for failure: no state leads to END but RET of the root. */

static uint32_t state(B *b, enum grammar__op op, uint32_t x, uint32_t y)
{
    if (b->failed) return 0;
    if (b->n_states == GRAMMAR__STATES) {
        grammar__fail(b, ERR_LIMIT, "the grammar has more than %d states", GRAMMAR__STATES);
        return 0;
    }
    if (!grow((void **)&b->state, b->n_states, &b->states_room, sizeof *b->state))
        return no_memory(b), 0;
    b->state[b->n_states] = (struct grammar__state){(uint8_t)op, 0, x, y};
    return b->n_states++;
}

static uint32_t bytes_state(B *b, const uint64_t set[4], uint32_t next)
{
    bool ok = true;
    uint32_t id = map_get(&b->sets, set, sizeof *b->set);
    if (id == MAP_NONE) {
        if (b->n_sets == SETS) {
            grammar__fail(b, ERR_LIMIT, "the grammar has more than %d sets of bytes", SETS);
            return 0;
        }
        uint64_t *key = arena_alloc(&b->arena, 1, sizeof *b->set);
        if (!key || !grow((void **)&b->set, b->n_sets, &b->sets_room, sizeof *b->set))
            return no_memory(b), 0;
        memcpy(key, set, sizeof *b->set);
        memcpy(b->set[b->n_sets], set, sizeof *b->set);
        id = b->n_sets++;
        map_put(&b->sets, key, sizeof *b->set, id, &ok);
        if (!ok) return no_memory(b), 0;
    }
    return state(b, GRAMMAR__BYTE, id, next);
}

static void set_range(uint64_t set[4], unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) set[i >> 6] |= 1ull << (i & 63);
}

/* The sequences of one RANGE on their way to states. */
struct utf8 {
    B *b;
    uint32_t next;
    struct {
        uint32_t key[3], state; /* first, last byte, what follows */
    } end[32];                  /* the latest; others are made again */
    size_t n_end;
    struct {
        uint64_t set[4];
        uint32_t next;
    } * head; /* what begins a sequence, one a state that follows */
    size_t n_head, room;
};

static uint32_t utf8_tail(struct utf8 *u, const unsigned char *low, const unsigned char *high,
                          int n)
{
    if (n == 0) return u->next;
    uint32_t next = utf8_tail(u, low + 1, high + 1, n - 1);
    uint32_t key[3] = {low[0], high[0], next};
    size_t known = u->n_end < 32 ? u->n_end : 32;
    for (size_t i = 0; i < known; i++)
        if (memcmp(u->end[i].key, key, sizeof key) == 0) return u->end[i].state;
    uint64_t set[4] = {0};
    set_range(set, low[0], high[0]);
    uint32_t made = bytes_state(u->b, set, next);
    memcpy(u->end[u->n_end % 32].key, key, sizeof key);
    u->end[u->n_end++ % 32].state = made;
    return made;
}

static void utf8_put(struct utf8 *u, uint32_t first, uint32_t last)
{
    unsigned char low[4], high[4];
    int n = unicode_put(first, (char *)low);
    unicode_put(last, (char *)high);
    uint32_t next = utf8_tail(u, low + 1, high + 1, n - 1);
    size_t i = 0;
    while (i < u->n_head && u->head[i].next != next) i++;
    if (i == u->n_head) {
        if (u->n_head == u->room) {
            size_t room = u->room ? u->room * 2 : 16;
            void *p = realloc(u->head, room * sizeof *u->head);
            if (!p) {
                no_memory(u->b);
                return;
            }
            u->head = p, u->room = room;
        }
        memset(&u->head[u->n_head], 0, sizeof *u->head);
        u->head[u->n_head++].next = next;
    }
    set_range(u->head[i].set, low[0], high[0]);
}

/* Cuts a range where the bytes of a sequence would not vary independently. */
static void utf8_split(struct utf8 *u, uint32_t first, uint32_t last)
{
    static const uint32_t cuts[] = {0x80, 0x800, 0xd800, 0xe000, 0x10000};
    if (first > last || u->b->failed) return;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        if (first < cuts[i] && last >= cuts[i]) {
            utf8_split(u, first, cuts[i] - 1);
            utf8_split(u, cuts[i], last);
            return;
        }
    }
    if (first >= 0xd800 && last < 0xe000) return;
    int n = first < 0x80 ? 1 : first < 0x800 ? 2 : first < 0x10000 ? 3 : 4;
    for (int i = 1; i < n; i++) {
        uint32_t m = (1u << 6 * i) - 1;
        if ((first & ~m) == (last & ~m)) continue;
        if (first & m) {
            utf8_split(u, first, first | m);
            utf8_split(u, (first | m) + 1, last);
            return;
        }
        if ((last & m) != m) {
            utf8_split(u, first, (last & ~m) - 1);
            utf8_split(u, last & ~m, last);
            return;
        }
    }
    utf8_put(u, first, last);
}

static uint32_t range_states(B *b, grammar__n *x, uint32_t next)
{
    struct utf8 u = {.b = b, .next = next};
    for (size_t i = 0; i < x->n; i++) utf8_split(&u, x->range[i][0], x->range[i][1]);
    uint32_t s = 0;
    for (size_t i = u.n_head; i-- > 0 && !b->failed;) {
        uint32_t head = bytes_state(b, u.head[i].set, u.head[i].next);
        s = i + 1 == u.n_head ? head : state(b, GRAMMAR__SPLIT, head, s);
    }
    free(u.head);
    return s;
}

static uint32_t states(B *b, grammar__n *x, uint32_t next);

static void set_run(B *b, grammar__n *x, uint32_t s, uint32_t run)
{
    if (x->covers && !b->failed)
        b->state[s].run = (uint16_t)(run < GRAMMAR__INF ? run : GRAMMAR__INF);
}

static uint32_t rep_states(B *b, grammar__n *x, uint32_t next)
{
    grammar__n *kid = x->kid[0];
    uint32_t copies = x->max == GRAMMAR__ENDLESS ? x->min : x->max;
    if (copies > 1 && kid->weight > INLINE_WEIGHT) {
        uint32_t rule = grammar__rule(b, NULL);
        grammar__define(b, rule, kid);
        kid = grammar__call(b, rule);
        if (!kid) return 0;
    }
    uint32_t s = next;
    if (x->max == GRAMMAR__ENDLESS) {
        s = state(b, GRAMMAR__SPLIT, 0, next);
        uint32_t body = states(b, kid, s);
        if (b->failed) return 0;
        b->state[s].a = body;
        set_run(b, kid, body, GRAMMAR__ENDLESS);
    }
    for (uint32_t i = x->min; i < x->max && x->max != GRAMMAR__ENDLESS && !b->failed; i++) {
        uint32_t body = states(b, kid, s);
        set_run(b, kid, body, i - x->min + 1);
        s = state(b, GRAMMAR__SPLIT, body, next);
    }
    for (uint32_t i = 0; i < x->min && !b->failed; i++) {
        s = states(b, kid, s);
        set_run(b, kid, s, x->max == GRAMMAR__ENDLESS ? x->max : x->max - x->min + i + 1);
    }
    return s;
}

static uint32_t alt_states(B *b, grammar__n *x, uint32_t next)
{
    /* An alternative of none at all is a call of a rule that never ends. */
    if (x->n == 0) {
        uint32_t rule = grammar__rule(b, NULL);
        grammar__define(b, rule, grammar__call(b, rule));
        return rule == MAP_NONE ? 0 : state(b, GRAMMAR__CALL, rule, next);
    }
    uint32_t s = states(b, x->kid[x->n - 1], next);
    for (size_t i = x->n - 1; i-- > 0 && !b->failed;)
        s = state(b, GRAMMAR__SPLIT, states(b, x->kid[i], next), s);
    return s;
}

static uint32_t states(B *b, grammar__n *x, uint32_t next)
{
    if (b->failed) return 0;
    switch ((enum grammar__kind)x->kind) {
    case GRAMMAR__TEXT:
        for (size_t i = x->n; i-- > 0 && !b->failed;) {
            uint64_t set[4] = {0};
            set_range(set, (unsigned char)x->text[i], (unsigned char)x->text[i]);
            next = bytes_state(b, set, next);
        }
        return next;
    case GRAMMAR__RANGE: return range_states(b, x, next);
    case GRAMMAR__SEQ:
        for (size_t i = x->n; i-- > 0;) next = states(b, x->kid[i], next);
        return next;
    case GRAMMAR__ALT: return alt_states(b, x, next);
    case GRAMMAR__REP: return rep_states(b, x, next);
    case GRAMMAR__RULE: return state(b, GRAMMAR__CALL, x->min, next);
    }
    assert(!"kind of a node");
    return 0;
}

bool grammar__compile(B *b, uint32_t **start)
{
    uint32_t room = 0;
    *start = NULL;
    if (!map_init(&b->sets, 64)) return no_memory(b), false;
    state(b, GRAMMAR__END, 0, 0);
    state(b, GRAMMAR__RET, 0, 0);
    for (uint32_t r = 0; r < b->n_rules && !b->failed; r++) { /* rules are added on the way */
        if (!grow((void **)start, r, &room, sizeof **start)) return no_memory(b), false;
        grammar__n *body = b->rule[r];
        if (!body)
            grammar__fail(b, ERR_FORMAT, "rule %s is not defined", b->name[r] ? b->name[r] : "?");
        else
            (*start)[r] = states(b, body, GRAMMAR__RET);
    }
    return !b->failed;
}
