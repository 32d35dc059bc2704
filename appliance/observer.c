#include "appliance/observer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/otlp_file.h"
#include "appliance/window.h"

/* How it works. The page is a struct that each sample fills anew: gauges and totals are copied from
 * the metrics, rates come from a ring of the last samples, quantiles from windows, and the slow
 * requests from the records that came through the ring. Nothing here is asked of a working thread.
 */

enum {
    RECORDS = 4096,              // that may end in one second
    SAMPLES = CN_PAGE_SPARK_COUNT + 1,
    RATE_SECONDS = 10,
    SESSIONS = 16384, SESSION_TRIES = 8
};
static const uint64_t HOUR_NS = 3600000000000;

// What rates are made of.
typedef struct sample {
    uint64_t at_ns, generated, computed, requests, busy_ns, steps;
    uint64_t received_bytes, sent_bytes, frames_in, frames_out;
} sample;

typedef struct session {
    uint64_t id, seen_ns;
} session;

struct cn_observer {
    cn_observer_options options;
    const cn_api *api;
    cn_ring *ended;
    cn_otlp_file *otlp;          // NULL: none
    bool shows;                  // there is a page to fill
    cn_window *ttft, *tpot, *step, *write;
    sample samples[SAMPLES];
    uint64_t sample_count;
    session sessions[SESSIONS];
    cn_durability durability;
    cn_page page;
};

// ---- what does not change

static const char *source_name(cn_config_source source)
{
    static const char *const names[] = {"default", "file", "environment", "flag"};
    return names[source];
}

static void add_setting(cn_page *page, const cn_config_key *key, const char *value,
                        cn_config_source source)
{
    cn_page_setting *s = &page->settings[page->setting_count++];
    s->key = key->key;
    s->source = source_name(source);
    snprintf(s->value, sizeof s->value, strlen(value) < sizeof s->value ? "%s" : "%.150s ...",
             value);
}

static void find_settings(cn_page *page, const cn_config_settings *settings)
{
    uint32_t count;
    const cn_config_key *keys = cn_config_keys(&count);
    for (uint32_t i = 0; i < count && page->setting_count < CN_PAGE_CONFIG_MAX; i++) {
        const char *at = (const char *)settings + keys[i].offset;
        char number[32];
        uint64_t value = 0;
        if (keys[i].is_text) {
            const char *text;
            memcpy(&text, at, sizeof text);
            if (strcmp(text, keys[i].initial_text) == 0) continue;
            add_setting(page, &keys[i], text, settings->sources[i]);
            continue;
        }
        memcpy(&value, at, sizeof value);
        if (value == keys[i].initial) continue;
        snprintf(number, sizeof number, "%" PRIu64, value);
        add_setting(page, &keys[i], number, settings->sources[i]);
    }
}

static cn_code open_windows(cn_observer *o)
{
    const cn_metrics *m = o->options.metrics;
    const uint64_t now_ns = cn_clock_now_ns(&o->options.clock);
    cn_code code = cn_window_open(&m->first_token_ns.all, now_ns, &o->ttft);
    if (code == CN_OK) code = cn_window_open(&m->inter_token_ns.all, now_ns, &o->tpot);
    if (code == CN_OK) code = cn_window_open(&m->step_ns.all, now_ns, &o->step);
    return code == CN_OK ? cn_window_open(&m->store_write_ns.all, now_ns, &o->write) : code;
}

cn_ring *cn_observer_ended(cn_observer *o) { return o ? o->ended : NULL; }

void cn_observer_attach(cn_observer *o, const cn_api *api, const char *address)
{
    o->api = api;
    o->page.address = address;
}

const cn_page *cn_observer_page(const cn_observer *o) { return &o->page; }

// ---- records

static uint64_t whole_ns(const cn_tracing_record *r)
{
    uint64_t ns = 0;
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) ns += r->phase_ns[i];
    return ns;
}

// Keeps the slowest, slowest first.
static void note_slow(cn_page *p, const cn_tracing_record *r)
{
    uint32_t at = p->slow_count;
    if (at == CN_PAGE_SLOW_MAX && whole_ns(r) <= whole_ns(&p->slow[at - 1])) return;
    if (at == CN_PAGE_SLOW_MAX) at--;
    else p->slow_count++;
    for (; at > 0 && whole_ns(&p->slow[at - 1]) < whole_ns(r); at--) p->slow[at] = p->slow[at - 1];
    p->slow[at] = *r;
}

static void forget_slow(cn_page *p, uint64_t wall_ns)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->slow_count; i++) {
        if (p->slow[i].end_wall_ns + HOUR_NS > wall_ns) p->slow[kept++] = p->slow[i];
    }
    p->slow_count = kept;
}

// A full neighbourhood forgets the one that was not seen for longest: the count is a little low then.
static void note_session(cn_observer *o, uint64_t id, uint64_t now_ns)
{
    session *oldest = NULL;
    for (uint32_t i = 0; id && i < SESSION_TRIES; i++) {
        session *s = &o->sessions[(id + i) % SESSIONS];
        if (s->id == id) {
            oldest = s;
            break;
        }
        if (!oldest || s->seen_ns < oldest->seen_ns) oldest = s;
    }
    if (oldest) *oldest = (session){id, now_ns};
}

static uint32_t count_sessions(const cn_observer *o, uint64_t now_ns)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SESSIONS; i++) {
        count += o->sessions[i].id && o->sessions[i].seen_ns + HOUR_NS > now_ns;
    }
    return count;
}

static void note(cn_observer *o, const cn_tracing_record *r, uint64_t now_ns)
{
    if (r->phase_ns[CN_TRACING_QUEUE] + r->phase_ns[CN_TRACING_PREFILL] == 0) return;
    note_slow(&o->page, r);
    if (r->phase_ns[CN_TRACING_PREFILL] == 0) return;        // it had no place in the batch
    const cn_page_tier tier = r->store_tokens    ? CN_PAGE_REDIS
                              : r->host_tokens   ? CN_PAGE_HOST
                              : r->cached_tokens ? CN_PAGE_DEVICE
                                                 : CN_PAGE_COMPUTED;
    o->page.resumed_turns[tier]++;
    note_session(o, r->session, now_ns);
}

static void take_records(cn_observer *o, uint64_t now_ns)
{
    cn_tracing_record record;
    for (uint32_t i = 0; i < RECORDS && cn_ring_take(o->ended, &record); i++) {
        if (o->otlp) cn_otlp_file_add(o->otlp, &record);
        if (o->shows) note(o, &record, now_ns);
    }
    if (o->otlp) cn_metrics_add(&o->options.metrics->trace_lost, cn_otlp_file_flush(o->otlp));
}

// ---- open and close

cn_code cn_observer_open(const cn_observer_options *options, cn_observer **out, cn_err *err)
{
    const cn_config_settings *c = options->settings;
    cn_observer *o = calloc(1, sizeof *o);
    *out = NULL;
    if (!o) return cn_err_set(err, CN_E_MEMORY, "observer: no memory");
    o->options = *options;
    o->shows = c->admin_listen[0] != '\0';
    cn_code code = cn_ring_open(RECORDS, sizeof(cn_tracing_record), &o->ended);
    if (code == CN_OK && o->shows) code = open_windows(o);
    if (code != CN_OK) cn_err_set(err, code, "observer: no memory");
    if (code == CN_OK && c->otlp_file[0]) {
        code = cn_otlp_file_open(c->otlp_file, c->otlp_bytes, options->log, &o->otlp, err);
    }
    if (code != CN_OK) {
        cn_observer_close(o);
        return code;
    }
    find_settings(&o->page, c);
    *out = o;
    return CN_OK;
}

void cn_observer_close(cn_observer *o)
{
    if (!o) return;
    if (o->api) take_records(o, cn_clock_now_ns(&o->options.clock));     // of the last second
    cn_otlp_file_close(o->otlp);
    cn_window_close(o->ttft);
    cn_window_close(o->tpot);
    cn_window_close(o->step);
    cn_window_close(o->write);
    cn_ring_close(o->ended);
    free(o);
}

// ---- rates

static void take_sample(cn_observer *o, uint64_t now_ns)
{
    const cn_metrics *m = o->options.metrics;
    o->samples[o->sample_count++ % SAMPLES] = (sample){
        .at_ns = now_ns,
        .generated = cn_metrics_get(&m->generated_tokens),
        .computed = cn_metrics_get(&m->step_tokens),
        .requests = cn_metrics_get(&m->http_2xx) + cn_metrics_get(&m->http_4xx) +
                    cn_metrics_get(&m->http_5xx),
        .busy_ns = cn_metrics_get(&m->device_busy_ns),
        .steps = cn_metrics_get(&m->steps),
        .received_bytes = cn_metrics_get(&m->received_bytes),
        .sent_bytes = cn_metrics_get(&m->sent_bytes),
        .frames_in = cn_metrics_get(&m->port_rx_frames),
        .frames_out = cn_metrics_get(&m->port_tx_frames)};
}

// The sample `back` seconds ago; the oldest if there are not as many.
static const sample *sample_before(const cn_observer *o, uint64_t back)
{
    const uint64_t newest = o->sample_count - 1;
    return &o->samples[(back < newest ? newest - back : 0) % SAMPLES];
}

static double rate(uint64_t from, uint64_t to, double seconds)
{
    return seconds > 0 && to > from ? (double)(to - from) / seconds : 0;
}

static void fill_rates(const cn_observer *o, cn_page *p)
{
    const sample *to = sample_before(o, 0), *from = sample_before(o, RATE_SECONDS);
    const double s = (double)(to->at_ns - from->at_ns) / 1e9;
    p->tokens_rate = rate(from->generated, to->generated, s);
    p->computed_rate = rate(from->computed, to->computed, s);
    p->requests_rate = rate(from->requests, to->requests, s);
    p->busy_ratio = rate(from->busy_ns, to->busy_ns, s) / 1e9;
    p->steps_rate = rate(from->steps, to->steps, s);
    p->received_rate = rate(from->received_bytes, to->received_bytes, s);
    p->sent_rate = rate(from->sent_bytes, to->sent_bytes, s);
    p->frames_in_rate = rate(from->frames_in, to->frames_in, s);
    p->frames_out_rate = rate(from->frames_out, to->frames_out, s);
    for (uint32_t i = 0; i < CN_PAGE_SPARK_COUNT; i++) {
        const uint64_t back = CN_PAGE_SPARK_COUNT - i - 1;
        p->spark[i] = 0;
        if (back + 1 >= o->sample_count || back + 2 > SAMPLES) continue;
        from = sample_before(o, back + 1);
        to = sample_before(o, back);
        p->spark[i] = rate(from->generated, to->generated, (double)(to->at_ns - from->at_ns) / 1e9);
    }
}

// ---- the rest of the page

static void fill_latency(cn_window *window, uint64_t now_ns, cn_page_latency *out)
{
    cn_window_sample(window, now_ns);
    for (int i = 0; i < CN_WINDOW_SPAN_COUNT; i++) {
        out->count[i] = cn_window_count(window, (cn_window_span)i);
        out->p50_ns[i] = cn_window_quantile(window, (cn_window_span)i, 0.5);
        out->p99_ns[i] = cn_window_quantile(window, (cn_window_span)i, 0.99);
    }
}

static void fill_totals(const cn_observer *o, cn_page *p)
{
    const cn_metrics *m = o->options.metrics;
    const struct { uint64_t *to; const _Atomic uint64_t *from; } totals[] = {
        {&p->running, &m->sequences_running}, {&p->waiting, &m->sequences_waiting},
        {&p->refused, &m->sequences_refused}, {&p->preempted, &m->preemptions},
        {&p->http_2xx, &m->http_2xx}, {&p->http_4xx, &m->http_4xx}, {&p->http_5xx, &m->http_5xx},
        {&p->connections, &m->connections}, {&p->prompt_tokens, &m->prompt_tokens},
        {&p->generated_tokens, &m->generated_tokens}, {&p->pages_held, &m->pages_held},
        {&p->pages_idle, &m->pages_idle}, {&p->evictions, &m->page_evictions},
        {&p->host_pages, &m->host_pages}, {&p->host_pages_used, &m->host_pages_used},
        {&p->behind_pages, &m->write_behind_pages}, {&p->behind_lost, &m->write_behind_lost},
        {&p->slow_readers, &m->slow_readers}, {&p->timeouts, &m->timeouts},
        {&p->malformed, &m->malformed}, {&p->store_reconnects, &m->store_reconnects},
        {&p->store_failed, &m->store_failed}, {&p->store_pages_read, &m->store_pages_read},
        {&p->store_pages_written, &m->store_pages_written},
        {&p->resumed_tokens[CN_PAGE_DEVICE], &m->cached_tokens},
        {&p->resumed_tokens[CN_PAGE_HOST], &m->cached_host_tokens},
        {&p->resumed_tokens[CN_PAGE_REDIS], &m->cached_store_tokens}};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        *totals[i].to = cn_metrics_get(totals[i].from);
    }
    uint64_t computed = p->prompt_tokens;
    for (int i = 0; i < CN_PAGE_COMPUTED; i++) {
        computed -= p->resumed_tokens[i] < computed ? p->resumed_tokens[i] : computed;
    }
    p->resumed_tokens[CN_PAGE_COMPUTED] = computed;
    p->port_dropped = cn_metrics_get(&m->port_rx_missed) + cn_metrics_get(&m->port_rx_no_frame) +
                      cn_metrics_get(&m->port_tx_full);
    p->link_up = cn_metrics_get(&m->port_link_up) != 0;
    p->port_gone = cn_metrics_get(&m->port_gone) != 0;
    // Gauges of one moment, read one after another: together they may be a page too many.
    if (p->pages_held > p->pages) p->pages_held = p->pages;
    if (p->pages_idle > p->pages - p->pages_held) p->pages_idle = p->pages - p->pages_held;
}

static void fill_fixed(const cn_observer *o, cn_page *p)
{
    const cn_config_settings *c = o->options.settings;
    p->model = o->options.model_name;
    p->backend = c->backend;
    p->hardware = o->options.hardware;
    p->running_max = o->options.engine.slot_count;
    p->waiting_max = c->limits.queue_requests;
    p->connections_max = c->limits.connections;
    p->pages = o->options.engine.page_count;
    p->page_bytes = o->options.engine.page_bytes;
    p->has_port = strcmp(c->transport, "dpdk") == 0;
}

static void fill_store(cn_observer *o, cn_page *p)
{
    cn_store_state state;
    p->has_store = o->options.store != NULL;
    if (!p->has_store) return;
    o->options.store->ops->state(o->options.store, &state);
    p->log_up = state.log_up;
    p->pages_up = state.pages_up;
    o->durability = state.durability;
    p->durability = cn_store_durability_name(state.durability);
    snprintf(p->store_text, sizeof p->store_text, "%s", state.text);
}

static void say(cn_page *p, cn_page_level level, const char *state, const char *reason)
{
    p->level = level;
    p->state = state;
    snprintf(p->reason, sizeof p->reason, "%s", reason);
}

// The worst that is true, and what it means to clients.
static void fill_state(const cn_observer *o, cn_page *p)
{
    static const char *const survives[] = {
        [CN_DURABILITY_MEMORY] = "everything is served; turns live in memory alone",
        [CN_DURABILITY_PROCESS] = "everything is served; acknowledged turns survive every crash",
        [CN_DURABILITY_FSYNC] = "everything is served; acknowledged turns survive a power loss",
        [CN_DURABILITY_FSYNC_REPLICA] =
            "everything is served; acknowledged turns survive the loss of a machine"};
    const char *blocked = cn_api_blocked(o->api), *stalled = cn_api_stalled(o->api);
    if (stalled) {
        say(p, CN_PAGE_BAD, "Stalled", "");
        snprintf(p->reason, sizeof p->reason,
                 "the %s thread does not go on; a watchdog should restart the process", stalled);
    } else if (cn_api_is_retiring(o->api)) {
        say(p, CN_PAGE_WARN, "Draining", "");
        snprintf(p->reason, sizeof p->reason,
                 "clients are sent elsewhere; %u requests are still being answered",
                 cn_api_request_count(o->api));
    } else if (blocked) {
        say(p, CN_PAGE_BAD, "Not ready", blocked);
    } else if (p->has_store && !p->log_up) {
        say(p, CN_PAGE_BAD, "Degraded",
            "Redis does not answer for turns: stored turns are refused, "
            "everything else is served");
    } else if (p->waiting >= p->waiting_max) {
        say(p, CN_PAGE_WARN, "Overloaded", "the queue is full: new requests are refused with 503");
    } else if (p->has_store && !p->pages_up) {
        say(p, CN_PAGE_WARN, "Degraded",
            "Redis does not answer for pages: what is not in memory is "
            "computed again");
    } else if (!p->has_store) {
        say(p, CN_PAGE_OK, "Ready", "all is served but stored turns: there is no store");
    } else {
        say(p, CN_PAGE_OK, "Ready", survives[o->durability]);
    }
}

void cn_observer_sample(cn_observer *o)
{
    const uint64_t now_ns = cn_clock_now_ns(&o->options.clock);
    cn_page *p = &o->page;
    take_records(o, now_ns);
    if (!o->shows) return;
    p->wall_ns = cn_clock_wall_ns(&o->options.clock);
    forget_slow(p, p->wall_ns);
    take_sample(o, now_ns);
    fill_rates(o, p);
    fill_latency(o->ttft, now_ns, &p->ttft);
    fill_latency(o->tpot, now_ns, &p->tpot);
    fill_latency(o->step, now_ns, &p->step);
    fill_latency(o->write, now_ns, &p->write);
    fill_fixed(o, p);
    fill_totals(o, p);
    fill_store(o, p);
    fill_state(o, p);
    p->sessions_live = (uint32_t)(p->running + p->waiting);
    p->sessions_idle = count_sessions(o, now_ns);
}
