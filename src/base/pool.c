/* One generation counter starts a run, one counter of finished workers ends it. Whoever waits spins
 * first, then yields (so that a preempted worker gets the core it is waited for on), and workers
 * finally sleep on a condition. The invariant: `go` only changes under the lock, so no wake-up is
 * lost.
 * The kernel leaves two workers that yield to each other on one core for a tenth of a second beside an idle
 * core, or one with a SCHED_IDLE task: they look too warm to be moved (Linux 6.18). So a worker that waits
 * long where another one ran last moves to a core that has none. Pinning them would do as well, but all that
 * the calling thread starts later would be pinned with it.
 */
#include "pool.h"

#include "clock.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { POOL_MAX = 256, SPINS = 4000, YIELDS = 50, MOVE_NS = 5000000 };

struct pool {
    int n, started;
    pool_fn *fn;
    void *arg;
    _Alignas(64) atomic_uint go;
    _Alignas(64) atomic_uint done;
    _Alignas(64) atomic_uint arrived, phase;
    _Alignas(64) _Atomic int64_t moved_ns;
    _Alignas(64) pthread_mutex_t lock;
    pthread_cond_t wake;
    int sleepers;
    struct worker {
        struct pool *pool;
        int index;
        pthread_t thread;
        atomic_int cpu; /* where its last run began */
    } workers[];
};

static void run(struct pool *p, int worker)
{
    atomic_store_explicit(&p->workers[worker].cpu, sched_getcpu(), memory_order_relaxed);
    p->fn(p->arg, worker);
}

/* A worker waits: is there another one on its core, and a core without? */
static void move_apart(struct pool *p)
{
    int here = 0, own = sched_getcpu(), cpu;
    cpu_set_t all, free;
    for (int i = 0; i < p->n; i++)
        here += atomic_load_explicit(&p->workers[i].cpu, memory_order_relaxed) == own;
    int64_t now = clock_ns(), moved = atomic_load(&p->moved_ns);
    if (here < 2 || now - moved < MOVE_NS || sched_getaffinity(0, sizeof all, &all)) return;
    free = all;
    for (int i = 0; i < p->n; i++)
        if ((cpu = atomic_load(&p->workers[i].cpu)) >= 0) CPU_CLR((size_t)cpu, &free);
    if (CPU_COUNT(&free) && atomic_compare_exchange_strong(&p->moved_ns, &moved, now) &&
        !sched_setaffinity(0, sizeof free, &free))
        sched_setaffinity(0, sizeof all, &all);
}

static inline void relax(struct pool *p, int i)
{
    if (i == SPINS) move_apart(p);
    if (i > SPINS)
        sched_yield();
    else
        __builtin_ia32_pause();
}

static unsigned wait_for_run(struct pool *p, unsigned seen)
{
    for (int i = 0; i < SPINS + YIELDS; i++) {
        unsigned go = atomic_load_explicit(&p->go, memory_order_acquire);
        if (go != seen) return go;
        relax(p, i);
    }
    pthread_mutex_lock(&p->lock);
    p->sleepers++;
    while (atomic_load(&p->go) == seen) pthread_cond_wait(&p->wake, &p->lock);
    p->sleepers--;
    pthread_mutex_unlock(&p->lock);
    return atomic_load(&p->go);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    for (unsigned seen = 0;;) {
        seen = wait_for_run(p, seen);
        if (!p->fn) return NULL;
        run(p, w->index);
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
    }
}

static void start(struct pool *p, pool_fn *fn, void *arg)
{
    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->go, 1);
    if (p->sleepers) pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

int pool_open(struct pool **out, int n_threads, struct err *e)
{
    if (n_threads < 1 || n_threads > POOL_MAX)
        return err_set(e, ERR_USAGE, "%d threads asked for; 1 to %d are possible", n_threads,
                       POOL_MAX);
    size_t bytes = sizeof(struct pool) + (size_t)n_threads * sizeof(struct worker);
    struct pool *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) return err_nomem(e, bytes, "worker threads");
    *p = (struct pool){.n = n_threads};
    for (int i = 0; i < n_threads; i++)
        p->workers[i] = (struct worker){.pool = p, .index = i, .cpu = -1};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 1; i < n_threads && p->started == i - 1; i++)
        p->started += !pthread_create(&p->workers[i].thread, NULL, work, &p->workers[i]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (p->started < n_threads - 1) {
        int refused = p->started + 2;
        pool_close(p);
        return err_set(e, ERR_IO, "the system refuses worker thread %d of %d", refused, n_threads);
    }
    *out = p;
    return 0;
}

void pool_close(struct pool *p)
{
    if (!p) return;
    start(p, NULL, NULL);
    for (int i = 1; i <= p->started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int pool_size(const struct pool *p)
{
    return p->n;
}

void pool_run(struct pool *p, pool_fn *fn, void *arg)
{
    if (p->n == 1) {
        fn(arg, 0);
        return;
    }
    start(p, fn, arg);
    run(p, 0);
    for (int i = 0; atomic_load_explicit(&p->done, memory_order_acquire) != (unsigned)p->n - 1; i++)
        relax(p, i);
}

void pool_barrier(struct pool *p)
{
    unsigned phase = atomic_load_explicit(&p->phase, memory_order_acquire);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) == (unsigned)p->n - 1) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&p->phase, phase + 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&p->phase, memory_order_acquire) == phase; i++)
        relax(p, i);
}
