/* Tools: which may be called, what a model is told of them when its template has no word for them, and
 * answers that must be a call. */
#include "api_int.h"

#include <stdlib.h>
#include <string.h>

static const char *name_of(json_t *tool)
{
    return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

static bool name_ok(const char *s)
{
    size_t n = s ? strlen(s) : 0;
    return n >= 1 && n <= 64 &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == n;
}

bool api__tool_known(void *arg, const char *name)
{
    struct api__call *c = arg;
    size_t i;
    json_t *tool;
    json_array_foreach(c->tools, i, tool) if (strcmp(name_of(tool), name) == 0) return true;
    return false;
}

static bool check(struct api__call *c, json_t *tools)
{
    size_t i;
    json_t *tool;
    if (!json_is_array(tools) || json_array_size(tools) > API__TOOLS_MAX)
        return api__refuse(c, "tools", "'tools' must be an array of up to 128 tools");
    json_array_foreach(tools, i, tool)
    {
        json_t *parameters = json_object_get(json_object_get(tool, "function"), "parameters");
        const char *type = json_string_value(json_object_get(tool, "type"));
        if (!type || strcmp(type, "function") || !name_ok(name_of(tool)))
            return api__refuse(c, "tools",
                               "'tools' must hold functions with names of 1 to 64 characters of "
                               "a-z, A-Z, 0-9, '_', '-' and '.'");
        if (parameters && !json_is_null(parameters) && !json_is_object(parameters))
            return api__refuse(c, "tools", "'tools': 'parameters' must be a JSON schema");
    }
    return true;
}

/* The schema of a call of a tool, or of any when only is NULL. */
static json_t *schema_of_call(json_t *tools, const char *only)
{
    json_t *any = json_array(), *tool;
    size_t i;
    json_array_foreach(tools, i, tool)
    {
        json_t *parameters = json_object_get(json_object_get(tool, "function"), "parameters");
        bool has = json_object_size(parameters) > 0;
        if (only && strcmp(only, name_of(tool))) continue;
        json_array_append_new(
            any, json_pack("{s:s, s:{s:{s:s}, s:o}, s:[s, s], s:b}", "type", "object", "properties",
                           "name", "const", name_of(tool), "arguments",
                           has ? json_incref(parameters) : json_pack("{s:s}", "type", "object"),
                           "required", "name", "arguments", "additionalProperties", 0));
    }
    return json_pack("{s:o}", "anyOf", any);
}

static bool constrain(struct api__call *c, const char *only)
{
    json_t *schema = schema_of_call(c->tools, only);
    char *text = schema ? json_dumps(schema, 0) : NULL;
    json_decref(schema);
    bool ok = text ? api__constrain(c, 's', text, strlen(text), "tools")
                   : api__refuse(c, "tools", "'tools' found no memory");
    free(text);
    return ok;
}

bool api__tools(struct api__call *c, json_t *tools, json_t *choice)
{
    const char *word = json_string_value(choice);
    const char *only = name_of(choice);
    bool none = word && strcmp(word, "none") == 0;
    bool free = !choice || json_is_null(choice) || (word && strcmp(word, "auto") == 0);
    if (tools && !json_is_null(tools) && !check(c, tools)) return false;
    if (none || (free && !json_array_size(tools))) return true;
    if (!json_array_size(tools))
        return api__refuse(c, "tool_choice", "'tool_choice' wants 'tools'");
    c->tools = tools;
    if (free) return true;
    if (c->grammar)
        return api__refuse(c, "tool_choice",
                           "'tool_choice' and 'response_format' cannot both be demanded");
    if (word && strcmp(word, "required") == 0) return constrain(c, NULL);
    if (!only || !api__tool_known(c, only))
        return api__refuse(c, "tool_choice",
                           "'tool_choice' is none, auto, required, or names one of 'tools'");
    return constrain(c, only);
}
