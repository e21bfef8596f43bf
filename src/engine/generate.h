/* One answer: prefill, then sample until an end token, a stop string, the limit or the caller ends
 * it. Speaks to the engine only through engine.h. One thread.
 *
 *     struct tok_ids held = {0};                     what the sequence was fed, empty at first
 *     struct generate_opts o = {.sample = SAMPLE_DEFAULTS, .text = show};
 *     if (generate(en, seq, &held, prompt, n, &o, &r, &e)) ...
 *     tok_ids_free(&held);
 */
#ifndef GENERATE_H
#define GENERATE_H

#include "answer.h"
#include "engine.h"
#include "spec.h"

struct generate_opts {
    struct sample_params sample;
    int max_tokens;           /* 0: until the context is full */
    const char *const *stops; /* strings that end the answer and are not part of it; see stop.h */
    int n_stops;
    bool slide; /* at a full context keep the first keep tokens and the newer half, instead of
                   ending */
    int keep;   /* at most half the context counts */
    bool ignore_eos;
    struct spec *spec; /* of this engine; NULL: a step for each token. The answer is the same */
    /* Text as it comes: whole characters, never a part of a stop string. Return false to cancel.
     * May be NULL, like the two below. */
    bool (*text)(void *arg, const char *p, size_t n);
    void (*prefill)(void *arg, int done, int total); /* tokens, those held already among them */
    bool (*cancelled)(void *arg);                    /* asked before each step */
    void *arg;
};

struct generate_result {
    enum answer_end end;
    int prompt_tokens;   /* those that were kept, where slide cut the prompt */
    int cached_tokens;   /* of them, held by the sequence already and not computed again */
    int output_tokens;   /* without the end token */
    int drafted_tokens;  /* computed before it was known whether they follow; see spec.h */
    int accepted_tokens; /* of them, those that did */
    int64_t ttft_ns, prefill_ns, decode_ns; /* ttft: from the call to the first token */
};

/* prompt: all tokens from position 0 of the sequence; the common prefix with what the sequence
 * holds (`held`, the ids it was fed, updated here) is not computed again. ERR_LIMIT when the prompt
 * does not fit and slide is off. After an error or a cancellation held says what the sequence
 * holds, and the next call may go on from there. */
ERR_DOOR int generate(struct engine *en, int seq, struct tok_ids *held, const int32_t *prompt,
                      int n, const struct generate_opts *o, struct generate_result *r,
                      struct err *e);

/* The tokens that hold a character at which llama.cpp lets repetitions begin anew (newline, colon,
 * quotation mark, asterisk): for sample_params.dry_breakers. *ids is the caller's to free. */
ERR_DOOR int generate_dry_breakers(const struct tok *t, int32_t **ids, int *n, struct err *e);

#endif
