/* Which trace a request belongs to: W3C Trace Context (Recommendation of 2021-11-23), version 00 of the
 * header traceparent. What does not read so to the letter begins a trace of its own. The ids go to
 * the access log only. */
#include "api_int.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { ID = 32, SPAN = 16, WHOLE = 3 + ID + 1 + SPAN + 1 + 2 };

static bool is_id(const char *s, size_t n)
{
    return strspn(s, "0123456789abcdef") >= n && strspn(s, "0") < n;
}

void api__random_hex(char *out, size_t digits)
{
    unsigned char bits[16] = {0};
    if (getrandom(bits, sizeof bits, GRND_NONBLOCK) < 0) memset(bits, 0, sizeof bits);
    for (size_t i = 0; i < digits / 2; i++) snprintf(out + 2 * i, 3, "%02x", bits[i]);
}

void api__trace_take(struct api__trace *t, const char *header)
{
    api__random_hex(t->span, SPAN);
    t->parent[0] = 0;
    if (header && strlen(header) == WHOLE && strncmp(header, "00-", 3) == 0 &&
        is_id(header + 3, ID) && header[3 + ID] == '-' && is_id(header + 4 + ID, SPAN) &&
        header[4 + ID + SPAN] == '-' && strspn(header + 5 + ID + SPAN, "0123456789abcdef") == 2) {
        memcpy(t->id, header + 3, ID);
        memcpy(t->parent, header + 4 + ID, SPAN);
        t->id[ID] = t->parent[SPAN] = 0;
    } else {
        api__random_hex(t->id, ID);
    }
}
