/* `solvent perplexity`: how surprised a model is by a text, and how far it is from a reference. As
 * llama-perplexity does it, so that figures compare: consecutive windows, each begun with BOS where
 * the model wants one (in place of the window's first token), the second half of each scored. Logits
 * come a few rows at a time, of both models in step. The distance is the Kullback-Leibler divergence
 * of the reference's next-token distribution to the model's, in nats; a reference is computed in
 * float32. */
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

struct mean {
    double sum, sum2;
};

struct perplexity {
    const char *model, *file, *cpu, *against;
    int64_t ctx, threads, windows;
    bool json, exact, kv_int8;
    struct engine *en, *ref; /* ref may be NULL */
    int n_windows;
    int64_t scored, agreed; /* tokens; those whose likeliest is the reference's */
    struct mean surprise, ref_surprise, divergence;
    double seconds;
};

static void count(struct mean *m, double v)
{
    m->sum += v;
    m->sum2 += v * v;
}

static double mean_of(const struct mean *m, int64_t n, double *error)
{
    double mean = m->sum / (double)n, variance = m->sum2 / (double)n - mean * mean;
    *error = variance > 0 && n > 1 ? sqrt(variance / (double)(n - 1)) : 0;
    return mean;
}

static int likeliest(const float *logits, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static double log_sum_exp(const float *logits, int n)
{
    float max = logits[likeliest(logits, n)];
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)expf(logits[i] - max);
    return log(sum) + (double)max;
}

static void compare(struct perplexity *p, const float *x, double lse, const float *ref, int n,
                    int32_t next)
{
    double lse_ref = log_sum_exp(ref, n), kl = 0;
    for (int i = 0; i < n; i++) {
        double a = (double)ref[i] - lse_ref;
        kl += exp(a) * (a - ((double)x[i] - lse));
    }
    count(&p->divergence, kl);
    count(&p->ref_surprise, lse_ref - (double)ref[next]);
    p->agreed += likeliest(x, n) == likeliest(ref, n);
}

/* logits follow tokens first .. first + n - 1 of the window; those of the reference may be NULL. */
static void score(struct perplexity *p, const float *logits, const float *ref,
                  const int32_t *window, int first, int n)
{
    int vocab = engine_vocab(p->en);
    for (int i = 0; i < n && first + i + 1 < p->ctx; i++) {
        const float *x = logits + (size_t)i * (size_t)vocab;
        int32_t next = window[first + i + 1];
        double lse = log_sum_exp(x, vocab);
        count(&p->surprise, lse - (double)x[next]);
        if (ref) compare(p, x, lse, ref + (size_t)i * (size_t)vocab, vocab, next);
        p->scored++;
    }
}

static int both(struct perplexity *p, struct engine_slice *s, struct engine_slice *ref,
                struct err *e)
{
    int rc = engine_step(p->en, s, 1, e);
    *ref = *s;
    ref->logits = NULL;
    return rc || !p->ref ? rc : engine_step(p->ref, ref, 1, e);
}

static int one_window(struct perplexity *p, int seq, int32_t *window, struct err *e)
{
    const struct tok *t = engine_tok(p->en);
    int ctx = (int)p->ctx, rc = 0;
    int32_t first = window[0];
    engine_seq_truncate(p->en, seq, 0);
    if (p->ref) engine_seq_truncate(p->ref, seq, 0);
    if (tok_add_bos(t)) window[0] = tok_bos(t);
    struct engine_slice s = {.seq = seq, .tokens = window, .n = ctx / 2}, ref;
    rc = both(p, &s, &ref, e);
    window[0] = first;
    s.want = ENGINE_LOGITS_ALL;
    for (int at = ctx / 2; at < ctx && !rc; at += s.n) {
        s.tokens = window + at;
        s.n = ctx - at < ROWS ? ctx - at : ROWS;
        rc = both(p, &s, &ref, e);
        if (!rc) score(p, s.logits, ref.logits, window, at, s.n);
    }
    return rc;
}

static int run(struct perplexity *p, const struct tok_ids *ids, struct err *e)
{
    struct progress bar;
    int seq = engine_seq_open(p->en), rc = 0; /* 0, in the reference too */
    if (p->ref) (void)engine_seq_open(p->ref);
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
    double error, ref_error, kl_error;
    double ppl = exp(mean_of(&p->surprise, p->scored, &error));
    double ref_ppl = exp(mean_of(&p->ref_surprise, p->scored, &ref_error));
    double kl = mean_of(&p->divergence, p->scored, &kl_error);
    double top1 = (double)p->agreed / (double)p->scored;
    if (!p->json) {
        bool bad = printf("perplexity %.4f +- %.4f (%lld tokens in %d windows of %lld, %.1f s)\n",
                          ppl, error * ppl, (long long)p->scored, p->n_windows, (long long)p->ctx,
                          p->seconds) < 0;
        if (p->ref)
            bad |= printf("reference %.4f, KL %.5f +- %.5f nats, top-1 agreement %.2f %%\n",
                          ref_ppl, kl, kl_error, 100 * top1) < 0;
        return bad;
    }
    json_t *o = json_pack("{s:s,s:f,s:f,s:I,s:i,s:I,s:s,s:i,s:b,s:f}", "model", p->model, "ppl",
                          ppl, "error", error * ppl, "tokens", (json_int_t)p->scored, "windows",
                          p->n_windows, "ctx", (json_int_t)p->ctx, "cpu", info.cpu, "threads",
                          info.threads, "exact", p->exact, "seconds", p->seconds);
    if (o && p->ref) {
        json_t *r = json_pack("{s:s,s:f,s:f,s:f,s:f}", "against", p->against, "ref_ppl", ref_ppl,
                              "kl", kl, "kl_error", kl_error, "top1_agreement", top1);
        if (!r || json_object_update(o, r)) json_decref(o), o = NULL;
        json_decref(r);
    }
    bool bad =
        !o || json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) || puts("") == EOF;
    json_decref(o);
    return bad;
}

static int open_engine(struct perplexity *p, struct engine **out, const char *path, bool exact,
                       struct err *e)
{
    struct progress bar;
    struct engine_opts o = {.threads = (int)p->threads,
                            .ctx = (int)p->ctx,
                            .cpu = p->cpu,
                            .packs = cmd_packs(),
                            .kv_int8 = p->kv_int8 && out != &p->ref,
                            .exact = exact,
                            .progress = cmd_load_progress,
                            .progress_arg = &bar};
    progress_init(&bar, "loading", 0, PROGRESS_BYTES);
    int rc = engine_open(out, path, &o, e);
    progress_end(&bar);
    return rc;
}

static int open_reference(struct perplexity *p, const char *path, struct err *e)
{
    char other[4096];
    int rc = 0;
    if (strcmp(p->against, "exact")) {
        rc = cmd_model_path(p->against, other, sizeof other, e);
        path = other;
    }
    if (!rc) rc = open_engine(p, &p->ref, path, true, e);
    if (!rc && engine_vocab(p->ref) != engine_vocab(p->en))
        rc = err_set(e, ERR_USAGE, "%s has %d tokens, %s %d: not the same vocabulary", p->against,
                     engine_vocab(p->ref), p->model, engine_vocab(p->en));
    return rc;
}

static int work(struct perplexity *p, const char *path, struct err *e)
{
    struct buf text = BUF_INIT(TEXT_MAX);
    struct tok_ids ids = {0};
    int rc = cmd_read(p->file, &text, e);
    if (!rc) rc = open_engine(p, &p->en, path, p->exact, e);
    if (!rc && p->against) rc = open_reference(p, path, e);
    if (!rc) rc = tok_encode(engine_tok(p->en), text.data, text.len, TOK_ADD_AUTO, &ids, e);
    if (!rc) rc = run(p, &ids, e);
    if (!rc && !isfinite(p->surprise.sum2 + p->divergence.sum2))
        rc = err_set(e, ERR_FORMAT, "the model's logits are not finite");
    if (!rc && (print(p) || fflush(stdout)))
        rc = err_set(e, ERR_IO, "cannot write standard output: %s", strerror(errno));
    engine_close(p->en);
    engine_close(p->ref);
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
        {"--kv-int8", CMD_FLAG, &p.kv_int8, NULL,
         "half the memory for the KV cache, a little less accurate", 0, 0},
        {"--exact", CMD_FLAG, &p.exact, NULL, "float32 activations and KV cache, slow", 0, 0},
        {"--against", CMD_STRING, &p.against, "REF",
         "also the distance to REF, a model of the same vocabulary or `exact`: this one in float32",
         0, 0},
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
