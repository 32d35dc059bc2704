#include "dataplane/nic_dpdk.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>

#include "base/assert.h"
#include "dataplane/nic_eal_int.h"
#include "dataplane/nic_interface_int.h"

/* How it works. A frame is an mbuf: `handle` is the mbuf, `private` its private area, and nothing is
 * copied on the way in or out. Pools belong to queues, so that a queue that starves cannot starve
 * another.
 *
 * Sleep. Three kinds of device, found out in open:
 * - those with a socket (af_packet, af_xdp): it is polled like any socket. DPDK does not tell its
 *   number, so the descriptors that appear while the device is plugged in are looked at;
 * - those with receive interrupts: the interrupt of a queue hangs in an epoll set of its own;
 * - the others: naps that double from NAP_NS_MIN to NAP_NS_MAX while nothing comes.
 *
 * Link. DPDK's af_packet notices nothing and blocks in send when frames pile up behind a link that is
 * down. So for these the interface is looked at: whenever somebody wants statistics, on an error of the
 * socket, and once per LINK_CHECK_FRAMES sent; while the link is down nothing is given to the device.
 *
 * A device that disappears is unplugged and, once it is back, plugged in again, by recover, which runs
 * on another thread than the queues. Pools, threads, counters and the MAC address stay, so that TCP
 * notices nothing but silence. The two sides meet in two flags:
 *
 *     gone     of the port: set by whoever notices, taken back by recover when all is well again
 *     parked   of a queue: its thread has seen `gone` and will not touch the device before it has seen
 *              that it is back; recover waits for this of every queue
 *
 * A thread that unparks writes `parked` and then reads `gone`; recover writes `gone` and then reads
 * `parked`, all in one order (seq_cst): one of them sees the other. Neither waits. */

enum {
    HEADER_BYTES = 18,                       // Ethernet and a VLAN tag
    FRAME_COUNT = 8191,                      // a mempool is densest at 2^n - 1
    DESCRIPTOR_COUNT = 1024,
    POOL_CACHE = 256,
    LINK_CHECK_FRAMES = 64,
    QUEUE_MAX = 16,
    PACKET_ROOM_STEP = 2048, PACKET_FRAMES_PER_BLOCK = 16, PACKET_OVERHEAD_BYTES = 96,
    DEVICE_BYTES = 512,
    PACKET_RING_BYTES = 32 << 20             // 16,384 frames: 10,000 clients may ask at once
};
static const uint64_t NAP_NS_MIN = 20000, NAP_NS_MAX = 1000000, PARKED_NAP_NS = 100000000;

typedef struct queue {
    struct rte_mempool *pool;
    bool has_thread;
    _Atomic bool parked;                     // written by the queue's thread
    int socket_fd;                           // -1: the device has none
    int interrupt_fd;                        // epoll set; -1: no interrupts
    uint32_t sent_unchecked;                 // since the link was looked at
    uint64_t nap_ns;
    // Relaxed: figures of their own. Written by the queue's thread (missed: by who reads them).
    _Atomic uint64_t tx_full, no_frame, missed;
} queue;

typedef struct port {
    cn_nic base;
    char device[DEVICE_BYTES];
    uint16_t id, mtu, queue_count;
    uint32_t room_bytes;                     // for a frame in an mbuf
    uint32_t frame_count;                    // per queue
    int32_t cpu;
    bool plugged, started, was_started, fills_checksums;
    uint8_t mac[6];
    char name[RTE_DEV_NAME_MAX_LEN];
    char driver[32];
    cn_nic_interface interface;
    _Atomic bool link_up;                    // relaxed: a figure of its own
    _Atomic bool gone;
    cn_nic_stats counted, counted_before;    // at the last look; of devices that have gone
    queue queues[QUEUE_MAX];
} port;

// ---- the device

static bool is_af_packet(const char *device)
{
    return strncmp(device, "net_af_packet", 13) == 0 || strncmp(device, "eth_af_packet", 13) == 0;
}

// Value of `key=` among the arguments of a device; "" if it is not there or too long.
static void device_argument(const char *device, const char *key, char *out, size_t out_bytes)
{
    const size_t len = strlen(key);
    out[0] = '\0';
    for (const char *at = strchr(device, ','); at; at = strchr(at, ',')) {
        at++;
        if (strncmp(at, key, len) != 0 || at[len] != '=') continue;
        const size_t value = strcspn(at + len + 1, ",");
        if (value < out_bytes) snprintf(out, out_bytes, "%.*s", (int)value, at + len + 1);
    }
}

// The device with arguments for net_af_packet that suit the MTU; those that are given win.
static bool complete_device(const port *p, char *out, size_t out_bytes)
{
    char given[32];
    size_t len = (size_t)snprintf(out, out_bytes, "%s", p->device);
    if (!is_af_packet(p->device)) return len < out_bytes;
    const struct { const char *key; uint32_t value; } defaults[] = {
        {"qpairs", p->queue_count},
        {"blocksz", p->room_bytes * PACKET_FRAMES_PER_BLOCK},
        {"framesz", p->room_bytes},
        {"framecnt", PACKET_RING_BYTES / p->room_bytes / PACKET_FRAMES_PER_BLOCK *
                         PACKET_FRAMES_PER_BLOCK}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults && len < out_bytes; i++) {
        device_argument(p->device, defaults[i].key, given, sizeof given);
        if (given[0]) continue;
        len += (size_t)snprintf(out + len, out_bytes - len, ",%s=%u", defaults[i].key,
                                defaults[i].value);
    }
    return len < out_bytes;
}

enum { DESCRIPTOR_LOOK_MAX = 1024 };

static void find_packet_sockets(bool *is_there)
{
    for (int fd = 0; fd < DESCRIPTOR_LOOK_MAX; fd++) is_there[fd] = cn_nic_interface_is_socket(fd);
}

static cn_code plug(port *p, cn_err *err)
{
    struct rte_dev_iterator iterator;
    char full[DEVICE_BYTES];
    if (cn_nic_eal_is_pci(p->device) && !cn_nic_eal_has_pci())
        return cn_err_set(err, CN_E_INVALID,
                          "dpdk.device: %s: the EAL of this process was started without PCI",
                          p->device);
    if (!complete_device(p, full, sizeof full))
        return cn_err_set(err, CN_E_INVALID, "dpdk.device: longer than %zu bytes with its defaults",
                          sizeof full);
    cn_nic_eal_forget();
    const int rc = rte_dev_probe(full);
    if (rc != 0 && rc != -EEXIST)
        return cn_err_set(err, rc == -EPERM || rc == -EBUSY ? CN_E_IO : CN_E_INVALID,
                          "dpdk.device: %s: %s (%s)", p->device, rte_strerror(-rc), cn_nic_eal_said());
    snprintf(p->name, sizeof p->name, "%.*s", (int)strcspn(p->device, ","), p->device);
    p->plugged = true;
    RTE_ETH_FOREACH_MATCHING_DEV(p->id, full, &iterator)
    {
        rte_eth_iterator_cleanup(&iterator);
        return CN_OK;
    }
    if (rte_eth_dev_get_port_by_name(p->name, &p->id) == 0) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "dpdk.device: %s: has no network port (%s)", p->device,
                      cn_nic_eal_said());
}

// The sockets that came with the device are those of its queues, in their order.
static void keep_sockets(port *p, const bool *was_there)
{
    uint16_t found = 0;
    for (int fd = 0; fd < DESCRIPTOR_LOOK_MAX && found < p->queue_count; fd++) {
        if (!was_there[fd] && cn_nic_interface_is_socket(fd)) p->queues[found++].socket_fd = fd;
    }
}

// ---- starting the port

static int removed(uint16_t id, enum rte_eth_event_type type, void *argument, void *result)
{
    port *p = argument;
    (void)id, (void)result;
    if (type == RTE_ETH_EVENT_INTR_RMV)
        atomic_store(&p->gone, true);
    return 0;
}

static cn_code configure(port *p, const struct rte_eth_dev_info *info, bool interrupts, cn_err *err)
{
    const uint64_t wanted_tx = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    struct rte_eth_conf conf = {0};
    conf.rxmode.mtu = p->interface.index ? RTE_ETHER_MTU : p->mtu;
    conf.rxmode.offloads = RTE_ETH_RX_OFFLOAD_CHECKSUM & info->rx_offload_capa;
    conf.txmode.offloads = wanted_tx & info->tx_offload_capa;
    conf.intr_conf.rxq = interrupts;
    conf.intr_conf.lsc = (*info->dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
    conf.intr_conf.rmv = (*info->dev_flags & RTE_ETH_DEV_INTR_RMV) != 0;
    if (p->queue_count > 1 && info->flow_type_rss_offloads) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf =
            (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP) & info->flow_type_rss_offloads;
    }
    const bool fills_checksums = conf.txmode.offloads == wanted_tx;
    if (p->was_started && fills_checksums != p->fills_checksums)
        return cn_err_set(err, CN_E_UNSUPPORTED, "dpdk.device: %s: fills in checksums otherwise than the "
                          "one before; a restart takes it", p->device);
    p->fills_checksums = fills_checksums;
    const int rc = rte_eth_dev_configure(p->id, p->queue_count, p->queue_count, &conf);
    if (rc == 0) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "dpdk.device: %s: %u queues, mtu %u: %s (%s)", p->device,
                      p->queue_count, p->mtu, rte_strerror(-rc), cn_nic_eal_said());
}

static cn_code open_pool(port *p, uint16_t index, cn_err *err)
{
    queue *q = &p->queues[index];
    char name[RTE_MEMPOOL_NAMESIZE];
    if (q->pool) return CN_OK;               // of a device that has gone
    snprintf(name, sizeof name, "frames-%u-%u", p->id, index);
    q->pool = rte_pktmbuf_pool_create(name, p->frame_count, POOL_CACHE, CN_NIC_PRIVATE_BYTES,
                                      (uint16_t)(RTE_PKTMBUF_HEADROOM + p->room_bytes),
                                      rte_eth_dev_socket_id(p->id));
    if (q->pool) return CN_OK;
    return cn_err_set(err, CN_E_MEMORY,
                      "dpdk.memory_mb: too little for %u frames of %u bytes per queue: %s",
                      p->frame_count, p->room_bytes, rte_strerror(rte_errno));
}

static cn_code open_queues(port *p, cn_err *err)
{
    uint16_t rx = DESCRIPTOR_COUNT, tx = DESCRIPTOR_COUNT;
    const int node = rte_eth_dev_socket_id(p->id);
    int rc = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &rx, &tx);
    for (uint16_t i = 0; i < p->queue_count && rc == 0; i++) {
        rc = rte_eth_rx_queue_setup(p->id, i, rx, (unsigned)node, NULL, p->queues[i].pool);
        if (rc == 0) rc = rte_eth_tx_queue_setup(p->id, i, tx, (unsigned)node, NULL);
    }
    if (rc == 0) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "dpdk.device: %s: its queues cannot be set up: %s (%s)",
                      p->device, rte_strerror(-rc), cn_nic_eal_said());
}

/* DPDK's af_packet believes that no frame is longer than 1514 bytes. Its rings are not so limited, and
 * the interface is told the MTU by us. */
static cn_code set_mtu(const port *p, cn_err *err)
{
    uint16_t now = 0;
    int rc = 0;
    if (p->interface.index) rc = cn_nic_interface_set_mtu(&p->interface, p->mtu);
    else if (rte_eth_dev_get_mtu(p->id, &now) != 0 || now != p->mtu)
        rc = rte_eth_dev_set_mtu(p->id, p->mtu);
    if (rc == 0 || (rc == -ENOTSUP && p->mtu <= RTE_ETHER_MTU)) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "dpdk.mtu: %u; %s does not take it: %s", p->mtu, p->device,
                      rte_strerror(-rc));
}

// Some devices (net_tap) have an interrupt that is always on, and nothing to turn.
static bool turn_interrupt_on(const port *p, uint16_t index)
{
    const int rc = rte_eth_dev_rx_intr_enable(p->id, index);
    return rc == 0 || rc == -ENOTSUP;
}

static void open_interrupts(port *p)
{
    for (uint16_t i = 0; i < p->queue_count; i++) {
        queue *q = &p->queues[i];
        q->interrupt_fd = epoll_create1(EPOLL_CLOEXEC);
        if (q->interrupt_fd < 0 ||
            rte_eth_dev_rx_intr_ctl_q(p->id, i, q->interrupt_fd, RTE_INTR_EVENT_ADD, NULL) != 0 ||
            !turn_interrupt_on(p, i)) {
            if (q->interrupt_fd >= 0) close(q->interrupt_fd);
            q->interrupt_fd = -1;
            return;
        }
        rte_eth_dev_rx_intr_disable(p->id, i);
    }
}

static cn_code bring_up(port *p, bool interrupts, cn_err *err)
{
    struct rte_eth_dev_info info;
    cn_nic_eal_forget();
    int rc = rte_eth_dev_info_get(p->id, &info);
    if (rc != 0)
        return cn_err_set(err, CN_E_IO, "dpdk.device: %s: %s", p->device, rte_strerror(-rc));
    snprintf(p->driver, sizeof p->driver, "%s", info.driver_name);
    cn_code code = configure(p, &info, interrupts, err);
    if (code == CN_OK) code = open_queues(p, err);
    if (code == CN_OK) code = set_mtu(p, err);
    if (code != CN_OK) return code;
    rc = rte_eth_dev_start(p->id);
    if (rc != 0)
        return cn_err_set(err, CN_E_IO, "dpdk.device: %s: cannot be started: %s (%s)", p->device,
                          rte_strerror(-rc), cn_nic_eal_said());
    p->started = true;
    return CN_OK;
}

/* A device that came back may be another one. Neighbours and switches know the port by its address, so
 * the new device takes the old address, or else hears every frame. */
static cn_code settle_mac(port *p, cn_err *err)
{
    struct rte_ether_addr mac;
    int rc = rte_eth_macaddr_get(p->id, &mac);
    if (rc != 0)
        return cn_err_set(err, CN_E_IO, "dpdk.device: %s: has no address: %s", p->device,
                          rte_strerror(-rc));
    if (!p->was_started) {
        memcpy(p->mac, mac.addr_bytes, sizeof p->mac);
    } else if (memcmp(p->mac, mac.addr_bytes, sizeof p->mac) != 0) {
        memcpy(mac.addr_bytes, p->mac, sizeof p->mac);
        rc = rte_eth_dev_default_mac_addr_set(p->id, &mac);
        if (rc != 0) rc = rte_eth_promiscuous_enable(p->id);
    }
    return rc == 0 ? CN_OK
                   : cn_err_set(err, CN_E_IO, "dpdk.device: %s: takes no other MAC address: %s",
                                p->device, rte_strerror(-rc));
}

static cn_code start(port *p, cn_err *err)
{
    // A device without receive interrupts may say so when they are asked for, or later, or never.
    const bool has_socket = p->queues[0].socket_fd >= 0;
    cn_code code = CN_OK;
    for (uint16_t i = 0; i < p->queue_count && code == CN_OK; i++) code = open_pool(p, i, err);
    if (code != CN_OK) return code;
    code = bring_up(p, !has_socket, err);
    if (code != CN_OK && !has_socket) code = bring_up(p, false, err);
    if (code != CN_OK) return code;
    if (!has_socket) open_interrupts(p);
    rte_eth_dev_callback_register(p->id, RTE_ETH_EVENT_INTR_RMV, removed, p);
    return settle_mac(p, err);
}

static void detach(port *p)
{
    if (p->started) {
        rte_eth_dev_callback_unregister(p->id, RTE_ETH_EVENT_INTR_RMV, removed, p);
        rte_eth_dev_stop(p->id);
        rte_eth_dev_close(p->id);
    }
    for (uint16_t i = 0; i < p->queue_count; i++) {
        if (p->queues[i].interrupt_fd >= 0) close(p->queues[i].interrupt_fd);
        p->queues[i].socket_fd = p->queues[i].interrupt_fd = -1;
    }
    if (p->plugged) rte_eal_hotplug_remove(cn_nic_eal_is_pci(p->name) ? "pci" : "vdev", p->name);
    p->plugged = p->started = false;
}

static cn_code attach(port *p, cn_err *err)
{
    bool was_there[DESCRIPTOR_LOOK_MAX];
    find_packet_sockets(was_there);
    cn_code code = plug(p, err);
    if (code == CN_OK) {
        keep_sockets(p, was_there);
        if (p->queues[0].socket_fd >= 0) cn_nic_interface_bind(&p->interface);
        code = start(p, err);
    }
    if (code != CN_OK) detach(p);
    else p->was_started = true;
    return code;
}

// ---- the link

static void look_at_interface(port *p)
{
    const cn_nic_interface_state state = cn_nic_interface_look(&p->interface);
    if (state == CN_NIC_INTERFACE_GONE) atomic_store(&p->gone, true);
    atomic_store_explicit(&p->link_up, state == CN_NIC_INTERFACE_UP, memory_order_relaxed);
}

static void look_at_link(port *p)
{
    struct rte_eth_link link = {0};
    if (p->interface.index) {
        look_at_interface(p);
    } else if (rte_eth_dev_is_removed(p->id)) {
        atomic_store(&p->gone, true);
    } else if (rte_eth_link_get_nowait(p->id, &link) == 0) {
        atomic_store_explicit(&p->link_up, link.link_status == RTE_ETH_LINK_UP,
                              memory_order_relaxed);
    }
}

// Asks anew for every burst while the link is down, so that the first one after it leaves.
static bool can_send(port *p, queue *q, uint32_t count)
{
    if (!p->interface.index) return true;
    q->sent_unchecked += count;
    if (q->sent_unchecked >= LINK_CHECK_FRAMES ||
        !atomic_load_explicit(&p->link_up, memory_order_relaxed)) {
        q->sent_unchecked = 0;
        look_at_interface(p);
    }
    return atomic_load_explicit(&p->link_up, memory_order_relaxed);
}

// ---- the interface

static void dpdk_close(cn_nic *nic)
{
    port *p = (port *)nic;
    if (!p) return;
    detach(p);
    for (uint16_t i = 0; i < p->queue_count; i++) rte_mempool_free(p->queues[i].pool);
    cn_nic_interface_close(&p->interface);
    free(p);
}

static void dpdk_info(const cn_nic *nic, cn_nic_info *out)
{
    const port *p = (const port *)nic;
    *out = (cn_nic_info){.mtu = p->mtu, .queue_count = p->queue_count,
                         .fills_checksums = p->fills_checksums};
    memcpy(out->mac, p->mac, sizeof out->mac);
    memcpy(out->driver, p->driver, sizeof out->driver);
}

// Whether the queue's thread, which calls this, may touch the device now.
static bool has_device(port *p, queue *q)
{
    const bool parked = atomic_load_explicit(&q->parked, memory_order_relaxed);
    const bool gone = atomic_load(&p->gone);
    if (parked == gone) return !gone;
    atomic_store(&q->parked, gone);
    if (gone || !atomic_load(&p->gone)) return !gone;
    atomic_store(&q->parked, true);          // gone again, just now
    return false;
}

// The queue's thread becomes one of DPDK's, so that it has a pool cache of its own, and is pinned.
static void take_thread(const port *p, uint16_t index)
{
    rte_thread_register();               // without it the pool has no cache for us: slower, no more
    if (p->cpu < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)p->cpu + index, &set);
    // A CPU that does not exist was refused in open; one that is taken away later leaves us floating.
    (void)sched_setaffinity(0, sizeof set, &set);
}

static uint16_t received_flags(const struct rte_mbuf *m)
{
    const uint64_t l4 = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    const uint64_t ip = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    if (l4 == RTE_MBUF_F_RX_L4_CKSUM_BAD || ip == RTE_MBUF_F_RX_IP_CKSUM_BAD) return CN_FRAME_BAD;
    const bool both = l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD && ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD;
    return both ? CN_FRAME_L4_CHECKED : 0;
}

static cn_frame frame_of(struct rte_mbuf *m)
{
    return (cn_frame){.data = rte_pktmbuf_mtod(m, uint8_t *), .len = rte_pktmbuf_data_len(m),
                      .flags = received_flags(m), .handle = m, .private = rte_mbuf_to_priv(m)};
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint32_t dpdk_receive(cn_nic *nic, uint16_t index, cn_frame *frames, uint32_t max)
{
    port *p = (port *)nic;
    queue *q = &p->queues[index];
    struct rte_mbuf *mbufs[CN_NIC_BURST_MAX];
    CN_ASSERT(index < p->queue_count);
    if (!q->has_thread) {
        q->has_thread = true;
        take_thread(p, index);
    }
    if (!has_device(p, q)) return 0;
    if (max > CN_NIC_BURST_MAX) max = CN_NIC_BURST_MAX;
    const uint16_t got = rte_eth_rx_burst(p->id, index, mbufs, (uint16_t)max);
    uint32_t kept = 0;
    for (uint16_t i = 0; i < got; i++) {
        if (mbufs[i]->nb_segs == 1) {
            frames[kept++] = frame_of(mbufs[i]);
        } else {                             // longer than the MTU allows
            rte_pktmbuf_free(mbufs[i]);
            count(&q->missed, 1);
        }
    }
    if (got) q->nap_ns = NAP_NS_MIN;
    return kept;
}

static bool dpdk_alloc(cn_nic *nic, uint16_t index, cn_frame *out)
{
    port *p = (port *)nic;
    queue *q = &p->queues[index];
    struct rte_mbuf *m = rte_pktmbuf_alloc(q->pool);
    if (!m) {
        count(&q->no_frame, 1);
        return false;
    }
    *out = frame_of(m);
    return true;
}

static void dpdk_free(cn_nic *nic, const cn_frame *frame)
{
    (void)nic;
    rte_pktmbuf_free(frame->handle);
}

/* What a device needs to fill in a TCP checksum: where the headers end, and the sum of the
 * pseudo-header in the checksum's place. */
static void ask_for_checksum(struct rte_mbuf *m)
{
    uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
    const struct rte_ether_hdr *ethernet = (const struct rte_ether_hdr *)data;
    rte_be16_t type = ethernet->ether_type;
    m->l2_len = sizeof *ethernet;
    if (type == rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN)) {
        type = ((const struct rte_vlan_hdr *)(data + m->l2_len))->eth_proto;
        m->l2_len += sizeof(struct rte_vlan_hdr);
    }
    struct rte_tcp_hdr *tcp;
    m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
    if (type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4)) {
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(data + m->l2_len);
        m->l3_len = rte_ipv4_hdr_len(ip);
        m->ol_flags |= RTE_MBUF_F_TX_IPV4;
        tcp = (struct rte_tcp_hdr *)((uint8_t *)ip + m->l3_len);
        tcp->cksum = rte_ipv4_phdr_cksum(ip, m->ol_flags);
    } else {
        struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(data + m->l2_len);
        m->l3_len = sizeof *ip;
        m->ol_flags |= RTE_MBUF_F_TX_IPV6;
        tcp = (struct rte_tcp_hdr *)((uint8_t *)ip + m->l3_len);
        tcp->cksum = rte_ipv6_phdr_cksum(ip, m->ol_flags);
    }
}

static struct rte_mbuf *mbuf_to_send(const port *p, const cn_frame *frame)
{
    struct rte_mbuf *m = frame->handle;
    CN_ASSERT(frame->len <= p->mtu + HEADER_BYTES);
    m->data_off = (uint16_t)(frame->data - (uint8_t *)m->buf_addr);
    m->data_len = frame->len;
    m->pkt_len = frame->len;
    m->ol_flags = 0;
    if (frame->flags & CN_FRAME_FILL_L4) ask_for_checksum(m);
    return m;
}

static void dpdk_send(cn_nic *nic, uint16_t index, const cn_frame *frames, uint32_t frame_count)
{
    port *p = (port *)nic;
    queue *q = &p->queues[index];
    struct rte_mbuf *mbufs[CN_NIC_BURST_MAX];
    for (uint32_t at = 0; at < frame_count;) {
        uint16_t n = 0, sent = 0;
        while (at < frame_count && n < CN_NIC_BURST_MAX) mbufs[n++] = mbuf_to_send(p, &frames[at++]);
        if (has_device(p, q) && can_send(p, q, n)) {
            const uint16_t ready =
                p->fills_checksums ? rte_eth_tx_prepare(p->id, index, mbufs, n) : n;
            sent = rte_eth_tx_burst(p->id, index, mbufs, ready);
        }
        if (sent == n) continue;
        rte_pktmbuf_free_bulk(mbufs + sent, n - sent);
        count(&q->tx_full, n - sent);
    }
}

static uint64_t shorter(uint64_t a, uint64_t b) { return a < b ? a : b; }

// Sleeps on the wake and on `fd` (-1: none). True if there is something at `fd`.
static bool sleep_on(int fd, short *events, cn_wake *wake, uint64_t timeout_ns)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = wake ? wake->fd : -1, .events = POLLIN}};
    const struct timespec limit = {(time_t)(timeout_ns / 1000000000u),
                                   (long)(timeout_ns % 1000000000u)};
    const int ready = ppoll(fds, 2, timeout_ns == UINT64_MAX ? NULL : &limit, NULL);
    if (ready > 0) *events = fds[0].revents;
    return ready > 0 && fds[0].revents;
}

static void wait_for_socket(port *p, const queue *q, cn_wake *wake, uint64_t timeout_ns)
{
    short events = 0;
    int error;
    socklen_t len = sizeof error;
    if (!sleep_on(q->socket_fd, &events, wake, timeout_ns) || !(events & POLLERR)) return;
    // Reading the error takes it away; left there, it would end every sleep.
    getsockopt(q->socket_fd, SOL_SOCKET, SO_ERROR, &error, &len);
    look_at_link(p);
}

static void wait_for_interrupt(const port *p, uint16_t index, const queue *q, cn_wake *wake,
                               uint64_t timeout_ns)
{
    struct rte_epoll_event event;
    short events = 0;
    if (!turn_interrupt_on(p, index)) timeout_ns = shorter(timeout_ns, NAP_NS_MAX);
    // A frame that came before the interrupt was on may not raise it.
    if (rte_eth_rx_queue_count(p->id, index) <= 0 &&
        sleep_on(q->interrupt_fd, &events, wake, timeout_ns)) {
        rte_epoll_wait(q->interrupt_fd, &event, 1, 0);       // takes the interrupt
    }
    rte_eth_dev_rx_intr_disable(p->id, index);
}

static void dpdk_wait(cn_nic *nic, uint16_t index, cn_wake *wake, uint64_t timeout_ns)
{
    port *p = (port *)nic;
    queue *q = &p->queues[index];
    short events;
    if (!has_device(p, q)) {
        sleep_on(-1, &events, wake, shorter(timeout_ns, PARKED_NAP_NS));
    } else if (q->socket_fd >= 0) {
        wait_for_socket(p, q, wake, timeout_ns);
    } else if (q->interrupt_fd >= 0) {
        wait_for_interrupt(p, index, q, wake, timeout_ns);
    } else {
        sleep_on(-1, &events, wake, shorter(timeout_ns, q->nap_ns));
        q->nap_ns = shorter(q->nap_ns * 2, NAP_NS_MAX);
    }
    if (wake) cn_wake_cancel(wake);
}

// What the device counts; the last that is known of one that is away.
static void count_device(port *p)
{
    struct rte_eth_stats stats = {0};
    const cn_nic_stats *before = &p->counted_before;
    if (rte_eth_stats_get(p->id, &stats) != 0) return;
    p->counted = (cn_nic_stats){
        .rx_frames = before->rx_frames + stats.ipackets, .rx_bytes = before->rx_bytes + stats.ibytes,
        .tx_frames = before->tx_frames + stats.opackets, .tx_bytes = before->tx_bytes + stats.obytes,
        .rx_missed = before->rx_missed + stats.imissed,
        .rx_no_frame = before->rx_no_frame + stats.rx_nombuf};
    for (uint16_t i = 0; i < p->queue_count; i++) {
        // The kernel forgets them once they are read.
        count(&p->queues[i].missed, cn_nic_interface_socket_drops(p->queues[i].socket_fd));
    }
}

static void dpdk_stats(const cn_nic *nic, cn_nic_stats *out)
{
    port *p = (port *)nic;
    if (!atomic_load(&p->gone)) look_at_link(p);
    const bool gone = atomic_load(&p->gone);
    if (!gone) count_device(p);
    *out = p->counted;
    out->gone = gone;
    out->link_up = !gone && atomic_load_explicit(&p->link_up, memory_order_relaxed);
    for (uint16_t i = 0; i < p->queue_count; i++) {
        const queue *q = &p->queues[i];
        out->rx_missed += atomic_load_explicit(&q->missed, memory_order_relaxed);
        out->rx_no_frame += atomic_load_explicit(&q->no_frame, memory_order_relaxed);
        out->tx_full += atomic_load_explicit(&q->tx_full, memory_order_relaxed);
        out->frames_all += q->pool->size;
        out->frames_free += rte_mempool_avail_count(q->pool);
    }
}

static bool device_exists(const port *p)
{
    char path[64];
    if (p->interface.name[0]) return cn_nic_interface_exists(&p->interface);
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%.16s", p->name);
    return !cn_nic_eal_is_pci(p->name) || access(path, F_OK) == 0;
}

static cn_code dpdk_recover(cn_nic *nic, cn_err *err)
{
    port *p = (port *)nic;
    if (!atomic_load(&p->gone)) return CN_OK;
    atomic_store(&p->gone, true);            // whoever set it: before `parked` is read, in the one order
    for (uint16_t i = 0; i < p->queue_count; i++) {
        if (!atomic_load(&p->queues[i].parked))
            return cn_err_set(err, CN_E_AGAIN, "dpdk.device: %s: is still in use", p->device);
    }
    if (p->plugged) {
        if (!rte_eth_dev_is_removed(p->id)) count_device(p);     // what was since the last look
        p->counted_before = p->counted;
        detach(p);
    }
    if (!device_exists(p))
        return cn_err_set(err, CN_E_ABSENT, "dpdk.device: %s: is not there", p->device);
    const cn_code code = attach(p, err);
    if (code != CN_OK) return code;
    look_at_link(p);
    atomic_store(&p->gone, false);
    return CN_OK;
}

static const cn_nic_ops dpdk_ops = {
    .close = dpdk_close, .info = dpdk_info, .receive = dpdk_receive, .alloc = dpdk_alloc,
    .send = dpdk_send, .free = dpdk_free, .wait = dpdk_wait, .stats = dpdk_stats,
    .recover = dpdk_recover,
};

// ---- opening

static cn_code check(const cn_nic_dpdk_options *o, cn_err *err)
{
    const long cpu_count = sysconf(_SC_NPROCESSORS_CONF);
    if (!o->device || !o->device[0])
        return cn_err_set(err, CN_E_INVALID, "dpdk.device: is empty; must be a PCI address or a "
                          "virtual device such as net_af_packet0,iface=eth1");
    if (strlen(o->device) >= DEVICE_BYTES)
        return cn_err_set(err, CN_E_INVALID, "dpdk.device: has %zu bytes; must be fewer than %d",
                          strlen(o->device), DEVICE_BYTES);
    char interface[IFNAMSIZ];
    device_argument(o->device, "iface", interface, sizeof interface);
    if (is_af_packet(o->device) && !interface[0])
        return cn_err_set(err, CN_E_INVALID, "dpdk.device: %s: names no interface; must be like "
                          "net_af_packet0,iface=eth1", o->device);
    if (o->queue_count > QUEUE_MAX)
        return cn_err_set(err, CN_E_INVALID, "dpdk.queues: %u; must be 1 to %d", o->queue_count,
                          QUEUE_MAX);
    if (o->mtu && (o->mtu < 576 || o->mtu > 9600))
        return cn_err_set(err, CN_E_INVALID, "dpdk.mtu: %u; must be 576 to 9600", o->mtu);
    if (o->cpu >= 0 && o->cpu + (o->queue_count ? o->queue_count : 1) > cpu_count)
        return cn_err_set(err, CN_E_INVALID, "dpdk.lcore: %d; this machine has the CPUs 0 to %ld",
                          o->cpu, cpu_count - 1);
    return CN_OK;
}

static uint32_t round_up(uint32_t value, uint32_t step) { return (value + step - 1) / step * step; }

// Drivers use buffers in steps of 1 KiB, af_packet's rings want more for headers of their own.
static uint32_t room_bytes(uint16_t mtu)
{
    return round_up((mtu ? mtu : RTE_ETHER_MTU) + HEADER_BYTES + PACKET_OVERHEAD_BYTES,
                    PACKET_ROOM_STEP);
}

uint32_t cn_nic_dpdk_need_mb(const cn_nic_dpdk_options *o)
{
    const uint64_t frame_bytes = sizeof(struct rte_mbuf) + CN_NIC_PRIVATE_BYTES +
                                 RTE_PKTMBUF_HEADROOM + room_bytes(o->mtu) + 256;
    const uint64_t frame_count = (uint64_t)(o->frame_count ? o->frame_count : FRAME_COUNT) *
                                 (o->queue_count ? o->queue_count : 1);
    return 32 + (uint32_t)(frame_bytes * frame_count * 5 / 4 >> 20);
}

cn_code cn_nic_dpdk_open(const cn_nic_dpdk_options *options, cn_nic **out, cn_err *err)
{
    *out = NULL;
    cn_code code = check(options, err);
    if (code != CN_OK) return code;
    port *p = calloc(1, sizeof *p);
    if (!p) return cn_err_set(err, CN_E_MEMORY, "dpdk: no memory");
    p->base.ops = &dpdk_ops;
    p->cpu = options->cpu;
    p->mtu = options->mtu ? options->mtu : RTE_ETHER_MTU;
    p->queue_count = options->queue_count ? options->queue_count : 1;
    p->room_bytes = room_bytes(p->mtu);
    snprintf(p->device, sizeof p->device, "%s", options->device);
    for (uint16_t i = 0; i < p->queue_count; i++) {
        p->queues[i] = (queue){.parked = true, .socket_fd = -1, .interrupt_fd = -1,
                               .nap_ns = NAP_NS_MIN};
    }
    p->frame_count = options->frame_count ? options->frame_count : FRAME_COUNT;
    const uint32_t memory_mb =
        options->memory_mb ? options->memory_mb : cn_nic_dpdk_need_mb(options);
    char interface[IFNAMSIZ];
    device_argument(p->device, "iface", interface, sizeof interface);
    code = cn_nic_interface_open(&p->interface, interface, p->device, err);
    if (code == CN_OK) code = cn_nic_eal_start(options, memory_mb, err);
    if (code == CN_OK) code = attach(p, err);
    if (code != CN_OK) {
        dpdk_close(&p->base);
        return code;
    }
    look_at_link(p);
    *out = &p->base;
    return CN_OK;
}
