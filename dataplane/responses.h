/* dataplane/responses.h: /v1/responses: turns that are made, kept, and read again.
 *
 *   read ──▶ (replay) ──▶ (history) ──▶ generate ──▶ commit ──▶ settled
 *
 * A turn is stored unless its request says `store: false`. What ends its answer, the last event of a
 * stream or the body, leaves only after the session has acknowledged the commit. A background turn
 * goes on without its client; others end with it, within one step, and leave nothing behind.
 *
 * Threads: api only.
 * Memory:  in the request's arena, but for the text and logprobs of the answer, which are buffers. */
#pragma once

#include <jansson.h>

#include "dataplane/answer.h"
#include "dataplane/ask.h"
#include "dataplane/history.h"
#include "dataplane/live.h"
#include "dataplane/response_view.h"
#include "dataplane/route.h"

/* Somebody who is told the events of a response, or its object once it has settled. */
typedef struct cn_responses_reader {
    const cn_response_view *view;
    uint32_t next;               // event to tell
    bool streams;
    cn_answer *source;           // whose view it is; NULL: the reader's own
    cn_answer *next_reader;      // of the same source
} cn_responses_reader;

typedef enum cn_responses_phase {
    CN_RESPONSES_FINDING,        // looks whether the request was answered before
    CN_RESPONSES_LOADING,        // the history
    CN_RESPONSES_GENERATING,
    CN_RESPONSES_COMMITTING,
    CN_RESPONSES_SETTLED
} cn_responses_phase;

typedef cn_code (*cn_responses_step)(cn_answer *answer, cn_err *err);

typedef struct cn_responses_turn {
    cn_responses_phase phase;
    cn_session_id id;
    cn_session_id parent;        // as asked for; "" if none
    cn_session_id conversation;  // likewise
    bool stored, background;
    bool keyed;                  // has an Idempotency-Key
    bool truncates;              // leaves out old turns rather than refuse
    uint8_t digest[CN_KEY_BYTES];        // of the request's body
    uint8_t salt[CN_KEY_BYTES];
    uint64_t created_s;
    cn_responses_step resolved;  // goes on once no item is a reference
    json_t *items;               // of `input`; NULL once the prompt is made
    json_t *body;                // for the chat template: messages, tools, ...; likewise
    const char *instructions;    // NULL: none
    size_t instructions_len;
    cn_bytes *input;             // texts of the items
    uint32_t input_count;
    const cn_turn *chain;        // the history, oldest first
    uint32_t chain_count;
    cn_conversation head;        // the conversation, as it was loaded
    cn_history_prompt prompt;
    cn_response_view view;
    cn_response_cut *cuts;
    cn_buf logprobs;             // entries as text
    cn_responses_reader reader;  // of the client that made the turn
    cn_answer *readers;          // others
    cn_live_entry live, lock;
} cn_responses_turn;

extern const cn_answer_kind cn_responses_kind;

/* Routes. */
cn_code cn_responses_create(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_responses_get(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_responses_delete(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_responses_cancel(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_responses_list_input(cn_answer *answer, const cn_route *route, cn_err *err);

/* responses_read.c: fills the turn of `answer` from the body of its request. Errors as for parameters;
 * CN_E_EXCLUSIVE, CN_E_PARENT. */
cn_code cn_responses_read(cn_answer *answer, const json_t *body, cn_err *err);

/* responses_references.c: has every item_reference of the request replaced by its item, then goes on.
 * Errors: CN_E_ABSENT. */
cn_code cn_responses_references_resolve(cn_answer *answer, cn_responses_step then, cn_err *err);

/* responses_prompt.c: the prompt of the turn, once its history is there. Errors: CN_E_CONTEXT and
 * those of the chat template. */
cn_code cn_responses_prompt_make(cn_answer *answer, cn_err *err);

/* responses_commit.c: the view's end, and the record of the turn. */
cn_code cn_responses_commit_close(cn_answer *answer, cn_response_status status,
                                  const cn_err *failure, cn_err *err);
cn_code cn_responses_commit_fill(cn_answer *answer, cn_session_call *call, cn_err *err);

/* responses_reader.c: telling. */
void cn_responses_reader_open(cn_answer *answer, cn_responses_reader *reader,
                              const cn_response_view *view, bool streams);
/* cn_answer_kind.pump: what the reader may be told by now; false if there is more. */
bool cn_responses_reader_pump(cn_answer *answer);
/* Has everybody who reads the answer's turn looked at. */
void cn_responses_reader_wake(cn_answer *answer);
/* Answers with the stored turn that `call` brought. */
cn_code cn_responses_reader_replay(cn_answer *answer, const cn_turn *turn, bool streams,
                                   uint32_t next, cn_err *err);
/* Reads what another answer makes. */
cn_code cn_responses_reader_follow(cn_answer *answer, cn_answer *source, bool streams,
                                   uint32_t next, cn_err *err);

/* responses.c: ends the turn of a background answer as cancelled. */
void cn_responses_stop(cn_answer *answer);
/* Adds the Cairn-Durability field. */
void cn_responses_durability(cn_answer *answer);
