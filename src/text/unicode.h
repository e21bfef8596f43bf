/* UTF-8 read from bytes that may be anything, and the classes of characters that tokenizers ask for
 * (The Unicode Standard: general categories and White_Space; the version stands in
 * unicode_table.c). No state, no allocation, no errors: any thread.
 */
#ifndef UNICODE_H
#define UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* One bit a class, so that sets of classes are masks; each character has exactly one. */
enum unicode_class {
    UNICODE_OTHER = 1,    /* C*: controls, formats, unassigned */
    UNICODE_UPPER = 2,    /* Lu Lt */
    UNICODE_LOWER = 4,    /* Ll */
    UNICODE_CASELESS = 8, /* Lm Lo */
    UNICODE_MARK = 16,    /* M* */
    UNICODE_NUMBER = 32,  /* N* */
    UNICODE_PUNCT = 64,   /* P* */
    UNICODE_SYMBOL = 128, /* S* */
    UNICODE_SPACE = 256,  /* White_Space */
    UNICODE_LETTER = UNICODE_UPPER | UNICODE_LOWER | UNICODE_CASELESS,
};

enum { UNICODE_REPLACEMENT = 0xfffd };

struct unicode_char {
    uint32_t code;
    uint16_t class; /* enum unicode_class */
    uint16_t bytes; /* 1..4 */
};

/* The character at s (n > 0 bytes). A byte that begins no well-formed character is one character of
 * one byte, U+FFFD. */
struct unicode_char unicode_at(const void *s, size_t n);

/* The length of the character at s (n > 0 bytes); 0 when the bytes end inside a character that is
 * well-formed so far; -k when the first k bytes are ill-formed: as many as began a character (The
 * Unicode Standard, "Substitution of Maximal Subparts"). */
int unicode_length(const void *s, size_t n);

/* Writes 1..4 bytes, returns how many; code < 0x110000. */
int unicode_put(uint32_t code, char out[4]);

#endif
