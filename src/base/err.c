/* One line for a person. Foreign names may carry control bytes or quotes meant to break a
 * terminal, so everything below 0x20 and DEL becomes '?' here, in one place. */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void clean(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = '?';
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
    if (n >= 0 && (size_t)n < sizeof e->msg)
        snprintf(e->msg + n, sizeof e->msg - (size_t)n, ": %s", old);
    clean(e->msg);
    return e->code;
}

int err_nomem(struct err *e, unsigned long long bytes, const char *what)
{
    return err_set(e, ERR_MEMORY, "out of memory (wanted %llu bytes for %s)", bytes, what);
}
