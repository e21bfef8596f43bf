/* The peaks that bound a model here: multiply-accumulates for prefill and batches, reading the
 * weights for decode. Each is the best of a few rounds, since a shared machine only ever takes away;
 * a round has as many multiply-accumulates as take some milliseconds. */
#include "nn_int.h"

#include "clock.h"
#include <string.h>
#include <sys/mman.h>

enum { ROUNDS = 4, READ_BYTES = 128 << 20, ROUND_NS = 5000000, FIRST = 1 << 16 };

struct job {
    struct nn *nn;
    int64_t (*macs)(int64_t rounds); /* NULL: reads */
    int64_t rounds;
    const char *mem;
    atomic_llong done; /* multiply-accumulates, or bytes */
};

static void work(void *arg, int worker)
{
    struct job *j = arg;
    size_t part = READ_BYTES / (size_t)j->nn->threads / 256 * 256;
    if (j->macs) {
        atomic_fetch_add(&j->done, j->macs(j->rounds));
    } else {
        j->nn->k->probe_read(j->mem + part * (size_t)worker, part);
        atomic_fetch_add(&j->done, (long long)part);
    }
}

static double rate(struct job *j, int64_t *ns)
{
    atomic_store(&j->done, 0);
    int64_t start = clock_ns();
    nn__run(j->nn, 0, work, j);
    *ns = clock_ns() - start + 1;
    return (double)atomic_load(&j->done) * 1e9 / (double)*ns;
}

static double best(struct nn *nn, int64_t (*macs)(int64_t rounds), const char *mem)
{
    struct job j = {.nn = nn, .macs = macs, .rounds = FIRST, .mem = mem};
    double most = 0;
    int64_t ns;
    for (int i = 0; i < ROUNDS; i++) {
        double r = rate(&j, &ns);
        if (r > most) most = r;
        j.rounds = (int64_t)((double)j.rounds * ROUND_NS / (double)ns) + 1;
    }
    return most;
}

int nn_probe(struct nn *nn, struct nn_peaks *p, struct err *e)
{
    char *mem = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED) return err_nomem(e, READ_BYTES, "the probe of bandwidth");
    madvise(mem, READ_BYTES, MADV_HUGEPAGE);
    memset(mem, 1, READ_BYTES);
    *p = (struct nn_peaks){.int8_macs_per_s = best(nn, nn->k->probe_int8, NULL),
                           .bf16_macs_per_s =
                               nn->k->probe_bf16 ? best(nn, nn->k->probe_bf16, NULL) : 0,
                           .f32_macs_per_s = best(nn, nn->k->probe_f32, NULL),
                           .read_bytes_per_s = best(nn, NULL, mem)};
    munmap(mem, READ_BYTES);
    return 0;
}
