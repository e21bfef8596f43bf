/* One answer, token by token: from logits to the next token and to text that may be shown.
 *
 *     struct answer *a;
 *     if (answer_open(&a, tok, n_vocab, &opts, prompt, n, &e)) ...
 *     while (!answer_next(a, logits, &next, &e)) {
 *         show(next.text, next.n);
 *         if (next.end != ANSWER_GOES_ON) break;
 *         logits = after(next.id);
 *     }
 *     answer_close(a);
 *
 * Text comes as whole characters, and never a part of a stop string. One owner.
 *
 * Where a grammar leaves no choice, tokens come without logits (answer_forced): as the tokenizer writes
 * the text that must come, less what a longer token could take in along with a choice. Not with
 * logprobs, which need the logits, nor with biases, which may forbid a token that is not the only way.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include "grammar.h"
#include "sample.h"
#include "tok.h"

enum answer_end {
    ANSWER_GOES_ON,
    ANSWER_EOS,
    ANSWER_STOP,
    ANSWER_LENGTH,
    ANSWER_CONTEXT,
    ANSWER_CANCELLED
};

enum { ANSWER_TOP_MAX = 20 };

struct answer_opts {
    struct sample_params sample;
    int max_tokens;           /* 0: no limit */
    const char *const *stops; /* strings that end the answer and are not part of it; see stop.h.
                                 Borrowed until answer_close */
    int n_stops;
    bool ignore_eos;
    /* The answer is in this language, and ends where nothing more may come; both or none. Borrowed until
     * answer_close. */
    const struct grammar *grammar;
    const struct grammar_tokens *grammar_tokens; /* of the model's vocabulary */
    bool logprobs;                               /* of the token, from the logits as they are */
    int top; /* of the likeliest tokens beside it, up to ANSWER_TOP_MAX; needs logprobs */
};

struct answer_top {
    int32_t id;
    float logprob;
};

struct answer_next {
    int32_t id;
    bool counted; /* it is part of the answer: no end token */
    enum answer_end end;
    int stop;         /* with ANSWER_STOP: which of the strings, else -1 */
    const char *text; /* [n], until the next call; may be empty */
    size_t n;
    float logprob;
    const struct answer_top *top; /* [n_top], likeliest first */
    int n_top;
};

struct answer;

ERR_DOOR int answer_open(struct answer **out, const struct tok *t, int n_vocab,
                         const struct answer_opts *o, const int32_t *prompt, int n, struct err *e);
void answer_close(struct answer *a);
/* The next token is known. */
bool answer_forced(const struct answer *a);
/* How many of n tokens in a row the grammar, if there is one, lets come next. */
int answer_allows(struct answer *a, const int32_t *ids, int n);
/* ERR_FORMAT when no token can follow. logits are not looked at where answer_forced. */
ERR_DOOR int answer_next(struct answer *a, const float *logits, struct answer_next *next,
                         struct err *e);
/* The rest of the text, where the caller ends the answer after a token that did not. `end` of *next:
 * the one given, or ANSWER_STOP when the rest completed a stop string. */
ERR_DOOR int answer_cut(struct answer *a, enum answer_end end, struct answer_next *next,
                        struct err *e);
int answer_tokens(const struct answer *a); /* so far, without an end token */

#endif
