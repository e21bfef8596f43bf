/* The vocabulary of a GGUF file, taken with suspicion: sizes are capped, types and counts checked,
 * no two tokens have the same text, ids lie inside the vocabulary. What passes is copied, and
 * nothing after it checks again.
 *
 * GGUF says little about end tokens and nothing about which plain-typed tokens steer the model, so
 * those are known by their text, as every reader of these files has to (the lists agree with
 * llama.cpp's). What a file leaves out has its kind's defaults.
 */
#include "tok_int.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_MAX = 1 << 22, TEXT_BYTES_MAX = 1 << 28, TEMPLATE_MAX = 1 << 22 };
#define ARENA_MAX ((size_t)4 << 30)

enum token_type { TYPE_UNKNOWN = 2, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

/* Texts that end an answer wherever they are a token. */
static const char *const end_texts[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<｜end▁of▁sentence｜>",
    /* padding, next repository, next file: a code model that writes these is done */
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>",
    "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>"};

/* Texts that are control tokens whatever type the file gives them. */
static const char *const control_texts[] = {
    "<|fim_prefix|>", "<fim-prefix>",    "<fim_prefix>",    "<｜fim▁begin｜>", "<PRE>",
    "▁<PRE>",         "<|code_prefix|>", "<|prefix|>",      "<|fim_suffix|>",  "<fim-suffix>",
    "<fim_suffix>",   "<｜fim▁hole｜>",  "<SUF>",           "▁<SUF>",          "<|code_suffix|>",
    "<|suffix|>",     "<|fim_middle|>",  "<fim-middle>",    "<fim_middle>",    "<｜fim▁end｜>",
    "<MID>",          "▁<MID>",          "<|code_middle|>", "<|middle|>"};

/* gpt-oss writes its answers' structure with these: they are shown. */
static const char *const shown_texts[] = {"<|channel|>", "<|message|>", "<|start|>",
                                          "<|constrain|>"};

static int32_t find(const struct tok *t, const char *text)
{
    uint32_t id = map_get(&t->ids, text, (uint32_t)strlen(text));
    return id == MAP_NONE ? TOK_NONE : (int32_t)id;
}

static const struct gguf_kv *array(const struct gguf *g, const char *key, bool strings)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    return kv && kv->type == GGUF_ARR && (kv->item == GGUF_STR) == strings ? kv : NULL;
}

static int load_texts(struct tok *t, const struct gguf *g, struct err *e)
{
    const struct gguf_kv *kv = array(g, "tokenizer.ggml.tokens", true);
    if (!kv) return err_set(e, ERR_FORMAT, "the file holds no vocabulary (tokenizer.ggml.tokens)");
    if (kv->count < 1 || kv->count > TOKENS_MAX)
        return err_set(e, ERR_LIMIT, "a vocabulary of %llu tokens; 1 to %d are read",
                       (unsigned long long)kv->count, TOKENS_MAX);
    t->n = (int32_t)kv->count;
    size_t n = kv->count, total = 0;
    const uint8_t *at = kv->value;
    for (size_t i = 0; i < n; i++) {
        struct gguf_str s = gguf_next_string(&at);
        if (s.n > TOK_PIECE_MAX)
            return err_set(e, ERR_LIMIT, "token %zu has %zu bytes, at most %d are read", i, s.n,
                           TOK_PIECE_MAX);
        total += s.n;
    }
    if (total > TEXT_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "the vocabulary has %zu bytes of text, at most %d are read",
                       total, TEXT_BYTES_MAX);
    char *bytes = arena_alloc(&t->arena, total + 1, 1);
    t->piece_bytes = arena_alloc(&t->arena, total + 1, 1);
    t->text = arena_alloc(&t->arena, n, sizeof *t->text);
    t->piece = arena_alloc(&t->arena, n, sizeof *t->piece);
    t->attr = arena_alloc(&t->arena, n, 1);
    if (!bytes || !t->piece_bytes || !t->text || !t->piece || !t->attr || !map_init(&t->ids, n))
        return err_nomem(e, total + n * sizeof(struct map_slot), "the vocabulary");
    at = kv->value;
    for (size_t i = 0; i < n; i++) {
        struct gguf_str s = gguf_next_string(&at);
        memcpy(bytes, s.p, s.n);
        t->text[i] = (struct gguf_str){bytes, s.n};
        bytes += s.n;
    }
    return 0;
}

/* Fills ids; an empty text is no key, such a token cannot be written. */
static int index_texts(struct tok *t, struct err *e)
{
    for (int32_t i = 0; i < t->n; i++) {
        struct gguf_str s = t->text[i];
        bool ok = true;
        uint32_t held = s.n ? map_put(&t->ids, s.p, (uint32_t)s.n, (uint32_t)i, &ok) : MAP_NONE;
        if (!ok) return err_nomem(e, (size_t)t->n * sizeof(struct map_slot), "the vocabulary");
        if (held != MAP_NONE)
            return err_set(e, ERR_FORMAT, "tokens %u and %d are the same: \"%.*s\"", held, (int)i,
                           s.n > 80 ? 80 : (int)s.n, s.p);
    }
    return 0;
}

static int load_types(struct tok *t, const struct gguf *g, struct err *e)
{
    const struct gguf_kv *kv = array(g, "tokenizer.ggml.token_type", false);
    if (!kv && !gguf_find(g, "tokenizer.ggml.token_type")) return 0; /* all of them plain */
    if (!kv || kv->count < (uint64_t)t->n)
        return err_set(e, ERR_FORMAT, "tokenizer.ggml.token_type holds %llu numbers for %d tokens",
                       kv ? (unsigned long long)kv->count : 0, (int)t->n);
    for (int32_t i = 0; i < t->n; i++) {
        int64_t type = gguf_item_i64(kv, (uint64_t)i);
        t->attr[i] = type == TYPE_UNKNOWN   ? TOK__UNKNOWN
                     : type == TYPE_CONTROL ? TOK__CONTROL
                     : type == TYPE_USER    ? TOK__USER
                     : type == TYPE_BYTE    ? TOK__BYTE
                                            : 0;
    }
    return 0;
}

/* An id that the file may name; absent, or the -1 that some writers put for "none": as it was. */
static int load_id(const struct tok *t, const struct gguf *g, const char *key, int32_t *id,
                   struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    uint32_t u;
    int32_t i;
    if (!kv || (gguf_u32(g, key, &u) && u == UINT32_MAX) || (gguf_i32(g, key, &i) && i == -1))
        return 0;
    if (!gguf_u32(g, key, &u) || u >= (uint32_t)t->n)
        return err_set(e, ERR_FORMAT, "%s is no id of a vocabulary of %d tokens", key, (int)t->n);
    *id = (int32_t)u;
    return 0;
}

static int load_ids(struct tok *t, const struct gguf *g, struct err *e)
{
    int32_t eot = TOK_NONE, eom = TOK_NONE;
    t->bos = t->eos = t->unk = TOK_NONE;
    if (t->wordpiece) {
        t->unk = find(t, "[UNK]");
        t->bos = find(t, "[CLS]");
        t->eos = find(t, "[SEP]");
    } else if (!t->pre) {
        t->unk = 0;
        t->bos = t->n > 1 ? 1 : TOK_NONE;
        t->eos = t->n > 2 ? 2 : TOK_NONE;
    }
    const struct {
        const char *key;
        int32_t *id;
    } keys[] = {{"tokenizer.ggml.bos_token_id", &t->bos},
                {"tokenizer.ggml.eos_token_id", &t->eos},
                {"tokenizer.ggml.unknown_token_id", &t->unk},
                {"tokenizer.ggml.eot_token_id", &eot},
                {"tokenizer.ggml.eom_token_id", &eom},
                /* WordPiece's; the spelling is the format's */
                {"tokenizer.ggml.cls_token_id", &t->bos},
                {"tokenizer.ggml.seperator_token_id", &t->eos}};
    size_t n_keys = sizeof keys / sizeof *keys - (t->wordpiece ? 0 : 2);
    for (size_t i = 0; i < n_keys; i++) {
        int r = load_id(t, g, keys[i].key, keys[i].id, e);
        if (r) return r;
    }
    const int32_t ends[] = {t->eos, eot, eom};
    for (size_t i = 0; i < 3; i++)
        if (ends[i] != TOK_NONE) t->attr[ends[i]] |= TOK__END;
    t->add_bos = t->pre ? tok_pre_adds_bos(t->pre) : true;
    t->add_space = !t->pre;
    if (t->wordpiece) { /* as every such model was trained, whatever the file says */
        t->add_eos = true;
    } else {
        if (!t->pre) gguf_bool(g, "tokenizer.ggml.add_space_prefix", &t->add_space);
        gguf_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos);
        gguf_bool(g, "tokenizer.ggml.add_eos_token", &t->add_eos);
    }
    t->add_bos = t->add_bos && t->bos != TOK_NONE;
    t->add_eos = t->add_eos && t->eos != TOK_NONE;
    return 0;
}

static void mark(struct tok *t, const char *const *texts, size_t n, int attr)
{
    for (size_t i = 0; i < n; i++) {
        int32_t id = find(t, texts[i]);
        if (id != TOK_NONE) t->attr[id] = (uint8_t)((t->attr[id] & ~TOK__SPECIAL) | attr);
    }
}

static void mark_known_texts(struct tok *t)
{
    mark(t, control_texts, sizeof control_texts / sizeof *control_texts, TOK__CONTROL);
    mark(t, end_texts, sizeof end_texts / sizeof *end_texts, TOK__CONTROL | TOK__END);
    mark(t, shown_texts, sizeof shown_texts / sizeof *shown_texts, TOK__USER);
    /* Where an answer ends with one of these two, <|end|> only ends a part of it. */
    int32_t end = find(t, "<|end|>");
    bool call = find(t, "<|call|>") != TOK_NONE || find(t, "<|calls|>") != TOK_NONE;
    bool last = find(t, "<|return|>") != TOK_NONE || find(t, "<|flush|>") != TOK_NONE;
    if (end != TOK_NONE && call && last) t->attr[end] = TOK__USER;
}

/* Phi-3's special tokens swallow the space after them; its files say so nowhere but in the name. */
static void mark_strips(struct tok *t, const struct gguf *g)
{
    struct gguf_str name;
    char low[256];
    if (!gguf_string(g, "general.name", &name)) return;
    size_t n = name.n < sizeof low - 1 ? name.n : sizeof low - 1;
    for (size_t i = 0; i < n; i++) low[i] = (char)tolower((unsigned char)name.p[i]);
    if (!memmem(low, n, "phi-3", 5) && !memmem(low, n, "phi3", 4)) return;
    for (int32_t i = 0; i < t->n; i++)
        if (t->attr[i] & TOK__SPECIAL && !gguf_str_eq(t->text[i], "<unk>") &&
            !gguf_str_eq(t->text[i], "<s>") && !gguf_str_eq(t->text[i], "<|endoftext|>"))
            t->attr[i] |= TOK__STRIP;
}

static int load_kind(struct tok *t, const struct gguf *g, struct err *e)
{
    struct gguf_str model, pre = {"default", 7};
    if (!gguf_string(g, "tokenizer.ggml.model", &model))
        return err_set(e, ERR_FORMAT, "the file holds no vocabulary (tokenizer.ggml.model)");
    t->wordpiece = gguf_str_eq(model, "bert");
    if (t->wordpiece || gguf_str_eq(model, "llama")) return 0;
    if (!gguf_str_eq(model, "gpt2"))
        return err_set(e, ERR_UNSUPPORTED, "tokenizer \"%.*s\" is not supported",
                       model.n > 80 ? 80 : (int)model.n, model.p);
    gguf_string(g, "tokenizer.ggml.pre", &pre);
    t->pre = tok_pre_find(pre.p, pre.n);
    if (t->pre) return 0;
    return err_set(e, ERR_UNSUPPORTED, "pre-tokenizer \"%.*s\" is not supported",
                   pre.n > 80 ? 80 : (int)pre.n, pre.p);
}

static int load_template(struct tok *t, const struct gguf *g, struct err *e)
{
    struct gguf_str s;
    if (!gguf_string(g, "tokenizer.chat_template", &s)) return 0;
    if (s.n > TEMPLATE_MAX)
        return err_set(e, ERR_LIMIT, "the chat template has %zu bytes, at most %d are read", s.n,
                       TEMPLATE_MAX);
    t->chat_template = arena_strndup(&t->arena, s.p, s.n);
    return t->chat_template ? 0 : err_nomem(e, s.n, "the chat template");
}

static int load(struct tok *t, const struct gguf *g, struct err *e)
{
    int r;
    if ((r = load_kind(t, g, e)) || (r = load_texts(t, g, e)) || (r = index_texts(t, e)) ||
        (r = load_types(t, g, e)) || (r = load_ids(t, g, e)) || (r = load_template(t, g, e)))
        return r;
    mark_known_texts(t);
    mark_strips(t, g);
    if (t->wordpiece) {
        tok__wordpiece_load(t, g);
    } else {
        if (t->unk != TOK_NONE && t->attr[t->unk] & TOK__CONTROL) t->unk = TOK_NONE;
        if ((r = t->pre ? tok__bpe_load(t, g, e) : tok__spm_load(t, g, e))) return r;
    }
    return tok__special_load(t, e);
}

int tok_open(struct tok **out, const struct gguf *g, struct err *e)
{
    struct tok *t = calloc(1, sizeof *t);
    if (!t) return err_nomem(e, sizeof *t, "the vocabulary");
    t->arena = ARENA_INIT(ARENA_MAX);
    int r = load(t, g, e);
    if (r) {
        tok_close(t);
        return r;
    }
    *out = t;
    return 0;
}

void tok_close(struct tok *t)
{
    if (!t) return;
    map_free(&t->ids);
    map_free(&t->merges);
    arena_free(&t->arena);
    free(t);
}
