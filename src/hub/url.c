/* Judging URLs by their parsed parts. A host counts as this machine by its literal address or the
 * name localhost; other names are not resolved, since an answer of the resolver can change between
 * the check and the use. */
#include "url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

static bool loopback(const char *host)
{
    struct in_addr a;
    if (inet_pton(AF_INET, host, &a) == 1) return ntohl(a.s_addr) >> 24 == 127;
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

struct origin {
    char *scheme, *host, *port; /* libcurl's; lower-case scheme */
};

static bool origin_open(struct origin *o, const char *url)
{
    CURLU *u = curl_url();
    *o = (struct origin){0};
    bool ok = u && !curl_url_set(u, CURLUPART_URL, url, 0) &&
              !curl_url_get(u, CURLUPART_SCHEME, &o->scheme, 0) &&
              !curl_url_get(u, CURLUPART_HOST, &o->host, 0) &&
              !curl_url_get(u, CURLUPART_PORT, &o->port, CURLU_DEFAULT_PORT);
    curl_url_cleanup(u);
    return ok && o->host[0];
}

static void origin_close(struct origin *o)
{
    curl_free(o->scheme);
    curl_free(o->host);
    curl_free(o->port);
}

bool url_same_origin(const char *a, const char *b)
{
    struct origin p, q;
    bool ok_p = origin_open(&p, a), ok_q = origin_open(&q, b);
    bool same = ok_p && ok_q && strcmp(p.scheme, q.scheme) == 0 &&
                strcasecmp(p.host, q.host) == 0 && strcmp(p.port, q.port) == 0;
    origin_close(&p);
    origin_close(&q);
    return same;
}

const char *url_shown(const char *url, char out[URL_SHOWN])
{
    static const CURLUPart hide[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS,
                                     CURLUPART_QUERY, CURLUPART_FRAGMENT};
    CURLU *u = curl_url();
    char *s = NULL;
    bool ok = u && !curl_url_set(u, CURLUPART_URL, url, 0);
    for (size_t i = 0; ok && i < sizeof hide / sizeof *hide; i++)
        ok = !curl_url_set(u, hide[i], NULL, 0);
    ok = ok && !curl_url_get(u, CURLUPART_URL, &s, 0);
    snprintf(out, URL_SHOWN, "%s", ok ? s : "(no URL)");
    curl_free(s);
    curl_url_cleanup(u);
    return out;
}

int url_check(const char *url, const char *from, struct err *e)
{
    size_t n = strlen(url);
    if (n >= URL_MAX)
        return err_set(e, ERR_LIMIT, "URL of %zu bytes, longer than %d", n, URL_MAX - 1);
    for (size_t i = 0; i < n; i++)
        if (url[i] <= ' ' || url[i] > '~')
            return err_set(e, ERR_FORMAT, "URL with byte 0x%02x at %zu: it should be escaped",
                           (unsigned char)url[i], i);
    struct origin o;
    char shown[URL_SHOWN];
    int rc = 0;
    if (!origin_open(&o, url))
        rc = err_set(e, ERR_FORMAT, "'%.150s' names no web host: only https is fetched", url);
    else if (strcmp(o.scheme, "https") != 0 && !(strcmp(o.scheme, "http") == 0 && loopback(o.host)))
        rc = err_set(e, ERR_FORMAT, "%s: only https is fetched (http from this machine only)",
                     url_shown(url, shown));
    else if (from && strcmp(o.scheme, "http") == 0 && strncasecmp(from, "https:", 6) == 0)
        rc = err_set(e, ERR_FORMAT, "an https page leads to %s: not followed",
                     url_shown(url, shown));
    origin_close(&o);
    return rc;
}

int url_join(const char *base, const char *link, struct buf *out, struct err *e)
{
    CURLU *u = curl_url();
    char *s = NULL;
    buf_reset(out);
    bool ok = u && !curl_url_set(u, CURLUPART_URL, base, 0) &&
              !curl_url_set(u, CURLUPART_URL, link, 0) && !curl_url_get(u, CURLUPART_URL, &s, 0) &&
              buf_puts(out, s);
    curl_free(s);
    curl_url_cleanup(u);
    return ok ? 0 : err_set(e, ERR_FORMAT, "'%.150s' is no link", link);
}
