/* dataplane/transport_held_int.h: received bytes that a handler has left, until they are shown again.
 *
 * Threads: net only.
 * Memory:  blocks of dataplane/lwip_pool.h; small pieces share one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct cn_transport_held {
    struct cn_transport_held_block *first, *last;        // NULL: nothing is held
} cn_transport_held;

/* Appends a copy; false if there is no memory for all of it (then some may have been appended). */
bool cn_transport_held_add(cn_transport_held *held, const uint8_t *data, uint32_t len);
/* The first stretch of bytes, and how many; NULL if nothing is held. */
const uint8_t *cn_transport_held_peek(const cn_transport_held *held, uint32_t *len);
/* Forgets the first `len` bytes, at most what peek said. */
void cn_transport_held_pop(cn_transport_held *held, uint32_t len);
/* Forgets everything; returns how many bytes that were. */
uint32_t cn_transport_held_drop(cn_transport_held *held);
