/* The two peaks that bound a language model here: prefill by int8 multiply-accumulates, decode by
 * reading the weights. Each is the best of a few rounds, since a shared machine only ever takes
 * away. */
#include "nn_int.h"

#include "clock.h"
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 4, READ_BYTES = 256 << 20, INT8_ROUNDS = 1 << 22 };

struct job {
    struct nn *nn;
    const char *mem;
    atomic_llong macs;
};

static void int8_worker(void *arg, int worker)
{
    struct job *j = arg;
    (void)worker;
    atomic_fetch_add(&j->macs, j->nn->k->probe_int8(INT8_ROUNDS));
}

static void read_worker(void *arg, int worker)
{
    struct job *j = arg;
    size_t part = READ_BYTES / (size_t)j->nn->threads / 256 * 256;
    j->nn->k->probe_read(j->mem + part * (size_t)worker, part);
}

int nn_probe(struct nn *nn, struct nn_peaks *p, struct err *e)
{
    struct job j = {.nn = nn};
    char *mem = aligned_alloc(4096, READ_BYTES);
    if (!mem) return err_nomem(e, READ_BYTES, "the probe of bandwidth");
    memset(mem, 1, READ_BYTES);
    j.mem = mem;
    *p = (struct nn_peaks){0, 0};
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(&j.macs, 0);
        int64_t start = clock_ns();
        nn__run(nn, int8_worker, &j);
        double rate = (double)atomic_load(&j.macs) * 1e9 / (double)(clock_ns() - start);
        if (rate > p->int8_macs_per_s) p->int8_macs_per_s = rate;
        start = clock_ns();
        nn__run(nn, read_worker, &j);
        rate = (double)READ_BYTES * 1e9 / (double)(clock_ns() - start);
        if (rate > p->read_bytes_per_s) p->read_bytes_per_s = rate;
    }
    free(mem);
    return 0;
}
