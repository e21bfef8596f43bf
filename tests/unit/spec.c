/* Speculation changes nothing but the number of steps: answers of generate() with it and without it,
 * on the tiny models of tests/data/golden, whose answers repeat themselves soon. Prompts are random,
 * periodic, or copies of themselves; drafts come from the past, from the model itself as its own
 * draft model, and from one that knows nothing. */
#include "spec.h"

#include "cpu.h"
#include "generate.h"
#include "rng.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"
#include "../support/sanitizer.h"

#define GOLDEN(name) TEST_DATA "/golden/" name ".gguf"
enum { CTX = 160, PROMPT = 60, TEXT_MAX = 1 << 16 };

struct answer {
    char text[TEXT_MAX];
    size_t len;
    int32_t held[8 * CTX];
    size_t n_held;
    int cancel_at, calls, rc;
    struct generate_result r;
};

static struct engine *open_model(const char *path, struct engine_opts o)
{
    struct engine *en;
    struct err e;
    o.threads = 1;
    if (engine_open(&en, path, &o, &e)) fail_msg("%s: %s", path, e.msg);
    return en;
}

static struct spec *open_spec(struct engine *en, int tokens, struct engine *draft)
{
    struct spec *s;
    struct err e;
    struct spec_opts o = {tokens, draft};
    if (spec_open(&s, en, &o, &e)) fail_msg("%s", e.msg);
    return s;
}

static bool on_text(void *arg, const char *p, size_t n)
{
    struct answer *a = arg;
    assert_true(a->len + n < sizeof a->text);
    memcpy(a->text + a->len, p, n);
    a->text[a->len += n] = 0;
    return ++a->calls != a->cancel_at;
}

/* Of an empty sequence, which it leaves empty. */
static void ask(struct engine *en, int seq, const int32_t *prompt, int n, struct generate_opts o,
                struct spec *spec, struct answer *a)
{
    struct tok_ids held = {0};
    struct err e;
    a->len = 0, a->calls = 0, a->text[0] = 0;
    o.text = on_text;
    o.arg = a;
    o.spec = spec;
    a->rc = generate(en, seq, &held, prompt, n, &o, &a->r, &e);
    assert_int_equal(engine_seq_len(en, seq), held.len);
    assert_true(held.len <= sizeof a->held / sizeof *a->held);
    if (held.len) memcpy(a->held, held.data, held.len * sizeof *held.data);
    a->n_held = held.len;
    tok_ids_free(&held);
    engine_seq_truncate(en, seq, 0);
}

static void same(const struct answer *a, const struct answer *b)
{
    assert_int_equal(a->rc, b->rc);
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->text, b->text, a->len);
    assert_int_equal(a->n_held, b->n_held);
    assert_memory_equal(a->held, b->held, a->n_held * sizeof *a->held);
    assert_int_equal(a->r.end, b->r.end);
    assert_int_equal(a->r.prompt_tokens, b->r.prompt_tokens);
    assert_int_equal(a->r.output_tokens, b->r.output_tokens);
}

/* kind 0: random; 1: a period of 1 to 9 tokens; 2: the second half is nearly the first. */
static int make_prompt(struct rng *r, int kind, int vocab, int32_t *prompt)
{
    int n = 1 + (int)rng_below(r, PROMPT), period = 1 + (int)rng_below(r, 9);
    for (int i = 0; i < n; i++) {
        prompt[i] = (int32_t)rng_below(r, (uint64_t)vocab);
        if (kind == 1 && i >= period) prompt[i] = prompt[i - period];
        if (kind == 2 && i >= n / 2 && rng_below(r, 8)) prompt[i] = prompt[i - n / 2];
    }
    return n;
}

static struct generate_opts greedy(void)
{
    struct generate_opts o = {.sample = SAMPLE_DEFAULTS, .max_tokens = 90, .ignore_eos = true};
    o.sample.temp = 0;
    return o;
}

/* Greedy, sampled, and every sampler that remembers what was said. */
static struct generate_opts samplers(int i)
{
    struct generate_opts o = greedy();
    o.sample.temp = i == 0 ? 0 : 0.3f;
    o.sample.seed = (uint64_t)i;
    if (i == 2) o.sample.temp = 1.5f;
    if (i == 3) o.sample.repeat_penalty = 1.1f, o.sample.frequency_penalty = 0.02f;
    if (i == 4) o.sample.mirostat = 2;
    if (i == 5) o.sample.dry_multiplier = 0.3f, o.sample.dry_allowed_length = 4;
    if (i == 6) o.sample.top_k = 2, o.ignore_eos = false;
    return o;
}
enum { SAMPLERS = 7 };

static void answers_are_plain(const char *cpu, int n_models)
{
    static const char *models[] = {GOLDEN("mixtral_2024"),   GOLDEN("llama_q4_0"),
                                   GOLDEN("gemma3_pattern"), GOLDEN("qwen2_q4_k_m"),
                                   GOLDEN("gemma2_q6_k"),    GOLDEN("mistral_bf16")};
    static const int drafted[] = {SPEC_AUTO, 1, 4, SPEC_MAX};
    static struct answer plain, ours;
    struct rng r;
    rng_init(&r, 6);
    for (int m = 0; m < n_models; m++) {
        struct engine *en = open_model(models[m], (struct engine_opts){.ctx = CTX, .cpu = cpu});
        int seq = engine_seq_open(en);
        struct spec *spec[4];
        long right = 0, wrong = 0;
        for (int k = 0; k < 4; k++) spec[k] = open_spec(en, drafted[k], NULL);
        for (int i = 0; i < 3 * SAMPLERS; i++) {
            int32_t prompt[PROMPT];
            int n = make_prompt(&r, i % 3, engine_vocab(en), prompt);
            struct generate_opts o = samplers(i / 3);
            ask(en, seq, prompt, n, o, NULL, &plain);
            assert_int_equal(plain.r.drafted_tokens, 0);
            for (int k = 0; k < 4; k++) {
                ask(en, seq, prompt, n, o, spec[k], &ours);
                assert_int_equal(plain.rc, 0);
                same(&plain, &ours);
                assert_true(ours.r.accepted_tokens <= ours.r.drafted_tokens);
                if (k == 0) continue; /* time decides what that one does */
                right += ours.r.accepted_tokens;
                wrong += ours.r.drafted_tokens - ours.r.accepted_tokens;
            }
        }
        print_message("%ld drafts right, %ld wrong\n", right, wrong);
        assert_true(right > 200 && wrong > 200); /* both happened, often */
        for (int k = 0; k < 4; k++) spec_close(spec[k]);
        engine_close(en);
    }
}

static void answers_are_those_of_plain_decoding(void **state)
{
    struct cpu cpu = cpu_detect();
    (void)state;
    answers_are_plain("ref", 1); /* slow */
    if (cpu.avx2) answers_are_plain("avx2", 6);
    if (cpu.avx512) answers_are_plain("avx512", 6);
}

/* Attention shares out long contexts by segments: drafted rows stand on both sides of their ends. */
static void long_answers_are_those_of_plain_decoding(void **state)
{
    enum { LONG = 1000 };
    static const char *models[] = {GOLDEN("llama_q4_0"), GOLDEN("gemma3_pattern")};
    static struct answer plain, ours;
    static int32_t prompt[LONG];
    (void)state;
    for (int i = 0; i < LONG; i++) prompt[i] = i % 5 + i % 7 + 40;
    for (int m = 0; m < 2; m++) {
        struct engine *en = open_model(models[m], (struct engine_opts){.ctx = LONG + 100});
        struct spec *spec[] = {open_spec(en, 5, NULL), open_spec(en, SPEC_MAX, NULL)};
        int seq = engine_seq_open(en), right = 0;
        for (int n = LONG / 2; n <= LONG; n += LONG / 2)
            for (int k = 0; k < 4; k++) {
                struct generate_opts o = samplers(k / 2);
                ask(en, seq, prompt, n, o, NULL, &plain);
                ask(en, seq, prompt, n, o, spec[k % 2], &ours);
                assert_int_equal(plain.rc, 0);
                same(&plain, &ours);
                right += ours.r.accepted_tokens;
            }
        assert_true(right > 30);
        spec_close(spec[0]);
        spec_close(spec[1]);
        engine_close(en);
    }
}

static void a_draft_model_changes_only_the_steps(void **state)
{
    static const int drafted[] = {SPEC_AUTO, 1, 7};
    static struct answer plain, ours;
    struct rng r;
    (void)state;
    rng_init(&r, 7);
    struct engine *en = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX});
    struct engine *drafts[] = {
        open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX}), /* always right */
        open_model(GOLDEN("llama_q2_k"), (struct engine_opts){.ctx = CTX}),
        open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX / 2}), /* runs full */
    };
    int seq = engine_seq_open(en), right = 0;
    for (int d = 0; d < 3; d++) {
        for (int k = 0; k < 3; k++) {
            struct spec *spec = open_spec(en, drafted[k], drafts[d]);
            for (int i = 0; i < SAMPLERS; i++) {
                int32_t prompt[PROMPT];
                int n = make_prompt(&r, 0, engine_vocab(en), prompt);
                struct generate_opts o = samplers(i);
                ask(en, seq, prompt, n, o, NULL, &plain);
                ask(en, seq, prompt, n, o, spec, &ours);
                same(&plain, &ours);
                if (d == 0 && k == 2) right += ours.r.accepted_tokens;
            }
            spec_close(spec);
        }
        assert_int_equal(engine_seq_open(drafts[d]), 0); /* spec_close gave it back */
        engine_close(drafts[d]);
    }
    /* Of some 550 tokens: a draft whose cache lags behind the answer guesses worse. */
    print_message("%d guesses right\n", right);
    assert_true(right > 210);
    engine_close(en);
}

static void vocabularies_must_be_the_same(void **state)
{
    struct engine *en = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX});
    struct engine *other = open_model(GOLDEN("gemma3_q5_0"), (struct engine_opts){.ctx = CTX});
    struct spec *spec = NULL;
    struct err e;
    (void)state;
    struct spec_opts o = {SPEC_AUTO, other};
    assert_int_equal(spec_open(&spec, en, &o, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "draft model"));
    int wrong[] = {0, -2, SPEC_MAX + 1};
    for (int i = 0; i < 3; i++) {
        o = (struct spec_opts){wrong[i], NULL};
        assert_int_equal(spec_open(&spec, en, &o, &e), ERR_USAGE);
    }
    assert_null(spec);
    spec_close(NULL);
    engine_close(en);
    engine_close(other);
}

/* Every place where an answer can end falls between drafted tokens sometimes. */
static void ends_are_those_of_plain_decoding(void **state)
{
    static struct answer plain, ours;
    (void)state;
    struct engine *en = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX});
    struct spec *spec = open_spec(en, SPEC_MAX, NULL);
    int seq = engine_seq_open(en);
    int32_t prompt[40];
    for (int i = 0; i < 40; i++) prompt[i] = 40 + i % 5;
    for (int n = 1; n <= 40; n++) { /* the limit */
        struct generate_opts o = greedy();
        o.max_tokens = n;
        ask(en, seq, prompt, 40, o, NULL, &plain);
        ask(en, seq, prompt, 40, o, spec, &ours);
        same(&plain, &ours);
        assert_true(n > 2 || ours.r.drafted_tokens == 0); /* nothing could follow */
    }
    struct generate_opts o = greedy(); /* the context, and sliding on */
    for (o.max_tokens = 0; o.max_tokens <= 600; o.max_tokens += 300) {
        o.slide = o.max_tokens > 0;
        o.keep = 7;
        ask(en, seq, prompt, 40, o, NULL, &plain);
        ask(en, seq, prompt, 40, o, spec, &ours);
        same(&plain, &ours);
        assert_int_equal(ours.r.end, o.slide ? ANSWER_LENGTH : ANSWER_CONTEXT);
        assert_true(ours.r.accepted_tokens > 20);
    }
    o = greedy();
    for (size_t at = 0; at + 4 < 60; at++) { /* a stop string, a cancellation */
        char stop[4] = {0};
        const char *stops[] = {stop};
        ask(en, seq, prompt, 40, greedy(), NULL, &plain);
        memcpy(stop, plain.text + plain.len * at / 64, 3);
        o.stops = stops;
        o.n_stops = 1;
        plain.cancel_at = ours.cancel_at = at % 3 ? 0 : 1 + (int)at;
        ask(en, seq, prompt, 40, o, NULL, &plain);
        ask(en, seq, prompt, 40, o, spec, &ours);
        same(&plain, &ours);
        plain.cancel_at = ours.cancel_at = 0;
    }
    spec_close(spec);
    engine_close(en);
}

/* A conversation: each prompt goes on from the last, or from the middle of it. */
static void turns_go_on_from_what_is_held(void **state)
{
    static struct answer plain, ours;
    struct tok_ids held[2] = {{0}, {0}};
    struct rng r;
    struct err e;
    (void)state;
    rng_init(&r, 8);
    struct engine *en =
        open_model(GOLDEN("qwen2_q4_k_m"), (struct engine_opts){.ctx = CTX, .max_seqs = 2});
    struct engine *small = open_model(GOLDEN("qwen2_q4_k_m"), (struct engine_opts){.ctx = CTX});
    struct spec *spec = open_spec(en, 3, small);
    int seq[2] = {engine_seq_open(en), engine_seq_open(en)};
    for (int turn = 0; turn < 40; turn++) {
        int32_t prompt[CTX];
        int n = (int)rng_below(&r, held[0].len + 1);
        if (turn % 3) n = (int)held[0].len;
        if (n) memcpy(prompt, held[0].data, (size_t)n * sizeof *prompt);
        if (n > CTX / 2) n = 5;
        for (int i = 0; i < 4; i++) prompt[n++] = (int32_t)rng_below(&r, 200);
        struct generate_opts o = samplers(turn % SAMPLERS);
        o.max_tokens = 1 + (int)rng_below(&r, 20);
        o.text = on_text;
        for (int k = 0; k < 2; k++) {
            struct answer *a = k ? &ours : &plain;
            a->len = 0;
            o.arg = a;
            o.spec = k ? spec : NULL;
            if (generate(en, seq[k], &held[k], prompt, n, &o, &a->r, &e)) fail_msg("%s", e.msg);
            assert_int_equal(engine_seq_len(en, seq[k]), held[k].len);
        }
        assert_int_equal(held[0].len, held[1].len);
        assert_memory_equal(held[0].data, held[1].data, held[0].len * sizeof(int32_t));
        assert_string_equal(plain.text, ours.text);
    }
    tok_ids_free(&held[0]);
    tok_ids_free(&held[1]);
    spec_close(spec);
    engine_close(small);
    engine_close(en);
}

/* Where pages are left for one token only, drafts do not make the answer fail. */
static void drafts_take_no_page_that_an_answer_needs(void **state)
{
    static struct answer plain, ours;
    (void)state;
    struct engine_opts eo = {.ctx = CTX, .kv_tokens = 64, .chunk = 8};
    struct engine *en = open_model(GOLDEN("llama_q4_0"), eo);
    struct spec *spec = open_spec(en, SPEC_MAX, NULL);
    int32_t prompt[40];
    for (int i = 0; i < 40; i++) prompt[i] = 40 + i % 5;
    int seq = engine_seq_open(en);
    ask(en, seq, prompt, 40, greedy(), NULL, &plain);
    ask(en, seq, prompt, 40, greedy(), spec, &ours);
    assert_int_equal(plain.rc, ERR_LIMIT);
    same(&plain, &ours);
    spec_close(spec);
    engine_close(en);
}

/* The first two tokens of 6000 seeds against the products of their probabilities. The draft
 * proposes the likeliest of three. Chi-squared with 8 degrees of freedom exceeds 30 once in
 * 5000 times; the seeds are fixed. */
static void sampled_tokens_have_the_models_distribution(void **state)
{
    enum { K = 3, RUNS = 6000 };
    static struct answer a;
    double p[K][K], want[K];
    int32_t prompt[30], id[K], second[K][K];
    int count[K][K] = {{0}};
    long drafted = 0, right = 0;
    struct err e;
    (void)state;
    if (UNDER_TSAN) skip(); /* minutes, and no thread that the other tests have not */
    struct engine *en = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX});
    int seq = engine_seq_open(en), vocab = engine_vocab(en);
    for (int i = 0; i < 30; i++) prompt[i] = 60 + i % 3;
    for (int first = -1; first < K; first++) {
        struct engine_slice s = {.seq = seq, .tokens = prompt, .n = 30, .want = ENGINE_LOGITS_LAST};
        engine_seq_truncate(en, seq, 0);
        assert_int_equal(engine_step(en, &s, 1, &e), 0);
        if (first >= 0) {
            s = (struct engine_slice){
                .seq = seq, .tokens = &id[first], .n = 1, .want = ENGINE_LOGITS_LAST};
            assert_int_equal(engine_step(en, &s, 1, &e), 0);
        }
        int32_t *top = first < 0 ? id : second[first];
        double *probability = first < 0 ? want : p[first], sum = 0;
        for (int k = 0; k < K; k++) {
            top[k] = -1;
            for (int32_t i = 0; i < vocab; i++) {
                bool taken = false;
                for (int j = 0; j < k; j++) taken |= top[j] == i;
                if (!taken && (top[k] < 0 || s.logits[i] > s.logits[top[k]])) top[k] = i;
            }
            sum += probability[k] = exp((double)(s.logits[top[k]] - s.logits[top[0]]) / 2);
        }
        for (int k = 0; k < K; k++) probability[k] /= sum;
    }
    engine_seq_truncate(en, seq, 0);
    struct engine *small = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX});
    struct spec *spec = open_spec(en, 2, small);
    struct generate_opts o = greedy();
    o.sample.temp = 2;
    o.sample.top_k = K;
    o.max_tokens = 3;
    for (int run = 0; run < RUNS; run++) {
        o.sample.seed = (uint64_t)run;
        ask(en, seq, prompt, 30, o, spec, &a);
        drafted += a.r.drafted_tokens;
        right += a.r.accepted_tokens;
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++)
                count[i][j] += a.held[30] == id[i] && a.held[31] == second[i][j];
    }
    double chi2 = 0;
    int seen = 0;
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++) {
            double expected = RUNS * want[i] * p[i][j], d = count[i][j] - expected;
            assert_true(expected > 5);
            chi2 += d * d / expected;
            seen += count[i][j];
        }
    assert_int_equal(seen, RUNS);
    print_message("chi-squared %.1f; %ld drafted, %ld right\n", chi2, drafted, right);
    assert_true(right > RUNS / 4 && right < drafted * 3 / 4);
    assert_true(chi2 < 30);
    spec_close(spec);
    engine_close(small);
    engine_close(en);
}

/* How much sooner than by plain steps an answer comes, text [from ..] after text [.. from], when a step
 * of m rows takes 1 + slope (m - 1), the first one `first` times as long, and each 30th twice. */
static double gain(struct spec *s, const int32_t *text, int from, int n, double slope, double first)
{
    double took = 0;
    int steps = 0;
    spec_begin(s, text, from);
    for (int i = from; i < n; i++) {
        const int32_t *ids;
        if (spec_hit(s, text[i])) continue;
        int rows = spec_plan(s, text[i], n - i, &ids);
        assert_in_range(rows, 1, n - i);
        double t = 1 + slope * (rows - 1);
        took += t;
        t *= steps == 0 ? first : steps % 30 ? 1 : 2;
        spec_timed(s, (int64_t)(t * 1e6));
        steps++;
    }
    return (n - from) / took;
}

/* Time is what the test says, so these are the rule's own figures. */
static void what_is_drafted_pays(void **state)
{
    enum { LONG = 2000 };
    static int32_t copied[LONG], fresh[LONG], mixed[LONG];
    struct rng r;
    (void)state;
    rng_init(&r, 9);
    struct engine *en = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = LONG});
    for (int i = 0; i < LONG; i++) {
        fresh[i] = (int32_t)rng_below(&r, 300); /* each token and many pairs stood there before */
        copied[i] = i < LONG / 2 ? fresh[i] : copied[i - LONG / 2];
        if (i % 50 == 49) copied[i] = fresh[i];
        mixed[i] = i < LONG / 2 ? fresh[i] : copied[i];
    }
    static const double slopes[] = {0, 0.05, 0.2, 0.5, 1};
    for (int i = 0; i < 5; i++)
        for (double first = 1; first <= 16; first *= 16) {
            struct spec *s = open_spec(en, SPEC_AUTO, NULL);
            double none = gain(s, fresh, LONG / 2, LONG, slopes[i], first);
            double some = gain(s, mixed, LONG / 2, LONG, slopes[i], 1); /* on again */
            double none_again = gain(s, fresh, LONG / 2, LONG, slopes[i], 1);
            print_message("slope %.2f, first %2.0f: %.2f, copied %.2f, again %.2f\n", slopes[i],
                          first, none, some, none_again);
            assert_true(none > 0.98 && none_again > 0.95); /* it has to notice */
            assert_true(some > (i == 0 ? 6 : i == 1 ? 4 : i == 2 ? 2 : i == 3 ? 1.2 : 0.97));
            spec_close(s);
        }
    engine_close(en);
}

static void out_of_memory(void **state)
{
    static struct answer plain, ours;
    (void)state;
    if (!OOM_WORKS) skip();
    struct engine *en = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX});
    struct engine *small = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX});
    int seq = engine_seq_open(en);
    int32_t prompt[40];
    for (int i = 0; i < 40; i++) prompt[i] = 40 + i % 5;
    ask(en, seq, prompt, 40, greedy(), NULL, &plain);
    for (long n = 1;; n++) {
        struct spec *spec = NULL;
        struct spec_opts o = {SPEC_MAX, small};
        struct err e;
        long alive = oom_alive;
        oom_after(n);
        int rc = spec_open(&spec, en, &o, &e);
        bool hit = oom_hit();
        assert_int_equal(rc, hit ? ERR_MEMORY : 0);
        spec_close(spec);
        assert_int_equal(oom_alive, alive);
        if (!hit) break;
    }
    struct spec *spec = open_spec(en, SPEC_MAX, NULL);
    for (long n = 1;; n++) { /* an answer, with the first step of many logits in it */
        struct engine *fresh = open_model(GOLDEN("llama_q4_0"), (struct engine_opts){.ctx = CTX});
        int s = engine_seq_open(fresh);
        oom_after(n);
        ask(fresh, s, prompt, 40, greedy(), spec, &ours);
        bool hit = oom_hit();
        if (!hit) same(&plain, &ours);
        if (ours.rc) assert_int_equal(ours.rc, ERR_MEMORY);
        engine_close(fresh);
        if (!hit) break;
    }
    spec_close(spec);
    engine_close(en);
    engine_close(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_plain_decoding),
        cmocka_unit_test(long_answers_are_those_of_plain_decoding),
        cmocka_unit_test(a_draft_model_changes_only_the_steps),
        cmocka_unit_test(vocabularies_must_be_the_same),
        cmocka_unit_test(ends_are_those_of_plain_decoding),
        cmocka_unit_test(turns_go_on_from_what_is_held),
        cmocka_unit_test(drafts_take_no_page_that_an_answer_needs),
        cmocka_unit_test(sampled_tokens_have_the_models_distribution),
        cmocka_unit_test(what_is_drafted_pays),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
