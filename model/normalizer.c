#include "model/normalizer_int.h"

#include <string.h>

#include <utf8proc.h>

#include "model/tokenizer_kinds_int.h"
#include "model/tokenizer_unicode_int.h"

static cn_code run_lowercase(const cn_normalizer_step *step, cn_tokenizer_work *work,
                             cn_tokenizer_text *text)
{
    (void)step;
    // Lower case is at most half as long again: U+023A grows from 2 bytes to 3, U+0130 from 2 to 3.
    char *out = cn_arena_take(work->arena, text->len + text->len / 2 + 4);
    if (!out) return cn_tokenizer_work_memory(work);
    size_t len = 0;
    for (size_t at = 0, width; at < text->len; at += width) {
        int32_t low[2];
        const int32_t c = cn_tokenizer_unicode_at(text->at + at, &width);
        const int count = cn_tokenizer_unicode_lower(c, low);
        for (int i = 0; i < count; i++) {
            len += (size_t)utf8proc_encode_char(low[i], (utf8proc_uint8_t *)out + len);
        }
    }
    text->at = out;
    text->len = len;
    return CN_OK;
}

static cn_code run_prepend(const cn_normalizer_step *step, cn_tokenizer_work *work,
                           cn_tokenizer_text *text)
{
    if (text->len == 0) return CN_OK;
    char *out = cn_arena_take(work->arena, step->content_len + text->len);
    if (!out) return cn_tokenizer_work_memory(work);
    memcpy(out, step->content, step->content_len);
    memcpy(out + step->content_len, text->at, text->len);
    text->at = out;
    text->len += step->content_len;
    return CN_OK;
}

static cn_code run_strip(const cn_normalizer_step *step, cn_tokenizer_work *work,
                         cn_tokenizer_text *text)
{
    (void)work;
    while (step->left && text->len) {
        size_t width;
        if (!cn_tokenizer_unicode_is_space(cn_tokenizer_unicode_at(text->at, &width))) break;
        text->at += width;
        text->len -= width;
        text->first = false;
    }
    while (step->right && text->len) {
        size_t start = text->len - 1, width;
        while (((unsigned char)text->at[start] & 0xC0) == 0x80) start--;
        const int32_t c = cn_tokenizer_unicode_at(text->at + start, &width);
        if (!cn_tokenizer_unicode_is_space(c)) break;
        text->len = start;
    }
    return CN_OK;
}

static cn_code run_replace(const cn_normalizer_step *step, cn_tokenizer_work *work,
                           cn_tokenizer_text *text)
{
    return cn_tokenizer_pattern_replace(step->pattern, work, step->content, step->content_len,
                                        text);
}

// NULL, with the error written, when there are too many.
static cn_normalizer_step *add_step(cn_normalizer *n, const cn_json_object *object,
                                    cn_normalizer_run_fn *run, cn_err *err)
{
    if (n->count == CN_NORMALIZER_STEPS_MAX) {
        cn_json_file_refuse(object, "type", CN_E_UNSUPPORTED, err,
                            "Cairn reads up to %d normalizers", CN_NORMALIZER_STEPS_MAX);
        return NULL;
    }
    cn_normalizer_step *step = &n->steps[n->count++];
    *step = (cn_normalizer_step){.run = run};
    return step;
}

static cn_code read_content(cn_normalizer *n, const cn_json_object *object, const char *field,
                            cn_normalizer_step *step, cn_err *err)
{
    const char *text;
    const cn_code code = cn_tokenizer_kinds_text(object, field, &text, err);
    if (code != CN_OK) return code;
    step->content_len = strlen(text);
    step->content = cn_arena_copy(n->arena, text, step->content_len);
    return step->content ? CN_OK : cn_err_set(err, CN_E_MEMORY, "%s: no memory", object->file);
}

static cn_code read_form(void *part, const cn_json_object *object, cn_err *err)
{
    static const cn_tokenizer_word forms[] = {
        {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
        {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
        {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
        {NULL, 0}};
    cn_normalizer_step *step = add_step(part, object, cn_normalizer_forms_run, err);
    if (!step) return CN_E_UNSUPPORTED;
    return cn_tokenizer_kinds_word(object, "type", forms, &step->forms, err);
}

static cn_code read_lowercase(void *part, const cn_json_object *object, cn_err *err)
{
    return add_step(part, object, run_lowercase, err) ? CN_OK : CN_E_UNSUPPORTED;
}

static cn_code read_prepend(void *part, const cn_json_object *object, cn_err *err)
{
    cn_normalizer_step *step = add_step(part, object, run_prepend, err);
    return step ? read_content(part, object, "prepend", step, err) : CN_E_UNSUPPORTED;
}

static cn_code read_replace(void *part, const cn_json_object *object, cn_err *err)
{
    cn_normalizer_step *step = add_step(part, object, run_replace, err);
    if (!step) return CN_E_UNSUPPORTED;
    const cn_code code = read_content(part, object, "content", step, err);
    return code == CN_OK ? cn_tokenizer_pattern_read(object, &step->pattern, err) : code;
}

static cn_code read_strip(void *part, const cn_json_object *object, cn_err *err)
{
    cn_normalizer_step *step = add_step(part, object, run_strip, err);
    if (!step) return CN_E_UNSUPPORTED;
    const cn_code code = cn_tokenizer_kinds_flag(object, "strip_left", &step->left, err);
    if (code != CN_OK) return code;
    return cn_tokenizer_kinds_flag(object, "strip_right", &step->right, err);
}

static const cn_tokenizer_kind kinds[] = {
    {"NFC", read_form},         {"NFD", read_form},         {"NFKC", read_form},
    {"NFKD", read_form},        {"Lowercase", read_lowercase}, {"Prepend", read_prepend},
    {"Replace", read_replace},  {"Strip", read_strip},      {NULL, NULL}};

cn_code cn_normalizer_read(const cn_json_object *root, cn_arena *arena, cn_normalizer *normalizer,
                           cn_err *err)
{
    normalizer->arena = arena;
    normalizer->count = 0;
    return cn_tokenizer_kinds_read(root, "normalizer", "normalizers", kinds, normalizer, err);
}

void cn_normalizer_close(cn_normalizer *normalizer)
{
    for (uint32_t i = 0; i < normalizer->count; i++) {
        cn_tokenizer_pattern_close(normalizer->steps[i].pattern);
    }
    normalizer->count = 0;
}

cn_code cn_normalizer_run(const cn_normalizer *normalizer, cn_tokenizer_work *work,
                          cn_tokenizer_text *text)
{
    cn_code code = CN_OK;
    for (uint32_t i = 0; i < normalizer->count && code == CN_OK; i++) {
        code = normalizer->steps[i].run(&normalizer->steps[i], work, text);
    }
    return code;
}
