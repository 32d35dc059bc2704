/* dataplane/stack.h: lwIP over one network port: frames, addresses, neighbours, timers.
 * What TCP does above is dataplane/transport_dpdk.c; what the port is below is dataplane/nic.h. Answers
 * ARP, neighbour solicitations and echo requests for its addresses. A virtual address (VIP) is served
 * and never announced: a load balancer sends its frames here by MAC address, and the answers go
 * straight to the clients.
 *
 * lwIP keeps its state in globals, so there is one stack per process. Limits: IP fragments are not put
 * together; IPv6 prefixes are of 64 bits.
 *
 * Threads: net only, but for the counters in cn_stack_counts.
 * Memory:  as dataplane/lwip_pool.h, sized in open; nothing afterwards. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "dataplane/nic.h"

enum { CN_STACK_VIP_MAX = 4 };

typedef struct cn_stack_options {
    cn_nic *nic;                         // borrowed until close
    cn_clock clock;
    cn_random random;
    const char *ipv4;                    // "198.18.0.2/24"; NULL: none
    const char *ipv4_gateway;            // NULL: none
    const char *ipv6;                    // "fd00::2/64"; NULL: none but the link-local one
    const char *ipv6_gateway;
    const char *vips[CN_STACK_VIP_MAX];  // "203.0.113.7" or "2001:db8::7"; up to the first NULL
    uint16_t vlan;                       // 1 to 4094; 0: untagged frames
    uint32_t connection_count;           // that memory is reserved for
    uint64_t data_bytes;                 // of memory for what is under way; 0: by connection_count
} cn_stack_options;

#define CN_STACK_COUNTS(X)                                                                         \
    X(frames_dropped)            /* not for us, or damaged */                                      \
    X(frames_refused)            /* to send, and the port had no frame */                          \
    X(rexmits)                   /* TCP segments sent again */                                     \
    X(needless)                  /* of these, the ones that the peer says it had already */        \
    X(timeouts)                  /* of the retransmission timer */                                 \
    X(probes)                    /* of the tail of what was sent (RFC 8985) */                     \
    X(recoveries)                /* losses that the peer's acknowledgements showed */              \
    X(early)                     /* segments that came before the one that was due */              \
    X(unkept)                    /* of these, the ones that there was no memory for */             \
    X(syns_dropped)              /* half-open connections that made room for others */             \
    X(challenges)                /* answers to segments that may be forged (RFC 5961) */           \
    X(resets_sent)                                                                                 \
    X(resets_taken)                                                                                \
    X(half_open)                 /* now; the ones above only grow */                               \
    X(time_waiting)              /* now */

/* Relaxed: each is a figure of its own and orders nothing. */
typedef struct cn_stack_counts {
#define X(id) _Atomic uint64_t id;
    CN_STACK_COUNTS(X)
#undef X
} cn_stack_counts;

/* Opens the one stack. Errors: CN_E_INVALID (an address, the VLAN, a stack is open), CN_E_MEMORY. */
cn_code cn_stack_open(const cn_stack_options *options, cn_err *err);
/* Ends all connections with a reset and closes the stack; accepts a stack that is not open. */
void cn_stack_close(void);

/* Takes one burst of frames from the port and acts on them; returns how many there were. */
uint32_t cn_stack_receive(void);
/* Hands to the port what has gathered. */
void cn_stack_flush(void);
/* Runs the timers that are due at the clock's time. */
void cn_stack_run_timers(void);
/* Nanoseconds until a timer may be due. */
uint64_t cn_stack_timer_left_ns(void);

/* [any], from open on. */
const cn_stack_counts *cn_stack_counted(void);
