/* `solvent inspect`: what a GGUF file holds and what it will need, from its metadata alone; no
 * weight is read.
 *
 * Two steps: gather() computes every figure once, then a printer says them to a person or as JSON.
 * Text of the file is shown only through put_text, which lets no control character and no broken
 * UTF-8 through. What a file does not say, or says in a way that cannot be (hostile counts), is left
 * out (null in JSON), never guessed. Whether we can run the model is not decided here.
 */
#include "cmd.h"
#include "gguf.h"
#include "progress.h"
#include "unicode.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN_ITEMS = 6, SHOWN_BYTES = 60, ARCH_BYTES_MAX = 64 };

/* A figure of each layer; often the same for all. */
struct span {
    uint64_t low, high, sum;
};

struct facts {
    const char *path;
    const struct gguf *g;
    struct gguf_str arch, name, licence, tokenizer, pre;
    uint32_t ctx_train, layers, width, vocab, window; /* 0: not said, here and below */
    uint32_t key_length, value_length;
    struct span heads, kv_heads, feed_forward;
    bool template, encoder; /* encoder: reads a text both ways, one layer at a time */
    struct gguf_str pooling;
    uint64_t params, weight_bytes, ctx, kv_token_bytes, kv_bytes;
    struct {
        uint64_t tensors, bytes, values;
    } type[QUANT_TYPE_END];
};

/* Characters that are not for showing are written as \n, \" and \u001b, or, to a person, as '?'. */
enum text_for { FOR_PEOPLE, FOR_JSON };

static void put_escape(uint32_t code, enum text_for whom)
{
    const char *at = code ? strchr("\nn\tt\rr\"\"\\\\", (int)code) : NULL;
    if (code < 128 && at)
        printf("\\%c", at[1]);
    else if (whom == FOR_PEOPLE)
        putchar('?');
    else if (code < 0x10000)
        printf("\\u%04x", code);
    else
        printf("\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
}

static void put_text(struct gguf_str s, size_t limit, enum text_for whom)
{
    for (size_t i = 0; i < s.n;) {
        struct unicode_char c = unicode_at(s.p + i, s.n - i);
        if (i + c.bytes > limit) {
            printf("...");
            return;
        }
        bool plain = c.code >= 0x20 && (c.code < 0x7f || c.code > 0x9f) &&
                     !(c.class & UNICODE_OTHER) && c.code != UNICODE_REPLACEMENT &&
                     (whom == FOR_PEOPLE || (c.code != '"' && c.code != '\\'));
        if (plain)
            fwrite(s.p + i, 1, c.bytes, stdout);
        else
            put_escape(c.code, whom);
        i += c.bytes;
    }
}

/* Where a uint64_t cannot hold the result, the file talks nonsense: 0, as if it had not said it. */
static uint64_t product(uint64_t a, uint64_t b)
{
    uint64_t c;
    return __builtin_mul_overflow(a, b, &c) || c > INT64_MAX / 2 ? 0 : c;
}

/* The key of this architecture: "llama" and "block_count" give "llama.block_count". */
static const struct gguf_kv *arch_key(const struct facts *f, const char *key, char name[128])
{
    if (f->arch.n > ARCH_BYTES_MAX) return NULL;
    snprintf(name, 128, "%.*s.%s", (int)f->arch.n, f->arch.p, key);
    return gguf_find(f->g, name);
}

static uint32_t arch_u32(const struct facts *f, const char *key)
{
    char name[128];
    uint32_t v = 0;
    if (arch_key(f, key, name)) gguf_u32(f->g, name, &v);
    return v;
}

/* One number for all layers, or an array with one for each. */
static struct span arch_span(const struct facts *f, const char *key)
{
    char name[128];
    const struct gguf_kv *kv = arch_key(f, key, name);
    uint32_t v;
    if (kv && kv->type != GGUF_ARR)
        return gguf_u32(f->g, name, &v) ? (struct span){v, v, product(v, f->layers)}
                                        : (struct span){0};
    if (!kv || kv->item == GGUF_STR || kv->count != f->layers || kv->count == 0)
        return (struct span){0};
    struct span s = {UINT32_MAX, 0, 0};
    for (uint64_t i = 0; i < kv->count; i++) {
        int64_t n = gguf_item_i64(kv, i);
        if (n < 0 || n > UINT32_MAX) return (struct span){0};
        if ((uint64_t)n < s.low) s.low = (uint64_t)n;
        if ((uint64_t)n > s.high) s.high = (uint64_t)n;
        s.sum += (uint64_t)n; /* at most 2^32 times 2^32 less one */
    }
    return s;
}

static void gather_shape(struct facts *f)
{
    f->ctx_train = arch_u32(f, "context_length");
    f->layers = arch_u32(f, "block_count");
    f->width = arch_u32(f, "embedding_length");
    f->window = arch_u32(f, "attention.sliding_window");
    f->feed_forward = arch_span(f, "feed_forward_length");
    f->heads = arch_span(f, "attention.head_count");
    f->kv_heads = arch_span(f, "attention.head_count_kv");
    if (!f->kv_heads.sum) f->kv_heads = f->heads;
    f->key_length = arch_u32(f, "attention.key_length");
    f->value_length = arch_u32(f, "attention.value_length");
    uint32_t even =
        f->heads.high && f->heads.high <= f->width ? (uint32_t)(f->width / f->heads.high) : 0;
    if (!f->key_length) f->key_length = even;
    if (!f->value_length) f->value_length = even;
    /* two bytes for each number of a key and of a value, and a scale of four for each of both (kern.h) */
    uint64_t kv_heads = f->encoder ? f->kv_heads.high : f->kv_heads.sum;
    f->kv_token_bytes = product(kv_heads, 2 * ((uint64_t)f->key_length + f->value_length) + 8);
    if (!f->ctx) f->ctx = f->ctx_train;
    f->kv_bytes = product(f->kv_token_bytes, f->ctx);
}

static void gather_pooling(struct facts *f)
{
    static const char *const names[] = {"none", "mean", "cls", "last", "rank"};
    char name[128];
    bool causal = true;
    uint32_t pooling;
    if (arch_key(f, "attention.causal", name)) gguf_bool(f->g, name, &causal);
    f->encoder = !causal;
    if (!arch_key(f, "pooling_type", name) || !gguf_u32(f->g, name, &pooling)) return;
    const char *is = pooling < sizeof names / sizeof *names ? names[pooling] : "unknown";
    f->pooling = (struct gguf_str){is, strlen(is)};
}

static void gather(struct facts *f)
{
    const struct gguf *g = f->g;
    gguf_string(g, "general.architecture", &f->arch);
    gguf_string(g, "general.name", &f->name);
    gguf_string(g, "general.license", &f->licence);
    gguf_string(g, "tokenizer.ggml.model", &f->tokenizer);
    gguf_string(g, "tokenizer.ggml.pre", &f->pre);
    struct gguf_str template;
    f->template = gguf_string(g, "tokenizer.chat_template", &template);
    gather_pooling(f);
    gather_shape(f);
    const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    f->vocab = tokens && tokens->type == GGUF_ARR && tokens->count <= UINT32_MAX
                   ? (uint32_t)tokens->count
                   : arch_u32(f, "vocab_size");
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        uint64_t values = t->bytes / quant_bytes(t->type) * quant_block(t->type);
        f->type[t->type].tensors++;
        f->type[t->type].bytes += t->bytes;
        f->type[t->type].values += values;
        f->params += values;
        f->weight_bytes += t->bytes;
    }
}

static double bits(uint64_t bytes, uint64_t values)
{
    return values ? 8.0 * (double)bytes / (double)values : 0;
}

static void put_label(const char *label)
{
    printf("  %-14s ", label);
}

static void say_text(const char *label, struct gguf_str s)
{
    put_label(label);
    if (s.n)
        put_text(s, SHOWN_BYTES, FOR_PEOPLE);
    else
        printf("not stated");
    printf("\n");
}

static void say_number(const char *label, uint64_t n, const char *unit)
{
    put_label(label);
    if (n)
        printf("%" PRIu64 "%s%s\n", n, *unit ? " " : "", unit);
    else
        printf("not stated\n");
}

static void say_span(const char *label, const struct span *s)
{
    char more[32] = "";
    if (s->high != s->low) snprintf(more, sizeof more, "(%" PRIu64 " in some layers)", s->low);
    say_number(label, s->high, more);
}

static void say_bytes(const char *label, uint64_t n, const char *more)
{
    char text[16];
    put_label(label);
    printf("%s%s\n", n ? progress_bytes((int64_t)n, text) : "not known", more);
}

static void say_shape(const struct facts *f)
{
    put_label("parameters");
    if (f->params < 1000000)
        printf("%" PRIu64 "\n", f->params);
    else if (f->params < 999500000)
        printf("%.3g million\n", (double)f->params * 1e-6);
    else
        printf("%.4g billion\n", (double)f->params * 1e-9);
    say_number("context", f->ctx_train, "tokens");
    say_number("layers", f->layers, "");
    say_number("width", f->width, "");
    say_span("feed-forward", &f->feed_forward);
    say_span("heads", &f->heads);
    say_span("kv heads", &f->kv_heads);
    say_number("head size", f->key_length, "");
    if (f->window) say_number("window", f->window, "tokens");
    if (f->encoder) say_text("attention", (struct gguf_str){"to the whole text", 17});
    if (f->pooling.n) say_text("pooling", f->pooling);
}

static void say_types(const struct facts *f)
{
    printf("\n  type      tensors      size   bits a weight\n");
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        char size[16];
        if (!f->type[t].tensors) continue;
        printf("  %-9s %7" PRIu64 "  %8s   %13.3f\n", quant_name(t), f->type[t].tensors,
               progress_bytes((int64_t)f->type[t].bytes, size),
               bits(f->type[t].bytes, f->type[t].values));
    }
    char size[16];
    printf("  %-9s %7zu  %8s   %13.3f\n", "all", gguf_tensor_count(f->g),
           progress_bytes((int64_t)f->weight_bytes, size), bits(f->weight_bytes, f->params));
}

static void say_facts(const struct facts *f)
{
    const char *slash = strrchr(f->path, '/'), *base = slash ? slash + 1 : f->path;
    char size[16];
    put_text((struct gguf_str){base, strlen(base)}, SIZE_MAX, FOR_PEOPLE);
    printf(": GGUF version %" PRIu32 ", %s", gguf_version(f->g),
           progress_bytes((int64_t)gguf_file_bytes(f->g), size));
    if (gguf_part_count(f->g) > 1) printf(" in %zu parts", gguf_part_count(f->g));
    printf(", %zu tensors, %zu keys\n\n", gguf_tensor_count(f->g), gguf_kv_count(f->g));
    say_text("architecture", f->arch);
    say_text("name", f->name);
    say_text("licence", f->licence);
    say_shape(f);
    say_number("vocabulary", f->vocab, "tokens");
    say_text("tokenizer", f->tokenizer);
    if (f->pre.n) say_text("pre-tokenizer", f->pre);
    put_label("chat template");
    printf("%s\n", f->template ? "yes" : "no");
    say_types(f);

    char text[64], token[16];
    printf("\n  in memory\n");
    say_bytes("weights", f->weight_bytes, "");
    snprintf(text, sizeof text, " for %" PRIu64 " tokens (%s a token)", f->ctx,
             progress_bytes((int64_t)f->kv_token_bytes, token));
    say_bytes("KV cache", f->kv_bytes, f->kv_bytes ? text : "");
    if (f->kv_bytes) say_bytes("together", f->weight_bytes + f->kv_bytes, "");
}

static void say_tensors(const struct gguf *g)
{
    printf("\n  tensors\n");
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char shape[96];
        int n = 0;
        for (uint32_t d = 0; d < t->n_dims; d++)
            n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%" PRIu64, d ? " x " : "",
                          t->dim[d]);
        printf("  %-7s %-24s %12zu  ", quant_name(t->type), shape, t->bytes);
        put_text(t->name, SIZE_MAX, FOR_PEOPLE);
        printf("\n");
    }
}

/* One number or truth value, as JSON has them. */
static void put_item(const struct gguf_kv *kv, uint64_t i)
{
    double d = gguf_item_f64(kv, i);
    if (kv->item == GGUF_BOOL)
        printf("%s", d != 0 ? "true" : "false");
    else if (kv->item == GGUF_U64) {
        uint64_t u;
        memcpy(&u, kv->value + 8 * i, sizeof u);
        printf("%" PRIu64, u);
    } else if (kv->item != GGUF_F32 && kv->item != GGUF_F64)
        printf("%" PRId64, gguf_item_i64(kv, i));
    else if (isfinite(d))
        printf("%.*g", kv->item == GGUF_F32 ? 9 : 17, d);
    else
        printf("null");
}

/* The value, or its first items and its first bytes. */
static void put_value(const struct gguf_kv *kv, uint64_t items, size_t bytes, enum text_for whom)
{
    const uint8_t *at = kv->value;
    if (kv->type == GGUF_ARR) putchar('[');
    for (uint64_t i = 0; i < kv->count && i < items; i++) {
        if (i) printf(", ");
        if (kv->item == GGUF_STR) {
            putchar('"');
            put_text(gguf_next_string(&at), bytes, whom);
            putchar('"');
        } else {
            put_item(kv, i);
        }
    }
    if (kv->count > items) printf(", ...");
    if (kv->type == GGUF_ARR) putchar(']');
}

static void say_metadata(const struct gguf *g)
{
    printf("\n  metadata\n");
    for (size_t i = 0; i < gguf_kv_count(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        char type[48];
        snprintf(type, sizeof type, kv->type == GGUF_ARR ? "%s[%" PRIu64 "]" : "%s",
                 gguf_type_name(kv->item), kv->count);
        printf("  %-14s ", type);
        put_text(kv->key, SIZE_MAX, FOR_PEOPLE);
        printf(" = ");
        put_value(kv, SHOWN_ITEMS, SHOWN_BYTES, FOR_PEOPLE);
        printf("\n");
    }
}

static void json_text(const char *key, struct gguf_str s)
{
    printf("  \"%s\": ", key);
    if (!s.p) {
        printf("null,\n");
        return;
    }
    putchar('"');
    put_text(s, SIZE_MAX, FOR_JSON);
    printf("\",\n");
}

static void json_number(const char *key, uint64_t n)
{
    if (n)
        printf("  \"%s\": %" PRIu64 ",\n", key, n);
    else
        printf("  \"%s\": null,\n", key);
}

static void json_tensors(const struct gguf *g)
{
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        printf("%s\n    {\"name\": \"", i ? "," : "");
        put_text(t->name, SIZE_MAX, FOR_JSON);
        printf("\", \"type\": \"%s\", \"shape\": [", quant_name(t->type));
        for (uint32_t d = 0; d < t->n_dims; d++) printf("%s%" PRIu64, d ? ", " : "", t->dim[d]);
        printf("], \"bytes\": %zu, \"part\": %" PRIu32 "}", t->bytes, t->part);
    }
}

static void json_facts(const struct facts *f)
{
    const struct gguf *g = f->g;
    printf("{\n");
    json_text("file", (struct gguf_str){f->path, strlen(f->path)});
    json_number("file_bytes", gguf_file_bytes(g));
    json_number("gguf_version", gguf_version(g));
    json_number("parts", gguf_part_count(g));
    json_text("architecture", f->arch);
    json_text("name", f->name);
    json_text("licence", f->licence);
    printf("  \"parameters\": %" PRIu64 ",\n", f->params);
    json_number("context", f->ctx_train);
    json_number("layers", f->layers);
    json_number("width", f->width);
    json_number("feed_forward", f->feed_forward.high);
    json_number("heads", f->heads.high);
    json_number("kv_heads", f->kv_heads.high);
    json_number("key_length", f->key_length);
    json_number("value_length", f->value_length);
    json_number("sliding_window", f->window);
    json_number("vocabulary", f->vocab);
    printf("  \"causal\": %s,\n", f->encoder ? "false" : "true");
    json_text("pooling", f->pooling);
    json_text("tokenizer", f->tokenizer);
    json_text("pre_tokenizer", f->pre);
    printf("  \"chat_template\": %s,\n  \"types\": [", f->template ? "true" : "false");
    bool first = true;
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (!f->type[t].tensors) continue;
        printf("%s\n    {\"type\": \"%s\", \"tensors\": %" PRIu64 ", \"bytes\": %" PRIu64
               ", \"values\": %" PRIu64 ", \"bits_per_weight\": %.6g}",
               first ? "" : ",", quant_name(t), f->type[t].tensors, f->type[t].bytes,
               f->type[t].values, bits(f->type[t].bytes, f->type[t].values));
        first = false;
    }
    printf("],\n");
    printf("  \"weight_bytes\": %" PRIu64 ",\n", f->weight_bytes);
    json_number("kv_bytes_per_token", f->kv_token_bytes);
    json_number("kv_tokens", f->ctx);
    json_number("kv_bytes", f->kv_bytes);
    printf("  \"metadata\": {");
    for (size_t i = 0; i < gguf_kv_count(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        printf("%s\n    \"", i ? "," : "");
        put_text(kv->key, SIZE_MAX, FOR_JSON);
        printf("\": ");
        put_value(kv, UINT64_MAX, SIZE_MAX, FOR_JSON);
    }
    printf("},\n  \"tensors\": [");
    json_tensors(g);
    printf("]\n}\n");
}

int cmd_inspect(int argc, char **argv)
{
    bool tensors = false, metadata = false, json = false;
    int64_t ctx = 0;
    const struct cmd_usage usage = {
        "solvent inspect MODEL",
        "What is in a model file, and what it will need in memory: the weights, and the keys and\n"
        "values of the tokens in the context."};
    const struct cmd_opt opts[] = {
        {"--ctx", CMD_INT, &ctx, "N",
         "tokens of context to count memory for (default: the model's)", 1, INT32_MAX},
        {"--tensors", CMD_FLAG, &tensors, NULL, "list the tensors", 0, 0},
        {"--metadata", CMD_FLAG, &metadata, NULL, "list the keys; long values are cut", 0, 0},
        {"--json", CMD_FLAG, &json, NULL, "everything, uncut, as JSON", 0, 0},
        {0},
    };
    struct err e;
    char path[4096];
    struct gguf *g = NULL;
    int n = cmd_parse(argc, argv, &usage, opts, &e);
    if (n == CMD_HELP) return 0;
    if (n >= 0 && n != 1) n = err_set(&e, ERR_USAGE, "inspect wants one model, not %d", n);
    if (n < 0 || cmd_model_path(argv[1], path, sizeof path, &e) || gguf_open(&g, path, &e))
        return cmd_fail(&e);
    struct facts f = {.path = path, .g = g, .ctx = (uint64_t)ctx};
    gather(&f);
    if (json) {
        json_facts(&f);
    } else {
        say_facts(&f);
        if (metadata) say_metadata(g);
        if (tensors) say_tensors(g);
    }
    gguf_close(g);
    if (fflush(stdout) || ferror(stdout)) {
        err_set(&e, ERR_IO, "cannot write the answer: %s", strerror(errno));
        return cmd_fail(&e);
    }
    return 0;
}
