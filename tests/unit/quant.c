/* Every format against stored results of the original implementation, bit for bit (made by
 * tests/golden/make_quant_vectors.py), and the 16-bit floats against arithmetic in double. */
#include "quant.h"

#include "mapfile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_stored_vectors(void **state)
{
    (void)state;
    struct mapfile m;
    struct err e;
    bool seen[QUANT_TYPE_END] = {0};
    assert_int_equal(mapfile_open(&m, TEST_DATA "/quant_vectors.bin", &e), 0);
    for (size_t at = 0; at < m.size;) {
        uint32_t head[2]; /* type, values */
        float out[512];
        memcpy(head, m.data + at, sizeof head);
        assert_non_null(quant_name(head[0]));
        size_t row = head[1] / quant_block(head[0]) * quant_bytes(head[0]);
        assert_true(head[1] <= 512 && at + 8 + row + head[1] * 4 <= m.size);
        quant_row_to_f32(head[0], m.data + at + 8, out, head[1]);
        assert_memory_equal(out, m.data + at + 8 + row, head[1] * 4);
        seen[head[0]] = true;
        at += 8 + row + head[1] * 4;
    }
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) assert_int_equal(seen[t], quant_name(t) != NULL);
    mapfile_close(&m);
}

static void test_types(void **state)
{
    (void)state;
    assert_string_equal(quant_name(QUANT_Q4_K), "q4_K");
    assert_int_equal(quant_block(QUANT_Q4_K), 256);
    assert_int_equal(quant_bytes(QUANT_Q4_K), 144);
    for (uint32_t t = 4; t <= 5; t++) {
        assert_null(quant_name(t));
        assert_int_equal(quant_block(t), 0);
        assert_int_equal(quant_bytes(t), 0);
    }
    assert_null(quant_name(QUANT_TYPE_END));
    assert_null(quant_name(UINT32_MAX));
    assert_int_equal(quant_block(UINT32_MAX), 0);
}

static double half_value(unsigned h) /* finite, positive */
{
    return h >> 10 ? ldexp(1024 + (h & 1023), (int)(h >> 10) - 25) : ldexp(h & 1023, -24);
}

static void test_half(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        assert_true((double)quant_f16_to_f32((uint16_t)h) == half_value(h));
        assert_true((double)quant_f16_to_f32((uint16_t)(h | 0x8000)) == -half_value(h));
        assert_int_equal(quant_f32_to_f16((float)half_value(h)), h);
        assert_int_equal(quant_f32_to_f16((float)-half_value(h)), h | 0x8000);
        /* halfway to the next goes to the even one, a hair to either side does not */
        double next = h == 0x7bff ? 65536 : half_value(h + 1);
        float middle = (float)((half_value(h) + next) / 2);
        assert_int_equal(quant_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(quant_f32_to_f16(0x1p-40f), 0);
    assert_int_equal(quant_f32_to_f16(-0x1p-140f), 0x8000);
    assert_int_equal(quant_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(quant_f32_to_f16(-INFINITY), 0xfc00);
    assert_true(isinf(quant_f16_to_f32(0x7c00)) && quant_f16_to_f32(0xfc00) < 0);
    for (unsigned h = 0x7c01; h < 0x8000; h++) assert_true(isnan(quant_f16_to_f32((uint16_t)h)));
    assert_true(isnan(quant_f16_to_f32(quant_f32_to_f16(NAN))));
}

static void test_bfloat(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7f80; h++) {
        float f = quant_bf16_to_f32((uint16_t)h), next = quant_bf16_to_f32((uint16_t)(h + 1));
        assert_int_equal(quant_f32_to_bf16(f), h);
        assert_int_equal(quant_f32_to_bf16(-f), h | 0x8000);
        if (h == 0x7f7f) break; /* the next is infinite */
        float middle = (float)(((double)f + (double)next) / 2);
        assert_int_equal(quant_f32_to_bf16(middle), h + (h & 1));
        assert_int_equal(quant_f32_to_bf16(nextafterf(middle, 0)), h);
        assert_int_equal(quant_f32_to_bf16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(quant_f32_to_bf16(INFINITY), 0x7f80);
    uint32_t bits = 0x7f800001; /* a NaN whose upper half alone would read as infinity */
    float nan;
    memcpy(&nan, &bits, sizeof nan);
    assert_true(isnan(quant_bf16_to_f32(quant_f32_to_bf16(nan))));
}

static void test_e8m0(void **state)
{
    (void)state;
    for (int x = 0; x < 256; x++)
        assert_true((double)quant_e8m0_half((uint8_t)x) == ldexp(1, x - 128));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored_vectors), cmocka_unit_test(test_types),
        cmocka_unit_test(test_half),           cmocka_unit_test(test_bfloat),
        cmocka_unit_test(test_e8m0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
