/* Which type each tensor gets: llama.cpp's mixtures, so that a q4_k_m of ours has the same tensors in
 * the same types as one of theirs. Vectors, norms, routers, positions and token types stay float32;
 * of the matrices those that cost the most accuracy get more bits. A row that is no whole number of
 * blocks gets a type of about as many bits whose blocks fit, and a note. mxfp4 differs: llama.cpp has it
 * for experts only, here all matrices but the head take it.
 */
#include "convert_int.h"

#include <stdio.h>
#include <string.h>

enum mix { /* numbers of GGUF's general.file_type */
           MIX_F32 = 0,
           MIX_F16 = 1,
           MIX_Q4_0 = 2,
           MIX_Q4_1 = 3,
           MIX_Q8_0 = 7,
           MIX_Q5_0 = 8,
           MIX_Q5_1 = 9,
           MIX_Q2_K = 10,
           MIX_Q3_K_S = 11,
           MIX_Q3_K_M = 12,
           MIX_Q3_K_L = 13,
           MIX_Q4_K_S = 14,
           MIX_Q4_K_M = 15,
           MIX_Q5_K_S = 16,
           MIX_Q5_K_M = 17,
           MIX_Q6_K = 18,
           MIX_Q2_K_S = 21,
           MIX_IQ4_NL = 25,
           MIX_IQ4_XS = 30,
           MIX_BF16 = 32,
           MIX_MXFP4 = 38,
};

static const struct {
    const char *name;
    enum mix mix;
    uint32_t type; /* of most matrices */
} mixes[] = {
    {"f32", MIX_F32, QUANT_F32},          {"f16", MIX_F16, QUANT_F16},
    {"bf16", MIX_BF16, QUANT_BF16},       {"q8_0", MIX_Q8_0, QUANT_Q8_0},
    {"q6_k", MIX_Q6_K, QUANT_Q6_K},       {"q5_k_m", MIX_Q5_K_M, QUANT_Q5_K},
    {"q5_k_s", MIX_Q5_K_S, QUANT_Q5_K},   {"q5_1", MIX_Q5_1, QUANT_Q5_1},
    {"q5_0", MIX_Q5_0, QUANT_Q5_0},       {"q4_k_m", MIX_Q4_K_M, QUANT_Q4_K},
    {"q4_k_s", MIX_Q4_K_S, QUANT_Q4_K},   {"iq4_xs", MIX_IQ4_XS, QUANT_IQ4_XS},
    {"iq4_nl", MIX_IQ4_NL, QUANT_IQ4_NL}, {"mxfp4", MIX_MXFP4, QUANT_MXFP4},
    {"q4_1", MIX_Q4_1, QUANT_Q4_1},       {"q4_0", MIX_Q4_0, QUANT_Q4_0},
    {"q3_k_l", MIX_Q3_K_L, QUANT_Q3_K},   {"q3_k_m", MIX_Q3_K_M, QUANT_Q3_K},
    {"q3_k_s", MIX_Q3_K_S, QUANT_Q3_K},   {"q2_k", MIX_Q2_K, QUANT_Q2_K},
    {"q2_k_s", MIX_Q2_K_S, QUANT_Q2_K},
};

enum { MIXES = sizeof mixes / sizeof *mixes };

const char *convert_type_name(int i)
{
    return i >= 0 && i < MIXES ? mixes[i].name : NULL;
}

static int find(const char *name, struct err *e)
{
    for (int i = 0; i < MIXES; i++)
        if (strcasecmp(name, mixes[i].name) == 0) return i;
    char list[200] = "";
    for (int i = 0; i < MIXES; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), " %s", mixes[i].name);
    return err_set(e, ERR_USAGE, "type '%.40s' is none of:%s", name, list);
}

int convert__mix_find(const char *name, uint32_t *file_type, struct err *e)
{
    int i = find(name, e);
    if (i < 0) return i;
    *file_type = mixes[i].mix;
    return 0;
}

/* Stays float32 whatever the mixture. */
static bool is_small(const struct convert__tensor *t)
{
    return t->n_dims == 1 || strstr(t->name, "_norm.weight") || strstr(t->name, "ffn_gate_inp") ||
           strcmp(t->name, "position_embd.weight") == 0 ||
           strcmp(t->name, "token_types.weight") == 0;
}

/* The layers whose weights matter most: the first and last eighth, and every third between. */
static bool is_key_layer(int l, int n)
{
    return l < n / 8 || l >= 7 * n / 8 || (l - n / 8) % 3 == 2;
}

static uint32_t head_type(uint32_t type, enum mix mix, uint64_t k)
{
    if (type == QUANT_Q8_0 || mix == MIX_MXFP4 || k % quant_block(type)) return QUANT_Q8_0;
    return QUANT_Q6_K;
}

static uint32_t values_type(const struct convert__dims *d, uint32_t type, enum mix mix, int l)
{
    int n = (int)d->layers;
    bool shared = d->heads / d->kv_heads >= 4;
    if (mix == MIX_Q2_K) type = shared ? QUANT_Q4_K : QUANT_Q3_K;
    if (mix == MIX_Q2_K_S && shared) type = QUANT_Q4_K;
    if (mix == MIX_Q3_K_M) type = l < 2 ? QUANT_Q5_K : QUANT_Q4_K;
    if (mix == MIX_Q3_K_L) type = QUANT_Q5_K;
    if ((mix == MIX_IQ4_NL || mix == MIX_IQ4_XS) && shared) type = QUANT_Q5_K;
    if ((mix == MIX_Q4_K_M || mix == MIX_Q5_K_M) && is_key_layer(l, n)) type = QUANT_Q6_K;
    if (mix == MIX_Q4_K_S && l < 4) type = QUANT_Q5_K;
    /* 70B: eight heads share these few rows. */
    if (n == 80 && (type == QUANT_Q3_K || type == QUANT_Q4_K)) type = QUANT_Q5_K;
    return d->experts == 8 ? QUANT_Q8_0 : type;
}

static uint32_t down_type(const struct convert__dims *d, uint32_t type, enum mix mix, int l)
{
    int n = (int)d->layers;
    switch (mix) {
    case MIX_Q2_K: return QUANT_Q3_K;
    case MIX_Q2_K_S: return l < n / 8 ? QUANT_Q4_K : type;
    case MIX_Q3_K_M: return l < n / 16 ? QUANT_Q5_K : QUANT_Q4_K;
    case MIX_Q3_K_L: return QUANT_Q5_K;
    case MIX_Q4_K_S:
    case MIX_IQ4_NL:
    case MIX_IQ4_XS: return l < n / 8 ? QUANT_Q5_K : type;
    case MIX_Q4_K_M:
    case MIX_Q5_K_M: return is_key_layer(l, n) ? QUANT_Q6_K : type;
    default: return type;
    }
}

static uint32_t output_type(const struct convert__dims *d, uint32_t type, enum mix mix)
{
    if (d->experts == 8) {
        bool low = mix == MIX_Q2_K || mix == MIX_Q3_K_S || mix == MIX_Q3_K_M || mix == MIX_Q4_K_S ||
                   mix == MIX_Q4_K_M || mix == MIX_IQ4_NL || mix == MIX_IQ4_XS;
        return low ? QUANT_Q5_K : type;
    }
    return mix == MIX_Q2_K     ? QUANT_Q3_K
           : mix == MIX_Q3_K_M ? QUANT_Q4_K
           : mix == MIX_Q3_K_L ? QUANT_Q5_K
                               : type;
}

/* A type of about as many bits whose blocks fit a row of k. */
static uint32_t fallback(uint32_t type, uint64_t k)
{
    static const uint32_t small[QUANT_TYPE_END] = {
        [QUANT_Q2_K] = QUANT_Q4_0, [QUANT_Q3_K] = QUANT_Q4_0, [QUANT_Q4_K] = QUANT_Q5_0,
        [QUANT_Q5_K] = QUANT_Q5_1, [QUANT_Q6_K] = QUANT_Q8_0, [QUANT_IQ4_XS] = QUANT_IQ4_NL,
    };
    if (k % quant_block(type) == 0) return type;
    return small[type] && k % quant_block(small[type]) == 0 ? small[type] : QUANT_F16;
}

static uint32_t choose(const struct convert *c, const struct convert__tensor *t, uint32_t type,
                       enum mix mix, bool tied)
{
    int l = 0;
    char part[48] = "";
    if (quant_block(type) == 1) return type;
    if (strcmp(t->name, "output.weight") == 0 ||
        (tied && strcmp(t->name, "token_embd.weight") == 0))
        return head_type(type, mix, t->dim[0]);
    if (mix == MIX_MXFP4 || sscanf(t->name, "blk.%d.%47s", &l, part) != 2) return type;
    if (strcmp(part, "attn_v.weight") == 0) return values_type(&c->dims, type, mix, l);
    if (strcmp(part, "attn_k.weight") == 0) return c->dims.experts == 8 ? QUANT_Q8_0 : type;
    if (strncmp(part, "ffn_down", 8) == 0) return down_type(&c->dims, type, mix, l);
    if (strcmp(part, "attn_output.weight") == 0) return output_type(&c->dims, type, mix);
    return type;
}

/* One line for all tensors that got `type` instead of `want`. */
static void note_fallback(const struct convert *c, uint32_t want, uint32_t type, size_t n)
{
    if (n)
        convert__note(c, "rows of %zu tensor%s are no whole blocks of %u values: %s instead of %s",
                      n, n == 1 ? "" : "s", quant_block(want), quant_name(type), quant_name(want));
}

int convert__mix_apply(struct convert *c, struct err *e)
{
    size_t fell[QUANT_TYPE_END][QUANT_TYPE_END] = {0};
    int m = find(c->opts->type, e);
    if (m < 0) return m;
    bool tied = true;
    for (size_t i = 0; i < c->n; i++) tied &= strcmp(c->tensors[i].name, "output.weight") != 0;
    for (size_t i = 0; i < c->n; i++) {
        struct convert__tensor *t = &c->tensors[i];
        t->type = QUANT_F32;
        if (is_small(t)) continue;
        uint32_t want = choose(c, t, mixes[m].type, mixes[m].mix, tied);
        t->type = fallback(want, t->dim[0]);
        if (t->type != want) fell[want][t->type]++;
    }
    for (uint32_t want = 0; want < QUANT_TYPE_END; want++)
        for (uint32_t type = 0; type < QUANT_TYPE_END; type++)
            note_fallback(c, want, type, fell[want][type]);
    return 0;
}
