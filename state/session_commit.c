#include "state/session_int.h"

#include <string.h>

#include "base/assert.h"

/* Commits: a turn, then the head that points to it, sent together; the store writes the head only where
 * the turn was stored.
 *
 *    put turn ──▶ swap head ──▶ placed              what nearly every commit does
 *        │            │
 *        │ id taken   │ another value is there
 *        ▼            ▼
 *    occupied ──▶  settle: where is the turn that is stored under our id?
 *
 *       at or below the head     placed: an answer got lost, or we are a retry
 *       its parent is the head   swap again: metadata changed, or this is half a commit
 *       neither                  somebody else moved the head. Our turn is withdrawn, a conflict;
 *                                one of an older try is replaced by ours, and settled again
 *
 * Why that is right. A head moves only to a child of itself and its record never returns to an earlier
 * value, so a turn that is neither below the head nor a child of it can never get there: it may be
 * withdrawn, or replaced. Withdrawing is a compare-and-set on the turn's record, so one that is
 * carried out late cannot hit the turn of a later try. Where a compare-and-set may have been carried
 * out without our hearing of it, the turn is found below the head, however many turns came after. */

enum { TRIES_MAX = 64 };

typedef struct commit {
    cn_session_walk walk; // first: see cn_session_walk_start
    cn_turn turn;         // what is, or is to be, stored under the id
    cn_bytes record;      // its bytes, where it is not ours
    bool is_ours;
    bool replays;            // CN_SESSION_REPLAY
    cn_conversation current; // as the store has it
    cn_conversation next;    // as it is if our swap succeeds
    uint32_t tries;
} commit;

static void settle(cn_session *session, cn_session_work *work);
static void occupied(cn_session *session, cn_session_work *work, const cn_store_op *op);

static void placed(cn_session *session, cn_session_work *work, const cn_conversation *conversation)
{
    const commit *c = work->own;
    work->call->turn = c->turn;
    if (c->is_ours && session->cache) {
        char key[CN_STORE_KEY_BYTES_MAX];
        cn_session_key(work, &c->turn.id, key);
        cn_turn_cache_put(session->cache, key, work->turn_record.data,
                          (uint32_t)work->turn_record.len);
    }
    if (conversation) work->call->conversation = *conversation;
    cn_session_finish(session, work);
}

// ---- losing

static void withdrawn(cn_session *session, cn_session_work *work)
{
    // Whether it worked makes no difference to the caller: the head is certain, and an orphan is
    // forgotten in time.
    const commit *c = work->own;
    if (session->options.metrics) cn_metrics_add(&session->options.metrics->turns_withdrawn, 1);
    if (c->current.id.text[0]) {
        cn_session_fail(session, work, CN_E_CONFLICT,
                        "%s: another turn was committed meanwhile; it is at %s now",
                        c->current.id.text, c->current.head.text);
        return;
    }
    cn_session_absent(session, work, &work->call->conversation.id);
}

// Takes our turn back. A conversation that is gone has no c->current.
static void withdraw(cn_session *session, cn_session_work *work)
{
    commit *c = work->own;
    const cn_turn none = {.id = c->turn.id, .withdrawn = true};
    cn_bytes mine = {NULL, (uint32_t)work->turn_record.len};
    mine.data = cn_session_take(session, work, mine.len, 1);
    if (!mine.data) return;
    memcpy((char *)(uintptr_t)mine.data, work->turn_record.data, mine.len);
    cn_buf_clear(&work->turn_record);
    if (cn_record_write_turn(&none, work->call->arena, &work->turn_record, &work->call->err) !=
        CN_OK) {
        cn_session_finish(session, work);
        return;
    }
    cn_store_op *op = cn_session_op(session, work, CN_STORE_SWAP, &c->turn.id);
    op->expected = mine.data;
    op->expected_len = mine.len;
    op->value = work->turn_record.data;
    op->value_len = (uint32_t)work->turn_record.len;
    cn_session_round(session, work, withdrawn);
}

// ---- the head

static cn_store_op *add_swap(cn_session *session, cn_session_work *work,
                             const cn_conversation *from)
{
    commit *c = work->own;
    c->next = *from;
    c->next.head = c->turn.id;
    if (c->turn.depth == 1) c->next.root = c->turn.id;
    return cn_session_swap(session, work, from, &c->next);
}

static void swapped(cn_session *session, cn_session_work *work)
{
    commit *c = work->own;
    const cn_store_op *op = &work->ops[work->op_count - 1];
    const cn_session_id *id = &c->next.id;
    if (op->code != CN_E_CONFLICT) {
        if (cn_session_must(session, work, op, id)) placed(session, work, &c->next);
        return;
    }
    cn_store_op found = *op;
    found.code = op->reply.len ? CN_OK : CN_E_NOT_FOUND;
    switch (cn_session_get_conversation(session, work, &found, id, &c->current)) {
    case CN_SESSION_OVER: return;
    case CN_SESSION_ABSENT:
        memset(&c->current, 0, sizeof c->current);
        if (c->is_ours) withdraw(session, work);
        else cn_session_absent(session, work, id);
        return;
    case CN_SESSION_HAS: settle(session, work);
    }
}

static void swap(cn_session *session, cn_session_work *work, const cn_conversation *from)
{
    if (add_swap(session, work, from)) cn_session_round(session, work, swapped);
}

// ---- a turn that is stored, under a head that may be anywhere

static void replaced(cn_session *session, cn_session_work *work)
{
    commit *c = work->own;
    const cn_store_op *op = &work->ops[0];
    if (op->code == CN_E_CONFLICT && op->reply.len) {
        occupied(session, work, op);
        return;
    }
    // Nothing is there any more: it was forgotten just now. The caller may try again.
    const cn_code code = op->code == CN_E_CONFLICT ? CN_E_STORE : op->code;
    const cn_store_op result = {.code = code};
    if (!cn_session_must(session, work, &result, &c->turn.id)) return;
    c->turn = work->call->turn;
    c->is_ours = true;
    if (c->current.id.text[0]) settle(session, work);
    else if (work->call->conversation.id.text[0]) swap(session, work, &work->call->conversation);
    else placed(session, work, NULL);
}

// Puts our turn in the place of one that can never be part of a conversation.
static void replace(cn_session *session, cn_session_work *work)
{
    commit *c = work->own;
    cn_store_op *op = cn_session_op(session, work, CN_STORE_SWAP, &c->turn.id);
    op->expected = c->record.data;
    op->expected_len = c->record.len;
    op->value = work->turn_record.data;
    op->value_len = (uint32_t)work->turn_record.len;
    cn_session_round(session, work, replaced);
}

static void settled(cn_session *session, cn_session_work *work)
{
    commit *c = work->own;
    if (c->walk.found) placed(session, work, &c->current);
    else if (strcmp(c->current.head.text, c->turn.parent.text) == 0) {
        if (c->tries++ < TRIES_MAX) swap(session, work, &c->current);
        else {
            cn_session_fail(session, work, CN_E_STORE,
                            "%s: changed %d times while a turn was written", c->current.id.text,
                            TRIES_MAX);
        }
    } else if (c->replays) cn_session_absent(session, work, &c->turn.id);
    else if (c->is_ours) withdraw(session, work);
    else replace(session, work);
}

static void settle(cn_session *session, cn_session_work *work)
{
    commit *c = work->own;
    c->walk = (cn_session_walk){
        .head = c->current.head, .turn = c->turn.id, .depth = c->turn.depth, .then = settled};
    cn_session_walk_start(session, work, &c->walk);
}

static void occupied_conversation_read(cn_session *session, cn_session_work *work)
{
    commit *c = work->own;
    const cn_session_id *id = &c->turn.conversation;
    if (cn_session_must_conversation(session, work, &work->ops[0], id, &c->current)) {
        settle(session, work);
    }
}

// A turn is stored under our id, and `op` brought it.
static void occupied(cn_session *session, cn_session_work *work, const cn_store_op *op)
{
    commit *c = work->own;
    cn_session_call *call = work->call;
    const cn_session_id id = c->replays ? call->id : call->turn.id;
    char *copy = cn_session_take(session, work, op->reply.len, 1);
    if (!copy) return;
    memcpy(copy, op->reply.data, op->reply.len);
    c->record = (cn_bytes){copy, (uint32_t)op->reply.len};
    c->is_ours = false;
    if (cn_record_read_turn(copy, op->reply.len, &id, call->arena, &c->turn, &call->err) != CN_OK) {
        cn_session_finish(session, work);
        return;
    }
    if (c->turn.withdrawn) {
        if (c->replays) cn_session_absent(session, work, &id);
        else replace(session, work);
        return;
    }
    const bool same = memcmp(c->turn.request_digest, call->turn.request_digest,
                             sizeof c->turn.request_digest) == 0;
    if (!same ||
        (!c->replays && strcmp(c->turn.conversation.text, call->conversation.id.text) != 0)) {
        cn_session_fail(session, work, CN_E_EXISTS, "%s: is the turn of another request", id.text);
    } else if (!c->turn.conversation.text[0]) placed(session, work, NULL);
    else {
        cn_session_op(session, work, CN_STORE_GET, &c->turn.conversation);
        cn_session_round(session, work, occupied_conversation_read);
    }
}

// ---- the way that nearly every commit goes

static void turn_put(cn_session *session, cn_session_work *work)
{
    const commit *c = work->own;
    const cn_store_op *put = &work->ops[0];
    if (put->code == CN_E_EXISTS) {
        occupied(session, work, put);
        return;
    }
    if (!cn_session_must(session, work, put, &c->turn.id)) return;
    if (put->then) swapped(session, work);
    else placed(session, work, NULL);
}

// Fills in what follows from the parent (NULL: a root). False: the call is finished.
static bool join(cn_session *session, cn_session_work *work, const cn_turn *parent)
{
    cn_turn *turn = &work->call->turn;
    const uint32_t above = parent ? parent->ancestor_count : 0;
    const uint32_t kept = above < CN_SESSION_ANCESTORS_MAX ? above : CN_SESSION_ANCESTORS_MAX - 1;
    turn->withdrawn = false;
    turn->depth = parent ? parent->depth + 1 : 1;
    turn->kept_s = parent ? parent->kept_s : cn_session_now_s(session);
    turn->ancestor_count = parent ? kept + 1 : 0;
    turn->ancestors = NULL;
    turn->conversation = work->call->conversation.id;
    if (turn->depth > session->options.chain_max) {
        cn_session_fail(session, work, CN_E_LIMIT,
                        "%s: a history of %u turns; at most %u are stored", turn->parent.text,
                        turn->depth, session->options.chain_max);
        return false;
    }
    if (!parent) return true;
    uint8_t *raw = cn_session_take(session, work, turn->ancestor_count, CN_SESSION_ID_RAW_BYTES);
    if (!raw) return false;
    cn_record_id_raw(&parent->id, raw);
    if (kept)
        memcpy(raw + CN_SESSION_ID_RAW_BYTES, parent->ancestors,
               (size_t)kept * CN_SESSION_ID_RAW_BYTES);
    turn->ancestors = raw;
    return true;
}

static void write(cn_session *session, cn_session_work *work, const cn_turn *parent)
{
    commit *c = work->own;
    cn_session_call *call = work->call;
    if (!join(session, work, parent)) return;
    c->turn = call->turn;
    c->is_ours = true;
    if (cn_record_write_turn(&call->turn, call->arena, &work->turn_record, &call->err) != CN_OK) {
        cn_session_finish(session, work);
        return;
    }
    cn_store_op *put = cn_session_op(session, work, CN_STORE_PUT_NEW, &call->turn.id);
    put->value = work->turn_record.data;
    put->value_len = (uint32_t)work->turn_record.len;
    if (call->conversation.id.text[0]) {
        put->then = add_swap(session, work, &call->conversation);
        if (!put->then) return;
    }
    cn_session_round(session, work, turn_put);
}

// The head must be our parent, the parent must be there, and then we write.
static void known(cn_session *session, cn_session_work *work, const cn_turn *parent)
{
    const cn_session_call *call = work->call;
    const cn_conversation *conversation = &call->conversation;
    if (conversation->id.text[0] && strcmp(conversation->head.text, call->turn.parent.text) != 0) {
        cn_session_fail(session, work, CN_E_CONFLICT,
                        "%s: is at turn %s; a turn can only be added there, not at %s",
                        conversation->id.text, conversation->head.text, call->turn.parent.text);
    } else if (parent && parent->deleted && !conversation->id.text[0]) {
        cn_session_absent(session, work, &parent->id);
    } else write(session, work, parent);
}

static void parent_read(cn_session *session, cn_session_work *work)
{
    cn_session_call *call = work->call;
    cn_turn parent;
    uint32_t at = 0;
    if (call->conversation.id.text[0] && !call->conversation.stored.len) {
        const cn_session_id id = call->conversation.id;
        cn_conversation *to = &call->conversation;
        if (!cn_session_must_conversation(session, work, &work->ops[at++], &id, to)) return;
    }
    const cn_session_id id = call->turn.parent;
    if (at == work->op_count)
        known(session, work, call->chain_count ? &call->chain[call->chain_count - 1] : NULL);
    else if (cn_session_must_turn(session, work, &work->ops[at], &id, &parent))
        known(session, work, &parent);
}

void cn_session_commit_start(cn_session *session, cn_session_work *work)
{
    cn_session_call *call = work->call;
    const cn_turn *last = call->chain_count ? &call->chain[call->chain_count - 1] : NULL;
    work->own = cn_session_take(session, work, 1, sizeof(commit));
    if (!work->own) return;
    if (!last || strcmp(last->id.text, call->turn.parent.text) != 0) {
        call->chain = last = NULL;
        call->chain_count = 0;
    }
    uint32_t reads = 0;
    if (call->conversation.id.text[0] && !call->conversation.stored.len) {
        cn_session_op(session, work, CN_STORE_GET, &call->conversation.id);
        reads++;
    }
    if (call->turn.parent.text[0] && !last) {
        cn_session_op(session, work, CN_STORE_GET, &call->turn.parent);
        reads++;
    }
    if (reads) cn_session_round(session, work, parent_read);
    else known(session, work, last);
}

static void replay_read(cn_session *session, cn_session_work *work)
{
    const cn_store_op *op = &work->ops[0];
    if (cn_session_must(session, work, op, &work->call->id)) occupied(session, work, op);
}

void cn_session_commit_replay(cn_session *session, cn_session_work *work)
{
    commit *c = cn_session_take(session, work, 1, sizeof *c);
    if (!c) return;
    c->replays = true;
    work->own = c;
    cn_session_op(session, work, CN_STORE_GET, &work->call->id);
    cn_session_round(session, work, replay_read);
}
