/* Speculation for many answers that are computed side by side: whose guesses go into the next step, and
 * how many. Guesses are what followed the text's newest tokens when they stood there before (suffix.h).
 *
 *     spec_many_init(&m, SPEC_AUTO);
 *     if (spec_many_open(&t, room, &e)) ...        one a text
 *     spec_many_read(t, ids, n, learn)             its tokens, in order
 *     before each step: n = spec_many_guess(&m, t, most) of each text whose answer goes on
 *                       t->n_guess = k             fewer of them, where not all are possible
 *                       spec_many_plan(&m, texts, n, rows);    then t->n_draft of them are worth it
 *     after it:         spec_many_judged(t, drafted, right)
 *                       spec_many_timed(&m, rows, plain, ns)
 *     spec_many_close(t);
 *
 * The time of a step by its number of rows is learnt while decoding. Guesses are taken, the likeliest of
 * all texts first, as long as they give more tokens in the time than the step without them; so a step that
 * is wide already, in which each row costs, has none. What is computed is verified as in spec.h: the
 * answers stay the same. One thread.
 */
#ifndef SPEC_MANY_H
#define SPEC_MANY_H

#include "err.h"
#include "spec.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    SPEC_MANY_ROWS = 32,      /* of a step with guesses */
    SPEC_MANY_ROOM = 1 << 14, /* tokens of a text that are remembered, some 130 bytes each */
};

struct spec_many {
    int tokens;                    /* drafted in a step, as of spec_opts */
    double ns[SPEC_MANY_ROWS + 1]; /* [rows] of a step; 0: not known */
    int plain, since_plain; /* steps without guesses, and after the last of them, counted so far */
};

struct spec_many_text {
    struct spec__past *past;
    int n_guess, n_draft;
    double chance[SPEC_MAX]; /* of each guess, if those before it are right */
    int32_t guess[SPEC_MAX];
    int reach; /* most guesses: grows with what was right, so that errors stay cheap */
    int room;
};

/* tokens: SPEC_AUTO, or always 1 to SPEC_MAX for each text, as far as there are rows. */
void spec_many_init(struct spec_many *m, int tokens);
/* room: tokens that will be read; all memory is taken here, for SPEC_MANY_ROOM of them at most. Of longer
 * texts older parts are forgotten. */
ERR_DOOR int spec_many_open(struct spec_many_text **out, int room, struct err *e);
void spec_many_close(struct spec_many_text *t);
/* learn: they are an answer's, and tell how good the guesses are. */
void spec_many_read(struct spec_many_text *t, const int32_t *ids, int n, bool learn);
/* At most `most`; sets t->n_guess, and n_draft to 0. */
int spec_many_guess(const struct spec_many *m, struct spec_many_text *t, int most);
/* For texts [n] that the next step computes `rows` rows of in all. */
void spec_many_plan(struct spec_many *m, struct spec_many_text *const *texts, int n, int rows);
void spec_many_judged(struct spec_many_text *t, int drafted, int right);
/* A step of so many rows, all of whose logits were wanted; plain: without guesses. */
void spec_many_timed(struct spec_many *m, int rows, bool plain, int64_t ns);

#endif
