/* dataplane/answer_body.h: answers and their parts as JSON.
 *
 * Threads: api only.
 * Memory:  none of its own; what is written goes to the caller's buffer. */
#pragma once

#include "dataplane/answer.h"

/* Makes answer->head: what begins every object of this answer. False without memory. */
bool cn_answer_body_head(cn_answer *answer);

/* The whole answer of a request that does not stream. */
void cn_answer_body_write(const cn_answer *answer, cn_buf *out);

/* `{"prompt_tokens":...}` as of now. */
void cn_answer_body_usage(const cn_answer *answer, cn_buf *out);
/* `,"phases_ms":{...}` up to now, if the request has the field Cairn-Phases; otherwise nothing. */
void cn_answer_body_phases(const cn_answer *answer, cn_buf *out);
/* `[1,2,3]` */
void cn_answer_body_ids(const int32_t *ids, uint32_t count, cn_buf *out);
/* The ids of a choice's tokens from `first` on. */
void cn_answer_body_token_ids(const cn_answer_choice *choice, uint32_t first, cn_buf *out);
/* `"stop","stop_reason":null` */
void cn_answer_body_finish(const cn_answer *answer, const cn_answer_choice *choice, cn_buf *out);
/* The logprobs collected in choice->logprobs, in the answer's shape, after the prompt's if
 * `with_prompt`; or null. */
void cn_answer_body_logprobs(const cn_answer *answer, const cn_answer_choice *choice,
                             bool with_prompt, cn_buf *out);
/* Whether the request asked for logprobs. */
bool cn_answer_body_wants_logprobs(const cn_answer *answer);
