/* The server: opening and closing, and the library's callbacks, which carry a connection through its
 * phases. All callbacks of one connection come on one thread of the library's.
 */
#include "http_int.h"

#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    THREADS = 2,
    THREADS_MAX = 64,
    OTHER_FILES = 512,   /* beside connections */
    SLACK = 1024,        /* connections that are on their way in or out */
    PAIR_BYTES = 64,     /* of the library, for a field */
    ANSWER_BYTES = 4096, /* at least left for the headers of an answer */
    BACK_SECONDS = 2,    /* at the end, for those who are told that there is no answer */
    CUT_SECONDS = 3,     /* for all to go */
    BAD = 400,
    TOO_MANY = 429,
    BUSY = 503
};

static struct http__conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

static int fd_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

static const struct sockaddr *address_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return i ? i->client_addr : NULL;
}

/* r: NULL for the connection as such. Returns the bytes of the body that were sent. */
static int64_t refuse_connection(struct http *h, int fd, int status, const struct http_request *r)
{
    int64_t sent = http__refuse(h, r ? r->mhd : NULL, fd, status, r);
    thread_hold(&h->lock);
    http__linger(h, fd);
    thread_release(&h->lock);
    return sent;
}

static void enter(struct http__conn *c, enum http__phase phase)
{
    c->phase = phase;
    c->since_ns = clock_ns();
    c->bytes = 0;
}

static void came(struct http *h, struct MHD_Connection *mhd, void **context)
{
    int fd = fd_of(mhd);
    bool many = false;
    struct http__conn *c = fd < h->n_conns ? calloc(1, sizeof *c) : NULL;
    thread_hold(&h->lock);
    h->connections++;
    h->opened++;
    if (c) {
        c->fd = fd;
        enter(c, HTTP__IDLE);
        if (!http__watch_add(h, c, EPOLLRDHUP | EPOLLET)) {
            free(c);
            c = NULL;
        }
    }
    if (c) many = !http__listen_count(h, c, address_of(mhd));
    if (many) atomic_fetch_add(&h->cut[HTTP_CUT_ADDRESS], 1);
    bool stays = c && !h->closing && !many; /* what is not watched may not */
    thread_release(&h->lock);
    *context = c;
    if (stays) return;
    if (many && !h->opts.tls_cert) refuse_connection(h, fd, TOO_MANY, NULL);
    shutdown(fd, SHUT_RDWR);
}

static void went(struct http *h, struct http__conn *c)
{
    thread_hold(&h->lock);
    if (c) {
        http__listen_uncount(h, c);
        http__watch_remove(h, c);
    }
    h->connections--;
    if (!h->connections) thread_wake(&h->lock);
    thread_release(&h->lock);
    free(c);
}

static void notice(void *arg, struct MHD_Connection *mhd, void **context,
                   enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        came(arg, mhd, context);
    else
        went(arg, *context);
}

/* A request line has come. */
static void *request_line(void *arg, const char *line, struct MHD_Connection *mhd)
{
    struct http *h = arg;
    struct http__conn *c = conn_of(mhd);
    struct http_request *r = c && line ? http__request_open(h, mhd, line) : NULL;
    if (!r) return NULL;
    thread_hold(&h->lock);
    int64_t since = c->since_ns;
    enter(c, HTTP__HEADER);
    if (!c->served) c->since_ns = since; /* one limit from the connection on */
    c->served = true;
    thread_release(&h->lock);
    return r;
}

static int receive_headers(struct http *h, struct http_request *r, const char *method,
                           const char *version)
{
    int status = http__request_take(r, method, version);
    if (!status && atomic_load(&h->draining)) status = BUSY;
    r->stage = HTTP__RECEIVING;
    struct http__conn *c = conn_of(r->mhd);
    thread_hold(&h->lock);
    enter(c, HTTP__BODY);
    thread_release(&h->lock);
    return status;
}

static int receive_body(struct http *h, struct http_request *r, const char *p, size_t n)
{
    struct http__conn *c = conn_of(r->mhd);
    thread_hold(&h->lock);
    c->bytes += (int64_t)n;
    int status = c->refuse;
    thread_release(&h->lock);
    return status ? status : http__request_body(r, p, n);
}

/* All of it is here. False: the server is being closed. */
static bool hand_over(struct http *h, struct http_request *r)
{
    struct http__conn *c = conn_of(r->mhd);
    thread_hold(&h->lock);
    bool open = !h->closing;
    bool closed = c->closed;
    if (open) {
        enter(c, HTTP__ANSWER);
        c->request = r;
    }
    thread_release(&h->lock);
    if (!open) return false;
    if (closed) http__stream_stop(r, false);
    r->stage = HTTP__HANDED;
    atomic_fetch_add(&h->requests, 1);
    h->opts.handle(h->opts.arg, r);
    return true;
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *mhd, const char *url,
                              const char *method, const char *version, const char *p, size_t *n,
                              void **context)
{
    (void)mhd, (void)url;
    struct http *h = arg;
    struct http_request *r = *context;
    if (!r) return MHD_NO;
    if (r->stage == HTTP__LINE) {
        r->refuse = receive_headers(h, r, method, version);
        return r->refuse ? MHD_NO : MHD_YES;
    }
    if (*n) {
        r->refuse = receive_body(h, r, p, *n);
        *n = 0;
        return r->refuse ? MHD_NO : MHD_YES;
    }
    if (r->stage == HTTP__RECEIVING && !hand_over(h, r)) return MHD_NO;
    return http__stream_start(r) ? MHD_YES : MHD_NO;
}

/* The status of what the library sends, or 0. */
static int status_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_HTTP_STATUS);
    return i ? (int)i->http_status : 0;
}

/* The request was never handed over: refused, broken off, or answered by the library itself. */
static void finish_unhanded(struct http *h, struct http_request *r, int refuse, bool broken)
{
    r->status = status_of(r->mhd);
    if (refuse && !r->status) {
        r->status = refuse;
        r->sent_bytes = refuse_connection(h, fd_of(r->mhd), refuse, r);
    }
    r->begun = r->ended = true;
    r->gone = true;
    if (r->refuse == BAD || (!r->method && !refuse)) http__request_forget(r);
    http__stream_finish(r, !broken || r->status);
}

/* The library forgets, in epoll mode, a connection that its content reader closed. It looks at all those
 * again whose time limit is not the common one, at the latest when that is over. */
static void remember_to_close(struct MHD_Connection *mhd)
{
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
}

static void completed(void *arg, struct MHD_Connection *mhd, void **context,
                      enum MHD_RequestTerminationCode code)
{
    struct http *h = arg;
    struct http_request *r = *context;
    *context = NULL;
    if (!r) return;
    struct http__conn *c = conn_of(mhd);
    thread_hold(&h->lock);
    int refuse = r->refuse ? r->refuse : c->refuse;
    c->request = NULL;
    enter(c, HTTP__IDLE);
    thread_release(&h->lock);
    atomic_fetch_sub(&h->bodies_bytes, r->charged_bytes);
    bool complete = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (!complete || (r->old && r->unknown_length)) remember_to_close(mhd);
    if (r->stage != HTTP__HANDED) {
        finish_unhanded(h, r, refuse, !complete);
        return;
    }
    if (refuse && !status_of(mhd)) /* handed back */
        http__stream_refused(r, refuse, refuse_connection(h, fd_of(mhd), refuse, r));
    http__stream_finish(r, complete);
}

static int check_opts(const struct http_opts *o, struct err *e)
{
    for (const struct http_limit_row *row = http_limit_rows; row->name; row++) {
        int64_t value = http_limit(&o->limits, row);
        if (value < row->min || value > row->max)
            return err_set(e, ERR_USAGE, "%s %lld is not in %lld to %lld", row->name,
                           (long long)value, (long long)row->min, (long long)row->max);
    }
    if (o->threads < 0 || o->threads > THREADS_MAX)
        return err_set(e, ERR_USAGE, "%d threads asked for; 1 to %d are possible", o->threads,
                       THREADS_MAX);
    if (!o->tls_cert != !o->tls_key)
        return err_set(e, ERR_USAGE, "TLS needs both a certificate and a key");
    return 0;
}

/* Descriptors for all connections, and a table as long. */
static int open_table(struct http *h, struct err *e)
{
    struct rlimit r;
    rlim_t want = (rlim_t)h->opts.limits.connections + OTHER_FILES;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return err_set(e, ERR_IO, "getrlimit: %s", strerror(errno));
    if (r.rlim_cur < want && r.rlim_max >= want) {
        r.rlim_cur = want;
        if (setrlimit(RLIMIT_NOFILE, &r) < 0) getrlimit(RLIMIT_NOFILE, &r);
    }
    if (r.rlim_cur < want)
        return err_set(e, ERR_LIMIT,
                       "%lld connections need %lld open files, and the system allows %lld "
                       "(see ulimit -n)",
                       (long long)h->opts.limits.connections, (long long)want,
                       (long long)r.rlim_cur);
    h->n_conns = (int)want * 2; /* others may hold low numbers; what is beyond is refused */
    h->conns = calloc((size_t)h->n_conns, sizeof *h->conns);
    return h->conns ? 0 : err_nomem(e, (size_t)h->n_conns * sizeof *h->conns, "connections");
}

static int open_epoll(struct http *h, struct err *e)
{
    h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = h->listen_fd};
    struct epoll_event wake = {.events = EPOLLIN, .data.fd = h->wake_fd};
    h->accepting = true;
    if (h->epoll_fd < 0 || h->wake_fd < 0 ||
        epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->listen_fd, &ev) < 0 ||
        epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->wake_fd, &wake) < 0)
        return err_set(e, ERR_IO, "epoll: %s", strerror(errno));
    return 0;
}

static int open_daemon(struct http *h, const struct http__tls *tls, struct err *e)
{
    const struct http_limits *l = &h->opts.limits;
    int threads = h->opts.threads ? h->opts.threads : THREADS;
    size_t memory = (size_t)l->header_bytes + (size_t)l->header_fields * PAIR_BYTES + ANSWER_BYTES;
    struct MHD_OptionItem secure[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, tls->cert.data},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, tls->key.data},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_END, 0, NULL},
    };
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET |
                     MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    if (tls->cert.data) flags |= MHD_USE_TLS;
    sigset_t before;
    thread_block_signals(&before);
    errno = 0;
    h->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, answer, h, MHD_OPTION_ARRAY, tls->cert.data ? secure : secure + 3,
        MHD_OPTION_NOTIFY_CONNECTION, notice, h, MHD_OPTION_URI_LOG_CALLBACK, request_line, h,
        MHD_OPTION_NOTIFY_COMPLETED, completed, h, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)threads,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(l->connections + SLACK),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    int why = errno;
    thread_restore_signals(&before);
    return h->daemon ? 0
                     : err_set(e, ERR_IO, "the HTTP library does not start: %s",
                               why ? strerror(why) : "it gives no reason");
}

/* Of a server whose threads have stopped, or never ran. */
static void free_server(struct http *h)
{
    for (int i = 0; h->conns && i < h->top; i++)
        if (h->conns[i]) http__linger_close(h, h->conns[i]);
    if (h->listen_fd >= 0) close(h->listen_fd);
    if (h->epoll_fd >= 0) close(h->epoll_fd);
    if (h->wake_fd >= 0) close(h->wake_fd);
    thread_monitor_free(&h->lock);
    free(h->conns);
    free(h);
}

int http_open(struct http **out, const struct http_opts *o, struct err *e)
{
    struct http__tls tls = {0};
    int rc = check_opts(o, e);
    if (rc) return rc;
    struct http *h = calloc(1, sizeof *h);
    if (!h) return err_nomem(e, sizeof *h, "the server");
    h->opts = *o;
    h->listen_fd = h->epoll_fd = h->wake_fd = -1;
    if (getrandom(&h->salt, sizeof h->salt, GRND_NONBLOCK) < 0) h->salt = (uint64_t)clock_ns();
    thread_monitor_init(&h->lock);
    rc = open_table(h, e);
    if (!rc && o->tls_cert) rc = http__tls_read(&tls, o->tls_cert, o->tls_key, e);
    if (!rc) rc = http__listen_open(h, e);
    if (!rc) rc = open_epoll(h, e);
    if (!rc) rc = open_daemon(h, &tls, e);
    if (!rc) rc = thread_open(&h->watcher, http__watch, h, e);
    http__tls_free(&tls);
    if (rc) {
        if (h->daemon) MHD_stop_daemon(h->daemon);
        free_server(h);
        return rc;
    }
    *out = h;
    return 0;
}

int http_port(const struct http *h)
{
    return h->port;
}

/* Connections that idle are cut by the watcher's next round. */
void http_drain(struct http *h)
{
    atomic_store(&h->draining, true);
    thread_hold(&h->lock);
    if (h->listen_fd >= 0) close(h->listen_fd); /* which takes it out of the epoll set */
    h->listen_fd = -1;
    thread_release(&h->lock);
}

/* Until so many ns on the clock, or the last connection is gone. */
static void wait_for_all(struct http *h, int64_t until)
{
    for (int64_t left; h->connections && (left = until - clock_ns()) > 0;)
        thread_wait(&h->lock, left < HTTP__SECOND / 20 ? left : HTTP__SECOND / 20);
}

/* Those whose answer has not begun are told so, all others are cut. From here on nothing is suspended any
 * more, which would keep the library from stopping: what it forgot to close, it closes then. */
static void cut_all(struct http *h)
{
    int64_t start = clock_ns();
    h->closing = true;
    for (int i = 0; i < h->top; i++) {
        struct http__conn *c = h->conns[i];
        if (!c || c->phase == HTTP__LINGER) continue;
        if (c->phase == HTTP__ANSWER && !c->closed) c->refuse = BUSY;
        bool back = c->request && c->refuse && http__stream_hand_back(c->request);
        if (!back) http__watch_cut(h, c, HTTP_CUT_END);
    }
    wait_for_all(h, start + BACK_SECONDS * (int64_t)HTTP__SECOND);
    for (int i = 0; i < h->top; i++)
        if (h->conns[i] && h->conns[i]->phase != HTTP__LINGER)
            http__watch_cut(h, h->conns[i], HTTP_CUT_END);
    wait_for_all(h, start + CUT_SECONDS * (int64_t)HTTP__SECOND);
}

void http_close(struct http *h)
{
    if (!h) return;
    http_drain(h);
    int64_t until = clock_ns() + h->opts.limits.close_seconds * HTTP__SECOND;
    thread_hold(&h->lock);
    wait_for_all(h, until);
    cut_all(h);
    thread_release(&h->lock);
    atomic_store(&h->stop, true);
    uint64_t one = 1;
    ssize_t n = write(h->wake_fd, &one, sizeof one);
    assert(n == sizeof one);
    thread_close(h->watcher);
    MHD_stop_daemon(h->daemon);
    free_server(h);
}

void http_info(const struct http *h, struct http_info *info)
{
    struct http *own = (struct http *)h;
    thread_hold(&own->lock);
    info->connections = h->connections;
    info->opened = h->opened;
    thread_release(&own->lock);
    info->requests = atomic_load(&own->requests);
    info->received_bytes = atomic_load(&own->received_bytes);
    info->sent_bytes = atomic_load(&own->sent_bytes);
    for (int i = 0; i < HTTP_CUTS; i++) info->cut[i] = atomic_load(&own->cut[i]);
}
