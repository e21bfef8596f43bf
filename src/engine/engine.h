/* The running model: weights, KV pages and the step that advances many sequences at once.
 *
 *     struct engine *en;
 *     if (engine_open(&en, path, &opts, &e)) ...
 *     int seq = engine_seq_open(en);
 *     struct engine_slice s = {.seq = seq, .tokens = ids, .n = n, .want = ENGINE_LOGITS_LAST};
 *     if (engine_step(en, &s, 1, &e)) ...          s.logits[engine_vocab(en)]
 *     engine_close(en);
 *
 * All calls from one thread. A failed step leaves every sequence as it was.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include "err.h"
#include "gguf.h"
#include "tok.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;

enum engine_stage { ENGINE_LOAD, ENGINE_PREFILL };

struct engine_opts {
    int threads; /* 0: the cores in the affinity mask and the cgroup's share */
    int ctx; /* tokens a sequence may hold; 0: 8192, or less where the model was trained on less */
    int max_seqs;  /* 0: 1 */
    int kv_tokens; /* tokens of KV cache for all sequences together; 0: ctx * max_seqs */
    int pages;     /* beside those, pages of KERN_PAGE tokens that the caller hands out itself */
    size_t pages_bytes; /* at most so many bytes of them; 0: no bound */
    int chunk;          /* most tokens of one forward pass; longer slices are cut; 0: 512 */
    const char *packs;  /* folder that keeps packed weights between runs, or NULL */
    const char *cpu;    /* "ref", "avx2", "avx512"; NULL: the best this machine has */
    bool embed;   /* no LM head is loaded: hidden rows only; demanded by models that have none */
    bool kv_int8; /* KV cache in 8 bits: half as large, less accurate */
    bool exact;   /* float32 activations and KV: the reference for accuracy, slow */
    bool
        peek; /* neither vocabulary nor weights are loaded: for engine_info and engine_close alone */
    void (*progress)(void *arg, int64_t done, int64_t total); /* of load, may be NULL */
    void *progress_arg;
};

ERR_DOOR int engine_open(struct engine **out, const char *path, const struct engine_opts *o,
                         struct err *e);
void engine_close(struct engine *en);

struct engine_info {
    const char *arch; /* "qwen2" */
    const char *cpu;  /* "avx512" */
    const char *type; /* "q4_K": of most of the file's weights */
    uint64_t file;    /* changes when the file does: gguf_identity */
    size_t file_bytes;
    bool encoder; /* a text is one slice, and only hidden rows come of it */
    int threads, ctx, ctx_train, n_layers, d_model, n_vocab, chunk, max_seqs;
    int pooling; /* what the file wants to stand for a text, enum llm_pooling */
    int64_t n_params;
    size_t weight_bytes;    /* as packed in memory */
    size_t kv_bytes;        /* of the whole cache */
    size_t page_bytes;      /* of one page, all layers */
    int pages;              /* the caller's own */
    size_t step_bytes;      /* scratch of a step */
    int64_t macs_per_token; /* multiply-accumulates with the weights of the layers */
    int64_t macs_head;      /* and of the LM head, for rows whose logits are wanted */
    size_t bytes_per_token; /* weight bytes that decoding one token reads, the head's among them */
};
void engine_info(const struct engine *en, struct engine_info *info);
/* Of what engine_info tells: weights, scratch and pages, all of them filled. */
size_t engine_bytes(const struct engine_info *info);
const struct tok *engine_tok(const struct engine *en); /* borrowed, lives as long as the engine */
int engine_vocab(const struct engine *en);

/* A new empty sequence, or ERR_LIMIT when max_seqs are open. */
int engine_seq_open(struct engine *en);
void engine_seq_close(struct engine *en, int seq);
int engine_seq_len(const struct engine *en, int seq); /* tokens held */
/* Forgets all tokens from position n on (n <= engine_seq_len). */
void engine_seq_truncate(struct engine *en, int seq, int n);
/* Tokens that new sequences could hold together if each filled its last page. */
int engine_room(const struct engine *en);

/* Of the last tokens or of all: logits, or the hidden rows after the last norm. */
enum engine_want {
    ENGINE_LOGITS_NONE,
    ENGINE_LOGITS_LAST,
    ENGINE_LOGITS_ALL,
    ENGINE_HIDDEN_LAST,
    ENGINE_HIDDEN_ALL
};

struct engine_slice {
    int seq;
    const int32_t *tokens; /* appended to the sequence */
    int n;
    /* Instead of seq: pages of the caller's own that hold the tokens before pos and have room for
     * these; ids from 0 on. Whose tokens a page holds is the caller's to know. */
    const int32_t *pages;
    int pos;
    enum engine_want want;
    int last; /* with LAST: so many of the last rows, at most n; 0: one */
    /* Out: the rows wanted, [last or n][engine_vocab] or, hidden ones, [last or n][d_model]; float32,
     * the engine's, until the next step. NULL if none wanted. */
    const float *logits;
};
/* Computes all slices in one step (cut into passes of at most `chunk` tokens together), up to max_seqs.
 * No two slices name the same sequence, or write to the same page. ERR_LIMIT when a sequence would outgrow ctx or the pages run out,
 * nothing changed. ENGINE_LOGITS_ALL and ENGINE_HIDDEN_ALL only for n <= chunk; logits and hidden
 * rows never in one step. An encoder takes empty sequences only. */
ERR_DOOR int engine_step(struct engine *en, struct engine_slice *slices, int n_slices,
                         struct err *e);

/* fn(arg, i) for i of 0 .. n - 1, shared out to the engine's threads between steps: in no order, at once. */
void engine_share(struct engine *en, int n, void (*fn)(void *arg, int i), void *arg);

#endif
