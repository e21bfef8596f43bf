/* What is written is what gguf_open reads; what fails leaves nothing. */
#include "../support/oom.h"

#include "gguf.h"
#include "gguf_write.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/gguf_write.XXXXXX", file[200], part[220];

static bool there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static const float norm[5] = {1, -2, 3.5f, 0, 1e-30f};

static void describe(struct gguf_write *w)
{
    const char *const words[] = {"", "a", "\xe2\x96\x81the"};
    gguf_write_str(w, "general.architecture", "llama");
    gguf_write_u32(w, "llama.block_count", UINT32_MAX);
    gguf_write_f32(w, "llama.eps", 1e-5f);
    gguf_write_bool(w, "llama.causal", true);
    gguf_write_strs(w, "words", words, 3);
    gguf_write_i32s(w, "types", (const int32_t[]){-1, 7}, 2);
    gguf_write_f32s(w, "scores", (const float[]){-0.5f}, 1);
    gguf_write_bools(w, "pattern", (const bool[]){true, false, true}, 3);
    gguf_write_i32s(w, "empty", NULL, 0);
    assert_int_equal(gguf_write_tensor(w, "norm", QUANT_F32, 1, (const uint64_t[]){5}), 20);
    assert_int_equal(gguf_write_tensor(w, "w", QUANT_Q8_0, 3, (const uint64_t[]){64, 3, 2}), 408);
    assert_int_equal(gguf_write_tensor(w, "last", QUANT_F16, 2, (const uint64_t[]){1, 1}), 2);
}

static int write_file(bool force, size_t piece, struct err *e)
{
    struct gguf_write *w;
    uint8_t data[20 + 408 + 2];
    memcpy(data, norm, 20);
    for (int i = 20; i < 430; i++) data[i] = (uint8_t)i;
    if (gguf_write_open(&w, file, force, e)) return e->code;
    describe(w);
    int rc = gguf_write_start(w, e);
    for (size_t at = 0; at < sizeof data && !rc; at += piece)
        rc = gguf_write_data(w, data + at, sizeof data - at < piece ? sizeof data - at : piece, e);
    if (!rc) rc = gguf_write_commit(w, e);
    gguf_write_close(w);
    return rc;
}

static void check_file(void)
{
    struct gguf *g;
    struct err e;
    struct gguf_str s;
    uint32_t u;
    float f;
    bool b;
    if (gguf_open(&g, file, &e)) fail_msg("%s", e.msg);
    assert_int_equal(gguf_version(g), 3);
    assert_int_equal(gguf_kv_count(g), 9);
    assert_int_equal(gguf_file_bytes(g) % 32, 0);
    assert_true(gguf_string(g, "general.architecture", &s) && gguf_str_eq(s, "llama"));
    assert_true(gguf_u32(g, "llama.block_count", &u) && u == UINT32_MAX);
    assert_true(gguf_f32(g, "llama.eps", &f) && f == 1e-5f);
    assert_true(gguf_bool(g, "llama.causal", &b) && b);
    const struct gguf_kv *kv = gguf_find(g, "words");
    const uint8_t *at = kv->value;
    assert_int_equal(kv->count, 3);
    assert_true(gguf_str_eq(gguf_next_string(&at), "") && gguf_str_eq(gguf_next_string(&at), "a"));
    assert_true(gguf_str_eq(gguf_next_string(&at), "\xe2\x96\x81the"));
    assert_int_equal(gguf_item_i64(gguf_find(g, "types"), 0), -1);
    assert_true(gguf_item_f64(gguf_find(g, "scores"), 0) == -0.5);
    assert_int_equal(gguf_item_i64(gguf_find(g, "pattern"), 2), 1);
    assert_int_equal(gguf_find(g, "empty")->count, 0);
    const struct gguf_tensor *t = gguf_tensor(g, "norm");
    assert_memory_equal(t->data, norm, 20);
    t = gguf_tensor(g, "w");
    assert_int_equal(t->type, QUANT_Q8_0);
    assert_int_equal(t->n_dims, 3);
    assert_int_equal(t->dim[0] == 64 && t->dim[1] == 3 && t->dim[2] == 2, 1);
    for (int i = 0; i < 408; i++) assert_int_equal(t->data[i], (uint8_t)(20 + i));
    t = gguf_tensor(g, "last");
    assert_int_equal(t->data[0], 428 & 255);
    gguf_close(g);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct err e;
    static const size_t pieces[] = {1, 7, 20, 100, 1000};
    for (size_t i = 0; i < 5; i++) {
        if (write_file(true, pieces[i], &e)) fail_msg("%s", e.msg);
        check_file();
        assert_false(there(part));
    }
    unlink(file);
}

static void test_overwrite(void **state)
{
    (void)state;
    struct err e;
    struct gguf_write *w, *other;
    assert_int_equal(write_file(false, 100, &e), 0);
    assert_int_equal(write_file(false, 100, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "--force"));
    assert_false(there(part));
    assert_int_equal(write_file(true, 100, &e), 0);
    unlink(file);
    /* a file that appears while we write is kept as well */
    assert_int_equal(gguf_write_open(&w, file, false, &e), 0);
    assert_int_equal(gguf_write_start(w, &e), 0);
    assert_int_equal(gguf_write_open(&other, file, false, &e), ERR_IO);
    assert_non_null(strstr(e.msg, "another process"));
    assert_true(there(part));
    close(open(file, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(gguf_write_commit(w, &e), ERR_USAGE);
    gguf_write_close(w);
    struct stat st;
    assert_true(stat(file, &st) == 0 && st.st_size == 0);
    assert_false(there(part));
    unlink(file);
}

static void test_leaves_nothing(void **state)
{
    (void)state;
    struct err e;
    struct gguf_write *w;
    assert_int_equal(gguf_write_open(&w, file, false, &e), 0);
    describe(w);
    assert_int_equal(gguf_write_start(w, &e), 0);
    assert_true(there(part) && !there(file));
    gguf_write_close(w);
    assert_true(!there(part) && !there(file));
    assert_int_equal(gguf_write_open(&w, "/nowhere/at/all", false, &e), ERR_IO);
    /* the part of a process that was killed does no harm, a link in its place does not lead us away */
    int fd = open(part, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "garbage", 7), 7);
    close(fd);
    assert_int_equal(write_file(false, 100, &e), 0);
    check_file();
    unlink(file);
    assert_int_equal(symlink("/dev/null", part), 0);
    assert_int_equal(write_file(false, 100, &e), ERR_IO);
    unlink(part);
}

/* Wherever the disk is full, it is an error and nothing is left. */
static void test_full(void **state)
{
    (void)state;
    struct rlimit before, now;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t n = 0; n < 600; n += 37) {
        struct err e;
        now = (struct rlimit){n, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &now);
        int rc = write_file(false, 100, &e);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(rc, ERR_IO);
        assert_non_null(strstr(e.msg, "cannot write"));
        assert_true(!there(file) && !there(part));
    }
}

static void test_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    for (long n = 1;; n++) {
        struct err e;
        long alive = oom_alive;
        oom_after(n);
        int rc = write_file(true, 100, &e);
        bool hit = oom_hit();
        assert_int_equal(oom_alive, alive);
        assert_int_equal(rc, hit ? ERR_MEMORY : 0);
        if (!hit) break;
        assert_true(!there(file) && !there(part));
    }
    check_file();
    unlink(file);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(file, sizeof file, "%s/x.gguf", dir);
    snprintf(part, sizeof part, "%s.part", file);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_overwrite),
                                       cmocka_unit_test(test_leaves_nothing),
                                       cmocka_unit_test(test_full), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
