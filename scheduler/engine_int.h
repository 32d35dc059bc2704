/* scheduler/engine_int.h: the engine's own structure, for engine.c, compose.c and port.c.
 *
 * Threads: engine only, but for `queued`, `queued_of` and the options, which every port reads.
 * Memory:  allocated in cn_engine_open. */
#pragma once

#include <stdatomic.h>

#include "scheduler/batch_int.h"
#include "scheduler/fair_int.h"
#include "state/tiers.h"

struct cn_engine {
    cn_engine_options options;
    cn_engine_info info;
    cn_kv_info kv;
    cn_page_pool *pool;
    cn_tiers *tiers;             // NULL: pages live on the device only
    cn_batch batch;
    cn_engine_port *ports;
    uint32_t port_count;         // opened so far
    uint32_t event_reserve;      // events that one round may emit to one port

    cn_sequence *sequences;      // the pool that the lists share
    cn_sequence_list free, forking, running;
    cn_fair fair;                // and those that wait, by tenant

    uint32_t *free_slots;        // a stack
    uint32_t free_slot_count;
    cn_page_id *tables;          // block tables, pages_per_slot entries each
    uint32_t pages_per_slot;

    _Atomic uint32_t queued;     // sequences that were submitted and never started
    _Atomic uint32_t *queued_of; // likewise, of each tenant
    uint64_t now_ns;             // of this round
    uint64_t step_ns;            // device time of the last step
    bool asked;                  // pages were looked for in this round: another one moves them
};

/* Ends a sequence in whatever state it is: gives back its slot and pages, reports, and recycles it. */
void cn_engine_finish(cn_engine *engine, cn_sequence *s, cn_finish finish, cn_code code);

/* A sequence starts, or ends without: it has left the queue. */
static inline void cn_engine_dequeue(cn_engine *engine, const cn_sequence *s)
{
    atomic_fetch_sub_explicit(&engine->queued, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&engine->queued_of[s->tenant], 1, memory_order_relaxed);
}

/* Puts a sequence, last, into the list of another state. */
void cn_engine_move(cn_engine *engine, cn_sequence *s, cn_sequence_state to);

/* Takes the slot and pages of a running sequence. */
void cn_engine_unseat(cn_engine *engine, cn_sequence *s);
