/* Writes a GGUF file (version 3; specification: ggml/docs/gguf.md).
 *
 *     struct gguf_write *w;
 *     if (gguf_write_open(&w, "model.gguf", force, &e)) ...
 *     gguf_write_str(w, "general.architecture", "llama"); ...          metadata
 *     gguf_write_tensor(w, "output_norm.weight", QUANT_F32, 1, dim);   in the order of their data
 *     if (gguf_write_start(w, &e)) ...
 *     if (gguf_write_data(w, p, n, &e)) ...      all bytes of all tensors in order, in any pieces
 *     if (gguf_write_commit(w, &e)) ...
 *     gguf_write_close(w);
 *
 * Bytes go to FILE.part, which gguf_write_commit brings to disk and gives its name: FILE is whole or
 * not there, whenever the process or the machine stops. gguf_write_close without a commit leaves
 * neither. Without force a FILE that exists is refused, at open and again at commit. A second writer
 * of the same FILE is refused while the first one is at work.
 * What metadata and tensors lack of memory, gguf_write_start tells. One thread; strings and keys are
 * copied; sizes are the caller's to get right (asserted).
 */
#ifndef GGUF_WRITE_H
#define GGUF_WRITE_H

#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_write;

ERR_DOOR int gguf_write_open(struct gguf_write **out, const char *path, bool force, struct err *e);
void gguf_write_close(struct gguf_write *w);

void gguf_write_u32(struct gguf_write *w, const char *key, uint32_t v);
void gguf_write_f32(struct gguf_write *w, const char *key, float v);
void gguf_write_bool(struct gguf_write *w, const char *key, bool v);
void gguf_write_str(struct gguf_write *w, const char *key, const char *v);
void gguf_write_i32s(struct gguf_write *w, const char *key, const int32_t *v, size_t n);
void gguf_write_f32s(struct gguf_write *w, const char *key, const float *v, size_t n);
void gguf_write_bools(struct gguf_write *w, const char *key, const bool *v, size_t n);
void gguf_write_strs(struct gguf_write *w, const char *key, const char *const *v, size_t n);

/* dim[0] varies fastest and is a multiple of quant_block(type); returns the bytes of the data. */
size_t gguf_write_tensor(struct gguf_write *w, const char *name, uint32_t type, uint32_t n_dims,
                         const uint64_t *dim);

ERR_DOOR int gguf_write_start(struct gguf_write *w, struct err *e);
ERR_DOOR int gguf_write_data(struct gguf_write *w, const void *p, size_t n, struct err *e);
ERR_DOOR int gguf_write_commit(struct gguf_write *w, struct err *e);

#endif
