/* Chat templates: the subset of Jinja that published chat templates use, interpreted with budgets.
 *
 *     struct template *t;
 *     if (template_open(&t, source, n, &e)) ...            parses; the source is copied
 *     if (template_render(t, json, n_json, &out, &e)) ...  json: an object, its members are the
 * variables template_close(t);
 *
 * Reference: Jinja 3.1 documentation and Hugging Face transformers' apply_chat_template
 * (trim_blocks and lstrip_blocks on, raise_exception, strftime_now, tojson without HTML escapes).
 * Budgets (steps, depth, bytes out) end a hostile template with ERR_LIMIT. Not thread-safe per
 * template.
 */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "buf.h"
#include "err.h"
#include <stddef.h>

struct template;

ERR_DOOR int template_open(struct template **out, const char *source, size_t n, struct err *e);
void template_close(struct template *t);

/* Appends to out. A raise_exception in the template is ERR_FORMAT with its text. */
ERR_DOOR int template_render(struct template *t, const char *json, size_t n, struct buf *out,
                             struct err *e);

#endif
