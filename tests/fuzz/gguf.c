/* Any bytes as a GGUF file. What is refused is refused with one clean line; what is accepted keeps
 * the promises of gguf.h: everything lies inside the file, names are unique and found again, tensors
 * are apart, and all of it can be read. */
#include "gguf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The mapped file; what the reader hands out must lie in it. */
static const char *base;
static size_t size;

static void find_base(const struct gguf *g, const uint8_t *data)
{
    if (gguf_kv_count(g))
        base = gguf_kv_at(g, 0)->key.p - 32; /* behind the header and the length */
    else if (gguf_tensor_count(g))
        base = gguf_tensor_at(g, 0)->name.p - 32;
    else
        return;
    assert(memcmp(base, data, size) == 0);
}

static void check_inside(const void *p, size_t n)
{
    size_t at = (size_t)((const char *)p - base);
    assert(at <= size && n <= size - at);
}

static void check_kv(const struct gguf *g, size_t i)
{
    const struct gguf_kv *kv = gguf_kv_at(g, i);
    char key[300];
    assert(kv->type < GGUF_TYPE_END && kv->item < GGUF_TYPE_END && kv->item != GGUF_ARR);
    assert(gguf_type_name(kv->type) && (kv->type == GGUF_ARR || kv->count == 1));
    if (kv->key.n < sizeof key && !memchr(kv->key.p, 0, kv->key.n)) {
        snprintf(key, sizeof key, "%.*s", (int)kv->key.n, kv->key.p);
        assert(gguf_find(g, key) == kv);
        uint32_t u;
        if (gguf_u32(g, key, &u)) assert(gguf_item_i64(kv, 0) == u);
    }
    check_inside(kv->key.p, kv->key.n);
    check_inside(kv->value, 0);
    const uint8_t *at = kv->value;
    for (uint64_t k = 0; k < kv->count; k++) {
        if (kv->item == GGUF_STR) {
            struct gguf_str s = gguf_next_string(&at);
            check_inside(s.p, s.n);
        } else {
            double f = gguf_item_f64(kv, k);
            int64_t n = gguf_item_i64(kv, k);
            check_inside(kv->value, (size_t)k + 1);
            if (kv->item != GGUF_F32 && kv->item != GGUF_F64 && kv->item != GGUF_U64)
                assert((double)n == f);
        }
    }
}

static void check_tensor(const struct gguf *g, size_t i)
{
    const struct gguf_tensor *t = gguf_tensor_at(g, i);
    char name[256];
    assert(t->n_dims >= 1 && t->n_dims <= 4 && t->name.n > 0 && t->name.n < sizeof name);
    if (!memchr(t->name.p, 0, t->name.n)) {
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        assert(gguf_tensor(g, name) == t);
    }
    check_inside(t->name.p, t->name.n);
    check_inside(t->data, t->bytes);
    size_t row = (size_t)t->dim[0] / quant_block(t->type) * quant_bytes(t->type);
    assert(row * t->dim[1] * t->dim[2] * t->dim[3] == t->bytes && t->bytes <= gguf_file_bytes(g));
    for (size_t k = 0; k < i; k++) {
        const struct gguf_tensor *o = gguf_tensor_at(g, k);
        assert(o->data + o->bytes <= t->data || t->data + t->bytes <= o->data);
    }
    float *out = malloc((size_t)t->dim[0] * sizeof *out);
    assert(out);
    quant_row_to_f32(t->type, t->data + t->bytes - row, out, (size_t)t->dim[0]);
    free(out);
}

static void check_refusal(const struct err *e)
{
    assert(e->code < 0 && e->msg[0]);
    for (const unsigned char *p = (const unsigned char *)e->msg; *p; p++)
        assert(*p >= 0x20 && *p != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char path[64];
    struct gguf *g;
    struct err e = {0};
    int fd = memfd_create("gguf", MFD_CLOEXEC);
    assert(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (gguf_open(&g, path, &e)) {
        check_refusal(&e);
    } else {
        size = gguf_file_bytes(g);
        assert(size == n);
        find_base(g, data);
        for (size_t i = 0; i < gguf_kv_count(g); i++) check_kv(g, i);
        for (size_t i = 0; i < gguf_tensor_count(g); i++) check_tensor(g, i);
        gguf_close(g);
    }
    close(fd);
    return 0;
}
