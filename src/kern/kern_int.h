/* Each file of each level fills in the functions it has. */
#ifndef KERN_INT_H
#define KERN_INT_H

#include "kern.h"

void kern__ref_act(struct kern *k);
void kern__ref_attn(struct kern *k);
void kern__ref_elem(struct kern *k);
void kern__ref_gemm(struct kern *k);
void kern__ref_probe(struct kern *k);
void kern__ref_unpack(struct kern *k);

void kern__avx2_act(struct kern *k);
void kern__avx2_attn(struct kern *k);
void kern__avx2_elem(struct kern *k);
void kern__avx2_gemm(struct kern *k);
void kern__avx2_probe(struct kern *k);
void kern__avx2_unpack(struct kern *k);

void kern__avx512_act(struct kern *k);
void kern__avx512_attn(struct kern *k);
void kern__avx512_elem(struct kern *k);
void kern__avx512_few(struct kern *k);
void kern__avx512_gemm(struct kern *k);
void kern__avx512_probe(struct kern *k);
void kern__avx512_unpack(struct kern *k);

/* Half-precision bits to float, for scales in plain C. */
float kern__f16(uint16_t h);
uint16_t kern__to_f16(float x);

#endif
