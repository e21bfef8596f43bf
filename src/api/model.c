/* The models that requests may name, and how a request gets one: at once where it is loaded, else it is
 * set aside, and its route runs again from the start, on the models' thread, when the model is there.
 * Invariant: between the two nobody but api_gone and api_drained touches the call. */
#include "api_int.h"

#include "clock.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* ---- open, load, unload, close ---- */

static struct worker_opts worker_opts(const struct api *a, const struct api__model *m)
{
    struct worker_opts o = a->worker;
    if (m->own->ctx) o.engine.ctx = m->own->ctx;
    if (m->own->kv_bytes) o.kv_bytes = m->own->kv_bytes;
    return o;
}

static void unload(void *api, int id)
{
    struct api *a = api;
    struct api__model *m = &a->models[id];
    worker_close(m->worker);
    grammar_tokens_close(m->tokens);
    chat_close(m->chat);
    m->worker = NULL;
    m->tokens = NULL;
    m->chat = NULL;
}

static int load(void *api, int id, size_t *bytes, struct err *e)
{
    struct api *a = api;
    struct api__model *m = &a->models[id];
    struct worker_opts o = worker_opts(a, m);
    int rc = worker_open(&m->worker, m->own->path, &o, e);
    if (!rc && !worker_info(m->worker)->encoder)
        rc = chat_open(&m->chat, worker_tok(m->worker), NULL, 0, e);
    if (!rc) {
        *bytes = engine_bytes(worker_info(m->worker));
        return 0;
    }
    unload(a, id);
    if (!a->serving) return rc;
    /* The details name files: they are the operator's. To the client it is a 503. */
    fprintf(stderr, "solvent: the model %s could not be loaded: %s\n", m->name, e->msg);
    return err_set(e, ERR_CANCELLED, "the model %s could not be loaded: the server's log says why",
                   m->name);
}

/* Sets the next model; 1: it is optional and left out. The caller counts it. */
static int set_model(struct api *a, const struct api_model *own, struct err *e)
{
    struct api__model *m = &a->models[a->n_models];
    *m = (struct api__model){.own = own, .name = own->name, .id = a->n_models};
    struct worker_opts o = worker_opts(a, m);
    struct stat st;
    struct gguf *g;
    struct gguf_str template = {0};
    int rc = worker_peek(own->path, &o, &m->info, e);
    if (!rc) rc = gguf_open(&g, own->path, e);
    if (rc && own->optional) {
        fprintf(stderr, "solvent: %s is left out: %s\n", own->name, e->msg);
        return 1;
    }
    if (rc) return rc;
    gguf_string(g, "tokenizer.chat_template", &template);
    m->template = strndup(template.p ? template.p : "", template.n);
    gguf_close(g);
    if (!m->template) return err_nomem(e, template.n, "a template");
    m->created_s = stat(own->path, &st) ? time(NULL) : st.st_mtime;
    return 0;
}

static struct models_item item_of(const struct api__model *m)
{
    return (struct models_item){.name = m->name,
                                .bytes = engine_bytes(&m->info),
                                .keep_ns = m->own->keep_ns,
                                .preload = m->own->preload,
                                .stays = m->own->stays};
}

bool api_add(struct api *a, const struct api_model *own)
{
    struct err e;
    struct models_item item;
    if (a->n_models == a->room) return false;
    int rc = set_model(a, own, &e);
    struct api__model *m = &a->models[a->n_models];
    if (!rc) {
        item = item_of(m);
        rc = models_add(a->loaded, &item, &e);
    }
    if (!rc) {
        atomic_fetch_add(&a->n_models, 1);
        return true;
    }
    if (rc < 0) {
        free(m->template);
        m->template = NULL;
        fprintf(stderr, "solvent: %s is left out: %s\n", own->name, e.msg);
    }
    return false;
}

void api_remove(struct api *a, const struct api_model *own)
{
    for (int i = 0; i < a->n_models; i++) {
        struct api__model *m = &a->models[i];
        if (m->own == own && !atomic_exchange(&m->removed, true)) models_keep(a->loaded, i, 0);
    }
}

int api__models_open(struct api *a, const struct api_opts *o, struct err *e)
{
    int rc = 0;
    a->worker = o->worker;
    a->room = o->n_models + o->room;
    a->models = calloc((size_t)a->room + 1, sizeof *a->models);
    struct models_item *items = calloc((size_t)o->n_models + 1, sizeof *items);
    if (!a->models || !items)
        rc = err_nomem(e, (size_t)o->n_models * sizeof *a->models, "the models");
    for (int i = 0; i < o->n_models && rc >= 0; i++) {
        rc = set_model(a, &o->models[i], e);
        if (!rc) items[a->n_models] = item_of(&a->models[a->n_models]);
        if (!rc) atomic_fetch_add(&a->n_models, 1);
    }
    if (rc > 0) rc = 0;
    if (!rc && o->n_models && !a->n_models)
        rc = err_set(e, ERR_FORMAT, "none of the models can be read");
    struct models_opts opts = {.items = items,
                               .n = a->n_models,
                               .room = a->room - a->n_models,
                               .budget_bytes = o->budget_bytes,
                               .waiting = o->worker.jobs,
                               .load = load,
                               .unload = unload,
                               .arg = a};
    if (!rc) rc = models_open(&a->loaded, &opts, e);
    free(items);
    a->serving = true;
    a->worker.engine.progress = NULL; /* a bar is for the start */
    return rc;
}

const char *api_model_name(const struct api *a)
{
    return a->n_models ? a->models[0].name : "";
}

void api__models_close(struct api *a)
{
    models_close(a->loaded);
    for (int i = 0; a->models && i < a->room; i++) free(a->models[i].template);
    free(a->models);
}

/* ---- a request's model ---- */

/* Length without Ollama's tag, which all have. */
static size_t bare(const char *name)
{
    static const char tag[] = ":latest";
    size_t n = strlen(name), k = sizeof tag - 1;
    return n > k && strcmp(name + n - k, tag) == 0 ? n - k : n;
}

static bool is_same(const char *a, const char *b)
{
    size_t n = bare(a);
    return n == bare(b) && memcmp(a, b, n) == 0;
}

bool api_model_is_called(const struct api_model *m, const char *name)
{
    bool found = is_same(m->name, name);
    for (int i = 0; i < m->n_aliases && !found; i++) found = is_same(m->aliases[i], name);
    return found;
}

struct api__model *api__model_find(const struct api *a, const char *name)
{
    for (int i = 0; i < a->n_models; i++)
        if (!a->models[i].removed && api_model_is_called(a->models[i].own, name))
            return &a->models[i];
    return NULL;
}

bool api__model_named(struct api__call *c)
{
    json_t *j = api__field(c, "model");
    char text[300];
    if (!json_is_string(j)) return api__bad(c, "model", "must name a model: see /v1/models");
    c->model = api__model_find(c->a, json_string_value(j));
    if (c->model) return true;
    snprintf(text, sizeof text, "The model '%.100s' was not found here: see /v1/models",
             json_string_value(j));
    api__fail(c, 404, "invalid_request_error", "model", "model_not_found", text);
    return false;
}

void api__jobs(struct api__call *c, void (*fn)(struct worker_job *job))
{
    for (int i = 0; c->jobs && i < c->n_choices; i++)
        if (c->jobs[i]) fn(c->jobs[i]);
}

static void take(struct api__call *c)
{
    c->has_model = true;
    if (c->keeps) models_keep(c->a->loaded, c->model->id, c->keep_ns);
}

static void on_ready(struct models_wait *w, const struct err *e)
{
    struct api__call *c =
        (struct api__call *)(void *)((char *)w - offsetof(struct api__call, wait));
    if (e) {
        api__fail_err(c, e, "model");
    } else {
        take(c);
        c->load_ns = clock_ns() - c->asked_ns;
        if (atomic_load(&c->gone))
            api__fail(c, 503, "server_error", NULL, NULL, "the client is gone");
        else
            c->run(c);
    }
    /* From here on api_gone and api_drained reach the jobs themselves. */
    atomic_store(&c->aside, false);
    if (atomic_load(&c->gone)) api__jobs(c, worker_cancel);
    if (atomic_load(&c->drained)) api__jobs(c, worker_resume);
    api__call_free(c);
}

bool api__model_of(struct api__call *c)
{
    struct err e;
    bool now;
    if (c->has_model) return true;
    if (!api__model_named(c)) return false;
    c->wait.ready = on_ready;
    c->asked_ns = clock_ns();
    atomic_store(&c->aside, true);
    atomic_fetch_add(&c->refs, 1); /* of the wait */
    int rc = models_take(c->a->loaded, c->model->id, &c->wait, &now, &e);
    if (!rc && !now) return false; /* the call is the models' thread's now */
    atomic_fetch_sub(&c->refs, 1);
    atomic_store(&c->aside, false);
    if (rc)
        api__fail_err(c, &e, "model");
    else
        take(c);
    return !rc;
}

void api__model_give(struct api__call *c)
{
    if (c->has_model) models_give(c->a->loaded, c->model->id);
}

void api_gone(void *api, struct http_request *r)
{
    struct api__call *c = http_user(r);
    struct api *a = api;
    if (!c) return;
    atomic_store(&c->gone, true);
    if (!atomic_load(&c->aside)) {
        api__jobs(c, worker_cancel);
    } else if (models_forget(a->loaded, &c->wait)) {
        api__fail(c, 503, "server_error", NULL, NULL, "the client is gone");
        api__call_free(c);
    }
}

void api_drained(void *api, struct http_request *r)
{
    struct api__call *c = http_user(r);
    (void)api;
    if (!c) return;
    atomic_store(&c->drained, true);
    if (!atomic_load(&c->aside)) api__jobs(c, worker_resume);
}
