#include "base/ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* How it works. `tail` counts messages pushed, `head` messages popped; each is written by one side.
 * The producer releases tail after the bytes are written, the consumer acquires it before it reads
 * them; the same the other way round for head and reuse. Each side keeps its last view of the
 * other's counter on its own cache line and looks again only when that view says full or empty. */

struct cn_ring {
    _Alignas(64) _Atomic uint32_t tail;      // producer
    uint32_t head_seen;
    _Alignas(64) _Atomic uint32_t head;      // consumer
    uint32_t tail_seen;
    _Alignas(64) uint32_t mask;              // both, never written after open
    uint32_t message_bytes;
    unsigned char *messages;
};

cn_code cn_ring_open(uint32_t capacity, uint32_t message_bytes, cn_ring **out)
{
    *out = NULL;
    uint32_t rounded = 2;
    while (rounded < capacity && rounded < 1u << 30) rounded *= 2;
    cn_ring *ring = aligned_alloc(64, sizeof *ring);
    if (!ring) return CN_E_MEMORY;
    memset(ring, 0, sizeof *ring);
    ring->mask = rounded - 1;
    ring->message_bytes = message_bytes;
    ring->messages = calloc(rounded, message_bytes);
    if (!ring->messages) {
        free(ring);
        return CN_E_MEMORY;
    }
    *out = ring;
    return CN_OK;
}

void cn_ring_close(cn_ring *ring)
{
    if (!ring) return;
    free(ring->messages);
    free(ring);
}

static unsigned char *at(cn_ring *ring, uint32_t index)
{
    return ring->messages + (size_t)(index & ring->mask) * ring->message_bytes;
}

uint32_t cn_ring_space(cn_ring *ring)
{
    ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
    return ring->mask + 1 - (atomic_load_explicit(&ring->tail, memory_order_relaxed) - ring->head_seen);
}

bool cn_ring_push(cn_ring *ring, const void *message)
{
    const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - ring->head_seen > ring->mask && cn_ring_space(ring) == 0) return false;
    memcpy(at(ring, tail), message, ring->message_bytes);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

const void *cn_ring_peek(cn_ring *ring)
{
    const uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == ring->tail_seen) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head == ring->tail_seen) return NULL;
    }
    return at(ring, head);
}

void cn_ring_pop(cn_ring *ring)
{
    const uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    CN_ASSERT(head != ring->tail_seen);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

bool cn_ring_take(cn_ring *ring, void *message)
{
    const void *oldest = cn_ring_peek(ring);
    if (!oldest) return false;
    memcpy(message, oldest, ring->message_bytes);
    cn_ring_pop(ring);
    return true;
}
