/* bench/body.h: the requests of a conversation: one turn of a plan as HTTP bytes, in one of three
 * APIs, with its history in one of three ways.
 *
 * Threads: one.
 * Memory:  a history per session under way; close frees it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "bench/client.h"
#include "bench/plan.h"

typedef enum cn_body_api { CN_BODY_CHAT, CN_BODY_COMPLETIONS, CN_BODY_RESPONSES } cn_body_api;

typedef enum cn_body_history_kind {
    CN_BODY_RESEND,              // every request carries all turns before it
    CN_BODY_PREVIOUS,            // Responses API: previous_response_id
    CN_BODY_CONVERSATION         // Responses API: conversation
} cn_body_history_kind;

typedef struct cn_body_options {
    cn_client_url url;
    cn_body_api api;
    cn_body_history_kind history;
    const char *model, *api_key; // the key may be NULL
    const char *extra;           // object of JSON whose members are added, or ""
    double temperature;
    double words_per_token;
    bool stream, ignore_eos, return_token_ids;
    bool prompt_ids;             // completions: the prompt as token ids below `vocab`
    uint32_t vocab;
} cn_body_options;

typedef struct cn_body_history {
    cn_buf so_far;               // turns before this one, as the API has them
    char previous[80];           // id of the last response
    char conversation[80];
} cn_body_history;

void cn_body_history_init(cn_body_history *history);
void cn_body_history_close(cn_body_history *history);

/* Replaces *out by the whole request of the turn. */
void cn_body_write(const cn_body_options *options, const cn_plan *plan, uint32_t session,
                   uint32_t turn, const cn_body_history *history, cn_buf *out);

/* Replaces *out by the request for the events of a response behind this one. */
void cn_body_write_resume(const cn_body_options *options, const char *id, int64_t sequence,
                          cn_buf *out);

/* The turn was answered with `text` (NULL: not kept) under this id: it joins the history. */
void cn_body_answered(const cn_body_options *options, const cn_plan *plan, uint32_t session,
                      uint32_t turn, const char *text, const char *id, cn_body_history *history);

/* A POST with this JSON body, or a GET where `json` is NULL. */
void cn_body_write_request(const cn_body_options *options, const char *path, const cn_buf *json,
                           cn_buf *out);
