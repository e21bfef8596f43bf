/* What Ollama's API tells about models: /api/tags, /api/ps, /api/show, /api/version. Requests that would change the list are refused: that is the operator's, at
 * the command line. */
#include "api_int.h"

#include "out.h"
#include "sha256.h"
#include <ctype.h>
#include <string.h>
#include <time.h>

/* The release of Ollama after which the shapes under /api/ are written: clients compare it with the oldest
 * they can talk to. */
#define OLLAMA_VERSION "0.33.0"

/* 134515008 -> "134.5M" */
static void put_count(struct buf *b, int64_t n)
{
    static const struct {
        double one;
        char name;
    } units[] = {{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}, {1e3, 'K'}};
    size_t i = 0;
    while (i < 3 && (double)n < units[i].one) i++;
    buf_printf(b, "\"%.1f%c\"", (double)n / units[i].one, units[i].name);
}

static void put_details(const struct api__model *m, struct buf *b)
{
    const struct engine_info *info = &m->info;
    char type[16];
    size_t n = 0;
    for (; info->type[n] && n + 1 < sizeof type; n++)
        type[n] = (char)toupper((unsigned char)info->type[n]);
    type[n] = 0;
    buf_puts(b, "\"details\":{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":");
    out_cstring(b, info->arch);
    buf_puts(b, ",\"families\":[");
    out_cstring(b, info->arch);
    buf_puts(b, "],\"parameter_size\":");
    put_count(b, info->n_params);
    buf_printf(b,
               ",\"quantization_level\":\"%s\",\"context_length\":%d,\"embedding_length\":%d},"
               "\"capabilities\":[%s]",
               type, info->ctx_train, info->d_model,
               info->encoder ? "\"embedding\"" : "\"completion\",\"tools\"");
}

/* Ollama's digest is of a manifest, ours of what the file system says about the file: either changes
 * when the model does. */
static void put_named(const struct api__model *m, int64_t bytes, struct buf *b)
{
    const struct engine_info *info = &m->info;
    char digest[SHA256_HEX] = "";
    struct err ignored;
    uint64_t about[] = {info->file, info->file_bytes};
    if (sha256_bytes(about, sizeof about, digest, &ignored)) b->failed = true;
    for (int i = 0; i < 2; i++) {
        buf_puts(b, i ? ",\"model\":" : "{\"name\":");
        struct buf name = BUF_INIT(4096);
        buf_printf(&name, "%s%s", m->name, strchr(m->name, ':') ? "" : ":latest");
        out_cstring(b, name.data);
        buf_free(&name);
    }
    buf_printf(b, ",\"size\":%lld,\"digest\":\"%s\",", (long long)bytes, digest);
    put_details(m, b);
}

void api__ollama_tags(struct api__call *c)
{
    struct buf *b = &c->out;
    buf_puts(b, "{\"models\":[");
    for (int i = 0, n = 0; i < c->a->n_models; i++) {
        const struct api__model *m = &c->a->models[i];
        if (m->removed) continue;
        if (n++) buf_putc(b, ',');
        put_named(m, (int64_t)m->info.file_bytes, b);
        buf_puts(b, ",\"modified_at\":");
        api__put_time(b, m->created_s, 0);
        buf_putc(b, '}');
    }
    buf_puts(b, "]}");
    api__reply(c, 200, b);
}

/* Beside what Ollama tells: for `solvent ps`. */
static void put_state(const struct models_info *l, struct buf *b)
{
    const char *state = l->state == MODELS_OUT       ? "waiting"
                        : l->state == MODELS_LOADING ? "loading"
                        : l->state == MODELS_LEAVING ? "leaving"
                        : l->requests                ? "busy"
                                                     : "idle";
    buf_printf(b, ",\"state\":\"%s\",\"requests\":%d,\"waiting\":%d", state, l->requests,
               l->waiting);
}

/* More than a century ahead is what Ollama's own client calls "Forever". */
static void put_end(const struct models_info *l, struct buf *b)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t s = now.tv_sec + l->left_ns / 1000000000, ns = now.tv_nsec + l->left_ns % 1000000000;
    bool forever = l->left_ns < 0 || l->left_ns / 1000000000 > 200LL * 365 * 86400;
    buf_puts(b, ",\"expires_at\":");
    if (forever)
        buf_puts(b, "\"2200-01-01T00:00:00Z\"");
    else
        api__put_time(b, s + ns / 1000000000, (long)(ns % 1000000000));
}

void api__ollama_ps(struct api__call *c)
{
    struct buf *b = &c->out;
    bool first = true;
    buf_puts(b, "{\"models\":[");
    for (int i = 0; i < c->a->n_models; i++) {
        const struct api__model *m = &c->a->models[i];
        struct models_info l;
        models_info(c->a->loaded, i, &l);
        if (l.state == MODELS_OUT && !l.waiting) continue;
        if (!first) buf_putc(b, ',');
        first = false;
        put_named(m, (int64_t)l.bytes, b);
        buf_printf(b, ",\"size_vram\":0,\"context_length\":%d", m->info.ctx);
        put_end(&l, b);
        put_state(&l, b);
        buf_putc(b, '}');
    }
    buf_puts(b, "]}");
    api__reply(c, 200, b);
}

static void put_model_info(const struct engine_info *info, struct buf *b)
{
    buf_puts(b, "\"model_info\":{\"general.architecture\":");
    out_cstring(b, info->arch);
    buf_printf(b, ",\"general.parameter_count\":%lld", (long long)info->n_params);
    const struct {
        const char *name;
        int value;
    } rows[] = {{"context_length", info->ctx_train},
                {"embedding_length", info->d_model},
                {"block_count", info->n_layers},
                {"vocab_size", info->n_vocab}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        buf_printf(b, ",\"%s.%s\":%d", info->arch, rows[i].name, rows[i].value);
    buf_putc(b, '}');
}

/* A body whose model may be called "name", as it was once. */
static bool take_name(struct api__call *c)
{
    static const struct api__kind kinds[] = {
        {"model", JSON_STRING}, {"name", JSON_STRING}, {NULL, JSON_NULL}};
    if (!api__body(c) || !api__kinds(c, kinds)) return false;
    if (!json_string_length(api__field(c, "model")) && api__field(c, "name"))
        json_object_set(c->body, "model", api__field(c, "name"));
    return true;
}

void api__ollama_show(struct api__call *c)
{
    if (!take_name(c) || !api__model_named(c)) return;
    struct buf *b = &c->out, file = BUF_INIT(4096);
    buf_printf(&file, "# Served by solvent, from a file of its operator\nFROM %s\n",
               c->model->name);
    buf_puts(b, "{\"modelfile\":");
    out_cstring(b, file.data);
    buf_free(&file);
    buf_puts(b, ",\"parameters\":\"\",\"template\":");
    out_cstring(b, c->model->template);
    buf_puts(b, ",\"modified_at\":");
    api__put_time(b, c->model->created_s, 0);
    buf_putc(b, ',');
    put_details(c->model, b);
    buf_putc(b, ',');
    put_model_info(&c->model->info, b);
    buf_putc(b, '}');
    api__reply(c, 200, b);
}

void api__ollama_version(struct api__call *c)
{
    buf_puts(&c->out, "{\"version\":\"" OLLAMA_VERSION "\",\"solvent\":\"" SOLVENT_VERSION "\"}");
    api__reply(c, 200, &c->out);
}

void api__ollama_refuse(struct api__call *c)
{
    api__fail(
        c, 403, "permission_error", NULL, NULL,
        "models are added and removed by the operator: see 'solvent pull' and 'solvent serve'");
}

/* Programs pull what they need before they use it: what is here has been pulled. */
void api__ollama_pull(struct api__call *c)
{
    if (!take_name(c)) return;
    const char *name = json_string_value(api__field(c, "model"));
    if (!name || !api__model_find(c->a, name)) {
        api__ollama_refuse(c);
        return;
    }
    buf_puts(&c->out, "{\"status\":\"success\"}\n");
    api__reply(c, 200, &c->out);
}
