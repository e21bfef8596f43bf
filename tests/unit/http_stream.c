/* What goes out: answers in pieces from other threads, readers who do not read, clients who leave,
 * and a server that is drained and closed meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/http_server.h"
#include "clock.h"
#include "rng.h"

#include <stdatomic.h>

#define HOLD "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
#define ECHO "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"

static void begin(struct http_request *r)
{
    struct http_field f[] = {{"Cache-Control", "no-cache"}, {"X-Bad", "a\r\nX-Injected: b"}};
    http_begin(r, 200, "text/event-stream", f, 2);
}

static void test_pieces_arrive_as_they_are_put(void **state)
{
    (void)state;
    struct server s;
    server_init(&s);
    server_open(&s);
    struct client c = server_client(&s);
    for (int round = 0; round < 2; round++) { /* the connection is kept */
        client_send(&c, HOLD);
        struct http_request *r = server_held(&s);
        assert_string_equal(http_path(r), "/hold");
        begin(r);
        struct answer a;
        client_head(&c, &a);
        assert_int_equal(a.status, 200);
        assert_non_null(strstr(a.head, "\r\nCache-Control: no-cache\r\n"));
        assert_null(strstr(a.head, "Injected"));
        assert_non_null(strstr(a.head, "\r\nTransfer-Encoding: chunked\r\n"));
        for (int i = 0; i < 20; i++) {
            char piece[16];
            int n = snprintf(piece, sizeof piece, "data: %d\n\n", i);
            assert_int_equal(http_put(r, piece, (size_t)n), HTTP_OK);
            assert_true(client_chunk(&c, &a));
            assert_string_equal(a.body, piece); /* before the next is put */
            answer_free(&a);
        }
        http_put(r, "", 0);
        http_end(r);
        assert_false(client_chunk(&c, &a));
        answer_free(&a);
        server_wait(&s, &s.logged, round + 1);
        assert_int_equal(s.status, 200);
        assert_int_equal(s.bytes, 10 * 9 + 10 * 10);
        assert_false(s.cut);
    }
    assert_int_equal(s.gone, 0);
    client_close(&c);
    server_close(&s);
}

static void test_old_clients_get_streams_too(void **state)
{
    (void)state;
    struct server s;
    server_init(&s);
    server_open(&s);
    struct client c = server_client(&s);
    client_send(&c, "GET /hold HTTP/1.0\r\n\r\n");
    struct http_request *r = server_held(&s);
    begin(r);
    http_put(r, "one", 3);
    http_put(r, "two", 3);
    http_end(r);
    struct answer a = client_answer(&c, false);
    assert_string_equal(a.body, "onetwo");
    answer_free(&a);
    client_close(&c);
    server_close(&s);
}

/* Many writers at once, each answering many requests in random pieces, with random pauses. */
struct writer {
    struct server *s;
    struct http_request *r;
    uint64_t seed;
    struct thread *t;
};

static void write_stream(void *arg)
{
    struct writer *w = arg;
    struct rng g;
    rng_init(&g, w->seed);
    begin(w->r);
    char piece[3000];
    memset(piece, 'x', sizeof piece);
    for (int i = 0; i < 200; i++) {
        if (http_put(w->r, piece, 1 + rng_below(&g, sizeof piece)) == HTTP_GONE) break;
        if (rng_below(&g, 4) == 0) usleep((useconds_t)rng_below(&g, 300));
    }
    http_end(w->r);
}

static void test_writers_and_leavers(void **state)
{
    (void)state;
    enum { N = 24, ROUNDS = 6 };
    struct server s;
    server_init(&s)->threads = 3;
    server_open(&s);
    struct rng g;
    rng_init(&g, 7);
    for (int round = 0; round < ROUNDS; round++) {
        struct writer w[N];
        struct client c[N];
        for (int i = 0; i < N; i++) {
            c[i] = server_client(&s);
            client_send(&c[i], HOLD);
            w[i] = (struct writer){.s = &s, .r = server_held(&s), .seed = rng_u64(&g)};
            struct err e;
            assert_int_equal(thread_open(&w[i].t, write_stream, &w[i], &e), 0);
        }
        for (int i = 0; i < N; i++) {
            if (i % 3 == 0) { /* leaves in the midst */
                client_more(&c[i]);
                client_close(&c[i]);
                continue;
            }
            struct answer a = client_answer(&c[i], false);
            assert_int_equal(a.status, 200);
            assert_int_equal(strspn(a.body, "x"), a.n);
            assert_true(a.n >= 200);
            answer_free(&a);
            client_close(&c[i]);
        }
        for (int i = 0; i < N; i++) thread_close(w[i].t);
    }
    server_wait(&s, &s.logged, N * ROUNDS);
    server_check(&s);
    server_close(&s);
}

static void test_a_reader_who_does_not_read_fills_the_queue(void **state)
{
    (void)state;
    enum { QUEUE = 64 * 1024, PIECE = 8 * 1024 };
    struct server s;
    server_init(&s)->limits.queue_bytes = QUEUE;
    server_open(&s);
    struct client c = client_open(http_port(s.h), 16 * 1024);
    client_send(&c, HOLD);
    struct http_request *r = server_held(&s);
    begin(r);
    static char piece[PIECE];
    memset(piece, 'y', PIECE);
    size_t put = 0;
    enum http_put what = HTTP_OK;
    for (int i = 0; i < 1000 && what == HTTP_OK; i++) {
        what = http_put(r, piece, PIECE);
        put += PIECE;
        usleep(1000);
    }
    assert_int_equal(what, HTTP_FULL);
    assert_true(put >= QUEUE);
    assert_int_equal(server_get(&s, &s.drained), 0);
    struct answer a;
    client_head(&c, &a);
    while (a.n < put) client_chunk(&c, &a);
    assert_int_equal(a.n, put);
    server_wait(&s, &s.drained, 1);
    assert_int_equal(http_put(r, piece, PIECE), HTTP_OK);
    http_end(r);
    while (client_chunk(&c, &a)) {}
    assert_int_equal(a.n, put + PIECE);
    assert_int_equal(server_get(&s, &s.drained), 1);
    answer_free(&a);
    client_close(&c);
    server_close(&s);
}

static void test_a_writer_who_does_not_pause_is_cut(void **state)
{
    (void)state;
    struct server s;
    server_init(&s)->limits.queue_bytes = 64 * 1024;
    server_open(&s);
    struct client c = client_open(http_port(s.h), 16 * 1024);
    client_send(&c, HOLD);
    struct http_request *r = server_held(&s);
    begin(r);
    static char piece[64 * 1024];
    int puts = 0;
    while (http_put(r, piece, sizeof piece) != HTTP_GONE)
        if (++puts > 100) fail_msg("memory without limit");
    http_end(r);
    while (client_more(&c)) client_drop(&c, c.n);
    client_close(&c);
    server_wait(&s, &s.logged, 1);
    assert_true(s.cut);
    server_close(&s);
}

static void test_a_stalled_reader_is_cut(void **state)
{
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        struct server s;
        server_init(&s)->limits.stalled_seconds = 1;
        server_open(&s);
        struct client c = client_open(http_port(s.h), 16 * 1024);
        client_send(&c, HOLD);
        struct http_request *r = server_held(&s);
        size_t n = 8 << 20;
        char *big = calloc(1, n);
        if (whole) {
            http_reply(r, 200, "x/y", NULL, 0, big, n);
        } else {
            begin(r);
            http_put(r, big, n);
            server_wait(&s, &s.gone, 1);
            assert_int_equal(http_put(r, "x", 1), HTTP_GONE);
            http_end(r);
        }
        free(big);
        server_wait(&s, &s.logged, 1);
        assert_true(s.cut);
        assert_int_equal(s.gone, !whole);
        struct http_info info;
        http_info(s.h, &info);
        assert_int_equal(info.cut[HTTP_CUT_STALLED], 1);
        client_close(&c);
        server_close(&s);
    }
}

/* All limits of time are far longer than the test waits, so it is the watcher who noticed. */
static void test_who_leaves_is_noticed(void **state)
{
    (void)state;
    struct server s;
    server_init(&s);
    server_open(&s);
    int64_t longest = 0;
    for (int i = 0; i < 6; i++) {
        struct client c = server_client(&s);
        client_send(&c, HOLD);
        struct http_request *r = server_held(&s);
        static char big[1 << 20];
        if (i >= 2) begin(r);                     /* else: before an answer */
        if (i >= 4) http_put(r, big, sizeof big); /* in the midst of much; else: while it waits */
        int64_t start = clock_ns();
        if (i % 2) {
            shutdown(c.fd, SHUT_WR);
        } else {
            close(c.fd);
            c.fd = -1;
        }
        server_wait(&s, &s.gone, i + 1);
        if (clock_ns() - start > longest) longest = clock_ns() - start;
        assert_ptr_equal(s.gone_request, r);
        assert_string_equal(http_path(r), "/hold"); /* it lives until its end */
        if (i < 2) begin(r);
        assert_int_equal(http_put(r, "x", 1), HTTP_GONE);
        http_end(r);
        server_wait(&s, &s.logged, i + 1);
        assert_true(s.cut);
        client_close(&c);
    }
    assert_int_equal(s.gone, 6);
    print_message("noticed within %.1f ms\n", (double)longest / 1e6);
    server_check(&s);
    server_close(&s);
}

static void test_an_answer_to_one_who_left(void **state)
{
    (void)state;
    struct server s;
    server_init(&s);
    server_open(&s);
    for (int i = 0; i < 50; i++) { /* a reply races with the notice */
        struct client c = server_client(&s);
        client_send(&c, HOLD);
        struct http_request *r = server_held(&s);
        server_wait(&s, &s.logged, i);
        int gone = server_get(&s, &s.gone);
        client_close(&c);
        if (i % 2) usleep(2000);
        if (i % 5 == 0) {
            server_wait(&s, &s.gone, gone + 1);
            http_end(r);
        } else {
            http_reply(r, 200, "x/y", NULL, 0, "x", 1);
        }
    }
    server_wait(&s, &s.logged, 50);
    server_check(&s);
    server_close(&s);
}

/* The callbacks may answer themselves. */
static void end_when_gone(void *arg, struct http_request *r)
{
    server_gone(arg, r);
    http_end(r);
}

static void test_gone_may_end(void **state)
{
    (void)state;
    struct server s;
    server_init(&s)->gone = end_when_gone;
    server_open(&s);
    struct client c = server_client(&s);
    client_send(&c, HOLD);
    begin(server_held(&s));
    client_close(&c);
    server_wait(&s, &s.logged, 1);
    assert_int_equal(s.gone, 1);
    server_close(&s);
}

static atomic_bool left_gone;

static void stay_in_gone(void *arg, struct http_request *r)
{
    server_gone(arg, r);
    usleep(50000);
    atomic_store(&left_gone, true);
}

static void test_end_waits_for_gone(void **state)
{
    (void)state;
    struct server s;
    server_init(&s)->gone = stay_in_gone;
    server_open(&s);
    struct client c = server_client(&s);
    client_send(&c, HOLD);
    struct http_request *r = server_held(&s);
    begin(r);
    client_close(&c);
    server_wait(&s, &s.gone, 1);
    http_end(r);
    assert_true(atomic_load(&left_gone));
    server_close(&s);
}

static void test_drain_and_close(void **state)
{
    (void)state;
    struct server s;
    server_init(&s);
    server_open(&s);
    struct client idle = server_client(&s), busy = server_client(&s), late = server_client(&s);
    free(client_ask(&idle, ECHO, 200));
    client_send(&late, "POST /echo HTTP/1.1\r\nHost: a\r\n");
    client_send(&busy, HOLD);
    struct http_request *r = server_held(&s);
    server_check(&s); /* so that the line of the late one has been read, too */
    http_drain(s.h);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_port(s.h)),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), -1);
    close(fd);
    assert_true(client_ended(&idle));
    client_send(&late, "Content-Length: 0\r\n\r\n");
    struct answer a = client_answer(&late, false);
    assert_int_equal(a.status, 503);
    answer_free(&a);
    begin(r);
    http_put(r, "still", 5);
    http_end(r);
    a = client_answer(&busy, false);
    assert_string_equal(a.body, "still");
    assert_true(a.closed);
    answer_free(&a);
    assert_true(client_ended(&busy));
    client_close(&idle);
    client_close(&busy);
    client_close(&late);
    server_close(&s);
}

static void test_close_while_streaming(void **state)
{
    (void)state;
    enum { N = 12 };
    struct server s;
    server_init(&s)->limits.close_seconds = 0;
    server_open(&s);
    struct client c[N];
    struct http_request *r[N];
    for (int i = 0; i < N; i++) {
        c[i] = server_client(&s);
        client_send(&c[i], HOLD);
        r[i] = server_held(&s);
        if (i % 3) begin(r[i]);
        if (i % 3 == 2) http_put(r[i], "some", 4);
    }
    http_close(s.h);
    assert_int_equal(s.gone, N);
    assert_int_equal(s.logged, N);
    for (int i = 0; i < N; i++) { /* valid until their end */
        assert_string_equal(http_path(r[i]), "/hold");
        if (i % 3) assert_int_equal(http_put(r[i], "x", 1), HTTP_GONE);
        if (i == 3)
            http_reply(r[i], 200, "x/y", NULL, 0, "x", 1);
        else
            http_end(r[i]);
        if (i % 3 == 0) { /* handed back: nothing of its answer had been sent */
            struct answer a = client_answer(&c[i], false);
            assert_int_equal(a.status, 503);
            assert_true(a.closed);
            answer_free(&a);
        }
        while (client_more(&c[i])) {}
        client_close(&c[i]);
    }
    thread_monitor_free(&s.m);
}

static void test_close_waits_for_answers(void **state)
{
    (void)state;
    struct server s;
    server_init(&s)->limits.close_seconds = 60;
    server_open(&s);
    struct client c = server_client(&s);
    client_send(&c, HOLD);
    struct writer w = {.s = &s, .r = server_held(&s), .seed = 3};
    struct err e;
    assert_int_equal(thread_open(&w.t, write_stream, &w, &e), 0);
    struct answer a;
    client_head(&c, &a); /* has begun */
    struct thread *closer;
    assert_int_equal(thread_open(&closer, (thread_fn *)http_close, s.h, &e), 0);
    while (client_chunk(&c, &a)) {}
    answer_free(&a);
    thread_close(w.t);
    thread_close(closer);
    assert_int_equal(s.gone, 0);
    assert_false(s.cut);
    client_close(&c);
    thread_monitor_free(&s.m);
}

static void test_no_descriptor_is_lost(void **state)
{
    (void)state;
    struct rng g;
    rng_init(&g, 99);
    int before = open_files();
    struct server s;
    server_init(&s);
    server_open(&s);
    static const char big[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
    for (int i = 0; i < 200; i++) {
        struct client c = server_client(&s);
        switch (rng_below(&g, 6)) {
        case 0: break;
        case 1: client_send_n(&c, ECHO, rng_below(&g, sizeof ECHO)); break;
        case 2: free(client_ask(&c, ECHO, 200)); break;
        case 3: client_send(&c, big); break; /* is lingered with */
        case 4:
            client_send(&c, ECHO);
            shutdown(c.fd, SHUT_WR);
            break;
        case 5: {
            client_send(&c, HOLD);
            struct http_request *r = server_held(&s);
            begin(r);
            http_put(r, big, rng_below(&g, sizeof big));
            client_close(&c);
            if (rng_below(&g, 2)) usleep(1000);
            http_end(r);
            continue;
        }
        }
        if (rng_below(&g, 4) == 0) { /* leaves with a reset */
            struct linger hard = {1, 0};
            setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        }
        client_close(&c);
    }
    server_check(&s);
    struct http_info info;
    for (int i = 0; i < WAIT_MS / 10; i++) {
        http_info(s.h, &info);
        if (!info.connections) break;
        usleep(10000);
    }
    assert_int_equal(info.connections, 0);
    server_close(&s);
    assert_int_equal(open_files(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_arrive_as_they_are_put),
        cmocka_unit_test(test_old_clients_get_streams_too),
        cmocka_unit_test(test_writers_and_leavers),
        cmocka_unit_test(test_a_reader_who_does_not_read_fills_the_queue),
        cmocka_unit_test(test_a_writer_who_does_not_pause_is_cut),
        cmocka_unit_test(test_a_stalled_reader_is_cut),
        cmocka_unit_test(test_who_leaves_is_noticed),
        cmocka_unit_test(test_an_answer_to_one_who_left),
        cmocka_unit_test(test_gone_may_end),
        cmocka_unit_test(test_end_waits_for_gone),
        cmocka_unit_test(test_drain_and_close),
        cmocka_unit_test(test_close_while_streaming),
        cmocka_unit_test(test_close_waits_for_answers),
        cmocka_unit_test(test_no_descriptor_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
