/* dataplane/stack_int.h: what the transport needs of the stack beside lwIP's own functions.
 *
 * Threads: net only.
 * Memory:  none. */
#pragma once

#include <stdbool.h>

#include <lwip/ip_addr.h>
#include <lwip/netif.h>

#include "dataplane/stack.h"

/* The one port. */
struct netif *cn_stack_netif(void);
/* Whether packets to this address are ours; any address is. */
bool cn_stack_serves(const ip_addr_t *address);
