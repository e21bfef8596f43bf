/* From logits to the next token.
 *
 *     struct sample *s;
 *     if (sample_open(&s, &params, n_vocab, &e)) ...
 *     sample_accept(s, id)      for every token of the prompt and the output, in order (penalties,
 * DRY) id = sample_pick(s, logits, &logprob) sample_close(s);
 *
 * Order: logit bias, penalties, DRY; then at temperature 0 the largest logit; else top-k, typical,
 * top-p, min-p, temperature, draw; mirostat 2 replaces the truncations. Sources: DRY (p-e-w 2024,
 * text-generation-webui #5677), mirostat (Basu et al. 2021), typical (Meister et al. 2022), min-p
 * (Nguyen et al. 2024); the parameters' meaning and defaults are llama.cpp's. One owner;
 * sample_pick allocates nothing.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sample_bias {
    int32_t id;
    float bias; /* added to the logit; -INFINITY forbids */
};

struct sample_params {
    uint64_t seed;
    float temp;              /* 0: greedy */
    int top_k;               /* 0: off */
    float top_p;             /* 1: off */
    float min_p;             /* 0: off */
    float typical_p;         /* 1: off */
    float repeat_penalty;    /* 1: off */
    float presence_penalty;  /* 0: off */
    float frequency_penalty; /* 0: off */
    int penalty_last_n;      /* tokens looked back for the penalties; -1: all */
    float dry_multiplier;    /* 0: off */
    float dry_base;
    int dry_allowed_length;
    int dry_last_n;              /* -1: all */
    const int32_t *dry_breakers; /* tokens that end a repeated run; borrowed */
    int n_dry_breakers;
    int mirostat; /* 0 or 2 */
    float mirostat_tau, mirostat_eta;
    const struct sample_bias *bias; /* borrowed until sample_close */
    int n_bias;
};

#define SAMPLE_DEFAULTS                              \
    ((struct sample_params){.temp = 0.8f,            \
                            .top_k = 40,             \
                            .top_p = 0.95f,          \
                            .min_p = 0.05f,          \
                            .typical_p = 1,          \
                            .repeat_penalty = 1,     \
                            .penalty_last_n = 64,    \
                            .dry_base = 1.75f,       \
                            .dry_allowed_length = 2, \
                            .dry_last_n = -1,        \
                            .mirostat_tau = 5,       \
                            .mirostat_eta = 0.1f})

struct sample;

ERR_DOOR int sample_open(struct sample **out, const struct sample_params *p, int n_vocab,
                         struct err *e);
void sample_close(struct sample *s);
void sample_accept(struct sample *s, int32_t id);
/* Forgets what was accepted, keeps parameters and the random state. */
void sample_reset(struct sample *s);
/* logits [n_vocab], not changed. *logprob: log-softmax of the raw logits at the choice; may be
 * NULL. NaN logits never win. */
int32_t sample_pick(struct sample *s, const float *logits, float *logprob);

#endif
