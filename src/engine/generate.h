/* One answer: prefill, then sample until an end token, a stop string, the limit or the caller ends
 * it. Speaks to the engine only through engine.h. One thread.
 */
#ifndef GENERATE_H
#define GENERATE_H

#include "engine.h"
#include "sample.h"

enum generate_end {
    GENERATE_EOS,
    GENERATE_STOP,
    GENERATE_LENGTH,
    GENERATE_CONTEXT,
    GENERATE_CANCELLED
};

struct generate_opts {
    struct sample_params sample;
    int max_tokens;           /* 0: until the context is full */
    const char *const *stops; /* strings that end the answer and are not part of it */
    int n_stops;
    bool slide; /* at a full context keep the first keep tokens and the newer half, instead of
                   ending */
    int keep;
    bool ignore_eos;
    /* Text as it comes: whole characters, never a part of a stop string. Return false to cancel.
     * May be NULL. */
    bool (*text)(void *arg, const char *p, size_t n);
    void (*prefill)(void *arg, int done, int total); /* may be NULL */
    void *arg;
};

struct generate_result {
    enum generate_end end;
    int prompt_tokens,
        cached_tokens; /* cached: held by the sequence already and not computed again */
    int output_tokens;
    int64_t ttft_ns, prefill_ns, decode_ns;
};

/* prompt: all tokens from position 0 of the sequence; the common prefix with what the sequence
 * holds (`held`, the ids it was fed, updated here) is not computed again. ERR_LIMIT when the prompt
 * does not fit and slide is off. */
ERR_DOOR int generate(struct engine *en, int seq, struct tok_ids *held, const int32_t *prompt,
                      int n, const struct generate_opts *o, struct generate_result *r,
                      struct err *e);

#endif
