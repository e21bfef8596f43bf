/* The folders that the XDG base directory specification (0.8) gives a user's files.
 *
 *     char dir[4096];
 *     if (userdir_find(dir, sizeof dir, USERDIR_CACHE, "packs") && userdir_make(dir, 0700) == 0) ...
 */
#ifndef USERDIR_H
#define USERDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum userdir { USERDIR_DATA, USERDIR_CONFIG, USERDIR_STATE, USERDIR_CACHE };

/* "BASE/solvent/SUB", absolute. False without a home folder, or when out is too small. */
bool userdir_find(char *out, size_t room, enum userdir kind, const char *sub);
/* Makes a folder and those above it; 0 or an errno. The path is changed while it works. */
int userdir_make(char *path, mode_t mode);

#endif
