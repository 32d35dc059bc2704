#include "bench/drive.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/assert.h"

/* How it works. Sessions that have not begun wait in the plan, in order of their due times.
 * Everything else that is due at some time is in one heap: later turns, cancellations, streams
 * that are to be lost, and the next sip of a slow reader. The loop fires what is due, prepares the bytes of the next request while
 * there is time, and then polls the network until the next due time:
 *
 *    plan.sessions ─┐                        ┌─▶ sent ──answer──▶ heap: next turn after think time
 *    heap ──────────┴─▶ due ──place free?────┤
 *                                            └─▶ queue (--max-concurrency) ──place freed──▶ sent
 *
 * An answer only puts things into the heap or the queue; requests are sent from the loop alone. */
typedef enum item_kind { TURN, CANCEL, SIP, RESUME } item_kind;

typedef struct item {
    uint64_t at_ns;
    uint32_t session, turn;
    item_kind kind;
} item;

typedef struct live {            // a session under way
    cn_body_history history;
    cn_client_exchange *exchange;
    uint32_t turn;               // of the session
    uint32_t place;              // in `flight` while its request is under way
} live;

typedef struct drive {
    const cn_drive_options *o;
    const cn_plan *plan;
    cn_tally *tally;
    cn_client *client;
    live **lives;                // per session, NULL while it is not under way
    item *heap;
    uint32_t heap_count, heap_capacity;
    uint32_t next_session;       // of the plan, not yet begun
    uint32_t *queue;             // sessions that wait for a place: a ring of session_count
    uint32_t queue_at, queue_count;
    uint32_t *flight;            // sessions with a request under way
    uint32_t flight_count;
    cn_buf request;              // prepared, or being written
    uint32_t prepared_session, prepared_turn;
    cn_drive_progress progress;
    bool no_memory;
} drive;

enum { NONE = UINT32_MAX, REQUEST_BYTES_MAX = 65 << 20, SIPS_PER_S = 10, BURST = 64 };
static const uint64_t TICK_NS = 100000000, RESUME_AGAIN_NS = 1000000;

static uint64_t now_ns(const drive *d) { return cn_clock_now_ns(&d->o->clock); }

static cn_tally_turn *tally_of(drive *d, uint32_t session, uint32_t turn)
{
    return &d->tally->turns[d->plan->sessions[session].turn_first + turn];
}

static const cn_plan_turn *planned(const drive *d, uint32_t session, uint32_t turn)
{
    return &d->plan->turns[d->plan->sessions[session].turn_first + turn];
}

static void heap_push(drive *d, item new_item)
{
    if (d->heap_count == d->heap_capacity) {
        const uint32_t capacity = d->heap_capacity ? d->heap_capacity * 2 : 1024;
        item *grown = realloc(d->heap, capacity * sizeof *grown);
        if (!grown) {
            d->no_memory = true;
            return;
        }
        d->heap = grown;
        d->heap_capacity = capacity;
    }
    uint32_t at = d->heap_count++;
    for (; at > 0 && d->heap[(at - 1) / 2].at_ns > new_item.at_ns; at = (at - 1) / 2) {
        d->heap[at] = d->heap[(at - 1) / 2];
    }
    d->heap[at] = new_item;
}

static item heap_pop(drive *d)
{
    const item top = d->heap[0], last = d->heap[--d->heap_count];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < d->heap_count; at = child) {
        if (child + 1 < d->heap_count && d->heap[child + 1].at_ns < d->heap[child].at_ns) child++;
        if (d->heap[child].at_ns >= last.at_ns) break;
        d->heap[at] = d->heap[child];
    }
    d->heap[at] = last;
    return top;
}

// What is due next; `at_ns` is UINT64_MAX if nothing will be.
static item next_item(const drive *d)
{
    item next = {.at_ns = UINT64_MAX, .session = NONE};
    if (d->next_session < d->plan->session_count && d->o->concurrency == 0) {
        next.at_ns = d->tally->start_ns + d->plan->sessions[d->next_session].due_ns;
        next.session = d->next_session;
    }
    return d->heap_count > 0 && d->heap[0].at_ns < next.at_ns ? d->heap[0] : next;
}

static item take_item(drive *d)
{
    const item next = next_item(d);
    if (next.session == d->next_session) d->next_session++;
    else heap_pop(d);
    return next;
}

// A session begins when its first turn is due; the structure may be made earlier, with the request.
static live *find_live(drive *d, uint32_t session)
{
    live *l = d->lives[session];
    if (l) return l;
    l = d->lives[session] = calloc(1, sizeof *l);
    if (!l) {
        d->no_memory = true;
        return NULL;
    }
    cn_body_history_init(&l->history);
    if (d->o->conversations) {
        memcpy(l->history.conversation, d->o->conversations[session],
               sizeof l->history.conversation);
    }
    return l;
}

static void end_session(drive *d, uint32_t session)
{
    cn_body_history_close(&d->lives[session]->history);
    free(d->lives[session]);
    d->lives[session] = NULL;
    d->progress.sessions_ended++;
    if (d->o->concurrency > 0 && d->next_session < d->plan->session_count) {
        heap_push(d, (item){now_ns(d), d->next_session++, 0, TURN});
    }
}

static void prepare(drive *d, uint32_t session, uint32_t turn)
{
    live *l = find_live(d, session);
    if (!l || (d->prepared_session == session && d->prepared_turn == turn)) return;
    cn_body_write(&d->o->body, d->plan, session, turn, &l->history, &d->request);
    d->prepared_session = session;
    d->prepared_turn = turn;
    d->no_memory = d->no_memory || d->request.overflowed;
}

static void send_turn(drive *d, uint32_t session)
{
    live *l = d->lives[session];
    const cn_plan_turn *p = planned(d, session, l->turn);
    cn_tally_turn *t = tally_of(d, session, l->turn);
    const bool resends = d->o->body.history == CN_BODY_RESEND;
    const bool goes_on = l->turn + 1 < d->plan->sessions[session].turn_count;
    prepare(d, session, l->turn);
    if (d->no_memory) return;
    const cn_client_request request = {
        .bytes = &d->request,
        .turn = t,
        .tag = (void *)(uintptr_t)session,
        .stream = d->o->body.stream,
        .keep_text = d->o->keep_text || (resends && goes_on && !p->answer),
        .slow = p->slow_bytes_per_s > 0,
    };
    l->place = d->flight_count;
    d->flight[d->flight_count++] = session;
    d->progress.begun++;
    d->prepared_session = NONE;
    cn_client_exchange *exchange = cn_client_send(d->client, &request);
    if (!exchange) return;       // it has ended, and so has perhaps the session
    l->exchange = exchange;
    if (p->cancel_after_ns) {
        heap_push(d, (item){t->sent_ns + p->cancel_after_ns, session, l->turn, CANCEL});
    }
    if (p->reconnect_after_ns) {
        heap_push(d, (item){t->sent_ns + p->reconnect_after_ns, session, l->turn, RESUME});
    }
    if (request.slow) heap_push(d, (item){t->sent_ns, session, l->turn, SIP});
}

// The request of the session is no longer under way: the next turn, or the end of the session.
static void leave_flight(drive *d, uint32_t session, const char *id)
{
    live *l = d->lives[session];
    const uint32_t last = d->flight[--d->flight_count];
    d->flight[l->place] = last;
    d->lives[last]->place = l->place;
    l->exchange = NULL;
    d->progress.ended++;
    const cn_tally_turn *t = tally_of(d, session, l->turn);
    d->progress.failed += t->outcome != CN_OUTCOME_OK && t->outcome != CN_OUTCOME_CANCELLED;
    // Without an answer the conversation cannot go on; what remains of it stays unsent.
    if (t->outcome != CN_OUTCOME_OK || l->turn + 1 == d->plan->sessions[session].turn_count) {
        end_session(d, session);
        return;
    }
    cn_body_answered(&d->o->body, d->plan, session, l->turn, t->text, id, &l->history);
    l->turn++;
    heap_push(d,
              (item){t->end_ns + planned(d, session, l->turn)->think_ns, session, l->turn, TURN});
}

static void on_end(void *self, void *tag, const char *id)
{
    leave_flight(self, (uint32_t)(uintptr_t)tag, id);
}

static bool has_place(const drive *d)
{
    return d->o->max_concurrency == 0 || d->flight_count < d->o->max_concurrency;
}

static void fire_turn(drive *d, const item *due)
{
    live *l = find_live(d, due->session);
    if (!l) return;
    cn_tally_turn *t = tally_of(d, due->session, l->turn);
    t->due_ns = t->ready_ns = due->at_ns;
    if (has_place(d) && d->queue_count == 0) {
        send_turn(d, due->session);
        return;
    }
    d->queue[(d->queue_at + d->queue_count++) % d->plan->session_count] = due->session;
}

// Those who waited for a place, in their order.
static void send_queued(drive *d)
{
    while (d->queue_count > 0 && has_place(d) && !d->no_memory) {
        const uint32_t session = d->queue[d->queue_at];
        d->queue_at = (d->queue_at + 1) % d->plan->session_count;
        d->queue_count--;
        tally_of(d, session, d->lives[session]->turn)->ready_ns = now_ns(d);
        send_turn(d, session);
    }
}

static void give_up(drive *d, uint32_t session, cn_outcome outcome)
{
    cn_client_cancel(d->client, d->lives[session]->exchange, outcome);
    leave_flight(d, session, "");
}

// Until the server has named the response and one of its events, there is nothing to go on behind.
static void resume(drive *d, const item *due)
{
    cn_client_exchange *exchange = d->lives[due->session]->exchange;
    const char *id = cn_client_id(exchange);
    const int64_t sequence = cn_client_sequence(exchange);
    if (!id[0] || sequence < 0) {
        heap_push(d, (item){now_ns(d) + RESUME_AGAIN_NS, due->session, due->turn, RESUME});
        return;
    }
    d->prepared_session = NONE;  // it stood where this request is written
    cn_body_write_resume(&d->o->body, id, sequence, &d->request);
    tally_of(d, due->session, due->turn)->resumed = true;
    cn_client_resume(d->client, exchange, &d->request);
}

static void fire(drive *d, const item *due)
{
    live *l = d->lives[due->session];
    const bool under_way = l && l->exchange && l->turn == due->turn;
    switch (due->kind) {
    case TURN: fire_turn(d, due); break;
    case CANCEL:
        if (under_way) give_up(d, due->session, CN_OUTCOME_CANCELLED);
        break;
    case RESUME:
        if (under_way) resume(d, due);
        break;
    case SIP:
        if (!under_way) break;
        const uint32_t per_s = planned(d, due->session, due->turn)->slow_bytes_per_s;
        cn_client_allow(d->client, l->exchange, (per_s + SIPS_PER_S - 1) / SIPS_PER_S);
        heap_push(d, (item){due->at_ns + 1000000000 / SIPS_PER_S, due->session, due->turn, SIP});
        break;
    }
}

static void expire(drive *d, uint64_t now)
{
    for (uint32_t i = 0; i < d->flight_count;) {
        const uint32_t session = d->flight[i];
        const cn_tally_turn *t = tally_of(d, session, d->lives[session]->turn);
        if (t->sent_ns + d->o->timeout_ns <= now) give_up(d, session, CN_OUTCOME_TIMEOUT);
        else i++;
    }
}

static void note_counts(drive *d)
{
    const cn_client_counts counts = cn_client_count(d->client);
    d->tally->event_count = counts.events;
    d->tally->received_bytes = counts.received_bytes;
    d->tally->connection_count = counts.connections;
}

// False: the caller wants no more.
static bool tick(drive *d, uint64_t now)
{
    expire(d, now);
    note_counts(d);
    d->progress.elapsed_ns = now - d->tally->start_ns;
    d->progress.in_flight = d->flight_count;
    d->progress.waiting = d->queue_count;
    d->progress.events = d->tally->event_count;
    d->progress.session_count = d->plan->session_count;
    return !d->o->on_progress || d->o->on_progress(d->o->self, &d->progress, d->tally);
}

static void loop(drive *d)
{
    uint64_t next_tick = d->tally->start_ns + TICK_NS;
    for (uint32_t i = 0; i < d->o->concurrency && d->next_session < d->plan->session_count; i++) {
        heap_push(d, (item){d->tally->start_ns, d->next_session++, 0, TURN});
    }
    while (d->progress.sessions_ended < d->plan->session_count && !d->no_memory) {
        const uint64_t now = now_ns(d);
        if (now >= next_tick) {
            if (!tick(d, now)) break;
            next_tick = now + TICK_NS;
        }
        // A burst does not keep the loop from reading answers.
        for (int i = 0; i < BURST && next_item(d).at_ns <= now_ns(d) && !d->no_memory; i++) {
            const item due = take_item(d);
            fire(d, &due);
        }
        send_queued(d);
        const item next = next_item(d);
        if (next.session != NONE && next.kind == TURN && has_place(d)) {
            const live *l = d->lives[next.session];
            prepare(d, next.session, l ? l->turn : 0);
        }
        cn_client_poll(d->client, next.at_ns < next_tick ? next.at_ns : next_tick);
    }
    // What is still under way after an early end is given up, and is no failure of the server.
    while (d->flight_count > 0) give_up(d, d->flight[0], CN_OUTCOME_UNSENT);
    tick(d, now_ns(d));
}

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

bool cn_drive_set_realtime(bool on)
{
    const struct sched_param param = {.sched_priority = on ? 1 : 0};
    return sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &param) == 0;
}

static cn_code open_drive(drive *d, cn_err *err)
{
    const uint32_t count = d->plan->session_count;
    const cn_client_options options = {.url = d->o->body.url, .clock = d->o->clock,
                                       .timeout_ns = 5000000000u, .on_end = on_end, .self = d};
    d->lives = calloc(count, sizeof(live *));
    d->queue = calloc(count, sizeof *d->queue);
    d->flight = calloc(count, sizeof *d->flight);
    if (!d->lives || !d->queue || !d->flight) {
        return cn_err_set(err, CN_E_MEMORY, "no memory for %u sessions", count);
    }
    return cn_client_open(&options, &d->client, err);
}

static void close_drive(drive *d)
{
    for (uint32_t i = 0; d->lives && i < d->plan->session_count; i++) {
        if (!d->lives[i]) continue;
        cn_body_history_close(&d->lives[i]->history);
        free(d->lives[i]);
    }
    cn_client_close(d->client);
    cn_buf_close(&d->request);
    free(d->lives);
    free(d->queue);
    free(d->flight);
    free(d->heap);
}

cn_code cn_drive_run(const cn_drive_options *options, cn_tally *tally, cn_err *err)
{
    drive d = {.o = options, .plan = options->plan, .tally = tally, .prepared_session = NONE};
    cn_buf_init(&d.request, REQUEST_BYTES_MAX);
    cn_code code = cn_tally_open(options->plan->turn_count, tally, err);
    if (code == CN_OK) code = open_drive(&d, err);
    if (code == CN_OK) {
        tally->realtime = options->realtime && cn_drive_set_realtime(true);
        tally->cpu_s = -cpu_s();
        tally->start_wall_ns = cn_clock_wall_ns(&options->clock);
        tally->start_ns = now_ns(&d);
        loop(&d);
        tally->end_ns = now_ns(&d);
        tally->cpu_s += cpu_s();
        if (tally->realtime) cn_drive_set_realtime(false);
        if (d.no_memory)
            code = cn_err_set(err, CN_E_MEMORY, "no memory for the requests under way");
    }
    close_drive(&d);
    return code;
}
