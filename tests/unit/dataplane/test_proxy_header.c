#include "dataplane/proxy_header.h"
#include "tests/unit/dataplane/http_world.h"
#include "tests/unit/test_rng.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x00\x50"     // 192.0.2.1:12345 to 198.51.100.2:80
#define V6_HOST "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define V6 V6_HOST V6_HOST "\x01\xbb\x00\x50"
#define X16 "0123456789abcdef"
// NOOP, and the checksum of the header with it, as an implementation that is not this one computes it.
#define NOOP "\x04\x00\x03xyz"
#define CHECKSUM "\x03\x00\x04"

typedef struct row {
    const char *data;
    size_t len;
    const char *client;              // "": none; NULL: an error
    const char *why;                 // of the error
} row;
#define ROW(text, client, why) {text, sizeof text - 1, client, why}

static const row rows[] = {
    // Version 1, as its specification writes it.
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\r\n", "192.0.2.1:12345", NULL),
    ROW("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", NULL),
    ROW("PROXY TCP6 2001:db8::1 ::1 0 80\r\n", "[2001:db8::1]:0", NULL),
    ROW("PROXY UNKNOWN\r\n", "", NULL),
    ROW("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", NULL),
    // ... and as it must not be.
    ROW("GET / HTTP/1.1\r\n", NULL, "none"),
    ROW("PROXX", NULL, "none"),
    ROW("proxy TCP4", NULL, "none"),
    ROW("PROXY\tTCP4", NULL, "none"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\n", NULL, "CR LF"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2\r12345 80\r\n", NULL, "a CR in its line"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 12345\0 80\r\n", NULL, "a zero byte"),
    ROW("PROXY \r\n", NULL, "no protocol"),
    ROW("PROXY TCP5 192.0.2.1 198.51.100.2 12345 80\r\n", NULL, "other than TCP4"),
    ROW("PROXY UDP4 192.0.2.1 198.51.100.2 12345 80\r\n", NULL, "other than TCP4"),
    ROW("PROXY TCP4\r\n", NULL, "address"),
    ROW("PROXY TCP4 192.0.2.1\r\n", NULL, "address"),
    ROW("PROXY TCP4 192.0.2.256 198.51.100.2 12345 80\r\n", NULL, "address"),
    ROW("PROXY TCP4 192.0.2.01 198.51.100.2 12345 80\r\n", NULL, "address"),
    ROW("PROXY TCP4 2001:db8::1 ::1 12345 80\r\n", NULL, "address"),
    ROW("PROXY TCP6 192.0.2.1 198.51.100.2 12345 80\r\n", NULL, "address"),
    ROW("PROXY TCP4  192.0.2.1 198.51.100.2 12345 80\r\n", NULL, "address"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 12345\r\n", NULL, "port"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 65536 80\r\n", NULL, "port"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 -1 80\r\n", NULL, "port"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 0080 80\r\n", NULL, "port"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 12345 8a\r\n", NULL, "port"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 12345 80 \r\n", NULL, "behind its ports"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 12345 80 x\r\n", NULL, "behind its ports"),
    ROW("PROXY UNKNOWN " X16 X16 X16 X16 X16 X16 "\r\n", NULL, "107"),
    ROW("PROXY UNKNOWN " X16 X16 X16 X16 X16 X16, NULL, "107"),
    // Version 2.
    ROW(SIGNATURE "\x21\x11\x00\x0c" V4, "192.0.2.1:12345", NULL),
    ROW(SIGNATURE "\x21\x21\x00\x24" V6, "[2001:db8::1]:443", NULL),
    ROW(SIGNATURE "\x21\x11\x00\x12" V4 NOOP, "192.0.2.1:12345", NULL),
    ROW(SIGNATURE "\x21\x11\x00\x13" V4 CHECKSUM "\x86\x8c\xb9\x83", "192.0.2.1:12345", NULL),
    ROW(SIGNATURE "\x21\x11\x00\x19" V4 CHECKSUM "\x5b\xc5\x54\x3b" NOOP, "192.0.2.1:12345", NULL),
    ROW(SIGNATURE "\x20\x00\x00\x00", "", NULL),
    ROW(SIGNATURE "\x20\x11\x00\x0c" V4, "", NULL),
    ROW(SIGNATURE "\x20\x00\x00\x05hello", "", NULL),
    ROW(SIGNATURE "\x21\x00\x00\x00", "", NULL),
    ROW("\r\n\r\n\0\r\nQUIT\r", NULL, "none"),
    ROW("\r\nGET", NULL, "none"),
    ROW(SIGNATURE "\x11\x11\x00\x0c" V4, NULL, "version"),
    ROW(SIGNATURE "\x31\x11\x00\x0c" V4, NULL, "version"),
    ROW(SIGNATURE "\x22\x11\x00\x0c" V4, NULL, "command"),
    ROW(SIGNATURE "\x21\x41\x00\x0c" V4, NULL, "family"),
    ROW(SIGNATURE "\x21\x13\x00\x0c" V4, NULL, "family"),
    ROW(SIGNATURE "\x21\x12\x00\x0c" V4, NULL, "other than TCP"),
    ROW(SIGNATURE "\x21\x10\x00\x0c" V4, NULL, "other than TCP"),
    ROW(SIGNATURE "\x21\x31\x00\x00", NULL, "other than TCP"),
    ROW(SIGNATURE "\x21\x11\x00\x0b\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x00", NULL, "no room"),
    ROW(SIGNATURE "\x21\x21\x00\x0c" V4, NULL, "no room"),
    ROW(SIGNATURE "\x21\x11\x07\xf1", NULL, "2048"),
    ROW(SIGNATURE "\x21\x11\xff\xff", NULL, "2048"),
    ROW(SIGNATURE "\x21\x11\x00\x0e" V4 "\x04\x00", NULL, "cut short"),
    ROW(SIGNATURE "\x21\x11\x00\x10" V4 "\x04\x00\x02x", NULL, "longer than the header"),
    ROW(SIGNATURE "\x21\x11\x00\x13" V4 CHECKSUM "\x86\x8c\xb9\x82", NULL, "checksum"),
    ROW(SIGNATURE "\x21\x11\x00\x12" V4 "\x03\x00\x03\xe0\x3d\xf5", NULL, "checksum"),
};
enum { ROW_COUNT = sizeof rows / sizeof *rows };

// A copy of exactly that size, so that a read beyond it is seen by ASan.
static cn_code parse(const char *data, size_t len, cn_proxy_header *out, cn_err *err)
{
    char *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    const cn_code code = cn_proxy_header_parse(copy, len, out, err);
    free(copy);
    return code;
}

static void headers_are_read_or_refused(void **state)
{
    (void)state;
    for (int i = 0; i < ROW_COUNT; i++) {
        const row *r = &rows[i];
        cn_proxy_header header;
        cn_err err = {0};
        const cn_code code = parse(r->data, r->len, &header, &err);
        if (!r->client) {
            if (code != CN_E_HTTP || !strstr(err.text, r->why)) fail_msg("row %d: %d %s", i, code, err.text);
            continue;
        }
        if (code != CN_OK) fail_msg("row %d: %s", i, err.text);
        assert_int_equal(header.bytes, r->len);
        assert_string_equal(header.client, r->client);
    }
}

// What has not come whole is waited for, and what follows is not looked at.
static void a_header_in_pieces_is_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < ROW_COUNT; i++) {
        const row *r = &rows[i];
        char more[512];
        cn_proxy_header header;
        if (!r->client) continue;
        for (size_t len = 0; len < r->len; len++) {
            assert_int_equal(parse(r->data, len, &header, NULL), CN_OK);
            assert_int_equal(header.bytes, 0);
        }
        memcpy(more, r->data, r->len);
        memcpy(more + r->len, "PROXY TCP4 x", 12);
        assert_int_equal(parse(more, r->len + 12, &header, NULL), CN_OK);
        assert_int_equal(header.bytes, r->len);
    }
}

// Nothing that is sent makes it read beyond its data, or take more than there is.
static void anything_may_come(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("proxy_header");
    for (int n = 0; n < 20000; n++) {
        const row *r = &rows[test_rng_below(&rng, ROW_COUNT)];
        char data[512];
        size_t len = r->len;
        memcpy(data, r->data, len);
        for (uint32_t k = 1 + test_rng_below(&rng, 4); k > 0; k--)
            data[test_rng_below(&rng, (uint32_t)len)] = (char)test_rng_below(&rng, 256);
        len = test_rng_below(&rng, (uint32_t)len + 1);
        cn_proxy_header header;
        if (parse(data, len, &header, NULL) == CN_OK) assert_true(header.bytes <= len);
    }
}

// ---- in front of HTTP

static const cn_networks *networks(const char *text)
{
    static cn_networks parsed;
    assert_int_equal(cn_networks_parse("k", text, &parsed, NULL), CN_OK);
    return &parsed;
}

static void a_listener_that_requires_it_takes_the_client_from_it(void **state)
{
    (void)state;
    static const char header[] = SIGNATURE "\x21\x11\x00\x0c" V4;
    for (size_t piece = 1; piece < sizeof header + 8; piece++) {
        world *w = world_default();
        w->http->proxy_from = networks("192.0.2.0/24");
        sim_client *c = sim_connect();
        c->piece_bytes = piece;
        sim_send(c, header, sizeof header - 1);
        sim_text(c, GET_X GET_X);
        world_run(w);
        assert_int_equal(w->request_count, 2);
        const char *first = strstr(sim_output(c), " 192.0.2.1:12345\n");
        assert_non_null(first);
        assert_non_null(strstr(first + 1, " 192.0.2.1:12345\n"));
        assert_null(strstr(sim_output(c), "192.0.2.7"));
        world_close(w);
    }
}

static void a_probe_is_its_sender(void **state)
{
    (void)state;
    world *w = world_default();
    w->http->proxy_from = networks("192.0.2.7");
    sim_client *c = sim_connect();
    sim_text(c, "PROXY UNKNOWN\r\n" GET_X);
    world_run(w);
    assert_non_null(strstr(sim_output(c), "192.0.2.7:40001\n"));
    world_close(w);
}

static void others_are_refused_and_told_why(void **state)
{
    (void)state;
    world *w = world_default();
    w->http->proxy_from = networks("192.0.2.0/24");
    sim_client *plain = sim_connect();
    sim_text(plain, GET_X);
    world_run(w);
    assert_int_equal(strncmp(sim_output(plain), "HTTP/1.1 400 ", 13), 0);
    assert_non_null(strstr(sim_output(plain), "must begin with one of version 1 or 2"));
    assert_true(plain->finished);

    w->http->proxy_from = networks("198.51.100.0/24");
    sim_client *stranger = sim_connect();
    sim_text(stranger, "PROXY TCP4 198.51.100.1 198.51.100.2 1 2\r\n" GET_X);
    world_run(w);
    assert_int_equal(strncmp(sim_output(stranger), "HTTP/1.1 403 ", 13), 0);
    assert_non_null(strstr(sim_output(stranger), "connection from 192.0.2.7:40001"));
    assert_true(stranger->finished);
    assert_int_equal(w->request_count, 0);
    assert_int_equal(cn_http_connection_count(w->http), 0);
    world_close(w);
}

// Half a header holds a place for as long as half a request would, and a drain does not wait for none.
static void a_header_that_does_not_come_is_not_waited_for(void **state)
{
    (void)state;
    world *w = world_default();
    w->http->proxy_from = networks("192.0.2.0/24");
    sim_client *half = sim_connect(), *none = sim_connect();
    sim_text(half, "PROXY TC");
    world_settle(w);
    w->now_ns += w->limits.http_receive_ms * MS + 1;
    world_settle(w);
    assert_int_equal(strncmp(sim_output(half), "HTTP/1.1 408 ", 13), 0);
    assert_false(none->finished);
    cn_http_drain(w->http);
    w->now_ns += 1001 * MS;
    world_settle(w);
    assert_true(none->finished);
    world_close(w);
}

static void a_forwarded_address_is_believed_where_it_should_be(void **state)
{
    (void)state;
    static const struct { const char *from, *fields, *client; } cases[] = {
        {"192.0.2.7", "X-Forwarded-For: 203.0.113.9\r\n", " 203.0.113.9\n"},
        {"192.0.2.7", "X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\n", " 203.0.113.9\n"},
        {"192.0.2.7", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2001:db8::9\r\n", " 2001:db8::9\n"},
        {"192.0.2.7", "X-Forwarded-For: unknown\r\n", " 192.0.2.7:40001\n"},
        {"192.0.2.7", "X-Forwarded-For: 203.0.113.9,\r\n", " 192.0.2.7:40001\n"},
        {"192.0.2.7", "X-Forwarded-For:\r\n", " 192.0.2.7:40001\n"},
        {"192.0.2.7", "", " 192.0.2.7:40001\n"},
        {"192.0.2.8", "X-Forwarded-For: 203.0.113.9\r\n", " 192.0.2.7:40001\n"},
        {"", "X-Forwarded-For: 203.0.113.9\r\n", " 192.0.2.7:40001\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world *w = world_default();
        char text[256];
        const cn_networks *from = networks(cases[i].from);
        w->http->forwarded_from = from->count ? from : NULL;
        sim_client *c = sim_connect();
        snprintf(text, sizeof text, "GET /x HTTP/1.1\r\nHost: a\r\n%s\r\n", cases[i].fields);
        sim_text(c, text);
        world_run(w);
        if (!strstr(sim_output(c), cases[i].client)) fail_msg("case %zu: %s", i, sim_output(c));
        world_close(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_read_or_refused),
        cmocka_unit_test(a_header_in_pieces_is_the_same),
        cmocka_unit_test(anything_may_come),
        cmocka_unit_test(a_listener_that_requires_it_takes_the_client_from_it),
        cmocka_unit_test(a_probe_is_its_sender),
        cmocka_unit_test(others_are_refused_and_told_why),
        cmocka_unit_test(a_header_that_does_not_come_is_not_waited_for),
        cmocka_unit_test(a_forwarded_address_is_believed_where_it_should_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
