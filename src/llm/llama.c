/* Llama 1 to 3.x (Touvron et al. 2023; Grattafiori et al. 2024), Mistral with its sliding window
 * (Jiang et al. 2023), SmolLM2, and Mixtral's experts (Jiang et al. 2024). GGUF stores their query
 * and key rows so that RoPE turns neighbouring pairs. */
#include "llm_int.h"

#include <math.h>

struct layer {
    const float *att_norm, *ffn_norm; /* [d] */
    const float *bq, *bk, *bv, *bo;   /* or NULL */
    struct nn_mat wq, wk, wv, wo;
    struct nn_mat gate, up, down; /* [ff][d], [ff][d], [d][ff] */
    struct nn_mat router;         /* [experts][d] */
    struct nn_mat *e_gate, *e_up, *e_down;
};

static void bind_experts(const struct llm__dims *d, struct llm__load *l, struct layer *w, int i)
{
    size_t n = (size_t)d->experts;
    w->e_gate = llm__alloc(l, n, sizeof *w->e_gate);
    w->e_up = llm__alloc(l, n, sizeof *w->e_up);
    w->e_down = llm__alloc(l, n, sizeof *w->e_down);
    llm__mat(l, &w->router, d->experts, d->d, "blk.%d.ffn_gate_inp.weight", i);
    bool one = llm__has(l, "blk.%d.ffn_gate_exps.weight", i); /* tensor of all */
    if (one) {
        llm__mats(l, w->e_gate, d->experts, d->ff, d->d, "blk.%d.ffn_gate_exps.weight", i);
        llm__mats(l, w->e_up, d->experts, d->ff, d->d, "blk.%d.ffn_up_exps.weight", i);
        llm__mats(l, w->e_down, d->experts, d->d, d->ff, "blk.%d.ffn_down_exps.weight", i);
    }
    for (int e = 0; !one && e < d->experts && llm__load_ok(l); e++) { /* files of early 2024 */
        llm__mat(l, &w->e_gate[e], d->ff, d->d, "blk.%d.ffn_gate.%d.weight", i, e);
        llm__mat(l, &w->e_up[e], d->ff, d->d, "blk.%d.ffn_up.%d.weight", i, e);
        llm__mat(l, &w->e_down[e], d->d, d->ff, "blk.%d.ffn_down.%d.weight", i, e);
    }
    llm__take_turns(l, w->e_gate, w->e_up, d->experts);
}

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
        llm__mat(l, &w->wo, d->d, q, "blk.%d.attn_output.weight", i);
        llm__vec_maybe(l, &w->bq, q, "blk.%d.attn_q.bias", i);
        llm__vec_maybe(l, &w->bk, kv, "blk.%d.attn_k.bias", i);
        llm__vec_maybe(l, &w->bv, kv, "blk.%d.attn_v.bias", i);
        llm__vec_maybe(l, &w->bo, d->d, "blk.%d.attn_output.bias", i);
        llm__vec(l, &w->ffn_norm, d->d, "blk.%d.ffn_norm.weight", i);
        if (d->experts) {
            bind_experts(d, l, w, i);
            continue;
        }
        llm__mat(l, &w->gate, d->ff, d->d, "blk.%d.ffn_gate.weight", i);
        llm__mat(l, &w->up, d->ff, d->d, "blk.%d.ffn_up.weight", i);
        llm__take_turns(l, &w->gate, &w->up, 1);
        llm__mat(l, &w->down, d->d, d->ff, "blk.%d.ffn_down.weight", i);
    }
    llm__rope(l, &m->rope[0], KERN_ROPE_PAIRS, 10000, true);
    m->layers = layers;
}

static void layer(const struct llm *m, int l, const struct llm__pass *p)
{
    const struct layer *w = (const struct layer *)m->layers + l;
    const struct llm__dims *d = &m->dims;
    const struct llm__scratch *s = &m->s;
    struct nn *nn = p->nn;
    int n = p->n;
    struct nn_turn turn = llm__turn(m, NULL, false);
    struct nn_in in = llm__normed(m, w->att_norm);

    nn_matmul_of(nn,
                 (struct nn_mm[]){{.out = s->q, .w = &w->wq, .bias = w->bq},
                                  {.out = s->k, .w = &w->wk, .bias = w->bk},
                                  {.out = s->v, .w = &w->wv, .bias = w->bv}},
                 3, &in, n);
    nn_kv_put(nn, p->kv, l, p->spans, p->n_spans, s->k, s->v, turn);
    struct nn_attn a = {
        .heads = d->heads, .scale = 1 / sqrtf((float)d->d_head), .window = d->window, .turn = turn};
    nn_attention(nn, s->o, s->q, &a, p->kv, l, p->spans, p->n_spans);
    nn_matmul(nn, &(struct nn_mm){.out = s->x, .w = &w->wo, .bias = w->bo, .add = true}, 1, s->o,
              n);

    if (d->experts) {
        nn_rms_norm(nn, s->h, s->x, w->ffn_norm, n, d->d, d->eps);
        llm__moe(m, p, &(struct llm__moe){&w->router, w->e_gate, w->e_up, w->e_down});
        return;
    }
    in = llm__normed(m, w->ffn_norm);
    nn_matmul_of(nn, &(struct nn_mm){.out = s->ff, .w = &w->gate, .act = NN_SILU_MUL, .up = &w->up},
                 1, &in, n);
    nn_matmul(nn, &(struct nn_mm){.out = s->x, .w = &w->down, .add = true}, 1, s->ff, n);
}

const struct llm__family llm__llama = {.archs = {"llama"}, .open = open, .layer = layer};
