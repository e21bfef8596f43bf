/* Tiny vocabularies for tests: all bytes, a few merges, a token of every type. What they hold can
 * be bent before it is written.
 *
 *     struct tok_vocab v;
 *     tok_vocab_bpe(&v, "gpt-2");  or  tok_vocab_spm(&v);  or  tok_vocab_wordpiece(&v);
 *     tok_vocab_open(&v, &t, &e);
 */
#ifndef TOK_VOCAB_H
#define TOK_VOCAB_H

#include "gguf_writer.h"
#include "tok.h"

enum { TOK_VOCAB_MAX = 400, NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };

struct tok_vocab {
    const char *model, *pre; /* NULL: not written */
    struct gguf_str text[TOK_VOCAB_MAX], merge[64];
    int32_t type[TOK_VOCAB_MAX];
    float score[TOK_VOCAB_MAX];
    size_t n, n_merge, n_type, n_score; /* n_type and n_score 0: not written; else as many as n */
    uint32_t bos, eos;                  /* UINT32_MAX - 1: not written */
    int add_bos, add_eos, add_space;    /* -1: not written */
    int lower, strip;                   /* of WordPiece; -1: not written */
    const char *name, *chat_template;
    char spelled[256][8];
};

enum { TOK_VOCAB_NO_ID = UINT32_MAX - 1 };

static inline int32_t tok_vocab_add(struct tok_vocab *v, const char *text, int type, float score)
{
    assert(v->n < TOK_VOCAB_MAX);
    v->text[v->n] = (struct gguf_str){text, strlen(text)};
    v->type[v->n] = type;
    v->score[v->n] = score;
    return (int32_t)v->n++;
}

static inline void tok_vocab_merge(struct tok_vocab *v, const char *line)
{
    assert(v->n_merge < 64);
    v->merge[v->n_merge++] = (struct gguf_str){line, strlen(line)};
}

static inline void tok_vocab__init(struct tok_vocab *v, const char *model)
{
    *v = (struct tok_vocab){.model = model,
                            .bos = TOK_VOCAB_NO_ID,
                            .eos = TOK_VOCAB_NO_ID,
                            .add_bos = -1,
                            .add_eos = -1,
                            .add_space = -1,
                            .lower = -1,
                            .strip = -1};
}

/* Ids 0..255 are the bytes; "Ġ" spells a space, "Ċ" a newline. */
static inline void tok_vocab_bpe(struct tok_vocab *v, const char *pre)
{
    static const char *const merged[][2] = {{"l l", "ll"},
                                            {"h e", "he"},
                                            {"he ll", "hell"},
                                            {"hell o", "hello"},
                                            {"Ġ hello", "Ġhello"},
                                            {"a a", "aa"},
                                            {"aa aa", "aaaa"},
                                            {"Ġ Ġ", "ĠĠ"},
                                            {"ĠĠ ĠĠ", "ĠĠĠĠ"},
                                            {"ð Ł", "ðŁ"},
                                            {"1 2", "12"},
                                            {"Ċ Ċ", "ĊĊ"},
                                            {"aaaa aaaa", "aaaaaaaa"},
                                            {"< s", "<s"},
                                            {"<s >", "<s>"}};
    tok_vocab__init(v, "gpt2");
    v->pre = pre;
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool visible = (b > ' ' && b < 127) || (b > 160 && b != 173);
        unsigned c = visible ? b : next++;
        int len = c < 128 ? snprintf(v->spelled[b], 8, "%c", (int)c)
                          : snprintf(v->spelled[b], 8, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 63));
        tok_vocab_add(v, v->spelled[b], NORMAL, 0);
        assert((size_t)len == v->text[b].n);
    }
    for (size_t i = 0; i + 1 < sizeof merged / sizeof *merged; i++) {
        tok_vocab_add(v, merged[i][1], NORMAL, 0);
        tok_vocab_merge(v, merged[i][0]);
    }
    tok_vocab_merge(v, merged[sizeof merged / sizeof *merged - 1][0]); /* makes a control token */
    tok_vocab_add(v, "world", NORMAL, 0);                              /* no merge makes it */
    v->bos = (uint32_t)tok_vocab_add(v, "<s>", CONTROL, 0);
    v->eos = (uint32_t)tok_vocab_add(v, "<|im_end|>", NORMAL, 0);
    tok_vocab_add(v, "<tool>", USER, 0);
    tok_vocab_add(v, "<tool>>", USER, 0);
    tok_vocab_add(v, "ü ü", USER, 0);
    tok_vocab_add(v, "[UNUSED]", UNUSED, 0);
    v->n_type = v->n;
}

/* <unk> <s> </s>, then the 256 bytes, then pieces. "▁" spells a space. */
static inline void tok_vocab_spm(struct tok_vocab *v)
{
    static const struct {
        const char *text;
        float score;
    } pieces[] = {{"▁", -9},      {"h", -20}, {"e", -20},    {"l", -20},      {"o", -20},
                  {"a", -20},     {"he", -2}, {"ll", -1},    {"hell", -3},    {"hello", -4},
                  {"▁hello", -5}, {"▁▁", -8}, {"aa", -6},    {"aaaa", -5.5f}, {"lo", -0.75f},
                  {"😀", -20},     {"😀😀", -7}, {"ab", -0.5f}, {"b", -20}};
    tok_vocab__init(v, "llama");
    tok_vocab_add(v, "<unk>", UNKNOWN, 0);
    v->bos = (uint32_t)tok_vocab_add(v, "<s>", CONTROL, 0);
    v->eos = (uint32_t)tok_vocab_add(v, "</s>", CONTROL, 0);
    for (int b = 0; b < 256; b++) {
        snprintf(v->spelled[b], 8, "<0x%02X>", b);
        tok_vocab_add(v, v->spelled[b], BYTE, 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        tok_vocab_add(v, pieces[i].text, NORMAL, pieces[i].score);
    tok_vocab_add(v, "<tool>", USER, 0);
    tok_vocab_add(v, "    ", USER, 0);
    v->n_type = v->n_score = v->n;
}

/* Five control tokens, then pieces; "▁" spells the beginning of a word. No capitals: uncased. */
static inline void tok_vocab_wordpiece(struct tok_vocab *v)
{
    static const char *const pieces[] = {
        "▁a",     "▁hello", "▁he",  "llo", "▁un", "aff",  "able", "▁,", "▁.", "▁ecole",
        "▁école", "▁字",    "▁a字", "字",  "▁x",  "x",    "xx",   "▁i", "̇",   "▁각",
        "각",     "▁ᄀ",    "ᅡ",   "ᆨ",  "▁σ",  "σ",    "▁▁",   "▁$", "▁ß", "ss",
        "▁ü ü",   "b",      "▁b",   "▁[",  "▁]",  "▁cls", "▁`"};
    static const char *const control[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    tok_vocab__init(v, "bert");
    for (size_t i = 0; i < sizeof control / sizeof *control; i++)
        tok_vocab_add(v, control[i], CONTROL, 0);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        tok_vocab_add(v, pieces[i], NORMAL, 0);
    tok_vocab_add(v, "▁<tool>", USER, 0);
    v->n_type = v->n;
}

static inline void tok_vocab_write(const struct tok_vocab *v, struct gguf_writer *w)
{
    gguf_writer_str(w, "general.architecture", "llama");
    if (v->name) gguf_writer_str(w, "general.name", v->name);
    if (v->model) gguf_writer_str(w, "tokenizer.ggml.model", v->model);
    if (v->pre) gguf_writer_str(w, "tokenizer.ggml.pre", v->pre);
    gguf_writer_strs(w, "tokenizer.ggml.tokens", v->text, v->n);
    if (v->n_type) gguf_writer_i32s(w, "tokenizer.ggml.token_type", v->type, v->n_type);
    if (v->n_score) gguf_writer_f32s(w, "tokenizer.ggml.scores", v->score, v->n_score);
    if (v->n_merge) gguf_writer_strs(w, "tokenizer.ggml.merges", v->merge, v->n_merge);
    if (v->bos != TOK_VOCAB_NO_ID) gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", v->bos);
    if (v->eos != TOK_VOCAB_NO_ID) gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", v->eos);
    if (v->add_bos >= 0) gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", v->add_bos);
    if (v->add_eos >= 0) gguf_writer_bool(w, "tokenizer.ggml.add_eos_token", v->add_eos);
    if (v->add_space >= 0) gguf_writer_bool(w, "tokenizer.ggml.add_space_prefix", v->add_space);
    if (v->lower >= 0) gguf_writer_bool(w, "tokenizer.ggml.normalizer.lowercase", v->lower);
    if (v->strip >= 0) gguf_writer_bool(w, "tokenizer.ggml.normalizer.strip_accents", v->strip);
    if (v->chat_template) gguf_writer_str(w, "tokenizer.chat_template", v->chat_template);
}

static inline int tok_vocab_open(const struct tok_vocab *v, struct tok **out, struct err *e)
{
    struct gguf_writer w = GGUF_WRITER_INIT;
    struct gguf *g = NULL;
    tok_vocab_write(v, &w);
    int r = gguf_writer_open(&w, &g, e);
    if (r == 0) r = tok_open(out, g, e);
    gguf_close(g);
    gguf_writer_free(&w);
    return r;
}

#endif
