#include "dataplane/api.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/assert.h"
#include "dataplane/affinity.h"
#include "dataplane/api_int.h"
#include "dataplane/conversations.h"
#include "dataplane/responses.h"

/* How it works. One round:
 *
 *   events of the engine ──▶ text of answers ─┐
 *   requests, clients gone ──▶ new answers ───┴─▶ todo: what there is to send or to cancel ──▶ net
 *
 * Every answer that changed is in the todo list once, so all its frames of a round leave in one
 * send. What a full ring did not take stays in the list for the next round.
 *
 * Answers come from a pool with more places than there are exchanges: an answer whose client has
 * gone keeps its place until the engine has given its generations back, while the connection's next
 * request may be here already. If all places are taken, no new message is looked at; the engine
 * frees some within a step. */

enum {
    MESSAGES_PER_ROUND = 16,     // a prompt may take milliseconds; tokens do not wait for many
    ANSWERS_SPARE = 64
};

// ---- open and close

static uint32_t answers_of(const cn_limits *limits)
{
    return (uint32_t)(limits->connections + limits->queue_requests + limits->background_turns) +
           ANSWERS_SPARE;
}

uint32_t cn_api_tenant_max(const cn_limits *limits)
{
    return cn_tenants_index_max(answers_of(limits));
}

static cn_code open_memory(cn_api *api)
{
    const cn_limits *limits = api->options.limits;
    api->exchange_count = (uint32_t)limits->connections;
    api->answer_count = answers_of(limits);
    api->answers = calloc(api->answer_count, sizeof *api->answers);
    api->by_exchange = calloc(api->exchange_count, sizeof *api->by_exchange);
    if (!api->answers || !api->by_exchange) return CN_E_MEMORY;
    cn_buf_init(&api->piece, (size_t)limits->request_bytes);
    cn_buf_init(&api->text, (size_t)limits->request_bytes);
    // A turn has two entries: its own, and the lock of its conversation.
    const cn_code code = cn_map_open(api->answer_count * 2, cn_random_u64(&api->options.random),
                                     &api->live);
    return code == CN_OK ? cn_prompt_guard_open(api->options.tokenizer, &api->guard) : code;
}

static size_t longest_token(const cn_tokenizer *tokenizer)
{
    size_t longest = 1;
    for (uint32_t id = 0; id < cn_tokenizer_vocab_count(tokenizer); id++) {
        const char *token = cn_tokenizer_token(tokenizer, (int32_t)id);
        if (token && strlen(token) > longest) longest = strlen(token);
    }
    return longest;
}

static cn_code open_tenants(cn_api *api, cn_err *err)
{
    const cn_tenants_options options = {.keys = api->options.keys, .claim_max = api->answer_count,
                                        .random = api->options.random, .wake = api->options.wake};
    api->options.keys = NULL;        // not kept
    return cn_tenants_open(&options, &api->tenants, err);
}

cn_code cn_api_open(const cn_api_options *options, cn_api **out, cn_err *err)
{
    cn_api *api = calloc(1, sizeof *api);
    *out = NULL;
    if (!api) return cn_err_set(err, CN_E_MEMORY, "api: no memory");
    api->options = *options;
    api->opened_s = cn_clock_wall_ns(&options->clock) / 1000000000u;
    api->token_bytes_max = longest_token(options->tokenizer);
    cn_history_tag(options->tokenizer, api->vocabulary_tag);
    cn_engine_info_get(options->engine, &api->engine);
    cn_code code = open_memory(api);
    if (code != CN_OK) cn_err_set(err, code, "api: no memory for its answers");
    else code = open_tenants(api, err);
    if (code != CN_OK) {
        cn_api_close(api);
        return code;
    }
    cn_chat_init(&api->chat, options->chat_template, options->checkpoint, api->guard,
                 options->limits, options->clock);
    cn_engine_port_attach(options->port, options->wake);
    *out = api;
    return CN_OK;
}

void cn_api_close(cn_api *api)
{
    if (!api) return;
    CN_ASSERT(!api->oldest);
    for (uint32_t i = 0; i < api->answers_touched; i++) cn_reply_close(&api->answers[i].reply);
    cn_chat_close(&api->chat);
    cn_buf_close(&api->piece);
    cn_buf_close(&api->text);
    cn_tenants_close(api->tenants);
    cn_prompt_guard_close(api->guard);
    cn_map_close(api->live);
    free(api->by_exchange);
    free(api->answers);
    free(api);
}

// ---- the life of an answer

void cn_api_todo(cn_answer *answer)
{
    if (answer->in_todo) return;
    answer->in_todo = true;
    answer->todo_next = answer->api->todo;
    answer->api->todo = answer;
}

static void make_request_id(cn_answer *a)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    uint64_t random[2];
    cn_random_fill(&a->api->options.random, random, sizeof random);
    for (int i = 0; i < 24; i++) {
        a->request_id[i] = digits[random[i / 12] % 36];
        random[i / 12] /= 36;
    }
    a->request_id[24] = '\0';
}

void cn_api_name_request(cn_answer *a, const char *given)
{
    char parent[CN_TRACING_PARENT_BYTES];
    if (cn_affinity_is_name(given)) memcpy(a->request_id, given, strlen(given) + 1);
    else make_request_id(a);
    cn_tracing_write(&a->trace, parent);
    a->reply.extra[0] = '\0';
    cn_reply_header(&a->reply, "X-Request-Id", a->request_id);
    cn_reply_header(&a->reply, "traceparent", parent);
}

static bool has_place(const cn_api *api)
{
    return api->free || api->answers_touched < api->answer_count;
}

// Used places before new ones: memory that was never touched is not there for the system either.
static cn_answer *take_place(cn_api *api)
{
    cn_answer *a = api->free;
    if (!a) return &api->answers[api->answers_touched++];
    api->free = a->todo_next;
    return a;
}

static cn_answer *open_answer(cn_api *api, cn_http_request *request)
{
    cn_answer *a = take_place(api);
    const cn_reply reply = a->reply;             // for its buffer
    *a = (cn_answer){
        .api = api, .request = request, .reply = reply, .older = api->newest, .route = "-",
        .route_id = CN_ROUTE_COUNT, .kind = &cn_answer_plain};
    cn_reply_init(&a->reply, api->options.http, request->exchange,
                  (size_t)api->options.limits->request_bytes);
    if (api->newest) api->newest->newer = a;
    else api->oldest = a;
    api->newest = a;
    api->by_exchange[request->exchange.index] = a;
    atomic_fetch_add_explicit(&api->request_count, 1, memory_order_relaxed);
    cn_metrics_add(&api->options.metrics->requests, 1);
    a->marks.first_byte_ns = request->first_byte_ns;
    a->marks.received_ns = request->received_ns;
    a->tells_phases = cn_http_request_header(request, "cairn-phases") != NULL;
    cn_tracing_open(&a->trace, cn_http_request_header(request, "traceparent"), &api->options.random);
    cn_api_name_request(a, cn_http_request_header(request, "x-request-id"));
    cn_affinity_read(a);
    return a;
}

// Its turn is over for its tenant: the rest of what it reserved is free again.
static void settle(cn_answer *a)
{
    cn_quota_settle(&a->claim, a->prompt_tokens + a->completion_tokens,
                    cn_clock_now_ns(&a->api->options.clock));
}

static void free_answer(cn_answer *a)
{
    cn_api *api = a->api;
    settle(a);
    cn_quota_claim_close(&a->claim, cn_clock_now_ns(&api->options.clock));
    cn_answer_close(a);
    cn_http_request_free(api->options.http, a->request);
    if (a->older) a->older->newer = a->newer;
    else api->oldest = a->newer;
    if (a->newer) a->newer->older = a->older;
    else api->newest = a->older;
    a->todo_next = api->free;
    api->free = a;
    atomic_fetch_sub_explicit(&api->request_count, 1, memory_order_relaxed);
    cn_metrics_add(&api->options.metrics->requests, UINT64_MAX);     // one less
}

static int64_t elapsed_us(const cn_answer *a, uint64_t until_ns)
{
    return until_ns > a->request->received_ns
               ? (int64_t)((until_ns - a->request->received_ns) / 1000) : 0;
}

// The turns of one history have the same: that of their conversation, or else of their first turn.
static uint64_t session_of(const cn_answer *a)
{
    const cn_responses_turn *turn = a->turn;
    if (!turn || !turn->stored) return 0;
    const char *id = *turn->conversation.text ? turn->conversation.text
                     : turn->chain_count      ? turn->chain[0].id.text
                                              : turn->id.text;
    return XXH3_64bits(id, strlen(id));
}

static void record_answer(const cn_answer *a, uint64_t now_ns, cn_tracing_record *out)
{
    *out = (cn_tracing_record){
        .trace = a->trace, .status = a->reply.gone ? 499 : a->reply.status,
        .end_wall_ns = cn_clock_wall_ns(&a->api->options.clock),
        .prompt_tokens = a->prompt_tokens, .completion_tokens = a->completion_tokens,
        .session = session_of(a)};
    for (uint32_t i = 0; i < a->prompt_count; i++) {
        out->cached_tokens += a->prompts[i].cached_tokens;
        out->host_tokens += a->prompts[i].host_tokens;
        out->store_tokens += a->prompts[i].store_tokens;
    }
    memcpy(out->request_id, a->request_id, sizeof out->request_id);
    memcpy(out->route, a->route, sizeof out->route);
    strncpy(out->method, a->request->method, sizeof out->method - 1);
    cn_tracing_phases(&a->marks, now_ns, out->phase_ns);
}

static void log_record(const cn_answer *a, const cn_tracing_record *r, uint64_t now_ns)
{
    static const char *const phases[] = {
#define X(id, name, what) name "_us",
        CN_TRACING_PHASES(X)
#undef X
    };
    const uint64_t first_ns = a->marks.first_token_ns;
    enum { FIELDS = 11 };
    cn_log_field fields[FIELDS + CN_TRACING_PHASE_COUNT] = {
        cn_log_text("id", r->request_id), cn_log_text("trace", r->trace.id),
        cn_log_text("peer", a->request->peer), cn_log_text("method", a->request->method),
        cn_log_text("route", r->route),
        cn_log_number("status", (int64_t)r->status),
        cn_log_number("prompt_tokens", (int64_t)r->prompt_tokens),
        cn_log_number("cached_tokens", (int64_t)r->cached_tokens),
        cn_log_number("completion_tokens", (int64_t)r->completion_tokens),
        cn_log_number("first_token_us", first_ns ? elapsed_us(a, first_ns) : 0),
        cn_log_number("total_us", elapsed_us(a, now_ns))};
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) {
        fields[FIELDS + i] = cn_log_number(phases[i], (int64_t)(r->phase_ns[i] / 1000));
    }
    cn_log_write(a->api->options.log, CN_LOG_INFO, "request", fields,
                 FIELDS + CN_TRACING_PHASE_COUNT);
}

static_assert((int)CN_ROUTE_COUNT < (int)CN_METRICS_ROUTES_MAX, "one more is for what is no route");

static void count_generation(const cn_answer *a, uint64_t took_ns, const cn_tracing_record *record)
{
    cn_metrics *m = a->api->options.metrics;
    cn_metrics_histogram *const phases[CN_TRACING_PHASE_COUNT] = {
        [CN_TRACING_PREPARE] = &m->phase_prepare_ns, [CN_TRACING_QUEUE] = &m->phase_queue_ns,
        [CN_TRACING_RESTORE] = &m->phase_restore_ns, [CN_TRACING_PREFILL] = &m->phase_prefill_ns,
        [CN_TRACING_DECODE] = &m->phase_decode_ns,   [CN_TRACING_WRITE] = &m->phase_write_ns,
        [CN_TRACING_NETWORK] = &m->phase_network_ns};
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) {
        cn_metrics_observe(phases[i], record->phase_ns[i]);
    }
    cn_metrics_observe_request(&m->generation_ns, took_ns, record->end_wall_ns, a->request_id,
                               a->trace.id);
    cn_metrics_observe(&m->prompt_size, a->prompt_tokens);
    cn_metrics_observe(&m->answer_size, a->completion_tokens);
    if (a->completion_tokens > a->choice_count) {
        cn_metrics_observe(&m->token_mean_ns, record->phase_ns[CN_TRACING_DECODE] * a->choice_count /
                                                  (a->completion_tokens - a->choice_count));
    }
}

static void count_answer(const cn_answer *a, uint64_t now_ns, const cn_tracing_record *record)
{
    cn_metrics *m = a->api->options.metrics;
    const uint64_t took_ns = (uint64_t)elapsed_us(a, now_ns) * 1000;
    cn_metrics_observe_request(&m->request_ns, took_ns, record->end_wall_ns, a->request_id,
                               a->trace.id);
    cn_metrics_route_add(&m->routes[a->route_id], a->reply.status, took_ns);
    if (a->completion_tokens > 0) count_generation(a, took_ns, record);
}

// The reply has left, or nobody waits for it.
static void log_answer(cn_answer *a)
{
    const cn_api *api = a->api;
    const uint64_t now_ns = cn_clock_now_ns(&api->options.clock);
    cn_tracing_record record;
    a->logged = true;
    record_answer(a, now_ns, &record);
    if (!a->reply.gone) count_answer(a, now_ns, &record);
    log_record(a, &record, now_ns);
    if (api->options.ended && !cn_ring_push(api->options.ended, &record)) {
        cn_metrics_add(&api->options.metrics->trace_lost, 1);
    }
}

static void release_exchange(cn_answer *a)
{
    cn_answer **at = &a->api->by_exchange[a->reply.exchange.index];
    if (*at == a) *at = NULL;
}

// Nobody has anything of it any more: the engine, the session, those who read its turn.
static bool is_over(const cn_answer *a)
{
    return a->engine_count == 0 && !cn_ask_is_open(a) && !(a->turn && a->turn->readers);
}

static void tell_limits(cn_answer *a)
{
    a->told_limits = true;
    cn_quota_tell(&a->claim, cn_clock_now_ns(&a->api->options.clock), &a->reply);
}

// Sends and cancels what can be; false if the answer must be looked at again.
static bool work(cn_answer *a)
{
    cn_ask_go_on(a);
    const bool cancelled = cn_answer_retry_cancel(a);
    const bool told = !a->kind->pump || a->reply.gone || a->kind->pump(a);
    if (a->reply.complete && !a->detached) settle(a);    // before its client can send the next one
    if (a->reply.state == CN_REPLY_STARTING) cn_affinity_reply(a);
    if (a->reply.state == CN_REPLY_STARTING && !a->told_limits) tell_limits(a);
    const bool sent = cn_reply_pump(&a->reply);
    if (a->reply.state == CN_REPLY_ENDED) {
        release_exchange(a);
        if (!a->logged) log_answer(a);
        if (is_over(a)) {
            if (!a->in_todo) free_answer(a);     // what it did just now may have put it there
            return true;
        }
    }
    return cancelled && told && sent;
}

static bool work_all(cn_api *api)
{
    cn_answer *a = api->todo;
    const bool any = a != NULL;
    api->todo = NULL;
    while (a) {
        cn_answer *next = a->todo_next;
        a->in_todo = false;
        if (!work(a)) cn_api_todo(a);
        a = next;
    }
    if (any) cn_http_flush(api->options.http);
    return any;
}

// ---- requests

static cn_code admit(cn_api *api, cn_answer *a, const cn_route *route, cn_err *err)
{
    const char *authorization = cn_http_request_header(a->request, "authorization");
    const cn_code code = cn_tenants_admit(api->tenants, authorization, route->flags,
                                          cn_clock_now_ns(&api->options.clock), a->tenant,
                                          &a->claim, err);
    if (code != CN_OK) return code;
    if (!(route->flags & CN_ROUTE_GENERATES)) return CN_OK;
    if (atomic_load_explicit(&api->draining, memory_order_relaxed)) {
        return cn_err_set(err, CN_E_DRAINING, "the server is shutting down; send the request to "
                          "another one, or again later");
    }
    const cn_code room = cn_engine_port_admit(api->options.port, 1, err);
    return room == CN_OK ? cn_quota_run(&a->claim, err) : room;
}

// The routes that are not answered at once, in service.c.
static cn_code (*const handlers[CN_ROUTE_COUNT])(cn_answer *, const cn_route *, cn_err *) = {
    [CN_ROUTE_CHAT] = cn_generate_chat,
    [CN_ROUTE_COMPLETIONS] = cn_generate_completion,
    [CN_ROUTE_RESPONSE_CREATE] = cn_responses_create,
    [CN_ROUTE_RESPONSE_GET] = cn_responses_get,
    [CN_ROUTE_RESPONSE_DELETE] = cn_responses_delete,
    [CN_ROUTE_RESPONSE_CANCEL] = cn_responses_cancel,
    [CN_ROUTE_RESPONSE_INPUT] = cn_responses_list_input,
    [CN_ROUTE_CONVERSATION_CREATE] = cn_conversations_create,
    [CN_ROUTE_CONVERSATION_LIST] = cn_conversations_list,
    [CN_ROUTE_CONVERSATION_IMPORT] = cn_conversations_import,
    [CN_ROUTE_CONVERSATION_GET] = cn_conversations_get,
    [CN_ROUTE_CONVERSATION_UPDATE] = cn_conversations_update,
    [CN_ROUTE_CONVERSATION_DELETE] = cn_conversations_delete,
    [CN_ROUTE_CONVERSATION_FORK] = cn_conversations_fork,
    [CN_ROUTE_CONVERSATION_TREE] = cn_conversations_tree,
    [CN_ROUTE_CONVERSATION_EXPORT] = cn_conversations_export,
    [CN_ROUTE_ITEM_CREATE] = cn_conversations_items_create,
    [CN_ROUTE_ITEM_LIST] = cn_conversations_items_list,
    [CN_ROUTE_ITEM_GET] = cn_conversations_items_get,
    [CN_ROUTE_ITEM_DELETE] = cn_conversations_items_delete,
};

// The cheap checks first: nothing of a body is looked at for a request that is refused anyway.
static cn_code handle(cn_api *api, cn_answer *a, cn_err *err)
{
    const cn_http_request *request = a->request;
    cn_route route;
    cn_code code = cn_route_find(request->method, request->path, &route, err);
    if (code == CN_E_METHOD) cn_reply_header(&a->reply, "Allow", route.allow);
    if (code != CN_OK) return code;
    strncpy(a->route, cn_route_path(route.id), sizeof a->route - 1);
    a->route_id = route.id;
    code = admit(api, a, &route, err);
    if (code != CN_OK) return code;
    return handlers[route.id] ? handlers[route.id](a, &route, err)
                              : cn_service_answer(a, &route, err);
}

static void take_request(cn_api *api, cn_http_request *request)
{
    cn_err err = {CN_OK, "", ""};
    cn_answer *a = open_answer(api, request);
    if (handle(api, a, &err) != CN_OK) cn_answer_fail(a, &err);
    if (a->reply.out.overflowed) {
        a->reply.state = CN_REPLY_IDLE;
        cn_err_set(&err, CN_E_LIMIT, "the answer is larger than limit request_bytes (%llu)",
                   (unsigned long long)api->options.limits->request_bytes);
        cn_answer_fail(a, &err);
    }
    cn_api_todo(a);
}

static void take_gone(cn_api *api, cn_exchange exchange)
{
    CN_ASSERT(exchange.index < api->exchange_count);
    cn_answer *a = api->by_exchange[exchange.index];
    if (a && a->reply.exchange.generation == exchange.generation) cn_answer_gone(a);
}

static bool take_messages(cn_api *api)
{
    cn_http_message message;
    bool any = false;
    for (int i = 0; i < MESSAGES_PER_ROUND && has_place(api); i++) {
        if (!cn_http_next(api->options.http, &message)) return any;
        any = true;
        if (message.kind == CN_HTTP_REQUEST) take_request(api, message.request);
        else take_gone(api, message.exchange);
    }
    return any;
}

// ---- a round

static bool take_events(cn_api *api)
{
    const cn_event *event;
    bool any = false;
    while ((event = cn_engine_port_next(api->options.port))) {
        cn_answer_event(event);
        cn_engine_port_done(api->options.port);
        any = true;
    }
    return any;
}

// What still waits for its history is refused when it wants to begin (cn_answer_submit).
static void end_all(cn_api *api)
{
    cn_err err;
    api->aborted = true;
    cn_err_set(&err, CN_E_DRAINING, "the server is shutting down and ended this answer");
    for (cn_answer *a = api->oldest; a; a = a->newer) {
        if (a->engine_count) cn_answer_fail(a, &err);
    }
}

bool cn_api_poll(cn_api *api)
{
    cn_tenants_poll(api->tenants);
    bool any = take_events(api);
    if (api->options.session) any |= cn_session_poll(api->options.session);
    if (atomic_exchange_explicit(&api->aborting, false, memory_order_relaxed)) end_all(api);
    any |= work_all(api);            // tokens leave before prompts are looked at
    any |= take_messages(api);
    any |= work_all(api);
    return any;
}

void cn_api_retire(cn_api *api)
{
    atomic_store_explicit(&api->retiring, true, memory_order_relaxed);
}

cn_code cn_api_set_keys(cn_api *api, const cn_key_file *keys, cn_err *err)
{
    return cn_tenants_replace(api->tenants, keys, err);
}

void cn_api_drain(cn_api *api)
{
    cn_api_retire(api);
    atomic_store_explicit(&api->draining, true, memory_order_relaxed);
}

void cn_api_block(cn_api *api, const char *why)
{
    atomic_store_explicit(&api->blocked, why, memory_order_relaxed);
}

void cn_api_stall(cn_api *api, const char *thread)
{
    atomic_store_explicit(&api->stalled, thread, memory_order_relaxed);
}

const char *cn_api_blocked(const cn_api *api)
{
    return atomic_load_explicit(&api->blocked, memory_order_relaxed);
}

const char *cn_api_stalled(const cn_api *api)
{
    return atomic_load_explicit(&api->stalled, memory_order_relaxed);
}

bool cn_api_is_retiring(const cn_api *api)
{
    return atomic_load_explicit(&api->retiring, memory_order_relaxed);
}

unsigned cn_api_ready(const cn_api *api, cn_buf *out) { return cn_service_ready(api, out); }

unsigned cn_api_live(const cn_api *api, cn_buf *out) { return cn_service_live(api, out); }

void cn_api_abort(cn_api *api)
{
    atomic_store_explicit(&api->aborting, true, memory_order_relaxed);
    cn_wake_signal(api->options.wake);
}

uint32_t cn_api_request_count(const cn_api *api)
{
    return atomic_load_explicit(&api->request_count, memory_order_relaxed);
}
