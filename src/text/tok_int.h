/* What the files of the tokenizer share. tok_load.c fills struct tok, everybody else reads it.
 *
 *     tok_load.c     the vocabulary of a GGUF file, checked
 *     tok.c          text -> fragments between special tokens -> ids, and back
 *     tok_special.c  finds special tokens in text
 *     tok_bpe.c      a fragment -> ids, byte-level BPE       tok_pre.c cuts it into words first
 *     tok_spm.c      a fragment -> ids, SentencePiece
 *     tok_merge.c    the merging that both end in
 *     tok_wordpiece.c  a fragment -> ids, BERT's WordPiece
 */
#ifndef TOK_INT_H
#define TOK_INT_H

#include "arena.h"
#include "map.h"
#include "tok.h"
#include "tok_pre.h"

enum tok__attr {
    TOK__CONTROL = 1,
    TOK__UNKNOWN = 2,
    TOK__USER = 4, /* "user defined": always taken from the text before anything else */
    TOK__BYTE = 8,
    TOK__END = 16,
    TOK__STRIP = 32, /* swallows the ASCII space that follows it */
    TOK__HIDDEN = TOK__CONTROL | TOK__UNKNOWN,
    TOK__SPECIAL = TOK__HIDDEN | TOK__USER, /* found by their text, not by merging */
};

struct tok {
    struct arena arena; /* all that is pointed to, but for the maps */
    int32_t n;
    struct gguf_str *text;  /* [n] as the file has it */
    struct gguf_str *piece; /* [n] the bytes it stands for */
    uint8_t *attr;          /* [n] */
    char *piece_bytes;      /* where the next piece may stand, while loading */
    int32_t bos, eos;
    int32_t unk; /* for bytes without a token; TOK_NONE, they are dropped: always so with BPE */
    bool add_bos, add_eos, add_space;
    char *chat_template;

    int32_t *special; /* [n_special] ids, sorted by their pieces' bytes */
    size_t n_special;
    int32_t special_at[257]; /* where those begin whose piece begins with this byte */

    const struct tok_pre *pre;    /* BPE; NULL: SentencePiece or WordPiece */
    bool wordpiece, lower, strip; /* lower, strip: letters are lowered, accents dropped first */
    int32_t byte[256];            /* ids of single bytes, TOK_NONE where the vocabulary has none */
    /* BPE, WordPiece: text -> id, of all tokens. SentencePiece: piece -> id, of those that merging may make. */
    struct map ids;
    struct map merges;   /* BPE: two ids -> rank */
    int32_t (*merge)[3]; /* [rank] left, right, result */
    uint32_t *order;     /* SentencePiece: [n] the higher the score the lower this */
    size_t longest;      /* bytes of the longest key of ids */
};

/* One symbol of a word that is being merged, in a list linked by index. */
enum { TOK__NO_SYM = UINT32_MAX };
struct tok__sym {
    uint32_t at, len; /* bytes of the word; len 0: merged into one before it */
    int32_t id;       /* TOK_NONE: a character that is no token */
    uint32_t prev, next;
};

struct tok__pair {
    uint32_t order, left, len; /* lowest order first, then leftmost; len: of both symbols */
    int32_t id;
};

/* Memory of one tok_encode, or of many tok__encode_on. */
struct tok__work {
    const struct tok *t;
    struct tok_ids *ids;
    struct tok__sym *sym;
    struct tok__pair *heap;
    size_t n_heap, sym_room, heap_room;
    char *copy;   /* SentencePiece: a fragment behind its space */
    bool goes_on; /* after other text: no space is put before it */
};

/* Room for texts of n bytes and the tokens of each: tok__encode_on then allocates nothing. */
bool tok__work_open(struct tok__work *w, const struct tok *t, struct tok_ids *ids, size_t n);
void tok__work_close(struct tok__work *w);
/* Text that goes on after other text; the ids are put in place of those before. False: there was no room. */
bool tok__encode_on(struct tok__work *w, const char *s, size_t n);

bool tok__push(struct tok_ids *ids, int32_t id);

/* Room for n symbols in w->sym and for their merging; false when memory ran out. */
bool tok__reserve(struct tok__work *w, size_t n);

/* Fills order and id when the two symbols next to each other may merge. */
typedef bool tok__pair_fn(const struct tok *t, const char *s, const struct tok__sym *l,
                          const struct tok__sym *r, struct tok__pair *out);
/* Merges n >= 1 symbols in w->sym until no pair is left; the result is the list from w->sym[0]. */
void tok__merge(struct tok__work *w, const char *s, size_t n, tok__pair_fn *pair);

/* Each appends the ids of n bytes that hold no special token; false when memory ran out. */
bool tok__bpe_encode(struct tok__work *w, const char *s, size_t n);
bool tok__spm_encode(struct tok__work *w, const char *s, size_t n);
bool tok__wordpiece_encode(struct tok__work *w, const char *s, size_t n);

/* Each fills what its kind needs from the file; text, attr and n stand already. */
ERR_DOOR int tok__bpe_load(struct tok *t, const struct gguf *g, struct err *e);
ERR_DOOR int tok__spm_load(struct tok *t, const struct gguf *g, struct err *e);
void tok__wordpiece_load(struct tok *t, const struct gguf *g);

ERR_DOOR int tok__special_load(struct tok *t, struct err *e);
/* The first special token in s[from..n), the longest that begins there; control tokens only with
 * TOK_SPECIAL, and of no byte that foreign (as in tok_encode_mixed) marks. Returns its place and
 * fills *id, or returns n. */
size_t tok__special_find(const struct tok *t, const char *s, const char *foreign, size_t from,
                         size_t n, unsigned flags, int32_t *id);

#endif
