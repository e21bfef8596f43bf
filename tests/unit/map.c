/* The map against a plain list of what was put into it. */
#include "map.h"

#include "../support/oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_put_and_get(void **state)
{
    (void)state;
    enum { N = 20000 };
    static char key[N][8];
    struct map m;
    bool ok;
    assert_true(map_init(&m, 0)); /* so that it grows on the way */
    for (uint32_t i = 0; i < N; i++) {
        memcpy(key[i], &(uint64_t){i * UINT64_C(0x9e3779b97f4a7c15)}, 8);
        assert_int_equal(map_get(&m, key[i], 8), MAP_NONE);
        assert_int_equal(map_put(&m, key[i], 8, i, &ok), MAP_NONE);
        assert_true(ok);
    }
    for (uint32_t i = 0; i < N; i++) {
        char copy[8];
        memcpy(copy, key[i], 8);
        assert_int_equal(map_get(&m, copy, 8), i);
        assert_int_equal(map_put(&m, copy, 8, i + 1, &ok), i); /* the first stays */
        assert_int_equal(map_get(&m, key[i], 8), i);
        assert_int_equal(map_get(&m, key[i], 7), MAP_NONE);
    }
    assert_int_equal(m.used, N);
    map_free(&m);
    map_free(&m);
    map_free(NULL);
}

static void test_keys_of_every_length(void **state)
{
    (void)state;
    static const char zeros[64];
    struct map m;
    bool ok;
    assert_true(map_init(&m, 64));
    for (uint32_t n = 0; n <= 64; n++) assert_int_equal(map_put(&m, zeros, n, n, &ok), MAP_NONE);
    for (uint32_t n = 0; n <= 64; n++) assert_int_equal(map_get(&m, zeros, n), n);
    map_free(&m);
    assert_int_equal(map_get(&m, "x", 1), MAP_NONE); /* of a map that is gone */
}

static void test_room_promised_is_room_given(void **state)
{
    (void)state;
    static char key[1000][4];
    struct map m;
    bool ok;
    assert_true(map_init(&m, 1000));
    const struct map_slot *before = m.slots;
    for (uint32_t i = 0; i < 1000; i++) {
        memcpy(key[i], &i, 4);
        map_put(&m, key[i], 4, i, &ok);
    }
    assert_ptr_equal(m.slots, before);
    map_free(&m);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    static char key[100][1];
    struct map m;
    bool ok = true;
    uint32_t held = 0;
    oom_after(1);
    assert_false(map_init(&m, 10));
    map_free(&m);
    oom_after(-1);
    assert_true(map_init(&m, 0));
    oom_after(1);
    for (uint32_t i = 0; i < 100 && ok; i++) {
        key[i][0] = (char)i;
        map_put(&m, key[i], 1, i, &ok);
        held += ok;
    }
    oom_after(-1);
    assert_false(ok);
    for (uint32_t i = 0; i < held; i++) assert_int_equal(map_get(&m, key[i], 1), i);
    assert_int_equal(map_get(&m, key[held], 1), MAP_NONE);
    map_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_keys_of_every_length),
        cmocka_unit_test(test_room_promised_is_room_given),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
