/* A stack of free pages. Memory is reserved whole at start and touched only as pages fill. */
#include "kv.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

int kv_pages_of(int tokens)
{
    return (tokens + KERN_PAGE - 1) / KERN_PAGE;
}

int kv_init(struct kv *kv, const struct nn_kv *shape, int n_seqs, int ctx, int tokens, int others,
            struct err *e)
{
    *kv = (struct kv){.store = *shape, .n_seqs = n_seqs, .pages_max = kv_pages_of(ctx)};
    int pages = kv_pages_of(tokens) + n_seqs; /* a page each that is not full */
    kv->store.pages = pages + others;
    kv->bytes = nn_kv_page_bytes(&kv->store) * (size_t)kv->store.pages * (size_t)shape->layers;
    kv->seqs = calloc((size_t)n_seqs, sizeof *kv->seqs);
    kv->free_pages = malloc((size_t)pages * sizeof *kv->free_pages);
    void *data = mmap(NULL, kv->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    kv->store.data = data == MAP_FAILED ? NULL : data;
    if (kv->store.data) madvise(data, kv->bytes, MADV_HUGEPAGE);
    bool ok = kv->seqs && kv->free_pages && kv->store.data;
    for (int i = 0; ok && i < n_seqs; i++) {
        kv->seqs[i].pages = malloc((size_t)kv->pages_max * sizeof(int32_t));
        ok = kv->seqs[i].pages != NULL;
    }
    if (!ok) {
        kv_free(kv);
        return err_nomem(e, kv->bytes, "the KV cache");
    }
    for (int i = 0; i < pages; i++) kv->free_pages[i] = others + pages - 1 - i;
    kv->n_free = pages;
    return 0;
}

void kv_free(struct kv *kv)
{
    for (int i = 0; kv->seqs && i < kv->n_seqs; i++) free(kv->seqs[i].pages);
    free(kv->seqs);
    free(kv->free_pages);
    if (kv->store.data) munmap(kv->store.data, kv->bytes);
    *kv = (struct kv){.bytes = kv->bytes};
}

void kv_grow(struct kv *kv, int seq, int tokens)
{
    struct kv_seq *s = &kv->seqs[seq];
    while (s->n_pages < kv_pages_of(tokens)) {
        assert(kv->n_free > 0);
        s->pages[s->n_pages++] = kv->free_pages[--kv->n_free];
    }
    s->len = tokens;
}

void kv_shrink(struct kv *kv, int seq, int tokens)
{
    struct kv_seq *s = &kv->seqs[seq];
    while (s->n_pages > kv_pages_of(tokens)) kv->free_pages[kv->n_free++] = s->pages[--s->n_pages];
    s->len = tokens;
}
