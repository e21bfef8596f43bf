/* Which rows the next step computes, for whom there are pages, and what a computed step leaves.
 *
 * A plan is made in passes over the jobs in their order: who starts, who gets the pages that its
 * next tokens need, who gets rows, and whose guesses are computed beside them. Pages are settled before
 * the first row is given, so no job loses them that is in the plan; guesses take what is left.
 * It always moves: a job starts with pages for all its tokens, so only one whose answer has just gone
 * on needs more, and whoever loses pages for it loses them to tokens that stay; the first
 * in the order loses them to nobody, and alone every job fits. A job whose turn it is to start and that
 * has no room lets none behind it start.
 * Invariant: full computed pages of a job are in the tree, each the child of the one before it. */
#include "sched_int.h"

#include <assert.h>
#include <string.h>

static bool wants(const struct sched__job *j)
{
    return !j->paused && !j->due && j->n < j->spec.prompt + j->spec.max_tokens;
}

bool sched__job_decodes(const struct sched__job *j)
{
    return j->n_pages && wants(j) && j->brought && j->n - j->computed <= j->brought;
}

static bool comes_before(const struct sched__job *a, const struct sched__job *b)
{
    if (a->paused != b->paused) return b->paused;
    if (a->spec.priority != b->spec.priority) return a->spec.priority > b->spec.priority;
    if (a->tag != b->tag) return a->tag < b->tag;
    return a->arrival < b->arrival;
}

static void sift_down(const struct sched *s, int32_t *heap, int i, int n)
{
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && comes_before(&s->jobs[heap[child]], &s->jobs[heap[child + 1]]))
            child++;
        if (!comes_before(&s->jobs[heap[i]], &s->jobs[heap[child]])) return;
        int32_t swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
    }
}

/* Heapsort, since qsort may allocate. */
static void sort_turn(struct sched *s)
{
    int32_t *a = s->turn;
    for (int i = s->n_jobs / 2; i-- > 0;) sift_down(s, a, i, s->n_jobs);
    for (int n = s->n_jobs; n-- > 1;) {
        int32_t swap = a[0];
        a[0] = a[n];
        a[n] = swap;
        sift_down(s, a, 0, n);
    }
}

static void set_turns(struct sched *s)
{
    for (int i = 0; i < s->limits.tenants; i++) {
        s->tenants[i].ahead = 0;
        s->tenants[i].wants = s->tenants[i].visits > 0;
    }
    for (int i = 0; i < s->n_jobs; i++) {
        struct sched__job *j = &s->jobs[s->order[i]];
        s->turn[i] = s->order[i];
        if (wants(j)) j->tenant->ahead += j->n - (j->n_pages ? j->computed : j->found);
        j->tenant->wants |= wants(j) && !sched__job_decodes(j);
        j->tag = j->tenant->counter + j->tenant->ahead;
    }
    sched__tenant_clock(s);
    sort_turn(s);
    s->last = s->n_jobs - 1;
}

/* The last of those with pages, or NULL. */
static struct sched__job *last_running(struct sched *s)
{
    while (s->last >= 0 && s->jobs[s->turn[s->last]].n_pages == 0) s->last--;
    return s->last < 0 ? NULL : &s->jobs[s->turn[s->last]];
}

static void put_back(struct sched *s, struct sched__job *j)
{
    sched__job_release(s, j);
    j->preempted++;
    s->preempted++;
}

/* The page of the tree that holds what j computes next, or NONE. The last token is always computed:
 * its logits are wanted. */
static int32_t next_in_tree(const struct sched *s, const struct sched__job *j, int page)
{
    if ((page + 1) * SCHED_PAGE > j->n - 1) return NONE;
    return sched__tree_find(s, page ? j->pages[page - 1] : NONE, j->spec.salt,
                            j->spec.tokens + page * SCHED_PAGE);
}

/* Returns how many of the tokens up to `to` it never had before. */
static int advance(struct sched__job *j, int to)
{
    int n = to > j->reached ? to - j->reached : 0;
    j->reached += n;
    j->computed = to;
    return n;
}

static void count_hit(struct sched *s, struct sched__job *j, int to)
{
    int prompt = j->spec.prompt, had = j->reached < prompt ? j->reached : prompt;
    advance(j, to);
    int n = (j->reached < prompt ? j->reached : prompt) - had;
    j->cached += n;
    s->prefix_hit += n;
}

/* May j, whose first pages are hits, take what it needs? Those who run keep a page each to grow. */
static bool fits(const struct sched *s, const struct sched__job *j, int hits)
{
    int left = sched__page_left(s) - (sched__pages_of(j->n) - hits);
    for (int i = 0; i < hits; i++) left -= s->pages[j->pages[i]].refs == 0;
    return s->n_running < s->limits.running && left >= (s->n_running ? s->n_running + 1 : 0);
}

static bool yields(const struct sched__job *j, const struct sched__job *to)
{
    return j->paused || j->spec.priority < to->spec.priority;
}

/* Could j start if all that yield to it were put back? Pages they share count more than once, so this
 * may promise too much, never too little. */
static bool worth_it(const struct sched *s, const struct sched__job *j, int hits)
{
    int room = sched__page_left(s) + hits, stay = s->n_running;
    for (int i = 0; i <= s->last; i++) {
        const struct sched__job *v = &s->jobs[s->turn[i]];
        if (!v->n_pages || !yields(v, j)) continue;
        room += v->n_pages;
        stay--;
    }
    return stay < s->limits.running && room - sched__pages_of(j->n) >= (stay ? stay + 1 : 0);
}

int sched__job_find(const struct sched *s, const struct sched__job *j)
{
    int hits = 0;
    while ((j->pages[hits] = next_in_tree(s, j, hits)) != NONE) hits++;
    return hits;
}

static bool start(struct sched *s, int at)
{
    struct sched__job *j = &s->jobs[s->turn[at]];
    int hits = sched__job_find(s, j), pages = sched__pages_of(j->n);
    if (!fits(s, j, hits) && !worth_it(s, j, hits)) return false;
    while (!fits(s, j, hits)) {
        struct sched__job *v = last_running(s);
        if (!v || !yields(v, j)) return false;
        put_back(s, v);
    }
    for (int i = 0; i < hits; i++) sched__page_hold(s, j->pages[i]);
    for (int i = hits; i < pages; i++) j->pages[i] = sched__page_take(s);
    j->n_pages = pages;
    if (j->preempted == 0) s->prefix_queried += j->n;
    count_hit(s, j, hits * SCHED_PAGE);
    s->n_running++;
    if (s->last < at) s->last = at;
    return true;
}

/* Rows that prompts may have beside those who decode. */
static int prompt_rows(const struct sched *s)
{
    int rows = s->limits.step_tokens, decoding = 0;
    for (int i = 0; i < s->n_jobs; i++) decoding += sched__job_decodes(&s->jobs[s->order[i]]);
    rows -= decoding;
    int most = decoding ? s->limits.prefill_tokens : SCHED_ALONE * s->limits.prefill_tokens;
    return rows < most ? rows : most;
}

/* Starts those for whom there are rows. */
static void start_some(struct sched *s)
{
    int rows = prompt_rows(s);
    for (int i = 0; i < s->n_jobs && rows > 0; i++) {
        const struct sched__job *j = &s->jobs[s->turn[i]];
        if (!wants(j)) continue;
        if (!j->n_pages && !start(s, i)) return;
        rows -= j->n - j->computed - sched__job_decodes(j);
    }
}

static void grow(struct sched *s, struct sched__job *j)
{
    while (j->n_pages < sched__pages_of(j->n)) {
        while (sched__page_left(s) == 0) {
            struct sched__job *v = last_running(s);
            put_back(s, v);
            if (v == j) return;
        }
        j->pages[j->n_pages++] = sched__page_take(s);
    }
}

/* What others have computed since: j takes their pages for its own. */
static void catch_up(struct sched *s, struct sched__job *j)
{
    for (;;) {
        int page = j->computed / SCHED_PAGE;
        int32_t p = next_in_tree(s, j, page);
        if (p == NONE) return;
        sched__page_hold(s, p);
        sched__page_drop(s, j->pages[page]);
        j->pages[page] = p;
        count_hit(s, j, (page + 1) * SCHED_PAGE);
    }
}

/* Does a slice of this step compute the page that j needs next? */
static bool in_the_making(const struct sched *s, const struct sched__job *j,
                          const struct sched_slice *slices, int n)
{
    int page = j->computed / SCHED_PAGE, end = (page + 1) * SCHED_PAGE;
    if (end > j->n - 1) return false;
    for (int i = 0; i < n; i++) {
        const struct sched_slice *o = &slices[i];
        if (o->pos >= end || o->pos + o->n < end) continue;
        if (s->jobs[o->job].spec.salt != j->spec.salt) continue;
        if (page && o->pages[page - 1] != j->pages[page - 1]) continue;
        if (memcmp(s->jobs[o->job].spec.tokens + page * SCHED_PAGE,
                   j->spec.tokens + page * SCHED_PAGE, SCHED_PAGE * sizeof(int32_t)) == 0)
            return true;
    }
    return false;
}

/* So many more of its tokens are in the plan. */
static void give_rows(struct sched *s, int32_t id, int rows, struct sched_slice *out)
{
    struct sched__job *j = &s->jobs[id];
    if (!j->planned) {
        j->slice = s->n_step;
        s->step[s->n_step++] = id;
    }
    j->planned += rows;
    out[j->slice] = (struct sched_slice){.job = id,
                                         .tokens = j->spec.tokens + j->computed,
                                         .n = j->planned,
                                         .pos = j->computed,
                                         .pages = j->pages,
                                         .sample = j->computed + j->planned == j->n};
}

/* The first of what it brought for each who decodes, then the rest and prompts in turn. */
static void give_all_rows(struct sched *s, int rows, struct sched_slice *out)
{
    for (int i = 0; i < s->n_jobs; i++)
        if (sched__job_decodes(&s->jobs[s->turn[i]])) give_rows(s, s->turn[i], 1, out);
    int decoding = s->n_step;
    for (int i = 0; i < s->n_jobs && rows > 0; i++) {
        struct sched__job *j = &s->jobs[s->turn[i]];
        if (!j->n_pages || !wants(j)) continue;
        if (!j->planned) {
            catch_up(s, j);
            if (in_the_making(s, j, out + decoding, s->n_step - decoding)) continue;
        }
        int left = j->n - j->computed - j->planned, n = left < rows ? left : rows;
        if (n) give_rows(s, s->turn[i], n, out);
        rows -= n;
    }
}

/* Guesses, while the step is small enough for them. */
static void give_drafts(struct sched *s, struct sched_slice *out)
{
    int left = s->limits.draft_rows;
    for (int i = 0; i < s->n_step; i++) {
        left -= out[i].n;
        if (!sched__job_decodes(&s->jobs[s->step[i]])) left = 0;
    }
    for (int i = 0; i < s->n_jobs; i++) {
        struct sched__job *j = &s->jobs[s->turn[i]];
        int n = 0;
        if (j->due) continue; /* they are computed, and what came of them is not known yet */
        if (j->planned && out[j->slice].sample) n = j->drafted < left ? j->drafted : left;
        while (n > 0 && sched__pages_of(j->n + n) > j->n_pages && sched__page_left(s))
            j->pages[j->n_pages++] = sched__page_take(s);
        if (n > j->n_pages * SCHED_PAGE - j->n) n = j->n_pages * SCHED_PAGE - j->n;
        j->drafted = n > 0 ? n : 0;
        if (n <= 0) continue;
        out[j->slice].n += n;
        out[j->slice].drafted = n;
        left -= n;
    }
}

int sched_plan(struct sched *s, struct sched_slice *out, int max)
{
    assert(s->n_step == 0 && max >= s->limits.running);
    set_turns(s);
    start_some(s);
    for (int i = 0; i < s->n_jobs; i++)
        if (sched__job_decodes(&s->jobs[s->turn[i]])) grow(s, &s->jobs[s->turn[i]]);
    give_all_rows(s, prompt_rows(s), out);
    give_drafts(s, out);
    return s->n_step;
}

/* A page has become full. Where another job was first, this one's goes back. */
static void share(struct sched *s, struct sched__job *j, int page)
{
    int32_t parent = page ? j->pages[page - 1] : NONE, own = j->pages[page];
    const int32_t *tokens = j->spec.tokens + page * SCHED_PAGE;
    int32_t p = sched__tree_find(s, parent, j->spec.salt, tokens);
    if (p == NONE) {
        sched__tree_insert(s, own, parent, j->spec.salt, tokens);
    } else {
        sched__page_hold(s, p);
        sched__page_drop(s, own);
        j->pages[page] = p;
    }
}

int sched__job_advance(struct sched *s, struct sched__job *j, int to)
{
    for (int page = j->computed / SCHED_PAGE; page < to / SCHED_PAGE; page++) share(s, j, page);
    return advance(j, to);
}

void sched_computed(struct sched *s)
{
    assert(s->n_step);
    for (int i = 0; i < s->n_step; i++) {
        struct sched__job *j = &s->jobs[s->step[i]];
        if (!j->planned) continue; /* ended, its id may be another's by now */
        int to = j->computed + j->planned, n = sched__job_advance(s, j, to);
        if (to <= j->spec.prompt)
            sched__tenant_served(s, j->tenant, n); /* what was sampled: sched_tokens */
        j->due = to == j->n;
        j->planned = 0;
    }
    s->n_step = 0;
}

void sched_undone(struct sched *s)
{
    assert(s->n_step);
    for (int i = 0; i < s->n_step; i++) {
        struct sched__job *j = &s->jobs[s->step[i]];
        if (j->planned) sched__job_undraft(s, j);
        j->planned = 0;
    }
    s->n_step = 0;
}

void sched_set_prefill(struct sched *s, int tokens)
{
    assert(tokens >= 1);
    s->limits.prefill_tokens = tokens;
}
