/* bench/delta.h: what one event of a stream, or one whole answer, says: text, token ids, usage,
 * error. It reads the three answers of OpenAI's API (completions, chat, responses) in one pass
 * without memory of its own: a generator that is to handle 300,000 events a second has about 3 us
 * for each. Not a JSON library: it checks the structure, and looks only at what it knows.
 *
 * Threads: any, nothing is kept.
 * Memory:  the slices point into the text that was parsed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum { CN_DELTA_TEXTS = 8 };

typedef struct cn_delta_slice {
    const char *at;              // contents of a JSON string, still escaped
    size_t len;
} cn_delta_slice;

typedef struct cn_delta {
    cn_delta_slice texts[CN_DELTA_TEXTS];    // pieces of the answer that are not empty
    uint32_t text_count;
    cn_delta_slice ids;          // what stands in the brackets of token_ids
    uint32_t id_count;
    cn_delta_slice id;           // of the response, completion or conversation
    cn_delta_slice type;         // of an event of the Responses API
    cn_delta_slice error;        // its message
    bool has_error;
    int64_t input_tokens, output_tokens, cached_tokens;      // -1: not told
    int64_t sequence;            // of an event of the Responses API; -1: not told
} cn_delta;

/* False if the text is no JSON object. */
bool cn_delta_parse(const char *text, size_t len, cn_delta *out);

/* Appends the string that a slice stands for, its escapes resolved; what is no valid escape becomes
 * U+FFFD. */
void cn_delta_unescape(const cn_delta_slice *slice, cn_buf *out);
