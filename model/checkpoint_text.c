#include "model/checkpoint_text.h"

#include <stdlib.h>
#include <string.h>

#include "model/checkpoint_file.h"
#include "model/json_file.h"

static cn_code keep(cn_arena *arena, const char *file, const char *text, size_t len,
                    const char **out, cn_err *err)
{
    *out = cn_arena_copy(arena, text, len);
    return *out ? CN_OK : cn_err_set(err, CN_E_MEMORY, "%s: no memory for %zu bytes", file, len);
}

static cn_code keep_template(cn_checkpoint_text *out, cn_arena *arena, const char *file,
                             const char *text, size_t len, cn_err *err)
{
    out->chat_template_len = len;
    return keep(arena, file, text, len, &out->chat_template, err);
}

static cn_code read_template_file(const char *directory, cn_arena *arena, cn_checkpoint_text *out,
                                  cn_err *err)
{
    static const char name[] = "chat_template.jinja";
    char *data;
    size_t len;
    cn_code code = cn_checkpoint_file_read(directory, name, &data, &len, err);
    if (code == CN_E_NOT_FOUND) return CN_OK;
    if (code != CN_OK) return code;
    code = keep_template(out, arena, name, data, len, err);
    free(data);
    return code;
}

// A list holds {"name": ..., "template": ...}; the one named "default" is the chat template.
static cn_code find_default(const cn_json_object *config, const json_t *list, const json_t **out,
                            cn_err *err)
{
    size_t i;
    const json_t *item;
    *out = NULL;
    json_array_foreach(list, i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        const json_t *text = json_object_get(item, "template");
        if (!name || !json_is_string(text)) {
            return cn_err_set(
                err, CN_E_FORMAT,
                "%s: chat_template[%zu]: must be an object with name and template, both "
                "strings",
                config->file, i);
        }
        if (strcmp(name, "default") == 0) *out = text;
    }
    return CN_OK;
}

static cn_code read_template_field(const cn_json_object *config, cn_arena *arena,
                                   cn_checkpoint_text *out, cn_err *err)
{
    static const char field[] = "chat_template";
    const json_t *found = cn_json_file_find(config, field);
    if (!found) return CN_OK;
    if (json_is_array(found)) {
        const cn_code code = find_default(config, found, &found, err);
        if (code != CN_OK || !found) return code;
    }
    if (!json_is_string(found)) {
        return cn_json_file_refuse(config, field, CN_E_FORMAT, err,
                                   "must be a string, or a list of {name, template}");
    }
    return keep_template(out, arena, config->file, json_string_value(found),
                         json_string_length(found), err);
}

static const cn_special_token *find_token(const cn_checkpoint_text *text,
                                                     const char *name)
{
    for (uint32_t i = 0; i < text->token_count; i++) {
        if (strcmp(text->tokens[i].name, name) == 0) return &text->tokens[i];
    }
    return NULL;
}

static cn_code read_token(const cn_json_object *file, const char *field, const json_t *value,
                          cn_arena *arena, cn_checkpoint_text *out, cn_err *err)
{
    if (json_is_object(value)) value = json_object_get(value, "content");
    if (!json_is_string(value)) {
        return cn_json_file_refuse(file, field, CN_E_FORMAT, err,
                                   "must be a string, or an object with the string content");
    }
    if (out->token_count == CN_CHECKPOINT_SPECIAL_TOKENS_MAX) {
        return cn_err_set(err, CN_E_FORMAT, "%s: %.60s: is special token %d; at most %d are kept",
                          file->file, field, CN_CHECKPOINT_SPECIAL_TOKENS_MAX + 1,
                          CN_CHECKPOINT_SPECIAL_TOKENS_MAX);
    }
    cn_special_token *token = &out->tokens[out->token_count++];
    const cn_code code = keep(arena, file->file, field, strlen(field), &token->name, err);
    if (code != CN_OK) return code;
    return keep(arena, file->file, json_string_value(value), json_string_length(value),
                &token->content, err);
}

// Fields that end in _token; those that begin with add_ are switches (add_bos_token).
static bool names_token(const char *field)
{
    static const char suffix[] = "_token";
    const size_t len = strlen(field), suffix_len = sizeof suffix - 1;
    return len > suffix_len && strcmp(field + len - suffix_len, suffix) == 0 &&
           strncmp(field, "add_", 4) != 0;
}

static cn_code read_tokens(const cn_json_object *file, cn_arena *arena, cn_checkpoint_text *out,
                           cn_err *err)
{
    // The macros of jansson iterate over objects that may be changed, which this one is not.
    json_t *object = (json_t *)file->value;
    const char *field;
    json_t *value;
    json_object_foreach(object, field, value) {
        if (!names_token(field) || json_is_null(value) || json_is_boolean(value)) continue;
        if (find_token(out, field)) continue;
        const cn_code code = read_token(file, field, value, arena, out, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

cn_code cn_checkpoint_text_read(const char *directory, cn_arena *arena, cn_checkpoint_text *out,
                                cn_err *err)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json"};
    *out = (cn_checkpoint_text){0};
    cn_code code = read_template_file(directory, arena, out, err);
    for (size_t i = 0; code == CN_OK && i < sizeof names / sizeof names[0]; i++) {
        cn_json_file file;
        code = cn_json_file_open_if_there(directory, names[i], &file, err);
        const cn_json_object root = cn_json_file_root(&file);
        if (code == CN_OK) code = read_tokens(&root, arena, out, err);
        if (code == CN_OK && i == 0 && !out->chat_template) {
            code = read_template_field(&root, arena, out, err);
        }
        cn_json_file_close(&file);
    }
    return code;
}

const char *cn_checkpoint_text_token(const cn_checkpoint_text *text, const char *name)
{
    const cn_special_token *token = find_token(text, name);
    return token ? token->content : "";
}
