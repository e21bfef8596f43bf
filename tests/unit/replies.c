/* Kept answers: what comes back, to whom, and what goes when there is too much. Against a plain list in
 * the order of use. */
#include "replies.h"
#include "rng.h"
#include "thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"

enum { MIB = 1 << 20 };

static struct replies *open_replies(size_t bytes, int count)
{
    struct replies *r;
    struct err e;
    assert_int_equal(replies_open(&r, bytes, count, &e), 0);
    return r;
}

static void put(struct replies *r, uint64_t tenant, int id, size_t n)
{
    struct buf answer = BUF_INIT(MIB), past = BUF_INIT(MIB);
    char name[REPLIES_ID_MAX + 1];
    snprintf(name, sizeof name, "resp_%d", id);
    buf_printf(&answer, "answer %d", id);
    for (size_t i = 0; i < n; i++) buf_putc(&past, (char)('a' + id % 26));
    replies_put(r, tenant, name, &answer, &past);
    buf_free(&answer);
    buf_free(&past);
}

/* Whether it is there, and then whole. */
static bool has(struct replies *r, uint64_t tenant, int id, size_t n)
{
    struct buf answer = BUF_INIT(MIB), past = BUF_INIT(MIB);
    char name[REPLIES_ID_MAX + 1], want[40];
    snprintf(name, sizeof name, "resp_%d", id);
    snprintf(want, sizeof want, "answer %d", id);
    bool found = replies_get(r, tenant, name, &answer, &past);
    if (found) {
        assert_string_equal(answer.data, want);
        assert_int_equal(past.len, n);
        for (size_t i = 0; i < n; i++) assert_int_equal(past.data[i], 'a' + id % 26);
    }
    assert_true(found || (!answer.len && !past.len));
    buf_free(&answer);
    buf_free(&past);
    return found;
}

static bool drop(struct replies *r, uint64_t tenant, int id)
{
    char name[REPLIES_ID_MAX + 1];
    snprintf(name, sizeof name, "resp_%d", id);
    return replies_drop(r, tenant, name);
}

static void only_its_tenant_sees_it(void **state)
{
    struct replies *r = open_replies(MIB, 10);
    (void)state;
    put(r, 1, 5, 100);
    assert_true(has(r, 1, 5, 100));
    assert_true(replies_get(r, 1, "resp_5", NULL, NULL));
    assert_false(has(r, 2, 5, 100));
    assert_false(drop(r, 2, 5));
    assert_true(drop(r, 1, 5));
    assert_false(drop(r, 1, 5));
    assert_false(has(r, 1, 5, 100));
    replies_close(r);
    replies_close(NULL);
}

/* A list of ids, the newest last, does what the store does while the number binds. */
static void the_least_used_goes_first(void **state)
{
    enum { COUNT = 20, IDS = 60 };
    struct replies *r = open_replies(MIB, COUNT);
    struct rng rng;
    int list[COUNT + 1], n = 0;
    (void)state;
    rng_init(&rng, 3);
    for (int round = 0; round < 20000; round++) {
        int id = (int)rng_below(&rng, IDS), at = 0, what = (int)rng_below(&rng, 8);
        while (at < n && list[at] != id) at++;
        bool there = at < n;
        if (there) { /* it will be the newest, or gone */
            memmove(list + at, list + at + 1, (size_t)(n - at - 1) * sizeof *list);
            n--;
        }
        if (what == 0) {
            assert_int_equal(drop(r, (uint64_t)id % 3, id), there);
            continue;
        }
        assert_int_equal(has(r, (uint64_t)id % 3, id, (size_t)id), there);
        if (!there) put(r, (uint64_t)id % 3, id, (size_t)id);
        if (n == COUNT) memmove(list, list + 1, (size_t)--n * sizeof *list);
        list[n++] = id;
    }
    replies_close(r);
}

static int count(struct replies *r, uint64_t tenant, int from, int to, size_t n)
{
    int found = 0;
    for (int id = from; id < to; id++) found += has(r, tenant, id, n);
    return found;
}

static void bytes_are_bounded(void **state)
{
    struct replies *r = open_replies(100000, 1000);
    (void)state;
    for (int id = 0; id < 500; id++) {
        put(r, 1, id, 5000);
        assert_true(has(r, 1, id, 5000));
    }
    int n = count(r, 1, 0, 500, 5000);
    assert_in_range(n, 15, 20);
    assert_int_equal(count(r, 1, 500 - n, 500, 5000), n);
    put(r, 1, 1000, 13000); /* over an eighth */
    assert_false(has(r, 1, 1000, 13000));
    replies_close(r);
    r = open_replies(100000, 0);
    put(r, 1, 1, 10);
    assert_false(has(r, 1, 1, 10));
    replies_close(r);
}

/* Who holds much makes room for more with its own. */
static void the_greedy_pay_themselves(void **state)
{
    struct replies *r = open_replies(100000, 1000);
    (void)state;
    for (int id = 0; id < 4; id++) put(r, 1, id, 5000);
    for (int id = 100; id < 300; id++) put(r, 2, id, 5000);
    assert_int_equal(count(r, 1, 0, 4, 5000), 4);
    assert_true(has(r, 2, 299, 5000));
    replies_close(r);
}

static struct replies *shared;

static void hammer(void *arg)
{
    int first = *(int *)arg;
    for (int id = first; id < first + 2000; id++) {
        int before = id - id % 7;
        put(shared, (uint64_t)id % 2, id, (size_t)id % 300);
        has(shared, (uint64_t)before % 2, before, (size_t)before % 300);
        drop(shared, (uint64_t)id % 2, id - 2);
    }
}

static void any_thread_may(void **state)
{
    enum { N = 4 };
    struct thread *threads[N];
    struct err e;
    int first[N];
    (void)state;
    shared = open_replies(50000, 100);
    for (int i = 0; i < N; i++) {
        first[i] = 10 + i * 10000;
        assert_int_equal(thread_open(&threads[i], hammer, &first[i], &e), 0);
    }
    for (int i = 0; i < N; i++) thread_close(threads[i]);
    put(shared, 1, 999999, 10);
    assert_true(has(shared, 1, 999999, 10));
    replies_close(shared);
}

static void without_memory_nothing_is_kept(void **state)
{
    struct replies *r = NULL;
    struct err e;
    (void)state;
    if (!OOM_WORKS) return;
    long alive = oom_alive;
    oom_after(1);
    int rc = replies_open(&r, MIB, 10, &e);
    assert_true(oom_hit());
    assert_int_equal(rc, ERR_MEMORY);
    r = open_replies(MIB, 10);
    struct buf some = BUF_INIT(10);
    buf_puts(&some, "text");
    oom_after(1);
    replies_put(r, 1, "resp_1", &some, &some);
    assert_true(oom_hit());
    assert_false(replies_get(r, 1, "resp_1", NULL, NULL));
    buf_free(&some);
    replies_close(r);
    assert_int_equal(oom_alive, alive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_its_tenant_sees_it), cmocka_unit_test(the_least_used_goes_first),
        cmocka_unit_test(bytes_are_bounded),       cmocka_unit_test(the_greedy_pay_themselves),
        cmocka_unit_test(any_thread_may),          cmocka_unit_test(without_memory_nothing_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
