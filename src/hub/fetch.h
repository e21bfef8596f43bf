/* Downloads over HTTP(S) by libcurl, made to be cut off and continued.
 *
 *     struct fetch *f;
 *     if (fetch_open(&f, retries, &e)) ...
 *     if (fetch_file(f, &job, &e)) ...
 *     fetch_close(f);
 *
 * Redirects are followed by hand, FETCH_HOPS of them, each checked by url_check like the first URL;
 * a token goes to the scheme, host and port it was given for and to no other. Proxies come from the
 * environment (libcurl); CURL_CA_BUNDLE, SSL_CERT_FILE, SSL_CERT_DIR name other certificates. What
 * may pass by itself (lost connections, 408, 429, 5xx) is tried again `retries` times, waiting
 * longer each time; progress in between starts the count anew. One thread a struct. Errors: ERR_IO
 * network and disk, ERR_FORMAT the answer is not what it should be, ERR_NOT_FOUND 404 and 410.
 */
#ifndef FETCH_H
#define FETCH_H

#include "buf.h"
#include "err.h"
#include "progress.h"
#include "sha256.h"
#include <stdbool.h>
#include <stdint.h>

enum { FETCH_HOPS = 8 };

struct fetch;

/* One file to fetch into fd from offset `start` on. What lies in fd behind `start` is continued
 * when the file `note` says that it came from this URL, and the server confirms (If-Range with its
 * ETag, or, where it names none, only if `hashed`: a digest known beforehand will tell). */
struct fetch_job {
    const char *url;
    const char *token; /* NULL: none */
    const char *note;  /* path, written here before the first byte; the caller removes it */
    const char *path;  /* of fd, for messages */
    int fd;
    int64_t start;
    int64_t bytes; /* of the body; -1: not known. Another length is an error */
    bool hashed;
    struct progress *progress; /* NULL: none */
    int64_t shown;             /* progress shows shown + min(received, shown_max) */
    int64_t shown_max;         /* -1: no limit */
    char linked[SHA256_HEX];   /* out: SHA-256 the first host promises (X-Linked-ETag), or "" */
};

ERR_DOOR int fetch_open(struct fetch **f, int retries, struct err *e);
void fetch_close(struct fetch *f);
ERR_DOOR int fetch_file(struct fetch *f, struct fetch_job *job, struct err *e);
/* A page into `out` (its cap is the limit); final_url gets where it came from after redirects. */
ERR_DOOR int fetch_page(struct fetch *f, const char *url, const char *accept, struct buf *out,
                        struct buf *final_url, struct err *e);

#endif
