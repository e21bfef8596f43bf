/* What spec.c and spec_many.c share: what followed the last time, how often that was right, and times that
 * are learnt. */
#ifndef SPEC_INT_H
#define SPEC_INT_H

#include "err.h"
#include "suffix.h"
#include <stdbool.h>
#include <stdint.h>

enum { SPEC__CLASSES = 8, SPEC__REACH_MIN = 2 };
enum {
    SPEC__PLAIN_FIRST = 3,
    SPEC__PLAIN_EVERY = 64
};                        /* plain steps, to know what others are worth */
#define SPEC__MARGIN 1.08 /* by how much drafting must be better than a plain step */
#define SPEC__SLOPE 0.15  /* of the cost by rows, before it is known */
#define SPEC__FORGET 1e-3 /* a cost not seen again goes back, to be tried once more */

/* Of one text. The chance of a suggestion is learnt from every token, drafted or not, by the length of the
 * match that it follows: switching off costs no knowledge and switching on again costs nothing. */
struct spec__past {
    struct suffix *text;
    double chance[SPEC__CLASSES];
};

ERR_DOOR int spec__past_open(struct spec__past *p, int room, struct err *e);
void spec__past_close(struct spec__past *p);
/* The text goes on with id: was it what followed the last time? */
void spec__past_put(struct spec__past *p, int32_t id);
/* Chances of the first n tokens that followed the longest match; returns its length, 0: there is none. *from
 * as of suffix_match. */
int spec__past_chances(const struct spec__past *p, double *chance, int n, int *from);

double spec__towards(double old, double now, double weight);
void spec__learn(double *chance, bool right);
/* A step that was held up counts as half as long again at most; a time below what is known counts more, since
 * noise only adds. */
double spec__time_towards(double old, double now);

#endif
