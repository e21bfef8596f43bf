/* Files made here byte by byte: what is in them comes back, and whatever is wrong with them is
 * refused with the object and the number. */
#include "gguf.h"

#include "../support/oom.h"
#include "buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/solvent_gguf_XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void save(const char *name, const void *p, size_t n)
{
    FILE *f = fopen(in_dir(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put32(struct buf *b, uint32_t v)
{
    buf_put(b, &v, 4);
}

static void put64(struct buf *b, uint64_t v)
{
    buf_put(b, &v, 8);
}

static void put_str(struct buf *b, const char *s)
{
    put64(b, strlen(s));
    buf_puts(b, s);
}

static void put_key(struct buf *b, const char *key, uint32_t type, const void *value, size_t n)
{
    put_str(b, key);
    put32(b, type);
    buf_put(b, value, n);
}

static void put_head(struct buf *b, uint32_t version, uint64_t tensors, uint64_t keys)
{
    buf_puts(b, "GGUF");
    put32(b, version);
    put64(b, tensors);
    put64(b, keys);
}

static void put_tensor(struct buf *b, const char *name, uint32_t dims, uint64_t d0, uint64_t d1,
                       uint32_t type, uint64_t offset)
{
    put_str(b, name);
    put32(b, dims);
    put64(b, d0);
    if (dims > 1) put64(b, d1);
    put32(b, type);
    put64(b, offset);
}

static void pad(struct buf *b, size_t align)
{
    while (b->len % align) buf_putc(b, 0);
}

/* Places in the file of sample(), for tests that break one. */
enum mark {
    AT_VERSION,
    AT_TENSORS,
    AT_KEYS,
    AT_KEY_LEN,
    AT_KEY_TYPE,
    AT_ALIGN,
    AT_BOOL,
    AT_STRING_LEN,
    AT_ITEM,
    AT_COUNT,
    AT_ARRAY_STRING_LEN,
    AT_BOOLS,
    AT_KEY_2,
    AT_NAME_LEN,
    AT_DIMS,
    AT_DIM0,
    AT_DIM1,
    AT_TYPE,
    AT_OFFSET,
    AT_NAME_2,
    AT_OFFSET_2,
    MARKS
};

struct sample {
    struct buf b;
    size_t at[MARKS];
};

static void sample_keys(struct sample *s)
{
    struct buf *b = &s->b;
    s->at[AT_KEY_LEN] = b->len;
    s->at[AT_KEY_TYPE] = b->len + 8 + strlen("general.alignment");
    s->at[AT_ALIGN] = s->at[AT_KEY_TYPE] + 4;
    put_key(b, "general.alignment", GGUF_U32, &(uint32_t){64}, 4);
    put_key(b, "u8", GGUF_U8, &(uint8_t){200}, 1);
    put_key(b, "i8", GGUF_I8, &(int8_t){-100}, 1);
    put_key(b, "u16", GGUF_U16, &(uint16_t){60000}, 2);
    put_key(b, "i16", GGUF_I16, &(int16_t){-30000}, 2);
    put_key(b, "u32", GGUF_U32, &(uint32_t){4000000000}, 4);
    put_key(b, "i32", GGUF_I32, &(int32_t){-2000000000}, 4);
    put_key(b, "f32", GGUF_F32, &(float){1.5f}, 4);
    put_key(b, "bool", GGUF_BOOL, "\1", 1);
    s->at[AT_BOOL] = b->len - 1;
    put_key(b, "u64", GGUF_U64, &(uint64_t){UINT64_MAX}, 8);
    put_key(b, "i64", GGUF_I64, &(int64_t){INT64_MIN}, 8);
    put_key(b, "f64", GGUF_F64, &(double){-1e300}, 8);
    put_key(b, "nan", GGUF_F64, &(uint64_t){0x7ff8000000000000}, 8);
    put_key(b, "inf", GGUF_F64, &(uint64_t){0x7ff0000000000000}, 8);
    put_key(b, "str", GGUF_STR, NULL, 0);
    s->at[AT_STRING_LEN] = b->len;
    put_str(b, "text");
    put_key(b, "strs", GGUF_ARR, &(uint32_t){GGUF_STR}, 4);
    s->at[AT_ITEM] = b->len - 4;
    s->at[AT_COUNT] = b->len;
    put64(b, 3);
    put_str(b, "a");
    s->at[AT_ARRAY_STRING_LEN] = b->len;
    put_str(b, "");
    put_str(b, "ccc");
    put_key(b, "i16s", GGUF_ARR, &(uint32_t){GGUF_I16}, 4);
    put64(b, 2);
    buf_put(b, (int16_t[]){7, -7}, 4);
    put_key(b, "bools", GGUF_ARR, &(uint32_t){GGUF_BOOL}, 4);
    put64(b, 2);
    s->at[AT_BOOLS] = b->len;
    buf_put(b, "\0\1", 2);
    s->at[AT_KEY_2] = b->len + 8;
    put_key(b, "none", GGUF_ARR, &(uint32_t){GGUF_F32}, 4);
    put64(b, 0);
}

enum { SAMPLE_KEYS = 19 };

/* A valid file with a key of every kind and two tensors, which ends with the last tensor. */
static void sample(struct sample *s)
{
    *s = (struct sample){.b = BUF_INIT(10000)};
    struct buf *b = &s->b;
    put_head(b, 3, 2, SAMPLE_KEYS);
    s->at[AT_VERSION] = 4;
    s->at[AT_TENSORS] = 8;
    s->at[AT_KEYS] = 16;
    sample_keys(s);
    s->at[AT_NAME_LEN] = b->len;
    s->at[AT_DIMS] = b->len + 8 + 1;
    s->at[AT_DIM0] = s->at[AT_DIMS] + 4;
    s->at[AT_DIM1] = s->at[AT_DIM0] + 8;
    s->at[AT_TYPE] = s->at[AT_DIM1] + 8;
    s->at[AT_OFFSET] = s->at[AT_TYPE] + 4;
    put_tensor(b, "a", 2, 32, 6, QUANT_Q8_0, 64);
    s->at[AT_NAME_2] = b->len + 8;
    put_tensor(b, "b", 1, 5, 0, QUANT_F32, 0);
    s->at[AT_OFFSET_2] = b->len - 8;
    pad(b, 64);
    for (float f = 0; f < 5; f++) buf_put(b, &f, 4);
    pad(b, 64);
    for (int i = 0; i < 34 * 6; i++) buf_putc(b, (char)i);
}

static int open_bytes(struct gguf **g, const struct buf *b, struct err *e)
{
    save("x.gguf", b->data, b->len);
    return gguf_open(g, in_dir("x.gguf"), e);
}

static void test_metadata(void **state)
{
    (void)state;
    struct sample s;
    struct gguf *g;
    struct err e;
    uint32_t u = 1;
    int32_t i = 1;
    float f = 1;
    bool flag = false;
    struct gguf_str str;
    sample(&s);
    assert_int_equal(open_bytes(&g, &s.b, &e), 0);
    assert_int_equal(gguf_version(g), 3);
    assert_int_equal(gguf_file_bytes(g), s.b.len);
    assert_int_equal(gguf_part_count(g), 1);
    assert_int_equal(gguf_kv_count(g), SAMPLE_KEYS);
    assert_true(gguf_str_eq(gguf_kv_at(g, 1)->key, "u8"));
    assert_false(gguf_str_eq(gguf_kv_at(g, 1)->key, "u"));

    assert_true(gguf_u32(g, "u8", &u) && u == 200);
    assert_true(gguf_u32(g, "u16", &u) && u == 60000);
    assert_true(gguf_u32(g, "u32", &u) && u == 4000000000);
    assert_true(gguf_i32(g, "i8", &i) && i == -100);
    assert_true(gguf_i32(g, "i16", &i) && i == -30000);
    assert_true(gguf_i32(g, "i32", &i) && i == -2000000000);
    assert_true(gguf_f32(g, "f32", &f) && f == 1.5f);
    assert_true(gguf_bool(g, "bool", &flag) && flag);
    assert_true(gguf_string(g, "str", &str) && gguf_str_eq(str, "text"));
    static const char *const not_u32[] = {"i8",  "u64",  "i64",  "f32",        "bool",
                                          "str", "strs", "i16s", "no such key"};
    for (size_t k = 0; k < sizeof not_u32 / sizeof *not_u32; k++) {
        u = 77;
        assert_false(gguf_u32(g, not_u32[k], &u));
        assert_int_equal(u, 77);
    }
    assert_false(gguf_i32(g, "u32", &i));
    assert_false(gguf_f32(g, "f64", &f)); /* beyond float */
    assert_false(gguf_f32(g, "u8", &f));
    assert_true(gguf_f32(g, "nan", &f) && f != f);
    assert_false(gguf_bool(g, "u8", &flag));
    assert_false(gguf_string(g, "strs", &str));
    gguf_close(g);
    gguf_close(NULL);
    buf_free(&s.b);
}

static void test_items(void **state)
{
    (void)state;
    struct sample s;
    struct gguf *g;
    struct err e;
    sample(&s);
    assert_int_equal(open_bytes(&g, &s.b, &e), 0);
    const struct gguf_kv *kv = gguf_find(g, "strs");
    const uint8_t *at = kv->value;
    assert_int_equal(kv->type, GGUF_ARR);
    assert_int_equal(kv->item, GGUF_STR);
    assert_int_equal(kv->count, 3);
    assert_true(gguf_str_eq(gguf_next_string(&at), "a"));
    assert_true(gguf_str_eq(gguf_next_string(&at), ""));
    assert_true(gguf_str_eq(gguf_next_string(&at), "ccc"));
    kv = gguf_find(g, "i16s");
    assert_int_equal(gguf_item_i64(kv, 1), -7);
    assert_true(gguf_item_f64(kv, 0) == 7);
    assert_int_equal(gguf_item_i64(gguf_find(g, "bools"), 1), 1);
    assert_int_equal(gguf_find(g, "none")->count, 0);
    assert_true(gguf_item_i64(gguf_find(g, "u64"), 0) == INT64_MAX);
    assert_true(gguf_item_f64(gguf_find(g, "u64"), 0) == 0x1p64);
    assert_true(gguf_item_i64(gguf_find(g, "i64"), 0) == INT64_MIN);
    assert_true(gguf_item_i64(gguf_find(g, "f64"), 0) == INT64_MIN);
    assert_true(gguf_item_f64(gguf_find(g, "f64"), 0) == -1e300);
    assert_int_equal(gguf_item_i64(gguf_find(g, "nan"), 0), 0);
    assert_true(gguf_item_i64(gguf_find(g, "inf"), 0) == INT64_MAX);
    assert_int_equal(gguf_item_i64(gguf_find(g, "f32"), 0), 1);
    assert_string_equal(gguf_type_name(GGUF_ARR), "array");
    gguf_close(g);
    buf_free(&s.b);
}

static void test_tensors(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct sample s;
        struct gguf *g;
        struct err e;
        sample(&s);
        memcpy(s.b.data + s.at[AT_VERSION], &version, 4);
        assert_int_equal(open_bytes(&g, &s.b, &e), 0);
        assert_int_equal(gguf_tensor_count(g), 2);
        const struct gguf_tensor *a = gguf_tensor(g, "a"), *b = gguf_tensor(g, "b");
        assert_ptr_equal(a, gguf_tensor_at(g, 0));
        assert_null(gguf_tensor(g, "c"));
        assert_int_equal(a->type, QUANT_Q8_0);
        assert_int_equal(a->n_dims, 2);
        assert_memory_equal(a->dim, ((uint64_t[]){32, 6, 1, 1}), 32);
        assert_int_equal(a->bytes, 34 * 6);
        assert_int_equal((uintptr_t)a->data % 64, 0);
        assert_int_equal(b->bytes, 20);
        for (int round = 0; round < 2; round++) {
            float f;
            for (int i = 0; i < 34 * 6; i++) assert_int_equal(a->data[i], i);
            memcpy(&f, b->data + 16, 4);
            assert_true(f == 4);
            gguf_forget(g, a);
            gguf_forget(g, b);
        }
        gguf_close(g);
        buf_free(&s.b);
    }
}

static void refused(const struct buf *b, const char *why)
{
    struct gguf *g;
    struct err e = {0};
    assert_true(open_bytes(&g, b, &e) < 0);
    assert_memory_equal(e.msg, "x.gguf: ", 8);
    if (!strstr(e.msg, why)) fail_msg("'%s' does not say '%s'", e.msg, why);
}

static const struct {
    enum mark at;
    int bytes;
    uint64_t value;
    const char *why;
} wrong[] = {
    {AT_VERSION, 4, 0, "version 0 is unknown"},
    {AT_VERSION, 4, 1, "version 1 is too old"},
    {AT_VERSION, 4, 4, "version 4 is unknown"},
    {AT_VERSION, 4, 0x03000000, "big-endian"},
    {AT_TENSORS, 8, 1u << 31, "2147483648 tensors do not fit"},
    {AT_TENSORS, 8, UINT64_MAX, "tensors do not fit"},
    {AT_TENSORS, 8, 3, "tensor 2 has a name of 0 bytes"},
    {AT_KEYS, 8, UINT64_MAX, "18446744073709551615 keys do not fit"},
    {AT_KEYS, 8, UINT64_C(1) << 60, "keys do not fit"},
    {AT_KEY_LEN, 8, 0, "name of 0 bytes"},
    {AT_KEY_LEN, 8, UINT64_MAX, "name of key 0 runs past the end"},
    {AT_KEY_TYPE, 4, GGUF_TYPE_END, "general.alignment has the unknown type 13"},
    {AT_KEY_TYPE, 4, UINT32_MAX, "unknown type 4294967295"},
    {AT_ALIGN, 4, 0, "general.alignment is not a power of 2"},
    {AT_ALIGN, 4, 4, "general.alignment is not a power of 2"},
    {AT_ALIGN, 4, 48, "general.alignment is not a power of 2"},
    {AT_ALIGN, 4, 1 << 17, "general.alignment is not a power of 2"},
    {AT_ALIGN, 4, UINT32_MAX, "general.alignment is not a power of 2"},
    {AT_ALIGN, 4, 128, "tensor a lies at 64, not a multiple of 128"},
    {AT_KEY_TYPE, 4, GGUF_F32, "general.alignment is not a power of 2"},
    {AT_BOOL, 1, 2, "bool: 2 is no truth value"},
    {AT_BOOLS, 1, 255, "bools: 255 is no truth value"},
    {AT_STRING_LEN, 8, UINT64_MAX, "str: string 0 runs past the end"},
    {AT_STRING_LEN, 8, UINT64_MAX - 7, "str: string 0 runs past the end"},
    {AT_ARRAY_STRING_LEN, 8, 5000, "strs: string 1 runs past the end"},
    {AT_ITEM, 4, GGUF_ARR, "strs is an array of arrays"},
    {AT_ITEM, 4, 13, "strs has the unknown type 13"},
    {AT_COUNT, 8, UINT64_MAX, "strs: 18446744073709551615 items do not fit"},
    {AT_COUNT, 8, UINT64_C(1) << 61, "strs: 2305843009213693952 items do not fit"},
    {AT_NAME_LEN, 8, 0, "name of 0 bytes"},
    {AT_NAME_LEN, 8, UINT64_MAX, "name of tensor 0 runs past the end"},
    {AT_NAME_LEN, 8, 256, "name of 256 bytes"},
    {AT_DIMS, 4, 0, "tensor a has 0 dimensions"},
    {AT_DIMS, 4, 5, "tensor a has 5 dimensions"},
    {AT_DIMS, 4, UINT32_MAX, "tensor a has 4294967295 dimensions"},
    {AT_DIM0, 8, 0, "tensor a has size 0 in dimension 0"},
    {AT_DIM1, 8, 0, "tensor a has size 0 in dimension 1"},
    {AT_DIM0, 8, 33, "tensor a has rows of 33 values, which blocks of 32 (q8_0) do not fill"},
    {AT_DIM0, 8, UINT64_C(1) << 62, "tensor a has more than 2^63 values"},
    {AT_DIM1, 8, UINT64_MAX, "tensor a has more than 2^63 values"},
    {AT_DIM1, 8, UINT64_C(1) << 57, "tensor a of 4611686018427387904 values is larger"},
    {AT_DIM1, 8, 7, "tensor a lies outside the file (238 bytes at 64"},
    {AT_TYPE, 4, 16, "tensor a has type 16 (iq2_xxs), which we do not read"},
    {AT_TYPE, 4, 38, "tensor a has type 38 (iq4_nl_8_8)"},
    {AT_TYPE, 4, 43, "tensor a has type 43 (unknown)"},
    {AT_TYPE, 4, UINT32_MAX, "tensor a has type 4294967295 (unknown)"},
    {AT_TYPE, 4, QUANT_Q4_K, "rows of 32 values, which blocks of 256 (q4_K) do not fill"},
    {AT_OFFSET, 8, 32, "tensor a lies at 32, not a multiple of 64"},
    {AT_OFFSET, 8, 128, "tensor a lies outside the file"},
    {AT_OFFSET, 8, UINT64_MAX - 63, "tensor a lies outside the file"},
    {AT_OFFSET, 8, 0, "overlap"},
    {AT_OFFSET_2, 8, 64, "overlap"},
    {AT_OFFSET_2, 8, 128, "tensors a and b overlap"},
    {AT_NAME_2, 1, 'a', "the tensor a stands there twice"},
    {AT_KEY_2, 4, 0x73727473 /* "strs" */, "the key strs stands there twice"},
};

static void test_one_wrong_number(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct sample s;
        sample(&s);
        memcpy(s.b.data + s.at[wrong[i].at], &wrong[i].value, (size_t)wrong[i].bytes);
        refused(&s.b, wrong[i].why);
        buf_free(&s.b);
    }
}

static void test_every_truncation(void **state)
{
    (void)state;
    struct sample s;
    sample(&s);
    for (size_t n = 0; n < s.b.len; n++) {
        struct buf cut = s.b;
        cut.len = n;
        refused(&cut, n == 0   ? "the file is empty"
                      : n < 4  ? "not a GGUF file"
                      : n < 24 ? "ends inside the header"
                               : "");
    }
    buf_free(&s.b);
}

static void test_other_files(void **state)
{
    (void)state;
    struct gguf *g;
    struct err e;
    assert_true(gguf_open(&g, in_dir("none.gguf"), &e) == ERR_IO);
    assert_true(gguf_open(&g, dir, &e) == ERR_IO);
    save("x.gguf", "ggml of old times", 17);
    assert_int_equal(gguf_open(&g, in_dir("x.gguf"), &e), ERR_FORMAT);
    assert_string_equal(e.msg, "x.gguf: this is not a GGUF file");
}

static void test_only_a_vocabulary(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    struct gguf *g;
    struct err e;
    put_head(&b, 3, 0, 0);
    assert_int_equal(open_bytes(&g, &b, &e), 0);
    assert_int_equal(gguf_kv_count(g), 0);
    assert_int_equal(gguf_tensor_count(g), 0);
    assert_null(gguf_find(g, "x"));
    assert_null(gguf_tensor(g, "x"));
    gguf_close(g);
    buf_free(&b);
}

static void test_string_at_the_end(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    struct gguf *g;
    struct err e;
    put_head(&b, 3, 0, 1);
    put_key(&b, "last", GGUF_STR, NULL, 0);
    size_t at = b.len;
    put_str(&b, "abc");
    assert_int_equal(open_bytes(&g, &b, &e), 0);
    gguf_close(g);
    b.data[at] = 4; /* one byte more than there is */
    refused(&b, "last: string 0 runs past the end");
    buf_free(&b);
}

/* Part no of count, one tensor called "t<no>" whose four bytes are no. */
static void save_part(const char *name, int no, int count, int total)
{
    struct buf b = BUF_INIT(10000);
    char tensor[8];
    put_head(&b, 3, 1, no ? 2 : 4);
    put_key(&b, "split.no", GGUF_U16, &(uint16_t){(uint16_t)no}, 2);
    put_key(&b, "split.count", GGUF_U16, &(uint16_t){(uint16_t)count}, 2);
    if (no == 0) {
        put_key(&b, "split.tensors.count", GGUF_I32, &(int32_t){total}, 4);
        put_key(&b, "name", GGUF_U8, "\7", 1);
    }
    snprintf(tensor, sizeof tensor, "t%d", no);
    put_tensor(&b, tensor, 1, 1, 0, QUANT_F32, 0);
    pad(&b, 32);
    put32(&b, (uint32_t)no);
    save(name, b.data, b.len);
    buf_free(&b);
}

static void save_three(void)
{
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "m-%05d-of-00003.gguf", i + 1);
        save_part(name, i, 3, 3);
    }
}

static void test_split(void **state)
{
    (void)state;
    save_three();
    for (int by = 1; by <= 3; by++) {
        struct gguf *g;
        struct err e;
        char name[32];
        uint32_t v;
        snprintf(name, sizeof name, "m-%05d-of-00003.gguf", by);
        assert_int_equal(gguf_open(&g, in_dir(name), &e), 0);
        assert_int_equal(gguf_part_count(g), 3);
        assert_int_equal(gguf_tensor_count(g), 3);
        assert_true(gguf_u32(g, "name", &v) && v == 7);
        for (uint32_t i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "t%u", i);
            const struct gguf_tensor *t = gguf_tensor(g, name);
            assert_non_null(t);
            assert_int_equal(t->part, i);
            memcpy(&v, t->data, 4);
            assert_int_equal(v, i);
            gguf_forget(g, t);
        }
        gguf_close(g);
    }
}

static void split_refused(const char *name, const char *why)
{
    struct gguf *g;
    struct err e;
    assert_true(gguf_open(&g, in_dir(name), &e) < 0);
    if (!strstr(e.msg, why)) fail_msg("'%s' does not say '%s'", e.msg, why);
}

static void test_bad_splits(void **state)
{
    (void)state;
    save_part("alone.gguf", 0, 3, 3);
    split_refused("alone.gguf", "part 1 of 3 must have a name that ends in -00001-of-00003.gguf");
    save_part("g", 0, 3, 3);
    split_refused("g", "must have a name that ends in");
    save_part("m-00001-of-00002.gguf", 1, 2, 2);
    split_refused("m-00001-of-00002.gguf", "part 2 of 2 must have a name");
    save_part("m-00001-of-00999.gguf", 0, 999, 999);
    split_refused("m-00001-of-00999.gguf", "split.count 999 (at most 512)");
    save_part("m-00004-of-00003.gguf", 3, 3, 3);
    split_refused("m-00004-of-00003.gguf", "split.no is 3, split.count 3");

    save_three();
    assert_int_equal(unlink(in_dir("m-00002-of-00003.gguf")), 0);
    split_refused("m-00001-of-00003.gguf", "m-00002-of-00003.gguf': No such file");
    save_part("m-00002-of-00003.gguf", 2, 3, 3);
    split_refused("m-00001-of-00003.gguf",
                  "m-00002-of-00003.gguf does not say that it is part 2 of 3");
    save_part("m-00002-of-00003.gguf", 1, 4, 3);
    split_refused("m-00001-of-00003.gguf", "does not say that it is part 2 of 3");
    save_three();
    save_part("m-00001-of-00003.gguf", 0, 3, 4);
    split_refused("m-00003-of-00003.gguf", "split.tensors.count is not the 3");
    save("m-00001-of-00003.gguf", "GGUF", 4);
    split_refused("m-00003-of-00003.gguf", "m-00001-of-00003.gguf: the file ends");
}

/* The same tensor in two parts */
static void test_split_twins(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(10000);
    save_part("w-00001-of-00002.gguf", 0, 2, 2);
    put_head(&b, 3, 1, 2);
    put_key(&b, "split.no", GGUF_U16, "\1\0", 2);
    put_key(&b, "split.count", GGUF_U16, "\2\0", 2);
    put_tensor(&b, "t0", 1, 1, 0, QUANT_F32, 0);
    pad(&b, 32);
    put32(&b, 1);
    save("w-00002-of-00002.gguf", b.data, b.len);
    buf_free(&b);
    split_refused("w-00001-of-00002.gguf",
                  "w-00002-of-00002.gguf: the tensor t0 stands there twice");
}

static void test_out_of_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    save_three();
    char path[200];
    snprintf(path, sizeof path, "%s", in_dir("m-00002-of-00003.gguf"));
    for (long n = 1;; n++) {
        struct gguf *g = NULL;
        struct err e;
        long alive = oom_alive;
        oom_after(n);
        int rc = gguf_open(&g, path, &e);
        if (!oom_hit()) {
            assert_int_equal(rc, 0);
            assert_true(n > 10);
            gguf_close(g);
            assert_int_equal(oom_alive, alive);
            return;
        }
        if (rc == 0)
            gguf_close(g); /* qsort does without */
        else
            assert_int_equal(rc, ERR_MEMORY);
        assert_int_equal(oom_alive, alive);
    }
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {
        "x.gguf",
        "alone.gguf",
        "g",
        "m-00001-of-00002.gguf",
        "m-00001-of-00999.gguf",
        "m-00004-of-00003.gguf",
        "m-00001-of-00003.gguf",
        "m-00002-of-00003.gguf",
        "m-00003-of-00003.gguf",
        "w-00001-of-00002.gguf",
        "w-00002-of-00002.gguf",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(in_dir(names[i]));
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_one_wrong_number),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_only_a_vocabulary),
        cmocka_unit_test(test_string_at_the_end),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_bad_splits),
        cmocka_unit_test(test_split_twins),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
