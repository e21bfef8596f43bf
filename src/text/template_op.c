/* Operators on values, as Python defines them: attributes, subscripts, slices, arithmetic.
 * Integers have 64 bits here; a result beyond them is refused, never wrapped.
 */
#include "template_int.h"

#include <math.h>

/* ---- parts ---- */

static struct value undefined(struct value of, const struct str *name)
{
    return (struct value){.kind = V_UNDEFINED, .of = of.kind, .s = name};
}

static bool method(struct run *r, struct value of, const struct str *name, struct value *out)
{
    const struct native *f = template__method_named(of, name);
    if (!f) return false;
    *out = undefined(of, name); /* a forbidden one is as good as none */
    if (f->fn) {
        struct method *m = template__alloc(r, 1, sizeof *m);
        *m = (struct method){f, of};
        *out = (struct value){.kind = V_METHOD, .method = m};
    }
    return true;
}

static bool macro_attr(struct run *r, const struct macro *m, const struct str *name,
                       struct value *out)
{
    if (template__is(name, "name")) {
        *out = m->node->v;
        return true;
    }
    if (!template__is(name, "arguments")) return false;
    struct list *l = template__list_new(r, 0);
    for (const struct node *p = m->node->k[0]; p; p = p->next) template__push(r, l, p->v);
    *out = v_tuple(l);
    return true;
}

/* What Python's getattr finds. */
static bool own_attr(struct run *r, struct value of, const struct str *name, struct value *out)
{
    const struct value *v;
    switch (of.kind) {
    case V_UNDEFINED: template__need(r, of); return false;
    case V_NAMESPACE:
        v = template__get_str(r, of.space, name);
        if (v) *out = *v;
        return v != NULL;
    case V_LOOP:
        *out = template__loop_attr(r, of.loop, name);
        if (out->kind != V_MISSING) return true;
        break;
    case V_MACRO: return macro_attr(r, of.macro, name, out);
    case V_TUPLE:
        if (of.flag == FLAG_GROUP &&
            (template__is(name, "grouper") || template__is(name, "list"))) {
            *out = of.list->at[template__is(name, "list")];
            return true;
        }
        break;
    default: break;
    }
    return method(r, of, name, out);
}

static bool element(struct run *r, struct value of, struct value key, struct value *out)
{
    int64_t i;
    if (of.kind == V_DICT) {
        const struct value *v = template__hashable(key) ? template__get(r, of.dict, key) : NULL;
        if (v) *out = *v;
        return v != NULL;
    }
    if (of.kind != V_STRING && of.kind != V_LIST && of.kind != V_TUPLE && of.kind != V_RANGE)
        return false;
    if (!template__integral(key, &i)) return false;
    int64_t n = template__length(r, of);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return false;
    if (of.kind == V_RANGE) {
        *out = v_int(of.range->start + i * of.range->step);
    } else if (of.kind == V_STRING) {
        size_t from = template__byte_of(of.s, (size_t)i), to = from + 1;
        if (of.s->chars < of.s->n) template__step(r, of.s->n);
        while (to < of.s->n && (of.s->p[to] & 0xc0) == 0x80) to++;
        uint8_t flag = of.flag;
        *out = template__sub(r, of.s, from, to - from);
        out->flag = flag;
    } else {
        *out = of.list->at[i];
    }
    return true;
}

struct value template__attr(struct run *r, struct value of, const struct str *name)
{
    struct value v;
    if (own_attr(r, of, name, &v) || element(r, of, v_str(name), &v)) return v;
    return undefined(of, name);
}

struct value template__item(struct run *r, struct value of, struct value key)
{
    struct value v;
    template__need(r, of);
    if (element(r, of, key, &v)) return v;
    if (key.kind == V_STRING && own_attr(r, of, key.s, &v)) return v;
    return undefined(of, template__string(r, key));
}

struct value template__path(struct run *r, struct value v, struct value path,
                            struct value otherwise)
{
    struct value step = path;
    const struct list *parts = NULL;
    if (path.kind == V_NONE || path.kind == V_MISSING) return v;
    if (path.kind == V_STRING)
        parts = template__split(r, path.s, template__cstr(r, ".").s, -1, false).list;
    for (uint32_t i = 0; i < (parts ? parts->n : 1); i++) {
        if (parts) step = parts->at[i];
        int64_t index;
        bool digits = parts && step.s->n && strspn(step.s->p, "0123456789") >= step.s->n;
        if (digits && template__parse_int(r, step.s, 10, &index)) step = v_int(index);
        v = template__item(r, v, step);
        if (v.kind == V_UNDEFINED && otherwise.kind != V_MISSING) v = otherwise;
    }
    return v;
}

/* ---- slices ---- */

/* A bound of a slice over n elements: clipped as Python does. */
static int64_t bound(struct run *r, struct value v, int64_t n, int64_t otherwise, bool back)
{
    int64_t i;
    if (v.kind == V_NONE) return otherwise;
    if (!template__integral(v, &i))
        template__bad(r, "a slice wants integers, not a %s", template__type(v));
    if (i < 0) i = i < -n ? -1 : i + n;
    if (i < 0) return back ? -1 : 0;
    return i >= n ? (back ? n - 1 : n) : i;
}

static struct value slice_string(struct run *r, struct value of, int64_t from, int64_t n,
                                 int64_t step)
{
    const struct str *s = of.s;
    struct value v;
    template__step(r, s->n);
    if (step == 1 || n == 0) {
        size_t a = template__byte_of(s, (size_t)from);
        v = template__sub(r, s, a, n ? template__byte_of(s, (size_t)(from + n)) - a : 0);
    } else {
        const struct list *chars = template__items(r, of);
        struct builder b = template__builder(r);
        for (int64_t i = 0; i < n; i++) template__put_str(&b, chars->at[from + i * step].s);
        v = template__built(&b);
    }
    v.flag = of.flag;
    return v;
}

static __attribute__((noreturn)) void too_large(struct run *r)
{
    template__fail(r, ERR_UNSUPPORTED, "an integer beyond 64 bits");
}

static struct value slice_range(struct run *r, const struct range *of, int64_t from, int64_t to,
                                int64_t step, uint32_t n)
{
    struct range *x = template__alloc(r, 1, sizeof *x);
    x->n = n;
    if (__builtin_mul_overflow(of->step, step, &x->step) ||
        __builtin_mul_overflow(of->step, from, &x->start) ||
        __builtin_add_overflow(of->start, x->start, &x->start) ||
        __builtin_mul_overflow(of->step, to, &x->stop) ||
        __builtin_add_overflow(of->start, x->stop, &x->stop))
        too_large(r);
    return (struct value){.kind = V_RANGE, .range = x};
}

struct value template__slice(struct run *r, struct value of, struct value from, struct value to,
                             struct value step)
{
    if (of.kind == V_UNDEFINED) template__need(r, of);
    if (of.kind != V_STRING && of.kind != V_LIST && of.kind != V_TUPLE && of.kind != V_RANGE)
        template__bad(r, "a %s cannot be sliced", template__type(of));
    int64_t n = template__length(r, of), by = 1;
    if (step.kind != V_NONE && !template__integral(step, &by))
        template__bad(r, "a slice wants integers, not a %s", template__type(step));
    if (by == 0) template__bad(r, "a slice with step 0");
    bool back = by < 0;
    int64_t a = bound(r, from, n, back ? n - 1 : 0, back), b = bound(r, to, n, back ? -1 : n, back);
    if (by == INT64_MIN) by++; /* leaves one element at most, either way */
    int64_t count = back ? (a > b ? (a - b - 1) / -by + 1 : 0) : (b > a ? (b - a - 1) / by + 1 : 0);
    if (of.kind == V_STRING) return slice_string(r, of, count ? a : 0, count, by);
    if (of.kind == V_RANGE) return slice_range(r, of.range, a, b, by, (uint32_t)count);
    struct list *l = template__list_new(r, (uint32_t)count);
    for (int64_t i = 0; i < count; i++) template__push(r, l, of.list->at[a + i * by]);
    return (struct value){.kind = of.kind, .list = l};
}

/* ---- arithmetic ---- */

static __attribute__((noreturn)) void no_operation(struct run *r, const char *op, struct value a,
                                                   struct value b)
{
    template__need(r, a);
    template__need(r, b);
    template__bad(r, "'%s' not supported between %s and %s", op, template__type(a),
                  template__type(b));
}

static int64_t floor_div(struct run *r, int64_t a, int64_t b)
{
    if (a == INT64_MIN && b == -1) too_large(r);
    int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

static struct value int_power(struct run *r, int64_t a, int64_t b)
{
    if (b < 0) {
        if (a == 0) template__bad(r, "0 to a negative power");
        return v_float(pow((double)a, (double)b));
    }
    int64_t v = 1;
    for (bool last = b <= 1;; last = b <= 1) {
        if (b & 1 && __builtin_mul_overflow(v, a, &v)) too_large(r);
        if (last) return v_int(v);
        b >>= 1;
        if (__builtin_mul_overflow(a, a, &a)) too_large(r);
    }
}

static struct value int_binary(struct run *r, enum binary op, int64_t a, int64_t b)
{
    int64_t v = 0;
    bool over = false;
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD))
        template__bad(r, "division by zero");
    switch (op) {
    case OP_ADD: over = __builtin_add_overflow(a, b, &v); break;
    case OP_SUB: over = __builtin_sub_overflow(a, b, &v); break;
    case OP_MUL: over = __builtin_mul_overflow(a, b, &v); break;
    case OP_DIV: return v_float((double)a / (double)b);
    case OP_FLOORDIV: v = floor_div(r, a, b); break;
    case OP_MOD: v = b == -1 ? 0 : a - b * floor_div(r, a, b); break;
    case OP_POW: return int_power(r, a, b);
    }
    if (over) too_large(r);
    return v_int(v);
}

static struct value float_binary(struct run *r, enum binary op, double a, double b)
{
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD))
        template__bad(r, "division by zero");
    switch (op) {
    case OP_ADD: return v_float(a + b);
    case OP_SUB: return v_float(a - b);
    case OP_MUL: return v_float(a * b);
    case OP_DIV: return v_float(a / b);
    case OP_POW: break;
    case OP_FLOORDIV:
    case OP_MOD: {
        double mod = fmod(a, b), div = (a - mod) / b;
        if (mod != 0 && (b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
        if (mod == 0) mod = copysign(0, b);
        double floored = div != 0 ? floor(div) : copysign(0, a / b);
        if (div - floored > 0.5) floored += 1;
        return v_float(op == OP_MOD ? mod : floored);
    }
    }
    if (a == 0 && b < 0) template__bad(r, "0 to a negative power");
    if (a < 0 && b != floor(b) && isfinite(a) && isfinite(b))
        template__fail(r, ERR_UNSUPPORTED, "complex numbers");
    double v = pow(a, b);
    if (isinf(v) && isfinite(a) && isfinite(b)) template__bad(r, "a number too large");
    return v_float(v);
}

static struct value join(struct run *r, struct value a, struct value b)
{
    if (a.kind == V_STRING) {
        bool safe = a.flag == FLAG_SAFE || b.flag == FLAG_SAFE;
        if (safe && a.flag != FLAG_SAFE) a = template__escape(r, a.s);
        if (safe && b.flag != FLAG_SAFE) b = template__escape(r, b.s);
        struct builder s = template__builder(r);
        template__put_str(&s, a.s);
        template__put_str(&s, b.s);
        struct value v = template__built(&s);
        v.flag = safe ? FLAG_SAFE : 0;
        return v;
    }
    struct list *l = template__list_new(r, a.list->n + b.list->n);
    for (uint32_t i = 0; i < a.list->n; i++) template__push(r, l, a.list->at[i]);
    for (uint32_t i = 0; i < b.list->n; i++) template__push(r, l, b.list->at[i]);
    return (struct value){.kind = a.kind, .list = l};
}

static struct value repeat(struct run *r, struct value a, int64_t times)
{
    if (a.kind == V_STRING) {
        struct builder s = template__builder(r);
        for (int64_t i = 0; i < times && a.s->n; i++) template__put_str(&s, a.s);
        struct value v = template__built(&s);
        v.flag = a.flag;
        return v;
    }
    struct list *l = template__list_new(r, 0);
    for (int64_t i = 0; i < times && a.list->n; i++)
        for (uint32_t k = 0; k < a.list->n; k++) template__push(r, l, a.list->at[k]);
    return (struct value){.kind = a.kind, .list = l};
}

static bool sequence(struct value v)
{
    return v.kind == V_STRING || v.kind == V_LIST || v.kind == V_TUPLE;
}

struct value template__binary(struct run *r, enum binary op, struct value a, struct value b)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "**"};
    int64_t x, y;
    bool xi = template__integral(a, &x), yi = template__integral(b, &y);
    template__step(r, 0);
    if (xi && yi) return int_binary(r, op, x, y);
    if (template__number(a) && template__number(b))
        return float_binary(r, op, template__double(a), template__double(b));
    if (op == OP_ADD && sequence(a) && a.kind == b.kind) return join(r, a, b);
    if (op == OP_MUL && sequence(a) && yi) return repeat(r, a, y);
    if (op == OP_MUL && sequence(b) && xi) return repeat(r, b, x);
    if (op == OP_MOD && a.kind == V_STRING) return template__percent(r, a.s, b);
    no_operation(r, names[op], a, b);
}

struct value template__negate(struct run *r, struct value a, bool minus)
{
    int64_t i;
    if (a.kind == V_FLOAT) return v_float(minus ? -a.f : a.f);
    template__need(r, a);
    if (!template__integral(a, &i)) template__bad(r, "a %s has no sign", template__type(a));
    if (minus && i == INT64_MIN) too_large(r);
    return v_int(minus ? -i : i);
}
