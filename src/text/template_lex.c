/* Source -> tokens. Jinja cuts a template in three ways: text up to the next tag, tags, and the
 * expression language inside them; white space beside a tag is cut away here (trim_blocks,
 * lstrip_blocks, the signs - and +), so that the parser never sees it.
 *
 * The invariant: every string that leaves here is well-formed UTF-8 with \n as its only line end.
 */
#include "template_int.h"

#include "unicode.h"

struct lexer {
    struct run *r;
    const char *s;
    size_t n, at;
    struct token *tokens;
    size_t n_tokens, room;
    char *closers; /* the brackets that are open in this tag */
    size_t n_closers;
};

/* A copy with \r\n and \r as \n, less one line end at the end of the source. */
static void normalize(struct lexer *l, const char *source, size_t n)
{
    char *s = template__alloc(l->r, n + 1, 1);
    for (size_t i = 0; i < n; i++) {
        int k = unicode_length(source + i, n - i);
        if (k <= 0) template__bad(l->r, "the source is not UTF-8 at byte %zu", i);
        if (source[i] == '\r') {
            s[l->n++] = '\n';
            i += i + 1 < n && source[i + 1] == '\n';
        } else {
            memcpy(s + l->n, source + i, (size_t)k);
            l->n += (size_t)k;
            i += (size_t)k - 1;
        }
    }
    if (l->n && s[l->n - 1] == '\n') l->n--;
    l->s = s;
}

static struct token *push(struct lexer *l, enum token_type type, struct value v)
{
    if (l->n_tokens == l->room) {
        size_t room = l->room ? l->room * 2 : 256;
        struct token *grown = template__alloc(l->r, room, sizeof *grown);
        if (l->n_tokens) memcpy(grown, l->tokens, l->n_tokens * sizeof *grown);
        l->tokens = grown;
        l->room = room;
    }
    struct token *t = &l->tokens[l->n_tokens++];
    *t = (struct token){.type = (uint8_t)type, .line = l->r->line, .v = v};
    return t;
}

static void advance(struct lexer *l, size_t to)
{
    for (; l->at < to; l->at++) l->r->line += l->s[l->at] == '\n';
}

static bool looking_at(const struct lexer *l, size_t at, const char *what)
{
    size_t n = strlen(what);
    return n <= l->n - at && memcmp(l->s + at, what, n) == 0;
}

static size_t skip_space(const struct lexer *l, size_t at)
{
    while (at < l->n) {
        struct unicode_char c = unicode_at(l->s + at, l->n - at);
        if (!template__space(c.code)) break;
        at += c.bytes;
    }
    return at;
}

/* The first byte of the white space that ends at `end`, not before `from`. */
static size_t before_space(const struct lexer *l, size_t from, size_t end)
{
    while (end > from) {
        size_t c = end - 1;
        while (c > from && (l->s[c] & 0xc0) == 0x80) c--;
        if (!template__space(unicode_at(l->s + c, end - c).code)) break;
        end = c;
    }
    return end;
}

/* Text up to `end`, where a tag with this sign ('-', '+' or 0) begins. */
static void text(struct lexer *l, size_t end, char sign, bool lstrip)
{
    size_t from = l->at, cut = end;
    if (sign == '-') {
        cut = before_space(l, from, end);
    } else if (sign != '+' && lstrip) {
        const char *nl = end > from ? memrchr(l->s + from, '\n', end - from) : NULL;
        size_t line = nl ? (size_t)(nl - l->s) + 1 : from;
        if (line == 0 || l->s[line - 1] == '\n')
            if (before_space(l, line, end) == line) cut = line;
    }
    if (cut > from) push(l, T_DATA, template__text(l->r, l->s + from, cut - from, NULL));
    advance(l, end);
}

/* Past the end of a tag, `close` with a sign before it, when it stands at `at`; else 0. A `bare`
 * end drops no line end. */
static size_t tag_end(const struct lexer *l, size_t at, const char *close, bool plus, bool bare)
{
    if (looking_at(l, at, close)) {
        at += 2;
        return at + (!bare && at < l->n && l->s[at] == '\n');
    }
    if (at >= l->n || !looking_at(l, at + 1, close)) return 0;
    if (l->s[at] == '-') return skip_space(l, at + 3);
    return plus && l->s[at] == '+' ? at + 3 : 0;
}

static void comment(struct lexer *l)
{
    for (size_t at = l->at; at < l->n; at++) {
        size_t end = tag_end(l, at, "#}", true, false);
        if (!end) continue;
        advance(l, end);
        return;
    }
    template__bad(l->r, "a comment does not end");
}

/* "{%", sign, word, end at `at`: past it, or 0. */
static size_t word_tag(const struct lexer *l, size_t at, const char *word, bool begin)
{
    if (!looking_at(l, at, "{%")) return 0;
    at += 2;
    at += at < l->n && (l->s[at] == '-' || l->s[at] == '+');
    at = skip_space(l, at);
    if (!looking_at(l, at, word)) return 0;
    return tag_end(l, skip_space(l, at + strlen(word)), "%}", !begin, begin);
}

static char sign_at(const struct lexer *l, size_t at)
{
    return at < l->n && (l->s[at] == '-' || l->s[at] == '+') ? l->s[at] : 0;
}

static void raw(struct lexer *l)
{
    for (size_t at = l->at; at < l->n; at++) {
        size_t end = l->s[at] == '{' ? word_tag(l, at, "endraw", false) : 0;
        if (!end) continue;
        text(l, at, sign_at(l, at + 2), true);
        advance(l, end);
        return;
    }
    template__bad(l->r, "a raw block does not end");
}

static bool digit(char c, int base)
{
    int d = c >= '0' && c <= '9'                 ? c - '0'
            : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 87
                                                 : 99;
    return d < base;
}

/* Past digits with single underscores between them. */
static size_t digits(const struct lexer *l, size_t at, int base)
{
    while (at < l->n) {
        size_t d = at + (l->s[at] == '_');
        if (d >= l->n || !digit(l->s[d], base)) break;
        at = d + 1;
    }
    return at;
}

/* Past a fraction or an exponent that follows the digits ending at `at`; `at` if there is none. */
static size_t fraction(const struct lexer *l, size_t at)
{
    size_t end = at;
    if (at + 1 < l->n && l->s[at] == '.' && digit(l->s[at + 1], 10)) end = digits(l, at + 1, 10);
    if (end < l->n && (l->s[end] | 32) == 'e') {
        size_t e = end + 1;
        e += e < l->n && (l->s[e] == '+' || l->s[e] == '-');
        if (e < l->n && digit(l->s[e], 10)) return digits(l, e, 10);
    }
    return end;
}

static void number(struct lexer *l)
{
    size_t from = l->at, end;
    int base = 10;
    char second = from + 1 < l->n ? (char)(l->s[from + 1] | 32) : 0;
    if (l->s[from] == '0') base = second == 'x' ? 16 : second == 'o' ? 8 : second == 'b' ? 2 : 10;
    if (base != 10 && digits(l, from + 2, base) == from + 2) base = 10;
    bool is_float = false;
    if (base != 10) {
        end = digits(l, from + 2, base);
    } else {
        end = digits(l, from, 10);
        size_t f = from && l->s[from - 1] == '.' ? end : fraction(l, end);
        is_float = f > end;
        if (!is_float && l->s[from] == '0') /* 0 and 007 apart: Python has no such octals */
            for (end = from + 1; end < l->n && l->s[end] == '0';) end++;
        else
            end = f;
    }
    const struct str *s = template__text(l->r, l->s + from, end - from, NULL).s;
    struct value v = v_int(0);
    if (is_float) {
        v = v_float(0);
        if (!template__parse_float(l->r, s, &v.f)) template__bad(l->r, "not a number");
    } else if (!template__parse_int(l->r, s, base, &v.i)) {
        template__fail(l->r, ERR_UNSUPPORTED, "an integer beyond 64 bits");
    }
    push(l, is_float ? T_FLOAT : T_INT, v);
    advance(l, end);
}

/* k hexadecimal digits at *at, which moves past them. */
static uint32_t hex(struct lexer *l, size_t *at, size_t end, int k)
{
    uint32_t code = 0;
    for (int i = 0; i < k; i++, ++*at) {
        if (*at >= end || !digit(l->s[*at], 16)) template__bad(l->r, "a \\ escape is cut short");
        char c = l->s[*at];
        code = code * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 87);
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        template__bad(l->r, "an escape names the character U+%X, which there is not", code);
    return code;
}

/* What follows a backslash at *at. */
static void escape(struct lexer *l, struct builder *b, size_t *at, size_t end)
{
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    char c = l->s[(*at)++];
    if (c == '\n') return;
    for (const char *p = plain; *p; p += 2)
        if (*p == c) {
            template__put(b, p + 1, 1, NULL);
            return;
        }
    if (c == 'x' || c == 'u' || c == 'U') {
        template__put_code(b, hex(l, at, end, c == 'x' ? 2 : c == 'u' ? 4 : 8), NULL);
    } else if (c >= '0' && c <= '7') {
        uint32_t code = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && *at < end && digit(l->s[*at], 8); i++, ++*at)
            code = code * 8 + (uint32_t)(l->s[*at] - '0');
        template__put_code(b, code, NULL);
    } else if (c == 'N') {
        template__fail(l->r, ERR_UNSUPPORTED, "characters by name (\\N{...})");
    } else { /* an unknown escape stands for itself */
        template__put(b, "\\", 1, NULL);
        --*at;
    }
}

static void string(struct lexer *l)
{
    char quote = l->s[l->at];
    size_t end = l->at + 1;
    while (end < l->n && l->s[end] != quote) end += l->s[end] == '\\' ? 2 : 1;
    if (end >= l->n) template__bad(l->r, "a string does not end");
    struct builder b = template__builder(l->r);
    for (size_t at = l->at + 1; at < end;) {
        const char *slash = memchr(l->s + at, '\\', end - at);
        size_t stop = slash ? (size_t)(slash - l->s) : end;
        template__put(&b, l->s + at, stop - at, NULL);
        at = stop;
        if (at < end) {
            at++;
            escape(l, &b, &at, end);
        }
    }
    push(l, T_STRING, template__built(&b));
    advance(l, end + 1);
}

static void name(struct lexer *l)
{
    size_t end = l->at;
    while (end < l->n) {
        struct unicode_char c = unicode_at(l->s + end, l->n - end);
        int allowed = UNICODE_LETTER | (end > l->at ? UNICODE_NUMBER | UNICODE_MARK : 0);
        if (c.code != '_' && !(c.class & allowed)) break;
        end += c.bytes;
    }
    if (end == l->at)
        template__bad(l->r, "unexpected character U+%04X",
                      unicode_at(l->s + l->at, l->n - l->at).code);
    push(l, T_NAME, template__text(l->r, l->s + l->at, end - l->at, NULL));
    advance(l, end);
}

/* True if there is an operator here. Brackets must match, for inside them "}}" ends no tag. */
static bool operator(struct lexer *l)
{
    static const char twos[] = "//**==!=>=<=", ones[] = "+-/*%~[](){}><=.:|,;";
    const char *s = l->s + l->at;
    int op = 0;
    for (const char *p = twos; *p && l->at + 1 < l->n; p += 2)
        if (p[0] == s[0] && p[1] == s[1]) op = s[0] | s[1] << 8;
    if (!op && *s && strchr(ones, *s)) op = *s;
    if (!op) return false;
    const char *open = op < 128 ? strchr("()[]{}", op) : NULL;
    static const char pairs[] = "()[]{}";
    if (open) {
        size_t i = (size_t)(strchr(pairs, op) - pairs);
        if (i % 2 == 0)
            l->closers[l->n_closers++] = pairs[i + 1];
        else if (l->n_closers == 0 || l->closers[--l->n_closers] != op)
            template__bad(l->r, "unexpected '%c'", op);
    }
    push(l, T_OP, v_none())->op = (uint16_t)op;
    advance(l, l->at + (op > 127 ? 2 : 1));
    return true;
}

/* The inside of {{ }} or {% %}. */
static void tag(struct lexer *l, bool block)
{
    push(l, block ? T_BEGIN_BLOCK : T_BEGIN_PRINT, v_none());
    l->n_closers = 0;
    for (;;) {
        size_t end = 0;
        if (l->n_closers == 0) end = tag_end(l, l->at, block ? "%}" : "}}", block, !block);
        if (end) {
            push(l, block ? T_END_BLOCK : T_END_PRINT, v_none());
            advance(l, end);
            return;
        }
        size_t next = skip_space(l, l->at);
        if (next >= l->n) template__bad(l->r, "a tag does not end");
        if (next > l->at)
            advance(l, next);
        else if (digit(l->s[l->at], 10))
            number(l);
        else if (l->s[l->at] == '\'' || l->s[l->at] == '"')
            string(l);
        else if (!operator(l))
            name(l);
    }
}

const struct token *template__lex(struct run *r, const char *source, size_t n)
{
    struct lexer l = {.r = r};
    normalize(&l, source, n);
    l.closers = template__alloc(r, l.n + 1, 1);
    while (l.at < l.n) {
        size_t at = l.at;
        while (at + 1 < l.n && !(l.s[at] == '{' && strchr("%{#", l.s[at + 1]) && l.s[at + 1])) at++;
        if (at + 1 >= l.n) {
            text(&l, l.n, '+', false);
            break;
        }
        char kind = l.s[at + 1], sign = sign_at(&l, at + 2);
        text(&l, at, sign, kind != '{');
        size_t past = word_tag(&l, at, "raw", true);
        advance(&l, past ? past : at + 2 + (sign != 0));
        if (past)
            raw(&l);
        else if (kind == '#')
            comment(&l);
        else
            tag(&l, kind == '%');
    }
    push(&l, T_EOF, v_none());
    return l.tokens;
}
