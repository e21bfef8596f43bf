/* Speculation: along with the newest token a step computes some that may follow it, and what the
 * sampler then picks by itself decides how many of them count.
 *
 *     struct spec *s;
 *     if (spec_open(&s, en, &opts, &e)) ...
 *     spec_begin(s, ids, n);                      the tokens that the sequence holds
 *     for each id that the sampler picks:
 *         if (spec_hit(s, id))                    it was computed: its logits are the last step's
 *             ...                                 next row
 *         else                                    the sequence cut to the tokens that counted:
 *             n = spec_plan(s, id, room, &ids)    engine_step of ids [n] with ENGINE_LOGITS_ALL
 *             spec_timed(s, ns)                   how long it took; the first row is id's
 *     spec_close(s);
 *
 * Each row's logits are those of a step of its own, and the sampler sees them in the same order, so
 * the answer is that of plain decoding to the last token, greedy or sampled (a deterministic draft
 * makes the acceptance rule of Leviathan et al. 2023 the same as this). Time decides only how much
 * is drafted. Drafts come from what followed the text's newest tokens when they stood there before
 * (suffix.h) and from a draft model. One owner, the engine's thread.
 */
#ifndef SPEC_H
#define SPEC_H

#include "engine.h"

enum { SPEC_MAX = 15, SPEC_AUTO = -1 };

struct spec_opts {
    int tokens; /* drafted in a step: SPEC_AUTO: as many as pay, or always 1 to SPEC_MAX */
    struct engine *draft; /* borrowed until spec_close; NULL: none */
};

struct spec;

/* ERR_USAGE when the draft model's vocabulary is another one. */
ERR_DOOR int spec_open(struct spec **out, const struct engine *en, const struct spec_opts *o,
                       struct err *e);
void spec_close(struct spec *s);
/* n is at most the engine's context. What was learnt about acceptance and time is kept. */
void spec_begin(struct spec *s, const int32_t *ids, int n);
/* True when id is the next of the drafted tokens. */
bool spec_hit(struct spec *s, int32_t id);
/* id and what may follow it, 1 to room tokens in all, borrowed until the next call. */
int spec_plan(struct spec *s, int32_t id, int room, const int32_t **ids);
/* The step of the whole plan was refused (no KV pages left for it): only id is computed. */
void spec_cut(struct spec *s);
void spec_timed(struct spec *s, int64_t ns);

#endif
