/* Keys: made, found, removed, and what is no file of keys. */
#include "keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(path, "/tmp/solvent-keys-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void made_found_removed(void **state)
{
    struct keys *k;
    struct err e;
    struct stat st;
    char anna[KEYS_TEXT], bert[KEYS_TEXT];
    (void)state;
    assert_int_equal(keys_open(&k, path, &e), ERR_NOT_FOUND);
    assert_int_equal(keys_add(path, "anna", true, anna, &e), 0);
    assert_int_equal(keys_add(path, "bert", false, bert, &e), 0);
    assert_int_equal(keys_add(path, "anna", false, bert + 0, &e), ERR_USAGE);
    assert_int_equal(keys_remove(path, "bert", &e), 0);
    assert_int_equal(keys_add(path, "bert", false, bert, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(keys_open(&k, path, &e), 0);
    assert_int_equal(keys_count(k), 2);
    const struct keys_entry *found = keys_find(k, anna);
    assert_non_null(found);
    assert_string_equal(found->name, "anna");
    assert_true(found->admin);
    assert_false(keys_find(k, bert)->admin);
    assert_true(found->tenant != keys_find(k, bert)->tenant);
    uint64_t tenant = found->tenant;
    bert[10] ^= 1;
    assert_null(keys_find(k, bert));
    assert_null(keys_find(k, ""));
    keys_close(k);
    assert_int_equal(keys_remove(path, "bert", &e), 0);
    assert_int_equal(keys_remove(path, "bert", &e), ERR_NOT_FOUND);
    assert_int_equal(keys_open(&k, path, &e), 0);
    assert_int_equal(keys_find(k, anna)->tenant, tenant);
    keys_close(k);
}

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void what_a_file_may_be(void **state)
{
    static const struct {
        const char *text;
        int n; /* keys, or an error's code */
    } files[] = {
        {"", 0},
        {"# nobody\n\n", 0},
        {"a user " HASH "\nb admin " HASH " # b's\n", 2},
        {"a user " HASH, 1},
        {"a king " HASH "\n", ERR_FORMAT},
        {"a user 0123\n", ERR_FORMAT},
        {"a user " HASH " more\n", ERR_FORMAT},
        {"a\n", ERR_FORMAT},
        {"GGUF\x03", ERR_FORMAT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct keys *k;
        struct err e;
        write_file(files[i].text);
        int rc = keys_open(&k, path, &e);
        assert_int_equal(rc, files[i].n < 0 ? files[i].n : 0);
        if (rc) continue;
        assert_int_equal(keys_count(k), files[i].n);
        keys_close(k);
    }
}

static void names(void **state)
{
    static const char *const bad[] = {"", "a b", "#", "\n", "\xff"};
    char key[KEYS_TEXT], longest[KEYS_NAME_MAX + 2];
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(keys_add(path, bad[i], false, key, &e), ERR_USAGE);
    memset(longest, 'x', sizeof longest);
    longest[KEYS_NAME_MAX + 1] = 0;
    assert_int_equal(keys_add(path, longest, false, key, &e), ERR_USAGE);
    longest[KEYS_NAME_MAX] = 0;
    assert_int_equal(keys_add(path, longest, false, key, &e), 0);
    assert_int_equal(keys_add("/nowhere/keys", "a", false, key, &e), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(made_found_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_file_may_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
