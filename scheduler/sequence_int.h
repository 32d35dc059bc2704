/* scheduler/sequence_int.h: one choice of one generation, from waiting to finished.
 *
 * Threads: engine only.
 * Memory:  sequences come from a fixed pool; a running one borrows the block table of its slot. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/port_int.h"
#include "state/page_pool.h"
#include "state/tiers.h"

typedef enum cn_sequence_state {
    CN_SEQUENCE_FREE,
    CN_SEQUENCE_FORKING,         // waits until choice 0 has computed the prompt
    CN_SEQUENCE_WAITING,         // for a place in the batch
    CN_SEQUENCE_RUNNING          // has a slot, pages, and a place in the batch
} cn_sequence_state;

typedef struct cn_sequence cn_sequence;

struct cn_sequence {
    cn_sequence *older, *newer;  // in the list of its state
    cn_generation *generation;
    cn_engine_port *port;
    cn_sequence *parent;         // FORKING and after: choice 0 while `parent_epoch` is its epoch
    cn_sequence *awaited;        // WAITING: this one is computing pages that we can share, while
    uint32_t awaited_epoch;      // its epoch is this
    uint32_t awaited_pages;      // and it has sealed fewer pages than this
    uint32_t parent_epoch;
    uint32_t epoch;              // grows when the slot is lost: results of older steps are not ours
    cn_sequence_state state;
    uint32_t tenant, weight;     // of its generation
    cn_slot slot;
    cn_page_id *pages;           // block table of the slot; page_count entries are held
    uint32_t page_count;
    uint32_t sealed_count;       // the first ones, which are shared and in the index
    cn_page_key root;            // of the tenant's keys
    cn_page_key chain;           // key of the last sealed page, or the root
    cn_restore *restore;         // WAITING: pages on their way to the device, or NULL
    uint32_t choice;
    uint32_t output_count;       // tokens of the answer that are known
    uint32_t sample_count;       // tokens that steps in flight will sample
    uint32_t submitted_count;    // positions given to the device
    uint32_t done_count;         // positions of finished steps
    uint32_t reported_count;     // prompt tokens whose logprob was reported, the first counted in
    uint32_t pages_wanted;       // WAITING: do not try again before so many are usable
    uint64_t token_ns;           // when the last token came
    uint32_t pages_from[CN_TIER_COUNT];      // of the last restore
    uint64_t restore_ns;         // that it took
    bool asked;                  // its pages were looked for since it waits
    bool started;                // had a place in the batch before
};

/* Tokens that are known: prompt and answer so far. */
static inline uint32_t cn_sequence_length(const cn_sequence *s)
{
    return s->generation->prompt_count + s->output_count;
}

/* The answer's tokens, of this choice. */
static inline int32_t *cn_sequence_output(const cn_sequence *s)
{
    return s->generation->output + (uint64_t)s->choice * s->generation->tokens_max;
}

/* Token at a known position. */
static inline int32_t cn_sequence_token(const cn_sequence *s, uint32_t position)
{
    const uint32_t prompt_count = s->generation->prompt_count;
    return position < prompt_count ? s->generation->prompt[position]
                                   : cn_sequence_output(s)[position - prompt_count];
}

/* True until its whole prompt (or, after a preemption, all that was known) has been computed. */
static inline bool cn_sequence_prefilling(const cn_sequence *s)
{
    return s->state == CN_SEQUENCE_RUNNING && s->done_count < cn_sequence_length(s) - 1;
}

/* True while tokens of its prompt are to be reported: all of it must be computed, to have the logits. */
static inline bool cn_sequence_reports(const cn_sequence *s)
{
    const cn_generation *g = s->generation;
    return g->prompt_logprobs && s->choice == 0 && s->reported_count < g->prompt_count;
}

/* The key of page `index`, which is known whole, behind a page with key `before`. */
cn_page_key cn_sequence_key(const cn_sequence *s, uint32_t index, const cn_page_key *before);

/* Adds to its pages, the last of which has key `chain`, the sealed ones that follow in the pool, at
 * most up to the last known token, which must be computed to go on. Sets page_count, sealed_count,
 * chain and the counts. */
void cn_sequence_find_prefix(cn_sequence *s, cn_page_pool *pool);

/* Pages up to `token_count` positions: takes what is missing. CN_E_PAGES keeps what it got. */
cn_code cn_sequence_grow(cn_sequence *s, cn_page_pool *pool, uint32_t token_count);

/* Seals the next page, which must be full and done; true if it became another page of equal content. */
bool cn_sequence_seal_next(cn_sequence *s, cn_page_pool *pool);

/* Gives all pages back, last first, and forgets what was computed. */
void cn_sequence_release(cn_sequence *s, cn_page_pool *pool);

/* Whole pages at the start of both that hold the same tokens and that `a` may share from `b`. */
uint32_t cn_sequence_common_pages(const cn_sequence *a, const cn_sequence *b);

/* ---- lists, oldest first ------------------------------------------------------------------------ */

typedef struct cn_sequence_list {
    cn_sequence *oldest, *newest;
    uint32_t count;
} cn_sequence_list;

void cn_sequence_list_append(cn_sequence_list *list, cn_sequence *s);
void cn_sequence_list_prepend(cn_sequence_list *list, cn_sequence *s);
void cn_sequence_list_remove(cn_sequence_list *list, cn_sequence *s);
