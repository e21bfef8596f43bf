/* Products with packed weights. Units of work are panels of 32 rows of all the matrices that share
 * an input. First the workers round the input rows to int8 together (of few, each all of them: that
 * is sooner done than waited for), then each takes panels and goes through their blocks, each used
 * for all tokens. Bias and residual are put where the product is then added, so no pass of their own.
 * Matrices of F16 and BF16 go through tiles of 16-bit integers where the level is faster at those than
 * at float32. Matrices that share an input but not the way are jobs of their own.
 * A fine product has each row twice: rounded, and what the rounding left, rounded again. The sum
 * of the two is as good as 15 bits, and where reading the weights binds, it is free. */
#include "nn_int.h"

#include <string.h>

enum { RUNS_MAX = 64 }; /* rows up to which reading the weights counts */

/* What a product is computed in. */
enum way { IN_F32, IN_INT16, IN_INT8 };

struct job {
    struct nn *nn;
    enum way way;
    const struct nn_mm *mm;
    int n_mm;
    const float *x;
    int n;        /* rows of x and of the outputs */
    int act_rows; /* n, or 2n: the remainders of row t are row n + t */
    int64_t k;
    long panels, chunk;
    bool halved; /* in int8: some matrix asks for such scales */
    atomic_long rounded;
};

static int groups_at(int64_t k, int64_t at)
{
    return k - at >= KERN_K ? KERN_GROUPS : (int)((k - at + KERN_GROUP - 1) / KERN_GROUP);
}

static enum way way_of(const struct nn *nn, const struct nn_mat *w)
{
    if (nn->exact) return IN_F32;
    if (w->fmt->bits) return IN_INT8;
    return nn->k->i16 && w->fmt->f != KERN_F32 ? IN_INT16 : IN_F32;
}

/* What the product is added to; false when there is nothing. */
static bool start_rows(const struct job *j, const struct nn_mm *mm, float *out, size_t ld,
                       int64_t row, int width)
{
    size_t bytes = (size_t)width * sizeof *out;
    if (!mm->bias && !(mm->add && ld == KERN_ROWS)) return mm->add;
    for (int t = 0; t < j->n; t++) {
        float *y = out + (size_t)t * ld;
        const float *was = mm->out + (size_t)t * (size_t)mm->w->rows + row;
        if (mm->add && y != was) memcpy(y, was, bytes);
        if (mm->bias && mm->add) j->nn->k->add(y, mm->bias + row, width);
        if (!mm->add) memcpy(y, mm->bias + row, bytes);
        for (int r = width; r < KERN_ROWS && ld == KERN_ROWS; r++) y[r] = 0;
    }
    return true;
}

static void panel_tiles(struct job *j, struct nn__worker *w, const struct nn_mm *mm,
                        const uint8_t *p, float *out, size_t ld, bool add, float *rest)
{
    const struct kern *k = j->nn->k;
    const struct kern_fmt *f = mm->w->fmt;
    for (int64_t at = 0; at < j->k; at += KERN_K) {
        int ng = groups_at(j->k, at);
        if (j->way == IN_F32) {
            int width = j->k - at < KERN_K ? (int)(j->k - at) : KERN_K;
            k->unpack_f32(w->w, f, p, ng);
            k->gemm_f32(out, ld, w->w, width, j->x + at, (size_t)j->k, j->n, add);
        } else if (j->way == IN_INT16) {
            k->unpack_i16(&w->tile16, f, p, ng);
            k->gemm_i16(out, ld, &w->tile16, ng, &w->act16, (int)(at / KERN_K), j->n, add);
        } else {
            int kb = (int)(at / KERN_K);
            k->unpack_u8(&w->tile, f, p, ng, j->n);
            w->tile.next = p + kern_block_bytes(f, ng);
            w->tile.next_bytes = kern_block_bytes(f, ng);
            k->gemm_u8(out, ld, &w->tile, f, ng, &w->act, kb, 0, j->n, add);
            if (rest) k->gemm_u8(rest, KERN_ROWS, &w->tile, f, ng, &w->act, kb, j->n, j->n, at > 0);
        }
        p += kern_block_bytes(f, ng);
        add = true;
    }
}

static void add_rest(const struct job *j, float *out, size_t ld, const float *rest /* [n][32] */,
                     int width)
{
    for (int t = 0; t < j->n; t++) j->nn->k->add(out + (size_t)t * ld, rest + t * KERN_ROWS, width);
}

static void panel(struct job *j, struct nn__worker *w, const struct nn_mm *mm, int64_t p)
{
    const struct nn_mat *m = mm->w;
    const uint8_t *data = m->data + (size_t)p * kern_panel_bytes(m->fmt, m->k);
    int64_t row = p * KERN_ROWS;
    int width = m->rows - row < KERN_ROWS ? (int)(m->rows - row) : KERN_ROWS;
    bool fine = j->act_rows > j->n;
    bool own = width < KERN_ROWS; /* computed beside the output, then copied */
    float *out = own ? w->out : mm->out + row;
    float *rest = fine ? w->out + (own ? j->n * KERN_ROWS : 0) : NULL;
    size_t ld = own ? KERN_ROWS : (size_t)m->rows;
    bool add = start_rows(j, mm, out, ld, row, width);
    panel_tiles(j, w, mm, data, out, ld, add, rest);
    if (fine) add_rest(j, out, ld, rest, width);
    for (int t = 0; own && t < j->n; t++)
        memcpy(mm->out + (size_t)t * (size_t)m->rows + row, out + (size_t)t * ld,
               (size_t)width * sizeof *out);
}

/* Where the rounded rows stand. */
static void bind_rows(struct job *j, struct nn__worker *w, void *mem)
{
    if (j->way == IN_INT16) {
        kern_act16_bind(&w->act16, mem, j->n, j->k);
    } else {
        kern_act_bind(&w->act, mem, j->act_rows, j->k);
        w->act.halved = j->halved;
    }
}

/* Row t and, for a fine product, what rounding it leaves. */
static void round_row(struct job *j, struct nn__worker *w, int t)
{
    const float *x = j->x + (size_t)t * (size_t)j->k;
    if (j->way == IN_INT16) {
        j->nn->k->act_i16(&w->act16, t, x, j->k);
        return;
    }
    j->nn->k->act(&w->act, t, x, j->k);
    if (j->act_rows == j->n) return;
    for (int64_t at = 0; at < j->k; at += KERN_GROUP) {
        size_t row = (size_t)(at / KERN_K * w->act.m + t), c = (size_t)(at % KERN_K);
        float scale = w->act.scale[row * KERN_GROUPS + c / KERN_GROUP];
        const int8_t *q = w->act.q + row * KERN_K + c;
        int n = j->k - at < KERN_GROUP ? (int)(j->k - at) : KERN_GROUP;
        for (int i = 0; i < n; i++) w->rest[at + i] = x[at + i] - (float)q[i] * scale;
    }
    j->nn->k->act(&w->act, j->n + t, w->rest, j->k);
}

static void work(void *arg, int worker)
{
    struct job *j = arg;
    struct nn__worker *w = &j->nn->workers[worker];
    long t, at, end;
    if (j->way != IN_F32 && j->n <= NN__OWN_ROWS) {
        bind_rows(j, w, w->own_act);
        for (t = 0; t < j->n; t++) round_row(j, w, (int)t);
    } else if (j->way != IN_F32) {
        bind_rows(j, w, j->nn->act);
        while ((t = atomic_fetch_add_explicit(&j->rounded, 1, memory_order_relaxed)) < j->n)
            round_row(j, w, (int)t);
        if (j->nn->threads > 1) pool_barrier(j->nn->pool);
    }
    while ((at = nn__take(j->nn, j->panels, j->chunk, &end)) >= 0)
        for (; at < end; at++) {
            const struct nn_mm *mm = j->mm;
            int64_t p = at, n;
            while (p >= (n = (mm->w->rows + KERN_ROWS - 1) / KERN_ROWS)) p -= n, mm++;
            panel(j, w, mm, p);
        }
}

static void start(struct job *j)
{
    struct nn *nn = j->nn;
    j->k = j->mm[0].w->k;
    j->chunk = 1;
    j->way = way_of(nn, j->mm[0].w);
    for (int i = 0; i < j->n_mm; i++) {
        j->panels += (j->mm[i].w->rows + KERN_ROWS - 1) / KERN_ROWS;
        if (j->mm[i].w->fmt->scale == KERN_SCALE_K) j->halved = true;
    }
    if (j->n <= RUNS_MAX) { /* long runs of memory for each worker, an even end */
        j->chunk = j->panels / (8L * nn->threads);
        if (j->chunk < 1) j->chunk = 1;
        if (j->chunk > 16) j->chunk = 16;
    }
    nn__run(nn, work, j);
}

void nn_matmul(struct nn *nn, const struct nn_mm *mm, int n_mm, const float *x, int n)
{
    for (int i = 0, some = 1; i < n_mm; i += some, some = 1) {
        while (i + some < n_mm && way_of(nn, mm[i + some].w) == way_of(nn, mm[i].w)) some++;
        start(&(struct job){.nn = nn, .mm = mm + i, .n_mm = some, .x = x, .n = n, .act_rows = n});
    }
}

void nn_matmul_fine(struct nn *nn, const struct nn_mm *mm, const float *x, int n)
{
    if (way_of(nn, mm->w) != IN_INT8) {
        nn_matmul(nn, mm, 1, x, n);
        return;
    }
    for (int t = 0, part; t < n; t += part) {
        struct nn_mm some = *mm;
        part = n - t < nn->rows / 2 ? n - t : nn->rows / 2;
        some.out += (size_t)t * (size_t)mm->w->rows;
        start(&(struct job){.nn = nn,
                            .mm = &some,
                            .n_mm = 1,
                            .x = x + (size_t)t * (size_t)mm->w->k,
                            .n = part,
                            .act_rows = 2 * part});
    }
}
