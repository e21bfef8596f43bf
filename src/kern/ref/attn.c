/* One page of keys: scores, online softmax, weighted values. When a row's maximum grows, what it
 * has gathered so far shrinks by 2^(old - new). */
#include "kern_int.h"

#include <math.h>
#include <stdlib.h>

/* Scores of row r to weights; the factor for what was gathered before. */
static float soften(const struct kern_attn *a, int r, float *s)
{
    float max = a->max[r];
    for (int j = a->lo[r]; j < a->hi[r]; j++) {
        if (a->softcap != 0) s[j] = a->softcap * tanhf(s[j] / a->softcap);
        max = fmaxf(max, s[j]);
    }
    float shrink = exp2f(a->max[r] - max), sum = 0;
    for (int j = 0; j < KERN_PAGE; j++) {
        s[j] = j >= a->lo[r] && j < a->hi[r] ? exp2f(s[j] - max) : 0;
        sum += s[j];
    }
    a->sum[r] = a->sum[r] * shrink + sum;
    a->max[r] = max;
    return shrink;
}

static void attn_f32(const struct kern_attn *a)
{
    const float *k = a->page, *v = k + a->d * KERN_PAGE;
    for (int r = 0; r < a->m; r++) {
        float *out = a->out + r * a->d, s[KERN_PAGE] = {0};
        if (a->lo[r] >= a->hi[r]) continue;
        for (int i = 0; i < a->d; i++)
            for (int j = 0; j < KERN_PAGE; j++)
                s[j] += a->q_f32[r * a->d + i] * k[i * KERN_PAGE + j];
        float shrink = soften(a, r, s);
        for (int i = 0; i < a->d; i++) out[i] *= shrink;
        for (int j = a->lo[r]; j < a->hi[r]; j++)
            for (int i = 0; i < a->d; i++) out[i] += s[j] * v[j * a->d + i];
    }
}

/* Weights, times the scales of their values, to integers; their scale. */
static float to_weights(int16_t *w, const float *s, const float *scale)
{
    float x[KERN_PAGE], sum = 0;
    for (int j = 0; j < KERN_PAGE; j++) {
        x[j] = s[j] > 0 ? s[j] * scale[j] : 0;
        sum += x[j];
    }
    float inv = sum < KERN__WEIGHTS_LEAST ? 0 : (float)INT16_MAX / sum;
    for (int j = 0; j < KERN_PAGE; j++) w[j] = (int16_t)lrintf(x[j] * inv);
    return inv == 0 ? 0 : sum * (1 / (float)INT16_MAX);
}

static void attn(const struct kern_attn *a)
{
    const int16_t *k = a->page;
    const float *scale = kern__scales(a);
    const int16_t *v = kern__values(a);
    for (int r = 0; r < a->m; r++) {
        const int16_t *q = a->q + 2 * r;
        float s[KERN_PAGE] = {0}, *out = a->out + r * a->d;
        int16_t w[KERN_PAGE];
        if (a->lo[r] >= a->hi[r]) continue;
        for (int j = a->lo[r]; j < a->hi[r]; j++) {
            int64_t dot = 0;
            for (int i = 0; i < a->d; i++)
                dot += q[i / 2 * 2 * KERN_ATTN_ROWS + i % 2] *
                       k[i / 2 * 2 * KERN_PAGE + 2 * j + i % 2];
            s[j] = (float)dot * (a->q_scale[r] * scale[j]);
        }
        float shrink = soften(a, r, s), step = to_weights(w, s, scale + KERN_PAGE);
        for (int i = 0; i < a->d; i++) {
            int32_t dot = 0;
            for (int j = a->lo[r]; j < a->hi[r]; j++)
                dot += w[j] * v[j / 2 * 2 * a->d + 2 * i + j % 2];
            out[i] = out[i] * shrink + (float)dot * step;
        }
    }
}

/* The sum of squares is added in an order that all levels keep: 16 sums, then halves of them. */
static float to_i16(int16_t *q, const float *x, int d)
{
    float max = 0, sum[16] = {0};
    for (int i = 0; i < d; i++) {
        max = kern__larger(max, x[i]);
        sum[i % 16] = fmaf(x[i], x[i], sum[i % 16]);
    }
    for (int n = 8; n >= 1; n /= 2)
        for (int i = 0; i < n; i++) sum[i] += sum[i + n];
    float scale = kern__vector_scale(max, sum[0]), inv = scale == 0 ? 0 : 1 / scale;
    for (int i = 0; i < d; i++) q[i] = (int16_t)lrint((double)x[i] * (double)inv);
    return scale;
}

/* The least even multiplier with which none leaves int8: 260 at most. */
static void to_i8(int8_t *q8, uint8_t *half, const int16_t *q, int d)
{
    for (int i = 0; i < d; i += KERN_KV_GROUP, half++) {
        int most = 0;
        for (int j = i; j < i + KERN_KV_GROUP; j++) most = most > abs(q[j]) ? most : abs(q[j]);
        int by = (most + 2 * INT8_MAX - 1) / (2 * INT8_MAX);
        float inv = by ? 0.5f / (float)by : 0;
        for (int j = i; j < i + KERN_KV_GROUP; j++) q8[j] = (int8_t)lrintf((float)q[j] * inv);
        *half = (uint8_t)by;
    }
}

static void page_i16(void *page, const void *page8, const void *next, int d)
{
    const int8_t *keys = page8, *values = keys + kern_page8_values(d);
    const uint8_t *half = (const uint8_t *)keys + (size_t)d * KERN_PAGE, *more = half;
    int16_t *k = page, *v = k + kern_page_values(d) / sizeof *v;
    (void)next;
    kern__copy_scales(page, page8, d);
    more += kern_kv_groups(d) * KERN_PAGE;
    for (int i = 0; i < d; i++)
        for (int j = 0; j < KERN_PAGE; j++) {
            int at = i / KERN_KV_GROUP * KERN_PAGE + j, key = (i / 2 * KERN_PAGE + j) * 2 + i % 2;
            int value = (j / 2 * d + i) * 2 + j % 2;
            k[key] = (int16_t)(keys[key] * 2 * half[at]);
            v[value] = (int16_t)(values[value] * 2 * more[at]);
        }
}

void kern__ref_attn(struct kern *k)
{
    k->to_i16 = to_i16;
    k->to_i8 = to_i8;
    k->page_i16 = page_i16;
    k->attn = attn;
    k->attn_f32 = attn_f32;
}
