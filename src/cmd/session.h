/* A conversation with a model at the command line: messages in, answers streamed to standard
 * output, progress and notes on standard error.
 *
 *     struct session s;
 *     if (session_open(&s, path, &opts, &e)) ...
 *     if (session_ask(&s, text, n, &e)) ...        or session_complete for a bare continuation
 *     session_close(&s);
 *
 * One thread. Texts may hold any bytes. After an error the conversation is as it was before.
 */
#ifndef SESSION_H
#define SESSION_H

#include "chat.h"
#include "engine.h"
#include "generate.h"
#include "progress.h"
#include <jansson.h>
#include <signal.h>

enum { SESSION_TEXT_MAX = 8 << 20 }; /* bytes of one message, and of a file of messages */

struct session_opts {
    struct engine_opts engine;
    struct sample_params sample;
    int speculate;               /* 0: off, else spec_opts.tokens */
    const char *draft;           /* the draft model's path; NULL: none */
    const char *template_source; /* NULL: the model's own */
    size_t n_template;
    bool raw; /* no template is needed: only session_complete will be called */
};

struct session {
    struct engine *en, *draft;
    struct spec *spec;
    int seq;
    struct tok_ids held;
    struct chat *chat;
    json_t *messages; /* array of {"role", "content"} */
    /* Of the answers to come, the owner's to change; n_turns is added to the seed of each. */
    struct generate_opts generate;
    uint64_t n_turns;
    int32_t *dry_breakers; /* found when DRY is first used */
    int n_dry_breakers;
    const volatile sig_atomic_t *interrupted; /* not 0: end the answer; may be NULL */
    /* Of the last answer. */
    struct generate_result result;
    struct buf answer;
    /* While it comes. */
    struct buf screen;
    struct progress bar;
    bool barred, to_terminal;
    int write_errno; /* why standard output took no more; 0 */
};

ERR_DOOR int session_open(struct session *s, const char *path, const struct session_opts *o,
                          struct err *e);
void session_close(struct session *s);

/* The answer and a newline. What Ctrl-C left of an answer stays in the conversation. */
ERR_DOOR int session_ask(struct session *s, const char *text, size_t n, struct err *e);
/* What the model goes on with after text, in which control tokens count; no conversation. */
ERR_DOOR int session_complete(struct session *s, const char *text, size_t n, struct err *e);
/* A line on standard error about the last answer. */
void session_print_stats(const struct session *s);

/* The system message, NULL for none; it counts from the next answer on. */
ERR_DOOR int session_set_system(struct session *s, const char *text, struct err *e);
const char *session_system(const struct session *s); /* or NULL */
void session_clear(struct session *s);               /* all but the system message */
/* JSON, an array of messages. */
ERR_DOOR int session_save(const struct session *s, const char *path, struct err *e);
ERR_DOOR int session_load(struct session *s, const char *path, struct err *e);

#endif
