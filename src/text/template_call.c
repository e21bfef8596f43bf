/* Calls: arguments bound to parameters, of functions in C and of macros, and the functions that
 * every template can call by name.
 */
#include "template_int.h"

#include <time.h>

/* ---- natives ---- */

enum { PARAMS_MAX = 8 };

int64_t template__arg_int(struct run *r, struct value v, int64_t otherwise)
{
    int64_t i = otherwise;
    if (v.kind != V_MISSING && !template__integral(v, &i)) {
        template__need(r, v);
        template__bad(r, "an integer is wanted, not a %s", template__type(v));
    }
    return i;
}

bool template__arg_bool(struct value v, bool otherwise)
{
    return v.kind == V_MISSING ? otherwise : template__truth(v);
}

const struct str *template__arg_str(struct run *r, struct value v)
{
    template__need(r, v);
    if (v.kind != V_STRING) template__bad(r, "a string is wanted, not a %s", template__type(v));
    return v.s;
}

/* The place of a name in "a,b,c", or -1; the number of names when name is NULL. */
static int place(const char *params, const struct str *name)
{
    int i = 0;
    for (const char *p = params; *p; i++) {
        size_t n = strcspn(p, ",");
        if (name && name->n == n && memcmp(name->p, p, n) == 0) return i;
        p += n + (p[n] == ',');
    }
    return name ? -1 : i;
}

/* Natives may call natives: map does. */
static struct value run(struct run *r, const struct native *f, struct value self,
                        const struct args *a)
{
    template__enter(r);
    struct value v = f->fn(r, self, a);
    template__leave(r);
    return v;
}

struct value template__native(struct run *r, const struct native *f, struct value self,
                              const struct args *a)
{
    template__step(r, 0);
    if (!f->params) return run(r, f, self, a);
    struct value v[PARAMS_MAX] = {0};
    bool by_position = f->params[0] == '/';
    const char *params = f->params + by_position;
    int n = place(params, NULL);
    if (a->n > (uint32_t)n)
        template__bad(r, "%s takes at most %d arguments, not %u", f->name, n, a->n);
    for (uint32_t i = 0; i < a->n; i++) v[i] = a->v[i];
    for (uint32_t i = 0; i < a->n_kw; i++) {
        const struct str *name = a->kw[i].key.s;
        int k = by_position ? -1 : place(params, name);
        if (k < 0 || v[k].kind != V_MISSING)
            template__bad(r, "%s has no argument '%.*s', or it is given twice", f->name,
                          (int)name->n, name->p);
        v[k] = a->kw[i].value;
    }
    for (int i = 0; i < f->min; i++)
        if (v[i].kind == V_MISSING) template__bad(r, "%s wants more arguments", f->name);
    return run(r, f, self, &(struct args){.v = v, .n = (uint32_t)n});
}

/* ---- macros ---- */

static bool take(struct dict *kw, const struct str *name, struct value *out)
{
    for (uint32_t i = 0; i < kw->n; i++)
        if (kw->at[i].key.kind == V_STRING && template__same(kw->at[i].key.s, name)) {
            *out = kw->at[i].value;
            memmove(kw->at + i, kw->at + i + 1, (kw->n - i - 1) * sizeof *kw->at);
            kw->n--;
            return true;
        }
    return false;
}

/* A name that a macro has without declaring it, when its body uses it; false when not. */
static bool bind_special(struct run *r, struct frame *f, const struct node *macro, int use,
                         struct value v)
{
    static const char *const names[] = {
        [USES_CALLER] = "caller", [USES_VARARGS] = "varargs", [USES_KWARGS] = "kwargs"};
    if (!(macro->uses & use)) return false;
    uint32_t sym = map_get(&r->t->symbols, names[use], (uint32_t)strlen(names[use]));
    template__assign(r, f, sym, v);
    return true;
}

static struct value call_macro(struct run *r, const struct macro *m, const struct args *a)
{
    struct frame *f = template__frame(r, m->up);
    struct dict kw = {0};
    for (uint32_t i = 0; i < a->n_kw; i++) template__append(r, &kw, a->kw[i].key, a->kw[i].value);
    uint32_t n = 0;
    bool own_caller = false;
    for (const struct node *p = m->node->k[0]; p; p = p->next, n++) {
        struct value v = {.kind = V_UNDEFINED, .of = V_MISSING, .s = p->v.s};
        own_caller = own_caller || template__is(p->v.s, "caller");
        if (n < a->n)
            v = a->v[n];
        else if (!take(&kw, p->v.s, &v) && p->k[0])
            v = template__eval(r, f, p->k[0]);
        template__assign(r, f, p->sym, v);
    }
    const struct node *macro = m->node;
    if (!own_caller && macro->uses & USES_CALLER) {
        const struct str *name = template__cstr(r, "caller").s;
        struct value caller = {.kind = V_UNDEFINED, .of = V_MISSING, .s = name};
        take(&kw, name, &caller);
        bind_special(r, f, macro, USES_CALLER, caller);
    }
    struct list *rest = template__list_new(r, 0);
    for (uint32_t i = n; i < a->n; i++) template__push(r, rest, a->v[i]);
    if (!bind_special(r, f, macro, USES_VARARGS, v_tuple(rest)) && rest->n)
        template__bad(r, "a macro takes at most %u arguments, not %u", n, a->n);
    struct dict *named = template__dict_new(r, 0);
    *named = kw;
    if (!bind_special(r, f, macro, USES_KWARGS, v_dict(named)) && kw.n)
        template__bad(r, "a macro has no argument '%.*s'", (int)kw.at[0].key.s->n,
                      kw.at[0].key.s->p);
    return template__capture(r, f, m->node->k[1]);
}

struct value template__call(struct run *r, struct value callee, const struct args *a)
{
    template__need(r, callee);
    if (callee.kind == V_FUNCTION) return template__native(r, callee.native, v_none(), a);
    if (callee.kind == V_METHOD)
        return template__native(r, callee.method->native, callee.method->self, a);
    if (callee.kind != V_MACRO) template__bad(r, "a %s cannot be called", template__type(callee));
    template__enter(r);
    uint32_t line = r->line;
    struct value v = call_macro(r, callee.macro, a);
    r->line = line;
    template__leave(r);
    return v;
}

/* ---- functions ---- */

enum { RANGE_MAX = 100000 }; /* the sandbox's, so not one of ours */

static struct value range(struct run *r, struct value self, const struct args *a)
{
    (void)self;
    struct range *x = template__alloc(r, 1, sizeof *x);
    bool one = a->v[1].kind == V_MISSING;
    x->start = one ? 0 : template__arg_int(r, a->v[0], 0);
    x->stop = template__arg_int(r, a->v[one ? 0 : 1], 0);
    x->step = template__arg_int(r, a->v[2], 1);
    if (x->step == 0) template__bad(r, "a range with step 0");
    __int128 span = x->step > 0 ? (__int128)x->stop - x->start : (__int128)x->start - x->stop;
    __int128 by = x->step > 0 ? (__int128)x->step : -(__int128)x->step;
    __int128 n = span > 0 ? (span - 1) / by + 1 : 0;
    if (n > RANGE_MAX) template__fail(r, ERR_LIMIT, "a range of more than %d", RANGE_MAX);
    x->n = (uint32_t)n;
    return (struct value){.kind = V_RANGE, .range = x};
}

/* dict(mapping or pairs, name=value ...) */
static struct dict *make_dict(struct run *r, const struct args *a)
{
    struct dict *d = template__dict_new(r, 0);
    if (a->n > 1) template__bad(r, "dict takes one argument, not %u", a->n);
    if (a->n && a->v[0].kind == V_DICT) {
        for (uint32_t i = 0; i < a->v[0].dict->n; i++)
            template__append(r, d, a->v[0].dict->at[i].key, a->v[0].dict->at[i].value);
    } else if (a->n) {
        const struct list *pairs = template__items(r, a->v[0]);
        for (uint32_t i = 0; i < pairs->n; i++) {
            const struct list *pair = template__items(r, pairs->at[i]);
            if (pair->n != 2) template__bad(r, "dict wants pairs, not %u values", pair->n);
            template__set(r, d, pair->at[0], pair->at[1]);
        }
    }
    for (uint32_t i = 0; i < a->n_kw; i++) template__set(r, d, a->kw[i].key, a->kw[i].value);
    return d;
}

static struct value dict(struct run *r, struct value self, const struct args *a)
{
    (void)self;
    return v_dict(make_dict(r, a));
}

static struct value namespace(struct run *r, struct value self, const struct args *a)
{
    (void)self;
    return (struct value){.kind = V_NAMESPACE, .space = make_dict(r, a)};
}

static struct value raise_exception(struct run *r, struct value self, const struct args *a)
{
    (void)self;
    const struct str *s = template__string(r, a->v[0]);
    template__bad(r, "%.*s", (int)s->n, s->p);
}

static struct value strftime_now(struct run *r, struct value self, const struct args *a)
{
    (void)self;
    const struct str *format = template__arg_str(r, a->v[0]);
    char text[1024], fmt[256];
    struct tm tm;
    time_t now = (time_t)r->now_s;
    if (format->n >= sizeof fmt || memchr(format->p, 0, format->n))
        template__bad(r, "a date format of more than %zu bytes", sizeof fmt - 1);
    memcpy(fmt, format->p, format->n);
    fmt[format->n] = 0;
    if (!localtime_r(&now, &tm)) template__bad(r, "a date that no calendar has");
    return template__text(r, text, strftime(text, sizeof text, fmt, &tm), NULL);
}

const struct native template__functions[] = {
    {"range", range, "/start,stop,step", 1},     {"dict", dict, NULL, 0},
    {"namespace", namespace, NULL, 0},           {"raise_exception", raise_exception, "message", 1},
    {"strftime_now", strftime_now, "format", 1}, {0},
};
