/* Fields of a request, checked before anything is queued: kind and range of each stand in a table or at
 * its reader, and the error names the field. null counts as absent, unknown fields are ignored, as
 * OpenAI's server does. */
#include "api_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Names of sampling numbers in requests: OpenAI's, and those of sample.h by their own. The ranges are the
 * table's in sample_field.c, but where OpenAI's is narrower. */
static const struct {
    const char *name, *field;
    double min, max;
} numbers[] = {
    {"temperature", "temp", 0, 2},
    {"top_p", "top_p", 0, 1},
    {"top_k", "top_k", 0, 1e6},
    {"min_p", "min_p", 0, 1},
    {"typical_p", "typical", 0, 1},
    {"presence_penalty", "presence_penalty", -2, 2},
    {"frequency_penalty", "frequency_penalty", -2, 2},
    {"repetition_penalty", "repeat_penalty", 0.01, 10},
    {"repeat_penalty", "repeat_penalty", 0.01, 10},
    {"repeat_last_n", "penalty_last_n", -1, SAMPLE_LOOKBACK_MAX},
    {"mirostat", "mirostat", 0, 2},
    {"mirostat_tau", "mirostat_tau", 0, 100},
    {"mirostat_eta", "mirostat_eta", 0, 1},
};

bool api__refuse(struct api__call *c, const char *param, const char *text)
{
    api__fail(c, 400, "invalid_request_error", param, NULL, text);
    return false;
}

bool api__bad(struct api__call *c, const char *param, const char *what)
{
    char text[500];
    snprintf(text, sizeof text, "'%s' %s", param, what);
    return api__refuse(c, param, text);
}

/* Depth outside strings, before the library recurses. */
static bool too_deep(const char *p, size_t n)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted && p[i] == '\\')
            i++;
        else if (p[i] == '"')
            quoted = !quoted;
        else if (!quoted && (p[i] == '[' || p[i] == '{') && ++depth > API__DEPTH_MAX)
            return true;
        else if (!quoted && (p[i] == ']' || p[i] == '}'))
            depth--;
    }
    return false;
}

bool api__body(struct api__call *c)
{
    size_t n;
    const char *p = http_body(c->r, &n);
    json_error_t error;
    char text[300] = "the body is nested deeper than 64 levels";
    if (c->body) return true; /* the second time: see api__model_of */
    if (!too_deep(p, n)) {
        c->body = json_loadb(p, n, JSON_REJECT_DUPLICATES, &error);
        /* Beyond 64 bits: to be ignored where the field is unknown, else out of its range. */
        if (!c->body && json_error_code(&error) == json_error_numeric_overflow)
            c->body = json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
        c->fields = c->body;
        if (json_is_object(c->body)) return true;
        snprintf(text, sizeof text, "the body is not a JSON object%s%s", c->body ? "" : ": ",
                 c->body ? "" : error.text);
    }
    api__fail(c, 400, "invalid_request_error", NULL, NULL, text);
    return false;
}

json_t *api__field(struct api__call *c, const char *name)
{
    json_t *j = name ? json_object_get(c->fields, name) : NULL;
    return json_is_null(j) ? NULL : j;
}

/* 1.0 is a whole number, too. */
static bool whole(const json_t *j, int64_t *out)
{
    double x = json_number_value(j);
    bool real = json_is_real(j) && x == floor(x) && fabs(x) < 9e15;
    *out = real ? (int64_t)x : json_integer_value(j);
    return real || json_is_integer(j);
}

bool api__int(struct api__call *c, const char *name, int64_t min, int64_t max, int64_t *out)
{
    json_t *j = api__field(c, name);
    char text[100];
    int64_t v;
    if (!j) return true;
    if (!whole(j, &v) || v < min || v > max) {
        snprintf(text, sizeof text, "must be a whole number from %lld to %lld", (long long)min,
                 (long long)max);
        return api__bad(c, name, text);
    }
    *out = v;
    return true;
}

bool api__token(const json_t *j, int64_t end, int32_t *out)
{
    int64_t v;
    if (!whole(j, &v) || v < 0 || v >= end) return false;
    *out = (int32_t)v;
    return true;
}

bool api__bool(struct api__call *c, const char *name, bool *out)
{
    json_t *j = api__field(c, name);
    if (!j) return true;
    if (!json_is_boolean(j)) return api__bad(c, name, "must be true or false");
    *out = json_is_true(j);
    return true;
}

bool api__kinds(struct api__call *c, const struct api__kind *table)
{
    static const char *const names[] = {[JSON_OBJECT] = "must be an object",
                                        [JSON_ARRAY] = "must be an array",
                                        [JSON_STRING] = "must be a string",
                                        [JSON_TRUE] = "must be true or false"};
    for (; table->name; table++) {
        json_t *j = api__field(c, table->name);
        bool same = j && (json_typeof(j) == table->type ||
                          (table->type == JSON_TRUE && json_is_boolean(j)));
        if (j && !same) return api__bad(c, table->name, names[table->type]);
    }
    return true;
}

int api_model_set(struct api_model *m, const char *field, double value, struct err *e)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(numbers[i].name, field)) continue;
        if (!(value >= numbers[i].min && value <= numbers[i].max))
            return err_set(e, ERR_USAGE, "%g is not from %g to %g", value, numbers[i].min,
                           numbers[i].max);
        return sample_field_set(sample_field_find(numbers[i].field), &m->sample, value, e);
    }
    return err_set(e, ERR_NOT_FOUND, "no field %.40s", field);
}

static bool take_numbers(struct api__call *c)
{
    struct sample_params *p = &c->answer.sample;
    char text[100];
    struct err e;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        json_t *j = api__field(c, numbers[i].name);
        double x = json_number_value(j);
        if (!j) continue;
        snprintf(text, sizeof text, "must be a number from %g to %g", numbers[i].min,
                 numbers[i].max);
        if (!json_is_number(j) || !(x >= numbers[i].min && x <= numbers[i].max))
            return api__bad(c, numbers[i].name, text);
        const struct sample_field *f = sample_field_find(numbers[i].field);
        if (sample_field_set(f, p, x, &e)) return api__bad(c, numbers[i].name, e.msg);
    }
    return true;
}

static bool take_seed(struct api__call *c)
{
    int64_t seed = 0;
    if (!api__int(c, "seed", INT64_MIN, INT64_MAX, &seed)) return false;
    c->answer.sample.seed = (uint64_t)seed;
    if (!api__field(c, "seed") &&
        getrandom(&c->answer.sample.seed, sizeof c->answer.sample.seed, 0) < 0)
        c->answer.sample.seed = 0;
    return true;
}

const struct api__names *api__names(const struct api__call *c)
{
    static const struct api__names chat = {"max_tokens", "max_completion_tokens", "stop", "n",
                                           "messages"};
    return c->form && c->form->names ? c->form->names : &chat;
}

static bool take_stops(struct api__call *c)
{
    enum { MOST = 16 };
    const char *name = api__names(c)->stop;
    json_t *j = api__field(c, name);
    const char *own = c->has_model && c->model->chat ? chat_stop(c->model->chat) : NULL;
    size_t n = json_is_array(j) ? json_array_size(j) : j != NULL;
    if (j && !json_is_array(j) && !json_is_string(j))
        return api__bad(c, name, "must be a string or an array of strings");
    if (n > MOST - 1) return api__bad(c, name, "may hold up to 15 strings");
    c->stops = calloc(MOST, sizeof *c->stops);
    if (!c->stops) return api__bad(c, name, "found no memory");
    for (size_t i = 0; i < n; i++) {
        json_t *s = json_is_array(j) ? json_array_get(j, i) : j;
        if (!json_is_string(s) || !json_string_length(s) || json_string_length(s) > 1024)
            return api__bad(c, name, "must hold strings of 1 to 1024 bytes");
        c->stops[c->answer.n_stops++] = json_string_value(s);
    }
    if (own) c->stops[c->answer.n_stops++] = own;
    c->answer.stops = c->stops;
    return true;
}

static bool take_biases(struct api__call *c)
{
    json_t *j = api__field(c, "logit_bias");
    int vocab = c->model->info.n_vocab, n = 0;
    if (!j) return true;
    if (!json_is_object(j)) return api__bad(c, "logit_bias", "must map token ids to numbers");
    if (json_object_size(j) > 1024) return api__bad(c, "logit_bias", "may hold up to 1024 tokens");
    c->bias = calloc(json_object_size(j) + 1, sizeof *c->bias);
    if (!c->bias) return api__bad(c, "logit_bias", "found no memory");
    for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it)) {
        json_t *v = json_object_iter_value(it);
        const char *key = json_object_iter_key(it);
        long id = strtol(key, NULL, 10);
        double x = json_number_value(v);
        if (strspn(key, "0123456789") != strlen(key) || !*key || id >= vocab)
            return api__bad(c, "logit_bias", "names no token id");
        if (!json_is_number(v) || !(x >= -100 && x <= 100))
            return api__bad(c, "logit_bias", "must hold numbers from -100 to 100");
        /* -100 forbids, as the API's documentation says. */
        c->bias[n++] = (struct sample_bias){(int32_t)id, x == -100 ? -INFINITY : (float)x};
    }
    c->answer.sample.bias = c->bias;
    c->answer.sample.n_bias = n;
    return true;
}

bool api__sampling(struct api__call *c)
{
    const struct api__names *names = api__names(c);
    int64_t max = c->model->own->max_tokens, n = 1;
    c->answer.sample = c->model->own->sample;
    json_t *options = api__field(c, "stream_options");
    if (!api__int(c, names->max_tokens, 1, INT32_MAX, &max) ||
        !api__int(c, names->max_tokens_too, 1, INT32_MAX, &max) ||
        !api__int(c, names->n, 1, API__CHOICES_MAX, &n) || !api__bool(c, "stream", &c->stream) ||
        !api__bool(c, "ignore_eos", &c->answer.ignore_eos) || !take_numbers(c) || !take_seed(c) ||
        !take_stops(c) || !take_biases(c))
        return false;
    if (options && !json_is_object(options))
        return api__bad(c, "stream_options", "must be an object");
    json_t *usage = json_object_get(options, "include_usage");
    if (usage && !json_is_boolean(usage) && !json_is_null(usage))
        return api__bad(c, "stream_options", "holds an include_usage that is not true or false");
    c->include_usage = json_is_true(usage);
    c->answer.max_tokens = (int)max;
    c->n_each = (int)n;
    return true;
}
