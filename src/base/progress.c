/* What a line of progress looks like and when it is written.
 *
 * The first update is where counting starts, not where work was done: a resumed download must not
 * show the rate of what an earlier run fetched. The rate follows the last seconds (exponential
 * mean, time constant TAU_S), since an average over an hour hides a stall. The line is written in
 * one write(2), so that a killed program leaves no half line. */
#include "progress.h"

#include "clock.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TAU_S 3.0
#define DRAW_NS INT64_C(100000000)
#define QUIET_NS INT64_C(200000000)
#define SAMPLE_NS INT64_C(250000000)

const char *progress_bytes(int64_t bytes, char out[16])
{
    static const char *unit[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double v = (double)bytes;
    size_t i = 0;
    while (v >= 999.5 && i + 1 < sizeof unit / sizeof *unit) v /= 1000, i++;
    snprintf(out, 16, i && v < 9.95 ? "%.1f %s" : "%.0f %s", v, unit[i]);
    return out;
}

static void amount(const struct progress *p, int64_t n, char out[16])
{
    if (p->unit == PROGRESS_BYTES)
        progress_bytes(n, out);
    else
        snprintf(out, 16, "%lld", (long long)n);
}

static void tail(const struct progress *p, char *out, size_t room)
{
    char done[16], total[16], rate[16];
    amount(p, p->done, done);
    amount(p, p->total, total);
    amount(p, (int64_t)p->rate, rate);
    int n = p->total > 0 ? snprintf(out, room, "%3d%%  %s / %s",
                                    (int)((double)p->done * 100 / (double)p->total), done, total)
                         : snprintf(out, room, "%s", done);
    if (n < 0 || (size_t)n >= room || p->rate <= 0) return;
    out += n, room -= (size_t)n;
    n = snprintf(out, room, "  %s/s", rate);
    double left = p->total > 0 ? ((double)p->total - (double)p->done) / p->rate : INFINITY;
    if (n < 0 || (size_t)n >= room || !(left >= 0 && left < 359999)) return;
    int s = (int)ceil(left);
    if (s >= 3600)
        snprintf(out + n, room - (size_t)n, "  ETA %d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out + n, room - (size_t)n, "  ETA %d:%02d", s / 60, s % 60);
}

void progress_line(const struct progress *p, int cols, char *out, size_t room)
{
    char right[96], bar[64] = "";
    tail(p, right, sizeof right);
    int want = cols - (int)strlen(p->label) - (int)strlen(right) - 7;
    if (want > 40) want = 40;
    if (p->total > 0 && want >= 8) {
        int full = (int)((double)p->done / (double)p->total * want);
        int at = snprintf(bar, sizeof bar, "[");
        for (int i = 0; i < want; i++) bar[at++] = i < full ? '#' : '.';
        snprintf(bar + at, sizeof bar - (size_t)at, "]  ");
    }
    int n = snprintf(out, room, "%s  %s%s", p->label, bar, right);
    if (n >= cols && cols >= 20 && (size_t)cols <= room) out[cols - 1] = 0;
}

static void draw(struct progress *p, int64_t now)
{
    char line[256], text[272];
    struct winsize w;
    int cols = p->tty && ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20 ? w.ws_col : 100;
    progress_line(p, cols, line, sizeof line);
    int n = snprintf(text, sizeof text, p->tty ? "\r%s\033[K" : "%s\n", line);
    p->drawn = write(2, text, (size_t)n) == n;
    p->drawn_ns = now;
}

void progress_init(struct progress *p, const char *label, int64_t total, enum progress_unit unit)
{
    int64_t now = clock_ns();
    *p = (struct progress){.total = total,
                           .unit = unit,
                           .start_ns = now,
                           .mark_ns = now,
                           .drawn_ns = now,
                           .tty = isatty(2)};
    snprintf(p->label, sizeof p->label, "%s", label);
}

void progress_update(struct progress *p, int64_t done)
{
    if (!p) return;
    int64_t now = clock_ns();
    p->done = p->total > 0 && done > p->total ? p->total : done;
    if (!p->started) {
        p->started = true;
        p->mark_done = p->done;
        p->mark_ns = now;
    }
    if (now - p->mark_ns >= SAMPLE_NS) {
        double dt = (double)(now - p->mark_ns) * 1e-9, r = (double)(p->done - p->mark_done) / dt;
        p->rate = p->rate > 0 ? p->rate + (r - p->rate) * (1 - exp(-dt / TAU_S)) : r;
        if (p->rate < 0) p->rate = 0;
        p->mark_ns = now;
        p->mark_done = p->done;
    }
    if (p->tty ? now - p->start_ns >= QUIET_NS && now - p->drawn_ns >= DRAW_NS
               : now - p->drawn_ns >= PROGRESS_PLAIN_NS)
        draw(p, now);
}

void progress_end(struct progress *p)
{
    if (p && p->tty && p->drawn && write(2, "\r\033[K", 4) == 4) p->drawn = false;
}
