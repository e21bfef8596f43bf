/* Calls of tools in what a model says, in the forms that the families were trained on: Hermes and Qwen
 * (<tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number), Mistral ([TOOL_CALLS][{...}]),
 * Llama 3 and answers constrained to a call (a JSON object, alone, with "arguments" or "parameters"; some put
 * it in a fence).
 *
 *     struct toolcall t = TOOLCALL_INIT;
 *     toolcall_put(&t, p, n, &out);              out: what is text for sure
 *     if (toolcall_end(&t, names, &out, &e)) ... the rest: t.calls [t.n_calls], or it was text after all
 *     toolcall_free(&t);
 *
 * What may be the beginning of a call is held back. What turns out to be none that names a known tool is
 * text. One owner.
 */
#ifndef TOOLCALL_H
#define TOOLCALL_H

#include "buf.h"
#include "err.h"
#include <stdbool.h>
#include <stddef.h>

enum { TOOLCALL_MAX = 64, TOOLCALL_BYTES_MAX = 1 << 20 };

struct toolcall_call {
    char *name;
    char *arguments; /* a JSON object, as text */
};

struct toolcall {
    struct buf held;
    bool begun,
        calls_begun; /* something but white space came; what is held is more than a prefix */
    struct toolcall_call *calls;
    int n_calls;
};
#define TOOLCALL_INIT ((struct toolcall){.held = BUF_INIT(TOOLCALL_BYTES_MAX)})

void toolcall_put(struct toolcall *t, const char *p, size_t n, struct buf *out);
/* known: does a tool of this name exist? Only ERR_MEMORY is possible. */
ERR_DOOR int toolcall_end(struct toolcall *t, bool (*known)(void *arg, const char *name), void *arg,
                          struct buf *out, struct err *e);
void toolcall_free(struct toolcall *t);

#endif
