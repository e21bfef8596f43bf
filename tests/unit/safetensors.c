/* Folders and files made here: what is read, what is refused and how it is named, and memory that runs out at
 * every place. */
#include "../support/oom.h"

#include "safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/safetensors.XXXXXX";

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put_raw(const char *name, const void *p, size_t n)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A file of this header and n_data bytes 0, 1, 2 ... */
static void put(const char *name, const char *header, size_t n_data)
{
    uint8_t bytes[4096];
    uint64_t n = strlen(header);
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, n);
    for (size_t i = 0; i < n_data; i++) bytes[8 + n + i] = (uint8_t)i;
    put_raw(name, bytes, 8 + n + n_data);
}

#define TWO                                                                            \
    "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3]," \
    "\"data_offsets\":[4,16]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"

static void test_reads(void **state)
{
    (void)state;
    struct safetensors *s;
    struct err e;
    put("two", TWO, 16);
    assert_int_equal(safetensors_open(&s, path_of("two"), &e), 0);
    assert_int_equal(safetensors_count(s), 2);
    assert_string_equal(safetensors_at(s, 0)->name, "a");
    const struct safetensors_tensor *b = safetensors_find(s, "b");
    assert_ptr_equal(b, safetensors_at(s, 1));
    assert_int_equal(b->type, QUANT_BF16);
    assert_string_equal(b->dtype, "BF16");
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->dim[0], 2);
    assert_int_equal(b->dim[1], 3);
    assert_int_equal(b->dim[2], 1);
    assert_int_equal(b->bytes, 12);
    assert_int_equal(b->data[0], 4);
    assert_int_equal(b->data[11], 15);
    assert_null(safetensors_find(s, "__metadata__"));
    safetensors_forget(s, b);
    assert_int_equal(b->data[11], 15);
    safetensors_close(s);
}

static void refuse(const char *header, size_t n_data, int code, const char *word)
{
    struct safetensors *s;
    struct err e = {0};
    put("bad", header, n_data);
    assert_int_equal(safetensors_open(&s, path_of("bad"), &e), code);
    if (!strstr(e.msg, word)) fail_msg("\"%s\" lacks \"%s\"", e.msg, word);
}

static void test_refuses(void **state)
{
    (void)state;
    struct safetensors *s;
    struct err e;
#define ONE(dtype, shape, offsets) \
    "{\"w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    refuse(ONE("\"F32\"", "[2]", "[0,4]"), 8, ERR_FORMAT,
           "tensor w has 4 bytes, its shape wants 8");
    refuse(ONE("\"F32\"", "[2]", "[4,12]"), 8, ERR_FORMAT, "tensor w lies outside the file");
    refuse(ONE("\"F32\"", "[2]", "[8,0]"), 8, ERR_FORMAT, "tensor w lies outside the file");
    refuse(ONE("\"F32\"", "[2]", "[-8,0]"), 8, ERR_FORMAT, "tensor w lies outside the file");
    refuse(ONE("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8, ERR_FORMAT,
           "larger than its file");
    refuse(ONE("\"F32\"", "[-2]", "[0,8]"), 8, ERR_FORMAT, "dimension 0");
    refuse(ONE("\"F32\"", "[2,0]", "[0,0]"), 8, ERR_FORMAT, "dimension 1");
    refuse(ONE("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 8, ERR_FORMAT, "shape");
    refuse(ONE("\"F32\"", "7", "[0,4]"), 8, ERR_FORMAT, "shape");
    refuse(ONE("\"F31\"", "[2]", "[0,8]"), 8, ERR_UNSUPPORTED,
           "tensor w is of the unknown type F31");
    refuse(ONE("7", "[2]", "[0,8]"), 8, ERR_UNSUPPORTED, "unknown type");
    refuse("{\"w\":3}", 8, ERR_UNSUPPORTED, "tensor w");
    refuse("[]", 8, ERR_FORMAT, "no JSON object");
    refuse("{\"w\":", 8, ERR_FORMAT, "no JSON");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}",
           8, ERR_FORMAT, "a and b overlap");
    uint64_t n = 9;
    put_raw("short", &n, 8);
    assert_int_equal(safetensors_open(&s, path_of("short"), &e), ERR_FORMAT);
    put_raw("short", &n, 5);
    assert_int_equal(safetensors_open(&s, path_of("short"), &e), ERR_FORMAT);
    n = UINT64_MAX;
    put_raw("short", &n, 8);
    assert_int_equal(safetensors_open(&s, path_of("short"), &e), ERR_LIMIT);
    assert_int_equal(safetensors_open(&s, path_of("none"), &e), ERR_IO);
}

static void open_index(const char *index, int code, const char *word)
{
    struct safetensors *s;
    struct err e = {0};
    put_raw("model.safetensors.index.json", index, strlen(index));
    assert_int_equal(safetensors_open(&s, dir, &e), code);
    if (code) {
        if (!strstr(e.msg, word)) fail_msg("\"%s\" lacks \"%s\"", e.msg, word);
        return;
    }
    assert_int_equal(safetensors_count(s), 3);
    assert_int_equal(safetensors_find(s, "c")->part, 1);
    safetensors_close(s);
}

static void test_parts(void **state)
{
    (void)state;
    put("one", TWO, 16);
    put("other", "{\"c\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[0,2]}}", 2);
    put("again", "{\"a\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[0,2]}}", 2);
    open_index("{\"weight_map\":{\"a\":\"one\",\"b\":\"one\",\"c\":\"other\"}}", 0, "");
    open_index("{\"weight_map\":{\"a\":\"one\",\"c\":\"one\"}}", ERR_FORMAT,
               "one lacks the tensor c");
    open_index("{\"weight_map\":{\"c\":\"one\",\"a\":\"other\"}}", ERR_FORMAT, "lacks the tensor");
    open_index("{\"weight_map\":{\"b\":\"one\",\"a\":\"again\"}}", ERR_FORMAT,
               "a stands in two files");
    open_index("{\"weight_map\":{\"a\":\"../one\"}}", ERR_FORMAT, "no name of a file");
    open_index("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", ERR_FORMAT, "no name of a file");
    open_index("{\"weight_map\":{\"a\":3}}", ERR_FORMAT, "no name of a file");
    open_index("{\"weight_map\":{}}", ERR_FORMAT, "names no file");
    open_index("{}", ERR_FORMAT, "names no file");
    open_index("nonsense", ERR_FORMAT, "no JSON");
    unlink(path_of("model.safetensors.index.json"));
}

static void test_memory(void **state)
{
    (void)state;
    struct safetensors *s;
    struct err e;
    if (!OOM_WORKS) skip();
    put("two", TWO, 16);
    char path[200];
    snprintf(path, sizeof path, "%s", path_of("two"));
    for (long n = 1;; n++) {
        long alive = oom_alive;
        oom_after(n);
        int rc = safetensors_open(&s, path, &e);
        bool hit = oom_hit();
        if (!rc) safetensors_close(s);
        assert_int_equal(oom_alive, alive);
        if (!hit) {
            assert_int_equal(rc, 0);
            break;
        }
    }
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *const names[] = {"two", "bad", "short", "one", "other", "again"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(path_of(names[i]));
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reads), cmocka_unit_test(test_refuses),
                                       cmocka_unit_test(test_parts), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
