/* A growable run of bytes with a cap from birth (after git's strbuf and curl's dynbuf).
 *
 *     struct buf b = BUF_INIT(cap_bytes);
 *     buf_put(&b, p, n); buf_printf(&b, "%d", x);
 *     if (b.failed) ...          failure is sticky: check once at the end
 *     buf_free(&b);
 *
 * data is always NUL-terminated once something was put (the NUL is not counted in len), NULL
 * before. Not thread-safe.
 */
#ifndef BUF_H
#define BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data;
    size_t len, room, cap; /* bytes; len + 1 <= room, len <= cap */
    bool failed;           /* the cap or the memory ran out; later puts do nothing */
};

#define BUF_INIT(cap_bytes) ((struct buf){.cap = (cap_bytes)})

/* Returns false once the buffer has failed. */
bool buf_put(struct buf *b, const void *p, size_t n);
bool buf_putc(struct buf *b, char c);
bool buf_puts(struct buf *b, const char *s);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Makes room for n more bytes and returns where they go, or NULL; set b->len afterwards. */
char *buf_reserve(struct buf *b, size_t n);
/* Forgets the content and the failure, keeps the room. */
void buf_reset(struct buf *b);
/* Hands the bytes to the caller, who frees them with free(); the buffer is empty after it. */
char *buf_take(struct buf *b);
void buf_free(struct buf *b);

#endif
