/* inih splits lines into sections, keys and values, but cuts what is too long, takes what stands twice, and
 * tells no line numbers. So lines go to it through take_line, which counts and refuses them first. The
 * first error is kept; whatever comes after it is ignored. */
#include "model_ini.h"

#include "amount.h"
#include "buf.h"
#include "cmd.h"
#include <ctype.h>
#include <ini.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { KEYS_MAX = 40, LINE_MAX_BYTES = INI_MAX_LINE - 2 };

struct reader {
    struct model_ini *out;
    const char *file, *at, *end;
    int line;
    bool header;   /* a section began, and has no key yet */
    bool indented; /* this line begins with a blank */
    bool any_key;  /* the section has one, with which an indented line goes on */
    const char *keys[KEYS_MAX];
    int n_keys;
    struct buf system;
    int rc;
    struct err *e;
};

/* Returns 0, as handlers of inih do to refuse. */
static int wrong(struct reader *r, int line, const char *key, const char *what)
{
    if (!r->rc)
        r->rc = err_set(r->e, ERR_FORMAT, "%.100s:%d: %s%s%s", r->file, line, key, *key ? ": " : "",
                        what);
    return 0;
}

static char *copy(struct reader *r, const char *s, size_t n)
{
    char *p = r->rc ? NULL : arena_strndup(&r->out->mem, s, n);
    if (!p && !r->rc) r->rc = err_nomem(r->e, n, "the file of models");
    return p;
}

/* ---- values ---- */

static bool name_ok(const char *s, size_t n)
{
    if (n < 1 || n > MODEL_INI_NAME) return false;
    for (size_t i = 0; i < n; i++)
        if (!isascii(s[i]) || (!isalnum((unsigned char)s[i]) && !strchr("._:/@+-", s[i])))
            return false;
    return true;
}

static bool is_taken(const struct model_ini *ini, const char *name)
{
    for (int i = 0; i < ini->n; i++)
        if (api_model_is_called(&ini->items[i].model, name)) return true;
    return false;
}

static int take_aliases(struct reader *r, struct api_model *m, const char *s)
{
    const char **list = arena_alloc(&r->out->mem, MODEL_INI_ALIASES, sizeof *list);
    if (!list) return wrong(r, r->line, "alias", "no memory");
    m->aliases = list;
    for (;;) {
        s += strspn(s, " \t");
        size_t n = strcspn(s, ","), len = n;
        while (len && strchr(" \t", s[len - 1])) len--;
        if (!name_ok(s, len))
            return wrong(r, r->line, "alias",
                         "names have 1 to 48 letters, digits and signs of ._:/@+-");
        char *name = copy(r, s, len);
        if (!name) return 0;
        if (is_taken(r->out, name)) return wrong(r, r->line, "alias", "a name that is taken");
        if (m->n_aliases == MODEL_INI_ALIASES)
            return wrong(r, r->line, "alias", "more than 16 of them");
        list[m->n_aliases++] = name;
        if (!s[n]) return 1;
        s += n + 1;
    }
}

static int take_bool(struct reader *r, const char *key, const char *s, bool *out)
{
    static const char *const words[] = {"yes", "true", "on", "1", "no", "false", "off", "0"};
    for (int i = 0; i < 8; i++)
        if (strcasecmp(s, words[i]) == 0) {
            *out = i < 4;
            return 1;
        }
    return wrong(r, r->line, key, "must be yes or no");
}

static int take_number(struct reader *r, const char *key, const char *s, double *out)
{
    char *end;
    *out = strtod(s, &end);
    if (end == s || *end || !isfinite(*out) || strpbrk(s, "xXpP"))
        return wrong(r, r->line, key, "must be a number");
    return 1;
}

static int take_whole(struct reader *r, const char *key, const char *s, int *out)
{
    double x = 0;
    if (!take_number(r, key, s, &x)) return 0;
    if (!(x >= 1 && x <= 1 << 24) || x != floor(x))
        return wrong(r, r->line, key, "must be a whole number from 1 to 16777216");
    *out = (int)x;
    return 1;
}

static int take_system(struct reader *r, struct api_model *m, const char *s)
{
    if (r->indented && r->system.len) buf_putc(&r->system, '\n');
    if (!r->indented) buf_reset(&r->system);
    buf_puts(&r->system, s);
    if (r->system.failed) return wrong(r, r->line, "system", "longer than 65536 bytes");
    json_t *text = json_stringn(r->system.data ? r->system.data : "", r->system.len);
    json_decref(text);
    if (!text) return wrong(r, r->line, "system", "must be UTF-8");
    m->system = r->system.len ? r->system.data : NULL; /* copied when it is complete */
    return 1;
}

static int take_sampling(struct reader *r, struct api_model *m, const char *key, const char *s)
{
    struct err e;
    double x = 0;
    struct api_model probe = *m;
    int rc = api_model_set(&probe, key, 0, &e);
    if (rc == ERR_NOT_FOUND) return wrong(r, r->line, key, "an unknown key");
    if (!take_number(r, key, s, &x)) return 0;
    if (api_model_set(m, key, x, &e)) return wrong(r, r->line, key, e.msg);
    return 1;
}

/* ---- lines ---- */

/* The section's system message is complete. */
static void end_section(struct reader *r)
{
    if (!r->out->n || r->rc) return;
    struct model_ini_item *it = &r->out->items[r->out->n - 1];
    if (it->model.system) it->model.system = copy(r, r->system.data, r->system.len);
    if (!it->source && !r->rc)
        wrong(r, it->line, it->model.name, "has no key 'model', a pulled model or a file");
}

static struct model_ini_item *begin_section(struct reader *r, const char *section)
{
    struct model_ini *ini = r->out;
    end_section(r);
    if (r->rc) return NULL;
    r->header = false;
    r->n_keys = 0;
    if (!name_ok(section, strlen(section))) {
        wrong(r, r->line, section, "names have 1 to 48 letters, digits and signs of ._:/@+-");
    } else if (is_taken(ini, section)) {
        wrong(r, r->line, section, "a name that is taken");
    } else if (ini->n == MODEL_INI_MODELS) {
        wrong(r, r->line, section, "more than 256 models");
    } else {
        const char *name = copy(r, section, strlen(section));
        if (!name) return NULL;
        ini->items[ini->n] = (struct model_ini_item){.line = r->line};
        ini->items[ini->n].model.name = name;
        ini->items[ini->n].model.sample = SAMPLE_DEFAULTS;
        return &ini->items[ini->n++];
    }
    return NULL;
}

/* A key may stand once; what goes on with it has no key of its own. */
static bool key_ok(struct reader *r, const char *key)
{
    if (r->indented && r->n_keys) {
        if (strcmp(key, "system") == 0 && strcmp(r->keys[r->n_keys - 1], key) == 0) return true;
        wrong(r, r->line, key, "goes over several lines");
        return false;
    }
    for (int i = 0; i < r->n_keys; i++)
        if (strcmp(r->keys[i], key) == 0) wrong(r, r->line, key, "stands twice");
    if (r->n_keys == KEYS_MAX) wrong(r, r->line, key, "too many keys");
    if (r->rc) return false;
    r->keys[r->n_keys] = copy(r, key, strlen(key));
    return r->keys[r->n_keys++] != NULL;
}

static int take_key(void *arg, const char *section, const char *key, const char *value)
{
    struct reader *r = arg;
    struct model_ini_item *it = r->out->n ? &r->out->items[r->out->n - 1] : NULL;
    struct err e;
    if (r->rc) return 0;
    if (!*section) return wrong(r, r->line, key, "stands before the first [section]");
    if (r->header && !(it = begin_section(r, section))) return 0;
    if (!it || !key_ok(r, key)) return 0;
    r->any_key = true;
    if (!*value && strcmp(key, "system")) return wrong(r, r->line, key, "has no value");
    if (strcmp(key, "model") == 0 || strcmp(key, "path") == 0) {
        if (it->source) return wrong(r, r->line, key, "the model has one already");
        return (it->source = copy(r, value, strlen(value))) != NULL;
    }
    if (strcmp(key, "alias") == 0) return take_aliases(r, &it->model, value);
    if (strcmp(key, "preload") == 0) return take_bool(r, key, value, &it->model.preload);
    if (strcmp(key, "ctx") == 0) return take_whole(r, key, value, &it->model.ctx);
    if (strcmp(key, "max_tokens") == 0) return take_whole(r, key, value, &it->model.max_tokens);
    if (strcmp(key, "system") == 0) return take_system(r, &it->model, value);
    if (strcmp(key, "keep_alive") == 0) {
        it->keeps = true;
        return amount_ns(value, &it->model.keep_ns, &e) ? wrong(r, r->line, key, e.msg) : 1;
    }
    if (strcmp(key, "kv") == 0)
        return amount_bytes(value, &it->model.kv_bytes, &e) ? wrong(r, r->line, key, e.msg) : 1;
    return take_sampling(r, &it->model, key, value);
}

/* For inih: the next line, as fgets would give it. */
static char *take_line(char *line, int room, void *arg)
{
    struct reader *r = arg;
    if (r->rc || r->at == r->end) return NULL;
    const char *nl = memchr(r->at, '\n', (size_t)(r->end - r->at));
    size_t n = (size_t)((nl ? nl : r->end) - r->at);
    const char *s = r->at;
    r->line++;
    r->at += n + (nl != NULL);
    if (n > LINE_MAX_BYTES || (int)n + 2 > room) {
        wrong(r, r->line, "", "a line of more than 198 bytes");
        return NULL;
    }
    if (memchr(s, 0, n)) {
        wrong(r, r->line, "", "a NUL byte");
        return NULL;
    }
    memcpy(line, s, n);
    memcpy(line + n, "\n", 2);
    const char *first = line + strspn(line, " \t\v\f\r");
    r->indented = first > line && r->any_key;
    if (*first != '[' || r->indented) return line;
    if (r->header) {
        wrong(r, r->line - 1, "", "a section without keys");
        return NULL;
    }
    size_t name = strcspn(first + 1, "]");
    if (name > MODEL_INI_NAME || !first[1 + name]) {
        wrong(r, r->line, "", "a section's name of more than 48 bytes, or without its ]");
        return NULL;
    }
    r->header = true;
    r->any_key = false;
    return line;
}

int model_ini_parse(struct model_ini *out, const char *text, size_t n, const char *file,
                    struct err *e)
{
    struct reader r = {.out = out,
                       .file = file,
                       .at = text,
                       .end = text + n,
                       .e = e,
                       .system = BUF_INIT(MODEL_INI_SYSTEM)};
    memset(out, 0, sizeof *out);
    out->mem = ARENA_INIT(4 * MODEL_INI_BYTES);
    if (n > MODEL_INI_BYTES) return err_set(e, ERR_FORMAT, "%.100s:1: more than 1 MiB", file);
    int bad = ini_parse_stream(take_line, &r, take_key, &r);
    if (bad) wrong(&r, bad, "", "neither [section] nor 'key = value'");
    if (r.header) wrong(&r, r.line, "", "a section without keys");
    end_section(&r);
    if (!out->n) wrong(&r, r.line ? r.line : 1, "", "no [section] with a model");
    buf_free(&r.system);
    return r.rc;
}

int model_ini_read(struct model_ini *out, const char *path, struct err *e)
{
    struct buf b = BUF_INIT(MODEL_INI_BYTES);
    memset(out, 0, sizeof *out);
    int rc = cmd_read(path, &b, e);
    if (!rc) rc = model_ini_parse(out, b.data ? b.data : "", b.len, path, e);
    buf_free(&b);
    return rc;
}

void model_ini_free(struct model_ini *ini)
{
    arena_free(&ini->mem);
}
