/* dataplane/response_view.h: a response as its clients see it: the object, and the events of its stream.
 * A view holds what is known of a response by now, live or read from its stored turn. Event n is a
 * function of the view and n alone, so a stream that is resumed, on this appliance or another, has
 * the same events with the same numbers as the one that was cut.
 *
 * Threads: any, nothing is kept.
 * Memory:  a view borrows everything it points to. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "state/session.h"

typedef enum cn_response_status {
    CN_RESPONSE_QUEUED,
    CN_RESPONSE_IN_PROGRESS,
    CN_RESPONSE_COMPLETED,
    CN_RESPONSE_INCOMPLETE,      // max_output_tokens
    CN_RESPONSE_FAILED,
    CN_RESPONSE_CANCELLED
} cn_response_status;

/* Where a delta ends. */
typedef struct cn_response_cut {
    uint32_t text_end;           // bytes of the text
    uint32_t logprobs_end;       // bytes of the logprobs
} cn_response_cut;

typedef struct cn_response_usage {
    uint64_t input_tokens, cached_tokens, output_tokens;
    cn_bytes more;               // members behind these, each with a comma before it
} cn_response_usage;

typedef struct cn_response_view {
    cn_response_status status;
    bool background;             // it has an event more
    bool started;                // it has an output item
    bool closed;                 // its text is complete
    bool settled;                // its end may be told: nothing of it changes any more
    cn_bytes head;               // `{"id":...`: the members that never change, not closed
    cn_bytes tail;               // `,"status":...`: those that do, at its end
    const char *item_id;
    const char *text;
    uint32_t text_len;
    const char *logprobs;        // entries, joined by ','
    uint32_t logprobs_len;
    const cn_response_cut *cuts; // one per delta
    uint32_t cut_count;
} cn_response_view;

/* "completed" */
const char *cn_response_view_status(cn_response_status status);

/* The members that change: `,"status":...,"error":...,"incomplete_details":...,"completed_at":...,
 * "usage":...`. `failure` (FAILED) may be NULL. */
void cn_response_view_tail(cn_response_status status, const cn_err *failure, uint64_t completed_s,
                           const cn_response_usage *usage, cn_buf *out);

/* The output item as it is in the end. */
void cn_response_view_item(const cn_response_view *view, cn_buf *out);
/* The response object as it is now. */
void cn_response_view_object(const cn_response_view *view, cn_buf *out);

/* Events that can be told by now; once the view is settled, all there will be. */
uint32_t cn_response_view_event_count(const cn_response_view *view);
/* Appends event `n`, below the count, as a server-sent event. */
void cn_response_view_event(const cn_response_view *view, uint32_t n, cn_buf *out);

/* The view of a stored turn, in the arena and the turn. Errors: CN_E_CORRUPT (names the turn), CN_E_MEMORY. */
cn_code cn_response_view_load(const cn_turn *turn, cn_arena *arena, cn_response_view *out,
                              cn_err *err);
/* What load needs beside the items, as members of the turn's settings: `"deltas":[...]`. */
void cn_response_view_settings(const cn_response_view *view, cn_buf *out);
