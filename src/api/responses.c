/* POST /v1/responses, and what GET and DELETE do with the answers it kept. Its input becomes messages as
 * chat completions know them. A kept answer holds the conversation to go on from, without instructions, so
 * it does not need those before it. Whatever we cannot do is refused by name, not left out. */
#include "api_int.h"

#include "out.h"
#include "unicode.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct api__names names = {.max_tokens = "max_output_tokens", .prompt = "input"};

/* ---- the request ---- */

static bool bad_at(struct api__call *c, const char *name, size_t i, const char *what)
{
    char param[40];
    snprintf(param, sizeof param, "%s[%zu]", name, i);
    return api__bad(c, param, what);
}

/* What we do only one way, or not at all. */
static bool check_settings(struct api__call *c)
{
    static const struct api__kind kinds[] = {{"instructions", JSON_STRING},
                                             {"previous_response_id", JSON_STRING},
                                             {"user", JSON_STRING},
                                             {"safety_identifier", JSON_STRING},
                                             {"prompt_cache_key", JSON_STRING},
                                             {"service_tier", JSON_STRING},
                                             {"truncation", JSON_STRING},
                                             {"metadata", JSON_OBJECT},
                                             {"reasoning", JSON_OBJECT},
                                             {"text", JSON_OBJECT},
                                             {"include", JSON_ARRAY},
                                             {"tools", JSON_ARRAY},
                                             {"store", JSON_TRUE},
                                             {"background", JSON_TRUE},
                                             {"parallel_tool_calls", JSON_TRUE},
                                             {NULL, JSON_NULL}};
    int64_t top = 0, calls = 0;
    size_t i;
    json_t *item;
    if (!api__kinds(c, kinds) || !api__int(c, "top_logprobs", 0, ANSWER_TOP_MAX, &top) ||
        !api__int(c, "max_tool_calls", 0, INT32_MAX, &calls))
        return false;
    const char *truncation = json_string_value(api__field(c, "truncation"));
    if (truncation && strcmp(truncation, "disabled"))
        return api__bad(c, "truncation", "can only be 'disabled'");
    if (json_is_true(api__field(c, "background")))
        return api__bad(c, "background", "can only be false");
    if (top) return api__bad(c, "top_logprobs", "can only be 0");
    if (api__field(c, "conversation"))
        return api__bad(c, "conversation", "is not supported: use 'previous_response_id'");
    if (api__field(c, "prompt")) return api__bad(c, "prompt", "is not supported: use 'input'");
    json_array_foreach(api__field(c, "include"), i, item)
    {
        const char *what = json_string_value(item);
        if (!what || strcmp(what, "message.output_text.logprobs") == 0)
            return bad_at(c, "include", i, what ? "is not supported" : "must be a string");
    }
    return true;
}

/* text.format, as response_format of chat completions. */
static bool take_format(struct api__call *c)
{
    json_t *format = json_object_get(api__field(c, "text"), "format");
    json_t *schema = json_object_get(format, "schema");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || json_is_null(format) || (type && strcmp(type, "text") == 0)) return true;
    if (type && strcmp(type, "json_object") == 0)
        return api__constrain(c, 'j', "", 0, "text.format");
    if (!type || strcmp(type, "json_schema") || !json_is_object(schema))
        return api__bad(c, "text.format", "is text, json_object or json_schema with a schema");
    char *text = json_dumps(schema, 0);
    bool ok = text ? api__constrain(c, 's', text, strlen(text), "text.format")
                   : api__bad(c, "text.format", "found no memory");
    free(text);
    return ok;
}

static bool check_metadata(struct api__call *c)
{
    json_t *j = api__field(c, "metadata");
    bool ok = json_object_size(j) <= 16;
    for (void *it = json_object_iter(j); ok && it; it = json_object_iter_next(j, it)) {
        const json_t *v = json_object_iter_value(it);
        ok = json_is_string(v) &&
             unicode_count(json_string_value(v), json_string_length(v)) <= 512 &&
             unicode_count(json_object_iter_key(it), json_object_iter_key_len(it)) <= 64;
    }
    return ok ||
           api__bad(c, "metadata", "may hold 16 strings of 512 characters, names of 64 characters");
}

/* Tools and tool_choice as chat completions have them; the body keeps the tools. */
static bool take_tools(struct api__call *c)
{
    json_t *tools = json_array(), *choice = api__field(c, "tool_choice"), *tool;
    json_t *name = json_object_get(choice, "name");
    size_t i;
    bool ok = true;
    json_array_foreach(api__field(c, "tools"), i, tool)
    {
        const char *type = json_string_value(json_object_get(tool, "type"));
        ok = type && strcmp(type, "function") == 0 &&
             api__add_tool(tools, json_object_get(tool, "name"),
                           json_object_get(tool, "description"),
                           json_object_get(tool, "parameters"));
        if (ok) continue;
        json_decref(tools);
        return bad_at(c, "tools", i, "must be of the type 'function' and have a name");
    }
    choice = name ? json_pack("{s:{s:O}}", "function", "name", name) : json_incref(choice);
    ok = api__tools(c, api__field(c, "tools") ? tools : NULL, choice);
    json_decref(choice);
    json_object_set_new(c->body, "tools", tools);
    return ok;
}

static bool take_message(struct api__call *c, size_t i, json_t *item, json_t *messages)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    const char *role = json_string_value(json_object_get(item, "role"));
    json_t *content = json_object_get(item, "content");
    bool known = false;
    for (size_t k = 0; role && k < sizeof roles / sizeof *roles; k++)
        known |= strcmp(role, roles[k]) == 0;
    if (!known) return bad_at(c, "input", i, "must have the role of user, assistant or system");
    if (json_is_null(content)) content = NULL;
    if (content && api__say(messages, role, api__text(content))) return true;
    return bad_at(c, "input", i, "must have a text as content; images and files are not supported");
}

static bool take_item(struct api__call *c, size_t i, json_t *item, json_t *messages)
{
    json_t *kind = json_object_get(item, "type"), *output = json_object_get(item, "output");
    const char *type = kind ? json_string_value(kind) : "message";
    const char *id = json_string_value(json_object_get(item, "call_id"));
    const char *name = json_string_value(json_object_get(item, "name"));
    json_t *arguments = json_object_get(item, "arguments");
    if (!json_is_object(item) || !type) return bad_at(c, "input", i, "is no item");
    if (strcmp(type, "message") == 0) return take_message(c, i, item, messages);
    if (strcmp(type, "reasoning") == 0) return true; /* of other models; ours do not read it */
    if (strcmp(type, "function_call") == 0)
        return (id && name && json_is_string(arguments) &&
                api__say_call(messages, id, name, arguments)) ||
               bad_at(c, "input", i, "must have strings as call_id, name and arguments");
    if (strcmp(type, "function_call_output") == 0)
        return (id && output && !json_is_null(output) &&
                api__say_result(messages, id, api__text(output))) ||
               bad_at(c, "input", i, "must have a string as call_id and a text as output");
    return bad_at(c, "input", i, "is of a type that is not supported");
}

/* The conversation before, or an empty one. NULL: there is no such answer. */
static json_t *take_past(struct api__call *c)
{
    const char *id = json_string_value(api__field(c, "previous_response_id"));
    struct buf past = BUF_INIT(API__ANSWER_MAX);
    json_t *messages = NULL;
    if (!id) return json_array();
    if (replies_get(c->a->replies, api__tenant(c), id, NULL, &past) && !past.failed)
        messages = json_loadb(past.data, past.len, JSON_ALLOW_NUL, NULL);
    buf_free(&past);
    if (!messages)
        api__fail(c, 400, "invalid_request_error", "previous_response_id",
                  "previous_response_not_found", "there is no such response, or no longer");
    return messages;
}

static bool take_input(struct api__call *c, json_t *messages)
{
    json_t *input = api__field(c, "input"), *item;
    size_t i;
    bool ok = json_string_length(input) || json_array_size(input);
    if (!ok) return api__bad(c, "input", "must be a text or an array of items, and not empty");
    if (json_is_string(input)) return api__say(messages, "user", json_incref(input));
    json_array_foreach(input, i, item) if (!take_item(c, i, item, messages)) return false;
    return json_array_size(messages) || api__bad(c, "input", "holds no message");
}

static void put_json(struct buf *out, const char *name, json_t *j, const char *without)
{
    char *text = j ? json_dumps(j, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    buf_printf(out, ",\"%s\":", name);
    buf_puts(out, text ? text : without);
    free(text);
}

static void put_echo(struct api__call *c)
{
    static const struct {
        const char *name, *without;
    } fields[] = {{"instructions", "null"},
                  {"max_output_tokens", "null"},
                  {"metadata", "{}"},
                  {"tool_choice", "\"auto\""},
                  {"tools", "[]"},
                  {"previous_response_id", "null"},
                  {"user", "null"},
                  {"parallel_tool_calls", "true"},
                  {"text", "{\"format\":{\"type\":\"text\"}}"},
                  {"store", "true"}};
    struct buf *out = &c->repeated;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        put_json(out, fields[i].name, api__field(c, fields[i].name), fields[i].without);
    buf_puts(out, ",\"model\":");
    out_cstring(out, c->model->name);
    buf_puts(out, ",\"temperature\":");
    out_float(out, c->answer.sample.temp);
    buf_puts(out, ",\"top_p\":");
    out_float(out, c->answer.sample.top_p);
    buf_puts(out, ",\"background\":false,\"max_tool_calls\":null,\"reasoning\":{\"effort\":null,"
                  "\"summary\":null},\"service_tier\":\"default\",\"top_logprobs\":0,"
                  "\"truncation\":\"disabled\"");
}

/* The conversation is written down here, so that the worker's thread has little to do at the end. */
static void keep_conversation(struct api__call *c, json_t *messages)
{
    char *text = c->keep ? json_dumps(messages, JSON_COMPACT) : NULL;
    if (text) buf_put(&c->conversation, text, strlen(text) - 1);
    free(text);
}

/* ---- the answer ---- */

static const char *status_of(const struct api__choice *ch)
{
    switch (ch->end) {
    case ANSWER_LENGTH:
    case ANSWER_CONTEXT: return "incomplete";
    case ANSWER_CANCELLED: return "failed";
    default: return "completed";
    }
}

static void put_part(const struct api__choice *ch, bool text, struct buf *out)
{
    buf_puts(out, "{\"type\":\"output_text\",\"text\":");
    out_string(out, text && ch->text.len ? ch->text.data : "", text ? ch->text.len : 0);
    buf_puts(out, ",\"annotations\":[],\"logprobs\":[]}");
}

static void put_item(const struct api__choice *ch, bool over, struct buf *out)
{
    const char *status = !over ? "in_progress" : status_of(ch);
    if (strcmp(status, "failed") == 0) status = "incomplete"; /* items do not fail */
    buf_printf(out,
               "{\"id\":\"msg_%s\",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\","
               "\"content\":[",
               ch->call->request_id + 4, status);
    if (over) put_part(ch, true, out);
    buf_puts(out, "]}");
}

/* What is called stands beside what is said; without either there is an empty text. */
static bool has_text(const struct api__choice *ch)
{
    return ch->text.len || !ch->calls.n_calls;
}

static void put_call(const struct api__choice *ch, int i, bool over, struct buf *out)
{
    const char *id = ch->call->request_id + 4;
    buf_printf(out,
               "{\"id\":\"fc_%s_%d\",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":"
               "\"call_%s_%d\",\"name\":",
               id, i, over ? "completed" : "in_progress", id, i);
    out_cstring(out, ch->calls.calls[i].name);
    buf_puts(out, ",\"arguments\":");
    out_cstring(out, over ? ch->calls.calls[i].arguments : "");
    buf_putc(out, '}');
}

static void put_output(const struct api__choice *ch, struct buf *out)
{
    if (has_text(ch)) put_item(ch, true, out);
    for (int i = 0; i < ch->calls.n_calls; i++) {
        if (i || has_text(ch)) buf_putc(out, ',');
        put_call(ch, i, true, out);
    }
}

static void put_response(struct api__call *c, const char *status, struct buf *out)
{
    const struct api__choice *ch = c->choices;
    const struct worker_usage *u = &ch->usage;
    bool failed = strcmp(status, "failed") == 0, begun = strcmp(status, "in_progress") == 0;
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\"",
               c->id, (long long)c->created_s, status);
    buf_puts(out, ",\"error\":");
    if (failed) buf_puts(out, "{\"code\":\"server_error\",\"message\":");
    out_cstring(out, !failed ? NULL : c->failed ? c->error.msg : "the answer was cut short");
    buf_puts(out, failed ? "}" : "");
    buf_puts(out, strcmp(status, "incomplete") ? ",\"incomplete_details\":null"
                                               : ",\"incomplete_details\":{\"reason\":"
                                                 "\"max_output_tokens\"}");
    buf_put(out, c->repeated.data, c->repeated.len);
    buf_puts(out, ",\"output\":[");
    if (!begun && !c->failed) put_output(ch, out);
    buf_puts(out, "],\"usage\":");
    if (begun)
        buf_puts(out, "null}");
    else
        buf_printf(out,
                   "{\"input_tokens\":%d,\"input_tokens_details\":{\"cached_tokens\":%d,"
                   "\"cache_write_tokens\":0},\"output_tokens\":%d,\"output_tokens_details\":{"
                   "\"reasoning_tokens\":0},\"total_tokens\":%d}}",
                   u->prompt_tokens, u->cached_tokens, u->output_tokens,
                   u->prompt_tokens + u->output_tokens);
}

static void keep(struct api__call *c, const struct buf *answer)
{
    struct buf *b = &c->conversation;
    const struct api__choice *ch = c->choices;
    if (!c->keep || !b->len || ch->end == ANSWER_CANCELLED) return;
    buf_puts(b, ",{\"role\":\"assistant\",\"content\":");
    out_string(b, ch->text.len ? ch->text.data : "", ch->text.len);
    for (int i = 0; i < ch->calls.n_calls; i++) {
        buf_printf(b, "%s{\"id\":\"call_%s_%d\",\"type\":\"function\",\"function\":{\"name\":",
                   i ? "," : ",\"tool_calls\":[", c->request_id + 4, i);
        out_cstring(b, ch->calls.calls[i].name);
        buf_puts(b, ",\"arguments\":");
        out_cstring(b, ch->calls.calls[i].arguments);
        buf_puts(b, i + 1 < ch->calls.n_calls ? "}}" : "}}]");
    }
    buf_puts(b, "}]");
    replies_put(c->a->replies, api__tenant(c), c->id, answer, b);
}

static void whole(struct api__call *c, struct buf *out)
{
    put_response(c, status_of(c->choices), out);
    keep(c, out);
}

/* ---- the stream ---- */

static void put_event(struct api__call *c, const char *type, struct buf *out)
{
    buf_printf(out, "event: response.%s\ndata: {\"type\":\"response.%s\",\"sequence_number\":%d",
               type, type, c->events++);
}

static void put_response_event(struct api__call *c, const char *type, const char *status,
                               struct buf *out)
{
    put_event(c, type, out);
    buf_puts(out, ",\"response\":");
    put_response(c, status, out);
    buf_puts(out, "}\n\n");
}

/* Of a part of the item: the event's member `name` is to follow. */
static void put_part_event(const struct api__choice *ch, const char *type, const char *name,
                           struct buf *out)
{
    put_event(ch->call, type, out);
    buf_printf(out, ",\"item_id\":\"msg_%s\",\"output_index\":0,\"content_index\":0,\"%s\":",
               ch->call->request_id + 4, name);
}

static void stream_open(struct api__choice *ch, struct buf *out)
{
    put_response_event(ch->call, "created", "in_progress", out);
    put_response_event(ch->call, "in_progress", "in_progress", out);
}

static void put_item_event(const struct api__choice *ch, const char *type, bool over,
                           struct buf *out)
{
    put_event(ch->call, type, out);
    buf_puts(out, ",\"output_index\":0,\"item\":");
    put_item(ch, over, out);
    buf_puts(out, "}\n\n");
}

/* The text begins: when there is some, or nothing else. */
static void open_item(struct api__choice *ch, struct buf *out)
{
    if (ch->call->item) return;
    ch->call->item = true;
    put_item_event(ch, "output_item.added", false, out);
    put_part_event(ch, "content_part.added", "part", out);
    put_part(ch, false, out);
    buf_puts(out, "}\n\n");
}

static void stream_piece(struct api__choice *ch, const struct answer_next *next, struct buf *out)
{
    open_item(ch, out);
    put_part_event(ch, "output_text.delta", "delta", out);
    out_string(out, next->n ? next->text : "", next->n);
    buf_puts(out, ",\"logprobs\":[]}\n\n");
}

static void close_item(struct api__choice *ch, struct buf *out)
{
    open_item(ch, out);
    put_part_event(ch, "output_text.done", "text", out);
    out_string(out, ch->text.len ? ch->text.data : "", ch->text.len);
    buf_puts(out, ",\"logprobs\":[]}\n\n");
    put_part_event(ch, "content_part.done", "part", out);
    put_part(ch, true, out);
    buf_puts(out, "}\n\n");
    put_item_event(ch, "output_item.done", true, out);
}

static void put_call_events(struct api__choice *ch, int i, struct buf *out)
{
    static const char *const types[] = {"output_item.added", "function_call_arguments.delta",
                                        "function_call_arguments.done", "output_item.done"};
    for (int k = 0; k < 4; k++) {
        put_event(ch->call, types[k], out);
        buf_printf(out, ",\"output_index\":%d", i + has_text(ch));
        if (k == 0 || k == 3) {
            buf_puts(out, ",\"item\":");
            put_call(ch, i, k == 3, out);
        } else {
            buf_printf(out, ",\"item_id\":\"fc_%s_%d\",\"name\":", ch->call->request_id + 4, i);
            out_cstring(out, ch->calls.calls[i].name);
            buf_printf(out, ",\"%s\":", k == 1 ? "delta" : "arguments");
            out_cstring(out, ch->calls.calls[i].arguments);
        }
        buf_puts(out, "}\n\n");
    }
}

static void stream_closed(struct api__choice *ch, struct buf *out)
{
    if (has_text(ch)) close_item(ch, out);
    for (int i = 0; i < ch->calls.n_calls; i++) put_call_events(ch, i, out);
}

static void stream_finish(struct api__call *c, struct buf *out)
{
    const char *status = status_of(c->choices);
    struct buf answer = BUF_INIT(API__ANSWER_MAX);
    put_response(c, status, &answer);
    keep(c, &answer);
    put_event(c, status, out);
    buf_puts(out, ",\"response\":");
    buf_put(out, answer.data, answer.len);
    buf_puts(out, "}\n\n");
    out->failed |= answer.failed;
    buf_free(&answer);
}

static void stream_broken(struct api__call *c, struct buf *out)
{
    put_response_event(c, "failed", "failed", out);
}

static const struct api__form form = {.names = &names,
                                      .gathers = true,
                                      .open = stream_open,
                                      .piece = stream_piece,
                                      .closed = stream_closed,
                                      .finish = stream_finish,
                                      .broken = stream_broken,
                                      .whole = whole};

/* ---- routes ---- */

void api__responses(struct api__call *c)
{
    json_t *messages = NULL;
    c->form = &form;
    c->keep = true;
    snprintf(c->id, sizeof c->id, "resp_%s", c->request_id + 4);
    if (!api__body(c) || !api__model_of(c) || !api__sampling(c) || !check_settings(c) ||
        !check_metadata(c) || !api__bool(c, "store", &c->keep) || !take_format(c))
        return;
    put_echo(c);
    json_t *instructions = api__field(c, "instructions");
    if (take_tools(c)) messages = take_past(c);
    if (messages && take_input(c, messages)) {
        keep_conversation(c, messages);
        if (instructions)
            json_array_insert_new(
                messages, 0, json_pack("{s:s, s:O}", "role", "system", "content", instructions));
        if (api__prompt(c, messages, c->tools)) api__start(c);
    }
    json_decref(messages);
}

static const char *id_of(const struct api__call *c)
{
    return http_path(c->r) + strlen("/v1/responses/");
}

static void no_such(struct api__call *c)
{
    api__fail(c, 404, "invalid_request_error", NULL, NULL,
              "there is no such response, or no longer");
}

void api__response_get(struct api__call *c)
{
    if (replies_get(c->a->replies, api__tenant(c), id_of(c), &c->out, NULL))
        api__reply(c, 200, &c->out);
    else
        no_such(c);
}

void api__response_delete(struct api__call *c)
{
    if (!replies_drop(c->a->replies, api__tenant(c), id_of(c))) {
        no_such(c);
        return;
    }
    buf_puts(&c->out, "{\"id\":");
    out_cstring(&c->out, id_of(c));
    buf_puts(&c->out, ",\"object\":\"response\",\"deleted\":true}");
    api__reply(c, 200, &c->out);
}
