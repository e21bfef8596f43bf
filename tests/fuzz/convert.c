/* A tiny Llama folder of which one JSON file is any bytes: the first byte says which, 'c'onfig.json,
 * 't'okenizer.json, tokenizer_config.json ('s'), 'g'eneration_config.json. What is refused is refused with one clean line and
 * leaves no file; what is converted can be opened again, holds the folder's tensors, and as many tokens as the
 * embedding has rows. */
#include "convert.h"
#include "../support/hf_folder.h"
#include "gguf.h"

static char dir[] = "/tmp/convert_fuzz.XXXXXX", out[100], part[110];

static void clean_up(void)
{
    unlink(out);
    hf_folder_remove(dir);
}

static void set_up(void)
{
    char *made = mkdtemp(dir);
    assert(made);
    snprintf(out, sizeof out, "%s.gguf", dir);
    snprintf(part, sizeof part, "%s.part", out);
    hf_folder_write(dir);
    atexit(clean_up);
}

static void check_file(void)
{
    struct gguf *g;
    struct err e;
    int rc = gguf_open(&g, out, &e);
    assert(rc == 0);
    const struct gguf_tensor *t = gguf_tensor(g, "token_embd.weight");
    const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    assert(t && tokens && tokens->count == t->dim[1] && gguf_tensor_count(g) >= 11);
    const struct gguf_kv *types = gguf_find(g, "tokenizer.ggml.token_type");
    assert(types && types->count == tokens->count);
    gguf_close(g);
}

static void check_refusal(const struct err *e)
{
    assert(e->code < 0 && e->msg[0] && access(part, F_OK) && access(out, F_OK));
    for (const unsigned char *p = (const unsigned char *)e->msg; *p; p++)
        assert(*p >= 0x20 && *p != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct convert_opts o = {.type = "q4_k_m", .threads = 1, .force = true};
    struct convert_report r;
    struct err e = {0};
    if (!out[0]) set_up();
    const char *kinds = "ctsg", *kind = n ? strchr(kinds, data[0]) : NULL;
    if (!kind || !*kind) return 0;
    hf_folder_put(dir, hf_folder_files[kind - kinds], data + 1, n - 1);
    unlink(out);
    if (convert_run(dir, out, &o, &r, &e))
        check_refusal(&e);
    else
        check_file();
    hf_folder_texts(dir);
    return 0;
}
