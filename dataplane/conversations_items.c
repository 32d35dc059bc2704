#include <string.h>

#include "dataplane/api_int.h"
#include "dataplane/conversations.h"
#include "dataplane/items.h"
#include "dataplane/json_body.h"

/* The items of a conversation are those of its chain's turns, one after another, without the deleted
 * ones: a turn is never changed, so what is not to be shown stands in the conversation. Items that
 * are added are a turn of their own, with no answer. */

static cn_conversations_work *work_of(const cn_answer *answer) { return answer->work; }

typedef struct item_list {
    cn_bytes *items;
    uint32_t count;
} item_list;

static void add_shown(item_list *list, const json_t *deleted, const cn_bytes *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!cn_conversations_is_deleted(deleted, items[i])) list->items[list->count++] = items[i];
    }
}

// The items of the history that a call brought.
static cn_code collect(cn_answer *answer, const cn_session_call *call, item_list *out, cn_err *err)
{
    json_t *deleted = cn_conversations_deleted(&call->conversation);
    size_t count = 0;
    for (uint32_t i = 0; i < call->chain_count; i++) {
        count += call->chain[i].input_count + call->chain[i].output_count;
    }
    out->count = 0;
    out->items = cn_arena_take_array(&answer->request->arena, count + 1, sizeof *out->items);
    for (uint32_t i = 0; i < call->chain_count && out->items; i++) {
        const cn_turn *t = &call->chain[i];
        add_shown(out, deleted, t->input, t->input_count);
        add_shown(out, deleted, t->output, t->output_count);
    }
    json_decref(deleted);
    return out->items ? CN_OK : cn_err_set(err, CN_E_LIMIT, "conversation: its items are more than "
                                           "limit request_bytes allows");
}

static cn_code take_items(cn_answer *answer, const cn_session_call *call, item_list *out,
                          cn_err *err)
{
    const cn_code code = cn_conversations_take(answer, call, err);
    return code == CN_OK ? collect(answer, call, out, err) : code;
}

static const cn_bytes *find_item(const item_list *list, const char *id)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const cn_bytes own = cn_items_id_of(list->items[i]);
        if (own.len == strlen(id) && memcmp(own.data, id, own.len) == 0) return &list->items[i];
    }
    return NULL;
}

static cn_code no_item(const cn_answer *answer, cn_err *err)
{
    return cn_err_set(err, CN_E_ABSENT, "Item with id '%.64s' not found in this conversation.",
                      work_of(answer)->item_id);
}

// ---- create

static cn_code show_added(cn_answer *answer, const cn_turn *turn, cn_err *err)
{
    const cn_paging all = {.limit = UINT32_MAX, .ascending = true};
    const cn_code code =
        cn_paging_write(&all, turn->input, turn->input_count, &answer->reply.out, err);
    return code == CN_OK ? cn_conversations_reply(answer) : code;
}

static cn_code added(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    if (call->err.code != CN_OK) {
        return cn_ask_error(call, "Conversation", work_of(answer)->id.text, err);
    }
    return show_added(answer, &call->turn, err);
}

static cn_code head_known(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    cn_conversations_work *w = work_of(answer);
    cn_session_call *next = &answer->ask->call;
    cn_code code = cn_conversations_take(answer, call, err);
    if (code == CN_OK) {
        code = cn_conversations_fill_items(answer, &w->conversation.head, &next->turn, err);
    }
    if (code != CN_OK) return code;
    next->turn.conversation = w->id;
    next->id = w->turn_id;
    next->conversation = w->conversation;
    next->chain = NULL;
    next->chain_count = 0;
    return cn_ask_start(answer, CN_SESSION_COMMIT, added, err);
}

static cn_code added_before(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_conversations_work *w = work_of(answer);
    if (call->err.code == CN_E_NOT_FOUND) {
        return cn_ask_id(answer, CN_SESSION_CONVERSATION, &w->id, head_known, err);
    }
    if (call->err.code == CN_E_EXISTS) {
        return cn_conversations_key_used(answer, err);
    }
    return added(answer, call, err);
}

static cn_code read_items(cn_answer *answer, const json_t *body, cn_err *err)
{
    const cn_code code = cn_conversations_read_items(answer, body, err);
    if (code != CN_OK || work_of(answer)->items) return code;
    return cn_err_set_param(err, CN_E_INVALID, "items", "items: must be a list with at least 1 item");
}

cn_code cn_conversations_items_create(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    json_t *body = NULL;
    cn_code code = cn_conversations_open_locked(answer, route, &w, err);
    if (code == CN_OK) code = cn_conversations_name(answer, err);
    if (code == CN_OK) code = cn_conversations_body(answer, &body, err);
    if (code == CN_OK) code = read_items(answer, body, err);
    json_decref(body);
    if (code != CN_OK) return code;
    if (!w->keyed) return cn_ask_id(answer, CN_SESSION_CONVERSATION, &w->id, head_known, err);
    cn_session_call *call = &answer->ask->call;
    call->id = w->turn_id;
    memcpy(call->turn.request_digest, w->digest, sizeof w->digest);
    return cn_ask_start(answer, CN_SESSION_REPLAY, added_before, err);
}

// ---- list

static cn_code listed(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    item_list list;
    cn_code code = take_items(answer, call, &list, err);
    if (code == CN_OK) {
        code = cn_paging_write(&work_of(answer)->paging, list.items, list.count,
                               &answer->reply.out, err);
    }
    return code == CN_OK ? cn_conversations_reply(answer) : code;
}

cn_code cn_conversations_items_list(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    cn_code code = cn_conversations_open(answer, route, &w, err);
    if (code == CN_OK) code = cn_paging_read(answer->request->query, &w->paging, err);
    return code == CN_OK ? cn_ask_id(answer, CN_SESSION_HISTORY, &w->id, listed, err) : code;
}

// ---- retrieve and delete

static cn_code open_item(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w = work_of(answer);
    w->item_id = cn_arena_copy(&answer->request->arena, route->names[1], strlen(route->names[1]));
    return w->item_id ? CN_OK : cn_err_set(err, CN_E_MEMORY, "item: no memory");
}

static cn_code shown(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    item_list list;
    const cn_code code = take_items(answer, call, &list, err);
    if (code != CN_OK) return code;
    const cn_bytes *item = find_item(&list, work_of(answer)->item_id);
    if (!item) return no_item(answer, err);
    cn_buf_add(&answer->reply.out, item->data, item->len);
    return cn_conversations_reply(answer);
}

cn_code cn_conversations_items_get(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    cn_code code = cn_conversations_open(answer, route, &w, err);
    if (code == CN_OK) code = open_item(answer, route, err);
    return code == CN_OK ? cn_ask_id(answer, CN_SESSION_HISTORY, &w->id, shown, err) : code;
}

static cn_code hidden(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_code code = cn_conversations_take(answer, call, err);
    return code == CN_OK ? cn_conversations_reply_object(answer) : code;
}

static cn_code to_be_hidden(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    cn_conversations_work *w = work_of(answer);
    cn_session_call *next = &answer->ask->call;
    item_list list;
    cn_code code = take_items(answer, call, &list, err);
    if (code != CN_OK) return code;
    if (!find_item(&list, w->item_id)) return no_item(answer, err);
    json_t *deleted = cn_conversations_deleted(&w->conversation);
    if (!deleted) deleted = json_array();
    if (json_array_append_new(deleted, json_string(w->item_id))) {
        code = cn_err_set(err, CN_E_MEMORY, "item: no memory");
    } else {
        next->conversation = w->conversation;
        code = cn_json_body_dump(deleted, &answer->request->arena,
                                 &next->conversation.deleted_items.data,
                                 &next->conversation.deleted_items.len, err);
    }
    json_decref(deleted);
    return code == CN_OK ? cn_ask_start(answer, CN_SESSION_UPDATE, hidden, err) : code;
}

cn_code cn_conversations_items_delete(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    cn_code code = cn_conversations_open_locked(answer, route, &w, err);
    if (code == CN_OK) code = open_item(answer, route, err);
    return code == CN_OK ? cn_ask_id(answer, CN_SESSION_HISTORY, &w->id, to_be_hidden, err) : code;
}
