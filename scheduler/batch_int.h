/* scheduler/batch_int.h: the step that is being composed, and the memory of those in flight.
 * A batch collects what the next step tells the backend; submit hands it over and keeps a record of
 * whom its outputs belong to.
 *
 * Threads: engine only.
 * Memory:  arrays for the largest step, allocated in open. */
#pragma once

#include "scheduler/sequence_int.h"

enum { CN_BATCH_IN_FLIGHT_MAX = 2 };

/* What one sequence has in one step. */
typedef struct cn_batch_entry {
    cn_sequence *sequence;
    cn_slot slot;                // of the sequence then, as its epoch
    uint32_t epoch;
    uint32_t token_count;        // in this step
    uint32_t end_count;          // positions done once the step is
} cn_batch_entry;

typedef struct cn_batch_record {
    cn_ticket ticket;
    uint32_t count;
    cn_batch_entry *entries;     // in the order of the step's seqs
} cn_batch_record;

typedef struct cn_batch {
    cn_step step;                // its arrays are the ones below
    cn_slot_open *opens;
    cn_page_delta *deltas;
    cn_page_copy *copies;
    cn_step_seq *seqs;
    int32_t *tokens;
    int32_t *targets;            // beside tokens
    cn_sampling *samplings;      // beside opens
    uint32_t delta_capacity;
    uint32_t tokens_max;
    cn_batch_record records[CN_BATCH_IN_FLIGHT_MAX];
    uint32_t record_oldest, record_count;
} cn_batch;

cn_code cn_batch_open(cn_batch *batch, uint32_t slot_count, uint32_t step_tokens,
                      uint32_t delta_capacity);
void cn_batch_close(cn_batch *batch);

/* Tokens that still fit. */
static inline uint32_t cn_batch_token_room(const cn_batch *batch)
{
    return batch->tokens_max - batch->step.token_count;
}
static inline uint32_t cn_batch_delta_room(const cn_batch *batch)
{
    return batch->delta_capacity - batch->step.delta_count;
}

/* The sequence takes possession of its slot; its history is what is known of it. */
void cn_batch_open_slot(cn_batch *batch, const cn_sequence *s);
/* Entry `index` of the block table has changed. */
void cn_batch_add_delta(cn_batch *batch, const cn_sequence *s, uint32_t index);
void cn_batch_add_copy(cn_batch *batch, cn_page_id from, cn_page_id to);

/* The next `token_count` positions of the sequence, sampling after them or not. Advances its
 * submitted and sample counts. */
void cn_batch_add_tokens(cn_batch *batch, cn_sequence *s, uint32_t token_count, bool sample);

/* Hands the step to the backend; false if there is nothing to compute. Fewer than
 * CN_BATCH_IN_FLIGHT_MAX steps may be in flight. */
bool cn_batch_submit(cn_batch *batch, cn_backend *backend);

/* The record of the oldest step in flight, which has `ticket`; retire forgets it. */
const cn_batch_record *cn_batch_record_of(const cn_batch *batch, cn_ticket ticket);
void cn_batch_retire(cn_batch *batch);
