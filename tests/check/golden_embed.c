/* The tiny encoders of tests/data/embed against the vectors of the numpy reference that stand in
 * them, at every CPU level of this machine, with float32 and with quantised activations: all texts
 * and all poolings in one call. Then the same in other company (one by one, few sequences, passes
 * that hold few texts), which must not change a bit.
 */
#include "embed.h"

#include "gguf.h"
#include <math.h>
#include <string.h>

#include "../support/golden_models.h"

enum { TEXTS_MAX = 16, POOLINGS = 3, CHUNK = 512, SMALL_CHUNK = 80 };

struct golden {
    int n, d; /* texts */
    struct embed_text texts[TEXTS_MAX * POOLINGS];
    int32_t *tokens;
    float *want; /* [n][POOLINGS][d] */
};

/* 1 - cosine, the worst of all vectors. */
static const double EXACT = 1e-9, QUANTISED = 2e-4;

static double angle(const float *a, const float *b, int d)
{
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < d; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    double cosine = ab / sqrt(aa * bb), length = fabs(1 - sqrt(aa / bb));
    return isfinite(cosine) ? fmax(1 - cosine, length * length) : INFINITY;
}

/* Whether the vectors are the same when the texts come `many` at a time. */
static void in_company(const char *path, struct engine_opts o, const struct golden *g, int many,
                       const char *way)
{
    size_t floats = (size_t)(g->n * POOLINGS) * (size_t)g->d;
    float *again = malloc(floats * sizeof *again);
    struct embed_text texts[TEXTS_MAX * POOLINGS];
    struct engine *en;
    struct err e;
    bool same = true;
    if (!again) abort();
    golden_must(engine_open(&en, path, &o, &e), &e);
    for (int i = 0; i < g->n * POOLINGS; i++) {
        texts[i] = g->texts[i];
        texts[i].out = again + (size_t)i * (size_t)g->d;
    }
    for (int i = 0; i < g->n * POOLINGS; i += many) {
        int n = g->n * POOLINGS - i < many ? g->n * POOLINGS - i : many;
        golden_must(embed_texts(en, texts + i, n, &e), &e);
    }
    for (int i = 0; i < g->n * POOLINGS; i++)
        same = same && !memcmp(texts[i].out, g->texts[i].out, (size_t)g->d * sizeof *again);
    golden_result(same, way, 1, 0);
    engine_close(en);
    free(again);
}

/* False when this machine lacks the level. */
static bool check(const char *path, void *golden, const char *cpu, bool exact)
{
    struct golden *g = golden;
    struct engine_opts o = {
        .threads = 2, .max_seqs = 64, .chunk = CHUNK, .cpu = cpu, .exact = exact, .embed = true};
    struct engine *en;
    struct err e;
    double worst = 0, bound = exact ? EXACT : QUANTISED;
    int rc = engine_open(&en, path, &o, &e);
    if (rc == ERR_UNSUPPORTED && strcmp(cpu, "ref")) return false;
    golden_must(rc, &e);
    golden_must(embed_texts(en, g->texts, g->n * POOLINGS, &e), &e);
    engine_close(en);
    for (int i = 0; i < g->n * POOLINGS; i++)
        worst = fmax(worst, angle(g->texts[i].out, g->want + (size_t)i * (size_t)g->d, g->d));
    printf("%-16s %-6s %-9s 1 - cosine %.1e\n", strrchr(path, '/') + 1, cpu,
           exact ? "exact" : "quantised", worst);
    golden_result(worst <= bound, "worst 1 - cosine to the reference", worst, bound);
    in_company(path, o, g, 1, "one by one");
    o.threads = 1;
    in_company(path, o, g, g->n * POOLINGS, "one thread");
    o.max_seqs = 2;
    o.chunk = SMALL_CHUNK;
    in_company(path, o, g, g->n * POOLINGS, "passes of 80, two sequences");
    return true;
}

static void load(const char *path, void *golden)
{
    struct golden *g = golden;
    struct gguf *file;
    struct err e;
    golden_must(gguf_open(&file, path, &e), &e);
    const struct gguf_kv *lengths = gguf_find(file, "golden.lengths");
    const struct gguf_kv *tokens = gguf_find(file, "golden.tokens");
    const struct gguf_kv *vectors = gguf_find(file, "golden.vectors");
    if (!lengths || !tokens || !vectors || lengths->count > TEXTS_MAX) abort();
    g->n = (int)lengths->count;
    g->d = (int)(vectors->count / (lengths->count * POOLINGS));
    g->tokens = malloc(tokens->count * sizeof *g->tokens);
    g->want = malloc(vectors->count * sizeof *g->want);
    float *out = malloc(vectors->count * sizeof *out);
    if (!g->tokens || !g->want || !out) abort();
    for (uint64_t i = 0; i < tokens->count; i++) g->tokens[i] = (int32_t)gguf_item_i64(tokens, i);
    for (uint64_t i = 0; i < vectors->count; i++) g->want[i] = (float)gguf_item_f64(vectors, i);
    for (int i = 0, at = 0, n; i < g->n; i++, at += n) {
        n = (int)gguf_item_i64(lengths, (uint64_t)i);
        for (int p = 0; p < POOLINGS; p++) {
            int v = i * POOLINGS + p;
            g->texts[v] = (struct embed_text){.tokens = g->tokens + at,
                                              .n = n,
                                              .pooling = (enum embed_pooling)(EMBED_MEAN + p),
                                              .out = out + (size_t)v * (size_t)g->d};
        }
    }
    gguf_close(file);
}

static void forget(void *golden)
{
    struct golden *g = golden;
    free(g->tokens);
    free(g->want);
    free(g->texts[0].out);
}

int main(void)
{
    struct golden g;
    return golden_models(TEST_DATA "/embed", &(struct golden_check){&g, load, check, forget});
}
