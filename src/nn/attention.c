/* Attention over KV pages. A unit of work is one KV head, one span and as many of its queries as
 * fill KERN_ATTN_ROWS rows with the heads of the group; it walks the pages its queries can see, so
 * a sliding window costs only its width. Pages are walked in segments of fixed places, whose results
 * are joined in order (as FlashDecoding does, Dao et al. 2023): where units are too few for the
 * workers, segments are tasks of their own, and it changes no bit. Heads are normed, rotated and rounded
 * to integers where they are read. */
#include "nn_int.h"

#include <math.h>
#include <string.h>

size_t nn_kv_page_bytes(const struct nn_kv *kv)
{
    return (size_t)kv->heads * kern_page_bytes(kv->d_head, kv->kind);
}

static uint8_t *page_at(const struct nn_kv *kv, int layer, int32_t page)
{
    return kv->data + ((size_t)page * (size_t)kv->layers + (size_t)layer) * nn_kv_page_bytes(kv);
}

struct put_job {
    const struct nn_kv *kv;
    int layer;
    const struct nn_span *spans;
    float *k;
    const float *v;
    struct nn_turn turn;
};

/* Heads of a row of the step. */
static void turn_heads(const struct nn *nn, const struct nn_turn *turn, int row, float *x,
                       int heads, int d)
{
    const struct nn_rope *r = turn->rope;
    for (int h = 0; h < heads; h++, x += d) {
        if (turn->norm) nn->k->rms_norm(x, x, turn->norm, d, turn->eps);
        if (r) nn->k->rope(x, turn->table + (size_t)row * (size_t)r->d_rot, r->d_rot, r->kind);
    }
}

/* Key and value of one head to a slot of its page. */
static void put_f32(float *page, int d, int slot, const float *k, const float *v)
{
    for (int i = 0; i < d; i++) page[i * KERN_PAGE + slot] = k[i];
    memcpy(page + (KERN_PAGE + slot) * d, v, (size_t)d * sizeof *v);
}

static void put_i16(const struct kern *kern, uint8_t *page, int d, int slot, const float *k,
                    const float *v)
{
    float *scale = (float *)(page + kern_page_scales(d));
    int16_t *keys = (int16_t *)page + 2 * slot, q[KERN_D_MAX];
    int16_t *values = (int16_t *)(page + kern_page_values(d)) + slot / 2 * 2 * d + slot % 2;
    scale[slot] = kern->to_i16(q, k, d);
    for (int i = 0; i < d; i += 2) memcpy(keys + i * KERN_PAGE, q + i, 2 * sizeof *q);
    scale[KERN_PAGE + slot] = kern->to_i16(q, v, d);
    for (int i = 0; i < d; i++) values[2 * i] = q[i];
}

static void put_i8(const struct kern *kern, uint8_t *page, int d, int slot, const float *k,
                   const float *v)
{
    int8_t *keys = (int8_t *)page + 2 * slot, q8[KERN_D_MAX];
    int8_t *values = (int8_t *)page + kern_page8_values(d) + slot / 2 * 2 * d + slot % 2;
    uint8_t *more = page + d * KERN_PAGE + slot, half[KERN_D_MAX / KERN_KV_GROUP];
    float *scale = (float *)(page + kern_page8_scales(d));
    int16_t q[KERN_D_MAX];
    int groups = kern_kv_groups(d);
    scale[slot] = kern->to_i16(q, k, d);
    kern->to_i8(q8, half, q, d);
    for (int i = 0; i < d; i += 2) memcpy(keys + i * KERN_PAGE, q8 + i, 2 * sizeof *q8);
    for (int g = 0; g < groups; g++) more[g * KERN_PAGE] = half[g];
    scale[KERN_PAGE + slot] = kern->to_i16(q, v, d);
    kern->to_i8(q8, half, q, d);
    for (int i = 0; i < d; i++) values[2 * i] = q8[i];
    for (int g = 0; g < groups; g++) more[(groups + g) * KERN_PAGE] = half[g];
}

static int pages_of(const struct nn_span *s)
{
    return (s->pos + s->n - 1) / KERN_PAGE - s->pos / KERN_PAGE + 1;
}

/* A unit of work: the rows of a span that go to one page. */
static void put_page(const struct nn *nn, void *arg, int unit)
{
    struct put_job *j = arg;
    const struct nn_span *s = j->spans;
    for (int n; unit >= (n = pages_of(s)); s++) unit -= n;
    int at = s->pos / KERN_PAGE + unit, from = at * KERN_PAGE, end = from + KERN_PAGE;
    if (from < s->pos) from = s->pos;
    if (end > s->pos + s->n) end = s->pos + s->n;
    int d = j->kv->d_head, first = s->row + from - s->pos;
    size_t heads = (size_t)j->kv->heads, size = kern_page_bytes(d, j->kv->kind);
    uint8_t *page = page_at(j->kv, j->layer, s->pages[at]);
    for (int r = 0; r < end - from; r++) {
        size_t row = (size_t)(first + r) * heads * (size_t)d;
        turn_heads(nn, &j->turn, first + r, j->k + row, (int)heads, d);
        for (size_t h = 0; h < heads; h++, row += (size_t)d) {
            uint8_t *to = page + h * size;
            int slot = from % KERN_PAGE + r;
            switch (j->kv->kind) {
            case KERN_KV_I16: put_i16(nn->k, to, d, slot, j->k + row, j->v + row); break;
            case KERN_KV_I8: put_i8(nn->k, to, d, slot, j->k + row, j->v + row); break;
            case KERN_KV_F32: put_f32((float *)to, d, slot, j->k + row, j->v + row); break;
            }
        }
    }
}

void nn_kv_put(struct nn *nn, const struct nn_kv *kv, int layer, const struct nn_span *s,
               int n_spans, float *k, const float *v, struct nn_turn turn)
{
    struct put_job j = {kv, layer, s, k, v, turn};
    int units = 0, rows = s[n_spans - 1].row + s[n_spans - 1].n;
    for (int i = 0; i < n_spans; i++) units += pages_of(&s[i]);
    nn__rows(nn, put_page, &j, units, 4L * kv->heads * kv->d_head * rows / units);
}

enum {
    SEGMENT = 16,    /* pages; partial results of each are joined in order */
    UNITS_ENOUGH = 4 /* a worker: more need not be cut */
};

/* Online softmax of up to KERN_ATTN_ROWS rows over some keys. */
struct part {
    float *max, *sum; /* [m] */
    float *out;       /* [m][d] */
};

struct attn_job {
    struct nn *nn;
    float *out;
    const float *q;
    const struct nn_attn *a;
    const struct nn_kv *kv;
    float scale, softcap;               /* to base 2, as kernels take scores */
    int layer, n_spans, group, queries; /* query heads a KV head; queries a unit */
    const struct nn_span *spans;
    long units, cut; /* cut: segments of the longest span, when each is a task of its own */
    atomic_long joined;
};

/* A unit's rows: query-major, the heads of the group beside each other. */
struct unit {
    const struct nn_span *span;
    int head, first, m;  /* KV head, first query of the span, rows */
    int pos, from, last; /* of the first query; pages that any row sees */
    const void *then;    /* the first page of the unit that likely comes next, or NULL */
};

static int units_of(const struct attn_job *j, const struct nn_span *s)
{
    return (s->n + j->queries - 1) / j->queries * j->kv->heads;
}

/* One past the last position that row r of queries from pos on sees. */
static int end_of(const struct attn_job *j, const struct nn_span *s, int pos, int r)
{
    return j->a->whole ? s->n : pos + r / j->group + 1;
}

static int window_of(const struct attn_job *j, int end)
{
    return j->a->window > 0 ? j->a->window : end;
}

static struct unit unit_at(const struct attn_job *j, long at)
{
    const struct nn_span *s = j->spans;
    int u = (int)at, n;
    while (u >= (n = units_of(j, s))) u -= n, s++;
    struct unit x = {.span = s, .head = u % j->kv->heads, .first = u / j->kv->heads * j->queries};
    n = s->n - x.first < j->queries ? s->n - x.first : j->queries;
    x.m = n * j->group;
    x.pos = s->pos + x.first;
    int start = x.pos + 1 - window_of(j, x.pos + 1);
    x.from = start > 0 ? start / KERN_PAGE : 0;
    x.last = (end_of(j, s, x.pos, x.m - 1) - 1) / KERN_PAGE;
    return x;
}

static size_t row_at(const struct attn_job *j, const struct unit *u, int r)
{
    size_t row = (size_t)(u->span->row + u->first + r / j->group);
    return (row * (size_t)j->a->heads + (size_t)(u->head * j->group + r % j->group)) *
           (size_t)j->kv->d_head;
}

static const void *page_of(const struct attn_job *j, const struct unit *u, int page)
{
    return page_at(j->kv, j->layer, u->span->pages[page]) +
           (size_t)u->head * kern_page_bytes(j->kv->d_head, j->kv->kind);
}

static const void *first_page(const struct attn_job *j, long at)
{
    if (at >= j->units) return NULL;
    struct unit u = unit_at(j, at);
    return page_of(j, &u, u.from);
}

/* The unit's rows over those of its pages that lie in one segment. */
static void segment(const struct attn_job *j, struct nn__worker *w, const struct unit *u, int seg,
                    struct part p)
{
    int lo[KERN_ATTN_ROWS], hi[KERN_ATTN_ROWS], d = j->kv->d_head;
    const struct kern *kern = j->nn->k;
    int page = seg * SEGMENT > u->from ? seg * SEGMENT : u->from;
    int end = (seg + 1) * SEGMENT <= u->last ? (seg + 1) * SEGMENT : u->last + 1;
    struct kern_attn a = {.m = u->m,
                          .d = d,
                          .q = w->q[0][0],
                          .q_scale = w->q_scale,
                          .q_f32 = w->q_f32,
                          .lo = lo,
                          .hi = hi,
                          .softcap = j->softcap,
                          .max = p.max,
                          .sum = p.sum,
                          .out = p.out};
    memset(p.out, 0, (size_t)(u->m * d) * sizeof(float));
    for (int r = 0; r < u->m; r++) {
        p.max[r] = -INFINITY;
        p.sum[r] = 0;
    }
    for (; page < end; page++) {
        a.page = page_of(j, u, page);
        a.next = page < u->last ? page_of(j, u, page + 1) : u->then;
        for (int r = 0; r < u->m; r++) {
            int stop = end_of(j, u->span, u->pos, r), start = stop - window_of(j, stop);
            hi[r] = stop - page * KERN_PAGE < KERN_PAGE ? stop - page * KERN_PAGE : KERN_PAGE;
            lo[r] = start - page * KERN_PAGE > 0 ? start - page * KERN_PAGE : 0;
        }
        if (j->kv->kind == KERN_KV_F32) {
            kern->attn_f32(&a);
        } else if (j->kv->kind == KERN_KV_I16) {
            kern->attn(&a);
        } else if (kern->attn_i8) {
            kern->attn_i8(&a);
        } else {
            kern->page_i16(w->page, a.page, a.next, d);
            a.page = w->page;
            a.next = NULL;
            kern->attn(&a);
        }
    }
}

/* all: with the keys of `more` behind its own. */
static void join(struct part all, struct part more, int m, int d)
{
    for (int r = 0; r < m; r++) {
        if (more.sum[r] == 0) continue;
        float max = fmaxf(all.max[r], more.max[r]);
        float x = all.sum[r] == 0 ? 0 : exp2f(all.max[r] - max), y = exp2f(more.max[r] - max);
        all.max[r] = max;
        all.sum[r] = all.sum[r] * x + more.sum[r] * y;
        for (int i = 0; i < d; i++)
            all.out[r * d + i] = all.out[r * d + i] * x + more.out[r * d + i] * y;
    }
}

static void take_queries(const struct attn_job *j, struct nn__worker *w, const struct unit *u)
{
    int d = j->kv->d_head;
    int16_t whole[KERN_D_MAX];
    for (int r = 0; r < u->m; r++) {
        float *q = w->q_f32 + r * d;
        memcpy(q, j->q + row_at(j, u, r), (size_t)d * sizeof *q);
        turn_heads(j->nn, &j->a->turn, u->span->row + u->first + r / j->group, q, 1, d);
        if (j->kv->kind == KERN_KV_F32) {
            for (int i = 0; i < d; i++) q[i] *= j->scale;
            continue;
        }
        w->q_scale[r] = j->nn->k->to_i16(whole, q, d) * j->scale;
        for (int i = 0; i < d; i += 2) memcpy(w->q[i / 2][r], whole + i, sizeof w->q[0][0]);
    }
}

static void give(const struct attn_job *j, const struct unit *u, struct part p)
{
    int d = j->kv->d_head;
    for (int r = 0; r < u->m; r++) {
        float *out = j->out + row_at(j, u, r);
        for (int i = 0; i < d; i++) out[i] = p.out[r * d + i] / p.sum[r];
    }
}

static void whole_unit(const struct attn_job *j, struct nn__worker *w, const struct unit *u)
{
    float max[2][KERN_ATTN_ROWS], sum[2][KERN_ATTN_ROWS];
    struct part all = {max[0], sum[0], w->o}, more = {max[1], sum[1], w->o2};
    int seg = u->from / SEGMENT;
    take_queries(j, w, u);
    segment(j, w, u, seg, all);
    while (++seg <= u->last / SEGMENT) {
        segment(j, w, u, seg, more);
        join(all, more, u->m, j->kv->d_head);
    }
    give(j, u, all);
}

static size_t part_floats(const struct attn_job *j)
{
    return (size_t)(j->queries * j->group) * (size_t)(j->kv->d_head + 2);
}

/* Where the partial result of a task stands. */
static struct part part_at(const struct attn_job *j, long unit, long seg)
{
    float *p = j->nn->parts + (size_t)(unit * j->cut + seg) * part_floats(j);
    int rows = j->queries * j->group;
    return (struct part){p, p + rows, p + 2 * rows};
}

static void join_unit(const struct attn_job *j, long at)
{
    struct unit u = unit_at(j, at);
    int seg = u.from / SEGMENT, last = u.last / SEGMENT, first = seg;
    struct part all = part_at(j, at, 0);
    while (++seg <= last) join(all, part_at(j, at, seg - first), u.m, j->kv->d_head);
    give(j, &u, all);
}

static void work(void *arg, int worker)
{
    struct attn_job *j = arg;
    struct nn__worker *w = &j->nn->workers[worker];
    long at;
    while (!j->cut && (at = nn__next(j->nn, NN__UNITS, worker)) >= 0) {
        struct unit u = unit_at(j, at);
        u.then = first_page(j, at + 1);
        whole_unit(j, w, &u);
    }
    if (!j->cut) return;
    while ((at = nn__next(j->nn, NN__UNITS, worker)) >= 0) {
        struct unit u = unit_at(j, at / j->cut);
        int seg = u.from / SEGMENT + (int)(at % j->cut);
        if (seg > u.last / SEGMENT) continue;
        u.then = first_page(j, at / j->cut + 1);
        take_queries(j, w, &u);
        segment(j, w, &u, seg, part_at(j, at / j->cut, at % j->cut));
    }
    pool_barrier(j->nn->pool);
    while ((at = atomic_fetch_add_explicit(&j->joined, 1, memory_order_relaxed)) < j->units)
        join_unit(j, at);
}

/* Segments of the longest unit when it pays to share them out, else 0. The result is the same to
 * the bit. */
static long cut_of(const struct attn_job *j)
{
    long most = 0;
    if (j->nn->threads == 1 || j->units >= (long)UNITS_ENOUGH * j->nn->threads) return 0;
    for (long i = 0; i < j->units; i++) {
        struct unit u = unit_at(j, i);
        long n = u.last / SEGMENT - u.from / SEGMENT + 1;
        if (n > most) most = n;
    }
    return most > 1 && (size_t)(most * j->units) <= NN__PARTS / part_floats(j) ? most : 0;
}

void nn_attention(struct nn *nn, float *out, const float *q, const struct nn_attn *a,
                  const struct nn_kv *kv, int layer, const struct nn_span *s, int n_spans)
{
    const float log2_e = 1.44269504f;
    struct attn_job j = {.nn = nn,
                         .out = out,
                         .q = q,
                         .a = a,
                         .kv = kv,
                         .scale = a->scale * log2_e,
                         .softcap = a->softcap * log2_e,
                         .layer = layer,
                         .n_spans = n_spans,
                         .spans = s,
                         .group = a->heads / kv->heads};
    j.queries = KERN_ATTN_ROWS / j.group;
    for (int i = 0; i < n_spans; i++) j.units += units_of(&j, &s[i]);
    j.cut = cut_of(&j);
    nn__run(nn, j.cut ? j.units * j.cut : j.units, work, &j);
}
