/* The chat on a terminal: lines edited with libedit, commands that begin with a slash, Ctrl-C that
 * ends the answer and not the program. Returns when the user leaves. One at a time, main thread.
 */
#ifndef REPL_H
#define REPL_H

#include "session.h"

/* name: the model's, for the greeting. stats: a line about each answer. Sets the locale's LC_CTYPE
 * and, while it runs, SIGINT's handler. Standard input is a terminal. ERR_IO when the terminal is of
 * no use. */
ERR_DOOR int repl_run(struct session *s, const char *name, bool stats, struct err *e);

#endif
