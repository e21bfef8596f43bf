/* Element-wise and row-wise operations. RMSNorm: Zhang and Sennrich 2019; LayerNorm: Ba et al. 2016;
 * RoPE: Su et al. 2021; SwiGLU and GeGLU: Shazeer 2020; GELU and its tanh form: Hendrycks and
 * Gimpel 2016. */
#include "kern_int.h"

#include <math.h>

static void rms_norm(float *out, const float *x, const float *w, int n, float eps)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * x[i];
    float s = 1.0f / sqrtf((float)(sum / n) + eps);
    for (int i = 0; i < n; i++) out[i] = x[i] * s * (w ? w[i] : 1);
}

static void layer_norm(float *out, const float *x, const float *w, const float *b, int n, float eps)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i];
    float mean = (float)(sum / n);
    for (int i = 0; i < n; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    float s = 1.0f / sqrtf((float)(squares / n) + eps);
    for (int i = 0; i < n; i++) out[i] = (x[i] - mean) * s * w[i] + b[i];
}

static void rope(float *x, const float *cos_sin, int d_rot, enum kern_rope kind)
{
    int half = d_rot / 2;
    for (int i = 0; i < half; i++) {
        float *p = kind == KERN_ROPE_PAIRS ? x + 2 * i : x + i;
        float *q = kind == KERN_ROPE_PAIRS ? p + 1 : p + half;
        float c = cos_sin[i], s = cos_sin[half + i], a = *p, b = *q;
        *p = a * c - b * s;
        *q = a * s + b * c;
    }
}

static void silu_mul(float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i++) gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

static void gelu_mul(float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i++) {
        float x = gate[i];
        gate[i] = 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))) * up[i];
    }
}

static void gelu(float *x, int n)
{
    for (int i = 0; i < n; i++) x[i] = 0.5f * x[i] * erfcf(-0.70710678f * x[i]);
}

static void add(float *x, const float *y, int n)
{
    for (int i = 0; i < n; i++) x[i] += y[i];
}

static void softcap(float *x, int n, float cap)
{
    for (int i = 0; i < n; i++) x[i] = cap * tanhf(x[i] / cap);
}

void kern__ref_elem(struct kern *k)
{
    k->rms_norm = rms_norm;
    k->layer_norm = layer_norm;
    k->rope = rope;
    k->silu_mul = silu_mul;
    k->gelu_mul = gelu_mul;
    k->gelu = gelu;
    k->add = add;
    k->softcap = softcap;
}
