/* Merging adjacent symbols in order of preference, n log n: a heap holds the pairs that may merge.
 * A pair whose symbols have changed since is left in the heap and known by its length when it
 * comes out: symbols only ever grow, so the lengths of both agree only if both are as they were.
 *
 * Each merge takes one pair out and puts at most two in, and there are fewer merges than symbols:
 * the heap never holds 2 n pairs, so its room is reserved beforehand and pushing cannot fail.
 */
#include "tok_int.h"

#include <assert.h>
#include <stdlib.h>

bool tok__reserve(struct tok__work *w, size_t n)
{
    if (n > w->sym_room) {
        size_t room = n < 256 ? 256 : n + n / 2;
        struct tok__sym *sym = realloc(w->sym, room * sizeof *sym);
        if (!sym) return false;
        w->sym = sym, w->sym_room = room;
    }
    if (2 * n > w->heap_room) {
        struct tok__pair *heap = realloc(w->heap, 2 * w->sym_room * sizeof *heap);
        if (!heap) return false;
        w->heap = heap, w->heap_room = 2 * w->sym_room;
    }
    return true;
}

static bool before(const struct tok__pair *a, const struct tok__pair *b)
{
    return a->order != b->order ? a->order < b->order : a->left < b->left;
}

static void push(struct tok__work *w, struct tok__pair p)
{
    assert(w->n_heap < w->heap_room);
    size_t i = w->n_heap++;
    for (; i > 0 && before(&p, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = p;
}

static struct tok__pair pop(struct tok__work *w)
{
    struct tok__pair top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_heap; i = child) {
        if (child + 1 < w->n_heap && before(&w->heap[child + 1], &w->heap[child])) child++;
        if (!before(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

static void consider(struct tok__work *w, const char *s, uint32_t left, tok__pair_fn *pair)
{
    if (left == TOK__NO_SYM || w->sym[left].next == TOK__NO_SYM) return;
    const struct tok__sym *l = &w->sym[left], *r = &w->sym[l->next];
    struct tok__pair p = {.left = left, .len = l->len + r->len};
    if (pair(w->t, s, l, r, &p)) push(w, p);
}

void tok__merge(struct tok__work *w, const char *s, size_t n, tok__pair_fn *pair)
{
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        w->sym[i].prev = i ? (uint32_t)(i - 1) : TOK__NO_SYM;
        w->sym[i].next = i + 1 < n ? (uint32_t)(i + 1) : TOK__NO_SYM;
    }
    for (size_t i = 0; i + 1 < n; i++) consider(w, s, (uint32_t)i, pair);
    while (w->n_heap) {
        struct tok__pair p = pop(w);
        struct tok__sym *l = &w->sym[p.left];
        if (l->len == 0 || l->next == TOK__NO_SYM || l->len + w->sym[l->next].len != p.len)
            continue;
        struct tok__sym *r = &w->sym[l->next];
        l->len = p.len, l->id = p.id, l->next = r->next;
        r->len = 0;
        if (l->next != TOK__NO_SYM) w->sym[l->next].prev = p.left;
        consider(w, s, l->prev, pair);
        consider(w, s, p.left, pair);
    }
}
