#include "dataplane/conversations.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/api_int.h"
#include "dataplane/items.h"
#include "dataplane/json_body.h"
#include "dataplane/metadata.h"

/* Each route is a chain of functions: the route itself reads the request and asks the session, and
 * every call names the function that goes on with its result. */

static cn_conversations_work *work_of(const cn_answer *answer) { return answer->work; }

static void close_work(cn_answer *answer)
{
    cn_conversations_work *w = work_of(answer);
    if (!w) return;
    cn_live_leave(answer->api->live, &w->lock);
    json_decref(w->items);
    w->items = NULL;
}

// Whoever reads the reply may send the next request at once, and must find the lock open.
static void unlock(cn_answer *answer)
{
    if (work_of(answer)) cn_live_leave(answer->api->live, &work_of(answer)->lock);
}

static void fail(cn_answer *answer, const cn_err *err)
{
    unlock(answer);
    cn_answer_refuse(answer, err);
}

const cn_answer_kind cn_conversations_kind = {.input = "items", .fail = fail, .close = close_work};

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_LIMIT,
                      "the request needs more working memory than limit request_bytes allows");
}

// ---- what the routes share

cn_code cn_conversations_open(cn_answer *answer, const cn_route *route, cn_conversations_work **out,
                              cn_err *err)
{
    cn_conversations_work *w = cn_arena_take_array(&answer->request->arena, 1, sizeof *w);
    *out = w;
    if (!w) return no_memory(err);
    answer->kind = &cn_conversations_kind;
    answer->work = w;
    return route ? cn_ask_parse_id(route->names[0], "conv_", "Conversation", &w->id, err) : CN_OK;
}

cn_code cn_conversations_locked(cn_err *err)
{
    return cn_err_set_param(err, CN_E_CONFLICT, "conversation", "Another process is currently "
                            "operating on this conversation. Please retry in a few seconds.");
}

cn_code cn_conversations_open_locked(cn_answer *answer, const cn_route *route,
                                     cn_conversations_work **out, cn_err *err)
{
    const cn_code code = cn_conversations_open(answer, route, out, err);
    if (code != CN_OK) return code;
    if (cn_live_enter(answer->api->live, &(*out)->lock, &(*out)->id, answer)) return CN_OK;
    return cn_conversations_locked(err);
}

cn_code cn_conversations_body(cn_answer *answer, json_t **out, cn_err *err)
{
    const cn_http_request *request = answer->request;
    cn_conversations_work *w = work_of(answer);
    cn_ask_digest(answer, w->digest);
    *out = NULL;
    if (request->body_len == 0) {
        *out = json_object();
        return *out ? CN_OK : no_memory(err);
    }
    return cn_json_body_parse(request->body, request->body_len,
                              answer->api->options.limits->json_depth, out, err);
}

cn_code cn_conversations_take(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    cn_conversations_work *w = work_of(answer);
    if (call->err.code != CN_OK) return cn_ask_error(call, "Conversation", w->id.text, err);
    w->conversation = call->conversation;
    if (!w->conversation.deleted) return CN_OK;
    return cn_err_set(err, CN_E_ABSENT, "Conversation with id '%s' not found.", w->id.text);
}

void cn_conversations_write(const cn_conversation *c, cn_buf *out)
{
    cn_buf_add_text(out, "{\"id\":");
    cn_buf_add_json(out, c->id.text, strlen(c->id.text));
    cn_buf_add_format(out, ",\"object\":\"conversation\",\"created_at\":%" PRIu64 ",\"metadata\":",
                      c->created_s);
    if (c->metadata.len) cn_buf_add(out, c->metadata.data, c->metadata.len);
    else cn_buf_add_text(out, "{}");
    cn_buf_add_text(out, ",\"head\":");
    if (*c->head.text) cn_buf_add_json(out, c->head.text, strlen(c->head.text));
    else cn_buf_add_text(out, "null");
    cn_buf_add_format(out, ",\"revision\":%" PRIu64 "}", c->revision);
}

cn_code cn_conversations_reply(cn_answer *answer)
{
    unlock(answer);
    cn_reply_whole(&answer->reply, 200, "application/json");
    return CN_OK;
}

cn_code cn_conversations_reply_object(cn_answer *answer)
{
    cn_conversations_write(&work_of(answer)->conversation, &answer->reply.out);
    return cn_conversations_reply(answer);
}

json_t *cn_conversations_deleted(const cn_conversation *conversation)
{
    const cn_bytes text = conversation->deleted_items;
    return text.len ? json_loadb(text.data, text.len, 0, NULL) : NULL;
}

bool cn_conversations_is_deleted(const json_t *deleted, cn_bytes item)
{
    const cn_bytes id = cn_items_id_of(item);
    size_t i;
    json_t *value;
    json_array_foreach(deleted, i, value) {
        if (json_string_length(value) == id.len && id.len &&
            memcmp(json_string_value(value), id.data, id.len) == 0) {
            return true;
        }
    }
    return false;
}

cn_code cn_conversations_fill_items(cn_answer *answer, const cn_session_id *parent, cn_turn *out,
                                    cn_err *err)
{
    cn_conversations_work *w = work_of(answer);
    const uint64_t now_s = cn_clock_wall_ns(&answer->api->options.clock) / 1000000000u;
    *out = (cn_turn){.id = w->turn_id, .parent = *parent, .created_s = now_s,
                     .completed_s = now_s};
    memcpy(out->request_digest, w->digest, sizeof out->request_digest);
    return cn_items_dump(w->items, &answer->request->arena, &out->input, &out->input_count, err);
}

static cn_code read_metadata(cn_answer *answer, const json_t *body, cn_err *err)
{
    const json_t *metadata = cn_json_body_get(body, "metadata");
    cn_conversations_work *w = work_of(answer);
    const cn_code code = cn_metadata_check(metadata, err);
    if (code != CN_OK || !metadata) return code;
    return cn_json_body_dump(metadata, &answer->request->arena, &w->metadata.data,
                             &w->metadata.len, err);
}

cn_code cn_conversations_read_items(cn_answer *answer, const json_t *body, cn_err *err)
{
    const cn_limits *limits = answer->api->options.limits;
    const json_t *items = cn_json_body_get(body, "items");
    cn_conversations_work *w = work_of(answer);
    uint32_t index;
    const char *id;
    if (!items || (json_is_array(items) && json_array_size(items) == 0)) return CN_OK;
    if (json_is_string(items)) {
        return cn_err_set_param(err, CN_E_INVALID, "items", "items: a string; must be a list of "
                                "items");
    }
    const cn_code code = cn_items_read(items, "items", w->turn_id.text, limits->conversation_items,
                                       "conversation_items", &w->items, err);
    if (code != CN_OK || !cn_items_find_reference(w->items, &index, &id)) return code;
    return cn_err_set_param(err, CN_E_UNSUPPORTED, "items", "items[%" PRIu32 "].type: "
                            "\"item_reference\"; send the item itself", index);
}

// ---- create

cn_code cn_conversations_key_used(cn_answer *answer, cn_err *err)
{
    cn_reply_header(&answer->reply, "x-should-retry", "false");
    return cn_err_set(err, CN_E_EXISTS, "this Idempotency-Key was used for another request");
}

cn_code cn_conversations_name(cn_answer *answer, cn_err *err)
{
    cn_conversations_work *w = work_of(answer);
    const char *key;
    const cn_code code = cn_ask_key(answer, &key, err);
    if (code != CN_OK || !cn_ask_prepare(answer, err)) return err->code;
    w->keyed = key != NULL;
    w->turn_id = key ? cn_session_id_for_key(answer->tenant, key)
                     : cn_session_id_new(answer->api->options.session, "resp_");
    memcpy(w->made_id.text, "conv_", 5);
    memcpy(w->made_id.text + 5, w->turn_id.text + 5, sizeof w->made_id.text - 5);
    cn_ask_digest(answer, w->digest);
    return CN_OK;
}

cn_code cn_conversations_made(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_conversations_work *w = work_of(answer);
    if (call->err.code == CN_E_EXISTS) return cn_conversations_key_used(answer, err);
    const cn_code code = cn_conversations_take(answer, call, err);
    if (code != CN_OK) return code;
    if (memcmp(w->conversation.request_digest, w->digest, sizeof w->digest) != 0) {
        return cn_conversations_key_used(answer, err);
    }
    return cn_conversations_reply_object(answer);
}

static cn_code create(cn_answer *answer, cn_err *err)
{
    const cn_conversations_work *w = work_of(answer);
    cn_session_call *call = &answer->ask->call;
    call->conversation = (cn_conversation){.id = w->made_id, .metadata = w->metadata};
    memcpy(call->conversation.request_digest, w->digest, sizeof w->digest);
    if (w->items) call->conversation.head = w->turn_id;
    return cn_ask_start(answer, CN_SESSION_CREATE, cn_conversations_made, err);
}

static cn_code items_kept(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    if (call->err.code == CN_E_EXISTS) return cn_conversations_key_used(answer, err);
    if (call->err.code != CN_OK) return cn_ask_error(call, "Conversation", "", err);
    return create(answer, err);
}

static cn_code keep_items(cn_answer *answer, cn_err *err)
{
    static const cn_session_id none = {""};
    cn_session_call *call = &answer->ask->call;
    const cn_code code = cn_conversations_fill_items(answer, &none, &call->turn, err);
    if (code != CN_OK) return code;
    call->id = call->turn.id;
    call->conversation = (cn_conversation){.id = {""}};
    return cn_ask_start(answer, CN_SESSION_COMMIT, items_kept, err);
}

cn_code cn_conversations_create(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    json_t *body = NULL;
    (void)route;
    cn_code code = cn_conversations_open(answer, NULL, &w, err);
    if (code == CN_OK) code = cn_conversations_body(answer, &body, err);
    if (code == CN_OK) code = read_metadata(answer, body, err);
    if (code == CN_OK) code = cn_conversations_name(answer, err);
    if (code == CN_OK) code = cn_conversations_read_items(answer, body, err);
    if (code == CN_OK) code = cn_items_check_calls(NULL, w->items, err);
    json_decref(body);
    if (code != CN_OK) return code;
    return w->items ? keep_items(answer, err) : create(answer, err);
}

// ---- retrieve

static cn_code retrieved(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_code code = cn_conversations_take(answer, call, err);
    return code == CN_OK ? cn_conversations_reply_object(answer) : code;
}

cn_code cn_conversations_get(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    const cn_code code = cn_conversations_open(answer, route, &w, err);
    return code == CN_OK ? cn_ask_id(answer, CN_SESSION_CONVERSATION, &w->id, retrieved, err) : code;
}

// ---- list

static void write_list(const cn_session_call *call, cn_buf *out)
{
    uint32_t shown = 0;
    cn_buf_add_text(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < call->list_count; i++) {
        if (call->list[i].deleted) continue;
        if (shown++) cn_buf_add_char(out, ',');
        cn_conversations_write(&call->list[i], out);
    }
    cn_buf_add_text(out, call->cursor ? "],\"has_more\":true,\"after\":" :
                                        "],\"has_more\":false,\"after\":null}");
    if (call->cursor) cn_buf_add_format(out, "\"%" PRIu64 "\"}", call->cursor);
}

static cn_code listed(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    if (call->err.code != CN_OK) return cn_ask_error(call, "Conversation", "", err);
    if (call->list_count == 0 && call->cursor) {         // an empty page, and more behind it
        return cn_ask_start(answer, CN_SESSION_LIST, listed, err);
    }
    write_list(call, &answer->reply.out);
    return cn_conversations_reply(answer);
}

cn_code cn_conversations_list(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    char after[32] = "0", *end;
    (void)route;
    const cn_code code = cn_conversations_open(answer, NULL, &w, err);
    if (code != CN_OK) return code;
    cn_route_query(answer->request->query, "after", after, sizeof after);
    const uint64_t cursor = strtoull(after, &end, 10);
    if (*after < '0' || *after > '9' || *end) {
        return cn_err_set_param(err, CN_E_INVALID, "after", "after: \"%s\"; must be what the page "
                                "before has as after", after);
    }
    cn_session_call *call = cn_ask_prepare(answer, err);
    if (!call) return err->code;
    call->cursor = cursor;
    return cn_ask_start(answer, CN_SESSION_LIST, listed, err);
}

// ---- update and delete

static cn_code updated(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_code code = cn_conversations_take(answer, call, err);
    return code == CN_OK ? cn_conversations_reply_object(answer) : code;
}

static cn_code to_be_updated(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    cn_conversations_work *w = work_of(answer);
    const cn_code code = cn_conversations_take(answer, call, err);
    if (code != CN_OK) return code;
    answer->ask->call.conversation.metadata = w->metadata;
    return cn_ask_start(answer, CN_SESSION_UPDATE, updated, err);
}

cn_code cn_conversations_update(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    json_t *body = NULL;
    cn_code code = cn_conversations_open_locked(answer, route, &w, err);
    if (code == CN_OK) code = cn_conversations_body(answer, &body, err);
    if (code == CN_OK && !json_object_get(body, "metadata")) {
        code = cn_err_set_param(err, CN_E_INVALID, "metadata", "metadata: nothing; must be an object "
                                "of strings, or null");
    }
    if (code == CN_OK) code = read_metadata(answer, body, err);
    json_decref(body);
    if (code != CN_OK) return code;
    if (!w->metadata.len) w->metadata = (cn_bytes){"{}", 2};
    return cn_ask_id(answer, CN_SESSION_CONVERSATION, &w->id, to_be_updated, err);
}

static cn_code deleted(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_conversations_work *w = work_of(answer);
    cn_buf *out = &answer->reply.out;
    if (call->err.code != CN_OK) return cn_ask_error(call, "Conversation", w->id.text, err);
    cn_buf_add_text(out, "{\"id\":");
    cn_buf_add_json(out, w->id.text, strlen(w->id.text));
    cn_buf_add_text(out, ",\"object\":\"conversation.deleted\",\"deleted\":true}");
    return cn_conversations_reply(answer);
}

static cn_code to_be_deleted(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_code code = cn_conversations_take(answer, call, err);
    if (code != CN_OK) return code;
    answer->ask->call.conversation.deleted = true;
    return cn_ask_start(answer, CN_SESSION_UPDATE, deleted, err);
}

cn_code cn_conversations_delete(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    const cn_code code = cn_conversations_open_locked(answer, route, &w, err);
    if (code != CN_OK) return code;
    return cn_ask_id(answer, CN_SESSION_CONVERSATION, &w->id, to_be_deleted, err);
}

// ---- fork and tree

static cn_code forked(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_conversations_work *w = work_of(answer);
    if (call->err.code == CN_E_NOT_FOUND && *w->at.text && strstr(call->err.text, w->at.text)) {
        return cn_err_set_param(err, CN_E_ABSENT, "at", "Response with id '%s' not found in this "
                                "conversation.", w->at.text);
    }
    return cn_conversations_made(answer, call, err);
}

static cn_code read_at(cn_answer *answer, const json_t *body, cn_err *err)
{
    const json_t *at = cn_json_body_get(body, "at");
    if (!at) return CN_OK;
    if (!json_is_string(at)) {
        return cn_err_set_param(err, CN_E_INVALID, "at", "at: %s; must be the id of a response",
                                cn_json_body_kind(at));
    }
    const cn_code code = cn_ask_parse_id(json_string_value(at), "resp_", "Response",
                                         &work_of(answer)->at, err);
    if (code != CN_OK) memcpy(err->param, "at", 3);
    return code;
}

cn_code cn_conversations_fork(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    json_t *body = NULL;
    cn_code code = cn_conversations_open(answer, route, &w, err);
    if (code == CN_OK) code = cn_conversations_body(answer, &body, err);
    if (code == CN_OK) code = read_at(answer, body, err);
    if (code == CN_OK) code = read_metadata(answer, body, err);
    if (code == CN_OK) code = cn_conversations_name(answer, err);
    json_decref(body);
    if (code != CN_OK) return code;
    cn_session_call *call = &answer->ask->call;
    call->id = w->id;
    call->at = w->at;
    call->conversation = (cn_conversation){.id = w->made_id, .metadata = w->metadata};
    memcpy(call->conversation.request_digest, w->digest, sizeof w->digest);
    return cn_ask_start(answer, CN_SESSION_FORK, forked, err);
}

static void add_ids(const char *name, const cn_bytes *items, uint32_t count, cn_buf *out)
{
    cn_buf_add_text(out, name);
    for (uint32_t i = 0; i < count; i++) {
        const cn_bytes id = cn_items_id_of(items[i]);
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_json(out, id.len ? id.data : "", id.len);
    }
    cn_buf_add_char(out, ']');
}

static void write_node(const cn_turn *turn, cn_buf *out)
{
    cn_buf_add_format(out, "{\"id\":\"%s\",\"parent\":", turn->id.text);
    if (*turn->parent.text) cn_buf_add_format(out, "\"%s\"", turn->parent.text);
    else cn_buf_add_text(out, "null");
    cn_buf_add_format(out, ",\"created_at\":%" PRIu64 ",\"completed_at\":%" PRIu64
                      ",\"is_response\":%s,\"deleted\":%s,\"tokens\":%" PRIu32
                      ",\"output_tokens\":%" PRIu32, turn->created_s, turn->completed_s,
                      turn->response.len ? "true" : "false", turn->deleted ? "true" : "false",
                      turn->token_count, turn->output_token_count);
    add_ids(",\"input\":[", turn->input, turn->input_count, out);
    add_ids(",\"output\":[", turn->output, turn->output_count, out);
    cn_buf_add_char(out, '}');
}

static cn_code tree_found(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_conversations_work *w = work_of(answer);
    cn_buf *out = &answer->reply.out;
    uint32_t shown = 0;
    if (call->err.code != CN_OK) return cn_ask_error(call, "Conversation", w->id.text, err);
    cn_buf_add_format(out, "{\"object\":\"conversation.tree\",\"id\":\"%s\",\"conversations\":[",
                      w->id.text);
    for (uint32_t i = 0; i < call->list_count; i++) {
        if (call->list[i].deleted) continue;
        if (shown++) cn_buf_add_char(out, ',');
        cn_conversations_write(&call->list[i], out);
    }
    cn_buf_add_text(out, "],\"turns\":[");
    for (uint32_t i = 0; i < call->chain_count; i++) {
        if (i) cn_buf_add_char(out, ',');
        write_node(&call->chain[i], out);
    }
    cn_buf_add_text(out, "]}");
    return cn_conversations_reply(answer);
}

static cn_code tree_wanted(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_code code = cn_conversations_take(answer, call, err);
    if (code != CN_OK) return code;
    return cn_ask_id(answer, CN_SESSION_TREE, &work_of(answer)->id, tree_found, err);
}

cn_code cn_conversations_tree(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    const cn_code code = cn_conversations_open(answer, route, &w, err);
    if (code != CN_OK) return code;
    return cn_ask_id(answer, CN_SESSION_CONVERSATION, &w->id, tree_wanted, err);
}
