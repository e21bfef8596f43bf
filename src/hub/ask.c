/* The key goes to the server named and to no other: no redirect is followed, no proxy asked. */
#include "ask.h"

#include "hub_int.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_SECONDS = 5, KEY_MAX = 1000 };

static size_t take(char *p, size_t size, size_t n, void *arg)
{
    return buf_put(arg, p, size * n) ? n : 0;
}

static int send_key(CURL *c, const char *key, struct curl_slist **list, struct err *e)
{
    char line[KEY_MAX + 40];
    for (const char *p = key; p && *p; p++)
        if (!isgraph((unsigned char)*p)) return err_set(e, ERR_USAGE, "the key is none");
    if (!key) return 0;
    if (strlen(key) > KEY_MAX) return err_set(e, ERR_USAGE, "a key of %zu bytes", strlen(key));
    snprintf(line, sizeof line, "Authorization: Bearer %s", key);
    *list = curl_slist_append(NULL, line);
    if (!*list || curl_easy_setopt(c, CURLOPT_HTTPHEADER, *list))
        return err_nomem(e, strlen(line), "a question");
    return 0;
}

int ask_get(const char *url, const char *key, struct buf *out, long *status, struct err *e)
{
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *list = NULL;
    CURL *c = curl_easy_init();
    if (!c) return err_nomem(e, 0, "a question");
    int rc = send_key(c, key, &list, e);
    if (!rc &&
        (!hub__curl_options(c) || curl_easy_setopt(c, CURLOPT_URL, url) ||
         curl_easy_setopt(c, CURLOPT_PROXY, "") || curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why) ||
         curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS) ||
         curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)ASK_SECONDS) ||
         curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take) ||
         curl_easy_setopt(c, CURLOPT_WRITEDATA, out)))
        rc = err_set(e, ERR_IO, "libcurl cannot ask %.200s", url);
    if (!rc) {
        CURLcode got = curl_easy_perform(c);
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, status);
        if (got)
            rc = err_set(e, ERR_IO, "no answer from %.200s: %s", url,
                         *why ? why : curl_easy_strerror(got));
    }
    curl_slist_free_all(list);
    curl_easy_cleanup(c);
    return rc;
}
