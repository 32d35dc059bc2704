/* model/rope.h: the rotation frequencies of a model, with the scaling that config.json asks for.
 * Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (before), types default,
 * linear, llama3 and yarn. `dynamic` and `longrope` are refused: there the rotation of a position
 * changes with the length of the sequence, and a page that is written could not stay as it is.
 *
 * Threads: any, nothing is kept.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/json_file.h"

typedef enum cn_rope_kind {
    CN_ROPE_DEFAULT,
    CN_ROPE_LINEAR,
    CN_ROPE_LLAMA3,
    CN_ROPE_YARN,
    CN_ROPE_KIND_COUNT
} cn_rope_kind;

typedef struct cn_rope {
    cn_rope_kind kind;
    double theta;
    double factor;
    double context_tokens_original;          // llama3, yarn: before the scaling
    double low_freq_factor, high_freq_factor;    // llama3
    double beta_fast, beta_slow;             // yarn
    double magnitude;
    bool truncate;                           // yarn: the ramp begins and ends at whole dimensions
} cn_rope;

/* Reads the fields of config.json; `context_tokens` is its max_position_embeddings.
 * Errors: CN_E_FORMAT, CN_E_UNSUPPORTED. */
cn_code cn_rope_read(const cn_json_object *config, uint32_t context_tokens, cn_rope *out,
                     cn_err *err);

/* Fills inv_freq[0 .. head_dim / 2 - 1]; head_dim is even. */
void cn_rope_fill(const cn_rope *rope, uint32_t head_dim, float *inv_freq);
