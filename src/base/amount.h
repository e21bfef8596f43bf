/* Amounts as people write them: "12GiB", "1.5G", "500MB", "4096"; "5m", "1h30m", "90", "-1".
 * Errors: ERR_USAGE, one line that shows what was given.
 */
#ifndef AMOUNT_H
#define AMOUNT_H

#include "err.h"
#include <stddef.h>
#include <stdint.h>

/* Units K, M, G, T are powers of 1024, as are KiB ...; KB ... are powers of 1000. */
ERR_DOOR int amount_bytes(const char *s, size_t *out, struct err *e);
/* Seconds where no unit stands; units ns, us, ms, s, m, h. Too long ones are as long as can be: 292 years. */
ERR_DOOR int amount_ns(const char *s, int64_t *out, struct err *e);
/* The same of a number. */
int64_t amount_ns_of(double seconds);

#endif
