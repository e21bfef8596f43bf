/* `solvent perplexity`: how surprised a model is by a text. As llama-perplexity does it, so that
 * figures compare: consecutive windows, each begun with BOS where the model wants one (in place of
 * the window's first token), the second half of each scored. Logits come a few rows at a time. */
#include "clock.h"
#include "cmd.h"
#include "engine.h"
#include "progress.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1 << 26, ROWS = 32, CTX_MIN = 8 };

struct perplexity {
    const char *model, *file, *cpu;
    int64_t ctx, threads, windows;
    bool json, exact;
    struct engine *en;
    int n_windows;
    int64_t scored;   /* tokens */
    double sum, sum2; /* of -log p, and of its square */
    double seconds;
};

static double surprise(const float *logits, int n, int32_t id)
{
    float max = logits[0];
    double sum = 0;
    for (int i = 1; i < n; i++) max = logits[i] > max ? logits[i] : max;
    for (int i = 0; i < n; i++) sum += (double)expf(logits[i] - max);
    return log(sum) - (double)(logits[id] - max);
}

/* logits follow tokens first .. first + n - 1 of the window. */
static void score(struct perplexity *p, const float *logits, const int32_t *window, int first,
                  int n)
{
    int vocab = engine_vocab(p->en);
    for (int i = 0; i < n && first + i + 1 < p->ctx; i++) {
        double v = surprise(logits + (size_t)i * (size_t)vocab, vocab, window[first + i + 1]);
        p->sum += v;
        p->sum2 += v * v;
        p->scored++;
    }
}

static int one_window(struct perplexity *p, int seq, int32_t *window, struct err *e)
{
    const struct tok *t = engine_tok(p->en);
    int ctx = (int)p->ctx, rc = 0;
    int32_t first = window[0];
    engine_seq_truncate(p->en, seq, 0);
    if (tok_add_bos(t)) window[0] = tok_bos(t);
    struct engine_slice s = {.seq = seq, .tokens = window, .n = ctx / 2};
    rc = engine_step(p->en, &s, 1, e);
    window[0] = first;
    s.want = ENGINE_LOGITS_ALL;
    for (int at = ctx / 2; at < ctx && !rc; at += s.n) {
        s.tokens = window + at;
        s.n = ctx - at < ROWS ? ctx - at : ROWS;
        rc = engine_step(p->en, &s, 1, e);
        if (!rc) score(p, s.logits, window, at, s.n);
    }
    return rc;
}

static int run(struct perplexity *p, const struct tok_ids *ids, struct err *e)
{
    struct progress bar;
    int seq = engine_seq_open(p->en), rc = 0;
    int64_t start = clock_ns();
    size_t n = ids->len / (size_t)p->ctx;
    if (n == 0)
        return err_set(e, ERR_USAGE, "%s has %zu tokens, a window needs %lld", p->file, ids->len,
                       (long long)p->ctx);
    if (p->windows && n > (size_t)p->windows) n = (size_t)p->windows;
    progress_init(&bar, "scoring", (int64_t)n * p->ctx, PROGRESS_TOKENS);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = one_window(p, seq, ids->data + i * (size_t)p->ctx, e);
        progress_update(&bar, (int64_t)(i + 1) * p->ctx);
    }
    progress_end(&bar);
    p->n_windows = (int)n;
    p->seconds = (double)(clock_ns() - start) * 1e-9;
    return rc;
}

/* Not 0: standard output took no more. */
static int print(const struct perplexity *p)
{
    struct engine_info info;
    engine_info(p->en, &info);
    double n = (double)p->scored, mean = p->sum / n, variance = p->sum2 / n - mean * mean;
    double ppl = exp(mean), error = variance > 0 && n > 1 ? sqrt(variance / (n - 1)) * ppl : 0;
    if (!p->json)
        return printf("perplexity %.4f +- %.4f (%lld tokens in %d windows of %lld, %.1f s)\n", ppl,
                      error, (long long)p->scored, p->n_windows, (long long)p->ctx, p->seconds) < 0;
    json_t *o = json_pack("{s:s,s:f,s:f,s:I,s:i,s:I,s:s,s:i,s:b,s:f}", "model", p->model, "ppl",
                          ppl, "error", error, "tokens", (json_int_t)p->scored, "windows",
                          p->n_windows, "ctx", (json_int_t)p->ctx, "cpu", info.cpu, "threads",
                          info.threads, "exact", p->exact, "seconds", p->seconds);
    bool bad =
        !o || json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) || puts("") == EOF;
    json_decref(o);
    return bad;
}

static int work(struct perplexity *p, const char *path, struct err *e)
{
    struct buf text = BUF_INIT(TEXT_MAX);
    struct tok_ids ids = {0};
    struct progress bar;
    struct engine_opts o = {.threads = (int)p->threads,
                            .ctx = (int)p->ctx,
                            .cpu = p->cpu,
                            .exact = p->exact,
                            .progress = cmd_load_progress,
                            .progress_arg = &bar};
    int rc = cmd_read(p->file, &text, e);
    progress_init(&bar, "loading", 0, PROGRESS_BYTES);
    if (!rc) rc = engine_open(&p->en, path, &o, e);
    progress_end(&bar);
    if (!rc) rc = tok_encode(engine_tok(p->en), text.data, text.len, TOK_ADD_AUTO, &ids, e);
    if (!rc) rc = run(p, &ids, e);
    if (!rc && !isfinite(p->sum2)) rc = err_set(e, ERR_FORMAT, "the model's logits are not finite");
    if (!rc && (print(p) || fflush(stdout)))
        rc = err_set(e, ERR_IO, "cannot write standard output: %s", strerror(errno));
    engine_close(p->en);
    tok_ids_free(&ids);
    buf_free(&text);
    return rc;
}

int cmd_perplexity(int argc, char **argv)
{
    struct perplexity p = {.ctx = 512};
    const struct cmd_usage usage = {
        "solvent perplexity -m MODEL FILE",
        "Scores the second half of consecutive windows of a text, as llama-perplexity does, and\n"
        "prints the perplexity with its standard error. FILE - is standard input."};
    const struct cmd_opt opts[] = {
        {"-m,--model", CMD_STRING, &p.model, "MODEL", "a catalogue name or a path", 0, 0},
        {"--ctx", CMD_INT, &p.ctx, "N", "tokens of a window (512)", CTX_MIN, 1 << 20},
        {"--windows", CMD_INT, &p.windows, "N", "score only the first N (0: all)", 0, 1 << 20},
        {"-t,--threads", CMD_INT, &p.threads, "N", "worker threads (0: all cores)", 0, 256},
        {"--cpu", CMD_STRING, &p.cpu, "LEVEL", "kernels: ref, avx2, avx512 (the best here)", 0, 0},
        {"--exact", CMD_FLAG, &p.exact, NULL, "float32 activations and KV cache, slow", 0, 0},
        {"--json", CMD_FLAG, &p.json, NULL, "one JSON object", 0, 0},
        {0},
    };
    struct err e;
    char path[4096];
    int rest = cmd_parse(argc, argv, &usage, opts, &e), rc = rest < 0 ? rest : 0;
    if (rest == CMD_HELP) return 0;
    if (!rc && (rest != 1 || !p.model))
        rc = err_set(&e, ERR_USAGE, "perplexity wants -m MODEL and one FILE");
    p.file = argv[1];
    if (!rc) rc = cmd_model_path(p.model, path, sizeof path, &e);
    if (!rc) rc = work(&p, path, &e);
    return rc ? cmd_fail(&e) : 0;
}
