/* What the files of the template interpreter share: values, strings, the syntax tree, and the run
 * that owns the memory and counts the budgets. One run parses or renders once. Whatever fails,
 * fails by template__fail, a jump to the door that began the run; nothing in between owns anything
 * but the run's arena, so nothing in between cleans up.
 *
 * Reading order: template_lex.c, template_parse.c and template_expr.c make the tree;
 * template_exec.c (statements), template_eval.c (expressions) and template_call.c walk it;
 * template_filter.c, template_seq.c, template_method.c and template_test.c are what templates call;
 * template_value.c, template_op.c, template_str.c, template_format.c and template_json.c are
 * Python's data model as far as templates can see it.
 */
#ifndef TEMPLATE_INT_H
#define TEMPLATE_INT_H

#include "arena.h"
#include "err.h"
#include "map.h"
#include "template.h"
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct run {
    struct arena arena;
    struct err *e;
    jmp_buf door;
    uint64_t steps;
    int depth;
    uint32_t line; /* of the source, for messages */
    const struct template *t;
    struct frame *root;  /* the variables of the whole template */
    struct builder *out; /* where printed text goes now */
    const uint8_t *ones; /* marks of a foreign string, as long as the longest can be */
    int64_t now_s;
    struct json_t *json; /* being read: the one thing outside the arena, dropped by the door */
};

__attribute__((noreturn, format(printf, 3, 4))) void template__fail(struct run *r, int code,
                                                                    const char *fmt, ...);
/* A failure of the template itself; the commonest. */
#define template__bad(r, ...) template__fail(r, ERR_FORMAT, __VA_ARGS__)
void *template__alloc(struct run *r, size_t n, size_t size);
/* One step, and one more for every 64 of `work` bytes or comparisons. */
void template__step(struct run *r, size_t work);
/* Around whatever recurses. */
void template__enter(struct run *r);
static inline void template__leave(struct run *r)
{
    r->depth--;
}

/* ---- values ---- */

/* UTF-8, well-formed by construction; not NUL-terminated. Bytes are shared and never written. */
struct str {
    const char *p;
    const uint8_t *mark; /* of each byte: 1 copied from the input; NULL: none was */
    uint32_t n, chars;
};

enum kind {
    V_MISSING, /* an argument not given; never seen by a template */
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_VIEW, /* d.keys(), d.values(), d.items() */
    V_RANGE,
    V_ITER, /* a generator: can be walked once */
    V_NAMESPACE,
    V_LOOP,
    V_MACRO,
    V_METHOD, /* a native with its object */
    V_FUNCTION,
};

enum {
    FLAG_SAFE = 1,  /* V_STRING: Markup */
    FLAG_GROUP = 1, /* V_TUPLE: of groupby, has names */
    FLAG_KEYS = 0,
    FLAG_VALUES = 1,
    FLAG_ITEMS = 2, /* V_VIEW */
};

struct value {
    uint8_t kind, flag;
    uint8_t of; /* V_UNDEFINED: the kind that lacks it, V_MISSING for a variable */
    union {
        bool b;
        int64_t i;
        double f;
        const struct str *s; /* V_UNDEFINED: its name */
        const struct list *list;
        const struct dict *dict; /* V_DICT, V_VIEW */
        struct dict *space;      /* V_NAMESPACE */
        const struct range *range;
        struct iter *iter;
        struct loop *loop;
        const struct macro *macro;
        const struct method *method;
        const struct native *native; /* V_FUNCTION */
    };
};

struct list { /* never changed once a template sees it; likewise dict */
    struct value *at;
    uint32_t n, room;
};
struct pair {
    struct value key, value;
};
struct dict { /* in order of insertion; keys differ */
    struct pair *at;
    uint32_t n, room;
};
struct range {
    int64_t start, stop, step;
    uint32_t n;
};
struct iter {
    const struct list *list;
    uint32_t at;
};
struct loop {
    const struct list *items;
    uint32_t at; /* in items: the next to look at */
    uint32_t index0;
    struct value prev, item, next; /* next: V_MISSING until asked for */
    bool ended;                    /* next was asked for and there is none */
    const struct node *node;       /* the for statement, for its target and filter */
    bool filtered;                 /* items are still to pass the filter */
    struct frame *up;              /* where it stands */
    struct frame *inner;           /* that the filter was asked in */
    uint32_t length;               /* UINT32_MAX: not known yet */
    const struct list *changed;    /* the arguments of the last loop.changed() */
};
struct macro {
    const struct node *node; /* N_MACRO or N_CALL_BLOCK */
    struct frame *up;        /* what its body sees */
};
struct method {
    const struct native *native;
    struct value self;
};

/* Arguments of a call as written, and, bound to names, as natives get them. */
struct args {
    struct value *v;
    uint32_t n, n_kw;
    struct pair *kw; /* keys are strings */
};
/* Something written in C that templates call. params: "width,first": names in order, the first
 * `min` must be given, the fn gets exactly so many values, V_MISSING where not given; a leading '/'
 * takes them by position only; NULL: the fn gets the arguments as written. */
struct native {
    const char *name;
    struct value (*fn)(struct run *r, struct value self, const struct args *a);
    const char *params;
    uint8_t min;
};

static inline struct value v_none(void)
{
    return (struct value){.kind = V_NONE};
}
static inline struct value v_undefined(void)
{
    return (struct value){.kind = V_UNDEFINED};
}
static inline struct value v_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .b = b};
}
static inline struct value v_int(int64_t i)
{
    return (struct value){.kind = V_INT, .i = i};
}
static inline struct value v_float(double f)
{
    return (struct value){.kind = V_FLOAT, .f = f};
}
static inline struct value v_str(const struct str *s)
{
    return (struct value){.kind = V_STRING, .s = s};
}
static inline struct value v_list(const struct list *l)
{
    return (struct value){.kind = V_LIST, .list = l};
}
static inline struct value v_tuple(const struct list *l)
{
    return (struct value){.kind = V_TUPLE, .list = l};
}
static inline struct value v_dict(const struct dict *d)
{
    return (struct value){.kind = V_DICT, .dict = d};
}

/* ---- template_str.c: bytes ---- */

struct builder {
    struct run *r;
    char *p;
    uint8_t *mark; /* NULL while nothing foreign was put */
    size_t n, room;
    bool is_out; /* counts against TEMPLATE_OUT_MAX */
};
static inline struct builder template__builder(struct run *r)
{
    return (struct builder){.r = r};
}

void template__put(struct builder *b, const void *p, size_t n, const uint8_t *mark);
void template__put_cstr(struct builder *b, const char *s);
void template__put_sub(struct builder *b, const struct str *s, size_t from, size_t n);
void template__put_str(struct builder *b, const struct str *s);
void template__put_code(struct builder *b, uint32_t code, const uint8_t *mark);
void template__pad(struct builder *b, size_t n, const char *unit);
__attribute__((format(printf, 2, 3))) void template__printf(struct builder *b, const char *fmt,
                                                            ...);
/* The string built; the builder is spent. */
struct value template__built(struct builder *b);

struct value template__text(struct run *r, const void *p, size_t n, const uint8_t *mark);
struct value template__cstr(struct run *r, const char *s);
/* n bytes of s from `from`, sharing its bytes. */
struct value template__sub(struct run *r, const struct str *s, size_t from, size_t n);
bool template__is(const struct str *s, const char *text);
bool template__same(const struct str *a, const struct str *b);
/* The byte where character i begins, i <= s->chars; and the character's index of a byte. */
size_t template__byte_of(const struct str *s, size_t i);
size_t template__char_of(const struct str *s, size_t byte);
/* SIZE_MAX when absent. rfind: the last that lies within s[from..to). */
size_t template__find(struct run *r, const struct str *s, size_t from, size_t to,
                      const struct str *what);
size_t template__rfind(struct run *r, const struct str *s, size_t from, size_t to,
                       const struct str *what);
bool template__space(uint32_t code);
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2, STRIP_BOTH = 3 };
/* chars: NULL for white space. */
struct value template__strip(struct run *r, const struct str *s, const struct str *chars,
                             int sides);
struct value template__replace(struct run *r, const struct str *s, const struct str *old,
                               const struct str *with, int64_t count);
enum letter_case { CASE_UPPER, CASE_LOWER, CASE_CAPITAL, CASE_TITLE, CASE_SWAP, CASE_WORDS };
struct value template__case(struct run *r, const struct str *s, enum letter_case how);
struct value template__escape(struct run *r, const struct str *s);
/* By a separator, or white space when sep is NULL; at most max splits, from the right with
 * `right`; max < 0: all. */
struct value template__split(struct run *r, const struct str *s, const struct str *sep, int64_t max,
                             bool right);
struct value template__lines(struct run *r, const struct str *s, bool keep);

/* ---- template_value.c ---- */

struct list *template__list_new(struct run *r, uint32_t room);
void template__push(struct run *r, struct list *l, struct value v);
struct dict *template__dict_new(struct run *r, uint32_t room);
/* NULL when absent; fails on a key that cannot be one. */
const struct value *template__get(struct run *r, const struct dict *d, struct value key);
const struct value *template__get_str(struct run *r, const struct dict *d, const struct str *key);
void template__set(struct run *r, struct dict *d, struct value key, struct value v);
/* Without looking whether it is there. */
void template__append(struct run *r, struct dict *d, struct value key, struct value v);

const char *template__type(struct value v);
bool template__hashable(struct value v);
bool template__truth(struct value v);
bool template__number(struct value v); /* int, float or bool */
bool template__integral(struct value v, int64_t *out);
double template__double(struct value v);
bool template__equal(struct run *r, struct value a, struct value b);
/* -1, 0, 1, or 2 where one is a float that is not a number; fails where Python has no order. */
int template__order(struct run *r, struct value a, struct value b, const char *op);
bool template__contains(struct run *r, struct value in, struct value x);
bool template__has_length(struct value v);
uint32_t template__length(struct run *r, struct value v);
bool template__iterable(struct value v);
/* The elements; fails if it has none. A V_ITER is used up by it. */
const struct list *template__items(struct run *r, struct value v);
void template__put_value(struct builder *b, struct value v); /* as str() */
void template__put_repr(struct builder *b, struct value v);
const struct str *template__string(struct run *r, struct value v); /* str() */
/* Fails unless v is defined. */
void template__need(struct run *r, struct value v);
/* Merge sort, stable. */
void template__sort(struct run *r, struct list *items, const struct list *keys, bool reverse);

/* ---- template_op.c ---- */

struct value template__attr(struct run *r, struct value of, const struct str *name);
struct value template__item(struct run *r, struct value of, struct value key);
/* Bounds are V_NONE or integers. */
struct value template__slice(struct run *r, struct value of, struct value from, struct value to,
                             struct value step);
enum binary { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW };
struct value template__binary(struct run *r, enum binary op, struct value a, struct value b);
struct value template__negate(struct run *r, struct value a, bool minus);

/* ---- template_format.c ---- */

struct value template__percent(struct run *r, const struct str *fmt, struct value arg);
struct value template__format(struct run *r, const struct str *fmt, const struct args *a);
void template__put_float(struct builder *b, double f); /* as repr() */
/* Python's int(s, base) and float(s); false when s is none. */
bool template__parse_int(struct run *r, const struct str *s, int base, int64_t *out);
bool template__parse_float(struct run *r, const struct str *s, double *out);

/* ---- template_json.c ---- */

/* The JSON text as a value; strings get marks when `foreign`. */
struct value template__from_json(struct run *r, const char *json, size_t n, bool foreign);
void template__json_drop(struct run *r);
struct value template__tojson(struct run *r, struct value self, const struct args *a);

/* ---- what templates call ---- */

extern const struct native template__filters[], template__seq_filters[]; /* ends: no name */
extern const struct native template__functions[];
const struct native *template__filter_named(const struct str *name);
const struct native *template__test_named(const struct str *name);
/* The method of that name; NULL if there is none, a native without fn if it is a forbidden one. */
const struct native *template__method_named(struct value of, const struct str *name);

/* Of bound arguments: fails unless it is that, `otherwise` if it was not given. */
int64_t template__arg_int(struct run *r, struct value v, int64_t otherwise);
bool template__arg_bool(struct value v, bool otherwise);
const struct str *template__arg_str(struct run *r, struct value v);

struct value template__native(struct run *r, const struct native *f, struct value self,
                              const struct args *a);
struct value template__call(struct run *r, struct value callee, const struct args *a);
/* "a.b.0" of v, missing parts replaced by `otherwise` unless that is V_MISSING. */
struct value template__path(struct run *r, struct value v, struct value path,
                            struct value otherwise);

/* ---- the tree ---- */

enum node_type {
    /* expressions; k[] holds what the comment names */
    N_CONST,   /* v */
    N_NAME,    /* sym */
    N_LIST,    /* items by next */
    N_TUPLE,   /* items by next */
    N_DICT,    /* key, value, key ... by next */
    N_ATTR,    /* object; v: the name */
    N_ITEM,    /* object, key */
    N_SLICE,   /* object, from, to, step; NULL where not given */
    N_CALL,    /* callee, arguments */
    N_ARG,     /* value; op: enum arg_kind; v: the name */
    N_FILTER,  /* object (NULL: a block), arguments; v: the name; native */
    N_TEST,    /* object, arguments; v: the name; native */
    N_NOT,     /* x */
    N_NEG,     /* x */
    N_POS,     /* x */
    N_AND,     /* x, y */
    N_OR,      /* x, y */
    N_BINARY,  /* x, y; op: enum binary */
    N_CONCAT,  /* items by next */
    N_COMPARE, /* x, operands by next */
    N_OPERAND, /* y; op: enum compare */
    N_COND,    /* test, then, else or NULL */
    /* statements, by next */
    N_TEXT,         /* v */
    N_PRINT,        /* expression */
    N_IF,           /* branches by next */
    N_BRANCH,       /* test or NULL, body */
    N_FOR,          /* target, iterable, filter or NULL, body, else */
    N_SET,          /* target, expression */
    N_SET_BLOCK,    /* target, filters or NULL, body */
    N_TARGET,       /* of an assignment: v, the attribute, if sym is a namespace */
    N_MACRO,        /* parameters, body; sym, uses; v: the name */
    N_PARAM,        /* default or NULL; sym */
    N_CALL_BLOCK,   /* parameters, body, call; uses; v: "caller" */
    N_FILTER_BLOCK, /* filters, body */
    N_WITH,         /* target, expression, target, expression ... by next; body */
    N_SCOPE,        /* body */
    N_BREAK,
    N_CONTINUE,
};
enum { USES_CALLER = 1, USES_VARARGS = 2, USES_KWARGS = 4 }; /* of a macro's body */
enum arg_kind { ARG_POSITION, ARG_NAME, ARG_STAR, ARG_STARSTAR };
enum compare { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IN, CMP_NOT_IN };

struct node {
    uint8_t type, op, uses;
    uint32_t line, sym;
    struct value v;
    const struct native *native;
    struct node *k[5], *next;
};

struct template
{
    struct arena arena;
    struct node *body;
    struct map symbols; /* name -> sym, an index into names */
    struct str *names;
    uint32_t n_names, room_names;
};

/* ---- template_lex.c ---- */

enum token_type {
    T_EOF,
    T_DATA,
    T_BEGIN_PRINT,
    T_END_PRINT,
    T_BEGIN_BLOCK,
    T_END_BLOCK,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_OP
};
struct token {
    uint8_t type;
    uint16_t op; /* T_OP: the character, the second one << 8 */
    uint32_t line;
    struct value v; /* T_DATA, T_NAME, T_STRING, T_INT, T_FLOAT */
};
/* Ends with T_EOF. */
const struct token *template__lex(struct run *r, const char *source, size_t n);

/* ---- template_parse.c, template_expr.c ---- */

struct parser {
    struct run *r;
    struct template *t;
    const struct token *at;
    int loops;    /* around the statement being parsed */
    uint8_t uses; /* of the macro being parsed */
};
void template__parse(struct run *r, struct template *t, const struct token *tokens);
uint32_t template__symbol(struct parser *p, const struct str *name);
struct node *template__node(struct parser *p, enum node_type type);
bool template__at_op(const struct parser *p, int op);
bool template__at_name(const struct parser *p, const char *name);
bool template__skip_op(struct parser *p, int op);
bool template__skip_name(struct parser *p, const char *name);
void template__expect_op(struct parser *p, int op);
const struct str *template__expect_name(struct parser *p);
struct node *template__expression(struct parser *p, bool cond);
/* Several by commas are a tuple; it ends before `stop`, a name, if not NULL. */
struct node *template__tuple(struct parser *p, bool cond, const char *stop);
/* The chain of "| name(arguments)" after `of`; started: the first has no bar. */
struct node *template__filters_of(struct parser *p, struct node *of, bool started);
__attribute__((noreturn)) void template__unexpected(struct parser *p, const char *wanted);

/* ---- template_exec.c, template_eval.c, template_call.c ---- */

struct var {
    uint32_t sym;
    struct value v;
};
struct frame { /* variables of one scope; the names it lacks are looked up in `up` */
    struct frame *up;
    struct var *vars;
    uint32_t n, room;
    bool kept; /* a macro or a call block sees it */
};
struct frame *template__frame(struct run *r, struct frame *up);
void template__assign(struct run *r, struct frame *f, uint32_t sym, struct value v);
/* To the names of an N_NAME, N_TUPLE or N_TARGET. */
void template__unpack(struct run *r, struct frame *f, const struct node *target, struct value v);
struct value template__eval(struct run *r, struct frame *f, const struct node *n);
struct value template__apply_filters(struct run *r, struct frame *f, const struct node *n,
                                     struct value v);
struct args template__args(struct run *r, struct frame *f, const struct node *arg);
/* Statements, printed into r->out. */
enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };
enum flow template__exec(struct run *r, struct frame *f, const struct node *n);
/* What the statements print, as a string. */
struct value template__capture(struct run *r, struct frame *f, const struct node *n);
struct value template__loop_attr(struct run *r, struct loop *l, const struct str *name);
/* loop.cycle and loop.changed */
extern const struct native template__loop_methods[];

#endif
