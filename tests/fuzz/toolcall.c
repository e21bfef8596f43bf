/* What a model says, in pieces: without a known tool every byte comes out again; whatever is found is a
 * known name and a JSON object. The first byte is the size of the pieces. */
#include "toolcall.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool known(void *arg, const char *name)
{
    return arg && strcmp(name, "f") == 0;
}

static void say(const uint8_t *p, size_t n, size_t step, bool any)
{
    struct toolcall t = TOOLCALL_INIT;
    struct buf out = BUF_INIT(1 << 22);
    struct err e;
    for (size_t i = 0; i < n; i += step)
        toolcall_put(&t, (const char *)p + i, n - i < step ? n - i : step, &out);
    assert(!toolcall_end(&t, known, any ? &t : NULL, &out, &e));
    if (!t.n_calls) assert(out.len == n && (!n || !memcmp(out.data, p, n)));
    for (int i = 0; i < t.n_calls; i++)
        assert(any && !strcmp(t.calls[i].name, "f") && t.calls[i].arguments[0] == '{');
    toolcall_free(&t);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 1 || n > 1 << 16) return 0;
    say(p + 1, n - 1, p[0] % 7 + 1, true);
    say(p + 1, n - 1, n, false);
    return 0;
}
