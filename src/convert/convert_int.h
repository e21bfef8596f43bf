/* What the files of the converter share.
 *
 *     convert.c     one run from open to commit; the values of each tensor on all threads
 *     config.c      the JSON files of the folder
 *     family.c      config.json -> dimensions and metadata
 *     tensors.c     which tensor of the folder becomes which of the file
 *     mix.c         which type each tensor gets
 *     vocab.c       tokenizer.json -> vocabulary; pre.c names its pre-tokenizer
 */
#ifndef CONVERT_INT_H
#define CONVERT_INT_H

#include "arena.h"
#include "buf.h"
#include "convert.h"
#include "gguf_write.h"
#include "safetensors.h"
#include <jansson.h>

enum convert__family {
    CONVERT__LLAMA = 1,
    CONVERT__QWEN2 = 2,
    CONVERT__QWEN3 = 4,
    CONVERT__GEMMA2 = 8,
    CONVERT__GEMMA3 = 16,
    CONVERT__BERT = 32,
    CONVERT__GEMMA = CONVERT__GEMMA2 | CONVERT__GEMMA3,
    CONVERT__DECODER = 31,
};

struct convert__dims {
    uint32_t layers, d, heads, kv_heads, d_head, ff, ctx, experts, experts_used;
    uint32_t vocab, types; /* rows of the embedding; of BERT's token types */
};

/* One tensor of the file. */
struct convert__tensor {
    char name[64];
    uint32_t type, n_dims;
    uint64_t dim[4];  /* as GGUF has it */
    uint64_t rows, k; /* of each source */
    uint32_t heads;   /* rows of each head go from halves to pairs; 0: as they are */
    float add;        /* to every value */
    const float *own; /* values computed here, instead of sources */
    uint32_t n_src;   /* several: experts, stacked */
    const struct safetensors_tensor **src;
};

struct convert {
    const struct convert_opts *opts;
    const char *dir;
    json_t *config;
    struct safetensors *st;
    struct gguf_write *w;
    struct arena arena;
    enum convert__family family;
    const char *arch;  /* of the keys */
    const char *model; /* the class in config.json */
    struct convert__dims dims;
    struct convert__tensor *tensors;
    size_t n, room;
};

void convert__note(const struct convert *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- config.c ---- */

/* The file `name` of the folder; *out NULL when it is absent and `must` is false. */
ERR_DOOR int convert__json(const char *dir, const char *name, bool must, json_t **out,
                           struct err *e);
/* The bytes of a small text file in out, or nothing when it is absent. */
ERR_DOOR int convert__text(const char *dir, const char *name, struct buf *out, struct err *e);
/* A member that is a number; absent where it is missing or null, an error where it is another kind
 * or outside min..max. */
ERR_DOOR int convert__u32(const json_t *j, const char *key, uint32_t absent, uint32_t min,
                          uint32_t max, uint32_t *out, struct err *e);
ERR_DOOR int convert__f32(const json_t *j, const char *key, double absent, double min, double max,
                          float *out, struct err *e);
/* A string, or NULL. */
const char *convert__str(const json_t *j, const char *key);

/* ---- family.c ---- */

/* Fills family, arch and dims but for vocab and types. */
ERR_DOOR int convert__dims_read(struct convert *c, struct err *e);
/* Metadata of the model. */
ERR_DOOR int convert__keys_write(struct convert *c, struct err *e);
/* [d_head / 2] factors of Llama 3's RoPE scaling, or *out NULL where the model has none. */
ERR_DOOR int convert__rope_factors(struct convert *c, const float **out, struct err *e);

/* ---- tensors.c, mix.c ---- */

ERR_DOOR int convert__tensors_plan(struct convert *c, struct err *e);
/* The number GGUF has for a mixture; an error for a name that is none. */
ERR_DOOR int convert__mix_find(const char *name, uint32_t *file_type, struct err *e);
/* Fills the type of every planned tensor. */
ERR_DOOR int convert__mix_apply(struct convert *c, struct err *e);

/* ---- vocab.c, pre.c ---- */

ERR_DOOR int convert__vocab_write(struct convert *c, struct err *e);
/* tokenizer.ggml.pre of a byte-level BPE tokenizer.json. */
ERR_DOOR int convert__pre_name(const json_t *tokenizer, const char **out, struct err *e);

#endif
