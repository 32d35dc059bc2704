#include "model/checkpoint_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/json_file.h"
#include "model/safetensors.h"

/* How it works. A shard is a file with a list of the tensors that were taken from it. `bind` walks
 * the family's table, takes each tensor once and checks it; afterwards whatever was not taken is
 * unexpected. The index of a sharded checkpoint only says where to look: that a tensor is there,
 * and that no shard holds one that the index gives to another, is seen in the shards themselves. */

static const char SINGLE[] = "model.safetensors";
static const char INDEX[] = "model.safetensors.index.json";

enum { NAME_BYTES = 256 };

typedef struct shard {
    cn_safetensors *file;
    bool *taken;                 // per tensor of the file
} shard;

struct cn_checkpoint_weights {
    shard *shards;
    uint32_t shard_count;
    cn_json_file index;          // NULL root: not sharded
    json_t *map;                 // weight_map of the index, borrowed from it
    void **copies;               // of tensors that lie unaligned
    uint32_t copy_count;
    uint64_t parameter_count;
};

// ---- opening the files

static cn_code open_shard(cn_checkpoint_weights *weights, const char *directory, const char *name,
                          cn_err *err)
{
    shard *at = &weights->shards[weights->shard_count];
    const cn_code code = cn_safetensors_open(directory, name, &at->file, err);
    if (code != CN_OK) return code;
    weights->shard_count++;
    at->taken = calloc(cn_safetensors_count(at->file) + 1, sizeof *at->taken);
    return at->taken ? CN_OK : cn_err_set(err, CN_E_MEMORY, "%s: no memory", name);
}

static shard *find_shard(cn_checkpoint_weights *weights, const char *name)
{
    for (uint32_t i = 0; i < weights->shard_count; i++) {
        shard *at = &weights->shards[i];
        if (strcmp(cn_safetensors_name(at->file), name) == 0) return at;
    }
    return NULL;
}

static cn_code open_named_shard(cn_checkpoint_weights *weights, const char *directory,
                                const char *tensor, const json_t *value, cn_err *err)
{
    const char *name = json_string_value(value);
    if (!name || strchr(name, '/') || strstr(name, "..") || name[0] == '\0') {
        return cn_err_set(err, CN_E_FORMAT,
                          "%s: weight_map: %.120s: %.60s; must be the name of a file beside it",
                          INDEX, tensor, name ? name : cn_json_file_type(value));
    }
    if (find_shard(weights, name)) return CN_OK;
    if (weights->shard_count == CN_CHECKPOINT_SHARDS_MAX) {
        return cn_err_set(err, CN_E_FORMAT, "%s: weight_map: names more than %d files", INDEX,
                          CN_CHECKPOINT_SHARDS_MAX);
    }
    const cn_code code = open_shard(weights, directory, name, err);
    if (code != CN_E_NOT_FOUND) return code;
    return cn_err_set(err, CN_E_IO,
                      "%.120s: is missing in %.150s; %s: weight_map names it for tensor "
                      "%.100s",
                      name, directory, INDEX, tensor);
}

static cn_code open_shards(cn_checkpoint_weights *weights, const char *directory, cn_err *err)
{
    cn_json_object map;
    const cn_json_object root = cn_json_file_root(&weights->index);
    cn_code code = cn_json_file_child(&root, "weight_map", &map, err);
    if (code != CN_OK) return code;
    weights->map = json_object_get(weights->index.root, "weight_map");
    if (json_object_size(weights->map) == 0) {
        return cn_err_set(err, CN_E_FORMAT, "%s: weight_map: must name a file for each tensor",
                          INDEX);
    }
    const char *tensor;
    json_t *value;
    json_object_foreach(weights->map, tensor, value) {
        code = open_named_shard(weights, directory, tensor, value, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

static cn_code open_files(cn_checkpoint_weights *weights, const char *directory, cn_err *err)
{
    cn_code code = open_shard(weights, directory, SINGLE, err);
    if (code != CN_E_NOT_FOUND) return code;
    code = cn_json_file_open(directory, INDEX, &weights->index, err);
    if (code == CN_E_NOT_FOUND) {
        return cn_err_set(err, CN_E_IO,
                          "%s: no such file in %.200s, nor %s; Cairn reads weights in no "
                          "other format",
                          SINGLE, directory, INDEX);
    }
    return code == CN_OK ? open_shards(weights, directory, err) : code;
}

// ---- one tensor

// The shard that must hold the tensor; NULL if the index has no such name.
static shard *shard_of(cn_checkpoint_weights *weights, const char *name)
{
    if (!weights->index.root) return &weights->shards[0];
    const char *file = json_string_value(json_object_get(weights->map, name));
    return file ? find_shard(weights, file) : NULL;
}

static const cn_safetensors_tensor *find_tensor(cn_checkpoint_weights *weights, const char *name)
{
    const shard *at = shard_of(weights, name);
    return at ? cn_safetensors_find(at->file, name) : NULL;
}

static cn_code refuse_missing(cn_checkpoint_weights *weights, const cn_model_config *config,
                              const char *name, cn_err *err)
{
    const shard *at = shard_of(weights, name);
    if (!at) return cn_err_set(err, CN_E_FORMAT, "%s: weight_map: has no tensor %s", INDEX, name);
    if (weights->index.root) {
        return cn_err_set(err, CN_E_FORMAT, "%s: tensor %s is missing; %s says that it is here",
                          cn_safetensors_name(at->file), name, INDEX);
    }
    const bool head = strcmp(name, config->family->head_name) == 0;
    return cn_err_set(err, CN_E_FORMAT, "%s: tensor %s is missing%s", cn_safetensors_name(at->file),
                      name, head ? "; config.json (tie_word_embeddings) does not tie it" : "");
}

static bool read_dtype(const char *name, cn_dtype *dtype, uint32_t *bytes)
{
    static const struct {
        const char *name;
        cn_dtype dtype;
        uint32_t bytes;
    } served[] = {
        {"BF16", CN_DTYPE_BF16, 2}, {"F16", CN_DTYPE_F16, 2}, {"F32", CN_DTYPE_F32, 4}};
    for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
        if (strcmp(served[i].name, name) != 0) continue;
        *dtype = served[i].dtype;
        *bytes = served[i].bytes;
        return true;
    }
    return false;
}

static void show_shape(const cn_safetensors_tensor *tensor, char *text, size_t text_bytes)
{
    size_t len = (size_t)snprintf(text, text_bytes, "[");
    for (uint32_t i = 0; i < tensor->dim_count && len < text_bytes; i++) {
        len += (size_t)snprintf(text + len, text_bytes - len, "%s%llu", i ? ", " : "",
                                (unsigned long long)tensor->shape[i]);
    }
    if (len < text_bytes) snprintf(text + len, text_bytes - len, "]");
}

static cn_code refuse_shape(const char *file, const cn_safetensors_tensor *tensor,
                            const cn_family_tensor *rule, const cn_tensor *want, cn_err *err)
{
    char shape[CN_SAFETENSORS_DIMS_MAX * 22 + 4];
    show_shape(tensor, shape, sizeof shape);
    if (rule->rows == CN_FAMILY_ONE) {
        return cn_err_set(err, CN_E_FORMAT,
                          "%s: tensor %s has shape %s; config.json (%s) makes it [%llu]", file,
                          tensor->name, shape, cn_family_dim_fields(rule->cols),
                          (unsigned long long)want->cols);
    }
    return cn_err_set(err, CN_E_FORMAT,
                      "%s: tensor %s has shape %s; config.json (%s, %s) makes it [%llu, %llu]",
                      file, tensor->name, shape, cn_family_dim_fields(rule->rows),
                      cn_family_dim_fields(rule->cols), (unsigned long long)want->rows,
                      (unsigned long long)want->cols);
}

// Backends load whole elements, and files written by hand or by old tools may start them anywhere.
static cn_code align_data(cn_checkpoint_weights *weights, const char *file,
                          const cn_safetensors_tensor *tensor, uint32_t element_bytes,
                          const void **data, cn_err *err)
{
    *data = tensor->data;
    if ((uintptr_t)tensor->data % element_bytes == 0) return CN_OK;
    void **copies = realloc(weights->copies, (weights->copy_count + 1) * sizeof *copies);
    if (copies) weights->copies = copies;
    void *copy = copies ? malloc(tensor->bytes) : NULL;
    if (!copy) {
        return cn_err_set(err, CN_E_MEMORY,
                          "%s: tensor %s is not aligned, and there is no memory for "
                          "a copy of %llu bytes",
                          file, tensor->name, (unsigned long long)tensor->bytes);
    }
    weights->copies[weights->copy_count++] = copy;
    *data = memcpy(copy, tensor->data, tensor->bytes);
    return CN_OK;
}

static cn_code take(cn_checkpoint_weights *weights, const cn_model_config *config,
                    const cn_family_tensor *rule, const char *name, cn_tensor *out, cn_err *err)
{
    const cn_safetensors_tensor *tensor = find_tensor(weights, name);
    if (!tensor) return refuse_missing(weights, config, name, err);
    shard *at = shard_of(weights, name);
    const char *file = cn_safetensors_name(at->file);
    uint32_t element_bytes = 0;
    out->rows = cn_family_dim_size(rule->rows, &config->spec);
    out->cols = cn_family_dim_size(rule->cols, &config->spec);
    if (!read_dtype(tensor->dtype, &out->dtype, &element_bytes)) {
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "%s: tensor %s is %s; Cairn reads BF16, F16 and F32", file, name,
                          tensor->dtype);
    }
    const bool vector = rule->rows == CN_FAMILY_ONE;
    if (vector ? tensor->dim_count != 1 || tensor->shape[0] != out->cols
               : tensor->dim_count != 2 || tensor->shape[0] != out->rows ||
                     tensor->shape[1] != out->cols) {
        return refuse_shape(file, tensor, rule, out, err);
    }
    bool *taken = &at->taken[tensor - cn_safetensors_at(at->file, 0)];
    if (!*taken) weights->parameter_count += out->rows * out->cols;
    *taken = true;
    return align_data(weights, file, tensor, element_bytes, &out->data, err);
}

// ---- all of them

static cn_code bind_layer(cn_checkpoint_weights *weights, const cn_model_config *config,
                          uint32_t index, cn_layer_weights *layer, cn_err *err)
{
    const cn_family *family = config->family;
    for (uint32_t i = 0; i < family->layer_tensor_count; i++) {
        const cn_family_tensor *rule = &family->layer_tensors[i];
        char name[NAME_BYTES];
        if ((rule->flags & family->flags) != rule->flags) continue;
        snprintf(name, sizeof name, "%s%u.%s", family->layer_prefix, index, rule->name);
        cn_tensor *out = (cn_tensor *)((char *)layer + rule->offset);
        const cn_code code = take(weights, config, rule, name, out, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

static bool same_bytes(const cn_tensor *a, const cn_tensor *b)
{
    if (a->dtype != b->dtype) return false;
    const uint64_t bytes = a->rows * a->cols * (a->dtype == CN_DTYPE_F32 ? 4 : 2);
    return a->data == b->data || memcmp(a->data, b->data, bytes) == 0;
}

/* A tied checkpoint leaves out the head, or (rarely) the embedding, or has both, equal. Where they
 * differ, its configuration is wrong and its tensors are right: so transformers decides, too. */
static cn_code bind_model(cn_checkpoint_weights *weights, cn_model_config *config, cn_err *err)
{
    const cn_family *family = config->family;
    cn_model_spec *spec = &config->spec;
    for (uint32_t i = 0; i < family->model_tensor_count; i++) {
        const cn_family_tensor *rule = &family->model_tensors[i];
        const char *name = rule->name;
        if (config->tied && !find_tensor(weights, name)) {
            if (strcmp(name, family->head_name) == 0) continue;
            if (strcmp(name, family->embed_name) == 0 && find_tensor(weights, family->head_name)) {
                name = family->head_name;
            }
        }
        cn_tensor *out = (cn_tensor *)((char *)spec + rule->offset);
        const cn_code code = take(weights, config, rule, name, out, err);
        if (code != CN_OK) return code;
    }
    if (!config->tied) return CN_OK;
    if (!spec->head.data || same_bytes(&spec->head, &spec->embed)) spec->head = spec->embed;
    return CN_OK;
}

static cn_code bind_layers(cn_checkpoint_weights *weights, cn_model_config *config, cn_arena *arena,
                           cn_err *err)
{
    const uint32_t count = config->spec.layer_count;
    cn_layer_weights *layers = cn_arena_take_array(arena, count, sizeof *layers);
    if (!layers) return cn_err_set(err, CN_E_MEMORY, "config.json: no memory for %u layers", count);
    config->spec.layers = layers;
    for (uint32_t i = 0; i < count; i++) {
        const cn_code code = bind_layer(weights, config, i, &layers[i], err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

static bool ends_with(const char *text, const char *suffix)
{
    const size_t text_len = strlen(text), suffix_len = strlen(suffix);
    return text_len >= suffix_len && strcmp(text + text_len - suffix_len, suffix) == 0;
}

static cn_code refuse_rest(cn_checkpoint_weights *weights, const cn_model_config *config,
                           const shard *at, cn_err *err)
{
    for (uint32_t i = 0; i < cn_safetensors_count(at->file); i++) {
        const char *file = cn_safetensors_name(at->file);
        const char *name = cn_safetensors_at(at->file, i)->name;
        if (at->taken[i] || ends_with(name, config->family->ignored_suffix)) continue;
        const shard *listed = shard_of(weights, name);
        if (listed && listed != at) {
            return cn_err_set(err, CN_E_FORMAT,
                              "%.120s: tensor %.120s must not be here; %s places it in "
                              "%.120s",
                              file, name, INDEX, cn_safetensors_name(listed->file));
        }
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "%.120s: tensor %.120s is no part of the %s model that config.json "
                          "describes (num_hidden_layers: %u)", file, name, config->family->name,
                          config->spec.layer_count);
    }
    return CN_OK;
}

cn_code cn_checkpoint_weights_open(const char *directory, cn_model_config *config, cn_arena *arena,
                                   cn_checkpoint_weights **out, cn_err *err)
{
    *out = NULL;
    cn_checkpoint_weights *weights = calloc(1, sizeof *weights);
    if (!weights) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", SINGLE);
    weights->shards = calloc(CN_CHECKPOINT_SHARDS_MAX, sizeof *weights->shards);
    cn_code code = weights->shards ? CN_OK : cn_err_set(err, CN_E_MEMORY, "%s: no memory", SINGLE);
    if (code == CN_OK) code = open_files(weights, directory, err);
    if (code == CN_OK) code = bind_model(weights, config, err);
    if (code == CN_OK) code = bind_layers(weights, config, arena, err);
    for (uint32_t i = 0; code == CN_OK && i < weights->shard_count; i++) {
        code = refuse_rest(weights, config, &weights->shards[i], err);
    }
    if (code == CN_OK) *out = weights;
    else cn_checkpoint_weights_close(weights);
    return code;
}

void cn_checkpoint_weights_close(cn_checkpoint_weights *weights)
{
    if (!weights) return;
    for (uint32_t i = 0; i < weights->shard_count; i++) {
        cn_safetensors_close(weights->shards[i].file);
        free(weights->shards[i].taken);
    }
    for (uint32_t i = 0; i < weights->copy_count; i++) free(weights->copies[i]);
    free(weights->copies);
    free(weights->shards);
    cn_json_file_close(&weights->index);
    free(weights);
}

uint64_t cn_checkpoint_weights_parameter_count(const cn_checkpoint_weights *weights)
{
    return weights->parameter_count;
}
