/* `solvent serve`: flags, the administrator's first key, and the order of start and end. The main thread
 * waits for signals; everything else happens on the threads of http, of the workers and of the pools. */
#include "amount.h"
#include "api.h"
#include "cmd.h"
#include "keys.h"
#include "progress.h"
#include "ram.h"
#include "serving.h"
#include "spec.h"
#include "userdir.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PATH_ROOM = 4096,
    LOOK_SECONDS = 2,
    END_SECONDS = 5 /* after what is under way */
};

struct serve {
    struct cmd_list models;
    struct serving serving;
    const char *models_file, *memory, *keep_alive;
    size_t budget_bytes;
    const char *host, *keys, *tls_cert, *tls_key, *log, *cpu, *speculate;
    int64_t port, ctx, threads, running, queue, kv_mib, gap_ms, close_seconds, per_ip;
    bool no_keys, limits, kv_int8;
    char keys_path[PATH_ROOM];
};

static void print_limits(void)
{
    for (const struct http_limit_row *r = http_limit_rows; r->name; r++)
        printf("%-18s %10lld %-9s %s\n", r->name, (long long)http_limit(&http_limits_default, r),
               r->unit, r->help);
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

static void greet(const struct serve *s, const struct api *a, int port, const char *key)
{
    const char *scheme = s->tls_cert ? "https" : "http";
    bool v6 = strchr(s->host, ':') != NULL;
    char at[300];
    snprintf(at, sizeof at, "%s://%s%s%s:%d", scheme, v6 ? "[" : "", s->host, v6 ? "]" : "", port);
    fprintf(stderr, "solvent: chat at %s/\n", at);
    if (s->serving.n > s->serving.preloaded)
        fprintf(stderr, "solvent: %d models, loaded when they are asked for, in %zu MiB\n",
                s->serving.n, s->budget_bytes >> 20);
    if (key[0]) fprintf(stderr, "solvent: the administrator's key, shown this once: %s\n", key);
    fprintf(stderr, "solvent: try: curl %s/v1/chat/completions -H 'Content-Type: application/json'",
            at);
    if (!s->no_keys)
        fprintf(stderr, " -H \"Authorization: Bearer %s\"", key[0] ? key : "$SOLVENT_KEY");
    fprintf(stderr,
            " -d '{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n",
            api_model_name(a));
}

/* Meanwhile, models that are pulled join those that are served, and removed ones leave. */
static void wait_for_signal(struct serve *s, struct api *a, const sigset_t *set)
{
    const struct timespec pause = {.tv_sec = LOOK_SECONDS};
    while (sigtimedwait(set, NULL, &pause) < 0) serving_look(&s->serving, a);
    fprintf(stderr, "solvent: going down after what is under way (again: at once)\n");
}

static volatile sig_atomic_t clients_are_gone;

/* Nobody waits for an end that does not come, whatever holds it up: a long step, most likely. */
static void give_up(int sig)
{
    (void)sig;
    _exit(!clients_are_gone);
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
    o.limits.connections_per_address = s->per_ip;
    if (s->close_seconds >= 0) o.limits.close_seconds = s->close_seconds;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int rc = http_open(&h, &o, e);
    if (rc) return rc;
    greet(s, a, http_port(h), key);
    wait_for_signal(s, a, &set);
    sigprocmask(SIG_UNBLOCK, &set, NULL); /* a second one ends the process */
    signal(SIGALRM, give_up);
    alarm((unsigned)o.limits.close_seconds + END_SECONDS);
    api_drain(a);
    http_close(h);
    clients_are_gone = 1;
    return 0;
}

/* Without --memory the models named by -m are bounded by the machine alone; those that come and go get
 * three quarters of what is free. */
static int find_memory(struct serve *s, struct err *e)
{
    size_t all = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE), now = ram_free();
    int rc = s->memory ? amount_bytes(s->memory, &s->budget_bytes, e) : 0;
    if (rc) return err_prefix(e, "--memory");
    if (s->memory && !s->budget_bytes) return err_set(e, ERR_USAGE, "--memory is 0");
    if (!s->memory && s->serving.n > s->serving.preloaded)
        s->budget_bytes = (now ? now : all) / 4 * 3;
    return 0;
}

/* Of each model; of those that come and go, four are thought to be there at once. */
static size_t kv_bytes(const struct serve *s)
{
    int n = s->serving.n < 4 ? s->serving.n : 4;
    size_t all = (size_t)s->kv_mib << 20;
    if (!all && s->budget_bytes) all = s->budget_bytes / 4;
    if (!all) all = (size_t)sysconf(_SC_PHYS_PAGES) / 4 * (size_t)sysconf(_SC_PAGESIZE);
    return all / (size_t)(n < s->serving.preloaded ? s->serving.preloaded : n);
}

static int find_models(struct serve *s, struct err *e)
{
    int64_t keep_ns;
    if (amount_ns(s->keep_alive, &keep_ns, e)) return err_prefix(e, "--keep-alive");
    int rc = serving_find(&s->serving, &s->models, s->models_file, keep_ns, e);
    return rc ? rc : find_memory(s, e);
}

static int serve(struct serve *s, struct err *e)
{
    struct progress bar;
    struct api *a;
    char key[KEYS_TEXT];
    FILE *log = NULL;
    int drafted, rc = cmd_speculate(s->speculate, &drafted, e);
    if (!rc) rc = find_models(s, e);
    if (!rc && !s->tls_cert != !s->tls_key)
        rc = err_set(e, ERR_USAGE, "--tls-cert and --tls-key go together");
    if (!rc) rc = first_key(s, key, e);
    if (!rc && s->log && !(log = strcmp(s->log, "-") ? fopen(s->log, "ae") : stdout))
        rc = err_set(e, ERR_IO, "cannot write %s: %s", s->log, strerror(errno));
    if (rc) return rc;
    struct api_opts o = {.models = s->serving.list,
                         .n_models = s->serving.n,
                         .room = SERVING_MAX - s->serving.n,
                         .budget_bytes = s->budget_bytes,
                         .worker = {.engine = {.threads = (int)s->threads,
                                               .ctx = (int)s->ctx,
                                               .packs = cmd_packs(),
                                               .cpu = s->cpu,
                                               .kv_int8 = s->kv_int8,
                                               .progress = cmd_load_progress,
                                               .progress_arg = &bar},
                                    .jobs = (int)s->queue,
                                    .running = (int)s->running,
                                    .kv_bytes = kv_bytes(s),
                                    .gap_ns = s->gap_ms * 1000000,
                                    .spec_tokens = drafted,
                                    .no_spec = drafted == 0},
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
    static struct serve s = {.host = "127.0.0.1",
                             .port = 8080,
                             .keep_alive = "5m",
                             .close_seconds = -1,
                             .speculate = "auto"};
    struct err e;
    const struct cmd_usage usage = {
        "solvent serve [-m MODEL ...] [--models FILE]",
        "Serves models to many users at once: the APIs of OpenAI and Anthropic under /v1, "
        "Ollama's\n"
        "under /api, a chat page at /, metrics in Prometheus' format at /metrics. Without -m and "
        "--models\n"
        "all pulled models, each loaded when it is asked for. Ctrl-C or SIGTERM lets answers under "
        "way end.",
    };
    const struct cmd_opt opts[] = {
        {"-m,--model", CMD_LIST, &s.models, "MODEL",
         "a pulled model or a file, loaded at the start; may stand several times", 0, 0},
        {"--models", CMD_STRING, &s.models_file, "FILE",
         "models with aliases and defaults, loaded when asked for (see the manual)", 0, 0},
        {"--memory", CMD_STRING, &s.memory, "BYTES",
         "for all loaded models, such as 12GiB (3/4 of what is free; -m alone: no bound)", 0, 0},
        {"--keep-alive", CMD_STRING, &s.keep_alive, "TIME",
         "that a model loaded when asked for stays unused (5m); -1: until memory is wanted", 0, 0},
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
        {"--kv-int8", CMD_FLAG, &s.kv_int8, NULL,
         "half the memory for the KV cache, a little less accurate", 0, 0},
        {"--gap-ms", CMD_INT, &s.gap_ms, "N",
         "wanted between two tokens while prompts are computed (100)", 1, 60000},
        {"--close-seconds", CMD_INT, &s.close_seconds, "N",
         "at the end, for answers under way; five more, and all is over (30)", 0, 24 * 3600},
        {"--max-conns-per-ip", CMD_INT, &s.per_ip, "N",
         "connections of a client's address; leave it off behind a proxy (0: any number)", 0,
         1 << 20},
        {"--speculate", CMD_STRING, &s.speculate, "N",
         "tokens drafted for an answer in a step: auto, off or 1 to 15 (auto)", 0, 0},
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
    if (n == 0) n = serve(&s, &e);
    serving_free(&s.serving);
    return n < 0 ? cmd_fail(&e) : 0;
}
