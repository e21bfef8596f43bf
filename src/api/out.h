/* JSON out, appended to a buffer. What is no UTF-8 in a text becomes U+FFFD, so that an answer is
 * always JSON. Failures stick in the buffer (buf.h). */
#ifndef OUT_H
#define OUT_H

#include "buf.h"
#include <stddef.h>
#include <stdint.h>

/* "..." with its quotation marks */
void out_string(struct buf *b, const char *p, size_t n);
/* The same for a NUL-terminated one; null for NULL. */
void out_cstring(struct buf *b, const char *s);
/* The shortest decimal that reads back as x; null where JSON has no number for it. */
void out_float(struct buf *b, float x);
void out_floats(struct buf *b, const float *x, size_t n);
/* Bytes as an array of numbers. */
void out_bytes(struct buf *b, const char *p, size_t n);
/* Base64 (RFC 4648) with its quotation marks. */
void out_base64(struct buf *b, const void *p, size_t n);

#endif
