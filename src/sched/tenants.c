/* How much each tenant was served: virtual token counters (Sheng et al. 2024, "Fairness in Serving Large
 * Language Models"), beside a virtual time: what a tenant would have been served that always wanted more.
 *
 * Invariant: virtual time never falls. It moves on by even shares of what is served, among those who want
 * something or are ahead of it (who was served first is done before its share of time is over), and at
 * least to the counter of the least served who waits for rows. Who comes, or did nothing but decode,
 * starts there: it has saved nothing up. Who leaves with more keeps it, as long as there is room to
 * remember: the place of a tenant without jobs is given to a new one, the least counter first. */
#include "sched_int.h"

#include <assert.h>

void sched__tenant_served(struct sched *s, struct sched__tenant *t, int64_t n)
{
    t->counter += n;
    s->served += n;
}

void sched__tenant_clock(struct sched *s)
{
    int64_t least = INT64_MAX, sharing = 0;
    for (int i = 0; i < s->limits.tenants; i++) {
        const struct sched__tenant *t = &s->tenants[i];
        sharing += t->awake || t->counter > s->now;
        if (t->awake && t->wants && t->counter < least) least = t->counter;
    }
    if (sharing) {
        s->now += s->served / sharing;
        s->served %= sharing;
    }
    if (least != INT64_MAX && s->now < least) s->now = least;
}

struct sched__tenant *sched__tenant_find(struct sched *s, uint64_t id)
{
    struct sched__tenant *place = NULL;
    for (int i = 0; i < s->limits.tenants; i++) {
        struct sched__tenant *t = &s->tenants[i];
        if (t->known && t->id == id) return t;
        if (t->jobs == 0 && t->visits == 0 && (!place || t->counter < place->counter)) place = t;
    }
    if (place) *place = (struct sched__tenant){.id = id, .known = true};
    return place;
}

void sched__tenant_wake(struct sched *s, struct sched__tenant *t)
{
    sched__tenant_clock(s);
    if (!(t->awake++ && t->wants) && t->counter < s->now) t->counter = s->now;
}

void sched__tenant_sleep(struct sched__tenant *t)
{
    t->awake--;
}

static struct sched__tenant *visitor_of(const struct sched *s, int visitor)
{
    assert(visitor >= 0 && visitor < s->limits.tenants && s->tenants[visitor].visits);
    return &s->tenants[visitor];
}

int sched_visit(struct sched *s, uint64_t tenant)
{
    struct sched__tenant *t = sched__tenant_find(s, tenant);
    if (!t) return -1;
    t->visits++;
    sched__tenant_wake(s, t);
    t->wants = true;
    return (int)(t - s->tenants);
}

void sched_leave(struct sched *s, int visitor)
{
    struct sched__tenant *t = visitor_of(s, visitor);
    t->visits--;
    sched__tenant_sleep(t);
}

void sched_charge(struct sched *s, int visitor, int tokens)
{
    assert(tokens >= 0);
    sched__tenant_served(s, visitor_of(s, visitor), tokens);
}

int64_t sched_served(const struct sched *s, int visitor)
{
    return visitor_of(s, visitor)->counter;
}
