/* The file of models. Beyond not crashing: an error is one line that begins with the file and a line number; what is
 * accepted has names that differ, a source each, and numbers in their ranges. */
#include "model_ini.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct model_ini ini;

static void require(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "broken property: %s\n", what);
    abort();
}

static const char *name_at(const struct api_model *m, int i)
{
    return i ? m->aliases[i - 1] : m->name;
}

static bool is_name(const char *s)
{
    size_t n = strlen(s);
    return n >= 1 && n <= 48 && strcspn(s, " \t\r\n,;[]\"'\\") == n;
}

static void check(const struct api_model *m)
{
    require(m->sample.temp >= 0 && m->sample.temp <= 2 && m->sample.top_p >= 0 &&
                m->sample.top_p <= 1,
            "sampling numbers are in range");
    require(m->ctx >= 0 && m->max_tokens >= 0, "whole numbers are not negative");
    require(!m->system || (*m->system && strlen(m->system) <= MODEL_INI_SYSTEM),
            "a system message's length");
    for (int i = 0; i <= m->n_aliases; i++) require(is_name(name_at(m, i)), "a name");
    for (int i = 0; i <= m->n_aliases; i++)
        for (int o = 0; o < ini.n; o++)
            for (int k = 0; k <= ini.items[o].model.n_aliases; k++) {
                const struct api_model *other = &ini.items[o].model;
                bool same = other == m && k == i;
                require(same || strcmp(name_at(m, i), name_at(other, k)), "names differ");
            }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {0};
    if (model_ini_parse(&ini, (const char *)data, n, "fuzz", &e)) {
        require(strncmp(e.msg, "fuzz:", 5) == 0 && strtol(e.msg + 5, NULL, 10) > 0,
                "an error names the line");
        require(!strpbrk(e.msg, "\n\r\x1b"), "an error is one line");
    } else {
        require(ini.n > 0 && ini.n <= MODEL_INI_MODELS, "there is a model");
        for (int i = 0; i < ini.n; i++) {
            require(ini.items[i].source && *ini.items[i].source, "each has a source");
            check(&ini.items[i].model);
        }
    }
    model_ini_free(&ini);
    return 0;
}
