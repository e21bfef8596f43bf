/* What was said before lowers logits: repetition, presence and frequency penalties count tokens in a
 * window; DRY punishes the token that would go on with a run that was said already.
 *
 * DRY: a token at distance i - 1 before which the text agrees with its own end for `overlap[i]`
 * tokens would make that repetition one longer. The overlaps of the reversed window with itself are
 * its Z function (Gusfield 1997, 1.4), linear in the window. A run does not reach over the newest
 * breaker, and breakers are never punished.
 */
#include "sample_int.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool penalties_on(const struct sample_params *p)
{
    return p->penalty_last_n != 0 &&
           (p->repeat_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0);
}

static int dry_window(const struct sample_params *p)
{
    if (p->dry_multiplier == 0) return 0;
    return p->dry_last_n < 0 ? SAMPLE_LOOKBACK_MAX : p->dry_last_n;
}

int sample__past_open(struct sample *s, struct err *e)
{
    struct sample__past *h = &s->past;
    size_t vocab = (size_t)s->n_vocab, dry = (size_t)dry_window(&s->p);
    bool counting = penalties_on(&s->p);
    if (counting && s->p.penalty_last_n > 0) h->room = (size_t)s->p.penalty_last_n;
    if (dry > h->room) h->room = dry;
    bool ok = true;
    if (h->room) ok = (h->ring = malloc(h->room * sizeof *h->ring));
    if (counting && ok) ok = (h->count = calloc(vocab, sizeof *h->count));
    if (dry && ok)
        ok = (h->reversed = malloc(dry * sizeof *h->reversed)) &&
             (h->overlap = malloc(dry * sizeof *h->overlap)) &&
             (h->longest = calloc(vocab, sizeof *h->longest)) &&
             (h->breaker = calloc(vocab, sizeof *h->breaker));
    if (!ok) return err_nomem(e, (h->room * 3 + vocab * 2) * sizeof(int32_t), "a sampler's past");
    for (int i = 0; dry && i < s->p.n_dry_breakers; i++) h->breaker[s->p.dry_breakers[i]] = true;
    return 0;
}

void sample__past_close(struct sample *s)
{
    free(s->past.ring);
    free(s->past.count);
    free(s->past.reversed);
    free(s->past.overlap);
    free(s->past.longest);
    free(s->past.breaker);
}

void sample_accept(struct sample *s, int32_t id)
{
    struct sample__past *h = &s->past;
    if (id < 0 || id >= s->n_vocab) return;
    if (h->count) {
        int window = s->p.penalty_last_n;
        h->count[id]++;
        if (window > 0 && h->n >= (uint64_t)window)
            h->count[h->ring[(h->n - (uint64_t)window) % h->room]]--;
    }
    if (h->room) h->ring[h->n % h->room] = id;
    h->n++;
}

void sample_reset(struct sample *s)
{
    s->past.n = 0;
    s->mu = 2 * (double)s->p.mirostat_tau;
    if (s->past.count) memset(s->past.count, 0, (size_t)s->n_vocab * sizeof *s->past.count);
}

static void apply_penalties(struct sample *s, float *x)
{
    const struct sample_params *p = &s->p;
    for (int i = 0; i < s->n_vocab; i++) {
        if (!s->past.count[i]) continue;
        x[i] = x[i] <= 0 ? x[i] * p->repeat_penalty : x[i] / p->repeat_penalty;
        x[i] -= (float)s->past.count[i] * p->frequency_penalty + p->presence_penalty;
    }
}

/* overlap[i], i >= 1: how many tokens of v + i agree with v, for v [n]. v[0 .. right) minus left is
 * known to agree with v[left .. right). */
static void overlaps(const int32_t *v, int n, int32_t *overlap)
{
    for (int i = 1, left = 0, right = 0; i < n; i++) {
        int known = i < right ? right - i : 0;
        int k = known && overlap[i - left] < known ? overlap[i - left] : known;
        while (i + k < n && v[k] == v[i + k]) k++;
        overlap[i] = k;
        if (i + k > right) left = i, right = i + k;
    }
}

static float dry_penalty(const struct sample_params *p, int run)
{
    double v = (double)p->dry_multiplier * pow((double)p->dry_base, run - p->dry_allowed_length);
    return v < (double)FLT_MAX ? (float)v : FLT_MAX;
}

static void apply_dry(struct sample *s, float *x)
{
    struct sample__past *h = &s->past;
    int window = dry_window(&s->p), n = h->n < (uint64_t)window ? (int)h->n : window, limit = 0;
    for (int i = 0; i < n; i++) h->reversed[i] = h->ring[(h->n - 1 - (uint64_t)i) % h->room];
    while (limit < n && !h->breaker[h->reversed[limit]]) limit++;
    if (n <= s->p.dry_allowed_length || limit < s->p.dry_allowed_length) return;
    overlaps(h->reversed, n, h->overlap);
    for (int i = 1; i < n; i++) {
        int run = h->overlap[i] < limit ? h->overlap[i] : limit;
        int32_t id = h->reversed[i - 1];
        if (run >= s->p.dry_allowed_length && run > h->longest[id]) h->longest[id] = run;
    }
    for (int i = 0; i < n; i++) {
        int32_t id = h->reversed[i];
        if (h->longest[id] && !h->breaker[id]) x[id] -= dry_penalty(&s->p, h->longest[id]);
        h->longest[id] = 0;
    }
}

void sample__past_apply(struct sample *s, float *logits)
{
    if (s->past.count) apply_penalties(s, logits);
    if (s->past.reversed) apply_dry(s, logits);
}
