/* `solvent convert`: a Hugging Face folder -> a GGUF file. */
#include "cmd.h"

#include "convert.h"
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct bar {
    struct progress progress;
    bool started;
};

static void progress(void *arg, int64_t done, int64_t total)
{
    struct bar *b = arg;
    if (!b->started) progress_init(&b->progress, "converting", total, PROGRESS_BYTES);
    b->started = true;
    progress_update(&b->progress, done);
}

static void note(void *arg, const char *line)
{
    struct bar *b = arg;
    if (b->started) progress_end(&b->progress);
    b->started = false;
    fprintf(stderr, "note: %s\n", line);
}

static void print_report(const char *file, const struct convert_report *r)
{
    char text[16];
    uint64_t values = 0, bytes = 0;
    fprintf(stderr, "%-8s %8s %10s %12s\n", "type", "tensors", "bytes", "bits/value");
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (!r->of[t].tensors) continue;
        values += r->of[t].values;
        bytes += r->of[t].bytes;
        fprintf(stderr, "%-8s %8" PRIu64 " %10s %12.2f\n", quant_name(t), r->of[t].tensors,
                progress_bytes((int64_t)r->of[t].bytes, text),
                8.0 * (double)r->of[t].bytes / (double)r->of[t].values);
    }
    fprintf(stderr, "%s: %s, %.2f bits a value\n", file, progress_bytes((int64_t)bytes, text),
            8.0 * (double)bytes / (double)values);
}

int cmd_convert(int argc, char **argv)
{
    struct bar bar = {0};
    const char *out = NULL;
    int64_t threads = 0;
    struct convert_opts o = {.type = "q8_0", .progress = progress, .note = note, .arg = &bar};
    const struct cmd_opt opts[] = {
        {"-o,--output", CMD_STRING, &out, "FILE", "the GGUF file to write", 0, 0},
        {"-t,--type", CMD_STRING, &o.type, "T",
         "f32, bf16, f16, q8_0 (default), q6_k, q5_k_m, q4_k_m, iq4_xs, q4_0 ...", 0, 0},
        {"--threads", CMD_INT, &threads, "N", "workers (default: the cores we may use)", 0, 256},
        {"--force", CMD_FLAG, &o.force, NULL, "overwrite FILE", 0, 0},
        {0}};
    const struct cmd_usage usage = {
        "solvent convert DIR -o FILE [--type T]",
        "Turns a Hugging Face folder (config.json, tokenizer.json, safetensors) of Llama, "
        "Mistral,\n"
        "Mixtral, Qwen 2, Qwen 3, Gemma 2, Gemma 3 or BERT into one GGUF file. Types mix as\n"
        "llama.cpp mixes them; f32, bf16 and f16 keep what the folder has."};
    struct err e;
    struct convert_report report;
    int rest = cmd_parse(argc, argv, &usage, opts, &e);
    if (rest == CMD_HELP) return 0;
    if (rest >= 0 && (rest != 1 || !out))
        rest = err_set(&e, ERR_USAGE, "convert wants one folder and a file: DIR -o FILE");
    if (rest < 0) return cmd_fail(&e);
    o.threads = (int)threads;
    int rc = convert_run(argv[1], out, &o, &report, &e);
    if (bar.started) progress_end(&bar.progress);
    if (rc) return cmd_fail(&e);
    print_report(out, &report);
    return 0;
}
