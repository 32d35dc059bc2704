/* state/session.h: turns and conversations, as those who serve them see it.
 * A turn is one request and its answer, immutable, and names its parent. A conversation is a mutable
 * head that points to a turn. This file knows records, keys, chains of turns and compare-and-set; the
 * bytes are the store's business (state/store.h), and what an item means is the API's.
 *
 * Everything is asynchronous: a call fills a cn_session_call, which comes back by `done` from poll.
 * A call never waits longer than its deadline, and never reports success that was not acknowledged.
 *
 * Tenants: every key contains the tenant, so an id of another tenant is an id that does not exist.
 *
 * Threads: one, the api thread (or a command's main thread).
 * Memory:  decoded turns and conversations live in the arena given to the call; the calls in flight
 *          are bounded by call_max, records that are kept for a next history by cache_bytes. An
 *          idle conversation costs nothing else. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/metrics.h"
#include "base/random.h"
#include "state/page_key.h"
#include "state/store.h"

enum {
    CN_SESSION_ID_BYTES = 56,            // text with its 0: "resp_" or "conv_" and 48 hex digits
    CN_SESSION_ID_RAW_BYTES = 24,        // what the hex digits say
    CN_SESSION_TENANT_BYTES = 32,
    CN_SESSION_ANCESTORS_MAX = 32        // that a turn names, so a history is read 32 turns at a time
};

typedef struct cn_session_id { char text[CN_SESSION_ID_BYTES]; } cn_session_id;

typedef struct cn_bytes {
    const char *data;
    uint32_t len;
} cn_bytes;

/* Where a next turn may take over what was rendered: `messages` of the history stood before the answer, and
 * wrote all of the chain's text but its last `bytes`. It holds where `digest` is the same, which is of all
 * that the template is given beside messages. `messages` 0: nothing is known. */
typedef struct cn_turn_seam {
    uint32_t messages, bytes;
    uint8_t digest[CN_KEY_BYTES];
} cn_turn_seam;

/* One turn. Items and settings are JSON as the API wrote them: a turn of a newer API stays readable.
 * `prompt_text` is what the chat template made of the whole history, cut to what follows the parent's
 * text; `tokens` likewise. Text and tokens of a chain, one after another, are those of the history,
 * so a next turn whose rendered text begins with the chain's text takes the chain's tokens. */
typedef struct cn_turn {
    cn_session_id id;
    cn_session_id parent;                // "" at a root
    cn_session_id conversation;          // "" where the turn belongs to none
    uint64_t created_s, completed_s;     // wall clock
    cn_bytes response;                   // JSON object, without `output`
    cn_bytes *input;                     // JSON items of the request, in order
    uint32_t input_count;
    cn_bytes *output;                    // JSON items of the answer
    uint32_t output_count;
    cn_bytes text;                       // rendered, of this turn alone: prompt suffix and answer
    const int32_t *tokens;               // of `text`; sampled ones as they were sampled
    uint32_t token_count;
    uint32_t output_token_count;         // the last ones of `tokens`, which were sampled
    bool resets_text;                    // text and tokens stand for the whole history, because the
                                         // template changed what came before; the chain's begin here
    cn_turn_seam seam;
    cn_bytes settings;                   // JSON of what sampling needs to be repeated (cairn prove)
    uint8_t request_digest[CN_KEY_BYTES];        // of the request body, for Idempotency-Key
    bool deleted;                        // DELETE of a response: a head stays whole, the turn is unfit
    /* Filled in by sessions, whatever a COMMIT has here. */
    bool withdrawn;                      // lost its race; no caller ever sees one
    uint32_t depth;                      // turns of the chain that ends here; 1 at a root
    uint64_t kept_s;                     // no turn of the chain was renewed before
    const uint8_t *ancestors;            // raw ids, the parent first
    uint32_t ancestor_count;
} cn_turn;

typedef struct cn_conversation {
    cn_session_id id;
    cn_session_id head;                  // "" while empty
    uint64_t revision;                   // 1, 2, 3, ...
    uint64_t created_s;
    cn_bytes metadata;                   // JSON object
    cn_bytes deleted_items;              // JSON list of item ids that are not shown any more
    bool deleted;
    uint8_t request_digest[CN_KEY_BYTES];        // of the request that made it, for Idempotency-Key
    /* Filled in by sessions; a caller that hands a conversation back hands these back, too. */
    cn_session_id root;                  // first turn: equal in all forks of one conversation
    cn_session_id forked_from, forked_at;        // conversation and turn; "" if it is not a fork
    uint64_t kept_s;                     // when the record was written
    cn_bytes stored;                     // the record; the next change expects to find it
} cn_conversation;

typedef enum cn_session_kind {
    CN_SESSION_TURN,             // turn `id` → turn. A deleted one is not found, here and in HISTORY
    CN_SESSION_HISTORY,          // turn `id`, or the head of conversation `id` → chain, oldest first
                                 // (and the conversation; deleted turns stay in its chain)
    CN_SESSION_COMMIT,           // `turn`, then the head of `conversation` if there is one. `chain`, if
                                 // it ends with the parent, saves reading the parent again
    CN_SESSION_REPLAY,           // what became of turn `id`, whose id an Idempotency-Key made → turn, as
                                 // committed by the request with turn.request_digest. A commit that
                                 // was cut in half is finished first. CN_E_NOT_FOUND: there is none, go
                                 // on and commit; CN_E_EXISTS: it was another request
    CN_SESSION_TURN_DELETE,      // turn `id` becomes unfit as a parent
    CN_SESSION_CONVERSATION,     // conversation `id` → conversation
    CN_SESSION_CREATE,           // `conversation`: metadata, and head if it begins at a turn. Id (if
                                 // "") and revision are filled in. If the id is taken, it is the one that
                                 // the same request made, or CN_E_EXISTS
    CN_SESSION_UPDATE,           // metadata, deleted items, or deleted of `conversation`, by revision
    CN_SESSION_FORK,             // conversation `id` at turn `at` ("": its head) → new conversation,
                                 // with conversation.metadata if there is any; id and digest as in CREATE
    CN_SESSION_LIST,             // conversations of the tenant from `cursor` on → list; some pages of
                                 // a list may be empty, one conversation may come twice
    CN_SESSION_TREE              // conversation `id` and all that share its root → list, and the union
                                 // of their chains → chain, parents before children
} cn_session_kind;

typedef struct cn_session_call cn_session_call;

struct cn_session_call {
    cn_session_kind kind;
    uint8_t tenant[CN_SESSION_TENANT_BYTES];
    cn_session_id id, at;
    cn_arena *arena;                     // where results go; borrowed until done
    uint64_t deadline_ns;
    cn_turn turn;                        // in: COMMIT; out: TURN
    cn_conversation conversation;        // in: COMMIT (as HISTORY gave it; id "" for none), UPDATE, CREATE
                                         // out: HISTORY of a conversation, CONVERSATION, CREATE,
                                         // UPDATE, FORK, and COMMIT (with the new head)
    const cn_turn *chain;                // out: HISTORY, TREE; in: COMMIT
    uint32_t chain_count;
    const cn_conversation *list;         // out: LIST, TREE
    uint32_t list_count;
    uint64_t cursor;                     // in and out: LIST
    /* CN_OK; CN_E_NOT_FOUND (err names which id); CN_E_CONFLICT (COMMIT, UPDATE: somebody else moved
     * the head; nothing of it is visible); CN_E_EXISTS (COMMIT: a turn with this id and another
     * request is there; with the same request it is CN_OK and `turn` is the stored one; CREATE and FORK
     * likewise);
     * CN_E_STORE (not reached in time: unknown); CN_E_STORE_FULL; CN_E_CORRUPT (names the id);
     * CN_E_LIMIT (chain_max, record_bytes_max, or more than the arena holds). */
    cn_err err;
    void (*done)(cn_session_call *call); // from poll, on the api thread
    void *user;
    void *session_state;                 // session's own while the call is in flight
};

typedef struct cn_session cn_session;

typedef struct cn_session_options {
    cn_store_port *store;                // borrowed; attached by the caller
    cn_clock clock;
    cn_random random;
    uint64_t life_ms;                    // of turns and conversations since their last use; 0: for ever
    uint32_t record_bytes_max;
    uint32_t chain_max;                  // turns of one history, and of one tree
    uint32_t call_max;                   // in flight
    uint64_t cache_bytes;                // of records of turns, for the next history; 0: none
    cn_metrics *metrics;                 // NULL: nothing is counted
} cn_session_options;

cn_code cn_session_open(const cn_session_options *options, cn_session **out, cn_err *err);
/* Calls under way are forgotten, their `done` never called. Close the store before, the arenas after. */
void cn_session_close(cn_session *session);

/* Starts a call, which must stay in place until done. Errors: CN_E_QUEUE (call_max; not started). */
cn_code cn_session_start(cn_session *session, cn_session_call *call);
/* One round: completions in, `done` called. Never blocks; false if there was nothing to do. */
bool cn_session_poll(cn_session *session);

/* A new id that cannot be guessed; `prefix` is "resp_" or "conv_". */
cn_session_id cn_session_id_new(const cn_session *session, const char *prefix);
/* The id of the turn that an Idempotency-Key names: the same for the same tenant and key, not to be
 * guessed without the tenant. */
cn_session_id cn_session_id_for_key(const uint8_t tenant[CN_SESSION_TENANT_BYTES], const char *key);
/* False if the text cannot be an id with this prefix. */
bool cn_session_id_parse(const char *text, const char *prefix, cn_session_id *out);
