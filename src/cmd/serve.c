/* `solvent serve`: flags, the administrator's first key, and the order of start and end. The main thread
 * waits for signals; everything else happens on the threads of http, of the workers and of the pools. */
#include "api.h"
#include "cmd.h"
#include "keys.h"
#include "progress.h"
#include "userdir.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_ROOM = 4096 };

struct serve {
    struct cmd_list models;
    const char *host, *keys, *tls_cert, *tls_key, *log, *cpu;
    int64_t port, ctx, threads, running, queue, kv_mib, gap_ms;
    bool no_keys, limits;
    char paths[CMD_LIST_MAX][PATH_ROOM], names[CMD_LIST_MAX][256];
    struct api_model list[CMD_LIST_MAX];
    char keys_path[PATH_ROOM];
};

static void print_limits(void)
{
    for (const struct http_limit_row *r = http_limit_rows; r->name; r++)
        printf("%-18s %10lld %-9s %s\n", r->name, (long long)http_limit(&http_limits_default, r),
               r->unit, r->help);
}

/* A model is asked for by the name of its file without folders and ".gguf". */
static int find_models(struct serve *s, struct err *e)
{
    for (int i = 0; i < s->models.n; i++) {
        int rc = cmd_model_path(s->models.items[i], s->paths[i], PATH_ROOM, e);
        if (rc) return rc;
        const char *slash = strrchr(s->paths[i], '/');
        snprintf(s->names[i], sizeof s->names[i], "%s", slash ? slash + 1 : s->paths[i]);
        size_t n = strlen(s->names[i]);
        if (n > 5 && strcmp(s->names[i] + n - 5, ".gguf") == 0) s->names[i][n - 5] = 0;
        for (int k = 0; k < i; k++)
            if (strcmp(s->names[k], s->names[i]) == 0)
                return err_set(e, ERR_USAGE, "two models are called %s", s->names[i]);
        s->list[i] = (struct api_model){s->names[i], s->paths[i]};
    }
    return 0;
}

int cmd_keys_path(const char *given, char *path, unsigned room, struct err *e)
{
    char dir[PATH_ROOM];
    int n = -1;
    if (given)
        n = snprintf(path, room, "%s", given);
    else if (userdir_find(dir, sizeof dir, USERDIR_CONFIG, "") && !userdir_make(dir, 0700))
        n = snprintf(path, room, "%s/keys", dir);
    if (n < 0 || (unsigned)n >= room)
        return err_set(e, ERR_IO, "no place for the keys: name a file with --keys");
    return 0;
}

/* The first time there is no file: an administrator's key is made and shown. */
static int first_key(struct serve *s, char key[KEYS_TEXT], struct err *e)
{
    key[0] = 0;
    if (s->no_keys) return 0;
    int rc = cmd_keys_path(s->keys, s->keys_path, PATH_ROOM, e);
    if (!rc && access(s->keys_path, F_OK) && errno == ENOENT)
        rc = keys_add(s->keys_path, "admin", true, key, e);
    return rc;
}

static void greet(const struct serve *s, int port, const char *key)
{
    const char *scheme = s->tls_cert ? "https" : "http";
    bool v6 = strchr(s->host, ':') != NULL;
    char at[300];
    snprintf(at, sizeof at, "%s://%s%s%s:%d", scheme, v6 ? "[" : "", s->host, v6 ? "]" : "", port);
    fprintf(stderr, "solvent: chat at %s/\n", at);
    if (key[0]) fprintf(stderr, "solvent: the administrator's key, shown this once: %s\n", key);
    fprintf(stderr, "solvent: try: curl %s/v1/chat/completions -H 'Content-Type: application/json'",
            at);
    if (!s->no_keys)
        fprintf(stderr, " -H \"Authorization: Bearer %s\"", key[0] ? key : "$SOLVENT_KEY");
    fprintf(stderr,
            " -d '{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n",
            s->names[0]);
}

static void wait_for_signal(const sigset_t *set)
{
    int sig = 0;
    while (sigwait(set, &sig)) {}
    fprintf(stderr, "solvent: going down after what is under way (again: at once)\n");
}

static int run(struct serve *s, struct api *a, const char *key, struct err *e)
{
    struct http *h;
    sigset_t set;
    struct http_opts o = {.host = s->host,
                          .port = (int)s->port,
                          .tls_cert = s->tls_cert,
                          .tls_key = s->tls_key,
                          .limits = http_limits_default,
                          .handle = api_handle,
                          .gone = api_gone,
                          .drained = api_drained,
                          .logged = api_logged,
                          .refusal = api_refusal,
                          .arg = a};
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int rc = http_open(&h, &o, e);
    if (rc) return rc;
    greet(s, http_port(h), key);
    wait_for_signal(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL); /* a second one ends the process */
    api_drain(a);
    http_close(h);
    return 0;
}

/* Of each model. */
static size_t kv_bytes(const struct serve *s)
{
    size_t all = (size_t)s->kv_mib << 20;
    if (!all) all = (size_t)sysconf(_SC_PHYS_PAGES) / 4 * (size_t)sysconf(_SC_PAGESIZE);
    return all / (size_t)s->models.n;
}

static int serve(struct serve *s, struct err *e)
{
    struct progress bar;
    struct api *a;
    char key[KEYS_TEXT];
    FILE *log = NULL;
    int rc = find_models(s, e);
    if (!rc && !s->tls_cert != !s->tls_key)
        rc = err_set(e, ERR_USAGE, "--tls-cert and --tls-key go together");
    if (!rc) rc = first_key(s, key, e);
    if (!rc && s->log && !(log = strcmp(s->log, "-") ? fopen(s->log, "ae") : stdout))
        rc = err_set(e, ERR_IO, "cannot write %s: %s", s->log, strerror(errno));
    if (rc) return rc;
    struct api_opts o = {.models = s->list,
                         .n_models = s->models.n,
                         .worker = {.engine = {.threads = (int)s->threads,
                                               .ctx = (int)s->ctx,
                                               .packs = cmd_packs(),
                                               .cpu = s->cpu,
                                               .progress = cmd_load_progress,
                                               .progress_arg = &bar},
                                    .jobs = (int)s->queue,
                                    .running = (int)s->running,
                                    .kv_bytes = kv_bytes(s),
                                    .gap_ns = s->gap_ms * 1000000},
                         .keys = s->no_keys ? NULL : s->keys_path,
                         .host = s->host,
                         .log = log};
    progress_init(&bar, "loading", 0, PROGRESS_BYTES);
    rc = api_open(&a, &o, e);
    progress_end(&bar);
    if (!rc) {
        rc = run(s, a, key, e);
        api_close(a);
    }
    if (log && log != stdout) fclose(log);
    return rc;
}

int cmd_serve(int argc, char **argv)
{
    static struct serve s = {.host = "127.0.0.1", .port = 8080};
    struct err e;
    const struct cmd_usage usage = {
        "solvent serve -m MODEL [-m MODEL ...]",
        "Serves models to many users at once: the APIs of OpenAI and Anthropic under /v1, "
        "Ollama's\n"
        "under /api, a chat page at /, metrics in Prometheus' format at /metrics. Ctrl-C or "
        "SIGTERM\n"
        "lets answers under way end.",
    };
    const struct cmd_opt opts[] = {
        {"-m,--model", CMD_LIST, &s.models, "MODEL",
         "a pulled model or a file; may stand several times", 0, 0},
        {"--host", CMD_STRING, &s.host, "H", "address to listen on (127.0.0.1)", 0, 0},
        {"--port", CMD_INT, &s.port, "P", "port, 0: any that is free (8080)", 0, 65535},
        {"--keys", CMD_STRING, &s.keys, "FILE", "keys (~/.config/solvent/keys); see `solvent keys`",
         0, 0},
        {"--no-keys", CMD_FLAG, &s.no_keys, NULL, "let everybody in who reaches the port", 0, 0},
        {"--ctx", CMD_INT, &s.ctx, "N", "tokens of a conversation (8192, or what the model has)", 0,
         1 << 24},
        {"--running", CMD_INT, &s.running, "N", "requests computed side by side (32)", 1, 1024},
        {"--queue", CMD_INT, &s.queue, "N", "requests at once, waiting ones among them (256)", 1,
         100000},
        {"--kv-mib", CMD_INT, &s.kv_mib, "N",
         "memory for keys and values of all models (a quarter of all)", 1, 1 << 24},
        {"--gap-ms", CMD_INT, &s.gap_ms, "N",
         "wanted between two tokens while prompts are computed (200)", 1, 60000},
        {"-t,--threads", CMD_INT, &s.threads, "N", "threads of each model (all cores)", 0, 1024},
        {"--cpu", CMD_STRING, &s.cpu, "LEVEL", "ref, avx2 or avx512 (the best there is)", 0, 0},
        {"--tls-cert", CMD_STRING, &s.tls_cert, "FILE", "certificate, PEM", 0, 0},
        {"--tls-key", CMD_STRING, &s.tls_key, "FILE", "its key, PEM", 0, 0},
        {"--log", CMD_STRING, &s.log, "FILE", "a line of JSON a request; - for standard output", 0,
         0},
        {"--limits", CMD_FLAG, &s.limits, NULL, "print the limits and end", 0, 0},
        {0},
    };
    int n = cmd_parse(argc, argv, &usage, opts, &e);
    if (n == CMD_HELP) return 0;
    if (n >= 0 && s.limits) {
        print_limits();
        return 0;
    }
    if (n > 0) n = err_set(&e, ERR_USAGE, "serve wants flags only (see --help)");
    if (n == 0 && !s.models.n) n = err_set(&e, ERR_USAGE, "serve wants a model: -m MODEL");
    if (n == 0) n = serve(&s, &e);
    return n < 0 ? cmd_fail(&e) : 0;
}
