/* dataplane/nic_lossy.h: a bad wire in front of any port, repeatable from a seed, for tests.
 * Frames are dropped, duplicated, overtaken, delayed and damaged in either direction. The fate of a
 * frame follows from the seed and from how many went before it in its direction.
 *
 * Threads: as the port below, whose queue 0 it uses.
 * Memory:  a few KiB, allocated in open; frames that wait are frames of the port below. */
#pragma once

#include "base/clock.h"
#include "dataplane/nic.h"

enum { CN_NIC_LOSSY_HELD_MAX = 256, CN_NIC_LOSSY_OVERTAKEN_MAX = 4 };

typedef struct cn_nic_lossy_rates {          // of a million frames, each drawn by itself
    uint32_t drop;
    uint32_t duplicate;
    uint32_t reorder;            // 1 to CN_NIC_LOSSY_OVERTAKEN_MAX later frames pass it, but no
                                 // longer than delay_ns_max
    uint32_t delay;              // waits up to delay_ns_max
    uint32_t corrupt;            // one bit is flipped
} cn_nic_lossy_rates;

typedef struct cn_nic_lossy_options {
    cn_nic *below;               // moves in, also when open fails; closed with the wire
    cn_clock clock;
    uint64_t seed;
    cn_nic_lossy_rates received, sent;
    uint64_t delay_ns_max;
} cn_nic_lossy_options;

typedef struct cn_nic_lossy_counts {         // both directions together
    uint64_t dropped, duplicated, reordered, delayed, corrupted;
} cn_nic_lossy_counts;

/* Checksums are not left to the device below: a damaged frame would leave with a right one. A frame
 * that should wait while CN_NIC_LOSSY_HELD_MAX do passes at once.
 * Errors: CN_E_INVALID (a rate above a million), CN_E_MEMORY. */
cn_code cn_nic_lossy_open(const cn_nic_lossy_options *options, cn_nic **out, cn_err *err);

void cn_nic_lossy_counted(const cn_nic *nic, cn_nic_lossy_counts *out);

/* When the first waiting frame goes on its way by time; UINT64_MAX if none waits. */
uint64_t cn_nic_lossy_next_ns(const cn_nic *nic);
