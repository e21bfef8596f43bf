/* The operations of a network over rows of float32, shared out to the worker threads.
 *
 *     struct nn *nn;
 *     if (nn_open(&nn, threads, NULL, false, &e) || nn_reserve(nn, max_rows, max_k, &e)) ...
 *     nn_matmul(nn, &(struct nn_mm){.out = y, .w = &w}, 1, x, n);
 *     nn_close(nn);
 *
 * One thread calls; results are complete on return. Operations cannot fail and allocate nothing. A
 * row's result is the same to the bit whatever the number of threads and the rows beside it in a
 * call. `exact` computes products in float32 from the dequantised weights,
 * otherwise activations are rounded (a scale for 32 values): to int8 before quantised weights, to 16
 * bits before those of 8 bits where that costs no more, to 14 bits before F16 and BF16 ones, which are then
 * rounded to 14 bits too, where that is faster.
 */
#ifndef NN_H
#define NN_H

#include "err.h"
#include "kern.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nn;

ERR_DOOR int nn_open(struct nn **out, int threads, const char *level, bool exact, struct err *e);
void nn_close(struct nn *nn);
/* Scratch for calls of up to `rows` rows and inner dimensions up to k. */
ERR_DOOR int nn_reserve(struct nn *nn, int rows, int64_t k, struct err *e);
size_t nn_scratch_bytes(const struct nn *nn);
const struct kern *nn_kern(const struct nn *nn);
int nn_threads(const struct nn *nn);
bool nn_exact(const struct nn *nn);
/* fn(arg, i) for i of 0 .. n - 1, on all workers at once, in no order. */
void nn_share(struct nn *nn, int n, void (*fn)(void *arg, int i), void *arg);

/* A weight matrix, packed as kern.h says. */
struct nn_mat {
    int64_t rows, k;
    const struct kern_fmt *fmt;
    uint32_t type; /* enum quant_type it came from */
    uint8_t *data; /* aligned to 64; nn_mat_bytes, or with those of the other if they take turns */
    size_t step;   /* bytes from one panel of KERN_ROWS rows to the next */
};
enum {
    NN_PACK_VERSION = 3
}; /* of the layout; changes when packs of older programs are of no use */
/* False when a matrix of this type cannot have rows of k values. */
bool nn_mat_shape(struct nn_mat *m, uint32_t type, int64_t rows, int64_t k);
size_t nn_mat_bytes(const struct nn_mat *m);
/* Of two with as many rows, each panel of a is followed by b's: sets steps, and b->data behind a->data. For
 * those read in turns (nn_mm.up), so that memory is read in one stream. */
void nn_mat_take_turns(struct nn_mat *a, struct nn_mat *b);
/* Packs [rows][k] in the file's format `type` into m->data, on all threads. Lossless. */
void nn_mat_pack(struct nn *nn, struct nn_mat *m, const uint8_t *src);
/* A sum over bytes (checksum.h) by all threads. */
uint64_t nn_checksum(struct nn *nn, const void *p, size_t n);

/* Where a product's activations are as good as 15 bits: where int8 loses most, in groups of 32 columns
 * with an outlier, or for the largest outputs of a row (and their neighbours), which decide what is
 * sampled. Costs least where nn_reserve knew of 2n rows. */
enum nn_rest { NN_REST_NONE, NN_REST_OUTLIERS, NN_REST_TOP };

/* y = x . w^T; the first two with up: silu(y) or gelu(y) in tanh form, times x . up^T; gelu(y) in erf form. */
enum nn_act { NN_NONE, NN_SILU_MUL, NN_GELU_MUL, NN_GELU };

/* out[n][w->rows] = x[n][w->k] . w^T (+ bias) (+ out as it was, with add), then act. */
struct nn_mm {
    float *out;
    const struct nn_mat *w;
    const float *bias; /* [w->rows] or NULL */
    bool add;
    enum nn_rest rest; /* with NN_REST_TOP, the only product */
    enum nn_act act;
    const struct nn_mat *up; /* as large as w, where act wants it, else NULL */
};
/* All n_mm products share x. */
void nn_matmul(struct nn *nn, const struct nn_mm *mm, int n_mm, const float *x, int n);
/* As nn_matmul, of the RMS norm of x, which is made where rows are rounded, without a pass of its own. */
struct nn_in {
    const float *x;    /* [n][k] */
    const float *norm; /* weights [k], or NULL */
    float eps;
    float *made; /* [n][k] for it, not to be read afterwards */
};
void nn_matmul_of(struct nn *nn, const struct nn_mm *mm, int n_mm, const struct nn_in *in, int n);

/* out and x may be the same; w [d] may be NULL. */
void nn_rms_norm(struct nn *nn, float *out, const float *x, const float *w, int n, int d,
                 float eps);
/* x += RMS norm of h, which is not to be read afterwards. */
void nn_add_rms_norm(struct nn *nn, float *x, float *h, const float *w, int n, int d, float eps);
/* LayerNorm; out and x may be the same. */
void nn_layer_norm(struct nn *nn, float *out, const float *x, const float *w, const float *b, int n,
                   int d, float eps);
void nn_add(struct nn *nn, float *x, const float *y, int n, int d);
void nn_softcap(struct nn *nn, float *x, int n, int d, float cap);

/* RoPE (Su et al. 2021): angle = pos * freq[i]; cos and sin times mscale (1 but for YaRN). */
struct nn_rope {
    enum kern_rope kind;
    int d_rot;
    const double *freq; /* [d_rot / 2] */
    float mscale;
};
/* table [n][2][d_rot / 2] for the positions of a step. */
void nn_rope_table(struct nn *nn, const struct nn_rope *r, float *table, const int *pos, int n);
/* What becomes of the heads of a step's rows where they are read, of queries by attention and of keys
 * before they are stored: a RMS norm each, then RoPE. */
struct nn_turn {
    const float *norm; /* weights [d_head], or NULL: none */
    float eps;
    const struct nn_rope *rope; /* NULL: none */
    const float *table;
};

/* KV cache: pages of KERN_PAGE tokens, one page id for all layers; of each KV head what kern.h says. */
struct nn_kv {
    uint8_t *data; /* [pages][layers][nn_kv_page_bytes] */
    int layers, pages, heads, d_head;
    enum kern_kv kind;
};
size_t nn_kv_page_bytes(const struct nn_kv *kv);

/* Consecutive rows of a step that belong to one sequence. */
struct nn_span {
    const int32_t *pages; /* page ids of the sequence, in order */
    int pos;              /* position of the first row */
    int row, n;           /* rows row .. row + n - 1 of the step */
};

/* Stores k, v [rows][kv->heads][d_head] of every span; k is turned in place. */
void nn_kv_put(struct nn *nn, const struct nn_kv *kv, int layer, const struct nn_span *s,
               int n_spans, float *k, const float *v, struct nn_turn turn);

struct nn_attn {
    int heads;     /* of queries; a multiple of kv->heads */
    float scale;   /* of the scores */
    float softcap; /* 0: off */
    int window;    /* 0: all earlier tokens; else this many, the token itself among them */
    bool whole;    /* a row sees all rows of its span, which begins at position 0; no window */
    struct nn_turn turn; /* of the queries */
};
/* out, q [rows][heads][d_head]; causal unless whole. heads / kv->heads is at most KERN_ATTN_ROWS. */
void nn_attention(struct nn *nn, float *out, const float *q, const struct nn_attn *a,
                  const struct nn_kv *kv, int layer, const struct nn_span *s, int n_spans);

/* What the machine does at best with these threads and kernels, probed in some 200 ms. */
struct nn_peaks {
    double int8_macs_per_s, f32_macs_per_s, read_bytes_per_s;
    double bf16_macs_per_s; /* 0: these kernels have none */
};
ERR_DOOR int nn_probe(struct nn *nn, struct nn_peaks *p, struct err *e);

#endif
