/* Peaks: what vpmaddubsw can do with the additions nobody can avoid (8 folded in 16 bits, then one
 * vpmaddwd and one vpaddd), four sums at a time; 12 chains of FMA; and 256 bytes read a turn. */
#include "simd2_int.h"

enum { SUMS = 4, FOLD = 8, CHAINS = 12 };

static int64_t probe_int8(int64_t rounds)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i total[SUMS], w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
    UNROLL for (int i = 0; i < SUMS; i++) total[i] = _mm256_set1_epi32(i);
    for (int64_t r = 0; r < rounds; r++) {
        __m256i acc[SUMS];
        UNROLL for (int k = 0; k < FOLD; k++) UNROLL for (int i = 0; i < SUMS; i++)
        {
            __m256i p = _mm256_maddubs_epi16(w = held(w), x);
            acc[i] = held(k ? _mm256_add_epi16(acc[i], p) : p);
        }
        UNROLL for (int i = 0; i < SUMS; i++) total[i] =
            _mm256_add_epi32(total[i], _mm256_madd_epi16(acc[i], ones));
    }
    for (int i = 1; i < SUMS; i++) total[0] = _mm256_xor_si256(total[0], total[i]);
    volatile int32_t sink = _mm256_extract_epi32(total[0], 0);
    (void)sink;
    return rounds * SUMS * FOLD * 32;
}

static int64_t probe_f32(int64_t rounds)
{
    __m256 acc[CHAINS], w = _mm256_set1_ps(0.5f), x = w;
    UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL for (int i = 0; i < CHAINS; i++)
        {
            acc[i] = _mm256_fmadd_ps(w, x, acc[i]);
            __asm__("" : "+x"(acc[i]));
        }
    }
    UNROLL for (int i = 1; i < CHAINS; i++) acc[0] = _mm256_add_ps(acc[0], acc[i]);
    volatile float sink = _mm256_cvtss_f32(acc[0]);
    (void)sink;
    return rounds * CHAINS * 8;
}

static uint64_t probe_read(const void *p, size_t n)
{
    const char *c = p;
    __m256i acc[4] = {0};
    for (size_t i = 0; i + 256 <= n; i += 256) UNROLL for (int j = 0; j < 4; j++)
        {
            _mm_prefetch(c + i + 64 * j + 2048, _MM_HINT_T0);
            acc[j] = _mm256_xor_si256(acc[j], line(c + i + 64 * j));
            acc[j] = _mm256_xor_si256(acc[j], line(c + i + 64 * j + 32));
        }
    acc[0] = _mm256_xor_si256(_mm256_xor_si256(acc[0], acc[1]), _mm256_xor_si256(acc[2], acc[3]));
    return (uint64_t)_mm256_extract_epi64(acc[0], 0) ^ (uint64_t)_mm256_extract_epi64(acc[0], 1) ^
           (uint64_t)_mm256_extract_epi64(acc[0], 2) ^ (uint64_t)_mm256_extract_epi64(acc[0], 3);
}

void kern__avx2_probe(struct kern *k)
{
    k->probe_int8 = probe_int8;
    k->probe_f32 = probe_f32;
    k->probe_read = probe_read;
}
