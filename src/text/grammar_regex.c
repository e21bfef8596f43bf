/* Regular expressions of ECMA-262 -> nodes. There is no backtracking to be slow: what is made is a
 * part of the automaton. What is no regular language (back-references) or would need the
 * intersection of two (look-around, \b) is refused by name, as is \p. Lazy quantifiers are the greedy
 * ones: which of several matches is meant makes no difference to what is matched.
 */
#include "grammar_int.h"

#include "unicode.h"

#include <stdlib.h>
#include <string.h>

typedef struct grammar__build B;
typedef grammar__n *N;

enum { NESTING = 60, REPEAT_MAX = 1 << 20 };

struct re {
    B *b;
    const char *s;
    size_t n, at;
    bool json;
    int nesting;
};

static N fail(struct re *r, int code, const char *why)
{
    int n = r->n > 80 ? 80 : (int)r->n;
    return grammar__fail(r->b, code, "regular expression '%.*s': %s at byte %zu", n, r->s, why,
                         r->at);
}

static int peek(const struct re *r, size_t ahead)
{
    return r->at + ahead < r->n ? (unsigned char)r->s[r->at + ahead] : -1;
}

static bool take(struct re *r, const char *s)
{
    size_t n = strlen(s);
    if (r->n - r->at < n || memcmp(r->s + r->at, s, n) != 0) return false;
    r->at += n;
    return true;
}

static bool hex(struct re *r, int digits, uint32_t *code)
{
    *code = 0;
    for (int i = 0; i < digits; i++) {
        int c = peek(r, (size_t)i), low = c | 0x20;
        if (c >= '0' && c <= '9')
            *code = *code * 16 + (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *code = *code * 16 + (uint32_t)(low - 'a' + 10);
        else
            return false;
    }
    r->at += (size_t)digits;
    return true;
}

/* \d \w \s and what they leave out. */
static bool class_escape(struct re *r, struct grammar__chars *out)
{
    static const uint32_t digit[][2] = {{'0', '9'}},
                          word[][2] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                          space[][2] = {{9, 13},          {32, 32},         {0xa0, 0xa0},
                                        {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                                        {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
                                        {0xfeff, 0xfeff}};
    int c = peek(r, 0), kind = c | 0x20;
    const uint32_t(*set)[2] = kind == 'd' ? digit : kind == 'w' ? word : space;
    size_t n = kind == 'd' ? 1 : kind == 'w' ? 4 : sizeof space / sizeof *space;
    if (kind != 'd' && kind != 'w' && kind != 's') return false;
    struct grammar__chars own = {0};
    for (size_t i = 0; i < n; i++) grammar__chars_add(&own, set[i][0], set[i][1]);
    if (c != kind) grammar__chars_not(&own);
    for (size_t i = 0; i < own.n; i++) grammar__chars_add(out, own.range[i][0], own.range[i][1]);
    out->failed |= own.failed;
    free(own.range);
    r->at++;
    return true;
}

static bool unicode_escape(struct re *r, uint32_t *code)
{
    if (!take(r, "{")) {
        uint32_t low;
        if (!hex(r, 4, code)) return false;
        if (*code < 0xd800 || *code > 0xdfff) return true;
        if (*code > 0xdbff || !take(r, "\\u") || !hex(r, 4, &low) || low < 0xdc00 || low > 0xdfff)
            return false;
        *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
        return true;
    }
    uint32_t c;
    *code = 0;
    while (!take(r, "}")) {
        if (!hex(r, 1, &c)) return false;
        *code = *code * 16 + c;
        if (*code > 0x10ffff) return false;
    }
    return true;
}

/* The character behind a backslash; in_class: between [ and ]. */
static bool char_escape(struct re *r, bool in_class, uint32_t *code)
{
    static const char letters[] = "n\nr\rt\tv\vf\f";
    int c = peek(r, 0);
    const char *at = c > 0 ? memchr(letters, c, sizeof letters - 1) : NULL;
    r->at += c >= 0;
    if (at && (at - letters) % 2 == 0) return *code = (uint32_t)at[1], true;
    if (c == 'b' && in_class) return *code = '\b', true;
    if (c == '0' && !(peek(r, 0) >= '0' && peek(r, 0) <= '9')) return *code = 0, true;
    if (c == 'c' && (peek(r, 0) | 0x20) >= 'a' && (peek(r, 0) | 0x20) <= 'z')
        return *code = (uint32_t)r->s[r->at++] & 31, true;
    if (c == 'x' && hex(r, 2, code)) return true;
    if (c == 'u' && unicode_escape(r, code)) return true;
    if (c > 0 && c < 128 && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c >= '0' && c <= '9'))
        return *code = (uint32_t)c, true;
    r->at -= c >= 0;
    if (c == 'b' || c == 'B') return fail(r, ERR_UNSUPPORTED, "a word boundary (\\b)"), false;
    if (c == 'p' || c == 'P') return fail(r, ERR_UNSUPPORTED, "a property (\\p)"), false;
    if (c == 'k' || (c >= '1' && c <= '9'))
        return fail(r, ERR_UNSUPPORTED, "a back-reference"), false;
    return fail(r, ERR_FORMAT, "an escape that does not exist"), false;
}

static bool literal_char(struct re *r, uint32_t *code)
{
    int n = unicode_length(r->s + r->at, r->n - r->at);
    if (n <= 0) return fail(r, ERR_FORMAT, "no UTF-8"), false;
    *code = unicode_at(r->s + r->at, r->n - r->at).code;
    r->at += (size_t)n;
    return true;
}

/* One member of a class; *single: a character, which may begin a range. */
static bool class_atom(struct re *r, struct grammar__chars *out, uint32_t *code, bool *single)
{
    *single = true;
    if (!take(r, "\\")) return literal_char(r, code);
    if (class_escape(r, out)) return *single = false, true;
    return char_escape(r, true, code);
}

static N class_node(struct re *r)
{
    struct grammar__chars c = {0};
    bool not = take(r, "^");
    while (!r->b->failed && !take(r, "]")) {
        uint32_t first, last;
        bool single, range = false;
        if (r->at == r->n) fail(r, ERR_FORMAT, "a class without ]");
        if (r->b->failed || !class_atom(r, &c, &first, &single)) break;
        if (single && peek(r, 0) == '-' && peek(r, 1) != ']' && peek(r, 1) >= 0) {
            r->at++;
            if (!class_atom(r, &c, &last, &range)) break;
            if (!range) grammar__chars_add(&c, '-', '-');
            if (range && last < first) fail(r, ERR_FORMAT, "a range the wrong way round");
        }
        if (single) grammar__chars_add(&c, first, range ? last : first);
    }
    if (not ) grammar__chars_not(&c);
    return grammar__chars_node(r->b, &c, r->json);
}

static N one(struct re *r, uint32_t code)
{
    struct grammar__chars c = {0};
    grammar__chars_add(&c, code, code);
    return grammar__chars_node(r->b, &c, r->json);
}

static N alternatives(struct re *r, bool around);

static N group(struct re *r)
{
    if (take(r, "?")) {
        if (take(r, "=") || take(r, "!")) return fail(r, ERR_UNSUPPORTED, "look-ahead");
        if (take(r, "<=") || take(r, "<!")) return fail(r, ERR_UNSUPPORTED, "look-behind");
        if (take(r, "<")) {
            while (r->at < r->n && r->s[r->at] != '>') r->at++;
            if (!take(r, ">")) return fail(r, ERR_FORMAT, "a name without >");
        } else if (!take(r, ":")) {
            return fail(r, ERR_UNSUPPORTED, "a group of this kind");
        }
    }
    if (++r->nesting > NESTING) return fail(r, ERR_LIMIT, "groups nested too deep");
    N x = alternatives(r, false);
    r->nesting--;
    if (x && !take(r, ")")) return fail(r, ERR_FORMAT, "a group without )");
    return x;
}

static N atom(struct re *r)
{
    struct grammar__chars c = {0};
    uint32_t code;
    if (take(r, "(")) return group(r);
    if (take(r, "[")) return class_node(r);
    if (take(r, ".")) {
        grammar__chars_add(&c, '\n', '\n');
        grammar__chars_add(&c, '\r', '\r');
        grammar__chars_add(&c, 0x2028, 0x2029);
        grammar__chars_not(&c);
        return grammar__chars_node(r->b, &c, r->json);
    }
    if (peek(r, 0) == '^' || peek(r, 0) == '$')
        return fail(r, ERR_UNSUPPORTED, "an anchor within an alternative");
    if (peek(r, 0) == '*' || peek(r, 0) == '+' || peek(r, 0) == '?')
        return fail(r, ERR_FORMAT, "nothing to repeat");
    if (!take(r, "\\")) return literal_char(r, &code) ? one(r, code) : NULL;
    if (class_escape(r, &c)) return grammar__chars_node(r->b, &c, r->json);
    return char_escape(r, false, &code) ? one(r, code) : NULL;
}

static bool number(struct re *r, uint32_t *out)
{
    size_t from = r->at;
    uint64_t v = 0;
    for (; peek(r, 0) >= '0' && peek(r, 0) <= '9'; r->at++)
        if (v <= REPEAT_MAX) v = v * 10 + (uint64_t)(peek(r, 0) - '0');
    *out = (uint32_t)(v > REPEAT_MAX ? REPEAT_MAX + 1 : v);
    return r->at > from;
}

/* {m}, {m,} or {m,n}; what only looks like it is text. */
static bool braces(struct re *r, uint32_t *min, uint32_t *max)
{
    size_t from = r->at;
    if (take(r, "{") && number(r, min)) {
        *max = *min;
        if (take(r, ",") && !number(r, max)) *max = GRAMMAR__ENDLESS;
        if (take(r, "}")) return true;
    }
    r->at = from;
    return false;
}

static N quantified(struct re *r)
{
    N x = atom(r);
    uint32_t min, max;
    if (take(r, "*"))
        min = 0, max = GRAMMAR__ENDLESS;
    else if (take(r, "+"))
        min = 1, max = GRAMMAR__ENDLESS;
    else if (take(r, "?"))
        min = 0, max = 1;
    else if (!braces(r, &min, &max))
        return x;
    take(r, "?");
    if (min > max) return fail(r, ERR_FORMAT, "{m,n} with m > n");
    if (min > REPEAT_MAX || (max > REPEAT_MAX && max != GRAMMAR__ENDLESS))
        return fail(r, ERR_LIMIT, "more repetitions than 1048576");
    return grammar__rep(r->b, x, min, max);
}

/* Up to | or ) or the end. around: any text may stand where it has no anchor. */
static N alternative(struct re *r, bool top, bool around)
{
    struct grammar__parts part = {0};
    bool begins = !around, ends = !around;
    while (top && take(r, "^")) begins = true;
    if (!begins) grammar__parts_add(r->b, &part, grammar__any_text(r->b));
    while (r->at < r->n && peek(r, 0) != '|' && peek(r, 0) != ')' && !r->b->failed) {
        if (top && peek(r, 0) == '$' && (peek(r, 1) == '|' || peek(r, 1) == -1)) {
            r->at++;
            ends = true;
            break;
        }
        grammar__parts_add(r->b, &part, quantified(r));
    }
    if (!ends) grammar__parts_add(r->b, &part, grammar__any_text(r->b));
    return grammar__parts_node(r->b, GRAMMAR__SEQ, &part);
}

static N alternatives(struct re *r, bool around)
{
    struct grammar__parts way = {0};
    do grammar__parts_add(r->b, &way, alternative(r, r->nesting == 0, around));
    while (!r->b->failed && take(r, "|"));
    return grammar__parts_node(r->b, GRAMMAR__ALT, &way);
}

N grammar__regex_node(B *b, const char *s, size_t n, bool whole, bool json)
{
    struct re r = {.b = b, .s = s, .n = n, .json = json};
    N x = alternatives(&r, !whole);
    if (x && r.at < n) return fail(&r, ERR_FORMAT, "a ) too many");
    return x;
}

int grammar_regex(struct grammar **out, const char *text, size_t n, struct err *e)
{
    B b;
    if (n > GRAMMAR_TEXT_MAX)
        return err_set(e, ERR_LIMIT, "a regular expression of %zu bytes, at most %d", n,
                       GRAMMAR_TEXT_MAX);
    grammar__begin(&b, e);
    uint32_t root = grammar__rule(&b, "expression");
    grammar__define(&b, root, grammar__regex_node(&b, text, n, true, false));
    return grammar__finish(&b, root, out);
}
