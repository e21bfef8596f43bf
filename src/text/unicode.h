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
    UNICODE_CONTROL = 1,  /* Cc Cf Co Cs */
    UNICODE_UPPER = 2,    /* Lu Lt */
    UNICODE_LOWER = 4,    /* Ll */
    UNICODE_CASELESS = 8, /* Lm Lo */
    UNICODE_SPACING = 16, /* Mc Me: marks that take room */
    UNICODE_NUMBER = 32,  /* N* */
    UNICODE_PUNCT = 64,   /* P* */
    UNICODE_SYMBOL = 128, /* S* */
    UNICODE_SPACE = 256,  /* White_Space */
    UNICODE_UNASSIGNED = 512,
    UNICODE_NONSPACING = 1024, /* Mn: accents and other marks on a letter */
    UNICODE_LETTER = UNICODE_UPPER | UNICODE_LOWER | UNICODE_CASELESS,
    UNICODE_MARK = UNICODE_SPACING | UNICODE_NONSPACING,
    UNICODE_OTHER = UNICODE_CONTROL | UNICODE_UNASSIGNED,
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

/* Bytes that go on no character: of well-formed text its characters. */
size_t unicode_count(const char *s, size_t n);

/* Writes 1..4 bytes, returns how many; code < 0x110000. */
int unicode_put(uint32_t code, char out[4]);

/* Canonical equivalence (The Unicode Standard, 3.7), one step: 0 when the character is not made of
 * others, else what it is made of, one or two characters that may be made of others again. */
int unicode_decompose(uint32_t code, uint32_t out[2]);

/* The one lower-case letter of a character, or the character. */
uint32_t unicode_lower(uint32_t code);

/* The class of a code point. */
enum unicode_class unicode_class(uint32_t code);

#endif
