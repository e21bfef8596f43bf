/* A Hugging Face folder of a tiny Llama, written file by file, for tests that change one of them.
 *
 *     char dir[] = "/tmp/x.XXXXXX"; mkdtemp(dir);
 *     hf_folder_write(dir);
 *     hf_folder_put(dir, "config.json", text, n);      one file anew
 *     hf_folder_remove(dir);
 *
 * 1 layer, width 32, 2 heads of 16, one of keys and values, 300 tokens of byte-level BPE. Value i of a tensor is
 * i % 251 - 125, times 2^-7.
 */
#ifndef HF_FOLDER_H
#define HF_FOLDER_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char hf_folder_config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"num_hidden_layers\":1,\"hidden_size\":32,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":64,\"vocab_size\":"
    "300,"
    "\"max_position_embeddings\":128,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\","
    "\"rope_theta\":5000,\"tie_word_embeddings\":true,\"bos_token_id\":297,\"eos_token_id\":298}";

static const char hf_folder_settings[] =
    "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"add_bos_token\":true,"
    "\"chat_template\":[{\"name\":\"other\",\"template\":\"no\"},"
    "{\"name\":\"default\",\"template\":\"{{ messages }}\"}]}";

static const char *const hf_folder_files[] = {"config.json", "tokenizer.json",
                                              "tokenizer_config.json", "generation_config.json",
                                              "model.safetensors"};
enum { HF_FOLDER_FILES = 5 };

static inline void hf_folder_put(const char *dir, const char *name, const void *p, size_t n)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert(f && fwrite(p, 1, n, f) == n);
    assert(fclose(f) == 0);
}

/* The caller frees it. */
static inline char *hf_folder_tokenizer(size_t *n)
{
    char *text;
    FILE *f = open_memstream(&text, n);
    int code = 256;
    assert(f);
    fprintf(f,
            "{\"added_tokens\":[{\"id\":297,\"content\":\"<s>\",\"special\":true},{\"id\":298,"
            "\"content\":\"</s>\",\"special\":true},{\"id\":299,\"content\":\"<|x|>\"}],"
            "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int b = 0; b < 256; b++) {
        int c = (b >= 33 && b <= 126) || (b >= 161 && b != 173) ? b : code++;
        fprintf(f, "\"\\u%04x\":%d,", c, b);
    }
    for (int i = 0; i < 26; i++) fprintf(f, "\"%c%c\":%d,", 'a' + i, 'a' + i, 256 + i);
    fprintf(f, "\"th\":282,\"the\":283},\"merges\":[[\"t\",\"h\"],\"th e\"");
    for (int i = 0; i < 26; i++) fprintf(f, ",\"%c %c\"", 'a' + i, 'a' + i);
    fprintf(f, "]}}");
    fclose(f);
    return text;
}

static inline float hf_folder_value(size_t i)
{
    return ((float)(i % 251) - 125) / 128;
}

static inline void hf_folder_weights(const char *dir)
{
    static const struct {
        const char *name;
        int rows, cols;
    } t[] = {{"model.embed_tokens.weight", 300, 32},
             {"model.norm.weight", 32, 0},
             {"model.layers.0.input_layernorm.weight", 32, 0},
             {"model.layers.0.post_attention_layernorm.weight", 32, 0},
             {"model.layers.0.self_attn.q_proj.weight", 32, 32},
             {"model.layers.0.self_attn.k_proj.weight", 16, 32},
             {"model.layers.0.self_attn.v_proj.weight", 16, 32},
             {"model.layers.0.self_attn.o_proj.weight", 32, 32},
             {"model.layers.0.mlp.gate_proj.weight", 64, 32},
             {"model.layers.0.mlp.up_proj.weight", 64, 32},
             {"model.layers.0.mlp.down_proj.weight", 32, 64}};
    char *file;
    size_t size, at = 0, n = sizeof t / sizeof *t;
    FILE *f = open_memstream(&file, &size);
    assert(f);
    fwrite(&(uint64_t){0}, 8, 1, f);
    for (size_t i = 0; i < n; i++) {
        size_t bytes = 4 * (size_t)t[i].rows * (size_t)(t[i].cols ? t[i].cols : 1);
        fprintf(f, "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%d", i ? ',' : '{', t[i].name,
                t[i].rows);
        if (t[i].cols) fprintf(f, ",%d", t[i].cols);
        fprintf(f, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
        at += bytes;
    }
    fprintf(f, "}");
    uint64_t header = (uint64_t)ftell(f) - 8;
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < (size_t)t[k].rows * (size_t)(t[k].cols ? t[k].cols : 1); i++) {
            float v = hf_folder_value(i);
            fwrite(&v, 4, 1, f);
        }
    fclose(f);
    memcpy(file, &header, 8);
    hf_folder_put(dir, "model.safetensors", file, size);
    free(file);
}

/* All but the weights. */
static inline void hf_folder_texts(const char *dir)
{
    size_t n;
    char *tokenizer = hf_folder_tokenizer(&n);
    hf_folder_put(dir, "tokenizer.json", tokenizer, n);
    free(tokenizer);
    hf_folder_put(dir, "config.json", hf_folder_config, strlen(hf_folder_config));
    hf_folder_put(dir, "tokenizer_config.json", hf_folder_settings, strlen(hf_folder_settings));
    hf_folder_put(dir, "generation_config.json", "{\"eos_token_id\":[298,299]}", 26);
}

static inline void hf_folder_write(const char *dir)
{
    hf_folder_texts(dir);
    hf_folder_weights(dir);
}

static inline void hf_folder_remove(const char *dir)
{
    char path[300];
    for (int i = 0; i < HF_FOLDER_FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, hf_folder_files[i]);
        unlink(path);
    }
    rmdir(dir);
}

#endif
