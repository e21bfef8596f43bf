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
    const char *name; /* by which requests ask for it */
    const char *path;
};

struct api_opts {
    const struct api_model *models; /* [n_models], loaded at open, in order */
    int n_models;
    struct worker_opts worker; /* of each */
    const char *keys;          /* file; NULL: none is wanted */
    const char
        *host; /* listened on: without keys, requests for other hosts are refused (DNS rebinding) */
    FILE *log; /* access log, a line of JSON a request, or NULL */
};

ERR_DOOR int api_open(struct api **out, const struct api_opts *o, struct err *e);
void api_drain(struct api *a);
void api_close(struct api *a);

void api_handle(void *api, struct http_request *r);
void api_gone(void *api, struct http_request *r);
void api_drained(void *api, struct http_request *r);
void api_logged(void *api, const struct http_request *r, int status, int64_t bytes, int64_t ns,
                bool cut);
const char *api_refusal(void *api, int status, const char **type);

#endif
