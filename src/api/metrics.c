/* GET /metrics: Prometheus' text format (exposition format 0.0.4). Names with vllm: are those that stock
 * dashboards read. */
#include "api_int.h"

#include "out.h"
#include <string.h>

static const double bounds[API__BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                            0.5,   1,      2.5,   5,    10,    30,   60,  300};

void api__observe(struct api__histogram *h, double seconds)
{
    int i = 0;
    while (i < API__BUCKETS && seconds > bounds[i]) i++;
    h->count[i]++;
    h->sum += seconds;
}

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void histogram(struct buf *b, const char *name, const char *help,
                      const struct api__histogram *h)
{
    long long so_far = 0;
    head(b, name, "histogram", help);
    for (int i = 0; i < API__BUCKETS; i++) {
        so_far += h->count[i];
        buf_printf(b, "%s_bucket{le=\"%g\"} %lld\n", name, bounds[i], so_far);
    }
    so_far += h->count[API__BUCKETS];
    buf_printf(b, "%s_bucket{le=\"+Inf\"} %lld\n%s_sum %.9g\n%s_count %lld\n", name, so_far, name,
               h->sum, name, so_far);
}

static double waiting(const struct worker_stats *s)
{
    return s->waiting;
}

static double running(const struct worker_stats *s)
{
    return s->running;
}

static double kv_usage(const struct worker_stats *s)
{
    return s->pages ? (double)s->pages_used / s->pages : 0;
}

static double prompt_tokens(const struct worker_stats *s)
{
    return (double)s->prompt_tokens;
}

static double looked_up_tokens(const struct worker_stats *s)
{
    return (double)s->looked_up_tokens;
}

static double output_tokens(const struct worker_stats *s)
{
    return (double)s->output_tokens;
}

static double cached_tokens(const struct worker_stats *s)
{
    return (double)s->cached_tokens;
}

static double preempted(const struct worker_stats *s)
{
    return (double)s->preempted;
}

static double forced_tokens(const struct worker_stats *s)
{
    return (double)s->forced_tokens;
}

static double drafts(const struct worker_stats *s)
{
    return (double)s->drafts;
}

static double drafted_tokens(const struct worker_stats *s)
{
    return (double)s->drafted_tokens;
}

static double accepted_tokens(const struct worker_stats *s)
{
    return (double)s->accepted_tokens;
}

static double busy(const struct worker_stats *s)
{
    return (double)s->busy_ns * 1e-9;
}

static double steps(const struct worker_stats *s)
{
    return (double)s->steps;
}

/* What is told of each model. */
static const struct {
    const char *name, *type, *help;
    double (*get)(const struct worker_stats *s);
} of_models[] = {
    {"vllm:num_requests_running", "gauge", "Requests being computed.", running},
    {"vllm:num_requests_waiting", "gauge", "Requests that wait.", waiting},
    {"vllm:kv_cache_usage_perc", "gauge", "Share of KV pages in use, 1 is all.", kv_usage},
    {"vllm:prompt_tokens_total", "counter", "Tokens of prompts, and of texts to vectors.",
     prompt_tokens},
    {"vllm:generation_tokens_total", "counter", "Tokens of answers.", output_tokens},
    {"vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache.",
     looked_up_tokens},
    {"vllm:prefix_cache_hits_total", "counter", "Prompt tokens found there.", cached_tokens},
    {"vllm:num_preemptions_total", "counter", "Requests put back for want of pages.", preempted},
    {"vllm:spec_decode_num_drafts_total", "counter", "Times that tokens were drafted.", drafts},
    {"vllm:spec_decode_num_draft_tokens_total", "counter", "Tokens drafted.", drafted_tokens},
    {"vllm:spec_decode_num_accepted_tokens_total", "counter", "Of them, those that were right.",
     accepted_tokens},
    {"solvent_forced_tokens_total", "counter",
     "Tokens of answers that a grammar left no choice about.", forced_tokens},
    {"solvent_busy_seconds_total", "counter", "Time spent in steps of the model.", busy},
    {"solvent_steps_total", "counter", "Steps of the model.", steps},
};

struct look {
    struct api *a;
    struct worker_stats *stats;
};

static void take_stats(void *arg, int id)
{
    struct look *l = arg;
    worker_stats(l->a->models[id].worker, l->stats);
}

static double is_loaded(const struct models_info *l)
{
    return l->state == MODELS_LOADED || l->state == MODELS_LEAVING;
}

static double bytes(const struct models_info *l)
{
    return l->state == MODELS_OUT ? 0 : (double)l->bytes;
}

static double loads(const struct models_info *l)
{
    return (double)l->loads;
}

static double waits(const struct models_info *l)
{
    return l->waiting;
}

/* What is told of those that are not loaded, too. */
static const struct {
    const char *name, *type, *help;
    double (*get)(const struct models_info *l);
} of_loads[] = {
    {"solvent_model_loaded", "gauge", "1: the model is in memory.", is_loaded},
    {"solvent_model_bytes", "gauge", "Memory that the model takes.", bytes},
    {"solvent_model_loads_total", "counter", "Times that the model was loaded.", loads},
    {"solvent_model_waiting", "gauge", "Requests that wait for the model to be loaded.", waits},
};

static void put_loads(struct api *a, struct buf *b)
{
    for (size_t k = 0; k < sizeof of_loads / sizeof *of_loads; k++) {
        head(b, of_loads[k].name, of_loads[k].type, of_loads[k].help);
        for (int i = 0; i < a->n_models; i++) {
            struct models_info l;
            if (a->models[i].removed) continue; /* one of this name may have come since */
            models_info(a->loaded, i, &l);
            buf_printf(b, "%s{model_name=", of_loads[k].name);
            out_cstring(b, a->models[i].name);
            buf_printf(b, "} %.17g\n", of_loads[k].get(&l));
        }
    }
}

static void put_models(struct api *a, struct buf *b)
{
    for (size_t k = 0; k < sizeof of_models / sizeof *of_models; k++) {
        head(b, of_models[k].name, of_models[k].type, of_models[k].help);
        for (int i = 0; i < a->n_models; i++) {
            struct worker_stats s;
            if (a->models[i].removed) continue;
            if (!models_look(a->loaded, i, take_stats, &(struct look){a, &s})) continue;
            buf_printf(b, "%s{model_name=", of_models[k].name);
            out_cstring(b, a->models[i].name);
            buf_printf(b, "} %.17g\n", of_models[k].get(&s));
        }
    }
}

static void put_number(struct buf *b, const char *name, const char *type, const char *help,
                       int64_t value)
{
    head(b, name, type, help);
    buf_printf(b, "%s %lld\n", name, (long long)value);
}

static void put_http(const struct http *h, const struct api__metrics *m, struct buf *b)
{
    struct http_info i;
    int64_t refused = 0;
    http_info(h, &i);
    for (size_t k = 400; k < sizeof m->answers / sizeof *m->answers; k++) refused += m->answers[k];
    put_number(b, "solvent_http_connections", "gauge", "Connections that are open.", i.connections);
    put_number(b, "solvent_http_connections_opened_total", "counter", "Connections so far.",
               i.opened);
    put_number(b, "solvent_http_received_bytes_total", "counter", "Of the bodies of requests.",
               i.received_bytes);
    put_number(b, "solvent_http_sent_bytes_total", "counter", "Of the bodies of answers.",
               i.sent_bytes);
    put_number(b, "solvent_http_requests_total", "counter", "Requests that arrived whole.",
               i.requests);
    put_number(b, "solvent_http_refused_total", "counter", "Answers with a status of 400 or more.",
               refused);
    head(b, "solvent_http_answers_total", "counter",
         "Answers by status; 0: cut before it was sent.");
    for (size_t k = 0; k < sizeof m->answers / sizeof *m->answers; k++)
        if (m->answers[k])
            buf_printf(b, "solvent_http_answers_total{status=\"%zu\"} %lld\n", k,
                       (long long)m->answers[k]);
    head(b, "solvent_http_cut_total", "counter", "Connections cut or not let in, by the reason.");
    for (int k = 0; k < HTTP_CUTS; k++)
        buf_printf(b, "solvent_http_cut_total{reason=\"%s\"} %lld\n", http_cut_names[k],
                   (long long)i.cut[k]);
}

void api__put_metrics(struct api *a, const struct http *h, struct buf *b)
{
    static const char *const reasons[] = {
        [ANSWER_EOS] = "stop",        [ANSWER_STOP] = "stop_string", [ANSWER_LENGTH] = "length",
        [ANSWER_CONTEXT] = "context", [ANSWER_CANCELLED] = "abort",  [7] = "error"};
    thread_hold(&a->lock);
    struct api__metrics m = a->metrics;
    thread_release(&a->lock);
    put_models(a, b);
    put_loads(a, b);
    head(b, "vllm:request_success_total", "counter", "Answers by the reason of their end.");
    for (int i = 0; i < 8; i++)
        if (reasons[i])
            buf_printf(b, "vllm:request_success_total{finished_reason=\"%s\"} %lld\n", reasons[i],
                       (long long)m.finished[i]);
    put_http(h, &m, b);
    histogram(b, "vllm:time_to_first_token_seconds", "From the request to its first token.",
              &m.ttft);
    histogram(b, "vllm:inter_token_latency_seconds", "Between two tokens of an answer.", &m.gap);
    histogram(b, "vllm:e2e_request_latency_seconds", "From the request to the end of its answer.",
              &m.e2e);
    histogram(b, "vllm:request_queue_time_seconds", "From the request to its first step.",
              &m.queue);
}
