/* The doors: memory, jobs that come, get tokens, pause and go.
 *
 * Invariant: a job is in `order` from sched_add to sched_end. Which of them a step computes is plan.c's. */
#include "sched_int.h"

#include <assert.h>
#include <string.h>

/* n things of a size from *at on, each run on lines of its own; NULL without memory. */
static void *carve(char *mem, size_t *at, size_t n, size_t size)
{
    void *p = mem ? mem + *at : NULL;
    *at += (n * size + 63) & ~(size_t)63;
    return p;
}

/* Sets where everything lies in mem, which may be NULL; returns the bytes. */
static size_t lay_out(struct sched *s, char *mem, const struct sched_limits *l)
{
    size_t at = 0, pages = (size_t)l->pages, jobs = (size_t)l->jobs;
    assert(l->jobs >= 1 && l->running >= 1 && l->running <= l->jobs && l->tenants >= 1);
    assert(l->pages >= 1 && l->pages <= 1 << 30 && l->ctx >= 1 && l->ctx <= 1 << 30);
    assert(l->step_tokens >= l->running && l->prefill_tokens >= 1);
    assert(l->draft_rows >= 0 && l->draft_rows <= l->step_tokens);
    s->limits = *l;
    s->pages_max = sched__pages_of(l->ctx);
    if (s->pages_max > l->pages) s->pages_max = l->pages;
    for (s->mask = 0; s->mask + 1 < (uint32_t)l->pages;) s->mask = 2 * s->mask + 1;
    carve(mem, &at, 1, sizeof *s);
    s->pages = carve(mem, &at, pages, sizeof *s->pages);
    s->page_tokens = carve(mem, &at, pages * SCHED_PAGE, sizeof *s->page_tokens);
    s->free = carve(mem, &at, pages, sizeof *s->free);
    s->buckets = carve(mem, &at, (size_t)s->mask + 1, sizeof *s->buckets);
    s->count = carve(mem, &at, pages, sizeof *s->count);
    s->tenants = carve(mem, &at, (size_t)l->tenants, sizeof *s->tenants);
    s->jobs = carve(mem, &at, jobs, sizeof *s->jobs);
    s->order = carve(mem, &at, jobs, sizeof *s->order);
    s->turn = carve(mem, &at, jobs, sizeof *s->turn);
    s->step = carve(mem, &at, (size_t)l->running, sizeof *s->step);
    for (size_t i = 0; i < jobs; i++) {
        int32_t *table = carve(mem, &at, (size_t)s->pages_max, sizeof *table);
        if (mem) s->jobs[i] = (struct sched__job){.pages = table, .next_free = (int)i + 1};
    }
    return at;
}

size_t sched_size(const struct sched_limits *l)
{
    struct sched s;
    return lay_out(&s, NULL, l);
}

struct sched *sched_init(void *mem, const struct sched_limits *l)
{
    struct sched *s = mem;
    *s = (struct sched){0};
    lay_out(s, mem, l);
    memset(s->tenants, 0, (size_t)l->tenants * sizeof *s->tenants);
    s->last_free = l->jobs - 1;
    s->jobs[s->last_free].next_free = NONE;
    sched__page_init(s);
    sched__tree_init(s);
    return s;
}

static struct sched__job *job_of(const struct sched *s, int job)
{
    assert(job >= 0 && job < s->limits.jobs && s->jobs[job].used);
    return &s->jobs[job];
}

static int refuse(const struct sched *s, const struct sched_spec *p, struct err *e)
{
    const struct sched_limits *l = &s->limits;
    if (p->prompt < 1) return err_set(e, ERR_USAGE, "a prompt of %d tokens", p->prompt);
    if (p->max_tokens < 1)
        return err_set(e, ERR_USAGE, "an answer of at most %d tokens", p->max_tokens);
    if (p->prompt > l->ctx || p->max_tokens > l->ctx - p->prompt)
        return err_set(e, ERR_USAGE, "%lld tokens of prompt and answer in a context of %d",
                       (long long)p->prompt + p->max_tokens, l->ctx);
    /* the last sampled token is never computed */
    if (sched__pages_of(p->prompt + p->max_tokens - 1) > l->pages)
        return err_set(e, ERR_USAGE, "%d tokens of prompt and answer in a cache of %lld",
                       p->prompt + p->max_tokens, (long long)l->pages * SCHED_PAGE);
    if (s->first_free == NONE)
        return err_set(e, ERR_LIMIT, "the queue is full: %d requests", l->jobs);
    return 0;
}

bool sched__job_before(const struct sched__job *a, const struct sched__job *b)
{
    if (a->spec.priority != b->spec.priority) return a->spec.priority > b->spec.priority;
    if (a->deadline != b->deadline) return a->deadline < b->deadline;
    return a->arrival < b->arrival;
}

int sched_add(struct sched *s, const struct sched_spec *spec, int *job, struct err *e)
{
    int rc = refuse(s, spec, e);
    if (rc) return rc;
    struct sched__tenant *t = sched__tenant_find(s, spec->tenant);
    if (!t) return err_set(e, ERR_LIMIT, "the queue is full: %d tenants", s->limits.tenants);
    int id = s->first_free, at = s->n_jobs++;
    struct sched__job *j = &s->jobs[id];
    s->first_free = j->next_free;
    if (s->first_free == NONE) s->last_free = NONE;
    *j = (struct sched__job){.spec = *spec,
                             .tenant = t,
                             .arrival = s->arrivals++,
                             .pages = j->pages,
                             .n = spec->prompt,
                             .used = true};
    t->jobs++;
    sched__tenant_wake(s, t);
    j->found = sched__job_find(s, j) * SCHED_PAGE;
    j->deadline = t->counter + spec->prompt - j->found;
    for (; at > 0 && sched__job_before(j, &s->jobs[s->order[at - 1]]); at--)
        s->order[at] = s->order[at - 1];
    s->order[at] = id;
    *job = id;
    return 0;
}

static int room_of(const struct sched__job *j)
{
    return j->spec.prompt + j->spec.max_tokens - j->n;
}

void sched_tokens(struct sched *s, int job, const int32_t *ids, int n, int kept)
{
    struct sched__job *j = job_of(s, job);
    bool runs = j->n_pages > 0; /* else it was put back in the meantime */
    assert(j->due && n >= 1 && n <= room_of(j) && kept >= 0 && kept < n);
    assert(!runs || (kept <= j->drafted &&
                     memcmp(j->spec.tokens + j->n, ids, (size_t)kept * sizeof *ids) == 0));
    memcpy(j->spec.tokens + j->n, ids, (size_t)n * sizeof *ids);
    j->n += n;
    j->brought = n - kept;
    if (j->reached < j->n - j->brought) j->reached = j->n - j->brought;
    j->due = false;
    sched__tenant_served(s, j->tenant, 2L * n);
    if (runs) sched__job_advance(s, j, j->computed + kept);
    sched__job_undraft(s, j);
}

void sched_draft(struct sched *s, int job, const int32_t *ids, int n)
{
    struct sched__job *j = job_of(s, job);
    int room = room_of(j) - 1; /* behind the last of them one is sampled */
    assert(s->n_step == 0 && !j->due && n >= 0);
    j->drafted = n < room ? n : room > 0 ? room : 0;
    memcpy(j->spec.tokens + j->n, ids, (size_t)j->drafted * sizeof *ids);
}

void sched__job_undraft(struct sched *s, struct sched__job *j)
{
    while (j->n_pages > sched__pages_of(j->n)) sched__page_drop(s, j->pages[--j->n_pages]);
    j->drafted = 0;
}

void sched__job_release(struct sched *s, struct sched__job *j)
{
    if (j->n_pages == 0) return;
    while (j->n_pages) sched__page_drop(s, j->pages[--j->n_pages]);
    j->computed = j->drafted = 0;
    s->n_running--;
}

void sched_end(struct sched *s, int job)
{
    struct sched__job *j = job_of(s, job);
    int at = 0;
    sched__job_release(s, j);
    if (!j->paused) sched__tenant_sleep(j->tenant);
    j->tenant->jobs--;
    while (s->order[at] != job) at++;
    s->n_jobs--;
    memmove(s->order + at, s->order + at + 1, (size_t)(s->n_jobs - at) * sizeof *s->order);
    *j = (struct sched__job){.pages = j->pages, .next_free = NONE};
    if (s->last_free == NONE)
        s->first_free = job;
    else
        s->jobs[s->last_free].next_free = job;
    s->last_free = job;
}

void sched_pause(struct sched *s, int job, bool paused)
{
    struct sched__job *j = job_of(s, job);
    if (j->paused == paused) return;
    j->paused = paused;
    if (paused)
        sched__tenant_sleep(j->tenant);
    else
        sched__tenant_wake(s, j->tenant);
}

void sched_job_info(const struct sched *s, int job, struct sched_job_info *info)
{
    const struct sched__job *j = job_of(s, job);
    *info = (struct sched_job_info){.prompt = j->spec.prompt,
                                    .cached = j->cached,
                                    .computed = j->computed,
                                    .tokens = j->n,
                                    .pages = j->n_pages,
                                    .preempted = j->preempted,
                                    .running = j->n_pages > 0,
                                    .tag = j->tag,
                                    .decodes = sched__job_decodes(j)};
}

void sched_info(const struct sched *s, struct sched_info *info)
{
    *info = (struct sched_info){.waiting = s->n_jobs - s->n_running,
                                .running = s->n_running,
                                .pages_free = s->n_free,
                                .pages_held = s->limits.pages - sched__page_left(s),
                                .pages_cached = s->n_cached,
                                .prefix_queried = s->prefix_queried,
                                .prefix_hit = s->prefix_hit,
                                .preempted = s->preempted,
                                .evicted = s->evicted};
}
