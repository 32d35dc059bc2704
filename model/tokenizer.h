/* model/tokenizer.h: text to token ids and back, as a Hugging Face tokenizer.json says.
 * Token for token equal to the `tokenizers` library on the kinds it reads; anything else in the file
 * is refused when it is opened, never guessed.
 *
 * Threads: a tokenizer is immutable after open, so every thread may use it at once.
 * Memory:  about 500 bytes per vocabulary entry; encode works in the caller's arena and takes up to
 *          some 20 bytes per byte of text, 80 where there is nothing to cut it at. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

typedef struct cn_tokenizer cn_tokenizer;

typedef struct cn_token_list {
    int32_t *ids;            // in the arena given to encode
    uint32_t count;
} cn_token_list;

typedef struct cn_encode_options {
    bool add_special_tokens; // let the post-processor add its bos/eos, as encode(add_special_tokens=True)
    bool split_special;      // text that looks like a special token is ordinary text: nothing in it
                             // can become a control token
    uint32_t tokens_max;     // 0: no limit
} cn_encode_options;

/* Reads `directory`/tokenizer.json. The caller owns *out until close.
 * Errors: CN_E_NOT_FOUND, CN_E_IO, CN_E_FORMAT, CN_E_UNSUPPORTED, each naming file, field and
 * value; CN_E_MEMORY. */
cn_code cn_tokenizer_open(const char *directory, cn_tokenizer **out, cn_err *err);
void cn_tokenizer_close(cn_tokenizer *tokenizer);

/* Encodes `len` bytes of UTF-8 (ill-formed bytes count as U+FFFD). Time is linear in len but for a
 * logarithm. Errors: CN_E_LIMIT (more than tokens_max), CN_E_MEMORY (arena full). */
cn_code cn_tokenizer_encode(const cn_tokenizer *tokenizer, const char *text, size_t len,
                            const cn_encode_options *options, cn_arena *arena, cn_token_list *out,
                            cn_err *err);

/* Appends the text of `count` ids, equal to decode(ids, skip_special_tokens). Ids outside of the
 * vocabulary are skipped. */
void cn_tokenizer_decode(const cn_tokenizer *tokenizer, const int32_t *ids, uint32_t count,
                         bool skip_special, cn_buf *out);

uint32_t cn_tokenizer_vocab_count(const cn_tokenizer *tokenizer);        // largest id + 1
/* Id of a token by its exact content ("<|end|>"), -1 if there is none. */
int32_t cn_tokenizer_find(const cn_tokenizer *tokenizer, const char *content, size_t len);
/* The token as it stands in the file ("Ġhello", "▁the"), terminated, borrowed from the tokenizer;
 * NULL for an id that has none. */
const char *cn_tokenizer_token(const cn_tokenizer *tokenizer, int32_t id);
/* True for added tokens with "special": true. */
bool cn_tokenizer_is_special(const cn_tokenizer *tokenizer, int32_t id);
