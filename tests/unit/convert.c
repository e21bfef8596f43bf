/* One tiny folder: its metadata, vocabulary and rows as the file must have them, settings that are refused, any
 * number of threads, memory that runs out at every place. tests/e2e/convert.py has all families and types. */
#include "../support/oom.h"

#include "../support/hf_folder.h"
#include "convert.h"
#include "gguf.h"
#include "tok.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char dir[] = "/tmp/convert.XXXXXX", file[100], part[110];

static int run(const char *type, int threads, struct err *e)
{
    struct convert_opts o = {.type = type, .threads = threads, .force = true};
    struct convert_report r;
    return convert_run(dir, file, &o, &r, e);
}

static struct gguf *converted(const char *type)
{
    struct gguf *g = NULL;
    struct err e;
    if (run(type, 1, &e) || gguf_open(&g, file, &e)) fail_msg("%s", e.msg);
    return g;
}

static void test_metadata(void **state)
{
    (void)state;
    struct gguf *g = converted("f32");
    struct gguf_str s;
    uint32_t u;
    float f;
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"llama.block_count", 1},
                   {"llama.context_length", 128},
                   {"llama.embedding_length", 32},
                   {"llama.feed_forward_length", 64},
                   {"llama.vocab_size", 300},
                   {"llama.attention.head_count", 2},
                   {"llama.rope.dimension_count", 16},
                   {"llama.attention.head_count_kv", 1},
                   {"general.file_type", 0},
                   {"tokenizer.ggml.bos_token_id", 297},
                   {"tokenizer.ggml.eos_token_id", 298},
                   {"tokenizer.ggml.eot_token_id", 299}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!gguf_u32(g, numbers[i].key, &u) || u != numbers[i].value)
            fail_msg("%s", numbers[i].key);
    assert_true(gguf_f32(g, "llama.rope.freq_base", &f) && f == 5000);
    assert_true(gguf_f32(g, "llama.attention.layer_norm_rms_epsilon", &f) && f == 1e-5f);
    assert_true(gguf_string(g, "general.architecture", &s) && gguf_str_eq(s, "llama"));
    assert_true(gguf_string(g, "tokenizer.ggml.pre", &s) && gguf_str_eq(s, "gpt-2"));
    assert_true(gguf_string(g, "tokenizer.chat_template", &s) && gguf_str_eq(s, "{{ messages }}"));
    assert_null(gguf_tensor(g, "output.weight"));
    gguf_close(g);
}

static void test_rows(void **state)
{
    (void)state;
    struct gguf *g = converted("f32");
    static const struct {
        const char *name;
        uint64_t head;
    } tensors[] = {{"blk.0.attn_q.weight", 16},  {"blk.0.attn_k.weight", 16},
                   {"blk.0.attn_v.weight", 0},   {"token_embd.weight", 0},
                   {"blk.0.ffn_norm.weight", 0}, {"blk.0.ffn_down.weight", 0}};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        const struct gguf_tensor *t = gguf_tensor(g, tensors[i].name);
        assert_non_null(t);
        for (uint64_t r = 0; r < t->dim[1]; r++)
            for (uint64_t c = 0; c < t->dim[0]; c++) {
                uint64_t h = tensors[i].head, in = h ? r % h : 0;
                uint64_t from = h ? r - in + in / 2 + in % 2 * (h / 2) : r;
                float v;
                memcpy(&v, t->data + 4 * (r * t->dim[0] + c), 4);
                assert_true(v == hf_folder_value(from * t->dim[0] + c));
            }
    }
    gguf_close(g);
}

static void test_vocabulary(void **state)
{
    (void)state;
    struct gguf *g = converted("f16");
    struct tok *t;
    struct err e;
    struct tok_ids ids = {0};
    if (tok_open(&t, g, &e)) fail_msg("%s", e.msg);
    static const char text[] = "theth</s><|x|>aa";
    static const int32_t want[] = {297, 283, 282, 298, 299, 256};
    assert_int_equal(tok_size(t), 300);
    assert_true(tok_add_bos(t) && !tok_add_eos(t));
    assert_true(tok_is_end(t, 298) && tok_is_end(t, 299) && tok_is_control(t, 299));
    assert_int_equal(tok_encode(t, text, strlen(text), TOK_SPECIAL | TOK_ADD_AUTO, &ids, &e), 0);
    assert_int_equal(ids.len, 6);
    assert_memory_equal(ids.data, want, sizeof want);
    const struct gguf_kv *types = gguf_find(g, "tokenizer.ggml.token_type");
    assert_int_equal(gguf_item_i64(types, 290), 5); /* a hole */
    assert_int_equal(tok_find(t, "[PAD290]"), 290);
    tok_ids_free(&ids);
    tok_close(t);
    gguf_close(g);
}

static void refuse(const char *name, const char *text, const char *word)
{
    struct err e = {0};
    hf_folder_put(dir, name, text, strlen(text));
    int rc = run("q4_0", 1, &e);
    if (!rc || !strstr(e.msg, word)) fail_msg("%s: %d \"%s\" lacks \"%s\"", text, rc, e.msg, word);
    assert_int_equal(access(part, F_OK), -1);
    hf_folder_write(dir);
}

/* config.json with one text of it changed */
static void refuse_config(const char *old, const char *now, const char *word)
{
    char text[1000];
    const char *at = strstr(hf_folder_config, old);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - hf_folder_config), hf_folder_config, now,
             at + strlen(old));
    refuse("config.json", text, word);
}

static void test_refuses(void **state)
{
    (void)state;
    struct err e;
    refuse_config("LlamaFor", "OtherFor", "OtherForCausalLM");
    refuse_config("silu", "relu", "relu");
    refuse_config(":32,", ":0,", "hidden_size");
    refuse_config(":32,", ":1e30,", "hidden_size");
    refuse_config(":32,", ":\"32\",", "hidden_size");
    refuse_config("\"num_key_value_heads\":1", "\"num_key_value_heads\":3", "num_key_value_heads");
    refuse_config("\"intermediate_size\":64", "\"intermediate_size\":65", "gate_proj");
    refuse_config("\"num_hidden_layers\":1", "\"num_hidden_layers\":2",
                  "model.layers.1.input_layernorm");
    refuse_config("word_embeddings\":true", "word_embeddings\":false", "lm_head");
    refuse_config("\"rope_theta\"", "\"rope_scaling\":{\"type\":\"longrope\"},\"rope_theta\"",
                  "longrope");
    refuse_config("\"rope_theta\"", "\"quantization_config\":{},\"rope_theta\"",
                  "quantised already");
    refuse("config.json", "{", "config.json: line 1");
    refuse("tokenizer.json", "{}", "tokenizer.json");
    refuse("tokenizer.json", "{\"model\":{\"type\":\"WordLevel\"}}", "WordLevel");
    refuse("tokenizer.json", "{\"model\":{\"type\":\"WordPiece\"}}",
           "LlamaForCausalLM with a WordPiece");
    refuse("tokenizer.json",
           "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{"
           "\"a\":1,"
           "\"b\":1},\"merges\":[]}}",
           "have the id 1");
    refuse("tokenizer.json",
           "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{},"
           "\"merges\":[\"ab\"]}}",
           "merge 0");
    refuse(
        "tokenizer.json",
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
        "\"pattern\":{"
        "\"Regex\":\"x+\"}},{\"type\":\"ByteLevel\"}]},\"model\":{\"type\":\"BPE\",\"vocab\":{}}}",
        "split+otherwise(x+) bytes+words");
    assert_int_equal(run("q9_9", 1, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "q4_k_m"));
}

static void test_types(void **state)
{
    (void)state;
    for (int i = 0; convert_type_name(i); i++) gguf_close(converted(convert_type_name(i)));
    assert_null(convert_type_name(-1));
}

static size_t content(uint8_t **p)
{
    struct mapfile m;
    struct err e;
    assert_int_equal(mapfile_open(&m, file, &e), 0);
    size_t n = m.size;
    *p = malloc(n);
    assert_non_null(*p);
    memcpy(*p, m.data, n);
    mapfile_close(&m);
    return n;
}

static void test_threads(void **state)
{
    (void)state;
    struct err e;
    uint8_t *one, *many;
    assert_int_equal(run("q5_1", 1, &e), 0);
    size_t n = content(&one);
    for (int threads = 2; threads < 6; threads++) {
        assert_int_equal(run("q5_1", threads, &e), 0);
        assert_int_equal(content(&many), n);
        assert_memory_equal(one, many, n);
        free(many);
    }
    free(one);
}

static void test_memory(void **state)
{
    (void)state;
    if (!OOM_WORKS) skip();
    struct err e;
    unlink(file);
    for (long n = 1;; n++) {
        long alive = oom_alive;
        oom_after(n);
        int rc = run("q8_0", 1, &e);
        bool hit = oom_hit();
        assert_int_equal(oom_alive, alive);
        assert_int_equal(access(part, F_OK), -1);
        if (!hit) {
            assert_int_equal(rc, 0);
            break;
        }
        /* jansson tells a lack of memory as broken JSON, so any code will do */
        assert_true(rc < 0);
        assert_int_equal(access(file, F_OK), -1);
    }
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    hf_folder_write(dir);
    snprintf(file, sizeof file, "%s.gguf", dir);
    snprintf(part, sizeof part, "%s.part", file);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(file);
    hf_folder_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata),   cmocka_unit_test(test_rows),
        cmocka_unit_test(test_vocabulary), cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_types),      cmocka_unit_test(test_threads),
        cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
