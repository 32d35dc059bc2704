/* dataplane/lwip/lwipopts.h: how lwIP is built: TCP over IPv4 and IPv6 on one Ethernet port.
 * What an operator may change is not here: it is in the limits and in cn_stack_options.
 *
 * Threads: those of lwIP: one, the net thread.
 * Memory:  all of lwIP's comes from dataplane/lwip_pool.h. */
#pragma once

// One thread, no operating system below: only the raw API.
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#define LWIP_NETIF_API 0
#define LWIP_STATS 0
#define LWIP_TIMERS 0                    // dataplane/stack.c calls what is due

// Every pool of lwIP and its heap are the size classes of dataplane/lwip_pool.c.
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define mem_clib_malloc cn_lwip_pool_take
#define mem_clib_calloc cn_lwip_pool_take_zeroed
#define mem_clib_free cn_lwip_pool_put
#define MEM_ALIGNMENT 8
#define LWIP_SUPPORT_CUSTOM_PBUF 1       // received frames are pbufs where they lie

#define LWIP_ETHERNET 1
#define LWIP_ARP 1
#define ARP_TABLE_SIZE 127
#define ARP_QUEUEING 0                   // one packet per unresolved neighbour
#define ETHARP_SUPPORT_STATIC_ENTRIES 1
#define ETHARP_SUPPORT_VLAN 1
#define ETHARP_TRUST_IP_MAC 0
#define PBUF_LINK_HLEN 18                // with a VLAN tag
#define LWIP_NETIF_HWADDRHINT 1
#define LWIP_NETIF_TX_SINGLE_PBUF 0
#define LWIP_NETIF_HOSTNAME 0
#define LWIP_NETIF_LOOPBACK 0
#define LWIP_HAVE_LOOPIF 0
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1   // set for each frame: what the device has checked

#define LWIP_IPV4 1
#define IP_FORWARD 0
#define IP_REASSEMBLY 0
#define IP_FRAG 0
#define IP_OPTIONS_ALLOWED 0
#define LWIP_ICMP 1
#define LWIP_BROADCAST_PING 0
#define LWIP_MULTICAST_PING 0
#define LWIP_RAW 0
#define LWIP_DHCP 0
#define LWIP_AUTOIP 0
#define LWIP_IGMP 0
#define LWIP_DNS 0
#define LWIP_UDP 0

// Addresses are static: nothing is learnt from routers, and nothing is asked of them.
#define LWIP_IPV6 1
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_DHCP6 0
#define LWIP_IPV6_SCOPES 0
#define LWIP_IPV6_NUM_ADDRESSES 4
#define LWIP_ND6_ALLOW_RA_UPDATES 0
#define LWIP_ND6_TCP_REACHABILITY_HINTS 1
#define LWIP_ND6_NUM_NEIGHBORS 127
#define LWIP_ND6_NUM_DESTINATIONS 127
#define LWIP_ND6_QUEUEING 0

#define LWIP_TCP 1
#define TCP_MSS 8960                     // of jumbo frames; the port's MTU bounds it
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 3
#define TCP_WND (256 * 1024)
#define TCP_WND_UPDATE_THRESHOLD (2U * pcb->mss)     // as often as segments are acknowledged
#define TCP_SND_BUF (256 * 1024)
#define TCP_SND_QUEUELEN 4096            // pbufs; a token of a stream may be one
#define TCP_SNDLOWAT 16384
#define TCP_SNDQUEUELOWAT 16
#define TCP_QUEUE_OOSEQ 1
#define TCP_OOSEQ_MAX_BYTES (256 * 1024)
#define TCP_OOSEQ_MAX_PBUFS 256          // bounds the search for a segment's place as well
#define TCP_OVERSIZE 0
#define TCP_LISTEN_BACKLOG 1
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_MAX_SACK_NUM 4
#define LWIP_TCP_TIMESTAMPS 0
#define LWIP_TCP_KEEPALIVE 1
#define TCP_KEEPIDLE_DEFAULT 60000UL     // ms; as transport_kernel.c: 60 s, then 4 probes of 15 s
#define TCP_KEEPINTVL_DEFAULT 15000UL
#define TCP_KEEPCNT_DEFAULT 4U
#define TCP_MAXRTX 9                     // with time-outs of 0.2 to 30 s: given up after about 110 s
#define TCP_SYNMAXRTX 5
#define TCP_MSL 15000UL
#define TCP_SYN_RCVD_TIMEOUT 10000
#define LWIP_TCP_CALC_INITIAL_CWND(mss) \
    ((tcpwnd_size_t)LWIP_MIN(10U * (mss), LWIP_MAX(2U * (mss), 14600U)))      // RFC 6928

#define LWIP_HOOK_FILENAME "dataplane/lwip/hooks.h"
#define LWIP_CHKSUM cn_inet_sum_fold
