/* Tensors of a file -> the packed layout of kern.h, without loss: codes and scales keep their bits,
 * only their places change. For each block of 32 rows x 256 columns the rows are read into codes of
 * a byte each in their natural order, then written out as quads of columns with the row in the
 * lane. Two steps, so that a new format is one short reader. Layouts of the formats: ggml's
 * ggml-common.h, see file/quant.h. */
#include "nn_int.h"

#include "checksum.h"
#include "quant.h"

#include <string.h>

/* clang-format off */
static const struct kern_fmt formats[QUANT_TYPE_END] = {
    [QUANT_F32]    = {.f = KERN_F32},
    [QUANT_F16]    = {.f = KERN_F16},
    [QUANT_BF16]   = {.f = KERN_BF16},
    [QUANT_Q4_0]   = {.bits = 4, .group = 32, .scale = KERN_SCALE_F16, .bias = 8},
    [QUANT_Q4_1]   = {.bits = 4, .group = 32, .scale = KERN_SCALE_F16, .mins = true},
    [QUANT_Q5_0]   = {.bits = 5, .group = 32, .scale = KERN_SCALE_F16, .bias = 16},
    [QUANT_Q5_1]   = {.bits = 5, .group = 32, .scale = KERN_SCALE_F16, .mins = true},
    [QUANT_Q8_0]   = {.bits = 8, .group = 32, .scale = KERN_SCALE_F16, .bias = 128},
    [QUANT_Q2_K]   = {.bits = 2, .group = 16, .scale = KERN_SCALE_K, .mins = true},
    [QUANT_Q3_K]   = {.bits = 3, .group = 16, .scale = KERN_SCALE_K, .bias = 4},
    [QUANT_Q4_K]   = {.bits = 4, .group = 32, .scale = KERN_SCALE_K, .mins = true},
    [QUANT_Q5_K]   = {.bits = 5, .group = 32, .scale = KERN_SCALE_K, .mins = true},
    [QUANT_Q6_K]   = {.bits = 6, .group = 16, .scale = KERN_SCALE_K, .bias = 32},
    [QUANT_IQ4_NL] = {.bits = 4, .group = 32, .scale = KERN_SCALE_F16, .levels = quant_iq4_levels},
    [QUANT_IQ4_XS] = {.bits = 4, .group = 32, .scale = KERN_SCALE_K, .levels = quant_iq4_levels},
    [QUANT_MXFP4]  = {.bits = 4, .group = 32, .scale = KERN_SCALE_E8M0, .levels = quant_mxfp4_levels},
};
/* clang-format on */

bool nn_mat_shape(struct nn_mat *m, uint32_t type, int64_t rows, int64_t k)
{
    if (type >= QUANT_TYPE_END || !quant_block(type) || rows < 1 || k < 1) return false;
    if (k % quant_block(type)) return false;
    *m = (struct nn_mat){.rows = rows, .k = k, .type = type, .fmt = &formats[type]};
    m->step = kern_panel_bytes(m->fmt, k);
    return true;
}

void nn_mat_take_turns(struct nn_mat *a, struct nn_mat *b)
{
    size_t first = kern_panel_bytes(a->fmt, a->k);
    a->step = b->step = first + kern_panel_bytes(b->fmt, b->k);
    b->data = a->data + first;
}

size_t nn_mat_bytes(const struct nn_mat *m)
{
    return (size_t)((m->rows + KERN_ROWS - 1) / KERN_ROWS) * kern_panel_bytes(m->fmt, m->k);
}

/* Up to 256 columns of a row in natural order. */
struct row {
    uint8_t code[KERN_K];
    uint8_t d[KERN_GROUPS][2], m[KERN_GROUPS][2]; /* F16 bits; K types use the first */
    uint8_t sc[KERN_K / 16], mn[KERN_K / 16];     /* int8 scales; minimums; E8M0 */
};

static void nibbles(uint8_t *code, const uint8_t *p, int n) /* n low ones, then n high ones */
{
    for (int i = 0; i < n; i++) code[i] = p[i] & 15;
    for (int i = 0; i < n; i++) code[n + i] = p[i] >> 4;
}

static void fifth_bits(uint8_t *code, const uint8_t *p)
{
    for (int i = 0; i < 32; i++) code[i] = (uint8_t)(code[i] | (p[i / 8] >> i % 8 & 1) << 4);
}

/* One block of 32 of the formats with their own F16 scale. */
static void read_32(struct row *r, uint32_t type, int g, const uint8_t *p)
{
    uint8_t *code = r->code + g * 32;
    if (type == QUANT_MXFP4) {
        r->sc[g] = *p++;
        nibbles(code, p, 16);
        return;
    }
    memcpy(r->d[g], p, 2);
    p += 2;
    if (type == QUANT_Q4_1 || type == QUANT_Q5_1) {
        memcpy(r->m[g], p, 2);
        p += 2;
    }
    if (type == QUANT_Q8_0) {
        for (int i = 0; i < 32; i++) code[i] = p[i] ^ 0x80;
        return;
    }
    bool five = type == QUANT_Q5_0 || type == QUANT_Q5_1;
    nibbles(code, five ? p + 4 : p, 16);
    if (five) fifth_bits(code, p);
}

static void two_bits(uint8_t *code, const uint8_t *p)
{
    for (int i = 0; i < 256; i++) code[i] = p[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

static void read_q2(struct row *r, const uint8_t *p)
{
    for (int i = 0; i < 16; i++) {
        r->sc[i] = p[i] & 15;
        r->mn[i] = p[i] >> 4;
    }
    two_bits(r->code, p + 16);
    memcpy(r->d[0], p + 80, 2);
    memcpy(r->m[0], p + 82, 2);
}

static void read_q3(struct row *r, const uint8_t *p)
{
    const uint8_t *sc = p + 96;
    two_bits(r->code, p + 32);
    for (int i = 0; i < 256; i++)
        r->code[i] = (uint8_t)(r->code[i] | (p[i % 32] >> (i / 32) & 1) << 2);
    for (int i = 0; i < 16; i++) {
        int low = i < 8 ? sc[i] & 15 : sc[i - 8] >> 4, high = sc[8 + i % 4] >> (i / 4 * 2) & 3;
        r->sc[i] = (uint8_t)((low | high << 4) - 32);
    }
    memcpy(r->d[0], p + 108, 2);
}

/* Eight 6-bit scales and minimums in 12 bytes. */
static void six_bits(struct row *r, const uint8_t *p)
{
    for (int i = 0; i < 4; i++) {
        r->sc[i] = p[i] & 63;
        r->mn[i] = p[i + 4] & 63;
        r->sc[i + 4] = (uint8_t)((p[i + 8] & 15) | p[i] >> 6 << 4);
        r->mn[i + 4] = (uint8_t)(p[i + 8] >> 4 | p[i + 4] >> 6 << 4);
    }
}

static void read_q4_q5(struct row *r, const uint8_t *p, bool five)
{
    memcpy(r->d[0], p, 2);
    memcpy(r->m[0], p + 2, 2);
    six_bits(r, p + 4);
    const uint8_t *high = p + 16, *low = five ? p + 48 : p + 16;
    for (int i = 0; i < 4; i++) nibbles(r->code + 64 * i, low + 32 * i, 32);
    for (int i = 0; five && i < 256; i++)
        r->code[i] = (uint8_t)(r->code[i] | (high[i % 32] >> (i / 32) & 1) << 4);
}

static void read_q6(struct row *r, const uint8_t *p)
{
    for (int h = 0; h < 2; h++) {
        uint8_t *code = r->code + 128 * h;
        const uint8_t *low = p + 64 * h, *high = p + 128 + 32 * h;
        nibbles(code, low, 64);
        for (int i = 0; i < 128; i++)
            code[i] = (uint8_t)(code[i] | (high[i % 32] >> (i / 32 * 2) & 3) << 4);
    }
    memcpy(r->sc, p + 192, 16);
    memcpy(r->d[0], p + 208, 2);
}

static void read_iq4_xs(struct row *r, const uint8_t *p)
{
    unsigned high = p[2] | (unsigned)p[3] << 8;
    memcpy(r->d[0], p, 2);
    for (unsigned i = 0; i < 8; i++) {
        unsigned low = p[4 + i / 2] >> (i % 2 * 4) & 15;
        r->sc[i] = (uint8_t)((low | (high >> 2 * i & 3) << 4) - 32);
        nibbles(r->code + 32 * i, p + 8 + 16 * i, 16);
    }
}

/* The row's columns from kb * 256 on. */
static void read_row(struct row *r, uint32_t type, const uint8_t *src, int64_t kb, int ng)
{
    const uint8_t *p = src + (size_t)kb * (KERN_K / quant_block(type)) * quant_bytes(type);
    switch (type) {
    case QUANT_Q2_K: read_q2(r, p); break;
    case QUANT_Q3_K: read_q3(r, p); break;
    case QUANT_Q4_K: read_q4_q5(r, p, false); break;
    case QUANT_Q5_K: read_q4_q5(r, p, true); break;
    case QUANT_Q6_K: read_q6(r, p); break;
    case QUANT_IQ4_XS: read_iq4_xs(r, p); break;
    default:
        for (int g = 0; g < ng; g++) read_32(r, type, g, p + (size_t)g * quant_bytes(type));
    }
}

/* Scales and minimums of up to 6 bits, low nibbles together and high bits of two groups together. */
static uint8_t *write_pairs(uint8_t *p, const struct kern_fmt *f, const struct row *r, int groups)
{
    for (int i = 0; i < groups; i++)
        for (int j = 0; j < KERN_ROWS; j++) *p++ = (uint8_t)((r[j].sc[i] & 15) | r[j].mn[i] << 4);
    for (int i = 0; f->group == 32 && i < groups; i += 2)
        for (int j = 0; j < KERN_ROWS; j++) {
            const uint8_t *sc = r[j].sc + i, *mn = r[j].mn + i;
            *p++ = (uint8_t)(sc[0] >> 4 | mn[0] >> 4 << 2 | sc[1] >> 4 << 4 | mn[1] >> 4 << 6);
        }
    return p;
}

static uint8_t *write_scales(uint8_t *out, const struct kern_fmt *f, const struct row *r, int ng)
{
    int groups = ng * KERN_GROUP / f->group;
    size_t bytes = kern_scale_bytes(f, ng);
    int halves = f->scale == KERN_SCALE_F16 ? groups : f->scale == KERN_SCALE_K ? 1 : 0;
    uint8_t *p = out;
    for (int i = 0; i < halves; i++)
        for (int j = 0; j < KERN_ROWS; j++, p += 2) memcpy(p, r[j].d[i], 2);
    for (int i = 0; f->mins && i < halves; i++)
        for (int j = 0; j < KERN_ROWS; j++, p += 2) memcpy(p, r[j].m[i], 2);
    if (f->scale == KERN_SCALE_K && f->mins)
        p = write_pairs(p, f, r, groups);
    else if (f->scale != KERN_SCALE_F16)
        for (int i = 0; i < groups; i++)
            for (int j = 0; j < KERN_ROWS; j++) *p++ = r[j].sc[i];
    memset(p, 0, (size_t)(out + bytes - p));
    return out + bytes;
}

/* 32 lanes of four codes: shifts stay within a byte because codes are masked first. */
struct lanes {
    uint32_t v[KERN_ROWS];
};

static uint8_t *plane(uint8_t *out, const struct lanes *quad, int per_line, int width, int shift,
                      int lines)
{
    uint32_t mask = 0x01010101u * ((1u << width) - 1);
    for (int l = 0; l < lines; l++) {
        struct lanes line = {0};
        for (int i = 0; i < per_line; i++)
            for (int r = 0; r < KERN_ROWS; r++)
                line.v[r] |= (quad[l * per_line + i].v[r] >> shift & mask) << (i * width);
        memcpy(out, line.v, sizeof line);
        out += sizeof line;
    }
    return out;
}

static uint8_t *write_codes(uint8_t *out, int bits, const struct lanes *quad)
{
    int quads = bits == 6 ? 4 : 8;
    if (bits == 8) {
        memcpy(out, quad, 8 * sizeof *quad);
        return out + 8 * sizeof *quad;
    }
    for (const struct lanes *end = quad + 8; quad < end; quad += quads) {
        int have = 0;
        if (bits >= 4) {
            out = plane(out, quad, 2, 4, 0, quads / 2);
            have = 4;
        }
        if (bits == 2 || bits == 3 || bits == 6) {
            out = plane(out, quad, 4, 2, have, quads / 4);
            have += 2;
        }
        if (bits == 3 || bits == 5) out = plane(out, quad, 8, 1, have, 1);
    }
    return out;
}

static void write_block(uint8_t *out, const struct kern_fmt *f, const struct row *rows, int ng)
{
    out = write_scales(out, f, rows, ng);
    for (int g = 0; g < ng; g++) {
        struct lanes quad[8];
        for (int q = 0; q < 8; q++)
            for (int r = 0; r < KERN_ROWS; r++)
                memcpy(&quad[q].v[r], rows[r].code + g * KERN_GROUP + q * 4, 4);
        out = write_codes(out, f->bits, quad);
    }
}

static void write_floats(uint8_t *out, size_t size, const uint8_t *const *rows, size_t k, size_t n,
                         size_t padded)
{
    for (size_t i = 0; i < padded; i++)
        for (size_t r = 0; r < KERN_ROWS; r++, out += size) {
            if (i < n && rows[r])
                memcpy(out, rows[r] + (k + i) * size, size);
            else
                memset(out, 0, size);
        }
}

struct job {
    struct nn *nn;
    struct nn_mat *m;
    const uint8_t *src;
    size_t row_bytes;
};

static void pack_panel(const struct job *j, int64_t panel)
{
    const struct nn_mat *m = j->m;
    uint8_t *out = m->data + (size_t)panel * m->step;
    const uint8_t *src[KERN_ROWS];
    for (int r = 0; r < KERN_ROWS; r++) {
        int64_t row = panel * KERN_ROWS + r;
        src[r] = row < m->rows ? j->src + (size_t)row * j->row_bytes : NULL;
    }
    for (int64_t at = 0; at < m->k; at += KERN_K) {
        int ng =
            m->k - at >= KERN_K ? KERN_GROUPS : (int)((m->k - at + KERN_GROUP - 1) / KERN_GROUP);
        if (!m->fmt->bits) {
            size_t n = m->k - at < KERN_K ? (size_t)(m->k - at) : KERN_K;
            write_floats(out, quant_bytes(m->type), src, (size_t)at, n, (size_t)ng * KERN_GROUP);
        } else {
            struct row rows[KERN_ROWS];
            for (int r = 0; r < KERN_ROWS; r++) {
                if (src[r])
                    read_row(&rows[r], m->type, src[r], at / KERN_K, ng);
                else
                    memset(&rows[r], 0, sizeof rows[r]);
            }
            write_block(out, m->fmt, rows, ng);
        }
        out += kern_block_bytes(m->fmt, ng);
    }
}

static void work(void *arg, int worker)
{
    struct job *j = arg;
    long at;
    while ((at = nn__next(j->nn, NN__UNITS, worker)) >= 0) pack_panel(j, at);
}

enum { PIECE = 1 << 21 };

struct sum_job {
    struct nn *nn;
    const uint8_t *p;
    size_t n;
    atomic_ullong sum; /* of the pieces' sums, each with its number in it */
};

static void sum_work(void *arg, int worker)
{
    struct sum_job *j = arg;
    long at;
    while ((at = nn__next(j->nn, NN__UNITS, worker)) >= 0) {
        size_t from = (size_t)at * PIECE, n = j->n - from < PIECE ? j->n - from : PIECE;
        atomic_fetch_add(&j->sum, checksum(j->p + from, n, (uint64_t)at));
    }
}

uint64_t nn_checksum(struct nn *nn, const void *p, size_t n)
{
    struct sum_job j = {.nn = nn, .p = p, .n = n};
    nn__run(nn, (long)((n + PIECE - 1) / PIECE), sum_work, &j);
    return atomic_load(&j.sum);
}

void nn_mat_pack(struct nn *nn, struct nn_mat *m, const uint8_t *src)
{
    size_t row_bytes = (size_t)m->k / quant_block(m->type) * quant_bytes(m->type);
    long panels = (m->rows + KERN_ROWS - 1) / KERN_ROWS;
    nn__run(nn, panels, work, &(struct job){nn, m, src, row_bytes});
}
