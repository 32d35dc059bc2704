/* dataplane/lwip/hooks.h: where lwIP asks the stack; the answers are in dataplane/stack.c.
 * Hooks with TCP_HASH, TCP_REXMIT, TCP_SYN_DROPPED, TCP_CHALLENGE and TCP_OOSEQ_ROOM in their names
 * come with the patches (deploy/lwip/README.md); the others are lwIP's own.
 *
 * Threads: net only.
 * Memory:  none. */
#pragma once

#include <lwip/ip_addr.h>
#include <lwip/prot/ethernet.h>

struct netif;
struct pbuf;

uint32_t cn_stack_isn(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote,
                      uint16_t remote_port);
uint32_t cn_stack_hash(const ip_addr_t *remote, uint16_t remote_port, const ip_addr_t *local,
                       uint16_t local_port);
struct netif *cn_stack_route(void);
const ip6_addr_t *cn_stack_gateway6(void);
int cn_stack_vlan_check(const struct eth_vlan_hdr *header);
int32_t cn_stack_vlan(void);
int cn_stack_room(uint32_t bytes);
void cn_stack_count_rexmit(void);
void cn_stack_count_syn_dropped(void);
void cn_stack_count_challenge(void);

#define LWIP_HOOK_TCP_ISN cn_stack_isn
#define LWIP_HOOK_TCP_HASH cn_stack_hash
#define LWIP_HOOK_TCP_REXMIT cn_stack_count_rexmit
#define LWIP_HOOK_TCP_SYN_DROPPED cn_stack_count_syn_dropped
#define LWIP_HOOK_TCP_CHALLENGE cn_stack_count_challenge
#define LWIP_HOOK_TCP_OOSEQ_ROOM cn_stack_room

// Everything leaves by the one port, whichever of our addresses it comes from.
#define LWIP_HOOK_IP6_ROUTE(src, dest) cn_stack_route()
#define LWIP_HOOK_ND6_GET_GW(netif, dest) cn_stack_gateway6()

#define LWIP_HOOK_VLAN_CHECK(netif, ethernet, vlan) cn_stack_vlan_check(vlan)
#define LWIP_HOOK_VLAN_SET(netif, p, src, dst, type) cn_stack_vlan()
