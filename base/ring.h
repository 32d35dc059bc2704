/* base/ring.h: a bounded queue from one thread to one other thread.
 * Messages are fixed-size structs, copied in and out; a pointer inside one carries ownership. A full
 * ring refuses, and the sender pushes back on whoever feeds it; nothing grows.
 * (Concurrency Kit's ck_ring does the same, but ThreadSanitizer cannot see through its inline
 * assembly, and a race detector that works is worth more than forty lines.)
 *
 * Threads: one producer, one consumer; space and count are exact for the producer and the consumer
 *          respectively, a lower bound of what is there.
 * Memory:  capacity * message_bytes, allocated in open. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct cn_ring cn_ring;

/* `capacity` is rounded up to a power of two. Errors: CN_E_MEMORY. */
cn_code cn_ring_open(uint32_t capacity, uint32_t message_bytes, cn_ring **out);
void cn_ring_close(cn_ring *ring);

/* Producer: appends a copy of *message; false if the ring is full. */
bool cn_ring_push(cn_ring *ring, const void *message);
/* Producer: messages that can be pushed now. */
uint32_t cn_ring_space(cn_ring *ring);

/* Consumer: the oldest message, in place and valid until pop; NULL if there is none. */
const void *cn_ring_peek(cn_ring *ring);
/* Consumer: drops the oldest message, which must be there. */
void cn_ring_pop(cn_ring *ring);
/* Consumer: copies the oldest message out and drops it; false if there is none. */
bool cn_ring_take(cn_ring *ring, void *message);
