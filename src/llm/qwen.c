/* Qwen2, Qwen2.5 (Yang et al. 2024: biases on query, key and value) and Qwen3 (2025: no biases,
 * RMSNorm on each head of query and key). RoPE turns halves of a head. */
#include "llm_int.h"

#include <math.h>

struct layer {
    const float *att_norm, *ffn_norm; /* [d] */
    const float *bq, *bk, *bv;        /* Qwen2, else NULL */
    const float *q_norm, *k_norm;     /* [d_head], Qwen3, else NULL */
    struct nn_mat wq, wk, wv, wo;
    struct nn_mat gate, up, down;
};

static void open(struct llm *m, struct llm__load *l)
{
    const struct llm__dims *d = &m->dims;
    int q = d->heads * d->d_head, kv = d->kv_heads * d->d_head;
    struct layer *layers = llm__alloc(l, (size_t)d->layers, sizeof *layers);
    for (int i = 0; i < d->layers && llm__load_ok(l); i++) {
        struct layer *w = &layers[i];
        llm__vec(l, &w->att_norm, d->d, "blk.%d.attn_norm.weight", i);
        llm__mat(l, &w->wq, q, d->d, "blk.%d.attn_q.weight", i);
        llm__mat(l, &w->wk, kv, d->d, "blk.%d.attn_k.weight", i);
        llm__mat(l, &w->wv, kv, d->d, "blk.%d.attn_v.weight", i);
        llm__vec_maybe(l, &w->bq, q, "blk.%d.attn_q.bias", i);
        llm__vec_maybe(l, &w->bk, kv, "blk.%d.attn_k.bias", i);
        llm__vec_maybe(l, &w->bv, kv, "blk.%d.attn_v.bias", i);
        llm__vec_maybe(l, &w->q_norm, d->d_head, "blk.%d.attn_q_norm.weight", i);
        llm__vec_maybe(l, &w->k_norm, d->d_head, "blk.%d.attn_k_norm.weight", i);
        llm__mat(l, &w->wo, d->d, q, "blk.%d.attn_output.weight", i);
        llm__vec(l, &w->ffn_norm, d->d, "blk.%d.ffn_norm.weight", i);
        llm__mat(l, &w->gate, d->ff, d->d, "blk.%d.ffn_gate.weight", i);
        llm__mat(l, &w->up, d->ff, d->d, "blk.%d.ffn_up.weight", i);
        llm__take_turns(l, &w->gate, &w->up, 1);
        llm__mat(l, &w->down, d->d, d->ff, "blk.%d.ffn_down.weight", i);
    }
    llm__rope(l, &m->rope[0], KERN_ROPE_HALVES, 10000, true);
    m->layers = layers;
}

static void layer(const struct llm *m, int l, const struct llm__pass *p)
{
    const struct layer *w = (const struct layer *)m->layers + l;
    const struct llm__dims *d = &m->dims;
    const struct llm__scratch *s = &m->s;
    struct nn *nn = p->nn;
    int n = p->n;
    struct nn_in in = llm__normed(m, w->att_norm);

    nn_matmul_of(nn,
                 (struct nn_mm[]){{.out = s->q, .w = &w->wq, .bias = w->bq},
                                  {.out = s->k, .w = &w->wk, .bias = w->bk},
                                  {.out = s->v, .w = &w->wv, .bias = w->bv}},
                 3, &in, n);
    nn_kv_put(nn, p->kv, l, p->spans, p->n_spans, s->k, s->v, llm__turn(m, w->k_norm, false));
    struct nn_attn a = {.heads = d->heads,
                        .scale = 1 / sqrtf((float)d->d_head),
                        .turn = llm__turn(m, w->q_norm, false)};
    nn_attention(nn, s->o, s->q, &a, p->kv, l, p->spans, p->n_spans);
    nn_matmul(nn, &(struct nn_mm){.out = s->x, .w = &w->wo, .add = true}, 1, s->o, n);

    in = llm__normed(m, w->ffn_norm);
    nn_matmul_of(nn, &(struct nn_mm){.out = s->ff, .w = &w->gate, .act = NN_SILU_MUL, .up = &w->up},
                 1, &in, n);
    nn_matmul(nn, &(struct nn_mm){.out = s->x, .w = &w->down, .add = true}, 1, s->ff, n);
}

const struct llm__family llm__qwen = {.archs = {"qwen2", "qwen3"}, .open = open, .layer = layer};
