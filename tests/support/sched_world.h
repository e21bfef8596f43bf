/* A scheduler with everything around it that a test of its rules needs: jobs whose prompts begin a numbered text,
 * steps that sample the same token again and again. One at a time; for tests on cmocka. */
#ifndef SCHED_WORLD_H
#define SCHED_WORLD_H

#include "sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { JOBS = 64, BUFFERS = 1024, ROOM = 9000, SAID = 7 };

static struct world {
    struct sched *s;
    struct sched_limits limits;
    struct sched_slice out[JOBS];
    int n;
    int32_t tokens[BUFFERS][ROOM]; /* of the job with that number of additions before it */
    int added, got[JOBS];          /* got: tokens sampled by each job id */
} w;

static inline void begin(struct sched_limits l)
{
    size_t bytes = sched_size(&l);
    void *mem = aligned_alloc(64, bytes);
    memset(mem, 0xa5, bytes);
    w.limits = l;
    w.s = sched_init(mem, &l);
    w.added = 0;
    memset(w.got, 0, sizeof w.got);
}

/* Everything is left in order. */
static inline void finish(void)
{
    sched_check(w.s);
    free(w.s);
}

static inline struct sched_limits limits(int running, int pages, int step_tokens,
                                         int prefill_tokens)
{
    return (struct sched_limits){.jobs = 32,
                                 .running = running,
                                 .tenants = 8,
                                 .pages = pages,
                                 .ctx = ROOM,
                                 .step_tokens = step_tokens,
                                 .prefill_tokens = prefill_tokens,
                                 .seed = 5};
}

static inline int try_add(struct sched_spec p, int text, int *job, struct err *e)
{
    p.tokens = w.tokens[w.added++ % BUFFERS];
    for (int i = 0; i < p.prompt && i < ROOM; i++) p.tokens[i] = text * 100000 + i;
    return sched_add(w.s, &p, job, e);
}

static inline int add_as(struct sched_spec p, int text)
{
    struct err e;
    int job;
    if (try_add(p, text, &job, &e)) fail_msg("%s", e.msg);
    w.got[job] = 0;
    return job;
}

/* The prompt: the first tokens of a text. */
static inline int add(int tenant, int text, int prompt, int max_tokens)
{
    return add_as(
        (struct sched_spec){.tenant = (uint64_t)tenant, .prompt = prompt, .max_tokens = max_tokens},
        text);
}

static inline int plan(void)
{
    if (w.limits.pages < 100) sched_check(w.s);
    return w.n = sched_plan(w.s, w.out, JOBS);
}

static inline void sample(void)
{
    for (int i = 0; i < w.n; i++) {
        if (!w.out[i].sample) continue;
        sched_tokens(w.s, w.out[i].job, (int32_t[]){SAID}, 1, 0);
        w.got[w.out[i].job]++;
    }
}

static inline int step(void)
{
    if (plan()) sched_computed(w.s);
    sample();
    return w.n;
}

/* The slice of a job in the last plan, or NULL. */
static inline const struct sched_slice *slice(int job)
{
    for (int i = 0; i < w.n; i++)
        if (w.out[i].job == job) return &w.out[i];
    return NULL;
}

static inline void assert_slice(int job, int pos, int n, bool sampled)
{
    const struct sched_slice *p = slice(job);
    assert_non_null(p);
    assert_int_equal(p->pos, pos);
    assert_int_equal(p->n, n);
    assert_int_equal(p->sample, sampled);
}

static inline struct sched_job_info job_info(int job)
{
    struct sched_job_info info;
    sched_job_info(w.s, job, &info);
    return info;
}

static inline struct sched_info info(void)
{
    struct sched_info all;
    sched_info(w.s, &all);
    return all;
}

static inline void assert_pages(int held, int cached)
{
    assert_int_equal(info().pages_held, held);
    assert_int_equal(info().pages_cached, cached);
    assert_int_equal(info().pages_free, w.limits.pages - held - cached);
}

/* Until a job has so many tokens more. */
static inline void run(int job, int tokens)
{
    for (int want = w.got[job] + tokens, i = 0; w.got[job] < want; i++) {
        assert_true(i < 10000);
        step();
    }
}

#endif
