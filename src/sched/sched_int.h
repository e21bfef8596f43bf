/* Shared by the files of sched/: what a scheduler is made of. */
#ifndef SCHED_INT_H
#define SCHED_INT_H

#include "sched.h"

enum { NONE = -1 };

/* Free (refs 0, not in the tree), a job's own (refs 1, not in the tree), shared (in the tree, refs
 * counts jobs) or cached (in the tree, refs 0). */
struct sched__page {
    uint64_t salt;
    int32_t parent;       /* page of the tokens before, NONE at a root */
    int32_t next;         /* in its bucket of the tree */
    int32_t older, newer; /* among the cached */
    int32_t refs, children;
    bool in_tree; /* full and computed: never written again */
};

struct sched__tenant {
    uint64_t id;
    int64_t counter; /* virtual: tokens served, weighted */
    int64_t ahead;   /* while a plan is made: what its jobs so far want */
    int jobs, awake; /* awake: jobs that are not paused, and visits */
    int visits;
    bool known, wants; /* wants: rows for a prompt, when the last plan was made, or vectors */
};

struct sched__job {
    struct sched_spec spec;
    struct sched__tenant *tenant;
    uint64_t arrival;
    int64_t deadline; /* the tenant's counter at the arrival, and what the job wanted then */
    int64_t tag;      /* the tenant's counter when this job will have what it wants */
    int32_t *pages;   /* [pages_max] */
    int n_pages;      /* 0: it waits */
    int n, computed;  /* tokens known; of them, those in pages. computed < n unless due */
    int reached; /* the most that `computed` has been: what comes again is neither hit nor service */
    int found;   /* tokens of the prompt that were in the tree at the arrival */
    int brought; /* the last tokens of n, with which the answer went on; 0: none yet */
    int planned; /* rows in the step that is being computed, without drafted ones */
    int slice;   /* where it stands in the plan */
    int drafted; /* tokens behind n: wanted by sched_draft, then in the plan, then computed */
    int cached, preempted;
    int next_free;
    bool used, paused;
    bool due; /* its last row was computed: sched_tokens is to come */
};

struct sched {
    struct sched_limits limits;
    int pages_max; /* of a job */

    struct sched__page *pages;
    int32_t *page_tokens; /* [pages][SCHED_PAGE], of those in the tree */
    int32_t *free;        /* [n_free] */
    int32_t *buckets;     /* [mask + 1], heads of chains */
    uint32_t mask;
    uint64_t keys[4 + SCHED_PAGE];
    int32_t oldest, newest; /* cached page */
    int n_free, n_cached;

    struct sched__tenant *tenants;
    int64_t now;    /* virtual time */
    int64_t served; /* of all, that has not moved it yet */

    struct sched__job *jobs;
    int32_t *order; /* [n_jobs] by sched__job_before */
    int32_t *turn;  /* [n_jobs] in the order in which this plan serves them */
    int n_jobs, n_running;
    int last;                  /* turn[i] holds no pages for i > last */
    int first_free, last_free; /* job ids: the one that was given back first is used first */
    uint64_t arrivals;

    int32_t *step; /* [n_step] jobs planned */
    int n_step;    /* 0: no step is being computed */

    int32_t *count; /* [pages] for sched_check */
    int64_t prefix_queried, prefix_hit, preempted, evicted;
};

static inline int sched__pages_of(int tokens)
{
    return tokens / SCHED_PAGE + (tokens % SCHED_PAGE != 0);
}

/* pages.c */
void sched__page_init(struct sched *s);
/* Pages that can be taken: free or cached. */
int sched__page_left(const struct sched *s);
/* For one job; the caller has checked that one is left. */
int32_t sched__page_take(struct sched *s);
void sched__page_hold(struct sched *s, int32_t p);
void sched__page_drop(struct sched *s, int32_t p);

/* tree.c */
void sched__tree_init(struct sched *s);
/* NONE: it is not there. */
int32_t sched__tree_find(const struct sched *s, int32_t parent, uint64_t salt,
                         const int32_t *tokens /* [SCHED_PAGE] */);
void sched__tree_insert(struct sched *s, int32_t p, int32_t parent, uint64_t salt,
                        const int32_t *tokens);
void sched__tree_remove(struct sched *s, int32_t p);

/* tenants.c */
/* NULL: there is no room. */
struct sched__tenant *sched__tenant_find(struct sched *s, uint64_t id);
void sched__tenant_wake(struct sched *s, struct sched__tenant *t);
void sched__tenant_sleep(struct sched__tenant *t);
void sched__tenant_served(struct sched *s, struct sched__tenant *t, int64_t n);
/* Brings virtual time up to date. */
void sched__tenant_clock(struct sched *s);

/* plan.c */
/* Its first pages that are in the tree, set in j->pages; a place behind them is written, too. */
int sched__job_find(const struct sched *s, const struct sched__job *j);

/* sched.c */
/* By priority, of those of a tenant then by deadline, then by arrival. */
bool sched__job_before(const struct sched__job *a, const struct sched__job *b);
/* Its pages are given back; those in the tree stay there. */
void sched__job_release(struct sched *s, struct sched__job *j);
/* Drafted tokens are forgotten, and pages taken for them given back. */
void sched__job_undraft(struct sched *s, struct sched__job *j);

/* plan.c */
/* Its rows are for the tokens with which its answer went on. */
bool sched__job_decodes(const struct sched__job *j);
/* j has its tokens up to `to` in pages now: those that became full go into the tree. Returns how many of
 * the tokens it never had before. */
int sched__job_advance(struct sched *s, struct sched__job *j, int to);

#endif
