/* GBNF as llama.cpp reads it: rules `name ::= ...` of literals, classes, '.', names, groups, |, * + ?
 * {m} {m,} {m,n} and comments; a rule goes on over a line's end within parentheses and behind '|'
 * and '::='. Characters are code points. Two definitions of a name are refused.
 */
#include "grammar_int.h"

#include "unicode.h"

#include <stdlib.h>
#include <string.h>

typedef struct grammar__build B;
typedef grammar__n *N;

enum { NESTING = 60, NAME_MAX_BYTES = 200, REPEAT_MAX = 1 << 20 };

struct bnf {
    B *b;
    const char *s;
    size_t n, at;
    int nesting;
    struct map names; /* -> rules */
};

static N fail(struct bnf *p, int code, const char *why)
{
    size_t line = 1;
    for (size_t i = 0; i < p->at && i < p->n; i++) line += p->s[i] == '\n';
    return grammar__fail(p->b, code, "grammar, line %zu: %s", line, why);
}

static int peek(const struct bnf *p)
{
    return p->at < p->n ? (unsigned char)p->s[p->at] : -1;
}

static bool take(struct bnf *p, const char *s)
{
    size_t n = strlen(s);
    if (p->n - p->at < n || memcmp(p->s + p->at, s, n) != 0) return false;
    p->at += n;
    return true;
}

static void space(struct bnf *p, bool lines)
{
    for (;; p->at++) {
        int c = peek(p);
        if (c == '#') {
            while (peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r') p->at++;
            c = peek(p);
        }
        if (c != ' ' && c != '\t' && !(lines && (c == '\n' || c == '\r'))) return;
    }
}

static bool is_name(int c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' ||
           c == '_';
}

/* The rule of a name, made where it is new. */
static uint32_t name(struct bnf *p)
{
    char text[NAME_MAX_BYTES + 1];
    size_t from = p->at;
    bool ok = true;
    while (is_name(peek(p))) p->at++;
    size_t n = p->at - from;
    if (n == 0 || n > NAME_MAX_BYTES) {
        fail(p, ERR_FORMAT, n ? "a name of more than 200 bytes" : "a name was expected");
        return MAP_NONE;
    }
    uint32_t rule = map_get(&p->names, p->s + from, (uint32_t)n);
    if (rule != MAP_NONE) return rule;
    memcpy(text, p->s + from, n);
    text[n] = 0;
    rule = grammar__rule(p->b, text);
    if (rule != MAP_NONE) map_put(&p->names, p->s + from, (uint32_t)n, rule, &ok);
    if (!ok) grammar__fail(p->b, ERR_MEMORY, "out of memory for a grammar");
    return rule;
}

static bool hex(struct bnf *p, int digits, uint32_t *code)
{
    *code = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        int c = peek(p), low = c | 0x20;
        if (c >= '0' && c <= '9')
            *code = *code * 16 + (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *code = *code * 16 + (uint32_t)(low - 'a' + 10);
        else
            return fail(p, ERR_FORMAT, "too few hexadecimal digits"), false;
    }
    if (*code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return fail(p, ERR_FORMAT, "no character has this code"), false;
    return true;
}

static bool character(struct bnf *p, uint32_t *code)
{
    if (take(p, "\\")) {
        static const char letters[] = "t\tr\rn\n\\\\\"\"[[]]";
        int c = peek(p);
        p->at += c >= 0;
        if (c == 'x') return hex(p, 2, code);
        if (c == 'u') return hex(p, 4, code);
        if (c == 'U') return hex(p, 8, code);
        const char *at = c > 0 ? memchr(letters, c, sizeof letters - 1) : NULL;
        if (!at || (at - letters) % 2) return fail(p, ERR_FORMAT, "an unknown escape"), false;
        return *code = (uint32_t)at[1], true;
    }
    int n = p->at < p->n ? unicode_length(p->s + p->at, p->n - p->at) : 0;
    if (n <= 0) return fail(p, ERR_FORMAT, p->at < p->n ? "no UTF-8" : "it ends too early"), false;
    *code = unicode_at(p->s + p->at, p->n - p->at).code;
    p->at += (size_t)n;
    return true;
}

static N literal(struct bnf *p)
{
    struct buf text = BUF_INIT(GRAMMAR_TEXT_MAX);
    uint32_t code;
    char utf8[4];
    N x = NULL;
    while (!take(p, "\"")) {
        if (!character(p, &code)) goto out;
        buf_put(&text, utf8, (size_t)unicode_put(code, utf8));
    }
    if (text.failed)
        fail(p, ERR_MEMORY, "out of memory");
    else
        x = text.len ? grammar__bytes(p->b, text.data, text.len) : grammar__empty(p->b);
out:
    buf_free(&text);
    return x;
}

static N class_node(struct bnf *p)
{
    struct grammar__chars c = {0};
    bool not = take(p, "^");
    while (!p->b->failed && !take(p, "]")) {
        uint32_t first, last;
        if (!character(p, &first)) break;
        last = first;
        if (peek(p) == '-' && p->at + 1 < p->n && p->s[p->at + 1] != ']') {
            p->at++;
            if (!character(p, &last)) break;
            if (last < first) fail(p, ERR_FORMAT, "a range the wrong way round");
        }
        grammar__chars_add(&c, first, last);
    }
    if (not ) grammar__chars_not(&c);
    return grammar__chars_node(p->b, &c, false);
}

static N alternates(struct bnf *p, bool nested);

static N atom(struct bnf *p)
{
    if (take(p, "\"")) return literal(p);
    if (take(p, "[")) return class_node(p);
    if (take(p, ".")) {
        struct grammar__chars c = {0};
        grammar__chars_not(&c);
        return grammar__chars_node(p->b, &c, false);
    }
    if (!take(p, "(")) return grammar__call(p->b, name(p));
    if (++p->nesting > NESTING) return fail(p, ERR_LIMIT, "groups nested too deep");
    space(p, true);
    N x = alternates(p, true);
    p->nesting--;
    if (x && !take(p, ")")) return fail(p, ERR_FORMAT, "a group without )");
    return x;
}

static bool number(struct bnf *p, uint32_t *out)
{
    size_t from = p->at;
    uint64_t v = 0;
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        if (v <= REPEAT_MAX) v = v * 10 + (uint64_t)(peek(p) - '0');
    if (v > REPEAT_MAX) fail(p, ERR_LIMIT, "more repetitions than 1048576");
    *out = (uint32_t)v;
    space(p, false);
    return p->at > from;
}

static N repeated(struct bnf *p, N x)
{
    for (;;) {
        uint32_t min = 0, max = GRAMMAR__ENDLESS;
        space(p, p->nesting > 0);
        if (take(p, "+")) {
            min = 1;
        } else if (take(p, "?")) {
            max = 1;
        } else if (take(p, "{")) {
            space(p, false);
            bool any = number(p, &min), comma = take(p, ",");
            space(p, false);
            if (!comma)
                max = min;
            else if (peek(p) != '}' && !number(p, &max))
                return fail(p, ERR_FORMAT, "{m,n} without n");
            if ((!any && !comma) || !take(p, "}") || min > max)
                return fail(p, ERR_FORMAT, "{m,n} that is none");
        } else if (!take(p, "*")) {
            return x;
        }
        x = grammar__rep(p->b, x, min, max);
    }
}

static bool begins_atom(int c)
{
    return c == '"' || c == '[' || c == '.' || c == '(' || is_name(c);
}

static N alternates(struct bnf *p, bool nested)
{
    struct grammar__parts way = {0};
    do {
        struct grammar__parts part = {0};
        space(p, true);
        while (begins_atom(peek(p)) && !p->b->failed) {
            grammar__parts_add(p->b, &part, repeated(p, atom(p)));
            space(p, nested);
        }
        grammar__parts_add(p->b, &way, grammar__parts_node(p->b, GRAMMAR__SEQ, &part));
        space(p, nested);
    } while (!p->b->failed && take(p, "|"));
    return grammar__parts_node(p->b, GRAMMAR__ALT, &way);
}

static void rules(struct bnf *p)
{
    space(p, true);
    while (p->at < p->n && !p->b->failed) {
        uint32_t rule = name(p);
        space(p, false);
        if (p->b->failed) return;
        if (!take(p, "::=")) {
            fail(p, ERR_FORMAT, "::= was expected");
            return;
        }
        if (p->b->rule[rule]) {
            fail(p, ERR_FORMAT, "a rule is defined twice");
            return;
        }
        grammar__define(p->b, rule, alternates(p, false));
        if (!p->b->failed && p->at < p->n && peek(p) != '\n' && peek(p) != '\r')
            fail(p, ERR_FORMAT, "something that is no part of a rule");
        space(p, true);
    }
}

int grammar_gbnf(struct grammar **out, const char *text, size_t n, struct err *e)
{
    B b;
    struct bnf p = {.b = &b, .s = text, .n = n};
    if (n > GRAMMAR_TEXT_MAX)
        return err_set(e, ERR_LIMIT, "a grammar of %zu bytes, at most %d", n, GRAMMAR_TEXT_MAX);
    grammar__begin(&b, e);
    if (!map_init(&p.names, 64)) grammar__fail(&b, ERR_MEMORY, "out of memory for a grammar");
    rules(&p);
    uint32_t root = b.failed ? MAP_NONE : map_get(&p.names, "root", 4);
    if (!b.failed && root == MAP_NONE)
        grammar__fail(&b, ERR_FORMAT, "the grammar has no rule root");
    map_free(&p.names);
    return grammar__finish(&b, root, out);
}
