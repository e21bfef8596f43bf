/* Expressions of the tree -> values. Each kind of node has its case in eval(), the larger ones a
 * function above it. Names are looked up from the innermost frame outwards; what no frame has is
 * undefined, which is no error until it is used.
 */
#include "template_int.h"

static struct value lookup(struct run *r, const struct frame *f, uint32_t sym)
{
    for (; f->up; f = f->up) {
        template__step(r, f->n * 8);
        for (uint32_t i = 0; i < f->n; i++)
            if (f->vars[i].sym == sym) return f->vars[i].v;
    }
    struct value v = f->vars[sym].v;
    if (v.kind == V_MISSING)
        v = (struct value){.kind = V_UNDEFINED, .of = V_MISSING, .s = &r->t->names[sym]};
    return v;
}

static struct list *elements(struct run *r, struct frame *f, const struct node *first)
{
    struct list *l = template__list_new(r, 0);
    for (const struct node *k = first; k; k = k->next)
        template__push(r, l, template__eval(r, f, k));
    return l;
}

static struct value dict(struct run *r, struct frame *f, const struct node *n)
{
    struct dict *d = template__dict_new(r, 0);
    for (const struct node *k = n->k[0]; k; k = k->next->next) {
        struct value key = template__eval(r, f, k);
        template__set(r, d, key, template__eval(r, f, k->next));
    }
    return v_dict(d);
}

static struct value slice(struct run *r, struct frame *f, const struct node *n)
{
    struct value v[4] = {template__eval(r, f, n->k[0]), v_none(), v_none(), v_none()};
    for (int i = 1; i < 4; i++)
        if (n->k[i]) v[i] = template__eval(r, f, n->k[i]);
    return template__slice(r, v[0], v[1], v[2], v[3]);
}

static struct value concat(struct run *r, struct frame *f, const struct node *n)
{
    struct builder b = template__builder(r);
    for (const struct node *k = n->k[0]; k; k = k->next)
        template__put_value(&b, template__eval(r, f, k));
    return template__built(&b);
}

static bool holds(struct run *r, enum compare op, struct value a, struct value b)
{
    int d;
    switch (op) {
    case CMP_EQ: return template__equal(r, a, b);
    case CMP_NE: return !template__equal(r, a, b);
    case CMP_IN: return template__contains(r, b, a);
    case CMP_NOT_IN: return !template__contains(r, b, a);
    case CMP_LT: return template__order(r, a, b, "<") < 0;
    case CMP_LE: return template__order(r, a, b, "<=") <= 0;
    case CMP_GT: return template__order(r, a, b, ">") == 1;
    case CMP_GE: d = template__order(r, a, b, ">="); return d == 0 || d == 1;
    }
    return false;
}

static struct value compare(struct run *r, struct frame *f, const struct node *n)
{
    struct value left = template__eval(r, f, n->k[0]);
    for (const struct node *k = n->k[1]; k; k = k->next) {
        struct value right = template__eval(r, f, k->k[0]);
        if (!holds(r, k->op, left, right)) return v_bool(false);
        left = right;
    }
    return v_bool(true);
}

/* The elements of *x are positional arguments, the members of **x named ones. */
static void spread(struct run *r, struct value v, enum arg_kind kind, struct list *at,
                   struct dict *named)
{
    if (kind == ARG_STAR) {
        const struct list *l = template__items(r, v);
        for (uint32_t i = 0; i < l->n; i++) template__push(r, at, l->at[i]);
        return;
    }
    if (v.kind != V_DICT) template__bad(r, "** wants a mapping, not a %s", template__type(v));
    for (uint32_t i = 0; i < v.dict->n; i++) {
        struct value key = v.dict->at[i].key;
        if (key.kind != V_STRING || template__get(r, named, key))
            template__bad(r, "** names an argument twice or not by a string");
        template__append(r, named, key, v.dict->at[i].value);
    }
}

struct args template__args(struct run *r, struct frame *f, const struct node *arg)
{
    if (!arg) return (struct args){0};
    struct list at = {0};
    struct dict named = {0};
    for (const struct node *k = arg; k; k = k->next) {
        struct value v = template__eval(r, f, k->k[0]);
        if (k->op == ARG_POSITION) {
            template__push(r, &at, v);
        } else if (k->op == ARG_NAME) {
            if (template__get(r, &named, k->v))
                template__bad(r, "the argument '%.*s' is given twice", (int)k->v.s->n, k->v.s->p);
            template__append(r, &named, k->v, v);
        } else {
            spread(r, v, k->op, &at, &named);
        }
    }
    return (struct args){.v = at.at, .n = at.n, .kw = named.at, .n_kw = named.n};
}

static struct value filter(struct run *r, struct frame *f, const struct node *n, struct value v)
{
    if (!n->native)
        template__fail(r, ERR_UNSUPPORTED, "no filter is called '%.*s'", (int)n->v.s->n, n->v.s->p);
    struct args a = template__args(r, f, n->k[1]);
    return template__native(r, n->native, v, &a);
}

struct value template__apply_filters(struct run *r, struct frame *f, const struct node *n,
                                     struct value v)
{
    template__enter(r);
    if (n->k[0]) v = template__apply_filters(r, f, n->k[0], v);
    v = filter(r, f, n, v);
    template__leave(r);
    return v;
}

static struct value test(struct run *r, struct frame *f, const struct node *n)
{
    if (!n->native)
        template__fail(r, ERR_UNSUPPORTED, "no test is called '%.*s'", (int)n->v.s->n, n->v.s->p);
    struct value v = template__eval(r, f, n->k[0]);
    struct args a = template__args(r, f, n->k[1]);
    return template__native(r, n->native, v, &a);
}

static struct value call(struct run *r, struct frame *f, const struct node *n)
{
    struct value callee = template__eval(r, f, n->k[0]);
    struct args a = template__args(r, f, n->k[1]);
    return template__call(r, callee, &a);
}

static struct value binary(struct run *r, struct frame *f, const struct node *n)
{
    struct value left = template__eval(r, f, n->k[0]);
    return template__binary(r, n->op, left, template__eval(r, f, n->k[1]));
}

static struct value item(struct run *r, struct frame *f, const struct node *n)
{
    struct value of = template__eval(r, f, n->k[0]);
    return template__item(r, of, template__eval(r, f, n->k[1]));
}

static struct value eval(struct run *r, struct frame *f, const struct node *n)
{
    struct value v;
    switch ((enum node_type)n->type) {
    case N_CONST: return n->v;
    case N_NAME: return lookup(r, f, n->sym);
    case N_LIST: return v_list(elements(r, f, n->k[0]));
    case N_TUPLE: return v_tuple(elements(r, f, n->k[0]));
    case N_DICT: return dict(r, f, n);
    case N_ATTR: return template__attr(r, template__eval(r, f, n->k[0]), n->v.s);
    case N_ITEM: return item(r, f, n);
    case N_SLICE: return slice(r, f, n);
    case N_CALL: return call(r, f, n);
    case N_FILTER: return filter(r, f, n, template__eval(r, f, n->k[0]));
    case N_TEST: return test(r, f, n);
    case N_NOT: return v_bool(!template__truth(template__eval(r, f, n->k[0])));
    case N_NEG:
    case N_POS: return template__negate(r, template__eval(r, f, n->k[0]), n->type == N_NEG);
    case N_AND:
        v = template__eval(r, f, n->k[0]);
        return template__truth(v) ? template__eval(r, f, n->k[1]) : v;
    case N_OR:
        v = template__eval(r, f, n->k[0]);
        return template__truth(v) ? v : template__eval(r, f, n->k[1]);
    case N_BINARY: return binary(r, f, n);
    case N_CONCAT: return concat(r, f, n);
    case N_COMPARE: return compare(r, f, n);
    case N_COND:
        if (template__truth(template__eval(r, f, n->k[0]))) return template__eval(r, f, n->k[1]);
        return n->k[2] ? template__eval(r, f, n->k[2]) : v_undefined();
    default: template__bad(r, "a statement stands where a value is expected");
    }
}

struct value template__eval(struct run *r, struct frame *f, const struct node *n)
{
    template__enter(r);
    template__step(r, 0);
    r->line = n->line;
    struct value v = eval(r, f, n);
    template__leave(r);
    return v;
}
