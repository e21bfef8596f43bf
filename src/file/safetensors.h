/* Tensors of a Hugging Face folder (format: github.com/huggingface/safetensors), read by mmap.
 *
 *     struct safetensors *s;
 *     if (safetensors_open(&s, "folder", &e)) ...     model.safetensors, or the files of its index
 *     const struct safetensors_tensor *t = safetensors_find(s, "model.norm.weight");
 *     safetensors_close(s);
 *
 * Everything is checked at the door: after safetensors_open every tensor lies inside its file, its
 * bytes are those of its shape, no two tensors of a file overlap, names are unique over all files.
 * The names of files in an index are names in its own folder, nothing else. Read-only after open:
 * any thread.
 */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "err.h"
#include "quant.h"
#include <stddef.h>
#include <stdint.h>

enum {
    SAFETENSORS_DIMS_MAX = 8,
    SAFETENSORS_HEADER_MAX = 100 << 20, /* bytes, as the original reader has it */
};

struct safetensors_tensor {
    const char *name;  /* NUL-terminated */
    const char *dtype; /* as the file writes it: "BF16" */
    uint32_t type;     /* QUANT_F32, QUANT_F16, QUANT_BF16; QUANT_TYPE_END: not one we convert */
    uint32_t n_dims;
    uint64_t dim[SAFETENSORS_DIMS_MAX]; /* dim[n_dims - 1] varies fastest; unused ones are 1 */
    const uint8_t *data;
    size_t bytes;
    size_t part; /* which of the files */
};

struct safetensors;

/* path: a folder or one file. */
ERR_DOOR int safetensors_open(struct safetensors **out, const char *path, struct err *e);
void safetensors_close(struct safetensors *s);

size_t safetensors_count(const struct safetensors *s);
const struct safetensors_tensor *safetensors_at(const struct safetensors *s, size_t i);
/* NULL when absent. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* Tells the system that a tensor's bytes were read and need not stay resident. */
void safetensors_forget(const struct safetensors *s, const struct safetensors_tensor *t);

#endif
