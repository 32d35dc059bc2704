#include "state/redis_log_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "state/redis_command_int.h"
#include "state/store_int.h"

/* How it works. A chain of operations is a `unit` of requests, and is in one of these places:
 *
 *    blocked ──▶ ready ──▶ sent ──▶ answered: the next request of the unit, or the end
 *                  ▲         │
 *                  └─────────┘  broken, redirected, or later (again_ns)
 *
 * Order. Each request stands in the queue of its key's bucket until it is answered, and a unit is
 * blocked until each of its requests is first in its queue, or behind requests of its own unit
 * only. All queues are joined at the moment of submission, so nobody waits in a circle; and since
 * the order is kept here, a request may be sent on any connection, and sent again on another.
 *
 * A commit (PUT_NEW, then SWAP) leaves as two commands without a wait between. The SWAP's script
 * looks whether the value of the PUT_NEW is there, by its SHA-1: whatever became of the first
 * command (full, refused, another value), a head never points to a turn that was not stored. Other
 * chains, and all in a cluster, where two keys live on two servers, are sent one by one.
 *
 * Answers to commands that nobody waits for any more (the deadline came first) are told apart by
 * the generation that each ticket carries.
 *
 * `maybe`: a command was sent and its answer lost. What then reads like a refusal may be the trace
 * of our own success (the head has moved, by us and then by somebody else), so it is told as
 * unknown.
 *
 * Replica level: behind the writes of a round goes a write of our own and WAIT. WAIT counts writes
 * of its own connection only, and a repeated command may find its work done and write nothing; the
 * extra write makes sure that WAIT waits for all that came before it. Replies of writes are held
 * until it has counted a replica, and sent again if it has not. */

enum { WHAT_OP, WHAT_COMPARE, WHAT_ASKING, WHAT_SYNC, WHAT_WAIT };
enum { PAIR_ROOM = 8, CURSOR_NODE_SHIFT = 48 };
static const uint64_t AGAIN_MIN_NS = 5000000, AGAIN_MAX_NS = 200000000;
static const char wait_ms[] = "500";

typedef struct unit unit;

typedef struct request {
    cn_store_op *op;
    unit *unit;
    struct request *next;            // of the unit, or free
    struct request *behind;          // in the bucket's queue
    uint32_t bucket, generation;
    bool counted;                    // the unit is blocked by it
    bool sent, done, maybe;
    bool evals;                      // send the script itself
    bool compares;                   // PUT_NEW found something: read it
    uint64_t taken_ns;
} request;

struct unit {
    cn_store_port *port;
    request *first;
    unit *next, **link;              // of the list it is in; free units use next only
    uint32_t blocked;
    bool ready;                      // in the ready list
    bool asks;                       // send to `asked`, behind ASKING
    uint64_t again_ns;               // not before
    uint64_t pause_ns;
    cn_redis_address asked;
};

typedef struct bucket {
    request *first, *last;
} bucket;

struct cn_redis_log {
    cn_redis_settings settings;      // with our callbacks
    cn_redis_nodes *nodes;
    request *requests, *request_free;
    unit *units, *unit_free;
    unit *ready, **ready_end;        // to be sent, oldest first
    unit *resting;                   // blocked, sent, or waiting for again_ns
    bucket *buckets;
    uint32_t bucket_mask;
    uint64_t due_ns;                 // nothing is late before
    cn_buf command;
};

// ---- lists

static void list_remove(cn_redis_log *log, unit *u)
{
    *u->link = u->next;
    if (u->next) u->next->link = u->link;
    else if (u->ready) log->ready_end = u->link;
    u->ready = false;
}

static void list_rest(cn_redis_log *log, unit *u)
{
    u->next = log->resting;
    u->link = &log->resting;
    if (u->next) u->next->link = &u->next;
    log->resting = u;
}

static void make_ready(cn_redis_log *log, unit *u)
{
    if (u->ready) return;
    list_remove(log, u);
    u->ready = true;
    u->next = NULL;
    u->link = log->ready_end;
    *log->ready_end = u;
    log->ready_end = &u->next;
}

static void queue_join(cn_redis_log *log, request *r)
{
    r->bucket = (uint32_t)XXH3_64bits(r->op->key, strlen(r->op->key)) & log->bucket_mask;
    bucket *b = &log->buckets[r->bucket];
    r->behind = NULL;
    r->counted = b->last && b->last->unit != r->unit;
    if (r->counted) r->unit->blocked++;
    if (b->last) b->last->behind = r;
    else b->first = r;
    b->last = r;
}

static void settle(cn_redis_log *log, unit *u);

static void queue_leave(cn_redis_log *log, request *r)
{
    bucket *b = &log->buckets[r->bucket];
    request *before = NULL, *at = b->first;
    while (at != r) {                // a late one may stand anywhere
        before = at;
        at = at->behind;
    }
    if (before) before->behind = r->behind;
    else b->first = r->behind;
    if (b->last == r) b->last = before;
    if (r->counted) r->unit->blocked--;
    request *head = b->first;
    if (before || !head || !head->counted) return;
    head->counted = false;
    if (--head->unit->blocked == 0) settle(log, head->unit);
}

// ---- results

static bool is_write(const cn_store_op *op)
{
    return op->kind == CN_STORE_PUT_NEW || op->kind == CN_STORE_SWAP || op->kind == CN_STORE_DELETE;
}

// The request has its result; settle gives it back when its turn comes.
static void finish(cn_redis_log *log, request *r, cn_code code)
{
    cn_metrics *m = log->settings.metrics;
    r->op->code = code;
    r->done = true;
    r->sent = false;
    if (m) cn_metrics_add(&m->store_pending, UINT64_MAX);            // one less
    r->generation++;
    if (code == CN_E_STORE) cn_buf_clear(&r->op->reply);
    if (!m) return;
    if (code == CN_E_STORE) cn_metrics_add(&m->store_failed, 1);
    if (code == CN_E_STORE_FULL) cn_metrics_add(&m->store_full, 1);
    if (code == CN_OK && is_write(r->op)) {
        const uint64_t now = cn_clock_now_ns(&log->settings.clock);
        cn_metrics_observe(&m->store_write_ns, now > r->taken_ns ? now - r->taken_ns : 0);
    }
}

// Gives back what is done, from the front, and sends the next one on its way.
static void settle(cn_redis_log *log, unit *u)
{
    while (u->first && u->first->done) {
        request *r = u->first;
        const cn_code code = r->op->code;
        u->first = r->next;
        queue_leave(log, r);
        cn_store_port_give(u->port, r->op);
        r->op = NULL;
        r->next = log->request_free;
        log->request_free = r;
        u->pause_ns = 0;
        for (request *rest = u->first; rest && code != CN_OK; rest = rest->next) {
            cn_buf_clear(&rest->op->reply);
            rest->op->code = code;
            rest->done = true;
            rest->generation++;
        }
    }
    if (!u->first) {
        list_remove(log, u);
        u->next = log->unit_free;
        log->unit_free = u;
    } else if (!u->first->sent && u->blocked == 0 && u->again_ns == 0) {
        make_ready(log, u);
    }
}

// It was not carried out, or nobody knows: it is sent again, after a pause if `later`.
static void again(cn_redis_log *log, request *r, bool later)
{
    unit *u = r->unit;
    r->sent = false;
    r->generation++;
    if (later && u->first == r) {
        const uint64_t now = cn_clock_now_ns(&log->settings.clock);
        u->pause_ns = u->pause_ns ? u->pause_ns * 2 : AGAIN_MIN_NS;
        if (u->pause_ns > AGAIN_MAX_NS) u->pause_ns = AGAIN_MAX_NS;
        u->again_ns = now + u->pause_ns / 2 + cn_random_u64(&log->settings.random) % u->pause_ns;
        if (u->again_ns < log->due_ns) log->due_ns = u->again_ns;
    }
    settle(log, u);
}

static void succeed(cn_redis_log *log, cn_redis_link *link, request *r)
{
    if (log->settings.durability == CN_DURABILITY_FSYNC_REPLICA && is_write(r->op)) {
        CN_ASSERT(link->waiting_count < CN_REDIS_TICKETS);
        link->waiting[link->waiting_count++] = (cn_redis_ticket){r, r->generation, WHAT_WAIT};
        return;
    }
    finish(log, r, CN_OK);
    settle(log, r->unit);
}

static void conclude(cn_redis_log *log, cn_redis_link *link, request *r)
{
    const cn_code code = r->op->code;
    if (code == CN_OK) {
        succeed(log, link, r);
        return;
    }
    const bool may_be_ours = r->maybe && (code == CN_E_CONFLICT || code == CN_E_STORE_FULL);
    finish(log, r, may_be_ours ? CN_E_STORE : code);
    settle(log, r->unit);
}

static void redirect(cn_redis_log *log, cn_redis_link *link, request *r, const redisReply *reply,
                     bool asks)
{
    uint32_t slot;
    cn_redis_address address;
    if (!cn_redis_nodes_read_redirect(link, reply->str, &slot, &address)) {
        again(log, r, true);
    } else if (asks) {
        r->unit->asks = true;
        r->unit->asked = address;
        again(log, r, false);
    } else {
        cn_redis_nodes_moved(log->nodes, slot, &address);
        again(log, r, false);
    }
}

// A SCAN goes through one primary after another; which one is in the upper bits of the cursor.
static void advance_scan(cn_redis_log *log, cn_store_op *op, uint64_t before)
{
    uint32_t count;
    const uint64_t node = before >> CURSOR_NODE_SHIFT;
    if (op->kind != CN_STORE_SCAN || op->code != CN_OK) return;
    cn_redis_nodes_pick_primary(log->nodes, 0, &count);
    if (op->cursor) op->cursor |= node << CURSOR_NODE_SHIFT;
    else if (node + 1 < count) op->cursor = (node + 1) << CURSOR_NODE_SHIFT;
}

static void read_reply(cn_redis_log *log, cn_redis_link *link, request *r, uint32_t what,
                       const redisReply *reply)
{
    const uint64_t cursor = r->op->cursor;
    const cn_redis_verdict verdict = what == WHAT_COMPARE ? cn_redis_command_compare(r->op, reply)
                                                          : cn_redis_command_read(r->op, reply);
    r->compares = verdict == CN_REDIS_COMPARE;
    switch (verdict) {
    case CN_REDIS_DONE:
        advance_scan(log, r->op, cursor);
        conclude(log, link, r);
        return;
    case CN_REDIS_EVAL:
        r->evals = true;
        again(log, r, false);
        return;
    case CN_REDIS_COMPARE:
    case CN_REDIS_GUARDED: again(log, r, false); return;
    case CN_REDIS_AGAIN:
        if (reply->type == REDIS_REPLY_ERROR) cn_redis_nodes_doubt(log->nodes);
        again(log, r, true);
        return;
    case CN_REDIS_ELSEWHERE:
        cn_redis_link_doom_server(link, reply->str);
        cn_redis_nodes_doubt(log->nodes);
        again(log, r, true);
        return;
    case CN_REDIS_MOVED:
    case CN_REDIS_ASK: redirect(log, link, r, reply, verdict == CN_REDIS_ASK); return;
    }
}

// The replicas have been counted (or not: NULL): writes whose replies were held are done, or not.
static void read_wait(cn_redis_log *log, cn_redis_link *link, const redisReply *reply)
{
    const bool good =
        reply && reply->type == REDIS_REPLY_INTEGER && reply->integer >= 1 && !link->wait_failed;
    const uint32_t count = link->waiting_count;
    link->waiting_count = 0;
    link->wait_failed = false;
    for (uint32_t i = 0; i < count; i++) {
        request *r = link->waiting[i].owner;
        if (r->generation != link->waiting[i].generation) continue;
        r->maybe = true;
        if (good) {
            finish(log, r, CN_OK);
            settle(log, r->unit);
        } else {
            again(log, r, reply != NULL);
        }
    }
}

static void on_reply(void *self, cn_redis_link *link, cn_redis_ticket ticket, redisReply *reply)
{
    cn_redis_log *log = self;
    if (ticket.owner == log->nodes) {
        cn_redis_nodes_reply(log->nodes, link, reply);
    } else if (ticket.owner == log) {
        if (ticket.what == WHAT_SYNC && (!reply || reply->type == REDIS_REPLY_ERROR))
            link->wait_failed = true;
        if (ticket.what == WHAT_WAIT) read_wait(log, link, reply);
    } else {
        request *r = ticket.owner;
        if (r->generation != ticket.generation) return;
        if (reply) {
            read_reply(log, link, r, ticket.what, reply);
        } else {
            r->maybe = true;
            again(log, r, false);
        }
    }
}

static void on_up(void *self, cn_redis_link *link)
{
    (void)self;
    link->waiting_count = 0;
    link->wait_failed = false;
}

static void on_down(void *self, cn_redis_link *link)
{
    cn_redis_log *log = self;
    // Between the last WAIT and the break: their replies came, their count never will.
    read_wait(log, link, NULL);
    cn_redis_nodes_doubt(log->nodes);
}

// ---- sending

static void send_words(cn_redis_log *log, cn_redis_link *link, uint32_t what,
                       const char *const *words, uint32_t count)
{
    cn_buf_clear(&log->command);
    cn_redis_command_write_words(&log->command, words, count);
    cn_redis_link_send(link, &log->command, (cn_redis_ticket){log, 0, what});
}

static void send_request(cn_redis_log *log, cn_redis_link *link, request *r,
                         const cn_store_op *guard)
{
    const cn_redis_script_call call = {r->evals ? NULL : cn_redis_link_script_sha(), guard};
    const uint64_t cursor = r->op->cursor & ((UINT64_C(1) << CURSOR_NODE_SHIFT) - 1);
    cn_buf_clear(&log->command);
    if (r->compares) cn_redis_command_write_get(&log->command, r->op);
    else cn_redis_command_write(&log->command, r->op, &call, cursor);
    const uint32_t what = r->compares ? WHAT_COMPARE : WHAT_OP;
    r->sent = true;
    if (is_write(r->op)) link->wrote_key = r->op->key;
    cn_redis_link_send(link, &log->command, (cn_redis_ticket){r, r->generation, what});
}

static cn_redis_link *pick_link(cn_redis_log *log, const unit *u)
{
    const cn_store_op *op = u->first->op;
    uint32_t count;
    if (op->kind == CN_STORE_SCAN)
        return cn_redis_nodes_pick_primary(log->nodes, (uint32_t)(op->cursor >> CURSOR_NODE_SHIFT),
                                           &count);
    if (u->asks) return cn_redis_nodes_pick_asked(log->nodes, &u->asked, PAIR_ROOM);
    return cn_redis_nodes_pick(log->nodes, op->key, PAIR_ROOM);
}

static bool send_unit(cn_redis_log *log, unit *u)
{
    request *first = u->first, *second = first->next;
    cn_redis_link *link = pick_link(log, u);
    if (!link) return false;
    list_remove(log, u);
    list_rest(log, u);
    if (u->asks) send_words(log, link, WHAT_ASKING, (const char *[]){"ASKING"}, 1);
    u->asks = false;
    send_request(log, link, first, NULL);
    const bool pairs = first->op->kind == CN_STORE_PUT_NEW && !first->compares && second &&
                       !second->sent && !second->done && second->op->kind == CN_STORE_SWAP &&
                       !cn_redis_nodes_is_cluster(log->nodes);
    if (pairs) send_request(log, link, second, first->op);
    return true;
}

// Behind the writes of this round: what makes a replica's receipt of them known.
static void send_wait(cn_redis_log *log, cn_redis_link *link)
{
    char key[CN_STORE_KEY_BYTES_MAX + 16];
    // The hash tag keeps it on the server of that key.
    const char *form = strchr(link->wrote_key, '{') ? "%s:sync" : "{%s}:sync";
    snprintf(key, sizeof key, form, link->wrote_key);
    send_words(log, link, WHAT_SYNC, (const char *[]){"SET", key, "", "PX", "1000"}, 5);
    send_words(log, link, WHAT_WAIT, (const char *[]){"WAIT", "1", wait_ms}, 3);
}

static bool send_ready(cn_redis_log *log)
{
    bool sent = false;
    for (unit *u = log->ready, *next; u; u = next) {
        next = u->next;
        if (send_unit(log, u)) sent = true;
        // Where all keys have the same links, what is behind cannot be sent either.
        else if (!cn_redis_nodes_is_cluster(log->nodes)) break;
    }
    if (!sent) return false;
    uint32_t at = 0;
    for (cn_redis_link *link; (link = cn_redis_nodes_next_link(log->nodes, &at));) {
        if (link->wrote_key && log->settings.durability == CN_DURABILITY_FSYNC_REPLICA)
            send_wait(log, link);
        link->wrote_key = NULL;
        cn_redis_link_flush(link);
    }
    return true;
}

// ---- time

// Ends or wakes one unit of a list whose time has come; false if there is none.
static bool end_late_of(cn_redis_log *log, unit *list, uint64_t now)
{
    for (unit *u = list; u; u = u->next) {
        const uint64_t deadline = u->first->op->deadline_ns;
        if (now >= deadline) {
            finish(log, u->first, CN_E_STORE);
            u->again_ns = 0;
            settle(log, u);          // others may move with it: the list is looked at again
            return true;
        }
        if (u->again_ns && now >= u->again_ns) {
            u->again_ns = 0;
            settle(log, u);
            return true;
        }
        if (deadline < log->due_ns) log->due_ns = deadline;
        if (u->again_ns && u->again_ns < log->due_ns) log->due_ns = u->again_ns;
    }
    return false;
}

static bool end_late(cn_redis_log *log, uint64_t now)
{
    bool ended = false;
    while (now >= log->due_ns) {
        log->due_ns = UINT64_MAX;
        if (end_late_of(log, log->resting, now) || end_late_of(log, log->ready, now)) {
            log->due_ns = now;
            ended = true;
        }
    }
    return ended;
}

bool cn_redis_log_tend(cn_redis_log *log, uint64_t now)
{
    bool worked = cn_redis_nodes_tend(log->nodes, now);
    worked |= end_late(log, now);
    return send_ready(log) || worked;
}

uint64_t cn_redis_log_due_ns(const cn_redis_log *log, uint64_t now)
{
    const uint64_t due = cn_redis_nodes_due_ns(log->nodes, now);
    return due < log->due_ns ? due : log->due_ns;
}

// ---- life

void cn_redis_log_take(cn_redis_log *log, cn_store_port *port, cn_store_op *op)
{
    const uint64_t now = cn_clock_now_ns(&log->settings.clock);
    unit *u = log->unit_free;
    CN_ASSERT(u);
    log->unit_free = u->next;
    *u = (unit){.port = port};
    list_rest(log, u);
    request **end = &u->first;
    for (; op; op = op->then) {
        request *r = log->request_free;
        CN_ASSERT(r);
        log->request_free = r->next;
        *r = (request){.op = op, .unit = u, .generation = r->generation + 1, .taken_ns = now};
        op->code = CN_OK;
        cn_buf_clear(&op->reply);
        if (log->settings.metrics) cn_metrics_add(&log->settings.metrics->store_pending, 1);
        queue_join(log, r);
        *end = r;
        end = &r->next;
    }
    if (u->first->op->deadline_ns < log->due_ns) log->due_ns = u->first->op->deadline_ns;
    settle(log, u);
}

cn_code cn_redis_log_open(const cn_redis_target *target, const cn_redis_settings *settings,
                          uint32_t link_count, uint32_t request_max, cn_redis_log **out)
{
    *out = NULL;
    uint32_t bucket_count = 1024;
    while (bucket_count < 8 * (uint64_t)request_max && bucket_count < 1u << 20) bucket_count *= 2;
    cn_redis_log *log = calloc(1, sizeof *log);
    if (!log) return CN_E_MEMORY;
    log->settings = *settings;
    log->settings.self = log;
    log->settings.on_reply = on_reply;
    log->settings.on_up = on_up;
    log->settings.on_down = on_down;
    log->due_ns = UINT64_MAX;
    log->ready_end = &log->ready;
    log->bucket_mask = bucket_count - 1;
    log->buckets = calloc(bucket_count, sizeof *log->buckets);
    log->requests = calloc(request_max, sizeof *log->requests);
    log->units = calloc(request_max, sizeof *log->units);
    cn_buf_init(&log->command, UINT32_MAX);
    if (!log->buckets || !log->requests || !log->units ||
        cn_redis_nodes_open(target, &log->settings, link_count, &log->nodes) != CN_OK) {
        cn_redis_log_close(log);
        return CN_E_MEMORY;
    }
    for (uint32_t i = 0; i < request_max; i++) {
        log->requests[i].next = log->request_free;
        log->request_free = &log->requests[i];
        log->units[i].next = log->unit_free;
        log->unit_free = &log->units[i];
    }
    *out = log;
    return CN_OK;
}

void cn_redis_log_close(cn_redis_log *log)
{
    if (!log) return;
    cn_redis_nodes_close(log->nodes);
    cn_buf_close(&log->command);
    free(log->buckets);
    free(log->requests);
    free(log->units);
    free(log);
}

cn_redis_nodes *cn_redis_log_nodes(const cn_redis_log *log) { return log->nodes; }
