/* BERT (Devlin et al. 2019) and the sentence encoders made from it: MiniLM, BGE, E5, GTE. Learned
 * positions, each norm after its block's sum, biases everywhere, GELU in its erf form. A token sees
 * the whole text, so a text is computed in one pass and its keys and values are done with when its
 * layer is: one layer of KV cache serves all.
 *
 * A norm leaves a few channels some twenty times as large as the others (MiniLM: one of 384), which
 * would take the bits of their 31 neighbours. The two products that lose most by it spend remainders
 * on those: with Q8_0 weights the worst of 200 texts is 7e-4 from float32, not 15e-4. */
#include "llm_int.h"

#include <math.h>

struct layer {
    struct nn_mat wq, wk, wv, wo;       /* [d][d] */
    struct nn_mat up, down;             /* [ff][d], [d][ff] */
    const float *bq, *bk, *bv, *bo;     /* [d] */
    const float *b_up, *b_down;         /* [ff], [d] */
    const float *att_norm, *att_norm_b; /* [d] */
    const float *ffn_norm, *ffn_norm_b; /* [d] */
};

struct bert {
    float *places;              /* [ctx][d] what is added to a token at each position */
    const float *norm, *norm_b; /* [d] */
    struct layer layers[];
};

/* Every token is of the first segment: its row is added to the positions once, here. */
static void bind_places(struct bert *b, const struct llm__dims *d, struct llm__load *l,
                        int segments)
{
    b->places = llm__rows(l, d->ctx, d->d, "position_embd.weight");
    const float *segment = llm__rows(l, segments, d->d, "token_types.weight");
    if (!llm__load_ok(l)) return;
    for (int64_t i = 0; i < (int64_t)d->ctx * d->d; i++) b->places[i] += segment[i % d->d];
}

static void open(struct llm *m, struct llm__load *l)
{
    const struct llm__dims *d = &m->dims;
    int q = d->heads * d->d_head, kv = d->kv_heads * d->d_head;
    uint32_t segments = 2;
    gguf_u32(m->g, "tokenizer.ggml.token_type_count", &segments);
    struct bert *b = llm__alloc(l, 1, sizeof *b + (size_t)d->layers * sizeof *b->layers);
    if (!b) return;
    bind_places(b, d, l, (int)(segments & INT32_MAX));
    llm__vec(l, &b->norm, d->d, "token_embd_norm.weight");
    llm__vec(l, &b->norm_b, d->d, "token_embd_norm.bias");
    for (int i = 0; i < d->layers && llm__load_ok(l); i++) {
        struct layer *w = &b->layers[i];
        llm__mat(l, &w->wq, q, d->d, "blk.%d.attn_q.weight", i);
        llm__mat(l, &w->wk, kv, d->d, "blk.%d.attn_k.weight", i);
        llm__mat(l, &w->wv, kv, d->d, "blk.%d.attn_v.weight", i);
        llm__mat(l, &w->wo, d->d, q, "blk.%d.attn_output.weight", i);
        llm__vec(l, &w->bq, q, "blk.%d.attn_q.bias", i);
        llm__vec(l, &w->bk, kv, "blk.%d.attn_k.bias", i);
        llm__vec(l, &w->bv, kv, "blk.%d.attn_v.bias", i);
        llm__vec(l, &w->bo, d->d, "blk.%d.attn_output.bias", i);
        llm__vec(l, &w->att_norm, d->d, "blk.%d.attn_output_norm.weight", i);
        llm__vec(l, &w->att_norm_b, d->d, "blk.%d.attn_output_norm.bias", i);
        llm__mat(l, &w->up, d->ff, d->d, "blk.%d.ffn_up.weight", i);
        llm__mat(l, &w->down, d->d, d->ff, "blk.%d.ffn_down.weight", i);
        llm__vec(l, &w->b_up, d->ff, "blk.%d.ffn_up.bias", i);
        llm__vec(l, &w->b_down, d->d, "blk.%d.ffn_down.bias", i);
        llm__vec(l, &w->ffn_norm, d->d, "blk.%d.layer_output_norm.weight", i);
        llm__vec(l, &w->ffn_norm_b, d->d, "blk.%d.layer_output_norm.bias", i);
    }
    m->layers = b;
}

static void embed(const struct llm *m, const struct llm_step *s)
{
    const struct bert *b = m->layers;
    const struct llm__dims *d = &m->dims;
    for (int i = 0; i < s->n_spans; i++) {
        const struct nn_span *p = &s->spans[i];
        size_t row = (size_t)d->d;
        nn_add(m->nn, m->s.x + (size_t)p->row * row, b->places + (size_t)p->pos * row, p->n, d->d);
    }
    nn_layer_norm(m->nn, m->s.x, m->s.x, b->norm, b->norm_b, s->n, d->d, d->eps);
}

static void layer(const struct llm *m, int l, const struct llm__pass *p)
{
    const struct layer *w = &((const struct bert *)m->layers)->layers[l];
    const struct llm__dims *d = &m->dims;
    const struct llm__scratch *s = &m->s;
    struct nn *nn = p->nn;
    int n = p->n;

    const struct nn_mm qkv[] = {
        {.out = s->q, .w = &w->wq, .bias = w->bq},
        {.out = s->k, .w = &w->wk, .bias = w->bk},
        {.out = s->v, .w = &w->wv, .bias = w->bv, .rest = NN_REST_OUTLIERS}};
    nn_matmul(nn, qkv, 3, s->x, n);
    nn_kv_put(nn, p->kv, 0, p->spans, p->n_spans, s->k, s->v, (struct nn_turn){0});
    struct nn_attn a = {.heads = d->heads, .scale = 1 / sqrtf((float)d->d_head), .whole = true};
    nn_attention(nn, s->o, s->q, &a, p->kv, 0, p->spans, p->n_spans);
    nn_matmul(nn, &(struct nn_mm){.out = s->x, .w = &w->wo, .bias = w->bo, .add = true}, 1, s->o,
              n);
    nn_layer_norm(nn, s->x, s->x, w->att_norm, w->att_norm_b, n, d->d, d->eps);

    const struct nn_mm up = {
        .out = s->ff, .w = &w->up, .bias = w->b_up, .rest = NN_REST_OUTLIERS, .act = NN_GELU};
    nn_matmul(nn, &up, 1, s->x, n);
    nn_matmul(nn, &(struct nn_mm){.out = s->x, .w = &w->down, .bias = w->b_down, .add = true}, 1,
              s->ff, n);
    nn_layer_norm(nn, s->x, s->x, w->ffn_norm, w->ffn_norm_b, n, d->d, d->eps);
}

const struct llm__family llm__bert = {
    .archs = {"bert"}, .open = open, .layer = layer, .encoder = true, .embed = embed};
