/* model/generation.h: generation_config.json, as the defaults of cn_checkpoint_generation.
 * A field that it lacks is looked for in config.json, where older checkpoints keep it; what both
 * lack has transformers' default for the family. top_k is off unless a file sets it: transformers'
 * own 50 is a habit of its generate function and not of the model.
 *
 * Threads: any, nothing is kept.
 * Memory:  plain memory of the caller; the files that are read are freed before read returns. */
#pragma once

#include "base/err.h"
#include "model/checkpoint.h"
#include "model/model_config.h"
#include "model/json_file.h"

/* Reads `directory`/generation_config.json, which may be missing; `config_file` is the root of
 * config.json and `config` what was read from it. Errors: CN_E_FORMAT, CN_E_IO, CN_E_MEMORY. */
cn_code cn_generation_read(const char *directory, const cn_json_object *config_file,
                           const cn_model_config *config, cn_generation_defaults *out, cn_err *err);
