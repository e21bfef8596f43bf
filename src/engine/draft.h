/* A second, smaller model that guesses what the first will say.
 *
 *     struct draft d;
 *     if (draft_init(&d, small, big, &e)) ...    one sequence of `small` is the draft's from here
 *     draft_keep(&d, n)                          what it was fed behind n tokens is forgotten
 *     if (draft_feed(&d, ids, n, &id, &lead))    id: the likeliest token after them
 *     draft_free(&d);
 *
 * The engine's thread.
 */
#ifndef DRAFT_H
#define DRAFT_H

#include "engine.h"

struct draft {
    struct engine *en; /* borrowed */
    int seq, ctx;
};

/* ERR_USAGE when the two vocabularies are not the same, token for token. */
ERR_DOOR int draft_init(struct draft *d, struct engine *en, const struct engine *target,
                        struct err *e);
void draft_free(struct draft *d);
int draft_len(const struct draft *d); /* tokens held */
void draft_keep(struct draft *d, int n);
/* n >= 1 more tokens. *lead: by how much the logit of *id exceeds the next one's. False when the
 * context is full or a step failed: then there is no guess. */
bool draft_feed(struct draft *d, const int32_t *ids, int n, int32_t *id, float *lead);

#endif
