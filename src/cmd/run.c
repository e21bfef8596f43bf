/* `solvent run`: a prompt from the arguments or from a pipe gets one answer, a terminal gets a chat
 * (repl.c). The flags of the sampler are made from its own table, so that a parameter added there is
 * a flag here. */
#include "cmd.h"
#include "repl.h"
#include "session.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { FIELDS_MAX = 24, OPTS_MAX = FIELDS_MAX + 26, TEMPLATE_MAX = 1 << 20 };

struct run {
    const char *model, *prompt, *system, *template_path, *cpu, *speculate, *draft;
    int drafted; /* --speculate, as parsed */
    int64_t max_tokens, ctx, threads, seed, keep;
    bool exact, kv_int8, raw, slide, stats, ignore_eos;
    struct cmd_list stops, biases;
    struct sample_bias bias[CMD_LIST_MAX];
    struct sample_params sample;
    /* The sampler's flags, as parsed. */
    int64_t whole[FIELDS_MAX];
    double real[FIELDS_MAX];
    char flag[FIELDS_MAX][32], help[FIELDS_MAX][96];
    struct cmd_opt opts[OPTS_MAX];
};

static void add_opts(struct run *r, const struct cmd_opt *some)
{
    int n = 0;
    while (some[n].name) r->opts[n] = some[n], n++;
    int i = 0;
    for (const struct sample_field *f = sample_fields; f->name && i < FIELDS_MAX; f++, i++) {
        double now = sample_field_get(f, &r->sample);
        snprintf(r->flag[i], sizeof r->flag[i], "--%s", f->name);
        for (char *p = r->flag[i]; *p; p++) *p = *p == '_' ? '-' : *p;
        snprintf(r->help[i], sizeof r->help[i], "%s (%g)", f->help, now);
        r->real[i] = now;
        r->whole[i] = (int64_t)now;
        void *value = f->whole ? (void *)&r->whole[i] : (void *)&r->real[i];
        r->opts[n++] = (struct cmd_opt){r->flag[i], f->whole ? CMD_INT : CMD_FLOAT,
                                        value,      f->whole ? "N" : "F",
                                        r->help[i], f->min,
                                        f->max};
    }
    r->opts[n] = (struct cmd_opt){0};
}

static int take_sampler(struct run *r, struct err *e)
{
    int i = 0, rc = 0;
    for (const struct sample_field *f = sample_fields; f->name && !rc; f++, i++)
        rc = sample_field_set(f, &r->sample, f->whole ? (double)r->whole[i] : r->real[i], e);
    for (int k = 0; k < r->biases.n && !rc; k++) {
        const char *s = r->biases.items[k];
        char *end, *value = strchr(s, '=');
        errno = 0;
        long id = strtol(s, &end, 10);
        bool ok = end != s && value && end == value && !errno && id >= 0 && id <= INT32_MAX;
        float bias = ok ? strtof(value + 1, &end) : 0;
        if (!ok || end == value + 1 || *end)
            rc = err_set(e, ERR_USAGE, "--logit-bias wants ID=NUMBER, not '%s'", s);
        r->bias[k] = (struct sample_bias){(int32_t)id, bias};
    }
    r->sample.bias = r->bias;
    r->sample.n_bias = r->biases.n;
    r->sample.seed = (uint64_t)r->seed;
    if (r->seed < 0 && getrandom(&r->sample.seed, sizeof r->sample.seed, 0) < 0) r->sample.seed = 0;
    r->sample.seed >>= r->seed < 0 ? 12 : 0; /* short enough for /set to show and take */
    return rc;
}

int cmd_speculate(const char *given, int *tokens, struct err *e)
{
    char *end = NULL;
    long n = strtol(given, &end, 10);
    bool number = end != given && !*end && n >= 1 && n <= SPEC_MAX;
    *tokens = number ? (int)n : strcmp(given, "auto") == 0 ? SPEC_AUTO : 0;
    if (*tokens == 0 && strcmp(given, "off") != 0)
        return err_set(e, ERR_USAGE, "--speculate wants auto, off or 1 to %d, not '%s'", SPEC_MAX,
                       given);
    return 0;
}

static int take_speculate(struct run *r, struct err *e)
{
    int rc = cmd_speculate(r->speculate, &r->drafted, e);
    if (!rc && r->draft && !r->drafted)
        return err_set(e, ERR_USAGE, "--draft speculates: no --speculate off");
    return rc;
}

static int one_answer(struct run *r, struct session *s, struct err *e)
{
    struct buf in = BUF_INIT(SESSION_TEXT_MAX);
    const char *text = r->prompt;
    size_t n = text ? strlen(text) : 0;
    int rc = text ? 0 : cmd_read("-", &in, e);
    if (!text) text = in.data, n = in.len;
    if (in.len && text[n - 1] == '\n') n--; /* the pipe's, as of a line typed */
    if (!rc && n == 0) rc = err_set(e, ERR_USAGE, "the prompt is empty");
    if (!rc) rc = r->raw ? session_complete(s, text, n, e) : session_ask(s, text, n, e);
    if (!rc && r->stats) session_print_stats(s);
    buf_free(&in);
    return rc;
}

static int work(struct run *r, const char *path, struct err *e)
{
    struct session s = {0};
    struct buf source = BUF_INIT(TEMPLATE_MAX);
    char draft[4096];
    int rc = r->template_path ? cmd_read(r->template_path, &source, e) : 0;
    if (!rc && r->draft) rc = cmd_model_path(r->draft, draft, sizeof draft, e);
    struct session_opts o = {.engine = {.threads = (int)r->threads,
                                        .ctx = (int)r->ctx,
                                        .cpu = r->cpu,
                                        .packs = cmd_packs(),
                                        .kv_int8 = r->kv_int8,
                                        .exact = r->exact},
                             .sample = r->sample,
                             .speculate = r->drafted,
                             .draft = r->draft ? draft : NULL,
                             .template_source = r->template_path ? source.data : NULL,
                             .n_template = source.len,
                             .raw = r->raw};
    if (!rc) rc = session_open(&s, path, &o, e);
    if (rc) goto out;
    s.generate.max_tokens = (int)r->max_tokens;
    s.generate.stops = r->stops.items;
    s.generate.n_stops = r->stops.n;
    s.generate.slide = r->slide;
    s.generate.keep = (int)r->keep;
    s.generate.ignore_eos = r->ignore_eos;
    if (r->system) rc = session_set_system(&s, r->system, e);
    if (!rc && (r->prompt || !isatty(0)))
        rc = one_answer(r, &s, e);
    else if (!rc)
        rc = repl_run(&s, r->model, r->stats, e);
out:
    session_close(&s);
    buf_free(&source);
    return rc;
}

static int check(struct run *r, int argc, char **argv, struct err *e)
{
    if (argc < 1) return err_set(e, ERR_USAGE, "run wants a model: solvent run MODEL");
    if (argc > 2)
        return err_set(e, ERR_USAGE, "run takes one prompt; '%s' is one too many (quote it)",
                       argv[3]);
    r->model = argv[1];
    r->prompt = argc > 1 ? argv[2] : NULL;
    if (r->raw && (r->system || r->template_path))
        return err_set(e, ERR_USAGE, "--raw uses no template: no --system and no --template");
    if (r->raw && !r->prompt && isatty(0))
        return err_set(e, ERR_USAGE, "--raw continues a text: give a PROMPT, or pipe one in");
    int rc = take_speculate(r, e);
    return rc ? rc : take_sampler(r, e);
}

int cmd_run(int argc, char **argv)
{
    static struct run r = {.sample = SAMPLE_DEFAULTS, .speculate = "auto", .seed = -1, .keep = 64};
    const struct cmd_usage usage = {"solvent run MODEL [PROMPT]",
                                    "Answers PROMPT, or what comes through a pipe, on standard "
                                    "output. Without either it chats."};
    add_opts(
        &r,
        (const struct cmd_opt[]){
            {"-n,--max-tokens", CMD_INT, &r.max_tokens, "N", "of an answer (0: no limit)", 0,
             1 << 30},
            {"--system", CMD_STRING, &r.system, "TEXT", "told to the model before all else", 0, 0},
            {"--stop", CMD_LIST, &r.stops, "STR", "ends the answer; may stand several times", 0, 0},
            {"--ctx", CMD_INT, &r.ctx, "N", "tokens of context (0: the model's, at most 8192)", 0,
             1 << 24},
            {"--slide", CMD_FLAG, &r.slide, NULL, "forget the oldest when the context is full", 0,
             0},
            {"--keep", CMD_INT, &r.keep, "N", "tokens at the start that --slide keeps (64)", 0,
             1 << 24},
            {"-t,--threads", CMD_INT, &r.threads, "N", "worker threads (0: all cores)", 0, 256},
            {"--cpu", CMD_STRING, &r.cpu, "LEVEL", "kernels: ref, avx2, avx512 (the best here)", 0,
             0},
            {"--kv-int8", CMD_FLAG, &r.kv_int8, NULL,
             "half the memory for the KV cache, a little less accurate", 0, 0},
            {"--exact", CMD_FLAG, &r.exact, NULL, "float32 activations and KV cache, slow", 0, 0},
            {"--speculate", CMD_STRING, &r.speculate, "N",
             "tokens drafted in a step; off; auto: as many as pay (auto)", 0, 0},
            {"--draft", CMD_STRING, &r.draft, "MODEL", "a small model that drafts for this one", 0,
             0},
            {"--template", CMD_STRING, &r.template_path, "FILE", "a chat template, not the model's",
             0, 0},
            {"--raw", CMD_FLAG, &r.raw, NULL, "go on with the text; no template", 0, 0},
            {"--stats", CMD_FLAG, &r.stats, NULL, "a line about the speed of each answer", 0, 0},
            {"--ignore-eos", CMD_FLAG, &r.ignore_eos, NULL, "answers end at a limit only", 0, 0},
            {"--seed", CMD_INT, &r.seed, "N", "of the random choices (-1: another each time)", -1,
             9e15},
            {"--logit-bias", CMD_LIST, &r.biases, "ID=F", "added to a token's logit; -inf forbids",
             0, 0},
            {0}});
    struct err e;
    char path[4096];
    int rest = cmd_parse(argc, argv, &usage, r.opts, &e), rc = rest < 0 ? rest : 0;
    if (rest == CMD_HELP) return 0;
    if (!rc) rc = check(&r, rest, argv, &e);
    if (!rc) rc = cmd_model_path(r.model, path, sizeof path, &e);
    if (!rc) rc = work(&r, path, &e);
    return rc ? cmd_fail(&e) : 0;
}
