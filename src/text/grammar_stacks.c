/* Sets of stacks and the step over one byte. A stack is a state and a tail; a tail is a set of frames; a
 * frame is a state to return to and the tail below it: stacks that differ only below share what is
 * above, so an ambiguous grammar has no more stacks than states. All three are kept once each
 * and numbered, so a config (a set of stacks) is a number, and a step taken twice is looked up.
 *
 * A step has two halves. First the stacks that read the byte go on to the next states that read one,
 * through ends of rules into their frames. Then calls: rules in the grammar's order, so that all who
 * call one are known before it is entered, once. Empty calls are passed by, as `nullable` says.
 *
 * Nothing here goes a way that has no end within GRAMMAR_DEPTH_MAX calls: what a frame and a state
 * need together is known, so each config has a way to END. What is dropped beyond ITEMS, WIDTH
 * is other ways.
 */
#include "grammar_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ITEMS = 1 << 12, /* states looked at in one step */
    WIDTH = 1 << 10, /* stacks of a config, frames of a tail */
    FRAMES = 1 << 14,
    TAILS = 1 << 14,
    CONFIGS = 1 << 12,
    TAIL_WORDS = 1 << 19,
    CONFIG_WORDS = 1 << 20,
    UNKNOWN = UINT32_MAX - 1,
};

/* Short arrays of words, each kept once. */
struct intern {
    uint32_t *word, *at, *slot; /* array i is word[at[i]..at[i + 1]); slots hold i + 1 */
    uint32_t n, max, room, mask;
};

struct pools {
    struct intern frame, tail, config;
    uint16_t *depth; /* [TAILS] frames of a tail, one on another */
};

struct grammar__stacks {
    const struct grammar *g;
    const uint16_t *need;
    struct pools p, other; /* other: where grammar__stacks_keep moves to */
    uint32_t *next;        /* [CONFIGS][n_classes] */
    uint32_t *moved;       /* [TAILS] */
    void *block;           /* where all these lie */
    size_t block_bytes;
    uint64_t work;
    bool full;
    /* one step */
    uint64_t item[ITEMS], out[ITEMS], call[ITEMS], act[ITEMS]; /* state or rule << 32 | tail */
    uint32_t stack[ITEMS];
    uint32_t slot[2 * ITEMS], used[ITEMS];
    uint32_t n_items, n_stack, n_out, n_call, n_act, run;
    uint32_t frame[4 * WIDTH], words[2 * WIDTH + 1];
};

/* --- arrays kept once --- */

/* Everything lies in one piece of memory, of which the system gives what is touched. */
struct block {
    char *base; /* NULL: only measured */
    size_t used;
};

static void *carve(struct block *b, size_t n, size_t size)
{
    size_t at = b->used;
    b->used += (n * size + 63) / 64 * 64;
    return b->base ? b->base + at : NULL;
}

static void intern_init(struct intern *t, uint32_t max, uint32_t room, struct block *b)
{
    *t = (struct intern){.max = max, .room = room, .mask = 2 * max - 1};
    t->word = carve(b, room, sizeof *t->word);
    t->at = carve(b, max + 1, sizeof *t->at);
    t->slot = carve(b, 2 * (size_t)max, sizeof *t->slot);
}

static void intern_reset(struct intern *t)
{
    if (t->n) memset(t->slot, 0, (t->mask + 1) * sizeof *t->slot);
    t->n = 0;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 30;
    h *= 0xbf58476d1ce4e5b9u;
    h ^= h >> 27;
    h *= 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

static uint32_t length(const struct intern *t, uint32_t i)
{
    return t->at[i + 1] - t->at[i];
}

/* The number of an array, GRAMMAR__FULL when there is no room for it. */
static uint32_t intern(struct intern *t, const uint32_t *w, uint32_t n)
{
    uint64_t h = n;
    for (uint32_t i = 0; i < n; i++) h = mix(h + w[i]);
    for (uint32_t k = (uint32_t)h & t->mask;; k = (k + 1) & t->mask) {
        uint32_t id = t->slot[k];
        if (id == 0) {
            if (t->n == t->max || t->at[t->n] + n > t->room) return GRAMMAR__FULL;
            memcpy(t->word + t->at[t->n], w, n * sizeof *w);
            t->at[t->n + 1] = t->at[t->n] + n;
            t->slot[k] = t->n + 1;
            return t->n++;
        }
        id--;
        if (length(t, id) == n && memcmp(t->word + t->at[id], w, n * sizeof *w) == 0) return id;
    }
}

static uint32_t depth_of(const struct pools *p, uint32_t frame)
{
    return frame ? 1u + p->depth[p->frame.word[2 * frame + 1]] : 0;
}

static int by_word(const void *x, const void *y)
{
    const uint32_t *p = x, *q = y;
    return (*p > *q) - (*p < *q);
}

/* Sorts the frames, drops those that occur again. */
static uint32_t put_tail(struct pools *p, uint32_t *frame, uint32_t n)
{
    uint32_t k = 0, deep = 0;
    if (n > 1) qsort(frame, n, sizeof *frame, by_word);
    for (uint32_t i = 0; i < n; i++)
        if (k == 0 || frame[k - 1] != frame[i]) frame[k++] = frame[i];
    if (k > WIDTH) k = WIDTH;
    uint32_t before = p->tail.n, id = intern(&p->tail, frame, k);
    if (id == GRAMMAR__FULL || p->tail.n == before) return id;
    for (uint32_t i = 0; i < k; i++)
        if (depth_of(p, frame[i]) > deep) deep = depth_of(p, frame[i]);
    p->depth[id] = (uint16_t)deep;
    return id;
}

static void pools_init(struct pools *p, struct block *b)
{
    intern_init(&p->frame, FRAMES, 2 * FRAMES, b);
    intern_init(&p->tail, TAILS, TAIL_WORDS, b);
    intern_init(&p->config, CONFIGS, CONFIG_WORDS, b);
    p->depth = carve(b, TAILS, sizeof *p->depth);
}

/* Frame 0 returns to END, tail 0 is that frame alone; config 0 is empty. */
static void pools_begin(struct pools *p)
{
    uint32_t bottom[2] = {GRAMMAR__END, 0}, none = 0, frame = 0;
    intern_reset(&p->frame);
    intern_reset(&p->tail);
    intern_reset(&p->config);
    intern(&p->frame, bottom, 2);
    put_tail(p, &frame, 1);
    intern(&p->config, &none, 1);
}

/* --- a step --- */

static uint32_t high(uint64_t x)
{
    return (uint32_t)(x >> 32);
}

static uint32_t low(uint64_t x)
{
    return (uint32_t)x;
}

/* To be looked at, once, unless it has no end. */
static void add(struct grammar__stacks *s, uint32_t state, uint32_t tail)
{
    uint32_t need = s->need[state];
    if (need + s->p.depth[tail] > GRAMMAR_DEPTH_MAX || s->n_items == ITEMS) return;
    uint64_t item = (uint64_t)state << 32 | tail;
    uint32_t k = (uint32_t)mix(item) & (2 * ITEMS - 1);
    for (; s->slot[k]; k = (k + 1) & (2 * ITEMS - 1))
        if (s->item[s->slot[k] - 1] == item) return;
    if (s->g->state[state].run > s->run) s->run = s->g->state[state].run;
    s->used[s->n_items] = k;
    s->item[s->n_items] = item;
    s->stack[s->n_stack++] = s->n_items;
    s->slot[k] = ++s->n_items;
}

/* All that can be reached without a byte; calls are noted. pop: ends of rules go on in the tail. */
static void reach(struct grammar__stacks *s, bool pop)
{
    while (s->n_stack) {
        uint64_t item = s->item[s->stack[--s->n_stack]];
        const struct grammar__state *x = &s->g->state[high(item)];
        uint32_t tail = low(item);
        switch ((enum grammar__op)x->op) {
        case GRAMMAR__END:
        case GRAMMAR__BYTE: s->out[s->n_out++] = item; break;
        case GRAMMAR__SPLIT:
            add(s, x->b, tail);
            add(s, x->a, tail);
            break;
        case GRAMMAR__CALL:
            s->call[s->n_call++] = item;
            if (s->g->nullable[x->a]) add(s, x->b, tail);
            break;
        case GRAMMAR__RET:
            for (uint32_t i = s->p.tail.at[tail]; pop && i < s->p.tail.at[tail + 1]; i++) {
                const uint32_t *frame = s->p.frame.word + 2 * s->p.tail.word[i];
                add(s, frame[0], frame[1]);
            }
            break;
        }
    }
}

static int by_item(const void *x, const void *y)
{
    const uint64_t *p = x, *q = y;
    return (*p > *q) - (*p < *q);
}

static void sort(uint64_t *x, uint32_t n)
{
    if (n > 16) {
        qsort(x, n, sizeof *x, by_item);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        uint64_t v = x[i];
        uint32_t k = i;
        for (; k > 0 && x[k - 1] > v; k--) x[k] = x[k - 1];
        x[k] = v;
    }
}

/* One tail for the items x[from..) that have the same upper half; *from moves behind them. */
static uint32_t gather(struct grammar__stacks *s, const uint64_t *x, uint32_t n, uint32_t *from)
{
    uint32_t key = high(x[*from]), tail = low(x[*from]), k = 0;
    if (++*from == n || high(x[*from]) != key) return tail;
    for (--*from; *from < n && high(x[*from]) == key; ++*from) {
        const uint32_t *at = s->p.tail.at + low(x[*from]);
        for (uint32_t i = at[0]; i < at[1] && k < 4 * WIDTH; i++) s->frame[k++] = s->p.tail.word[i];
    }
    tail = put_tail(&s->p, s->frame, k);
    s->full |= tail == GRAMMAR__FULL;
    return tail;
}

/* The calls noted become rules to enter, sorted so that the last is the first in order. */
static void activate(struct grammar__stacks *s)
{
    sort(s->call, s->n_call);
    for (uint32_t i = 0; i < s->n_call && !s->full;) {
        const struct grammar__state *x = &s->g->state[high(s->call[i])];
        uint32_t tail = gather(s, s->call, s->n_call, &i);
        if (s->full) return;
        if (x->b != GRAMMAR__RET) { /* a last call returns where its caller does */
            uint32_t frame[2] = {x->b, tail}, id = intern(&s->p.frame, frame, 2);
            tail = id == GRAMMAR__FULL ? id : put_tail(&s->p, &id, 1);
            s->full |= tail == GRAMMAR__FULL;
        }
        uint64_t act = (uint64_t)s->g->order[x->a] << 32 | tail;
        if (s->n_act == ITEMS || s->full) continue;
        uint32_t k = s->n_act++;
        for (; k > 0 && s->act[k - 1] < act; k--) s->act[k] = s->act[k - 1];
        s->act[k] = act;
    }
    s->n_call = 0;
}

static void enter(struct grammar__stacks *s)
{
    activate(s);
    while (s->n_act && !s->full) {
        uint32_t rule = high(s->act[s->n_act - 1]), n = 0;
        uint64_t same[64]; /* more callers of one rule than this are entered in turn */
        while (s->n_act && n < 64 && high(s->act[s->n_act - 1]) == rule)
            same[n++] = s->act[--s->n_act];
        uint32_t from = 0, tail = gather(s, same, n, &from);
        if (s->full) return;
        add(s, s->g->start[s->g->rule_at[rule]], tail);
        reach(s, false);
        activate(s);
    }
}

/* Makes a config of what was reached. */
static uint32_t collect(struct grammar__stacks *s)
{
    enter(s);
    s->work += s->n_items + 1;
    for (uint32_t i = 0; i < s->n_items; i++) s->slot[s->used[i]] = 0;
    sort(s->out, s->n_out);
    uint32_t n = 1;
    for (uint32_t i = 0; i < s->n_out && n < 2 * WIDTH && !s->full;) {
        s->words[n] = high(s->out[i]);
        s->words[n + 1] = gather(s, s->out, s->n_out, &i);
        n += 2;
    }
    s->words[0] = n > 1 ? s->run : 0;
    uint32_t before = s->p.config.n,
             id = s->full ? GRAMMAR__FULL : intern(&s->p.config, s->words, n);
    if (id != GRAMMAR__FULL && s->p.config.n > before) {
        uint32_t *row = s->next + (size_t)id * s->g->n_classes;
        for (uint32_t i = 0; i < s->g->n_classes; i++) row[i] = UNKNOWN;
    }
    s->n_items = s->n_stack = s->n_out = s->n_call = s->n_act = s->run = 0;
    s->full = false;
    return id;
}

uint32_t grammar__stacks_start(struct grammar__stacks *s)
{
    pools_begin(&s->p);
    uint64_t root = (uint64_t)s->g->order[s->g->root] << 32;
    if (s->g->nullable[s->g->root]) s->out[s->n_out++] = 0; /* END */
    s->act[s->n_act++] = root;
    return collect(s);
}

uint32_t grammar__stacks_step(struct grammar__stacks *s, uint32_t config, uint8_t byte)
{
    uint8_t c = s->g->class[byte];
    uint32_t *known = s->next + (size_t)config * s->g->n_classes + c;
    if (config == 0) return 0;
    if (*known != UNKNOWN) return *known;
    const uint32_t *w = s->p.config.word + s->p.config.at[config];
    uint32_t n = length(&s->p.config, config);
    for (uint32_t i = 1; i < n; i += 2) {
        const struct grammar__state *x = &s->g->state[w[i]];
        if (x->op == GRAMMAR__BYTE && s->g->set[x->a][c >> 6] >> (c & 63) & 1)
            add(s, x->b, w[i + 1]);
        reach(s, true);
    }
    uint32_t id = s->n_items ? collect(s) : 0;
    if (id != GRAMMAR__FULL) *known = id;
    return id;
}

bool grammar__stacks_may_end(const struct grammar__stacks *s, uint32_t config)
{
    return length(&s->p.config, config) > 1 &&
           s->p.config.word[s->p.config.at[config] + 1] == GRAMMAR__END;
}

bool grammar__stacks_must_end(const struct grammar__stacks *s, uint32_t config)
{
    return grammar__stacks_may_end(s, config) && length(&s->p.config, config) == 3;
}

uint32_t grammar__stacks_run(const struct grammar__stacks *s, uint32_t config)
{
    uint32_t run = s->p.config.word[s->p.config.at[config]];
    return run == GRAMMAR__INF ? GRAMMAR__ENDLESS : run;
}

uint64_t grammar__stacks_work(const struct grammar__stacks *s)
{
    return s->work;
}

/* --- memory --- */

/* As deep as frames are: what lies below is moved before the frames are put together. */
static uint32_t move_tail(struct grammar__stacks *s, uint32_t old)
{
    if (s->moved[old] != GRAMMAR__FULL) return s->moved[old];
    const uint32_t *frame = s->p.tail.word + s->p.tail.at[old];
    uint32_t n = length(&s->p.tail, old);
    for (uint32_t i = 0; i < n; i++)
        if (frame[i]) move_tail(s, s->p.frame.word[2 * frame[i] + 1]);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *f = s->p.frame.word + 2 * frame[i];
        uint32_t moved[2] = {f[0], frame[i] ? s->moved[f[1]] : 0};
        s->frame[i] = intern(&s->other.frame, moved, 2);
    }
    return s->moved[old] = put_tail(&s->other, s->frame, n);
}

void grammar__stacks_keep(struct grammar__stacks *s, uint32_t *config, size_t n)
{
    uint32_t words[2][2 * WIDTH + 1], count[2];
    memset(s->moved, 0xff, TAILS * sizeof *s->moved);
    pools_begin(&s->other);
    for (size_t k = 0; k < n; k++) {
        count[k] = length(&s->p.config, config[k]);
        memcpy(words[k], s->p.config.word + s->p.config.at[config[k]], count[k] * sizeof **words);
        for (uint32_t i = 1; i < count[k]; i += 2) words[k][i + 1] = move_tail(s, words[k][i + 1]);
    }
    struct pools swap = s->p;
    s->p = s->other;
    s->other = swap;
    for (size_t k = 0; k < n; k++) {
        config[k] = intern(&s->p.config, words[k], count[k]);
        for (uint32_t i = 0; i < s->g->n_classes; i++)
            s->next[(size_t)config[k] * s->g->n_classes + i] = UNKNOWN;
    }
}

static void lay_out(struct grammar__stacks *s, uint32_t n_classes, struct block *b)
{
    pools_init(&s->p, b);
    pools_init(&s->other, b);
    s->next = carve(b, (size_t)CONFIGS * n_classes, sizeof *s->next);
    s->moved = carve(b, TAILS, sizeof *s->moved);
}

struct grammar__stacks *grammar__stacks_open(const struct grammar *g, const uint16_t *need)
{
    struct block b = {NULL, 0};
    struct grammar__stacks *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    lay_out(s, g->n_classes, &b);
    /* not calloc, which may clear it all */
    b.base = mmap(NULL, b.used, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.base == MAP_FAILED) {
        free(s);
        return NULL;
    }
    s->block = b.base;
    s->block_bytes = b.used;
    b.used = 0;
    lay_out(s, g->n_classes, &b);
    s->g = g;
    s->need = need;
    return s;
}

void grammar__stacks_close(struct grammar__stacks *s)
{
    if (!s) return;
    munmap(s->block, s->block_bytes);
    free(s);
}
