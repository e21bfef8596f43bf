/* Attention over KV pages. A unit of work is one KV head, one span and as many of its queries as
 * fill KERN_ATTN_ROWS rows with the heads of the group; it walks the pages its queries can see, so
 * a sliding window costs only its width. */
#include "nn_int.h"

#include <math.h>
#include <string.h>

size_t nn_kv_page_bytes(const struct nn_kv *kv)
{
    return 2u * (size_t)kv->heads * (size_t)kv->d_head * KERN_PAGE * (kv->f32 ? 4 : 2);
}

static uint8_t *page_at(const struct nn_kv *kv, int layer, int32_t page)
{
    return kv->data + ((size_t)layer * (size_t)kv->pages + (size_t)page) * nn_kv_page_bytes(kv);
}

struct put_job {
    const struct nn_kv *kv;
    int layer;
    const struct nn_span *spans;
    const float *k, *v;
};

static void put_head(const struct nn *nn, const struct nn_kv *kv, uint8_t *page, int slot, int head,
                     const float *k, const float *v)
{
    size_t d = (size_t)kv->d_head, size = d * KERN_PAGE, at = (size_t)head * size;
    size_t values = (size_t)kv->heads * size + at + (size_t)slot * d;
    if (kv->f32) {
        float *p = (float *)page;
        for (size_t i = 0; i < d; i++) p[at + i * KERN_PAGE + (size_t)slot] = k[i];
        memcpy(p + values, v, d * sizeof *v);
    } else {
        uint16_t half[KERN_D_MAX], *p = (uint16_t *)page;
        nn->k->to_f16(half, k, (int)d);
        for (size_t i = 0; i < d; i++) p[at + i * KERN_PAGE + (size_t)slot] = half[i];
        nn->k->to_f16(p + values, v, (int)d);
    }
}

static void put_row(const struct nn *nn, void *arg, int row)
{
    struct put_job *j = arg;
    const struct nn_span *s = j->spans;
    while (row >= s->row + s->n) s++;
    int pos = s->pos + row - s->row;
    uint8_t *page = page_at(j->kv, j->layer, s->pages[pos / KERN_PAGE]);
    for (int h = 0; h < j->kv->heads; h++) {
        size_t at = ((size_t)row * (size_t)j->kv->heads + (size_t)h) * (size_t)j->kv->d_head;
        put_head(nn, j->kv, page, pos % KERN_PAGE, h, j->k + at, j->v + at);
    }
}

void nn_kv_put(struct nn *nn, const struct nn_kv *kv, int layer, const struct nn_span *s,
               int n_spans, const float *k, const float *v)
{
    struct put_job j = {kv, layer, s, k, v};
    int rows = s[n_spans - 1].row + s[n_spans - 1].n;
    nn__rows(nn, put_row, &j, rows, 4L * kv->heads * kv->d_head);
}

struct attn_job {
    struct nn *nn;
    float *out;
    const float *q;
    const struct nn_attn *a;
    const struct nn_kv *kv;
    int layer, n_spans, group, queries; /* query heads a KV head; queries a unit */
    const struct nn_span *spans;
    long units;
};

static int units_of(const struct attn_job *j, const struct nn_span *s)
{
    return (s->n + j->queries - 1) / j->queries * j->kv->heads;
}

/* Rows of a unit: query-major, the heads of the group beside each other. */
static size_t row_at(const struct attn_job *j, const struct nn_span *s, int first, int head, int r)
{
    size_t row = (size_t)(s->row + first + r / j->group);
    return (row * (size_t)j->a->heads + (size_t)(head * j->group + r % j->group)) *
           (size_t)j->kv->d_head;
}

static void walk_pages(const struct attn_job *j, const struct nn_span *s, int head, int pos,
                       struct kern_attn *a)
{
    int lo[KERN_ATTN_ROWS], hi[KERN_ATTN_ROWS], last = pos + (a->m - 1) / j->group;
    int window = j->a->window > 0 ? j->a->window : last + 1;
    int first = pos + 1 - window > 0 ? pos + 1 - window : 0;
    size_t size = (size_t)j->kv->d_head * KERN_PAGE * (j->kv->f32 ? 4 : 2);
    a->lo = lo;
    a->hi = hi;
    for (int p = first / KERN_PAGE; p <= last / KERN_PAGE; p++) {
        const uint8_t *page = page_at(j->kv, j->layer, s->pages[p]);
        a->k = page + (size_t)head * size;
        a->v = page + (size_t)(j->kv->heads + head) * size;
        a->next = p < last / KERN_PAGE
                      ? page_at(j->kv, j->layer, s->pages[p + 1]) + (size_t)head * size
                      : NULL;
        for (int r = 0; r < a->m; r++) {
            int end = pos + r / j->group + 1, start = end - window;
            hi[r] = end - p * KERN_PAGE < KERN_PAGE ? end - p * KERN_PAGE : KERN_PAGE;
            lo[r] = start - p * KERN_PAGE > 0 ? start - p * KERN_PAGE : 0;
        }
        j->nn->k->attn(a);
    }
}

static void unit(const struct attn_job *j, struct nn__worker *w, const struct nn_span *s, int u)
{
    int head = u % j->kv->heads, first = u / j->kv->heads * j->queries, d = j->kv->d_head;
    int n = s->n - first < j->queries ? s->n - first : j->queries, m = n * j->group;
    float max[KERN_ATTN_ROWS], sum[KERN_ATTN_ROWS];
    for (int r = 0; r < m; r++) {
        memcpy(w->q + r * d, j->q + row_at(j, s, first, head, r), (size_t)d * sizeof(float));
        for (int i = 0; i < d; i++) w->q[r * d + i] *= j->a->scale;
        max[r] = -INFINITY;
        sum[r] = 0;
    }
    memset(w->o, 0, (size_t)(m * d) * sizeof(float));
    struct kern_attn a = {.m = m,
                          .d = d,
                          .f32 = j->kv->f32,
                          .q = w->q,
                          .softcap = j->a->softcap,
                          .max = max,
                          .sum = sum,
                          .out = w->o,
                          .scratch = w->attn};
    walk_pages(j, s, head, s->pos + first, &a);
    for (int r = 0; r < m; r++) {
        float *out = j->out + row_at(j, s, first, head, r);
        for (int i = 0; i < d; i++) out[i] = w->o[r * d + i] / sum[r];
    }
}

static void work(void *arg, int worker)
{
    struct attn_job *j = arg;
    long at, end;
    while ((at = nn__take(j->nn, j->units, 1, &end)) >= 0) {
        const struct nn_span *s = j->spans;
        int u = (int)at, n;
        while (u >= (n = units_of(j, s))) u -= n, s++;
        unit(j, &j->nn->workers[worker], s, u);
    }
}

void nn_attention(struct nn *nn, float *out, const float *q, const struct nn_attn *a,
                  const struct nn_kv *kv, int layer, const struct nn_span *s, int n_spans)
{
    struct attn_job j = {.nn = nn,
                         .out = out,
                         .q = q,
                         .a = a,
                         .kv = kv,
                         .layer = layer,
                         .n_spans = n_spans,
                         .spans = s,
                         .group = a->heads / kv->heads};
    j.queries = KERN_ATTN_ROWS / j.group;
    for (int i = 0; i < n_spans; i++) j.units += units_of(&j, &s[i]);
    nn__run(nn, work, &j);
}
