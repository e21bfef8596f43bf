/* GGUF v2 and v3 files (specification: ggml/docs/gguf.md), read by mmap.
 *
 *     struct gguf *g;
 *     if (gguf_open(&g, path, &e)) ...
 *     gguf_u32(g, "llama.block_count", &n) ...
 *     const struct gguf_tensor *t = gguf_tensor(g, "token_embd.weight");
 *     gguf_close(g);
 *
 * Everything is checked at the door: after gguf_open every string, array and tensor lies inside its
 * file, types are known, sizes agree, names are unique, no two tensors overlap. A split model is
 * opened by any of its parts ("-00001-of-00003.gguf"); its tensors come from all of them.
 * Strings are borrowed from the file: not NUL-terminated. Read-only after open: any thread.
 */
#ifndef GGUF_H
#define GGUF_H

#include "err.h"
#include "mapfile.h"
#include "quant.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_str {
    const char *p;
    size_t n; /* bytes */
};

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STR,
    GGUF_ARR,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_END,
};

struct gguf_kv {
    struct gguf_str key;
    enum gguf_type type;
    enum gguf_type item;  /* of an array; arrays of arrays are refused */
    uint64_t count;       /* items of an array, else 1 */
    const uint8_t *value; /* raw bytes in the file, possibly unaligned */
};

struct gguf_tensor {
    struct gguf_str name;
    uint32_t type;   /* enum quant_type; never one we do not read */
    uint32_t n_dims; /* 1..4 */
    uint64_t dim[4]; /* dim[0] varies fastest (the row length); unused ones are 1 */
    const uint8_t *data;
    size_t bytes;
    uint32_t part; /* which file of a split model */
};

struct gguf;

const char *gguf_type_name(enum gguf_type type); /* "u8" ... "string", "array" */

ERR_DOOR int gguf_open(struct gguf **out, const char *path, struct err *e);
void gguf_close(struct gguf *g);

uint32_t gguf_version(const struct gguf *g);
size_t gguf_file_bytes(const struct gguf *g); /* all parts */
/* A number that changes when the files do: of their metadata and lists of tensors, and of inodes, sizes
 * and times of change. No tensor is read. */
uint64_t gguf_identity(const struct gguf *g);
size_t gguf_part_count(const struct gguf *g);
size_t gguf_kv_count(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i);
size_t gguf_tensor_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);

/* NULL when absent. */
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);

/* Each reads one value into *out and returns true; false (and *out untouched) when the key is
 * absent, of another kind, or out of the range of the result. Integers of every width are accepted
 * by the integer readers, F32 and F64 by gguf_f32. */
bool gguf_u32(const struct gguf *g, const char *key, uint32_t *out);
bool gguf_i32(const struct gguf *g, const char *key, int32_t *out);
bool gguf_f32(const struct gguf *g, const char *key, float *out);
bool gguf_bool(const struct gguf *g, const char *key, bool *out);
bool gguf_string(const struct gguf *g, const char *key, struct gguf_str *out);
bool gguf_str_eq(struct gguf_str s, const char *lit);

/* Walks the items of an array of strings: start with *at = kv->value, call count times. */
struct gguf_str gguf_next_string(const uint8_t **at);
/* Item i of an array or a scalar of numbers or booleans (i < count), as double or int64. What int64
 * cannot hold becomes its nearest value, NaN 0. */
double gguf_item_f64(const struct gguf_kv *kv, uint64_t i);
int64_t gguf_item_i64(const struct gguf_kv *kv, uint64_t i);

/* Tells the system that a tensor's bytes were read and need not stay resident. */
void gguf_forget(const struct gguf *g, const struct gguf_tensor *t);

#endif
