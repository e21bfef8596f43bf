/* Strings that end an answer, found in text that comes in pieces.
 *
 *     struct stop s;
 *     if (stop_init(&s, strings, n, &e)) ...
 *     found = stop_put(&s, p, n, &out)     appends to out what is no part of a stop string
 *     stop_end(&s, &out)                   what was held back, when no more comes
 *     stop_free(&s);
 *
 * Text that may be the beginning of a stop string is held back until that is decided. The string
 * that is complete first ends the text, of several complete at one byte the longest. Works on
 * bytes. One owner.
 */
#ifndef STOP_H
#define STOP_H

#include "buf.h"
#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STOP_COUNT_MAX = 16, STOP_BYTES_MAX = 1024 };

struct stop_string {
    const char *text; /* borrowed until stop_free */
    size_t len;
    uint16_t *border; /* [len] of text[0 .. i]: its longest proper prefix that is its suffix too */
    size_t seen;      /* how many bytes of text the input ends with */
};

struct stop {
    struct stop_string strings[STOP_COUNT_MAX];
    int n;
    int found; /* index of the string that is complete, or -1 */
    struct buf held;
};

/* ERR_USAGE for an empty string, ERR_LIMIT for too many or one too long. After a failure there is
 * nothing to free. */
ERR_DOOR int stop_init(struct stop *s, const char *const *strings, int n, struct err *e);
void stop_free(struct stop *s);
/* True: a stop string is complete; what came before it is in out, the rest is dropped, and no more
 * may be put. Out of memory shows in out->failed. */
bool stop_put(struct stop *s, const char *p, size_t n, struct buf *out);
void stop_end(struct stop *s, struct buf *out);

#endif
