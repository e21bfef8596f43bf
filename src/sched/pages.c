/* Which page is whose: a stack of free pages, references, and a list of cached ones.
 *
 * Invariant: a page is free, held (refs > 0) or cached, so free + held + cached = all. The list of
 * cached pages runs from the one that was let go first; a job lets go of its last page first, so in
 * it every page comes before its parent and the oldest is always a leaf: the tree loses leaves only.
 * What is in a page, and who may find it, is tree.c's. */
#include "sched_int.h"

#include <assert.h>

void sched__page_init(struct sched *s)
{
    int n = s->limits.pages;
    for (int i = 0; i < n; i++) {
        s->pages[i] = (struct sched__page){.parent = NONE, .next = NONE};
        s->free[i] = n - 1 - i;
    }
    s->n_free = n;
    s->oldest = s->newest = NONE;
}

int sched__page_left(const struct sched *s)
{
    return s->n_free + s->n_cached;
}

static void cache(struct sched *s, int32_t p)
{
    struct sched__page *page = &s->pages[p];
    page->older = s->newest;
    page->newer = NONE;
    if (s->newest == NONE)
        s->oldest = p;
    else
        s->pages[s->newest].newer = p;
    s->newest = p;
    s->n_cached++;
}

static void uncache(struct sched *s, int32_t p)
{
    const struct sched__page *page = &s->pages[p];
    if (page->older == NONE)
        s->oldest = page->newer;
    else
        s->pages[page->older].newer = page->newer;
    if (page->newer == NONE)
        s->newest = page->older;
    else
        s->pages[page->newer].older = page->older;
    s->n_cached--;
}

int32_t sched__page_take(struct sched *s)
{
    int32_t p;
    if (s->n_free) {
        p = s->free[--s->n_free];
    } else {
        p = s->oldest;
        assert(p != NONE);
        uncache(s, p);
        sched__tree_remove(s, p);
        s->evicted++;
    }
    s->pages[p].refs = 1;
    return p;
}

void sched__page_hold(struct sched *s, int32_t p)
{
    if (s->pages[p].refs++ == 0) uncache(s, p);
}

void sched__page_drop(struct sched *s, int32_t p)
{
    assert(s->pages[p].refs > 0);
    if (--s->pages[p].refs) return;
    if (s->pages[p].in_tree)
        cache(s, p);
    else
        s->free[s->n_free++] = p;
}
