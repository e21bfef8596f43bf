/* Samplers against a second, naive implementation: everything in doubles, everything sorted, every
 * repetition found by comparing. Probabilities are compared with draws by chi-squared; choices of
 * random small instances must lie in the reference's support.
 */
#include "sample.h"
#include "rng.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"

enum { VOCAB_MAX = 400, PAST_MAX = 400 };

struct ranked {
    int id;
    double key, p;
};

static struct sample_params off(void)
{
    struct sample_params p = SAMPLE_DEFAULTS;
    p.temp = 1;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    return p;
}

static struct sample *open_ok(const struct sample_params *p, int n)
{
    struct sample *s = NULL;
    struct err e = {0};
    int rc = sample_open(&s, p, n, &e);
    if (rc) fail_msg("%s", e.msg);
    return s;
}

/* The reference. */

static int by_key(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->id - y->id;
}

static double total(const double *p, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += p[i];
    return sum;
}

/* Keeps the first in order of key until weight (p, or 1 each) reaches enough. */
static void ref_keep(double *p, const double *key, int n, double enough, bool count)
{
    struct ranked r[VOCAB_MAX];
    double reached = 0, sum = total(p, n);
    int m = 0;
    for (int i = 0; i < n; i++)
        if (p[i] > 0) r[m++] = (struct ranked){i, key[i], p[i] / sum};
    qsort(r, (size_t)m, sizeof *r, by_key);
    for (int i = 0; i < m; i++) {
        if (i > 0 && reached >= enough) p[r[i].id] = 0;
        reached += count ? 1 : r[i].p;
    }
}

static void ref_softmax(const double *x, double temp, const double *keep, double *p, int n)
{
    double max = -INFINITY;
    for (int i = 0; i < n; i++)
        if ((!keep || keep[i] > 0) && x[i] > max) max = x[i];
    for (int i = 0; i < n; i++)
        p[i] = (!keep || keep[i] > 0) && x[i] > -INFINITY ? exp((x[i] - max) / temp) : 0;
    double sum = total(p, n);
    for (int i = 0; i < n; i++) p[i] /= sum;
}

static bool is_breaker(const struct sample_params *p, int32_t id)
{
    for (int i = 0; i < p->n_dry_breakers; i++)
        if (p->dry_breakers[i] == id) return true;
    return false;
}

static void ref_dry(const struct sample_params *p, const int32_t *past, int n, double *x, int vocab)
{
    int best[VOCAB_MAX] = {0}, limit = 0;
    if (p->dry_multiplier == 0) return;
    if (p->dry_last_n >= 0 && n > p->dry_last_n) past += n - p->dry_last_n, n = p->dry_last_n;
    while (limit < n && !is_breaker(p, past[n - 1 - limit])) limit++;
    for (int j = 0; j + 1 < n; j++) {
        int run = 0;
        while (run <= j && run < limit && past[j - run] == past[n - 1 - run]) run++;
        if (run > best[past[j + 1]]) best[past[j + 1]] = run;
    }
    for (int i = 0; i < vocab; i++)
        if (best[i] >= p->dry_allowed_length && !is_breaker(p, i))
            x[i] -= p->dry_multiplier * pow(p->dry_base, best[i] - p->dry_allowed_length);
}

static void ref_adjust(const struct sample_params *p, const int32_t *past, int n, double *x,
                       int vocab)
{
    int count[VOCAB_MAX] = {0}, from = p->penalty_last_n < 0 ? 0 : n - p->penalty_last_n;
    for (int i = 0; i < p->n_bias; i++) x[p->bias[i].id] += p->bias[i].bias;
    for (int i = from < 0 ? 0 : from; i < n; i++) count[past[i]]++;
    for (int i = 0; i < vocab; i++) {
        if (!count[i]) continue;
        x[i] = x[i] <= 0 ? x[i] * p->repeat_penalty : x[i] / p->repeat_penalty;
        x[i] -= count[i] * p->frequency_penalty + p->presence_penalty;
    }
    ref_dry(p, past, n, x, vocab);
}

static void ref_typical(const double *x, double mass, double *p, int n)
{
    double key[VOCAB_MAX] = {0}, entropy = 0;
    ref_softmax(x, 1, p, p, n);
    for (int i = 0; i < n; i++)
        if (p[i] > 0) entropy -= p[i] * log(p[i]);
    for (int i = 0; i < n; i++)
        if (p[i] > 0) key[i] = -fabs(-log(p[i]) - entropy);
    ref_keep(p, key, n, mass, false);
}

/* Probabilities of the next token. */
static void reference(const struct sample_params *sp, const int32_t *past, int n_past,
                      const float *logits, int n, double *p)
{
    double x[VOCAB_MAX];
    for (int i = 0; i < n; i++) x[i] = logits[i];
    ref_adjust(sp, past, n_past, x, n);
    ref_softmax(x, 1, NULL, p, n);
    if (sp->top_k) ref_keep(p, x, n, sp->top_k, true);
    if (sp->typical < 1) ref_typical(x, sp->typical, p, n);
    ref_softmax(x, 1, p, p, n);
    if (sp->top_p < 1) ref_keep(p, x, n, sp->top_p, false);
    double max = 0;
    for (int i = 0; i < n; i++) max = fmax(max, p[i]);
    for (int i = 0; i < n; i++)
        if (p[i] < max * sp->min_p * (1 - 1e-6)) p[i] = 0;
    if (sp->temp > 0) {
        ref_softmax(x, sp->temp, p, p, n);
        return;
    }
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    for (int i = 0; i < n; i++) p[i] = i == best;
}

/* Tests. */

static void random_logits(struct rng *r, float *x, int n)
{
    for (int i = 0; i < n; i++) x[i] = (float)(rng_normal(r) * 2.5);
}

static void check_draws(const struct sample_params *sp, const int32_t *past, int n_past,
                        const float *x, int n)
{
    enum { DRAWS = 40000 };
    double p[VOCAB_MAX], chi = 0;
    int seen[VOCAB_MAX] = {0}, classes = 0, rest = 0;
    struct sample *s = open_ok(sp, n);
    reference(sp, past, n_past, x, n, p);
    for (int i = 0; i < n_past; i++) sample_accept(s, past[i]);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = sample_pick(s, x, NULL);
        assert_in_range(id, 0, n - 1);
        seen[id]++;
    }
    double rest_p = 0;
    for (int i = 0; i < n; i++) {
        if (p[i] == 0) assert_int_equal(seen[i], 0);
        if (p[i] * DRAWS < 5) {
            rest += seen[i], rest_p += p[i];
            continue;
        }
        double expected = p[i] * DRAWS;
        chi += (seen[i] - expected) * (seen[i] - expected) / expected;
        classes++;
    }
    if (rest_p * DRAWS >= 5) {
        chi += pow(rest - rest_p * DRAWS, 2) / (rest_p * DRAWS);
        classes++;
    }
    double dof = classes - 1;
    if (chi > dof + 5 * sqrt(2 * dof) + 5) fail_msg("chi-squared %g with %g degrees", chi, dof);
    sample_close(s);
}

static void test_draws_follow_the_probabilities(void **state)
{
    (void)state;
    static const int32_t past[] = {1, 2, 3, 1, 2, 5, 5, 9, 1, 2};
    static const int32_t breakers[] = {9};
    static const struct sample_bias bias[] = {{0, 3}, {4, -INFINITY}, {7, -1}, {0, 1}};
    struct sample_params p[] = {off(), off(), off(), off(), off(),           off(),          off(),
                                off(), off(), off(), off(), SAMPLE_DEFAULTS, SAMPLE_DEFAULTS};
    p[1].temp = 0.5f;
    p[2].temp = 3, p[2].top_k = 7;
    p[3].top_p = 0.7f, p[3].temp = 1.5f;
    p[4].min_p = 0.1f;
    p[5].typical = 0.6f;
    p[6].repeat_penalty = 1.5f;
    p[7].presence_penalty = 1, p[7].frequency_penalty = -0.5f, p[7].penalty_last_n = 3;
    p[8].dry_multiplier = 0.8f, p[8].dry_allowed_length = 1;
    p[9].dry_multiplier = 2, p[9].dry_last_n = -1, p[9].dry_allowed_length = 1;
    p[9].dry_breakers = breakers, p[9].n_dry_breakers = 1;
    p[10].bias = bias, p[10].n_bias = 4;
    p[12].typical = 0.9f, p[12].repeat_penalty = 1.1f, p[12].penalty_last_n = -1;
    p[12].bias = bias, p[12].n_bias = 4, p[12].top_k = 20;
    struct rng r;
    float x[40];
    rng_init(&r, 11);
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        random_logits(&r, x, 40);
        p[i].seed = i;
        check_draws(&p[i], past, sizeof past / sizeof *past, x, 40);
    }
}

static float coin(struct rng *r, float heads, float tails)
{
    return rng_u64(r) & 1 ? heads : tails;
}

static struct sample_params random_params(struct rng *r, int n)
{
    struct sample_params p = off();
    p.seed = rng_u64(r);
    p.temp = rng_below(r, 3) ? (float)(rng_double(r) * 2 + 0.01) : 0;
    p.top_k = (int)coin(r, 0, (float)rng_below(r, (uint64_t)n + 5));
    p.top_p = coin(r, 1, (float)rng_double(r));
    p.min_p = coin(r, 0, (float)(rng_double(r) * 0.3));
    p.typical = coin(r, 1, (float)rng_double(r));
    p.repeat_penalty = coin(r, 1, (float)(rng_double(r) * 2 + 0.5));
    p.presence_penalty = coin(r, 0, (float)rng_normal(r));
    p.frequency_penalty = coin(r, 0, (float)rng_normal(r));
    p.penalty_last_n = (int)rng_below(r, 50) - 1;
    p.dry_multiplier = coin(r, 0, (float)rng_double(r) * 2);
    p.dry_allowed_length = 1 + (int)rng_below(r, 4);
    p.dry_last_n = (int)rng_below(r, 100) - 1;
    return p;
}

static void test_choices_lie_in_the_support(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 5);
    for (int trial = 0; trial < 3000; trial++) {
        float x[VOCAB_MAX];
        double ref[VOCAB_MAX];
        int32_t past[PAST_MAX], breakers[2];
        int n = 1 + (int)rng_below(&r, VOCAB_MAX), n_past = (int)rng_below(&r, PAST_MAX);
        /* Few kinds of tokens make many repetitions. */
        uint64_t kinds = 1 + rng_below(&r, rng_below(&r, 2) ? 3 : (uint64_t)n);
        if (kinds > (uint64_t)n) kinds = (uint64_t)n;
        for (int i = 0; i < n_past; i++) past[i] = (int32_t)rng_below(&r, kinds);
        for (int i = 0; i < 2; i++) breakers[i] = (int32_t)rng_below(&r, (uint64_t)n);
        struct sample_params p = random_params(&r, n);
        p.dry_breakers = breakers;
        p.n_dry_breakers = (int)rng_below(&r, 3);
        random_logits(&r, x, n);
        struct sample *s = open_ok(&p, n);
        for (int i = 0; i < n_past; i++) sample_accept(s, past[i]);
        reference(&p, past, n_past, x, n, ref);
        for (int i = 0; i < 20; i++) {
            int32_t id = sample_pick(s, x, NULL);
            assert_in_range(id, 0, n - 1);
            if (!(ref[id] > 0)) fail_msg("trial %d: token %d was cut", trial, id);
        }
        sample_close(s);
    }
}

/* With as many draws as here every token kept would have come: the support is no smaller either. */
static void test_truncations_keep_no_less(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 6);
    for (int trial = 0; trial < 60; trial++) {
        float x[64];
        double ref[64];
        bool seen[64] = {0};
        struct sample_params p = random_params(&r, 64);
        p.temp = 100; /* nearly uniform over what is kept */
        random_logits(&r, x, 64);
        struct sample *s = open_ok(&p, 64);
        reference(&p, NULL, 0, x, 64, ref);
        for (int i = 0; i < 3000; i++) seen[sample_pick(s, x, NULL)] = true;
        for (int i = 0; i < 64; i++) assert_int_equal(seen[i], ref[i] > 0);
        sample_close(s);
    }
}

/* Large enough that top-k compacts its candidates many times; sorted both ways and with ties. */
static void test_top_k_of_many(void **state)
{
    (void)state;
    enum { N = 20000 };
    static float x[N];
    struct sample_params p = off();
    for (int shape = 0; shape < 3; shape++)
        for (p.top_k = 1; p.top_k < N; p.top_k = p.top_k * 7 + 1) {
            struct sample *s = open_ok(&p, N);
            for (int i = 0; i < N; i++)
                x[i] = shape == 0 ? (float)i * 1e-5f : shape == 1 ? (float)-i * 1e-5f : 1;
            for (int i = 0; i < 200; i++) {
                int32_t id = sample_pick(s, x, NULL);
                if (shape == 0)
                    assert_true(id >= N - p.top_k);
                else
                    assert_true(id < p.top_k);
            }
            sample_close(s);
        }
}

static void test_same_seed_same_choices(void **state)
{
    (void)state;
    float x[100];
    struct rng r;
    rng_init(&r, 1);
    random_logits(&r, x, 100);
    struct sample_params p = SAMPLE_DEFAULTS, q = p;
    p.seed = 42, q.seed = 43;
    struct sample *a = open_ok(&p, 100), *b = open_ok(&p, 100), *c = open_ok(&q, 100);
    int differ = 0;
    for (int i = 0; i < 200; i++) {
        int32_t id = sample_pick(a, x, NULL);
        assert_int_equal(id, sample_pick(b, x, NULL));
        differ += id != sample_pick(c, x, NULL);
    }
    assert_true(differ > 20);
    sample_close(a);
    sample_close(b);
    sample_close(c);
}

static void test_dry_on_known_repeats(void **state)
{
    (void)state;
    /* a b c d, a b c: d would go on with three tokens, and is punished by 1 * 2^(3 - 2). */
    static const int32_t past[] = {0, 1, 2, 3, 0, 1, 2};
    static const int32_t colon[] = {1};
    float x[5] = {0, 0, 0, 2.5f, 1};
    struct sample_params p = off();
    p.temp = 0, p.dry_multiplier = 1, p.dry_base = 2;
    struct sample *s = open_ok(&p, 5);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(sample_pick(s, x, NULL), 3);
        sample_accept(s, past[i]);
    }
    assert_int_equal(sample_pick(s, x, NULL), 4);
    x[3] = 3.1f;
    assert_int_equal(sample_pick(s, x, NULL), 3);
    x[3] = 2.5f;
    sample_reset(s);
    assert_int_equal(sample_pick(s, x, NULL), 3);
    sample_close(s);

    p.dry_breakers = colon, p.n_dry_breakers = 1; /* the run begins anew after b */
    s = open_ok(&p, 5);
    for (int i = 0; i < 7; i++) sample_accept(s, past[i]);
    assert_int_equal(sample_pick(s, x, NULL), 3);
    sample_close(s);

    p.dry_breakers = NULL, p.n_dry_breakers = 0;
    p.dry_base = 100, p.dry_last_n = -1; /* a long repetition: no overflow, never again */
    s = open_ok(&p, 5);
    x[3] = 1e30f;
    for (int i = 0; i < 1000; i++) sample_accept(s, 3);
    assert_int_equal(sample_pick(s, x, NULL), 4);
    sample_close(s);
}

static void test_mirostat_aims_at_its_surprise(void **state)
{
    (void)state;
    enum { N = 300, STEPS = 4000 };
    struct rng r;
    float x[N];
    double p[N], wide[N], mean = 0;
    struct sample_params sp = off();
    sp.mirostat = 2, sp.mirostat_tau = 3, sp.temp = 0.9f, sp.seed = 3;
    struct sample *s = open_ok(&sp, N);
    double mu = 2 * sp.mirostat_tau;
    rng_init(&r, 9);
    for (int step = 0; step < STEPS; step++) {
        random_logits(&r, x, N);
        for (int i = 0; i < N; i++) wide[i] = x[i];
        ref_softmax(wide, sp.temp, NULL, p, N);
        double max = 0, kept = 0;
        for (int i = 0; i < N; i++) max = fmax(max, p[i]);
        int32_t id = sample_pick(s, x, NULL);
        assert_true(-log2(p[id]) <= mu + 1e-3 || p[id] == max);
        for (int i = 0; i < N; i++)
            if (-log2(p[i]) <= mu || p[i] == max) kept += p[i];
        double surprise = -log2(p[id] / kept);
        mu -= sp.mirostat_eta * (surprise - sp.mirostat_tau);
        mean += surprise / STEPS;
    }
    assert_true(fabs(mean - sp.mirostat_tau) < 0.1);
    sample_close(s);
}

static void test_logprob_is_of_the_raw_logits(void **state)
{
    (void)state;
    static const struct sample_bias bias[] = {{1, 50}};
    float x[3] = {logf(0.5f), logf(0.2f), logf(0.3f)}, lp = 0;
    struct sample_params p = SAMPLE_DEFAULTS;
    p.bias = bias, p.n_bias = 1;
    struct sample *s = open_ok(&p, 3);
    assert_int_equal(sample_pick(s, x, &lp), 1);
    assert_true(fabsf(lp - logf(0.2f)) < 1e-6f);
    sample_close(s);
}

static void check_hostile(const struct sample_params *p)
{
    static const float nan = NAN, inf = INFINITY;
    float lp;
    struct sample *s = open_ok(p, 6);
    for (int i = 0; i < 6; i++) sample_accept(s, i % 2);
    sample_accept(s, -1);
    sample_accept(s, 6);
    sample_accept(s, INT32_MAX);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(sample_pick(s, (float[]){nan, nan, -7, nan, nan, nan}, &lp), 2);
        assert_true(lp == 0);
        assert_int_equal(sample_pick(s, (float[]){-inf, nan, -inf, -inf, -1e30f, -inf}, &lp), 4);
        assert_int_equal(sample_pick(s, (float[]){1, nan, 2, inf, 3, -inf}, &lp), 3);
        assert_true(lp == 0);
        assert_int_equal(sample_pick(s, (float[]){-FLT_MAX, nan, FLT_MAX, 0, 0, 0}, &lp), 2);
        assert_int_equal(sample_pick(s, (float[]){nan, nan, nan, nan, nan, nan}, &lp), SAMPLE_NONE);
        assert_int_equal(sample_pick(s, (float[]){-inf, -inf, nan, -inf, -inf, -inf}, NULL),
                         SAMPLE_NONE);
        int32_t id = sample_pick(s, (float[]){0, 0, 1e-40f, -1e-40f, 0, 0}, &lp);
        assert_in_range(id, 0, 5);
        assert_true(isfinite(lp));
    }
    sample_close(s);
}

static void test_hostile_logits(void **state)
{
    (void)state;
    struct sample_params p[] = {off(), SAMPLE_DEFAULTS, off(), off(), off(), off(), off(), off()};
    p[0].temp = 0;
    p[2].typical = 0.5f;
    p[3].mirostat = 2;
    p[4].temp = 1e-44f;
    p[5].top_p = 0, p[5].typical = 0, p[5].min_p = 1, p[5].temp = 100;
    p[6].repeat_penalty = 1.1f, p[6].dry_multiplier = 1;
    p[7].top_k = 1 << 30, p[7].min_p = 1e-40f;
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) check_hostile(&p[i]);
}

static void test_greedy_under_biases(void **state)
{
    enum { N = 20 };
    struct rng r;
    float x[N], y[N];
    (void)state;
    rng_init(&r, 3);
    for (int round = 0; round < 2000; round++) {
        struct sample_bias bias[3];
        struct sample_params p = off();
        int best = 0;
        p.temp = 0, p.bias = bias, p.n_bias = 3;
        for (int i = 0; i < N; i++) y[i] = x[i] = (float)rng_below(&r, 6); /* ties */
        for (int i = 0; i < 3; i++) {
            float most = round % 2 ? 0 : 2; /* every other time none raises */
            bias[i] =
                (struct sample_bias){(int32_t)rng_below(&r, N), most - (float)rng_below(&r, 6)};
            y[bias[i].id] += bias[i].bias;
        }
        for (int i = 1; i < N; i++)
            if (y[i] > y[best]) best = i;
        struct sample *s = open_ok(&p, N);
        assert_int_equal(sample_pick(s, x, NULL), best);
        sample_close(s);
    }
}

static void test_everything_forbidden(void **state)
{
    (void)state;
    struct sample_bias bias[] = {{0, -INFINITY}, {1, -INFINITY}};
    struct sample_params p = SAMPLE_DEFAULTS;
    p.bias = bias, p.n_bias = 2;
    struct sample *s = open_ok(&p, 2);
    assert_int_equal(sample_pick(s, (float[]){1, 2}, NULL), SAMPLE_NONE);
    assert_int_equal(sample_pick(s, (float[]){INFINITY, 2}, NULL), SAMPLE_NONE);
    sample_close(s);
}

static void refused(const struct sample_params *p, const char *what)
{
    struct sample *s = NULL;
    struct err e = {0};
    assert_int_equal(sample_open(&s, p, 10, &e), ERR_USAGE);
    assert_null(s);
    if (!strstr(e.msg, what)) fail_msg("'%s' does not name %s", e.msg, what);
}

static void test_ranges(void **state)
{
    (void)state;
    struct err e;
    for (const struct sample_field *f = sample_fields; f->name; f++) {
        struct sample_params p = SAMPLE_DEFAULTS;
        assert_ptr_equal(sample_field_find(f->name), f);
        assert_int_equal(sample_field_set(f, &p, f->min, &e), 0);
        assert_true((float)sample_field_get(f, &p) == (float)f->min);
        assert_int_equal(sample_field_set(f, &p, f->max, &e), 0);
        struct sample *s = open_ok(&p, 10);
        sample_close(s);
        assert_int_equal(sample_field_set(f, &p, f->max * 1.01 + 1, &e), ERR_USAGE);
        assert_int_equal(sample_field_set(f, &p, f->min - 1, &e), ERR_USAGE);
        assert_int_equal(sample_field_set(f, &p, NAN, &e), ERR_USAGE);
        assert_int_equal(sample_field_set(f, &p, INFINITY, &e), ERR_USAGE);
        assert_true(sample_field_get(f, &p) == f->max);
        if (f->whole) {
            assert_int_equal(sample_field_set(f, &p, 1.5, &e), ERR_USAGE);
            *(int *)((char *)&p + f->offset) = (int)f->min - 1;
        } else {
            *(float *)((char *)&p + f->offset) = NAN;
        }
        refused(&p, f->name);
    }
    assert_null(sample_field_find("temperature"));
    struct sample_params p = SAMPLE_DEFAULTS;
    p.mirostat = 1;
    refused(&p, "mirostat");
    struct sample_bias bias = {10, 0};
    p = SAMPLE_DEFAULTS, p.bias = &bias, p.n_bias = 1;
    refused(&p, "token 10");
    bias = (struct sample_bias){3, NAN};
    refused(&p, "token 3");
    bias = (struct sample_bias){3, INFINITY};
    refused(&p, "token 3");
    int32_t breaker = -1;
    p = SAMPLE_DEFAULTS, p.dry_breakers = &breaker, p.n_dry_breakers = 1;
    refused(&p, "breaker -1");
}

static void test_out_of_memory_and_no_allocation_later(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    static const struct sample_bias bias[] = {{0, 1}};
    struct sample_params p = SAMPLE_DEFAULTS;
    p.dry_multiplier = 1, p.repeat_penalty = 1.1f, p.bias = bias, p.n_bias = 1, p.typical = 0.9f;
    struct sample *s = NULL;
    for (long n = 1;; n++) {
        struct err e;
        long alive = oom_alive;
        oom_after(n);
        int rc = sample_open(&s, &p, 100, &e);
        if (!oom_hit()) break;
        assert_int_equal(rc, ERR_MEMORY);
        assert_int_equal(oom_alive, alive);
    }
    float x[100] = {0}, lp;
    oom_after(1);
    for (int i = 0; i < 300; i++) sample_accept(s, sample_pick(s, x, &lp));
    assert_false(oom_hit());
    sample_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_follow_the_probabilities),
        cmocka_unit_test(test_choices_lie_in_the_support),
        cmocka_unit_test(test_truncations_keep_no_less),
        cmocka_unit_test(test_top_k_of_many),
        cmocka_unit_test(test_same_seed_same_choices),
        cmocka_unit_test(test_dry_on_known_repeats),
        cmocka_unit_test(test_mirostat_aims_at_its_surprise),
        cmocka_unit_test(test_logprob_is_of_the_raw_logits),
        cmocka_unit_test(test_hostile_logits),
        cmocka_unit_test(test_greedy_under_biases),
        cmocka_unit_test(test_everything_forbidden),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_out_of_memory_and_no_allocation_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
