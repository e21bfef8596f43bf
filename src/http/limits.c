/* The table of limits: what stands here is all that is bounded, and what is printed. */
#include "http.h"

#include <string.h>

const struct http_limits http_limits_default = {
    .connections = 10240,
    .connections_per_address = 0,
    .header_bytes = 16 * 1024,
    .header_fields = 100,
    .body_bytes = 4 * 1024 * 1024,
    .bodies_bytes = 256 * 1024 * 1024,
    .header_seconds = 10,
    .body_bytes_per_s = 1024,
    .idle_seconds = 75,
    .queue_bytes = 256 * 1024,
    .stalled_seconds = 60,
    .close_seconds = 30,
};

#define AT(field) offsetof(struct http_limits, field)
enum { DAY = 24 * 3600 };

const struct http_limit_row http_limit_rows[] = {
    {"connections", "", "open at once; beyond, one that idles makes room", AT(connections), 1,
     1 << 20},
    {"connections-per-address", "", "of a client; 0: any number", AT(connections_per_address), 0,
     1 << 20},
    {"header-bytes", "bytes", "request line and headers", AT(header_bytes), 1024, 1 << 20},
    {"header-fields", "", "headers and fields of the query", AT(header_fields), 1, 1000},
    {"body-bytes", "bytes", "body of one request", AT(body_bytes), 0, INT64_C(1) << 30},
    {"bodies-bytes", "bytes", "bodies of all requests at once", AT(bodies_bytes), 0,
     INT64_C(1) << 40},
    {"header-seconds", "s", "to send the headers", AT(header_seconds), 1, DAY},
    {"body-bytes-per-s", "bytes/s", "least rate of a body", AT(body_bytes_per_s), 0, 1 << 30},
    {"idle-seconds", "s", "keep-alive between requests", AT(idle_seconds), 1, DAY},
    {"queue-bytes", "bytes", "of an answer not yet read", AT(queue_bytes), 1024, 1 << 30},
    {"stalled-seconds", "s", "until a client that reads nothing is cut", AT(stalled_seconds), 1,
     DAY},
    {"close-seconds", "s", "for answers under way at the end", AT(close_seconds), 0, DAY},
    {0},
};

const char *const http_cut_names[HTTP_CUTS] = {
    [HTTP_CUT_IDLE] = "idle",       [HTTP_CUT_SLOW] = "slow", [HTTP_CUT_STALLED] = "stalled",
    [HTTP_CUT_FULL] = "full",       [HTTP_CUT_LEFT] = "left", [HTTP_CUT_END] = "end",
    [HTTP_CUT_ADDRESS] = "address",
};

int64_t http_limit(const struct http_limits *l, const struct http_limit_row *row)
{
    int64_t value;
    memcpy(&value, (const char *)l + row->offset, sizeof value);
    return value;
}
