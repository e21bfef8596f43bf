/* Who is served when: fair shares, priorities, pauses. */
#include "../support/sched_world.h"

#include "../support/oom.h"

/* Served to each tenant as sched.h counts it, for jobs that are never put back and share nothing. */
static int64_t served[8];

struct load {
    int tenant, jobs, prompt, answer; /* jobs: how many it has at any time */
};

static void keep_busy(const struct load *loads, int n, int steps)
{
    static int owner[JOBS];
    static int text;
    memset(served, 0, sizeof served);
    for (int t = 0; t < n; t++)
        for (int i = 0; i < loads[t].jobs; i++)
            owner[add(loads[t].tenant, ++text, loads[t].prompt, loads[t].answer)] = t;
    for (int k = 0; k < steps; k++) {
        step();
        for (int i = 0; i < w.n; i++) {
            int job = w.out[i].job, t = owner[job];
            served[t] += w.out[i].pos < loads[t].prompt ? w.out[i].n : 0;
            served[t] += w.out[i].sample ? 2 : 0;
            if (w.got[job] < loads[t].answer) continue;
            sched_end(w.s, job);
            owner[add(loads[t].tenant, ++text, loads[t].prompt, loads[t].answer)] = t;
        }
    }
}

static void assert_equal_share(int a, int b, int64_t slack)
{
    int64_t d = served[a] - served[b];
    if (d < -slack || d > slack)
        fail_msg("served %lld and %lld", (long long)served[a], (long long)served[b]);
}

/* 20 short prompts behind a long one: how many steps until all have a token, or the long one has. */
static void race(int tenant, int *all_shorts, int *the_long)
{
    int shorts[20];
    *all_shorts = *the_long = 0;
    begin(limits(24, 1000, 256, 128));
    int a = add(1, 1, 8192, 50);
    step();
    assert_slice(a, 0, 256, false);
    for (int i = 0; i < 20; i++) shorts[i] = add(tenant, 10 + i, 64, 200);
    for (int k = 1; !*all_shorts || !*the_long; k++) {
        assert_true(k < 200);
        step();
        int waiting = 0;
        for (int i = 0; i < 20; i++) waiting += w.got[shorts[i]] == 0;
        if (!waiting && !*all_shorts) *all_shorts = k;
        if (w.got[a] && !*the_long) *the_long = k;
    }
    finish();
}

static void short_prompts_do_not_wait_for_a_long_one(void **state)
{
    int all_shorts, the_long;
    (void)state;
    for (int tenant = 1; tenant <= 2; tenant++) {
        race(tenant, &all_shorts, &the_long);
        assert_in_range(all_shorts, 9, 11); /* 256 and 1024 rows in steps of 128 */
        assert_in_range(the_long, 70, 75);  /* 9216 rows in all */
    }
}

static void what_was_computed_before_is_not_waited_for(void **state)
{
    (void)state;
    begin(limits(4, 100, 40, 40));
    int a = add(1, 1, 320, 1);
    run(a, 1);
    sched_end(w.s, a);
    int b = add(1, 2, 60, 1);
    a = add(1, 1, 350, 1);
    assert_int_equal(step(), 2);
    assert_slice(a, 320, 30, true);
    assert_slice(b, 0, 10, false);
    finish();
}

static void a_long_prompt_waits_for_so_many_tokens_and_no_more(void **state)
{
    (void)state;
    begin(limits(24, 1000, 64, 64));
    int a = add(1, 1, 2000, 5), first = -1, k = 0;
    for (; w.got[a] == 0; k++) { /* more comes than can be computed */
        assert_true(k < 200);
        if (k % 2 == 0 && k < 120) {
            int b = add(1, 10 + k, 140, 1);
            if (first < 0) first = b;
        }
        step();
        if (k == 3) assert_int_equal(w.got[first], 1);
        for (int i = 0; i < w.n; i++)
            if (w.out[i].job != a && w.out[i].sample) sched_end(w.s, w.out[i].job);
    }
    assert_in_range(k, 2000 / 64 + 20, 2 * 2000 / 64 + 3);
    finish();
}

static void new_tenants_do_not_starve_an_old_one(void **state)
{
    struct err e;
    int k = 0, tenant = 1, job;
    (void)state;
    begin(limits(24, 1000, 64, 64));
    int a = add(1, 1, 2000, 5);
    for (; w.got[a] == 0; k++) {
        assert_true(k < 400);
        struct sched_spec p = {.prompt = 35, .max_tokens = 1};
        do { /* as many as there is room for */
            p.tenant = (uint64_t)++tenant;
        } while (!try_add(p, tenant, &job, &e));
        step();
        for (int i = 0; i < w.n; i++)
            if (w.out[i].job != a && w.out[i].sample) sched_end(w.s, w.out[i].job);
    }
    assert_in_range(k, 150, 2000 * 8 / 64); /* it is one of eight */
    finish();
}

static void tenants_get_equal_shares(void **state)
{
    struct load loads[] = {{1, 4, 300, 10}, {2, 4, 30, 60}, {3, 9, 100, 20}};
    (void)state;
    begin(limits(6, 2000, 64, 64));
    keep_busy(loads, 3, 4000);
    assert_true(served[0] > 20000);
    assert_equal_share(0, 1, 800);
    assert_equal_share(0, 2, 800);
    assert_equal_share(1, 2, 800);
    finish();
}

static void idleness_saves_nothing_up(void **state)
{
    struct load first[] = {{1, 3, 200, 20}}, both[] = {{1, 3, 200, 20}, {2, 3, 200, 20}};
    (void)state;
    begin(limits(3, 2000, 64, 64));
    keep_busy(first, 1, 2000);
    assert_true(served[0] > 10000);
    keep_busy(both, 2, 1000);
    assert_equal_share(0, 1, 1200);
    finish();
    struct load decoding[] = {{1, 3, 200, 20}, {3, 1, 10, 4000}};
    struct load all[] = {{1, 3, 200, 20}, {3, 1, 10, 4000}, {2, 3, 200, 20}};
    begin(limits(6, 2000, 64, 64)); /* nor does a tenant that does nothing but decode, for others */
    keep_busy(decoding, 2, 1000);
    keep_busy(all, 3, 600);
    assert_true(served[0] > 8000);
    assert_equal_share(0, 2, 1200);
    finish();
    begin(limits(3, 2000, 64, 64)); /* nor do paused jobs */
    int idle = add(2, 9, 10, 10);
    step();
    sched_pause(w.s, idle, true);
    keep_busy(first, 1, 2000);
    sched_pause(w.s, idle, false);
    sched_end(w.s, idle);
    keep_busy(both, 2, 1000);
    assert_equal_share(0, 1, 1200);
    finish();
}

static void who_leaves_in_debt_comes_back_in_debt(void **state)
{
    struct load loads[] = {{1, 4, 200, 10},
                           {2, 1, 10, 395}}; /* the second is away between its jobs */
    (void)state;
    begin(limits(1, 2000, 64, 64));
    keep_busy(loads, 2, 20000);
    assert_true(served[0] > 6000);
    assert_equal_share(0, 1, 1600);
    finish();
}

static void what_is_computed_again_is_free(void **state)
{
    (void)state;
    begin(limits(1, 8, 64, 64));
    int a = add(1, 1, 100, 9);
    int b =
        add_as((struct sched_spec){.tenant = 2, .priority = 1, .prompt = 150, .max_tokens = 1}, 2);
    run(b, 1);
    sched_end(w.s, b);
    run(a, 1); /* the first tenant was served 102, the second 152 */
    int c =
        add_as((struct sched_spec){.tenant = 3, .priority = 1, .prompt = 240, .max_tokens = 1}, 3);
    run(c, 1);
    sched_end(w.s, c);
    int d = add(2, 4, 64, 1), e = add(1, 5, 64, 1);
    step();
    assert_slice(a, 0, 64, false); /* again from the beginning */
    step();
    assert_slice(a, 64, 37, true);
    sched_end(w.s, a);
    step();
    assert_slice(e, 0, 64, true);
    assert_null(slice(d));
    finish();
}

static void an_empty_house_forgets_nothing(void **state)
{
    (void)state;
    begin(limits(1, 20, 10, 10));
    int a = add(1, 1, 40, 1);
    run(a, 1);
    sched_end(w.s, a);
    int b = add(2, 2, 10, 1), c = add(1, 3, 10, 1); /* b's tenant starts where a's had come to */
    add(2, 4, 10, 1);
    step();
    assert_slice(b, 0, 10, true);
    sched_end(w.s, b);
    step();
    assert_slice(c, 0, 10, true);
    finish();
}

static void priority_comes_first(void **state)
{
    (void)state;
    begin(limits(1, 10, 64, 64));
    int low = add(1, 1, 100, 20),
        mid = add_as((struct sched_spec){.priority = 1, .prompt = 100, .max_tokens = 20}, 2);
    int high = add_as((struct sched_spec){.priority = 2, .prompt = 100, .max_tokens = 20}, 3);
    run(high, 20);
    assert_int_equal(w.got[low] + w.got[mid], 0);
    sched_end(w.s, high);
    run(mid, 5);
    assert_int_equal(w.got[low], 0);
    high = add_as((struct sched_spec){.priority = 2, .prompt = 100, .max_tokens = 20}, 4);
    step();
    assert_int_equal(w.n, 1); /* mid has lost its place */
    assert_slice(high, 0, 64, false);
    assert_int_equal(job_info(mid).preempted, 1);
    sched_end(w.s, high);
    step();
    assert_slice(mid, 96, 9, true);
    sched_end(w.s, mid);
    int same = add(2, 5, 100, 20); /* of the same priority: it waits, though its tenant had less */
    step();
    step();
    assert_int_equal(w.got[low], 1);
    assert_false(job_info(same).running);
    finish();
    begin(limits(4, 10, 400, 400)); /* pages: nobody is put back in vain */
    low = add(1, 1, 96, 60);
    mid = add_as((struct sched_spec){.priority = 1, .prompt = 96, .max_tokens = 60}, 2);
    step();
    high = add_as((struct sched_spec){.priority = 1, .prompt = 200, .max_tokens = 20}, 3);
    step();
    assert_false(job_info(high).running);
    assert_true(
        job_info(low).running); /* 4 pages each and 7 for the third: low's four are not enough */
    sched_end(w.s, high);
    high = add_as((struct sched_spec){.priority = 1, .prompt = 90, .max_tokens = 20}, 3);
    step();
    assert_true(job_info(high).running && job_info(mid).running);
    assert_false(job_info(low).running);
    finish();
}

static void waiting_jobs_leave_room_to_grow_and_do_not_overtake(void **state)
{
    (void)state;
    begin(limits(4, 10, 400, 400));
    int a = add_as((struct sched_spec){.priority = 1, .prompt = 100, .max_tokens = 100}, 1);
    int b = add_as((struct sched_spec){.priority = 1, .prompt = 150, .max_tokens = 20}, 2);
    int c = add(3, 3, 10, 20);
    step();
    assert_non_null(slice(a));
    assert_null(slice(b)); /* 4 + 5 pages, and two to grow */
    assert_null(slice(c)); /* would fit, but it is b's turn */
    sched_end(w.s, b);
    step();
    assert_non_null(slice(c));
    finish();
}

static void pauses(void **state)
{
    (void)state;
    begin(limits(2, 8, 64, 64));
    int a = add(1, 1, 40, 100), b = add(2, 2, 40, 100);
    run(b, 2);
    plan();
    sched_pause(w.s, a, true); /* its row is still computed, its token may still come */
    sched_computed(w.s);
    sample();
    for (int i = 0; i < 3; i++) {
        step();
        assert_null(slice(a));
        assert_non_null(slice(b));
    }
    assert_int_equal(job_info(a).pages, 2);
    sched_pause(w.s, a, false);
    step();
    assert_non_null(slice(a));
    sched_pause(w.s, a, true);
    int c = add(3, 3, 10, 5); /* both places are taken, one by nobody who runs */
    step();
    assert_non_null(slice(c));
    assert_int_equal(job_info(a).preempted, 1);
    sched_end(w.s, b);
    sched_end(w.s, c);
    assert_int_equal(plan(), 0);
    sched_pause(w.s, a, false);
    step();
    assert_slice(a, 32, job_info(a).tokens - 1 - 32, true);
    finish();
}

static void nothing_is_allocated(void **state)
{
    struct load loads[] = {{1, 4, 300, 10}, {2, 4, 30, 300}, {3, 9, 100, 20}};
    (void)state;
    begin(limits(6, 24, 64, 64));
    oom_after(1);
    keep_busy(loads, 3, 1000);
    assert_false(oom_hit());
    assert_true(info().preempted > 0 && info().evicted > 0);
    finish();
}

/* Work beside the plans counts as served: who has it done waits with prompts for the others. */
static void visits_are_charged(void **state)
{
    (void)state;
    begin(limits(8, 200, 64, 64));
    int one = sched_visit(w.s, 1), other = sched_visit(w.s, 2);
    assert_true(one >= 0);
    assert_int_equal(sched_visit(w.s, 1), one);
    assert_int_equal(sched_served(w.s, one), 0);
    sched_charge(w.s, one, 300);
    int a = add(1, 1, 400, 5), b = add(2, 2, 200, 5);
    run(b, 1);
    assert_int_equal(w.got[a], 0);
    assert_in_range(sched_served(w.s, one), 300, 300 + 64);
    assert_int_equal(sched_served(w.s, other), 202);
    assert_true(job_info(a).tag >= 700);
    sched_leave(w.s, one);
    sched_leave(w.s, one);
    sched_leave(w.s, other);
    run(a, 1);
    int two = sched_visit(w.s, 3); /* who was away has saved nothing up */
    assert_true(sched_served(w.s, two) > 150);
    /* Each visitor has a place, and keeps it. */
    int others[8], n = 0;
    for (uint64_t t = 10; n < 5; t++) others[n++] = sched_visit(w.s, t);
    assert_int_equal(sched_visit(w.s, 99), -1);
    while (n) sched_leave(w.s, others[--n]);
    sched_leave(w.s, two);
    sched_check(w.s);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_prompts_do_not_wait_for_a_long_one),
        cmocka_unit_test(what_was_computed_before_is_not_waited_for),
        cmocka_unit_test(a_long_prompt_waits_for_so_many_tokens_and_no_more),
        cmocka_unit_test(new_tenants_do_not_starve_an_old_one),
        cmocka_unit_test(tenants_get_equal_shares),
        cmocka_unit_test(idleness_saves_nothing_up),
        cmocka_unit_test(who_leaves_in_debt_comes_back_in_debt),
        cmocka_unit_test(what_is_computed_again_is_free),
        cmocka_unit_test(an_empty_house_forgets_nothing),
        cmocka_unit_test(priority_comes_first),
        cmocka_unit_test(waiting_jobs_leave_room_to_grow_and_do_not_overtake),
        cmocka_unit_test(pauses),
        cmocka_unit_test(visits_are_charged),
        cmocka_unit_test(nothing_is_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
