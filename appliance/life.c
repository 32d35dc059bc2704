#include "appliance/life.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "appliance/agent.h"
#include "appliance/cli.h"
#include "appliance/control.h"
#include "appliance/notify.h"

/* How it works. One loop waits for signals, for HAProxy, for commands, and for the next tick. A tick
 * looks whether every thread has gone on since the last one, and only if all have, systemd is told
 * WATCHDOG=1: the watchdog is fed by the slowest thread and not by a timer. The device may take
 * watchdog.stall_seconds for a step while sequences run; one that takes longer is stalled, and a
 * server with something stalled is not fed.
 *
 * A drain has two phases:
 *
 *    RETIRES  drain.notice_ms  /readyz and the agent say so, answers close their connections, and who
 *                              comes is served: load balancers learn it and nobody is refused
 *    DRAINS   drain.seconds    no connection is accepted, and after a second, for requests that were on
 *                              their way, no request; running answers end, pages reach the store
 *
 * Both limits, counted together from the signal on, may be changed by SIGHUP on the way. */

enum { TICK_MS = 1000, DRAIN_CHECK_MS = 20, TELL_MS = 1000, LOG_MS = 5000, LAST_MS = 1000,
       PATIENCE_US = 30000000, ORDERED = -1 };
static const uint64_t MS = 1000000;

struct cn_life {
    cn_life_options options;
    const cn_life_rooms *rooms;
    int signals, agent;                  // -1: none
    cn_control *control;                 // NULL: none
    cn_notify notify;
    cn_pulse device;
    // The device, then the threads.
    cn_pulse *pulses[sizeof((cn_life_rooms *)0)->pulses / sizeof(cn_pulse *) + 1];
    uint32_t pulse_count;
    const char *stalled, *blocked;
    bool is_draining;
    uint64_t tick_ns, fed_ns;
};

// ---- opening

static cn_code open_signals(cn_life *life, cn_err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    // Blocked in every thread that is started from here on; the main thread reads them.
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    life->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return life->signals >= 0 ? CN_OK : cn_err_set(err, CN_E_IO, "signalfd: %s", strerror(errno));
}

cn_code cn_life_open(const cn_life_options *options, cn_life **out, cn_err *err)
{
    cn_life *life = calloc(1, sizeof *life);
    *out = NULL;
    if (!life) return cn_err_set(err, CN_E_MEMORY, "no memory");
    life->options = *options;
    life->signals = life->agent = life->notify.fd = -1;
    life->device.name = "device";
    cn_code code = open_signals(life, err);
    if (code == CN_OK) code = cn_notify_open(&life->notify, err);
    if (code == CN_OK) *out = life;
    else cn_life_close(life);
    return code;
}

void cn_life_close(cn_life *life)
{
    if (!life) return;
    cn_control_close(life->control);
    cn_notify_close(&life->notify);
    if (life->agent >= 0) close(life->agent);
    if (life->signals >= 0) close(life->signals);
    free(life);
}

cn_code cn_life_listen(cn_life *life, cn_err *err)
{
    const cn_config_settings *s = life->options.settings;
    cn_err why;
    if (cn_control_open(s->run_directory, &life->control, &why) != CN_OK)
        cn_log_event(life->options.log, CN_LOG_INFO, "no_control", cn_log_text("why", why.text));
    if (!s->agent_listen[0]) return CN_OK;
    return cn_agent_open("agent.listen", s->agent_listen, &life->agent, err);
}

static int next_signal(const cn_life *life)
{
    struct signalfd_siginfo info;
    return read(life->signals, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

void cn_life_load(cn_life *life, uint64_t done, uint64_t total)
{
    const int stop = next_signal(life);
    const uint64_t now_ns = cn_clock_now_ns(&life->options.clock);
    if (stop) _exit(128 + stop);
    if (now_ns - life->tick_ns < TICK_MS * MS) return;
    life->tick_ns = now_ns;
    cn_notify_send(&life->notify,
                   "EXTEND_TIMEOUT_USEC=%d\nSTATUS=loading weights: %llu %% of %.1f GB", PATIENCE_US,
                   (unsigned long long)(total ? done * 100 / total : 100), (double)total / 1e9);
}

// ---- the doors

static void answer_agent(const cn_life *life)
{
    const cn_metrics *m = life->rooms->metrics;
    cn_engine_info info;
    char line[32];
    if (life->is_draining) {
        cn_agent_answer(life->agent, "drain\n");
        return;
    }
    if (life->blocked || life->stalled) {
        cn_agent_answer(life->agent, "maint\n");
        return;
    }
    cn_engine_info_get(life->rooms->engine, &info);
    const cn_agent_load load = {
        .page_count = cn_metrics_get(&m->pages), .page_held_count = cn_metrics_get(&m->pages_held),
        .running_count = cn_metrics_get(&m->sequences_running),
        .waiting_count = cn_metrics_get(&m->sequences_waiting), .slot_count = info.slot_count};
    snprintf(line, sizeof line, "up ready %u%%\n", cn_agent_percent(&load));
    cn_agent_answer(life->agent, line);
}

// ---- ticks

// Steps of the device that were done; or, while it has nothing to do, one more than last time.
static void beat_for_device(cn_life *life)
{
    const cn_metrics *m = life->rooms->metrics;
    if (cn_metrics_get(&m->sequences_running) == 0) cn_pulse_beat(&life->device);
    else atomic_store_explicit(&life->device.rounds, cn_metrics_get(&m->steps) | 1ull << 63,
                               memory_order_relaxed);
}

static const char *status(const cn_life *life)
{
    if (life->stalled) return life->stalled;
    if (life->blocked) return life->blocked;
    return life->is_draining ? NULL : "ready";
}

static void tend(cn_life *life, uint64_t now_ns)
{
    const char *was = life->stalled;
    const uint64_t limit_ns = life->options.settings->watchdog_stall_seconds * 1000 * MS;
    beat_for_device(life);
    cn_pulse_check(life->pulses, life->pulse_count, now_ns);
    life->stalled = cn_pulse_stalled(life->pulses, life->pulse_count, now_ns, limit_ns);
    if (life->stalled != was) {
        cn_api_stall(life->rooms->api, life->stalled);
        cn_log_event(life->options.log, life->stalled ? CN_LOG_ERROR : CN_LOG_INFO,
                     life->stalled ? "stalled" : "goes_on",
                     cn_log_text("thread", life->stalled ? life->stalled : was));
    }
    const bool all = cn_pulse_all_since(life->pulses + 1, life->pulse_count - 1, life->fed_ns);
    if (life->notify.watchdog_ns && all && !life->stalled) {
        cn_notify_send(&life->notify, "WATCHDOG=1");
        life->fed_ns = now_ns;
    }
}

static uint64_t tick_ns(const cn_life *life)
{
    const uint64_t quarter_ns = life->notify.watchdog_ns / 4;
    return quarter_ns && quarter_ns < TICK_MS * MS ? quarter_ns : TICK_MS * MS;
}

static void tick(cn_life *life)
{
    const uint64_t now_ns = cn_clock_now_ns(&life->options.clock);
    const char *before = status(life);
    if (now_ns - life->tick_ns < tick_ns(life)) return;
    life->tick_ns = now_ns;
    life->blocked = cn_network_watch(life->rooms->network);
    cn_api_block(life->rooms->api, life->blocked);
    cn_keys_watch_poll(life->rooms->keys);
    tend(life, now_ns);
    if (status(life) && status(life) != before) {
        const char *name = life->stalled ? "stalled: " : "";
        cn_notify_send(&life->notify, "STATUS=%s%s", name, status(life));
    }
}

static void reload(cn_life *life)
{
    cn_err err;
    const uint64_t now_us = cn_clock_now_ns(&life->options.clock) / 1000;
    cn_notify_send(&life->notify, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)now_us);
    const cn_code code = cn_reload_run(&life->options.source, life->options.settings, life->options.log,
                                       &err);
    if (code == CN_OK) cn_keys_watch_reload(life->rooms->keys);
    if (code == CN_OK) cn_log_write(life->options.log, CN_LOG_INFO, "reload_done", NULL, 0);
    else cn_log_event(life->options.log, CN_LOG_ERROR, "reload_failed", cn_log_text("why", err.text));
    cn_notify_send(&life->notify, "READY=1\nSTATUS=%s", code == CN_OK ? "ready" : err.text);
}

/* Waits for at most `timeout_ms` and does what is to be done. Returns the signal that ends the server,
 * ORDERED for a command that does, or 0. */
static int round_of(cn_life *life, int timeout_ms)
{
    struct pollfd fds[2 + CN_CONTROL_FDS_MAX] = {{.fd = life->signals, .events = POLLIN},
                                                 {.fd = life->agent, .events = POLLIN}};
    const uint32_t count = 2 + cn_control_fds(life->control, fds + 2);
    poll(fds, count, timeout_ms);
    if (life->agent >= 0 && fds[1].revents) answer_agent(life);
    const bool is_ordered = cn_control_act(life->control);
    tick(life);
    const int number = next_signal(life);
    if (number == SIGHUP) reload(life);
    else if (number) return number;
    return is_ordered ? ORDERED : 0;
}

// ---- drain

typedef struct drain {
    uint64_t start_ns, told_ns, logged_ns;
    bool is_aborted;
} drain;

static uint64_t elapsed_ns(const cn_life *life, uint64_t since_ns)
{
    return cn_clock_now_ns(&life->options.clock) - since_ns;
}

static void set_phase(cn_life *life, cn_life_phase phase)
{
    atomic_store(life->rooms->phase, phase);
    cn_wake_signal(life->rooms->net_wake);
}

static void tell_progress(cn_life *life, drain *d)
{
    const cn_life_rooms *r = life->rooms;
    char line[160];
    const uint64_t now_ns = cn_clock_now_ns(&life->options.clock);
    const uint64_t limit_ns = life->options.settings->drain_seconds * 1000 * MS;
    const uint64_t used_ns = now_ns - d->start_ns;
    const uint64_t left_ms = used_ns < limit_ns ? (limit_ns - used_ns) / MS : 0;
    const uint32_t requests = cn_api_request_count(r->api), connections = atomic_load(r->connections),
                   pages = cn_engine_unsaved_pages(r->engine);
    if (d->told_ns && now_ns - d->told_ns < TELL_MS * MS) return;
    d->told_ns = now_ns;
    snprintf(line, sizeof line, "draining: %u requests, %u connections, %u unsaved pages; %.1f s left\n",
             requests, connections, pages, (double)left_ms / 1e3);
    cn_control_tell(life->control, line);
    cn_notify_send(&life->notify, "EXTEND_TIMEOUT_USEC=%d\nSTATUS=%.*s", PATIENCE_US,
                   (int)strlen(line) - 1, line);
    if (d->logged_ns && now_ns - d->logged_ns < LOG_MS * MS) return;
    d->logged_ns = now_ns;
    cn_log_event(life->options.log, CN_LOG_INFO, "draining", cn_log_number("requests", requests),
                 cn_log_number("connections", connections), cn_log_number("unsaved_pages", pages),
                 cn_log_number("left_ms", (int64_t)left_ms));
}

static bool is_drained(const cn_life *life)
{
    const cn_life_rooms *r = life->rooms;
    // Before the listener is closed, having no connections says nothing.
    return atomic_load(r->net_phase) == CN_LIFE_DRAINS && atomic_load(r->connections) == 0 &&
           cn_api_request_count(r->api) == 0 &&
           cn_engine_unsaved_pages(r->engine) == 0;
}

// Cuts answers when the time is up; true if what is left then is not worth waiting for either.
static bool is_over_limit(cn_life *life, drain *d)
{
    const cn_config_settings *s = life->options.settings;
    const uint64_t limit_ns = s->drain_seconds * 1000 * MS, used_ns = elapsed_ns(life, d->start_ns);
    if (used_ns > limit_ns && !d->is_aborted) {
        d->is_aborted = true;
        cn_log_event(life->options.log, CN_LOG_WARN, "drain_limit",
                     cn_log_number("requests", cn_api_request_count(life->rooms->api)));
        cn_api_abort(life->rooms->api);
    }
    // What is left after the answers are cut and kept are connections that do not read.
    return used_ns > limit_ns + s->limits.store_ms * MS + 1000 * MS;
}

/* Waits for running answers, for their last bytes, and for pages on their way to the store. Returns
 * the exit code. */
static int run_drain(cn_life *life)
{
    drain d = {.start_ns = cn_clock_now_ns(&life->options.clock)};
    int again = 0;
    life->is_draining = true;
    cn_notify_send(&life->notify, "STOPPING=1");
    cn_api_retire(life->rooms->api);
    set_phase(life, CN_LIFE_RETIRES);
    tell_progress(life, &d);
    while (again <= 0 && elapsed_ns(life, d.start_ns) < life->options.settings->drain_notice_ms * MS) {
        again = round_of(life, DRAIN_CHECK_MS);
        tell_progress(life, &d);
    }
    const uint64_t drains_ns = cn_clock_now_ns(&life->options.clock);
    set_phase(life, CN_LIFE_DRAINS);
    while (again <= 0 && !is_drained(life) && !is_over_limit(life, &d)) {
        again = round_of(life, DRAIN_CHECK_MS);
        if (elapsed_ns(life, drains_ns) > LAST_MS * MS) cn_api_drain(life->rooms->api);
        cn_wake_signal(life->rooms->net_wake);       // it may have missed the first (base/wake.h)
        tell_progress(life, &d);
    }
    if (again > 0) return 128 + again;           // a second command changes nothing
    const uint64_t took_ms = elapsed_ns(life, d.start_ns) / MS;
    char line[64];
    cn_log_event(life->options.log, CN_LOG_INFO, "drained", cn_log_number("ms", (int64_t)took_ms));
    snprintf(line, sizeof line, "drained in %llu ms\n", (unsigned long long)took_ms);
    cn_control_tell(life->control, line);
    return CN_EXIT_OK;
}

int cn_life_run(cn_life *life, const cn_life_rooms *rooms)
{
    life->rooms = rooms;
    life->pulses[life->pulse_count++] = &life->device;
    for (uint32_t i = 0; i < rooms->pulse_count; i++) {
        life->pulses[life->pulse_count++] = rooms->pulses[i];
    }
    life->tick_ns = 0;
    cn_notify_send(&life->notify, "READY=1\nSTATUS=ready");
    while (round_of(life, (int)(tick_ns(life) / MS)) == 0) continue;
    return run_drain(life);
}
