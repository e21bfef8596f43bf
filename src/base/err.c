/* One line for a person. Foreign names may carry control bytes or broken characters meant to upset
 * a terminal, and a long name may be cut inside a character; whatever is not printable, well-formed
 * UTF-8 becomes '?' here, in one place. The second controls (U+0080 to U+009F) count as controls,
 * so do the marks that turn the direction of writing. */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The bytes of the character at s if it may be shown, else 0; s ends in NUL. */
static size_t printable(const unsigned char *s)
{
    static const struct {
        unsigned char first, last, from, to; /* lead bytes, and the range of the second byte */
    } forms[] = {
        {0xc2, 0xc2, 0xa0, 0xbf}, {0xc3, 0xdf, 0x80, 0xbf}, {0xe0, 0xe0, 0xa0, 0xbf},
        {0xe1, 0xec, 0x80, 0xbf}, {0xed, 0xed, 0x80, 0x9f}, {0xee, 0xef, 0x80, 0xbf},
        {0xf0, 0xf0, 0x90, 0xbf}, {0xf1, 0xf3, 0x80, 0xbf}, {0xf4, 0xf4, 0x80, 0x8f},
    };
    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7f;
    size_t n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    for (size_t i = 2; i < n; i++)
        if (s[1] == 0 || (s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xe2 && ((s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae) ||
                         (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)))
        return 0;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (s[0] >= forms[i].first && s[0] <= forms[i].last)
            return s[1] >= forms[i].from && s[1] <= forms[i].to ? n : 0;
    return 0;
}

static void clean(char *s)
{
    while (*s) {
        size_t n = printable((unsigned char *)s);
        if (n == 0) *s = '?';
        s += n ? n : 1;
    }
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    clean(e->msg);
    e->code = code;
    return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->msg) {
        size_t room = sizeof e->msg - (size_t)n;
        if (snprintf(e->msg + n, room, ": %s", old) < 0) e->msg[n] = 0;
    }
    clean(e->msg);
    return e->code;
}

int err_nomem(struct err *e, unsigned long long bytes, const char *what)
{
    return err_set(e, ERR_MEMORY, "out of memory (wanted %llu bytes for %s)", bytes, what);
}
