/* dataplane/conversations.h: /v1/conversations: branches of turns, and their items.
 * Whatever moves or changes a conversation holds its lock meanwhile, as a turn that is generated in it
 * does, so neither can make the other lose.
 *
 * Threads: api only.
 * Memory:  in the request's arena. */
#pragma once

#include <jansson.h>

#include "dataplane/answer.h"
#include "dataplane/ask.h"
#include "dataplane/live.h"
#include "dataplane/paging.h"
#include "dataplane/route.h"

/* What a route keeps while it waits: answer->work. */
typedef struct cn_conversations_work {
    cn_session_id id;            // of the conversation; "" while it has none
    cn_session_id at;            // turn to fork at
    cn_session_id turn_id;       // of the turn that is to hold `items`
    cn_session_id made_id;       // of the conversation that is made
    const char *item_id;
    json_t *items;               // to be added; NULL: none
    cn_bytes metadata;
    uint8_t digest[CN_KEY_BYTES];        // of the request
    bool keyed;                  // it has an Idempotency-Key
    cn_paging paging;
    cn_conversation conversation;        // as the session gave it
    cn_live_entry lock;
    void *import;                // of conversations_import.c
} cn_conversations_work;

extern const cn_answer_kind cn_conversations_kind;

/* Routes. */
cn_code cn_conversations_create(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_list(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_get(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_update(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_delete(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_fork(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_tree(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_export(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_import(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_items_create(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_items_list(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_items_get(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_conversations_items_delete(cn_answer *answer, const cn_route *route, cn_err *err);

/* Opens the work of a route; names[0] of the route (NULL: it names none) is its conversation. */
cn_code cn_conversations_open(cn_answer *answer, const cn_route *route, cn_conversations_work **out,
                              cn_err *err);
/* As open, and locks the conversation. Errors: CN_E_CONFLICT. */
cn_code cn_conversations_open_locked(cn_answer *answer, const cn_route *route,
                                     cn_conversations_work **out, cn_err *err);
/* Reads `items` of a body into the work, at most limit conversation_items; nothing if there are none.
 * References are refused: a conversation has its items, and does not borrow them. */
cn_code cn_conversations_read_items(cn_answer *answer, const json_t *body, cn_err *err);
/* Names what the request makes, a turn and a conversation: after its Idempotency-Key, or at random.
 * Errors: CN_E_INVALID, CN_E_STORE (there is no store). */
cn_code cn_conversations_name(cn_answer *answer, cn_err *err);
/* The reply to a request that made `made_id`, now or before, for which the call asked. */
cn_code cn_conversations_made(cn_answer *answer, const cn_session_call *call, cn_err *err);
/* CN_E_EXISTS. */
cn_code cn_conversations_key_used(cn_answer *answer, cn_err *err);
/* CN_E_CONFLICT, in OpenAI's words. */
cn_code cn_conversations_locked(cn_err *err);
/* The body as an object; nothing at all is an empty one. The caller gives it back. */
cn_code cn_conversations_body(cn_answer *answer, json_t **out, cn_err *err);
/* Takes the conversation that a call brought. Errors: CN_E_ABSENT, and those of the call. */
cn_code cn_conversations_take(cn_answer *answer, const cn_session_call *call, cn_err *err);
/* {"id":...,"object":"conversation",...}, with Cairn's head and revision. */
void cn_conversations_write(const cn_conversation *conversation, cn_buf *out);
/* Replies with what is in the reply's buffer, or with the conversation taken. */
cn_code cn_conversations_reply(cn_answer *answer);
cn_code cn_conversations_reply_object(cn_answer *answer);
/* Whether an item is in `deleted_items`. */
bool cn_conversations_is_deleted(const json_t *deleted, cn_bytes item);
/* The list of deleted items of a conversation; NULL: none. The caller gives it back. */
json_t *cn_conversations_deleted(const cn_conversation *conversation);
/* Fills a turn that holds items and no answer. */
cn_code cn_conversations_fill_items(cn_answer *answer, const cn_session_id *parent, cn_turn *out,
                                    cn_err *err);
