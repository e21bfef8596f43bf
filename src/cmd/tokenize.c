/* `solvent tokenize`: text -> ids -> text, with nothing but the vocabulary of a file.
 *
 * Both directions have two modes, and each mode is its own inverse. By default the text is a
 * prompt: control tokens written in it are control tokens, and the ids begin and end as the file
 * wants a prompt to begin and end. With --no-special the text is only text: no input can make a
 * control token, and every byte comes back.
 */
#include "cmd.h"

#include "gguf.h"
#include "tok.h"
#include "unicode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 1 << 30 };

struct options {
    const char *model;
    bool no_special, detokenize, show;
};

static int read_stdin(struct buf *in, struct err *e)
{
    char part[1 << 16];
    for (size_t n; (n = fread(part, 1, sizeof part, stdin)) > 0;)
        if (!buf_put(in, part, n))
            return err_set(e, ERR_LIMIT, "standard input holds more than %d bytes", INPUT_MAX);
    if (ferror(stdin)) return err_set(e, ERR_IO, "cannot read standard input: %s", strerror(errno));
    return buf_puts(in, "") ? 0 : err_nomem(e, 1, "standard input");
}

/* What could trouble a terminal or the lines is shown as escapes. */
static void print_piece(const struct buf *piece)
{
    for (size_t i = 0; i < piece->len;) {
        const char *p = piece->data + i;
        struct unicode_char c = unicode_at(p, piece->len - i);
        i += c.bytes;
        if (*p == '\\' || *p == '"')
            printf("\\%c", *p);
        else if (*p == ' ' || (!(c.class & (UNICODE_OTHER | UNICODE_SPACE)) &&
                               unicode_length(p, c.bytes) == c.bytes))
            fwrite(p, 1, c.bytes, stdout);
        else
            for (unsigned k = 0; k < c.bytes; k++) printf("\\x%02x", (unsigned char)p[k]);
    }
}

static int print_ids(const struct tok *t, const struct tok_ids *ids, bool show, struct err *e)
{
    struct buf piece = BUF_INIT(TOK_PIECE_MAX);
    bool ok = true;
    for (size_t i = 0; i < ids->len && ok; i++) {
        if (!show) {
            printf("%s%d", i ? " " : "", (int)ids->data[i]);
            continue;
        }
        buf_reset(&piece);
        ok = tok_piece(t, ids->data[i], true, &piece);
        printf("%6d  \"", (int)ids->data[i]);
        print_piece(&piece);
        printf("\"%s\n", tok_is_control(t, ids->data[i]) ? "  control" : "");
    }
    if (!show) putchar('\n');
    buf_free(&piece);
    return ok ? 0 : err_nomem(e, TOK_PIECE_MAX, "a piece");
}

static int to_ids(const struct tok *t, const struct options *o, const struct buf *in, struct err *e)
{
    struct tok_ids ids = {0};
    unsigned flags = o->no_special ? 0 : TOK_SPECIAL | TOK_ADD_AUTO;
    int r = tok_encode(t, in->data, in->len, flags, &ids, e);
    if (r == 0) r = print_ids(t, &ids, o->show, e);
    tok_ids_free(&ids);
    return r;
}

/* Numbers, apart or between the commas and brackets of a list; int32_t in *ids. */
static int parse_ids(const struct buf *in, struct buf *ids, struct err *e)
{
    static const char gaps[] = " \t\r\n,[]";
    for (const char *p = in->data; (p += strspn(p, gaps)) < in->data + in->len;) {
        size_t len = strcspn(p, gaps);
        char *end;
        errno = 0;
        long n = strtol(p, &end, 10);
        if (len == 0 || end != p + len || errno || n < 0 || n > INT32_MAX)
            return err_set(e, ERR_FORMAT, "'%.*s' in standard input is no token id",
                           len < 40 ? (int)len : 40, p);
        int32_t id = (int32_t)n;
        if (!buf_put(ids, &id, sizeof id)) return err_nomem(e, ids->len, "token ids");
        p = end;
    }
    return 0;
}

static int to_text(const struct tok *t, const struct options *o, const struct buf *in,
                   struct err *e)
{
    struct buf ids = BUF_INIT((size_t)INPUT_MAX * 4), out = BUF_INIT(SIZE_MAX / 2);
    int r = parse_ids(in, &ids, e);
    const int32_t *id = (const int32_t *)(const void *)ids.data;
    size_t n = ids.len / sizeof *id;
    if (!o->no_special && tok_add_bos(t) && n > 0 && id[0] == tok_bos(t)) id++, n--;
    if (!o->no_special && tok_add_eos(t) && n > 0 && id[n - 1] == tok_eos(t)) n--;
    if (r == 0) r = tok_decode(t, id, n, !o->no_special, &out, e);
    if (r == 0 && out.len) fwrite(out.data, 1, out.len, stdout);
    buf_free(&out);
    buf_free(&ids);
    return r;
}

static int work(const struct options *o, struct err *e)
{
    char path[4096];
    struct gguf *g = NULL;
    struct tok *t = NULL;
    struct buf in = BUF_INIT(INPUT_MAX);
    int r = cmd_model_path(o->model, path, sizeof path, e);
    if (r == 0) r = gguf_open(&g, path, e);
    if (r == 0) r = tok_open(&t, g, e);
    gguf_close(g);
    if (r == 0) r = read_stdin(&in, e);
    if (r == 0) r = o->detokenize ? to_text(t, o, &in, e) : to_ids(t, o, &in, e);
    if (r == 0 && (fflush(stdout) || ferror(stdout)))
        r = err_set(e, ERR_IO, "cannot write standard output: %s", strerror(errno));
    buf_free(&in);
    tok_close(t);
    return r;
}

int cmd_tokenize(int argc, char **argv)
{
    struct options o = {0};
    const struct cmd_opt opts[] = {
        {"-m,--model", CMD_STRING, &o.model, "MODEL", "catalogue name or GGUF file", 0, 0},
        {"--no-special", CMD_FLAG, &o.no_special, NULL,
         "control tokens in the text are text, none are added or printed", 0, 0},
        {"--detokenize", CMD_FLAG, &o.detokenize, NULL, "read ids, print the bytes they stand for",
         0, 0},
        {"--show", CMD_FLAG, &o.show, NULL, "an id and its piece a line, for people", 0, 0},
        {0}};
    const struct cmd_usage usage = {
        "solvent tokenize -m MODEL < TEXT",
        "Reads text from standard input and prints its token ids on one line. The file needs to\n"
        "hold a vocabulary only. What comes out goes back in through --detokenize."};
    struct err e;
    int rest = cmd_parse(argc, argv, &usage, opts, &e);
    if (rest == CMD_HELP) return 0;
    if (rest < 0) return cmd_fail(&e);
    if (rest > 0) {
        err_set(&e, ERR_USAGE, "tokenize reads standard input, what is '%s'?", argv[1]);
        return cmd_fail(&e);
    }
    if (!o.model || (o.show && o.detokenize)) {
        err_set(&e, ERR_USAGE,
                o.model ? "--show and --detokenize exclude each other"
                        : "tokenize wants a model: -m MODEL");
        return cmd_fail(&e);
    }
    return work(&o, &e) ? cmd_fail(&e) : 0;
}
