/* What the files of JSON schemas share: the document, and the schemas made on the way. */
#ifndef GRAMMAR_SCHEMA_INT_H
#define GRAMMAR_SCHEMA_INT_H

#include "grammar_int.h"
#include <jansson.h>

enum {
    GRAMMAR_SCHEMA__NESTING = 64,
    GRAMMAR_SCHEMA__VISITS = 1 << 14, /* schemas looked at, merged ones included */
};

/* Types as a set; a number that is an integer has both bits. */
enum grammar_schema__type {
    GRAMMAR_SCHEMA__NULL = 1,
    GRAMMAR_SCHEMA__BOOLEAN = 2,
    GRAMMAR_SCHEMA__INTEGER = 4,
    GRAMMAR_SCHEMA__FRACTION = 8, /* numbers that are no integers */
    GRAMMAR_SCHEMA__STRING = 16,
    GRAMMAR_SCHEMA__ARRAY = 32,
    GRAMMAR_SCHEMA__OBJECT = 64,
    GRAMMAR_SCHEMA__NUMBER = GRAMMAR_SCHEMA__INTEGER | GRAMMAR_SCHEMA__FRACTION,
    GRAMMAR_SCHEMA__ALL = 127,
};

struct grammar_schema__doc {
    struct grammar__build *b;
    json_t *root;
    json_t *made; /* an array that keeps what was made */
    unsigned visits;
    int nesting;
    /* schemas that are rules, by address */
    struct {
        const json_t *schema;
        uint32_t rule;
    } * ref;
    size_t n_refs, refs_done, refs_room;
};

/* Counts a schema that is looked at; false when there were too many. */
bool grammar_schema__visit(struct grammar_schema__doc *d);
/* Refuses what is no schema and keywords that are not enforced. */
bool grammar_schema__check(struct grammar_schema__doc *d, const json_t *s);
/* What `$ref` of s points to, or NULL and a failure. */
json_t *grammar_schema__target(struct grammar_schema__doc *d, const json_t *s);
/* The types that `type` names, all if there is none, none and a failure if it is wrong. */
unsigned grammar_schema__types(struct grammar_schema__doc *d, const json_t *s);
unsigned grammar_schema__type_of(const json_t *value);
/* A copy of s without some keywords (NULL ends them); kept by the document. NULL: failed. */
json_t *grammar_schema__without(struct grammar_schema__doc *d, json_t *s, const char *const *but);
/* The schema of what satisfies both; kept by the document. NULL: failed, or it cannot be said. */
json_t *grammar_schema__merge(struct grammar_schema__doc *d, json_t *a, json_t *b);
/* No value satisfies two of the branches. */
bool grammar_schema__exclusive(struct grammar_schema__doc *d, const json_t *branches);

#endif
