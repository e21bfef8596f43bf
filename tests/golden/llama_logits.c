/* llama.cpp's raw logits, for figures beside ours: built by real.py against a llama.cpp tree.
 *
 *     llama_logits MODEL IDS [THREADS] > LOGITS
 *
 * The same interface as tests/support/logits.c: IDS holds one sequence of token ids a line, the
 * output is float32 [tokens of all lines][n_vocab]. Each line is computed as one batch from an empty
 * cache. The default settings of llama.cpp's context otherwise (KV in F16).
 */
#include "llama.h"
#include <stdio.h>
#include <stdlib.h>

enum { LONGEST = 4096 };

static int read_line(FILE *f, llama_token *ids)
{
    int n = 0, c;
    while ((c = getc(f)) != EOF && c != '\n') {
        ungetc(c, f);
        if (n == LONGEST || fscanf(f, "%d", &ids[n++]) != 1) return -1;
        while ((c = getc(f)) == ' ') continue;
        ungetc(c, f);
    }
    return n;
}

static void quiet(enum ggml_log_level level, const char *text, void *arg)
{
    (void)arg;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static int run(struct llama_context *ctx, FILE *f, int n_vocab)
{
    static llama_token ids[LONGEST];
    struct llama_batch batch = llama_batch_init(LONGEST, 0, 1);
    int n, rc = 0;
    while (rc == 0 && (n = read_line(f, ids)) > 0) {
        llama_memory_clear(llama_get_memory(ctx), true);
        batch.n_tokens = n;
        for (int i = 0; i < n; i++) {
            batch.token[i] = ids[i];
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        rc = llama_decode(ctx, batch);
        for (int i = 0; rc == 0 && i < n; i++)
            rc = fwrite(llama_get_logits_ith(ctx, i), sizeof(float), (size_t)n_vocab, stdout) !=
                 (size_t)n_vocab;
    }
    llama_batch_free(batch);
    return rc || n < 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    llama_log_set(quiet, NULL);
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = p.n_ubatch = LONGEST;
    p.n_threads = p.n_threads_batch = argc > 3 ? atoi(argv[3]) : 2;
    struct llama_context *ctx = llama_init_from_model(model, p);
    FILE *f = fopen(argv[2], "r");
    int rc = !ctx || !f || run(ctx, f, llama_vocab_n_tokens(llama_model_get_vocab(model)));
    if (f) fclose(f);
    llama_free(ctx);
    llama_model_free(model);
    return rc;
}
