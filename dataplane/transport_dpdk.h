/* dataplane/transport_dpdk.h: connections over a TCP stack of our own on a network port.
 * cn_transport_dpdk_ops is a transport as dataplane/transport.h describes it; what it needs beyond an
 * address to listen on is given to cn_transport_dpdk_use before it is opened.
 *
 * Threads: net only; stats from any thread.
 * Memory:  all taken in open: about 600 bytes per connection, and memory for what is under way that
 *          all connections share. The fuller it is, the less of it one connection gets. */
#pragma once

#include <stdint.h>

#include "base/clock.h"
#include "base/random.h"
#include "dataplane/nic.h"
#include "dataplane/stack.h"
#include "dataplane/transport.h"

typedef struct cn_transport_dpdk_options {
    cn_stack_options stack;      // connection_count is not looked at
    uint32_t idle_polls;         // empty bursts until poll sleeps; 0: 1000
} cn_transport_dpdk_options;

typedef struct cn_transport_dpdk_stats {
#define X(id) uint64_t id;
    CN_STACK_COUNTS(X)
#undef X
    uint64_t connections_dropped;        // what they left with us had no place
    uint64_t sleeps;                     // waits for the port
} cn_transport_dpdk_stats;

/* What the next open uses; the texts and the port are borrowed until close. */
void cn_transport_dpdk_use(const cn_transport_dpdk_options *options);

/* [any], until close. */
void cn_transport_dpdk_stats_read(const cn_transport *transport, cn_transport_dpdk_stats *out);

extern const cn_transport_ops cn_transport_dpdk_ops;
