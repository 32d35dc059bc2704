#include <pthread.h>

#include "tests/unit/dataplane/http_world.h"
#include "tests/unit/test_rng.h"

static void pass_ms(world *w, uint64_t ms)
{
    w->now_ns += ms * MS;
    world_settle(w);
}

// ---- deadlines ---------------------------------------------------------------------------------

static void idle_connections_are_closed_in_time(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *silent = sim_connect();
    world_settle(w);
    pass_ms(w, 1000);
    sim_client *busy = sim_connect();
    sim_text(busy, GET_X);
    world_run(w);
    pass_ms(w, w->limits.http_idle_ms - 1001);
    assert_false(silent->finished);
    pass_ms(w, 1);
    assert_true(silent->finished);               // 75 s after it was opened
    assert_int_equal(silent->output.len, 0);
    assert_false(busy->finished);
    pass_ms(w, 999);
    assert_false(busy->finished);
    pass_ms(w, 1);
    assert_true(busy->finished);                 // 75 s after its answer
    assert_int_equal(cn_metrics_get(&w->metrics.timeouts), 2);
    world_close(w);
}

// The time for a request counts from its first byte, however steadily it trickles in.
static void slow_requests_time_out(void **state)
{
    (void)state;
    static const char *const parts[] = {"G",
                                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n1"};
    for (int i = 0; i < 2; i++) {
        world *w = world_default();
        sim_client *c = sim_connect();
        sim_text(c, parts[i]);
        world_settle(w);
        for (uint64_t ms = 1000; ms < w->limits.http_receive_ms; ms += 1000) {
            pass_ms(w, 1000);
            sim_text(c, "E");
            assert_int_equal(c->output.len, 0);
        }
        pass_ms(w, 999);
        assert_int_equal(c->output.len, 0);
        pass_ms(w, 1);
        assert_ptr_equal(strstr(sim_output(c), "HTTP/1.1 408 Request Timeout\r\n"), sim_output(c));
        assert_non_null(strstr(sim_output(c), "http_receive_ms"));
        assert_true(c->finished);
        assert_int_equal(cn_metrics_get(&w->metrics.timeouts), 1);
        assert_int_equal(cn_metrics_get(&w->metrics.http_4xx), 1);
        world_close(w);
    }
}

// An answer may take as long as it wants: no deadline of the connection runs meanwhile.
static void answers_have_no_deadline(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X);
    pass_ms(w, 3600 * 1000);
    assert_false(c->finished || c->aborted);
    answer_text(w, x, "late", 4);
    world_settle(w);
    assert_non_null(strstr(sim_output(c), "\r\n\r\nlate"));
    world_close(w);
}

// Each is closed in the poll at which its time is over, neither before nor after.
static void deadlines_of_many_connections_are_kept_in_order(void **state)
{
    (void)state;
    enum { CLIENTS = 200 };
    cn_limits limits = cn_limits_default();
    limits.connections = CLIENTS;
    world *w = world_open(limits, 512, 512);
    test_rng rng = test_rng_open("http");
    sim_client *clients[CLIENTS];
    uint64_t due_ns[CLIENTS];                    // the model
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = sim_connect();
        world_settle(w);
        due_ns[i] = w->now_ns + limits.http_idle_ms * MS;
    }
    for (int step = 0; step < 4000; step++) {
        const uint32_t i = test_rng_below(&rng, CLIENTS);
        if (!clients[i]->finished) {
            sim_text(clients[i], GET_X);
            world_run(w);
            due_ns[i] = w->now_ns + limits.http_idle_ms * MS;
        }
        pass_ms(w, test_rng_below(&rng, 300));
        for (int k = 0; k < CLIENTS; k++) {
            assert_int_equal(clients[k]->finished, due_ns[k] <= w->now_ns);
        }
    }
    world_close(w);
}

// ---- clients that vanish -----------------------------------------------------------------------

static void gone_is_told_once_and_late_answers_are_dropped(void **state)
{
    (void)state;
    world *w = world_default();
    cn_http_message m;
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X);
    assert_true(cn_http_start(w->http, x, 200, "text/plain", CN_HTTP_LENGTH_STREAM, ""));
    assert_int_equal(cn_http_send(w->http, x, "one", 3), 3);
    world_settle(w);
    c->leaving = true;
    world_settle(w);
    assert_true(world_take(w, &m));
    assert_int_equal(m.kind, CN_HTTP_GONE);
    assert_int_equal(m.exchange.index, x.index);
    assert_int_equal(m.exchange.generation, x.generation);
    assert_false(world_take(w, &m));

    // The next client has the same place; what the api still sent belongs to nobody.
    sim_client *next = sim_connect();
    const cn_exchange y = world_request(w, next, GET_X);
    assert_int_equal(y.index, x.index);
    assert_int_not_equal(y.generation, x.generation);
    assert_int_equal(cn_http_send(w->http, x, "two", 3), 3);
    assert_true(cn_http_end(w->http, x));
    world_settle(w);
    assert_int_equal(next->output.len, 0);
    answer_text(w, y, "mine", 4);
    world_settle(w);
    assert_non_null(strstr(sim_output(next), "mine"));
    assert_null(strstr(sim_output(next), "two"));
    world_close(w);
}

// END is in the ring when the client goes: GONE comes for an exchange that the api has ended.
static void gone_may_cross_an_end(void **state)
{
    (void)state;
    world *w = world_default();
    cn_http_message m;
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X);
    answer_text(w, x, "done", 4);
    c->leaving = true;
    world_settle(w);
    assert_true(world_take(w, &m));
    assert_int_equal(m.kind, CN_HTTP_GONE);
    assert_int_equal(cn_http_connection_count(w->http), 0);
    world_close(w);
}

static void clients_that_leave_early_cost_nothing(void **state)
{
    (void)state;
    static const char *const parts[] = {"", "GET",
                                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
                                        "GET / HTTP/9.9\r\n"};
    world *w = world_default();
    cn_http_message m;
    for (int i = 0; i < 4; i++) {
        sim_client *c = sim_connect();
        sim_text(c, parts[i]);
        c->leaving = true;
        world_settle(w);
        assert_false(world_take(w, &m));
        assert_int_equal(cn_http_connection_count(w->http), 0);
    }
    world_close(w);
}

// ---- a full ring to the api --------------------------------------------------------------------

static void requests_wait_when_the_ring_is_full(void **state)
{
    (void)state;
    enum { CLIENTS = 16 };
    cn_limits limits = cn_limits_default();
    limits.connections = CLIENTS;
    world *w = world_open(limits, 4, 256);
    sim_client *clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = sim_connect();
        sim_text(clients[i], GET_X GET_X);
    }
    world_round(w);
    world_round(w);
    world_run(w);
    for (int i = 0; i < CLIENTS; i++) {
        const char *first = strstr(sim_output(clients[i]), "HTTP/1.1 200");
        assert_non_null(first);
        assert_non_null(strstr(first + 1, "HTTP/1.1 200"));
    }
    assert_int_equal(w->request_count, CLIENTS * 2);
    assert_true(cn_metrics_get(&w->metrics.ring_requests) > 0);
    world_close(w);
}

// The model of what the api has: exchanges that it took and that have neither ended nor gone.
enum { PLACES = 6 };

typedef struct live {
    cn_exchange exchange[PLACES];
    bool started[PLACES];
    uint32_t count, ended, gone;
} live;

static void live_remove(live *l, uint32_t i)
{
    l->count--;
    l->exchange[i] = l->exchange[l->count];
    l->started[i] = l->started[l->count];
}

// A place has one exchange at a time; a GONE is of the newest one, or of one that has ended.
static void live_take(live *l, world *w)
{
    cn_http_message m;
    uint32_t i = 0;
    if (!cn_http_next(w->http, &m)) return;
    while (i < l->count && l->exchange[i].index != m.exchange.index) i++;
    if (m.kind == CN_HTTP_REQUEST) {
        assert_int_equal(i, l->count);
        assert_true(l->count < PLACES);
        cn_http_request_free(w->http, m.request);
        l->started[l->count] = false;
        l->exchange[l->count++] = m.exchange;
    } else if (i < l->count) {
        assert_int_equal(l->exchange[i].generation, m.exchange.generation);
        live_remove(l, i);
        l->gone++;
    }
}

static void live_answer(live *l, world *w)
{
    if (!l->count) return;
    const cn_exchange x = l->exchange[0];
    if (!l->started[0]) {
        l->started[0] = cn_http_start(w->http, x, 200, "a/b", CN_HTTP_LENGTH_STREAM, "");
    } else if (cn_http_end(w->http, x)) {
        live_remove(l, 0);
        l->ended++;
    }
}

static void random_history(test_rng *rng, world *w, live *l)
{
    sim_client *clients[PLACES] = {0};
    for (int step = 0; step < 600; step++) {
        sim_client **c = &clients[test_rng_below(rng, PLACES)];
        switch (test_rng_below(rng, 6)) {
        case 0:
            if (!*c || (*c)->leaving) *c = sim_connect();
            sim_text(*c, GET_X);
            break;
        case 1:
            if (*c) (*c)->leaving = true;
            break;
        case 2: live_take(l, w); break;
        case 3: live_answer(l, w); break;
        default: world_round(w);
        }
    }
    for (int i = 0; i < PLACES; i++) {
        if (clients[i]) clients[i]->leaving = true;
    }
}

// While the ring is full, clients come, are half answered, and go; places are used again. Whatever
// the order, each exchange that reached the api ends once: by its END, or by a GONE after its
// REQUEST.
static void every_exchange_ends_in_every_history(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("http");
    for (int history = 0; history < 40; history++) {
        cn_limits limits = cn_limits_default();
        limits.connections = PLACES;
        world *w = world_open(limits, 2, 16);
        live l = {0};
        random_history(&rng, w, &l);
        assert_true(l.ended > 0 && l.gone > 0);
        for (int i = 0; i < 100; i++) {          // more than there can be messages
            world_round(w);
            live_take(&l, w);
        }
        assert_int_equal(l.count, 0);
        assert_int_equal(cn_http_connection_count(w->http), 0);
        world_close(w);
    }
}

// ---- drain -------------------------------------------------------------------------------------

static void drain_lets_answers_leave(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *idle = sim_connect(), *busy = sim_connect(), *streaming = sim_connect(),
               *sending = sim_connect(), *fresh = sim_connect();
    sim_text(idle, GET_X);
    world_run(w);
    const cn_exchange x = world_request(w, busy, GET_X);
    const cn_exchange y = world_request(w, streaming, GET_X);
    assert_true(cn_http_start(w->http, y, 200, "text/plain", CN_HTTP_LENGTH_STREAM, ""));
    sim_text(sending, "GET /x HT");
    world_settle(w);
    assert_int_equal(cn_http_connection_count(w->http), 5);

    cn_http_drain(w->http);
    sim_client *late = sim_connect();
    world_settle(w);
    assert_false(late->open);
    assert_true(idle->finished);
    assert_false(fresh->finished);                                       // its request may be on its way
    assert_int_equal(cn_http_connection_count(w->http), 4);
    w->now_ns += 1001 * MS;
    world_settle(w);
    assert_true(fresh->finished);
    assert_int_equal(cn_http_connection_count(w->http), 3);
    answer_text(w, x, "x", 1);
    assert_int_equal(cn_http_send(w->http, y, "y", 1), 1);
    assert_true(cn_http_end(w->http, y));
    sim_text(sending, "TP/1.1\r\nHost: a\r\n\r\n");
    world_run(w);
    assert_true(busy->finished && streaming->finished && sending->finished);
    assert_non_null(strstr(sim_output(busy), "\r\nConnection: close\r\n"));
    assert_non_null(strstr(sim_output(sending), "\r\nConnection: close\r\n"));
    assert_null(strstr(sim_output(streaming), "Connection: close"));     // its head had left
    assert_non_null(strstr(sim_output(streaming), "1\r\ny\r\n0\r\n\r\n"));
    assert_int_equal(cn_http_connection_count(w->http), 0);
    world_close(w);
}

// Before it stops accepting, a server that is to end sends its clients' pools elsewhere and loses nobody.
static void a_retiring_server_serves_and_says_close(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *idle = sim_connect(), *kept = sim_connect();
    sim_text(kept, GET_X);
    world_run(w);
    cn_http_retire(w->http);
    sim_client *late = sim_connect();
    sim_text(late, GET_X);
    sim_text(kept, GET_X);
    world_run(w);
    assert_int_equal(w->request_count, 3);
    assert_true(late->finished && kept->finished);
    assert_non_null(strstr(sim_output(late), "\r\nConnection: close\r\n"));
    assert_false(idle->finished);
    cn_http_drain(w->http);
    sim_text(idle, GET_X);               // was on its way
    world_run(w);
    assert_true(idle->finished);
    assert_int_equal(w->request_count, 4);
    world_close(w);
}

// ---- memory, threads, opening ------------------------------------------------------------------

// Requests that were received, waiting, in the ring or at the api when everything ends are freed:
// for LeakSanitizer.
static void close_frees_what_is_under_way(void **state)
{
    (void)state;
    cn_limits limits = cn_limits_default();
    limits.connections = 8;
    world *w = world_open(limits, 2, 16);
    for (int i = 0; i < 8; i++) sim_text(sim_connect(), i % 4 ? GET_X : "POST / HT");
    world_settle(w);
    cn_http_message m;
    assert_true(world_take(w, &m));
    cn_http_request_free(w->http, m.request);
    world_close(w);
}

static void open_passes_on_what_the_transport_says(void **state)
{
    (void)state;
    cn_limits limits = cn_limits_default();
    cn_metrics *metrics = calloc(1, sizeof *metrics);
    cn_wake wake;
    cn_err err;
    cn_http *http;
    assert_int_equal(cn_wake_open(&wake, NULL), CN_OK);
    const cn_http_options options = {
        .transport = &cn_transport_kernel_ops, .address = "nowhere", .limits = &limits,
        .clock = cn_clock_system(), .metrics = metrics, .net_wake = &wake, .api_wake = &wake};
    assert_int_equal(cn_http_open(&options, &http, &err), CN_E_INVALID);
    assert_null(http);
    assert_non_null(strstr(err.text, "\"nowhere\" has no port"));
    cn_wake_close(&wake);
    free(metrics);
}

// The api on a thread of its own, as in the appliance: for ThreadSanitizer, and for wake-ups that
// are lost, which would show as a test that never ends.
typedef struct api_thread {
    world *w;
    atomic_bool stop;
} api_thread;

static void *api_main(void *arg)
{
    api_thread *t = arg;
    while (!atomic_load(&t->stop)) {
        const uint32_t before = t->w->request_count;
        world_echo(t->w);
        if (before != t->w->request_count) continue;
        cn_wake_prepare(&t->w->api_wake);
        if (cn_ring_peek(t->w->http->messages)) cn_wake_cancel(&t->w->api_wake);
        else cn_wake_wait(&t->w->api_wake, 10 * MS);
    }
    return NULL;
}

static void two_threads(void **state)
{
    (void)state;
    enum { ROUNDS = 300, CLIENTS = 8 };
    world *w = world_default();
    api_thread t = {.w = w};
    pthread_t thread;
    sim_client *clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) clients[i] = sim_connect();
    assert_int_equal(pthread_create(&thread, NULL, api_main, &t), 0);
    for (int round = 1; round <= ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++) sim_text(clients[i], GET_X);
        while (cn_metrics_get(&w->metrics.http_2xx) < (uint64_t)round * CLIENTS) {
            cn_http_poll(w->http, 0);
        }
    }
    atomic_store(&t.stop, true);
    cn_wake_signal(&w->api_wake);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w->request_count, ROUNDS * CLIENTS);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_connections_are_closed_in_time),
        cmocka_unit_test(slow_requests_time_out),
        cmocka_unit_test(answers_have_no_deadline),
        cmocka_unit_test(deadlines_of_many_connections_are_kept_in_order),
        cmocka_unit_test(gone_is_told_once_and_late_answers_are_dropped),
        cmocka_unit_test(gone_may_cross_an_end),
        cmocka_unit_test(clients_that_leave_early_cost_nothing),
        cmocka_unit_test(requests_wait_when_the_ring_is_full),
        cmocka_unit_test(every_exchange_ends_in_every_history),
        cmocka_unit_test(drain_lets_answers_leave),
        cmocka_unit_test(a_retiring_server_serves_and_says_close),
        cmocka_unit_test(close_frees_what_is_under_way),
        cmocka_unit_test(open_passes_on_what_the_transport_says),
        cmocka_unit_test(two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
