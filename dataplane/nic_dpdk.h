/* dataplane/nic_dpdk.h: a port of DPDK as a cn_nic.
 * Starts the EAL from these options, so that an operator needs no DPDK command line, and opens one
 * device: a PCI address ("0000:81:00.0", bound to vfio-pci) or a virtual device with its arguments
 * ("net_af_packet0,iface=eth1", "net_tap0", "net_memif0,role=client", "net_ring0", ...). Arguments of
 * net_af_packet that are not given are chosen from the MTU and the number of queues.
 *
 * The EAL is one per process and stays until the process ends: a second port is opened in the EAL of
 * the first, whose memory, lcore and eal_args hold for both. Only the first may be a PCI device.
 *
 * Threads: open and close on one thread, which keeps its CPU affinity; the first receive of a queue
 *          makes the calling thread the one of that queue, known to DPDK, and pins it to its CPU.
 * Memory:  one pool of frames per queue, sized in open, on the NUMA node of the device. */
#pragma once

#include "dataplane/nic.h"

typedef enum cn_nic_memory {
    CN_NIC_MEMORY_AUTO,          // huge pages if enough are free, else normal ones
    CN_NIC_MEMORY_HUGE,
    CN_NIC_MEMORY_NORMAL         // no huge pages; devices that do DMA need an IOMMU
} cn_nic_memory;

typedef struct cn_nic_dpdk_options {
    const char *device;
    const char *eal_args;        // more arguments for the EAL, separated by spaces; NULL: none
    cn_nic_memory memory;
    uint32_t memory_mb;          // 0: what the pools need
    int32_t cpu;                 // of queue 0, the next queues on the next CPUs; -1: not pinned
    uint16_t mtu;                // 0: 1500
    uint16_t queue_count;        // 0: 1
    uint32_t frame_count;        // per queue; 0: 8191. Received ones that are held, and ones to send
} cn_nic_dpdk_options;

/* Memory in MiB that a port with these options takes, with memory_mb 0. */
uint32_t cn_nic_dpdk_need_mb(const cn_nic_dpdk_options *options);

/* Opens and starts the port; the caller owns *out. The link may still be down: see stats.
 * Errors: CN_E_INVALID (device unknown or refused, MTU, queues: the value is named), CN_E_IO (no
 * privilege, in use by another process, EAL cannot start), CN_E_MEMORY (huge pages, pool). */
cn_code cn_nic_dpdk_open(const cn_nic_dpdk_options *options, cn_nic **out, cn_err *err);
