/* A JSON schema -> nodes.
 *
 *     enforced    type properties required additionalProperties enum const items prefixItems minItems
 *                 maxItems anyOf oneOf allOf $ref $defs definitions pattern minLength maxLength format
 *                 minimum maximum exclusiveMinimum exclusiveMaximum nullable; minProperties and
 *                 maxProperties where `required` and `properties` see to them
 *     formats     date time date-time uuid ipv4 email; others are annotations, as the specification says
 *     refused     what `refused` lists, and combinations that would need the intersection of two
 *                 languages: pattern, a format and lengths with each other, enum with more than type
 *     annotations all else
 *
 * Types that keywords speak of are meant where `type` is missing ("properties" makes an object).
 * oneOf is anyOf where no value satisfies two branches. A $ref is a rule, so schemas may be recursive.
 */
#include "grammar_schema_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct grammar__build B;
typedef struct grammar_schema__doc D;
typedef grammar__n *N;

static const char *const refused[] = {"not",
                                      "if",
                                      "then",
                                      "else",
                                      "dependencies",
                                      "dependentSchemas",
                                      "contains",
                                      "minContains",
                                      "maxContains",
                                      "propertyNames",
                                      "$dynamicRef",
                                      "patternProperties",
                                      "$recursiveRef",
                                      "extends",
                                      "dependentRequired",
                                      "disallow",
                                      "divisibleBy",
                                      "unevaluatedItems",
                                      "unevaluatedProperties"};

/* --- what stands in a schema --- */

static N refuse(D *d, const char *key)
{
    return grammar__fail(d->b, ERR_UNSUPPORTED, "JSON schema: '%s' is not supported", key);
}

static N refuse_pair(D *d, const char *key, const char *with)
{
    return grammar__fail(d->b, ERR_UNSUPPORTED, "JSON schema: '%s' beside '%s' is not supported",
                         key, with);
}

static N wrong(D *d, const char *key, const char *why)
{
    return grammar__fail(d->b, ERR_FORMAT, "JSON schema: '%s' %s", key, why);
}

bool grammar_schema__visit(D *d)
{
    if (d->visits++ < GRAMMAR_SCHEMA__VISITS) return !d->b->failed;
    grammar__fail(d->b, ERR_LIMIT, "JSON schema: more than %d schemas in it",
                  GRAMMAR_SCHEMA__VISITS);
    return false;
}

bool grammar_schema__check(D *d, const json_t *s)
{
    static const char *const lists[] = {"required", "enum",  "prefixItems",
                                        "anyOf",    "oneOf", "allOf"};
    const char *key;
    json_t *v;
    if (!json_is_object(s))
        return grammar__fail(d->b, ERR_FORMAT, "JSON schema: a schema is no object"), false;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (json_object_get(s, refused[i])) return refuse(d, refused[i]), false;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        v = json_object_get(s, lists[i]);
        if (v && !json_is_array(v)) return wrong(d, lists[i], "is no array"), false;
        if (v && i > 2 && json_array_size(v) == 0) return wrong(d, lists[i], "is empty"), false;
    }
    v = json_object_get(s, "properties");
    if (v && !json_is_object(v)) return wrong(d, "properties", "is no object"), false;
    if (json_is_true(json_object_get(s, "uniqueItems"))) return refuse(d, "uniqueItems"), false;
    if (s != d->root && json_object_get(s, "$id"))
        return grammar__fail(d->b, ERR_UNSUPPORTED, "JSON schema: '$id' below the root"), false;
    json_object_foreach((json_t *)s, key, v)
    {
        bool size = strncmp(key, "min", 3) == 0 || strncmp(key, "max", 3) == 0;
        static const char *const sized[] = {"Length", "Items", "Properties"};
        for (int i = 0; size && i < 3; i++) {
            if (strcmp(key + 3, sized[i]) != 0) continue;
            if (!json_is_number(v) || json_number_value(v) < 0 ||
                json_number_value(v) != floor(json_number_value(v)))
                return wrong(d, key, "is no size"), false;
        }
    }
    return !d->b->failed;
}

unsigned grammar_schema__type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return GRAMMAR_SCHEMA__OBJECT;
    case JSON_ARRAY: return GRAMMAR_SCHEMA__ARRAY;
    case JSON_STRING: return GRAMMAR_SCHEMA__STRING;
    case JSON_INTEGER: return GRAMMAR_SCHEMA__INTEGER;
    case JSON_REAL:
        return floor(json_real_value(v)) == json_real_value(v) ? GRAMMAR_SCHEMA__INTEGER
                                                               : GRAMMAR_SCHEMA__FRACTION;
    case JSON_TRUE:
    case JSON_FALSE: return GRAMMAR_SCHEMA__BOOLEAN;
    case JSON_NULL: break;
    }
    return GRAMMAR_SCHEMA__NULL;
}

static unsigned type_named(D *d, const json_t *v)
{
    static const char *const names[] = {"null",   "boolean", "integer", "number",
                                        "string", "array",   "object"};
    for (unsigned i = 0; json_is_string(v) && i < sizeof names / sizeof *names; i++)
        if (strcmp(json_string_value(v), names[i]) == 0)
            return i == 3 ? GRAMMAR_SCHEMA__NUMBER : 1u << i;
    wrong(d, "type", "is none of null, boolean, integer, number, string, array, object");
    return 0;
}

unsigned grammar_schema__types(D *d, const json_t *s)
{
    const json_t *type = json_object_get(s, "type"), *v;
    unsigned types = 0;
    size_t i;
    if (!type) return GRAMMAR_SCHEMA__ALL;
    if (!json_is_array(type)) types = type_named(d, type);
    json_array_foreach(type, i, v) types |= type_named(d, v);
    if (json_is_true(json_object_get(s, "nullable"))) types |= GRAMMAR_SCHEMA__NULL;
    return types;
}

/* --- $ref --- */

/* One step of a JSON pointer, "~0" and "~1" and percent signs undone; `to` has room for it. */
static bool unescape(const char *s, size_t n, char *to)
{
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '~') {
            if (++i == n || (s[i] != '0' && s[i] != '1')) return false;
            c = s[i] == '0' ? '~' : '/';
        } else if (c == '%') {
            char hex[3] = {i + 2 < n ? s[i + 1] : 0, i + 2 < n ? s[i + 2] : 0, 0}, *end;
            c = (char)strtoul(hex, &end, 16);
            if (end != hex + 2 || !c) return false;
            i += 2;
        }
        *to++ = c;
    }
    *to = 0;
    return true;
}

json_t *grammar_schema__target(D *d, const json_t *s)
{
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    json_t *at = d->root;
    char step[256];
    if (!ref) return wrong(d, "$ref", "is no string"), NULL;
    if (*ref != '#' || (ref[1] && ref[1] != '/'))
        return grammar__fail(d->b, ERR_UNSUPPORTED,
                             "JSON schema: '$ref' to %.100s: only #/... is followed", ref),
               NULL;
    for (ref++; *ref && at;) {
        size_t n = strcspn(++ref, "/");
        if (n >= sizeof step || !unescape(ref, n, step))
            at = NULL;
        else if (json_is_array(at))
            at = *step && strspn(step, "0123456789") == strlen(step) && n < 9
                     ? json_array_get(at, (size_t)atoi(step))
                     : NULL;
        else
            at = json_object_get(at, step);
        ref += n;
    }
    if (!at) return wrong(d, "$ref", "points to nothing"), NULL;
    return at;
}

/* The call of the rule of a schema, which is made later, in grammar_schema. */
static N call_of(D *d, const json_t *s)
{
    size_t i = 0;
    while (i < d->n_refs && d->ref[i].schema != s) i++;
    if (i == d->n_refs) {
        if (d->n_refs == d->refs_room) {
            size_t room = d->refs_room ? d->refs_room * 2 : 16;
            void *p = realloc(d->ref, room * sizeof *d->ref);
            if (!p) return grammar__fail(d->b, ERR_MEMORY, "out of memory for a JSON schema");
            d->ref = p, d->refs_room = room;
        }
        d->ref[i].schema = s;
        d->ref[i].rule = grammar__rule(d->b, "of a $ref");
        d->n_refs++;
    }
    return grammar__call(d->b, d->ref[i].rule);
}

/* --- values --- */

static N build(D *d, json_t *s);

static uint32_t size_of(const json_t *s, const char *key, uint32_t otherwise)
{
    const json_t *v = json_object_get(s, key);
    double x = json_number_value(v);
    return !v ? otherwise : x < GRAMMAR__ENDLESS - 1 ? (uint32_t)x : GRAMMAR__ENDLESS - 1;
}

static const char *format_regex(const char *format)
{
#define DATE                                                      \
    "[1-9]\\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|" \
    "(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))"
#define TIME                                               \
    "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?" \
    "(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define BYTE "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
    static const char *const table[][2] = {
        {"date", DATE},
        {"time", TIME},
        {"date-time", DATE "T" TIME},
        {"uuid", "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"},
        {"ipv4", BYTE "(?:\\." BYTE "){3}"},
        {"email", "[\\w+-]{1,32}(?:\\.[\\w+-]{1,32}){0,3}@[a-z\\d](?:[a-z\\d-]{0,30}[a-z\\d])?"
                  "(?:\\.[a-z\\d](?:[a-z\\d-]{0,30}[a-z\\d])?){1,3}"},
    };
    for (size_t i = 0; format && i < sizeof table / sizeof *table; i++)
        if (strcmp(format, table[i][0]) == 0) return table[i][1];
    return NULL;
}

static N string_of(D *d, const json_t *s)
{
    const json_t *pattern = json_object_get(s, "pattern"), *f = json_object_get(s, "format");
    const char *format = format_regex(json_string_value(f));
    uint32_t min = size_of(s, "minLength", 0), max = size_of(s, "maxLength", GRAMMAR__ENDLESS);
    bool sized = min > 0 || max != GRAMMAR__ENDLESS;
    B *b = d->b;
    if (pattern && !json_is_string(pattern)) return wrong(d, "pattern", "is no string");
    if (pattern && sized) return refuse_pair(d, "pattern", min ? "minLength" : "maxLength");
    if (format && sized) return refuse_pair(d, "format", min ? "minLength" : "maxLength");
    if (format && pattern) return refuse_pair(d, "format", "pattern");
    if (min > max) return grammar__none(b);
    if (!pattern && !format) return grammar__string(b, min, max);
    N q = grammar__lit(b, "\"");
    N text = format ? grammar__regex_node(b, format, strlen(format), true, true)
                    : grammar__regex_node(b, json_string_value(pattern),
                                          json_string_length(pattern), false, true);
    N part[] = {q, text, q};
    return grammar__list(b, GRAMMAR__SEQ, part, 3);
}

static bool bound(D *d, const json_t *s, const char *key, const char *exclusive, bool lower,
                  double *v, bool *open)
{
    const char *const keys[] = {key, exclusive};
    for (int i = 0; i < 2; i++) {
        const json_t *x = json_object_get(s, keys[i]);
        double n = json_number_value(x);
        if (!x) continue;
        if (!json_is_number(x)) return wrong(d, keys[i], "is no number"), false;
        if (fabs(n) > 9007199254740992.0 && json_is_integer(x))
            return grammar__fail(d->b, ERR_UNSUPPORTED, "JSON schema: '%s' beyond 2^53", keys[i]),
                   false;
        if ((lower ? n > *v : n < *v) || n == *v) *v = n, *open = i == 1;
    }
    return true;
}

static N number_of(D *d, const json_t *s, bool integer)
{
    struct grammar__bounds v = {-INFINITY, INFINITY, false, false};
    const json_t *step = json_object_get(s, "multipleOf");
    if (step && !(integer && json_is_number(step) && json_number_value(step) == 1))
        return refuse(d, "multipleOf");
    if (!bound(d, s, "minimum", "exclusiveMinimum", true, &v.min, &v.open_min) ||
        !bound(d, s, "maximum", "exclusiveMaximum", false, &v.max, &v.open_max))
        return NULL;
    return grammar__number(d->b, &v, integer);
}

/* --- arrays --- */

/* After i elements, all of the prefix; each is a rule, so a long prefix does not nest. */
static N elements(D *d, const json_t *prefix, json_t *more, uint32_t min, uint32_t max)
{
    B *b = d->b;
    uint32_t n = (uint32_t)json_array_size(prefix), i;
    N element = more ? build(d, more) : n ? grammar__none(b) : grammar__any_value(b);
    uint32_t low = min > n ? min - n : 0, high = max == GRAMMAR__ENDLESS ? max : max - n;
    N comma = grammar__comma(b), rest;
    if (n >= max) n = max, high = 0;
    if (n == 0 && high > 0) { /* the first has no comma */
        N x = grammar__rep(b, grammar__two(b, GRAMMAR__SEQ, comma, element), low ? low - 1 : 0,
                           high == GRAMMAR__ENDLESS ? high : high - 1);
        x = grammar__two(b, GRAMMAR__SEQ, element, x);
        return low ? x : grammar__opt(b, x);
    }
    rest = grammar__rep(b, grammar__two(b, GRAMMAR__SEQ, comma, element), low, high);
    for (i = n; i-- > 0 && !b->failed;) {
        N x = grammar__two(b, GRAMMAR__SEQ, build(d, json_array_get(prefix, i)), rest);
        if (i) x = grammar__two(b, GRAMMAR__SEQ, comma, x);
        if (i >= min) x = grammar__opt(b, x);
        uint32_t rule = grammar__rule(b, NULL);
        grammar__define(b, rule, x);
        rest = grammar__call(b, rule);
    }
    return rest;
}

static N array_of(D *d, const json_t *s)
{
    json_t *items = json_object_get(s, "items"), *prefix = json_object_get(s, "prefixItems");
    json_t *extra = json_object_get(s, "additionalItems");
    uint32_t min = size_of(s, "minItems", 0), max = size_of(s, "maxItems", GRAMMAR__ENDLESS);
    if (json_is_array(items)) { /* draft-07 */
        if (prefix) return wrong(d, "items", "is an array beside 'prefixItems'");
        prefix = items;
        items = extra;
    }
    if (min > max) return grammar__none(d->b);
    N part[] = {grammar__lit(d->b, "["), elements(d, prefix, items, min, max),
                grammar__lit(d->b, "]")};
    return grammar__list(d->b, GRAMMAR__SEQ, part, 3);
}

/* --- objects --- */

struct member {
    const char *key;
    N node; /* key, colon and value */
    bool required;
};

struct object {
    struct member *m;
    const char **key; /* all that have a meaning */
    size_t n, n_keys;
    N more;      /* any other member, or NULL */
    bool filled; /* must not be empty */
};

static bool is_required(const json_t *s, const char *key)
{
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(s, "required"), i,
                       v) if (json_is_string(v) &&
                              strcmp(json_string_value(v), key) == 0) return true;
    return false;
}

/* False: failed, or *none: there is no such object. */
static bool add_member(D *d, const json_t *s, struct object *o, const char *key, json_t *schema,
                       bool *none)
{
    bool required = is_required(s, key);
    N value = build(d, schema);
    o->key[o->n_keys++] = key;
    *none |= grammar__is_none(value) && required;
    if (!value || *none) return false;
    if (grammar__is_none(value)) return true;
    N part[] = {grammar__quoted(d->b, key, strlen(key)), grammar__colon(d->b), value};
    o->m[o->n++] = (struct member){key, grammar__list(d->b, GRAMMAR__SEQ, part, 3), required};
    return true;
}

static bool members(D *d, const json_t *s, struct object *o, bool *none)
{
    json_t *more = json_object_get(s, "additionalProperties"), *v, *any = json_true();
    json_t *properties = json_object_get(s, "properties");
    const char *key;
    size_t i;
    json_object_foreach(properties, key, v) if (!add_member(d, s, o, key, v, none)) return false;
    json_array_foreach(json_object_get(s, "required"), i, v)
    {
        bool known = false;
        key = json_string_value(v);
        if (!key) return wrong(d, "required", "names no string"), false;
        for (size_t k = 0; k < o->n_keys; k++) known |= strcmp(o->key[k], key) == 0;
        if (!known && !add_member(d, s, o, key, more ? more : any, none)) return false;
    }
    if (more ? json_is_false(more) : json_object_size(properties) || o->n_keys) return true;
    N value = build(d, more ? more : any);
    if (!value || grammar__is_none(value)) return value != NULL;
    N part[] = {grammar__other_key(d->b, o->key, o->n_keys), grammar__colon(d->b), value};
    o->more = grammar__list(d->b, GRAMMAR__SEQ, part, 3);
    return o->more != NULL;
}

/* after: members from i on where one stands before them; first: where none does. */
static N chain(D *d, const struct object *o)
{
    B *b = d->b;
    N comma = grammar__comma(b), empty = grammar__empty(b);
    N another = o->more ? grammar__rep(b, grammar__two(b, GRAMMAR__SEQ, comma, o->more), 0,
                                       GRAMMAR__ENDLESS)
                        : empty;
    N after = another, first = empty;
    if (o->more) first = grammar__two(b, GRAMMAR__SEQ, o->more, another);
    if (o->more && !o->filled) first = grammar__opt(b, first);
    if (!o->more && o->filled) first = grammar__none(b);
    for (size_t i = o->n; i-- > 0 && !b->failed;) {
        const struct member *m = &o->m[i];
        N one = grammar__two(b, GRAMMAR__SEQ, m->node, after);
        N next = grammar__two(b, GRAMMAR__SEQ, comma, one);
        first = m->required ? one : grammar__two(b, GRAMMAR__ALT, one, first);
        after = m->required ? next : grammar__two(b, GRAMMAR__ALT, next, after);
        if (i == 0) break;
        uint32_t rule[2] = {grammar__rule(b, NULL), grammar__rule(b, NULL)};
        grammar__define(b, rule[0], first);
        grammar__define(b, rule[1], after);
        first = grammar__is_none(first) ? first : grammar__call(b, rule[0]);
        after = grammar__call(b, rule[1]);
    }
    return first;
}

static N object_of(D *d, const json_t *s)
{
    uint32_t min = size_of(s, "minProperties", 0);
    uint32_t max = size_of(s, "maxProperties", GRAMMAR__ENDLESS), required = 0;
    size_t n = json_object_size(json_object_get(s, "properties")) +
               json_array_size(json_object_get(s, "required"));
    struct object o = {.m = calloc(n + 1, sizeof *o.m), .key = calloc(n + 1, sizeof *o.key)};
    bool none = false, ok = o.m && o.key;
    N x = NULL;
    if (!ok) grammar__fail(d->b, ERR_MEMORY, "out of memory for a JSON schema");
    ok = ok && members(d, s, &o, &none);
    for (size_t i = 0; ok && i < o.n; i++) required += o.m[i].required;
    o.filled = min > 0;
    if (ok && min > 1 && min > required) ok = refuse(d, "minProperties");
    if (ok && max != GRAMMAR__ENDLESS && (o.more || max < o.n)) ok = refuse(d, "maxProperties");
    if (ok) {
        N part[] = {grammar__lit(d->b, "{"), chain(d, &o), grammar__lit(d->b, "}")};
        x = grammar__list(d->b, GRAMMAR__SEQ, part, 3);
    } else if (none) {
        x = grammar__none(d->b);
    }
    free(o.m);
    free(o.key);
    return x;
}

/* --- constants --- */

static N constant(D *d, const json_t *v)
{
    B *b = d->b;
    char text[40];
    const char *key;
    size_t i;
    const json_t *item;
    struct grammar__parts part = {0};
    switch (json_typeof(v)) {
    case JSON_NULL: return grammar__lit(b, "null");
    case JSON_TRUE: return grammar__lit(b, "true");
    case JSON_FALSE: return grammar__lit(b, "false");
    case JSON_STRING: return grammar__quoted(b, json_string_value(v), json_string_length(v));
    case JSON_INTEGER:
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        return grammar__lit(b, text);
    case JSON_REAL:
        for (int p = 1; p <= 17; p++) {
            snprintf(text, sizeof text, "%.*g", p, json_real_value(v));
            if (strtod(text, NULL) == json_real_value(v)) break;
        }
        return grammar__lit(b, text);
    case JSON_ARRAY:
        json_array_foreach(v, i, item)
        {
            grammar__parts_add(b, &part, i ? grammar__comma(b) : grammar__lit(b, "["));
            grammar__parts_add(b, &part, constant(d, item));
        }
        grammar__parts_add(b, &part, grammar__lit(b, json_array_size(v) ? "]" : "[]"));
        break;
    case JSON_OBJECT:
        json_object_foreach((json_t *)v, key, item)
        {
            grammar__parts_add(b, &part, part.n ? grammar__comma(b) : grammar__lit(b, "{"));
            grammar__parts_add(b, &part, grammar__quoted(b, key, strlen(key)));
            grammar__parts_add(b, &part, grammar__colon(b));
            grammar__parts_add(b, &part, constant(d, item));
        }
        grammar__parts_add(b, &part, grammar__lit(b, json_object_size(v) ? "}" : "{}"));
        break;
    }
    return grammar__parts_node(b, GRAMMAR__SEQ, &part);
}

/* Keywords of one type, and which: for `type` where it is missing, and beside enum. */
static const struct {
    const char *key;
    unsigned types;
} typed[] = {
    {"properties", GRAMMAR_SCHEMA__OBJECT},
    {"required", GRAMMAR_SCHEMA__OBJECT},
    {"additionalProperties", GRAMMAR_SCHEMA__OBJECT},
    {"minProperties", GRAMMAR_SCHEMA__OBJECT},
    {"maxProperties", GRAMMAR_SCHEMA__OBJECT},
    {"items", GRAMMAR_SCHEMA__ARRAY},
    {"prefixItems", GRAMMAR_SCHEMA__ARRAY},
    {"minItems", GRAMMAR_SCHEMA__ARRAY},
    {"maxItems", GRAMMAR_SCHEMA__ARRAY},
    {"pattern", GRAMMAR_SCHEMA__STRING},
    {"minLength", GRAMMAR_SCHEMA__STRING},
    {"maxLength", GRAMMAR_SCHEMA__STRING},
    {"format", GRAMMAR_SCHEMA__STRING},
    {"minimum", GRAMMAR_SCHEMA__NUMBER},
    {"maximum", GRAMMAR_SCHEMA__NUMBER},
    {"exclusiveMinimum", GRAMMAR_SCHEMA__NUMBER},
    {"exclusiveMaximum", GRAMMAR_SCHEMA__NUMBER},
    {"multipleOf", GRAMMAR_SCHEMA__NUMBER},
};
enum { TYPED = sizeof typed / sizeof *typed };

static N enum_of(D *d, const json_t *s, const json_t *list)
{
    unsigned types = grammar_schema__types(d, s);
    struct grammar__parts part = {0};
    const char **word = calloc(json_array_size(list) + 1, sizeof *word);
    size_t n = 0, i;
    const json_t *v;
    if (!word) return grammar__fail(d->b, ERR_MEMORY, "out of memory for a JSON schema");
    json_array_foreach(list, i, v)
    {
        unsigned type = grammar_schema__type_of(v);
        if (!(types & type)) continue;
        for (size_t k = 0; k < TYPED; k++)
            if (typed[k].types & type && json_object_get(s, typed[k].key))
                refuse_pair(d, "enum", typed[k].key);
        if (type == GRAMMAR_SCHEMA__STRING)
            word[n++] = json_string_value(v);
        else
            grammar__parts_add(d->b, &part, constant(d, v));
    }
    grammar__parts_add(d->b, &part, grammar__words(d->b, word, n));
    free(word);
    return grammar__parts_node(d->b, GRAMMAR__ALT, &part);
}

/* --- a schema --- */

static N typed_of(D *d, const json_t *s)
{
    B *b = d->b;
    unsigned types = 0;
    struct grammar__parts part = {0};
    if (json_object_get(s, "type"))
        types = grammar_schema__types(d, s);
    else
        for (size_t i = 0; i < TYPED; i++)
            if (json_object_get(s, typed[i].key)) types |= typed[i].types;
    if (b->failed) return NULL;
    if (types == 0 && !json_object_get(s, "type")) return grammar__any_value(b);
    if (types & GRAMMAR_SCHEMA__OBJECT) grammar__parts_add(b, &part, object_of(d, s));
    if (types & GRAMMAR_SCHEMA__ARRAY) grammar__parts_add(b, &part, array_of(d, s));
    if (types & GRAMMAR_SCHEMA__STRING) grammar__parts_add(b, &part, string_of(d, s));
    if (types & GRAMMAR_SCHEMA__NUMBER)
        grammar__parts_add(b, &part, number_of(d, s, !(types & GRAMMAR_SCHEMA__FRACTION)));
    if (types & GRAMMAR_SCHEMA__BOOLEAN)
        grammar__parts_add(
            b, &part,
            grammar__two(b, GRAMMAR__ALT, grammar__lit(b, "true"), grammar__lit(b, "false")));
    if (types & GRAMMAR_SCHEMA__NULL) grammar__parts_add(b, &part, grammar__lit(b, "null"));
    return grammar__parts_node(b, GRAMMAR__ALT, &part);
}

/* Any keyword that narrows what values there are. */
static bool narrows(const json_t *s)
{
    static const char *const others[] = {"type",  "enum",  "const", "anyOf",
                                         "oneOf", "allOf", "$ref",  "nullable"};
    for (size_t i = 0; i < TYPED; i++)
        if (json_object_get(s, typed[i].key)) return true;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (json_object_get(s, others[i])) return true;
    return false;
}

/* One of some schemas, and what stands beside them. */
static N branches_of(D *d, json_t *s, const char *key)
{
    const char *const but[] = {key, "$defs", "definitions", NULL};
    json_t *rest = grammar_schema__without(d, s, but), *v;
    struct grammar__parts part = {0};
    size_t i;
    bool alone = !narrows(rest);
    json_array_foreach(json_object_get(s, key), i, v)
    {
        json_t *x = alone ? v : grammar_schema__merge(d, rest, v);
        grammar__parts_add(d->b, &part, x ? build(d, x) : NULL);
        if (d->b->failed) break;
    }
    return grammar__parts_node(d->b, GRAMMAR__ALT, &part);
}

static N build_object(D *d, json_t *s)
{
    static const char *const ref[] = {"$ref", "$defs", "definitions", NULL};
    json_t *v = json_object_get(s, "$ref"), *rest, *x;
    if (!grammar_schema__check(d, s)) return NULL;
    if (v) {
        json_t *to = grammar_schema__target(d, s);
        rest = grammar_schema__without(d, s, ref);
        if (!to || !rest) return NULL;
        return narrows(rest) ? build(d, grammar_schema__merge(d, rest, to)) : call_of(d, to);
    }
    if (json_object_get(s, "allOf")) return build(d, grammar_schema__merge(d, s, json_true()));
    v = json_object_get(s, "oneOf");
    if (v && !grammar_schema__exclusive(d, v)) return NULL;
    if (json_object_get(s, "anyOf")) return branches_of(d, s, "anyOf");
    if (v) return branches_of(d, s, "oneOf");
    v = json_object_get(s, "enum");
    x = json_object_get(s, "const");
    if (v && x) return build(d, grammar_schema__merge(d, s, json_true()));
    if (!x) return v ? enum_of(d, s, v) : typed_of(d, s);
    json_t *list = json_pack("[O]", x);
    N node = enum_of(d, s, list);
    json_decref(list);
    return node;
}

static N build(D *d, json_t *s)
{
    if (!s || !grammar_schema__visit(d)) return NULL;
    if (json_is_true(s)) return grammar__any_value(d->b);
    if (json_is_false(s)) return grammar__none(d->b);
    if (d->nesting++ > GRAMMAR_SCHEMA__NESTING)
        return grammar__fail(d->b, ERR_LIMIT, "JSON schema: nested too deep, at most %d",
                             GRAMMAR_SCHEMA__NESTING);
    N x = build_object(d, s);
    d->nesting--;
    return x;
}

static bool too_deep(const json_t *v, int left)
{
    const char *key;
    const json_t *x;
    size_t i;
    if (left == 0) return true;
    json_array_foreach(v, i, x) if (too_deep(x, left - 1)) return true;
    if (json_is_object(v))
        json_object_foreach((json_t *)v, key, x) if (too_deep(x, left - 1)) return true;
    return false;
}

static json_t *parse(const char *json, size_t n, struct err *e)
{
    json_error_t why;
    json_t *root = NULL;
    if (n > GRAMMAR_TEXT_MAX)
        err_set(e, ERR_LIMIT, "a JSON schema of %zu bytes, at most %d", n, GRAMMAR_TEXT_MAX);
    else if (!(root = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why)))
        err_set(e, ERR_FORMAT, "JSON schema, line %d: %s", why.line, why.text);
    else if (too_deep(root, GRAMMAR_SCHEMA__NESTING))
        err_set(e, ERR_LIMIT, "JSON schema: nested too deep, at most %d", GRAMMAR_SCHEMA__NESTING);
    else
        return root;
    json_decref(root);
    return NULL;
}

int grammar_schema(struct grammar **out, const char *json, size_t n, struct err *e)
{
    B b;
    D d = {.b = &b, .root = parse(json, n, e), .made = json_array()};
    uint32_t root = MAP_NONE;
    if (!d.root) {
        json_decref(d.made);
        return e->code;
    }
    grammar__begin(&b, e);
    if (!d.made) grammar__fail(&b, ERR_MEMORY, "out of memory for a JSON schema");
    N start = call_of(&d, d.root);
    if (start) root = start->min;
    for (; d.refs_done < d.n_refs && !b.failed; d.refs_done++) {
        json_t *s = (json_t *)d.ref[d.refs_done].schema;
        N body = build(&d, s);
        grammar__define(&b, d.ref[d.refs_done].rule, body);
    }
    json_decref(d.root);
    json_decref(d.made);
    free(d.ref);
    return grammar__finish(&b, root, out);
}

int grammar_json(struct grammar **out, struct err *e)
{
    static const char any[] = "{\"type\": \"object\"}";
    return grammar_schema(out, any, sizeof any - 1, e);
}
