#include "state/host_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"

/* How it works. A frame is free, empty (taken, its bytes on the way), full, or dropped (its bytes will
 * not come; free once the last pin goes). What goes when room is wanted is decided by value:
 *
 * - A page is useless without those before it. So only a page without a child in the cache goes, and
 *   a conversation is lost from its end; and a page whose parent is not here goes before all others.
 * - All pages have the same size, but the longer its past, the dearer a page is to compute (attention
 *   reads the past). Its worth is 1 for the first pages and twice as much whenever the past doubles.
 * - Age counts against worth as in GreedyDual (Young 1994): a page used now gets the cache's age + its
 *   worth as value; the age is the value of what went last. Among pages of equal worth the one that
 *   was used longest ago goes first, and a page of worth 8 outlives 8 generations of worth 1.
 * - Pages of tenants above their share go before those of all others, whatever their value.
 *
 * Values of one tenant and one worth enter in ascending order, since the age only grows. So a queue
 * for each such pair is sorted by itself, its head is its least value, and choosing means to look at
 * the heads. A page whose last child goes was used before the child was, mostly: with a value that is
 * past it goes to the head of its queue. If it was used since, by another branch, it joins the end. */

enum {
    NONE = UINT32_MAX,
    WORTHS = 12,
    WORTH_PAGES = 256,
    FRAME_ALIGN = 64,
    TOUCH_BYTES_MAX = 64 << 20   // so little is made resident at once, and does not grow in use
};

typedef enum content { FREE, EMPTY, FULL, DROPPED } content;

typedef struct frame {
    cn_host_page page;
    uint64_t value;              // of a full frame: what goes first is the least value,
    uint64_t used;               // and of equal ones the one that was used longest ago
    uint32_t parent;             // frame of the page before, NONE; of this life:
    uint32_t parent_life;
    uint32_t life;               // grows when the frame becomes free
    uint32_t children;
    uint32_t pins;
    uint32_t older, newer;       // in its queue or in the free list
    content content;
    bool queued;
} frame;

typedef struct queue {
    uint32_t oldest, newest;
} queue;

struct cn_host_cache {
    frame *frames;
    unsigned char *bytes;
    cn_map *by_key;
    uint64_t frame_bytes;
    uint64_t age;
    uint64_t uses;               // counted, to order them
    uint64_t evictions;
    uint32_t frame_count, free_count, idle_count, share_count;
    uint32_t pin_count;
    queue free;
    queue queues[CN_HOST_TENANTS][WORTHS];
    uint32_t queued_counts[CN_HOST_TENANTS];
    uint32_t held_counts[CN_HOST_TENANTS];       // frames that are not free
};

// ---- queues

static void push_newest(cn_host_cache *c, queue *q, uint32_t at)
{
    c->frames[at].older = q->newest;
    c->frames[at].newer = NONE;
    if (q->newest == NONE) q->oldest = at;
    else c->frames[q->newest].newer = at;
    q->newest = at;
}

static void push_oldest(cn_host_cache *c, queue *q, uint32_t at)
{
    c->frames[at].newer = q->oldest;
    c->frames[at].older = NONE;
    if (q->oldest == NONE) q->newest = at;
    else c->frames[q->oldest].older = at;
    q->oldest = at;
}

static void unlink_frame(cn_host_cache *c, queue *q, uint32_t at)
{
    const frame *f = &c->frames[at];
    if (f->older == NONE) q->oldest = f->newer;
    else c->frames[f->older].newer = f->newer;
    if (f->newer == NONE) q->newest = f->older;
    else c->frames[f->newer].older = f->older;
}

static uint32_t worth_of(const frame *f)
{
    uint32_t worth = 0;
    for (uint32_t past = f->page.index / WORTH_PAGES; past > 0; past /= 2) worth++;
    return worth < WORTHS ? worth : WORTHS - 1;
}

static queue *queue_of(cn_host_cache *c, const frame *f)
{
    return &c->queues[f->page.tenant][worth_of(f)];
}

static void set_queued(cn_host_cache *c, frame *f, bool queued)
{
    f->queued = queued;
    c->queued_counts[f->page.tenant] += queued ? 1 : UINT32_MAX;
}

static void remove_queued(cn_host_cache *c, uint32_t at)
{
    frame *f = &c->frames[at];
    if (!f->queued) return;
    unlink_frame(c, queue_of(c, f), at);
    set_queued(c, f, false);
}

// Queues a frame that may go, if it may.
static void offer(cn_host_cache *c, uint32_t at)
{
    frame *f = &c->frames[at];
    queue *q = queue_of(c, f);
    if (f->content != FULL || f->pins > 0 || f->children > 0) return;
    if (f->value <= c->age) {
        push_oldest(c, q, at);
    } else {
        const uint64_t last = q->newest == NONE ? 0 : c->frames[q->newest].value;
        if (f->value < last) f->value = last;
        push_newest(c, q, at);
    }
    set_queued(c, f, true);
}

// ---- open and close

cn_code cn_host_cache_open(uint32_t frame_count, uint64_t page_bytes, uint32_t tenant_percent,
                           uint64_t seed, cn_host_cache **out)
{
    *out = NULL;
    cn_host_cache *c = calloc(1, sizeof *c);
    if (!c) return CN_E_MEMORY;
    c->frame_count = frame_count;
    c->frame_bytes = (page_bytes + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
    c->share_count = (uint32_t)((uint64_t)frame_count * tenant_percent / 100);
    c->frames = calloc(frame_count, sizeof *c->frames);
    c->bytes = aligned_alloc(FRAME_ALIGN, frame_count * c->frame_bytes);
    if (!c->frames || !c->bytes || cn_map_open(frame_count, seed, &c->by_key) != CN_OK) {
        cn_host_cache_close(c);
        return CN_E_MEMORY;
    }
    const uint64_t bytes = frame_count * c->frame_bytes;
    if (bytes <= TOUCH_BYTES_MAX) memset(c->bytes, 0, bytes);
    c->free = (queue){NONE, NONE};
    for (uint32_t t = 0; t < CN_HOST_TENANTS; t++) {
        for (uint32_t w = 0; w < WORTHS; w++) c->queues[t][w] = (queue){NONE, NONE};
    }
    for (uint32_t at = 0; at < frame_count; at++) push_newest(c, &c->free, at);
    c->free_count = frame_count;
    *out = c;
    return CN_OK;
}

void cn_host_cache_close(cn_host_cache *cache)
{
    if (!cache) return;
    cn_map_close(cache->by_key);
    free(cache->bytes);
    free(cache->frames);
    free(cache);
}

// Counts a child of the page's parent, so that the parent stays; NONE if the parent is not here.
static uint32_t join_parent(cn_host_cache *c, const cn_page_key *parent)
{
    uint64_t at;
    if (!cn_map_find(c->by_key, parent->bytes, CN_KEY_BYTES, &at)) return NONE;
    remove_queued(c, (uint32_t)at);
    c->frames[at].children++;
    return (uint32_t)at;
}

static bool has_parent(const cn_host_cache *c, const frame *f)
{
    return f->parent != NONE && c->frames[f->parent].life == f->parent_life;
}

// ---- pins

static void become_free(cn_host_cache *c, uint32_t at)
{
    frame *f = &c->frames[at];
    c->held_counts[f->page.tenant]--;
    f->content = FREE;
    f->life++;
    push_newest(c, &c->free, at);
    c->free_count++;
    if (!has_parent(c, f)) return;
    c->frames[f->parent].children--;
    offer(c, f->parent);
}

static bool is_idle(const frame *f) { return f->content == FULL && f->pins == 0; }

bool cn_host_cache_find(cn_host_cache *c, const cn_page_key *key, cn_host_frame *out)
{
    uint64_t at;
    if (!cn_map_find(c->by_key, key->bytes, CN_KEY_BYTES, &at)) return false;
    frame *f = &c->frames[at];
    c->idle_count -= is_idle(f);
    remove_queued(c, (uint32_t)at);
    f->pins++;
    c->pin_count++;
    out->v = (uint32_t)at;
    return true;
}

bool cn_host_cache_has(const cn_host_cache *c, const cn_page_key *key)
{
    uint64_t at;
    return cn_map_find(c->by_key, key->bytes, CN_KEY_BYTES, &at);
}

static bool goes_before(const frame *a, const frame *b)
{
    return a->value != b->value ? a->value < b->value : a->used < b->used;
}

// The head of a queue that is to go first, NONE if nothing is queued.
static uint32_t choose_victim(const cn_host_cache *c)
{
    uint32_t best = NONE;
    bool best_above = false;
    for (uint32_t t = 0; t < CN_HOST_TENANTS; t++) {
        if (c->queued_counts[t] == 0) continue;
        const bool above = c->held_counts[t] > c->share_count;
        for (uint32_t w = 0; w < WORTHS; w++) {
            const uint32_t at = c->queues[t][w].oldest;
            if (at == NONE || (best_above && !above)) continue;
            if (best == NONE || (above && !best_above) ||
                goes_before(&c->frames[at], &c->frames[best])) {
                best = at;
                best_above = above;
            }
        }
    }
    return best;
}

static bool evict(cn_host_cache *c)
{
    const uint32_t at = choose_victim(c);
    if (at == NONE) return false;
    frame *f = &c->frames[at];
    if (f->value > c->age) c->age = f->value;
    remove_queued(c, at);
    cn_map_del(c->by_key, f->page.key.bytes, CN_KEY_BYTES);
    c->idle_count--;
    c->evictions++;
    become_free(c, at);
    return true;
}

bool cn_host_cache_take(cn_host_cache *c, const cn_host_page *page, cn_host_frame *out)
{
    if (c->free_count == 0 && !evict(c)) return false;
    // After evicting: where a chain is longer than the cache, its last page goes for the next one.
    const uint32_t parent = join_parent(c, &page->parent);
    const uint32_t at = c->free.oldest;
    frame *f = &c->frames[at];
    unlink_frame(c, &c->free, at);
    c->free_count--;
    c->pin_count++;
    c->held_counts[page->tenant]++;
    *f = (frame){.page = *page, .parent = parent, .life = f->life, .pins = 1, .content = EMPTY,
                 .parent_life = parent == NONE ? 0 : c->frames[parent].life};
    // The index was opened for frame_count entries, so it has room and does not allocate.
    const cn_code code = cn_map_put(c->by_key, f->page.key.bytes, CN_KEY_BYTES, at);
    CN_ASSERT(code == CN_OK);
    out->v = at;
    return true;
}

void cn_host_cache_fill(cn_host_cache *c, cn_host_frame at)
{
    CN_ASSERT(c->frames[at.v].content == EMPTY && c->frames[at.v].pins > 0);
    c->frames[at.v].content = FULL;
}

void cn_host_cache_drop(cn_host_cache *c, cn_host_frame at)
{
    frame *f = &c->frames[at.v];
    CN_ASSERT(f->content == EMPTY && f->pins > 0);
    cn_map_del(c->by_key, f->page.key.bytes, CN_KEY_BYTES);
    f->content = DROPPED;
}

bool cn_host_cache_is_full(const cn_host_cache *c, cn_host_frame at)
{
    return c->frames[at.v].content == FULL;
}

bool cn_host_cache_is_dropped(const cn_host_cache *c, cn_host_frame at)
{
    return c->frames[at.v].content == DROPPED;
}

void cn_host_cache_put(cn_host_cache *c, cn_host_frame at)
{
    CN_ASSERT(at.v < c->frame_count);
    frame *f = &c->frames[at.v];
    CN_ASSERT(f->pins > 0);
    c->pin_count--;
    if (--f->pins > 0) return;
    CN_ASSERT(f->content == FULL || f->content == DROPPED);
    if (f->content == DROPPED) {
        become_free(c, at.v);
        return;
    }
    f->value = f->page.index > 0 && !has_parent(c, f) ? 0 : c->age + (1ull << worth_of(f));
    f->used = ++c->uses;
    c->idle_count++;
    offer(c, at.v);
}

void *cn_host_cache_bytes(const cn_host_cache *c, cn_host_frame at)
{
    CN_ASSERT(at.v < c->frame_count && c->frames[at.v].pins > 0);
    return c->bytes + at.v * c->frame_bytes;
}

const cn_host_page *cn_host_cache_page(const cn_host_cache *c, cn_host_frame at)
{
    return &c->frames[at.v].page;
}

// ---- what is where

void cn_host_cache_counts(const cn_host_cache *c, cn_host_counts *out)
{
    *out = (cn_host_counts){.free = c->free_count, .idle = c->idle_count,
                            .pinned = c->frame_count - c->free_count - c->idle_count,
                            .pins = c->pin_count, .evictions = c->evictions};
}

static void check_frame(const cn_host_cache *c, uint32_t at)
{
    const frame *f = &c->frames[at];
    uint64_t found = NONE;
    const bool indexed = cn_map_find(c->by_key, f->page.key.bytes, CN_KEY_BYTES, &found) &&
                         found == at;
    CN_ASSERT(indexed == (f->content == EMPTY || f->content == FULL));
    CN_ASSERT(f->content == FULL || (f->pins == 0) == (f->content == FREE));
    CN_ASSERT(f->queued == (is_idle(f) && f->children == 0));
}

void cn_host_cache_check(const cn_host_cache *c)
{
    uint32_t free_count = 0, idle_count = 0, queued_count = 0, in_queues = 0;
    uint32_t pin_count = 0;
    for (uint32_t at = 0; at < c->frame_count; at++) {
        const frame *f = &c->frames[at];
        check_frame(c, at);
        pin_count += f->pins;
        free_count += f->content == FREE;
        idle_count += is_idle(f);
        queued_count += f->queued;
    }
    for (uint32_t t = 0; t < CN_HOST_TENANTS; t++) {
        const uint32_t before = in_queues;
        for (uint32_t w = 0; c->queued_counts[t] > 0 && w < WORTHS; w++) {
            uint64_t value = 0;
            for (uint32_t at = c->queues[t][w].oldest; at != NONE; at = c->frames[at].newer) {
                CN_ASSERT(c->frames[at].value >= value || c->frames[at].value <= c->age);
                value = c->frames[at].value;
                in_queues++;
            }
        }
        CN_ASSERT(in_queues - before == c->queued_counts[t]);
    }
    CN_ASSERT(free_count == c->free_count && idle_count == c->idle_count);
    CN_ASSERT(queued_count == in_queues);
    CN_ASSERT(pin_count == c->pin_count);
}
