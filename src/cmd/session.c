/* Each answer renders the whole conversation anew; generate() finds out how much of it the sequence
 * holds already. The messages change only when an answer has come, so that a failed one can be
 * asked again. */
#include "session.h"

#include "clean.h"
#include "cmd.h"
#include "stop.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool on_text(void *arg, const char *p, size_t n)
{
    struct session *s = arg;
    progress_end(&s->bar);
    buf_put(&s->answer, p, n);
    buf_reset(&s->screen);
    if (s->to_terminal) {
        clean_screen(p, n, &s->screen);
        p = s->screen.data, n = s->screen.len;
    }
    if (fwrite(p, 1, n, stdout) == n && !fflush(stdout)) return true;
    s->write_errno = errno;
    return false;
}

static void on_prefill(void *arg, int done, int total)
{
    struct session *s = arg;
    if (!s->barred) progress_init(&s->bar, "reading the prompt", total, PROGRESS_TOKENS);
    s->barred = true;
    progress_update(&s->bar, done);
}

static bool on_poll(void *arg)
{
    struct session *s = arg;
    return s->interrupted && *s->interrupted;
}

static int prepare(struct session *s, const struct session_opts *o, struct err *e)
{
    int rc = 0;
    s->seq = engine_seq_open(s->en);
    if (!o->raw) rc = chat_open(&s->chat, engine_tok(s->en), o->template_source, o->n_template, e);
    if (rc) return rc;
    s->messages = json_array();
    if (!s->messages) return err_nomem(e, sizeof *s->messages, "messages");
    s->generate = (struct generate_opts){.sample = o->sample,
                                         .text = on_text,
                                         .prefill = on_prefill,
                                         .cancelled = on_poll,
                                         .arg = s};
    return 0;
}

static int load(struct engine **out, const char *path, const struct engine_opts *o, struct err *e)
{
    struct progress bar;
    struct engine_opts with_bar = *o;
    progress_init(&bar, "loading", 0, PROGRESS_BYTES);
    with_bar.progress = cmd_load_progress;
    with_bar.progress_arg = &bar;
    int rc = engine_open(out, path, &with_bar, e);
    progress_end(&bar);
    return rc;
}

static int open_spec(struct session *s, const struct session_opts *o, struct err *e)
{
    struct engine_info info;
    struct engine_opts engine = o->engine;
    engine_info(s->en, &info);
    engine.ctx = info.ctx;
    int rc = o->draft ? load(&s->draft, o->draft, &engine, e) : 0;
    struct spec_opts spec = {.tokens = o->speculate, .draft = s->draft};
    if (!rc) rc = spec_open(&s->spec, s->en, &spec, e);
    s->generate.spec = s->spec;
    return rc;
}

int session_open(struct session *s, const char *path, const struct session_opts *o, struct err *e)
{
    *s = (struct session){.answer = BUF_INIT(SESSION_TEXT_MAX), .screen = BUF_INIT(1 << 20)};
    s->to_terminal = isatty(1);
    int rc = load(&s->en, path, &o->engine, e);
    if (!rc) rc = prepare(s, o, e);
    if (!rc && o->speculate) rc = open_spec(s, o, e);
    if (rc) session_close(s);
    return rc;
}

void session_close(struct session *s)
{
    json_decref(s->messages);
    chat_close(s->chat);
    spec_close(s->spec);
    engine_close(s->draft);
    engine_close(s->en);
    tok_ids_free(&s->held);
    free(s->dry_breakers);
    buf_free(&s->answer);
    buf_free(&s->screen);
    *s = (struct session){0};
}

/* A message or NULL. Ill-formed UTF-8 in text becomes U+FFFD. */
static json_t *message(const char *role, const char *text, size_t n)
{
    struct buf clean = BUF_INIT(3 * (size_t)SESSION_TEXT_MAX);
    clean_utf8(text, n, &clean);
    json_t *m = clean.failed ? NULL
                             : json_pack("{s:s,s:s%}", "role", role, "content",
                                         clean.data ? clean.data : "", clean.len);
    buf_free(&clean);
    return m;
}

static int add(json_t *messages, const char *role, const char *text, size_t n, struct err *e)
{
    if (n > SESSION_TEXT_MAX)
        return err_set(e, ERR_LIMIT, "a message of %zu bytes, at most %d are possible", n,
                       SESSION_TEXT_MAX);
    json_t *m = message(role, text, n); /* a NULL is refused by the array */
    return json_array_append_new(messages, m) ? err_nomem(e, n, "a message") : 0;
}

static int answer(struct session *s, const struct tok_ids *prompt, struct err *e)
{
    struct generate_opts o = s->generate;
    const char *stops[STOP_COUNT_MAX], *stop = s->chat ? chat_stop(s->chat) : NULL;
    if (stop && o.n_stops < STOP_COUNT_MAX) {
        for (int i = 0; i < o.n_stops; i++) stops[i] = o.stops[i];
        stops[o.n_stops++] = stop;
        o.stops = stops;
    }
    if (o.sample.dry_multiplier != 0 && !s->dry_breakers &&
        generate_dry_breakers(engine_tok(s->en), &s->dry_breakers, &s->n_dry_breakers, e))
        return e->code;
    o.sample.dry_breakers = s->dry_breakers;
    o.sample.n_dry_breakers = s->n_dry_breakers;
    o.sample.seed += s->n_turns++;
    s->barred = false;
    s->write_errno = 0;
    buf_reset(&s->answer);
    int rc = generate(s->en, s->seq, &s->held, prompt->data, (int)prompt->len, &o, &s->result, e);
    if (s->barred) progress_end(&s->bar);
    bool line = (!rc || s->answer.len) && !s->write_errno;
    if (line && (putchar('\n') == EOF || fflush(stdout))) s->write_errno = errno;
    if (!rc && s->write_errno)
        rc = err_set(e, ERR_IO, "cannot write standard output: %s", strerror(s->write_errno));
    if (!rc && s->answer.failed)
        rc = err_set(e, ERR_LIMIT, "an answer of more than %d bytes", SESSION_TEXT_MAX);
    if (!rc && s->result.end == ANSWER_CONTEXT)
        fprintf(stderr, "(the context of %zu tokens is full; --ctx makes it larger)\n",
                s->held.len);
    return rc;
}

/* The conversation with the question, as tokens. */
static int encode(struct session *s, json_t *messages, struct tok_ids *ids, struct err *e)
{
    char *json = json_dumps(messages, JSON_COMPACT);
    if (!json) return err_nomem(e, SESSION_TEXT_MAX, "the conversation");
    int rc = chat_encode(s->chat, engine_tok(s->en), json, strlen(json), CHAT_REPLY, ids, e);
    free(json);
    return rc;
}

int session_ask(struct session *s, const char *text, size_t n, struct err *e)
{
    struct tok_ids ids = {0};
    json_t *messages = json_copy(s->messages);
    if (!messages) return err_nomem(e, n, "messages");
    int rc = add(messages, "user", text, n, e);
    if (!rc) rc = encode(s, messages, &ids, e);
    if (!rc) rc = answer(s, &ids, e);
    bool heard = !rc && (s->answer.len || s->result.end != ANSWER_CANCELLED);
    if (heard) rc = add(messages, "assistant", s->answer.data, s->answer.len, e);
    if (heard && !rc) {
        json_decref(s->messages);
        s->messages = json_incref(messages);
    }
    json_decref(messages);
    tok_ids_free(&ids);
    return rc;
}

int session_complete(struct session *s, const char *text, size_t n, struct err *e)
{
    struct tok_ids ids = {0};
    int rc = tok_encode(engine_tok(s->en), text, n, TOK_SPECIAL | TOK_ADD_AUTO, &ids, e);
    if (!rc) rc = answer(s, &ids, e);
    tok_ids_free(&ids);
    return rc;
}

static double rate(int tokens, int64_t ns)
{
    return ns > 0 ? (double)tokens * 1e9 / (double)ns : 0;
}

void session_print_stats(const struct session *s)
{
    const struct generate_result *r = &s->result;
    fprintf(stderr,
            "(prompt: %d tokens, %d of them cached, %.1f tokens/s; first token after %.2f s; "
            "answer: %d tokens, %.1f tokens/s",
            r->prompt_tokens, r->cached_tokens,
            rate(r->prompt_tokens - r->cached_tokens, r->prefill_ns), (double)r->ttft_ns * 1e-9,
            r->output_tokens, rate(r->output_tokens, r->decode_ns));
    if (s->spec)
        fprintf(stderr, "; drafted: %d tokens, %d of them right", r->drafted_tokens,
                r->accepted_tokens);
    fputs(")\n", stderr);
}

static bool is_role(const json_t *m, const char *role)
{
    const char *s = json_string_value(json_object_get(m, "role"));
    return s && strcmp(s, role) == 0;
}

const char *session_system(const struct session *s)
{
    const json_t *first = json_array_get(s->messages, 0);
    return is_role(first, "system") ? json_string_value(json_object_get(first, "content")) : NULL;
}

int session_set_system(struct session *s, const char *text, struct err *e)
{
    json_t *m = text ? message("system", text, strlen(text)) : NULL;
    if (text && !m) return err_nomem(e, strlen(text), "a message");
    if (session_system(s)) json_array_remove(s->messages, 0);
    if (text && json_array_insert_new(s->messages, 0, m))
        return err_nomem(e, strlen(text), "a message");
    return 0;
}

void session_clear(struct session *s)
{
    for (size_t i = json_array_size(s->messages), keep = session_system(s) != NULL; i > keep; i--)
        json_array_remove(s->messages, i - 1);
}

int session_save(const struct session *s, const char *path, struct err *e)
{
    char part[4096];
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return err_set(e, ERR_LIMIT, "a path of %zu bytes", strlen(path));
    char *json = json_dumps(s->messages, JSON_INDENT(2));
    if (!json) return err_nomem(e, SESSION_TEXT_MAX, "the conversation");
    FILE *f = fopen(part, "we");
    bool ok = f && fputs(json, f) != EOF && putc('\n', f) != EOF;
    if (f && fclose(f)) ok = false;
    free(json);
    if (ok && !rename(part, path)) return 0;
    err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    if (f) unlink(part);
    return e->code;
}

static int check_messages(const json_t *messages, const char *path, struct err *e)
{
    size_t i;
    json_t *m;
    if (!json_is_array(messages)) return err_set(e, ERR_FORMAT, "%s holds no array", path);
    json_array_foreach(
        messages, i,
        m) if (!json_is_string(json_object_get(m, "role")) ||
               !json_is_string(json_object_get(
                   m, "content"))) return err_set(e, ERR_FORMAT,
                                                  "%s: message %zu has no role and content", path,
                                                  i);
    return 0;
}

int session_load(struct session *s, const char *path, struct err *e)
{
    json_error_t where;
    struct buf text = BUF_INIT(SESSION_TEXT_MAX);
    int rc = cmd_read(path, &text, e);
    json_t *messages = rc ? NULL : json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &where);
    if (!rc && !messages)
        rc = err_set(e, ERR_FORMAT, "%s, line %d: %s", path, where.line, where.text);
    if (!rc) rc = check_messages(messages, path, e);
    if (!rc) {
        json_decref(s->messages);
        s->messages = json_incref(messages);
    }
    json_decref(messages);
    buf_free(&text);
    return rc;
}
