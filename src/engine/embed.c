/* Texts go through the engine in steps of as many as fit its chunk, its free sequences and pages,
 * in their order. A text longer than a chunk (decoders only) goes in parts, pooled as they come. Invariant: the sequences opened here are closed here, whatever fails. */
#include "embed.h"

#include "llm.h"
#include <math.h>
#include <string.h>

enum { BATCH_MAX = 256 };

struct batch {
    struct engine *en;
    struct engine_info info;
    struct engine_slice slices[BATCH_MAX];
    int n, rows, pages;
};

static enum embed_pooling pooling_of(const struct batch *b, const struct embed_text *t)
{
    if (t->pooling != EMBED_AUTO) return t->pooling;
    switch (b->info.pooling) {
    case LLM_POOLING_MEAN: return EMBED_MEAN;
    case LLM_POOLING_CLS: return EMBED_CLS;
    case LLM_POOLING_LAST: return EMBED_LAST;
    default: return b->info.encoder ? EMBED_MEAN : EMBED_LAST;
    }
}

/* Adds the rows of a slice that begins at token `first` of the text. */
static void pool(const struct batch *b, const struct embed_text *t, const struct engine_slice *s,
                 int first)
{
    size_t d = (size_t)b->info.d_model;
    enum embed_pooling how = pooling_of(b, t);
    if (how == EMBED_MEAN) {
        for (int r = 0; r < s->n; r++)
            for (size_t i = 0; i < d; i++) t->out[i] += s->logits[(size_t)r * d + i];
    } else if (how == EMBED_LAST ? first + s->n == t->n : first == 0) {
        memcpy(t->out, s->logits, d * sizeof *t->out);
    }
}

static void finish(const struct batch *b, const struct embed_text *t)
{
    int d = b->info.d_model;
    double squares = 0, scale = pooling_of(b, t) == EMBED_MEAN ? 1.0 / t->n : 1;
    for (int i = 0; i < d; i++) squares += (double)t->out[i] * (double)t->out[i];
    if (t->normalize && squares > 0) scale = 1 / sqrt(squares);
    for (int i = 0; i < d; i++) t->out[i] = (float)((double)t->out[i] * scale);
}

static enum engine_want want_of(const struct batch *b, const struct embed_text *t)
{
    return pooling_of(b, t) == EMBED_LAST ? ENGINE_HIDDEN_LAST : ENGINE_HIDDEN_ALL;
}

/* True: the text has a sequence and a slice in the batch. The first must get in. */
static bool take(struct batch *b, const struct embed_text *t)
{
    int pages = (t->n + KERN_PAGE - 1) / KERN_PAGE;
    if (b->n == BATCH_MAX || b->n == b->info.max_seqs) return false;
    if (b->n &&
        (t->n > b->info.chunk - b->rows || b->pages + pages > engine_room(b->en) / KERN_PAGE))
        return false;
    int seq = engine_seq_open(b->en);
    if (seq < 0) return false;
    b->slices[b->n++] =
        (struct engine_slice){.seq = seq, .tokens = t->tokens, .n = t->n, .want = want_of(b, t)};
    b->rows += t->n;
    b->pages += pages;
    return true;
}

/* As many of the n texts as fit one step; how many, or an error. */
static int some(struct batch *b, const struct embed_text *texts, int n, struct err *e)
{
    b->n = b->rows = b->pages = 0;
    while (b->n < n && take(b, &texts[b->n])) {}
    if (!b->n) return err_set(e, ERR_LIMIT, "no free sequence for a text");
    int rc = engine_step(b->en, b->slices, b->n, e);
    for (int i = 0; i < b->n && !rc; i++) {
        memset(texts[i].out, 0, (size_t)b->info.d_model * sizeof *texts[i].out);
        pool(b, &texts[i], &b->slices[i], 0);
        finish(b, &texts[i]);
    }
    for (int i = 0; i < b->n; i++) engine_seq_close(b->en, b->slices[i].seq);
    return rc ? rc : b->n;
}

static int check(const struct batch *b, const struct embed_text *texts, int n, struct err *e)
{
    for (int i = 0; i < n; i++) {
        if (texts[i].n < 1 || texts[i].n > b->info.ctx)
            return err_set(e, ERR_LIMIT, "text %d has %d tokens; 1 to %d can be read", i + 1,
                           texts[i].n, b->info.ctx);
        for (int t = 0; t < texts[i].n; t++)
            if (texts[i].tokens[t] < 0 || texts[i].tokens[t] >= b->info.n_vocab)
                return err_set(e, ERR_FORMAT, "token %d of text %d is outside the vocabulary of %d",
                               texts[i].tokens[t], i + 1, b->info.n_vocab);
    }
    return 0;
}

int embed_part(struct engine *en, const struct embed_text *t, struct embed_part *p, int most,
               struct err *e)
{
    struct batch b = {.en = en};
    engine_info(en, &b.info);
    if (!p->done) {
        int rc = check(&b, t, 1, e);
        if (rc) return rc;
        p->seq = engine_seq_open(en);
        if (p->seq < 0) return err_set(e, ERR_LIMIT, "no free sequence for a text");
        memset(t->out, 0, (size_t)b.info.d_model * sizeof *t->out);
    }
    if (most > b.info.chunk) most = b.info.chunk;
    struct engine_slice s = {.seq = p->seq,
                             .tokens = t->tokens + p->done,
                             .n = t->n - p->done < most ? t->n - p->done : most,
                             .want = want_of(&b, t)};
    int rc = engine_step(en, &s, 1, e);
    if (!rc) {
        pool(&b, t, &s, p->done);
        p->done += s.n;
        if (p->done == t->n) finish(&b, t);
    }
    if (rc || p->done == t->n) engine_seq_close(en, p->seq);
    return rc;
}

void embed_part_drop(struct engine *en, struct embed_part *p)
{
    engine_seq_close(en, p->seq);
    *p = (struct embed_part){0};
}

int embed_texts(struct engine *en, const struct embed_text *texts, int n, struct err *e)
{
    struct batch b = {.en = en};
    engine_info(en, &b.info);
    int rc = check(&b, texts, n, e);
    if (rc) return rc;
    for (int done = 0; done < n && rc >= 0; done += rc) {
        const struct embed_text *t = texts + done;
        struct embed_part p = {0};
        if (t->n <= b.info.chunk) {
            rc = some(&b, t, n - done, e);
            continue;
        }
        for (rc = 0; rc == 0 && p.done < t->n;) rc = embed_part(en, t, &p, b.info.chunk, e);
        if (!rc) rc = 1;
    }
    return rc < 0 ? rc : 0;
}

bool embed_pooling_find(const char *name, enum embed_pooling *out)
{
    static const char *const names[] = {"mean", "cls", "last"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum embed_pooling)(EMBED_MEAN + i);
            return true;
        }
    return false;
}
