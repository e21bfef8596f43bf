/* `solvent rm`: removes a model, or what an interrupted pull left of it. */
#include "catalogue.h"
#include "cmd.h"
#include "packfile.h"
#include "progress.h"
#include "store.h"

#include <stdio.h>

static int remove_one(const char *arg, struct err *e)
{
    struct catalogue c;
    struct store s;
    int64_t freed;
    char a[16];
    if (store_open(&s, false, e) || catalogue_open(&c, e)) return e->code;
    const struct catalogue_model *m = catalogue_find(&c, arg);
    const char *name = m ? m->name : arg;
    int rc = source_name_ok(name) ? store_remove(&s, name, &freed, e)
                                  : err_set(e, ERR_USAGE, "'%.100s' is no name of a model", name);
    if (!rc && cmd_packs()) packfile_sweep(cmd_packs());
    if (!rc) printf("removed %s: %s freed\n", name, progress_bytes(freed, a));
    catalogue_free(&c);
    return rc;
}

int cmd_rm(int argc, char **argv)
{
    struct err e;
    const struct cmd_usage usage = {
        "solvent rm MODEL...",
        "Removes pulled models, and what interrupted pulls left of them.",
    };
    const struct cmd_opt opts[] = {{0}};
    int n = cmd_parse(argc, argv, &usage, opts, &e), worst = 0;
    if (n == CMD_HELP) return 0;
    if (n == 0) n = err_set(&e, ERR_USAGE, "rm wants a model (see --help)");
    if (n < 0) return cmd_fail(&e);
    for (int i = 1; i <= n; i++)
        if (remove_one(argv[i], &e)) {
            int rc = cmd_fail(&e);
            if (rc > worst) worst = rc;
        }
    return worst;
}
