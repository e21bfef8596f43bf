/* POST /v1/chat/completions. */
#include "api_int.h"

#include "out.h"
#include <stdio.h>
#include <string.h>

static void put_head(struct api__call *c, const char *object, struct buf *out)
{
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", c->id, object,
               (long long)c->created_s);
    out_cstring(out, c->model->name);
    buf_puts(out, ",\"system_fingerprint\":\"solvent-" SOLVENT_VERSION "\"");
}

static void put_probs(struct api__choice *ch, struct buf *out)
{
    if (!ch->call->answer.logprobs)
        buf_puts(out, "null");
    else
        buf_printf(out, "{\"content\":[%s],\"refusal\":null}", ch->probs.len ? ch->probs.data : "");
}

static void put_chunk(struct api__choice *ch, const char *delta, const char *text, size_t n,
                      const char *finish, struct buf *out)
{
    buf_puts(out, "data: ");
    put_head(ch->call, "chat.completion.chunk", out);
    buf_printf(out, ",\"choices\":[{\"index\":%d,\"delta\":%s", ch->index, delta);
    if (text) {
        out_string(out, text, n);
        buf_putc(out, '}');
    }
    buf_puts(out, ",\"logprobs\":");
    put_probs(ch, out);
    buf_puts(out, ",\"finish_reason\":");
    out_cstring(out, finish);
    buf_puts(out, ch->call->include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n");
}

static void chat_open_choice(struct api__choice *ch, struct buf *out)
{
    struct buf probs = ch->probs;
    ch->probs = BUF_INIT(0);
    put_chunk(ch, "{\"role\":\"assistant\",\"content\":\"\"}", NULL, 0, NULL, out);
    ch->probs = probs;
}

static void chat_piece(struct api__choice *ch, const struct answer_next *next, struct buf *out)
{
    put_chunk(ch, "{\"content\":", next->text ? next->text : "", next->n, NULL, out);
}

/* "id":...,"type":"function","function":{"name":...,"arguments": */
static void put_call(struct api__choice *ch, int i, struct buf *out)
{
    buf_printf(out, "\"id\":\"call_%s_%d_%d\",\"type\":\"function\",\"function\":{\"name\":",
               ch->call->request_id + 4, ch->index, i);
    out_cstring(out, ch->calls.calls[i].name);
    buf_puts(out, ",\"arguments\":");
}

/* A call of a stream: first its name, then its arguments. */
static void put_call_chunks(struct api__choice *ch, int i, struct buf *out)
{
    struct buf delta = BUF_INIT(API__ANSWER_MAX);
    buf_printf(&delta, "{\"tool_calls\":[{\"index\":%d,", i);
    put_call(ch, i, &delta);
    buf_puts(&delta, "\"\"}}]}");
    put_chunk(ch, delta.data, NULL, 0, NULL, out);
    buf_reset(&delta);
    buf_printf(&delta, "{\"tool_calls\":[{\"index\":%d,\"function\":{\"arguments\":", i);
    out_cstring(&delta, ch->calls.calls[i].arguments);
    buf_puts(&delta, "}}]}");
    put_chunk(ch, delta.data, NULL, 0, NULL, out);
    out->failed |= delta.failed;
    buf_free(&delta);
}

static void chat_closed(struct api__choice *ch, struct buf *out)
{
    for (int i = 0; i < ch->calls.n_calls; i++) put_call_chunks(ch, i, out);
    put_chunk(ch, "{}", NULL, 0, api__reason(ch), out);
}

static void chat_finish(struct api__call *c, struct buf *out)
{
    if (c->include_usage) {
        buf_puts(out, "data: ");
        put_head(c, "chat.completion.chunk", out);
        buf_puts(out, ",\"choices\":[],");
        api__put_usage(c, out);
        buf_puts(out, "}\n\n");
    }
    buf_puts(out, "data: [DONE]\n\n");
}

static void put_token(struct api__choice *ch, int32_t id, float logprob, struct buf *out)
{
    struct buf piece = BUF_INIT(TOK_PIECE_MAX);
    tok_piece(worker_tok(ch->call->model->worker), id, true, &piece);
    buf_puts(out, "{\"token\":");
    out_string(out, piece.data ? piece.data : "", piece.len);
    buf_puts(out, ",\"logprob\":");
    out_float(out, logprob);
    buf_puts(out, ",\"bytes\":");
    out_bytes(out, piece.data, piece.len);
    buf_free(&piece);
}

void api__token_probs(struct api__choice *ch, const struct answer_next *next)
{
    if (ch->n_probs++) buf_putc(&ch->probs, ',');
    put_token(ch, next->id, next->logprob, &ch->probs);
    buf_puts(&ch->probs, ",\"top_logprobs\":[");
    for (int i = 0; i < next->n_top; i++) {
        if (i) buf_putc(&ch->probs, ',');
        put_token(ch, next->top[i].id, next->top[i].logprob, &ch->probs);
        buf_putc(&ch->probs, '}');
    }
    buf_puts(&ch->probs, "]}");
}

static void chat_whole(struct api__call *c, struct buf *out)
{
    put_head(c, "chat.completion", out);
    buf_puts(out, ",\"choices\":[");
    for (int i = 0; i < c->n_choices; i++) {
        struct api__choice *ch = &c->choices[i];
        buf_printf(out,
                   "%s{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":", i ? "," : "",
                   i);
        if (ch->calls.n_calls && !ch->text.len)
            buf_puts(out, "null");
        else
            out_string(out, ch->text.data ? ch->text.data : "", ch->text.len);
        for (int k = 0; k < ch->calls.n_calls; k++) {
            buf_puts(out, k ? ",{" : ",\"tool_calls\":[{");
            put_call(ch, k, out);
            out_cstring(out, ch->calls.calls[k].arguments);
            buf_puts(out, k + 1 < ch->calls.n_calls ? "}}" : "}}]");
        }
        buf_puts(out, ",\"refusal\":null},\"logprobs\":");
        put_probs(ch, out);
        buf_printf(out, ",\"finish_reason\":\"%s\"}", api__reason(ch));
    }
    buf_puts(out, "],");
    api__put_usage(c, out);
    buf_putc(out, '}');
}

static const struct api__form form = {.open = chat_open_choice,
                                      .piece = chat_piece,
                                      .closed = chat_closed,
                                      .finish = chat_finish,
                                      .probs = api__token_probs,
                                      .whole = chat_whole};

void api__chat(struct api__call *c)
{
    int64_t top = 0;
    c->form = &form;
    if (!api__body(c) || !api__model_of(c) || !api__sampling(c) || !api__format(c) ||
        !api__tools(c, json_object_get(c->body, "tools"),
                    json_object_get(c->body, "tool_choice")) ||
        !api__bool(c, "logprobs", &c->answer.logprobs) ||
        !api__int(c, "top_logprobs", 0, ANSWER_TOP_MAX, &top))
        return;
    if (top && !c->answer.logprobs) {
        api__fail(c, 400, "invalid_request_error", "top_logprobs", NULL,
                  "'top_logprobs' wants 'logprobs' to be true");
        return;
    }
    c->answer.top = (int)top;
    snprintf(c->id, sizeof c->id, "chatcmpl-%s", c->request_id + 4);
    if (api__prompt(c, json_object_get(c->body, "messages"), c->tools)) api__start(c);
}
