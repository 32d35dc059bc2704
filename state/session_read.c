#include "state/session_int.h"

#include <string.h>

#include "base/assert.h"

/* Reading: one turn, one conversation, a whole history, and the way from a head down to a turn.
 *
 * How a history is read. The first turn says how deep it is and names the 32 above it; they are
 * read in one round, the uppermost of them names 32 more, and so on. Each must be where the chain
 * says: a record at the wrong depth, or with another parent, is corrupt.
 *
 * A head is written only where its turn is, so a head whose turn is not there has lost it, which is
 * said and not papered over: what was acknowledged is never silently left out. */

// ---- one record

static void turn_read(cn_session *session, cn_session_work *work)
{
    cn_session_call *call = work->call;
    if (!cn_session_must_turn(session, work, &work->ops[0], &call->id, &call->turn)) return;
    if (call->turn.deleted) cn_session_absent(session, work, &call->id);
    else cn_session_finish(session, work);
}

void cn_session_read_turn(cn_session *session, cn_session_work *work)
{
    cn_session_op(session, work, CN_STORE_GET, &work->call->id);
    cn_session_round(session, work, turn_read);
}

static void conversation_read(cn_session *session, cn_session_work *work)
{
    cn_session_call *call = work->call;
    const cn_store_op *op = &work->ops[0];
    if (cn_session_must_conversation(session, work, op, &call->id, &call->conversation)) {
        cn_session_finish(session, work);
    }
}

void cn_session_read_conversation(cn_session *session, cn_session_work *work)
{
    cn_session_op(session, work, CN_STORE_GET, &work->call->id);
    cn_session_round(session, work, conversation_read);
}

// ---- a history

typedef struct history {
    cn_session_id tip; // the turn that it ends with
    cn_turn *chain;
    uint32_t missing;                         // turns at the beginning that are not read yet
    uint32_t asked[CN_SESSION_ANCESTORS_MAX]; // by this round's operations: places in the chain
    uint32_t asked_count;
    bool renews; // reading renews life
} history;

static void history_read(cn_session *session, cn_session_work *work);

static cn_store_op *add_get(cn_session *session, cn_session_work *work, const cn_session_id *id,
                            bool renews)
{
    cn_store_op *op = cn_session_op(session, work, CN_STORE_GET, id);
    if (renews) op->life_ms = session->options.life_ms;
    return op;
}

// The nth turn above the uppermost one that is there.
static cn_session_id ancestor(const history *h, uint32_t n)
{
    cn_session_id id;
    const uint8_t *raw = h->chain[h->missing].ancestors + (size_t)n * CN_SESSION_ID_RAW_BYTES;
    cn_record_id_text(raw, &id);
    return id;
}

// Whether the turns that were read are where the chain says they are. False: the call is finished.
static bool are_linked(cn_session *session, cn_session_work *work, uint32_t count)
{
    const history *h = work->own;
    for (uint32_t index = h->missing; index > h->missing - count; index--) {
        const cn_turn *turn = &h->chain[index - 1], *child = &h->chain[index];
        if (turn->depth == index && strcmp(turn->id.text, child->parent.text) == 0) continue;
        cn_session_fail(session, work, CN_E_CORRUPT,
                        "%s: its record says that %u turns end there, in a chain where %u do",
                        turn->id.text, turn->depth, index);
        return false;
    }
    return true;
}

// Takes a turn from the cache; false if it is not there.
static bool take_cached(cn_session *session, cn_session_work *work, const cn_session_id *id,
                        cn_turn *out)
{
    char key[CN_STORE_KEY_BYTES_MAX];
    uint32_t len;
    cn_session_key(work, id, key);
    const void *record = session->cache ? cn_turn_cache_find(session->cache, key, &len) : NULL;
    return record && cn_record_read_turn(record, len, id, work->call->arena, out, NULL) == CN_OK;
}

/* Keeps a turn that was read, if its record is final: what no head has reached yet may still lose its
 * race, and its id may then be another turn's. */
static void put_cached(cn_session *session, const cn_session_work *work, const cn_store_op *op,
                       const cn_turn *turn)
{
    const bool is_final = work->call->id.text[0] == 'c' || !turn->conversation.text[0];
    if (!session->cache || !is_final) return;
    cn_turn_cache_put(session->cache, op->key, op->reply.data, (uint32_t)op->reply.len);
}

static void history_done(cn_session *session, cn_session_work *work)
{
    const history *h = work->own;
    if (h->renews) {
        cn_session_kept_put(session, &h->tip);
        h->chain[work->call->chain_count - 1].kept_s = cn_session_now_s(session);
    }
    cn_session_finish(session, work);
}

// Takes or asks for the turns above the uppermost one that is there; `is_first`: the tip is all there
// is.
static void history_ask(cn_session *session, cn_session_work *work, bool is_first)
{
    history *h = work->own;
    for (;;) {
        const uint32_t above = h->chain[h->missing].ancestor_count;
        h->asked_count = 0;
        for (uint32_t i = 0; i < above; i++) {
            const cn_session_id id = ancestor(h, i);
            const uint32_t index = h->missing - 1 - i;
            if (!h->renews && take_cached(session, work, &id, &h->chain[index])) continue;
            add_get(session, work, &id, h->renews);
            h->asked[h->asked_count++] = index;
        }
        if (is_first && h->renews) add_get(session, work, &h->tip, true);
        if (h->asked_count > 0 || (is_first && h->renews)) break;
        if (above == 0) {
            history_done(session, work);
            return;
        }
        if (!are_linked(session, work, above)) return;
        h->missing -= above;
    }
    cn_session_round(session, work, history_read);
}

static void history_read(cn_session *session, cn_session_work *work)
{
    history *h = work->own;
    const uint32_t above = h->chain[h->missing].ancestor_count;
    for (uint32_t i = 0; i < h->asked_count; i++) {
        const cn_session_id id = ancestor(h, h->missing - 1 - h->asked[i]);
        cn_turn *turn = &h->chain[h->asked[i]];
        if (!cn_session_must_turn(session, work, &work->ops[i], &id, turn)) return;
        put_cached(session, work, &work->ops[i], turn);
    }
    if (work->op_count > h->asked_count &&
        !cn_session_must(session, work, &work->ops[h->asked_count], &h->tip)) {
        return;
    }
    if (!are_linked(session, work, above)) return;
    h->missing -= above;
    history_ask(session, work, false);
}

static void tip_known(cn_session *session, cn_session_work *work, cn_turn *tip)
{
    history *h = work->own;
    cn_session_call *call = work->call;
    if (tip->depth > session->options.chain_max) {
        cn_session_fail(session, work, CN_E_LIMIT, "%s: a history of %u turns; at most %u are read",
                        h->tip.text, tip->depth, session->options.chain_max);
        return;
    }
    h->chain = cn_session_take(session, work, tip->depth, sizeof *h->chain);
    if (!h->chain) return;
    h->missing = tip->depth - 1;
    tip->kept_s = cn_session_kept_get(session, &tip->id, tip->kept_s);
    h->renews = cn_session_kept_due(session, tip->kept_s);
    h->chain[h->missing] = *tip;
    call->chain = h->chain;
    call->chain_count = tip->depth;
    history_ask(session, work, true);
}

static void tip_read(cn_session *session, cn_session_work *work)
{
    history *h = work->own;
    cn_turn tip;
    if (!cn_session_must_turn(session, work, &work->ops[0], &h->tip, &tip)) return;
    if (tip.deleted && work->call->id.text[0] != 'c') {
        cn_session_absent(session, work, &h->tip);
        return;
    }
    put_cached(session, work, &work->ops[0], &tip);
    tip_known(session, work, &tip);
}

static void tip_ask(cn_session *session, cn_session_work *work)
{
    history *h = work->own;
    cn_turn tip;
    if (work->call->id.text[0] == 'c') {
        h->tip = work->call->conversation.head;
        if (!h->tip.text[0]) {
            cn_session_finish(session, work);
            return;
        }
        // The head of a conversation may be deleted, so the cache need not know.
        if (take_cached(session, work, &h->tip, &tip)) {
            tip_known(session, work, &tip);
            return;
        }
    }
    add_get(session, work, &h->tip, false);
    cn_session_round(session, work, tip_read);
}

static void conversation_renewed(cn_session *session, cn_session_work *work)
{
    const cn_session_id *id = &work->call->conversation.id;
    if (!cn_session_must(session, work, &work->ops[0], id)) return;
    cn_session_kept_put(session, id);
    tip_ask(session, work);
}

static void history_conversation_read(cn_session *session, cn_session_work *work)
{
    cn_session_call *call = work->call;
    cn_conversation *conversation = &call->conversation;
    if (!cn_session_must_conversation(session, work, &work->ops[0], &call->id, conversation))
        return;
    const uint64_t kept_s = cn_session_kept_get(session, &conversation->id, conversation->kept_s);
    if (!cn_session_kept_due(session, kept_s)) {
        tip_ask(session, work);
        return;
    }
    add_get(session, work, &call->id, true);
    cn_session_round(session, work, conversation_renewed);
}

void cn_session_read_history(cn_session *session, cn_session_work *work)
{
    cn_session_call *call = work->call;
    history *h = cn_session_take(session, work, 1, sizeof *h);
    if (!h) return;
    work->own = h;
    call->chain = NULL;
    call->chain_count = 0;
    if (call->id.text[0] == 'c') {
        add_get(session, work, &call->id, false);
        cn_session_round(session, work, history_conversation_read);
        return;
    }
    h->tip = call->id;
    tip_ask(session, work);
}

// ---- from a head down to a turn

static void walk_ask(cn_session *session, cn_session_work *work);

static void walk_end(cn_session *session, cn_session_work *work, bool found)
{
    cn_session_walk *walk = work->own;
    walk->found = found;
    walk->then(session, work);
}

static void walk_read(cn_session *session, cn_session_work *work)
{
    cn_session_walk *walk = work->own;
    uint8_t raw[CN_SESSION_ID_RAW_BYTES];
    cn_turn turn;
    if (!cn_session_must_turn(session, work, &work->ops[0], &walk->at, &turn)) return;
    if (turn.depth <= walk->depth) {
        walk_end(session, work, false);
        return;
    }
    cn_record_id_raw(&walk->turn, raw);
    const uint32_t above = turn.depth - walk->depth;
    if (above <= turn.ancestor_count) {
        const uint8_t *there = turn.ancestors + (above - 1) * CN_SESSION_ID_RAW_BYTES;
        walk_end(session, work, memcmp(there, raw, sizeof raw) == 0);
        return;
    }
    cn_record_id_text(turn.ancestors + (turn.ancestor_count - 1) * CN_SESSION_ID_RAW_BYTES,
                      &walk->at);
    walk_ask(session, work);
}

static void walk_ask(cn_session *session, cn_session_work *work)
{
    const cn_session_walk *walk = work->own;
    if (!walk->at.text[0] || strcmp(walk->at.text, walk->turn.text) == 0) {
        walk_end(session, work, walk->at.text[0] != '\0');
        return;
    }
    add_get(session, work, &walk->at, false);
    cn_session_round(session, work, walk_read);
}

void cn_session_walk_start(cn_session *session, cn_session_work *work, cn_session_walk *walk)
{
    CN_ASSERT(work->own == walk);
    walk->at = walk->head;
    walk_ask(session, work);
}
