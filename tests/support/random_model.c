/* Hugging Face folders of seeded random weights, for tests and benchmarks.
 *
 *     random_model --shape NAME [--seed N] [--parts N] FOLDER
 *     random_model --list
 *
 * Writes config.json, tokenizer.json, tokenizer_config.json, safetensors in BF16 (in N parts with an index) at
 * the real shape of a published model, or of a tiny one of each family. Weights are near normal with the
 * deviation that keeps activations near 1; the tokenizer is valid and has the right number of tokens:
 * byte-level BPE, pieces with byte fallback for Gemma, WordPiece for BERT. The same seed gives the same bytes.
 *
 * So that rounding shows in the logits as it does in trained models, two things are as there: the layers behind
 * the first add little to the residual stream (16 equal ones amplify an error four times), and the head's gain
 * leaves the next token some 4 nats of entropy (with logits of deviation 2 it has 10, and hardly a likeliest
 * token). Gemma is left out: its norms behind each layer fix the former, its scaled embeddings the latter.
 */
#include "quant.h"
#include "rng.h"
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LLAMA3_ROPE(theta, factor, context)                                                       \
    "\"rope_theta\":" theta ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":" factor      \
    ",\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":" context \
    "},"

static const struct shape {
    const char *name, *model;
    int layers, d, heads, kv, d_head, ff, vocab, experts, window;
    bool tied;
    const char *more; /* of config.json */
} shapes[] = {
    {"llama-1b", "LlamaForCausalLM", 16, 2048, 32, 8, 64, 8192, 128256, 0, 0, true,
     LLAMA3_ROPE("500000", "32", "8192")},
    {"llama-3b", "LlamaForCausalLM", 28, 3072, 24, 8, 128, 8192, 128256, 0, 0, true,
     LLAMA3_ROPE("500000", "32", "8192")},
    {"llama-8b", "LlamaForCausalLM", 32, 4096, 32, 8, 128, 14336, 128256, 0, 0, false,
     "\"rope_theta\":500000,"},
    {"mistral-7b", "MistralForCausalLM", 32, 4096, 32, 8, 128, 14336, 32768, 0, 0, false,
     "\"rope_theta\":1000000,"},
    {"qwen2-0.5b", "Qwen2ForCausalLM", 24, 896, 14, 2, 64, 4864, 151936, 0, 0, true,
     "\"rope_theta\":1000000,"},
    {"qwen2-1.5b", "Qwen2ForCausalLM", 28, 1536, 12, 2, 128, 8960, 151936, 0, 0, true,
     "\"rope_theta\":1000000,"},
    {"qwen3-0.6b", "Qwen3ForCausalLM", 28, 1024, 16, 8, 128, 3072, 151936, 0, 0, true,
     "\"rope_theta\":1000000,"},
    {"gemma3-270m", "Gemma3ForCausalLM", 18, 640, 4, 1, 256, 2048, 262144, 0, 512, true,
     "\"rope_theta\":1000000,"},
    {"minilm", "BertModel", 6, 384, 12, 12, 32, 1536, 30522, 0, 0, true, ""},
    {"llama-tiny", "LlamaForCausalLM", 4, 256, 4, 2, 64, 512, 320, 0, 0, false,
     LLAMA3_ROPE("10000", "8", "64")},
    {"llama-narrow", "LlamaForCausalLM", 2, 96, 3, 1, 32, 160, 320, 0, 0, true, ""},
    {"mistral-tiny", "MistralForCausalLM", 2, 64, 4, 2, 16, 96, 320, 0, 4, false, ""},
    {"mixtral-tiny", "MixtralForCausalLM", 2, 64, 4, 2, 16, 96, 320, 4, 0, false,
     "\"num_local_experts\":4,\"num_experts_per_tok\":2,\"rope_theta\":1000000,"},
    {"qwen2-tiny", "Qwen2ForCausalLM", 2, 64, 4, 2, 16, 96, 320, 0, 0, true,
     "\"rope_theta\":1000000,"},
    {"qwen3-tiny", "Qwen3ForCausalLM", 2, 64, 4, 2, 32, 96, 320, 0, 0, true,
     "\"rope_theta\":1000000,"},
    {"gemma2-tiny", "Gemma2ForCausalLM", 2, 64, 4, 2, 32, 96, 400, 0, 4, true,
     "\"attn_logit_softcapping\":50.0,\"final_logit_softcapping\":30.0,"},
    {"gemma3-tiny", "Gemma3ForCausalLM", 4, 64, 4, 2, 32, 96, 400, 0, 4, true,
     "\"rope_theta\":1000000,\"rope_local_base_freq\":10000,\"sliding_window_pattern\":2,"},
    {"bert-tiny", "BertModel", 2, 64, 4, 4, 16, 96, 200, 0, 0, true, ""},
};

enum { SHAPES = sizeof shapes / sizeof *shapes, CONTEXT = 131072, BERT_CONTEXT = 512, TYPES = 2 };

struct tensor {
    char name[160];
    long rows, cols; /* cols 0: a vector */
    float mean, deviation;
};

struct maker {
    const struct shape *s;
    const char *dir;
    unsigned long seed;
    int parts;
    struct tensor *t;
    size_t n;
};

static void die(const char *what, const char *name)
{
    fprintf(stderr, "random_model: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

static FILE *create(const struct maker *m, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", m->dir, name);
    FILE *f = fopen(path, "we");
    if (!f) die("cannot create", path);
    return f;
}

static void finish(FILE *f, const char *name)
{
    if (fclose(f)) die("cannot write", name);
}

static bool is(const struct maker *m, const char *family)
{
    return strncmp(m->s->model, family, strlen(family)) == 0;
}

static void matrix(struct maker *m, const char *name, long rows, long cols, float gain)
{
    struct tensor t = {.rows = rows, .cols = cols, .deviation = gain / sqrtf((float)cols)};
    m->t = realloc(m->t, (m->n + 1) * sizeof *m->t);
    if (!m->t) die("no memory for", name);
    snprintf(t.name, sizeof t.name, "%s", name);
    m->t[m->n++] = t;
}

static void vector(struct maker *m, const char *name, long n, float mean)
{
    matrix(m, name, n, 0, 0);
    m->t[m->n - 1].mean = mean;
    m->t[m->n - 1].deviation = 0.1f;
}

/* A linear layer of BERT. */
static void linear(struct maker *m, const char *name, long rows, long cols)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    matrix(m, full, rows, cols, 1);
    snprintf(full, sizeof full, "%s.bias", name);
    vector(m, full, rows, 0);
}

static void layer_norm(struct maker *m, const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    vector(m, full, m->s->d, 1);
    snprintf(full, sizeof full, "%s.bias", name);
    vector(m, full, m->s->d, 0);
}

static void bert(struct maker *m)
{
    const struct shape *s = m->s;
    char name[96];
    matrix(m, "embeddings.word_embeddings.weight", s->vocab, s->d, 8);
    matrix(m, "embeddings.position_embeddings.weight", BERT_CONTEXT, s->d, 2);
    matrix(m, "embeddings.token_type_embeddings.weight", TYPES, s->d, 2);
    layer_norm(m, "embeddings.LayerNorm");
    for (int l = 0; l < s->layers; l++) {
        static const struct {
            const char *name;
            int rows, cols; /* 1: of d, 2: of ff */
        } parts[] = {{"attention.self.query", 1, 1}, {"attention.self.key", 1, 1},
                     {"attention.self.value", 1, 1}, {"attention.output.dense", 1, 1},
                     {"intermediate.dense", 2, 1},   {"output.dense", 1, 2}};
        for (size_t i = 0; i < 6; i++) {
            snprintf(name, sizeof name, "encoder.layer.%d.%s", l, parts[i].name);
            linear(m, name, parts[i].rows == 1 ? s->d : s->ff, parts[i].cols == 1 ? s->d : s->ff);
        }
        snprintf(name, sizeof name, "encoder.layer.%d.attention.output.LayerNorm", l);
        layer_norm(m, name);
        snprintf(name, sizeof name, "encoder.layer.%d.output.LayerNorm", l);
        layer_norm(m, name);
    }
}

/* Of the matrices that write into the residual stream: all later layers together add half of the first's power. */
static float write_gain(const struct shape *s, int l)
{
    return l ? 1 / sqrtf(2 * (float)s->layers) : 1;
}

/* Normal logits of this deviation have an entropy of log vocab - deviation^2 / 2 = 4 nats. */
static float head_gain(const struct maker *m)
{
    return is(m, "Gemma") ? 0.5f : sqrtf(2 * (logf((float)m->s->vocab) - 4));
}

static void feed_forward(struct maker *m, int l)
{
    const struct shape *s = m->s;
    char name[96];
    static const char *const dense[] = {"gate_proj", "up_proj", "down_proj"}, *const moe[] = {
                                                                                  "w1", "w3", "w2"};
    if (s->experts) {
        snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.gate.weight", l);
        matrix(m, name, s->experts, s->d, 2);
    }
    for (int e = 0; e < (s->experts ? s->experts : 1); e++)
        for (int i = 0; i < 3; i++) {
            if (s->experts)
                snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.experts.%d.%s.weight",
                         l, e, moe[i]);
            else
                snprintf(name, sizeof name, "model.layers.%d.mlp.%s.weight", l, dense[i]);
            matrix(m, name, i == 2 ? s->d : s->ff, i == 2 ? s->ff : s->d,
                   i == 2 ? 2 * write_gain(s, l) : 1);
        }
}

static void decoder(struct maker *m)
{
    const struct shape *s = m->s;
    char name[96];
    bool gemma = is(m, "Gemma"), head_norms = is(m, "Qwen3") || is(m, "Gemma3");
    float one = gemma ? 0 : 1;
    matrix(m, "model.embed_tokens.weight", s->vocab, s->d, head_gain(m));
    for (int l = 0; l < s->layers; l++) {
        static const char *const proj[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
        static const char *const norms[] = {"input_layernorm", "post_attention_layernorm",
                                            "pre_feedforward_layernorm",
                                            "post_feedforward_layernorm"};
        for (int i = 0; i < (gemma ? 4 : 2); i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, norms[i]);
            vector(m, name, s->d, one);
        }
        for (int i = 0; i < 4; i++) {
            long rows = i == 3 ? s->d : (i == 0 ? s->heads : s->kv) * s->d_head;
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%s.weight", l, proj[i]);
            matrix(m, name, rows, i == 3 ? s->heads * s->d_head : s->d,
                   i == 3 ? 1.3f * write_gain(s, l) : 1.3f);
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%s.bias", l, proj[i]);
            if (is(m, "Qwen2") && i < 3) vector(m, name, rows, 0);
        }
        for (int i = 0; i < (head_norms ? 2 : 0); i++) {
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%c_norm.weight", l, "qk"[i]);
            vector(m, name, s->d_head, one);
        }
        feed_forward(m, l);
    }
    vector(m, "model.norm.weight", s->d, one);
    if (!s->tied) matrix(m, "lm_head.weight", s->vocab, s->d, head_gain(m));
}

/* Near normal: the sum of four uniform numbers of 16 bits. */
static void write_values(FILE *f, const struct tensor *t, struct rng *r)
{
    uint16_t out[4096];
    size_t left = (size_t)t->rows * (size_t)(t->cols ? t->cols : 1);
    float scale = t->deviation / (65536 * sqrtf(1.0f / 3));
    while (left) {
        size_t n = left < 4096 ? left : 4096;
        for (size_t i = 0; i < n; i++) {
            uint64_t u = rng_u64(r);
            int64_t sum = (int64_t)(u & 65535) + (int64_t)(u >> 16 & 65535) +
                          (int64_t)(u >> 32 & 65535) + (int64_t)(u >> 48);
            out[i] = quant_f32_to_bf16(t->mean + (float)(sum - 131070) * scale);
        }
        if (fwrite(out, 2, n, f) != n) die("cannot write", t->name);
        left -= n;
    }
}

static void write_part(const struct maker *m, const char *name, size_t from, size_t to)
{
    FILE *f = create(m, name);
    char *header = NULL;
    size_t len = 0;
    uint64_t at = 0;
    FILE *h = open_memstream(&header, &len);
    if (!h) die("no memory for", name);
    fputc('{', h);
    for (size_t i = from; i < to; i++) {
        const struct tensor *t = &m->t[i];
        uint64_t bytes = 2ull * (uint64_t)t->rows * (uint64_t)(t->cols ? t->cols : 1);
        fprintf(h, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%ld", i > from ? "," : "", t->name,
                t->rows);
        if (t->cols) fprintf(h, ",%ld", t->cols);
        fprintf(h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                (unsigned long long)(at + bytes));
        at += bytes;
    }
    fputc('}', h);
    while (ftell(h) % 8) fputc(' ', h);
    fclose(h);
    uint64_t n = len;
    fwrite(&n, sizeof n, 1, f);
    fwrite(header, 1, len, f);
    for (size_t i = from; i < to; i++) {
        struct rng r;
        rng_init(&r, m->seed * 1000003 + i);
        write_values(f, &m->t[i], &r);
    }
    free(header);
    finish(f, name);
}

static void part_name(const struct maker *m, int part, char out[64])
{
    snprintf(out, 64, m->parts == 1 ? "model.safetensors" : "model-%05d-of-%05d.safetensors",
             part + 1, m->parts);
}

static void write_weights(const struct maker *m)
{
    char name[64];
    FILE *index = m->parts > 1 ? create(m, "model.safetensors.index.json") : NULL;
    if (index) fprintf(index, "{\"metadata\":{},\"weight_map\":{");
    for (int p = 0; p < m->parts; p++) {
        size_t parts = (size_t)m->parts, from = m->n * (size_t)p / parts;
        size_t to = m->n * (size_t)(p + 1) / parts;
        part_name(m, p, name);
        write_part(m, name, from, to);
        for (size_t i = from; index && i < to; i++)
            fprintf(index, "%s\"%s\":\"%s\"", i ? ",\n" : "", m->t[i].name, name);
    }
    if (index) fprintf(index, "}}\n");
    if (index) finish(index, "model.safetensors.index.json");
}

static void write_config(const struct maker *m)
{
    const struct shape *s = m->s;
    bool is_bert = is(m, "Bert"), gemma = is(m, "Gemma");
    FILE *f = create(m, "config.json");
    fprintf(f, "{\"architectures\":[\"%s\"],\"num_hidden_layers\":%d,\"hidden_size\":%d,", s->model,
            s->layers, s->d);
    fprintf(f, "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"head_dim\":%d,", s->heads,
            s->kv, s->d_head);
    fprintf(f, "\"intermediate_size\":%d,\"vocab_size\":%d,%s", s->ff, s->vocab, s->more);
    if (s->window) fprintf(f, "\"sliding_window\":%d,", s->window);
    fprintf(f, "\"max_position_embeddings\":%d,\"tie_word_embeddings\":%s,",
            is_bert ? BERT_CONTEXT : CONTEXT, s->tied ? "true" : "false");
    if (is_bert)
        fprintf(f, "\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-12,\"type_vocab_size\":%d}\n",
                TYPES);
    else
        fprintf(f, "\"%s\":\"%s\",\"rms_norm_eps\":1e-6,\"bos_token_id\":0,\"eos_token_id\":1}\n",
                gemma ? "hidden_activation" : "hidden_act", gemma ? "gelu_pytorch_tanh" : "silu");
    finish(f, "config.json");
    if (!is_bert) return;
    f = create(m, "modules.json");
    fprintf(f, "[{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}]\n");
    finish(f, "modules.json");
    char path[4096];
    snprintf(path, sizeof path, "%s/1_Pooling", m->dir);
    if (mkdir(path, 0777) && errno != EEXIST) die("cannot create", path);
    f = create(m, "1_Pooling/config.json");
    fprintf(f, "{\"pooling_mode_mean_tokens\":true}\n");
    finish(f, "1_Pooling/config.json");
}

/* ---- tokenizers: symbols, then pairs of symbols, then pairs and a symbol, as many as are wanted ---- */

enum { SYMBOLS_MAX = 256 };

struct symbols {
    char text[SYMBOLS_MAX][16]; /* as they stand in JSON */
    int n;
};

/* The characters that stand for bytes in byte-level BPE, small letters first. */
static void byte_symbols(struct symbols *s)
{
    int next = 256;
    int code[256];
    for (int b = 0; b < 256; b++) {
        bool shown = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        code[b] = shown ? b : next++;
    }
    for (s->n = 0; s->n < 256; s->n++)
        snprintf(s->text[s->n], sizeof s->text[0], "\\u%04x", code[(s->n + 'a') & 255]);
}

static void piece_symbols(struct symbols *s)
{
    s->n = 0;
    snprintf(s->text[s->n++], sizeof s->text[0], "\\u2581");
    for (int b = 33; b < 127; b++) {
        int at = 33 + (b - 33 + 'a' - 33) % 94;
        snprintf(s->text[s->n++], sizeof s->text[0], "\\u%04x", at);
    }
}

/* Parts of merge i; false behind the last there can be. */
static bool merge(const struct symbols *s, long i, char left[32], const char **right)
{
    long n = s->n, pairs = n * n;
    if (i < pairs)
        snprintf(left, 32, "%s", s->text[i / n]);
    else
        snprintf(left, 32, "%s%s", s->text[(i - pairs) / n / n], s->text[(i - pairs) / n % n]);
    *right = s->text[i % n];
    return i < pairs + pairs * n;
}

static void write_bpe(const struct maker *m, FILE *f)
{
    struct symbols s;
    bool pieces = is(m, "Gemma");
    const char *right;
    char left[32];
    int id = 3;
    pieces ? piece_symbols(&s) : byte_symbols(&s);
    fprintf(f, "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},"
               "{\"id\":1,\"content\":\"</s>\",\"special\":true},"
               "{\"id\":2,\"content\":\"<unk>\",\"special\":true}],\n");
    if (pieces)
        fprintf(f, "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                   "\"content\":\"\\u2581\"},\"pre_tokenizer\":null,\n");
    else
        fprintf(f, "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\n");
    fprintf(f, "\"model\":{\"type\":\"BPE\",\"byte_fallback\":%s,\"unk_token\":%s,\"vocab\":{\n",
            pieces ? "true" : "false", pieces ? "\"<unk>\"" : "null");
    fprintf(f, "\"<s>\":0,\"</s>\":1,\"<unk>\":2");
    for (int b = 0; pieces && b < 256; b++) fprintf(f, ",\"<0x%02X>\":%d", b, id++);
    for (int i = 0; i < s.n; i++) fprintf(f, ",\"%s\":%d", s.text[i], id++);
    int merges = m->s->vocab - id;
    for (long i = 0; i < merges && merge(&s, i, left, &right); i++)
        fprintf(f, ",\n\"%s%s\":%d", left, right, id++);
    fprintf(f, "},\"merges\":[");
    for (long i = 0; i < merges && merge(&s, i, left, &right); i++)
        fprintf(f, "%s\n\"%s %s\"", i ? "," : "", left, right);
    fprintf(f, "]}}\n");
}

static void write_wordpiece(const struct maker *m, FILE *f)
{
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    int id = 0;
    fprintf(f, "{\"added_tokens\":[");
    for (int i = 0; i < 5; i++)
        fprintf(f, "%s{\"id\":%d,\"content\":\"%s\",\"special\":true}", i ? "," : "", i,
                special[i]);
    fprintf(f,
            "],\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},\n\"pre_tokenizer\":"
            "{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":"
            "\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\n");
    for (; id < 5; id++) fprintf(f, "%s\"%s\":%d", id ? "," : "", special[id], id);
    for (int c = 0; c < 26; c++)
        fprintf(f, ",\"%c\":%d,\"##%c\":%d", 'a' + c, id + 2 * c, 'a' + c, id + 2 * c + 1);
    id += 52;
    for (int i = 0; id < m->s->vocab && i < 26 * 26 * 26; i++, id++)
        fprintf(f, ",\n\"##%c%c%c\":%d", 'a' + i / 676, 'a' + i / 26 % 26, 'a' + i % 26, id);
    fprintf(f, "}}}\n");
}

static void write_tokenizer(const struct maker *m)
{
    bool is_bert = is(m, "Bert");
    FILE *f = create(m, "tokenizer.json");
    is_bert ? write_wordpiece(m, f) : write_bpe(m, f);
    finish(f, "tokenizer.json");
    f = create(m, "tokenizer_config.json");
    if (is_bert)
        fprintf(f, "{\"cls_token\":\"[CLS]\",\"sep_token\":\"[SEP]\",\"pad_token\":\"[PAD]\","
                   "\"unk_token\":\"[UNK]\",\"mask_token\":\"[MASK]\"}\n");
    else
        fprintf(
            f,
            "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"unk_token\":\"<unk>\",\"add_bos_token"
            "\":true,\"chat_template\":\"{%% for m in messages %%}{{ m.content }}{%% endfor "
            "%%}\"}\n");
    finish(f, "tokenizer_config.json");
}

static int usage(void)
{
    fputs("usage: random_model --shape NAME [--seed N] [--parts N] FOLDER\n       random_model "
          "--list\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct maker m = {.seed = 1, .parts = 1};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--list")) {
            for (int k = 0; k < SHAPES; k++) puts(shapes[k].name);
            return 0;
        }
        if (argv[i][0] != '-' && !m.dir) {
            m.dir = argv[i];
            continue;
        }
        if (i + 1 == argc) return usage();
        const char *value = argv[++i];
        if (!strcmp(argv[i - 1], "--seed"))
            m.seed = strtoul(value, NULL, 10);
        else if (!strcmp(argv[i - 1], "--parts"))
            m.parts = atoi(value);
        else if (!strcmp(argv[i - 1], "--shape"))
            for (int k = 0; k < SHAPES; k++)
                if (!strcmp(value, shapes[k].name)) m.s = &shapes[k];
    }
    if (!m.s || !m.dir || m.parts < 1 || m.parts > 99) return usage();
    if (mkdir(m.dir, 0777) && errno != EEXIST) die("cannot create", m.dir);
    is(&m, "Bert") ? bert(&m) : decoder(&m);
    write_config(&m);
    write_tokenizer(&m);
    write_weights(&m);
    free(m.t);
    return 0;
}
