/* dataplane/lwip_pool.h: all memory of the TCP stack, taken once.
 * lwIP's allocator: blocks of a few sizes, so that nothing fragments and taking and giving back are a
 * few instructions. Connections have blocks of their own, so data can never use up their places.
 *
 * Threads: net only. One pool per process, as there is one lwIP.
 * Memory:  reserved in open; a block costs memory when it is first used, and is used again before a
 *          fresh one is. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct cn_lwip_pool_options {
    uint64_t data_bytes;         // segments and what they carry, both directions
    uint32_t connection_bytes;   // of one connection block; requests of exactly this size get one
    uint32_t connection_count;
    bool jumbo;                  // segments may be larger than 1500 bytes
} cn_lwip_pool_options;

/* Errors: CN_E_MEMORY; CN_E_INVALID (there is a pool already; data_bytes above 64 GiB). */
cn_code cn_lwip_pool_open(const cn_lwip_pool_options *options, cn_err *err);
/* Every block must have been given back or be forgotten. */
void cn_lwip_pool_close(void);

/* A block of at least `bytes` bytes, 64-aligned; NULL if none is free. */
void *cn_lwip_pool_take(size_t bytes);
void *cn_lwip_pool_take_zeroed(size_t count, size_t bytes);
void cn_lwip_pool_put(void *block);

/* How much of the blocks for data of this size is in use, in 1/256. */
uint32_t cn_lwip_pool_fill(size_t bytes);
/* Bytes of the blocks that are taken. */
uint64_t cn_lwip_pool_used_bytes(void);
/* Requests that found no block. */
uint64_t cn_lwip_pool_refused(void);
