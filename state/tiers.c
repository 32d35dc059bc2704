#include "state/tiers.h"

#include <stdlib.h>

#include "base/assert.h"
#include "state/tiers_int.h"

/* How it works. A page goes down by itself and comes up when it is asked for:
 *
 *    sealed ──queue──▶ copy ──▶ host memory ──unsaved──▶ PUT ──▶ store
 *    pool   ◀───seal── copy ◀── host memory ◀─────────── GET ◀── store       (tiers_restore.c)
 *
 * One batch of copies is under way on the device at a time; pages that come up go into it first. A page
 * in the queue is only a name: it is looked up when its turn comes, so writing behind never keeps a
 * page from the pool. A page that waits for the store is pinned in host memory, so with a store that
 * is slower than the device the frames fill, the copies stop, the queue fills, and then pages are not
 * written: the lag is bounded by queue_max, and answers do not wait.
 *
 * A store that does not answer is left alone for a while, twice as long each time. Meanwhile pages are
 * computed, and unsaved ones wait in host memory until their frames are wanted.
 *
 * A copy of a device page may be read once the page is sealed: its step is done. A page may be
 * written that a step in flight still names, because copies are queued behind the steps. */

enum {
    // Frames for what is on the way to the store and back, where host_bytes is 0; and at least so many.
    STAGING_BYTES = 32 << 20,
    STAGING_FRAMES_MAX = 4096,
    STAGING_FRAMES_MIN = 16,
    BATCH_BYTES_MAX = 64 << 20,  // what a new sequence waits for: some 15 ms
    STEP_PARTS = 32,             // beside steps, writing behind may take one such part of their time
    COPY_BYTES_PER_S = 2000000000,   // until it was measured
    GET_NS = 500000000, PUT_NS = 2000000000,     // until an answer, beside the bytes' time
    NS_PER_BYTE = 4,                             // a store at 0.25 GB/s is not yet late
    DOWN_NS_MIN = 100000000
};
static const uint64_t DOWN_NS_MAX = 5000000000;

// ---- open and close

static uint64_t frame_count_of(const cn_tiers_options *o)
{
    const bool is_staging = o->store && o->host_bytes == 0;
    uint64_t count = (is_staging ? STAGING_BYTES : o->host_bytes) / o->page_bytes;
    if (is_staging && count > STAGING_FRAMES_MAX) count = STAGING_FRAMES_MAX;
    if (o->store && count < STAGING_FRAMES_MIN) count = STAGING_FRAMES_MIN;
    return count < UINT32_MAX / 2 ? count : UINT32_MAX / 2;
}

static void open_transfers(cn_tiers_transfer *all, cn_tiers_transfer **stack, uint32_t count,
                           cn_store_kind kind)
{
    for (uint32_t i = 0; i < count; i++) {
        all[i].op.kind = kind;
        all[i].op.user = &all[i];
        stack[i] = &all[i];
    }
}

static cn_code open_memory(cn_tiers *t)
{
    const cn_tiers_options *o = &t->options;
    t->queue = calloc(o->queue_max, sizeof *t->queue);
    t->queue_ns = calloc(o->queue_max, sizeof *t->queue_ns);
    t->unsaved = calloc(t->frame_count, sizeof *t->unsaved);
    t->frame_ns = calloc(t->frame_count, sizeof *t->frame_ns);
    open_transfers(t->gets, t->free_gets, CN_TIERS_GETS, CN_STORE_PAGE_GET);
    open_transfers(t->puts, t->free_puts, CN_TIERS_PUTS, CN_STORE_PAGE_PUT);
    t->free_get_count = CN_TIERS_GETS;
    t->free_put_count = CN_TIERS_PUTS;
    if (!t->queue || !t->queue_ns || !t->unsaved || !t->frame_ns) return CN_E_MEMORY;
    if (cn_tiers_open_restores(t) != CN_OK) return CN_E_MEMORY;
    return cn_host_cache_open(t->frame_count, o->page_bytes, o->tenant_percent, o->seed, &t->host);
}

cn_code cn_tiers_open(const cn_tiers_options *options, cn_tiers **out, cn_err *err)
{
    *out = NULL;
    const uint64_t frame_count = frame_count_of(options);
    if (frame_count == 0) {
        return cn_err_set(err, CN_E_INVALID,
                          "kv.host_bytes: %llu; must be 0 or at least one page of this model (%llu)",
                          (unsigned long long)options->host_bytes,
                          (unsigned long long)options->page_bytes);
    }
    cn_tiers *t = calloc(1, sizeof *t);
    if (!t) return cn_err_set(err, CN_E_MEMORY, "kv.host_bytes: no memory");
    t->options = *options;
    t->frame_count = (uint32_t)frame_count;
    if (open_memory(t) != CN_OK) {
        cn_tiers_close(t);
        return cn_err_set(err, CN_E_MEMORY, "kv.host_bytes: no memory for %llu pages of %llu bytes",
                          (unsigned long long)frame_count, (unsigned long long)options->page_bytes);
    }
    cn_metrics_set(&options->metrics->host_pages, frame_count);
    *out = t;
    return CN_OK;
}

void cn_tiers_close(cn_tiers *t)
{
    if (!t) return;
    cn_tiers_close_restores(t);
    cn_host_cache_close(t->host);
    free(t->frame_ns);
    free(t->unsaved);
    free(t->queue_ns);
    free(t->queue);
    free(t);
}

// ---- what is written behind

static void count_lost(cn_tiers *t, uint32_t page_count)
{
    cn_metrics_add(&t->options.metrics->write_behind_lost, page_count);
}

void cn_tiers_sealed(cn_tiers *t, const cn_host_page *page)
{
    if (cn_host_cache_has(t->host, &page->key)) return;
    if (t->queue_count == t->options.queue_max) {
        count_lost(t, 1);
        return;
    }
    const uint32_t at = (t->queue_first + t->queue_count++) % t->options.queue_max;
    t->queue[at] = *page;
    t->queue_ns[at] = t->now_ns;
}

void cn_tiers_prefilled(cn_tiers *t, uint32_t tokens, uint64_t busy_ns)
{
    cn_tier_rate_add(&t->compute_rate, tokens, busy_ns);
}

static void pop_queue(cn_tiers *t)
{
    t->queue_first = (t->queue_first + 1) % t->options.queue_max;
    t->queue_count--;
}

// The frame's pin goes with it.
static void push_unsaved(cn_tiers *t, cn_host_frame frame)
{
    t->unsaved[(t->unsaved_first + t->unsaved_count++) % t->frame_count] = frame;
}

static void push_back_unsaved(cn_tiers *t, cn_host_frame frame)
{
    t->unsaved_first = (t->unsaved_first + t->frame_count - 1) % t->frame_count;
    t->unsaved[t->unsaved_first] = frame;
    t->unsaved_count++;
}

static cn_host_frame pop_unsaved(cn_tiers *t)
{
    const cn_host_frame frame = t->unsaved[t->unsaved_first];
    t->unsaved_first = (t->unsaved_first + 1) % t->frame_count;
    t->unsaved_count--;
    return frame;
}

bool cn_tiers_take_frame(cn_tiers *t, const cn_host_page *page, cn_host_frame *out)
{
    for (;;) {
        if (cn_host_cache_take(t->host, page, out)) {
            t->frame_ns[out->v] = t->now_ns;
            return true;
        }
        // While the store answers, those that wait for it are about to leave. The newest is given up
        // first: without it the ones before it are still of use.
        if (t->unsaved_count == 0 || cn_tiers_store_is_up(t)) return false;
        cn_host_cache_put(t->host, t->unsaved[(t->unsaved_first + --t->unsaved_count) % t->frame_count]);
        count_lost(t, 1);
    }
}

// Adds pages of the queue to the batch, at most `page_max`.
static void add_written(cn_tiers *t, uint32_t page_max)
{
    for (uint32_t n = 0; n < page_max && t->queue_count > 0 && t->move_count < CN_TIERS_MOVES;) {
        const cn_host_page *page = &t->queue[t->queue_first];
        cn_page_id id;
        cn_host_frame frame;
        const bool known = cn_host_cache_has(t->host, &page->key);
        if (known || !cn_page_pool_lock(t->options.pool, &page->key, &id)) {
            count_lost(t, !known);
            pop_queue(t);
            continue;
        }
        if (!cn_tiers_take_frame(t, page, &frame)) {
            cn_page_pool_unlock(t->options.pool, id);
            return;
        }
        t->io[t->move_count] = (cn_page_io){CN_PAGE_READ, id, cn_host_cache_bytes(t->host, frame)};
        t->moves[t->move_count++] = (cn_tiers_move){frame, id, NULL};
        t->frame_ns[frame.v] = t->queue_ns[t->queue_first];
        pop_queue(t);
        n++;
    }
}

// ---- copies

static uint32_t pages_of(const cn_tiers *t, uint64_t bytes)
{
    const uint64_t count = bytes / t->options.page_bytes;
    return count < 1 ? 1 : count > CN_TIERS_MOVES ? CN_TIERS_MOVES : (uint32_t)count;
}

// Pages that may be written behind in a batch, so that running answers hardly notice.
static uint32_t pages_in(const cn_tiers *t, uint64_t step_ns)
{
    const double rate = cn_tier_rate_per_s(&t->host_rate);
    const double per_s = rate > 0 ? rate : (double)COPY_BYTES_PER_S;
    if (step_ns == 0) return pages_of(t, BATCH_BYTES_MAX);
    return pages_of(t, (uint64_t)(per_s * (double)step_ns / 1e9 / STEP_PARTS));
}

static bool start_copies(cn_tiers *t, uint64_t step_ns)
{
    cn_backend *backend = t->options.backend;
    if (t->move_count > 0) return false;
    cn_tiers_add_restores(t, pages_of(t, BATCH_BYTES_MAX));
    add_written(t, pages_in(t, step_ns));
    if (t->move_count == 0) return false;
    const cn_code code = backend->ops->page_io(backend, t->io, t->move_count, &t->ticket);
    CN_ASSERT(code == CN_OK);            // AGAIN is excluded: this is the only batch
    t->move_start_ns = step_ns > 0 ? 0 : t->now_ns;
    return true;
}

static void written(cn_tiers *t, const cn_tiers_move *move)
{
    cn_host_cache_fill(t->host, move->frame);
    cn_page_pool_unlock(t->options.pool, move->page);
    if (t->options.store) push_unsaved(t, move->frame);
    else cn_host_cache_put(t->host, move->frame);
}

static bool finish_copies(cn_tiers *t)
{
    cn_backend *backend = t->options.backend;
    cn_metrics *m = t->options.metrics;
    if (t->move_count == 0 || !backend->ops->page_io_done(backend, t->ticket)) return false;
    const uint32_t count = t->move_count;
    if (t->move_start_ns > 0) {
        cn_tier_rate_add(&t->host_rate, count * t->options.page_bytes, t->now_ns - t->move_start_ns);
    }
    t->move_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const cn_tiers_move *move = &t->moves[i];
        cn_metrics_add(move->restore ? &m->host_read_bytes : &m->host_written_bytes,
                       t->options.page_bytes);
        if (move->restore) cn_tiers_restore_arrive(t, move);
        else written(t, move);
    }
    return true;
}

// ---- the store

static void store_failed(cn_tiers *t)
{
    if (t->now_ns < t->down_until_ns) return;    // one of many that were under way
    t->down_ns = t->down_ns == 0 ? DOWN_NS_MIN : t->down_ns * 2;
    if (t->down_ns > DOWN_NS_MAX) t->down_ns = DOWN_NS_MAX;
    t->down_until_ns = t->now_ns + t->down_ns;
}

static bool submit(cn_tiers *t, cn_tiers_transfer *transfer, cn_host_frame frame, uint64_t deadline_ns)
{
    transfer->frame = frame;
    transfer->op.page_key = cn_host_cache_page(t->host, frame)->key;
    transfer->op.page = cn_host_cache_bytes(t->host, frame);
    transfer->op.deadline_ns = deadline_ns;
    return cn_store_port_submit(t->options.store, &transfer->op);
}

// The bytes that must pass before the answer to one more operation comes.
static uint64_t deadline(const cn_tiers *t, uint64_t base_ns)
{
    const uint64_t ahead = CN_TIERS_GETS - t->free_get_count + CN_TIERS_PUTS - t->free_put_count;
    return t->now_ns + base_ns + (ahead + 1) * t->options.page_bytes * NS_PER_BYTE;
}

bool cn_tiers_get(cn_tiers *t, cn_host_frame frame, uint64_t deadline_ns)
{
    cn_host_frame pinned;
    const uint64_t late_ns = deadline(t, GET_NS);
    if (t->free_get_count == 0) return false;
    cn_tiers_transfer *transfer = t->free_gets[t->free_get_count - 1];
    transfer->is_hurried = deadline_ns < late_ns;
    if (!submit(t, transfer, frame, transfer->is_hurried ? deadline_ns : late_ns)) return false;
    t->free_get_count--;
    const bool found = cn_host_cache_find(t->host, &transfer->op.page_key, &pinned);
    CN_ASSERT(found && pinned.v == frame.v);
    cn_tier_rate_begin(&t->store_rate, t->now_ns);
    return true;
}

static bool start_puts(cn_tiers *t)
{
    bool started = false;
    while (t->unsaved_count > 0 && t->free_put_count > 0 && cn_tiers_store_is_up(t)) {
        // Somebody waits for what comes up; what goes down has time.
        const bool busy = t->free_get_count < CN_TIERS_GETS;
        if (busy && t->free_put_count < CN_TIERS_PUTS) break;
        cn_tiers_transfer *transfer = t->free_puts[t->free_put_count - 1];
        if (!submit(t, transfer, t->unsaved[t->unsaved_first], deadline(t, PUT_NS))) break;
        t->free_put_count--;
        transfer->is_under_way = true;
        pop_unsaved(t);
        started = true;
    }
    return started;
}

/* A page that was computed while it was sent for was taken for one that the store has, and is not
 * queued. The store has not: it is written behind now, if it still is on the device. */
static void sent_in_vain(cn_tiers *t, cn_host_frame frame)
{
    cn_page_id id;
    const cn_host_page *page = cn_host_cache_page(t->host, frame);
    cn_host_cache_drop(t->host, frame);
    if (!cn_page_pool_lock(t->options.pool, &page->key, &id)) return;
    cn_page_pool_unlock(t->options.pool, id);
    cn_tiers_sealed(t, page);
}

static void got(cn_tiers *t, cn_tiers_transfer *transfer)
{
    const cn_code code = transfer->op.code;
    t->free_gets[t->free_get_count++] = transfer;
    if (code == CN_OK) {
        cn_tier_rate_end(&t->store_rate, t->options.page_bytes, t->now_ns);
        cn_metrics_add(&t->options.metrics->store_read_bytes, t->options.page_bytes);
        cn_host_cache_fill(t->host, transfer->frame);
    } else {
        // A store that is late is slow; one that does not have a page is not.
        if (code == CN_E_STORE) cn_tier_rate_end(&t->store_rate, 0, t->now_ns);
        else cn_tier_rate_cancel(&t->store_rate, t->now_ns);
        sent_in_vain(t, transfer->frame);
    }
    cn_host_cache_put(t->host, transfer->frame);
}

static void put(cn_tiers *t, cn_tiers_transfer *transfer)
{
    const cn_code code = transfer->op.code;
    t->free_puts[t->free_put_count++] = transfer;
    transfer->is_under_way = false;
    if (code == CN_E_STORE) {
        push_back_unsaved(t, transfer->frame);
        return;
    }
    if (code == CN_OK) cn_metrics_add(&t->options.metrics->store_written_bytes, t->options.page_bytes);
    else count_lost(t, 1);
    cn_host_cache_put(t->host, transfer->frame);
}

static bool finish_transfers(cn_tiers *t)
{
    bool worked = false;
    if (!t->options.store) return false;
    for (cn_store_op *op; (op = cn_store_port_next(t->options.store)); worked = true) {
        cn_tiers_transfer *transfer = op->user;
        if (op->code != CN_E_STORE) t->down_ns = 0;
        else if (!transfer->is_hurried) store_failed(t);
        if (op->kind == CN_STORE_PAGE_GET) got(t, transfer);
        else put(t, transfer);
    }
    return worked;
}

// ---- a round

// How long the oldest page has waited, on its way from the device to the store.
static uint64_t oldest_ns(const cn_tiers *t)
{
    uint64_t since_ns = t->now_ns;
    if (t->queue_count > 0) since_ns = t->queue_ns[t->queue_first];
    for (uint32_t i = 0; i < t->move_count; i++) {
        const uint64_t ns = t->frame_ns[t->moves[i].frame.v];
        if (!t->moves[i].restore && ns < since_ns) since_ns = ns;
    }
    if (t->unsaved_count > 0 && t->frame_ns[t->unsaved[t->unsaved_first].v] < since_ns) {
        since_ns = t->frame_ns[t->unsaved[t->unsaved_first].v];
    }
    for (uint32_t i = 0; i < CN_TIERS_PUTS; i++) {
        const cn_tiers_transfer *put = &t->puts[i];
        if (put->is_under_way && t->frame_ns[put->frame.v] < since_ns) {
            since_ns = t->frame_ns[put->frame.v];
        }
    }
    return t->now_ns - since_ns;
}

static void publish(cn_tiers *t)
{
    cn_metrics *m = t->options.metrics;
    cn_host_counts counts;
    uint32_t lag = t->queue_count + t->unsaved_count + CN_TIERS_PUTS - t->free_put_count;
    const uint32_t asked = CN_TIERS_GETS - t->free_get_count;    // may turn out not to be there
    for (uint32_t i = 0; i < t->move_count; i++) lag += t->moves[i].restore == NULL;
    cn_host_cache_counts(t->host, &counts);
    cn_metrics_set(&m->host_pages_used, counts.pinned + counts.idle);
    cn_metrics_set(&m->write_behind_pages, lag);
    cn_metrics_set(&m->write_behind_oldest_ns, oldest_ns(t));
    cn_metrics_set(&m->host_rate, (uint64_t)cn_tier_rate_per_s(&t->host_rate));
    cn_metrics_set(&m->store_rate, (uint64_t)cn_tier_rate_per_s(&t->store_rate));
    cn_metrics_set(&m->compute_rate, (uint64_t)cn_tier_rate_per_s(&t->compute_rate));
    atomic_store_explicit(&t->unsaved_pages, cn_tiers_store_is_up(t) ? lag + asked : 0,
                          memory_order_relaxed);
}

bool cn_tiers_poll(cn_tiers *t, uint64_t step_ns)
{
    t->now_ns = cn_clock_now_ns(&t->options.clock);
    bool worked = finish_transfers(t);
    worked |= finish_copies(t);
    cn_tiers_advance_restores(t);
    worked |= start_copies(t, step_ns);
    worked |= start_puts(t);
    publish(t);
    return worked;
}

uint64_t cn_tiers_sleep_ns(const cn_tiers *t)
{
    uint64_t until_ns = UINT64_MAX;
    if (t->unsaved_count > 0 && t->down_until_ns > t->now_ns) until_ns = t->down_until_ns;
    for (uint32_t i = 0; i < t->active_count; i++) {
        const cn_restore *r = t->active[i];
        if (r->ready < r->limit && !r->yielded && r->deadline_ns < until_ns) until_ns = r->deadline_ns;
    }
    if (until_ns == UINT64_MAX) return UINT64_MAX;
    return until_ns > t->now_ns ? until_ns - t->now_ns : 0;
}

uint32_t cn_tiers_unsaved(const cn_tiers *t)
{
    return atomic_load_explicit(&t->unsaved_pages, memory_order_relaxed);
}

void cn_tiers_check(const cn_tiers *t)
{
    cn_host_counts counts;
    uint32_t pins = t->unsaved_count + CN_TIERS_GETS - t->free_get_count + CN_TIERS_PUTS - t->free_put_count;
    for (uint32_t i = 0; i < t->active_count; i++) {
        const cn_restore *r = t->active[i];
        CN_ASSERT(r->held <= r->moving_end && r->moving_end <= r->ready);
        CN_ASSERT(r->ready <= r->asked && r->asked <= r->limit && r->limit <= r->count);
        pins += r->asked - r->held;
    }
    for (uint32_t i = 0; i < t->move_count; i++) pins += t->moves[i].restore == NULL;
    cn_host_cache_check(t->host);
    cn_host_cache_counts(t->host, &counts);
    CN_ASSERT(pins == counts.pins);
    CN_ASSERT(t->active_count + t->free_restore_count == CN_TIERS_RESTORES);
}
