/* model/detokenizer.h: tokens to text, one at a time, for streaming.
 * The pieces put together are equal to cn_tokenizer_decode of the whole, and no piece ends inside a
 * UTF-8 character: bytes of an unfinished character are held back until the next token or finish.
 * A run of byte tokens ("<0xE4>", byte fallback) is held until it ends, because `tokenizers` replaces
 * all of it if any of it is not UTF-8. Where it is longer than 64 bytes its whole characters go out
 * before: only there the text may differ from the library's, and only if the run turns out bad.
 *
 * Threads: one per detokenizer.
 * Memory:  plain memory of the caller, nothing to close. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "model/tokenizer.h"

typedef struct cn_detokenizer {
    const cn_tokenizer *tokenizer;   // borrowed
    bool skip_special;
    bool started;                    // a first token was seen (some decoders strip a leading space)
    bool run_bad;                    // the byte tokens since the last other token are not UTF-8
    uint8_t held_count;
    uint32_t strip_left;             // leading characters that the decoder may still strip
    char held[64];                   // bytes that may still become a character (or replacement marks)
} cn_detokenizer;

void cn_detokenizer_init(cn_detokenizer *detokenizer, const cn_tokenizer *tokenizer,
                         bool skip_special);

/* Appends what `id` makes certain; may append nothing. */
void cn_detokenizer_push(cn_detokenizer *detokenizer, int32_t id, cn_buf *out);

/* Appends what was held back, each incomplete sequence as U+FFFD. */
void cn_detokenizer_finish(cn_detokenizer *detokenizer, cn_buf *out);

/* The bytes that `id` stands for on its own, without regard to UTF-8: what the API reports as `bytes`
 * of a logprob entry. */
void cn_detokenizer_bytes(const cn_tokenizer *tokenizer, int32_t id, cn_buf *out);
