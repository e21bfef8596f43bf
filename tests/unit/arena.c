/* Pieces are zeroed, aligned, disjoint, stay where they are, and end with the cap. */
#include "arena.h"

#include "../support/oom.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_pieces(void **state)
{
    (void)state;
    enum { N = 3000 };
    static unsigned char *piece[N];
    static size_t size[N];
    struct arena a = ARENA_INIT(64 << 20);
    struct rng r;
    rng_init(&r, 1);
    for (int i = 0; i < N; i++) {
        size[i] = (size_t)rng_below(&r, i % 100 == 0 ? 300000 : 200);
        piece[i] = i % 3 ? arena_alloc(&a, size[i], 1) : arena_alloc64(&a, 1, size[i]);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % (i % 3 ? 16 : 64), 0);
        for (size_t k = 0; k < size[i]; k++) assert_int_equal(piece[i][k], 0);
        memset(piece[i], i, size[i]);
    }
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < size[i]; k++) assert_int_equal(piece[i][k], i & 255);
    arena_free(&a);
    assert_null(a.head);
    assert_int_equal(a.used, 0);
    assert_int_equal(a.cap, 64 << 20);
    arena_free(&a);
    arena_free(NULL);
}

static void test_cap_and_overflow(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(100);
    assert_non_null(arena_alloc(&a, 60, 1));
    assert_null(arena_alloc(&a, 41, 1));
    assert_null(arena_alloc(&a, SIZE_MAX / 2, 4));
    assert_null(arena_strndup(&a, "x", SIZE_MAX));
    assert_non_null(arena_alloc(&a, 4, 10));
    assert_null(arena_alloc(&a, 1, 1));
    arena_free(&a);
    struct arena all = ARENA_INIT(SIZE_MAX);
    assert_null(arena_alloc(&all, SIZE_MAX - 10, 1));
    arena_free(&all);
}

static void test_strndup(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(100);
    assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    arena_free(&a);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    long alive = oom_alive;
    struct arena a = ARENA_INIT(1 << 20);
    assert_non_null(arena_alloc(&a, 1, 1));
    oom_after(1);
    assert_null(arena_alloc(&a, 1, 100000));
    oom_after(-1);
    assert_non_null(arena_alloc(&a, 1, 100000));
    arena_free(&a);
    assert_int_equal(oom_alive, alive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_cap_and_overflow),
        cmocka_unit_test(test_strndup),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
