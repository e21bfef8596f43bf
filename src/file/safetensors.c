/* Opens safetensors files: eight bytes that say how long the JSON header is, the header, the bytes
 * of the tensors.
 *
 * Hostile until safetensors_open has returned 0. The header's size is compared with the file before
 * it is read, and its brackets and commas are counted before it is parsed, so that memory grows with
 * the tensors there may be and not with what fits into 100 MB of JSON. Products of shapes are
 * computed in 128 bits. After that every pointer handed out lies inside a mapping.
 *
 * Types that we do not convert (integers, 8-bit floats) are known by their size only: a model may
 * hold such tensors that nobody asks for. Which tensors a model must have is its family's business.
 */
#include "safetensors.h"

#include "map.h"
#include "mapfile.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    TENSORS_MAX = 1 << 17,
    NAME_BYTES_MAX = 255,
    PARTS_MAX = 1024,
    PATH_BYTES_MAX = 4096,
    JSON_MARKS_MAX = 1 << 22, /* brackets, braces and commas of one header */
};

struct part {
    struct mapfile file;
    json_t *header; /* owns the names */
};

struct safetensors {
    size_t n_parts, n;
    struct part *parts;
    struct safetensors_tensor *tensors;
    struct map names; /* name -> index in tensors */
};

static const struct {
    const char *name;
    uint32_t type, bytes;
} dtypes[] = {
    {"F32", QUANT_F32, 4},          {"F16", QUANT_F16, 2},          {"BF16", QUANT_BF16, 2},
    {"F64", QUANT_TYPE_END, 8},     {"I64", QUANT_TYPE_END, 8},     {"U64", QUANT_TYPE_END, 8},
    {"I32", QUANT_TYPE_END, 4},     {"U32", QUANT_TYPE_END, 4},     {"I16", QUANT_TYPE_END, 2},
    {"U16", QUANT_TYPE_END, 2},     {"I8", QUANT_TYPE_END, 1},      {"U8", QUANT_TYPE_END, 1},
    {"BOOL", QUANT_TYPE_END, 1},    {"F8_E4M3", QUANT_TYPE_END, 1}, {"F8_E5M2", QUANT_TYPE_END, 1},
    {"F8_E8M0", QUANT_TYPE_END, 1},
};

static int parse(const struct mapfile *m, size_t at, size_t n, const char *what, json_t **out,
                 struct err *e)
{
    const char *text = (const char *)m->data + at;
    size_t marks = 0;
    json_error_t je;
    for (size_t i = 0; i < n; i++) marks += text[i] == '[' || text[i] == '{' || text[i] == ',';
    if (marks > JSON_MARKS_MAX)
        return err_set(e, ERR_LIMIT, "%s holds %zu brackets and commas, at most %d are read", what,
                       marks, JSON_MARKS_MAX);
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
    if (!*out) return err_set(e, ERR_FORMAT, "%s is no JSON: %s", what, je.text);
    if (!json_is_object(*out)) return err_set(e, ERR_FORMAT, "%s is no JSON object", what);
    return 0;
}

/* A whole number of JSON that is not negative. */
static bool whole(const json_t *j, uint64_t *out)
{
    if (!json_is_integer(j) || json_integer_value(j) < 0) return false;
    *out = (uint64_t)json_integer_value(j);
    return true;
}

/* Fills all but data from {"dtype": , "shape": , "data_offsets": }; *begin is where data starts. */
static int describe(struct safetensors_tensor *t, const json_t *j, size_t room, uint64_t *begin,
                    struct err *e)
{
    const char *dtype = json_string_value(json_object_get(j, "dtype"));
    const json_t *shape = json_object_get(j, "shape"), *at = json_object_get(j, "data_offsets");
    size_t k = 0, kinds = sizeof dtypes / sizeof *dtypes;
    uint64_t end;
    while (dtype && k < kinds && strcmp(dtype, dtypes[k].name) != 0) k++;
    if (!dtype || k == kinds)
        return err_set(e, ERR_UNSUPPORTED, "tensor %s is of the unknown type %.40s", t->name,
                       dtype ? dtype : "(none)");
    t->dtype = dtypes[k].name;
    t->type = dtypes[k].type;
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_DIMS_MAX)
        return err_set(e, ERR_FORMAT, "tensor %s: its shape is no list of up to %d numbers",
                       t->name, SAFETENSORS_DIMS_MAX);
    t->n_dims = (uint32_t)json_array_size(shape);
    unsigned __int128 bytes = dtypes[k].bytes;
    for (uint32_t i = 0; i < SAFETENSORS_DIMS_MAX; i++) {
        t->dim[i] = 1;
        if (i < t->n_dims && (!whole(json_array_get(shape, i), &t->dim[i]) || !t->dim[i]))
            return err_set(e, ERR_FORMAT, "tensor %s: dimension %u is no number above 0", t->name,
                           i);
        bytes *= t->dim[i];
        if (bytes > room)
            return err_set(e, ERR_FORMAT, "tensor %s is larger than its file", t->name);
    }
    if (json_array_size(at) != 2 || !whole(json_array_get(at, 0), begin) ||
        !whole(json_array_get(at, 1), &end) || *begin > end || end > room)
        return err_set(e, ERR_FORMAT, "tensor %s lies outside the file (%zu bytes of data)",
                       t->name, room);
    if (end - *begin != bytes)
        return err_set(e, ERR_FORMAT, "tensor %s has %llu bytes, its shape wants %llu", t->name,
                       (unsigned long long)(end - *begin), (unsigned long long)bytes);
    t->bytes = (size_t)bytes;
    return 0;
}

static int by_address(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    return (x->data > y->data) - (x->data < y->data);
}

/* Sorts the n tensors of one file by place and refuses overlaps. */
static int apart(struct safetensors_tensor *t, size_t n, struct err *e)
{
    qsort(t, n, sizeof *t, by_address);
    for (size_t i = 1; i < n; i++)
        if (t[i - 1].data + t[i - 1].bytes > t[i].data)
            return err_set(e, ERR_FORMAT, "tensors %s and %s overlap", t[i - 1].name, t[i].name);
    return 0;
}

static int grow(struct safetensors *s, size_t more, struct err *e)
{
    if (more > TENSORS_MAX - s->n)
        return err_set(e, ERR_LIMIT, "%zu tensors are more than %d", s->n + more, TENSORS_MAX);
    size_t room = s->n + more + 1;
    struct safetensors_tensor *all = realloc(s->tensors, room * sizeof *all);
    if (!all) return err_nomem(e, room * sizeof *all, "tensors");
    s->tensors = all;
    return 0;
}

static int read_tensors(struct safetensors *s, size_t part, size_t start, struct err *e)
{
    struct part *p = &s->parts[part];
    size_t first = s->n, room = p->file.size - start;
    if (grow(s, json_object_size(p->header), e)) return e->code;
    const char *name;
    json_t *j;
    json_object_foreach(p->header, name, j)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        if (!*name || strlen(name) > NAME_BYTES_MAX)
            return err_set(e, ERR_FORMAT, "a tensor has a name of %zu bytes (1 to %d allowed)",
                           strlen(name), NAME_BYTES_MAX);
        struct safetensors_tensor *t = &s->tensors[s->n];
        uint64_t begin = 0;
        *t = (struct safetensors_tensor){.name = name, .part = part};
        if (describe(t, j, room, &begin, e)) return e->code;
        t->data = p->file.data + start + begin;
        s->n++;
    }
    return apart(s->tensors + first, s->n - first, e);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int read_part(struct safetensors *s, size_t i, const char *path, struct err *e)
{
    struct part *p = &s->parts[i];
    uint64_t n;
    if (mapfile_open(&p->file, path, e)) return e->code;
    if (p->file.size < sizeof n)
        return err_set(e, ERR_FORMAT, "%.100s: the file ends inside its header", base_name(path));
    memcpy(&n, p->file.data, sizeof n);
    if (n > SAFETENSORS_HEADER_MAX)
        return err_set(e, ERR_LIMIT, "%.100s: a header of %llu bytes, at most %d are read",
                       base_name(path), (unsigned long long)n, SAFETENSORS_HEADER_MAX);
    if (n > p->file.size - sizeof n)
        return err_set(e, ERR_FORMAT, "%.100s: a header of %llu bytes in a file of %zu",
                       base_name(path), (unsigned long long)n, p->file.size);
    if (parse(&p->file, sizeof n, (size_t)n, "the header", &p->header, e) ||
        read_tensors(s, i, sizeof n + (size_t)n, e))
        return err_prefix(e, "%.100s", base_name(path));
    return 0;
}

static int make_parts(struct safetensors *s, size_t n, struct err *e)
{
    s->parts = calloc(n ? n : 1, sizeof *s->parts);
    if (!s->parts) return err_nomem(e, n * sizeof *s->parts, "files");
    for (size_t i = 0; i < n; i++) s->parts[i].file.fd = -1;
    s->n_parts = n;
    return 0;
}

/* The files of an index, each once; they point into weight_map. */
static int list_files(const json_t *weight_map, const char **file, size_t *n, struct err *e)
{
    const char *tensor;
    json_t *j;
    *n = 0;
    json_object_foreach((json_t *)(uintptr_t)weight_map, tensor, j)
    {
        const char *name = json_string_value(j);
        size_t k = 0;
        if (!name || !*name || strlen(name) > NAME_BYTES_MAX || *name == '.' || strchr(name, '/'))
            return err_set(e, ERR_FORMAT, "tensor %.100s lies in \"%.100s\", no name of a file",
                           tensor, name ? name : "(none)");
        while (k < *n && strcmp(file[k], name) != 0) k++;
        if (k < *n) continue;
        if (*n == PARTS_MAX) return err_set(e, ERR_LIMIT, "more than %d files", PARTS_MAX);
        file[(*n)++] = name;
    }
    return *n ? 0 : err_set(e, ERR_FORMAT, "it names no file");
}

static int check_index(const struct safetensors *s, const json_t *weight_map,
                       const char *const *file, struct err *e)
{
    const char *tensor;
    json_t *j;
    json_object_foreach((json_t *)(uintptr_t)weight_map, tensor, j)
    {
        const struct safetensors_tensor *t = safetensors_find(s, tensor);
        if (!t || strcmp(file[t->part], json_string_value(j)) != 0)
            return err_set(e, ERR_FORMAT, "%.100s lacks the tensor %.100s", json_string_value(j),
                           tensor);
    }
    return 0;
}

static int index_names(struct safetensors *s, struct err *e)
{
    if (!map_init(&s->names, s->n)) return err_nomem(e, s->n * sizeof(struct map_slot), "tensors");
    for (size_t i = 0; i < s->n; i++) {
        const char *name = s->tensors[i].name;
        bool ok = true;
        if (map_put(&s->names, name, (uint32_t)strlen(name), (uint32_t)i, &ok) != MAP_NONE)
            return err_set(e, ERR_FORMAT, "the tensor %s stands in two files", name);
        if (!ok) return err_nomem(e, s->n * sizeof(struct map_slot), "tensors");
    }
    return 0;
}

static int read_parts(struct safetensors *s, const char *dir, const json_t *weight_map,
                      struct err *e)
{
    const char *file[PARTS_MAX];
    char path[PATH_BYTES_MAX];
    size_t n;
    if (list_files(weight_map, file, &n, e) || make_parts(s, n, e)) return e->code;
    for (size_t i = 0; i < n; i++) {
        if (snprintf(path, sizeof path, "%s/%s", dir, file[i]) >= (int)sizeof path)
            return err_set(e, ERR_LIMIT, "the path is too long");
        if (read_part(s, i, path, e)) return e->code;
    }
    if (index_names(s, e)) return e->code;
    return check_index(s, weight_map, file, e);
}

static int read_index(struct safetensors *s, const char *dir, const char *path, struct err *e)
{
    struct mapfile m;
    json_t *index = NULL;
    if (mapfile_open(&m, path, e)) return e->code;
    int rc = m.size > SAFETENSORS_HEADER_MAX
                 ? err_set(e, ERR_LIMIT, "%zu bytes, at most %d are read", m.size,
                           SAFETENSORS_HEADER_MAX)
                 : parse(&m, 0, m.size, "the index", &index, e);
    if (!rc) rc = read_parts(s, dir, json_object_get(index, "weight_map"), e);
    json_decref(index);
    mapfile_close(&m);
    return rc ? err_prefix(e, "%.100s", base_name(path)) : 0;
}

static int read_all(struct safetensors *s, const char *path, struct err *e)
{
    char name[PATH_BYTES_MAX];
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (snprintf(name, sizeof name, "%s/model.safetensors.index.json", path) >=
            (int)sizeof name)
            return err_set(e, ERR_LIMIT, "the path is too long");
        if (stat(name, &st) == 0) return read_index(s, path, name, e);
        snprintf(name, sizeof name, "%s/model.safetensors", path);
        path = name;
    }
    if (make_parts(s, 1, e) || read_part(s, 0, path, e)) return e->code;
    return index_names(s, e);
}

int safetensors_open(struct safetensors **out, const char *path, struct err *e)
{
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s) return err_nomem(e, sizeof *s, "a model");
    if (read_all(s, path, e)) {
        safetensors_close(s);
        return e->code;
    }
    *out = s;
    return 0;
}

void safetensors_close(struct safetensors *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_parts; i++) {
        json_decref(s->parts[i].header);
        mapfile_close(&s->parts[i].file);
    }
    map_free(&s->names);
    free(s->parts);
    free(s->tensors);
    free(s);
}

size_t safetensors_count(const struct safetensors *s)
{
    return s->n;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *s, size_t i)
{
    return &s->tensors[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    uint32_t i = map_get(&s->names, name, (uint32_t)strlen(name));
    return i == MAP_NONE ? NULL : &s->tensors[i];
}

void safetensors_forget(const struct safetensors *s, const struct safetensors_tensor *t)
{
    const struct mapfile *m = &s->parts[t->part].file;
    mapfile_forget(m, (size_t)(t->data - m->data), t->bytes);
}
