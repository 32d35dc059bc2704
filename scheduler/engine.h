/* scheduler/engine.h: from requests to tokens, by continuous batching.
 * The engine owns a backend and its page pool. It takes generations, composes one step after another
 * under a token budget (decodes first, then chunks of prompts), and reports every token as an event.
 * While the device runs step n, step n + 1 is composed and submitted.
 *
 * A generation moves into the engine with submit and belongs to it until its last event, which gives
 * it back. Everything it points to must stay in place meanwhile.
 *
 * Threads: poll, open and close on the engine thread. A port belongs to one other thread, which alone
 *          calls submit, cancel, next and done on it. Functions marked [any] from every thread.
 * Memory:  all allocated in open; nothing afterwards. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/metrics.h"
#include "base/wake.h"
#include "kernels/backend.h"
#include "state/page_key.h"
#include "state/store.h"

typedef struct cn_engine cn_engine;
typedef struct cn_engine_port cn_engine_port;

typedef struct cn_engine_options {
    cn_backend *backend;         // with its model loaded; borrowed; the engine creates its KV
    uint32_t page_count;
    uint32_t slot_count;         // sequences in the batch at once
    uint32_t step_tokens;        // token budget of one step
    uint32_t context_tokens_max;
    uint32_t vocab_count;
    uint32_t queue_max;          // sequences that may wait, of all tenants
    uint32_t choices_max;        // of one generation
    uint32_t port_count;
    uint32_t tenant_count;       // that generations may be of; 0: one
    uint64_t index_seed;         // from cn_random: perturbs the prefix index
    uint8_t model[CN_FINGERPRINT_BYTES];     // which weights these are: in the key of every page
    uint64_t host_bytes;         // host memory for pages; 0: none, or with a store what is on the way
    uint32_t tenant_percent;     // of it, that one tenant keeps when others want it
    cn_store_port *store;        // for pages; the engine attaches it; NULL: no store
    cn_clock clock;
    cn_metrics *metrics;         // borrowed
    cn_wake *wake;               // the engine thread's; also given to the backend
} cn_engine_options;

/* One prompt and how to answer it, `choice_count` times. */
typedef struct cn_generation {
    const int32_t *prompt;
    uint32_t prompt_count;       // >= 1
    cn_sampling sampling;        // choice i samples with seed + i; ban_* are set by the engine
    uint32_t choice_count;       // >= 1
    uint32_t tokens_max;         // of one answer; 0 only computes the prompt
    uint32_t tokens_min;         // end tokens are banned before
    const int32_t *stop_ids;     // tokens that end an answer (end-of-sequence ids included)
    uint32_t stop_count;
    bool prompt_logprobs;        // report each prompt token after the first; the prompt is then
                                 // computed whole, without cached pages
    int32_t *output;             // choice_count * tokens_max ids, written by the engine
    uint32_t tenant;             // below tenant_count: shares the device with the others by weight
    uint32_t weight;             // 0: 1
    uint8_t salt[CN_KEY_BYTES];  // whose pages may be shared: equal salts only
    void *user;                  // the submitter's own
    uint64_t submitted_ns;       // set by submit
    uint32_t engine_open;        // engine's: choices that have not ended
} cn_generation;

typedef enum cn_event_kind {
    CN_EVENT_STARTED,            // the choice has its place in the batch for the first time
    CN_EVENT_PROMPT,             // logprob of a prompt token (prompt_logprobs)
    CN_EVENT_TOKEN,              // one more token of the answer
    CN_EVENT_FINISHED
} cn_event_kind;

typedef enum cn_finish {
    CN_FINISH_STOP,              // a token of stop_ids, which was the last TOKEN event
    CN_FINISH_LENGTH,            // tokens_max, or the context window
    CN_FINISH_CANCELLED,
    CN_FINISH_ERROR              // `code` says why
} cn_finish;

typedef struct cn_event {
    cn_generation *generation;
    cn_event_kind kind;
    cn_finish finish;            // FINISHED
    cn_code code;                // FINISHED with ERROR
    uint32_t choice;
    uint32_t position;           // TOKEN, PROMPT: of the token in its sequence
    uint32_t cached_tokens;      // STARTED: prompt tokens that need no computing; of these
    uint32_t host_tokens;        // came from host memory,
    uint32_t store_tokens;       // and from the store
    uint64_t wait_ns;            // STARTED: since submission; of this,
    uint64_t restore_ns;         // the time that its pages took to come
    int32_t token;               // TOKEN, PROMPT
    bool last;                   // FINISHED: the generation moves back with this event
    float logprob;               // where sampling.logprob_count > 0
    uint32_t top_count;
    cn_logprob top[CN_TOP_LOGPROBS_MAX];
} cn_event;

typedef struct cn_engine_info {
    uint32_t context_tokens_max; // of prompt and answer together: also bounded by the pages there are
    uint32_t page_count;
    uint32_t slot_count;
    uint64_t page_bytes;
} cn_engine_info;

/* Creates the backend's KV and `port_count` ports. The caller owns *out until close.
 * Errors: CN_E_MEMORY, CN_E_INVALID (options that cannot work together, named). */
cn_code cn_engine_open(const cn_engine_options *options, cn_engine **out, cn_err *err);
/* Every generation must have ended, the backend be closed, and the store's thread have ended. NULL is
 * fine. */
void cn_engine_close(cn_engine *engine);

void cn_engine_info_get(const cn_engine *engine, cn_engine_info *out);      // [any]
cn_engine_port *cn_engine_port_at(cn_engine *engine, uint32_t index);

/* One round: messages in, finished steps out, next step submitted. Never blocks; false if there was
 * nothing to do. */
bool cn_engine_poll(cn_engine *engine);
/* Time until a poll may have something to do though no wake said so; UINT64_MAX: none. */
uint64_t cn_engine_sleep_ns(const cn_engine *engine);
/* Pages that a restart would lose and that can still be saved: what draining waits for. [any] */
uint32_t cn_engine_unsaved_pages(const cn_engine *engine);
/* True if no generation is in the engine. */
bool cn_engine_idle(const cn_engine *engine);
/* Prints the invariants' violations by asserting: every page is where it should be. For tests. */
void cn_engine_check(const cn_engine *engine);

/* ---- a port: the api thread's side ------------------------------------------------------------- */

/* `wake` is signalled when events arrive; borrowed. Call once before the first submit. */
void cn_engine_port_attach(cn_engine_port *port, cn_wake *wake);

/* Whether `choice_count` more sequences may wait: the check to make before costly work. An estimate;
 * submit decides. Errors: CN_E_QUEUE, with the limit. */
cn_code cn_engine_port_admit(cn_engine_port *port, uint32_t choice_count, cn_err *err);

/* Hands a generation over; it moves only on CN_OK. Errors, each naming a request field: CN_E_CONTEXT
 * (does not fit the context window or the page pool), CN_E_QUEUE, CN_E_INVALID. */
cn_code cn_engine_port_submit(cn_engine_port *port, cn_generation *generation, cn_err *err);

/* Asks to end all choices of a generation that is still in the engine, within one step; they still get
 * their FINISHED events. False if the ring is full: try again later. */
bool cn_engine_port_cancel(cn_engine_port *port, cn_generation *generation);
/* As cancel, for one choice (a stop string was found). */
bool cn_engine_port_cancel_choice(cn_engine_port *port, cn_generation *generation, uint32_t choice);

/* The oldest event, valid until done; NULL if there is none. */
const cn_event *cn_engine_port_next(cn_engine_port *port);
void cn_engine_port_done(cn_engine_port *port);
