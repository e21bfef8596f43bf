/* One page of keys: scores, online softmax, weighted values. When a row's maximum grows, what it
 * has gathered so far shrinks by exp(old - new). */
#include "kern_int.h"

#include <math.h>
#include <string.h>

static void to_f32(float *out, const void *p, int n, bool f32)
{
    if (f32) {
        memcpy(out, p, (size_t)n * 4);
        return;
    }
    const uint16_t *h = p;
    for (int i = 0; i < n; i++) out[i] = kern__f16(h[i]);
}

static void scores(const struct kern_attn *a, int r, float *s /* [32] */)
{
    const float *q = a->q + r * a->d;
    for (int j = 0; j < KERN_PAGE; j++) s[j] = 0;
    for (int i = 0; i < a->d; i++)
        for (int j = 0; j < KERN_PAGE; j++) s[j] += q[i] * a->scratch[i * KERN_PAGE + j];
    if (a->softcap != 0)
        for (int j = 0; j < KERN_PAGE; j++) s[j] = a->softcap * tanhf(s[j] / a->softcap);
}

static void soften(const struct kern_attn *a, int r, float *s)
{
    float max = a->max[r];
    for (int j = a->lo[r]; j < a->hi[r]; j++) max = fmaxf(max, s[j]);
    float shrink = expf(a->max[r] - max), sum = 0;
    for (int j = 0; j < KERN_PAGE; j++) {
        s[j] = j >= a->lo[r] && j < a->hi[r] ? expf(s[j] - max) : 0;
        sum += s[j];
    }
    for (int i = 0; i < a->d; i++) a->out[r * a->d + i] *= shrink;
    a->sum[r] = a->sum[r] * shrink + sum;
    a->max[r] = max;
}

static void attn(const struct kern_attn *a)
{
    float *p = a->scratch + a->d * KERN_PAGE;
    to_f32(a->scratch, a->k, a->d * KERN_PAGE, a->f32);
    for (int r = 0; r < a->m; r++) {
        if (a->lo[r] >= a->hi[r]) continue;
        scores(a, r, p + r * KERN_PAGE);
        soften(a, r, p + r * KERN_PAGE);
    }
    to_f32(a->scratch, a->v, a->d * KERN_PAGE, a->f32);
    for (int r = 0; r < a->m; r++)
        for (int j = a->lo[r]; j < a->hi[r]; j++)
            for (int i = 0; i < a->d; i++)
                a->out[r * a->d + i] += p[r * KERN_PAGE + j] * a->scratch[j * a->d + i];
}

void kern__ref_attn(struct kern *k)
{
    k->attn = attn;
}
