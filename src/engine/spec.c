/* How much to draft. Three things are learnt while decoding:
 *
 *   chance    how often a suggestion is right, by what speaks for it: the length of the match
 *             (spec_past.c), the draft model's lead
 *   cost      of a step with that many rows, in steps of one row
 *   unit_ns   a step of one row
 *
 * A step of k drafted tokens gives 1 + c1 + c1 c2 + ... tokens for cost[1 + k]; the k with the best
 * rate is taken, none unless it is better than a plain step by SPEC__MARGIN, and no more than twice what
 * was right the last time and SPEC__REACH_MIN: chances and costs are guesses at first, and the first steps
 * of a cold machine tell costs that are far too low. The draft model's own steps
 * are part of the cost; while it does not pay it is asked again after ever longer pauses.
 */
#include "spec.h"

#include "clock.h"
#include "draft.h"
#include "spec_int.h"
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1 + SPEC_MAX, LEADS = 5, PAUSE_MIN = 16, PAUSE_MAX = 512 };

struct spec {
    int tokens; /* of opts */
    struct spec__past past;
    int32_t plan[ROWS];
    int n_plan, n_guess; /* the first n_plan of n_guess are computed */
    int at;              /* of them known to count */
    int reach;           /* most tokens to draft: grows with what was right, so errors stay cheap */
    double unit_ns, cost[ROWS + 1]; /* cost [rows]; 0: not known */
    int n_plain, since_plain;       /* steps, as far as they are counted */
    struct draft draft;             /* without an engine: there is none */
    int lead_of[ROWS];              /* of plan's tokens that are the draft model's: its class */
    double lead_chance[LEADS], mean_chance, draft_ns;
    int idle, pause; /* steps without the draft model, and how many it waits */
};

int spec_open(struct spec **out, const struct engine *en, const struct spec_opts *o, struct err *e)
{
    static const double lead[LEADS] = {.3, .45, .6, .75, .9};
    struct engine_info info;
    if (o->tokens != SPEC_AUTO && (o->tokens < 1 || o->tokens > SPEC_MAX))
        return err_set(e, ERR_USAGE, "%d tokens drafted in a step; 1 to %d are possible", o->tokens,
                       SPEC_MAX);
    struct spec *s = calloc(1, sizeof *s);
    if (!s) return err_nomem(e, sizeof *s, "speculation");
    engine_info(en, &info);
    s->tokens = o->tokens;
    s->pause = PAUSE_MIN;
    s->reach = SPEC__REACH_MIN;
    s->mean_chance = .6;
    memcpy(s->lead_chance, lead, sizeof lead);
    int rc = spec__past_open(&s->past, info.ctx + 1, e);
    if (!rc && o->draft) rc = draft_init(&s->draft, o->draft, en, e);
    if (rc)
        spec_close(s);
    else
        *out = s;
    return rc;
}

void spec_close(struct spec *s)
{
    if (!s) return;
    spec__past_close(&s->past);
    draft_free(&s->draft);
    free(s);
}

static int class_of_lead(float lead)
{
    return lead < 0.5f ? 0 : lead < 1 ? 1 : lead < 2 ? 2 : lead < 4 ? 3 : 4;
}

/* The plan said something about the place where id stands now. */
static void judge(struct spec *s, int32_t id)
{
    if (s->at >= s->n_guess || s->lead_of[s->at] < 0) return;
    int lead = s->lead_of[s->at];
    bool right = s->plan[s->at] == id;
    spec__learn(&s->lead_chance[lead], right);
    spec__learn(&s->mean_chance, right);
}

void spec_begin(struct spec *s, const int32_t *ids, int n)
{
    int common = 0, old;
    const int32_t *text = suffix_text(s->past.text, &old);
    while (common < old && common < n && text[common] == ids[common]) common++;
    if (s->draft.en) draft_keep(&s->draft, common);
    if (common < old) suffix_clear(s->past.text);
    for (int i = common < old ? 0 : old; i < n; i++) suffix_put(s->past.text, ids[i]);
    s->n_plan = s->n_guess = s->at = 0;
}

bool spec_hit(struct spec *s, int32_t id)
{
    if (s->at >= s->n_plan || s->plan[s->at] != id) return false;
    judge(s, id);
    s->at++;
    spec__past_put(&s->past, id);
    return true;
}

/* In steps of one row. A number of rows never tried: as the nearest smaller one that was, plus what
 * each row up to that one cost. */
static double cost_of(const struct spec *s, int rows)
{
    int known = rows;
    while (known > 1 && s->cost[known] <= 0) known--;
    if (known == 1) return 1 + SPEC__SLOPE * (rows - 1);
    return s->cost[known] + (rows - known) * (s->cost[known] - 1) / (known - 1);
}

void spec_timed(struct spec *s, int64_t ns)
{
    int rows = s->n_plan;
    double now = (double)ns;
    s->since_plain += s->since_plain < SPEC__PLAIN_EVERY;
    if (rows == 1) {
        s->n_plain += s->n_plain < SPEC__PLAIN_FIRST;
        s->since_plain = 0;
        s->unit_ns = s->unit_ns > 0 ? spec__time_towards(s->unit_ns, now) : now;
        for (int i = 2; i <= ROWS; i++)
            if (s->cost[i] > 0)
                s->cost[i] = spec__towards(s->cost[i], 1 + SPEC__SLOPE * (i - 1), SPEC__FORGET);
    } else if (s->unit_ns > 0) {
        if (now < s->unit_ns) s->unit_ns = now; /* a row alone takes no longer */
        now /= s->unit_ns;
        s->cost[rows] = s->cost[rows] > 0 ? spec__time_towards(s->cost[rows], now) : now;
        if (s->cost[rows] > rows) s->cost[rows] = rows; /* what plain steps cost */
    }
}

/* How many of n suggestions with these chances to compute; *rate: the tokens to be had in the time
 * of a plain step. */
static int worth(const struct spec *s, const double *chance, int n, double *rate)
{
    double reach = 1, tokens = 1;
    int best = 0;
    *rate = SPEC__MARGIN;
    for (int k = 1; k <= n; k++) {
        reach *= chance[k - 1];
        tokens += reach;
        if (tokens / cost_of(s, 1 + k) > *rate) *rate = tokens / cost_of(s, 1 + k), best = k;
    }
    return best;
}

/* How many tokens to draft of what followed a match of that length the last time. */
static int from_past(const struct spec *s, int most, int *from, double *rate)
{
    double chance[SPEC_MAX];
    *rate = SPEC__MARGIN;
    if (!spec__past_chances(&s->past, chance, most, from)) return 0;
    int k = worth(s, chance, most, rate);
    return s->tokens == SPEC_AUTO ? k : most;
}

static double rate_of(const struct spec *s, int k, double tokens)
{
    double each = s->unit_ns > 0 ? s->draft_ns / s->unit_ns : 0;
    return tokens / (cost_of(s, 1 + k) + k * each);
}

/* The best rate that the draft model promises at its mean chance. */
static double promise(const struct spec *s, int most)
{
    double reach = 1, tokens = 1, best = 0;
    for (int k = 1; k <= most; k++) {
        tokens += reach *= s->mean_chance;
        if (rate_of(s, k, tokens) > best) best = rate_of(s, k, tokens);
    }
    return best;
}

/* How many guesses the draft model is asked for when the past offers k tokens at that rate. */
static int to_ask(struct spec *s, int most, int k, double rate)
{
    if (!s->draft.en) return 0;
    bool pays = promise(s, most) > rate || (s->tokens != SPEC_AUTO && k == 0);
    if (!pays && ++s->idle < s->pause) return 0;
    s->idle = 0;
    s->pause = pays ? PAUSE_MIN : s->pause < PAUSE_MAX ? 2 * s->pause : PAUSE_MAX;
    return pays ? most : 1;
}

static bool guess(struct spec *s, const int32_t *ids, int n)
{
    float lead;
    int64_t start = clock_ns();
    if (!draft_feed(&s->draft, ids, n, &s->plan[s->n_guess], &lead)) return false;
    double ns = (double)(clock_ns() - start);
    if (n == 1) s->draft_ns = s->draft_ns > 0 ? spec__time_towards(s->draft_ns, ns) : ns;
    s->lead_of[s->n_guess++] = class_of_lead(lead);
    return true;
}

/* Guesses of the draft model, until one more is not worth its time; returns how many to compute, -1
 * when it has none. */
static int from_draft(struct spec *s, int most)
{
    double chance[SPEC_MAX], reach = 1, tokens = 1, rate;
    int n, k = 0;
    const int32_t *text = suffix_text(s->past.text, &n);
    draft_keep(&s->draft, n - 1);
    int held = draft_len(&s->draft);
    bool ok = guess(s, text + held, n - held);
    if (!ok) return -1;
    while (ok) {
        chance[k] = s->lead_chance[s->lead_of[k + 1]];
        tokens += reach *= chance[k++];
        double next = tokens + reach * s->mean_chance;
        if (k == most) break;
        if (s->tokens == SPEC_AUTO && rate_of(s, k + 1, next) < rate_of(s, k, tokens)) break;
        ok = guess(s, &s->plan[k], 1);
    }
    return s->tokens == SPEC_AUTO ? worth(s, chance, k, &rate) : k;
}

static int suggest(struct spec *s, int most)
{
    double rate;
    int from = 0, k = from_past(s, most, &from, &rate), ask = to_ask(s, most, k, rate);
    int n = ask ? from_draft(s, ask) : -1;
    if (n >= 0) return n;
    suffix_follow(s->past.text, from, s->plan + 1, k);
    s->n_guess += k;
    return k;
}

int spec_plan(struct spec *s, int32_t id, int room, const int32_t **ids)
{
    if (s->n_plan > 1) s->reach = SPEC__REACH_MIN + 2 * (s->at - 1);
    int most = s->tokens != SPEC_AUTO ? s->tokens : s->reach < SPEC_MAX ? s->reach : SPEC_MAX;
    bool plain = s->tokens == SPEC_AUTO &&
                 (s->n_plain < SPEC__PLAIN_FIRST || s->since_plain >= SPEC__PLAIN_EVERY);
    judge(s, id);
    spec__past_put(&s->past, id);
    for (int i = 0; i < ROWS; i++) s->lead_of[i] = -1;
    s->plan[0] = id;
    s->n_plan = s->n_guess = s->at = 1;
    if (room - 1 < most) most = room - 1;
    if (most > 0 && !plain) s->n_plan += suggest(s, most);
    *ids = s->plan;
    return s->n_plan;
}

void spec_cut(struct spec *s)
{
    s->n_plan = 1;
}
