/* The tables that tools/unicode_table.py writes; read by unicode.c only. */
#ifndef UNICODE_INT_H
#define UNICODE_INT_H

#include <stddef.h>
#include <stdint.h>

/* Classes are bit numbers of enum unicode_class. */
extern const size_t unicode__count;
extern const uint32_t unicode__ranges[]; /* first code point << 4 | class, ascending */
extern const uint8_t unicode__ascii[128];
/* code << 42 | first << 21 | second, or 0; code << 42 | lower << 21. Ascending. */
extern const size_t unicode__n_pairs, unicode__n_lower;
extern const uint64_t unicode__pairs[], unicode__lower[];

#endif
