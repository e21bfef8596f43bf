/* Errors of doors (files, sockets, flags): a negative code and one line for a person.
 *
 *     if (cond) return err_set(e, ERR_FORMAT, "tensor %s lies outside the file", name);
 *
 * `struct err *e` is always the last argument and may not be NULL. The line names the object and
 * the number, holds no newline, and what foreign input may have brought of control characters and of
 * ill-formed UTF-8 is replaced by '?'.
 */
#ifndef ERR_H
#define ERR_H

enum err_code {
    ERR_USAGE = -1,       /* the caller's flags or arguments */
    ERR_IO = -2,          /* the operating system said no */
    ERR_FORMAT = -3,      /* foreign bytes break their format */
    ERR_LIMIT = -4,       /* a cap of ours was reached */
    ERR_MEMORY = -5,      /* out of memory */
    ERR_UNSUPPORTED = -6, /* well-formed, but not something we do */
    ERR_NOT_FOUND = -7,
    ERR_CANCELLED = -8,
};

struct err {
    int code;
    char msg[400];
};

#define ERR_DOOR __attribute__((warn_unused_result))

/* Fills *e and returns code, so that a door can `return err_set(...)`. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before the message that stands in *e; returns e->code. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "out of memory (wanted N bytes for WHAT)" */
int err_nomem(struct err *e, unsigned long long bytes, const char *what);

#endif
