/* state/page_pool.h: which KV page is whose.
 * A pool hands out the pages of one device by number; it never touches their bytes. A page is free,
 * filling (one holder), shared (sealed: immutable, named by its content key, counted references), or
 * idle (sealed, no holder). Idle pages keep their key: they are the prefix cache.
 *
 * Threads: engine only.
 * Memory:  all allocated in open, about 80 bytes per page; nothing afterwards. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/backend.h"
#include "state/page_key.h"

typedef struct cn_page_pool cn_page_pool;

typedef struct cn_page_counts {
    uint32_t free, filling, shared, idle;
    uint64_t refs;               // references that holders have, of all pages
    uint64_t evictions;          // idle pages that lost their content, so far
} cn_page_counts;

/* Opens a pool of `page_count` free pages; `seed` perturbs the index against chosen keys. The caller
 * owns *out until close. Errors: CN_E_MEMORY. */
cn_code cn_page_pool_open(uint32_t page_count, uint64_t seed, cn_page_pool **out);
void cn_page_pool_close(cn_page_pool *pool);

/* Takes a page to fill; the caller holds its one reference. If none is free, the page that has been
 * idle longest and is not locked loses its key. O(1), beside the locked ones that it passes over.
 * Errors: CN_E_PAGES (all are held or locked; nothing changed). */
cn_code cn_page_pool_take(cn_page_pool *pool, cn_page_id *out);

/* Names a full page. If another page has this key already, *page becomes that one and the caller's
 * reference moves with it: equal content is kept once. O(1), cannot fail. */
void cn_page_pool_seal(cn_page_pool *pool, cn_page_id *page, const cn_page_key *key);

/* The sealed page with this key, with a reference for the caller; false if there is none. O(1). */
bool cn_page_pool_find(cn_page_pool *pool, const cn_page_key *key, cn_page_id *out);

/* The sealed page with this key is read from now until `unlock`: it is handed out to nobody, and keeps
 * its turn among the idle ones, since being copied is no use. False if there is none. O(1). */
bool cn_page_pool_lock(cn_page_pool *pool, const cn_page_key *key, cn_page_id *out);
void cn_page_pool_unlock(cn_page_pool *pool, cn_page_id page);

/* Gives a reference back. A filling page becomes free, a sealed one idle after its last. O(1). */
void cn_page_pool_put(cn_page_pool *pool, cn_page_id page);

/* Pages that take could hand out now: free and idle ones. */
uint32_t cn_page_pool_available(const cn_page_pool *pool);

void cn_page_pool_counts(const cn_page_pool *pool, cn_page_counts *out);

/* Asserts the invariants by walking everything; for tests. */
void cn_page_pool_check(const cn_page_pool *pool);
