/* Whose variable counts, and folders made from the top. */
#include "userdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_find(void **state)
{
    (void)state;
    char s[64];
    setenv("HOME", "/home/x", 1);
    setenv("XDG_CACHE_HOME", "/c", 1);
    assert_true(userdir_find(s, sizeof s, USERDIR_CACHE, "packs"));
    assert_string_equal(s, "/c/solvent/packs");
    setenv("XDG_CACHE_HOME", "relative", 1);
    assert_true(userdir_find(s, sizeof s, USERDIR_CACHE, "packs"));
    assert_string_equal(s, "/home/x/.cache/solvent/packs");
    assert_false(userdir_find(s, strlen(s), USERDIR_CACHE, "packs"));
    unsetenv("XDG_DATA_HOME");
    assert_true(userdir_find(s, sizeof s, USERDIR_DATA, "m"));
    assert_string_equal(s, "/home/x/.local/share/solvent/m");
}

static void test_make(void **state)
{
    (void)state;
    char top[] = "/tmp/userdir-XXXXXX", path[64];
    struct stat st;
    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof path, "%s/a/b", top);
    assert_int_equal(userdir_make(path, 0700), 0);
    assert_int_equal(userdir_make(path, 0700), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    char bad[] = "/proc/none/a";
    assert_int_not_equal(userdir_make(bad, 0700), 0);
    assert_string_equal(bad, "/proc/none/a");
    rmdir(path);
    *strrchr(path, '/') = 0;
    rmdir(path);
    rmdir(top);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_find), cmocka_unit_test(test_make)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
