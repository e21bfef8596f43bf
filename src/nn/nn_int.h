/* The context behind nn.h and how work is shared out. */
#ifndef NN_INT_H
#define NN_INT_H

#include "nn.h"
#include "pool.h"
#include <stdatomic.h>

/* One worker's own memory. */
struct nn__worker {
    _Alignas(64) struct kern_tile tile;
    struct kern_tile16 tile16;
    float w[KERN_K * KERN_ROWS]; /* a block in float32 */
    float q_f32[KERN_ATTN_ROWS * KERN_D_MAX], q_scale[KERN_ATTN_ROWS];
    int16_t q[KERN_D_MAX / 2][KERN_ATTN_ROWS][2];
    float o[KERN_ATTN_ROWS * KERN_D_MAX], o2[KERN_ATTN_ROWS * KERN_D_MAX];
    struct kern_act act; /* of the product at hand: everybody's, or its own of few rows */
    struct kern_act16 act16;
    _Alignas(64) uint8_t page[2 * KERN_D_MAX * KERN_PAGE * sizeof(int16_t) +
                              2 * KERN_PAGE * sizeof(float)]; /* one of 8 bits, in 16 */
    uint8_t *own_act; /* [NN__OWN_ROWS] and their remainders */
    float *out, *up;  /* [rows][32] each, a panel's and what it is multiplied by */
    float *row;       /* [k] a row as it is made, or what rounding one left */
    /* Rows and units of its own that nobody has taken yet: the first, and << 32 the end. */
    _Alignas(64) _Atomic uint64_t run[2];
};

struct nn {
    struct pool *pool;
    const struct kern *k;
    bool exact;
    int threads, rows;
    size_t act_bytes;
    void *act;                  /* struct kern_act or kern_act16 of the widest input */
    struct nn__worker *workers; /* [threads] */
    float *outs;                /* of each worker [2][rows][32] and [k] */
    size_t outs_bytes;
    float *parts; /* [NN__PARTS] of attention; touched only where contexts are long */
};

enum {
    NN__PARTS = 1 << 22,
    NN__OWN_ROWS = 2 /* so many rows of a product each worker rounds for itself: no waiting */
};

/* Deals n units of work (or rows, of a job that has both) out: a run to each worker, the same at each call
 * for the same n, so that a worker finds what it left in its own cache. */
enum nn__what { NN__UNITS, NN__ROWS };
void nn__deal(struct nn *nn, enum nn__what what, long n);
/* The first of its own run, else the last of another's; -1: all are taken. */
long nn__next(struct nn *nn, enum nn__what what, int worker);
/* Deals units out and runs fn(arg, worker) on all workers; without units each has the same to do. */
void nn__run(struct nn *nn, long units, pool_fn *fn, void *arg);

typedef void nn__row_fn(const struct nn *nn, void *arg, int row);
/* fn for every row; on all workers when rows * cost (in floats) is worth waking them. */
void nn__rows(struct nn *nn, nn__row_fn *fn, void *arg, int n, long cost);

#endif
