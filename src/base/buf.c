/* Growth by half again, never past the cap; a failed buffer stays failed so that callers check
 * once. */
#include "buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed || n > b->cap - b->len || b->len + n == SIZE_MAX) {
        b->failed = true;
        return NULL;
    }
    size_t need = b->len + n + 1;
    if (need > b->room) {
        size_t room = b->room + b->room / 2;
        if (room < need) room = need < 64 ? 64 : need;
        char *p = realloc(b->data, room);
        if (!p) {
            b->failed = true;
            return NULL;
        }
        b->data = p;
        b->room = room;
    }
    return b->data + b->len;
}

bool buf_put(struct buf *b, const void *p, size_t n)
{
    char *at = buf_reserve(b, n);
    if (!at) return false;
    if (n) memcpy(at, p, n);
    b->len += n;
    b->data[b->len] = 0;
    return true;
}

bool buf_putc(struct buf *b, char c)
{
    return buf_put(b, &c, 1);
}

bool buf_puts(struct buf *b, const char *s)
{
    return buf_put(b, s, strlen(s));
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *at = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (at) {
        vsnprintf(at, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return at != NULL;
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

char *buf_take(struct buf *b)
{
    char *p = b->data;
    *b = BUF_INIT(b->cap);
    return p;
}

void buf_free(struct buf *b)
{
    if (b) free(buf_take(b));
}
