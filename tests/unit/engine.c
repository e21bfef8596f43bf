/* The doors of the engine: what it refuses leaves every sequence as it was, pages come back, and a failed
 * open tells what was wrong. On the tiny models of tests/data/golden. */
#include "engine.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/oom.h"

#define MODEL TEST_DATA "/golden/llama_q4_0.gguf"

static struct engine *open_engine(struct engine_opts o)
{
    struct engine *en;
    struct err e;
    if (engine_open(&en, MODEL, &o, &e)) fail_msg("%s", e.msg);
    return en;
}

static const int32_t ids[64] = {5, 9, 1, 7, 3, 8, 2, 6};

static int step(struct engine *en, int seq, int n, enum engine_want want, struct err *e)
{
    struct engine_slice s = {.seq = seq, .tokens = ids, .n = n, .want = want};
    return engine_step(en, &s, 1, e);
}

static void refused_steps_change_nothing(void **state)
{
    struct engine *en =
        open_engine((struct engine_opts){.ctx = 64, .max_seqs = 2, .kv_tokens = 64});
    struct err e;
    int a = engine_seq_open(en), b = engine_seq_open(en);
    int32_t bad[2] = {3, engine_vocab(en)};
    (void)state;
    assert_int_equal(engine_seq_open(en), ERR_LIMIT);
    assert_int_equal(step(en, a, 40, ENGINE_LOGITS_LAST, &e), 0);
    assert_int_equal(step(en, a, 25, ENGINE_LOGITS_LAST, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "context of 64"));
    assert_int_equal(step(en, a, 0, ENGINE_LOGITS_LAST, &e), ERR_LIMIT);
    assert_int_equal(step(en, b, 64, ENGINE_LOGITS_LAST, &e), 0);
    struct engine_slice s = {.seq = a, .tokens = bad, .n = 2, .want = ENGINE_LOGITS_LAST};
    assert_int_equal(engine_step(en, &s, 1, &e), ERR_FORMAT);
    assert_non_null(strstr(e.msg, "vocabulary"));
    assert_int_equal(engine_seq_len(en, a), 40);
    assert_int_equal(engine_seq_len(en, b), 64);
    engine_close(en);
}

static void pages_run_out_and_come_back(void **state)
{
    struct engine *en =
        open_engine((struct engine_opts){.ctx = 64, .max_seqs = 4, .kv_tokens = 32});
    struct err e;
    int seq[4];
    (void)state;
    for (int i = 0; i < 4; i++) seq[i] = engine_seq_open(en);
    assert_int_equal(step(en, seq[0], 64, ENGINE_LOGITS_NONE, &e), 0);
    assert_int_equal(step(en, seq[1], 64, ENGINE_LOGITS_NONE, &e), 0);
    assert_int_equal(step(en, seq[2], 64, ENGINE_LOGITS_NONE, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "KV cache has 1 pages left, 2 are needed"));
    engine_seq_truncate(en, seq[0], 10);
    assert_int_equal(step(en, seq[2], 64, ENGINE_LOGITS_NONE, &e), 0);
    engine_seq_close(en, seq[1]);
    assert_int_equal(engine_seq_open(en), seq[1]);
    assert_int_equal(engine_seq_len(en, seq[1]), 0);
    engine_close(en);
}

/* Pages of the caller's own: two tasks share a page they do not write to, and each row is what it is in
 * a sequence. */
static void the_callers_own_pages(void **state)
{
    enum { SHARED = 32, ALL = 40 };
    struct engine *en =
        open_engine((struct engine_opts){.ctx = 64, .max_seqs = 2, .kv_tokens = 64, .pages = 3});
    struct err e;
    size_t bytes = (size_t)engine_vocab(en) * sizeof(float);
    float *want = malloc(bytes);
    const int32_t a[2] = {2, 0}, b[2] = {2, 1};
    (void)state;
    struct engine_slice s = {.seq = engine_seq_open(en), .tokens = ids, .n = ALL, .want = 1};
    assert_int_equal(engine_step(en, &s, 1, &e), 0);
    memcpy(want, s.logits, bytes);
    s = (struct engine_slice){.tokens = ids, .n = SHARED, .pages = a};
    assert_int_equal(engine_step(en, &s, 1, &e), 0);
    struct engine_slice two[2] = {{.pages = a}, {.pages = b}};
    for (int i = 0; i < 2; i++) {
        two[i].tokens = ids + SHARED;
        two[i].n = ALL - SHARED;
        two[i].pos = SHARED;
        two[i].want = ENGINE_LOGITS_LAST;
    }
    assert_int_equal(engine_step(en, two, 2, &e), 0);
    assert_memory_equal(two[0].logits, want, bytes);
    assert_memory_equal(two[1].logits, want, bytes);
    two[0].n = two[1].n = ALL - SHARED - 3; /* the last rows, after those that nobody looks at */
    assert_int_equal(engine_step(en, two, 2, &e), 0);
    for (int i = 0; i < 2; i++) {
        two[i].pos += two[i].n - 2;
        two[i].tokens += two[i].n - 2;
        two[i].n = 5;
        two[i].last = 3 - i;
    }
    assert_int_equal(engine_step(en, two, 2, &e), 0);
    assert_ptr_equal(two[1].logits, two[0].logits + 3 * (size_t)engine_vocab(en));
    assert_memory_equal(two[0].logits + 2 * engine_vocab(en), want, bytes);
    assert_memory_equal(two[1].logits + engine_vocab(en), want, bytes);
    assert_memory_equal(two[1].logits, two[0].logits + engine_vocab(en), bytes);
    two[0].pos = 64;
    assert_int_equal(engine_step(en, two, 1, &e), ERR_LIMIT);
    free(want);
    engine_close(en);
}

static void options_out_of_range_are_refused(void **state)
{
    static const struct {
        struct engine_opts o;
        const char *says;
    } cases[] = {
        {{.threads = -1}, "threads"},
        {{.threads = 100000}, "threads"},
        {{.ctx = -5}, "context"},
        {{.ctx = 1 << 25}, "context"},
        {{.chunk = -1}, "chunk"},
        {{.chunk = 1 << 20}, "chunk"},
        {{.max_seqs = 1 << 20}, "sequences"},
        {{.cpu = "mmx"}, "no kernel level 'mmx'"},
        {{.exact = true, .kv_int8 = true}, "exact"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct engine *en = NULL;
        struct err e;
        assert_true(engine_open(&en, MODEL, &cases[i].o, &e) < 0);
        assert_non_null(strstr(e.msg, cases[i].says));
        assert_null(en);
    }
}

static void a_file_that_is_no_model_is_refused(void **state)
{
    struct engine *en = NULL;
    struct engine_opts o = {0};
    struct err e;
    (void)state;
    assert_int_equal(engine_open(&en, "/nonexistent/model.gguf", &o, &e), ERR_IO);
    assert_int_equal(engine_open(&en, TEST_DATA "/golden/text.txt", &o, &e), ERR_FORMAT);
    assert_null(en);
}

/* On four workers, whatever the machine has: prefill, decode, two sequences of different lengths. */
static void a_step_allocates_nothing(void **state)
{
    (void)state;
    struct engine *en =
        open_engine((struct engine_opts){.threads = 4, .ctx = 64, .max_seqs = 2, .chunk = 16});
    int a = engine_seq_open(en), b = engine_seq_open(en);
    struct err e;
    oom_after(1);
    assert_int_equal(step(en, a, 20, ENGINE_LOGITS_LAST, &e), 0);
    for (int i = 0; i < 8; i++) {
        struct engine_slice s[] = {
            {.seq = a, .tokens = ids, .n = 1, .want = ENGINE_LOGITS_LAST},
            {.seq = b, .tokens = ids + i, .n = 1 + i % 3, .want = ENGINE_LOGITS_LAST}};
        assert_int_equal(engine_step(en, s, 2, &e), 0);
    }
    engine_seq_truncate(en, a, 3);
    assert_int_equal(step(en, a, 1, ENGINE_LOGITS_ALL, &e), 0);
    engine_seq_close(en, b);
    b = engine_seq_open(en);
    assert_false(oom_hit());
    engine_close(en);
}

static void *progress_calls;

static void note_progress(void *arg, int64_t done, int64_t total)
{
    (void)done, (void)total;
    progress_calls = arg;
}

/* Opens with a folder of packs; true when the weights were packed anew. */
static bool packed_anew(const char *dir, float *logits)
{
    struct err e;
    struct engine *en = open_engine((struct engine_opts){
        .ctx = 64, .packs = dir, .progress = note_progress, .progress_arg = logits});
    int seq = engine_seq_open(en);
    struct engine_slice s = {.seq = seq, .tokens = ids, .n = 8, .want = ENGINE_LOGITS_LAST};
    assert_int_equal(engine_step(en, &s, 1, &e), 0);
    memcpy(logits, s.logits, (size_t)engine_vocab(en) * sizeof *logits);
    engine_close(en);
    bool anew = progress_calls == logits;
    progress_calls = NULL;
    return anew;
}

static void packs_are_found_and_damaged_ones_made_again(void **state)
{
    (void)state;
    static float first[4096], again[4096];
    char dir[] = "/tmp/engine-XXXXXX", path[4096];
    assert_non_null(mkdtemp(dir));
    assert_true(packed_anew(dir, first));
    DIR *d = opendir(dir);
    const struct dirent *f;
    while ((f = readdir(d)) && f->d_name[0] == '.') {}
    snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
    closedir(d);
    assert_false(packed_anew(dir, again));
    assert_memory_equal(first, again, sizeof first);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "damage", 6, 20000), 6);
    close(fd);
    assert_true(packed_anew(dir, again));
    assert_memory_equal(first, again, sizeof first);
    assert_false(packed_anew(dir, again));
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_steps_change_nothing),
        cmocka_unit_test(pages_run_out_and_come_back),
        cmocka_unit_test(the_callers_own_pages),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(a_file_that_is_no_model_is_refused),
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(packs_are_found_and_damaged_ones_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
