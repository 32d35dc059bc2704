#include "model/tokenizer_post_int.h"

#include <string.h>

#include "model/tokenizer_kinds_int.h"

typedef struct reader {
    cn_tokenizer_post *post;
    const cn_tokenizer_vocab *vocab;
} reader;

// Offsets only, which Cairn does not report.
static cn_code read_byte_level(void *part, const cn_json_object *object, cn_err *err)
{
    (void)part;
    (void)object;
    (void)err;
    return CN_OK;
}

static cn_code append(const reader *r, const cn_json_object *special, const char *name,
                      cn_tokenizer_ids *list, cn_err *err)
{
    const json_t *ids = json_object_get(json_object_get(special->value, name), "ids");
    const size_t count = json_array_size(ids);
    if (count == 0) {
        return cn_json_file_refuse(special, name, CN_E_FORMAT, err,
                                   "must be an object with the array ids");
    }
    int32_t *all = cn_arena_take_array(r->vocab->arena, list->count + count, sizeof *all);
    if (!all) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", special->file);
    if (list->count) memcpy(all, list->ids, list->count * sizeof *all);
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(ids, i);
        const json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id > CN_TOKENIZER_ID_MAX ||
            !cn_tokenizer_vocab_at(r->vocab, (int32_t)id)) {
            return cn_json_file_refuse(special, name, CN_E_FORMAT, err,
                                       "must have ids of the vocabulary, and ids[%zu] is none", i);
        }
        all[list->count++] = (int32_t)id;
    }
    list->ids = all;
    return CN_OK;
}

// Puts what an outer template adds around what an inner one has added.
static cn_code wrap(const reader *r, const cn_tokenizer_post *outer, const cn_json_object *object,
                    cn_err *err)
{
    cn_tokenizer_ids *const sides[2] = {&r->post->before, &r->post->behind};
    const cn_tokenizer_ids *const firsts[2] = {&outer->before, &r->post->behind};
    const cn_tokenizer_ids *const seconds[2] = {&r->post->before, &outer->behind};
    for (int i = 0; i < 2; i++) {
        const uint32_t count = firsts[i]->count + seconds[i]->count;
        int32_t *all = cn_arena_take_array(r->vocab->arena, count, sizeof *all);
        if (!all) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", object->file);
        if (firsts[i]->count) memcpy(all, firsts[i]->ids, firsts[i]->count * sizeof *all);
        if (seconds[i]->count) {
            memcpy(all + firsts[i]->count, seconds[i]->ids, seconds[i]->count * sizeof *all);
        }
        *sides[i] = (cn_tokenizer_ids){all, count};
    }
    return CN_OK;
}

static cn_code read_template(void *part, const cn_json_object *object, cn_err *err)
{
    const reader *r = part;
    const json_t *single = cn_json_file_find(object, "single");
    cn_json_object special;
    cn_tokenizer_post outer = {0};
    uint32_t texts = 0;
    cn_code code = cn_json_file_child(object, "special_tokens", &special, err);
    for (size_t i = 0; i < json_array_size(single) && code == CN_OK; i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *name = json_object_get(json_object_get(item, "SpecialToken"), "id");
        const json_t *sequence = json_object_get(json_object_get(item, "Sequence"), "id");
        if (json_is_string(name)) {
            cn_tokenizer_ids *side = texts ? &outer.behind : &outer.before;
            code = append(r, &special, json_string_value(name), side, err);
        } else if (json_is_string(sequence) && strcmp(json_string_value(sequence), "A") == 0) {
            texts++;
        } else {
            texts = 2;
        }
    }
    if (code != CN_OK) return code;
    if (texts != 1) {
        return cn_json_file_refuse(object, "single", CN_E_UNSUPPORTED, err,
                                   "Cairn reads an array of SpecialToken and one Sequence A");
    }
    return wrap(r, &outer, object, err);
}

static const cn_tokenizer_kind kinds[] = {
    {"TemplateProcessing", read_template}, {"ByteLevel", read_byte_level}, {NULL, NULL}};

cn_code cn_tokenizer_post_read(const cn_json_object *root, const cn_tokenizer_vocab *vocab,
                               cn_tokenizer_post *post, cn_err *err)
{
    *post = (cn_tokenizer_post){0};
    reader r = {post, vocab};
    return cn_tokenizer_kinds_read(root, "post_processor", "processors", kinds, &r, err);
}
