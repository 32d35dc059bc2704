#include "dataplane/nic_sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* How it works. Each end owns an array of slots, and every slot is in exactly one of three places:
 * on the end's free list, in the end's queue of arrivals, or with the user. Sending copies the bytes
 * into a slot of the other end, which joins the queue of arrivals there; as the latency is the same
 * for all frames, the queue is in the order of arrival. The sender's slot is free again at once.
 * Invariant: free + arriving + held == frame_count, for each end. */

enum { FRAME_EXTRA_BYTES = 18, ALIGNMENT = 64 };         // Ethernet header and a VLAN tag

typedef struct slot {
    _Alignas(ALIGNMENT) uint8_t private[CN_NIC_PRIVATE_BYTES];
    uint64_t arrives_ns;
    struct slot *next;                       // on the free list
    bool is_held;
    uint16_t len;
    _Alignas(ALIGNMENT) uint8_t data[];
} slot;

typedef struct end {
    cn_nic base;
    cn_clock clock;
    uint64_t latency_ns;
    uint32_t frame_count, frame_bytes, held;
    uint8_t *slots;
    slot *free_first;
    slot **arrivals;                         // a circle of frame_count places
    uint32_t arrival_at, arrival_count;
    struct end *peer;                        // NULL once it is closed
    uint16_t mtu;
    uint8_t mac_last;
    cn_nic_stats stats;
} end;

static slot *slot_take(end *e)
{
    slot *s = e->free_first;
    if (s) e->free_first = s->next;
    else e->stats.rx_no_frame++;
    return s;
}

static void slot_put(end *e, slot *s)
{
    s->next = e->free_first;
    e->free_first = s;
}

static void slot_hold(end *e, slot *s)
{
    s->is_held = true;
    e->held++;
}

static cn_frame slot_frame(slot *s)
{
    return (cn_frame){.data = s->data, .len = s->len, .handle = s, .private = s->private};
}

static void sim_close(cn_nic *nic)
{
    end *e = (end *)nic;
    if (!e) return;
    if (e->peer) e->peer->peer = NULL;
    free(e->slots);
    free(e->arrivals);
    free(e);
}

static void sim_info(const cn_nic *nic, cn_nic_info *out)
{
    const end *e = (const end *)nic;
    *out = (cn_nic_info){.mac = {2, 0, 0, 0, 0, e->mac_last}, .mtu = e->mtu, .queue_count = 1,
                         .driver = "sim"};
}

static uint32_t sim_receive(cn_nic *nic, uint16_t queue, cn_frame *frames, uint32_t max)
{
    end *e = (end *)nic;
    CN_ASSERT(queue == 0);
    uint32_t count = 0;
    const uint64_t now_ns = cn_clock_now_ns(&e->clock);
    if (max > CN_NIC_BURST_MAX) max = CN_NIC_BURST_MAX;
    while (count < max && e->arrival_count && !e->stats.gone) {
        slot *s = e->arrivals[e->arrival_at];
        if (s->arrives_ns > now_ns) break;
        e->arrival_at = (e->arrival_at + 1) % e->frame_count;
        e->arrival_count--;
        slot_hold(e, s);
        e->stats.rx_frames++;
        e->stats.rx_bytes += s->len;
        frames[count++] = slot_frame(s);
    }
    return count;
}

static bool sim_alloc(cn_nic *nic, uint16_t queue, cn_frame *out)
{
    end *e = (end *)nic;
    CN_ASSERT(queue == 0);
    slot *s = slot_take(e);
    if (!s) return false;
    s->len = 0;
    slot_hold(e, s);
    *out = slot_frame(s);
    return true;
}

static void sim_free(cn_nic *nic, const cn_frame *frame)
{
    end *e = (end *)nic;
    slot *s = frame->handle;
    CN_ASSERT(s->is_held);                   // given back twice otherwise
    s->is_held = false;
    e->held--;
    slot_put(e, s);
}

static void deliver(end *e, const uint8_t *data, uint16_t len, uint64_t arrives_ns)
{
    slot *s = slot_take(e);
    if (!s) return;
    CN_ASSERT(len <= e->frame_bytes);
    memcpy(s->data, data, len);
    s->len = len;
    s->arrives_ns = arrives_ns;
    e->arrivals[(e->arrival_at + e->arrival_count++) % e->frame_count] = s;
}

static void sim_send(cn_nic *nic, uint16_t queue, const cn_frame *frames, uint32_t count)
{
    end *e = (end *)nic;
    CN_ASSERT(queue == 0);
    const uint64_t arrives_ns = cn_clock_now_ns(&e->clock) + e->latency_ns;
    for (uint32_t i = 0; i < count; i++) {
        if (e->stats.link_up && !e->stats.gone) {
            e->stats.tx_frames++;
            e->stats.tx_bytes += frames[i].len;
            if (e->peer) deliver(e->peer, frames[i].data, frames[i].len, arrives_ns);
        } else {
            e->stats.tx_full++;
        }
        sim_free(nic, &frames[i]);
    }
}

static void sim_wait(cn_nic *nic, uint16_t queue, cn_wake *wake, uint64_t timeout_ns)
{
    (void)nic, (void)queue, (void)timeout_ns;
    if (wake) cn_wake_cancel(wake);
}

static void sim_stats(const cn_nic *nic, cn_nic_stats *out) { *out = ((const end *)nic)->stats; }

void cn_nic_sim_set_link(cn_nic *nic, bool up)
{
    end *e = (end *)nic;
    e->stats.link_up = up;
    if (e->peer) e->peer->stats.link_up = up;
}

static cn_code sim_recover(cn_nic *nic, cn_err *err)
{
    end *e = (end *)nic;
    (void)err;
    if (!e->stats.gone) return CN_OK;
    for (; e->arrival_count; e->arrival_count--) {       // they were on their way to what is no more
        slot_put(e, e->arrivals[e->arrival_at]);
        e->arrival_at = (e->arrival_at + 1) % e->frame_count;
    }
    e->stats.gone = false;
    cn_nic_sim_set_link(nic, true);
    return CN_OK;
}

static const cn_nic_ops sim_ops = {
    .close = sim_close, .info = sim_info, .receive = sim_receive, .alloc = sim_alloc,
    .send = sim_send, .free = sim_free, .wait = sim_wait, .stats = sim_stats,
    .recover = sim_recover,
};

static end *end_open(const cn_nic_sim_options *options, uint8_t mac_last)
{
    end *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    *e = (end){.base.ops = &sim_ops, .clock = options->clock, .latency_ns = options->latency_ns,
               .frame_count = options->frame_count, .mtu = options->mtu, .mac_last = mac_last,
               .frame_bytes = options->mtu + FRAME_EXTRA_BYTES, .stats.link_up = true};
    const size_t slot_bytes =
        (sizeof(slot) + e->frame_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    e->slots = aligned_alloc(ALIGNMENT, slot_bytes * e->frame_count);
    e->arrivals = calloc(e->frame_count, sizeof *e->arrivals);
    if (!e->slots || !e->arrivals) {
        sim_close(&e->base);
        return NULL;
    }
    for (uint32_t i = 0; i < e->frame_count; i++) {
        slot *s = (slot *)(e->slots + slot_bytes * i);
        s->is_held = false;
        slot_put(e, s);
    }
    return e;
}

cn_code cn_nic_sim_open(const cn_nic_sim_options *options, cn_nic **a, cn_nic **b, cn_err *err)
{
    *a = *b = NULL;
    if (options->frame_count == 0 || options->mtu < 68 || options->mtu > 9600)
        return cn_err_set(err, CN_E_INVALID,
                          "nic_sim: %u frames, mtu %u; there must be frames, and an mtu from 68 to "
                          "9600", options->frame_count, options->mtu);
    end *left = end_open(options, 0x0a), *right = end_open(options, 0x0b);
    if (!left || !right) {
        sim_close((cn_nic *)left);
        sim_close((cn_nic *)right);
        return cn_err_set(err, CN_E_MEMORY, "nic_sim: no memory for %u frames",
                          options->frame_count);
    }
    left->peer = right;
    right->peer = left;
    *a = &left->base;
    *b = &right->base;
    return CN_OK;
}

uint64_t cn_nic_sim_next_ns(const cn_nic *nic)
{
    const end *e = (const end *)nic;
    return e->arrival_count ? e->arrivals[e->arrival_at]->arrives_ns : UINT64_MAX;
}

uint32_t cn_nic_sim_held(const cn_nic *nic) { return ((const end *)nic)->held; }

void cn_nic_sim_remove(cn_nic *nic)
{
    end *e = (end *)nic;
    e->stats.gone = true;
    e->stats.link_up = false;
    if (e->peer) e->peer->stats.link_up = false;
}
