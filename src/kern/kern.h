/* Inner loops: one thread's part of an operation, for the processor at hand.
 *
 *     const struct kern *k;
 *     if (kern_get(&k, NULL, &e)) ...      "ref", "avx2", "avx512", or NULL for the best here
 *     k->gemm_u8(...)
 *
 * The table is filled from ref/ first, then each level overwrites what it improves. ref/ is the
 * specification: integer parts agree bit for bit, float results differ by rounding only. Kernels
 * cannot fail and allocate nothing. Any thread. Pointers to packed weights, tiles and scratch are
 * aligned to 64 bytes.
 *
 * Packed weights. A matrix [rows][k] is cut into panels of KERN_ROWS rows (the last one padded with
 * zeros) and a panel into blocks of up to KERN_K columns; blocks follow each other along k. A block
 * of ng groups of 32 columns is (sizes in kern_block_bytes):
 *   scales  KERN_SCALE_F16  f16 d[ng][32], and with mins f16 m[ng][32]
 *           KERN_SCALE_E8M0 u8 e[ng][32], padded to 64 bytes
 *           KERN_SCALE_K    f16 d[32], i8 sc[256 / group][32]; with mins f16 d[32], f16 dmin[32],
 *                           u8 (sc & 15 | (m & 15) << 4)[256 / group][32], and for groups of 32,
 *                           whose scales have 6 bits, u8 [4][32] of the high bits of two groups:
 *                           sc[2p] >> 4 | m[2p] >> 4 << 2 | sc[2p+1] >> 4 << 4 | m[2p+1] >> 4 << 6
 *   codes   for each group of 32 columns (of 6 bits: of 16, and half the lines):
 *             4-bit plane, 4 lines of 128 bytes  (bits 4, 5, 6)
 *             2-bit plane, 2 lines               (bits 2, 3, 6)
 *             1-bit plane, 1 line                (bits 3, 5)
 *             bytes, 8 lines                     (bits 8)
 *           so they are read in the order in which they lie, which memory is fastest for.
 *           Byte 4r + j of a line belongs to row r; the line holds quads of columns
 *           (4q + j): low nibble quad 2p and high nibble quad 2p + 1 of the 4-bit line p; bit pair i
 *           of the 2-bit line p is quad 4p + i; bit i of the 1-bit line is quad i; byte line p is quad p.
 *           Planes are concatenated with the 4- or 2-bit plane as the low bits.
 * Rows with KERN_SCALE_K are whole blocks of 8 groups.
 * A value is scale * (code - bias), or scale * code + min with mins; with levels, the code indexes
 * 16 levels. A scale of 0 may be read as 2^-70. Float types are [k][32] values of
 * their own type.
 */
#ifndef KERN_H
#define KERN_H

#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KERN_ROWS = 32, KERN_K = 256, KERN_GROUP = 32, KERN_GROUPS = KERN_K / KERN_GROUP };

enum kern_scale { KERN_SCALE_NONE, KERN_SCALE_F16, KERN_SCALE_E8M0, KERN_SCALE_K };
enum kern_float { KERN_F32, KERN_F16, KERN_BF16 };

struct kern_fmt {
    uint8_t bits;  /* 2 3 4 5 6 8: integer codes; 0: floats of kind f */
    uint8_t group; /* columns a scale: 16 or 32 */
    uint8_t scale; /* enum kern_scale */
    bool mins;
    int16_t bias;
    uint8_t f;            /* enum kern_float */
    const int8_t *levels; /* [16] or NULL; then bias is 0 */
};

/* Bytes of a block of ng groups; of them, before the codes; of a panel. */
size_t kern_block_bytes(const struct kern_fmt *f, int ng);
size_t kern_scale_bytes(const struct kern_fmt *f, int ng);
size_t kern_panel_bytes(const struct kern_fmt *f, int64_t k);

/* Parts of a scale of a tile, where a level has them: 1 - i / 16 of it i KERN_PART bytes behind. */
enum { KERN_PARTS = 8, KERN_PART = KERN_GROUPS * KERN_ROWS * sizeof(float) };

/* A block made ready for products: its scales as floats and its codes as bytes, or as they lie. */
struct kern_tile {
    _Alignas(64) uint8_t code[KERN_K / 4][KERN_ROWS][4]; /* laid out like codes of 8 bits */
    float scale[KERN_PARTS * KERN_GROUPS][KERN_ROWS];    /* [256 / group] used, and their parts */
    float min[KERN_K / 16][KERN_ROWS];
    /* Of levels that have minimums of KERN_SCALE_K in integers: of two groups, and their factor. */
    int16_t low[KERN_GROUPS / 2][KERN_ROWS][2];
    float dmin[KERN_ROWS];
    const uint8_t *codes;  /* code, or in the block */
    const uint8_t *scales; /* as they lie: in the block, where a level needs no floats */
    int bits;              /* of codes; bytes of levels are stored + 128 */
    bool parts;            /* scales have those that activations name */
    const uint8_t *next; /* packed bytes that are wanted soon, to be fetched beside the products */
    size_t next_bytes;
};

/* Steps that weights ask of their activations, f16 being those of the level (struct kern). */
static inline int kern_steps(const struct kern_fmt *f, int f16)
{
    if (f->scale == KERN_SCALE_K) return 2;
    return f->scale == KERN_SCALE_F16 && f->bits == 4 ? f16 : 0;
}

/* Activations of m tokens in int8, blocks of 256 columns outermost; columns past k are zeros.
 * x = q * scale; a scale for each 32 columns. sum: of q over 16 columns; total: scale * sum over 32.
 * With steps, the scales of a block are one scale, halved as often as leaves a group's values below 127, and then
 * times 1 - i / 16, i < 8 (of 2 steps: 0 or 4), the least that still does: scale = whole * share, where share is
 * 2^-(halves >> 23) * (1 - which / KERN_PART / 16). Products then subtract exponents, of parts of weights' scales,
 * where they would multiply, and with 2 steps minimums of KERN_SCALE_K meet integers: low is 8 times the sum over
 * 32, times share and rounded, and total = whole / 8 * low. */
struct kern_act {
    int m;
    int steps;        /* kern_steps of the weights; 0: scales are the groups' own */
    int8_t *q;        /* [blocks][m][256] */
    float *scale;     /* [blocks][m][8] */
    int32_t *sum;     /* [blocks][m][16] */
    float *total;     /* [blocks][m][8] */
    float *whole;     /* [blocks][m] */
    float *share;     /* [blocks][m][8] */
    uint32_t *halves; /* [blocks][m][2][8]: halves, and which */
    int16_t *low;     /* [blocks][m][8], only with 2 steps */
    uint8_t *some;    /* [blocks][m], bit g: group g is not all zeros */
};
size_t kern_act_bytes(int m, int64_t k);
void kern_act_bind(struct kern_act *a, void *mem, int m, int64_t k);

/* Floats of 16 bits as 16-bit integers, and activations before them or before bytes. A scale is the
 * largest magnitude / 8191, before bytes / 32767 (0 below 2^-100), the most of which 32 products fit the
 * sum in 32 bits; weights have one for a row of a block, activations for 32 columns. */
enum { KERN_I16_MAX = 8191, KERN_I16_U8_MAX = 32767 };
#define KERN_I16_LEAST 0x1p-100f
struct kern_tile16 {
    _Alignas(64) int16_t code[KERN_K / 2][KERN_ROWS][2];
    float scale[KERN_ROWS];
};
struct kern_act16 { /* as kern_act; zeros up to a multiple of 32 columns */
    int m;
    int16_t *q;   /* [blocks][m][256]; before bytes, columns 0, 2, 1, 3 of each quad */
    float *scale; /* [blocks][m][8] */
    int32_t *sum; /* [blocks][m][8], of q over 32 columns; only before bytes */
};
size_t kern_act16_bytes(int m, int64_t k);
void kern_act16_bind(struct kern_act16 *a, void *mem, int m, int64_t k);

/* Whether codes, or the levels they stand for, are bytes less 128, with a scale for 32 columns. */
static inline bool kern_u8_i16(const struct kern_fmt *f)
{
    return f->bits == 8 || f->levels;
}

/* Rows of 32 outputs: the sum for token t goes to to + t * ld and starts with from + t * ld_from; from may
 * be `to`, or NULL: zeros, and ld_from may be 0: all start with one row. */
struct kern_out {
    float *to;
    size_t ld;
    const float *from;
    size_t ld_from;
};
static inline const float *kern_from(const struct kern_out *o, int t)
{
    return o->from ? o->from + (size_t)t * o->ld_from : NULL;
}
static inline void kern_out_skip(struct kern_out *o, int tokens)
{
    o->to += (size_t)tokens * o->ld;
    o->from = kern_from(o, tokens);
}

/* Which pairs of a head RoPE rotates. */
enum kern_rope { KERN_ROPE_PAIRS /* (2i, 2i + 1) */, KERN_ROPE_HALVES /* (i, i + d_rot / 2) */ };

enum { KERN_PAGE = 32, KERN_ATTN_ROWS = 24, KERN_D_MAX = 512, KERN_KV_GROUP = 16 };

/* A vector in 16-bit integers, x = q * scale. The scale is the larger of max / 32767 and norm / 45000, so
 * that the product of two such vectors is below 2^31 (Cauchy-Schwarz), whatever their length, also when
 * one was rounded to 8 bits, which makes it at most 1.6 % longer; vectors whose max is below 2^-60 are zeros. */
#define KERN_NORM_MAX 45000.0f
#define KERN_VECTOR_LEAST 0x1p-60f

/* What keys and values are kept as. */
enum kern_kv { KERN_KV_I16, KERN_KV_I8, KERN_KV_F32 };

/* One page of keys and values of one KV head: int16 keys [d / 2][32][2], float scales of the keys [32] and of
 * the values [32], int16 values [16][d][2]; or in float32 keys [d][32] and values [32][d].
 * In 8 bits it is half as large: the 16-bit integers of a vector are rounded to int8 times a multiplier for
 * each KERN_KV_GROUP of them, which is even. int8 keys [d / 2][32][2], halves of the multipliers of keys uint8
 * [groups][32], those of values, scales and int8 values as above. */
static inline size_t kern_page_scales(int d) /* where they begin, in bytes */
{
    return (size_t)d * KERN_PAGE * sizeof(int16_t);
}
static inline size_t kern_page_values(int d)
{
    return kern_page_scales(d) + 2 * KERN_PAGE * sizeof(float);
}
static inline int kern_kv_groups(int d)
{
    return d / KERN_KV_GROUP;
}
static inline size_t kern_page8_scales(int d)
{
    return (size_t)(d + 2 * kern_kv_groups(d)) * KERN_PAGE;
}
static inline size_t kern_page8_values(int d)
{
    return kern_page8_scales(d) + 2 * KERN_PAGE * sizeof(float);
}
static inline size_t kern_page_bytes(int d, enum kern_kv kv)
{
    if (kv == KERN_KV_F32) return 2 * (size_t)d * KERN_PAGE * sizeof(float);
    if (kv == KERN_KV_I8) return kern_page8_values(d) + (size_t)d * KERN_PAGE;
    return kern_page_values(d) + (size_t)d * KERN_PAGE * sizeof(int16_t);
}

/* One page against m query rows: online softmax (Milakov and Gimelshein 2018) to base 2, so a key weighs
 * 2^score. Row r sees keys lo[r] <= key < hi[r] of the page; rows without one are left. */
struct kern_attn {
    int m, d;             /* m <= KERN_ATTN_ROWS, d a multiple of 16, <= KERN_D_MAX */
    const int16_t *q;     /* [d / 2][KERN_ATTN_ROWS][2] */
    const float *q_scale; /* [m] */
    const float *q_f32;   /* [m][d], of attn_f32 instead */
    const void *page;
    const void *next;   /* the page that comes next, to be fetched beside, or NULL */
    const int *lo, *hi; /* [m] */
    float softcap;      /* 0: off; else s = softcap * tanh(s / softcap) */
    float *max, *sum;   /* [m], start with -INFINITY and 0 */
    float *out;         /* [m][d], start with zeros; divide by sum at the end */
};

struct kern {
    const char *name;
    int f16_steps; /* of activations for 4 bits with KERN_SCALE_F16; 0: they would not pay */

    /* Row t of a from x[k]. */
    void (*act)(const struct kern_act *a, int t, const float *x, int64_t k);

    /* For products with n tokens. Leaves next. */
    void (*unpack_u8)(struct kern_tile *t, const struct kern_fmt *f, const uint8_t *block, int ng,
                      int n);
    /* Adds tile . activations of block kb, tokens t0 .. t0 + n - 1. */
    void (*gemm_u8)(struct kern_out o, const struct kern_tile *t, const struct kern_fmt *f, int ng,
                    const struct kern_act *a, int kb, int t0, int n);

    void (*unpack_f32)(float *w /* [32 ng][32] */, const struct kern_fmt *f, const uint8_t *block,
                       int ng);
    /* Adds the sum over k of w[k][32] * x[t][k]. */
    void (*gemm_f32)(struct kern_out o, const float *w, int k, const float *x, size_t ldx, int n);

    /* Weights of 16-bit floats in integers. */
    bool i16; /* faster here than gemm_f32 */
    void (*act_i16)(const struct kern_act16 *a, int t, const float *x, int64_t k);
    void (*unpack_i16)(struct kern_tile16 *t, const struct kern_fmt *f, const uint8_t *block,
                       int ng);
    void (*gemm_i16)(struct kern_out o, const struct kern_tile16 *t, int ng,
                     const struct kern_act16 *a, int kb, int t0, int n);

    /* As gemm_u8, for tiles of formats that kern_u8_i16 tells of. */
    bool u8_i16; /* costs no more here: then gemm_u8 is not for them */
    void (*act_u8_i16)(const struct kern_act16 *a, int t, const float *x, int64_t k);
    void (*gemm_u8_i16)(struct kern_out o, const struct kern_tile *t, int ng,
                        const struct kern_act16 *a, int kb, int t0, int n);

    float (*to_i16)(int16_t *q, const float *x, int d); /* d a multiple of 16; the scale */
    /* These integers to q8 times 2 half, of each group. */
    void (*to_i8)(int8_t *q8, uint8_t *half /* [groups] */, const int16_t *q, int d);
    /* Weights of a page, times their values' scales, are 16-bit integers too, whose sum is 32767: what they
     * weigh is below 2^31. */
    void (*attn)(const struct kern_attn *a);
    /* Of pages of 8 bits; NULL: page_i16, then attn. */
    void (*attn_i8)(const struct kern_attn *a);
    /* A page of 8 bits to one of 16; fetches the page that comes next, unless it is NULL. */
    void (*page_i16)(void *page, const void *page8, const void *next, int d);
    void (*attn_f32)(const struct kern_attn *a);

    void (*rms_norm)(float *out, const float *x, const float *w /* or NULL */, int n, float eps);
    void (*layer_norm)(float *out, const float *x, const float *w, const float *b, int n,
                       float eps);
    void (*rope)(float *x, const float *cos_sin /* [2][d_rot / 2] */, int d_rot,
                 enum kern_rope kind);
    void (*silu_mul)(float *gate, const float *up, int n); /* gate = silu(gate) * up */
    void (*gelu_mul)(float *gate, const float *up, int n); /* tanh form */
    void (*gelu)(float *x, int n);                         /* x = x * Phi(x), erf form */
    void (*add)(float *x, const float *y, int n);
    void (*softcap)(float *x, int n, float cap);

    /* Probes of what the machine can do: multiply-accumulates in registers (returns how many it
     * did in so many rounds; bf16 is NULL where there are none), and reading n bytes (a multiple of
     * 256). */
    int64_t (*probe_int8)(int64_t rounds);
    int64_t (*probe_bf16)(int64_t rounds);
    int64_t (*probe_f32)(int64_t rounds);
    uint64_t (*probe_read)(const void *p, size_t n);
};

ERR_DOOR int kern_get(const struct kern **out, const char *level, struct err *e);

#endif
