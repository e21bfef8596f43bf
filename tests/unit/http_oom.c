/* Memory that runs out while a server opens or serves: the n-th allocation of its threads fails, for every n. What
 * was asked then may be refused or cut; what is asked after it is answered. oom.h is for one thread, so
 * this has a counter of its own, which the client's thread does not touch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/http_server.h"
#include "../support/sanitizer.h"

#include <errno.h>
#include <stdatomic.h>

#if UNDER_ASAN || UNDER_TSAN
enum { WORKS = 0 }; /* they bring their own allocator */
static atomic_long left = -1;
static _Thread_local bool spared;
#else
enum { WORKS = 1 };

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static atomic_long left = -1;     /* allocations until one fails; below 0: none does */
static _Thread_local bool spared; /* of this thread none does */

static bool fails(void)
{
    if (spared || atomic_load(&left) < 0 || atomic_fetch_sub(&left, 1) != 0) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n)
{
    return fails() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return fails() ? NULL : __libc_realloc(p, n);
}
#endif

static void test_opening(void **state)
{
    (void)state;
    if (!WORKS) return;
    struct server s;
    for (long n = 0;; n++) {
        spared = true;
        int files = open_files();
        server_init(&s);
        spared = false;
        atomic_store(&left, n);
        struct err e;
        int rc = http_open(&s.h, &s.o, &e);
        bool hit = atomic_exchange(&left, -1) < 0;
        spared = true;
        if (!rc) {
            server_check(&s);
            server_close(&s);
        }
        /* the library, where it does not start, loses one itself */
        if (!rc || !strstr(e.msg, "library")) assert_int_equal(open_files(), files);
        if (!hit) break;
        if (n > 5000) fail_msg("no end");
    }
}

/* The request in flight, in pieces that make the body and the answer grow. */
static void ask(struct server *s)
{
    static char body[30000];
    struct client c = server_client(s);
    client_send(&c, "POST /echo?a=b HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 60000\r\n\r\n");
    for (int i = 0; i < 2; i++) {
        memset(body, 'a', sizeof body);
        client_send_n(&c, body, sizeof body);
        usleep(500);
    }
    struct answer a;
    client_head(&c, &a);
    if (a.status && a.status != 200 && a.status != 503 && a.status != 431) fail_msg("%s", a.head);
    client_close(&c);
}

static void test_serving(void **state)
{
    (void)state;
    if (!WORKS) return;
    spared = true;
    struct server s;
    server_init(&s);
    server_open(&s);
    for (long n = 0;; n++) {
        atomic_store(&left, n);
        ask(&s);
        bool hit = atomic_exchange(&left, -1) < 0;
        server_check(&s);
        if (!hit) break;
        if (n > 5000) fail_msg("no end");
    }
    server_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opening),
        cmocka_unit_test(test_serving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
