#include "tests/unit/dataplane/http_world.h"

// What a client sends, in every division into pieces, is the same requests. Catches every parser
// state that is lost between two reads, and every byte counted twice.
static const char pipeline[] =
    "\r\nGET /a?b=c&d HTTP/1.1\r\nHost: example.org:80\r\nX-Empty:\r\nX-Space: \t a  b \t\r\n\r\n"
    "POST /v1/chat/completions HTTP/1.1\r\nhost: [::1]\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nyo"
    "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
    "5;name=\"va;lue\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nTrailer: dropped\r\n\r\n"
    "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    "GET http://other.example/abs?q HTTP/1.1\r\nHost: a\r\n\r\n"
    "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n"
    "GET http://other.example HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    "DELETE /last%2Fone HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

static const char *const pipeline_bodies[] = {
    "GET [/a] [b=c&d] 192.0.2.7:40001\nhost=example.org:80\nx-empty=\nx-space=a  b\nbody 0: ",
    "POST [/v1/chat/completions] [] 192.0.2.7:40001\nhost=[::1]\ncontent-length=11\n"
    "body 11: hello\r\n\r\nyo",
    "POST [/chunks] [] 192.0.2.7:40001\nhost=a\ntransfer-encoding=Chunked\n"
    "body 15: hello0123456789",
    "POST [/none] [] 192.0.2.7:40001\nhost=a\ncontent-length=0\nbody 0: ",
    "GET [/abs] [q] 192.0.2.7:40001\nhost=other.example\nbody 0: ",
    "OPTIONS [*] [] 192.0.2.7:40001\nhost=\nbody 0: ",
    "GET [/] [] 192.0.2.7:40001\nconnection=keep-alive\nbody 0: ",
    "DELETE [/last%2Fone] [] 192.0.2.7:40001\nhost=a\nconnection=close\nbody 0: ",
};
enum { PIPELINE_COUNT = sizeof pipeline_bodies / sizeof *pipeline_bodies };

static void expected_output(world *w, cn_buf *out)
{
    (void)w;
    for (int i = 0; i < PIPELINE_COUNT; i++) {
        cn_buf_add_format(out, "HTTP/1.1 200 OK\r\nDate: Mon, 24 Nov 2025 16:00:00 GMT\r\n"
                               "Content-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s",
                          strlen(pipeline_bodies[i]),
                          i == PIPELINE_COUNT - 1 ? "Connection: close\r\n"
                          : i == 6                ? "Connection: keep-alive\r\n"
                                                  : "",
                          pipeline_bodies[i]);
    }
    cn_buf_add_char(out, '\0');
}

static void check_pipeline(world *w, sim_client *c)
{
    cn_buf want;
    cn_buf_init(&want, 1 << 20);
    expected_output(w, &want);
    assert_string_equal(sim_output(c), want.data);
    assert_true(c->finished);
    cn_buf_close(&want);
}

static void pipeline_in_two_pieces(void **state)
{
    (void)state;
    world *w = world_default();
    for (size_t cut = 0; cut < sizeof pipeline - 1; cut++) {
        sim_client *c = sim_connect();
        sim_send(c, pipeline, cut);
        if (cut % 2) world_run(w);
        else world_round(w);         // the api has not answered yet when the rest comes
        sim_send(c, pipeline + cut, sizeof pipeline - 1 - cut);
        world_run(w);
        check_pipeline(w, c);
    }
    world_close(w);
}

static void pipeline_in_small_pieces(void **state)
{
    (void)state;
    world *w = world_default();
    for (size_t piece = 1; piece < 40; piece++) {
        sim_client *c = sim_connect();
        c->piece_bytes = piece;
        sim_text(c, pipeline);
        world_run(w);
        check_pipeline(w, c);
    }
    world_close(w);
}

#define LINE "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define TEXT(text) text, sizeof text - 1

// Each is refused with this status, whole or byte by byte, and never reaches the api.
static const struct malformed {
    unsigned status;
    const char *bytes;
    size_t len;
} malformed[] = {
    // request line
    {400, TEXT("GET /\r\n")},
    {400, TEXT("GET / \r\n")},
    {400, TEXT("GET\r\n\r\n")},
    {400, TEXT(" GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET  / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /  HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1 \r\nHost: a\r\n\r\n")},
    {400, TEXT("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET / http/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.10\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET / HTTP/11\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET / HTTP/1,1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET / ICY/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("G@T / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},            // TLS
    {400, TEXT("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n")},
    {400, TEXT("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {405, TEXT("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n")},
    {405, TEXT("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n")},
    {505, TEXT("GET / HTTP/2.0\r\nHost: a\r\n\r\n")},
    {505, TEXT("GET / HTTP/0.9\r\nHost: a\r\n\r\n")},
    {505, TEXT("GET / HTTP/1.2\r\nHost: a\r\n\r\n")},
    {505, TEXT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
    // request target
    {400, TEXT("GET x HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET * HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET http://u:p@a/x HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET /?% HTTP/1.1\r\nHost: a\r\n\r\n")},
    // line ends
    {400, TEXT("GET / HTTP/1.1\nHost: a\n\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a\r\n\n")},
    {400, TEXT("GET / HTTP/1.1\rHost: a\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a\r\n\rX")},
    // header lines
    {400, TEXT(LINE " folded: b\r\n\r\n")},
    {400, TEXT(LINE "X: a\r\n b\r\n\r\n")},
    {400, TEXT(LINE "X: a\r\n\tb\r\n\r\n")},
    {400, TEXT(LINE "X : a\r\n\r\n")},
    {400, TEXT(LINE "X\t: a\r\n\r\n")},
    {400, TEXT(LINE "X Y: a\r\n\r\n")},
    {400, TEXT(LINE ": a\r\n\r\n")},
    {400, TEXT(LINE "X\r\n\r\n")},
    {400, TEXT(LINE "X(): a\r\n\r\n")},
    {400, TEXT(LINE "X\xe4: a\r\n\r\n")},
    {400, TEXT(LINE "X\0: a\r\n\r\n")},
    {400, TEXT(LINE "X: a\0b\r\n\r\n")},
    {400, TEXT(LINE "X: a\x01\r\n\r\n")},
    {400, TEXT(LINE "X: a\x0b\r\n\r\n")},
    {400, TEXT(LINE "X: a\x7f\r\n\r\n")},
    // Host
    {400, TEXT("GET / HTTP/1.1\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a,b\x80\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n")},
    {400, TEXT("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n")},
    // body length
    {400, TEXT(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")},
    {400, TEXT(POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n")},
    {400, TEXT(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n")},
    {400, TEXT(POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\n")},
    {400, TEXT(POST "Content-Length: 3, 3\r\n\r\n")},
    {400, TEXT(POST "Content-Length: 3 3\r\n\r\n")},
    {400, TEXT(POST "Content-Length: +3\r\n\r\n")},
    {400, TEXT(POST "Content-Length: -3\r\n\r\n")},
    {400, TEXT(POST "Content-Length: 0x3\r\n\r\n")},
    {400, TEXT(POST "Content-Length: 3a\r\n\r\n")},
    {400, TEXT(POST "Content-Length: \"3\"\r\n\r\n")},
    {400, TEXT(POST "Content-Length:\r\n\r\n")},
    {400, TEXT(POST "Content-Length: 18446744073709551617\r\n\r\n")},
    {400, TEXT(POST "Content-Length: 99999999999999999999999999\r\n\r\n")},
    {413, TEXT(POST "Content-Length: 18446744073709551\r\n\r\n")},
    {413, TEXT(POST "Content-Length: 8388609\r\n\r\n")},
    {413, TEXT(POST "Content-Length: 8388609\r\nExpect: 100-continue\r\n\r\n")},
    {400, TEXT("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")},
    {400, TEXT(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")},
    {501, TEXT(POST "Transfer-Encoding: gzip\r\n\r\n")},
    {501, TEXT(POST "Transfer-Encoding: gzip, chunked\r\n\r\n")},
    {501, TEXT(POST "Transfer-Encoding: chunked, identity\r\n\r\n")},
    {501, TEXT(POST "Transfer-Encoding: chunked, chunked\r\n\r\n")},
    {501, TEXT(POST "Transfer-Encoding: chunked;q=1\r\n\r\n")},
    {501, TEXT(POST "Transfer-Encoding: xchunked\r\n\r\n")},
    {501, TEXT(POST "Transfer-Encoding: identity\r\n\r\n")},
    {501, TEXT(POST "Transfer-Encoding:\r\n\r\n")},
    {417, TEXT(POST "Expect: 200-ok\r\nContent-Length: 3\r\n\r\n")},
    {417, TEXT(POST "Expect: 100-continue, x\r\nContent-Length: 3\r\n\r\n")},
    {417, TEXT(POST "Expect:\r\nContent-Length: 3\r\n\r\n")},
    // chunks
    {400, TEXT(CHUNKED "g\r\n")},
    {400, TEXT(CHUNKED "\r\n")},
    {400, TEXT(CHUNKED ";x\r\n")},
    {400, TEXT(CHUNKED "0x3\r\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "-3\r\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "+3\r\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED " 3\r\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3 \r\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3 ;x\r\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3\rabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3;a\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3;a\0\r\nabc\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3\r\nabcd\r\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3\r\nabc0\r\n\r\n")},
    {400, TEXT(CHUNKED "3\r\nabc\n0\r\n\r\n")},
    {400, TEXT(CHUNKED "3\r\nabc\rx")},
    {400, TEXT(CHUNKED "00000000000000003\r\nabc\r\n0\r\n\r\n")},
    {413, TEXT(CHUNKED "ffffffffffffffff\r\nabc\r\n0\r\n\r\n")},
    {413, TEXT(CHUNKED "3\r\nabc\r\nfffffffffffffffd\r\n")},
    {413, TEXT(CHUNKED "800001\r\n")},
    {400, TEXT(CHUNKED "0\r\nX\r\n\r\n")},
    {400, TEXT(CHUNKED "0\r\n X: y\r\n\r\n")},
    {400, TEXT(CHUNKED "0\r\nX : y\r\n\r\n")},
    {400, TEXT(CHUNKED "0\r\nX: y\n\r\n")},
    {400, TEXT(CHUNKED "0\r\n\n")},
};

static void check_refused(world *w, sim_client *c, unsigned status, size_t row)
{
    char line[16];
    const char *out = sim_output(c);
    snprintf(line, sizeof line, "HTTP/1.1 %u ", status);
    if (strncmp(out, line, strlen(line)) != 0) fail_msg("row %zu: wanted %u: %s", row, status, out);
    assert_non_null(strstr(out, "\r\nConnection: close\r\n"));
    const char *body = strstr(out, "\r\n\r\n") + 4;
    assert_int_equal(strtoul(strstr(out, "Content-Length: ") + 16, NULL, 10), strlen(body));
    assert_ptr_equal(strstr(body, "{\"error\":{\"message\":\""), body);
    assert_non_null(strstr(body, "\"param\":null,\"code\":\""));
    assert_true(c->finished);
    assert_int_equal(w->request_count, 0);
    assert_int_equal(c->inbox_at, c->inbox.len);
}

static void malformed_requests_are_refused(void **state)
{
    (void)state;
    world *w = world_default();
    const size_t count = sizeof malformed / sizeof *malformed;
    for (size_t i = 0; i < count; i++) {
        for (size_t piece = 1; piece <= 4096; piece *= 64) {
            sim_client *c = sim_connect();
            c->piece_bytes = piece;
            sim_send(c, malformed[i].bytes, malformed[i].len);
            world_run(w);
            check_refused(w, c, malformed[i].status, i);
        }
    }
    assert_int_equal(cn_metrics_get(&w->metrics.malformed), count * 3);
    assert_int_equal(cn_metrics_get(&w->metrics.connections), 0);
    assert_int_equal(cn_http_connection_count(w->http), 0);
    world_close(w);
}

// Unusual, but RFC 9112 allows it; the first two are where http-parser alone goes wrong.
static void unusual_requests_are_served(void **state)
{
    (void)state;
    static const char *const requests[] = {
        LINE "Transfer-Encoding-X: gzip\r\n\r\n",
        LINE "Connection: keep-alive\t\r\n\r\n",
        LINE "Content-Length-X: -\r\n\r\n",
        LINE "Content-Length: 0000\r\n\r\n",
        LINE "!#$%&'*+-.^_`|~9aZ:\r\n\r\n",
        LINE "X: \x80\xff\t\"(){}\r\n\r\n",
        LINE "Upgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        "GET //a/../b;c=d?&&?%00 HTTP/1.1\r\nHost: a:\r\n\r\n",
        "GET HTTPS://[::1]:8?x HTTP/1.1\r\nHost:\t%41.b\t\r\n\r\n",
        "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
        CHUNKED "0000000000000000;;\r\n\r\n",
    };
    world *w = world_default();
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        sim_client *c = sim_connect();
        sim_text(c, requests[i]);
        sim_text(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        world_run(w);
        if (w->request_count != 2 * (i + 1)) fail_msg("row %zu: %s", i, sim_output(c));
        assert_true(c->finished);
    }
    world_close(w);
}

// A refusal comes after the answers of the requests before it, and nothing after it is looked at.
static void refusal_keeps_the_order(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    sim_text(c, GET_X "GET / HTTP/3.0\r\n\r\n" GET_X);
    world_run(w);
    const char *first = strstr(sim_output(c), "HTTP/1.1 200");
    assert_ptr_equal(first, sim_output(c));
    const char *second = strstr(first + 1, "HTTP/1.1 505");
    assert_non_null(second);
    assert_null(strstr(second + 1, "HTTP/1.1 "));
    assert_int_equal(w->request_count, 1);
    world_close(w);
}

// A HEAD that is refused after its head was understood gets no body, like any answer to HEAD.
static void refused_head_has_no_body(void **state)
{
    (void)state;
    world *w = world_default();
    sim_client *c = sim_connect();
    sim_text(c, "HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    world_run(w);
    const char *end = strstr(sim_output(c), "\r\n\r\n");
    assert_string_equal(end, "\r\n\r\n");
    world_close(w);
}

// ---- limits, at and above by one ---------------------------------------------------------------

static unsigned status_of(cn_limits limits, const cn_buf *request)
{
    world *w = world_open(limits, 64, 256);
    sim_client *c = sim_connect();
    sim_send(c, request->data, request->len);
    world_run(w);
    const unsigned status = (unsigned)strtoul(sim_output(c) + 9, NULL, 10);
    world_close(w);
    return status;
}

static void fill(cn_buf *out, char c, size_t count)
{
    for (size_t i = 0; i < count; i++) cn_buf_add_char(out, c);
}

static cn_limits small_limits(void)
{
    cn_limits limits = cn_limits_default();
    limits.connections = 4;
    limits.http_uri_bytes = 128;
    limits.http_header_bytes = 1024;
    limits.http_header_count = 8;
    limits.http_body_bytes = 1024;
    return limits;
}

static void uri_limit(void **state)
{
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        cn_buf request;
        cn_buf_init(&request, 65536);
        cn_buf_add_text(&request, "GET /");
        fill(&request, 'u', 127 + over);
        cn_buf_add_text(&request, " HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(status_of(small_limits(), &request), over ? 414 : 200);
        cn_buf_close(&request);
    }
}

static void header_bytes_limit(void **state)
{
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        cn_buf request;
        cn_buf_init(&request, 65536);
        cn_buf_add_text(&request, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
        fill(&request, 'h', 1024 + over - 4 - request.len);
        cn_buf_add_text(&request, "\r\n\r\n");
        assert_int_equal(request.len, 1024 + over);
        assert_int_equal(status_of(small_limits(), &request), over ? 431 : 200);
        cn_buf_close(&request);
    }
}

static void header_count_limit(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        cn_buf request;
        cn_buf_init(&request, 65536);
        cn_buf_add_text(&request, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 0; i < 7 + over; i++) cn_buf_add_text(&request, "X: y\r\n");
        cn_buf_add_text(&request, "\r\n");
        assert_int_equal(status_of(small_limits(), &request), over ? 431 : 200);
        cn_buf_close(&request);
    }
}

static void body_limit_by_length(void **state)
{
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        cn_buf request;
        cn_buf_init(&request, 65536);
        cn_buf_add_format(&request, POST "Content-Length: %zu\r\n\r\n", 1024 + over);
        if (!over) fill(&request, 'b', 1024);        // above: refused before a byte of it came
        assert_int_equal(status_of(small_limits(), &request), over ? 413 : 200);
        cn_buf_close(&request);
    }
}

static void body_limit_by_chunks(void **state)
{
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        cn_buf request;
        cn_buf_init(&request, 65536);
        cn_buf_add_text(&request, CHUNKED "3ff\r\n");
        fill(&request, 'b', 1023);
        cn_buf_add_format(&request, "\r\n%zx\r\n", 1 + over);
        if (!over) cn_buf_add_text(&request, "b\r\n0\r\n\r\n");
        assert_int_equal(status_of(small_limits(), &request), over ? 413 : 200);
        cn_buf_close(&request);
    }
}

static void trailers_share_the_header_limits(void **state)
{
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        cn_buf request;
        cn_buf_init(&request, 65536);
        cn_buf_add_text(&request, CHUNKED "1;");
        fill(&request, 'e', 500);
        cn_buf_add_text(&request, "\r\nb\r\n0\r\nX: ");
        fill(&request, 't', 1024 + over - 500 - 7);
        cn_buf_add_text(&request, "\r\n\r\n");
        assert_int_equal(status_of(small_limits(), &request), over ? 431 : 200);
        cn_buf_close(&request);

        cn_buf_init(&request, 65536);
        cn_buf_add_text(&request, CHUNKED "0\r\n");
        for (size_t i = 0; i < 8 + over; i++) cn_buf_add_text(&request, "X: y\r\n");
        cn_buf_add_text(&request, "\r\n");
        assert_int_equal(status_of(small_limits(), &request), over ? 431 : 200);
        cn_buf_close(&request);
    }
}

static void chunk_extensions_are_bounded(void **state)
{
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        cn_buf request;
        cn_buf_init(&request, 65536);
        cn_buf_add_text(&request, CHUNKED);
        for (int i = 0; i < 3; i++) {
            cn_buf_add_text(&request, "1;");
            fill(&request, 'e', i == 2 ? 322 + over : 350);
            cn_buf_add_text(&request, "\r\nb\r\n");
        }
        cn_buf_add_text(&request, "0\r\n\r\n");      // 1022 bytes leave room for the last CRLF
        assert_int_equal(status_of(small_limits(), &request), over ? 431 : 200);
        cn_buf_close(&request);
    }
}

// Working memory of one request that does not hold its body: refused by name, not by a crash.
static void request_memory_limit(void **state)
{
    (void)state;
    cn_limits limits = small_limits();
    limits.http_body_bytes = 1 << 20;
    limits.request_bytes = 65536;
    cn_buf request;
    cn_buf_init(&request, 4 << 20);
    cn_buf_add_text(&request, POST "Content-Length: 100000\r\n\r\n");
    assert_int_equal(status_of(limits, &request), 413);
    cn_buf_clear(&request);
    cn_buf_add_text(&request, CHUNKED "186a0\r\n");
    fill(&request, 'b', 100000);
    cn_buf_add_text(&request, "\r\n0\r\n\r\n");
    assert_int_equal(status_of(limits, &request), 413);
    cn_buf_close(&request);
}

// ---- Expect, HEAD, large bodies ----------------------------------------------------------------

static const char CONTINUED[] = "HTTP/1.1 100 Continue\r\n\r\n";

static void continue_is_sent_when_the_body_is_awaited(void **state)
{
    (void)state;
    static const char *const bodies[][2] = {
        {"Content-Length: 3\r\n\r\n", "abc"},
        {"Transfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"}};
    for (int i = 0; i < 2; i++) {
        world *w = world_default();
        sim_client *c = sim_connect();
        sim_text(c, POST "Expect: 100-Continue\r\n");
        sim_text(c, bodies[i][0]);
        world_run(w);
        assert_string_equal(sim_output(c), CONTINUED);
        sim_text(c, bodies[i][1]);
        world_run(w);
        assert_non_null(strstr(sim_output(c) + sizeof CONTINUED - 1, "body 3: abc"));
        world_close(w);
    }
}

static void continue_is_not_sent_needlessly(void **state)
{
    (void)state;
    static const char *const requests[] = {
        POST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",     // the body is here already
        POST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        POST "Expect: 100-continue\r\n\r\n",
        "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        world *w = world_default();
        sim_client *c = sim_connect();
        sim_text(c, requests[i]);
        world_run(w);
        assert_ptr_equal(strstr(sim_output(c), "HTTP/1.1 200"), sim_output(c));
        world_close(w);
    }
}

static void large_bodies_arrive_whole(void **state)
{
    (void)state;
    enum { BYTES = 300000 };
    cn_buf body, request;
    cn_buf_init(&body, 1 << 22);
    cn_buf_init(&request, 1 << 22);
    for (uint32_t i = 0; body.len < BYTES; i++) cn_buf_add_format(&body, "%u,", i * 2654435761u);
    for (int chunked = 0; chunked < 2; chunked++) {
        world *w = world_default();
        cn_buf_clear(&request);
        if (chunked) {
            cn_buf_add_text(&request, CHUNKED);
            for (size_t at = 0, n = 1; at < body.len; at += n, n = n * 3 + 1) {
                if (n > body.len - at) n = body.len - at;
                cn_buf_add_format(&request, "%zX\r\n", n);
                cn_buf_add(&request, body.data + at, n);
                cn_buf_add_text(&request, "\r\n");
            }
            cn_buf_add_text(&request, "0\r\n\r\n");
        } else {
            cn_buf_add_format(&request, POST "Content-Length: %zu\r\n\r\n", body.len);
            cn_buf_add(&request, body.data, body.len);
        }
        for (int again = 0; again < 2; again++) {    // the second time in used memory
            sim_client *c = sim_connect();
            c->piece_bytes = 1500;
            sim_send(c, request.data, request.len);
            world_settle(w);
            cn_http_message m;
            assert_true(world_take(w, &m));
            assert_int_equal(m.request->body_len, body.len);
            assert_memory_equal(m.request->body, body.data, body.len);
            cn_http_request_free(w->http, m.request);
        }
        world_close(w);
    }
    cn_buf_close(&body);
    cn_buf_close(&request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipeline_in_two_pieces),
        cmocka_unit_test(pipeline_in_small_pieces),
        cmocka_unit_test(malformed_requests_are_refused),
        cmocka_unit_test(unusual_requests_are_served),
        cmocka_unit_test(refusal_keeps_the_order),
        cmocka_unit_test(refused_head_has_no_body),
        cmocka_unit_test(uri_limit),
        cmocka_unit_test(header_bytes_limit),
        cmocka_unit_test(header_count_limit),
        cmocka_unit_test(body_limit_by_length),
        cmocka_unit_test(body_limit_by_chunks),
        cmocka_unit_test(trailers_share_the_header_limits),
        cmocka_unit_test(chunk_extensions_are_bounded),
        cmocka_unit_test(request_memory_limit),
        cmocka_unit_test(continue_is_sent_when_the_body_is_awaited),
        cmocka_unit_test(continue_is_not_sent_needlessly),
        cmocka_unit_test(large_bodies_arrive_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
