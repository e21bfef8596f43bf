/* Each file of each level fills in the functions it has. */
#ifndef KERN_INT_H
#define KERN_INT_H

#include "kern.h"
#include <string.h>

void kern__ref_act(struct kern *k);
void kern__ref_attn(struct kern *k);
void kern__ref_elem(struct kern *k);
void kern__ref_gemm(struct kern *k);
void kern__ref_i16(struct kern *k);
void kern__ref_probe(struct kern *k);
void kern__ref_unpack(struct kern *k);

void kern__avx2_act(struct kern *k);
void kern__avx2_attn(struct kern *k);
void kern__avx2_elem(struct kern *k);
void kern__avx2_gemm(struct kern *k);
void kern__avx2_i16(struct kern *k);
void kern__avx2_u8_i16(struct kern *k);
void kern__avx2_probe(struct kern *k);
void kern__avx2_unpack(struct kern *k);

void kern__avx512_act(struct kern *k);
void kern__avx512_attn(struct kern *k);
void kern__avx512_elem(struct kern *k);
void kern__avx512_gemm(struct kern *k);
void kern__avx512_i16(struct kern *k);
void kern__avx512_probe(struct kern *k);
void kern__avx512_unpack(struct kern *k);

/* avx2/gemv.c: one token, activations of `row`, from a tile that holds no floats. */
void kern__avx2_gemv(const struct kern_out *o, const struct kern_tile *t, const struct kern_fmt *f,
                     int ng, const struct kern_act *a, size_t row);

/* Half-precision bits to float, for scales in plain C. */
float kern__f16(uint16_t h);

/* The larger magnitude; a NaN counts as the largest. */
float kern__larger(float a, float b);

/* The scale of a vector with this largest magnitude and sum of squares. */
float kern__vector_scale(float max, float squares);

static inline const float *kern__scales(const struct kern_attn *a)
{
    return (const float *)((const char *)a->page + kern_page_scales(a->d));
}
static inline const int16_t *kern__values(const struct kern_attn *a)
{
    return (const int16_t *)((const char *)a->page + kern_page_values(a->d));
}

/* Scales are the same in pages of 8 bits and of 16. */
static inline void kern__copy_scales(void *page, const void *page8, int d)
{
    memcpy((char *)page + kern_page_scales(d), (const char *)page8 + kern_page8_scales(d),
           2 * KERN_PAGE * sizeof(float));
}

/* The pairs of keys of which some of n rows see one: from *lo to *hi - 1; false: none. */
static inline bool kern__pairs_seen(const struct kern_attn *a, int r, int n, int *lo, int *hi)
{
    *lo = KERN_PAGE, *hi = 0;
    for (int i = r; i < r + n; i++) {
        if (a->lo[i] >= a->hi[i]) continue;
        if (a->lo[i] < *lo) *lo = a->lo[i];
        if (a->hi[i] > *hi) *hi = a->hi[i];
    }
    bool some = *lo < *hi;
    *lo /= 2, *hi = (*hi + 1) / 2;
    return some;
}

/* 2^f = 1 + EXP2_1 f + .. EXP2_5 f^5 for |f| <= 1/2, fitted for the least relative error, 1.6e-7. */
#define EXP2_1 0x1.62e42ap-1f
#define EXP2_2 0x1.ebf9bcp-3f
#define EXP2_3 0x1.c6b752p-5f
#define EXP2_4 0x1.3cea88p-7f
#define EXP2_5 0x1.5bba14p-10f

/* Weights of a page whose sum is less are zeros. */
#define KERN__WEIGHTS_LEAST 0x1p-100f

/* Stands for a scale of 0 where activations have steps. Others are 2^-24 and more, so that an exponent can be
 * subtracted from any; added to the others it is lost. */
#define KERN__NO_SCALE 0x1p-70f

/* Halvings of a scale stop here, and blocks that are smaller are zeros: exponents stay normal. */
#define KERN__TINY 0x1p-90f
enum { KERN__HALVES = 24 };

/* Scales of block `row` of a from the largest |x| of each group, and their inverses. */
void kern__act_scales(const struct kern_act *a, size_t row, const float *amax /* [8] */,
                      float *inv /* [8] */);

/* And the total of group g, from the sum of its 32 integers. */
void kern__act_total(const struct kern_act *a, size_t row, int g, int32_t sum);

/* Where the byte of column k, row r lies in codes of 8 bits. */
static inline int kern__code(int k, int r)
{
    return (k / 4 * KERN_ROWS + r) * 4 + k % 4;
}

#endif
