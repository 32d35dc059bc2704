#include <stdlib.h>
#include <string.h>

#include "dataplane/api_int.h"
#include "dataplane/paging.h"
#include "dataplane/responses.h"

/* The routes of a response that exists, or is being made here. What another tenant has does not
 * exist: ids are looked up under the tenant, here and in the store. */

typedef struct wish {
    bool streams;
    uint32_t next;               // event to begin with
    cn_session_id id;
    cn_paging paging;
} wish;

static cn_code open_wish(cn_answer *answer, const cn_route *route, wish **out, cn_err *err)
{
    wish *w = cn_arena_take_array(&answer->request->arena, 1, sizeof *w);
    if (!w) return cn_err_set(err, CN_E_MEMORY, "response: no memory");
    answer->work = *out = w;
    return cn_ask_parse_id(route->names[0], "resp_", "Response", &w->id, err);
}

static cn_answer *find_live(const cn_answer *answer, const cn_session_id *id)
{
    return cn_live_find(answer->api->live, answer->tenant, id);
}

/* The turn that a call brought, if it is a response: other turns hold items that were put into a
 * conversation. */
static cn_code check_found(const cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const wish *w = answer->work;
    if (call->err.code != CN_OK) return cn_ask_error(call, "Response", w->id.text, err);
    if (call->turn.response.len && !call->turn.deleted) return CN_OK;
    return cn_err_set(err, CN_E_ABSENT, "Response with id '%s' not found.", w->id.text);
}

// ---- retrieve

static cn_code read_wish(const char *query, wish *w, cn_err *err)
{
    char text[32], *end;
    if (cn_route_query(query, "stream", text, sizeof text)) {
        w->streams = strcmp(text, "true") == 0;
        if (!w->streams && strcmp(text, "false") != 0) {
            return cn_err_set_param(err, CN_E_INVALID, "stream", "stream: \"%s\"; must be true or "
                                    "false", text);
        }
    }
    if (!cn_route_query(query, "starting_after", text, sizeof text)) return CN_OK;
    if (!w->streams) {
        return cn_err_set_param(err, CN_E_INVALID, "starting_after", "starting_after: given "
                                "without stream=true; set it, too");
    }
    const unsigned long after = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || after >= UINT32_MAX) {
        return cn_err_set_param(err, CN_E_INVALID, "starting_after", "starting_after: \"%s\"; must "
                                "be the sequence_number of an event", text);
    }
    w->next = (uint32_t)after + 1;
    return CN_OK;
}

static cn_code retrieved(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const wish *w = answer->work;
    const cn_code code = check_found(answer, call, err);
    return code == CN_OK ? cn_responses_reader_replay(answer, &call->turn, w->streams, w->next, err)
                         : code;
}

static cn_code show_live(cn_answer *answer, cn_answer *source, const wish *w, cn_err *err)
{
    if (!w->streams) {
        cn_response_view_object(&source->turn->view, &answer->reply.out);
        cn_reply_whole(&answer->reply, 200, "application/json");
        return CN_OK;
    }
    if (source->detached) return cn_responses_reader_follow(answer, source, true, w->next, err);
    return cn_err_set_param(err, CN_E_INVALID, "stream", "Response with id '%s' is being streamed to "
                            "the client that made it; only background responses can be followed "
                            "before they have ended.", w->id.text);
}

cn_code cn_responses_get(cn_answer *answer, const cn_route *route, cn_err *err)
{
    wish *w;
    cn_code code = open_wish(answer, route, &w, err);
    if (code == CN_OK) code = read_wish(answer->request->query, w, err);
    if (code != CN_OK) return code;
    cn_answer *source = find_live(answer, &w->id);
    if (source && source->turn->phase >= CN_RESPONSES_GENERATING) {
        return show_live(answer, source, w, err);
    }
    return cn_ask_id(answer, CN_SESSION_TURN, &w->id, retrieved, err);
}

// ---- delete

static cn_code deleted(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const wish *w = answer->work;
    cn_buf *out = &answer->reply.out;
    if (call->err.code != CN_OK) return cn_ask_error(call, "Response", w->id.text, err);
    cn_buf_add_text(out, "{\"id\":");
    cn_buf_add_json(out, w->id.text, strlen(w->id.text));
    cn_buf_add_text(out, ",\"object\":\"response\",\"deleted\":true}");
    cn_reply_whole(&answer->reply, 200, "application/json");
    return CN_OK;
}

static cn_code to_be_deleted(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const wish *w = answer->work;
    const cn_code code = check_found(answer, call, err);
    return code == CN_OK ? cn_ask_id(answer, CN_SESSION_TURN_DELETE, &w->id, deleted, err) : code;
}

cn_code cn_responses_delete(cn_answer *answer, const cn_route *route, cn_err *err)
{
    wish *w;
    const cn_code code = open_wish(answer, route, &w, err);
    if (code != CN_OK) return code;
    if (find_live(answer, &w->id)) {
        return cn_err_set(err, CN_E_INVALID, "Response with id '%s' is being made; cancel it first, "
                          "if it runs in the background, or wait for its end.", w->id.text);
    }
    return cn_ask_id(answer, CN_SESSION_TURN, &w->id, to_be_deleted, err);
}

// ---- cancel

static cn_code refuse_cancel(cn_err *err)
{
    return cn_err_set(err, CN_E_INVALID, "Only responses created with background=true that have not "
                      "ended can be cancelled.");
}

static cn_code to_be_cancelled(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    cn_response_view view;
    cn_code code = check_found(answer, call, err);
    if (code == CN_OK) {
        code = cn_response_view_load(&call->turn, &answer->request->arena, &view, err);
    }
    if (code != CN_OK) return code;
    if (view.status != CN_RESPONSE_CANCELLED) return refuse_cancel(err);
    return cn_responses_reader_replay(answer, &call->turn, false, 0, err);
}

cn_code cn_responses_cancel(cn_answer *answer, const cn_route *route, cn_err *err)
{
    wish *w;
    const cn_code code = open_wish(answer, route, &w, err);
    if (code != CN_OK) return code;
    cn_answer *source = find_live(answer, &w->id);
    if (!source) return cn_ask_id(answer, CN_SESSION_TURN, &w->id, to_be_cancelled, err);
    if (!source->detached) return refuse_cancel(err);
    cn_responses_stop(source);
    // The answer is the settled object: a response that ended first says so.
    return cn_responses_reader_follow(answer, source, false, 0, err);
}

// ---- input items

static cn_code input_found(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const wish *w = answer->work;
    cn_code code = check_found(answer, call, err);
    if (code == CN_OK) {
        code = cn_paging_write(&w->paging, call->turn.input, call->turn.input_count,
                               &answer->reply.out, err);
    }
    if (code == CN_OK) cn_reply_whole(&answer->reply, 200, "application/json");
    return code;
}

cn_code cn_responses_list_input(cn_answer *answer, const cn_route *route, cn_err *err)
{
    wish *w;
    cn_code code = open_wish(answer, route, &w, err);
    if (code == CN_OK) code = cn_paging_read(answer->request->query, &w->paging, err);
    if (code != CN_OK) return code;
    const cn_answer *source = find_live(answer, &w->id);
    if (!source || !source->turn->input) {
        return cn_ask_id(answer, CN_SESSION_TURN, &w->id, input_found, err);
    }
    code = cn_paging_write(&w->paging, source->turn->input, source->turn->input_count,
                           &answer->reply.out, err);
    if (code == CN_OK) cn_reply_whole(&answer->reply, 200, "application/json");
    return code;
}
