/* Products with packed weights. Units of work are panels of 32 rows of all the matrices that share
 * an input, and parts of its rows where they are many. First the workers make the input rows (a norm)
 * and round them to int8 together (of few, each all of them: that is sooner done than waited for), then
 * each takes units of a run of its own, so that what is fetched ahead is its own, at last those at the
 * end of another's, and goes through a panel's blocks, each used for all rows. Bias and residual are
 * where sums start and gate and up are joined where they end, so no pass of their own.
 * Matrices of F16 and BF16 go through tiles of 16-bit integers where the level is faster at those than
 * at float32; those of bytes meet activations of 16 bits where that costs no more. Matrices that share
 * an input but not the way are jobs of their own.
 * A remainder is what rounding a row left, rounded again: with it the sum is as good as 15 bits. It
 * is spent where it is worth most: on groups of columns with an outlier, or on a row's largest outputs.
 */
#include "nn_int.h"

#include <string.h>

enum {
    PART_ROWS = 64, /* at least */
    TOP_PANELS =
        8 /* so many of a row's panels, those with the largest outputs, are computed again */
};
#define OUTLIER 4.0f /* times the rms of its group */

/* What a product is computed in. */
enum way { IN_F32, IN_INT16, IN_INT16_U8 /* weights of bytes */, IN_INT8 };

struct job {
    struct nn *nn;
    enum way way;
    const struct nn_mm *mm;
    struct nn_in in;
    int row0, n;       /* rows of the input and of the outputs, counted from 0 elsewhere */
    enum nn_rest rest; /* that of row t is row n + t of the rounded ones */
    int64_t k;
    long panels;
    int steps; /* in int8: kern_steps of the matrices, the least that one asks for */
    int parts; /* of the rows; a unit is a panel and a part */
    atomic_long refined;
};

static int groups_at(int64_t k, int64_t at)
{
    return k - at >= KERN_K ? KERN_GROUPS : (int)((k - at + KERN_GROUP - 1) / KERN_GROUP);
}

static enum way way_of_mat(const struct nn *nn, const struct nn_mat *w)
{
    if (nn->exact) return IN_F32;
    if (w->fmt->bits) return nn->k->u8_i16 && kern_u8_i16(w->fmt) ? IN_INT16_U8 : IN_INT8;
    return nn->k->i16 && w->fmt->f != KERN_F32 ? IN_INT16 : IN_F32;
}

/* In float32 whatever has none in common. */
static enum way way_of(const struct nn *nn, const struct nn_mm *mm)
{
    enum way way = way_of_mat(nn, mm->w);
    return mm->up && way_of_mat(nn, mm->up) != way ? IN_F32 : way;
}

/* What n rows of a panel start with, beside the output: the bias, what is there, or both. */
static void start_rows(float *out, const float *bias, const float *was, size_t ld, int width, int n)
{
    for (int t = 0; t < n; t++, out += KERN_ROWS) {
        for (int r = 0; bias && r < width; r++) out[r] = bias[r];
        for (int r = 0; bias && was && r < width; r++) out[r] += was[r];
        for (int r = 0; !bias && r < width; r++) out[r] = was[r];
        memset(out + width, 0, (size_t)(KERN_ROWS - width) * sizeof *out);
        if (was) was += ld;
    }
}

/* o's rows += panel p of m . rounded rows from .. from + n - 1. Until the last block sums lie beside the
 * output, whose rows are so far apart that they share few places of the caches; without o.to they stay
 * there. What is written at the end is fetched at the start (writing past the caches instead costs the
 * readers of a large vocabulary more). */
static void add_panel(struct job *j, struct nn__worker *w, const struct nn_mat *m, int64_t p,
                      struct kern_out o, float *beside, int from, int n)
{
    const struct kern *k = j->nn->k;
    const struct kern_fmt *f = m->fmt;
    const uint8_t *block = m->data + (size_t)p * m->step;
    size_t full = kern_block_bytes(f, KERN_GROUPS), bytes;
    float *to = o.to;
    size_t ld = o.ld;
    for (int t = 0; to && t < n; t++)
        for (int r = 0; r < KERN_ROWS; r += 16) __builtin_prefetch(to + (size_t)t * ld + r, 1);
    for (int64_t at = 0; at < j->k; at += KERN_K) {
        int ng = groups_at(j->k, at);
        bool last = to && j->k - at <= KERN_K;
        bytes = ng == KERN_GROUPS ? full : kern_block_bytes(f, ng);
        o.to = last ? to : beside;
        o.ld = last ? ld : KERN_ROWS;
        if (j->way == IN_F32) {
            int width = j->k - at < KERN_K ? (int)(j->k - at) : KERN_K;
            k->unpack_f32(w->w, f, block, ng);
            k->gemm_f32(o, w->w, width, j->in.x + (size_t)from * (size_t)j->k + at, (size_t)j->k,
                        n);
        } else if (j->way == IN_INT16) {
            k->unpack_i16(&w->tile16, f, block, ng);
            k->gemm_i16(o, &w->tile16, ng, &w->act16, (int)(at / KERN_K), from, n);
        } else {
            k->unpack_u8(&w->tile, f, block, ng, n);
            w->tile.next = block + full; /* as far ahead everywhere, so that no byte is left out */
            w->tile.next_bytes = bytes;
            if (j->way == IN_INT16_U8)
                k->gemm_u8_i16(o, &w->tile, ng, &w->act16, (int)(at / KERN_K), from, n);
            else
                k->gemm_u8(o, &w->tile, f, ng, &w->act, (int)(at / KERN_K), from, n);
        }
        block += bytes;
        o.from = beside;
        o.ld_from = KERN_ROWS;
    }
}

/* A few rows at a time: the next are computed while these are still being written. */
static void act_and_put(const struct kern *k, const struct nn_mm *mm, struct nn__worker *w,
                        float *to, size_t ld, int width, int n)
{
    enum { SOME = 8 };
    for (int t = 0, some; t < n; t += some) {
        float *x = w->out + t * KERN_ROWS;
        const float *up = w->up + t * KERN_ROWS;
        some = n - t < SOME ? n - t : SOME;
        switch (mm->act) {
        case NN_SILU_MUL: k->silu_mul(x, up, some * KERN_ROWS); break;
        case NN_GELU_MUL: k->gelu_mul(x, up, some * KERN_ROWS); break;
        case NN_GELU: k->gelu(x, some * KERN_ROWS); break;
        case NN_NONE: break;
        }
        for (int i = 0; i < some; i++, x += KERN_ROWS) {
            float *row = to + (size_t)(t + i) * ld;
            if (width == KERN_ROWS)
                memcpy(row, x, KERN_ROWS * sizeof *row);
            else
                memcpy(row, x, (size_t)width * sizeof *row);
        }
    }
}

/* Outputs first .. first + n - 1 of panel p: the product, or what the remainders add to it. */
static void panel(struct job *j, struct nn__worker *w, const struct nn_mm *mm, int64_t p, int first,
                  int n, bool rest)
{
    const struct nn_mat *m = mm->w;
    int64_t row = p * KERN_ROWS;
    int width = m->rows - row < KERN_ROWS ? (int)(m->rows - row) : KERN_ROWS;
    size_t ld = (size_t)m->rows;
    float *to = mm->out + (size_t)(j->row0 + first) * ld + row;
    const float *was = mm->add || rest ? to : NULL;
    const float *bias = mm->bias && !rest ? mm->bias + row : NULL;
    bool there = width == KERN_ROWS && !mm->act, more = j->rest && mm->rest == NN_REST_OUTLIERS;
    struct kern_out o = {there && !more ? to : NULL, ld, was ? was : bias, was ? ld : 0};
    if ((was && bias) || (o.from && width < KERN_ROWS)) {
        start_rows(w->out, bias, was, ld, width, n);
        o.from = w->out;
        o.ld_from = KERN_ROWS;
    }
    add_panel(j, w, m, p, o, w->out, rest ? j->n + first : first, n);
    o = (struct kern_out){there ? to : NULL, ld, w->out, KERN_ROWS};
    if (more) add_panel(j, w, m, p, o, w->out, j->n + first, n);
    if (mm->up) add_panel(j, w, mm->up, p, (struct kern_out){0}, w->up, first, n);
    if (!there) act_and_put(j->nn->k, mm, w, to, ld, width, n);
}

/* Where the rounded rows stand. */
static void bind_rows(struct job *j, struct nn__worker *w, void *mem)
{
    if (j->way != IN_INT8) {
        kern_act16_bind(&w->act16, mem, j->n, j->k);
    } else {
        kern_act_bind(&w->act, mem, j->rest ? 2 * j->n : j->n, j->k);
        w->act.steps = j->steps;
    }
}

static bool has_outlier(const float *x, int n)
{
    float most = 0, sum = 0;
    for (int i = 0; i < n; i++) {
        float v = x[i] * x[i];
        sum += v;
        if (v > most) most = v;
    }
    return most * (float)n > OUTLIER * OUTLIER * sum;
}

static const float *input_row(const struct job *j, struct nn__worker *w, int t)
{
    const float *x = j->in.x + (size_t)(j->row0 + t) * (size_t)j->k;
    if (!j->in.norm) return x;
    j->nn->k->rms_norm(w->row, x, j->in.norm, (int)j->k, j->in.eps);
    return w->row;
}

/* Row t and its remainder. */
static void round_row(struct job *j, struct nn__worker *w, int t)
{
    const float *x = input_row(j, w, t);
    if (j->way != IN_INT8) {
        (j->way == IN_INT16 ? j->nn->k->act_i16 : j->nn->k->act_u8_i16)(&w->act16, t, x, j->k);
        return;
    }
    j->nn->k->act(&w->act, t, x, j->k);
    if (!j->rest) return;
    for (int64_t at = 0; at < j->k; at += KERN_GROUP) {
        size_t row = (size_t)(at / KERN_K * w->act.m + t), c = (size_t)(at % KERN_K);
        float scale = w->act.scale[row * KERN_GROUPS + c / KERN_GROUP];
        const int8_t *q = w->act.q + row * KERN_K + c;
        int n = j->k - at < KERN_GROUP ? (int)(j->k - at) : KERN_GROUP;
        bool wanted = j->rest == NN_REST_TOP || has_outlier(x + at, n);
        for (int i = 0; i < n; i++) w->row[at + i] = wanted ? x[at + i] - (float)q[i] * scale : 0;
    }
    j->nn->k->act(&w->act, j->n + t, w->row, j->k);
}

/* Largest of the outputs of a panel. */
static float panel_max(const float *y, int width)
{
    float most[8], all = y[0];
    if (width == KERN_ROWS) {
        memcpy(most, y, sizeof most);
        for (int r = 8; r < KERN_ROWS; r += 8)
            for (int i = 0; i < 8; i++) most[i] = most[i] > y[r + i] ? most[i] : y[r + i];
        y = most;
        width = 8;
    }
    for (int r = 0; r < width; r++) all = all > y[r] ? all : y[r];
    return all;
}

/* Adds their remainders to the panels of row t that have the largest outputs. */
static void refine_row(struct job *j, struct nn__worker *w, int t)
{
    const struct nn_mm *mm = j->mm;
    const float *y = mm->out + (size_t)(j->row0 + t) * (size_t)mm->w->rows;
    float most[TOP_PANELS];
    int64_t which[TOP_PANELS];
    int n = 0;
    for (int64_t p = 0; p < j->panels; p++) {
        int64_t left = mm->w->rows - p * KERN_ROWS;
        float v = panel_max(y + p * KERN_ROWS, left < KERN_ROWS ? (int)left : KERN_ROWS);
        if (n == TOP_PANELS && !(v > most[n - 1])) continue;
        int i = n < TOP_PANELS ? n++ : n - 1;
        for (; i > 0 && v > most[i - 1]; i--) most[i] = most[i - 1], which[i] = which[i - 1];
        most[i] = v;
        which[i] = p;
    }
    for (int i = 0; i < n; i++) panel(j, w, mm, which[i], t, 1, true);
}

static void work(void *arg, int worker)
{
    struct job *j = arg;
    struct nn__worker *w = &j->nn->workers[worker];
    long t, at;
    if (j->way != IN_F32 && j->n <= NN__OWN_ROWS) {
        bind_rows(j, w, w->own_act);
        for (t = 0; t < j->n; t++) round_row(j, w, (int)t);
    } else if (j->way != IN_F32) {
        bind_rows(j, w, j->nn->act);
        while ((t = nn__next(j->nn, NN__ROWS, worker)) >= 0) round_row(j, w, (int)t);
        if (j->nn->threads > 1) pool_barrier(j->nn->pool);
    }
    while ((at = nn__next(j->nn, NN__UNITS, worker)) >= 0) {
        const struct nn_mm *mm = j->mm;
        int64_t p = at % j->panels, n, part = at / j->panels;
        int first = (int)(j->n * part / j->parts), end = (int)(j->n * (part + 1) / j->parts);
        while (p >= (n = (mm->w->rows + KERN_ROWS - 1) / KERN_ROWS)) p -= n, mm++;
        panel(j, w, mm, p, first, end - first, false);
    }
    if (j->rest != NN_REST_TOP) return;
    if (j->nn->threads > 1) pool_barrier(j->nn->pool);
    while ((t = atomic_fetch_add_explicit(&j->refined, 1, memory_order_relaxed)) < j->n)
        refine_row(j, w, (int)t);
}

/* Of many rows each worker has its own through all products, so that they stay in its cache: weights are
 * read by all then, which costs less than rows between cores that share no cache (Zen 4: a fifth of a
 * prompt's time). */
static int parts_of(const struct nn *nn, int n)
{
    int parts = n / PART_ROWS;
    return parts < 1 ? 1 : parts < nn->threads ? parts : nn->threads;
}

static void take_steps(struct job *j, const struct nn_mat *w)
{
    int steps = kern_steps(w->fmt, j->nn->k->f16_steps);
    if (steps && (!j->steps || steps < j->steps)) j->steps = steps;
}

/* With remainders in parts whose rows and theirs fit what was reserved. */
static void start(struct nn *nn, const struct nn_mm *mm, int n_mm, const struct nn_in *in, int n)
{
    struct job j = {.nn = nn, .way = way_of(nn, mm), .mm = mm, .in = *in};
    j.k = mm->w->k;
    for (int i = 0; i < n_mm; i++) {
        j.panels += (mm[i].w->rows + KERN_ROWS - 1) / KERN_ROWS;
        take_steps(&j, mm[i].w);
        if (mm[i].up) take_steps(&j, mm[i].up);
        if (j.way == IN_INT8 && mm[i].rest) j.rest = mm[i].rest;
    }
    for (int most = j.rest ? nn->rows / 2 : n; j.row0 < n; j.row0 += j.n) {
        j.n = n - j.row0 < most ? n - j.row0 : most;
        j.parts = parts_of(nn, j.n);
        atomic_store_explicit(&j.refined, 0, memory_order_relaxed);
        nn__deal(nn, NN__ROWS, j.n);
        nn__run(nn, j.panels * j.parts, work, &j);
    }
}

void nn_matmul_of(struct nn *nn, const struct nn_mm *mm, int n_mm, const struct nn_in *in, int n)
{
    struct nn_in rows = *in;
    bool make = false;
    for (int i = 0; i < n_mm; i++) make |= way_of(nn, &mm[i]) == IN_F32;
    if (make && in->norm) { /* once, not for each panel */
        nn_rms_norm(nn, in->made, in->x, in->norm, n, (int)mm[0].w->k, in->eps);
        rows = (struct nn_in){.x = in->made};
    }
    for (int i = 0, some = 1; i < n_mm; i += some, some = 1) {
        while (i + some < n_mm && way_of(nn, &mm[i + some]) == way_of(nn, &mm[i])) some++;
        start(nn, mm + i, some, &rows, n);
    }
}

void nn_matmul(struct nn *nn, const struct nn_mm *mm, int n_mm, const float *x, int n)
{
    nn_matmul_of(nn, mm, n_mm, &(struct nn_in){.x = x}, n);
}
