/* Jobs of a worker: the same alone and among many, cancelled, paused, refused, left over at the end. On a
 * tiny model. */
#include "worker.h"

#include "thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL TEST_DATA "/golden/llama_q4_0.gguf"
#define ENCODER TEST_DATA "/embed/bert_f32.gguf"

enum { MANY = 40, SAID_MAX = 400 };

/* What came of a job; written on the worker's thread, read after `done`. */
struct seen {
    struct worker_job *job;
    int32_t said[SAID_MAX];
    int n, pause_at, cancel_at;
    bool done, failed;
    enum answer_end end;
    struct worker_usage usage;
    char error[400];
};
static struct thread_monitor lock;

static enum worker_flow on_event(void *arg, const struct worker_event *ev)
{
    struct seen *s = arg;
    enum worker_flow flow = WORKER_ON;
    thread_hold(&lock);
    assert_false(s->done);
    if (ev->kind == WORKER_TEXT) {
        if (s->n < SAID_MAX) s->said[s->n] = ev->next->id;
        s->n++;
        if (s->n == s->pause_at) flow = WORKER_PAUSE;
        if (s->n == s->cancel_at) flow = WORKER_CANCEL;
    } else {
        s->done = true;
        s->failed = ev->kind == WORKER_FAILED;
        s->end = ev->end;
        s->usage = *ev->usage;
        if (s->failed) snprintf(s->error, sizeof s->error, "%s", ev->error->msg);
    }
    thread_wake(&lock);
    thread_release(&lock);
    return flow;
}

static void wait_done(struct seen *s)
{
    thread_hold(&lock);
    while (!s->done) thread_wait(&lock, -1);
    thread_release(&lock);
}

static void wait_tokens(struct seen *s, int n)
{
    thread_hold(&lock);
    while (s->n < n && !s->done) thread_wait(&lock, -1);
    thread_release(&lock);
}

static struct worker *open_worker(const char *model, struct worker_opts o)
{
    struct worker *w;
    struct err e;
    o.engine.threads = 2;
    if (worker_open(&w, model, &o, &e)) fail_msg("%s", e.msg);
    return w;
}

static struct worker_spec spec_of(struct seen *s, const int32_t *prompt, int n, int max_tokens)
{
    struct worker_spec spec = {.prompt = prompt, .n = n, .event = on_event, .arg = s};
    *s = (struct seen){0};
    spec.answer.sample = SAMPLE_DEFAULTS;
    spec.answer.sample.temp = 0;
    spec.answer.max_tokens = max_tokens;
    spec.answer.ignore_eos = true;
    return spec;
}

static int add(struct worker *w, struct seen *s, const struct worker_spec *spec)
{
    struct err e;
    return worker_add(w, spec, 1, &s->job, &e);
}

static void fill(int32_t *ids, int n, int seed)
{
    for (int i = 0; i < n; i++) ids[i] = 3 + (seed * 31 + i * 7) % 200;
}

static void each_is_what_it_is_alone(void **state)
{
    /* Pages for a quarter of the jobs: they are put back and computed again. */
    struct worker *w = open_worker(
        MODEL, (struct worker_opts){.engine.ctx = 512, .running = 16, .kv_bytes = 1 << 19});
    static struct seen alone[MANY], together[MANY];
    static int32_t prompt[MANY][100];
    struct worker_stats stats;
    (void)state;
    for (int i = 0; i < MANY; i++) {
        fill(prompt[i], 100, i % 5);
        prompt[i][60] = i + 3;
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            struct seen *s = round ? &together[i] : &alone[i];
            struct worker_spec spec = spec_of(s, prompt[i], 30 + i * 70 / MANY, 40 + i * 3 % 100);
            spec.tenant = (uint64_t)i % 3;
            assert_int_equal(add(w, s, &spec), 0);
            if (!round) wait_done(s);
        }
        for (int i = 0; round && i < MANY; i++) wait_done(&together[i]);
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(alone[i].end, ANSWER_LENGTH);
        assert_int_equal(alone[i].n, 40 + i * 3 % 100);
        assert_int_equal(alone[i].usage.output_tokens, alone[i].n);
        assert_int_equal(together[i].n, alone[i].n);
        assert_memory_equal(together[i].said, alone[i].said, (size_t)alone[i].n * 4);
        worker_release(alone[i].job);
        worker_release(together[i].job);
    }
    do /* they are told after the events */
        worker_stats(w, &stats);
    while (stats.running + stats.waiting);
    assert_true(stats.preempted > 0);
    assert_true(stats.cached_tokens > 0);
    worker_close(w);
}

static void cancelled_and_paused(void **state)
{
    struct worker *w = open_worker(MODEL, (struct worker_opts){0});
    int32_t prompt[20];
    struct seen a, b, c;
    (void)state;
    fill(prompt, 20, 1);
    struct worker_spec spec = spec_of(&a, prompt, 20, 0);
    assert_int_equal(add(w, &a, &spec), 0);
    spec = spec_of(&b, prompt, 20, 50);
    b.pause_at = 5;
    assert_int_equal(add(w, &b, &spec), 0);
    spec = spec_of(&c, prompt, 20, 0);
    c.cancel_at = 7;
    assert_int_equal(add(w, &c, &spec), 0);
    wait_tokens(&a, 30);
    worker_cancel(a.job);
    wait_done(&a);
    assert_int_equal(a.end, ANSWER_CANCELLED);
    wait_done(&c);
    assert_int_equal(c.end, ANSWER_CANCELLED);
    assert_int_equal(c.n, 7);
    assert_false(b.done);
    assert_int_equal(b.n, 5);
    worker_resume(b.job);
    wait_done(&b);
    assert_int_equal(b.n, 50);
    worker_cancel(b.job); /* too late, and no harm */
    worker_release(a.job), worker_release(b.job), worker_release(c.job);
    worker_close(w);
}

static void what_cannot_be(void **state)
{
    struct worker *w = open_worker(MODEL, (struct worker_opts){.engine.ctx = 64, .jobs = 3});
    int32_t prompt[200];
    struct seen s, many[4];
    struct worker_job *jobs[4];
    struct worker_spec specs[4];
    struct err e;
    (void)state;
    fill(prompt, 200, 1);
    struct worker_spec spec = spec_of(&s, prompt, 64, 5);
    assert_int_equal(worker_add(w, &spec, 1, &s.job, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "64 tokens"));
    spec = spec_of(&s, prompt, 0, 5);
    assert_int_equal(add(w, &s, &spec), ERR_USAGE);
    spec = spec_of(&s, prompt, 5, 5);
    spec.answer.sample.top_p = 7;
    assert_int_equal(add(w, &s, &spec), ERR_USAGE);
    for (int i = 0; i < 4; i++) specs[i] = spec_of(&many[i], prompt, 10, 5);
    assert_int_equal(worker_add(w, specs, 4, jobs, &e), ERR_LIMIT);
    assert_null(jobs[0]);
    assert_int_equal(worker_add(w, specs, 3, jobs, &e), 0);
    for (int i = 0; i < 3; i++) {
        wait_done(&many[i]);
        worker_release(jobs[i]);
    }
    spec = spec_of(&s, prompt, 60, 100); /* as much as fits */
    assert_int_equal(add(w, &s, &spec), 0);
    wait_done(&s);
    assert_int_equal(s.n, 4);
    assert_int_equal(s.end, ANSWER_LENGTH);
    worker_release(s.job);
    prompt[3] = 1 << 30;
    spec = spec_of(&s, prompt, 10, 5);
    assert_int_equal(worker_add(w, &spec, 1, &s.job, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "vocabulary"));
    worker_close(w);
}

static void the_end_cancels_what_is_left(void **state)
{
    struct worker *w = open_worker(MODEL, (struct worker_opts){.running = 2});
    static struct seen s[20];
    int32_t prompt[20];
    (void)state;
    fill(prompt, 20, 2);
    for (int i = 0; i < 20; i++) {
        struct worker_spec spec = spec_of(&s[i], prompt, 20, 0);
        assert_int_equal(add(w, &s[i], &spec), 0);
    }
    wait_tokens(&s[0], 1);
    worker_close(w);
    for (int i = 0; i < 20; i++) {
        assert_true(s[i].done);
        assert_int_equal(s[i].end, ANSWER_CANCELLED);
        worker_release(s[i].job);
    }
}

static void texts_to_vectors(void **state)
{
    struct worker *w = open_worker(ENCODER, (struct worker_opts){0});
    enum { TEXTS = 300 };
    int d = worker_info(w)->d_model;
    float *vectors = calloc((size_t)(TEXTS * d), sizeof *vectors);
    static struct embed_text texts[TEXTS];
    int32_t ids[20];
    struct seen s, t;
    (void)state;
    for (int i = 0; i < 20; i++) ids[i] = 3 + i;
    for (int i = 0; i < TEXTS; i++)
        texts[i] = (struct embed_text){
            .tokens = ids, .n = 5 + i % 3, .normalize = true, .out = vectors + i * d};
    struct worker_spec spec = spec_of(&s, NULL, 0, 0);
    spec.texts = texts;
    spec.n_texts = TEXTS;
    assert_int_equal(add(w, &s, &spec), 0);
    wait_done(&s);
    assert_false(s.failed);
    assert_int_equal(s.usage.prompt_tokens, 100 * (5 + 6 + 7));
    for (int i = 3; i < TEXTS; i++)
        assert_memory_equal(vectors + i * d, vectors + i % 3 * d, (size_t)d * sizeof *vectors);
    struct worker_spec words = spec_of(&t, ids, 20, 5);
    assert_int_equal(add(w, &t, &words), ERR_UNSUPPORTED);
    worker_release(s.job);
    worker_close(w);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_what_it_is_alone), cmocka_unit_test(cancelled_and_paused),
        cmocka_unit_test(what_cannot_be),           cmocka_unit_test(the_end_cancels_what_is_left),
        cmocka_unit_test(texts_to_vectors),
    };
    thread_monitor_init(&lock);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
