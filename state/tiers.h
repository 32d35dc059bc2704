/* state/tiers.h: where KV pages live: on the device, in host memory, in the store; and how they move.
 * A page that was sealed on the device is written behind: copied to host memory at once, and from
 * there put into the store. A sequence whose pages are gone from the device gets them back, from the
 * first missing one on, as long as they are there and as long as that is faster than computing them.
 * Nothing here is the truth: a page that is lost, late or damaged is computed again.
 *
 * Threads: engine only, except where [any] stands.
 * Memory:  all allocated in open: the host memory's frames, and about 50 bytes per page of each restore
 *          that may be under way. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/metrics.h"
#include "kernels/backend.h"
#include "state/host_cache.h"
#include "state/page_pool.h"
#include "state/store.h"

typedef enum cn_tier {
    CN_TIER_DEVICE,
    CN_TIER_HOST,
    CN_TIER_STORE,
    CN_TIER_COUNT
} cn_tier;

typedef struct cn_tiers cn_tiers;
typedef struct cn_restore cn_restore;    // the pages of one sequence, on their way to the device

typedef struct cn_tiers_options {
    cn_backend *backend;         // with its KV created; borrowed
    cn_page_pool *pool;          // of its pages; borrowed
    cn_store_port *store;        // attached by the caller, who uses it no more; NULL: no store
    uint64_t page_bytes;
    uint64_t host_bytes;         // for pages in host memory; 0: with a store, room for what is on the way
    uint32_t tenant_percent;     // of the host memory that one tenant keeps when others want it
    uint32_t chain_max;          // pages of one sequence
    uint32_t queue_max;          // sealed pages that may wait to be written behind
    uint64_t seed;               // from cn_random
    cn_clock clock;
    cn_metrics *metrics;
} cn_tiers_options;

/* Errors: CN_E_MEMORY, CN_E_INVALID (host_bytes hold no page, and there is no store). */
cn_code cn_tiers_open(const cn_tiers_options *options, cn_tiers **out, cn_err *err);
/* The backend must be closed and the store's thread have ended: whatever was under way is forgotten.
 * NULL is fine. */
void cn_tiers_close(cn_tiers *tiers);

/* A page was sealed on the device: it is written behind, unless a copy is there. O(1), and holds
 * nothing: a page that leaves the device before its turn is not written. */
void cn_tiers_sealed(cn_tiers *tiers, const cn_host_page *page);
/* The device computed `tokens` of prompts in `busy_ns`. */
void cn_tiers_prefilled(cn_tiers *tiers, uint32_t tokens, uint64_t busy_ns);

/* One round: copies and operations that ended are taken in, the next ones are started. `step_ns`: how long
 * the device's last step took, 0 if none is in flight: so long do copies wait, and a small part of it
 * may they take. Never blocks; false if there was nothing to do. */
bool cn_tiers_poll(cn_tiers *tiers, uint64_t step_ns);
/* Time until a poll has something to do by itself; UINT64_MAX: only when a wake says so. */
uint64_t cn_tiers_sleep_ns(const cn_tiers *tiers);
/* Pages that are not yet known to be where they are safe from a restart, and can get there; 0 without a
 * store, and while it does not answer. [any] */
uint32_t cn_tiers_unsaved(const cn_tiers *tiers);

/* ---- a restore: take, add the keys, start, wait until it has ended, collect or drop -------------- */

/* NULL if as many as there may be are under way. The keys that follow hang on `root`. */
cn_restore *cn_tiers_restore_take(cn_tiers *tiers, const cn_page_key *root);
void cn_tiers_restore_add(cn_restore *restore, const cn_page_key *key);
/* False, and the restore is gone: nothing beyond the device's own pages can be had, or computing is
 * faster. The pages at its start that are on the device are held from now on. */
bool cn_tiers_restore_start(cn_tiers *tiers, cn_restore *restore);
/* True once nothing more will come: everything is there, a page is missing, or it took too long. */
bool cn_tiers_restore_ended(const cn_restore *restore);
/* Pages that are on the device and held. */
uint32_t cn_tiers_restore_count(const cn_restore *restore);
/* How long it took; 0 if it was ended before its pages were there. */
uint64_t cn_tiers_restore_ns(const cn_restore *restore);
/* True if it ended because the pages it held were needed for other sequences. */
bool cn_tiers_restore_yielded(const cn_restore *restore);

/* Ends an ended restore: the references to its first pages move to `pages`, *last becomes the key of the
 * last one (untouched if there is none), `from` how many came from where. Returns their number. */
uint32_t cn_tiers_restore_collect(cn_tiers *tiers, cn_restore *restore, cn_page_id *pages,
                                  cn_page_key *last, uint32_t from[CN_TIER_COUNT]);
/* Ends it at any time; what is there stays in the pool as idle pages. */
void cn_tiers_restore_drop(cn_tiers *tiers, cn_restore *restore);

/* All restores but `except` (may be NULL) end and give their pages back; false if they held none. */
bool cn_tiers_yield(cn_tiers *tiers, const cn_restore *except);
/* Pages of the pool that the tiers hold references to, counted once for each reference. */
uint32_t cn_tiers_held(const cn_tiers *tiers);
/* Asserts the invariants by walking everything; for tests. */
void cn_tiers_check(const cn_tiers *tiers);
