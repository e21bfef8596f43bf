/* One question to a server that runs: GET by libcurl, without redirects and proxies, answered within
 * ASK_SECONDS. CURL_CA_BUNDLE and SSL_CERT_FILE name other certificates.
 */
#ifndef ASK_H
#define ASK_H

#include "buf.h"
#include "err.h"

enum { ASK_SECONDS = 30 };

/* The body, whatever the status, into `out`, whose cap is the limit. key: sent as "Bearer KEY"; NULL:
 * none. ERR_IO: no answer came. */
ERR_DOOR int ask_get(const char *url, const char *key, struct buf *out, long *status,
                     struct err *e);

#endif
