/* model/checkpoint.h: a Hugging Face checkpoint directory, checked and ready for a backend.
 * Reads config.json, generation_config.json and model.safetensors (or its shards with
 * model.safetensors.index.json), maps the weights, and describes them as a cn_model_spec. Every
 * inconsistency is found here, before anything is computed, and named: file, field, value, and what
 * would be right.
 *
 * Threads: open on one thread; read-only afterwards.
 * Memory:  weights are mapped, not read; drop them once a backend has its copy. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "kernels/backend.h"

typedef struct cn_checkpoint cn_checkpoint;

enum { CN_EOS_TOKENS_MAX = 16 };

/* generation_config.json (or config.json where that is missing): what ends an answer, and how to
 * sample where a request does not say. */
typedef struct cn_generation_defaults {
    int32_t eos_tokens[CN_EOS_TOKENS_MAX];
    uint32_t eos_count;
    int32_t bos_token;           // -1: none
    float temperature;           // 1 unless the file says otherwise; 0 where do_sample is false
    float top_p;
    float min_p;
    uint32_t top_k;
    float repetition_penalty;
} cn_generation_defaults;

/* Opens and checks `directory`. The caller owns *out until close.
 * Errors: CN_E_IO, CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_checkpoint_open(const char *directory, cn_checkpoint **out, cn_err *err);
void cn_checkpoint_close(cn_checkpoint *checkpoint);

/* Borrowed from the checkpoint. */
const cn_model_spec *cn_checkpoint_spec(const cn_checkpoint *checkpoint);
const cn_generation_defaults *cn_checkpoint_generation(const cn_checkpoint *checkpoint);
const char *cn_checkpoint_family(const cn_checkpoint *checkpoint);      // "llama", "qwen3"
uint64_t cn_checkpoint_parameter_count(const cn_checkpoint *checkpoint);

/* The chat template: chat_template.jinja, else tokenizer_config.json's chat_template (a string, or the
 * entry "default" of a list). NULL if the checkpoint has none. *len as for a string. Borrowed. */
const char *cn_checkpoint_chat_template(const cn_checkpoint *checkpoint, size_t *len);
/* bos_token, eos_token and so on of tokenizer_config.json or special_tokens_map.json, as templates
 * see them; "" if there is none. Borrowed. */
const char *cn_checkpoint_special_token(const cn_checkpoint *checkpoint, const char *name);

/* Tells the system that the mapped weights are no longer needed; the spec's tensors are unusable. */
void cn_checkpoint_drop_weights(cn_checkpoint *checkpoint);
