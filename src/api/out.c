/* The writer of every answer: nothing is built before it is written, so what an answer holds is what it
 * costs. */
#include "out.h"

#include "unicode.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_escaped(struct buf *b, unsigned char c)
{
    static const char names[] = "btn?fr"; /* 8 to 13 */
    if (c == '"' || c == '\\')
        buf_printf(b, "\\%c", c);
    else if (c >= 8 && c <= 13 && c != 11)
        buf_printf(b, "\\%c", names[c - 8]);
    else
        buf_printf(b, "\\u%04x", c);
}

void out_string(struct buf *b, const char *p, size_t n)
{
    buf_putc(b, '"');
    for (size_t i = 0, plain = 0; i <= n;) {
        struct unicode_char c = {.code = 0, .bytes = 1};
        if (i < n) c = unicode_at(p + i, n - i);
        bool whole = i < n && (c.code != UNICODE_REPLACEMENT || c.bytes > 1);
        if (whole && c.code >= ' ' && c.code != '"' && c.code != '\\' && c.code != 127) {
            i += c.bytes;
            continue;
        }
        buf_put(b, p + plain, i - plain);
        if (i < n && !whole)
            buf_puts(b, "\xef\xbf\xbd");
        else if (i < n)
            put_escaped(b, (unsigned char)p[i]);
        i += c.bytes;
        plain = i;
    }
    buf_putc(b, '"');
}

void out_cstring(struct buf *b, const char *s)
{
    if (s)
        out_string(b, s, strlen(s));
    else
        buf_puts(b, "null");
}

void out_float(struct buf *b, float x)
{
    char text[32];
    if (!isfinite(x)) {
        buf_puts(b, "null");
        return;
    }
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    buf_puts(b, text);
}

void out_floats(struct buf *b, const float *x, size_t n)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) buf_putc(b, ',');
        out_float(b, x[i]);
    }
    buf_putc(b, ']');
}

void out_bytes(struct buf *b, const char *p, size_t n)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < n; i++) buf_printf(b, "%s%d", i ? "," : "", (unsigned char)p[i]);
    buf_putc(b, ']');
}

void out_base64(struct buf *b, const void *data, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    buf_putc(b, '"');
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16;
        if (i + 1 < n) v |= (unsigned)p[i + 1] << 8;
        if (i + 2 < n) v |= p[i + 2];
        char four[4] = {digit[v >> 18], digit[v >> 12 & 63], i + 1 < n ? digit[v >> 6 & 63] : '=',
                        i + 2 < n ? digit[v & 63] : '='};
        buf_put(b, four, 4);
    }
    buf_putc(b, '"');
}
