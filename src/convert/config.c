/* The JSON files of a folder. Their size is capped, and so is the number of values in them, which
 * is what costs memory once they are parsed; a number is checked where it is taken. */
#include "convert_int.h"

#include "mapfile.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    JSON_BYTES_MAX = 256 << 20,
    JSON_MARKS_MAX = 1 << 24, /* brackets, braces and commas */
    TEXT_BYTES_MAX = 4 << 20,
    PATH_BYTES_MAX = 4096,
};

static int path_of(const char *dir, const char *name, char path[PATH_BYTES_MAX], struct err *e)
{
    if (snprintf(path, PATH_BYTES_MAX, "%s/%s", dir, name) < PATH_BYTES_MAX) return 0;
    return err_set(e, ERR_LIMIT, "the path is too long");
}

int convert__json(const char *dir, const char *name, bool must, json_t **out, struct err *e)
{
    char path[PATH_BYTES_MAX];
    struct mapfile m;
    json_error_t je;
    size_t marks = 0;
    *out = NULL;
    if (path_of(dir, name, path, e)) return e->code;
    if (!must && access(path, F_OK)) return 0;
    if (mapfile_open(&m, path, e)) return e->code;
    for (size_t i = 0; i < m.size && i <= JSON_BYTES_MAX; i++)
        marks += m.data[i] == '[' || m.data[i] == '{' || m.data[i] == ',';
    int rc = 0;
    if (m.size > JSON_BYTES_MAX || marks > JSON_MARKS_MAX)
        rc = err_set(e, ERR_LIMIT, "%s: %zu bytes and %zu brackets and commas; at most %d and %d",
                     name, m.size, marks, JSON_BYTES_MAX, JSON_MARKS_MAX);
    else if (!(*out = json_loadb((const char *)m.data, m.size, 0, &je)))
        rc = err_set(e, ERR_FORMAT, "%s: line %d: %s", name, je.line, je.text);
    else if (!json_is_object(*out) && !json_is_array(*out))
        rc = err_set(e, ERR_FORMAT, "%s holds neither an object nor a list", name);
    mapfile_close(&m);
    return rc;
}

int convert__text(const char *dir, const char *name, struct buf *out, struct err *e)
{
    char path[PATH_BYTES_MAX];
    struct mapfile m;
    if (path_of(dir, name, path, e)) return e->code;
    if (access(path, F_OK)) return 0;
    if (mapfile_open(&m, path, e)) return e->code;
    int rc = 0;
    if (m.size > TEXT_BYTES_MAX)
        rc = err_set(e, ERR_LIMIT, "%s has %zu bytes, at most %d are read", name, m.size,
                     TEXT_BYTES_MAX);
    else if (!buf_put(out, m.data, m.size))
        rc = err_nomem(e, m.size, name);
    mapfile_close(&m);
    return rc;
}

static int bad(const char *key, double min, double max, struct err *e)
{
    return err_set(e, ERR_FORMAT, "config.json: %s is no number from %g to %g", key, min, max);
}

int convert__u32(const json_t *j, const char *key, uint32_t absent, uint32_t min, uint32_t max,
                 uint32_t *out, struct err *e)
{
    const json_t *v = json_object_get(j, key);
    *out = absent;
    if (!v || json_is_null(v)) return absent >= min && absent <= max ? 0 : bad(key, min, max, e);
    double n = json_number_value(v);
    if (!json_is_number(v) || !(n >= min && n <= max) || n != floor(n))
        return bad(key, min, max, e);
    *out = (uint32_t)n;
    return 0;
}

int convert__f32(const json_t *j, const char *key, double absent, double min, double max,
                 float *out, struct err *e)
{
    const json_t *v = json_object_get(j, key);
    *out = (float)absent;
    if (!v || json_is_null(v)) return 0;
    double n = json_number_value(v);
    if (!json_is_number(v) || !(n >= min && n <= max)) return bad(key, min, max, e);
    *out = (float)n;
    return 0;
}

const char *convert__str(const json_t *j, const char *key)
{
    return json_string_value(json_object_get(j, key));
}
