#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/dataplane/tcp_peer.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

/* Streams over a wire that drops, repeats, reorders, delays and damages frames, under a simulated
 * clock. Whatever the wire does, both ends get exactly the bytes that the other one sent, and both are
 * done in the end. A seed says everything about a run; CN_SEED repeats one, CN_RUNS says how many. */

#if defined(CN_SLOW_ASSERTS)
enum { RUNS = 1000 };                        // under sanitizers
#else
enum { RUNS = 10000 };
#endif
// A SYN that comes again once its connection has ended is half open for a while: there is room for it.
enum { PEER_MAX = 4, PLACES = 2 * PEER_MAX };
static const uint64_t GIVE_UP_NS = 400000000000;

typedef struct server_side {                 // one connection, as the handler sees it
    bool open, all_received, all_written, finished;
    uint16_t port;
    uint32_t got, written, send_bytes, receive_bytes;
    bool held;
    cn_conn conn;
} server_side;

typedef struct run {
    wire wire;
    test_rng rng;
    uint64_t seed;
    tcp_peer peers[PEER_MAX];
    uint32_t peer_count;
    server_side sides[PLACES];
} run;

static server_side *side(run *r, cn_conn conn) { return &r->sides[conn.index]; }

static void write_more(run *r, cn_conn conn)
{
    server_side *s = side(r, conn);
    static char data[8000];
    while (s->written < s->send_bytes) {
        uint32_t n = s->send_bytes - s->written;
        const uint32_t most = 1 + (uint32_t)test_rng_below(&r->rng, sizeof data);
        if (n > most) n = most;
        for (uint32_t i = 0; i < n; i++) data[i] = (char)tcp_peer_byte(s->port, false, s->written + i);
        const size_t took = r->wire.transport->ops->write(r->wire.transport, conn, data, n);
        s->written += (uint32_t)took;
        if (took < n) return;
    }
    s->all_written = true;
}

static void finish_if_done(run *r, cn_conn conn)
{
    server_side *s = side(r, conn);
    if (!s->all_written || !s->all_received || s->finished) return;
    s->finished = true;
    s->open = false;
    r->wire.transport->ops->finish(r->wire.transport, conn);
}

static void on_opened(void *self, cn_conn conn, const char *peer)
{
    run *r = self;
    server_side *s = side(r, conn);
    const uint16_t port = (uint16_t)atoi(strrchr(peer, ':') + 1);
    const tcp_peer *p = &r->peers[port - 40000];
    assert_false(s->open);
    *s = (server_side){.open = true, .port = port, .conn = conn, .send_bytes = p->options.receive_bytes,
                       .receive_bytes = p->options.send_bytes};
    s->all_received = s->receive_bytes == 0;
    write_more(r, conn);
    finish_if_done(r, conn);
}

static size_t on_received(void *self, cn_conn conn, const char *data, size_t len)
{
    run *r = self;
    server_side *s = side(r, conn);
    assert_true(s->open);
    // Sometimes it is busy, as HTTP is while a request is being answered.
    size_t take = test_rng_below(&r->rng, 8) ? len : test_rng_below(&r->rng, (uint32_t)len + 1);
    for (size_t i = 0; i < take; i++) {
        if ((uint8_t)data[i] != tcp_peer_byte(s->port, true, s->got + (uint32_t)i)) {
            fail_msg("seed %llu: port %u: byte %zu is wrong", (unsigned long long)r->seed, s->port,
                     s->got + i);
        }
    }
    s->got += (uint32_t)take;
    s->held = take < len;
    assert_true(s->got <= s->receive_bytes);
    s->all_received = s->got == s->receive_bytes;
    finish_if_done(r, conn);
    return take;
}

static void on_writable(void *self, cn_conn conn)
{
    write_more(self, conn);
    finish_if_done(self, conn);
}

static void on_closed(void *self, cn_conn conn)
{
    run *r = self;
    fail_msg("seed %llu: port %u was closed", (unsigned long long)r->seed, side(r, conn)->port);
}

static void resume_some(run *r)
{
    for (uint32_t i = 0; i < PLACES; i++) {
        server_side *s = &r->sides[i];
        if (!s->open || !s->held || test_rng_below(&r->rng, 3)) continue;
        s->held = false;
        r->wire.transport->ops->resume(r->wire.transport, s->conn);
    }
}

// A frame with a flipped bit may be anything: only what is whole is for a peer.
static void deliver(run *r, const uint8_t *frame, uint16_t len)
{
    wire_segment s;
    const wire *w = &r->wire;
    const uint32_t ip_bytes = w->v6 ? 40 : 20;
    const uint8_t *ip = frame + 14;
    static const uint8_t far_mac[6] = {2, 0, 0, 0, 0, 0x0b}, near_mac[6] = {2, 0, 0, 0, 0, 0x0a};
    if (len < 14 + ip_bytes + 20 || memcmp(frame, far_mac, 6) || memcmp(frame + 6, near_mac, 6)) return;
    if (frame[12] != (w->v6 ? 0x86 : 0x08) || frame[13] != (w->v6 ? 0xdd : 0x00)) return;
    const uint32_t bytes = w->v6 ? (uint32_t)(ip[4] << 8 | ip[5]) : (uint32_t)(ip[2] << 8 | ip[3]) - 20;
    if (ip[w->v6 ? 6 : 9] != 6 || 14 + ip_bytes + bytes != len) return;
    if (memcmp(ip + (w->v6 ? 8 : 12), w->near_ip, w->v6 ? 16 : 4)) return;
    if (memcmp(ip + (w->v6 ? 24 : 16), w->far_ip, w->v6 ? 16 : 4)) return;
    if (wire_sum(w, ip + ip_bytes, bytes) != 0) return;
    if (!w->v6) {
        uint32_t sum = 0;
        for (int i = 0; i < 20; i += 2) sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
        if ((sum & 0xffff) + (sum >> 16) != 0xffff) return;
    }
    if (!wire_parse(w, frame, len, &s)) return;
    const uint32_t index = s.far_port - 40000u;
    if (index < r->peer_count) tcp_peer_receive(&r->peers[index], &r->wire, &s);
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

// Moves time to what happens next, but no further than 10 ms.
static void advance(run *r)
{
    uint64_t next_ns = r->wire.now_ns + 10000000;
    next_ns = earlier(next_ns, r->wire.now_ns + cn_stack_timer_left_ns());
    next_ns = earlier(next_ns, cn_nic_sim_next_ns(r->wire.sim));
    next_ns = earlier(next_ns, cn_nic_sim_next_ns(r->wire.far));
    if (r->wire.near != r->wire.sim) next_ns = earlier(next_ns, cn_nic_lossy_next_ns(r->wire.near));
    for (uint32_t i = 0; i < r->peer_count; i++) next_ns = earlier(next_ns, r->peers[i].timer_ns);
    if (next_ns <= r->wire.now_ns) next_ns = r->wire.now_ns + 10000;
    r->wire.now_ns = next_ns;
}

static cn_nic_lossy_rates rates(test_rng *rng, uint32_t most)
{
    // Of a million frames; each kind of damage is absent half of the time.
#define RATE() (most && test_rng_below(rng, 2) ? (uint32_t)test_rng_below(rng, most) : 0)
    return (cn_nic_lossy_rates){.drop = RATE(), .duplicate = RATE(), .reorder = RATE(),
                                .delay = RATE(), .corrupt = RATE()};
#undef RATE
}

static void open_peers(run *r)
{
    static const uint32_t segments[] = {100, 536, 1000, 1440}, windows[] = {700, 3000, 20000, 65535, 200000};
    r->peer_count = 1 + (uint32_t)test_rng_below(&r->rng, PEER_MAX);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const uint32_t window = windows[test_rng_below(&r->rng, 5)];
        const tcp_peer_options options = {
            .port = (uint16_t)(40000 + i), .isn = (uint32_t)test_rng_u64(&r->rng),
            .send_bytes = (uint32_t)test_rng_below(&r->rng, 12000),
            .receive_bytes = (uint32_t)test_rng_below(&r->rng, 24000),
            .segment_bytes = segments[test_rng_below(&r->rng, 4)], .window_bytes = window,
            .scale = window > 65535 ? 3 : (int)test_rng_below(&r->rng, 2) - 1,
            .sack = test_rng_below(&r->rng, 4) != 0,
            .ack_every = 1 + (uint32_t)test_rng_below(&r->rng, 2)};
        tcp_peer_open(&r->peers[i], &options, &r->wire);
    }
}

static bool all_done(const run *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].state != PEER_DONE) return false;
    }
    return true;
}

static void run_seed(run *r, uint64_t seed, uint32_t most)
{
    memset(r, 0, sizeof *r);
    r->seed = seed;
    r->rng = (test_rng){seed};
    const cn_nic_lossy_rates received = rates(&r->rng, most), sent = rates(&r->rng, most);
    const wire_options options = {
        .v6 = test_rng_below(&r->rng, 2), .seed = seed, .connection_max = PLACES,
        .frame_count = 1024, .latency_ns = test_rng_below(&r->rng, 2) ? 50000 : 20000000,
        .received = most ? &received : NULL, .sent = most ? &sent : NULL,
        .handler = {r, on_opened, on_received, on_writable, on_closed}};
    wire_open(&r->wire, &options);
    wire_announce(&r->wire);
    open_peers(r);
    uint8_t frame[2048];
    while (!all_done(r)) {
        if (r->wire.now_ns > GIVE_UP_NS) fail_msg("seed %llu: stuck", (unsigned long long)seed);
        while (wire_poll(&r->wire)) continue;
        resume_some(r);
        for (uint16_t len; (len = wire_receive_frame(&r->wire, frame)) != 0;) deliver(r, frame, len);
        for (uint32_t i = 0; i < r->peer_count; i++) {
            tcp_peer_run(&r->peers[i], &r->wire);
            if (r->peers[i].state == PEER_RESET) {
                fail_msg("seed %llu: port %u was reset", (unsigned long long)seed, 40000 + i);
            }
        }
        advance(r);
    }
    for (uint32_t i = 0; i < PLACES; i++) {
        assert_int_equal(r->sides[i].got, r->sides[i].receive_bytes);
        assert_int_equal(r->sides[i].written, r->sides[i].send_bytes);
    }
    for (uint32_t i = 0; i < r->peer_count; i++) tcp_peer_close(&r->peers[i]);
    wire_close(&r->wire);
}

static void streams_survive_any_wire(void **state)
{
    (void)state;
    static run r;
    test_rng rng = test_rng_open("tcp_loss");        // prints its seed; CN_SEED=... repeats the run
    const char *runs = getenv("CN_RUNS");
    const int run_count = runs ? atoi(runs) : RUNS;
    for (int i = 0; i < run_count; i++) {
        // 0 to 10 percent of each kind.
        run_seed(&r, test_rng_u64(&rng), (uint32_t)(i % 11) * 10000);
    }
}

int main(void)
{
    // A wire per seed: its memory stays with the process, and is not zeroed by the kernel each time.
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    const struct CMUnitTest tests[] = {cmocka_unit_test(streams_survive_any_wire)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
