/* What the routes share: the server's state, one call, and the forms an answer can take.
 *
 * A call is one request from its first line to its last byte. It is held by the handler, by the HTTP
 * layer until the request is logged, and by each of its choices until the job's last event; who lets go
 * last frees it. Choices of a call are computed by one worker, so their events come one after the other.
 */
#ifndef API_INT_H
#define API_INT_H

#include "api.h"
#include "buf.h"
#include "chat.h"
#include "keys.h"
#include "models.h"
#include "replies.h"
#include "thread.h"
#include "toolcall.h"
#include <jansson.h>
#include <stdatomic.h>

enum {
    API__ANSWER_MAX = 64 << 20, /* bytes of an answer that is not streamed */
    API__CHOICES_MAX = 128,     /* prompts times n */
    API__DEPTH_MAX = 64,        /* of JSON in a request */
    API__MESSAGES_MAX = 10000,
    API__TOOLS_MAX = 128,
    API__TEXTS_MAX = 2048
};

struct api__model {
    const struct api_model *own;
    const char *name;
    int id;
    struct engine_info info; /* foreseen: worker_peek */
    char *template;          /* "": none */
    int64_t created_s;
    atomic_bool removed; /* neither listed nor found */
    /* Of a model that is loaded, for calls that have it: */
    struct worker *worker;
    struct chat *chat;             /* NULL: an encoder */
    struct grammar_tokens *tokens; /* NULL until a grammar wants them; under the lock */
};

/* Times a server reports in steps: the sums and counts of Prometheus' histograms. */
enum { API__BUCKETS = 16 };
struct api__histogram {
    int64_t count[API__BUCKETS + 1];
    double sum;
};

struct api__grammar;

struct api__metrics {
    int64_t finished[8];  /* by enum answer_end; the last: failed */
    int64_t answers[600]; /* by status; 0: none was sent */
    struct api__histogram ttft, gap, e2e, queue;
};

struct api {
    struct api__model *models; /* [room] */
    atomic_int n_models;       /* grows: what stands before it is ready */
    int room;
    struct models *loaded;     /* by api__model.id */
    struct worker_opts worker; /* of each */
    bool serving;              /* it was opened */
    struct keys *keys;
    char *host; /* the only one asked for, beside this machine's own names; NULL: any */
    FILE *log;
    struct replies *replies;
    atomic_bool draining;
    struct thread_monitor lock;
    struct api__metrics metrics; /* under the lock, like the next */
    struct api__grammar *grammars;
};

struct api__call;

/* In lower-case hex; without a parent the trace begins here. */
struct api__trace {
    char id[33], span[17], parent[17];
};

struct api__choice {
    struct api__call *call;
    int index;
    const struct tok_ids *prompt;
    struct buf text;  /* what was said */
    struct buf probs; /* formatted log-probabilities of what was not yet given out */
    int n_probs;
    size_t said;    /* bytes, where the next token's text begins */
    struct buf ids; /* int32_t: the tokens, for forms that want them, an end token among them */
    bool opened, done;
    struct toolcall calls; /* held back, and found at the end */
    struct buf plain;      /* of a piece, what is no call */
    enum answer_end end;
    int stop; /* with ANSWER_STOP: which of the call's */
    int64_t last_ns;
    struct worker_usage usage;
};

/* Fields that every API has under a name of its own; NULL: it has none. */
struct api__names {
    const char *max_tokens, *max_tokens_too, *stop, *n;
    const char *prompt; /* where errors of what is asked point */
};

/* The form of an API: how its answers and its errors look. All append to `out`; piece, closed, finish and
 * broken make whole events of a stream. */
struct api__form {
    const struct api__names *names; /* NULL: those of chat completions */
    /* NULL: OpenAI's (api__put_error) */
    void (*error)(struct buf *out, int status, const char *message);
    const char *stream_type; /* NULL: text/event-stream */
    bool gathers;            /* the end of a stream tells its text again */
    bool ids;                /* the end tells the tokens: choices keep them */
    void (*open)(struct api__choice *c, struct buf *out); /* before its first piece, or NULL */
    void (*piece)(struct api__choice *c, const struct answer_next *next, struct buf *out);
    void (*closed)(struct api__choice *c, struct buf *out); /* after its last */
    void (*finish)(struct api__call *c, struct buf *out);   /* the end of the stream, or NULL */
    /* The same after a failure (c->error); NULL: a line of data with an error. */
    void (*broken)(struct api__call *c, struct buf *out);
    void (*probs)(struct api__choice *c, const struct answer_next *next); /* into c->probs */
    void (*whole)(struct api__call *c, struct buf *out); /* an answer that is no stream */
};

struct api__call {
    struct api *a;
    struct http_request *r;
    atomic_int refs;
    char request_id[32], id[48]; /* of the request; of its answer */
    int64_t created_s;
    const struct keys_entry *key;
    char allow[40]; /* the methods of a path that was asked with another */
    struct api__model *model;
    /* Of a call that waits for its model (model.c): */
    void (*run)(struct api__call *c); /* its route */
    struct models_wait wait;
    bool has_model; /* and gives it back at its end */
    atomic_bool aside, gone, drained;
    int64_t asked_ns, load_ns;
    bool keeps; /* the request says how long the model stays after it: */
    int64_t keep_ns;
    struct api__grammar *grammar; /* of its answers, or NULL */
    json_t *body;
    json_t *fields; /* where api__int and the like look: the body, or an object in it */
    /* For the log, which is written when all is known: */
    struct api__trace trace;
    char method[16], path[128], peer[64];
    int status;
    int64_t sent_bytes, total_ns;
    bool cut;
    /* Of an answer: */
    const struct api__form *form;
    bool stream, include_usage, begun, echo;
    json_t *tools; /* those that may be called, of chat completions' form, or NULL; borrowed */
    struct answer_opts answer; /* as asked for; sample.bias and stops are the call's */
    struct sample_bias *bias;
    const char **stops;
    int n_prompts, n_each;
    struct tok_ids *prompts; /* [n_prompts] */
    struct api__choice *choices;
    struct worker_job **jobs; /* [n_choices] */
    int n_choices, left;
    bool failed;
    struct err error; /* of the choice that failed first */
    struct buf out;
    /* Of embeddings, which have one choice for their usage: */
    struct embed_text *texts;
    float *vectors; /* [n_prompts][d_model] */
    bool base64, truncate;
    int64_t dimensions; /* 0: all */
    /* Of responses: */
    bool keep;
    int events;              /* of the stream, so far */
    bool item;               /* the stream's text has begun; of messages too */
    struct buf repeated;     /* what an answer repeats of its request: ,"name":value ... */
    struct buf conversation; /* to go on from: a JSON array of messages, not closed yet */
};

void api__call_free(struct api__call *c); /* lets go once */
void api__log(const struct api__call *c);
/* header: traceparent, as it came, or NULL */
void api__trace_take(struct api__trace *t, const char *header);
void api__random_hex(char *out, size_t digits); /* up to 32 */

/* ---- answers ---- */

/* {"error":{...}}, or as the call's form has it; param and code may be NULL. */
void api__fail(struct api__call *c, int status, const char *type, const char *param,
               const char *code, const char *message);
/* By e->code; `param`: the field at fault, or NULL. */
void api__fail_err(struct api__call *c, const struct err *e, const char *param);
void api__put_error(struct buf *b, int status, const char *type, const char *param,
                    const char *code, const char *message);
int api__status(const struct err *e);
void api__reply(struct api__call *c, int status, const struct buf *b);
const char *api__reason(const struct api__choice *ch); /* OpenAI's finish_reason */
uint64_t api__tenant(const struct api__call *c);
const struct api__names *api__names(const struct api__call *c);
/* "usage":{...} of all choices */
void api__put_usage(struct api__call *c, struct buf *out);

/* ---- requests: each returns false after it has answered with an error ---- */

bool api__body(struct api__call *c); /* an object, into c->body and c->fields */
/* Its model, loaded. After false the call must be left alone: it may go on elsewhere already, and the
 * route runs once more, so what was done before must bear repeating. */
bool api__model_of(struct api__call *c);
bool api__model_named(struct api__call *c); /* loaded or not: c->model */
void api__model_give(struct api__call *c);
void api__jobs(struct api__call *c, void (*fn)(struct worker_job *job)); /* with each that it has */
/* By its name or an alias, to which ":latest" may be added as in Ollama's; or NULL. */
struct api__model *api__model_find(const struct api *a, const char *name);
/* 400, false: the text says why, or that the field `param` is as `what` says. */
bool api__refuse(struct api__call *c, const char *param, const char *text);
bool api__bad(struct api__call *c, const char *param, const char *what);
/* Fields: absent and null leave *out as it is. */
json_t *api__field(struct api__call *c, const char *name); /* NULL: absent or null */
/* Of each field, if it is there: its kind; JSON_TRUE stands for both truths. A NULL name ends. */
struct api__kind {
    const char *name;
    json_type type;
};
bool api__kinds(struct api__call *c, const struct api__kind *table);
bool api__int(struct api__call *c, const char *name, int64_t min, int64_t max, int64_t *out);
/* A token's id below `end`. */
bool api__token(const json_t *j, int64_t end, int32_t *out);
bool api__bool(struct api__call *c, const char *name, bool *out);
/* Sampling, lengths, stops, biases, n, stream: what all completions share. */
bool api__sampling(struct api__call *c);
/* What answers must look like: response_format, grammar, regex. After api__sampling. */
bool api__format(struct api__call *c);
/* kind: 's' a JSON schema, 'j' any JSON object, 'g' GBNF, 'r' a regular expression; param: the field. */
bool api__constrain(struct api__call *c, char kind, const char *source, size_t n,
                    const char *param);
void api__grammar_give(struct api *a, struct api__grammar *g);
void api__grammars_free(struct api *a);
/* Tools and tool_choice, both in the form of chat completions or NULL, into c->tools; a choice that
 * leaves no choice constrains the answer. After api__format. */
bool api__tools(struct api__call *c, json_t *tools, json_t *choice);
/* Messages for api__prompt, appended one by one. content is taken over; a call becomes part of the
 * assistant's message before it. False: no memory, or content is NULL. */
bool api__say(json_t *messages, const char *role, json_t *content);
bool api__say_call(json_t *messages, const char *id, const char *name, json_t *arguments);
bool api__say_result(json_t *messages, const char *id, json_t *content);
/* A tool for api__prompt; description and parameters may be NULL. */
bool api__add_tool(json_t *tools, json_t *name, json_t *description, json_t *parameters);
/* The text of a content: a string, or parts that hold texts. NULL: neither. A new reference. */
json_t *api__text(json_t *content);
/* messages in the form of chat completions (changed on the way), tools or NULL -> c->prompts[0], by the
 * model's template. */
bool api__prompt(struct api__call *c, json_t *messages, json_t *tools);
bool api__template_knows_tools(const struct api__model *m);
/* Is there a tool of this name? arg: the call. */
bool api__tool_known(void *arg, const char *name);
/* A job has ended, for the metrics. */
void api__count(struct api__call *c, const struct api__choice *ch, bool failed);
/* Gives the prompts to the worker, n_each answers of each. */
void api__start(struct api__call *c);
/* Token ids of a JSON array, appended; false, without an answer, where they are none of the model's. */
bool api__ids(struct api__call *c, json_t *array, struct tok_ids *out);
/* The field "input" to vectors, answered by c->form->whole. What is too long is cut with c->truncate,
 * else refused. */
void api__vectors(struct api__call *c);
/* A token's log-probability and those beside it, as a row of JSON, into ch->probs. */
void api__token_probs(struct api__choice *ch, const struct answer_next *next);

/* The page: src/web, put here by the build (tools/embed_page). */
struct api__file {
    const char *path, *type;
    const unsigned char *bytes;
    size_t n;
};
extern const struct api__file api__files[]; /* a NULL path ends */
/* What all routes take and answer: openapi.json of this folder, put here by the build. */
extern const unsigned char api__openapi_json[];
extern const size_t api__openapi_json_bytes;

void api__observe(struct api__histogram *h, double seconds);
void api__put_metrics(struct api *a, const struct http *h, struct buf *b);

int api__models_open(struct api *a, const struct api_opts *o, struct err *e);
void api__models_close(struct api *a);

/* ---- routes ---- */

void api__chat(struct api__call *c);
void api__completions(struct api__call *c);
void api__embeddings(struct api__call *c);
void api__responses(struct api__call *c);
void api__response_get(struct api__call *c);
void api__response_delete(struct api__call *c);
void api__messages(struct api__call *c);
void api__count_tokens(struct api__call *c);
extern const struct api__form api__messages_form;
void api__tokenize(struct api__call *c);
void api__detokenize(struct api__call *c);

/* Ollama's: ollama.c, ollama_models.c */
void api__ollama_chat(struct api__call *c);
void api__ollama_generate(struct api__call *c);
void api__ollama_embed(struct api__call *c);
void api__ollama_embeddings(struct api__call *c);
void api__ollama_tags(struct api__call *c);
void api__ollama_ps(struct api__call *c);
void api__ollama_show(struct api__call *c);
void api__ollama_version(struct api__call *c);
void api__ollama_pull(struct api__call *c);
void api__ollama_refuse(struct api__call *c);
extern const struct api__form api__ollama_form; /* of errors */
/* RFC 3339 */
void api__put_time(struct buf *b, int64_t s, long ns);

#endif
