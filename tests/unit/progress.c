/* Lines of progress: their numbers, their width, and silence where nobody asked for them. */
#include "progress.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void sizes(void **state)
{
    (void)state;
    char a[16];
    assert_string_equal(progress_bytes(0, a), "0 B");
    assert_string_equal(progress_bytes(999, a), "999 B");
    assert_string_equal(progress_bytes(1000, a), "1.0 kB");
    assert_string_equal(progress_bytes(98362432, a), "98 MB");
    assert_string_equal(progress_bytes(999700000, a), "1.0 GB");
    assert_string_equal(progress_bytes(1117320768, a), "1.1 GB");
    assert_string_equal(progress_bytes(9960000000, a), "10 GB");
    assert_string_equal(progress_bytes(INT64_MAX, a), "9.2 EB");
}

static void lines(void **state)
{
    (void)state;
    char s[256];
    struct progress p = {.label = "pulling x", .done = 250000000, .total = 1000000000, .rate = 1e7};
    progress_line(&p, 80, s, sizeof s);
    assert_string_equal(
        s, "pulling x  [######..................]   25%  250 MB / 1.0 GB  10 MB/s  ETA 1:15");
    p.rate = 1e5;
    progress_line(&p, 200, s, sizeof s);
    assert_non_null(strstr(s, "ETA 2:05:00"));
    p.total = -1;
    progress_line(&p, 80, s, sizeof s);
    assert_string_equal(s, "pulling x  250 MB  100 kB/s");
    p = (struct progress){.label = "reading", .done = 5, .total = 20, .unit = PROGRESS_TOKENS};
    progress_line(&p, 40, s, sizeof s);
    assert_string_equal(s, "reading  [###...........]   25%  5 / 20");
}

static void every_width(void **state)
{
    (void)state;
    char s[256];
    int64_t some[] = {-1, 0, 1, 999, 123456789, INT64_MAX / 2, INT64_MAX};
    for (int cols = 20; cols < 256; cols++)
        for (size_t i = 0; i < 49; i++) {
            struct progress p = {.label = "a label of middling length",
                                 .done = some[i / 7],
                                 .total = some[i % 7],
                                 .rate = (double)cols};
            if (p.total > 0 && p.done > p.total) p.done = p.total;
            progress_line(&p, cols, s, sizeof s);
            assert_true(strlen(s) < (size_t)cols);
        }
}

/* What `work` writes to stderr when that is `fd`. */
static void with_stderr(int fd, void (*work)(void))
{
    int old = dup(2);
    assert_true(old >= 0 && dup2(fd, 2) == 2);
    work();
    dup2(old, 2);
    close(old);
}

static void quick_work(void)
{
    struct progress p;
    progress_init(&p, "quick", 100, PROGRESS_TOKENS);
    for (int i = 0; i <= 100; i++) progress_update(&p, i);
    progress_end(&p);
    progress_update(NULL, 1);
    progress_end(NULL);
}

static void slow_work(void)
{
    struct progress p;
    progress_init(&p, "slow", 100, PROGRESS_TOKENS);
    p.start_ns -= 1000000000, p.drawn_ns -= 1000000000; /* as if begun a second ago */
    progress_update(&p, 50);
    progress_update(&p, 60); /* too soon to draw again */
    progress_end(&p);
}

static void silence(void **state)
{
    (void)state;
    int pipes[2];
    char s[16];
    assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
    with_stderr(pipes[1], quick_work);
    with_stderr(pipes[1], slow_work);
    assert_int_equal(read(pipes[0], s, sizeof s), -1);
    close(pipes[0]);
    close(pipes[1]);
}

static void terminal(void **state)
{
    (void)state;
    int pty = posix_openpt(O_RDWR | O_NOCTTY);
    if (pty < 0 || grantpt(pty) || unlockpt(pty)) skip();
    int tty = open(ptsname(pty), O_RDWR | O_NOCTTY);
    if (tty < 0) skip();
    fcntl(pty, F_SETFL, O_NONBLOCK);
    char s[512];
    with_stderr(tty, quick_work);
    with_stderr(tty, slow_work);
    size_t n = 0; /* the kernel hands over later than it takes */
    s[0] = 0;
    while (n < 4 || strcmp(s + n - 4, "\r\033[K")) {
        assert_int_equal(poll(&(struct pollfd){.fd = pty, .events = POLLIN}, 1, 10000), 1);
        ssize_t got = read(pty, s + n, sizeof s - 1 - n);
        assert_true(got > 0);
        s[n += (size_t)got] = 0;
    }
    assert_non_null(strstr(s, "50%  50 / 100"));
    assert_null(strstr(s, "60%"));
    assert_null(strstr(s, "quick"));
    close(tty);
    close(pty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),   cmocka_unit_test(lines),    cmocka_unit_test(every_width),
        cmocka_unit_test(silence), cmocka_unit_test(terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
