/* Peaks: 12 independent chains of each multiply-accumulate (latency 4 to 6, one or two a cycle on Zen
 * 4), and 256 bytes read a turn. */
#include "simd_int.h"

static int64_t probe_int8(int64_t rounds)
{
    __m512i acc[12], w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
    UNROLL for (int i = 0; i < 12; i++) acc[i] = _mm512_set1_epi32(i);
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL for (int i = 0; i < 12; i++)
        {
            acc[i] = _mm512_dpbusd_epi32(acc[i], w, x);
            __asm__("" : "+v"(acc[i]));
        }
    }
    UNROLL for (int i = 1; i < 12; i++) acc[0] = _mm512_xor_si512(acc[0], acc[i]);
    volatile int32_t sink = _mm512_reduce_add_epi32(acc[0]);
    (void)sink;
    return rounds * 12 * 64;
}

static int64_t probe_bf16(int64_t rounds)
{
    __m512 acc[12];
    __m512bh w = (__m512bh)_mm512_set1_epi32(0x3f803f80), x = w;
    UNROLL for (int i = 0; i < 12; i++) acc[i] = _mm512_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL for (int i = 0; i < 12; i++)
        {
            acc[i] = _mm512_dpbf16_ps(acc[i], w, x);
            __asm__("" : "+v"(acc[i]));
        }
    }
    UNROLL for (int i = 1; i < 12; i++) acc[0] = _mm512_add_ps(acc[0], acc[i]);
    volatile float sink = _mm512_reduce_add_ps(acc[0]);
    (void)sink;
    return rounds * 12 * 32;
}

static int64_t probe_f32(int64_t rounds)
{
    __m512 acc[12], w = _mm512_set1_ps(0.5f), x = w;
    UNROLL for (int i = 0; i < 12; i++) acc[i] = _mm512_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL for (int i = 0; i < 12; i++)
        {
            acc[i] = _mm512_fmadd_ps(w, x, acc[i]);
            __asm__("" : "+v"(acc[i]));
        }
    }
    UNROLL for (int i = 1; i < 12; i++) acc[0] = _mm512_add_ps(acc[0], acc[i]);
    volatile float sink = _mm512_reduce_add_ps(acc[0]);
    (void)sink;
    return rounds * 12 * 16;
}

static uint64_t probe_read(const void *p, size_t n)
{
    const char *c = p;
    __m512i acc[4] = {0};
    for (size_t i = 0; i + 256 <= n; i += 256)
        UNROLL for (int j = 0; j < 4; j++) acc[j] =
            _mm512_xor_si512(acc[j], _mm512_load_si512(c + i + 64 * j));
    acc[0] = _mm512_xor_si512(_mm512_xor_si512(acc[0], acc[1]), _mm512_xor_si512(acc[2], acc[3]));
    return (uint64_t)_mm512_reduce_add_epi64(acc[0]);
}

void kern__avx512_probe(struct kern *k)
{
    k->probe_int8 = probe_int8;
    k->probe_bf16 = probe_bf16;
    k->probe_f32 = probe_f32;
    k->probe_read = probe_read;
}
