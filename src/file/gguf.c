/* Opens GGUF files and answers questions about them.
 *
 * The file is hostile until gguf_open has returned 0: every count is first compared with the bytes
 * that are left (so that memory grows with the file, not with what it claims), sizes are computed
 * in 128 bits, and each refusal names the key or tensor and the number. After that every pointer
 * handed out lies inside a mapping, and nothing below here checks again.
 *
 * A split model is a row of files, each complete in itself; the metadata is that of the first.
 * Parts are found by counting in the name that the caller gave, never by a name inside a file.
 *
 * What the metadata means (ranges of layer counts and the like) is left to the model families.
 */
#include "gguf.h"

#include "checksum.h"
#include "map.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    KEYS_MAX = 1 << 16,
    TENSORS_MAX = 1 << 16,
    KEY_BYTES_MAX = 65535,
    NAME_BYTES_MAX = 255,
    ALIGNMENT_MIN = 8,
    ALIGNMENT_MAX = 1 << 16,
    PARTS_MAX = 512,
    PATH_BYTES_MAX = 4096,
    /* the smallest that one of each can be in the file */
    KEY_MIN = 8 + 1 + 4 + 1,
    TENSOR_MIN = 8 + 1 + 4 + 8 + 4 + 8,
};

struct part {
    struct mapfile file;
    struct gguf_kv *kv;
    size_t n_kv;
    size_t head_bytes; /* before the tensors' data */
    struct map keys;   /* name -> index in kv */
};

struct gguf {
    uint32_t version;
    size_t n_parts, n_tensors;
    struct part *parts;
    struct gguf_tensor *tensors; /* of all parts, in the order of the files */
    struct map names;            /* name -> index in tensors */
};

/* Reading position in a file. A read that does not fit fails and moves nothing. */
struct cursor {
    const uint8_t *p, *end;
};

static size_t left(const struct cursor *c)
{
    return (size_t)(c->end - c->p);
}

static bool take(struct cursor *c, void *out, size_t n)
{
    if (n > left(c)) return false;
    memcpy(out, c->p, n);
    c->p += n;
    return true;
}

static bool take_str(struct cursor *c, struct gguf_str *out)
{
    uint64_t n;
    struct cursor at = *c;
    if (!take(&at, &n, sizeof n) || n > left(&at)) return false;
    *out = (struct gguf_str){(const char *)at.p, n};
    c->p = at.p + n;
    return true;
}

/* For "%.*s" */
#define SHOW(s) (int)((s).n < 100 ? (s).n : 100), (s).p

static const struct {
    const char *name;
    uint8_t bytes; /* 0: not of fixed size */
} kinds[GGUF_TYPE_END] = {
    [GGUF_U8] = {"u8", 1},     [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},   [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},   [GGUF_BOOL] = {"bool", 1}, [GGUF_STR] = {"string", 0},
    [GGUF_ARR] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(enum gguf_type type)
{
    return kinds[type].name;
}

/* Steps over the items of a value and makes sure that they are all there. */
static int check_items(struct cursor *c, const struct gguf_kv *kv, struct err *e)
{
    size_t each = kinds[kv->item].bytes;
    if (kv->count > left(c) / (each ? each : sizeof(uint64_t)))
        return err_set(e, ERR_FORMAT, "%.*s: %llu items do not fit into the %zu bytes left",
                       SHOW(kv->key), (unsigned long long)kv->count, left(c));
    for (uint64_t i = 0; !each && i < kv->count; i++) {
        struct gguf_str s;
        if (!take_str(c, &s))
            return err_set(e, ERR_FORMAT, "%.*s: string %llu runs past the end of the file",
                           SHOW(kv->key), (unsigned long long)i);
    }
    for (uint64_t i = 0; kv->item == GGUF_BOOL && i < kv->count; i++)
        if (c->p[i] > 1)
            return err_set(e, ERR_FORMAT, "%.*s: %d is no truth value", SHOW(kv->key), c->p[i]);
    c->p += each * kv->count;
    return 0;
}

static int read_kv(struct cursor *c, struct gguf_kv *kv, size_t i, struct err *e)
{
    uint32_t type, item;
    if (!take_str(c, &kv->key))
        return err_set(e, ERR_FORMAT, "the name of key %zu runs past the end of the file", i);
    if (kv->key.n == 0 || kv->key.n > KEY_BYTES_MAX)
        return err_set(e, ERR_FORMAT, "key %zu has a name of %zu bytes (1 to %d allowed)", i,
                       kv->key.n, KEY_BYTES_MAX);
    if (!take(c, &type, sizeof type)) goto cut;
    item = type;
    kv->count = 1;
    if (type == GGUF_ARR && (!take(c, &item, sizeof item) || !take(c, &kv->count, 8))) goto cut;
    if (item == GGUF_ARR)
        return err_set(e, ERR_UNSUPPORTED, "%.*s is an array of arrays", SHOW(kv->key));
    if (type >= GGUF_TYPE_END || item >= GGUF_TYPE_END)
        return err_set(e, ERR_FORMAT, "%.*s has the unknown type %u", SHOW(kv->key), item);
    kv->type = type;
    kv->item = item;
    kv->value = c->p;
    return check_items(c, kv, e);
cut:
    return err_set(e, ERR_FORMAT, "%.*s: the file ends inside this key", SHOW(kv->key));
}

static int read_kvs(struct part *part, struct cursor *c, uint64_t n, struct err *e)
{
    if (n > left(c) / KEY_MIN)
        return err_set(e, ERR_FORMAT, "%llu keys do not fit into the %zu bytes left",
                       (unsigned long long)n, left(c));
    if (n > KEYS_MAX)
        return err_set(e, ERR_LIMIT, "%llu keys are more than %d", (unsigned long long)n, KEYS_MAX);
    part->kv = calloc(n ? n : 1, sizeof *part->kv);
    if (!part->kv || !map_init(&part->keys, n)) return err_nomem(e, n * sizeof *part->kv, "keys");
    for (; part->n_kv < n; part->n_kv++) {
        struct gguf_kv *kv = &part->kv[part->n_kv];
        if (read_kv(c, kv, part->n_kv, e)) return e->code;
        bool ok;
        if (map_put(&part->keys, kv->key.p, (uint32_t)kv->key.n, (uint32_t)part->n_kv, &ok) !=
            MAP_NONE)
            return err_set(e, ERR_FORMAT, "the key %.*s stands there twice", SHOW(kv->key));
        if (!ok) return err_nomem(e, n * sizeof(struct map_slot), "keys");
    }
    return 0;
}

static const char *unread_type_name(uint32_t type)
{
    static const char *const names[] = {
        [4] = "q4_2",      [5] = "q4_3",        [9] = "q8_1",        [15] = "q8_K",
        [16] = "iq2_xxs",  [17] = "iq2_xs",     [18] = "iq3_xxs",    [19] = "iq1_s",
        [21] = "iq3_s",    [22] = "iq2_s",      [24] = "i8",         [25] = "i16",
        [26] = "i32",      [27] = "i64",        [28] = "f64",        [29] = "iq1_m",
        [31] = "q4_0_4_4", [32] = "q4_0_4_8",   [33] = "q4_0_8_8",   [34] = "tq1_0",
        [35] = "tq2_0",    [36] = "iq4_nl_4_4", [37] = "iq4_nl_4_8", [38] = "iq4_nl_8_8",
        [40] = "nvfp4",    [41] = "q1_0",       [42] = "q2_0",
    };
    return type < sizeof names / sizeof *names && names[type] ? names[type] : "unknown";
}

/* The size of a tensor from its type and dimensions; no product here can wrap. */
static int tensor_bytes(struct gguf_tensor *t, size_t limit, struct err *e)
{
    if (!quant_name(t->type))
        return err_set(e, ERR_UNSUPPORTED, "tensor %.*s has type %u (%s), which we do not read",
                       SHOW(t->name), t->type, unread_type_name(t->type));
    uint32_t block = quant_block(t->type);
    unsigned __int128 values = 1;
    for (int i = 0; i < 4; i++) {
        if (t->dim[i] == 0)
            return err_set(e, ERR_FORMAT, "tensor %.*s has size 0 in dimension %d", SHOW(t->name),
                           i);
        values *= t->dim[i];
        if (values > INT64_MAX)
            return err_set(e, ERR_FORMAT, "tensor %.*s has more than 2^63 values", SHOW(t->name));
    }
    if (t->dim[0] % block)
        return err_set(e, ERR_FORMAT,
                       "tensor %.*s has rows of %llu values, which blocks of %u (%s) do not fill",
                       SHOW(t->name), (unsigned long long)t->dim[0], block, quant_name(t->type));
    unsigned __int128 bytes = values / block * quant_bytes(t->type);
    if (bytes > limit)
        return err_set(e, ERR_FORMAT,
                       "tensor %.*s of %llu values is larger than its file of %zu bytes",
                       SHOW(t->name), (unsigned long long)values, limit);
    t->bytes = (size_t)bytes;
    return 0;
}

/* Reads all but the place of the data, of which only the offset is known yet. */
static int read_tensor(struct cursor *c, struct gguf_tensor *t, size_t i, uint64_t *offset,
                       size_t limit, struct err *e)
{
    if (!take_str(c, &t->name))
        return err_set(e, ERR_FORMAT, "the name of tensor %zu runs past the end of the file", i);
    if (t->name.n == 0 || t->name.n > NAME_BYTES_MAX)
        return err_set(e, ERR_FORMAT, "tensor %zu has a name of %zu bytes (1 to %d allowed)", i,
                       t->name.n, NAME_BYTES_MAX);
    if (!take(c, &t->n_dims, sizeof t->n_dims)) goto cut;
    if (t->n_dims < 1 || t->n_dims > 4)
        return err_set(e, ERR_FORMAT, "tensor %.*s has %u dimensions (1 to 4 allowed)",
                       SHOW(t->name), t->n_dims);
    for (int k = 0; k < 4; k++) t->dim[k] = 1;
    if (!take(c, t->dim, t->n_dims * sizeof *t->dim) || !take(c, &t->type, sizeof t->type) ||
        !take(c, offset, sizeof *offset))
        goto cut;
    return tensor_bytes(t, limit, e);
cut:
    return err_set(e, ERR_FORMAT, "tensor %.*s: the file ends inside its description",
                   SHOW(t->name));
}

static const struct gguf_kv *find(const struct part *part, const char *key)
{
    uint32_t i = map_get(&part->keys, key, (uint32_t)strlen(key));
    return i == MAP_NONE ? NULL : &part->kv[i];
}

static bool integer(const struct gguf_kv *kv, int64_t min, int64_t max, int64_t *out)
{
    if (!kv || kv->type == GGUF_F32 || kv->type == GGUF_F64 || kv->type == GGUF_BOOL ||
        kv->type == GGUF_STR || kv->type == GGUF_ARR)
        return false;
    int64_t v = gguf_item_i64(kv, 0);
    if (v < min || v > max) return false;
    *out = v;
    return true;
}

/* 0 when the file names an impossible one. */
static uint64_t alignment(const struct part *part)
{
    const struct gguf_kv *kv = find(part, "general.alignment");
    int64_t v = 32;
    if (kv && (!integer(kv, ALIGNMENT_MIN, ALIGNMENT_MAX, &v) || (v & (v - 1)))) return 0;
    return (uint64_t)v;
}

/* Turns offsets into addresses once the end of the descriptions, and so the start of the data, is
 * known. */
static int place(const struct part *part, struct gguf_tensor *t, const uint64_t *offset, size_t n,
                 size_t header, struct err *e)
{
    uint64_t align = alignment(part);
    if (!align)
        return err_set(e, ERR_FORMAT, "general.alignment is not a power of 2 from %d to %d",
                       ALIGNMENT_MIN, ALIGNMENT_MAX);
    uint64_t start = (header + align - 1) / align * align;
    for (size_t i = 0; i < n; i++) {
        if (offset[i] % align)
            return err_set(e, ERR_FORMAT, "tensor %.*s lies at %llu, not a multiple of %llu",
                           SHOW(t[i].name), (unsigned long long)offset[i],
                           (unsigned long long)align);
        unsigned __int128 end = (unsigned __int128)start + offset[i] + t[i].bytes;
        if (end > part->file.size)
            return err_set(
                e, ERR_FORMAT,
                "tensor %.*s lies outside the file (%zu bytes at %llu, the file has %zu)",
                SHOW(t[i].name), t[i].bytes, (unsigned long long)offset[i], part->file.size);
        t[i].data = part->file.data + start + offset[i];
    }
    return 0;
}

static int by_address(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a, *const *y = b;
    return ((*x)->data > (*y)->data) - ((*x)->data < (*y)->data);
}

static int check_overlap(const struct gguf_tensor *t, size_t n, struct err *e)
{
    const struct gguf_tensor **order = malloc((n ? n : 1) * sizeof *order);
    if (!order) return err_nomem(e, n * sizeof *order, "tensors");
    for (size_t i = 0; i < n; i++) order[i] = &t[i];
    qsort(order, n, sizeof *order, by_address);
    int rc = 0;
    for (size_t i = 1; i < n && !rc; i++)
        if (order[i - 1]->data + order[i - 1]->bytes > order[i]->data)
            rc = err_set(e, ERR_FORMAT, "tensors %.*s and %.*s overlap", SHOW(order[i - 1]->name),
                         SHOW(order[i]->name));
    free(order);
    return rc;
}

/* Appends the tensors of one part to those of the model. */
static int read_tensors(struct gguf *g, struct part *part, struct cursor *c, uint64_t n,
                        struct err *e)
{
    if (n > left(c) / TENSOR_MIN)
        return err_set(e, ERR_FORMAT, "%llu tensors do not fit into the %zu bytes left",
                       (unsigned long long)n, left(c));
    if (n > TENSORS_MAX - g->n_tensors)
        return err_set(e, ERR_LIMIT, "%llu tensors are more than %d",
                       (unsigned long long)(n + g->n_tensors), TENSORS_MAX);
    size_t first = g->n_tensors;
    struct gguf_tensor *all = realloc(g->tensors, (first + n + 1) * sizeof *all);
    if (!all) return err_nomem(e, (first + n) * sizeof *all, "tensors");
    g->tensors = all;
    uint64_t *offset = calloc(n + 1, sizeof *offset);
    if (!offset) return err_nomem(e, n * sizeof *offset, "tensors");
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        struct gguf_tensor *t = &all[first + i];
        bool ok = true;
        *t = (struct gguf_tensor){.part = (uint32_t)(part - g->parts)};
        rc = read_tensor(c, t, i, &offset[i], part->file.size, e);
        if (!rc && map_put(&g->names, t->name.p, (uint32_t)t->name.n, (uint32_t)(first + i), &ok) !=
                       MAP_NONE)
            rc = err_set(e, ERR_FORMAT, "the tensor %.*s stands there twice", SHOW(t->name));
        if (!ok) rc = err_nomem(e, n * sizeof(struct map_slot), "tensors");
    }
    if (!rc) rc = place(part, all + first, offset, n, (size_t)(c->p - part->file.data), e);
    if (!rc) rc = check_overlap(all + first, n, e);
    if (!rc) g->n_tensors = first + n;
    free(offset);
    return rc;
}

static int read_header(struct cursor *c, uint32_t *version, uint64_t n[2], struct err *e)
{
    uint8_t magic[4];
    if (!take(c, magic, 4) || memcmp(magic, "GGUF", 4) != 0)
        return err_set(e, ERR_FORMAT, "this is not a GGUF file");
    if (!take(c, version, 4) || !take(c, n, 16))
        return err_set(e, ERR_FORMAT, "the file ends inside the header");
    if (*version == 1)
        return err_set(e, ERR_UNSUPPORTED, "GGUF version 1 is too old (2 and 3 are read)");
    if (*version && __builtin_bswap32(*version) <= 3)
        return err_set(e, ERR_UNSUPPORTED, "this GGUF file is big-endian");
    if (*version != 2 && *version != 3)
        return err_set(e, ERR_UNSUPPORTED, "GGUF version %u is unknown (2 and 3 are read)",
                       *version);
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Opens and reads one file into g->parts[i], whose contents start zeroed. */
static int read_part(struct gguf *g, size_t i, const char *path, struct err *e)
{
    struct part *part = &g->parts[i];
    if (mapfile_open(&part->file, path, e)) return e->code;
    if (part->file.size == 0)
        return err_set(e, ERR_FORMAT, "%.100s: the file is empty", base_name(path));
    struct cursor c = {part->file.data, part->file.data + part->file.size};
    uint64_t n[2]; /* tensors, keys */
    if (read_header(&c, &g->version, n, e) || read_kvs(part, &c, n[1], e) ||
        read_tensors(g, part, &c, n[0], e))
        return err_prefix(e, "%.100s", base_name(path));
    part->head_bytes = (size_t)(c.p - part->file.data);
    return 0;
}

static void free_parts(struct gguf *g)
{
    for (size_t i = 0; i < g->n_parts; i++) {
        free(g->parts[i].kv);
        map_free(&g->parts[i].keys);
        mapfile_close(&g->parts[i].file);
    }
    free(g->parts);
    free(g->tensors);
    map_free(&g->names);
    *g = (struct gguf){0};
}

/* Makes room for n parts and forgets what was there. */
static int start(struct gguf *g, size_t n, struct err *e)
{
    free_parts(g);
    g->parts = calloc(n, sizeof *g->parts);
    if (!g->parts || !map_init(&g->names, 0)) return err_nomem(e, n * sizeof *g->parts, "parts");
    for (size_t i = 0; i < n; i++) g->parts[i].file.fd = -1;
    g->n_parts = n;
    return 0;
}

/* Opens all parts of a model of which one, called path, said that it is part no of count. */
static int read_split(struct gguf *g, const char *path, int64_t no, int64_t count, struct err *e)
{
    char tail[32], name[PATH_BYTES_MAX];
    if (count > PARTS_MAX || no >= count)
        return err_set(e, ERR_LIMIT, "%.100s: split.no is %lld, split.count %lld (at most %d)",
                       base_name(path), (long long)no, (long long)count, PARTS_MAX);
    int n = snprintf(tail, sizeof tail, "-%05d-of-%05d.gguf", (int)no + 1, (int)count);
    size_t stem = strlen(path) - (size_t)n;
    if (strlen(path) < (size_t)n || strcmp(path + stem, tail) != 0)
        return err_set(e, ERR_FORMAT, "%.100s: part %d of %d must have a name that ends in %s",
                       base_name(path), (int)no + 1, (int)count, tail);
    if (start(g, (size_t)count, e)) return e->code;
    for (int i = 0; i < (int)count; i++) {
        n = snprintf(name, sizeof name, "%.*s-%05d-of-%05d.gguf", (int)stem, path, i + 1,
                     (int)count);
        if (n < 0 || (size_t)n >= sizeof name) return err_set(e, ERR_LIMIT, "the path is too long");
        if (read_part(g, (size_t)i, name, e)) return e->code;
        int64_t v;
        if (!integer(find(&g->parts[i], "split.no"), i, i, &v) ||
            !integer(find(&g->parts[i], "split.count"), count, count, &v))
            return err_set(e, ERR_FORMAT, "%.100s does not say that it is part %d of %d",
                           base_name(name), i + 1, (int)count);
    }
    const struct gguf_kv *total = find(&g->parts[0], "split.tensors.count");
    int64_t v = (int64_t)g->n_tensors;
    if (total && !integer(total, v, v, &v))
        return err_set(e, ERR_FORMAT, "%.100s: split.tensors.count is not the %zu in the parts",
                       base_name(path), g->n_tensors);
    return 0;
}

int gguf_open(struct gguf **out, const char *path, struct err *e)
{
    struct gguf *g = calloc(1, sizeof *g);
    if (!g) return err_nomem(e, sizeof *g, "a model");
    int64_t no = 0, count = 1;
    if (start(g, 1, e) || read_part(g, 0, path, e)) goto fail;
    integer(find(&g->parts[0], "split.no"), 0, INT64_MAX, &no);
    integer(find(&g->parts[0], "split.count"), 0, INT64_MAX, &count);
    if (count > 1 && read_split(g, path, no, count, e)) goto fail;
    *out = g;
    return 0;
fail:
    gguf_close(g);
    return e->code;
}

void gguf_close(struct gguf *g)
{
    if (g) free_parts(g);
    free(g);
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->version;
}

size_t gguf_file_bytes(const struct gguf *g)
{
    size_t sum = 0;
    for (size_t i = 0; i < g->n_parts; i++) sum += g->parts[i].file.size;
    return sum;
}

uint64_t gguf_identity(const struct gguf *g)
{
    uint64_t sum = g->version;
    for (size_t i = 0; i < g->n_parts; i++) {
        const struct part *p = &g->parts[i];
        struct stat st;
        if (fstat(p->file.fd, &st)) st = (struct stat){0};
        int64_t about[] = {(int64_t)st.st_ino,         (int64_t)st.st_size,
                           (int64_t)st.st_mtim.tv_sec, (int64_t)st.st_mtim.tv_nsec,
                           (int64_t)st.st_ctim.tv_sec, (int64_t)st.st_ctim.tv_nsec};
        sum = checksum(p->file.data, p->head_bytes, checksum(about, sizeof about, sum));
    }
    return sum;
}

size_t gguf_part_count(const struct gguf *g)
{
    return g->n_parts;
}

size_t gguf_kv_count(const struct gguf *g)
{
    return g->parts[0].n_kv;
}

const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i)
{
    return &g->parts[0].kv[i];
}

size_t gguf_tensor_count(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    return &g->tensors[i];
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    return find(&g->parts[0], key);
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    uint32_t i = map_get(&g->names, name, (uint32_t)strlen(name));
    return i == MAP_NONE ? NULL : &g->tensors[i];
}

bool gguf_u32(const struct gguf *g, const char *key, uint32_t *out)
{
    int64_t v;
    if (!integer(gguf_find(g, key), 0, UINT32_MAX, &v)) return false;
    *out = (uint32_t)v;
    return true;
}

bool gguf_i32(const struct gguf *g, const char *key, int32_t *out)
{
    int64_t v;
    if (!integer(gguf_find(g, key), INT32_MIN, INT32_MAX, &v)) return false;
    *out = (int32_t)v;
    return true;
}

bool gguf_f32(const struct gguf *g, const char *key, float *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv || (kv->type != GGUF_F32 && kv->type != GGUF_F64)) return false;
    double v = gguf_item_f64(kv, 0);
    if (isfinite(v) && fabs(v) > FLT_MAX) return false;
    *out = (float)v;
    return true;
}

bool gguf_bool(const struct gguf *g, const char *key, bool *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv || kv->type != GGUF_BOOL) return false;
    *out = kv->value[0];
    return true;
}

bool gguf_string(const struct gguf *g, const char *key, struct gguf_str *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv || kv->type != GGUF_STR) return false;
    const uint8_t *at = kv->value;
    *out = gguf_next_string(&at);
    return true;
}

bool gguf_str_eq(struct gguf_str s, const char *lit)
{
    return strlen(lit) == s.n && memcmp(s.p, lit, s.n) == 0;
}

struct gguf_str gguf_next_string(const uint8_t **at)
{
    uint64_t n;
    memcpy(&n, *at, sizeof n);
    struct gguf_str s = {(const char *)*at + sizeof n, n};
    *at += sizeof n + n;
    return s;
}

/* Item i as an integer: the value itself, or its bits for the floating kinds. */
static uint64_t item_bits(const struct gguf_kv *kv, uint64_t i)
{
    size_t n = kinds[kv->item].bytes;
    uint64_t bits = 0;
    memcpy(&bits, kv->value + i * n, n);
    return bits;
}

static bool is_signed(enum gguf_type t)
{
    return t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32 || t == GGUF_I64;
}

double gguf_item_f64(const struct gguf_kv *kv, uint64_t i)
{
    uint64_t bits = item_bits(kv, i);
    if (kv->item == GGUF_F64) {
        double d;
        memcpy(&d, &bits, sizeof d);
        return d;
    }
    if (kv->item == GGUF_F32) {
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    return kv->item == GGUF_U64 ? (double)bits : (double)gguf_item_i64(kv, i);
}

int64_t gguf_item_i64(const struct gguf_kv *kv, uint64_t i)
{
    if (kv->item == GGUF_F32 || kv->item == GGUF_F64) {
        double d = gguf_item_f64(kv, i);
        if (isnan(d)) return 0;
        return d >= 0x1p63 ? INT64_MAX : d < -0x1p63 ? INT64_MIN : (int64_t)d;
    }
    uint64_t bits = item_bits(kv, i);
    int unused = 64 - 8 * kinds[kv->item].bytes;
    if (is_signed(kv->item)) return (int64_t)(bits << unused) >> unused;
    return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
}

void gguf_forget(const struct gguf *g, const struct gguf_tensor *t)
{
    const struct mapfile *m = &g->parts[t->part].file;
    mapfile_forget(m, (size_t)(t->data - m->data), t->bytes);
}
