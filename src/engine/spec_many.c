/* Which guesses pay. A step gives a token for each text, and for each guess the chance that it is right and
 * all before it are; guesses are counted in, the likeliest first, and the number with the best rate of
 * tokens stands, if it beats the plain step by SPEC__MARGIN.
 *
 * Times are learnt a row number each, as far as they were seen; what was not is the nearest smaller one and
 * SPEC__SLOPE a row, or a row's share where that is less. More rows never take less time: a plain time that
 * grows with the texts takes the others with it. */
#include "spec_many.h"

#include "spec_int.h"
#include <stdlib.h>

void spec_many_init(struct spec_many *m, int tokens)
{
    *m = (struct spec_many){.tokens = tokens};
}

int spec_many_open(struct spec_many_text **out, int room, struct err *e)
{
    struct spec_many_text *t = calloc(1, sizeof *t);
    struct spec__past *past = calloc(1, sizeof *past);
    if (!t || !past) {
        free(t);
        free(past);
        return err_nomem(e, sizeof *t + sizeof *past, "speculation");
    }
    *t = (struct spec_many_text){.past = past,
                                 .reach = SPEC__REACH_MIN,
                                 .room = room < SPEC_MANY_ROOM ? room : SPEC_MANY_ROOM};
    int rc = spec__past_open(past, t->room, e);
    if (rc)
        spec_many_close(t);
    else
        *out = t;
    return rc;
}

void spec_many_close(struct spec_many_text *t)
{
    if (!t) return;
    spec__past_close(t->past);
    free(t->past);
    free(t);
}

/* Of a text that fills its room the newer half stays. */
static void make_room(struct spec_many_text *t)
{
    struct suffix *s = t->past->text;
    int n;
    const int32_t *text = suffix_text(s, &n);
    if (n < t->room) return;
    suffix_clear(
        s); /* what it held stands there until it is written over, and what is read is ahead of that */
    for (int i = n - n / 2; i < n; i++) suffix_put(s, text[i]);
}

void spec_many_read(struct spec_many_text *t, const int32_t *ids, int n, bool learn)
{
    for (int i = 0; i < n; i++) {
        make_room(t);
        if (learn)
            spec__past_put(t->past, ids[i]);
        else
            suffix_put(t->past->text, ids[i]);
    }
}

int spec_many_guess(const struct spec_many *m, struct spec_many_text *t, int most)
{
    int from, reach = m->tokens == SPEC_AUTO ? t->reach : m->tokens;
    if (most > reach) most = reach;
    if (most > SPEC_MAX) most = SPEC_MAX;
    t->n_guess = t->n_draft = 0;
    if (most < 1 || !spec__past_chances(t->past, t->chance, most, &from)) return 0;
    suffix_follow(t->past->text, from, t->guess, most);
    return t->n_guess = most;
}

static double time_of(const struct spec_many *m, int rows)
{
    int known = rows;
    while (known > 0 && m->ns[known] <= 0) known--;
    if (known == 0) return 0;
    double each = SPEC__SLOPE * known < 1 ? SPEC__SLOPE : 1.0 / known;
    return m->ns[known] * (1 + each * (rows - known));
}

/* The text whose next guess is the likeliest to count, or NULL. *reach: how likely. */
static struct spec_many_text *likeliest(struct spec_many_text *const *texts, int n, double *reach)
{
    struct spec_many_text *best = NULL;
    *reach = 0;
    for (int i = 0; i < n; i++) {
        struct spec_many_text *t = texts[i];
        double r = 1;
        if (t->n_draft == t->n_guess) continue;
        for (int k = 0; k <= t->n_draft; k++) r *= t->chance[k];
        if (r > *reach) *reach = r, best = t;
    }
    return best;
}

void spec_many_plan(struct spec_many *m, struct spec_many_text *const *texts, int n, int rows)
{
    struct spec_many_text *taken[SPEC_MANY_ROWS], *t;
    double plain, tokens = n, best = n * SPEC__MARGIN, reach;
    int k = 0, keep = 0;
    bool always = m->tokens != SPEC_AUTO;
    for (int i = 0; i < n; i++) texts[i]->n_draft = 0;
    if (rows >= SPEC_MANY_ROWS) return;
    plain = time_of(m, rows);
    if (!always &&
        (m->plain < SPEC__PLAIN_FIRST || m->since_plain >= SPEC__PLAIN_EVERY || plain <= 0))
        return;
    while (rows + k < SPEC_MANY_ROWS && (t = likeliest(texts, n, &reach))) {
        taken[k++] = t;
        t->n_draft++;
        tokens += reach;
        double rate = tokens * plain / time_of(m, rows + k);
        if (always || rate > best) best = rate, keep = k;
    }
    while (k > keep) taken[--k]->n_draft--;
}

void spec_many_judged(struct spec_many_text *t, int drafted, int right)
{
    if (drafted) t->reach = SPEC__REACH_MIN + 2 * right;
}

void spec_many_timed(struct spec_many *m, int rows, bool plain, int64_t ns)
{
    double now = (double)ns;
    m->since_plain += m->since_plain < SPEC__PLAIN_EVERY;
    if (plain) {
        m->plain += m->plain < SPEC__PLAIN_FIRST;
        m->since_plain = 0;
    }
    if (rows > SPEC_MANY_ROWS) return;
    m->ns[rows] = m->ns[rows] > 0 ? spec__time_towards(m->ns[rows], now) : now;
    for (int i = 1; i < rows; i++)
        if (m->ns[i] > m->ns[rows]) m->ns[i] = m->ns[rows];
    for (int i = rows + 1; i <= SPEC_MANY_ROWS; i++) {
        if (m->ns[i] <= 0) continue;
        double each = SPEC__SLOPE * rows < 1 ? SPEC__SLOPE : 1.0 / rows;
        if (plain)
            m->ns[i] = spec__towards(m->ns[i], m->ns[rows] * (1 + each * (i - rows)), SPEC__FORGET);
        if (m->ns[i] < m->ns[rows]) m->ns[i] = m->ns[rows];
    }
}
