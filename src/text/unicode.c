/* UTF-8 as The Unicode Standard's table 3-7 has it: no overlong forms, no surrogates, nothing above
 * U+10FFFF. Everything else is ill-formed, and callers get it byte by byte, so that no byte of a
 * text is ever lost. Classes are found by binary search in a generated table of ranges.
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

static uint16_t class_of(uint32_t code)
{
    if (code < 128) return (uint16_t)(1u << unicode__ascii[code]);
    size_t low = 0, high = unicode__count; /* the range that holds code is in [low, high) */
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (unicode__ranges[mid] >> 4 <= code)
            low = mid;
        else
            high = mid;
    }
    return (uint16_t)(1u << (unicode__ranges[low] & 15));
}

struct unicode_char unicode_at(const void *s, size_t n)
{
    const unsigned char *p = s;
    int bytes = unicode_length(s, n);
    if (bytes <= 0) return (struct unicode_char){UNICODE_REPLACEMENT, UNICODE_SYMBOL, 1};
    uint32_t code = bytes == 1 ? p[0] : p[0] & (0x7fu >> bytes);
    for (int i = 1; i < bytes; i++) code = code << 6 | (p[i] & 0x3f);
    return (struct unicode_char){code, class_of(code), (uint16_t)bytes};
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
