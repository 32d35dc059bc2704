/* dataplane/chat.h: messages to a prompt, through the model's chat template.
 * Messages are checked, brought into the form that templates are written for, rendered and
 * tokenized; what a client writes stays ordinary text (dataplane/prompt_guard.h).
 *
 * Threads: one per renderer.
 * Memory:  tokens in the caller's arena; the rendered text in a buffer that is used again. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "dataplane/params.h"
#include "dataplane/prompt_guard.h"
#include "model/checkpoint.h"
#include "model/template_rest.h"
#include "state/page_key.h"

typedef struct cn_chat {
    const cn_template *chat_template;    // NULL: chat requests are refused
    const cn_checkpoint *checkpoint;
    const cn_prompt_guard *guard;
    const cn_limits *limits;
    cn_clock clock;
    bool takes_parts;            // the template reads lists of content parts itself
    bool knows_developer;        // ... and the role of that name
    uint8_t digest[CN_KEY_BYTES];        // of the template and the special tokens that it is given
    cn_buf text;                 // of the prompt rendered last
    size_t messages_bytes;       // of it, up to the end of the last message; 0: not known
    cn_prompt_guard_mark mark;   // in it
} cn_chat;

/* Everything is borrowed until close. */
void cn_chat_init(cn_chat *chat, const cn_template *chat_template, const cn_checkpoint *checkpoint,
                  const cn_prompt_guard *guard, const cn_limits *limits, cn_clock clock);
void cn_chat_close(cn_chat *chat);

/* Renders the messages, tools and so on of `body` into chat->text; alters `body`.
 * Errors: CN_E_INVALID (a message, by place; or the template's own sentence), CN_E_LIMIT,
 * CN_E_UNSUPPORTED (content other than text; a model without template), CN_E_MEMORY. */
cn_code cn_chat_render(cn_chat *chat, json_t *body, const cn_params *params, cn_arena *arena,
                       cn_err *err);

/* As render, where `messages` of the body are the first of a conversation and those from place `from` on:
 * only the latter are in chat->text, and what follows them. The template must permit it
 * (model/template_rest.h). */
cn_code cn_chat_render_rest(cn_chat *chat, json_t *body, uint32_t from, const cn_params *params,
                            cn_arena *arena, cn_err *err);

/* Encodes what was rendered; more than tokens_max tokens are CN_E_LIMIT. */
cn_code cn_chat_encode(cn_chat *chat, const cn_params *params, uint32_t tokens_max, cn_arena *arena,
                       cn_token_list *out, cn_err *err);

/* As encode, for the text from byte `from` on. */
cn_code cn_chat_encode_from(cn_chat *chat, const cn_params *params, size_t from,
                            uint32_t tokens_max, cn_arena *arena, cn_token_list *out, cn_err *err);
/* Bytes of the rendered text before its first mark. */
size_t cn_chat_unmarked_len(const cn_chat *chat);

/* The rendered text without marks, in chat->text. */
void cn_chat_strip(cn_chat *chat);
