/* The doors: a run begins here, and every failure inside it jumps back here, where its memory is
 * released whole. The budgets are counted here too. The invariant: a template is only read after
 * template_open, so renders share nothing but it.
 */
#include "template_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void template__fail(struct run *r, int code, const char *fmt, ...)
{
    char msg[sizeof r->e->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    err_set(r->e, code, "template line %u: %s", r->line, msg);
    longjmp(r->door, 1);
}

void *template__alloc(struct run *r, size_t n, size_t size)
{
    void *p = arena_alloc(&r->arena, n, size);
    if (p) return p;
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > r->arena.cap - r->arena.used)
        template__fail(r, ERR_LIMIT, "its budget of %d bytes of memory is used up",
                       TEMPLATE_MEMORY_MAX);
    template__fail(r, ERR_MEMORY, "out of memory (wanted %zu bytes)", bytes);
}

void template__step(struct run *r, size_t work)
{
    r->steps += 1 + work / 64;
    if (r->steps > TEMPLATE_STEPS_MAX)
        template__fail(r, ERR_LIMIT, "its budget of %d steps is used up", TEMPLATE_STEPS_MAX);
}

void template__enter(struct run *r)
{
    if (++r->depth > TEMPLATE_DEPTH_MAX)
        template__fail(r, ERR_LIMIT, "nested deeper than its budget of %d", TEMPLATE_DEPTH_MAX);
}

struct job {
    struct template *t;
    const char *source;
    size_t n;
    const struct template_input *in;
    struct builder text;
};

/* Runs fn up to its end or its failure. */
static int guarded(struct run *r, void (*fn)(struct run *, struct job *), struct job *job)
{
    if (setjmp(r->door)) return r->e->code;
    fn(r, job);
    return 0;
}

static void parse(struct run *r, struct job *job)
{
    template__parse(r, job->t, template__lex(r, job->source, job->n));
}

int template_open(struct template **out, const char *source, size_t n, struct err *e)
{
    if (n > TEMPLATE_SOURCE_MAX)
        return err_set(e, ERR_LIMIT, "a template of %zu bytes is over the budget of %d", n,
                       TEMPLATE_SOURCE_MAX);
    struct template *t = calloc(1, sizeof *t);
    if (!t || !map_init(&t->symbols, 64)) {
        free(t);
        return err_nomem(e, sizeof *t, "a template");
    }
    struct run r = {.arena = ARENA_INIT(TEMPLATE_MEMORY_MAX), .e = e, .line = 1, .t = t};
    int code = guarded(&r, parse, &(struct job){.t = t, .source = source, .n = n});
    t->arena = r.arena;
    if (code)
        template_close(t);
    else
        *out = t;
    return code;
}

void template_close(struct template *t)
{
    if (!t) return;
    arena_free(&t->arena);
    map_free(&t->symbols);
    free(t);
}

/* The variables that the template names: json's, then the program's, then the built-in ones. */
static void bind_variables(struct run *r, const struct template_input *in)
{
    uint8_t *ones = template__alloc(r, in->n_json + 1, 1);
    memset(ones, 1, in->n_json);
    r->ones = ones;
    struct value json = template__from_json(r, in->json, in->n_json, true);
    struct value own = v_none();
    if (in->own) own = template__from_json(r, in->own, in->n_own, false);
    if ((json.kind != V_DICT && json.kind != V_LIST) || (in->own && own.kind != V_DICT))
        template__bad(r, "the input is neither an object nor an array of messages");
    r->root = template__alloc(r, 1, sizeof *r->root);
    r->root->vars = template__alloc(r, r->t->n_names + 1, sizeof *r->root->vars);
    for (uint32_t i = 0; i < r->t->n_names; i++) {
        const struct str *name = &r->t->names[i];
        const struct value *found = NULL;
        if (json.kind == V_DICT)
            found = template__get_str(r, json.dict, name);
        else if (template__is(name, "messages"))
            found = &json;
        if (!found && own.kind == V_DICT) found = template__get_str(r, own.dict, name);
        struct value *v = &r->root->vars[i].v;
        if (found) *v = *found;
        for (const struct native *f = template__functions; !found && f->name; f++)
            if (template__is(name, f->name)) *v = (struct value){.kind = V_FUNCTION, .native = f};
    }
}

static void render(struct run *r, struct job *job)
{
    bind_variables(r, job->in);
    job->text = (struct builder){.r = r, .is_out = true};
    r->out = &job->text;
    template__exec(r, r->root, r->t->body);
}

/* All of the text and its marks, or nothing. */
static int deliver(const struct builder *text, struct buf *out, struct buf *foreign, struct err *e)
{
    size_t before = out->len, marks = foreign ? foreign->len : 0;
    bool ok = buf_put(out, text->p, text->n);
    if (ok && foreign) {
        char *at = buf_reserve(foreign, text->n);
        ok = at != NULL;
        if (ok && text->mark) memcpy(at, text->mark, text->n);
        if (ok && !text->mark) memset(at, 0, text->n);
        if (ok) foreign->data[foreign->len += text->n] = 0;
    }
    if (ok) return 0;
    out->len = before;
    if (out->data) out->data[before] = 0;
    if (foreign) foreign->len = marks;
    return err_set(e, ERR_LIMIT, "no room for a prompt of %zu bytes", text->n);
}

int template_render(const struct template *t, const struct template_input *in, struct buf *out,
                    struct err *e)
{
    if (in->n_json > TEMPLATE_JSON_MAX || in->n_own > TEMPLATE_JSON_MAX)
        return err_set(e, ERR_LIMIT, "an input of %zu bytes is over the template's budget of %d",
                       in->n_json > in->n_own ? in->n_json : in->n_own, TEMPLATE_JSON_MAX);
    struct run r = {
        .arena = ARENA_INIT(TEMPLATE_MEMORY_MAX), .e = e, .line = 1, .t = t, .now_s = in->now_s};
    struct job job = {.in = in};
    int code = guarded(&r, render, &job);
    if (code == 0) code = deliver(&job.text, out, in->foreign, e);
    template__json_drop(&r);
    arena_free(&r.arena);
    return code;
}
