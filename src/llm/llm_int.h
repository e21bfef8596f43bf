/* What the families share: dimensions, scratch, and a loader whose first failure sticks, so that
 * binding reads as the list of a model's weights.
 */
#ifndef LLM_INT_H
#define LLM_INT_H

#include "arena.h"
#include "llm.h"
#include "packfile.h"

struct llm__dims {
    int layers, d, heads, kv_heads, d_head, ff, vocab, ctx;
    int experts, experts_used; /* 0: a dense feed-forward */
    int window;                /* of the sliding layers; 0: none */
    float eps;
    float embed_scale;   /* 0: none */
    float final_softcap; /* 0: none */
};

/* Rows of one pass, float32 [max_rows][...]. */
struct llm__scratch {
    float *x, *h;   /* [d] residual stream; input of a block */
    float *q, *o;   /* [heads * d_head] */
    float *k, *v;   /* [kv_heads * d_head] */
    float *ff;      /* [ff] gate and up, joined */
    float *rope[2]; /* [d_rot] cos and sin of global and local layers */
    float *route;   /* [experts] and the gathered rows of an expert */
    float *routed;  /* [d] */
    int *chosen;    /* [experts_used] */
};

struct llm__pass {
    struct nn *nn;
    const struct nn_kv *kv;
    const struct nn_span *spans;
    int n_spans, n;
};

struct llm__load;

struct llm__family {
    const char *archs[6];
    void (*open)(struct llm *m, struct llm__load *l); /* a failure is the loader's to tell */
    void (*layer)(const struct llm *m, int l, const struct llm__pass *p);
    bool encoder; /* as in struct llm_info; its layers end in their norm, so there is no last one */
    void (*embed)(const struct llm *m, const struct llm_step *s); /* more than the tokens' rows */
};

struct llm {
    const struct llm__family *family;
    const struct gguf *g;
    struct nn *nn;
    struct arena arena; /* small weights and the family's structs */
    struct llm__dims dims;
    const void *layers; /* the family's [layers] */
    const struct gguf_tensor *embed;
    struct nn_mat head;     /* rows 0: not loaded */
    const float *out_norm;  /* [d] */
    struct nn_rope rope[2]; /* d_rot 0: not used */
    struct llm__scratch s;
    struct packfile packed; /* all matrices */
    void *scratch;
    size_t scratch_bytes;
    int64_t macs, params;
    size_t weight_bytes, token_bytes;
    int max_rows;
};

/* The RMS norm of x. */
static inline struct nn_in llm__normed(const struct llm *m, const float *norm)
{
    return (struct nn_in){.x = m->s.x, .norm = norm, .eps = m->dims.eps, .made = m->s.h};
}

/* Queries or keys of a step, with their norm if there is one; `local` layers have angles of their own. */
static inline struct nn_turn llm__turn(const struct llm *m, const float *norm, bool local)
{
    return (struct nn_turn){norm, m->dims.eps, &m->rope[local], m->s.rope[local]};
}

extern const struct llm__family llm__bert, llm__gemma, llm__llama, llm__qwen;

/* Loader. After a failure the calls do nothing; llm__load_ok tells. */
void *llm__alloc(struct llm__load *l, size_t n, size_t size);
void llm__mat(struct llm__load *l, struct nn_mat *m, int64_t rows, int64_t k, const char *name, ...)
    __attribute__((format(printf, 5, 6)));
/* n matrices in one tensor of three dimensions (experts). */
void llm__mats(struct llm__load *l, struct nn_mat *m, int n, int64_t rows, int64_t k,
               const char *name, ...) __attribute__((format(printf, 6, 7)));
/* The n matrices of each are read in turns (nn_mat_take_turns). */
void llm__take_turns(struct llm__load *l, struct nn_mat *a, struct nn_mat *b, int n);
void llm__vec(struct llm__load *l, const float **v, int64_t n, const char *name, ...)
    __attribute__((format(printf, 4, 5)));
/* A small matrix as float32, [rows][n]; NULL after a failure. */
float *llm__rows(struct llm__load *l, int64_t rows, int64_t n, const char *name, ...)
    __attribute__((format(printf, 4, 5)));
/* Leaves NULL where the file has no such tensor. */
void llm__vec_maybe(struct llm__load *l, const float **v, int64_t n, const char *name, ...)
    __attribute__((format(printf, 4, 5)));
bool llm__has(const struct llm__load *l, const char *name, ...)
    __attribute__((format(printf, 2, 3)));
bool llm__load_ok(const struct llm__load *l);
/* Metadata "ARCH.key", or the value given where it is absent. */
uint32_t llm__u32(const struct llm__load *l, const char *key, uint32_t absent);
float llm__f32(const struct llm__load *l, const char *key, float absent);
/* Whether a layer attends through the window only: all but each period-th, unless the file has its
 * own pattern (a period, 0 for all layers, or a flag a layer). */
bool llm__sliding(const struct llm__load *l, int layer, int period);
/* Frequencies with the file's scaling (linear, YaRN, Llama 3 factors), or plain ones of a local
 * base. */
void llm__rope(struct llm__load *l, struct nn_rope *r, enum kern_rope kind, float base,
               bool scaled);

/* The file's first part: dimensions; packs at the end. */
int llm__load_model(struct llm *m, const struct llm_opts *o, struct err *e);

/* x += experts(h), for the rows of the pass. */
struct llm__moe {
    const struct nn_mat *router;           /* [experts] rows */
    const struct nn_mat *gate, *up, *down; /* [experts] each */
};
void llm__moe(const struct llm *m, const struct llm__pass *p, const struct llm__moe *w);

#endif
