/* How many texts of 128 tokens llama.cpp encodes a second, 32 in a batch: llama_embed MODEL THREADS
 * UBATCH. The best of five rounds after one that warms up. Built and run by bench/embed. */
#include "llama.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TEXTS = 32, TOKENS = 128, ROUNDS = 6 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void quiet(enum ggml_log_level level, const char *text, void *arg)
{
    (void)level, (void)text, (void)arg;
}

/* [CLS], words, [SEP]: the ids of BERT's English vocabulary. */
static void fill(struct llama_batch *b, int texts)
{
    for (int i = 0; i < texts * TOKENS; i++) {
        int at = i % TOKENS;
        b->token[i] = at == 0 ? 101 : at == TOKENS - 1 ? 102 : 2000 + i * 37 % 20000;
        b->pos[i] = at;
        b->n_seq_id[i] = 1;
        b->seq_id[i][0] = i / TOKENS;
        b->logits[i] = 1;
    }
    b->n_tokens = texts * TOKENS;
}

int main(int argc, char **argv)
{
    int threads = argc == 4 ? atoi(argv[2]) : 0, ubatch = argc == 4 ? atoi(argv[3]) : 0;
    int texts = ubatch / TOKENS < TEXTS ? ubatch / TOKENS : TEXTS;
    if (threads < 1 || texts < 1) return fprintf(stderr, "llama_embed MODEL THREADS UBATCH\n"), 2;
    llama_log_set(quiet, NULL);
    struct llama_model *m = llama_model_load_from_file(argv[1], llama_model_default_params());
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = p.n_ubatch = (uint32_t)(texts * TOKENS);
    p.n_seq_max = (uint32_t)texts;
    p.n_threads = p.n_threads_batch = threads;
    p.embeddings = true;
    p.pooling_type = LLAMA_POOLING_TYPE_MEAN;
    struct llama_context *c = m ? llama_init_from_model(m, p) : NULL;
    if (!c) return fprintf(stderr, "cannot open %s\n", argv[1]), 1;
    struct llama_batch b = llama_batch_init(texts * TOKENS, 0, 1);
    double best = 0;
    fill(&b, texts);
    for (int r = 0; r < ROUNDS; r++) {
        double start = now();
        for (int done = 0; done < TEXTS; done += texts)
            if (llama_encode(c, b)) return fprintf(stderr, "llama_encode failed\n"), 1;
        if (!llama_get_embeddings_seq(c, 0)) return fprintf(stderr, "no embeddings\n"), 1;
        double rate = TEXTS / (now() - start);
        if (r && rate > best) best = rate;
    }
    printf("%.1f\n", best);
    return 0;
}
