#include "model/generation.h"

/* Of the two files, the one that has `field`, even as null: null says that there is none. */
static const cn_json_object *holder(const cn_json_object *own, const cn_json_object *config,
                                    const char *field)
{
    return json_object_get(own->value, field) ? own : config;
}

// `value` is the field, or one of the ids in it.
static cn_code read_id(const cn_json_object *from, const char *field, const json_t *value,
                       uint32_t vocab_count, int32_t *out, cn_err *err)
{
    const json_int_t id = json_integer_value(value);
    if (!json_is_integer(value)) {
        return cn_err_set(err, CN_E_FORMAT, "%s: %s%s: must be a token id, not %s", from->file,
                          from->prefix, field, cn_json_file_type(value));
    }
    if (id < 0 || id >= (json_int_t)vocab_count) {
        return cn_err_set(err, CN_E_FORMAT,
                          "%s: %s%s: %lld; must be a token id from 0 to %u (vocab_size - 1)",
                          from->file, from->prefix, field, (long long)id, vocab_count - 1);
    }
    *out = (int32_t)id;
    return CN_OK;
}

static cn_code read_eos(const cn_json_object *from, const cn_model_config *config,
                        cn_generation_defaults *out, cn_err *err)
{
    static const char field[] = "eos_token_id";
    const uint32_t vocab_count = config->spec.vocab_count;
    const int32_t usual = config->family->defaults.eos_token;
    const json_t *found = json_object_get(from->value, field);
    if (!found && usual >= 0 && (uint32_t)usual < vocab_count) {
        out->eos_tokens[out->eos_count++] = usual;
    }
    if (!found || json_is_null(found)) return CN_OK;
    if (!json_is_array(found)) {
        out->eos_count = 1;
        return read_id(from, field, found, vocab_count, &out->eos_tokens[0], err);
    }
    if (json_array_size(found) > CN_EOS_TOKENS_MAX) {
        return cn_json_file_refuse(from, field, CN_E_FORMAT, err, "must have at most %d ids",
                                   CN_EOS_TOKENS_MAX);
    }
    size_t i;
    const json_t *item;
    json_array_foreach(found, i, item) {
        const cn_code code = read_id(from, field, item, vocab_count, &out->eos_tokens[i], err);
        if (code != CN_OK) return code;
        out->eos_count++;
    }
    return CN_OK;
}

static cn_code read_bos(const cn_json_object *from, const cn_model_config *config,
                        cn_generation_defaults *out, cn_err *err)
{
    static const char field[] = "bos_token_id";
    const uint32_t vocab_count = config->spec.vocab_count;
    const int32_t usual = config->family->defaults.bos_token;
    const json_t *found = json_object_get(from->value, field);
    if (found && !json_is_null(found)) {
        return read_id(from, field, found, vocab_count, &out->bos_token, err);
    }
    if (!found && usual >= 0 && (uint32_t)usual < vocab_count) out->bos_token = usual;
    return CN_OK;
}

static cn_code read_sampling(const cn_json_object *own, const cn_json_object *config,
                             cn_generation_defaults *out, cn_err *err)
{
    const struct {
        const char *field;
        double min, max;
        float *value;
    } numbers[] = {
        {"temperature", 0, 100, &out->temperature},
        {"top_p", 0, 1, &out->top_p},
        {"min_p", 0, 1, &out->min_p},
        {"repetition_penalty", 0.01, 100, &out->repetition_penalty},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const char *field = numbers[i].field;
        double number = (double)*numbers[i].value;
        const cn_code code = cn_json_file_double(holder(own, config, field), field, numbers[i].min,
                                                 numbers[i].max, &number, err);
        if (code != CN_OK) return code;
        *numbers[i].value = (float)number;
    }
    bool sample = true;
    cn_code code = cn_json_file_u32(holder(own, config, "top_k"), "top_k", 0,
                                    CN_MODEL_CONFIG_VOCAB_MAX, &out->top_k, err);
    if (code == CN_OK) {
        code = cn_json_file_bool(holder(own, config, "do_sample"), "do_sample", &sample, err);
    }
    if (!sample) out->temperature = 0;
    return code;
}

cn_code cn_generation_read(const char *directory, const cn_json_object *config_file,
                           const cn_model_config *config, cn_generation_defaults *out, cn_err *err)
{
    cn_json_file file;
    *out = (cn_generation_defaults){
        .bos_token = -1, .temperature = 1, .top_p = 1, .repetition_penalty = 1};
    cn_code code = cn_json_file_open_if_there(directory, "generation_config.json", &file, err);
    if (code != CN_OK) return code;
    const cn_json_object own = cn_json_file_root(&file);
    code = read_eos(holder(&own, config_file, "eos_token_id"), config, out, err);
    if (code == CN_OK) code = read_bos(holder(&own, config_file, "bos_token_id"), config, out, err);
    if (code == CN_OK) code = read_sampling(&own, config_file, out, err);
    cn_json_file_close(&file);
    return code;
}
