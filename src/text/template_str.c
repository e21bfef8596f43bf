/* Strings: built, cut, searched, stripped, split, their letters mapped. Every byte of a result is
 * either copied, mark and all, from a string or written without a mark, which is how the marks of
 * struct template_input reach the output.
 *
 * The invariant: offsets handed about here are bytes and stand between characters; what a template
 * counts are characters (code points), and only template__byte_of and template__char_of translate.
 */
#include "template_int.h"

#include "unicode.h"

#include <locale.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <wctype.h>

enum { SHARP_S = 0xdf };

/* ---- building ---- */

static void *grown(struct run *r, const void *old, size_t n, size_t room)
{
    void *p = template__alloc(r, room, 1);
    if (n && old) memcpy(p, old, n);
    return p;
}

void template__put(struct builder *b, const void *p, size_t n, const uint8_t *mark)
{
    template__step(b->r, n);
    if (b->is_out && n > TEMPLATE_OUT_MAX - b->n)
        template__fail(b->r, ERR_LIMIT, "its budget of %d bytes of output is used up",
                       TEMPLATE_OUT_MAX);
    if (n > b->room - b->n) {
        size_t room = b->room ? b->room * 2 : 32;
        if (room < b->n + n) room = b->n + n;
        b->p = grown(b->r, b->p, b->n, room);
        if (b->mark) b->mark = grown(b->r, b->mark, b->n, room);
        b->room = room;
    }
    if (mark && !b->mark) b->mark = template__alloc(b->r, b->room, 1);
    if (n) memcpy(b->p + b->n, p, n);
    if (n && mark) memcpy(b->mark + b->n, mark, n);
    b->n += n;
}

void template__put_cstr(struct builder *b, const char *s)
{
    template__put(b, s, strlen(s), NULL);
}

void template__put_sub(struct builder *b, const struct str *s, size_t from, size_t n)
{
    template__put(b, s->p + from, n, s->mark ? s->mark + from : NULL);
}

void template__put_str(struct builder *b, const struct str *s)
{
    template__put(b, s->p, s->n, s->mark);
}

void template__put_code(struct builder *b, uint32_t code, const uint8_t *mark)
{
    char bytes[4];
    uint8_t marks[4];
    if (mark) memset(marks, *mark, sizeof marks);
    template__put(b, bytes, (size_t)unicode_put(code, bytes), mark ? marks : NULL);
}

void template__pad(struct builder *b, size_t n, const char *unit)
{
    for (size_t i = 0; i < n; i++) template__put_cstr(b, unit);
}

void template__printf(struct builder *b, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text) template__bad(b->r, "a number is too long to print");
    template__put(b, text, (size_t)n, NULL);
}

static const struct str *make(struct run *r, const char *p, size_t n, const uint8_t *mark)
{
    struct str *s = template__alloc(r, 1, sizeof *s);
    *s = (struct str){
        .p = p, .mark = mark, .n = (uint32_t)n, .chars = (uint32_t)unicode_count(p, n)};
    return s;
}

struct value template__built(struct builder *b)
{
    return v_str(make(b->r, b->p ? b->p : "", b->n, b->mark));
}

struct value template__text(struct run *r, const void *p, size_t n, const uint8_t *mark)
{
    template__step(r, n);
    return v_str(make(r, n ? grown(r, p, n, n) : "", n, mark));
}

struct value template__cstr(struct run *r, const char *s)
{
    return template__text(r, s, strlen(s), NULL);
}

struct value template__sub(struct run *r, const struct str *s, size_t from, size_t n)
{
    template__step(r, n);
    return v_str(make(r, s->p + from, n, s->mark ? s->mark + from : NULL));
}

/* ---- looking ---- */

bool template__is(const struct str *s, const char *text)
{
    return strlen(text) == s->n && memcmp(s->p, text, s->n) == 0;
}

bool template__same(const struct str *a, const struct str *b)
{
    return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

size_t template__byte_of(const struct str *s, size_t i)
{
    if (s->chars == s->n) return i;
    size_t at = 0;
    for (; at < s->n; at++)
        if ((s->p[at] & 0xc0) != 0x80 && i-- == 0) break;
    return at;
}

size_t template__char_of(const struct str *s, size_t byte)
{
    return s->chars == s->n ? byte : unicode_count(s->p, byte);
}

size_t template__find(struct run *r, const struct str *s, size_t from, size_t to,
                      const struct str *what)
{
    if (from > to) return SIZE_MAX;
    const char *p = what->n ? memmem(s->p + from, to - from, what->p, what->n) : s->p + from;
    template__step(r, p ? (size_t)(p - s->p) - from : to - from);
    return p ? (size_t)(p - s->p) : SIZE_MAX;
}

size_t template__rfind(struct run *r, const struct str *s, size_t from, size_t to,
                       const struct str *what)
{
    if (from > to || what->n > to - from) return SIZE_MAX;
    for (size_t at = to - what->n;; at--) {
        template__step(r, what->n);
        if (memcmp(s->p + at, what->p, what->n) == 0) return at;
        if (at == from) return SIZE_MAX;
    }
}

/* What Python's str.isspace says: White_Space and the separators of ASCII. */
bool template__space(uint32_t code)
{
    if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13) || (code >= 28 && code <= 31);
    char bytes[4];
    return unicode_at(bytes, (size_t)unicode_put(code, bytes)).class == UNICODE_SPACE;
}

static struct unicode_char at(const struct str *s, size_t i)
{
    return unicode_at(s->p + i, s->n - i);
}

static bool in_set(struct unicode_char c, const char *p, const struct str *chars)
{
    return chars ? memmem(chars->p, chars->n, p, c.bytes) != NULL : template__space(c.code);
}

struct value template__strip(struct run *r, const struct str *s, const struct str *chars, int sides)
{
    size_t from = 0, to = s->n;
    while (sides & STRIP_LEFT && from < to && in_set(at(s, from), s->p + from, chars)) {
        template__step(r, chars ? chars->n : 0);
        from += at(s, from).bytes;
    }
    while (sides & STRIP_RIGHT && to > from) {
        size_t c = to - 1;
        while ((s->p[c] & 0xc0) == 0x80) c--;
        if (!in_set(at(s, c), s->p + c, chars)) break;
        template__step(r, chars ? chars->n : 0);
        to = c;
    }
    return template__sub(r, s, from, to - from);
}

/* ---- making ---- */

struct value template__replace(struct run *r, const struct str *s, const struct str *old,
                               const struct str *with, int64_t count)
{
    struct builder b = template__builder(r);
    size_t from = 0;
    if (old->n == 0) { /* between all characters */
        for (; count != 0 && from < s->n; count--) {
            template__put_str(&b, with);
            template__put_sub(&b, s, from, at(s, from).bytes);
            from += at(s, from).bytes;
        }
        if (count != 0) template__put_str(&b, with);
    }
    for (; old->n && count != 0; count--) {
        size_t found = template__find(r, s, from, s->n, old);
        if (found == SIZE_MAX) break;
        template__put_sub(&b, s, from, found - from);
        template__put_str(&b, with);
        from = found + old->n;
    }
    template__put_sub(&b, s, from, s->n - from);
    return template__built(&b);
}

/* The C library's maps of letters: one locale for the process, opened by the first who asks. */
static locale_t letters(struct run *r)
{
    static _Atomic(locale_t) shared;
    locale_t l = atomic_load(&shared), none = NULL;
    if (l) return l;
    l = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    if (!l) template__fail(r, ERR_UNSUPPORTED, "the system lacks the locale C.UTF-8");
    if (atomic_compare_exchange_strong(&shared, &none, l)) return l;
    freelocale(l);
    return none;
}

struct value template__case(struct run *r, const struct str *s, enum letter_case how)
{
    struct builder b = template__builder(r);
    locale_t utf8 = letters(r);
    bool begins = true; /* a word, or the string */
    for (size_t i = 0; i < s->n;) {
        struct unicode_char c = at(s, i);
        wint_t w = (wint_t)c.code;
        bool up = how == CASE_UPPER || (how >= CASE_CAPITAL && begins);
        if (how == CASE_SWAP) up = !(c.class & UNICODE_UPPER);
        uint32_t code = (uint32_t)(up ? towupper_l(w, utf8) : towlower_l(w, utf8));
        begins = false;
        if (how == CASE_TITLE) begins = !(c.class & (UNICODE_UPPER | UNICODE_LOWER));
        if (how == CASE_WORDS)
            begins = template__space(c.code) || (c.code < 128 && strchr("-({[<", (int)c.code));
        const uint8_t *mark = s->mark ? s->mark + i : NULL;
        if (up && c.code == SHARP_S) { /* the one common letter that becomes two */
            template__put_code(&b, 'S', mark);
            code = how == CASE_UPPER || how == CASE_SWAP ? 'S' : 's';
        }
        template__put_code(&b, code, mark);
        i += c.bytes;
    }
    return template__built(&b);
}

struct value template__escape(struct run *r, const struct str *s)
{
    struct builder b = template__builder(r);
    for (size_t i = 0; i < s->n; i++) {
        char c = s->p[i];
        if (c == '&')
            template__put_cstr(&b, "&amp;");
        else if (c == '<' || c == '>')
            template__put_cstr(&b, c == '<' ? "&lt;" : "&gt;");
        else if (c == '\'' || c == '"')
            template__put_cstr(&b, c == '"' ? "&#34;" : "&#39;");
        else
            template__put_sub(&b, s, i, 1);
    }
    struct value v = template__built(&b);
    v.flag = FLAG_SAFE;
    return v;
}

/* ---- splitting ---- */

static void push(struct run *r, struct list *l, const struct str *s, size_t from, size_t to)
{
    template__push(r, l, template__sub(r, s, from, to - from));
}

static struct list *split_space(struct run *r, const struct str *s, int64_t max)
{
    struct list *l = template__list_new(r, 0);
    for (size_t i = 0;; max--) {
        while (i < s->n && template__space(at(s, i).code)) i += at(s, i).bytes;
        if (i == s->n) return l;
        size_t from = i;
        if (max == 0) i = s->n;
        while (i < s->n && !template__space(at(s, i).code)) i += at(s, i).bytes;
        push(r, l, s, from, i);
    }
}

/* The last `max` words; what stands before them stays whole. */
static struct list *split_space_right(struct run *r, const struct str *s, int64_t max)
{
    struct list *all = split_space(r, s, -1);
    if (max < 0 || all->n <= max) return all;
    struct list *l = template__list_new(r, (uint32_t)max + 1);
    uint32_t first = all->n - (uint32_t)max;
    const struct str *last = all->at[first - 1].s;
    size_t end = (size_t)(last->p - s->p) + last->n;
    push(r, l, s, 0, end);
    for (uint32_t i = first; i < all->n; i++) template__push(r, l, all->at[i]);
    return l;
}

/* Separators that overlap ("aaa" by "aa") are met from the right. */
static struct list *split_right(struct run *r, const struct str *s, const struct str *sep,
                                int64_t max)
{
    struct list *back = template__list_new(r, 0);
    size_t to = s->n;
    for (; max != 0; max--) {
        size_t found = template__rfind(r, s, 0, to, sep);
        if (found == SIZE_MAX) break;
        push(r, back, s, found + sep->n, to);
        to = found;
    }
    push(r, back, s, 0, to);
    struct list *l = template__list_new(r, back->n);
    for (uint32_t i = back->n; i-- > 0;) template__push(r, l, back->at[i]);
    return l;
}

struct value template__split(struct run *r, const struct str *s, const struct str *sep, int64_t max,
                             bool right)
{
    if (!sep) return v_list(right ? split_space_right(r, s, max) : split_space(r, s, max));
    if (sep->n == 0) template__bad(r, "split by an empty separator");
    if (right) return v_list(split_right(r, s, sep, max));
    struct list *l = template__list_new(r, 0);
    size_t from = 0;
    for (; max != 0; max--) {
        size_t found = template__find(r, s, from, s->n, sep);
        if (found == SIZE_MAX) break;
        push(r, l, s, from, found);
        from = found + sep->n;
    }
    push(r, l, s, from, s->n);
    return v_list(l);
}

static bool line_end(uint32_t code)
{
    return (code >= 10 && code <= 13) || (code >= 28 && code <= 30) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

struct value template__lines(struct run *r, const struct str *s, bool keep)
{
    struct list *l = template__list_new(r, 0);
    for (size_t from = 0, i = 0; i < s->n; from = i) {
        while (i < s->n && !line_end(at(s, i).code)) i += at(s, i).bytes;
        size_t end = i;
        if (i < s->n)
            i += s->p[i] == '\r' && i + 1 < s->n && s->p[i + 1] == '\n' ? 2 : at(s, i).bytes;
        push(r, l, s, from, keep ? i : end);
    }
    return v_list(l);
}
