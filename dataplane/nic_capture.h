/* dataplane/nic_capture.h: what a port sees, for one reader at a time.
 * A thin layer over any port. While a reader is connected to the Unix socket, each frame received and
 * sent is copied to it in pcap format; a reader that is slower than the wire loses frames, which are
 * counted, and never holds up the port. Without a reader a burst costs one look at a flag.
 *
 * The reader connects and gets a pcap file (nanoseconds, Ethernet) as a stream. Once it has closed its
 * sending side it gets what is left, and a last record header with all bits of incl_len set, whose
 * orig_len is the number of frames that were lost to it. A reader that comes while another is there
 * is closed without a byte.
 *
 * Threads: as the port below; one thread of its own for the reader.
 * Memory:  a ring of 2,048 whole frames per queue, allocated in open. */
#pragma once

#include "base/clock.h"
#include "dataplane/nic.h"

enum { CN_NIC_CAPTURE_TRAILER = -1 };        // incl_len of the last record header

typedef struct cn_nic_capture_options {
    cn_nic *below;               // moves in, also when open fails; closed with the layer
    const char *path;            // of the socket, for the owner of this process alone
    cn_clock clock;
} cn_nic_capture_options;

typedef struct cn_nic_capture_counts {
    uint64_t captured, dropped;              // of all readers together
    bool has_reader;
} cn_nic_capture_counts;

/* Errors: CN_E_INVALID (a path too long for a socket), CN_E_IO (the path cannot be made, or another
 * process serves it), CN_E_MEMORY. A socket that nobody serves any more is replaced. */
cn_code cn_nic_capture_open(const cn_nic_capture_options *options, cn_nic **out, cn_err *err);

void cn_nic_capture_counted(const cn_nic *nic, cn_nic_capture_counts *out);    // [any]
