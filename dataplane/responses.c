#include "dataplane/responses.h"

#include <string.h>

#include "base/assert.h"
#include "dataplane/api_int.h"
#include "dataplane/conversations.h"
#include "dataplane/items.h"
#include "dataplane/json_body.h"
#include "dataplane/logprobs.h"
#include "dataplane/sse.h"

/* How it works. A turn goes through its phases one after another; each waits for a call to the
 * session or for the engine, and the step after it is named where the wait begins:
 *
 *   FINDING      REPLAY of an Idempotency-Key          → tell it again, or go on
 *   LOADING      HISTORY of the parent or conversation → messages, prompt, submit
 *   GENERATING   tokens into the view                  → COMMIT when the choice has ended
 *   COMMITTING   the record, then the head             → settled: the end is told
 *
 * Failing before the first token is an error as the whole reply; later it is response.failed in the
 * stream. A background turn has no reply to fail: it is stored as failed, like one that is cancelled.
 * Both stay out of their conversation, whose head moves for whole turns only.
 *
 * The lock of a conversation is an entry of `live`: a second request is refused at once. Against
 * other appliances the head's compare-and-set decides, in COMMIT. */

static cn_responses_turn *turn_of(const cn_answer *answer) { return answer->turn; }

static void leave(cn_answer *answer)
{
    struct cn_api *api = answer->api;
    cn_responses_turn *turn = turn_of(answer);
    cn_live_leave(api->live, &turn->live);
    cn_live_leave(api->live, &turn->lock);
    json_decref(turn->items);
    json_decref(turn->body);
    turn->items = turn->body = NULL;
    if (answer->detached) api->background_count--;
    answer->detached = false;
}

void cn_responses_durability(cn_answer *answer)
{
    static const char *const names[] = {"memory", "process", "fsync", "fsync+replica"};
    const cn_store *store = answer->api->options.store;
    cn_store_state state;
    if (!store) return;
    store->ops->state(store, &state);
    cn_reply_header(&answer->reply, "Cairn-Durability", names[state.durability]);
}

// ---- the end

static void settle(cn_answer *answer)
{
    cn_responses_turn *turn = turn_of(answer);
    turn->phase = CN_RESPONSES_SETTLED;
    turn->view.settled = true;
    cn_responses_reader_wake(answer);
    leave(answer);
}

/* Two appliances may have answered one keyed request at once; the first commit is the answer. What a
 * stream has told already cannot be taken back. */
static cn_code take_committed(cn_answer *answer, const cn_turn *record, cn_err *err)
{
    cn_responses_turn *turn = turn_of(answer);
    const cn_bytes *stored = record->output_count ? &record->output[0] : NULL;
    cn_buf ours;
    bool same = !turn->view.started;
    if (stored && turn->view.started) {
        cn_buf_init(&ours, (size_t)answer->api->options.limits->request_bytes);
        cn_response_view_item(&turn->view, &ours);
        same = stored->len == ours.len && memcmp(stored->data, ours.data, ours.len) == 0;
        cn_buf_close(&ours);
    }
    if (same) return CN_OK;
    if (turn->reader.streams) {
        cn_reply_header(&answer->reply, "x-should-retry", "true");
        return cn_err_set(err, CN_E_EXISTS, "another appliance has answered this request with the "
                          "same Idempotency-Key; send it again to get that answer");
    }
    return cn_response_view_load(record, &answer->request->arena, &turn->view, err);
}

static cn_code committed(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    const cn_responses_turn *turn = turn_of(answer);
    cn_metrics *m = answer->api->options.metrics;
    cn_metrics_add(call->err.code == CN_OK           ? &m->turns_stored
                   : call->err.code == CN_E_CONFLICT ? &m->turns_conflict
                                                     : &m->turns_failed, 1);
    cn_code code = call->err.code == CN_OK ? CN_OK
                                           : cn_ask_error(call, "Response", turn->id.text, err);
    if (code == CN_OK && turn->keyed) code = take_committed(answer, &call->turn, err);
    if (code == CN_OK) settle(answer);
    return code;
}

static cn_code close_turn(cn_answer *answer, cn_response_status status, const cn_err *failure,
                          cn_err *err)
{
    cn_responses_turn *turn = turn_of(answer);
    cn_code code = cn_responses_commit_close(answer, status, failure, err);
    if (code != CN_OK) return code;
    turn->phase = CN_RESPONSES_COMMITTING;
    turn->view.closed = status != CN_RESPONSE_FAILED;
    cn_responses_reader_wake(answer);
    if (!turn->stored) {
        settle(answer);
        return CN_OK;
    }
    cn_session_call *call = cn_ask_prepare(answer, err);
    if (!call) return err->code;
    code = cn_responses_commit_fill(answer, call, err);
    return code == CN_OK ? cn_ask_start(answer, CN_SESSION_COMMIT, committed, err) : code;
}

/* Tells the failure to whoever reads, without a record. */
static void settle_failed(cn_answer *answer, const cn_err *failure)
{
    cn_responses_turn *turn = turn_of(answer);
    cn_err ignored;
    if (cn_responses_commit_close(answer, CN_RESPONSE_FAILED, failure, &ignored) != CN_OK) {
        turn->view.tail = (cn_bytes){",\"status\":\"failed\"", 18};
    }
    turn->view.status = CN_RESPONSE_FAILED;
    settle(answer);
}

static void fail(cn_answer *answer, const cn_err *failure)
{
    cn_responses_turn *turn = turn_of(answer);
    cn_err err;
    if (!turn || turn->phase < CN_RESPONSES_GENERATING || turn->phase == CN_RESPONSES_SETTLED) {
        cn_answer_refuse(answer, failure);
        if (turn) leave(answer);
    } else if (answer->detached && turn->phase == CN_RESPONSES_GENERATING) {
        if (close_turn(answer, CN_RESPONSE_FAILED, failure, &err) != CN_OK) {
            settle_failed(answer, failure);
        }
    } else if (answer->detached || answer->reply.state != CN_REPLY_IDLE) {
        settle_failed(answer, failure);
    } else {
        cn_answer_refuse(answer, failure);
        leave(answer);
    }
}

void cn_responses_stop(cn_answer *answer)
{
    cn_err err = {.code = CN_OK};
    if (turn_of(answer)->phase != CN_RESPONSES_GENERATING) return;
    const cn_code code = close_turn(answer, CN_RESPONSE_CANCELLED, NULL, &err);
    if (code != CN_OK) cn_answer_fail(answer, &err);
    else cn_answer_cancel(answer);
}

// ---- tokens

static bool head(cn_answer *answer)
{
    (void)answer;
    return true;                 // it was written when the request was read
}

// Where the history of a turn that goes on from stored ones was found.
static void count_resumed(const cn_answer *answer)
{
    const cn_responses_turn *turn = turn_of(answer);
    const cn_answer_prompt *p = &answer->prompts[0];
    cn_metrics *m = answer->api->options.metrics;
    if (turn->chain_count == 0) return;
    const uint64_t now_s = cn_clock_wall_ns(&answer->api->options.clock) / 1000000000;
    const uint64_t before_s = turn->chain[turn->chain_count - 1].completed_s;
    cn_metrics_add(p->store_tokens    ? &m->resumed_store
                   : p->host_tokens   ? &m->resumed_host
                   : p->cached_tokens ? &m->resumed_device
                                      : &m->resumed_computed, 1);
    cn_metrics_add(&m->resumed_tokens_device, p->cached_tokens - p->host_tokens - p->store_tokens);
    cn_metrics_add(&m->resumed_tokens_host, p->host_tokens);
    cn_metrics_add(&m->resumed_tokens_store, p->store_tokens);
    cn_metrics_add(&m->resumed_tokens_computed, p->input.count - p->cached_tokens);
    cn_metrics_observe(&m->resumed_age_ns, now_s > before_s ? (now_s - before_s) * 1000000000 : 0);
}

static void start(cn_answer *answer)
{
    cn_response_view *view = &turn_of(answer)->view;
    if (!view->started) count_resumed(answer);
    view->started = true;
    view->status = CN_RESPONSE_IN_PROGRESS;
    if (turn_of(answer)->reader.streams) cn_sse_open(&answer->reply);
    cn_responses_reader_wake(answer);
}

static void begin(cn_answer *answer, cn_answer_choice *choice)
{
    (void)answer;
    (void)choice;
}

static void add_logprobs(cn_answer *answer, cn_answer_choice *choice)
{
    cn_responses_turn *turn = turn_of(answer);
    const cn_logprobs_style style = {answer->api->options.tokenizer, answer->params.tokens_as_ids};
    if (!choice->logprobs.len) return;
    if (turn->logprobs.len) cn_buf_add_char(&turn->logprobs, ',');
    cn_logprobs_write_entries(&choice->logprobs, &style, &turn->logprobs);
    cn_buf_clear(&choice->logprobs);
    if (turn->logprobs.overflowed) choice->logprobs.overflowed = true;   // for cn_answer_is_cut
    turn->view.logprobs = turn->logprobs.data;
    turn->view.logprobs_len = (uint32_t)turn->logprobs.len;
}

// Logprobs of tokens without text of their own wait for the next delta.
static void add_text(cn_answer *answer, cn_answer_choice *choice, const cn_buf *text)
{
    cn_responses_turn *turn = turn_of(answer);
    cn_response_view *view = &turn->view;
    if (!text->len) return;
    add_logprobs(answer, choice);
    cn_buf_add(&choice->text, text->data, text->len);
    if (choice->text.overflowed) return;
    view->text = choice->text.data;
    view->text_len = (uint32_t)choice->text.len;
    CN_ASSERT(view->cut_count <= answer->prompts[0].generation.tokens_max);
    turn->cuts[view->cut_count++] = (cn_response_cut){view->text_len, view->logprobs_len};
    cn_responses_reader_wake(answer);
}

static void end(cn_answer *answer, cn_answer_choice *choice) { add_logprobs(answer, choice); }

static void complete(cn_answer *answer)
{
    cn_err err = {.code = CN_OK};
    const bool stopped = answer->choices[0].end == CN_ANSWER_STOP;
    const cn_code code =
        close_turn(answer, stopped ? CN_RESPONSE_COMPLETED : CN_RESPONSE_INCOMPLETE, NULL, &err);
    if (code != CN_OK) cn_answer_fail(answer, &err);
}

static bool gone(cn_answer *answer)
{
    // A commit under way keeps its lock until it is back, and a background turn its work.
    return answer->detached;
}

static void close_kind(cn_answer *answer)
{
    if (!answer->turn) return;
    leave(answer);
    cn_buf_close(&answer->turn->logprobs);
}

const cn_answer_kind cn_responses_kind = {
    .requests = CN_PARAMS_RESPONSE, .input = "input", .is_chat = true, .head = head,
    .start = start, .begin = begin, .text = add_text, .end = end, .complete = complete,
    .fail = fail, .gone = gone, .pump = cn_responses_reader_pump, .close = close_kind};

// ---- generating

// The client of a background turn gets its object at once, or its events as they come.
static void reply_early(cn_answer *answer)
{
    answer->detached = true;
    answer->api->background_count++;
    if (turn_of(answer)->reader.streams) {
        cn_sse_open(&answer->reply);
    } else {
        cn_response_view_object(&turn_of(answer)->view, &answer->reply.out);
        cn_reply_whole(&answer->reply, 200, "application/json");
    }
}

static char *item_id(cn_answer *answer)
{
    const cn_responses_turn *turn = turn_of(answer);
    char *id = cn_arena_take(&answer->request->arena, CN_ITEMS_ID_BYTES);
    if (id) cn_items_id("msg_", turn->id.text, turn->input_count, id);
    return id;
}

static cn_code generate(cn_answer *answer, cn_err *err)
{
    cn_responses_turn *turn = turn_of(answer);
    cn_code code = cn_responses_prompt_make(answer, err);
    json_decref(turn->items);
    json_decref(turn->body);
    turn->items = turn->body = NULL;
    if (code != CN_OK) return code;
    const cn_answer_input input = {.ids = turn->prompt.ids, .count = turn->prompt.count};
    turn->view.item_id = item_id(answer);
    if (!turn->view.item_id) return cn_err_set(err, CN_E_MEMORY, "response: no memory");
    code = cn_answer_submit(answer, &input, 1, turn->salt, err);
    if (code != CN_OK) return code;
    const size_t cuts_max = answer->prompts[0].generation.tokens_max + 1u;   // the last: held back
    turn->cuts = cn_arena_take(&answer->request->arena, cuts_max * sizeof *turn->cuts);
    if (!turn->cuts) return cn_err_set(err, CN_E_LIMIT, "response: beyond limit request_bytes");
    turn->view.cuts = turn->cuts;
    if (turn->stored) cn_responses_durability(answer);
    cn_responses_reader_open(answer, &turn->reader, &turn->view, answer->params.stream);
    if (turn->background) reply_early(answer);
    turn->phase = CN_RESPONSES_GENERATING;
    return CN_OK;
}

// ---- the history

static cn_code loading_failed(const cn_responses_turn *turn, const cn_session_call *call,
                              cn_err *err)
{
    if (call->err.code != CN_E_NOT_FOUND) return cn_ask_error(call, "Response", "", err);
    if (*turn->conversation.text && strstr(call->err.text, turn->conversation.text)) {
        return cn_err_set_param(err, CN_E_ABSENT, "conversation", "Conversation with id '%s' not "
                                "found.", turn->conversation.text);
    }
    if (*turn->parent.text && strstr(call->err.text, turn->parent.text)) {
        return cn_err_set_param(err, CN_E_PARENT, "previous_response_id", "Previous response with "
                                "id '%s' not found.", turn->parent.text);
    }
    return cn_err_set_param(err, CN_E_PARENT, *turn->parent.text ? "previous_response_id"
                                                                 : "conversation",
                            "A turn of this history is not there any more: %.256s", call->err.text);
}

static cn_code loaded(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    cn_responses_turn *turn = turn_of(answer);
    if (call->err.code != CN_OK) return loading_failed(turn, call, err);
    turn->chain = call->chain;
    turn->chain_count = call->chain_count;
    if (*turn->conversation.text) turn->head = call->conversation;
    if (turn->head.deleted) {
        return cn_err_set_param(err, CN_E_ABSENT, "conversation", "Conversation with id '%s' not "
                                "found.", turn->conversation.text);
    }
    if (*turn->parent.text && call->chain_count && call->chain[call->chain_count - 1].deleted) {
        return cn_err_set_param(err, CN_E_PARENT, "previous_response_id", "Previous response with "
                                "id '%s' not found.", turn->parent.text);
    }
    return generate(answer, err);
}

// The store was away when the request came, and answers again.
static cn_code store_is_back(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    if (call->err.code == CN_OK || call->err.code == CN_E_NOT_FOUND) return generate(answer, err);
    return cn_ask_error(call, "Response", "", err);
}

static bool store_is_away(const cn_answer *answer)
{
    const cn_store *store = answer->api->options.store;
    cn_store_state state;
    if (!store) return false;
    store->ops->state(store, &state);
    return !state.log_up;
}

/* Without a history there is nothing to load; but a store that is away is waited for before the work
 * and not after it. */
static cn_code load_history(cn_answer *answer, cn_err *err)
{
    cn_responses_turn *turn = turn_of(answer);
    if (*turn->conversation.text) {
        if (!cn_live_enter(answer->api->live, &turn->lock, &turn->conversation, answer)) {
            return cn_conversations_locked(err);
        }
        return cn_ask_id(answer, CN_SESSION_HISTORY, &turn->conversation, loaded, err);
    }
    if (*turn->parent.text) {
        return cn_ask_id(answer, CN_SESSION_HISTORY, &turn->parent, loaded, err);
    }
    if (!turn->stored) return generate(answer, err);
    if (!cn_ask_prepare(answer, err)) return err->code;
    if (!store_is_away(answer)) return generate(answer, err);
    return cn_ask_id(answer, CN_SESSION_TURN, &turn->id, store_is_back, err);
}

static cn_code load(cn_answer *answer, cn_err *err)
{
    turn_of(answer)->phase = CN_RESPONSES_LOADING;
    return cn_responses_references_resolve(answer, load_history, err);
}

static cn_code found(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    if (call->err.code == CN_E_NOT_FOUND) return load(answer, err);
    if (call->err.code == CN_E_EXISTS) {
        cn_reply_header(&answer->reply, "x-should-retry", "false");
        return cn_err_set(err, CN_E_EXISTS, "this Idempotency-Key was used for another request");
    }
    if (call->err.code != CN_OK) return cn_ask_error(call, "Response", "", err);
    if (call->turn.deleted) {
        return cn_err_set(err, CN_E_ABSENT, "Response with id '%s' not found.", call->turn.id.text);
    }
    leave(answer);
    return cn_responses_reader_replay(answer, &call->turn, answer->params.stream, 0, err);
}

// ---- create

static cn_code enter(cn_answer *answer, cn_err *err)
{
    struct cn_api *api = answer->api;
    cn_responses_turn *turn = turn_of(answer);
    const uint64_t max = api->options.limits->background_turns;
    if (turn->background && api->background_count >= max) {
        return cn_err_set(err, CN_E_QUEUE, "%llu background turns are under way (limit "
                          "background_turns); try again later", (unsigned long long)max);
    }
    if (turn->stored && !cn_live_enter(api->live, &turn->live, &turn->id, answer)) {
        cn_reply_header(&answer->reply, "x-should-retry", "true");
        return cn_err_set(err, CN_E_EXISTS, "a request with this Idempotency-Key is being answered; "
                          "send it again in a few seconds to get its answer");
    }
    return CN_OK;
}

static cn_code find(cn_answer *answer, cn_err *err)
{
    cn_responses_turn *turn = turn_of(answer);
    if (!turn->keyed) return load(answer, err);
    cn_session_call *call = cn_ask_prepare(answer, err);
    if (!call) return err->code;
    call->id = turn->id;
    memcpy(call->turn.request_digest, turn->digest, sizeof turn->digest);
    return cn_ask_start(answer, CN_SESSION_REPLAY, found, err);
}

cn_code cn_responses_create(cn_answer *answer, const cn_route *route, cn_err *err)
{
    const cn_http_request *request = answer->request;
    json_t *body;
    (void)route;
    answer->kind = &cn_responses_kind;
    cn_responses_turn *turn = cn_arena_take_array(&answer->request->arena, 1, sizeof *turn);
    if (!turn) return cn_err_set(err, CN_E_MEMORY, "response: no memory");
    cn_code code = cn_json_body_parse(request->body, request->body_len,
                                      answer->api->options.limits->json_depth, &body, err);
    if (code != CN_OK) return code;
    answer->turn = turn;
    cn_buf_init(&turn->logprobs, (size_t)answer->api->options.limits->request_bytes);
    code = cn_responses_read(answer, body, err);
    turn->view.background = turn->background;
    json_decref(body);
    if (code == CN_OK) code = enter(answer, err);
    return code == CN_OK ? find(answer, err) : code;
}
