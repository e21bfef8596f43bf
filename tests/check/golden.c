/* The tiny models of tests/data/golden against the logits of the numpy reference that stand in
 * them, at every CPU level of this machine, with float32 and with quantised activations. Then the
 * same tokens fed in other ways (odd chunks, one by one, passes cut by the engine, beside another
 * sequence, after a truncation), which must not change what comes out.
 *
 * Distances are Kullback-Leibler divergences of the next-token distributions, in nats.
 */
#include "engine.h"
#include "gguf.h"
#include <math.h>
#include <string.h>

#include "../support/golden_models.h"
#include "../support/sanitizer.h"

enum { TOKENS_MAX = 256, CHUNK = 128, SMALL_CHUNK = 8 };

struct golden {
    int n, n_pos, vocab;
    int32_t tokens[TOKENS_MAX], other[TOKENS_MAX];
    int pos[TOKENS_MAX];
    float *logits; /* [n_pos][vocab] */
};

/* What a mode may lose to the reference, mean and worst position; to itself, nothing. */
struct bound {
    double mean, worst;
};
static const struct bound EXACT = {1e-9, 1e-8}, QUANTISED = {6e-3, 3e-2};

static double path_max; /* of the case at hand */

static void same(const char *way, double distance)
{
    path_max = fmax(path_max, distance);
    golden_result(distance == 0, way, distance, 0);
}

static double log_sum_exp(const float *x, int n, double *max)
{
    double sum = 0;
    *max = -INFINITY;
    for (int i = 0; i < n; i++) *max = x[i] > *max ? (double)x[i] : *max;
    for (int i = 0; i < n; i++) sum += exp((double)x[i] - *max);
    return log(sum);
}

static double divergence(const float *p, const float *q, int n)
{
    double max_p, max_q, sum = 0;
    double lse_p = log_sum_exp(p, n, &max_p), lse_q = log_sum_exp(q, n, &max_q);
    for (int i = 0; i < n; i++) {
        double a = (double)p[i] - max_p - lse_p, b = (double)q[i] - max_q - lse_q;
        sum += exp(a) * (a - b);
    }
    return isfinite(sum) ? sum : INFINITY;
}

static double worst(const struct golden *g, const float *p, const float *q, int n)
{
    double max = 0;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)g->vocab;
        max = fmax(max, divergence(p + at, q + at, g->vocab));
    }
    return max;
}

/* Feeds tokens [from, to) in steps of `step` (0: 1, 2, 3, ... tokens) and keeps all logits. */
static void feed(struct engine *en, int seq, const int32_t *tokens, int from, int to, int step,
                 float *out, int vocab)
{
    struct err e;
    for (int n = step ? step : 1; from < to; from += n, n += step ? 0 : 1) {
        if (n > to - from) n = to - from;
        struct engine_slice s = {
            .seq = seq, .tokens = tokens + from, .n = n, .want = ENGINE_LOGITS_ALL};
        golden_must(engine_step(en, &s, 1, &e), &e);
        memcpy(out + (size_t)from * (size_t)vocab, s.logits,
               (size_t)n * (size_t)vocab * sizeof *out);
    }
}

/* The sequence and another of its length in common steps of changing sizes. */
static void feed_two(struct engine *en, const struct golden *g, float *out, float *out_other)
{
    int seq[2] = {engine_seq_open(en), engine_seq_open(en)}, done[2] = {0, 0};
    float *to[2] = {out, out_other};
    size_t vocab = (size_t)g->vocab;
    struct err e;
    for (int turn = 0; done[0] < g->n || done[1] < g->n; turn++) {
        struct engine_slice s[2];
        int n = 0, who[2];
        for (int i = 0; i < 2; i++) {
            int want = 1 + (turn * 5 + i * 7) % 11;
            if (want > g->n - done[i]) want = g->n - done[i];
            if (!want) continue;
            const int32_t *tokens = (i ? g->other : g->tokens) + done[i];
            who[n] = i;
            s[n++] = (struct engine_slice){
                .seq = seq[i], .tokens = tokens, .n = want, .want = ENGINE_LOGITS_ALL};
        }
        golden_must(engine_step(en, s, n, &e), &e);
        for (int i = 0; i < n; i++) {
            memcpy(to[who[i]] + (size_t)done[who[i]] * vocab, s[i].logits,
                   (size_t)s[i].n * vocab * sizeof(float));
            done[who[i]] += s[i].n;
        }
    }
    engine_seq_close(en, seq[0]);
    engine_seq_close(en, seq[1]);
}

static void against_reference(const struct golden *g, const float *all, const struct bound *b)
{
    double sum = 0, max = 0;
    for (int i = 0; i < g->n_pos; i++) {
        size_t vocab = (size_t)g->vocab;
        double d =
            divergence(g->logits + (size_t)i * vocab, all + (size_t)g->pos[i] * vocab, g->vocab);
        sum += d;
        max = fmax(max, d);
    }
    printf("KL %.1e, worst %.1e", sum / g->n_pos, max);
    golden_result(sum / g->n_pos <= b->mean, "mean KL to the reference", sum / g->n_pos, b->mean);
    golden_result(max <= b->worst, "worst KL to the reference", max, b->worst);
}

static void other_ways(struct engine *en, const struct golden *g, const float *all, float *again,
                       float *other)
{
    size_t vocab = (size_t)g->vocab;
    static const struct {
        const char *name;
        int step;
    } ways[] = {{"token by token", 1}, {"chunks of 7", 7}, {"chunks of 1, 2, 3 ...", 0}};
    int seq = engine_seq_open(en);
    double d;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        engine_seq_truncate(en, seq, 0);
        feed(en, seq, g->tokens, 0, g->n, ways[i].step, again, g->vocab);
        d = worst(g, all, again, g->n);
        same(ways[i].name, d);
    }
    int keep = g->n / 2;
    engine_seq_truncate(en, seq, keep);
    feed(en, seq, g->other, keep, g->n, CHUNK, again, g->vocab);
    engine_seq_truncate(en, seq, keep);
    feed(en, seq, g->tokens, keep, g->n, CHUNK, again, g->vocab);
    d = worst(g, all + (size_t)keep * vocab, again + (size_t)keep * vocab, g->n - keep);
    same("after a truncation", d);
    engine_seq_truncate(en, seq, 0);
    feed(en, seq, g->other, 0, g->n, CHUNK, other, g->vocab);
    engine_seq_close(en, seq);

    float *beside = malloc((size_t)g->n * vocab * sizeof *beside);
    if (!beside) abort();
    feed_two(en, g, again, beside);
    d = fmax(worst(g, all, again, g->n), worst(g, other, beside, g->n));
    same("two sequences in a step", d);
    free(beside);
}

/* One slice that the engine cuts into passes. */
static void cut_passes(const char *path, struct engine_opts o, const struct golden *g,
                       const float *all)
{
    struct engine *en;
    struct err e;
    o.chunk = SMALL_CHUNK;
    golden_must(engine_open(&en, path, &o, &e), &e);
    struct engine_slice s = {
        .seq = engine_seq_open(en), .tokens = g->tokens, .n = g->n, .want = ENGINE_LOGITS_LAST};
    golden_must(engine_step(en, &s, 1, &e), &e);
    double d = divergence(all + (size_t)(g->n - 1) * (size_t)g->vocab, s.logits, g->vocab);
    same("passes of 8", d);
    engine_close(en);
}

/* False when this machine lacks the level. */
static bool check(const char *path, void *golden, const char *cpu, bool exact)
{
    const struct golden *g = golden;
    const struct bound *b = exact ? &EXACT : &QUANTISED;
    struct engine_opts o = {
        .threads = 2, .max_seqs = 2, .chunk = CHUNK, .cpu = cpu, .exact = exact, .ctx = TOKENS_MAX};
    struct engine *en;
    struct err e;
    int rc = engine_open(&en, path, &o, &e);
    if (rc == ERR_UNSUPPORTED && strcmp(cpu, "ref")) return false;
    golden_must(rc, &e);
    if (engine_vocab(en) != g->vocab) abort();
    size_t bytes = (size_t)g->n * (size_t)g->vocab * sizeof(float);
    float *all = malloc(bytes), *again = malloc(bytes), *other = malloc(bytes);
    if (!all || !again || !other) abort();
    path_max = 0;
    printf("%-20s %-6s %-9s ", strrchr(path, '/') + 1, cpu, exact ? "exact" : "quantised");
    int seq = engine_seq_open(en);
    feed(en, seq, g->tokens, 0, g->n, CHUNK, all, g->vocab);
    engine_seq_close(en, seq);
    against_reference(g, all, b);
    /* Ways differ in the engine, not in the kernels: where ref is slow it may miss them. */
    if ((exact && !UNDER_TSAN) || strcmp(cpu, "ref")) other_ways(en, g, all, again, other);
    engine_close(en);
    cut_passes(path, o, g, all);
    printf(", other ways %.1e\n", path_max);
    free(all);
    free(again);
    free(other);
    return true;
}

static void load(const char *path, void *golden)
{
    struct golden *g = golden;
    struct gguf *file;
    struct err e;
    golden_must(gguf_open(&file, path, &e), &e);
    const struct gguf_kv *tokens = gguf_find(file, "golden.tokens");
    const struct gguf_kv *pos = gguf_find(file, "golden.positions");
    const struct gguf_kv *logits = gguf_find(file, "golden.logits");
    if (!tokens || !pos || !logits || tokens->count > TOKENS_MAX || pos->count > tokens->count)
        abort();
    g->n = (int)tokens->count;
    g->n_pos = (int)pos->count;
    g->vocab = (int)(logits->count / pos->count);
    g->logits = malloc(logits->count * sizeof *g->logits);
    if (!g->logits) abort();
    for (int i = 0; i < g->n; i++) {
        g->tokens[i] = (int32_t)gguf_item_i64(tokens, (uint64_t)i);
        g->other[g->n - 1 - i] = (g->tokens[i] + 1) % g->vocab;
    }
    for (int i = 0; i < g->n_pos; i++) g->pos[i] = (int)gguf_item_i64(pos, (uint64_t)i);
    for (uint64_t i = 0; i < logits->count; i++) g->logits[i] = (float)gguf_item_f64(logits, i);
    gguf_close(file);
}

static void forget(void *golden)
{
    struct golden *g = golden;
    free(g->logits);
}

int main(void)
{
    struct golden g;
    return golden_models(TEST_DATA "/golden", &(struct golden_check){&g, load, check, forget});
}
