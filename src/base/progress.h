/* A bar on stderr for things that take time.
 *
 *     struct progress p;
 *     progress_init(&p, "pulling qwen", total, PROGRESS_BYTES);
 *     progress_update(&p, done);      as often as you like: it draws ten times a second at most
 *     progress_end(&p);               the bar is gone; say what came of it yourself
 *
 * On a terminal the bar appears after a fifth of a second, so quick work shows nothing. Elsewhere
 * a plain line is written every PROGRESS_PLAIN_NS, so that a log of hours stays short. An unknown
 * total (<= 0) shows what was done without a bar. One thread; no allocation; no errors.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRESS_PLAIN_NS INT64_C(15000000000)

enum progress_unit { PROGRESS_BYTES, PROGRESS_TOKENS };

struct progress {
    char label[48];
    int64_t done, total;       /* in units */
    double rate;               /* units a second, smoothed over some seconds; 0 not known yet */
    int64_t start_ns, mark_ns; /* of the whole; of the last sample of the rate */
    int64_t mark_done, drawn_ns;
    enum progress_unit unit;
    bool tty, drawn, started;
};

void progress_init(struct progress *p, const char *label, int64_t total, enum progress_unit unit);
/* NULL is allowed, here and below, for those who want no bar. */
void progress_update(struct progress *p, int64_t done);
void progress_end(struct progress *p);

/* "1.1 GB" (decimal units) */
const char *progress_bytes(int64_t bytes, char out[16]);
/* The line that would be drawn at `cols` columns, at least 20; at most room - 1 bytes. */
void progress_line(const struct progress *p, int cols, char *out, size_t room);

#endif
