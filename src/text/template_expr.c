/* Tokens -> the tree: expressions, by precedence: one function a level, the loosest first.
 * Comparisons chain and have one level; tests and filters bind tighter than any operator.
 *
 * Filters and tests are found by name here, but a name that is none fails only when it is used, so
 * that a template with one odd branch still serves for the rest.
 */
#include "template_int.h"

static struct node *unary(struct parser *p, bool filters);

static bool at_end_of_tuple(const struct parser *p, const char *stop)
{
    return p->at->type == T_END_PRINT || p->at->type == T_END_BLOCK || template__at_op(p, ')') ||
           (stop && template__at_name(p, stop));
}

static struct node *binary(struct parser *p, struct node *left, enum node_type type, int op,
                           struct node *(*right)(struct parser *))
{
    struct node *n = template__node(p, type);
    n->op = (uint8_t)op;
    n->k[0] = left;
    n->k[1] = right(p);
    return n;
}

static struct node *tight(struct parser *p)
{
    return unary(p, true);
}

static struct node *power(struct parser *p)
{
    struct node *n = tight(p);
    while (template__skip_op(p, '*' | '*' << 8)) n = binary(p, n, N_BINARY, OP_POW, tight);
    return n;
}

static struct node *product(struct parser *p)
{
    struct node *n = power(p);
    for (;;) {
        if (template__skip_op(p, '*'))
            n = binary(p, n, N_BINARY, OP_MUL, power);
        else if (template__skip_op(p, '/'))
            n = binary(p, n, N_BINARY, OP_DIV, power);
        else if (template__skip_op(p, '/' | '/' << 8))
            n = binary(p, n, N_BINARY, OP_FLOORDIV, power);
        else if (template__skip_op(p, '%'))
            n = binary(p, n, N_BINARY, OP_MOD, power);
        else
            return n;
    }
}

static struct node *concat(struct parser *p)
{
    struct node *first = product(p);
    if (!template__at_op(p, '~')) return first;
    struct node *n = template__node(p, N_CONCAT), **tail = &first->next;
    n->k[0] = first;
    while (template__skip_op(p, '~')) {
        *tail = product(p);
        tail = &(*tail)->next;
    }
    return n;
}

static struct node *sum(struct parser *p)
{
    struct node *n = concat(p);
    for (;;) {
        if (template__skip_op(p, '+'))
            n = binary(p, n, N_BINARY, OP_ADD, concat);
        else if (template__skip_op(p, '-'))
            n = binary(p, n, N_BINARY, OP_SUB, concat);
        else
            return n;
    }
}

/* The comparison that stands here, skipped, or -1. */
static int comparison(struct parser *p)
{
    static const struct {
        int op;
        enum compare compare;
    } all[] = {{'=' | '=' << 8, CMP_EQ},
               {'!' | '=' << 8, CMP_NE},
               {'<', CMP_LT},
               {'<' | '=' << 8, CMP_LE},
               {'>', CMP_GT},
               {'>' | '=' << 8, CMP_GE}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (template__skip_op(p, all[i].op)) return (int)all[i].compare;
    if (template__skip_name(p, "in")) return CMP_IN;
    if (template__at_name(p, "not") && p->at[1].type == T_NAME &&
        template__is(p->at[1].v.s, "in")) {
        p->at += 2;
        return CMP_NOT_IN;
    }
    return -1;
}

static struct node *compare(struct parser *p)
{
    struct node *first = sum(p), *n = NULL, **tail = NULL;
    for (int op; (op = comparison(p)) >= 0;) {
        if (!n) {
            n = template__node(p, N_COMPARE);
            n->k[0] = first;
            tail = &n->k[1];
        }
        struct node *operand = *tail = template__node(p, N_OPERAND);
        operand->op = (uint8_t)op;
        operand->k[0] = sum(p);
        tail = &operand->next;
    }
    return n ? n : first;
}

static struct node *negation(struct parser *p)
{
    if (!template__skip_name(p, "not")) return compare(p);
    template__enter(p->r);
    struct node *n = template__node(p, N_NOT);
    n->k[0] = negation(p);
    template__leave(p->r);
    return n;
}

static struct node * and (struct parser * p)
{
    struct node *n = negation(p);
    while (template__skip_name(p, "and")) n = binary(p, n, N_AND, 0, negation);
    return n;
}

static struct node * or (struct parser * p)
{
    struct node *n = and(p);
    while (template__skip_name(p, "or")) n = binary(p, n, N_OR, 0, and);
    return n;
}

struct node *template__expression(struct parser *p, bool cond)
{
    template__enter(p->r);
    struct node *n = or (p);
    while (cond && template__skip_name(p, "if")) {
        struct node *c = template__node(p, N_COND);
        c->k[1] = n;
        c->k[0] = or (p);
        if (template__skip_name(p, "else")) c->k[2] = template__expression(p, true);
        n = c;
    }
    template__leave(p->r);
    return n;
}

/* `empty` may be none at all: () */
static struct node *tuple(struct parser *p, bool cond, const char *stop, bool empty)
{
    struct node *n = template__node(p, N_TUPLE), **tail = &n->k[0];
    bool comma = false;
    while (!at_end_of_tuple(p, stop)) {
        *tail = template__expression(p, cond);
        tail = &(*tail)->next;
        if (!template__skip_op(p, ',')) break;
        comma = true;
    }
    if (comma || (empty && !n->k[0])) return n;
    if (!n->k[0]) template__unexpected(p, "an expression");
    return n->k[0];
}

struct node *template__tuple(struct parser *p, bool cond, const char *stop)
{
    return tuple(p, cond, stop, false);
}

static struct node *list(struct parser *p)
{
    struct node *n = template__node(p, N_LIST), **tail = &n->k[0];
    while (!template__skip_op(p, ']')) {
        *tail = template__expression(p, true);
        tail = &(*tail)->next;
        if (!template__at_op(p, ']')) template__expect_op(p, ',');
    }
    return n;
}

static struct node *dict(struct parser *p)
{
    struct node *n = template__node(p, N_DICT), **tail = &n->k[0];
    while (!template__skip_op(p, '}')) {
        *tail = template__expression(p, true);
        template__expect_op(p, ':');
        (*tail)->next = template__expression(p, true);
        tail = &(*tail)->next->next;
        if (!template__at_op(p, '}')) template__expect_op(p, ',');
    }
    return n;
}

static struct node *constant(struct parser *p, struct value v)
{
    struct node *n = template__node(p, N_CONST);
    n->v = v;
    return n;
}

static struct node *name(struct parser *p)
{
    const struct str *s = p->at->v.s;
    struct node *n;
    if (template__is(s, "true") || template__is(s, "True")) {
        n = constant(p, v_bool(true));
    } else if (template__is(s, "false") || template__is(s, "False")) {
        n = constant(p, v_bool(false));
    } else if (template__is(s, "none") || template__is(s, "None")) {
        n = constant(p, v_none());
    } else {
        n = template__node(p, N_NAME);
        n->sym = template__symbol(p, s);
        if (template__is(s, "caller")) p->uses |= USES_CALLER;
        if (template__is(s, "varargs")) p->uses |= USES_VARARGS;
        if (template__is(s, "kwargs")) p->uses |= USES_KWARGS;
    }
    p->at++;
    return n;
}

/* Strings side by side are one. */
static struct node *strings(struct parser *p)
{
    struct node *n = constant(p, p->at->v);
    if ((++p->at)->type != T_STRING) return n;
    struct builder b = template__builder(p->r);
    template__put_str(&b, n->v.s);
    while (p->at->type == T_STRING) template__put_str(&b, (p->at++)->v.s);
    n->v = template__built(&b);
    return n;
}

static struct node *primary(struct parser *p)
{
    if (p->at->type == T_NAME) return name(p);
    if (p->at->type == T_STRING) return strings(p);
    if (p->at->type == T_INT || p->at->type == T_FLOAT) {
        struct node *n = constant(p, p->at->v);
        p->at++;
        return n;
    }
    if (template__skip_op(p, '(')) {
        struct node *n = tuple(p, true, NULL, true);
        template__expect_op(p, ')');
        return n;
    }
    if (template__skip_op(p, '[')) return list(p);
    if (template__skip_op(p, '{')) return dict(p);
    template__unexpected(p, "an expression");
}

static struct node *arguments(struct parser *p)
{
    struct node *first = NULL, **tail = &first;
    /* By the kind of an argument, the kinds that may not stand before it. */
    enum { NAMED = 1 << ARG_NAME, STAR = 1 << ARG_STAR, STARSTAR = 1 << ARG_STARSTAR };
    static const int not_after[] = {NAMED | STAR | STARSTAR, STARSTAR, STAR | STARSTAR, STARSTAR};
    int seen = 0;
    template__expect_op(p, '(');
    while (!template__skip_op(p, ')')) {
        struct node *n = *tail = template__node(p, N_ARG);
        tail = &n->next;
        int kind = ARG_POSITION;
        if (template__skip_op(p, '*')) {
            kind = ARG_STAR;
        } else if (template__skip_op(p, '*' | '*' << 8)) {
            kind = ARG_STARSTAR;
        } else if (p->at->type == T_NAME && p->at[1].type == T_OP && p->at[1].op == '=') {
            kind = ARG_NAME;
            n->v = p->at->v;
            p->at += 2;
        }
        if (seen & not_after[kind])
            template__bad(p->r, "arguments in an order that a call cannot have");
        seen |= 1 << kind;
        n->op = (uint8_t)kind;
        n->k[0] = template__expression(p, true);
        if (!template__at_op(p, ')')) template__expect_op(p, ',');
    }
    return first;
}

static struct node *call(struct parser *p, struct node *callee)
{
    struct node *n = template__node(p, N_CALL);
    n->k[0] = callee;
    n->k[1] = arguments(p);
    return n;
}

static struct node *bound(struct parser *p)
{
    if (template__at_op(p, ':') || template__at_op(p, ']') || template__at_op(p, ',')) return NULL;
    return template__expression(p, true);
}

/* What stands between the brackets of x[...]. */
static struct node *subscript(struct parser *p, struct node *of)
{
    struct node *n = template__node(p, N_ITEM), *from = bound(p);
    n->k[0] = of;
    n->k[1] = from;
    if (template__skip_op(p, ':')) {
        n->type = N_SLICE;
        n->k[2] = bound(p);
        if (template__skip_op(p, ':')) n->k[3] = bound(p);
    } else if (template__at_op(p, ',')) { /* x[1, 2]: a tuple as key */
        struct node *t = template__node(p, N_TUPLE), **tail = &t->k[0];
        for (struct node *item = from;;) {
            if (!item) template__unexpected(p, "an expression");
            *tail = item;
            tail = &item->next;
            if (!template__skip_op(p, ',')) break;
            item = bound(p);
        }
        n->k[1] = t;
    } else if (!from) {
        template__unexpected(p, "an expression");
    }
    template__expect_op(p, ']');
    return n;
}

static struct node *attribute(struct parser *p, struct node *of)
{
    struct node *n = template__node(p, N_ATTR);
    n->k[0] = of;
    n->v = p->at->v;
    if (p->at->type == T_INT) {
        n->type = N_ITEM;
        n->k[1] = constant(p, n->v);
    } else if (p->at->type != T_NAME) {
        template__unexpected(p, "a name");
    }
    p->at++;
    return n;
}

static struct node *postfix(struct parser *p, struct node *n)
{
    for (;;) {
        if (template__skip_op(p, '.'))
            n = attribute(p, n);
        else if (template__skip_op(p, '['))
            n = subscript(p, n);
        else if (template__at_op(p, '('))
            n = call(p, n);
        else
            return n;
    }
}

/* "a.b" is one name of a filter or test. */
static struct value dotted_name(struct parser *p)
{
    const struct str *first = template__expect_name(p);
    if (!template__at_op(p, '.')) return v_str(first);
    struct builder b = template__builder(p->r);
    template__put_str(&b, first);
    while (template__skip_op(p, '.')) {
        template__put_cstr(&b, ".");
        template__put_str(&b, template__expect_name(p));
    }
    return template__built(&b);
}

struct node *template__filters_of(struct parser *p, struct node *of, bool started)
{
    while (started || template__skip_op(p, '|')) {
        started = false;
        struct node *n = template__node(p, N_FILTER);
        n->k[0] = of;
        n->v = dotted_name(p);
        n->native = template__filter_named(n->v.s);
        if (template__at_op(p, '(')) n->k[1] = arguments(p);
        of = n;
    }
    return of;
}

/* x is defined, x is not divisibleby(3), x is divisibleby 3 */
static struct node *test(struct parser *p, struct node *of)
{
    bool negated = template__skip_name(p, "not");
    struct node *n = template__node(p, N_TEST);
    n->k[0] = of;
    n->v = dotted_name(p);
    n->native = template__test_named(n->v.s);
    int type = p->at->type;
    bool operand = type == T_NAME || type == T_STRING || type == T_INT || type == T_FLOAT ||
                   template__at_op(p, '[') || template__at_op(p, '{');
    if (template__at_op(p, '(')) {
        n->k[1] = arguments(p);
    } else if (operand && !template__at_name(p, "else") && !template__at_name(p, "or") &&
               !template__at_name(p, "and")) {
        if (template__at_name(p, "is")) template__unexpected(p, "the end of the test");
        n->k[1] = template__node(p, N_ARG);
        n->k[1]->k[0] = postfix(p, primary(p));
    }
    if (!negated) return n;
    struct node *not = template__node(p, N_NOT);
    not ->k[0] = n;
    return not ;
}

static struct node *unary(struct parser *p, bool filters)
{
    struct node *n;
    template__enter(p->r);
    if (template__at_op(p, '-') || template__at_op(p, '+')) {
        n = template__node(p, template__at_op(p, '-') ? N_NEG : N_POS);
        p->at++;
        n->k[0] = unary(p, false);
    } else {
        n = primary(p);
    }
    n = postfix(p, n);
    while (filters) {
        if (template__at_op(p, '|'))
            n = template__filters_of(p, n, false);
        else if (template__skip_name(p, "is"))
            n = test(p, n);
        else if (template__at_op(p, '('))
            n = call(p, n);
        else
            break;
    }
    template__leave(p->r);
    return n;
}
