/* The listening socket, and who gets in. Its options are inherited by every connection: buffers are small
 * so that what a client does not read waits in our queue, where it is counted, and dead peers are found.
 */
#include "http_int.h"

#include "clock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024, ROUND = 16, SEND_BYTES = 128 * 1024, RECEIVE_BYTES = 128 * 1024 };

static void set(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof value);
}

static int open_at(const struct addrinfo *a, int stalled_seconds)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, SOL_SOCKET, SO_SNDBUF, SEND_BYTES);
    set(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BYTES);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, stalled_seconds < 32767 ? stalled_seconds : 32767);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int http__listen_open(struct http *h, struct err *e)
{
    const char *host = h->opts.host ? h->opts.host : "127.0.0.1";
    if (h->opts.port < 0 || h->opts.port > 65535)
        return err_set(e, ERR_USAGE, "port %d is not in 0 to 65535", h->opts.port);
    char port[8];
    snprintf(port, sizeof port, "%d", h->opts.port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc) return err_set(e, ERR_USAGE, "cannot listen on %s: %s", host, gai_strerror(rc));
    for (struct addrinfo *a = list; a && h->listen_fd < 0; a = a->ai_next)
        h->listen_fd = open_at(a, (int)h->opts.limits.stalled_seconds);
    int why = errno;
    freeaddrinfo(list);
    if (h->listen_fd < 0)
        return err_set(e, ERR_IO, "cannot listen on %s port %d: %s", host, h->opts.port,
                       strerror(why));
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at;
    socklen_t n = sizeof at;
    if (getsockname(h->listen_fd, &at.any, &n) < 0)
        return err_set(e, ERR_IO, "cannot tell the port: %s", strerror(errno));
    h->port = ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
    return 0;
}

static struct http__conn **bucket_of(struct http *h, const unsigned char address[16])
{
    uint64_t hash = h->salt;
    for (int i = 0; i < 16; i++) {
        hash = (hash ^ address[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return &h->addresses[hash % HTTP__ADDRESSES];
}

bool http__listen_count(struct http *h, struct http__conn *c, const struct sockaddr *from)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    int64_t most = h->opts.limits.connections_per_address, n = 1;
    if (from && from->sa_family == AF_INET6) {
        memcpy(c->address, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
    } else if (from && from->sa_family == AF_INET) {
        memcpy(c->address, mapped, 12);
        memcpy(c->address + 12, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
    }
    struct http__conn **head = bucket_of(h, c->address);
    for (const struct http__conn *o = *head; o && n <= most; o = o->same)
        n += memcmp(o->address, c->address, 16) == 0;
    c->same = *head;
    *head = c;
    return !most || n <= most;
}

void http__listen_uncount(struct http *h, struct http__conn *c)
{
    struct http__conn **at = bucket_of(h, c->address);
    while (*at != c) at = &(*at)->same;
    *at = c->same;
}

/* The connection that has idled longest, or NULL. */
static struct http__conn *idlest(struct http *h)
{
    struct http__conn *found = NULL;
    for (int i = 0; i < h->top; i++) {
        struct http__conn *c = h->conns[i];
        if (c && c->phase == HTTP__IDLE && (!found || c->since_ns < found->since_ns)) found = c;
    }
    return found;
}

/* Under the lock: room for one more? A connection that is asked to go is gone a moment later. */
static bool make_room(struct http *h)
{
    if (h->connections < h->opts.limits.connections) return true;
    struct http__conn *c = idlest(h);
    if (!c) return false;
    http__watch_cut(h, c, HTTP_CUT_FULL);
    return true;
}

/* Under the lock. */
static void poll_listener(struct http *h, bool on)
{
    struct epoll_event ev = {.events = on ? EPOLLIN : 0, .data.fd = h->listen_fd};
    bool done = h->listen_fd < 0 || epoll_ctl(h->epoll_fd, EPOLL_CTL_MOD, h->listen_fd, &ev) == 0;
    h->accepting = on && done;
}

void http__listen_again(struct http *h)
{
    thread_hold(&h->lock);
    poll_listener(h, true);
    thread_release(&h->lock);
}

/* False: there is none, or no descriptor or memory for it. */
static bool accept_one(struct http *h)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof from;
    thread_hold(&h->lock);
    int fd = h->listen_fd < 0 ? -1
                              : accept4(h->listen_fd, (struct sockaddr *)&from, &n,
                                        SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && h->listen_fd >= 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
        make_room(h);
        poll_listener(h, false);
    }
    bool room = fd >= 0 && fd < h->n_conns && make_room(h);
    thread_release(&h->lock);
    if (room) MHD_add_connection(h->daemon, fd, (struct sockaddr *)&from, n); /* or closes it */
    if (fd < 0 || room) return fd >= 0;
    atomic_fetch_add(&h->cut[HTTP_CUT_FULL], 1);
    if (!h->opts.tls_cert) http__refuse(h, NULL, fd, 503, NULL);
    close(fd);
    return true;
}

/* All, or if they are many, some: then the watcher looks after the others for a while. */
void http__listen_accept(struct http *h)
{
    for (int i = 0; i < ROUND; i++)
        if (!accept_one(h)) return;
    thread_hold(&h->lock);
    poll_listener(h, false);
    thread_release(&h->lock);
}
