/* Who may ask: a file of keys, of which only hashes are kept.
 *
 *     struct keys *k;
 *     if (keys_open(&k, path, &e)) ...               ERR_NOT_FOUND: there is no such file yet
 *     if (keys_add(path, "name", true, key, &e)) ... makes a key, shown this once
 *     const struct keys_entry *who = keys_find(k, presented);
 *     keys_close(k);
 *
 * A line is "NAME user|admin SHA256-OF-KEY"; '#' begins a comment. A key is "sk-" and 64 hexadecimal
 * digits of 256 random bits, so a plain hash is enough; hashes are compared in constant time, all of
 * them each time. The file is readable by its owner alone. Read-only after open: any thread.
 */
#ifndef KEYS_H
#define KEYS_H

#include "err.h"
#include <stdbool.h>
#include <stdint.h>

enum { KEYS_TEXT = 68, KEYS_NAME_MAX = 64 };

struct keys_entry {
    char name[KEYS_NAME_MAX + 1];
    bool admin;
    uint64_t tenant; /* the first bits of its hash: the same as long as the key is */
    char hash[65];
};
struct keys;

ERR_DOOR int keys_open(struct keys **out, const char *path, struct err *e);
void keys_close(struct keys *k);
int keys_count(const struct keys *k);
const struct keys_entry *keys_at(const struct keys *k, int i);
const struct keys_entry *keys_find(const struct keys *k, const char *key); /* or NULL */
/* Appends to the file, which is made if need be. ERR_USAGE: a bad name, or one that is there. */
ERR_DOOR int keys_add(const char *path, const char *name, bool admin, char key[KEYS_TEXT],
                      struct err *e);
ERR_DOOR int keys_remove(const char *path, const char *name, struct err *e);

#endif
