/* `solvent ps`: asks a server which of its models are in memory. What it says is foreign: it is checked
 * before it is printed. */
#include "ask.h"
#include "cmd.h"
#include "progress.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ANSWER_MAX = 4 << 20, NAME_SHOWN = 100 };

struct ps {
    const char *host, *key;
    int64_t port;
    bool tls, json;
};

/* Of an object: a text of printable ASCII, cut; or "?". */
static void text_of(const json_t *o, const char *field, char *out, size_t room)
{
    const char *s = json_string_value(json_object_get(o, field));
    snprintf(out, room, "%s", s && *s ? s : "?");
    for (; *out; out++)
        if (*out < ' ' || *out > '~') *out = '?';
}

/* "4 minutes from now", "forever" */
static void until(const json_t *m, char out[40])
{
    char text[40];
    struct tm tm = {0};
    text_of(m, "expires_at", text, sizeof text);
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    double left = end ? difftime(timegm(&tm), time(NULL)) : 0;
    snprintf(out, 40, "?");
    if (!end) return;
    if (left > 100.0 * 365 * 86400)
        snprintf(out, 40, "forever");
    else if (left < 0)
        snprintf(out, 40, "now");
    else if (left < 120)
        snprintf(out, 40, "%.0f seconds", left);
    else if (left < 120 * 60)
        snprintf(out, 40, "%.0f minutes", left / 60);
    else
        snprintf(out, 40, "%.0f hours", left / 3600);
}

static void print_table(json_t *models)
{
    size_t i;
    json_t *m;
    char name[NAME_SHOWN], state[16], size[16], end[40];
    int width = 4;
    json_array_foreach(models, i, m)
    {
        text_of(m, "name", name, sizeof name);
        if ((int)strlen(name) > width) width = (int)strlen(name);
    }
    printf("%-*s  %8s  %-8s  %8s  %s\n", width, "NAME", "SIZE", "STATE", "REQUESTS", "UNTIL");
    json_array_foreach(models, i, m)
    {
        text_of(m, "name", name, sizeof name);
        text_of(m, "state", state, sizeof state);
        progress_bytes(json_integer_value(json_object_get(m, "size")), size);
        until(m, end);
        double requests = (double)json_integer_value(json_object_get(m, "requests")) +
                          (double)json_integer_value(json_object_get(m, "waiting"));
        printf("%-*s  %8s  %-8s  %8.0f  %s\n", width, name, size, state, requests, end);
    }
}

static int refused(json_t *answer, long status, const char *url, struct err *e)
{
    json_t *why = json_object_get(answer, "error");
    if (json_is_object(why)) why = json_object_get(why, "message");
    return err_set(e, ERR_IO, "%.150s says %ld: %.200s%s", url, status,
                   json_is_string(why) ? json_string_value(why) : "no model server",
                   status == 401 ? " (see --key)" : "");
}

static int ps(const struct ps *p, struct err *e)
{
    struct buf url = BUF_INIT(1000), body = BUF_INIT(ANSWER_MAX);
    bool v6 = strchr(p->host, ':') && *p->host != '[';
    long status = 0;
    buf_printf(&url, "%s://%s%s%s:%d/api/ps", p->tls ? "https" : "http", v6 ? "[" : "", p->host,
               v6 ? "]" : "", (int)p->port);
    int rc = url.failed ? err_set(e, ERR_USAGE, "the host's name is too long")
                        : ask_get(url.data, p->key, &body, &status, e);
    json_t *answer = rc || !body.data ? NULL : json_loadb(body.data, body.len, 0, NULL);
    json_t *models = json_object_get(answer, "models");
    if (!rc && (status != 200 || !json_is_array(models))) rc = refused(answer, status, url.data, e);
    if (!rc && p->json && (json_dumpf(models, stdout, JSON_INDENT(2)) || puts("") < 0))
        rc = err_set(e, ERR_IO, "cannot print the list");
    if (!rc && !p->json) print_table(models);
    json_decref(answer);
    buf_free(&body);
    buf_free(&url);
    return rc;
}

int cmd_ps(int argc, char **argv)
{
    struct ps p = {.host = "127.0.0.1", .port = 8080, .key = getenv("SOLVENT_KEY")};
    struct err e;
    const struct cmd_usage usage = {
        "solvent ps",
        "Which models a server has in memory: their size, the requests that they compute or that "
        "wait\n"
        "for them, and how long they stay if nobody asks.",
    };
    const struct cmd_opt opts[] = {
        {"--host", CMD_STRING, &p.host, "H", "where the server is (127.0.0.1)", 0, 0},
        {"--port", CMD_INT, &p.port, "P", "its port (8080)", 1, 65535},
        {"--key", CMD_STRING, &p.key, "KEY", "a key of the server ($SOLVENT_KEY)", 0, 0},
        {"--tls", CMD_FLAG, &p.tls, NULL, "by HTTPS", 0, 0},
        {"--json", CMD_FLAG, &p.json, NULL, "an array of objects", 0, 0},
        {0},
    };
    int n = cmd_parse(argc, argv, &usage, opts, &e);
    if (n == CMD_HELP) return 0;
    if (n > 0) n = err_set(&e, ERR_USAGE, "ps takes no argument '%.100s'", argv[1]);
    if (p.key && !*p.key) p.key = NULL;
    if (n >= 0) n = ps(&p, &e);
    return n < 0 ? cmd_fail(&e) : 0;
}
