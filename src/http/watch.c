/* The watcher. The library does not poll a suspended connection, and knows one time limit only; so each
 * connection is also in an epoll set of ours, where the end of its input shows, and a quarter-second round
 * compares all with the limits. It never closes a socket of the library's: it shuts it down, and the library's
 * thread finds that out. A descriptor is in the table from the library's first notice to its last,
 * so under the lock it means what it says.
 */
#include "http_int.h"

#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { EVENTS = 64, ROUND_MS = 250, LINGER_SECONDS = 2 };

bool http__watch_add(struct http *h, struct http__conn *c, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = c->fd};
    if (epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) < 0) return false;
    assert(!h->conns[c->fd]);
    h->conns[c->fd] = c;
    if (c->fd >= h->top) h->top = c->fd + 1;
    return true;
}

void http__watch_remove(struct http *h, struct http__conn *c)
{
    epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    h->conns[c->fd] = NULL;
    while (h->top && !h->conns[h->top - 1]) h->top--;
}

void http__watch_cut(struct http *h, struct http__conn *c, enum http_cut why)
{
    if (c->phase != HTTP__LEAVING) atomic_fetch_add(&h->cut[why], 1);
    c->phase = HTTP__LEAVING;
    if (c->request) http__stream_stop(c->request, true);
    shutdown(c->fd, SHUT_RDWR);
}

/* The client has closed its sending side. Only what is already complete goes on. */
static void left(struct http__conn *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    if (poll(&p, 1, 0) <= 0) return; /* the event was of the socket that had this number before */
    c->closed = true;
    if (c->request && !http__stream_stop(c->request, false)) shutdown(c->fd, SHUT_RDWR);
}

/* The library's thread finds its input ended, and sends the refusal; GnuTLS then sends nothing more. */
static void refuse(struct http *h, struct http__conn *c, int status)
{
    if (c->refuse) return;
    atomic_fetch_add(&h->cut[HTTP_CUT_SLOW], 1);
    c->refuse = status;
    shutdown(c->fd, SHUT_RD);
}

static bool body_too_slow(const struct http_limits *l, const struct http__conn *c, int64_t ns)
{
    int64_t counted = ns - l->header_seconds * HTTP__SECOND;
    return counted > 0 && (double)c->bytes < (double)counted / 1e9 * (double)l->body_bytes_per_s;
}

static void check(struct http *h, struct http__conn *c, int64_t now)
{
    const struct http_limits *l = &h->opts.limits;
    int64_t ns = now - c->since_ns;
    /* The library misses the end of the input where it came together with a request. */
    if (c->closed && c->phase < HTTP__ANSWER && ns > HTTP__SECOND / 2)
        http__watch_cut(h, c, HTTP_CUT_LEFT);
    switch (c->phase) {
    case HTTP__IDLE:
        if (atomic_load(&h->draining))
            http__watch_cut(h, c, HTTP_CUT_END);
        else if (ns > (c->served ? l->idle_seconds : l->header_seconds) * HTTP__SECOND)
            http__watch_cut(h, c, HTTP_CUT_IDLE);
        break;
    case HTTP__LEAVING: break;
    case HTTP__HEADER:
        if (ns > l->header_seconds * HTTP__SECOND) refuse(h, c, 408);
        break;
    case HTTP__BODY:
        if (body_too_slow(l, c, ns)) refuse(h, c, 408);
        break;
    case HTTP__ANSWER:
        ns = http__stream_writing(c->request);
        if (ns && now - ns > l->stalled_seconds * HTTP__SECOND)
            http__watch_cut(h, c, HTTP_CUT_STALLED);
        break;
    case HTTP__LINGER:
        if (ns > LINGER_SECONDS * (int64_t)HTTP__SECOND) http__linger_close(h, c);
        break;
    }
}

static void check_all(struct http *h)
{
    thread_hold(&h->lock);
    int64_t now = clock_ns();
    for (int i = 0; i < h->top; i++)
        if (h->conns[i]) check(h, h->conns[i], now);
    if (h->listen_fd >= 0 && !h->accepting) {
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = h->listen_fd};
        h->accepting = epoll_ctl(h->epoll_fd, EPOLL_CTL_MOD, h->listen_fd, &ev) == 0;
    }
    thread_release(&h->lock);
}

static void see(struct http *h, int fd)
{
    thread_hold(&h->lock);
    bool listens = fd == h->listen_fd;
    struct http__conn *c = listens || fd >= h->n_conns ? NULL : h->conns[fd];
    if (c && c->phase == HTTP__LINGER)
        http__linger_read(h, c);
    else if (c)
        left(c);
    thread_release(&h->lock);
    if (listens) http__listen_accept(h);
}

void http__watch(void *http)
{
    struct http *h = http;
    int64_t next = clock_ns();
    while (!atomic_load(&h->stop)) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(h->epoll_fd, events, EVENTS, ROUND_MS);
        for (int i = 0; i < n; i++) see(h, events[i].data.fd);
        if (clock_ns() < next) continue;
        check_all(h);
        next = clock_ns() + ROUND_MS * (int64_t)1000000;
    }
}
