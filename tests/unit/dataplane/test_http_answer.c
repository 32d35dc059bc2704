#include "tests/unit/dataplane/http_world.h"

#define DATE "Date: Mon, 24 Nov 2025 16:00:00 GMT\r\n"

static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/event-stream\r\n"
                                  "Transfer-Encoding: chunked\r\nCache-Control: no-store\r\n\r\n";

static void start_stream(world *w, cn_exchange x)
{
    assert_true(cn_http_start(w->http, x, 200, "text/event-stream", CN_HTTP_LENGTH_STREAM,
                              "Cache-Control: no-store\r\n"));
}

// One write per round, one chunk per send: what the promise "one system call per token" rests on.
static void stream_leaves_in_one_write_per_round(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X);
    start_stream(w, x);
    assert_int_equal(cn_http_send(w->http, x, "first", 5), 5);
    world_round(w);
    assert_int_equal(c->write_count, 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(cn_http_send(w->http, x, "data: x\n\n", 9), 9);
        world_round(w);
        assert_int_equal(c->write_count, 2 + i);
    }
    assert_int_equal(cn_http_send(w->http, x, "a", 1), 1);
    assert_int_equal(cn_http_send(w->http, x, "bc", 2), 2);
    assert_true(cn_http_end(w->http, x));
    world_round(w);
    assert_int_equal(c->write_count, 12);
    cn_buf want;
    cn_buf_init(&want, 4096);
    cn_buf_add_format(&want, "%s5\r\nfirst\r\n", STREAM_HEAD);
    for (int i = 0; i < 10; i++) cn_buf_add_text(&want, "9\r\ndata: x\n\n\r\n");
    cn_buf_add_text(&want, "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n");
    cn_buf_add_char(&want, '\0');
    assert_string_equal(sim_output(c), want.data);
    cn_buf_close(&want);
    assert_int_equal(cn_metrics_get(&w->metrics.sent_bytes), c->output.len);
    assert_false(c->finished);
    world_close(w);
}

// A send of many messages is one chunk, also if net takes its messages in different rounds.
static void long_send_is_one_chunk(void **state)
{
    (void)state;
    enum { BYTES = 20000 };
    world *w = world_default();
    sim_client *c = sim_connect();
    char *text = malloc(BYTES);
    for (int i = 0; i < BYTES; i++) text[i] = (char)('a' + i % 26);
    const cn_exchange x = world_request(w, c, GET_X);
    start_stream(w, x);
    assert_int_equal(cn_http_send(w->http, x, text, BYTES), BYTES);
    assert_true(cn_http_end(w->http, x));
    world_round(w);
    const char *body = strstr(sim_output(c), "\r\n\r\n") + 4;
    assert_memory_equal(body, "4e20\r\n", 6);
    assert_memory_equal(body + 6, text, BYTES);
    assert_string_equal(body + 6 + BYTES, "\r\n0\r\n\r\n");
    free(text);
    world_close(w);
}

// HTTP/1.0 knows no chunks: its streams end with the connection, whatever it asked for.
static void http10_stream_ends_by_close(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    const cn_exchange x =
        world_request(w, c, "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    start_stream(w, x);
    assert_int_equal(cn_http_send(w->http, x, "ab", 2), 2);
    assert_int_equal(cn_http_send(w->http, x, "cd", 2), 2);
    assert_true(cn_http_end(w->http, x));
    world_settle(w);
    assert_string_equal(sim_output(c),
                        "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/event-stream\r\n"
                        "Connection: close\r\nCache-Control: no-store\r\n\r\nabcd");
    assert_true(c->finished);
    world_close(w);
}

static void connections_persist_as_asked(void **state)
{
    (void)state;
    static const struct {
        const char *request, *line;
        bool stays;
    } rows[] = {
        {"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", NULL, true},
        {"GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", NULL, true},
        {"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "Connection: close\r\n", false},
        {"GET /x HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n",
         "Connection: close\r\n", false},
        {"GET /x HTTP/1.0\r\n\r\n", "Connection: close\r\n", false},
        {"GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "Connection: keep-alive\r\n", true},
        {"GET /x HTTP/1.0\r\nConnection: x ,\tkeep-alive\t\r\n\r\n",
         "Connection: keep-alive\r\n", true},
        {"GET /x HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
         "Connection: close\r\n", false},
        {"GET /x HTTP/1.1\r\nHost: a\r\nConnection: closed, close x\r\n\r\n", NULL, true},
        {"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", NULL, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        world *w = world_default();
        sim_client *c = sim_connect();
        sim_text(c, rows[i].request);
        world_run(w);
        const char *line = strstr(sim_output(c), "\r\nConnection: ");
        if (rows[i].line) assert_memory_equal(line + 2, rows[i].line, strlen(rows[i].line));
        else assert_null(line);
        assert_int_equal(c->finished, !rows[i].stays);
        world_close(w);
    }
}

// HEAD gets the head that GET would get, and nothing after it.
static void head_gets_no_body(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    cn_exchange x = world_request(w, c, "HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    answer_text(w, x, "not seen", 8);
    world_settle(w);
    x = world_request(w, c, "HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    start_stream(w, x);
    assert_int_equal(cn_http_send(w->http, x, "not seen", 8), 8);
    assert_true(cn_http_end(w->http, x));
    world_settle(w);
    cn_buf want;
    cn_buf_init(&want, 4096);
    cn_buf_add_text(&want, "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/plain\r\n"
                           "Content-Length: 8\r\n\r\n");
    cn_buf_add(&want, STREAM_HEAD, sizeof STREAM_HEAD);
    assert_string_equal(sim_output(c), want.data);
    cn_buf_close(&want);
    world_close(w);
}

static void statuses_without_body(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    cn_exchange x = world_request(w, c, "OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(cn_http_start(w->http, x, 204, "", 0, "Allow: GET\r\n"));
    assert_true(cn_http_end(w->http, x));
    world_settle(w);
    assert_string_equal(sim_output(c), "HTTP/1.1 204 No Content\r\n" DATE "Allow: GET\r\n\r\n");
    world_close(w);
}

static void extra_of_any_length(void **state)
{
    (void)state;
    world *w = world_default();
    for (size_t len = 450; len < 2000; len += 7) {
        cn_buf extra;
        cn_buf_init(&extra, 4096);
        cn_buf_add_text(&extra, "X: ");
        while (extra.len < len - 2) cn_buf_add_char(&extra, 'e');
        cn_buf_add(&extra, "\r\n", 3);
        sim_client *c = sim_connect();
        const cn_exchange x = world_request(w, c, GET_X);
        assert_true(cn_http_start(w->http, x, 200, "a/b", 2, extra.data));
        assert_int_equal(cn_http_send(w->http, x, "ok", 2), 2);
        assert_true(cn_http_end(w->http, x));
        world_settle(w);
        const char *at = strstr(sim_output(c), "Content-Length: 2\r\n") + 19;
        assert_memory_equal(at, extra.data, len);
        assert_string_equal(at + len, "\r\nok");
        cn_buf_close(&extra);
        c->leaving = true;
        world_settle(w);
    }
    world_close(w);
}

static void date_follows_the_clock(void **state)
{
    (void)state;
    static const struct {
        uint64_t s;
        const char *date;
    } rows[] = {
        {0, "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"},
        {951782399, "Date: Mon, 28 Feb 2000 23:59:59 GMT\r\n"},
        {951782400, "Date: Tue, 29 Feb 2000 00:00:00 GMT\r\n"},
        {4102444799, "Date: Thu, 31 Dec 2099 23:59:59 GMT\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        world *w = world_default();
        w->now_ns = rows[i].s * 1000 * MS + 999 * MS;
        sim_client *c = sim_connect();
        sim_text(c, GET_X);
        world_run(w);
        assert_non_null(strstr(sim_output(c), rows[i].date));
        world_close(w);
    }
}

static void statuses_are_counted(void **state)
{
    (void)state;
    static const unsigned statuses[] = {200, 204, 400, 404, 499, 500, 503};
    world *w = world_default();
    sim_client *c = sim_connect();
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        const cn_exchange x = world_request(w, c, GET_X);
        assert_true(cn_http_start(w->http, x, statuses[i], "", 0, ""));
        assert_true(cn_http_end(w->http, x));
        world_settle(w);
    }
    assert_int_equal(cn_metrics_get(&w->metrics.http_2xx), 2);
    assert_int_equal(cn_metrics_get(&w->metrics.http_4xx), 3);
    assert_int_equal(cn_metrics_get(&w->metrics.http_5xx), 2);
    world_close(w);
}

// An answer that stops short of its length ends with a reset: the client must not take it for
// whole.
static void short_answer_is_reset(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X);
    assert_true(cn_http_start(w->http, x, 200, "a/b", 10, ""));
    assert_int_equal(cn_http_send(w->http, x, "half", 4), 4);
    assert_true(cn_http_end(w->http, x));
    world_settle(w);
    assert_true(c->aborted);
    world_close(w);
}

// ---- clients that read slowly ------------------------------------------------------------------

static void slow_reader_gets_everything_in_order(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    c->room = 0;
    const cn_exchange x = world_request(w, c, GET_X);
    start_stream(w, x);
    cn_buf want;
    cn_buf_init(&want, 1 << 20);
    cn_buf_add_text(&want, STREAM_HEAD);
    for (uint32_t i = 0; i < 3000; i++) {
        char text[32];
        const int len = snprintf(text, sizeof text, "[%u]", i);
        cn_buf_add_format(&want, "%x\r\n%s\r\n", len, text);
        assert_int_equal(cn_http_send(w->http, x, text, (size_t)len), len);
        c->room = i % 7 == 0 ? 50 : 0;
        world_round(w);
    }
    assert_true(cn_http_end(w->http, x));
    cn_buf_add(&want, "0\r\n\r\n", 6);
    while (c->output.len < want.len - 1) {       // without its terminator
        c->room = 1000;
        assert_true(cn_http_poll(w->http, 0));
    }
    assert_string_equal(sim_output(c), want.data);
    cn_buf_close(&want);
    assert_false(c->finished || c->aborted);
    world_close(w);
}

// The limit counts what the client of a stream has not read, at and above by one.
static void unread_stream_is_bounded(void **state)
{
    (void)state;
    cn_limits limits = cn_limits_default();
    limits.connections = 4;
    limits.http_output_bytes = 65536;
    world *w = world_open(limits, 64, 1024);
    char *text = calloc(1, 65537);
    for (size_t over = 0; over < 2; over++) {
        sim_client *c = sim_connect();
        cn_http_message m;
        c->room = 0;
        const cn_exchange x = world_request(w, c, GET_X);
        const size_t around_bytes = strlen("HTTP/1.1 200 OK\r\n" DATE "Content-Type: a/b\r\n"
                                           "Transfer-Encoding: chunked\r\n\r\n" "ffff\r\n" "\r\n");
        const size_t body_bytes = 65536 - around_bytes + over;
        assert_true(cn_http_start(w->http, x, 200, "a/b", CN_HTTP_LENGTH_STREAM, ""));
        assert_int_equal(cn_http_send(w->http, x, text, body_bytes), body_bytes);
        world_settle(w);
        assert_int_equal(c->aborted, over == 1);
        assert_int_equal(cn_metrics_get(&w->metrics.slow_readers), over);
        assert_int_equal(world_take(w, &m), over == 1);
        if (over) assert_int_equal(m.kind, CN_HTTP_GONE);
        c->leaving = true;
        world_settle(w);
        while (world_take(w, &m)) continue;
    }
    free(text);
    world_close(w);
}

// The api had all of a whole answer in memory, so its length is bounded already: its client may read
// it as slowly as it likes to begin with.
static void unread_whole_answer_is_kept(void **state)
{
    (void)state;
    enum { BYTES = 400000 };
    cn_limits limits = cn_limits_default();
    limits.connections = 4;
    limits.http_output_bytes = 65536;
    world *w = world_open(limits, 64, 1024);
    char *text = malloc(BYTES);
    memset(text, 'b', BYTES);
    sim_client *c = sim_connect();
    c->room = 0;
    const cn_exchange x = world_request(w, c, GET_X);
    answer_text(w, x, text, BYTES);
    world_settle(w);
    assert_false(c->aborted);
    c->room = SIZE_MAX;
    world_settle(w);
    assert_int_equal(strlen(strstr(sim_output(c), "\r\n\r\n") + 4), BYTES);
    free(text);
    world_close(w);
}

// An answer far above the limit reaches a client that reads, though it was made at once.
static void burst_does_not_drop_a_client_that_reads(void **state)
{
    (void)state;
    enum { BYTES = 400000 };
    cn_limits limits = cn_limits_default();
    limits.connections = 4;
    limits.http_output_bytes = 65536;
    world *w = world_open(limits, 64, 1024);
    char *text = malloc(BYTES);
    memset(text, 'b', BYTES);
    sim_client *c = sim_connect();
    const cn_exchange x = world_request(w, c, GET_X);
    answer_text(w, x, text, BYTES);
    world_settle(w);
    const char *body = strstr(sim_output(c), "\r\n\r\n") + 4;
    assert_int_equal(strlen(body), BYTES);
    assert_int_equal(cn_metrics_get(&w->metrics.slow_readers), 0);
    free(text);
    world_close(w);
}

// A last answer that is not read ends after the idle time; one that is read steadily does not.
static void unread_last_answer_is_given_up(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *dead = sim_connect(), *slow = sim_connect();
    dead->room = slow->room = 10;
    const cn_exchange x = world_request(w, dead, "GET /x HTTP/1.0\r\n\r\n");
    answer_text(w, x, "0123456789", 10);
    const cn_exchange y = world_request(w, slow, "GET /x HTTP/1.0\r\n\r\n");
    answer_text(w, y, "0123456789", 10);
    world_settle(w);
    for (int i = 0; i < 4; i++) {
        w->now_ns += (w->limits.http_idle_ms - 1) * MS;
        slow->room = 10;
        world_settle(w);
        assert_int_equal(dead->aborted, i > 0);
        assert_false(slow->aborted);
    }
    slow->room = 1000;
    world_settle(w);
    assert_true(slow->finished);
    assert_non_null(strstr(sim_output(slow), "\r\n\r\n0123456789"));
    assert_int_equal(cn_metrics_get(&w->metrics.slow_readers), 1);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_leaves_in_one_write_per_round),
        cmocka_unit_test(long_send_is_one_chunk),
        cmocka_unit_test(http10_stream_ends_by_close),
        cmocka_unit_test(connections_persist_as_asked),
        cmocka_unit_test(head_gets_no_body),
        cmocka_unit_test(statuses_without_body),
        cmocka_unit_test(extra_of_any_length),
        cmocka_unit_test(date_follows_the_clock),
        cmocka_unit_test(statuses_are_counted),
        cmocka_unit_test(short_answer_is_reset),
        cmocka_unit_test(slow_reader_gets_everything_in_order),
        cmocka_unit_test(unread_stream_is_bounded),
        cmocka_unit_test(unread_whole_answer_is_kept),
        cmocka_unit_test(burst_does_not_drop_a_client_that_reads),
        cmocka_unit_test(unread_last_answer_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
