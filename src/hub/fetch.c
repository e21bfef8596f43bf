/* What is asked of a server and what is believed of its answer.
 *
 * The invariant: between two runs, the bytes of a file behind `start` are a true beginning of what
 * the note beside it names, or the note says otherwise. So the file is cut before the note is
 * written and the note is written before the first byte; a kill at any point leaves one of the two
 * empty. Redirects are followed here, not by libcurl, since "http only to this machine" and "no
 * token elsewhere" must hold on every hop.
 * Whether the bytes are the right ones is decided by the caller's digest. */
#include "fetch.h"

#include "source.h"
#include "url.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    ETAG_MAX = 128,
    TOKEN_MAX = 1000,
    DISCARD_MAX = 1 << 20,
    WAIT_MAX_MS = 30000,
    PROGRESS_STEP = 1 << 20
};

struct fetch {
    CURL *curl;
    int retries;
    char why[CURL_ERROR_SIZE];
};

/* One request and where its body goes: a page or a job's file. */
struct sink {
    struct fetch *f;
    const char *url;   /* as first asked */
    const char *token; /* "Bearer ...", NULL: none */
    const char *accept;
    struct buf *page;
    struct fetch_job *job;
    char etag[ETAG_MAX];   /* of what the file holds already, "" not known */
    int64_t at, discarded; /* bytes of the body the file holds; bytes of refused answers */
    long status;           /* of the last answer */
    bool begun, transient; /* the body has begun; what failed may pass by itself */
    int rc;                /* why we hung up ourselves */
    struct err *e;
};

/* ---- notes ---- */

/* How much of the job's file can be kept; fills k->etag. */
static int resume_at(struct sink *k, struct err *e)
{
    struct fetch_job *job = k->job;
    char url[SHA256_HEX], was[SHA256_HEX] = "", etag[ETAG_MAX] = "";
    struct stat st;
    if (fstat(job->fd, &st)) return err_set(e, ERR_IO, "%s: %s", job->path, strerror(errno));
    if (sha256_bytes(job->url, strlen(job->url), url, e)) return e->code;
    FILE *f = fopen(job->note, "re");
    if (f && fscanf(f, "%64s %127s", was, etag) < 1) was[0] = 0;
    if (f) fclose(f);
    k->at = st.st_size > job->start ? st.st_size - job->start : 0;
    snprintf(k->etag, sizeof k->etag, "%s", etag);
    if (strcmp(was, url) != 0 || !(etag[0] || job->hashed)) k->at = 0;
    if (job->bytes >= 0 && k->at > job->bytes) k->at = 0;
    return 0;
}

static const char *header(struct sink *k, const char *name)
{
    struct curl_header *h;
    return curl_easy_header(k->f->curl, name, 0, CURLH_HEADER, -1, &h) ? "" : h->value;
}

/* A strong ETag, in its quotes, of visible characters; else "". */
static void strong_etag(struct sink *k, char etag[ETAG_MAX])
{
    const char *s = header(k, "ETag");
    size_t n = strlen(s);
    bool ok = n >= 3 && n < ETAG_MAX && s[0] == '"' && s[n - 1] == '"';
    for (size_t i = 0; ok && i < n; i++) ok = s[i] > ' ' && s[i] <= '~';
    snprintf(etag, ETAG_MAX, "%s", ok ? s : "");
}

static int hang_up(struct sink *k, int rc)
{
    k->rc = rc;
    return rc;
}

/* A fresh body: empties the file, then notes where the bytes to come are from. */
static int start_over(struct sink *k)
{
    char hash[SHA256_HEX];
    k->at = 0;
    strong_etag(k, k->etag);
    if (sha256_bytes(k->job->url, strlen(k->job->url), hash, k->e)) return hang_up(k, k->e->code);
    FILE *f = ftruncate(k->job->fd, k->job->start) ? NULL : fopen(k->job->note, "we");
    bool ok = f && fprintf(f, "%s %s\n", hash, k->etag) > 0;
    if (f && fclose(f)) ok = false;
    if (ok) return 0;
    return hang_up(k, err_set(k->e, ERR_IO, "cannot write %s: %s", k->job->note, strerror(errno)));
}

/* ---- one answer ---- */

/* Judges the headers of an answer whose body goes to a file. */
static int begin_file(struct sink *k)
{
    struct fetch_job *job = k->job;
    char shown[URL_SHOWN], etag[ETAG_MAX];
    url_shown(k->url, shown);
    if (strncasecmp(header(k, "Content-Type"), "text/html", 9) == 0)
        return hang_up(k, err_set(k->e, ERR_FORMAT, "%s gives a web page, not a file", shown));
    strong_etag(k, etag);
    if (k->status == 200) {
        if (start_over(k)) return k->rc;
    } else {
        long long from = -1;
        if (sscanf(header(k, "Content-Range"), "bytes %lld-", &from) != 1 || from != k->at ||
            k->at == 0)
            return hang_up(k,
                           err_set(k->e, ERR_FORMAT, "%s sent bytes from %lld on instead of %lld",
                                   shown, from, (long long)k->at));
        if (k->etag[0] && etag[0] && strcmp(k->etag, etag) != 0) {
            k->transient = unlink(job->note) == 0;
            return hang_up(k, err_set(k->e, ERR_FORMAT, "%s changed meanwhile", shown));
        }
    }
    curl_off_t left = -1;
    curl_easy_getinfo(k->f->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &left);
    if (left < 0) return 0;
    int64_t most = job->bytes >= 0 ? job->bytes : SOURCE_BYTES_MAX;
    if (left > most - k->at || (job->bytes >= 0 && left != most - k->at))
        return hang_up(k, err_set(k->e, ERR_FORMAT, "%s would give %lld bytes instead of %lld",
                                  shown, (long long)left, (long long)(most - k->at)));
    if (job->progress && job->bytes < 0 && job->shown_max < 0) job->progress->total = k->at + left;
    return 0;
}

static int begin(struct sink *k)
{
    k->begun = true;
    curl_easy_getinfo(k->f->curl, CURLINFO_RESPONSE_CODE, &k->status);
    if (k->status != 200 && k->status != 206) return 0;
    if (k->job) return begin_file(k);
    buf_reset(k->page);
    return 0;
}

static int put_file(struct sink *k, const char *p, size_t n)
{
    struct fetch_job *job = k->job;
    int64_t most = job->bytes >= 0 ? job->bytes : SOURCE_BYTES_MAX;
    if ((int64_t)n > most - k->at)
        return hang_up(k, err_set(k->e, ERR_FORMAT, "more than the %lld bytes that should come",
                                  (long long)most));
    while (n > 0) {
        ssize_t w = pwrite(job->fd, p, n, job->start + k->at);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0)
            return hang_up(
                k, err_set(k->e, ERR_IO, "cannot write %s: %s", job->path, strerror(errno)));
        p += w, n -= (size_t)w, k->at += w;
    }
    int64_t show = job->shown_max >= 0 && k->at > job->shown_max ? job->shown_max : k->at;
    progress_update(job->progress, job->shown + show);
    return 0;
}

static size_t on_body(char *p, size_t one, size_t n, void *user)
{
    struct sink *k = user;
    (void)one; /* always 1 */
    if (!k->begun && begin(k)) return 0;
    if (k->status != 200 && k->status != 206)
        return (k->discarded += (int64_t)n) <= DISCARD_MAX ? n : 0;
    if (k->job) return put_file(k, p, n) ? 0 : n;
    if (buf_put(k->page, p, n)) return n;
    hang_up(k, err_set(k->e, ERR_LIMIT, "a page of more than %zu bytes", k->page->cap));
    return 0;
}

/* ---- one request ---- */

static bool may_pass(CURLcode c)
{
    switch (c) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return true;
    default: return false;
    }
}

/* The answer of the last hop, when it is neither the file nor a redirect. */
static int refuse(struct sink *k, CURLcode c, const char *at)
{
    char shown[URL_SHOWN];
    url_shown(at, shown);
    long s = k->status;
    if (s == 404 || s == 410)
        return err_set(k->e, ERR_NOT_FOUND, "%s is not there (HTTP %ld)", shown, s);
    if (s == 401 || s == 403)
        return err_set(k->e, ERR_IO, "%s is refused to us (HTTP %ld)%s", shown, s,
                       strstr(shown, "://huggingface.co/")
                           ? "; a gated model needs its licence accepted there, and HF_TOKEN"
                           : "");
    if (s >= 300) {
        k->transient = s == 408 || s == 425 || s == 429 || (s >= 500 && s != 501 && s != 505);
        return err_set(k->e, ERR_IO, "%s answers HTTP %ld", shown, s);
    }
    k->transient = may_pass(c);
    return err_set(k->e, ERR_IO, "%s: %s", shown,
                   c == CURLE_OK       ? "an answer that is none of HTTP's"
                   : k->f->why[0] != 0 ? k->f->why
                                       : curl_easy_strerror(c));
}

static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    char line[URL_MAX];
    int n = snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *longer =
        n > 0 && (size_t)n < sizeof line ? curl_slist_append(*list, line) : NULL;
    if (longer) *list = longer;
    return longer != NULL;
}

/* What a request to `at` carries; false when memory ran out. */
static bool set_headers(struct sink *k, const char *at, struct curl_slist **list)
{
    bool to_owner = k->token && url_same_origin(at, k->url), confirm = k->at > 0 && k->etag[0];
    *list = NULL;
    if (k->accept && !add_header(list, "Accept", k->accept)) return false;
    if (to_owner && !add_header(list, "Authorization", k->token)) return false;
    if (confirm && !add_header(list, "If-Range", k->etag)) return false;
    return !curl_easy_setopt(k->f->curl, CURLOPT_HTTPHEADER, *list);
}

/* The digest Hugging Face promises, on its own word only. */
static void read_linked(struct sink *k, const char *at)
{
    const char *s = header(k, "X-Linked-ETag");
    if (!k->job || strlen(s) != 66 || !url_same_origin(at, k->url)) return;
    snprintf(k->job->linked, sizeof k->job->linked, "%.64s", s + 1);
    if (!sha256_is_hex(k->job->linked)) k->job->linked[0] = 0;
}

/* Asks `at`; *next is where it redirects to (in libcurl's memory), or NULL when rc tells all. */
static int one_hop(struct sink *k, const char *at, char **next)
{
    CURL *c = k->f->curl;
    char range[32];
    struct curl_slist *list;
    *next = NULL;
    k->begun = k->transient = false;
    k->rc = 0;
    k->status = 0;
    k->discarded = 0;
    k->f->why[0] = 0;
    snprintf(range, sizeof range, "%lld-", (long long)k->at);
    curl_easy_setopt(c, CURLOPT_URL, at);
    curl_easy_setopt(c, CURLOPT_RANGE, k->job && k->at > 0 ? range : NULL);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, k);
    /* plain http goes to this machine, never to a proxy */
    curl_easy_setopt(c, CURLOPT_PROXY, strncasecmp(at, "http:", 5) == 0 ? "" : NULL);
    CURLcode rc = set_headers(k, at, &list) ? curl_easy_perform(c) : CURLE_OUT_OF_MEMORY;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &k->status);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(list);
    if (k->rc) return k->rc;
    read_linked(k, at);
    if (rc == CURLE_OK && k->status >= 300 && k->status < 400)
        curl_easy_getinfo(c, CURLINFO_REDIRECT_URL, next);
    if (*next) return 0;
    if (k->job && k->status == 416 && k->at > 0) {
        long long all = -1;
        sscanf(header(k, "Content-Range"), "bytes */%lld", &all);
        if (all == k->at) return 0;
        k->transient = unlink(k->job->note) == 0;
        return err_set(k->e, ERR_IO, "what was fetched before does not fit any more");
    }
    if (rc != CURLE_OK || (k->status != 200 && k->status != 206)) return refuse(k, rc, at);
    return k->begun ? 0 : begin(k);
}

/* Asks the sink's URL and whatever it redirects to; `at` gets the URL that answered. */
static int follow(struct sink *k, struct buf *at, struct err *e)
{
    char *next, shown[URL_SHOWN];
    const char *from = NULL, *url = k->url;
    for (int hop = 0; hop <= FETCH_HOPS; hop++) {
        if (url_check(url, from, e)) return e->code;
        buf_reset(at);
        if (!buf_puts(at, url)) return err_nomem(e, strlen(url), "a URL");
        int rc = one_hop(k, at->data, &next);
        if (rc || !next) return rc;
        from = at->data;
        url = next;
    }
    return err_set(e, ERR_IO, "%s redirects more than %d times", url_shown(k->url, shown),
                   FETCH_HOPS);
}

/* ---- tries ---- */

static void wait_before(struct sink *k, int attempt)
{
    curl_off_t asked_s = 0;
    curl_easy_getinfo(k->f->curl, CURLINFO_RETRY_AFTER, &asked_s);
    int64_t ms = INT64_C(500) << (attempt < 6 ? attempt : 6);
    if (asked_s > ms / 1000) ms = asked_s < WAIT_MAX_MS / 1000 ? asked_s * 1000 : WAIT_MAX_MS;
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Until it is done, cannot be done, or has failed too often without getting further. */
static int persist(struct sink *k, struct buf *at, struct err *e)
{
    int64_t best = 0;
    for (int attempt = 0;; attempt++) {
        k->transient = false;
        if (k->job && resume_at(k, e)) return e->code;
        if (k->job && k->job->hashed && k->at > 0 && k->at == k->job->bytes) return 0;
        int rc = follow(k, at, e);
        if (!rc && k->job && k->job->bytes >= 0 && k->at != k->job->bytes) {
            char shown[URL_SHOWN];
            k->transient = true;
            rc = err_set(e, ERR_IO, "%s ended after %lld of %lld bytes", url_shown(k->url, shown),
                         (long long)k->at, (long long)k->job->bytes);
        }
        if (!rc || !k->transient) return rc;
        if (k->at >= best + PROGRESS_STEP) {
            best = k->at;
            attempt = 0;
        }
        if (attempt >= k->f->retries) return rc;
        wait_before(k, attempt);
    }
}

int fetch_file(struct fetch *f, struct fetch_job *job, struct err *e)
{
    char bearer[TOKEN_MAX + 8];
    struct sink k = {.f = f, .url = job->url, .job = job, .e = e};
    struct buf at = BUF_INIT(URL_MAX);
    if (job->token) {
        for (const char *p = job->token; *p; p++)
            if (*p <= ' ' || *p > '~' || p - job->token >= TOKEN_MAX)
                return err_set(e, ERR_USAGE, "the token holds a byte 0x%02x at %td, or is too long",
                               (unsigned char)*p, p - job->token);
        snprintf(bearer, sizeof bearer, "Bearer %s", job->token);
        k.token = bearer;
    }
    job->linked[0] = 0;
    int rc = persist(&k, &at, e);
    buf_free(&at);
    return rc;
}

int fetch_page(struct fetch *f, const char *url, const char *accept, struct buf *out,
               struct buf *final_url, struct err *e)
{
    struct sink k = {.f = f, .url = url, .accept = accept, .page = out, .e = e};
    buf_reset(out);
    return persist(&k, final_url, e);
}

/* ---- open, close ---- */

bool hub__curl_options(void *curl)
{
    const char *ca = getenv("CURL_CA_BUNDLE"), *dir = getenv("SSL_CERT_DIR");
    if (!ca || !*ca) ca = getenv("SSL_CERT_FILE");
    CURL *c = curl;
    bool ok = !curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") &&
              !curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) &&
              !curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
              !curl_easy_setopt(c, CURLOPT_USERAGENT, "solvent/" SOLVENT_VERSION) &&
              !curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    if (ok && ca && *ca) ok = !curl_easy_setopt(c, CURLOPT_CAINFO, ca);
    if (ok && dir && *dir) ok = !curl_easy_setopt(c, CURLOPT_CAPATH, dir);
    return ok;
}

static bool set_options(struct fetch *f)
{
    CURL *c = f->curl;
    return hub__curl_options(c) && !curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) &&
           !curl_easy_setopt(c, CURLOPT_ERRORBUFFER, f->why) &&
           !curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 20L) &&
           !curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 100L) &&
           !curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 30L) &&
           !curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
}

int fetch_open(struct fetch **out, int retries, struct err *e)
{
    struct fetch *f = calloc(1, sizeof *f);
    if (!f) return err_nomem(e, sizeof *f, "a download");
    f->retries = retries;
    f->curl = curl_easy_init();
    if (!f->curl || !set_options(f)) {
        fetch_close(f);
        return err_set(e, ERR_MEMORY, "libcurl does not start");
    }
    *out = f;
    return 0;
}

void fetch_close(struct fetch *f)
{
    if (!f) return;
    curl_easy_cleanup(f->curl);
    free(f);
}
