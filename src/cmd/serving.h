/* Which models `solvent serve` serves: those named by -m, which are loaded at the start and stay; those
 * of a file (model_ini.h); where neither is named, all that were pulled, and those that are pulled
 * meanwhile, loaded when they are asked for, and not those that are removed.
 */
#ifndef SERVING_H
#define SERVING_H

#include "api.h"
#include "cmd.h"
#include "err.h"
#include "model_ini.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { SERVING_MAX = 1024 };

struct serving {
    struct arena mem; /* of names and paths */
    struct model_ini ini;
    struct api_model list[SERVING_MAX];
    int n, preloaded;
    /* Of pulled models, whose places in the list are never used again: */
    struct serving_file {
        bool gone; /* its file was removed, or is another one */
        ino_t id;
        struct timespec changed;
    } files[SERVING_MAX];
    bool pulled;
    int64_t keep_ns;
    struct timespec changed; /* their folder, when it was read */
};

/* keep_ns: of models loaded when asked for, where the file says nothing. *s has to be freed, after an
 * error too. */
ERR_DOOR int serving_find(struct serving *s, const struct cmd_list *named, const char *file,
                          int64_t keep_ns, struct err *e);
/* Adds pulled models that came since, and removes those that went. Looks only at a folder that changed. */
void serving_look(struct serving *s, struct api *a);
void serving_free(struct serving *s);

#endif
