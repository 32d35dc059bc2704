#include "appliance/serve.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <poll.h>
#include <unistd.h>

#include <sodium.h>

#include "appliance/admin.h"
#include "appliance/backends.h"
#include "appliance/cli.h"
#include "appliance/keys.h"
#include "appliance/life.h"
#include "appliance/metrics_page.h"
#include "appliance/network.h"
#include "appliance/state.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/random.h"
#include "dataplane/api.h"
#include "dataplane/http.h"
#include "model/checkpoint.h"
#include "model/fingerprint.h"
#include "model/template.h"
#include "model/tokenizer.h"
#include "scheduler/engine.h"

/* How it works. Three threads, each with one wake and one loop:
 *
 *    net (http, transport) ──▶ api (routes, text) ──▶ engine ──▶ the backend's own threads
 *
 * A loop polls its room until nothing is left to do, announces sleep, polls once more, and sleeps.
 * The main thread tends them (appliance/life.h). Draining goes the way of a request: the net stops
 * listening, the api refuses new ones, and once every answer has left, the threads end in that order.
 *
 * Beside them, the state thread carries out what the api and the engine want of the store. */

enum { STOP_CHECK_MS = 1, SPARE_DESCRIPTORS = 96, SLOW_START_NS = 500000000 };

struct serve;

typedef struct room {
    const char *name;
    bool (*poll)(struct serve *s, uint64_t timeout_ns);
    uint64_t (*sleep_ns)(const struct serve *s);     // NULL: until the wake
    cn_wake wake;
    cn_pulse pulse;
    pthread_t thread;
    bool started;
    _Atomic bool stop;
    struct serve *serve;
} room;

typedef struct serve serve;

struct serve {
    cn_config_settings *settings;
    cn_log log;
    cn_clock clock;
    cn_random random;
    cn_metrics *metrics;
    cn_checkpoint *checkpoint;
    cn_tokenizer *tokenizer;
    cn_template *chat_template;
    cn_backend *backend;
    uint8_t model[CN_FINGERPRINT_BYTES];
    cn_engine *engine;
    cn_session *session;         // NULL: no store
    cn_network *network;         // NULL: kernel sockets
    cn_networks proxy_from, forwarded_from;
    cn_http *http;
    cn_api *api;
    cn_state *state;
    cn_keys_watch keys;
    cn_observer *observer;       // NULL: nobody looks (no page, no trace file)
    cn_admin *admin;             // likewise
    char hardware[128];
    room net, front, scheduler, keeper, operators;
    cn_life *life;
    _Atomic cn_life_phase phase; // for the net thread, which alone may call cn_http_drain
    _Atomic cn_life_phase net_phase;     // that the net thread has come to
    _Atomic uint32_t connections;
    const char *model_name;
    uint64_t start_ns;
    bool shows_progress;
};

// ---- the model

static void show_progress(void *self, uint64_t done, uint64_t total)
{
    serve *s = self;
    cn_life_load(s->life, done, total);
    if (!s->shows_progress) {
        const bool is_slow = cn_clock_now_ns(&s->clock) - s->start_ns > SLOW_START_NS;
        s->shows_progress = is_slow && done < total && isatty(STDERR_FILENO);
    }
    if (!s->shows_progress) return;
    fprintf(stderr, "\rloading weights: %3llu %% of %.1f GB%s",
            (unsigned long long)(total ? done * 100 / total : 100), (double)total / 1e9,
            done == total ? "\r\033[K" : "");
}

static const char *last_name(char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') path[--len] = '\0';
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static cn_code open_text(serve *s, cn_err *err)
{
    size_t len = 0;
    cn_code code = cn_tokenizer_open(s->settings->model, &s->tokenizer, err);
    if (code != CN_OK) return code;
    const uint32_t text_vocab = cn_tokenizer_vocab_count(s->tokenizer);
    const uint32_t model_vocab = cn_checkpoint_spec(s->checkpoint)->vocab_count;
    if (text_vocab > model_vocab) {
        return cn_err_set(err, CN_E_FORMAT,
                          "tokenizer.json: has ids up to %u; config.json (vocab_size) "
                          "allows up to %u",
                          text_vocab - 1, model_vocab - 1);
    }
    const char *text = cn_checkpoint_chat_template(s->checkpoint, &len);
    return text ? cn_template_open("chat_template", text, len, &s->chat_template, err) : CN_OK;
}

static cn_code open_backend(serve *s, cn_err *err)
{
    const cn_config_settings *c = s->settings;
    const cn_backend_options options = {
        .rank_count = (uint32_t)c->tensor_parallel,
        .numerics = (cn_numerics)cn_backends_numerics(c->numerics),
        .thread_count = (uint32_t)c->cpu_threads,
        .path = c->cpu_path[0] ? c->cpu_path : NULL,
        .wake = &s->scheduler.wake,
    };
    cn_code code = cn_backends_find(c->backend)->open(&options, &s->backend, err);
    if (code != CN_OK) return code;
    cn_fingerprint_model(cn_checkpoint_spec(s->checkpoint), s->model);
    code = s->backend->ops->model_load(s->backend, cn_checkpoint_spec(s->checkpoint), show_progress,
                                       s, err);
    cn_checkpoint_drop_weights(s->checkpoint);
    return code;
}

// ---- the store

static cn_code open_state(serve *s, cn_err *err)
{
    const cn_state_options options = {s->settings, s->clock, s->random, &s->log, s->metrics,
                                      &s->keeper.wake};
    return cn_state_open(&options, &s->state, err);
}

static cn_code connect_state(serve *s, cn_err *err)
{
    cn_kv_info kv;
    s->backend->ops->kv_info(s->backend, &kv);
    return cn_state_connect(s->state, kv.page_bytes, err);
}

static cn_store_port *store_port(const serve *s, uint32_t index)
{
    cn_store *store = cn_state_store(s->state);
    return store ? cn_store_port_at(store, index) : NULL;
}

// Turns and conversations; none without a store.
static cn_code open_session(serve *s, cn_err *err)
{
    const cn_limits *limits = &s->settings->limits;
    const cn_session_options options = {
        .store = store_port(s, CN_STATE_PORT_API),
        .clock = s->clock,
        .random = s->random,
        .life_ms = s->settings->state_life_days * 86400000u,
        .record_bytes_max = (uint32_t)limits->turn_record_bytes,
        .chain_max = (uint32_t)limits->history_turns,
        .call_max = (uint32_t)(limits->connections + limits->background_turns),
        .cache_bytes = s->settings->state_cache_bytes,
        .metrics = s->metrics,
    };
    if (!options.store) return CN_OK;
    cn_store_port_attach(options.store, &s->front.wake);
    return cn_session_open(&options, &s->session, err);
}

// ---- the engine

static uint32_t context_tokens(const serve *s)
{
    const uint32_t model = cn_checkpoint_spec(s->checkpoint)->context_tokens_max;
    const uint64_t wanted = s->settings->context_tokens;
    return wanted && wanted < model ? (uint32_t)wanted : model;
}

static uint64_t memory_bytes(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
}

static uint32_t page_count(const serve *s, const cn_kv_info *kv)
{
    uint64_t bytes = s->settings->kv_bytes;
    if (bytes == 0) {
        const uint64_t context =
            (context_tokens(s) + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS * kv->page_held_bytes;
        bytes = s->settings->sequences * context;
        if (bytes > memory_bytes() / 4) bytes = memory_bytes() / 4;
        if (bytes > 1ull << 30) bytes = 1ull << 30;
        if (bytes < context) bytes = context;    // one whole context must fit
    }
    const uint64_t count = bytes / kv->page_held_bytes;
    return count > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)count;
}

static cn_code open_engine(serve *s, cn_err *err)
{
    const cn_config_settings *c = s->settings;
    cn_kv_info kv;
    s->backend->ops->kv_info(s->backend, &kv);
    cn_engine_options options = {
        .backend = s->backend,
        .page_count = page_count(s, &kv),
        .slot_count = (uint32_t)c->sequences,
        .step_tokens = (uint32_t)c->step_tokens,
        .context_tokens_max = context_tokens(s),
        .vocab_count = cn_checkpoint_spec(s->checkpoint)->vocab_count,
        .queue_max = (uint32_t)c->limits.queue_requests,
        .choices_max = (uint32_t)c->limits.choices,
        .port_count = 1,
        .tenant_count = c->key_count ? cn_api_tenant_max(&c->limits) : 1,
        .index_seed = cn_random_u64(&s->random),
        .clock = s->clock,
        .metrics = s->metrics,
        .wake = &s->scheduler.wake,
        .host_bytes = c->kv_host_bytes,
        .tenant_percent = (uint32_t)c->kv_tenant_percent,
        .store = store_port(s, CN_STATE_PORT_ENGINE),
    };
    memcpy(options.model, s->model, sizeof options.model);
    const cn_code code = cn_engine_open(&options, &s->engine, err);
    if (code == CN_OK) cn_engine_port_attach(cn_engine_port_at(s->engine, 0), &s->front.wake);
    return code;
}

// ---- the network

static cn_code raise_descriptor_limit(const serve *s, cn_err *err)
{
    struct rlimit limit;
    const rlim_t wanted = s->settings->limits.connections + SPARE_DESCRIPTORS;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= wanted) return CN_OK;
    limit.rlim_cur = wanted;
    if (limit.rlim_max < wanted) limit.rlim_max = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return CN_OK;
    return cn_err_set(err, CN_E_IO,
                      "limits.connections: %llu needs %llu file descriptors; this process "
                      "may have fewer (ulimit -n), and may not raise it",
                      (unsigned long long)s->settings->limits.connections,
                      (unsigned long long)wanted);
}

static cn_code open_network(serve *s, cn_err *err)
{
    const cn_network_options options = {s->settings, s->clock, s->random, &s->log, s->metrics};
    return cn_network_open(&options, &s->network, err);
}

static cn_code write_metrics(void *self, const cn_http_request *request, cn_buf *out,
                             const char **content_type, cn_err *err)
{
    const serve *s = self;
    const cn_metrics_source source = {.metrics = s->metrics, .model_name = s->model_name};
    return cn_metrics_page_write(&source, cn_http_request_header(request, "accept"), request->query,
                                 out, content_type, err);
}

static cn_code open_api(serve *s, cn_err *err)
{
    cn_key_file *keys = NULL;
    cn_code code = s->settings->key_count ? cn_keys_read(s->settings, &keys, err) : CN_OK;
    if (code != CN_OK) return code;
    cn_api_options api = {
        .http = s->http, .engine = s->engine, .port = cn_engine_port_at(s->engine, 0),
        .tokenizer = s->tokenizer, .chat_template = s->chat_template, .checkpoint = s->checkpoint,
        .model_name = s->model_name, .keys = keys, .limits = &s->settings->limits,
        .clock = s->clock, .random = s->random, .log = &s->log, .metrics = s->metrics,
        .wake = &s->front.wake, .session = s->session, .store = cn_state_store(s->state),
        .ended = cn_observer_ended(s->observer),
        .metrics_page = {write_metrics, s},
    };
    if (s->settings->admin_listen[0]) api.metrics_page.write = NULL;
    code = cn_api_open(&api, &s->api, err);
    cn_key_file_close(keys);
    return code;
}

static cn_code open_front(serve *s, cn_err *err)
{
    const cn_config_settings *c = s->settings;
    const cn_http_options http = {
        .transport = cn_network_transport(s->network),
        .address = c->listen,
        .limits = &c->limits,
        .clock = s->clock,
        .metrics = s->metrics,
        .net_wake = &s->net.wake,
        .api_wake = &s->front.wake,
        .proxy_from = &s->proxy_from,
        .forwarded_from = &s->forwarded_from,
    };
    cn_code code = cn_networks_parse("proxy_protocol.from", c->proxy_from, &s->proxy_from, err);
    if (code == CN_OK)
        code = cn_networks_parse("forwarded.from", c->forwarded_from, &s->forwarded_from, err);
    if (code == CN_OK) code = raise_descriptor_limit(s, err);
    if (code == CN_OK) code = open_session(s, err);
    if (code == CN_OK) code = cn_http_open(&http, &s->http, err);
    return code == CN_OK ? open_api(s, err) : code;
}

// ---- operators

static bool has_operators(const serve *s)
{
    return s->settings->admin_listen[0] || s->settings->otlp_file[0];
}

static cn_code open_observer(serve *s, cn_err *err)
{
    cn_observer_options options = {
        .settings = s->settings, .clock = s->clock, .log = &s->log, .metrics = s->metrics,
        .store = cn_state_store(s->state), .model_name = s->model_name, .hardware = s->hardware};
    s->backend->ops->probe(s->hardware, sizeof s->hardware, NULL);
    cn_engine_info_get(s->engine, &options.engine);
    return has_operators(s) ? cn_observer_open(&options, &s->observer, err) : CN_OK;
}

static cn_code open_admin(serve *s, cn_err *err)
{
    const cn_admin_options options = {
        .address = s->settings->admin_listen, .clock = s->clock, .observer = s->observer,
        .api = s->api, .metrics_page = {write_metrics, s}, .wake = &s->operators.wake};
    if (!s->observer) return CN_OK;
    cn_observer_attach(s->observer, s->api, cn_http_address(s->http));
    return cn_admin_open(&options, &s->admin, err);
}

// ---- threads

static bool poll_net(serve *s, uint64_t timeout_ns)
{
    const cn_life_phase phase = atomic_load(&s->phase);
    if (phase != atomic_load(&s->net_phase)) {
        if (phase == CN_LIFE_RETIRES) cn_http_retire(s->http);
        else cn_http_drain(s->http);
    }
    const bool worked = cn_http_poll(s->http, timeout_ns);
    atomic_store(&s->connections, cn_http_connection_count(s->http));
    atomic_store(&s->net_phase, phase);
    return worked;
}

static bool poll_operators(serve *s, uint64_t timeout_ns)
{
    return cn_admin_poll(s->admin, timeout_ns);
}

static bool poll_front(serve *s, uint64_t timeout_ns)
{
    (void)timeout_ns;
    return cn_api_poll(s->api);
}

static bool poll_scheduler(serve *s, uint64_t timeout_ns)
{
    (void)timeout_ns;
    return cn_engine_poll(s->engine);
}

static uint64_t sleep_scheduler(const serve *s) { return cn_engine_sleep_ns(s->engine); }

static bool poll_keeper(serve *s, uint64_t timeout_ns)
{
    return cn_state_poll(s->state, timeout_ns);
}

static void *run_room(void *argument)
{
    room *r = argument;
    while (!atomic_load(&r->stop)) {
        cn_pulse_beat(&r->pulse);
        if (r->poll(r->serve, 0)) continue;
        cn_wake_prepare(&r->wake);
        if (r->poll(r->serve, 0) || atomic_load(&r->stop)) cn_wake_cancel(&r->wake);
        else cn_wake_wait(&r->wake, r->sleep_ns ? r->sleep_ns(r->serve) : UINT64_MAX);
    }
    return NULL;
}

// The net and the state thread sleep in a poll of their own, which watches the wake beside sockets.
static void *run_net(void *argument)
{
    room *r = argument;
    while (!atomic_load(&r->stop)) {
        cn_pulse_beat(&r->pulse);
        r->poll(r->serve, UINT64_MAX);
    }
    return NULL;
}

static cn_code start_room(room *r, void *(*run)(void *), cn_err *err)
{
    const int failure = pthread_create(&r->thread, NULL, run, r);
    if (failure)
        return cn_err_set(err, CN_E_IO, "the %s thread cannot be started: %s", r->name,
                          strerror(failure));
    pthread_setname_np(r->thread, r->name);
    r->started = true;
    return CN_OK;
}

static void stop_room(room *r)
{
    if (!r->started) return;
    atomic_store(&r->stop, true);
    // A thread that looked at `stop` before, and announces its sleep after, misses one signal.
    do {
        cn_wake_signal(&r->wake);
        poll(NULL, 0, STOP_CHECK_MS);
    } while (pthread_tryjoin_np(r->thread, NULL) != 0);
    r->started = false;
}

static cn_code open_room(room *r, const char *name, bool (*poll)(serve *s, uint64_t timeout_ns),
                         serve *s, cn_err *err)
{
    r->name = r->pulse.name = name;
    r->pulse.wake = &r->wake;
    r->poll = poll;
    r->serve = s;
    return cn_wake_open(&r->wake, err);
}

// ---- life

static cn_code open_all(serve *s, const cn_reload_source *source, cn_err *err)
{
    s->metrics = malloc(sizeof *s->metrics);
    if (!s->metrics) return cn_err_set(err, CN_E_MEMORY, "no memory");
    cn_metrics_init(s->metrics);
    cn_metrics_set(&s->metrics->store_configured, strcmp(s->settings->state_store, "none") != 0);
    cn_metrics_set(&s->metrics->limit_connections, s->settings->limits.connections);
    cn_metrics_set(&s->metrics->limit_queue, s->settings->limits.queue_requests);
    cn_metrics_set(&s->metrics->limit_sequences, s->settings->sequences);
    const cn_life_options life = {s->settings, *source, &s->log, s->clock};
    cn_code code = cn_life_open(&life, &s->life, err);
    if (code == CN_OK) code = open_room(&s->net, "net", poll_net, s, err);
    if (code == CN_OK) code = open_room(&s->front, "api", poll_front, s, err);
    if (code == CN_OK) code = open_room(&s->scheduler, "engine", poll_scheduler, s, err);
    if (code == CN_OK) code = open_room(&s->keeper, "state", poll_keeper, s, err);
    if (code == CN_OK) code = open_room(&s->operators, "admin", poll_operators, s, err);
    s->scheduler.sleep_ns = sleep_scheduler;
    if (code == CN_OK) code = open_state(s, err);
    if (code == CN_OK) code = cn_checkpoint_open(s->settings->model, &s->checkpoint, err);
    if (code == CN_OK) code = open_text(s, err);
    malloc_trim(0);      // tokenizer.json as a tree takes ten times its size, and is gone
    if (code == CN_OK) code = open_backend(s, err);
    if (code == CN_OK) code = connect_state(s, err);
    if (code == CN_OK) code = open_engine(s, err);
    if (code == CN_OK) code = open_network(s, err);
    if (code == CN_OK) code = open_observer(s, err);
    if (code == CN_OK) code = open_front(s, err);
    if (code == CN_OK) code = open_admin(s, err);
    if (code == CN_OK) code = cn_life_listen(s->life, err);
    if (code == CN_OK && cn_state_store(s->state)) code = start_room(&s->keeper, run_net, err);
    if (code == CN_OK) code = start_room(&s->scheduler, run_room, err);
    if (code == CN_OK) code = start_room(&s->front, run_room, err);
    if (code == CN_OK && s->admin) code = start_room(&s->operators, run_net, err);
    if (code == CN_OK) code = start_room(&s->net, run_net, err);
    return code;
}

static void close_all(serve *s)
{
    stop_room(&s->net);
    stop_room(&s->front);
    stop_room(&s->scheduler);
    stop_room(&s->operators);
    // Last of the threads, and closed before those whose operations it may still have.
    stop_room(&s->keeper);
    cn_state_close(s->state);
    cn_session_close(s->session);
    cn_admin_close(s->admin);
    cn_observer_close(s->observer);
    cn_api_close(s->api);
    cn_http_close(s->http);
    cn_network_close(s->network);
    if (s->backend) s->backend->ops->close(s->backend);
    cn_engine_close(s->engine);
    cn_template_close(s->chat_template);
    cn_tokenizer_close(s->tokenizer);
    cn_checkpoint_close(s->checkpoint);
    cn_wake_close(&s->net.wake);
    cn_wake_close(&s->front.wake);
    cn_wake_close(&s->scheduler.wake);
    cn_wake_close(&s->keeper.wake);
    cn_wake_close(&s->operators.wake);
    free(s->metrics);
    cn_life_close(s->life);
}

static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0;
}

static void log_admin(const serve *s)
{
    const char *address = s->admin ? cn_admin_address(s->admin) : "";
    if (!*address) return;
    cn_log_event(&s->log, CN_LOG_INFO, "admin_ready", cn_log_text("admin", address));
    if (!is_loopback(address)) {
        cn_log_event(&s->log, CN_LOG_WARN, "admin_open_to_all",
                     cn_log_text("why", "the operator page and the metrics ask for no key, and are "
                                        "not on the loopback"));
    }
}

static void log_ready(const serve *s)
{
    cn_engine_info info;
    cn_engine_info_get(s->engine, &info);
    cn_log_event(
        &s->log, CN_LOG_INFO, "ready", cn_log_text("addr", cn_http_address(s->http)),
        cn_log_text("model", s->model_name), cn_log_text("backend", s->backend->ops->name),
        cn_log_text("hardware", s->hardware), cn_log_number("pages", info.page_count),
        cn_log_number("context_tokens", info.context_tokens_max),
        cn_log_number("start_ms", (int64_t)(cn_clock_now_ns(&s->clock) - s->start_ns) / 1000000));
    if (s->settings->key_count == 0 && !is_loopback(cn_http_address(s->http))) {
        cn_log_event(&s->log, CN_LOG_WARN, "open_to_all",
                     cn_log_text("why", "no API keys, and not on the loopback"));
    }
}

static int live(serve *s)
{
    cn_life_rooms rooms = {
        .api = s->api, .engine = s->engine, .network = s->network, .metrics = s->metrics,
        .net_wake = &s->net.wake, .phase = &s->phase, .net_phase = &s->net_phase,
        .connections = &s->connections, .keys = &s->keys};
    cn_keys_watch_init(&s->keys, s->settings, s->api, &s->log);
    room *const threads[] = {&s->net, &s->front, &s->scheduler, &s->keeper};
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        if (threads[i]->started) rooms.pulses[rooms.pulse_count++] = &threads[i]->pulse;
    }
    return cn_life_run(s->life, &rooms);
}

int cn_serve_run(cn_config_settings *settings, int argc, char **argv)
{
    static serve s;
    const cn_reload_source source = {argc, argv};
    cn_err err = {0};
    s.settings = settings;
    s.net.wake.fd = s.front.wake.fd = s.scheduler.wake.fd = s.keeper.wake.fd = -1;
    s.operators.wake.fd = -1;
    s.clock = cn_clock_system();
    s.random = cn_random_system();
    s.log = (cn_log){STDERR_FILENO, (cn_log_level)cn_log_level_parse(settings->log_level), s.clock};
    s.model_name = settings->model_name[0] ? settings->model_name : last_name(settings->model);
    s.start_ns = cn_clock_now_ns(&s.clock);
    int exit_code = CN_EXIT_FAILED;
    const cn_code code = sodium_init() < 0
                             ? cn_err_set(&err, CN_E_INTERNAL, "libsodium cannot be started")
                             : open_all(&s, &source, &err);
    if (code == CN_OK) {
        printf("listening on %s\n", cn_http_address(s.http));
        fflush(stdout);
        log_ready(&s);
        log_admin(&s);
        exit_code = live(&s);
        if (exit_code != 0) _exit(exit_code);
    } else {
        cn_cli_complain(&err);
        if (code == CN_E_INVALID) exit_code = CN_EXIT_USAGE;     // a configured value
    }
    close_all(&s);
    return exit_code;
}
