/* TLS: what is served over it, which versions, and what is said of files that are no good. The certificates
 * are made here; the client is OpenSSL's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/http_server.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static char folder[] = "/tmp/solvent-tls-XXXXXX";

static const char *file(const char *name)
{
    static char path[4][128];
    static int i;
    i = (i + 1) % 4;
    snprintf(path[i], sizeof path[i], "%s/%s", folder, name);
    return path[i];
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(file(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A key and its self-signed certificate. */
static void make_pair(const char *key_name, const char *cert_name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    assert_true(key && x);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(x, name);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    FILE *f = fopen(file(key_name), "w");
    assert_true(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL));
    fclose(f);
    f = fopen(file(cert_name), "w");
    assert_true(f && PEM_write_X509(f, x));
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

static int make_files(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    make_pair("key", "cert");
    make_pair("other-key", "other-cert");
    write_text("empty", "");
    write_text("text", "no certificate\n");
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    static const char *const names[] = {"key", "cert", "other-key", "other-cert", "empty", "text"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(file(names[i]));
    return rmdir(folder);
}

struct secure {
    struct client c;
    SSL_CTX *context;
    SSL *ssl;
};

/* Trusts the certificate of the test alone; false: no agreement. */
static bool secure_open(struct secure *t, struct server *s, int newest)
{
    t->c = server_client(s);
    t->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(t->context, 0);
    assert_int_equal(SSL_CTX_load_verify_locations(t->context, file("cert"), NULL), 1);
    SSL_CTX_set_verify(t->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_min_proto_version(t->context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(t->context, newest);
    t->ssl = SSL_new(t->context);
    SSL_set_fd(t->ssl, t->c.fd);
    return SSL_connect(t->ssl) == 1;
}

static void secure_close(struct secure *t)
{
    SSL_free(t->ssl);
    SSL_CTX_free(t->context);
    client_close(&t->c);
}

/* Everything up to the end, or to so many bytes. */
static void secure_read(struct secure *t, size_t most)
{
    while (t->c.n < most) {
        int k = SSL_read(t->ssl, t->c.in + t->c.n, (int)(ANSWER_MAX - t->c.n));
        if (k <= 0) break;
        t->c.n += (size_t)k;
        t->c.in[t->c.n] = 0;
    }
}

static void secure_send(struct secure *t, const char *p)
{
    assert_int_equal(SSL_write(t->ssl, p, (int)strlen(p)), (int)strlen(p));
}

static void open_tls(struct server *s)
{
    struct http_opts *o = server_init(s);
    o->tls_cert = file("cert");
    o->tls_key = file("key");
    o->limits.body_bytes = 1000;
    o->limits.header_seconds = 2;
    server_open(s);
}

static void test_requests_over_tls(void **state)
{
    (void)state;
    struct server s;
    open_tls(&s);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct secure t;
        assert_true(secure_open(&t, &s, version));
        assert_int_equal(SSL_version(t.ssl), version);
        secure_send(&t, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
                        "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        secure_read(&t, SIZE_MAX);
        struct answer a = client_answer(&t.c, false);
        assert_string_equal(a.body, "POST /echo q=- x=- peer=127.0.0.1 body=hi");
        answer_free(&a);
        a = client_answer(&t.c, false);
        assert_string_equal(a.body, "GET /echo q=- x=- peer=127.0.0.1 body=");
        answer_free(&a);
        secure_close(&t);
    }
    struct secure t;
    assert_false(secure_open(&t, &s, TLS1_1_VERSION));
    secure_close(&t);
    server_close(&s);
}

static void test_a_stream_over_tls(void **state)
{
    (void)state;
    struct server s;
    open_tls(&s);
    struct secure t;
    assert_true(secure_open(&t, &s, TLS1_3_VERSION));
    secure_send(&t, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_request *r = server_held(&s);
    http_begin(r, 200, "text/plain", NULL, 0);
    http_put(r, "one", 3);
    while (!strstr(t.c.in, "\r\n3\r\none\r\n")) {
        size_t n = t.c.n;
        secure_read(&t, n + 1);
        assert_true(t.c.n > n);
    }
    http_put(r, "two", 3);
    while (!strstr(t.c.in, "\r\n3\r\ntwo\r\n")) {
        size_t n = t.c.n;
        secure_read(&t, n + 1);
        assert_true(t.c.n > n);
    }
    secure_close(&t); /* leaves while it is waited for */
    server_wait(&s, &s.gone, 1);
    assert_int_equal(http_put(r, "x", 1), HTTP_GONE);
    http_end(r);
    server_wait(&s, &s.logged, 1);
    server_close(&s);
}

static void test_refusals_over_tls(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        int status;
    } t[] = {
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\nx", 413},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: "
         "chunked\r\n\r\n",
         400},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nX-Never", 0}, /* in time: cut without a word */
    };
    struct server s;
    open_tls(&s);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct secure c;
        assert_true(secure_open(&c, &s, TLS1_3_VERSION));
        secure_send(&c, t[i].request);
        secure_read(&c, SIZE_MAX);
        struct answer a = client_answer(&c.c, false);
        assert_int_equal(a.status, t[i].status);
        if (a.status) assert_memory_equal(a.body, "{\"refused\":true", 15);
        answer_free(&a);
        secure_close(&c);
    }
    /* no TLS at all, and a handshake that never goes on */
    struct client plain = server_client(&s), silent = server_client(&s);
    client_send(&plain, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    while (client_more(&plain)) {}
    assert_null(strstr(plain.in, "HTTP/1.1"));
    assert_true(client_ended(&silent));
    client_close(&plain);
    client_close(&silent);
    server_close(&s);
}

static void test_files_that_are_no_good(void **state)
{
    (void)state;
    static const struct {
        const char *cert, *key;
        int rc;
        const char *says;
    } t[] = {
        {"cert", NULL, ERR_USAGE, "TLS needs both"},
        {NULL, "key", ERR_USAGE, "TLS needs both"},
        {"missing", "key", ERR_IO, "cannot open the TLS certificate /"},
        {"cert", "missing", ERR_IO, "cannot open the TLS key /"},
        {"empty", "key", ERR_FORMAT, "empty is empty"},
        {"text", "key", ERR_FORMAT, "text holds no usable certificate: "},
        {"key", "key", ERR_FORMAT, "key holds no usable certificate: "},
        {"cert", "text", ERR_FORMAT, "text holds no usable private key: "},
        {"cert", "cert", ERR_FORMAT, "cert holds no usable private key: "},
        {"cert", "other-key", ERR_FORMAT, "does not fit the certificate"},
        {"cert", ".", ERR_IO, "cannot read the TLS key /"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct server s;
        struct http_opts *o = server_init(&s);
        o->tls_cert = t[i].cert ? file(t[i].cert) : NULL;
        o->tls_key = t[i].key ? file(t[i].key) : NULL;
        struct err e;
        int rc = http_open(&s.h, o, &e);
        if (rc != t[i].rc || !strstr(e.msg, t[i].says))
            fail_msg("%s, %s: %d %s", t[i].cert, t[i].key, rc, rc ? e.msg : "opened");
        assert_null(strchr(e.msg, '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_over_tls),
        cmocka_unit_test(test_a_stream_over_tls),
        cmocka_unit_test(test_refusals_over_tls),
        cmocka_unit_test(test_files_that_are_no_good),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
