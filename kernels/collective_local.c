#include "kernels/collective.h"

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "kernels/futex_int.h"

/* How it works. A call of the whole group is two meetings of all ranks with work between them:
 *
 *    post where my data is ▶ meet ▶ read and write the others' data ▶ meet ▶ return
 *
 * An all-reduce cuts the data into one stretch per rank; a rank adds its stretch of all ranks and
 * writes the sums back to all of them, so every float is read once and written once by one thread.
 *
 * One word holds a meeting:    │ aborted: 1 │ meetings so far: 15 │ arrived: 16 │
 *
 * Arriving and aborting are changes of the same word, so a meeting either came about before the abort
 * and then everybody sees that it did, or it never does. After the first meeting nobody waits for
 * anything that could fail to come, so the second one does not heed an abort: nobody returns, and
 * perhaps frees its data, while another still reads it.
 *
 * A message has a word per direction of a pair, which goes
 *
 *    empty ──send──▶ posted ──receive──▶ copying ──receive──▶ done ──send──▶ empty
 *
 * and the same bit for an abort: a message that is posted is taken back, one that is being copied
 * arrives. */

enum { SPIN_ROUNDS = 1000, BLOCK_FLOATS = 64, STRETCH_FLOATS = 16 };

static const uint32_t ABORTED = 1u << 31, MEETING = 1u << 16, MEETINGS = 0x7FFF0000u, ARRIVED = 0xFFFFu;

enum { EMPTY, POSTED, COPYING, DONE, STATES = 3 };

typedef struct post {
    void *data;
    size_t bytes;
} post;

typedef struct channel {
    _Alignas(64) _Atomic uint32_t word;
    const void *data;            // of the sender, while it is posted
    size_t bytes;
} channel;

typedef struct group group;

typedef struct local {
    cn_collective base;
    group *group;
} local;

struct group {
    _Alignas(64) _Atomic uint32_t meeting;
    _Alignas(64) _Atomic uint32_t open_ends;
    uint32_t rank_count;
    int spin_rounds;             // 0 where ranks share cores: whoever looks keeps the others from working
    local ends[CN_COLLECTIVE_RANKS_MAX];
    post posts[CN_COLLECTIVE_RANKS_MAX];
    channel channels[];          // [from][to]
};

static local *local_of(cn_collective *end) { return (local *)end; }

// ---- open, close

static int spin_rounds(uint32_t rank_count)
{
    cpu_set_t set;
    const bool known = sched_getaffinity(0, sizeof set, &set) == 0;
    return known && (uint32_t)CPU_COUNT(&set) >= rank_count ? SPIN_ROUNDS : 0;
}

static cn_code local_open(uint32_t rank_count, cn_collective **ends, cn_err *err)
{
    if (rank_count == 0 || rank_count > CN_COLLECTIVE_RANKS_MAX) {
        return cn_err_set(err, CN_E_LIMIT, "collective: %u ranks; must be 1 to %d", rank_count,
                          CN_COLLECTIVE_RANKS_MAX);
    }
    const size_t bytes = sizeof(group) + (size_t)rank_count * rank_count * sizeof(channel);
    group *g = aligned_alloc(64, bytes);
    if (!g) return cn_err_set(err, CN_E_MEMORY, "collective: no memory for %u ranks", rank_count);
    memset(g, 0, bytes);
    g->rank_count = rank_count;
    atomic_init(&g->open_ends, rank_count);
    g->spin_rounds = spin_rounds(rank_count);
    for (uint32_t i = 0; i < rank_count; i++) {
        g->ends[i] = (local){{&cn_collective_local_ops, i, rank_count}, g};
        ends[i] = &g->ends[i].base;
    }
    return CN_OK;
}

static void local_close(cn_collective *end)
{
    if (!end) return;
    group *g = local_of(end)->group;
    // Whoever is last has seen the end of all others' work.
    if (atomic_fetch_sub_explicit(&g->open_ends, 1, memory_order_acq_rel) == 1) free(g);
}

// ---- meetings

// Waits until the word is no longer `value`; may return early.
static void await_change(const group *g, _Atomic uint32_t *word, uint32_t value)
{
    for (int round = 0; round < g->spin_rounds; round++) {
        if (atomic_load_explicit(word, memory_order_relaxed) != value) return;
        futex_pause();
    }
    futex_wait(word, value);
}

// Release: the others see what this rank wrote. Acquire: this one sees what they wrote.
static cn_code meet(group *g, bool heeds_abort)
{
    uint32_t seen = atomic_load_explicit(&g->meeting, memory_order_relaxed), next;
    bool last;
    do {
        if (heeds_abort && seen & ABORTED) return CN_E_IO;
        last = (seen & ARRIVED) + 1 == g->rank_count;
        next = last ? (seen & ABORTED) | ((seen + MEETING) & MEETINGS) : seen + 1;
    } while (!atomic_compare_exchange_weak_explicit(&g->meeting, &seen, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (last) {
        if (g->rank_count > 1) futex_wake(&g->meeting, INT_MAX);
        return CN_OK;
    }
    for (;;) {
        const uint32_t now = atomic_load_explicit(&g->meeting, memory_order_acquire);
        if ((now & MEETINGS) != (seen & MEETINGS)) return CN_OK;
        if (heeds_abort && now & ABORTED) return CN_E_IO;
        await_change(g, &g->meeting, now);
    }
}

static cn_code begin(local *end, const void *data, size_t bytes)
{
    end->group->posts[end->base.rank] = (post){(void *)data, bytes};
    return meet(end->group, true);
}

static cn_code finish(local *end) { return meet(end->group, false); }

static cn_code local_barrier(cn_collective *end) { return meet(local_of(end)->group, true); }

// ---- calls of the whole group

// The sums of floats [at, at + count) of all ranks, in the order that the header promises.
static void add_block(const group *g, size_t at, size_t count)
{
    float sums[CN_COLLECTIVE_RANKS_MAX][BLOCK_FLOATS];
    const uint32_t ranks = g->rank_count;
    for (uint32_t r = 0; r < ranks; r++) {
        memcpy(sums[r], (const float *)g->posts[r].data + at, count * sizeof(float));
    }
    for (uint32_t step = 1; step < ranks; step *= 2) {
        for (uint32_t r = 0; r + step < ranks; r += 2 * step) {
            for (size_t i = 0; i < count; i++) sums[r][i] += sums[r + step][i];
        }
    }
    for (uint32_t r = 0; r < ranks; r++) {
        memcpy((float *)g->posts[r].data + at, sums[0], count * sizeof(float));
    }
}

// Where the stretch of `rank` begins; whole cache lines, so that no two ranks write to one.
static size_t stretch_begin(const group *g, uint32_t rank, size_t count)
{
    if (rank == g->rank_count) return count;
    return count * rank / g->rank_count / STRETCH_FLOATS * STRETCH_FLOATS;
}

static cn_code local_all_reduce(cn_collective *end, float *data, size_t count)
{
    const group *g = local_of(end)->group;
    const cn_code code = begin(local_of(end), data, count * sizeof *data);
    if (code != CN_OK) return code;
    const size_t stop = stretch_begin(g, end->rank + 1, count);
    for (uint32_t r = 0; r < g->rank_count; r++) CN_ASSERT(g->posts[r].bytes == count * sizeof *data);
    for (size_t at = stretch_begin(g, end->rank, count); at < stop; at += BLOCK_FLOATS) {
        add_block(g, at, stop - at < BLOCK_FLOATS ? stop - at : BLOCK_FLOATS);
    }
    return finish(local_of(end));
}

static cn_code local_broadcast(cn_collective *end, uint32_t root, void *data, size_t bytes)
{
    const group *g = local_of(end)->group;
    CN_ASSERT(root < g->rank_count);
    const cn_code code = begin(local_of(end), data, bytes);
    if (code != CN_OK) return code;
    CN_ASSERT(g->posts[root].bytes == bytes);
    if (end->rank != root && bytes > 0) memcpy(data, g->posts[root].data, bytes);
    return finish(local_of(end));
}

static cn_code local_gather(cn_collective *end, uint32_t root, const void *part, size_t bytes, void *whole)
{
    const group *g = local_of(end)->group;
    CN_ASSERT(root < g->rank_count);
    const cn_code code = begin(local_of(end), part, bytes);
    if (code != CN_OK) return code;
    for (uint32_t r = 0; end->rank == root && r < g->rank_count; r++) {
        CN_ASSERT(g->posts[r].bytes == bytes);
        if (bytes > 0) memcpy((char *)whole + r * bytes, g->posts[r].data, bytes);
    }
    return finish(local_of(end));
}

// ---- messages

static channel *channel_between(cn_collective *end, uint32_t from, uint32_t to)
{
    group *g = local_of(end)->group;
    CN_ASSERT(from < g->rank_count && to < g->rank_count);
    CN_ASSERT(from != to);
    return &g->channels[from * g->rank_count + to];
}

// From one state to the next, unless the group was aborted; waits for the first.
static cn_code advance(const group *g, channel *c, uint32_t from, uint32_t to)
{
    for (;;) {
        uint32_t seen = atomic_load_explicit(&c->word, memory_order_acquire);
        if (seen & ABORTED) return CN_E_IO;
        if (seen != from) await_change(g, &c->word, seen);
        else if (atomic_compare_exchange_strong_explicit(&c->word, &seen, to, memory_order_acq_rel,
                                                         memory_order_relaxed)) return CN_OK;
    }
}

// Waits until the receiver is done, or takes the message back after an abort.
static cn_code await_receiver(const group *g, channel *c)
{
    for (;;) {
        uint32_t seen = atomic_load_explicit(&c->word, memory_order_acquire);
        const bool back = seen == (ABORTED | POSTED);
        if (!back && (seen & STATES) != DONE) {
            await_change(g, &c->word, seen);
        } else if (atomic_compare_exchange_strong_explicit(&c->word, &seen, seen & ABORTED,
                                                           memory_order_acq_rel, memory_order_relaxed)) {
            return back ? CN_E_IO : CN_OK;
        }
    }
}

static cn_code local_send(cn_collective *end, uint32_t to, const void *data, size_t bytes)
{
    const group *g = local_of(end)->group;
    channel *c = channel_between(end, end->rank, to);
    c->data = data;              // nobody reads it before it is posted
    c->bytes = bytes;
    const cn_code code = advance(g, c, EMPTY, POSTED);
    if (code != CN_OK) return code;
    futex_wake(&c->word, INT_MAX);
    return await_receiver(g, c);
}

static cn_code local_receive(cn_collective *end, uint32_t from, void *data, size_t bytes)
{
    const group *g = local_of(end)->group;
    channel *c = channel_between(end, from, end->rank);
    const cn_code code = advance(g, c, POSTED, COPYING);
    if (code != CN_OK) return code;
    CN_ASSERT(c->bytes == bytes);
    if (bytes > 0) memcpy(data, c->data, bytes);
    atomic_fetch_add_explicit(&c->word, DONE - COPYING, memory_order_acq_rel);
    futex_wake(&c->word, INT_MAX);
    return CN_OK;
}

static void local_abort(cn_collective *end)
{
    group *g = local_of(end)->group;
    atomic_fetch_or_explicit(&g->meeting, ABORTED, memory_order_acq_rel);
    futex_wake(&g->meeting, INT_MAX);
    for (uint32_t i = 0; i < g->rank_count * g->rank_count; i++) {
        atomic_fetch_or_explicit(&g->channels[i].word, ABORTED, memory_order_acq_rel);
        futex_wake(&g->channels[i].word, INT_MAX);
    }
}

const cn_collective_ops cn_collective_local_ops = {
    .name = "local",
    .open = local_open,
    .close = local_close,
    .all_reduce = local_all_reduce,
    .broadcast = local_broadcast,
    .gather = local_gather,
    .barrier = local_barrier,
    .send = local_send,
    .receive = local_receive,
    .abort = local_abort,
};
