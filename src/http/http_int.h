/* Shared inside http/. Who holds what:
 *
 * - struct http: `lock` guards the table of connections and what stands in them; the rest is constant
 *   after open, or atomic.
 * - struct http_request: belongs to the library's thread of its connection until handle(); from then on
 *   `lock` guards what stands below it in the struct.
 * - Locks are taken in that order; no callback of the user's runs under either.
 */
#ifndef HTTP_INT_H
#define HTTP_INT_H

#include "buf.h"
#include "http.h"
#include "thread.h"
#include <microhttpd.h>
#include <stdatomic.h>

enum { HTTP__SECOND = 1000000000 }; /* ns */

enum http__phase {
    HTTP__IDLE,   /* no request line yet */
    HTTP__HEADER, /* a request line has come */
    HTTP__BODY,
    HTTP__ANSWER,  /* handed over; `request` is set */
    HTTP__LEAVING, /* was cut */
    HTTP__LINGER,  /* refused; a copy of its socket, whose input is thrown away for a while */
};

struct http__conn {
    int fd;
    enum http__phase phase;
    bool served;             /* had a request before */
    bool closed;             /* the client has closed its sending side */
    int refuse;              /* status, decided elsewhere, for the library's thread to send; or 0 */
    int64_t since_ns, bytes; /* of the phase; bytes of the body received, or thrown away */
    struct http_request *request;
    unsigned char address[16]; /* of the client; IPv4 mapped */
    struct http__conn *same;   /* next in its bucket of `addresses` */
};

enum { HTTP__ADDRESSES = 1024 };

struct http {
    struct http_opts opts;
    struct MHD_Daemon *daemon;
    struct thread *watcher;
    int port, epoll_fd, wake_fd;
    struct thread_monitor lock;
    struct http__conn **conns; /* [n_conns], by descriptor */
    int n_conns, top;          /* all are below top */
    int listen_fd;             /* -1: draining */
    bool accepting;            /* listen_fd is polled */
    bool closing;              /* every connection is being cut */
    int64_t connections, opened, lingering;
    struct http__conn
        *addresses[HTTP__ADDRESSES]; /* those of the library, by the client's address */
    uint64_t salt;                   /* of these buckets */
    atomic_bool draining, stop;
    _Atomic int64_t requests, bodies_bytes, received_bytes, sent_bytes, cut[HTTP_CUTS];
};

/* A name and a value, as offsets into `text`. */
struct http__pair {
    uint32_t name, value;
};

enum http__stage { HTTP__LINE, HTTP__RECEIVING, HTTP__HANDED };

struct http_request {
    struct http *server; /* not to be used once `closed` */
    enum http__stage stage;
    int refuse;               /* status, or 0 */
    const char *line;         /* the request target, where the library has it */
    size_t line_bytes;        /* up to its end or a NUL inside */
    struct buf text;          /* strings: the target, decoded path, headers, query */
    uint32_t method, path;    /* in text */
    bool old;                 /* HTTP/1.0 */
    struct http__pair *pairs; /* [n_headers + n_query] */
    int n_headers, n_query;
    char peer[64];
    struct buf body;
    int64_t charged_bytes, start_ns;
    void *user;

    struct thread_monitor lock;
    struct MHD_Connection *mhd; /* NULL: the connection is done with this request */
    struct MHD_Response *response;
    int status;
    bool begun, ended;
    bool unknown_length;
    bool suspended;   /* the library waits for MHD_resume_connection */
    bool gone;        /* no more puts */
    bool cut;         /* not even what is complete is sent on */
    bool full;        /* http_put has said so */
    bool calling;     /* gone or drained runs */
    bool closed;      /* the server is done with it; http_end frees */
    struct buf queue; /* from `taken` on: not yet given to the library */
    size_t taken;
    int64_t sent_bytes;
    int64_t writing_ns; /* since then the client takes nothing; 0: nothing waits for it */
};

/* request.c: what comes in. */
struct http_request *http__request_open(struct http *h, struct MHD_Connection *mhd,
                                        const char *line);
/* Takes the headers; 0 or the status of a refusal. */
int http__request_take(struct http_request *r, const char *method, const char *version);
/* Takes a piece of the body; 0 or a status. */
int http__request_body(struct http_request *r, const void *p, size_t n);
void http__request_forget(struct http_request *r);
void http__request_free(struct http_request *r);

/* stream.c: what goes out. */
/* Queues the answer, or suspends until it has begun; false: the connection must be closed. */
bool http__stream_start(struct http_request *r);
/* The connection is done with r: tells the user, frees it now or leaves that to http_end. */
void http__stream_finish(struct http_request *r, bool complete);
/* Nobody will take more; with cut, not even what is complete. Returns whether a complete rest goes on. */
bool http__stream_stop(struct http_request *r, bool cut);
/* The server ends: true, where no answer has begun, and none can any more; a refusal takes its place. */
bool http__stream_hand_back(struct http_request *r);
void http__stream_refused(struct http_request *r, int status, int64_t sent_bytes);
/* ns since which the client takes nothing, or 0. */
int64_t http__stream_writing(struct http_request *r);

/* refuse.c: answers without the library, to clients who may not be listening. */
int64_t http__refuse(struct http *h, struct MHD_Connection *mhd, int fd, int status,
                     const struct http_request *r);
/* Under the lock: keeps a copy of fd open, so that the refusal is not lost to a reset. */
void http__linger(struct http *h, int fd);
/* Under the lock: throws input away; frees c at its end. */
void http__linger_read(struct http *h, struct http__conn *c);
void http__linger_close(struct http *h, struct http__conn *c);

/* listen.c */
int http__listen_open(struct http *h, struct err *e);
/* Accepts what waits. */
/* Those who wait; or some, and then none until it is asked to go on. */
void http__listen_accept(struct http *h);
void http__listen_again(struct http *h);
/* Under the lock: c counts among those of its client. False: there are too many. */
bool http__listen_count(struct http *h, struct http__conn *c, const struct sockaddr *from);
void http__listen_uncount(struct http *h, struct http__conn *c);

/* watch.c: one thread that accepts, sees clients leave, and keeps the deadlines. */
void http__watch(void *http);
/* Under the lock. The first returns true. */
bool http__watch_cut(struct http *h, struct http__conn *c, enum http_cut why);
bool http__watch_add(struct http *h, struct http__conn *c, uint32_t events);
void http__watch_remove(struct http *h, struct http__conn *c);

/* tls.c */
struct http__tls {
    struct buf cert, key; /* PEM */
};
int http__tls_read(struct http__tls *t, const char *cert, const char *key, struct err *e);
void http__tls_free(struct http__tls *t);
int64_t http__tls_send(void *session, const void *p, size_t n);

#endif
