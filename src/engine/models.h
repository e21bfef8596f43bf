/* Which models are in memory: loaded when they are asked for, unloaded by least use where memory is
 * wanted, and when nobody asked for a while. What a model is, is the owner's: it gives functions that load
 * and unload the one of a number, and says what each will take.
 *
 *     struct models *m;
 *     if (models_open(&m, &opts, &e)) ...        loads those of `preload`, in order
 *     if (models_take(m, id, &wait, &now, &e)) ...
 *     if (now) ...                               it is loaded, and stays until it is given back
 *     else ...                                   wait.ready is called when it is, or cannot be
 *     models_give(m, id);
 *     models_drain(m);                           whoever waits is refused, nothing more is loaded
 *     models_close(m);                           unloads all; references left are void
 *
 * Any thread. Loads, unloads and ready() happen on a thread of the models' own, one after the other. Who
 * waits is served in the order of coming; a model in use that has to make room for one that waits takes
 * nobody in until it has, so that two that do not fit together take turns.
 */
#ifndef MODELS_H
#define MODELS_H

#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct models;

struct models_item {
    const char *name; /* for messages */
    size_t bytes;     /* that it will take */
    int64_t keep_ns;  /* that it stays unused; negative: until its room is wanted */
    bool preload;
    bool stays; /* once loaded, whoever wants its room */
};

struct models_opts {
    const struct models_item *items; /* [n], copied but for the names */
    int n;
    int room;            /* for more, by models_add */
    size_t budget_bytes; /* of all that are loaded; 0: no bound */
    int waiting;         /* requests that may wait at once; 0: 256 */
    /* *bytes: what it takes, as foreseen before. Both without a lock; never two at once. */
    int (*load)(void *arg, int id, size_t *bytes, struct err *e);
    void (*unload)(void *arg, int id);
    void *arg;
};

/* Of one who waits; its memory stays until ready() or a models_forget that returned true. */
struct models_wait {
    void (*ready)(struct models_wait *w, const struct err *e); /* e NULL: it is loaded, and taken */
    int id;
    bool queued;
    struct models_wait *next;
};

ERR_DOOR int models_open(struct models **out, const struct models_opts *o, struct err *e);
/* One more, which gets the next number; ERR_LIMIT: there is no room. It is not preloaded. */
ERR_DOOR int models_add(struct models *m, const struct models_item *item, struct err *e);
void models_drain(struct models *m);
void models_close(struct models *m);

/* ERR_LIMIT: too many wait. ERR_CANCELLED: no more models are loaded. */
ERR_DOOR int models_take(struct models *m, int id, struct models_wait *w, bool *now, struct err *e);
void models_give(struct models *m, int id);
/* True: it waited, and ready() will not be called. */
bool models_forget(struct models *m, struct models_wait *w);
/* From now on, until it is unloaded: how long it stays after its last use. */
void models_keep(struct models *m, int id, int64_t keep_ns);

enum models_state { MODELS_OUT, MODELS_LOADING, MODELS_LOADED, MODELS_LEAVING };
struct models_info {
    enum models_state state;
    size_t bytes;    /* taken, or foreseen */
    int requests;    /* that have it */
    int waiting;     /* for it */
    int64_t loads;   /* so far */
    int64_t left_ns; /* until it is unloaded, if nobody asks; negative: it stays */
};
void models_info(struct models *m, int id, struct models_info *info);
/* Calls fn where the model is loaded, and keeps it so meanwhile; this is no use of it. fn may not call
 * any of these. */
bool models_look(struct models *m, int id, void (*fn)(void *arg, int id), void *arg);

#endif
