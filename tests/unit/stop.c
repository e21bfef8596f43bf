/* Stop strings against the plain way: look for them in the whole text after every byte. Random texts
 * over two letters, cut into random pieces, make overlaps and false beginnings of every kind. */
#include "stop.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/oom.h"

/* What is left of text before the first complete stop string; *found says whether there is one. */
static size_t naive(const char *text, size_t n, const char *const *stops, int n_stops, bool *found)
{
    *found = false;
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (int i = 0; i < n_stops; i++) {
            size_t len = strlen(stops[i]);
            if (len <= end && memcmp(text + end - len, stops[i], len) == 0 && len > longest)
                longest = len;
        }
        if (longest) return *found = true, end - longest;
    }
    return n;
}

/* Whether some end of text is a proper beginning of a stop string, n bytes long. */
static bool may_begin(const char *text, size_t len, size_t n, const char *const *stops, int n_stops)
{
    for (int i = 0; i < n_stops; i++)
        if (n < strlen(stops[i]) && memcmp(text + len - n, stops[i], n) == 0) return true;
    return false;
}

static void check(struct rng *r, const char *text, size_t n, const char *const *stops, int n_stops)
{
    struct stop s;
    struct err e;
    struct buf out = BUF_INIT(1 << 20);
    bool want_found, found = false;
    size_t want = naive(text, n, stops, n_stops, &want_found);
    assert_int_equal(stop_init(&s, stops, n_stops, &e), 0);
    for (size_t at = 0, k; at < n && !found; at += k) {
        k = rng_below(r, n - at < 6 ? n - at + 1 : 6);
        found = stop_put(&s, text + at, k, &out);
        size_t held = at + k - out.len;
        /* Nothing is held without need. */
        if (!found && held) assert_true(may_begin(text, at + k, held, stops, n_stops));
    }
    if (!found) stop_end(&s, &out);
    assert_int_equal(found, want_found);
    assert_int_equal(s.found >= 0, found);
    if (found) assert_memory_equal(text + want, stops[s.found], strlen(stops[s.found]));
    assert_int_equal(out.len, want);
    assert_memory_equal(out.data ? out.data : "", text, want);
    assert_false(out.failed);
    stop_free(&s);
    buf_free(&out);
}

static void test_random_texts(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 21);
    for (int trial = 0; trial < 20000; trial++) {
        char text[64], words[4][10];
        const char *stops[4];
        size_t n = rng_below(&r, sizeof text);
        int n_stops = (int)rng_below(&r, 5);
        uint64_t letters = 1 + rng_below(&r, 3);
        for (size_t i = 0; i < n; i++) text[i] = (char)('a' + rng_below(&r, letters));
        for (int w = 0; w < n_stops; w++) {
            size_t len = 1 + rng_below(&r, 9);
            for (size_t i = 0; i < len; i++) words[w][i] = (char)('a' + rng_below(&r, letters));
            words[w][len] = 0;
            stops[w] = words[w];
        }
        check(&r, text, n, stops, n_stops);
    }
}

static void test_known(void **state)
{
    (void)state;
    const char *stops[] = {"\nUser:", "###"};
    struct stop s;
    struct err e;
    struct buf out = BUF_INIT(100);
    assert_int_equal(stop_init(&s, stops, 2, &e), 0);
    assert_false(stop_put(&s, "Hi\nUse", 6, &out));
    assert_string_equal(out.data, "Hi");
    assert_false(stop_put(&s, "d ##", 4, &out));
    assert_string_equal(out.data, "Hi\nUsed ");
    assert_true(stop_put(&s, "#\nUser:", 7, &out));
    assert_string_equal(out.data, "Hi\nUsed ");
    stop_free(&s);
    buf_free(&out);
}

static void test_refusals(void **state)
{
    (void)state;
    char longest[STOP_BYTES_MAX + 2];
    const char *many[STOP_COUNT_MAX + 1];
    struct stop s;
    struct err e;
    memset(longest, 'x', sizeof longest);
    longest[STOP_BYTES_MAX + 1] = 0;
    for (int i = 0; i <= STOP_COUNT_MAX; i++) many[i] = "stop";
    assert_int_equal(stop_init(&s, (const char *[]){"a", ""}, 2, &e), ERR_USAGE);
    assert_int_equal(stop_init(&s, (const char *[]){"a", longest}, 2, &e), ERR_LIMIT);
    assert_int_equal(stop_init(&s, many, STOP_COUNT_MAX + 1, &e), ERR_LIMIT);
    longest[STOP_BYTES_MAX] = 0;
    many[3] = longest;
    assert_int_equal(stop_init(&s, many, STOP_COUNT_MAX, &e), 0);
    stop_free(&s);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    for (long n = 1;; n++) {
        struct stop s;
        struct err e;
        struct buf out = BUF_INIT(100);
        long alive = oom_alive;
        oom_after(n);
        int rc = stop_init(&s, (const char *[]){"ab", "abc"}, 2, &e);
        if (!rc) {
            bool found = stop_put(&s, "xyab", 4, &out);
            assert_true(found || out.failed);
            stop_free(&s);
        }
        bool hit = oom_hit();
        buf_free(&out);
        assert_int_equal(oom_alive, alive);
        if (!hit) break;
        assert_true(rc == 0 || rc == ERR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
