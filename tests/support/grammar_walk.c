/* Random answers along the masks of grammars.
 *
 *     grammar_walk MODEL.gguf KIND ANSWERS SEED < GRAMMARS
 *
 * KIND is schema, gbnf or regex; GRAMMARS stand one a line ("\n" in a line of gbnf is a line's end). For each a line
 * "ok" or "refused: why", after "ok" a line for each answer: a tab and its text; "unfinished" before the tab where it
 * did not end within TOKENS. Tokens are picked by a seeded random choice among those allowed, from CALM on among those
 * that lead to an end. stderr tells what a mask took. Exits with 1 where mask and accept disagree or a mask is
 * empty.
 */
#include "buf.h"
#include "grammar.h"
#include "rng.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TOKENS = 3000, CALM = 60 };

static struct tok *tok;
static struct grammar_tokens *tokens;
static uint64_t *bits;
static int32_t *list; /* of pick */
static char *first;   /* [tokens] first bytes */
static struct rng rng;
static uint64_t n_masks, sum_ns, worst_ns;

/* Of this thread, so that a busy machine does not count. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *why)
{
    fprintf(stderr, "grammar_walk: %s\n", why);
    exit(1);
}

/* The lower the nearer to an end; brackets are text where nearly all may come. */
static int rank(int32_t id, bool in_text)
{
    if (tok_is_end(tok, id)) return 0;
    if (first[id] == '"') return 2;
    if (in_text || !first[id]) return 4;
    if (strchr("]}", first[id])) return 1;
    if (strchr("ntf0123456789", first[id])) return 3;
    return strchr("{[", first[id]) ? 5 : 4;
}

static void read_first(void)
{
    first = calloc((size_t)tok_size(tok), 1);
    for (int32_t i = 0; first && i < tok_size(tok); i++) {
        struct buf piece = BUF_INIT(TOK_PIECE_MAX);
        tok_piece(tok, i, false, &piece);
        if (piece.len) first[i] = piece.data[0];
        buf_free(&piece);
    }
    if (!first) die("out of memory");
}

static bool allowed(int32_t id)
{
    return bits[id >> 6] >> (id & 63) & 1;
}

static int32_t pick(bool calm)
{
    int32_t n = 0, k = 0, best = 9;
    for (int32_t w = 0; w <= (tok_size(tok) - 1) / 64; w++)
        for (uint64_t left = bits[w]; left; left &= left - 1)
            list[n++] = w * 64 + __builtin_ctzll(left);
    bool in_text = n > tok_size(tok) / 2, ranked = calm && rng_below(&rng, 2);
    for (int32_t i = 0; ranked && i < n; i++)
        if (rank(list[i], in_text) < best) best = rank(list[i], in_text);
    for (int32_t i = 0; i < n; i++)
        if (!ranked || rank(list[i], in_text) == best) list[k++] = list[i];
    if (k == 0) die("a mask without a token");
    int32_t at = (int32_t)rng_below(&rng, (uint64_t)k);
    if (!calm) return list[at];
    for (uint8_t byte = (uint8_t)rng_below(&rng, 256);; byte++) /* as likely as its first byte is */
        for (int32_t i = 0; i < k; i++)
            if ((uint8_t)first[list[(at + i) % k]] == byte) return list[(at + i) % k];
}

/* What the mask does not allow is not accepted. */
static void check_refusals(struct grammar_match *m)
{
    for (int i = 0; i < 20; i++) {
        int32_t id = (int32_t)rng_below(&rng, (uint64_t)tok_size(tok));
        if (!allowed(id) && grammar_match_accept(m, id)) die("a token was accepted, not allowed");
    }
}

static void answer(const struct grammar *g)
{
    struct grammar_match *m;
    struct buf text = BUF_INIT(1 << 24);
    struct tok_stream s;
    struct err e;
    bool ended = false;
    if (grammar_match_open(&m, g, tokens, false, &e)) die(e.msg);
    tok_stream_init(&s, tok);
    for (int i = 0; i < TOKENS && !ended; i++) {
        uint64_t start = cpu_ns();
        grammar_match_mask(m, bits);
        uint64_t took = cpu_ns() - start;
        n_masks++, sum_ns += took;
        if (took > worst_ns) worst_ns = took;
        int32_t id = TOK_NONE;
        if (grammar_match_may_end(m) && rng_below(&rng, 3) == 0)
            for (id = 0; !tok_is_end(tok, id); id++)
                ;
        if (id == TOK_NONE) id = pick(i > CALM || rng_below(&rng, 4) == 0);
        check_refusals(m);
        ended = tok_is_end(tok, id);
        if (!allowed(id) || !grammar_match_accept(m, id)) die("a token was allowed, not accepted");
        if (!ended) tok_stream_put(&s, id, &text);
    }
    tok_stream_end(&s, &text);
    printf("%s\t%s\n", ended ? "" : "unfinished", text.data ? text.data : "");
    grammar_match_close(m);
    buf_free(&text);
}

static int open_grammar(struct grammar **g, const char *kind, char *line, struct err *e)
{
    size_t n = strlen(line), k = 0;
    if (strcmp(kind, "schema") == 0) return grammar_schema(g, line, n, e);
    if (strcmp(kind, "regex") == 0) return grammar_regex(g, line, n, e);
    for (size_t i = 0; i < n; i++) {
        bool end = line[i] == '\\' && line[i + 1] == 'n';
        line[k++] = end ? '\n' : line[i];
        i += end;
    }
    return grammar_gbnf(g, line, k, e);
}

int main(int argc, char **argv)
{
    struct gguf *file;
    struct err e;
    char *line = NULL;
    size_t room = 0;
    if (argc != 5) die("MODEL.gguf KIND ANSWERS SEED < GRAMMARS");
    if (gguf_open(&file, argv[1], &e) || tok_open(&tok, file, &e) ||
        grammar_tokens_open(&tokens, tok, &e))
        die(e.msg);
    gguf_close(file);
    bits = calloc((size_t)tok_size(tok) / 64 + 1, sizeof *bits);
    list = calloc((size_t)tok_size(tok), sizeof *list);
    if (!bits || !list) die("out of memory");
    read_first();
    rng_init(&rng, strtoull(argv[4], NULL, 10));
    while (getline(&line, &room, stdin) > 0) {
        struct grammar *g;
        line[strcspn(line, "\n")] = 0;
        if (open_grammar(&g, argv[2], line, &e)) {
            printf("refused: %s\n", e.msg);
            continue;
        }
        printf("ok\n");
        for (int i = 0; i < atoi(argv[3]); i++) answer(g);
        grammar_close(g);
    }
    fprintf(stderr, "%llu masks of %d tokens, mean %.1f us, worst %.1f us\n",
            (unsigned long long)n_masks, tok_size(tok),
            n_masks ? (double)sum_ns / 1e3 / (double)n_masks : 0, (double)worst_ns / 1e3);
    free(line);
    free(bits);
    free(list);
    free(first);
    grammar_tokens_close(tokens);
    tok_close(tok);
    return 0;
}
