/* States are classes of substrings that end at the same places; an edge leads from a class to that of
 * its strings with a token more; a link to the class of the longest suffix that ends at other places
 * too. So the link of the whole text's state is the suffix wanted, and its `end` says where.
 *
 * Edges stand in a hash under a random key (a foreign text cannot choose colliding ones) and in a
 * list for each state (a state that splits hands them on). Invariant: of a text of n tokens there are
 * at most 2n states and 3n edges; no edge ever goes, so the copying of splits is linear too. A new token
 * can end as many classes as the text is long (aaaa...): of only the CLIMB longest it is noted.
 */
#include "suffix.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

enum { NONE, ROOT, CLIMB = 33 }; /* no state and no edge is number 0 */

struct state {
    int32_t len;  /* of its longest string */
    int32_t link; /* NONE: the root */
    int32_t end;  /* index of the last token of its latest known occurrence before the text's end */
    int32_t edge; /* first of its list, or NONE */
};

struct edge {
    int32_t from, token, to;
    int32_t next;  /* of the same state */
    int32_t chain; /* in the same bucket */
};

struct suffix {
    int room, n;
    int n_states, n_edges; /* and number 0 */
    int32_t last;          /* the state of the whole text */
    uint32_t mask;
    uint64_t key;
    size_t bytes;         /* of all below */
    struct state *states; /* [2 (room + 2)] */
    struct edge *edges;   /* [3 (room + 2)] */
    int32_t *text;        /* [room] */
    int32_t *buckets;     /* [mask + 1] first edges */
};

static void start(struct suffix *s)
{
    s->states[ROOT] = (struct state){0};
    s->n_states = ROOT + 1;
    s->n_edges = 1;
    s->n = 0;
    s->last = ROOT;
}

int suffix_open(struct suffix **out, int room, struct err *e)
{
    if (room < 1 || room > SUFFIX_ROOM_MAX)
        return err_set(e, ERR_LIMIT, "an index of %d tokens; 1 to %d are possible", room,
                       SUFFIX_ROOM_MAX);
    size_t n = (size_t)room + 2, buckets = 2;
    while (buckets < 2 * n) buckets *= 2;
    size_t bytes = 2 * n * sizeof(struct state) + 3 * n * sizeof(struct edge) +
                   (n + buckets) * sizeof(int32_t);
    struct suffix *s = malloc(sizeof *s);
    /* Not calloc, which may clear it all: it is touched as the text grows. */
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!s || block == MAP_FAILED) {
        free(s);
        if (block != MAP_FAILED) munmap(block, bytes);
        return err_nomem(e, bytes, "the index of a text");
    }
    *s = (struct suffix){
        .room = room, .mask = (uint32_t)(buckets - 1), .bytes = bytes, .states = block};
    s->edges = (struct edge *)(s->states + 2 * n);
    s->text = (int32_t *)(s->edges + 3 * n);
    s->buckets = s->text + n;
    if (getrandom(&s->key, sizeof s->key, GRND_NONBLOCK) < 0) s->key = (uintptr_t)block;
    start(s);
    *out = s;
    return 0;
}

void suffix_close(struct suffix *s)
{
    if (!s) return;
    munmap(s->states, s->bytes);
    free(s);
}

void suffix_clear(struct suffix *s)
{
    memset(s->buckets, 0, ((size_t)s->mask + 1) * sizeof *s->buckets);
    start(s);
}

static int32_t *bucket(const struct suffix *s, int32_t from, int32_t token)
{
    uint64_t h = ((uint64_t)(uint32_t)from << 32 | (uint32_t)token) ^ s->key;
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 29 ^ s->key) * 0xbf58476d1ce4e5b9u;
    return &s->buckets[(uint32_t)(h >> 32) & s->mask];
}

static struct edge *find(const struct suffix *s, int32_t from, int32_t token)
{
    int32_t i = *bucket(s, from, token);
    while (i != NONE && (s->edges[i].from != from || s->edges[i].token != token))
        i = s->edges[i].chain;
    return i == NONE ? NULL : &s->edges[i];
}

static void add_edge(struct suffix *s, int32_t from, int32_t token, int32_t to)
{
    int32_t *b = bucket(s, from, token), i = s->n_edges++;
    assert(i < 3 * (s->room + 2));
    s->edges[i] = (struct edge){from, token, to, s->states[from].edge, *b};
    *b = s->states[from].edge = i;
}

static int32_t add_state(struct suffix *s, struct state st)
{
    assert(s->n_states < 2 * (s->room + 2));
    s->states[s->n_states] = st;
    return s->n_states++;
}

/* Splits off q what ends elsewhere too: its strings of at most len tokens. */
static int32_t split(struct suffix *s, int32_t q, int32_t len)
{
    struct state st = s->states[q];
    int32_t clone = add_state(s, (struct state){len, st.link, st.end, NONE});
    for (int32_t i = st.edge; i != NONE; i = s->edges[i].next)
        add_edge(s, clone, s->edges[i].token, s->edges[i].to);
    s->states[q].link = clone;
    return clone;
}

/* What ended with the text so far has one more earlier occurrence. */
static void freshen(struct suffix *s)
{
    int32_t v = s->states[s->last].link;
    for (int i = 0; i < CLIMB && v > ROOT; i++, v = s->states[v].link) s->states[v].end = s->n - 1;
}

void suffix_put(struct suffix *s, int32_t id)
{
    assert(s->n < s->room);
    freshen(s);
    struct edge *edge = NULL;
    int32_t p = s->last, link = ROOT;
    int32_t now = add_state(s, (struct state){s->n + 1, ROOT, s->n, NONE});
    for (; p != NONE && !(edge = find(s, p, id)); p = s->states[p].link) add_edge(s, p, id, now);
    if (p != NONE) {
        int32_t q = link = edge->to, len = s->states[p].len + 1;
        if (s->states[q].len > len) {
            link = split(s, q, len);
            for (; p != NONE && (edge = find(s, p, id)) && edge->to == q; p = s->states[p].link)
                edge->to = link;
        }
    }
    s->states[now].link = link;
    s->last = now;
    s->text[s->n++] = id;
}

int suffix_match(const struct suffix *s, int *from)
{
    if (s->n == 0) return 0;
    const struct state *v = &s->states[s->states[s->last].link];
    *from = v->end + 1;
    return v->len;
}

void suffix_follow(const struct suffix *s, int from, int32_t *out, int n)
{
    for (int i = 0; i < n; i++) out[i] = from + i < s->n ? s->text[from + i] : out[from + i - s->n];
}

const int32_t *suffix_text(const struct suffix *s, int *n)
{
    *n = s->n;
    return s->text;
}
