/* `solvent keys`: who may ask a server. */
#include "keys.h"
#include "cmd.h"

#include <stdio.h>
#include <string.h>

enum { PATH_ROOM = 4096 };

static int list(const char *path, struct err *e)
{
    struct keys *k;
    int rc = keys_open(&k, path, e);
    if (rc) return rc;
    for (int i = 0; i < keys_count(k); i++)
        printf("%-32s %s\n", keys_at(k, i)->name, keys_at(k, i)->admin ? "admin" : "user");
    keys_close(k);
    return 0;
}

static int add(const char *path, const char *name, bool admin, struct err *e)
{
    char key[KEYS_TEXT];
    int rc = keys_add(path, name, admin, key, e);
    if (!rc) printf("%s\n", key);
    if (!rc)
        fprintf(stderr, "solvent: this key is shown this once; servers read it when they start\n");
    return rc;
}

int cmd_keys(int argc, char **argv)
{
    const char *file = NULL;
    char path[PATH_ROOM];
    bool admin = false;
    struct err e;
    const struct cmd_usage usage = {
        "solvent keys add NAME | rm NAME | list",
        "Makes, removes and lists the keys that `solvent serve` takes. Of a key only its hash is "
        "kept.",
    };
    const struct cmd_opt opts[] = {
        {"--keys", CMD_STRING, &file, "FILE", "the file (~/.config/solvent/keys)", 0, 0},
        {"--admin", CMD_FLAG, &admin, NULL, "of add: an administrator's key", 0, 0},
        {0},
    };
    int n = cmd_parse(argc, argv, &usage, opts, &e);
    if (n == CMD_HELP) return 0;
    const char *what = n > 0 ? argv[1] : "", *name = n > 1 ? argv[2] : NULL;
    if (n >= 0) n = cmd_keys_path(file, path, PATH_ROOM, &e) ? e.code : n;
    if (n == 1 && strcmp(what, "list") == 0)
        n = list(path, &e);
    else if (n == 2 && strcmp(what, "add") == 0)
        n = add(path, name, admin, &e);
    else if (n == 2 && strcmp(what, "rm") == 0)
        n = keys_remove(path, name, &e);
    else if (n >= 0)
        n = err_set(&e, ERR_USAGE, "keys wants add NAME, rm NAME or list (see --help)");
    return n < 0 ? cmd_fail(&e) : 0;
}
