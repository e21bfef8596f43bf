/* The automaton against a twin that compares all pairs of places, over alphabets so small that
 * everything repeats; the continuations; the caps. */
#include "suffix.h"

#include "rng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"

static struct suffix *open_room(int room)
{
    struct suffix *s;
    struct err e;
    if (suffix_open(&s, room, &e)) fail_msg("%s", e.msg);
    return s;
}

/* How many tokens before a and before b are the same, a < b. */
static int common(const int32_t *text, int a, int b)
{
    int n = 0;
    while (n < a && text[a - 1 - n] == text[b - 1 - n]) n++;
    return n;
}

/* The longest match of text [n], and the latest place where it is so long. */
static int naive(const int32_t *text, int n, int *from)
{
    int best = 0;
    for (int at = n - 1; at > 0; at--) {
        int k = common(text, at, n);
        if (k > best) best = k, *from = at;
    }
    return best;
}

static void agrees(struct suffix *s, const int32_t *text, int n, bool latest)
{
    for (int i = 1; i <= n; i++) {
        int from = -1, ours = -1;
        suffix_put(s, text[i - 1]);
        int want = naive(text, i, &from);
        assert_int_equal(suffix_match(s, &ours), want);
        if (!want) continue;
        assert_in_range(ours, 1, i - 1);
        assert_true(common(text, ours, i) >= want);
        if (latest) assert_int_equal(ours, from);
    }
}

static void random_texts_agree_with_the_naive_twin(void **state)
{
    enum { N = 400 };
    struct rng r;
    (void)state;
    rng_init(&r, 4);
    struct suffix *s = open_room(N);
    for (int round = 0; round < 60; round++) {
        int32_t text[N], letters = 1 + round % 6, n = 1 + (int32_t)rng_below(&r, N);
        for (int i = 0; i < n; i++) text[i] = (int32_t)rng_below(&r, (uint64_t)letters) * 77777 - 5;
        suffix_clear(s);
        agrees(s, text, n, letters > 1);
    }
    suffix_close(s);
}

/* Where all repeats at a distance, as copied text does: a random text, pieces of it, new tokens. */
static void copied_texts_agree_with_the_naive_twin(void **state)
{
    enum { N = 600 };
    struct rng r;
    (void)state;
    rng_init(&r, 5);
    struct suffix *s = open_room(N);
    for (int round = 0; round < 30; round++) {
        int32_t text[N];
        int n = 50;
        for (int i = 0; i < n; i++) text[i] = (int32_t)rng_below(&r, 1000);
        while (n < N) {
            int from = (int)rng_below(&r, (uint64_t)n), k = 1 + (int)rng_below(&r, 30);
            for (; k > 0 && from < n && n < N; k--) text[n++] = text[from++];
            if (n < N) text[n++] = (int32_t)rng_below(&r, 1000);
        }
        suffix_clear(s);
        agrees(s, text, N, true);
    }
    suffix_close(s);
}

static void periodic_texts_match_whole_periods(void **state)
{
    (void)state;
    struct suffix *s = open_room(5000);
    for (int period = 1; period <= 64; period *= 4) {
        int from;
        suffix_clear(s);
        for (int i = 0; i < 5000; i++) suffix_put(s, i % period);
        assert_int_equal(suffix_match(s, &from), 5000 - period);
        assert_int_equal(from, 5000 - period);
    }
    suffix_close(s);
}

/* The texts with the most states (abbb...) and with the most edges (abb...bc) fit too. */
static void room_is_enough_for_the_worst_texts(void **state)
{
    (void)state;
    for (int room = 1; room <= 64; room++) {
        struct suffix *s = open_room(room);
        int n;
        for (int i = 0; i < room; i++) suffix_put(s, i > 0);
        suffix_clear(s);
        for (int i = 0; i < room; i++) suffix_put(s, i == 0 ? 1 : i == room - 1 ? 3 : 2);
        suffix_clear(s);
        for (int i = 0; i < room; i++) suffix_put(s, i); /* no token twice */
        assert_int_equal(suffix_text(s, &n)[room - 1], room - 1);
        assert_int_equal(n, room);
        suffix_close(s);
    }
}

static void what_followed_goes_on_in_a_loop(void **state)
{
    (void)state;
    static const int32_t text[] = {9, 1, 2, 3, 4, 1, 2}, want[] = {3, 4, 1, 2, 3, 4, 1, 2, 3};
    struct suffix *s = open_room(7);
    int32_t out[9];
    int from = 0;
    assert_int_equal(suffix_match(s, &from), 0);
    for (int i = 0; i < 7; i++) suffix_put(s, text[i]);
    assert_int_equal(suffix_match(s, &from), 2);
    assert_int_equal(from, 3);
    suffix_follow(s, from, out, 9);
    assert_memory_equal(out, want, sizeof want);
    suffix_close(s);
}

static void impossible_rooms_are_refused(void **state)
{
    struct suffix *s = NULL;
    struct err e;
    (void)state;
    assert_int_equal(suffix_open(&s, 0, &e), ERR_LIMIT);
    assert_int_equal(suffix_open(&s, -1, &e), ERR_LIMIT);
    assert_int_equal(suffix_open(&s, SUFFIX_ROOM_MAX + 1, &e), ERR_LIMIT);
    assert_null(s);
    suffix_close(NULL);
}

static void out_of_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    for (long n = 1;; n++) {
        struct suffix *s = NULL;
        struct err e;
        long alive = oom_alive;
        oom_after(n);
        int rc = suffix_open(&s, 100, &e);
        for (int i = 0; !rc && i < 100; i++) suffix_put(s, i % 7); /* takes no more */
        bool hit = oom_hit();
        assert_int_equal(rc, hit ? ERR_MEMORY : 0);
        suffix_close(s);
        assert_int_equal(oom_alive, alive);
        if (!hit) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_texts_agree_with_the_naive_twin),
        cmocka_unit_test(copied_texts_agree_with_the_naive_twin),
        cmocka_unit_test(periodic_texts_match_whole_periods),
        cmocka_unit_test(room_is_enough_for_the_worst_texts),
        cmocka_unit_test(what_followed_goes_on_in_a_loop),
        cmocka_unit_test(impossible_rooms_are_refused),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
