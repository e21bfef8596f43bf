/* Flags in one table a command, so that --help, parsing and range checks cannot disagree. */
#include "cmd.h"

#include "progress.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool name_matches(const char *names, const char *flag, size_t n)
{
    for (const char *p = names; *p;) {
        size_t len = strcspn(p, ",");
        if (len == n && memcmp(p, flag, n) == 0) return true;
        p += len + (p[len] == ',');
    }
    return false;
}

static void print_help(const struct cmd_usage *u, const struct cmd_opt *opts)
{
    printf("usage: %s\n\n%s\n", u->line, u->about);
    if (opts->name) printf("\n");
    for (const struct cmd_opt *o = opts; o->name; o++) {
        char left[64];
        int n =
            snprintf(left, sizeof left, "%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        printf("  %-26s%s%s\n", left, n > 25 ? "\n                            " : "", o->help);
    }
}

static int put_number(const struct cmd_opt *o, const char *s, struct err *e)
{
    char *end;
    errno = 0;
    if (o->kind == CMD_INT) {
        long long v = strtoll(s, &end, 10);
        if (end == s || *end || errno || (double)v < o->min || (double)v > o->max)
            return err_set(e, ERR_USAGE, "%s wants a whole number from %.0f to %.0f, not '%s'",
                           o->name, o->min, o->max, s);
        *(int64_t *)o->value = v;
        return 0;
    }
    double v = strtod(s, &end);
    if (end == s || *end || !isfinite(v) || v < o->min || v > o->max)
        return err_set(e, ERR_USAGE, "%s wants a number from %g to %g, not '%s'", o->name, o->min,
                       o->max, s);
    *(double *)o->value = v;
    return 0;
}

static int add_item(const struct cmd_opt *o, const char *s, struct err *e)
{
    struct cmd_list *list = o->value;
    if (list->n == CMD_LIST_MAX)
        return err_set(e, ERR_LIMIT, "%s more than %d times", o->name, CMD_LIST_MAX);
    list->items[list->n++] = s;
    return 0;
}

/* Returns how many arguments were used (1 or 2), or a negative code. */
static int take_flag(const struct cmd_opt *opts, char **argv, struct err *e)
{
    const char *flag = argv[0], *eq = flag[1] == '-' ? strchr(flag, '=') : NULL;
    size_t n = eq ? (size_t)(eq - flag) : strlen(flag);
    const struct cmd_opt *o = opts;
    while (o->name && !name_matches(o->name, flag, n)) o++;
    if (!o->name) return err_set(e, ERR_USAGE, "unknown flag '%s' (see --help)", flag);
    if (o->kind == CMD_FLAG) {
        if (eq) return err_set(e, ERR_USAGE, "%s takes no value", o->name);
        *(bool *)o->value = true;
        return 1;
    }
    const char *value = eq ? eq + 1 : argv[1];
    if (!value) return err_set(e, ERR_USAGE, "%s wants a value (%s)", o->name, o->arg);
    if (o->kind == CMD_STRING)
        *(const char **)o->value = value;
    else if (o->kind == CMD_LIST ? add_item(o, value, e) : put_number(o, value, e))
        return e->code;
    return eq ? 1 : 2;
}

int cmd_parse(int argc, char **argv, const struct cmd_usage *u, const struct cmd_opt *opts,
              struct err *e)
{
    int rest = 0;
    bool flags = true;
    for (int i = 1; i < argc;) {
        if (flags && strcmp(argv[i], "--") == 0) {
            flags = false;
            i++;
        } else if (flags && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            print_help(u, opts);
            return CMD_HELP;
        } else if (flags && argv[i][0] == '-' && argv[i][1]) {
            int used = take_flag(opts, argv + i, e);
            if (used < 0) return used;
            i += used;
        } else {
            argv[++rest] = argv[i++];
        }
    }
    return rest;
}

void cmd_load_progress(void *bar, int64_t done, int64_t total)
{
    struct progress *p = bar;
    p->total = total;
    progress_update(p, done);
}

int cmd_fail(const struct err *e)
{
    fprintf(stderr, "solvent: %s\n", e->msg);
    return e->code == ERR_USAGE ? 2 : 1;
}

int cmd_read(const char *path, struct buf *out, struct err *e)
{
    bool std = strcmp(path, "-") == 0;
    const char *name = std ? "standard input" : path;
    FILE *f = std ? stdin : fopen(path, "re");
    char part[1 << 16];
    int rc = 0;
    if (!f) return err_set(e, ERR_IO, "cannot read %s: %s", name, strerror(errno));
    for (size_t n; !rc && (n = fread(part, 1, sizeof part, f)) > 0;)
        if (n > out->cap - out->len)
            rc = err_set(e, ERR_LIMIT, "%s holds more than %zu bytes", name, out->cap);
        else if (!buf_put(out, part, n))
            rc = err_nomem(e, out->len + n, name);
    if (!rc && ferror(f)) rc = err_set(e, ERR_IO, "cannot read %s: %s", name, strerror(errno));
    if (!std) fclose(f);
    return rc;
}
