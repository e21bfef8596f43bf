/* A server for tests: /echo answers with what it was asked, /hold is left for the test to answer, all
 * else is 404. Counts what it is told. */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "http.h"
#include "http_client.h"
#include "thread.h"
#include <dirent.h>

static inline int open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

struct server {
    struct http *h;
    struct http_opts o;
    struct thread_monitor m;
    struct http_request *held; /* one at a time */
    int gone, drained, logged; /* calls */
    struct http_request *gone_request;
    int status;
    int64_t bytes;
    bool cut;
    char path[64];
};

static void echo(struct http_request *r)
{
    static const char *const none = "-";
    const char *q = http_query(r, "q"), *x = http_header(r, "x-TEST");
    size_t n;
    const char *body = http_body(r, &n);
    char head[1024];
    int k = snprintf(head, sizeof head, "%s %s q=%s x=%s peer=%s body=", http_method(r),
                     http_path(r), q ? q : none, x ? x : none, http_peer(r));
    char *all = malloc((size_t)k + n + 1);
    if (!all) {
        http_reply(r, 503, NULL, NULL, 0, NULL, 0);
        return;
    }
    memcpy(all, head, (size_t)k);
    memcpy(all + k, body, n);
    struct http_field f = {"X-Answer", "yes"};
    http_reply(r, 200, "text/plain", &f, 1, all, (size_t)k + n);
    free(all);
}

static void server_handle(void *arg, struct http_request *r)
{
    struct server *s = arg;
    if (strncmp(http_path(r), "/echo", 5) == 0) {
        echo(r);
    } else if (strcmp(http_path(r), "/hold") == 0) {
        thread_hold(&s->m);
        while (s->held) thread_wait(&s->m, -1);
        s->held = r;
        thread_wake(&s->m);
        thread_release(&s->m);
    } else {
        http_reply(r, 404, "text/plain", NULL, 0, "none\n", 5);
    }
}

static void server_count(struct server *s, int *n)
{
    thread_hold(&s->m);
    ++*n;
    thread_wake(&s->m);
    thread_release(&s->m);
}

static void server_gone(void *arg, struct http_request *r)
{
    struct server *s = arg;
    s->gone_request = r;
    server_count(s, &s->gone);
}

static void server_drained(void *arg, struct http_request *r)
{
    (void)r;
    server_count(arg, &((struct server *)arg)->drained);
}

static void server_logged(void *arg, const struct http_request *r, int status, int64_t bytes,
                          int64_t ns, bool cut)
{
    struct server *s = arg;
    assert_true(ns >= 0);
    assert_null(http_header(r, "no-such-header")); /* all that came can be looked at */
    thread_hold(&s->m);
    snprintf(s->path, sizeof s->path, "%s", http_path(r));
    s->status = status;
    s->bytes = bytes;
    s->cut = cut;
    s->logged++;
    thread_wake(&s->m);
    thread_release(&s->m);
}

static void server_refusal(void *arg, const struct http_request *r, int status, struct buf *body,
                           const char **type)
{
    (void)arg;
    *type = "application/json";
    if (status == 503) return;
    buf_puts(body, "{\"refused\":true");
    if (r) buf_printf(body, ",\"path\":\"%s\"", http_path(r));
    buf_puts(body, "}");
}

/* Limits as they are by default; change s->o before server_open. */
static inline struct http_opts *server_init(struct server *s)
{
    *s = (struct server){.o = {.limits = http_limits_default,
                               .handle = server_handle,
                               .gone = server_gone,
                               .drained = server_drained,
                               .logged = server_logged,
                               .refusal = server_refusal,
                               .arg = s}};
    s->o.limits.connections = 512;
    s->o.limits.close_seconds = 5;
    thread_monitor_init(&s->m);
    return &s->o;
}

static inline void server_open(struct server *s)
{
    struct err e;
    if (http_open(&s->h, &s->o, &e)) fail_msg("%s", e.msg);
    assert_in_range(http_port(s->h), 1, 65535);
}

static inline void server_close(struct server *s)
{
    http_close(s->h);
    thread_monitor_free(&s->m);
}

static inline struct client server_client(struct server *s)
{
    return client_open(http_port(s->h), 0);
}

static inline struct http_request *server_held(struct server *s)
{
    thread_hold(&s->m);
    while (!s->held)
        if (!thread_wait(&s->m, (int64_t)WAIT_MS * 1000000)) fail_msg("no request has come");
    struct http_request *r = s->held;
    s->held = NULL;
    thread_wake(&s->m);
    thread_release(&s->m);
    return r;
}

/* Until *n is at least so many. */
static inline void server_wait(struct server *s, const int *n, int least)
{
    thread_hold(&s->m);
    while (*n < least)
        if (!thread_wait(&s->m, (int64_t)WAIT_MS * 1000000)) fail_msg("only %d calls", *n);
    thread_release(&s->m);
}

static inline int server_get(struct server *s, const int *n)
{
    thread_hold(&s->m);
    int value = *n;
    thread_release(&s->m);
    return value;
}

/* An answer to a good question, on a connection of its own. */
static inline void server_check(struct server *s)
{
    struct client c = server_client(s);
    char *body = client_ask(&c, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    assert_string_equal(body, "GET /echo q=- x=- peer=127.0.0.1 body=");
    free(body);
    client_close(&c);
}

#endif
