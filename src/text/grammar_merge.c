/* Two schemas that both hold (allOf, a $ref with neighbours, anyOf with neighbours) -> one: the narrower of each
 * keyword. What a keyword says of parts (properties, items) is left as an allOf of the two, to be
 * merged when it is reached, so that recursive schemas end. And whether branches of oneOf exclude
 * each other: by type, by constants, or by a member that one requires with other constants.
 */
#include "grammar_schema_int.h"

#include <string.h>

typedef struct grammar_schema__doc D;

enum { BRANCHES = 256, HOPS = 32 };

static json_t *no_memory(D *d)
{
    grammar__fail(d->b, ERR_MEMORY, "out of memory for a JSON schema");
    return NULL;
}

static json_t *refuse(D *d, const char *key)
{
    grammar__fail(d->b, ERR_UNSUPPORTED,
                  "JSON schema: two schemas cannot be merged, both have '%s'", key);
    return NULL;
}

/* Takes the reference. */
static json_t *keep(D *d, json_t *x)
{
    if (x && json_array_append_new(d->made, x) == 0) return x;
    return no_memory(d);
}

json_t *grammar_schema__without(D *d, json_t *s, const char *const *but)
{
    json_t *copy = keep(d, json_copy(s));
    for (; copy && *but; but++) json_object_del(copy, *but);
    return copy;
}

/* Sets a key of an object that is being made; takes the value. */
static bool set(D *d, json_t *object, const char *key, json_t *value)
{
    if (value && json_object_set_new(object, key, value) == 0) return true;
    no_memory(d);
    return false;
}

/* A schema of both that is not looked at yet. */
static json_t *both(json_t *x, json_t *y)
{
    return json_equal(x, y) ? json_incref(x) : json_pack("{s:[O,O]}", "allOf", x, y);
}

static bool merge_types(D *d, json_t *out, const json_t *a, const json_t *b)
{
    static const struct {
        const char *name;
        unsigned bits;
    } names[] = {{"null", GRAMMAR_SCHEMA__NULL},     {"boolean", GRAMMAR_SCHEMA__BOOLEAN},
                 {"number", GRAMMAR_SCHEMA__NUMBER}, {"integer", GRAMMAR_SCHEMA__INTEGER},
                 {"string", GRAMMAR_SCHEMA__STRING}, {"array", GRAMMAR_SCHEMA__ARRAY},
                 {"object", GRAMMAR_SCHEMA__OBJECT}};
    unsigned types = grammar_schema__types(d, a) & grammar_schema__types(d, b);
    json_t *list = json_array();
    for (size_t i = 0; list && i < sizeof names / sizeof *names; i++) {
        if ((types & names[i].bits) != names[i].bits) continue;
        json_array_append_new(list, json_string(names[i].name));
        types &= ~names[i].bits;
    }
    json_object_del(out, "nullable"); /* is in `type` now */
    return set(d, out, "type", list);
}

static bool merge_enum(D *d, json_t *out, const json_t *x, const json_t *y)
{
    json_t *list = json_array(), *v, *w;
    size_t i, k;
    json_array_foreach(x, i, v) json_array_foreach(y, k, w)
    {
        if (!json_equal(v, w)) continue;
        json_array_append(list, v);
        break;
    }
    return set(d, out, "enum", list);
}

static bool merge_limit(D *d, json_t *out, const char *key, const json_t *x, json_t *y, bool lower)
{
    if (!json_is_number(x) || !json_is_number(y))
        return grammar__fail(d->b, ERR_FORMAT, "JSON schema: '%s' is no number", key), false;
    bool replace = lower ? json_number_value(y) > json_number_value(x)
                         : json_number_value(y) < json_number_value(x);
    return !replace || set(d, out, key, json_incref(y));
}

static bool merge_required(D *d, json_t *out, json_t *x, const json_t *y)
{
    json_t *list = json_copy(x), *v;
    size_t i;
    json_array_foreach(y, i, v) json_array_append(list, v);
    return set(d, out, "required", list);
}

/* A member that only one of them names is what the other calls additional. */
static bool merge_properties(D *d, json_t *out, json_t *a, json_t *b)
{
    json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties");
    json_t *more_a = json_object_get(a, "additionalProperties"), *v;
    json_t *more_b = json_object_get(b, "additionalProperties");
    json_t *all = json_object();
    const char *key;
    json_object_foreach(pa, key, v)
    {
        json_t *other = json_object_get(pb, key);
        if (!other) other = more_b;
        if (!set(d, all, key, other ? both(v, other) : json_incref(v))) goto fail;
    }
    json_object_foreach(pb, key, v)
    {
        if (json_object_get(pa, key)) continue;
        if (!set(d, all, key, more_a ? both(v, more_a) : json_incref(v))) goto fail;
    }
    return set(d, out, "properties", all);
fail:
    json_decref(all);
    return false;
}

/* Every pair of branches. */
static bool merge_any(D *d, json_t *out, const json_t *x, const json_t *y)
{
    json_t *list = json_array(), *v, *w;
    size_t i, k;
    if (json_array_size(x) * json_array_size(y) > BRANCHES) {
        json_decref(list);
        grammar__fail(d->b, ERR_LIMIT, "JSON schema: more than %d pairs of branches of anyOf",
                      BRANCHES);
        return false;
    }
    json_array_foreach(x, i, v) json_array_foreach(y, k, w) json_array_append_new(list, both(v, w));
    return set(d, out, "anyOf", list);
}

/* Keywords of b into a copy of a, key by key. */
static bool merge_key(D *d, json_t *out, json_t *a, const char *key, json_t *y)
{
    static const char *const lower[] = {"minimum", "exclusiveMinimum", "minLength", "minItems",
                                        "minProperties"};
    static const char *const upper[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems",
                                        "maxProperties"};
    static const char *const same[] = {
        "pattern",     "format",      "multipleOf", "additionalItems",
        "prefixItems", "uniqueItems", "oneOf"};
    json_t *x = json_object_get(a, key);
    if (strcmp(key, "type") == 0 || strcmp(key, "nullable") == 0 || strcmp(key, "properties") == 0)
        return true;
    if (!x) return set(d, out, key, json_incref(y));
    for (size_t i = 0; i < sizeof lower / sizeof *lower; i++) {
        if (strcmp(key, lower[i]) == 0) return merge_limit(d, out, key, x, y, true);
        if (strcmp(key, upper[i]) == 0) return merge_limit(d, out, key, x, y, false);
    }
    if (strcmp(key, "enum") == 0) return merge_enum(d, out, x, y);
    if (strcmp(key, "required") == 0) return merge_required(d, out, x, y);
    if (strcmp(key, "anyOf") == 0) return merge_any(d, out, x, y);
    if (strcmp(key, "additionalProperties") == 0 ||
        (strcmp(key, "items") == 0 && !json_is_array(x) && !json_is_array(y)))
        return set(d, out, key, both(x, y));
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(key, same[i]) == 0 && !json_equal(x, y)) return refuse(d, key), false;
    return strcmp(key, "items") != 0 || json_equal(x, y) || (refuse(d, key), false);
}

/* items of one would hold for the prefix of the other. */
static bool tuples_meet(const json_t *a, const json_t *b)
{
    const json_t *x = json_object_get(a, "items"), *y = json_object_get(b, "items");
    bool prefix_a = json_object_get(a, "prefixItems") || json_is_array(x);
    bool prefix_b = json_object_get(b, "prefixItems") || json_is_array(y);
    return (prefix_a && (prefix_b || y)) || (prefix_b && (prefix_a || x));
}

/* Without $ref and allOf at the top, const as enum, oneOf as anyOf. NULL: failed. */
static json_t *plain(D *d, json_t *s)
{
    static const char *const ref[] = {"$ref", NULL}, *const list[] = {"allOf", NULL},
                             *const defs[] = {"$defs", "definitions", "const", "oneOf", NULL};
    size_t i;
    json_t *v, *x = s;
    if (json_is_boolean(s)) return s;
    if (!grammar_schema__check(d, s)) return NULL;
    if (json_object_get(x, "$ref")) {
        json_t *to = grammar_schema__target(d, x), *rest = grammar_schema__without(d, x, ref);
        x = to && rest ? grammar_schema__merge(d, rest, to) : NULL;
    }
    json_t *all = json_object_get(x, "allOf");
    if (all) x = grammar_schema__without(d, x, list);
    json_array_foreach(all, i, v)
    {
        x = x ? grammar_schema__merge(d, x, v) : NULL;
        if (!x) return NULL;
    }
    if (!json_is_object(x)) return x;
    json_t *one = json_object_get(x, "oneOf"), *value = json_object_get(x, "const"), *y;
    if (one && !grammar_schema__exclusive(d, one)) return NULL;
    y = grammar_schema__without(d, x, defs);
    if (y && one) {
        json_t *any = json_object_get(y, "anyOf");
        if (any ? !merge_any(d, y, any, one) : !set(d, y, "anyOf", json_incref(one))) return NULL;
    }
    if (y && value) {
        json_t *single = keep(d, json_pack("[O]", value)), *list_of = json_object_get(y, "enum");
        if (!single) return NULL;
        if (list_of ? !merge_enum(d, y, list_of, single) : !set(d, y, "enum", json_incref(single)))
            return NULL;
    }
    return y;
}

json_t *grammar_schema__merge(D *d, json_t *a, json_t *b)
{
    const char *key;
    json_t *y, *out = NULL;
    if (!grammar_schema__visit(d)) return NULL;
    if (d->nesting++ > GRAMMAR_SCHEMA__NESTING)
        return grammar__fail(d->b, ERR_LIMIT, "JSON schema: nested too deep, at most %d",
                             GRAMMAR_SCHEMA__NESTING),
               NULL;
    a = plain(d, a);
    b = a ? plain(d, b) : NULL;
    d->nesting--;
    if (!a || !b) return NULL;
    if (json_is_false(a) || json_is_true(b)) return a;
    if (json_is_false(b) || json_is_true(a)) return b;
    if (tuples_meet(a, b)) return refuse(d, "items");
    out = keep(d, json_copy(a));
    if (!out) return NULL;
    if (json_object_get(a, "type") || json_object_get(b, "type"))
        if (!merge_types(d, out, a, b)) return NULL;
    if (json_object_get(a, "properties") || json_object_get(b, "properties"))
        if (!merge_properties(d, out, a, b)) return NULL;
    json_object_foreach(b, key, y) if (!merge_key(d, out, a, key, y)) return NULL;
    return d->b->failed ? NULL : out;
}

/* --- oneOf --- */

/* Behind $ref; its neighbours only narrow it. */
static const json_t *behind(D *d, const json_t *s)
{
    for (int i = 0; i < HOPS && s && json_object_get(s, "$ref"); i++)
        s = grammar_schema__target(d, s);
    return s;
}

/* The constants that a schema allows, as an array that the document keeps, or NULL: not only constants. */
static json_t *constants(D *d, const json_t *s)
{
    json_t *value = json_object_get(s, "const"), *list = json_object_get(s, "enum");
    return value ? keep(d, json_pack("[O]", value)) : json_is_array(list) ? list : NULL;
}

static bool disjoint(D *d, const json_t *a, const json_t *b)
{
    json_t *x = constants(d, a), *y = constants(d, b), *v, *w;
    size_t i, k;
    if (!x || !y) return false;
    json_array_foreach(x, i, v) json_array_foreach(y, k, w)
    {
        if (json_equal(v, w)) return false;
        if (json_is_number(v) && json_is_number(w) && json_number_value(v) == json_number_value(w))
            return false;
        if (json_typeof(v) == json_typeof(w) && (json_is_object(v) || json_is_array(v)))
            return false; /* numbers within may be equal and spelled in two ways */
    }
    return true;
}

static unsigned types_of(D *d, const json_t *s)
{
    unsigned types = grammar_schema__types(d, s), listed = 0;
    json_t *list = constants(d, s), *v;
    size_t i;
    json_array_foreach(list, i, v) listed |= grammar_schema__type_of(v);
    return list ? types & listed : types;
}

/* a requires a member that b has not, or has with other constants. */
static bool told_by_member(D *d, const json_t *a, const json_t *b)
{
    json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties"), *name;
    bool closed = json_is_false(json_object_get(b, "additionalProperties"));
    size_t i;
    json_array_foreach(json_object_get(a, "required"), i, name)
    {
        const char *key = json_string_value(name);
        if (!key) continue;
        const json_t *x = behind(d, json_object_get(pa, key));
        const json_t *y = behind(d, json_object_get(pb, key));
        if (!y && closed) return true;
        if (x && y && disjoint(d, x, y)) return true;
    }
    return false;
}

static bool exclude(D *d, const json_t *a, const json_t *b)
{
    a = behind(d, a), b = behind(d, b);
    if (!a || !b) return false;
    if (json_is_false(a) || json_is_false(b)) return true;
    if (!json_is_object(a) || !json_is_object(b)) return false;
    unsigned types = types_of(d, a) & types_of(d, b);
    if (types == 0 || disjoint(d, a, b)) return true;
    return types == GRAMMAR_SCHEMA__OBJECT && (told_by_member(d, a, b) || told_by_member(d, b, a));
}

bool grammar_schema__exclusive(D *d, const json_t *branches)
{
    size_t n = json_array_size(branches);
    if (n > BRANCHES) {
        grammar__fail(d->b, ERR_LIMIT, "JSON schema: more than %d branches of oneOf", BRANCHES);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (exclude(d, json_array_get(branches, i), json_array_get(branches, k))) continue;
            grammar__fail(d->b, ERR_UNSUPPORTED,
                          "JSON schema: 'oneOf', as branches %zu and %zu may both hold", k, i);
            return false;
        }
    }
    return !d->b->failed;
}
