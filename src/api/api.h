/* The routes: requests of the OpenAI API (and what clients use beside it) become jobs of workers, their
 * events become answers.
 *
 *     struct api *a;
 *     if (api_open(&a, &opts, &e)) ...
 *     http opts: .handle = api_handle, .gone = api_gone, .drained = api_drained, .logged = api_logged,
 *                .refusal = api_refusal, .arg = a
 *     api_drain(a);     no new requests but /health, which says 503; those under way go on
 *     api_close(a);     after http_close
 *
 * Everything but /health and the page's files wants a key (keys.h). Errors have OpenAI's shape, under
 * /v1/messages Anthropic's, under /api/ Ollama's; their status comes from err.code in one table (api.c).
 */
#ifndef API_H
#define API_H

#include "err.h"
#include "http.h"
#include "worker.h"
#include <stdbool.h>
#include <stdio.h>

struct api;

struct api_model {
    const char *name;           /* by which requests ask for it, */
    const char *const *aliases; /* [n_aliases] or by one of these */
    int n_aliases;
    const char *path;
    bool preload;    /* loaded at open, else when it is first asked for */
    bool optional;   /* a file that is no model is left out, with a line on standard error */
    bool stays;      /* once loaded */
    int64_t keep_ns; /* else: that it stays unused; negative: until its room is wanted */
    int ctx;         /* 0 here and below: as in api_opts.worker */
    size_t kv_bytes;
    /* Of requests that do not say: */
    struct sample_params sample; /* SAMPLE_DEFAULTS, api_model_set */
    int max_tokens;              /* 0: no bound */
    const char *system;          /* message before those of a conversation that begins with none */
};
/* A number of a request ("temperature", "top_p" ...) for requests that do not say; the same range.
 * ERR_NOT_FOUND: requests have no such field. */
ERR_DOOR int api_model_set(struct api_model *m, const char *field, double value, struct err *e);
/* By its name or an alias, each with or without ":latest". */
bool api_model_is_called(const struct api_model *m, const char *name);

struct api_opts {
    const struct api_model
        *models;               /* [n_models], with all they point at the caller's until api_close */
    int n_models, room;        /* room: for more, by api_add */
    size_t budget_bytes;       /* of the models that are loaded; 0: no bound */
    struct worker_opts worker; /* of each */
    const char *keys;          /* file; NULL: none is wanted */
    const char
        *host; /* listened on: without keys, requests for other hosts are refused (DNS rebinding) */
    FILE *log; /* access log, a line of JSON a request, or NULL */
};

ERR_DOOR int api_open(struct api **out, const struct api_opts *o, struct err *e);
/* One more model to serve, which is not loaded now; one thread at a time. False: it cannot be, and a line on
 * standard error says why. */
bool api_add(struct api *a, const struct api_model *m);
/* No request gets it any more; those that have it go on, then it is unloaded. m is that of api_add or api_open;
 * one that was removed before, or never added, is left alone. */
void api_remove(struct api *a, const struct api_model *m);
/* Of the first model that is there. */
const char *api_model_name(const struct api *a);
void api_drain(struct api *a);
void api_close(struct api *a);

void api_handle(void *api, struct http_request *r);
void api_gone(void *api, struct http_request *r);
void api_drained(void *api, struct http_request *r);
void api_logged(void *api, const struct http_request *r, int status, int64_t bytes, int64_t ns,
                bool cut);
void api_refusal(void *api, const struct http_request *r, int status, struct buf *body,
                 const char **type);

#endif
