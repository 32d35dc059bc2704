/* tests/unit/dataplane/http_world.h: cn_http between simulated clients and an api that echoes.
 *
 * Threads: one; both sides of the rings are called in turn.
 * Memory:  world_close frees everything and fails the test if a request was lost. */
#pragma once

#include <stdio.h>

#include "dataplane/http.h"
#include "dataplane/http_int.h"
#include "tests/unit/dataplane/sim_transport.h"

typedef struct world {
    cn_http *http;
    cn_limits limits;
    cn_metrics metrics;
    cn_wake net_wake, api_wake;
    uint64_t now_ns;
    uint32_t request_count, gone_count;          // messages that the api took
    cn_exchange newest;                          // of the newest request
    cn_exchange newest_gone;
} world;

static const uint64_t MS = 1000000;

static inline world *world_open(cn_limits limits, uint32_t messages, uint32_t answers)
{
    world *w = calloc(1, sizeof *w);
    w->limits = limits;
    w->now_ns = 1764000000ull * 1000 * MS;
    cn_metrics_init(&w->metrics);
    assert_int_equal(cn_wake_open(&w->net_wake, NULL), CN_OK);
    assert_int_equal(cn_wake_open(&w->api_wake, NULL), CN_OK);
    const cn_http_options options = {
        .transport = &sim_ops, .address = "unused", .limits = &w->limits,
        .clock = cn_clock_simulated(&w->now_ns), .metrics = &w->metrics,
        .net_wake = &w->net_wake, .api_wake = &w->api_wake,
    };
    assert_int_equal(cn_http_open_sized(&options, messages, answers, &w->http, NULL), CN_OK);
    return w;
}

static inline world *world_default(void)
{
    cn_limits limits = cn_limits_default();
    limits.connections = 16;
    return world_open(limits, 64, 256);
}

static inline void world_close(world *w)
{
    cn_http_close(w->http);
    cn_wake_close(&w->net_wake);
    cn_wake_close(&w->api_wake);
    free(w);
}

static inline void world_round(world *w) { cn_http_poll(w->http, 0); }

static inline void world_settle(world *w)
{
    for (int n = 0; n < 100 && cn_http_poll(w->http, 0); n++) continue;
}

// Says what a request is: the method, path, query, headers and body in one line each.
static inline void describe(const cn_http_request *r, cn_buf *out)
{
    cn_buf_add_format(out, "%s [%s] [%s] %s\n", r->method, r->path, r->query, r->peer);
    for (uint32_t i = 0; i < r->header_count; i++) {
        cn_buf_add_format(out, "%s=%s\n", r->headers[i].name, r->headers[i].value);
    }
    cn_buf_add_format(out, "body %zu: ", r->body_len);
    cn_buf_add(out, r->body, r->body_len);
    assert_int_equal(r->body[r->body_len], '\0');
}

static inline void answer_text(world *w, cn_exchange exchange, const char *text, size_t len)
{
    assert_true(cn_http_start(w->http, exchange, 200, "text/plain", (int64_t)len, ""));
    assert_int_equal(cn_http_send(w->http, exchange, text, len), len);
    assert_true(cn_http_end(w->http, exchange));
    cn_http_flush(w->http);
}

// Takes one message; frees the request unless `keep`. False if there was none.
static inline bool world_take(world *w, cn_http_message *m)
{
    if (!cn_http_next(w->http, m)) return false;
    if (m->kind == CN_HTTP_REQUEST) {
        assert_int_equal(m->request->exchange.index, m->exchange.index);
        assert_int_equal(m->request->exchange.generation, m->exchange.generation);
        w->newest = m->exchange;
        w->request_count++;
    } else {
        w->newest_gone = m->exchange;
        w->gone_count++;
    }
    return true;
}

// The echo: answers everything that is there.
static inline void world_echo(world *w)
{
    cn_http_message m;
    while (world_take(w, &m)) {
        if (m.kind != CN_HTTP_REQUEST) continue;
        cn_buf text;
        cn_buf_init(&text, 16 << 20);
        describe(m.request, &text);
        answer_text(w, m.exchange, text.data, text.len);
        cn_buf_close(&text);
        cn_http_request_free(w->http, m.request);
    }
}

// Net and api in turn until nothing happens.
static inline void world_run(world *w)
{
    for (int n = 0; n < 100; n++) {
        const bool did = cn_http_poll(w->http, 0);
        const uint32_t before = w->request_count;
        world_echo(w);
        if (!did && before == w->request_count) return;
    }
    fail_msg("the world does not come to rest");
}

// The exchange of one request that the api has taken and not answered.
static inline cn_exchange world_request(world *w, sim_client *c, const char *text)
{
    cn_http_message m;
    sim_text(c, text);
    world_settle(w);
    assert_true(world_take(w, &m));
    assert_int_equal(m.kind, CN_HTTP_REQUEST);
    cn_http_request_free(w->http, m.request);
    return m.exchange;
}

static inline uint64_t world_metric(const world *w, const _Atomic uint64_t *metric)
{
    (void)w;
    return cn_metrics_get(metric);
}

#define GET_X "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
