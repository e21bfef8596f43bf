/* 32 rows x 6 tokens from an unpacked tile. Bound by the multiply ports: a group of 32 columns
 * costs a token and half 8 vpdpbusd, 1 multiply and 1 FMA (1 more FMA with mins), so 80 % (73 %) of
 * the int8 peak at best. Weights are the unsigned operand, a lane is a row: no shuffle, no
 * horizontal sum. The bias of signed formats goes into the start of the integer sum, where it is
 * free. Rejected: 64 rows x 3 tokens, which needs twice the activation broadcasts. */
#include "simd_int.h"

struct job {
    float *out;
    size_t ld;
    const struct kern_tile *t;
    const int8_t *q;
    const float *as;
    const int32_t *sum;
    int groups, bias;
    bool mins, add;
};

ALWAYS int32_t sum_of(const int32_t *sum, int g, const int quads)
{
    return quads == 4 ? sum[g] : sum[2 * g] + sum[2 * g + 1];
}

ALWAYS void group(const int T, const int quads, const struct job *j, int g, __m512 acc[][2])
{
    __m512i dot[6][2];
    UNROLL for (int t = 0; t < T; t++)
    {
        dot[t][0] = dot[t][1] = _mm512_set1_epi32(-j->bias * sum_of(j->sum + t * 16, g, quads));
    }
    UNROLL for (int i = 0; i < quads; i++)
    {
        int k = g * quads + i;
        __m512i w0 = _mm512_load_si512(j->t->code[k][0]), w1 = _mm512_load_si512(j->t->code[k][16]);
        UNROLL for (int t = 0; t < T; t++)
        {
            __m512i x = quad(j->q + t * KERN_K + k * 4);
            dot[t][0] = _mm512_dpbusd_epi32(dot[t][0], w0, x);
            dot[t][1] = _mm512_dpbusd_epi32(dot[t][1], w1, x);
        }
    }
    UNROLL for (int h = 0; h < 2; h++)
    {
        __m512 ws = _mm512_load_ps(j->t->scale[g] + 16 * h);
        UNROLL for (int t = 0; t < T; t++)
        {
            __m512 s = _mm512_mul_ps(ws, _mm512_set1_ps(j->as[t * KERN_GROUPS + g * quads / 8]));
            acc[t][h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[t][h]), s, acc[t][h]);
        }
    }
}

ALWAYS void minimums(const int T, const int quads, const struct job *j, __m512 acc[][2])
{
    for (int g = 0; g < j->groups; g++) {
        __m512 m0 = _mm512_load_ps(j->t->min[g]), m1 = _mm512_load_ps(j->t->min[g] + 16);
        UNROLL for (int t = 0; t < T; t++)
        {
            float s =
                (float)sum_of(j->sum + t * 16, g, quads) * j->as[t * KERN_GROUPS + g * quads / 8];
            acc[t][0] = _mm512_fmadd_ps(m0, _mm512_set1_ps(s), acc[t][0]);
            acc[t][1] = _mm512_fmadd_ps(m1, _mm512_set1_ps(s), acc[t][1]);
        }
    }
}

ALWAYS void tokens(const int T, const int quads, const struct job *j)
{
    __m512 acc[6][2];
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++) acc[t][h] =
        j->add ? _mm512_loadu_ps(j->out + (size_t)t * j->ld + 16 * h) : _mm512_setzero_ps();
    for (int g = 0; g < j->groups; g++) group(T, quads, j, g, acc);
    if (j->mins) minimums(T, quads, j, acc);
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++)
        _mm512_storeu_ps(j->out + (size_t)t * j->ld + 16 * h, acc[t][h]);
}

ALWAYS void some_tokens(const int quads, const struct job *j, int n)
{
    switch (n) {
    case 1: tokens(1, quads, j); break;
    case 2: tokens(2, quads, j); break;
    case 3: tokens(3, quads, j); break;
    case 4: tokens(4, quads, j); break;
    case 5: tokens(5, quads, j); break;
    default: tokens(6, quads, j); break;
    }
}

static void gemm_u8(float *out, size_t ld, const struct kern_tile *t, const struct kern_fmt *f,
                    int ng, const struct kern_act *a, int kb, int t0, int n, bool add)
{
    int step, tiles = (n + 5) / 6;
    size_t part = (t->next_bytes / (size_t)tiles + 63) / 64 * 64;
    for (int i = 0; i < n; i += step) {
        size_t from = (size_t)(i / 6) * part;
        for (size_t at = from; at < from + part && at < t->next_bytes; at += 64)
            _mm_prefetch((const char *)t->next + at, _MM_HINT_T1);
        size_t row = (size_t)kb * (size_t)a->m + (size_t)(t0 + i);
        struct job j = {out + (size_t)i * ld,
                        ld,
                        t,
                        a->q + row * KERN_K,
                        a->scale + row * KERN_GROUPS,
                        a->sum + row * 16,
                        ng * KERN_GROUP / f->group,
                        f->levels ? 128 : f->bias,
                        f->mins,
                        add};
        step = n - i < 6 ? n - i : 6;
        if (f->group == 16)
            some_tokens(4, &j, step);
        else
            some_tokens(8, &j, step);
    }
}

ALWAYS void f32_tokens(const int T, float *out, size_t ld, const float *w, int k, const float *x,
                       size_t ldx, bool add)
{
    __m512 acc[6][2];
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++) acc[t][h] =
        add ? _mm512_loadu_ps(out + (size_t)t * ld + 16 * h) : _mm512_setzero_ps();
    for (int i = 0; i < k; i++) {
        __m512 w0 = _mm512_load_ps(w + i * KERN_ROWS), w1 = _mm512_load_ps(w + i * KERN_ROWS + 16);
        UNROLL for (int t = 0; t < T; t++)
        {
            __m512 v = _mm512_set1_ps(x[(size_t)t * ldx + (size_t)i]);
            acc[t][0] = _mm512_fmadd_ps(w0, v, acc[t][0]);
            acc[t][1] = _mm512_fmadd_ps(w1, v, acc[t][1]);
        }
    }
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int h = 0; h < 2; h++)
        _mm512_storeu_ps(out + (size_t)t * ld + 16 * h, acc[t][h]);
}

static void gemm_f32(float *out, size_t ld, const float *w, int k, const float *x, size_t ldx,
                     int n, bool add)
{
    for (; n >= 6; n -= 6, out += 6 * ld, x += 6 * ldx) f32_tokens(6, out, ld, w, k, x, ldx, add);
    for (; n >= 2; n -= 2, out += 2 * ld, x += 2 * ldx) f32_tokens(2, out, ld, w, k, x, ldx, add);
    if (n) f32_tokens(1, out, ld, w, k, x, ldx, add);
}

void kern__avx512_gemm(struct kern *k)
{
    k->gemm_u8 = gemm_u8;
    k->gemm_f32 = gemm_f32;
}
