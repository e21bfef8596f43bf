/* Texts -> vectors that can be compared, many at a time.
 *
 *     struct embed_text t = {.tokens = ids, .n = n, .normalize = true, .out = vector};
 *     if (embed_texts(en, &t, 1, &e)) ...          vector[d_model]
 *
 * Speaks to the engine only through engine.h; the engine may be one opened with `embed`, or one
 * that also generates. Texts of different owners may stand in one call: each says for itself what
 * it wants, and lies beside the others without padding. The engine's thread.
 */
#ifndef EMBED_H
#define EMBED_H

#include "engine.h"

/* Which of a text's last hidden rows stand for it: their mean, the first, or the last one. */
enum embed_pooling { EMBED_AUTO, EMBED_MEAN, EMBED_CLS, EMBED_LAST };

struct embed_text {
    const int32_t *tokens; /* with the special tokens the model wants */
    int n;                 /* 1 to the engine's ctx */
    enum embed_pooling
        pooling;    /* EMBED_AUTO: the file's, else mean for encoders, last for others */
    bool normalize; /* to length 1 (a vector of zeros stays) */
    float *out;     /* [d_model] */
};

/* Uses the engine's free sequences and pages; ERR_LIMIT when there is none, or not enough pages for
 * the longest text. Each text is checked before anything is computed. */
ERR_DOOR int embed_texts(struct engine *en, const struct embed_text *texts, int n, struct err *e);

/* One text of a decoder in pieces, between which the engine does something else, but for other texts. */
struct embed_part {
    int seq, done; /* tokens; from {0} to the text's n, then {0} again for the next */
};
/* At most so many tokens more. An error, or the last piece, closes what was opened. */
ERR_DOOR int embed_part(struct engine *en, const struct embed_text *t, struct embed_part *p,
                        int most, struct err *e);
/* Before the last piece: there will be none. */
void embed_part_drop(struct engine *en, struct embed_part *p);

/* "mean", "cls", "last"; false for another name. */
bool embed_pooling_find(const char *name, enum embed_pooling *out);

#endif
