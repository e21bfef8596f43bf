/* A small server on the HTTP layer, for tests from outside:
 *
 *     http_echo [--tls CERT KEY] [LIMIT=VALUE ...]      LIMIT: a name of http_limit_rows
 *
 *     /echo             the body, or "hello"
 *     /slow?n=N&ms=M    a stream of N lines, one every M ms
 *     /big?bytes=N      a stream of N bytes, as fast as it is read
 *     /info             "connections N requests N cut N streams N"
 *
 * Prints "port N" and runs until its input ends. Streams are written by one thread, as an engine would.
 */
#include "clock.h"
#include "http.h"
#include "thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUND_NS = 1000000, PIECE = 32 * 1024 };

/* Belongs to the writer once it is in the list; the atomics are what the server's threads tell it. */
struct stream {
    struct stream *next;
    struct http_request *r;
    int64_t left, step_ns, due_ns; /* lines, or bytes with step_ns 0 */
    atomic_bool gone, full;
};

static struct {
    struct http *h;
    struct thread_monitor m;
    struct stream *streams;
    int64_t n_streams;
    bool stop;
} all;

static int64_t number(const struct http_request *r, const char *name, int64_t most)
{
    const char *s = http_query(r, name);
    long long v = s ? strtoll(s, NULL, 10) : 0;
    return v < 0 ? 0 : v > most ? most : v;
}

static void start(struct http_request *r, int64_t left, int64_t step_ns)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        http_reply(r, 503, NULL, NULL, 0, NULL, 0);
        return;
    }
    *s = (struct stream){.r = r, .left = left, .step_ns = step_ns, .due_ns = clock_ns()};
    http_set_user(r, s);
    http_begin(r, 200, "text/plain", NULL, 0);
    thread_hold(&all.m);
    s->next = all.streams;
    all.streams = s;
    all.n_streams++;
    thread_wake(&all.m);
    thread_release(&all.m);
}

static void handle(void *arg, struct http_request *r)
{
    (void)arg;
    const char *path = http_path(r);
    if (strcmp(path, "/echo") == 0) {
        size_t n;
        const void *body = http_body(r, &n);
        http_reply(r, 200, "text/plain", NULL, 0, n ? body : "hello", n ? n : 5);
    } else if (strcmp(path, "/slow") == 0) {
        start(r, number(r, "n", 1000000), number(r, "ms", 1000000) * 1000000);
    } else if (strcmp(path, "/big") == 0) {
        start(r, number(r, "bytes", INT64_C(1) << 40), 0);
    } else if (strcmp(path, "/info") == 0) {
        struct http_info i;
        http_info(all.h, &i);
        thread_hold(&all.m);
        int64_t streams = all.n_streams;
        thread_release(&all.m);
        char line[160];
        int64_t cut = 0;
        for (int k = 0; k < HTTP_CUTS; k++) cut += i.cut[k];
        int n = snprintf(
            line, sizeof line, "connections %lld requests %lld cut %lld streams %lld\n",
            (long long)i.connections, (long long)i.requests, (long long)cut, (long long)streams);
        http_reply(r, 200, "text/plain", NULL, 0, line, (size_t)n);
    } else {
        http_reply(r, 404, "text/plain", NULL, 0, "none\n", 5);
    }
}

static void gone(void *arg, struct http_request *r)
{
    (void)arg;
    struct stream *s = http_user(r);
    atomic_store(&s->gone, true);
}

static void drained(void *arg, struct http_request *r)
{
    (void)arg;
    struct stream *s = http_user(r);
    atomic_store(&s->full, false);
}

/* Writes what is due; false when the stream is over. */
static bool step(struct stream *s, int64_t now)
{
    static const char piece[PIECE];
    enum http_put what = HTTP_OK;
    while (s->left && what == HTTP_OK && !atomic_load(&s->gone) && !atomic_load(&s->full)) {
        if (s->step_ns) {
            if (s->due_ns > now) break;
            s->due_ns += s->step_ns;
            s->left--;
            what = http_put(s->r, "line\n", 5);
        } else {
            size_t n = s->left < PIECE ? (size_t)s->left : PIECE;
            s->left -= (int64_t)n;
            atomic_store(&s->full, true); /* before, for drained may come at once */
            what = http_put(s->r, piece, n);
            if (what == HTTP_OK) atomic_store(&s->full, false);
        }
    }
    return s->left && what != HTTP_GONE && !atomic_load(&s->gone);
}

static void write_streams(void *arg)
{
    (void)arg;
    thread_hold(&all.m);
    while (!all.stop || all.streams) {
        int64_t now = clock_ns();
        for (struct stream **at = &all.streams; *at;) {
            struct stream *s = *at;
            if (step(s, now)) {
                at = &s->next;
                continue;
            }
            *at = s->next;
            all.n_streams--;
            http_end(s->r); /* gone and drained take no lock of ours */
            free(s);
        }
        thread_wait(&all.m, all.streams || all.stop ? ROUND_NS : -1);
    }
    thread_release(&all.m);
}

static int parse(struct http_opts *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--tls") == 0 && i + 2 < argc) {
            o->tls_cert = argv[++i];
            o->tls_key = argv[++i];
            continue;
        }
        const char *equals = strchr(argv[i], '=');
        const struct http_limit_row *row = http_limit_rows;
        while (row->name && equals &&
               (strlen(row->name) != (size_t)(equals - argv[i]) ||
                strncmp(row->name, argv[i], (size_t)(equals - argv[i])) != 0))
            row++;
        if (!equals || !row->name) {
            fprintf(stderr, "http_echo: what is %s?\n", argv[i]);
            return 2;
        }
        int64_t value = strtoll(equals + 1, NULL, 10);
        memcpy((char *)&o->limits + row->offset, &value, sizeof value);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct http_opts o = {
        .limits = http_limits_default, .handle = handle, .gone = gone, .drained = drained};
    struct thread *writer;
    struct err e;
    int rc = parse(&o, argc, argv);
    if (rc) return rc;
    thread_monitor_init(&all.m);
    if (http_open(&all.h, &o, &e) || thread_open(&writer, write_streams, NULL, &e)) {
        fprintf(stderr, "http_echo: %s\n", e.msg);
        return 1;
    }
    printf("port %d\n", http_port(all.h));
    fflush(stdout);
    char waste[64];
    while (read(0, waste, sizeof waste) > 0) {}
    http_close(all.h);
    thread_hold(&all.m);
    all.stop = true;
    thread_wake(&all.m);
    thread_release(&all.m);
    thread_close(writer);
    thread_monitor_free(&all.m);
    return 0;
}
