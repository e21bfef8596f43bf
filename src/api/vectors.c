/* POST /v1/embeddings: vectors (Ollama's too), and /tokenize, /detokenize: what a text is to a model. */
#include "api_int.h"

#include "out.h"
#include <stdlib.h>
#include <string.h>

static bool bad_input(struct api__call *c)
{
    return api__refuse(
        c, "input",
        "'input' must be a string, an array of strings, an array of token ids, or an array of "
        "those: 1 to 2048 in all, none empty");
}

static bool encode(struct api__call *c, json_t *j, struct tok_ids *ids)
{
    struct err e;
    if (json_is_array(j)) return api__ids(c, j, ids) || bad_input(c);
    if (!json_string_length(j)) return bad_input(c);
    if (!tok_encode(worker_tok(c->model->worker), json_string_value(j), json_string_length(j),
                    TOK_ADD_AUTO, ids, &e))
        return ids->len > 0 || bad_input(c);
    api__fail_err(c, &e, "input");
    return false;
}

/* The token that ends texts stays at the end. */
static void cut(struct api__call *c, struct tok_ids *ids, size_t n)
{
    if (tok_add_eos(worker_tok(c->model->worker))) ids->data[n - 1] = ids->data[ids->len - 1];
    ids->len = n;
}

static bool take_text(struct api__call *c, json_t *j, struct embed_text *t)
{
    size_t ctx = (size_t)worker_info(c->model->worker)->ctx;
    struct tok_ids ids = {0};
    struct err e;
    bool ok = encode(c, j, &ids);
    if (ids.len > ctx && c->truncate) cut(c, &ids, ctx);
    t->tokens = ids.data; /* the call's to free */
    t->n = (int)ids.len;
    t->normalize = true;
    if (!ok || ids.len <= ctx) return ok;
    err_set(&e, ERR_USAGE, "an input has %zu tokens, the model reads up to %zu", ids.len, ctx);
    api__fail_err(c, &e, "input");
    return false;
}

static bool take_texts(struct api__call *c)
{
    json_t *j = json_object_get(c->body, "input"), *first = json_array_get(j, 0);
    bool many = json_is_array(j) && !json_is_number(first);
    size_t n = many ? json_array_size(j) : 1, d = (size_t)worker_info(c->model->worker)->d_model;
    if (n < 1 || n > API__TEXTS_MAX) return bad_input(c);
    c->texts = calloc(n, sizeof *c->texts);
    c->vectors = malloc(n * d * sizeof *c->vectors);
    if (!c->texts || !c->vectors) return bad_input(c);
    c->n_prompts = (int)n;
    for (size_t i = 0; i < n; i++) {
        c->texts[i].out = c->vectors + i * d;
        if (!take_text(c, many ? json_array_get(j, i) : j, &c->texts[i])) return false;
    }
    return true;
}

static enum worker_flow on_event(void *arg, const struct worker_event *ev)
{
    struct api__call *c = arg;
    c->choices->usage = *ev->usage;
    c->choices->end = ev->end;
    api__count(c, c->choices, ev->kind == WORKER_FAILED);
    if (ev->kind == WORKER_FAILED) {
        api__fail_err(c, ev->error, "input");
    } else if (ev->end == ANSWER_CANCELLED) { /* not all were computed */
        api__fail(c, 503, "server_error", NULL, NULL, "the server is going down");
    } else {
        c->form->whole(c, &c->out);
        api__reply(c, 200, &c->out);
    }
    api__call_free(c);
    return WORKER_ON;
}

void api__vectors(struct api__call *c)
{
    struct err e;
    if (!take_texts(c)) return;
    struct worker_spec s = {.texts = c->texts,
                            .n_texts = c->n_prompts,
                            .tenant = api__tenant(c),
                            .event = on_event,
                            .arg = c};
    c->choices = calloc(1, sizeof *c->choices);
    c->jobs = calloc(1, sizeof(struct worker_job *));
    if (!c->choices || !c->jobs) {
        err_nomem(&e, sizeof *c->choices, "a job");
        api__fail_err(c, &e, NULL);
        return;
    }
    c->n_choices = 1;
    atomic_fetch_add(&c->refs, 1);
    if (worker_add(c->model->worker, &s, 1, c->jobs, &e)) {
        atomic_fetch_sub(&c->refs, 1);
        api__fail_err(c, &e, "input");
    }
}

static void embeddings_whole(struct api__call *c, struct buf *out)
{
    size_t d = (size_t)worker_info(c->model->worker)->d_model;
    int tokens = c->choices->usage.prompt_tokens;
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < c->n_prompts; i++) {
        const float *v = c->vectors + (size_t)i * d;
        buf_printf(out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "", i);
        if (c->base64)
            out_base64(out, v, d * sizeof *v);
        else
            out_floats(out, v, d);
        buf_putc(out, '}');
    }
    buf_puts(out, "],\"model\":");
    out_cstring(out, c->model->name);
    buf_printf(out, ",\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d}}", tokens, tokens);
}

static const struct api__form form = {.whole = embeddings_whole};

void api__embeddings(struct api__call *c)
{
    if (!api__body(c) || !api__model_of(c)) return;
    json_t *given = json_object_get(c->body, "encoding_format");
    const char *format = json_is_null(given) || !given ? "float" : json_string_value(given);
    int d = worker_info(c->model->worker)->d_model;
    int64_t dimensions = d;
    c->base64 = format && strcmp(format, "base64") == 0;
    if (!format || (!c->base64 && strcmp(format, "float"))) {
        api__fail(c, 400, "invalid_request_error", "encoding_format", NULL,
                  "'encoding_format' is float or base64");
        return;
    }
    c->form = &form;
    if (api__int(c, "dimensions", d, d, &dimensions)) api__vectors(c);
}

void api__tokenize(struct api__call *c)
{
    static const struct api__kind kinds[] = {
        {"prompt", JSON_STRING}, {"content", JSON_STRING}, {NULL, JSON_NULL}};
    struct tok_ids ids = {0};
    bool special = false;
    struct err e;
    if (!api__body(c) || !api__model_of(c) || !api__kinds(c, kinds) ||
        !api__bool(c, "add_special_tokens", &special))
        return;
    json_t *text = api__field(c, "prompt");
    if (!text) text = api__field(c, "content");
    if (!json_is_string(text)) {
        api__fail(c, 400, "invalid_request_error", "prompt", NULL,
                  "'prompt' (or 'content') must be a string");
        return;
    }
    if (tok_encode(worker_tok(c->model->worker), json_string_value(text), json_string_length(text),
                   special ? TOK_ADD_AUTO : 0, &ids, &e)) {
        api__fail_err(c, &e, "prompt");
        return;
    }
    buf_printf(&c->out, "{\"count\":%zu,\"max_model_len\":%d,\"tokens\":[", ids.len,
               worker_info(c->model->worker)->ctx);
    for (size_t i = 0; i < ids.len; i++) buf_printf(&c->out, "%s%d", i ? "," : "", ids.data[i]);
    buf_puts(&c->out, "]}");
    tok_ids_free(&ids);
    api__reply(c, 200, &c->out);
}

void api__detokenize(struct api__call *c)
{
    struct buf text = BUF_INIT(API__ANSWER_MAX);
    struct err e;
    size_t i;
    json_t *id;
    if (!api__body(c) || !api__model_of(c)) return;
    json_t *ids = json_object_get(c->body, "tokens");
    bool ok = json_is_array(ids);
    int32_t *list = malloc((json_array_size(ids) + 1) * sizeof *list);
    json_array_foreach(ids, i, id)
    {
        ok = ok && list && api__token(id, (int64_t)INT32_MAX + 1, &list[i]);
    }
    if (!ok || !list) {
        api__fail(c, 400, "invalid_request_error", "tokens", NULL,
                  "'tokens' must be an array of token ids");
    } else if (tok_decode(worker_tok(c->model->worker), list, json_array_size(ids), false, &text,
                          &e)) {
        e.code = ERR_USAGE;
        api__fail_err(c, &e, "tokens");
    } else {
        buf_puts(&c->out, "{\"prompt\":");
        out_string(&c->out, text.data ? text.data : "", text.len);
        buf_putc(&c->out, '}');
        api__reply(c, 200, &c->out);
    }
    free(list);
    buf_free(&text);
}
