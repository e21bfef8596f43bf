/* Random growth and shrinking: pages are conserved, never shared, and follow from the length. */
#include "kv.h"

#include "rng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

enum { SEQS = 7, CTX = 300, TOKENS = 1000 };

static void check(const struct kv *kv)
{
    uint8_t seen[256] = {0};
    int held = 0;
    for (int s = 0; s < SEQS; s++) {
        const struct kv_seq *q = &kv->seqs[s];
        assert_int_equal(q->n_pages, kv_pages_of(q->len));
        for (int p = 0; p < q->n_pages; p++) seen[q->pages[p]]++;
        held += q->n_pages;
    }
    for (int i = 0; i < kv->n_free; i++) seen[kv->free_pages[i]]++;
    assert_int_equal(held + kv->n_free, kv->store.pages);
    for (int i = 0; i < kv->store.pages; i++) assert_int_equal(seen[i], 1);
}

static void pages_are_conserved(void **state)
{
    struct kv kv;
    struct err e;
    struct rng rng;
    struct nn_kv shape = {.layers = 2, .heads = 3, .d_head = 16};
    (void)state;
    rng_init(&rng, 7);
    assert_int_equal(kv_init(&kv, &shape, SEQS, CTX, TOKENS, 0, &e), 0);
    for (int i = 0; i < 20000; i++) {
        int s = (int)rng_below(&rng, SEQS), len = (int)rng_below(&rng, CTX + 1);
        if (len <= kv.seqs[s].len)
            kv_shrink(&kv, s, len);
        else if (kv_pages_of(len) - kv.seqs[s].n_pages <= kv.n_free)
            kv_grow(&kv, s, len);
        if (i % 64 == 0) check(&kv);
    }
    check(&kv);
    kv_free(&kv);
}

static void too_large_a_cache_is_refused(void **state)
{
    struct kv kv;
    struct err e;
    struct nn_kv shape = {.layers = 1024, .heads = 1024, .d_head = 512, .kind = KERN_KV_F32};
    (void)state;
    assert_int_equal(kv_init(&kv, &shape, 1, 1 << 24, 1 << 24, 0, &e), ERR_MEMORY);
    assert_non_null(strstr(e.msg, "KV cache"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_conserved),
        cmocka_unit_test(too_large_a_cache_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
