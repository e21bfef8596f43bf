/* The one place that maps model files. A FIFO or a device must neither block us nor be mapped, so
 * the descriptor is opened without waiting and looked at before anything else. The mapping is
 * private and read-only: nobody here can change a model by accident.
 *
 * What a page holds after another process shortened the file is the business of the caller.
 */
#include "mapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int mapfile_open(struct mapfile *m, const char *path, struct err *e)
{
    *m = (struct mapfile){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
    if (m->fd < 0) return err_set(e, ERR_IO, "cannot open '%.250s': %s", path, strerror(errno));
    struct stat st;
    if (fstat(m->fd, &st))
        err_set(e, ERR_IO, "cannot look at '%.250s': %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        err_set(e, ERR_IO, "'%.250s' is not a regular file", path);
    else if (st.st_size == 0)
        return 0;
    else {
        m->size = (size_t)st.st_size;
        void *p = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, m->fd, 0);
        if (p != MAP_FAILED) {
            m->data = p;
            return 0;
        }
        err_set(e, ERR_IO, "cannot map the %zu bytes of '%.250s': %s", m->size, path,
                strerror(errno));
    }
    close(m->fd);
    *m = (struct mapfile){.fd = -1};
    return e->code;
}

void mapfile_close(struct mapfile *m)
{
    if (!m) return;
    if (m->data) munmap((void *)(uintptr_t)m->data, m->size);
    if (m->fd >= 0) close(m->fd);
    *m = (struct mapfile){.fd = -1};
}

void mapfile_forget(const struct mapfile *m, size_t offset, size_t n)
{
    /* Whole pages only: the first and the last may hold bytes of a neighbour. */
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (offset > m->size || n > m->size - offset) return;
    size_t from = (offset + page - 1) / page * page, to = (offset + n) / page * page;
    if (from < to) madvise((void *)(uintptr_t)(m->data + from), to - from, MADV_DONTNEED);
}
