/* The pool: every worker takes part exactly once a run, nobody passes a barrier early, nothing a
 * worker wrote is missing afterwards, and a system that refuses threads is an error, not a crash.
 */
#include "pool.h"
#include "clock.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST = 8, PHASES = 50 };

static struct pool *open_pool(int n)
{
    struct pool *p = NULL;
    struct err e;
    assert_int_equal(pool_open(&p, n, &e), 0);
    assert_int_equal(pool_size(p), n);
    return p;
}

struct counts {
    int ran[MOST]; /* plain ints: pool_run itself must order them */
};

static void count(void *arg, int worker)
{
    ((struct counts *)arg)->ran[worker]++;
}

static void test_each_worker_once_a_run(void **state)
{
    (void)state;
    for (int n = 1; n <= MOST; n++) {
        struct pool *p = open_pool(n);
        struct counts c = {0};
        for (int run = 1; run <= 300; run++) {
            pool_run(p, count, &c);
            for (int w = 0; w < MOST; w++) assert_int_equal(c.ran[w], w < n ? run : 0);
        }
        pool_close(p);
    }
}

static void test_wakes_after_sleep(void **state)
{
    (void)state;
    struct pool *p = open_pool(3);
    struct counts c = {0};
    for (int run = 1; run <= 20; run++) {
        usleep(3000); /* long past the spinning: workers sleep on their condition */
        pool_run(p, count, &c);
        for (int w = 0; w < 3; w++) assert_int_equal(c.ran[w], run);
    }
    usleep(3000);
    pool_close(p);
}

struct phases {
    struct pool *pool;
    int n;
    int at[MOST]; /* the phase a worker has reached; plain, ordered by the barrier alone */
    atomic_int wrong;
};

static void walk(void *arg, int worker)
{
    struct phases *s = arg;
    for (int phase = 1; phase <= PHASES; phase++) {
        s->at[worker] = phase;
        pool_barrier(s->pool);
        for (int w = 0; w < s->n; w++)
            if (s->at[w] != phase) atomic_fetch_add(&s->wrong, 1);
        pool_barrier(s->pool);
    }
}

static void test_barrier(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++) {
        struct phases s = {.pool = open_pool(n), .n = n};
        for (int run = 0; run < 5; run++) pool_run(s.pool, walk, &s);
        assert_int_equal(atomic_load(&s.wrong), 0);
        for (int w = 0; w < n; w++) assert_int_equal(s.at[w], PHASES);
        pool_close(s.pool);
    }
}

static void *run_elsewhere(void *arg)
{
    struct phases *s = arg;
    pool_run(s->pool, walk, s);
    return NULL;
}

static void test_callers_take_turns(void **state)
{
    (void)state;
    struct phases s = {.pool = open_pool(3), .n = 3};
    for (int i = 0; i < 5; i++) {
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, run_elsewhere, &s), 0);
        assert_int_equal(pthread_join(t, NULL), 0);
        run_elsewhere(&s);
    }
    assert_int_equal(atomic_load(&s.wrong), 0);
    pool_close(s.pool);
}

enum { BURN_NS = 2000000 };

/* Worker 1 computes, the other one waits for it. */
static void burn(void *arg, int worker)
{
    (void)arg;
    for (int64_t end = clock_ns() + BURN_NS; worker == 1 && clock_ns() < end;) {}
}

/* A worker that waits leaves the core of the one it waits for, and may run everywhere afterwards. */
static void test_moves_apart(void **state)
{
    (void)state;
    cpu_set_t all, one, now;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    if (CPU_COUNT(&all) < 2) skip();
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    struct pool *p = open_pool(2); /* whose thread stays on this core */
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    bool moved = false;
    for (int run = 0; run < 100 && !moved; run++) {
        pool_run(p, burn, NULL);
        moved = sched_getcpu() != cpu;
    }
    assert_true(moved);
    assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
    assert_true(CPU_EQUAL(&now, &all));
    pool_close(p);
}

static void test_counts_refused(void **state)
{
    (void)state;
    static const int bad[] = {0, -1, 257, 1 << 30};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct pool *p = NULL;
        struct err e = {0};
        assert_int_equal(pool_open(&p, bad[i], &e), ERR_USAGE);
        assert_null(p);
        assert_non_null(strstr(e.msg, "256"));
    }
    pool_close(NULL);
}

static void test_system_refuses_threads(void **state)
{
    (void)state;
    pthread_attr_t usual, vast;
    assert_int_equal(pthread_getattr_default_np(&usual), 0);
    assert_int_equal(pthread_attr_init(&vast), 0);
    assert_int_equal(pthread_attr_setstacksize(&vast, (size_t)1 << 47), 0); /* no room for it */
    assert_int_equal(pthread_setattr_default_np(&vast), 0);
    struct pool *p = NULL;
    struct err e = {0};
    int code = pool_open(&p, 4, &e);
    assert_int_equal(pthread_setattr_default_np(&usual), 0);
    assert_int_equal(code, ERR_IO);
    assert_null(p);
    assert_non_null(strstr(e.msg, "thread 2 of 4"));
    pthread_attr_destroy(&vast);
    pthread_attr_destroy(&usual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_worker_once_a_run),
        cmocka_unit_test(test_wakes_after_sleep),
        cmocka_unit_test(test_barrier),
        cmocka_unit_test(test_callers_take_turns),
        cmocka_unit_test(test_moves_apart),
        cmocka_unit_test(test_counts_refused),
        cmocka_unit_test(test_system_refuses_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
