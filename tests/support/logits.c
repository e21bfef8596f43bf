/* Raw logits of a model for given token ids, for tests/golden/real.py.
 *
 *     logits MODEL IDS [--cpu LEVEL] [--exact | --kv-int8] [--chunk N] [--threads N] > LOGITS
 *
 * IDS holds one sequence of token ids a line. Each is computed from an empty cache in steps of N
 * tokens (512); the output is float32 [tokens of all lines][n_vocab].
 */
#include "engine.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 8192 };

static int usage(void)
{
    fputs("usage: logits MODEL IDS [--cpu LEVEL] [--exact | --kv-int8] [--chunk N] [--threads N]\n",
          stderr);
    return 2;
}

static bool flags(char **arg, struct engine_opts *o)
{
    for (; *arg; arg++) {
        if (!strcmp(*arg, "--exact") || !strcmp(*arg, "--kv-int8")) {
            *(strcmp(*arg, "--exact") ? &o->kv_int8 : &o->exact) = true;
            continue;
        }
        const char *name = *arg++;
        if (!*arg) return false;
        if (!strcmp(name, "--cpu"))
            o->cpu = *arg;
        else if (!strcmp(name, "--chunk"))
            o->chunk = atoi(*arg);
        else if (!strcmp(name, "--threads"))
            o->threads = atoi(*arg);
        else
            return false;
    }
    return true;
}

/* The ids of one line; -1 when there is something else or too much in it. */
static int parse(const char *line, int32_t *ids)
{
    int n = 0;
    for (char *end;; line = end) {
        long id = strtol(line, &end, 10);
        if (end == line) return *line == '\n' || !*line ? n : -1;
        if (n == LONGEST) return -1;
        ids[n++] = (int32_t)id;
    }
}

static int compute(struct engine *en, int seq, const int32_t *ids, int n, int chunk, struct err *e)
{
    size_t vocab = (size_t)engine_vocab(en);
    engine_seq_truncate(en, seq, 0);
    for (int done = 0; done < n; done += chunk) {
        struct engine_slice s = {.seq = seq, .tokens = ids + done, .want = ENGINE_LOGITS_ALL};
        s.n = n - done < chunk ? n - done : chunk;
        int rc = engine_step(en, &s, 1, e);
        if (rc) return rc;
        if (fwrite(s.logits, vocab * sizeof(float), (size_t)s.n, stdout) != (size_t)s.n)
            return err_set(e, ERR_IO, "standard output: %s", strerror(errno));
    }
    return 0;
}

int main(int argc, char **argv)
{
    static int32_t ids[LONGEST];
    struct engine_opts o = {.ctx = LONGEST, .chunk = 512};
    struct engine *en = NULL;
    struct err e;
    if (argc < 3 || !flags(argv + 3, &o)) return usage();
    FILE *f = fopen(argv[2], "r");
    char *line = NULL;
    size_t room = 0;
    int rc = f ? engine_open(&en, argv[1], &o, &e) : err_set(&e, ERR_IO, "cannot read %s", argv[2]);
    int seq = rc ? 0 : engine_seq_open(en);
    while (!rc && getline(&line, &room, f) > 0) {
        int n = parse(line, ids);
        rc = n < 0
                 ? err_set(&e, ERR_FORMAT, "%s: not a list of up to %d token ids", argv[2], LONGEST)
                 : compute(en, seq, ids, n, o.chunk, &e);
    }
    if (!rc && fflush(stdout)) rc = err_set(&e, ERR_IO, "standard output: %s", strerror(errno));
    if (rc) fprintf(stderr, "logits: %s\n", e.msg);
    free(line);
    engine_close(en);
    if (f) fclose(f);
    return rc ? 1 : 0;
}
