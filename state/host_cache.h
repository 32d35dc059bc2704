/* state/host_cache.h: copies of KV pages in host memory, found by key, and which of them goes first.
 * A frame holds one page. Whoever works with a frame pins it; a full frame without pins stays and may
 * be found until its room is wanted. This file moves no bytes, it says where they are.
 *
 * Threads: engine only.
 * Memory:  all allocated in open: frames, and about 150 bytes beside each. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "state/page_key.h"

enum { CN_HOST_TENANTS = 256 };

typedef struct cn_host_cache cn_host_cache;
typedef struct { uint32_t v; } cn_host_frame;    // 0 .. frame_count - 1

typedef struct cn_host_page {
    cn_page_key key;
    cn_page_key parent;          // of the page before it
    uint32_t index;              // in its chain: the longer the past, the dearer it is to compute
    uint8_t tenant;              // whose share of the memory it takes
} cn_host_page;

typedef struct cn_host_counts {
    uint32_t free, pinned, idle; // frames; idle ones are full and without pins
    uint32_t pins;
    uint64_t evictions;
} cn_host_counts;

/* `tenant_percent`: how much of the frames one tenant keeps when others want them. `seed` perturbs the
 * index. Errors: CN_E_MEMORY. */
cn_code cn_host_cache_open(uint32_t frame_count, uint64_t page_bytes, uint32_t tenant_percent,
                           uint64_t seed, cn_host_cache **out);
void cn_host_cache_close(cn_host_cache *cache);

/* The frame of this key, pinned; false if there is none. It may not be full yet. O(1). */
bool cn_host_cache_find(cn_host_cache *cache, const cn_page_key *key, cn_host_frame *out);
/* True if there is a frame of this key; pins nothing. */
bool cn_host_cache_has(const cn_host_cache *cache, const cn_page_key *key);

/* A frame, pinned and empty, for a page that has none; if none is free, the least valuable idle one
 * loses its page. False if none is idle either: nothing changed. */
bool cn_host_cache_take(cn_host_cache *cache, const cn_host_page *page, cn_host_frame *out);

/* The bytes of a pinned frame are there, or will never be: then it is not found any more. */
void cn_host_cache_fill(cn_host_cache *cache, cn_host_frame frame);
void cn_host_cache_drop(cn_host_cache *cache, cn_host_frame frame);
bool cn_host_cache_is_full(const cn_host_cache *cache, cn_host_frame frame);
bool cn_host_cache_is_dropped(const cn_host_cache *cache, cn_host_frame frame);

/* Gives a pin back; before the last one the frame must have been filled or dropped. */
void cn_host_cache_put(cn_host_cache *cache, cn_host_frame frame);

/* page_bytes of a pinned frame, for whoever fills or reads it. */
void *cn_host_cache_bytes(const cn_host_cache *cache, cn_host_frame frame);
const cn_host_page *cn_host_cache_page(const cn_host_cache *cache, cn_host_frame frame);

void cn_host_cache_counts(const cn_host_cache *cache, cn_host_counts *out);
/* Asserts the invariants by walking everything; for tests. */
void cn_host_cache_check(const cn_host_cache *cache);
