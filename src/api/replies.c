/* A table of chains, and a ring in the order of use: the newest follows the ring's head, the oldest stands
 * before it. Invariant under the lock: every reply is in one chain and in the ring, bytes and count are
 * their sums. An id of another tenant is one that is not there. */
#include "replies.h"

#include "thread.h"
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 4096 };

struct reply {
    struct reply *newer, *older; /* in the ring */
    struct reply *chain;
    uint64_t tenant;
    size_t n_answer, n_past;
    char id[REPLIES_ID_MAX + 1];
    char bytes[]; /* [n_answer + n_past] */
};

struct replies {
    struct thread_monitor lock;
    struct reply *chains[CHAINS];
    struct reply ring; /* its head: newer is the oldest, older the newest */
    size_t bytes, bytes_max;
    int count, count_max;
};

static size_t size_of(const struct reply *p)
{
    return sizeof *p + p->n_answer + p->n_past;
}

/* Ids are random, and only ours are kept: no collisions to be afraid of. */
static struct reply **chain_of(struct replies *r, const char *id)
{
    uint32_t h = 2166136261u;
    for (; *id; id++) h = (h ^ (unsigned char)*id) * 16777619u;
    return &r->chains[h % CHAINS];
}

static struct reply **find(struct replies *r, uint64_t tenant, const char *id)
{
    struct reply **p = chain_of(r, id);
    while (*p && ((*p)->tenant != tenant || strcmp((*p)->id, id))) p = &(*p)->chain;
    return p;
}

static void ring_in(struct replies *r, struct reply *p)
{
    p->newer = &r->ring;
    p->older = r->ring.older;
    p->older->newer = r->ring.older = p;
}

static void ring_out(struct reply *p)
{
    p->newer->older = p->older;
    p->older->newer = p->newer;
}

static void drop(struct replies *r, struct reply **p)
{
    struct reply *gone = *p;
    *p = gone->chain;
    ring_out(gone);
    r->bytes -= size_of(gone);
    r->count--;
    free(gone);
}

static size_t bytes_of(const struct replies *r, uint64_t tenant)
{
    size_t n = 0;
    for (const struct reply *p = r->ring.newer; p != &r->ring; p = p->newer)
        if (p->tenant == tenant) n += size_of(p);
    return n;
}

static void make_room(struct replies *r, uint64_t tenant, size_t n)
{
    bool full = r->bytes + n > r->bytes_max || r->count == r->count_max;
    size_t own = full ? bytes_of(r, tenant) : 0;
    while (r->count && (r->bytes + n > r->bytes_max || r->count == r->count_max)) {
        struct reply *p = r->ring.newer;
        if (own > r->bytes_max / 4)
            while (p->tenant != tenant) p = p->newer;
        if (p->tenant == tenant) own -= size_of(p);
        drop(r, find(r, p->tenant, p->id));
    }
}

int replies_open(struct replies **out, size_t bytes, int count, struct err *e)
{
    struct replies *r = calloc(1, sizeof *r);
    if (!r) return err_nomem(e, sizeof *r, "the answers that are kept");
    thread_monitor_init(&r->lock);
    r->ring.newer = r->ring.older = &r->ring;
    r->bytes_max = bytes;
    r->count_max = count;
    *out = r;
    return 0;
}

void replies_close(struct replies *r)
{
    if (!r) return;
    for (struct reply *p = r->ring.newer, *next; p != &r->ring; p = next) {
        next = p->newer;
        free(p);
    }
    thread_monitor_free(&r->lock);
    free(r);
}

void replies_put(struct replies *r, uint64_t tenant, const char *id, const struct buf *answer,
                 const struct buf *past)
{
    size_t n = answer->len + past->len;
    if (answer->failed || past->failed || strlen(id) > REPLIES_ID_MAX) return;
    struct reply *p = malloc(sizeof *p + n);
    if (!p) return;
    *p = (struct reply){.tenant = tenant, .n_answer = answer->len, .n_past = past->len};
    strcpy(p->id, id);
    if (answer->len) memcpy(p->bytes, answer->data, answer->len);
    if (past->len) memcpy(p->bytes + answer->len, past->data, past->len);
    if (size_of(p) > r->bytes_max / 8 || r->count_max < 1) {
        free(p);
        return;
    }
    thread_hold(&r->lock);
    make_room(r, tenant, size_of(p));
    struct reply **chain = chain_of(r, id);
    p->chain = *chain;
    *chain = p;
    ring_in(r, p);
    r->bytes += size_of(p);
    r->count++;
    thread_release(&r->lock);
}

bool replies_get(struct replies *r, uint64_t tenant, const char *id, struct buf *answer,
                 struct buf *past)
{
    thread_hold(&r->lock);
    struct reply *p = *find(r, tenant, id);
    if (p) {
        ring_out(p);
        ring_in(r, p);
        if (answer) buf_put(answer, p->bytes, p->n_answer);
        if (past) buf_put(past, p->bytes + p->n_answer, p->n_past);
    }
    thread_release(&r->lock);
    return p != NULL;
}

bool replies_drop(struct replies *r, uint64_t tenant, const char *id)
{
    thread_hold(&r->lock);
    struct reply **p = find(r, tenant, id);
    bool found = *p != NULL;
    if (found) drop(r, p);
    thread_release(&r->lock);
    return found;
}
