/* Chat templates: the part of Jinja that published chat templates use, interpreted with budgets.
 *
 *     struct template *t;
 *     if (template_open(&t, source, n, &e)) ...         parses; the source is copied
 *     struct template_input in = {.json = json, .n_json = n, .now_s = time(NULL)};
 *     if (template_render(t, &in, &out, &e)) ...        appends the text to out
 *     template_close(t);
 *
 * The language: Jinja 3.1 as Hugging Face transformers' apply_chat_template sets it up
 * (trim_blocks, lstrip_blocks, loop controls, immutable sandbox; raise_exception, strftime_now,
 * tojson without HTML escapes, {% generation %} as a plain block). Left out: inheritance and
 * imports, recursive loops, integers beyond 64 bits; letters that become several in another case.
 *
 * Source and JSON are hostile. Both are UTF-8; every budget below ends in ERR_LIMIT with its name.
 * 256 KiB of stack are enough, two seconds and half a gigabyte the worst it can cost.
 * Read-only after open: any thread may render.
 */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "buf.h"
#include "err.h"
#include <stddef.h>
#include <stdint.h>

struct template;

enum template_limit {
    TEMPLATE_SOURCE_MAX = 1 << 20, /* bytes */
    TEMPLATE_JSON_MAX = 8 << 20,   /* bytes */
    TEMPLATE_OUT_MAX = 32 << 20,   /* bytes */
    TEMPLATE_MEMORY_MAX = 1 << 28, /* bytes of one parse or one render */
    TEMPLATE_STEPS_MAX = 20000000, /* nodes evaluated, and bytes handled / 64 */
    TEMPLATE_DEPTH_MAX = 500,      /* nesting of source, calls and values */
    TEMPLATE_JSON_DEPTH_MAX = 100,
    TEMPLATE_JSON_CONTAINERS_MAX = 1 << 18, /* arrays and objects */
};

struct template_input {
    /* An object, whose members are the template's variables, or an array: the variable `messages`.
     * Members keep their order; a name twice in one object is refused. */
    const char *json;
    size_t n_json;
    /* An object of variables the program itself vouches for (bos_token ...), or NULL. Where both
     * name one, json's counts. */
    const char *own;
    size_t n_own;
    int64_t now_s; /* what strftime_now shows, in the local zone */
    /* NULL, or what gets one byte for each byte of out: 1 where it was copied from json, 0 where
     * the template or `own` wrote it. A prompt whose foreign bytes cannot become control tokens is
     * one that a message cannot forge. */
    struct buf *foreign;
};

ERR_DOOR int template_open(struct template **out, const char *source, size_t n, struct err *e);
void template_close(struct template *t);

/* On failure out holds what it held before. ERR_FORMAT: the JSON is broken, or the template failed
 * on it (raise_exception's text stands in the message). */
ERR_DOOR int template_render(const struct template *t, const struct template_input *in,
                             struct buf *out, struct err *e);

#endif
