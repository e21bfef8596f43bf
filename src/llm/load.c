/* From file to bound, packed weights. Binding checks every tensor's shape against the dimensions
 * and notes where it comes from; then one region of memory takes all matrices: an earlier run's, when
 * its sum is right, else they are packed one after another on all threads. Small weights become float32. Foreign numbers are bounded here,
 * once. */
#include "llm_int.h"

#include "checksum.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MATS_MAX = 1 << 18, NAME_MAX_BYTES = 96 };

struct bound {
    struct nn_mat *mat;
    const struct gguf_tensor *tensor;
    size_t offset;        /* of the matrix within the tensor's bytes */
    bool expert;          /* only some tokens pass it */
    struct nn_mat *turns; /* the one it takes turns with, placed with it; or NULL */
};

struct llm__load {
    struct llm *m;
    struct err *e;
    bool failed;
    char arch[32];
    struct bound *bound;
    size_t n_bound, room;
    struct nn_mat *tied; /* the head, when it is the embedding */
};

bool llm__load_ok(const struct llm__load *l)
{
    return !l->failed;
}

static void fail(struct llm__load *l)
{
    l->failed = true;
}

void *llm__alloc(struct llm__load *l, size_t n, size_t size)
{
    void *p = l->failed ? NULL : arena_alloc64(&l->m->arena, n, size);
    if (!p && !l->failed) {
        err_nomem(l->e, n * size, "a model's weights");
        fail(l);
    }
    return p;
}

static const struct gguf_tensor *find(struct llm__load *l, const char *name)
{
    const struct gguf_tensor *t = gguf_tensor(l->m->g, name);
    if (!t) {
        err_set(l->e, ERR_FORMAT, "the file lacks the tensor %s", name);
        fail(l);
    }
    return t;
}

static bool note(struct llm__load *l, struct nn_mat *m, const struct gguf_tensor *t, size_t offset)
{
    if (l->n_bound == l->room) {
        size_t room = l->room ? l->room * 2 : 256;
        struct bound *p = room > MATS_MAX ? NULL : realloc(l->bound, room * sizeof *p);
        if (!p) {
            err_nomem(l->e, room * sizeof *p, "a list of tensors");
            fail(l);
            return false;
        }
        l->bound = p;
        l->room = room;
    }
    const struct llm__dims *d = &l->m->dims;
    bool expert = d->experts && (m->rows == d->ff || m->k == d->ff);
    l->bound[l->n_bound++] = (struct bound){m, t, offset, expert, NULL};
    return true;
}

static void bind(struct llm__load *l, struct nn_mat *m, int n, int64_t rows, int64_t k,
                 const char *name)
{
    const struct gguf_tensor *t = find(l, name);
    if (!t) return;
    uint64_t third = n ? (uint64_t)n : 1;
    if (t->dim[0] != (uint64_t)k || t->dim[1] != (uint64_t)rows || t->dim[2] != third ||
        t->dim[3] != 1) {
        err_set(l->e, ERR_FORMAT, "tensor %s is %llu x %llu x %llu, not %lld x %lld x %llu", name,
                (unsigned long long)t->dim[0], (unsigned long long)t->dim[1],
                (unsigned long long)t->dim[2], (long long)k, (long long)rows,
                (unsigned long long)third);
        fail(l);
        return;
    }
    for (uint64_t i = 0; i < third; i++) {
        if (!nn_mat_shape(&m[i], t->type, rows, k)) {
            err_set(l->e, ERR_FORMAT, "tensor %s: rows of %lld do not fit its type", name,
                    (long long)k);
            fail(l);
            return;
        }
        if (!note(l, &m[i], t, t->bytes / third * i)) return;
    }
}

#define NAME(buf, fmt)                   \
    char buf[NAME_MAX_BYTES];            \
    va_list ap;                          \
    va_start(ap, fmt);                   \
    vsnprintf(buf, sizeof buf, fmt, ap); \
    va_end(ap)

void llm__mat(struct llm__load *l, struct nn_mat *m, int64_t rows, int64_t k, const char *name, ...)
{
    NAME(full, name);
    if (!l->failed) bind(l, m, 0, rows, k, full);
}

void llm__mats(struct llm__load *l, struct nn_mat *m, int n, int64_t rows, int64_t k,
               const char *name, ...)
{
    NAME(full, name);
    if (!l->failed) bind(l, m, n, rows, k, full);
}

void llm__take_turns(struct llm__load *l, struct nn_mat *a, struct nn_mat *b, int n)
{
    for (size_t i = l->n_bound; !l->failed && n && i-- > 0;)
        if (l->bound[i].mat == &a[n - 1]) l->bound[i].turns = &b[--n];
}

/* One that is no matrix may have one row only. */
static float *rows_of(struct llm__load *l, int64_t rows, int64_t n, const char *name)
{
    const struct gguf_tensor *t = find(l, name);
    if (!t) return NULL;
    if (t->dim[0] != (uint64_t)n || t->dim[1] != (uint64_t)rows || t->dim[2] != 1 ||
        t->dim[3] != 1) {
        err_set(l->e, ERR_FORMAT, "tensor %s is %llu x %llu, not %lld x %lld", name,
                (unsigned long long)t->dim[0], (unsigned long long)t->dim[1], (long long)n,
                (long long)rows);
        fail(l);
        return NULL;
    }
    float *out = llm__alloc(l, (size_t)(rows * n), sizeof *out);
    if (!out) return NULL;
    quant_row_to_f32(t->type, t->data, out, (size_t)(rows * n));
    l->m->params += rows * n;
    return out;
}

float *llm__rows(struct llm__load *l, int64_t rows, int64_t n, const char *name, ...)
{
    NAME(full, name);
    return l->failed ? NULL : rows_of(l, rows, n, full);
}

void llm__vec(struct llm__load *l, const float **v, int64_t n, const char *name, ...)
{
    NAME(full, name);
    if (!l->failed) *v = rows_of(l, 1, n, full);
}

void llm__vec_maybe(struct llm__load *l, const float **v, int64_t n, const char *name, ...)
{
    NAME(full, name);
    if (!l->failed && gguf_tensor(l->m->g, full)) *v = rows_of(l, 1, n, full);
}

bool llm__has(const struct llm__load *l, const char *name, ...)
{
    NAME(full, name);
    return gguf_tensor(l->m->g, full) != NULL;
}

uint32_t llm__u32(const struct llm__load *l, const char *key, uint32_t absent)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", l->arch, key);
    gguf_u32(l->m->g, full, &absent);
    return absent;
}

float llm__f32(const struct llm__load *l, const char *key, float absent)
{
    char full[128];
    float v = absent;
    snprintf(full, sizeof full, "%s.%s", l->arch, key);
    return gguf_f32(l->m->g, full, &v) && isfinite(v) ? v : absent;
}

bool llm__sliding(const struct llm__load *l, int layer, int period)
{
    char full[128];
    snprintf(full, sizeof full, "%s.attention.sliding_window_pattern", l->arch);
    const struct gguf_kv *kv = gguf_find(l->m->g, full);
    if (!l->m->dims.window) return false;
    if (kv && kv->type == GGUF_ARR && kv->item != GGUF_STR)
        return (uint64_t)layer < kv->count && gguf_item_i64(kv, (uint64_t)layer);
    uint32_t n = llm__u32(l, "attention.sliding_window_pattern", (uint32_t)period);
    return !n || (uint32_t)layer % n != n - 1;
}

/* YaRN (Peng et al. 2023): low frequencies are interpolated, high ones kept, with a ramp between.
 */
static void yarn(struct llm__load *l, struct nn_rope *r, double *freq, float base, float factor)
{
    double ctx = llm__u32(l, "rope.scaling.original_context_length", (uint32_t)l->m->dims.ctx);
    double d = r->d_rot, fast = llm__f32(l, "rope.scaling.yarn_beta_fast", 32);
    double slow = llm__f32(l, "rope.scaling.yarn_beta_slow", 1);
    double low = floor(d * log(ctx / (fast * 2 * M_PI)) / (2 * log(base)));
    double high = ceil(d * log(ctx / (slow * 2 * M_PI)) / (2 * log(base)));
    low = fmax(low, 0);
    high = fmin(high, d - 1);
    for (int i = 0; i < r->d_rot / 2; i++) {
        double ramp = fmin(1, fmax(0, (i - low) / fmax(0.001, high - low)));
        freq[i] = freq[i] / factor * ramp + freq[i] * (1 - ramp);
    }
    r->mscale = llm__f32(l, "rope.scaling.attn_factor", 1) * (1 + 0.1f * logf(factor));
}

void llm__rope(struct llm__load *l, struct nn_rope *r, enum kern_rope kind, float base, bool scaled)
{
    struct llm *m = l->m;
    char key[64];
    struct gguf_str type = {"linear", 6};
    const float *factors = NULL;
    r->kind = kind;
    r->mscale = 1;
    r->d_rot = (int)llm__u32(l, "rope.dimension_count", (uint32_t)m->dims.d_head);
    if (scaled) base = llm__f32(l, "rope.freq_base", base);
    if (!l->failed && (r->d_rot < 2 || r->d_rot > m->dims.d_head || r->d_rot % 2 || !(base > 1))) {
        err_set(l->e, ERR_FORMAT, "RoPE over %d of %d values with base %g", r->d_rot,
                m->dims.d_head, (double)base);
        fail(l);
    }
    double *freq = llm__alloc(l, (size_t)m->dims.d_head, sizeof *freq);
    if (l->failed) return;
    if (scaled) llm__vec_maybe(l, &factors, r->d_rot / 2, "rope_freqs.weight");
    float factor = llm__f32(l, "rope.scaling.factor", llm__f32(l, "rope.scale_linear", 1));
    snprintf(key, sizeof key, "%s.rope.scaling.type", l->arch);
    gguf_string(m->g, key, &type);
    bool linear = scaled && factor > 0 && gguf_str_eq(type, "linear");
    for (int i = 0; i < r->d_rot / 2; i++) {
        freq[i] = pow(base, -2.0 * i / r->d_rot);
        if (factors) freq[i] /= factors[i];
        if (linear) freq[i] /= factor;
    }
    if (scaled && gguf_str_eq(type, "yarn") && factor > 1) yarn(l, r, freq, base, factor);
    r->freq = freq;
}

/* Every dimension with the bounds that make later arithmetic safe. */
static int read_dims(struct llm__load *l)
{
    struct llm__dims *d = &l->m->dims;
    d->layers = (int)llm__u32(l, "block_count", 0);
    d->d = (int)llm__u32(l, "embedding_length", 0);
    d->heads = (int)llm__u32(l, "attention.head_count", 0);
    d->kv_heads = (int)llm__u32(l, "attention.head_count_kv", (uint32_t)d->heads);
    d->ff = (int)llm__u32(l, "feed_forward_length", 0);
    d->ctx = (int)llm__u32(l, "context_length", 0);
    d->experts = (int)llm__u32(l, "expert_count", 0);
    d->experts_used = (int)llm__u32(l, "expert_used_count", 0);
    d->window = (int)llm__u32(l, "attention.sliding_window", 0);
    d->eps = llm__f32(l, "attention.layer_norm_rms_epsilon",
                      llm__f32(l, "attention.layer_norm_epsilon", 1e-5f));
    const struct {
        const char *name;
        int value, min, max;
    } bounds[] = {
        {"block_count", d->layers, 1, 1024},
        {"embedding_length", d->d, 16, 1 << 16},
        {"attention.head_count", d->heads, 1, 1024},
        {"attention.head_count_kv", d->kv_heads, 1, 1024},
        {"feed_forward_length", d->ff, 1, 1 << 20},
        {"context_length", d->ctx, 1, 1 << 24},
        {"expert_count", d->experts, 0, 1024},
        {"expert_used_count", d->experts_used, 0, 64},
        {"attention.sliding_window", d->window, 0, 1 << 24},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].value < bounds[i].min || bounds[i].value > bounds[i].max)
            return err_set(l->e, ERR_FORMAT, "%s.%s is %d; %d to %d are possible", l->arch,
                           bounds[i].name, bounds[i].value, bounds[i].min, bounds[i].max);
    d->d_head = (int)llm__u32(l, "attention.key_length", (uint32_t)(d->d / d->heads));
    int value = (int)llm__u32(l, "attention.value_length", (uint32_t)d->d_head);
    if (d->d_head < 16 || d->d_head > KERN_D_MAX || d->d_head % 16 || value != d->d_head)
        return err_set(l->e, ERR_UNSUPPORTED,
                       "heads of %d and %d values; a multiple of 16 up to %d is "
                       "supported, the same for both",
                       d->d_head, value, KERN_D_MAX);
    if (d->heads % d->kv_heads || d->heads / d->kv_heads > KERN_ATTN_ROWS)
        return err_set(l->e, ERR_UNSUPPORTED,
                       "%d heads share %d of keys and values; a whole number up "
                       "to %d a group is supported",
                       d->heads, d->kv_heads, KERN_ATTN_ROWS);
    if (d->experts_used > d->experts || (d->experts && !d->experts_used))
        return err_set(l->e, ERR_FORMAT, "%d of %d experts are used", d->experts_used, d->experts);
    if (!(d->eps >= 0 && d->eps < 1))
        return err_set(l->e, ERR_FORMAT, "the norm's epsilon is %g", (double)d->eps);
    return 0;
}

static int bind_ends(struct llm__load *l, bool no_head)
{
    struct llm *m = l->m;
    m->embed = find(l, "token_embd.weight");
    if (!m->embed) return l->e->code;
    if (m->embed->dim[0] != (uint64_t)m->dims.d || m->embed->dim[1] < 1 ||
        m->embed->dim[1] > 1 << 22 || m->embed->dim[2] != 1 || m->embed->dim[3] != 1)
        return err_set(
            l->e, ERR_FORMAT, "token_embd.weight is %llu x %llu, not %d x the vocabulary",
            (unsigned long long)m->embed->dim[0], (unsigned long long)m->embed->dim[1], m->dims.d);
    m->dims.vocab = (int)m->embed->dim[1];
    if (!m->family->encoder) llm__vec(l, &m->out_norm, m->dims.d, "output_norm.weight");
    if (no_head || m->family->encoder) return l->failed ? l->e->code : 0;
    llm__mat(l, &m->head, m->dims.vocab, m->dims.d, "%s",
             llm__has(l, "output.weight") ? "output.weight" : "token_embd.weight");
    if (llm__has(l, "output.weight")) m->params += (int64_t)m->dims.vocab * m->dims.d;
    return l->failed ? l->e->code : 0;
}

/* What of which file is packed, in which order and layout. */
static struct packfile_key pack_key(const struct llm__load *l, const char *path)
{
    uint64_t file = checksum(NULL, 0, gguf_identity(l->m->g) + NN_PACK_VERSION), sum = file;
    for (size_t i = 0; i < l->n_bound; i++) {
        const struct bound *b = &l->bound[i];
        int64_t about[] = {(int64_t)b->offset, b->mat->rows, b->mat->k, b->mat->type};
        sum = checksum(b->tensor->name.p, b->tensor->name.n, sum);
        sum = checksum(about, sizeof about, sum);
    }
    return (struct packfile_key){sum, file, path ? path : ""};
}

/* The region of all matrices, filled by an earlier run or to be filled by us. */
static int find_packed(struct llm__load *l, const struct llm_opts *o, size_t total, struct err *e)
{
    struct packfile *p = &l->m->packed;
    struct packfile_key key = pack_key(l, o->path);
    int rc = packfile_open(p, o->packs, &key, total, e);
    if (!rc && p->found && nn_checksum(l->m->nn, p->data, total) != p->sum)
        rc = packfile_renew(p, e);
    return rc;
}

static int pack(struct llm__load *l, const struct llm_opts *o, struct err *e)
{
    struct llm *m = l->m;
    size_t total = 0, at = 0, done = 0;
    for (size_t i = 0; i < l->n_bound; i++) {
        struct bound *b = &l->bound[i];
        size_t bytes = nn_mat_bytes(b->mat);
        int64_t size = b->mat->rows * b->mat->k;
        double share = b->expert ? (double)m->dims.experts_used / m->dims.experts : 1;
        total += bytes;
        m->params += size;
        m->macs += (int64_t)((double)size * share);
        m->token_bytes += (size_t)((double)bytes * share);
    }
    m->weight_bytes = total;
    if (o->peek) return 0;
    int rc = find_packed(l, o, total, e);
    if (rc) return rc;
    for (size_t i = 0; i < l->n_bound; i++) {
        struct bound *b = &l->bound[i];
        if (b->mat->data) continue;
        b->mat->data = m->packed.data + at;
        at += nn_mat_bytes(b->mat);
        if (!b->turns) continue;
        nn_mat_take_turns(b->mat, b->turns);
        at += nn_mat_bytes(b->turns);
    }
    for (size_t i = 0; !m->packed.found && i < l->n_bound; i++) {
        struct bound *b = &l->bound[i];
        nn_mat_pack(m->nn, b->mat, b->tensor->data + b->offset);
        gguf_forget(m->g, b->tensor);
        done += nn_mat_bytes(b->mat);
        if (o->progress) o->progress(o->progress_arg, (int64_t)done, (int64_t)total);
    }
    if (!m->packed.found) packfile_keep(&m->packed, nn_checksum(m->nn, m->packed.data, total));
    return 0;
}

int llm__load_model(struct llm *m, const struct llm_opts *o, struct err *e)
{
    static const struct llm__family *const families[] = {&llm__llama, &llm__qwen, &llm__gemma,
                                                         &llm__bert};
    struct llm__load l = {.m = m, .e = e};
    struct gguf_str arch = {"(none)", 6};
    gguf_string(m->g, "general.architecture", &arch);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        for (const char *const *a = families[i]->archs; *a; a++)
            if (gguf_str_eq(arch, *a)) {
                m->family = families[i];
                snprintf(l.arch, sizeof l.arch, "%s", *a);
            }
    if (!m->family)
        return err_set(e, ERR_UNSUPPORTED, "no family for the architecture '%.*s'",
                       arch.n > 40 ? 40 : (int)arch.n, arch.p);
    int rc = read_dims(&l);
    if (!rc) rc = bind_ends(&l, o->no_head);
    if (!rc) m->family->open(m, &l);
    if (!rc && l.failed) rc = e->code;
    if (!rc) rc = pack(&l, o, e);
    free(l.bound);
    return rc;
}
