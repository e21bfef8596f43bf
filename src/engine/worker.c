/* The loop: what arrived, what the scheduler wants computed, one step, one token for each job whose
 * last row it was. Invariant: a job is in exactly one of three places, the inbox, the scheduler (or the
 * list of texts), or gone; `jobs` counts those not gone. Another thread speaks to a job through its two
 * atomics and a place in the inbox, nothing else. How much of a prompt goes beside decoding ones is
 * measured: as much as keeps the wanted gap.
 */
#include "worker.h"

#include "clock.h"
#include "sched.h"
#include "thread.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    JOBS = 256,
    RUNNING = 32,
    GAP_MS = 200,
    TENANTS = 1024,
    ROWS = 512,        /* of a step */
    PREFILL_LEAST = 16 /* rows of prompts in a step, however slow the machine is */
};

struct worker_job {
    struct worker *w;
    struct worker_spec spec;
    atomic_int refs;
    atomic_bool cancelled, resumed;
    bool queued; /* in the inbox; under the lock */
    struct worker_job *next_queued;
    struct answer *answer;
    int32_t *tokens; /* [prompt + answer] */
    int id;          /* the scheduler's, or -1 */
    bool begun, ended;
    int texts_done;
    struct worker_job *next_texts;
    struct worker_usage usage;
    int64_t start;
};

struct worker {
    struct engine *en;
    struct engine_info info;
    struct sched *sched;
    void *sched_mem;
    struct worker_job **by_id; /* [jobs] */
    struct sched_slice *plan;  /* [running] */
    struct engine_slice *step;
    struct worker_job *texts; /* first of those that want vectors */
    int running, jobs_max, prefill_tokens;
    int64_t gap_ns;
    double ns_per_token; /* of prompts, as measured lately; 0: not yet */
    struct thread *thread;
    struct thread_monitor lock;
    /* Under the lock. */
    struct worker_job *inbox, **inbox_end;
    int jobs;
    bool closing;
    struct worker_stats stats;
};

static void queue(struct worker *w, struct worker_job *j)
{
    if (j->queued) return;
    j->queued = true;
    j->next_queued = NULL;
    atomic_fetch_add(&j->refs, 1);
    *w->inbox_end = j;
    w->inbox_end = &j->next_queued;
    thread_wake(&w->lock);
}

static void kick(struct worker_job *j)
{
    thread_hold(&j->w->lock);
    queue(j->w, j);
    thread_release(&j->w->lock);
}

void worker_release(struct worker_job *j)
{
    if (!j || atomic_fetch_sub(&j->refs, 1) > 1) return;
    answer_close(j->answer);
    free(j->tokens);
    free(j);
}

void worker_cancel(struct worker_job *j)
{
    atomic_store(&j->cancelled, true);
    kick(j);
}

void worker_resume(struct worker_job *j)
{
    atomic_store(&j->resumed, true);
    kick(j);
}

/* The last event; the worker's hold on the job ends. */
static void finish(struct worker_job *j, const struct worker_event *ev)
{
    struct worker *w = j->w;
    struct worker_event last = *ev;
    if (j->ended) return;
    j->ended = true;
    if (j->id >= 0) {
        struct sched_job_info info;
        sched_job_info(w->sched, j->id, &info);
        j->usage.preempted = info.preempted;
        sched_end(w->sched, j->id);
        w->by_id[j->id] = NULL;
        j->id = -1;
    }
    for (struct worker_job **p = &w->texts; *p; p = &(*p)->next_texts)
        if (*p == j) {
            *p = j->next_texts;
            break;
        }
    if (j->answer) j->usage.output_tokens = answer_tokens(j->answer);
    j->usage.total_ns = clock_ns() - j->start;
    last.usage = &j->usage;
    thread_hold(&w->lock);
    w->jobs--;
    w->stats.output_tokens += j->usage.output_tokens;
    thread_release(&w->lock);
    j->spec.event(j->spec.arg, &last);
    worker_release(j);
}

static void finish_failed(struct worker_job *j, const struct err *e)
{
    finish(j, &(struct worker_event){.kind = WORKER_FAILED, .error = e});
}

static void finish_end(struct worker_job *j, enum answer_end end)
{
    finish(j, &(struct worker_event){.kind = WORKER_END, .end = end});
}

static void begin(struct worker *w, struct worker_job *j)
{
    struct err e;
    j->begun = true;
    if (j->spec.n_texts) {
        struct worker_job **p = &w->texts;
        while (*p) p = &(*p)->next_texts;
        *p = j;
        return;
    }
    struct sched_spec s = {.tenant = j->spec.tenant,
                           .salt = j->spec.salt,
                           .priority = j->spec.priority,
                           .tokens = j->tokens,
                           .prompt = j->spec.n,
                           .max_tokens = j->spec.answer.max_tokens};
    if (sched_add(w->sched, &s, &j->id, &e)) {
        j->id = -1;
        finish_failed(j, &e);
    } else {
        w->by_id[j->id] = j;
    }
}

/* The next job that somebody pointed at, or NULL. One at a time, since it may be pointed at again at once. */
static struct worker_job *take_queued(struct worker *w, bool wait, bool *closing)
{
    thread_hold(&w->lock);
    while (wait && !w->inbox && !w->closing) thread_wait(&w->lock, -1);
    struct worker_job *j = w->inbox;
    *closing = w->closing;
    if (j) {
        w->inbox = j->next_queued;
        if (!w->inbox) w->inbox_end = &w->inbox;
        j->queued = false;
    }
    thread_release(&w->lock);
    return j;
}

/* False: the worker closes, and nothing is left. */
static bool look_at_inbox(struct worker *w, bool wait)
{
    struct worker_job *j;
    bool closing;
    for (; (j = take_queued(w, wait, &closing)); wait = false) {
        if (!j->begun) begin(w, j);
        if (closing || atomic_load(&j->cancelled)) finish_end(j, ANSWER_CANCELLED);
        if (atomic_exchange(&j->resumed, false) && j->id >= 0) sched_pause(w->sched, j->id, false);
        worker_release(j);
    }
    if (!closing) return true;
    for (int i = 0; i < w->jobs_max; i++)
        if (w->by_id[i]) finish_end(w->by_id[i], ANSWER_CANCELLED);
    while (w->texts) finish_end(w->texts, ANSWER_CANCELLED);
    return false;
}

static void flow(struct worker_job *j, enum worker_flow f)
{
    if (f == WORKER_CANCEL) finish_end(j, ANSWER_CANCELLED);
    if (f == WORKER_PAUSE) sched_pause(j->w->sched, j->id, true);
}

static void take_token(struct worker_job *j, const float *logits)
{
    struct answer_next next;
    struct err e;
    if (answer_next(j->answer, logits, &next, &e)) {
        finish_failed(j, &e);
        return;
    }
    if (!j->usage.ttft_ns) {
        struct sched_job_info info;
        sched_job_info(j->w->sched, j->id, &info);
        j->usage.cached_tokens = info.cached;
        j->usage.ttft_ns = clock_ns() - j->start;
    }
    if (next.end == ANSWER_GOES_ON) sched_token(j->w->sched, j->id, next.id);
    struct worker_event ev = {.kind = WORKER_TEXT, .next = &next, .usage = &j->usage};
    enum worker_flow f = j->spec.event(j->spec.arg, &ev);
    if (next.end != ANSWER_GOES_ON)
        finish_end(j, next.end);
    else
        flow(j, f);
}

/* How long prompts take decides how much of them stands beside decoding rows. */
static void learn(struct worker *w, int prompt_rows, int rows, int64_t ns)
{
    if (prompt_rows < PREFILL_LEAST || prompt_rows < rows / 2) return;
    double now = (double)ns / rows;
    w->ns_per_token = w->ns_per_token > 0 ? 0.8 * w->ns_per_token + 0.2 * now : now;
    double n = (double)w->gap_ns / w->ns_per_token;
    w->prefill_tokens = n < PREFILL_LEAST   ? PREFILL_LEAST
                        : n > w->info.chunk ? w->info.chunk
                                            : (int)n;
    sched_set_prefill(w->sched, w->prefill_tokens);
}

static void compute(struct worker *w, int n)
{
    int rows = 0, prompt_rows = 0;
    struct err e;
    for (int i = 0; i < n; i++) {
        const struct sched_slice *s = &w->plan[i];
        struct worker_job *j = w->by_id[s->job];
        w->step[i] =
            (struct engine_slice){.tokens = s->tokens,
                                  .n = s->n,
                                  .pages = s->pages,
                                  .pos = s->pos,
                                  .want = s->sample ? ENGINE_LOGITS_LAST : ENGINE_LOGITS_NONE};
        if (!j->usage.queue_ns) j->usage.queue_ns = clock_ns() - j->start;
        rows += s->n;
        if (s->n > 1) prompt_rows += s->n;
    }
    int64_t start = clock_ns();
    int rc = engine_step(w->en, w->step, n, &e);
    int64_t ns = clock_ns() - start;
    if (rc) {
        sched_undone(w->sched);
        for (int i = 0; i < n; i++) finish_failed(w->by_id[w->plan[i].job], &e);
        return;
    }
    sched_computed(w->sched);
    learn(w, prompt_rows, rows, ns);
    for (int i = 0; i < n; i++)
        if (w->plan[i].sample) take_token(w->by_id[w->plan[i].job], w->step[i].logits);
    thread_hold(&w->lock);
    w->stats.steps++;
    w->stats.busy_ns += ns;
    thread_release(&w->lock);
}

/* Some of the texts of the first job that wants vectors. */
static void compute_texts(struct worker *w)
{
    struct worker_job *j = w->texts;
    int from = j->texts_done, n = 0, tokens = 0;
    struct err e;
    if (!j->usage.queue_ns) j->usage.queue_ns = clock_ns() - j->start;
    for (; from + n < j->spec.n_texts; n++) {
        tokens += j->spec.texts[from + n].n;
        if (n && tokens > w->info.chunk) break;
    }
    int64_t start = clock_ns();
    int rc = embed_texts(w->en, j->spec.texts + from, n, &e);
    thread_hold(&w->lock);
    w->stats.steps++;
    w->stats.busy_ns += clock_ns() - start;
    thread_release(&w->lock);
    j->texts_done += n;
    if (rc)
        finish_failed(j, &e);
    else if (j->texts_done == j->spec.n_texts)
        finish_end(j, ANSWER_EOS);
}

static void tell(struct worker *w)
{
    struct sched_info s;
    sched_info(w->sched, &s);
    thread_hold(&w->lock);
    w->stats.waiting = s.waiting;
    w->stats.running = s.running;
    w->stats.pages_used = s.pages_held;
    w->stats.pages_cached = s.pages_cached;
    w->stats.prompt_tokens = s.prefix_queried;
    w->stats.cached_tokens = s.prefix_hit;
    w->stats.preempted = s.preempted;
    thread_release(&w->lock);
}

static void loop(void *arg)
{
    struct worker *w = arg;
    int n = 0;
    while (look_at_inbox(w, !n && !w->texts)) {
        n = sched_plan(w->sched, w->plan, w->running);
        if (n) compute(w, n);
        if (w->texts) compute_texts(w);
        tell(w);
    }
}

static int open_sched(struct worker *w, struct err *e)
{
    struct sched_limits l = {.jobs = w->jobs_max,
                             .running = w->running,
                             .tenants = w->jobs_max < TENANTS ? w->jobs_max : TENANTS,
                             .pages = w->info.pages,
                             .ctx = w->info.ctx,
                             .step_tokens = w->info.chunk,
                             .prefill_tokens = w->prefill_tokens};
    if (getrandom(&l.seed, sizeof l.seed, 0) < 0)
        return err_set(e, ERR_IO, "no random bits: %s", strerror(errno));
    size_t bytes = (sched_size(&l) + 63) / 64 * 64;
    w->sched_mem = aligned_alloc(64, bytes);
    w->by_id = calloc((size_t)w->jobs_max, sizeof(struct worker_job *));
    w->plan = calloc((size_t)w->running, sizeof *w->plan);
    w->step = calloc((size_t)w->running, sizeof *w->step);
    if (!w->sched_mem || !w->by_id || !w->plan || !w->step)
        return err_nomem(e, bytes, "the scheduler");
    w->sched = sched_init(w->sched_mem, &l);
    return 0;
}

int worker_open(struct worker **out, const char *path, const struct worker_opts *o, struct err *e)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w) return err_nomem(e, sizeof *w, "a worker");
    w->jobs_max = o->jobs ? o->jobs : JOBS;
    w->running = o->running ? o->running : RUNNING;
    if (w->running > w->jobs_max) w->running = w->jobs_max;
    w->gap_ns = o->gap_ns ? o->gap_ns : GAP_MS * 1000000LL;
    w->inbox_end = &w->inbox;
    struct engine_opts en = o->engine;
    en.max_seqs = w->running;
    if (w->running > ROWS) en.chunk = w->running; /* a row for each that decodes */
    en.kv_tokens = en.ctx ? en.ctx : 1 << 14; /* of embed_texts alone; address space until used */
    en.pages = 1 << 20;
    en.pages_bytes = o->kv_bytes ? o->kv_bytes : 1 << 30;
    thread_monitor_init(&w->lock);
    int rc = engine_open(&w->en, path, &en, e);
    if (rc == ERR_UNSUPPORTED) { /* an encoder has no head; whatever else it is fails again */
        en.embed = true;
        en.ctx = 0;
        rc = engine_open(&w->en, path, &en, e);
    }
    if (!rc) {
        engine_info(w->en, &w->info);
        w->prefill_tokens = w->info.chunk < 64 ? w->info.chunk : 64;
        w->stats.pages = w->info.pages;
        rc = open_sched(w, e);
    }
    if (!rc) rc = thread_open(&w->thread, loop, w, e);
    if (rc)
        worker_close(w);
    else
        *out = w;
    return rc;
}

void worker_close(struct worker *w)
{
    if (!w) return;
    if (w->thread) {
        thread_hold(&w->lock);
        w->closing = true;
        thread_wake(&w->lock);
        thread_release(&w->lock);
        thread_close(w->thread);
    }
    for (struct worker_job *j = w->inbox, *next; j; j = next) { /* pointed at after the end */
        next = j->next_queued;
        worker_release(j);
    }
    engine_close(w->en);
    free(w->sched_mem);
    free(w->by_id);
    free(w->plan);
    free(w->step);
    thread_monitor_free(&w->lock);
    free(w);
}

const struct tok *worker_tok(const struct worker *w)
{
    return engine_tok(w->en);
}

const struct engine_info *worker_info(const struct worker *w)
{
    return &w->info;
}

static int prepare(struct worker_job *j, struct err *e)
{
    struct worker_spec *s = &j->spec;
    int ctx = j->w->info.ctx, room = ctx - s->n;
    int pages = j->w->info.pages;
    if (pages < ctx / SCHED_PAGE && pages * SCHED_PAGE - s->n < room)
        room = pages * SCHED_PAGE - s->n;
    j->usage.prompt_tokens = s->n;
    for (int i = 0; i < s->n_texts; i++) j->usage.prompt_tokens += s->texts[i].n;
    if (s->n_texts) return 0;
    if (j->w->info.encoder)
        return err_set(e, ERR_UNSUPPORTED, "a %s model has no words to say, only vectors",
                       j->w->info.arch);
    if (s->n < 1) return err_set(e, ERR_USAGE, "an empty prompt");
    if (room < 1)
        return err_set(e, ERR_USAGE,
                       "this model's maximum context length is %d tokens, the prompt has %d, and "
                       "the answer needs room, too", /* by these words clients know it */
                       ctx, s->n);
    for (int i = 0; i < s->n; i++) /* or it would fail the step of all the others */
        if (s->prompt[i] < 0 || s->prompt[i] >= j->w->info.n_vocab)
            return err_set(e, ERR_USAGE, "token %d is outside the vocabulary of %d", s->prompt[i],
                           j->w->info.n_vocab);
    if (s->answer.max_tokens < 1 || s->answer.max_tokens > room) s->answer.max_tokens = room;
    size_t bytes = (size_t)(s->n + s->answer.max_tokens) * sizeof *j->tokens;
    j->tokens = malloc(bytes);
    if (!j->tokens) return err_nomem(e, bytes, "a job's tokens");
    memcpy(j->tokens, s->prompt, (size_t)s->n * sizeof *j->tokens);
    return answer_open(&j->answer, engine_tok(j->w->en), j->w->info.n_vocab, &s->answer, j->tokens,
                       s->n, e);
}

static int new_job(struct worker *w, const struct worker_spec *spec, struct worker_job **out,
                   struct err *e)
{
    struct worker_job *j = calloc(1, sizeof *j);
    if (!j) return err_nomem(e, sizeof *j, "a job");
    *j = (struct worker_job){.w = w, .spec = *spec, .id = -1, .start = clock_ns()};
    atomic_init(&j->refs, 1);
    *out = j;
    return prepare(j, e);
}

int worker_add(struct worker *w, const struct worker_spec *specs, int n, struct worker_job **jobs,
               struct err *e)
{
    int rc = 0;
    for (int i = 0; i < n; i++) jobs[i] = NULL;
    for (int i = 0; i < n && !rc; i++) rc = new_job(w, &specs[i], &jobs[i], e);
    thread_hold(&w->lock);
    if (!rc && w->closing) rc = err_set(e, ERR_CANCELLED, "the server is going down");
    if (!rc && n > w->jobs_max - w->jobs)
        rc = err_set(e, ERR_LIMIT, "%d requests are under way or waiting, %d more are too many",
                     w->jobs, n);
    for (int i = 0; i < n && !rc; i++) {
        w->jobs++;
        atomic_fetch_add(&jobs[i]->refs, 1);
        queue(w, jobs[i]);
    }
    thread_release(&w->lock);
    for (int i = 0; i < n && rc; i++) {
        worker_release(jobs[i]);
        jobs[i] = NULL;
    }
    return rc;
}

void worker_stats(struct worker *w, struct worker_stats *stats)
{
    thread_hold(&w->lock);
    *stats = w->stats;
    thread_release(&w->lock);
}
