/* A template and the JSON it is rendered with: first the JSON, then a line "====", then the
 * template; without that line the whole is a template and a conversation stands in for the JSON.
 *
 * Beyond no crash: a template that opens can be rendered any number of times with the same result;
 * the output stays within its budget and is UTF-8; each of its bytes has a mark; what fails leaves
 * nothing behind in the output and says why in one line.
 */
#include "template.h"
#include "unicode.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief\"},"
    "{\"role\": \"user\", \"content\": \" Gr\\u00fc\\u00dfe, \\u4e16! \"},"
    "{\"role\": \"assistant\", \"content\": \"<think>a</think>b\", \"tool_calls\": ["
    "{\"id\": \"abcdefghi\", \"type\": \"function\", \"function\": {\"name\": \"f\", "
    "\"arguments\": {\"x\": 1, \"y\": [2.5, null, true]}}}]},"
    "{\"role\": \"tool\", \"content\": \"42\"}, {\"role\": \"user\", \"content\": [{\"type\": "
    "\"text\", \"text\": \"c\"}]}], \"tools\": [{\"type\": \"function\", \"function\": {\"name\": "
    "\"f\", \"parameters\": {\"properties\": {\"x\": {\"type\": \"integer\"}}}}}], \"n\": -3, "
    "\"l\": [3, 1, 2], \"d\": {\"b\": 1, \"a\": \"two\"}, \"s\": \"Hello, World\"}";
static const char own[] = "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", "
                          "\"add_generation_prompt\": true}";

struct result {
    int code;
    struct buf text, marks;
    struct err e;
};

static struct result render(const struct template *t, const char *json, size_t n)
{
    struct result r = {.text = BUF_INIT(TEMPLATE_OUT_MAX), .marks = BUF_INIT(TEMPLATE_OUT_MAX)};
    struct template_input in = {.json = json,
                                .n_json = n,
                                .own = own,
                                .n_own = sizeof own - 1,
                                .now_s = 1750000000,
                                .foreign = &r.marks};
    r.code = template_render(t, &in, &r.text, &r.e);
    return r;
}

static void check(const struct result *r)
{
    assert(r->text.len == r->marks.len);
    assert(r->code == 0 || (r->code < 0 && r->text.len == 0 && r->e.msg[0]));
    assert(r->code == 0 || !strchr(r->e.msg, '\n'));
    for (size_t i = 0; i < r->marks.len; i++) assert((unsigned char)r->marks.data[i] <= 1);
    for (size_t i = 0; i < r->text.len;) {
        int k = unicode_length(r->text.data + i, r->text.len - i);
        assert(k > 0);
        i += (size_t)k;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char cut[] = "\n====\n";
    const char *json = conversation, *source = (const char *)data;
    size_t n_json = sizeof conversation - 1, n_source = n;
    const char *at = n ? memmem(data, n, cut, sizeof cut - 1) : NULL;
    if (at) {
        json = (const char *)data;
        n_json = (size_t)(at - json);
        source = at + sizeof cut - 1;
        n_source = n - n_json - (sizeof cut - 1);
    }
    struct template *t = NULL;
    struct err e = {0};
    if (template_open(&t, source, n_source, &e)) {
        assert(!t && e.code < 0 && e.msg[0]);
        return 0;
    }
    struct result a = render(t, json, n_json), b = render(t, json, n_json);
    check(&a);
    assert(a.code == b.code && a.text.len == b.text.len);
    if (a.code) assert(strcmp(a.e.msg, b.e.msg) == 0);
    if (a.text.len) assert(memcmp(a.text.data, b.text.data, a.text.len) == 0);
    if (a.text.len) assert(memcmp(a.marks.data, b.marks.data, a.text.len) == 0);
    buf_free(&a.text), buf_free(&a.marks);
    buf_free(&b.text), buf_free(&b.marks);
    template_close(t);
    return 0;
}
