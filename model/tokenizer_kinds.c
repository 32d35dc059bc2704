#include "model/tokenizer_kinds_int.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

enum { DEPTH_MAX = 4 };              // Sequences within Sequences; one is usual

typedef struct reader {
    const char *list;
    const cn_tokenizer_kind *kinds;
    void *part;
    int depth;
} reader;

static cn_code read_one(const reader *r, const cn_json_object *object, cn_err *err);

static cn_code read_sequence(const reader *r, const cn_json_object *object, cn_err *err)
{
    const json_t *steps = cn_json_file_find(object, r->list);
    if (!json_is_array(steps)) {
        return cn_json_file_refuse(object, r->list, CN_E_FORMAT, err, "must be an array");
    }
    if (r->depth >= DEPTH_MAX) {
        return cn_json_file_refuse(object, r->list, CN_E_UNSUPPORTED, err,
                                   "Cairn reads Sequences up to %d deep", DEPTH_MAX);
    }
    const reader inner = {r->list, r->kinds, r->part, r->depth + 1};
    for (size_t i = 0; i < json_array_size(steps); i++) {
        cn_json_object step = {json_array_get(steps, i), object->file, ""};
        snprintf(step.prefix, sizeof step.prefix, "%.30s%.20s[%u].", object->prefix, r->list,
                 (unsigned)i);
        const cn_code code = read_one(&inner, &step, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

static cn_code refuse_type(const reader *r, const cn_json_object *object, cn_err *err)
{
    char names[200] = "Sequence";
    size_t len = strlen(names);
    for (const cn_tokenizer_kind *kind = r->kinds; kind->type && len < sizeof names; kind++) {
        len += (size_t)snprintf(names + len, sizeof names - len, ", %s", kind->type);
    }
    return cn_json_file_refuse(object, "type", CN_E_UNSUPPORTED, err, "Cairn reads %s", names);
}

static cn_code read_one(const reader *r, const cn_json_object *object, cn_err *err)
{
    const char *type;
    const cn_code code = cn_tokenizer_kinds_text(object, "type", &type, err);
    if (code != CN_OK) return code;
    if (strcmp(type, "Sequence") == 0) return read_sequence(r, object, err);
    for (const cn_tokenizer_kind *kind = r->kinds; kind->type; kind++) {
        if (strcmp(type, kind->type) == 0) return kind->read(r->part, object, err);
    }
    return refuse_type(r, object, err);
}

cn_code cn_tokenizer_kinds_read(const cn_json_object *root, const char *field, const char *list,
                                const cn_tokenizer_kind *kinds, void *part, cn_err *err)
{
    const reader r = {list, kinds, part, 0};
    cn_json_object object;
    const cn_code code = cn_json_file_child(root, field, &object, err);
    if (code != CN_OK || !object.value) return code;
    return read_one(&r, &object, err);
}

cn_code cn_tokenizer_kinds_word(const cn_json_object *object, const char *field,
                                const cn_tokenizer_word *words, int *value, cn_err *err)
{
    char names[128] = "";
    size_t len = 0;
    const char *text = NULL;
    const cn_code code = cn_json_file_string(object, field, &text, err);
    if (code != CN_OK || !text) return code;
    for (const cn_tokenizer_word *word = words; word->word; word++) {
        if (strcmp(word->word, text) == 0) {
            *value = word->value;
            return CN_OK;
        }
        len += (size_t)snprintf(names + len, sizeof names - len, len ? ", %s" : "%s", word->word);
    }
    return cn_json_file_refuse(object, field, CN_E_UNSUPPORTED, err, "Cairn reads %s", names);
}

cn_code cn_tokenizer_kinds_text(const cn_json_object *object, const char *field, const char **value,
                                cn_err *err)
{
    *value = NULL;
    const cn_code code = cn_json_file_string(object, field, value, err);
    if (code != CN_OK || *value) return code;
    return cn_json_file_refuse(object, field, CN_E_FORMAT, err, "must be a string");
}

cn_code cn_tokenizer_kinds_flag(const cn_json_object *object, const char *field, bool *value,
                                cn_err *err)
{
    if (!cn_json_file_find(object, field)) {
        return cn_json_file_refuse(object, field, CN_E_FORMAT, err, "must be true or false");
    }
    return cn_json_file_bool(object, field, value, err);
}
