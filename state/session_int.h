/* state/session_int.h: how a call is carried out, for the files session_*.c.
 *
 * How it works. A call is a row of rounds. A round is a set of store operations that are under way
 * together; when the last of them is back, the call's `step` looks at them and begins the next round
 * or finishes. So each kind of call is a few plain functions in the order in which they run:
 *
 *    start ──▶ operation*, round ──▶ (store) ──▶ step ──▶ operation*, round ──▶ ... ──▶ finish
 *
 * Replies are in the operations until the next round begins, which uses the same operations again.
 *
 * Threads: the session's.
 * Memory:  a work and its operations are in the arena of its call; replies and records on the heap
 *          until the call finishes. */
#pragma once

#include "base/buf.h"
#include "state/record.h"
#include "state/session.h"
#include "state/turn_cache.h"

typedef struct cn_session_work cn_session_work;
typedef void (*cn_session_step)(cn_session *session, cn_session_work *work);

struct cn_session_work {
    cn_session_call *call;
    cn_session_step step;
    void *own;                           // of the file that carries this call out
    cn_store_op *ops;
    uint32_t op_count, op_capacity;      // of this round; of the largest
    uint32_t sent, waiting;              // operations handed to the store; not back yet
    cn_buf turn_record, conversation_record;     // what is being written
    char tenant[2 * CN_SESSION_TENANT_BYTES + 1];
    cn_session_work *next;               // in the one list that it is in
    cn_session_work *older, **link;      // among all that are under way
};

typedef struct cn_session_list {
    cn_session_work *first, **last;
} cn_session_list;

/* When ids were renewed last, as far as this process knows: one slot per hash, the newer one stays. */
enum { CN_SESSION_KEPT_SLOTS = 4096 };
typedef struct cn_session_kept {
    uint64_t id_hash, kept_s;
} cn_session_kept;

struct cn_session {
    cn_session_options options;
    uint32_t in_flight;
    cn_session_work *works;              // all of them
    cn_session_list unsent;              // with operations that the store's ring had no room for
    cn_session_list finished;            // whose `done` is due
    cn_session_kept kept[CN_SESSION_KEPT_SLOTS];
    cn_turn_cache *cache;                // NULL: none
};

/* The key of a turn or a conversation; of none (""): what all keys of conversations begin with. */
void cn_session_key(const cn_session_work *work, const cn_session_id *id,
                    char out[CN_STORE_KEY_BYTES_MAX]);
/* Adds an operation on a turn's or conversation's key to the next round. */
cn_store_op *cn_session_op(cn_session *session, cn_session_work *work, cn_store_kind kind,
                           const cn_session_id *id);
/* Sends the operations added since the last round. `step` runs when all are back. */
void cn_session_round(cn_session *session, cn_session_work *work, cn_session_step step);

/* The call is over: `done` runs at the end of this poll or of the next. */
void cn_session_finish(cn_session *session, cn_session_work *work);
void cn_session_fail(cn_session *session, cn_session_work *work, cn_code code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Memory of the call's arena; NULL: there is none, and the call is finished. */
void *cn_session_take(cn_session *session, cn_session_work *work, size_t count, size_t size);

/* What an operation came back with. OVER: the call was finished, with an error that names `id`. */
typedef enum cn_session_got { CN_SESSION_HAS, CN_SESSION_ABSENT, CN_SESSION_OVER } cn_session_got;
/* Decode the reply of a GET. Withdrawn turns and deleted conversations are absent. */
cn_session_got cn_session_get_turn(cn_session *session, cn_session_work *work, const cn_store_op *op,
                                   const cn_session_id *id, cn_turn *out);
cn_session_got cn_session_get_conversation(cn_session *session, cn_session_work *work,
                                           const cn_store_op *op, const cn_session_id *id,
                                           cn_conversation *out);
/* As above where it must be there: what is absent finishes the call, too. */
bool cn_session_must_turn(cn_session *session, cn_session_work *work, const cn_store_op *op,
                          const cn_session_id *id, cn_turn *out);
bool cn_session_must_conversation(cn_session *session, cn_session_work *work, const cn_store_op *op,
                                  const cn_session_id *id, cn_conversation *out);
/* True if `op` succeeded; otherwise the call is finished. */
bool cn_session_must(cn_session *session, cn_session_work *work, const cn_store_op *op,
                     const cn_session_id *id);
void cn_session_absent(cn_session *session, cn_session_work *work, const cn_session_id *id);

/* Writes a changed conversation, with the next revision, to work->conversation_record, adds the
 * operation that puts it in the place of from->stored, and makes *to what is then stored. NULL: the
 * call is finished. */
cn_store_op *cn_session_swap(cn_session *session, cn_session_work *work,
                             const cn_conversation *from, cn_conversation *to);

uint64_t cn_session_now_s(const cn_session *session);
/* When the thing was renewed last: the later of what its record and what this process knows. */
uint64_t cn_session_kept_get(const cn_session *session, const cn_session_id *id, uint64_t kept_s);
void cn_session_kept_put(cn_session *session, const cn_session_id *id);
/* True if what was renewed at `kept_s` must be renewed when it is used. */
bool cn_session_kept_due(const cn_session *session, uint64_t kept_s);

/* The place of a turn below a head. Walks from `head` towards the root, 32 turns a round, until it
 * is as deep as the turn; `then` runs with the result in *walk. */
typedef struct cn_session_walk {
    cn_session_id head;                  // where it begins; "" ends it
    cn_session_id turn;                  // looked for
    uint32_t depth;                      // of the turn
    cn_session_step then;
    bool found;                          // the turn is the head, or an ancestor of it
    cn_session_id at;                    // where the walk is
} cn_session_walk;
/* `walk` must be the first member of what work->own points to. */
void cn_session_walk_start(cn_session *session, cn_session_work *work, cn_session_walk *walk);

/* The first step of each kind of call. */
void cn_session_read_turn(cn_session *session, cn_session_work *work);
void cn_session_read_history(cn_session *session, cn_session_work *work);
void cn_session_read_conversation(cn_session *session, cn_session_work *work);
void cn_session_commit_start(cn_session *session, cn_session_work *work);
void cn_session_commit_replay(cn_session *session, cn_session_work *work);
void cn_session_change_turn_delete(cn_session *session, cn_session_work *work);
void cn_session_change_create(cn_session *session, cn_session_work *work);
void cn_session_change_update(cn_session *session, cn_session_work *work);
void cn_session_change_fork(cn_session *session, cn_session_work *work);
void cn_session_list_start(cn_session *session, cn_session_work *work);
void cn_session_list_tree(cn_session *session, cn_session_work *work);
