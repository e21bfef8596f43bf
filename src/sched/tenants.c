/* How much each tenant was served: virtual token counters (Sheng et al. 2024, "Fairness in Serving
 * Large Language Models").
 *
 * Invariant: the counter of a tenant with a job that wants to run is at least `floor`, which never
 * falls: who was away, or paused all jobs, comes back to the least counter of the others and has
 * saved nothing up. Who leaves with more than the others keeps it, as long as there is room to
 * remember: the place of a tenant without jobs is given to a new one, the least counter first. */
#include "sched_int.h"

static void raise_floor(struct sched *s)
{
    int64_t least = INT64_MAX;
    for (int i = 0; i < s->limits.tenants; i++) {
        const struct sched__tenant *t = &s->tenants[i];
        if (t->awake && t->counter < least) least = t->counter;
    }
    if (least != INT64_MAX) s->floor = least;
}

struct sched__tenant *sched__tenant_find(struct sched *s, uint64_t id)
{
    struct sched__tenant *place = NULL;
    for (int i = 0; i < s->limits.tenants; i++) {
        struct sched__tenant *t = &s->tenants[i];
        if (t->known && t->id == id) return t;
        if (t->jobs == 0 && (!place || t->counter < place->counter)) place = t;
    }
    if (place) *place = (struct sched__tenant){.id = id, .known = true};
    return place;
}

void sched__tenant_wake(struct sched *s, struct sched__tenant *t)
{
    raise_floor(s);
    if (t->awake++ == 0 && t->counter < s->floor) t->counter = s->floor;
}

void sched__tenant_sleep(struct sched *s, struct sched__tenant *t)
{
    raise_floor(s);
    t->awake--;
}
