#include "scheduler/compose_int.h"

#include "base/assert.h"
#include "scheduler/restore_int.h"

/* How it works. There is no prefill or decode phase: a sequence has positions that are known and
 * positions that were submitted, and each step lets it catch up. One that lacks a single position
 * decodes; these go first, so that a long prompt never makes the others wait. What is left of the
 * token budget goes to prompts, oldest first, in chunks.
 *
 * Between tenants, whoever has had least goes first, with its prompts under way and then with the ones
 * that wait (fair.c). One that finds no place in the batch takes one from a tenant with more than its
 * share of them that has had more: the sequence that was admitted last loses its place. So it is with
 * pages.
 *
 * A sequence is admitted with all pages of what is known of it, so only decoding ever takes pages from
 * a full pool. When it fails, the sequence that was admitted last loses its place: its sealed pages
 * stay in the index, it goes to the head of the queue, and computes later what is lost by then. Its
 * next token is keyed by seed and position, so it is the one that it would have been.
 *
 * A waiting sequence whose pages are on their way from another tier is passed over; the ones behind it
 * are admitted meanwhile (restore.c).
 *
 * A sequence may read a page only after the step that filled it is done, and may write into one that
 * somebody lost at once: steps run in the order of submission. */

// Positions that the sequence could be given now.
static uint32_t missing_positions(const cn_sequence *s)
{
    const cn_generation *g = s->generation;
    const uint32_t known = cn_sequence_length(s) + s->sample_count;
    const uint32_t last = g->prompt_count + (g->tokens_max > 0 ? g->tokens_max - 1 : 0);
    return (known < last ? known : last) - s->submitted_count;
}

static void add_chunk(cn_engine *e, cn_sequence *s, uint32_t token_count)
{
    const uint32_t known = cn_sequence_length(s) + s->sample_count;
    const bool to_the_end = s->submitted_count + token_count == known;
    cn_batch_add_tokens(&e->batch, s, token_count, to_the_end && s->generation->tokens_max > 0);
    cn_fair_charge(cn_fair_of(&e->fair, s), token_count);
}

// Takes missing pages up to `token_count` positions and tells the backend about them.
static cn_code grow(cn_engine *e, cn_sequence *s, uint32_t token_count)
{
    const uint32_t before = s->page_count;
    const cn_code code = cn_sequence_grow(s, e->pool, token_count);
    for (uint32_t i = before; i < s->page_count; i++) cn_batch_add_delta(&e->batch, s, i);
    return code;
}

static void preempt(cn_engine *e, cn_sequence *s)
{
    cn_engine_unseat(e, s);
    cn_sequence_list_remove(&e->running, s);
    cn_fair_leave(&e->fair, s);
    s->state = CN_SEQUENCE_WAITING;
    s->asked = false;
    cn_fair_enter(&e->fair, s, true);
    cn_metrics_add(&e->options.metrics->preemptions, 1);
}

// Room for one more position, at the cost of those that wait and of the newest others; false if `s`
// itself had to go.
static bool make_room(cn_engine *e, cn_sequence *s)
{
    while (grow(e, s, s->submitted_count + 1) != CN_OK) {
        if (cn_restore_yield(e, NULL)) continue;
        cn_sequence *victim = e->running.newest;
        preempt(e, victim);
        if (victim == s) return false;
    }
    return true;
}

static void add_decodes(cn_engine *e)
{
    for (cn_sequence *s = e->running.oldest, *newer; s; s = newer) {
        if (missing_positions(s) == 1 && cn_batch_token_room(&e->batch) > 0) {
            if (!make_room(e, s)) return;        // s was the newest: nobody is left behind it
            add_chunk(e, s, 1);
        }
        newer = s->newer;
    }
}

// The oldest prompt under way of the tenant that is not up to date.
static cn_sequence *find_prefill(const cn_engine *e, const cn_fair_tenant *t)
{
    if (t->running == 0) return NULL;
    for (cn_sequence *s = e->running.oldest; s; s = s->newer) {
        if (cn_fair_of(&e->fair, s) == t && missing_positions(s) > 1) return s;
    }
    return NULL;
}

static void add_prefill(cn_engine *e, cn_sequence *s)
{
    const uint32_t missing = missing_positions(s), room = cn_batch_token_room(&e->batch);
    add_chunk(e, s, missing < room ? missing : room);
}

/* A running sequence that is computing more of this one's prefix than is cached: waiting for it is
 * cheaper than computing the same pages beside it. */
static bool await_prefix(cn_engine *e, cn_sequence *s)
{
    for (cn_sequence *r = e->running.oldest; r; r = r->newer) {
        if (!cn_sequence_prefilling(r)) continue;
        const uint32_t common = cn_sequence_common_pages(s, r);
        if (common <= s->page_count || common <= r->sealed_count) continue;
        s->awaited = r;
        s->awaited_epoch = r->epoch;
        s->awaited_pages = common;
        return true;
    }
    return false;
}

static bool still_awaits(const cn_sequence *s)
{
    return s->awaited && s->awaited->epoch == s->awaited_epoch &&
           s->awaited->sealed_count < s->awaited_pages;
}

/* Starts a choice of an answered prompt from a copy of choice 0's last, partly filled page, so that
 * it has only the last prompt token to compute. */
static void copy_partial_page(cn_engine *e, cn_sequence *s)
{
    const cn_sequence *parent = s->parent;
    const uint32_t start = s->generation->prompt_count - 1, index = start / CN_PAGE_TOKENS;
    if (!parent || parent->epoch != s->parent_epoch || parent->state != CN_SEQUENCE_RUNNING) return;
    if (s->output_count > 0 || s->page_count != index || parent->page_count <= index) return;
    if (cn_sequence_grow(s, e->pool, start + 1) != CN_OK) return;
    cn_batch_add_copy(&e->batch, parent->pages[index], s->pages[index]);
    s->submitted_count = s->done_count = start;
}

static void find_cached(cn_engine *e, cn_sequence *s)
{
    s->chain = s->root;
    cn_restore_adopt(e, s);
    if (!cn_sequence_reports(s)) cn_sequence_find_prefix(s, e->pool);
}

static uint32_t tokens_of(uint32_t page_count, uint32_t at_most)
{
    const uint32_t tokens = page_count * CN_PAGE_TOKENS;
    return tokens < at_most ? tokens : at_most;
}

static void report_start(cn_engine *e, cn_sequence *s)
{
    cn_metrics *m = e->options.metrics;
    const uint32_t cached = s->submitted_count;
    const uint32_t host = tokens_of(s->pages_from[CN_TIER_HOST], cached);
    const uint32_t store = tokens_of(s->pages_from[CN_TIER_STORE], cached - host);
    s->started = true;
    cn_engine_dequeue(e, s);
    cn_metrics_add(&m->prompt_tokens, s->generation->prompt_count);
    cn_metrics_add(&m->cached_tokens, cached - host - store);
    cn_metrics_add(&m->cached_host_tokens, host);
    cn_metrics_add(&m->cached_store_tokens, store);
    const uint64_t wait_ns = e->now_ns - s->generation->submitted_ns;
    cn_metrics_observe(&m->queue_ns, wait_ns);
    cn_port_emit(s->port, &(cn_event){.generation = s->generation, .kind = CN_EVENT_STARTED,
                                      .choice = s->choice, .cached_tokens = cached,
                                      .host_tokens = host, .store_tokens = store,
                                      .wait_ns = wait_ns, .restore_ns = s->restore_ns});
}

typedef enum verdict { ADMITTED, DEFERRED, BLOCKED } verdict;

/* Pages for all that is known of the sequence beside the `page_count` that it has, and one for each
 * running sequence, or they would soon push this one out again. */
static bool fits(const cn_engine *e, const cn_sequence *s, uint32_t page_count)
{
    const uint32_t pages = (cn_sequence_length(s) + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    return cn_page_pool_available(e->pool) >= pages - page_count + e->running.count;
}

// Pages that the sequence could use: those of others, and those that were brought back for it.
static uint32_t usable_pages(const cn_engine *e, const cn_sequence *s)
{
    return cn_page_pool_available(e->pool) + (s->restore ? cn_tiers_restore_count(s->restore) : 0);
}

static verdict block(cn_engine *e, cn_sequence *s)
{
    s->pages_wanted = usable_pages(e, s) + 1;
    return BLOCKED;
}

// A place in the batch, if there are pages for all that is known of the sequence.
static verdict admit(cn_engine *e, cn_sequence *s)
{
    if (still_awaits(s) || cn_restore_pending(s)) return DEFERRED;
    if (usable_pages(e, s) < s->pages_wanted) return BLOCKED;
    if (s->restore && cn_tiers_restore_yielded(s->restore)) {
        cn_restore_drop(e, s);
        s->asked = false;
    }
    if (cn_restore_ask(e, s)) return DEFERRED;
    if (s->restore && !fits(e, s, cn_tiers_restore_count(s->restore))) return block(e, s);
    s->slot.v = e->free_slots[e->free_slot_count - 1];
    s->pages = e->tables + (size_t)s->slot.v * e->pages_per_slot;
    find_cached(e, s);
    if (await_prefix(e, s)) {
        cn_sequence_release(s, e->pool);
        return DEFERRED;
    }
    if (!fits(e, s, s->page_count)) {
        cn_sequence_release(s, e->pool);
        return block(e, s);
    }
    copy_partial_page(e, s);
    const cn_code code = cn_sequence_grow(s, e->pool, cn_sequence_length(s));
    CN_ASSERT(code == CN_OK);
    e->free_slot_count--;
    s->pages_wanted = 0;
    s->awaited = NULL;
    return ADMITTED;
}

static void seat(cn_engine *e, cn_sequence *s)
{
    cn_engine_move(e, s, CN_SEQUENCE_RUNNING);
    cn_batch_open_slot(&e->batch, s);
    for (uint32_t i = 0; i < s->page_count; i++) cn_batch_add_delta(&e->batch, s, i);
    if (!s->started) report_start(e, s);
    add_prefill(e, s);
}

/* The next waiting sequence of the tenant that can have a place gets it: ADMITTED. DEFERRED: none can
 * now. BLOCKED: the next one lacks pages. */
static verdict admit_next(cn_engine *e, cn_fair_tenant *t)
{
    while (t->cursor) {
        cn_sequence *s = t->cursor;
        if (e->free_slot_count == 0) return DEFERRED;
        if (cn_batch_delta_room(&e->batch) < e->pages_per_slot) return DEFERRED;
        verdict v = admit(e, s);
        // Nobody runs who would give pages back: those brought back for others must do it.
        if (v == BLOCKED && e->running.count == 0 && cn_restore_yield(e, s)) v = admit(e, s);
        if (v == BLOCKED) return v;
        t->cursor = s->newer;
        if (v == DEFERRED) continue;
        seat(e, s);
        return v;
    }
    return DEFERRED;
}

// One that lacks pages holds up all that would be admitted after it, or small ones would starve it.
static void share_out(cn_engine *e)
{
    cn_fair_tenant *t;
    bool closed = false;
    while (cn_batch_token_room(&e->batch) > 0 && (t = cn_fair_next(&e->fair))) {
        cn_sequence *s = find_prefill(e, t);
        const verdict v = s || closed ? DEFERRED : admit_next(e, t);
        if (s) add_prefill(e, s);
        else t->passed = v != ADMITTED;
        closed |= v == BLOCKED;
    }
}

// ---- what a tenant has beyond its share

typedef enum good { PLACES, PAGES } good;

static double share_of(const cn_engine *e, const cn_fair_tenant *t, good g)
{
    const cn_engine_options *o = &e->options;
    const double share = cn_fair_share(&e->fair, t, g == PLACES ? o->slot_count : o->page_count);
    return share < 1 ? 1 : share;
}

static uint32_t held_by(const cn_engine *e, const cn_fair_tenant *t, good g)
{
    uint32_t count = 0;
    if (g == PLACES) return t->running;
    for (const cn_sequence *s = e->running.oldest; s; s = s->newer) {
        if (cn_fair_of(&e->fair, s) == t) count += s->page_count;
    }
    return count;
}

// The sequence that came last of the tenant that is furthest above its share; NULL: none is.
static cn_sequence *find_excess(const cn_engine *e, good g)
{
    const cn_fair_tenant *most = NULL;
    double most_excess = 0;
    for (uint32_t i = 0; i < e->fair.active_count; i++) {
        const cn_fair_tenant *t = &e->fair.tenants[e->fair.active[i]];
        const double excess = held_by(e, t, g) - share_of(e, t, g);
        if (excess <= most_excess) continue;
        most = t;
        most_excess = excess;
    }
    cn_sequence *s = most ? e->running.newest : NULL;
    while (s && cn_fair_of(&e->fair, s) != most) s = s->older;
    return s;
}

// The tenant that has had least of those whose oldest waiting sequence lacks what others have.
static const cn_fair_tenant *find_want(const cn_engine *e, good g)
{
    const cn_fair_tenant *least = NULL;
    for (uint32_t i = 0; i < e->fair.active_count; i++) {
        const cn_fair_tenant *t = &e->fair.tenants[e->fair.active[i]];
        const cn_sequence *s = t->waiting.oldest;
        if (!s || (g == PAGES && usable_pages(e, s) >= s->pages_wanted)) continue;
        if (!least || t->had < least->had) least = t;
    }
    return least;
}

/* Before anybody is in the step. What is taken goes from a tenant above its share to one that has had
 * less, so nobody takes it back. */
static void reclaim(cn_engine *e)
{
    for (uint32_t i = 0; i < e->options.slot_count && e->fair.active_count > 1; i++) {
        const good g = e->free_slot_count <= i ? PLACES : PAGES;
        const cn_fair_tenant *want = find_want(e, g);
        cn_sequence *excess = want ? find_excess(e, g) : NULL;
        if (!excess || want->had >= cn_fair_of(&e->fair, excess)->had) return;
        if (g == PLACES && e->free_slot_count >= want->waiting.count) return;
        preempt(e, excess);
    }
}

// Whether the step had less for the tenant than it wanted.
static bool wants_more(const cn_fair_tenant *t, void *engine)
{
    return t->waiting.count > 0 || find_prefill(engine, t);
}

void cn_compose_step(cn_engine *e)
{
    reclaim(e);
    cn_fair_begin(&e->fair);
    add_decodes(e);
    share_out(e);
    cn_fair_end(&e->fair, wants_more, e);
}
