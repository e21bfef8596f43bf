/* Which URLs are fetched, and how they are printed. All of it by libcurl's own parser, so that what
 * is checked is what is asked. No state: any thread.
 */
#ifndef URL_H
#define URL_H

#include "buf.h"
#include "err.h"
#include <stdbool.h>

enum { URL_MAX = 8192, URL_SHOWN = 160 };

/* https; http only to this machine (localhost, 127.0.0.0/8, ::1) and never on the word of an https
 * page. `from` is the page that named the URL, NULL for the user. ERR_FORMAT, ERR_LIMIT. */
ERR_DOOR int url_check(const char *url, const char *from, struct err *e);
/* Resolves `link` against `base` (RFC 3986) into out, which is emptied first. */
ERR_DOOR int url_join(const char *base, const char *link, struct buf *out, struct err *e);
/* Do both have the same scheme, host and port? */
bool url_same_origin(const char *a, const char *b);
/* What may be printed: without user, password, query and fragment, cut to fit. Returns out. */
const char *url_shown(const char *url, char out[URL_SHOWN]);

#endif
