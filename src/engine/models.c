/* One thread loads and unloads. Invariant: `used` is the sum of the bytes of what is loaded or loading,
 * and at most the budget whenever a load begins; a model with a reference is never unloaded before
 * models_close. The first who waits decides what is loaded next; nobody overtakes. */
#include "models.h"

#include "clock.h"
#include "thread.h"
#include <stdlib.h>

enum { WAITING = 256 };

struct entry {
    struct models_item item;
    enum models_state state;
    size_t bytes;
    int requests, waiting;
    int64_t keep_ns, used_ns, loads;
};

struct models {
    struct models_opts o;
    struct entry *entries; /* [o.n + o.room] */
    struct thread *thread;
    struct thread_monitor lock; /* of all below, and of the entries */
    struct models_wait *first, **end;
    int waiting;
    size_t used;
    bool draining, closing;
};

static bool is_in(const struct entry *t)
{
    return t->state == MODELS_LOADED || t->state == MODELS_LEAVING;
}

/* Under the lock: all who wait for the model (-1: for any), taken out of the queue. */
static struct models_wait *take_waiting(struct models *m, int id)
{
    struct models_wait *out = NULL, **out_end = &out;
    for (struct models_wait **p = &m->first; *p;) {
        struct models_wait *w = *p;
        if (id >= 0 && w->id != id) {
            p = &w->next;
            continue;
        }
        *p = w->next;
        w->next = NULL;
        w->queued = false;
        m->entries[w->id].waiting--;
        m->waiting--;
        *out_end = w;
        out_end = &w->next;
    }
    m->end = &m->first;
    while (*m->end) m->end = &(*m->end)->next;
    return out;
}

/* Tells all in the list; the lock is let go meanwhile. */
static void tell(struct models *m, struct models_wait *list, const struct err *e)
{
    thread_release(&m->lock);
    for (struct models_wait *next; list; list = next) {
        next = list->next; /* ready() may free it */
        list->ready(list, e);
    }
    thread_hold(&m->lock);
}

static void refuse(struct models *m, int id, const struct err *e)
{
    tell(m, take_waiting(m, id), e);
}

static void hand_over(struct models *m, int id)
{
    struct entry *t = &m->entries[id];
    struct models_wait *list = take_waiting(m, id);
    t->state = MODELS_LOADED;
    t->used_ns = clock_ns();
    for (struct models_wait *w = list; w; w = w->next) t->requests++;
    tell(m, list, NULL);
}

static int load(struct models *m, int id, struct err *e)
{
    struct entry *t = &m->entries[id];
    size_t bytes = t->item.bytes;
    t->state = MODELS_LOADING;
    t->keep_ns = t->item.keep_ns; /* before: models_keep may change it meanwhile */
    t->bytes = bytes;
    m->used += bytes;
    thread_release(&m->lock);
    int rc = m->o.load(m->o.arg, id, &bytes, e);
    thread_hold(&m->lock);
    m->used -= t->bytes;
    t->bytes = rc ? 0 : bytes;
    m->used += t->bytes;
    t->state = rc ? MODELS_OUT : MODELS_LOADED;
    t->used_ns = clock_ns();
    t->loads += !rc;
    return rc;
}

static void unload(struct models *m, struct entry *t)
{
    t->state = MODELS_LOADING; /* nobody gets it meanwhile */
    thread_release(&m->lock);
    m->o.unload(m->o.arg, (int)(t - m->entries));
    thread_hold(&m->lock);
    m->used -= t->bytes;
    t->bytes = 0;
    t->state = MODELS_OUT;
}

/* The least recently used of those that may go, rather one that nobody has. */
static struct entry *least_used(struct models *m)
{
    struct entry *best = NULL;
    for (int i = 0; i < m->o.n; i++) {
        struct entry *t = &m->entries[i];
        if (!is_in(t) || t->item.stays) continue;
        bool idle = !t->requests, best_idle = best && !best->requests;
        if (!best || (idle && !best_idle) || (idle == best_idle && t->used_ns < best->used_ns))
            best = t;
    }
    return best;
}

/* What a model may have beside those that stay. */
static int check_fits(const struct models *m, const struct entry *t, struct err *e)
{
    size_t staying = 0, bytes = t->item.bytes, budget = m->o.budget_bytes;
    for (int i = 0; i < m->o.n; i++)
        if (m->entries[i].state != MODELS_OUT && m->entries[i].item.stays)
            staying += m->entries[i].bytes;
    if (!budget || (staying <= budget && bytes <= budget - staying)) return 0;
    return err_set(e, ERR_UNSUPPORTED,
                   "the model %s takes %zu MiB; there are %zu for models, %zu of them of models "
                   "that stay",
                   t->item.name, (bytes + (1 << 20) - 1) >> 20, budget >> 20, staying >> 20);
}

/* Whoever waits first gets on; false: only when something else happens. */
static bool serve_first(struct models *m)
{
    struct err e;
    int id = m->first->id;
    struct entry *t = &m->entries[id], *least;
    if (is_in(t)) {
        hand_over(m, id);
        return true;
    }
    if (check_fits(m, t, &e)) {
        refuse(m, id, &e);
        return true;
    }
    if (m->o.budget_bytes && m->used + t->item.bytes > m->o.budget_bytes) {
        least = least_used(m); /* there is one, or it would fit */
        if (!least->requests) {
            unload(m, least);
            return true;
        }
        for (int i = 0; i < m->o.n; i++)
            if (m->entries[i].state == MODELS_LEAVING) return false;
        least->state = MODELS_LEAVING;
        return false;
    }
    if (load(m, id, &e)) refuse(m, id, &e);
    return true;
}

/* One whose time is up; else NULL, and how long until the next one's is (-1: no end). */
static struct entry *expired(struct models *m, int64_t *left_ns)
{
    int64_t now = clock_ns();
    *left_ns = -1;
    for (int i = 0; i < m->o.n; i++) {
        struct entry *t = &m->entries[i];
        if (!is_in(t) || t->requests || t->waiting || t->item.stays || t->keep_ns < 0) continue;
        int64_t left = t->keep_ns - (now - t->used_ns);
        if (left <= 0) return t;
        if (*left_ns < 0 || left < *left_ns) *left_ns = left;
    }
    return NULL;
}

/* When nobody waits any more, nobody has to make room. */
static void nobody_leaves(struct models *m)
{
    for (int i = 0; i < m->o.n; i++)
        if (m->entries[i].state == MODELS_LEAVING) m->entries[i].state = MODELS_LOADED;
}

static void loop(void *arg)
{
    struct models *m = arg;
    thread_hold(&m->lock);
    while (!m->closing) {
        struct err e;
        int64_t left_ns;
        struct entry *t = expired(m, &left_ns);
        if (!m->first) nobody_leaves(m);
        if (m->first && m->draining) {
            err_set(&e, ERR_CANCELLED, "the server is going down");
            refuse(m, -1, &e);
        } else if (t) {
            unload(m, t);
        } else if (!m->first || !serve_first(m)) {
            thread_wait(&m->lock, left_ns);
        }
    }
    thread_release(&m->lock);
}

static int preload(struct models *m, struct err *e)
{
    int rc = 0;
    thread_hold(&m->lock);
    for (int i = 0; i < m->o.n && !rc; i++) {
        struct entry *t = &m->entries[i];
        if (!t->item.preload) continue;
        size_t left = m->o.budget_bytes - m->used;
        if (m->o.budget_bytes && (m->used > m->o.budget_bytes || t->item.bytes > left))
            rc = err_set(e, ERR_LIMIT,
                         "the model %s takes %zu MiB, %zu of the %zu for models are left",
                         t->item.name, (t->item.bytes + (1 << 20) - 1) >> 20, left >> 20,
                         m->o.budget_bytes >> 20);
        else
            rc = load(m, i, e);
    }
    thread_release(&m->lock);
    return rc;
}

int models_open(struct models **out, const struct models_opts *o, struct err *e)
{
    struct models *m = calloc(1, sizeof *m);
    if (!m) return err_nomem(e, sizeof *m, "the models");
    m->o = *o;
    if (!m->o.waiting) m->o.waiting = WAITING;
    m->end = &m->first;
    thread_monitor_init(&m->lock);
    m->entries = calloc((size_t)(o->n + o->room) + 1, sizeof *m->entries);
    int rc = m->entries ? 0 : err_nomem(e, (size_t)o->n * sizeof *m->entries, "the models");
    for (int i = 0; i < o->n && !rc; i++) m->entries[i].item = o->items[i];
    m->o.items = NULL;
    if (!rc) rc = preload(m, e);
    if (!rc) rc = thread_open(&m->thread, loop, m, e);
    if (rc)
        models_close(m);
    else
        *out = m;
    return rc;
}

int models_add(struct models *m, const struct models_item *item, struct err *e)
{
    int rc = 0;
    thread_hold(&m->lock);
    if (m->o.room) {
        m->o.room--;
        m->entries[m->o.n++].item = *item;
    } else {
        rc = err_set(e, ERR_LIMIT, "%d models are served, more are too many", m->o.n);
    }
    thread_release(&m->lock);
    return rc;
}

void models_drain(struct models *m)
{
    thread_hold(&m->lock);
    m->draining = true;
    thread_wake(&m->lock);
    thread_release(&m->lock);
}

void models_close(struct models *m)
{
    struct err e;
    if (!m) return;
    thread_hold(&m->lock);
    m->closing = m->draining = true;
    thread_wake(&m->lock);
    thread_release(&m->lock);
    if (m->thread) thread_close(m->thread);
    err_set(&e, ERR_CANCELLED, "the server is going down");
    thread_hold(&m->lock);
    refuse(m, -1, &e);
    for (int i = 0; m->entries && i < m->o.n; i++)
        if (is_in(&m->entries[i])) unload(m, &m->entries[i]);
    thread_release(&m->lock);
    thread_monitor_free(&m->lock);
    free(m->entries);
    free(m);
}

int models_take(struct models *m, int id, struct models_wait *w, bool *now, struct err *e)
{
    struct entry *t = &m->entries[id];
    int rc = 0;
    thread_hold(&m->lock);
    *now = t->state == MODELS_LOADED;
    if (*now) {
        t->requests++;
        t->used_ns = clock_ns();
    } else if (m->draining) {
        rc = err_set(e, ERR_CANCELLED, "the server is going down");
    } else if (m->waiting >= m->o.waiting) {
        rc = err_set(e, ERR_LIMIT, "%d requests wait for models to be loaded, more are too many",
                     m->waiting);
    } else {
        w->id = id;
        w->queued = true;
        w->next = NULL;
        *m->end = w;
        m->end = &w->next;
        m->waiting++;
        t->waiting++;
        thread_wake(&m->lock);
    }
    thread_release(&m->lock);
    return rc;
}

void models_give(struct models *m, int id)
{
    struct entry *t = &m->entries[id];
    thread_hold(&m->lock);
    t->used_ns = clock_ns();
    if (!--t->requests) thread_wake(&m->lock);
    thread_release(&m->lock);
}

bool models_forget(struct models *m, struct models_wait *w)
{
    thread_hold(&m->lock);
    bool queued = w->queued;
    for (struct models_wait **p = &m->first; queued; p = &(*p)->next) {
        if (*p != w) continue;
        *p = w->next;
        if (!w->next) m->end = p;
        w->queued = false;
        m->waiting--;
        m->entries[w->id].waiting--;
        thread_wake(&m->lock);
        break;
    }
    thread_release(&m->lock);
    return queued;
}

void models_keep(struct models *m, int id, int64_t keep_ns)
{
    thread_hold(&m->lock);
    m->entries[id].keep_ns = keep_ns;
    thread_wake(&m->lock);
    thread_release(&m->lock);
}

void models_info(struct models *m, int id, struct models_info *info)
{
    const struct entry *t = &m->entries[id];
    thread_hold(&m->lock);
    int64_t idle = t->requests ? 0 : clock_ns() - t->used_ns, keep = t->keep_ns;
    *info = (struct models_info){.state = t->state,
                                 .bytes = t->bytes ? t->bytes : t->item.bytes,
                                 .requests = t->requests,
                                 .waiting = t->waiting,
                                 .loads = t->loads,
                                 .left_ns = t->item.stays || keep < 0 ? -1
                                            : keep > idle             ? keep - idle
                                                                      : 0};
    thread_release(&m->lock);
}

bool models_look(struct models *m, int id, void (*fn)(void *arg, int id), void *arg)
{
    thread_hold(&m->lock);
    bool in = is_in(&m->entries[id]);
    if (in) fn(arg, id);
    thread_release(&m->lock);
    return in;
}
