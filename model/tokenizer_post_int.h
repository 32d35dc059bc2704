/* model/tokenizer_post_int.h: the field "post_processor" of tokenizer.json: ids that stand before and
 * behind every text, such as <s>.
 *
 * Threads: immutable after read.
 * Memory:  in the tokenizer's arena. */
#pragma once

#include "model/json_file.h"
#include "model/tokenizer_vocab_int.h"

typedef struct cn_tokenizer_ids {
    int32_t *ids;
    uint32_t count;
} cn_tokenizer_ids;

typedef struct cn_tokenizer_post {
    cn_tokenizer_ids before, behind;
} cn_tokenizer_post;

/* Errors: CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_tokenizer_post_read(const cn_json_object *root, const cn_tokenizer_vocab *vocab,
                               cn_tokenizer_post *post, cn_err *err);
