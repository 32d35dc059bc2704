/* dataplane/nic_doctor.h: whether this machine is ready for a port of DPDK, said before it is tried.
 * Looks at what the kernel tells in /proc and /sys, changes nothing, and starts nothing of DPDK.
 *
 * Threads: any.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef enum cn_nic_health { CN_NIC_FINE, CN_NIC_POOR, CN_NIC_BROKEN } cn_nic_health;

typedef struct cn_nic_finding {
    const char *check;           // "huge_pages"
    cn_nic_health health;        // POOR: it works, and a sentence says what would be better
    char text[256];
    char fix[256];               // the command that repairs it; "" if it is FINE
} cn_nic_finding;

enum { CN_NIC_FINDING_MAX = 16 };

typedef struct cn_nic_doctor_options {
    const char *root;            // "" but in tests: where proc, sys and dev are
    const char *device;          // as cn_nic_dpdk_options
    uint32_t memory_mb;          // that the port will want
    int32_t cpu;                 // that the net thread is to be pinned to; -1: none
} cn_nic_doctor_options;

/* The checks by name, and what each looks at, for people; *count of them. */
typedef struct cn_nic_doctor_check {
    const char *name, *what;
} cn_nic_doctor_check;
const cn_nic_doctor_check *cn_nic_doctor_checks(uint32_t *count);

/* Writes at most CN_NIC_FINDING_MAX findings, one per check that concerns the device; returns how
 * many. */
uint32_t cn_nic_doctor_examine(const cn_nic_doctor_options *options, cn_nic_finding *out);

/* Whether the interface below `device` (an af_packet interface, or that of a PCI device that the
 * kernel still drives) carries a default route. Taking it could cut this machine off. */
bool cn_nic_doctor_carries_default_route(const char *root, const char *device);
