#include "dataplane/stack_int.h"

#include <arpa/inet.h>
#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/etharp.h>
#include <lwip/ethip6.h>
#include <lwip/init.h>
#include <lwip/ip.h>
#include <lwip/nd6.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <netif/ethernet.h>

#include "base/assert.h"
#include "dataplane/lwip/hooks.h"
#include "dataplane/lwip_pool.h"

/* How it works. A received frame becomes a pbuf without being copied: the pbuf lies in the frame's
 * private area, points to the frame's bytes, and gives the frame back when lwIP frees it, which is
 * before cn_stack_receive returns: what has to wait (early segments, bytes that HTTP did not take) is
 * copied, so nobody can pin the port's frames by sending half of something.
 *
 * On the way out lwIP keeps each segment in its own memory until it is acknowledged; linkoutput copies
 * it into a fresh frame and gathers frames into bursts.
 *
 * Which checksums lwIP computes is decided for each received frame, by what the port says about it,
 * and once for all that is sent.
 *
 * Virtual addresses are interfaces of their own that nothing is ever sent through. lwIP accepts
 * packets to any interface's address, but answers ARP and neighbour solicitations only for the
 * interface that they came in by. */

enum {
    TICK_NS = TCP_TICK_MS * 1000000,
    NEIGHBOUR_TIMER_NS = 1000000000,
    NEIGHBOUR_ASK_NS = 100000000,                        // between two questions, at least
    ETHERNET_BYTES = 14,
    VLAN_BYTES = 4,
    CONNECTION_DATA_BYTES = 8 * 1024,
};
static const uint64_t DATA_BYTES_LEAST = 32 << 20;

typedef struct received {
    struct pbuf_custom pbuf;
    cn_frame frame;
} received;
static_assert(sizeof(received) <= CN_NIC_PRIVATE_BYTES, "a pbuf and a frame fit beside a frame");
static_assert(ARP_TMR_INTERVAL == 1000 && ND6_TMR_INTERVAL == 1000, "one timer serves both");

static struct stack {
    bool is_open;
    cn_nic *nic;
    cn_clock clock;
    cn_random random;
    uint16_t vlan;
    bool fills_checksums;
    uint8_t siphash_key[2][crypto_shorthash_KEYBYTES];   // of sequence numbers, of the table
    uint64_t neighbour_timer_ns;                         // when it is due
    uint64_t neighbour_asked_ns;
    ip6_addr_t gateway6;
    bool has_gateway6;
    struct netif port;
    struct netif vips[CN_STACK_VIP_MAX];
    uint32_t vip_count;
    cn_frame burst[CN_NIC_BURST_MAX];
    uint32_t burst_count;
    cn_stack_counts counts;
} the;

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

// ---- hooks of lwIP -----------------------------------------------------------------------------

uint32_t cn_stack_random(void) { return (uint32_t)cn_random_u64(&the.random); }

static uint64_t hash_ends(const uint8_t *key, const ip_addr_t *a, uint16_t a_port,
                          const ip_addr_t *b, uint16_t b_port)
{
    uint8_t text[2 * 16 + 2 * sizeof(uint16_t)] = {0};
    uint8_t digest[crypto_shorthash_BYTES];
    const size_t bytes = IP_IS_V6(a) ? 16 : 4;
    memcpy(text, IP_IS_V6(a) ? (const void *)ip_2_ip6(a)->addr : &ip_2_ip4(a)->addr, bytes);
    memcpy(text + bytes, IP_IS_V6(b) ? (const void *)ip_2_ip6(b)->addr : &ip_2_ip4(b)->addr, bytes);
    memcpy(text + 2 * bytes, &a_port, sizeof a_port);
    memcpy(text + 2 * bytes + sizeof a_port, &b_port, sizeof b_port);
    crypto_shorthash(digest, text, 2 * bytes + 2 * sizeof a_port, key);
    uint64_t value;
    memcpy(&value, digest, sizeof value);
    return value;
}

// RFC 6528: a clock of 4 us, and a number that only this process can tell for these two ends.
uint32_t cn_stack_isn(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote,
                      uint16_t remote_port)
{
    const uint64_t hash = hash_ends(the.siphash_key[0], local, local_port, remote, remote_port);
    return (uint32_t)(cn_clock_now_ns(&the.clock) / 4000 + hash);
}

uint32_t cn_stack_hash(const ip_addr_t *remote, uint16_t remote_port, const ip_addr_t *local,
                       uint16_t local_port)
{
    return (uint32_t)hash_ends(the.siphash_key[1], remote, remote_port, local, local_port);
}

struct netif *cn_stack_route(void) { return &the.port; }

const ip6_addr_t *cn_stack_gateway6(void) { return the.has_gateway6 ? &the.gateway6 : NULL; }

int cn_stack_vlan_check(const struct eth_vlan_hdr *header)
{
    return VLAN_ID(header) == the.vlan;          // 0: a priority, and no VLAN
}

int32_t cn_stack_vlan(void) { return the.vlan ? the.vlan : -1; }

// Segments that came early use at most half of the memory: they can be had again.
int cn_stack_room(uint32_t bytes)
{
    if (cn_lwip_pool_fill(bytes + TCP_HLEN + sizeof(struct pbuf)) < 128) return 1;
    count(&the.counts.unkept);
    return 0;
}

/* A peer that is silent for so long may have a new MAC address, it or the gateway, and the neighbour table
 * the old one for minutes. (Over IPv6 lwIP finds that out by itself.) */
static void ask_for_neighbour(const ip4_addr_t *peer)
{
    const ip4_addr_t *address = netif_ip4_addr(&the.port), *mask = netif_ip4_netmask(&the.port);
    const uint64_t now_ns = cn_clock_now_ns(&the.clock);
    if (now_ns < the.neighbour_asked_ns + NEIGHBOUR_ASK_NS) return;
    the.neighbour_asked_ns = now_ns;
    etharp_request(&the.port, ip4_addr_netcmp(peer, address, mask) ? peer : netif_ip4_gw(&the.port));
}

void cn_stack_timed_out(const struct tcp_pcb *pcb)
{
    count(&the.counts.timeouts);
    if (pcb->nrtx > 0 && IP_IS_V4(&pcb->remote_ip)) ask_for_neighbour(ip_2_ip4(&pcb->remote_ip));
}

void cn_stack_count_rexmits(void) { count(&the.counts.rexmits); }
void cn_stack_count_needless(void) { count(&the.counts.needless); }
void cn_stack_count_probes(void) { count(&the.counts.probes); }
void cn_stack_count_recoveries(void) { count(&the.counts.recoveries); }
void cn_stack_count_early(void) { count(&the.counts.early); }
void cn_stack_count_syns_dropped(void) { count(&the.counts.syns_dropped); }
void cn_stack_count_challenges(void) { count(&the.counts.challenges); }
void cn_stack_count_resets_sent(void) { count(&the.counts.resets_sent); }
void cn_stack_count_resets_taken(void) { count(&the.counts.resets_taken); }

// ---- frames ------------------------------------------------------------------------------------

static void give_back(struct pbuf *p)
{
    const received *r = (const received *)(const void *)p;
    the.nic->ops->free(the.nic, &r->frame);
}

// Whether the frame is for us and has the tag that it should have; a port may hear everything.
static bool wanted(const cn_frame *frame)
{
    if (frame->len <= ETHERNET_BYTES || (frame->flags & CN_FRAME_BAD)) return false;
    const bool tagged = frame->data[12] == 0x81 && frame->data[13] == 0;
    if (the.vlan && !tagged) return false;
    return (frame->data[0] & 1) || memcmp(frame->data, the.port.hwaddr, ETH_HWADDR_LEN) == 0;
}

static void take_frame(const cn_frame *frame)
{
    if (!wanted(frame)) {
        count(&the.counts.frames_dropped);
        the.nic->ops->free(the.nic, frame);
        return;
    }
    received *r = frame->private;
    *r = (received){.pbuf.custom_free_function = give_back, .frame = *frame};
    struct pbuf *p =
        pbuf_alloced_custom(PBUF_RAW, frame->len, PBUF_REF, &r->pbuf, frame->data, frame->len);
    CN_ASSERT(p);
    const uint16_t checks = NETIF_CHECKSUM_CHECK_IP | NETIF_CHECKSUM_CHECK_TCP;
    uint16_t sums = NETIF_CHECKSUM_ENABLE_ALL;
    if (frame->flags & CN_FRAME_L4_CHECKED) sums &= (uint16_t)~checks;
    if (the.fills_checksums) sums &= (uint16_t)~NETIF_CHECKSUM_GEN_TCP;
    NETIF_SET_CHECKSUM_CTRL(&the.port, sums);
    if (the.port.input(p, &the.port) != ERR_OK) pbuf_free(p);
}

uint32_t cn_stack_receive(void)
{
    cn_frame frames[CN_NIC_BURST_MAX];
    const uint32_t frame_count = the.nic->ops->receive(the.nic, 0, frames, CN_NIC_BURST_MAX);
    for (uint32_t i = 0; i < frame_count; i++) take_frame(&frames[i]);
    return frame_count;
}

void cn_stack_flush(void)
{
    if (!the.burst_count) return;
    the.nic->ops->send(the.nic, 0, the.burst, the.burst_count);
    the.burst_count = 0;
}

static bool is_tcp(const cn_frame *frame)
{
    const uint32_t at = the.vlan ? ETHERNET_BYTES + VLAN_BYTES : ETHERNET_BYTES;
    const uint8_t *ip = frame->data + at;
    if (frame->len < at + 20) return false;
    return ip[0] >> 4 == 4 ? ip[9] == IP_PROTO_TCP : ip[0] >> 4 == 6 && ip[6] == IP_PROTO_TCP;
}

static err_t link_output(struct netif *netif, struct pbuf *p)
{
    cn_frame frame;
    (void)netif;
    if (!the.nic->ops->alloc(the.nic, 0, &frame)) {
        cn_stack_flush();                // which may free some
        if (!the.nic->ops->alloc(the.nic, 0, &frame)) {
            count(&the.counts.frames_refused);
            return ERR_MEM;
        }
    }
    frame.len = 0;
    frame.flags = 0;
    for (const struct pbuf *q = p; q; q = q->next) {
        memcpy(frame.data + frame.len, q->payload, q->len);
        frame.len = (uint16_t)(frame.len + q->len);
    }
    if (the.fills_checksums && is_tcp(&frame)) frame.flags = CN_FRAME_FILL_L4;
    the.burst[the.burst_count++] = frame;
    if (the.burst_count == CN_NIC_BURST_MAX) cn_stack_flush();
    return ERR_OK;
}

// ---- timers ------------------------------------------------------------------------------------

void cn_stack_run_timers(void)
{
    const uint64_t now_ns = cn_clock_now_ns(&the.clock);
    const uint32_t tick = (uint32_t)(now_ns / TICK_NS);
    if (tick != tcp_ticks) tcp_tmr_to(tick);
    atomic_store_explicit(&the.counts.half_open, tcp_list_counts[TCP_COUNTED_SYN], memory_order_relaxed);
    atomic_store_explicit(&the.counts.time_waiting, tcp_list_counts[TCP_COUNTED_TW], memory_order_relaxed);
    if (now_ns >= the.neighbour_timer_ns) {
        the.neighbour_timer_ns = now_ns + NEIGHBOUR_TIMER_NS;
        etharp_tmr();
        nd6_tmr();
    }
}

uint64_t cn_stack_timer_left_ns(void)
{
    const uint64_t now_ns = cn_clock_now_ns(&the.clock);
    uint64_t left_ns = the.neighbour_timer_ns > now_ns ? the.neighbour_timer_ns - now_ns : 0;
    const uint32_t ticks = tcp_tmr_left();
    if (ticks != TCP_TMR_NONE) {
        const uint64_t tcp_ns = (uint64_t)ticks * TICK_NS - now_ns % TICK_NS;
        if (tcp_ns < left_ns) left_ns = tcp_ns;
    }
    return left_ns;
}

// ---- opening -----------------------------------------------------------------------------------

static err_t port_init(struct netif *netif)
{
    cn_nic_info info;
    the.nic->ops->info(the.nic, &info);
    netif->name[0] = 'c';
    netif->name[1] = 'n';
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->linkoutput = link_output;
    netif->mtu = info.mtu;
    netif->hwaddr_len = ETH_HWADDR_LEN;
    memcpy(netif->hwaddr, info.mac, ETH_HWADDR_LEN);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
    the.fills_checksums = info.fills_checksums;
    NETIF_SET_CHECKSUM_CTRL(netif, the.fills_checksums
                                       ? (uint16_t)(NETIF_CHECKSUM_ENABLE_ALL & ~NETIF_CHECKSUM_GEN_TCP)
                                       : NETIF_CHECKSUM_ENABLE_ALL);
    return ERR_OK;
}

static err_t vip_output(struct netif *netif, struct pbuf *p, const ip4_addr_t *to)
{
    (void)netif, (void)p, (void)to;
    return ERR_IF;                               // routes lead to the port
}

static err_t vip_output6(struct netif *netif, struct pbuf *p, const ip6_addr_t *to)
{
    (void)netif, (void)p, (void)to;
    return ERR_IF;
}

static err_t vip_init(struct netif *netif)
{
    netif->name[0] = 'v';
    netif->name[1] = 'i';
    netif->output = vip_output;
    netif->output_ip6 = vip_output6;
    netif->mtu = the.port.mtu;
    return ERR_OK;
}

static err_t vip_input(struct pbuf *p, struct netif *netif)
{
    (void)p, (void)netif;
    return ERR_IF;
}

static cn_code wrong_address(const char *key, const char *text, const char *right, cn_err *err)
{
    return cn_err_set(err, CN_E_INVALID, "%s: \"%.64s\"; must be %s", key, text, right);
}

// "198.18.0.2/24" or "fd00::2/64".
static bool parse_prefix(const char *text, ip_addr_t *address, uint32_t *bits)
{
    char host[IP6ADDR_STRLEN_MAX + 1];
    const char *slash = strchr(text, '/');
    if (!slash || slash == text || (size_t)(slash - text) >= sizeof host) return false;
    memcpy(host, text, (size_t)(slash - text));
    host[slash - text] = '\0';
    char *end;
    const unsigned long value = strtoul(slash + 1, &end, 10);
    if (end == slash + 1 || *end || value > 128) return false;
    *bits = (uint32_t)value;
    return ipaddr_aton(host, address);
}

static cn_code add_ipv4(const cn_stack_options *options, cn_err *err)
{
    static const char right[] = "an IPv4 address with a prefix, such as 198.18.0.2/24";
    ip_addr_t address = {0}, gateway = {0};
    ip4_addr_t mask = {0};
    uint32_t bits = 0;
    if (options->ipv4) {
        if (!parse_prefix(options->ipv4, &address, &bits) || !IP_IS_V4(&address) || bits < 1 ||
            bits > 32) {
            return wrong_address("ipv4", options->ipv4, right, err);
        }
        mask.addr = htonl(UINT32_MAX << (32 - bits));
    }
    if (options->ipv4_gateway) {
        if (!ipaddr_aton(options->ipv4_gateway, &gateway) || !IP_IS_V4(&gateway) ||
            !ip4_addr_netcmp(ip_2_ip4(&gateway), ip_2_ip4(&address), &mask)) {
            return wrong_address("ipv4_gateway", options->ipv4_gateway,
                                 "an address in the network of ipv4", err);
        }
    }
    struct netif *added = netif_add(&the.port, ip_2_ip4(&address), &mask, ip_2_ip4(&gateway), NULL,
                                    port_init, ethernet_input);
    CN_ASSERT(added);
    netif_set_default(&the.port);
    return CN_OK;
}

static cn_code add_ipv6(const cn_stack_options *options, cn_err *err)
{
    ip_addr_t address, gateway;
    uint32_t bits;
    netif_create_ip6_linklocal_address(&the.port, 1);
    if (options->ipv6) {
        if (!parse_prefix(options->ipv6, &address, &bits) || !IP_IS_V6(&address) || bits != 64) {
            return wrong_address("ipv6", options->ipv6,
                                 "an IPv6 address with a prefix of 64 bits, such as fd00::2/64", err);
        }
        netif_ip6_addr_set(&the.port, 1, ip_2_ip6(&address));
        netif_ip6_addr_set_state(&the.port, 1, IP6_ADDR_PREFERRED);
    }
    if (options->ipv6_gateway) {
        if (!ipaddr_aton(options->ipv6_gateway, &gateway) || !IP_IS_V6(&gateway)) {
            return wrong_address("ipv6_gateway", options->ipv6_gateway,
                                 "an IPv6 address on the link, such as fe80::1", err);
        }
        the.gateway6 = *ip_2_ip6(&gateway);
        the.has_gateway6 = true;
    }
    return CN_OK;
}

static cn_code add_vip(const char *text, cn_err *err)
{
    ip_addr_t address;
    if (!ipaddr_aton(text, &address) || ip_addr_isany(&address) || ip_addr_ismulticast(&address)) {
        return wrong_address("vip", text, "an address, such as 203.0.113.7 or 2001:db8::7", err);
    }
    const ip4_addr_t mask = {UINT32_MAX}, none = {0};
    struct netif *vip = &the.vips[the.vip_count++];
    const bool v4 = IP_IS_V4(&address);
    struct netif *added = netif_add(vip, v4 ? ip_2_ip4(&address) : &none, v4 ? &mask : &none, &none,
                                    NULL, vip_init, vip_input);
    CN_ASSERT(added);
    netif_set_up(vip);
    netif_set_link_up(vip);
    if (!v4) {
        netif_ip6_addr_set(vip, 0, ip_2_ip6(&address));
        netif_ip6_addr_set_state(vip, 0, IP6_ADDR_PREFERRED);
    }
    return CN_OK;
}

static cn_code add_addresses(const cn_stack_options *options, cn_err *err)
{
    cn_code code = add_ipv4(options, err);
    if (code) return code;
    netif_set_up(&the.port);
    code = add_ipv6(options, err);
    for (int i = 0; !code && i < CN_STACK_VIP_MAX && options->vips[i]; i++) {
        code = add_vip(options->vips[i], err);
    }
    // Announces the IPv4 address, to which neighbours may have another MAC address.
    if (!code) netif_set_link_up(&the.port);
    return code;
}

cn_code cn_stack_open(const cn_stack_options *options, cn_err *err)
{
    static bool initialized;
    if (the.is_open) return cn_err_set(err, CN_E_INVALID, "stack: is open; one can be at a time");
    if (options->vlan > 4094) {
        return cn_err_set(err, CN_E_INVALID, "vlan: %u; must be 0 to 4094", options->vlan);
    }
    memset(&the, 0, sizeof the);
    the.nic = options->nic;
    the.clock = options->clock;
    the.random = options->random;
    the.vlan = options->vlan;
    cn_random_fill(&the.random, the.siphash_key, sizeof the.siphash_key);
    cn_nic_info info;
    the.nic->ops->info(the.nic, &info);
    const cn_lwip_pool_options pool = {
        .data_bytes = options->data_bytes
                          ? options->data_bytes
                          : DATA_BYTES_LEAST + options->connection_count * (uint64_t)CONNECTION_DATA_BYTES,
        .connection_bytes = LWIP_MEM_ALIGN_SIZE(sizeof(struct tcp_pcb)),
        .connection_count = options->connection_count,
        .jumbo = info.mtu > 1500,
    };
    cn_code code = cn_lwip_pool_open(&pool, err);
    if (code) return code;
    the.is_open = true;
    if (!initialized) lwip_init();
    initialized = true;
    const uint64_t now_ns = cn_clock_now_ns(&the.clock);
    tcp_ticks = (uint32_t)(now_ns / TICK_NS);
    the.neighbour_timer_ns = now_ns + NEIGHBOUR_TIMER_NS;
    code = add_addresses(options, err);
    if (code) cn_stack_close();
    else cn_stack_flush();
    return code;
}

void cn_stack_close(void)
{
    if (!the.is_open) return;
    struct tcp_pcb **const lists[] = {&tcp_active_pcbs, &tcp_syn_pcbs, &tcp_tw_pcbs};
    for (size_t i = 0; i < LWIP_ARRAYSIZE(lists); i++) {
        while (*lists[i]) tcp_abort(*lists[i]);
    }
    cn_stack_flush();
    for (uint32_t i = 0; i < the.vip_count; i++) netif_remove(&the.vips[i]);
    netif_remove(&the.port);
    CN_ASSERT(cn_lwip_pool_used_bytes() == 0);
    cn_lwip_pool_close();
    the.is_open = false;
}

struct netif *cn_stack_netif(void) { return &the.port; }

bool cn_stack_serves(const ip_addr_t *address)
{
    struct netif *netif;
    if (ip_addr_isany(address)) return true;
    NETIF_FOREACH(netif) {
        if (IP_IS_V4(address) && ip4_addr_cmp(ip_2_ip4(address), netif_ip4_addr(netif))) return true;
        if (IP_IS_V6(address) && netif_get_ip6_addr_match(netif, ip_2_ip6(address)) >= 0) return true;
    }
    return false;
}

const cn_stack_counts *cn_stack_counted(void) { return &the.counts; }
