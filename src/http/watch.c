/* The watcher. The library does not poll a suspended connection, and knows one time limit only; so each
 * connection is also in an epoll set of ours, where the end of its input shows, and a quarter-second round
 * compares all with the limits. Whom they cut, and who comes, is dealt with a few at a time: a burst of
 * either, of hundreds of slow clients say, would take a core from those that are served. It never closes a socket of the library's: it shuts it down, and the library's
 * thread finds that out. A descriptor is in the table from the library's first notice to its last,
 * so under the lock it means what it says.
 */
#include "http_int.h"

#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { EVENTS = 64, ROUND_MS = 250, LINGER_SECONDS = 2 };
enum { PACE_MS = 5, CUTS = 4 /* in so many ms at most */ };

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

bool http__watch_cut(struct http *h, struct http__conn *c, enum http_cut why)
{
    if (c->phase != HTTP__LEAVING) atomic_fetch_add(&h->cut[why], 1);
    c->phase = HTTP__LEAVING;
    if (c->request) http__stream_stop(c->request, true);
    shutdown(c->fd, SHUT_RDWR);
    return true;
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
static bool refuse(struct http *h, struct http__conn *c, int status)
{
    if (c->refuse) return false;
    atomic_fetch_add(&h->cut[HTTP_CUT_SLOW], 1);
    c->refuse = status;
    shutdown(c->fd, SHUT_RD);
    return true;
}

static bool body_too_slow(const struct http_limits *l, const struct http__conn *c, int64_t ns)
{
    int64_t counted = ns - l->header_seconds * HTTP__SECOND;
    return counted > 0 && (double)c->bytes < (double)counted / 1e9 * (double)l->body_bytes_per_s;
}

/* True: it was cut, or refused. */
static bool check(struct http *h, struct http__conn *c, int64_t now)
{
    const struct http_limits *l = &h->opts.limits;
    int64_t ns = now - c->since_ns;
    /* The library misses the end of the input where it came together with a request. */
    if (c->closed && c->phase < HTTP__ANSWER && ns > HTTP__SECOND / 2)
        return http__watch_cut(h, c, HTTP_CUT_LEFT);
    switch (c->phase) {
    case HTTP__IDLE:
        if (atomic_load(&h->draining)) return http__watch_cut(h, c, HTTP_CUT_END);
        return ns > (c->served ? l->idle_seconds : l->header_seconds) * HTTP__SECOND &&
               http__watch_cut(h, c, HTTP_CUT_IDLE);
    case HTTP__HEADER: return ns > l->header_seconds * HTTP__SECOND && refuse(h, c, 408);
    case HTTP__BODY: return body_too_slow(l, c, ns) && refuse(h, c, 408);
    case HTTP__ANSWER:
        ns = http__stream_writing(c->request);
        return ns && now - ns > l->stalled_seconds * HTTP__SECOND &&
               http__watch_cut(h, c, HTTP_CUT_STALLED);
    case HTTP__LINGER:
        if (ns > LINGER_SECONDS * (int64_t)HTTP__SECOND) http__linger_close(h, c);
        return false;
    case HTTP__LEAVING: return false;
    }
    return false;
}

/* True: there may be more to cut. */
static bool check_all(struct http *h)
{
    thread_hold(&h->lock);
    int64_t now = clock_ns();
    int most = atomic_load(&h->draining) ? INT_MAX : CUTS, cuts = 0;
    for (int i = 0; i < h->top && cuts < most; i++)
        if (h->conns[i]) cuts += check(h, h->conns[i], now);
    thread_release(&h->lock);
    return cuts == most;
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
    int64_t round = clock_ns(), pace = round;
    bool more = false;
    while (!atomic_load(&h->stop)) {
        struct epoll_event events[EVENTS];
        bool soon = more || !h->accepting;
        int n = epoll_wait(h->epoll_fd, events, EVENTS, soon ? PACE_MS : ROUND_MS);
        for (int i = 0; i < n; i++) see(h, events[i].data.fd);
        int64_t now = clock_ns();
        if (now < pace) continue;
        pace = now + PACE_MS * (int64_t)1000000;
        if (!h->accepting) http__listen_again(h);
        if (!more && now < round) continue;
        more = check_all(h);
        round = now + ROUND_MS * (int64_t)1000000;
    }
}
