/* The dot products as they are meant: integers within a group, one float step a group. The order of
 * the float steps is that of the columns. */
#include "kern_int.h"

static void gemm_u8(struct kern_out o, const struct kern_tile *t, const struct kern_fmt *f, int ng,
                    const struct kern_act *a, int kb, int t0, int n)
{
    int bias = f->levels ? 128 : f->bias, quads = f->group / 4;
    for (int i = 0; i < n; i++) {
        size_t row = (size_t)kb * (size_t)a->m + (size_t)(t0 + i);
        const int8_t *q = a->q + row * KERN_K;
        float *y = o.to + (size_t)i * o.ld;
        const float *from = kern_from(&o, i);
        for (int r = 0; r < KERN_ROWS; r++) {
            float acc = from ? from[r] : 0;
            for (int g = 0; g < ng * KERN_GROUP / f->group; g++) {
                const int32_t *s = a->sum + row * 16 + g * f->group / 16;
                int32_t sum = f->group == 16 ? s[0] : s[0] + s[1], dot = -bias * sum;
                for (int k = g * quads * 4; k < (g + 1) * quads * 4; k++)
                    dot += t->codes[kern__code(k, r)] * q[k];
                float as = a->scale[row * KERN_GROUPS + (size_t)(g * f->group / KERN_GROUP)];
                acc += (float)dot * (t->scale[g][r] * as);
                float total =
                    f->group == 16 ? (float)sum * as : a->total[row * KERN_GROUPS + (size_t)g];
                if (f->mins) acc += t->min[g][r] * total;
            }
            y[r] = acc;
        }
    }
}

static void gemm_f32(struct kern_out o, const float *w, int k, const float *x, size_t ldx, int n)
{
    for (int i = 0; i < n; i++) {
        float acc[KERN_ROWS];
        const float *from = kern_from(&o, i);
        for (int r = 0; r < KERN_ROWS; r++) acc[r] = from ? from[r] : 0;
        for (int j = 0; j < k; j++)
            for (int r = 0; r < KERN_ROWS; r++)
                acc[r] += w[j * KERN_ROWS + r] * x[(size_t)i * ldx + (size_t)j];
        for (int r = 0; r < KERN_ROWS; r++) o.to[(size_t)i * o.ld + (size_t)r] = acc[r];
    }
}

void kern__ref_gemm(struct kern *k)
{
    k->gemm_u8 = gemm_u8;
    k->gemm_f32 = gemm_f32;
}
