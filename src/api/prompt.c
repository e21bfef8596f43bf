/* From messages to a prompt. They are made plain first (content as one string, developer as system, the
 * arguments of calls as objects), which is what models' templates know. */
#include "api_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool bad(struct api__call *c, size_t i, const char *what)
{
    char param[40], text[200];
    snprintf(param, sizeof param, "%s[%zu]", api__names(c)->prompt, i);
    snprintf(text, sizeof text, "'%s' %s", param, what);
    api__fail(c, 400, "invalid_request_error", param, NULL, text);
    return false;
}

json_t *api__text(json_t *content)
{
    struct buf b = BUF_INIT(API__ANSWER_MAX);
    size_t i;
    json_t *part;
    if (!content || json_is_null(content)) return json_string("");
    if (json_is_string(content)) return json_incref(content);
    bool ok = json_is_array(content);
    json_array_foreach(content, i, part)
    {
        json_t *text = json_object_get(part, "text");
        ok = ok && json_is_string(text);
        if (ok) buf_put(&b, json_string_value(text), json_string_length(text));
    }
    json_t *all = ok && !b.failed ? json_stringn(b.data ? b.data : "", b.len) : NULL;
    buf_free(&b);
    return all;
}

bool api__say(json_t *messages, const char *role, json_t *content)
{
    json_t *m = content ? json_pack("{s:s, s:o}", "role", role, "content", content) : NULL;
    return m && !json_array_append_new(messages, m);
}

bool api__say_call(json_t *messages, const char *id, const char *name, json_t *arguments)
{
    size_t n = json_array_size(messages);
    json_t *last = n ? json_array_get(messages, n - 1) : NULL;
    const char *role = json_string_value(json_object_get(last, "role"));
    if (!role || strcmp(role, "assistant")) {
        if (!api__say(messages, "assistant", json_string(""))) return false;
        last = json_array_get(messages, n);
    }
    json_t *calls = json_object_get(last, "tool_calls");
    if (!calls) {
        calls = json_array();
        if (json_object_set_new(last, "tool_calls", calls)) return false;
    }
    json_t *call = json_pack("{s:s, s:s, s:{s:s, s:O}}", "id", id, "type", "function", "function",
                             "name", name, "arguments", arguments);
    return call && !json_array_append_new(calls, call);
}

bool api__say_result(json_t *messages, const char *id, json_t *content)
{
    json_t *m = content ? json_pack("{s:s, s:s, s:o}", "role", "tool", "tool_call_id", id,
                                    "content", content)
                        : NULL;
    return m && !json_array_append_new(messages, m);
}

bool api__add_tool(json_t *tools, json_t *name, json_t *description, json_t *parameters)
{
    json_t *f = json_object();
    json_object_set(f, "name", name);
    if (json_is_string(description)) json_object_set(f, "description", description);
    if (!json_is_null(parameters)) json_object_set(f, "parameters", parameters);
    json_t *tool = f ? json_pack("{s:s, s:o}", "type", "function", "function", f) : NULL;
    return tool && !json_array_append_new(tools, tool);
}

/* Templates want the arguments of calls as an object; the API has them as text. */
static bool open_arguments(json_t *calls)
{
    size_t i;
    json_t *call;
    if (calls && !json_is_null(calls) && !json_is_array(calls)) return false;
    json_array_foreach(calls, i, call)
    {
        json_t *f = json_object_get(call, "function"), *a = json_object_get(f, "arguments");
        if (!json_is_string(json_object_get(f, "name"))) return false;
        if (!json_is_string(a)) continue;
        json_t *parsed = json_loads(json_string_value(a), JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(parsed)) {
            json_decref(parsed);
            continue;
        }
        json_object_set_new(f, "arguments", parsed);
    }
    return true;
}

static bool plain_messages(struct api__call *c, json_t *messages)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "function"};
    size_t i;
    json_t *m;
    if (!json_is_array(messages) || !json_array_size(messages) ||
        json_array_size(messages) > API__MESSAGES_MAX) {
        return api__bad(c, api__names(c)->prompt, "must be an array of 1 to 10000 messages");
    }
    json_array_foreach(messages, i, m)
    {
        const char *role = json_string_value(json_object_get(m, "role"));
        bool known = false;
        if (!role) return bad(c, i, "must have a role");
        if (strcmp(role, "developer") == 0) {
            json_object_set_new(m, "role", json_string("system"));
            role = "system";
        }
        for (size_t k = 0; k < sizeof roles / sizeof *roles; k++)
            known |= strcmp(role, roles[k]) == 0;
        if (!known) return bad(c, i, "has an unknown role");
        json_t *content = api__text(json_object_get(m, "content"));
        if (!content) return bad(c, i, "must have a text as content; images are not supported");
        json_object_set_new(m, "content", content);
        if (!open_arguments(json_object_get(m, "tool_calls")))
            return bad(c, i, "holds a tool call without a function's name");
    }
    return true;
}

static bool encode(struct api__call *c, json_t *messages, json_t *tools)
{
    json_t *in = json_object(), *extra = json_object_get(c->body, "chat_template_kwargs");
    struct err e;
    if (extra && !json_is_null(extra) && !json_is_object(extra)) {
        json_decref(in);
        api__fail(c, 400, "invalid_request_error", "chat_template_kwargs", NULL,
                  "'chat_template_kwargs' must be an object");
        return false;
    }
    json_object_update(in, extra);
    json_object_set(in, "messages", messages);
    if (json_array_size(tools) && api__template_knows_tools(c->model))
        json_object_set(in, "tools", tools);
    char *text = json_dumps(in, 0);
    json_decref(in);
    c->prompts = calloc(1, sizeof *c->prompts);
    c->n_prompts = c->prompts != NULL;
    int rc = text && c->prompts ? chat_encode(c->model->chat, worker_tok(c->model->worker), text,
                                              strlen(text), CHAT_REPLY, &c->prompts[0], &e)
                                : err_nomem(&e, 0, "a prompt");
    free(text);
    if (rc == ERR_FORMAT || rc == ERR_LIMIT) rc = e.code = ERR_USAGE;
    if (rc) api__fail_err(c, &e, api__names(c)->prompt);
    return !rc;
}

bool api__ids(struct api__call *c, json_t *array, struct tok_ids *out)
{
    size_t i, n = json_array_size(array);
    int vocab = c->model->info.n_vocab;
    json_t *id;
    int32_t *data = n ? realloc(out->data, (out->len + n) * sizeof *data) : NULL;
    if (!data) return false;
    out->data = data;
    out->room = out->len + n;
    json_array_foreach(array, i, id)
    {
        if (!api__token(id, vocab, &out->data[out->len])) return false;
        out->len++;
    }
    return true;
}

bool api__template_knows_tools(const struct api__model *m)
{
    return strstr(m->template, "tools") != NULL;
}

/* What templates with tools say of them, for those without, in the words of Hermes (NousResearch). */
static bool tell_of_tools(json_t *messages, json_t *list)
{
    struct buf b = BUF_INIT(API__ANSWER_MAX);
    json_t *first = json_array_get(messages, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    bool system = role && strcmp(role, "system") == 0;
    char *tools = json_dumps(list, 0);
    if (system) buf_printf(&b, "%s\n\n", json_string_value(json_object_get(first, "content")));
    buf_printf(&b,
               "You may call functions. Here are their signatures as JSON:\n<tools>\n%s\n</tools>\n"
               "To call one, answer with nothing but its name and arguments as JSON in tags:\n"
               "<tool_call>\n{\"name\": NAME, \"arguments\": OBJECT}\n</tool_call>",
               tools ? tools : "[]");
    free(tools);
    json_t *text = b.failed ? NULL : json_stringn(b.data, b.len);
    buf_free(&b);
    if (!text) return false;
    if (system) return !json_object_set_new(first, "content", text);
    return !json_array_insert_new(messages, 0,
                                  json_pack("{s:s, s:o}", "role", "system", "content", text));
}

/* Calls and results of an earlier turn, as text. */
static bool write_out_tools(json_t *messages)
{
    size_t i, k;
    json_t *m, *call;
    json_array_foreach(messages, i, m)
    {
        struct buf b = BUF_INIT(API__ANSWER_MAX);
        const char *role = json_string_value(json_object_get(m, "role"));
        bool result = strcmp(role, "tool") == 0 || strcmp(role, "function") == 0;
        json_t *calls = json_object_get(m, "tool_calls");
        if (!result && !json_array_size(calls)) continue;
        const char *content = json_string_value(json_object_get(m, "content"));
        if (result) buf_printf(&b, "<tool_response>\n%s\n</tool_response>", content);
        if (!result) buf_puts(&b, content);
        json_array_foreach(calls, k, call)
        {
            char *text = json_dumps(json_object_get(call, "function"), 0);
            buf_printf(&b, "\n<tool_call>\n%s\n</tool_call>", text ? text : "{}");
            free(text);
        }
        json_t *all = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.len);
        buf_free(&b);
        if (!all || json_object_set_new(m, "content", all)) return false;
        if (result) json_object_set_new(m, "role", json_string("user"));
        json_object_del(m, "tool_calls");
    }
    return true;
}

/* The operator's system message, where the conversation brings none. */
static bool add_system(const struct api__call *c, json_t *messages)
{
    const char *text = c->model->own->system;
    json_t *role = json_object_get(json_array_get(messages, 0), "role");
    if (!text || strcmp(json_string_value(role), "system") == 0) return true;
    return !json_array_insert_new(messages, 0,
                                  json_pack("{s:s, s:s}", "role", "system", "content", text));
}

bool api__prompt(struct api__call *c, json_t *messages, json_t *tools)
{
    struct err e;
    if (!c->model->chat) {
        api__fail(c, 400, "invalid_request_error", "model", NULL,
                  "this model makes embeddings, it does not chat");
        return false;
    }
    if (!plain_messages(c, messages)) return false;
    if (!add_system(c, messages) ||
        (!api__template_knows_tools(c->model) &&
         (!write_out_tools(messages) ||
          (json_array_size(tools) && !tell_of_tools(messages, tools))))) {
        err_nomem(&e, 0, "the messages");
        api__fail_err(c, &e, NULL);
        return false;
    }
    return encode(c, messages, tools);
}
