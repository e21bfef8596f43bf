/* Activations to int8: symmetric, a scale for 32 columns, rounded to the nearest even integer, so
 * that |x - q * scale| <= scale / 2. Rejected: a scale a row or a block of 256, which is cheaper in
 * the GEMM but an outlier then costs its whole neighbourhood the precision. */
#include "kern_int.h"

#include <math.h>

static void act(const struct kern_act *a, int t, const float *x, int64_t k)
{
    for (int64_t kb = 0; kb * KERN_K < k; kb++) {
        size_t row = (size_t)(kb * a->m + t);
        int8_t *q = a->q + row * KERN_K;
        for (int g = 0; g < KERN_GROUPS; g++) {
            float v[KERN_GROUP], amax = 0;
            for (int i = 0; i < KERN_GROUP; i++) {
                int64_t at = kb * KERN_K + g * KERN_GROUP + i;
                v[i] = at < k ? x[at] : 0;
                amax = fmaxf(amax, fabsf(v[i]));
            }
            float inv = amax > 0 ? 127.0f / amax : 0;
            int32_t sum[2] = {0, 0};
            for (int i = 0; i < KERN_GROUP; i++) {
                int8_t c = (int8_t)lrintf(v[i] * inv);
                q[g * KERN_GROUP + i] = c;
                sum[i / 16] += c;
            }
            a->scale[row * KERN_GROUPS + (size_t)g] = amax / 127.0f;
            a->sum[row * 16 + 2 * (size_t)g] = sum[0];
            a->sum[row * 16 + 2 * (size_t)g + 1] = sum[1];
        }
    }
}

void kern__ref_act(struct kern *k)
{
    k->act = act;
}
