#include "scheduler/engine_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/compose_int.h"
#include "scheduler/restore_int.h"

/* How it works. A sequence is in one of four lists:
 *
 *    submit ──▶ waiting ──compose──▶ running ──finish──▶ free
 *      │          ▲  ▲                  │
 *      ▼          │  └─────preempt──────┘
 *   forking ──prompt done (choices 1.. of a generation)
 *
 * Steps come back in the order of submission, and a record says whom each output belongs to. A
 * sequence that lost its slot meanwhile has another epoch, so what an older step says of it is
 * dropped: after the end of an answer that is the one token computed in vain, after a preemption a
 * token that will be computed again with the same bits.
 *
 * Every round first makes sure that whatever it may report fits into every port's ring. If not, it
 * does nothing: the device stands still until the reader has caught up, and nothing grows. */

enum {
    CREDIT_STEPS = 64,           // whole steps; with 8, bursts within a share wait (test_fair)
    PENDING_STARTED_MAX = 4,     // sequences that started and wait again, per slot: see take_order
    WRITE_BEHIND_MAX = 16384     // sealed pages that wait to be written behind; each costs 72 bytes
};

// ---- open and close

static cn_code check_options(const cn_engine_options *o, cn_err *err)
{
    if (o->step_tokens < o->slot_count + CN_PAGE_TOKENS) {
        return cn_err_set(err, CN_E_INVALID,
                          "engine.step_tokens: %u; must be at least engine.sequences + %d (%u), so "
                          "that prompts go on while every sequence decodes",
                          o->step_tokens, CN_PAGE_TOKENS, o->slot_count + CN_PAGE_TOKENS);
    }
    if (o->page_count < 2) {
        return cn_err_set(err, CN_E_INVALID, "kv.bytes: room for %u pages; must be at least 2",
                          o->page_count);
    }
    return CN_OK;
}

// Deltas of one step: of decodes and equal pages found since the last, and of whole new sequences.
static uint32_t delta_capacity(const cn_engine *e)
{
    const cn_engine_options *o = &e->options;
    return 2 * e->pages_per_slot + 4 * o->slot_count + o->step_tokens / CN_PAGE_TOKENS * 4;
}

static cn_code open_memory(cn_engine *e)
{
    const cn_engine_options *o = &e->options;
    const uint32_t tenant_count = o->tenant_count ? o->tenant_count : 1;
    const cn_code fair = cn_fair_open(&e->fair, tenant_count, o->step_tokens * CREDIT_STEPS);
    if (fair != CN_OK) return fair;
    const uint32_t sequence_count = o->queue_max + o->slot_count * PENDING_STARTED_MAX;
    e->sequences = calloc(sequence_count, sizeof *e->sequences);
    e->queued_of = calloc(tenant_count, sizeof *e->queued_of);
    e->free_slots = calloc(o->slot_count, sizeof *e->free_slots);
    e->tables = calloc((size_t)o->slot_count * e->pages_per_slot, sizeof *e->tables);
    e->ports = calloc(o->port_count, sizeof *e->ports);
    if (!e->sequences || !e->queued_of || !e->free_slots || !e->tables || !e->ports) return CN_E_MEMORY;
    for (uint32_t i = 0; i < sequence_count; i++) {
        cn_sequence_list_append(&e->free, &e->sequences[i]);
    }
    while (e->free_slot_count < o->slot_count) {
        e->free_slots[e->free_slot_count] = o->slot_count - 1 - e->free_slot_count;
        e->free_slot_count++;
    }
    e->event_reserve = o->step_tokens + 3 * o->slot_count + o->choices_max;
    while (e->port_count < o->port_count) {
        cn_engine_port *port = &e->ports[e->port_count++];
        const cn_code code = cn_port_open(port, e, o->queue_max * 2, e->event_reserve * 2);
        if (code != CN_OK) return code;
    }
    if (cn_page_pool_open(o->page_count, o->index_seed, &e->pool) != CN_OK) return CN_E_MEMORY;
    return cn_batch_open(&e->batch, o->slot_count, o->step_tokens, delta_capacity(e));
}

static cn_code open_tiers(cn_engine *e, cn_err *err)
{
    const cn_engine_options *o = &e->options;
    if (!o->store && o->host_bytes == 0) return CN_OK;
    const cn_tiers_options tiers = {
        .backend = o->backend, .pool = e->pool, .store = o->store, .page_bytes = e->kv.page_bytes,
        .host_bytes = o->host_bytes, .tenant_percent = o->tenant_percent,
        .chain_max = e->pages_per_slot, .queue_max = WRITE_BEHIND_MAX, .seed = o->index_seed,
        .clock = o->clock, .metrics = o->metrics,
    };
    if (o->store) cn_store_port_attach(o->store, o->wake);
    return cn_tiers_open(&tiers, &e->tiers, err);
}

cn_code cn_engine_open(const cn_engine_options *options, cn_engine **out, cn_err *err)
{
    *out = NULL;
    cn_code code = check_options(options, err);
    if (code != CN_OK) return code;
    cn_engine *e = calloc(1, sizeof *e);
    if (!e) return cn_err_set(err, CN_E_MEMORY, "engine: no memory");
    e->options = *options;
    const uint64_t pool_tokens = (uint64_t)options->page_count * CN_PAGE_TOKENS;
    e->info = (cn_engine_info){
        .context_tokens_max = pool_tokens < options->context_tokens_max
                                  ? (uint32_t)pool_tokens : options->context_tokens_max,
        .page_count = options->page_count,
        .slot_count = options->slot_count,
    };
    e->pages_per_slot = (e->info.context_tokens_max + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    const cn_kv_options kv = {
        .page_count = options->page_count,
        .slot_count = options->slot_count,
        .context_tokens_max = e->info.context_tokens_max,
        .step_tokens_max = options->step_tokens,
        .step_outputs_max = options->step_tokens + options->slot_count,
        .step_deltas_max = delta_capacity(e),
    };
    options->backend->ops->kv_info(options->backend, &e->kv);
    e->info.page_bytes = e->kv.page_bytes;
    code = open_memory(e);
    if (code != CN_OK) cn_err_set(err, code, "engine: no memory for its queues");
    else code = options->backend->ops->kv_create(options->backend, &kv, err);
    if (code == CN_OK) code = open_tiers(e, err);
    if (code != CN_OK) {
        cn_engine_close(e);
        return code;
    }
    cn_metrics_set(&options->metrics->pages, options->page_count);
    *out = e;
    return CN_OK;
}

void cn_engine_close(cn_engine *e)
{
    if (!e) return;
    for (uint32_t i = 0; i < e->port_count; i++) cn_port_close(&e->ports[i]);
    cn_batch_close(&e->batch);
    cn_fair_close(&e->fair);
    cn_tiers_close(e->tiers);
    cn_page_pool_close(e->pool);
    free(e->ports);
    free(e->tables);
    free(e->free_slots);
    free(e->queued_of);
    free(e->sequences);
    free(e);
}

void cn_engine_info_get(const cn_engine *engine, cn_engine_info *out) { *out = engine->info; }

cn_engine_port *cn_engine_port_at(cn_engine *engine, uint32_t index)
{
    CN_ASSERT(index < engine->port_count);
    return &engine->ports[index];
}

// ---- the end of a sequence

void cn_engine_unseat(cn_engine *e, cn_sequence *s)
{
    cn_sequence_release(s, e->pool);
    e->free_slots[e->free_slot_count++] = s->slot.v;
}

// The list of its state; NULL: waiting, which the tenant has.
static cn_sequence_list *list_of(cn_engine *e, const cn_sequence *s)
{
    switch (s->state) {
    case CN_SEQUENCE_FORKING: return &e->forking;
    case CN_SEQUENCE_WAITING: return NULL;
    case CN_SEQUENCE_RUNNING: return &e->running;
    case CN_SEQUENCE_FREE: break;
    }
    return &e->free;
}

static void leave(cn_engine *e, cn_sequence *s)
{
    if (list_of(e, s)) cn_sequence_list_remove(list_of(e, s), s);
    if (s->state != CN_SEQUENCE_FREE) cn_fair_leave(&e->fair, s);
}

static void enter(cn_engine *e, cn_sequence *s, cn_sequence_state state)
{
    s->state = state;
    if (state != CN_SEQUENCE_FREE) cn_fair_enter(&e->fair, s, false);
    if (list_of(e, s)) cn_sequence_list_append(list_of(e, s), s);
}

void cn_engine_move(cn_engine *e, cn_sequence *s, cn_sequence_state to)
{
    leave(e, s);
    enter(e, s, to);
}

// Choices 1.. of a generation may go on by themselves.
static void release_forks(cn_engine *e, const cn_generation *generation)
{
    for (cn_sequence *s = e->forking.oldest, *newer; s; s = newer) {
        newer = s->newer;
        if (s->generation == generation) cn_engine_move(e, s, CN_SEQUENCE_WAITING);
    }
}

static _Atomic uint64_t *finish_metric(cn_metrics *m, cn_finish finish)
{
    switch (finish) {
    case CN_FINISH_STOP: return &m->sequences_finished;
    case CN_FINISH_LENGTH: return &m->sequences_length;
    case CN_FINISH_CANCELLED: return &m->sequences_cancelled;
    case CN_FINISH_ERROR: break;
    }
    return &m->sequences_failed;
}

void cn_engine_finish(cn_engine *e, cn_sequence *s, cn_finish finish, cn_code code)
{
    cn_generation *g = s->generation;
    if (s->state == CN_SEQUENCE_RUNNING) cn_engine_unseat(e, s);
    cn_restore_drop(e, s);
    if (!s->started) cn_engine_dequeue(e, s);
    if (s->choice == 0) release_forks(e, g);
    cn_engine_move(e, s, CN_SEQUENCE_FREE);
    s->generation = NULL;
    cn_metrics_add(finish_metric(e->options.metrics, finish), 1);
    g->engine_open--;
    cn_port_emit(s->port, &(cn_event){.generation = g, .kind = CN_EVENT_FINISHED,
                                      .finish = finish, .code = code, .choice = s->choice,
                                      .last = g->engine_open == 0});
}

// ---- orders

static void start_sequences(cn_engine *e, cn_engine_port *port, cn_generation *g)
{
    cn_sequence *first = NULL;
    const cn_page_key root = cn_page_key_root(&e->kv, e->options.model, g->salt);
    g->engine_open = g->choice_count;
    for (uint32_t choice = 0; choice < g->choice_count; choice++) {
        cn_sequence *s = e->free.oldest;
        const uint32_t epoch = s->epoch + 1;
        leave(e, s);
        *s = (cn_sequence){.generation = g, .port = port, .choice = choice, .epoch = epoch,
                           .root = root, .reported_count = 1, .tenant = g->tenant,
                           .weight = g->weight ? g->weight : 1};
        if (!first) first = s;
        else {
            s->parent = first;
            s->parent_epoch = first->epoch;
        }
        enter(e, s, s == first ? CN_SEQUENCE_WAITING : CN_SEQUENCE_FORKING);
    }
}

static void cancel_in(cn_engine *e, const cn_sequence_list *list, const cn_order *order)
{
    for (cn_sequence *s = list->oldest, *newer; s; s = newer) {
        newer = s->newer;
        if (s->generation != order->generation) continue;
        if (order->choice != CN_CHOICE_ALL && order->choice != s->choice) continue;
        cn_engine_finish(e, s, CN_FINISH_CANCELLED, CN_OK);
    }
}

// Backwards: a tenant whose last sequence ends leaves its place to the last one.
static void cancel_waiting(cn_engine *e, const cn_order *order)
{
    for (uint32_t i = e->fair.active_count; i-- > 0;) {
        if (i < e->fair.active_count) {
            cancel_in(e, &e->fair.tenants[e->fair.active[i]].waiting, order);
        }
    }
}

/* The pointer of a CANCEL is only compared: the generation may have ended, and been freed, while the
 * order was on its way. */
static bool take_order(cn_engine *e, cn_engine_port *port)
{
    const cn_order *order = cn_ring_peek(port->orders);
    if (!order || !cn_port_has_room(port, e->event_reserve)) return false;
    if (order->kind == CN_ORDER_SUBMIT) {
        // Preempted sequences beyond what open_memory foresees hold up new ones, not each other.
        if (e->free.count < order->generation->choice_count) return false;
        start_sequences(e, port, order->generation);
    } else {
        cancel_in(e, &e->forking, order);
        cancel_waiting(e, order);
        cancel_in(e, &e->running, order);
    }
    cn_ring_pop(port->orders);
    return true;
}

// ---- results

static bool is_stop(const cn_generation *g, int32_t token)
{
    for (uint32_t i = 0; i < g->stop_count; i++) {
        if (g->stop_ids[i] == token) return true;
    }
    return false;
}

static void emit_token(const cn_sequence *s, cn_event_kind kind, const cn_step_output *output)
{
    cn_event event = {.generation = s->generation, .kind = kind, .choice = s->choice,
                      .position = output->position, .token = output->token,
                      .logprob = output->logprob, .top_count = output->top_count};
    memcpy(event.top, output->top, output->top_count * sizeof(cn_logprob));
    cn_port_emit(s->port, &event);
}

static void time_token(cn_engine *e, cn_sequence *s)
{
    cn_metrics *m = e->options.metrics;
    if (s->output_count > 1) cn_metrics_observe(&m->inter_token_ns, e->now_ns - s->token_ns);
    cn_metrics_add(&m->generated_tokens, 1);
    s->token_ns = e->now_ns;
}

static void take_sample(cn_engine *e, cn_sequence *s, const cn_step_output *output)
{
    const cn_generation *g = s->generation;
    s->sample_count--;
    if (output->code != CN_OK) {
        cn_engine_finish(e, s, CN_FINISH_ERROR, output->code);
        return;
    }
    CN_ASSERT(output->position == cn_sequence_length(s));
    cn_sequence_output(s)[s->output_count++] = output->token;
    time_token(e, s);
    emit_token(s, CN_EVENT_TOKEN, output);
    if (is_stop(g, output->token)) cn_engine_finish(e, s, CN_FINISH_STOP, CN_OK);
    else if (s->output_count == g->tokens_max) cn_engine_finish(e, s, CN_FINISH_LENGTH, CN_OK);
}

static void seal_done(cn_engine *e, cn_sequence *s)
{
    while ((s->sealed_count + 1) * CN_PAGE_TOKENS <= s->done_count) {
        const cn_page_key before = s->chain;
        const uint32_t index = s->sealed_count;
        if (cn_sequence_seal_next(s, e->pool)) {
            cn_batch_add_delta(&e->batch, s, index);
        } else if (e->tiers) {
            cn_tiers_sealed(e->tiers, &(cn_host_page){.key = s->chain, .parent = before,
                                                      .index = index, .tenant = s->root.bytes[0]});
        }
    }
}

// What one finished step says of one sequence that still has its place.
static void absorb(cn_engine *e, cn_sequence *s, uint32_t end_count, const cn_step_output *outputs,
                   uint32_t count)
{
    const cn_generation *g = s->generation;
    s->done_count = end_count;
    seal_done(e, s);
    if (s->choice == 0 && s->done_count >= g->prompt_count) release_forks(e, g);
    for (uint32_t i = 0; i < count; i++) {
        if (outputs[i].sampled) {
            take_sample(e, s, &outputs[i]);
            return;
        }
        emit_token(s, CN_EVENT_PROMPT, &outputs[i]);
        s->reported_count = outputs[i].position + 1;
    }
    if (g->tokens_max == 0 && s->done_count == g->prompt_count) {
        cn_engine_finish(e, s, CN_FINISH_LENGTH, CN_OK);
    }
}

static bool collect(cn_engine *e)
{
    cn_step_result result;
    if (!e->options.backend->ops->step_poll(e->options.backend, &result)) return false;
    const cn_batch_record *record = cn_batch_record_of(&e->batch, result.ticket);
    cn_metrics *m = e->options.metrics;
    uint32_t at = 0, tokens = 0, prompt_tokens = 0;
    for (uint32_t i = 0; i < record->count; i++) {
        const cn_batch_entry *entry = &record->entries[i];
        const uint32_t first = at;
        while (at < result.output_count && result.outputs[at].slot.v == entry->slot.v) at++;
        tokens += entry->token_count;
        if (entry->token_count > 1) prompt_tokens += entry->token_count;
        if (entry->sequence->epoch != entry->epoch) continue;
        if (result.code != CN_OK) {
            cn_engine_finish(e, entry->sequence, CN_FINISH_ERROR, result.code);
        } else {
            absorb(e, entry->sequence, entry->end_count, result.outputs + first, at - first);
        }
    }
    CN_ASSERT(at == result.output_count);
    cn_batch_retire(&e->batch);
    // A step with hardly anything but decodes says nothing of what a prompt costs.
    if (e->tiers && prompt_tokens > tokens / 2) {
        cn_tiers_prefilled(e->tiers, prompt_tokens, result.busy_ns);
    }
    cn_metrics_add(&m->steps, 1);
    cn_metrics_add(&m->step_tokens, tokens);
    cn_metrics_observe(&m->step_size, tokens);
    e->step_ns = result.busy_ns;
    cn_metrics_add(&m->device_busy_ns, result.busy_ns);
    cn_metrics_observe(&m->step_ns, result.busy_ns);
    return true;
}

// ---- what is where

void cn_engine_check(const cn_engine *e)
{
    uint32_t held = 0;
    cn_page_counts counts;
    cn_page_pool_check(e->pool);
    cn_page_pool_counts(e->pool, &counts);
    for (const cn_sequence *s = e->running.oldest; s; s = s->newer) {
        CN_ASSERT(s->state == CN_SEQUENCE_RUNNING && s->sealed_count <= s->page_count);
        CN_ASSERT(s->done_count <= s->submitted_count);
        CN_ASSERT(s->submitted_count <= s->page_count * CN_PAGE_TOKENS);
        held += s->page_count;
    }
    if (e->tiers) {
        cn_tiers_check(e->tiers);
        held += cn_tiers_held(e->tiers);
    }
    CN_ASSERT(held == counts.refs);
    CN_ASSERT(e->free_slot_count + e->running.count == e->options.slot_count);
}

#ifdef CN_SLOW_ASSERTS
// After every step where that is cheap, more rarely in a large pool: it walks all pages.
static bool check_now_and_then(const cn_engine *e)
{
    const uint64_t every = 1 + e->options.page_count / 512;
    if (cn_metrics_get(&e->options.metrics->steps) % every == 0) cn_engine_check(e);
    return true;
}
#endif

// ---- a round

static bool reports_fit(cn_engine *e)
{
    for (uint32_t i = 0; i < e->port_count; i++) {
        if (!cn_port_has_room(&e->ports[i], e->event_reserve)) return false;
    }
    return true;
}

static void update_gauges(cn_engine *e)
{
    cn_metrics *m = e->options.metrics;
    cn_page_counts counts;
    cn_page_pool_counts(e->pool, &counts);
    cn_metrics_set(&m->sequences_running, e->running.count);
    cn_metrics_set(&m->sequences_waiting, e->fair.waiting_count + e->forking.count);
    cn_metrics_set(&m->pages_held, counts.filling + counts.shared);
    cn_metrics_set(&m->pages_idle, counts.idle);
    cn_metrics_set(&m->page_evictions, counts.evictions);
}

bool cn_engine_poll(cn_engine *e)
{
    bool worked = false;
    e->asked = false;
    e->now_ns = cn_clock_now_ns(&e->options.clock);
    for (uint32_t i = 0; i < e->port_count; i++) {
        while (take_order(e, &e->ports[i])) worked = true;
    }
    while (reports_fit(e) && collect(e)) {
        CN_ASSERT_SLOW(check_now_and_then(e));
        worked = true;
    }
    if (e->tiers) {
        cn_restore_ahead(e);
        worked |= cn_tiers_poll(e->tiers, e->batch.record_count > 0 ? e->step_ns + 1 : 0);
    }
    if (reports_fit(e) && e->batch.record_count < CN_BATCH_IN_FLIGHT_MAX) {
        cn_compose_step(e);
        worked |= cn_batch_submit(&e->batch, e->options.backend) || e->asked;
    }
    if (worked) update_gauges(e);
    for (uint32_t i = 0; i < e->port_count; i++) cn_port_flush(&e->ports[i]);
    return worked;
}

uint64_t cn_engine_sleep_ns(const cn_engine *e)
{
    return e->tiers ? cn_tiers_sleep_ns(e->tiers) : UINT64_MAX;
}

uint32_t cn_engine_unsaved_pages(const cn_engine *e)
{
    return e->tiers ? cn_tiers_unsaved(e->tiers) : 0;
}

bool cn_engine_idle(const cn_engine *e)
{
    return e->running.count + e->fair.waiting_count + e->forking.count == 0;
}

// ---- the other side of a port

void cn_engine_port_attach(cn_engine_port *port, cn_wake *wake) { port->wake = wake; }

static cn_code queue_full(const cn_engine *e, cn_err *err)
{
    cn_metrics_add(&e->options.metrics->sequences_refused, 1);
    return cn_err_set(err, CN_E_QUEUE,
                      "the server is overloaded: the waiting queue is full (limits.queue_requests: "
                      "%u); retry later",
                      e->options.queue_max);
}

cn_code cn_engine_port_admit(cn_engine_port *port, uint32_t choice_count, cn_err *err)
{
    const cn_engine *e = port->engine;
    const uint32_t queued = atomic_load_explicit(&e->queued, memory_order_relaxed);
    if ((uint64_t)queued + choice_count > e->options.queue_max) return queue_full(e, err);
    return CN_OK;
}

static cn_code check_generation(const cn_engine *e, const cn_generation *g, cn_err *err)
{
    if (g->prompt_count == 0) {
        return cn_err_set_param(err, CN_E_INVALID, "prompt",
                                "the prompt has no tokens; must have at least 1");
    }
    if ((uint64_t)g->prompt_count + g->tokens_max > e->info.context_tokens_max) {
        return cn_err_set_param(err, CN_E_CONTEXT, "max_tokens",
                                "the prompt has %u tokens and max_tokens is %u, together %llu; the "
                                "context window holds %u",
                                g->prompt_count, g->tokens_max,
                                (unsigned long long)g->prompt_count + g->tokens_max,
                                e->info.context_tokens_max);
    }
    for (uint32_t i = 0; i < g->prompt_count; i++) {
        if (g->prompt[i] < 0 || (uint32_t)g->prompt[i] >= e->options.vocab_count) {
            return cn_err_set_param(err, CN_E_INVALID, "prompt",
                                    "prompt token %u: %d; must be 0 to %u", i, g->prompt[i],
                                    e->options.vocab_count - 1);
        }
    }
    CN_ASSERT(g->tenant < e->fair.tenant_count);
    if (g->choice_count == 0 || g->choice_count > e->options.choices_max) {
        return cn_err_set_param(err, CN_E_LIMIT, "n", "n: %u; must be 1 to %u (limits.choices)",
                                g->choice_count, e->options.choices_max);
    }
    return CN_OK;
}

/* Where there are several tenants, one may have at most three times the places of the queue that it
 * leaves free, so that whoever comes next finds some. */
static cn_code check_queue_share(const cn_engine *e, const cn_generation *g, uint32_t queued,
                                 uint32_t queued_of, cn_err *err)
{
    if (e->fair.tenant_count == 1) return CN_OK;
    if (queued_of + g->choice_count <= (uint64_t)(e->options.queue_max - queued) * 3) return CN_OK;
    cn_metrics_add(&e->options.metrics->sequences_refused, 1);
    return cn_err_set(err, CN_E_QUEUE, "this tenant has %u sequences in the waiting queue, and the rest "
                      "is for others (limits.queue_requests: %u); retry later", queued_of,
                      e->options.queue_max);
}

cn_code cn_engine_port_submit(cn_engine_port *port, cn_generation *g, cn_err *err)
{
    cn_engine *e = port->engine;
    const cn_code code = check_generation(e, g, err);
    if (code != CN_OK) return code;
    const cn_order order = {.kind = CN_ORDER_SUBMIT, .generation = g};
    const uint32_t queued =
        atomic_fetch_add_explicit(&e->queued, g->choice_count, memory_order_relaxed);
    const uint32_t queued_of =
        atomic_fetch_add_explicit(&e->queued_of[g->tenant], g->choice_count, memory_order_relaxed);
    cn_code room = CN_OK;
    g->submitted_ns = cn_clock_now_ns(&e->options.clock);
    if ((uint64_t)queued + g->choice_count > e->options.queue_max) room = queue_full(e, err);
    if (room == CN_OK) room = check_queue_share(e, g, queued, queued_of, err);
    if (room == CN_OK && !cn_ring_push(port->orders, &order)) room = queue_full(e, err);
    if (room != CN_OK) {
        atomic_fetch_sub_explicit(&e->queued, g->choice_count, memory_order_relaxed);
        atomic_fetch_sub_explicit(&e->queued_of[g->tenant], g->choice_count, memory_order_relaxed);
        return room;
    }
    cn_wake_signal(e->options.wake);
    return CN_OK;
}

bool cn_engine_port_cancel(cn_engine_port *port, cn_generation *generation)
{
    return cn_engine_port_cancel_choice(port, generation, CN_CHOICE_ALL);
}

bool cn_engine_port_cancel_choice(cn_engine_port *port, cn_generation *generation, uint32_t choice)
{
    const cn_order order = {CN_ORDER_CANCEL, generation, choice};
    if (!cn_ring_push(port->orders, &order)) return false;
    cn_wake_signal(port->engine->options.wake);
    return true;
}

const cn_event *cn_engine_port_next(cn_engine_port *port) { return cn_ring_peek(port->events); }

void cn_engine_port_done(cn_engine_port *port)
{
    cn_ring_pop(port->events);
    if (atomic_load(&port->starved) && atomic_exchange(&port->starved, false)) {
        cn_wake_signal(port->engine->options.wake);
    }
}
