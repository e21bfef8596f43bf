/* The router: what may be asked, by whom, and how refusals look. Whatever has no line in the table is
 * a 404; a line that does not say otherwise wants a key. */
#include "api_int.h"

#include "clock.h"
#include "out.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* ---- errors ---- */

int api__status(const struct err *e)
{
    static const struct {
        int code, status;
    } table[] = {{ERR_USAGE, 400}, {ERR_UNSUPPORTED, 400}, {ERR_NOT_FOUND, 404},
                 {ERR_LIMIT, 429}, {ERR_CANCELLED, 503},   {ERR_MEMORY, 503}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].code == e->code) return table[i].status;
    return 500;
}

void api__put_error(struct buf *b, int status, const char *type, const char *param,
                    const char *code, const char *message)
{
    (void)status;
    buf_puts(b, "{\"error\":{\"message\":");
    out_cstring(b, message);
    buf_puts(b, ",\"type\":");
    out_cstring(b, type);
    buf_puts(b, ",\"param\":");
    out_cstring(b, param);
    buf_puts(b, ",\"code\":");
    out_cstring(b, code);
    buf_puts(b, "}}");
}

static void reply(struct api__call *c, int status, const char *type, const void *p, size_t n)
{
    struct http_field fields[4] = {{"X-Request-Id", c->request_id}};
    int n_fields = 1;
    if (status == 429 || status == 503)
        fields[n_fields++] = (struct http_field){"Retry-After", "1"};
    if (status == 401) fields[n_fields++] = (struct http_field){"WWW-Authenticate", "Bearer"};
    if (status == 405) fields[n_fields++] = (struct http_field){"Allow", c->allow};
    http_reply(c->r, status, type, fields, n_fields, p, n);
}

void api__fail(struct api__call *c, int status, const char *type, const char *param,
               const char *code, const char *message)
{
    struct buf b = BUF_INIT(1 << 16);
    if (c->form && c->form->error)
        c->form->error(&b, status, message);
    else
        api__put_error(&b, status, type, param, code, message);
    reply(c, status, "application/json", b.data, b.len);
    buf_free(&b);
}

void api__fail_err(struct api__call *c, const struct err *e, const char *param)
{
    int status = api__status(e);
    const char *type = status == 429   ? "rate_limit_error"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";
    const char *code = status == 429 ? "rate_limit_exceeded" : NULL;
    if (e->code == ERR_USAGE && strstr(e->msg, "maximum context length"))
        code = "context_length_exceeded";
    api__fail(c, status, type, status < 500 ? param : NULL, code, e->msg);
}

void api__reply(struct api__call *c, int status, const struct buf *b)
{
    if (b->failed)
        api__fail(c, 400, "invalid_request_error", NULL, NULL,
                  "the answer is too large: ask for less at a time");
    else
        reply(c, status, "application/json", b->data, b->len);
}

uint64_t api__tenant(const struct api__call *c)
{
    return c->key ? c->key->tenant : 0;
}

/* ---- small routes ---- */

static void health(struct api__call *c)
{
    bool down = atomic_load(&c->a->draining);
    const char *text = down ? "{\"status\":\"going down\"}" : "{\"status\":\"ok\"}";
    reply(c, down ? 503 : 200, "application/json", text, strlen(text));
}

static void put_model(const struct api__model *m, struct buf *b)
{
    const struct engine_info *info = &m->info;
    buf_puts(b, "{\"id\":");
    out_cstring(b, m->name);
    buf_printf(
        b,
        ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"solvent\",\"max_model_len\":%d,"
        "\"meta\":{\"architecture\":",
        (long long)m->created_s, info->ctx);
    out_cstring(b, info->arch);
    buf_printf(b, ",\"n_params\":%lld,\"n_vocab\":%d,\"embedding_length\":%d,\"chat\":%s}",
               (long long)info->n_params, info->n_vocab, info->d_model,
               info->encoder ? "false" : "true");
    buf_puts(b, ",\"aliases\":[");
    for (int i = 0; i < m->own->n_aliases; i++) {
        if (i) buf_putc(b, ',');
        out_cstring(b, m->own->aliases[i]);
    }
    buf_puts(b, "]}");
}

static void models(struct api__call *c)
{
    buf_puts(&c->out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0, n = 0; i < c->a->n_models; i++) {
        if (c->a->models[i].removed) continue;
        if (n++) buf_putc(&c->out, ',');
        put_model(&c->a->models[i], &c->out);
    }
    buf_puts(&c->out, "]}");
    api__reply(c, 200, &c->out);
}

static void model(struct api__call *c)
{
    const struct api__model *m = api__model_find(c->a, http_path(c->r) + strlen("/v1/models/"));
    if (m) {
        put_model(m, &c->out);
        api__reply(c, 200, &c->out);
    } else {
        api__fail(c, 404, "invalid_request_error", "model", "model_not_found",
                  "no such model: see /v1/models");
    }
}

static void metrics(struct api__call *c)
{
    api__put_metrics(c->a, http_server(c->r), &c->out);
    if (c->out.failed)
        api__reply(c, 200, &c->out);
    else
        reply(c, 200, "text/plain; version=0.0.4", c->out.data, c->out.len);
}

static void page(struct api__call *c)
{
    static const struct http_field safe[] = {
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src "
         "'self' "
         "data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cache-Control", "no-cache"}};
    const char *path = http_path(c->r);
    const struct api__file *f = api__files;
    while (f->path && strcmp(f->path, path)) f++;
    if (f->path)
        http_reply(c->r, 200, f->type, safe, 4, f->bytes, f->n);
    else
        api__fail(c, 404, "invalid_request_error", NULL, NULL, "there is nothing here");
}

static void openapi(struct api__call *c)
{
    reply(c, 200, "application/json", api__openapi_json, api__openapi_json_bytes);
}

/* ---- the table: whatever stands here stands in openapi.json, too ---- */

static const struct {
    const char *method, *path; /* a path that ends in '/' stands for all below it */
    void (*run)(struct api__call *c);
    bool open; /* to everybody */
} routes[] = {
    {"GET", "/health", health, true},
    {"GET", "/", page, true},
    {"GET", "/web/", page, true},
    {"GET", "/openapi.json", openapi, true},
    {"GET", "/metrics", metrics, false},
    {"GET", "/v1/models", models, false},
    {"GET", "/v1/models/", model, false},
    {"POST", "/v1/chat/completions", api__chat, false},
    {"POST", "/v1/completions", api__completions, false},
    {"POST", "/v1/embeddings", api__embeddings, false},
    {"POST", "/v1/responses", api__responses, false},
    {"GET", "/v1/responses/", api__response_get, false},
    {"DELETE", "/v1/responses/", api__response_delete, false},
    {"POST", "/v1/messages", api__messages, false},
    {"POST", "/v1/messages/count_tokens", api__count_tokens, false},
    {"POST", "/tokenize", api__tokenize, false},
    {"POST", "/detokenize", api__detokenize, false},
    {"POST", "/api/chat", api__ollama_chat, false},
    {"POST", "/api/generate", api__ollama_generate, false},
    {"POST", "/api/embed", api__ollama_embed, false},
    {"POST", "/api/embeddings", api__ollama_embeddings, false},
    {"GET", "/api/tags", api__ollama_tags, false},
    {"GET", "/api/ps", api__ollama_ps, false},
    {"GET", "/api/version", api__ollama_version, false},
    {"POST", "/api/show", api__ollama_show, false},
    {"POST", "/api/pull", api__ollama_pull, false},
    {"POST", "/api/push", api__ollama_refuse, false},
    {"POST", "/api/create", api__ollama_refuse, false},
    {"POST", "/api/copy", api__ollama_refuse, false},
    {"DELETE", "/api/delete", api__ollama_refuse, false},
};

static bool matches(const char *route, const char *path)
{
    size_t n = strlen(route);
    return n > 1 && route[n - 1] == '/' ? strncmp(route, path, n) == 0 : strcmp(route, path) == 0;
}

static bool admitted(struct api__call *c)
{
    const char *given = http_header(c->r, "Authorization"), *other = http_header(c->r, "x-api-key");
    if (!c->a->keys) return true;
    if (given && strncasecmp(given, "Bearer ", 7) == 0)
        c->key = keys_find(c->a->keys, given + 7);
    else if (other)
        c->key = keys_find(c->a->keys, other);
    return c->key != NULL;
}

/* A page of another site may make a browser ask us under its own name (DNS rebinding). With keys it gains
 * nothing. */
static bool host_ok(const struct api__call *c)
{
    const char *names[] = {c->a->host, "localhost", "127.0.0.1", "[::1]"};
    const char *given = http_header(c->r, "Host");
    if (c->a->keys || !c->a->host || !given) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if (strncasecmp(given, names[i], n) == 0 && (!given[n] || given[n] == ':')) return true;
    }
    return false;
}

/* Whose errors a path has; NULL: OpenAI's. path: decoded or as it came. */
static const struct api__form *form_of(const char *path)
{
    static const char messages[] = "/v1/messages";
    size_t n = sizeof messages - 1;
    if (strncmp(path, messages, n) == 0 && (!path[n] || path[n] == '/' || path[n] == '?'))
        return &api__messages_form;
    return matches("/api/", path) ? &api__ollama_form : NULL;
}

static void route(struct api__call *c)
{
    const char *method = http_method(c->r), *path = http_path(c->r);
    c->form = form_of(path); /* from here on, whatever is refused is refused in its form */
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const char *allowed = routes[i].method;
        bool get = strcmp(allowed, "GET") == 0;
        if (!matches(routes[i].path, path)) continue;
        if (strcmp(allowed, method) && !(get && strcmp(method, "HEAD") == 0)) {
            size_t n = strlen(c->allow);
            snprintf(c->allow + n, sizeof c->allow - n, "%s%s", n ? ", " : "",
                     get ? "GET, HEAD" : allowed);
            continue;
        }
        if (!host_ok(c))
            api__fail(c, 403, "invalid_request_error", NULL, NULL,
                      "this server does not go by that name: see --host and --keys");
        else if (!routes[i].open && !admitted(c))
            api__fail(c, 401, "invalid_request_error", NULL, "invalid_api_key",
                      "Incorrect API key provided: send it as 'Authorization: Bearer KEY'");
        else if (atomic_load(&c->a->draining) && !routes[i].open)
            api__fail(c, 503, "server_error", NULL, NULL, "the server is going down");
        else
            (c->run = routes[i].run)(c);
        return;
    }
    api__fail(c, *c->allow ? 405 : 404, "invalid_request_error", NULL, NULL,
              *c->allow ? "this method is not allowed here" : "there is nothing here");
}

/* Who asks for what, for the log. */
static void note(struct api__call *c, const struct http_request *r)
{
    snprintf(c->method, sizeof c->method, "%s", http_method(r));
    snprintf(c->path, sizeof c->path, "%s", http_path(r));
    snprintf(c->peer, sizeof c->peer, "%s", http_peer(r));
    memcpy(c->request_id, "req-", 4);
    api__random_hex(c->request_id + 4, 24);
    api__trace_take(&c->trace, http_header(r, "traceparent"));
}

void api_handle(void *api, struct http_request *r)
{
    struct api__call *c = calloc(1, sizeof *c);
    if (!c) {
        static const char text[] =
            "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
            "\"param\":null,\"code\":null}}";
        http_reply(r, 503, "application/json", NULL, 0, text, sizeof text - 1);
        return;
    }
    c->a = api;
    c->r = r;
    c->created_s = time(NULL);
    c->out = c->repeated = c->conversation = BUF_INIT(API__ANSWER_MAX);
    atomic_init(&c->refs, 2); /* ours, and the HTTP layer's until it is logged */
    note(c, r);
    http_set_user(r, c);
    route(c);
    api__call_free(c);
}

/* One line of JSON: when, who, what, how long. Never what was said. */
void api__log(const struct api__call *c)
{
    struct buf b = BUF_INIT(1 << 16);
    char when[32];
    time_t now = time(NULL);
    struct tm tm;
    long long prompt = 0, output = 0;
    if (!c->a->log) return;
    for (int i = 0; c->choices && i < c->n_choices; i++) {
        prompt += c->choices[i].usage.prompt_tokens;
        output += c->choices[i].usage.output_tokens;
    }
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    buf_printf(&b, "{\"time\":\"%s\",\"id\":\"%s\",\"peer\":\"%s\",\"key\":", when, c->request_id,
               c->peer);
    out_cstring(&b, c->key ? c->key->name : NULL);
    buf_puts(&b, ",\"method\":");
    out_cstring(&b, c->method);
    buf_puts(&b, ",\"path\":");
    out_cstring(&b, c->path);
    buf_puts(&b, ",\"model\":");
    out_cstring(&b, c->model ? c->model->name : NULL);
    buf_printf(&b,
               ",\"status\":%d,\"bytes\":%lld,\"ms\":%.3f,\"cut\":%s,\"prompt_tokens\":%lld,"
               "\"output_tokens\":%lld,\"trace_id\":\"%s\",\"span_id\":\"%s\"",
               c->status, (long long)c->sent_bytes, (double)c->total_ns * 1e-6,
               c->cut ? "true" : "false", prompt, output, c->trace.id, c->trace.span);
    if (c->trace.parent[0]) buf_printf(&b, ",\"parent_span_id\":\"%s\"", c->trace.parent);
    buf_puts(&b, "}\n");
    if (!b.failed) fwrite(b.data, 1, b.len, c->a->log); /* whole lines, whoever writes */
    fflush(c->a->log);
    buf_free(&b);
}

void api_logged(void *api, const struct http_request *r, int status, int64_t bytes, int64_t ns,
                bool cut)
{
    struct api *a = api;
    struct api__call *c = http_user(r);
    struct api__call refused = {.a = a}; /* before it was handed over */
    thread_hold(&a->lock);
    a->metrics.answers[status >= 0 && status < 600 ? status : 0]++;
    thread_release(&a->lock);
    if (!c) {
        note(&refused, r);
        refused.path[strcspn(refused.path, "?")] = 0;
    }
    struct api__call *of = c ? c : &refused;
    of->status = status;
    of->sent_bytes = bytes;
    of->total_ns = ns;
    of->cut = cut;
    if (c)
        api__call_free(c);
    else
        api__log(of);
}

void api_refusal(void *api, const struct http_request *r, int status, struct buf *body,
                 const char **type)
{
    const struct api *a = api;
    const struct api__form *form = form_of(r ? http_path(r) : "");
    const char *kind = "invalid_request_error", *code = NULL, *message = "the request is malformed";
    *type = "application/json";
    switch (status) {
    case 408: message = "the request took too long to arrive"; break;
    case 413: message = "the request is too large"; break;
    case 431: message = "the headers of the request are too large"; break;
    case 429:
        message = "too many connections from this address";
        kind = "rate_limit_error";
        code = "rate_limit_exceeded";
        break;
    case 503:
        message = atomic_load(&a->draining) ? "the server is going down" : "the server is full";
        kind = "server_error";
        break;
    }
    if (form)
        form->error(body, status, message);
    else
        api__put_error(body, status, kind, NULL, code, message);
}

/* ---- open and close ---- */

int api_open(struct api **out, const struct api_opts *o, struct err *e)
{
    struct api *a = calloc(1, sizeof *a);
    if (!a) return err_nomem(e, sizeof *a, "the server");
    a->log = o->log;
    thread_monitor_init(&a->lock);
    int rc = replies_open(&a->replies, REPLIES_BYTES, REPLIES_COUNT, e);
    bool all = !o->host || strcmp(o->host, "0.0.0.0") == 0 || strcmp(o->host, "::") == 0;
    if (!rc && !all && !(a->host = strdup(o->host))) rc = err_nomem(e, strlen(o->host), "a name");
    if (!rc && o->keys) rc = keys_open(&a->keys, o->keys, e);
    if (!rc) rc = api__models_open(a, o, e);
    if (rc)
        api_close(a);
    else
        *out = a;
    return rc;
}

void api_drain(struct api *a)
{
    atomic_store(&a->draining, true);
    models_drain(a->loaded);
}

void api_close(struct api *a)
{
    if (!a) return;
    api__models_close(a);
    api__grammars_free(a);
    replies_close(a->replies);
    keys_close(a->keys);
    free(a->host);
    thread_monitor_free(&a->lock);
    free(a);
}
