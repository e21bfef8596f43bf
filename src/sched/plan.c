/* Which rows the next step computes, for whom there are pages, and what a computed step leaves.
 *
 * A plan is made in three passes over the jobs in their order: who starts, who gets the page that its
 * next token needs, who gets rows. Pages are settled before the first row is given, so no job loses
 * them that is in the plan.
 * It always moves: a job starts with pages for all its tokens, so only one that has just sampled a
 * token needs another page, and whoever loses pages for it loses them to a token that stays; the first
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

/* Its one row is for a sampled token. */
static bool decodes(const struct sched__job *j)
{
    return j->n_pages && wants(j) && j->n > j->spec.prompt && j->computed == j->n - 1;
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
    for (int i = 0; i < s->limits.tenants; i++) s->tenants[i].ahead = 0;
    for (int i = 0; i < s->n_jobs; i++) {
        struct sched__job *j = &s->jobs[s->order[i]];
        s->turn[i] = s->order[i];
        j->tag = j->tenant->counter + j->tenant->ahead;
        if (wants(j)) j->tenant->ahead += j->n - j->computed;
    }
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

/* j has its tokens up to `to` in pages now. Returns how many of them it never had before. */
static int advance(struct sched__job *j, int to)
{
    int n = to > j->reached ? to - j->reached : 0;
    j->reached += n;
    j->computed = to;
    return n;
}

static void count_hit(struct sched *s, struct sched__job *j, int to)
{
    int n = advance(j, to);
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

static bool start(struct sched *s, int at)
{
    struct sched__job *j = &s->jobs[s->turn[at]];
    int hits = 0, pages = sched__pages_of(j->n);
    while ((j->pages[hits] = next_in_tree(s, j, hits)) != NONE) hits++;
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
    for (int i = 0; i < s->n_jobs; i++) decoding += decodes(&s->jobs[s->order[i]]);
    rows -= decoding;
    return decoding && rows > s->limits.prefill_tokens ? s->limits.prefill_tokens : rows;
}

/* Starts those for whom there are rows. */
static void start_some(struct sched *s)
{
    int rows = prompt_rows(s);
    for (int i = 0; i < s->n_jobs && rows > 0; i++) {
        const struct sched__job *j = &s->jobs[s->turn[i]];
        if (!wants(j) || decodes(j)) continue;
        if (!j->n_pages && !start(s, i)) return;
        rows -= j->n - j->computed;
    }
}

static void grow(struct sched *s, struct sched__job *j)
{
    if (sched__pages_of(j->n) == j->n_pages) return;
    while (sched__page_left(s) == 0) {
        struct sched__job *v = last_running(s);
        put_back(s, v);
        if (v == j) return;
    }
    j->pages[j->n_pages++] = sched__page_take(s);
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

static void give_rows(struct sched *s, int32_t id, int rows, struct sched_slice *out)
{
    struct sched__job *j = &s->jobs[id];
    j->planned = rows;
    s->step[s->n_step++] = id;
    *out = (struct sched_slice){.job = id,
                                .tokens = j->spec.tokens + j->computed,
                                .n = rows,
                                .pos = j->computed,
                                .pages = j->pages,
                                .sample = j->computed + rows == j->n};
}

int sched_plan(struct sched *s, struct sched_slice *out, int max)
{
    assert(s->n_step == 0 && max >= s->limits.running);
    set_turns(s);
    start_some(s);
    for (int i = 0; i < s->n_jobs; i++)
        if (decodes(&s->jobs[s->turn[i]])) grow(s, &s->jobs[s->turn[i]]);
    int rows = prompt_rows(s);
    for (int i = 0; i < s->n_jobs; i++)
        if (decodes(&s->jobs[s->turn[i]])) give_rows(s, s->turn[i], 1, &out[s->n_step]);
    int decoding = s->n_step;
    for (int i = 0; i < s->n_jobs && rows > 0; i++) {
        struct sched__job *j = &s->jobs[s->turn[i]];
        if (!j->n_pages || !wants(j) || j->planned) continue;
        catch_up(s, j);
        if (in_the_making(s, j, out + decoding, s->n_step - decoding)) continue;
        int n = j->n - j->computed < rows ? j->n - j->computed : rows;
        give_rows(s, s->turn[i], n, &out[s->n_step]);
        rows -= n;
    }
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

void sched_computed(struct sched *s)
{
    assert(s->n_step);
    for (int i = 0; i < s->n_step; i++) {
        struct sched__job *j = &s->jobs[s->step[i]];
        if (!j->planned) continue; /* ended, its id may be another's by now */
        int from = j->computed, to = from + j->planned;
        for (int page = from / SCHED_PAGE; page < to / SCHED_PAGE; page++) share(s, j, page);
        int n = advance(j, to);
        if (to <= j->spec.prompt) j->tenant->counter += n; /* what was sampled: sched_token */
        j->due = to == j->n;
        j->planned = 0;
    }
    s->n_step = 0;
}

void sched_undone(struct sched *s)
{
    assert(s->n_step);
    for (int i = 0; i < s->n_step; i++) s->jobs[s->step[i]].planned = 0;
    s->n_step = 0;
}

void sched_set_prefill(struct sched *s, int tokens)
{
    assert(tokens >= 1);
    s->limits.prefill_tokens = tokens;
}
