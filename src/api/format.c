/* What an answer must look like: response_format, and as extensions of ours `grammar` (GBNF) and `regex`.
 * Grammars are compiled before anything is queued, so a schema that is refused is a 400. Compiled ones are
 * kept, shared by their source, up to a number of bytes; those in use stay. */
#include "api_int.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT_MAX = 64 };
static const size_t kept_bytes_max = 64 << 20;

struct api__grammar {
    struct grammar *grammar;
    char kind;
    char *source;
    size_t n_source;
    int refs;                  /* of calls; under the lock, like the list */
    struct api__grammar *next; /* most lately used first */
};

static void free_grammar(struct api__grammar *g)
{
    grammar_close(g->grammar);
    free(g->source);
    free(g);
}

/* Lets go of the least lately used ones that nobody needs, until the rest is small enough. */
static void shrink(struct api *a)
{
    size_t bytes = 0;
    int n = 0;
    for (struct api__grammar **p = &a->grammars, *g; (g = *p);) {
        n++;
        bytes += grammar_bytes(g->grammar) + g->n_source;
        if ((n > KEPT_MAX || bytes > kept_bytes_max) && !g->refs) {
            *p = g->next;
            free_grammar(g);
        } else {
            p = &g->next;
        }
    }
}

/* The kept one, moved to the front, with a reference; or NULL. Under the lock. */
static struct api__grammar *find(struct api *a, char kind, const char *source, size_t n)
{
    for (struct api__grammar **p = &a->grammars, *g; (g = *p); p = &g->next)
        if (g->kind == kind && g->n_source == n && memcmp(g->source, source, n) == 0) {
            *p = g->next;
            g->next = a->grammars;
            a->grammars = g;
            g->refs++;
            return g;
        }
    return NULL;
}

static int compile(struct api__grammar *g, struct err *e)
{
    switch (g->kind) {
    case 's': return grammar_schema(&g->grammar, g->source, g->n_source, e);
    case 'g': return grammar_gbnf(&g->grammar, g->source, g->n_source, e);
    case 'r': return grammar_regex(&g->grammar, g->source, g->n_source, e);
    default: return grammar_json(&g->grammar, e);
    }
}

static int take(struct api *a, char kind, const char *source, size_t n, struct api__grammar **out,
                struct err *e)
{
    thread_hold(&a->lock);
    *out = find(a, kind, source, n);
    thread_release(&a->lock);
    if (*out) return 0;
    struct api__grammar *g = calloc(1, sizeof *g);
    if (!g || !(g->source = malloc(n + 1))) {
        free(g);
        return err_nomem(e, n, "a grammar");
    }
    memcpy(g->source, source, n);
    g->source[n] = 0;
    g->n_source = n;
    g->kind = kind;
    int rc = compile(g, e);
    if (rc) {
        free_grammar(g);
        return rc;
    }
    thread_hold(&a->lock);
    g->refs = 1;
    g->next = a->grammars; /* two of the same, when two came at once, do no harm */
    a->grammars = g;
    shrink(a);
    thread_release(&a->lock);
    *out = g;
    return 0;
}

void api__grammar_give(struct api *a, struct api__grammar *g)
{
    if (!g) return;
    thread_hold(&a->lock);
    g->refs--;
    shrink(a);
    thread_release(&a->lock);
}

void api__grammars_free(struct api *a)
{
    for (struct api__grammar *g = a->grammars, *next; g; g = next) {
        next = g->next;
        free_grammar(g);
    }
}

/* The vocabulary's tries are made when the first grammar asks for them. */
static int tokens_of(struct api__call *c, struct err *e)
{
    struct api__model *m = c->model;
    thread_hold(&c->a->lock);
    int rc = m->tokens ? 0 : grammar_tokens_open(&m->tokens, worker_tok(m->worker), e);
    thread_release(&c->a->lock);
    return rc;
}

bool api__constrain(struct api__call *c, char kind, const char *source, size_t n, const char *param)
{
    struct err e;
    int rc = take(c->a, kind, source, n, &c->grammar, &e);
    if (!rc && c->has_model) rc = tokens_of(c, &e); /* without it the source is only judged */
    if (!rc) {
        c->answer.grammar = c->grammar->grammar;
        c->answer.grammar_tokens = c->has_model ? c->model->tokens : NULL;
        return true;
    }
    if (rc != ERR_MEMORY) e.code = ERR_USAGE;
    api__fail_err(c, &e, param);
    return false;
}

static bool take_schema(struct api__call *c, json_t *schema)
{
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return api__refuse(c, "response_format",
                           "'response_format.json_schema.schema' must be a JSON schema");
    char *text = json_dumps(schema, JSON_ENCODE_ANY);
    if (!text) return api__refuse(c, "response_format", "'response_format' found no memory");
    bool ok = api__constrain(c, 's', text, strlen(text), "response_format");
    free(text);
    return ok;
}

bool api__format(struct api__call *c)
{
    json_t *format = json_object_get(c->body, "response_format");
    json_t *gbnf = json_object_get(c->body, "grammar"), *regex = json_object_get(c->body, "regex");
    const char *type = json_string_value(json_object_get(format, "type"));
    bool has_format = format && !json_is_null(format) && (!type || strcmp(type, "text"));
    bool has_gbnf = gbnf && !json_is_null(gbnf), has_regex = regex && !json_is_null(regex);
    if (has_format + has_gbnf + has_regex > 1)
        return api__refuse(c, "response_format",
                           "one of 'response_format', 'grammar' and 'regex' at a time");
    if (has_gbnf && !json_is_string(gbnf))
        return api__refuse(c, "grammar", "'grammar' must be a string");
    if (has_regex && !json_is_string(regex))
        return api__refuse(c, "regex", "'regex' must be a string");
    if (has_gbnf)
        return api__constrain(c, 'g', json_string_value(gbnf), json_string_length(gbnf), "grammar");
    if (has_regex)
        return api__constrain(c, 'r', json_string_value(regex), json_string_length(regex), "regex");
    if (!has_format) return true;
    if (type && strcmp(type, "json_object") == 0)
        return api__constrain(c, 'j', "", 0, "response_format");
    if (type && strcmp(type, "json_schema") == 0)
        return take_schema(c, json_object_get(json_object_get(format, "json_schema"), "schema"));
    return api__refuse(c, "response_format",
                       "'response_format.type' is text, json_object or json_schema");
}
