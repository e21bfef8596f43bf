/* Statements of the tree, printed into r->out. Frames make the scopes of Jinja: a loop's body, a
 * macro, a with, a block whose text is captured have their own; an if has none. A namespace is the
 * one thing that can be changed from an inner scope.
 */
#include "template_int.h"

struct frame *template__frame(struct run *r, struct frame *up)
{
    struct frame *f = template__alloc(r, 1, sizeof *f);
    f->up = up;
    return f;
}

/* An empty scope: the one used before, when nothing still sees it. */
static struct frame *scope(struct run *r, struct frame *used, struct frame *up)
{
    if (!used || used->kept) return template__frame(r, up);
    used->n = 0;
    return used;
}

void template__assign(struct run *r, struct frame *f, uint32_t sym, struct value v)
{
    if (!f->up) { /* the root has a place for every name */
        f->vars[sym].v = v;
        return;
    }
    template__step(r, f->n * 8);
    for (uint32_t i = 0; i < f->n; i++)
        if (f->vars[i].sym == sym) {
            f->vars[i].v = v;
            return;
        }
    if (f->n == f->room) {
        uint32_t room = f->room ? f->room * 2 : 4;
        struct var *grown = template__alloc(r, room, sizeof *grown);
        if (f->n) memcpy(grown, f->vars, f->n * sizeof *grown);
        f->vars = grown;
        f->room = room;
    }
    f->vars[f->n++] = (struct var){sym, v};
}

static void assign_attribute(struct run *r, struct frame *f, const struct node *target,
                             struct value v)
{
    struct node name = {.type = N_NAME, .sym = target->sym, .line = target->line};
    struct value space = template__eval(r, f, &name);
    if (space.kind != V_NAMESPACE)
        template__bad(r, "an attribute of a %s cannot be set", template__type(space));
    template__set(r, space.space, target->v, v);
}

void template__unpack(struct run *r, struct frame *f, const struct node *target, struct value v)
{
    if (target->type == N_NAME) {
        template__assign(r, f, target->sym, v);
        return;
    }
    if (target->type == N_TARGET) {
        assign_attribute(r, f, target, v);
        return;
    }
    template__enter(r);
    const struct list *l = template__items(r, v);
    uint32_t i = 0;
    for (const struct node *k = target->k[0]; k; k = k->next, i++)
        if (i < l->n) template__unpack(r, f, k, l->at[i]);
    if (i != l->n) template__bad(r, "%u values are unpacked into %u names", l->n, i);
    template__leave(r);
}

struct value template__capture(struct run *r, struct frame *f, const struct node *n)
{
    struct builder b = template__builder(r), *outer = r->out;
    r->out = &b;
    template__exec(r, f, n);
    r->out = outer;
    return template__built(&b);
}

/* ---- for ---- */

/* The next element that the loop's filter lets through; V_MISSING at the end. */
static struct value advance(struct run *r, struct loop *l)
{
    while (l->at < l->items->n) {
        struct value v = l->items->at[l->at++];
        if (!l->filtered) return v;
        l->inner = scope(r, l->inner, l->up);
        template__unpack(r, l->inner, l->node->k[0], v);
        if (template__truth(template__eval(r, l->inner, l->node->k[2]))) return v;
    }
    return (struct value){.kind = V_MISSING};
}

static struct value peek(struct run *r, struct loop *l)
{
    if (l->next.kind == V_MISSING && !l->ended) {
        l->next = advance(r, l);
        l->ended = l->next.kind == V_MISSING;
    }
    return l->next;
}

/* Known from the start without a filter; with one, the rest is filtered to count it. */
static int64_t loop_length(struct run *r, struct loop *l)
{
    if (l->length != UINT32_MAX) return l->length;
    peek(r, l);
    struct list *rest = template__list_new(r, 0);
    for (struct value v; (v = advance(r, l)).kind != V_MISSING;) template__push(r, rest, v);
    l->length = l->index0 + 1 + !l->ended + rest->n;
    l->items = rest;
    l->at = 0;
    l->filtered = false;
    return l->length;
}

struct value template__loop_attr(struct run *r, struct loop *l, const struct str *name)
{
    int64_t i = l->index0;
    struct value undefined = {.kind = V_UNDEFINED, .of = V_LOOP, .s = name};
    if (template__is(name, "index")) return v_int(i + 1);
    if (template__is(name, "index0")) return v_int(i);
    if (template__is(name, "first")) return v_bool(i == 0);
    if (template__is(name, "last")) return v_bool(peek(r, l).kind == V_MISSING);
    if (template__is(name, "length")) return v_int(loop_length(r, l));
    if (template__is(name, "revindex")) return v_int(loop_length(r, l) - i);
    if (template__is(name, "revindex0")) return v_int(loop_length(r, l) - i - 1);
    if (template__is(name, "depth")) return v_int(1);
    if (template__is(name, "depth0")) return v_int(0);
    if (template__is(name, "previtem")) return i ? l->prev : undefined;
    if (template__is(name, "nextitem")) {
        struct value v = peek(r, l);
        return v.kind == V_MISSING ? undefined : v;
    }
    return (struct value){.kind = V_MISSING};
}

static struct value cycle(struct run *r, struct value self, const struct args *a)
{
    if (a->n == 0 || a->n_kw) template__bad(r, "loop.cycle wants values to choose from");
    return a->v[self.loop->index0 % a->n];
}

static struct value changed(struct run *r, struct value self, const struct args *a)
{
    struct list *now = template__list_new(r, a->n);
    for (uint32_t i = 0; i < a->n; i++) template__push(r, now, a->v[i]);
    const struct list *before = self.loop->changed;
    self.loop->changed = now;
    return v_bool(!before || !template__equal(r, v_list(before), v_list(now)));
}

const struct native template__loop_methods[] = {
    {"cycle", cycle, NULL, 0}, {"changed", changed, NULL, 0}, {0}};

static void for_loop(struct run *r, struct frame *f, const struct node *n)
{
    struct loop *l = template__alloc(r, 1, sizeof *l);
    l->items = template__items(r, template__eval(r, f, n->k[1]));
    l->node = n;
    l->up = f;
    l->filtered = n->k[2] != NULL;
    l->length = l->filtered ? UINT32_MAX : l->items->n;
    struct frame *body = NULL;
    bool whole = false; /* an iteration reached the end of the body */
    struct value loop = {.kind = V_LOOP, .loop = l};
    for (uint32_t i = 0;; i++) {
        struct value v = peek(r, l);
        if (v.kind == V_MISSING) break;
        l->next = (struct value){.kind = V_MISSING};
        l->prev = l->item;
        l->item = v;
        l->index0 = i;
        body = scope(r, body, f);
        template__assign(r, body, n->sym, loop);
        template__unpack(r, body, n->k[0], v);
        enum flow flow = template__exec(r, body, n->k[3]);
        if (flow == FLOW_BREAK) break;
        whole = whole || flow == FLOW_NEXT;
    }
    if (!whole && n->k[4]) template__exec(r, template__frame(r, f), n->k[4]);
}

/* ---- the others ---- */

static enum flow if_else(struct run *r, struct frame *f, const struct node *n)
{
    for (const struct node *k = n->k[0]; k; k = k->next)
        if (!k->k[0] || template__truth(template__eval(r, f, k->k[0])))
            return template__exec(r, f, k->k[1]);
    return FLOW_NEXT;
}

static void set_block(struct run *r, struct frame *f, const struct node *n)
{
    struct frame *inner = template__frame(r, f);
    struct value v = template__capture(r, inner, n->k[2]);
    if (n->k[1]) v = template__apply_filters(r, inner, n->k[1], v);
    template__unpack(r, f, n->k[0], v);
}

static struct value closure(struct run *r, struct frame *f, const struct node *n)
{
    struct macro *m = template__alloc(r, 1, sizeof *m);
    *m = (struct macro){n, f};
    for (; f; f = f->up) f->kept = true;
    return (struct value){.kind = V_MACRO, .macro = m};
}

/* What is printed without an expression is not made a string first. */
static void put_text(struct run *r, struct value v)
{
    if (v.kind != V_STRING) template__bad(r, "a block became a %s", template__type(v));
    template__put_str(r->out, v.s);
}

/* The call gets the block as `caller`. */
static void call_block(struct run *r, struct frame *f, const struct node *n)
{
    const struct node *call = n->k[2];
    struct value callee = template__eval(r, f, call->k[0]);
    struct args a = template__args(r, f, call->k[1]);
    struct dict named = {0};
    for (uint32_t i = 0; i < a.n_kw; i++) template__append(r, &named, a.kw[i].key, a.kw[i].value);
    template__set(r, &named, n->v, closure(r, f, n));
    a.kw = named.at;
    a.n_kw = named.n;
    put_text(r, template__call(r, callee, &a));
}

static enum flow with(struct run *r, struct frame *f, const struct node *n)
{
    struct frame *inner = template__frame(r, f);
    for (const struct node *k = n->k[0]; k; k = k->next->next)
        template__unpack(r, inner, k, template__eval(r, f, k->next));
    return template__exec(r, inner, n->k[1]);
}

static void filter_block(struct run *r, struct frame *f, const struct node *n)
{
    struct frame *inner = template__frame(r, f);
    struct value v = template__capture(r, inner, n->k[1]);
    put_text(r, template__apply_filters(r, inner, n->k[0], v));
}

static enum flow statement(struct run *r, struct frame *f, const struct node *n)
{
    switch ((enum node_type)n->type) {
    case N_TEXT: template__put_str(r->out, n->v.s); break;
    case N_PRINT: template__put_value(r->out, template__eval(r, f, n->k[0])); break;
    case N_IF: return if_else(r, f, n);
    case N_FOR: for_loop(r, f, n); break;
    case N_SET: template__unpack(r, f, n->k[0], template__eval(r, f, n->k[1])); break;
    case N_SET_BLOCK: set_block(r, f, n); break;
    case N_MACRO: template__assign(r, f, n->sym, closure(r, f, n)); break;
    case N_CALL_BLOCK: call_block(r, f, n); break;
    case N_FILTER_BLOCK: filter_block(r, f, n); break;
    case N_WITH: return with(r, f, n);
    case N_SCOPE: template__exec(r, template__frame(r, f), n->k[0]); break;
    case N_BREAK: return FLOW_BREAK;
    case N_CONTINUE: return FLOW_CONTINUE;
    default: template__bad(r, "a value stands where a statement is expected");
    }
    return FLOW_NEXT;
}

enum flow template__exec(struct run *r, struct frame *f, const struct node *n)
{
    enum flow flow = FLOW_NEXT;
    template__enter(r);
    for (; n && flow == FLOW_NEXT; n = n->next) {
        template__step(r, 0);
        r->line = n->line;
        flow = statement(r, f, n);
    }
    template__leave(r);
    return flow;
}
