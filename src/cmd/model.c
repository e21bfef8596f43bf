/* What MODEL means on a command line: a pulled model by its name, or a file. A name wins over a
 * file of the working folder, which `./` in front of it gets at. */
#include "buf.h"
#include "catalogue.h"
#include "cmd.h"
#include "packfile.h"
#include "store.h"
#include "userdir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAMES_SHOWN = 200 };

static int give(const char *from, char *path, unsigned room, struct err *e)
{
    int n = snprintf(path, room, "%s", from);
    return n >= 0 && (unsigned)n < room
               ? 0
               : err_set(e, ERR_LIMIT, "path of %zu bytes, longer than %u", strlen(from), room - 1);
}

static int give_file(const char *from, char *path, unsigned room, struct err *e)
{
    if (access(from, R_OK))
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot read %s: %s", from,
                       strerror(errno));
    return give(from, path, room, e);
}

/* "no model X here; here are: a, b" */
static int unknown(const struct store *s, const char *model, struct err *e)
{
    struct store_item *items = NULL;
    struct buf names = BUF_INIT(NAMES_SHOWN);
    size_t n = 0;
    struct err ignored;
    if (store_list(s, &items, &n, &ignored)) n = 0;
    for (size_t i = 0; i < n; i++)
        if (!items[i].partial) buf_printf(&names, "%s%s", names.len ? ", " : "", items[i].name);
    err_set(e, ERR_NOT_FOUND, "no model '%.100s' here (here: %s; see `solvent list`)", model,
            names.data ? names.data : "none");
    buf_free(&names);
    free(items);
    return e->code;
}

int cmd_model_path(const char *model, char *path, unsigned room, struct err *e)
{
    size_t n = strlen(model);
    if (strchr(model, '/') || (n >= 5 && strcmp(model + n - 5, ".gguf") == 0))
        return give_file(model, path, room, e);
    struct store s;
    struct catalogue c;
    char stored[STORE_PATH_MAX];
    if (store_open(&s, false, e) || catalogue_open(&c, e)) return e->code;
    const struct catalogue_model *m = catalogue_find(&c, model);
    const char *name = m ? m->name : model;
    int rc;
    if (source_name_ok(name) && store_has(&s, name, NULL)) {
        store_path(&s, name, ".gguf", stored);
        rc = give(stored, path, room, e);
    } else if (access(model, F_OK) == 0) {
        rc = give_file(model, path, room, e);
    } else if (m) {
        rc = err_set(e, ERR_NOT_FOUND, "%s is not here yet: `solvent pull %s` gets it", m->name,
                     model);
    } else {
        rc = unknown(&s, model, e);
    }
    catalogue_free(&c);
    return rc;
}

const char *cmd_packs(void)
{
    static char dir[PACKFILE_DIR_MAX];
    const char *given = getenv("SOLVENT_PACKS");
    if (given) return *given ? given : NULL;
    return userdir_find(dir, sizeof dir, USERDIR_CACHE, "packs") ? dir : NULL;
}
