/* What a request says, checked and copied, so that it outlives the connection. The library's parser
 * (0.9.75) is kinder than is safe behind a proxy that reads the same bytes differently: it takes a bare
 * line feed for a line's end, stops at NUL, joins a folded line to the *name* of its header and keeps
 * spaces in names. But it parses in place, with zeros for separators. So in headers that are what they
 * seem, method, target, version and each name and value lie one behind the other, as far apart as their
 * separators are long, up to the end. Whatever lies differently is refused; should another
 * version of the library lay it out otherwise, all is.
 */
#include "http_int.h"

#include "clock.h"

#include <assert.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BAD = 400, TOO_LARGE = 413, HEADERS_TOO_LARGE = 431, BUSY = 503, PAIRS_STEP = 16 };

static void take_peer(struct http_request *r)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = i ? i->client_addr : NULL;
    char *p = r->peer;
    if (!a || getnameinfo(a,
                          a->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                   : sizeof(struct sockaddr_in),
                          p, sizeof r->peer, NULL, 0, NI_NUMERICHOST) != 0)
        strcpy(p, "unknown");
    if (strncmp(p, "::ffff:", 7) == 0 && strchr(p, '.')) memmove(p, p + 7, strlen(p + 7) + 1);
}

struct http_request *http__request_open(struct http *h, struct MHD_Connection *mhd,
                                        const char *line)
{
    struct http_request *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->server = h;
    r->mhd = mhd;
    r->start_ns = clock_ns();
    r->line = line;
    r->line_bytes = strlen(line);
    r->body = BUF_INIT((size_t)h->opts.limits.body_bytes);
    /* The target, and decoded path and query; names and values; the method. */
    r->text = BUF_INIT((size_t)h->opts.limits.header_bytes * 3 + 64);
    buf_put(&r->text, line, r->line_bytes + 1); /* the library decodes it in place */
    thread_monitor_init(&r->lock);
    take_peer(r);
    return r;
}

void http__request_free(struct http_request *r)
{
    if (r->response) MHD_destroy_response(r->response);
    thread_monitor_free(&r->lock);
    buf_free(&r->text);
    buf_free(&r->body);
    buf_free(&r->queue);
    free(r->pairs);
    free(r);
}

static uint32_t put_string(struct http_request *r, const char *s, size_t n)
{
    uint32_t at = (uint32_t)r->text.len;
    buf_put(&r->text, s, n);
    buf_putc(&r->text, 0);
    return at;
}

static int put_pair(struct http_request *r, uint32_t name, uint32_t value)
{
    int n = r->n_headers + r->n_query;
    if (n >= r->server->opts.limits.header_fields) return HEADERS_TOO_LARGE;
    if (n % PAIRS_STEP == 0) {
        struct http__pair *p = realloc(r->pairs, (size_t)(n + PAIRS_STEP) * sizeof *p);
        if (!p) return BUSY;
        r->pairs = p;
    }
    r->pairs[n] = (struct http__pair){name, value};
    return r->text.failed ? HEADERS_TOO_LARGE : 0;
}

/* RFC 9110, 5.6.2. */
static bool is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= ' ' || c >= 127 || strchr("\"(),/:;<=>?@[\\]{}", c)) return false;
    }
    return n > 0;
}

struct taking {
    struct http_request *r;
    int refuse, hosts, lengths, encodings;
    bool chunked;
    uint64_t length;
    const char *at; /* where the next name must lie */
};

/* "Name: value\r\n" in its place. */
static bool lies_in_place(struct taking *t, const char *name, size_t name_bytes, const char *value,
                          size_t value_bytes)
{
    if (name != t->at || !value || value <= name + name_bytes) return false;
    for (const char *p = name + name_bytes + 1; p < value; p++)
        if (*p != ' ' && *p != '\t') return false;
    t->at = value + value_bytes + 2;
    return true;
}

static int take_special(struct taking *t, const char *name, const char *value, size_t n)
{
    if (strcasecmp(name, "Host") == 0) {
        t->hosts++;
    } else if (strcasecmp(name, "Content-Length") == 0) {
        t->lengths++;
        if (!n || n > 18 || strspn(value, "0123456789") < n) return n > 18 ? TOO_LARGE : BAD;
        t->length = strtoull(value, NULL, 10);
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        t->encodings++;
        t->chunked = n == 7 && strncasecmp(value, "chunked", 7) == 0;
    }
    return 0;
}

static enum MHD_Result take_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                   size_t name_bytes, const char *value, size_t n)
{
    (void)kind;
    struct taking *t = arg;
    t->refuse = BAD;
    if (!lies_in_place(t, name, name_bytes, value, n) || !is_token(name, name_bytes)) return MHD_NO;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < ' ' && c != '\t') || c == 127) return MHD_NO;
    }
    while (n && (value[n - 1] == ' ' || value[n - 1] == '\t')) n--;
    t->refuse = take_special(t, name, value, n);
    if (t->refuse) return MHD_NO;
    uint32_t at = put_string(t->r, name, name_bytes);
    t->refuse = put_pair(t->r, at, put_string(t->r, value, n));
    if (t->refuse) return MHD_NO;
    t->r->n_headers++;
    return MHD_YES;
}

static int take_headers(struct http_request *r, const char *version, const char *end)
{
    struct taking t = {.r = r, .at = version + 10};
    MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, take_header, &t);
    if (t.refuse) return t.refuse;
    if (t.at + 2 != end) return BAD;
    bool old = r->old = strcmp(version, "HTTP/1.0") == 0;
    if (t.hosts > 1 || (!t.hosts && !old) || t.lengths > 1) return BAD;
    if (t.encodings && (t.encodings > 1 || !t.chunked || t.lengths || old)) return BAD;
    if (t.length > (uint64_t)r->server->opts.limits.body_bytes) return TOO_LARGE;
    return 0;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes n bytes of s into text as a string of its own. */
static int decode(struct http_request *r, size_t at, size_t n, bool query, uint32_t *out)
{
    *out = (uint32_t)r->text.len;
    if (!buf_reserve(&r->text, n + 1)) return HEADERS_TOO_LARGE;
    const char *s = r->text.data + at;
    char *d = r->text.data + r->text.len;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= ' ' || c == 127) return BAD;
        if (c == '%') {
            int high = n - i > 2 ? hex(s[i + 1]) : -1;
            int low = high >= 0 ? hex(s[i + 2]) : -1;
            if (low < 0) return BAD;
            c = (unsigned char)(high * 16 + low);
            i += 2;
            if (!c || (!query && (c < ' ' || c == 127))) return BAD;
        } else if (query && c == '+') {
            c = ' ';
        }
        *d++ = (char)c;
    }
    *d++ = 0;
    r->text.len = (size_t)(d - r->text.data);
    return 0;
}

static int take_query(struct http_request *r, size_t at, size_t end)
{
    while (at < end) {
        const char *s = r->text.data + at;
        const char *stop = memchr(s, '&', end - at);
        size_t n = stop ? (size_t)(stop - s) : end - at;
        const char *equals = memchr(s, '=', n);
        size_t name = equals ? (size_t)(equals - s) : n, value = equals ? n - name - 1 : 0;
        if (n) {
            uint32_t name_at, value_at;
            int rc = decode(r, at, name, true, &name_at);
            if (!rc) rc = decode(r, at + n - value, value, true, &value_at);
            if (!rc) rc = put_pair(r, name_at, value_at);
            if (rc) return rc;
            r->n_query++;
        }
        at += n + 1;
    }
    return 0;
}

/* The target stands at the start of text. *query: where in it that begins. */
static int take_path(struct http_request *r, const char *method, size_t *query)
{
    const char *s = r->text.data;
    size_t n = r->line_bytes;
    if (strcmp(s, "*") == 0 && strcmp(method, "OPTIONS") == 0) {
        *query = n;
        return 0;
    }
    if (s[0] != '/') return BAD;
    const char *mark = memchr(s, '?', n);
    uint32_t path;
    *query = mark ? (size_t)(mark - s) + 1 : n;
    int rc = decode(r, 0, mark ? *query - 1 : n, false, &path);
    if (!rc) r->path = path;
    return rc;
}

int http__request_take(struct http_request *r, const char *method, const char *version)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (!i || r->text.failed) return HEADERS_TOO_LARGE;
    size_t n = strlen(method), query;
    if (!is_token(method, n) || method + n + 1 != r->line || version != r->line + r->line_bytes + 1)
        return BAD;
    int rc = take_path(r, method, &query);
    if (rc) return rc;
    uint32_t at = put_string(r, method, n);
    if (r->text.failed) return HEADERS_TOO_LARGE;
    r->method = at; /* from here on a refusal knows what it refuses */
    if (i->header_size > (size_t)r->server->opts.limits.header_bytes) return HEADERS_TOO_LARGE;
    rc = take_headers(r, version, method + i->header_size);
    if (!rc) rc = take_query(r, query, r->line_bytes);
    return !rc && r->text.failed ? HEADERS_TOO_LARGE : rc;
}

int http__request_body(struct http_request *r, const void *p, size_t n)
{
    struct http *h = r->server;
    if (n > r->body.cap - r->body.len) return TOO_LARGE;
    r->charged_bytes += (int64_t)n;
    atomic_fetch_add(&h->received_bytes, (int64_t)n);
    if (atomic_fetch_add(&h->bodies_bytes, (int64_t)n) + (int64_t)n > h->opts.limits.bodies_bytes)
        return BUSY;
    return buf_put(&r->body, p, n) ? 0 : BUSY;
}

/* Of a request that was not understood, for the log: nothing is known. */
void http__request_forget(struct http_request *r)
{
    buf_free(&r->text);
    r->method = r->path = 0;
    r->n_headers = r->n_query = 0;
}

const char *http_method(const struct http_request *r)
{
    return r->text.data && r->method ? r->text.data + r->method : "";
}

const char *http_path(const struct http_request *r)
{
    return r->text.data ? r->text.data + r->path : "";
}

const char *http_query(const struct http_request *r, const char *name)
{
    const char *text = r->text.data;
    for (int i = r->n_headers; i < r->n_headers + r->n_query; i++)
        if (strcmp(text + r->pairs[i].name, name) == 0) return text + r->pairs[i].value;
    return NULL;
}

const char *http_header(const struct http_request *r, const char *name)
{
    const char *text = r->text.data;
    for (int i = 0; i < r->n_headers; i++)
        if (strcasecmp(text + r->pairs[i].name, name) == 0) return text + r->pairs[i].value;
    return NULL;
}

const char *http_peer(const struct http_request *r)
{
    return r->peer;
}

const void *http_body(const struct http_request *r, size_t *n)
{
    *n = r->body.len;
    return r->body.data ? r->body.data : "";
}

const struct http *http_server(const struct http_request *r)
{
    return r->server;
}

void http_set_user(struct http_request *r, void *user)
{
    r->user = user;
}

void *http_user(const struct http_request *r)
{
    return r->user;
}
