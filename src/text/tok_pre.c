/* A pre-tokenizer is a short list of stages; each stage cuts every piece that the stage before it
 * made. A stage is a function that returns where the piece beginning at `at` ends, at < result <=
 * end, and sees nothing outside at..end. Two sorts: scanners, which take a whole alternation of the
 * published expression at once, and finders, which put what matches into pieces of its own and
 * leave what lies between.
 *
 * The expressions are written for engines that backtrack. Here each scanner walks forward and
 * remembers the last place where the expression could have stopped, so that no character is looked
 * at more than a few times, whatever the text.
 */
#include "tok_pre.h"

#include "unicode.h"

#include <stdint.h>
#include <string.h>

typedef size_t stage_fn(const char *s, size_t at, size_t end);

enum { STAGES_MAX = 6, WHOLE_WORDS = 1, ADDS_BOS = 2 };

struct tok_pre {
    stage_fn *stages[STAGES_MAX + 1]; /* ends with NULL */
    int flags;
    const char *names; /* separated by spaces, one at both ends */
};

static struct unicode_char look(const char *s, size_t at, size_t end)
{
    if (at >= end) return (struct unicode_char){0};
    return unicode_at(s + at, end - at);
}

/* The end of the longest run of classes in mask. */
static size_t run(const char *s, size_t at, size_t end, unsigned mask)
{
    while (at < end) {
        struct unicode_char c = look(s, at, end);
        if (!(c.class & mask)) break;
        at += c.bytes;
    }
    return at;
}

static size_t run_of_bytes(const char *s, size_t at, size_t end, const char *set)
{
    while (at < end && s[at] && strchr(set, s[at])) at++;
    return at;
}

/* (?:'s|'t|'re|'ve|'m|'ll|'d), in small letters only or, with fold, in any case; as Unicode folds
 * case the long s is an s. Returns the end, or `at` where there is none. */
static size_t contraction(const char *s, size_t at, size_t end, bool fold)
{
    static const char *const tails[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (at >= end || s[at] != '\'') return at;
    struct unicode_char c = look(s, at + 1, end);
    if (fold && c.code == 0x17f) return at + 1 + c.bytes;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        size_t n = strlen(tails[i]), k = 0;
        while (k < n && at + 1 + k < end && (s[at + 1 + k] | (fold ? 0x20 : 0)) == tails[i][k]) k++;
        if (k == n) return at + 1 + n;
    }
    return at;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ on a character that is space; the first of these only with lines. */
static size_t spaces(const char *s, size_t at, size_t end, bool lines)
{
    size_t first = at, last = at, line = at;
    for (struct unicode_char c; (c = look(s, at, end)).class & UNICODE_SPACE;) {
        last = at;
        at += c.bytes;
        if (c.code == '\r' || c.code == '\n') line = at;
    }
    if (lines && line > first) return line;
    return at < end && last > first ? last : at;
}

/* \p{N}{1,max} */
static size_t digits(const char *s, size_t at, size_t end, int max)
{
    for (struct unicode_char c; max > 0 && (c = look(s, at, end)).class & UNICODE_NUMBER; max--)
        at += c.bytes;
    return at;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t scan_gpt2(const char *s, size_t at, size_t end)
{
    size_t short_end = contraction(s, at, end, false);
    if (short_end > at) return short_end;
    size_t body = s[at] == ' ' && at + 1 < end ? at + 1 : at;
    unsigned class = look(s, body, end).class;
    if (class & UNICODE_SPACE) return spaces(s, at, end, false);
    if (class & UNICODE_LETTER) return run(s, body, end, UNICODE_LETTER);
    if (class & UNICODE_NUMBER) return run(s, body, end, UNICODE_NUMBER);
    return run(s, body, end, ~(unsigned)(UNICODE_SPACE | UNICODE_LETTER | UNICODE_NUMBER));
}

/* \p{N}{1,max}| ?[^\s LETTERS \p{N}]+[TAIL]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t scan_rest(const char *s, size_t at, size_t end, unsigned letters, int max,
                        const char *tail)
{
    size_t body = s[at] == ' ' && at + 1 < end ? at + 1 : at;
    unsigned no_sign = letters | UNICODE_NUMBER | UNICODE_SPACE;
    if (look(s, at, end).class & UNICODE_NUMBER) return digits(s, at, end, max);
    if (look(s, body, end).class & no_sign) return spaces(s, at, end, true);
    return run_of_bytes(s, run(s, body, end, ~no_sign), end, tail);
}

/* [^\r\n\p{L}\p{N}]?: where a word may begin after one other character */
static size_t after_lead(const char *s, size_t at, size_t end)
{
    struct unicode_char c = look(s, at, end);
    bool lead = c.code != '\r' && c.code != '\n' && !(c.class & (UNICODE_LETTER | UNICODE_NUMBER));
    return lead ? at + c.bytes : at;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?LETTERS+|... as scan_rest */
static size_t scan_words(const char *s, size_t at, size_t end, unsigned letters, int max)
{
    size_t stop = contraction(s, at, end, true);
    if (stop > at) return stop;
    size_t body = after_lead(s, at, end);
    if (look(s, body, end).class & letters) return run(s, body, end, letters);
    if (look(s, at, end).class & letters) return run(s, at, end, letters);
    return scan_rest(s, at, end, letters, max, "\r\n");
}

static size_t scan_llama3(const char *s, size_t at, size_t end)
{
    return scan_words(s, at, end, UNICODE_LETTER, 3);
}

static size_t scan_qwen2(const char *s, size_t at, size_t end)
{
    return scan_words(s, at, end, UNICODE_LETTER, 1);
}

static size_t scan_qwen35(const char *s, size_t at, size_t end)
{
    return scan_words(s, at, end, UNICODE_LETTER | UNICODE_MARK, 1);
}

/* Where cases matter, a word is UPPER*LOWER+, or failing that UPPER+LOWER*; letters without case
 * and marks belong to both sets. */
enum {
    BOTH = UNICODE_CASELESS | UNICODE_MARK,
    UPPER = UNICODE_UPPER | BOTH,
    LOWER = UNICODE_LOWER | BOTH,
};

/* UPPER*LOWER+: returns at when there is none. When the run of UPPER is not followed by a small
 * letter, the match gives back characters up to the last that is also LOWER. */
static size_t upper_lower(const char *s, size_t at, size_t end)
{
    size_t back = at;
    struct unicode_char c;
    for (; (c = look(s, at, end)).class & UPPER; at += c.bytes)
        if (c.class & BOTH) back = at + c.bytes;
    return c.class & LOWER ? run(s, at, end, LOWER) : back;
}

/* [^\r\n\p{L}\p{N}]?UPPER*LOWER+|[^\r\n\p{L}\p{N}]?UPPER+LOWER*: the lead may be a mark, so each is
 * tried with it and without it. Returns at when there is none. */
static size_t cased_word(const char *s, size_t at, size_t end)
{
    size_t body = after_lead(s, at, end), stop;
    if ((stop = upper_lower(s, body, end)) > body) return stop;
    if ((stop = upper_lower(s, at, end)) > at) return stop;
    if ((stop = run(s, body, end, UPPER)) > body) return run(s, stop, end, LOWER);
    return at;
}

static size_t scan_tekken(const char *s, size_t at, size_t end)
{
    size_t stop = cased_word(s, at, end);
    return stop > at ? stop : scan_rest(s, at, end, UNICODE_LETTER, 1, "\r\n/");
}

static size_t scan_gpt4o(const char *s, size_t at, size_t end)
{
    size_t stop = cased_word(s, at, end);
    if (stop > at) return contraction(s, stop, end, true);
    return scan_rest(s, at, end, UNICODE_LETTER, 3, "\r\n/");
}

/* The finders: \s?SET{min,max} with `space`, else SET{min,max}. */
typedef bool set_fn(struct unicode_char c);

static size_t match(const char *s, size_t at, size_t end, set_fn *in, int min, int max)
{
    int n = 0;
    for (; n < max && at < end; n++) {
        struct unicode_char c = look(s, at, end);
        if (!in(c)) break;
        at += c.bytes;
    }
    return n >= min ? at : 0;
}

static size_t find(const char *s, size_t at, size_t end, set_fn *in, bool space, int min, int max)
{
    for (size_t p = at; p < end;) {
        struct unicode_char c = look(s, p, end);
        int most = p == at ? max : min; /* what follows a gap is measured when its turn comes */
        size_t stop = 0;
        if (space && c.class & UNICODE_SPACE) stop = match(s, p + c.bytes, end, in, min, most);
        if (!stop) stop = match(s, p, end, in, min, most);
        if (stop) return p == at ? stop : p;
        p += c.bytes;
    }
    return end;
}

enum { ANY = INT32_MAX };

struct range {
    uint32_t first, last;
};

static bool in_ranges(uint32_t code, const struct range *r, size_t n)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (code > r[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && code >= r[low].first;
}

#define IN(code, ranges) in_ranges(code, ranges, sizeof(ranges) / sizeof *(ranges))

static bool is_number(struct unicode_char c)
{
    return c.class & UNICODE_NUMBER;
}

static bool is_ascii_digit(struct unicode_char c)
{
    return c.code >= '0' && c.code <= '9';
}

static bool is_letter(struct unicode_char c)
{
    return c.class & UNICODE_LETTER;
}

static bool is_punct(struct unicode_char c)
{
    return c.class & UNICODE_PUNCT;
}

static bool is_line_end(struct unicode_char c)
{
    return c.code == '\r' || c.code == '\n';
}

/* [\p{P}\$\+<=>\^~\|] */
static bool is_default_sign(struct unicode_char c)
{
    return is_punct(c) || (c.code && c.code < 128 && strchr("$+<=>^~|", (int)c.code));
}

static bool is_falcon_sign(struct unicode_char c)
{
    return is_default_sign(c) || c.code == '`';
}

/* [!-/:-~！-／：-～‘-‟　-。] */
static bool is_deepseek_sign(struct unicode_char c)
{
    static const struct range set[] = {{'!', '/'},       {':', '~'},       {0x2018, 0x201f},
                                       {0x3000, 0x3002}, {0xff01, 0xff0f}, {0xff1a, 0xff5e}};
    return IN(c.code, set);
}

/* [一-龥ࠀ-一가-퟿] */
static bool is_deepseek_cjk(struct unicode_char c)
{
    static const struct range set[] = {{0x800, 0x9fa5}, {0xac00, 0xd7ff}};
    return IN(c.code, set);
}

/* The letters that the expression of DeepSeek LLM lists one by one. */
static bool is_deepseek_letter(struct unicode_char c)
{
    static const struct range set[] = {
        {0x41, 0x5a},       {0x61, 0x7a},       {0xb5, 0xb5},       {0xc0, 0xd6},
        {0xd8, 0xf6},       {0xf8, 0x1ba},      {0x1bc, 0x1bf},     {0x1c4, 0x293},
        {0x295, 0x2af},     {0x370, 0x373},     {0x376, 0x377},     {0x37b, 0x37d},
        {0x37f, 0x37f},     {0x386, 0x386},     {0x388, 0x38a},     {0x38c, 0x38c},
        {0x38e, 0x3a1},     {0x3a3, 0x3f5},     {0x3f7, 0x481},     {0x48a, 0x52f},
        {0x531, 0x556},     {0x10a0, 0x10c5},   {0x13a0, 0x13f5},   {0x13f8, 0x13fd},
        {0x1c90, 0x1cba},   {0x1cbd, 0x1cbf},   {0x1d00, 0x1d2b},   {0x1d6b, 0x1d77},
        {0x1d79, 0x1d9a},   {0x1e00, 0x1f15},   {0x1f18, 0x1f1d},   {0x1f20, 0x1f45},
        {0x1f48, 0x1f4d},   {0x1f50, 0x1f57},   {0x1f59, 0x1f59},   {0x1f5b, 0x1f5b},
        {0x1f5d, 0x1f5d},   {0x1f5f, 0x1f7d},   {0x1f80, 0x1fb4},   {0x1fb6, 0x1fbc},
        {0x1fbe, 0x1fbe},   {0x1fc2, 0x1fc4},   {0x1fc6, 0x1fcc},   {0x1fd0, 0x1fd3},
        {0x1fd6, 0x1fdb},   {0x1fe0, 0x1fec},   {0x1ff2, 0x1ff4},   {0x1ff6, 0x1ffc},
        {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210a, 0x2113},   {0x2115, 0x2115},
        {0x2119, 0x211d},   {0x2124, 0x2124},   {0x2126, 0x2126},   {0x2128, 0x2128},
        {0x212a, 0x212d},   {0x212f, 0x2134},   {0x2139, 0x2139},   {0x213c, 0x213f},
        {0x2145, 0x2149},   {0x214e, 0x214e},   {0x2183, 0x2184},   {0x2c00, 0x2c7b},
        {0x2c7e, 0x2ce4},   {0x2ceb, 0x2cee},   {0x2cf2, 0x2cf3},   {0xa640, 0xa66d},
        {0xa680, 0xa69b},   {0xa722, 0xa76f},   {0xa771, 0xa787},   {0xa78b, 0xa78e},
        {0xab70, 0xabbf},   {0xfb00, 0xfb06},   {0xfb13, 0xfb17},   {0xff21, 0xff3a},
        {0xff41, 0xff5a},   {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb},
        {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943}};
    return IN(c.code, set);
}

static size_t find_number(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_number, false, 1, 1);
}

static size_t find_numbers(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_number, false, 1, ANY);
}

static size_t find_three_digits(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_ascii_digit, false, 3, 3);
}

static size_t find_default_signs(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_default_sign, false, 1, ANY);
}

static size_t find_falcon_signs(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_falcon_sign, false, 1, ANY);
}

static size_t find_line_end(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_line_end, false, 1, 1);
}

static size_t find_deepseek_letters(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_deepseek_letter, true, 1, ANY);
}

static size_t find_deepseek_signs(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_deepseek_sign, true, 1, ANY);
}

static size_t find_deepseek_cjk(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_deepseek_cjk, false, 1, ANY);
}

static size_t find_letters(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_letter, true, 1, ANY);
}

static size_t find_puncts(const char *s, size_t at, size_t end)
{
    return find(s, at, end, is_punct, true, 1, ANY);
}

/* \s+$ */
static size_t find_last_spaces(const char *s, size_t at, size_t end)
{
    size_t p = at, gap = at;
    while (p < end) {
        gap = run(s, p, end, ~(unsigned)UNICODE_SPACE);
        p = run(s, gap, end, UNICODE_SPACE);
    }
    return gap > at ? gap : end;
}

static const struct tok_pre pres[] = {
    {{find_default_signs, scan_gpt2, find_numbers, find_three_digits}, 0, " default "},
    {{scan_gpt2},
     0,
     " gpt-2 gpt2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling "},
    {{find_number, scan_gpt2},
     0,
     " smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 "},
    {{scan_llama3},
     WHOLE_WORDS | ADDS_BOS,
     " llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 "},
    {{scan_llama3}, WHOLE_WORDS, " glm4 glm5 "},
    {{scan_llama3}, 0, " dbrx smaug-bpe chatglm-bpe "},
    {{scan_qwen2},
     0,
     " qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2 "},
    {{scan_qwen35}, 0, " qwen35 "},
    {{scan_tekken}, WHOLE_WORDS | ADDS_BOS, " tekken "},
    {{scan_gpt4o}, 0, " gpt-4o llama4 kanana2 talkie minimax-m2 "},
    {{find_line_end, find_deepseek_letters, find_deepseek_signs, find_last_spaces,
      find_deepseek_cjk, find_numbers},
     0,
     " deepseek-llm "},
    {{find_line_end, find_letters, find_puncts, find_deepseek_cjk, find_number},
     0,
     " deepseek-coder "},
    {{find_falcon_signs, scan_gpt2, find_three_digits}, 0, " falcon "},
};

const struct tok_pre *tok_pre_find(const char *name, size_t n)
{
    if (n == 0 || memchr(name, ' ', n)) return NULL;
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        const char *hit = memmem(pres[i].names, strlen(pres[i].names), name, n);
        for (; hit; hit = memmem(hit + 1, strlen(hit + 1), name, n))
            if (hit[-1] == ' ' && hit[n] == ' ') return &pres[i];
    }
    return NULL;
}

static bool split(stage_fn *const *stage, const char *s, size_t n, tok_pre_word *word, void *arg)
{
    if (!*stage) return word(arg, s, n);
    for (size_t at = 0, stop; at < n; at = stop) {
        stop = (*stage)(s, at, n);
        if (!split(stage + 1, s + at, stop - at, word, arg)) return false;
    }
    return true;
}

bool tok_pre_split(const struct tok_pre *p, const char *s, size_t n, tok_pre_word *word, void *arg)
{
    return split(p->stages, s, n, word, arg);
}

bool tok_pre_whole_words(const struct tok_pre *p)
{
    return p->flags & WHOLE_WORDS;
}

bool tok_pre_adds_bos(const struct tok_pre *p)
{
    return p->flags & ADDS_BOS;
}
