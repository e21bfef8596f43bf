/* Numbers within bounds, digit by digit. An integer between bounds of as many digits is the first digits
 * they share, then a digit between theirs and any more, or one of theirs and a bound on the rest; a
 * fraction likewise. Numbers that are not bounded have at most 16 digits before and behind the
 * point, so a model cannot write digits without end; bounded ones at most 15 in all, which a
 * double tells apart, so that what is within the bounds in decimal is when read.
 */
#include "grammar_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 15, UNBOUND = 16 };

typedef struct grammar__build B;
typedef grammar__n *N;

static N seq(B *b, N x, N y)
{
    return grammar__two(b, GRAMMAR__SEQ, x, y);
}

static N alt(B *b, N x, N y)
{
    return grammar__two(b, GRAMMAR__ALT, x, y);
}

/* A digit between two, none if they are the wrong way round. */
static N digit(B *b, int first, int last)
{
    struct grammar__chars c = {0};
    if (first > last) return grammar__none(b);
    grammar__chars_add(&c, (uint32_t)first, (uint32_t)last);
    return grammar__chars_node(b, &c, false);
}

static N digits(B *b, uint32_t min, uint32_t max)
{
    return grammar__rep(b, digit(b, '0', '9'), min, max);
}

N grammar__any_number(B *b, bool integer)
{
    N whole = alt(b, grammar__lit(b, "0"), seq(b, digit(b, '1', '9'), digits(b, 0, UNBOUND - 1)));
    N x = seq(b, grammar__opt(b, grammar__lit(b, "-")), whole);
    if (integer) return x;
    struct grammar__chars e = {0}, sign = {0};
    grammar__chars_add(&e, 'e', 'e');
    grammar__chars_add(&e, 'E', 'E');
    grammar__chars_add(&sign, '+', '+');
    grammar__chars_add(&sign, '-', '-');
    N fraction = seq(b, grammar__lit(b, "."), digits(b, 1, UNBOUND));
    N power = seq(b,
                  seq(b, grammar__chars_node(b, &e, false),
                      grammar__opt(b, grammar__chars_node(b, &sign, false))),
                  digits(b, 1, 2));
    return seq(b, seq(b, x, grammar__opt(b, fraction)), grammar__opt(b, power));
}

static bool all(const char *s, char c)
{
    return s[strspn(s, (char[]){c, 0})] == 0;
}

/* As many digits as both have, between them. */
static N same_length(B *b, const char *low, const char *high)
{
    uint32_t n = (uint32_t)strlen(low);
    char edge[32];
    if (n == 0) return grammar__empty(b);
    if (all(low, '0') && all(high, '9')) return digits(b, n, n);
    if (*low == *high) return seq(b, digit(b, *low, *low), same_length(b, low + 1, high + 1));
    memset(edge, '9', n - 1);
    edge[n - 1] = 0;
    N first = seq(b, digit(b, *low, *low), same_length(b, low + 1, edge));
    memset(edge, '0', n - 1);
    N last = seq(b, digit(b, *high, *high), same_length(b, edge, high + 1));
    N between = seq(b, digit(b, *low + 1, *high - 1), digits(b, n - 1, n - 1));
    return alt(b, alt(b, first, between), last);
}

/* 0 <= low <= high, else none. */
static N integers(B *b, uint64_t low, uint64_t high)
{
    N x = grammar__none(b);
    uint64_t from = 0, to = 9;
    for (int n = 1; n <= 19; n++) {
        char first[32], last[32];
        snprintf(first, sizeof first, "%" PRIu64, low > from ? low : from);
        snprintf(last, sizeof last, "%" PRIu64, high < to ? high : to);
        if ((low > from ? low : from) <= (high < to ? high : to))
            x = alt(b, x, same_length(b, first, last));
        from = to + 1;
        to = to * 10 + 9;
    }
    return x;
}

static N signs(B *b, N minus, N plus)
{
    return alt(b, seq(b, grammar__lit(b, "-"), minus), plus);
}

static N integer_between(B *b, const struct grammar__bounds *v)
{
    static const double most = 9007199254740991.0; /* 2^53 - 1 */
    double low = v->min < -most ? -most : ceil(v->min), high = v->max > most ? most : floor(v->max);
    if (v->open_min && low == v->min) low++;
    if (v->open_max && high == v->max) high--;
    if (low > most || high < -most)
        return grammar__fail(b, ERR_UNSUPPORTED, "a bound of an integer beyond 2^53");
    if (low > high) return grammar__none(b);
    N minus =
        low < 0 ? integers(b, high < 0 ? (uint64_t)-high : 1, (uint64_t)-low) : grammar__none(b);
    N plus =
        high >= 0 ? integers(b, low > 0 ? (uint64_t)low : 0, (uint64_t)high) : grammar__none(b);
    return signs(b, minus, plus);
}

/* A bound that is not negative: before and behind the point. */
struct decimal {
    uint64_t whole;
    char fraction[64]; /* no zeros at the end */
    bool open;
};

/* The shortest decimal number that is read as v, or one of DIGITS digits next to it, up or down.
 * False: it is too small for that. */
static bool decimal(double v, bool open, bool up, struct decimal *d)
{
    char text[64];
    int p = 0;
    do {
        snprintf(text, sizeof text, "%.*e", p, v);
    } while (strtod(text, NULL) != v && ++p < DIGITS);
    int power = atoi(strchr(text, 'e') + 1);
    if (p == DIGITS) {
        double step = pow(10, power - DIGITS + 1), near = strtod(text, NULL);
        snprintf(text, sizeof text, "%.*e", DIGITS - 1, up ? v + step : v - step);
        if (up ? near < v : near > v) near = strtod(text, NULL);
        v = near, open = false, p = DIGITS - 1;
    }
    int places = p - power;
    if (places < 0) places = 0;
    if (places > 40) return false;
    d->whole = (uint64_t)v;
    d->open = open;
    snprintf(text, sizeof text, "%.*f", places, v);
    char *point = strchr(text, '.');
    size_t n = point ? strlen(point + 1) : 0;
    while (n > 0 && point[n] == '0') n--;
    memcpy(d->fraction, point ? point + 1 : "", n);
    d->fraction[n] = 0;
    return true;
}

/* The digits behind a point from one of them on, at most n: those of at least (above: more than) f.
 * first: it is the first of them, so there must be one. */
static N at_least(B *b, const char *f, bool above, int n, bool first)
{
    if (!*f && !above) return digits(b, first, (uint32_t)n);
    if (n <= 0) return grammar__none(b);
    int c = *f ? *f : '0';
    N more = seq(b, digit(b, c + 1, '9'), digits(b, 0, (uint32_t)n - 1));
    N same = seq(b, digit(b, c, c), at_least(b, *f ? f + 1 : f, above, n - 1, false));
    return alt(b, more, same);
}

static N at_most(B *b, const char *f, bool below, int n, bool first)
{
    if (!*f && below) return grammar__none(b);
    if (!*f) return grammar__rep(b, grammar__lit(b, "0"), first, (uint32_t)n);
    if (n <= 0) return grammar__empty(b);
    N less = seq(b, digit(b, '0', *f - 1), digits(b, 0, (uint32_t)n - 1));
    N same = seq(b, digit(b, *f, *f), at_most(b, f + 1, below, n - 1, false));
    return alt(b, alt(b, less, same), first ? grammar__none(b) : grammar__empty(b));
}

/* low and high: the rest of their digits stands at f and g. */
static N both(B *b, const struct decimal *low, const char *f, const struct decimal *high,
              const char *g, int n, bool first)
{
    if (!*f && !low->open) return at_most(b, g, high->open, n, first);
    if (n <= 0 || !*g) return grammar__none(b);
    int c = *f ? *f : '0', d = *g;
    const char *more = *f ? f + 1 : f;
    if (c > d) return grammar__none(b);
    if (c == d) return seq(b, digit(b, c, c), both(b, low, more, high, g + 1, n - 1, false));
    N least = seq(b, digit(b, c, c), at_least(b, more, low->open, n - 1, false));
    N most = seq(b, digit(b, d, d), at_most(b, g + 1, high->open, n - 1, false));
    N between = seq(b, digit(b, c + 1, d - 1), digits(b, 0, (uint32_t)n - 1));
    return alt(b, alt(b, least, between), most);
}

/* How many digits may stand behind the point. */
static int room(uint64_t whole, const char *f, const char *g)
{
    int n = DIGITS, long_f = (int)strlen(f), long_g = (int)strlen(g);
    for (; whole; whole /= 10) n--;
    if (n < long_f) n = long_f;
    return n < long_g ? long_g : n;
}

/* A whole part and the digits behind its point, which it may go without only if `bare`. */
static N with_fraction(B *b, N whole, N fraction, bool bare)
{
    N some = seq(b, grammar__lit(b, "."), fraction);
    return seq(b, whole, bare ? grammar__opt(b, some) : some);
}

static N between(B *b, const struct decimal *low, const struct decimal *high)
{
    const char *f = low->fraction, *g = high->fraction;
    char text[32];
    if (low->whole > high->whole) return grammar__none(b);
    snprintf(text, sizeof text, "%" PRIu64, low->whole);
    N least = grammar__lit(b, text);
    bool bare = !*f && !low->open;
    if (low->whole == high->whole) {
        N part = both(b, low, f, high, g, room(low->whole, f, g), true);
        return with_fraction(b, least, part, bare && (*g || !high->open));
    }
    N part = at_least(b, f, low->open, room(low->whole, f, ""), true);
    N x = with_fraction(b, least, part, bare);
    snprintf(text, sizeof text, "%" PRIu64, high->whole);
    part = at_most(b, g, high->open, room(high->whole, g, ""), true);
    x = alt(b, x, with_fraction(b, grammar__lit(b, text), part, *g || !high->open));
    if (high->whole - low->whole < 2) return x;
    N any = digits(b, 1, (uint32_t)room(high->whole, "", ""));
    return alt(b, x, with_fraction(b, integers(b, low->whole + 1, high->whole - 1), any, true));
}

/* Numbers of one sign by their size, none if there are none. */
static N sizes(B *b, double low, bool open_low, double high, bool open_high)
{
    struct decimal l, h;
    const double most = 999999999999999.0; /* 15 digits */
    if (high > most) high = most, open_high = false;
    if (low > most) return grammar__fail(b, ERR_UNSUPPORTED, "a bound of a number beyond 1e15");
    if (low > high) return grammar__none(b);
    if (!decimal(low, open_low, true, &l) || !decimal(high, open_high, false, &h))
        return grammar__fail(b, ERR_UNSUPPORTED, "a bound of a number below 1e-40");
    return between(b, &l, &h);
}

static N number_between(B *b, const struct grammar__bounds *v)
{
    N minus = grammar__none(b), plus = minus;
    if (v->min < 0)
        minus =
            sizes(b, v->max < 0 ? -v->max : 0, v->max <= 0 && v->open_max, -v->min, v->open_min);
    if (v->max >= 0)
        plus = sizes(b, v->min > 0 ? v->min : 0, v->min >= 0 && v->open_min, v->max, v->open_max);
    return signs(b, minus, plus);
}

N grammar__number(B *b, const struct grammar__bounds *v, bool integer)
{
    if (v->min == -INFINITY && v->max == INFINITY) return grammar__any_number(b, integer);
    return integer ? integer_between(b, v) : number_between(b, v);
}
