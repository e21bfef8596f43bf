/* The loop of one answer. Invariant: held lists exactly the tokens in the sequence, whatever fails;
 * while a token is chosen, drafted ones (spec.h) may stand behind those.
 *
 * A token is computed only when the one after it is wanted: the last token of an answer (and its end
 * token) is left for the next call's prefill. Each token is shown as soon as its text is known to
 * be whole characters and no part of a stop string.
 */
#include "generate.h"

#include "clock.h"
#include "stop.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512 }; /* tokens of prefill between two looks at the caller */

struct run {
    struct engine *en;
    int seq, ctx, keep;
    struct tok_ids *held;
    const struct generate_opts *o;
    struct generate_result *r;
    struct sample *sample;
    struct sample_bias *bias; /* the caller's, and end tokens forbidden by ignore_eos */
    struct stop stop;
    struct tok_stream stream;
    struct buf piece, out;
    const float *logits; /* after the newest token held */
    bool cancelled;
};

static bool cancelled(struct run *g)
{
    if (g->o->cancelled && g->o->cancelled(g->o->arg)) g->cancelled = true;
    return g->cancelled;
}

static void truncate_to(struct run *g, int n)
{
    engine_seq_truncate(g->en, g->seq, n);
    g->held->len = (size_t)n;
}

/* Computes n tokens, which fit. Stops early when cancelled. report: tell how far the prompt is. */
static int feed(struct run *g, const int32_t *ids, int n, bool report, struct err *e)
{
    for (int done = 0, k; done < n && !cancelled(g); done += k) {
        k = n - done < CHUNK ? n - done : CHUNK;
        struct engine_slice s = {.seq = g->seq,
                                 .tokens = ids + done,
                                 .n = k,
                                 .want = done + k == n ? ENGINE_LOGITS_LAST : ENGINE_LOGITS_NONE};
        int rc = engine_step(g->en, &s, 1, e);
        if (rc) return rc;
        memmove(g->held->data + g->held->len, ids + done, (size_t)k * sizeof *ids);
        g->held->len += (size_t)k;
        g->logits = s.logits;
        if (report && g->o->prefill)
            g->o->prefill(g->o->arg, (int)g->held->len, (int)g->held->len + n - done - k);
    }
    return 0;
}

/* The same for one token, along with what may follow it. */
static int feed_drafted(struct run *g, int32_t id, struct err *e)
{
    struct spec *spec = g->o->spec;
    int room = g->ctx - (int)g->held->len, left = g->o->max_tokens - g->r->output_tokens;
    if (cancelled(g)) return 0;
    if (g->o->max_tokens && left < room) room = left;
    struct engine_slice s = {.seq = g->seq, .want = ENGINE_LOGITS_ALL};
    s.n = spec_plan(spec, id, room, &s.tokens);
    int64_t start = clock_ns();
    int rc = engine_step(g->en, &s, 1, e);
    if (rc && s.n > 1) { /* what is only drafted may not make an answer fail */
        s.n = 1;
        spec_cut(spec);
        rc = engine_step(g->en, &s, 1, e);
    }
    if (rc) return rc;
    spec_timed(spec, clock_ns() - start);
    g->r->drafted_tokens += s.n - 1;
    g->held->data[g->held->len++] = id;
    g->logits = s.logits;
    return 0;
}

/* How many tokens behind the first keep leave when n have become too many: the older half. */
static int slide_by(const struct run *g, int n)
{
    return n - g->keep - (g->ctx - g->keep) / 2;
}

/* One token more. In a full sequence the newer half moves up behind the kept tokens first: its
 * positions change, so it is computed again. */
static int append(struct run *g, int32_t id, struct err *e)
{
    struct spec *spec = g->o->spec;
    int n = (int)g->held->len;
    if (spec && !g->cancelled && spec_hit(spec, id)) {
        g->r->accepted_tokens++;
        g->held->data[g->held->len++] = id;
        g->logits += engine_vocab(g->en);
        return 0;
    }
    engine_seq_truncate(g->en, g->seq, n);
    if (n < g->ctx) return spec ? feed_drafted(g, id, e) : feed(g, &id, 1, false, e);
    int32_t *newer = g->held->data + g->keep + slide_by(g, n), *end = g->held->data + n;
    *end++ = id;
    truncate_to(g, g->keep);
    int rc = feed(g, newer, (int)(end - newer), false, e);
    if (spec) spec_begin(spec, g->held->data, (int)g->held->len);
    return rc;
}

static int prefill(struct run *g, const int32_t *prompt, int n, struct err *e)
{
    int common = 0, held = (int)g->held->len;
    /* The last token is computed even when it is held: its logits are wanted. */
    while (common < held && common < n - 1 && prompt[common] == g->held->data[common]) common++;
    truncate_to(g, common);
    g->r->prompt_tokens = n;
    g->r->cached_tokens = common;
    if (g->o->prefill && n > common) g->o->prefill(g->o->arg, common, n);
    return feed(g, prompt + common, n - common, true, e);
}

/* A prompt that does not fit is cut as a full sequence is. */
static int prefill_cut(struct run *g, const int32_t *prompt, int n, struct err *e)
{
    int drop = slide_by(g, n), kept = n - drop;
    int32_t *cut = malloc((size_t)kept * sizeof *cut);
    if (!cut) return err_nomem(e, (size_t)kept * sizeof *cut, "a prompt");
    memcpy(cut, prompt, (size_t)g->keep * sizeof *cut);
    memcpy(cut + g->keep, prompt + g->keep + drop, (size_t)(kept - g->keep) * sizeof *cut);
    int rc = prefill(g, cut, kept, e);
    free(cut);
    return rc;
}

/* Hands out what is in g->out. */
static int show(struct run *g, struct err *e)
{
    if (g->piece.failed || g->out.failed) return err_nomem(e, TOK_PIECE_MAX, "the answer's text");
    if (g->out.len && g->o->text && !g->cancelled)
        g->cancelled = !g->o->text(g->o->arg, g->out.data, g->out.len);
    return 0;
}

/* True when a stop string is complete. */
static bool show_token(struct run *g, int32_t id, int *rc, struct err *e)
{
    buf_reset(&g->piece);
    buf_reset(&g->out);
    tok_stream_put(&g->stream, id, &g->piece);
    bool stopped = stop_put(&g->stop, g->piece.data, g->piece.len, &g->out);
    *rc = show(g, e);
    return stopped;
}

static int show_rest(struct run *g, struct err *e)
{
    buf_reset(&g->piece);
    buf_reset(&g->out);
    tok_stream_end(&g->stream, &g->piece);
    bool stopped = stop_put(&g->stop, g->piece.data, g->piece.len, &g->out);
    if (stopped)
        g->r->end = GENERATE_STOP;
    else
        stop_end(&g->stop, &g->out);
    return show(g, e);
}

static int decode(struct run *g, int64_t start, struct err *e)
{
    const struct tok *t = engine_tok(g->en);
    for (int rc = 0;;) {
        if (g->cancelled) return g->r->end = GENERATE_CANCELLED, 0;
        int32_t id = sample_pick(g->sample, g->logits, NULL);
        if (!g->r->ttft_ns) g->r->ttft_ns = clock_ns() - start;
        if (id == SAMPLE_NONE)
            return err_set(e, ERR_FORMAT, "no token can follow: all logits are NaN or forbidden");
        if (tok_is_end(t, id) && !g->o->ignore_eos)
            return g->r->end = GENERATE_EOS, show_rest(g, e);
        g->r->output_tokens++;
        sample_accept(g->sample, id);
        bool stopped = show_token(g, id, &rc, e);
        if (rc) return rc;
        if (stopped) return g->r->end = GENERATE_STOP, 0;
        if (g->r->output_tokens == g->o->max_tokens)
            return g->r->end = GENERATE_LENGTH, show_rest(g, e);
        if ((int)g->held->len == g->ctx && !g->o->slide)
            return g->r->end = GENERATE_CONTEXT, show_rest(g, e);
        rc = append(g, id, e);
        if (rc) return rc;
    }
}

static int forbid_ends(struct run *g, struct sample_params *p, struct err *e)
{
    const struct tok *t = engine_tok(g->en);
    int n = p->n_bias, vocab = engine_vocab(g->en);
    for (int32_t id = 0; id < vocab; id++) n += tok_is_end(t, id);
    g->bias = malloc((size_t)(n + 1) * sizeof *g->bias);
    if (!g->bias) return err_nomem(e, (size_t)n * sizeof *g->bias, "logit biases");
    if (p->n_bias) memcpy(g->bias, p->bias, (size_t)p->n_bias * sizeof *g->bias);
    n = p->n_bias;
    for (int32_t id = 0; id < vocab; id++)
        if (tok_is_end(t, id)) g->bias[n++] = (struct sample_bias){id, -INFINITY};
    p->bias = g->bias;
    p->n_bias = n;
    return 0;
}

static int prepare(struct run *g, const int32_t *prompt, int n, struct err *e)
{
    struct sample_params p = g->o->sample;
    if (n < 1) return err_set(e, ERR_USAGE, "an empty prompt");
    if (n > g->ctx && (!g->o->slide || g->ctx < 2))
        return err_set(e, ERR_LIMIT, "the prompt has %d tokens, the context holds %d", n, g->ctx);
    size_t room = (size_t)g->ctx + 1; /* append's */
    if (g->held->room < room) {
        int32_t *data = realloc(g->held->data, room * sizeof *data);
        if (!data) return err_nomem(e, room * sizeof *data, "the tokens of a sequence");
        g->held->data = data;
        g->held->room = room;
    }
    int rc = g->o->ignore_eos ? forbid_ends(g, &p, e) : 0;
    if (!rc) rc = sample_open(&g->sample, &p, engine_vocab(g->en), e);
    for (int i = 0; i < n && !rc; i++) sample_accept(g->sample, prompt[i]);
    return rc;
}

int generate(struct engine *en, int seq, struct tok_ids *held, const int32_t *prompt, int n,
             const struct generate_opts *o, struct generate_result *r, struct err *e)
{
    struct engine_info info;
    struct run g = {.en = en, .seq = seq, .held = held, .o = o, .r = r};
    engine_info(en, &info);
    g.ctx = info.ctx;
    g.keep = o->keep < 0 ? 0 : o->keep < g.ctx / 2 ? o->keep : g.ctx / 2;
    g.piece = g.out = BUF_INIT(1 << 20);
    *r = (struct generate_result){0};
    tok_stream_init(&g.stream, engine_tok(en));
    int64_t start = clock_ns();
    int rc = stop_init(&g.stop, o->stops, o->n_stops, e);
    if (rc) return rc;
    rc = prepare(&g, prompt, n, e);
    if (!rc) rc = n > g.ctx ? prefill_cut(&g, prompt, n, e) : prefill(&g, prompt, n, e);
    int64_t middle = clock_ns();
    r->prefill_ns = middle - start;
    if (!rc && o->spec) spec_begin(o->spec, held->data, (int)held->len);
    if (!rc) rc = decode(&g, start, e);
    truncate_to(&g, (int)held->len);
    r->decode_ns = clock_ns() - middle;
    sample_close(g.sample);
    stop_free(&g.stop);
    free(g.bias);
    buf_free(&g.piece);
    buf_free(&g.out);
    return rc;
}

int generate_dry_breakers(const struct tok *t, int32_t **ids, int *n, struct err *e)
{
    struct buf piece = BUF_INIT(TOK_PIECE_MAX);
    size_t bytes = (size_t)tok_size(t) * sizeof **ids;
    *n = 0;
    *ids = malloc(bytes);
    if (!*ids) return err_nomem(e, bytes, "DRY breakers");
    for (int32_t id = 0; id < tok_size(t); id++) {
        buf_reset(&piece);
        tok_piece(t, id, true, &piece);
        if (piece.len && strpbrk(piece.data, "\n:\"*")) (*ids)[(*n)++] = id;
    }
    buf_free(&piece);
    return 0;
}
