/* Candidates: which tokens may be drawn, and the draw.
 *
 * Every truncation but min-p keeps the first-ranking candidates until their weights reach a sum:
 * top-k counts them, top-p and typical add up probability. One weighted quickselect does all three,
 * linear in the candidates, and nothing is ever sorted. Top-k runs over the vocabulary with room
 * for 2k: whenever that is full the better half stays, and later logits must beat its worst.
 *
 * Candidates hold no NaN and no -inf, so all arithmetic below is on finite numbers.
 */
#include "sample_int.h"

#include <float.h>
#include <math.h>

static bool before(struct sample__cand a, struct sample__cand b)
{
    return a.key > b.key || (a.key == b.key && a.id < b.id);
}

static void swap(struct sample__cand *a, struct sample__cand *b)
{
    struct sample__cand t = *a;
    *a = *b;
    *b = t;
}

/* c[lo .. hi), those that rank before c[lo] first, then it; returns its place, and in *weight the
 * weight before it. */
static int partition(struct sample__cand *c, int lo, int hi, double *weight)
{
    int at = lo;
    *weight = 0;
    for (int i = lo + 1; i < hi; i++) {
        if (!before(c[i], c[lo])) continue;
        *weight += (double)c[i].weight;
        swap(&c[++at], &c[i]);
    }
    swap(&c[lo], &c[at]);
    return at;
}

/* Moves the least number of first-ranking candidates whose weights reach `enough` to the front, in
 * no order, the last of them at the end; returns how many. */
static int keep_first(struct sample__cand *c, int n, double enough)
{
    uint64_t random = 1;
    int lo = 0, hi = n; /* [0, lo) stay, [hi, n) go */
    while (lo < hi) {
        double weight;
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        swap(&c[lo], &c[lo + (int)((random >> 33) % (uint64_t)(hi - lo))]);
        int at = partition(c, lo, hi, &weight);
        if (at > lo && weight >= enough) {
            hi = at;
        } else if (weight + (double)c[at].weight >= enough) {
            return at + 1;
        } else {
            enough -= weight + (double)c[at].weight;
            lo = at + 1;
        }
    }
    return lo;
}

int sample__cand_room(const struct sample_params *p, int n_vocab)
{
    bool all = p->mirostat || p->top_k == 0 || p->top_k >= n_vocab / 2;
    return p->temp == 0 ? 0 : all ? n_vocab : 2 * p->top_k;
}

/* Most logits are below the worst of top-k: whole blocks are passed over. */
enum { BLOCK = 16 };
static bool any_above(const float *x, float least)
{
    int above = 0;
    for (int i = 0; i < BLOCK; i++) above |= x[i] > least;
    return above;
}

static void gather(struct sample *s, const float *x)
{
    struct sample__cand *c = s->cand;
    int vocab = s->n_vocab, n = 0;
    int k = s->p.top_k && !s->p.mirostat && s->p.top_k < vocab ? s->p.top_k : vocab;
    float least = -INFINITY;
    for (int32_t id = 0; id < vocab; id++) {
        while (id % BLOCK == 0 && id + BLOCK < vocab && !any_above(x + id, least)) id += BLOCK;
        if (!(x[id] > least)) continue;
        float logit = x[id] < FLT_MAX ? x[id] : FLT_MAX;
        c[n++] = (struct sample__cand){id, logit, logit, 1};
        if (n == s->cand_room && n > k) {
            n = keep_first(c, n, k);
            least = c[n - 1].logit;
        }
    }
    s->n_cand = n > k ? keep_first(c, n, k) : n;
}

static float largest(const struct sample *s)
{
    float max = s->cand[0].logit;
    for (int i = 1; i < s->n_cand; i++)
        if (s->cand[i].logit > max) max = s->cand[i].logit;
    return max;
}

/* Fills keys and weights; returns the weights' sum. The largest weight is 1. */
static double weigh(struct sample *s, float temp)
{
    float max = largest(s);
    double sum = 0;
    for (int i = 0; i < s->n_cand; i++) {
        struct sample__cand *c = &s->cand[i];
        c->key = c->logit;
        c->weight = expf((c->logit - max) / temp);
        sum += (double)c->weight;
    }
    return sum;
}

/* Ranked by how near a token's surprise lies to the expected one. */
static void cut_typical(struct sample *s)
{
    double sum = weigh(s, 1), log_sum = log(sum), entropy = 0;
    float max = largest(s);
    for (int i = 0; i < s->n_cand; i++) {
        double log_p = (double)(s->cand[i].logit - max) - log_sum;
        if (s->cand[i].weight > 0) entropy -= (double)s->cand[i].weight / sum * log_p;
    }
    for (int i = 0; i < s->n_cand; i++) {
        double log_p = (double)(s->cand[i].logit - max) - log_sum;
        s->cand[i].key = -(float)fabs(-log_p - entropy);
    }
    s->n_cand = keep_first(s->cand, s->n_cand, (double)s->p.typical * sum);
}

static void cut_top_p(struct sample *s)
{
    double sum = weigh(s, 1);
    s->n_cand = keep_first(s->cand, s->n_cand, (double)s->p.top_p * sum);
}

static void cut_min_p(struct sample *s)
{
    float least = largest(s) + logf(s->p.min_p);
    int n = 0;
    for (int i = 0; i < s->n_cand; i++)
        if (s->cand[i].logit >= least) s->cand[n++] = s->cand[i];
    s->n_cand = n;
}

/* Keeps what surprises by at most mu bits, the likeliest in any case; sum is weigh's. */
static void cut_surprise(struct sample *s, double sum)
{
    double least = fmin(exp2(-s->mu) * sum, 1);
    int n = 0;
    for (int i = 0; i < s->n_cand; i++)
        if ((double)s->cand[i].weight >= least) s->cand[n++] = s->cand[i];
    s->n_cand = n;
}

static const struct sample__cand *throw(struct sample * s, double sum)
{
    const struct sample__cand *last = s->cand;
    double left = rng_double(&s->rng) * sum;
    for (int i = 0; i < s->n_cand; i++) {
        if (!(s->cand[i].weight > 0)) continue;
        last = &s->cand[i];
        left -= (double)last->weight;
        if (left < 0) break;
    }
    return last;
}

static int32_t draw_mirostat(struct sample *s)
{
    cut_surprise(s, weigh(s, s->p.temp));
    double sum = weigh(s, s->p.temp);
    const struct sample__cand *c = throw(s, sum);
    double surprise = log2(sum / (double)c->weight);
    s->mu -= (double)s->p.mirostat_eta * (surprise - (double)s->p.mirostat_tau);
    return c->id;
}

int32_t sample__draw(struct sample *s, const float *logits)
{
    gather(s, logits);
    if (s->n_cand == 0) return SAMPLE_NONE;
    if (s->p.mirostat) return draw_mirostat(s);
    if (s->p.typical < 1) cut_typical(s);
    if (s->p.top_p < 1) cut_top_p(s);
    if (s->p.min_p > 0) cut_min_p(s);
    return throw(s, weigh(s, s->p.temp))->id;
}
