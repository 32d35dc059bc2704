#include "dataplane/http.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "dataplane/http_int.h"

/* How it works. One round: wait in the transport, which calls http_conn for what came in and so
 * puts whole requests into the ring `messages`; end what is overdue; take everything out of the
 * ring `answers` into the outputs of the connections; flush the outputs that changed. Before it
 * waits it announces so and looks into `answers` once more, so no answer is slept through
 * (base/wake.h).
 *
 * An exchange is named by the place of its connection and a generation that goes on from one
 * request of that place to the next, also across connections. So a late answer finds a newer
 * generation, or no exchange, and is dropped; and an exchange ends for both sides either by END or
 * by GONE. The two may cross: the api ignores a GONE for what it has ended, and net drops what
 * comes after a GONE.
 *
 * When `messages` is full, requests wait in their connections and GONEs in their places, in one
 * queue in the order in which they came. GONE comes before the next request of the same place,
 * therefore a place needs room for one only. */

enum { MESSAGE_COUNT_MIN = 64, MESSAGE_COUNT_MAX = 65536, ANSWER_COUNT = 4096 };
static const uint64_t RETRY_NS = 1000000;        // until a full ring is tried again
static const uint64_t FRESH_NS = 1000000000;     // for the request of a connection that was just made
static const uint32_t NONE = (uint32_t)CN_HTTP_NONE;

// ---- deadlines ---------------------------------------------------------------------------------

uint64_t cn_http_now(cn_http *http)
{
    if (!http->now_ns) http->now_ns = cn_clock_now_ns(&http->clock);
    return http->now_ns;
}

void cn_http_timer_set(cn_http *http, cn_http_conn *c, cn_http_timer timer)
{
    const uint32_t index = (uint32_t)(c - http->conns);
    if (c->timer != CN_HTTP_NO_TIMER) {
        *(c->timer_prev == NONE ? &http->timer_first[c->timer]
                                : &http->conns[c->timer_prev].timer_next) = c->timer_next;
        *(c->timer_next == NONE ? &http->timer_last[c->timer]
                                : &http->conns[c->timer_next].timer_prev) = c->timer_prev;
    }
    c->timer = (uint8_t)timer;
    if (timer == CN_HTTP_NO_TIMER) return;
    c->deadline_ns = cn_http_now(http) + http->timer_ns[timer];
    c->timer_prev = http->timer_last[timer];
    c->timer_next = NONE;
    *(c->timer_prev == NONE ? &http->timer_first[timer] : &http->conns[c->timer_prev].timer_next) =
        index;
    http->timer_last[timer] = index;
}

static cn_http_conn *overdue(cn_http *http, cn_http_timer timer)
{
    const uint32_t first = http->timer_first[timer];
    if (first == NONE || http->conns[first].deadline_ns > cn_http_now(http)) return NULL;
    return &http->conns[first];
}

static void finish(cn_http *http, cn_http_conn *c)
{
    const cn_conn conn = c->conn;
    cn_http_forget(http, c);
    http->ops->finish(http->transport, conn);
}

static bool expire(cn_http *http)
{
    bool did = false;
    cn_http_conn *c;
    while ((c = overdue(http, CN_HTTP_RECEIVE))) {
        cn_err err;
        cn_err_set(&err, CN_E_TIMEOUT,
                   "request: not whole after %llu ms, the limit http_receive_ms",
                   (unsigned long long)http->limits->http_receive_ms);
        cn_metrics_add(&http->metrics->timeouts, 1);
        cn_http_refuse(http, c, &err);
        did = true;
    }
    while ((c = overdue(http, CN_HTTP_FRESH))) {
        finish(http, c);
        did = true;
    }
    while ((c = overdue(http, CN_HTTP_KEEP))) {
        const bool reads = cn_http_unsent(c) == 0;
        cn_metrics_add(reads ? &http->metrics->timeouts : &http->metrics->slow_readers, 1);
        if (reads) finish(http, c);
        else cn_http_drop(http, c);
        did = true;
    }
    return did;
}

// ---- requests ----------------------------------------------------------------------------------

cn_http_request *cn_http_request_take(cn_http *http)
{
    cn_http_request *request;
    if (http->spare_count) return http->spare[--http->spare_count];
    if (cn_ring_take(http->spent, &request)) return request;
    request = malloc(sizeof *request);
    if (request) cn_arena_init(&request->arena, http->limits->request_bytes);
    return request;
}

void cn_http_request_put(cn_http *http, cn_http_request *request)
{
    cn_arena_reset(&request->arena);
    if (http->spare_count < CN_HTTP_SPARE_MAX &&
        request->arena.total_bytes <= CN_HTTP_SPARE_BYTES_MAX) {
        http->spare[http->spare_count++] = request;
        return;
    }
    cn_arena_close(&request->arena);
    free(request);
}

// ---- messages to the api -----------------------------------------------------------------------

static bool push(cn_http *http, const cn_http_message *message)
{
    if (cn_ring_push(http->messages, message)) return true;
    cn_metrics_add(&http->metrics->ring_requests, 1);
    return false;
}

static bool push_request(cn_http *http, cn_http_conn *c)
{
    const cn_exchange exchange = {c->conn.index, c->exchange_generation + 1};
    const cn_http_message message = {CN_HTTP_REQUEST, exchange, c->request};
    c->request->exchange = exchange;
    if (!push(http, &message)) return false;
    c->exchange_generation = exchange.generation;
    c->request = NULL;
    c->status = 0;
    c->state = CN_HTTP_ANSWERING;
    http->api_told = true;
    return true;
}

static bool push_gone(cn_http *http, const cn_http_conn *c, uint32_t generation)
{
    const cn_http_message message = {CN_HTTP_GONE, {c->conn.index, generation}, NULL};
    if (!push(http, &message)) return false;
    http->api_told = true;
    return true;
}

static void enqueue(cn_http *http, cn_http_conn *c)
{
    if (c->queued) return;
    const uint32_t index = (uint32_t)(c - http->conns);
    c->queued = true;
    c->queue_next = NONE;
    *(http->queue_first == NONE ? &http->queue_first : &http->conns[http->queue_last].queue_next) =
        index;
    http->queue_last = index;
}

static bool drain_queue(cn_http *http)
{
    bool did = false;
    while (http->queue_first != NONE) {
        cn_http_conn *c = &http->conns[http->queue_first];
        if (c->gone_waiting) {
            if (!push_gone(http, c, c->gone_generation)) return did;
            c->gone_waiting = false;
        }
        if (c->state == CN_HTTP_WAITING && !push_request(http, c)) return did;
        http->queue_first = c->queue_next;
        c->queued = false;
        did = true;
    }
    return did;
}

void cn_http_dispatch(cn_http *http, cn_http_conn *c)
{
    c->state = CN_HTTP_WAITING;
    if (http->queue_first == NONE && push_request(http, c)) return;
    enqueue(http, c);
}

static void tell_gone(cn_http *http, cn_http_conn *c)
{
    if (http->queue_first == NONE && push_gone(http, c, c->exchange_generation)) return;
    CN_ASSERT(!c->gone_waiting);
    c->gone_waiting = true;
    c->gone_generation = c->exchange_generation;
    enqueue(http, c);
}

void cn_http_forget(cn_http *http, cn_http_conn *c)
{
    CN_ASSERT(c->state != CN_HTTP_CLOSED);
    if (c->state == CN_HTTP_ANSWERING) tell_gone(http, c);
    if (c->request) cn_http_request_put(http, c->request);
    c->request = NULL;
    cn_http_timer_set(http, c, CN_HTTP_NO_TIMER);
    cn_buf_close(&c->output);
    c->output_sent = 0;
    c->write_blocked = false;
    c->state = CN_HTTP_CLOSED;
    http->open_count--;
    cn_metrics_set(&http->metrics->connections, http->open_count);
}

void cn_http_drop(cn_http *http, cn_http_conn *c)
{
    const cn_conn conn = c->conn;
    cn_http_forget(http, c);
    http->ops->abort(http->transport, conn);
}

// ---- life --------------------------------------------------------------------------------------

static cn_code open_rings(cn_http *http, uint32_t message_count, uint32_t answer_count)
{
    cn_code code = cn_ring_open(message_count, sizeof(cn_http_message), &http->messages);
    if (!code) code = cn_ring_open(answer_count, sizeof(cn_http_answer), &http->answers);
    if (!code) {
        code = cn_ring_open(CN_HTTP_SPARE_MAX, sizeof(cn_http_request *), &http->spent);
    }
    return code;
}

static cn_code open_transport(cn_http *http, const cn_http_options *options, cn_err *err)
{
    const cn_transport_options to = {
        .address = options->address,
        .connection_max = http->conn_max,
        .handler = {http, cn_http_opened, cn_http_received, cn_http_writable, cn_http_closed},
        .wake = options->net_wake,
    };
    return http->ops->open(&to, &http->transport, err);
}

static const cn_networks *some(const cn_networks *networks)
{
    return networks && networks->count ? networks : NULL;
}

cn_code cn_http_open_sized(const cn_http_options *options, uint32_t message_count,
                           uint32_t answer_count, cn_http **out, cn_err *err)
{
    *out = NULL;
    cn_http *http = aligned_alloc(_Alignof(cn_http), sizeof *http);
    if (!http) return cn_err_set(err, CN_E_MEMORY, "http: no memory");
    memset(http, 0, sizeof *http);
    http->ops = options->transport;
    http->limits = options->limits;
    http->clock = options->clock;
    http->metrics = options->metrics;
    http->net_wake = options->net_wake;
    http->api_wake = options->api_wake;
    http->proxy_from = some(options->proxy_from);
    http->forwarded_from = some(options->forwarded_from);
    http->conn_max = (uint32_t)options->limits->connections;
    http->timer_ns[CN_HTTP_RECEIVE] = options->limits->http_receive_ms * 1000000;
    http->timer_ns[CN_HTTP_KEEP] = options->limits->http_idle_ms * 1000000;
    http->timer_ns[CN_HTTP_FRESH] = FRESH_NS;
    http->queue_first = NONE;
    for (int i = 0; i < CN_HTTP_TIMERS; i++) http->timer_first[i] = http->timer_last[i] = NONE;
    http->conns = calloc(http->conn_max, sizeof *http->conns);
    http->dirty = calloc(http->conn_max, sizeof *http->dirty);
    cn_code code = open_rings(http, message_count, answer_count);
    if (code || !http->conns || !http->dirty) {
        code = cn_err_set(err, CN_E_MEMORY, "http: no memory for %u connections", http->conn_max);
    } else {
        code = open_transport(http, options, err);
    }
    if (code) {
        cn_http_close(http);
        return code;
    }
    *out = http;
    return CN_OK;
}

cn_code cn_http_open(const cn_http_options *options, cn_http **out, cn_err *err)
{
    // Two messages for each connection, a request and its GONE; beyond, they wait in their places.
    uint64_t messages = options->limits->connections * 2;
    if (messages < MESSAGE_COUNT_MIN) messages = MESSAGE_COUNT_MIN;
    if (messages > MESSAGE_COUNT_MAX) messages = MESSAGE_COUNT_MAX;
    return cn_http_open_sized(options, (uint32_t)messages, ANSWER_COUNT, out, err);
}

static void free_request(cn_http_request *request)
{
    if (!request) return;
    cn_arena_close(&request->arena);
    free(request);
}

void cn_http_close(cn_http *http)
{
    if (!http) return;
    cn_http_message message;
    cn_http_request *request;
    if (http->transport) http->ops->close(http->transport);
    for (uint32_t i = 0; http->conns && i < http->conn_max; i++) {
        if (http->conns[i].state == CN_HTTP_CLOSED) continue;
        free_request(http->conns[i].request);
        cn_buf_close(&http->conns[i].output);
    }
    while (http->messages && cn_ring_take(http->messages, &message)) free_request(message.request);
    while (http->spent && cn_ring_take(http->spent, &request)) free_request(request);
    while (http->spare_count) free_request(http->spare[--http->spare_count]);
    cn_ring_close(http->messages);
    cn_ring_close(http->answers);
    cn_ring_close(http->spent);
    free(http->conns);
    free(http->dirty);
    free(http);
}

const char *cn_http_address(const cn_http *http) { return http->ops->address(http->transport); }

uint32_t cn_http_connection_count(const cn_http *http) { return http->open_count; }

void cn_http_retire(cn_http *http) { http->retiring = true; }

void cn_http_drain(cn_http *http)
{
    if (http->draining) return;
    http->draining = http->retiring = true;
    http->ops->stop_listening(http->transport);
    uint32_t index = http->timer_first[CN_HTTP_KEEP];
    while (index != NONE) {
        cn_http_conn *c = &http->conns[index];
        index = c->timer_next;
        const bool is_idle = c->state == CN_HTTP_IDLE || c->state == CN_HTTP_PROXY;
        if (!is_idle || cn_http_unsent(c)) continue;
        if (c->is_fresh) cn_http_timer_set(http, c, CN_HTTP_FRESH);
        else finish(http, c);
    }
}

// ---- the round ---------------------------------------------------------------------------------

static uint64_t bounded_by_deadlines(cn_http *http, uint64_t timeout_ns)
{
    if (timeout_ns == 0) return 0;
    http->now_ns = 0;
    for (int i = CN_HTTP_RECEIVE; i < CN_HTTP_TIMERS; i++) {
        if (http->timer_first[i] == NONE) continue;
        const uint64_t at_ns = http->conns[http->timer_first[i]].deadline_ns;
        const uint64_t left_ns = at_ns > cn_http_now(http) ? at_ns - cn_http_now(http) : 0;
        if (left_ns < timeout_ns) timeout_ns = left_ns;
    }
    if (http->queue_first != NONE && RETRY_NS < timeout_ns) timeout_ns = RETRY_NS;
    return timeout_ns;
}

static bool poll_transport(cn_http *http, uint64_t timeout_ns)
{
    timeout_ns = bounded_by_deadlines(http, timeout_ns);
    http->now_ns = 0;                // the time may have passed when something happens
    if (timeout_ns == 0) return http->ops->poll(http->transport, 0);
    cn_wake_prepare(http->net_wake);
    if (cn_ring_peek(http->answers)) timeout_ns = 0;
    const bool did = http->ops->poll(http->transport, timeout_ns);
    cn_wake_cancel(http->net_wake);
    return did;
}

static bool take_answers(cn_http *http)
{
    uint32_t count = 0;              // bounded: an api that never stops must not starve the others
    const cn_http_answer *answer;
    for (; count < ANSWER_COUNT && (answer = cn_ring_peek(http->answers)); count++) {
        cn_http_answer_take(http, answer);
        cn_ring_pop(http->answers);
    }
    return count > 0;
}

static bool flush_outputs(cn_http *http)
{
    const uint32_t count = http->dirty_count;
    for (uint32_t i = 0; i < count; i++) {
        cn_http_conn *c = &http->conns[http->dirty[i]];
        c->dirty = false;
        if (c->state != CN_HTTP_CLOSED) cn_http_output_flush(http, c);
    }
    http->dirty_count = 0;
    return count > 0;
}

bool cn_http_poll(cn_http *http, uint64_t timeout_ns)
{
    bool did = poll_transport(http, timeout_ns);
    did |= drain_queue(http);
    if (http->api_told) cn_wake_signal(http->api_wake);
    http->api_told = false;
    did |= expire(http);
    did |= take_answers(http);
    did |= flush_outputs(http);
    // Answers may have let requests through that waited behind them, and drops may have ended some.
    if (http->api_told) cn_wake_signal(http->api_wake);
    http->api_told = false;
    return did;
}
