/* Names decide: whatever two models could both be asked by is refused here. */
#include "serving.h"

#include "catalogue.h"
#include "store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MEM_BYTES = 16 << 20, PATH_ROOM = 4096 };

static char *copy(struct serving *s, const char *text, size_t n, struct err *e)
{
    char *p = arena_strndup(&s->mem, text, n);
    if (!p) err_nomem(e, n, "the list of models");
    return p;
}

static bool is_taken(const struct serving *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!s->files[i].gone && api_model_is_called(&s->list[i], name)) return true;
    return false;
}

static int add(struct serving *s, const struct api_model *m, struct err *e)
{
    for (int k = -1; k < m->n_aliases; k++) {
        const char *name = k < 0 ? m->name : m->aliases[k];
        if (is_taken(s, name)) return err_set(e, ERR_USAGE, "two models are called %s", name);
    }
    if (s->n == SERVING_MAX) return err_set(e, ERR_LIMIT, "more than %d models", SERVING_MAX);
    s->list[s->n++] = *m;
    s->preloaded += m->preload;
    return 0;
}

/* By the name of its file without folders and ".gguf". */
static int add_named(struct serving *s, const char *model, struct err *e)
{
    char path[PATH_ROOM];
    int rc = cmd_model_path(model, path, PATH_ROOM, e);
    if (rc) return rc;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strlen(name);
    if (n > 5 && strcmp(name + n - 5, ".gguf") == 0) n -= 5;
    struct api_model m = {.preload = true, .stays = true, .sample = SAMPLE_DEFAULTS};
    m.name = copy(s, name, n, e);
    m.path = m.name ? copy(s, path, strlen(path), e) : NULL;
    return m.path ? add(s, &m, e) : e->code;
}

static int add_file(struct serving *s, const char *file, int64_t keep_ns, struct err *e)
{
    char path[PATH_ROOM];
    int rc = model_ini_read(&s->ini, file, e);
    for (int i = 0; i < s->ini.n && !rc; i++) {
        const struct model_ini_item *it = &s->ini.items[i];
        struct api_model m = it->model;
        if (!it->keeps) m.keep_ns = keep_ns;
        m.stays = m.preload && !it->keeps;
        rc = cmd_model_path(it->source, path, PATH_ROOM, e);
        if (!rc && !(m.path = copy(s, path, strlen(path), e))) rc = e->code;
        if (!rc) rc = add(s, &m, e);
        if (rc) return err_prefix(e, "%.100s:%d: %s", file, it->line, m.name);
    }
    return rc;
}

/* Names that `solvent run` knows them by, too, but for those that are names of others here. */
static int add_aliases(struct serving *s, struct api_model *m, const struct catalogue *c,
                       struct err *e)
{
    const struct catalogue_model *of = catalogue_find(c, m->name);
    if (!of || strcmp(of->name, m->name) != 0 || !of->n_aliases) return 0;
    const char **list = arena_alloc(&s->mem, of->n_aliases, sizeof *list);
    if (!list) return err_nomem(e, of->n_aliases * sizeof *list, "the list of models");
    m->aliases = list;
    for (size_t i = 0; i < of->n_aliases; i++) {
        if (is_taken(s, of->alias[i])) continue;
        list[m->n_aliases] = copy(s, of->alias[i], strlen(of->alias[i]), e);
        if (!list[m->n_aliases++]) return e->code;
    }
    return 0;
}

static struct serving_file file_at(const char *path)
{
    struct stat st;
    if (stat(path, &st)) return (struct serving_file){.gone = true};
    return (struct serving_file){.id = st.st_ino, .changed = st.st_mtim};
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void find_gone(struct serving *s)
{
    for (int i = 0; i < s->n; i++) {
        struct serving_file *was = &s->files[i], now = file_at(s->list[i].path);
        if (now.gone || now.id != was->id || !is_same_time(now.changed, was->changed))
            was->gone = true;
    }
}

static int add_item(struct serving *s, const char *name, const char *path, struct err *e)
{
    struct api_model m = {.keep_ns = s->keep_ns, .optional = true, .sample = SAMPLE_DEFAULTS};
    m.name = copy(s, name, strlen(name), e);
    m.path = m.name ? copy(s, path, strlen(path), e) : NULL;
    int rc = m.path ? add(s, &m, e) : e->code;
    if (!rc) s->files[s->n - 1] = file_at(path);
    return rc;
}

/* All of the folder that are not in the list. */
static int add_pulled(struct serving *s, struct err *e)
{
    struct store store;
    struct stat st;
    struct catalogue c;
    struct store_item *items = NULL;
    size_t n = 0;
    char path[STORE_PATH_MAX];
    int before = s->n;
    if (store_open(&store, false, e)) return e->code;
    if (stat(store.dir, &st)) st.st_mtim = (struct timespec){0};
    if (is_same_time(s->changed, st.st_mtim) && s->n) return 0;
    /* A folder that changed a moment ago may change again at what its clock takes for the same time. */
    s->changed = st.st_mtim.tv_sec + 1 < time(NULL) ? st.st_mtim : (struct timespec){0};
    find_gone(s);
    if (catalogue_open(&c, e)) return e->code;
    int rc = store_list(&store, &items, &n, e);
    for (size_t i = 0; i < n && !rc; i++) {
        if (items[i].partial || is_taken(s, items[i].name)) continue;
        store_path(&store, items[i].name, ".gguf", path);
        rc = add_item(s, items[i].name, path, e);
    }
    for (int i = before; i < s->n && !rc; i++) rc = add_aliases(s, &s->list[i], &c, e);
    free(items);
    catalogue_free(&c);
    return rc;
}

/* Of the first n, all or those of a name. */
static void remove_gone(struct serving *s, struct api *a, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (s->files[i].gone && (!name || strcmp(s->list[i].name, name) == 0))
            api_remove(a, &s->list[i]);
}

/* One whose file was replaced is served until what replaces it is, which takes a while to read. */
void serving_look(struct serving *s, struct api *a)
{
    struct err e;
    int before = s->n;
    if (s->pulled && add_pulled(s, &e)) {
        fprintf(stderr, "solvent: what was pulled meanwhile is not served: %s\n", e.msg);
        s->n = before;
    }
    for (int i = before; i < s->n; i++) {
        api_add(a, &s->list[i]);
        remove_gone(s, a, before, s->list[i].name);
    }
    remove_gone(s, a, before, NULL);
}

int serving_find(struct serving *s, const struct cmd_list *named, const char *file, int64_t keep_ns,
                 struct err *e)
{
    int rc = 0;
    s->mem = ARENA_INIT(MEM_BYTES);
    for (int i = 0; i < named->n && !rc; i++) rc = add_named(s, named->items[i], e);
    if (!rc && file) rc = add_file(s, file, keep_ns, e);
    s->keep_ns = keep_ns;
    s->pulled = !named->n && !file;
    if (!rc && s->pulled) rc = add_pulled(s, e);
    if (!rc && !s->n)
        rc = err_set(e, ERR_USAGE,
                     "no model is here: name one with -m MODEL, or `solvent pull` one");
    return rc;
}

void serving_free(struct serving *s)
{
    model_ini_free(&s->ini);
    arena_free(&s->mem);
}
