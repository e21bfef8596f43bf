/* What the files of the grammars share.
 *
 *     grammar_schema.c  a JSON schema -> nodes     grammar_merge.c   two schemas -> one that means both
 *     grammar_text.c    JSON strings, constants    grammar_number.c  numbers within bounds
 *     grammar_regex.c   a regular expression -> nodes
 *     grammar_gbnf.c    GBNF -> nodes
 *     grammar_build.c   nodes -> states
 *     grammar.c         states -> struct grammar: what is analysed once
 *     grammar_stacks.c  sets of stacks, one byte further
 *     grammar_tokens.c  tries over a vocabulary
 *     grammar_match.c   masks
 *
 * Builders make nodes: each constructor takes NULL for a node that failed and hands it on, so that
 * only grammar__finish looks; the first error stands in b->e.
 */
#ifndef GRAMMAR_INT_H
#define GRAMMAR_INT_H

#include "arena.h"
#include "grammar.h"
#include "map.h"

enum {
    GRAMMAR__STATES = 1 << 18,
    GRAMMAR__RULES = 1 << 16,
    GRAMMAR__NODES_BYTES = 64 << 20,
    GRAMMAR__NESTING = 200, /* of nodes, for the recursion of builders */
    GRAMMAR__INF = UINT16_MAX,
    GRAMMAR__ENDLESS = UINT32_MAX,
};

enum grammar__op { GRAMMAR__END, GRAMMAR__RET, GRAMMAR__BYTE, GRAMMAR__SPLIT, GRAMMAR__CALL };

/* States 0 and 1 are the only END and RET. */
struct grammar__state {
    uint8_t op;
    /* So many characters of plain text (grammar__is_plain) may follow here, whatever they are; INF:
     * any number. */
    uint16_t run;
    uint32_t a, b; /* BYTE: set, next; SPLIT: both ways; CALL: rule, where it returns to */
};

struct grammar {
    struct grammar__state *state;
    uint32_t n_states, n_rules, n_sets, n_classes, root;
    uint32_t *start;   /* [n_rules] */
    uint32_t *order;   /* [n_rules] a rule comes before those it may call before it reads a byte */
    uint32_t *rule_at; /* [n_rules] the rule of a place in that order */
    bool *nullable;    /* [n_rules] may be empty */
    uint16_t *need; /* [n_states] calls that the way to RET is deep at least; INF: there is none */
    uint64_t (*set)[4];   /* [n_sets] of byte classes */
    uint64_t (*bytes)[4]; /* [n_sets] of bytes */
    uint8_t class[256];   /* bytes that no set tells apart have one class */
    size_t n_bytes;
};

enum grammar__kind {
    GRAMMAR__TEXT,  /* bytes */
    GRAMMAR__RANGE, /* one of some characters */
    GRAMMAR__SEQ,
    GRAMMAR__ALT,
    GRAMMAR__REP,
    GRAMMAR__RULE
};

struct grammar__node {
    uint8_t kind;
    uint16_t nesting;
    bool covers;       /* each plain character is one of its matches */
    uint32_t weight;   /* states, roughly */
    uint32_t min, max; /* REP; RULE: min is the rule */
    size_t n;          /* of what follows */
    const char *text;
    const struct grammar__node **kid;
    uint32_t (*range)[2]; /* sorted, disjoint, first and last */
};

/* A set of characters in the making. */
struct grammar__chars {
    uint32_t (*range)[2];
    size_t n, room;
    bool failed;
};

struct grammar__build {
    struct arena arena; /* of the nodes */
    struct err *e;
    bool failed;
    const struct grammar__node **rule; /* [n_rules] NULL: not defined yet */
    const char **name;                 /* [n_rules] or NULL */
    uint32_t n_rules, rules_room;
    uint32_t string_char, any; /* rules of grammar_text.c, MAP_NONE where not made yet */
    /* while states are made */
    struct grammar__state *state;
    uint32_t n_states, states_room;
    struct map sets;
    uint64_t (*set)[4];
    uint32_t n_sets, sets_room;
};

typedef const struct grammar__node grammar__n;

void grammar__begin(struct grammar__build *b, struct err *e);
/* Makes the grammar that begins with a rule; frees the builder in any case. */
ERR_DOOR int grammar__finish(struct grammar__build *b, uint32_t root, struct grammar **out);
/* The first one stands; returns NULL. */
grammar__n *grammar__fail(struct grammar__build *b, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

grammar__n *grammar__bytes(struct grammar__build *b, const char *s, size_t n); /* copied */
grammar__n *grammar__lit(struct grammar__build *b, const char *s);
grammar__n *grammar__empty(struct grammar__build *b);
grammar__n *grammar__none(struct grammar__build *b); /* matches nothing */
bool grammar__is_none(grammar__n *n);
grammar__n *grammar__list(struct grammar__build *b, enum grammar__kind kind, grammar__n *const *kid,
                          size_t n);
grammar__n *grammar__two(struct grammar__build *b, enum grammar__kind kind, grammar__n *x,
                         grammar__n *y);
/* A list that grows. Taken by grammar__parts_node. */
struct grammar__parts {
    grammar__n **kid;
    size_t n, room;
};
void grammar__parts_add(struct grammar__build *b, struct grammar__parts *p, grammar__n *x);
grammar__n *grammar__parts_node(struct grammar__build *b, enum grammar__kind kind,
                                struct grammar__parts *p);
grammar__n *grammar__rep(struct grammar__build *b, grammar__n *x, uint32_t min, uint32_t max);
grammar__n *grammar__opt(struct grammar__build *b, grammar__n *x);
/* MAP_NONE when it failed. */
uint32_t grammar__rule(struct grammar__build *b, const char *name);
void grammar__define(struct grammar__build *b, uint32_t rule, grammar__n *body);
grammar__n *grammar__call(struct grammar__build *b, uint32_t rule);

void grammar__chars_add(struct grammar__chars *c, uint32_t first, uint32_t last);
void grammar__chars_not(struct grammar__chars *c); /* all others; needs no sorting before */
/* Takes the set away. json: as a JSON string writes them. */
grammar__n *grammar__chars_node(struct grammar__build *b, struct grammar__chars *c, bool json);
/* Neither a control character nor '"', '\', DEL or a line separator: what strings are made of. */
bool grammar__is_plain(uint32_t code);

/* Makes b->state and the state that each rule starts with, freed by the caller in any case. */
bool grammar__compile(struct grammar__build *b, uint32_t **start);

/* What is analysed of a grammar. bytes: those that can be produced, NULL: all. */
bool grammar__needs(const struct grammar *g, const uint64_t bytes[4], uint16_t *need);

/* A regular expression; whole: it must match from end to end, else somewhere in the string; json: its
 * characters stand in a JSON string. What fails names the expression. */
grammar__n *grammar__regex_node(struct grammar__build *b, const char *s, size_t n, bool whole,
                                bool json);

grammar__n *grammar__string(struct grammar__build *b, uint32_t min, uint32_t max);
grammar__n *grammar__any_text(struct grammar__build *b); /* without quotes */
grammar__n *grammar__any_value(struct grammar__build *b);
grammar__n *grammar__comma(struct grammar__build *b);
grammar__n *grammar__colon(struct grammar__build *b);
/* Any number of items between brackets. */
grammar__n *grammar__items(struct grammar__build *b, const char *open, grammar__n *item,
                           const char *close);
/* The bytes of a string with its quotes. */
grammar__n *grammar__quoted(struct grammar__build *b, const char *s, size_t n);
/* A key that is none of n keys. */
grammar__n *grammar__other_key(struct grammar__build *b, const char *const *key, size_t n);
/* One of n strings, quoted. */
grammar__n *grammar__words(struct grammar__build *b, const char *const *word, size_t n);
grammar__n *grammar__any_number(struct grammar__build *b, bool integer);

struct grammar__bounds {
    double min, max; /* -inf and inf: none */
    bool open_min, open_max;
};
grammar__n *grammar__number(struct grammar__build *b, const struct grammar__bounds *v,
                            bool integer);

/* Sets of stacks. Config 0 is the empty set; FULL: memory is used up, call grammar__stacks_keep. */
enum { GRAMMAR__FULL = UINT32_MAX };
struct grammar__stacks;
struct grammar__stacks *grammar__stacks_open(const struct grammar *g, const uint16_t *need);
void grammar__stacks_close(struct grammar__stacks *s);
uint32_t grammar__stacks_start(struct grammar__stacks *s);
uint32_t grammar__stacks_step(struct grammar__stacks *s, uint32_t config, uint8_t byte);
bool grammar__stacks_may_end(const struct grammar__stacks *s, uint32_t config);
bool grammar__stacks_must_end(const struct grammar__stacks *s, uint32_t config);
uint32_t grammar__stacks_run(const struct grammar__stacks *s, uint32_t config);
/* How much was done so far, in states looked at. */
uint64_t grammar__stacks_work(const struct grammar__stacks *s);
/* Forgets all configs but these n <= 2, whose numbers it rewrites. */
void grammar__stacks_keep(struct grammar__stacks *s, uint32_t *config, size_t n);

/* A trie in the order of a walk: a node's first child is the next node. */
struct grammar__trie_node {
    uint32_t skip;  /* the next node that is not below this one */
    uint32_t token; /* where the tokens that end here begin in `token`; up to the next node's */
    uint16_t depth; /* bytes to the root, which is no node */
    uint8_t byte;
    uint8_t
        plain; /* all tokens below go on with so many plain characters at most, else NOT_PLAIN */
};
enum { GRAMMAR__NOT_PLAIN = UINT8_MAX };

struct grammar__trie {
    struct grammar__trie_node *node; /* [n + 1] */
    uint32_t n;
    int32_t *token;
    uint16_t depth; /* the deepest */
};

struct grammar_tokens {
    const struct tok *t;
    size_t n_words;                   /* of a mask */
    struct grammar__trie plain, rest; /* tokens of plain characters only; all others */
    uint64_t *plain_bits;             /* [n_words] the tokens of the first */
    uint32_t plain_longest;           /* of them, in characters */
    int32_t *end;
    size_t n_end;
    uint64_t bytes[4]; /* that tokens of one byte produce */
};
/* The bytes of a token that may be part of an answer, n 0 otherwise. */
struct gguf_str grammar__tokens_piece(const struct grammar_tokens *t, int32_t id);
/* A token before which text begins anew; the leading space of the next is dropped (SentencePiece). */
bool grammar__tokens_special(const struct grammar_tokens *t, int32_t id);

#endif
