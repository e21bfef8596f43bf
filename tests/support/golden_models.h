/* What the golden checks of tests/check share: counting, and every model of a folder at every CPU
 * level of this machine, in float32 first. Included by the one C file of a program.
 */
#ifndef GOLDEN_MODELS_H
#define GOLDEN_MODELS_H

#include "err.h"
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int golden_passed, golden_failed;

static inline void golden_result(bool ok, const char *what, double value, double bound)
{
    ok ? golden_passed++ : golden_failed++;
    if (!ok) printf("\n  FAIL %s: %.3g is above %.3g\n", what, value, bound);
}

static inline void golden_must(int rc, const struct err *e)
{
    if (!rc) return;
    printf("FAIL %s\n", e->msg);
    exit(1);
}

static inline int golden_is_model(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 5 && !strcmp(d->d_name + n - 5, ".gguf");
}

struct golden_check {
    void *golden;
    void (*load)(const char *path, void *golden);
    /* False where this machine lacks the level. */
    bool (*check)(const char *path, void *golden, const char *level, bool exact);
    void (*free)(void *golden);
};

/* The exit status of the program. */
static inline int golden_models(const char *folder, const struct golden_check *c)
{
    static const char *const levels[] = {"ref", "avx2", "avx512"};
    struct dirent **models;
    int n = scandir(folder, &models, golden_is_model, alphasort);
    if (n <= 0) {
        printf("FAIL no models in %s\n", folder);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, models[i]->d_name);
        c->load(path, c->golden);
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++)
            if (c->check(path, c->golden, levels[l], true))
                c->check(path, c->golden, levels[l], false);
        c->free(c->golden);
        free(models[i]);
    }
    free(models);
    printf("%d passed, %d failed\n", golden_passed, golden_failed);
    return golden_failed ? 1 : 0;
}

#endif
