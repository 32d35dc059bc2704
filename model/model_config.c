#include "model/model_config.h"

#include <string.h>

#include "model/rope.h"

// The first architecture of the list that a row has; a list says no more than that.
static const cn_family *find_architecture(const json_t *list)
{
    size_t i;
    const json_t *item;
    const cn_family *family = NULL;
    json_array_foreach(list, i, item) {
        if (!family && json_is_string(item)) family = cn_family_find(json_string_value(item), NULL);
    }
    return family;
}

static cn_code find_family(const cn_json_object *file, const cn_family **out, cn_err *err)
{
    char served[CN_FAMILY_LIST_BYTES];
    const char *type = NULL;
    const json_t *list = cn_json_file_find(file, "architectures");
    const cn_code code = cn_json_file_string(file, "model_type", &type, err);
    if (code != CN_OK) return code;
    if (list && !json_is_array(list)) {
        return cn_json_file_refuse(file, "architectures", CN_E_FORMAT, err,
                                   "must be an array of strings");
    }
    cn_family_list(served);
    *out = json_array_size(list) ? find_architecture(list) : cn_family_find(NULL, type);
    if (*out && (!type || strcmp(type, (*out)->name) == 0)) return CN_OK;
    if (*out) {
        return cn_json_file_refuse(file, "model_type", CN_E_FORMAT, err,
                                   "must be \"%s\", as architectures says %s", (*out)->name,
                                   (*out)->architecture);
    }
    if (json_array_size(list) == 0) {
        return cn_json_file_refuse(file, "model_type", CN_E_UNSUPPORTED, err, "Cairn serves %s",
                                   served);
    }
    const char *first = json_string_value(json_array_get(list, 0));
    return cn_err_set(err, CN_E_UNSUPPORTED, "%s: architectures: %.60s; Cairn serves %s",
                      file->file, first ? first : "not a string", served);
}

static cn_code read_sizes(const cn_json_object *file, const cn_family_defaults *defaults,
                          cn_model_spec *spec, cn_err *err)
{
    const struct {
        const char *field;
        uint32_t *value;
        uint32_t initial, max;
    } sizes[] = {
        {"vocab_size", &spec->vocab_count, defaults->vocab_count, CN_MODEL_CONFIG_VOCAB_MAX},
        {"hidden_size", &spec->dim, defaults->dim, CN_MODEL_CONFIG_DIM_MAX},
        {"intermediate_size", &spec->mlp_dim, defaults->mlp_dim, CN_MODEL_CONFIG_MLP_MAX},
        {"num_hidden_layers", &spec->layer_count, defaults->layer_count,
         CN_MODEL_CONFIG_LAYERS_MAX},
        {"num_attention_heads", &spec->head_count, defaults->head_count, CN_MODEL_CONFIG_HEADS_MAX},
        {"num_key_value_heads", &spec->kv_head_count, defaults->kv_head_count,
         CN_MODEL_CONFIG_HEADS_MAX},
        {"head_dim", &spec->head_dim, defaults->head_dim, CN_MODEL_CONFIG_HEAD_DIM_MAX},
        {"max_position_embeddings", &spec->context_tokens_max, defaults->context_tokens,
         CN_MODEL_CONFIG_CONTEXT_MAX},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        *sizes[i].value = sizes[i].initial;
        const cn_code code =
            cn_json_file_u32(file, sizes[i].field, 1, sizes[i].max, sizes[i].value, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

static cn_code settle_heads(const cn_json_object *file, cn_model_spec *spec, cn_err *err)
{
    // transformers lets null mean one key head per query head in every family.
    const json_t *kv_heads = json_object_get(file->value, "num_key_value_heads");
    if (spec->kv_head_count == 0 || json_is_null(kv_heads)) spec->kv_head_count = spec->head_count;
    if (spec->head_count % spec->kv_head_count != 0) {
        return cn_err_set(err, CN_E_FORMAT,
                          "%s: num_attention_heads: %u; must be a multiple of num_key_value_heads "
                          "(%u)", file->file, spec->head_count, spec->kv_head_count);
    }
    if (spec->head_dim == 0 && spec->dim % spec->head_count != 0) {
        return cn_err_set(err, CN_E_FORMAT,
                          "%s: hidden_size: %u; must be a multiple of num_attention_heads (%u) "
                          "where head_dim is missing", file->file, spec->dim, spec->head_count);
    }
    if (spec->head_dim == 0) spec->head_dim = spec->dim / spec->head_count;
    if (spec->head_dim % 2 != 0 || spec->head_dim > CN_MODEL_CONFIG_HEAD_DIM_MAX) {
        return cn_err_set(err, CN_E_FORMAT, "%s: head_dim: %u; must be even and at most %d",
                          file->file, spec->head_dim, CN_MODEL_CONFIG_HEAD_DIM_MAX);
    }
    return CN_OK;
}

static cn_code read_norm_eps(const cn_json_object *file, cn_model_spec *spec, cn_err *err)
{
    double eps = 1e-6;
    // Below this the square root of a zero row would leave the range of floats.
    const cn_code code = cn_json_file_double(file, "rms_norm_eps", 1e-30, 1, &eps, err);
    spec->norm_eps = (float)eps;
    return code;
}

static cn_code refuse_bias(const cn_json_object *file, const char *field, cn_err *err)
{
    bool on = false;
    const cn_code code = cn_json_file_bool(file, field, &on, err);
    if (code != CN_OK || !on) return code;
    return cn_json_file_refuse(file, field, CN_E_UNSUPPORTED, err, "Cairn computes without biases");
}

static cn_code check_arithmetic(const cn_json_object *file, cn_err *err)
{
    const char *act = "silu";
    const char *quantised[] = {"quantization_config", "compression_config"};
    for (size_t i = 0; i < sizeof quantised / sizeof quantised[0]; i++) {
        if (!cn_json_file_find(file, quantised[i])) continue;
        return cn_json_file_refuse(file, quantised[i], CN_E_UNSUPPORTED, err,
                                   "Cairn reads weights in BF16, F16 and F32 only");
    }
    cn_code code = refuse_bias(file, "attention_bias", err);
    if (code == CN_OK) code = refuse_bias(file, "mlp_bias", err);
    if (code == CN_OK) code = cn_json_file_string(file, "hidden_act", &act, err);
    if (code == CN_OK && strcmp(act, "silu") != 0) {
        code = cn_json_file_refuse(file, "hidden_act", CN_E_UNSUPPORTED, err, "must be \"silu\"");
    }
    return code;
}

// A window that reaches as far as the context is none.
static cn_code check_window(const cn_json_object *file, uint32_t context_tokens, cn_err *err)
{
    static const char field[] = "sliding_window";
    uint32_t window = 4096;
    if (json_is_null(json_object_get(file->value, field))) return CN_OK;
    const cn_code code = cn_json_file_u32(file, field, 1, UINT32_MAX, &window, err);
    if (code != CN_OK || window >= context_tokens) return code;
    return cn_json_file_refuse(file, field, CN_E_UNSUPPORTED, err,
                               "Cairn computes full attention: must be null, or at least "
                               "max_position_embeddings (%u)", context_tokens);
}

// `layer_types` decides where it is there; before it existed, two other fields did.
static cn_code check_layer_windows(const cn_json_object *file, uint32_t layer_count, cn_err *err)
{
    const json_t *types = cn_json_file_find(file, "layer_types");
    bool windows = false;
    uint32_t first_window = 28;
    cn_code code = cn_json_file_bool(file, "use_sliding_window", &windows, err);
    if (code == CN_OK) {
        code = cn_json_file_u32(file, "max_window_layers", 0, UINT32_MAX, &first_window, err);
    }
    if (code != CN_OK) return code;
    if (!types) {
        const json_t *window = json_object_get(file->value, "sliding_window");
        if (!windows || json_is_null(window) || first_window >= layer_count) return CN_OK;
        return cn_json_file_refuse(file, "use_sliding_window", CN_E_UNSUPPORTED, err,
                                   "Cairn computes full attention in every layer");
    }
    if (!json_is_array(types) || json_array_size(types) != layer_count) {
        return cn_json_file_refuse(file, "layer_types", CN_E_FORMAT, err,
                                   "must have one string for each of the %u layers", layer_count);
    }
    size_t i;
    const json_t *type;
    json_array_foreach(types, i, type) {
        const char *name = json_is_string(type) ? json_string_value(type) : "not a string";
        if (strcmp(name, "full_attention") == 0) continue;
        return cn_err_set(
            err, CN_E_UNSUPPORTED,
            "%s: layer_types[%zu]: %.60s; Cairn computes full_attention in every layer", file->file,
            i, name);
    }
    return CN_OK;
}

static cn_code read_rope(const cn_json_object *file, cn_arena *arena, cn_model_spec *spec,
                         cn_err *err)
{
    cn_rope rope;
    const cn_code code = cn_rope_read(file, spec->context_tokens_max, &rope, err);
    if (code != CN_OK) return code;
    float *inv_freq = cn_arena_take_array(arena, spec->head_dim / 2, sizeof *inv_freq);
    if (!inv_freq) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", file->file);
    cn_rope_fill(&rope, spec->head_dim, inv_freq);
    spec->rope_inv_freq = inv_freq;
    spec->rope_magnitude = (float)rope.magnitude;
    return CN_OK;
}

cn_code cn_model_config_read(const cn_json_object *file, cn_arena *arena, cn_model_config *out,
                             cn_err *err)
{
    *out = (cn_model_config){0};
    cn_model_spec *spec = &out->spec;
    cn_code code = find_family(file, &out->family, err);
    if (code == CN_OK) code = check_arithmetic(file, err);
    if (code == CN_OK) code = read_sizes(file, &out->family->defaults, spec, err);
    if (code == CN_OK) code = settle_heads(file, spec, err);
    if (code == CN_OK && out->family->flags & CN_FAMILY_WINDOW_LAYERS) {
        code = check_layer_windows(file, spec->layer_count, err);
    }
    if (code == CN_OK && out->family->flags & CN_FAMILY_WINDOW_ALL) {
        code = check_window(file, spec->context_tokens_max, err);
    }
    if (code == CN_OK) code = read_norm_eps(file, spec, err);
    if (code == CN_OK) code = cn_json_file_bool(file, "tie_word_embeddings", &out->tied, err);
    if (code == CN_OK) code = read_rope(file, arena, spec, err);
    return code;
}
