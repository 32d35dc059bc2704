/* dataplane/nic_sim.h: a wire in memory between two ports, under a simulated clock, for tests.
 * What one end sends arrives at the other after a fixed latency, in order and whole; losses are made
 * by wrapping an end in cn_nic_lossy. As with a real device, each end has its own pool: a frame that
 * arrives where no frame is free is lost and counted.
 *
 * Threads: one for both ends.
 * Memory:  frame_count frames per end, allocated in open. */
#pragma once

#include "base/clock.h"
#include "dataplane/nic.h"

typedef struct cn_nic_sim_options {
    cn_clock clock;
    uint64_t latency_ns;         // one way
    uint32_t frame_count;        // per end; those on the way to it count
    uint16_t mtu;
} cn_nic_sim_options;

/* Opens both ends, link up, with MAC addresses 02:00:00:00:00:0a and ...:0b. Each is closed by its
 * own close, in any order; what is sent to a closed end is lost. Errors: CN_E_INVALID, CN_E_MEMORY. */
cn_code cn_nic_sim_open(const cn_nic_sim_options *options, cn_nic **a, cn_nic **b, cn_err *err);

/* When the next frame arrives at this end; UINT64_MAX if none is on its way. `wait` does not advance
 * a simulated clock: it returns at once, and the test moves time to what comes first. */
uint64_t cn_nic_sim_next_ns(const cn_nic *end);

/* Frames that the user of this end holds: received or allocated, and neither sent nor freed. */
uint32_t cn_nic_sim_held(const cn_nic *end);

/* Takes the link of both ends down or up. While it is down whatever is sent is lost and counted as
 * tx_full; what was on its way arrives. */
void cn_nic_sim_set_link(cn_nic *end, bool up);

/* The device of this end disappears: nothing is received, whatever is sent or was on its way here is
 * lost. The next recover finds it back, with its link. */
void cn_nic_sim_remove(cn_nic *end);
