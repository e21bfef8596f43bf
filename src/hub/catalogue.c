/* From JSON to models, each field checked where it is read: an unchecked string never gets into a
 * struct. jansson parses (duplicate keys refused); strings are copied into the catalogue's arena,
 * whose cap bounds what a file can cost. */
#include "catalogue.h"

#include "hub_int.h"
#include "userdir.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEM_MAX = 16 << 20, TEXT_MAX = 300 };

/* Where in the file we are, for messages. */
struct reader {
    struct catalogue *c;
    const char *where; /* the file */
    char model[SOURCE_NAME_MAX + 1];
    struct err *e;
};

static int bad(struct reader *r, const char *key, const char *what)
{
    return err_set(r->e, ERR_FORMAT, "%s: model '%s': \"%s\" %s", r->where, r->model, key, what);
}

/* A copy of a string of 1 to `max` bytes without control characters; NULL, and the error set, when
 * it is missing or anything else. */
static const char *text(struct reader *r, const json_t *o, const char *key, size_t max)
{
    const json_t *v = json_object_get(o, key);
    const char *s = json_string_value(v);
    size_t n = json_string_length(v), visible = 0;
    while (visible < n && (unsigned char)s[visible] >= ' ' && s[visible] != 0x7f) visible++;
    if (n == 0 || n > max || visible < n) {
        char what[80];
        snprintf(what, sizeof what, "should be a string of 1 to %zu visible characters", max);
        bad(r, key, what);
        return NULL;
    }
    const char *copy = arena_strndup(&r->c->mem, s, n);
    if (!copy) err_nomem(r->e, n, r->where);
    return copy;
}

static int size(struct reader *r, const json_t *o, int64_t *bytes)
{
    const json_t *v = json_object_get(o, "bytes");
    *bytes = json_integer_value(v);
    if (!json_is_integer(v) || *bytes < 1 || *bytes > SOURCE_BYTES_MAX)
        return bad(r, "bytes", "should be a whole number from 1 to 2^42");
    return 0;
}

static int read_part(struct reader *r, const json_t *o, struct source *s)
{
    *s = (struct source){.bytes = -1};
    if (!json_is_object(o)) return bad(r, "parts", "should hold objects");
    if (json_object_get(o, "bytes") && size(r, o, &s->bytes)) return r->e->code;
    bool url = json_object_get(o, "url") != NULL;
    if (url == (json_object_get(o, "pypi") != NULL))
        return bad(r, "parts", "should each have one of \"url\" and \"pypi\"");
    if (url) {
        if (!(s->url = text(r, o, "url", URL_MAX - 1))) return r->e->code;
        if (!url_check(s->url, NULL, r->e)) return 0;
    } else {
        if (!(s->package = text(r, o, "pypi", SOURCE_FIELD_MAX)) ||
            !(s->version = text(r, o, "version", SOURCE_FIELD_MAX)) ||
            !(s->member = text(r, o, "member", SOURCE_FIELD_MAX)))
            return r->e->code;
        if (!source_check_wheel(s, r->e)) return 0;
    }
    return err_prefix(r->e, "%s: model '%s'", r->where, r->model);
}

static int read_parts(struct reader *r, const json_t *o, struct catalogue_model *m)
{
    const json_t *list = json_object_get(o, "parts");
    size_t n = json_array_size(list);
    if (n < 1 || n > CATALOGUE_PARTS_MAX) return bad(r, "parts", "should be a list of 1 to 1000");
    struct source *s = arena_alloc(&r->c->mem, n, sizeof *s);
    if (!s) return err_nomem(r->e, n * sizeof *s, r->where);
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (read_part(r, json_array_get(list, i), &s[i])) return r->e->code;
        if (n == 1 && s[i].bytes < 0) s[i].bytes = m->bytes;
        if (s[i].bytes < 0) return bad(r, "parts", "should each have \"bytes\"");
        sum += s[i].bytes; /* at most 1000 * 2^42 */
    }
    if (sum != m->bytes) return bad(r, "parts", "do not add up to \"bytes\"");
    m->parts = s;
    m->n_parts = n;
    return 0;
}

static int read_aliases(struct reader *r, const json_t *o, struct catalogue_model *m)
{
    const json_t *list = json_object_get(o, "aliases");
    size_t n = json_array_size(list);
    if ((list && !json_is_array(list)) || n > CATALOGUE_ALIASES_MAX)
        return bad(r, "aliases", "should be a list of at most 8");
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (!s || !source_name_ok(s)) return bad(r, "aliases", "should be names");
        if (!(m->alias[i] = arena_strndup(&r->c->mem, s, strlen(s))))
            return err_nomem(r->e, strlen(s), r->where);
    }
    m->n_aliases = n;
    return 0;
}

static int read_model(struct reader *r, const json_t *o, struct catalogue_model *m)
{
    const char *name = json_string_value(json_object_get(o, "name"));
    if (!name || !source_name_ok(name)) return bad(r, "name", "should be 1 to 96 of a-z0-9._-");
    snprintf(r->model, sizeof r->model, "%s", name);
    *m = (struct catalogue_model){0};
    if (!(m->name = text(r, o, "name", SOURCE_NAME_MAX)) ||
        !(m->description = text(r, o, "description", TEXT_MAX)) ||
        !(m->licence = text(r, o, "licence", TEXT_MAX)) || !(m->sha256 = text(r, o, "sha256", 64)))
        return r->e->code;
    if (!sha256_is_hex(m->sha256)) return bad(r, "sha256", "should be 64 hexadecimal digits");
    if (size(r, o, &m->bytes) || read_aliases(r, o, m)) return r->e->code;
    return read_parts(r, o, m);
}

static bool taken(const struct catalogue *c, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(c->models[i].name, name) == 0) return true;
    return false;
}

static int read_models(struct reader *r, const json_t *root)
{
    struct catalogue *c = r->c;
    const json_t *list = json_object_get(root, "models");
    size_t n = json_array_size(list), before = c->n;
    if (!json_is_array(list) || n > CATALOGUE_MODELS_MAX - c->n)
        return err_set(r->e, ERR_FORMAT, "%s: \"models\" should be a list of at most %zu", r->where,
                       CATALOGUE_MODELS_MAX - c->n);
    void *p = reallocarray(c->models, c->n + n + 1, sizeof *c->models);
    if (!p) return err_nomem(r->e, n * sizeof *c->models, r->where);
    c->models = p;
    for (size_t i = 0; i < n; i++) {
        struct catalogue_model *m = &c->models[c->n];
        snprintf(r->model, sizeof r->model, "number %zu", i + 1);
        if (read_model(r, json_array_get(list, i), m)) {
            c->n = before;
            return r->e->code;
        }
        c->n += !taken(c, c->n, m->name);
    }
    return 0;
}

int catalogue_parse(struct catalogue *c, const char *json, size_t n, const char *where,
                    struct err *e)
{
    struct reader r = {.c = c, .where = where, .e = e};
    json_error_t why;
    if (n > CATALOGUE_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "%s: more than %d bytes", where, CATALOGUE_BYTES_MAX);
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &why);
    if (!root) return err_set(e, ERR_FORMAT, "%s: line %d: %s", where, why.line, why.text);
    int rc = read_models(&r, root);
    json_decref(root);
    return rc;
}

static int parse_user(struct catalogue *c, struct err *e)
{
    char path[4096];
    if (!userdir_find(path, sizeof path, USERDIR_CONFIG, "catalogue.json")) return 0;
    FILE *f = fopen(path, "re");
    if (!f && (errno == ENOENT || errno == ENOTDIR)) return 0;
    if (!f) return err_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    char *json = malloc(CATALOGUE_BYTES_MAX + 1);
    size_t len = json ? fread(json, 1, CATALOGUE_BYTES_MAX + 1, f) : 0;
    int rc = !json       ? err_nomem(e, CATALOGUE_BYTES_MAX, path)
             : ferror(f) ? err_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno))
                         : catalogue_parse(c, json, len, path, e);
    free(json);
    fclose(f);
    return rc;
}

int catalogue_open(struct catalogue *c, struct err *e)
{
    *c = (struct catalogue){.mem = ARENA_INIT(MEM_MAX)};
    if (!parse_user(c, e) && !catalogue_parse(c, (const char *)hub__catalogue_json,
                                              hub__catalogue_json_bytes, "built-in catalogue", e))
        return 0;
    catalogue_free(c);
    return e->code;
}

const struct catalogue_model *catalogue_find(const struct catalogue *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->models[i].name, name) == 0) return &c->models[i];
    for (size_t i = 0; i < c->n; i++)
        for (size_t k = 0; k < c->models[i].n_aliases; k++)
            if (strcmp(c->models[i].alias[k], name) == 0) return &c->models[i];
    return NULL;
}

const char *catalogue_aliases(const struct catalogue_model *m, char out[128])
{
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < m->n_aliases && at < 127; i++)
        at += (size_t)snprintf(out + at, 128 - at, "%s%s", i ? ", " : "", m->alias[i]);
    return out;
}

void catalogue_free(struct catalogue *c)
{
    if (!c) return;
    free(c->models);
    arena_free(&c->mem);
    *c = (struct catalogue){0};
}
