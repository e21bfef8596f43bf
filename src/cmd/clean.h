/* Foreign bytes made harmless. No state; both append to out, whose failure shows in out->failed.
 */
#ifndef CLEAN_H
#define CLEAN_H

#include "buf.h"
#include <stddef.h>

/* Any bytes -> UTF-8 without NUL: what is ill-formed becomes U+FFFD. */
void clean_utf8(const char *p, size_t n, struct buf *out);

/* Text for a terminal: C0 and C1 control characters and DEL become U+FFFD, but for newline and tab,
 * so that no model can move the cursor, set the title or answer a query. Whole characters only. */
void clean_screen(const char *p, size_t n, struct buf *out);

#endif
