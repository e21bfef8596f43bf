/* A model that answers many at once: a thread that owns an engine and a scheduler, and computes the
 * jobs that other threads give it side by side.
 *
 *     struct worker *w;
 *     if (worker_open(&w, path, &opts, &e)) ...
 *     if (worker_add(w, &spec, 1, &job, &e)) ...      from any thread; spec.event is called as it goes
 *     worker_cancel(job);                             from any thread, at any time
 *     worker_release(job);                            once, when the caller has done with the handle
 *     worker_close(w);                                ends what is left as cancelled; from then on
 *                                                     handles may only be released
 *
 * Events come on the worker's thread, which may not be held up: no waiting, no calls of worker_add.
 * The last event of a job is WORKER_END or WORKER_FAILED; after it nothing of spec is used any more.
 * Greedy answers do not depend on what else runs (nn.h). Tokens that a grammar leaves no choice about are
 * not waited for: they are computed in the step of the token after them. Steps with few rows compute
 * drafted tokens too (spec_many.h); the answers are the same.
 */
#ifndef WORKER_H
#define WORKER_H

#include "answer.h"
#include "embed.h"
#include "engine.h"

struct worker;
struct worker_job;

struct worker_opts {
    struct engine_opts engine; /* ctx, threads ...; sequences and pages are set by the rest */
    int jobs;                  /* at once, waiting ones among them; 0: 256 */
    int running;               /* of them, computed side by side; 0: 32 */
    size_t kv_bytes;           /* of KV pages; 0: 1 GiB */
    int64_t gap_ns;            /* wanted between two tokens while prompts are computed; 0: 100 ms */
    int spec_tokens;           /* drafted for an answer in a step, as of spec_opts; 0: SPEC_AUTO */
    bool no_spec;
};

/* Fills what is 0 in o. */
ERR_DOOR int worker_open(struct worker **out, const char *path, const struct worker_opts *o,
                         struct err *e);
void worker_close(struct worker *w);
/* What worker_info would tell, without loading the model: a look at its file's header. */
ERR_DOOR int worker_peek(const char *path, const struct worker_opts *o, struct engine_info *info,
                         struct err *e);
/* Read-only parts of the engine, for any thread. */
const struct tok *worker_tok(const struct worker *w);
const struct engine_info *worker_info(const struct worker *w);

struct worker_usage {
    int prompt_tokens, output_tokens;
    int cached_tokens; /* of the prompt, found computed */
    int64_t queue_ns;  /* from worker_add to the first row computed */
    int64_t ttft_ns;   /* from worker_add to the first token */
    int64_t total_ns;  /* from worker_add to the end */
};

enum worker_kind { WORKER_TEXT, WORKER_END, WORKER_FAILED };
struct worker_event {
    enum worker_kind kind;
    const struct answer_next
        *next;               /* of TEXT; text may be empty. The last token of an answer comes as
                                       TEXT too, then END */
    enum answer_end end;     /* of END */
    const struct err *error; /* of FAILED */
    const struct worker_usage *usage;
};
/* What the job does next. A paused one goes on at worker_resume. */
enum worker_flow { WORKER_ON, WORKER_PAUSE, WORKER_CANCEL };

struct worker_spec {
    const int32_t *prompt; /* [n], copied */
    int n;
    struct answer_opts answer; /* what it points to: the caller's until the last event */
    /* Instead of a prompt: texts to vectors, the caller's until the last event. */
    const struct embed_text *texts; /* [n_texts] */
    int n_texts;
    uint64_t tenant; /* tenants share the machine evenly */
    uint64_t salt;   /* computed prefixes are shared among equal ones */
    int priority;    /* higher first */
    enum worker_flow (*event)(void *arg, const struct worker_event *ev);
    void *arg;
};
/* Takes all n or none; jobs [n] are set before the first event comes. ERR_USAGE: a prompt does not fit
 * the context, parameters out of range. ERR_LIMIT: too many jobs now. ERR_CANCELLED: the worker is
 * closing. */
ERR_DOOR int worker_add(struct worker *w, const struct worker_spec *specs, int n,
                        struct worker_job **jobs, struct err *e);
void worker_cancel(struct worker_job *job);
void worker_resume(struct worker_job *job);
void worker_release(struct worker_job *job);

struct worker_stats {
    int waiting, running, pages, pages_used, pages_cached;
    int64_t prompt_tokens; /* of texts, too */
    int64_t looked_up_tokens, cached_tokens, output_tokens, preempted, steps;
    int64_t forced_tokens; /* of answers: those that a grammar left no choice about */
    int64_t drafts, drafted_tokens,
        accepted_tokens; /* computed before it was known whether they follow */
    int64_t busy_ns;     /* in steps */
};
void worker_stats(struct worker *w, struct worker_stats *stats);

#endif
