#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/lwip_pool.h"
#include "tests/dataplane/tcp_wire.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

/* What the stack does when there is too much of something: connections, SYNs, readers that do not
 * read, frames that are not to be had; and that it takes neither memory nor locks while it works. */

enum { PLACES = 1200 };

// ---- counted calls (the linker leads them here: --wrap) ------------------------------------------

static uint64_t taken_count, locked_count;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);

void *__wrap_malloc(size_t bytes)
{
    taken_count++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    taken_count++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    taken_count++;
    return __real_realloc(old, bytes);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    locked_count++;
    return __real_pthread_mutex_lock(mutex);
}

// ---- the handler -------------------------------------------------------------------------------

typedef struct client {
    bool open;
    cn_conn conn;
    uint16_t port;
    uint32_t near_next, far_next;        // sequence numbers
    uint64_t got, writable;
} client;

static struct world {
    wire wire;
    client clients[PLACES];              // by index of the connection
    uint32_t open_count, closed_count;
    uint64_t take;
    uint32_t newest;
    uint64_t send_calls, sent_frames;
    cn_nic_ops counted;
    const cn_nic_ops *real;
} the;

static void on_opened(void *self, cn_conn conn, const char *peer)
{
    (void)self;
    the.clients[conn.index] = (client){.open = true, .conn = conn,
                                       .port = (uint16_t)atoi(strrchr(peer, ':') + 1)};
    the.newest = conn.index;
    the.open_count++;
}

static size_t on_received(void *self, cn_conn conn, const char *data, size_t len)
{
    (void)self, (void)data;
    const size_t take = len < the.take ? len : (size_t)the.take;
    the.clients[conn.index].got += take;
    return take;
}

static void on_writable(void *self, cn_conn conn)
{
    (void)self;
    the.clients[conn.index].writable++;
}

static void on_closed(void *self, cn_conn conn)
{
    (void)self;
    the.clients[conn.index].open = false;
    the.closed_count++;
}

static void counted_send(cn_nic *nic, uint16_t queue, const cn_frame *frames, uint32_t count)
{
    the.send_calls++;
    the.sent_frames += count;
    the.real->send(nic, queue, frames, count);
}

static void world_open(uint32_t connection_max, uint64_t data_bytes, uint32_t frame_count)
{
    memset(&the, 0, sizeof the);
    the.take = UINT64_MAX;
    const wire_options options = {.connection_max = connection_max, .data_bytes = data_bytes,
                                  .seed = 1, .frame_count = frame_count,
                                  .handler = {&the, on_opened, on_received, on_writable, on_closed}};
    wire_open(&the.wire, &options);
    wire_announce(&the.wire);
    wire_poll(&the.wire);
    uint8_t frame[2048];
    while (wire_receive_frame(&the.wire, frame)) continue;
    the.real = the.wire.near->ops;
    the.counted = *the.real;
    the.counted.send = counted_send;
    the.wire.near->ops = &the.counted;
}

static void world_close(void)
{
    the.wire.near->ops = the.real;
    wire_close(&the.wire);
}

static void drain(void)
{
    wire_segment s;
    while (wire_receive(&the.wire, &s)) continue;
}

static void pass_ms(uint32_t ms)
{
    while (ms--) {
        wire_advance(&the.wire, 1000000);
        wire_poll(&the.wire);
    }
}

static void send_flags(uint16_t port, uint8_t flags, uint32_t seq, uint32_t ack, uint32_t window)
{
    wire_segment s = wire_segment_of(flags, seq, ack);
    s.far_port = port;
    s.window = window;
    if (flags & TCP_SYN) s.mss = 1000;
    wire_send(&the.wire, &s);
}

static void send_data(client *c, uint32_t seq, const void *data, uint32_t len)
{
    wire_segment s = wire_segment_of(TCP_ACK | TCP_PSH, seq, c->near_next);
    s.far_port = c->port;
    s.data = data;
    s.len = len;
    wire_send(&the.wire, &s);
}

// A connection from `port`; NULL if the stack does not answer.
static client *connect_from(uint16_t port, uint32_t window)
{
    wire_segment s;
    drain();
    send_flags(port, TCP_SYN, 1000, 0, window);
    wire_poll(&the.wire);
    if (!wire_receive(&the.wire, &s)) return NULL;
    assert_int_equal(s.flags, TCP_SYN | TCP_ACK);
    assert_int_equal(s.far_port, port);
    send_flags(port, TCP_ACK, 1001, s.seq + 1, window);
    wire_poll(&the.wire);
    client *c = &the.clients[the.newest];
    assert_true(c->open && c->port == port);
    c->near_next = s.seq + 1;
    c->far_next = 1001;
    return c;
}

static size_t write_to(client *c, const void *data, size_t len)
{
    return the.wire.transport->ops->write(the.wire.transport, c->conn, data, len);
}

static cn_transport_dpdk_stats stats(void)
{
    cn_transport_dpdk_stats out;
    cn_transport_dpdk_stats_read(the.wire.transport, &out);
    return out;
}

// ---- tests -------------------------------------------------------------------------------------

// 10,000 requests and answers, some early, some held, some lost, and connections that come and go.
static void steady_state_takes_no_memory_and_no_lock(void **state)
{
    (void)state;
    static const uint8_t request[300], answer[700];
    wire_segment s;
    world_open(16, 0, 0);
    client *c = connect_from(40000, 65535);
    const uint64_t taken_before = taken_count, locked_before = locked_count;
    for (int i = 0; i < 10000; i++) {
        the.take = i % 7 ? UINT64_MAX : 50;
        if (i % 5 == 0) {                // the second half first
            send_data(c, c->far_next + 150, request, 150);
            wire_poll(&the.wire);
            send_data(c, c->far_next, request, 150);
        } else {
            send_data(c, c->far_next, request, 300);
        }
        c->far_next += 300;
        wire_poll(&the.wire);
        the.take = UINT64_MAX;
        the.wire.transport->ops->resume(the.wire.transport, c->conn);
        assert_int_equal(write_to(c, answer, sizeof answer), sizeof answer);
        wire_poll(&the.wire);
        if (i % 100 == 0) pass_ms(250);  // one answer is lost
        drain();
        c->near_next += sizeof answer;
        send_flags(c->port, TCP_ACK, c->far_next, c->near_next, 65535);
        wire_poll(&the.wire);
        if (i % 10 == 0) {
            client *other = connect_from((uint16_t)(41000 + i), 65535);
            assert_non_null(other);
            the.wire.transport->ops->abort(the.wire.transport, other->conn);
            wire_poll(&the.wire);
            drain();
        }
    }
    assert_int_equal(c->got, 3000000);
    assert_int_equal(taken_count, taken_before);
    assert_int_equal(locked_count, locked_before);
    assert_true(stats().rexmits >= 100);
    while (wire_receive(&the.wire, &s)) continue;
    world_close();
    // The counters do count: opening and closing has taken memory.
    assert_true(taken_before > 0);
}

// 64 clients stream while 200,000 SYNs from everywhere arrive. The streams do not notice, memory stays
// where it was, and whoever answers at once still gets in.
static void streams_survive_a_flood_of_syns(void **state)
{
    (void)state;
    enum { STREAMS = 64, SYNS = 200000 };
    static const char event[100];
    test_rng rng = test_rng_open("syn_flood");
    client *clients[STREAMS];
    world_open(1024, 0, 4096);
    for (int i = 0; i < STREAMS; i++) {
        assert_non_null(clients[i] = connect_from((uint16_t)(40000 + i), 65535));
    }
    uint64_t used_early = 0, used_late = 0, received[STREAMS] = {0};
    const uint8_t near_ip[4] = {198, 18, 0, 1};
    const uint8_t far_ip[4] = {198, 18, 0, 2};
    for (int i = 0; i < SYNS; i++) {
        the.wire.far_ip[3] = (uint8_t)(3 + test_rng_below(&rng, 250));
        send_flags((uint16_t)test_rng_u64(&rng), TCP_SYN, (uint32_t)test_rng_u64(&rng), 0, 1000);
        memcpy(the.wire.far_ip, far_ip, 4);
        if (i % 200) continue;
        // Once a millisecond every stream gets an event; SYN-ACKs to nobody are thrown away.
        wire_advance(&the.wire, 1000000);
        for (int k = 0; k < STREAMS; k++) {
            assert_int_equal(write_to(clients[k], event, sizeof event), sizeof event);
        }
        while (wire_poll(&the.wire)) continue;
        uint8_t frame[2048];
        for (uint16_t len; (len = wire_receive_frame(&the.wire, frame)) != 0;) {
            wire_segment s;
            if (frame[33] != far_ip[3] || memcmp(frame + 26, near_ip, 4)) continue;
            if (!wire_parse(&the.wire, frame, len, &s) || s.far_port < 40000 || s.far_port >= 40064) continue;
            client *c = clients[s.far_port - 40000];
            if (s.seq != c->near_next) continue;
            received[s.far_port - 40000] += s.len;
            c->near_next += s.len;
            send_flags(c->port, TCP_ACK, c->far_next, c->near_next, 65535);
        }
        uint64_t *used = i < SYNS / 10 ? &used_early : &used_late;
        if (cn_lwip_pool_used_bytes() > *used) *used = cn_lwip_pool_used_bytes();
    }
    for (int k = 0; k < STREAMS; k++) assert_true(received[k] >= (SYNS / 200 - 2) * sizeof event);
    assert_int_equal(the.closed_count, 0);
    assert_true(stats().syns_dropped > SYNS / 2);
    printf("memory: %llu bytes after a tenth of the flood, %llu at the end\n",
           (unsigned long long)used_early, (unsigned long long)used_late);
    assert_true(used_late < used_early + used_early / 10);
    pass_ms(110);                        // the half-open ones are no longer young
    while (wire_poll(&the.wire)) continue;
    assert_non_null(connect_from(50000, 65535));
    world_close();
}

// Connections one after the other, each closed by the stack: TIME_WAIT never uses up the places.
static void time_wait_does_not_run_out(void **state)
{
    (void)state;
    world_open(4, 0, 0);
    for (uint32_t i = 0; i < 50000; i++) {
        client *c = connect_from((uint16_t)(1024 + i % 60000), 65535);
        assert_non_null(c);
        the.wire.transport->ops->finish(the.wire.transport, c->conn);
        wire_poll(&the.wire);
        send_flags(c->port, TCP_FIN | TCP_ACK, c->far_next, c->near_next + 1, 65535);
        wire_poll(&the.wire);
        if (i % 10 == 0) wire_advance(&the.wire, 1000000);
    }
    assert_int_equal(the.open_count, 50000);
    world_close();
}

// Bytes that wait, in order or early, hold none of the port's frames.
static void what_waits_pins_no_frames(void **state)
{
    (void)state;
    static const uint8_t body[1000];
    world_open(4, 0, 0);
    client *c = connect_from(40000, 65535);
    the.take = 0;
    for (uint32_t i = 0; i < 30; i++) {
        send_data(c, c->far_next + i * 1000, body, 1000);
        wire_poll(&the.wire);
        assert_int_equal(cn_nic_sim_held(the.wire.near), 0);
    }
    for (uint32_t i = 32; i < 60; i++) {
        send_data(c, c->far_next + i * 1000, body, 1000);
        wire_poll(&the.wire);
        assert_int_equal(cn_nic_sim_held(the.wire.near), 0);
    }
    world_close();
}

// A peer that sends only second halves cannot use more than half of the memory.
static void early_segments_leave_memory_to_others(void **state)
{
    (void)state;
    enum { ATTACKERS = 40, DATA_BYTES = 2 << 20 };
    static const uint8_t body[1000];
    static const char answer[8000];
    world_open(64, DATA_BYTES, 0);
    for (uint16_t i = 0; i < ATTACKERS; i++) {
        client *c = connect_from((uint16_t)(40000 + i), 65535);
        assert_non_null(c);
        for (uint32_t k = 1; k < 60; k++) {
            send_data(c, c->far_next + k * 1000, body, 1000);
            wire_poll(&the.wire);
            drain();
        }
    }
    assert_true(stats().unkept > 0);
    assert_true(cn_lwip_pool_fill(1460) < 140);
    client *c = connect_from(50000, 65535);
    assert_non_null(c);
    assert_int_equal(write_to(c, answer, sizeof answer), sizeof answer);
    world_close();
}

// Readers that do not read get a smaller and smaller share, so that one who reads is served.
static void slow_readers_leave_memory_to_others(void **state)
{
    (void)state;
    enum { SLOW = 200, DATA_BYTES = 4 << 20 };
    static const char data[300000];
    wire_segment s;
    world_open(256, DATA_BYTES, 0);
    size_t first = 0, last = 0;
    for (uint16_t i = 0; i < SLOW; i++) {
        client *c = connect_from((uint16_t)(40000 + i), 0);
        assert_non_null(c);
        last = write_to(c, data, sizeof data);
        if (i == 0) first = last;
    }
    assert_int_equal(first, 256 * 1024);
    assert_true(last < 8192);
    assert_true(cn_lwip_pool_used_bytes() <= DATA_BYTES + 256 * 1024);
    client *c = connect_from(50000, 65535);
    assert_non_null(c);
    uint32_t got = 0;
    for (int round = 0; round < 20000 && got < sizeof data; round++) {
        write_to(c, data, sizeof data - got);
        wire_poll(&the.wire);
        while (wire_receive(&the.wire, &s)) {
            if (s.far_port != 50000 || s.seq != c->near_next) continue;
            got += s.len;
            c->near_next += s.len;
        }
        send_flags(c->port, TCP_ACK, c->far_next, c->near_next, 65535);
        wire_poll(&the.wire);
    }
    assert_true(got >= sizeof data);
    world_close();
}

// A connection that can get no memory at all is asked again, without an acknowledgement to wait for.
static void a_starved_writer_is_asked_again(void **state)
{
    (void)state;
    static const char data[300000];
    world_open(1000, 1 << 20, 0);
    uint16_t port = 40000;
    client *c;
    do {
        assert_non_null(c = connect_from(port++, 0));
    } while (write_to(c, data, sizeof data) > 0);
    pass_ms(30);
    assert_true(c->writable >= 1);
    assert_int_equal(write_to(c, data, sizeof data), 0);
    // The first one gives up, and with it its share.
    the.wire.transport->ops->abort(the.wire.transport, the.clients[0].conn);
    const uint64_t before = c->writable;
    pass_ms(30);
    assert_true(c->writable > before);
    assert_true(write_to(c, data, sizeof data) > 0);
    world_close();
}

// Bytes that HTTP leaves and for which there is no memory end their connection, and only it.
static void held_bytes_have_a_bound(void **state)
{
    (void)state;
    static const uint8_t body[1000];
    world_open(64, 1 << 20, 0);
    client *good = connect_from(50000, 65535);
    assert_non_null(good);
    the.take = 0;
    for (uint16_t i = 0; i < 40 && !the.closed_count; i++) {
        client *c = connect_from((uint16_t)(40000 + i), 65535);
        if (!c) break;
        for (uint32_t k = 0; k < 65 && c->open; k++) {
            send_data(c, c->far_next + k * 1000, body, 1000);
            wire_poll(&the.wire);
            drain();
        }
    }
    assert_true(the.closed_count > 0);
    assert_int_equal(stats().connections_dropped, the.closed_count);
    assert_true(good->open);
    world_close();
}

// Without frames nothing leaves; it is counted, and goes on when there are some again.
static void a_port_without_frames_is_survived(void **state)
{
    (void)state;
    static const uint8_t body[1000];
    cn_frame hoard[64];
    uint32_t hoarded = 0;
    wire_segment s;
    world_open(4, 0, 64);
    client *c = connect_from(40000, 65535);
    while (hoarded < 64 && the.wire.near->ops->alloc(the.wire.near, 0, &hoard[hoarded])) hoarded++;
    assert_int_equal(write_to(c, body, sizeof body), sizeof body);
    wire_poll(&the.wire);
    assert_false(wire_receive(&the.wire, &s));
    assert_true(stats().frames_refused > 0);
    while (hoarded) the.wire.near->ops->free(the.wire.near, &hoard[--hoarded]);
    pass_ms(20);
    assert_true(wire_receive(&the.wire, &s));
    assert_int_equal(s.len, sizeof body);
    assert_int_equal(s.seq, c->near_next);
    world_close();
}

// One step's tokens for 100 streams leave in bursts, not one by one.
static void a_step_leaves_as_bursts(void **state)
{
    (void)state;
    enum { STREAMS = 100 };
    client *clients[STREAMS];
    world_open(STREAMS, 0, 1024);
    for (int i = 0; i < STREAMS; i++) clients[i] = connect_from((uint16_t)(40000 + i), 65535);
    the.send_calls = the.sent_frames = 0;
    for (int i = 0; i < STREAMS; i++) {
        assert_int_equal(write_to(clients[i], "data: token\n\n", 13), 13);
        assert_int_equal(write_to(clients[i], "data: token\n\n", 13), 13);
    }
    assert_int_equal(the.send_calls, 0);
    wire_poll(&the.wire);
    assert_int_equal(the.sent_frames, STREAMS);          // two writes, one segment
    assert_int_equal(the.send_calls, 2);                 // 64 and 36
    world_close();
}

// A stack that was kept from running for longer than a retransmission time-out reads the acknowledgement
// that has come meanwhile, behind more frames than one round takes, before it sends anything again.
static void what_waits_is_read_before_timers_run(void **state)
{
    (void)state;
    enum { BEFORE = 5000 };
    uint8_t noise[64] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0b, 0x88, 0xb5};
    wire_segment s;
    world_open(4, 0, 8192);
    client *c = connect_from(40000, 65535);
    for (int i = 0; i < 2; i++) {                        // the second time without the acknowledgement
        assert_int_equal(write_to(c, "data: token\n\n", 13), 13);
        wire_poll(&the.wire);
        assert_true(wire_receive(&the.wire, &s));
        for (int k = 0; k < BEFORE; k++) wire_send_frame(&the.wire, noise, sizeof noise);
        c->near_next += 13;
        if (i == 0) send_flags(c->port, TCP_ACK, c->far_next, c->near_next, 65535);
        wire_advance(&the.wire, 3000000000);
        for (int k = 0; k < 4; k++) wire_poll(&the.wire);
        assert_int_equal(stats().timeouts, i);
        assert_int_equal(stats().rexmits, i);
    }
    // Frames without end do not stop the timers.
    for (int k = 0; k < 20; k++) {
        for (int n = 0; n < 2100; n++) wire_send_frame(&the.wire, noise, sizeof noise);
        wire_advance(&the.wire, 100000000);
        wire_poll(&the.wire);
    }
    assert_true(stats().timeouts >= 2);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_state_takes_no_memory_and_no_lock),
        cmocka_unit_test(streams_survive_a_flood_of_syns),
        cmocka_unit_test(time_wait_does_not_run_out),
        cmocka_unit_test(what_waits_pins_no_frames),
        cmocka_unit_test(early_segments_leave_memory_to_others),
        cmocka_unit_test(slow_readers_leave_memory_to_others),
        cmocka_unit_test(a_starved_writer_is_asked_again),
        cmocka_unit_test(held_bytes_have_a_bound),
        cmocka_unit_test(a_port_without_frames_is_survived),
        cmocka_unit_test(a_step_leaves_as_bursts),
        cmocka_unit_test(what_waits_is_read_before_timers_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
