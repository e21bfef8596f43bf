/* What followed the last time: an index of all substrings of one text of tokens, which grows at its
 * end.
 *
 *     struct suffix *s;
 *     if (suffix_open(&s, room, &e)) ...
 *     suffix_put(s, id)                          each token, in order
 *     length = suffix_match(s, &from)            the text's longest suffix that stood there before
 *     suffix_follow(s, from, draft, n)           what followed it there
 *     suffix_close(s);
 *
 * A suffix automaton (Blumer et al. 1985): put costs amortised constant time whatever the tokens
 * are, match constant time. All memory, some 130 bytes a token of room, is taken at open. One owner.
 */
#ifndef SUFFIX_H
#define SUFFIX_H

#include "err.h"
#include <stdint.h>

enum { SUFFIX_ROOM_MAX = (1 << 24) + 1 }; /* tokens */

struct suffix;

ERR_DOOR int suffix_open(struct suffix **out, int room, struct err *e);
void suffix_close(struct suffix *s);
/* Forgets the text. */
void suffix_clear(struct suffix *s);
/* At most `room` tokens, any ids. */
void suffix_put(struct suffix *s, int32_t id);
/* Tokens of the longest suffix that occurs earlier in the text too, 0 if none. *from: where the
 * text went on after an earlier occurrence; the latest one, but in texts so repetitive that the
 * suffix has more than 32 shorter ones with occurrences of their own. */
int suffix_match(const struct suffix *s, int *from);
/* The n tokens from `from` on; a text that ends before goes on with what out holds already, so that
 * a loop is continued for ever. */
void suffix_follow(const struct suffix *s, int from, int32_t *out, int n);
/* The text, borrowed until the next put. */
const int32_t *suffix_text(const struct suffix *s, int *n);

#endif
