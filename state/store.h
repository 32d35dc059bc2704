/* state/store.h: the durable side of state, behind one interface: `redis`, and `sim` for tests.
 * Two roles. The log holds small records (turns, heads) that must not be lost; the pages role holds
 * blobs that may vanish at any time. A store moves bytes and knows nothing of what they mean.
 *
 * A user fills an operation and submits it on its port; the operation moves to the store and comes
 * back, completed, from next. Operations of one port that name the same key are carried out in the
 * order of submission; others in any order.
 *
 * Every operation is safe to repeat, and the store repeats by itself what a broken connection left
 * open, until the deadline: PUT_NEW of the value that is there already, and SWAP to a value that is
 * there already, have succeeded. So no answer is ever a guess: CN_OK means acknowledged at the
 * configured durability, CN_E_STORE means that nobody knows and the caller may try again. What is
 * unknown may still happen a little later: a swap by itself cannot undo what came between, a DELETE
 * can, so keys that were deleted are not used again.
 *
 * Threads: open, poll and close on the store's thread. A port belongs to one other thread.
 * Memory:  connections and rings allocated in open; bytes that an operation points to belong to its
 *          user and stay in place until it is back; `reply` is the user's buffer, grown by the
 * store. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/wake.h"
#include "state/page_key.h"

typedef enum cn_store_kind {
    CN_STORE_GET,      // reply = value; with life_ms > 0 its life is renewed
    CN_STORE_PUT_NEW,  // unless there is a value; CN_E_EXISTS: another one is, in reply
    CN_STORE_SWAP,     // `expected` (NULL: nothing) becomes `value`; CN_E_CONFLICT: another
                       // value is there, in reply (empty: none)
    CN_STORE_DELETE,   // CN_OK also if there was nothing
    CN_STORE_SCAN,     // keys that begin with `key`: reply = keys, each ended by '\n';
                       // `cursor` goes on (0 begins, 0 again: that was all). Keys may repeat
    CN_STORE_PAGE_PUT, // page_bytes at `page`
    CN_STORE_PAGE_GET  // into page_bytes at `page`; CN_E_NOT_FOUND if it is not there whole;
                       // `page` is undefined unless CN_OK
} cn_store_kind;

enum { CN_STORE_KEY_BYTES_MAX = 192 };

typedef struct cn_store_op cn_store_op;

struct cn_store_op {
    cn_store_kind kind;
    char key[CN_STORE_KEY_BYTES_MAX];    // log role: text, ended by 0
    cn_page_key page_key;                // pages role
    const void *value, *expected;
    uint32_t value_len, expected_len;
    void *page;
    uint64_t life_ms;                    // PUT_NEW, SWAP: how long the value is kept; 0: for ever
    uint64_t deadline_ns;                // of the store's clock; late is CN_E_STORE
    uint64_t cursor;
    cn_store_op *then; // NULL, or sent right behind this one and carried out after
                       // it, if it succeeded; completed after it, on its own. If
                       // this one fails, `then` does with the same code: not carried
                       // out, or unknown where the code is CN_E_STORE
    cn_code code;                        // result
    cn_buf reply;                        // cleared by the store; CN_E_LIMIT: above its bytes_max
    void *user;                          // the submitter's own
};

typedef enum cn_durability {
    CN_DURABILITY_MEMORY,        // gone with the store's process
    CN_DURABILITY_PROCESS,       // survives kill -9 of any process, not of the machine
    CN_DURABILITY_FSYNC,         // survives power loss: on disk before it is acknowledged
    CN_DURABILITY_FSYNC_REPLICA  // survives loss of the machine: in a replica's memory as well
} cn_durability;

/* "memory", "process", "fsync", "fsync+replica" and back; -1 for an unknown name. */
const char *cn_store_durability_name(cn_durability durability);
int cn_store_durability_parse(const char *name);

typedef struct cn_store cn_store;
typedef struct cn_store_port cn_store_port;

typedef struct cn_store_state {          // for /readyz, metrics and the log
    bool log_up, pages_up;
    cn_durability durability;            // of the log, as configured and verified
    char text[160];                      // what is wrong, "" if nothing
} cn_store_state;

typedef struct cn_store_ops {
    const char *name;                    // "redis", "sim"
    void (*close)(cn_store *store);
    /* One round: ring messages in, replies out, time-outs, reconnects. Waits at most `timeout_ns`
     * on its descriptors and its wake. False if nothing happened. */
    bool (*poll)(cn_store *store, uint64_t timeout_ns);
    void (*state)(const cn_store *store, cn_store_state *out);       // [any]
} cn_store_ops;

/* Every implementation begins with this; open differs and is in the implementation's header.
 * Results beside those above: CN_E_STORE_FULL (a write), CN_E_CORRUPT (something that is no value
 * of ours is under the key), CN_E_STORE. */
struct cn_store {
    const cn_store_ops *ops;
    cn_store_port *ports;
    uint32_t port_count;
};

cn_store_port *cn_store_port_at(cn_store *store, uint32_t index);
/* `wake` is signalled when operations come back; borrowed. Once, before the first submit. */
void cn_store_port_attach(cn_store_port *port, cn_wake *wake);

/* The operation, and those that hang on its `then`, move to the store; false if the ring is full:
 * nothing moved. Never blocks. */
bool cn_store_port_submit(cn_store_port *port, cn_store_op *op);
/* A completed operation, which moves back; NULL if there is none. */
cn_store_op *cn_store_port_next(cn_store_port *port);
