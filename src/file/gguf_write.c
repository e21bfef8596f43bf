/* The one writer of model files. Metadata and descriptions gather in memory until the start; data is
 * written straight through, with the zeros that align each tensor put in between by the place that
 * the descriptions gave it.
 *
 * The lock on FILE.part belongs to the open file, so it is gone with the process, and the part that
 * a killed process left is overwritten by the next one.
 */
#include "gguf_write.h"

#include "buf.h"
#include "gguf.h"
#include "quant.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGN = 32, META_MAX = 1 << 30, PATH_BYTES_MAX = 4096 };

struct place {
    uint64_t at, bytes; /* from the start of the data */
};

struct gguf_write {
    char path[PATH_BYTES_MAX], part[PATH_BYTES_MAX];
    int fd;
    bool force;
    uint64_t n_keys, n_tensors;
    struct buf meta, infos; /* bytes of the file */
    struct buf places;      /* struct place, one a tensor */
    size_t tensor;          /* whose data comes next */
    uint64_t written;       /* of the data, padding included */
};

static int os_error(const struct gguf_write *w, const char *what, struct err *e)
{
    return err_set(e, ERR_IO, "cannot %s '%.250s': %s", what, w->part, strerror(errno));
}

static int taken(const struct gguf_write *w, struct err *e)
{
    return err_set(e, ERR_USAGE, "'%.250s' is there already (--force overwrites it)", w->path);
}

static int open_part(struct gguf_write *w, struct err *e)
{
    struct stat st;
    if (!w->force && lstat(w->path, &st) == 0) return taken(w, e);
    w->fd = open(w->part, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (w->fd < 0) return os_error(w, "create", e);
    if (flock(w->fd, LOCK_EX | LOCK_NB)) {
        close(w->fd);
        w->fd = -1;
        return err_set(e, ERR_IO, "'%.250s' is being written by another process", w->part);
    }
    return ftruncate(w->fd, 0) ? os_error(w, "empty", e) : 0;
}

int gguf_write_open(struct gguf_write **out, const char *path, bool force, struct err *e)
{
    struct gguf_write *w = calloc(1, sizeof *w);
    if (!w) return err_nomem(e, sizeof *w, "a file");
    w->fd = -1;
    w->force = force;
    w->meta = w->infos = w->places = BUF_INIT(META_MAX);
    snprintf(w->path, sizeof w->path, "%s", path);
    int n = snprintf(w->part, sizeof w->part, "%s.part", path);
    int rc =
        n >= (int)sizeof w->part ? err_set(e, ERR_LIMIT, "the path is too long") : open_part(w, e);
    if (rc) {
        gguf_write_close(w);
        return rc;
    }
    *out = w;
    return 0;
}

void gguf_write_close(struct gguf_write *w)
{
    if (!w) return;
    if (w->fd >= 0) {
        unlink(w->part);
        close(w->fd);
    }
    buf_free(&w->meta);
    buf_free(&w->infos);
    buf_free(&w->places);
    free(w);
}

static void put_str(struct buf *b, const char *s)
{
    uint64_t n = strlen(s);
    buf_put(b, &n, sizeof n);
    buf_put(b, s, n);
}

static void put_key(struct gguf_write *w, const char *key, enum gguf_type type)
{
    uint32_t t = type;
    put_str(&w->meta, key);
    buf_put(&w->meta, &t, sizeof t);
    w->n_keys++;
}

static void put_array(struct gguf_write *w, const char *key, enum gguf_type item, size_t n)
{
    uint32_t t = item;
    uint64_t count = n;
    put_key(w, key, GGUF_ARR);
    buf_put(&w->meta, &t, sizeof t);
    buf_put(&w->meta, &count, sizeof count);
}

void gguf_write_u32(struct gguf_write *w, const char *key, uint32_t v)
{
    put_key(w, key, GGUF_U32);
    buf_put(&w->meta, &v, sizeof v);
}

void gguf_write_f32(struct gguf_write *w, const char *key, float v)
{
    put_key(w, key, GGUF_F32);
    buf_put(&w->meta, &v, sizeof v);
}

void gguf_write_bool(struct gguf_write *w, const char *key, bool v)
{
    put_key(w, key, GGUF_BOOL);
    buf_putc(&w->meta, v);
}

void gguf_write_str(struct gguf_write *w, const char *key, const char *v)
{
    put_key(w, key, GGUF_STR);
    put_str(&w->meta, v);
}

void gguf_write_i32s(struct gguf_write *w, const char *key, const int32_t *v, size_t n)
{
    put_array(w, key, GGUF_I32, n);
    buf_put(&w->meta, v, n * sizeof *v);
}

void gguf_write_f32s(struct gguf_write *w, const char *key, const float *v, size_t n)
{
    put_array(w, key, GGUF_F32, n);
    buf_put(&w->meta, v, n * sizeof *v);
}

void gguf_write_bools(struct gguf_write *w, const char *key, const bool *v, size_t n)
{
    put_array(w, key, GGUF_BOOL, n);
    for (size_t i = 0; i < n; i++) buf_putc(&w->meta, v[i]);
}

void gguf_write_strs(struct gguf_write *w, const char *key, const char *const *v, size_t n)
{
    put_array(w, key, GGUF_STR, n);
    for (size_t i = 0; i < n; i++) put_str(&w->meta, v[i]);
}

static uint64_t aligned(uint64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static const struct place *place(const struct gguf_write *w, size_t i)
{
    return (const struct place *)(const void *)w->places.data + i;
}

size_t gguf_write_tensor(struct gguf_write *w, const char *name, uint32_t type, uint32_t n_dims,
                         const uint64_t *dim)
{
    assert(quant_name(type) && n_dims >= 1 && n_dims <= 4 && dim[0] % quant_block(type) == 0);
    uint64_t values = 1, at = 0;
    for (uint32_t i = 0; i < n_dims; i++)
        if (__builtin_mul_overflow(values, dim[i], &values)) w->infos.failed = true;
    if (values > UINT64_MAX / 8) w->infos.failed = true;
    uint64_t bytes = values / quant_block(type) * quant_bytes(type);
    if (w->n_tensors && !w->places.failed) {
        const struct place *last = place(w, w->n_tensors - 1);
        if (__builtin_add_overflow(aligned(last->at + last->bytes), bytes, &at))
            w->infos.failed = true;
        at -= bytes;
    }
    struct place p = {at, bytes};
    put_str(&w->infos, name);
    buf_put(&w->infos, &n_dims, sizeof n_dims);
    buf_put(&w->infos, dim, n_dims * sizeof *dim);
    buf_put(&w->infos, &type, sizeof type);
    buf_put(&w->infos, &at, sizeof at);
    buf_put(&w->places, &p, sizeof p);
    w->n_tensors++;
    return (size_t)bytes;
}

static int write_all(struct gguf_write *w, const void *p, size_t n, struct err *e)
{
    for (const char *at = p; n;) {
        ssize_t done = write(w->fd, at, n < 1 << 30 ? n : 1 << 30);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return os_error(w, "write", e);
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

static int write_zeros(struct gguf_write *w, uint64_t n, struct err *e)
{
    static const char zeros[ALIGN];
    assert(n < ALIGN);
    return write_all(w, zeros, (size_t)n, e);
}

int gguf_write_start(struct gguf_write *w, struct err *e)
{
    if (w->meta.failed || w->infos.failed || w->places.failed)
        return err_set(e, ERR_MEMORY, "the metadata does not fit into memory or into %d bytes",
                       META_MAX);
    struct {
        char magic[4];
        uint32_t version;
        uint64_t tensors, keys;
    } head = {{'G', 'G', 'U', 'F'}, 3, w->n_tensors, w->n_keys};
    size_t n = sizeof head + w->meta.len + w->infos.len;
    if (write_all(w, &head, sizeof head, e) || write_all(w, w->meta.data, w->meta.len, e) ||
        write_all(w, w->infos.data, w->infos.len, e))
        return e->code;
    return write_zeros(w, aligned(n) - n, e);
}

int gguf_write_data(struct gguf_write *w, const void *p, size_t n, struct err *e)
{
    for (const char *at = p; n;) {
        assert(w->tensor < w->n_tensors);
        const struct place *to = place(w, w->tensor);
        if (w->written < to->at) {
            if (write_zeros(w, to->at - w->written, e)) return e->code;
            w->written = to->at;
        }
        uint64_t left = to->at + to->bytes - w->written;
        size_t now = n < left ? n : (size_t)left;
        if (write_all(w, at, now, e)) return e->code;
        w->written += now;
        at += now;
        n -= now;
        if (now == left) w->tensor++;
    }
    return 0;
}

/* Makes the new name in the folder survive a power cut, where the file system can. */
static void sync_folder(const char *path)
{
    char dir[PATH_BYTES_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

int gguf_write_commit(struct gguf_write *w, struct err *e)
{
    assert(w->tensor == w->n_tensors);
    if (write_zeros(w, aligned(w->written) - w->written, e)) return e->code;
    if (fsync(w->fd)) return os_error(w, "bring to disk", e);
    unsigned flags = w->force ? 0 : RENAME_NOREPLACE;
    int rc = renameat2(AT_FDCWD, w->part, AT_FDCWD, w->path, flags);
    if (rc && errno == EEXIST) return taken(w, e);
    if (rc && errno == EINVAL) rc = rename(w->part, w->path); /* a file system without the flag */
    if (rc) return os_error(w, "rename", e);
    close(w->fd);
    w->fd = -1;
    sync_folder(w->path);
    return 0;
}
