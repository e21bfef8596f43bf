/* Linear probing at a load of at most a half. SipHash-1-3: Aumasson and Bernstein 2012. */
#include "map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))

static void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = ROTL(v[1], 13) ^ v[0], v[0] = ROTL(v[0], 32);
    v[2] += v[3], v[3] = ROTL(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = ROTL(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = ROTL(v[1], 17) ^ v[2], v[2] = ROTL(v[2], 32);
}

static uint64_t hash(const struct map *m, const void *key, size_t n)
{
    const unsigned char *p = key;
    uint64_t v[4] = {m->seed[0] ^ 0x736f6d6570736575u, m->seed[1] ^ 0x646f72616e646f6du,
                     m->seed[0] ^ 0x6c7967656e657261u, m->seed[1] ^ 0x7465646279746573u};
    uint64_t tail = (uint64_t)n << 56;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        v[3] ^= w;
        sip_round(v);
        v[0] ^= w;
    }
    for (size_t i = 0; i < n; i++) tail |= (uint64_t)p[i] << 8 * i;
    v[3] ^= tail;
    sip_round(v);
    v[0] ^= tail;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct map_slot *find(const struct map *m, const void *key, uint32_t len)
{
    size_t i = hash(m, key, len) & m->mask;
    for (;; i = (i + 1) & m->mask) {
        struct map_slot *s = &m->slots[i];
        if (s->value == MAP_NONE) return s;
        if (s->len == len && (len == 0 || memcmp(s->key, key, len) == 0)) return s;
    }
}

static struct map_slot *slots_new(size_t n)
{
    struct map_slot *s = malloc(n * sizeof *s);
    for (size_t i = 0; s && i < n; i++) s[i] = (struct map_slot){.value = MAP_NONE};
    return s;
}

bool map_init(struct map *m, size_t n)
{
    size_t size = 16;
    while (size < n * 2 && size < SIZE_MAX / 4 / sizeof *m->slots) size *= 2;
    *m = (struct map){.mask = size - 1, .slots = slots_new(size)};
    if (getrandom(m->seed, sizeof m->seed, 0) != (ssize_t)sizeof m->seed)
        m->seed[0] = (uintptr_t)m->slots;
    return m->slots != NULL;
}

void map_free(struct map *m)
{
    if (!m) return;
    free(m->slots);
    *m = (struct map){0};
}

static bool grow(struct map *m)
{
    struct map old = *m;
    m->mask = old.mask * 2 + 1;
    m->slots = slots_new(m->mask + 1);
    if (!m->slots) {
        *m = old;
        return false;
    }
    for (size_t i = 0; i <= old.mask; i++)
        if (old.slots[i].value != MAP_NONE)
            *find(m, old.slots[i].key, old.slots[i].len) = old.slots[i];
    free(old.slots);
    return true;
}

uint32_t map_put(struct map *m, const void *key, uint32_t len, uint32_t value, bool *ok)
{
    *ok = true;
    if (m->used * 2 >= m->mask && !grow(m)) {
        *ok = false;
        return MAP_NONE;
    }
    struct map_slot *s = find(m, key, len);
    if (s->value != MAP_NONE) return s->value;
    *s = (struct map_slot){key, len, value};
    m->used++;
    return MAP_NONE;
}

uint32_t map_get(const struct map *m, const void *key, uint32_t len)
{
    return m->slots ? find(m, key, len)->value : MAP_NONE;
}
