/* dataplane/nic.h: a network port: frames in, frames out.
 * Below is DPDK (dataplane/nic_dpdk.c) or, in tests, a wire in memory (dataplane/nic_sim.c); above is
 * TCP (dataplane/transport_dpdk.c), which includes nothing of DPDK. A frame is one Ethernet frame
 * without its check sequence, contiguous in memory.
 *
 * Threads: one per queue for receive, alloc, send, free and wait; open, close, stats and recover from
 *          one thread, which may be another one.
 * Memory:  pools sized in open; nothing afterwards. A frame from receive or alloc belongs to the
 *          caller until it is sent or freed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wake.h"

enum { CN_NIC_PRIVATE_BYTES = 128, CN_NIC_BURST_MAX = 64 };

enum {                                   // flags of a frame
    CN_FRAME_L4_CHECKED = 1,             // received: the device found IP and TCP checksums right
    CN_FRAME_BAD = 2,                    // received: the device found one wrong
    CN_FRAME_FILL_L4 = 4                 // to send: the device fills in the TCP checksum (only where
                                         // info says that it can)
};

typedef struct cn_frame {
    uint8_t *data;                       // first byte of the Ethernet header
    uint16_t len;
    uint16_t flags;
    void *handle;                        // the port's own
    void *private;                       // CN_NIC_PRIVATE_BYTES of the user, 64-aligned, of this frame
} cn_frame;

typedef struct cn_nic_info {
    uint8_t mac[6];
    uint16_t mtu;                        // bytes after the Ethernet header
    uint16_t queue_count;
    bool fills_checksums;                // send honours CN_FRAME_FILL_L4
    char driver[32];
} cn_nic_info;

typedef struct cn_nic_stats {
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes;
    uint64_t rx_missed;                  // the device had no descriptor
    uint64_t rx_no_frame;                // the pool was empty
    uint64_t frames_all, frames_free;    // of the pools; 0 where there is none
    uint64_t tx_full;                    // frames that the device's ring did not take, and were dropped
    bool link_up;
    bool gone;                           // the device has disappeared, see recover
} cn_nic_stats;

typedef struct cn_nic cn_nic;

typedef struct cn_nic_ops {
    void (*close)(cn_nic *nic);
    void (*info)(const cn_nic *nic, cn_nic_info *out);
    /* At most `max` frames, at most CN_NIC_BURST_MAX; returns how many. Never blocks. */
    uint32_t (*receive)(cn_nic *nic, uint16_t queue, cn_frame *frames, uint32_t max);
    /* An empty frame with room for mtu + 18 bytes; false if the pool is empty (counted). */
    bool (*alloc)(cn_nic *nic, uint16_t queue, cn_frame *out);
    /* Takes all frames; what the device has no room for is dropped and counted, as a wire would. */
    void (*send)(cn_nic *nic, uint16_t queue, const cn_frame *frames, uint32_t count);
    void (*free)(cn_nic *nic, const cn_frame *frame);
    /* Sleeps until a frame has come, `wake` was signalled (the caller has announced sleep on it), or
     * `timeout_ns` has passed. May return early. */
    void (*wait)(cn_nic *nic, uint16_t queue, cn_wake *wake, uint64_t timeout_ns);
    void (*stats)(const cn_nic *nic, cn_nic_stats *out);
    /* Uses a device that had gone again, if it is back: the port keeps its address, its counters and
     * its frames. Until then frames to send are dropped and none are received. CN_OK also if it has
     * not gone. Errors: CN_E_ABSENT (still away), CN_E_AGAIN (a queue's thread has not noticed yet),
     * others: it is back and cannot be used. */
    cn_code (*recover)(cn_nic *nic, cn_err *err);
} cn_nic_ops;

/* Every implementation begins with this; open differs and is in the implementation's header. */
struct cn_nic {
    const cn_nic_ops *ops;
};
