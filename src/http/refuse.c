/* Refusals are written past the library, which could not send them in the midst of a body, on the thread
 * that owns the connection and just before it closes it. Nothing was answered on it before in this request.
 * What the client still sends is then read and thrown away for a short time: closing a socket with
 * unread input resets it, and the reset can overtake the refusal.
 */
#include "http_int.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINGER_MAX = 256, LINGER_BYTES = 64 << 20, HEAD_MAX = 1024 };

/* Returns how many bytes of the body were sent. */
int64_t http__refuse(struct http *h, struct MHD_Connection *mhd, int fd, int status,
                     const struct http_request *r)
{
    const char *reason = MHD_get_reason_phrase_for((unsigned)status);
    const char *type = NULL;
    bool head_only = r && r->method && strcmp(http_method(r), "HEAD") == 0;
    struct buf text = BUF_INIT(1 << 16), out = BUF_INIT(HEAD_MAX + (1 << 16));
    if (h->opts.refusal) h->opts.refusal(h->opts.arg, r, status, &text, &type);
    if (!text.len || text.failed) {
        buf_reset(&text);
        buf_printf(&text, "%d %s\n", status, reason);
        type = NULL;
    }
    char date[40];
    time_t now = time(NULL);
    struct tm tm;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    buf_printf(&out,
               "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\nContent-Type: %s\r\n"
               "%sContent-Length: %zu\r\n\r\n",
               status, reason, date, type ? type : "text/plain; charset=utf-8",
               status == 429 || status == 503 ? "Retry-After: 1\r\n" : "", text.len);
    size_t head = out.len;
    if (!head_only && text.len) buf_put(&out, text.data, text.len);
    int64_t sent = -1;
    if (!out.failed) {
        const union MHD_ConnectionInfo *tls =
            mhd ? MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION) : NULL;
        sent = tls ? http__tls_send(tls->tls_session, out.data, out.len)
                   : send(fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    buf_free(&text);
    buf_free(&out);
    sent = sent > (int64_t)head ? sent - (int64_t)head : 0;
    atomic_fetch_add(&h->sent_bytes, sent);
    return sent;
}

void http__linger(struct http *h, int fd)
{
    int copy = h->lingering < LINGER_MAX && !h->closing ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (copy < 0) return;
    struct http__conn *c = copy < h->n_conns ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        close(copy);
        return;
    }
    *c = (struct http__conn){.fd = copy, .phase = HTTP__LINGER, .since_ns = clock_ns()};
    if (!http__watch_add(h, c, EPOLLIN)) {
        close(copy);
        free(c);
        return;
    }
    h->lingering++;
}

void http__linger_close(struct http *h, struct http__conn *c)
{
    http__watch_remove(h, c);
    close(c->fd);
    free(c);
    h->lingering--;
}

void http__linger_read(struct http *h, struct http__conn *c)
{
    char waste[16384];
    ssize_t n = recv(c->fd, waste, sizeof waste, MSG_DONTWAIT);
    if (n > 0) c->bytes += n;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || c->bytes > LINGER_BYTES)
        http__linger_close(h, c);
}
