/* The kernels of every level this machine has, against ref: integer parts bit for bit, float
 * results within a bound of sum |w * x|. Every tail length, extreme values, guard pages behind the
 * inputs and canaries around the outputs. --bench times them and gives the share of this machine's
 * peak, probed at start: products of every type on two threads (gemm), their cost for 1 to 64 tokens
 * (curve), attention and rounding of activations on one (attn, act).
 *
 *     check_kern [--bench] [--test NAME] [--cpu LEVEL] [--seed N]
 */
#include "clock.h"
#include "kern.h"
#include "nn.h"
#include "quant.h"
#include "rng.h"
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct rng rng;
static int passed, failed;
static const struct kern *ref, *k;
static const char *now; /* what is under test */

static void result(bool ok, const char *fmt, ...)
{
    va_list ap;
    if (ok) {
        passed++;
        return;
    }
    failed++;
    printf("FAIL %s %s: ", k->name, now);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* Memory that ends at a page nobody may touch. The end is rounded up to 64. */
static void *guarded(size_t n)
{
    size_t bytes = (n + 63) / 64 * 64, pages = (bytes + 4095) / 4096 * 4096;
    char *p = mmap(NULL, pages + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + pages, 4096, PROT_NONE)) abort();
    return p + pages - bytes;
}

static void unguard(void *p, size_t n)
{
    size_t bytes = (n + 63) / 64 * 64, pages = (bytes + 4095) / 4096 * 4096;
    munmap((char *)p + bytes - pages, pages + 4096);
}

/* The larger; a NaN stays. */
static double worse(double a, double b)
{
    return b > a || b != b ? b : a;
}

enum { CANARY = 0x5a };

static float *output(size_t n)
{
    float *p = guarded(n * sizeof *p);
    memset(p, CANARY, n * sizeof *p);
    return p;
}

static bool untouched(const float *p, size_t n)
{
    for (size_t i = 0; i < n * sizeof *p; i++)
        if (((const unsigned char *)p)[i] != CANARY) return false;
    return true;
}

static float uniform(float a)
{
    return (float)(rng_double(&rng) * 2 - 1) * a;
}

/* Ordinary values, with a few large ones, sometimes all zero or all at the extreme. */
static void fill(float *x, size_t n)
{
    unsigned kind = (unsigned)rng_below(&rng, 8);
    float sign = rng_u64(&rng) & 1 ? 1 : -1;
    for (size_t i = 0; i < n; i++) {
        x[i] = kind == 0   ? 0
               : kind == 1 ? (rng_u64(&rng) & 1 ? 1.0f : -1.0f)
               : kind == 3 ? sign
                           : uniform(2);
        if (kind == 2 && rng_below(&rng, 40) == 0) x[i] *= 1000;
    }
}

/* Added to what is there, or put. */
static struct kern_out rows(float *y, size_t ld, bool add)
{
    return (struct kern_out){y, ld, add ? y : NULL, ld};
}

static const uint32_t types[] = {QUANT_F32,  QUANT_F16,    QUANT_BF16,   QUANT_Q4_0,
                                 QUANT_Q4_1, QUANT_Q5_0,   QUANT_Q5_1,   QUANT_Q8_0,
                                 QUANT_Q2_K, QUANT_Q3_K,   QUANT_Q4_K,   QUANT_Q5_K,
                                 QUANT_Q6_K, QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_MXFP4};

static void put16(uint8_t *p, float v)
{
    uint16_t h = quant_f32_to_f16(v);
    memcpy(p, &h, 2);
}

/* Random rows of a type: bytes at random, sometimes all codes the smallest or all the largest;
 * scales made finite and small. */
static void random_rows(uint8_t *p, uint32_t type, size_t values)
{
    size_t blocks = values / quant_block(type), bytes = quant_bytes(type);
    unsigned kind = (unsigned)rng_below(&rng, 8);
    for (size_t b = 0; b < blocks; b++, p += bytes) {
        for (size_t i = 0; i < bytes; i++)
            p[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (uint8_t)rng_u64(&rng);
        float d = uniform(0.02f), m = uniform(0.02f), v = uniform(1);
        uint16_t bf = quant_f32_to_bf16(v);
        switch (type) {
        case QUANT_F32: memcpy(p, &v, 4); break;
        case QUANT_F16: put16(p, v); break;
        case QUANT_BF16: memcpy(p, &bf, 2); break;
        case QUANT_MXFP4: p[0] = (uint8_t)(kind == 2 ? b % 4 : 120 + rng_below(&rng, 8)); break;
        case QUANT_Q2_K: put16(p + 80, d), put16(p + 82, m); break;
        case QUANT_Q3_K: put16(p + 108, d); break;
        case QUANT_Q6_K: put16(p + 208, d); break;
        case QUANT_Q4_1:
        case QUANT_Q5_1:
        case QUANT_Q4_K:
        case QUANT_Q5_K: put16(p, d), put16(p + 2, m); break;
        default: put16(p, d); break;
        }
    }
}

/* Codes, scales and minimums of a block are the same to the bit; what a level makes of the integers of
 * KERN_SCALE_K is its own affair. */
static bool same_tile(const struct kern_fmt *f, const uint8_t *p, int ng)
{
    size_t codes = (size_t)ng * 8 * KERN_ROWS * 4,
           scales = (size_t)(ng * KERN_GROUP / f->group) * KERN_ROWS * sizeof(float);
    static struct kern_tile a, b;
    ref->unpack_u8(&a, f, p, ng, INT_MAX);
    k->unpack_u8(&b, f, p, ng, INT_MAX);
    if (b.bits != 8 || memcmp(a.codes, b.codes, codes) != 0) return false;
    for (int i = 0; i < ng * KERN_GROUP / f->group * KERN_ROWS; i++) {
        float *scale = &b.scale[i / KERN_ROWS][i % KERN_ROWS];
        if (*scale == 0x1p-70f) *scale = 0;
    }
    return f->scale == KERN_SCALE_K || (memcmp(a.scale, b.scale, scales) == 0 &&
                                        (!f->mins || memcmp(a.min, b.min, scales) == 0));
}

/* Packing loses nothing: unpacked floats are those of the file. */
static void test_unpack(struct nn *nn, uint32_t type, int64_t rows, int64_t cols)
{
    struct nn_mat m;
    if (!nn_mat_shape(&m, type, rows, cols)) return;
    size_t row_bytes = (size_t)cols / quant_block(type) * quant_bytes(type),
           bytes = nn_mat_bytes(&m);
    uint8_t *src = guarded(row_bytes * (size_t)rows);
    random_rows(src, type, (size_t)(rows * cols));
    m.data = guarded(bytes);
    nn_mat_pack(nn, &m, src);
    float *want = malloc((size_t)cols * sizeof *want), *w = guarded(KERN_K * KERN_ROWS * sizeof *w);
    double worst = 0;
    for (int64_t r = 0; r < rows; r++) {
        quant_row_to_f32(type, src + (size_t)r * row_bytes, want, (size_t)cols);
        const uint8_t *p = m.data + (size_t)(r / KERN_ROWS) * kern_panel_bytes(m.fmt, cols);
        for (int64_t at = 0; at < cols; at += KERN_K) {
            int ng = (int)((cols - at < KERN_K ? cols - at + 31 : KERN_K) / KERN_GROUP);
            k->unpack_f32(w, m.fmt, p, ng);
            if (m.fmt->bits && r % KERN_ROWS == 0)
                result(same_tile(m.fmt, p, ng), "%s: tiles differ", quant_name(type));
            for (int64_t c = at; c < cols && c < at + KERN_K; c++) {
                double diff =
                    fabs((double)w[(c - at) * KERN_ROWS + r % KERN_ROWS] - (double)want[c]);
                double scale = fabs((double)want[c]) + 0.02 * 64;
                worst = worse(worst, diff / scale);
            }
            p += kern_block_bytes(m.fmt, ng);
        }
    }
    result(worst < 3e-7, "%s %ldx%ld: relative error %g", quant_name(type), (long)rows, (long)cols,
           worst);
    unguard(src, row_bytes * (size_t)rows);
    unguard(m.data, bytes);
    unguard(w, KERN_K * KERN_ROWS * sizeof *w);
    free(want);
}

/* A group's scale is enough for its values, and no more than a step too large, unless their block has far larger
 * ones. */
static void scales_fit(const struct kern_act *a, int t, const float *x, int64_t cols)
{
    static const float fit[] = {[0] = 1.00001f, [2] = 1.50001f, [KERN_PARTS] = 1.12501f};
    for (int64_t at = 0; at < cols; at += KERN_GROUP) {
        size_t row = (size_t)(at / KERN_K * a->m + t), g = (size_t)(at % KERN_K / KERN_GROUP);
        float most = 0, scale = a->scale[row * KERN_GROUPS + g] * 127;
        for (int64_t i = at; i < cols && i < at + KERN_GROUP; i++) most = fmaxf(most, fabsf(x[i]));
        result(scale > most * 0.99999f || !most, "row %d, from %ld: scale too small", t, (long)at);
        result(scale < most * fit[a->steps] || most < 2e-3f, "row %d, from %ld: scale too large", t,
               (long)at);
    }
}

static void test_act(int m, int64_t cols, int steps)
{
    size_t bytes = kern_act_bytes(m, cols), n = (size_t)m * (size_t)cols;
    float *x = guarded(n * sizeof *x);
    void *a_mem = guarded(bytes), *b_mem = guarded(bytes);
    struct kern_act a, b;
    memset(a_mem, 1, bytes);
    memset(b_mem, 1, bytes);
    kern_act_bind(&a, a_mem, m, cols);
    kern_act_bind(&b, b_mem, m, cols);
    a.steps = b.steps = steps;
    fill(x, n);
    for (int t = 0; t < m; t++) {
        ref->act(&a, t, x + (size_t)t * (size_t)cols, cols);
        k->act(&b, t, x + (size_t)t * (size_t)cols, cols);
        scales_fit(&b, t, x + (size_t)t * (size_t)cols, cols);
    }
    result(memcmp(a_mem, b_mem, bytes) == 0, "%d x %ld differ", m, (long)cols);
    unguard(x, n * sizeof *x);
    unguard(a_mem, bytes);
    unguard(b_mem, bytes);
}

static bool for_gemm_u8(const struct kern_fmt *f)
{
    return f->bits && !(k->u8_i16 && kern_u8_i16(f));
}

/* One matrix against ref, within a share of sum |w x|; and each token alone from unpacked codes, which
 * must be the same to the bit. */
static void test_gemm(struct nn *nn, uint32_t type, int64_t cols, int n)
{
    struct nn_mat m;
    if (!nn_mat_shape(&m, type, KERN_ROWS, cols) || !for_gemm_u8(m.fmt)) return;
    size_t row_bytes = (size_t)cols / quant_block(type) * quant_bytes(type),
           bytes = nn_mat_bytes(&m);
    uint8_t *src = malloc(row_bytes * KERN_ROWS);
    size_t act_bytes = kern_act_bytes(n + 1, cols), out_n = (size_t)n * KERN_ROWS;
    float *x = malloc((size_t)cols * sizeof *x), *y[3], *w = guarded(KERN_K * KERN_ROWS * 4);
    double *bound = calloc(out_n, sizeof *bound);
    void *mem = guarded(act_bytes);
    struct kern_act a;
    struct kern_tile *tile = guarded(sizeof *tile);
    random_rows(src, type, (size_t)cols * KERN_ROWS);
    m.data = guarded(bytes);
    nn_mat_pack(nn, &m, src);
    kern_act_bind(&a, mem, n + 1, cols);
    a.steps = kern_steps(m.fmt, k->f16_steps);
    unsigned silent =
        (unsigned)(rng_u64(&rng) & rng_u64(&rng)); /* groups that are 0 in all tokens */
    for (int t = 0; t <= n; t++) {
        fill(x, (size_t)cols);
        for (int64_t c = 0; c < cols; c++)
            if (silent >> (c / KERN_GROUP % 32) & 1) x[c] = 0;
        ref->act(&a, t, x, cols);
    }
    for (int i = 0; i < 3; i++) y[i] = output(out_n + 64) + 32;
    const uint8_t *p = m.data;
    for (int64_t at = 0; at < cols; at += KERN_K) {
        int ng = (int)((cols - at < KERN_K ? cols - at + 31 : KERN_K) / KERN_GROUP),
            kb = (int)(at / KERN_K);
        ref->unpack_u8(tile, m.fmt, p, ng, n);
        ref->gemm_u8(rows(y[0], KERN_ROWS, at > 0), tile, m.fmt, ng, &a, kb, 1, n);
        k->unpack_u8(tile, m.fmt, p, ng, n);
        tile->next_bytes = 0;
        k->gemm_u8(rows(y[1], KERN_ROWS, at > 0), tile, m.fmt, ng, &a, kb, 1, n);
        k->unpack_u8(tile, m.fmt, p, ng, INT_MAX);
        for (int t = 0; t < n; t++)
            k->gemm_u8(rows(y[2] + t * KERN_ROWS, KERN_ROWS, at > 0), tile, m.fmt, ng, &a, kb,
                       1 + t, 1);
        ref->unpack_f32(w, m.fmt, p, ng);
        for (int t = 0; t < n; t++)
            for (int c = 0; c < ng * 32; c++) {
                size_t row = (size_t)kb * (size_t)a.m + (size_t)t + 1;
                double v =
                    fabs(a.q[row * KERN_K + (size_t)c] * (double)a.scale[row * 8 + (size_t)c / 32]);
                for (int r = 0; r < KERN_ROWS; r++) /* min and scaled code may cancel: count both */
                    bound[t * KERN_ROWS + r] += v * (fabs((double)w[c * KERN_ROWS + r]) + 1.3);
            }
        p += kern_block_bytes(m.fmt, ng);
    }
    double worst = 0;
    for (size_t j = 0; j < out_n; j++)
        worst = worse(worst, fabs((double)y[1][j] - (double)y[0][j]) / (bound[j] + 1e-30));
    result(worst < 1e-6, "%s k=%ld n=%d: %g of sum |w x|", quant_name(type), (long)cols, n, worst);
    result(untouched(y[1] - 32, 32) && untouched(y[1] + out_n, 32), "%s writes outside its output",
           quant_name(type));
    result(!memcmp(y[1], y[2], out_n * sizeof **y), "%s k=%ld n=%d: a token alone is another",
           quant_name(type), (long)cols, n);
    for (int i = 0; i < 3; i++) unguard(y[i] - 32, (out_n + 64) * sizeof(float));
    unguard(mem, act_bytes), unguard(tile, sizeof *tile), unguard(m.data, bytes);
    unguard(w, KERN_K * KERN_ROWS * 4);
    free(src), free(x), free(bound);
}

/* Scales and minimums of 1; codes at random, or all at an end. */
static void ones(uint8_t *p, const struct kern_fmt *f, int ng, unsigned ends)
{
    int rows = ng * KERN_GROUP / f->group * KERN_ROWS;
    size_t bytes = kern_block_bytes(f, ng), codes = (size_t)ng * KERN_ROWS * 4 * f->bits;
    memset(p, 0, bytes);
    if (f->scale == KERN_SCALE_F16)
        for (int i = 0; i < (f->mins ? 2 * rows : rows); i++) put16(p + 2 * i, 1);
    if (f->scale == KERN_SCALE_E8M0) memset(p, 128, (size_t)rows);
    for (int r = 0; f->scale == KERN_SCALE_K && r < KERN_ROWS; r++) {
        put16(p + 2 * r, 1);
        if (f->mins) put16(p + 64 + 2 * r, -1);
    }
    if (f->scale == KERN_SCALE_K)
        memset(p + (f->mins ? 128 : 64), f->mins ? 0x11 : 1, (size_t)rows);
    for (size_t i = bytes - codes; i < bytes; i++)
        p[i] = (uint8_t)(ends & 1 ? (ends & 2 ? 255 : 0) : rng_below(&rng, 256));
}

/* The integers behind gemm_u8: with scales of 1 every sum is an integer below 2^24, so that the
 * results are the same to the bit. Codes and activations at random or all at an end. */
static void test_exact(uint32_t type, int n, int ng)
{
    enum { LD = KERN_ROWS + 16 };
    struct nn_mat m;
    if (!nn_mat_shape(&m, type, KERN_ROWS, KERN_K) || !for_gemm_u8(m.fmt)) return;
    if (m.fmt->scale == KERN_SCALE_K) ng = KERN_GROUPS;
    size_t act_bytes = kern_act_bytes(n, KERN_K), out_n = (size_t)n * LD,
           bytes = kern_block_bytes(m.fmt, ng);
    struct kern_tile *t = guarded(sizeof *t);
    uint8_t *block = guarded(bytes);
    void *mem = guarded(act_bytes);
    float *y[2] = {output(out_n), output(out_n)}, first[KERN_ROWS];
    struct kern_act a;
    for (int r = 0; r < KERN_ROWS; r++) first[r] = (float)r;
    unsigned ends = (unsigned)rng_below(&rng, 16);
    ones(block, m.fmt, ng, ends);
    kern_act_bind(&a, mem, n, KERN_K);
    for (int i = 0; i < n * 8; i++) a.scale[i] = a.share[i] = 1;
    for (int i = 0; i < n * 16; i++) a.halves[i] = 0;
    for (int i = 0; i < n; i++) a.whole[i] = 1, a.some[i] = 255;
    for (int i = 0; i < n * 8; i++) a.total[i] = 0;
    for (int i = 0; i < n * KERN_K; i++) {
        a.q[i] = (int8_t)(ends & 4 ? (ends & 8 ? 127 : -127) : (int)rng_below(&rng, 255) - 127);
        a.sum[i / 16] = (i % 16 ? a.sum[i / 16] : 0) + a.q[i];
        a.total[i / 32] += (float)a.q[i];
    }
    for (int i = 0; i < n * 8; i++) a.low[i] = (int16_t)(8 * (int)a.total[i]);
    for (int i = 0; i < 2; i++) {
        (i ? k : ref)->unpack_u8(t, m.fmt, block, ng, n);
        t->next_bytes = 0;
        (i ? k : ref)->gemm_u8((struct kern_out){y[i], LD, first, 0}, t, m.fmt, ng, &a, 0, 0, n);
        (i ? k : ref)->gemm_u8(rows(y[i], LD, true), t, m.fmt, ng, &a, 0, 0, n);
    }
    result(memcmp(y[0], y[1], out_n * sizeof(float)) == 0,
           "%s ng=%d n=%d: integers differ, or the gap is written", quant_name(type), ng, n);
    for (int i = 0; i < 2; i++) unguard(y[i], out_n * sizeof(float));
    unguard(mem, act_bytes), unguard(t, sizeof *t), unguard(block, bytes);
}

/* bound[t][32] += sum |w x| of a block. */
static void magnitudes_i16(double *bound, const struct kern_tile16 *tile, int ng,
                           const struct kern_act16 *a, int kb)
{
    for (int t = 0; t < a->m; t++)
        for (int c = 0; c < ng * KERN_GROUP; c++) {
            size_t row = (size_t)(kb * a->m + t);
            double x = a->q[row * KERN_K + (size_t)c] *
                       (double)a->scale[row * KERN_GROUPS + (size_t)c / KERN_GROUP];
            for (int r = 0; r < KERN_ROWS; r++)
                bound[t * KERN_ROWS + r] +=
                    fabs(x * tile->code[c / 2][r][c % 2] * (double)tile->scale[r]);
        }
}

/* Tiles and rounded activations are the same to the bit; products within rounding; a row is the
 * same alone. */
static void test_i16(struct nn *nn, uint32_t type, int64_t cols, int n)
{
    struct nn_mat m;
    if (!nn_mat_shape(&m, type, KERN_ROWS, cols) || m.fmt->bits || m.fmt->f == KERN_F32) return;
    size_t bytes = nn_mat_bytes(&m), act_bytes = kern_act16_bytes(n, cols);
    size_t out_n = (size_t)n * KERN_ROWS;
    uint8_t *src = malloc((size_t)cols * KERN_ROWS * 2);
    float *x = guarded((size_t)cols * 4), *y[3];
    struct kern_tile16 *tile[2] = {guarded(sizeof *tile[0]), guarded(sizeof *tile[1])};
    void *mem[2] = {guarded(act_bytes), guarded(act_bytes)};
    struct kern_act16 a[2];
    double *bound = calloc(out_n, sizeof *bound), worst = 0;
    bool same = true;
    random_rows(src, type, (size_t)cols * KERN_ROWS);
    m.data = guarded(bytes);
    nn_mat_pack(nn, &m, src);
    for (int i = 0; i < 2; i++) {
        memset(mem[i], 1, act_bytes);
        kern_act16_bind(&a[i], mem[i], n, cols);
    }
    for (int i = 0; i < 3; i++) y[i] = output((i < 2 ? out_n : KERN_ROWS) + 64) + 32;
    for (int t = 0; t < n; t++) {
        fill(x, (size_t)cols);
        ref->act_i16(&a[0], t, x, cols);
        k->act_i16(&a[1], t, x, cols);
    }
    result(!memcmp(mem[0], mem[1], act_bytes), "activations differ, k=%ld", (long)cols);
    const uint8_t *p = m.data;
    for (int64_t at = 0; at < cols; at += KERN_K) {
        int kb = (int)(at / KERN_K),
            ng = (int)((cols - at < KERN_K ? cols - at + 31 : KERN_K) / KERN_GROUP);
        ref->unpack_i16(tile[0], m.fmt, p, ng);
        k->unpack_i16(tile[1], m.fmt, p, ng);
        same = same && !memcmp(tile[0]->scale, tile[1]->scale, sizeof tile[0]->scale) &&
               !memcmp(tile[0]->code, tile[1]->code, (size_t)ng * 32 * KERN_ROWS * 2);
        ref->gemm_i16(rows(y[0], KERN_ROWS, kb > 0), tile[0], ng, &a[0], kb, 0, n);
        k->gemm_i16(rows(y[1], KERN_ROWS, kb > 0), tile[1], ng, &a[1], kb, 0, n);
        k->gemm_i16(rows(y[2], KERN_ROWS, kb > 0), tile[1], ng, &a[1], kb, n - 1, 1);
        magnitudes_i16(bound, tile[0], ng, &a[0], kb);
        p += kern_block_bytes(m.fmt, ng);
    }
    for (size_t j = 0; j < out_n; j++)
        worst = worse(worst, fabs((double)y[1][j] - (double)y[0][j]) / (bound[j] + 1e-30));
    result(same, "%s k=%ld: tiles differ", quant_name(type), (long)cols);
    result(worst < 1e-6, "%s k=%ld n=%d: %g of sum |w x|", quant_name(type), (long)cols, n, worst);
    result(!memcmp(y[1] + out_n - KERN_ROWS, y[2], KERN_ROWS * 4), "n=%d: not as alone", n);
    for (int i = 0; i < 3; i++) {
        size_t len = i < 2 ? out_n : KERN_ROWS;
        result(untouched(y[i] - 32, 32) && untouched(y[i] + len, 32), "writes outside its output");
        unguard(y[i] - 32, (len + 64) * 4);
    }
    for (int i = 0; i < 2; i++) unguard(mem[i], act_bytes);
    unguard(tile[0], sizeof *tile[0]), unguard(tile[1], sizeof *tile[1]), unguard(m.data, bytes);
    unguard(x, (size_t)cols * 4), free(src), free(bound);
}

/* Bytes and levels times activations of 16 bits, those at random, or with `ends` all as large as they may be and
 * scales of 1, so that it is the same to the bit; a row is the same alone. */
static void test_u8_i16(struct nn *nn, uint32_t type, int64_t cols, int n, bool ends)
{
    struct nn_mat m;
    if (!nn_mat_shape(&m, type, KERN_ROWS, cols) || !m.fmt->bits || !kern_u8_i16(m.fmt)) return;
    size_t row_bytes = (size_t)cols / quant_block(type) * quant_bytes(type);
    size_t bytes = nn_mat_bytes(&m), act_bytes = kern_act16_bytes(n, cols);
    size_t out_n = (size_t)n * KERN_ROWS;
    uint8_t *src = malloc(row_bytes * KERN_ROWS);
    float *x = malloc((size_t)cols * sizeof *x), *y[3];
    struct kern_tile *tile = guarded(sizeof *tile);
    void *mem = guarded(act_bytes), *same = guarded(act_bytes);
    struct kern_act16 a, b;
    double *bound = calloc(out_n, sizeof *bound), worst = 0;
    random_rows(src, type, (size_t)cols * KERN_ROWS);
    m.data = guarded(bytes);
    nn_mat_pack(nn, &m, src);
    kern_act16_bind(&a, mem, n, cols);
    memset(mem, 1, act_bytes), memset(same, 1, act_bytes);
    kern_act16_bind(&b, same, n, cols);
    for (int i = 0; i < 3; i++) y[i] = output((i < 2 ? out_n : KERN_ROWS) + 64) + 32;
    for (int t = 0; t < n; t++) {
        fill(x, (size_t)cols);
        for (int64_t c = 0; ends && c < cols; c++)
            x[c] = rng_below(&rng, 9) ? KERN_I16_U8_MAX : -KERN_I16_U8_MAX;
        ref->act_u8_i16(&a, t, x, cols);
        k->act_u8_i16(&b, t, x, cols);
    }
    result(!memcmp(mem, same, act_bytes), "activations differ, k=%ld", (long)cols);
    uint8_t *p = m.data;
    for (int64_t at = 0; at < cols; at += KERN_K) {
        int kb = (int)(at / KERN_K),
            ng = (int)((cols - at < KERN_K ? cols - at + 31 : KERN_K) / KERN_GROUP);
        if (ends) ones(p, m.fmt, ng, (unsigned)rng_below(&rng, 4));
        ref->unpack_u8(tile, m.fmt, p, ng, n);
        ref->gemm_u8_i16(rows(y[0], KERN_ROWS, kb > 0), tile, ng, &a, kb, 0, n);
        for (int i = 0; i < n * KERN_ROWS; i++)
            for (int c = 0; c < ng * KERN_GROUP; c++) {
                size_t row = (size_t)(kb * n + i / KERN_ROWS), r = (size_t)i % KERN_ROWS;
                double v = a.q[row * KERN_K + (size_t)c] *
                           (double)a.scale[row * KERN_GROUPS + (size_t)c / KERN_GROUP];
                size_t column = (size_t)c / 4 * 4 + (size_t[]){0, 2, 1, 3}[c % 4];
                int code = tile->codes[(column / 4 * KERN_ROWS + r) * 4 + column % 4];
                bound[i] += fabs(v * (code - 128) * (double)tile->scale[c / KERN_GROUP][r]);
            }
        k->unpack_u8(tile, m.fmt, p, ng, n);
        tile->next_bytes = 0;
        k->gemm_u8_i16(rows(y[1], KERN_ROWS, kb > 0), tile, ng, &a, kb, 0, n);
        k->gemm_u8_i16(rows(y[2], KERN_ROWS, kb > 0), tile, ng, &a, kb, n - 1, 1);
        p += kern_block_bytes(m.fmt, ng);
    }
    for (size_t j = 0; j < out_n; j++)
        worst = worse(worst, fabs((double)y[1][j] - (double)y[0][j]) / (bound[j] + 1e-30));
    result(worst < 1e-6, "%s k=%ld n=%d: %g of sum |w x|", quant_name(type), (long)cols, n, worst);
    result(!ends || m.fmt->scale == KERN_SCALE_K || !memcmp(y[0], y[1], out_n * 4),
           "%s k=%ld n=%d: integers differ", quant_name(type), (long)cols, n);
    result(!memcmp(y[1] + out_n - KERN_ROWS, y[2], KERN_ROWS * 4), "n=%d: not as alone", n);
    for (int i = 0; i < 3; i++) {
        size_t len = i < 2 ? out_n : KERN_ROWS;
        result(untouched(y[i] - 32, 32) && untouched(y[i] + len, 32), "writes outside its output");
        unguard(y[i] - 32, (len + 64) * 4);
    }
    unguard(mem, act_bytes), unguard(same, act_bytes);
    unguard(m.data, bytes), unguard(tile, sizeof *tile), free(src), free(x), free(bound);
}

static void test_gemm_f32(int cols, int n)
{
    size_t out_n = (size_t)n * KERN_ROWS, wn = (size_t)cols * KERN_ROWS,
           xn = (size_t)n * (size_t)cols;
    float *w = guarded(wn * 4), *x = guarded(xn * 4), *y[2];
    fill(w, wn);
    fill(x, xn);
    for (int i = 0; i < 2; i++) {
        y[i] = output(out_n + 64) + 32;
        for (size_t j = 0; j < out_n; j++) y[i][j] = 1;
    }
    ref->gemm_f32(rows(y[0], KERN_ROWS, n % 2), w, cols, x, (size_t)cols, n);
    k->gemm_f32(rows(y[1], KERN_ROWS, n % 2), w, cols, x, (size_t)cols, n);
    double worst = 0;
    for (size_t j = 0; j < out_n; j++) {
        double bound = 1;
        for (int c = 0; c < cols; c++)
            bound += fabs((double)w[(size_t)c * KERN_ROWS + j % KERN_ROWS] *
                          (double)x[j / KERN_ROWS * (size_t)cols + (size_t)c]);
        worst = worse(worst, fabs((double)y[0][j] - (double)y[1][j]) / bound);
    }
    result(worst < 1e-6, "k=%d n=%d: %g of sum |w x|", cols, n, worst);
    result(untouched(y[1] - 32, 32) && untouched(y[1] + out_n, 32), "writes outside its output");
    for (int i = 0; i < 2; i++) unguard(y[i] - 32, (out_n + 64) * 4);
    unguard(w, wn * 4), unguard(x, xn * 4);
}

/* Relative to a, or to what is lost where a is smaller. */
static double distance(const float *a, const float *b, size_t n, double least)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = worse(worst, fabs((double)a[i] - (double)b[i]) / (least + fabs((double)a[i])));
    return worst;
}

static double largest(const float *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = worse(most, fabs((double)x[i]));
    return most;
}

#include "support/kern_attn.h"

/* An element-wise function on both tables: in place on a copy of x. */
enum elem { NORM, NORM_BARE, LAYER_NORM, PAIRS, HALVES, SILU, GELU, GELU_ERF, ADD, SOFTCAP, ELEMS };
static const char *const elem_names[] = {"rms_norm",    "rms_norm bare", "layer_norm", "rope pairs",
                                         "rope halves", "silu_mul",      "gelu_mul",   "gelu",
                                         "add",         "softcap"};

static void elem(const struct kern *kern, enum elem what, float *x, const float *y, int n)
{
    switch (what) {
    case NORM: kern->rms_norm(x, x, y, n, 1e-5f); break;
    case NORM_BARE: kern->rms_norm(x, x, NULL, n, 1e-5f); break;
    case LAYER_NORM: kern->layer_norm(x, x, y, y + n, n, 1e-12f); break;
    case PAIRS: kern->rope(x, y, n / 2 * 2, KERN_ROPE_PAIRS); break;
    case HALVES: kern->rope(x, y, n / 2 * 2, KERN_ROPE_HALVES); break;
    case SILU: kern->silu_mul(x, y, n); break;
    case GELU: kern->gelu_mul(x, y, n); break;
    case GELU_ERF: kern->gelu(x, n); break;
    case ADD: kern->add(x, y, n); break;
    default: kern->softcap(x, n, 30); break;
    }
}

static void test_elem(enum elem what, int n)
{
    size_t bytes = (size_t)n * 4;
    float *y = guarded(2 * bytes), *a = output((size_t)n + 64) + 32;
    float *b = output((size_t)n + 64) + 32;
    fill(y, (size_t)n), fill(y + n, (size_t)n);
    fill(a, (size_t)n);
    for (int i = 0; what >= SILU && i < n; i += 7) a[i] = uniform(300);
    memcpy(b, a, bytes);
    double terms = largest(a, (size_t)n) * largest(y, (size_t)n);
    elem(ref, what, a, y, n);
    elem(k, what, b, y, n);
    bool turns = what == PAIRS || what == HALVES; /* a difference of two terms may be far smaller */
    double worst = distance(a, b, (size_t)n, turns ? 1 + terms : 1);
    result(worst < 2e-6 * (what < PAIRS ? 10 : 1), "%s n=%d: %g", elem_names[what], n, worst);
    result(untouched(b - 32, 32) && untouched(b + n, 32), "%s writes outside", elem_names[what]);
    unguard(y, 2 * bytes), unguard(a - 32, bytes + 256), unguard(b - 32, bytes + 256);
}

static bool chosen(const char *only, const char *name)
{
    now = name;
    return !only || strcmp(only, name) == 0;
}

static void test_all(struct nn *nn, const char *only)
{
    static const int64_t widths[] = {16, 32, 48, 64, 96, 160, 224, 256, 288, 512, 576, 768};
    size_t n_types = sizeof types / sizeof *types, n_widths = sizeof widths / sizeof *widths;
    for (size_t t = 0; t < n_types && chosen(only, "unpack"); t++)
        for (size_t w = 0; w < n_widths; w++) test_unpack(nn, types[t], w % 2 ? 32 : 37, widths[w]);
    for (size_t w = 0; w < n_widths && chosen(only, "act"); w++)
        for (int m = 1; m < 5; m++)
            test_act(m, widths[w] - (m > 2 ? 5 : 0), m % 3 == 2 ? KERN_PARTS : 2 * (m % 3));
    for (size_t t = 0; t < n_types && chosen(only, "gemm"); t++)
        for (size_t w = 0; w < n_widths; w++)
            for (int n = 1; n <= 27; n += n < 14 ? 1 : 13) test_gemm(nn, types[t], widths[w], n);
    for (size_t t = 0; t < n_types && chosen(only, "exact"); t++)
        for (int i = 0; i < 14 * 16; i++) test_exact(types[t], i % 14 + 1, i % KERN_GROUPS + 1);
    for (size_t t = 0; t < n_types && chosen(only, "i16"); t++)
        for (size_t w = 0; w < n_widths; w++)
            for (int n = 1; n <= 14; n++) test_i16(nn, types[t], widths[w] - (n % 3 ? 0 : 5), n);
    bool u8_i16 = k == ref || k->u8_i16; /* else nobody calls it */
    for (size_t t = 0; t < n_types && u8_i16 && chosen(only, "u8_i16"); t++)
        for (size_t w = 0; w < n_widths; w++)
            for (int n = 1; n <= 14; n++) test_u8_i16(nn, types[t], widths[w], n, n % 3 == 0);
    for (int n = 1; n <= 14 && chosen(only, "gemm_f32"); n++)
        for (int c = 1; c <= 256; c += 17) test_gemm_f32(c, n);
    for (int m = 1; m <= KERN_ATTN_ROWS && chosen(only, "attn"); m++)
        for (int d = 16; d <= KERN_D_MAX; d += d < 128 ? 16 : 128)
            for (int f = 0; f < 4; f++) test_attn(m, d, f & 1, f & 2 ? 5.0f : 0);
    for (int e = 0; e < ELEMS && chosen(only, "elem"); e++)
        for (int n = 2; n < 80; n++) test_elem((enum elem)e, n);
    for (int d = 16; d <= KERN_D_MAX && chosen(only, "to_i16"); d += 16)
        for (int i = 0; i < 16; i++) test_to_i16(d, i);
    for (int d = 16; d <= KERN_D_MAX && chosen(only, "page_i16"); d += 16) {
        for (int kind = 0; kind < 5; kind++) test_to_i8(d, kind);
        test_page_i16(d);
        for (int m = 1; k->attn_i8 && m <= KERN_ATTN_ROWS; m++) test_attn_i8(m, d);
    }
}

#include "support/kern_bench.h"

static int check_level(const char *level, const char *only)
{
    struct err e;
    struct nn *nn;
    if (kern_get(&k, level, &e)) {
        printf("%-7s not on this machine\n", level);
        return 0;
    }
    if (nn_open(&nn, 2, level, false, &e)) return 1;
    int before = passed, bad = failed;
    test_all(nn, only);
    printf("%-7s %d checks passed, %d failed\n", level, passed - before, failed - bad);
    nn_close(nn);
    return failed > bad;
}

int main(int argc, char **argv)
{
    static const char *const levels[] = {"ref", "avx2", "avx512"};
    const char *only = NULL, *cpu = NULL;
    uint64_t seed = 1;
    bool timing = false;
    struct err e;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0)
            timing = true;
        else if (strcmp(argv[i], "--test") == 0 && i + 1 < argc)
            only = argv[++i];
        else if (strcmp(argv[i], "--cpu") == 0 && i + 1 < argc)
            cpu = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else
            return fprintf(stderr,
                           "usage: check_kern [--bench] [--test NAME] [--cpu L] [--seed N]\n"),
                   2;
    }
    rng_init(&rng, seed);
    if (kern_get(&ref, "ref", &e)) return 1;
    int bad = 0;
    for (int i = 0; i < 3; i++)
        if (!cpu || strcmp(cpu, levels[i]) == 0) bad |= check_level(levels[i], only);
    if (timing) bad |= bench(cpu, 2, only) | bench(cpu, 1, only);
    return bad;
}
