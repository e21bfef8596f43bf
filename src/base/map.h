/* Bytes -> uint32, open addressing, keyed by SipHash-1-3 with a random key so that a hostile file
 * cannot choose colliding names. Keys are borrowed: they must outlive the map. Values are below
 * MAP_NONE. Read-only use is thread-safe after the last put.
 */
#ifndef MAP_H
#define MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAP_NONE UINT32_MAX

struct map_slot {
    const void *key;
    uint32_t len, value; /* value MAP_NONE: empty */
};

struct map {
    struct map_slot *slots;
    size_t mask, used; /* slots - 1, a power of two less one; keys held */
    uint64_t seed[2];
};

/* Room for n keys without growth; false when memory ran out. Free with map_free. */
bool map_init(struct map *m, size_t n);
void map_free(struct map *m);
/* Returns the value held before (then the new one is not stored), or MAP_NONE when stored. Sets
 * *ok to false when memory ran out. */
uint32_t map_put(struct map *m, const void *key, uint32_t len, uint32_t value, bool *ok);
/* MAP_NONE when absent. */
uint32_t map_get(const struct map *m, const void *key, uint32_t len);

#endif
