/* Pre-tokenizers: how a byte-level BPE vocabulary cuts text into words before it merges.
 *
 *     const struct tok_pre *p = tok_pre_find("qwen2", 5);     NULL: not one we know
 *     tok_pre_split(p, text, n, word, arg);                   calls word(arg, s, n) in order
 *
 * The words hold every byte of the text, in order, and none is empty. The rules are the regular
 * expressions published with the models (tokenizer.json; they stand beside the scanners that do
 * their work), found by the name that GGUF files give them in tokenizer.ggml.pre. Time is linear
 * in the text. No state, no allocation: any thread.
 */
#ifndef TOK_PRE_H
#define TOK_PRE_H

#include <stdbool.h>
#include <stddef.h>

struct tok_pre;

typedef bool tok_pre_word(void *arg, const char *s, size_t n);

const struct tok_pre *tok_pre_find(const char *name, size_t n);
/* Stops and returns false as soon as word does. */
bool tok_pre_split(const struct tok_pre *p, const char *s, size_t n, tok_pre_word *word, void *arg);

/* A word that is a token as it stands is that token, whatever the merges would make of it. */
bool tok_pre_whole_words(const struct tok_pre *p);
/* Whether a beginning-of-text token is added where the file does not say. */
bool tok_pre_adds_bos(const struct tok_pre *p);

#endif
