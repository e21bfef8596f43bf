/* `solvent bench`: prefill, and decode of one or many sequences, at several lengths and depths of
 * context, in tokens a second, and which share of the machine's limit that is. The limit is the
 * longer of two times: the multiply-accumulates at the int8 peak, and reading the weights once a
 * step at the peak of reading, both probed in the same run (reading the KV cache is not counted).
 * Tokens are random, the same ones every time; a median of the repetitions is printed. */
#include "clock.h"
#include "cmd.h"
#include "cpu.h"
#include "engine.h"
#include "nn.h"
#include "progress.h"
#include "rng.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 16, REPEATS_MAX = 100, USERS_MAX = 256, DEPTH_OF_USERS = 128 };

struct list {
    int n, at[LIST_MAX];
};

struct bench {
    const char *model, *cpu;
    int64_t threads, repeats;
    bool json, kv_int8;
    struct list prefill, decode, depth, users;
    struct engine *en;
    struct engine_info info;
    struct nn_peaks peaks;
    char machine[128];
    int32_t *ids; /* [longest] what every sequence is fed */
    int seqs[USERS_MAX];
};

/* n tokens for each of `users` sequences that hold `depth` tokens, all at once or one a step. */
struct test {
    bool decode;
    int n, depth, users;
};

/* Numbers with commas, from least to most; 0 is left out unless it is allowed. */
static int read_list(struct list *out, const char *text, const char *flag, int least, int most,
                     struct err *e)
{
    out->n = 0;
    for (const char *p = text; *p;) {
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',') || v < 0 || v > most || out->n == LIST_MAX)
            return err_set(e, ERR_USAGE,
                           "%s wants up to %d numbers like 1,2,4 (at most %d), not '%s'", flag,
                           LIST_MAX, most, text);
        if (v >= least) out->at[out->n++] = (int)v;
        p = *end ? end + 1 : end;
    }
    return 0;
}

static int largest(const struct list *l)
{
    int most = 0;
    for (int i = 0; i < l->n; i++) most = l->at[i] > most ? l->at[i] : most;
    return most;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Feeds n tokens to each of the sequences, `step` of each at a time. */
static int feed(struct bench *b, int users, int n, int step, struct err *e)
{
    struct engine_slice s[USERS_MAX];
    int rc = 0;
    for (int done = 0; done < n && !rc; done += step) {
        for (int i = 0; i < users; i++) {
            /* Each user's tokens are others: a rotation of the same list. */
            const int32_t *ids = b->ids + (done + 17 * i) % (n - step + 1);
            s[i] = (struct engine_slice){
                .seq = b->seqs[i], .tokens = ids, .n = step, .want = ENGINE_LOGITS_LAST};
        }
        rc = engine_step(b->en, s, users, e);
    }
    return rc;
}

static int measure(struct bench *b, const struct test *t, double *seconds, struct err *e)
{
    double times[REPEATS_MAX];
    int rc = 0, opened = 0;
    for (; opened < t->users; opened++) b->seqs[opened] = engine_seq_open(b->en);
    for (int i = 0; i < t->users && t->depth && !rc; i++) {
        struct engine_slice s = {
            .seq = b->seqs[i], .tokens = b->ids, .n = t->depth, .want = ENGINE_LOGITS_NONE};
        rc = engine_step(b->en, &s, 1, e);
    }
    /* A run before, of so many tokens at most; of a prompt as many rows as a step has. */
    int warm_up = t->decode ? 64 : 512;
    for (int64_t r = -1; r < b->repeats && !rc; r++) {
        int n = r < 0 && t->n > warm_up ? warm_up : t->n;
        int64_t start = clock_ns();
        rc = feed(b, t->users, n, t->decode ? 1 : n, e);
        if (r >= 0) times[r] = (double)(clock_ns() - start) * 1e-9;
        for (int i = 0; i < t->users; i++) engine_seq_truncate(b->en, b->seqs[i], t->depth);
    }
    while (opened--) engine_seq_close(b->en, b->seqs[opened]);
    if (rc) return rc;
    qsort(times, (size_t)b->repeats, sizeof *times, by_size);
    *seconds = times[b->repeats / 2];
    return 0;
}

/* The least time the machine could take. */
static double limit(const struct bench *b, const struct test *t)
{
    double steps = t->decode ? t->n : 1, tokens = (double)t->n * t->users;
    double heads = t->decode ? tokens : t->users;
    double macs = tokens * (double)b->info.macs_per_token + heads * (double)b->info.macs_head;
    double compute = macs / b->peaks.int8_macs_per_s;
    double memory = steps * (double)b->info.bytes_per_token / b->peaks.read_bytes_per_s;
    return compute > memory ? compute : memory;
}

static int one(struct bench *b, const struct test *t, struct err *e)
{
    double seconds;
    int rc = measure(b, t, &seconds, e);
    if (rc) return rc;
    const char *name = t->decode ? "decode" : "prefill";
    double rate = (double)t->n * t->users / seconds, share = limit(b, t) / seconds;
    if (b->json)
        printf("{\"model\":\"%s\",\"test\":\"%s\",\"tokens\":%d,\"depth\":%d,\"users\":%d,"
               "\"threads\":%d,\"cpu\":\"%s\",\"tokens_per_s\":%.3f,\"share_of_peak\":%.4f,"
               "\"machine\":\"%s\"}\n",
               b->model, name, t->n, t->depth, t->users, b->info.threads, b->info.cpu, rate, share,
               b->machine);
    else
        printf("%-8s %7d %7d %6d %12.1f %9.1f %%\n", name, t->n, t->depth, t->users, rate,
               100 * share);
    fflush(stdout);
    return 0;
}

static int all_tests(struct bench *b, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < b->depth.n; i++) {
        int depth = b->depth.at[i];
        for (int k = 0; k < b->prefill.n && !rc; k++)
            rc = one(b, &(struct test){false, b->prefill.at[k], depth, 1}, e);
        for (int k = 0; k < b->decode.n; k++)
            for (int u = 0; u < b->users.n && !rc; u++)
                rc = one(b, &(struct test){true, b->decode.at[k], depth, b->users.at[u]}, e);
    }
    return rc;
}

static int probe(struct nn_peaks *p, int threads, const char *cpu, const char **level,
                 struct err *e)
{
    struct nn *nn = NULL;
    int rc = nn_open(&nn, threads, cpu, false, e);
    if (!rc) rc = nn_probe(nn, p, e);
    if (!rc) *level = nn_kern(nn)->name;
    nn_close(nn);
    return rc;
}

static int make_ids(struct bench *b, int n, struct err *e)
{
    struct rng rng;
    b->ids = malloc((size_t)n * sizeof *b->ids);
    if (!b->ids) return err_nomem(e, (size_t)n * sizeof *b->ids, "a prompt");
    rng_init(&rng, 1);
    for (int i = 0; i < n; i++) b->ids[i] = (int32_t)rng_below(&rng, (uint64_t)b->info.n_vocab);
    return 0;
}

static void name_machine(struct bench *b)
{
    cpu_name(b->machine, sizeof b->machine);
    for (char *c = b->machine; *c; c++)
        if (*c == '"' || *c == '\\') *c = ' ';
}

static int run(struct bench *b, const char *path, struct err *e)
{
    struct progress bar;
    int most = largest(&b->prefill), n = largest(&b->decode), depth = largest(&b->depth);
    if (n > most) most = n;
    progress_init(&bar, "loading", 0, PROGRESS_BYTES);
    struct engine_opts o = {.threads = (int)b->threads,
                            .cpu = b->cpu,
                            .kv_int8 = b->kv_int8,
                            .packs = cmd_packs(),
                            .ctx = depth + most,
                            .max_seqs = largest(&b->users),
                            .progress = cmd_load_progress,
                            .progress_arg = &bar};
    int rc = engine_open(&b->en, path, &o, e);
    progress_end(&bar);
    if (rc) return rc;
    engine_info(b->en, &b->info);
    rc = probe(&b->peaks, b->info.threads, b->cpu, &b->info.cpu, e);
    if (!rc) rc = make_ids(b, most > depth ? most : depth, e);
    if (rc) return rc;
    if (!b->json)
        printf("%s, %s, %d threads of %s\npeak: %.0f GMAC/s of int8, reading %.1f GB/s\n\n"
               "test      tokens   depth  users     tokens/s    of peak\n",
               b->model, b->info.cpu, b->info.threads, b->machine, b->peaks.int8_macs_per_s * 1e-9,
               b->peaks.read_bytes_per_s * 1e-9);
    return all_tests(b, e);
}

static int print_peaks(struct bench *b, struct err *e)
{
    int all = b->threads ? (int)b->threads : cpu_count();
    for (int threads = 1, rc; threads; threads = threads < all ? all : 0) {
        struct nn_peaks p;
        const char *cpu;
        if ((rc = probe(&p, threads, b->cpu, &cpu, e))) return rc;
        if (!b->json && threads == 1)
            printf("%s\n\nthreads   cpu      int8      BF16      FP32 GMAC/s   reading GB/s\n",
                   b->machine);
        printf(b->json ? "{\"threads\":%d,\"cpu\":\"%s\",\"int8_gmacs_per_s\":%.1f,"
                         "\"bf16_gmacs_per_s\":%.1f,\"f32_gmacs_per_s\":%.1f,"
                         "\"read_gb_per_s\":%.2f,\"machine\":\"%s\"}\n"
                       : "%7d   %-6s %6.0f    %6.0f    %6.0f          %6.1f\n",
               threads, cpu, p.int8_macs_per_s * 1e-9, p.bf16_macs_per_s * 1e-9,
               p.f32_macs_per_s * 1e-9, p.read_bytes_per_s * 1e-9, b->machine);
    }
    return 0;
}

int cmd_bench(int argc, char **argv)
{
    const char *prefill = NULL, *decode = "64", *depth = NULL, *users = NULL;
    struct bench b = {.repeats = 5};
    bool peaks = false;
    const struct cmd_usage usage = {
        "solvent bench -m MODEL [FLAGS]",
        "Measures prefill and decode in tokens/s, and the share of the machine's limit: the int8\n"
        "multiply-accumulates and the reading of weights that were probed in the same run.\n"
        "With --users only decode, of so many sequences in common steps, unless -p asks for more."};
    const struct cmd_opt opts[] = {
        {"-m,--model", CMD_STRING, &b.model, "MODEL", "a catalogue name or a path", 0, 0},
        {"-p,--prefill", CMD_STRING, &prefill, "LIST", "prompt lengths (128,512,2048; 0: none)", 0,
         0},
        {"-n,--decode", CMD_STRING, &decode, "LIST", "tokens generated (64; 0: none)", 0, 0},
        {"-d,--depth", CMD_STRING, &depth, "LIST", "tokens of context before (0; with --users 128)",
         0, 0},
        {"-u,--users", CMD_STRING, &users, "LIST", "sequences decoded together (1)", 0, 0},
        {"--peaks", CMD_FLAG, &peaks, NULL,
         "only probe the machine, with one thread and with all; no model needed", 0, 0},
        {"-t,--threads", CMD_INT, &b.threads, "N", "worker threads (0: all cores)", 0, 256},
        {"-r,--repeats", CMD_INT, &b.repeats, "N", "repetitions, of which the median is shown (5)",
         1, REPEATS_MAX},
        {"--cpu", CMD_STRING, &b.cpu, "LEVEL", "kernels: ref, avx2, avx512 (the best here)", 0, 0},
        {"--kv-int8", CMD_FLAG, &b.kv_int8, NULL,
         "half the memory for the KV cache, a little less accurate", 0, 0},
        {"--json", CMD_FLAG, &b.json, NULL, "an object a line", 0, 0},
        {0},
    };
    struct err e;
    char path[4096], deep[16];
    int rest = cmd_parse(argc, argv, &usage, opts, &e), rc = rest < 0 ? rest : 0;
    if (rest == CMD_HELP) return 0;
    name_machine(&b);
    if (!rc && peaks && rest) rc = err_set(&e, ERR_USAGE, "--peaks takes no model");
    if (!rc && peaks) return print_peaks(&b, &e) ? cmd_fail(&e) : 0;
    if (rest == 1 && !b.model)
        b.model = argv[1];
    else if (!rc && rest)
        rc = err_set(&e, ERR_USAGE, "bench takes one model");
    if (!rc && !b.model) rc = err_set(&e, ERR_USAGE, "bench wants -m MODEL");
    snprintf(deep, sizeof deep, "%d", users ? DEPTH_OF_USERS : 0);
    if (!prefill) prefill = users ? "0" : "128,512,2048";
    if (!rc) rc = read_list(&b.prefill, prefill, "-p", 1, 1 << 20, &e);
    if (!rc) rc = read_list(&b.decode, decode, "-n", 1, 1 << 20, &e);
    if (!rc) rc = read_list(&b.depth, depth ? depth : deep, "-d", 0, 1 << 20, &e);
    if (!rc) rc = read_list(&b.users, users ? users : "1", "-u", 1, USERS_MAX, &e);
    if (!rc) rc = cmd_model_path(b.model, path, sizeof path, &e);
    if (!rc) rc = run(&b, path, &e);
    engine_close(b.en);
    free(b.ids);
    return rc ? cmd_fail(&e) : 0;
}
