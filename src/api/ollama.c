/* POST /api/chat, /api/generate, /api/embed, /api/embeddings: answers and vectors as Ollama gives them
 * (its api/types.go and server/routes.go, 0.33). A stream, which is the default, is a line of JSON a
 * piece. Options that set up Ollama's runner (num_ctx, num_gpu ...) change nothing here; what would
 * change an answer and is not there is refused rather than ignored. load_duration is the time a request
 * waited for its model and for its turn.
 */
#include "api_int.h"

#include "amount.h"
#include "out.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct api__form chat_form;
static const struct api__names names = {
    .max_tokens = "num_predict", .stop = "stop", .prompt = "messages"};

static void put_error(struct buf *out, int status, const char *message)
{
    (void)status;
    buf_puts(out, "{\"error\":");
    out_cstring(out, message);
    buf_putc(out, '}');
}

static bool bad(struct api__call *c, const char *message)
{
    api__fail(c, 400, "invalid_request_error", NULL, NULL, message);
    return false;
}

void api__put_time(struct buf *b, int64_t s, long ns)
{
    char text[40];
    struct tm tm;
    time_t t = (time_t)s;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&t, &tm));
    buf_printf(b, "\"%s.%09ldZ\"", text, ns);
}

/* ---- the forms ---- */

static void put_calls(const struct api__choice *ch, struct buf *out)
{
    for (int i = 0; i < ch->calls.n_calls; i++) {
        buf_printf(out, "%s{\"id\":\"call_%s_%d\",\"function\":{\"index\":%d,\"name\":",
                   i ? "," : ",\"tool_calls\":[", ch->call->request_id + 4, i, i);
        out_cstring(out, ch->calls.calls[i].name);
        buf_printf(out, ",\"arguments\":%s}}", ch->calls.calls[i].arguments);
    }
    if (ch->calls.n_calls) buf_putc(out, ']');
}

/* ch: whose calls of tools belong to it, or NULL. */
static void put_head(struct api__call *c, const char *text, size_t n, const struct api__choice *ch,
                     struct buf *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    buf_puts(out, "{\"model\":");
    out_cstring(out, json_string_value(json_object_get(c->body, "model")));
    buf_puts(out, ",\"created_at\":");
    api__put_time(out, now.tv_sec, now.tv_nsec);
    bool chat = c->form == &chat_form;
    buf_puts(out, chat ? ",\"message\":{\"role\":\"assistant\",\"content\":" : ",\"response\":");
    out_string(out, text ? text : "", n);
    if (chat && ch) put_calls(ch, out);
    if (chat) buf_putc(out, '}');
}

static void put_probs(const struct api__choice *ch, struct buf *out)
{
    if (ch->n_probs) buf_printf(out, ",\"logprobs\":[%s]", ch->probs.data);
}

static void put_context(const struct api__choice *ch, struct buf *out)
{
    const int32_t *ids = (const int32_t *)(const void *)ch->ids.data;
    buf_puts(out, ",\"context\":[");
    for (size_t i = 0; i < ch->prompt->len; i++)
        buf_printf(out, "%s%d", i ? "," : "", ch->prompt->data[i]);
    for (size_t i = 0; i < ch->ids.len / sizeof *ids; i++) buf_printf(out, ",%d", ids[i]);
    buf_putc(out, ']');
}

static void put_end(const struct api__choice *ch, struct buf *out)
{
    const struct worker_usage *u = &ch->usage;
    int64_t first = u->ttft_ns ? u->ttft_ns : u->total_ns, load = ch->call->load_ns;
    buf_printf(
        out,
        ",\"done\":true,\"done_reason\":\"%s\",\"total_duration\":%lld,\"load_duration\":%lld,"
        "\"prompt_eval_count\":%d,\"prompt_eval_duration\":%lld,\"eval_count\":%d,"
        "\"eval_duration\":%lld",
        ch->calls.n_calls ? "stop" : api__reason(ch), (long long)(load + u->total_ns),
        (long long)(load + u->queue_ns), u->prompt_tokens, (long long)(first - u->queue_ns),
        u->output_tokens, (long long)(u->total_ns - first));
    if (ch->call->form->ids) put_context(ch, out);
    buf_putc(out, '}');
}

static void put_piece(struct api__choice *ch, const struct answer_next *next, struct buf *out)
{
    put_head(ch->call, next->text, next->n, NULL, out);
    put_probs(ch, out);
    buf_puts(out, ",\"done\":false}\n");
}

static void put_closed(struct api__choice *ch, struct buf *out)
{
    if (ch->calls.n_calls) {
        put_head(ch->call, "", 0, ch, out);
        buf_puts(out, ",\"done\":false}\n");
    }
    put_head(ch->call, "", 0, NULL, out);
    put_end(ch, out);
    buf_putc(out, '\n');
}

static void put_broken(struct api__call *c, struct buf *out)
{
    put_error(out, api__status(&c->error), c->error.msg);
    buf_putc(out, '\n');
}

static void put_whole(struct api__call *c, struct buf *out)
{
    const struct api__choice *ch = c->choices;
    put_head(c, ch->text.data, ch->text.len, ch, out);
    put_probs(ch, out);
    put_end(ch, out);
}

const struct api__form api__ollama_form = {.names = &names, .error = put_error};
#define LINES                                                                                  \
    .names = &names, .error = put_error, .stream_type = "application/x-ndjson",                \
    .piece = put_piece, .closed = put_closed, .broken = put_broken, .probs = api__token_probs, \
    .whole = put_whole
static const struct api__form chat_form = {LINES};
static const struct api__form generate_form = {LINES, .ids = true};
static const struct api__form raw_form = {LINES};

/* ---- requests ---- */

static bool is_empty(json_t *j)
{
    return !j || json_is_null(j) || json_is_false(j) ||
           (json_is_string(j) && !json_string_length(j)) ||
           ((json_is_array(j) || json_is_object(j)) && !json_array_size(j) && !json_object_size(j));
}

/* Absent, or empty as its kind can be: what is of another kind is not. */
static bool is_none(json_t *j, json_type kind)
{
    return !j || json_is_null(j) || (json_typeof(j) == kind && is_empty(j));
}

static bool refuse_what_is_missing(struct api__call *c)
{
    static const char *const refused[][2] = {
        {"template", "a request cannot bring its own template; with 'raw' it is the whole prompt"},
        {"suffix", "this model does not support insert"},
        {"images", "this model does not support images"},
    };
    size_t k;
    json_t *m;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!is_empty(json_object_get(c->body, refused[i][0]))) return bad(c, refused[i][1]);
    json_array_foreach(json_object_get(c->body, "messages"), k, m)
    {
        if (!is_empty(json_object_get(m, "images"))) return bad(c, refused[2][1]);
    }
    return true;
}

/* Numbers that stand for something else: no limit, a random seed, all tokens. */
static void plain_options(json_t *options)
{
    json_t *most = json_object_get(options, "num_predict");
    double n = json_number_value(most);
    if (json_number_value(json_object_get(options, "top_k")) == -1)
        json_object_set_new(options, "top_k", json_integer(0));
    if (json_number_value(json_object_get(options, "seed")) == -1) json_object_del(options, "seed");
    if (json_is_number(most) && n < 1 && n >= INT32_MIN && n == floor(n))
        json_object_del(options, "num_predict");
}

static bool take_options(struct api__call *c)
{
    json_t *options = json_object_get(c->body, "options");
    if (!is_none(options, JSON_OBJECT) && !json_is_object(options))
        return bad(c, "'options' is no object");
    plain_options(options);
    c->fields = options;
    bool ok = api__sampling(c);
    c->fields = c->body;
    c->stream = true;
    return ok && api__bool(c, "stream", &c->stream);
}

static bool take_think(struct api__call *c)
{
    json_t *think = json_object_get(c->body, "think");
    if (!think || json_is_null(think)) return true;
    if (!json_is_boolean(think) && !json_is_string(think))
        return bad(c, "'think' must be true, false or a word");
    json_object_set_new(c->body, "chat_template_kwargs",
                        json_pack("{s:b}", "enable_thinking", !is_empty(think)));
    return true;
}

static bool take_format(struct api__call *c)
{
    json_t *format = json_object_get(c->body, "format");
    const char *word = json_string_value(format);
    if (is_empty(format)) return true;
    if (word && strcmp(word, "json") == 0) return api__constrain(c, 'j', "", 0, "format");
    if (!json_is_object(format)) return bad(c, "'format' must be \"json\" or a JSON schema");
    char *schema = json_dumps(format, 0);
    bool ok = schema ? api__constrain(c, 's', schema, strlen(schema), "format")
                     : bad(c, "no memory for the schema");
    free(schema);
    return ok;
}

/* Seconds, or a text such as "5m"; negative: for ever. */
static bool take_keep_alive(struct api__call *c)
{
    json_t *keep = api__field(c, "keep_alive");
    struct err e;
    c->keeps = keep != NULL;
    if (json_is_number(keep)) c->keep_ns = amount_ns_of(json_number_value(keep));
    if (!keep || json_is_number(keep)) return true;
    if (json_is_string(keep) && !amount_ns(json_string_value(keep), &c->keep_ns, &e)) return true;
    return bad(c, "'keep_alive' must be a number of seconds or a text such as \"5m\"");
}

/* Asked for nothing but the model to be loaded, or unloaded: it is. */
static void answer_done(struct api__call *c)
{
    const char *reason = c->has_model ? "load" : "unload";
    if (!c->has_model) models_keep(c->a->loaded, c->model->id, 0);
    put_head(c, "", 0, NULL, &c->out);
    buf_printf(&c->out, ",\"done\":true,\"done_reason\":\"%s\"}", reason);
    api__reply(c, 200, &c->out);
}

/* asked: the field that asks for an answer, if it is not empty. To be unloaded a model is not loaded. */
static bool take(struct api__call *c, const char *asked, json_type kind)
{
    static const struct api__kind kinds[] = {{"chat_template_kwargs", JSON_OBJECT},
                                             {NULL, JSON_NULL}};
    int64_t top = 0;
    if (!api__body(c) || !take_keep_alive(c)) return false;
    bool unload = c->keeps && !c->keep_ns && is_none(json_object_get(c->body, asked), kind);
    if (!(unload ? api__model_named(c) : api__model_of(c)) || !api__kinds(c, kinds) ||
        !refuse_what_is_missing(c) || !take_think(c) || !take_options(c) || !take_format(c) ||
        !api__bool(c, "logprobs", &c->answer.logprobs) ||
        !api__int(c, "top_logprobs", 0, ANSWER_TOP_MAX, &top))
        return false;
    c->answer.top = c->answer.logprobs ? (int)top : 0;
    return true;
}

void api__ollama_chat(struct api__call *c)
{
    c->form = &chat_form;
    if (!take(c, "messages", JSON_ARRAY)) return;
    json_t *messages = json_object_get(c->body, "messages");
    json_t *tools = json_object_get(c->body, "tools");
    if (!api__tools(c, is_none(tools, JSON_ARRAY) ? NULL : tools, NULL)) return;
    if (is_none(messages, JSON_ARRAY))
        answer_done(c);
    else if (api__prompt(c, messages, c->tools))
        api__start(c);
}

/* The prompt as it is, in which control tokens are what they say: it is the whole of it. */
static bool take_raw(struct api__call *c, json_t *prompt)
{
    struct err e;
    c->prompts = calloc(1, sizeof *c->prompts);
    c->n_prompts = c->prompts != NULL;
    int rc = c->prompts ? tok_encode(worker_tok(c->model->worker), json_string_value(prompt),
                                     json_string_length(prompt), TOK_SPECIAL | TOK_ADD_AUTO,
                                     c->prompts, &e)
                        : err_nomem(&e, 0, "a prompt");
    if (rc) api__fail_err(c, &e, NULL);
    return !rc;
}

/* What an earlier answer gave as its context. */
static bool take_context(struct api__call *c, struct tok_ids *all)
{
    json_t *context = json_object_get(c->body, "context");
    return is_none(context, JSON_ARRAY) || api__ids(c, context, all) ||
           bad(c, "'context' must be the token ids of an earlier answer");
}

/* It comes before the prompt. */
static bool put_before(struct api__call *c, struct tok_ids *all)
{
    struct tok_ids *p = c->prompts;
    bool bos = p->len && p->data[0] == tok_bos(worker_tok(c->model->worker));
    size_t n = p->len - bos;
    if (!all->len) return true;
    int32_t *data = realloc(all->data, (all->len + n) * sizeof *data);
    if (!data) return bad(c, "no memory for the context");
    memcpy(data + all->len, p->data + bos, n * sizeof *data);
    tok_ids_free(p);
    *p = (struct tok_ids){data, all->len + n, all->len + n};
    *all = (struct tok_ids){0};
    return true;
}

static bool take_prompt(struct api__call *c, json_t *prompt, json_t *system)
{
    json_t *messages = json_array();
    if (!is_empty(system))
        json_array_append_new(messages,
                              json_pack("{s:s, s:O}", "role", "system", "content", system));
    json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "user", "content", prompt));
    bool ok = api__prompt(c, messages, NULL);
    json_decref(messages);
    return ok;
}

void api__ollama_generate(struct api__call *c)
{
    static const struct api__kind kinds[] = {
        {"prompt", JSON_STRING}, {"system", JSON_STRING}, {NULL, JSON_NULL}};
    struct tok_ids context = {0};
    bool raw = false;
    c->form = &generate_form;
    if (!take(c, "prompt", JSON_STRING) || !api__kinds(c, kinds) || !api__bool(c, "raw", &raw))
        return;
    json_t *prompt = json_object_get(c->body, "prompt");
    json_t *system = json_object_get(c->body, "system");
    if (raw) c->form = &raw_form;
    if (raw && (!is_empty(system) || !is_empty(json_object_get(c->body, "context"))))
        bad(c, "raw mode does not support template, system, or context");
    else if (take_context(c, &context)) {
        if (is_none(prompt, JSON_STRING))
            answer_done(c);
        else if (raw ? take_raw(c, prompt)
                     : take_prompt(c, prompt, system) && put_before(c, &context))
            api__start(c);
    }
    tok_ids_free(&context);
}

/* ---- vectors ---- */

/* The first n numbers of a vector, made as long as 1 again. */
static void put_vector(struct api__call *c, int i, struct buf *out)
{
    size_t d = (size_t)worker_info(c->model->worker)->d_model, n = d;
    float *v = c->vectors + (size_t)i * d;
    double sum = 0;
    if (c->dimensions && (size_t)c->dimensions < d) n = (size_t)c->dimensions;
    for (size_t k = 0; k < n; k++) sum += (double)v[k] * v[k];
    for (size_t k = 0; k < n && n < d && sum > 0; k++) v[k] = (float)(v[k] / sqrt(sum));
    out_floats(out, v, n);
}

static void embed_whole(struct api__call *c, struct buf *out)
{
    const struct worker_usage *u = &c->choices->usage;
    buf_puts(out, "{\"model\":");
    out_cstring(out, json_string_value(json_object_get(c->body, "model")));
    buf_puts(out, ",\"embeddings\":[");
    for (int i = 0; i < c->n_prompts; i++) {
        if (i) buf_putc(out, ',');
        put_vector(c, i, out);
    }
    buf_printf(out, "],\"total_duration\":%lld,\"load_duration\":%lld,\"prompt_eval_count\":%d}",
               (long long)(c->load_ns + u->total_ns), (long long)(c->load_ns + u->queue_ns),
               u->prompt_tokens);
}

static void embedding_whole(struct api__call *c, struct buf *out)
{
    buf_puts(out, "{\"embedding\":");
    put_vector(c, 0, out);
    buf_putc(out, '}');
}

static const struct api__form embed_form = {.error = put_error, .whole = embed_whole};
static const struct api__form embedding_form = {.error = put_error, .whole = embedding_whole};

void api__ollama_embed(struct api__call *c)
{
    c->form = &embed_form;
    c->truncate = true;
    if (!api__body(c) || !take_keep_alive(c) || !api__model_of(c) ||
        !api__bool(c, "truncate", &c->truncate) ||
        !api__int(c, "dimensions", 0, INT32_MAX, &c->dimensions))
        return;
    json_t *input = json_object_get(c->body, "input");
    if (!is_none(input, JSON_STRING) && !is_none(input, JSON_ARRAY)) {
        api__vectors(c);
        return;
    }
    buf_puts(&c->out, "{\"model\":");
    out_cstring(&c->out, json_string_value(json_object_get(c->body, "model")));
    buf_puts(&c->out, ",\"embeddings\":[]}");
    api__reply(c, 200, &c->out);
}

void api__ollama_embeddings(struct api__call *c)
{
    c->form = &embedding_form;
    c->truncate = true;
    if (!api__body(c) || !take_keep_alive(c) || !api__model_of(c)) return;
    json_t *prompt = json_object_get(c->body, "prompt");
    if (is_none(prompt, JSON_STRING)) {
        buf_puts(&c->out, "{\"embedding\":[]}");
        api__reply(c, 200, &c->out);
    } else if (!json_is_string(prompt)) {
        bad(c, "'prompt' must be a string");
    } else {
        json_object_set(c->body, "input", prompt);
        api__vectors(c);
    }
}
