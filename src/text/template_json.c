/* JSON in, by jansson, and out, as Python's json.dumps writes it (the tojson of chat templates: no
 * HTML escapes, other alphabets as they are). Objects keep the order of their members.
 */
#include "template_int.h"

#include "unicode.h"

#include <jansson.h>
#include <math.h>

/* ---- in ---- */

struct reader {
    struct run *r;
    bool foreign;
};

static struct value read_value(struct reader *in, json_t *j);

static struct value read_string(struct reader *in, const char *p, size_t n)
{
    return template__text(in->r, p, n, in->foreign ? in->r->ones : NULL);
}

static struct value read_object(struct reader *in, json_t *j)
{
    struct dict *d = template__dict_new(in->r, (uint32_t)json_object_size(j));
    for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it)) {
        struct value key = read_string(in, json_object_iter_key(it), json_object_iter_key_len(it));
        template__append(in->r, d, key, read_value(in, json_object_iter_value(it)));
    }
    return v_dict(d);
}

static struct value read_array(struct reader *in, json_t *j)
{
    struct list *l = template__list_new(in->r, (uint32_t)json_array_size(j));
    for (size_t i = 0; i < json_array_size(j); i++)
        template__push(in->r, l, read_value(in, json_array_get(j, i)));
    return v_list(l);
}

static struct value read_value(struct reader *in, json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_NULL: return v_none();
    case JSON_TRUE: return v_bool(true);
    case JSON_FALSE: return v_bool(false);
    case JSON_INTEGER: return v_int(json_integer_value(j));
    case JSON_REAL: return v_float(json_real_value(j));
    case JSON_STRING: return read_string(in, json_string_value(j), json_string_length(j));
    default: break;
    }
    return json_is_object(j) ? read_object(in, j) : read_array(in, j);
}

/* What brackets outside strings cost is bounded before the library allocates for the first. */
static void check_shape(struct run *r, const char *json, size_t n)
{
    int depth = 0, containers = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = json[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == ']' || c == '}'))
            depth--;
        if (quoted || (c != '[' && c != '{')) continue;
        if (++depth > TEMPLATE_JSON_DEPTH_MAX)
            template__fail(r, ERR_LIMIT, "the input is nested deeper than its budget of %d",
                           TEMPLATE_JSON_DEPTH_MAX);
        if (++containers > TEMPLATE_JSON_CONTAINERS_MAX)
            template__fail(r, ERR_LIMIT, "the input's budget of %d arrays and objects is used up",
                           TEMPLATE_JSON_CONTAINERS_MAX);
    }
}

struct value template__from_json(struct run *r, const char *json, size_t n, bool foreign)
{
    check_shape(r, json, n);
    json_error_t error;
    r->json = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    bool no_memory = json_error_code(&error) == json_error_out_of_memory || !error.text[0];
    if (!r->json && no_memory)
        template__fail(r, ERR_MEMORY, "out of memory (for %zu bytes of JSON)", n);
    if (!r->json)
        template__bad(r, "the input is not JSON: %s (line %d, column %d)", error.text, error.line,
                      error.column);
    struct reader in = {r, foreign};
    struct value v = read_value(&in, r->json);
    template__json_drop(r);
    return v;
}

void template__json_drop(struct run *r)
{
    json_decref(r->json);
    r->json = NULL;
}

/* ---- out ---- */

struct writer {
    struct builder b;
    const struct str *indent; /* of one level; NULL: all on one line */
    const struct str *comma, *colon;
    bool ascii, sort;
    uint32_t level;
};

static void put_string(struct writer *w, const struct str *s)
{
    template__put_cstr(&w->b, "\"");
    for (size_t i = 0, plain = 0; i <= s->n;) {
        struct unicode_char c = {.code = 0, .bytes = 1};
        if (i < s->n) c = unicode_at(s->p + i, s->n - i);
        bool keep = c.code >= ' ' && c.code != '"' && c.code != '\\' && (!w->ascii || c.code < 127);
        if (i < s->n && keep) {
            i += c.bytes;
            continue;
        }
        template__put_sub(&w->b, s, plain, i - plain);
        if (i == s->n) break;
        static const char named[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
        const char *p = c.code && c.code < 128 ? strchr(named, (int)c.code) : NULL;
        if (p)
            template__printf(&w->b, "\\%c", letters[p - named]);
        else if (c.code < 0x10000)
            template__printf(&w->b, "\\u%04x", c.code);
        else
            template__printf(&w->b, "\\u%04x\\u%04x", 0xd800 + ((c.code - 0x10000) >> 10),
                             0xdc00 + (c.code & 0x3ff));
        i += c.bytes;
        plain = i;
    }
    template__put_cstr(&w->b, "\"");
}

static void put(struct writer *w, struct value v);

static void line(struct writer *w)
{
    if (!w->indent) return;
    template__put_cstr(&w->b, "\n");
    for (uint32_t i = 0; i < w->level; i++) template__put_str(&w->b, w->indent);
}

static void put_number(struct writer *w, struct value v)
{
    if (v.kind == V_FLOAT && (isnan(v.f) || isinf(v.f)))
        template__put_cstr(&w->b, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity");
    else if (v.kind == V_BOOL)
        template__put_cstr(&w->b, v.b ? "true" : "false");
    else
        template__put_value(&w->b, v);
}

static void put_array(struct writer *w, const struct list *l)
{
    template__put_cstr(&w->b, "[");
    w->level++;
    for (uint32_t i = 0; i < l->n; i++) {
        if (i) template__put_str(&w->b, w->comma);
        line(w);
        put(w, l->at[i]);
    }
    w->level--;
    if (l->n) line(w);
    template__put_cstr(&w->b, "]");
}

static void put_key(struct writer *w, struct value key)
{
    bool quoted = key.kind != V_STRING;
    if (quoted && key.kind != V_NONE && !template__number(key))
        template__bad(w->b.r, "a %s cannot be a key in JSON", template__type(key));
    if (quoted) template__put_cstr(&w->b, "\"");
    put(w, key);
    if (quoted) template__put_cstr(&w->b, "\"");
}

static const struct dict *sorted(struct run *r, const struct dict *d)
{
    struct list *pairs = template__list_new(r, d->n), *keys = template__list_new(r, d->n);
    for (uint32_t i = 0; i < d->n; i++) {
        template__push(r, pairs, v_int(i));
        template__push(r, keys, d->at[i].key);
    }
    template__sort(r, pairs, keys, false);
    struct dict *out = template__dict_new(r, d->n);
    for (uint32_t i = 0; i < d->n; i++) {
        const struct pair *p = &d->at[pairs->at[i].i];
        template__append(r, out, p->key, p->value);
    }
    return out;
}

static void put_object(struct writer *w, const struct dict *d)
{
    if (w->sort) d = sorted(w->b.r, d);
    template__put_cstr(&w->b, "{");
    w->level++;
    for (uint32_t i = 0; i < d->n; i++) {
        if (i) template__put_str(&w->b, w->comma);
        line(w);
        put_key(w, d->at[i].key);
        template__put_str(&w->b, w->colon);
        put(w, d->at[i].value);
    }
    w->level--;
    if (d->n) line(w);
    template__put_cstr(&w->b, "}");
}

static void put(struct writer *w, struct value v)
{
    template__enter(w->b.r);
    switch (v.kind) {
    case V_NONE: template__put_cstr(&w->b, "null"); break;
    case V_BOOL:
    case V_INT:
    case V_FLOAT: put_number(w, v); break;
    case V_STRING: put_string(w, v.s); break;
    case V_LIST:
    case V_TUPLE: put_array(w, v.list); break;
    case V_DICT: put_object(w, v.dict); break;
    default:
        template__need(w->b.r, v);
        template__bad(w->b.r, "a %s has no form in JSON", template__type(v));
    }
    template__leave(w->b.r);
}

struct value template__tojson(struct run *r, struct value self, const struct args *a)
{
    struct writer w = {.b = template__builder(r)};
    struct value indent = a->v[1], separators = a->v[2];
    int64_t spaces;
    w.ascii = template__arg_bool(a->v[0], false);
    w.sort = template__arg_bool(a->v[3], false);
    if (indent.kind == V_STRING) {
        w.indent = indent.s;
    } else if (template__integral(indent, &spaces)) {
        struct builder b = template__builder(r);
        for (int64_t i = 0; i < spaces; i++) template__put_cstr(&b, " ");
        w.indent = template__built(&b).s;
    } else if (indent.kind != V_MISSING && indent.kind != V_NONE) {
        template__bad(r, "tojson indents by a number or a string");
    }
    w.comma = template__cstr(r, w.indent ? "," : ", ").s;
    w.colon = template__cstr(r, ": ").s;
    if (separators.kind == V_LIST || separators.kind == V_TUPLE) {
        if (separators.list->n != 2) template__bad(r, "tojson takes two separators");
        w.comma = template__arg_str(r, separators.list->at[0]);
        w.colon = template__arg_str(r, separators.list->at[1]);
    } else if (separators.kind != V_MISSING && separators.kind != V_NONE) {
        template__bad(r, "tojson takes two separators");
    }
    put(&w, self);
    return template__built(&w.b);
}
