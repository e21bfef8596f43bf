/* What all JSON has: strings, any value, constants, keys, and what separates them. Keys and constants are
 * written as they are where JSON allows it and with the shortest escape where not, so each has
 * one spelling.
 */
#include "grammar_int.h"

#include "unicode.h"

#include <stdlib.h>
#include <string.h>

typedef struct grammar__build B;
typedef grammar__n *N;

enum { KEY_MAX = 1000, WORDS_NESTING = 60 };

static N hex(B *b, const char *first)
{
    struct grammar__chars c = {0};
    for (; *first; first++) grammar__chars_add(&c, (uint32_t)*first, (uint32_t)*first);
    return grammar__chars_node(b, &c, false);
}

static N seq(B *b, size_t n, ...)
{
    __builtin_va_list ap;
    N kid[8];
    __builtin_va_start(ap, n);
    for (size_t i = 0; i < n; i++) kid[i] = __builtin_va_arg(ap, N);
    __builtin_va_end(ap);
    return grammar__list(b, GRAMMAR__SEQ, kid, n);
}

static N alt(B *b, N x, N y)
{
    return grammar__two(b, GRAMMAR__ALT, x, y);
}

/* What a string may hold as it is, but for some characters. */
static N raw(B *b, const uint32_t *but, size_t n)
{
    struct grammar__chars c = {0};
    grammar__chars_add(&c, 0, 0x1f);
    grammar__chars_add(&c, '"', '"');
    grammar__chars_add(&c, '\\', '\\');
    for (size_t i = 0; i < n; i++) grammar__chars_add(&c, but[i], but[i]);
    grammar__chars_not(&c);
    return grammar__chars_node(b, &c, false);
}

/* One character as strings spell it; surrogates in pairs only. */
static N string_char(B *b)
{
    if (b->string_char == MAP_NONE) {
        static const char any_hex[] = "0123456789abcdefABCDEF";
        N h = hex(b, any_hex), d = hex(b, "dD");
        N two = grammar__rep(b, h, 2, 2), three = grammar__rep(b, h, 3, 3);
        N low = seq(b, 4, grammar__lit(b, "\\u"), d, hex(b, "cdefCDEF"), two);
        N one = alt(b, seq(b, 2, hex(b, "0123456789abcefABCEF"), three),
                    seq(b, 3, d, hex(b, "01234567"), two));
        N code = alt(b, one, seq(b, 4, d, hex(b, "89abAB"), two, low));
        N escape = seq(b, 2, grammar__lit(b, "\\"),
                       alt(b, hex(b, "\"\\/bfnrt"), seq(b, 2, grammar__lit(b, "u"), code)));
        uint32_t rule = grammar__rule(b, "string character");
        grammar__define(b, rule, alt(b, raw(b, NULL, 0), escape));
        b->string_char = rule;
    }
    return grammar__call(b, b->string_char);
}

N grammar__string(B *b, uint32_t min, uint32_t max)
{
    N quote = grammar__lit(b, "\"");
    return seq(b, 3, quote, grammar__rep(b, string_char(b), min, max), quote);
}

N grammar__any_text(B *b)
{
    return grammar__rep(b, string_char(b), 0, GRAMMAR__ENDLESS);
}

static N then_space(B *b, const char *s)
{
    return seq(b, 2, grammar__lit(b, s), grammar__opt(b, grammar__lit(b, " ")));
}

N grammar__comma(B *b)
{
    return then_space(b, ",");
}

N grammar__colon(B *b)
{
    return then_space(b, ":");
}

/* Any number of items between brackets. */
N grammar__items(B *b, const char *open, N item, const char *close)
{
    N more = grammar__rep(b, seq(b, 2, grammar__comma(b), item), 0, GRAMMAR__ENDLESS);
    return seq(b, 3, grammar__lit(b, open), grammar__opt(b, seq(b, 2, item, more)),
               grammar__lit(b, close));
}

N grammar__any_value(B *b)
{
    if (b->any == MAP_NONE) {
        b->any = grammar__rule(b, "any value");
        N value = grammar__call(b, b->any);
        N text = grammar__string(b, 0, GRAMMAR__ENDLESS);
        N kind[] = {
            grammar__items(b, "{", seq(b, 3, text, grammar__colon(b), value), "}"),
            grammar__items(b, "[", value, "]"),
            text,
            grammar__any_number(b, false),
            grammar__lit(b, "true"),
            grammar__lit(b, "false"),
            grammar__lit(b, "null"),
        };
        grammar__define(b, b->any,
                        grammar__list(b, GRAMMAR__ALT, kind, sizeof kind / sizeof *kind));
    }
    return grammar__call(b, b->any);
}

static void quote(struct buf *out, const char *s, size_t n)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        const char *at = c ? memchr(shorts, c, sizeof shorts - 1) : NULL;
        if (at && (at - shorts) % 2 == 0)
            buf_printf(out, "\\%c", at[1]);
        else if (c < 0x20)
            buf_printf(out, "\\u%04x", (unsigned)c);
        else
            buf_putc(out, (char)c);
    }
    buf_putc(out, '"');
}

N grammar__quoted(B *b, const char *s, size_t n)
{
    struct buf out = BUF_INIT(8 * GRAMMAR_TEXT_MAX);
    quote(&out, s, n);
    N x = out.failed ? grammar__fail(b, ERR_MEMORY, "out of memory for a grammar")
                     : grammar__bytes(b, out.data, out.len);
    buf_free(&out);
    return x;
}

static int by_text(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* Keys that begin with the first `at` bytes of key[0], and none of the n keys: what may follow there. */
static N other_than(B *b, const char *const *key, size_t n, size_t at)
{
    N way[3 + 1];
    size_t n_ways = 0, i = 0, kids = 0, room = 0;
    uint32_t *child = NULL;
    N *kid = NULL, x = NULL;
    if (at > KEY_MAX) return grammar__fail(b, ERR_LIMIT, "a key has more than %d bytes", KEY_MAX);
    bool ends = n && !key[0][at];
    while (i < n && !key[i][at]) i++;
    while (i < n && !b->failed) {
        if (kids == room) {
            room = room ? room * 2 : 8;
            void *p = realloc(child, room * sizeof *child), *q = realloc(kid, room * sizeof *kid);
            if (p) child = p;
            if (q) kid = q;
            if (!p || !q) {
                grammar__fail(b, ERR_MEMORY, "out of memory for a grammar");
                break;
            }
        }
        struct unicode_char c = unicode_at(key[i] + at, strlen(key[i] + at));
        size_t last = i;
        while (last < n && memcmp(key[last] + at, key[i] + at, c.bytes) == 0) last++;
        child[kids] = c.code;
        kid[kids++] = seq(b, 2, grammar__bytes(b, key[i] + at, c.bytes),
                          other_than(b, key + i, last - i, at + c.bytes));
        i = last;
    }
    N any = grammar__rep(b, raw(b, NULL, 0), 0, GRAMMAR__ENDLESS);
    way[n_ways++] = seq(b, 2, raw(b, child, kids), any);
    if (kids) way[n_ways++] = grammar__list(b, GRAMMAR__ALT, kid, kids);
    if (!ends) way[n_ways++] = grammar__empty(b);
    x = grammar__list(b, GRAMMAR__ALT, way, n_ways);
    free(child);
    free(kid);
    if (!n) return x; /* else a rule: long keys nest deep */
    uint32_t rule = grammar__rule(b, NULL);
    grammar__define(b, rule, x);
    return grammar__call(b, rule);
}

N grammar__other_key(B *b, const char *const *key, size_t n)
{
    const char **sorted = arena_alloc(&b->arena, n + 1, sizeof *sorted);
    size_t k = 0;
    if (!sorted) return grammar__fail(b, ERR_MEMORY, "out of memory for a grammar");
    for (size_t i = 0; i < n; i++) { /* a key that needs an escape cannot be made here */
        bool plain = true;
        for (const char *c = key[i]; *c; c++)
            plain &= (unsigned char)*c >= 0x20 && *c != '"' && *c != '\\';
        if (plain) sorted[k++] = key[i];
    }
    if (k) qsort(sorted, k, sizeof *sorted, by_text);
    N q = grammar__lit(b, "\"");
    return seq(b, 3, q, other_than(b, sorted, k, 0), q);
}

/* Sorted different words that are the same up to `at`, none the beginning of another. */
static N words(B *b, const char *const *word, size_t n, size_t at, int nesting)
{
    size_t common = at, kids = 0;
    const char *first = word[0], *last = word[n - 1];
    while (first[common] && first[common] == last[common]) common++;
    if (n == 1) return grammar__lit(b, first + at);
    N *kid = malloc(n * sizeof *kid);
    if (!kid) return grammar__fail(b, ERR_MEMORY, "out of memory for a grammar");
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && word[k][common] == word[i][common] && nesting < WORDS_NESTING;)
            k++;
        kid[kids++] = words(b, word + i, k - i, common, nesting + 1);
    }
    N x = seq(b, 2, grammar__bytes(b, first + at, common - at),
              grammar__list(b, GRAMMAR__ALT, kid, kids));
    free(kid);
    return x;
}

N grammar__words(B *b, const char *const *word, size_t n)
{
    const char **sorted = arena_alloc(&b->arena, n + 1, sizeof *sorted);
    size_t k = 0;
    if (!sorted) return grammar__fail(b, ERR_MEMORY, "out of memory for a grammar");
    for (size_t i = 0; i < n; i++) {
        struct buf out = BUF_INIT(8 * GRAMMAR_TEXT_MAX);
        quote(&out, word[i], strlen(word[i]));
        sorted[i] = out.failed ? NULL : arena_strndup(&b->arena, out.data, out.len);
        buf_free(&out);
        if (!sorted[i]) return grammar__fail(b, ERR_MEMORY, "out of memory for a grammar");
    }
    if (n) qsort(sorted, n, sizeof *sorted, by_text);
    for (size_t i = 0; i < n; i++)
        if (k == 0 || strcmp(sorted[k - 1], sorted[i])) sorted[k++] = sorted[i];
    return k ? words(b, sorted, k, 0, 0) : grammar__none(b);
}
