/* float32 -> the block formats of quant.h, with the least squared error a bounded search finds.
 *
 *     if (!quantize_fits(type, x, k)) ...       NaN, infinity, or beyond what the type can hold
 *     quantize_row(type, x, out, k);
 *
 * k is a multiple of quant_block(type); out gets k / block * quant_bytes(type) bytes. Errors count
 * all values alike; the same input gives the same bytes on every x86-64 machine.
 * Method: least squares over candidate scales and minima, then descent over the stored
 * integers with codes rounded anew (see quantize.c). No allocation, no state: any thread.
 */
#ifndef QUANTIZE_H
#define QUANTIZE_H

#include "quant.h"

/* All finite, and none larger in magnitude than 65504 where the type's scales are half floats. */
bool quantize_fits(uint32_t type, const float *x, size_t k);
void quantize_row(uint32_t type, const float *x /* [k] */, void *out, size_t k);

#endif
