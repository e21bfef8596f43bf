/* Filters of one value: text, numbers, defaults. Those of sequences are in template_seq.c; the
 * table of names is searched here for both.
 */
#include "template_int.h"

#include "unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* As soft_str of Jinja: a string stays what it is, Markup included. */
static struct value soft(struct run *r, struct value v)
{
    return v.kind == V_STRING ? v : v_str(template__string(r, v));
}

static struct value like(struct value self, struct value v)
{
    v.flag = self.flag;
    return v;
}

/* ---- text ---- */

static struct value string(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return soft(r, self);
}

static struct value upper(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    self = soft(r, self);
    return like(self, template__case(r, self.s, CASE_UPPER));
}

static struct value lower(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    self = soft(r, self);
    return like(self, template__case(r, self.s, CASE_LOWER));
}

static struct value capitalize(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    self = soft(r, self);
    return like(self, template__case(r, self.s, CASE_CAPITAL));
}

static struct value title(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return template__case(r, template__string(r, self), CASE_WORDS);
}

static struct value trim(struct run *r, struct value self, const struct args *a)
{
    bool plain = a->v[0].kind == V_MISSING || a->v[0].kind == V_NONE;
    self = soft(r, self);
    const struct str *chars = plain ? NULL : template__arg_str(r, a->v[0]);
    return like(self, template__strip(r, self.s, chars, STRIP_BOTH));
}

static struct value replace(struct run *r, struct value self, const struct args *a)
{
    int64_t count = a->v[2].kind == V_NONE ? -1 : template__arg_int(r, a->v[2], -1);
    return template__replace(r, template__string(r, self), template__string(r, a->v[0]),
                             template__string(r, a->v[1]), count);
}

static struct value center(struct run *r, struct value self, const struct args *a)
{
    self = soft(r, self);
    struct value width = v_int(template__arg_int(r, a->v[0], 80));
    const struct native *f = template__method_named(self, template__cstr(r, "center").s);
    return template__native(r, f, self, &(struct args){.v = &width, .n = 1});
}

static struct value format(struct run *r, struct value self, const struct args *a)
{
    if (a->n && a->n_kw) template__bad(r, "format takes values either by place or by name");
    struct list at = {.at = a->v, .n = a->n};
    struct dict named = {.at = a->kw, .n = a->n_kw};
    self = soft(r, self);
    return template__percent(r, self.s, a->n_kw ? v_dict(&named) : v_tuple(&at));
}

static struct value indent(struct run *r, struct value self, const struct args *a)
{
    struct value width = a->v[0];
    bool first = template__arg_bool(a->v[1], false), blank = template__arg_bool(a->v[2], false);
    if (width.kind != V_STRING) {
        struct builder b = template__builder(r);
        for (int64_t n = template__arg_int(r, width, 4); n > 0; n--) template__put_cstr(&b, " ");
        width = template__built(&b);
    }
    struct value with_end = template__binary(r, OP_ADD, self, template__text(r, "\n", 1, NULL));
    const struct list *lines = template__lines(r, with_end.s, false).list;
    struct builder b = template__builder(r);
    for (uint32_t i = 0; i < lines->n; i++) {
        const struct str *s = lines->at[i].s;
        if (i) template__put_cstr(&b, "\n");
        if (i ? blank || s->n : first) template__put_str(&b, width.s);
        template__put_str(&b, s);
    }
    return like(self, template__built(&b));
}

static struct value truncate(struct run *r, struct value self, const struct args *a)
{
    int64_t length = template__arg_int(r, a->v[0], 255);
    bool kill = template__arg_bool(a->v[1], false);
    const struct str *end = template__cstr(r, "...").s;
    if (a->v[2].kind != V_MISSING) end = template__arg_str(r, a->v[2]);
    int64_t leeway = a->v[3].kind == V_NONE ? 5 : template__arg_int(r, a->v[3], 5);
    if (length < end->chars || leeway < 0 || leeway > INT64_MAX - length)
        template__bad(r, "truncate to less than its end");
    if (template__length(r, self) <= length + leeway) return self;
    const struct str *s = template__arg_str(r, self);
    const struct str *head =
        template__sub(r, s, 0, template__byte_of(s, (size_t)(length - end->chars))).s;
    size_t space =
        kill ? SIZE_MAX : template__rfind(r, head, 0, head->n, template__text(r, " ", 1, NULL).s);
    struct builder b = template__builder(r);
    template__put_sub(&b, head, 0, space == SIZE_MAX ? head->n : space);
    template__put_str(&b, end);
    return like(self, template__built(&b));
}

static struct value word_count(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    const struct str *s = template__string(r, self);
    int64_t n = 0;
    bool inside = false;
    template__step(r, s->n);
    for (size_t i = 0; i < s->n;) {
        struct unicode_char c = unicode_at(s->p + i, s->n - i);
        bool word = c.code == '_' || c.class & (UNICODE_LETTER | UNICODE_NUMBER);
        n += word && !inside;
        inside = word;
        i += c.bytes;
    }
    return v_int(n);
}

static struct value escape(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    if (self.kind == V_STRING && self.flag == FLAG_SAFE) return self;
    return template__escape(r, template__string(r, self));
}

static struct value force_escape(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return template__escape(r, template__string(r, self));
}

static struct value safe(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    self = v_str(template__string(r, self));
    self.flag = FLAG_SAFE;
    return self;
}

/* ---- numbers ---- */

static struct value absolute(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    if (self.kind == V_FLOAT) return v_float(fabs(self.f));
    int64_t i;
    bool negative = template__integral(self, &i) && i < 0;
    return template__negate(r, self, negative);
}

static __attribute__((noreturn)) void too_large(struct run *r)
{
    template__fail(r, ERR_UNSUPPORTED, "an integer beyond 64 bits");
}

/* The integer that Python's int() makes of a float; false where it makes none. */
static bool whole(struct run *r, double f, int64_t *out)
{
    if (isnan(f) || isinf(f)) return false;
    if (!(fabs(f) < 0x1p63)) too_large(r);
    *out = (int64_t)f;
    return true;
}

static struct value integer(struct run *r, struct value self, const struct args *a)
{
    int64_t i, base = template__arg_int(r, a->v[1], 10);
    double f;
    if (base != 0 && (base < 2 || base > 36)) template__bad(r, "int with base %jd", (intmax_t)base);
    template__need(r, self);
    if (template__integral(self, &i)) return v_int(i);
    if (self.kind == V_FLOAT && whole(r, self.f, &i)) return v_int(i);
    if (self.kind == V_STRING) {
        if (template__parse_int(r, self.s, (int)base, &i)) return v_int(i);
        if (template__parse_float(r, self.s, &f) && whole(r, f, &i)) return v_int(i);
    }
    return a->v[0].kind == V_MISSING ? v_int(0) : a->v[0];
}

static struct value floating(struct run *r, struct value self, const struct args *a)
{
    double f;
    template__need(r, self);
    if (template__number(self)) return v_float(template__double(self));
    if (self.kind == V_STRING && template__parse_float(r, self.s, &f)) return v_float(f);
    return a->v[0].kind == V_MISSING ? v_float(0) : a->v[0];
}

/* Python's round(): the printed decimal is the nearest, ties to even. */
static double rounded(double f, int64_t digits)
{
    char text[700];
    if (isnan(f) || isinf(f) || digits > 330) return f;
    if (digits < -310) return copysign(0, f);
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, f);
        return strtod(text, NULL);
    }
    double power = pow(10, (double)-digits), q = f / power;
    return nearbyint(q) * power;
}

static struct value round_integer(struct run *r, int64_t i, int64_t digits)
{
    if (digits >= 0) return v_int(i);
    if (digits < -18) return v_int(0);
    int64_t power = 1;
    for (; digits < 0; digits++) power *= 10;
    int64_t low = i / power * power, rest = i - low, sign = i < 0 ? -1 : 1;
    if (rest < 0) rest = -rest;
    bool up = rest > power - rest || (rest == power - rest && (low / power) % 2 != 0);
    if (up && __builtin_add_overflow(low, sign * power, &low)) too_large(r);
    return v_int(low);
}

static struct value round_filter(struct run *r, struct value self, const struct args *a)
{
    int64_t i, digits = template__arg_int(r, a->v[0], 0);
    const struct str *method = template__cstr(r, "common").s;
    if (a->v[1].kind != V_MISSING) method = template__arg_str(r, a->v[1]);
    bool ceils = template__is(method, "ceil");
    if (!ceils && !template__is(method, "floor") && !template__is(method, "common"))
        template__bad(r, "round knows common, ceil and floor");
    template__need(r, self);
    if (!template__number(self)) template__bad(r, "a %s cannot be rounded", template__type(self));
    if (template__is(method, "common")) {
        if (template__integral(self, &i)) return round_integer(r, i, digits);
        return v_float(rounded(self.f, digits));
    }
    double power = pow(10, (double)digits), f = template__double(self) * power;
    if (isnan(f) || isinf(f) || power == 0) template__bad(r, "round of a number too large");
    return v_float(((ceils ? ceil(f) : floor(f)) + 0.0) / power); /* Python's integers know no -0 */
}

/* ---- the rest ---- */

static struct value default_filter(struct run *r, struct value self, const struct args *a)
{
    bool empty = template__arg_bool(a->v[1], false) && !template__truth(self);
    if (self.kind != V_UNDEFINED && !empty) return self;
    return a->v[0].kind == V_MISSING ? template__cstr(r, "") : a->v[0];
}

static struct value length(struct run *r, struct value self, const struct args *a)
{
    (void)a;
    return v_int(template__length(r, self));
}

/* As x.name, but never the element of that name. */
static struct value attr(struct run *r, struct value self, const struct args *a)
{
    const struct str *name = template__arg_str(r, a->v[0]);
    if (self.kind == V_DICT && !template__method_named(self, name))
        return (struct value){.kind = V_UNDEFINED, .of = V_DICT, .s = name};
    return template__attr(r, self, name);
}

const struct native template__filters[] = {
    {"abs", absolute, "", 0},
    {"attr", attr, "name", 1},
    {"capitalize", capitalize, "", 0},
    {"center", center, "width", 0},
    {"count", length, "", 0},
    {"d", default_filter, "default_value,boolean", 0},
    {"default", default_filter, "default_value,boolean", 0},
    {"e", escape, "", 0},
    {"escape", escape, "", 0},
    {"float", floating, "default", 0},
    {"forceescape", force_escape, "", 0},
    {"format", format, NULL, 0},
    {"indent", indent, "width,first,blank", 0},
    {"int", integer, "default,base", 0},
    {"length", length, "", 0},
    {"lower", lower, "", 0},
    {"replace", replace, "old,new,count", 2},
    {"round", round_filter, "precision,method", 0},
    {"safe", safe, "", 0},
    {"string", string, "", 0},
    {"title", title, "", 0},
    {"tojson", template__tojson, "ensure_ascii,indent,separators,sort_keys", 0},
    {"trim", trim, "chars", 0},
    {"truncate", truncate, "length,killwords,end,leeway", 0},
    {"upper", upper, "", 0},
    {"wordcount", word_count, "", 0},
    {0},
};

const struct native *template__filter_named(const struct str *name)
{
    for (const struct native *f = template__filters; f->name; f++)
        if (template__is(name, f->name)) return f;
    for (const struct native *f = template__seq_filters; f->name; f++)
        if (template__is(name, f->name)) return f;
    return NULL;
}
