/* What is in a page: a radix tree whose edges are whole pages of tokens, with a root for each salt.
 *
 * A node is a page of the KV cache, so there is nothing to allocate. It is found by its parent and
 * its tokens, which are compared in full: a hash only says where to look. The hash is strongly
 * universal under secret keys (multilinear: Lemire and Kaser 2014), so chains stay short whatever
 * prompts people write.
 * Invariant: a parent stays as long as it has children, so a page in the tree stands for the whole
 * text from its root on. Who holds a page, and when it goes, is pages.c's. */
#include "sched_int.h"

#include "rng.h"
#include <assert.h>
#include <string.h>

void sched__tree_init(struct sched *s)
{
    struct rng rng;
    rng_init(&rng, s->limits.seed);
    for (size_t i = 0; i < sizeof s->keys / sizeof *s->keys; i++) s->keys[i] = rng_u64(&rng);
    for (uint32_t i = 0; i <= s->mask; i++) s->buckets[i] = NONE;
}

static int32_t *bucket(const struct sched *s, int32_t parent, uint64_t salt, const int32_t *tokens)
{
    const uint64_t *k = s->keys;
    uint64_t h = k[0] + k[1] * (uint32_t)parent + k[2] * (uint32_t)salt + k[3] * (salt >> 32);
    for (int i = 0; i < SCHED_PAGE; i++) h += k[4 + i] * (uint32_t)tokens[i];
    return &s->buckets[(uint32_t)(h >> 32) & s->mask];
}

static int32_t *tokens_of(const struct sched *s, int32_t p)
{
    return s->page_tokens + (size_t)p * SCHED_PAGE;
}

int32_t sched__tree_find(const struct sched *s, int32_t parent, uint64_t salt,
                         const int32_t *tokens)
{
    int32_t p = *bucket(s, parent, salt, tokens);
    for (; p != NONE; p = s->pages[p].next)
        if (s->pages[p].parent == parent && s->pages[p].salt == salt &&
            memcmp(tokens_of(s, p), tokens, SCHED_PAGE * sizeof *tokens) == 0)
            break;
    return p;
}

void sched__tree_insert(struct sched *s, int32_t p, int32_t parent, uint64_t salt,
                        const int32_t *tokens)
{
    struct sched__page *page = &s->pages[p];
    int32_t *head = bucket(s, parent, salt, tokens);
    assert(!page->in_tree && page->children == 0);
    memcpy(tokens_of(s, p), tokens, SCHED_PAGE * sizeof *tokens);
    page->in_tree = true;
    page->salt = salt;
    page->parent = parent;
    page->next = *head;
    *head = p;
    if (parent != NONE) s->pages[parent].children++;
}

void sched__tree_remove(struct sched *s, int32_t p)
{
    struct sched__page *page = &s->pages[p];
    int32_t *at = bucket(s, page->parent, page->salt, tokens_of(s, p));
    assert(page->in_tree && page->children == 0);
    while (*at != p) at = &s->pages[*at].next;
    *at = page->next;
    if (page->parent != NONE) s->pages[page->parent].children--;
    page->in_tree = false;
}
