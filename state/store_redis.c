#include "state/store_redis.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/redis_log_int.h"
#include "state/redis_pages_int.h"
#include "state/store_int.h"

/* How it works. One thread, one loop, one ppoll over the connections of both roles and the wake:
 * what arrived on ports goes to its role, then each role sends, ends what is late and tends its
 * connections. All commands that arrived since the last round leave together, which is what lets
 * Redis sync its file once for many of them. */

typedef struct redis_store {
    cn_store base;
    cn_redis_settings settings;
    cn_redis_target log_target, page_target;
    cn_redis_log *log;               // NULL: no log
    cn_redis_pages *pages;           // NULL: none
    cn_wake *wake;
    const cn_log *logger;
    struct pollfd *fds;
    cn_redis_link **links;           // of fds: links first
    uint32_t fd_max;
    pthread_mutex_t mutex;           // over `shown`, for state from any thread
    cn_store_state shown;
} redis_store;

static bool is_page(const cn_store_op *op)
{
    return op->kind == CN_STORE_PAGE_PUT || op->kind == CN_STORE_PAGE_GET;
}

static void give_chain(cn_store_port *port, cn_store_op *op, cn_code code)
{
    for (cn_store_op *next; op; op = next) {
        next = op->then;
        op->code = code;
        cn_buf_clear(&op->reply);
        cn_store_port_give(port, op);
    }
}

static bool take_submitted(redis_store *s)
{
    bool took = false;
    for (uint32_t i = 0; i < s->base.port_count; i++) {
        cn_store_port *port = cn_store_port_at(&s->base, i);
        for (cn_store_op *op; (op = cn_store_port_take(port)); took = true) {
            if (is_page(op) && op->then) give_chain(port, op, CN_E_INVALID);
            else if (is_page(op) && s->pages) cn_redis_pages_take(s->pages, port, op);
            else if (!is_page(op) && s->log) cn_redis_log_take(s->log, port, op);
            else give_chain(port, op, CN_E_STORE);
        }
    }
    return took;
}

static void log_change(const redis_store *s, const char *role, bool up, const char *why)
{
    cn_log_event(s->logger, up ? CN_LOG_INFO : CN_LOG_WARN, up ? "store_up" : "store_away",
                 cn_log_text("role", role), cn_log_text("why", why),
                 cn_log_text("durability", cn_store_durability_name(s->settings.durability)));
}

static void show_state(redis_store *s)
{
    char log_why[sizeof s->shown.text] = "", pages_why[sizeof s->shown.text] = "";
    cn_store_state now = {.durability = s->settings.durability};
    now.log_up = s->log && cn_redis_nodes_up(cn_redis_log_nodes(s->log), log_why, sizeof log_why);
    now.pages_up = s->pages && cn_redis_pages_up(s->pages, pages_why, sizeof pages_why);
    snprintf(now.text, sizeof now.text, "%s", log_why[0] ? log_why : pages_why);
    const cn_store_state was = s->shown;
    if (now.log_up == was.log_up && now.pages_up == was.pages_up && strcmp(now.text, was.text) == 0)
        return;
    pthread_mutex_lock(&s->mutex);
    s->shown = now;
    pthread_mutex_unlock(&s->mutex);
    if (s->settings.metrics) {
        cn_metrics_set(&s->settings.metrics->store_log_up, now.log_up);
        cn_metrics_set(&s->settings.metrics->store_pages_up, now.pages_up);
    }
    if (s->log && now.log_up != was.log_up) log_change(s, "log", now.log_up, log_why);
    if (s->pages && now.pages_up != was.pages_up) log_change(s, "pages", now.pages_up, pages_why);
}

// One round without waiting.
static bool round_of(redis_store *s)
{
    bool worked = take_submitted(s);
    const uint64_t now = cn_clock_now_ns(&s->settings.clock);
    if (s->log) worked |= cn_redis_log_tend(s->log, now);
    if (s->pages) worked |= cn_redis_pages_tend(s->pages, now);
    cn_store_ports_flush(&s->base);
    return worked;
}

// The wake, then links, then lanes. Returns how many; *link_count of them links.
static uint32_t fill_fds(redis_store *s, uint32_t *link_count)
{
    uint32_t n = 0, at = 0;
    s->fds[n++] = (struct pollfd){.fd = s->wake ? s->wake->fd : -1, .events = POLLIN};
    for (cn_redis_link *link;
         s->log && (link = cn_redis_nodes_next_link(cn_redis_log_nodes(s->log), &at));) {
        s->links[n] = link;
        s->fds[n++] = cn_redis_link_pollfd(link);
    }
    *link_count = n - 1;
    for (uint32_t i = 0; s->pages && cn_redis_pages_lane(s->pages, i); i++)
        s->fds[n++] = cn_redis_lane_pollfd(cn_redis_pages_lane(s->pages, i));
    return n;
}

static uint64_t wait_ns(const redis_store *s, uint64_t timeout_ns)
{
    const uint64_t now = cn_clock_now_ns(&s->settings.clock);
    uint64_t due = UINT64_MAX;
    if (s->log) due = cn_redis_log_due_ns(s->log, now);
    if (s->pages && cn_redis_pages_due_ns(s->pages) < due) due = cn_redis_pages_due_ns(s->pages);
    if (due == UINT64_MAX) return timeout_ns;
    const uint64_t wait = due > now ? due - now : 0;
    return wait < timeout_ns ? wait : timeout_ns;
}

static bool wait_and_handle(redis_store *s, uint64_t timeout_ns)
{
    uint32_t link_count;
    const uint32_t count = fill_fds(s, &link_count);
    const struct timespec limit = {(time_t)(timeout_ns / 1000000000u),
                                   (long)(timeout_ns % 1000000000u)};
    const int ready = ppoll(s->fds, count, timeout_ns == UINT64_MAX ? NULL : &limit, NULL);
    if (s->wake) {
        // Whoever signals from here on finds us awake.
        if (s->fds[0].revents) cn_wake_wait(s->wake, 0);
        else cn_wake_cancel(s->wake);
    }
    if (ready <= 0) return false;
    for (uint32_t i = 1; i < count; i++) {
        if (!s->fds[i].revents) continue;
        if (i <= link_count) cn_redis_link_events(s->links[i], s->fds[i].revents);
        else
            cn_redis_lane_events(cn_redis_pages_lane(s->pages, i - 1 - link_count),
                                 s->fds[i].revents);
    }
    return true;
}

static bool redis_poll(cn_store *store, uint64_t timeout_ns)
{
    redis_store *s = (redis_store *)store;
    bool worked = round_of(s);
    if (worked) timeout_ns = 0;      // what came of it is on the sockets soon; look, do not wait
    if (s->wake) cn_wake_prepare(s->wake);
    if (cn_store_ports_waiting(store)) timeout_ns = 0;
    worked |= wait_and_handle(s, timeout_ns ? wait_ns(s, timeout_ns) : 0);
    worked |= round_of(s);
    if (worked) show_state(s);
    return worked;
}

static void redis_state(const cn_store *store, cn_store_state *out)
{
    redis_store *s = (redis_store *)(uintptr_t)store;
    pthread_mutex_lock(&s->mutex);
    *out = s->shown;
    pthread_mutex_unlock(&s->mutex);
}

static void redis_close(cn_store *store)
{
    if (!store) return;
    redis_store *s = (redis_store *)store;
    cn_redis_log_close(s->log);
    cn_redis_pages_close(s->pages);
    cn_store_ports_close(store);
    free(s->fds);
    free(s->links);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

static const cn_store_ops redis_ops = {"redis", redis_close, redis_poll, redis_state};

static cn_code parse_targets(redis_store *s, const cn_store_redis_options *o, cn_err *err)
{
    cn_code code = cn_redis_address_parse("state.log", o->log, &s->log_target, err);
    if (code == CN_OK) code = cn_redis_address_parse("state.pages", o->pages, &s->page_target, err);
    if (code != CN_OK) return code;
    if (s->log_target.mode == CN_REDIS_PLAIN && s->log_target.server_count > 1)
        return cn_err_set(
            err, CN_E_INVALID,
            "state.log: %u servers; must be one, or sentinel:NAME@..., or cluster:...",
            s->log_target.server_count);
    if (s->page_target.mode == CN_REDIS_SENTINEL || s->page_target.mode == CN_REDIS_CLUSTER)
        return cn_err_set(err, CN_E_INVALID, "state.pages: \"%s\"; must be plain servers",
                          o->pages);
    if (s->log_target.mode == CN_REDIS_CLUSTER && o->database != 0)
        return cn_err_set(err, CN_E_INVALID, "state.database: %u; a cluster has 0 only",
                          o->database);
    return CN_OK;
}

static cn_code open_roles(redis_store *s, const cn_store_redis_options *o)
{
    const uint32_t request_max = o->port_count * o->op_max;
    cn_code code = cn_store_ports_open(&s->base, o->port_count, o->op_max, o->wake);
    s->fd_max = 1;
    if (code == CN_OK && s->log_target.mode != CN_REDIS_NONE) {
        code = cn_redis_log_open(&s->log_target, &s->settings, o->connection_count, request_max,
                                 &s->log);
        if (code == CN_OK) s->fd_max += cn_redis_nodes_link_max(cn_redis_log_nodes(s->log));
    }
    if (code == CN_OK && s->page_target.mode != CN_REDIS_NONE) {
        code = cn_redis_pages_open(&s->page_target, &s->settings, o->page_bytes, request_max,
                                   &s->pages);
        s->fd_max += 2 * s->page_target.server_count;
    }
    s->fds = calloc(s->fd_max, sizeof *s->fds);
    s->links = calloc(s->fd_max, sizeof *s->links);
    return code == CN_OK && s->fds && s->links ? CN_OK : CN_E_MEMORY;
}

cn_code cn_store_redis_open(const cn_store_redis_options *o, cn_store **out, cn_err *err)
{
    *out = NULL;
    redis_store *s = calloc(1, sizeof *s);
    if (!s) return cn_err_set(err, CN_E_MEMORY, "no memory for the store");
    pthread_mutex_init(&s->mutex, NULL);
    s->base.ops = &redis_ops;
    s->wake = o->wake;
    s->logger = o->logger;
    s->settings = (cn_redis_settings){
        .user = o->user,
        .password = o->password,
        .database = o->database,
        .durability = o->durability,
        .log_timeout_ns = o->log_timeout_ns,
        .page_timeout_ns = o->page_timeout_ns,
        .clock = o->clock,
        .random = o->random,
        .metrics = o->metrics,
    };
    s->shown = (cn_store_state){.durability = o->durability, .text = "connecting"};
    cn_code code = parse_targets(s, o, err);
    if (code == CN_OK && open_roles(s, o) != CN_OK)
        code = cn_err_set(err, CN_E_MEMORY, "no memory for the store");
    if (code != CN_OK) redis_close(&s->base);
    else *out = &s->base;
    return code;
}
