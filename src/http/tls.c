/* Certificates: read and checked here, so that what is wrong is said in one line that names the file;
 * the library is given the bytes only. */
#include "http_int.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

enum { PEM_MAX = 1 << 20 };

static int read_file(struct buf *b, const char *path, const char *what, struct err *e)
{
    *b = BUF_INIT(PEM_MAX);
    FILE *f = fopen(path, "re");
    if (!f) return err_set(e, ERR_IO, "cannot open the %s %s: %s", what, path, strerror(errno));
    char piece[4096];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, f)) > 0 && buf_put(b, piece, n)) {}
    explicit_bzero(piece, sizeof piece);
    int rc = 0;
    if (ferror(f))
        rc = err_set(e, ERR_IO, "cannot read the %s %s: %s", what, path, strerror(errno));
    else if (b->failed || !b->len)
        rc = err_set(e, ERR_FORMAT, "the %s %s is %s", what, path,
                     b->failed ? "larger than 1 MiB" : "empty");
    fclose(f);
    return rc;
}

static gnutls_datum_t datum(const struct buf *b)
{
    return (gnutls_datum_t){.data = (unsigned char *)b->data, .size = (unsigned)b->len};
}

static int check_cert(const struct buf *pem, const char *path, struct err *e)
{
    gnutls_x509_crt_t *certs;
    unsigned n = 0;
    gnutls_datum_t d = datum(pem);
    int rc = gnutls_x509_crt_list_import2(&certs, &n, &d, GNUTLS_X509_FMT_PEM, 0);
    if (rc < 0)
        return err_set(e, ERR_FORMAT, "%s holds no usable certificate: %s", path,
                       gnutls_strerror(rc));
    for (unsigned i = 0; i < n; i++) gnutls_x509_crt_deinit(certs[i]);
    gnutls_free(certs);
    return 0;
}

static int check_key(const struct buf *pem, const char *path, struct err *e)
{
    gnutls_x509_privkey_t key;
    int rc = gnutls_x509_privkey_init(&key);
    if (rc < 0) return err_set(e, ERR_MEMORY, "GnuTLS: %s", gnutls_strerror(rc));
    gnutls_datum_t d = datum(pem);
    rc = gnutls_x509_privkey_import2(key, &d, GNUTLS_X509_FMT_PEM, NULL, 0);
    gnutls_x509_privkey_deinit(key);
    return rc < 0 ? err_set(e, ERR_FORMAT, "%s holds no usable private key: %s", path,
                            gnutls_strerror(rc))
                  : 0;
}

static int check_pair(const struct http__tls *t, const char *cert, const char *key, struct err *e)
{
    gnutls_certificate_credentials_t both;
    int rc = gnutls_certificate_allocate_credentials(&both);
    if (rc < 0) return err_set(e, ERR_MEMORY, "GnuTLS: %s", gnutls_strerror(rc));
    gnutls_datum_t c = datum(&t->cert), k = datum(&t->key);
    rc = gnutls_certificate_set_x509_key_mem(both, &c, &k, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(both);
    return rc < 0 ? err_set(e, ERR_FORMAT, "the key %s does not fit the certificate %s: %s", key,
                            cert, gnutls_strerror(rc))
                  : 0;
}

int http__tls_read(struct http__tls *t, const char *cert, const char *key, struct err *e)
{
    int rc;
    if ((rc = read_file(&t->cert, cert, "TLS certificate", e)) < 0) return rc;
    if ((rc = read_file(&t->key, key, "TLS key", e)) < 0) return rc;
    if ((rc = check_cert(&t->cert, cert, e)) < 0) return rc;
    if ((rc = check_key(&t->key, key, e)) < 0) return rc;
    return check_pair(t, cert, key, e);
}

void http__tls_free(struct http__tls *t)
{
    buf_free(&t->cert);
    if (t->key.data) explicit_bzero(t->key.data, t->key.room);
    buf_free(&t->key);
}

int64_t http__tls_send(void *session, const void *p, size_t n)
{
    return gnutls_record_send(session, p, n);
}
