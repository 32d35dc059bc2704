/* dataplane/history.h: a conversation so far and what is new, as tokens.
 * What the chat template makes of the whole history is compared with the text of the stored chain.
 * If it begins with it, the chain's tokens are taken, the sampled ones as they were sampled, and only
 * what is new is tokenized.
 *
 * Threads: api only.
 * Memory:  in the request's arena. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/answer.h"
#include "state/session.h"

typedef struct cn_history_prompt {
    const int32_t *ids;          // of the whole prompt
    uint32_t count;
    uint32_t taken_count;        // the first of them, which are the chain's
    const char *text;            // of the others, as rendered
    uint32_t text_len;
    bool resets_text;            // the chain's text is not the beginning of this one
    cn_turn_seam seam;           // for the turn that is made; its bytes without the answer's
} cn_history_prompt;

/* Encodes what was rendered last with the answer's parameters, after `chain` (oldest first).
 * Errors: CN_E_CONTEXT, CN_E_INVALID (no tokens), CN_E_MEMORY. */
cn_code cn_history_encode(cn_answer *answer, const cn_turn *chain, uint32_t chain_count,
                          cn_history_prompt *out, cn_err *err);

/* As encode, where only what follows the messages before the seam of the chain's last turn was rendered.
 * *takes false: the chain is not taken, and all must be rendered to know the prompt. */
cn_code cn_history_continue(cn_answer *answer, const cn_turn *chain, uint32_t chain_count, bool *takes,
                            cn_history_prompt *out, cn_err *err);

enum { CN_HISTORY_TAG_BYTES = 64 };

/* What the settings of a turn begin with if its tokens are this vocabulary's. */
void cn_history_tag(const cn_tokenizer *tokenizer, char out[CN_HISTORY_TAG_BYTES]);

/* The text of `count` sampled tokens as a template writes it: with its control tokens. */
void cn_history_decode(cn_answer *answer, const int32_t *ids, uint32_t count, cn_buf *out);
