#include "state/session_int.h"

#include <string.h>

#include <xxhash.h>

#include "base/assert.h"

/* Lists: the store is scanned for the tenant's conversations, which are read 32 at a time. A record
 * that is corrupt is left out of a list: it would hide all others. Reading it by its id says so.
 *
 * A tree is made of every conversation with the same root. Chains meet where they were forked: each
 * is read from its head up to the first turn that is there already. A turn that was forgotten ends
 * the chain below it. */

enum {
    SCANS_MAX = 256,
    BATCH = CN_SESSION_ANCESTORS_MAX,
    KEY_PREFIX = 11 + 2 * CN_SESSION_TENANT_BYTES + 1
};

typedef struct listing {
    const char *keys; // of the last scan, not looked at yet
    size_t keys_len;
    cn_conversation *found;
    uint32_t found_count, found_capacity;
    uint32_t scans;
    cn_session_id asked[BATCH];
    uint64_t cursor;
    // trees only
    bool is_tree;
    cn_session_id root;
    cn_turn *turns;
    uint32_t turn_count;
    uint32_t *slots, slot_mask; // hash of an id → index + 1 in turns; a power of two, half empty
    uint32_t head_index;        // conversation whose chain is being read
    uint32_t chain_at;          // its turns are turns[chain_at ...], the head first
} listing;

static void next_batch(cn_session *session, cn_session_work *work);
static void scan(cn_session *session, cn_session_work *work);
static void next_head(cn_session *session, cn_session_work *work);

// Room for one more in an array of the arena; NULL: the call is finished.
static void *grow(cn_session *session, cn_session_work *work, void *array, uint32_t count,
                  uint32_t *capacity, size_t size)
{
    if (count < *capacity) return array;
    const uint32_t wanted = *capacity ? *capacity * 2 : BATCH;
    void *larger = cn_session_take(session, work, wanted, size);
    if (!larger) return NULL;
    if (count) memcpy(larger, array, count * size);
    *capacity = wanted;
    return larger;
}

static void listed(cn_session *session, cn_session_work *work)
{
    const listing *l = work->own;
    work->call->list = l->found;
    work->call->list_count = l->found_count;
    work->call->cursor = l->cursor;
    cn_session_finish(session, work);
}

static bool is_found(const listing *l, const cn_session_id *id)
{
    for (uint32_t i = 0; i < l->found_count; i++) {
        if (strcmp(l->found[i].id.text, id->text) == 0) return true;
    }
    return false;
}

// False: the call is finished.
static bool keep(cn_session *session, cn_session_work *work, const cn_conversation *conversation)
{
    listing *l = work->own;
    if (l->is_tree && strcmp(conversation->root.text, l->root.text) != 0) return true;
    l->found = grow(session, work, l->found, l->found_count, &l->found_capacity, sizeof *l->found);
    if (!l->found) return false;
    l->found[l->found_count++] = *conversation;
    return true;
}

static void batch_read(cn_session *session, cn_session_work *work)
{
    const listing *l = work->own;
    for (uint32_t i = 0; i < work->op_count; i++) {
        const cn_store_op *op = &work->ops[i];
        cn_conversation conversation;
        if (op->code != CN_OK) {
            if (op->code == CN_E_NOT_FOUND || op->code == CN_E_CORRUPT) continue;
            cn_session_must(session, work, op, &l->asked[i]);
            return;
        }
        const cn_code code =
            cn_record_read_conversation(op->reply.data, op->reply.len, &l->asked[i],
                                        work->call->arena, &conversation, &work->call->err);
        if (code == CN_E_LIMIT) {
            cn_session_finish(session, work);
            return;
        }
        work->call->err = (cn_err){0};
        if (code == CN_OK && !conversation.deleted && !keep(session, work, &conversation)) return;
    }
    next_batch(session, work);
}

// Asks for the next conversations among the scanned keys, or scans on.
static void next_batch(cn_session *session, cn_session_work *work)
{
    listing *l = work->own;
    uint32_t count = 0;
    while (count < BATCH && l->keys_len > 0) {
        const char *end = memchr(l->keys, '\n', l->keys_len);
        const size_t len = end ? (size_t)(end - l->keys) : l->keys_len;
        char text[CN_SESSION_ID_BYTES] = "";
        if (len > KEY_PREFIX && len - KEY_PREFIX < sizeof text) {
            memcpy(text, l->keys + KEY_PREFIX, len - KEY_PREFIX);
        }
        l->keys += end ? len + 1 : len;
        l->keys_len -= end ? len + 1 : len;
        cn_session_id id;
        if (!cn_session_id_parse(text, "conv_", &id) || is_found(l, &id)) continue;
        cn_session_op(session, work, CN_STORE_GET, &id);
        l->asked[count++] = id;
    }
    const bool all = l->cursor == 0,
               enough = !l->is_tree && (l->found_count || l->scans >= SCANS_MAX);
    if (count > 0) cn_session_round(session, work, batch_read);
    else if (!all && !enough) scan(session, work);
    else if (l->is_tree) next_head(session, work);
    else listed(session, work);
}

static void scanned(cn_session *session, cn_session_work *work)
{
    listing *l = work->own;
    const cn_store_op *op = &work->ops[0];
    if (!cn_session_must(session, work, op, &work->call->id)) return;
    char *keys = cn_session_take(session, work, op->reply.len, 1);
    if (!keys) return;
    if (op->reply.len) memcpy(keys, op->reply.data, op->reply.len);
    l->keys = keys;
    l->keys_len = op->reply.len;
    l->cursor = op->cursor;
    l->scans++;
    next_batch(session, work);
}

static void scan(cn_session *session, cn_session_work *work)
{
    const listing *l = work->own;
    const cn_session_id all = {.text = ""}; // the key of no conversation begins those of all
    cn_store_op *op = cn_session_op(session, work, CN_STORE_SCAN, &all);
    CN_ASSERT(strlen(op->key) == KEY_PREFIX);
    op->cursor = l->cursor;
    cn_session_round(session, work, scanned);
}

void cn_session_list_start(cn_session *session, cn_session_work *work)
{
    listing *l = cn_session_take(session, work, 1, sizeof *l);
    if (!l) return;
    work->own = l;
    l->cursor = work->call->cursor;
    scan(session, work);
}

// ---- trees

static uint32_t *slot_of(const listing *l, const cn_session_id *id)
{
    uint64_t at = XXH3_64bits(id->text, strlen(id->text));
    while (l->slots[at & l->slot_mask] &&
           strcmp(l->turns[l->slots[at & l->slot_mask] - 1].id.text, id->text) != 0) {
        at++;
    }
    return &l->slots[at & l->slot_mask];
}

static void chain_ask(cn_session *session, cn_session_work *work);

// The chain that was just read is put into order, its uppermost turn first.
static void chain_end(cn_session *session, cn_session_work *work)
{
    listing *l = work->own;
    for (uint32_t i = l->chain_at, k = l->turn_count; i + 1 < k; i++) {
        const cn_turn low = l->turns[i];
        l->turns[i] = l->turns[--k];
        l->turns[k] = low;
    }
    for (uint32_t i = l->chain_at; i < l->turn_count; i++) *slot_of(l, &l->turns[i].id) = i + 1;
    l->chain_at = l->turn_count;
    l->head_index++;
    next_head(session, work);
}

static void chain_read(cn_session *session, cn_session_work *work)
{
    listing *l = work->own;
    for (uint32_t i = 0; i < work->op_count; i++) {
        cn_turn turn;
        const cn_session_got got =
            cn_session_get_turn(session, work, &work->ops[i], &l->asked[i], &turn);
        if (got == CN_SESSION_OVER) return;
        if (got == CN_SESSION_ABSENT) {
            chain_end(session, work);
            return;
        }
        if (l->turn_count == session->options.chain_max) {
            cn_session_fail(session, work, CN_E_LIMIT, "%s: its tree has more than %u turns",
                            work->call->id.text, session->options.chain_max);
            return;
        }
        l->turns[l->turn_count++] = turn;
    }
    chain_ask(session, work);
}

// Asks for the turns above the last one that was read, up to one that is known.
static void chain_ask(cn_session *session, cn_session_work *work)
{
    listing *l = work->own;
    const cn_turn *low = &l->turns[l->turn_count - 1];
    uint32_t count = 0;
    for (uint32_t i = 0; i < low->ancestor_count; i++) {
        cn_session_id id;
        cn_record_id_text(low->ancestors + (size_t)i * CN_SESSION_ID_RAW_BYTES, &id);
        if (*slot_of(l, &id)) break;
        cn_session_op(session, work, CN_STORE_GET, &id);
        l->asked[count++] = id;
    }
    if (count > 0) cn_session_round(session, work, chain_read);
    else chain_end(session, work);
}

static void next_head(cn_session *session, cn_session_work *work)
{
    listing *l = work->own;
    for (; l->head_index < l->found_count; l->head_index++) {
        const cn_session_id *head = &l->found[l->head_index].head;
        if (!head->text[0] || *slot_of(l, head)) continue;
        l->asked[0] = *head;
        cn_session_op(session, work, CN_STORE_GET, head);
        cn_session_round(session, work, chain_read);
        return;
    }
    work->call->chain = l->turns;
    work->call->chain_count = l->turn_count;
    listed(session, work);
}

static void tree_root_read(cn_session *session, cn_session_work *work)
{
    listing *l = work->own;
    cn_conversation conversation;
    const cn_session_id *id = &work->call->id;
    if (!cn_session_must_conversation(session, work, &work->ops[0], id, &conversation)) return;
    l->root = conversation.root;
    if (!keep(session, work, &conversation)) return;
    if (l->root.text[0]) scan(session, work);
    else listed(session, work); // empty: related to nobody
}

void cn_session_list_tree(cn_session *session, cn_session_work *work)
{
    listing *l = cn_session_take(session, work, 1, sizeof *l);
    if (!l) return;
    work->own = l;
    l->is_tree = true;
    uint32_t slots = 64;
    while (slots < 2 * session->options.chain_max) slots *= 2;
    l->slot_mask = slots - 1;
    l->slots = cn_session_take(session, work, slots, sizeof *l->slots);
    if (!l->slots) return;
    l->turns = cn_session_take(session, work, session->options.chain_max, sizeof *l->turns);
    if (!l->turns) return;
    cn_session_op(session, work, CN_STORE_GET, &work->call->id);
    cn_session_round(session, work, tree_root_read);
}
