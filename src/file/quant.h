/* The block formats of GGUF tensors and their meaning in float32.
 *
 * A row of k values is k / quant_block(type) blocks of quant_bytes(type) bytes each, k a multiple
 * of the block. Source of the layouts: ggml's ggml-common.h (block_q4_0 ... block_iq4_xs,
 * block_mxfp4) and the OCP Microscaling specification 1.0 for MXFP4. All little-endian.
 */
#ifndef QUANT_H
#define QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values as they stand in files (enum ggml_type). */
enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_IQ4_NL = 20,
    QUANT_IQ4_XS = 23,
    QUANT_BF16 = 30,
    QUANT_MXFP4 = 39,
    QUANT_TYPE_END = 40,
};

/* "q4_K" and the like, "type 17" style names never: NULL for a type we do not read. */
const char *quant_name(uint32_t type);
/* Values a block, 0 for a type we do not read; bytes a block. */
uint32_t quant_block(uint32_t type);
uint32_t quant_bytes(uint32_t type);

/* Writes k floats from one row; k is a multiple of quant_block(type), type is one we read. The
 * arithmetic is ggml's, so results are equal bit for bit to its dequantize_row_*. */
void quant_row_to_f32(uint32_t type, const void *row, float *out /* [k] */, size_t k);

/* The 16 levels of IQ4_NL and IQ4_XS, and of MXFP4 doubled (E2M1). */
extern const int8_t quant_iq4_levels[16];
extern const int8_t quant_mxfp4_levels[16];

float quant_f16_to_f32(uint16_t h);
uint16_t quant_f32_to_f16(float f); /* round to nearest even */
float quant_bf16_to_f32(uint16_t h);
uint16_t quant_f32_to_bf16(float f); /* round to nearest even, NaN stays NaN */
/* E8M0: 2^(x - 127); half of it, as MXFP4 uses it with doubled levels. */
float quant_e8m0_half(uint8_t x);

#endif
