/* POST /v1/messages: Anthropic's API, in its own shapes, its errors included. Blocks become messages as
 * chat completions know them: tool results come before the words that stand beside them. */
#include "api_int.h"

#include "out.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct api__names names = {
    .max_tokens = "max_tokens", .stop = "stop_sequences", .prompt = "messages"};

static void put_error(struct buf *out, int status, const char *message)
{
    static const struct {
        int status;
        const char *type;
    } types[] = {{401, "authentication_error"}, {403, "permission_error"},
                 {404, "not_found_error"},      {413, "request_too_large"},
                 {429, "rate_limit_error"},     {503, "overloaded_error"}};
    const char *type = status < 500 ? "invalid_request_error" : "api_error";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].status == status) type = types[i].type;
    buf_puts(out, "{\"type\":\"error\",\"error\":{\"type\":");
    out_cstring(out, type);
    buf_puts(out, ",\"message\":");
    out_cstring(out, message);
    buf_puts(out, "}}");
}

/* ---- the request ---- */

static bool bad_at(struct api__call *c, const char *name, size_t i, const char *what)
{
    char param[40];
    snprintf(param, sizeof param, "%s[%zu]", name, i);
    return api__bad(c, param, what);
}

static bool is(const char *type, const char *what)
{
    return strcmp(type, what) == 0;
}

/* Tools and tool_choice as chat completions have them; the body keeps the tools. */
static bool take_tools(struct api__call *c)
{
    json_t *tools = json_array(), *choice = api__field(c, "tool_choice"), *tool;
    json_t *name = json_object_get(choice, "name");
    const char *how = choice ? json_string_value(json_object_get(choice, "type")) : "auto";
    size_t i;
    bool ok = true;
    json_array_foreach(api__field(c, "tools"), i, tool)
    {
        json_t *type = json_object_get(tool, "type");
        const char *kind = type ? json_string_value(type) : "custom";
        ok = json_is_object(tool) && kind && is(kind, "custom") &&
             api__add_tool(tools, json_object_get(tool, "name"),
                           json_object_get(tool, "description"),
                           json_object_get(tool, "input_schema"));
        if (ok) continue;
        json_decref(tools);
        return bad_at(c, "tools", i, "must be a tool of no type but 'custom'");
    }
    if (how && is(how, "tool"))
        choice = json_pack("{s:{s:O*}}", "function", "name", name);
    else
        choice = json_string(!how || is(how, "required") ? "?" : is(how, "any") ? "required" : how);
    ok = api__tools(c, api__field(c, "tools") ? tools : NULL, choice);
    json_decref(choice);
    json_object_set_new(c->body, "tools", tools);
    return ok;
}

/* Gathers texts; results of tools go into messages. False: a block that may not stand there. */
static bool take_block(json_t *block, bool assistant, struct buf *text, json_t *messages)
{
    const char *type = json_string_value(json_object_get(block, "type"));
    json_t *words = json_object_get(block, "text");
    const char *id = json_string_value(json_object_get(block, "tool_use_id"));
    if (!type) return false;
    if (is(type, "text") && json_is_string(words))
        return buf_put(text, json_string_value(words), json_string_length(words));
    if (is(type, "tool_result") && !assistant && id)
        return api__say_result(messages, id, api__text(json_object_get(block, "content")));
    /* Calls follow the text; thoughts of other models are not read. */
    return assistant &&
           (is(type, "tool_use") || is(type, "thinking") || is(type, "redacted_thinking"));
}

static bool take_use(json_t *block, json_t *messages)
{
    const char *type = json_string_value(json_object_get(block, "type"));
    const char *id = json_string_value(json_object_get(block, "id"));
    const char *name = json_string_value(json_object_get(block, "name"));
    json_t *input = json_object_get(block, "input");
    if (!is(type, "tool_use")) return true;
    return id && name && json_is_object(input) && api__say_call(messages, id, name, input);
}

static bool take_blocks(json_t *content, bool assistant, json_t *messages)
{
    struct buf text = BUF_INIT(API__ANSWER_MAX);
    size_t i, before = json_array_size(messages);
    json_t *block;
    bool ok = json_array_size(content) > 0;
    json_array_foreach(content, i, block) ok = ok && take_block(block, assistant, &text, messages);
    if (ok && (text.len || assistant || json_array_size(messages) == before))
        ok = api__say(messages, assistant ? "assistant" : "user",
                      json_stringn(text.len ? text.data : "", text.len));
    json_array_foreach(content, i, block) ok = ok && (!assistant || take_use(block, messages));
    buf_free(&text);
    return ok;
}

static bool take_messages(struct api__call *c, json_t *messages)
{
    json_t *list = api__field(c, "messages"), *system = api__field(c, "system"), *m;
    size_t i, n = json_array_size(list);
    if (!n) return api__bad(c, "messages", "must be an array of messages, and not empty");
    if (system && !api__say(messages, "system", api__text(system)))
        return api__bad(c, "system", "must be a text or blocks of text");
    json_array_foreach(list, i, m)
    {
        const char *role = json_string_value(json_object_get(m, "role"));
        json_t *content = json_object_get(m, "content");
        bool assistant = role && is(role, "assistant");
        if (!role || (!assistant && !is(role, "user")))
            return bad_at(c, "messages", i, "must have the role 'user' or 'assistant'");
        if (assistant && i == n - 1)
            return bad_at(c, "messages", i,
                          "is the last and the assistant's: going on from it is not supported");
        if (!(json_is_string(content) ? api__say(messages, role, json_incref(content))
                                      : take_blocks(content, assistant, messages)))
            return bad_at(c, "messages", i,
                          "must hold a text, or blocks of text, tool_use (of the assistant) or "
                          "tool_result (of the user)");
    }
    return true;
}

static bool take_prompt(struct api__call *c)
{
    static const struct api__kind kinds[] = {
        {"metadata", JSON_OBJECT}, {"thinking", JSON_OBJECT},     {"tool_choice", JSON_OBJECT},
        {"tools", JSON_ARRAY},     {"service_tier", JSON_STRING}, {NULL, JSON_NULL}};
    if (!api__kinds(c, kinds) || !take_tools(c)) return false;
    json_t *messages = json_array();
    bool ok = take_messages(c, messages) && api__prompt(c, messages, c->tools);
    json_decref(messages);
    return ok;
}

/* ---- the answer ---- */

static void put_usage(const struct api__choice *ch, struct buf *out)
{
    const struct worker_usage *u = &ch->usage;
    buf_printf(out,
               "\"usage\":{\"input_tokens\":%d,\"cache_creation_input_tokens\":0,"
               "\"cache_read_input_tokens\":%d,\"output_tokens\":%d}",
               u->prompt_tokens - u->cached_tokens, u->cached_tokens, u->output_tokens);
}

static void put_reason(const struct api__choice *ch, struct buf *out)
{
    const struct api__call *c = ch->call;
    const char *stop = ch->end == ANSWER_STOP && ch->stop >= 0 ? c->stops[ch->stop] : NULL;
    if (stop && stop == chat_stop(c->model->chat)) stop = NULL; /* the model's own */
    bool cut = ch->end == ANSWER_LENGTH || ch->end == ANSWER_CONTEXT;
    buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":",
               ch->calls.n_calls ? "tool_use"
               : cut             ? "max_tokens"
               : stop            ? "stop_sequence"
                                 : "end_turn");
    out_cstring(out, stop);
}

static void put_head(struct api__call *c, struct buf *out)
{
    buf_printf(out, "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", c->id);
    out_cstring(out, c->model->name);
}

/* The beginning of a call's block: its input is to follow. */
static void put_use(const struct api__choice *ch, int i, struct buf *out)
{
    buf_printf(out,
               "{\"type\":\"tool_use\",\"id\":\"toolu_%s_%d\",\"name\":", ch->call->request_id + 4,
               i);
    out_cstring(out, ch->calls.calls[i].name);
    buf_puts(out, ",\"input\":");
}

static void whole(struct api__call *c, struct buf *out)
{
    const struct api__choice *ch = c->choices;
    bool text = ch->text.len || !ch->calls.n_calls;
    put_head(c, out);
    buf_puts(out, ",\"content\":[");
    if (text) {
        buf_puts(out, "{\"type\":\"text\",\"text\":");
        out_string(out, ch->text.len ? ch->text.data : "", ch->text.len);
        buf_putc(out, '}');
    }
    for (int i = 0; i < ch->calls.n_calls; i++) {
        if (i || text) buf_putc(out, ',');
        put_use(ch, i, out);
        buf_puts(out, ch->calls.calls[i].arguments); /* is JSON */
        buf_putc(out, '}');
    }
    buf_puts(out, "],");
    put_reason(ch, out);
    buf_putc(out, ',');
    put_usage(ch, out);
    buf_putc(out, '}');
}

static void put_event(const char *type, struct buf *out)
{
    buf_printf(out, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void stream_open(struct api__choice *ch, struct buf *out)
{
    put_event("message_start", out);
    buf_puts(out, ",\"message\":");
    put_head(ch->call, out);
    buf_puts(out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,");
    put_usage(ch, out);
    buf_puts(out, "}}\n\n");
}

/* The text begins: when there is some, or nothing else. */
static void open_text(struct api__call *c, struct buf *out)
{
    if (c->item) return;
    c->item = true;
    put_event("content_block_start", out);
    buf_puts(out, ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
}

static void stream_piece(struct api__choice *ch, const struct answer_next *next, struct buf *out)
{
    open_text(ch->call, out);
    put_event("content_block_delta", out);
    buf_puts(out, ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":");
    out_string(out, next->n ? next->text : "", next->n);
    buf_puts(out, "}}\n\n");
}

static void put_use_events(struct api__choice *ch, int i, struct buf *out)
{
    int index = i + ch->call->item;
    put_event("content_block_start", out);
    buf_printf(out, ",\"index\":%d,\"content_block\":", index);
    put_use(ch, i, out);
    buf_puts(out, "{}}}\n\n");
    put_event("content_block_delta", out);
    buf_printf(out,
               ",\"index\":%d,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":", index);
    out_cstring(out, ch->calls.calls[i].arguments);
    buf_puts(out, "}}\n\n");
    put_event("content_block_stop", out);
    buf_printf(out, ",\"index\":%d}\n\n", index);
}

static void stream_closed(struct api__choice *ch, struct buf *out)
{
    if (!ch->calls.n_calls) open_text(ch->call, out);
    if (ch->call->item) {
        put_event("content_block_stop", out);
        buf_puts(out, ",\"index\":0}\n\n");
    }
    for (int i = 0; i < ch->calls.n_calls; i++) put_use_events(ch, i, out);
    put_event("message_delta", out);
    buf_puts(out, ",\"delta\":{");
    put_reason(ch, out);
    buf_puts(out, "},");
    put_usage(ch, out);
    buf_puts(out, "}\n\n");
}

static void stream_finish(struct api__call *c, struct buf *out)
{
    (void)c;
    put_event("message_stop", out);
    buf_puts(out, "}\n\n");
}

static void stream_broken(struct api__call *c, struct buf *out)
{
    buf_puts(out, "event: error\ndata: ");
    put_error(out, api__status(&c->error), c->error.msg);
    buf_puts(out, "\n\n");
}

const struct api__form api__messages_form = {.names = &names,
                                             .error = put_error,
                                             .open = stream_open,
                                             .piece = stream_piece,
                                             .closed = stream_closed,
                                             .finish = stream_finish,
                                             .broken = stream_broken,
                                             .whole = whole};

void api__messages(struct api__call *c)
{
    if (!api__body(c) || !api__model_of(c) || !api__sampling(c)) return;
    if (!c->answer.max_tokens) {
        api__bad(c, "max_tokens", "must say how long the answer may be");
        return;
    }
    snprintf(c->id, sizeof c->id, "msg_%s", c->request_id + 4);
    if (take_prompt(c)) api__start(c);
}

void api__count_tokens(struct api__call *c)
{
    if (!api__body(c) || !api__model_of(c) || !take_prompt(c)) return;
    buf_printf(&c->out, "{\"input_tokens\":%zu}", c->prompts[0].len);
    api__reply(c, 200, &c->out);
}
