#include "model/json_file.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint_file.h"

cn_code cn_json_file_open(const char *directory, const char *name, cn_json_file *out, cn_err *err)
{
    char *text;
    size_t len;
    *out = (cn_json_file){.name = name};
    const cn_code code = cn_checkpoint_file_read(directory, name, &text, &len, err);
    if (code != CN_OK) return code;
    json_error_t why;
    out->root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (!out->root) {
        return cn_err_set(err, CN_E_FORMAT, "%s: line %d: %s", name, why.line, why.text);
    }
    if (json_is_object(out->root)) return CN_OK;
    cn_json_file_close(out);
    return cn_err_set(err, CN_E_FORMAT, "%s: is an array; must be a JSON object", name);
}

cn_code cn_json_file_open_if_there(const char *directory, const char *name, cn_json_file *out,
                                   cn_err *err)
{
    const cn_code code = cn_json_file_open(directory, name, out, err);
    return code == CN_E_NOT_FOUND ? CN_OK : code;
}

void cn_json_file_close(cn_json_file *file)
{
    json_decref(file->root);
    file->root = NULL;
}

cn_json_object cn_json_file_root(const cn_json_file *file)
{
    return (cn_json_object){.value = file->root, .file = file->name};
}

const json_t *cn_json_file_find(const cn_json_object *object, const char *field)
{
    const json_t *value = json_object_get(object->value, field);
    return json_is_null(value) ? NULL : value;
}

const char *cn_json_file_type(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a number that is no integer",
        [JSON_TRUE] = "true", [JSON_FALSE] = "false", [JSON_NULL] = "null"};
    return value ? names[json_typeof(value)] : "missing";
}

enum { SHOWN_BYTES = 64, SHOWN_TEXT_MAX = 40 };

// A string in quotes, cut at a character, with nothing in it that could disturb a terminal.
static void show_string(const char *text, char out[SHOWN_BYTES])
{
    size_t len = strlen(text);
    const bool cut = len > SHOWN_TEXT_MAX;
    if (cut) len = SHOWN_TEXT_MAX;
    while (cut && len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80) len--;
    snprintf(out, SHOWN_BYTES, "\"%.*s%s\"", (int)len, text, cut ? "..." : "");
    for (char *c = out; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
    }
}

static void show(const json_t *value, char out[SHOWN_BYTES])
{
    if (json_is_string(value)) show_string(json_string_value(value), out);
    else if (json_is_integer(value)) snprintf(out, SHOWN_BYTES, "%lld", json_integer_value(value));
    else if (json_is_real(value)) snprintf(out, SHOWN_BYTES, "%.9g", json_real_value(value));
    else snprintf(out, SHOWN_BYTES, "%s", cn_json_file_type(value));
}

cn_code cn_json_file_refuse(const cn_json_object *object, const char *field, cn_code code,
                            cn_err *err, const char *right, ...)
{
    char shown[SHOWN_BYTES], text[256];
    va_list args;
    va_start(args, right);
    vsnprintf(text, sizeof text, right, args);
    va_end(args);
    show(cn_json_file_find(object, field), shown);
    return cn_err_set(err, code, "%s: %s%s: %s; %s", object->file, object->prefix, field, shown,
                      text);
}

cn_code cn_json_file_u32(const cn_json_object *object, const char *field, uint32_t min,
                         uint32_t max, uint32_t *value, cn_err *err)
{
    const json_t *found = cn_json_file_find(object, field);
    if (!found) return CN_OK;
    const json_int_t number = json_integer_value(found);
    if (!json_is_integer(found) || number < (json_int_t)min || number > (json_int_t)max) {
        return cn_json_file_refuse(object, field, CN_E_FORMAT, err,
                                   "must be an integer from %u to %u", min, max);
    }
    *value = (uint32_t)number;
    return CN_OK;
}

cn_code cn_json_file_double(const cn_json_object *object, const char *field, double min, double max,
                            double *value, cn_err *err)
{
    const json_t *found = cn_json_file_find(object, field);
    if (!found) return CN_OK;
    const double number = json_number_value(found);
    if (!json_is_number(found) || !(number >= min && number <= max)) {
        return cn_json_file_refuse(object, field, CN_E_FORMAT, err,
                                   "must be a number from %g to %g", min, max);
    }
    *value = number;
    return CN_OK;
}

cn_code cn_json_file_bool(const cn_json_object *object, const char *field, bool *value, cn_err *err)
{
    const json_t *found = cn_json_file_find(object, field);
    if (!found) return CN_OK;
    if (!json_is_boolean(found)) {
        return cn_json_file_refuse(object, field, CN_E_FORMAT, err, "must be true or false");
    }
    *value = json_is_true(found);
    return CN_OK;
}

cn_code cn_json_file_string(const cn_json_object *object, const char *field, const char **value,
                            cn_err *err)
{
    const json_t *found = cn_json_file_find(object, field);
    if (!found) return CN_OK;
    if (!json_is_string(found)) {
        return cn_json_file_refuse(object, field, CN_E_FORMAT, err, "must be a string");
    }
    *value = json_string_value(found);
    return CN_OK;
}

cn_code cn_json_file_child(const cn_json_object *object, const char *field, cn_json_object *out,
                           cn_err *err)
{
    const json_t *found = cn_json_file_find(object, field);
    *out = (cn_json_object){.value = found, .file = object->file};
    snprintf(out->prefix, sizeof out->prefix, "%.30s%.30s.", object->prefix, field);
    if (found && !json_is_object(found)) {
        return cn_json_file_refuse(object, field, CN_E_FORMAT, err, "must be an object");
    }
    return CN_OK;
}
