/* Memory for a model's packed weights that outlives the process: a file of the user's cache, mapped.
 *
 *     if (packfile_open(&p, dir, &key, bytes, &e)) ...
 *     if (p.found && sum(p.data) != p.sum && packfile_renew(&p, &e)) ...   damaged: not trusted
 *     if (!p.found) { fill p.data; packfile_keep(&p, sum(p.data)); }
 *     packfile_close(&p);
 *
 * One file an id, DIR/ID.pack: a page of header, then the bytes. It appears by rename when it is
 * complete; ID-PID.part is what one process fills, under a lock. Nothing is flushed to the disk: what
 * a power failure leaves has another sum. Where a file is not possible (no folder, no room on the
 * disk, a file system without fallocate) the memory is anonymous and nothing is kept; that is no
 * error. As with every mapped file, another process of the user that shortens it while it is in use
 * ends ours. Several processes at once; a struct belongs to one thread.
 */
#ifndef PACKFILE_H
#define PACKFILE_H

#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PACKFILE_DIR_MAX = 3900, PACKFILE_PATH_MAX = 4096 };

struct packfile_key {
    uint64_t id;        /* of what is packed, of which file, how */
    uint64_t file;      /* of the file and the layout alone */
    const char *source; /* path of the model; borrowed until close */
};

struct packfile {
    uint8_t *data; /* aligned to a page; read-only when found, and once kept */
    size_t bytes;
    bool found;   /* a file of this id and size was there */
    uint64_t sum; /* of the file found */
    /* Its own. */
    void *map;
    size_t mapped;
    int fd; /* of the part being filled, else -1 */
    struct packfile_key key;
    char dir[PACKFILE_DIR_MAX]; /* "": anonymous */
};

/* dir may be NULL: anonymous. The only error is ERR_MEMORY. */
ERR_DOOR int packfile_open(struct packfile *p, const char *dir, const struct packfile_key *key,
                           size_t bytes, struct err *e);
/* Gives up what was found, for memory to fill. */
ERR_DOOR int packfile_renew(struct packfile *p, struct err *e);
/* The bytes are complete. Removes what the folder holds of earlier files at the same path, and of
 * sources that are gone. */
void packfile_keep(struct packfile *p, uint64_t sum);
void packfile_close(struct packfile *p);
/* Removes files of sources that are gone, and parts that nobody fills. */
void packfile_sweep(const char *dir);

#endif
