/* Gemma 2 (Gemma Team 2024: soft caps, every second layer sliding) and Gemma 3 (2025: norms on
 * query and key, five sliding layers with a local RoPE base to one global). Both norm the output of
 * each block before it joins the residual stream, use GeGLU, and scale the embedding by sqrt(d).
 * GGUF norms already hold 1 + w. */
#include "llm_int.h"

#include <math.h>
#include <string.h>

struct layer {
    const float *att_norm, *att_post, *ffn_norm, *ffn_post; /* [d] */
    const float *q_norm, *k_norm;                           /* [d_head], Gemma 3, else NULL */
    struct nn_mat wq, wk, wv, wo;
    struct nn_mat gate, up, down;
    bool sliding;
    float softcap, scale;
};

static bool is_gemma3(const struct llm *m)
{
    struct gguf_str arch;
    return gguf_string(m->g, "general.architecture", &arch) && gguf_str_eq(arch, "gemma3");
}

static void bind_layer(const struct llm__dims *d, struct llm__load *l, struct layer *w, int i)
{
    int q = d->heads * d->d_head, kv = d->kv_heads * d->d_head;
    llm__vec(l, &w->att_norm, d->d, "blk.%d.attn_norm.weight", i);
    llm__mat(l, &w->wq, q, d->d, "blk.%d.attn_q.weight", i);
    llm__mat(l, &w->wk, kv, d->d, "blk.%d.attn_k.weight", i);
    llm__mat(l, &w->wv, kv, d->d, "blk.%d.attn_v.weight", i);
    llm__vec_maybe(l, &w->q_norm, d->d_head, "blk.%d.attn_q_norm.weight", i);
    llm__vec_maybe(l, &w->k_norm, d->d_head, "blk.%d.attn_k_norm.weight", i);
    llm__mat(l, &w->wo, d->d, q, "blk.%d.attn_output.weight", i);
    llm__vec(l, &w->att_post, d->d, "blk.%d.post_attention_norm.weight", i);
    llm__vec(l, &w->ffn_norm, d->d, "blk.%d.ffn_norm.weight", i);
    llm__mat(l, &w->gate, d->ff, d->d, "blk.%d.ffn_gate.weight", i);
    llm__mat(l, &w->up, d->ff, d->d, "blk.%d.ffn_up.weight", i);
    llm__take_turns(l, &w->gate, &w->up, 1);
    llm__mat(l, &w->down, d->d, d->ff, "blk.%d.ffn_down.weight", i);
    llm__vec(l, &w->ffn_post, d->d, "blk.%d.post_ffw_norm.weight", i);
}

static void open(struct llm *m, struct llm__load *l)
{
    struct llm__dims *d = &m->dims;
    bool three = is_gemma3(m);
    if (!three && !d->window) d->window = 4096; /* Gemma 3 may have none */
    struct layer *layers = llm__alloc(l, (size_t)d->layers, sizeof *layers);
    /* The 27B models divide by the width a head would have, not by its own. */
    bool by_width = d->layers == (three ? 62 : 46);
    float scale = 1 / sqrtf((float)(by_width ? d->d / d->heads : d->d_head));
    for (int i = 0; i < d->layers && llm__load_ok(l); i++) {
        bind_layer(d, l, &layers[i], i);
        layers[i].sliding = llm__sliding(l, i, three ? 6 : 2);
        layers[i].scale = scale;
        layers[i].softcap = three ? 0 : llm__f32(l, "attn_logit_softcapping", 50);
    }
    d->embed_scale = sqrtf((float)d->d);
    d->final_softcap = llm__f32(l, "final_logit_softcapping", three ? 0 : 30);
    llm__rope(l, &m->rope[0], KERN_ROPE_HALVES, three ? 1000000 : 10000, true);
    if (three) {
        float base = llm__f32(l, "rope.freq_base_swa", 10000);
        llm__rope(l, &m->rope[1], KERN_ROPE_HALVES, base, false);
    }
    m->layers = layers;
}

static void layer(const struct llm *m, int l, const struct llm__pass *p)
{
    const struct layer *w = (const struct layer *)m->layers + l;
    const struct llm__dims *d = &m->dims;
    const struct llm__scratch *s = &m->s;
    struct nn *nn = p->nn;
    int n = p->n;
    bool local = w->sliding && m->rope[1].d_rot;
    struct nn_in in = llm__normed(m, w->att_norm);

    nn_matmul_of(nn,
                 (struct nn_mm[]){{.out = s->q, .w = &w->wq},
                                  {.out = s->k, .w = &w->wk},
                                  {.out = s->v, .w = &w->wv}},
                 3, &in, n);
    nn_kv_put(nn, p->kv, l, p->spans, p->n_spans, s->k, s->v, llm__turn(m, w->k_norm, local));
    struct nn_attn a = {.heads = d->heads,
                        .scale = w->scale,
                        .softcap = w->softcap,
                        .window = w->sliding ? d->window : 0,
                        .turn = llm__turn(m, w->q_norm, local)};
    nn_attention(nn, s->o, s->q, &a, p->kv, l, p->spans, p->n_spans);
    nn_matmul(nn, &(struct nn_mm){.out = s->h, .w = &w->wo}, 1, s->o, n);
    nn_add_rms_norm(nn, s->x, s->h, w->att_post, n, d->d, d->eps);

    in = llm__normed(m, w->ffn_norm);
    nn_matmul_of(nn, &(struct nn_mm){.out = s->ff, .w = &w->gate, .act = NN_GELU_MUL, .up = &w->up},
                 1, &in, n);
    nn_matmul(nn, &(struct nn_mm){.out = s->h, .w = &w->down}, 1, s->ff, n);
    nn_add_rms_norm(nn, s->x, s->h, w->ffn_post, n, d->d, d->eps);
}

const struct llm__family llm__gemma = {.archs = {"gemma2", "gemma3"}, .open = open, .layer = layer};
