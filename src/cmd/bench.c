/* `solvent bench`: prefill of an empty context and decode after it, at several lengths, and which
 * share of the peak probed in the same run that is: of int8 multiply-accumulates for prefill, of
 * read bandwidth for decode. Tokens are random, the same ones every time; a median of the
 * repetitions is printed. */
#include "clock.h"
#include "cmd.h"
#include "cpu.h"
#include "engine.h"
#include "progress.h"
#include "rng.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTHS_MAX = 16, REPEATS_MAX = 100 };

struct bench {
    const char *model, *cpu, *prefill, *decode;
    int64_t threads, repeats, ctx;
    bool json;
    struct engine *en;
    struct engine_info info;
    double macs_per_s, bytes_per_s;
    char machine[128];
};

static int lengths(const char *list, const char *flag, int *out, struct err *e)
{
    int n = 0;
    for (const char *p = list; *p;) {
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',') || v < 0 || v > 1 << 20 || n == LENGTHS_MAX)
            return err_set(e, ERR_USAGE, "%s wants up to %d lengths like 128,512, not '%s'", flag,
                           LENGTHS_MAX, list);
        if (v) out[n++] = (int)v;
        p = *end ? end + 1 : end;
    }
    return n;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int once(struct bench *b, bool decode, const int32_t *ids, int n, double *seconds,
                struct err *e)
{
    int seq = engine_seq_open(b->en), rc = 0;
    int64_t start = clock_ns();
    for (int done = 0, step = decode ? 1 : n; done < n && !rc; done += step) {
        struct engine_slice s = {seq, ids + done, step, ENGINE_LOGITS_LAST, NULL};
        rc = engine_step(b->en, &s, 1, e);
    }
    *seconds = (double)(clock_ns() - start) * 1e-9;
    engine_seq_close(b->en, seq);
    return rc;
}

static void print(const struct bench *b, bool decode, int n, double rate)
{
    const struct engine_info *i = &b->info;
    double macs = (double)i->macs_per_token + (decode ? (double)i->macs_head : 0);
    double share =
        decode ? rate * (double)i->bytes_per_token / b->bytes_per_s : rate * macs / b->macs_per_s;
    const char *test = decode ? "decode" : "prefill";
    if (b->json)
        printf("{\"model\":\"%s\",\"test\":\"%s\",\"tokens\":%d,\"threads\":%d,\"cpu\":\"%s\","
               "\"tokens_per_s\":%.3f,\"share_of_peak\":%.4f,\"machine\":\"%s\"}\n",
               b->model, test, n, i->threads, i->cpu, rate, share, b->machine);
    else
        printf("%-8s %7d %12.1f %9.1f %%\n", test, n, rate, 100 * share);
    fflush(stdout);
}

static int measure(struct bench *b, bool decode, int n, struct err *e)
{
    double seconds[REPEATS_MAX];
    struct rng rng;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    if (!ids) return err_nomem(e, (size_t)n * sizeof *ids, "a prompt");
    rng_init(&rng, 1);
    for (int i = 0; i < n; i++) ids[i] = (int32_t)rng_below(&rng, (uint64_t)b->info.n_vocab);
    int rc = once(b, decode, ids, n < 64 ? n : 64, seconds, e); /* warm */
    for (int64_t r = 0; r < b->repeats && !rc; r++) rc = once(b, decode, ids, n, &seconds[r], e);
    free(ids);
    if (rc) return rc;
    qsort(seconds, (size_t)b->repeats, sizeof *seconds, by_size);
    print(b, decode, n, n / seconds[b->repeats / 2]);
    return 0;
}

static int run(struct bench *b, const char *path, const int *p, int n_p, const int *d, int n_d,
               struct err *e)
{
    int longest = 0;
    struct progress bar;
    for (int i = 0; i < n_p; i++) longest = p[i] > longest ? p[i] : longest;
    for (int i = 0; i < n_d; i++) longest = d[i] > longest ? d[i] : longest;
    progress_init(&bar, "loading", 0, PROGRESS_BYTES);
    struct engine_opts o = {.threads = (int)b->threads,
                            .cpu = b->cpu,
                            .ctx = longest,
                            .progress = cmd_load_progress,
                            .progress_arg = &bar};
    int rc = engine_open(&b->en, path, &o, e);
    progress_end(&bar);
    if (!rc) rc = engine_peaks(b->en, &b->macs_per_s, &b->bytes_per_s, e);
    if (rc) return rc;
    engine_info(b->en, &b->info);
    cpu_name(b->machine, sizeof b->machine);
    for (char *c = b->machine; *c; c++)
        if (*c == '"' || *c == '\\') *c = ' ';
    if (!b->json)
        printf("%s, %s, %d threads of %s\npeak: %.0f GMAC/s of int8, reading %.1f GB/s\n\n"
               "test      tokens     tokens/s   of peak\n",
               b->model, b->info.cpu, b->info.threads, b->machine, b->macs_per_s * 1e-9,
               b->bytes_per_s * 1e-9);
    for (int i = 0; i < n_p && !rc; i++) rc = measure(b, false, p[i], e);
    for (int i = 0; i < n_d && !rc; i++) rc = measure(b, true, d[i], e);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    struct bench b = {.prefill = "128,512,2048", .decode = "64", .repeats = 5};
    const struct cmd_usage usage = {
        "solvent bench -m MODEL [FLAGS]",
        "Measures prefill and decode in tokens/s, and the share of the peak "
        "probed in the same run."};
    const struct cmd_opt opts[] = {
        {"-m,--model", CMD_STRING, &b.model, "MODEL", "a catalogue name or a path", 0, 0},
        {"-p,--prefill", CMD_STRING, &b.prefill, "LIST", "prompt lengths (128,512,2048; 0: none)",
         0, 0},
        {"-n,--decode", CMD_STRING, &b.decode, "LIST", "tokens generated (64; 0: none)", 0, 0},
        {"-t,--threads", CMD_INT, &b.threads, "N", "worker threads (0: all cores)", 0, 256},
        {"-r,--repeats", CMD_INT, &b.repeats, "N", "repetitions, of which the median is shown (5)",
         1, REPEATS_MAX},
        {"--cpu", CMD_STRING, &b.cpu, "LEVEL", "kernels: ref, avx2, avx512 (the best here)", 0, 0},
        {"--json", CMD_FLAG, &b.json, NULL, "an object a line", 0, 0},
        {0},
    };
    struct err e;
    int p[LENGTHS_MAX], d[LENGTHS_MAX], n_p = 0, n_d = 0;
    char path[4096];
    int rest = cmd_parse(argc, argv, &usage, opts, &e), rc = rest < 0 ? rest : 0;
    if (rest == CMD_HELP) return 0;
    if (rest == 1 && !b.model)
        b.model = argv[1];
    else if (!rc && rest)
        rc = err_set(&e, ERR_USAGE, "bench takes one model");
    if (!rc && !b.model) rc = err_set(&e, ERR_USAGE, "bench wants -m MODEL");
    if (!rc) rc = (n_p = lengths(b.prefill, "-p", p, &e)) < 0 ? n_p : 0;
    if (!rc) rc = (n_d = lengths(b.decode, "-n", d, &e)) < 0 ? n_d : 0;
    if (!rc) rc = cmd_model_path(b.model, path, sizeof path, &e);
    if (!rc) rc = run(&b, path, p, n_p, d, n_d, &e);
    engine_close(b.en);
    return rc ? cmd_fail(&e) : 0;
}
