/* The tests of "x is ...", in one table. */
#include "template_int.h"

#include "unicode.h"

#include <wctype.h>

#define TEST(name, condition)                                                     \
    static struct value name(struct run *r, struct value v, const struct args *a) \
    {                                                                             \
        (void)r, (void)a;                                                         \
        return v_bool(condition);                                                 \
    }

static int64_t integer_modulo(struct run *r, struct value v, struct value by)
{
    struct value m = template__binary(r, OP_MOD, v, by);
    return template__number(m) ? template__double(m) == 1   ? 1
                                 : template__double(m) == 0 ? 0
                                                            : 2
                               : 2;
}

/* All letters that have a case have this one, and there is one. */
static bool cased(struct run *r, struct value v, int class)
{
    const struct str *s = template__string(r, v);
    bool found = false;
    template__step(r, s->n);
    for (size_t i = 0; i < s->n;) {
        struct unicode_char c = unicode_at(s->p + i, s->n - i);
        if (c.class & (UNICODE_UPPER | UNICODE_LOWER) & ~class) return false;
        found = found || c.class & class;
        i += c.bytes;
    }
    return found;
}

static bool sequence(struct value v)
{
    return v.kind == V_UNDEFINED || (v.kind >= V_STRING && v.kind <= V_RANGE && v.kind != V_VIEW);
}

static bool same_object(struct value v, struct value other)
{
    if (v.kind != other.kind) return false;
    if (v.kind == V_BOOL) return v.b == other.b;
    if (v.kind == V_NONE) return true;
    if (v.kind == V_STRING) return v.s == other.s;
    return v.kind == V_FLOAT ? v.f == other.f : v.i == other.i;
}

static bool compares(struct run *r, struct value v, struct value other, const char *op)
{
    int d = template__order(r, v, other, op);
    if (d == 2) return false;
    if (op[0] == '<') return op[1] ? d <= 0 : d < 0;
    return op[1] ? d >= 0 : d > 0;
}

TEST(odd, integer_modulo(r, v, v_int(2)) == 1)
TEST(even, integer_modulo(r, v, v_int(2)) == 0)
TEST(divisible_by, integer_modulo(r, v, a->v[0]) == 0)
TEST(defined, v.kind != V_UNDEFINED)
TEST(undefined, v.kind == V_UNDEFINED)
TEST(filter, v.kind == V_STRING && template__filter_named(v.s))
TEST(test, v.kind == V_STRING && template__test_named(v.s))
TEST(none, v.kind == V_NONE)
TEST(boolean, v.kind == V_BOOL)
TEST(is_false, v.kind == V_BOOL && !v.b)
TEST(is_true, v.kind == V_BOOL && v.b)
TEST(integer, v.kind == V_INT)
TEST(is_float, v.kind == V_FLOAT)
TEST(lower, cased(r, v, UNICODE_LOWER))
TEST(upper, cased(r, v, UNICODE_UPPER))
TEST(string, v.kind == V_STRING)
TEST(mapping, v.kind == V_DICT)
TEST(number, template__number(v))
TEST(is_sequence, sequence(v))
TEST(iterable, template__iterable(v))
TEST(callable, v.kind == V_MACRO || v.kind == V_METHOD || v.kind == V_FUNCTION ||
                   v.kind == V_LOOP || v.kind == V_UNDEFINED)
TEST(same_as, same_object(v, a->v[0]))
TEST(escaped, v.kind == V_STRING && v.flag == FLAG_SAFE)
TEST(in, template__contains(r, a->v[0], v))
TEST(eq, template__equal(r, v, a->v[0]))
TEST(ne, !template__equal(r, v, a->v[0]))
TEST(gt, compares(r, v, a->v[0], ">"))
TEST(ge, compares(r, v, a->v[0], ">="))
TEST(lt, compares(r, v, a->v[0], "<"))
TEST(le, compares(r, v, a->v[0], "<="))

static const struct native tests[] = {
    {"boolean", boolean, "", 0},
    {"callable", callable, "", 0},
    {"defined", defined, "", 0},
    {"divisibleby", divisible_by, "num", 1},
    {"eq", eq, "/b", 1},
    {"==", eq, "/b", 1},
    {"equalto", eq, "/b", 1},
    {"escaped", escaped, "", 0},
    {"even", even, "", 0},
    {"false", is_false, "", 0},
    {"filter", filter, "", 0},
    {"float", is_float, "", 0},
    {"ge", ge, "/b", 1},
    {">=", ge, "/b", 1},
    {"gt", gt, "/b", 1},
    {">", gt, "/b", 1},
    {"greaterthan", gt, "/b", 1},
    {"in", in, "seq", 1},
    {"integer", integer, "", 0},
    {"iterable", iterable, "", 0},
    {"le", le, "/b", 1},
    {"<=", le, "/b", 1},
    {"lower", lower, "", 0},
    {"lt", lt, "/b", 1},
    {"<", lt, "/b", 1},
    {"lessthan", lt, "/b", 1},
    {"mapping", mapping, "", 0},
    {"ne", ne, "/b", 1},
    {"!=", ne, "/b", 1},
    {"none", none, "", 0},
    {"number", number, "", 0},
    {"odd", odd, "", 0},
    {"sameas", same_as, "other", 1},
    {"sequence", is_sequence, "", 0},
    {"string", string, "", 0},
    {"test", test, "", 0},
    {"true", is_true, "", 0},
    {"undefined", undefined, "", 0},
    {"upper", upper, "", 0},
};

const struct native *template__test_named(const struct str *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (template__is(name, tests[i].name)) return &tests[i];
    return NULL;
}
