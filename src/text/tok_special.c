/* Special tokens in text: control, unknown and user-defined tokens are found by their text before
 * anything is merged; the leftmost wins, at one place the longest. Pieces are kept sorted, so those
 * that agree with the text so far are always one range, which each further byte narrows by binary
 * search. Work per byte of text is bounded by the longest special token.
 */
#include "tok_int.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b, void *arg)
{
    const struct tok *t = arg;
    struct gguf_str x = t->piece[*(const int32_t *)a], y = t->piece[*(const int32_t *)b];
    int d = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return d ? d : (x.n > y.n) - (x.n < y.n);
}

int tok__special_load(struct tok *t, struct err *e)
{
    for (int32_t i = 0; i < t->n; i++) t->n_special += t->attr[i] & TOK__SPECIAL && t->piece[i].n;
    t->special = arena_alloc(&t->arena, t->n_special + 1, sizeof *t->special);
    if (!t->special) return err_nomem(e, t->n_special * sizeof *t->special, "the special tokens");
    size_t k = 0;
    for (int32_t i = 0; i < t->n; i++)
        if (t->attr[i] & TOK__SPECIAL && t->piece[i].n) t->special[k++] = i;
    qsort_r(t->special, t->n_special, sizeof *t->special, compare, t);
    for (int c = 0, i = 0; c <= 256; c++) {
        while (i < (int)k && (unsigned char)t->piece[t->special[i]].p[0] < c) i++;
        t->special_at[c] = i;
    }
    return 0;
}

/* The first of special[low..high), all longer than depth, whose byte at depth is >= c. */
static int32_t bound(const struct tok *t, int32_t low, int32_t high, size_t depth, int c)
{
    while (low < high) {
        int32_t mid = low + (high - low) / 2;
        if ((unsigned char)t->piece[t->special[mid]].p[depth] < c)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The longest special token at s[0..n), n > 0, or TOK_NONE. */
static int32_t match(const struct tok *t, const unsigned char *s, const char *foreign, size_t n,
                     unsigned flags)
{
    int32_t best = TOK_NONE, low = t->special_at[s[0]], high = t->special_at[s[0] + 1];
    for (size_t depth = 1; low < high; depth++) {
        for (; low < high && t->piece[t->special[low]].n == depth; low++)
            if (!(t->attr[t->special[low]] & TOK__HIDDEN) ||
                (flags & TOK_SPECIAL && !(foreign && memchr(foreign, 1, depth))))
                best = t->special[low];
        if (depth == n) break;
        low = bound(t, low, high, depth, s[depth]);
        high = bound(t, low, high, depth, s[depth] + 1);
    }
    return best;
}

size_t tok__special_find(const struct tok *t, const char *s, const char *foreign, size_t from,
                         size_t n, unsigned flags, int32_t *id)
{
    for (; from < n; from++) {
        const char *there = foreign ? foreign + from : NULL;
        *id = match(t, (const unsigned char *)s + from, there, n - from, flags);
        if (*id != TOK_NONE) break;
    }
    return from;
}
