/* Sampler, stop strings and text of one answer, in the order that makes them agree: a token is
 * picked, counted and accepted; its bytes wait until they are whole characters, those until they are
 * no part of a stop string; what is left at the end is shown, unless a stop string is found in it.
 */
#include "answer.h"

#include "stop.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 1 << 20, JUMP = 32 };

struct answer {
    const struct tok *t;
    struct sample *sample;
    struct sample_bias *bias; /* the caller's, and end tokens forbidden by ignore_eos */
    struct stop stop;
    struct tok_stream stream;
    struct buf piece, out;
    int n_vocab, max_tokens, tokens, top;
    bool ignore_eos, logprobs;
    struct answer_top tops[ANSWER_TOP_MAX];
    /* With a grammar: */
    struct grammar_match *match;
    uint64_t *allowed; /* a bit a token */
    float *masked;     /* logits, those of other tokens at -INFINITY */
    bool jumps;        /* tokens come without logits where there is no choice */
    int32_t jump[JUMP];
    int at, n_jump;
};

static int forbid_ends(struct answer *a, struct sample_params *p, struct err *e)
{
    int n = p->n_bias;
    for (int32_t id = 0; id < a->n_vocab; id++) n += tok_is_end(a->t, id);
    a->bias = malloc((size_t)(n + 1) * sizeof *a->bias);
    if (!a->bias) return err_nomem(e, (size_t)n * sizeof *a->bias, "logit biases");
    if (p->n_bias) memcpy(a->bias, p->bias, (size_t)p->n_bias * sizeof *a->bias);
    n = p->n_bias;
    for (int32_t id = 0; id < a->n_vocab; id++)
        if (tok_is_end(a->t, id)) a->bias[n++] = (struct sample_bias){id, -INFINITY};
    p->bias = a->bias;
    p->n_bias = n;
    return 0;
}

static int open_match(struct answer *a, const struct answer_opts *o, struct err *e)
{
    size_t vocab = (size_t)a->n_vocab;
    int rc = grammar_match_open(&a->match, o->grammar, o->grammar_tokens, false, e);
    if (rc) return rc;
    a->allowed = calloc((vocab + 63) / 64, sizeof *a->allowed);
    a->masked = malloc(vocab * sizeof *a->masked);
    return a->allowed && a->masked ? 0 : err_nomem(e, vocab * sizeof *a->masked, "a mask");
}

int answer_open(struct answer **out, const struct tok *t, int n_vocab, const struct answer_opts *o,
                const int32_t *prompt, int n, struct err *e)
{
    struct sample_params p = o->sample;
    struct answer *a = calloc(1, sizeof *a);
    if (!a) return err_nomem(e, sizeof *a, "an answer");
    a->t = t;
    a->n_vocab = n_vocab;
    a->max_tokens = o->max_tokens;
    a->ignore_eos = o->ignore_eos;
    a->logprobs = o->logprobs;
    a->jumps = o->grammar && !o->logprobs && !p.n_bias;
    a->top = o->top < ANSWER_TOP_MAX ? o->top : ANSWER_TOP_MAX;
    a->piece = a->out = BUF_INIT(TEXT_MAX);
    tok_stream_init(&a->stream, t);
    int rc = stop_init(&a->stop, o->stops, o->n_stops, e);
    if (rc) {
        free(a);
        return rc;
    }
    rc = o->ignore_eos ? forbid_ends(a, &p, e) : 0;
    if (!rc) rc = sample_open(&a->sample, &p, n_vocab, e);
    if (!rc && o->grammar) rc = open_match(a, o, e);
    for (int i = 0; i < n && !rc; i++) sample_accept(a->sample, prompt[i]);
    if (rc)
        answer_close(a);
    else
        *out = a;
    return rc;
}

void answer_close(struct answer *a)
{
    if (!a) return;
    grammar_match_close(a->match);
    free(a->allowed);
    free(a->masked);
    sample_close(a->sample);
    stop_free(&a->stop);
    free(a->bias);
    buf_free(&a->piece);
    buf_free(&a->out);
    free(a);
}

int answer_tokens(const struct answer *a)
{
    return a->tokens;
}

/* The likeliest tokens in order. NaN never ranks. */
static void find_tops(struct answer *a, const float *x, struct answer_next *next)
{
    struct answer_top *top = a->tops;
    int n = 0;
    for (int32_t id = 0; id < a->n_vocab; id++) {
        if (n == a->top && !(x[id] > top[n - 1].logprob)) continue;
        if (!(x[id] > -INFINITY)) continue;
        int i = n < a->top ? n++ : n - 1;
        for (; i > 0 && x[id] > top[i - 1].logprob; i--) top[i] = top[i - 1];
        top[i] = (struct answer_top){id, x[id]};
    }
    float shift = next->logprob - x[next->id]; /* log-softmax is the logit and a constant */
    for (int i = 0; i < n; i++) top[i].logprob += shift;
    next->top = top;
    next->n_top = n;
}

static int give(struct answer *a, struct answer_next *next, enum answer_end end, struct err *e)
{
    if (a->piece.failed || a->out.failed) return err_nomem(e, TOK_PIECE_MAX, "the answer's text");
    next->end = end;
    next->stop = a->stop.found;
    next->text = a->out.data;
    next->n = a->out.len;
    return 0;
}

/* True when a stop string is complete. */
static bool put_piece(struct answer *a)
{
    return stop_put(&a->stop, a->piece.data, a->piece.len, &a->out);
}

static enum answer_end put_rest(struct answer *a, enum answer_end end)
{
    buf_reset(&a->piece);
    tok_stream_end(&a->stream, &a->piece);
    if (put_piece(a)) return ANSWER_STOP;
    stop_end(&a->stop, &a->out);
    return end;
}

int answer_cut(struct answer *a, enum answer_end end, struct answer_next *next, struct err *e)
{
    *next = (struct answer_next){.id = SAMPLE_NONE};
    buf_reset(&a->out);
    return give(a, next, put_rest(a, end), e);
}

/* What the grammar allows is drawn from only when the free choice was not allowed: the two together are
 * a draw among the allowed ones, and most choices need no mask. */
static int32_t pick(struct answer *a, const float *logits)
{
    int32_t id = sample_pick(a->sample, logits, NULL);
    if (!a->match || (id != SAMPLE_NONE && grammar_match_accept(a->match, id))) return id;
    grammar_match_mask(a->match, a->allowed);
    for (int i = 0; i < a->n_vocab; i++)
        a->masked[i] = a->allowed[i / 64] >> (i % 64) & 1 ? logits[i] : -INFINITY;
    id = sample_pick(a->sample, a->masked, NULL);
    return id != SAMPLE_NONE && grammar_match_accept(a->match, id) ? id : SAMPLE_NONE;
}

bool answer_forced(const struct answer *a)
{
    return a->at < a->n_jump;
}

int answer_allows(struct answer *a, const int32_t *ids, int n)
{
    return a->match ? grammar_match_allows(a->match, ids, n) : n;
}

static int32_t pick_forced(struct answer *a)
{
    int32_t id = a->jump[a->at++];
    return grammar_match_accept(a->match, id) ? id : SAMPLE_NONE;
}

static void look_ahead(struct answer *a, enum answer_end end)
{
    if (!a->jumps || (end == ANSWER_GOES_ON && answer_forced(a))) return;
    a->at = a->n_jump = 0;
    if (end != ANSWER_GOES_ON) return;
    a->n_jump = grammar_match_jump(a->match, a->jump, JUMP);
}

int answer_next(struct answer *a, const float *logits, struct answer_next *next, struct err *e)
{
    *next = (struct answer_next){0};
    next->id = answer_forced(a) ? pick_forced(a) : pick(a, logits);
    if (next->id == SAMPLE_NONE)
        return err_set(e, ERR_FORMAT, "no token can follow: all logits are NaN or forbidden");
    if (a->logprobs) next->logprob = sample_logprob(logits, a->n_vocab, next->id);
    if (a->logprobs && a->top) find_tops(a, logits, next);
    buf_reset(&a->piece);
    buf_reset(&a->out);
    if (tok_is_end(a->t, next->id) && (!a->ignore_eos || a->match))
        return give(a, next, put_rest(a, ANSWER_EOS), e);
    a->tokens++;
    next->counted = true;
    sample_accept(a->sample, next->id);
    tok_stream_put(&a->stream, next->id, &a->piece);
    enum answer_end end = put_piece(a) ? ANSWER_STOP : ANSWER_GOES_ON;
    if (end == ANSWER_GOES_ON && a->match && grammar_match_must_end(a->match))
        end = put_rest(a, ANSWER_EOS);
    if (end == ANSWER_GOES_ON && a->tokens == a->max_tokens) end = put_rest(a, ANSWER_LENGTH);
    look_ahead(a, end);
    return give(a, next, end, e);
}
