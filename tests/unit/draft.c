/* The draft model's cache and its guess: what is fed counts from where it was cut, the guess is the
 * likeliest token, a full context gives none, another vocabulary is refused. */
#include "draft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN(name) TEST_DATA "/golden/" name ".gguf"
enum { CTX = 32 };

static const int32_t ids[CTX] = {5, 9, 1, 7, 3, 8, 2, 6, 40, 41, 42, 43};

static struct engine *open_model(const char *path, int max_seqs)
{
    struct engine *en;
    struct err e;
    struct engine_opts o = {.threads = 1, .ctx = CTX, .max_seqs = max_seqs};
    if (engine_open(&en, path, &o, &e)) fail_msg("%s", e.msg);
    return en;
}

static void guesses_are_the_likeliest_tokens(void **state)
{
    struct engine *target = open_model(GOLDEN("llama_q4_0"), 1);
    struct engine *small = open_model(GOLDEN("llama_q2_k"), 2);
    struct draft d;
    struct err e;
    int32_t id = -1, again = -1;
    float lead = -1, lead_again = -1;
    (void)state;
    assert_int_equal(draft_init(&d, small, target, &e), 0);
    assert_true(draft_feed(&d, ids, 8, &id, &lead));
    assert_int_equal(draft_len(&d), 8);

    struct engine_slice s = {
        .seq = engine_seq_open(small), .tokens = ids, .n = 8, .want = ENGINE_LOGITS_LAST};
    assert_int_equal(engine_step(small, &s, 1, &e), 0);
    float next = -1e30f;
    for (int i = 0; i < engine_vocab(small); i++) {
        assert_true(s.logits[i] <= s.logits[id]);
        if (i != id && s.logits[i] > next) next = s.logits[i];
    }
    assert_true(lead == s.logits[id] - next);

    assert_true(draft_feed(&d, ids + 8, 4, &again, &lead_again)); /* another way, and back */
    draft_keep(&d, 20);
    assert_int_equal(draft_len(&d), 12);
    draft_keep(&d, 5);
    assert_int_equal(draft_len(&d), 5);
    assert_true(draft_feed(&d, ids + 5, 3, &again, &lead_again));
    assert_int_equal(again, id);
    assert_true(lead_again == lead);
    draft_free(&d);
    engine_close(small);
    engine_close(target);
}

static void a_full_context_gives_no_guess(void **state)
{
    struct engine *target = open_model(GOLDEN("llama_q4_0"), 1);
    struct engine *small = open_model(GOLDEN("llama_q4_0"), 1);
    struct draft d, second;
    struct err e;
    int32_t id = 77;
    float lead;
    (void)state;
    assert_int_equal(draft_init(&d, small, target, &e), 0);
    assert_int_equal(draft_init(&second, small, target, &e), ERR_LIMIT);
    assert_true(draft_feed(&d, ids, CTX - 1, &id, &lead));
    id = 77;
    assert_false(draft_feed(&d, ids, 2, &id, &lead));
    assert_int_equal(id, 77);
    assert_int_equal(draft_len(&d), CTX - 1);
    assert_true(draft_feed(&d, ids, 1, &id, &lead));
    assert_false(draft_feed(&d, ids, 1, &id, &lead));
    draft_free(&d);
    draft_free(&d); /* nothing more to free */
    assert_int_equal(engine_seq_open(small), 0);
    engine_close(small);
    engine_close(target);
}

static void another_vocabulary_is_refused(void **state)
{
    struct engine *target = open_model(GOLDEN("llama_q4_0"), 1);
    struct engine *small = open_model(GOLDEN("gemma3_q5_0"), 1);
    struct draft d;
    struct err e;
    (void)state;
    assert_int_equal(draft_init(&d, small, target, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "token"));
    assert_int_equal(engine_seq_open(small), 0);
    engine_close(small);
    engine_close(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_are_the_likeliest_tokens),
        cmocka_unit_test(a_full_context_gives_no_guess),
        cmocka_unit_test(another_vocabulary_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
