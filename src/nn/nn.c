/* The context: workers, kernels, scratch; and row-wise operations, which are all "for every row".
 * Work is dealt out in runs, of which a worker that is through takes from others', so that a core that is
 * busy elsewhere does less of it.
 */
#include "nn_int.h"

#include <math.h>
#include <stdlib.h>

enum { SERIAL_FLOATS = 8192 }; /* below this one core is done before the others have woken */

static void *alloc64(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

int nn_open(struct nn **out, int threads, const char *level, bool exact, struct err *e)
{
    struct nn *nn = alloc64(sizeof *nn);
    if (!nn) return err_nomem(e, sizeof *nn, "the network's context");
    *nn = (struct nn){.threads = threads, .exact = exact};
    int rc = kern_get(&nn->k, level, e);
    if (!rc) rc = pool_open(&nn->pool, threads, e);
    if (!rc) {
        nn->workers = alloc64((size_t)threads * sizeof *nn->workers);
        nn->parts = alloc64(NN__PARTS * sizeof *nn->parts);
        if (!nn->workers || !nn->parts)
            rc = err_nomem(e, (size_t)threads * sizeof *nn->workers, "the workers' scratch");
    }
    if (rc) {
        nn_close(nn);
        return rc;
    }
    *out = nn;
    return 0;
}

void nn_close(struct nn *nn)
{
    if (!nn) return;
    pool_close(nn->pool);
    free(nn->workers);
    free(nn->parts);
    free(nn->outs);
    free(nn->act);
    free(nn);
}

int nn_reserve(struct nn *nn, int rows, int64_t k, struct err *e)
{
    if (rows < 2) rows = 2; /* one and its remainder */
    size_t panel = (size_t)rows * KERN_ROWS, own = 2 * panel + (size_t)k;
    free(nn->act);
    free(nn->outs);
    nn->rows = rows;
    size_t own_act = kern_act_bytes(2 * NN__OWN_ROWS, k), all_act = kern_act_bytes(rows, k);
    if (all_act < kern_act16_bytes(rows, k)) all_act = kern_act16_bytes(rows, k);
    nn->act_bytes = nn->exact ? 64 : all_act + (size_t)nn->threads * own_act;
    nn->act = alloc64(nn->act_bytes);
    nn->outs_bytes = (size_t)nn->threads * own * sizeof(float);
    nn->outs = alloc64(nn->outs_bytes);
    if (!nn->act || !nn->outs) return err_nomem(e, nn->act_bytes + nn->outs_bytes, "activations");
    for (int i = 0; i < nn->threads; i++) {
        if (!nn->exact) nn->workers[i].own_act = (uint8_t *)nn->act + all_act + (size_t)i * own_act;
        nn->workers[i].out = nn->outs + (size_t)i * own;
        nn->workers[i].up = nn->workers[i].out + panel;
        nn->workers[i].row = nn->workers[i].up + panel;
    }
    return 0;
}

size_t nn_scratch_bytes(const struct nn *nn)
{
    return nn->act_bytes + nn->outs_bytes + (size_t)nn->threads * sizeof *nn->workers;
}

const struct kern *nn_kern(const struct nn *nn)
{
    return nn->k;
}

int nn_threads(const struct nn *nn)
{
    return nn->threads;
}

bool nn_exact(const struct nn *nn)
{
    return nn->exact;
}

void nn__deal(struct nn *nn, enum nn__what what, long n)
{
    for (long i = 0; i < nn->threads; i++) {
        uint64_t first = (uint64_t)(n * i / nn->threads);
        uint64_t end = (uint64_t)(n * (i + 1) / nn->threads);
        atomic_store_explicit(&nn->workers[i].run[what], end << 32 | first, memory_order_relaxed);
    }
}

long nn__next(struct nn *nn, enum nn__what what, int worker)
{
    for (int i = 0; i < nn->threads; i++) {
        _Atomic uint64_t *run = &nn->workers[(worker + i) % nn->threads].run[what];
        uint64_t was = atomic_load_explicit(run, memory_order_relaxed), now;
        while ((uint32_t)was < was >> 32) {
            now = i ? was - (1ULL << 32) : was + 1;
            if (atomic_compare_exchange_weak_explicit(run, &was, now, memory_order_relaxed,
                                                      memory_order_relaxed))
                return i ? (long)(now >> 32) : (long)(uint32_t)was;
        }
    }
    return -1;
}

void nn__run(struct nn *nn, long units, pool_fn *fn, void *arg)
{
    nn__deal(nn, NN__UNITS, units);
    pool_run(nn->pool, fn, arg);
}

struct rows_job {
    struct nn *nn;
    nn__row_fn *fn;
    void *arg;
};

static void rows_worker(void *arg, int worker)
{
    struct rows_job *j = arg;
    long at;
    while ((at = nn__next(j->nn, NN__UNITS, worker)) >= 0) j->fn(j->nn, j->arg, (int)at);
}

void nn__rows(struct nn *nn, nn__row_fn *fn, void *arg, int n, long cost)
{
    if (nn->threads > 1 && n > 4 && n * cost > SERIAL_FLOATS) {
        nn__run(nn, n, rows_worker, &(struct rows_job){nn, fn, arg});
        return;
    }
    for (int i = 0; i < n; i++) fn(nn, arg, i);
}

struct share_job {
    struct nn *nn;
    void (*fn)(void *arg, int i);
    void *arg;
};

static void share_worker(void *arg, int worker)
{
    struct share_job *j = arg;
    long at;
    while ((at = nn__next(j->nn, NN__UNITS, worker)) >= 0) j->fn(j->arg, (int)at);
}

void nn_share(struct nn *nn, int n, void (*fn)(void *arg, int i), void *arg)
{
    if (n > 1)
        nn__run(nn, n, share_worker, &(struct share_job){nn, fn, arg});
    else if (n == 1)
        fn(arg, 0);
}

struct row_job {
    float *out;
    const float *x, *w, *b;
    int d;
    float number; /* eps, cap */
};

static void norm_row(const struct nn *nn, void *arg, int i)
{
    struct row_job *j = arg;
    size_t at = (size_t)i * (size_t)j->d;
    nn->k->rms_norm(j->out + at, j->x + at, j->w, j->d, j->number);
}

void nn_rms_norm(struct nn *nn, float *out, const float *x, const float *w, int n, int d, float eps)
{
    nn__rows(nn, norm_row, &(struct row_job){out, x, w, NULL, d, eps}, n, d);
}

struct add_job {
    float *x, *h;
    const float *w;
    int d;
    float eps;
};

static void add_norm_row(const struct nn *nn, void *arg, int i)
{
    struct add_job *j = arg;
    float *h = j->h + (size_t)i * (size_t)j->d;
    nn->k->rms_norm(h, h, j->w, j->d, j->eps);
    nn->k->add(j->x + (size_t)i * (size_t)j->d, h, j->d);
}

void nn_add_rms_norm(struct nn *nn, float *x, float *h, const float *w, int n, int d, float eps)
{
    nn__rows(nn, add_norm_row, &(struct add_job){x, h, w, d, eps}, n, 2L * d);
}

static void layer_norm_row(const struct nn *nn, void *arg, int i)
{
    struct row_job *j = arg;
    size_t at = (size_t)i * (size_t)j->d;
    nn->k->layer_norm(j->out + at, j->x + at, j->w, j->b, j->d, j->number);
}

void nn_layer_norm(struct nn *nn, float *out, const float *x, const float *w, const float *b, int n,
                   int d, float eps)
{
    nn__rows(nn, layer_norm_row, &(struct row_job){out, x, w, b, d, eps}, n, d);
}

static void add_row(const struct nn *nn, void *arg, int i)
{
    struct row_job *j = arg;
    size_t at = (size_t)i * (size_t)j->d;
    nn->k->add(j->out + at, j->x + at, j->d);
}

void nn_add(struct nn *nn, float *x, const float *y, int n, int d)
{
    nn__rows(nn, add_row, &(struct row_job){x, y, NULL, NULL, d, 0}, n, d);
}

static void softcap_row(const struct nn *nn, void *arg, int i)
{
    struct row_job *j = arg;
    nn->k->softcap(j->out + (size_t)i * (size_t)j->d, j->d, j->number);
}

void nn_softcap(struct nn *nn, float *x, int n, int d, float cap)
{
    nn__rows(nn, softcap_row, &(struct row_job){x, NULL, NULL, NULL, d, cap}, n, d);
}

struct table_job {
    float *table;
    const struct nn_rope *r;
    const int *pos;
};

static void table_row(const struct nn *nn, void *arg, int i)
{
    struct table_job *j = arg;
    int half = j->r->d_rot / 2;
    float *t = j->table + (size_t)i * (size_t)j->r->d_rot;
    (void)nn;
    for (int p = 0; p < half; p++) {
        double angle = j->pos[i] * j->r->freq[p];
        t[p] = (float)(cos(angle) * (double)j->r->mscale);
        t[half + p] = (float)(sin(angle) * (double)j->r->mscale);
    }
}

void nn_rope_table(struct nn *nn, const struct nn_rope *r, float *table, const int *pos, int n)
{
    nn__rows(nn, table_row, &(struct table_job){table, r, pos}, n, 20L * r->d_rot);
}
