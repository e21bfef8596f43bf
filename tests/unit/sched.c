/* Rows, pages and the tree: each rule of sched.h on a small case. Who is served when: sched_order.c. All of them
 * against each other: tests/sim/sched.c. */
#include "../support/sched_world.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void the_door_refuses(void **state)
{
    struct sched_limits l = limits(2, 4, 64, 64);
    struct err e;
    int job;
    (void)state;
    l.jobs = 3;
    l.tenants = 2;
    l.ctx = 200;
    begin(l);
    assert_int_equal(try_add((struct sched_spec){.prompt = 0, .max_tokens = 1}, 0, &job, &e),
                     ERR_USAGE);
    assert_int_equal(try_add((struct sched_spec){.prompt = 1, .max_tokens = 0}, 0, &job, &e),
                     ERR_USAGE);
    assert_int_equal(try_add((struct sched_spec){.prompt = 150, .max_tokens = 51}, 0, &job, &e),
                     ERR_USAGE);
    assert_string_equal(e.msg, "201 tokens of prompt and answer in a context of 200");
    assert_int_equal(
        try_add((struct sched_spec){.prompt = INT32_MAX, .max_tokens = INT32_MAX}, 0, &job, &e),
        ERR_USAGE);
    assert_int_equal(try_add((struct sched_spec){.prompt = 100, .max_tokens = 30}, 0, &job, &e),
                     ERR_USAGE);
    assert_string_equal(e.msg, "130 tokens of prompt and answer in a cache of 128");
    add(1, 1, 100, 29); /* the last token is sampled, never computed */
    add(2, 1, 1, 1);
    assert_int_equal(
        try_add((struct sched_spec){.tenant = 3, .prompt = 1, .max_tokens = 1}, 0, &job, &e),
        ERR_LIMIT);
    assert_string_equal(e.msg, "the queue is full: 2 tenants");
    add(2, 1, 1, 1);
    assert_int_equal(
        try_add((struct sched_spec){.tenant = 2, .prompt = 1, .max_tokens = 1}, 0, &job, &e),
        ERR_LIMIT);
    assert_string_equal(e.msg, "the queue is full: 3 requests");
    sched_end(w.s, 2);
    sched_end(w.s, 1);
    assert_int_equal(add(3, 1, 1, 1),
                     2); /* a tenant's place is free again, and so is the id given back first */
    finish();
}

static void a_prompt_goes_in_chunks_then_tokens_one_by_one(void **state)
{
    (void)state;
    begin(limits(4, 10, 64, 16));
    int a = add(1, 1, 100, 3);
    assert_int_equal(info().waiting, 1);
    assert_int_equal(step(), 1);
    assert_slice(a, 0, 64, false);
    assert_int_equal(plan(), 1);
    assert_slice(a, 64, 36, true);
    sched_computed(w.s);
    assert_int_equal(plan(), 0); /* its token has not come */
    sched_token(w.s, a, SAID);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(plan(), 1);
        assert_slice(a, 100 + i, 1, true);
        assert_int_equal(w.out[0].tokens[0], SAID);
        sched_computed(w.s);
        sched_token(w.s, a, SAID);
    }
    assert_int_equal(plan(), 0); /* no room for another */
    struct sched_job_info j = job_info(a);
    assert_true(j.running && j.prompt == 100 && j.tokens == 103 && j.computed == 102 &&
                j.pages == 4);
    assert_pages(4, 0);
    sched_end(w.s, a);
    assert_pages(0, 3); /* the full ones stay */
    finish();
}

static void tokens_come_first_and_bound_prompts(void **state)
{
    (void)state;
    begin(limits(4, 40, 20, 12));
    int a = add(1, 1, 10, 50), b = add(1, 2, 10, 50), c = add(2, 3, 200, 5);
    assert_int_equal(step(), 2); /* nobody decodes: the whole step is for prompts */
    assert_slice(a, 0, 10, true);
    assert_slice(c, 0, 10, false);
    assert_false(job_info(b).running); /* no rows, no pages */
    assert_int_equal(step(), 2);       /* a decodes: 12 rows of prompts */
    assert_int_equal(w.out[0].job, a);
    assert_slice(a, 10, 1, true);
    assert_slice(c, 10, 12, false);
    assert_int_equal(step(), 3); /* c's tenant has had 22, the other 14 */
    assert_slice(a, 11, 1, true);
    assert_slice(b, 0, 10, true);
    assert_slice(c, 22, 2, false);
    int d = add(3, 4, 300, 5);
    assert_int_equal(step(), 3); /* d's tenant starts where c's is, c came earlier */
    assert_int_equal(w.out[0].n + w.out[1].n, 2);
    assert_slice(c, 24, 12, false);
    sched_end(w.s, a);
    sched_end(w.s, b);
    assert_int_equal(step(), 1); /* nobody decodes */
    assert_slice(d, 0, 20, false);
    finish();
    begin(limits(4, 40, 5, 12)); /* rows of all: 5 */
    add(1, 1, 1, 9);
    add(1, 2, 1, 9);
    add(1, 3, 1, 9);
    d = add(1, 4, 300, 9);
    step();
    assert_slice(d, 0, 2, false);
    assert_int_equal(step(), 4);
    assert_slice(d, 2, 2, false);
    finish();
}

static void a_prefix_is_shared_also_in_use(void **state)
{
    (void)state;
    begin(limits(4, 20, 200, 200));
    int a = add(1, 1, 100, 9);
    step();
    assert_pages(4, 0);
    int b = add(2, 1, 80, 9), c = add(2, 1, 64, 9);
    step();
    assert_slice(b, 64, 16, true);
    assert_slice(c, 32, 32, true); /* the last token is always computed */
    assert_memory_equal(slice(b)->pages, slice(a)->pages, 2 * sizeof(int32_t));
    assert_int_not_equal(slice(b)->pages[2], slice(a)->pages[2]);
    assert_int_equal(slice(c)->pages[0], slice(a)->pages[0]);
    assert_int_equal(job_info(b).cached, 64);
    assert_int_equal(info().prefix_queried, 244);
    assert_int_equal(info().prefix_hit, 96);
    assert_pages(5, 0); /* a's four and b's third; c has given up its copy of a's second */
    sched_end(w.s, a);
    sched_end(w.s, c);
    assert_pages(3, 1);
    sched_end(w.s, b);
    assert_pages(0, 3);
    int d = add(3, 1, 97, 9); /* all three pages, as nobody holds them any more */
    step();
    assert_slice(d, 96, 1, true);
    assert_pages(4, 0);
    finish();
}

static void who_comes_together_computes_once(void **state)
{
    (void)state;
    begin(limits(4, 40, 300, 300));
    int a = add(1, 1, 100, 9), b = add(1, 1, 110, 9), c = add(1, 2, 100, 9);
    assert_int_equal(step(), 2);
    assert_slice(a, 0, 100, true);
    assert_slice(c, 0, 100, true);
    assert_int_equal(plan(), 3);
    assert_slice(b, 96, 14, true);
    assert_int_equal(job_info(b).cached, 96);
    sched_undone(w.s);
    finish();
    begin(limits(4, 40, 48, 48)); /* in turns: each goes on from what the other has */
    a = add(1, 1, 200, 9);
    b = add(2, 1, 200, 9);
    assert_int_equal(step(), 1);
    assert_slice(a, 0, 48, false);
    assert_int_equal(step(), 1);
    assert_slice(b, 32, 48, false); /* a has half of this page, which is no page */
    assert_int_equal(step(), 1);
    assert_slice(a, 64, 48, false); /* the other half came from b */
    sched_end(w.s, a);
    assert_int_equal(step(), 1);
    assert_slice(b, 96, 48, false);
    finish();
}

static void nobody_waits_for_another_page(void **state)
{
    (void)state;
    begin(limits(4, 40, 300, 300));
    int a = add(1, 1, 33, 9);
    step();
    sched_end(w.s, a);
    a = add(1, 1, 40, 9); /* goes on in the second page, does not fill it */
    int b = add(2, 1, 100, 9);
    assert_int_equal(step(), 2);
    assert_slice(a, 32, 8, true);
    assert_slice(b, 32, 68, true);
    sched_end(w.s, a);
    sched_end(w.s, b);
    a = add(1, 2, 33, 9);
    b = add(1, 3, 33, 9);
    step();
    sched_end(w.s, a);
    sched_end(w.s, b);
    a = add(1, 2, 100, 9);
    b = add(2, 3, 100, 9); /* the same tokens behind another beginning */
    memcpy(w.tokens[w.added - 1] + 32, w.tokens[w.added - 2] + 32, 68 * sizeof(int32_t));
    assert_int_equal(step(), 2);
    assert_slice(a, 32, 68, true);
    assert_slice(b, 32, 68, true);
    finish();
}

static void equal_answers_become_one_page(void **state)
{
    (void)state;
    begin(limits(4, 20, 64, 64));
    int a = add(1, 1, 20, 40), b = add(2, 1, 20, 40);
    run(a, 12);
    assert_pages(2, 0);
    assert_int_equal(job_info(a).computed, 31);
    step();
    assert_pages(1, 0); /* 32 tokens of each */
    step();
    assert_pages(3, 0);
    assert_int_equal(slice(a)->pages[0], slice(b)->pages[0]);
    sched_end(w.s, a);
    sched_end(w.s, b);
    assert_pages(0, 1);
    finish();
}

static void salts_are_apart(void **state)
{
    (void)state;
    begin(limits(4, 20, 300, 300));
    int a = add_as((struct sched_spec){.salt = 1, .prompt = 100, .max_tokens = 2}, 1);
    int b =
        add_as((struct sched_spec){.salt = (uint64_t)1 << 32, .prompt = 100, .max_tokens = 2}, 1);
    assert_int_equal(step(), 2); /* and nobody waits for another's page */
    int c = add_as((struct sched_spec){.salt = 2, .prompt = 100, .max_tokens = 2}, 1);
    step();
    assert_slice(c, 0, 100, true);
    for (int i = 0; i < 4; i++) {
        assert_int_not_equal(slice(a)->pages[i], slice(b)->pages[i]);
        assert_int_not_equal(slice(a)->pages[i], slice(c)->pages[i]);
    }
    assert_int_equal(info().prefix_hit, 0);
    finish();
}

static int cached_of(int text, int prompt)
{
    int job = add(9, text, prompt, 1), cached;
    plan();
    cached = job_info(job).cached;
    sched_end(w.s, job);
    if (w.n) sched_undone(w.s);
    return cached;
}

static void the_oldest_leaf_goes_first(void **state)
{
    (void)state;
    begin(limits(4, 8, 300, 300));
    int a = add(1, 1, 97, 1);
    step();
    sched_end(w.s, a);
    int b = add(1, 2, 65, 1);
    step();
    sched_end(w.s, b);
    assert_pages(0, 5); /* three of text 1, then two of text 2 */
    int c = add(1, 3, 150, 1);
    step();
    assert_pages(5, 3);
    assert_int_equal(info().evicted, 2);
    sched_end(w.s, c); /* four full ones stay; the fifth is free */
    assert_int_equal(cached_of(2, 65), 64);
    assert_int_equal(cached_of(1, 97), 32);
    finish();
}

static void the_last_is_put_back_and_goes_on_later(void **state)
{
    (void)state;
    begin(limits(4, 5, 300, 300));
    int a = add(1, 1, 60, 100), b = add(2, 2, 30, 50);
    run(b, 34);
    assert_int_equal(info().preempted, 0);
    assert_pages(5, 0);
    step(); /* b has 65 tokens now */
    assert_non_null(slice(a));
    step();
    assert_slice(b, 64, 1, true); /* a was served more: its longer prompt */
    assert_null(slice(a));
    assert_int_equal(info().preempted, 1);
    assert_false(job_info(a).running);
    assert_int_equal(job_info(a).tokens, 95);
    assert_int_equal(job_info(a).preempted, 1);
    run(b, 14);
    sched_end(w.s, b);
    step();
    assert_slice(a, 64, 31, true);           /* two pages were still there */
    assert_int_equal(job_info(a).cached, 0); /* they were its own */
    run(a, 100 - w.got[a]);
    assert_int_equal(job_info(a).tokens, 160);
    for (int i = 0; i < 160; i++) assert_int_equal(w.tokens[0][i], i < 60 ? 100000 + i : SAID);
    assert_int_equal(info().prefix_hit, 0);
    assert_int_equal(info().prefix_queried, 60 + 30);
    finish();
}

static void alone_a_job_gets_all_pages(void **state)
{
    (void)state;
    begin(limits(4, 4, 16, 16));
    int a = add(1, 1, 20, 109), b = add(2, 2, 20, 109);
    run(a, 109);
    sched_end(w.s, a);
    run(b, 109 - w.got[b]);
    assert_true(info().preempted >= 1);
    assert_int_equal(job_info(b).tokens, 129);
    assert_int_equal(job_info(b).computed, 128);
    assert_pages(4, 0);
    finish();
}

static void a_failed_step_never_was(void **state)
{
    (void)state;
    begin(limits(4, 20, 100, 50));
    int a = add(1, 1, 40, 9), b = add(2, 2, 90, 9);
    step();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(plan(), 2);
        assert_slice(a, 40, 1, true);
        assert_slice(b, 60, 30, true);
        sched_undone(w.s);
        assert_int_equal(job_info(a).computed, 40);
        assert_int_equal(job_info(b).computed, 60);
    }
    assert_pages(5, 0);
    sched_end(w.s, b);
    assert_int_equal(info().pages_cached, 1); /* only the one that was full before */
    finish();
}

static void jobs_end_while_they_are_computed(void **state)
{
    struct sched_limits l = limits(1, 20, 100, 50);
    (void)state;
    l.jobs = 1;
    begin(l);
    int a = add(1, 1, 90, 9);
    plan();
    sched_end(w.s, a);
    assert_int_equal(add(1, 2, 90, 9), a); /* the same id, another job */
    sched_computed(w.s);
    assert_int_equal(job_info(a).computed, 0);
    assert_pages(0, 0);
    step();
    assert_slice(a, 0, 90, true);
    sched_end(w.s, a); /* its token had come */
    assert_int_equal(plan(), 0);
    finish();
}

/* In a child, since it takes the process with it. */
static void assert_aborts(void (*misuse)(int job), int job)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) dup2(null, 2);
        signal(SIGABRT, SIG_DFL);
        misuse(job);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void end(int job)
{
    sched_end(w.s, job);
}

static void token(int job)
{
    sched_token(w.s, job, SAID);
}

static void unpause(int job)
{
    sched_pause(w.s, job, false);
}

static void ask(int job)
{
    job_info(job);
}

static void computed(int job)
{
    (void)job;
    sched_computed(w.s);
}

static void undone(int job)
{
    (void)job;
    sched_undone(w.s);
}

static void plan_again(int job)
{
    (void)job;
    plan();
}

static void misuse_aborts(void **state)
{
    (void)state;
    begin(limits(4, 20, 64, 64));
    int a = add(1, 1, 40, 3), b = add(1, 2, 40, 3);
    sched_end(w.s, a);
    void (*const stale[])(int) = {end, token, unpause, ask};
    for (int i = 0; i < 4; i++) {
        assert_aborts(stale[i], a);
        assert_aborts(stale[i], -1);
        assert_aborts(stale[i], 32);
    }
    assert_aborts(computed, 0); /* no plan */
    assert_aborts(undone, 0);
    assert_aborts(token, b); /* none is due */
    plan();
    assert_aborts(token, b);
    assert_aborts(plan_again, 0);
    sched_computed(w.s);
    sched_token(w.s, b, SAID);
    assert_aborts(token, b);
    assert_aborts(computed, 0);
    finish();
}

static void it_is_large_enough(void **state)
{
    static int32_t tokens[1024][300];
    static struct sched_slice out[1024];
    struct sched_limits l = {1024, 1024, 512, 100000, 32768, 4096, 1024, 1};
    struct err e;
    int job, n, steps = 0, left = 1024;
    (void)state;
    begin(l);
    for (int i = 0; i < 1024; i++) {
        struct sched_spec p = {
            .tenant = (uint64_t)(i % 500), .tokens = tokens[i], .prompt = 200, .max_tokens = 100};
        for (int k = 0; k < 200; k++) tokens[i][k] = k < 100 ? 1 : i;
        assert_int_equal(sched_add(w.s, &p, &job, &e), 0);
    }
    for (; left && steps < 2000; steps++) {
        n = sched_plan(w.s, out, 1024);
        sched_computed(w.s);
        for (int i = 0; i < n; i++) {
            if (!out[i].sample) continue;
            sched_token(w.s, out[i].job, 1);
            if (job_info(out[i].job).tokens < 300) continue;
            sched_end(w.s, out[i].job);
            left--;
        }
        if (steps % 100 == 0) sched_check(w.s);
    }
    assert_int_equal(left, 0);
    assert_in_range(info().prefix_hit, 900 * 96, 1024 * 96);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_door_refuses),
        cmocka_unit_test(a_prompt_goes_in_chunks_then_tokens_one_by_one),
        cmocka_unit_test(tokens_come_first_and_bound_prompts),
        cmocka_unit_test(a_prefix_is_shared_also_in_use),
        cmocka_unit_test(who_comes_together_computes_once),
        cmocka_unit_test(nobody_waits_for_another_page),
        cmocka_unit_test(equal_answers_become_one_page),
        cmocka_unit_test(salts_are_apart),
        cmocka_unit_test(the_oldest_leaf_goes_first),
        cmocka_unit_test(the_last_is_put_back_and_goes_on_later),
        cmocka_unit_test(alone_a_job_gets_all_pages),
        cmocka_unit_test(a_failed_step_never_was),
        cmocka_unit_test(jobs_end_while_they_are_computed),
        cmocka_unit_test(misuse_aborts),
        cmocka_unit_test(it_is_large_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
