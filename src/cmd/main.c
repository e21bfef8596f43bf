/* `solvent COMMAND ...`: finds the command and leaves everything else to it. */
#include "cmd.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "chat with a model, or answer one prompt", cmd_run},
    {"serve", "answer many users at once: the OpenAI API, a chat page", cmd_serve},
    {"ps", "which models a server has in memory", cmd_ps},
    {"keys", "who may ask a server", cmd_keys},
    {"pull", "download a model", cmd_pull},
    {"list", "the models that are here, and the catalogue", cmd_list},
    {"rm", "remove a model", cmd_rm},
    {"convert", "a Hugging Face folder to a model file", cmd_convert},
    {"inspect", "what is in a model file, and what it will need", cmd_inspect},
    {"tokenize", "text to token ids and back", cmd_tokenize},
    {"template", "messages to the prompt a model was trained on", cmd_template},
    {"embed", "texts to vectors", cmd_embed},
    {"bench", "speed of prefill and decode, and the share of the machine's peak", cmd_bench},
    {"perplexity", "how well a model predicts a text", cmd_perplexity},
};

static void usage(FILE *f)
{
    fprintf(f, "usage: solvent COMMAND [ARGUMENTS]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(f, "  %-12s%s\n", commands[i].name, commands[i].about);
    fprintf(f, "\n`solvent COMMAND --help` tells more; `solvent --version` the version.\n");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("solvent %s\n", SOLVENT_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "solvent: no command '%.60s' (see solvent --help)\n", argv[1]);
    return 2;
}
