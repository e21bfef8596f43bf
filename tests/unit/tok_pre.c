/* Splits as Hugging Face's tokenizers 0.23 makes them with the expressions published for each
 * family, and what must hold for any text. */
#include "tok_pre.h"

#include "buf.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Names separated by spaces; the pieces, joined by '^', which no text here holds. */
static const struct {
    const char *names, *pieces;
} golden[] = {
    {"gpt-2 smollm", "I^'ll^ don^'t^ HE^'^S^ SHE^'^LL^ '^s^ ''^re"},
    {"llama-bpe qwen2 qwen35 tekken", "I^'ll^ don^'t^ HE^'S^ SHE^'LL^ '^s^ ''^re"},
    {"gpt-4o", "I'll^ don't^ HE'S^ SHE'LL^ '^s^ ''^re"},
    {"deepseek-coder deepseek-llm", "I^'^ll^ don^'^t^ HE^'^S^ SHE^'^LL^ '^s^ ''^re"},
    {"falcon default", "I^'^ll^ don^'^t^ HE^'^S^ SHE^'^LL^ ^'^s^ ^''^re"},
    {"gpt-2", "abc^123456^ 7½^ 12²34^ x^1^y"},
    {"smollm qwen2 qwen35 tekken deepseek-coder", "abc^1^2^3^4^5^6^ ^7^½^ ^1^2^²^3^4^ x^1^y"},
    {"llama-bpe gpt-4o", "abc^123^456^ ^7½^ ^12²^34^ x^1^y"},
    {"falcon", "abc^123^456^ 7½^ 12²34^ x^1^y"},
    {"default", "abc^123^456^ ^7½^ ^12²34^ x^1^y"},
    {"deepseek-llm", "abc^123456^ ^7½^ ^12²34^ x^1^y"},
    {"gpt-2 smollm falcon default", " ^ x^  ^ y^\n\n ^ z^ \n\t^ w"},
    {"llama-bpe qwen2 qwen35 tekken gpt-4o", " ^ x^  ^ y^\n\n^ ^ z^ \n^\t^ w"},
    {"deepseek-coder deepseek-llm", " ^ x^  ^ y^\n^\n^ ^ z^ ^\n^\t^ w"},
    {"gpt-2 smollm deepseek-coder falcon default",
     "Ünï^—^École^ ÀÉcole^ éÈ^ ªB^ ªb^ Ǆx^ HTMLParser"},
    {"llama-bpe qwen2 qwen35", "Ünï^—École^ ÀÉcole^ éÈ^ ªB^ ªb^ Ǆx^ HTMLParser"},
    {"tekken gpt-4o", "Ünï^—École^ ÀÉcole^ é^È^ ª^B^ ªb^ Ǆx^ HTMLParser"},
    {"deepseek-llm", "Ü^n^ï^—^É^cole^ ÀÉ^cole^ éÈ^ ª^B^ ª^b^ Ǆ^x^ HTMLParser"},
    {"gpt-2 smollm", "e^\u0301^ \u0301^B^ \u0301^b^ क^्^ष^ि'^ll"},
    {"llama-bpe qwen2", "e^\u0301^ \u0301^B^ \u0301^b^ क^्ष^ि'^ll"},
    {"qwen35", "e\u0301^ \u0301B^ \u0301b^ क्षि^'ll"},
    {"tekken", "e\u0301^ \u0301^B^ \u0301b^ क्षि^'ll"},
    {"gpt-4o", "e\u0301^ \u0301^B^ \u0301b^ क्षि'll"},
    {"deepseek-coder", "e^\u0301 \u0301^B^ \u0301^b^ ^क^्^ष^ि^'^ll"},
    {"falcon default", "e^\u0301^ \u0301^B^ \u0301^b^ क^्^ष^ि^'^ll"},
    {"deepseek-llm", "e^\u0301 \u0301^B^ \u0301^b^ ^क्षि^'^ll"},
    {"gpt-2 smollm falcon default deepseek-llm", "你好^，^世界^。^こんにちは^ ^\u3000^한국어"},
    {"llama-bpe qwen2 qwen35 tekken gpt-4o", "你好^，世界^。こんにちは^ ^\u3000한국어"},
    {"deepseek-coder", "你好^，^世界^。^こんにちは^ ^\u3000한국어"},
    {"gpt-2 smollm", "a^/^b^//^\n\r\n^ /^\n^/^x"},
    {"llama-bpe qwen2 qwen35", "a^/b^//\n\r\n^ /\n^/x"},
    {"tekken gpt-4o", "a^/b^//\n\r\n^ /\n/^x"},
    {"deepseek-coder deepseek-llm", "a^/^b^//^\n^\r^\n^ /^\n^/^x"},
    {"falcon default", "a^/^b^//^\n\r\n ^/^\n^/^x"},
    {"gpt-2 smollm", "👨\u200d👩\u200d👧^ ok^!!!^ \u00a0^\u3000^.^\302\205^x"},
    {"llama-bpe qwen2 qwen35 tekken gpt-4o", "👨\u200d👩\u200d👧^ ok^!!!^ \u00a0^\u3000^.^\302\205x"},
    {"deepseek-coder", "👨^\u200d^👩^\u200d^👧^ ok^!!!^ \u00a0^\u3000^.^\302\205x"},
    {"falcon default", "👨\u200d👩\u200d👧^ ok^!!!^ \u00a0\u3000^.^\302\205^x"},
    {"deepseek-llm", "👨^\u200d^👩^\u200d^👧^ ok^!!!^ ^\u00a0^\u3000^.^\302\205x"},
    {"gpt-2 smollm llama-bpe qwen2 qwen35 tekken gpt-4o falcon default", "tail^  \u2003"},
    {"deepseek-coder deepseek-llm", "tail^  ^\u2003"},
    {"gpt-2 smollm llama-bpe qwen2 qwen35 tekken gpt-4o falcon default", "\n\n"},
    {"deepseek-coder deepseek-llm", "\n^\n"},
    {"gpt-2 falcon deepseek-llm", "f^_^b^(^x^)=>$^1^,^000^.^00^+`^y^`~|{^z^}"},
    {"smollm", "f^_^b^(^x^)=>$^1^,^0^0^0^.^0^0^+`^y^`~|{^z^}"},
    {"llama-bpe gpt-4o", "f^_b^(x^)=>$^1^,^000^.^00^+`^y^`~|{^z^}"},
    {"qwen2 qwen35 tekken", "f^_b^(x^)=>$^1^,^0^0^0^.^0^0^+`^y^`~|{^z^}"},
    {"deepseek-coder", "f^_^b^(^x^)^=>$^1^,^0^0^0^.^0^0^+`^y^`~|^{^z^}"},
    {"default", "f^_^b^(^x^)=>$^1^,^000^.^00^+^`^y^`^~|{^z^}"},
    {"gpt-2 smollm", "'^ſ^ Straße^'s^ ß^'^Sx^\001\ufffd"},
    {"llama-bpe qwen2 qwen35", "'ſ^ Straße^'s^ ß^'S^x^\001\ufffd"},
    {"tekken", "'ſ^ Straße^'s^ ß^'Sx^\001\ufffd"},
    {"gpt-4o", "'ſ^ Straße's^ ß'S^x^\001\ufffd"},
    {"deepseek-coder falcon default", "'^ſ^ Straße^'^s^ ß^'^Sx^\001\ufffd"},
    {"deepseek-llm", "'^ſ^ Stra^ß^e^'^s^ ß^'^Sx^\001\ufffd"},
};

static bool join(void *arg, const char *s, size_t n)
{
    struct buf *out = arg;
    assert_true(n > 0);
    return (out->len == 0 || buf_putc(out, '^')) && buf_put(out, s, n);
}

static void check_split(const char *name, size_t n, const char *pieces)
{
    struct buf text = BUF_INIT(1000), seen = BUF_INIT(2000);
    const struct tok_pre *p = tok_pre_find(name, n);
    assert_non_null(p);
    for (const char *c = pieces; *c; c++)
        if (*c != '^') buf_putc(&text, *c);
    assert_true(tok_pre_split(p, text.data, text.len, join, &seen));
    if (strcmp(seen.data, pieces) != 0)
        fail_msg("%.*s: %s, not %s", (int)n, name, seen.data, pieces);
    buf_free(&text);
    buf_free(&seen);
}

static void golden_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        for (const char *p = golden[i].names; *p;) {
            size_t n = strcspn(p, " ");
            check_split(p, n, golden[i].pieces);
            p += n + (p[n] == ' ');
        }
}

static const char *const all[] = {
    "default", "gpt-2",  "smollm", "llama-bpe", "glm4",         "chatglm-bpe",   "qwen2",
    "qwen35",  "tekken", "gpt-4o", "falcon",    "deepseek-llm", "deepseek-coder"};

static void names(void **state)
{
    (void)state;
    static const char *const none[] = {"",  " ",    "gpt",         "llama",
                                       "2", "-bpe", "gpt-2 phi-2", "GPT-2"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_null(tok_pre_find(none[i], strlen(none[i])));
    assert_null(tok_pre_find("gpt-2\0x", 7));
    assert_ptr_equal(tok_pre_find("llama3", 6), tok_pre_find("llama-bpe", 9));
    assert_ptr_equal(tok_pre_find("deepseek-r1-qwen", 16), tok_pre_find("qwen2", 5));
    const struct tok_pre *llama3 = tok_pre_find("llama-bpe", 9), *glm4 = tok_pre_find("glm4", 4);
    assert_true(tok_pre_whole_words(llama3) && tok_pre_adds_bos(llama3));
    assert_true(tok_pre_whole_words(glm4) && !tok_pre_adds_bos(glm4));
}

struct walk {
    const char *at;
    size_t left; /* words until the callback has had enough */
};

static bool follow(void *arg, const char *s, size_t n)
{
    struct walk *w = arg;
    assert_ptr_equal(s, w->at); /* where the word before ended */
    assert_true(n > 0);
    w->at = s + n;
    return w->left == 0 || --w->left > 0;
}

static void check_whole(const struct tok_pre *p, const char *s, size_t n)
{
    struct walk w = {s, 0};
    assert_true(tok_pre_split(p, s, n, follow, &w));
    assert_ptr_equal(w.at, s + n);
}

static void words_hold_every_byte(void **state)
{
    (void)state;
    static const char *const parts[] = {"a",  "B",  "É",      "é",        "ª",       "\u0301", "1",
                                        "½",  "'",  "s",      "re",       " ",       "ll",     "\n",
                                        "\r", "\t", "\u3000", "\xc2\x85", "字",      "。",     "/",
                                        "$",  "😀",  "\x01",   "\xff",     "\xe2\x82"};
    struct rng r;
    rng_init(&r, 2);
    for (int round = 0; round < 20000; round++) {
        char s[200];
        size_t n = 0, want = rng_below(&r, 30);
        for (size_t i = 0; i < want; i++) {
            const char *part = parts[rng_below(&r, sizeof parts / sizeof *parts)];
            memcpy(s + n, part, strlen(part));
            n += strlen(part);
        }
        const char *name = all[rng_below(&r, sizeof all / sizeof *all)];
        check_whole(tok_pre_find(name, strlen(name)), s, n);
    }
    struct walk w = {"a b c d", 2};
    assert_false(tok_pre_split(tok_pre_find("gpt-2", 5), w.at, 7, follow, &w));
}

/* Half a megabyte that invites a backtracking engine to look at everything again and again: more
 * than linear time would not come back in the test's time. */
static void linear_time(void **state)
{
    (void)state;
    static const char *const units[] = {"a",   "A",    "aA",     "ªA", " ",       "\n",
                                        " \n", "1",    "\u0301", "'",  "\u3000",  "!",
                                        "! ",  "\xff", " a",     "字", "\u3000/", "/\n"};
    size_t n = 1 << 19;
    char *s = malloc(n);
    assert_non_null(s);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t len = strlen(units[u]);
        for (size_t i = 0; i < n; i++) s[i] = units[u][i % len];
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            check_whole(tok_pre_find(all[k], strlen(all[k])), s, n);
    }
    memcpy(s, "ª", 2); /* one letter that gives back all that follow */
    memset(s + 2, 'A', n - 2);
    check_whole(tok_pre_find("tekken", 6), s, n);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_splits),
        cmocka_unit_test(names),
        cmocka_unit_test(words_hold_every_byte),
        cmocka_unit_test(linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
