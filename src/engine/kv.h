/* Pages of the KV cache: which sequence holds which.
 *
 *     kv_init(&kv, ...); kv_grow(&kv, seq, tokens); kv_shrink(...); kv_free(&kv);
 *
 * Invariant: free + held = own pages. The engine's thread only.
 */
#ifndef KV_H
#define KV_H

#include "err.h"
#include "nn.h"
#include <stdbool.h>

struct kv_seq {
    bool open;
    int len; /* tokens */
    int n_pages;
    int32_t *pages; /* [pages_max] */
};

struct kv {
    struct nn_kv store;
    int n_seqs, pages_max; /* of one sequence */
    struct kv_seq *seqs;   /* [n_seqs] */
    int32_t *free_pages;
    int n_free;
    size_t bytes;
};

/* shape: layers, heads, d_head, kind; its data and pages are set here. others: pages before those of the
 * sequences, which are never handed out here. */
ERR_DOOR int kv_init(struct kv *kv, const struct nn_kv *shape, int n_seqs, int ctx, int tokens,
                     int others, struct err *e);
void kv_free(struct kv *kv);
int kv_pages_of(int tokens);
/* Pages for `tokens` tokens in all; the caller has checked that enough are free. */
void kv_grow(struct kv *kv, int seq, int tokens);
void kv_shrink(struct kv *kv, int seq, int tokens);

#endif
