/* What the files of the sampler share.
 *
 *     sample.c        opening, and the order of the steps
 *     sample_field.c  the table of parameters
 *     sample_past.c   what was said before -> penalties and DRY
 *     sample_cut.c    candidates: top-k, typical, top-p, min-p, mirostat, the draw
 */
#ifndef SAMPLE_INT_H
#define SAMPLE_INT_H

#include "rng.h"
#include "sample.h"

struct sample__cand {
    int32_t id;
    float logit;
    float key;    /* ranks candidates: the larger first, at equal keys the lower id */
    float weight; /* unnormalised probability */
};

struct sample__past {
    uint64_t n;        /* tokens accepted */
    int32_t *ring;     /* [room] the last of them, token i at i % room */
    size_t room;       /* 0: nothing looks back over single tokens */
    uint32_t *count;   /* [n_vocab] in the penalties' window; NULL: penalties off */
    int32_t *reversed; /* [room] DRY: the window, newest first; NULL: DRY off */
    int32_t *overlap;  /* [room] DRY: how far reversed + i agrees with reversed */
    int32_t *longest; /* [n_vocab] DRY: the longest run that this token would go on, 0 between picks
                        */
    bool *breaker;    /* [n_vocab] */
};

struct sample {
    struct sample_params p;
    int n_vocab;
    struct rng rng;
    double mu;     /* mirostat: the surprise allowed, bits */
    float *logits; /* [n_vocab] after bias and penalties; NULL when nothing changes them */
    struct sample__past past;
    struct sample__cand *cand; /* [cand_room] */
    int cand_room, n_cand;
};

ERR_DOOR int sample__check(const struct sample_params *p, int n_vocab, struct err *e);

ERR_DOOR int sample__past_open(struct sample *s, struct err *e);
void sample__past_close(struct sample *s);
/* Penalties and DRY, in place. */
void sample__past_apply(struct sample *s, float *logits);

int sample__cand_room(const struct sample_params *p, int n_vocab);
/* Temperature above 0: truncates and draws. */
int32_t sample__draw(struct sample *s, const float *logits);

#endif
