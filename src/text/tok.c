/* Text -> ids: special tokens are taken out first, what lies between goes to the vocabulary's kind.
 * Ids -> text: the pieces one after another. With a SentencePiece vocabulary that begins texts with
 * a space, the encoder puts one at the start and after each special token, and decoding takes away
 * exactly those: the two are inverse to each other for any bytes.
 */
#include "tok_int.h"

#include "unicode.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 1 << 26, IDS_MAX = 1 << 28 };

bool tok__push(struct tok_ids *ids, int32_t id)
{
    if (ids->len == ids->room) {
        size_t room = ids->room ? ids->room * 2 : 64;
        int32_t *data = room <= IDS_MAX ? realloc(ids->data, room * sizeof *data) : NULL;
        if (!data) return false;
        ids->data = data, ids->room = room;
    }
    ids->data[ids->len++] = id;
    return true;
}

void tok_ids_free(struct tok_ids *ids)
{
    if (!ids) return;
    free(ids->data);
    *ids = (struct tok_ids){0};
}

static bool encode_fragment(struct tok__work *w, const char *s, size_t n)
{
    if (n == 0) return true;
    if (w->t->wordpiece) return tok__wordpiece_encode(w, s, n);
    if (w->t->pre) return tok__bpe_encode(w, s, n);
    bool on = w->goes_on;
    w->goes_on = false;
    if (!w->t->add_space || on) return tok__spm_encode(w, s, n);
    char *copy = realloc(w->copy, n + 1);
    if (!copy) return false;
    w->copy = copy;
    copy[0] = ' ';
    memcpy(copy + 1, s, n);
    return tok__spm_encode(w, copy, n + 1);
}

static bool encode(struct tok__work *w, const char *s, const char *foreign, size_t n,
                   unsigned flags)
{
    const struct tok *t = w->t;
    if (flags & TOK_ADD_AUTO && t->add_bos && !tok__push(w->ids, t->bos)) return false;
    for (size_t at = 0; at < n;) {
        int32_t id = TOK_NONE;
        size_t hit = tok__special_find(t, s, foreign, at, n, flags, &id);
        if (!encode_fragment(w, s + at, hit - at)) return false;
        if (hit == n) break;
        if (!tok__push(w->ids, id)) return false;
        at = hit + t->piece[id].n;
        if (flags & TOK_SPECIAL && t->attr[id] & TOK__STRIP)
            while (at < n && s[at] && strchr(" \t\n\v\f\r", s[at])) at++;
    }
    return !(flags & TOK_ADD_AUTO && t->add_eos) || tok__push(w->ids, t->eos);
}

int tok_encode(const struct tok *t, const char *text, size_t n, unsigned flags, struct tok_ids *ids,
               struct err *e)
{
    return tok_encode_mixed(t, text, NULL, n, flags, ids, e);
}

int tok_encode_mixed(const struct tok *t, const char *text, const char *foreign, size_t n,
                     unsigned flags, struct tok_ids *ids, struct err *e)
{
    if (n > TEXT_MAX)
        return err_set(e, ERR_LIMIT, "%zu bytes of text, at most %d are read at once", n, TEXT_MAX);
    struct tok__work w = {.t = t, .ids = ids};
    size_t before = ids->len;
    bool ok = encode(&w, text, foreign, n, flags);
    tok__work_close(&w);
    if (ok) return 0;
    ids->len = before;
    return err_nomem(e, n, "tokens");
}

bool tok__work_open(struct tok__work *w, const struct tok *t, struct tok_ids *ids, size_t n)
{
    *w = (struct tok__work){.t = t, .ids = ids};
    w->copy = malloc(n + 1);
    ids->room =
        2 * n + 1; /* a byte makes a token, and the space that SentencePiece puts before it */
    ids->data = malloc(ids->room * sizeof *ids->data);
    if (!ids->data) ids->room = 0;
    return w->copy && ids->data && tok__reserve(w, n + 1);
}

void tok__work_close(struct tok__work *w)
{
    free(w->sym);
    free(w->heap);
    free(w->copy);
}

bool tok__encode_on(struct tok__work *w, const char *s, size_t n)
{
    w->ids->len = 0;
    w->goes_on = true;
    return encode(w, s, NULL, n, 0);
}

int32_t tok_size(const struct tok *t)
{
    return t->n;
}

int32_t tok_bos(const struct tok *t)
{
    return t->bos;
}

int32_t tok_eos(const struct tok *t)
{
    return t->eos;
}

bool tok_add_bos(const struct tok *t)
{
    return t->add_bos;
}

bool tok_add_eos(const struct tok *t)
{
    return t->add_eos;
}

static bool has(const struct tok *t, int32_t id, int attr)
{
    return id >= 0 && id < t->n && t->attr[id] & attr;
}

bool tok_is_end(const struct tok *t, int32_t id)
{
    return has(t, id, TOK__END);
}

bool tok_is_control(const struct tok *t, int32_t id)
{
    return has(t, id, TOK__CONTROL);
}

int32_t tok_find(const struct tok *t, const char *text)
{
    for (int32_t i = 0; i < t->n; i++)
        if (t->text[i].n && gguf_str_eq(t->text[i], text)) return i;
    return TOK_NONE;
}

const char *tok_chat_template(const struct tok *t)
{
    return t->chat_template;
}

bool tok_piece(const struct tok *t, int32_t id, bool special, struct buf *out)
{
    if (id < 0 || id >= t->n || (!special && has(t, id, TOK__HIDDEN))) return !out->failed;
    return buf_put(out, t->piece[id].p, t->piece[id].n);
}

/* The bytes of a token in a text; *started says whether a space before it is the text's own. */
static struct gguf_str next_piece(const struct tok *t, int32_t id, bool special, bool *started)
{
    struct gguf_str p = {NULL, 0};
    if (id < 0 || id >= t->n) return p;
    if (special || !has(t, id, TOK__HIDDEN)) p = t->piece[id];
    bool is_special = has(t, id, TOK__SPECIAL);
    if (t->add_space && !*started && !is_special && p.n && p.p[0] == ' ') p.p++, p.n--;
    *started = !is_special;
    return p;
}

int tok_decode(const struct tok *t, const int32_t *ids, size_t n, bool special, struct buf *out,
               struct err *e)
{
    bool started = false;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= t->n)
            return err_set(e, ERR_FORMAT, "token id %d is not in 0..%d", (int)ids[i],
                           (int)t->n - 1);
    for (size_t i = 0; i < n; i++) {
        struct gguf_str p = next_piece(t, ids[i], special, &started);
        if (!buf_put(out, p.p, p.n)) return err_nomem(e, out->len + p.n, "text");
    }
    return 0;
}

void tok_stream_init(struct tok_stream *s, const struct tok *t)
{
    *s = (struct tok_stream){.t = t};
}

static bool put_replacement(struct buf *out)
{
    return buf_puts(out, "\xef\xbf\xbd");
}

/* Puts what is decided of the bytes held: a whole character, or one U+FFFD for ill-formed ones. */
static bool settle(struct tok_stream *s, struct buf *out)
{
    while (s->n_held) {
        int length = unicode_length(s->held, s->n_held);
        if (length == 0) return !out->failed;
        unsigned n = (unsigned)abs(length);
        if (!(length > 0 ? buf_put(out, s->held, n) : put_replacement(out))) return false;
        s->n_held -= n;
        memmove(s->held, s->held + n, s->n_held);
    }
    return !out->failed;
}

bool tok_stream_put(struct tok_stream *s, int32_t id, struct buf *out)
{
    struct gguf_str p = next_piece(s->t, id, false, &s->started);
    for (size_t i = 0; i < p.n; i++) {
        s->held[s->n_held++] = (unsigned char)p.p[i];
        if (!settle(s, out)) return false;
    }
    return !out->failed;
}

bool tok_stream_end(struct tok_stream *s, struct buf *out)
{
    bool cut = s->n_held > 0;
    s->n_held = 0;
    return cut ? put_replacement(out) : !out->failed;
}
