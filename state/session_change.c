#include "state/session_int.h"

#include <string.h>

/* Changes that are no commits: conversations are made, changed and forked, turns deleted. */

// ---- a turn is deleted

static void turn_deleted(cn_session *session, cn_session_work *work);

// `op` brought the turn as it is now.
static void delete_turn(cn_session *session, cn_session_work *work, const cn_store_op *op)
{
    cn_session_call *call = work->call;
    if (!cn_session_must_turn(session, work, op, &call->id, &call->turn)) return;
    if (call->turn.deleted) {
        cn_session_absent(session, work, &call->id);
        return;
    }
    char *was = cn_session_take(session, work, op->reply.len, 1);
    if (!was) return;
    const uint32_t was_len = (uint32_t)op->reply.len;
    memcpy(was, op->reply.data, was_len);
    call->turn.deleted = true;
    cn_buf_clear(&work->turn_record);
    if (cn_record_write_turn(&call->turn, call->arena, &work->turn_record, &call->err) != CN_OK) {
        cn_session_finish(session, work);
        return;
    }
    cn_store_op *swap = cn_session_op(session, work, CN_STORE_SWAP, &call->id);
    swap->expected = was;
    swap->expected_len = was_len;
    swap->value = work->turn_record.data;
    swap->value_len = (uint32_t)work->turn_record.len;
    cn_session_round(session, work, turn_deleted);
}

static void turn_deleted(cn_session *session, cn_session_work *work)
{
    cn_store_op found = work->ops[0];
    if (found.code != CN_E_CONFLICT) {
        if (!cn_session_must(session, work, &found, &work->call->id)) return;
        if (session->cache) cn_turn_cache_drop(session->cache, found.key);
        cn_session_finish(session, work);
        return;
    }
    found.code = found.reply.len ? CN_OK : CN_E_NOT_FOUND;
    delete_turn(session, work, &found);
}

static void turn_found(cn_session *session, cn_session_work *work)
{
    delete_turn(session, work, &work->ops[0]);
}

void cn_session_change_turn_delete(cn_session *session, cn_session_work *work)
{
    cn_session_op(session, work, CN_STORE_GET, &work->call->id);
    cn_session_round(session, work, turn_found);
}

// ---- a conversation is made

// The request was carried out before, or it was another one: `op` brought what is there.
static void taken(cn_session *session, cn_session_work *work, const cn_store_op *op)
{
    cn_conversation found, *made = &work->call->conversation;
    const cn_session_id id = made->id;
    cn_store_op has = *op;
    has.code = CN_OK;
    if (!cn_session_must_conversation(session, work, &has, &id, &found)) return;
    if (memcmp(found.request_digest, made->request_digest, sizeof found.request_digest) != 0) {
        cn_session_fail(session, work, CN_E_EXISTS, "%s: is the conversation of another request", id.text);
        return;
    }
    *made = found;
    cn_session_finish(session, work);
}

static void created(cn_session *session, cn_session_work *work)
{
    const cn_store_op *op = &work->ops[0];
    cn_session_call *call = work->call;
    if (op->code == CN_E_EXISTS) {
        taken(session, work, op);
        return;
    }
    if (!cn_session_must(session, work, op, &call->conversation.id)) return;
    cn_session_finish(session, work);
}

static void create(cn_session *session, cn_session_work *work)
{
    cn_session_call *call = work->call;
    cn_conversation *made = &call->conversation;
    cn_buf *record = &work->conversation_record;
    if (!made->id.text[0]) made->id = cn_session_id_new(session, "conv_");
    made->revision = 1;
    made->created_s = made->kept_s = cn_session_now_s(session);
    made->deleted = false;
    if (cn_record_write_conversation(made, record, &call->err) != CN_OK) {
        cn_session_finish(session, work);
        return;
    }
    char *copy = cn_session_take(session, work, record->len, 1);
    if (!copy) return;
    memcpy(copy, record->data, record->len);
    made->stored = (cn_bytes){copy, (uint32_t)record->len};
    cn_store_op *op = cn_session_op(session, work, CN_STORE_PUT_NEW, &made->id);
    op->value = made->stored.data;
    op->value_len = made->stored.len;
    cn_session_round(session, work, created);
}

// The turn at which a new conversation begins is there; its root is `root`, or above it.
static void create_at(cn_session *session, cn_session_work *work, const cn_turn *turn)
{
    cn_conversation *made = &work->call->conversation;
    if (turn->depth == 1) made->root = turn->id;
    create(session, work);
}

static void root_read(cn_session *session, cn_session_work *work)
{
    cn_turn turn;
    cn_session_id *id = work->own;
    if (!cn_session_must_turn(session, work, &work->ops[0], id, &turn)) return;
    if (turn.depth > 1) {
        const uint8_t *top = turn.ancestors + (turn.ancestor_count - 1) * CN_SESSION_ID_RAW_BYTES;
        cn_record_id_text(top, id);
        cn_session_op(session, work, CN_STORE_GET, id);
        cn_session_round(session, work, root_read);
        return;
    }
    work->call->conversation.root = turn.id;
    create(session, work);
}

void cn_session_change_create(cn_session *session, cn_session_work *work)
{
    cn_conversation *made = &work->call->conversation;
    memset(&made->root, 0, sizeof made->root);
    if (!made->head.text[0]) {
        create(session, work);
        return;
    }
    cn_session_id *id = work->own = cn_session_take(session, work, 1, sizeof *id);
    if (!id) return;
    *id = made->head;
    cn_session_op(session, work, CN_STORE_GET, id);
    cn_session_round(session, work, root_read);
}

// ---- a conversation is changed

static void updated(cn_session *session, cn_session_work *work)
{
    const cn_store_op *op = &work->ops[0];
    cn_session_call *call = work->call;
    if (op->code == CN_E_CONFLICT && op->reply.len) {
        cn_session_fail(session, work, CN_E_CONFLICT, "%s: was changed meanwhile",
                        call->conversation.id.text);
        return;
    }
    const cn_store_op result = {.code = op->code == CN_E_CONFLICT ? CN_E_NOT_FOUND : op->code};
    if (!cn_session_must(session, work, &result, &call->conversation.id)) return;
    call->conversation = *(const cn_conversation *)work->own;
    cn_session_finish(session, work);
}

static void update(cn_session *session, cn_session_work *work, const cn_conversation *from)
{
    const cn_conversation *wanted = &work->call->conversation;
    cn_conversation *to = cn_session_take(session, work, 1, sizeof *to);
    if (!to) return;
    if (wanted->revision != from->revision) {
        cn_session_fail(session, work, CN_E_CONFLICT, "%s: is at revision %llu, not at %llu",
                        from->id.text, (unsigned long long)from->revision,
                        (unsigned long long)wanted->revision);
        return;
    }
    work->own = to;
    *to = *from;
    to->metadata = wanted->metadata;
    to->deleted_items = wanted->deleted_items;
    to->deleted = wanted->deleted;
    if (cn_session_swap(session, work, from, to)) cn_session_round(session, work, updated);
}

static void update_read(cn_session *session, cn_session_work *work)
{
    cn_conversation from;
    const cn_session_id id = work->call->conversation.id;
    if (cn_session_must_conversation(session, work, &work->ops[0], &id, &from)) {
        update(session, work, &from);
    }
}

void cn_session_change_update(cn_session *session, cn_session_work *work)
{
    cn_session_call *call = work->call;
    const cn_conversation *wanted = &call->conversation;
    cn_conversation from;
    if (!wanted->stored.len) {
        cn_session_op(session, work, CN_STORE_GET, &wanted->id);
        cn_session_round(session, work, update_read);
        return;
    }
    // From the record, since a caller may have changed anything else.
    const cn_code code = cn_record_read_conversation(wanted->stored.data, wanted->stored.len,
                                                     &wanted->id, call->arena, &from, &call->err);
    if (code == CN_OK) update(session, work, &from);
    else cn_session_finish(session, work);
}

// ---- a conversation is forked

typedef struct fork {
    cn_session_walk walk; // first: see cn_session_walk_start
    cn_conversation source;
    cn_turn turn;
} fork;

static void fork_create(cn_session *session, cn_session_work *work)
{
    fork *f = work->own;
    cn_conversation *made = &work->call->conversation;
    cn_conversation fresh = {.id = made->id,
                             .head = f->turn.id,
                             .root = f->source.root,
                             .metadata = made->metadata.len ? made->metadata : f->source.metadata,
                             .deleted_items = f->source.deleted_items,
                             .forked_from = f->source.id,
                             .forked_at = f->turn.id};
    memcpy(fresh.request_digest, made->request_digest, sizeof fresh.request_digest);
    *made = fresh;
    if (f->turn.id.text[0]) create_at(session, work, &f->turn);
    else create(session, work);
}

static void fork_walked(cn_session *session, cn_session_work *work)
{
    const fork *f = work->own;
    if (f->walk.found) fork_create(session, work);
    else {
        cn_session_fail(session, work, CN_E_NOT_FOUND, "%s is no turn of %s", f->turn.id.text,
                        f->source.id.text);
    }
}

static void fork_turn_read(cn_session *session, cn_session_work *work)
{
    fork *f = work->own;
    const cn_session_call *call = work->call;
    const bool at_head = !call->at.text[0];
    const cn_session_id id = at_head ? f->source.head : call->at;
    if (!cn_session_must_turn(session, work, &work->ops[0], &id, &f->turn)) return;
    if (at_head) {
        fork_create(session, work);
        return;
    }
    f->walk = (cn_session_walk){
        .head = f->source.head, .turn = id, .depth = f->turn.depth, .then = fork_walked};
    cn_session_walk_start(session, work, &f->walk);
}

static void fork_source_read(cn_session *session, cn_session_work *work)
{
    fork *f = work->own;
    const cn_session_call *call = work->call;
    if (!cn_session_must_conversation(session, work, &work->ops[0], &call->id, &f->source)) return;
    const cn_session_id *at = call->at.text[0] ? &call->at : &f->source.head;
    if (!at->text[0]) {
        fork_create(session, work);
        return;
    }
    cn_session_op(session, work, CN_STORE_GET, at);
    cn_session_round(session, work, fork_turn_read);
}

void cn_session_change_fork(cn_session *session, cn_session_work *work)
{
    work->own = cn_session_take(session, work, 1, sizeof(fork));
    if (!work->own) return;
    cn_session_op(session, work, CN_STORE_GET, &work->call->id);
    cn_session_round(session, work, fork_source_read);
}
