/* Until a marker is complete, only as much is held as may be its beginning; from then on all is, since only
 * the end shows whether it was a call. An object at the very beginning is a marker too. */
#include "toolcall.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *const markers[] = {"<tool_call>", "[TOOL_CALLS]"};
enum { MARKERS = sizeof markers / sizeof *markers };

/* Where a marker begins, complete or cut off by the end; n: nowhere. */
static size_t find_marker(const char *p, size_t n, bool *complete)
{
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < MARKERS; k++) {
            size_t len = strlen(markers[k]), have = n - i < len ? n - i : len;
            if (memcmp(p + i, markers[k], have)) continue;
            *complete = have == len;
            return i;
        }
    return n;
}

static const char fence[] = "```json"; /* some models put a call in one, when it is all they say */

static bool blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

void toolcall_put(struct toolcall *t, const char *p, size_t n, struct buf *out)
{
    buf_put(&t->held, p, n);
    if (t->held.failed) { /* longer than any call: text */
        out->failed = true;
        return;
    }
    if (t->calls_begun || !t->held.len) return;
    const char *held = t->held.data;
    size_t first = 0, len = t->held.len;
    if (!t->begun) {
        while (first < len && blank(held[first])) first++;
        if (first == len) return;
        size_t have = len - first < strlen(fence) ? len - first : strlen(fence);
        bool fenced = memcmp(held + first, fence, have) == 0;
        if (fenced && have < strlen(fence)) return;
        t->begun = true;
        t->calls_begun = fenced || held[first] == '{';
        if (t->calls_begun) return;
    }
    size_t at = find_marker(held, len, &t->calls_begun);
    buf_put(out, held, at);
    memmove(t->held.data, t->held.data + at, len - at);
    t->held.len = len - at;
}

/* One call, or an array of them. False: it is none, or of an unknown tool. */
static bool take(struct toolcall *t, json_t *j, bool (*known)(void *, const char *), void *arg)
{
    size_t i;
    json_t *each;
    if (json_is_array(j)) {
        json_array_foreach(j, i, each) if (!take(t, each, known, arg)) return false;
        return json_array_size(j) > 0;
    }
    const char *name = json_string_value(json_object_get(j, "name"));
    json_t *a = json_object_get(j, "arguments");
    if (!a) a = json_object_get(j, "parameters");
    if (!name || !known(arg, name) || (a && !json_is_object(a)) || t->n_calls == TOOLCALL_MAX)
        return false;
    struct toolcall_call *more = realloc(t->calls, (size_t)(t->n_calls + 1) * sizeof *more);
    if (!more) return false;
    t->calls = more;
    struct toolcall_call *c = &t->calls[t->n_calls];
    c->name = strdup(name);
    c->arguments = a ? json_dumps(a, JSON_COMPACT) : strdup("{}");
    if (!c->name || !c->arguments) {
        free(c->name);
        free(c->arguments);
        return false;
    }
    t->n_calls++;
    return true;
}

static void drop_calls(struct toolcall *t)
{
    for (int i = 0; i < t->n_calls; i++) {
        free(t->calls[i].name);
        free(t->calls[i].arguments);
    }
    free(t->calls);
    t->calls = NULL;
    t->n_calls = 0;
}

/* JSON after JSON, with markers, their ends and white space between. */
static bool take_all(struct toolcall *t, bool (*known)(void *, const char *), void *arg)
{
    static const char *const between[] = {"<tool_call>", "</tool_call>", "[TOOL_CALLS]",
                                          ";",           fence,          "```"};
    const char *p = t->held.data, *end = p + t->held.len;
    while (p < end) {
        bool skipped = blank(*p);
        if (skipped) p++;
        for (size_t k = 0; k < sizeof between / sizeof *between && !skipped; k++) {
            size_t n = strlen(between[k]);
            skipped = (size_t)(end - p) >= n && memcmp(p, between[k], n) == 0;
            if (skipped) p += n;
        }
        if (skipped) continue;
        json_error_t error;
        json_t *j = json_loadb(p, (size_t)(end - p),
                               JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &error);
        bool ok = j && take(t, j, known, arg);
        json_decref(j);
        if (!ok) return false;
        p += error.position;
    }
    return t->n_calls > 0;
}

int toolcall_end(struct toolcall *t, bool (*known)(void *arg, const char *name), void *arg,
                 struct buf *out, struct err *e)
{
    if (t->calls_begun && take_all(t, known, arg)) return 0;
    drop_calls(t);
    if (t->held.len) buf_put(out, t->held.data, t->held.len);
    return out->failed ? err_nomem(e, t->held.len, "an answer") : 0;
}

void toolcall_free(struct toolcall *t)
{
    drop_calls(t);
    buf_free(&t->held);
}
