/* UTF-8 as The Unicode Standard's table 3-7 has it: no overlong forms, no surrogates, nothing above
 * U+10FFFF. Everything else is ill-formed, and callers get it byte by byte, so that no byte of a
 * text is ever lost. Classes, decompositions and lower case are found by binary search in
 * generated tables.
 */
#include "unicode.h"

#include "unicode_int.h"

int unicode_length(const void *s, size_t n)
{
    const unsigned char *p = s;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4) return -1;
    int whole = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    unsigned low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < whole; i++, low = 0x80, high = 0xbf) {
        if ((size_t)i == n) return 0;
        if (p[i] < low || p[i] > high) return -i;
    }
    return whole;
}

enum unicode_class unicode_class(uint32_t code)
{
    if (code < 128) return (enum unicode_class)(1u << unicode__ascii[code]);
    size_t low = 0, high = unicode__count; /* the range that holds code is in [low, high) */
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (unicode__ranges[mid] >> 4 <= code)
            low = mid;
        else
            high = mid;
    }
    return (enum unicode_class)(1u << (unicode__ranges[low] & 15));
}

struct unicode_char unicode_at(const void *s, size_t n)
{
    const unsigned char *p = s;
    int bytes = unicode_length(s, n);
    if (bytes <= 0) return (struct unicode_char){UNICODE_REPLACEMENT, UNICODE_SYMBOL, 1};
    uint32_t code = bytes == 1 ? p[0] : p[0] & (0x7fu >> bytes);
    for (int i = 1; i < bytes; i++) code = code << 6 | (p[i] & 0x3f);
    return (struct unicode_char){code, (uint16_t)unicode_class(code), (uint16_t)bytes};
}

size_t unicode_count(const char *s, size_t n)
{
    size_t all = 0;
    for (size_t i = 0; i < n; i++) all += (s[i] & 0xc0) != 0x80;
    return all;
}

int unicode_put(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    int bytes = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = bytes - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00u >> bytes) | code);
    return bytes;
}

/* The word of a table that begins with code, or 0. */
static uint64_t find(const uint64_t *table, size_t n, uint32_t code)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (table[mid] >> 42 < code)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && table[low] >> 42 == code ? table[low] : 0;
}

int unicode_decompose(uint32_t code, uint32_t out[2])
{
    enum { HANGUL = 0xac00, SYLLABLES = 11172, TAILS = 28, VOWELS = 21 };
    if (code < 0xc0) return 0;
    if (code >= HANGUL && code < HANGUL + SYLLABLES) { /* arithmetic, not a table (3.12) */
        uint32_t s = code - HANGUL, tail = s % TAILS;
        out[0] = tail ? code - tail : 0x1100 + s / (TAILS * VOWELS);
        out[1] = tail ? 0x11a7 + tail : 0x1161 + s / TAILS % VOWELS;
        return 2;
    }
    uint64_t w = find(unicode__pairs, unicode__n_pairs, code);
    out[0] = w >> 21 & 0x1fffff;
    out[1] = w & 0x1fffff;
    return w == 0 ? 0 : out[1] ? 2 : 1;
}

uint32_t unicode_lower(uint32_t code)
{
    if (code < 128) return code >= 'A' && code <= 'Z' ? code | 0x20 : code;
    uint64_t w = find(unicode__lower, unicode__n_lower, code);
    return w ? w >> 21 & 0x1fffff : code;
}
