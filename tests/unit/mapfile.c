/* Whole regular files, and nothing else, are mapped. */
#include "mapfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/solvent_mapfile_XXXXXX", file[64], fifo[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return 1;
    snprintf(file, sizeof file, "%s/file", dir);
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    return mkfifo(fifo, 0600);
}

static int tear_down(void **state)
{
    (void)state;
    unlink(file);
    unlink(fifo);
    return rmdir(dir);
}

static void fill(size_t n)
{
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++) putc((int)(i % 251), f);
    assert_int_equal(fclose(f), 0);
}

static void test_bytes(void **state)
{
    (void)state;
    struct mapfile m;
    struct err e;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 5 * page + 100;
    fill(n);
    assert_int_equal(mapfile_open(&m, file, &e), 0);
    assert_int_equal(m.size, n);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < n; i++) assert_int_equal(m.data[i], i % 251);
        mapfile_forget(&m, 0, n);
        mapfile_forget(&m, page - 1, 2);
        mapfile_forget(&m, 100, SIZE_MAX - 50);
        mapfile_forget(&m, n + 1, 0);
    }
    mapfile_close(&m);
    assert_null(m.data);
    mapfile_close(&m);
    mapfile_close(NULL);
}

static void test_empty(void **state)
{
    (void)state;
    struct mapfile m;
    struct err e;
    fill(0);
    assert_int_equal(mapfile_open(&m, file, &e), 0);
    assert_null(m.data);
    assert_int_equal(m.size, 0);
    mapfile_close(&m);
}

static void test_refusals(void **state)
{
    (void)state;
    struct mapfile m;
    struct err e;
    assert_int_equal(mapfile_open(&m, dir, &e), ERR_IO);
    assert_non_null(strstr(e.msg, "is not a regular file"));
    assert_int_equal(mapfile_open(&m, fifo, &e), ERR_IO); /* and does not wait for a writer */
    assert_non_null(strstr(e.msg, "is not a regular file"));
    assert_int_equal(mapfile_open(&m, "/dev/zero", &e), ERR_IO);
    assert_int_equal(mapfile_open(&m, "/nowhere/at all", &e), ERR_IO);
    assert_non_null(strstr(e.msg, "'/nowhere/at all': No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
