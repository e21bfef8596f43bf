/* The file is read whole and written anew beside itself, then renamed over: a crash leaves the old or the
 * new one. */
#include "keys.h"

#include "buf.h"
#include "sha256.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 22, COUNT_MAX = 10000 };

struct keys {
    struct keys_entry *list;
    int n;
};

static bool name_ok(const char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~' || s[i] == '#') return false;
    return n > 0 && n <= KEYS_NAME_MAX;
}

static int read_file(const char *path, struct buf *out, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;
    char *p;
    if (fd < 0)
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot read %s: %s", path,
                       strerror(errno));
    while ((p = buf_reserve(out, 4096)) && (n = read(fd, p, 4096)) > 0) out->len += (size_t)n;
    if (n < 0) err_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    close(fd);
    if (n < 0) return e->code;
    if (!p) return err_set(e, ERR_LIMIT, "%s is larger than %d bytes", path, FILE_MAX);
    return buf_putc(out, 0) ? 0 : err_nomem(e, out->len, "the keys");
}

static int read_line(struct keys *k, char *line, const char *path, int number, struct err *e)
{
    char name[KEYS_NAME_MAX + 1], role[8], hash[65], more;
    line[strcspn(line, "#\r")] = 0;
    int found = sscanf(line, "%64s %7s %64s %c", name, role, hash, &more);
    if (found <= 0) return 0;
    bool admin = found == 3 && strcmp(role, "admin") == 0;
    if (found != 3 || !name_ok(name) || !sha256_is_hex(hash) || (!admin && strcmp(role, "user")))
        return err_set(e, ERR_FORMAT, "%s, line %d: not NAME user|admin SHA256", path, number);
    if (k->n == COUNT_MAX)
        return err_set(e, ERR_LIMIT, "%s has more than %d keys", path, COUNT_MAX);
    struct keys_entry *more_list = realloc(k->list, (size_t)(k->n + 1) * sizeof *k->list);
    if (!more_list) return err_nomem(e, sizeof *k->list, "a key");
    k->list = more_list;
    struct keys_entry *entry = &k->list[k->n++];
    *entry = (struct keys_entry){.admin = admin};
    memcpy(entry->name, name, sizeof name);
    memcpy(entry->hash, hash, sizeof hash);
    hash[16] = 0;
    entry->tenant = strtoull(hash, NULL, 16);
    return 0;
}

int keys_open(struct keys **out, const char *path, struct err *e)
{
    struct keys *k = calloc(1, sizeof *k);
    struct buf text = BUF_INIT(FILE_MAX);
    if (!k) return err_nomem(e, sizeof *k, "the keys");
    int rc = read_file(path, &text, e), number = 0;
    for (char *line = text.data, *end; !rc && line && *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end) *end++ = 0;
        rc = read_line(k, line, path, ++number, e);
    }
    buf_free(&text);
    if (rc)
        keys_close(k);
    else
        *out = k;
    return rc;
}

void keys_close(struct keys *k)
{
    if (!k) return;
    free(k->list);
    free(k);
}

int keys_count(const struct keys *k)
{
    return k->n;
}

const struct keys_entry *keys_at(const struct keys *k, int i)
{
    return &k->list[i];
}

const struct keys_entry *keys_find(const struct keys *k, const char *key)
{
    const struct keys_entry *found = NULL;
    char hash[SHA256_HEX];
    struct err ignored;
    if (sha256_bytes(key, strlen(key), hash, &ignored)) return NULL;
    for (int i = 0; i < k->n; i++) {
        unsigned differ = 0;
        for (int c = 0; c < 64; c++) differ |= (unsigned)(hash[c] ^ k->list[i].hash[c]);
        if (!differ) found = &k->list[i];
    }
    return found;
}

static int write_file(const char *path, const struct buf *text, struct err *e)
{
    struct buf tmp = BUF_INIT(4200);
    buf_printf(&tmp, "%s.%ld", path, (long)getpid());
    if (tmp.failed) {
        buf_free(&tmp);
        return err_set(e, ERR_LIMIT, "the path of the keys is too long");
    }
    int fd = open(tmp.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, text->data, text->len) == (ssize_t)text->len && !fsync(fd);
    if (fd >= 0) ok = !close(fd) && ok;
    ok = ok && !rename(tmp.data, path);
    if (!ok) {
        err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
        unlink(tmp.data);
    }
    buf_free(&tmp);
    return ok ? 0 : e->code;
}

static void put_line(struct buf *b, const struct keys_entry *k)
{
    buf_printf(b, "%s %s %s\n", k->name, k->admin ? "admin" : "user", k->hash);
}

int keys_add(const char *path, const char *name, bool admin, char key[KEYS_TEXT], struct err *e)
{
    struct keys none = {0}, *k = &none;
    unsigned char bits[32];
    struct buf text = BUF_INIT(FILE_MAX);
    struct keys_entry entry = {.admin = admin};
    if (!name_ok(name))
        return err_set(e, ERR_USAGE, "a key's name is 1 to %d visible characters without '#'",
                       KEYS_NAME_MAX);
    int rc = keys_open(&k, path, e);
    if (rc == ERR_NOT_FOUND) rc = 0;
    for (int i = 0; !rc && i < k->n; i++) {
        if (strcmp(k->list[i].name, name) == 0)
            rc = err_set(e, ERR_USAGE, "there is a key '%s' already", name);
        put_line(&text, &k->list[i]);
    }
    if (!rc && getrandom(bits, sizeof bits, 0) != sizeof bits)
        rc = err_set(e, ERR_IO, "no random bits: %s", strerror(errno));
    memcpy(key, "sk-", 3);
    for (int i = 0; i < 32; i++) snprintf(key + 3 + 2 * i, 3, "%02x", bits[i]);
    if (!rc) rc = sha256_bytes(key, KEYS_TEXT - 1, entry.hash, e);
    snprintf(entry.name, sizeof entry.name, "%s", name);
    put_line(&text, &entry);
    if (!rc && text.failed) rc = err_nomem(e, text.len, "the keys");
    if (!rc) rc = write_file(path, &text, e);
    buf_free(&text);
    if (k != &none) keys_close(k);
    return rc;
}

int keys_remove(const char *path, const char *name, struct err *e)
{
    struct keys *k;
    struct buf text = BUF_INIT(FILE_MAX);
    bool found = false;
    int rc = keys_open(&k, path, e);
    if (rc) return rc;
    for (int i = 0; i < k->n; i++)
        if (strcmp(k->list[i].name, name))
            put_line(&text, &k->list[i]);
        else
            found = true;
    if (!found)
        rc = err_set(e, ERR_NOT_FOUND, "there is no key '%.64s'", name);
    else if (text.failed)
        rc = err_nomem(e, text.len, "the keys");
    else
        rc = write_file(path, &text, e);
    buf_free(&text);
    keys_close(k);
    return rc;
}
