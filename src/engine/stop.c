/* One automaton a string (Knuth, Morris and Pratt 1977), fed byte by byte: its state is how much of
 * the string the text ends with. Invariant between calls: held are the last bytes of the text, as
 * many as the largest state, for only they can be part of a stop string. */
#include "stop.h"

#include <stdlib.h>
#include <string.h>

static int init_string(struct stop_string *t, const char *text, struct err *e)
{
    size_t len = strlen(text);
    if (len == 0) return err_set(e, ERR_USAGE, "an empty stop string");
    if (len > STOP_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "a stop string of %zu bytes, at most %d are possible", len,
                       STOP_BYTES_MAX);
    *t = (struct stop_string){.text = text, .len = len, .border = malloc(len * sizeof *t->border)};
    if (!t->border) return err_nomem(e, len * sizeof *t->border, "a stop string");
    t->border[0] = 0;
    for (size_t i = 1, k = 0; i < len; i++) {
        while (k && text[i] != text[k]) k = t->border[k - 1];
        k += text[i] == text[k];
        t->border[i] = (uint16_t)k;
    }
    return 0;
}

int stop_init(struct stop *s, const char *const *strings, int n, struct err *e)
{
    *s = (struct stop){.found = -1, .held = BUF_INIT(1 << 20)};
    if (n > STOP_COUNT_MAX)
        return err_set(e, ERR_LIMIT, "%d stop strings, at most %d are possible", n, STOP_COUNT_MAX);
    for (; s->n < n; s->n++) {
        int rc = init_string(&s->strings[s->n], strings[s->n], e);
        if (rc) {
            stop_free(s);
            return rc;
        }
    }
    return 0;
}

void stop_free(struct stop *s)
{
    for (int i = 0; i < s->n; i++) free(s->strings[i].border);
    buf_free(&s->held);
    *s = (struct stop){0};
}

static bool feed(struct stop_string *t, char c)
{
    while (t->seen && t->text[t->seen] != c) t->seen = t->border[t->seen - 1];
    t->seen += t->text[t->seen] == c;
    return t->seen == t->len;
}

/* Returns the length of the longest string that c completes, or 0. */
static size_t feed_all(struct stop *s, char c)
{
    size_t found = 0;
    for (int i = 0; i < s->n; i++)
        if (feed(&s->strings[i], c) && s->strings[i].len > found) {
            found = s->strings[i].len;
            s->found = i;
        }
    return found;
}

static void release(struct stop *s, size_t n, struct buf *out)
{
    if (s->held.failed) out->failed = true;
    buf_put(out, s->held.data, n);
    s->held.len -= n;
    if (s->held.len) memmove(s->held.data, s->held.data + n, s->held.len);
}

bool stop_put(struct stop *s, const char *p, size_t n, struct buf *out)
{
    size_t before = s->held.len, keep = 0;
    if (!buf_put(&s->held, p, n)) out->failed = true;
    for (size_t i = 0; i < n && !out->failed; i++) {
        size_t found = feed_all(s, p[i]);
        if (!found) continue;
        release(s, before + i + 1 - found, out);
        buf_reset(&s->held);
        return true;
    }
    for (int i = 0; i < s->n; i++)
        if (s->strings[i].seen > keep) keep = s->strings[i].seen;
    if (!out->failed) release(s, s->held.len - keep, out);
    return false;
}

void stop_end(struct stop *s, struct buf *out)
{
    release(s, s->held.len, out);
}
