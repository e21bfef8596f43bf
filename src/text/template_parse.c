/* Tokens -> the tree: statements, and what both halves of the parser need. Each statement is read
 * by one function, in the order of the table at the end.
 *
 * The invariant: break and continue stand inside a loop, assignments go to names, and no loop
 * assigns to `loop`. Inheritance, imports and recursive loops are refused by name.
 */
#include "template_int.h"

struct node *template__node(struct parser *p, enum node_type type)
{
    struct node *n = template__alloc(p->r, 1, sizeof *n);
    n->type = (uint8_t)type;
    n->line = p->r->line = p->at->line;
    return n;
}

void template__unexpected(struct parser *p, const char *wanted)
{
    const struct token *t = p->at;
    p->r->line = t->line;
    static const char *const what[] = {"the end of the template",
                                       "text",
                                       "{{",
                                       "}}",
                                       "{%",
                                       "%}",
                                       "",
                                       "a string",
                                       "a number",
                                       "a number"};
    if (t->type == T_NAME)
        template__bad(p->r, "'%.*s' stands where %s is expected", (int)t->v.s->n, t->v.s->p,
                      wanted);
    if (t->type == T_OP)
        template__bad(p->r, "'%c%c' stands where %s is expected", t->op & 255,
                      t->op >> 8 ? t->op >> 8 : ' ', wanted);
    template__bad(p->r, "%s stands where %s is expected", what[t->type], wanted);
}

bool template__at_op(const struct parser *p, int op)
{
    return p->at->type == T_OP && p->at->op == op;
}

bool template__at_name(const struct parser *p, const char *name)
{
    return p->at->type == T_NAME && template__is(p->at->v.s, name);
}

bool template__skip_op(struct parser *p, int op)
{
    bool is = template__at_op(p, op);
    p->at += is;
    return is;
}

bool template__skip_name(struct parser *p, const char *name)
{
    bool is = template__at_name(p, name);
    p->at += is;
    return is;
}

void template__expect_op(struct parser *p, int op)
{
    char text[] = {'\'', (char)op, '\'', 0};
    if (!template__skip_op(p, op)) template__unexpected(p, text);
}

static void expect_name(struct parser *p, const char *name)
{
    if (!template__skip_name(p, name)) template__unexpected(p, name);
}

const struct str *template__expect_name(struct parser *p)
{
    if (p->at->type != T_NAME) template__unexpected(p, "a name");
    return (p->at++)->v.s;
}

static void expect(struct parser *p, enum token_type type, const char *wanted)
{
    if (p->at->type != type) template__unexpected(p, wanted);
    p->at++;
}

uint32_t template__symbol(struct parser *p, const struct str *name)
{
    struct template *t = p->t;
    bool ok = true;
    uint32_t sym = map_put(&t->symbols, name->p, name->n, t->n_names, &ok);
    if (!ok) template__fail(p->r, ERR_MEMORY, "out of memory for %u names", t->n_names);
    if (sym != MAP_NONE) return sym;
    if (t->n_names == t->room_names) {
        uint32_t room = t->room_names ? t->room_names * 2 : 32;
        struct str *grown = template__alloc(p->r, room, sizeof *grown);
        if (t->n_names) memcpy(grown, t->names, t->n_names * sizeof *grown);
        t->names = grown;
        t->room_names = room;
    }
    t->names[t->n_names] = *name;
    return t->n_names++;
}

/* ---- statements ---- */

static struct node *statements(struct parser *p, const char *const *ends);

/* The inside of a statement, up to one of the ends, whose name is the next token. */
static struct node *body(struct parser *p, const char *const *ends)
{
    template__skip_op(p, ':');
    expect(p, T_END_BLOCK, "%}");
    struct node *n = statements(p, ends);
    if (p->at->type == T_EOF) {
        p->r->line = p->at->line;
        template__bad(p->r, "the template ends where %s is expected", ends[0]);
    }
    return n;
}

/* The same, with one end, which is skipped. */
static struct node *whole_body(struct parser *p, const char *end)
{
    struct node *n = body(p, (const char *const[]){end, NULL});
    p->at++;
    return n;
}

/* A body whose text is wanted as a value: no loop outside can be left from inside. */
static struct node *function_body(struct parser *p, const char *end)
{
    int loops = p->loops;
    p->loops = 0;
    struct node *n = whole_body(p, end);
    p->loops = loops;
    return n;
}

/* What is assigned to must be names; the tree of an expression is rewritten into targets. */
static void check_target(struct parser *p, const struct node *n)
{
    if (n->type == N_TUPLE) {
        for (const struct node *k = n->k[0]; k; k = k->next) check_target(p, k);
        return;
    }
    if (n->type != N_NAME && n->type != N_TARGET)
        template__bad(p->r, "only names can be assigned to");
    if (p->loops && template__is(&p->t->names[n->sym], "loop"))
        template__bad(p->r, "'loop' cannot be assigned to inside a loop");
}

/* One target: a name, a namespace's attribute, or targets in brackets. */
static struct node *target(struct parser *p, const char *stop, bool namespaces);

static struct node *one_target(struct parser *p, bool namespaces)
{
    struct node *n;
    if (template__skip_op(p, '(')) {
        template__enter(p->r);
        n = target(p, NULL, namespaces);
        template__leave(p->r);
        template__expect_op(p, ')');
        return n;
    }
    n = template__node(p, N_NAME);
    const struct str *name = template__expect_name(p);
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (template__is(name, constants[i])) template__bad(p->r, "a constant is assigned to");
    n->sym = template__symbol(p, name);
    if (namespaces && template__skip_op(p, '.')) {
        n->type = N_TARGET;
        n->v = v_str(template__expect_name(p));
    }
    return n;
}

static struct node *target(struct parser *p, const char *stop, bool namespaces)
{
    struct node *first = one_target(p, namespaces), *tuple = NULL, **tail = &first->next;
    while (template__at_op(p, ',')) {
        if (!tuple) {
            tuple = template__node(p, N_TUPLE);
            tuple->k[0] = first;
        }
        p->at++;
        if (template__at_op(p, ')') || template__at_op(p, '=') || p->at->type == T_END_BLOCK ||
            (stop && template__at_name(p, stop)))
            break;
        *tail = one_target(p, namespaces);
        tail = &(*tail)->next;
    }
    struct node *n = tuple ? tuple : first;
    check_target(p, n);
    return n;
}

static struct node *set(struct parser *p)
{
    struct node *n = template__node(p, N_SET);
    n->k[0] = target(p, NULL, true);
    if (template__skip_op(p, '=')) {
        n->k[1] = template__tuple(p, true, NULL);
        return n;
    }
    n->type = N_SET_BLOCK;
    n->k[1] = template__filters_of(p, NULL, false);
    n->k[2] = function_body(p, "endset");
    return n;
}

static struct node *for_loop(struct parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct node *n = template__node(p, N_FOR);
    p->loops++;
    n->k[0] = target(p, "in", false);
    expect_name(p, "in");
    n->k[1] = template__tuple(p, false, "recursive");
    if (template__skip_name(p, "if")) n->k[2] = template__expression(p, true);
    if (template__at_name(p, "recursive")) template__fail(p->r, ERR_UNSUPPORTED, "recursive loops");
    n->sym = template__symbol(p, template__cstr(p->r, "loop").s);
    n->k[3] = body(p, ends);
    p->loops--;
    if (template__skip_name(p, "else"))
        n->k[4] = whole_body(p, "endfor");
    else
        p->at++;
    return n;
}

static struct node *if_else(struct parser *p)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    struct node *n = template__node(p, N_IF), **tail = &n->k[0];
    do {
        struct node *branch = *tail = template__node(p, N_BRANCH);
        tail = &branch->next;
        branch->k[0] = template__tuple(p, false, NULL);
        branch->k[1] = body(p, ends);
    } while (template__skip_name(p, "elif"));
    if (template__skip_name(p, "else")) {
        *tail = template__node(p, N_BRANCH);
        (*tail)->k[1] = whole_body(p, "endif");
    } else {
        p->at++;
    }
    return n;
}

/* "(a, b=1)" as N_PARAMs. */
static struct node *signature(struct parser *p)
{
    struct node *first = NULL, **tail = &first;
    bool defaults = false;
    template__expect_op(p, '(');
    while (!template__skip_op(p, ')')) {
        if (first) template__expect_op(p, ',');
        struct node *param = template__node(p, N_PARAM);
        param->v = v_str(template__expect_name(p));
        param->sym = template__symbol(p, param->v.s);
        for (const struct node *q = first; q; q = q->next) {
            template__step(p->r, 0);
            if (q->sym == param->sym) template__bad(p->r, "a parameter stands twice");
        }
        if (template__skip_op(p, '=')) {
            param->k[0] = template__expression(p, true);
            defaults = true;
        } else if (defaults) {
            template__bad(p->r, "a parameter without default follows one with a default");
        }
        *tail = param;
        tail = &param->next;
    }
    return first;
}

/* The body of a macro or a call, and which of the special names it uses. */
static void closure_body(struct parser *p, struct node *n, const char *end)
{
    uint8_t outer = p->uses;
    p->uses = 0;
    n->k[1] = function_body(p, end);
    n->uses = p->uses;
    p->uses |= outer;
}

static struct node *macro(struct parser *p)
{
    struct node *n = template__node(p, N_MACRO);
    n->v = v_str(template__expect_name(p));
    n->sym = template__symbol(p, n->v.s);
    n->k[0] = signature(p);
    closure_body(p, n, "endmacro");
    return n;
}

static struct node *call_block(struct parser *p)
{
    struct node *n = template__node(p, N_CALL_BLOCK);
    if (template__at_op(p, '(')) n->k[0] = signature(p);
    n->k[2] = template__expression(p, true);
    if (n->k[2]->type != N_CALL) template__bad(p->r, "'call' wants a call");
    n->v = template__cstr(p->r, "caller");
    closure_body(p, n, "endcall");
    return n;
}

static struct node *filter_block(struct parser *p)
{
    struct node *n = template__node(p, N_FILTER_BLOCK);
    n->k[0] = template__filters_of(p, NULL, true);
    n->k[1] = function_body(p, "endfilter");
    return n;
}

static struct node *with(struct parser *p)
{
    struct node *n = template__node(p, N_WITH), **tail = &n->k[0];
    while (p->at->type != T_END_BLOCK) {
        if (n->k[0]) template__expect_op(p, ',');
        *tail = target(p, NULL, false);
        template__expect_op(p, '=');
        (*tail)->next = template__expression(p, true);
        tail = &(*tail)->next->next;
    }
    n->k[1] = whole_body(p, "endwith");
    return n;
}

static struct node *generation(struct parser *p)
{
    struct node *n = template__node(p, N_SCOPE);
    n->k[0] = function_body(p, "endgeneration");
    return n;
}

static struct node *print(struct parser *p)
{
    struct node *first = NULL, **tail = &first;
    while (p->at->type != T_END_BLOCK) {
        if (first) template__expect_op(p, ',');
        *tail = template__node(p, N_PRINT);
        (*tail)->k[0] = template__expression(p, true);
        tail = &(*tail)->next;
    }
    return first;
}

static struct node *leave_loop(struct parser *p)
{
    p->at--; /* both have the same parser: the word says which */
    bool is_break = template__at_name(p, "break");
    if (!p->loops) template__unexpected(p, "a statement that may stand outside a loop");
    struct node *n = template__node(p, is_break ? N_BREAK : N_CONTINUE);
    p->at++;
    return n;
}

static struct node *statement(struct parser *p)
{
    static const struct {
        const char *name;
        struct node *(*parse)(struct parser *);
    } all[] = {
        {"if", if_else},       {"for", for_loop},          {"set", set},
        {"macro", macro},      {"call", call_block},       {"filter", filter_block},
        {"with", with},        {"generation", generation}, {"print", print},
        {"break", leave_loop}, {"continue", leave_loop},
    };
    static const char *const refused[] = {"block",  "extends", "include",
                                          "import", "from",    "autoescape"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (template__skip_name(p, all[i].name)) return all[i].parse(p);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (template__at_name(p, refused[i]))
            template__fail(p->r, ERR_UNSUPPORTED, "the statement '%s'", refused[i]);
    template__unexpected(p, "a statement");
}

/* Up to the end of the template or to a tag that begins with one of the ends (NULL: none). */
static struct node *statements(struct parser *p, const char *const *ends)
{
    struct node *first = NULL, **tail = &first;
    template__enter(p->r);
    while (p->at->type != T_EOF) {
        struct node *n;
        if (p->at->type == T_DATA) {
            n = template__node(p, N_TEXT);
            n->v = (p->at++)->v;
        } else if (p->at->type == T_BEGIN_PRINT) {
            n = template__node(p, N_PRINT);
            p->at++;
            n->k[0] = template__tuple(p, true, NULL);
            expect(p, T_END_PRINT, "}}");
        } else {
            p->at++;
            for (const char *const *end = ends; *end; end++)
                if (template__at_name(p, *end)) goto out;
            n = statement(p);
            expect(p, T_END_BLOCK, "%}");
        }
        *tail = n;
        while (*tail) tail = &(*tail)->next;
    }
out:
    template__leave(p->r);
    return first;
}

void template__parse(struct run *r, struct template *t, const struct token *tokens)
{
    struct parser p = {.r = r, .t = t, .at = tokens};
    t->body = statements(&p, (const char *const[]){NULL});
}
