#include "tests/dataplane/tcp_wire.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

/* The checksums here are the definition, word by word: the stack's fast ones are compared with it. */

enum { FRAME_BYTES_MAX = 9216, IPV4_BYTES = 20, IPV6_BYTES = 40, TCP_BYTES = 20 };
static const uint8_t far_mac[6] = {2, 0, 0, 0, 0, 0x0b}, near_mac[6] = {2, 0, 0, 0, 0, 0x0a};

static uint32_t add_words(uint32_t sum, const uint8_t *data, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) sum += (uint32_t)data[i] << (i & 1 ? 0 : 8);
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static uint32_t ip_bytes(const wire *w) { return w->v6 ? 16 : 4; }

static uint16_t pseudo_sum(const wire *w, const uint8_t *segment, uint32_t len, uint8_t protocol)
{
    uint32_t sum = protocol + len;
    sum = add_words(sum, w->far_ip, ip_bytes(w));
    sum = add_words(sum, w->near_ip, ip_bytes(w));
    return fold(add_words(sum, segment, len));
}

uint16_t wire_sum(const wire *w, const uint8_t *segment, uint32_t len)
{
    return pseudo_sum(w, segment, len, 6);
}

static void put16(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

static void put32(uint8_t *at, uint32_t v)
{
    put16(at, v >> 16);
    put16(at + 2, v);
}

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

wire_segment wire_segment_of(uint8_t flags, uint32_t seq, uint32_t ack)
{
    return (wire_segment){.far_port = 40000, .flags = flags, .seq = seq, .ack = ack, .window = 65535,
                          .mss = -1, .scale = -1, .header_words = -1};
}

// Ethernet header, and the tag; returns where the packet begins.
static uint8_t *write_ethernet(const wire *w, uint8_t *frame, uint16_t type)
{
    memcpy(frame, near_mac, 6);
    memcpy(frame + 6, far_mac, 6);
    uint8_t *at = frame + 12;
    if (w->vlan) {
        put16(at, 0x8100);
        put16(at + 2, w->vlan);
        at += 4;
    }
    put16(at, type);
    return at + 2;
}

static uint8_t *write_ip(const wire *w, uint8_t *at, uint32_t payload_bytes, uint8_t protocol)
{
    if (w->v6) {
        memset(at, 0, IPV6_BYTES);
        at[0] = 0x60;
        put16(at + 4, payload_bytes);
        at[6] = protocol;
        at[7] = protocol == 58 ? 255 : 64;
        memcpy(at + 8, w->far_ip, 16);
        memcpy(at + 24, w->near_ip, 16);
        return at + IPV6_BYTES;
    }
    memset(at, 0, IPV4_BYTES);
    at[0] = 0x45;
    put16(at + 2, IPV4_BYTES + payload_bytes);
    at[8] = 64;
    at[9] = protocol;
    memcpy(at + 12, w->far_ip, 4);
    memcpy(at + 16, w->near_ip, 4);
    put16(at + 10, fold(add_words(0, at, IPV4_BYTES)));
    return at + IPV4_BYTES;
}

static uint32_t write_options(const wire_segment *s, uint8_t *at)
{
    uint8_t *const begin = at;
    if (s->raw_options) {
        memcpy(at, s->raw_options, s->raw_option_bytes);
        return s->raw_option_bytes;
    }
    if (s->mss >= 0) {
        put32(at, 0x02040000u | (uint32_t)s->mss);
        at += 4;
    }
    if (s->scale >= 0) {
        put32(at, 0x01030300u | (uint32_t)s->scale);
        at += 4;
    }
    if (s->sack_permitted) {
        put32(at, 0x01010402u);
        at += 4;
    }
    if (s->sack_count) {
        put32(at, 0x01010500u | (2 + 8 * s->sack_count));
        at += 4;
        for (uint32_t i = 0; i < s->sack_count; i++, at += 8) {
            put32(at, s->sacks[i][0]);
            put32(at + 4, s->sacks[i][1]);
        }
    }
    return (uint32_t)(at - begin);
}

uint16_t wire_write(const wire *w, const wire_segment *s, uint8_t *frame)
{
    uint8_t options[40 + 4 + 8 * WIRE_SACK_MAX];
    const uint32_t option_bytes = write_options(s, options);
    const uint32_t bytes = TCP_BYTES + option_bytes + s->len;
    uint8_t *ip = write_ethernet(w, frame, w->v6 ? 0x86dd : 0x0800);
    uint8_t *tcp = write_ip(w, ip, bytes, 6);
    memset(tcp, 0, TCP_BYTES);
    put16(tcp, s->far_port);
    put16(tcp + 2, w->near_port);
    put32(tcp + 4, s->seq);
    put32(tcp + 8, s->ack);
    const int words = s->header_words >= 0 ? s->header_words : (int)(TCP_BYTES + option_bytes) / 4;
    tcp[12] = (uint8_t)(words << 4);
    tcp[13] = s->flags;
    put16(tcp + 14, s->window);
    memcpy(tcp + TCP_BYTES, options, option_bytes);
    if (s->len) memcpy(tcp + TCP_BYTES + option_bytes, s->data, s->len);
    const uint16_t sum = wire_sum(w, tcp, bytes);
    put16(tcp + 16, s->bad_checksum ? sum ^ 0x0100 : sum);
    return (uint16_t)(tcp + bytes - frame);
}

void wire_send_frame(wire *w, const uint8_t *data, uint16_t len)
{
    cn_frame frame;
    if (!w->far->ops->alloc(w->far, 0, &frame)) fail_msg("the far end has no frame");
    memcpy(frame.data, data, len);
    frame.len = len;
    w->far->ops->send(w->far, 0, &frame, 1);
}

void wire_send(wire *w, const wire_segment *s)
{
    uint8_t frame[FRAME_BYTES_MAX];
    wire_send_frame(w, frame, wire_write(w, s, frame));
}

// ---- neighbours --------------------------------------------------------------------------------

static void answer_arp(wire *w, const uint8_t *request)
{
    uint8_t frame[64] = {0};
    uint8_t *arp = write_ethernet(w, frame, 0x0806);
    memcpy(arp, "\0\1\10\0\6\4\0\2", 8);
    memcpy(arp + 8, far_mac, 6);
    memcpy(arp + 14, request + 24, 4);
    memcpy(arp + 18, request + 8, 10);
    wire_send_frame(w, frame, (uint16_t)(arp + 28 - frame));
}

static void answer_solicitation(wire *w, const uint8_t *ip)
{
    uint8_t frame[128];
    uint8_t *at = write_ethernet(w, frame, 0x86dd);
    uint8_t *icmp = write_ip(w, at, 32, 58);
    memcpy(at + 8, ip + IPV6_BYTES + 8, 16);     // from the address that was asked for
    memcpy(at + 24, ip + 8, 16);
    memset(icmp, 0, 32);
    icmp[0] = 136;
    icmp[4] = 0x60;                              // solicited, override
    memcpy(icmp + 8, ip + IPV6_BYTES + 8, 16);
    icmp[24] = 2;
    icmp[25] = 1;
    memcpy(icmp + 26, far_mac, 6);
    uint32_t sum = add_words(58 + 32, at + 8, 32);
    put16(icmp + 2, fold(add_words(sum, icmp, 32)));
    wire_send_frame(w, frame, (uint16_t)(icmp + 32 - frame));
}

// True if the frame was about neighbours.
static bool answer_neighbour(wire *w, const uint8_t *frame)
{
    const uint8_t *at = frame + 12 + (w->vlan ? 4 : 0);
    if (get16(at) == 0x0806) {
        if (get16(at + 8) == 1 && memcmp(at + 26, w->far_ip, 4) == 0) answer_arp(w, at + 2);
        return get16(at + 8) == 1;
    }
    const bool icmp6 = get16(at) == 0x86dd && at[2 + 6] == 58;
    if (icmp6 && at[2 + IPV6_BYTES] == 135 && memcmp(at + 2 + IPV6_BYTES + 8, w->far_ip, 16) == 0) {
        answer_solicitation(w, at + 2);
    }
    return icmp6 && at[2 + IPV6_BYTES] == 135;
}

uint16_t wire_receive_frame(wire *w, uint8_t *out)
{
    cn_frame frame;
    while (w->far->ops->receive(w->far, 0, &frame, 1)) {
        const uint16_t len = frame.len;
        memcpy(out, frame.data, len);
        w->far->ops->free(w->far, &frame);
        w->frames_seen++;
        if (!answer_neighbour(w, out)) return len;
    }
    return 0;
}

// A request for the stack's address tells it the sender's; over IPv6 the stack asks for itself.
void wire_announce(wire *w)
{
    uint8_t frame[64] = {0};
    if (w->v6) return;
    uint8_t *arp = write_ethernet(w, frame, 0x0806);
    memcpy(arp, "\0\1\10\0\6\4\0\1", 8);
    memcpy(arp + 8, far_mac, 6);
    memcpy(arp + 14, w->far_ip, 4);
    memcpy(arp + 24, w->near_ip, 4);
    wire_send_frame(w, frame, (uint16_t)(arp + 28 - frame));
}

// ---- reading -----------------------------------------------------------------------------------

static void parse_options(const uint8_t *at, const uint8_t *end, wire_segment *s)
{
    while (at < end && *at != 0) {
        if (*at == 1) {
            at++;
            continue;
        }
        assert_true(at + 1 < end && at[1] >= 2 && at + at[1] <= end);
        if (at[0] == 2) s->mss = get16(at + 2);
        if (at[0] == 3) s->scale = at[2];
        if (at[0] == 4) s->sack_permitted = true;
        if (at[0] == 5) {
            s->sack_count = (at[1] - 2) / 8;
            for (uint32_t i = 0; i < s->sack_count; i++) {
                s->sacks[i][0] = get32(at + 2 + 8 * i);
                s->sacks[i][1] = get32(at + 6 + 8 * i);
            }
        }
        at += at[1];
    }
}

bool wire_parse(const wire *w, const uint8_t *frame, uint16_t len, wire_segment *s)
{
    const uint8_t *ip = frame + 14 + (w->vlan ? 4 : 0), *end = frame + len;
    assert_memory_equal(frame, far_mac, 6);
    assert_memory_equal(frame + 6, near_mac, 6);
    const uint8_t *tcp = ip + (w->v6 ? IPV6_BYTES : IPV4_BYTES);
    if (w->v6) {
        if (get16(ip - 2) != 0x86dd || ip[6] != 6) return false;
        assert_memory_equal(ip + 8, w->near_ip, 16);
        assert_memory_equal(ip + 24, w->far_ip, 16);
        end = tcp + get16(ip + 4);
    } else {
        if (get16(ip - 2) != 0x0800 || ip[9] != 6) return false;
        assert_int_equal(fold(add_words(0, ip, IPV4_BYTES)), 0);
        assert_memory_equal(ip + 12, w->near_ip, 4);
        assert_memory_equal(ip + 16, w->far_ip, 4);
        end = ip + get16(ip + 2);
    }
    assert_true(end <= frame + len && tcp + TCP_BYTES <= end);
    assert_int_equal(wire_sum(w, tcp, (uint32_t)(end - tcp)), 0);
    const uint8_t *data = tcp + (tcp[12] >> 4) * 4;
    assert_true(data >= tcp + TCP_BYTES && data <= end);
    *s = wire_segment_of(tcp[13], get32(tcp + 4), get32(tcp + 8));
    assert_int_equal(get16(tcp), w->near_port);
    s->far_port = get16(tcp + 2);
    s->window = get16(tcp + 14);
    s->data = data;
    s->len = (uint32_t)(end - data);
    parse_options(tcp + TCP_BYTES, data, s);
    return true;
}

bool wire_receive(wire *w, wire_segment *s)
{
    static uint8_t frame[FRAME_BYTES_MAX];
    const uint16_t len = wire_receive_frame(w, frame);
    if (!len) return false;
    if (!wire_parse(w, frame, len, s)) fail_msg("the stack sent a frame that is no segment");
    return true;
}

// ---- the stack ---------------------------------------------------------------------------------

bool wire_poll(wire *w) { return w->transport->ops->poll(w->transport, 0); }

void wire_advance(wire *w, uint64_t ns) { w->now_ns += ns; }

void wire_open(wire *w, const wire_options *options)
{
    memset(w, 0, sizeof *w);
    w->now_ns = options->begin_ns ? options->begin_ns : 1000000000;
    w->random_state = options->seed;
    w->v6 = options->v6;
    w->vlan = options->vlan;
    w->near_port = 80;
    inet_pton(w->v6 ? AF_INET6 : AF_INET, w->v6 ? "fd00::2" : "198.18.0.2", w->far_ip);
    inet_pton(w->v6 ? AF_INET6 : AF_INET,
              options->vip ? options->vip : w->v6 ? "fd00::1" : "198.18.0.1", w->near_ip);
    const cn_clock clock = cn_clock_simulated(&w->now_ns);
    const cn_nic_sim_options sim = {clock, options->latency_ns,
                                    options->frame_count ? options->frame_count : 512,
                                    options->mtu ? options->mtu : 1500};
    cn_err err;
    if (cn_nic_sim_open(&sim, &w->sim, &w->far, &err)) fail_msg("%s", err.text);
    w->near = w->sim;
    if (options->received) {
        const cn_nic_lossy_options lossy = {w->sim, clock, options->seed, *options->received,
                                            *options->sent, 20000000};
        if (cn_nic_lossy_open(&lossy, &w->near, &err)) fail_msg("%s", err.text);
    }
    const cn_transport_dpdk_options use = {
        .stack = {.nic = w->near, .clock = clock, .random = cn_random_seeded(&w->random_state),
                  .ipv4 = "198.18.0.1/24", .ipv6 = "fd00::1/64", .vips = {options->vip},
                  .vlan = options->vlan, .data_bytes = options->data_bytes}};
    cn_transport_dpdk_use(&use);
    const cn_transport_options open = {"[::]:80", options->connection_max, options->handler, NULL};
    if (cn_transport_dpdk_ops.open(&open, &w->transport, &err)) fail_msg("%s", err.text);
}

void wire_close(wire *w)
{
    w->transport->ops->close(w->transport);
    w->near->ops->close(w->near);
    w->far->ops->close(w->far);
}
