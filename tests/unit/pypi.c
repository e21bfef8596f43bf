/* Index pages and wheels, among them those of a hostile index. */
#include "pypi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct pypi_wheel w;

static int find(const char *html, const char *package, const char *version)
{
    struct err e;
    return pypi_find_wheel(html, strlen(html), package, version, &w, &e);
}

static void index_names(void **state)
{
    (void)state;
    unsetenv("PIP_INDEX_URL");
    unsetenv("UV_DEFAULT_INDEX");
    assert_string_equal(pypi_index(NULL), "https://pypi.org/simple");
    setenv("UV_DEFAULT_INDEX", "mine=https://u/simple?a=b", 1);
    assert_string_equal(pypi_index(NULL), "https://u/simple?a=b");
    setenv("UV_DEFAULT_INDEX", "https://u/simple?a=b", 1);
    assert_string_equal(pypi_index(NULL), "https://u/simple?a=b");
    setenv("PIP_INDEX_URL", "https://p/simple", 1);
    assert_string_equal(pypi_index(NULL), "https://p/simple");
    assert_string_equal(pypi_index("https://f"), "https://f");
    struct buf b = BUF_INIT(1000);
    struct err e;
    assert_int_equal(pypi_page_url("https://h/simple//", "My_._Pkg.x", &b, &e), 0);
    assert_string_equal(b.data, "https://h/simple/my-pkg-x/");
    buf_free(&b);
}

static void pages(void **state)
{
    (void)state;
    assert_int_equal(
        find("<!DOCTYPE html><a href=\"https://h/a/my_pkg-1.0-py3-none-any.whl#sha256=" HASH
             "\" data-requires-python=\"&gt;=3.8\">x</a>",
             "My.Pkg", "1.0"),
        0);
    assert_string_equal(w.link, "https://h/a/my_pkg-1.0-py3-none-any.whl");
    assert_string_equal(w.sha256, HASH);
    /* one for any platform wins, wherever it stands; builds have six parts */
    assert_int_equal(find("<a href=p-1-cp3-cp3-linux_x86_64.whl></a><A\n class=x HREF = "
                          "'d/p-1-7-py3-none-any.whl'>",
                          "p", "1"),
                     0);
    assert_string_equal(w.link, "d/p-1-7-py3-none-any.whl");
    assert_string_equal(w.sha256, "");
    assert_int_equal(find("<a href=p-1-cp3-cp3-linux_x86_64.whl>", "p", "1"), 0);
    assert_string_equal(w.link, "p-1-cp3-cp3-linux_x86_64.whl");
    assert_int_equal(find("<a href='/f?x=1&amp;y=2&amp;/p-1-py3-none-any.whl'>", "p", "1"),
                     ERR_NOT_FOUND);
    assert_int_equal(find("<a href='/p-1-py3-none-any.whl?x=1&amp;y=2#sha256=abc'>", "p", "1"), 0);
    assert_string_equal(w.link, "/p-1-py3-none-any.whl?x=1&y=2");
    assert_string_equal(w.sha256, "");
}

static void no_pages(void **state)
{
    (void)state;
    static const char *const t[] = {
        "",
        "<",
        "<a",
        "<a ",
        "<a href",
        "<a href=",
        "<a href=\"",
        "<a href=\"p-1-py3-none-any.whl-",
        "<a href=p-1-py3-none-any.tar.gz>",
        "<a href=p-2-py3-none-any.whl>",
        "<a href=q-1-py3-none-any.whl>",
        "<a href=p-1-none-any.whl>",
        "<a href=p-1-a-b-c-d-any.whl>",
        "<a href=p-1-py3-none-any.whl/>",
        "<abbr href=p-1-py3-none-any.whl>",
        "<a xhref=p-1-py3-none-any.whl>",
        "<a href='p-1-py3-none-any.whl",
        "href=p-1-py3-none-any.whl",
        "<a href='p-1-py3-none- any.whl'>",
        "<a href='\x01p-1-py3-none-any.whl'>",
        "<a href=''>",
        "<a href='.whl'>",
        "<a href='----.whl'>",
        "<a href='#sha256=" HASH "'>",
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        if (find(t[i], "p", "1") != ERR_NOT_FOUND) fail_msg("%zu: %s", i, t[i]);
    char *html = malloc(20000);
    memset(html, 'x', 20000);
    memcpy(html, "<a href=", 8);
    memcpy(html + 19970, "/p-1-py3-none-any.whl>", 23);
    assert_int_equal(find(html, "p", "1"), ERR_NOT_FOUND); /* a link too long to keep */
    free(html);
}

/* ---- wheels: zip files without compression, written by hand ---- */

static uint32_t crc32_of(const char *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= (uint8_t)p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

static void le(FILE *f, int bytes, uint32_t v)
{
    for (; bytes--; v >>= 8) putc((int)(v & 255), f);
}

/* Fields that the local and the central header share. */
static void zip_fields(FILE *f, const char *name, uint32_t size, uint32_t crc)
{
    le(f, 2, 20), le(f, 2, 0), le(f, 2, 0), le(f, 4, 0), le(f, 4, crc);
    le(f, 4, size), le(f, 4, size), le(f, 2, (uint32_t)strlen(name)), le(f, 2, 0);
}

/* One member; `damage` is added to its checksum. */
static FILE *zip(const char *name, const char *data, uint32_t damage)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    uint32_t n = (uint32_t)strlen(data), crc = crc32_of(data, n) + damage;
    le(f, 4, 0x04034b50), zip_fields(f, name, n, crc);
    fprintf(f, "%s%s", name, data);
    long central = ftell(f);
    le(f, 4, 0x02014b50), le(f, 2, 20), zip_fields(f, name, n, crc);
    le(f, 2, 0), le(f, 2, 0), le(f, 2, 0), le(f, 4, 0), le(f, 4, 0);
    fprintf(f, "%s", name);
    long end = ftell(f);
    le(f, 4, 0x06054b50), le(f, 4, 0), le(f, 2, 1), le(f, 2, 1);
    le(f, 4, (uint32_t)(end - central)), le(f, 4, (uint32_t)central), le(f, 2, 0);
    assert_int_equal(fflush(f), 0);
    return f;
}

static int unpack(FILE *f, const char *member, FILE *to, int64_t bytes, struct err *e)
{
    int64_t written;
    int rc = pypi_unpack(fileno(f), member, fileno(to), 4, bytes, &written, e);
    if (!rc) assert_int_equal(written, 11);
    return rc;
}

static void wheels(void **state)
{
    (void)state;
    FILE *f = zip("d/m.bin", "hello world", 0), *to = tmpfile(),
         *bad = zip("d/m.bin", "hello world", 1);
    struct err e;
    char s[32] = "";
    assert_non_null(to);
    assert_int_equal(unpack(f, "d/m.bin", to, 11, &e), 0);
    assert_int_equal(unpack(f, "d/m.bin", to, -1, &e), 0);
    assert_int_equal(pread(fileno(to), s, sizeof s, 0), 15);
    assert_memory_equal(s, "\0\0\0\0hello world", 15);
    assert_int_equal(unpack(f, "d/m.bin", to, 10, &e), ERR_FORMAT);
    assert_int_equal(unpack(f, "d/m.bin", to, 12, &e), ERR_FORMAT);
    assert_string_equal(e.msg, "d/m.bin: 11 bytes instead of 12");
    assert_int_equal(unpack(f, "m.bin", to, 11, &e), ERR_NOT_FOUND);
    assert_int_equal(unpack(bad, "d/m.bin", to, 11, &e), ERR_FORMAT);
    /* cut anywhere, it is refused */
    fseek(f, 0, SEEK_END);
    for (long n = ftell(f) - 1; n >= 0; n--) {
        assert_int_equal(ftruncate(fileno(f), n), 0);
        int rc = unpack(f, "d/m.bin", to, 11, &e);
        assert_true(rc == ERR_FORMAT || rc == ERR_NOT_FOUND);
    }
    fclose(f);
    fclose(to);
    fclose(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_names),
        cmocka_unit_test(pages),
        cmocka_unit_test(no_pages),
        cmocka_unit_test(wheels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
