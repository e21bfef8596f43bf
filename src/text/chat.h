/* A conversation -> the prompt text that a model was trained on.
 *
 *     struct chat *c;
 *     if (chat_open(&c, tok, NULL, 0, &e)) ...               the model's own template
 *     if (chat_encode(c, tok, json, n, CHAT_REPLY, &ids, &e)) ...         tokens
 *     if (chat_render(c, json, n, CHAT_REPLY, &prompt, NULL, &e)) ...     or text
 *     chat_close(c);
 *
 * json is an array of messages, [{"role":"user","content":"Hi"}], or an object with `messages`,
 * `tools` and any other variable the template knows ("enable_thinking": false). Beside them the
 * template sees bos_token and eos_token of the vocabulary and add_generation_prompt; a member of
 * json with such a name counts instead.
 *
 * The prompt starts with the BOS text where the template writes it: encode without TOK_ADD_AUTO,
 * or drop a doubled BOS. Without a template in the file: ChatML when the vocabulary has
 * <|im_start|>, else lines "role: content" that end in "assistant:".
 *
 * Read-only after open: any thread may render. Errors: those of template.h.
 */
#ifndef CHAT_H
#define CHAT_H

#include "buf.h"
#include "err.h"
#include "tok.h"
#include <stddef.h>

struct chat;

enum chat_flags {
    CHAT_REPLY = 1, /* add_generation_prompt: the prompt ends where the assistant begins to speak */
};

/* source: a template used instead of the model's, or NULL. t, borrowed for this call, may be NULL
 * when there is a source. */
ERR_DOOR int chat_open(struct chat **out, const struct tok *t, const char *source, size_t n,
                       struct err *e);
void chat_close(struct chat *c);
/* Text that ends an answer where no token does, or NULL. */
const char *chat_stop(const struct chat *c);

/* Appends the prompt to out; on failure out holds what it held before. foreign: NULL, or as in
 * struct template_input: one byte for each byte appended, 1 where it was copied from json. */
ERR_DOOR int chat_render(const struct chat *c, const char *json, size_t n, unsigned flags,
                         struct buf *out, struct buf *foreign, struct err *e);

/* Appends the prompt as tokens: control tokens only where the template wrote them, never from what
 * stands in json; one BOS where the vocabulary wants one, whether the template writes it or not.
 * On failure ids holds what it held before. */
ERR_DOOR int chat_encode(const struct chat *c, const struct tok *t, const char *json, size_t n,
                         unsigned flags, struct tok_ids *ids, struct err *e);

#endif
