/* A whole file mapped read-only. The bytes may vanish under us if another process truncates the
 * file; mapfile_open keeps the descriptor so that readers can check.
 */
#ifndef MAPFILE_H
#define MAPFILE_H

#include "err.h"
#include <stddef.h>
#include <stdint.h>

struct mapfile {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;         /* bytes */
    int fd;
};

/* Refuses what is not a regular file. On success close with mapfile_close. */
ERR_DOOR int mapfile_open(struct mapfile *m, const char *path, struct err *e);
void mapfile_close(struct mapfile *m);
/* Tells the system that these bytes were read and need not stay resident. */
void mapfile_forget(const struct mapfile *m, size_t offset, size_t n);

#endif
