/* The methods of strings, lists and dicts that templates may call. The sandbox of chat templates
 * forbids the ones that change their object; they are listed too, for without that a dict's key
 * "pop" would be found where Python finds a method.
 */
#include "template_int.h"

#include "unicode.h"

#include <wctype.h>

/* The result has the object's Markup. */
static struct value like(struct value self, struct value v)
{
    v.flag = self.flag;
    return v;
}

static struct value all_like(struct value self, struct value list)
{
    for (uint32_t i = 0; i < list.list->n; i++) list.list->at[i].flag = self.flag;
    return list;
}

/* NULL where not given or none. */
static const struct str *optional(struct run *r, struct value v)
{
    return v.kind == V_MISSING || v.kind == V_NONE ? NULL : template__arg_str(r, v);
}

/* ---- letters ---- */

static struct value capitalize(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return like(self, template__case(r, self.s, CASE_CAPITAL));
}

static struct value lower(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return like(self, template__case(r, self.s, CASE_LOWER));
}

static struct value upper(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return like(self, template__case(r, self.s, CASE_UPPER));
}

static struct value title(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return like(self, template__case(r, self.s, CASE_TITLE));
}

static struct value swapcase(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return like(self, template__case(r, self.s, CASE_SWAP));
}

/* All characters are of these classes, and there is one. */
static struct value all_of(struct run *r, const struct str *s, int classes)
{
    template__step(r, s->n);
    for (size_t i = 0; i < s->n;) {
        struct unicode_char c = unicode_at(s->p + i, s->n - i);
        bool is = classes == UNICODE_SPACE ? template__space(c.code) : (c.class & classes) != 0;
        if (!is) return v_bool(false);
        i += c.bytes;
    }
    return v_bool(s->n > 0);
}

static struct value isalpha_(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return all_of(r, self.s, UNICODE_LETTER);
}

static struct value isalnum_(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return all_of(r, self.s, UNICODE_LETTER | UNICODE_NUMBER);
}

static struct value isnumeric(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return all_of(r, self.s, UNICODE_NUMBER);
}

static struct value isspace_(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return all_of(r, self.s, UNICODE_SPACE);
}

static struct value isascii_(struct run *r, struct value self, const struct args *a)
{
    (void)r, (void)a;
    bool is = true;
    for (uint32_t i = 0; i < self.s->n; i++) is = is && (unsigned char)self.s->p[i] < 128;
    return v_bool(is);
}

static struct value by_test(struct run *r, struct value self, const char *name)
{
    struct args none = {0};
    return template__native(r, template__test_named(template__cstr(r, name).s), self, &none);
}

static struct value islower_(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return by_test(r, self, "lower");
}

static struct value isupper_(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return by_test(r, self, "upper");
}

/* ---- edges ---- */

static struct value strip(struct run *r, struct value self, const struct args *a)
{
    return like(self, template__strip(r, self.s, optional(r, a->v[0]), STRIP_BOTH));
}

static struct value lstrip(struct run *r, struct value self, const struct args *a)
{
    return like(self, template__strip(r, self.s, optional(r, a->v[0]), STRIP_LEFT));
}

static struct value rstrip(struct run *r, struct value self, const struct args *a)
{
    return like(self, template__strip(r, self.s, optional(r, a->v[0]), STRIP_RIGHT));
}

static bool has_prefix(const struct str *s, const struct str *what)
{
    return what->n <= s->n && memcmp(s->p, what->p, what->n) == 0;
}

static bool has_suffix(const struct str *s, const struct str *what)
{
    return what->n <= s->n && memcmp(s->p + s->n - what->n, what->p, what->n) == 0;
}

static struct value removeprefix(struct run *r, struct value self, const struct args *a)
{
    const struct str *what = template__arg_str(r, a->v[0]);
    size_t n = has_prefix(self.s, what) ? what->n : 0;
    return like(self, template__sub(r, self.s, n, self.s->n - n));
}

static struct value removesuffix(struct run *r, struct value self, const struct args *a)
{
    const struct str *what = template__arg_str(r, a->v[0]);
    size_t n = has_suffix(self.s, what) ? what->n : 0;
    return like(self, template__sub(r, self.s, 0, self.s->n - n));
}

/* The part [start, end) of the object that the arguments from `at` name, in characters; false when
 * it begins past the end. */
static bool part(struct run *r, struct value self, const struct value *at, size_t *from, size_t *to)
{
    int64_t n = self.s->chars, bounds[2] = {0, n};
    for (int i = 0; i < 2; i++) {
        if (at[i].kind == V_NONE || at[i].kind == V_MISSING) continue;
        int64_t v = template__arg_int(r, at[i], 0);
        if (v < 0) v = v < -n ? 0 : v + n;
        bounds[i] = i == 1 && v > n ? n : v;
    }
    if (bounds[0] > n || bounds[0] > bounds[1]) return false;
    template__step(r, self.s->n);
    *from = template__byte_of(self.s, (size_t)bounds[0]);
    *to = template__byte_of(self.s, (size_t)bounds[1]);
    return true;
}

/* The first argument is one string, or a tuple of which any will do. */
static struct value has_edge(struct run *r, struct value self, const struct args *a,
                             bool (*has)(const struct str *, const struct str *))
{
    size_t from, to;
    bool whole = part(r, self, a->v + 1, &from, &to), found = false;
    const struct str *s = whole ? template__sub(r, self.s, from, to - from).s : NULL;
    if (a->v[0].kind != V_TUPLE) {
        const struct str *what = template__arg_str(r, a->v[0]);
        return v_bool(s && has(s, what));
    }
    for (uint32_t i = 0; i < a->v[0].list->n && !found; i++)
        found = s && has(s, template__arg_str(r, a->v[0].list->at[i]));
    return v_bool(found);
}

static struct value startswith(struct run *r, struct value self, const struct args *a)
{
    return has_edge(r, self, a, has_prefix);
}

static struct value endswith(struct run *r, struct value self, const struct args *a)
{
    return has_edge(r, self, a, has_suffix);
}

/* ---- looking ---- */

static int64_t look(struct run *r, struct value self, const struct args *a, bool last)
{
    size_t from, to, found = SIZE_MAX;
    const struct str *what = template__arg_str(r, a->v[0]);
    if (part(r, self, a->v + 1, &from, &to))
        found = last ? template__rfind(r, self.s, from, to, what)
                     : template__find(r, self.s, from, to, what);
    return found == SIZE_MAX ? -1 : (int64_t)template__char_of(self.s, found);
}

static struct value find(struct run *r, struct value self, const struct args *a)
{
    return v_int(look(r, self, a, false));
}

static struct value rfind(struct run *r, struct value self, const struct args *a)
{
    return v_int(look(r, self, a, true));
}

static struct value position(struct run *r, struct value self, const struct args *a, bool last)
{
    int64_t i = look(r, self, a, last);
    if (i < 0) template__bad(r, "a substring is not there");
    return v_int(i);
}

static struct value str_index(struct run *r, struct value self, const struct args *a)
{
    return position(r, self, a, false);
}

static struct value str_rindex(struct run *r, struct value self, const struct args *a)
{
    return position(r, self, a, true);
}

static struct value str_count(struct run *r, struct value self, const struct args *a)
{
    size_t from, to;
    int64_t n = 0;
    const struct str *what = template__arg_str(r, a->v[0]);
    if (!part(r, self, a->v + 1, &from, &to)) return v_int(0);
    if (what->n == 0) return v_int((int64_t)template__sub(r, self.s, from, to - from).s->chars + 1);
    while ((from = template__find(r, self.s, from, to, what)) != SIZE_MAX) {
        from += what->n;
        n++;
    }
    return v_int(n);
}

/* ---- pieces ---- */

static struct value split(struct run *r, struct value self, const struct args *a)
{
    int64_t max = template__arg_int(r, a->v[1], -1);
    return all_like(self, template__split(r, self.s, optional(r, a->v[0]), max, false));
}

static struct value rsplit(struct run *r, struct value self, const struct args *a)
{
    int64_t max = template__arg_int(r, a->v[1], -1);
    return all_like(self, template__split(r, self.s, optional(r, a->v[0]), max, true));
}

static struct value splitlines(struct run *r, struct value self, const struct args *a)
{
    return all_like(self, template__lines(r, self.s, template__arg_bool(a->v[0], false)));
}

static struct value part_at(struct run *r, struct value self, const struct args *a, bool last)
{
    const struct str *s = self.s, *sep = template__arg_str(r, a->v[0]);
    if (sep->n == 0) template__bad(r, "partition by an empty separator");
    size_t at = last ? template__rfind(r, s, 0, s->n, sep) : template__find(r, s, 0, s->n, sep);
    bool found = at != SIZE_MAX;
    size_t cut = found ? at : last ? 0 : s->n, past = found ? at + sep->n : cut;
    struct list *l = template__list_new(r, 3);
    template__push(r, l, template__sub(r, s, 0, cut));
    template__push(r, l, template__sub(r, s, cut, past - cut));
    template__push(r, l, template__sub(r, s, past, s->n - past));
    return all_like(self, v_tuple(l));
}

static struct value partition(struct run *r, struct value self, const struct args *a)
{
    return part_at(r, self, a, false);
}

static struct value rpartition(struct run *r, struct value self, const struct args *a)
{
    return part_at(r, self, a, true);
}

static struct value join(struct run *r, struct value self, const struct args *a)
{
    const struct list *l = template__items(r, a->v[0]);
    struct builder b = template__builder(r);
    for (uint32_t i = 0; i < l->n; i++) {
        if (i) template__put_str(&b, self.s);
        template__put_str(&b, template__arg_str(r, l->at[i]));
    }
    return like(self, template__built(&b));
}

static struct value replace(struct run *r, struct value self, const struct args *a)
{
    const struct str *old = template__arg_str(r, a->v[0]), *with = template__arg_str(r, a->v[1]);
    int64_t count = template__arg_int(r, a->v[2], -1);
    return like(self, template__replace(r, self.s, old, with, count));
}

static struct value format(struct run *r, struct value self, const struct args *a)
{
    return like(self, template__format(r, self.s, a));
}

/* ---- widths ---- */

static struct value padded(struct run *r, struct value self, const struct args *a, char align)
{
    const struct str *fill = optional(r, a->v[1]);
    int64_t width = template__arg_int(r, a->v[0], 0), n = self.s->chars;
    if (fill && fill->chars != 1) template__bad(r, "a width is filled with one character");
    int64_t pad = width > n ? width - n : 0, left = align == '>' ? pad : 0;
    if (align == '^') left = pad / 2 + (pad & width & 1);
    if (!fill) fill = template__cstr(r, " ").s;
    struct builder b = template__builder(r);
    for (int64_t i = 0; i < left; i++) template__put_str(&b, fill);
    template__put_str(&b, self.s);
    for (int64_t i = left; i < pad; i++) template__put_str(&b, fill);
    return like(self, template__built(&b));
}

static struct value center(struct run *r, struct value self, const struct args *a)
{
    return padded(r, self, a, '^');
}

static struct value ljust(struct run *r, struct value self, const struct args *a)
{
    return padded(r, self, a, '<');
}

static struct value rjust(struct run *r, struct value self, const struct args *a)
{
    return padded(r, self, a, '>');
}

static struct value zfill(struct run *r, struct value self, const struct args *a)
{
    int64_t width = template__arg_int(r, a->v[0], 0);
    bool sign = self.s->n && (self.s->p[0] == '-' || self.s->p[0] == '+');
    struct builder b = template__builder(r);
    template__put_sub(&b, self.s, 0, sign);
    for (int64_t n = self.s->chars; n < width; n++) template__put_cstr(&b, "0");
    template__put_sub(&b, self.s, sign, self.s->n - sign);
    return like(self, template__built(&b));
}

/* ---- lists and dicts ---- */

static struct value list_count(struct run *r, struct value self, const struct args *a)
{
    int64_t n = 0;
    const struct list *l = template__items(r, self);
    template__step(r, l->n * (size_t)4);
    for (uint32_t i = 0; i < l->n; i++) n += template__equal(r, l->at[i], a->v[0]);
    return v_int(n);
}

static struct value list_index(struct run *r, struct value self, const struct args *a)
{
    const struct list *l = template__items(r, self);
    int64_t n = l->n, from = template__arg_int(r, a->v[1], 0);
    int64_t to = template__arg_int(r, a->v[2], n);
    if (from < 0) from = from < -n ? 0 : from + n;
    if (to < 0) to = to < -n ? 0 : to + n;
    template__step(r, l->n * (size_t)4);
    for (int64_t i = from; i < n && i < to; i++)
        if (template__equal(r, l->at[i], a->v[0])) return v_int(i);
    template__bad(r, "a value is not in the list");
}

static struct value copy(struct run *r, struct value self, const struct args *a)
{
    (void)r, (void)a;
    return self; /* it cannot be changed, so it is as good as a copy */
}

static struct value get(struct run *r, struct value self, const struct args *a)
{
    const struct value *v = template__get(r, self.dict, a->v[0]);
    if (v) return *v;
    return a->v[1].kind == V_MISSING ? v_none() : a->v[1];
}

static struct value view(struct value self, int which)
{
    return (struct value){.kind = V_VIEW, .flag = (uint8_t)which, .dict = self.dict};
}

static struct value items(struct run *r, struct value self, const struct args *a)
{
    (void)r, (void)a;
    return view(self, FLAG_ITEMS);
}

static struct value keys(struct run *r, struct value self, const struct args *a)
{
    (void)r, (void)a;
    return view(self, FLAG_KEYS);
}

static struct value values(struct run *r, struct value self, const struct args *a)
{
    (void)r, (void)a;
    return view(self, FLAG_VALUES);
}

static const struct native of_str[] = {
    {"capitalize", capitalize, "", 0},
    {"casefold", lower, "", 0},
    {"center", center, "/width,fillchar", 1},
    {"count", str_count, "/sub,start,end", 1},
    {"endswith", endswith, "/suffix,start,end", 1},
    {"find", find, "/sub,start,end", 1},
    {"format", format, NULL, 0},
    {"index", str_index, "/sub,start,end", 1},
    {"isalnum", isalnum_, "", 0},
    {"isalpha", isalpha_, "", 0},
    {"isascii", isascii_, "", 0},
    {"isdecimal", isnumeric, "", 0},
    {"isdigit", isnumeric, "", 0},
    {"islower", islower_, "", 0},
    {"isnumeric", isnumeric, "", 0},
    {"isspace", isspace_, "", 0},
    {"isupper", isupper_, "", 0},
    {"join", join, "/iterable", 1},
    {"ljust", ljust, "/width,fillchar", 1},
    {"lower", lower, "", 0},
    {"lstrip", lstrip, "/chars", 0},
    {"partition", partition, "/sep", 1},
    {"removeprefix", removeprefix, "/prefix", 1},
    {"removesuffix", removesuffix, "/suffix", 1},
    {"replace", replace, "/old,new,count", 2},
    {"rfind", rfind, "/sub,start,end", 1},
    {"rindex", str_rindex, "/sub,start,end", 1},
    {"rjust", rjust, "/width,fillchar", 1},
    {"rpartition", rpartition, "/sep", 1},
    {"rsplit", rsplit, "sep,maxsplit", 0},
    {"rstrip", rstrip, "/chars", 0},
    {"split", split, "sep,maxsplit", 0},
    {"splitlines", splitlines, "keepends", 0},
    {"startswith", startswith, "/prefix,start,end", 1},
    {"strip", strip, "/chars", 0},
    {"swapcase", swapcase, "", 0},
    {"title", title, "", 0},
    {"upper", upper, "", 0},
    {"zfill", zfill, "/width", 1},
    {0},
};
static const struct native of_list[] = {
    {"count", list_count, "/value", 1},
    {"index", list_index, "/value,start,stop", 1},
    {"copy", copy, "", 0},
    {"append", NULL, NULL, 0},
    {"clear", NULL, NULL, 0},
    {"extend", NULL, NULL, 0},
    {"insert", NULL, NULL, 0},
    {"pop", NULL, NULL, 0},
    {"remove", NULL, NULL, 0},
    {"reverse", NULL, NULL, 0},
    {"sort", NULL, NULL, 0},
    {0},
};
static const struct native of_sequence[] = {
    {"count", list_count, "/value", 1}, {"index", list_index, "/value,start,stop", 1}, {0}};
static const struct native of_dict[] = {
    {"get", get, "/key,default", 1}, {"items", items, "", 0},   {"keys", keys, "", 0},
    {"values", values, "", 0},       {"copy", copy, "", 0},     {"clear", NULL, NULL, 0},
    {"fromkeys", NULL, NULL, 0},     {"pop", NULL, NULL, 0},    {"popitem", NULL, NULL, 0},
    {"setdefault", NULL, NULL, 0},   {"update", NULL, NULL, 0}, {0},
};

const struct native *template__method_named(struct value of, const struct str *name)
{
    const struct native *f = of.kind == V_STRING                        ? of_str
                             : of.kind == V_LIST                        ? of_list
                             : of.kind == V_TUPLE || of.kind == V_RANGE ? of_sequence
                             : of.kind == V_DICT                        ? of_dict
                             : of.kind == V_LOOP                        ? template__loop_methods
                                                                        : NULL;
    for (; f && f->name; f++)
        if (template__is(name, f->name)) return f;
    return NULL;
}
