/* A client of plain sockets that sends what it is told, well-formed or not. Fails the test when the server
 * takes longer than WAIT_MS. */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 20000, ANSWER_MAX = 1 << 20 };

struct client {
    int fd;
    char *in; /* [ANSWER_MAX + 1] what has come and was not taken, NUL-terminated */
    size_t n;
    bool ended;
};

struct answer {
    int status;
    char head[4096];
    char *body;
    size_t n;
    bool closed; /* "Connection: close" */
};

static inline struct client client_open(int port, int receive_bytes)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct client c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_true(c.fd >= 0);
    if (receive_bytes)
        setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&at, sizeof at), 0);
    c.in = calloc(1, ANSWER_MAX + 1);
    assert_non_null(c.in);
    return c;
}

static inline void client_close(struct client *c)
{
    close(c->fd);
    free(c->in);
    c->in = NULL;
}

/* Stops quietly when the server has closed. */
static inline void client_send_n(struct client *c, const void *p, size_t n)
{
    const char *s = p;
    while (n) {
        struct pollfd f = {.fd = c->fd, .events = POLLOUT};
        if (poll(&f, 1, WAIT_MS) <= 0) fail_msg("the server takes nothing");
        ssize_t k = send(c->fd, s, n, MSG_NOSIGNAL);
        if (k <= 0) return;
        s += k;
        n -= (size_t)k;
    }
}

static inline void client_send(struct client *c, const char *s)
{
    client_send_n(c, s, strlen(s));
}

/* Waits for more; false at the end. */
static inline bool client_more(struct client *c)
{
    if (c->ended) return false;
    struct pollfd f = {.fd = c->fd, .events = POLLIN};
    if (poll(&f, 1, WAIT_MS) <= 0) fail_msg("the server says nothing; so far: %s", c->in);
    if (c->n == ANSWER_MAX) fail_msg("the answer is too long");
    ssize_t k = recv(c->fd, c->in + c->n, ANSWER_MAX - c->n, 0);
    if (k <= 0) c->ended = true;
    c->n += k > 0 ? (size_t)k : 0;
    c->in[c->n] = 0;
    return k > 0;
}

static inline bool client_ended(struct client *c)
{
    while (client_more(c)) {}
    return c->n == 0;
}

static inline void client_drop(struct client *c, size_t n)
{
    memmove(c->in, c->in + n, c->n - n + 1);
    c->n -= n;
}

static inline void answer_free(struct answer *a)
{
    free(a->body);
    *a = (struct answer){0};
}

/* Reads up to the end of the headers; status 0: the connection ended before. */
static inline void client_head(struct client *c, struct answer *a)
{
    *a = (struct answer){0};
    char *end;
    while (!(end = strstr(c->in, "\r\n\r\n")))
        if (!client_more(c)) return;
    size_t n = (size_t)(end - c->in) + 4;
    assert_true(n < sizeof a->head);
    memcpy(a->head, c->in, n);
    a->head[n] = 0;
    client_drop(c, n);
    if (sscanf(a->head, "HTTP/1.1 %d ", &a->status) != 1) fail_msg("no answer: %s", a->head);
    a->closed = strcasestr(a->head, "\r\nConnection: close\r\n") != NULL;
}

static inline void client_take(struct client *c, struct answer *a, size_t n)
{
    while (c->n < n)
        if (!client_more(c)) fail_msg("the answer ends early: %s%s", a->head, c->in);
    a->body = realloc(a->body, a->n + n + 1);
    assert_non_null(a->body);
    memcpy(a->body + a->n, c->in, n);
    a->n += n;
    a->body[a->n] = 0;
    client_drop(c, n);
}

/* One chunk of a chunked body; false: the last one, of no bytes. */
static inline bool client_chunk(struct client *c, struct answer *a)
{
    char *end;
    while (!(end = strstr(c->in, "\r\n")))
        if (!client_more(c)) fail_msg("the stream ends early: %s", c->in);
    size_t n = strtoul(c->in, NULL, 16);
    client_drop(c, (size_t)(end - c->in) + 2);
    client_take(c, a, n);
    while (c->n < 2)
        if (!client_more(c)) fail_msg("a chunk has no end");
    assert_memory_equal(c->in, "\r\n", 2);
    client_drop(c, 2);
    return n != 0;
}

/* The whole answer. */
static inline struct answer client_answer(struct client *c, bool head)
{
    struct answer a;
    do client_head(c, &a);
    while (a.status == 100);
    const char *length = strcasestr(a.head, "\r\nContent-Length: ");
    if (!a.status || head || a.status == 204 || a.status == 304) {
        client_take(c, &a, 0);
    } else if (strcasestr(a.head, "\r\nTransfer-Encoding: chunked")) {
        while (client_chunk(c, &a)) {}
    } else if (length) {
        client_take(c, &a, strtoul(length + 18, NULL, 10));
    } else {
        while (client_more(c)) {}
        client_take(c, &a, c->n);
    }
    return a;
}

/* Sends, and compares the status; the answer's body, to be freed, if wanted. */
static inline char *client_ask(struct client *c, const char *request, int status)
{
    client_send(c, request);
    struct answer a = client_answer(c, strncmp(request, "HEAD ", 5) == 0);
    if (a.status != status) fail_msg("%.300s\ngot %s%s", request, a.head, a.body);
    char *body = a.body;
    a.body = NULL;
    return body;
}

#endif
