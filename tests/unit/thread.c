/* Threads and monitors: what is written under a monitor is seen under it, a wake wakes, a wait ends in
 * time, and no signal reaches a thread. */
#include "thread.h"

#include "clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { ADDERS = 4, TIMES = 5000 };

struct shared {
    struct thread_monitor m;
    int sum, turn;
    sigset_t blocked;
};

static void add(void *arg)
{
    struct shared *s = arg;
    for (int i = 0; i < TIMES; i++) {
        thread_hold(&s->m);
        s->sum++;
        thread_release(&s->m);
    }
}

static void test_a_monitor_excludes(void **state)
{
    (void)state;
    struct shared s = {0};
    struct err e;
    struct thread *t[ADDERS];
    thread_monitor_init(&s.m);
    for (int i = 0; i < ADDERS; i++) assert_int_equal(thread_open(&t[i], add, &s, &e), 0);
    for (int i = 0; i < ADDERS; i++) thread_close(t[i]);
    assert_int_equal(s.sum, ADDERS * TIMES);
    thread_monitor_free(&s.m);
}

/* Two threads, one step each in turn. */
static void take_turns(struct shared *s, int mine)
{
    for (int i = 0; i < TIMES / 10; i++) {
        thread_hold(&s->m);
        while (s->turn % 2 != mine) thread_wait(&s->m, -1);
        s->turn++;
        thread_wake(&s->m);
        thread_release(&s->m);
    }
}

static void odd(void *arg)
{
    take_turns(arg, 1);
}

static void test_a_wake_wakes(void **state)
{
    (void)state;
    struct shared s = {0};
    struct err e;
    struct thread *t;
    thread_monitor_init(&s.m);
    assert_int_equal(thread_open(&t, odd, &s, &e), 0);
    take_turns(&s, 0);
    thread_close(t);
    assert_int_equal(s.turn, 2 * (TIMES / 10));
    thread_monitor_free(&s.m);
}

static void test_a_wait_ends(void **state)
{
    (void)state;
    struct thread_monitor m;
    thread_monitor_init(&m);
    thread_hold(&m);
    int64_t start = clock_ns(), span = 20 * 1000 * 1000;
    while (thread_wait(&m, span)) {} /* early returns are allowed */
    assert_true(clock_ns() - start >= span);
    thread_release(&m);
    thread_monitor_free(&m);
}

static void ask_signals(void *arg)
{
    struct shared *s = arg;
    pthread_sigmask(SIG_SETMASK, NULL, &s->blocked);
}

static void test_signals_stay_away(void **state)
{
    (void)state;
    struct shared s = {0};
    struct err e;
    struct thread *t;
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(thread_open(&t, ask_signals, &s, &e), 0);
    thread_close(t);
    assert_true(sigismember(&s.blocked, SIGINT) && sigismember(&s.blocked, SIGTERM));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int i = 1; i < SIGRTMIN; i++)
        assert_int_equal(sigismember(&before, i), sigismember(&after, i));
    thread_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_monitor_excludes),
        cmocka_unit_test(test_a_wake_wakes),
        cmocka_unit_test(test_a_wait_ends),
        cmocka_unit_test(test_signals_stay_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
