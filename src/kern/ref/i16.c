/* Products of float weights in 16-bit integers as they are meant: the sum of a group of 32
 * columns is an integer below 2^31, a float step adds it, and one more adds the block. */
#include "kern_int.h"

#include <math.h>
#include <string.h>

/* n values to integers; their scale. */
static float round_all(int16_t *q, const float *x, int n, int most)
{
    float max = 0, inv;
    for (int i = 0; i < n; i++) max = kern__larger(max, x[i]);
    if (max < KERN_I16_LEAST) max = 0;
    inv = max == 0 ? 0 : (float)most / max;
    for (int i = 0; i < n; i++) q[i] = (int16_t)lrint((double)x[i] * (double)inv);
    return max / (float)most;
}

static void act_of(const struct kern_act16 *a, int t, const float *x, int64_t k, int most)
{
    for (int64_t at = 0; at < k; at += KERN_GROUP) {
        size_t row = (size_t)(at / KERN_K * a->m + t), in = (size_t)(at % KERN_K);
        float v[KERN_GROUP] = {0};
        memcpy(v, x + at, (size_t)(k - at < KERN_GROUP ? k - at : KERN_GROUP) * sizeof *v);
        a->scale[row * KERN_GROUPS + in / KERN_GROUP] =
            round_all(a->q + row * KERN_K + in, v, KERN_GROUP, most);
    }
}

static void act_i16(const struct kern_act16 *a, int t, const float *x, int64_t k)
{
    act_of(a, t, x, k, KERN_I16_MAX);
}

static void act_u8_i16(const struct kern_act16 *a, int t, const float *x, int64_t k)
{
    act_of(a, t, x, k, KERN_I16_U8_MAX);
    for (int64_t at = 0; at < k; at += KERN_GROUP) {
        size_t group = (size_t)(at / KERN_K * a->m + t) * KERN_GROUPS + (size_t)(at % KERN_K / 32);
        int16_t *q = a->q + group * KERN_GROUP;
        a->sum[group] = 0;
        for (int i = 0; i < KERN_GROUP; i++) a->sum[group] += q[i];
        for (int i = 1; i < KERN_GROUP; i += 4) {
            int16_t one = q[i];
            q[i] = q[i + 1];
            q[i + 1] = one;
        }
    }
}

static void unpack_i16(struct kern_tile16 *t, const struct kern_fmt *f, const uint8_t *block,
                       int ng)
{
    for (int r = 0; r < KERN_ROWS; r++) {
        float v[KERN_K];
        int16_t q[KERN_K];
        for (int c = 0; c < ng * KERN_GROUP; c++) {
            uint16_t half;
            memcpy(&half, block + (c * KERN_ROWS + r) * 2, 2);
            uint32_t bits = (uint32_t)half << 16;
            memcpy(&v[c], &bits, 4);
            if (f->f == KERN_F16) v[c] = kern__f16(half);
        }
        t->scale[r] = round_all(q, v, ng * KERN_GROUP, KERN_I16_MAX);
        for (int c = 0; c < ng * KERN_GROUP; c++) t->code[c / 2][r][c % 2] = q[c];
    }
}

static void gemm_i16(struct kern_out o, const struct kern_tile16 *t, int ng,
                     const struct kern_act16 *a, int kb, int t0, int n)
{
    for (int i = 0; i < n; i++) {
        const float *from = kern_from(&o, i);
        for (int r = 0; r < KERN_ROWS; r++) {
            size_t row = (size_t)(kb * a->m + t0 + i);
            const int16_t *q = a->q + row * KERN_K;
            float acc = 0;
            for (int g = 0; g < ng; g++) {
                int32_t dot = 0;
                for (int k = g * KERN_GROUP; k < (g + 1) * KERN_GROUP; k++)
                    dot += t->code[k / 2][r][k % 2] * q[k];
                acc += (float)dot * a->scale[row * KERN_GROUPS + (size_t)g];
            }
            o.to[(size_t)i * o.ld + (size_t)r] = (from ? from[r] : 0) + acc * t->scale[r];
        }
    }
}

static void gemm_u8_i16(struct kern_out o, const struct kern_tile *t, int ng,
                        const struct kern_act16 *a, int kb, int t0, int n)
{
    for (int i = 0; i < n; i++) {
        const float *from = kern_from(&o, i);
        for (int r = 0; r < KERN_ROWS; r++) {
            size_t row = (size_t)(kb * a->m + t0 + i);
            const int16_t *q = a->q + row * KERN_K;
            float acc = from ? from[r] : 0;
            for (int g = 0; g < ng; g++) {
                int32_t dot = -128 * a->sum[row * KERN_GROUPS + (size_t)g];
                for (int k = g * KERN_GROUP; k < (g + 1) * KERN_GROUP; k++) {
                    int at = k % 4 == 1 ? k + 1 : k % 4 == 2 ? k - 1 : k;
                    dot += t->codes[kern__code(k, r)] * q[at];
                }
                acc += (float)dot * (t->scale[g][r] * a->scale[row * KERN_GROUPS + (size_t)g]);
            }
            o.to[(size_t)i * o.ld + (size_t)r] = acc;
        }
    }
}

void kern__ref_i16(struct kern *k)
{
    k->act_u8_i16 = act_u8_i16;
    k->gemm_u8_i16 = gemm_u8_i16;
    k->act_i16 = act_i16;
    k->unpack_i16 = unpack_i16;
    k->gemm_i16 = gemm_i16;
}
