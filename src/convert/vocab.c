/* tokenizer.json -> the vocabulary of the file. Three kinds: byte-level BPE ("gpt2"), BPE or unigram
 * pieces with byte fallback ("llama"), WordPiece ("bert").
 *
 * The vocabulary has as many tokens as the embedding has rows: ids that no token has become
 * placeholders, tokens behind the last row are dropped with a note. "llama" merges by score, and the
 * score of a piece is the place of the first merge that makes it. "bert" pieces take the form
 * llama.cpp reads: one that begins a word begins with U+2581, one that continues it loses its "##".
 */
#include "convert_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };
enum kind { KIND_BPE, KIND_SPM, KIND_BERT };

enum { TOKEN_BYTES_MAX = 4096, MERGES_MAX = 1 << 22 };

#define BLANK "\xe2\x96\x81" /* U+2581 */

struct vocab {
    struct convert *c;
    struct err *e;
    json_t *json, *settings, *answers; /* tokenizer, tokenizer_config, generation_config */
    const json_t *model, *added;
    enum kind kind;
    size_t n;
    const char **text; /* [n] */
    int32_t *type;     /* [n] */
    float *score;      /* [n] */
};

static int nomem(struct vocab *v)
{
    return err_nomem(v->e, v->n * 32, "the vocabulary");
}

static const char *model_type(const json_t *model)
{
    const char *type = convert__str(model, "type");
    if (type) return type;
    if (json_object_get(model, "merges")) return "BPE";
    return json_object_get(model, "continuing_subword_prefix") ? "WordPiece" : "(none)";
}

static bool has_type(const json_t *j, const char *list, const char *type)
{
    const char *own = convert__str(j, "type");
    if (own && strcmp(own, type) == 0) return true;
    const json_t *parts = json_object_get(j, list);
    for (size_t i = 0; i < json_array_size(parts); i++)
        if (has_type(json_array_get(parts, i), list, type)) return true;
    return false;
}

static int find_kind(struct vocab *v)
{
    const char *type = model_type(v->model);
    bool fallback = json_is_true(json_object_get(v->model, "byte_fallback"));
    bool bytes = has_type(json_object_get(v->json, "pre_tokenizer"), "pretokenizers", "ByteLevel");
    if (strcmp(type, "WordPiece") == 0)
        v->kind = KIND_BERT;
    else if (strcmp(type, "BPE") == 0 && bytes)
        v->kind = KIND_BPE;
    else if ((strcmp(type, "BPE") == 0 || strcmp(type, "Unigram") == 0) && fallback)
        v->kind = KIND_SPM;
    else
        return err_set(v->e, ERR_UNSUPPORTED,
                       "tokenizer.json: a %.40s model without bytes is not "
                       "supported",
                       type);
    if ((v->kind == KIND_BERT) != (v->c->family == CONVERT__BERT))
        return err_set(v->e, ERR_UNSUPPORTED, "tokenizer.json: %s with a %.40s vocabulary",
                       v->c->model, type);
    if (strcmp(type, "Unigram") == 0)
        convert__note(v->c, "tokenizer.json: a unigram vocabulary is merged by score, as llama.cpp "
                            "does; some words may be cut differently");
    return 0;
}

/* Gives token id its text. */
static int put_token(struct vocab *v, const json_t *at, const char *text, int type, size_t *dropped)
{
    json_int_t id = json_integer_value(at);
    if (!text || !json_is_integer(at) || id < 0 || id > INT32_MAX)
        return err_set(v->e, ERR_FORMAT, "tokenizer.json: token \"%.60s\" has no id",
                       text ? text : "(none)");
    if (strlen(text) > TOKEN_BYTES_MAX - 4)
        return err_set(v->e, ERR_LIMIT, "tokenizer.json: token %lld has %zu bytes, at most %d",
                       (long long)id, strlen(text), TOKEN_BYTES_MAX - 4);
    if ((size_t)id >= v->n) {
        (*dropped)++;
        return 0;
    }
    if (type == NORMAL && v->text[id])
        return err_set(v->e, ERR_FORMAT, "tokenizer.json: \"%.60s\" and \"%.60s\" have the id %lld",
                       v->text[id], text, (long long)id);
    v->text[id] = text;
    v->type[id] = type;
    return 0;
}

/* Added tokens that steer the model, although some published files do not say so. */
static bool looks_special(const char *s)
{
    size_t n = strlen(s);
    const char *bar = "\xef\xbd\x9c"; /* U+FF5C */
    if (n > 3 && strncmp(s, "<|", 2) == 0 && strcmp(s + n - 2, "|>") == 0) return true;
    if (n > 7 && *s == '<' && !strncmp(s + 1, bar, 3) && !strncmp(s + n - 4, bar, 3)) return true;
    if (n > 8 && strncmp(s, "<unused", 7) == 0 && s[n - 1] == '>') return true;
    return !strcmp(s, "<pad>") || !strcmp(s, "<mask>") || !strcmp(s, "<2mass>") ||
           !strcmp(s, "[@BOS@]");
}

static int read_tokens(struct vocab *v)
{
    const json_t *vocab = json_object_get(v->model, "vocab");
    const char *text;
    json_t *j;
    size_t i, dropped = 0;
    int rc = 0;
    if (json_is_array(vocab) && json_array_size(vocab) > INT32_MAX) return nomem(v);
    json_object_foreach((json_t *)(uintptr_t)vocab, text, j)
    {
        if ((rc = put_token(v, j, text, NORMAL, &dropped))) return rc;
    }
    json_array_foreach(vocab, i, j) /* unigram: [text, score] */
    {
        json_t *id = json_integer((json_int_t)i);
        rc = put_token(v, id, json_string_value(json_array_get(j, 0)), NORMAL, &dropped);
        json_decref(id);
        if (rc) return rc;
        if (i < v->n) v->score[i] = (float)json_number_value(json_array_get(j, 1));
    }
    json_array_foreach(v->added, i, j)
    {
        text = convert__str(j, "content");
        bool special = json_is_true(json_object_get(j, "special"));
        int type = special || (text && looks_special(text)) ? CONTROL : USER;
        if ((rc = put_token(v, json_object_get(j, "id"), text, type, &dropped))) return rc;
    }
    if (dropped)
        convert__note(v->c, "tokenizer.json: %zu tokens behind the last of %zu rows are dropped",
                      dropped, v->n);
    return 0;
}

static char *format_token(struct vocab *v, const char *head, const char *tail)
{
    size_t n = strlen(head) + strlen(tail) + 1;
    char *s = arena_alloc(&v->c->arena, n, 1);
    if (s) snprintf(s, n, "%s%s", head, tail);
    return s;
}

/* U+2581 of a token that is taken from the text as it stands becomes the space it means. */
static char *with_spaces(struct vocab *v, const char *text)
{
    char *out = arena_strndup(&v->c->arena, text, strlen(text)), *to = out;
    for (const char *p = text; out && *p;) {
        bool blank = strncmp(p, BLANK, 3) == 0;
        *to++ = blank ? ' ' : *p;
        p += blank ? 3 : 1;
    }
    if (out) *to = 0;
    return out;
}

static bool is_byte(const char *s)
{
    unsigned b;
    char check[8];
    if (sscanf(s, "<0x%2X>", &b) != 1) return false;
    snprintf(check, sizeof check, "<0x%02X>", b & 255);
    return strcmp(s, check) == 0;
}

/* Turns the texts into what the file's kind wants, and fills the holes. */
static int finish_tokens(struct vocab *v)
{
    const char *unk = convert__str(v->model, "unk_token");
    for (size_t i = 0; i < v->n; i++) {
        const char *s = v->text[i];
        char pad[32];
        if (!s) {
            snprintf(pad, sizeof pad, "[PAD%zu]", i);
            v->text[i] = format_token(v, pad, "");
            v->type[i] = UNUSED;
        } else if (v->kind == KIND_BERT) {
            if (v->type[i] != CONTROL)
                v->text[i] = strncmp(s, "##", 2) == 0 ? s + 2 : format_token(v, BLANK, s);
        } else if (v->kind == KIND_SPM) {
            if (unk && strcmp(s, unk) == 0) v->type[i] = UNKNOWN;
            if (v->type[i] == NORMAL && is_byte(s)) v->type[i] = BYTE;
            if (v->type[i] == USER && strstr(s, BLANK)) v->text[i] = with_spaces(v, s);
        }
        if (!v->text[i]) return nomem(v);
    }
    return 0;
}

/* Both parts of merge i, NUL-terminated, in left and right. */
static int take_merge(struct vocab *v, const json_t *m, size_t i, char *left, char *right)
{
    const char *l = json_string_value(m), *r = l ? strchr(l, ' ') : NULL;
    if (json_array_size(m) == 2) {
        l = json_string_value(json_array_get(m, 0));
        r = json_string_value(json_array_get(m, 1));
        if (l && r && strlen(l) < TOKEN_BYTES_MAX && strlen(r) < TOKEN_BYTES_MAX) {
            snprintf(left, TOKEN_BYTES_MAX, "%s", l);
            snprintf(right, TOKEN_BYTES_MAX, "%s", r);
            return 0;
        }
    } else if (r && r > l && r[1] && r - l < TOKEN_BYTES_MAX && strlen(r) < TOKEN_BYTES_MAX) {
        snprintf(left, TOKEN_BYTES_MAX, "%.*s", (int)(r - l), l);
        snprintf(right, TOKEN_BYTES_MAX, "%s", r + 1);
        return 0;
    }
    return err_set(v->e, ERR_FORMAT, "tokenizer.json: merge %zu is no pair", i);
}

static const json_t *merges_of(struct vocab *v, int *rc)
{
    const json_t *merges = json_object_get(v->model, "merges");
    size_t n = json_array_size(merges);
    if (!json_is_array(merges) || n > MERGES_MAX)
        *rc = err_set(v->e, ERR_FORMAT, "tokenizer.json: no list of up to %d merges", MERGES_MAX);
    return merges;
}

static int write_merges(struct vocab *v)
{
    int rc = 0;
    char left[TOKEN_BYTES_MAX], right[TOKEN_BYTES_MAX];
    const json_t *merges = merges_of(v, &rc);
    size_t n = json_array_size(merges);
    if (rc) return rc;
    const char **line = malloc((n + 1) * sizeof *line);
    if (!line) return nomem(v);
    for (size_t i = 0; i < n && !rc; i++) {
        const json_t *m = json_array_get(merges, i);
        line[i] = json_string_value(m);
        if ((rc = take_merge(v, m, i, left, right)) || line[i]) continue;
        size_t at = strlen(left);
        if (at + strlen(right) + 2 > sizeof left) {
            rc = err_set(v->e, ERR_LIMIT, "tokenizer.json: merge %zu is too long", i);
            continue;
        }
        left[at] = ' ';
        memcpy(left + at + 1, right, strlen(right) + 1);
        line[i] = format_token(v, left, "");
        if (!line[i]) rc = nomem(v);
    }
    if (!rc) gguf_write_strs(v->c->w, "tokenizer.ggml.merges", line, n);
    free(line);
    return rc;
}

/* The earlier a merge, the higher the score of what it makes; what no merge makes comes last. */
static int write_scores(struct vocab *v)
{
    int rc = 0;
    char left[TOKEN_BYTES_MAX], right[TOKEN_BYTES_MAX], both[2 * TOKEN_BYTES_MAX];
    const json_t *vocab = json_object_get(v->model, "vocab");
    if (json_is_object(vocab)) {
        const json_t *merges = merges_of(v, &rc);
        size_t n = json_array_size(merges);
        for (size_t i = 0; i < v->n; i++) v->score[i] = v->type[i] == NORMAL ? -(float)(n + 1) : 0;
        for (size_t i = n; i-- > 0 && !rc;) {
            if ((rc = take_merge(v, json_array_get(merges, i), i, left, right))) continue;
            snprintf(both, sizeof both, "%s%s", left, right);
            const json_t *id = json_object_get(vocab, both);
            if (id && (size_t)json_integer_value(id) < v->n &&
                v->type[json_integer_value(id)] == NORMAL)
                v->score[json_integer_value(id)] = -(float)i;
        }
    }
    if (!rc) gguf_write_f32s(v->c->w, "tokenizer.ggml.scores", v->score, v->n);
    return rc;
}

/* "bos_token": "<s>" or {"content": "<s>"} */
static const char *special_text(const struct vocab *v, const char *name)
{
    char key[32];
    snprintf(key, sizeof key, "%s_token", name);
    const json_t *j = json_object_get(v->settings, key);
    return json_is_object(j) ? convert__str(j, "content") : json_string_value(j);
}

static int64_t find_token(const struct vocab *v, const char *text)
{
    const json_t *j;
    size_t i;
    if (!text) return -1;
    json_array_foreach(v->added, i, j)
    {
        const char *s = convert__str(j, "content");
        if (s && strcmp(s, text) == 0) return json_integer_value(json_object_get(j, "id"));
    }
    const json_t *id = json_object_get(json_object_get(v->model, "vocab"), text);
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

/* "eos_token_id": 2 or [2, 3]; item i, or -1. */
static int64_t listed_id(const json_t *j, const char *name, size_t i)
{
    char key[32];
    snprintf(key, sizeof key, "%s_token_id", name);
    const json_t *id = json_object_get(j, key);
    if (json_is_array(id))
        id = json_array_get(id, i);
    else if (i)
        return -1;
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

/* Of a token with a part to play, by the names in the settings, then by the ids in config.json; or -1. */
static int64_t special_id(const struct vocab *v, const char *name, const char *other)
{
    int64_t id = find_token(v, special_text(v, name));
    if (id < 0 && other) id = find_token(v, special_text(v, other));
    if (id < 0) id = listed_id(v->c->config, name, 0);
    if (id < 0 && strcmp(name, "unk") == 0) id = find_token(v, convert__str(v->model, "unk_token"));
    return (uint64_t)id < v->n ? id : -1;
}

static void write_id(struct vocab *v, const char *name, int64_t id)
{
    char key[64];
    snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", name);
    if (id >= 0) gguf_write_u32(v->c->w, key, (uint32_t)id);
}

static void write_ids(struct vocab *v)
{
    int64_t eos = special_id(v, "eos", "sep");
    write_id(v, "bos", special_id(v, "bos", "cls"));
    write_id(v, "eos", eos);
    write_id(v, "unknown", special_id(v, "unk", NULL));
    write_id(v, "seperator", special_id(v, "sep", NULL)); /* GGUF spells it so */
    write_id(v, "padding", special_id(v, "pad", NULL));
    write_id(v, "cls", special_id(v, "cls", NULL));
    write_id(v, "mask", special_id(v, "mask", NULL));
    for (size_t i = 0; i < 8; i++) { /* the first other token that ends an answer */
        int64_t id = listed_id(v->answers, "eos", i);
        if (id < 0 || id == eos || (uint64_t)id >= v->n) continue;
        write_id(v, "eot", id);
        break;
    }
}

/* What the post-processor puts around a text. */
static void read_template(const json_t *j, bool *found, const char **first, const char **last)
{
    const char *type = convert__str(j, "type");
    const json_t *parts = json_object_get(j, "processors"), *single = json_object_get(j, "single");
    for (size_t i = 0; i < json_array_size(parts); i++)
        read_template(json_array_get(parts, i), found, first, last);
    if (!type || strcmp(type, "TemplateProcessing") != 0 || !json_array_size(single)) return;
    size_t n = json_array_size(single);
    *found = true;
    *first = convert__str(json_object_get(json_array_get(single, 0), "SpecialToken"), "id");
    *last = convert__str(json_object_get(json_array_get(single, n - 1), "SpecialToken"), "id");
}

static bool same(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

static void write_added(struct vocab *v)
{
    const char *first = NULL, *last = NULL;
    bool found = false, bos = v->kind != KIND_BPE, eos = v->kind == KIND_BERT;
    read_template(json_object_get(v->json, "post_processor"), &found, &first, &last);
    if (found && v->kind != KIND_BERT) {
        bos = first != NULL;
        eos = last != NULL;
        if ((bos && !same(first, special_text(v, "bos"))) ||
            (eos && !same(last, special_text(v, "eos"))))
            convert__note(v->c,
                          "tokenizer.json puts %s before a text and %s behind it; the file "
                          "can say bos_token and eos_token only",
                          first ? first : "nothing", last ? last : "nothing");
    } else if (v->kind != KIND_BERT) {
        const json_t *b = json_object_get(v->settings, "add_bos_token");
        const json_t *s = json_object_get(v->settings, "add_eos_token");
        if (json_is_boolean(b)) bos = json_is_true(b);
        if (json_is_boolean(s)) eos = json_is_true(s);
    }
    gguf_write_bool(v->c->w, "tokenizer.ggml.add_bos_token", bos);
    gguf_write_bool(v->c->w, "tokenizer.ggml.add_eos_token", eos);
}

/* Whether a text gets a space in front: a normalizer that prepends, or a Metaspace that does. */
static bool adds_space(const struct vocab *v)
{
    const json_t *pre = json_object_get(v->json, "pre_tokenizer");
    if (has_type(json_object_get(v->json, "normalizer"), "normalizers", "Prepend")) return true;
    if (!has_type(pre, "pretokenizers", "Metaspace")) return false;
    const json_t *parts = json_object_get(pre, "pretokenizers");
    for (size_t i = 0; i < json_array_size(parts); i++)
        if (same(convert__str(json_array_get(parts, i), "type"), "Metaspace"))
            pre = json_array_get(parts, i);
    const char *scheme = convert__str(pre, "prepend_scheme");
    return scheme ? strcmp(scheme, "never") != 0
                  : !json_is_false(json_object_get(pre, "add_prefix_space"));
}

static void write_normalizer(struct vocab *v, const json_t *j)
{
    const json_t *parts = json_object_get(j, "normalizers");
    const json_t *low = json_object_get(j, "lowercase"),
                 *strip = json_object_get(j, "strip_accents");
    for (size_t i = 0; i < json_array_size(parts); i++)
        write_normalizer(v, json_array_get(parts, i));
    if (!same(convert__str(j, "type"), "BertNormalizer")) return;
    if (json_is_boolean(low))
        gguf_write_bool(v->c->w, "tokenizer.ggml.normalizer.lowercase", json_is_true(low));
    if (json_is_boolean(strip))
        gguf_write_bool(v->c->w, "tokenizer.ggml.normalizer.strip_accents", json_is_true(strip));
}

static int write_template(struct vocab *v)
{
    struct buf text = BUF_INIT(4 << 20);
    const json_t *j = json_object_get(v->settings, "chat_template"), *one;
    json_t *file = NULL;
    const char *s = json_string_value(j);
    size_t i;
    json_array_foreach(j, i, one)
    {
        if (!s || same(convert__str(one, "name"), "default")) s = convert__str(one, "template");
    }
    int rc = convert__json(v->c->dir, "chat_template.json", false, &file, v->e);
    if (!rc && convert__str(file, "chat_template")) s = convert__str(file, "chat_template");
    if (!rc) rc = convert__text(v->c->dir, "chat_template.jinja", &text, v->e);
    if (!rc && text.len) s = text.data;
    if (!rc && s) gguf_write_str(v->c->w, "tokenizer.chat_template", s);
    buf_free(&text);
    json_decref(file);
    return rc;
}

static int write_kind(struct vocab *v)
{
    static const char *const models[] = {
        [KIND_BPE] = "gpt2", [KIND_SPM] = "llama", [KIND_BERT] = "bert"};
    struct gguf_write *w = v->c->w;
    const char *pre = v->kind == KIND_BERT ? "bert-bge" : "default";
    if (v->kind == KIND_BPE && convert__pre_name(v->json, &pre, v->e)) return v->e->code;
    gguf_write_str(w, "tokenizer.ggml.model", models[v->kind]);
    gguf_write_str(w, "tokenizer.ggml.pre", pre);
    gguf_write_strs(w, "tokenizer.ggml.tokens", v->text, v->n);
    gguf_write_i32s(w, "tokenizer.ggml.token_type", v->type, v->n);
    if (v->kind == KIND_BPE) return write_merges(v);
    if (v->kind == KIND_BERT) {
        write_normalizer(v, json_object_get(v->json, "normalizer"));
        return 0;
    }
    gguf_write_bool(w, "tokenizer.ggml.add_space_prefix", adds_space(v));
    return write_scores(v);
}

static int write_all(struct vocab *v)
{
    struct convert *c = v->c;
    if (convert__json(c->dir, "tokenizer.json", true, &v->json, v->e) ||
        convert__json(c->dir, "tokenizer_config.json", false, &v->settings, v->e) ||
        convert__json(c->dir, "generation_config.json", false, &v->answers, v->e))
        return v->e->code;
    v->model = json_object_get(v->json, "model");
    v->added = json_object_get(v->json, "added_tokens");
    v->text = arena_alloc(&c->arena, v->n, sizeof *v->text);
    v->type = arena_alloc(&c->arena, v->n, sizeof *v->type);
    v->score = arena_alloc(&c->arena, v->n, sizeof *v->score);
    if (!v->text || !v->type || !v->score) return nomem(v);
    if (find_kind(v) || read_tokens(v) || finish_tokens(v) || write_kind(v)) return v->e->code;
    write_ids(v);
    write_added(v);
    return write_template(v);
}

int convert__vocab_write(struct convert *c, struct err *e)
{
    struct vocab v = {.c = c, .e = e, .n = c->dims.vocab};
    int rc = write_all(&v);
    json_decref(v.json);
    json_decref(v.settings);
    json_decref(v.answers);
    return rc;
}
