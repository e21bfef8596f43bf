/* One conversion from open to commit: plan all tensors, write what is known before the first weight
 * is read, then tensor after tensor in pieces of some rows. The workers of a piece take its rows
 * from a counter, each row on its own, so the bytes do not depend on how many they are; memory is
 * the piece and a row a worker, whatever the model's size.
 */
#include "convert_int.h"

#include "cpu.h"
#include "pool.h"
#include "quantize.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 8 << 20, ROW_MAX = 1 << 24 };
#define ARENA_MAX ((size_t)1 << 30)

struct piece {
    const struct convert__tensor *t;
    uint64_t first, n; /* rows over all sources */
    uint64_t k;        /* values a row: vectors are one row */
    size_t row_bytes;  /* of the output */
    uint8_t *out;
    float *scratch; /* [workers][ROW] */
    size_t scratch_row;
    atomic_ullong next;
    atomic_bool unfit;
};

void convert__note(const struct convert *c, const char *fmt, ...)
{
    char line[400];
    va_list ap;
    if (!c->opts->note) return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    c->opts->note(c->opts->arg, line);
}

/* Where row r of the file stands in the folder: within a head, 2i + j comes from i + j * half. */
static uint64_t source_row(const struct convert__tensor *t, uint64_t r)
{
    if (!t->heads) return r;
    uint64_t size = t->rows / t->heads, in = r % size;
    return r - in + in / 2 + in % 2 * (size / 2);
}

static void read_row(const struct convert__tensor *t, uint64_t r, float *x)
{
    const struct safetensors_tensor *s = t->src ? t->src[r / t->rows] : NULL;
    if (t->n_dims > 1) {
        size_t bytes = (size_t)t->k * quant_bytes(s->type);
        quant_row_to_f32(s->type, s->data + source_row(t, r % t->rows) * bytes, x, (size_t)t->k);
        return;
    }
    for (uint64_t i = 0; i < t->rows; i++) { /* a vector: its values are the rows */
        if (t->own)
            x[i] = t->own[i];
        else
            quant_row_to_f32(s->type, s->data + source_row(t, i) * quant_bytes(s->type), x + i, 1);
        x[i] += t->add;
    }
}

static void work(void *arg, int worker)
{
    struct piece *p = arg;
    float *x = p->scratch + (size_t)worker * p->scratch_row;
    for (uint64_t i; (i = atomic_fetch_add(&p->next, 1)) < p->n;) {
        read_row(p->t, p->first + i, x);
        if (!quantize_fits(p->t->type, x, (size_t)p->k)) {
            atomic_store(&p->unfit, true);
            return;
        }
        quantize_row(p->t->type, x, p->out + i * p->row_bytes, (size_t)p->k);
    }
}

static int unfit(const struct convert__tensor *t, struct err *e)
{
    return err_set(e, ERR_FORMAT, "tensor %s holds what %s cannot: NaN, infinity or a huge value",
                   t->src ? t->src[0]->name : t->name, quant_name(t->type));
}

struct run {
    struct convert *c;
    struct pool *pool;
    uint8_t *out;
    float *scratch;
    size_t scratch_row;
    int64_t done, total;
};

static int write_tensor(struct run *r, const struct convert__tensor *t, struct err *e)
{
    const struct convert_opts *o = r->c->opts;
    uint64_t rows = t->n_dims > 1 ? t->rows * t->n_src : 1;
    struct piece p = {.t = t, .k = t->dim[0], .out = r->out, .scratch = r->scratch};
    p.scratch_row = r->scratch_row;
    p.row_bytes = (size_t)(p.k / quant_block(t->type) * quant_bytes(t->type));
    uint64_t most = PIECE_BYTES / p.row_bytes ? PIECE_BYTES / p.row_bytes : 1;
    for (; p.first < rows; p.first += p.n) {
        p.n = rows - p.first < most ? rows - p.first : most;
        atomic_store(&p.next, 0);
        pool_run(r->pool, work, &p);
        if (atomic_load(&p.unfit)) return unfit(t, e);
        if (gguf_write_data(r->c->w, p.out, (size_t)p.n * p.row_bytes, e)) return e->code;
        r->done += (int64_t)(p.n * p.row_bytes);
        if (o->progress) o->progress(o->arg, r->done, r->total);
    }
    for (uint32_t i = 0; t->src && i < t->n_src; i++) safetensors_forget(r->c->st, t->src[i]);
    return 0;
}

/* Describes the tensors in the file; returns the bytes of the largest row written. */
static size_t describe(struct run *r, struct convert_report *report)
{
    size_t row = 0;
    for (size_t i = 0; i < r->c->n; i++) {
        const struct convert__tensor *t = &r->c->tensors[i];
        size_t bytes = gguf_write_tensor(r->c->w, t->name, t->type, t->n_dims, t->dim);
        uint64_t values = t->dim[0] * t->dim[1] * t->dim[2];
        report->of[t->type].tensors++;
        report->of[t->type].values += values;
        report->of[t->type].bytes += bytes;
        r->total += (int64_t)bytes;
        if (t->dim[0] > r->scratch_row) r->scratch_row = (size_t)t->dim[0];
        size_t one = (size_t)t->dim[0] / quant_block(t->type) * quant_bytes(t->type);
        if (one > row) row = one;
    }
    return row;
}

static int write_tensors(struct convert *c, struct convert_report *report, struct err *e)
{
    struct run r = {.c = c};
    size_t row = describe(&r, report);
    if (gguf_write_start(c->w, e)) return e->code;
    if (r.scratch_row > ROW_MAX)
        return err_set(e, ERR_LIMIT, "rows of %zu values, at most %d", r.scratch_row, ROW_MAX);
    int threads = c->opts->threads ? c->opts->threads : cpu_count();
    if (pool_open(&r.pool, threads, e)) return e->code;
    r.out = malloc(row > PIECE_BYTES ? row : PIECE_BYTES);
    r.scratch = malloc((size_t)threads * r.scratch_row * sizeof(float));
    int rc = r.out && r.scratch ? 0 : err_nomem(e, (size_t)threads * r.scratch_row * 4, "rows");
    for (size_t i = 0; i < c->n && !rc; i++) rc = write_tensor(&r, &c->tensors[i], e);
    free(r.scratch);
    free(r.out);
    pool_close(r.pool);
    return rc;
}

static int open_folder(struct convert *c, struct err *e)
{
    if (convert__json(c->dir, "config.json", true, &c->config, e)) return e->code;
    if (convert__dims_read(c, e) || safetensors_open(&c->st, c->dir, e)) return e->code;
    return convert__tensors_plan(c, e);
}

static int run(struct convert *c, const char *out, struct convert_report *report, struct err *e)
{
    if (open_folder(c, e) || convert__mix_apply(c, e)) return e->code;
    if (gguf_write_open(&c->w, out, c->opts->force, e)) return e->code;
    if (convert__keys_write(c, e) || convert__vocab_write(c, e)) return e->code;
    if (write_tensors(c, report, e)) return e->code;
    return gguf_write_commit(c->w, e);
}

int convert_run(const char *dir, const char *out, const struct convert_opts *o,
                struct convert_report *r, struct err *e)
{
    struct convert c = {.opts = o, .dir = dir, .arena = ARENA_INIT(ARENA_MAX)};
    uint32_t file_type;
    *r = (struct convert_report){0};
    if (convert__mix_find(o->type, &file_type, e)) return e->code;
    int rc = run(&c, out, r, e);
    gguf_write_close(c.w);
    safetensors_close(c.st);
    json_decref(c.config);
    free(c.tensors);
    arena_free(&c.arena);
    return rc;
}
