/* What a later process finds: the bytes, or nothing; never a half. */
#include "packfile.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { BYTES = 100000 };

static char dir[64], source[80];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/packfile-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(source, sizeof source, "%s/model", dir);
    strcat(dir, "/packs");
    return close(open(source, O_CREAT | O_WRONLY, 0600));
}

static int files(void)
{
    DIR *d = opendir(dir);
    int n = 0;
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return d ? n - 2 : 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[200];
    snprintf(command, sizeof command, "rm -r /tmp/%.*s", 15, dir + 5);
    return system(command);
}

/* Ids of the same tens are of the same file. */
static void open_pack(struct packfile *p, uint64_t id, size_t bytes)
{
    struct err e;
    struct packfile_key key = {id, id / 10, source};
    assert_int_equal(packfile_open(p, dir, &key, bytes, &e), 0);
    assert_non_null(p->data);
    assert_int_equal((uintptr_t)p->data % 4096, 0);
}

static void keep(uint64_t id)
{
    struct packfile p;
    open_pack(&p, id, BYTES);
    assert_false(p.found);
    memset(p.data, 7, BYTES);
    packfile_keep(&p, 42);
    assert_int_equal(p.data[BYTES - 1], 7);
    packfile_close(&p);
}

static bool finds(uint64_t id, size_t bytes)
{
    struct packfile p;
    open_pack(&p, id, bytes);
    bool found = p.found;
    if (found) assert_int_equal(p.sum, 42);
    if (found) assert_int_equal(p.data[0] + p.data[bytes - 1], 14);
    packfile_close(&p);
    return found;
}

static void test_kept(void **state)
{
    (void)state;
    keep(1);
    assert_int_equal(files(), 1);
    assert_true(finds(1, BYTES));
    assert_false(finds(2, BYTES));
    assert_false(finds(1, BYTES + 1));
    assert_int_equal(files(), 1); /* what was not completed is gone */
}

static void test_one_file_a_source(void **state)
{
    (void)state;
    keep(1);
    keep(2);
    assert_int_equal(files(), 2);
    keep(11);
    assert_int_equal(files(), 1);
    assert_true(finds(11, BYTES));
    unlink(source);
    packfile_sweep(dir);
    assert_int_equal(files(), 0);
}

static void path_of(uint64_t id, char *out, size_t room)
{
    snprintf(out, room, "%s/%016llx.pack", dir, (unsigned long long)id);
}

static void test_damage(void **state)
{
    (void)state;
    char path[120];
    path_of(1, path, sizeof path);
    for (int i = 0; i < 5; i++) {
        keep(1);
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        switch (i) {
        case 0: assert_int_equal(ftruncate(fd, BYTES), 0); break;
        case 1: assert_int_equal(ftruncate(fd, 100), 0); break;
        case 2: assert_int_equal(pwrite(fd, "x", 1, 9), 1); break;     /* the id */
        case 3: assert_int_equal(pwrite(fd, "xx", 2, 4136), 2); break; /* the header's sum */
        default: assert_int_equal(fchmod(fd, 0666), 0); break;
        }
        close(fd);
        assert_false(finds(1, BYTES));
        unlink(path);
    }
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(finds(1, BYTES));
    rmdir(path);
    assert_int_equal(symlink(source, path), 0);
    assert_false(finds(1, BYTES));
    unlink(path);
}

static void test_renew(void **state)
{
    (void)state;
    struct packfile p;
    struct err e;
    keep(1);
    open_pack(&p, 1, BYTES);
    assert_true(p.found);
    assert_int_equal(packfile_renew(&p, &e), 0);
    assert_false(p.found);
    memset(p.data, 7, BYTES);
    packfile_keep(&p, 42);
    packfile_close(&p);
    assert_true(finds(1, BYTES));
}

static void test_two_at_once(void **state)
{
    (void)state;
    struct packfile a;
    open_pack(&a, 1, BYTES);
    packfile_sweep(dir); /* leaves what is being filled */
    assert_int_equal(files(), 1);
    struct packfile b;
    open_pack(&b, 1, BYTES); /* the same name: this one is not kept */
    assert_false(b.found);
    memset(a.data, 7, BYTES);
    memset(b.data, 9, BYTES);
    packfile_keep(&b, 9);
    packfile_keep(&a, 42);
    packfile_close(&a);
    packfile_close(&b);
    assert_true(finds(1, BYTES));
}

static void test_without_a_folder(void **state)
{
    (void)state;
    struct packfile p;
    struct err e;
    struct packfile_key key = {1, 1, source};
    const char *no[] = {NULL, "", "/proc/none", source};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(packfile_open(&p, no[i], &key, BYTES, &e), 0);
        assert_false(p.found);
        memset(p.data, 1, BYTES);
        packfile_keep(&p, 1);
        packfile_close(&p);
    }
    packfile_sweep("/proc/none");
    assert_int_equal(packfile_open(&p, NULL, &key, (size_t)1 << 60, &e), ERR_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_file_a_source, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_renew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_folder, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
