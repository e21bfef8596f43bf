/* The order in which logits become a token; each step stands in its own file (sample_int.h). All
 * memory is taken at open, as much as the parameters ask for: a greedy sampler without penalties has
 * none, one with top-k holds 2k candidates, else there is one a token of the vocabulary.
 */
#include "sample_int.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int sample_open(struct sample **out, const struct sample_params *p, int n_vocab, struct err *e)
{
    int rc = sample__check(p, n_vocab, e);
    if (rc) return rc;
    struct sample *s = calloc(1, sizeof *s);
    if (!s) return err_nomem(e, sizeof *s, "a sampler");
    s->p = *p;
    s->n_vocab = n_vocab;
    rng_init(&s->rng, p->seed);
    s->cand_room = sample__cand_room(p, n_vocab);
    rc = sample__past_open(s, e);
    bool changes = p->n_bias > 0 || s->past.count || s->past.reversed;
    size_t logits = changes ? (size_t)n_vocab * sizeof *s->logits : 0;
    size_t cand = (size_t)s->cand_room * sizeof *s->cand;
    if (!rc && ((logits && !(s->logits = malloc(logits))) || (cand && !(s->cand = malloc(cand)))))
        rc = err_nomem(e, logits + cand, "a sampler");
    if (rc) {
        sample_close(s);
        return rc;
    }
    sample_reset(s);
    *out = s;
    return 0;
}

void sample_close(struct sample *s)
{
    if (!s) return;
    sample__past_close(s);
    free(s->logits);
    free(s->cand);
    free(s);
}

/* The first of the largest. Lanes, since the compiler may not reorder one maximum. */
static int32_t largest(const float *x, int n)
{
    enum { LANES = 16 };
    float lane[LANES], max = -INFINITY;
    int whole = n - n % LANES;
    for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
    for (int i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (int j = 0; j < LANES; j++) max = lane[j] > max ? lane[j] : max;
    for (int i = whole; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n && max > -INFINITY; i++)
        if (x[i] == max) return i;
    return SAMPLE_NONE;
}

float sample_logprob(const float *x, int n, int32_t at)
{
    float max = fminf(x[largest(x, n)], FLT_MAX);
    double sum = 0;
    for (int i = 0; i < n; i++)
        if (x[i] > -INFINITY) sum += (double)expf(fminf(x[i], FLT_MAX) - max);
    return (float)((double)(fminf(x[at], FLT_MAX) - max) - log(sum));
}

/* Biases that only lower do not change which logit is the first of the largest, unless it is one of theirs.
 * This spares a copy of the vocabulary where all that is asked for is to forbid a few tokens. */
static bool is_free(const struct sample *s, int32_t id)
{
    for (int i = 0; i < s->p.n_bias; i++)
        if (s->p.bias[i].bias > 0 || s->p.bias[i].id == id) return false;
    return id != SAMPLE_NONE;
}

int32_t sample_pick(struct sample *s, const float *logits, float *logprob)
{
    const float *x = logits;
    bool bias_only = s->logits && s->p.temp == 0 && !s->past.count && !s->past.reversed;
    int32_t id = bias_only ? largest(logits, s->n_vocab) : SAMPLE_NONE;
    if (s->logits && !is_free(s, id)) {
        memcpy(s->logits, logits, (size_t)s->n_vocab * sizeof *logits);
        for (int i = 0; i < s->p.n_bias; i++) s->logits[s->p.bias[i].id] += s->p.bias[i].bias;
        sample__past_apply(s, s->logits);
        x = s->logits;
    }
    if (x != logits || id == SAMPLE_NONE)
        id = s->p.temp == 0 ? largest(x, s->n_vocab) : sample__draw(s, x);
    if (logprob && id != SAMPLE_NONE) *logprob = sample_logprob(logits, s->n_vocab, id);
    return id;
}
