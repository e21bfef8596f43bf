/* The file of models that `solvent serve --models` reads: a section a model.
 *
 *     [chat]                     name by which requests ask for it
 *     model = qwen               a pulled model or a file; or `path`
 *     alias = gpt-4o, small
 *     preload = yes              loaded at the start; stays, unless there is a keep_alive
 *     keep_alive = 10m           how long it stays after its last use; -1: until its room is wanted
 *     ctx = 4096                 tokens of a conversation
 *     kv = 512MiB                of keys and values
 *     max_tokens = 500           this and below: of requests that do not say
 *     system = You are brief.
 *       Lines that begin with a blank go on with the line before.
 *     temperature = 0.2          and all sampling numbers of requests, by their names there
 *
 * Comments begin with ; or #, also behind a value with " ;". Lines have at most 198 bytes. Errors:
 * ERR_FORMAT, "FILE:LINE: KEY: ..." in one line.
 */
#ifndef MODEL_INI_H
#define MODEL_INI_H

#include "api.h"
#include "arena.h"
#include "err.h"
#include <stddef.h>

enum {
    MODEL_INI_BYTES = 1 << 20, /* of a file */
    MODEL_INI_MODELS = 256,
    MODEL_INI_ALIASES = 16,      /* of a model */
    MODEL_INI_NAME = 48,         /* bytes of a name */
    MODEL_INI_SYSTEM = 64 * 1024 /* bytes of a system message */
};

struct model_ini_item {
    struct api_model model; /* its path is not set */
    const char *source;     /* what the file says of `model` */
    bool keeps;             /* the file says keep_alive */
    int line;               /* of its first key */
};

struct model_ini {
    struct arena mem; /* of all strings */
    struct model_ini_item items[MODEL_INI_MODELS];
    int n;
};

/* file: for errors. *out has to be freed, after an error too. */
ERR_DOOR int model_ini_parse(struct model_ini *out, const char *text, size_t n, const char *file,
                             struct err *e);
ERR_DOOR int model_ini_read(struct model_ini *out, const char *path, struct err *e);
void model_ini_free(struct model_ini *ini);

#endif
