/* config.json -> what the model is, in the words of GGUF. A setting that changes what the model
 * computes and that the file could not say, or that the families of llm/ do not compute, is refused
 * here; a setting that only matters to training is not looked at. */
#include "convert_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *model, *arch;
    enum convert__family family;
} families[] = {
    {"LlamaForCausalLM", "llama", CONVERT__LLAMA},
    {"MistralForCausalLM", "llama", CONVERT__LLAMA},
    {"MixtralForCausalLM", "llama", CONVERT__LLAMA},
    {"Qwen2ForCausalLM", "qwen2", CONVERT__QWEN2},
    {"Qwen3ForCausalLM", "qwen3", CONVERT__QWEN3},
    {"Gemma2ForCausalLM", "gemma2", CONVERT__GEMMA2},
    {"Gemma3ForCausalLM", "gemma3", CONVERT__GEMMA3},
    {"BertModel", "bert", CONVERT__BERT},
};

static int find_family(struct convert *c, struct err *e)
{
    const json_t *list = json_object_get(c->config, "architectures");
    const char *model = json_string_value(json_array_get(list, 0));
    for (size_t i = 0; model && i < sizeof families / sizeof *families; i++)
        if (strcmp(model, families[i].model) == 0) {
            c->model = families[i].model;
            c->arch = families[i].arch;
            c->family = families[i].family;
            return 0;
        }
    return err_set(e, ERR_UNSUPPORTED, "config.json: no family for the architecture %.80s",
                   model ? model : "(none)");
}

/* What would be computed otherwise than the file says. */
static int check_settings(const struct convert *c, struct err *e)
{
    const char *act = convert__str(c->config, "hidden_activation");
    if (!act) act = convert__str(c->config, "hidden_act");
    const char *want = c->family == CONVERT__BERT   ? "gelu"
                       : c->family & CONVERT__GEMMA ? "gelu_pytorch_tanh"
                                                    : "silu";
    if (act && strcmp(act, want) != 0)
        return err_set(e, ERR_UNSUPPORTED, "config.json: activation %.40s, %s has %s", act,
                       c->model, want);
    if (c->family & (CONVERT__QWEN2 | CONVERT__QWEN3) &&
        json_is_true(json_object_get(c->config, "use_sliding_window")))
        return err_set(e, ERR_UNSUPPORTED, "config.json: use_sliding_window is not supported");
    /* 27B models divide by the width a head would have, all others by the head's own. */
    const json_t *scalar = json_object_get(c->config, "query_pre_attn_scalar");
    double by = json_number_value(scalar), layers = c->dims.layers;
    bool wide = layers == (c->family == CONVERT__GEMMA3 ? 62 : 46);
    double want_by = wide ? c->dims.d / c->dims.heads : c->dims.d_head;
    if (c->family & CONVERT__GEMMA && json_is_number(scalar) && by != want_by)
        return err_set(e, ERR_UNSUPPORTED, "config.json: query_pre_attn_scalar %g, not %g", by,
                       want_by);
    const char *position = convert__str(c->config, "position_embedding_type");
    if (c->family == CONVERT__BERT && position && strcmp(position, "absolute") != 0)
        return err_set(e, ERR_UNSUPPORTED, "config.json: position_embedding_type %.40s", position);
    if (json_object_get(c->config, "quantization_config"))
        return err_set(e, ERR_UNSUPPORTED,
                       "the folder's weights are quantised already "
                       "(quantization_config)");
    return 0;
}

int convert__dims_read(struct convert *c, struct err *e)
{
    const json_t *j = c->config;
    struct convert__dims *d = &c->dims;
    if (find_family(c, e)) return e->code;
    bool mixtral = strcmp(c->model, "MixtralForCausalLM") == 0;
    uint32_t ctx = c->family == CONVERT__GEMMA3 ? 131072 : 0;
    if (convert__u32(j, "num_hidden_layers", 0, 1, 1024, &d->layers, e) ||
        convert__u32(j, "hidden_size", 0, 1, 1 << 17, &d->d, e) ||
        convert__u32(j, "num_attention_heads", 0, 1, 1024, &d->heads, e) ||
        convert__u32(j, "num_key_value_heads", d->heads, 1, d->heads, &d->kv_heads, e) ||
        convert__u32(j, "intermediate_size", 0, 1, 1 << 20, &d->ff, e) ||
        convert__u32(j, "max_position_embeddings", ctx, 1, 1 << 24, &d->ctx, e))
        return e->code;
    uint32_t d_head = c->family & CONVERT__GEMMA ? 256 : d->d / d->heads;
    if (c->family == CONVERT__QWEN3) d_head = 128;
    if (convert__u32(j, "head_dim", d_head, 2, 4096, &d->d_head, e)) return e->code;
    if (d->heads % d->kv_heads)
        return err_set(e, ERR_FORMAT, "config.json: %u heads share %u of keys and values", d->heads,
                       d->kv_heads);
    if (mixtral && (convert__u32(j, "num_local_experts", 8, 2, 1024, &d->experts, e) ||
                    convert__u32(j, "num_experts_per_tok", 2, 1, d->experts, &d->experts_used, e)))
        return e->code;
    return check_settings(c, e);
}

/* The settings of RoPE, wherever this version of the library has put them; may be NULL. */
static const json_t *rope_settings(const struct convert *c)
{
    const json_t *j = json_object_get(c->config, "rope_parameters");
    if (!json_is_object(j)) j = json_object_get(c->config, "rope_scaling");
    const json_t *full = json_object_get(j, "full_attention");
    return full ? full : j;
}

static const char *rope_type(const json_t *rope)
{
    const char *type = convert__str(rope, "rope_type");
    if (!type) type = convert__str(rope, "type");
    return type && strcmp(type, "default") != 0 ? type : NULL;
}

static void key(const struct convert *c, char out[96], const char *name)
{
    snprintf(out, 96, "%s.%s", c->arch, name);
}

static void put_u32(struct convert *c, const char *name, uint32_t v)
{
    char k[96];
    key(c, k, name);
    gguf_write_u32(c->w, k, v);
}

static void put_f32(struct convert *c, const char *name, float v)
{
    char k[96];
    key(c, k, name);
    gguf_write_f32(c->w, k, v);
}

/* Passes a number on under another name, where the folder has it. */
static int pass_f32(struct convert *c, const json_t *j, const char *from, const char *to,
                    struct err *e)
{
    const json_t *v = json_object_get(j, from);
    float f;
    if (!v || json_is_null(v)) return 0;
    if (convert__f32(j, from, 0, -1e9, 1e9, &f, e)) return e->code;
    put_f32(c, to, f);
    return 0;
}

static int scaling_keys(struct convert *c, const json_t *rope, struct err *e)
{
    const char *type = rope_type(rope);
    float factor;
    uint32_t ctx;
    char k[96];
    if (!type || strcmp(type, "llama3") == 0) return 0; /* a tensor tells that one */
    if (strcmp(type, "linear") != 0 && strcmp(type, "yarn") != 0)
        return err_set(e, ERR_UNSUPPORTED, "config.json: RoPE scaling %.40s is not supported",
                       type);
    if (convert__f32(rope, "factor", 1, 1e-3, 1e6, &factor, e)) return e->code;
    key(c, k, "rope.scaling.type");
    gguf_write_str(c->w, k, type);
    put_f32(c, "rope.scaling.factor", factor);
    if (strcmp(type, "linear") == 0) return 0;
    if (convert__u32(rope, "original_max_position_embeddings", c->dims.ctx, 1, 1 << 24, &ctx, e))
        return e->code;
    put_u32(c, "rope.scaling.original_context_length", ctx);
    if (pass_f32(c, rope, "attention_factor", "rope.scaling.attn_factor", e) ||
        pass_f32(c, rope, "beta_fast", "rope.scaling.yarn_beta_fast", e))
        return e->code;
    return pass_f32(c, rope, "beta_slow", "rope.scaling.yarn_beta_slow", e);
}

static int rope_keys(struct convert *c, struct err *e)
{
    const json_t *rope = rope_settings(c), *all = json_object_get(c->config, "rope_parameters");
    double absent = c->family == CONVERT__GEMMA3 || c->dims.experts ? 1e6 : 1e4;
    float base, local;
    const json_t *at = json_object_get(rope, "rope_theta") ? rope : c->config;
    if (convert__f32(at, "rope_theta", absent, 1, 1e12, &base, e)) return e->code;
    put_u32(c, "rope.dimension_count", c->dims.d_head);
    put_f32(c, "rope.freq_base", base);
    if (scaling_keys(c, rope, e)) return e->code;
    if (c->family != CONVERT__GEMMA3) return 0;
    const json_t *sliding = json_object_get(all, "sliding_attention");
    if (convert__f32(c->config, "rope_local_base_freq", 1e4, 1, 1e12, &local, e) ||
        convert__f32(sliding, "rope_theta", (double)local, 1, 1e12, &local, e))
        return e->code;
    if (local != 1e4f) put_f32(c, "rope.freq_base_swa", local);
    return 0;
}

/* Every period-th layer of Gemma 3 sees all; the period, or 0 where its layers have none. */
static int gemma_period(const struct convert *c, uint32_t *period, struct err *e)
{
    const json_t *types = json_object_get(c->config, "layer_types");
    uint32_t n = (uint32_t)json_array_size(types);
    if (convert__u32(c->config, "sliding_window_pattern", 6, 1, 1024, period, e)) return e->code;
    if (!n) return 0;
    uint32_t first = 0;
    for (; first < n; first++) {
        const char *t = json_string_value(json_array_get(types, first));
        if (t && strcmp(t, "full_attention") == 0) break;
    }
    *period = first + 1;
    for (uint32_t i = 0; i < n; i++) {
        const char *t = json_string_value(json_array_get(types, i));
        const char *want = i % *period == first ? "full_attention" : "sliding_attention";
        if (!t || strcmp(t, want) != 0)
            return err_set(e, ERR_UNSUPPORTED,
                           "config.json: layer %u is %.40s where every %uth "
                           "layer before is full_attention",
                           i, t ? t : "(nothing)", *period);
    }
    return 0;
}

static int window_keys(struct convert *c, struct err *e)
{
    uint32_t window, period;
    bool mistral = strcmp(c->model, "MistralForCausalLM") == 0 || c->dims.experts;
    if (!(c->family & CONVERT__GEMMA) && !mistral) return 0;
    uint32_t absent = c->family == CONVERT__GEMMA2 ? 4096 : 0;
    if (convert__u32(c->config, "sliding_window", absent, 0, 1 << 24, &window, e)) return e->code;
    if (c->family == CONVERT__GEMMA3) {
        if (gemma_period(c, &period, e)) return e->code;
        if (period == 1) window = 0;
        if (window && period != 6) put_u32(c, "attention.sliding_window_pattern", period);
    }
    if (window) put_u32(c, "attention.sliding_window", window);
    return 0;
}

static int decoder_keys(struct convert *c, struct err *e)
{
    const struct convert__dims *d = &c->dims;
    float eps;
    if (convert__f32(c->config, "rms_norm_eps", 1e-6, 0, 1, &eps, e)) return e->code;
    put_f32(c, "attention.layer_norm_rms_epsilon", eps);
    put_u32(c, "attention.key_length", d->d_head);
    put_u32(c, "attention.value_length", d->d_head);
    put_u32(c, "vocab_size", d->vocab);
    if (d->experts) {
        put_u32(c, "expert_count", d->experts);
        put_u32(c, "expert_used_count", d->experts_used);
    }
    if (rope_keys(c, e) || window_keys(c, e)) return e->code;
    if (!(c->family & CONVERT__GEMMA)) return 0;
    if (pass_f32(c, c->config, "final_logit_softcapping", "final_logit_softcapping", e))
        return e->code;
    if (c->family == CONVERT__GEMMA3) return 0;
    return pass_f32(c, c->config, "attn_logit_softcapping", "attn_logit_softcapping", e);
}

/* How the rows of a sentence encoder become one: modules.json names the folder that says it. */
static int pooling(const struct convert *c, uint32_t *out, struct err *e)
{
    static const struct {
        const char *flag, *mode;
        uint32_t value;
    } modes[] = {{"pooling_mode_mean_tokens", "mean", 1},
                 {"pooling_mode_cls_token", "cls", 2},
                 {"pooling_mode_lasttoken", "lasttoken", 3}};
    json_t *modules, *j = NULL, *m;
    size_t i;
    char name[300];
    const char *path = NULL;
    *out = 0;
    if (convert__json(c->dir, "modules.json", false, &modules, e)) return e->code;
    json_array_foreach(modules, i, m)
    {
        const char *type = convert__str(m, "type");
        size_t n = type ? strlen(type) : 0;
        if (n >= 7 && strcmp(type + n - 7, "Pooling") == 0) path = convert__str(m, "path");
    }
    int rc = 0;
    if (path) {
        bool plain = strlen(path) < 256 && *path && *path != '.' && !strchr(path, '/');
        snprintf(name, sizeof name, "%.255s/config.json", path);
        rc = plain
                 ? convert__json(c->dir, name, true, &j, e)
                 : err_set(e, ERR_FORMAT, "modules.json: \"%.100s\" is no name of a folder", path);
        const char *mode = convert__str(j, "pooling_mode");
        for (i = 0; i < 3 && !*out; i++)
            if (json_is_true(json_object_get(j, modes[i].flag)) ||
                (mode && strcmp(mode, modes[i].mode) == 0))
                *out = modes[i].value;
        if (!rc && !*out)
            rc = err_set(e, ERR_UNSUPPORTED, "%s: neither mean, cls nor lasttoken", name);
    }
    json_decref(j);
    json_decref(modules);
    return rc;
}

static int bert_keys(struct convert *c, struct err *e)
{
    float eps;
    uint32_t pool;
    char k[96];
    if (convert__f32(c->config, "layer_norm_eps", 1e-12, 0, 1, &eps, e) || pooling(c, &pool, e))
        return e->code;
    put_f32(c, "attention.layer_norm_epsilon", eps);
    key(c, k, "attention.causal");
    gguf_write_bool(c->w, k, false);
    if (pool) put_u32(c, "pooling_type", pool);
    gguf_write_u32(c->w, "tokenizer.ggml.token_type_count", c->dims.types);
    return 0;
}

/* The folder's own name: what people know the model by. */
static void put_name(struct convert *c)
{
    size_t n = strlen(c->dir);
    while (n > 1 && c->dir[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && c->dir[from - 1] != '/') from--;
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)(n - from < 255 ? n - from : 255), c->dir + from);
    gguf_write_str(c->w, "general.name", name);
}

int convert__keys_write(struct convert *c, struct err *e)
{
    const struct convert__dims *d = &c->dims;
    uint32_t file_type;
    if (convert__mix_find(c->opts->type, &file_type, e)) return e->code;
    gguf_write_str(c->w, "general.architecture", c->arch);
    gguf_write_str(c->w, "general.type", "model");
    put_name(c);
    gguf_write_u32(c->w, "general.file_type", file_type);
    gguf_write_u32(c->w, "general.quantization_version", 2);
    put_u32(c, "block_count", d->layers);
    put_u32(c, "context_length", d->ctx);
    put_u32(c, "embedding_length", d->d);
    put_u32(c, "feed_forward_length", d->ff);
    put_u32(c, "attention.head_count", d->heads);
    if (c->family == CONVERT__BERT) return bert_keys(c, e);
    put_u32(c, "attention.head_count_kv", d->kv_heads);
    return decoder_keys(c, e);
}

/* Llama 3.1's scaling (Grattafiori et al. 2024): long waves are slowed by factor, short ones kept,
 * those between by a mean of both that is linear in the number of turns in the old context. */
int convert__rope_factors(struct convert *c, const float **out, struct err *e)
{
    const json_t *rope = rope_settings(c);
    const char *type = rope_type(rope);
    float base, factor, low, high;
    uint32_t ctx, n = c->dims.d_head / 2;
    *out = NULL;
    if (!type || strcmp(type, "llama3") != 0 || !(c->family & CONVERT__DECODER)) return 0;
    const json_t *at = json_object_get(rope, "rope_theta") ? rope : c->config;
    if (convert__f32(at, "rope_theta", 1e4, 1, 1e12, &base, e) ||
        convert__f32(rope, "factor", 8, 1e-3, 1e6, &factor, e) ||
        convert__f32(rope, "low_freq_factor", 1, 1e-3, 1e6, &low, e) ||
        convert__f32(rope, "high_freq_factor", 4, 1e-3, 1e6, &high, e) ||
        convert__u32(rope, "original_max_position_embeddings", 8192, 1, 1 << 24, &ctx, e))
        return e->code;
    float *f = arena_alloc(&c->arena, n, sizeof *f);
    if (!f) return err_nomem(e, n * sizeof *f, "RoPE factors");
    for (uint32_t i = 0; i < n; i++) {
        double turns = ctx * pow((double)base, -2.0 * i / c->dims.d_head) / (2 * M_PI);
        if (turns > (double)high)
            f[i] = 1;
        else if (turns < (double)low || high == low)
            f[i] = factor;
        else {
            double near = (turns - (double)low) / ((double)high - (double)low);
            f[i] = (float)(1 / ((1 - near) / (double)factor + near));
        }
    }
    *out = f;
    return 0;
}
