#include "scheduler/compose_int.h"

#include "base/assert.h"

/* How it works. There is no prefill or decode phase: a sequence has positions that are known and
 * positions that were submitted, and each step lets it catch up. One that lacks a single position
 * decodes; these go first, so that a long prompt never makes the others wait. What is left of the
 * token budget goes to prompts, oldest first, in chunks.
 *
 * A sequence is admitted with all pages of what is known of it, so only decoding ever takes pages from
 * a full pool. When it fails, the sequence that was admitted last loses its place: its sealed pages
 * stay in the index, it goes to the head of the queue, and computes later what is lost by then. Its
 * next token is keyed by seed and position, so it is the one that it would have been.
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
    s->state = CN_SEQUENCE_WAITING;
    cn_sequence_list_prepend(&e->waiting, s);
    cn_metrics_add(&e->options.metrics->preemptions, 1);
}

// Room for one more position, at the cost of the newest others; false if `s` itself had to go.
static bool make_room(cn_engine *e, cn_sequence *s)
{
    while (grow(e, s, s->submitted_count + 1) != CN_OK) {
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

static void add_prefills(cn_engine *e)
{
    for (cn_sequence *s = e->running.oldest; s; s = s->newer) {
        const uint32_t missing = missing_positions(s), room = cn_batch_token_room(&e->batch);
        if (room == 0) return;
        if (missing > 1) add_chunk(e, s, missing < room ? missing : room);
    }
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
    const cn_generation *g = s->generation;
    const cn_page_key root = cn_page_key_root(&e->kv, e->options.model, g->salt);
    const bool reports = g->prompt_logprobs && s->choice == 0 && s->reported_count < g->prompt_count;
    if (reports) s->chain = root;        // every row must be computed to have its logits
    else cn_sequence_find_prefix(s, e->pool, &root);
}

static void report_start(cn_engine *e, cn_sequence *s)
{
    cn_metrics *m = e->options.metrics;
    s->started = true;
    atomic_fetch_sub_explicit(&e->queued, 1, memory_order_relaxed);
    cn_metrics_add(&m->prompt_tokens, s->generation->prompt_count);
    cn_metrics_add(&m->cached_tokens, s->submitted_count);
    cn_histogram_add(&m->queue_ns, e->now_ns - s->generation->submitted_ns);
    cn_port_emit(s->port, &(cn_event){.generation = s->generation, .kind = CN_EVENT_STARTED,
                                      .choice = s->choice, .cached_tokens = s->submitted_count});
}

typedef enum verdict { ADMITTED, DEFERRED, BLOCKED } verdict;

// A place in the batch, if there are pages for all that is known of the sequence.
static verdict admit(cn_engine *e, cn_sequence *s)
{
    const uint32_t length = cn_sequence_length(s);
    if (still_awaits(s)) return DEFERRED;
    if (cn_page_pool_available(e->pool) < s->pages_wanted) return BLOCKED;
    s->slot.v = e->free_slots[e->free_slot_count - 1];
    s->pages = e->tables + (size_t)s->slot.v * e->pages_per_slot;
    find_cached(e, s);
    if (await_prefix(e, s)) {
        cn_sequence_release(s, e->pool);
        return DEFERRED;
    }
    const uint32_t missing = (length + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS - s->page_count;
    // One page beside for each running sequence, or they would soon push this one out again.
    if (cn_page_pool_available(e->pool) < missing + e->running.count) {
        cn_sequence_release(s, e->pool);
        s->pages_wanted = cn_page_pool_available(e->pool) + 1;
        return BLOCKED;
    }
    copy_partial_page(e, s);
    const cn_code code = cn_sequence_grow(s, e->pool, length);
    CN_ASSERT(code == CN_OK);
    e->free_slot_count--;
    s->pages_wanted = 0;
    s->awaited = NULL;
    return ADMITTED;
}

static void seat(cn_engine *e, cn_sequence *s)
{
    cn_sequence_list_remove(&e->waiting, s);
    s->state = CN_SEQUENCE_RUNNING;
    cn_sequence_list_append(&e->running, s);
    cn_batch_open_slot(&e->batch, s);
    for (uint32_t i = 0; i < s->page_count; i++) cn_batch_add_delta(&e->batch, s, i);
    if (!s->started) report_start(e, s);
    const uint32_t missing = missing_positions(s), room = cn_batch_token_room(&e->batch);
    add_chunk(e, s, missing < room ? missing : room);
}

static void admit_waiting(cn_engine *e)
{
    for (cn_sequence *s = e->waiting.oldest, *newer; s; s = newer) {
        newer = s->newer;
        if (cn_batch_token_room(&e->batch) == 0 || e->free_slot_count == 0) return;
        if (cn_batch_delta_room(&e->batch) < e->pages_per_slot) return;
        const verdict v = admit(e, s);
        if (v == BLOCKED) return;        // in order: a big one is not starved by small ones
        if (v == ADMITTED) seat(e, s);
    }
}

void cn_compose_step(cn_engine *e)
{
    add_decodes(e);
    add_prefills(e);
    admit_waiting(e);
}
