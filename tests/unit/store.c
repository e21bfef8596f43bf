/* The folder of models: what is listed, locked, published and removed, and what is left alone. */
#include "store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char base[64];
static struct store s;

static int setup(void **state)
{
    (void)state;
    struct err e;
    strcpy(base, "/tmp/solvent-store-XXXXXX");
    if (!mkdtemp(base)) return -1;
    setenv("XDG_DATA_HOME", base, 1);
    return store_open(&s, true, &e);
}

static int teardown(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", base);
    return system(cmd);
}

static void put(const char *file, size_t n)
{
    char path[STORE_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", s.dir, file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    while (n--) putc('x', f);
    fclose(f);
}

static bool exists(const char *file)
{
    char path[STORE_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", s.dir, file);
    return access(path, F_OK) == 0;
}

static void where(void **state)
{
    (void)state;
    struct store t;
    struct err e;
    char want[128];
    snprintf(want, sizeof want, "%s/solvent/models", base);
    assert_string_equal(s.dir, want);
    setenv("HOME", "/somewhere", 1);
    setenv("XDG_DATA_HOME", "relative/is/ignored", 1);
    assert_int_equal(store_open(&t, false, &e), 0);
    assert_string_equal(t.dir, "/somewhere/.local/share/solvent/models");
    setenv("XDG_DATA_HOME", "/dev/null", 1);
    assert_int_equal(store_open(&t, true, &e), ERR_IO);
    assert_non_null(strstr(e.msg, "/dev/null/solvent"));
    char deep[8192];
    memset(deep, 'a', sizeof deep);
    deep[0] = '/', deep[sizeof deep - 1] = 0;
    setenv("XDG_DATA_HOME", deep, 1);
    assert_int_equal(store_open(&t, false, &e), ERR_IO);
    setenv("XDG_DATA_HOME", base, 1);
    assert_true(store_free_bytes(&s) > 0);
}

static void list(void **state)
{
    (void)state;
    static const char *const ours[] = {"a", "b", "b", "c.d"};
    struct store_item *items;
    size_t n;
    struct err e;
    put("b.gguf", 10);
    put("b.part", 3);
    put("a.part", 5);
    put("c.d.gguf", 7);
    put("A.gguf", 1);
    put(".gguf", 1);
    put("notes.txt", 1);
    put("b.wheel", 1);
    char path[STORE_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/dir.gguf", s.dir);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(store_list(&s, &items, &n, &e), 0);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) assert_string_equal(items[i].name, ours[i]);
    assert_true(items[0].partial && !items[1].partial && items[2].partial);
    assert_int_equal(items[1].bytes, 10);
    assert_true(items[1].pulled_s > 0);
    free(items);
    int64_t bytes;
    assert_true(store_has(&s, "b", &bytes) && bytes == 10);
    assert_false(store_has(&s, "a", NULL));
    assert_false(store_has(&s, "dir", NULL));
}

static void removal(void **state)
{
    (void)state;
    struct err e;
    int64_t freed;
    put("x.gguf", 10);
    put("x.part", 5);
    put("x.wheel", 3);
    put("x.note", 2);
    put("xx.gguf", 1);
    assert_int_equal(store_remove(&s, "x", &freed, &e), 0);
    assert_int_equal(freed, 20);
    assert_false(exists("x.gguf") || exists("x.part") || exists("x.wheel") || exists("x.note"));
    assert_true(exists("xx.gguf"));
    assert_int_equal(store_remove(&s, "x", &freed, &e), ERR_NOT_FOUND);
}

static void links(void **state)
{
    (void)state;
    char target[128], path[STORE_PATH_MAX];
    struct err e;
    int64_t freed;
    int fd;
    snprintf(target, sizeof target, "%s/precious", base);
    FILE *f = fopen(target, "w");
    assert_non_null(f);
    fclose(f);
    store_path(&s, "l", ".gguf", path);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(store_remove(&s, "l", &freed, &e), 0);
    assert_int_equal(access(target, F_OK), 0);
    store_path(&s, "l", ".part", path);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(store_lock_part(&s, "l", false, &fd, &e), ERR_IO); /* not written through */
}

static void publish(void **state)
{
    (void)state;
    struct err e;
    int fd, other;
    int64_t freed;
    assert_int_equal(store_lock_part(&s, "m", false, &fd, &e), 0);
    assert_true(fd >= 0);
    assert_int_equal(store_lock_part(&s, "m", false, &other, &e), 0);
    assert_int_equal(other, -1);
    assert_int_equal(store_remove(&s, "m", &freed, &e), ERR_IO);
    assert_int_equal(write(fd, "GGUF", 4), 4);
    put("m.note", 1);
    pid_t waiter = fork();
    assert_true(waiter >= 0);
    if (waiter == 0) { /* waits, and must not get the published file for its own */
        struct stat st;
        close(fd);
        int rc = store_lock_part(&s, "m", true, &other, &e);
        _exit(rc == 0 && fstat(other, &st) == 0 && st.st_size == 0 && store_has(&s, "m", NULL) ? 0
                                                                                               : 1);
    }
    assert_int_equal(store_finish(&s, "m", fd, &e), 0);
    close(fd);
    int status;
    assert_int_equal(waitpid(waiter, &status, 0), waiter);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(store_has(&s, "m", NULL));
    assert_false(exists("m.note"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(where, setup, teardown),
        cmocka_unit_test_setup_teardown(list, setup, teardown),
        cmocka_unit_test_setup_teardown(removal, setup, teardown),
        cmocka_unit_test_setup_teardown(links, setup, teardown),
        cmocka_unit_test_setup_teardown(publish, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
