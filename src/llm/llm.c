/* The forward pass as all families share it: embed, layers, norm, head. What a layer does is the
 * family's; memory for the rows of a pass is set out here, once, at open. */
#include "llm_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 30 };

/* Where each array of scratch begins, in floats; the last is the total. */
static size_t set_out(const struct llm *m, struct llm__scratch *s, float *base)
{
    const struct llm__dims *d = &m->dims;
    size_t rows = (size_t)m->max_rows, at = 0, q = (size_t)(d->heads * d->d_head);
    size_t kv = (size_t)(d->kv_heads * d->d_head);
    bool moe = d->experts > 0;
    struct {
        float **p;
        size_t each;
    } parts[] = {
        {&s->x, (size_t)d->d},
        {&s->h, (size_t)d->d},
        {&s->q, q},
        {&s->o, q},
        {&s->k, kv},
        {&s->v, kv},
        {&s->ff, (size_t)d->ff},
        {&s->rope[0], (size_t)m->rope[0].d_rot},
        {&s->rope[1], (size_t)m->rope[1].d_rot},
        {&s->route, moe ? (size_t)(d->experts + d->experts_used + 1) : 0},
        {&s->routed, moe ? (size_t)d->d : 0},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (base) *parts[i].p = base + at;
        at += (rows * parts[i].each + 15) / 16 * 16;
    }
    if (base) s->chosen = (int *)(base + at);
    return at + (moe ? rows * (size_t)(d->experts_used + 1) : 0);
}

int llm_open(struct llm **out, const struct gguf *g, struct nn *nn, const struct llm_opts *o,
             struct err *e)
{
    struct llm *m = calloc(1, sizeof *m);
    if (!m) return err_nomem(e, sizeof *m, "a model");
    m->g = g;
    m->nn = nn;
    m->max_rows = o->max_rows;
    m->arena = ARENA_INIT(ARENA_BYTES);
    m->packed.fd = -1;
    int rc = llm__load_model(m, o, e);
    if (!rc) {
        m->scratch_bytes = (set_out(m, &m->s, NULL) * sizeof(float) + 63) / 64 * 64;
        m->scratch = aligned_alloc(64, m->scratch_bytes);
        if (!m->scratch) rc = err_nomem(e, m->scratch_bytes, "a step's scratch");
    }
    if (!rc) {
        set_out(m, &m->s, m->scratch);
        int64_t k = m->dims.heads * m->dims.d_head;
        if (m->dims.ff > k) k = m->dims.ff;
        if (m->dims.d > k) k = m->dims.d;
        int rows = m->family->encoder ? 2 * o->max_rows : o->max_rows; /* and remainders */
        rc = nn_reserve(nn, rows, k, e);
    }
    if (rc)
        llm_close(m);
    else
        *out = m;
    return rc;
}

void llm_close(struct llm *m)
{
    if (!m) return;
    packfile_close(&m->packed);
    free(m->scratch);
    arena_free(&m->arena);
    free(m);
}

void llm_info(const struct llm *m, struct llm_info *info)
{
    const struct llm__dims *d = &m->dims;
    const char *arch = m->family->archs[0];
    struct gguf_str name;
    char key[64];
    uint32_t pooling = LLM_POOLING_NONE;
    gguf_string(m->g, "general.architecture", &name);
    for (const char *const *a = m->family->archs; *a; a++)
        if (gguf_str_eq(name, *a)) arch = *a;
    snprintf(key, sizeof key, "%s.pooling_type", arch);
    gguf_u32(m->g, key, &pooling);
    *info = (struct llm_info){.arch = arch,
                              .encoder = m->family->encoder,
                              .head = m->head.rows > 0,
                              .pooling = pooling <= LLM_POOLING_LAST ? (int)pooling : 0,
                              .kv_layers = m->family->encoder ? 1 : d->layers,
                              .layers = d->layers,
                              .d_model = d->d,
                              .heads = d->heads,
                              .kv_heads = d->kv_heads,
                              .d_head = d->d_head,
                              .vocab = d->vocab,
                              .ctx_train = d->ctx,
                              .params = m->params,
                              .weight_bytes = m->weight_bytes,
                              .scratch_bytes = m->scratch_bytes + nn_scratch_bytes(m->nn),
                              .macs_per_token = m->macs - m->head.rows * m->head.k,
                              .macs_head = m->head.rows * m->head.k,
                              .bytes_per_token = m->token_bytes};
}

static void embed(struct llm *m, const struct llm_step *s)
{
    size_t d = (size_t)m->dims.d, row_bytes = m->embed->bytes / (size_t)m->dims.vocab;
    for (int i = 0; i < s->n; i++) {
        float *x = m->s.x + (size_t)i * d;
        quant_row_to_f32(m->embed->type, m->embed->data + (size_t)s->tokens[i] * row_bytes, x, d);
        for (size_t j = 0; m->dims.embed_scale != 0 && j < d; j++) x[j] *= m->dims.embed_scale;
    }
}

void llm_forward(struct llm *m, const struct nn_kv *kv, const struct llm_step *s)
{
    const struct llm__dims *d = &m->dims;
    struct llm__pass p = {m->nn, kv, s->spans, s->n_spans, s->n};
    embed(m, s);
    if (m->family->embed) m->family->embed(m, s);
    for (int i = 0; i < 2; i++)
        if (m->rope[i].d_rot) nn_rope_table(m->nn, &m->rope[i], m->s.rope[i], s->pos, s->n);
    for (int l = 0; l < d->layers; l++) m->family->layer(m, l, &p);
    for (int i = 0; i < s->n_out; i++)
        memcpy(m->s.h + (size_t)i * (size_t)d->d, m->s.x + (size_t)s->out_rows[i] * (size_t)d->d,
               (size_t)d->d * sizeof(float));
    if (!s->n_out) return;
    if (m->out_norm) nn_rms_norm(m->nn, m->s.h, m->s.h, m->out_norm, s->n_out, d->d, d->eps);
    if (s->hidden) {
        memcpy(s->hidden, m->s.h, (size_t)s->n_out * (size_t)d->d * sizeof(float));
        return;
    }
    nn_matmul(m->nn, &(struct nn_mm){.out = s->logits, .w = &m->head, .rest = NN_REST_TOP}, 1,
              m->s.h, s->n_out);
    if (d->final_softcap != 0) nn_softcap(m->nn, s->logits, s->n_out, d->vocab, d->final_softcap);
}
