/* Activations to int8: symmetric, a scale for 32 columns, rounded to the nearest even integer, so
 * that |x - q * scale| <= scale / 2. With steps a group has 85 (2 steps) or 113 (8) to 127 levels on each side where
 * a scale of its own leaves 127: on random weights that puts the KL divergence up by a quarter or by a tenth (4 steps:
 * a sixth, halves alone: three fifths); one scale for 256 columns to twice, on SmolLM2 and Gemma 3 to six times, as an
 * outlier then costs its whole neighbourhood the precision. */
#include "kern_int.h"

#include <math.h>

static void act(const struct kern_act *a, int t, const float *x, int64_t k)
{
    for (int64_t kb = 0; kb * KERN_K < k; kb++) {
        size_t row = (size_t)(kb * a->m + t);
        int8_t *q = a->q + row * KERN_K;
        float v[KERN_K], amax[KERN_GROUPS] = {0}, inv[KERN_GROUPS];
        for (int i = 0; i < KERN_K; i++) {
            int64_t at = kb * KERN_K + i;
            v[i] = at < k ? x[at] : 0;
            amax[i / KERN_GROUP] = fmaxf(amax[i / KERN_GROUP], fabsf(v[i]));
        }
        kern__act_scales(a, row, amax, inv);
        for (int i = 0; i < KERN_K; i++) {
            int32_t *sum = a->sum + row * 16 + i / 16;
            q[i] = (int8_t)lrintf(v[i] * inv[i / KERN_GROUP]);
            *sum = (i % 16 ? *sum : 0) + q[i];
        }
        for (int g = 0; g < KERN_GROUPS; g++) {
            const int32_t *sum = a->sum + row * 16 + 2 * g;
            kern__act_total(a, row, g, sum[0] + sum[1]);
        }
    }
}

void kern__ref_act(struct kern *k)
{
    k->act = act;
}
