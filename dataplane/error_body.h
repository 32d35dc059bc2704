/* dataplane/error_body.h: errors as OpenAI's clients expect them.
 *   {"error":{"message":"...","type":"invalid_request_error","param":"n","code":"limit_exceeded"}}
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own; what is written goes to the caller's buffer. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* `prompt_tokens` and `context_tokens` are added as n_prompt_tokens and n_ctx, as llama-server's
 * clients look for, if `prompt_tokens` is not 0. */
void cn_error_body_write(const cn_err *err, uint64_t prompt_tokens, uint64_t context_tokens,
                         cn_buf *out);
