/* `solvent template`: messages -> the prompt, byte for byte as the model would see it; nothing is
 * loaded but the vocabulary.
 */
#include "template.h"
#include "chat.h"
#include "cmd.h"
#include "gguf.h"
#include "tok.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct options {
    const char *model, *source;
    bool no_reply;
};

static int open_vocabulary(struct tok **t, const char *model, struct err *e)
{
    char path[4096];
    struct gguf *g = NULL;
    int r = cmd_model_path(model, path, sizeof path, e);
    if (r == 0) r = gguf_open(&g, path, e);
    if (r == 0) r = tok_open(t, g, e);
    gguf_close(g);
    return r;
}

static int work(const struct options *o, struct err *e)
{
    struct tok *t = NULL;
    struct chat *c = NULL;
    struct buf source = BUF_INIT(TEMPLATE_SOURCE_MAX), in = BUF_INIT(TEMPLATE_JSON_MAX);
    struct buf out = BUF_INIT(TEMPLATE_OUT_MAX);
    int r = o->model ? open_vocabulary(&t, o->model, e) : 0;
    if (r == 0 && o->source) r = cmd_read(o->source, &source, e);
    if (r == 0)
        r = chat_open(&c, t, o->source ? source.len ? source.data : "" : NULL, source.len, e);
    if (r == 0) r = cmd_read("-", &in, e);
    if (r == 0) r = chat_render(c, in.data, in.len, o->no_reply ? 0 : CHAT_REPLY, &out, NULL, e);
    if (r == 0 && out.len) fwrite(out.data, 1, out.len, stdout);
    if (r == 0 && (fflush(stdout) || ferror(stdout)))
        r = err_set(e, ERR_IO, "cannot write standard output: %s", strerror(errno));
    chat_close(c);
    tok_close(t);
    buf_free(&source);
    buf_free(&in);
    buf_free(&out);
    return r;
}

int cmd_template(int argc, char **argv)
{
    struct options o = {0};
    const struct cmd_opt opts[] = {
        {"-m,--model", CMD_STRING, &o.model, "MODEL",
         "catalogue name or GGUF file: its template, bos_token, eos_token", 0, 0},
        {"--template", CMD_STRING, &o.source, "FILE", "a template, not the model's", 0, 0},
        {"--no-generation-prompt", CMD_FLAG, &o.no_reply, NULL,
         "end after the last message, not where the assistant begins", 0, 0},
        {0}};
    const struct cmd_usage usage = {
        "solvent template -m MODEL | --template FILE < JSON",
        "Reads messages from standard input, [{\"role\": \"user\", \"content\": \"Hi\"}], or an "
        "object\n"
        "with messages, tools and other variables of the template, and prints the prompt."};
    struct err e;
    int rest = cmd_parse(argc, argv, &usage, opts, &e);
    if (rest == CMD_HELP) return 0;
    if (rest < 0) return cmd_fail(&e);
    if (rest > 0) {
        err_set(&e, ERR_USAGE, "template reads standard input, what is '%s'?", argv[1]);
        return cmd_fail(&e);
    }
    if (!o.model && !o.source) {
        err_set(&e, ERR_USAGE, "template wants a model or a template: -m MODEL, --template FILE");
        return cmd_fail(&e);
    }
    return work(&o, &e) ? cmd_fail(&e) : 0;
}
