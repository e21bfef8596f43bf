/* The loop of one answer. Invariant: held lists exactly the tokens in the sequence, whatever fails;
 * while a token is chosen, drafted ones (spec.h) may stand behind those.
 *
 * A token is computed only when the one after it is wanted: the last token of an answer (and its end
 * token) is left for the next call's prefill.
 */
#include "generate.h"

#include "clock.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512 }; /* tokens of prefill between two looks at the caller */

struct run {
    struct engine *en;
    int seq, ctx, keep;
    struct tok_ids *held;
    const struct generate_opts *o;
    struct generate_result *r;
    struct answer *answer;
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

/* Shows the text of a token, or of the rest. */
static void show(struct run *g, const struct answer_next *next)
{
    if (next->n && g->o->text && !g->cancelled)
        g->cancelled = !g->o->text(g->o->arg, next->text, next->n);
}

static int decode(struct run *g, int64_t start, struct err *e)
{
    struct answer_next next;
    int rc = 0;
    while (!rc) {
        if (g->cancelled) return g->r->end = ANSWER_CANCELLED, 0;
        rc = answer_next(g->answer, g->logits, &next, e);
        if (rc) break;
        if (!g->r->ttft_ns) g->r->ttft_ns = clock_ns() - start;
        g->r->output_tokens = answer_tokens(g->answer);
        show(g, &next);
        if (next.end == ANSWER_GOES_ON && (int)g->held->len == g->ctx && !g->o->slide) {
            rc = answer_cut(g->answer, ANSWER_CONTEXT, &next, e);
            if (!rc) show(g, &next);
        }
        if (rc || next.end != ANSWER_GOES_ON) return g->r->end = next.end, rc;
        rc = append(g, next.id, e);
    }
    return rc;
}

static int prepare(struct run *g, const int32_t *prompt, int n, struct err *e)
{
    struct answer_opts a = {.sample = g->o->sample,
                            .max_tokens = g->o->max_tokens,
                            .stops = g->o->stops,
                            .n_stops = g->o->n_stops,
                            .ignore_eos = g->o->ignore_eos};
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
    return answer_open(&g->answer, engine_tok(g->en), engine_vocab(g->en), &a, prompt, n, e);
}

int generate(struct engine *en, int seq, struct tok_ids *held, const int32_t *prompt, int n,
             const struct generate_opts *o, struct generate_result *r, struct err *e)
{
    struct engine_info info;
    struct run g = {.en = en, .seq = seq, .held = held, .o = o, .r = r};
    engine_info(en, &info);
    g.ctx = info.ctx;
    g.keep = o->keep < 0 ? 0 : o->keep < g.ctx / 2 ? o->keep : g.ctx / 2;
    *r = (struct generate_result){0};
    int64_t start = clock_ns();
    int rc = prepare(&g, prompt, n, e);
    if (!rc) rc = n > g.ctx ? prefill_cut(&g, prompt, n, e) : prefill(&g, prompt, n, e);
    int64_t middle = clock_ns();
    r->prefill_ns = middle - start;
    if (!rc && o->spec) spec_begin(o->spec, held->data, (int)held->len);
    if (!rc) rc = decode(&g, start, e);
    truncate_to(&g, (int)held->len);
    r->decode_ns = clock_ns() - middle;
    answer_close(g.answer);
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
