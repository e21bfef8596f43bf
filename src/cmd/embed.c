/* `solvent embed`: a vector for each line of standard input, or for each argument, in their order.
 * Texts are only text: what looks like a control token in them is none. They go to the engine a few
 * steps' worth at a time, so that output begins early and memory stays small. */
#include "embed.h"
#include "cmd.h"
#include "progress.h"
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_MAX = 1 << 30,
    CTX_DEFAULT = 8192,
    CHUNK = 1024,
    SEQS = 128,
    GROUP_TEXTS = 512,
    GROUP_TOKENS = 1 << 15
};

struct job {
    const char *model, *pooling, *cpu;
    int64_t ctx, threads;
    bool no_normalize, json, truncate;
    enum embed_pooling pool;
    struct engine *en;
    struct engine_info info;
    /* The group at hand. */
    struct tok_ids ids;
    struct embed_text texts[GROUP_TEXTS];
    size_t at[GROUP_TEXTS]; /* where a text's ids begin: they move as more come */
    float *vectors;         /* [GROUP_TEXTS][d_model] */
    int n;
    long long done; /* texts of earlier groups */
};

/* Ids of one more text in the group; those beyond the context are cut out before the end token. */
static int add(struct job *j, const char *text, size_t n, struct err *e)
{
    const struct tok *t = engine_tok(j->en);
    size_t at = j->ids.len, ctx = (size_t)j->info.ctx;
    long long number = j->done + j->n + 1;
    int rc = tok_encode(t, text, n, TOK_ADD_AUTO, &j->ids, e);
    if (rc) return rc;
    size_t len = j->ids.len - at;
    if (len == 0) return err_set(e, ERR_USAGE, "text %lld is empty", number);
    if (len > ctx && !j->truncate)
        return err_set(e, ERR_LIMIT, "text %lld has %zu tokens, %zu can be read (see --truncate)",
                       number, len, ctx);
    if (len > ctx) {
        if (tok_add_eos(t)) j->ids.data[at + ctx - 1] = j->ids.data[j->ids.len - 1];
        j->ids.len = at + ctx;
    }
    j->at[j->n] = at;
    j->texts[j->n] =
        (struct embed_text){.n = (int)(j->ids.len - at),
                            .pooling = j->pool,
                            .normalize = !j->no_normalize,
                            .out = j->vectors + (size_t)j->n * (size_t)j->info.d_model};
    j->n++;
    return 0;
}

static int print(const struct job *j, int i, struct err *e)
{
    const struct embed_text *t = &j->texts[i];
    if (j->json) printf("{\"index\":%lld,\"tokens\":%d,\"embedding\":[", j->done + i, t->n);
    for (int k = 0; k < j->info.d_model; k++) {
        if (!isfinite(t->out[k]))
            return err_set(e, ERR_FORMAT, "the vector of text %lld is not finite", j->done + i + 1);
        printf("%s%.9g", k ? j->json ? "," : " " : "", (double)t->out[k]);
    }
    puts(j->json ? "]}" : "");
    return 0;
}

static int flush(struct job *j, struct err *e)
{
    for (int i = 0; i < j->n; i++) j->texts[i].tokens = j->ids.data + j->at[i];
    int rc = embed_texts(j->en, j->texts, j->n, e);
    for (int i = 0; i < j->n && !rc; i++) rc = print(j, i, e);
    if (!rc && (fflush(stdout) || ferror(stdout)))
        rc = err_set(e, ERR_IO, "cannot write standard output: %s", strerror(errno));
    j->done += j->n;
    j->n = 0;
    j->ids.len = 0;
    return rc;
}

static int put(struct job *j, const char *text, size_t n, struct err *e)
{
    int rc = add(j, text, n, e);
    if (!rc && (j->n == GROUP_TEXTS || j->ids.len >= GROUP_TOKENS)) rc = flush(j, e);
    return rc;
}

static int put_lines(struct job *j, const struct buf *in, struct err *e)
{
    int rc = 0;
    for (size_t at = 0, len; at < in->len && !rc; at += len + 1) {
        const char *p = in->data + at, *end = memchr(p, '\n', in->len - at);
        len = end ? (size_t)(end - p) : in->len - at;
        rc = put(j, p, len, e);
    }
    return rc;
}

static int open(struct job *j, struct err *e)
{
    char path[4096];
    struct progress bar;
    struct engine_opts o = {.threads = (int)j->threads,
                            .ctx = (int)j->ctx,
                            .chunk = CHUNK,
                            .max_seqs = SEQS,
                            /* of a step's texts, or of one long one */
                            .kv_tokens = CHUNK + (j->ctx ? (int)j->ctx : CTX_DEFAULT),
                            .cpu = j->cpu,
                            .packs = cmd_packs(),
                            .embed = true,
                            .progress = cmd_load_progress,
                            .progress_arg = &bar};
    int rc = cmd_model_path(j->model, path, sizeof path, e);
    progress_init(&bar, "loading", 0, PROGRESS_BYTES);
    if (!rc) rc = engine_open(&j->en, path, &o, e);
    progress_end(&bar);
    if (rc) return rc;
    engine_info(j->en, &j->info);
    size_t floats = GROUP_TEXTS * (size_t)j->info.d_model;
    j->vectors = malloc(floats * sizeof *j->vectors);
    return j->vectors ? 0 : err_nomem(e, floats * sizeof *j->vectors, "vectors");
}

static int work(struct job *j, int n_args, char **args, struct err *e)
{
    struct buf in = BUF_INIT(INPUT_MAX);
    int rc = open(j, e);
    if (!rc && !n_args) rc = cmd_read("-", &in, e);
    if (!rc && !n_args) rc = put_lines(j, &in, e);
    for (int i = 0; i < n_args && !rc; i++) rc = put(j, args[i], strlen(args[i]), e);
    if (!rc) rc = flush(j, e);
    engine_close(j->en);
    tok_ids_free(&j->ids);
    free(j->vectors);
    buf_free(&in);
    return rc;
}

int cmd_embed(int argc, char **argv)
{
    static struct job j;
    const struct cmd_usage usage = {
        "solvent embed -m MODEL [TEXT...]",
        "Prints a vector for each line of standard input, or for each TEXT. BERT models (MiniLM,\n"
        "BGE, E5) are made for this; others give the hidden state after their last layer."};
    const struct cmd_opt opts[] = {
        {"-m,--model", CMD_STRING, &j.model, "MODEL", "a catalogue name or a path", 0, 0},
        {"--pooling", CMD_STRING, &j.pooling, "HOW", "mean, cls or last token (the model's own)", 0,
         0},
        {"--no-normalize", CMD_FLAG, &j.no_normalize, NULL, "leave vectors at their length, not 1",
         0, 0},
        {"--truncate", CMD_FLAG, &j.truncate, NULL, "cut texts beyond the context, else an error",
         0, 0},
        {"--json", CMD_FLAG, &j.json, NULL, "an object a text: index, tokens, embedding", 0, 0},
        {"--ctx", CMD_INT, &j.ctx, "N", "tokens a text may have (0: 8192, or the model's)", 0,
         1 << 20},
        {"-t,--threads", CMD_INT, &j.threads, "N", "worker threads (0: all cores)", 0, 256},
        {"--cpu", CMD_STRING, &j.cpu, "LEVEL", "kernels: ref, avx2, avx512 (the best here)", 0, 0},
        {0},
    };
    struct err e;
    int rest = cmd_parse(argc, argv, &usage, opts, &e), rc = rest < 0 ? rest : 0;
    if (rest == CMD_HELP) return 0;
    if (!rc && !j.model) rc = err_set(&e, ERR_USAGE, "embed wants a model: -m MODEL");
    if (!rc && j.pooling && !embed_pooling_find(j.pooling, &j.pool))
        rc = err_set(&e, ERR_USAGE, "--pooling wants mean, cls or last, not '%.40s'", j.pooling);
    if (!rc) rc = work(&j, rest, argv + 1, &e);
    return rc ? cmd_fail(&e) : 0;
}
