/* Every invariant that the other files name, looked at whole: O(pages + jobs * pages of a job). */
#include "sched_int.h"

#include <assert.h>
#include <string.h>

static void check_job(const struct sched *s, const struct sched__job *j)
{
    assert(j->used && j->n >= j->spec.prompt && j->n <= j->spec.prompt + j->spec.max_tokens);
    assert(j->computed >= 0 && j->computed <= j->reached && j->computed + j->planned <= j->n);
    assert(j->n - j->brought >= j->spec.prompt &&
           j->reached >= (j->brought ? j->n - j->brought : 0));
    assert(j->drafted >= 0 && j->n + j->drafted <= j->spec.prompt + j->spec.max_tokens);
    assert(j->computed < j->n || j->due);
    assert(!j->planned || s->n_step);
    if (j->n_pages == 0) {
        assert(j->computed == 0 && j->planned == 0);
        return;
    }
    assert(j->n_pages <= s->pages_max && j->n_pages * SCHED_PAGE >= j->computed + j->planned);
    assert(j->n_pages >= sched__pages_of(j->n - j->brought));
    assert(j->n_pages <= sched__pages_of(j->n + (j->planned || j->due ? j->drafted : 0)));
    for (int i = 0; i < j->n_pages; i++) {
        const struct sched__page *p = &s->pages[j->pages[i]];
        s->count[j->pages[i]]++;
        assert(p->in_tree == (i < j->computed / SCHED_PAGE));
        if (!p->in_tree) continue;
        assert(p->parent == (i ? j->pages[i - 1] : NONE) && p->salt == j->spec.salt);
        assert(memcmp(s->page_tokens + (size_t)j->pages[i] * SCHED_PAGE,
                      j->spec.tokens + i * SCHED_PAGE, SCHED_PAGE * sizeof(int32_t)) == 0);
    }
}

static void check_jobs(const struct sched *s)
{
    int used = 0, running = 0, free = 0;
    for (int i = 0; i < s->limits.jobs; i++) used += s->jobs[i].used;
    for (int id = s->first_free; id != NONE; id = s->jobs[id].next_free) {
        assert(!s->jobs[id].used && !s->jobs[id].due && s->jobs[id].n_pages == 0);
        if (s->jobs[id].next_free == NONE) assert(id == s->last_free);
        free++;
    }
    assert(used == s->n_jobs && used + free == s->limits.jobs);
    for (int i = 0; i < s->n_jobs; i++) {
        const struct sched__job *j = &s->jobs[s->order[i]];
        check_job(s, j);
        running += j->n_pages > 0;
        if (i == 0) continue;
        assert(sched__job_before(&s->jobs[s->order[i - 1]], j));
    }
    assert(running == s->n_running && running <= s->limits.running);
}

static void check_tenants(const struct sched *s)
{
    for (int i = 0; i < s->limits.tenants; i++) {
        const struct sched__tenant *t = &s->tenants[i];
        int jobs = 0, awake = 0;
        for (int k = 0; k < s->n_jobs; k++) {
            const struct sched__job *j = &s->jobs[s->order[k]];
            jobs += j->tenant == t;
            awake += j->tenant == t && !j->paused;
            assert(j->tenant != t || j->spec.tenant == t->id);
        }
        awake += t->visits;
        assert(t->jobs == jobs && t->awake == awake && (!(jobs + t->visits) || t->known));
    }
}

/* count: references as the jobs' tables tell them. */
static void check_pages(const struct sched *s)
{
    int cached = 0, free = 0;
    for (int p = 0; p < s->limits.pages; p++) {
        const struct sched__page *page = &s->pages[p];
        assert(page->refs == s->count[p] && (page->in_tree || page->refs <= 1));
        free += !page->in_tree && page->refs == 0;
        cached += page->in_tree && page->refs == 0;
    }
    assert(free == s->n_free && cached == s->n_cached);
    for (int i = 0; i < s->n_free; i++) {
        const struct sched__page *page = &s->pages[s->free[i]];
        assert(!page->in_tree && s->count[s->free[i]] == 0);
        s->count[s->free[i]] = 1; /* seen: not twice */
    }
    int32_t older = NONE;
    for (int32_t p = s->oldest; p != NONE; older = p, p = s->pages[p].newer) {
        const struct sched__page *page = &s->pages[p];
        assert(page->in_tree && page->refs == 0 && page->older == older);
        assert(page->parent == NONE || s->pages[page->parent].refs || s->count[page->parent] == 0);
        s->count[p] = 1; /* seen: its parent comes later */
        cached--;
    }
    assert(cached == 0 && older == s->newest);
}

static void check_tree(const struct sched *s)
{
    memset(s->count, 0, (size_t)s->limits.pages * sizeof *s->count);
    for (int p = 0; p < s->limits.pages; p++) {
        const struct sched__page *page = &s->pages[p];
        if (!page->in_tree) continue;
        const int32_t *tokens = s->page_tokens + (size_t)p * SCHED_PAGE;
        assert(sched__tree_find(s, page->parent, page->salt, tokens) == p); /* and no other */
        if (page->parent == NONE) continue;
        const struct sched__page *parent = &s->pages[page->parent];
        assert(parent->in_tree && parent->salt == page->salt && parent->refs >= page->refs);
        s->count[page->parent]++;
    }
    for (int p = 0; p < s->limits.pages; p++)
        assert(s->pages[p].in_tree ? s->pages[p].children == s->count[p] : s->count[p] == 0);
}

void sched_check(const struct sched *s)
{
    memset(s->count, 0, (size_t)s->limits.pages * sizeof *s->count);
    check_jobs(s);
    check_tenants(s);
    check_pages(s);
    check_tree(s);
}
