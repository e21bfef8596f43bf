/* Answers that are kept for a while: what GET /v1/responses/{id} shows again and what
 * previous_response_id goes on from.
 *
 *     struct replies *r;
 *     if (replies_open(&r, bytes, count, &e)) ...
 *     replies_put(r, tenant, id, &answer, &past);
 *     if (replies_get(r, tenant, id, NULL, &past)) ...     false: this tenant has no such answer
 *     replies_drop(r, tenant, id)
 *     replies_close(r);
 *
 * In memory, at most so many bytes and answers: beyond, those that were not used for the longest time
 * go, of the same tenant first if it holds more than a quarter of the bytes. Any thread.
 */
#ifndef REPLIES_H
#define REPLIES_H

#include "buf.h"
#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REPLIES_ID_MAX = 47, REPLIES_BYTES = 64 << 20, REPLIES_COUNT = 4096 };

struct replies;

ERR_DOOR int replies_open(struct replies **out, size_t bytes, int count, struct err *e);
void replies_close(struct replies *r);
/* Copies; id is new. What is larger than an eighth of all, or finds no memory, is not kept. */
void replies_put(struct replies *r, uint64_t tenant, const char *id, const struct buf *answer,
                 const struct buf *past);
/* Appends what was put; either may be NULL. */
bool replies_get(struct replies *r, uint64_t tenant, const char *id, struct buf *answer,
                 struct buf *past);
bool replies_drop(struct replies *r, uint64_t tenant, const char *id);

#endif
