#include "model/pre_tokenizer_int.h"

#include <stdio.h>
#include <string.h>

#include "model/tokenizer_kinds_int.h"
#include "model/tokenizer_unicode_int.h"

// The expression of ByteLevel with use_regex, which is GPT-2's.
#define GPT2_REGEX                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static const cn_tokenizer_word behaviors[] = {
    {"Removed", CN_PRE_TOKENIZER_REMOVED},
    {"Isolated", CN_PRE_TOKENIZER_ISOLATED},
    {"MergedWithPrevious", CN_PRE_TOKENIZER_MERGED_WITH_PREVIOUS},
    {"MergedWithNext", CN_PRE_TOKENIZER_MERGED_WITH_NEXT},
    {"Contiguous", CN_PRE_TOKENIZER_CONTIGUOUS},
    {NULL, 0}};

static const cn_tokenizer_word prepends[] = {{"never", CN_PRE_TOKENIZER_NEVER},
                                             {"first", CN_PRE_TOKENIZER_FIRST},
                                             {"always", CN_PRE_TOKENIZER_ALWAYS},
                                             {NULL, 0}};

// NULL, with the error written, where no further step can follow.
static cn_pre_tokenizer_step *add_step(cn_pre_tokenizer *pre, const cn_json_object *object,
                                       cn_err *err)
{
    if (pre->byte_level) {
        cn_json_file_refuse(object, "type", CN_E_UNSUPPORTED, err,
                            "Cairn reads ByteLevel only as the last pre-tokenizer");
        return NULL;
    }
    if (pre->count == CN_PRE_TOKENIZER_STEPS_MAX) {
        cn_json_file_refuse(object, "type", CN_E_UNSUPPORTED, err,
                            "Cairn reads up to %d pre-tokenizers", CN_PRE_TOKENIZER_STEPS_MAX);
        return NULL;
    }
    cn_pre_tokenizer_step *step = &pre->steps[pre->count++];
    *step = (cn_pre_tokenizer_step){.behavior = CN_PRE_TOKENIZER_ISOLATED};
    return step;
}

static void set_mark(cn_pre_tokenizer_step *step, const char *mark)
{
    snprintf(step->mark, sizeof step->mark, "%s", mark);
    step->mark_len = (uint32_t)strlen(step->mark);
}

static cn_code open_regex(const cn_json_object *object, const char *regex,
                          cn_pre_tokenizer_step *step, cn_err *err)
{
    const cn_code code = cn_tokenizer_pattern_open(regex, &step->pattern);
    if (code == CN_OK) return CN_OK;
    return cn_err_set(err, code, "%s: no memory to compile an expression", object->file);
}

static cn_code read_byte_level(void *part, const cn_json_object *object, cn_err *err)
{
    cn_pre_tokenizer *pre = part;
    cn_pre_tokenizer_step *step = add_step(pre, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    bool use_regex = true, add_prefix_space;
    cn_code code = cn_json_file_bool(object, "use_regex", &use_regex, err);
    if (code != CN_OK) return code;
    code = cn_tokenizer_kinds_flag(object, "add_prefix_space", &add_prefix_space, err);
    if (code != CN_OK) return code;
    set_mark(step, " ");
    step->prepend = add_prefix_space ? CN_PRE_TOKENIZER_ALWAYS : CN_PRE_TOKENIZER_NEVER;
    step->passes = !use_regex;
    pre->byte_level = true;
    return use_regex ? open_regex(object, GPT2_REGEX, step, err) : CN_OK;
}

static cn_code read_split(void *part, const cn_json_object *object, cn_err *err)
{
    cn_pre_tokenizer_step *step = add_step(part, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    const char *behavior;
    cn_code code = cn_tokenizer_kinds_text(object, "behavior", &behavior, err);
    if (code != CN_OK) return code;
    code = cn_tokenizer_kinds_word(object, "behavior", behaviors, &step->behavior, err);
    if (code == CN_OK) code = cn_json_file_bool(object, "invert", &step->invert, err);
    return code == CN_OK ? cn_tokenizer_pattern_read(object, &step->pattern, err) : code;
}

/* Files from before prepend_scheme say add_prefix_space; where both stand they must agree. */
static cn_code read_prepend(const cn_json_object *object, cn_pre_tokenizer_step *step, cn_err *err)
{
    bool add_prefix_space = true;
    step->prepend = CN_PRE_TOKENIZER_ALWAYS;
    cn_code code = cn_json_file_bool(object, "add_prefix_space", &add_prefix_space, err);
    if (code != CN_OK) return code;
    if (!add_prefix_space) step->prepend = CN_PRE_TOKENIZER_NEVER;
    code = cn_tokenizer_kinds_word(object, "prepend_scheme", prepends, &step->prepend, err);
    if (code != CN_OK || add_prefix_space || step->prepend == CN_PRE_TOKENIZER_NEVER) return code;
    return cn_json_file_refuse(object, "prepend_scheme", CN_E_FORMAT, err,
                               "must be never where add_prefix_space is false");
}

static cn_code read_metaspace(void *part, const cn_json_object *object, cn_err *err)
{
    cn_pre_tokenizer_step *step = add_step(part, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    const char *mark;
    bool split = true;
    cn_code code = cn_tokenizer_kinds_text(object, "replacement", &mark, err);
    if (code != CN_OK) return code;
    if (!*mark || strlen(mark) != cn_tokenizer_unicode_step(mark)) {
        return cn_json_file_refuse(object, "replacement", CN_E_FORMAT, err, "must be one character");
    }
    set_mark(step, mark);
    step->marks = true;
    code = read_prepend(object, step, err);
    if (code == CN_OK) code = cn_json_file_bool(object, "split", &split, err);
    if (code != CN_OK) return code;
    step->passes = !split;
    step->behavior = CN_PRE_TOKENIZER_MERGED_WITH_NEXT;
    char regex[16];
    snprintf(regex, sizeof regex, "\\Q%s\\E", mark);
    return split ? open_regex(object, regex, step, err) : CN_OK;
}

static cn_code read_digits(void *part, const cn_json_object *object, cn_err *err)
{
    cn_pre_tokenizer_step *step = add_step(part, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    bool individual = false;
    const cn_code code = cn_json_file_bool(object, "individual_digits", &individual, err);
    step->is_cut = cn_tokenizer_unicode_is_numeric;
    if (!individual) step->behavior = CN_PRE_TOKENIZER_CONTIGUOUS;
    return code;
}

static cn_code read_punctuation(void *part, const cn_json_object *object, cn_err *err)
{
    cn_pre_tokenizer_step *step = add_step(part, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    step->is_cut = cn_tokenizer_unicode_is_punctuation;
    return cn_tokenizer_kinds_word(object, "behavior", behaviors, &step->behavior, err);
}

/* Whitespace is \w+|[^\w\s]+: spaces go, and of the rest words and others are apart. */
static cn_code read_whitespace(void *part, const cn_json_object *object, cn_err *err)
{
    cn_pre_tokenizer_step *spaces = add_step(part, object, err);
    cn_pre_tokenizer_step *words = spaces ? add_step(part, object, err) : NULL;
    if (!words) return CN_E_UNSUPPORTED;
    spaces->is_cut = cn_tokenizer_unicode_is_space;
    spaces->behavior = CN_PRE_TOKENIZER_REMOVED;
    words->is_cut = cn_tokenizer_unicode_is_word;
    words->behavior = CN_PRE_TOKENIZER_CONTIGUOUS;
    return CN_OK;
}

static cn_code read_whitespace_split(void *part, const cn_json_object *object, cn_err *err)
{
    cn_pre_tokenizer_step *step = add_step(part, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    step->is_cut = cn_tokenizer_unicode_is_space;
    step->behavior = CN_PRE_TOKENIZER_REMOVED;
    return CN_OK;
}

static const cn_tokenizer_kind kinds[] = {{"ByteLevel", read_byte_level},
                                          {"Split", read_split},
                                          {"Metaspace", read_metaspace},
                                          {"Digits", read_digits},
                                          {"Punctuation", read_punctuation},
                                          {"Whitespace", read_whitespace},
                                          {"WhitespaceSplit", read_whitespace_split},
                                          {NULL, NULL}};

cn_code cn_pre_tokenizer_read(const cn_json_object *root, cn_pre_tokenizer *pre, cn_err *err)
{
    *pre = (cn_pre_tokenizer){0};
    return cn_tokenizer_kinds_read(root, "pre_tokenizer", "pretokenizers", kinds, pre, err);
}

void cn_pre_tokenizer_close(cn_pre_tokenizer *pre)
{
    for (uint32_t i = 0; i < pre->count; i++) cn_tokenizer_pattern_close(pre->steps[i].pattern);
    pre->count = 0;
}
