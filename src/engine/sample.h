/* From logits to the next token.
 *
 *     struct sample_params p = SAMPLE_DEFAULTS;
 *     struct sample *s;
 *     if (sample_open(&s, &p, n_vocab, &e)) ...
 *     sample_accept(s, id)      every token of the prompt and the output, in order
 *     id = sample_pick(s, logits, &logprob)
 *     sample_close(s);
 *
 * Order: logit bias, penalties, DRY; then at temperature 0 the largest logit; else top-k, typical,
 * top-p, min-p, temperature, draw. Mirostat 2 stands in for the truncations, after the temperature.
 * Of equal logits the lower id ranks first. Meaning and defaults of the parameters are llama.cpp's.
 * Sources: DRY (p-e-w 2024, text-generation-webui #5677), mirostat (Basu et al. 2021), typical
 * (Meister et al. 2022), min-p (Nguyen et al. 2024), nucleus (Holtzman et al. 2020).
 * One owner; only sample_open allocates. The same seed, parameters, tokens and logits give the same
 * choices.
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

enum { SAMPLE_LOOKBACK_MAX = 1 << 17 }; /* tokens */

struct sample_params {
    uint64_t seed;
    float temp;              /* 0: greedy */
    int top_k;               /* 0: off */
    float top_p;             /* 1: off */
    float min_p;             /* 0: off */
    float typical;           /* 1: off */
    float repeat_penalty;    /* 1: off */
    float presence_penalty;  /* 0: off */
    float frequency_penalty; /* 0: off */
    int penalty_last_n;      /* tokens looked back for the three penalties; -1: all */
    float dry_multiplier;    /* 0: off */
    float dry_base;
    int dry_allowed_length;
    int dry_last_n;              /* tokens looked back; -1: as many as SAMPLE_LOOKBACK_MAX */
    const int32_t *dry_breakers; /* tokens that end a repeated run; borrowed by sample_open */
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
                            .typical = 1,            \
                            .repeat_penalty = 1,     \
                            .penalty_last_n = 64,    \
                            .dry_base = 1.75f,       \
                            .dry_allowed_length = 2, \
                            .dry_last_n = 64,        \
                            .mirostat_tau = 5,       \
                            .mirostat_eta = 0.1f})

/* The numbers of sample_params by name, with the range that sample_open demands: one table for
 * flags, for settings typed in the chat, for requests. Ends with a NULL name. */
struct sample_field {
    const char *name; /* the member's */
    bool whole;       /* an int, else a float */
    size_t offset;
    double min, max; /* both allowed */
    const char *help;
};
extern const struct sample_field sample_fields[];

const struct sample_field *sample_field_find(const char *name); /* or NULL */
double sample_field_get(const struct sample_field *f, const struct sample_params *p);
/* ERR_USAGE when the value is out of range, NaN, or a fraction where a whole number is wanted. */
ERR_DOOR int sample_field_set(const struct sample_field *f, struct sample_params *p, double value,
                              struct err *e);

struct sample;

/* Checks every parameter: ERR_USAGE names the first that is out of range. */
ERR_DOOR int sample_open(struct sample **out, const struct sample_params *p, int n_vocab,
                         struct err *e);
void sample_close(struct sample *s);
/* Ids outside the vocabulary are ignored. */
void sample_accept(struct sample *s, int32_t id);
/* Forgets what was accepted and what mirostat learned, keeps parameters and the random state. */
void sample_reset(struct sample *s);
/* logits [n_vocab], not changed. *logprob: log-softmax of the raw logits at the choice; may be
 * NULL. NaN logits never win. Returns SAMPLE_NONE when all are NaN or -inf (or forbidden). */
enum { SAMPLE_NONE = -1 };
/* log-softmax of logits [n_vocab] at id */
float sample_logprob(const float *logits, int n_vocab, int32_t id);
int32_t sample_pick(struct sample *s, const float *logits, float *logprob);

#endif
