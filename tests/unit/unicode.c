/* Every code point there and back, every way UTF-8 can be ill-formed, and classes at their edges. */
#include "unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_code_point(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        char s[4];
        int n = unicode_put(code, s);
        if (code >= 0xd800 && code < 0xe000) {
            assert_int_equal(unicode_length(s, 3), -1);
            continue;
        }
        struct unicode_char c = unicode_at(s, (size_t)n);
        assert_true(n == (code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4));
        assert_int_equal(c.code, code);
        assert_int_equal(c.bytes, n);
        assert_int_equal(__builtin_popcount(c.class), 1);
        for (int k = 1; k < n; k++) assert_int_equal(unicode_length(s, (size_t)k), 0);
    }
}

static void ill_formed(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        int length;
    } cases[] = {
        {"\x80", -1},        {"\xbf", -1},          {"\xc0\x80", -1},        {"\xc1\xbf", -1},
        {"\xc2", 0},         {"\xc2x", -1},         {"\xe0\x9f\x80", -1},    {"\xe0\xa0", 0},
        {"\xe0\xa0x", -2},   {"\xed\x9f\xbf", 3},   {"\xed\xa0\x80", -1},    {"\xf0\x8f\x80", -1},
        {"\xf0\x90\x80", 0}, {"\xf0\x90\x80x", -3}, {"\xf4\x8f\xbf\xbf", 4}, {"\xf4\x90", -1},
        {"\xf5\x80", -1},    {"\xff", -1},          {"\xe2\x82\xac!", 3},    {"A\xff", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(unicode_length(cases[i].s, strlen(cases[i].s)), cases[i].length);
    struct unicode_char c = unicode_at("\xf0\x9f\x98", 3);
    assert_true(c.code == UNICODE_REPLACEMENT && c.bytes == 1 && c.class == UNICODE_SYMBOL);
}

static void classes(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        int class;
    } cases[] = {
        {"A", UNICODE_UPPER},
        {"É", UNICODE_UPPER},
        {"ǅ", UNICODE_UPPER},
        {"z", UNICODE_LOWER},
        {"ß", UNICODE_LOWER},
        {"𝔞", UNICODE_LOWER},
        {"ª", UNICODE_CASELESS},
        {"ʰ", UNICODE_CASELESS},
        {"字", UNICODE_CASELESS},
        {"\U00031350", UNICODE_CASELESS},
        {"\U000323af", UNICODE_CASELESS},
        {"\U000323b0", UNICODE_UNASSIGNED},
        {"\u0301", UNICODE_NONSPACING},
        {"\u094d", UNICODE_NONSPACING},
        {"\u0903", UNICODE_SPACING},
        {"7", UNICODE_NUMBER},
        {"½", UNICODE_NUMBER},
        {"Ⅷ", UNICODE_NUMBER},
        {"_", UNICODE_PUNCT},
        {"。", UNICODE_PUNCT},
        {"$", UNICODE_SYMBOL},
        {"😀", UNICODE_SYMBOL},
        {"\ufffd", UNICODE_SYMBOL},
        {" ", UNICODE_SPACE},
        {"\v", UNICODE_SPACE},
        {"\xc2\x85", UNICODE_SPACE},
        {"\u3000", UNICODE_SPACE},
        {"\u200b", UNICODE_CONTROL},
        {"\x1c", UNICODE_CONTROL},
        {"\x7f", UNICODE_CONTROL},
        {"\u0378", UNICODE_UNASSIGNED},
        {"\U0010fffd", UNICODE_CONTROL},
        {"\U0010ffff", UNICODE_UNASSIGNED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(unicode_at(cases[i].s, strlen(cases[i].s)).class, cases[i].class);
}

static void decomposition(void **state)
{
    static const uint32_t cases[][3] = {{0xc5, 'A', 0x30a},       {0x212b, 0xc5, 0},
                                        {0x1e9b, 0x17f, 0x307},   {0xac01, 0xac00, 0x11a8},
                                        {0xac00, 0x1100, 0x1161}, {0xd7a3, 0xd788, 0x11c2},
                                        {0x2f800, 0x4e3d, 0},     {0x1fef, '`', 0}};
    static const uint32_t whole[] = {0, 'a', 0xbf, 0xe6, 0xabff, 0xd7a4, 0xfb01, 0x10ffff};
    uint32_t out[2];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        out[1] = 0;
        assert_int_equal(unicode_decompose(cases[i][0], out), cases[i][2] ? 2 : 1);
        assert_true(out[0] == cases[i][1] && out[1] == cases[i][2]);
    }
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        assert_int_equal(unicode_decompose(whole[i], out), 0);
    for (uint32_t code = 0; code < 0x110000; code++) { /* it ends, within a few steps */
        uint32_t at = code;
        int steps = 0;
        while (unicode_decompose(at, out)) at = out[0], assert_true(++steps < 5);
    }
}

static void lower_case(void **state)
{
    static const uint32_t cases[][2] = {{'A', 'a'},       {'Z', 'z'},     {'[', '['},
                                        {0xc9, 0xe9},     {0x130, 'i'},   {0x1c4, 0x1c6},
                                        {0x3a3, 0x3c3},   {0x1e9e, 0xdf}, {0x10400, 0x10428},
                                        {0x13a0, 0xab70}, {0xdf, 0xdf},   {0x10ffff, 0x10ffff}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(unicode_lower(cases[i][0]), cases[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point), cmocka_unit_test(ill_formed), cmocka_unit_test(classes),
        cmocka_unit_test(decomposition),    cmocka_unit_test(lower_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
