/* Chunks of doubling size in a list; a piece that fits no chunk gets its own. */
#include "arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(64) unsigned char mem[];
};

enum { CHUNK_MIN = 4096, CHUNK_MAX = 1 << 20 };

static struct arena_chunk *grow(struct arena *a, size_t need)
{
    size_t size = a->head ? a->head->size * 2 : CHUNK_MIN;
    if (size > CHUNK_MAX) size = CHUNK_MAX;
    if (size < need) size = need;
    if (size > SIZE_MAX - sizeof(struct arena_chunk) - 64) return NULL;
    size_t total = (sizeof(struct arena_chunk) + size + 63) / 64 * 64;
    struct arena_chunk *c = aligned_alloc(64, total);
    if (!c) return NULL;
    c->next = a->head;
    c->used = 0;
    c->size = size;
    a->head = c;
    return c;
}

static void *alloc(struct arena *a, size_t n, size_t size, size_t align)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > a->cap - a->used) return NULL;
    struct arena_chunk *c = a->head;
    size_t at = c ? (c->used + align - 1) / align * align : 0;
    if (!c || at > c->size || bytes > c->size - at) {
        c = grow(a, bytes ? bytes : 1);
        if (!c) return NULL;
        at = 0;
    }
    c->used = at + bytes;
    a->used += bytes;
    return memset(c->mem + at, 0, bytes);
}

void *arena_alloc(struct arena *a, size_t n, size_t size)
{
    return alloc(a, n, size, 16);
}

void *arena_alloc64(struct arena *a, size_t n, size_t size)
{
    return alloc(a, n, size, 64);
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    if (n == SIZE_MAX) return NULL;
    char *p = arena_alloc(a, n + 1, 1);
    if (p && n) memcpy(p, s, n);
    return p;
}

void arena_free(struct arena *a)
{
    if (!a) return;
    for (struct arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = ARENA_INIT(a->cap);
}
