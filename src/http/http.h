/* Bytes on the wire: an HTTP/1.1 server over libmicrohttpd, which stands in this folder alone. Knows
 * no JSON and no model.
 *
 *     struct http *h;
 *     if (http_open(&h, &opts, &e)) ...          opts.handle is called for each whole request
 *     http_drain(h);                             no new connections and requests; answers under way go on
 *     http_close(h);                             waits for them up to a limit, then tells those whose answer
 *                                                has not begun so (503), cuts the others, and ends
 *
 * handle() runs on one of the server's threads when headers and body have arrived; it may not block.
 * It answers with http_reply, or begins an answer with http_begin and lets any thread go on with
 * http_put and http_end, at once or later. One thread at a time answers a request. A request object
 * lives until http_end (http_reply has it within); then it is the server's to free.
 *
 * When the client is gone, or cut for not reading, before http_end, opts.gone is called once (from
 * any thread of the server, never while that request's handle runs); puts after that do nothing,
 * http_end must still be called. A client that closes its sending side counts as gone, unless its
 * answer is complete by then. http_end waits for a gone or drained that runs on another thread, so
 * that neither is called after it: do not call it while you hold a lock that these two take.
 *
 * Refused before handle(), with the body of opts.refusal and "Connection: close": what is longer or
 * slower than the limits (413, 431, 408; over TLS the slow are cut without a word), malformed (400), comes
 * from an address with too many connections (429; over TLS without a word), or while the server drains or is full (503). The library's own parser answers the crudest nonsense
 * with a short page of its own.
 * Refused as malformed beyond what the library finds: paths with NUL, control characters or bad
 * escapes, absolute targets, header names that are no tokens, folded lines, bare line feeds and NUL in
 * headers, more than one Host, Content-Length or Transfer-Encoding, both of the latter, and any
 * encoding but "chunked".
 */
#ifndef HTTP_H
#define HTTP_H

#include "buf.h"
#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http;
struct http_request;

/* All limits, one table: http_limits_default. */
struct http_limits {
    int64_t connections;             /* at once; beyond, one that idles makes room, or 503 */
    int64_t connections_per_address; /* of a client, else 429; 0: any number */
    int64_t header_bytes;            /* the request line included */
    int64_t header_fields;           /* fields of the query included */
    int64_t body_bytes;              /* of one request */
    int64_t bodies_bytes;            /* of all requests that are being received or answered */
    int64_t
        header_seconds; /* from the connection, or the request line, to the end of the headers */
    int64_t body_bytes_per_s; /* least rate of a body after its first header_seconds */
    int64_t idle_seconds;     /* keep-alive: from an answer to the next request line */
    int64_t queue_bytes;      /* of an answer not yet read: then http_put says so */
    int64_t stalled_seconds;  /* a reader who takes nothing for so long is cut */
    int64_t close_seconds;    /* http_close waits so long for answers under way */
};
extern const struct http_limits http_limits_default;
/* Of each: name, unit, meaning, where its value stands, and what it may be. */
struct http_limit_row {
    const char *name, *unit, *help;
    size_t offset; /* of its int64_t in struct http_limits */
    int64_t min, max;
};
extern const struct http_limit_row http_limit_rows[]; /* a NULL name ends */
int64_t http_limit(const struct http_limits *l, const struct http_limit_row *row);

struct http_opts {
    const char *host;               /* numeric address or name; "127.0.0.1" */
    int port;                       /* 0: any free one */
    const char *tls_cert, *tls_key; /* PEM files, both or none */
    int threads;                    /* 0: 2 */
    struct http_limits limits;
    void (*handle)(void *arg, struct http_request *r);
    void (*gone)(void *arg, struct http_request *r); /* may be NULL, like all below */
    /* the queue of r, over its limit before, is below half of it again */
    void (*drained)(void *arg, struct http_request *r);
    /* An answer is complete or cut: for the access log, from a thread of the server. bytes: of the body,
     * taken by the connection; ns: since the request line. Comes after http_end, or after gone. */
    void (*logged)(void *arg, const struct http_request *r, int status, int64_t bytes, int64_t ns,
                   bool cut);
    /* Appends the body of a refusal, and sets its *type; nothing: a line of plain text. r: what is known
     * of the request (its path may be the target as it came), or NULL where there is none. */
    void (*refusal)(void *arg, const struct http_request *r, int status, struct buf *body,
                    const char **type);
    void *arg;
};
ERR_DOOR int http_open(struct http **out, const struct http_opts *o, struct err *e);
int http_port(const struct http *h);
void http_drain(struct http *h);
/* Requests that have no http_end yet stay valid for it. */
void http_close(struct http *h);

const char *http_method(const struct http_request *r); /* "GET" */
const char *http_path(const struct http_request *r); /* decoded, without the query; "*": OPTIONS */
const char *http_query(const struct http_request *r, const char *name); /* decoded, or NULL */
const char *http_header(const struct http_request *r,
                        const char *name);           /* case-insensitive, or NULL */
const char *http_peer(const struct http_request *r); /* "127.0.0.1" */
const void *http_body(const struct http_request *r, size_t *n);
/* While the request is handled. */
const struct http *http_server(const struct http_request *r);
void http_set_user(struct http_request *r, void *user);
void *http_user(const struct http_request *r);

struct http_field {
    const char *name, *value;
};
/* The whole answer; body is copied. fields [n_fields]: beside Content-Type. */
void http_reply(struct http_request *r, int status, const char *type,
                const struct http_field *fields, int n_fields, const void *body, size_t n);
/* An answer in pieces (chunked). */
void http_begin(struct http_request *r, int status, const char *type,
                const struct http_field *fields, int n_fields);
/* What became of it: HTTP_OK, HTTP_FULL (it was taken, but pause: opts.drained will be called; who goes on
 * to four times the limit is cut), HTTP_GONE. */
enum http_put { HTTP_OK, HTTP_FULL, HTTP_GONE };
enum http_put http_put(struct http_request *r, const void *p, size_t n);
void http_end(struct http_request *r);

/* Why connections are cut, or not let in. */
enum http_cut {
    HTTP_CUT_IDLE,    /* no request for idle_seconds, or never one */
    HTTP_CUT_SLOW,    /* headers or body take too long */
    HTTP_CUT_STALLED, /* takes nothing of an answer */
    HTTP_CUT_FULL,    /* too many connections: idled longest, or came last */
    HTTP_CUT_ADDRESS, /* too many of one client */
    HTTP_CUT_LEFT,    /* the client had gone, and the library had not seen it */
    HTTP_CUT_END,     /* the server ends */
    HTTP_CUTS
};
extern const char *const http_cut_names[HTTP_CUTS]; /* "idle", ... */
struct http_info {
    int64_t connections;                /* open now */
    int64_t opened, requests;           /* so far; requests that were handled */
    int64_t received_bytes, sent_bytes; /* of bodies, so far */
    int64_t cut[HTTP_CUTS];             /* so far */
};
void http_info(const struct http *h, struct http_info *info);

#endif
