/* state/tiers_int.h: what tiers.c (copies, the store, write-behind) and tiers_restore.c share.
 *
 * Threads: engine only.
 * Memory:  allocated in cn_tiers_open. */
#pragma once

#include <stdatomic.h>

#include "state/tier_rate.h"
#include "state/tiers.h"

enum {
    CN_TIERS_RESTORES = 16,      // under way at once
    CN_TIERS_GETS = 32,          // operations with the store at once
    CN_TIERS_PUTS = 8,
    CN_TIERS_MOVES = 256         // pages of one batch of copies
};

/* The pages of a sequence, from the first on. held <= moving_end <= ready <= asked <= limit:
 *
 *    on the device, held │ copies to the device │ in host memory │ on the way to it │ not asked for
 *    0               held            moving_end            ready              asked           limit
 *
 * Frames from `held` up to `asked` are pinned. It has ended when `held` reaches `limit`, which falls when
 * a page is missing. */
struct cn_restore {
    cn_page_key root;
    cn_page_key *keys;           // chain_max
    cn_page_id *pages;
    cn_host_frame *frames;
    uint8_t *from;               // cn_tier of each page
    uint32_t count;
    uint32_t held, moving_end, ready, asked, limit;
    uint32_t window;             // pages from the store at once
    uint64_t start_ns, deadline_ns;
    uint64_t took_ns;            // once its end was counted
    bool chose_store;            // the store is worth it, as was decided at the first page from there
    bool chose_computing;        // what is missing can be had, but computing it is faster
    bool is_late;
    bool noted;                  // its end was counted
    bool yielded;                // holds nothing any more
    bool dropped;                // nobody waits for it any more
};

/* One page between device and host memory. */
typedef struct cn_tiers_move {
    cn_host_frame frame;
    cn_page_id page;
    cn_restore *restore;         // to the device; NULL: from it, written behind
} cn_tiers_move;

/* One page between host memory and the store. */
typedef struct cn_tiers_transfer {
    cn_store_op op;
    cn_host_frame frame;
    bool is_hurried;             // its deadline is the sequence's: being late is not the store's fault
    bool is_under_way;
} cn_tiers_transfer;

struct cn_tiers {
    cn_tiers_options options;
    cn_host_cache *host;
    uint64_t now_ns;             // of this round

    cn_tiers_move moves[CN_TIERS_MOVES];     // the batch of copies that is under way
    cn_page_io io[CN_TIERS_MOVES];
    uint32_t move_count;
    cn_ticket ticket;
    uint64_t move_start_ns;      // 0: its time says nothing, it waited for steps

    cn_host_page *queue;         // sealed pages to be copied to host memory, a ring
    uint64_t *queue_ns;          // when each was sealed
    uint32_t queue_first, queue_count;
    cn_host_frame *unsaved;      // full frames to be put into the store, a ring; each is pinned
    uint64_t *frame_ns;          // [frame]: since when its page waits to be saved, if it does
    uint32_t unsaved_first, unsaved_count, frame_count;
    _Atomic uint32_t unsaved_pages;          // relaxed: a figure for whoever drains

    cn_tiers_transfer gets[CN_TIERS_GETS], puts[CN_TIERS_PUTS];
    cn_tiers_transfer *free_gets[CN_TIERS_GETS], *free_puts[CN_TIERS_PUTS];      // stacks
    uint32_t free_get_count, free_put_count;
    uint64_t down_until_ns;      // the store failed: nothing is sent before
    uint64_t down_ns;            // how long it is left alone

    cn_restore restores[CN_TIERS_RESTORES];
    cn_restore *free_restores[CN_TIERS_RESTORES];
    cn_restore *active[CN_TIERS_RESTORES];   // oldest first
    uint32_t free_restore_count, active_count;

    cn_tier_rate compute_rate, host_rate, store_rate;
    cn_tier_choice host_choice, store_choice;
};

/* Whether operations may be sent to the store now. */
static inline bool cn_tiers_store_is_up(const cn_tiers *t)
{
    return t->options.store && t->now_ns >= t->down_until_ns;
}

/* An empty frame for the page, pinned; false if there is none now. */
bool cn_tiers_take_frame(cn_tiers *t, const cn_host_page *page, cn_host_frame *out);
/* Sends for a page; false if that is not possible now. The frame is empty and gets a pin of its own. */
bool cn_tiers_get(cn_tiers *t, cn_host_frame frame, uint64_t deadline_ns);

cn_code cn_tiers_open_restores(cn_tiers *t);
void cn_tiers_close_restores(cn_tiers *t);
/* Takes in what has arrived in host memory and asks for more. */
void cn_tiers_advance_restores(cn_tiers *t);
/* Adds pages that are ready to the batch of copies, at most `page_max`. */
void cn_tiers_add_restores(cn_tiers *t, uint32_t page_max);
/* The copy to the device is done. */
void cn_tiers_restore_arrive(cn_tiers *t, const cn_tiers_move *move);
