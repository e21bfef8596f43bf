/* `solvent list`: the store and the catalogue side by side, one line a model. */
#include "catalogue.h"
#include "cmd.h"
#include "progress.h"
#include "store.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One line: a stored model, a catalogue's, or both. */
struct row {
    const char *name;
    const struct store_item *item;       /* NULL: not here */
    const struct catalogue_model *model; /* NULL: not of the catalogue */
};

static void when(const struct store_item *it, const char *format, char out[32])
{
    time_t t = it->pulled_s;
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(out, 32, format, &tm)) snprintf(out, 32, "?");
}

static void print_row(const struct row *r, int width)
{
    char size[16], date[32] = "not here", names[128] = "";
    progress_bytes(r->item ? r->item->bytes : r->model->bytes, size);
    if (r->item && r->item->partial)
        snprintf(date, sizeof date, "incomplete");
    else if (r->item)
        when(r->item, "%Y-%m-%d %H:%M", date);
    printf("%-*s  %7s  %-16s  %s", width, r->name, size, date, r->model ? r->model->licence : "-");
    if (r->model && r->model->n_aliases) printf("  (%s)", catalogue_aliases(r->model, names));
    printf("\n");
}

static json_t *json_row(const struct store *s, const struct row *r)
{
    char path[STORE_PATH_MAX], date[32];
    const struct catalogue_model *m = r->model;
    bool here = r->item && !r->item->partial;
    json_t *aliases = json_array();
    for (size_t i = 0; m && i < m->n_aliases; i++)
        json_array_append_new(aliases, json_string(m->alias[i]));
    store_path(s, r->name, ".gguf", path);
    if (here) when(r->item, "%Y-%m-%dT%H:%M:%S%z", date);
    return json_pack(
        "{s:s, s:o, s:b, s:I, s:s?, s:s?, s:s?, s:s?, s:s?}", "name", r->name, "aliases", aliases,
        "here", here, "bytes", (json_int_t)(r->item ? r->item->bytes : m->bytes), "pulled",
        here ? date : NULL, "path", here ? path : NULL, "licence", m ? m->licence : NULL,
        "description", m ? m->description : NULL, "sha256", m ? m->sha256 : NULL);
}

static int print_json(const struct store *s, const struct row *rows, size_t n, struct err *e)
{
    json_t *all = json_array();
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < n; i++) ok = !json_array_append_new(all, json_row(s, &rows[i]));
    ok = ok && !json_dumpf(all, stdout, JSON_INDENT(2)) && puts("") >= 0;
    json_decref(all);
    return ok ? 0 : err_set(e, ERR_IO, "cannot print the list");
}

/* Stored models first, then what else the catalogue has. */
static size_t collect(struct row *rows, const struct store_item *items, size_t n_items,
                      const struct catalogue *c)
{
    size_t n = 0;
    for (size_t i = 0; i < n_items; i++) {
        const struct store_item *it = &items[i];
        if (n && it->partial && strcmp(rows[n - 1].name, it->name) == 0) continue;
        const struct catalogue_model *m = catalogue_find(c, it->name);
        if (m && strcmp(m->name, it->name) != 0) m = NULL;
        rows[n++] = (struct row){it->name, it, m};
    }
    size_t stored = n;
    for (size_t k = 0; k < c->n; k++) {
        size_t i = 0;
        while (i < stored && rows[i].model != &c->models[k]) i++;
        if (i == stored) rows[n++] = (struct row){c->models[k].name, NULL, &c->models[k]};
    }
    return n;
}

static void print_table(const struct row *rows, size_t n)
{
    int width = 4;
    for (size_t i = 0; i < n; i++)
        if ((int)strlen(rows[i].name) > width) width = (int)strlen(rows[i].name);
    if (n) printf("%-*s  %7s  %-16s  %s\n", width, "NAME", "SIZE", "PULLED", "LICENCE (ALIASES)");
    for (size_t i = 0; i < n; i++) print_row(&rows[i], width);
}

static int list(bool json, struct err *e)
{
    struct catalogue c;
    struct store s;
    struct store_item *items = NULL;
    struct row *rows = NULL;
    size_t n_items, n;
    if (store_open(&s, false, e) || catalogue_open(&c, e)) return e->code;
    int rc = store_list(&s, &items, &n_items, e);
    if (!rc && !(rows = calloc(n_items + c.n + 1, sizeof *rows)))
        rc = err_nomem(e, (n_items + c.n) * sizeof *rows, "the list");
    if (!rc) {
        n = collect(rows, items, n_items, &c);
        if (json)
            rc = print_json(&s, rows, n, e);
        else
            print_table(rows, n);
    }
    free(rows);
    free(items);
    catalogue_free(&c);
    return rc;
}

int cmd_list(int argc, char **argv)
{
    struct err e;
    bool json = false;
    const struct cmd_usage usage = {
        "solvent list",
        "The models that are here, then those of the catalogue that `solvent pull` would fetch.",
    };
    const struct cmd_opt opts[] = {
        {"--json", CMD_FLAG, &json, NULL, "an array of objects", 0, 0},
        {0},
    };
    int n = cmd_parse(argc, argv, &usage, opts, &e);
    if (n == CMD_HELP) return 0;
    if (n > 0) n = err_set(&e, ERR_USAGE, "list takes no argument '%.100s'", argv[1]);
    if (n >= 0) n = list(json, &e);
    return n < 0 ? cmd_fail(&e) : 0;
}
