/* dataplane/lwip/hooks.h: where lwIP asks the stack; the answers are in dataplane/stack.c.
 * TCP's hooks but LWIP_HOOK_TCP_ISN come with the patches (deploy/lwip/README.md); the others are lwIP's
 * own.
 *
 * Threads: net only.
 * Memory:  none. */
#pragma once

#include <lwip/ip_addr.h>
#include <lwip/prot/ethernet.h>

struct netif;
struct pbuf;
struct tcp_pcb;

uint32_t cn_stack_isn(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote,
                      uint16_t remote_port);
uint32_t cn_stack_hash(const ip_addr_t *remote, uint16_t remote_port, const ip_addr_t *local,
                       uint16_t local_port);
struct netif *cn_stack_route(void);
const ip6_addr_t *cn_stack_gateway6(void);
int cn_stack_vlan_check(const struct eth_vlan_hdr *header);
int32_t cn_stack_vlan(void);
int cn_stack_room(uint32_t bytes);
void cn_stack_timed_out(const struct tcp_pcb *pcb);
void cn_stack_count_rexmits(void);
void cn_stack_count_needless(void);
void cn_stack_count_probes(void);
void cn_stack_count_recoveries(void);
void cn_stack_count_early(void);
void cn_stack_count_syns_dropped(void);
void cn_stack_count_challenges(void);
void cn_stack_count_resets_sent(void);
void cn_stack_count_resets_taken(void);

#define LWIP_HOOK_TCP_ISN cn_stack_isn
#define LWIP_HOOK_TCP_HASH cn_stack_hash
#define LWIP_HOOK_TCP_OOSEQ_ROOM cn_stack_room
#define LWIP_HOOK_TCP_TIMEOUT cn_stack_timed_out
#define LWIP_HOOK_TCP_REXMIT cn_stack_count_rexmits
#define LWIP_HOOK_TCP_NEEDLESS cn_stack_count_needless
#define LWIP_HOOK_TCP_PROBE cn_stack_count_probes
#define LWIP_HOOK_TCP_RECOVERY cn_stack_count_recoveries
#define LWIP_HOOK_TCP_EARLY cn_stack_count_early
#define LWIP_HOOK_TCP_SYN_DROPPED cn_stack_count_syns_dropped
#define LWIP_HOOK_TCP_CHALLENGE cn_stack_count_challenges
#define LWIP_HOOK_TCP_RESET_SENT cn_stack_count_resets_sent
#define LWIP_HOOK_TCP_RESET_TAKEN cn_stack_count_resets_taken

// Everything leaves by the one port, whichever of our addresses it comes from.
#define LWIP_HOOK_IP6_ROUTE(src, dest) cn_stack_route()
#define LWIP_HOOK_ND6_GET_GW(netif, dest) cn_stack_gateway6()

#define LWIP_HOOK_VLAN_CHECK(netif, ethernet, vlan) cn_stack_vlan_check(vlan)
#define LWIP_HOOK_VLAN_SET(netif, p, src, dst, type) cn_stack_vlan()
