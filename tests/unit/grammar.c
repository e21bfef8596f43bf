/* Languages byte by byte with a vocabulary of all bytes, masks against accepting every token, numbers
 * against arithmetic, and what hostile grammars may try. */
#include "grammar.h"

#include "../support/oom.h"
#include "../support/tok_vocab.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct tok_vocab v;
static struct tok *tok;
static struct grammar_tokens *tokens;

static void use(struct tok **t, struct grammar_tokens **tt)
{
    struct err e = {0};
    if (tok_vocab_open(&v, t, &e) || grammar_tokens_open(tt, *t, &e)) fail_msg("%s", e.msg);
}

static int setup(void **state)
{
    (void)state;
    tok_vocab_bpe(&v, "gpt-2"); /* ids below 256 are bytes */
    use(&tok, &tokens);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    grammar_tokens_close(tokens);
    tok_close(tok);
    return 0;
}

typedef int open_fn(struct grammar **out, const char *text, size_t n, struct err *e);

static struct grammar *opened(open_fn *open, const char *text)
{
    struct grammar *g = NULL;
    struct err e = {0};
    if (open(&g, text, strlen(text), &e)) fail_msg("%s: %s", text, e.msg);
    assert_true(grammar_bytes(g) > 0);
    return g;
}

static struct grammar_match *match(const struct grammar *g, bool started)
{
    struct grammar_match *m = NULL;
    struct err e = {0};
    if (grammar_match_open(&m, g, tokens, started, &e)) fail_msg("%s", e.msg);
    return m;
}

static bool put(struct grammar_match *m, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!grammar_match_accept(m, (unsigned char)s[i])) return false;
    return true;
}

static bool holds(const struct grammar *g, const char *s)
{
    struct grammar_match *m = match(g, false);
    bool ok = put(m, s, strlen(s)) && grammar_match_may_end(m);
    grammar_match_close(m);
    return ok;
}

/* A grammar, then words of its language and others. */
struct language {
    const char *text, *in[12], *out[12];
};

static void check(open_fn *open, const struct language *l, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct grammar *g = opened(open, l[i].text);
        for (int k = 0; k < 12 && l[i].in[k]; k++)
            if (!holds(g, l[i].in[k])) fail_msg("%s: '%s' is refused", l[i].text, l[i].in[k]);
        for (int k = 0; k < 12 && l[i].out[k]; k++)
            if (holds(g, l[i].out[k])) fail_msg("%s: '%s' is taken", l[i].text, l[i].out[k]);
        grammar_close(g);
    }
}
#define CHECK(open, list) check(open, list, sizeof list / sizeof *list)

static void regular_expressions(void **state)
{
    (void)state;
    static const struct language list[] = {
        {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
        {"", {""}, {"a"}},
        {"a*b+c?", {"b", "aabbc", "abb"}, {"a", "c", "abcc"}},
        {"a{2}|b{1,2}|c{2,}|d{,2}",
         {"aa", "b", "bb", "cc", "ccccc", "d{,2}"},
         {"a", "aaa", "bbb", "c", "d"}},
        {"x{y}", {"x{y}"}, {"xy"}},
        {"(?:ab|cd)*?e", {"e", "abcde"}, {"ace", "ab"}},
        {"(?<year>\\d{4})-\\w", {"2024-_", "0000-Z"}, {"202-a", "2024-é", "2024--"}},
        {"[a-c\\]\\-^]+", {"abc]-^"}, {"d", ""}},
        {"[^a-y]", {"z", "é", "日", "😀", "\n"}, {"a", "\x80", "\xc3", "\xed\xa0\x80", "zz"}},
        {"[\\x41\\u0042\\u{43}\\cA\\0]", {"A", "B", "C", "\x01"}, {"D", "x"}},
        {"\\ud83d\\ude00|[\\u{1F600}-\\u{1F603}]", {"😀", "😃"}, {"😄"}},
        {".", {"a", "é", "\x7f"}, {"\n", "\r", "\xe2\x80\xa8", ""}},
        {"\\s\\S\\D\\W",
         {" aa!", "\xc2\xa0"
                  "aa!"},
         {"aaa!", "  a!", " a1!", " aaa"}},
        {"[\\s\\S]{2}", {"a\n", "日日"}, {"a", "\xff\xff"}},
        {"^a$|^b|c$", {"a", "b", "c"}, {"ab", "bc"}},
        {"(a*)*b|((a|b)*c)+",
         {"b", "aab", "abc", "c"},
         {"a", "ab"
               "a"}},
        {"[]|[^]", {"a"}, {""}},
        {"\\.\\*\\$\\/", {".*$/"}, {"a*$/"}},
        {"é+", {"é", "éé"}, {"\xc3", "e"}},
    };
    CHECK(grammar_regex, list);
}

static void gbnf(void **state)
{
    (void)state;
    static const struct language list[] = {
        {"root ::= \"a\"", {"a"}, {"", "b", "aa"}},
        {"root ::= expr # c\nexpr ::= term ([-+*/] term)*\nterm ::= [0-9]+ | \"(\" expr \")\"",
         {"1", "1+2*(3-4)", "((7))"},
         {"", "1+", "(1", "1)"}},
        {"root ::= (\n \"a\" |\n \"b\"\n)\n", {"a", "b"}, {"ab"}},
        {"root ::= \"x\"{2} \"ab\"{1,2} [c]{,1} .{0,1}", {"xxab", "xxababcd"}, {"xab", "xxababab"}},
        {"root ::= a-b\na-b ::= \"\\x41\\u00e9\\U0001F600\\n\\\\\\\"\\t\"", {"Aé😀\n\\\"\t"}, {"A"}},
        {"root ::= [^\"\\\\\\x7F\\x00-\\x1F\\]]*", {"", "aé!"}, {"]", "\"", "\\", "\x7f", "\n"}},
        {"root ::= \"a\" root \"b\" | \"\"", {"", "ab", "aaabbb"}, {"a", "aab", "abb"}},
        {"root ::= s\r\ns ::= \"(\" s \")\" s | \"\"", {"", "()", "(())()"}, {"(", ")(", "())"}},
        {"root ::= \"a\"+ ? \"b\"", {"b", "aab"}, {"a"}},
        {"root ::= [a-] \"\"", {"a", "-"}, {"b"}},
        /* an empty rule in the middle; one in which nothing can be, beside others */
        {"root ::= e \"a\" e | n\ne ::= \"\"\nn ::= \"z\" n", {"a"}, {"z", "zz", ""}},
    };
    CHECK(grammar_gbnf, list);
}

static const struct language schema_list[] = {
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
     "\"null\"},"
     "\"c\":{\"type\":\"boolean\"}},\"required\":[\"b\"]}",
     {"{\"b\":null}", "{\"a\": 1, \"b\": null}", "{\"a\":-7,\"b\":null,\"c\":true}",
      "{\"b\":null, \"c\":false}"},
     {"{}", "{\"a\":1}", "{\"b\":null,}", "{,\"b\":null}", "{\"b\":null,\"a\":1}", "{ \"b\":null}",
      "{\"b\":null,  \"c\":true}", "{\"b\":null,\"d\":1}", "{\"a\":01,\"b\":null}"}},
    {"{\"properties\":{\"ab\":{\"type\":\"null\"},\"a\":{\"type\":\"null\"}},"
     "\"additionalProperties\":{\"type\":\"integer\"}}",
     {"{}", "{\"x\":1}", "{\"a\":null,\"b\":2}", "{\"ab\":null,\"a\":null,\"abc\":1,\"\":2}",
      "{\"b\":1,\"b\":2}"},
     {"{\"a\":1}", "{\"ab\":1}", "{\"x\":1,\"a\":null}", "{\"\\u0061\":1}", "{\"x\":null}"}},
    {"{\"type\":\"object\",\"minProperties\":1}", {"{\"a\":[{}]}"}, {"{}", "[]"}},
    {"{\"enum\":[\"a\\\"\\n\",\"ab\",1,2.5,null,{\"k\":[]}],\"type\":[\"string\",\"number\","
     "\"object\"]}",
     {"\"a\\\"\\n\"", "\"ab\"", "1", "2.5", "{\"k\": []}"},
     {"null", "\"a\"", "{\"k\":[1]}", "2"}},
    {"{\"const\":\"\\u20ac/\"}", {"\"€/\""}, {"\"\\u20ac/\""}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
     {"[1]", "[1, 2,3]"},
     {"[]", "[1,2,3,4]", "[1,]", "[\"a\"]"}},
    {"{\"prefixItems\":[{\"type\":\"null\"},{\"type\":\"integer\"}],\"items\":{\"type\":"
     "\"boolean\"},\"minItems\":1}",
     {"[null]", "[null,1]", "[null,1,true,false]"},
     {"[]", "[1]", "[null,true]"}},
    {"{\"items\":[{\"type\":\"null\"},{\"type\":\"integer\"}],\"additionalItems\":false}",
     {"[]", "[null]", "[null,1]"},
     {"[null,1,2]", "[1]"}},
    {"{\"type\":\"string\",\"minLength\":1,\"maxLength\":2}",
     {"\"a\"", "\"é日\"", "\"\\n\\u00e9\"", "\"\\ud83d\\ude00x\"", "\"😀\"", "\"\x7f\""},
     {"\"\"", "\"abc\"", "\"\n\"", "\"\\ud83d\"", "\"\\ude00\"", "\"\xff\"", "\"\\x\"", "\"a"}},
    {"{\"pattern\":\"^[^a]\\\\d$\"}",
     {"\"b1\"", "\"\\\"1\"", "\"\\u00001\"", "\"\\t1\"", "\"é1\""},
     {"\"a1\"", "\"\"1\"", "\"1\"", "\"b12\""}},
    {"{\"pattern\":\"b+\"}", {"\"b\"", "\"abc\"", "\"\\n\\u0041b\""}, {"\"\"", "\"a\""}},
    {"{\"format\":\"date\"}",
     {"\"2024-02-28\"", "\"1999-12-31\""},
     {"\"2024-02-30\"", "\"2024-13-01\"", "\"2024-04-31\""}},
    {"{\"format\":\"ipv4\"}",
     {"\"1.2.3.255\"", "\"0.0.0.0\""},
     {"\"1.2.3.256\"", "\"01.2.3.4\"", "\"1.2.3\""}},
    {"{\"allOf\":[{\"properties\":{\"a\":{\"minimum\":1}}},{\"properties\":{\"a\":{\"maximum\":"
     "2,\"type\":\"integer\"}},"
     "\"required\":[\"a\"]}]}",
     {"{\"a\":1}", "{\"a\":2}"},
     {"{}", "{\"a\":3}", "{\"a\":0}", "{\"a\":1.5}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"anyOf\":[{\"required\":"
     "[\"a\"]},"
     "{\"properties\":{\"b\":{\"type\":\"null\"}},\"required\":[\"b\"]}]}",
     {"{\"a\":null}", "{\"a\":null,\"b\":null}", "{\"b\":null}"},
     {"{}"}},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"enum\":[\"x\"]},{\"type\":\"null\"}]}",
     {"1", "\"x\"", "null"},
     {"\"y\""}},
    {"{\"$ref\":\"#/$defs/a~1b\",\"$defs\":{\"a/"
     "b\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/%24defs/a~1b\"}}}}",
     {"[]", "[[],[[]]]"},
     {"{}", "[1]"}},
    {"{\"type\":\"integer\",\"nullable\":true}", {"1", "null"}, {"\"\""}},
    {"{\"type\":[\"integer\",\"null\"],\"not-a-keyword\":1,\"description\":\"\"}",
     {"-0", "12", "null"},
     {"1.0", "1e5", "+1"}},
    {"true", {"{}", "[1,\"a\",null,{\"b\":-1.5e+7}]", "0.5"}, {"", "[", "tru", "1.", ".5", "[1 ]"}},
};

static void schemas(void **state)
{
    (void)state;
    CHECK(grammar_schema, schema_list);
}

/* What is refused, by which code, and a word that its message has. */
struct refusal {
    open_fn *open;
    const char *text;
    int code;
    const char *says;
};

static const struct refusal refusal_list[] = {
    {grammar_regex, "a(?=b)", ERR_UNSUPPORTED, "look-ahead"},
    {grammar_regex, "(?<!b)a", ERR_UNSUPPORTED, "look-behind"},
    {grammar_regex, "(a)\\1", ERR_UNSUPPORTED, "back-reference"},
    {grammar_regex, "(?<n>a)\\k<n>", ERR_UNSUPPORTED, "back-reference"},
    {grammar_regex, "a\\b", ERR_UNSUPPORTED, "\\b"},
    {grammar_regex, "\\p{L}", ERR_UNSUPPORTED, "\\p"},
    {grammar_regex, "a^b", ERR_UNSUPPORTED, "anchor"},
    {grammar_regex, "(a", ERR_FORMAT, "without )"},
    {grammar_regex, "a)", ERR_FORMAT, ")"},
    {grammar_regex, "[a", ERR_FORMAT, "without ]"},
    {grammar_regex, "[b-a]", ERR_FORMAT, "range"},
    {grammar_regex, "*a", ERR_FORMAT, "repeat"},
    {grammar_regex, "a{3,2}", ERR_FORMAT, "m > n"},
    {grammar_regex, "a\\", ERR_FORMAT, "escape"},
    {grammar_regex, "\\ud800", ERR_FORMAT, "escape"},
    {grammar_regex, "\xff", ERR_FORMAT, "UTF-8"},
    {grammar_regex, "[]", ERR_FORMAT, "nothing satisfies"},
    {grammar_regex, "a{0,1000000}", ERR_LIMIT, "states"},
    {grammar_regex, "a{9999999999}", ERR_LIMIT, "repetitions"},
    {grammar_regex, "((((a{1000}){1000}){1000}b){1000}|[^c]{99999}){1000}x{200000}", ERR_LIMIT,
     "states"},
    {grammar_gbnf, "", ERR_FORMAT, "no rule root"},
    {grammar_gbnf, "root ::= a", ERR_FORMAT, "rule a is not defined"},
    {grammar_gbnf, "root ::= \"a\"\nroot ::= \"b\"", ERR_FORMAT, "line 2: a rule is defined twice"},
    {grammar_gbnf, "root ::= root \"a\" | \"a\"", ERR_UNSUPPORTED, "rule root is left-recursive"},
    {grammar_gbnf, "root ::= a\na ::= e b\nb ::= a | \"x\"\ne ::= \"y\"?", ERR_UNSUPPORTED,
     "left-recursive"},
    {grammar_gbnf, "root ::= (root?)* \"a\"", ERR_UNSUPPORTED, "left-recursive"},
    {grammar_gbnf, "root ::= root", ERR_FORMAT, "nothing satisfies"},
    {grammar_gbnf, "root ::= \"a\" root", ERR_FORMAT, "nothing satisfies"},
    {grammar_gbnf, "root = \"a\"", ERR_FORMAT, "::= was expected"},
    {grammar_gbnf, "root ::= \"a", ERR_FORMAT, "too early"},
    {grammar_gbnf, "root ::= [a", ERR_FORMAT, "too early"},
    {grammar_gbnf, "root ::= \"\\q\"", ERR_FORMAT, "escape"},
    {grammar_gbnf, "root ::= \"\\ud800\"", ERR_FORMAT, "no character"},
    {grammar_gbnf, "root ::= \"a\"{2,1}", ERR_FORMAT, "{m,n}"},
    {grammar_gbnf, "root ::= <tool>", ERR_FORMAT, "no part of a rule"},
    {grammar_schema, "{", ERR_FORMAT, "line 1"},
    {grammar_schema, "3", ERR_FORMAT, "no object"},
    {grammar_schema, "false", ERR_FORMAT, "nothing satisfies"},
    {grammar_schema, "{\"type\":\"null\",\"type\":\"null\"}", ERR_FORMAT, "duplicate"},
    {grammar_schema, "{\"type\":\"text\"}", ERR_FORMAT, "'type'"},
    {grammar_schema, "{\"not\":{}}", ERR_UNSUPPORTED, "'not'"},
    {grammar_schema, "{\"items\":{\"patternProperties\":{}}}", ERR_UNSUPPORTED,
     "'patternProperties'"},
    {grammar_schema, "{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":3}]}", ERR_UNSUPPORTED,
     "'oneOf'"},
    {grammar_schema, "{\"oneOf\":[{\"const\":1},{\"const\":1.0}]}", ERR_UNSUPPORTED, "'oneOf'"},
    {grammar_schema, "{\"anyOf\":[]}", ERR_FORMAT, "'anyOf' is empty"},
    {grammar_schema, "{\"$ref\":\"#/$defs/x\"}", ERR_FORMAT, "'$ref'"},
    {grammar_schema, "{\"$ref\":\"other.json\"}", ERR_UNSUPPORTED, "'$ref'"},
    {grammar_schema, "{\"$ref\":\"#\"}", ERR_FORMAT, "nothing satisfies"},
    {grammar_schema, "{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", ERR_UNSUPPORTED,
     "left-recursive"},
    {grammar_schema, "{\"allOf\":[{\"$ref\":\"#\"}]}", ERR_LIMIT, "nested too deep"},
    {grammar_schema, "{\"minimum\":3,\"maximum\":2,\"type\":\"integer\"}", ERR_FORMAT,
     "nothing satisfies"},
    {grammar_schema, "{\"minLength\":-1}", ERR_FORMAT, "'minLength'"},
    {grammar_schema, "{\"pattern\":\"a\",\"maxLength\":2}", ERR_UNSUPPORTED,
     "'pattern' beside 'maxLength'"},
    {grammar_schema, "{\"pattern\":\"(a)\\\\1\"}", ERR_UNSUPPORTED, "back-reference"},
    {grammar_schema, "{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", ERR_UNSUPPORTED,
     "'pattern'"},
    {grammar_schema, "{\"maxLength\":100000000}", ERR_LIMIT, "states"},
    {grammar_schema, "{\"required\":[\"a\"],\"additionalProperties\":false}", ERR_FORMAT,
     "nothing satisfies"},
    {grammar_schema, "{\"type\":\"number\",\"multipleOf\":2}", ERR_UNSUPPORTED, "'multipleOf'"},
};

static void refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusal_list / sizeof *refusal_list; i++) {
        const struct refusal *list = refusal_list;
        struct grammar *g = NULL;
        struct err e = {0};
        int code = list[i].open(&g, list[i].text, strlen(list[i].text), &e);
        if (code != list[i].code || g || !strstr(e.msg, list[i].says))
            fail_msg("%s: %d %s", list[i].text, code, e.msg);
    }
}

/* --- numbers --- */

static void integers_within_bounds(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 1);
    for (int i = 0; i < 40; i++) {
        char text[200];
        int low = (int)rng_below(&r, 2400) - 1200, high = low + (int)rng_below(&r, 300);
        bool open = rng_below(&r, 2);
        snprintf(text, sizeof text, "{\"type\":\"integer\",\"%s\":%d,\"maximum\":%d%s}",
                 open ? "exclusiveMinimum" : "minimum", low, high, high < 0 ? "" : ".5");
        if (open && low == high) continue;
        struct grammar *g = opened(grammar_schema, text);
        for (int n = low - 20; n < high + 20; n++) {
            char word[20];
            snprintf(word, sizeof word, "%d", n);
            assert_int_equal(holds(g, word), n >= low + open && n <= high);
        }
        grammar_close(g);
    }
}

static void numbers_within_bounds(void **state)
{
    (void)state;
    static const char *const low_keys[] = {"minimum", "exclusiveMinimum"}, *const high_keys[] = {
                                                                               "maximum",
                                                                               "exclusiveMaximum"};
    struct rng r;
    rng_init(&r, 2);
    for (int i = 0; i < 120; i++) {
        int open_low = (int)rng_below(&r, 2), open_high = (int)rng_below(&r, 2),
            digits = (int)rng_below(&r, 4);
        double scale = (double[]){1, 10, 100, 1000}[digits];
        double low = ((double)rng_below(&r, 4000) - 2000) / scale;
        double high = low + (double)(rng_below(&r, 3000) + 1) / scale;
        char text[200], word[40];
        snprintf(text, sizeof text, "{\"type\":\"number\",\"%s\":%.*f,\"%s\":%.*f}",
                 low_keys[open_low], digits, low, high_keys[open_high], digits, high);
        struct grammar *g = opened(grammar_schema, text);
        for (int k = 0; k < 300; k++) {
            double x = low + (high - low) * (rng_double(&r) * 1.4 - 0.2);
            int places = (int)rng_below(&r, 6);
            if (k < 6) x = k % 2 ? high : low, places = digits + k / 2;
            snprintf(word, sizeof word, "%.*f", places, x);
            x = strtod(word, NULL);
            bool in = (open_low ? x > strtod(strstr(text, "inimum\":") + 8, NULL)
                                : x >= strtod(strstr(text, "inimum\":") + 8, NULL)) &&
                      (open_high ? x < strtod(strstr(text, "aximum\":") + 8, NULL)
                                 : x <= strtod(strstr(text, "aximum\":") + 8, NULL));
            if (holds(g, word) != in) fail_msg("%s: %s", text, word);
        }
        grammar_close(g);
    }
}

/* --- tokens --- */

static bool bit(const uint64_t *bits, int32_t id)
{
    return bits[id >> 6] >> (id & 63) & 1;
}

/* At some prefixes of random answers: every token's bit is what a fresh match says that took the same way. */
static void masks_are_exact(void **state)
{
    (void)state;
    static const struct {
        open_fn *open;
        const char *text;
    } list[] = {
        {grammar_schema, "{\"type\":\"object\"}"},
        {grammar_schema, "{\"properties\":{\"hello\":{\"type\":\"string\",\"maxLength\":9},\"aa\":{"
                         "\"enum\":[\"aaaa\",\"aaaaaaaa\",12]}}}"},
        {grammar_schema, "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"pattern\":\"^(hello|h.*o)$"
                         "\"},{\"$ref\":\"#\"}]}}"},
        {grammar_regex, "(a|aa)*(hello){0,3} ?[^b]{2,7}12"},
        {grammar_regex, ".{0,5}aaaa[\\s\\S]*"},
        {grammar_gbnf, "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"aa\"? | .{3}"},
    };
    struct rng r;
    rng_init(&r, 3);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct grammar *g = opened(list[i].open, list[i].text);
        for (int k = 0; k < 5; k++) {
            struct grammar_match *m = match(g, false);
            int32_t way[8];
            for (int n = 0; n < 8; n++) {
                uint64_t bits[TOK_VOCAB_MAX / 64 + 1], again[TOK_VOCAB_MAX / 64 + 1];
                int32_t set[TOK_VOCAB_MAX];
                uint64_t n_set = 0;
                grammar_match_mask(m, bits);
                for (int32_t id = 0; id < tok_size(tok); id++) {
                    struct grammar_match *other = match(g, false);
                    for (int j = 0; j < n; j++) assert_true(grammar_match_accept(other, way[j]));
                    bool ok = grammar_match_accept(other, id);
                    if (ok != bit(bits, id)) fail_msg("%s: token %d", list[i].text, (int)id);
                    assert_false(ok && tok_is_control(tok, id) && !tok_is_end(tok, id));
                    assert_true(!tok_is_end(tok, id) || ok == grammar_match_may_end(m));
                    if (!ok)
                        assert_int_equal(grammar_match_may_end(other), grammar_match_may_end(m));
                    if (ok) set[n_set++] = id;
                    grammar_match_close(other);
                }
                assert_true(n_set > 0);
                grammar_match_mask(m, again);
                assert_memory_equal(bits, again, ((size_t)tok_size(tok) + 63) / 64 * 8);
                way[n] = set[rng_below(&r, n_set)];
                assert_true(grammar_match_accept(m, way[n]));
                if (tok_is_end(tok, way[n])) {
                    assert_true(grammar_match_must_end(m) && !grammar_match_accept(m, 'a'));
                    break;
                }
            }
            grammar_match_close(m);
        }
        grammar_close(g);
    }
}

static void forced_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *before, *forced;
    } list[] = {
        {"{\"const\":\"hé\"}", "", "\"hé\""},
        {"{\"properties\":{\"name\":{\"type\":\"null\"}},\"required\":[\"name\"]}", "",
         "{\"name\":"},
        {"{\"properties\":{\"name\":{\"type\":\"null\"}},\"required\":[\"name\"]}",
         "{\"name\": ", "null}"},
        {"{\"enum\":[\"abcé\",\"abcè\"]}", "\"",
         "abc"}, /* they share a byte of the last character */
        {"{\"type\":\"integer\"}", "1", ""},
        {"{\"type\":\"string\"}", "\"", ""},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct grammar *g = opened(grammar_schema, list[i].schema);
        struct grammar_match *m = match(g, false);
        char out[64];
        assert_true(put(m, list[i].before, strlen(list[i].before)));
        size_t n = grammar_match_forced(m, out, sizeof out);
        assert_int_equal(n, strlen(list[i].forced));
        assert_memory_equal(out, list[i].forced, n);
        assert_int_equal(grammar_match_forced(m, out, 1), n > 1 ? 1 : n);
        assert_true(put(m, list[i].forced, n));
        grammar_match_close(m);
        grammar_close(g);
    }
}

/* SentencePiece: the first token's leading space is not in the text; that of others is. */
static void leading_spaces(void **state)
{
    (void)state;
    struct tok_vocab saved = v;
    struct tok *old = tok;
    struct grammar_tokens *old_tokens = tokens;
    tok_vocab_spm(&v);
    use(&tok, &tokens);
    struct grammar *g = opened(grammar_regex, "hello hello|<tool>hello");
    int32_t hello = tok_find(tok, "hello"), spaced = tok_find(tok, "▁hello");
    int32_t space = tok_find(tok, "▁"), tool = tok_find(tok, "<tool>");
    for (int started = 0; started < 2; started++) {
        struct grammar_match *m = match(g, started);
        uint64_t bits[TOK_VOCAB_MAX / 64 + 1];
        grammar_match_mask(m, bits);
        assert_true(bit(bits, hello) && bit(bits, tool) && !bit(bits, space));
        assert_int_equal(bit(bits, spaced), !started);
        assert_false(grammar_match_accept(m, space));
        if (started) assert_false(grammar_match_accept(m, spaced));
        assert_true(grammar_match_accept(m, started ? hello : spaced));
        grammar_match_mask(m, bits);
        assert_true(!bit(bits, hello) && bit(bits, spaced) && bit(bits, space));
        int32_t ids[8];
        assert_int_equal(grammar_match_jump(m, ids, 8), 4); /* as the scores have it */
        for (int i = 0; i < 4; i++) assert_true(grammar_match_accept(m, ids[i]));
        assert_true(ids[0] == space && grammar_match_must_end(m));
        grammar_match_close(m);
        m = match(g, false); /* behind a special token text begins anew */
        assert_true(grammar_match_accept(m, tool));
        grammar_match_mask(m, bits);
        assert_true(bit(bits, spaced) && !bit(bits, space) && bit(bits, hello));
        grammar_match_close(m);
    }
    grammar_close(g);
    grammar_tokens_close(tokens);
    tok_close(tok);
    v = saved, tok = old, tokens = old_tokens;
}

/* A vocabulary that lacks bytes: what it can still say is found at the door, and no way ends in nothing. */
static void vocabularies_that_lack_bytes(void **state)
{
    (void)state;
    struct tok_vocab saved = v;
    struct tok *old = tok;
    struct grammar_tokens *old_tokens = tokens;
    tok_vocab__init(&v, "llama");
    tok_vocab_add(&v, "<unk>", UNKNOWN, 0);
    v.add_space = 0;
    v.eos = (uint32_t)tok_vocab_add(&v, "</s>", CONTROL, 0);
    int32_t a = tok_vocab_add(&v, "a", NORMAL, 0), b = tok_vocab_add(&v, "b", NORMAL, 0);
    tok_vocab_add(&v, "ac", NORMAL, 0);
    v.n_type = v.n_score = v.n;
    use(&tok, &tokens);
    struct grammar *g = opened(grammar_regex, "a(b|cd|cb*a)"),
                   *none = opened(grammar_regex, "x|yz");
    struct grammar_match *m = match(g, false);
    struct err e = {0};
    uint64_t bits[1];
    grammar_match_mask(m, bits);
    assert_int_equal(bits[0], 1 << a); /* not "ac": bytes alone decide what has an end */
    assert_true(grammar_match_accept(m, a));
    grammar_match_mask(m, bits);
    assert_int_equal(bits[0], 1 << b);
    grammar_match_close(m);
    m = NULL;
    assert_int_equal(grammar_match_open(&m, none, tokens, false, &e), ERR_UNSUPPORTED);
    assert_null(m);
    grammar_close(g);
    grammar_close(none);
    grammar_tokens_close(tokens);
    tok_close(tok);
    v = saved, tok = old, tokens = old_tokens;
}

/* --- hostile grammars --- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nesting_has_a_limit_and_an_end(void **state)
{
    (void)state;
    struct grammar *g = opened(grammar_schema, "{\"type\":\"array\"}");
    struct grammar_match *m = match(g, false);
    int depth = 0;
    while (grammar_match_accept(m, '[')) depth++;
    assert_true(depth > 60 && depth <= GRAMMAR_DEPTH_MAX + 1);
    for (int i = 0; i < depth; i++) {
        assert_false(grammar_match_may_end(m));
        assert_true(grammar_match_accept(m, ']'));
    }
    assert_true(grammar_match_must_end(m));
    grammar_match_close(m);
    grammar_close(g);
}

/* Ambiguity multiplies ways, not the work: each takes its text in little time, with masks. */
static void ambiguity_costs_little(void **state)
{
    (void)state;
    static const struct {
        open_fn *open;
        const char *text, *unit;
    } list[] = {
        {grammar_regex, "(a*)*(a*)*(a|aa|aaa)*b", "a"},
        {grammar_regex, "(a|b)*a(a|b){1000}", "ab"},
        {grammar_regex, "((a?){200}){5}(a{0,300}){3}b?", "a"},
        {grammar_regex, "(x+x+)+y|(.*)*(.*.*)*z", "x"},
        {grammar_gbnf, "root ::= \"a\" root \"x\" | \"a\" root \"y\" | \"a\" root | \"b\"", "a"},
        {grammar_gbnf, "root ::= \"a\" (root root | root | \"\") (root | \"\")", "a"},
        {grammar_gbnf,
         "root ::= (x | y | z)*\nx ::= \"a\" root?\ny ::= \"a\" y?\nz ::= \"a\" x? y?", "a"},
        {grammar_schema,
         "{\"anyOf\":[{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
         "a\"}},{\"type\":\"array\",\"items\":"
         "{\"$ref\":\"#/$defs/"
         "b\"}}],\"$defs\":{\"a\":{\"anyOf\":[{\"type\":\"array\",\"items\":{\"$ref\":"
         "\"#/$defs/a\"}},{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
         "b\"}}]},\"b\":{\"anyOf\":[{\"type\":"
         "\"array\",\"items\":{\"$ref\":\"#/$defs/"
         "a\"}},{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/b\"}}]}}}",
         "["},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        double start = seconds();
        struct grammar *g = opened(list[i].open, list[i].text);
        struct grammar_match *m = match(g, false);
        for (int k = 0; k < 400; k++) {
            uint64_t bits[TOK_VOCAB_MAX / 64 + 1];
            size_t n = strlen(list[i].unit);
            grammar_match_mask(m, bits);
            int32_t id = (unsigned char)list[i].unit[(size_t)k % n];
            assert_int_equal(grammar_match_accept(m, id), bit(bits, id));
        }
        grammar_match_close(m);
        grammar_close(g);
        if (seconds() - start > 20) fail_msg("%s: %f s", list[i].text, seconds() - start);
    }
}

static char *repeated(const char *before, const char *unit, int n, const char *middle,
                      const char *after_unit, const char *after)
{
    struct buf b = BUF_INIT(1 << 24);
    buf_puts(&b, before);
    for (int i = 0; i < n; i++) buf_puts(&b, unit);
    buf_puts(&b, middle);
    for (int i = 0; i < n; i++) buf_puts(&b, after_unit);
    buf_puts(&b, after);
    return buf_take(&b);
}

static void large_sources(void **state)
{
    (void)state;
    struct {
        open_fn *open;
        char *text;
        int code; /* 1: any */
    } list[] = {
        {grammar_regex, repeated("", "(", 100000, "a", ")", ""), ERR_LIMIT},
        {grammar_regex, repeated("", "a|", 30000, "a", "", ""), 0},
        {grammar_regex, repeated("", "a?", 30000, "", "", ""), 0},
        {grammar_regex, repeated("", "(", 50, "a", ")*", ""), 0},
        {grammar_regex, repeated("", "(", 50, "a", "{2})", ""), 0},
        {grammar_gbnf, repeated("root ::= ", "(", 50000, "\"a\"", ")", ""), ERR_LIMIT},
        {grammar_gbnf, repeated("root ::= ", "\"a\"* ", 20000, "", "", ""), 0},
        {grammar_schema, repeated("", "{\"items\":", 2000, "{}", "}", ""), 1},
        {grammar_schema, repeated("", "{\"anyOf\":[", 25, "{}", "]}", ""), 0},
        {grammar_schema,
         repeated("{\"enum\":[", "\"aaaaaaaaaaaaaaaaaaaaaaaaaa\",", 20000, "1]}", "", ""), 0},
        {grammar_schema, repeated("{\"required\":[", "\"a\",", 3000, "\"b\"]}", "", ""), 0},
        {grammar_schema,
         repeated("{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"},",
                  "{\"$ref\":\"#/$defs/a\"},", 50, "{}]}},\"$ref\":\"#/$defs/a\"}", "", ""),
         ERR_LIMIT},
        {grammar_schema, repeated("{\"pattern\":\"", "(a|b)*", 5000, "\"}", "", ""), 0},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct grammar *g = NULL;
        struct err e = {0};
        double start = seconds();
        assert_non_null(list[i].text);
        int code = list[i].open(&g, list[i].text, strlen(list[i].text), &e);
        if (list[i].code != 1 && code != list[i].code) fail_msg("%.60s: %s", list[i].text, e.msg);
        if (code == 0) {
            struct grammar_match *m = match(g, false);
            uint64_t bits[TOK_VOCAB_MAX / 64 + 1];
            grammar_match_mask(m, bits);
            grammar_match_close(m);
        }
        if (seconds() - start > 20) fail_msg("%.60s: %f s", list[i].text, seconds() - start);
        grammar_close(g);
        free(list[i].text);
    }
}

/* Many configs: memory is used up and taken anew, while the way stays open. */
static void long_answers(void **state)
{
    (void)state;
    struct grammar *g = opened(grammar_schema, "{\"type\":\"string\",\"maxLength\":20000}");
    struct grammar_match *m = match(g, false);
    uint64_t bits[TOK_VOCAB_MAX / 64 + 1];
    assert_true(grammar_match_accept(m, '"'));
    for (int i = 0; i < 20000; i++) {
        if (i % 7 == 0) grammar_match_mask(m, bits);
        assert_true(i % 7 || bit(bits, 'a'));
        assert_true(grammar_match_accept(m, 'a'));
    }
    grammar_match_mask(m, bits);
    assert_true(!bit(bits, 'a') && bit(bits, '"') && !grammar_match_may_end(m));
    assert_false(grammar_match_accept(m, 'a'));
    assert_true(grammar_match_accept(m, '"') && grammar_match_must_end(m));
    grammar_match_close(m);
    grammar_close(g);
}

static void allocations_fail(void **state)
{
    (void)state;
    static const char text[] =
        "{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"pattern\":\"[é-ü]{3}\"}}},"
        "{\"required\":[\"b\"],\"$defs\":{\"c\":{\"enum\":[1,\"x\"]}},\"additionalProperties\":{"
        "\"type\":[\"string\",\"integer\"]}}]}";
    static const char bnf[] = "root ::= [^a]{3} (x | \"y\")\nx ::= \"(\" root \")\"";
    struct err e = {0};
    for (long n = 1; OOM_WORKS; n++) {
        long alive = oom_alive;
        struct grammar *g = NULL, *h = NULL;
        struct grammar_tokens *t = NULL;
        struct grammar_match *m = NULL;
        oom_after(n);
        int rc = grammar_schema(&g, text, sizeof text - 1, &e);
        if (rc == 0) rc = grammar_gbnf(&h, bnf, sizeof bnf - 1, &e);
        if (rc == 0) rc = grammar_tokens_open(&t, tok, &e);
        if (rc == 0) rc = grammar_match_open(&m, g, t, false, &e);
        bool hit = oom_hit();
        if (rc) assert_true(hit && e.msg[0]);
        grammar_match_close(m);
        grammar_tokens_close(t);
        grammar_close(g);
        grammar_close(h);
        assert_int_equal(oom_alive, alive);
        if (!hit) {
            assert_int_equal(rc, 0);
            break;
        }
    }
}

static void any_object(void **state)
{
    (void)state;
    struct grammar *g = NULL;
    struct err e = {0};
    assert_int_equal(grammar_json(&g, &e), 0);
    assert_true(holds(g, "{}") && holds(g, "{\"a\":[true,{\"b\": \"\\u00e9\"}],\"c\":-0.5e-3}"));
    assert_false(holds(g, "[]") || holds(g, "{\"a\"}") || holds(g, "{\"a\":1") || holds(g, ""));
    grammar_close(g);
    grammar_close(NULL);
    grammar_tokens_close(NULL);
    grammar_match_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regular_expressions),
        cmocka_unit_test(gbnf),
        cmocka_unit_test(schemas),
        cmocka_unit_test(any_object),
        cmocka_unit_test(refusals),
        cmocka_unit_test(integers_within_bounds),
        cmocka_unit_test(numbers_within_bounds),
        cmocka_unit_test(masks_are_exact),
        cmocka_unit_test(forced_bytes),
        cmocka_unit_test(leading_spaces),
        cmocka_unit_test(vocabularies_that_lack_bytes),
        cmocka_unit_test(nesting_has_a_limit_and_an_end),
        cmocka_unit_test(ambiguity_costs_little),
        cmocka_unit_test(large_sources),
        cmocka_unit_test(long_answers),
        cmocka_unit_test(allocations_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
