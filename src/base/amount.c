/* Numbers are read digit by digit: strtod would take hexadecimal, "inf" and what the locale says. */
#include "amount.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* Digits, with a fraction or without; NULL: there are none. */
static const char *number(const char *s, double *out)
{
    const char *p = s;
    double one = 1;
    *out = 0;
    for (; *p >= '0' && *p <= '9'; p++) *out = *out * 10 + (*p - '0');
    if (p == s) return NULL;
    if (*p != '.') return p;
    for (s = ++p; *p >= '0' && *p <= '9'; p++) *out += (*p - '0') * (one /= 10);
    return p == s ? NULL : p;
}

static bool unit_bytes(const char *s, double *out)
{
    static const char names[] = "kmgt";
    const char *at = *s ? strchr(names, *s | 32) : NULL;
    *out = 1;
    if (!*s || strcasecmp(s, "b") == 0) return true;
    if (!at) return false;
    double base = strcasecmp(s + 1, "b") == 0 ? 1000 : 1024;
    if (s[1] && base == 1024 && strcasecmp(s + 1, "ib")) return false;
    *out = pow(base, (double)(at - names + 1));
    return true;
}

int amount_bytes(const char *s, size_t *out, struct err *e)
{
    double n, unit;
    const char *end = number(s, &n);
    if (!end || !unit_bytes(end, &unit) || !(n * unit < 9e18))
        return err_set(e, ERR_USAGE, "'%.40s' is no amount of bytes, such as 12GiB", s);
    *out = (size_t)(n * unit);
    return 0;
}

int64_t amount_ns_of(double seconds)
{
    double ns = seconds * 1e9;
    if (isnan(ns)) return 0;
    return ns >= 9.2e18 ? INT64_MAX : ns <= -9.2e18 ? -INT64_MAX : (int64_t)ns;
}

int amount_ns(const char *s, int64_t *out, struct err *e)
{
    static const struct {
        const char *name;
        double s;
    } units[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
    const char *p = s + (*s == '-');
    double n, sum = 0;
    bool good = *p, plain = false;
    while (good && *p) {
        size_t i = 0, len = 0;
        const char *end = number(p, &n);
        good = end && !plain;
        if (!good) break;
        for (; i < sizeof units / sizeof *units; i++) {
            len = strlen(units[i].name);
            if (strncmp(end, units[i].name, len)) continue;
            if (!end[len] || (end[len] >= '0' && end[len] <= '9')) break;
        }
        plain = !*end; /* the only one */
        good = plain ? sum == 0 && p == s + (*s == '-') : i < sizeof units / sizeof *units;
        sum += good ? n * (plain ? 1 : units[i].s) : 0;
        p = plain ? end : end + len;
    }
    if (!good) return err_set(e, ERR_USAGE, "'%.40s' is no length of time, such as 5m", s);
    *out = amount_ns_of(*s == '-' ? -sum : sum);
    return 0;
}
