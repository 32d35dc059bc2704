/* dataplane/logprobs.h: logprobs of an answer: kept compactly, written in OpenAI's two shapes.
 * A record is a token with its logprob, its alternatives, and where it stands in the text. Records
 * are appended to a buffer as tokens come and written when their frame or answer is.
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own; records and text are in the caller's buffers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "kernels/backend.h"
#include "model/tokenizer.h"

typedef struct cn_logprobs_entry {
    int32_t token;
    bool known;                  // false for the first token of a prompt: nothing predicts it
    float logprob;
    uint32_t text_offset;        // code points of the text before it
    const cn_logprob *top;       // most likely first
    uint32_t top_count;
} cn_logprobs_entry;

void cn_logprobs_add(cn_buf *records, const cn_logprobs_entry *entry);

typedef struct cn_logprobs_style {
    const cn_tokenizer *tokenizer;
    bool tokens_as_ids;          // "token_id:123" instead of text
} cn_logprobs_style;

/* Chat: {"content":[{token, logprob, bytes, top_logprobs}],"refusal":null}. A token that is not
 * UTF-8 on its own has U+FFFD in `token`; `bytes` has its bytes. */
void cn_logprobs_write_chat(const cn_buf *records, const cn_logprobs_style *style, cn_buf *out);

/* The entries of such a list, joined by ','. */
void cn_logprobs_write_entries(const cn_buf *records, const cn_logprobs_style *style, cn_buf *out);

/* Completions: {"tokens","token_logprobs","top_logprobs","text_offset"}; top_logprobs also has the
 * token itself. A token that is not UTF-8 on its own is "bytes:\xe2\x80". `before` (may be empty)
 * are the records of an echoed prompt. */
void cn_logprobs_write_completion(const cn_buf *before, const cn_buf *records,
                                  const cn_logprobs_style *style, cn_buf *out);
