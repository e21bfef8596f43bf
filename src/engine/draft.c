/* The draft model's side of speculation. Its guesses are greedy and free to be wrong, so a step that
 * fails only means that there is none; what was fed and what counts stay spec.c's to know. */
#include "draft.h"

#include <math.h>
#include <string.h>

static int same_pieces(const struct tok *a, const struct tok *b, struct err *e)
{
    struct buf x = BUF_INIT(TOK_PIECE_MAX), y = BUF_INIT(TOK_PIECE_MAX);
    int rc = 0;
    for (int32_t id = 0; id < tok_size(a) && !rc; id++) {
        buf_reset(&x);
        buf_reset(&y);
        tok_piece(a, id, true, &x);
        tok_piece(b, id, true, &y);
        if (x.failed || y.failed)
            rc = err_nomem(e, TOK_PIECE_MAX, "a token's text");
        else if (x.len != y.len || (x.len && memcmp(x.data, y.data, x.len) != 0) ||
                 tok_is_control(a, id) != tok_is_control(b, id))
            rc = err_set(e, ERR_USAGE, "the draft model's token %d is not the model's", id);
    }
    buf_free(&x);
    buf_free(&y);
    return rc;
}

int draft_init(struct draft *d, struct engine *en, const struct engine *target, struct err *e)
{
    struct engine_info info;
    const struct tok *small = engine_tok(en), *big = engine_tok(target);
    if (tok_size(small) != tok_size(big))
        return err_set(e, ERR_USAGE, "the draft model has %d tokens, the model %d", tok_size(small),
                       tok_size(big));
    if (engine_vocab(en) != engine_vocab(target))
        return err_set(e, ERR_USAGE, "the draft model gives %d logits, the model %d",
                       engine_vocab(en), engine_vocab(target));
    int rc = same_pieces(small, big, e), seq = rc ? rc : engine_seq_open(en);
    if (rc) return rc;
    if (seq < 0) return err_set(e, ERR_LIMIT, "the draft model has no sequence left");
    engine_info(en, &info);
    *d = (struct draft){.en = en, .seq = seq, .ctx = info.ctx};
    return 0;
}

void draft_free(struct draft *d)
{
    if (d->en) engine_seq_close(d->en, d->seq);
    *d = (struct draft){0};
}

int draft_len(const struct draft *d)
{
    return engine_seq_len(d->en, d->seq);
}

void draft_keep(struct draft *d, int n)
{
    if (n < draft_len(d)) engine_seq_truncate(d->en, d->seq, n);
}

bool draft_feed(struct draft *d, const int32_t *ids, int n, int32_t *id, float *lead)
{
    struct err ignored;
    struct engine_slice s = {.seq = d->seq, .tokens = ids, .n = n, .want = ENGINE_LOGITS_LAST};
    if (n > d->ctx - draft_len(d) || engine_step(d->en, &s, 1, &ignored)) return false;
    float first = -INFINITY, second = -INFINITY;
    int32_t best = -1, vocab = engine_vocab(d->en);
    for (int32_t i = 0; i < vocab; i++) {
        if (!(s.logits[i] > second)) continue;
        if (s.logits[i] > first)
            second = first, first = s.logits[i], best = i;
        else
            second = s.logits[i];
    }
    if (best < 0) return false;
    *id = best;
    *lead = first - second;
    return true;
}
