/* model/family.h: the model families that Cairn serves, one row of a table each.
 * A row says how config.json names the family, what transformers assumes where a field is missing,
 * which tensors its checkpoints hold, under which names, and what shape the configuration gives
 * them. A family with the same arithmetic is one more row; one with other arithmetic also needs the
 * fields of cn_model_spec that its backends read.
 *
 * Threads: any, constant data.
 * Memory:  constant data. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

typedef enum cn_family_dim {
    CN_FAMILY_ONE,               // rows of a vector
    CN_FAMILY_DIM,
    CN_FAMILY_HEAD_DIM,
    CN_FAMILY_Q_DIM,             // all query heads
    CN_FAMILY_KV_DIM,
    CN_FAMILY_MLP_DIM,
    CN_FAMILY_VOCAB
} cn_family_dim;

enum {
    CN_FAMILY_QK_NORM = 1,       // q and k are normalised per head
    CN_FAMILY_WINDOW_LAYERS = 2, // config.json may give some layers a sliding window
    CN_FAMILY_WINDOW_ALL = 4,    // sliding_window, 4096 where it is missing, holds for every layer
    CN_FAMILY_LIST_BYTES = 256
};

typedef struct cn_family_tensor {
    const char *name;            // of a layer: what follows layer_prefix and the layer's number
    size_t offset;               // of its cn_tensor in cn_model_spec or cn_layer_weights
    cn_family_dim rows, cols;
    uint32_t flags;              // there only in families with these flags
} cn_family_tensor;

/* Fields of config.json where they are missing; 0 heads: follow from the other fields. */
typedef struct cn_family_defaults {
    uint32_t vocab_count, dim, mlp_dim, layer_count, head_count, kv_head_count, head_dim;
    uint32_t context_tokens;
    int32_t bos_token, eos_token;    // -1: none
} cn_family_defaults;

typedef struct cn_family {
    const char *name;            // "llama"; also config.json's model_type
    const char *architecture;    // "LlamaForCausalLM"
    uint32_t flags;
    const char *layer_prefix;    // "model.layers."
    const cn_family_tensor *layer_tensors, *model_tensors;
    uint32_t layer_tensor_count, model_tensor_count;
    const char *embed_name, *head_name;      // the pair that may be tied
    const char *ignored_suffix;  // tensors that older checkpoints hold and nobody needs
    cn_family_defaults defaults;
} cn_family;

/* By architecture, or where that is NULL by model_type; NULL if there is no such family. */
const cn_family *cn_family_find(const char *architecture, const char *model_type);

/* The architectures for people: "LlamaForCausalLM, MistralForCausalLM, ...". */
void cn_family_list(char text[CN_FAMILY_LIST_BYTES]);

uint64_t cn_family_dim_size(cn_family_dim dim, const cn_model_spec *spec);
/* The fields of config.json that decide it: "num_attention_heads * head_dim". */
const char *cn_family_dim_fields(cn_family_dim dim);
