/* Models that are only counted: who is loaded and unloaded when, who waits, and that the budget holds and nobody
 * loses a model in use, among many threads, too. */
#include "models.h"

#include "rng.h"
#include "thread.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { ALL = 6, MIB = 1 << 20 };
#define FOREVER ((int64_t)3600 * 1000000000)

/* What the functions below saw. */
static struct world {
    struct thread_monitor lock;
    size_t bytes[ALL], used, budget;
    bool in[ALL], fails[ALL], hold_loads;
    int loads[ALL], unloads[ALL], users[ALL];
    char log[200]; /* "+0-0": what came and went */
    bool broken;
} world;

static int on_load(void *arg, int id, size_t *bytes, struct err *e)
{
    struct world *w = arg;
    thread_hold(&w->lock);
    while (w->hold_loads) thread_wait(&w->lock, -1);
    if (w->fails[id]) {
        thread_release(&w->lock);
        return err_set(e, ERR_IO, "model %d fails", id);
    }
    w->broken |= w->in[id] || *bytes != w->bytes[id];
    w->in[id] = true;
    w->loads[id]++;
    w->used += w->bytes[id];
    w->broken |= w->budget && w->used > w->budget;
    size_t n = strlen(w->log);
    if (n + 3 < sizeof w->log) memcpy(w->log + n, (char[]){'+', (char)('0' + id), 0}, 3);
    thread_wake(&w->lock);
    thread_release(&w->lock);
    return 0;
}

static void on_unload(void *arg, int id)
{
    struct world *w = arg;
    thread_hold(&w->lock);
    w->broken |= !w->in[id] || w->users[id];
    w->in[id] = false;
    w->unloads[id]++;
    w->used -= w->bytes[id];
    size_t n = strlen(w->log);
    if (n + 3 < sizeof w->log) memcpy(w->log + n, (char[]){'-', (char)('0' + id), 0}, 3);
    thread_wake(&w->lock);
    thread_release(&w->lock);
}

/* One who asks. */
struct asker {
    struct models_wait wait; /* first */
    int id;
    bool now, told, failed;
    struct err error;
};

static void on_ready(struct models_wait *wait, const struct err *e)
{
    struct asker *k = (struct asker *)wait;
    thread_hold(&world.lock);
    world.broken |= k->told;
    k->failed = e != NULL;
    if (e) k->error = *e;
    if (!e) world.users[k->id]++;
    world.broken |= !e && !world.in[k->id];
    k->told = true;
    thread_wake(&world.lock);
    thread_release(&world.lock);
}

static int ask(struct models *m, struct asker *k, int id)
{
    *k = (struct asker){.wait.ready = on_ready, .id = id};
    int rc = models_take(m, id, &k->wait, &k->now, &k->error);
    if (rc || !k->now) return rc;
    thread_hold(&world.lock);
    world.users[id]++;
    world.broken |= !world.in[id];
    thread_release(&world.lock);
    return 0;
}

static bool wait_told(struct asker *k)
{
    thread_hold(&world.lock);
    while (!k->now && !k->told) thread_wait(&world.lock, -1);
    thread_release(&world.lock);
    return !k->failed;
}

static void give(struct models *m, struct asker *k)
{
    thread_hold(&world.lock);
    world.users[k->id]--;
    thread_release(&world.lock);
    models_give(m, k->id);
}

/* Asks, waits, gives back. */
static void use(struct models *m, int id)
{
    struct asker k;
    assert_int_equal(ask(m, &k, id), 0);
    assert_true(wait_told(&k));
    give(m, &k);
}

static struct models_item items[ALL];

/* ALL models of 1, 2, 3 ... MiB that stay for an hour. */
static void begin(size_t budget_mib)
{
    static const char *const names[ALL] = {"a", "b", "c", "d", "e", "f"};
    memset(&world, 0, sizeof world);
    thread_monitor_init(&world.lock);
    world.budget = budget_mib * MIB;
    for (int i = 0; i < ALL; i++) {
        world.bytes[i] = (size_t)(i + 1) * MIB;
        items[i] = (struct models_item){names[i], world.bytes[i], FOREVER, false, false};
    }
}

static int open_models(struct models **m, int waiting, struct err *e)
{
    struct models_opts o = {.items = items,
                            .n = ALL,
                            .budget_bytes = world.budget,
                            .waiting = waiting,
                            .load = on_load,
                            .unload = on_unload,
                            .arg = &world};
    return models_open(m, &o, e);
}

static struct models *opened(int waiting)
{
    struct models *m;
    struct err e;
    if (open_models(&m, waiting, &e)) fail_msg("%s", e.msg);
    return m;
}

static void end(struct models *m)
{
    models_close(m);
    assert_false(world.broken);
    assert_int_equal(world.used, 0);
    for (int i = 0; i < ALL; i++) assert_int_equal(world.loads[i], world.unloads[i]);
    thread_monitor_free(&world.lock);
}

static struct models_info info_of(struct models *m, int id)
{
    struct models_info info;
    models_info(m, id, &info);
    return info;
}

static void wait_state(struct models *m, int id, enum models_state state)
{
    while (info_of(m, id).state != state) {
        thread_hold(&world.lock);
        thread_wait(&world.lock, 1000000);
        thread_release(&world.lock);
    }
}

static void wait_waiting(struct models *m, int id, int n)
{
    while (info_of(m, id).waiting != n) {
        thread_hold(&world.lock);
        thread_wait(&world.lock, 1000000);
        thread_release(&world.lock);
    }
}

static void first_ones(void **state)
{
    struct models *m;
    struct asker k;
    struct err e;
    (void)state;
    begin(6);
    items[0].preload = items[2].preload = true;
    m = opened(0);
    assert_string_equal(world.log, "+0+2");
    assert_int_equal(ask(m, &k, 2), 0);
    assert_true(k.now);
    assert_int_equal(info_of(m, 2).requests, 1);
    give(m, &k);
    assert_int_equal(info_of(m, 2).requests, 0);
    assert_int_equal(info_of(m, 1).state, MODELS_OUT);
    end(m);

    begin(6);
    items[3].preload = items[2].preload = true;
    assert_int_equal(open_models(&m, 0, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "the model d takes 4 MiB, 3 of the 6"));
    assert_int_equal(world.used, 0);

    begin(0);
    items[1].preload = items[4].preload = true;
    world.fails[4] = true;
    assert_int_equal(open_models(&m, 0, &e), ERR_IO);
    assert_string_equal(world.log, "+1-1");
}

static void least_used_goes(void **state)
{
    (void)state;
    begin(6);
    struct models *m = opened(0);
    use(m, 0);
    use(m, 1);
    use(m, 2);
    use(m, 0); /* 2 is the least used now */
    use(m, 1);
    assert_string_equal(world.log, "+0+1+2");
    use(m, 3); /* wants 4 of 6: 2 goes, then 0 */
    assert_string_equal(world.log, "+0+1+2-2-0+3");
    use(m, 5);
    assert_string_equal(world.log, "+0+1+2-2-0+3-1-3+5");
    assert_int_equal(info_of(m, 5).loads, 1);
    end(m);
}

static void what_cannot_fit(void **state)
{
    struct asker k;
    (void)state;
    begin(5);
    items[1].preload = items[1].stays = true;
    struct models *m = opened(0);
    assert_int_equal(ask(m, &k, 5), 0);
    assert_false(wait_told(&k));
    assert_int_equal(k.error.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(k.error.msg, "the model f takes 6 MiB; there are 5"));
    assert_int_equal(ask(m, &k, 3), 0); /* beside the one that stays */
    assert_false(wait_told(&k));
    models_keep(m, 1, 0); /* changes nothing */
    use(m, 2);
    use(m, 0);
    assert_string_equal(world.log, "+1+2-2+0");
    assert_true(info_of(m, 1).left_ns < 0);
    end(m);
}

static void unused_ones_go(void **state)
{
    struct asker k;
    (void)state;
    begin(0);
    items[0].keep_ns = 20000000;
    items[1].keep_ns = -1;
    struct models *m = opened(0);
    use(m, 0);
    use(m, 1);
    wait_state(m, 0, MODELS_OUT);
    assert_string_equal(world.log, "+0+1-0");
    assert_true(info_of(m, 1).left_ns < 0);
    assert_int_equal(ask(m, &k, 0), 0);
    assert_true(wait_told(&k));
    models_keep(m, 0, 0); /* not before it is given back */
    models_keep(m, 1, 0);
    wait_state(m, 1, MODELS_OUT);
    assert_int_equal(info_of(m, 0).state, MODELS_LOADED);
    give(m, &k);
    wait_state(m, 0, MODELS_OUT);
    use(m, 0); /* forgotten what was wanted of it */
    assert_in_range(info_of(m, 0).left_ns, 0, 20000000);
    end(m);
}

static void those_that_do_not_fit_together_take_turns(void **state)
{
    struct asker first, other, late, third;
    (void)state;
    begin(6);
    struct models *m = opened(0);
    assert_int_equal(ask(m, &first, 3), 0);
    assert_true(wait_told(&first));
    assert_int_equal(ask(m, &other, 4), 0);
    wait_state(m, 3, MODELS_LEAVING);
    assert_int_equal(ask(m, &late, 3), 0); /* has to wait: 4 was there before */
    assert_false(late.now);
    assert_int_equal(ask(m, &third, 4), 0);
    assert_false(other.told);
    give(m, &first);
    assert_true(wait_told(&other));
    assert_true(wait_told(&third));
    assert_false(late.told);
    give(m, &other);
    give(m, &third);
    assert_true(wait_told(&late));
    give(m, &late);
    assert_string_equal(world.log, "+3-3+4-4+3");

    /* Whoever wanted the room has left: the model stays. */
    assert_int_equal(ask(m, &first, 3), 0);
    assert_true(first.now);
    assert_int_equal(ask(m, &other, 4), 0);
    wait_state(m, 3, MODELS_LEAVING);
    assert_true(models_forget(m, &other.wait));
    assert_false(models_forget(m, &other.wait));
    wait_state(m, 3, MODELS_LOADED);
    give(m, &first);
    assert_string_equal(world.log, "+3-3+4-4+3");
    end(m);
}

static void set_hold(bool hold)
{
    thread_hold(&world.lock);
    world.hold_loads = hold;
    thread_wake(&world.lock);
    thread_release(&world.lock);
}

static void too_many_wait(void **state)
{
    struct asker k[4], in;
    (void)state;
    begin(0);
    struct models *m = opened(3);
    use(m, 1);
    set_hold(true);
    for (int i = 0; i < 3; i++) assert_int_equal(ask(m, &k[i], i ? 0 : 2), 0);
    assert_int_equal(ask(m, &k[3], 0), ERR_LIMIT);
    wait_state(m, 2, MODELS_LOADING);
    assert_int_equal(ask(m, &in, 1), 0); /* what is there goes on meanwhile */
    assert_true(in.now);
    give(m, &in);
    wait_waiting(m, 0, 2);
    assert_true(models_forget(m, &k[1].wait));
    assert_int_equal(ask(m, &k[3], 0), 0);
    set_hold(false);
    assert_true(wait_told(&k[0]));
    assert_true(wait_told(&k[2]));
    assert_true(wait_told(&k[3]));
    give(m, &k[0]);
    give(m, &k[2]);
    give(m, &k[3]);
    assert_false(k[1].told);
    assert_int_equal(world.loads[0], 1);
    end(m);
}

static void loads_that_fail(void **state)
{
    struct asker k[2];
    (void)state;
    begin(6);
    world.fails[2] = true;
    struct models *m = opened(0);
    set_hold(true);
    for (int i = 0; i < 2; i++) assert_int_equal(ask(m, &k[i], 2), 0);
    set_hold(false);
    for (int i = 0; i < 2; i++) {
        assert_false(wait_told(&k[i]));
        assert_string_equal(k[i].error.msg, "model 2 fails");
    }
    assert_int_equal(info_of(m, 2).state, MODELS_OUT);
    thread_hold(&world.lock);
    world.fails[2] = false;
    thread_release(&world.lock);
    use(m, 2);
    use(m, 5); /* nothing was lost of the budget */
    end(m);
}

static void going_down(void **state)
{
    struct asker k[3];
    (void)state;
    begin(6);
    struct models *m = opened(0);
    assert_int_equal(ask(m, &k[0], 5), 0);
    assert_true(wait_told(&k[0]));
    assert_int_equal(ask(m, &k[1], 4), 0);
    models_drain(m);
    assert_false(wait_told(&k[1]));
    assert_int_equal(k[1].error.code, ERR_CANCELLED);
    assert_int_equal(ask(m, &k[2], 3), ERR_CANCELLED);
    give(m, &k[0]);
    end(m);

    /* One that is loading when all ends, and one that waits. */
    begin(6);
    m = opened(0);
    assert_int_equal(ask(m, &k[0], 1), 0);
    assert_int_equal(ask(m, &k[1], 5), 0);
    models_close(m);
    assert_true(k[0].told && k[1].told && k[1].failed);
    assert_int_equal(world.used, 0);
}

static void see(void *arg, int id)
{
    *(int *)arg = id;
}

static void looking_is_no_use(void **state)
{
    int seen = -1;
    (void)state;
    begin(3);
    struct models *m = opened(0);
    use(m, 0);
    use(m, 1);
    assert_true(models_look(m, 0, see, &seen));
    assert_int_equal(seen, 0);
    assert_false(models_look(m, 2, see, &seen));
    assert_int_equal(seen, 0);
    use(m, 2);
    assert_string_equal(world.log, "+0+1-0-1+2");
    end(m);
}

static void one_more(void **state)
{
    struct models *m;
    struct err e;
    const struct models_item more = {"more", 4 * MIB, FOREVER, false, false};
    (void)state;
    begin(4);
    struct models_opts o = {.items = items,
                            .n = 3,
                            .room = 1,
                            .budget_bytes = world.budget,
                            .load = on_load,
                            .unload = on_unload,
                            .arg = &world};
    assert_int_equal(models_open(&m, &o, &e), 0);
    use(m, 0);
    assert_int_equal(models_add(m, &more, &e), 0);
    assert_int_equal(models_add(m, &more, &e), ERR_LIMIT);
    use(m, 3);
    assert_string_equal(world.log, "+0-0+3");
    end(m);
}

/* ---- many at once ---- */

enum { THREADS = 4, ROUNDS = 400 };

struct crowd {
    struct models *m;
    uint64_t seed;
};

static void one_of_many(void *arg)
{
    struct crowd *c = arg;
    struct rng r;
    rng_init(&r, c->seed);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t x = rng_u64(&r);
        struct asker k;
        if (ask(c->m, &k, (int)(x % ALL))) continue;
        if (!k.now && x >> 8 & 1 && models_forget(c->m, &k.wait)) continue;
        if (!wait_told(&k)) continue;
        if (x >> 9 & 1) models_keep(c->m, k.id, (int64_t)(x >> 10 & 0xfffff));
        give(c->m, &k);
    }
}

static void many_at_once(void **state)
{
    struct crowd c[THREADS];
    struct thread *t[THREADS];
    struct err e;
    (void)state;
    begin(7);
    items[0].stays = items[0].preload = true;
    struct models *m = opened(3);
    for (int i = 0; i < THREADS; i++) {
        c[i] = (struct crowd){m, (uint64_t)i + 1};
        assert_int_equal(thread_open(&t[i], one_of_many, &c[i], &e), 0);
    }
    for (int i = 0; i < THREADS; i++) thread_close(t[i]);
    for (int i = 0; i < ALL; i++) {
        assert_int_equal(info_of(m, i).requests, 0);
        assert_int_equal(info_of(m, i).waiting, 0);
    }
    assert_int_equal(world.unloads[0], 0);
    end(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_ones),
        cmocka_unit_test(least_used_goes),
        cmocka_unit_test(what_cannot_fit),
        cmocka_unit_test(unused_ones_go),
        cmocka_unit_test(those_that_do_not_fit_together_take_turns),
        cmocka_unit_test(too_many_wait),
        cmocka_unit_test(loads_that_fail),
        cmocka_unit_test(going_down),
        cmocka_unit_test(looking_is_no_use),
        cmocka_unit_test(one_more),
        cmocka_unit_test(many_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
