/* Whose guesses go into a step, over times of steps that the test makes up. */
#include "spec_many.h"

#include "../support/oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { TEXTS = 40, LONG = 3 * SPEC_MANY_ROOM };

static struct spec_many_text *open_text(int room)
{
    struct spec_many_text *t;
    struct err e;
    if (spec_many_open(&t, room, &e)) fail_msg("%s", e.msg);
    return t;
}

/* The text repeats itself every `period` tokens, and the answer has done so for long. */
static void repeat(struct spec_many_text *t, int period, int n)
{
    for (int i = 0; i < n; i++) {
        int32_t id = i % period;
        spec_many_read(t, &id, 1, i >= period);
    }
}

/* A step takes 1000 ns, and each row beyond `flat` so much more. */
static void know(struct spec_many *m, int flat, int each)
{
    for (int round = 0; round < 200; round++)
        for (int rows = 1; rows <= SPEC_MANY_ROWS; rows++)
            spec_many_timed(m, rows, rows == 1, 1000 + (rows > flat ? (rows - flat) * each : 0));
}

static int drafted(struct spec_many *m, struct spec_many_text **t, int n, int rows)
{
    int all = 0;
    for (int i = 0; i < n; i++) spec_many_guess(m, t[i], SPEC_MAX);
    spec_many_plan(m, t, n, rows);
    for (int i = 0; i < n; i++) {
        assert_true(t[i]->n_draft >= 0 && t[i]->n_draft <= t[i]->n_guess);
        all += t[i]->n_draft;
    }
    assert_true(all == 0 || rows + all <= SPEC_MANY_ROWS);
    return all;
}

static void few_rows_are_filled_wide_steps_are_not(void **state)
{
    struct spec_many m;
    struct spec_many_text *t[TEXTS];
    (void)state;
    for (int i = 0; i < TEXTS; i++) {
        t[i] = open_text(500);
        repeat(t[i], 20, 300);
        spec_many_judged(t[i], 8, 8); /* they may reach far */
    }
    spec_many_init(&m, SPEC_AUTO);
    assert_int_equal(drafted(&m, t, 1, 1), 0); /* nothing is known yet */
    know(&m, 6, 1000);                         /* the 7th row costs as much as six */
    assert_int_equal(drafted(&m, t, 1, 1), 5);
    assert_int_equal(drafted(&m, t, 4, 4), 2);
    assert_int_equal(drafted(&m, t, 6, 6), 0);
    know(&m, 0, 1000); /* each row costs what it gives, and so does the step itself */
    assert_true(drafted(&m, t, 1, 1) > 0);
    for (int n = 16; n <= TEXTS; n++) assert_int_equal(drafted(&m, t, n, n), 0);
    know(&m, SPEC_MANY_ROWS, 0); /* rows cost nothing */
    assert_int_equal(drafted(&m, t, 1, 1), SPEC_MAX);
    assert_int_equal(drafted(&m, t, 20, 20), SPEC_MANY_ROWS - 20);
    assert_int_equal(drafted(&m, t, 40, 40), 0);
    for (int i = 0; i < 64; i++) spec_many_timed(&m, 5, false, 1000);
    assert_int_equal(drafted(&m, t, 1, 1), 0); /* now and then a plain one */
    for (int i = 0; i < TEXTS; i++) spec_many_close(t[i]);
}

static void the_likeliest_come_first(void **state)
{
    struct spec_many m;
    struct spec_many_text *t[2] = {open_text(2000), open_text(2000)};
    (void)state;
    spec_many_init(&m, SPEC_AUTO);
    know(&m, 6, 1000);
    repeat(t[1], 20, 300);
    for (uint32_t i = 0, x = 1; i < 1000;
         i++) { /* small numbers at random: matches that tell nothing */
        int32_t id = (int32_t)((x = x * 1664525 + 1013904223) >> 30);
        spec_many_read(t[0], &id, 1, i > 10);
    }
    for (int i = 0; i < 2; i++) spec_many_judged(t[i], 8, 8);
    assert_true(drafted(&m, t, 2, 2) > 0);
    assert_true(t[0]->n_guess > 0);
    assert_int_equal(t[0]->n_draft, 0);
    assert_int_equal(t[1]->n_draft, 4);
    for (int i = 0; i < t[1]->n_guess; i++) assert_int_equal(t[1]->guess[i], i % 20);
    spec_many_judged(t[1], 4, 0); /* all wrong: less the next time */
    assert_int_equal(spec_many_guess(&m, t[1], SPEC_MAX), 2);
    assert_int_equal(spec_many_guess(&m, t[1], 1), 1);
    assert_int_equal(spec_many_guess(&m, t[1], 0), 0);
    assert_int_equal(spec_many_guess(&m, t[1], -3), 0);
    spec_many_init(&m, 7); /* always */
    assert_int_equal(drafted(&m, t, 2, 2), 14);
    assert_int_equal(drafted(&m, t, 2, SPEC_MANY_ROWS - 3), 3);
    for (int i = 0; i < 2; i++) spec_many_close(t[i]);
}

/* Times that grow with the texts: what was measured when they were short misleads for some steps only. */
static void times_change(void **state)
{
    struct spec_many m;
    struct spec_many_text *t = open_text(500);
    (void)state;
    repeat(t, 20, 300);
    spec_many_judged(t, 8, 8);
    spec_many_init(&m, SPEC_AUTO);
    know(&m, 1, 1100);
    assert_int_equal(drafted(&m, &t, 1, 1), 0);
    for (int i = 0; i < 40; i++) spec_many_timed(&m, 1, true, 20000);
    assert_true(drafted(&m, &t, 1, 1) > 5); /* that many rows cannot take less than one */
    for (int i = 0; i < 40; i++)
        for (int rows = 2; rows < 20; rows++) spec_many_timed(&m, rows, false, 22000 * rows);
    spec_many_timed(&m, 1, true, 20000);
    assert_int_equal(drafted(&m, &t, 1, 1), 0);
    for (int i = 0; i < 5000; i++) spec_many_timed(&m, 1, true, 20000);
    assert_true(drafted(&m, &t, 1, 1) > 0); /* once more: it may have been noise */
    spec_many_close(t);
}

static void long_texts_and_no_allocation(void **state)
{
    struct spec_many m;
    struct spec_many_text *t = open_text(LONG);
    (void)state;
    spec_many_init(&m, 4);
    oom_after(1);
    for (int32_t i = 0; i < LONG; i++) spec_many_read(t, &i, 1, i > LONG / 2); /* nothing twice */
    assert_int_equal(drafted(&m, &t, 1, 1), 0);
    for (int32_t i = LONG - 1000; i < LONG - 900; i++) spec_many_read(t, &i, 1, true);
    assert_int_equal(drafted(&m, &t, 1, 1), 4);
    for (int32_t i = 0; i < 4; i++) assert_int_equal(t->guess[i], LONG - 900 + i);
    for (int32_t i = 0; i < 100; i++) spec_many_read(t, &i, 1, true); /* that old it is forgotten */
    assert_int_equal(drafted(&m, &t, 1, 1), 0);
    assert_false(oom_hit());
    spec_many_close(t);
    spec_many_close(NULL);
}

static void memory_that_runs_out(void **state)
{
    (void)state;
    for (long n = 1; n < 100; n++) {
        struct spec_many_text *t;
        struct err e;
        long alive = oom_alive;
        oom_after(n);
        int rc = spec_many_open(&t, 100, &e);
        bool hit = oom_hit();
        assert_int_equal(rc, hit ? ERR_MEMORY : 0);
        if (!rc) spec_many_close(t);
        assert_int_equal(oom_alive, alive);
        if (!hit) return;
    }
    fail_msg("it never had enough");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_rows_are_filled_wide_steps_are_not),
        cmocka_unit_test(the_likeliest_come_first),
        cmocka_unit_test(times_change),
        cmocka_unit_test(long_texts_and_no_allocation),
        cmocka_unit_test(memory_that_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
