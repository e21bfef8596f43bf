/* Values as Python has them: lists and dicts, truth, equality, order, membership, str() and
 * repr(). Lists and dicts are small in templates, so dicts are searched from end to end and the
 * work is charged to the steps.
 */
#include "template_int.h"

#include "unicode.h"

#include <math.h>

/* ---- lists and dicts ---- */

struct list *template__list_new(struct run *r, uint32_t room)
{
    struct list *l = template__alloc(r, 1, sizeof *l);
    l->at = room ? template__alloc(r, room, sizeof *l->at) : NULL;
    l->room = room;
    return l;
}

void template__push(struct run *r, struct list *l, struct value v)
{
    if (l->n == l->room) {
        uint32_t room = l->room ? l->room * 2 : 4;
        struct value *grown = template__alloc(r, room, sizeof *grown);
        if (l->n) memcpy(grown, l->at, l->n * sizeof *grown);
        l->at = grown;
        l->room = room;
    }
    template__step(r, 0);
    l->at[l->n++] = v;
}

struct dict *template__dict_new(struct run *r, uint32_t room)
{
    struct dict *d = template__alloc(r, 1, sizeof *d);
    d->at = room ? template__alloc(r, room, sizeof *d->at) : NULL;
    d->room = room;
    return d;
}

void template__append(struct run *r, struct dict *d, struct value key, struct value v)
{
    if (d->n == d->room) {
        uint32_t room = d->room ? d->room * 2 : 4;
        struct pair *grown = template__alloc(r, room, sizeof *grown);
        if (d->n) memcpy(grown, d->at, d->n * sizeof *grown);
        d->at = grown;
        d->room = room;
    }
    template__step(r, 0);
    d->at[d->n++] = (struct pair){key, v};
}

bool template__hashable(struct value v)
{
    if (v.kind == V_TUPLE) {
        for (uint32_t i = 0; i < v.list->n; i++)
            if (!template__hashable(v.list->at[i])) return false;
        return true;
    }
    return v.kind != V_LIST && v.kind != V_DICT && v.kind != V_VIEW;
}

static struct pair *find(struct run *r, const struct dict *d, struct value key)
{
    if (!template__hashable(key)) template__bad(r, "a %s cannot be a key", template__type(key));
    template__step(r, d->n * 4);
    for (uint32_t i = 0; i < d->n; i++)
        if (template__equal(r, d->at[i].key, key)) return &d->at[i];
    return NULL;
}

const struct value *template__get(struct run *r, const struct dict *d, struct value key)
{
    const struct pair *p = find(r, d, key);
    return p ? &p->value : NULL;
}

const struct value *template__get_str(struct run *r, const struct dict *d, const struct str *key)
{
    return template__get(r, d, v_str(key));
}

void template__set(struct run *r, struct dict *d, struct value key, struct value v)
{
    struct pair *p = find(r, d, key);
    if (p)
        p->value = v;
    else
        template__append(r, d, key, v);
}

/* ---- what a value is ---- */

const char *template__type(struct value v)
{
    static const char *const names[] = {
        "missing",   "undefined", "NoneType",    "bool",  "int",       "float",
        "str",       "list",      "tuple",       "dict",  "dict view", "range",
        "generator", "Namespace", "LoopContext", "Macro", "method",    "function"};
    return names[v.kind];
}

void template__need(struct run *r, struct value v)
{
    if (v.kind != V_UNDEFINED) return;
    if (!v.s) template__bad(r, "an undefined value is used");
    if (v.of == V_MISSING) template__bad(r, "'%.*s' is undefined", (int)v.s->n, v.s->p);
    template__bad(r, "a %s has no '%.*s'", template__type((struct value){.kind = v.of}),
                  (int)v.s->n, v.s->p);
}

bool template__truth(struct value v)
{
    switch (v.kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE: return false;
    case V_BOOL: return v.b;
    case V_INT: return v.i != 0;
    case V_FLOAT: return v.f != 0;
    case V_STRING: return v.s->n > 0;
    case V_LIST:
    case V_TUPLE: return v.list->n > 0;
    case V_DICT:
    case V_VIEW: return v.dict->n > 0;
    case V_RANGE: return v.range->n > 0;
    default: return true;
    }
}

bool template__number(struct value v)
{
    return v.kind == V_INT || v.kind == V_FLOAT || v.kind == V_BOOL;
}

bool template__integral(struct value v, int64_t *out)
{
    if (v.kind == V_INT) *out = v.i;
    if (v.kind == V_BOOL) *out = v.b;
    return v.kind == V_INT || v.kind == V_BOOL;
}

double template__double(struct value v)
{
    return v.kind == V_FLOAT ? v.f : v.kind == V_INT ? (double)v.i : v.b ? 1 : 0;
}

/* ---- comparing ---- */

/* Exactly, as Python compares an int with a float; 2: one is no number. */
static int order_numbers(struct value a, struct value b)
{
    int64_t x = 0, y = 0;
    if (template__integral(a, &x) && template__integral(b, &y)) return (x > y) - (x < y);
    if (a.kind == V_FLOAT && b.kind == V_FLOAT)
        return isnan(a.f) || isnan(b.f) ? 2 : (a.f > b.f) - (a.f < b.f);
    if (a.kind == V_FLOAT) {
        int d = order_numbers(b, a);
        return d == 2 ? 2 : -d;
    }
    template__integral(a, &x);
    if (isnan(b.f)) return 2;
    if (b.f >= 0x1p63) return -1;
    if (b.f < -0x1p63) return 1;
    int64_t whole = (int64_t)b.f;
    if (x != whole) return x < whole ? -1 : 1;
    double rest = b.f - (double)whole;
    return (rest < 0) - (rest > 0);
}

static bool equal_lists(struct run *r, const struct list *a, const struct list *b)
{
    if (a->n != b->n) return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!template__equal(r, a->at[i], b->at[i])) return false;
    return true;
}

static bool equal_dicts(struct run *r, const struct dict *a, const struct dict *b)
{
    if (a->n != b->n) return false;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct value *v = template__get(r, b, a->at[i].key);
        if (!v || !template__equal(r, a->at[i].value, *v)) return false;
    }
    return true;
}

static bool equal_ranges(const struct range *a, const struct range *b)
{
    return a->n == b->n &&
           (a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

static bool equal(struct run *r, struct value a, struct value b)
{
    switch (a.kind) {
    case V_STRING: return template__same(a.s, b.s);
    case V_LIST:
    case V_TUPLE: return a.list == b.list || equal_lists(r, a.list, b.list);
    case V_DICT: return a.dict == b.dict || equal_dicts(r, a.dict, b.dict);
    case V_VIEW: return a.flag == b.flag && a.dict == b.dict;
    case V_RANGE: return equal_ranges(a.range, b.range);
    case V_METHOD:
        return a.method->native == b.method->native &&
               template__equal(r, a.method->self, b.method->self);
    case V_UNDEFINED:
    case V_NONE: return true;
    default: return a.list == b.list; /* the same object */
    }
}

bool template__equal(struct run *r, struct value a, struct value b)
{
    if (template__number(a) && template__number(b)) return order_numbers(a, b) == 0;
    if (a.kind != b.kind) return false;
    template__enter(r);
    template__step(r, a.kind == V_STRING ? a.s->n : 0);
    bool is = equal(r, a, b);
    template__leave(r);
    return is;
}

static int order_lists(struct run *r, const struct list *a, const struct list *b, const char *op)
{
    uint32_t n = a->n < b->n ? a->n : b->n;
    for (uint32_t i = 0; i < n; i++)
        if (!template__equal(r, a->at[i], b->at[i]))
            return template__order(r, a->at[i], b->at[i], op);
    return (a->n > b->n) - (a->n < b->n);
}

int template__order(struct run *r, struct value a, struct value b, const char *op)
{
    template__step(r, 0);
    if (template__number(a) && template__number(b)) return order_numbers(a, b);
    template__need(r, a);
    template__need(r, b);
    if (a.kind == V_STRING && b.kind == V_STRING) { /* the order of bytes is that of characters */
        uint32_t n = a.s->n < b.s->n ? a.s->n : b.s->n;
        template__step(r, n);
        int d = memcmp(a.s->p, b.s->p, n);
        if (d == 0) return (a.s->n > b.s->n) - (a.s->n < b.s->n);
        return d < 0 ? -1 : 1;
    }
    if (a.kind != b.kind || (a.kind != V_LIST && a.kind != V_TUPLE))
        template__bad(r, "'%s' not supported between %s and %s", op, template__type(a),
                      template__type(b));
    template__enter(r);
    int d = order_lists(r, a.list, b.list, op);
    template__leave(r);
    return d;
}

static bool in_list(struct run *r, const struct list *l, struct value x)
{
    for (uint32_t i = 0; i < l->n; i++) {
        template__step(r, 0);
        if (template__equal(r, l->at[i], x)) return true;
    }
    return false;
}

bool template__contains(struct run *r, struct value in, struct value x)
{
    if (in.kind == V_DICT || (in.kind == V_VIEW && in.flag == FLAG_KEYS))
        return template__get(r, in.dict, x) != NULL;
    if (in.kind == V_STRING) {
        template__need(r, x);
        if (x.kind != V_STRING) template__bad(r, "a %s cannot be in a string", template__type(x));
        return template__find(r, in.s, 0, in.s->n, x.s) != SIZE_MAX;
    }
    return in_list(r, template__items(r, in), x);
}

/* Merges the sorted runs [from, mid) and [mid, to) of order[]. */
static void merge(struct run *r, uint32_t *order, uint32_t *spare, const struct list *keys,
                  uint32_t from, uint32_t mid, uint32_t to, bool reverse)
{
    uint32_t a = from, b = mid, n = 0;
    while (a < mid && b < to) {
        /* Python asks only "is b less than a?", the other way round when reversed */
        struct value x = keys->at[order[a]], y = keys->at[order[b]];
        int d = reverse ? template__order(r, x, y, "<") : template__order(r, y, x, "<");
        spare[n++] = d < 0 ? order[b++] : order[a++];
    }
    while (a < mid) spare[n++] = order[a++];
    while (b < to) spare[n++] = order[b++];
    memcpy(order + from, spare, n * sizeof *order);
}

void template__sort(struct run *r, struct list *items, const struct list *keys, bool reverse)
{
    uint32_t n = items->n;
    uint32_t *order = template__alloc(r, n + 1, sizeof *order);
    uint32_t *spare = template__alloc(r, n + 1, sizeof *spare);
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t run = 1; run < n; run *= 2)
        for (uint32_t from = 0; run < n - from; from += n - from < 2 * run ? n - from : 2 * run)
            merge(r, order, spare, keys, from, from + run, n - from < 2 * run ? n : from + 2 * run,
                  reverse);
    struct value *sorted = template__alloc(r, n + 1, sizeof *sorted);
    for (uint32_t i = 0; i < n; i++) sorted[i] = items->at[order[i]];
    items->at = sorted;
}

/* ---- elements ---- */

bool template__has_length(struct value v)
{
    return v.kind == V_UNDEFINED || v.kind == V_LOOP || (v.kind >= V_STRING && v.kind <= V_RANGE);
}

uint32_t template__length(struct run *r, struct value v)
{
    switch (v.kind) {
    case V_UNDEFINED: return 0;
    case V_STRING: return v.s->chars;
    case V_LIST:
    case V_TUPLE: return v.list->n;
    case V_DICT:
    case V_VIEW: return v.dict->n;
    case V_RANGE: return v.range->n;
    default: template__bad(r, "a %s has no length", template__type(v));
    }
}

bool template__iterable(struct value v)
{
    return v.kind == V_UNDEFINED || v.kind == V_ITER || v.kind == V_LOOP ||
           (v.kind >= V_STRING && v.kind <= V_RANGE);
}

static const struct list *view_items(struct run *r, struct value v, int which)
{
    struct list *l = template__list_new(r, v.dict->n);
    for (uint32_t i = 0; i < v.dict->n; i++) {
        const struct pair *p = &v.dict->at[i];
        struct value x = which == FLAG_KEYS ? p->key : p->value;
        if (which == FLAG_ITEMS) {
            struct list *pair = template__list_new(r, 2);
            template__push(r, pair, p->key);
            template__push(r, pair, p->value);
            x = v_tuple(pair);
        }
        template__push(r, l, x);
    }
    return l;
}

static const struct list *chars(struct run *r, const struct str *s)
{
    struct list *l = template__list_new(r, s->chars);
    for (size_t i = 0; i < s->n;) {
        size_t n = unicode_at(s->p + i, s->n - i).bytes;
        template__push(r, l, template__sub(r, s, i, n));
        i += n;
    }
    return l;
}

const struct list *template__items(struct run *r, struct value v)
{
    struct list *l;
    switch (v.kind) {
    case V_UNDEFINED: return template__list_new(r, 0);
    case V_LIST:
    case V_TUPLE: return v.list;
    case V_STRING: return chars(r, v.s);
    case V_DICT: return view_items(r, v, FLAG_KEYS);
    case V_VIEW: return view_items(r, v, v.flag);
    case V_RANGE:
        l = template__list_new(r, v.range->n);
        for (uint32_t i = 0; i < v.range->n; i++)
            template__push(r, l, v_int(v.range->start + v.range->step * (int64_t)i));
        return l;
    case V_ITER:
        l = template__list_new(r, 0);
        while (v.iter->at < v.iter->list->n) template__push(r, l, v.iter->list->at[v.iter->at++]);
        return l;
    default: template__bad(r, "a %s has no elements", template__type(v));
    }
}

/* ---- printing ---- */

static void put_str_repr(struct builder *b, const struct str *s)
{
    bool single = memchr(s->p, '\'', s->n) != NULL, twice = memchr(s->p, '"', s->n) != NULL;
    const char *quote = single && !twice ? "\"" : "'";
    template__put_cstr(b, quote);
    for (size_t i = 0; i < s->n;) {
        struct unicode_char c = unicode_at(s->p + i, s->n - i);
        char named = c.code == '\n' ? 'n' : c.code == '\r' ? 'r' : c.code == '\t' ? 't' : 0;
        if (c.code == '\\' || c.code == (uint32_t)*quote) named = (char)c.code;
        bool plain = c.code == ' ' || !(c.class & (UNICODE_OTHER | UNICODE_SPACE));
        if (named)
            template__printf(b, "\\%c", named);
        else if (plain)
            template__put_sub(b, s, i, c.bytes);
        else
            template__printf(b,
                             c.code < 0x100     ? "\\x%02x"
                             : c.code < 0x10000 ? "\\u%04x"
                                                : "\\U%08x",
                             c.code);
        i += c.bytes;
    }
    template__put_cstr(b, quote);
}

static void put_list(struct builder *b, const struct list *l, const char *open, const char *close)
{
    template__put_cstr(b, open);
    for (uint32_t i = 0; i < l->n; i++) {
        if (i) template__put_cstr(b, ", ");
        template__put_repr(b, l->at[i]);
    }
    template__put_cstr(b, close);
}

static void put_dict(struct builder *b, const struct dict *d)
{
    template__put_cstr(b, "{");
    for (uint32_t i = 0; i < d->n; i++) {
        if (i) template__put_cstr(b, ", ");
        template__put_repr(b, d->at[i].key);
        template__put_cstr(b, ": ");
        template__put_repr(b, d->at[i].value);
    }
    template__put_cstr(b, "}");
}

static void put_object(struct builder *b, struct value v)
{
    static const char *const views[] = {"dict_keys([", "dict_values([", "dict_items(["};
    switch (v.kind) {
    case V_LIST: put_list(b, v.list, "[", "]"); break;
    case V_TUPLE: put_list(b, v.list, "(", v.list->n == 1 ? ",)" : ")"); break;
    case V_DICT: put_dict(b, v.dict); break;
    case V_VIEW: put_list(b, view_items(b->r, v, v.flag), views[v.flag], "])"); break;
    case V_RANGE:
        template__printf(b, "range(%jd, %jd", (intmax_t)v.range->start, (intmax_t)v.range->stop);
        if (v.range->step != 1) template__printf(b, ", %jd", (intmax_t)v.range->step);
        template__put_cstr(b, ")");
        break;
    case V_NAMESPACE:
        template__put_cstr(b, "<Namespace ");
        put_dict(b, v.space);
        template__put_cstr(b, ">");
        break;
    case V_MACRO:
        template__put_cstr(b, "<Macro ");
        template__put_repr(b, v.macro->node->v);
        template__put_cstr(b, ">");
        break;
    default: template__printf(b, "<%s>", template__type(v));
    }
}

void template__put_value(struct builder *b, struct value v)
{
    switch (v.kind) {
    case V_MISSING:
    case V_UNDEFINED: break;
    case V_NONE: template__put_cstr(b, "None"); break;
    case V_BOOL: template__put_cstr(b, v.b ? "True" : "False"); break;
    case V_INT: template__printf(b, "%jd", (intmax_t)v.i); break;
    case V_FLOAT: template__put_float(b, v.f); break;
    case V_STRING: template__put_str(b, v.s); break;
    default:
        template__enter(b->r);
        template__step(b->r, 0);
        put_object(b, v);
        template__leave(b->r);
    }
}

void template__put_repr(struct builder *b, struct value v)
{
    if (v.kind == V_UNDEFINED) {
        template__put_cstr(b, "Undefined");
    } else if (v.kind == V_STRING) {
        if (v.flag == FLAG_SAFE) template__put_cstr(b, "Markup(");
        put_str_repr(b, v.s);
        if (v.flag == FLAG_SAFE) template__put_cstr(b, ")");
    } else {
        template__put_value(b, v);
    }
}

const struct str *template__string(struct run *r, struct value v)
{
    if (v.kind == V_STRING) return v.s;
    struct builder b = template__builder(r);
    template__put_value(&b, v);
    return template__built(&b).s;
}
