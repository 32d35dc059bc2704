/* dataplane/prompt_guard.h: keeps text of clients from becoming control tokens.
 * A chat template writes its own control tokens ("<|end|>") between the texts of messages, and the
 * tokenizer finds them in the rendered whole, so a message that spells one out would end its own
 * turn and begin another in the name of the system. The guard marks such places before the template
 * runs and has them tokenized as the ordinary text that they are. Prompts without such places,
 * which are nearly all, are rendered and tokenized as if there were no guard.
 *
 * Threads: immutable after open; every thread may use it at once.
 * Memory:  pointers to the special tokens' texts; per request in the caller's arena. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "model/tokenizer.h"

typedef struct cn_prompt_guard cn_prompt_guard;

/* What marks the places of one request: "" if it has none. */
typedef struct cn_prompt_guard_mark {
    char text[4];
} cn_prompt_guard_mark;

/* Borrows the tokenizer until close. Errors: CN_E_MEMORY. */
cn_code cn_prompt_guard_open(const cn_tokenizer *tokenizer, cn_prompt_guard **out);
void cn_prompt_guard_close(cn_prompt_guard *guard);

/* Marks the strings and member names in `count` values (some may be NULL), at any depth, in place.
 * Errors: CN_E_INVALID (the request uses every character that could be the mark), CN_E_MEMORY. */
cn_code cn_prompt_guard_apply(const cn_prompt_guard *guard, json_t *const *values, uint32_t count,
                              cn_prompt_guard_mark *mark, cn_err *err);

/* Removes the marks from `len` bytes in place; returns the length that is left. */
size_t cn_prompt_guard_strip(const cn_prompt_guard_mark *mark, char *text, size_t len);

/* Encodes rendered text that may have marks; special tokens are recognised, but not where the marks
 * are. Errors as cn_tokenizer_encode. */
cn_code cn_prompt_guard_encode(const cn_prompt_guard *guard, const cn_prompt_guard_mark *mark,
                               const char *text, size_t len, const cn_encode_options *options,
                               cn_arena *arena, cn_token_list *out, cn_err *err);
