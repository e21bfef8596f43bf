/* Whole lines of eight words in a loop that the compiler turns into vectors, the rest padded with
 * zeros; the length is part of the sum, so padding cannot hide bytes. */
#include "checksum.h"

#include <string.h>

enum { LANES = 8 };

static uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
    h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

uint64_t checksum(const void *p, size_t n, uint64_t seed)
{
    const uint8_t *c = p;
    uint64_t word[LANES], sum[LANES] = {0}, run[LANES] = {0}, h = mix(seed ^ n);
    for (size_t left = n; left; c += sizeof word) {
        size_t some = left < sizeof word ? left : sizeof word;
        if (some < sizeof word) memset(word, 0, sizeof word);
        memcpy(word, c, some);
        for (int i = 0; i < LANES; i++) {
            sum[i] += word[i];
            run[i] += sum[i];
        }
        left -= some;
    }
    for (int i = 0; i < LANES; i++) h = mix(h ^ sum[i]) + mix(h + run[i]);
    return h;
}
