/* An answer from logits that the test makes up: text, stop strings, limits, log-probabilities. On the
 * vocabulary of a tiny model. */
#include "answer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"

#define MODEL TEST_DATA "/golden/llama_q4_0.gguf"

static struct gguf *g;
static struct tok *t;
static float *logits;
static int vocab;

static int set_up(void **state)
{
    struct err e;
    (void)state;
    if (gguf_open(&g, MODEL, &e) || tok_open(&t, g, &e)) fail_msg("%s", e.msg);
    vocab = tok_size(t);
    logits = calloc((size_t)vocab, sizeof *logits);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(logits);
    tok_close(t);
    gguf_close(g);
    return 0;
}

static struct answer *open_answer(struct answer_opts o)
{
    struct answer *a;
    struct err e;
    o.sample = SAMPLE_DEFAULTS;
    o.sample.temp = 0;
    if (answer_open(&a, t, vocab, &o, NULL, 0, &e)) fail_msg("%s", e.msg);
    return a;
}

/* Says the tokens of a text one after the other; returns how it ended, what was said in `said`. */
static enum answer_end say(struct answer *a, const char *text, struct buf *said, bool then_end)
{
    struct tok_ids ids = {0};
    struct answer_next next = {0};
    struct err e;
    assert_int_equal(tok_encode(t, text, strlen(text), 0, &ids, &e), 0);
    for (size_t i = 0; i < ids.len + then_end && next.end == ANSWER_GOES_ON; i++) {
        int32_t id = i < ids.len ? ids.data[i] : tok_eos(t);
        logits[id] = 9;
        assert_int_equal(answer_next(a, logits, &next, &e), 0);
        assert_int_equal(next.id, id);
        logits[id] = 0;
        if (next.n) buf_put(said, next.text, next.n);
    }
    tok_ids_free(&ids);
    return next.end;
}

static void text_until_the_end(void **state)
{
    struct buf said = BUF_INIT(1000);
    struct answer *a = open_answer((struct answer_opts){0});
    (void)state;
    assert_int_equal(say(a, "Hello, world", &said, true), ANSWER_EOS);
    assert_string_equal(said.data + (said.data[0] == ' '), "Hello, world");
    answer_close(a);
    buf_free(&said);
}

static void a_stop_string_is_not_shown(void **state)
{
    const char *const stops[] = {"wor"};
    struct buf said = BUF_INIT(1000);
    struct answer *a = open_answer((struct answer_opts){.stops = stops, .n_stops = 1});
    (void)state;
    assert_int_equal(say(a, "Hello, world and more", &said, true), ANSWER_STOP);
    assert_non_null(strstr(said.data, "Hello, "));
    assert_null(strchr(said.data, 'w'));
    answer_close(a);
    buf_free(&said);
}

/* What was held back as the possible beginning of a stop string is shown when it turns out to be none. */
static void the_rest_is_shown(void **state)
{
    const char *const stops[] = {"world!"};
    struct buf said = BUF_INIT(1000);
    struct answer_next next;
    struct err e;
    struct answer *a = open_answer((struct answer_opts){.stops = stops, .n_stops = 1});
    (void)state;
    assert_int_equal(say(a, "Hello, world", &said, false), ANSWER_GOES_ON);
    assert_null(strstr(said.data, "world"));
    assert_int_equal(answer_cut(a, ANSWER_CONTEXT, &next, &e), 0);
    assert_int_equal(next.end, ANSWER_CONTEXT);
    buf_put(&said, next.text, next.n);
    assert_non_null(strstr(said.data, "Hello, world"));
    answer_close(a);
    buf_free(&said);
}

static void at_most_so_many_tokens(void **state)
{
    struct buf said = BUF_INIT(1000);
    struct answer *a = open_answer((struct answer_opts){.max_tokens = 3});
    (void)state;
    assert_int_equal(say(a, "one two three four five six", &said, true), ANSWER_LENGTH);
    assert_int_equal(answer_tokens(a), 3);
    answer_close(a);
    buf_free(&said);
}

static void log_probabilities(void **state)
{
    struct answer *a = open_answer((struct answer_opts){.logprobs = true, .top = 4});
    struct answer_next next;
    struct err e;
    double sum = 0;
    (void)state;
    for (int i = 0; i < vocab; i++) logits[i] = (float)(i * 7 % vocab) / 8;
    logits[5] = NAN;
    for (int i = 0; i < vocab; i++)
        if (i != 5) sum += exp((double)logits[i]);
    assert_int_equal(answer_next(a, logits, &next, &e), 0);
    assert_int_equal(next.n_top, 4);
    assert_int_equal(next.top[0].id, next.id);
    for (int i = 0; i < 4; i++) {
        assert_true(fabs((double)next.top[i].logprob - (double)logits[next.top[i].id] + log(sum)) <
                    1e-4);
        if (i) assert_true(next.top[i].logprob <= next.top[i - 1].logprob);
    }
    memset(logits, 0, (size_t)vocab * sizeof *logits);
    answer_close(a);
}

static void an_end_that_is_ignored(void **state)
{
    struct answer *a = open_answer((struct answer_opts){.ignore_eos = true});
    struct answer_next next;
    struct err e;
    (void)state;
    logits[tok_eos(t)] = 9;
    assert_int_equal(answer_next(a, logits, &next, &e), 0);
    assert_int_equal(next.end, ANSWER_GOES_ON);
    assert_int_not_equal(next.id, tok_eos(t));
    for (int i = 0; i < vocab; i++) logits[i] = NAN;
    assert_int_equal(answer_next(a, logits, &next, &e), ERR_FORMAT);
    memset(logits, 0, (size_t)vocab * sizeof *logits);
    answer_close(a);
}

/* What must come comes without logits; with logprobs or biases each token has its own. */
static void forced_tokens(void **state)
{
    struct grammar *gr;
    struct grammar_tokens *tokens;
    struct sample_bias bias = {5, 1};
    struct err e;
    (void)state;
    assert_int_equal(grammar_regex(&gr, "(a|b)cdefg(h|i)jk", 17, &e), 0);
    assert_int_equal(grammar_tokens_open(&tokens, t, &e), 0);
    for (int i = 0; i < 4; i++) {
        struct answer_opts o = {.sample = SAMPLE_DEFAULTS,
                                .grammar = gr,
                                .grammar_tokens = tokens,
                                .logprobs = i == 1,
                                .max_tokens = i == 3 ? 2 : 0};
        struct buf said = BUF_INIT(1000);
        struct answer_next next = {0};
        struct answer *a;
        int sampled = 0;
        if (i == 2) o.sample.bias = &bias, o.sample.n_bias = 1;
        assert_int_equal(answer_open(&a, t, vocab, &o, NULL, 0, &e), 0);
        while (next.end == ANSWER_GOES_ON) {
            bool forced = answer_forced(a);
            sampled += !forced;
            assert_int_equal(answer_next(a, forced ? NULL : logits, &next, &e), 0);
            buf_put(&said, next.text, next.n);
        }
        assert_false(answer_forced(a));
        if (i < 3) assert_int_equal(said.len, 9);
        if (i == 0) assert_true(sampled < answer_tokens(a));
        if (i == 1 || i == 2) assert_int_equal(sampled, answer_tokens(a));
        assert_int_equal(next.end, i == 3 ? ANSWER_LENGTH : ANSWER_EOS);
        if (i == 3) assert_int_equal(answer_tokens(a), 2);
        buf_free(&said);
        answer_close(a);
    }
    grammar_tokens_close(tokens);
    grammar_close(gr);
}

static void memory_that_runs_out(void **state)
{
    const char *const stops[] = {"x"};
    struct answer_opts o = {
        .sample = SAMPLE_DEFAULTS, .stops = stops, .n_stops = 1, .ignore_eos = true};
    struct answer *a = NULL;
    struct err e;
    (void)state;
    for (long n = 1; n < 100; n++) {
        long alive = oom_alive;
        oom_after(n);
        int rc = answer_open(&a, t, vocab, &o, NULL, 0, &e);
        bool hit = oom_hit();
        assert_int_equal(rc, hit ? ERR_MEMORY : 0);
        if (!rc) answer_close(a);
        assert_int_equal(oom_alive, alive);
        if (!hit) return;
    }
    fail_msg("it never had enough");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_until_the_end), cmocka_unit_test(a_stop_string_is_not_shown),
        cmocka_unit_test(the_rest_is_shown),  cmocka_unit_test(at_most_so_many_tokens),
        cmocka_unit_test(log_probabilities),  cmocka_unit_test(an_end_that_is_ignored),
        cmocka_unit_test(forced_tokens),      cmocka_unit_test(memory_that_runs_out),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
