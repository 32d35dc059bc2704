/* dataplane/nic_interface_int.h: the kernel's interface below a packet device of DPDK.
 * DPDK's af_packet never notices that its interface went down or away, so the kernel is asked. An
 * interface that was removed and made again is another one: sockets stay bound to the old.
 * For dataplane/nic_dpdk.c alone.
 *
 * Threads: open and close on one thread; look on any.
 * Memory:  of the caller. */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct cn_nic_interface {
    char name[IFNAMSIZ];         // "": the device is not above an interface
    unsigned index;              // 0: its state is not asked for
    int fd;                      // holds the name; -1: none
} cn_nic_interface;

typedef enum cn_nic_interface_state {
    CN_NIC_INTERFACE_GONE,
    CN_NIC_INTERFACE_DOWN,
    CN_NIC_INTERFACE_UP
} cn_nic_interface_state;

/* Keeps `name` for this process; "" is nobody's. Two processes on one interface would answer every
 * frame twice, and the kernel lets them. Errors: CN_E_IO (another process has it). */
cn_code cn_nic_interface_open(cn_nic_interface *interface, const char *name, const char *device,
                              cn_err *err);
void cn_nic_interface_close(cn_nic_interface *interface);

/* Whether an interface of this name is there, perhaps another one than before. */
bool cn_nic_interface_exists(const cn_nic_interface *interface);
/* From now on the state of the one that is there is asked for. */
void cn_nic_interface_bind(cn_nic_interface *interface);
cn_nic_interface_state cn_nic_interface_look(const cn_nic_interface *interface);
/* 0 or -errno. */
int cn_nic_interface_set_mtu(const cn_nic_interface *interface, uint16_t mtu);

/* Whether `fd` is a packet socket (AF_PACKET or AF_XDP). */
bool cn_nic_interface_is_socket(int fd);
/* Frames that a packet socket had no room for since it was asked last. */
uint64_t cn_nic_interface_socket_drops(int fd);
