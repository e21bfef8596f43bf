/* Allocations that fail on demand, and a count of those that are alive: the C library's own
 * functions behind a counter. Included by the one C file of a test program.
 *
 *     for (long n = 1;; n++) {
 *         long alive = oom_alive;
 *         oom_after(n);                      the n-th allocation from here fails
 *         int rc = x_open(&x, ..., &e);
 *         bool hit = oom_hit();              it did; no more failures from here
 *         ...
 *         assert_int_equal(oom_alive, alive);
 *         if (!hit) break;                   the operation needs fewer than n
 *     }
 *
 * Sanitizers bring their own allocator: under them nothing fails (OOM_WORKS is 0).
 */
#ifndef OOM_H
#define OOM_H

#include <stdbool.h>
#include <stddef.h>

#include "sanitizer.h"

#define OOM_WORKS (!UNDER_ASAN && !UNDER_TSAN)

static long oom_left = -1;
static long oom_alive __attribute__((unused));

static inline void oom_after(long n)
{
    oom_left = n;
}

static inline bool oom_hit(void)
{
    bool hit = oom_left == 0;
    oom_left = -1;
    return hit;
}

#if OOM_WORKS
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

/* Once the count has run out, everything fails until the test has looked. */
static bool oom__fails(void)
{
    if (oom_left > 0) oom_left--;
    return oom_left == 0;
}

static void *oom__count(void *p)
{
    oom_alive += p != NULL;
    return p;
}

void *malloc(size_t n)
{
    return oom__fails() ? NULL : oom__count(__libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    return oom__fails() ? NULL : oom__count(__libc_calloc(n, size));
}

void *realloc(void *p, size_t n)
{
    if (oom__fails()) return NULL;
    void *q = __libc_realloc(p, n);
    oom_alive += !p && q;
    return q;
}

void *aligned_alloc(size_t align, size_t n)
{
    return oom__fails() ? NULL : oom__count(__libc_memalign(align, n));
}

void free(void *p)
{
    oom_alive -= p != NULL;
    __libc_free(p);
}
#endif

#endif
