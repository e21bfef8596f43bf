/* What the files of the quantiser share.
 *
 *     quantize.c        the door; 16-bit types; formats of 32 values with one scale, or scale and minimum
 *     quantize_fit.c    the scale, or scale and minimum, that fits some values best
 *     quantize_k.c      formats of 256 values, whose scales are themselves rounded
 *
 * Codes are floats that hold the number a code stands for before it is scaled, so that the loops that
 * search are plain float loops; they become bits once, when a block is written.
 */
#ifndef QUANTIZE_INT_H
#define QUANTIZE_INT_H

#include <stdbool.h>
#include <stdint.h>

/* The numbers a code can stand for: the whole numbers lo..hi, or 16 levels. */
struct quantize__codes {
    float lo, hi;
    const int8_t *level; /* [16] rising, or NULL */
    float least;         /* the least share of lo or hi worth trying for the largest value */
};

extern const struct quantize__codes quantize__iq4, quantize__mxfp4;

/* q[j]: the code nearest to x[j] * inverse. */
void quantize__code(const struct quantize__codes *c, const float *x, float inverse, int n,
                    float *q);
/* Codes for the scale d, into q; returns the squared error. */
float quantize__try(const struct quantize__codes *c, const float *x, float d, int n, float *q);
/* The scale of the least squared error found; 0 where all values are 0. n is a multiple of 4, at
 * most 32, here and below. */
float quantize__scale(const struct quantize__codes *c, const float *x, int n);

/* x ~ d * q + m with q in 0..hi, d >= 0. */
struct quantize__line {
    float d, m;
};
/* below: m may not be above 0. */
struct quantize__line quantize__fit_line(const float *x, int n, float hi, bool below);
float quantize__try_line(const float *x, struct quantize__line l, int n, float hi, float *q);

/* The error of a block that is all 0. */
float quantize__power(const float *x, int n);
/* What is left of a float as half. */
float quantize__half(float v);
void quantize__put_half(uint8_t *b, float v);

/* A block of 256 values in the type, of the K kind. */
void quantize__k_block(uint32_t type, const float *x, uint8_t *b);

#endif
