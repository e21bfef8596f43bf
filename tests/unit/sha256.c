/* Test vectors of FIPS 180-4, in memory and from a file. */
#include "sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void vectors(void **state)
{
    (void)state;
    char hex[SHA256_HEX];
    struct err e;
    assert_int_equal(sha256_bytes("", 0, hex, &e), 0);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(sha256_bytes("abc", 3, hex, &e), 0);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* A million times 'a', and one byte more than a piece that is read at once. */
static void files(void **state)
{
    (void)state;
    char hex[SHA256_HEX];
    struct err e;
    FILE *f = tmpfile();
    assert_non_null(f);
    for (int i = 0; i < 1000000; i++) putc('a', f);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(sha256_file(fileno(f), NULL, hex, &e), 0);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    char whole[SHA256_HEX], *p = calloc(1, (1 << 20) + 1);
    assert_int_equal(ftruncate(fileno(f), 0), 0);
    assert_int_equal(ftruncate(fileno(f), (1 << 20) + 1), 0);
    assert_int_equal(sha256_file(fileno(f), NULL, hex, &e), 0);
    assert_int_equal(sha256_bytes(p, (1 << 20) + 1, whole, &e), 0);
    assert_string_equal(hex, whole);
    free(p);
    fclose(f);
    assert_int_equal(sha256_file(-1, NULL, hex, &e), ERR_IO);
}

static void digits(void **state)
{
    (void)state;
    char hex[80];
    memset(hex, 'a', sizeof hex);
    hex[65] = 0;
    assert_false(sha256_is_hex(hex));
    hex[64] = 0;
    assert_true(sha256_is_hex(hex));
    hex[10] = 'A';
    assert_false(sha256_is_hex(hex));
    hex[10] = 0;
    assert_false(sha256_is_hex(hex));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(files),
        cmocka_unit_test(digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
