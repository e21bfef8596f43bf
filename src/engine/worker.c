/* The loop: what arrived, what the scheduler wants computed, one step, a token for each job whose
 * last row it was, picked on the engine's threads, and those that must follow it. Invariant: a job is in exactly one of three places, the inbox, the scheduler (or the
 * list of texts), or gone; `jobs` counts those not gone. Another thread speaks to a job through its two
 * atomics and a place in the inbox, nothing else. How much of a prompt goes beside decoding ones is
 * measured: as much as keeps the wanted gap.
 */
#include "worker.h"

#include "clock.h"
#include "sched.h"
#include "spec_many.h"
#include "thread.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    JOBS = 256,
    RUNNING = 32,
    GAP_MS = 100,
    TENANTS = 1024,
    ROWS = 512,         /* of a step */
    PREFILL_LEAST = 16, /* rows of prompts in a step, however slow the machine is */
    BROUGHT = 64,       /* most tokens with which an answer goes on at once */
    READ = 1024         /* of a text, for speculation, in a step */
};

struct worker_job {
    struct worker *w;
    struct worker_spec spec;
    atomic_int refs;
    atomic_bool cancelled, resumed;
    bool queued; /* in the inbox; under the lock */
    struct worker_job *next_queued;
    struct answer *answer;
    int32_t *tokens;             /* [prompt + answer] */
    struct spec_many_text *text; /* NULL: nothing is drafted */
    int read;                    /* of tokens, by text */
    int id;                      /* the scheduler's, or -1 */
    bool begun, ended;
    int texts_done, visitor; /* of the scheduler's, while it is in the list of texts, or -1 */
    int64_t tokens_left;     /* of the texts */
    struct worker_job *next_texts;
    struct worker_usage usage;
    int64_t start;
};

/* The next token of an answer, taken from the logits of its slice. */
struct pick {
    struct answer *answer;
    const float *logits;
    struct answer_next next;
    bool forced;
    int rc;
    struct err e;
};

struct worker {
    struct engine *en;
    struct engine_info info;
    struct sched *sched;
    void *sched_mem;
    struct worker_job **by_id; /* [jobs] */
    struct sched_slice *plan;  /* [running] */
    struct engine_slice *step;
    struct pick *picks;
    struct worker_job *texts;  /* first of those that want vectors, in the order they came */
    int64_t text_tokens;       /* computed so far */
    struct worker_job *parted; /* has a text that is computed in pieces, or NULL */
    struct embed_part part;
    int running, jobs_max, prefill_tokens;
    int64_t gap_ns;
    double ns_per_token; /* of prompts, as measured lately; 0: not yet */
    struct spec_many spec;
    struct spec_many_text **texts_on; /* [running] */
    bool speculates;
    struct worker_stats counts; /* those that only this thread counts */
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
    spec_many_close(j->text);
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
        sched_end(w->sched, j->id);
        w->by_id[j->id] = NULL;
        j->id = -1;
    }
    for (struct worker_job **p = &w->texts; *p; p = &(*p)->next_texts)
        if (*p == j) {
            *p = j->next_texts;
            break;
        }
    if (w->parted == j) {
        embed_part_drop(w->en, &w->part);
        w->parted = NULL;
    }
    if (j->visitor >= 0) sched_leave(w->sched, j->visitor);
    j->visitor = -1;
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

static void begin_texts(struct worker *w, struct worker_job *j)
{
    struct err e;
    j->tokens_left = j->usage.prompt_tokens;
    j->visitor = sched_visit(w->sched, j->spec.tenant);
    if (j->visitor < 0) {
        err_set(&e, ERR_LIMIT, "the queue is full of other users' requests");
        finish_failed(j, &e);
        return;
    }
    struct worker_job **p = &w->texts;
    while (*p) p = &(*p)->next_texts;
    *p = j;
}

static void begin(struct worker *w, struct worker_job *j)
{
    struct err e;
    j->begun = true;
    if (j->spec.n_texts) {
        begin_texts(w, j);
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

static enum worker_flow show(struct worker_job *j, const struct answer_next *next)
{
    if (!j->usage.ttft_ns) {
        struct sched_job_info info;
        sched_job_info(j->w->sched, j->id, &info);
        j->usage.cached_tokens = info.cached;
        j->usage.ttft_ns = clock_ns() - j->start;
    }
    struct worker_event ev = {.kind = WORKER_TEXT, .next = next, .usage = &j->usage};
    return j->spec.event(j->spec.arg, &ev);
}

static void count_drafts(struct worker_job *j, int drafted, int right)
{
    struct worker_stats *c = &j->w->counts;
    if (!drafted) return;
    c->drafts++;
    c->drafted_tokens += drafted;
    c->accepted_tokens += right;
    spec_many_judged(j->text, drafted, right);
}

/* Masks and samplers of many answers at once: each is looked at by one thread. */
static void pick_next(void *picks, int i)
{
    struct pick *p = (struct pick *)picks + i;
    p->forced = answer_forced(p->answer);
    p->rc = answer_next(p->answer, p->logits, &p->next, &p->e);
}

/* The answer goes on by the logits of its slice, [1 + drafted] rows of which the first has been picked
 * from, and by what needs none. A row counts as long as all drafted tokens before it are what was picked. */
static void take_tokens(struct worker_job *j, const struct sched_slice *s, struct pick *p)
{
    const int32_t *drafted = s->tokens + s->n - s->drafted;
    enum worker_flow f;
    int32_t ids[BROUGHT];
    int n = 0, right = 0;
    for (bool row = true;;) {
        if (p->rc) {
            finish_failed(j, &p->e);
            return;
        }
        j->w->counts.forced_tokens += p->forced;
        ids[n++] = p->next.id;
        row = row && right < s->drafted && drafted[right] == p->next.id;
        right += row;
        f = show(j, &p->next);
        if (p->next.end != ANSWER_GOES_ON || f != WORKER_ON || n == BROUGHT) break;
        if (!row && !answer_forced(j->answer)) break;
        p->logits = row ? p->logits + j->w->info.n_vocab : NULL;
        pick_next(p, 0);
    }
    count_drafts(j, s->drafted, right);
    if (p->next.end != ANSWER_GOES_ON) {
        finish_end(j, p->next.end);
    } else { /* stopped in their midst, the last is computed again for its logits */
        sched_tokens(j->w->sched, j->id, ids, n, right < n ? right : n - 1);
        flow(j, f);
    }
}

/* What speculation knows of a job's text, up to `known` tokens. */
static void read_on(struct worker_job *j, int known)
{
    int n = known - j->read, prompt = j->spec.n;
    if (!j->text || n <= 0) return;
    if (n > READ) n = READ;
    if (j->read < prompt && n > prompt - j->read) n = prompt - j->read;
    spec_many_read(j->text, j->tokens + j->read, n, j->read >= prompt);
    j->read += n;
}

/* Tokens that may follow, for those who decode. */
static void draft(struct worker *w)
{
    int n = 0, rows = 0;
    for (int i = 0; i < w->jobs_max && w->speculates; i++) {
        struct sched_job_info info;
        struct worker_job *j = w->by_id[i];
        if (!j) continue;
        sched_job_info(w->sched, i, &info);
        if (!info.decodes) continue;
        rows += info.tokens - info.computed;
        struct spec_many_text *t = w->texts_on[n++] = j->text;
        read_on(j, info.tokens);
        t->n_guess = 0;
        if (j->read < info.tokens) continue;
        spec_many_guess(&w->spec, t, j->spec.n + j->spec.answer.max_tokens - info.tokens - 1);
        t->n_guess = answer_allows(j->answer, t->guess, t->n_guess);
    }
    if (n == 0) return;
    spec_many_plan(&w->spec, w->texts_on, n, rows);
    for (int i = 0; i < w->jobs_max; i++) {
        struct worker_job *j = w->by_id[i];
        if (j && j->text->n_draft) sched_draft(w->sched, i, j->text->guess, j->text->n_draft);
        if (j) j->text->n_draft = 0;
    }
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

/* What came of the n slices of a step. */
static void take_all(struct worker *w, int n)
{
    int k = 0;
    for (int i = 0; i < n; i++) {
        if (!w->plan[i].sample) continue;
        w->picks[k].answer = w->by_id[w->plan[i].job]->answer;
        w->picks[k++].logits = w->step[i].logits;
    }
    engine_share(w->en, k, pick_next, w->picks);
    k = 0;
    for (int i = 0; i < n; i++) {
        const struct sched_slice *s = &w->plan[i];
        struct worker_job *j = w->by_id[s->job];
        read_on(j, s->pos + s->n - s->drafted);
        if (s->sample) take_tokens(j, s, &w->picks[k++]);
    }
}

static void compute(struct worker *w, int n)
{
    int rows = 0, prompt_rows = 0, drafted = 0;
    struct err e;
    for (int i = 0; i < n; i++) {
        const struct sched_slice *s = &w->plan[i];
        struct worker_job *j = w->by_id[s->job];
        w->step[i] =
            (struct engine_slice){.tokens = s->tokens,
                                  .n = s->n,
                                  .pages = s->pages,
                                  .pos = s->pos,
                                  .want = s->sample ? ENGINE_LOGITS_LAST : ENGINE_LOGITS_NONE,
                                  .last = s->sample ? 1 + s->drafted : 0};
        if (!j->usage.queue_ns) j->usage.queue_ns = clock_ns() - j->start;
        rows += s->n;
        drafted += s->drafted;
        if (s->n - s->drafted > 1) prompt_rows += s->n;
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
    if (!prompt_rows) spec_many_timed(&w->spec, rows, !drafted, ns);
    take_all(w, n);
    w->counts.steps++;
    w->counts.busy_ns += ns;
}

/* As the scheduler's tags: what the tenant will have been served when the job has its vectors. */
static int64_t tag_of(const struct worker_job *j)
{
    return sched_served(j->w->sched, j->visitor) + j->tokens_left;
}

/* Whose vectors come next: priority, then the least tag, then who came first. */
static struct worker_job *next_texts(const struct worker *w)
{
    struct worker_job *best = w->texts;
    if (w->parted) return w->parted;
    for (struct worker_job *j = best->next_texts; j; j = j->next_texts) {
        int more = j->spec.priority - best->spec.priority;
        if (more > 0 || (more == 0 && tag_of(j) < tag_of(best))) best = j;
    }
    return best;
}

/* Is a prompt among the step's n slices whose turn is before that of j's vectors? */
static bool prompts_come_first(const struct worker *w, int n, const struct worker_job *j)
{
    for (int i = 0; i < n; i++) {
        const struct sched_slice *s = &w->plan[i];
        struct sched_job_info info;
        sched_job_info(w->sched, s->job, &info);
        int more = w->by_id[s->job]->spec.priority - j->spec.priority;
        if (s->pos < info.prompt && (more > 0 || (more == 0 && info.tag < tag_of(j)))) return true;
    }
    return false;
}

/* At most so many tokens of a text. */
static int compute_part(struct worker *w, struct worker_job *j, int most, int *tokens,
                        struct err *e)
{
    const struct embed_text *t = &j->spec.texts[j->texts_done];
    int before = w->part.done;
    int rc = embed_part(w->en, t, &w->part, most, e);
    *tokens = w->part.done - before;
    w->parted = rc || w->part.done == t->n ? NULL : j;
    if (w->parted) return 0;
    w->part = (struct embed_part){0};
    j->texts_done++;
    return rc;
}

/* Some of the texts of one job: as many rows as prompts may have in a step, or, of an encoder, one text. */
static void compute_texts(struct worker *w, struct worker_job *j, bool beside)
{
    int most = w->prefill_tokens * (beside ? 1 : SCHED_ALONE), rc;
    const struct embed_text *texts = j->spec.texts + j->texts_done;
    int left = j->spec.n_texts - j->texts_done, n = 0, tokens = 0;
    struct err e;
    if (most > w->info.chunk || w->info.encoder) most = w->info.chunk;
    if (!j->usage.queue_ns) j->usage.queue_ns = clock_ns() - j->start;
    int64_t start = clock_ns();
    if (w->parted || (!w->info.encoder && texts[0].n > most)) {
        rc = compute_part(w, j, most, &tokens, &e);
    } else {
        while (n < left && (!n || tokens + texts[n].n <= most)) tokens += texts[n++].n;
        rc = embed_texts(w->en, texts, n, &e);
        j->texts_done += n;
    }
    sched_charge(w->sched, j->visitor, tokens);
    j->tokens_left -= tokens;
    w->text_tokens += tokens;
    w->counts.steps++;
    w->counts.busy_ns += clock_ns() - start;
    if (rc)
        finish_failed(j, &e);
    else if (j->texts_done == j->spec.n_texts)
        finish_end(j, ANSWER_EOS);
}

static void tell(struct worker *w)
{
    struct sched_info s;
    int begun = 0, texts = 0;
    sched_info(w->sched, &s);
    for (const struct worker_job *j = w->texts; j; j = j->next_texts, texts++)
        begun += j->usage.queue_ns != 0;
    thread_hold(&w->lock);
    w->stats.waiting = s.waiting + texts - begun;
    w->stats.running = s.running + begun;
    w->stats.pages_used = s.pages_held;
    w->stats.pages_cached = s.pages_cached;
    w->stats.prompt_tokens = s.prefix_queried + w->text_tokens;
    w->stats.looked_up_tokens = s.prefix_queried;
    w->stats.cached_tokens = s.prefix_hit;
    w->stats.preempted = s.preempted;
    w->stats.steps = w->counts.steps;
    w->stats.busy_ns = w->counts.busy_ns;
    w->stats.forced_tokens = w->counts.forced_tokens;
    w->stats.drafts = w->counts.drafts;
    w->stats.drafted_tokens = w->counts.drafted_tokens;
    w->stats.accepted_tokens = w->counts.accepted_tokens;
    thread_release(&w->lock);
}

static void loop(void *arg)
{
    struct worker *w = arg;
    int n = 0;
    while (look_at_inbox(w, !n && !w->texts)) {
        draft(w);
        n = sched_plan(w->sched, w->plan, w->running);
        struct worker_job *texts = w->texts ? next_texts(w) : NULL;
        if (texts && prompts_come_first(w, n, texts)) texts = NULL;
        if (n) compute(w, n);
        if (texts) compute_texts(w, texts, n > 0);
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
                             .prefill_tokens = w->prefill_tokens,
                             .draft_rows =
                                 SPEC_MANY_ROWS < w->info.chunk ? SPEC_MANY_ROWS : w->info.chunk};
    if (getrandom(&l.seed, sizeof l.seed, 0) < 0)
        return err_set(e, ERR_IO, "no random bits: %s", strerror(errno));
    size_t bytes = (sched_size(&l) + 63) / 64 * 64;
    w->sched_mem = aligned_alloc(64, bytes);
    w->by_id = calloc((size_t)w->jobs_max, sizeof(struct worker_job *));
    w->plan = calloc((size_t)w->running, sizeof *w->plan);
    w->step = calloc((size_t)w->running, sizeof *w->step);
    w->texts_on = calloc((size_t)w->running, sizeof(struct spec_many_text *));
    w->picks = calloc((size_t)w->running, sizeof *w->picks);
    if (!w->sched_mem || !w->by_id || !w->plan || !w->step || !w->texts_on || !w->picks)
        return err_nomem(e, bytes, "the scheduler");
    w->sched = sched_init(w->sched_mem, &l);
    return 0;
}

static int running_of(const struct worker_opts *o)
{
    int jobs = o->jobs ? o->jobs : JOBS, running = o->running ? o->running : RUNNING;
    return running < jobs ? running : jobs;
}

static int open_engine(struct engine **out, const char *path, const struct worker_opts *o,
                       struct err *e)
{
    struct engine_opts en = o->engine;
    en.max_seqs = running_of(o);
    if (en.max_seqs > ROWS) en.chunk = en.max_seqs; /* a row for each that decodes */
    /* logits of every row of a step with drafted tokens, too: their memory is taken at open */
    if (!o->no_spec && en.max_seqs < SPEC_MANY_ROWS) en.max_seqs = SPEC_MANY_ROWS;
    en.kv_tokens = en.ctx ? en.ctx : 1 << 14; /* of embed_texts alone; address space until used */
    en.pages = 1 << 20;
    en.pages_bytes = o->kv_bytes ? o->kv_bytes : 1 << 30;
    int rc = engine_open(out, path, &en, e);
    if (rc == ERR_UNSUPPORTED) { /* an encoder has no head; whatever else it is fails again */
        en.embed = true;
        en.ctx = 0;
        rc = engine_open(out, path, &en, e);
    }
    return rc;
}

int worker_peek(const char *path, const struct worker_opts *o, struct engine_info *info,
                struct err *e)
{
    struct worker_opts peek = *o;
    struct engine *en;
    peek.engine.peek = true;
    int rc = open_engine(&en, path, &peek, e);
    if (rc) return rc;
    engine_info(en, info);
    engine_close(en);
    return 0;
}

int worker_open(struct worker **out, const char *path, const struct worker_opts *o, struct err *e)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w) return err_nomem(e, sizeof *w, "a worker");
    w->jobs_max = o->jobs ? o->jobs : JOBS;
    w->running = running_of(o);
    w->gap_ns = o->gap_ns ? o->gap_ns : GAP_MS * 1000000LL;
    w->inbox_end = &w->inbox;
    w->speculates = !o->no_spec;
    spec_many_init(&w->spec, o->spec_tokens ? o->spec_tokens : SPEC_AUTO);
    thread_monitor_init(&w->lock);
    int rc = open_engine(&w->en, path, o, e);
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
    free(w->texts_on);
    free(w->picks);
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
    int rc = j->w->speculates ? spec_many_open(&j->text, s->n + s->answer.max_tokens, e) : 0;
    if (rc) return rc;
    return answer_open(&j->answer, engine_tok(j->w->en), j->w->info.n_vocab, &s->answer, j->tokens,
                       s->n, e);
}

static int new_job(struct worker *w, const struct worker_spec *spec, struct worker_job **out,
                   struct err *e)
{
    struct worker_job *j = calloc(1, sizeof *j);
    if (!j) return err_nomem(e, sizeof *j, "a job");
    *j = (struct worker_job){.w = w, .spec = *spec, .id = -1, .visitor = -1, .start = clock_ns()};
    atomic_init(&j->refs, 1);
    *out = j;
    return prepare(j, e);
}

/* Under the lock: can n more come? */
static int takes(const struct worker *w, int n, struct err *e)
{
    if (w->closing) return err_set(e, ERR_CANCELLED, "the server is going down");
    if (n <= w->jobs_max - w->jobs) return 0;
    return err_set(e, ERR_LIMIT, "%d requests are under way or waiting, %d more are too many",
                   w->jobs, n);
}

int worker_add(struct worker *w, const struct worker_spec *specs, int n, struct worker_job **jobs,
               struct err *e)
{
    for (int i = 0; i < n; i++) jobs[i] = NULL;
    thread_hold(&w->lock);
    int rc = takes(w, n, e); /* a first look, before what is dear */
    thread_release(&w->lock);
    for (int i = 0; i < n && !rc; i++) rc = new_job(w, &specs[i], &jobs[i], e);
    thread_hold(&w->lock);
    if (!rc) rc = takes(w, n, e);
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
