/* A Hugging Face folder -> one GGUF file.
 *
 *     struct convert_report r;
 *     struct convert_opts o = {.type = "q4_k_m", .threads = 4};
 *     if (convert_run("folder", "model.gguf", &o, &r, &e)) ...
 *
 * Folder: config.json, tokenizer.json, tokenizer_config.json, generation_config.json, chat_template.*,
 * safetensors, and for sentence encoders modules.json with its pooling. Families: LlamaForCausalLM,
 * MistralForCausalLM, MixtralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, Gemma2ForCausalLM,
 * Gemma3ForCausalLM, BertModel. Names of keys and tensors are llama.cpp's, as are the mixtures of types.
 *
 * Every weight of the folder has its place or is refused by name: nothing is dropped silently. What
 * the file would not say right (an unknown pre-tokenizer, RoPE scaling, activation) is refused too.
 * The output is whole or not there (gguf_write.h), and does not depend on the number of threads.
 */
#ifndef CONVERT_H
#define CONVERT_H

#include "err.h"
#include "quant.h"
#include <stdbool.h>
#include <stdint.h>

struct convert_opts {
    const char *type;                                         /* a name of convert_type_name */
    int threads;                                              /* 0: as many as we may use */
    bool force;                                               /* overwrite what is there */
    void (*progress)(void *arg, int64_t done, int64_t total); /* bytes written; or NULL */
    void (*note)(void *arg, const char *line);                /* things to know; or NULL */
    void *arg;
};

struct convert_report {
    struct {
        uint64_t tensors, values, bytes;
    } of[QUANT_TYPE_END];
};

/* "f32" ... "q4_k_m" ..., NULL behind the last. */
const char *convert_type_name(int i);

ERR_DOOR int convert_run(const char *dir, const char *out, const struct convert_opts *o,
                         struct convert_report *r, struct err *e);

#endif
