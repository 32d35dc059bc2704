/* model/checkpoint_text.h: what a checkpoint says about text: its chat template and special tokens.
 *
 * Threads: read on one thread; read-only afterwards.
 * Memory:  everything is in the arena given to read. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum { CN_CHECKPOINT_SPECIAL_TOKENS_MAX = 64 };

typedef struct cn_special_token {
    const char *name;            // "bos_token"
    const char *content;         // "<s>"
} cn_special_token;

typedef struct cn_checkpoint_text {
    const char *chat_template;   // NULL: none
    size_t chat_template_len;
    cn_special_token tokens[CN_CHECKPOINT_SPECIAL_TOKENS_MAX];
    uint32_t token_count;
} cn_checkpoint_text;

/* Reads chat_template.jinja, tokenizer_config.json and special_tokens_map.json of `directory`; each
 * may be missing. A token that both JSON files name is what tokenizer_config.json says.
 * Errors: CN_E_IO, CN_E_FORMAT, CN_E_MEMORY. */
cn_code cn_checkpoint_text_read(const char *directory, cn_arena *arena, cn_checkpoint_text *out,
                                cn_err *err);

/* The token's text; "" if there is none. */
const char *cn_checkpoint_text_token(const cn_checkpoint_text *text, const char *name);
