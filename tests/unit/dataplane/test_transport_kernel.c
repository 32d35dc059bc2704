#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "dataplane/transport.h"
#include "dataplane/transport_address_int.h"
#include "tests/unit/cmocka_all.h"

/* Real sockets on loopback, driven from one thread. The kernel delivers on loopback before send
 * returns, but resets and ends may take a moment, so the tests poll until what they wait for is
 * there; WAIT_NS only bounds a failure. */

static const uint64_t MS = 1000000;
static const uint64_t WAIT_NS = 5000000000;

enum { PLACES = 4 };

typedef struct place {
    bool open;
    uint32_t generation;
    char peer[64];
    cn_buf received;
    size_t take_max;                 // of what is shown; SIZE_MAX: all
    uint32_t shown_count, writable_count;
} place;

typedef struct world {
    cn_transport *transport;
    cn_wake wake;
    place places[PLACES];
    uint32_t opened_count, closed_count;
    cn_conn newest;
    bool abort_on_receive;
} world;

static void on_opened(void *self, cn_conn conn, const char *peer)
{
    world *w = self;
    place *p = &w->places[conn.index];
    assert_false(p->open);
    assert_int_not_equal(p->generation, conn.generation);
    cn_buf_clear(&p->received);
    *p = (place){true, conn.generation, "", p->received, SIZE_MAX, 0, 0};
    snprintf(p->peer, sizeof p->peer, "%s", peer);
    w->newest = conn;
    w->opened_count++;
}

static size_t on_received(void *self, cn_conn conn, const char *data, size_t len)
{
    world *w = self;
    place *p = &w->places[conn.index];
    assert_true(p->open && p->generation == conn.generation);
    assert_true(len > 0);
    p->shown_count++;
    if (w->abort_on_receive) {
        p->open = false;
        w->transport->ops->abort(w->transport, conn);
        return len / 2;
    }
    const size_t taken = len < p->take_max ? len : p->take_max;
    cn_buf_add(&p->received, data, taken);
    return taken;
}

static void on_writable(void *self, cn_conn conn)
{
    world *w = self;
    assert_true(w->places[conn.index].open);
    w->places[conn.index].writable_count++;
}

static void on_closed(void *self, cn_conn conn)
{
    world *w = self;
    assert_true(w->places[conn.index].open);
    assert_int_equal(w->places[conn.index].generation, conn.generation);
    w->places[conn.index].open = false;
    w->closed_count++;
}

static world *world_open(const char *address)
{
    world *w = calloc(1, sizeof *w);
    for (int i = 0; i < PLACES; i++) cn_buf_init(&w->places[i].received, 1 << 26);
    assert_int_equal(cn_wake_open(&w->wake, NULL), CN_OK);
    const cn_transport_options options = {
        address, PLACES, {w, on_opened, on_received, on_writable, on_closed}, &w->wake};
    cn_err err = {0};
    if (cn_transport_kernel_ops.open(&options, &w->transport, &err)) fail_msg("%s", err.text);
    return w;
}

static void world_close(world *w)
{
    w->transport->ops->close(w->transport);
    for (int i = 0; i < PLACES; i++) cn_buf_close(&w->places[i].received);
    cn_wake_close(&w->wake);
    free(w);
}

static uint64_t now_ns(void)
{
    const cn_clock clock = cn_clock_system();
    return cn_clock_now_ns(&clock);
}

// Polls until `done` holds.
#define POLL_UNTIL(w, done)                                                                        \
    for (const uint64_t end_ns = now_ns() + WAIT_NS; !(done);) {                                   \
        assert_true(now_ns() < end_ns);                                                            \
        (w)->transport->ops->poll((w)->transport, MS);                                             \
    }

static int connect_to(world *w)
{
    cn_transport_sockaddr at;
    socklen_t len;
    const char *address = w->transport->ops->address(w->transport);
    assert_int_equal(cn_transport_address_parse(address, &at, &len, NULL), CN_OK);
    const int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &at.any, len), 0);
    return fd;
}

// A client with its connection open on both sides.
static int client_of(world *w, cn_conn *conn)
{
    const uint32_t before = w->opened_count;
    const int fd = connect_to(w);
    POLL_UNTIL(w, w->opened_count == before + 1);
    *conn = w->newest;
    return fd;
}

static place *place_of(world *w, cn_conn conn) { return &w->places[conn.index]; }

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static size_t write_to(world *w, cn_conn conn, const char *text, size_t len)
{
    return w->transport->ops->write(w->transport, conn, text, len);
}

static void bytes_go_both_ways(void **state)
{
    (void)state;
    static const char *const addresses[][2] = {
        {"127.0.0.1:0", "127.0.0.1:"}, {"[::1]:0", "[::1]:"}, {"localhost:0", "127.0.0.1:"}};
    for (int i = 0; i < 3; i++) {
        world *w = world_open(addresses[i][0]);
        const char *address = w->transport->ops->address(w->transport);
        assert_ptr_equal(strstr(address, addresses[i][1]), address);
        assert_string_not_equal(address + strlen(addresses[i][1]), "0");
        cn_conn conn;
        char text[16] = "";
        const int fd = client_of(w, &conn);
        assert_ptr_equal(strstr(place_of(w, conn)->peer, addresses[i][1]), place_of(w, conn)->peer);
        send_text(fd, "question");
        POLL_UNTIL(w, place_of(w, conn)->received.len == 8);
        assert_memory_equal(place_of(w, conn)->received.data, "question", 8);
        assert_int_equal(write_to(w, conn, "answer", 6), 6);
        assert_int_equal(recv(fd, text, sizeof text, 0), 6);
        assert_string_equal(text, "answer");
        close(fd);
        POLL_UNTIL(w, w->closed_count == 1);
        assert_int_equal(write_to(w, conn, "late", 4), 0);
        world_close(w);
    }
}

// What the handler leaves is shown again by resume, once, in order, with what came since, and a
// held connection neither spins nor reads on: the peer's window closes.
static void held_bytes_wait(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    cn_conn conn;
    const int fd = client_of(w, &conn);
    place *p = place_of(w, conn);
    p->take_max = 3;
    send_text(fd, "abcdef");
    POLL_UNTIL(w, p->shown_count == 1);
    assert_int_equal(p->received.len, 3);

    send_text(fd, "ghi");
    for (int i = 0; i < 3; i++) w->transport->ops->poll(w->transport, 0);
    assert_false(w->transport->ops->poll(w->transport, 0));      // no event any more: no spinning
    assert_int_equal(p->shown_count, 1);

    p->take_max = 1;
    w->transport->ops->resume(w->transport, conn);
    assert_int_equal(p->received.len, 4);
    assert_int_equal(p->shown_count, 2);
    p->take_max = SIZE_MAX;
    w->transport->ops->resume(w->transport, conn);
    assert_int_equal(p->received.len, 6);
    w->transport->ops->resume(w->transport, conn);       // nothing is held: nothing is shown
    assert_int_equal(p->shown_count, 3);
    POLL_UNTIL(w, p->received.len == 9);
    assert_memory_equal(p->received.data, "abcdefghi", 9);
    close(fd);
    world_close(w);
}

static void held_connection_stops_the_peer(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    cn_conn conn;
    const int fd = client_of(w, &conn);
    static char block[65536];
    place_of(w, conn)->take_max = 0;
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    size_t sent = 0;
    for (int idle = 0; idle < 20;) {
        const ssize_t n = send(fd, block, sizeof block, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        idle = n > 0 ? 0 : idle + 1;
        w->transport->ops->poll(w->transport, MS);
    }
    assert_int_equal(place_of(w, conn)->received.len, 0);
    assert_true(sent < 64u << 20);               // what two sockets hold, not all that is offered
    place_of(w, conn)->take_max = SIZE_MAX;
    w->transport->ops->resume(w->transport, conn);
    POLL_UNTIL(w, place_of(w, conn)->received.len == sent);
    close(fd);
    world_close(w);
}

// A peer that goes is noticed also while its bytes are held, whether it closes or resets.
static void end_of_a_held_peer_is_noticed(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    for (int how = 0; how < 4; how++) {
        cn_conn conn;
        const int fd = client_of(w, &conn);
        const uint32_t before = w->closed_count;
        const struct linger reset = {1, 0};
        place_of(w, conn)->take_max = 0;
        send_text(fd, "held");
        POLL_UNTIL(w, place_of(w, conn)->shown_count == 1);
        if (how & 1) {                           // with EPOLLIN off
            send_text(fd, "more");
            for (int i = 0; i < 3; i++) w->transport->ops->poll(w->transport, 0);
        }
        if (how & 2) {
            assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
        }
        close(fd);
        POLL_UNTIL(w, w->closed_count == before + 1);
    }
    world_close(w);
}

// Everything that a peer sent before it closed its side is shown before closed is called.
static void last_bytes_come_before_the_end(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    cn_conn conn;
    const int fd = client_of(w, &conn);
    static char block[200000];
    assert_int_equal(send(fd, block, sizeof block, MSG_NOSIGNAL), sizeof block);
    close(fd);
    POLL_UNTIL(w, w->closed_count == 1);
    assert_int_equal(place_of(w, conn)->received.len, sizeof block);
    world_close(w);
}

static void blocked_writes_go_on(void **state)
{
    (void)state;
    enum { BYTES = 32 << 20 };
    world *w = world_open("127.0.0.1:0");
    cn_conn conn;
    const int fd = client_of(w, &conn);
    char *out = malloc(BYTES), *in = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) out[i] = (char)(i * 2654435761u >> 24);
    size_t written = write_to(w, conn, out, BYTES), read = 0;
    assert_true(written > 0 && written < BYTES);
    assert_int_equal(write_to(w, conn, out + written, BYTES - written), 0);
    w->transport->ops->poll(w->transport, 0);
    assert_false(w->transport->ops->poll(w->transport, 0));
    assert_int_equal(place_of(w, conn)->writable_count, 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (read < BYTES) {
        const ssize_t n = recv(fd, in + read, BYTES - read, 0);
        if (n > 0) read += (size_t)n;
        const uint32_t before = place_of(w, conn)->writable_count;
        w->transport->ops->poll(w->transport, 0);
        if (place_of(w, conn)->writable_count == before) continue;
        written += write_to(w, conn, out + written, BYTES - written);
    }
    assert_memory_equal(in, out, BYTES);
    assert_true(place_of(w, conn)->writable_count > 0);
    // All is written: EPOLLOUT is off and nothing is reported any more.
    for (int i = 0; i < 3; i++) w->transport->ops->poll(w->transport, 0);
    assert_false(w->transport->ops->poll(w->transport, 0));
    free(out);
    free(in);
    close(fd);
    world_close(w);
}

// finish lets the last answer arrive though the peer is still sending: no reset destroys it.
static void finish_lingers(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    cn_conn conn;
    char text[16] = "";
    static char block[100000];
    const int fd = client_of(w, &conn);
    assert_int_equal(send(fd, block, sizeof block, MSG_NOSIGNAL), sizeof block);
    assert_int_equal(write_to(w, conn, "last", 4), 4);
    w->transport->ops->finish(w->transport, conn);
    assert_int_equal(write_to(w, conn, "more", 4), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(send(fd, block, sizeof block, MSG_NOSIGNAL), sizeof block);
        w->transport->ops->poll(w->transport, 0);
        w->transport->ops->poll(w->transport, 0);
    }
    assert_int_equal(recv(fd, text, sizeof text, 0), 4);
    assert_int_equal(recv(fd, text, sizeof text, 0), 0);
    assert_int_equal(place_of(w, conn)->received.len, 0);
    assert_int_equal(w->closed_count, 0);
    close(fd);
    world_close(w);
}

// A peer that neither reads nor closes is waited for during a bounded time, and its place comes
// back.
static void finish_ends_in_time(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    int fds[PLACES];
    for (int i = 0; i < PLACES; i++) {
        cn_conn conn;
        fds[i] = client_of(w, &conn);
        place_of(w, conn)->open = false;
        w->transport->ops->finish(w->transport, conn);
    }
    const int fd = connect_to(w);
    const uint64_t start_ns = now_ns();
    POLL_UNTIL(w, w->opened_count == PLACES + 1);
    assert_in_range(now_ns() - start_ns, 1500 * MS, 2500 * MS);
    for (int i = 0; i < PLACES; i++) close(fds[i]);
    close(fd);
    world_close(w);
}

static void abort_resets(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    cn_conn conn;
    char text[16];
    const int fd = client_of(w, &conn);
    w->transport->ops->abort(w->transport, conn);
    assert_int_equal(recv(fd, text, sizeof text, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    w->transport->ops->poll(w->transport, 0);
    assert_int_equal(w->closed_count, 0);
    w->transport->ops->abort(w->transport, conn);        // names nobody any more
    w->transport->ops->finish(w->transport, conn);
    w->transport->ops->resume(w->transport, conn);
    close(fd);
    world_close(w);
}

// The handler may end a connection while its bytes are shown, fresh or held: for ASan.
static void abort_while_bytes_are_shown(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    for (int held = 0; held < 2; held++) {
        cn_conn conn;
        const int fd = client_of(w, &conn);
        place_of(w, conn)->take_max = 1;
        w->abort_on_receive = !held;
        send_text(fd, "bytes");
        POLL_UNTIL(w, place_of(w, conn)->shown_count == 1);
        w->abort_on_receive = true;
        if (held) w->transport->ops->resume(w->transport, conn);
        assert_false(place_of(w, conn)->open);
        w->abort_on_receive = false;
        close(fd);
    }
    assert_int_equal(w->closed_count, 0);
    world_close(w);
}

// Beyond connection_max clients wait in the backlog, at no cost, and come in when one leaves.
static void full_house_waits(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    cn_conn conns[PLACES];
    int fds[PLACES];
    for (int i = 0; i < PLACES; i++) fds[i] = client_of(w, &conns[i]);
    const int late = connect_to(w);
    for (int i = 0; i < 3; i++) w->transport->ops->poll(w->transport, 0);
    assert_false(w->transport->ops->poll(w->transport, 0));
    assert_int_equal(w->opened_count, PLACES);
    close(fds[2]);
    POLL_UNTIL(w, w->opened_count == PLACES + 1);
    assert_int_equal(w->newest.index, conns[2].index);
    assert_int_not_equal(w->newest.generation, conns[2].generation);
    close(late);
    for (int i = 0; i < PLACES; i++) {
        if (i != 2) close(fds[i]);
    }
    world_close(w);
}

// Without descriptors nothing spins, and when there are some again the client is accepted.
static void descriptors_run_out(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    struct rlimit before, none;
    const int fd = connect_to(w);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int happened = 0;
    for (int i = 0; i < 20; i++) happened += w->transport->ops->poll(w->transport, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(happened, 1);
    assert_int_equal(w->opened_count, 0);
    POLL_UNTIL(w, w->opened_count == 1);
    close(fd);
    world_close(w);
}

static void stop_listening_keeps_connections(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    cn_conn conn;
    cn_transport_sockaddr at;
    socklen_t len;
    const int fd = client_of(w, &conn);
    w->transport->ops->stop_listening(w->transport);
    w->transport->ops->stop_listening(w->transport);
    cn_transport_address_parse(w->transport->ops->address(w->transport), &at, &len, NULL);
    const int late = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(late, &at.any, len), -1);
    close(late);
    send_text(fd, "still here");
    POLL_UNTIL(w, place_of(w, conn)->received.len == 10);
    close(fd);
    world_close(w);
}

// accept inherits the options of the listener: nothing is set per connection.
static void accepted_sockets_have_the_options(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    const int lowest = dup(0);
    close(lowest);
    const int fd = connect_to(w);                // takes `lowest`
    const uint32_t before = w->opened_count;
    POLL_UNTIL(w, w->opened_count == before + 1);
    const int accepted = fd + 1;                 // the next free one
    int value = 0;
    socklen_t len = sizeof value;
    assert_int_equal(fd, lowest);
    assert_int_equal(getsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    assert_int_equal(value, 1);
    assert_int_equal(getsockopt(accepted, SOL_SOCKET, SO_KEEPALIVE, &value, &len), 0);
    assert_int_equal(value, 1);
    assert_int_equal(getsockopt(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len), 0);
    assert_int_equal(value, 120000);
    close(fd);
    world_close(w);
}

static void *signal_once(void *arg)
{
    cn_wake_signal(arg);
    return NULL;
}

// A signal ends a wait; one that was not read does not end the next.
static void wake_ends_a_wait(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    pthread_t thread;
    cn_wake_prepare(&w->wake);
    assert_int_equal(pthread_create(&thread, NULL, signal_once, &w->wake), 0);
    const uint64_t start_ns = now_ns();
    assert_true(w->transport->ops->poll(w->transport, WAIT_NS));
    assert_true(now_ns() - start_ns < WAIT_NS);
    assert_int_equal(pthread_join(thread, NULL), 0);
    const uint64_t again_ns = now_ns();
    assert_false(w->transport->ops->poll(w->transport, 30 * MS));
    assert_true(now_ns() - again_ns >= 30 * MS);
    cn_wake_cancel(&w->wake);
    world_close(w);
}

static void open_names_what_is_wrong(void **state)
{
    (void)state;
    world *w = world_open("127.0.0.1:0");
    const char *taken = w->transport->ops->address(w->transport);
    const char *const rows[][2] = {
        {"8000", "has no port"},
        {taken, "Address already in use"},
        {"192.0.2.1:0", "Cannot assign requested address"},
    };
    for (int i = 0; i < 3; i++) {
        cn_transport *transport;
        cn_err err;
        const cn_transport_options options = {.address = rows[i][0], .connection_max = 1};
        const cn_code code = cn_transport_kernel_ops.open(&options, &transport, &err);
        assert_int_equal(code, i == 0 ? CN_E_INVALID : CN_E_IO);
        assert_null(transport);
        assert_non_null(strstr(err.text, rows[i][0]));
        assert_non_null(strstr(err.text, rows[i][1]));
    }
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_both_ways),
        cmocka_unit_test(held_bytes_wait),
        cmocka_unit_test(held_connection_stops_the_peer),
        cmocka_unit_test(end_of_a_held_peer_is_noticed),
        cmocka_unit_test(last_bytes_come_before_the_end),
        cmocka_unit_test(blocked_writes_go_on),
        cmocka_unit_test(finish_lingers),
        cmocka_unit_test(finish_ends_in_time),
        cmocka_unit_test(abort_resets),
        cmocka_unit_test(abort_while_bytes_are_shown),
        cmocka_unit_test(full_house_waits),
        cmocka_unit_test(descriptors_run_out),
        cmocka_unit_test(stop_listening_keeps_connections),
        cmocka_unit_test(accepted_sockets_have_the_options),
        cmocka_unit_test(wake_ends_a_wait),
        cmocka_unit_test(open_names_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
