#include "tests/unit/dataplane/http_world.h"

static world *small_world(uint32_t answers)
{
    cn_limits limits = cn_limits_default();
    limits.connections = 8;
    return world_open(limits, 64, answers);
}

static bool signalled(cn_wake *wake)
{
    return atomic_load(&wake->asleep) == 0;
}

// A full ring refuses whole calls or takes a prefix, wakes the net thread, and loses nothing.
static void full_ring_pushes_back(void **state)
{
    (void)state;
    world *w = small_world(4);
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X);
    char text[5000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i % 23);

    assert_true(cn_http_start(w->http, x, 200, "a/b", CN_HTTP_LENGTH_STREAM, ""));
    size_t taken = cn_http_send(w->http, x, text, sizeof text);
    assert_int_equal(taken, 3 * CN_HTTP_ANSWER_BYTES);
    cn_wake_prepare(&w->net_wake);
    assert_int_equal(cn_http_send(w->http, x, text + taken, sizeof text - taken), 0);
    assert_true(signalled(&w->net_wake));
    assert_false(cn_http_end(w->http, x));
    assert_false(cn_http_start(w->http, x, 200, "a/b", 0, ""));
    assert_int_equal(cn_metrics_get(&w->metrics.ring_answers), 3);
    int calls = 1;
    while (taken < sizeof text) {
        world_round(w);
        taken += cn_http_send(w->http, x, text + taken, sizeof text - taken);
        calls++;
    }
    while (!cn_http_end(w->http, x)) world_round(w);
    world_settle(w);

    // As many chunks as calls that took something, and together the text.
    const char *at = strstr(sim_output(c), "\r\n\r\n") + 4;
    for (size_t seen = 0; seen < sizeof text; calls--) {
        char *end;
        const size_t size = strtoul(at, &end, 16);
        assert_memory_equal(end + 2, text + seen, size);
        seen += size;
        at = end + 2 + size + 2;
    }
    assert_int_equal(calls, 0);
    assert_string_equal(at, "0\r\n\r\n");
    world_close(w);
}

static void flush_wakes_only_after_something_was_sent(void **state)
{
    (void)state;
    world *w = small_world(64);
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X);
    cn_wake_prepare(&w->net_wake);
    cn_http_flush(w->http);
    assert_false(signalled(&w->net_wake));
    assert_true(cn_http_start(w->http, x, 200, "a/b", 0, ""));
    assert_false(signalled(&w->net_wake));
    cn_http_flush(w->http);
    assert_true(signalled(&w->net_wake));
    cn_wake_cancel(&w->net_wake);
    world_close(w);
}

static void requests_wake_the_api(void **state)
{
    (void)state;
    world *w = small_world(64);
    sim_client *c = sim_connect();
    cn_wake_prepare(&w->api_wake);
    sim_text(c, "GET /x HTTP/1.1\r\n");
    world_round(w);
    assert_false(signalled(&w->api_wake));
    sim_text(c, "Host: a\r\n\r\n");
    world_round(w);
    assert_true(signalled(&w->api_wake));
    cn_wake_prepare(&w->api_wake);
    c->leaving = true;
    world_round(w);
    assert_true(signalled(&w->api_wake));        // GONE
    cn_wake_cancel(&w->api_wake);
    world_close(w);
}

// The next request of a pipeline follows an answer within the round, and the api is woken for it.
static void pipelined_requests_wake_the_api(void **state)
{
    (void)state;
    world *w = small_world(64);
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X GET_X);
    cn_http_message m;
    assert_false(world_take(w, &m));             // one of a connection is with the api at a time
    answer_text(w, x, "a", 1);
    cn_wake_prepare(&w->api_wake);
    world_round(w);
    assert_true(signalled(&w->api_wake));
    assert_true(world_take(w, &m));
    cn_http_request_free(w->http, m.request);
    world_close(w);
}

static void headers_are_found_by_lower_case_name(void **state)
{
    (void)state;
    world *w = small_world(64);
    sim_client *c = sim_connect();
    cn_http_message m;
    sim_text(c, "GET /x HTTP/1.1\r\nHost: a\r\nAUTHORIZATION: Bearer  x \r\n"
                "X-Two: 1\r\nx-two: 2\r\n\r\n");
    world_settle(w);
    assert_true(world_take(w, &m));
    assert_string_equal(cn_http_request_header(m.request, "authorization"), "Bearer  x");
    assert_string_equal(cn_http_request_header(m.request, "x-two"), "1");
    assert_null(cn_http_request_header(m.request, "x-three"));
    assert_null(cn_http_request_header(m.request, "Authorization"));
    cn_http_request_free(w->http, m.request);
    cn_http_request_free(w->http, NULL);
    world_close(w);
}

// The same few requests and arenas serve for ever: steady state allocates nothing.
static void requests_are_used_again(void **state)
{
    (void)state;
    world *w = small_world(64);
    sim_client *c = sim_connect();
    const cn_http_request *seen = NULL;
    const void *block = NULL;
    for (int i = 0; i < 100; i++) {
        cn_http_message m;
        sim_text(c, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        world_settle(w);
        assert_true(world_take(w, &m));
        if (i) assert_ptr_equal(m.request, seen);
        if (i) assert_ptr_equal(m.request->arena.head, block);
        seen = m.request;
        block = m.request->arena.head;
        answer_text(w, m.exchange, "ok", 2);
        cn_http_request_free(w->http, m.request);
        world_settle(w);
    }
    // One that needed much gives its memory back.
    cn_http_message m;
    sim_text(c, GET_X);
    world_settle(w);
    assert_true(world_take(w, &m));
    assert_non_null(cn_arena_take(&m.request->arena, CN_HTTP_SPARE_BYTES_MAX + 1));
    cn_http_request_free(w->http, m.request);
    assert_null(cn_ring_peek(w->http->spent));
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_ring_pushes_back),
        cmocka_unit_test(flush_wakes_only_after_something_was_sent),
        cmocka_unit_test(requests_wake_the_api),
        cmocka_unit_test(pipelined_requests_wake_the_api),
        cmocka_unit_test(headers_are_found_by_lower_case_name),
        cmocka_unit_test(requests_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
