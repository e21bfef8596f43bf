/* POST /v1/completions: text, or token ids, as they are. */
#include "api_int.h"

#include "out.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool bad_prompt(struct api__call *c)
{
    return api__refuse(
        c, "prompt",
        "'prompt' must be a string, an array of strings, an array of token ids, or an array of "
        "those: 1 to 128 in all");
}

/* A text (an empty one is the token that begins texts) or ids. */
static bool take_prompt(struct api__call *c, json_t *prompt, struct tok_ids *out)
{
    const struct tok *t = worker_tok(c->model->worker);
    struct err e;
    if (json_is_array(prompt)) return api__ids(c, prompt, out) || bad_prompt(c);
    if (!json_is_string(prompt)) return bad_prompt(c);
    if (tok_encode(t, json_string_value(prompt), json_string_length(prompt), TOK_ADD_AUTO, out,
                   &e)) {
        api__fail_err(c, &e, "prompt");
        return false;
    }
    return out->len > 0 || bad_prompt(c);
}

static bool take_prompts(struct api__call *c)
{
    json_t *j = json_object_get(c->body, "prompt"), *first = json_array_get(j, 0);
    bool many = json_is_array(j) && !json_is_number(first);
    size_t n = many ? json_array_size(j) : 1;
    if (n < 1 || n > API__CHOICES_MAX) return bad_prompt(c);
    c->prompts = calloc(n, sizeof *c->prompts);
    if (!c->prompts) return bad_prompt(c);
    c->n_prompts = (int)n;
    for (size_t i = 0; i < n; i++)
        if (!take_prompt(c, many ? json_array_get(j, i) : j, &c->prompts[i])) return false;
    return true;
}

/* ---- the form ---- */

static void put_head(struct api__call *c, struct buf *out)
{
    buf_printf(out,
               "{\"id\":\"%s\",\"object\":\"text_completion\",\"created\":%lld,\"model\":", c->id,
               (long long)c->created_s);
    out_cstring(out, c->model->name);
    buf_puts(out, ",\"system_fingerprint\":\"solvent-" SOLVENT_VERSION "\",\"choices\":[");
}

/* The lists of the old form are columns; probs holds rows "token \0 logprob \0 top \0 offset \0". */
static void put_column(const struct buf *rows, int column, int n, struct buf *out)
{
    const char *p = rows->data;
    for (int i = 0; i < n * 4; i++, p += strlen(p) + 1)
        if (i % 4 == column) buf_printf(out, "%s%s", i >= 4 ? "," : "", p);
}

static void put_probs(struct api__choice *ch, struct buf *out)
{
    static const char *const names[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    if (!ch->call->answer.logprobs) {
        buf_puts(out, "null");
        return;
    }
    for (int i = 0; i < 4; i++) {
        buf_printf(out, "%s\"%s\":[", i ? "," : "{", names[i]);
        put_column(&ch->probs, i, ch->n_probs, out);
        buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

static void put_text(struct api__choice *ch, int32_t id, struct buf *out)
{
    struct buf piece = BUF_INIT(TOK_PIECE_MAX);
    tok_piece(worker_tok(ch->call->model->worker), id, true, &piece);
    out_string(out, piece.data ? piece.data : "", piece.len);
    buf_free(&piece);
}

static void text_probs(struct api__choice *ch, const struct answer_next *next)
{
    struct buf *b = &ch->probs;
    ch->n_probs++;
    put_text(ch, next->id, b);
    buf_putc(b, 0);
    out_float(b, next->logprob);
    buf_putc(b, 0);
    for (int i = 0; i < next->n_top; i++) {
        buf_putc(b, i ? ',' : '{');
        put_text(ch, next->top[i].id, b);
        buf_putc(b, ':');
        out_float(b, next->top[i].logprob);
    }
    buf_puts(b, next->n_top ? "}" : "{}");
    buf_putc(b, 0);
    buf_printf(b, "%zu", ch->said);
    buf_putc(b, 0);
    ch->said += next->n;
}

static void put_choice(struct api__choice *ch, const char *text, size_t n, const char *finish,
                       struct buf *out)
{
    buf_puts(out, "{\"text\":");
    out_string(out, text ? text : "", n);
    buf_printf(out, ",\"index\":%d,\"logprobs\":", ch->index);
    put_probs(ch, out);
    buf_puts(out, ",\"finish_reason\":");
    out_cstring(out, finish);
    buf_putc(out, '}');
}

static void put_chunk(struct api__choice *ch, const char *text, size_t n, const char *finish,
                      struct buf *out)
{
    buf_puts(out, "data: ");
    put_head(ch->call, out);
    put_choice(ch, text, n, finish, out);
    buf_puts(out, ch->call->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

/* With echo the prompt comes first. */
static void put_prompt(struct api__choice *ch, struct buf *text)
{
    struct err ignored;
    if (ch->call->echo && tok_decode(worker_tok(ch->call->model->worker), ch->prompt->data,
                                     ch->prompt->len, false, text, &ignored))
        text->failed = true;
}

static void text_open(struct api__choice *ch, struct buf *out)
{
    struct buf text = BUF_INIT(API__ANSWER_MAX), probs = ch->probs;
    int n = ch->n_probs;
    if (!ch->call->echo) return;
    put_prompt(ch, &text);
    ch->n_probs = 0;
    put_chunk(ch, text.data, text.len, NULL, out);
    ch->probs = probs;
    ch->n_probs = n;
    buf_free(&text);
}

static void text_piece(struct api__choice *ch, const struct answer_next *next, struct buf *out)
{
    put_chunk(ch, next->text, next->n, NULL, out);
}

static void text_closed(struct api__choice *ch, struct buf *out)
{
    put_chunk(ch, "", 0, api__reason(ch), out);
}

static void text_finish(struct api__call *c, struct buf *out)
{
    if (c->include_usage) {
        buf_puts(out, "data: ");
        put_head(c, out);
        buf_puts(out, "],");
        api__put_usage(c, out);
        buf_puts(out, "}\n\n");
    }
    buf_puts(out, "data: [DONE]\n\n");
}

static void text_whole(struct api__call *c, struct buf *out)
{
    put_head(c, out);
    for (int i = 0; i < c->n_choices; i++) {
        struct api__choice *ch = &c->choices[i];
        struct buf text = BUF_INIT(2 * (size_t)API__ANSWER_MAX);
        if (i) buf_putc(out, ',');
        put_prompt(ch, &text);
        if (ch->text.len) buf_put(&text, ch->text.data, ch->text.len);
        put_choice(ch, text.data, text.len, api__reason(ch), out);
        buf_free(&text);
    }
    buf_puts(out, "],");
    api__put_usage(c, out);
    buf_putc(out, '}');
}

static const struct api__form form = {.open = text_open,
                                      .piece = text_piece,
                                      .closed = text_closed,
                                      .finish = text_finish,
                                      .probs = text_probs,
                                      .whole = text_whole};

void api__completions(struct api__call *c)
{
    int64_t probs = -1, best_of = 0;
    if (!api__body(c) || !api__model_of(c) || !take_prompts(c) || !api__sampling(c) ||
        !api__format(c) || !api__int(c, "logprobs", 0, ANSWER_TOP_MAX, &probs) ||
        !api__bool(c, "echo", &c->echo) || !api__int(c, "best_of", 1, API__CHOICES_MAX, &best_of))
        return;
    if (best_of > c->n_each || (int64_t)c->n_prompts * c->n_each > API__CHOICES_MAX) {
        api__fail(c, 400, "invalid_request_error", best_of ? "best_of" : "n", NULL,
                  "at most 128 answers a request, and 'best_of' may not be larger than 'n'");
        return;
    }
    c->form = &form;
    c->answer.logprobs = probs >= 0;
    c->answer.top = probs > 0 ? (int)probs : 0;
    if (!c->answer.max_tokens) c->answer.max_tokens = 16; /* OpenAI's default */
    snprintf(c->id, sizeof c->id, "cmpl-%s", c->request_id + 4);
    api__start(c);
}
