/* state/store_sim.h: a store in memory, for tests, with faults on demand.
 * It does what state/store.h promises and nothing more: operations take a while, come back in any
 * order, get lost, and a crash forgets what was not acknowledged. Everything follows from the seed,
 * the clock and the order of submission.
 *
 * Threads: as any store; fault settings and the functions that look inside belong to the store's
 *          thread.
 * Memory:  grows with what is stored; keys are never forgotten. */
#pragma once

#include "base/clock.h"
#include "state/store.h"

typedef struct cn_store_sim_options {
    uint32_t port_count;
    uint32_t op_max;                 // operations of one port at once
    uint64_t page_bytes;
    uint64_t seed;
    cn_clock clock;
    cn_wake *wake;                   // the store thread's; NULL where one thread submits and polls
    cn_durability durability;        // what it says of itself
} cn_store_sim_options;

/* Faults of operations that are submitted from now on, in percent of them. */
typedef struct cn_store_sim_faults {
    uint64_t delay_ns_min, delay_ns_max;     // until an answer
    uint32_t lose_percent; // CN_E_STORE at the deadline: carried out in time, too late, or not
    uint32_t fail_percent;           // CN_E_STORE after the delay: carried out or not
    uint32_t conflict_percent;       // SWAP: CN_E_CONFLICT with what is there
    uint32_t absent_percent;         // PAGE_GET: the page is evicted before it is read
    bool log_down, pages_down;       // nothing is carried out: CN_E_STORE at the deadline
    bool log_full;                   // PUT_NEW and SWAP: CN_E_STORE_FULL
} cn_store_sim_faults;

/* Errors: CN_E_MEMORY. */
cn_code cn_store_sim_open(const cn_store_sim_options *options, cn_store **out, cn_err *err);

void cn_store_sim_set_faults(cn_store *store, const cn_store_sim_faults *faults);

/* The log dies and comes back as a log does that was torn at some point behind its last
 * acknowledgement: effects that were not acknowledged are gone from that point on. Operations under
 * way end with CN_E_STORE. Pages are gone. */
void cn_store_sim_crash(cn_store *store);

/* The value of a key as another client would see it, NULL if there is none; borrowed until the next
 * poll. */
const void *cn_store_sim_peek(cn_store *store, const char *key, uint32_t *value_len);
/* What another client might do: sets a value, or removes it (NULL). False: no memory. */
bool cn_store_sim_poke(cn_store *store, const char *key, const void *value, uint32_t value_len);

/* Evicts about `percent` of the pages. */
void cn_store_sim_evict(cn_store *store, uint32_t percent);
uint32_t cn_store_sim_page_count(const cn_store *store);
