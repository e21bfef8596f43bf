/* A conversation -> tokens. The rendered prompt is encoded as one text, so that merging sees what
 * the model was trained on, with a map of which bytes came from the messages: those can spell a
 * control token's text, and stay text. */
#include "chat.h"

#include "template.h"
#include "tok_int.h"
#include <string.h>

/* Puts a BOS before ids[first] unless the template wrote one there. */
static bool begin(const struct tok *t, struct tok_ids *ids, size_t first)
{
    if (!tok_add_bos(t) || (ids->len > first && ids->data[first] == tok_bos(t))) return true;
    if (!tok__push(ids, tok_bos(t))) return false;
    memmove(ids->data + first + 1, ids->data + first, (ids->len - first - 1) * sizeof *ids->data);
    ids->data[first] = tok_bos(t);
    return true;
}

int chat_encode(const struct chat *c, const struct tok *t, const char *json, size_t n,
                unsigned flags, struct tok_ids *ids, struct err *e)
{
    struct buf prompt = BUF_INIT(TEMPLATE_OUT_MAX), foreign = prompt;
    size_t first = ids->len;
    int rc = chat_render(c, json, n, flags, &prompt, &foreign, e);
    if (!rc) rc = tok_encode_mixed(t, prompt.data, foreign.data, prompt.len, TOK_SPECIAL, ids, e);
    if (!rc && !begin(t, ids, first)) {
        ids->len = first;
        rc = err_nomem(e, sizeof *ids->data, "tokens");
    }
    buf_free(&prompt);
    buf_free(&foreign);
    return rc;
}
