/* What the next step computes: continuous batching over KV pages, fair to tenants. PURE: no clock, no
 * thread, no I/O; nothing is allocated after sched_init, so the planner and the simulator drive the
 * scheduler that ships.
 *
 *     struct sched *s = sched_init(aligned_alloc(64, sched_size(&limits)), &limits);
 *     rc = sched_add(s, &spec, &job, &e);                  ERR_LIMIT: the queue is full; ...
 *     n = sched_plan(s, slices, max);                      compute these in one step
 *     sched_computed(s);                                   they were (or sched_undone: they failed)
 *     sched_tokens(s, job, ids, n, kept);                  what its answer goes on with, at least one
 *     sched_end(s, job);                                   finished or cancelled, at any time
 *
 * Pages hold SCHED_PAGE tokens. Full pages of computed tokens are shared: a radix tree over pages,
 * salted, finds the longest prefix that somebody computed before, also while others use it. Who waits
 * for a page that another job computes in this step takes it in the next.
 * Invariants (checked by sched_check): each page is free, held by jobs (as its references say) or kept
 * in the tree for later; nothing is shared across salts.
 * Who is served: priority first, then whose prompt would be done first if tenants shared the machine
 * evenly (finish tags: Demers et al. 1989, over virtual token counters: Sheng et al. 2024; a prompt's token
 * counts 1 where it was computed, a sampled one 2). So it is done no later than then, give or take a step, and
 * short prompts do not wait for long ones. Among a tenant's own, a prompt of n tokens lets shorter
 * ones pass that come before the tenant was served n more. Running jobs decode in every step; prompts
 * are computed in chunks beside them, at most prefill_tokens a step while somebody decodes, which
 * bounds the gap between tokens. An answer may go on with several tokens at once: the first of them is
 * for this step, the others share the rows of prompts. Tokens that are only guessed (sched_draft) are
 * computed behind them in steps without prompts, up to draft_rows rows in all; they take no page from
 * anybody who runs. When pages run out, cached ones nobody uses go (least recently used leaf first), then
 * the job that is last in the order above is put back, paused ones first: it is computed again later, its
 * tokens are kept. Waiting jobs start when pages are left over; for their start only paused jobs and those
 * of lower priority are put back.
 *
 * Work that needs no pages and no plan (vectors) is done beside the steps, in the account of its tenant:
 * sched_visit, sched_charge, sched_leave; whose turn it is, the caller sees by tags like those of jobs.
 *
 * One thread's. Job ids are 0 to jobs - 1 and are used again; the wrong call for a job is an assert.
 */
#ifndef SCHED_H
#define SCHED_H

#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCHED_PAGE = 32, /* tokens */
    SCHED_ALONE =
        4 /* times prefill_tokens: rows of prompts in a step in which nobody decodes; who comes
                        waits for its end */
};

struct sched_limits {
    int jobs;           /* that exist at once, waiting ones among them */
    int running;        /* of them, that hold pages */
    int tenants;        /* with jobs at once; those without are remembered while there is room */
    int pages;          /* of the KV cache */
    int ctx;            /* tokens of a job, prompt and answer */
    int step_tokens;    /* rows of a step, at least `running` */
    int prefill_tokens; /* rows of prompts in a step in which somebody decodes */
    int draft_rows; /* up to which a step is filled with guesses, at most step_tokens; 0: none */
    uint64_t seed;  /* random, so that nobody can write prompts whose pages collide in the tree */
};

struct sched_spec {
    uint64_t tenant;
    uint64_t salt; /* prefixes are shared among equal ones */
    int priority;  /* higher first */
    int32_t
        *tokens; /* [prompt + max_tokens]: the prompt stands there; the caller's until sched_end,
                        sched_tokens appends, sched_draft writes behind */
    int prompt, max_tokens; /* max_tokens: reserved room, at least 1 */
};

/* Its pointers live until the step is computed or undone. The slice of a job that was ended in the
 * meantime may still be computed: nobody else gets its pages before the next sched_plan. */
struct sched_slice {
    int job;
    const int32_t *tokens; /* [n] */
    int n, pos;            /* position of the first */
    int drafted;           /* the last of them, which are only guessed; then `sample` is set */
    const int32_t *pages;  /* of the job from position 0 on; room for pos + n tokens */
    bool sample; /* the logits of the last 1 + drafted rows are wanted: sched_tokens follows */
};

size_t sched_size(const struct sched_limits *l);
struct sched *sched_init(void *mem, const struct sched_limits *l);
/* ERR_LIMIT: queue full (temporary). ERR_USAGE: can never run (longer than ctx or than all pages). */
ERR_DOOR int sched_add(struct sched *s, const struct sched_spec *spec, int *job, struct err *e);
/* max: at least `running`. 0: there is nothing to compute, no sched_computed follows. A job whose
 * tokens have not come, or whose room is full, is in no plan. */
int sched_plan(struct sched *s, struct sched_slice *out, int max);
/* Another limits.prefill_tokens, at least 1, from the next plan on. */
void sched_set_prefill(struct sched *s, int tokens);
void sched_computed(struct sched *s);
void sched_undone(struct sched *s);
/* n >= 1 tokens more; the first `kept` < n of them are the slice's first drafted ones, which need not be
 * computed again. */
void sched_tokens(struct sched *s, int job, const int32_t *ids, int n, int kept);
/* What may follow, for the next plan only; as many as there is room for. Between sched_tokens and it. */
void sched_draft(struct sched *s, int job, const int32_t *ids, int n);
void sched_end(struct sched *s, int job);
/* A paused job is in no plan. It keeps its pages until somebody needs them. */
void sched_pause(struct sched *s, int job, bool paused);

/* A tenant comes with work of that kind; visits may be many. Returns its number, good until as many
 * sched_leave, or -1: there are too many tenants (temporary). */
int sched_visit(struct sched *s, uint64_t tenant);
void sched_leave(struct sched *s, int visitor);
void sched_charge(struct sched *s, int visitor, int tokens);
int64_t sched_served(const struct sched *s, int visitor);

struct sched_job_info {
    int prompt, cached; /* tokens; cached: of the prompt, found in the tree before this job computed
                           them, so what it finds of its own after it was put back does not count */
    int computed, tokens, pages, preempted;
    bool running;
    int64_t tag; /* its tenant's tokens served when it will have what it wants: the least is next */
    bool decodes; /* the next plan has rows of its answer */
};
void sched_job_info(const struct sched *s, int job, struct sched_job_info *info);
struct sched_info {
    int waiting, running, pages_free, pages_held, pages_cached;
    /* Since init: tokens of prompts, and of them cached; jobs put back; pages that left the tree. */
    int64_t prefix_queried, prefix_hit, preempted, evicted;
};
void sched_info(const struct sched *s, struct sched_info *info);
/* Aborts (assert) where an invariant is broken; for tests and the simulator. */
void sched_check(const struct sched *s);

#endif
