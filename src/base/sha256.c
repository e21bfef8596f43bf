/* Hashing by libcrypto's EVP interface, which picks the processor's SHA instructions itself. Reads
 * with pread in large pieces: a model is hashed once, at the speed of the disk or the hash. Leaves
 * to others what the digest is compared with. */
#include "sha256.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

bool sha256_is_hex(const char *s)
{
    return strspn(s, "0123456789abcdef") == 64 && s[64] == 0;
}

static void to_hex(const unsigned char *d, char hex[SHA256_HEX])
{
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = "0123456789abcdef"[d[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[d[i] & 15];
    }
    hex[64] = 0;
}

int sha256_bytes(const void *p, size_t n, char hex[SHA256_HEX], struct err *e)
{
    unsigned char d[EVP_MAX_MD_SIZE];
    if (!EVP_Digest(p, n, d, NULL, EVP_sha256(), NULL)) return err_nomem(e, n, "SHA-256");
    to_hex(d, hex);
    return 0;
}

int sha256_file(int fd, struct progress *p, char hex[SHA256_HEX], struct err *e)
{
    unsigned char d[EVP_MAX_MD_SIZE], *piece = malloc(PIECE);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int rc = 0;
    int64_t at = 0;
    bool ok = piece && ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
    while (ok) {
        ssize_t n = pread(fd, piece, PIECE, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = err_set(e, ERR_IO, "reading back what was written: %s", strerror(errno));
        if (n <= 0) break;
        ok = EVP_DigestUpdate(ctx, piece, (size_t)n);
        at += n;
        progress_update(p, at);
    }
    if (!rc && !(ok && EVP_DigestFinal_ex(ctx, d, NULL))) rc = err_nomem(e, PIECE, "SHA-256");
    if (!rc) to_hex(d, hex);
    EVP_MD_CTX_free(ctx);
    free(piece);
    return rc;
}
