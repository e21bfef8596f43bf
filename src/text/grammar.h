/* Constrained decoding: which tokens may come next so that the whole answer is in a language.
 *
 *     struct grammar *g;
 *     if (grammar_schema(&g, json, n, &e)) ...       a JSON schema; or grammar_json, _gbnf, _regex
 *     struct grammar_tokens *t;                      once a vocabulary: tries over its tokens' bytes
 *     struct grammar_match *m;
 *     if (grammar_match_open(&m, g, t, false, &e)) ...   one an answer
 *     grammar_match_mask(m, bits);                   bit id set: token id may come next
 *     grammar_match_accept(m, id)
 *     grammar_match_close(m); grammar_tokens_close(t); grammar_close(g);
 *
 * A grammar is a pushdown automaton over bytes, nondeterministic, simulated as a set of stacks that
 * share what lies under their tops. Left recursion is refused by name, and so is a grammar that
 * is larger than its budgets (ERR_LIMIT); an answer may nest up to GRAMMAR_DEPTH_MAX calls deep. The
 * work of a mask has a budget too: a grammar so ambiguous that it is used up loses long tokens of
 * the mask, never the way to an end. Only well-formed UTF-8 is produced. Grammars and tokens are
 * read-only after open: any thread; a match has one owner and allocates nothing after open.
 */
#ifndef GRAMMAR_H
#define GRAMMAR_H

#include "err.h"
#include "tok.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GRAMMAR_TEXT_MAX = 1 << 20, GRAMMAR_DEPTH_MAX = 256 }; /* bytes of a source; calls */

struct grammar;
/* JSON Schema (2020-12, and of draft-07 what differs): grammar_schema.c lists the keywords. What is
 * produced is valid; not all that is valid can be produced: members come in the order of
 * `properties`, members that no keyword mentions only where additionalProperties asks for them, white
 * space is at most one space after ':' and ','. A keyword that is not enforced is ERR_UNSUPPORTED
 * and named, a schema that nothing satisfies ERR_FORMAT. */
ERR_DOOR int grammar_schema(struct grammar **out, const char *json, size_t n, struct err *e);
/* Any JSON object (response_format json_object). */
ERR_DOOR int grammar_json(struct grammar **out, struct err *e);
/* llama.cpp's GBNF; root is the start. */
ERR_DOOR int grammar_gbnf(struct grammar **out, const char *text, size_t n, struct err *e);
/* A regular expression that the whole answer matches: ECMA-262 without back-references,
 * look-around, \b and \p; ^ and $ at the ends of alternatives only. */
ERR_DOOR int grammar_regex(struct grammar **out, const char *text, size_t n, struct err *e);
void grammar_close(struct grammar *g);
size_t grammar_bytes(const struct grammar *g);

struct grammar_tokens;
/* Borrows t, which must outlive it. */
ERR_DOOR int grammar_tokens_open(struct grammar_tokens **out, const struct tok *t, struct err *e);
void grammar_tokens_close(struct grammar_tokens *t);

struct grammar_match;
/* Borrows g and t. started: as in struct tok_stream, the answer goes on after ordinary text.
 * ERR_UNSUPPORTED: the vocabulary has no tokens for bytes that every answer needs. */
ERR_DOOR int grammar_match_open(struct grammar_match **out, const struct grammar *g,
                                const struct grammar_tokens *t, bool started, struct err *e);
void grammar_match_close(struct grammar_match *m);
/* bits [(vocabulary + 63) / 64]. End tokens (tok_is_end) are allowed exactly where the answer may
 * end, control tokens never. At least one bit is set as long as only allowed tokens were accepted. */
void grammar_match_mask(struct grammar_match *m, uint64_t *bits);
/* False: the token was not allowed (the match stays as it was). After an end token nothing is. */
bool grammar_match_accept(struct grammar_match *m, int32_t id);
bool grammar_match_may_end(const struct grammar_match *m);
bool grammar_match_must_end(const struct grammar_match *m); /* nothing but the end may come */
/* Bytes that must come next whatever is chosen, up to n, whole characters: for jumping ahead.
 * Returns how many; the match stays where it is. */
size_t grammar_match_forced(struct grammar_match *m, char *out, size_t n);
/* The same as tokens, up to n, as the tokenizer writes those bytes behind the last token. Left out are
 * those at the end in whose place a longer token could stand, which takes in what is not forced: they are
 * the model's to choose. Returns how many; the match stays where it is. */
int grammar_match_jump(struct grammar_match *m, int32_t *ids, int n);
/* How many of n tokens may come next one after the other; the match stays where it is. */
int grammar_match_allows(struct grammar_match *m, const int32_t *ids, int n);

#endif
