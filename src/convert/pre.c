/* The name that GGUF has for a pre-tokenizer. tokenizer.json spells it out as a list of steps; the
 * steps are written down as one line and looked up among those of the published families. One that
 * is not there is refused, since a wrong one would only show as a somewhat worse model.
 */
#include "convert_int.h"

#include "tok_pre.h"

#include <assert.h>
#include <string.h>

enum { LINE_MAX_BYTES = 1 << 16 };

#define FOLDED "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+"

static const struct {
    const char *steps;
    bool whole_words; /* ignore_merges */
    const char *name;
} known[] = {
    {"bytes+words", false, "gpt-2"},
    {"digits bytes+words", false, "smollm"},
    {"split(" FOLDED "|" LEAD "\\p{L}+|\\p{N}{1,3}|" SIGNS "[\\r\\n]*|" SPACES ") bytes", true,
     "llama-bpe"},
    {"split(" FOLDED "|" LEAD "\\p{L}+|\\p{N}{1,3}|" SIGNS "[\\r\\n]*|" SPACES ") bytes", false,
     "smaug-bpe"},
    {"split(" FOLDED "|" LEAD "\\p{L}+|\\p{N}|" SIGNS "[\\r\\n]*|" SPACES ") bytes", false,
     "qwen2"},
    {"split(" FOLDED "|" LEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES
     ") bytes",
     false, "qwen35"},
    {"split(" LEAD UPPER "*" LOWER "+|" LEAD UPPER "+" LOWER "*|\\p{N}|" SIGNS "[\\r\\n/]*|" SPACES
     ") bytes",
     true, "tekken"},
    {"split(" LEAD UPPER "*" LOWER "+" FOLDED "?|" LEAD UPPER "+" LOWER "*" FOLDED
     "?|\\p{N}{1,3}|" SIGNS "[\\r\\n/]*|" SPACES ") bytes",
     false, "gpt-4o"},
};

static void put_step(struct buf *line, const json_t *step)
{
    const char *type = convert__str(step, "type"), *regex, *how;
    const json_t *flag;
    if (!type) type = "(none)";
    if (line->len) buf_putc(line, ' ');
    if (strcmp(type, "ByteLevel") == 0) {
        flag = json_object_get(step, "use_regex");
        buf_puts(line, json_is_false(flag) ? "bytes" : "bytes+words");
        if (json_is_true(json_object_get(step, "add_prefix_space"))) buf_puts(line, "+space");
    } else if (strcmp(type, "Digits") == 0) {
        flag = json_object_get(step, "individual_digits");
        buf_puts(line, json_is_true(flag) ? "digits" : "numbers");
    } else if (strcmp(type, "Split") == 0) {
        regex = convert__str(json_object_get(step, "pattern"), "Regex");
        how = convert__str(step, "behavior");
        bool plain =
            how && strcmp(how, "Isolated") == 0 && !json_is_true(json_object_get(step, "invert"));
        buf_printf(line, "split%s(", plain ? "" : "+otherwise");
        buf_puts(line, regex ? regex : "");
        buf_putc(line, ')');
    } else {
        buf_puts(line, type);
    }
}

int convert__pre_name(const json_t *tokenizer, const char **out, struct err *e)
{
    struct buf line = BUF_INIT(LINE_MAX_BYTES);
    const json_t *pre = json_object_get(tokenizer, "pre_tokenizer");
    const json_t *steps = json_object_get(pre, "pretokenizers");
    const json_t *merges = json_object_get(json_object_get(tokenizer, "model"), "ignore_merges");
    for (size_t i = 0; i < json_array_size(steps); i++) put_step(&line, json_array_get(steps, i));
    if (!steps && pre) put_step(&line, pre);
    *out = NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known && line.len && !line.failed; i++)
        if (strcmp(line.data, known[i].steps) == 0 && json_is_true(merges) == known[i].whole_words)
            *out = known[i].name;
    assert(!*out || tok_pre_find(*out, strlen(*out)));
    int rc = line.failed ? err_set(e, ERR_LIMIT, "tokenizer.json: the pre-tokenizer is too long")
             : *out      ? 0
                         : err_set(e, ERR_UNSUPPORTED,
                                   "tokenizer.json: no name is known for the pre-tokenizer %.250s%s",
                              line.len ? line.data : "(none)",
                              json_is_true(merges) ? " (ignore_merges)" : "");
    buf_free(&line);
    return rc;
}
