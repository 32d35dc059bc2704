#include "dataplane/transport_held_int.h"

#include <stddef.h>
#include <string.h>

#include "base/assert.h"
#include "dataplane/lwip_pool.h"

typedef struct cn_transport_held_block {
    struct cn_transport_held_block *next;
    uint32_t at, len, capacity;
    uint8_t data[];
} block;

enum { BLOCK_BYTES = 512, DATA_BYTES = BLOCK_BYTES - offsetof(block, data) };    // a block at least

bool cn_transport_held_add(cn_transport_held *held, const uint8_t *data, uint32_t len)
{
    block *last = held->last;
    if (last) {
        const uint32_t room = last->capacity - last->at - last->len;
        const uint32_t n = len < room ? len : room;
        memcpy(last->data + last->at + last->len, data, n);
        last->len += n;
        data += n;
        len -= n;
    }
    if (!len) return true;
    const uint32_t capacity = len > DATA_BYTES ? len : DATA_BYTES;
    block *added = cn_lwip_pool_take(offsetof(block, data) + capacity);
    if (!added) return false;
    *added = (block){.len = len, .capacity = capacity};
    memcpy(added->data, data, len);
    if (last) last->next = added;
    else held->first = added;
    held->last = added;
    return true;
}

const uint8_t *cn_transport_held_peek(const cn_transport_held *held, uint32_t *len)
{
    const block *first = held->first;
    if (!first) return NULL;
    *len = first->len;
    return first->data + first->at;
}

void cn_transport_held_pop(cn_transport_held *held, uint32_t len)
{
    block *first = held->first;
    CN_ASSERT(first && len <= first->len);
    first->at += len;
    first->len -= len;
    if (first->len) return;
    held->first = first->next;
    if (!held->first) held->last = NULL;
    cn_lwip_pool_put(first);
}

uint32_t cn_transport_held_drop(cn_transport_held *held)
{
    uint32_t len, dropped = 0;
    while (cn_transport_held_peek(held, &len)) {
        cn_transport_held_pop(held, len);
        dropped += len;
    }
    return dropped;
}
