/* tests/dataplane/tcp_peer.h: a TCP client that is too simple to be wrong, to check the stack against:
 * go-back-N from one timer, a received-map of a byte each, SACK straight from that map. It is not fast
 * and knows no congestion; it is right on any wire.
 *
 * Threads: one.
 * Memory:  as much as it is to receive, allocated in open. */
#pragma once

#include "tests/dataplane/tcp_wire.h"

typedef struct tcp_peer_options {
    uint16_t port;
    uint32_t isn;
    uint32_t send_bytes, receive_bytes;      // of the streams; it closes after the stack has
    uint32_t segment_bytes;                  // that it sends at most, and its MSS
    uint32_t window_bytes;                   // that it offers
    int scale;                               // -1: no window scaling
    bool sack;
    uint32_t ack_every;                      // segments
    uint64_t give_up_ns;                     // of its life; then it counts as stuck
} tcp_peer_options;

typedef enum tcp_peer_state { PEER_CONNECTING, PEER_OPEN, PEER_DONE, PEER_RESET } tcp_peer_state;

typedef struct tcp_peer {
    tcp_peer_options options;
    tcp_peer_state state;
    uint64_t timer_ns;                       // next retransmission
    uint64_t rto_ns;
    uint32_t near_isn;
    uint32_t una, next;                      // of its own stream, 0 is the SYN
    uint32_t window;                         // of the stack, in bytes
    int near_scale;
    uint32_t received;                       // in order, of the stack's stream, 0: nothing but the SYN
    bool fin_received;                       // ... and everything before it
    uint32_t fin_at;                         // UINT32_MAX: not seen yet
    uint32_t sack_first;                     // where the newest early segment was
    uint32_t unacknowledged;                 // segments
    uint8_t *map;                            // of the stack's stream: what has arrived
    uint64_t sent_again;
} tcp_peer;

/* Byte `at` of the stream of the connection from `port`; `up`: towards the stack. */
uint8_t tcp_peer_byte(uint16_t port, bool up, uint32_t at);

void tcp_peer_open(tcp_peer *peer, const tcp_peer_options *options, wire *w);
void tcp_peer_close(tcp_peer *peer);
/* A segment of the stack to this peer's port has come. */
void tcp_peer_receive(tcp_peer *peer, wire *w, const wire_segment *s);
/* Sends what may be sent and runs the timer. */
void tcp_peer_run(tcp_peer *peer, wire *w);
