/* bench/wire.c: keep-alive requests over a DPDK port, for bench/dataplane: a client that has no kernel
 * socket beneath, so that what is measured is the server. It speaks as much TCP as a wire without loss
 * needs: nothing is sent again but the first segment.
 *   bench_wire DEVICE OURS SERVER:PORT [--connections 64] [--seconds 5] [--path /ok]
 * Asks again on each connection as soon as the answer is whole; all answers must be of one length.
 * Prints one JSON line; status 1 if a connection broke or an answer was odd.
 *
 * Threads: one, which never sleeps.
 * Memory:  the port's, and an array of connections. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "dataplane/nic_dpdk.h"

enum {
    CONNECTIONS_MAX = 16384, PORT_FIRST = 20000, HEAD_BYTES = 14 + 20 + 20, WINDOW = 65535, MSS = 1460,
    FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16
};
static const uint64_t SYN_AGAIN_NS = 200000000, DIAL_NS = 10000000000, WARM_NS = 500000000;

typedef enum state { CLOSED, DIALLING, OPEN } state;

typedef struct connection {
    state state;
    uint32_t seq, ack;                       // next to send, next to receive
    uint32_t got;                            // bytes of the answer under way
    uint64_t asked_ns;
} connection;

typedef struct client {
    cn_nic *nic;
    cn_nic_info info;
    cn_clock clock;
    uint32_t ours, server;                   // network order
    uint16_t port;                           // host order
    uint8_t server_mac[6];
    bool has_mac;
    char request[256];
    uint32_t request_len, answer_len;        // answer_len: 0 until the first has come
    connection *connections;
    uint32_t count, open_count;
    uint64_t answers, broken, measure_from_ns;
    cn_frame out[CN_NIC_BURST_MAX];
    uint32_t out_count;
    cn_histogram latency_ns;
} client;

static client the;

// ---- frames

static void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16), put16(at + 2, value & 0xffff); }
static uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static uint32_t get32(const uint8_t *at) { return get16(at) << 16 | get16(at + 2); }

static uint32_t sum(uint32_t so_far, const uint8_t *data, uint32_t len)
{
    for (; len > 1; data += 2, len -= 2) so_far += get16(data);
    return len ? so_far + ((uint32_t)data[0] << 8) : so_far;
}

static uint32_t folded(uint32_t value)
{
    while (value >> 16) value = (value & 0xffff) + (value >> 16);
    return ~value & 0xffff;
}

static void flush_out(void)
{
    if (the.out_count) the.nic->ops->send(the.nic, 0, the.out, the.out_count);
    the.out_count = 0;
}

static void queue(cn_frame *frame)
{
    the.out[the.out_count++] = *frame;
    if (the.out_count == CN_NIC_BURST_MAX) flush_out();
}

static void send_arp(uint16_t operation, const uint8_t *mac, uint32_t address)
{
    cn_frame frame;
    if (!the.nic->ops->alloc(the.nic, 0, &frame)) return;
    uint8_t *at = frame.data;
    memset(at, operation == 1 ? 0xff : 0, 60);
    if (operation == 2) memcpy(at, mac, 6);
    memcpy(at + 6, the.info.mac, 6);
    put16(at + 12, 0x0806);
    memcpy(at + 14, (const uint8_t[]){0, 1, 8, 0, 6, 4}, 6);
    put16(at + 20, operation);
    memcpy(at + 22, the.info.mac, 6);
    memcpy(at + 28, &the.ours, 4);
    if (operation == 2) memcpy(at + 32, mac, 6);
    memcpy(at + 38, &address, 4);
    frame.len = 60;
    queue(&frame);
}

static void send_segment(connection *c, uint8_t flags, const void *data, uint32_t len)
{
    cn_frame frame;
    if (!the.nic->ops->alloc(the.nic, 0, &frame)) return;
    uint8_t *ip = frame.data + 14, *tcp = ip + 20;
    const uint32_t options = flags & SYN ? 4 : 0, tcp_len = 20 + options + len;
    memcpy(frame.data, the.server_mac, 6);
    memcpy(frame.data + 6, the.info.mac, 6);
    put16(frame.data + 12, 0x0800);
    memset(ip, 0, HEAD_BYTES - 14);
    ip[0] = 0x45;
    put16(ip + 2, 20 + tcp_len);
    ip[8] = 64;
    ip[9] = 6;
    memcpy(ip + 12, &the.ours, 4);
    memcpy(ip + 16, &the.server, 4);
    put16(ip + 10, folded(sum(0, ip, 20)));
    put16(tcp, PORT_FIRST + (uint32_t)(c - the.connections));
    put16(tcp + 2, the.port);
    put32(tcp + 4, c->seq);
    put32(tcp + 8, c->ack);
    tcp[12] = (uint8_t)((20 + options) << 2);
    tcp[13] = flags;
    put16(tcp + 14, WINDOW);
    if (options) put32(tcp + 20, 0x02040000 | MSS);
    if (len) memcpy(tcp + 20 + options, data, len);
    put16(tcp + 16, folded(sum(sum(6 + tcp_len, ip + 12, 8), tcp, tcp_len)));
    frame.len = (uint16_t)(14 + 20 + tcp_len);
    queue(&frame);
    c->seq += len + (flags & (SYN | FIN) ? 1 : 0);
}

// ---- connections

static void ask(connection *c, uint64_t now_ns)
{
    c->got = 0;
    c->asked_ns = now_ns;
    send_segment(c, ACK | PSH, the.request, the.request_len);
}

// Length of an answer that is whole in `len` bytes; 0 if it is not.
static uint32_t whole_answer(const char *data, uint32_t len)
{
    static const char name[] = "Content-Length: ";
    const char *end = memmem(data, len, "\r\n\r\n", 4), *field = memmem(data, len, name, sizeof name - 1);
    if (!end || !field || field > end) return 0;
    const uint32_t total = (uint32_t)(end + 4 - data) + (uint32_t)atoi(field + sizeof name - 1);
    return total == len ? total : 0;
}

static void take_answer(connection *c, const uint8_t *data, uint32_t len, uint64_t now_ns)
{
    c->ack += len;
    c->got += len;
    if (!the.answer_len) the.answer_len = whole_answer((const char *)data, len);
    if (c->got < the.answer_len) {
        send_segment(c, ACK, NULL, 0);
    } else if (c->got == the.answer_len && the.answer_len) {
        if (c->asked_ns >= the.measure_from_ns) {
            the.answers++;
            cn_histogram_add(&the.latency_ns, now_ns - c->asked_ns);
        }
        ask(c, now_ns);
    } else {
        the.broken++;
        c->state = CLOSED;
    }
}

static void take_segment(const uint8_t *ip, uint64_t now_ns)
{
    const uint8_t *tcp = ip + (ip[0] & 15) * 4;
    const uint32_t index = get16(tcp + 2) - PORT_FIRST, offset = (uint32_t)(tcp[12] >> 4) * 4;
    if (index >= the.count || get16(tcp) != the.port) return;
    connection *c = &the.connections[index];
    const uint32_t len = get16(ip + 2) - (uint32_t)(tcp - ip) - offset;
    if (tcp[13] & (RST | FIN)) {
        the.broken += c->state != CLOSED;
        c->state = CLOSED;
    } else if (c->state == DIALLING && (tcp[13] & SYN)) {
        c->state = OPEN;
        c->ack = get32(tcp + 4) + 1;
        the.open_count++;
        ask(c, now_ns);
    } else if (c->state == OPEN && len && get32(tcp + 4) == c->ack) {
        take_answer(c, tcp + offset, len, now_ns);
    } else if (c->state == OPEN && len) {
        send_segment(c, ACK, NULL, 0);       // it came before
    }
}

static void take_frame(const cn_frame *frame, uint64_t now_ns)
{
    const uint8_t *at = frame->data;
    const uint32_t type = get16(at + 12);
    if (type == 0x0806 && frame->len >= 42 && memcmp(at + 38, &the.ours, 4) == 0) {
        if (memcmp(at + 28, &the.server, 4) == 0) {
            memcpy(the.server_mac, at + 22, 6);
            the.has_mac = true;
        }
        if (get16(at + 20) == 1) {
            uint32_t asker;
            memcpy(&asker, at + 28, 4);
            send_arp(2, at + 22, asker);
        }
    } else if (type == 0x0800 && frame->len >= HEAD_BYTES && at[23] == 6 &&
               memcmp(at + 30, &the.ours, 4) == 0) {
        take_segment(at + 14, now_ns);
    }
}

static void poll_once(uint64_t now_ns)
{
    cn_frame frames[CN_NIC_BURST_MAX];
    const uint32_t got = the.nic->ops->receive(the.nic, 0, frames, CN_NIC_BURST_MAX);
    for (uint32_t i = 0; i < got; i++) {
        take_frame(&frames[i], now_ns);
        the.nic->ops->free(the.nic, &frames[i]);
    }
    flush_out();
}

static bool dial(void)
{
    const uint64_t end_ns = cn_clock_now_ns(&the.clock) + DIAL_NS;
    uint64_t again_ns = 0, now_ns;
    while ((now_ns = cn_clock_now_ns(&the.clock)) < end_ns && the.open_count < the.count) {
        poll_once(now_ns);
        if (now_ns < again_ns) continue;
        again_ns = now_ns + SYN_AGAIN_NS;
        if (!the.has_mac) send_arp(1, NULL, the.server);
        for (uint32_t i = 0; i < the.count && the.has_mac; i++) {
            connection *c = &the.connections[i];
            if (c->state == OPEN) continue;
            *c = (connection){.state = DIALLING, .seq = 1000 + i};
            send_segment(c, SYN, NULL, 0);
            if (i % 32 == 31) poll_once(now_ns);
        }
        flush_out();
    }
    return the.open_count == the.count;
}

static void hang_up(void)
{
    for (uint32_t i = 0; i < the.count; i++) {
        if (the.connections[i].state == OPEN) send_segment(&the.connections[i], RST | ACK, NULL, 0);
    }
    flush_out();
}

static bool parse_server(const char *text)
{
    char address[64];
    const char *colon = strrchr(text, ':');
    if (!colon) return false;
    snprintf(address, sizeof address, "%.*s", (int)(colon - text), text);
    the.port = (uint16_t)atoi(colon + 1);
    return inet_pton(AF_INET, address, &the.server) == 1;
}

static int fail(const char *what)
{
    fprintf(stderr, "bench_wire: %s\n", what);
    return 1;
}

int main(int argc, char **argv)
{
    const char *path = "/ok";
    double seconds = 5;
    cn_err err;
    if (argc < 4 || inet_pton(AF_INET, argv[2], &the.ours) != 1 || !parse_server(argv[3]))
        return fail("usage: bench_wire DEVICE OURS SERVER:PORT [--connections N] [--seconds S] [--path P]");
    the.count = 64;
    for (int i = 4; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connections") == 0) the.count = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--seconds") == 0) seconds = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--path") == 0) path = argv[i + 1];
    }
    if (the.count == 0 || the.count > CONNECTIONS_MAX) return fail("--connections: must be 1 to 16384");
    the.clock = cn_clock_system();
    the.connections = calloc(the.count, sizeof *the.connections);
    the.request_len = (uint32_t)snprintf(the.request, sizeof the.request,
                                         "GET %.128s HTTP/1.1\r\nHost: bench\r\n\r\n", path);
    const cn_nic_dpdk_options port = {.device = argv[1], .cpu = -1, .frame_count = 32767};
    if (!the.connections || cn_nic_dpdk_open(&port, &the.nic, &err)) return fail(err.text);
    the.nic->ops->info(the.nic, &the.info);
    if (!dial()) return fail("not all connections could be opened");
    the.measure_from_ns = cn_clock_now_ns(&the.clock) + WARM_NS;
    const uint64_t end_ns = the.measure_from_ns + (uint64_t)(seconds * 1e9);
    for (uint64_t now_ns = 0; now_ns < end_ns; poll_once(now_ns)) now_ns = cn_clock_now_ns(&the.clock);
    hang_up();
    printf("{\"requests_per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"broken\": %llu}\n",
           (double)the.answers / seconds, (double)cn_histogram_quantile(&the.latency_ns, 0.5) / 1e3,
           (double)cn_histogram_quantile(&the.latency_ns, 0.99) / 1e3, (unsigned long long)the.broken);
    the.nic->ops->close(the.nic);
    free(the.connections);
    return the.broken != 0 || the.answers == 0;
}
