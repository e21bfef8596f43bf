/* The variables that a chat template sees beside the conversation, and what takes the place of a
 * template where a model has none. The template's own text, the names of the special tokens among
 * it, is what the program vouches for; everything else in a prompt is marked as foreign.
 */
#include "chat.h"

#include "template.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct chat {
    struct template *template;
    char *own[2];     /* variables as JSON, by CHAT_REPLY */
    const char *stop; /* or NULL */
};

#define CONTENT                                                                           \
    "{%- macro text(m) %}{% if m.content is string %}{{ m.content }}{% elif m.content %}" \
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{% endmacro %}"

static const char chatml[] =
    CONTENT "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ text(m) }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
static const char lines[] = CONTENT "{{ bos_token }}{% for m in messages %}{{ m.role }}: "
                                    "{{ text(m) }}\n{% endfor %}"
                                    "{% if add_generation_prompt %}assistant:{% endif %}";

/* The text of a token as JSON, "" where there is none or it is not UTF-8. */
static json_t *token_text(const struct tok *t, int32_t id)
{
    struct buf piece = BUF_INIT(TOK_PIECE_MAX);
    json_t *text = NULL;
    if (id != TOK_NONE && tok_piece(t, id, true, &piece) && piece.data)
        text = json_stringn(piece.data, piece.len);
    buf_free(&piece);
    return text ? text : json_string("");
}

static char *own_variables(const struct tok *t, bool reply)
{
    json_t *j = json_object();
    bool bad = json_object_set_new(j, "add_generation_prompt", json_boolean(reply));
    if (t) {
        bad |= json_object_set_new(j, "bos_token", token_text(t, tok_bos(t)));
        bad |= json_object_set_new(j, "eos_token", token_text(t, tok_eos(t)));
    }
    char *text = bad ? NULL : json_dumps(j, 0);
    json_decref(j);
    return text;
}

int chat_open(struct chat **out, const struct tok *t, const char *source, size_t n, struct err *e)
{
    if (!source) {
        source = tok_chat_template(t);
        if (!source) source = tok_find(t, "<|im_start|>") == TOK_NONE ? lines : chatml;
        n = strlen(source);
    }
    struct chat *c = calloc(1, sizeof *c);
    if (!c) return err_nomem(e, sizeof *c, "a chat");
    int code = template_open(&c->template, source, n, e);
    for (int reply = 0; !code && reply < 2; reply++)
        if (!(c->own[reply] = own_variables(t, reply)))
            code = err_nomem(e, 0, "the variables of a chat");
    c->stop = source == lines ? "\nuser:" : NULL;
    if (code)
        chat_close(c);
    else
        *out = c;
    return code;
}

const char *chat_stop(const struct chat *c)
{
    return c->stop;
}

void chat_close(struct chat *c)
{
    if (!c) return;
    template_close(c->template);
    free(c->own[0]);
    free(c->own[1]);
    free(c);
}

int chat_render(const struct chat *c, const char *json, size_t n, unsigned flags, struct buf *out,
                struct buf *foreign, struct err *e)
{
    const char *own = c->own[(flags & CHAT_REPLY) != 0];
    struct template_input in = {.json = json,
                                .n_json = n,
                                .own = own,
                                .n_own = strlen(own),
                                .now_s = time(NULL),
                                .foreign = foreign};
    return template_render(c->template, &in, out, e);
}
