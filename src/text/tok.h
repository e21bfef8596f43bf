/* Text <-> token ids, with the vocabulary of a GGUF file.
 *
 *     struct tok *t;
 *     if (tok_open(&t, g, &e)) ...               copies what it needs: g may be closed after
 *     tok_encode(t, text, n, TOK_SPECIAL, &ids, &e)
 *     tok_close(t);
 *
 * Kinds (tokenizer.ggml.model): "gpt2" byte-level BPE with the pre-tokenizers of tok_pre.h,
 * "llama" SentencePiece with byte fallback, "bert" WordPiece, which gives words back, not the text
 * (letters lowered, one space between words). Another kind or pre-tokenizer is ERR_UNSUPPORTED and
 * named; a BPE file that names no pre-tokenizer has "default". Encoding is linear (n log n at
 * worst) in the text, whatever the text. Read-only after open: any thread; struct tok_stream
 * belongs to its caller.
 *
 * The ids are those of the tokenizer that came with the model. Where llama.cpp's differ from
 * those, so do ours from llama.cpp's: the leftmost special token wins where two overlap, capitals
 * and marks outside ASCII count as such in tekken and gpt-4o, white space outside ASCII can match
 * the lists of DeepSeek, bytes that are no UTF-8 stay what they are, and so does U+2581.
 */
#ifndef TOK_H
#define TOK_H

#include "buf.h"
#include "err.h"
#include "gguf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOK_NONE = -1 };

enum tok_flags {
    TOK_SPECIAL = 1,  /* control tokens written in the text ("<|im_end|>") become their ids.
                         Without it the text cannot produce a control token, whatever it holds */
    TOK_ADD_AUTO = 2, /* add BOS/EOS as the file's add_bos_token/add_eos_token say */
};

struct tok_ids { /* growable; free with tok_ids_free */
    int32_t *data;
    size_t len, room;
};

struct tok;

ERR_DOOR int tok_open(struct tok **out, const struct gguf *g, struct err *e);
void tok_close(struct tok *t);

/* Appends to *ids, or leaves it as it was. text may hold any bytes, NUL and invalid UTF-8 included;
 * those that the vocabulary has no token for become the unknown token (SentencePiece) or are
 * dropped (BPE), as in the originals. */
ERR_DOOR int tok_encode(const struct tok *t, const char *text, size_t n, unsigned flags,
                        struct tok_ids *ids, struct err *e);
/* The same for a text that is partly another's: foreign [n] has a 1 for each byte that must not
 * become part of a control token, 0 for the others; NULL: all are ours. */
ERR_DOOR int tok_encode_mixed(const struct tok *t, const char *text, const char *foreign, size_t n,
                              unsigned flags, struct tok_ids *ids, struct err *e);
void tok_ids_free(struct tok_ids *ids);

int32_t tok_size(const struct tok *t);
/* TOK_NONE where the file names none (SentencePiece: 1 and 2). WordPiece: [CLS] and [SEP]. */
int32_t tok_bos(const struct tok *t);
int32_t tok_eos(const struct tok *t);
bool tok_add_bos(const struct tok *t);
bool tok_add_eos(const struct tok *t);
/* Ends a generation: eos, eot, eom and the tokens known by their text (<|im_end|>, <|eot_id|>,
 * <end_of_turn>, <|endoftext|> ...). */
bool tok_is_end(const struct tok *t, int32_t id);
bool tok_is_control(const struct tok *t, int32_t id);
/* The id of a token by its exact text in the vocabulary, or TOK_NONE. */
int32_t tok_find(const struct tok *t, const char *text);
/* The chat template in the file, NUL-terminated, or NULL. */
const char *tok_chat_template(const struct tok *t);

/* Appends the bytes of one token to out (at most TOK_PIECE_MAX; control tokens only when
 * `special`). Single tokens may be half a character. For SentencePiece the leading space of the
 * first token of a text is the caller's to strip: tok_decode and tok_stream do. */
enum { TOK_PIECE_MAX = 4096 };
bool tok_piece(const struct tok *t, int32_t id, bool special, struct buf *out);
/* The whole text of n ids; exact inverse of tok_encode without flags, but for WordPiece. Ids out of range are refused.
 */
ERR_DOOR int tok_decode(const struct tok *t, const int32_t *ids, size_t n, bool special,
                        struct buf *out, struct err *e);

/* Token by token, never half a character: what is not yet whole waits for the next token. */
struct tok_stream {
    const struct tok *t;
    bool started; /* the next token does not begin a text: set it to go on after a prompt that ends
                     in ordinary text, so that SentencePiece's leading space is kept */
    unsigned char held[4]; /* the beginning of a character */
    unsigned n_held;
};
void tok_stream_init(struct tok_stream *s, const struct tok *t);
bool tok_stream_put(struct tok_stream *s, int32_t id, struct buf *out);
/* Bytes still held at the end are put as U+FFFD. */
bool tok_stream_end(struct tok_stream *s, struct buf *out);

#endif
