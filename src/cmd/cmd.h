/* The subcommands of `solvent`. Each gets argv from its own name on and returns the exit status:
 * 0, 1 (it failed), 2 (usage). Answers go to stdout, everything else to stderr.
 */
#ifndef CMD_H
#define CMD_H

#include "buf.h"
#include "err.h"
#include <stdint.h>

int cmd_bench(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);

/* Flags, one table a command: also the source of --help. */
enum cmd_kind { CMD_FLAG, CMD_INT, CMD_FLOAT, CMD_STRING, CMD_LIST };
enum { CMD_LIST_MAX = 64 };
struct cmd_list { /* of a flag that may stand several times */
    const char *items[CMD_LIST_MAX];
    int n;
};
struct cmd_opt {
    const char *name; /* "--temp", or "-m" with the long name after a comma: "-m,--model" */
    enum cmd_kind kind;
    void *value;     /* bool *, int64_t *, double *, const char **, struct cmd_list * */
    const char *arg; /* "N", "FILE"; NULL for a flag */
    const char *help;
    double min, max; /* of numbers, both ends allowed */
};
/* Reads flags wherever they stand, leaves the rest in argv[1 .. return value] in order; "--" ends
 * flags. Returns the number of remaining arguments, or a negative code. --help prints usage and the
 * table, returns CMD_HELP. */
enum { CMD_HELP = -100 };
struct cmd_usage {
    const char *line;  /* "solvent pull NAME" */
    const char *about; /* sentences for --help */
};
ERR_DOOR int cmd_parse(int argc, char **argv, const struct cmd_usage *u, const struct cmd_opt *opts,
                       struct err *e);
/* Prints "solvent: message" on stderr and returns the exit status for the code (usage 2, else 1).
 */
int cmd_fail(const struct err *e);
/* Appends the whole of a file ("-": standard input) to out; ERR_LIMIT when it is larger than out may
 * be. */
ERR_DOOR int cmd_read(const char *path, struct buf *out, struct err *e);
/* engine_opts.progress for a struct progress. */
void cmd_load_progress(void *bar, int64_t done, int64_t total);
/* For engine_opts.packs: $SOLVENT_PACKS, else a folder of the user's cache; NULL where that is empty or
 * there is none. Static memory. */
const char *cmd_packs(void);
/* --speculate: "auto", "off" or a number -> spec_opts.tokens, 0: off. */
ERR_DOOR int cmd_speculate(const char *given, int *tokens, struct err *e);
/* The file of keys: `given`, or the user's own. */
ERR_DOOR int cmd_keys_path(const char *given, char *path, unsigned room, struct err *e);
/* A catalogue name or a path -> a path of a file that exists. */
ERR_DOOR int cmd_model_path(const char *model, char *path, unsigned room, struct err *e);

#endif
