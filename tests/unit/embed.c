/* Pooling, normalising and batching of embed.h, on an encoder and on a decoder, and what both and the
 * engine below refuse. That the numbers are right is golden_embed's to say. */
#include "embed.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ENCODER TEST_DATA "/embed/bert_f32.gguf"
#define DECODER TEST_DATA "/golden/llama_f32.gguf"

enum { D_MAX = 64, TOKENS = 40 };

static int32_t ids[TOKENS];

static struct engine *open_engine(const char *path, struct engine_opts o)
{
    struct engine *en;
    struct err e;
    o.threads = 1;
    if (engine_open(&en, path, &o, &e)) fail_msg("%s", e.msg);
    return en;
}

static int width(struct engine *en)
{
    struct engine_info info;
    engine_info(en, &info);
    assert_true(info.d_model <= D_MAX);
    return info.d_model;
}

static void embed(struct engine *en, int n, enum embed_pooling pooling, bool normalize, float *out)
{
    struct embed_text t = {
        .tokens = ids, .n = n, .pooling = pooling, .normalize = normalize, .out = out};
    struct err e;
    if (embed_texts(en, &t, 1, &e)) fail_msg("%s", e.msg);
}

/* A decoder's vectors against the hidden rows of one step; in chunks of 8 too. */
static void pooling_of_a_decoder(void **state)
{
    static const int chunks[] = {64, 8, 1};
    (void)state;
    for (size_t c = 0; c < 3; c++) {
        struct engine *en = open_engine(DECODER, (struct engine_opts){.exact = true});
        struct engine *embedder = open_engine(
            DECODER, (struct engine_opts){.exact = true, .embed = true, .chunk = chunks[c]});
        int d = width(en), seq = engine_seq_open(en);
        float out[D_MAX];
        struct err e;
        struct engine_slice s = {.seq = seq, .tokens = ids, .n = TOKENS, .want = ENGINE_HIDDEN_ALL};
        assert_int_equal(engine_step(en, &s, 1, &e), 0);
        for (int pooling = EMBED_AUTO; pooling <= EMBED_LAST; pooling++) {
            embed(embedder, TOKENS, (enum embed_pooling)pooling, false, out);
            for (int i = 0; i < d; i++) {
                double want = 0;
                for (int r = 0; r < TOKENS && pooling == EMBED_MEAN; r++)
                    want += (double)s.logits[r * d + i] / TOKENS;
                if (pooling == EMBED_CLS) want = (double)s.logits[i];
                if (pooling == EMBED_LAST || pooling == EMBED_AUTO)
                    want = (double)s.logits[(TOKENS - 1) * d + i];
                assert_float_equal(out[i], want, 1e-5);
            }
        }
        engine_close(en);
        engine_close(embedder);
    }
}

static void vectors_of_length_one(void **state)
{
    struct engine *en = open_engine(ENCODER, (struct engine_opts){.embed = true});
    float plain[D_MAX], unit[D_MAX], mean[D_MAX];
    int d = width(en);
    double squares = 0, dot = 0, length = 0;
    (void)state;
    embed(en, TOKENS, EMBED_AUTO, false, plain);
    embed(en, TOKENS, EMBED_MEAN, false, mean); /* the file says so */
    embed(en, TOKENS, EMBED_AUTO, true, unit);
    assert_memory_equal(plain, mean, (size_t)d * sizeof *plain);
    for (int i = 0; i < d; i++) {
        squares += (double)unit[i] * (double)unit[i];
        dot += (double)unit[i] * (double)plain[i];
        length += (double)plain[i] * (double)plain[i];
    }
    assert_float_equal(squares, 1, 1e-6);
    assert_float_equal(dot, sqrt(length), 1e-5);
    engine_close(en);
}

/* The order of tokens matters, those after a token too: the model is neither a bag nor causal. */
static void an_encoder_sees_what_comes_after(void **state)
{
    struct engine *en = open_engine(ENCODER, (struct engine_opts){.embed = true});
    float first[D_MAX], other[D_MAX];
    int d = width(en);
    double apart = 0;
    (void)state;
    embed(en, TOKENS, EMBED_CLS, true, first);
    ids[TOKENS - 1]++;
    embed(en, TOKENS, EMBED_CLS, true, other);
    ids[TOKENS - 1]--;
    for (int i = 0; i < d; i++) apart = fmax(apart, fabs((double)first[i] - (double)other[i]));
    assert_true(apart > 1e-4);
    engine_close(en);
}

static void refused(struct engine *en, int n, int32_t bad, int code, const char *says)
{
    float out[D_MAX];
    int32_t tokens[TOKENS * 4];
    struct err e;
    for (int i = 0; i < TOKENS * 4; i++) tokens[i] = 5;
    tokens[1] = bad;
    struct embed_text t[2] = {{.tokens = tokens + 2, .n = 3, .out = out},
                              {.tokens = tokens, .n = n, .out = out}};
    out[0] = 77;
    assert_int_equal(embed_texts(en, t, 2, &e), code);
    assert_non_null(strstr(e.msg, says));
    assert_true(out[0] == 77); /* nothing was computed */
}

static void texts_that_cannot_be_read(void **state)
{
    struct engine *en = open_engine(ENCODER, (struct engine_opts){.embed = true, .max_seqs = 2});
    float out[D_MAX];
    struct err e;
    (void)state;
    refused(en, 0, 5, ERR_LIMIT, "text 2 has 0 tokens");
    refused(en, 81, 5, ERR_LIMIT, "text 2 has 81 tokens; 1 to 80 can be read");
    refused(en, 2, 97, ERR_FORMAT, "token 97 of text 2 is outside the vocabulary");
    refused(en, 2, -1, ERR_FORMAT, "token -1");
    engine_seq_open(en), engine_seq_open(en);
    struct embed_text t = {.tokens = ids, .n = 3, .out = out};
    assert_int_equal(embed_texts(en, &t, 1, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "no free sequence"));
    engine_close(en);
}

/* All sequences and pages are free again, also when there were few for many texts. */
static void many_texts_in_few_pages(void **state)
{
    enum { MANY = 300 };
    struct engine *en = open_engine(
        DECODER, (struct engine_opts){.embed = true, .max_seqs = 5, .ctx = 64, .kv_tokens = 64});
    static float out[MANY][D_MAX];
    struct embed_text texts[MANY];
    struct err e;
    int room = engine_room(en), d = width(en);
    (void)state;
    for (int i = 0; i < MANY; i++)
        texts[i] = (struct embed_text){.tokens = ids, .n = 1 + i % TOKENS, .out = out[i]};
    if (embed_texts(en, texts, MANY, &e)) fail_msg("%s", e.msg);
    assert_int_equal(engine_room(en), room);
    for (int i = TOKENS; i < MANY; i++)
        assert_memory_equal(out[i], out[i - TOKENS], (size_t)d * sizeof **out);
    engine_close(en);
}

static void what_an_encoder_cannot_do(void **state)
{
    struct engine *en = NULL;
    struct engine_opts plain = {0}, long_ctx = {.embed = true, .ctx = 81},
                       small_chunk = {.embed = true, .chunk = 32, .ctx = 33};
    struct err e;
    (void)state;
    assert_int_equal(engine_open(&en, ENCODER, &plain, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "bert model has no words to say"));
    assert_int_equal(engine_open(&en, ENCODER, &long_ctx, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "can read 80 at once"));
    assert_int_equal(engine_open(&en, ENCODER, &small_chunk, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "can read 32 at once"));
    assert_null(en);
    en = open_engine(ENCODER, (struct engine_opts){.embed = true, .max_seqs = 2});
    int seq = engine_seq_open(en);
    struct engine_slice s = {.seq = seq, .tokens = ids, .n = 4, .want = ENGINE_LOGITS_LAST};
    assert_int_equal(engine_step(en, &s, 1, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "no LM head"));
    s.want = ENGINE_HIDDEN_LAST;
    assert_int_equal(engine_step(en, &s, 1, &e), 0);
    assert_int_equal(engine_step(en, &s, 1, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "holds 4 tokens"));
    engine_close(en);
}

static void logits_and_hidden_rows_apart(void **state)
{
    struct engine *en = open_engine(DECODER, (struct engine_opts){.max_seqs = 2});
    struct engine_slice s[2] = {
        {.seq = engine_seq_open(en), .tokens = ids, .n = 4, .want = ENGINE_LOGITS_LAST},
        {.seq = engine_seq_open(en), .tokens = ids, .n = 4, .want = ENGINE_HIDDEN_LAST}};
    struct err e;
    (void)state;
    assert_int_equal(engine_step(en, s, 2, &e), ERR_USAGE);
    assert_int_equal(engine_seq_len(en, s[0].seq), 0);
    s[0].want = ENGINE_LOGITS_NONE;
    assert_int_equal(engine_step(en, s, 2, &e), 0);
    assert_true(!s[0].logits && s[1].logits);
    engine_close(en);
}

static void names_of_poolings(void **state)
{
    enum embed_pooling p = EMBED_AUTO;
    (void)state;
    assert_true(embed_pooling_find("mean", &p) && p == EMBED_MEAN);
    assert_true(embed_pooling_find("cls", &p) && p == EMBED_CLS);
    assert_true(embed_pooling_find("last", &p) && p == EMBED_LAST);
    assert_false(embed_pooling_find("max", &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pooling_of_a_decoder),
        cmocka_unit_test(vectors_of_length_one),
        cmocka_unit_test(an_encoder_sees_what_comes_after),
        cmocka_unit_test(texts_that_cannot_be_read),
        cmocka_unit_test(many_texts_in_few_pages),
        cmocka_unit_test(what_an_encoder_cannot_do),
        cmocka_unit_test(logits_and_hidden_rows_apart),
        cmocka_unit_test(names_of_poolings),
    };
    for (int i = 0; i < TOKENS; i++) ids[i] = 5 + i * 7 % 60;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
