#include "state/store_sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/random.h"
#include "state/store_int.h"

/* How it works. Every operation that was taken is a `task` in one list, in the order of submission:
 *
 *    submitted ──▶ carried out (run_ns) ──▶ answered (done_ns), if its predecessors are
 *
 * A task waits for the one before it in its chain, and for earlier ones with its key. The tasks are
 * looked at in the order of the list, so that equal times need no rule of their own.
 *
 * Each effect on the log leaves an undo record until all that came before it is acknowledged. A
 * crash undoes, newest first, down to a random point that is not below the last acknowledged
 * effect: what a file keeps that was written in order and is torn behind its last fsync. */

typedef struct item {
    char *value;                     // NULL: absent
    uint32_t value_len;
    uint64_t dies_ns;                // 0: never
    char key[];                      // text, or CN_KEY_BYTES of a page key
} item;

typedef struct table {
    item **items;
    uint32_t count, capacity;
    cn_map *by_key;
} table;

// What becomes of an operation. From FAILS on its user is told CN_E_STORE, from LOST_IN_TIME on at
// its deadline.
typedef enum fate { IN_TIME, FAILS, FAILS_UNDONE, LOST_IN_TIME, LOST_LATE, LOST_UNDONE } fate;

typedef struct task {
    cn_store_op *op;
    cn_store_port *port;
    uint64_t run_ns, done_ns;
    fate fate;
    bool conflict, absent;           // faults of this operation
    bool has_run, is_done;
    uint64_t effect;                 // the last one when it ran: its answer makes that durable
    struct task *after;              // on its `then`
    bool waits;                      // for the one whose `then` it is
    cn_code chain_code;              // of that one
    cn_store_op late;                // a copy, for LOST_LATE
} task;

typedef struct undo {
    uint64_t number;
    item *at;
    char *value;
    uint32_t value_len;
    uint64_t dies_ns;
} undo;

typedef struct sim {
    cn_store base;
    cn_store_sim_options options;
    cn_store_sim_faults faults;
    uint64_t random_state;
    cn_random random;
    table log, pages;
    task **tasks;
    uint32_t task_count, task_max;
    undo *undos;
    uint32_t undo_count, undo_capacity;
    uint64_t effect_last, effect_acknowledged;
} sim;

static bool chance(sim *s, uint32_t percent)
{
    return percent > 0 && cn_random_u64(&s->random) % 100 < percent;
}

static bool grow(void **array, uint32_t *capacity, size_t size)
{
    const uint32_t wanted = *capacity ? *capacity * 2 : 64;
    void *more = realloc(*array, wanted * size);
    if (!more) return false;
    *array = more;
    *capacity = wanted;
    return true;
}

// ---- values

static item *find_item(const table *t, const void *key, uint32_t key_len)
{
    uint64_t at;
    return cn_map_find(t->by_key, key, key_len, &at) ? t->items[at] : NULL;
}

static item *find_or_add_item(table *t, const void *key, uint32_t key_len)
{
    item *i = find_item(t, key, key_len);
    if (i) return i;
    if (t->count == t->capacity && !grow((void **)&t->items, &t->capacity, sizeof(item *)))
        return NULL;
    i = calloc(1, sizeof *i + key_len + 1);
    if (!i) return NULL;
    memcpy(i->key, key, key_len);
    if (cn_map_put(t->by_key, i->key, key_len, t->count) != CN_OK) {
        free(i);
        return NULL;
    }
    return t->items[t->count++] = i;
}

static bool is_alive(const sim *s, const item *i)
{
    return i && i->value && (i->dies_ns == 0 || i->dies_ns > cn_clock_now_ns(&s->options.clock));
}

// Writes a value, or none (NULL), and remembers what was there. False: no memory.
static bool set_value(sim *s, item *i, const void *value, uint32_t len, uint64_t life_ms)
{
    char *copy = NULL;
    if (s->undo_count == s->undo_capacity &&
        !grow((void **)&s->undos, &s->undo_capacity, sizeof(undo)))
        return false;
    if (value && !(copy = malloc(len + 1u))) return false;
    if (copy && len) memcpy(copy, value, len);
    s->undos[s->undo_count++] = (undo){++s->effect_last, i, i->value, i->value_len, i->dies_ns};
    i->value = copy;
    i->value_len = len;
    i->dies_ns = life_ms ? cn_clock_now_ns(&s->options.clock) + life_ms * 1000000u : 0;
    return true;
}

// What comes after an acknowledged effect cannot be undone without it: a log is written in order.
static void acknowledge(sim *s, uint64_t effect)
{
    uint32_t kept = 0;
    if (effect > s->effect_acknowledged) s->effect_acknowledged = effect;
    for (uint32_t i = 0; i < s->undo_count; i++) {
        if (s->undos[i].number <= s->effect_acknowledged) free(s->undos[i].value);
        else s->undos[kept++] = s->undos[i];
    }
    s->undo_count = kept;
}

// ---- operations

static void reply_value(cn_store_op *op, const void *value, uint32_t len)
{
    cn_buf_add(&op->reply, value, len);
    if (op->reply.overflowed) op->code = CN_E_LIMIT;
}

static void reply_item(const sim *s, cn_store_op *op, const item *i)
{
    if (is_alive(s, i)) reply_value(op, i->value, i->value_len);
}

static bool holds(const sim *s, const item *i, const void *value, uint32_t len)
{
    return is_alive(s, i) && i->value_len == len && (len == 0 || memcmp(i->value, value, len) == 0);
}

static cn_code run_get(sim *s, cn_store_op *op, item *i)
{
    if (!is_alive(s, i)) return CN_E_NOT_FOUND;
    if (op->life_ms) i->dies_ns = cn_clock_now_ns(&s->options.clock) + op->life_ms * 1000000u;
    reply_item(s, op, i);
    return op->code;
}

static cn_code run_write(sim *s, cn_store_op *op, bool conflict)
{
    item *i = find_or_add_item(&s->log, op->key, (uint32_t)strlen(op->key));
    if (!i) return CN_E_MEMORY;
    if (s->faults.log_full) return CN_E_STORE_FULL;
    const bool may = op->kind == CN_STORE_PUT_NEW || !op->expected
                         ? !is_alive(s, i)
                         : holds(s, i, op->expected, op->expected_len);
    if (holds(s, i, op->value, op->value_len) && !conflict) return CN_OK;
    if (!may || conflict) {
        reply_item(s, op, i);
        return op->kind == CN_STORE_PUT_NEW ? CN_E_EXISTS : CN_E_CONFLICT;
    }
    const void *value = op->value ? op->value : "";
    return set_value(s, i, value, op->value_len, op->life_ms) ? CN_OK : CN_E_MEMORY;
}

static cn_code run_scan(const sim *s, cn_store_op *op)
{
    enum { KEYS_PER_SCAN = 16 };
    const size_t len = strlen(op->key);
    uint64_t at = op->cursor;
    for (uint32_t n = 0; at < s->log.count && n < KEYS_PER_SCAN; at++, n++) {
        const item *i = s->log.items[at];
        if (!is_alive(s, i) || strncmp(i->key, op->key, len) != 0) continue;
        cn_buf_add_text(&op->reply, i->key);
        cn_buf_add_char(&op->reply, '\n');
    }
    op->cursor = at < s->log.count ? at : 0;
    return op->reply.overflowed ? CN_E_LIMIT : CN_OK;
}

static cn_code run_page(sim *s, cn_store_op *op, bool absent)
{
    const uint64_t bytes = s->options.page_bytes;
    item *i = find_item(&s->pages, op->page_key.bytes, CN_KEY_BYTES);
    if (op->kind == CN_STORE_PAGE_PUT) {
        if (!i) i = find_or_add_item(&s->pages, op->page_key.bytes, CN_KEY_BYTES);
        if (!i) return CN_E_MEMORY;
        if (!i->value) i->value = malloc(bytes);
        if (!i->value) return CN_E_MEMORY;
        memcpy(i->value, op->page, bytes);
        return CN_OK;
    }
    if (i && absent) {
        free(i->value);
        i->value = NULL;
    }
    if (!i || !i->value) return CN_E_NOT_FOUND;
    memcpy(op->page, i->value, bytes);
    return CN_OK;
}

static cn_code run_op(sim *s, cn_store_op *op, const task *t)
{
    item *i = NULL;
    op->code = CN_OK;
    switch (op->kind) {
    case CN_STORE_GET:
        return run_get(s, op, find_item(&s->log, op->key, (uint32_t)strlen(op->key)));
    case CN_STORE_PUT_NEW:
    case CN_STORE_SWAP:
        return run_write(s, op, t->conflict && op->kind == CN_STORE_SWAP);
    case CN_STORE_DELETE:
        i = find_item(&s->log, op->key, (uint32_t)strlen(op->key));
        if (!is_alive(s, i)) return CN_OK;
        return set_value(s, i, NULL, 0, 0) ? CN_OK : CN_E_MEMORY;
    case CN_STORE_SCAN:
        return run_scan(s, op);
    case CN_STORE_PAGE_PUT:
    case CN_STORE_PAGE_GET:
        return run_page(s, op, t->absent);
    }
    return CN_E_INVALID;
}

static bool is_page(const cn_store_op *op)
{
    return op->kind == CN_STORE_PAGE_PUT || op->kind == CN_STORE_PAGE_GET;
}

// ---- tasks

static fate choose_fate(sim *s, const cn_store_op *op)
{
    const cn_store_sim_faults *f = &s->faults;
    if (is_page(op) ? f->pages_down : f->log_down) return LOST_UNDONE;
    if (chance(s, f->lose_percent)) return (fate)(LOST_IN_TIME + cn_random_u64(&s->random) % 3);
    if (chance(s, f->fail_percent)) return (fate)(FAILS + cn_random_u64(&s->random) % 2);
    return IN_TIME;
}

static bool same_key(const cn_store_op *a, const cn_store_op *b)
{
    if (is_page(a) != is_page(b)) return false;
    return is_page(a) ? memcmp(&a->page_key, &b->page_key, sizeof a->page_key) == 0
                      : strcmp(a->key, b->key) == 0;
}

static void *copy_bytes(const void *bytes, uint32_t len)
{
    char *copy = bytes ? malloc(len + 1u) : NULL;
    CN_ASSERT(copy || !bytes);
    if (len && copy) memcpy(copy, bytes, len);
    return copy;
}

static task *add_task(sim *s, cn_store_port *port, cn_store_op *op, task *before)
{
    const cn_store_sim_faults *f = &s->faults;
    const uint64_t now = cn_clock_now_ns(&s->options.clock);
    const uint64_t span = f->delay_ns_max > f->delay_ns_min ? f->delay_ns_max - f->delay_ns_min : 0;
    task *t = calloc(1, sizeof *t);
    CN_ASSERT(t && s->task_count < s->task_max);
    *t = (task){.op = op, .port = port, .fate = choose_fate(s, op), .waits = before != NULL};
    if (before) before->after = t;
    t->conflict = chance(s, f->conflict_percent);
    t->absent = chance(s, f->absent_percent);
    const uint64_t delay = f->delay_ns_min + (span ? cn_random_u64(&s->random) % span : 0);
    t->done_ns = now + delay;
    t->run_ns = now + delay / 2;
    if (t->fate == LOST_LATE) {
        t->run_ns = op->deadline_ns + 1 + delay / 2;
        // A page's memory is its user's again once it is answered: nothing of it happens late.
        if (is_page(op)) t->fate = LOST_UNDONE;
        t->late = *op;
        t->late.reply = (cn_buf){0};
        t->late.value = copy_bytes(op->value, op->value_len);
        t->late.expected = copy_bytes(op->expected, op->expected_len);
    }
    cn_buf_clear(&op->reply);
    op->code = CN_OK;
    return s->tasks[s->task_count++] = t;
}

static void free_task(task *t)
{
    free((void *)t->late.value);
    free((void *)t->late.expected);
    free(t);
}

// The one before it in its chain, or an earlier one with its key, has not been answered.
static bool is_held(const sim *s, uint32_t at)
{
    const task *t = s->tasks[at];
    if (t->waits) return true;
    for (uint32_t i = 0; i < at; i++) {
        if (!s->tasks[i]->is_done && same_key(s->tasks[i]->op, t->op)) return true;
    }
    return false;
}

static void run_task(sim *s, task *t)
{
    cn_store_op *op = t->is_done ? &t->late : t->op;
    t->has_run = true;
    if (t->chain_code != CN_OK) op->code = t->chain_code;
    else if (t->fate != FAILS_UNDONE && t->fate != LOST_UNDONE) op->code = run_op(s, op, t);
    t->effect = s->effect_last;
}

static void answer_task(sim *s, task *t, cn_code code)
{
    if (code == CN_E_STORE) cn_buf_clear(&t->op->reply);
    else acknowledge(s, t->effect);
    if (t->after) {
        t->after->waits = false;
        t->after->chain_code = code;
    }
    t->op->code = code;
    t->is_done = true;
    cn_store_port_give(t->port, t->op);
}

// One look at a task; false if nothing changed.
static bool move_task(sim *s, uint32_t at, uint64_t now)
{
    task *t = s->tasks[at];
    bool moved = false;
    if (!t->has_run && (t->is_done ? now >= t->run_ns : now >= t->run_ns && !is_held(s, at))) {
        run_task(s, t);
        moved = true;
    }
    if (t->is_done) return moved;
    const bool chain_failed = t->has_run && t->chain_code != CN_OK;
    const bool in_time = t->has_run && now >= t->done_ns && t->fate < LOST_IN_TIME;
    if (chain_failed) {
        answer_task(s, t, t->chain_code);
    } else if (in_time) {
        answer_task(s, t, t->fate == IN_TIME ? t->op->code : CN_E_STORE);
    } else if (now >= t->op->deadline_ns) {
        answer_task(s, t, CN_E_STORE);
    } else {
        return moved;
    }
    return true;
}

static void drop_finished(sim *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->task_count; i++) {
        task *t = s->tasks[i];
        const bool happens_later = t->fate == LOST_LATE && !t->has_run && t->chain_code == CN_OK;
        if (t->is_done && !happens_later) free_task(t);
        else s->tasks[kept++] = t;
    }
    s->task_count = kept;
}

// ---- the store

static bool take_submitted(sim *s)
{
    bool took = false;
    for (uint32_t i = 0; i < s->base.port_count; i++) {
        cn_store_port *port = cn_store_port_at(&s->base, i);
        // Late tasks take places too; the rest waits in the ring.
        while (s->task_count < s->task_max / 2) {
            task *before = NULL;
            cn_store_op *op = cn_store_port_take(port);
            if (!op) break;
            for (; op; op = op->then) before = add_task(s, port, op, before);
            took = true;
        }
    }
    return took;
}

static uint64_t next_due_ns(const sim *s)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < s->task_count; i++) {
        const task *t = s->tasks[i];
        const uint64_t at = !t->has_run              ? t->run_ns
                            : t->fate < LOST_IN_TIME ? t->done_ns
                                                     : UINT64_MAX;
        if (at < due) due = at;
        if (!t->is_done && t->op->deadline_ns < due) due = t->op->deadline_ns;
    }
    return due;
}

static bool round_of(sim *s)
{
    const uint64_t now = cn_clock_now_ns(&s->options.clock);
    bool worked = take_submitted(s);
    for (uint32_t i = 0; i < s->task_count; i++) worked |= move_task(s, i, now);
    drop_finished(s);
    cn_store_ports_flush(&s->base);
    return worked;
}

static bool sim_poll(cn_store *store, uint64_t timeout_ns)
{
    sim *s = (sim *)store;
    if (round_of(s)) return true;
    if (timeout_ns == 0 || !s->options.wake) return false;
    cn_wake_prepare(s->options.wake);
    if (cn_store_ports_waiting(store)) {
        cn_wake_cancel(s->options.wake);
    } else {
        const uint64_t now = cn_clock_now_ns(&s->options.clock), due = next_due_ns(s);
        const uint64_t wait = due == UINT64_MAX ? UINT64_MAX : due > now ? due - now : 1;
        cn_wake_wait(s->options.wake, wait < timeout_ns ? wait : timeout_ns);
    }
    return round_of(s);
}

static void sim_state(const cn_store *store, cn_store_state *out)
{
    const sim *s = (const sim *)store;
    *out = (cn_store_state){.log_up = !s->faults.log_down, .pages_up = !s->faults.pages_down,
                            .durability = s->options.durability};
}

static void close_table(table *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        free(t->items[i]->value);
        free(t->items[i]);
    }
    free(t->items);
    cn_map_close(t->by_key);
}

static void forget_undos(sim *s)
{
    for (uint32_t i = 0; i < s->undo_count; i++) free(s->undos[i].value);
    s->undo_count = 0;
}

static void sim_close(cn_store *store)
{
    if (!store) return;
    sim *s = (sim *)store;
    for (uint32_t i = 0; i < s->task_count; i++) free_task(s->tasks[i]);
    free(s->tasks);
    forget_undos(s);
    free(s->undos);
    close_table(&s->log);
    close_table(&s->pages);
    cn_store_ports_close(store);
    free(s);
}

static const cn_store_ops sim_ops = {"sim", sim_close, sim_poll, sim_state};

cn_code cn_store_sim_open(const cn_store_sim_options *options, cn_store **out, cn_err *err)
{
    *out = NULL;
    sim *s = calloc(1, sizeof *s);
    if (!s) return cn_err_set(err, CN_E_MEMORY, "no memory for a simulated store");
    s->base.ops = &sim_ops;
    s->options = *options;
    s->random_state = options->seed;
    s->random = cn_random_seeded(&s->random_state);
    s->task_max = 4 * options->port_count * options->op_max;
    s->tasks = calloc(s->task_max, sizeof(task *));
    if (!s->tasks || cn_map_open(64, options->seed, &s->log.by_key) != CN_OK ||
        cn_map_open(64, options->seed, &s->pages.by_key) != CN_OK ||
        cn_store_ports_open(&s->base, options->port_count, options->op_max, options->wake) !=
            CN_OK) {
        sim_close(&s->base);
        return cn_err_set(err, CN_E_MEMORY, "no memory for a simulated store");
    }
    *out = &s->base;
    return CN_OK;
}

void cn_store_sim_set_faults(cn_store *store, const cn_store_sim_faults *faults)
{
    ((sim *)store)->faults = *faults;
}

static void crash_log(sim *s)
{
    const uint64_t open_count = s->effect_last - s->effect_acknowledged;
    const uint64_t kept = s->effect_acknowledged + cn_random_u64(&s->random) % (open_count + 1);
    while (s->undo_count > 0 && s->undos[s->undo_count - 1].number > kept) {
        const undo *u = &s->undos[--s->undo_count];
        free(u->at->value);
        u->at->value = u->value;
        u->at->value_len = u->value_len;
        u->at->dies_ns = u->dies_ns;
    }
    forget_undos(s);
    s->effect_acknowledged = s->effect_last;
}

void cn_store_sim_crash(cn_store *store)
{
    sim *s = (sim *)store;
    do {
        for (uint32_t i = 0; i < s->task_count; i++) {
            s->tasks[i]->fate = LOST_UNDONE;         // nothing of it happens any more
            if (!s->tasks[i]->is_done) answer_task(s, s->tasks[i], CN_E_STORE);
        }
        drop_finished(s);
    } while (take_submitted(s));
    crash_log(s);
    cn_store_sim_evict(store, 100);
    cn_store_ports_flush(store);
}

const void *cn_store_sim_peek(cn_store *store, const char *key, uint32_t *value_len)
{
    const sim *s = (const sim *)store;
    const item *i = find_item(&s->log, key, (uint32_t)strlen(key));
    if (!is_alive(s, i)) return NULL;
    *value_len = i->value_len;
    return i->value;
}

bool cn_store_sim_poke(cn_store *store, const char *key, const void *value, uint32_t value_len)
{
    sim *s = (sim *)store;
    item *i = find_or_add_item(&s->log, key, (uint32_t)strlen(key));
    if (!i || !set_value(s, i, value, value_len, 0)) return false;
    acknowledge(s, s->effect_last);
    return true;
}

void cn_store_sim_evict(cn_store *store, uint32_t percent)
{
    sim *s = (sim *)store;
    for (uint32_t i = 0; i < s->pages.count; i++) {
        item *page = s->pages.items[i];
        if (!page->value || !chance(s, percent)) continue;
        free(page->value);
        page->value = NULL;
    }
}

uint32_t cn_store_sim_page_count(const cn_store *store)
{
    const sim *s = (const sim *)store;
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->pages.count; i++) count += s->pages.items[i]->value != NULL;
    return count;
}
