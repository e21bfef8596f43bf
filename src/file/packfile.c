/* The life of a pack: part (locked, mapped for writing) -> header -> rename -> read-only. A header
 * is believed when its own sum, the id and the size of the file agree, and when the file is ours and
 * nobody else may write it; whether the bytes behind it are what they were is the caller's sum.
 * Space is allocated before it is mapped, since a full disk would otherwise kill the writer. */
#include "packfile.h"

#include "checksum.h"
#include "userdir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { HEADER_BYTES = 8192, SOURCE_MAX = 4096, SPARE = 1 << 30 };

struct header {
    char magic[8];
    uint64_t id, file, bytes, sum;
    char source[SOURCE_MAX];
    uint64_t own; /* checksum of what stands before */
};

static const char MAGIC[8] = "SOLVPCK2";

static uint64_t own_sum(const struct header *h)
{
    return checksum(h, offsetof(struct header, own), 0);
}

static void path_of(const struct packfile *p, bool part, char out[PACKFILE_PATH_MAX])
{
    if (part)
        snprintf(out, PACKFILE_PATH_MAX, "%s/%016" PRIx64 "-%ld.part", p->dir, p->key.id,
                 (long)getpid());
    else
        snprintf(out, PACKFILE_PATH_MAX, "%s/%016" PRIx64 ".pack", p->dir, p->key.id);
}

static bool read_header(int fd, struct header *h, off_t *size)
{
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022)
        return false;
    *size = st.st_size;
    return pread(fd, h, sizeof *h, 0) == (ssize_t)sizeof *h &&
           !memcmp(h->magic, MAGIC, sizeof MAGIC) && h->own == own_sum(h) &&
           memchr(h->source, 0, sizeof h->source);
}

static bool map_file(struct packfile *p, int fd, int prot)
{
    p->mapped = HEADER_BYTES + p->bytes;
    void *map = mmap(NULL, p->mapped, prot, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return false;
    /* Where the file system can: decode is some 10 % faster. */
    madvise(map, p->mapped, MADV_HUGEPAGE);
    p->map = map;
    p->data = (uint8_t *)map + HEADER_BYTES;
    return true;
}

static bool find(struct packfile *p)
{
    char path[PACKFILE_PATH_MAX];
    struct header h;
    off_t size;
    path_of(p, false, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    p->found = read_header(fd, &h, &size) && h.id == p->key.id && h.bytes == p->bytes &&
               (uint64_t)size == HEADER_BYTES + h.bytes && map_file(p, fd, PROT_READ);
    p->sum = h.sum;
    close(fd);
    return p->found;
}

/* Room for the file, and as much again as a gigabyte for others. */
static bool room_for(int fd, size_t bytes)
{
    struct statvfs v;
    return !fstatvfs(fd, &v) && (uint64_t)v.f_bavail * v.f_frsize > (uint64_t)bytes + SPARE;
}

static bool start_part(struct packfile *p)
{
    char path[PACKFILE_PATH_MAX];
    if (userdir_make(p->dir, 0700)) return false;
    packfile_sweep(p->dir); /* may make room */
    path_of(p, true, path);
    p->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (p->fd < 0) return false;
    if (flock(p->fd, LOCK_EX | LOCK_NB) == 0 && room_for(p->fd, p->bytes) &&
        fallocate(p->fd, 0, 0, (off_t)(HEADER_BYTES + p->bytes)) == 0 &&
        map_file(p, p->fd, PROT_READ | PROT_WRITE))
        return true;
    unlink(path);
    close(p->fd);
    p->fd = -1;
    return false;
}

static int fresh(struct packfile *p, struct err *e)
{
    if (p->dir[0] && start_part(p)) return 0;
    p->dir[0] = 0;
    p->mapped = p->bytes;
    p->map = mmap(NULL, p->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->map == MAP_FAILED) {
        p->map = NULL;
        return err_nomem(e, p->bytes, "the model's weights");
    }
    madvise(p->map, p->mapped, MADV_HUGEPAGE);
    p->data = p->map;
    return 0;
}

int packfile_open(struct packfile *p, const char *dir, const struct packfile_key *key, size_t bytes,
                  struct err *e)
{
    *p = (struct packfile){.bytes = bytes, .fd = -1, .key = *key};
    if (dir && strlen(dir) < sizeof p->dir && strlen(key->source) < SOURCE_MAX) strcpy(p->dir, dir);
    return p->dir[0] && find(p) ? 0 : fresh(p, e);
}

static void unmap(struct packfile *p)
{
    if (p->map) munmap(p->map, p->mapped);
    p->map = p->data = NULL;
}

int packfile_renew(struct packfile *p, struct err *e)
{
    unmap(p);
    p->found = false;
    return fresh(p, e);
}

/* Removes packs of sources that are gone, and of what stood at the path `source` before `file`. */
static void sweep(const char *dir, uint64_t file, const char *source)
{
    DIR *d = opendir(dir);
    const struct dirent *f;
    while (d && (f = readdir(d))) {
        const char *dot = strrchr(f->d_name, '.');
        bool part = dot && !strcmp(dot, ".part");
        if (!part && (!dot || strcmp(dot, ".pack"))) continue;
        int fd = openat(dirfd(d), f->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0) continue;
        struct header h;
        struct stat st;
        off_t size;
        bool dead = part ? flock(fd, LOCK_EX | LOCK_NB) == 0
                         : !read_header(fd, &h, &size) || stat(h.source, &st) ||
                               (source && !strcmp(h.source, source) && h.file != file);
        if (dead) unlinkat(dirfd(d), f->d_name, 0);
        close(fd);
    }
    if (d) closedir(d);
}

void packfile_sweep(const char *dir)
{
    sweep(dir, 0, NULL);
}

void packfile_keep(struct packfile *p, uint64_t sum)
{
    mprotect(p->map, p->mapped, PROT_READ);
    if (p->fd < 0) return;
    char part[PACKFILE_PATH_MAX], whole[PACKFILE_PATH_MAX], *real = realpath(p->key.source, NULL);
    struct header h = {.id = p->key.id, .file = p->key.file, .bytes = p->bytes, .sum = sum};
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    snprintf(h.source, sizeof h.source, "%s", real ? real : p->key.source);
    free(real);
    h.own = own_sum(&h);
    path_of(p, true, part);
    path_of(p, false, whole);
    if (pwrite(p->fd, &h, sizeof h, 0) == (ssize_t)sizeof h && rename(part, whole) == 0)
        sweep(p->dir, p->key.file, h.source);
    else
        unlink(part);
    close(p->fd);
    p->fd = -1;
}

void packfile_close(struct packfile *p)
{
    if (p->fd >= 0) { /* was not completed */
        char part[PACKFILE_PATH_MAX];
        path_of(p, true, part);
        unlink(part);
        close(p->fd);
    }
    unmap(p);
    p->fd = -1;
}
