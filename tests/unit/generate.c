/* The loop of an answer over a scripted engine: this program defines engine_step and its fellows, so
 * the answer's tokens, the failures and the context's end fall where a test wants them. The
 * vocabulary is real: ids 0 to 255 are the bytes, one ends an answer.
 */
#include "generate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"
#include "../support/tok_vocab.h"

enum { FED_MAX = 4096 };

/* Of the engine: what it holds, what comes next. */
static struct {
    struct tok *tok;
    int ctx, vocab, end;
    int32_t held[FED_MAX];
    int len, steps, computed;
    int fail_at;       /* the step that fails, counted from 1; 0: none */
    const char *reply; /* the answer's bytes, a token each */
    int replied;
    float logits[TOK_VOCAB_MAX];
} fake;

void engine_info(const struct engine *en, struct engine_info *info)
{
    (void)en;
    *info = (struct engine_info){.ctx = fake.ctx, .n_vocab = fake.vocab};
}

const struct tok *engine_tok(const struct engine *en)
{
    (void)en;
    return fake.tok;
}

int engine_vocab(const struct engine *en)
{
    (void)en;
    return fake.vocab;
}

int engine_seq_open(struct engine *en)
{
    (void)en;
    return 0;
}

void engine_seq_close(struct engine *en, int seq)
{
    (void)en, (void)seq;
}

int engine_seq_len(const struct engine *en, int seq)
{
    (void)en, (void)seq;
    return fake.len;
}

void engine_seq_truncate(struct engine *en, int seq, int n)
{
    (void)en, (void)seq;
    assert_in_range(n, 0, fake.len);
    fake.len = n;
}

static int32_t byte_id(char c)
{
    return (unsigned char)c;
}

/* The logits want the reply's next byte, the end token after the last ('z' where that is
 * forbidden); at '!' they are broken. */
static void next_logits(void)
{
    const char *r = fake.reply + fake.replied;
    for (int i = 0; i < fake.vocab; i++) fake.logits[i] = *r == '!' ? NAN : -5;
    if (*r && *r != '!') fake.logits[byte_id(*r)] = 4;
    if (!*r) fake.logits[fake.end] = 5, fake.logits[byte_id('z')] = 3;
    fake.replied += *r != 0;
}

int engine_step(struct engine *en, struct engine_slice *s, int n, struct err *e)
{
    (void)en;
    assert_int_equal(n, 1);
    assert_in_range(s->n, 1, fake.ctx - fake.len);
    if (++fake.steps == fake.fail_at) return err_set(e, ERR_IO, "step %d", fake.steps);
    memcpy(fake.held + fake.len, s->tokens, (size_t)s->n * sizeof *s->tokens);
    fake.len += s->n;
    fake.computed += s->n;
    s->logits = NULL;
    if (s->want != ENGINE_LOGITS_LAST) return 0;
    next_logits();
    s->logits = fake.logits;
    return 0;
}

/* Of the test: what was shown. */
struct seen {
    char text[FED_MAX];
    size_t len;
    int calls, cancel_text_at, polls, cancel_poll_at, prefill_done, prefill_total, prefill_calls;
};

static bool on_text(void *arg, const char *p, size_t n)
{
    struct seen *s = arg;
    assert_true(n > 0 && s->len + n < sizeof s->text);
    memcpy(s->text + s->len, p, n);
    s->text[s->len += n] = 0;
    return ++s->calls != s->cancel_text_at;
}

static void on_prefill(void *arg, int done, int total)
{
    struct seen *s = arg;
    assert_true(done >= s->prefill_done && done <= total);
    s->prefill_done = done;
    s->prefill_total = total;
    s->prefill_calls++;
}

static bool on_poll(void *arg)
{
    struct seen *s = arg;
    return ++s->polls == s->cancel_poll_at;
}

static struct tok_ids held;
static struct seen seen;
static struct generate_opts opts;
static struct generate_result result;
static struct err err;

static int setup(void **state)
{
    (void)state;
    struct tok_vocab *v = calloc(1, sizeof *v);
    tok_vocab_bpe(v, "gpt-2");
    assert_int_equal(tok_vocab_open(v, &fake.tok, &err), 0);
    free(v);
    fake.end = tok_eos(fake.tok);
    fake.vocab = tok_size(fake.tok);
    fake.ctx = 64;
    fake.len = fake.steps = fake.computed = fake.fail_at = fake.replied = 0;
    assert_true(tok_is_end(fake.tok, fake.end));
    held = (struct tok_ids){0};
    seen = (struct seen){0};
    opts = (struct generate_opts){.sample = SAMPLE_DEFAULTS,
                                  .text = on_text,
                                  .prefill = on_prefill,
                                  .cancelled = on_poll,
                                  .arg = &seen};
    opts.sample.temp = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tok_close(fake.tok);
    tok_ids_free(&held);
    return 0;
}

static void held_is_what_the_sequence_holds(void)
{
    assert_int_equal(held.len, fake.len);
    assert_memory_equal(held.data, fake.held, held.len * sizeof *held.data);
}

static int run(const char *prompt, const char *reply)
{
    struct tok_ids ids = {0};
    fake.reply = reply;
    fake.replied = fake.computed = 0;
    seen.len = 0, seen.text[0] = 0, seen.calls = 0, seen.prefill_done = 0, seen.prefill_calls = 0;
    for (const char *p = prompt; *p; p++) {
        int32_t id = byte_id(*p);
        ids.data = realloc(ids.data, (ids.len + 1) * sizeof id);
        ids.data[ids.len++] = id;
    }
    int rc = generate(NULL, 0, &held, ids.data, (int)ids.len, &opts, &result, &err);
    tok_ids_free(&ids);
    held_is_what_the_sequence_holds();
    return rc;
}

static void test_answer(void **state)
{
    (void)state;
    assert_int_equal(run("question", "answer"), 0);
    assert_string_equal(seen.text, "answer");
    assert_int_equal(result.end, ANSWER_EOS);
    assert_int_equal(result.prompt_tokens, 8);
    assert_int_equal(result.cached_tokens, 0);
    assert_int_equal(result.output_tokens, 6);
    assert_int_equal(held.len, 8 + 6);
    assert_int_equal(seen.prefill_done, 8);
    assert_int_equal(seen.prefill_total, 8);
    assert_true(result.ttft_ns > 0 && result.prefill_ns > 0 && result.decode_ns > 0);
}

static void test_prefix_is_not_computed_again(void **state)
{
    (void)state;
    assert_int_equal(run("ab", "cd"), 0);
    assert_int_equal(run("abcdefgh", "ij"), 0);
    assert_int_equal(result.cached_tokens, 4);
    assert_int_equal(fake.computed, 4 + 2);
    assert_int_equal(run("abX", "y"), 0); /* another turn */
    assert_int_equal(result.cached_tokens, 2);
    assert_int_equal(fake.len, 4);
    assert_int_equal(run("ab", "y"), 0); /* all held: the last token is computed for its logits */
    assert_int_equal(result.cached_tokens, 1);
    assert_string_equal(seen.text, "y");
}

static void test_limits(void **state)
{
    (void)state;
    opts.max_tokens = 3;
    assert_int_equal(run("ab", "cdefgh"), 0);
    assert_string_equal(seen.text, "cde");
    assert_int_equal(result.end, ANSWER_LENGTH);
    assert_int_equal(held.len, 4); /* the last token is not computed: nothing follows it */
    opts.max_tokens = 0;
    fake.ctx = 6;
    assert_int_equal(run("ab", "cdefghijkl"), 0);
    assert_string_equal(seen.text, "cdefg");
    assert_int_equal(result.end, ANSWER_CONTEXT);
    assert_int_equal(run("abcdef", "ghi"), 0); /* as many as fit: one token can still follow */
    assert_string_equal(seen.text, "g");
    assert_int_equal(run("abcdefg", "h"), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "7 tokens"));
    assert_int_equal(run("", "h"), ERR_USAGE);
}

static void test_stop_strings_span_tokens(void **state)
{
    (void)state;
    const char *stops[] = {"STOP", "\n\n"};
    opts.stops = stops;
    opts.n_stops = 2;
    assert_int_equal(run("ab", "one\nSTO two STOP three"), 0);
    assert_string_equal(seen.text, "one\nSTO two ");
    assert_int_equal(result.end, ANSWER_STOP);
    assert_int_equal(run("ab", "begun ST"), 0); /* a beginning is shown when the end has come */
    assert_string_equal(seen.text, "begun ST");
    assert_int_equal(result.end, ANSWER_EOS);
    opts.n_stops = 1000;
    assert_int_equal(run("ab", "x"), ERR_LIMIT);
}

static void test_whole_characters(void **state)
{
    (void)state;
    assert_int_equal(run("ab", "\xe2\x82\xac\xf0\x9f\x98\x80"), 0);
    assert_string_equal(seen.text, "€😀");
    assert_int_equal(seen.calls, 2);
    assert_int_equal(run("ab", "x\xe2\x82"), 0); /* cut inside a character */
    assert_string_equal(seen.text, "x\xef\xbf\xbd");
}

static void test_cancel(void **state)
{
    (void)state;
    seen.cancel_text_at = 2;
    assert_int_equal(run("ab", "cdefgh"), 0);
    assert_string_equal(seen.text, "cd");
    assert_int_equal(result.end, ANSWER_CANCELLED);
    seen.cancel_text_at = 0;
    seen.polls = 0, seen.cancel_poll_at = 3; /* before the prefill, and before each token */
    assert_int_equal(run("abxy", "cdefgh"), 0);
    assert_string_equal(seen.text, "cd");
    assert_int_equal(result.end, ANSWER_CANCELLED);
    seen.polls = 0, seen.cancel_poll_at = 1;
    assert_int_equal(run("abxyz", "cdefgh"), 0);
    assert_int_equal(result.end, ANSWER_CANCELLED);
    assert_int_equal(result.output_tokens, 0);
    assert_int_equal(seen.calls, 0);
}

static void test_long_prompts_go_in_chunks(void **state)
{
    (void)state;
    char prompt[1301];
    memset(prompt, 'p', sizeof prompt - 1);
    prompt[sizeof prompt - 1] = 0;
    fake.ctx = 2000;
    assert_int_equal(run(prompt, "x"), 0);
    assert_int_equal(fake.steps, 3 + 1);
    assert_int_equal(seen.prefill_calls, 1 + 3);
    assert_int_equal(seen.prefill_done, 1300);
    seen.polls = 0, seen.cancel_poll_at = 2; /* between two chunks */
    prompt[0] = 'q';
    assert_int_equal(run(prompt, "x"), 0);
    assert_int_equal(result.end, ANSWER_CANCELLED);
    assert_int_equal(held.len, 512);
}

static void test_slide(void **state)
{
    (void)state;
    char reply[1001];
    for (int i = 0; i < 1000; i++) reply[i] = (char)('a' + i * 7 % 26);
    reply[1000] = 0;
    fake.ctx = 20;
    opts.slide = true;
    opts.keep = 3;
    opts.max_tokens = 990;
    assert_int_equal(run("XYZW", reply), 0);
    assert_int_equal(result.end, ANSWER_LENGTH);
    assert_int_equal(seen.len, 990);
    assert_memory_equal(seen.text, reply, 990);
    assert_in_range(held.len, 4, 20);
    assert_int_equal(held.data[0], byte_id('X'));
    assert_int_equal(held.data[2], byte_id('Z'));
    assert_int_not_equal(held.data[3], byte_id('W'));
    for (size_t i = 3; i < held.len; i++) /* the rest is the newest text */
        assert_int_equal(held.data[i], byte_id(seen.text[seen.len - 1 - held.len + i]));
}

static void test_slide_cuts_a_prompt(void **state)
{
    (void)state;
    fake.ctx = 10;
    opts.slide = true;
    opts.keep = 2;
    assert_int_equal(run("abcdefghijklmnopqrstuvwxyz", ""), 0);
    assert_int_equal(result.prompt_tokens, 2 + 4);
    const char *kept = "abwxyz";
    for (int i = 0; i < 6; i++) assert_int_equal(held.data[i], byte_id(kept[i]));
    fake.ctx = 2, fake.len = 0, held.len = 0;
    opts.keep = 100;
    opts.max_tokens = 5;
    assert_int_equal(run("abcdefg", "hijklmnopqrst"), 0);
    assert_int_equal(result.output_tokens, 5);
    fake.ctx = 1, fake.len = 0, held.len = 0;
    assert_int_equal(run("abcdefg", "hijklm"), ERR_LIMIT);
    assert_int_equal(run("a", "hijklmnopqrst"), 0);
    assert_int_equal(result.output_tokens, 5);
}

static void test_ignore_eos(void **state)
{
    (void)state;
    static const struct sample_bias bias[] = {{'z', 0}};
    opts.ignore_eos = true;
    opts.max_tokens = 6;
    opts.sample.bias = bias;
    opts.sample.n_bias = 1;
    assert_int_equal(run("ab", "cd"), 0);
    assert_string_equal(seen.text, "cdzzzz");
    assert_int_equal(result.end, ANSWER_LENGTH);
}

static void test_failures_leave_the_sequence_known(void **state)
{
    (void)state;
    opts.slide = true;
    fake.ctx = 12;
    for (int at = 1; at <= 38; at++) {
        fake.steps = 0;
        fake.fail_at = at;
        opts.max_tokens = 38;
        int rc = run("abcd", "efghijklmnopqrstuvwxyzefghijklmnopqrstuvwxyz"); /* checks held */
        assert_int_equal(rc, ERR_IO);
    }
    fake.fail_at = 0;
    assert_int_equal(run("abcd", "!"), ERR_FORMAT);
    assert_int_equal(run("abcd", "ok"), 0);
    assert_string_equal(seen.text, "ok");
    opts.sample.top_p = 2;
    assert_int_equal(run("abcd", "ok"), ERR_USAGE);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    static const char *stops[] = {"xyz"};
    int32_t prompt[2] = {byte_id('a'), byte_id('b')};
    opts.stops = stops, opts.n_stops = 1;
    opts.ignore_eos = true, opts.max_tokens = 4, opts.prefill = NULL;
    fake.reply = "cd";
    for (long n = 1;; n++) {
        long alive = oom_alive - (held.data != NULL);
        fake.replied = 0;
        oom_after(n);
        int rc = generate(NULL, 0, &held, prompt, 2, &opts, &result, &err);
        bool hit = oom_hit();
        assert_int_equal(oom_alive - (held.data != NULL), alive);
        assert_int_equal(rc, hit ? ERR_MEMORY : 0);
        if (!hit) break;
    }
}

static void test_dry_breakers(void **state)
{
    (void)state;
    int32_t *ids;
    int n, single = 0;
    assert_int_equal(generate_dry_breakers(fake.tok, &ids, &n, &err), 0);
    for (int i = 0; i < n; i++)
        for (const char *p = "\n:\"*"; *p; p++) single += ids[i] == byte_id(*p);
    assert_int_equal(single, 4);
    assert_true(n < 20);
    free(ids);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_answer),
        TEST(test_prefix_is_not_computed_again),
        TEST(test_limits),
        TEST(test_stop_strings_span_tokens),
        TEST(test_whole_characters),
        TEST(test_cancel),
        TEST(test_long_prompts_go_in_chunks),
        TEST(test_slide),
        TEST(test_slide_cuts_a_prompt),
        TEST(test_ignore_eos),
        TEST(test_failures_leave_the_sequence_known),
        TEST(test_out_of_memory),
        TEST(test_dry_breakers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
