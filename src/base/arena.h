/* Memory with one lifetime: allocated piece by piece, released whole.
 *
 *     struct arena a = ARENA_INIT(cap_bytes);
 *     x = arena_alloc(&a, n, size);   NULL when the cap or the memory is used up
 *     arena_free(&a);
 *
 * Memory is zeroed and aligned to 16 bytes (to 64 with arena_alloc64). Grows in chunks; pieces
 * never move. Not thread-safe.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *head;
    size_t used, cap; /* bytes handed out, and their limit */
};

#define ARENA_INIT(cap_bytes) ((struct arena){.cap = (cap_bytes)})

/* n * size bytes; the product is checked. */
void *arena_alloc(struct arena *a, size_t n, size_t size);
void *arena_alloc64(struct arena *a, size_t n, size_t size);
/* A NUL-terminated copy of n bytes. */
char *arena_strndup(struct arena *a, const char *s, size_t n);
void arena_free(struct arena *a);

#endif
