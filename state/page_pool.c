#include "state/page_pool.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/map.h"

/* How it works. One slot per page, and every page is in exactly one of these places:
 *
 *    free ──take──▶ filling ──seal──▶ shared ──last put──▶ idle ──take, oldest first──▶ filling
 *      ▲───────put─────┘                 ▲───────find────────┘
 *
 * Idle pages wait in the order in which they became idle, so evicting needs no clock. A sequence puts
 * its pages back from the last to the first, so the tail of a conversation goes before its head: a
 * page is useless without the ones before it. Of free pages the one that was used last is taken first:
 * it may still be in the processor's caches, and pages that never were used have no memory behind them.
 * Invariant (check): free + filling + shared + idle == page_count, and the index holds exactly the
 * shared and idle pages. */

typedef enum place { FREE, FILLING, SHARED, IDLE, PLACE_COUNT } place;

enum { NONE = UINT32_MAX };

typedef struct page {
    cn_page_key key;             // of shared and idle pages
    uint32_t older, newer;       // neighbours in the free or idle list
    uint32_t refs;
    uint32_t locks;              // of shared and idle pages
    place place;
} page;

typedef struct list {
    uint32_t oldest, newest;
} list;

struct cn_page_pool {
    page *pages;
    cn_map *by_key;              // key to page number
    uint32_t page_count;
    list lists[PLACE_COUNT];     // of FREE and IDLE
    uint32_t counts[PLACE_COUNT];
    uint32_t locked_idle;        // idle pages that are locked
    uint64_t refs, evictions;
};

static void list_push(cn_page_pool *pool, list *l, uint32_t at)
{
    pool->pages[at].older = l->newest;
    pool->pages[at].newer = NONE;
    if (l->newest == NONE) l->oldest = at;
    else pool->pages[l->newest].newer = at;
    l->newest = at;
}

static void list_remove(cn_page_pool *pool, list *l, uint32_t at)
{
    const page *p = &pool->pages[at];
    if (p->older == NONE) l->oldest = p->newer;
    else pool->pages[p->older].newer = p->newer;
    if (p->newer == NONE) l->newest = p->older;
    else pool->pages[p->newer].older = p->older;
}

static void move(cn_page_pool *pool, uint32_t at, place to)
{
    page *p = &pool->pages[at];
    if (p->place == FREE || p->place == IDLE) list_remove(pool, &pool->lists[p->place], at);
    pool->counts[p->place]--;
    pool->counts[to]++;
    if (p->locks > 0) pool->locked_idle += (uint32_t)(to == IDLE) - (uint32_t)(p->place == IDLE);
    p->place = to;
    if (to == FREE || to == IDLE) list_push(pool, &pool->lists[to], at);
}

cn_code cn_page_pool_open(uint32_t page_count, uint64_t seed, cn_page_pool **out)
{
    *out = NULL;
    cn_page_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return CN_E_MEMORY;
    pool->page_count = page_count;
    pool->pages = calloc(page_count ? page_count : 1, sizeof(page));
    if (!pool->pages || cn_map_open(page_count, seed, &pool->by_key) != CN_OK) {
        cn_page_pool_close(pool);
        return CN_E_MEMORY;
    }
    for (int i = 0; i < PLACE_COUNT; i++) pool->lists[i] = (list){NONE, NONE};
    for (uint32_t at = page_count; at > 0; at--) list_push(pool, &pool->lists[FREE], at - 1);
    pool->counts[FREE] = page_count;
    *out = pool;
    return CN_OK;
}

void cn_page_pool_close(cn_page_pool *pool)
{
    if (!pool) return;
    cn_map_close(pool->by_key);
    free(pool->pages);
    free(pool);
}

cn_code cn_page_pool_take(cn_page_pool *pool, cn_page_id *out)
{
    uint32_t at = pool->lists[FREE].newest;
    if (at == NONE) {
        // A page that nobody remembers goes before one that a later turn may still find.
        at = pool->lists[IDLE].oldest;
        while (at != NONE && pool->pages[at].locks > 0) at = pool->pages[at].newer;
        if (at == NONE) return CN_E_PAGES;
        cn_map_del(pool->by_key, pool->pages[at].key.bytes, CN_KEY_BYTES);
        pool->evictions++;
    }
    CN_ASSERT(pool->pages[at].refs == 0);
    pool->pages[at].refs = 1;
    pool->refs++;
    move(pool, at, FILLING);
    out->v = at;
    return CN_OK;
}

bool cn_page_pool_lock(cn_page_pool *pool, const cn_page_key *key, cn_page_id *out)
{
    uint64_t at;
    if (!cn_map_find(pool->by_key, key->bytes, CN_KEY_BYTES, &at)) return false;
    page *p = &pool->pages[at];
    if (p->locks++ == 0 && p->place == IDLE) pool->locked_idle++;
    out->v = (uint32_t)at;
    return true;
}

void cn_page_pool_unlock(cn_page_pool *pool, cn_page_id id)
{
    CN_ASSERT(id.v < pool->page_count);
    page *p = &pool->pages[id.v];
    CN_ASSERT(p->locks > 0);
    if (--p->locks == 0 && p->place == IDLE) pool->locked_idle--;
}

bool cn_page_pool_find(cn_page_pool *pool, const cn_page_key *key, cn_page_id *out)
{
    uint64_t at;
    if (!cn_map_find(pool->by_key, key->bytes, CN_KEY_BYTES, &at)) return false;
    out->v = (uint32_t)at;
    pool->refs++;
    if (pool->pages[at].refs++ == 0) move(pool, (uint32_t)at, SHARED);
    return true;
}

void cn_page_pool_seal(cn_page_pool *pool, cn_page_id *id, const cn_page_key *key)
{
    page *p = &pool->pages[id->v];
    cn_page_id twin;
    CN_ASSERT(p->place == FILLING && p->refs == 1);
    if (cn_page_pool_find(pool, key, &twin)) {
        cn_page_pool_put(pool, *id);
        *id = twin;
        return;
    }
    p->key = *key;
    // The index was opened for page_count entries, so it has room and does not allocate.
    const cn_code code = cn_map_put(pool->by_key, p->key.bytes, CN_KEY_BYTES, id->v);
    CN_ASSERT(code == CN_OK);
    move(pool, id->v, SHARED);
}

void cn_page_pool_put(cn_page_pool *pool, cn_page_id id)
{
    CN_ASSERT(id.v < pool->page_count);
    page *p = &pool->pages[id.v];
    CN_ASSERT(p->refs > 0);
    pool->refs--;
    if (--p->refs == 0) move(pool, id.v, p->place == FILLING ? FREE : IDLE);
}

uint32_t cn_page_pool_available(const cn_page_pool *pool)
{
    return pool->counts[FREE] + pool->counts[IDLE] - pool->locked_idle;
}

void cn_page_pool_counts(const cn_page_pool *pool, cn_page_counts *out)
{
    *out = (cn_page_counts){pool->counts[FREE], pool->counts[FILLING], pool->counts[SHARED],
                            pool->counts[IDLE], pool->refs, pool->evictions};
}

void cn_page_pool_check(const cn_page_pool *pool)
{
    uint32_t counts[PLACE_COUNT] = {0};
    uint64_t refs = 0;
    uint32_t locked_idle = 0;
    for (uint32_t at = 0; at < pool->page_count; at++) {
        const page *p = &pool->pages[at];
        uint64_t found = NONE;
        counts[p->place]++;
        refs += p->refs;
        locked_idle += p->locks > 0 && p->place == IDLE;
        CN_ASSERT(p->locks == 0 || p->place == SHARED || p->place == IDLE);
        CN_ASSERT((p->refs > 0) == (p->place == FILLING || p->place == SHARED));
        const bool indexed = cn_map_find(pool->by_key, p->key.bytes, CN_KEY_BYTES, &found) &&
                             found == at;
        CN_ASSERT(indexed == (p->place == SHARED || p->place == IDLE));
    }
    for (int i = 0; i < PLACE_COUNT; i++) CN_ASSERT(counts[i] == pool->counts[i]);
    CN_ASSERT(refs == pool->refs && locked_idle == pool->locked_idle);
    CN_ASSERT(cn_map_count(pool->by_key) == counts[SHARED] + counts[IDLE]);
}
