#include "state/tiers_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* How it works. A restore goes over its pages from the first to the last with five hands, each behind
 * the next (the picture is in tiers_int.h): one asks for pages, one sees them arrive in host memory,
 * one sends them to the device, one sees them arrive there. A page that nobody has ends it at that
 * page, since the ones behind it are of no use to who must compute this one.
 *
 * Whether the store has a page is only seen by asking for it. So a restore asks for two pages first
 * and for one more with each that comes: a prompt that is new costs two short answers, and a long
 * conversation soon has as many pages on the way as there may be. */

enum {
    FIRST_GETS = 2,
    WAIT_NS_MIN = 50000000       // computing may be faster than this, but not by much that is felt
};
// A store that hangs is noticed at the first operation; this is for one that trickles.
static const uint64_t WAIT_NS_MAX = 30000000000;

// ---- memory

static void close_restore(cn_restore *r)
{
    free(r->keys);
    free(r->pages);
    free(r->frames);
    free(r->from);
}

cn_code cn_tiers_open_restores(cn_tiers *t)
{
    const uint32_t n = t->options.chain_max;
    for (uint32_t i = 0; i < CN_TIERS_RESTORES; i++) {
        cn_restore *r = &t->restores[i];
        r->keys = calloc(n, sizeof *r->keys);
        r->pages = calloc(n, sizeof *r->pages);
        r->frames = calloc(n, sizeof *r->frames);
        r->from = calloc(n, sizeof *r->from);
        if (!r->keys || !r->pages || !r->frames || !r->from) return CN_E_MEMORY;
        t->free_restores[t->free_restore_count++] = r;
    }
    return CN_OK;
}

void cn_tiers_close_restores(cn_tiers *t)
{
    for (uint32_t i = 0; i < CN_TIERS_RESTORES; i++) close_restore(&t->restores[i]);
}

// ---- life

cn_restore *cn_tiers_restore_take(cn_tiers *t, const cn_page_key *root)
{
    if (t->free_restore_count == 0) return NULL;
    cn_restore *r = t->free_restores[--t->free_restore_count];
    *r = (cn_restore){.root = *root, .keys = r->keys, .pages = r->pages, .frames = r->frames,
                      .from = r->from, .window = FIRST_GETS};
    t->active[t->active_count++] = r;
    return r;
}

void cn_tiers_restore_add(cn_restore *r, const cn_page_key *key) { r->keys[r->count++] = *key; }

static bool is_moving(const cn_restore *r) { return r->moving_end > r->held; }

bool cn_tiers_restore_ended(const cn_restore *r)
{
    return !is_moving(r) && (r->held == r->limit || r->yielded);
}

uint32_t cn_tiers_restore_count(const cn_restore *r) { return r->yielded ? 0 : r->held; }

uint64_t cn_tiers_restore_ns(const cn_restore *r) { return r->took_ns; }

bool cn_tiers_restore_yielded(const cn_restore *r) { return r->yielded; }

// Nothing from page `limit` on will come.
static void stop_at(cn_tiers *t, cn_restore *r, uint32_t limit)
{
    CN_ASSERT(limit >= r->moving_end);
    while (r->asked > limit) cn_host_cache_put(t->host, r->frames[--r->asked]);
    if (r->ready > r->asked) r->ready = r->asked;
    r->limit = limit;
}

static void put_pages(cn_tiers *t, cn_restore *r)
{
    // Last first: the tail of a conversation is the first to go from the pool.
    for (uint32_t i = r->held; i > 0; i--) cn_page_pool_put(t->options.pool, r->pages[i - 1]);
}

static void recycle(cn_tiers *t, cn_restore *r)
{
    uint32_t at = 0;
    while (t->active[at] != r) at++;
    t->active_count--;
    memmove(&t->active[at], &t->active[at + 1], (t->active_count - at) * sizeof *t->active);
    t->free_restores[t->free_restore_count++] = r;
}

void cn_tiers_restore_drop(cn_tiers *t, cn_restore *r)
{
    r->dropped = true;
    stop_at(t, r, r->moving_end);
    if (is_moving(r)) return;            // until the copies are done
    if (!r->yielded) put_pages(t, r);
    recycle(t, r);
}

uint32_t cn_tiers_restore_collect(cn_tiers *t, cn_restore *r, cn_page_id *pages, cn_page_key *last,
                                  uint32_t from[CN_TIER_COUNT])
{
    const uint32_t count = cn_tiers_restore_count(r);
    CN_ASSERT(cn_tiers_restore_ended(r));
    memset(from, 0, CN_TIER_COUNT * sizeof *from);
    for (uint32_t i = 0; i < count; i++) from[r->from[i]]++;
    memcpy(pages, r->pages, count * sizeof *pages);
    if (count > 0) *last = r->keys[count - 1];
    recycle(t, r);
    return count;
}

bool cn_tiers_yield(cn_tiers *t, const cn_restore *except)
{
    bool gave = false;
    for (uint32_t i = 0; i < t->active_count; i++) {
        cn_restore *r = t->active[i];
        if (r == except || r->yielded || r->dropped) continue;
        stop_at(t, r, r->moving_end);
        gave |= r->held > 0;
        put_pages(t, r);
        r->yielded = true;
    }
    return gave;
}

uint32_t cn_tiers_held(const cn_tiers *t)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < t->active_count; i++) {
        const cn_restore *r = t->active[i];
        held += r->moving_end - r->held + (r->yielded ? 0 : r->held);
    }
    return held;
}

// ---- what to do

static double compute_ns(const cn_tiers *t, uint32_t page_count)
{
    return cn_tier_rate_ns(&t->compute_rate, (double)page_count * CN_PAGE_TOKENS);
}

// The choice between a tier and the device's arithmetic, for one page: both take longer in proportion.
static bool is_worth(const cn_tiers *t, cn_tier_choice *choice, const cn_tier_rate *rate)
{
    const double restore_ns = cn_tier_rate_ns(rate, (double)t->options.page_bytes);
    return cn_tier_choice_restores(choice, restore_ns, compute_ns(t, 1));
}

static uint64_t wait_ns(const cn_tiers *t, uint32_t page_count)
{
    const double ns = compute_ns(t, page_count);
    if (ns == 0 || ns > (double)WAIT_NS_MAX) return WAIT_NS_MAX;
    return ns < WAIT_NS_MIN ? WAIT_NS_MIN : (uint64_t)ns;
}

// A frame into which the page is on its way from the store; false if it is not, and must wait or end.
static bool send_for(cn_tiers *t, cn_restore *r, uint32_t at, cn_host_frame *out)
{
    const cn_host_page page = {.key = r->keys[at], .parent = at ? r->keys[at - 1] : r->root,
                               .index = at, .tenant = r->root.bytes[0]};
    if (r->asked - r->ready >= r->window || !cn_tiers_take_frame(t, &page, out)) return false;
    if (cn_tiers_get(t, *out, r->deadline_ns)) return true;
    cn_host_cache_drop(t->host, *out);
    cn_host_cache_put(t->host, *out);
    return false;
}

// Whether the store may be asked; once chosen, as long as it answers.
static bool choose_store(cn_tiers *t, cn_restore *r)
{
    if (!cn_tiers_store_is_up(t)) return false;
    if (r->chose_store) return true;
    r->chose_store = is_worth(t, &t->store_choice, &t->store_rate);
    r->chose_computing = !r->chose_store;
    return r->chose_store;
}

static void ask(cn_tiers *t, cn_restore *r)
{
    while (r->asked < r->limit) {
        const uint32_t at = r->asked;
        cn_host_frame frame;
        if (cn_host_cache_find(t->host, &r->keys[at], &frame)) {
            r->from[at] = cn_host_cache_is_full(t->host, frame) ? CN_TIER_HOST : CN_TIER_STORE;
        } else {
            if (!choose_store(t, r)) {
                stop_at(t, r, at);
                return;
            }
            if (!send_for(t, r, at, &frame)) return;
            r->from[at] = CN_TIER_STORE;
        }
        r->frames[at] = frame;
        r->asked++;
    }
}

static void see_arrivals(cn_tiers *t, cn_restore *r)
{
    while (r->ready < r->asked && cn_host_cache_is_full(t->host, r->frames[r->ready])) {
        if (r->from[r->ready] == CN_TIER_STORE && r->window < CN_TIERS_GETS) r->window++;
        r->ready++;
    }
    const bool late = r->ready < r->limit && t->now_ns >= r->deadline_ns;
    if (late || (r->ready < r->asked && cn_host_cache_is_dropped(t->host, r->frames[r->ready]))) {
        r->is_late = late;
        stop_at(t, r, r->ready);
    }
}

static void note_end(cn_tiers *t, cn_restore *r)
{
    cn_metrics *m = t->options.metrics;
    r->noted = true;
    r->took_ns = t->now_ns - r->start_ns;
    cn_metrics_observe(&m->restore_ns, r->took_ns);
    if (r->is_late) cn_metrics_add(&m->restores_late, 1);
    else if (r->chose_computing) cn_metrics_add(&m->restores_computed, 1);
    else cn_metrics_add(r->limit == r->count ? &m->restores_whole : &m->restores_short, 1);
}

static void advance(cn_tiers *t, cn_restore *r)
{
    if (r->yielded || r->dropped) return;
    see_arrivals(t, r);
    ask(t, r);
    see_arrivals(t, r);
    if (!r->noted && cn_tiers_restore_ended(r)) note_end(t, r);
}

void cn_tiers_advance_restores(cn_tiers *t)
{
    for (uint32_t i = 0; i < t->active_count; i++) advance(t, t->active[i]);
}

bool cn_tiers_restore_start(cn_tiers *t, cn_restore *r)
{
    t->now_ns = cn_clock_now_ns(&t->options.clock);
    while (r->held < r->count &&
           cn_page_pool_find(t->options.pool, &r->keys[r->held], &r->pages[r->held])) {
        r->from[r->held++] = CN_TIER_DEVICE;
    }
    r->moving_end = r->ready = r->asked = r->held;
    r->limit = r->count;
    r->start_ns = t->now_ns;
    r->deadline_ns = t->now_ns + wait_ns(t, r->count - r->held);
    const bool in_host = r->held < r->count && cn_host_cache_has(t->host, &r->keys[r->held]);
    r->chose_computing = in_host && !is_worth(t, &t->host_choice, &t->host_rate);
    if (r->chose_computing) r->limit = r->held;
    ask(t, r);
    if (r->limit > r->held) return true;
    cn_metrics_add(&t->options.metrics->restores_computed, r->chose_computing);
    cn_tiers_restore_drop(t, r);
    return false;
}

// ---- to the device

static void add_move(cn_tiers *t, cn_restore *r, cn_page_id page)
{
    const uint32_t at = r->moving_end++;
    void *bytes = cn_host_cache_bytes(t->host, r->frames[at]);
    r->pages[at] = page;
    t->io[t->move_count] = (cn_page_io){CN_PAGE_WRITE, page, bytes};
    t->moves[t->move_count++] = (cn_tiers_move){r->frames[at], page, r};
}

// Pages that came to the device by another way meanwhile.
static void take_present(cn_tiers *t, cn_restore *r)
{
    while (r->held < r->ready &&
           cn_page_pool_find(t->options.pool, &r->keys[r->held], &r->pages[r->held])) {
        cn_host_cache_put(t->host, r->frames[r->held]);
        r->moving_end = ++r->held;
    }
}

void cn_tiers_add_restores(cn_tiers *t, uint32_t page_max)
{
    for (uint32_t i = 0; i < t->active_count; i++) {
        cn_restore *r = t->active[i];
        if (r->yielded || r->dropped) continue;
        if (!is_moving(r)) take_present(t, r);
        while (r->moving_end < r->ready && t->move_count < page_max) {
            cn_page_id page;
            if (cn_page_pool_take(t->options.pool, &page) != CN_OK) {
                stop_at(t, r, r->moving_end);
                break;
            }
            add_move(t, r, page);
        }
        if (!r->noted && cn_tiers_restore_ended(r)) note_end(t, r);
    }
}

void cn_tiers_restore_arrive(cn_tiers *t, const cn_tiers_move *move)
{
    cn_restore *r = move->restore;
    cn_page_id page = move->page;
    cn_page_pool_seal(t->options.pool, &page, &r->keys[r->held]);
    cn_host_cache_put(t->host, move->frame);
    if (r->yielded) cn_page_pool_put(t->options.pool, page);
    else r->pages[r->held] = page;
    r->held++;
    if (r->dropped && !is_moving(r)) cn_tiers_restore_drop(t, r);
    else if (!r->noted && cn_tiers_restore_ended(r)) note_end(t, r);
}
