/* dataplane/nic_eal_int.h: DPDK's environment layer (EAL), started from the options of a port, and what
 * DPDK says. For dataplane/nic_dpdk.c alone; these two files are the only ones that know DPDK.
 *
 * Threads: as cn_nic_dpdk_open.
 * Memory:  the EAL's, until the process ends. */
#pragma once

#include "dataplane/nic_dpdk.h"

/* Starts the EAL, if it is not started. Errors: CN_E_MEMORY (huge pages), CN_E_INVALID (arguments),
 * CN_E_IO (it cannot be started: only a new process can try again). */
cn_code cn_nic_eal_start(const cn_nic_dpdk_options *options, uint32_t memory_mb, cn_err *err);

/* Whether `device` is a PCI address, and whether the EAL was started with one. */
bool cn_nic_eal_is_pci(const char *device);
bool cn_nic_eal_has_pci(void);

/* What DPDK has logged since forget, for the text of an error. */
const char *cn_nic_eal_said(void);
void cn_nic_eal_forget(void);
