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
    sched_tokens(w.s, a, (int32_t[]){SAID}, 1, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(plan(), 1);
        assert_slice(a, 100 + i, 1, true);
        assert_int_equal(w.out[0].tokens[0], SAID);
        sched_computed(w.s);
        sched_tokens(w.s, a, (int32_t[]){SAID}, 1, 0);
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
    int a = add(1, 1, 10, 50), b = add(1, 2, 8, 50), c = add(2, 3, 200, 5);
    assert_int_equal(step(), 3); /* nobody decodes: the whole step is for prompts */
    assert_slice(a, 0, 10, true);
    assert_slice(b, 0, 8, true);
    assert_slice(c, 0, 2, false);
    int d = add(3, 4, 300, 5);
    assert_int_equal(step(), 3); /* two decode: 12 rows of prompts */
    assert_int_equal(w.out[2].job, c);
    assert_slice(a, 10, 1, true);
    assert_slice(b, 8, 1, true);
    assert_slice(c, 2, 12, false);
    assert_false(job_info(d).running); /* no rows, no pages */
    sched_end(w.s, a);
    sched_end(w.s, b);
    assert_int_equal(step(), 1); /* nobody decodes */
    assert_slice(c, 14, 20, false);
    finish();
    begin(limits(4, 40, 300, 5)); /* nobody decodes: a few times as many rows, not all */
    d = add(1, 4, 300, 9);
    step();
    assert_slice(d, 0, 5 * SCHED_ALONE, false);
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
    assert_int_equal(step(), 1);
    assert_slice(a, 0, 48, false);
    b = add(2, 1, 151, 9);
    assert_int_equal(step(), 1);
    assert_slice(b, 32, 48, false); /* a has half of this page, which is no page */
    c = add(3, 1, 90, 9);
    assert_int_equal(step(), 2);
    assert_slice(c, 64, 26, true);
    assert_slice(b, 80, 22, false); /* c's rows end before this page does; a waits for it */
    sched_end(w.s, b);
    sched_end(w.s, c);
    assert_int_equal(step(), 1);
    assert_slice(a, 96, 48, false); /* the rest came from b */
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
    run(b, 109); /* a had more by then, and is put back */
    sched_end(w.s, b);
    run(a, 109 - w.got[a]);
    assert_true(info().preempted >= 1);
    assert_int_equal(job_info(a).tokens, 129);
    assert_int_equal(job_info(a).computed, 128);
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

static void many_tokens_at_once(void **state)
{
    int32_t ids[80];
    (void)state;
    for (int i = 0; i < 80; i++) ids[i] = SAID + i;
    begin(limits(4, 20, 64, 16));
    int a = add(1, 1, 30, 200), b = add(2, 2, 100, 20);
    assert_int_equal(step(), 2); /* b has 34 rows of its prompt */
    assert_int_equal(plan(), 2);
    assert_slice(a, 30, 1, true);
    assert_slice(b, 34, 16, false);
    sched_computed(w.s);
    sched_tokens(w.s, a, ids, 5, 0);
    assert_pages(1 + 4, 0);
    assert_int_equal(plan(),
                     2); /* its first row is for this step, the others are as those of b's prompt */
    assert_slice(a, 31, 5, true);
    assert_slice(b, 50, 12, false);
    assert_memory_equal(slice(a)->tokens, ids, 5 * sizeof *ids);
    assert_pages(2 + 4, 0);
    sched_computed(w.s);
    sched_tokens(w.s, a, ids, 80, 0);
    assert_int_equal(plan(), 2); /* b's tenant was served less */
    assert_slice(a, 36, 1, false);
    assert_slice(b, 62, 16, false);
    assert_int_equal(job_info(a).pages, 4);
    sched_end(w.s, b);
    sched_computed(w.s);
    assert_int_equal(step(), 1); /* alone: as if it were a prompt, since it decodes 1 + 16 */
    assert_slice(a, 37, 17, false);
    while (job_info(a).computed < 116) step();
    finish();
}

static void guesses_go_beside(void **state)
{
    struct sched_limits l = limits(4, 8, 64, 16);
    const int32_t ids[] = {1, 2, 3, 4, 5, 6};
    (void)state;
    l.draft_rows = 6;
    begin(l);
    int a = add(1, 1, 29, 100), b = add(2, 2, 10, 3);
    step();
    sched_draft(w.s, a, ids, 6);
    sched_draft(w.s, b, ids,
                6); /* two tokens may come yet; behind the first one guess makes sense */
    assert_int_equal(plan(), 2);
    assert_int_equal(slice(a)->drafted + slice(b)->drafted, 4);
    assert_int_equal(slice(b)->drafted, 1);
    assert_slice(a, 29, 4, true);
    assert_memory_equal(slice(a)->tokens + 1, ids, 3 * sizeof *ids);
    assert_pages(3, 0); /* one more for a */
    sched_computed(w.s);
    sched_tokens(w.s, a, (int32_t[]){1, 9}, 2, 1);
    assert_int_equal(job_info(a).computed, 31);
    assert_int_equal(job_info(a).pages, 1);
    assert_pages(2, 0); /* and given back */
    sched_tokens(w.s, b, (int32_t[]){1, 2}, 2, 1);
    assert_int_equal(plan(), 1); /* b has all its tokens */
    assert_slice(a, 31, 1, true);
    sched_undone(w.s);
    sched_end(w.s, b);
    sched_draft(w.s, a, ids, 2);
    int c = add(3, 3, 100, 1);
    assert_int_equal(plan(), 2); /* a prompt leaves no room for guesses */
    assert_slice(a, 31, 1, true);
    assert_slice(c, 0, 16, false);
    sched_computed(w.s);
    sched_tokens(w.s, a, ids, 1, 0);
    sched_end(w.s, c);
    sched_draft(w.s, a, ids, 5);
    assert_int_equal(plan(), 1);
    assert_slice(a, 32, 6, true);
    sched_computed(w.s);
    sched_tokens(w.s, a, ids, 6, 5); /* all right: the page that is full is in the tree */
    assert_int_equal(job_info(a).computed, 38);
    sched_end(w.s, a);
    assert_pages(0, 1 + 0);
    finish();
}

static void end(int job)
{
    sched_end(w.s, job);
}

static void token(int job)
{
    sched_tokens(w.s, job, (int32_t[]){SAID}, 1, 0);
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
    sched_tokens(w.s, b, (int32_t[]){SAID}, 1, 0);
    assert_aborts(token, b);
    assert_aborts(computed, 0);
    finish();
}

static void it_is_large_enough(void **state)
{
    static int32_t tokens[1024][300];
    static struct sched_slice out[1024];
    struct sched_limits l = {1024, 1024, 512, 100000, 32768, 4096, 1024, 0, 1};
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
            sched_tokens(w.s, out[i].job, (int32_t[]){1}, 1, 0);
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
        cmocka_unit_test(many_tokens_at_once),
        cmocka_unit_test(guesses_go_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
