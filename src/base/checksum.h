/* A sum over bytes that notices damage, as fast as memory is read. Not against an adversary.
 *
 * Fletcher's sums (1982) over 64-bit words, eight lanes side by side: first the words, then the
 * running sums, so that a word changed, lost or moved within its lane shows; folded with the finaliser of
 * MurmurHash3.
 */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t checksum(const void *p, size_t n, uint64_t seed);

#endif
