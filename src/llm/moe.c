/* Mixture of experts (Shazeer et al. 2017; Mixtral's routing: softmax over the chosen logits).
 * Tokens are gathered by expert, so that an expert's weights are read once a pass however many
 * tokens chose it. */
#include "llm_int.h"

#include <math.h>
#include <string.h>

static void choose(const struct llm *m, const float *logit, int *chosen, float *weight)
{
    int used = m->dims.experts_used;
    float sum = 0;
    for (int i = 0; i < used; i++) {
        int best = -1;
        for (int e = 0; e < m->dims.experts; e++) {
            bool taken = false;
            for (int j = 0; j < i; j++) taken |= chosen[j] == e;
            if (!taken && (best < 0 || logit[e] > logit[best])) best = e;
        }
        chosen[i] = best;
        weight[i] = expf(logit[best] - logit[chosen[0]]);
        sum += weight[i];
    }
    for (int i = 0; i < used; i++) weight[i] /= sum;
}

/* Gathers the rows that chose expert e; returns how many. */
static int gather(const struct llm *m, int n, int e, int *rows, float *weights)
{
    int used = m->dims.experts_used, d = m->dims.d, count = 0;
    const float *weight = m->s.route + (size_t)n * (size_t)m->dims.experts;
    for (int t = 0; t < n; t++)
        for (int i = 0; i < used; i++) {
            if (m->s.chosen[t * used + i] != e) continue;
            memcpy(m->s.routed + (size_t)count * (size_t)d, m->s.h + (size_t)t * (size_t)d,
                   (size_t)d * sizeof(float));
            rows[count] = t;
            weights[count++] = weight[t * used + i];
        }
    return count;
}

void llm__moe(const struct llm *m, const struct llm__pass *p, const struct llm__moe *w)
{
    const struct llm__dims *d = &m->dims;
    const struct llm__scratch *s = &m->s;
    int n = p->n, used = d->experts_used;
    float *weight = s->route + (size_t)n * (size_t)d->experts, *weights = weight + n * used;
    int *rows = s->chosen + n * used;
    nn_matmul(p->nn, &(struct nn_mm){.out = s->route, .w = w->router}, 1, s->h, n);
    for (int t = 0; t < n; t++)
        choose(m, s->route + (size_t)t * (size_t)d->experts, s->chosen + t * used,
               weight + t * used);
    for (int e = 0; e < d->experts; e++) {
        int count = gather(m, n, e, rows, weights);
        if (!count) continue;
        const struct nn_mm joined = {
            .out = s->ff, .w = &w->gate[e], .act = NN_SILU_MUL, .up = &w->up[e]};
        nn_matmul(p->nn, &joined, 1, s->routed, count);
        nn_matmul(p->nn, &(struct nn_mm){.out = s->routed, .w = &w->down[e]}, 1, s->ff, count);
        for (int i = 0; i < count; i++) {
            float *x = s->x + (size_t)rows[i] * (size_t)d->d;
            const float *y = s->routed + (size_t)i * (size_t)d->d;
            for (int j = 0; j < d->d; j++) x[j] += weights[i] * y[j];
        }
    }
}
