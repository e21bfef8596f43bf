/* Getting one model into the store: download, join, verify, publish.
 *
 *     struct pull p;
 *     if (pull_resolve(&p, &catalogue, "hf:owner/repo/file.gguf", NULL, &e)) ...
 *     p.sha256 = ...; p.index = ...;
 *     if (pull_model(&store, &p, &e)) ...
 *
 * Whatever cuts a pull off (a kill, a full disk, the network), the next one goes on from there, and
 * nothing appears under the model's name before its digest was checked. Prints its steps and a bar
 * on stderr. One thread; other processes may pull at the same time.
 */
#ifndef PULL_H
#define PULL_H

#include "catalogue.h"
#include "err.h"
#include "source.h"
#include "store.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pull {
    char name[SOURCE_NAME_MAX + 1];
    const char *sha256;  /* NULL: not known */
    const char *licence; /* NULL: not known */
    int64_t bytes;       /* -1: not known */
    const struct source *parts;
    size_t n_parts;
    const char *index; /* of Python packages; NULL: see pypi_index */
    int retries;       /* of what may pass by itself */
    bool quiet;        /* no word when the model is here already */
    struct source_spec spec;
};

/* What `arg`, a catalogue name or a source, stands for. `name` renames a source's model; NULL: the
 * name follows from the source. Borrows from c, arg and name. */
ERR_DOOR int pull_resolve(struct pull *p, const struct catalogue *c, const char *arg,
                          const char *name, struct err *e);
ERR_DOOR int pull_model(const struct store *s, const struct pull *p, struct err *e);

#endif
