/* SHA-256 (FIPS 180-4, by libcrypto) of parts of files. Any thread. */
#ifndef SHA256_H
#define SHA256_H

#include "err.h"
#include "progress.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX 65 /* 64 lower-case digits and the NUL */

/* 64 lower-case hexadecimal digits, no more and no less */
bool sha256_is_hex(const char *s);
/* Of n bytes in memory. */
ERR_DOOR int sha256_bytes(const void *p, size_t n, char hex[SHA256_HEX], struct err *e);
/* Of a whole file from its first byte, wherever fd stands; p may be NULL. */
ERR_DOOR int sha256_file(int fd, struct progress *p, char hex[SHA256_HEX], struct err *e);

#endif
