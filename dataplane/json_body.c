#include "dataplane/json_body.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t cn_json_body_depth(const char *text, size_t len)
{
    uint64_t depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > deepest) deepest = depth;
        } else if (c == ']' || c == '}') {
            if (depth) depth--;
        }
    }
    return deepest;
}

cn_code cn_json_body_parse(const char *text, size_t len, uint64_t depth_max, json_t **out,
                           cn_err *err)
{
    json_error_t where;
    *out = NULL;
    const uint64_t depth = cn_json_body_depth(text, len);
    if (depth > depth_max) {
        return cn_err_set(err, CN_E_LIMIT,
                          "body: nested %llu deep; must be at most %llu (limit json_depth)",
                          (unsigned long long)depth, (unsigned long long)depth_max);
    }
    json_t *root = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (!root) {
        return cn_err_set(err, CN_E_SYNTAX, "body: line %d, column %d: %s; must be a JSON object",
                          where.line, where.column, where.text);
    }
    if (!json_is_object(root)) {
        cn_err_set(err, CN_E_INVALID, "body: %s; must be a JSON object", cn_json_body_kind(root));
        json_decref(root);
        return CN_E_INVALID;
    }
    *out = root;
    return CN_OK;
}

json_t *cn_json_body_get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

cn_code cn_json_body_dump(const json_t *value, cn_arena *arena, const char **out, uint32_t *len,
                          cn_err *err)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    const size_t text_len = text ? strlen(text) : 0;
    *out = text ? cn_arena_copy(arena, text, text_len) : NULL;
    *len = (uint32_t)text_len;
    free(text);
    return *out ? CN_OK : cn_err_set(err, CN_E_MEMORY, "body: beyond limit request_bytes");
}

const char *cn_json_body_kind(const json_t *value)
{
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: break;
    }
    return "null";
}

bool cn_json_body_integer(const json_t *value, int64_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value)) return false;
    const double real = json_real_value(value);
    if (!isfinite(real) || real != floor(real) || fabs(real) > 9007199254740992.0) return false;
    *out = (int64_t)real;
    return true;
}
