#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "state/redis_lane_int.h"
#include "tests/unit/test_rng.h"

/* A lane that talks to the test itself, which plays the server: it answers with any bytes, in
 * pieces of any length. Large enough that a page never fits the lane's buffer, small enough for
 * many rounds. */
enum { PAGE_BYTES = 40000, REQUESTS = 6 };

typedef struct fixture {
    char path[64];
    int listener, server;            // server: our end of the connection
    cn_redis_address address;
    cn_redis_settings settings;
    cn_redis_lane lane;
    cn_redis_page_request requests[REQUESTS];
    cn_store_op ops[REQUESTS];
    char pages[REQUESTS][PAGE_BYTES];
    cn_code codes[REQUESTS];
    bool corrupt[REQUESTS], over[REQUESTS];
    char *got;                       // what the lane has sent
    size_t got_len;
} fixture;

static uint64_t now_ns(void)
{
    const cn_clock clock = cn_clock_system();
    return cn_clock_now_ns(&clock);
}

static void request_done(void *self, cn_redis_page_request *r, cn_code code, bool corrupt)
{
    fixture *f = self;
    const size_t i = (size_t)(r - f->requests);
    if (r->op) f->codes[i] = code;
    f->corrupt[i] = f->corrupt[i] || corrupt;
    r->op = NULL;
}

static void request_over(void *self, cn_redis_page_request *r)
{
    fixture *f = self;
    assert_false(f->over[r - f->requests]);
    f->over[r - f->requests] = true;
}

static void open_fixture(fixture *f)
{
    memset(f, 0, sizeof *f);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(f->path, sizeof f->path, "/tmp/cairn-lane-%d", (int)getpid());
    memcpy(at.sun_path, f->path, sizeof f->path);
    memcpy(f->address.host, f->path, sizeof f->path);
    unlink(f->path);
    f->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(f->listener, 4), 0);
    f->settings = (cn_redis_settings){.user = "", .password = "", .page_timeout_ns = 5000000000,
                                      .clock = cn_clock_system(), .random = cn_random_system()};
    const cn_redis_lane_options options = {&f->settings, &f->address, PAGE_BYTES, f, request_done,
                                           request_over};
    assert_int_equal(cn_redis_lane_open(&f->lane, &options), CN_OK);
    f->got = test_malloc(REQUESTS * (PAGE_BYTES + 500));
}

static void close_fixture(fixture *f)
{
    cn_redis_lane_close(&f->lane);
    if (f->server > 0) close(f->server);
    close(f->listener);
    unlink(f->path);
    test_free(f->got);
}

// One round of the lane and of the server's reading.
static void turn(fixture *f)
{
    cn_redis_lane_tend(&f->lane, now_ns());
    struct pollfd fd = cn_redis_lane_pollfd(&f->lane);
    if (fd.fd >= 0 && poll(&fd, 1, 0) > 0) cn_redis_lane_events(&f->lane, fd.revents);
    if (f->server <= 0) return;
    const size_t room = REQUESTS * (PAGE_BYTES + 500) - f->got_len;
    const ssize_t got = recv(f->server, f->got + f->got_len, room, MSG_DONTWAIT);
    if (got > 0) f->got_len += (size_t)got;
}

static void say(fixture *f, const char *bytes, size_t len)
{
    while (len > 0) {
        const ssize_t sent = send(f->server, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            len -= (size_t)sent;
        } else if (f->lane.state == CN_REDIS_DOWN) {
            return;                  // it has hung up
        }
        turn(f);
    }
}

static void greet(fixture *f)
{
    turn(f);
    f->server = accept(f->listener, NULL, NULL);
    assert_true(f->server > 0);
    while (f->got_len < 14) turn(f);
    assert_memory_equal(f->got, "*1\r\n$4\r\nPING\r\n", 14);
    f->got_len = 0;
    say(f, "+PONG\r\n", 7);
    while (f->lane.state != CN_REDIS_UP) turn(f);
}

static void ask(fixture *f, uint32_t i, cn_redis_page_kind kind)
{
    f->ops[i] = (cn_store_op){.page = f->pages[i], .deadline_ns = UINT64_MAX};
    f->requests[i] = (cn_redis_page_request){.op = &f->ops[i], .kind = kind};
    f->requests[i].key.bytes[0] = (uint8_t)i;
    f->codes[i] = CN_CODE_COUNT;
    f->corrupt[i] = f->over[i] = false;
    cn_redis_lane_add(&f->lane, &f->requests[i]);
}

// The blob of request `i`, as the lane itself writes it.
static size_t blob_of(uint32_t i, const char *page, char *out)
{
    cn_redis_blob blob = {{'C', 'N', 'p', 'g'}, 1, PAGE_BYTES, {(uint8_t)i}};
    memcpy(out, &blob, sizeof blob);
    memcpy(out + sizeof blob, page, PAGE_BYTES);
    const uint64_t sum = XXH3_64bits(out, sizeof blob + PAGE_BYTES);
    memcpy(out + sizeof blob + PAGE_BYTES, &sum, 8);
    return sizeof blob + PAGE_BYTES + 8;
}

static void fill(test_rng *rng, char *page)
{
    for (size_t i = 0; i < PAGE_BYTES; i += 8) {
        const uint64_t value = test_rng_u64(rng);
        memcpy(page + i, &value, 8);
    }
}

/* Replies of every kind, one behind another, in pieces of random lengths: where a piece ends must
 * never show. A boundary that is off by one would lose the place in the stream. */
static void replies_are_read_in_any_pieces(void **state)
{
    (void)state;
    enum { ROUNDS = 60 };
    test_rng rng = test_rng_open("redis_lane");
    static fixture f;
    static char page[PAGE_BYTES], reply[REQUESTS * (PAGE_BYTES + 200)];
    open_fixture(&f);
    greet(&f);
    for (int round = 0; round < ROUNDS; round++) {
        size_t len = 0;
        cn_code wanted[REQUESTS];
        bool corrupt[REQUESTS] = {0};
        static char pages[REQUESTS][PAGE_BYTES];
        for (uint32_t i = 0; i < REQUESTS; i++) {
            ask(&f, i, CN_REDIS_PAGE_GET);
            const uint32_t way = test_rng_below(&rng, 6);
            wanted[i] = CN_E_NOT_FOUND;
            if (way == 0) {
                len += (size_t)sprintf(reply + len, "$-1\r\n");
            } else if (way == 1) {
                len += (size_t)sprintf(reply + len, "-ERR whatever this is\r\n");
                wanted[i] = CN_E_STORE;
            } else if (way == 2) {
                const int bytes = (int)test_rng_below(&rng, 300);
                len += (size_t)sprintf(reply + len, "$%d\r\n%0*d\r\n", bytes + 1, bytes + 1, 7);
                corrupt[i] = true;
            } else {
                fill(&rng, page);
                memcpy(pages[i], page, PAGE_BYTES);
                len += (size_t)sprintf(reply + len, "$%d\r\n", PAGE_BYTES + 56);
                const size_t at = len;
                len += blob_of(i, page, reply + len);
                len += (size_t)sprintf(reply + len, "\r\n");
                corrupt[i] = way == 3;
                if (way == 3) reply[at + test_rng_below(&rng, PAGE_BYTES + 56)] ^= 1;
                else wanted[i] = CN_OK;
            }
        }
        for (size_t at = 0; at < len;) {
            size_t piece = 1 + test_rng_below(&rng, test_rng_below(&rng, 2) ? 40 : 30000);
            if (piece > len - at) piece = len - at;
            say(&f, reply + at, piece);
            at += piece;
        }
        for (uint32_t i = 0; i < REQUESTS; i++) {
            while (!f.over[i]) turn(&f);
            assert_int_equal(f.codes[i], wanted[i]);
            assert_int_equal(f.corrupt[i], corrupt[i]);
            if (wanted[i] == CN_OK) assert_memory_equal(f.pages[i], pages[i], PAGE_BYTES);
        }
        f.got_len = 0;
    }
    assert_int_equal(f.lane.state, CN_REDIS_UP);
    close_fixture(&f);
}

// What is written is what is read back, whole, for more pages than the socket takes at once.
static void pages_are_written_whole(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("redis_lane");
    static fixture f;
    static char wanted[PAGE_BYTES + 500];
    open_fixture(&f);
    greet(&f);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        fill(&rng, f.pages[i]);
        ask(&f, i, CN_REDIS_PAGE_PUT);
    }
    size_t at = 0;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        size_t len =
            (size_t)sprintf(wanted, "*3\r\n$3\r\nSET\r\n$75\r\ncairn:page:%02x%062d\r\n$%d\r\n", i,
                            0, PAGE_BYTES + 56);
        len += blob_of(i, f.pages[i], wanted + len);
        len += (size_t)sprintf(wanted + len, "\r\n");
        while (f.got_len < at + len) turn(&f);
        assert_memory_equal(f.got + at, wanted, len);
        at += len;
        assert_false(f.over[i]);
    }
    for (uint32_t i = 0; i < REQUESTS; i++) say(&f, "+OK\r\n", 5);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        while (!f.over[i]) turn(&f);
        assert_int_equal(f.codes[i], CN_OK);
    }
    close_fixture(&f);
}

// Bytes that are no answer end the connection and every request on it; nothing else happens.
static void what_is_no_answer_ends_the_connection(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "+OK\r\n",   ":1\r\n",
        "hello\r\n", "$x\r\n",
        "$-2\r\n",   "*1\r\n$1\r\nx\r\n",
        "\r\n",      "$99999999999999999999x\r\n",
    };
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        static fixture f;
        open_fixture(&f);
        greet(&f);
        ask(&f, 0, CN_REDIS_PAGE_GET);
        ask(&f, 1, CN_REDIS_PAGE_GET);
        while (f.got_len == 0) turn(&f);
        say(&f, replies[i], strlen(replies[i]));
        while (!f.over[1]) turn(&f);
        assert_int_equal(f.codes[0], CN_E_STORE);
        assert_int_equal(f.codes[1], CN_E_STORE);
        assert_int_equal(f.lane.state, CN_REDIS_DOWN);
        close_fixture(&f);
    }
    // A line without an end, and an answer that nobody asked for.
    static fixture f;
    static char long_line[2 * CN_REDIS_LANE_IN_BYTES];
    memset(long_line, 'x', sizeof long_line);
    open_fixture(&f);
    greet(&f);
    ask(&f, 0, CN_REDIS_PAGE_GET);
    say(&f, long_line, sizeof long_line);
    while (!f.over[0]) turn(&f);
    assert_int_equal(f.codes[0], CN_E_STORE);
    close_fixture(&f);
    open_fixture(&f);
    greet(&f);
    say(&f, "$-1\r\n", 5);
    while (f.lane.state != CN_REDIS_DOWN) turn(&f);
    assert_string_equal(f.lane.why, "an answer without a question");
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_read_in_any_pieces),
        cmocka_unit_test(pages_are_written_whole),
        cmocka_unit_test(what_is_no_answer_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
