/* Steps: slices of sequences become rows of forward passes of at most `chunk` rows. A step is
 * checked whole before anything is computed (lengths, pages, token ids), so a refused one changes
 * nothing. */
#include "engine.h"

#include "cpu.h"
#include "kv.h"
#include "llm.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_DEFAULT = 512,
    CHUNK_MAX = 8192,
    SEQS_MAX = 1024,
    CTX_DEFAULT = 8192,
    CTX_MAX = 1 << 24
};

struct engine {
    struct gguf *g;
    struct tok *tok;
    struct nn *nn;
    struct llm *llm;
    struct llm_info info;
    struct kv kv;
    int ctx, chunk, max_seqs, pages;
    const char *type;
    uint64_t file;
    /* A pass's rows, [chunk] each. */
    int32_t *tokens;
    int *pos, *out_rows;
    struct nn_span *spans; /* [max_seqs] */
    float *out;            /* logits or hidden rows of a step */
    size_t out_floats;
};

static int limits(struct engine *en, const struct engine_opts *o, struct err *e)
{
    en->chunk = o->chunk ? o->chunk : CHUNK_DEFAULT;
    en->max_seqs = o->max_seqs ? o->max_seqs : 1;
    if (en->chunk < 1 || en->chunk > CHUNK_MAX)
        return err_set(e, ERR_USAGE, "a chunk of %d tokens; 1 to %d are possible", en->chunk,
                       CHUNK_MAX);
    if (en->max_seqs < 1 || en->max_seqs > SEQS_MAX)
        return err_set(e, ERR_USAGE, "%d sequences; 1 to %d are possible", en->max_seqs, SEQS_MAX);
    if (o->ctx < 0 || o->ctx > CTX_MAX)
        return err_set(e, ERR_USAGE, "a context of %d tokens; up to %d are possible", o->ctx,
                       CTX_MAX);
    return 0;
}

static size_t width(const struct engine *en, bool hidden)
{
    return (size_t)(hidden ? en->info.d_model : en->info.vocab);
}

/* Only a step that wants more than any before it allocates. */
static int room_for(struct engine *en, size_t floats, struct err *e)
{
    if (floats <= en->out_floats) return 0;
    size_t bytes = (floats * sizeof *en->out + 63) / 64 * 64;
    float *p = aligned_alloc(64, bytes);
    if (!p) return err_nomem(e, bytes, "logits");
    free(en->out);
    en->out = p;
    en->out_floats = floats;
    return 0;
}

static int make_rows(struct engine *en, struct err *e)
{
    size_t n = (size_t)en->chunk;
    en->tokens = malloc(n * sizeof *en->tokens);
    en->pos = malloc(n * sizeof *en->pos);
    en->out_rows = malloc(n * sizeof *en->out_rows);
    en->spans = malloc((size_t)en->max_seqs * sizeof *en->spans);
    if (!en->tokens || !en->pos || !en->out_rows || !en->spans)
        return err_nomem(e, n * sizeof *en->pos, "the rows of a step");
    return room_for(en, (size_t)en->max_seqs * width(en, !en->info.head), e);
}

static int open_kv(struct engine *en, const struct engine_opts *o, struct err *e)
{
    int train = en->info.ctx_train;
    en->ctx = o->ctx ? o->ctx : train < CTX_DEFAULT ? train : CTX_DEFAULT;
    if (en->info.encoder && !o->ctx && en->ctx > en->chunk) en->ctx = en->chunk;
    if (en->info.encoder && (en->ctx > train || en->ctx > en->chunk))
        return err_set(e, ERR_USAGE, "a context of %d tokens; this model can read %d at once",
                       en->ctx, train < en->chunk ? train : en->chunk);
    int64_t tokens = o->kv_tokens ? o->kv_tokens : (int64_t)en->ctx * en->max_seqs;
    if (tokens > INT32_MAX / 2)
        return err_set(e, ERR_LIMIT, "%lld tokens of KV cache", (long long)tokens);
    struct nn_kv shape = {.layers = en->info.kv_layers,
                          .heads = en->info.kv_heads,
                          .d_head = en->info.d_head,
                          .kind = o->exact     ? KERN_KV_F32
                                  : o->kv_int8 ? KERN_KV_I8
                                               : KERN_KV_I16};
    if (o->exact && o->kv_int8)
        return err_set(e, ERR_USAGE,
                       "an exact computation keeps its KV cache in float32, not in 8 bits");
    if (o->pages < 0 || o->pages > INT32_MAX / 4)
        return err_set(e, ERR_LIMIT, "%d pages of KV cache", o->pages);
    size_t bytes = nn_kv_page_bytes(&shape) * (size_t)shape.layers;
    en->pages = o->pages;
    if (o->pages_bytes && o->pages_bytes / bytes < (size_t)en->pages)
        en->pages = (int)(o->pages_bytes / bytes);
    return kv_init(&en->kv, &shape, en->max_seqs, en->ctx, (int)tokens, en->pages, e);
}

static void about_file(struct engine *en)
{
    size_t bytes[QUANT_TYPE_END] = {0};
    uint32_t most = 0;
    for (size_t i = 0; i < gguf_tensor_count(en->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(en->g, i);
        bytes[t->type] += t->bytes;
        if (bytes[t->type] > bytes[most]) most = t->type;
    }
    en->type = quant_name(most);
    en->file = gguf_identity(en->g);
}

int engine_open(struct engine **out, const char *path, const struct engine_opts *o, struct err *e)
{
    struct engine *en = calloc(1, sizeof *en);
    if (!en) return err_nomem(e, sizeof *en, "an engine");
    int rc = limits(en, o, e);
    if (!rc) rc = gguf_open(&en->g, path, e);
    if (!rc && !o->peek) rc = tok_open(&en->tok, en->g, e);
    if (!rc) rc = nn_open(&en->nn, o->threads ? o->threads : cpu_count(), o->cpu, o->exact, e);
    struct llm_opts m = {.max_rows = en->chunk,
                         .no_head = o->embed,
                         .peek = o->peek,
                         .packs = o->packs,
                         .path = path,
                         .progress = o->progress,
                         .progress_arg = o->progress_arg};
    if (!rc) rc = llm_open(&en->llm, en->g, en->nn, &m, e);
    if (!rc) {
        llm_info(en->llm, &en->info);
        rc = en->info.head || o->embed
                 ? open_kv(en, o, e)
                 : err_set(e, ERR_UNSUPPORTED,
                           "a %s model has no words to say, only vectors: see `solvent embed`",
                           en->info.arch);
    }
    if (!rc) rc = make_rows(en, e);
    if (!rc) about_file(en);
    if (rc)
        engine_close(en);
    else
        *out = en;
    return rc;
}

void engine_close(struct engine *en)
{
    if (!en) return;
    kv_free(&en->kv);
    llm_close(en->llm);
    nn_close(en->nn);
    tok_close(en->tok);
    gguf_close(en->g);
    free(en->tokens);
    free(en->pos);
    free(en->out_rows);
    free(en->spans);
    free(en->out);
    free(en);
}

void engine_info(const struct engine *en, struct engine_info *info)
{
    const struct llm_info *m = &en->info;
    *info = (struct engine_info){.arch = m->arch,
                                 .encoder = m->encoder,
                                 .cpu = nn_kern(en->nn)->name,
                                 .type = en->type,
                                 .file = en->file,
                                 .file_bytes = gguf_file_bytes(en->g),
                                 .threads = nn_threads(en->nn),
                                 .ctx = en->ctx,
                                 .ctx_train = m->ctx_train,
                                 .n_layers = m->layers,
                                 .d_model = m->d_model,
                                 .n_vocab = m->vocab,
                                 .chunk = en->chunk,
                                 .max_seqs = en->max_seqs,
                                 .pages = en->pages,
                                 .pooling = m->pooling,
                                 .n_params = m->params,
                                 .weight_bytes = m->weight_bytes,
                                 .kv_bytes = en->kv.bytes,
                                 .page_bytes =
                                     nn_kv_page_bytes(&en->kv.store) * (size_t)en->kv.store.layers,
                                 .step_bytes = m->scratch_bytes + en->out_floats * sizeof *en->out,
                                 .macs_per_token = m->macs_per_token,
                                 .macs_head = m->macs_head,
                                 .bytes_per_token = m->bytes_per_token};
}

size_t engine_bytes(const struct engine_info *info)
{
    /* An encoder keeps no pages: what is there serves one layer after the other. */
    size_t pages = info->encoder ? 0 : info->kv_bytes; /* those of sequences (texts), too */
    return info->weight_bytes + info->step_bytes + pages;
}

const struct tok *engine_tok(const struct engine *en)
{
    return en->tok;
}

int engine_vocab(const struct engine *en)
{
    return en->info.vocab;
}

int engine_seq_open(struct engine *en)
{
    for (int i = 0; i < en->max_seqs; i++)
        if (!en->kv.seqs[i].open) {
            en->kv.seqs[i].open = true;
            return i;
        }
    return ERR_LIMIT;
}

void engine_seq_close(struct engine *en, int seq)
{
    kv_shrink(&en->kv, seq, 0);
    en->kv.seqs[seq].open = false;
}

int engine_seq_len(const struct engine *en, int seq)
{
    return en->kv.seqs[seq].len;
}

void engine_seq_truncate(struct engine *en, int seq, int n)
{
    assert(n >= 0 && n <= en->kv.seqs[seq].len);
    kv_shrink(&en->kv, seq, n);
}

int engine_room(const struct engine *en)
{
    return en->kv.n_free * KERN_PAGE;
}

/* Tokens before the slice's own. */
static int begin_of(const struct engine *en, const struct engine_slice *s)
{
    return s->pages ? s->pos : en->kv.seqs[s->seq].len;
}

static bool wants_all(const struct engine_slice *s)
{
    return s->want == ENGINE_LOGITS_ALL || s->want == ENGINE_HIDDEN_ALL;
}

/* How many of its last rows. */
static int wanted(const struct engine_slice *s)
{
    if (s->want == ENGINE_LOGITS_NONE) return 0;
    return wants_all(s) ? s->n : s->last ? s->last : 1;
}

static bool wants_hidden(const struct engine_slice *s)
{
    return s->want >= ENGINE_HIDDEN_LAST;
}

/* What kind of rows the slices want, all the same. */
static int check_wants(const struct engine *en, const struct engine_slice *slices, int n_slices,
                       bool *hidden, struct err *e)
{
    bool logits = false;
    for (int i = 0; i < n_slices; i++) {
        const struct engine_slice *s = &slices[i];
        if (wants_hidden(s))
            *hidden = true;
        else if (s->want != ENGINE_LOGITS_NONE)
            logits = true;
        if (wants_all(s) && s->n > en->chunk)
            return err_set(e, ERR_LIMIT, "%s of %d tokens at once; up to %d are possible",
                           *hidden ? "hidden rows" : "logits", s->n, en->chunk);
    }
    if (logits && *hidden)
        return err_set(e, ERR_USAGE, "a step gives logits or hidden rows, not both");
    if (logits && !en->info.head)
        return err_set(e, ERR_UNSUPPORTED, "logits are wanted, but no LM head is loaded");
    return 0;
}

static int check(const struct engine *en, const struct engine_slice *slices, int n_slices,
                 int *rows, struct err *e)
{
    int pages = 0;
    if (n_slices < 1 || n_slices > en->max_seqs)
        return err_set(e, ERR_LIMIT, "%d slices in a step; 1 to %d are possible", n_slices,
                       en->max_seqs);
    for (int i = 0; i < n_slices; i++) {
        const struct engine_slice *s = &slices[i];
        int begin = begin_of(en, s);
        if (s->n < 1 || s->n > en->ctx - begin)
            return err_set(e, ERR_LIMIT, "%d tokens after %d do not fit a context of %d", s->n,
                           begin, en->ctx);
        if (en->info.encoder && begin)
            return err_set(e, ERR_LIMIT,
                           "an encoder reads a text at once; sequence %d holds %d tokens", s->seq,
                           begin);
        for (int t = 0; t < s->n; t++)
            if (s->tokens[t] < 0 || s->tokens[t] >= en->info.vocab)
                return err_set(e, ERR_FORMAT, "token %d is outside the vocabulary of %d",
                               s->tokens[t], en->info.vocab);
        if (!s->pages) pages += kv_pages_of(begin + s->n) - en->kv.seqs[s->seq].n_pages;
        assert(wanted(s) <= s->n);
        *rows += wanted(s);
    }
    if (pages > en->kv.n_free)
        return err_set(e, ERR_LIMIT, "the KV cache has %d pages left, %d are needed", en->kv.n_free,
                       pages);
    return 0;
}

/* Where the next wanted row of the pass goes. */
static float *out_at(const struct engine *en, const struct llm_step *pass)
{
    bool hidden = pass->hidden != NULL;
    return (hidden ? pass->hidden : pass->logits) + (size_t)pass->n_out * width(en, hidden);
}

/* An empty pass that puts what is wanted at out. */
static void begin_pass(const struct engine *en, struct llm_step *pass, float *out, bool hidden)
{
    *pass = (struct llm_step){.tokens = en->tokens,
                              .pos = en->pos,
                              .spans = en->spans,
                              .out_rows = en->out_rows,
                              .logits = hidden ? NULL : out,
                              .hidden = hidden ? out : NULL};
}

/* Rows first .. first + n - 1 of slice s into the pass. */
static void add_rows(struct engine *en, struct llm_step *pass, struct engine_slice *s, int start,
                     int first, int n)
{
    const int32_t *pages = s->pages ? s->pages : en->kv.seqs[s->seq].pages;
    for (int t = 0; t < n; t++) {
        en->tokens[pass->n + t] = s->tokens[first + t];
        en->pos[pass->n + t] = start + first + t;
        if (first + t >= s->n - wanted(s)) {
            if (!s->logits) s->logits = out_at(en, pass);
            en->out_rows[pass->n_out++] = pass->n + t;
        }
    }
    en->spans[pass->n_spans++] = (struct nn_span){pages, start + first, pass->n, n};
    pass->n += n;
}

static void run_pass(struct engine *en, struct llm_step *pass)
{
    llm_forward(en->llm, &en->kv.store, pass);
    begin_pass(en, pass, out_at(en, pass), pass->hidden != NULL);
}

int engine_step(struct engine *en, struct engine_slice *slices, int n_slices, struct err *e)
{
    bool hidden = false;
    struct llm_step pass;
    int rows = 0, rc = check(en, slices, n_slices, &rows, e);
    if (!rc) rc = check_wants(en, slices, n_slices, &hidden, e);
    if (!rc) rc = room_for(en, (size_t)rows * width(en, hidden), e);
    if (rc) return rc;
    begin_pass(en, &pass, en->out, hidden);
    for (int i = 0; i < n_slices; i++) {
        struct engine_slice *s = &slices[i];
        int start = begin_of(en, s);
        if (!s->pages) kv_grow(&en->kv, s->seq, start + s->n);
        s->logits = NULL;
        if (en->info.encoder && s->n > en->chunk - pass.n) run_pass(en, &pass);
        for (int done = 0, n; done < s->n; done += n) {
            n = s->n - done < en->chunk - pass.n ? s->n - done : en->chunk - pass.n;
            add_rows(en, &pass, s, start, done, n);
            if (pass.n == en->chunk) run_pass(en, &pass);
        }
    }
    if (pass.n) run_pass(en, &pass);
    return 0;
}

void engine_share(struct engine *en, int n, void (*fn)(void *arg, int i), void *arg)
{
    nn_share(en->nn, n, fn, arg);
}
