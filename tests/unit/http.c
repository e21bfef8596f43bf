/* What comes in: requests as they are read, kept-alive and pipelined connections, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/http_server.h"
#include "rng.h"

#define END " HTTP/1.1\r\nHost: a\r\n"

static void test_whole_requests(void **state)
{
    (void)state;
    static const struct {
        const char *request, *body;
    } t[] = {
        {"GET /echo" END "\r\n", "GET /echo q=- x=- peer=127.0.0.1 body="},
        {"GET /echo/a%20%C3%A4%2fb?p=1&q=a+b%26%3d&q=2" END "X-Test: \t v w \r\n\r\n",
         "GET /echo/a \xc3\xa4/b q=a b&= x=v w peer=127.0.0.1 body="},
        {"GET /echo?q&r=" END "x-test:\r\n\r\n", "GET /echo q= x= peer=127.0.0.1 body="},
        {"POST /echo" END "Content-Length: 5\r\n\r\nhello",
         "POST /echo q=- x=- peer=127.0.0.1 body=hello"},
        {"POST /echo" END "Transfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
         "POST /echo q=- x=- peer=127.0.0.1 body=hello"},
        {"PUT /echo" END "Content-Length: 0\r\n\r\n", "PUT /echo q=- x=- peer=127.0.0.1 body="},
        {"OPTIONS /echo" END "\r\n", "OPTIONS /echo q=- x=- peer=127.0.0.1 body="},
    };
    struct server s;
    server_init(&s);
    server_open(&s);
    struct client c = server_client(&s); /* one connection for all of them */
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char *body = client_ask(&c, t[i].request, 200);
        assert_string_equal(body, t[i].body);
        free(body);
    }
    free(client_ask(&c, "OPTIONS *" END "\r\n", 404));
    free(client_ask(&c, "GET /other" END "\r\n", 404));
    struct http_info info;
    http_info(s.h, &info);
    assert_int_equal(info.requests, sizeof t / sizeof *t + 2);
    assert_int_equal(info.connections, 1);
    client_close(&c);
    server_close(&s);
}

static void test_head_has_the_headers_alone(void **state)
{
    (void)state;
    struct server s;
    server_init(&s);
    server_open(&s);
    struct client c = server_client(&s);
    client_send(&c, "HEAD /echo" END "\r\n");
    struct answer a = client_answer(&c, true);
    assert_int_equal(a.status, 200);
    assert_non_null(strcasestr(a.head, "\r\nContent-Length: 39\r\n"));
    assert_non_null(strstr(a.head, "\r\nX-Answer: yes\r\n"));
    assert_non_null(strstr(a.head, "\r\nContent-Type: text/plain\r\n"));
    answer_free(&a);
    server_wait(&s, &s.logged, 1);
    assert_int_equal(s.bytes, 0);
    assert_false(s.cut);
    free(client_ask(&c, "GET /echo" END "\r\n", 200)); /* nothing is left over between */
    client_close(&c);
    server_close(&s);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    enum { N = 50 };
    struct server s;
    server_init(&s);
    server_open(&s);
    struct client c = server_client(&s);
    char all[N * 120];
    size_t n = 0;
    for (int i = 0; i < N; i++)
        n += (size_t)snprintf(all + n, sizeof all - n,
                              "POST /echo?q=%d" END "Content-Length: 3\r\n\r\n%03d", i, i);
    client_send_n(&c, all, n);
    for (int i = 0; i < N; i++) {
        struct answer a = client_answer(&c, false);
        char want[80];
        snprintf(want, sizeof want, "POST /echo q=%d x=- peer=127.0.0.1 body=%03d", i, i);
        assert_string_equal(a.body, want);
        answer_free(&a);
    }
    client_close(&c);
    server_close(&s);
}

static void test_continue(void **state)
{
    (void)state;
    struct server s;
    server_init(&s);
    server_open(&s);
    struct client c = server_client(&s);
    client_send(&c, "POST /echo" END "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    struct answer a;
    client_head(&c, &a);
    assert_int_equal(a.status, 100);
    client_send(&c, "ok");
    a = client_answer(&c, false);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    client_close(&c);
    c = server_client(&s); /* and a body that will not be wanted is not asked for */
    client_send(&c, "POST /echo" END "Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
    client_head(&c, &a);
    assert_int_equal(a.status, 413);
    client_close(&c);
    server_close(&s);
}

static void test_old_and_closing_clients(void **state)
{
    (void)state;
    struct server s;
    server_init(&s);
    server_open(&s);
    static const char *const t[] = {"GET /echo HTTP/1.0\r\n\r\n",
                                    "GET /echo" END "Connection: close\r\n\r\n"};
    for (int i = 0; i < 2; i++) {
        struct client c = server_client(&s);
        free(client_ask(&c, t[i], 200));
        assert_true(client_ended(&c));
        client_close(&c);
    }
    /* a client that closes its sending side still gets an answer that is complete at once */
    struct client c = server_client(&s);
    client_send(&c, "GET /echo" END "\r\n");
    shutdown(c.fd, SHUT_WR);
    struct answer a = client_answer(&c, false);
    assert_int_equal(a.status, 200);
    assert_true(client_ended(&c)); /* long before it would have idled too long */
    answer_free(&a);
    client_close(&c);
    server_close(&s);
}

/* The request is refused and the connection closed, whatever else it may have smuggled in. */
static void refused(struct server *s, const char *p, size_t n, int status)
{
    struct client c = server_client(s);
    client_send_n(&c, p, n);
    client_send(&c, "GET /echo" END "\r\n");
    struct answer a = client_answer(&c, false);
    if (a.status != status || !a.closed)
        fail_msg("%.*s\nwanted %d, got %s", (int)(n < 300 ? n : 300), p, status, a.head);
    while (client_more(&c)) {} /* some pages of the library's are longer than it says */
    if (strstr(c.in, "HTTP/1.1 2"))
        fail_msg("%.*s\nwas followed by %s", (int)(n < 300 ? n : 300), p, c.in);
    answer_free(&a);
    client_close(&c);
}

#define CASE(s, status)         \
    {                           \
        s, sizeof s - 1, status \
    }

static void test_malformed_requests_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t n;
        int status;
    } t[] = {
        CASE("POST /" END "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        CASE("POST /" END "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400),
        CASE("POST /" END "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        CASE("POST /" END "Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
        CASE("POST /" END "Transfer-Encoding: xchunked\r\n\r\n", 400),
        CASE("POST /" END "Transfer-Encoding: identity\r\n\r\n", 400),
        CASE("POST /" END "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        CASE("POST /" END "Content-Length : 3\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Length: +3\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Length: -3\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Length: 3, 3\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Length: 0x3\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Length:\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Len: 3\r\n gth\r\n\r\nabc", 400),
        CASE("POST /" END "X: a\r\n Content-Length: 3\r\n\r\nabc", 400),
        CASE("POST /" END "X: a\r\n\tb\r\n\r\n", 400),
        CASE("POST /" END "X: a\nContent-Length: 3\r\n\r\nabc", 400),
        CASE("POST /" END "X: a\rContent-Length: 3\r\n\r\nabc", 400),
        CASE("POST /" END "X: a\0b\r\nContent-Length: 3\r\n\r\nabc", 400),
        CASE("POST /" END "Content-Length: 3\0\r\n\r\nabc", 400),
        CASE("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        CASE("POST /" END "Content-Length: 99999999999999999999\r\n\r\n", 413),
        CASE("GET /" END "Host: b\r\n\r\n", 400),
        CASE("GET / HTTP/1.1\r\n\r\n", 400),
        CASE("GET /" END "X Y: a\r\n\r\n", 400),
        CASE("GET /" END "X(: a\r\n\r\n", 400),
        CASE("GET /" END ": a\r\n\r\n", 400),
        CASE("GET /" END "X: a\x01\r\n\r\n", 400),
        CASE("GET /" END "X: a\x7f\r\n\r\n", 400),
        CASE("GET /a\0b" END "\r\n", 400),
        CASE("GET /a\0HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        CASE("GET /a%00b" END "\r\n", 400),
        CASE("GET /a%0ab" END "\r\n", 400),
        CASE("GET /a%7f" END "\r\n", 400),
        CASE("GET /a%4" END "\r\n", 400),
        CASE("GET /a%" END "\r\n", 400),
        CASE("GET /a%zz" END "\r\n", 400),
        CASE("GET /a\tb" END "\r\n", 400),
        CASE("GET /a\x1f" END "\r\n", 400),
        CASE("GET /?q=%00" END "\r\n", 400),
        CASE("GET /?q=%1" END "\r\n", 400),
        CASE("GET http://a/echo" END "\r\n", 400),
        CASE("GET echo" END "\r\n", 400),
        CASE("GET *" END "\r\n", 400),
        CASE("CONNECT a:443" END "\r\n", 400),
        CASE("GET  /echo" END "\r\n", 400),
        CASE("G(T /echo" END "\r\n", 400),
        CASE("GET /echo HTTP/1.1\nHost: a\r\n\r\n", 400),
        CASE("POST /" END "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    };
    struct server s;
    server_init(&s);
    server_open(&s);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) refused(&s, t[i].p, t[i].n, t[i].status);
    server_check(&s);
    struct http_info info;
    http_info(s.h, &info);
    assert_int_equal(info.requests, 1); /* none of what was smuggled in was handled */
    server_close(&s);
}

static void test_too_large(void **state)
{
    (void)state;
    enum { HEADERS = 16 * 1024, BODY = 100000 };
    struct server s;
    struct http_opts *o = server_init(&s);
    o->limits.header_bytes = HEADERS;
    o->limits.body_bytes = BODY;
    server_open(&s);
    char *p = malloc(1 << 20), *end;
    /* headers: just within, above, far above; one line or many */
    for (int many = 0; many < 2; many++)
        for (int bytes = HEADERS - 200; bytes < HEADERS * 5; bytes += bytes) {
            end = p + sprintf(p, "GET /echo" END);
            while (end - p < bytes - 100) {
                int n = many ? 200 : bytes - 100;
                end += sprintf(end, "X: %0*d\r\n", n, 0);
            }
            end += sprintf(end, "\r\n");
            if (bytes < HEADERS) {
                struct client c = server_client(&s);
                free(client_ask(&c, p, 200));
                client_close(&c);
            } else {
                refused(&s, p, (size_t)(end - p), 431);
            }
        }
    /* targets that leave no room for the method behind them, and their neighbours */
    for (int bytes = 24590; bytes < 24620; bytes++) {
        end = p + sprintf(p, "GET /%0*d" END "\r\n", bytes - 1, 0);
        refused(&s, p, (size_t)(end - p), 431);
    }
    /* fields, of the query too */
    end = p + sprintf(p, "GET /echo?a&b&c" END);
    for (int i = 0; i < 98; i++) end += sprintf(end, "X: y\r\n");
    sprintf(end, "\r\n");
    refused(&s, p, strlen(p), 431);
    /* a body announced, and one that is not; the client sends much more than is read before the refusal */
    int n = sprintf(p, "POST /echo" END "Content-Length: %d\r\n\r\n", BODY + 1);
    memset(p + n, 'a', 900000);
    refused(&s, p, 900000, 413);
    n = sprintf(p, "POST /echo" END "Transfer-Encoding: chunked\r\n\r\nfffff\r\n");
    memset(p + n, 'a', 900000);
    refused(&s, p, 900000, 413);
    /* the largest that may be */
    n = sprintf(p, "POST /echo" END "Content-Length: %d\r\n\r\n", BODY);
    memset(p + n, 'a', BODY);
    p[n + BODY] = 0;
    struct client c = server_client(&s);
    char *body = client_ask(&c, p, 200);
    assert_int_equal(strspn(strstr(body, "body=") + 5, "a"), BODY);
    free(body);
    client_close(&c);
    free(p);
    server_close(&s);
}

static void test_refusals_have_the_callers_body_and_are_logged(void **state)
{
    (void)state;
    struct server s;
    struct http_opts *o = server_init(&s);
    o->limits.body_bytes = 10;
    server_open(&s);
    struct client c = server_client(&s);
    client_send(&c, "POST /echo" END "Content-Length: 11\r\n\r\n");
    struct answer a = client_answer(&c, false);
    assert_int_equal(a.status, 413);
    assert_true(a.closed);
    assert_string_equal(a.body, "{\"refused\":true,\"path\":\"/echo\"}");
    assert_non_null(strstr(a.head, "\r\nContent-Type: application/json\r\n"));
    server_wait(&s, &s.logged, 1);
    assert_int_equal(s.status, 413);
    assert_int_equal(s.bytes, a.n);
    answer_free(&a);
    client_close(&c);
    c = server_client(&s);
    client_send(&c, "GET /echo" END);
    for (int i = 0; i < 120; i++) client_send(&c, "X: y\r\n"); /* more than are taken */
    client_send(&c, "\r\n");
    a = client_answer(&c, false);
    assert_int_equal(a.status, 431);
    assert_string_equal(a.body, "{\"refused\":true,\"path\":\"/echo\"}");
    server_wait(&s, &s.logged, 2);
    answer_free(&a);
    client_close(&c);
    server_close(&s);
}

/* What is sent after a refusal does not reset the connection at once, and with it the refusal. */
static void test_a_refusal_is_lingered_with(void **state)
{
    (void)state;
    struct server s;
    server_init(&s)->limits.body_bytes = 10;
    server_open(&s);
    struct client c = server_client(&s);
    free(client_ask(&c, "POST /echo" END "Content-Length: 9999999\r\n\r\n", 413));
    static char more[100000];
    for (int i = 0; i < 5; i++) {
        assert_int_equal(send(c.fd, more, sizeof more, MSG_NOSIGNAL), sizeof more);
        usleep(1000);
    }
    assert_true(client_ended(&c));
    client_close(&c);
    server_close(&s);
}

/* Connections that dawdle are ended; others are not disturbed. */
static void test_too_slow(void **state)
{
    (void)state;
    struct server s;
    struct http_opts *o = server_init(&s);
    o->limits.header_seconds = 1;
    o->limits.idle_seconds = 2;
    o->limits.body_bytes_per_s = 1000;
    server_open(&s);
    struct client silent = server_client(&s), line = server_client(&s);
    struct client headers = server_client(&s), body = server_client(&s), kept = server_client(&s);
    struct client drip = server_client(&s), good = server_client(&s);
    free(client_ask(&kept, "GET /echo" END "\r\n", 200));
    client_send(&line, "GET /ec");
    client_send(&headers, "GET /echo" END "X: ");
    client_send(&body, "POST /echo" END "Content-Length: 5000\r\n\r\nabc");
    client_send(&drip, "POST /echo" END "Content-Length: 5000\r\n\r\n");
    client_send(&good, "POST /echo" END "Content-Length: 5000\r\n\r\n");
    char piece[250];
    memset(piece, 'a', sizeof piece);
    for (int i = 0; i < 20; i++) {
        client_send(&drip, "a");
        client_send_n(&good, piece, sizeof piece);
        usleep(100000);
    }
    struct answer a = client_answer(&good, false);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    struct client *late[] = {&headers, &body, &drip}, *quiet[] = {&silent, &line, &kept};
    for (int i = 0; i < 3; i++) {
        a = client_answer(late[i], false);
        assert_int_equal(a.status, 408);
        assert_true(client_ended(late[i]));
        answer_free(&a);
        client_close(late[i]);
        assert_true(client_ended(quiet[i]));
        client_close(quiet[i]);
    }
    client_close(&good);
    server_check(&s);
    server_close(&s);
}

static void test_an_idle_connection_makes_room(void **state)
{
    (void)state;
    enum { MOST = 8 };
    struct server s;
    struct http_opts *o = server_init(&s);
    o->limits.connections = MOST;
    server_open(&s);
    struct client c[MOST];
    for (int i = 0; i < MOST; i++) {
        c[i] = server_client(&s);
        free(client_ask(&c[i], "GET /echo" END "\r\n", 200));
    }
    server_check(&s);
    assert_true(client_ended(&c[0])); /* the one that idled longest */
    free(client_ask(&c[MOST - 1], "GET /echo" END "\r\n", 200));
    for (int i = 0; i < MOST; i++) client_close(&c[i]);
    /* no room where all are busy */
    struct http_request *r[MOST];
    for (int i = 0; i < MOST; i++) {
        c[i] = server_client(&s);
        client_send(&c[i], "GET /hold" END "\r\n");
        r[i] = server_held(&s);
    }
    struct client more = server_client(&s);
    struct answer a = client_answer(&more, false);
    assert_int_equal(a.status, 503);
    assert_true(a.closed);
    answer_free(&a);
    client_close(&more);
    for (int i = 0; i < MOST; i++) {
        http_reply(r[i], 200, "text/plain", NULL, 0, "x", 1);
        a = client_answer(&c[i], false);
        assert_int_equal(a.status, 200);
        answer_free(&a);
        client_close(&c[i]);
    }
    server_close(&s);
}

/* A client whose address is 127.0.0.`last`. */
static struct client client_from(struct server *s, unsigned last)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(0x7f000000 + last)}};
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_port(s->h)),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct client c = {.fd = socket(AF_INET, SOCK_STREAM, 0), .in = calloc(1, ANSWER_MAX + 1)};
    assert_int_equal(bind(c.fd, (struct sockaddr *)&own, sizeof own), 0);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&at, sizeof at), 0);
    return c;
}

static void test_an_address_has_so_many_connections(void **state)
{
    (void)state;
    enum { MOST = 3 };
    struct server s;
    struct http_info info;
    server_init(&s)->limits.connections_per_address = MOST;
    server_open(&s);
    for (unsigned last = 1; last < 40; last++) { /* each on its own */
        struct client c[MOST];
        for (int i = 0; i < MOST; i++) {
            c[i] = client_from(&s, last);
            free(client_ask(&c[i], "GET /echo" END "\r\n", 200));
        }
        struct client more = client_from(&s, last);
        struct answer a = client_answer(&more, false);
        assert_int_equal(a.status, 429);
        assert_true(a.closed);
        assert_non_null(strstr(a.head, "\r\nRetry-After: "));
        assert_string_equal(a.body, "{\"refused\":true}");
        answer_free(&a);
        assert_true(client_ended(&more));
        client_close(&more);
        client_close(&c[1]); /* makes room */
        bool in = false;
        for (int tries = 0; !in && tries < 2000; tries++) {
            c[1] = client_from(&s, last);
            client_send(&c[1], "GET /echo" END "\r\n");
            a = client_answer(&c[1], false);
            in = a.status == 200;
            answer_free(&a);
            if (!in) client_close(&c[1]);
            if (!in) usleep(1000);
        }
        assert_true(in);
        for (int i = 0; i < MOST; i++) client_close(&c[i]);
        http_info(s.h, &info);
        assert_true(info.cut[HTTP_CUT_ADDRESS] >= last);
    }
    server_close(&s);
}

static void test_all_bodies_together_are_bounded(void **state)
{
    (void)state;
    struct server s;
    struct http_opts *o = server_init(&s);
    o->limits.bodies_bytes = 3000;
    server_open(&s);
    struct client a = server_client(&s), b = server_client(&s);
    char p[2200];
    int n = sprintf(p, "POST /hold" END "Content-Length: 2000\r\n\r\n");
    memset(p + n, 'a', 2000);
    client_send_n(&a, p, (size_t)n + 2000);
    struct http_request *r = server_held(&s);
    client_send_n(&b, p, (size_t)n + 2000);
    struct answer answer = client_answer(&b, false);
    assert_int_equal(answer.status, 503);
    assert_string_equal(answer.body, "503 Service Unavailable\n");
    answer_free(&answer);
    client_close(&b);
    size_t got;
    http_body(r, &got);
    assert_int_equal(got, 2000);
    http_reply(r, 204, NULL, NULL, 0, NULL, 0);
    answer = client_answer(&a, false);
    assert_int_equal(answer.status, 204);
    answer_free(&answer);
    client_send_n(&a, p, (size_t)n + 2000); /* room again */
    http_reply(server_held(&s), 204, NULL, NULL, 0, NULL, 0);
    client_close(&a);
    server_close(&s);
}

/* Good requests, cut, spliced and with bytes changed: whatever comes, a good one is answered after it. */
static void test_random_requests(void **state)
{
    (void)state;
    static const char *const seeds[] = {
        "GET /echo?q=1&r=%20" END "X-Test: a\r\nCookie: a=\"b\"; c=d\r\n\r\n",
        "POST /echo" END "Content-Length: 11\r\n\r\nhello world",
        "POST /echo" END "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "POST /echo" END "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
        "OPTIONS *" END "Connection: close\r\n\r\n",
    };
    enum { ROUNDS = 3000, MOST = 2048 };
    struct server s;
    server_init(&s);
    server_open(&s);
    struct rng g;
    rng_init(&g, 20241125);
    for (int i = 0; i < ROUNDS; i++) {
        char p[MOST];
        size_t n = 0;
        for (uint64_t parts = 1 + rng_below(&g, 3); parts--;) {
            const char *seed = seeds[rng_below(&g, sizeof seeds / sizeof *seeds)];
            size_t from = rng_below(&g, 4) ? 0 : rng_below(&g, strlen(seed));
            size_t k = strlen(seed) - from;
            if (rng_below(&g, 4) == 0) k = rng_below(&g, k + 1);
            memcpy(p + n, seed + from, k);
            n += k;
        }
        for (uint64_t changes = rng_below(&g, 6); n && changes--;) {
            static const char likely[] = "\r\n\0 \t:;,=%?&/0aF\"\xff";
            p[rng_below(&g, n)] =
                rng_below(&g, 3) ? likely[rng_below(&g, sizeof likely)] : (char)rng_below(&g, 256);
        }
        struct client c = server_client(&s);
        client_send_n(&c, p, n);
        if (rng_below(&g, 2)) shutdown(c.fd, SHUT_WR);
        struct pollfd f = {.fd = c.fd, .events = POLLIN};
        if (poll(&f, 1, (int)rng_below(&g, 4)) > 0) client_more(&c);
        client_close(&c);
        if (i % 50 == 0) server_check(&s);
    }
    server_check(&s);
    server_close(&s);
}

static void test_wrong_options(void **state)
{
    (void)state;
    struct server s, t;
    struct err e;
    server_init(&s);
    server_open(&s);
    server_init(&t)->port = http_port(s.h);
    assert_int_equal(http_open(&t.h, &t.o, &e), ERR_IO); /* taken */
    assert_non_null(strstr(e.msg, "cannot listen on 127.0.0.1 port "));
    server_init(&t)->host = "no such host";
    assert_int_equal(http_open(&t.h, &t.o, &e), ERR_USAGE);
    server_init(&t)->port = 65536;
    assert_int_equal(http_open(&t.h, &t.o, &e), ERR_USAGE);
    server_init(&t)->limits.connections = 1 << 20;
    assert_int_equal(http_open(&t.h, &t.o, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "open files"));
    server_init(&t)->threads = 1000;
    assert_int_equal(http_open(&t.h, &t.o, &e), ERR_USAGE);
    for (const struct http_limit_row *row = http_limit_rows; row->name; row++) {
        int64_t low = row->min - 1, high = row->max + 1;
        server_init(&t);
        memcpy((char *)&t.o.limits + row->offset, &low, sizeof low);
        assert_int_equal(http_limit(&t.o.limits, row), low);
        assert_int_equal(http_open(&t.h, &t.o, &e), ERR_USAGE);
        assert_non_null(strstr(e.msg, row->name));
        memcpy((char *)&t.o.limits + row->offset, &high, sizeof high);
        assert_int_equal(http_open(&t.h, &t.o, &e), ERR_USAGE);
    }
    server_close(&s);
}

static void test_ipv6(void **state)
{
    (void)state;
    struct server s;
    server_init(&s)->host = "::1";
    struct err e;
    if (http_open(&s.h, &s.o, &e)) {
        print_message("no IPv6 here: %s\n", e.msg);
        return;
    }
    struct sockaddr_in6 at = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)http_port(s.h)),
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct client c = {.fd = socket(AF_INET6, SOCK_STREAM, 0), .in = calloc(1, ANSWER_MAX + 1)};
    assert_int_equal(connect(c.fd, (struct sockaddr *)&at, sizeof at), 0);
    char *body = client_ask(&c, "GET /echo" END "\r\n", 200);
    assert_string_equal(body, "GET /echo q=- x=- peer=::1 body=");
    free(body);
    client_close(&c);
    server_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_requests),
        cmocka_unit_test(test_head_has_the_headers_alone),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_old_and_closing_clients),
        cmocka_unit_test(test_malformed_requests_are_refused),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_refusals_have_the_callers_body_and_are_logged),
        cmocka_unit_test(test_a_refusal_is_lingered_with),
        cmocka_unit_test(test_too_slow),
        cmocka_unit_test(test_an_idle_connection_makes_room),
        cmocka_unit_test(test_an_address_has_so_many_connections),
        cmocka_unit_test(test_all_bodies_together_are_bounded),
        cmocka_unit_test(test_random_requests),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
