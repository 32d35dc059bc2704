/* tests/dataplane/tcp_wire.h: the far end of a wire to the TCP stack, for tests: raw frames made and
 * read, neighbours answered, the clock moved by hand. One stack (transport_dpdk over nic_sim) at a
 * time.
 *
 * Threads: one.
 * Memory:  a wire is the caller's; frames are copied. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/nic_lossy.h"
#include "dataplane/nic_sim.h"
#include "dataplane/transport_dpdk.h"

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32 };
enum { WIRE_PAYLOAD_MAX = 9000, WIRE_SACK_MAX = 4 };

/* A segment; ports and addresses from the far end's point of view are in the wire. */
typedef struct wire_segment {
    uint16_t far_port;                   // the port of the far end
    uint8_t flags;
    uint32_t seq, ack;
    uint32_t window;                     // as in the header: not scaled
    uint32_t len;
    const uint8_t *data;
    int mss, scale;                      // -1: no such option
    bool sack_permitted;
    uint32_t sack_count;
    uint32_t sacks[WIRE_SACK_MAX][2];
    const uint8_t *raw_options;          // instead of options; a multiple of 4 bytes
    uint32_t raw_option_bytes;
    bool bad_checksum;
    int header_words;                    // -1: as it should be
} wire_segment;

typedef struct wire {
    uint64_t now_ns;
    uint64_t random_state;
    cn_nic *near, *far;
    cn_nic *sim;                         // the near end below a lossy wire
    cn_transport *transport;
    bool v6;
    uint16_t vlan;
    uint8_t far_ip[16], near_ip[16];     // 4 or 16 bytes
    uint16_t near_port;
    uint64_t frames_seen;
} wire;

typedef struct wire_options {
    bool v6;
    uint16_t vlan;
    uint16_t mtu;                        // 0: 1500
    uint32_t connection_max;
    uint64_t data_bytes;
    uint64_t seed;
    uint32_t frame_count;                // 0: 512
    uint64_t latency_ns;
    uint64_t begin_ns;                   // the clock at first; 0: 1 s
    const cn_nic_lossy_rates *received, *sent;   // of the near end; NULL: a good wire
    const char *vip;
    cn_transport_handler handler;
} wire_options;

void wire_open(wire *w, const wire_options *options);
void wire_close(wire *w);

/* A segment as asked for, with nothing set that can be left out. */
wire_segment wire_segment_of(uint8_t flags, uint32_t seq, uint32_t ack);
/* Writes the frame; returns its length. */
uint16_t wire_write(const wire *w, const wire_segment *s, uint8_t *frame);
void wire_send(wire *w, const wire_segment *s);
void wire_send_frame(wire *w, const uint8_t *frame, uint16_t len);
/* The next frame at the far end that is not answered here (ARP, neighbour solicitations); 0: none. */
uint16_t wire_receive_frame(wire *w, uint8_t *frame);
/* The next segment; false if there is none. `data` points into static memory until the next call. A
 * frame that is no segment of the stack, or has a wrong checksum, fails the test. */
bool wire_receive(wire *w, wire_segment *s);
bool wire_parse(const wire *w, const uint8_t *frame, uint16_t len, wire_segment *s);
/* One round of the transport. */
bool wire_poll(wire *w);
void wire_advance(wire *w, uint64_t ns);

uint16_t wire_sum(const wire *w, const uint8_t *segment, uint32_t len);
/* Tells the stack again where the far end is. */
void wire_announce(wire *w);
