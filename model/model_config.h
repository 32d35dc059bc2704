/* model/model_config.h: config.json, as the numbers of a model.
 * Field names and defaults are those of transformers 5, and the older spellings that published
 * checkpoints still have. What would make the arithmetic another one (biases, another activation,
 * quantised weights, sliding windows) is refused by name. `dtype` (once torch_dtype) is not read: a
 * tensor is what its own file says.
 *
 * Threads: any, nothing is kept.
 * Memory:  rope_inv_freq is in the arena given to read. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "kernels/backend.h"
#include "model/family.h"
#include "model/json_file.h"

enum {
    CN_MODEL_CONFIG_LAYERS_MAX = 1024,
    CN_MODEL_CONFIG_DIM_MAX = 1 << 20,
    CN_MODEL_CONFIG_MLP_MAX = 1 << 22,
    CN_MODEL_CONFIG_HEADS_MAX = 4096,
    CN_MODEL_CONFIG_HEAD_DIM_MAX = 4096,
    CN_MODEL_CONFIG_VOCAB_MAX = 1 << 22,
    CN_MODEL_CONFIG_CONTEXT_MAX = 1 << 26
};

typedef struct cn_model_config {
    const cn_family *family;
    bool tied;                   // the head is the embedding
    cn_model_spec spec;          // numbers and rope; its tensors are absent
} cn_model_config;

/* Reads the root of config.json. Errors: CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_model_config_read(const cn_json_object *file, cn_arena *arena, cn_model_config *out,
                             cn_err *err);
