/* Seeded random numbers: xoshiro256** (Blackman and Vigna 2018) started by splitmix64. The same
 * seed gives the same numbers on every machine. Not for secrets. One owner per struct.
 */
#ifndef RNG_H
#define RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_init(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
/* Uniform in [0, 1) with 53 bits. */
double rng_double(struct rng *r);
/* Uniform in [0, n), n > 0, without bias. */
uint64_t rng_below(struct rng *r, uint64_t n);
/* Standard normal (Box-Muller, one of the pair). */
double rng_normal(struct rng *r);

#endif
