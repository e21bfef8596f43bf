/* Jobs of a worker: the same alone and among many, cancelled, paused, refused, left over at the end. On a
 * tiny model. */
#include "worker.h"

#include "../support/oom.h"
#include "spec.h"
#include "thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MODEL TEST_DATA "/golden/llama_q4_0.gguf"
#define ENCODER TEST_DATA "/embed/bert_f32.gguf"

enum { MANY = 40, SOME = 16, SAID_MAX = 400 };
/* As a gap between tokens: prompts are not held back, however slow the machine is. */
static const int64_t HOUR = 3600000000000;
enum { MILLISECOND = 1000000 };

/* What came of a job; written on the worker's thread, read after `done`. */
struct seen {
    struct worker_job *job;
    int32_t said[SAID_MAX];
    int n, pause_at, cancel_at;
    bool slow; /* takes its time with each token, so that others come before its end */
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
    if (s->slow) nanosleep(&(struct timespec){.tv_nsec = MILLISECOND}, NULL);
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
        MODEL, (struct worker_opts){
                   .engine.ctx = 512, .running = 16, .kv_bytes = 1 << 19, .gap_ns = HOUR});
    static struct seen alone[MANY], together[MANY];
    static int32_t prompt[MANY][100];
    static struct worker_spec specs[MANY];
    struct worker_job *jobs[MANY];
    struct err e;
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
            specs[i] = spec;
            if (round) continue; /* all at once, below */
            assert_int_equal(add(w, s, &spec), 0);
            wait_done(s);
        }
    }
    assert_int_equal(worker_add(w, specs, MANY, jobs, &e), 0);
    for (int i = 0; i < MANY; i++) {
        wait_done(&together[i]);
        together[i].job = jobs[i];
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

/* Tokens without a choice, among others, over pages that are too few; stopped in the midst of them. */
static void forced_tokens_need_no_step(void **state)
{
    static const char regex[] = "([a-d]: the long text that nobody chooses[;.]\n){6}";
    struct worker *w = open_worker(
        MODEL, (struct worker_opts){
                   .engine.ctx = 512, .running = 16, .kv_bytes = 1 << 19, .gap_ns = HOUR});
    static struct seen alone[MANY], together[MANY];
    static int32_t prompt[MANY][30];
    const char *const stop[] = {"body chooses;"};
    struct grammar *g;
    struct grammar_tokens *tokens;
    struct worker_stats stats;
    struct err e;
    (void)state;
    assert_int_equal(grammar_regex(&g, regex, sizeof regex - 1, &e), 0);
    assert_int_equal(grammar_tokens_open(&tokens, worker_tok(w), &e), 0);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            struct seen *s = round ? &together[i] : &alone[i];
            fill(prompt[i], 30, i);
            struct worker_spec spec = spec_of(s, prompt[i], 30, i % 5 == 1 ? 50 : 400);
            spec.answer.grammar = g;
            spec.answer.grammar_tokens = tokens;
            spec.answer.stops = stop;
            spec.answer.n_stops = i % 5 == 2;
            if (i % 5 == 3) s->cancel_at = 20 + i;
            if (i % 5 == 4 && !round) s->pause_at = 20 + i;
            assert_int_equal(add(w, s, &spec), 0);
            if (!round && s->pause_at) {
                wait_tokens(s, s->pause_at);
                assert_int_equal(s->n, s->pause_at);
                assert_false(s->done);
                worker_resume(s->job);
            }
            if (!round) wait_done(s);
        }
        for (int i = 0; round && i < MANY; i++) wait_done(&together[i]);
        do worker_stats(w, &stats);
        while (stats.running + stats.waiting);
        if (!round) assert_true(stats.steps < stats.output_tokens / 2);
    }
    assert_true(stats.preempted > 0);
    assert_true(stats.forced_tokens > stats.output_tokens / 2);
    for (int i = 0; i < MANY; i++) {
        static const enum answer_end ends[] = {ANSWER_EOS, ANSWER_LENGTH, ANSWER_STOP,
                                               ANSWER_CANCELLED, ANSWER_EOS};
        assert_false(alone[i].failed);
        if (i % 5 != 2) assert_int_equal(alone[i].end, ends[i % 5]);
        if (i % 5 == 1) assert_int_equal(alone[i].n, 50);
        if (i % 5 == 3) assert_int_equal(alone[i].n, 20 + i);
        assert_int_equal(together[i].end, alone[i].end);
        assert_int_equal(together[i].n, alone[i].n);
        assert_int_equal(together[i].usage.output_tokens, alone[i].n);
        assert_memory_equal(together[i].said, alone[i].said, (size_t)alone[i].n * 4);
        worker_release(alone[i].job);
        worker_release(together[i].job);
    }
    worker_close(w);
    grammar_tokens_close(tokens);
    grammar_close(g);
}

/* One round of jobs, together or one after the other: greedy, sampled, within a grammar, with logprobs. */
static void ask_all(struct worker *w, struct seen *s, bool together, const struct answer_opts *form,
                    struct worker_stats *stats)
{
    static int32_t prompt[SOME][90];
    for (int i = 0; i < SOME; i++) {
        fill(prompt[i], 90, i);
        for (int k = 45; k < 90; k++) prompt[i][k] = prompt[i][k - 20 - i % 7]; /* repeats itself */
        struct worker_spec spec = spec_of(&s[i], prompt[i], 60 + i % 30, 40 + i * 7 % 40);
        spec.tenant = (uint64_t)i % 3;
        spec.answer.sample.temp = i % 4 == 1 ? 0.7f : 0;
        spec.answer.sample.seed = (uint64_t)i;
        spec.answer.sample.repeat_penalty = i % 8 == 3 ? 1.1f : 1;
        spec.answer.logprobs = i % 4 == 3;
        if (i % 4 == 2) {
            spec.answer.grammar = form->grammar;
            spec.answer.grammar_tokens = form->grammar_tokens;
        }
        if (i % 5 == 4 && !together) s[i].pause_at = 11 + i;
        assert_int_equal(add(w, &s[i], &spec), 0);
        if (s[i].pause_at) {
            wait_tokens(&s[i], s[i].pause_at);
            assert_int_equal(s[i].n, s[i].pause_at);
            worker_resume(s[i].job);
        }
        if (!together) wait_done(&s[i]);
    }
    for (int i = 0; i < SOME; i++) {
        wait_done(&s[i]);
        worker_release(s[i].job);
        assert_false(s[i].failed);
        assert_int_equal(s[i].usage.output_tokens, s[i].n);
    }
    do worker_stats(w, stats);
    while (stats->running + stats->waiting);
}

/* Speculation changes no token of any answer, whatever runs beside it; pages are few. */
static void drafting_changes_nothing(void **state)
{
    static const int tokens[] = {-1, 5, SPEC_MAX, 0};
    static struct seen plain[SOME], s[SOME];
    struct answer_opts form = {0};
    struct grammar *g = NULL;
    struct grammar_tokens *gt = NULL;
    struct worker_stats stats;
    struct err e;
    (void)state;
    assert_int_equal(grammar_regex(&g, "([a-z ]{5,15}: is it so\\?\n){3,}", 31, &e), 0);
    form.grammar = g;
    for (int k = 0; k < 4; k++) {
        struct worker *w = open_worker(MODEL, (struct worker_opts){.engine.ctx = 512,
                                                                   .running = 8,
                                                                   .kv_bytes = 1 << 18,
                                                                   .no_spec = tokens[k] < 0,
                                                                   .spec_tokens = tokens[k]});
        if (!gt) assert_int_equal(grammar_tokens_open(&gt, worker_tok(w), &e), 0);
        form.grammar_tokens = gt;
        for (int together = 0; together < 2; together++) {
            ask_all(w, k + together ? s : plain, together, &form, &stats);
            for (int i = 0; i < SOME && k + together; i++) {
                assert_int_equal(s[i].n, plain[i].n);
                assert_memory_equal(s[i].said, plain[i].said, (size_t)plain[i].n * 4);
                assert_int_equal(s[i].end, plain[i].end);
            }
        }
        assert_int_equal(stats.drafted_tokens > 0, k > 0);
        assert_true(stats.accepted_tokens <= stats.drafted_tokens);
        assert_true(stats.drafts <= stats.drafted_tokens);
        if (k > 0 && k < 3) assert_true(stats.accepted_tokens > 0);
        grammar_tokens_close(gt);
        gt = NULL;
        worker_close(w);
    }
    grammar_close(g);
}

/* Drafted, forced and plain tokens, on every thread that a step has. */
static void tokens_allocate_nothing(void **state)
{
    static const char regex[] = "([a-d]{1,3}: the long text that nobody chooses\\n)+";
    struct worker *w =
        open_worker(MODEL, (struct worker_opts){.engine.ctx = 512, .spec_tokens = 3});
    static int32_t prompt[4][60];
    static struct seen s[4];
    struct grammar *g;
    struct grammar_tokens *tokens;
    struct err e;
    (void)state;
    assert_int_equal(grammar_regex(&g, regex, sizeof regex - 1, &e), 0);
    assert_int_equal(grammar_tokens_open(&tokens, worker_tok(w), &e), 0);
    for (int i = 0; i < 4; i++) {
        fill(prompt[i], 60, i);
        struct worker_spec spec = spec_of(&s[i], prompt[i], 60, 380);
        if (i % 2) spec.answer.grammar = g, spec.answer.grammar_tokens = tokens;
        spec.answer.sample.temp = i < 2 ? 0 : 1;
        assert_int_equal(add(w, &s[i], &spec), 0);
    }
    for (int i = 0; i < 4; i++) wait_tokens(&s[i], 100); /* buffers of text have their size */
    oom_after(1);
    for (int i = 0; i < 4; i++) wait_tokens(&s[i], 300);
    assert_false(oom_hit());
    for (int i = 0; i < 4; i++) {
        wait_done(&s[i]);
        assert_int_equal(s[i].n, 380);
        worker_release(s[i].job);
    }
    worker_close(w);
    grammar_tokens_close(tokens);
    grammar_close(g);
}

static void cancelled_and_paused(void **state)
{
    struct worker *w = open_worker(MODEL, (struct worker_opts){0});
    int32_t prompt[20];
    struct seen a, b, c;
    (void)state;
    fill(prompt, 20, 1);
    struct worker_spec spec = spec_of(&a, prompt, 20, 0);
    a.slow = true;
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
        s[i].slow = true;
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

/* A look at the file's header foresees what the loaded model takes. */
static void a_peek_knows_what_it_will_take(void **state)
{
    static const char *const models[] = {MODEL, ENCODER, TEST_DATA "/golden/qwen2_q4_k_m.gguf",
                                         TEST_DATA "/golden/mixtral_iq4_nl.gguf",
                                         TEST_DATA "/golden/gemma3_pattern.gguf"};
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct worker_opts o = {.engine.threads = 2, .kv_bytes = 1 << 22};
        struct engine_info seen;
        if (worker_peek(models[i], &o, &seen, &e)) fail_msg("%s", e.msg);
        struct worker *w = open_worker(models[i], o);
        const struct engine_info *is = worker_info(w);
        assert_int_equal(engine_bytes(&seen), engine_bytes(is));
        assert_true(is->weight_bytes > 0 && seen.weight_bytes == is->weight_bytes);
        assert_true(seen.n_params == is->n_params && seen.ctx == is->ctx &&
                    seen.encoder == is->encoder);
        assert_true(seen.bytes_per_token == is->bytes_per_token && seen.file == is->file);
        assert_string_equal(seen.arch, is->arch);
        assert_true(is->encoder || engine_bytes(is) > 1 << 22);
        worker_close(w);
    }
    struct engine_info none;
    assert_int_equal(worker_peek("/nothing.gguf", &(struct worker_opts){0}, &none, &e), ERR_IO);
}

enum { TEXTS = 40, LONG = 900 };
static int32_t ids[LONG];

static void some_texts(struct embed_text texts[TEXTS], float *vectors, size_t d)
{
    for (int i = 0; i < TEXTS; i++)
        texts[i] = (struct embed_text){.tokens = ids,
                                       .n = i % 8 ? 30 + i : LONG - i,
                                       .normalize = true,
                                       .out = vectors + (size_t)i * d};
}

/* Texts of two tenants, some too long for a step, beside one who talks: all get what they get alone, in turns. */
static void texts_take_turns(void **state)
{
    struct worker_opts o = {.engine = {.ctx = 1024, .chunk = 64}, .running = 8};
    struct worker *w = open_worker(MODEL, o);
    size_t d = (size_t)worker_info(w)->d_model;
    float *vectors = calloc(4 * TEXTS * d, sizeof *vectors);
    static struct embed_text texts[4][TEXTS];
    static struct seen alone, talk, many[2], one, cancelled;
    struct worker_stats before, after;
    (void)state;
    assert_non_null(vectors);
    for (int k = 0; k < 4; k++) some_texts(texts[k], vectors + (size_t)k * TEXTS * d, d);
    fill(ids, LONG, 4);
    struct seen *seen[] = {&alone, &many[0], &many[1], &one};
    struct worker_spec specs[4];
    for (int k = 0; k < 4; k++) {
        specs[k] = spec_of(seen[k], NULL, 0, 0);
        specs[k].texts = texts[k];
        specs[k].n_texts = k == 3 ? 3 : TEXTS;
        specs[k].tenant = k == 3 ? 2 : 1;
    }
    worker_stats(w, &before);
    assert_int_equal(add(w, &alone, &specs[0]), 0);
    wait_done(&alone);
    assert_false(alone.failed);
    do /* they are told after the events */
        worker_stats(w, &after);
    while (after.waiting + after.running);
    assert_int_equal(after.prompt_tokens - before.prompt_tokens, alone.usage.prompt_tokens);
    assert_int_equal(after.looked_up_tokens, before.looked_up_tokens);
    struct worker_spec words = spec_of(&talk, ids, 20, 0);
    words.tenant = 3;
    assert_int_equal(add(w, &talk, &words), 0);
    wait_tokens(&talk, 1);
    struct worker_spec left = specs[1];
    cancelled = (struct seen){0};
    left.arg = &cancelled;
    assert_int_equal(add(w, &cancelled, &left), 0); /* leaves in the midst of its first text */
    int said = talk.n;
    wait_tokens(&talk, said + 3);
    worker_cancel(cancelled.job);
    wait_done(&cancelled);
    assert_int_equal(cancelled.end, ANSWER_CANCELLED);
    for (int k = 1; k < 4; k++) assert_int_equal(add(w, seen[k], &specs[k]), 0);
    wait_done(&one);
    thread_hold(&lock);
    assert_false(many[0].done ||
                 many[1].done); /* of another tenant, and came later: its turn, too */
    thread_release(&lock);
    for (int k = 1; k < 4; k++) {
        wait_done(seen[k]);
        assert_false(seen[k]->failed);
        assert_memory_equal(texts[k][0].out, texts[0][0].out,
                            (size_t)specs[k].n_texts * d * sizeof *vectors);
    }
    assert_true(talk.n > said + 10); /* went on meanwhile */
    worker_cancel(talk.job);
    wait_done(&talk);
    for (int k = 0; k < 4; k++) worker_release(seen[k]->job);
    worker_release(talk.job);
    worker_release(cancelled.job);
    alone = (struct seen){0};
    assert_int_equal(add(w, &alone, &specs[0]), 0); /* left in the midst by the end */
    worker_close(w);
    assert_true(alone.done);
    worker_release(alone.job);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peek_knows_what_it_will_take),
        cmocka_unit_test(each_is_what_it_is_alone),
        cmocka_unit_test(cancelled_and_paused),
        cmocka_unit_test(what_cannot_be),
        cmocka_unit_test(the_end_cancels_what_is_left),
        cmocka_unit_test(texts_to_vectors),
        cmocka_unit_test(texts_take_turns),
        cmocka_unit_test(forced_tokens_need_no_step),
        cmocka_unit_test(drafting_changes_nothing),
        cmocka_unit_test(tokens_allocate_nothing),
    };
    thread_monitor_init(&lock);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
