/* model/checkpoint_weights.h: the tensors of a checkpoint, from one file or from shards.
 * Finds every tensor that the family's table wants, checks its shape against config.json, and
 * refuses a checkpoint that holds tensors nobody wants: a bias or a norm that is left out would
 * give another model's answers without a word.
 *
 * Threads: open on one thread; read-only afterwards.
 * Memory:  mappings; a tensor that its file does not align is copied to the heap. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/model_config.h"

enum { CN_CHECKPOINT_SHARDS_MAX = 4096 };

typedef struct cn_checkpoint_weights cn_checkpoint_weights;

/* Opens model.safetensors, else the shards that model.safetensors.index.json names, and points the
 * tensors and layers of `config->spec` at them; the layers are in `arena`. The caller owns *out
 * until close, which ends the tensors' data.
 * Errors: CN_E_IO, CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_checkpoint_weights_open(const char *directory, cn_model_config *config, cn_arena *arena,
                                   cn_checkpoint_weights **out, cn_err *err);
void cn_checkpoint_weights_close(cn_checkpoint_weights *weights);

/* Elements of all tensors, one that is tied counted once. */
uint64_t cn_checkpoint_weights_parameter_count(const cn_checkpoint_weights *weights);
