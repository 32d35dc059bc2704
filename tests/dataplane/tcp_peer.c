#include "tests/dataplane/tcp_peer.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

static const uint64_t RTO_FIRST_NS = 300000000, RTO_MAX_NS = 3000000000, ACK_DELAY_NS = 20000000;

uint8_t tcp_peer_byte(uint16_t port, bool up, uint32_t at)
{
    uint32_t x = at * 2654435761u ^ (uint32_t)port << 7 ^ (up ? 0x5bd1e995u : 0);
    x ^= x >> 15;
    return (uint8_t)(x * 0x2c1b3c6du >> 24);
}

// Where its own stream ends: SYN, bytes, FIN.
static uint32_t end_of(const tcp_peer *p) { return p->options.send_bytes + 2; }

static wire_segment segment(const tcp_peer *p, uint8_t flags, uint32_t at)
{
    wire_segment s = wire_segment_of(flags, p->options.isn + at, p->near_isn + p->received);
    s.far_port = p->options.port;
    s.window = p->options.window_bytes >> (p->options.scale > 0 ? p->options.scale : 0);
    return s;
}

// The run of arrived bytes around `at`, as a range of sequence numbers.
static bool run_at(const tcp_peer *p, uint32_t at, uint32_t out[2])
{
    const uint32_t end = p->options.receive_bytes + 1;
    if (at <= p->received || at >= end || !p->map[at]) return false;
    const uint8_t *before = memrchr(p->map + p->received, 0, at - p->received);
    const uint8_t *after = memchr(p->map + at, 0, end - at);
    out[0] = p->near_isn + (uint32_t)(before + 1 - p->map);
    out[1] = p->near_isn + (after ? (uint32_t)(after - p->map) : end);
    return true;
}

static void add_sacks(const tcp_peer *p, wire_segment *s)
{
    if (!p->options.sack) return;
    if (run_at(p, p->sack_first, s->sacks[0])) s->sack_count = 1;
    uint32_t end = p->options.receive_bytes + 1;
    if (end > p->received + p->options.window_bytes) end = p->received + p->options.window_bytes;
    for (uint32_t at = p->received + 1; at < end && s->sack_count < 3; at++) {
        uint32_t range[2];
        const uint8_t *arrived = memchr(p->map + at, 1, end - at);
        if (!arrived || !run_at(p, (uint32_t)(arrived - p->map), range)) break;
        at = range[1] - p->near_isn;
        if (s->sack_count && range[0] == s->sacks[0][0]) continue;
        memcpy(s->sacks[s->sack_count++], range, sizeof range);
    }
}

static void acknowledge(tcp_peer *p, wire *w)
{
    wire_segment s = segment(p, TCP_ACK, p->next);
    add_sacks(p, &s);
    wire_send(w, &s);
    p->unacknowledged = 0;
}

static void send_syn(tcp_peer *p, wire *w)
{
    wire_segment s = segment(p, TCP_SYN, 0);
    s.ack = 0;
    s.window = p->options.window_bytes < 65535 ? p->options.window_bytes : 65535;
    s.mss = (int)p->options.segment_bytes;
    s.scale = p->options.scale;
    s.sack_permitted = p->options.sack;
    wire_send(w, &s);
    p->timer_ns = w->now_ns + p->rto_ns;
}

// One segment of data or the FIN from `next` on; false if nothing may be sent.
static bool send_one(tcp_peer *p, wire *w)
{
    static uint8_t data[WIRE_PAYLOAD_MAX];
    const uint32_t fin_at = end_of(p) - 1;
    const uint32_t window_end = p->una + (p->window ? p->window : 1);
    if (p->next > fin_at || p->next >= window_end || (p->next == fin_at && !p->fin_received)) return false;
    uint32_t n = fin_at - p->next;
    if (n > p->options.segment_bytes) n = p->options.segment_bytes;
    if (n > window_end - p->next) n = window_end - p->next;
    wire_segment s = segment(p, TCP_ACK | (n == 0 ? TCP_FIN : 0), p->next);
    for (uint32_t i = 0; i < n; i++) data[i] = tcp_peer_byte(p->options.port, true, p->next - 1 + i);
    s.data = data;
    s.len = n;
    wire_send(w, &s);
    if (p->next == p->una) p->timer_ns = w->now_ns + p->rto_ns;
    p->next += n ? n : 1;
    p->unacknowledged = 0;
    return true;
}

void tcp_peer_run(tcp_peer *p, wire *w)
{
    if (p->state == PEER_CONNECTING && w->now_ns >= p->timer_ns) send_syn(p, w);
    if (p->state != PEER_OPEN) return;
    if (w->now_ns >= p->timer_ns) {
        p->timer_ns = UINT64_MAX;
        if (p->una < p->next) {              // go back
            p->next = p->una;
            p->sent_again++;
            p->rto_ns = p->rto_ns * 2 < RTO_MAX_NS ? p->rto_ns * 2 : RTO_MAX_NS;
        } else if (p->unacknowledged) {
            acknowledge(p, w);
        }
    }
    while (p->next - p->una < 16 * p->options.segment_bytes && send_one(p, w)) continue;
    if (p->una == end_of(p) && p->fin_received) p->state = PEER_DONE;
}

static void take_data(tcp_peer *p, wire *w, const wire_segment *s)
{
    const uint32_t at = s->seq - p->near_isn;        // of the first byte
    const uint32_t end = p->options.receive_bytes + 1;
    const bool early = at > p->received;
    for (uint32_t i = 0; i < s->len; i++) {
        const uint32_t k = at + i;
        if (k < 1 || k >= p->received + p->options.window_bytes) continue;
        if (k >= end) fail_msg("port %u: byte %u, and %u were to come", p->options.port, k, end - 1);
        const uint8_t want = tcp_peer_byte(p->options.port, false, k - 1);
        if (s->data[i] != want) fail_msg("port %u: byte %u is wrong", p->options.port, k);
        p->map[k] = 1;
    }
    if (s->flags & TCP_FIN) p->fin_at = at + s->len;
    p->sack_first = at;
    while (p->received < end && p->map[p->received]) p->received++;
    if (p->fin_at == p->received && !p->fin_received) {
        if (p->received != end) fail_msg("port %u: the end came at %u", p->options.port, p->received);
        p->fin_received = true;
        p->received++;
    }
    if (!s->len && !(s->flags & TCP_FIN)) return;
    p->unacknowledged++;
    if (early || p->unacknowledged >= p->options.ack_every || (s->flags & TCP_FIN)) {
        acknowledge(p, w);
    } else if (p->una == p->next && p->timer_ns == UINT64_MAX) {
        p->timer_ns = w->now_ns + ACK_DELAY_NS;
    }
}

void tcp_peer_receive(tcp_peer *p, wire *w, const wire_segment *s)
{
    if (s->flags & TCP_RST) {
        if (p->state != PEER_DONE) p->state = PEER_RESET;
        return;
    }
    const uint32_t ack = s->ack - p->options.isn;
    if (p->state == PEER_CONNECTING && (s->flags & TCP_SYN) && ack == 1) {
        p->near_isn = s->seq;
        p->near_scale = p->options.scale >= 0 && s->scale >= 0 ? s->scale : 0;
        p->received = p->una = p->next = 1;
        p->window = s->window;
        p->state = PEER_OPEN;
        p->rto_ns = RTO_FIRST_NS;
        p->timer_ns = UINT64_MAX;
        acknowledge(p, w);
        return;
    }
    if (p->state == PEER_CONNECTING) return;
    if (s->flags & TCP_SYN) {                // our ACK of the handshake was lost
        acknowledge(p, w);
        return;
    }
    if (ack > p->una && ack <= end_of(p)) {
        p->una = ack;
        if (p->next < ack) p->next = ack;
        p->rto_ns = RTO_FIRST_NS;
        p->timer_ns = p->una < p->next ? w->now_ns + p->rto_ns : UINT64_MAX;
    }
    if (ack >= p->una) p->window = s->window << p->near_scale;
    take_data(p, w, s);
    tcp_peer_run(p, w);
}

void tcp_peer_open(tcp_peer *p, const tcp_peer_options *options, wire *w)
{
    memset(p, 0, sizeof *p);
    p->options = *options;
    p->fin_at = UINT32_MAX;
    p->rto_ns = RTO_FIRST_NS;
    p->map = calloc(options->receive_bytes + 2, 1);
    p->map[0] = 1;                           // the SYN
    send_syn(p, w);
}

void tcp_peer_close(tcp_peer *p) { free(p->map); }
