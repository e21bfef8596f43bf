/* Any bytes as a safetensors file. What is refused is refused with one clean line; what is accepted keeps the
 * promises of safetensors.h: names are found again, tensors lie inside the file, hold the bytes of their shape, are
 * apart, and can be read. */
#include "safetensors.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void check_tensor(const struct safetensors *s, size_t i, const uint8_t *data, size_t n)
{
    const struct safetensors_tensor *t = safetensors_at(s, i);
    assert(safetensors_find(s, t->name) == t && t->name[0] && t->n_dims <= SAFETENSORS_DIMS_MAX);
    unsigned __int128 values = 1;
    for (int k = 0; k < SAFETENSORS_DIMS_MAX; k++) values *= t->dim[k];
    assert(t->bytes <= n && t->bytes % (size_t)values == 0 && t->bytes / (size_t)values <= 8);
    if (i > 0) {
        const struct safetensors_tensor *before = t - 1;
        assert(before->data + before->bytes <= t->data);
    }
    if (t->type == QUANT_TYPE_END) return;
    assert(t->bytes == (size_t)values * quant_bytes(t->type));
    /* Its bytes are some of the file's: reading them would fault if they lay outside. */
    float last;
    quant_row_to_f32(t->type, t->data + t->bytes - quant_bytes(t->type), &last, 1);
    assert(memmem(data, n, t->data, t->bytes < 64 ? t->bytes : 64));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char path[64];
    struct safetensors *s;
    struct err e = {0};
    int fd = memfd_create("safetensors", MFD_CLOEXEC);
    assert(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (safetensors_open(&s, path, &e)) {
        assert(e.code < 0 && e.msg[0]);
        for (const unsigned char *p = (const unsigned char *)e.msg; *p; p++)
            assert(*p >= 0x20 && *p != 0x7f);
    } else {
        for (size_t i = 0; i < safetensors_count(s); i++) check_tensor(s, i, data, n);
        safetensors_close(s);
    }
    close(fd);
    return 0;
}
