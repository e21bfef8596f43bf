/* How often what followed the last time follows again. A class of matches is a range of lengths: the longer
 * the match the surer, and in each text differently. */
#include "spec_int.h"

#include <string.h>

static const double LEARN = 1.0 / 8;   /* weight of an observation */
static const double LEARN_COST = 0.25; /* sooner: a step too dear shall not be taken often */
static const double LEARN_LESS = 0.5;

double spec__towards(double old, double now, double weight)
{
    return old + (now - old) * weight;
}

void spec__learn(double *chance, bool right)
{
    *chance = spec__towards(*chance, right ? 1 : 0, LEARN);
}

double spec__time_towards(double old, double now)
{
    if (now < old) return spec__towards(old, now, LEARN_LESS);
    return spec__towards(old, now < 1.5 * old ? now : 1.5 * old, LEARN_COST);
}

int spec__past_open(struct spec__past *p, int room, struct err *e)
{
    static const double guess[SPEC__CLASSES] = {.05, .2, .4, .5, .6, .75, .85, .9};
    memcpy(p->chance, guess, sizeof guess);
    return suffix_open(&p->text, room, e);
}

void spec__past_close(struct spec__past *p)
{
    suffix_close(p->text);
}

static int class_of(int length)
{
    if (length <= 4) return length - 1;
    return length < 8 ? 4 : length < 16 ? 5 : length < 32 ? 6 : 7;
}

void spec__past_put(struct spec__past *p, int32_t id)
{
    int from, n, length = suffix_match(p->text, &from);
    if (length) spec__learn(&p->chance[class_of(length)], suffix_text(p->text, &n)[from] == id);
    suffix_put(p->text, id);
}

int spec__past_chances(const struct spec__past *p, double *chance, int n, int *from)
{
    int length = suffix_match(p->text, from);
    for (int i = 0; length && i < n; i++) chance[i] = p->chance[class_of(length + i)];
    return length;
}
