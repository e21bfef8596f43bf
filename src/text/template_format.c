/* Numbers to text and back, and Python's two ways to fill text with values: "%s" % x and
 * "{}".format(x). Of the second's format specifications those of strings and numbers are known.
 */
#include "template_int.h"

#include "unicode.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- numbers ---- */

void template__put_float(struct builder *b, double f)
{
    char text[40];
    if (isnan(f) || isinf(f)) {
        template__put_cstr(b, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    int digits = 1; /* the fewest that read back as f */
    do snprintf(text, sizeof text, "%.*e", digits - 1, f);
    while (strtod(text, NULL) != f && digits++ < 17);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int after = digits - 1 - exponent;
        template__printf(b, "%.*f", after > 0 ? after : 0, f);
        if (after <= 0) template__put_cstr(b, ".0");
    } else {
        template__put_cstr(b, text);
    }
}

/* s without the white space around it and single underscores between digits; false if that is not
 * possible or too long for a number. */
static bool plain_number(struct run *r, const struct str *s, char *out, size_t room)
{
    const struct str *t = template__strip(r, s, NULL, STRIP_BOTH).s;
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        bool between = i > 0 && i + 1 < t->n && t->p[i - 1] != '_' && t->p[i + 1] != '_' &&
                       strchr("0123456789abcdefABCDEFxXoObB", t->p[i - 1]) &&
                       strchr("0123456789abcdefABCDEF", t->p[i + 1]);
        if (t->p[i] == '_' && between) continue;
        if (t->p[i] == '_' || t->p[i] == 0 || n + 1 >= room) return false;
        out[n++] = t->p[i];
    }
    out[n] = 0;
    return n > 0;
}

bool template__parse_int(struct run *r, const struct str *s, int base, int64_t *out)
{
    char text[128], *end, *p = text;
    if (!plain_number(r, s, text, sizeof text)) return false;
    bool negative = *p == '-';
    p += negative || *p == '+';
    char letter = p[0] == '0' ? (char)(p[1] | 32) : 0;
    int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (named && (base == named || base == 0)) {
        p += 2;
        base = named;
    }
    if (base == 0) base = 10;
    if (!((*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z'))) return false;
    if (base == 16 && p[0] == '0' && (p[1] | 32) == 'x') return false; /* 0x0x1 */
    errno = 0;
    unsigned long long v = strtoull(p, &end, base);
    if (*end || end == p) return false;
    if (errno || v > (unsigned long long)INT64_MAX + negative)
        template__fail(r, ERR_UNSUPPORTED, "an integer beyond 64 bits");
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool template__parse_float(struct run *r, const struct str *s, double *out)
{
    char text[512], *end;
    if (!plain_number(r, s, text, sizeof text)) return false;
    size_t n = strlen(text), sign = *text == '-' || *text == '+';
    static const char *const words[] = {"inf", "infinity", "nan"};
    bool word = false;
    for (size_t i = 0; i < 3; i++) word = word || strcasecmp(text + sign, words[i]) == 0;
    if (!word && strspn(text, "0123456789.eE+-") != n) return false;
    *out = strtod(text, &end);
    return *end == 0 && end != text;
}

/* ---- fields: [[fill]align][sign][0][width][,][.precision][type] ---- */

struct spec {
    uint32_t fill;
    char align, sign, type;
    bool alternate, comma;
    int width, precision; /* precision < 0: none */
};

static void put_padded(struct builder *b, const struct spec *f, const struct str *s, char align)
{
    size_t width = (size_t)f->width, pad = width > s->chars ? width - s->chars : 0;
    size_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    for (size_t i = 0; i < left; i++) template__put_code(b, f->fill, NULL);
    template__put_str(b, s);
    for (size_t i = left; i < pad; i++) template__put_code(b, f->fill, NULL);
}

static const struct str *cut(struct run *r, const struct str *s, int chars)
{
    if (chars < 0 || (uint32_t)chars >= s->chars) return s;
    return template__sub(r, s, 0, template__byte_of(s, (size_t)chars)).s;
}

/* Binary digits; the others printf has. */
static void put_bits(struct builder *b, uint64_t v)
{
    int n = 64 - (v ? __builtin_clzll(v) : 63);
    while (n-- > 0) template__put_cstr(b, v >> n & 1 ? "1" : "0");
}

static void put_magnitude(struct builder *b, const struct spec *f, struct value v)
{
    int64_t i = 0;
    bool whole = template__integral(v, &i);
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    double d = fabs(template__double(v));
    int precision = f->precision < 0 ? 6 : f->precision;
    int digits = f->precision < 1 ? 1 : f->precision; /* of an integer: the least there are */
    char type = f->type;
    if (whole && strchr("diub", type ? type : 'd')) {
        if (type == 'b')
            put_bits(b, u);
        else
            template__printf(b, "%.*ju", digits, (uintmax_t)u);
    } else if (whole && strchr("xXo", type)) {
        if (f->alternate) template__put_cstr(b, type == 'o' ? "0o" : type == 'x' ? "0x" : "0X");
        template__printf(b,
                         type == 'x'   ? "%.*jx"
                         : type == 'X' ? "%.*jX"
                                       : "%.*jo",
                         digits, (uintmax_t)u);
    } else if (type == 0 && f->precision < 0) {
        template__put_float(b, d);
    } else if (strchr("fF%", type) && type) {
        template__printf(b, "%.*f", precision, type == '%' ? d * 100 : d);
        if (type == '%') template__put_cstr(b, "%");
    } else if (strchr("eE", type) && type) {
        template__printf(b, type == 'e' ? "%.*e" : "%.*E", precision, d);
    } else if (strchr("gG", type)) {
        template__printf(b, type == 'G' ? "%.*G" : "%.*g", precision, d);
    } else {
        template__bad(b->r, "a %s has no format '%c'", template__type(v), type);
    }
}

static const struct str *with_commas(struct run *r, const struct str *s)
{
    struct builder b = template__builder(r);
    uint32_t digits = 0;
    while (digits < s->n && s->p[digits] >= '0' && s->p[digits] <= '9') digits++;
    for (uint32_t i = 0; i < digits; i++) {
        if (i && (digits - i) % 3 == 0) template__put_cstr(&b, ",");
        template__put(&b, s->p + i, 1, NULL);
    }
    template__put(&b, s->p + digits, s->n - digits, NULL);
    return template__built(&b).s;
}

static void put_number(struct builder *b, const struct spec *f, struct value v)
{
    struct builder digits = template__builder(b->r), whole = template__builder(b->r);
    put_magnitude(&digits, f, v);
    const struct str *s = template__built(&digits).s;
    if (f->comma) s = with_commas(b->r, s);
    int64_t i;
    bool negative = template__integral(v, &i) ? i < 0 : signbit(v.f) && !isnan(v.f);
    const char *sign = negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
    template__put_cstr(&whole, sign);
    size_t n = strlen(sign) + s->chars;
    if (f->align == '=')
        for (size_t w = (size_t)f->width; n < w; n++) template__put_code(&whole, f->fill, NULL);
    template__put_str(&whole, s);
    put_padded(b, f, template__built(&whole).s, f->align ? f->align : '>');
}

static int small(struct run *r, const struct str *s, uint32_t *at)
{
    int n = 0;
    for (; *at < s->n && s->p[*at] >= '0' && s->p[*at] <= '9'; ++*at) {
        n = n * 10 + (s->p[*at] - '0');
        if (n > 10000) template__bad(r, "a width over 10000");
    }
    return n;
}

static bool one_of(const struct str *s, uint32_t at, const char *set)
{
    return at < s->n && s->p[at] && strchr(set, s->p[at]);
}

static struct spec read_spec(struct run *r, const struct str *s)
{
    struct spec f = {.fill = ' ', .precision = -1};
    uint32_t at = 0;
    struct unicode_char first = {0};
    if (s->n) first = unicode_at(s->p, s->n);
    bool filled = s->n && one_of(s, first.bytes, "<>=^");
    if (filled) {
        f.fill = first.code;
        at = first.bytes;
    }
    if (one_of(s, at, "<>=^")) f.align = s->p[at++];
    if (one_of(s, at, "+- ")) f.sign = s->p[at++];
    if (one_of(s, at, "#")) f.alternate = (at++, true);
    if (one_of(s, at, "0")) {
        at++;
        if (!filled) f.fill = '0';
        if (!f.align) f.align = '=';
    }
    f.width = small(r, s, &at);
    if (one_of(s, at, ",")) f.comma = (at++, true);
    if (one_of(s, at, ".")) {
        uint32_t from = ++at;
        f.precision = small(r, s, &at);
        if (from == at) template__bad(r, "a format without its precision");
    }
    if (at < s->n) f.type = s->p[at++];
    if (at < s->n) template__bad(r, "a format specification that makes no sense");
    return f;
}

static void put_field(struct builder *b, struct value v, const struct str *text)
{
    if (text->n == 0) {
        template__put_value(b, v);
        return;
    }
    struct spec f = read_spec(b->r, text);
    if (template__number(v)) {
        if (v.kind != V_FLOAT && f.precision >= 0 && !strchr("eEfFgG%", f.type ? f.type : 'd'))
            template__bad(b->r, "an integer has no precision");
        if (f.comma && f.type && !strchr("deEfFgG%", f.type))
            template__bad(b->r, "no commas go with '%c'", f.type);
        put_number(b, &f, v);
    } else if (v.kind == V_STRING) {
        if ((f.type && f.type != 's') || f.sign || f.comma || f.align == '=')
            template__bad(b->r, "a str has no such format");
        put_padded(b, &f, cut(b->r, v.s, f.precision), f.align ? f.align : '<');
    } else {
        template__bad(b->r, "a %s takes no format", template__type(v));
    }
}

/* The value that "0.name[key]" means. */
static struct value field_value(struct run *r, const struct str *name, const struct args *a,
                                uint32_t *next)
{
    uint32_t end = 0;
    while (end < name->n && !strchr(".[", name->p[end])) end++;
    const struct str *first = template__sub(r, name, 0, end).s;
    struct value v = v_undefined();
    int64_t i = *next;
    bool numbered = first->n == 0 || template__parse_int(r, first, 10, &i);
    if (first->n == 0) ++*next;
    if (numbered) {
        if (i < 0 || i >= a->n) template__bad(r, "format() has no argument %jd", (intmax_t)i);
        v = a->v[i];
    } else {
        bool found = false;
        for (uint32_t k = 0; k < a->n_kw && !found; k++)
            if ((found = template__same(a->kw[k].key.s, first))) v = a->kw[k].value;
        if (!found) template__bad(r, "format() has no argument '%.*s'", (int)first->n, first->p);
    }
    while (end < name->n) {
        bool item = name->p[end++] == '[';
        uint32_t from = end;
        while (end < name->n && !(item ? name->p[end] == ']' : strchr(".[", name->p[end]) != NULL))
            end++;
        struct value part = template__sub(r, name, from, end - from);
        if (item && end++ >= name->n) template__bad(r, "a field lacks its ']'");
        if (item && template__parse_int(r, part.s, 10, &i)) part = v_int(i);
        v = item ? template__item(r, v, part) : template__attr(r, v, part.s);
    }
    return v;
}

/* "name!r:spec" */
static void put_replacement(struct builder *b, const struct str *field, const struct args *a,
                            uint32_t *next)
{
    struct run *r = b->r;
    size_t colon = template__find(r, field, 0, field->n, template__cstr(r, ":").s);
    size_t name_end = colon == SIZE_MAX ? field->n : colon;
    char convert = 0;
    if (name_end >= 2 && field->p[name_end - 2] == '!') {
        convert = field->p[name_end - 1];
        name_end -= 2;
    }
    struct value v = field_value(r, template__sub(r, field, 0, name_end).s, a, next);
    if (convert) {
        struct builder s = template__builder(r);
        if (convert == 'r')
            template__put_repr(&s, v);
        else if (convert == 's')
            template__put_value(&s, v);
        else
            template__bad(r, "a conversion other than !r and !s");
        v = template__built(&s);
    }
    size_t spec = colon == SIZE_MAX ? field->n : colon + 1;
    put_field(b, v, template__sub(r, field, spec, field->n - spec).s);
}

struct value template__format(struct run *r, const struct str *fmt, const struct args *a)
{
    struct builder b = template__builder(r);
    uint32_t next = 0;
    for (uint32_t i = 0; i < fmt->n;) {
        char c = fmt->p[i];
        if (c != '{' && c != '}') {
            template__put_sub(&b, fmt, i++, 1);
            continue;
        }
        if (i + 1 < fmt->n && fmt->p[i + 1] == c) {
            template__put_sub(&b, fmt, i, 1);
            i += 2;
            continue;
        }
        const char *close = c == '{' ? memchr(fmt->p + i, '}', fmt->n - i) : NULL;
        if (!close) template__bad(r, "a single '%c' in a format", c);
        uint32_t end = (uint32_t)(close - fmt->p);
        const struct str *field = template__sub(r, fmt, i + 1, end - i - 1).s;
        if (memchr(field->p, '{', field->n))
            template__fail(r, ERR_UNSUPPORTED, "nested fields in a format");
        put_replacement(&b, field, a, &next);
        i = end + 1;
    }
    return template__built(&b);
}

/* ---- "%s" % x ---- */

struct percent {
    struct run *r;
    const struct str *fmt;
    uint32_t at;
    struct value arg;
    uint32_t next; /* of a tuple */
    bool named;    /* %(name)s was met */
};

static struct value next_argument(struct percent *p)
{
    if (p->arg.kind == V_TUPLE) {
        if (p->next >= p->arg.list->n) template__bad(p->r, "not enough arguments for a format");
        return p->arg.list->at[p->next++];
    }
    if (p->next++) template__bad(p->r, "not enough arguments for a format");
    return p->arg;
}

static int star_or_number(struct percent *p)
{
    int64_t i;
    if (!one_of(p->fmt, p->at, "*")) return small(p->r, p->fmt, &p->at);
    p->at++;
    if (!template__integral(next_argument(p), &i) || i < -10000 || i > 10000)
        template__bad(p->r, "'*' wants an integer of at most 10000");
    return (int)i;
}

static struct value to_text(struct run *r, struct value v, char type, int precision)
{
    struct builder s = template__builder(r);
    if (type == 's')
        template__put_value(&s, v);
    else
        template__put_repr(&s, v);
    return v_str(cut(r, template__built(&s).s, precision));
}

/* A character by its number, or a string of one. */
static struct value to_char(struct run *r, struct value v)
{
    int64_t i;
    if (v.kind == V_STRING && v.s->chars == 1) return v;
    if (!template__integral(v, &i) || i < 0 || i > 0x10ffff || (i >= 0xd800 && i < 0xe000))
        template__bad(r, "%%c wants a character");
    struct builder s = template__builder(r);
    template__put_code(&s, (uint32_t)i, NULL);
    return template__built(&s);
}

static void put_conversion(struct builder *b, struct percent *p, struct spec *f, struct value v)
{
    struct run *r = p->r;
    template__need(r, f->type == 's' || f->type == 'r' ? v_none() : v);
    if (strchr("sra", f->type) || f->type == 'c') {
        v = f->type == 'c' ? to_char(r, v) : to_text(r, v, f->type, f->precision);
        f->fill = ' ';
        put_padded(b, f, v.s, f->align == '<' ? '<' : '>');
        return;
    }
    if (!strchr("diuxXofFeEgG", f->type))
        template__bad(r, "unsupported format character '%c'", f->type);
    if (!template__number(v)) template__bad(r, "%%%c wants a number", f->type);
    if (strchr("fFeEgG", f->type)) {
        v = v_float(template__double(v));
    } else if (v.kind == V_FLOAT) {
        if (strchr("xXo", f->type)) template__bad(r, "%%%c wants an integer", f->type);
        if (!(fabs(v.f) < 0x1p63)) template__fail(r, ERR_UNSUPPORTED, "an integer beyond 64 bits");
        v = v_int((int64_t)v.f);
    }
    put_number(b, f, v);
}

static void conversion(struct builder *b, struct percent *p)
{
    struct spec f = {.fill = ' ', .precision = -1};
    struct value v = v_none();
    bool named = one_of(p->fmt, p->at, "(");
    if (named) {
        const char *close = memchr(p->fmt->p + p->at, ')', p->fmt->n - p->at);
        if (!close || p->arg.kind != V_DICT) template__bad(p->r, "a format wants a mapping");
        uint32_t from = p->at + 1, end = (uint32_t)(close - p->fmt->p);
        const struct str *key = template__sub(p->r, p->fmt, from, end - from).s;
        const struct value *found = template__get_str(p->r, p->arg.dict, key);
        if (!found) template__bad(p->r, "a format names '%.*s'", (int)key->n, key->p);
        v = *found;
        p->at = end + 1;
        p->named = true;
    }
    for (; one_of(p->fmt, p->at, "#0- +"); p->at++) {
        char c = p->fmt->p[p->at];
        if (c == '#') f.alternate = true;
        if (c == '-') f.align = '<';
        if (c == '0' && f.align != '<') f.align = '=';
        if (c == '+' || (c == ' ' && !f.sign)) f.sign = c;
    }
    f.width = star_or_number(p);
    if (f.width < 0) {
        f.align = '<';
        f.width = -f.width;
    }
    if (f.align == '=') f.fill = '0';
    if (one_of(p->fmt, p->at, ".")) {
        p->at++;
        f.precision = star_or_number(p);
        if (f.precision < 0) f.precision = 0;
    }
    while (one_of(p->fmt, p->at, "hlL")) p->at++;
    if (p->at >= p->fmt->n) template__bad(p->r, "an incomplete format");
    f.type = p->fmt->p[p->at++];
    if (f.type == '%') {
        template__put_cstr(b, "%");
        return;
    }
    put_conversion(b, p, &f, named ? v : next_argument(p));
}

struct value template__percent(struct run *r, const struct str *fmt, struct value arg)
{
    struct percent p = {.r = r, .fmt = fmt, .arg = arg};
    struct builder b = template__builder(r);
    while (p.at < fmt->n) {
        if (fmt->p[p.at] != '%') {
            template__put_sub(&b, fmt, p.at++, 1);
        } else {
            p.at++;
            conversion(&b, &p);
        }
    }
    bool all = arg.kind == V_TUPLE ? p.next == arg.list->n : p.next || p.named;
    bool subscripted = arg.kind == V_DICT || arg.kind == V_LIST || arg.kind == V_RANGE ||
                       arg.kind == V_UNDEFINED; /* may stand unused */
    if (!all && !subscripted) template__bad(r, "not all arguments of a format are used");
    return template__built(&b);
}
