#include <arpa/inet.h>
#include <string.h>

#include "tests/dataplane/tcp_wire.h"
#include "tests/unit/cmocka_all.h"

/* The stack below TCP: which frames are for us, neighbours, echo, virtual addresses, who computes
 * checksums, how it sleeps, and what it says about options that are wrong. */

static struct world {
    wire wire;
    uint32_t opened;
    // A port in front of the wire's, to see and to change what passes.
    cn_nic_ops ops;
    const cn_nic_ops *real;
    uint16_t receive_flags;
    bool fills_checksums;
    uint32_t flagged_frames, receive_calls, wait_calls;
    uint64_t wait_ns;
    cn_wake *signal_in_wait, *signal_in_receive;
} the;

static void on_opened(void *self, cn_conn conn, const char *peer)
{
    (void)self, (void)conn, (void)peer;
    the.opened++;
}

static size_t on_received(void *self, cn_conn conn, const char *data, size_t len)
{
    (void)self, (void)conn, (void)data;
    return len;
}

static void on_other(void *self, cn_conn conn) { (void)self, (void)conn; }

static const cn_transport_handler handler = {&the, on_opened, on_received, on_other, on_other};

static uint32_t seen_receive(cn_nic *nic, uint16_t queue, cn_frame *frames, uint32_t max)
{
    the.receive_calls++;
    if (the.signal_in_receive && the.receive_calls == 100) cn_wake_signal(the.signal_in_receive);
    const uint32_t count = the.real->receive(nic, queue, frames, max);
    for (uint32_t i = 0; i < count; i++) frames[i].flags = the.receive_flags;
    return count;
}

static void seen_send(cn_nic *nic, uint16_t queue, const cn_frame *frames, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) the.flagged_frames += (frames[i].flags & CN_FRAME_FILL_L4) != 0;
    the.real->send(nic, queue, frames, count);
}

static void seen_info(const cn_nic *nic, cn_nic_info *out)
{
    the.real->info(nic, out);
    out->fills_checksums = the.fills_checksums;
}

static void seen_wait(cn_nic *nic, uint16_t queue, cn_wake *wake, uint64_t timeout_ns)
{
    (void)nic, (void)queue, (void)wake;
    the.wait_calls++;
    the.wait_ns = timeout_ns;
    the.wire.now_ns += timeout_ns;
}

static void world_open(wire_options options)
{
    memset(&the, 0, sizeof the);
    options.connection_max = 8;
    options.handler = handler;
    wire_open(&the.wire, &options);
    the.real = the.wire.near->ops;
    the.ops = *the.real;
    the.ops.receive = seen_receive;
    the.ops.send = seen_send;
    the.ops.wait = seen_wait;
    the.wire.near->ops = &the.ops;
    wire_announce(&the.wire);
    uint8_t frame[2048];
    wire_poll(&the.wire);
    while (wire_receive_frame(&the.wire, frame)) continue;
}

static void world_close(void)
{
    the.wire.near->ops = the.real;
    wire_close(&the.wire);
}

static void send_syn(void)
{
    wire_segment s = wire_segment_of(TCP_SYN, 1000, 0);
    s.mss = 1000;
    wire_send(&the.wire, &s);
    while (wire_poll(&the.wire)) continue;
}

// The next segment, after the stack's question for a neighbour if there is one.
static bool receive(wire_segment *s)
{
    while (wire_poll(&the.wire)) continue;
    if (wire_receive(&the.wire, s)) return true;
    while (wire_poll(&the.wire)) continue;
    return wire_receive(&the.wire, s);
}

// Whether a SYN is answered by a SYN-ACK.
static bool answers(void)
{
    wire_segment s;
    send_syn();
    const bool any = receive(&s);
    if (any) assert_int_equal(s.flags, TCP_SYN | TCP_ACK);
    return any;
}

// Sends raw bytes after both MAC addresses, and returns the answer's length.
static uint16_t ask(const uint8_t *packet, uint16_t len, uint8_t *answer)
{
    uint8_t frame[1518] = {2, 0, 0, 0, 0, 0x0a, 2, 0, 0, 0, 0, 0x0b};
    memcpy(frame + 12, packet, len);
    wire_send_frame(&the.wire, frame, (uint16_t)(12 + len));
    while (wire_poll(&the.wire)) continue;
    const uint16_t got = wire_receive_frame(&the.wire, answer);
    while (wire_poll(&the.wire)) continue;       // the stack may have asked for a neighbour first
    return got ? got : wire_receive_frame(&the.wire, answer);
}

static uint16_t ask_arp(const char *whom, uint8_t *answer)
{
    uint8_t packet[30] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0x0b, 198, 18, 0, 2};
    inet_pton(AF_INET, whom, packet + 26);
    return ask(packet, sizeof packet, answer);
}

/* A neighbour's address is wrong in the table for minutes if nobody asks: after the second time-out the
 * stack does. (The far end answers from 02:..:0b.) */
static void a_silent_neighbour_is_asked_for_again(void **state)
{
    (void)state;
    uint8_t claim[54] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0c, 8, 6, 0, 1, 8, 0, 6, 4,
                         0, 1, 2, 0, 0, 0, 0, 0x0c, 198, 18, 0, 2};
    uint8_t frame[1518], to[4] = {0};
    int count = 0;
    world_open((wire_options){0});
    memcpy(claim + 38, the.wire.near_ip, 4);
    wire_send_frame(&the.wire, claim, sizeof claim);
    while (wire_poll(&the.wire)) continue;
    while (wire_receive_frame(&the.wire, frame)) continue;
    send_syn();
    for (int i = 0; i < 90 && count < 4; i++) {          // the SYN-ACK is sent after 0, 1, 3 and 7 seconds
        while (wire_receive_frame(&the.wire, frame)) to[count++] = frame[5];
        wire_advance(&the.wire, 100000000);
        while (wire_poll(&the.wire)) continue;
    }
    assert_memory_equal(to, ((uint8_t[]){0x0c, 0x0c, 0x0c, 0x0b}), 4);
    world_close();
}

static void arp_is_answered_for_our_address_only(void **state)
{
    (void)state;
    uint8_t answer[2048];
    world_open((wire_options){.vip = "203.0.113.7"});
    assert_int_equal(ask_arp("198.18.0.1", answer), 42);
    assert_memory_equal(answer + 12, "\x08\x06\0\1\x08\0\6\4\0\2\2\0\0\0\0\x0a\xc6\x12\0\1", 20);
    assert_int_equal(ask_arp("198.18.0.3", answer), 0);
    assert_int_equal(ask_arp("203.0.113.7", answer), 0);
    world_close();
}

static void sum_icmp6(uint8_t *packet, uint32_t bytes)
{
    uint32_t sum = 58 + bytes;
    for (uint32_t i = 10; i < 42 + bytes; i += 2) sum += (uint32_t)(packet[i] << 8 | packet[i + 1]);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    packet[44] = (uint8_t)(~sum >> 8);
    packet[45] = (uint8_t)~sum;
}

// Asks who has `whom`, as neighbours do: at the multicast address of its last three bytes.
static uint16_t solicit(const char *whom, uint8_t *answer)
{
    uint8_t packet[2 + 40 + 32] = {0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255};
    inet_pton(AF_INET6, "fd00::2", packet + 10);
    inet_pton(AF_INET6, "ff02::1:ff00:0", packet + 26);
    packet[42] = 135;
    inet_pton(AF_INET6, whom, packet + 50);
    memcpy(packet + 39, packet + 63, 3);
    memcpy(packet + 66, "\1\1\2\0\0\0\0\x0b", 8);
    sum_icmp6(packet, 32);
    return ask(packet, sizeof packet, answer);
}

static void solicitations_are_answered_for_our_addresses_only(void **state)
{
    (void)state;
    uint8_t answer[2048];
    world_open((wire_options){.v6 = true, .vip = "2001:db8::7"});
    assert_int_equal(solicit("fd00::1", answer), 86);
    assert_int_equal(answer[14 + 40], 136);
    assert_memory_equal(answer + 14 + 40 + 24, "\2\1\2\0\0\0\0\x0a", 8);
    assert_int_equal(solicit("fe80::ff:fe00:a", answer), 86);        // made from the MAC address
    assert_int_equal(solicit("fd00::3", answer), 0);
    assert_int_equal(solicit("2001:db8::7", answer), 0);
    world_close();
}

static void virtual_addresses_are_served(void **state)
{
    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        world_open((wire_options){.v6 = v6, .vip = v6 ? "2001:db8::7" : "203.0.113.7"});
        assert_true(answers());              // wire_parse has checked the address that it comes from
        world_close();
    }
}

static void echo_is_answered(void **state)
{
    (void)state;
    uint8_t answer[2048];
    uint8_t packet[2 + 20 + 8 + 56] = {8, 0, 0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0,
                                       198, 18, 0, 2, 198, 18, 0, 1, 8, 0, 0, 0, 0x12, 0x34, 0, 1};
    uint32_t ip = 0, icmp = 0;
    for (int i = 2; i < 22; i += 2) ip += (uint32_t)(packet[i] << 8 | packet[i + 1]);
    for (int i = 30; i < 86; i++) packet[i] = (uint8_t)i;
    for (int i = 22; i < 86; i += 2) icmp += (uint32_t)(packet[i] << 8 | packet[i + 1]);
    ip = (ip & 0xffff) + (ip >> 16);
    while (icmp >> 16) icmp = (icmp & 0xffff) + (icmp >> 16);
    packet[12] = (uint8_t)(~ip >> 8);
    packet[13] = (uint8_t)~ip;
    packet[24] = (uint8_t)(~icmp >> 8);
    packet[25] = (uint8_t)~icmp;
    world_open((wire_options){0});
    assert_int_equal(ask(packet, sizeof packet, answer), 98);
    assert_int_equal(answer[34], 0);
    assert_memory_equal(answer + 38, packet + 26, 60);
    packet[24] ^= 1;                         // a wrong checksum
    assert_int_equal(ask(packet, sizeof packet, answer), 0);
    world_close();

    uint8_t packet6[2 + 40 + 16] = {0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 58, 64};
    inet_pton(AF_INET6, "fd00::2", packet6 + 10);
    inet_pton(AF_INET6, "fd00::1", packet6 + 26);
    packet6[42] = 128;
    packet6[50] = 77;
    sum_icmp6(packet6, 16);
    world_open((wire_options){.v6 = true});
    assert_int_equal(ask(packet6, sizeof packet6, answer), 14 + 40 + 16);
    assert_int_equal(answer[14 + 40], 129);
    assert_int_equal(answer[14 + 40 + 8], 77);
    world_close();
}

// A port may hear everything: frames for others, other VLANs, and what the device found damaged.
static void frames_for_others_are_dropped(void **state)
{
    (void)state;
    uint8_t frame[128];
    wire_segment s = wire_segment_of(TCP_SYN, 1000, 0);
    world_open((wire_options){0});
    const uint16_t len = wire_write(&the.wire, &s, frame);
    frame[5] = 0x0c;
    wire_send_frame(&the.wire, frame, len);
    while (wire_poll(&the.wire)) continue;
    assert_int_equal(wire_receive_frame(&the.wire, frame), 0);
    cn_transport_dpdk_stats stats;
    cn_transport_dpdk_stats_read(the.wire.transport, &stats);
    assert_int_equal(stats.frames_dropped, 1);
    the.receive_flags = CN_FRAME_BAD;
    assert_false(answers());
    the.receive_flags = 0;
    the.wire.vlan = 5;                       // tagged, and the stack has no VLAN
    assert_false(answers());
    the.wire.vlan = 0;
    assert_true(answers());
    world_close();

    world_open((wire_options){.vlan = 5});
    the.wire.vlan = 0;
    assert_false(answers());
    the.wire.vlan = 6;
    assert_false(answers());
    the.wire.vlan = 5;
    assert_true(answers());
    world_close();
}

// What the device has checked is not checked again; without its word, everything is.
static void the_devices_word_is_taken(void **state)
{
    (void)state;
    wire_segment s = wire_segment_of(TCP_SYN, 1000, 0), answer;
    s.bad_checksum = true;
    for (int v6 = 0; v6 < 2; v6++) {
        world_open((wire_options){.v6 = v6});
        wire_send(&the.wire, &s);
        assert_false(receive(&answer));
        the.receive_flags = CN_FRAME_L4_CHECKED;
        wire_send(&the.wire, &s);
        assert_true(receive(&answer));
        world_close();
    }
}

// A device that fills in checksums is asked to, for TCP and nothing else.
static void a_device_fills_in_checksums(void **state)
{
    (void)state;
    uint8_t frame[2048];
    for (int v6 = 0; v6 < 2; v6++) {
        for (int vlan = 0; vlan < 2; vlan++) {
            static cn_nic_ops filling;
            cn_nic *a, *b;
            memset(&the, 0, sizeof the);
            const cn_clock clock = cn_clock_simulated(&the.wire.now_ns);
            const cn_nic_sim_options sim = {clock, 0, 64, 1500};
            cn_err err;
            assert_int_equal(cn_nic_sim_open(&sim, &a, &b, &err), CN_OK);
            the.fills_checksums = true;
            the.real = a->ops;
            filling = *a->ops;
            filling.info = seen_info;
            filling.send = seen_send;
            a->ops = &filling;
            the.wire.now_ns = 1000000000;
            const cn_transport_dpdk_options use = {
                .stack = {.nic = a, .clock = clock, .random = cn_random_system(),
                          .ipv4 = "198.18.0.1/24", .ipv6 = "fd00::1/64", .vlan = vlan ? 9 : 0}};
            cn_transport_dpdk_use(&use);
            const cn_transport_options open = {"[::]:80", 4, handler, NULL};
            assert_int_equal(cn_transport_dpdk_ops.open(&open, &the.wire.transport, &err), CN_OK);
            the.wire.far = b;
            the.wire.v6 = v6;
            the.wire.vlan = vlan ? 9 : 0;
            the.wire.near_port = 80;
            inet_pton(v6 ? AF_INET6 : AF_INET, v6 ? "fd00::2" : "198.18.0.2", the.wire.far_ip);
            inet_pton(v6 ? AF_INET6 : AF_INET, v6 ? "fd00::1" : "198.18.0.1", the.wire.near_ip);
            while (wire_receive_frame(&the.wire, frame)) continue;
            wire_announce(&the.wire);
            send_syn();
            bool is_tcp = false;
            for (int i = 0; i < 5 && !is_tcp; i++) {
                while (wire_poll(&the.wire)) continue;
                is_tcp = wire_receive_frame(&the.wire, frame) &&
                         frame[14 + (vlan ? 4 : 0) + (v6 ? 6 : 9)] == 6;
            }
            assert_true(is_tcp);
            assert_int_equal(the.flagged_frames, 1);
            const uint8_t *tcp = frame + 14 + (vlan ? 4 : 0) + (v6 ? 40 : 20);
            assert_int_equal(tcp[16] << 8 | tcp[17], 0);
            the.wire.transport->ops->close(the.wire.transport);
            a->ops->close(a);
            b->ops->close(b);
        }
    }
}

// A poll with time spins, then sleeps until the next timer and no longer; a signal ends the spinning.
static void idle_polls_sleep(void **state)
{
    (void)state;
    cn_wake wake;
    world_open((wire_options){0});
    the.receive_calls = 0;
    const uint64_t begin_ns = the.wire.now_ns;
    assert_false(the.wire.transport->ops->poll(the.wire.transport, 5000000000));
    assert_int_equal(the.wait_calls, 1);
    assert_int_equal(the.receive_calls, 1000 + 2);       // a first look, the spinning, one after it
    assert_true(the.wait_ns <= 1000000000);              // the neighbours' timer
    assert_int_equal(the.wire.now_ns, begin_ns + the.wait_ns);

    // With something under way it wakes for the retransmission.
    assert_true(answers());
    the.wire.transport->ops->poll(the.wire.transport, 5000000000);
    assert_true(the.wait_ns <= 1000000000);
    // A time limit that is nearer is kept.
    the.wire.transport->ops->poll(the.wire.transport, 3000000);
    assert_int_equal(the.wait_ns, 3000000);
    world_close();

    assert_int_equal(cn_wake_open(&wake, NULL), CN_OK);
    cn_nic *a, *b;
    memset(&the, 0, sizeof the);
    const cn_clock clock = cn_clock_simulated(&the.wire.now_ns);
    const cn_nic_sim_options sim = {clock, 0, 64, 1500};
    assert_int_equal(cn_nic_sim_open(&sim, &a, &b, NULL), CN_OK);
    the.real = a->ops;
    the.ops = *a->ops;
    the.ops.receive = seen_receive;
    the.ops.wait = seen_wait;
    a->ops = &the.ops;
    const cn_transport_dpdk_options use = {
        .stack = {.nic = a, .clock = clock, .random = cn_random_system(), .ipv4 = "198.18.0.1/24"}};
    cn_transport_dpdk_use(&use);
    const cn_transport_options open = {"198.18.0.1:80", 4, handler, &wake};
    cn_transport *transport;
    assert_int_equal(cn_transport_dpdk_ops.open(&open, &transport, NULL), CN_OK);
    the.signal_in_receive = &wake;
    the.receive_calls = 0;
    cn_wake_prepare(&wake);
    assert_false(transport->ops->poll(transport, UINT64_MAX));
    assert_int_equal(the.receive_calls, 100);            // the signal came with the hundredth
    assert_int_equal(the.wait_calls, 0);
    transport->ops->close(transport);
    a->ops->close(a);
    b->ops->close(b);
    cn_wake_close(&wake);
}

// Initial sequence numbers: another for each pair of ends, later ones of one pair are higher, and two
// processes have nothing in common.
static void sequence_numbers_cannot_be_guessed(void **state)
{
    (void)state;
    uint32_t first[4], again[4];
    wire_segment s, answer;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        world_open((wire_options){.seed = seed});
        for (int i = 0; i < 4; i++) {
            s = wire_segment_of(TCP_SYN, 1000, 0);
            s.far_port = (uint16_t)(40000 + i);
            wire_send(&the.wire, &s);
            assert_true(receive(&answer));
            if (seed == 1) first[i] = answer.seq;
            else again[i] = answer.seq;
        }
        world_close();
    }
    for (int i = 0; i < 4; i++) {
        assert_true(first[i] - again[i] > 1000 || again[i] - first[i] > 1000);
        for (int k = 0; k < i; k++) assert_true((uint32_t)(first[i] - first[k] + 100000) > 200000);
    }
    world_open((wire_options){.seed = 1});
    s = wire_segment_of(TCP_SYN, 1000, 0);
    wire_advance(&the.wire, 4000000);
    wire_send(&the.wire, &s);
    assert_true(receive(&answer));
    assert_int_equal(answer.seq, first[0] + 1000);       // 4 ms in units of 4 us
    world_close();
}

typedef struct wrong {
    cn_stack_options stack;
    const char *address, *text;
    cn_code code;
} wrong;

static void wrong_options_are_named(void **state)
{
    (void)state;
    static const wrong rows[] = {
        {{.ipv4 = "198.18.0.1"}, "[::]:80", "ipv4: \"198.18.0.1\"; must be an IPv4 address with a prefix",
         CN_E_INVALID},
        {{.ipv4 = "198.18.0.1/33"}, "[::]:80", "ipv4: \"198.18.0.1/33\"", CN_E_INVALID},
        {{.ipv4 = "198.18.0.1/2x"}, "[::]:80", "ipv4: \"198.18.0.1/2x\"", CN_E_INVALID},
        {{.ipv4 = "fd00::1/64"}, "[::]:80", "ipv4: \"fd00::1/64\"", CN_E_INVALID},
        {{.ipv4 = "/24"}, "[::]:80", "ipv4: \"/24\"", CN_E_INVALID},
        {{.ipv4 = "198.18.0.1/24", .ipv4_gateway = "198.19.0.1"}, "[::]:80",
         "ipv4_gateway: \"198.19.0.1\"; must be an address in the network of ipv4", CN_E_INVALID},
        {{.ipv6 = "fd00::1/48"}, "[::]:80", "ipv6: \"fd00::1/48\"; must be an IPv6 address with a prefix "
                                            "of 64 bits", CN_E_INVALID},
        {{.ipv6 = "198.18.0.1/24"}, "[::]:80", "ipv6: \"198.18.0.1/24\"", CN_E_INVALID},
        {{.ipv6 = "fd00::1/64", .ipv6_gateway = "gateway"}, "[::]:80", "ipv6_gateway: \"gateway\"",
         CN_E_INVALID},
        {{.vips = {"203.0.113.7", "0.0.0.0"}}, "[::]:80", "vip: \"0.0.0.0\"; must be an address",
         CN_E_INVALID},
        {{.vips = {"224.0.0.1"}}, "[::]:80", "vip: \"224.0.0.1\"", CN_E_INVALID},
        {{.vlan = 4095}, "[::]:80", "vlan: 4095; must be 0 to 4094", CN_E_INVALID},
        {{.ipv4 = "198.18.0.1/24"}, "198.18.0.9:80", "listen on 198.18.0.9:80: the port has no such "
                                                     "address", CN_E_IO},
        {{.ipv4 = "198.18.0.1/24"}, "198.18.0.1", "has no port", CN_E_INVALID},
        {{.data_bytes = UINT64_MAX}, "[::]:80", "bytes of data; at most", CN_E_INVALID},
    };
    cn_nic *a, *b;
    uint64_t now_ns = 1000000000;
    const cn_nic_sim_options sim = {cn_clock_simulated(&now_ns), 0, 64, 1500};
    assert_int_equal(cn_nic_sim_open(&sim, &a, &b, NULL), CN_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cn_transport_dpdk_options use = {.stack = rows[i].stack};
        use.stack.nic = a;
        use.stack.clock = sim.clock;
        use.stack.random = cn_random_system();
        cn_transport_dpdk_use(&use);
        const cn_transport_options open = {rows[i].address, 4, handler, NULL};
        cn_transport *transport;
        cn_err err;
        assert_int_equal(cn_transport_dpdk_ops.open(&open, &transport, &err), rows[i].code);
        if (!strstr(err.text, rows[i].text)) fail_msg("\"%s\" and not \"%s\"", err.text, rows[i].text);
        assert_null(transport);
    }
    cn_transport_dpdk_use(&(cn_transport_dpdk_options){0});
    cn_transport *transport;
    cn_err err;
    const cn_transport_options open = {"[::]:80", 4, handler, NULL};
    assert_int_equal(cn_transport_dpdk_ops.open(&open, &transport, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "no port was given"));
    a->ops->close(a);
    b->ops->close(b);
}

// After a failed open and after a close a stack can be opened; two at a time cannot.
static void there_is_one(void **state)
{
    (void)state;
    world_open((wire_options){0});
    cn_transport *second;
    cn_err err;
    const cn_transport_options open = {"[::]:81", 4, handler, NULL};
    assert_int_equal(cn_transport_dpdk_ops.open(&open, &second, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "stack: is open"));
    assert_true(answers());                  // the first one goes on
    world_close();
    world_open((wire_options){0});
    assert_true(answers());
    assert_string_equal(the.wire.transport->ops->address(the.wire.transport), "[::]:80");
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arp_is_answered_for_our_address_only),
        cmocka_unit_test(a_silent_neighbour_is_asked_for_again),
        cmocka_unit_test(solicitations_are_answered_for_our_addresses_only),
        cmocka_unit_test(virtual_addresses_are_served),
        cmocka_unit_test(echo_is_answered),
        cmocka_unit_test(frames_for_others_are_dropped),
        cmocka_unit_test(the_devices_word_is_taken),
        cmocka_unit_test(a_device_fills_in_checksums),
        cmocka_unit_test(idle_polls_sleep),
        cmocka_unit_test(sequence_numbers_cannot_be_guessed),
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(there_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
