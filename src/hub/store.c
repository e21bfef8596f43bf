/* The folder of models: finding it, locking in it, publishing by rename.
 *
 * The invariant: a file NAME.gguf is complete, on disk, and was verified by whoever called
 * store_finish. The lock is on NAME.part itself; since its holder may rename or remove it while
 * another waits, whoever gets the lock looks whether the path still leads to the locked file and
 * starts anew if not. So no lock file is left behind. Names are checked by the callers'
 * source_name_ok and asserted here. */
#include "store.h"

#include "userdir.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { ITEMS_MAX = 100000 };

int store_open(struct store *s, bool make, struct err *e)
{
    if (!userdir_find(s->dir, sizeof s->dir, USERDIR_DATA, "models"))
        return err_set(
            e, ERR_IO,
            "no data folder: set XDG_DATA_HOME to an absolute path that is not too long");
    if (!make) return 0;
    int failed = userdir_make(s->dir, 0755);
    if (failed) return err_set(e, ERR_IO, "cannot create %s: %s", s->dir, strerror(failed));
    if (access(s->dir, W_OK | X_OK))
        return err_set(e, ERR_IO, "cannot write into %s: %s", s->dir, strerror(errno));
    return 0;
}

void store_path(const struct store *s, const char *name, const char *suffix,
                char out[STORE_PATH_MAX])
{
    assert(source_name_ok(name));
    int n = snprintf(out, STORE_PATH_MAX, "%s/%s%s", s->dir, name, suffix);
    assert(n > 0 && n < STORE_PATH_MAX);
}

bool store_has(const struct store *s, const char *name, int64_t *bytes)
{
    char path[STORE_PATH_MAX];
    struct stat st;
    store_path(s, name, ".gguf", path);
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return false;
    if (bytes) *bytes = st.st_size;
    return true;
}

/* ---- list ---- */

static int by_name(const void *a, const void *b)
{
    const struct store_item *p = a, *q = b;
    int c = strcmp(p->name, q->name);
    return c ? c : p->partial - q->partial;
}

/* Fills *it when the file is one of ours. */
static bool read_item(int dir, const char *file, struct store_item *it)
{
    const char *dot = strrchr(file, '.');
    struct stat st;
    *it = (struct store_item){0};
    if (!dot || (strcmp(dot, ".gguf") != 0 && strcmp(dot, ".part") != 0)) return false;
    if (dot - file > SOURCE_NAME_MAX) return false;
    memcpy(it->name, file, (size_t)(dot - file));
    if (!source_name_ok(it->name)) return false;
    if (fstatat(dir, file, &st, 0) || !S_ISREG(st.st_mode)) return false;
    it->partial = dot[1] == 'p';
    it->bytes = st.st_size;
    it->pulled_s = st.st_mtime;
    return true;
}

int store_list(const struct store *s, struct store_item **items, size_t *n, struct err *e)
{
    size_t room = 0;
    *items = NULL;
    *n = 0;
    DIR *d = opendir(s->dir);
    if (!d && errno == ENOENT) return 0;
    if (!d) return err_set(e, ERR_IO, "cannot read %s: %s", s->dir, strerror(errno));
    struct store_item it;
    for (struct dirent *f; (f = readdir(d));) {
        if (!read_item(dirfd(d), f->d_name, &it)) continue;
        if (*n == room) {
            room = room ? room * 2 : 16;
            void *p = room > ITEMS_MAX ? NULL : realloc(*items, room * sizeof it);
            if (!p) {
                closedir(d);
                free(*items);
                *items = NULL;
                return err_nomem(e, room * sizeof it, "the list of models");
            }
            *items = p;
        }
        (*items)[(*n)++] = it;
    }
    closedir(d);
    if (*n) qsort(*items, *n, sizeof it, by_name);
    return 0;
}

/* ---- lock, finish, remove ---- */

static bool same_file(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static int lock_path(const char *path, int flags, bool wait, int *fd, struct err *e)
{
    for (;;) {
        *fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (*fd < 0)
            return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open %s: %s", path,
                           strerror(errno));
        int rc;
        while ((rc = flock(*fd, LOCK_EX | (wait ? 0 : LOCK_NB))) && errno == EINTR) continue;
        if (rc == 0 && same_file(*fd, path)) return 0;
        int why = errno;
        close(*fd);
        *fd = -1;
        if (rc == 0) continue;
        if (why == EWOULDBLOCK) return 0;
        return err_set(e, ERR_IO, "cannot lock %s: %s", path, strerror(why));
    }
}

int store_lock_part(const struct store *s, const char *name, bool wait, int *fd, struct err *e)
{
    char path[STORE_PATH_MAX];
    store_path(s, name, ".part", path);
    return lock_path(path, O_CREAT, wait, fd, e);
}

int store_finish(const struct store *s, const char *name, int fd, struct err *e)
{
    char part[STORE_PATH_MAX], model[STORE_PATH_MAX];
    store_path(s, name, ".part", part);
    store_path(s, name, ".gguf", model);
    if (fsync(fd)) return err_set(e, ERR_IO, "cannot write %s: %s", part, strerror(errno));
    if (rename(part, model))
        return err_set(e, ERR_IO, "cannot rename %s to %s: %s", part, model, strerror(errno));
    store_discard(s, name);
    int dir = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0) {
        fsync(dir);
        close(dir);
    }
    return 0;
}

/* Returns the bytes of what was removed, -1 when there was nothing. */
static int64_t unlink_sized(const struct store *s, const char *name, const char *suffix)
{
    char path[STORE_PATH_MAX];
    struct stat st;
    store_path(s, name, suffix, path);
    if (lstat(path, &st) || !(S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))) return -1;
    return unlink(path) ? -1 : st.st_size;
}

void store_discard(const struct store *s, const char *name)
{
    unlink_sized(s, name, ".wheel");
    unlink_sized(s, name, ".note");
    unlink_sized(s, name, ".part");
}

int store_remove(const struct store *s, const char *name, int64_t *freed_bytes, struct err *e)
{
    static const char *const suffix[] = {".gguf", ".wheel", ".note", ".part"};
    char path[STORE_PATH_MAX];
    int fd = -1;
    bool any = false;
    *freed_bytes = 0;
    store_path(s, name, ".part", path);
    int rc = lock_path(path, 0, false, &fd, e);
    if (rc && rc != ERR_NOT_FOUND) return rc;
    if (!rc && fd < 0) return err_set(e, ERR_IO, "%s is being pulled just now", name);
    rc = 0;
    for (size_t i = 0; i < 4 && !rc; i++) {
        struct stat st;
        store_path(s, name, suffix[i], path);
        if (lstat(path, &st)) continue;
        int64_t n = unlink_sized(s, name, suffix[i]);
        if (n < 0)
            rc = err_set(e, ERR_IO, "cannot remove %s: %s", path, strerror(errno));
        else
            *freed_bytes += n;
        any = true;
    }
    if (fd >= 0) close(fd);
    return rc || any ? rc : err_set(e, ERR_NOT_FOUND, "there is no model %s here", name);
}

int64_t store_free_bytes(const struct store *s)
{
    struct statvfs v;
    int64_t n;
    if (statvfs(s->dir, &v) || __builtin_mul_overflow(v.f_bavail, v.f_frsize, &n)) return -1;
    return n;
}
