/* One walk over characters for both directions: what the program reads, and what it shows. */
#include "clean.h"

#include "unicode.h"
#include <stdbool.h>

#define REPLACEMENT "\xef\xbf\xbd"

void clean_utf8(const char *p, size_t n, struct buf *out)
{
    for (size_t at = 0; at < n;) {
        int length = unicode_length(p + at, n - at);
        if (length > 0 && p[at])
            buf_put(out, p + at, (size_t)length);
        else
            buf_puts(out, REPLACEMENT);
        at += length > 0 ? (size_t)length : length < 0 ? (size_t)-length : n - at;
    }
}

static bool is_control(const char *p, size_t n)
{
    unsigned char c = (unsigned char)p[0];
    if (c == 0xc2 && n > 1) return (unsigned char)p[1] < 0xa0; /* U+0080 .. U+009F */
    return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
}

void clean_screen(const char *p, size_t n, struct buf *out)
{
    for (size_t at = 0; at < n;) {
        bool control = is_control(p + at, n - at);
        size_t length = control && (unsigned char)p[at] == 0xc2 ? 2 : 1;
        if (control)
            buf_puts(out, REPLACEMENT);
        else
            buf_put(out, p + at, length);
        at += length;
    }
}
