/* Which tensor of the folder becomes which of the file, in one table for all families. The table is
 * walked, not the folder: what a model must have and lacks is an error, and so is whatever of the
 * folder is left over at the end, but for the few that are known to hold no weights.
 *
 * Shapes are checked against config.json here. Rows of Llama's queries and keys change their order
 * (GGUF's RoPE turns neighbouring pairs, the folder's halves of a head); Gemma's norms become 1 + w.
 */
#include "convert_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum dim { NONE, D, Q, KV, HEAD, FF, VOCAB, CTX, TYPES, EXPERTS };

enum how {
    NEED = 0,
    MAYBE = 1,    /* some models of the family have it */
    PAIRS_Q = 2,  /* Llama: halves of a query head to pairs */
    PAIRS_KV = 4, /* the same for keys */
    NORM = 8,     /* Gemma: 1 + w */
    DENSE = 16,   /* not where there are experts */
    STACKED = 32, /* one source an expert */
    MOE = 64,     /* only where there are experts */
};

struct entry {
    const char *from, *to; /* after the layer's prefix; %u in from: the expert */
    enum dim rows, cols;   /* cols NONE: a vector */
    unsigned families, how;
};

#define LLAMA CONVERT__LLAMA
#define GEMMA CONVERT__GEMMA
#define BERT CONVERT__BERT
#define ALL CONVERT__DECODER
#define PLAIN (CONVERT__LLAMA | CONVERT__QWEN2 | CONVERT__QWEN3)
#define NORMED (CONVERT__QWEN3 | CONVERT__GEMMA3)

static const struct entry ends[] = {
    {"embed_tokens.weight", "token_embd.weight", VOCAB, D, ALL, NEED},
    {"norm.weight", "output_norm.weight", D, NONE, ALL, NORM},
    {"embeddings.word_embeddings.weight", "token_embd.weight", VOCAB, D, BERT, NEED},
    {"embeddings.position_embeddings.weight", "position_embd.weight", CTX, D, BERT, NEED},
    {"embeddings.token_type_embeddings.weight", "token_types.weight", TYPES, D, BERT, NEED},
    {"embeddings.LayerNorm.weight", "token_embd_norm.weight", D, NONE, BERT, NEED},
    {"embeddings.LayerNorm.bias", "token_embd_norm.bias", D, NONE, BERT, NEED},
};

static const struct entry layer[] = {
    {"input_layernorm.weight", "attn_norm.weight", D, NONE, ALL, NORM},
    {"self_attn.q_proj.weight", "attn_q.weight", Q, D, ALL, PAIRS_Q},
    {"self_attn.q_proj.bias", "attn_q.bias", Q, NONE, PLAIN, MAYBE | PAIRS_Q},
    {"self_attn.k_proj.weight", "attn_k.weight", KV, D, ALL, PAIRS_KV},
    {"self_attn.k_proj.bias", "attn_k.bias", KV, NONE, PLAIN, MAYBE | PAIRS_KV},
    {"self_attn.v_proj.weight", "attn_v.weight", KV, D, ALL, NEED},
    {"self_attn.v_proj.bias", "attn_v.bias", KV, NONE, PLAIN, MAYBE},
    {"self_attn.o_proj.weight", "attn_output.weight", D, Q, ALL, NEED},
    {"self_attn.o_proj.bias", "attn_output.bias", D, NONE, LLAMA, MAYBE},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", HEAD, NONE, NORMED, NORM},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", HEAD, NONE, NORMED, NORM},
    {"post_attention_layernorm.weight", "ffn_norm.weight", D, NONE, PLAIN, NEED},
    {"post_attention_layernorm.weight", "post_attention_norm.weight", D, NONE, GEMMA, NORM},
    {"pre_feedforward_layernorm.weight", "ffn_norm.weight", D, NONE, GEMMA, NORM},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", D, NONE, GEMMA, NORM},
    {"mlp.gate_proj.weight", "ffn_gate.weight", FF, D, ALL, DENSE},
    {"mlp.up_proj.weight", "ffn_up.weight", FF, D, ALL, DENSE},
    {"mlp.down_proj.weight", "ffn_down.weight", D, FF, ALL, DENSE},
    {"block_sparse_moe.gate.weight", "ffn_gate_inp.weight", EXPERTS, D, LLAMA, MOE},
    {"block_sparse_moe.experts.%u.w1.weight", "ffn_gate_exps.weight", FF, D, LLAMA, MOE | STACKED},
    {"block_sparse_moe.experts.%u.w3.weight", "ffn_up_exps.weight", FF, D, LLAMA, MOE | STACKED},
    {"block_sparse_moe.experts.%u.w2.weight", "ffn_down_exps.weight", D, FF, LLAMA, MOE | STACKED},

    {"attention.self.query.weight", "attn_q.weight", Q, D, BERT, NEED},
    {"attention.self.query.bias", "attn_q.bias", Q, NONE, BERT, NEED},
    {"attention.self.key.weight", "attn_k.weight", Q, D, BERT, NEED},
    {"attention.self.key.bias", "attn_k.bias", Q, NONE, BERT, NEED},
    {"attention.self.value.weight", "attn_v.weight", Q, D, BERT, NEED},
    {"attention.self.value.bias", "attn_v.bias", Q, NONE, BERT, NEED},
    {"attention.output.dense.weight", "attn_output.weight", D, Q, BERT, NEED},
    {"attention.output.dense.bias", "attn_output.bias", D, NONE, BERT, NEED},
    {"attention.output.LayerNorm.weight", "attn_output_norm.weight", D, NONE, BERT, NEED},
    {"attention.output.LayerNorm.bias", "attn_output_norm.bias", D, NONE, BERT, NEED},
    {"intermediate.dense.weight", "ffn_up.weight", FF, D, BERT, NEED},
    {"intermediate.dense.bias", "ffn_up.bias", FF, NONE, BERT, NEED},
    {"output.dense.weight", "ffn_down.weight", D, FF, BERT, NEED},
    {"output.dense.bias", "ffn_down.bias", D, NONE, BERT, NEED},
    {"output.LayerNorm.weight", "layer_output_norm.weight", D, NONE, BERT, NEED},
    {"output.LayerNorm.bias", "layer_output_norm.bias", D, NONE, BERT, NEED},
};

/* Of the folder, but not of the model: buffers, and what BERT was pre-trained with. */
static const char *const no_weights[] = {"rotary_emb.inv_freq", "embeddings.position_ids",
                                         "pooler.dense.weight", "pooler.dense.bias"};

struct plan {
    struct convert *c;
    struct err *e;
    const char *prefix; /* of the folder's names: "model.", "bert." or nothing */
    bool *used;         /* [safetensors_count] */
};

static uint64_t size_of(const struct convert *c, enum dim dim)
{
    const struct convert__dims *d = &c->dims;
    const uint64_t sizes[] = {[NONE] = 1,
                              [D] = d->d,
                              [Q] = (uint64_t)d->heads * d->d_head,
                              [KV] = (uint64_t)d->kv_heads * d->d_head,
                              [HEAD] = d->d_head,
                              [FF] = d->ff,
                              [VOCAB] = d->vocab,
                              [CTX] = d->ctx,
                              [TYPES] = d->types,
                              [EXPERTS] = d->experts};
    return sizes[dim];
}

static struct convert__tensor *add(struct convert *c, struct err *e)
{
    if (c->n == c->room) {
        size_t room = c->room ? c->room * 2 : 256;
        struct convert__tensor *all = realloc(c->tensors, room * sizeof *all);
        if (!all) {
            err_nomem(e, room * sizeof *all, "a list of tensors");
            return NULL;
        }
        c->tensors = all;
        c->room = room;
    }
    struct convert__tensor *t = &c->tensors[c->n++];
    *t = (struct convert__tensor){.n_dims = 1, .dim = {1, 1, 1, 1}};
    return t;
}

/* A tensor of the folder, its shape and type checked; NULL where it may be absent, or on error. */
static const struct safetensors_tensor *take(struct plan *p, const char *name, uint64_t rows,
                                             uint64_t cols, bool vector, bool maybe, int *rc)
{
    const struct safetensors_tensor *t = safetensors_find(p->c->st, name);
    uint32_t dims = vector ? 1 : 2;
    if (!t) {
        if (!maybe) *rc = err_set(p->e, ERR_FORMAT, "the folder lacks the tensor %s", name);
        return NULL;
    }
    if (t->n_dims != dims || t->dim[0] != rows || t->dim[1] != cols) {
        *rc = err_set(p->e, ERR_FORMAT, "tensor %s has %u dimensions, %llu x %llu, not %llu x %llu",
                      name, t->n_dims, (unsigned long long)t->dim[0], (unsigned long long)t->dim[1],
                      (unsigned long long)rows, (unsigned long long)cols);
        return NULL;
    }
    if (t->type == QUANT_TYPE_END) {
        *rc = err_set(p->e, ERR_UNSUPPORTED,
                      "tensor %s is of the type %s (F32, F16, BF16 are read)", name, t->dtype);
        return NULL;
    }
    p->used[t - safetensors_at(p->c->st, 0)] = true;
    return t;
}

static void set_shape(const struct convert *c, struct convert__tensor *t, const struct entry *en)
{
    t->rows = size_of(c, en->rows);
    t->k = size_of(c, en->cols);
    if (en->cols == NONE) {
        t->dim[0] = t->rows;
    } else {
        t->n_dims = 2;
        t->dim[0] = t->k;
        t->dim[1] = t->rows;
    }
    if (en->how & STACKED) {
        t->n_dims = 3;
        t->dim[2] = c->dims.experts;
    }
    if (c->family == LLAMA && en->how & PAIRS_Q) t->heads = c->dims.heads;
    if (c->family == LLAMA && en->how & PAIRS_KV) t->heads = c->dims.kv_heads;
    if (c->family & GEMMA && en->how & NORM) t->add = 1;
}

/* l: the layer, or -1 */
static int plan_entry(struct plan *p, const struct entry *en, int l)
{
    struct convert *c = p->c;
    bool moe = c->dims.experts > 0;
    if (!(en->families & c->family) || (en->how & DENSE && moe) || (en->how & MOE && !moe))
        return 0;
    struct convert__tensor t = {.dim = {1, 1, 1, 1}, .n_dims = 1};
    set_shape(c, &t, en);
    t.n_src = en->how & STACKED ? c->dims.experts : 1;
    t.src = arena_alloc(&c->arena, t.n_src, sizeof(void *));
    if (!t.src) return err_nomem(p->e, t.n_src * sizeof *t.src, "a list of tensors");
    int rc = 0;
    for (uint32_t i = 0; i < t.n_src; i++) {
        char name[200], tail[120];
        const char *part = strchr(en->from, '%'),
                   *in = c->family == BERT ? "encoder.layer" : "layers";
        size_t head = part ? (size_t)(part - en->from) : strlen(en->from);
        snprintf(tail, sizeof tail, "%.*s", (int)head, en->from);
        if (part) snprintf(tail + head, sizeof tail - head, "%u%s", i, part + 2);
        if (l < 0)
            snprintf(name, sizeof name, "%s%s", p->prefix, tail);
        else
            snprintf(name, sizeof name, "%s%s.%d.%s", p->prefix, in, l, tail);
        t.src[i] = take(p, name, t.rows, t.k, en->cols == NONE, en->how & MAYBE, &rc);
        if (!t.src[i]) return rc;
    }
    if (l < 0)
        snprintf(t.name, sizeof t.name, "%s", en->to);
    else
        snprintf(t.name, sizeof t.name, "blk.%d.%s", l, en->to);
    struct convert__tensor *slot = add(c, p->e);
    if (!slot) return p->e->code;
    *slot = t;
    return 0;
}

/* The head, where it is not the embedding again. */
static int plan_head(struct plan *p)
{
    struct convert *c = p->c;
    const json_t *tie = json_object_get(c->config, "tie_word_embeddings");
    bool tied = c->family & GEMMA || json_is_true(tie), must = tie && !tied;
    static const struct entry head = {"lm_head.weight", "output.weight", VOCAB, D, ALL, MAYBE};
    const struct safetensors_tensor *t = safetensors_find(c->st, "lm_head.weight");
    if (c->family == BERT) return 0;
    if (!t && must) return err_set(p->e, ERR_FORMAT, "the folder lacks the tensor lm_head.weight");
    if (t && tied) {
        p->used[t - safetensors_at(c->st, 0)] = true;
        return 0;
    }
    const char *prefix = p->prefix;
    p->prefix = "";
    int rc = plan_entry(p, &head, -1);
    p->prefix = prefix;
    return rc;
}

static int plan_rope(struct plan *p)
{
    struct convert *c = p->c;
    const float *factors;
    if (convert__rope_factors(c, &factors, p->e)) return p->e->code;
    if (!factors) return 0;
    struct convert__tensor *t = add(c, p->e);
    if (!t) return p->e->code;
    snprintf(t->name, sizeof t->name, "rope_freqs.weight");
    t->rows = t->dim[0] = c->dims.d_head / 2;
    t->k = 1;
    t->own = factors;
    return 0;
}

static int check_left_over(const struct plan *p)
{
    const struct safetensors *st = p->c->st;
    for (size_t i = 0; i < safetensors_count(st); i++) {
        const char *name = safetensors_at(st, i)->name;
        bool known = p->used[i];
        for (size_t k = 0; k < sizeof no_weights / sizeof *no_weights; k++) {
            size_t n = strlen(no_weights[k]), len = strlen(name);
            known |= len >= n && strcmp(name + len - n, no_weights[k]) == 0;
        }
        if (p->c->family == BERT) known |= strncmp(name, "cls.", 4) == 0;
        if (!known)
            return err_set(p->e, ERR_UNSUPPORTED, "tensor %s has no place in %s", name,
                           p->c->model);
    }
    return 0;
}

/* What the embedding's shape tells, before everything is checked against it. */
static int read_rows(struct plan *p)
{
    struct convert *c = p->c;
    static const char *const prefixes[] = {"model.", "bert.", ""};
    bool bert = c->family == BERT;
    const char *embed = bert ? "embeddings.word_embeddings.weight" : "embed_tokens.weight";
    char name[100];
    const struct safetensors_tensor *t = NULL;
    for (size_t i = 0; i < 3 && !t; i++) {
        p->prefix = prefixes[i];
        snprintf(name, sizeof name, "%s%s", prefixes[i], embed);
        t = safetensors_find(c->st, name);
    }
    if (!t) return err_set(p->e, ERR_FORMAT, "the folder lacks the tensor %s", embed);
    if (t->n_dims != 2 || t->dim[0] > 1 << 22)
        return err_set(p->e, ERR_LIMIT, "tensor %s: %u dimensions, %llu rows (2, at most %d)", name,
                       t->n_dims, (unsigned long long)t->dim[0], 1 << 22);
    c->dims.vocab = (uint32_t)t->dim[0];
    return bert ? convert__u32(c->config, "type_vocab_size", 2, 1, 1024, &c->dims.types, p->e) : 0;
}

int convert__tensors_plan(struct convert *c, struct err *e)
{
    struct plan p = {.c = c, .e = e, .used = calloc(safetensors_count(c->st) + 1, 1)};
    if (!p.used) return err_nomem(e, safetensors_count(c->st), "a list of tensors");
    int rc = read_rows(&p);
    for (size_t i = 0; i < sizeof ends / sizeof *ends && !rc; i++)
        rc = plan_entry(&p, &ends[i], -1);
    if (!rc) rc = plan_head(&p);
    if (!rc) rc = plan_rope(&p);
    for (uint32_t l = 0; l < c->dims.layers && !rc; l++)
        for (size_t i = 0; i < sizeof layer / sizeof *layer && !rc; i++)
            rc = plan_entry(&p, &layer[i], (int)l);
    if (!rc) rc = check_left_over(&p);
    free(p.used);
    return rc;
}
