/* Filters of sequences. Where Python gives a generator, which can be walked once and has no
 * length, so do these (V_ITER), though the elements are all made at once.
 */
#include "template_int.h"

static struct value iterator(struct run *r, const struct list *l)
{
    struct iter *it = template__alloc(r, 1, sizeof *it);
    it->list = l;
    return (struct value){.kind = V_ITER, .iter = it};
}

/* ---- one of them ---- */

static struct value no_element(struct run *r)
{
    struct value v = v_undefined();
    v.of = V_LIST;
    v.s = template__cstr(r, "first or last element, being empty").s;
    return v;
}

static struct value first(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    if (self.kind == V_ITER) /* the others stay to be walked */
        return self.iter->at < self.iter->list->n ? self.iter->list->at[self.iter->at++]
                                                  : no_element(r);
    const struct list *l = template__items(r, self);
    return l->n ? l->at[0] : no_element(r);
}

static struct value last(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    if (self.kind == V_ITER) template__bad(r, "a generator has no last element");
    const struct list *l = template__items(r, self);
    return l->n ? l->at[l->n - 1] : no_element(r);
}

/* ---- keys ---- */

/* What a value is compared by: an attribute of it, without regard to letter case by default. */
static struct value key_of(struct run *r, struct value v, struct value path, bool exact,
                           struct value otherwise)
{
    v = template__path(r, v, path, otherwise);
    if (!exact && v.kind == V_STRING) v = template__case(r, v.s, CASE_LOWER);
    return v;
}

static const struct list *keys_of(struct run *r, const struct list *l, struct value path,
                                  bool exact, struct value otherwise)
{
    struct list *keys = template__list_new(r, l->n);
    for (uint32_t i = 0; i < l->n; i++)
        template__push(r, keys, key_of(r, l->at[i], path, exact, otherwise));
    return keys;
}

static const struct value missing = {.kind = V_MISSING};

static struct value extreme(struct run *r, struct value self, const struct args *a, int sign)
{
    const struct list *l = template__items(r, self);
    const struct list *keys = keys_of(r, l, a->v[1], template__arg_bool(a->v[0], false), missing);
    uint32_t best = 0;
    if (l->n == 0) return no_element(r);
    for (uint32_t i = 1; i < l->n; i++)
        if (template__order(r, keys->at[i], keys->at[best], sign < 0 ? "<" : ">") == sign) best = i;
    return l->at[best];
}

static struct value min(struct run *r, struct value self, const struct args *a)
{
    return extreme(r, self, a, -1);
}

static struct value max(struct run *r, struct value self, const struct args *a)
{
    return extreme(r, self, a, 1);
}

static struct list *copy_of(struct run *r, const struct list *l)
{
    struct list *copy = template__list_new(r, l->n);
    for (uint32_t i = 0; i < l->n; i++) template__push(r, copy, l->at[i]);
    return copy;
}

/* By several attributes, "a,b", the key is a list. */
static struct value sort(struct run *r, struct value self, const struct args *a)
{
    struct list *l = copy_of(r, template__items(r, self)), *keys = template__list_new(r, l->n);
    bool reverse = template__arg_bool(a->v[0], false), exact = template__arg_bool(a->v[1], false);
    struct list one = {.at = &(struct value){0}, .n = 1};
    const struct list *paths = &one;
    one.at[0] = a->v[2];
    if (a->v[2].kind == V_STRING)
        paths = template__split(r, a->v[2].s, template__cstr(r, ",").s, -1, false).list;
    for (uint32_t i = 0; i < l->n; i++) {
        struct list *key = template__list_new(r, paths->n);
        for (uint32_t k = 0; k < paths->n; k++)
            template__push(r, key, key_of(r, l->at[i], paths->at[k], exact, missing));
        template__push(r, keys, v_list(key));
    }
    template__sort(r, l, keys, reverse);
    return v_list(l);
}

static struct value dict_sort(struct run *r, struct value self, const struct args *a)
{
    bool exact = template__arg_bool(a->v[0], false), reverse = template__arg_bool(a->v[2], false);
    const struct str *by = template__cstr(r, "key").s;
    if (a->v[1].kind != V_MISSING) by = template__arg_str(r, a->v[1]);
    if (!template__is(by, "key") && !template__is(by, "value"))
        template__bad(r, "dictsort sorts by key or by value");
    template__need(r, self);
    if (self.kind != V_DICT) template__bad(r, "dictsort of a %s", template__type(self));
    self.kind = V_VIEW;
    self.flag = FLAG_ITEMS;
    struct list *l = copy_of(r, template__items(r, self));
    struct value which = v_int(template__is(by, "value"));
    template__sort(r, l, keys_of(r, l, which, exact, missing), reverse);
    return v_list(l);
}

static struct value unique(struct run *r, struct value self, const struct args *a)
{
    const struct list *l = template__items(r, self);
    const struct list *keys = keys_of(r, l, a->v[1], template__arg_bool(a->v[0], false), missing);
    struct dict *seen = template__dict_new(r, l->n);
    struct list *out = template__list_new(r, l->n);
    for (uint32_t i = 0; i < l->n; i++) {
        if (template__get(r, seen, keys->at[i])) continue;
        template__append(r, seen, keys->at[i], v_none());
        template__push(r, out, l->at[i]);
    }
    return iterator(r, out);
}

static struct value group_by(struct run *r, struct value self, const struct args *a)
{
    bool exact = template__arg_bool(a->v[2], false);
    struct value otherwise = a->v[1].kind == V_NONE ? missing : a->v[1];
    struct list *l = copy_of(r, template__items(r, self)), *out = template__list_new(r, 0);
    template__sort(r, l, keys_of(r, l, a->v[0], exact, otherwise), false);
    const struct list *keys = keys_of(r, l, a->v[0], exact, otherwise);
    struct list *group = NULL;
    for (uint32_t i = 0; i < l->n; i++) {
        if (!group || !template__equal(r, keys->at[i - 1], keys->at[i])) {
            struct list *pair = template__list_new(r, 2);
            group = template__list_new(r, 0);
            template__push(r, pair, template__path(r, l->at[i], a->v[0], otherwise));
            template__push(r, pair, v_list(group));
            struct value tuple = v_tuple(pair);
            tuple.flag = FLAG_GROUP;
            template__push(r, out, tuple);
        }
        template__push(r, group, l->at[i]);
    }
    return v_list(out);
}

/* ---- all of them ---- */

static struct value join(struct run *r, struct value self, const struct args *a)
{
    const struct list *l = template__items(r, self);
    struct builder b = template__builder(r);
    for (uint32_t i = 0; i < l->n; i++) {
        if (i && a->v[0].kind != V_MISSING) template__put_value(&b, a->v[0]);
        template__put_value(&b, template__path(r, l->at[i], a->v[1], missing));
    }
    return template__built(&b);
}

static struct value sum(struct run *r, struct value self, const struct args *a)
{
    const struct list *l = template__items(r, self);
    struct value total = a->v[1].kind == V_MISSING ? v_int(0) : a->v[1];
    if (total.kind == V_STRING) template__bad(r, "strings are joined, not summed");
    for (uint32_t i = 0; i < l->n; i++)
        total = template__binary(r, OP_ADD, total, template__path(r, l->at[i], a->v[0], missing));
    return total;
}

static struct value list(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return v_list(copy_of(r, template__items(r, self)));
}

static struct value reverse(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    if (self.kind == V_STRING) return template__slice(r, self, v_none(), v_none(), v_int(-1));
    const struct list *l = template__items(r, self);
    struct list *out = template__list_new(r, l->n);
    for (uint32_t i = l->n; i-- > 0;) template__push(r, out, l->at[i]);
    return self.kind == V_ITER ? v_list(out) : iterator(r, out);
}

static struct value items(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    if (self.kind == V_UNDEFINED) return iterator(r, template__list_new(r, 0));
    if (self.kind != V_DICT) template__bad(r, "a %s has no items", template__type(self));
    self.kind = V_VIEW;
    self.flag = FLAG_ITEMS;
    return iterator(r, template__items(r, self));
}

static struct value batch(struct run *r, struct value self, const struct args *a)
{
    const struct list *l = template__items(r, self);
    int64_t size = template__arg_int(r, a->v[0], 0);
    struct list *out = template__list_new(r, 0), *row = template__list_new(r, 0);
    for (uint32_t i = 0; i < l->n; i++) {
        if (row->n == size) {
            template__push(r, out, v_list(row));
            row = template__list_new(r, 0);
        }
        template__push(r, row, l->at[i]);
    }
    bool fill = a->v[1].kind != V_MISSING && a->v[1].kind != V_NONE;
    while (row->n && fill && row->n < size) template__push(r, row, a->v[1]);
    if (row->n) template__push(r, out, v_list(row));
    return iterator(r, out);
}

static struct value slice(struct run *r, struct value self, const struct args *a)
{
    const struct list *l = template__items(r, self);
    int64_t n = template__arg_int(r, a->v[0], 0);
    struct list *out = template__list_new(r, 0);
    if (n == 0) template__bad(r, "slice into no pieces");
    bool fill = a->v[1].kind != V_MISSING && a->v[1].kind != V_NONE;
    uint32_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        struct list *row = template__list_new(r, 0);
        bool longer = i < l->n % n;
        for (int64_t k = l->n / n + longer; k > 0; k--) template__push(r, row, l->at[at++]);
        if (fill && !longer) template__push(r, row, a->v[1]);
        template__push(r, out, v_list(row));
    }
    return iterator(r, out);
}

/* ---- by a filter or a test ---- */

/* The arguments after the first n. */
static struct args after(const struct args *a, uint32_t n)
{
    struct args rest = *a;
    rest.v += n;
    rest.n -= n;
    return rest;
}

static struct value map(struct run *r, struct value self, const struct args *a)
{
    struct list *out = template__list_new(r, 0);
    struct value path = missing, otherwise = missing;
    for (uint32_t i = 0; a->n == 0 && i < a->n_kw; i++) {
        if (template__is(a->kw[i].key.s, "attribute"))
            path = a->kw[i].value;
        else if (template__is(a->kw[i].key.s, "default"))
            otherwise = a->kw[i].value;
        else
            template__bad(r, "map has no such argument");
    }
    if (!template__truth(self)) return iterator(r, out);
    if (otherwise.kind == V_NONE) otherwise = missing;
    const struct list *l = template__items(r, self);
    if (path.kind != V_MISSING) {
        for (uint32_t i = 0; i < l->n; i++)
            template__push(r, out, template__path(r, l->at[i], path, otherwise));
        return iterator(r, out);
    }
    if (a->n == 0) template__bad(r, "map wants a filter or an attribute");
    const struct str *name = template__arg_str(r, a->v[0]);
    const struct native *f = template__filter_named(name);
    if (!f) template__bad(r, "no filter is called '%.*s'", (int)name->n, name->p);
    struct args rest = after(a, 1);
    for (uint32_t i = 0; i < l->n; i++)
        template__push(r, out, template__native(r, f, l->at[i], &rest));
    return iterator(r, out);
}

static struct value choose(struct run *r, struct value self, const struct args *a, bool by_attr,
                           bool want)
{
    struct list *out = template__list_new(r, 0);
    if (!template__truth(self)) return iterator(r, out);
    const struct list *l = template__items(r, self);
    if (by_attr && a->n == 0) template__bad(r, "an attribute is wanted to choose by");
    const struct native *test = NULL;
    struct args rest = {0};
    if (a->n > by_attr) {
        const struct str *name = template__arg_str(r, a->v[by_attr]);
        test = template__test_named(name);
        if (!test) template__bad(r, "no test is called '%.*s'", (int)name->n, name->p);
        rest = after(a, 1 + by_attr);
    }
    for (uint32_t i = 0; i < l->n; i++) {
        struct value v = by_attr ? template__path(r, l->at[i], a->v[0], missing) : l->at[i];
        if (test) v = template__native(r, test, v, &rest);
        if (template__truth(v) == want) template__push(r, out, l->at[i]);
    }
    return iterator(r, out);
}

static struct value select(struct run *r, struct value self, const struct args *a)
{
    return choose(r, self, a, false, true);
}

static struct value reject(struct run *r, struct value self, const struct args *a)
{
    return choose(r, self, a, false, false);
}

static struct value select_attr(struct run *r, struct value self, const struct args *a)
{
    return choose(r, self, a, true, true);
}

static struct value reject_attr(struct run *r, struct value self, const struct args *a)
{
    return choose(r, self, a, true, false);
}

const struct native template__seq_filters[] = {
    {"batch", batch, "linecount,fill_with", 1},
    {"dictsort", dict_sort, "case_sensitive,by,reverse", 0},
    {"first", first, "", 0},
    {"groupby", group_by, "attribute,default,case_sensitive", 1},
    {"items", items, "", 0},
    {"join", join, "d,attribute", 0},
    {"last", last, "", 0},
    {"list", list, "", 0},
    {"map", map, NULL, 0},
    {"max", max, "case_sensitive,attribute", 0},
    {"min", min, "case_sensitive,attribute", 0},
    {"reject", reject, NULL, 0},
    {"rejectattr", reject_attr, NULL, 0},
    {"reverse", reverse, "", 0},
    {"select", select, NULL, 0},
    {"selectattr", select_attr, NULL, 0},
    {"slice", slice, "slices,fill_with", 1},
    {"sort", sort, "reverse,case_sensitive,attribute", 0},
    {"sum", sum, "attribute,start", 0},
    {"unique", unique, "case_sensitive,attribute", 0},
    {0},
};
