/* Random lives of the scheduler: sched_sim SEEDS [FIRST]. Each seed draws limits, texts that share beginnings,
 * arrivals, cancels, pauses, answers that go on
 * with one token or many, guesses, late tokens and failed steps, and drives the scheduler that ships until every job
 * has ended. After each step sched_check looks at its inside; this file looks from outside and knows nothing of
 * pages but what an engine would do to them:
 * - what stands in a page at a position is a digest of the salt and all tokens up to there, as keys and values
 *   are; every position below a slice must hold exactly its job's digest, and nobody writes what another reads;
 * - a failed step leaves garbage in the rows it was to write; memory starts as garbage;
 * - a plan keeps the limits, all who decode are in it, it is empty only when nobody can run;
 * - all jobs end within a number of steps that the number of their tokens bounds.
 * Ends with what happened how often, each of which must be more than never, and "N passed, N failed". */
#include "sched.h"

#include "rng.h"
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { JOBS = 24, PAGES = 80, CTX = 400, TEXTS = 4, TENANTS = 8, DRAFTED = 16, BROUGHT = 60 };

struct request {
    bool alive, paused, due, decoding; /* decoding: its next row is for a token of its answer */
    struct sched_spec spec;
    uint64_t digest[CTX];             /* of its tokens up to each */
    int n, computed, preempted, stop; /* stop: tokens after which it ends */
    int reached, cached;              /* the most that was computed or found; found beyond that */
    int brought, offered, drafted;    /* tokens that came last; guesses for this step; computed */
    bool was_running;
    long life; /* whose this id is */
};

enum what {
    HIT,
    CAUGHT_UP,
    SHARED_NOW,
    MERGED,
    EVICTED,
    PREEMPTED,
    FAILED,
    CANCELLED,
    CANCELLED_IN_STEP,
    PAUSED,
    ADDED_IN_STEP,
    REFUSED,
    PUT_BACK_PAUSED,
    ALONE_FULL,
    VISITED,
    MANY,
    IN_PARTS,
    GUESSED,
    KEPT,
    WHATS
};
static const char *const names[WHATS] = {
    "tokens found in the tree",
    "of them while running",
    "pages in two slices of a step",
    "own pages given up",
    "evicted",
    "put back",
    "failed steps",
    "cancelled",
    "cancelled in a step",
    "paused",
    "added in a step",
    "refused",
    "put back while paused",
    "steps of one job with all pages",
    "visits",
    "answers that went on with many tokens",
    "of them computed in parts",
    "guesses computed",
    "of them right",
};
static long happened[WHATS];

static struct sim {
    struct rng rng;
    struct sched_limits l;
    struct sched *s;
    struct request req[JOBS];
    int32_t text[TEXTS][CTX];
    uint64_t content[PAGES][SCHED_PAGE];
    long read[PAGES][SCHED_PAGE], wrote[PAGES][SCHED_PAGE]; /* the step in which it was last */
    struct sched_slice slices[JOBS];
    int32_t table[JOBS][CTX / SCHED_PAGE + 2]; /* of each slice, as it was planned */
    long life[JOBS];                           /* of each slice's job */
    int n_slices, to_come, alphabet, tenants, salts, priorities;
    int visits[TENANTS], visitor[TENANTS]; /* how many of each, and its number */
    double fail, cancel, pause, late, arrive, visit, many, guess;
    bool echo; /* tokens follow from the text: equal prompts get equal answers */
    long step, computed_steps, tokens, lives, hits;
} sim;

static uint64_t now_seed;
static jmp_buf out;

static void broken(int line, const char *what)
{
    printf("seed %llu, step %ld: line %d: not %s\n", (unsigned long long)now_seed, sim.step, line,
           what);
    longjmp(out, 1);
}
#define MUST(cond) ((cond) ? (void)0 : broken(__LINE__, #cond))

static void aborted(int sig)
{
    char line[64];
    int n = snprintf(line, sizeof line, "seed %llu aborted\n", (unsigned long long)now_seed);
    if (write(2, line, (size_t)n) < 0) _exit(1);
    signal(sig, SIG_DFL);
}

static int below(int n)
{
    return (int)rng_below(&sim.rng, (uint64_t)n);
}

static int between(int low, int high)
{
    return low + below(high - low + 1);
}

static bool chance(double p)
{
    return rng_double(&sim.rng) < p;
}

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static void put_digest(struct request *r, int i)
{
    r->digest[i] =
        mix(i ? r->digest[i - 1] : mix(77, r->spec.salt), (uint64_t)r->spec.tokens[i] + 1);
}

static bool full(const struct request *r)
{
    return r->n == r->spec.prompt + r->spec.max_tokens;
}

static bool wants(const struct request *r)
{
    return r->alive && !r->paused && !r->due && !full(r);
}

static struct sched_job_info info_of(int job)
{
    struct sched_job_info info;
    sched_job_info(sim.s, job, &info);
    return info;
}

static int alive(void)
{
    int n = 0;
    for (int i = 0; i < sim.l.jobs; i++) n += sim.req[i].alive;
    return n;
}

/* Is there a place for a tenant? One without jobs and visits gives up its own. */
static bool place_for(uint64_t tenant)
{
    bool here[TENANTS] = {false};
    int n = 0;
    for (int i = 0; i < sim.l.jobs; i++)
        if (sim.req[i].alive) here[sim.req[i].spec.tenant] = true;
    for (int t = 0; t < TENANTS; t++) n += here[t] = here[t] || sim.visits[t];
    return here[tenant] || n < sim.l.tenants;
}

/* What sched_add must say. */
static int verdict(const struct sched_spec *p)
{
    if (p->prompt < 1 || p->max_tokens < 1 || p->prompt + p->max_tokens > sim.l.ctx ||
        p->prompt + p->max_tokens - 1 > sim.l.pages * SCHED_PAGE)
        return ERR_USAGE;
    return alive() == sim.l.jobs || !place_for(p->tenant) ? ERR_LIMIT : 0;
}

/* Somebody has work beside the steps, or has done with it. */
static void visit(void)
{
    int t = below(sim.tenants);
    if (!sim.visits[t] || chance(0.3)) {
        bool room = place_for((uint64_t)t);
        int visitor = sched_visit(sim.s, (uint64_t)t);
        MUST(room ? visitor >= 0 : visitor == -1);
        MUST(!room || !sim.visits[t] || visitor == sim.visitor[t]);
        sim.visits[t] += room;
        sim.visitor[t] = visitor;
        happened[VISITED] += room;
        return;
    }
    int64_t served = sched_served(sim.s, sim.visitor[t]);
    int n = below(500);
    sched_charge(sim.s, sim.visitor[t], n);
    MUST(sched_served(sim.s, sim.visitor[t]) == served + n);
    if (chance(0.7)) sim.visits[t]--, sched_leave(sim.s, sim.visitor[t]);
}

static void add(void)
{
    int job,
        room = sim.l.pages * SCHED_PAGE + 1 < sim.l.ctx ? sim.l.pages * SCHED_PAGE + 1 : sim.l.ctx;
    struct err e;
    struct sched_spec p = {.tenant = (uint64_t)below(sim.tenants),
                           .salt = (uint64_t)below(sim.salts) << 32,
                           .priority = below(sim.priorities)};
    p.prompt = chance(0.02) ? between(0, CTX) : between(1, chance(0.5) ? room / 2 + 1 : room - 1);
    p.max_tokens =
        chance(0.02) ? between(0, CTX) : between(1, room - p.prompt > 1 ? room - p.prompt : 1);
    if (chance(0.1) && p.prompt < room) p.max_tokens = room - p.prompt;
    int want = verdict(&p);
    p.tokens = malloc((size_t)(p.prompt + p.max_tokens + 1) * sizeof *p.tokens);
    const int32_t *text = sim.text[below(TEXTS)];
    int same = below(p.prompt + 1);
    if (chance(0.5)) same = p.prompt;
    for (int i = 0; i < p.prompt; i++) p.tokens[i] = i < same ? text[i] : below(sim.alphabet);
    int rc = sched_add(sim.s, &p, &job, &e);
    MUST(rc == want);
    if (rc) {
        happened[REFUSED]++;
        free(p.tokens);
        return;
    }
    MUST(job >= 0 && job < sim.l.jobs && !sim.req[job].alive);
    struct request *r = &sim.req[job];
    *r = (struct request){.alive = true, .spec = p, .n = p.prompt, .life = ++sim.lives};
    r->stop = p.prompt + (chance(0.5) ? p.max_tokens : between(1, p.max_tokens));
    for (int i = 0; i < r->n; i++) put_digest(r, i);
    sim.tokens += p.prompt + p.max_tokens;
}

static void end(int job)
{
    sched_end(sim.s, job);
    free(sim.req[job].spec.tokens);
    sim.req[job].alive = false;
}

static int32_t said_after(uint64_t digest)
{
    return (int32_t)((sim.echo ? digest : rng_u64(&sim.rng)) % (uint64_t)sim.alphabet);
}

static uint64_t digest_after(uint64_t digest, int32_t id)
{
    return mix(digest, (uint64_t)id + 1);
}

/* What may follow, for some; in echoing lives mostly right. */
static void guess(void)
{
    for (int i = 0; i < sim.l.jobs; i++) {
        struct request *r = &sim.req[i];
        int32_t ids[DRAFTED];
        if (!r->alive || r->due) continue;
        r->offered = chance(sim.guess) ? between(1, DRAFTED) : 0;
        if (full(r) || !r->offered) continue;
        uint64_t d = r->digest[r->n - 1];
        for (int k = 0; k < r->offered; k++) {
            ids[k] = chance(0.1) ? below(sim.alphabet) : said_after(d);
            d = digest_after(d, ids[k]);
        }
        sched_draft(sim.s, i, ids, r->offered);
    }
}

/* Somebody picks up the phone: before a plan, and while a step is computed. */
static void events(bool in_step)
{
    if (sim.to_come && chance(in_step ? 0.1 : sim.arrive)) {
        sim.to_come--;
        add();
        happened[ADDED_IN_STEP] += in_step;
    }
    if (chance(sim.visit)) visit();
    for (int i = 0; i < sim.l.jobs; i++) {
        struct request *r = &sim.req[i];
        if (!r->alive) continue;
        if (chance(sim.cancel)) {
            happened[in_step ? CANCELLED_IN_STEP : CANCELLED]++;
            end(i);
        } else if (chance(r->paused ? 0.1 : sim.pause)) {
            r->paused = !r->paused;
            sched_pause(sim.s, i, r->paused);
            happened[PAUSED] += r->paused;
        }
    }
}

/* The rows of one slice: what they read is what its job wrote or found. */
static void check_slice(int i)
{
    const struct sched_slice *p = &sim.slices[i];
    struct request *r = &sim.req[p->job];
    struct sched_job_info info = info_of(p->job);
    int own = p->n - p->drafted;
    MUST(p->job >= 0 && p->job < sim.l.jobs && wants(r) && own >= 1 && p->pos + own <= r->n);
    MUST(p->tokens == r->spec.tokens + p->pos && p->sample == (p->pos + own == r->n));
    MUST(p->drafted >= 0 && p->drafted <= r->offered && (p->sample || !p->drafted));
    MUST(p->pos + p->n < r->spec.prompt + r->spec.max_tokens);
    MUST(info.running && info.tokens == r->n && info.computed == p->pos &&
         info.prompt == r->spec.prompt);
    MUST(info.pages * SCHED_PAGE >= p->pos + p->n);
    if (info.preempted == r->preempted && r->was_running) {
        MUST(p->pos >= r->computed);
        happened[CAUGHT_UP] += p->pos - r->computed;
    }
    for (int k = 0; k < i; k++) MUST(sim.slices[k].job != p->job);
    for (int t = 0; t < p->pos; t++) {
        int32_t page = p->pages[t / SCHED_PAGE];
        MUST(page >= 0 && page < sim.l.pages);
        MUST(sim.content[page][t % SCHED_PAGE] == r->digest[t]);
        sim.read[page][t % SCHED_PAGE] = sim.step;
    }
    for (int t = 0; t <= (p->pos + p->n - 1) / SCHED_PAGE; t++) {
        MUST(p->pages[t] >= 0 && p->pages[t] < sim.l.pages);
        if (r->was_running && info.preempted == r->preempted && t < r->computed / SCHED_PAGE)
            happened[MERGED] += sim.table[p->job][t] != p->pages[t];
        sim.table[p->job][t] = p->pages[t];
    }
    r->computed = p->pos;
    sim.life[i] = r->life;
}

static void check_rows(void)
{
    int rows = 0, prompt = 0, drafted = 0;
    bool somebody_decodes = false, all_decode = true;
    for (int i = 0; i < sim.n_slices; i++) {
        const struct sched_slice *p = &sim.slices[i];
        const struct request *r = &sim.req[p->job];
        int own = p->n - p->drafted;
        MUST(!r->decoding || own <= r->brought);
        MUST(!r->decoding || r->brought > 1 || p->sample);
        happened[IN_PARTS] += r->decoding && !p->sample;
        somebody_decodes |= r->decoding;
        all_decode &= p->pos >= r->spec.prompt;
        rows += p->n;
        drafted += p->drafted;
        prompt += own - (p->pos >= r->spec.prompt);
        for (int t = p->pos; t < p->pos + p->n; t++) {
            int32_t page = p->pages[t / SCHED_PAGE];
            MUST(sim.read[page][t % SCHED_PAGE] != sim.step &&
                 sim.wrote[page][t % SCHED_PAGE] != sim.step);
            sim.wrote[page][t % SCHED_PAGE] = sim.step;
        }
    }
    MUST(rows <= sim.l.step_tokens && (!drafted || (rows <= sim.l.draft_rows && all_decode)));
    happened[GUESSED] += drafted;
    MUST(prompt <= sim.l.prefill_tokens * (somebody_decodes ? 1 : SCHED_ALONE));
}

/* Who was put back, who was started, whether the numbers add up. */
static void check_jobs(void)
{
    struct sched_info info;
    int started = -1, waits = -1, running = 0, held = 0;
    bool blocked = false, may_run = false;
    sched_info(sim.s, &info);
    for (int i = 0; i < sim.l.jobs; i++) {
        struct request *r = &sim.req[i];
        if (!r->alive) continue;
        struct sched_job_info now = info_of(i);
        bool planned = false, put_back = now.preempted != r->preempted;
        for (int k = 0; k < sim.n_slices; k++) planned |= sim.slices[k].job == i;
        MUST(put_back || now.running >= r->was_running);
        happened[PREEMPTED] += now.preempted - r->preempted;
        happened[PUT_BACK_PAUSED] += put_back && r->paused;
        if (put_back && r->paused) sim.tokens += r->n; /* what pauses cost is not the scheduler's */
        if (put_back) r->decoding = false;
        if (now.computed > r->reached) {
            int prompt = r->spec.prompt, to = now.computed < prompt ? now.computed : prompt;
            r->cached += to > r->reached ? to - r->reached : 0;
            sim.hits += to > r->reached ? to - r->reached : 0;
            r->reached = now.computed;
        }
        MUST(now.cached == r->cached && now.cached < r->spec.prompt);
        if (!planned && (put_back || !r->was_running)) r->computed = now.computed;
        MUST(planned || !r->decoding || !wants(r));
        if (now.running && !r->was_running && (started < 0 || r->spec.priority < started))
            started = r->spec.priority;
        if (!now.running && wants(r) && r->spec.priority > waits) waits = r->spec.priority;
        r->was_running = now.running;
        r->preempted = now.preempted;
        running += now.running;
        held += now.pages;
        blocked |= now.running && !wants(r) && !r->paused;
        may_run |= wants(r);
    }
    MUST(started < 0 || waits <= started); /* nobody overtakes a higher priority */
    MUST(sim.n_slices || !may_run || blocked);
    MUST(info.running == running && info.waiting == alive() - running && running <= sim.l.running);
    MUST(info.pages_free + info.pages_held + info.pages_cached == sim.l.pages);
    MUST(info.pages_held <= held && (held == 0) == (info.pages_held == 0));
    happened[ALONE_FULL] += running == 1 && info.pages_held == sim.l.pages;
}

static void count_shared(void)
{
    static int seen[PAGES];
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < sim.n_slices; i++)
        for (int t = 0; t <= (sim.slices[i].pos + sim.slices[i].n - 1) / SCHED_PAGE; t++)
            happened[SHARED_NOW] += seen[sim.slices[i].pages[t]]++ > 0;
}

/* The job of a slice was ended since the plan; its id may be another's. */
static bool gone(int i)
{
    const struct request *r = &sim.req[sim.slices[i].job];
    return !r->alive || r->life != sim.life[i];
}

/* The engine: the rows are written, or something else where the step fails or nobody will look. */
static void compute(bool fails)
{
    for (int i = 0; i < sim.n_slices; i++) {
        const struct sched_slice *p = &sim.slices[i];
        struct request *r = &sim.req[p->job];
        bool lost = fails || gone(i);
        uint64_t digest = 0;
        for (int t = p->pos; t < p->pos + p->n; t++) {
            int32_t page = sim.table[p->job][t / SCHED_PAGE];
            digest = lost       ? rng_u64(&sim.rng)
                     : t < r->n ? r->digest[t]
                                : digest_after(digest, r->spec.tokens[t]);
            sim.content[page][t % SCHED_PAGE] = digest;
        }
        if (lost) continue;
        r->computed = p->pos + p->n - p->drafted;
        if (r->computed > r->reached) r->reached = r->computed;
        r->due = p->sample;
        r->decoding |= p->sample;
        r->drafted = p->drafted;
    }
}

/* The answer of job i goes on: with tokens that were guessed, and others. */
static void go_on(int i)
{
    struct request *r = &sim.req[i];
    int32_t ids[BROUGHT];
    int room = r->spec.prompt + r->spec.max_tokens - r->n, follow = below(r->drafted + 1), kept = 0;
    int n = follow + (chance(sim.many) ? between(1, BROUGHT - DRAFTED) : 1);
    if (n > room) n = room;
    uint64_t d = r->digest[r->n - 1];
    for (int k = 0; k < n; k++) {
        ids[k] = !sim.echo && k < follow ? r->spec.tokens[r->n + k] : said_after(d);
        d = digest_after(d, ids[k]);
    }
    while (kept < r->drafted && kept < n - 1 && ids[kept] == r->spec.tokens[r->n + kept]) kept++;
    happened[MANY] += n - kept > 1;
    happened[KEPT] += kept;
    sched_tokens(sim.s, i, ids, n, kept);
    for (int k = 0; k < n; k++) {
        MUST(r->spec.tokens[r->n] == ids[k]);
        put_digest(r, r->n++);
    }
    r->brought = n - kept;
    if (r->was_running) r->computed += kept;
    if (r->reached < r->n - r->brought) r->reached = r->n - r->brought;
    r->due = false;
    r->drafted = 0;
}

/* Answers go on, some late; who has enough ends. */
static void deliver(void)
{
    for (int i = 0; i < sim.l.jobs; i++) {
        struct request *r = &sim.req[i];
        if (!r->alive || chance(sim.late)) continue;
        if (r->due) go_on(i);
        if (r->n >= r->stop) end(i);
    }
}

static void step(void)
{
    sim.step++;
    events(false);
    guess();
    sim.n_slices = sched_plan(sim.s, sim.slices, sim.l.running);
    for (int i = 0; i < sim.n_slices; i++) check_slice(i);
    check_jobs();
    check_rows();
    count_shared();
    sched_check(sim.s);
    if (sim.n_slices) {
        bool fails = chance(sim.fail);
        events(true);
        sched_check(sim.s);
        compute(fails);
        (fails ? sched_undone : sched_computed)(sim.s);
        happened[FAILED] += fails;
        sim.computed_steps += !fails;
        sched_check(sim.s);
    }
    deliver();
}

/* 0 half of the time: lives without an event too. */
static double rate(double most)
{
    return chance(0.5) ? 0 : most * rng_double(&sim.rng);
}

static void draw(uint64_t seed)
{
    memset(&sim, 0, sizeof sim);
    rng_init(&sim.rng, seed);
    sim.l.jobs = between(1, JOBS);
    sim.l.running = between(1, sim.l.jobs);
    sim.l.tenants = between(1, 6);
    sim.l.pages = chance(0.5) ? between(1, 20) : between(1, PAGES);
    sim.l.ctx = between(40, CTX);
    sim.l.step_tokens = sim.l.running + below(chance(0.5) ? 20 : 300);
    sim.l.prefill_tokens = between(1, chance(0.5) ? 20 : 200);
    sim.l.draft_rows = chance(0.5) ? 0 : between(0, sim.l.step_tokens);
    sim.l.seed = rng_u64(&sim.rng);
    sim.to_come = between(1, 60);
    sim.alphabet = between(1, 3);
    sim.tenants = between(1, TENANTS);
    sim.salts = between(1, 3);
    sim.priorities = between(1, 3);
    sim.fail = rate(0.3);
    sim.cancel = rate(0.02);
    sim.pause = rate(0.05);
    sim.late = rate(0.3);
    sim.many = rate(1);
    sim.guess = rate(1);
    sim.arrive = chance(0.3) ? 1 : 0.02 + rng_double(&sim.rng) / 3;
    sim.echo = chance(0.5);
    sim.visit = rate(0.5);
    for (int k = 0; k < TEXTS; k++)
        for (int i = 0, same = k ? below(200) : 0; i < CTX; i++)
            sim.text[k][i] = i < same ? sim.text[k - 1][i] : below(sim.alphabet);
    for (int p = 0; p < PAGES; p++)
        for (int i = 0; i < SCHED_PAGE; i++) sim.content[p][i] = rng_u64(&sim.rng);
}

/* A life is over when all have come and gone. */
static bool live(uint64_t seed)
{
    draw(seed);
    size_t bytes = sched_size(&sim.l);
    void *mem = aligned_alloc(64, bytes);
    memset(mem, 0xa5, bytes);
    sim.s = sched_init(mem, &sim.l);
    bool good = setjmp(out) == 0;
    if (good) {
        while (sim.to_come || alive()) {
            step();
            MUST(sim.computed_steps <=
                 2 * sim.tokens); /* nobody starves, nobody turns in circles */
        }
        struct sched_info info;
        sched_info(sim.s, &info);
        MUST(info.pages_held == 0 && info.running == 0 && info.waiting == 0);
        MUST(info.prefix_hit == sim.hits && info.prefix_hit <= info.prefix_queried);
        happened[HIT] += sim.hits;
        happened[EVICTED] += info.evicted;
    }
    for (int i = 0; i < JOBS; i++)
        if (sim.req[i].alive) free(sim.req[i].spec.tokens);
    free(mem);
    return good;
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 1000, first = argc > 2 ? atol(argv[2]) : 1, bad = 0;
    signal(SIGABRT, aborted);
    for (long i = 0; i < n; i++) {
        now_seed = (uint64_t)(first + i);
        bad += !live(now_seed);
    }
    for (int i = 0; i < WHATS; i++) {
        printf("%12ld %s\n", happened[i], names[i]);
        if (n >= 100 && happened[i] == 0) bad++;
    }
    printf("%ld passed, %ld failed\n", n - bad, bad);
    return bad != 0;
}
