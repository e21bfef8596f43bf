/* A language model: weights bound from a GGUF file and one forward pass over a step of rows.
 *
 *     struct llm *m;
 *     if (llm_open(&m, g, nn, &opts, &e)) ...   g must outlive m
 *     llm_forward(m, &kv, &step);
 *     llm_close(m);
 *
 * Families (general.architecture) stand one a file in this folder. One thread, that of nn.
 */
#ifndef LLM_H
#define LLM_H

#include "err.h"
#include "gguf.h"
#include "nn.h"

struct llm;

struct llm_info {
    const char *arch;
    bool encoder;  /* reads a text whole and in one pass, forwards and backwards; has no LM head */
    bool head;     /* the LM head is loaded */
    int pooling;   /* the file's wish, enum llm_pooling */
    int kv_layers; /* that the KV cache must hold at once */
    int layers, d_model, heads, kv_heads, d_head, vocab, ctx_train;
    int64_t params;
    size_t weight_bytes; /* packed, in memory or mapped */
    size_t scratch_bytes;
    int64_t macs_per_token; /* of the matrices one token passes in the layers */
    int64_t macs_head;      /* of the head */
    size_t bytes_per_token; /* packed bytes of all of those */
};

/* What stands for a text: the file's numbers. */
enum llm_pooling { LLM_POOLING_NONE, LLM_POOLING_MEAN, LLM_POOLING_CLS, LLM_POOLING_LAST };

struct llm_opts {
    int max_rows;      /* of a step */
    bool no_head;      /* the LM head is not loaded: only hidden rows can be wanted */
    bool peek;         /* no matrix is loaded: for llm_info alone */
    const char *packs; /* folder that keeps packed weights between runs (packfile.h), or NULL */
    const char *path;  /* of the model, for packs */
    void (*progress)(void *arg, int64_t done, int64_t total); /* bytes packed; may be NULL */
    void *progress_arg;
};

ERR_DOOR int llm_open(struct llm **out, const struct gguf *g, struct nn *nn,
                      const struct llm_opts *o, struct err *e);
void llm_close(struct llm *m);
void llm_info(const struct llm *m, struct llm_info *info);

/* Rows of several sequences computed together. */
struct llm_step {
    int n;                       /* rows, <= max_rows */
    const int32_t *tokens;       /* [n], each in [0, vocab) */
    const int *pos;              /* [n] */
    const struct nn_span *spans; /* in order of their rows, covering all */
    int n_spans;
    const int *out_rows; /* [n_out] rows whose logits are wanted */
    int n_out;
    float *logits; /* [n_out][vocab] */
    float *hidden; /* not NULL: wanted instead of logits, [n_out][d_model] after the last norm */
};
void llm_forward(struct llm *m, const struct nn_kv *kv, const struct llm_step *s);

#endif
