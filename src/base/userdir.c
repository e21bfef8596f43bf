/* A variable of the specification counts when it is an absolute path; else the folder is below the
 * home of $HOME, or of the user database where that is not set. */
#include "userdir.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool userdir_find(char *out, size_t room, enum userdir kind, const char *sub)
{
    static const struct {
        const char *variable, *below;
    } kinds[] = {
        [USERDIR_DATA] = {"XDG_DATA_HOME", "/.local/share"},
        [USERDIR_CONFIG] = {"XDG_CONFIG_HOME", "/.config"},
        [USERDIR_STATE] = {"XDG_STATE_HOME", "/.local/state"},
        [USERDIR_CACHE] = {"XDG_CACHE_HOME", "/.cache"},
    };
    const char *base = getenv(kinds[kind].variable), *below = "";
    if (!base || base[0] != '/') {
        const struct passwd *pw;
        base = getenv("HOME");
        if (!base || base[0] != '/') base = (pw = getpwuid(getuid())) ? pw->pw_dir : NULL;
        if (!base || base[0] != '/') return false;
        below = kinds[kind].below;
    }
    int n = snprintf(out, room, "%s%s/solvent/%s", base, below, sub);
    return n > 0 && (size_t)n < room;
}

int userdir_make(char *path, mode_t mode)
{
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != 0) continue;
        char was = *p;
        struct stat st;
        *p = 0;
        int failed = stat(path, &st) && mkdir(path, mode) && errno != EEXIST ? errno : 0;
        *p = was;
        if (failed || !was) return failed;
    }
}
