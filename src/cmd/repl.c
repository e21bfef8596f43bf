/* A line is a command or part of a message. A message is one line; or lines that end in a backslash
 * and the one after them; or what stands between two """. Only /bye and Ctrl-D end the program:
 * errors are printed, and the conversation stays as it was.
 *
 * While an answer comes Ctrl-C is a signal, whose flag the session looks at; while a line is typed
 * it is a key that gives up the line. The history is a file under $XDG_STATE_HOME; where it cannot
 * be kept, chats work without.
 */
#include "repl.h"

#include "cmd.h"
#include "userdir.h"
#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HISTORY_LINES = 1000 };
#define QUOTES "\"\"\""

struct repl {
    struct session *s;
    EditLine *el;
    History *history;
    char history_path[4096]; /* "": none is kept */
    bool stats, leave;
};

static volatile sig_atomic_t interrupted;
static char *prompt_now; /* libedit asks a function without an argument of ours */

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

/* Ctrl-C while a line is typed is a key, not a signal, so that none comes between two reads. */
static unsigned char give_up(EditLine *el, int key)
{
    (void)el, (void)key;
    interrupted = 1;
    return CC_EOF;
}

static char *prompt(EditLine *el)
{
    (void)el;
    return prompt_now;
}

static int run_help(struct repl *r, const char *arg, struct err *e);

static int run_system(struct repl *r, const char *arg, struct err *e)
{
    const char *now = session_system(r->s);
    if (*arg) return session_set_system(r->s, strcmp(arg, "-") == 0 ? NULL : arg, e);
    fprintf(stderr, "%s\n", now ? now : "(no system message)");
    return 0;
}

static void show_settings(const struct repl *r)
{
    const struct generate_opts *o = &r->s->generate;
    for (const struct sample_field *f = sample_fields; f->name; f++)
        fprintf(stderr, "  %-20s%-12g%s\n", f->name, sample_field_get(f, &o->sample), f->help);
    fprintf(stderr, "  %-20s%-12d%s\n", "max_tokens", o->max_tokens, "of an answer; 0: no limit");
    fprintf(stderr, "  %-20s%-12llu%s\n", "seed", (unsigned long long)o->sample.seed,
            "of the random choices");
}

static int run_set(struct repl *r, const char *arg, struct err *e)
{
    char name[32], *end;
    int at = 0;
    if (!*arg) return show_settings(r), 0;
    if (sscanf(arg, "%31s %n", name, &at) < 1 || !arg[at])
        return err_set(e, ERR_USAGE, "/set NAME VALUE; /set alone shows the names");
    struct generate_opts *o = &r->s->generate;
    const struct sample_field *f = sample_field_find(name);
    double v = strtod(arg + at, &end);
    if (end == arg + at || *end)
        return err_set(e, ERR_USAGE, "%s wants a number, not '%s'", name, arg + at);
    if (f) return sample_field_set(f, &o->sample, v, e);
    bool max = strcmp(name, "max_tokens") == 0;
    if (!max && strcmp(name, "seed") != 0)
        return err_set(e, ERR_USAGE, "no setting '%s'; /set shows them all", name);
    if (!(v >= 0 && v <= (max ? 1e9 : 9e15)))
        return err_set(e, ERR_USAGE, "%s of %g; numbers from 0 to %g are possible", name, v,
                       max ? 1e9 : 9e15);
    if (max)
        o->max_tokens = (int)v;
    else
        o->sample.seed = (uint64_t)v, r->s->n_turns = 0;
    return 0;
}

static int run_clear(struct repl *r, const char *arg, struct err *e)
{
    (void)arg, (void)e;
    session_clear(r->s);
    return 0;
}

static int run_save(struct repl *r, const char *arg, struct err *e)
{
    if (!*arg) return err_set(e, ERR_USAGE, "/save FILE");
    int rc = session_save(r->s, arg, e);
    if (!rc) fprintf(stderr, "(%zu messages saved)\n", json_array_size(r->s->messages));
    return rc;
}

static int run_load(struct repl *r, const char *arg, struct err *e)
{
    if (!*arg) return err_set(e, ERR_USAGE, "/load FILE");
    int rc = session_load(r->s, arg, e);
    if (!rc) fprintf(stderr, "(%zu messages loaded)\n", json_array_size(r->s->messages));
    return rc;
}

static int run_stats(struct repl *r, const char *arg, struct err *e)
{
    (void)arg, (void)e;
    r->stats = !r->stats;
    fprintf(stderr, "(a line about each answer: %s)\n", r->stats ? "on" : "off");
    if (r->stats && r->s->result.prompt_tokens) session_print_stats(r->s);
    return 0;
}

static int run_bye(struct repl *r, const char *arg, struct err *e)
{
    (void)arg, (void)e;
    r->leave = true;
    return 0;
}

static const struct {
    const char *name, *args, *help;
    int (*run)(struct repl *r, const char *arg, struct err *e);
} commands[] = {
    {"/help", "", "this list", run_help},
    {"/system", "TEXT", "what the model is told before all else; - for nothing", run_system},
    {"/set", "NAME VALUE", "how answers are made; alone: all settings", run_set},
    {"/clear", "", "forget the conversation, keep the system message", run_clear},
    {"/save", "FILE", "write the conversation as JSON", run_save},
    {"/load", "FILE", "go on with a conversation", run_load},
    {"/stats", "", "a line about the speed of each answer, on and off", run_stats},
    {"/bye", "", "leave, like Ctrl-D", run_bye},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int run_help(struct repl *r, const char *arg, struct err *e)
{
    (void)r, (void)arg, (void)e;
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(stderr, "  %-8s%-12s%s\n", commands[i].name, commands[i].args, commands[i].help);
    fprintf(stderr, "A message of several lines: end a line with \\, or put " QUOTES
                    " before and after it.\nCtrl-C ends an answer.\n");
    return 0;
}

static int run_command(struct repl *r, const char *line, struct err *e)
{
    size_t n = strcspn(line, " \t");
    const char *arg = line + n + strspn(line + n, " \t");
    for (int i = 0; i < N_COMMANDS; i++)
        if (strlen(commands[i].name) == n && memcmp(commands[i].name, line, n) == 0)
            return commands[i].run(r, arg, e);
    return err_set(e, ERR_USAGE, "no command '%.40s'; /help lists them", line);
}

/* The line without its end, until the next; NULL: none, r->leave says whether for good. */
static const char *read_line(struct repl *r, const char *shown, size_t *n)
{
    static char text[8];
    int got = 0;
    snprintf(text, sizeof text, "%s", shown);
    prompt_now = text;
    interrupted = 0;
    const char *line;
    do {
        /* Both before the prompt invites keys; libedit forgets the second with each line. */
        el_set(r->el, EL_PREP_TERM, 1);
        el_set(r->el, EL_SETTY, "-d", "intr=", NULL);
        line = el_gets(r->el, &got);
    } while (!line && got < 0 && errno == EINTR && !interrupted); /* some other signal */
    if (!line) {
        r->leave = !interrupted;
        fprintf(stderr, interrupted ? "\n(/bye or Ctrl-D leaves)\n" : "\n");
        return NULL;
    }
    HistEvent ev;
    *n = (size_t)got;
    while (*n && (line[*n - 1] == '\n' || line[*n - 1] == '\r')) --*n;
    if (*n) history(r->history, &ev, H_ENTER, line);
    return line;
}

/* From the first line, already read, to the last; false when the user thought better of it. */
static bool read_quoted(struct repl *r, const char *line, size_t n, struct buf *out)
{
    const size_t q = strlen(QUOTES);
    line += q, n -= q;
    for (;;) {
        bool last = n >= q && memcmp(line + n - q, QUOTES, q) == 0;
        buf_put(out, line, last ? n - q : n);
        if (last) return true;
        if (out->len) buf_putc(out, '\n');
        line = read_line(r, "... ", &n);
        if (!line) return false;
    }
}

static bool read_continued(struct repl *r, const char *line, size_t n, struct buf *out)
{
    while (line && n && line[n - 1] == '\\') {
        buf_put(out, line, n - 1);
        buf_putc(out, '\n');
        line = read_line(r, "... ", &n);
    }
    if (line) buf_put(out, line, n);
    return line;
}

/* What was typed, "" for nothing. */
static void read_message(struct repl *r, struct buf *out)
{
    size_t n;
    buf_reset(out);
    const char *line = read_line(r, ">>> ", &n);
    if (!line) return;
    bool quoted = n >= strlen(QUOTES) && memcmp(line, QUOTES, strlen(QUOTES)) == 0;
    bool whole = quoted ? read_quoted(r, line, n, out) : read_continued(r, line, n, out);
    if (!whole) buf_reset(out);
}

static int answer(struct repl *r, const struct buf *text, struct err *e)
{
    interrupted = 0;
    if (text->failed)
        return err_set(e, ERR_LIMIT, "a message of more than %d bytes", SESSION_TEXT_MAX);
    int rc = session_ask(r->s, text->data, text->len, e);
    if (!rc && r->stats) session_print_stats(r->s);
    return rc;
}

static void loop(struct repl *r)
{
    struct buf text = BUF_INIT(SESSION_TEXT_MAX);
    struct err e;
    HistEvent ev;
    while (!r->leave) {
        read_message(r, &text);
        if (!text.len && !text.failed) continue;
        bool command = text.data[0] == '/' && !memchr(text.data, '\n', text.len);
        if (r->history_path[0]) history(r->history, &ev, H_SAVE, r->history_path);
        if (command ? run_command(r, text.data, &e) : answer(r, &text, &e)) cmd_fail(&e);
    }
    buf_free(&text);
}

/* The file of the history, its folder made; "" when that does not work. */
static void find_history(char *path, size_t room)
{
    char dir[4096];
    path[0] = 0;
    if (userdir_find(dir, sizeof dir, USERDIR_STATE, "") && !userdir_make(dir, 0700) &&
        !userdir_find(path, room, USERDIR_STATE, "history"))
        path[0] = 0;
}

/* What the terminal sends is read as UTF-8, whatever the locale says about messages. */
static void set_locale(void)
{
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static int open_editor(struct repl *r, struct err *e)
{
    HistEvent ev;
    set_locale();
    r->el = el_init("solvent", stdin, isatty(1) ? stdout : stderr, stderr);
    r->history = history_init();
    if (!r->el || !r->history) return err_set(e, ERR_IO, "this terminal cannot be used");
    history(r->history, &ev, H_SETSIZE, HISTORY_LINES);
    history(r->history, &ev, H_SETUNIQUE, 1);
    find_history(r->history_path, sizeof r->history_path);
    if (r->history_path[0]) history(r->history, &ev, H_LOAD, r->history_path);
    el_set(r->el, EL_HIST, history, r->history);
    el_set(r->el, EL_PROMPT, prompt);
    el_set(r->el, EL_EDITOR, "emacs");
    el_set(r->el, EL_SIGNAL, 1);
    el_set(r->el, EL_ADDFN, "give-up", "Give up this line", give_up);
    el_set(r->el, EL_BIND, "^C", "give-up", NULL);
    el_set(r->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(r->el, NULL);
    return 0;
}

int repl_run(struct session *s, const char *name, bool stats, struct err *e)
{
    struct repl r = {.s = s, .stats = stats};
    struct sigaction ours = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART}, before;
    struct engine_info info;
    int rc = open_editor(&r, e);
    if (!rc) {
        sigaction(SIGINT, &ours, &before);
        s->interrupted = &interrupted;
        engine_info(s->en, &info);
        fprintf(stderr, "%s (%s, %d threads, %d tokens of context). /help lists commands.\n", name,
                info.cpu, info.threads, info.ctx);
        loop(&r);
        s->interrupted = NULL;
        sigaction(SIGINT, &before, NULL);
    }
    if (r.history) history_end(r.history);
    if (r.el) el_end(r.el);
    return rc;
}
