#include "dataplane/nic_lossy.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/random.h"

/* How it works. Each direction has a list of waiting frames in the order in which they came. A frame
 * that waits leaves at its time, or once enough others have passed it, whichever is first; a
 * duplicate is a copy whose time has come already. Passing frames go straight through. Every call of
 * receive, send and wait first lets go what is due, so a waiting frame needs no timer of its own:
 * wait sleeps no longer than the first of them. */

enum { MILLION = 1000000, PASSES_NEVER = INT32_MAX };

typedef struct waiting {
    cn_frame frame;
    uint64_t due_ns;
    int32_t passes;              // frames that have yet to overtake it
} waiting;

typedef struct direction {
    cn_nic_lossy_rates rates;
    uint64_t random_state;
    uint32_t held_count;
    waiting held[CN_NIC_LOSSY_HELD_MAX];
} direction;

typedef struct lossy {
    cn_nic base;
    cn_nic *below;
    cn_clock clock;
    uint64_t delay_ns_max;
    cn_nic_lossy_counts counts;
    direction received, sent;
} lossy;

static uint64_t draw(direction *d)
{
    const cn_random random = cn_random_seeded(&d->random_state);
    return cn_random_u64(&random);
}

static bool happens(direction *d, uint32_t rate) { return draw(d) % MILLION < rate; }

static bool hold(direction *d, const cn_frame *frame, uint64_t due_ns, int32_t passes)
{
    if (d->held_count == CN_NIC_LOSSY_HELD_MAX) return false;
    d->held[d->held_count++] = (waiting){*frame, due_ns, passes};
    return true;
}

/* Moves what is due to `out`, in the order in which it came. */
static uint32_t let_go(direction *d, uint64_t now_ns, cn_frame *out, uint32_t max)
{
    uint32_t kept = 0, count = 0;
    for (uint32_t i = 0; i < d->held_count; i++) {
        const waiting *w = &d->held[i];
        if (count < max && (w->due_ns <= now_ns || w->passes <= 0)) out[count++] = w->frame;
        else d->held[kept++] = *w;
    }
    d->held_count = kept;
    return count;
}

static void hold_copy(lossy *l, direction *d, const cn_frame *frame, uint64_t now_ns)
{
    cn_frame copy;
    if (d->held_count == CN_NIC_LOSSY_HELD_MAX || !l->below->ops->alloc(l->below, 0, &copy)) return;
    memcpy(copy.data, frame->data, frame->len);
    copy.len = frame->len;
    copy.flags = frame->flags;
    hold(d, &copy, now_ns, PASSES_NEVER);
    l->counts.duplicated++;
}

/* Decides about one frame: false if it was dropped or has to wait. The draws are the same in number
 * whatever happens, so the fate of one frame does not move the dice of the next. */
static bool passes(lossy *l, direction *d, cn_frame *frame, uint64_t now_ns)
{
    const cn_nic_lossy_rates *rates = &d->rates;
    const bool drop = happens(d, rates->drop), duplicate = happens(d, rates->duplicate);
    const bool reorder = happens(d, rates->reorder), delay = happens(d, rates->delay);
    const bool corrupt = happens(d, rates->corrupt);
    const uint64_t bit = draw(d), wait = draw(d);
    for (uint32_t i = 0; i < d->held_count; i++) d->held[i].passes--;
    if (drop) {
        l->counts.dropped++;
        l->below->ops->free(l->below, frame);
        return false;
    }
    if (corrupt && frame->len) {
        frame->data[bit / 8 % frame->len] ^= (uint8_t)(1u << bit % 8);
        frame->flags &= (uint16_t)~CN_FRAME_L4_CHECKED;
        l->counts.corrupted++;
    }
    if (duplicate) hold_copy(l, d, frame, now_ns);
    const int32_t overtaken = 1 + (int32_t)(wait % CN_NIC_LOSSY_OVERTAKEN_MAX);
    if (reorder && hold(d, frame, now_ns + l->delay_ns_max, overtaken)) {
        l->counts.reordered++;
        return false;
    }
    if (delay && hold(d, frame, now_ns + wait % (l->delay_ns_max + 1), PASSES_NEVER)) {
        l->counts.delayed++;
        return false;
    }
    return true;
}

static void send_due(lossy *l, uint64_t now_ns)
{
    cn_frame due[CN_NIC_BURST_MAX];
    uint32_t count;
    while ((count = let_go(&l->sent, now_ns, due, CN_NIC_BURST_MAX)) > 0) {
        l->below->ops->send(l->below, 0, due, count);
    }
}

static uint32_t lossy_receive(cn_nic *nic, uint16_t queue, cn_frame *frames, uint32_t max)
{
    lossy *l = (lossy *)nic;
    const uint64_t now_ns = cn_clock_now_ns(&l->clock);
    cn_frame arrived[CN_NIC_BURST_MAX];
    CN_ASSERT(queue == 0);
    if (max > CN_NIC_BURST_MAX) max = CN_NIC_BURST_MAX;
    send_due(l, now_ns);
    uint32_t count = let_go(&l->received, now_ns, frames, max);
    const uint32_t got = l->below->ops->receive(l->below, 0, arrived, max - count);
    for (uint32_t i = 0; i < got; i++) {
        if (passes(l, &l->received, &arrived[i], now_ns)) frames[count++] = arrived[i];
    }
    return count + let_go(&l->received, now_ns, frames + count, max - count);
}

static void lossy_send(cn_nic *nic, uint16_t queue, const cn_frame *frames, uint32_t count)
{
    lossy *l = (lossy *)nic;
    const uint64_t now_ns = cn_clock_now_ns(&l->clock);
    CN_ASSERT(queue == 0);
    for (uint32_t i = 0; i < count; i++) {
        cn_frame frame = frames[i];
        if (passes(l, &l->sent, &frame, now_ns)) l->below->ops->send(l->below, 0, &frame, 1);
        send_due(l, now_ns);
    }
}

static bool lossy_alloc(cn_nic *nic, uint16_t queue, cn_frame *out)
{
    const lossy *l = (const lossy *)nic;
    return l->below->ops->alloc(l->below, queue, out);
}

static void lossy_free(cn_nic *nic, const cn_frame *frame)
{
    const lossy *l = (const lossy *)nic;
    l->below->ops->free(l->below, frame);
}

static void lossy_wait(cn_nic *nic, uint16_t queue, cn_wake *wake, uint64_t timeout_ns)
{
    lossy *l = (lossy *)nic;
    const uint64_t now_ns = cn_clock_now_ns(&l->clock);
    send_due(l, now_ns);
    const uint64_t next_ns = cn_nic_lossy_next_ns(nic);
    const uint64_t left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    l->below->ops->wait(l->below, queue, wake, left_ns < timeout_ns ? left_ns : timeout_ns);
}

static void lossy_info(const cn_nic *nic, cn_nic_info *out)
{
    const lossy *l = (const lossy *)nic;
    l->below->ops->info(l->below, out);
    out->fills_checksums = false;
    out->queue_count = 1;
}

static void lossy_stats(const cn_nic *nic, cn_nic_stats *out)
{
    const lossy *l = (const lossy *)nic;
    l->below->ops->stats(l->below, out);
}

static cn_code lossy_recover(cn_nic *nic, cn_err *err)
{
    const lossy *l = (const lossy *)nic;
    return l->below->ops->recover(l->below, err);
}

static void direction_close(lossy *l, direction *d)
{
    for (uint32_t i = 0; i < d->held_count; i++) l->below->ops->free(l->below, &d->held[i].frame);
}

static void lossy_close(cn_nic *nic)
{
    lossy *l = (lossy *)nic;
    if (!l) return;
    direction_close(l, &l->received);
    direction_close(l, &l->sent);
    l->below->ops->close(l->below);
    free(l);
}

static const cn_nic_ops lossy_ops = {
    .close = lossy_close, .info = lossy_info, .receive = lossy_receive, .alloc = lossy_alloc,
    .send = lossy_send, .free = lossy_free, .wait = lossy_wait, .stats = lossy_stats,
    .recover = lossy_recover,
};

static cn_code check_rates(const cn_nic_lossy_rates *rates, cn_err *err)
{
    const uint32_t all[] = {rates->drop, rates->duplicate, rates->reorder, rates->delay,
                            rates->corrupt};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i] > MILLION)
            return cn_err_set(err, CN_E_INVALID, "nic_lossy: a rate is %u; must be 0 to 1000000",
                              all[i]);
    }
    return CN_OK;
}

cn_code cn_nic_lossy_open(const cn_nic_lossy_options *options, cn_nic **out, cn_err *err)
{
    *out = NULL;
    cn_code code = check_rates(&options->received, err);
    if (code == CN_OK) code = check_rates(&options->sent, err);
    lossy *l = code == CN_OK ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        options->below->ops->close(options->below);
        return code ? code : cn_err_set(err, CN_E_MEMORY, "nic_lossy: no memory");
    }
    l->base.ops = &lossy_ops;
    l->below = options->below;
    l->clock = options->clock;
    l->delay_ns_max = options->delay_ns_max;
    l->received.rates = options->received;
    l->sent.rates = options->sent;
    l->received.random_state = options->seed;
    l->sent.random_state = ~options->seed;
    *out = &l->base;
    return CN_OK;
}

void cn_nic_lossy_counted(const cn_nic *nic, cn_nic_lossy_counts *out)
{
    *out = ((const lossy *)nic)->counts;
}

uint64_t cn_nic_lossy_next_ns(const cn_nic *nic)
{
    const lossy *l = (const lossy *)nic;
    const direction *directions[] = {&l->received, &l->sent};
    uint64_t next_ns = UINT64_MAX;
    for (int k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < directions[k]->held_count; i++) {
            const uint64_t due_ns = directions[k]->held[i].due_ns;
            if (due_ns < next_ns) next_ns = due_ns;
        }
    }
    return next_ns;
}
