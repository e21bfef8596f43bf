/* The table of the sampler's parameters. Every way in (flags, the chat's /set, sample_open) reads
 * ranges from here, so none can let through what another refuses. Arrays (bias, breakers) are
 * checked beside it: they have no single number. */
#include "sample_int.h"

#include <math.h>
#include <string.h>

#define WHOLE(name, min, max, help)                                       \
    {                                                                     \
#name, true, offsetof(struct sample_params, name), min, max, help \
    }
#define REAL(name, min, max, help)                                         \
    {                                                                      \
#name, false, offsetof(struct sample_params, name), min, max, help \
    }

const struct sample_field sample_fields[] = {
    REAL(temp, 0, 100, "temperature; 0 takes the likeliest token"),
    WHOLE(top_k, 0, 1 << 30, "only the K likeliest tokens; 0: all"),
    REAL(top_p, 0, 1, "only the likeliest tokens that make up P; 1: all"),
    REAL(min_p, 0, 1, "only tokens at least P times as likely as the likeliest; 0: all"),
    REAL(typical, 0, 1, "only the most typical tokens that make up P; 1: all"),
    REAL(repeat_penalty, 0.01, 100, "divides logits of tokens seen; 1: off"),
    REAL(presence_penalty, -100, 100, "taken from logits of tokens seen; 0: off"),
    REAL(frequency_penalty, -100, 100, "taken once for each time seen; 0: off"),
    WHOLE(penalty_last_n, -1, SAMPLE_LOOKBACK_MAX, "tokens the penalties look back; -1: all"),
    REAL(dry_multiplier, 0, 1000, "DRY: penalty of going on with a repetition; 0: off"),
    REAL(dry_base, 1, 100, "DRY: its growth with each token of the repetition"),
    WHOLE(dry_allowed_length, 1, SAMPLE_LOOKBACK_MAX, "DRY: repetitions this long go free"),
    WHOLE(dry_last_n, -1, SAMPLE_LOOKBACK_MAX, "DRY: tokens looked back; -1: all"),
    WHOLE(mirostat, 0, 2, "2: mirostat 2 in place of top-k to min-p; 0: off"),
    REAL(mirostat_tau, 0, 100, "mirostat: the surprise aimed at, bits"),
    REAL(mirostat_eta, 0, 1, "mirostat: its learning rate"),
    {0},
};

const struct sample_field *sample_field_find(const char *name)
{
    const struct sample_field *f = sample_fields;
    while (f->name && strcmp(f->name, name) != 0) f++;
    return f->name ? f : NULL;
}

double sample_field_get(const struct sample_field *f, const struct sample_params *p)
{
    const char *at = (const char *)p + f->offset;
    return f->whole ? *(const int *)at : (double)*(const float *)at;
}

static int check(const struct sample_field *f, double v, struct err *e)
{
    /* A float holds 0.01 a little below it: what it rounds to is in range too. */
    bool in = (float)v >= (float)f->min && (float)v <= (float)f->max;
    if (!in || (f->whole && v != floor(v)))
        return err_set(e, ERR_USAGE, "%s is %g; %s from %g to %g are possible", f->name, v,
                       f->whole ? "whole numbers" : "numbers", f->min, f->max);
    if (f->offset == offsetof(struct sample_params, mirostat) && v == 1)
        return err_set(e, ERR_USAGE, "mirostat is 1; only version 2 is there, or 0 for none");
    return 0;
}

int sample_field_set(const struct sample_field *f, struct sample_params *p, double value,
                     struct err *e)
{
    int rc = check(f, value, e);
    if (rc) return rc;
    char *at = (char *)p + f->offset;
    if (f->whole)
        *(int *)at = (int)value;
    else
        *(float *)at = (float)value;
    return 0;
}

int sample__check(const struct sample_params *p, int n_vocab, struct err *e)
{
    if (n_vocab < 1) return err_set(e, ERR_USAGE, "a vocabulary of %d tokens", n_vocab);
    for (const struct sample_field *f = sample_fields; f->name; f++) {
        int rc = check(f, sample_field_get(f, p), e);
        if (rc) return rc;
    }
    for (int i = 0; i < p->n_bias; i++) {
        const struct sample_bias *b = &p->bias[i];
        if (b->id < 0 || b->id >= n_vocab)
            return err_set(e, ERR_USAGE, "logit bias of token %d; ids go from 0 to %d", b->id,
                           n_vocab - 1);
        if (!isfinite(b->bias) && b->bias != -INFINITY)
            return err_set(e, ERR_USAGE, "logit bias of token %d is %g", b->id, (double)b->bias);
    }
    for (int i = 0; i < p->n_dry_breakers; i++)
        if (p->dry_breakers[i] < 0 || p->dry_breakers[i] >= n_vocab)
            return err_set(e, ERR_USAGE, "DRY breaker %d; ids go from 0 to %d", p->dry_breakers[i],
                           n_vocab - 1);
    return 0;
}
