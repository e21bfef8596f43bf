/* Writes small GGUF files (version 3, metadata only) in memory, for tests.
 *
 *     struct gguf_writer w = GGUF_WRITER_INIT;
 *     gguf_writer_str(&w, "general.architecture", "llama") ...
 *     gguf_writer_open(&w, &g, &e)         the file lives in memory, gguf_close(g) ends it
 *     gguf_writer_free(&w);
 */
#ifndef GGUF_WRITER_H
#define GGUF_WRITER_H

#include "buf.h"
#include "gguf.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct gguf_writer {
    struct buf body;
    uint64_t keys;
};

#define GGUF_WRITER_INIT ((struct gguf_writer){.body = BUF_INIT(1u << 30)})

static inline void gguf_writer__bytes(struct gguf_writer *w, const void *p, size_t n)
{
    uint64_t len = n;
    buf_put(&w->body, &len, 8);
    buf_put(&w->body, p, n);
}

static inline void gguf_writer__key(struct gguf_writer *w, const char *key, uint32_t type)
{
    gguf_writer__bytes(w, key, strlen(key));
    buf_put(&w->body, &type, 4);
    w->keys++;
}

static inline void gguf_writer__array(struct gguf_writer *w, const char *key, uint32_t item,
                                      size_t n)
{
    uint64_t count = n;
    gguf_writer__key(w, key, GGUF_ARR);
    buf_put(&w->body, &item, 4);
    buf_put(&w->body, &count, 8);
}

static inline void gguf_writer_str(struct gguf_writer *w, const char *key, const char *value)
{
    gguf_writer__key(w, key, GGUF_STR);
    gguf_writer__bytes(w, value, strlen(value));
}

static inline void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    gguf_writer__key(w, key, GGUF_U32);
    buf_put(&w->body, &value, 4);
}

static inline void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value)
{
    gguf_writer__key(w, key, GGUF_BOOL);
    buf_putc(&w->body, value);
}

static inline void gguf_writer_i32s(struct gguf_writer *w, const char *key, const int32_t *v,
                                    size_t n)
{
    gguf_writer__array(w, key, GGUF_I32, n);
    buf_put(&w->body, v, n * sizeof *v);
}

static inline void gguf_writer_f32s(struct gguf_writer *w, const char *key, const float *v,
                                    size_t n)
{
    gguf_writer__array(w, key, GGUF_F32, n);
    buf_put(&w->body, v, n * sizeof *v);
}

static inline void gguf_writer_strs(struct gguf_writer *w, const char *key,
                                    const struct gguf_str *v, size_t n)
{
    gguf_writer__array(w, key, GGUF_STR, n);
    for (size_t i = 0; i < n; i++) gguf_writer__bytes(w, v[i].p, v[i].n);
}

static inline int gguf_writer_open(const struct gguf_writer *w, struct gguf **out, struct err *e)
{
    char path[40];
    int fd = memfd_create("gguf", MFD_CLOEXEC);
    struct {
        char magic[4];
        uint32_t version;
        uint64_t tensors, keys;
    } head = {"GGUF", 3, 0, w->keys};
    assert(fd >= 0 && !w->body.failed);
    bool whole = write(fd, &head, sizeof head) == (ssize_t)sizeof head &&
                 write(fd, w->body.data, w->body.len) == (ssize_t)w->body.len;
    assert(whole);
    (void)whole;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int r = gguf_open(out, path, e);
    close(fd);
    return r;
}

static inline void gguf_writer_free(struct gguf_writer *w)
{
    buf_free(&w->body);
}

#endif
