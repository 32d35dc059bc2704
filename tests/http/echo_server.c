/* tests/http/echo_server.c: cn_http over kernel sockets, or a DPDK port, with an api that says what it was asked.
 *   echo_server [--address 127.0.0.1:0] [--pace-us 0] [--limit KEY=VALUE]...
 *               [--dpdk-device D --dpdk-address A/24 or --dpdk-address6 A/64] [--idle-polls N] [--damage N]
 * Prints the address that it listens on, and drains and ends with status 0 after SIGTERM. --damage: so many
 * of a million frames are dropped, as many repeated, overtaken, delayed by up to 20 ms and damaged, each way
 * (dataplane/nic_lossy.h); what was done is printed at the end.
 *
 *   /ok                           "ok"
 *   /stream?chunks=N&bytes=M      N chunks of M bytes; each round of the api sends one chunk to
 *                                 every stream, then waits for --pace-us; with stamp=1 and M at least
 *                                 16 a chunk begins with the time in nanoseconds, in hexadecimal
 *   /hang                         no answer
 *   /metrics                      Prometheus text
 *   anything else                 JSON of the request
 *
 * Threads: net (main) and api.
 * Memory:  as cn_http; a list of the streams. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "appliance/metrics_text.h"
#include "base/buf.h"
#include "dataplane/http.h"
#include "dataplane/nic_dpdk.h"
#include "dataplane/nic_lossy.h"
#include "dataplane/transport_dpdk.h"

typedef struct stream {
    cn_exchange exchange;
    unsigned long left;
    size_t chunk_bytes;
    bool is_stamped;
} stream;

typedef struct server {
    cn_http *http;
    cn_limits limits;
    cn_metrics metrics;
    cn_wake net_wake, api_wake;
    uint64_t pace_ns;
    atomic_bool stop;
    stream *streams;
    uint32_t stream_count;
    char *filler;                            // what streams send
    cn_buf text;
    const char *device, *address4, *address6;    // of the DPDK port; NULL: kernel sockets
    uint32_t idle_polls;                         // as cn_transport_dpdk_options
    uint32_t damage;                             // of a million frames; 0: a good wire
    cn_nic *nic;
} server;

enum { CHUNK_BYTES_MAX = 1 << 20, STAMP_BYTES = 16 };
static const uint64_t DRAIN_NS = 5000000000, DAMAGE_DELAY_NS = 20000000;

static server the;
static volatile sig_atomic_t terminated;

static void on_term(int signal_number)
{
    (void)signal_number;
    terminated = 1;
    cn_wake_signal(&the.net_wake);
}

// ---- api thread --------------------------------------------------------------------------------

static void wait_for_room(void)
{
    cn_http_flush(the.http);
    sched_yield();
}

static void answer(cn_exchange x, const char *type, const char *data, size_t len)
{
    while (!cn_http_start(the.http, x, 200, type, (int64_t)len, "")) wait_for_room();
    while (len && !atomic_load(&the.stop)) {
        const size_t taken = cn_http_send(the.http, x, data, len);
        if (!taken) wait_for_room();
        data += taken;
        len -= taken;
    }
    while (!cn_http_end(the.http, x)) wait_for_room();
}

static void add_json_text(cn_buf *out, const char *text)
{
    cn_buf_add_json(out, text, strlen(text));
}

static void echo(const cn_http_request *r)
{
    cn_buf *out = &the.text;
    cn_buf_clear(out);
    cn_buf_add_text(out, "{\"method\":");
    add_json_text(out, r->method);
    cn_buf_add_text(out, ",\"path\":");
    add_json_text(out, r->path);
    cn_buf_add_text(out, ",\"query\":");
    add_json_text(out, r->query);
    cn_buf_add_text(out, ",\"peer\":");
    add_json_text(out, r->peer);
    cn_buf_add_text(out, ",\"headers\":[");
    for (uint32_t i = 0; i < r->header_count; i++) {
        cn_buf_add_text(out, i ? ",[" : "[");
        add_json_text(out, r->headers[i].name);
        cn_buf_add_char(out, ',');
        add_json_text(out, r->headers[i].value);
        cn_buf_add_char(out, ']');
    }
    cn_buf_add_text(out, "],\"body\":");
    cn_buf_add_json(out, r->body, r->body_len);
    cn_buf_add_char(out, '}');
    answer(r->exchange, "application/json", out->data, out->len);
}

static unsigned long query_number(const char *query, const char *name, unsigned long otherwise)
{
    const char *at = strstr(query, name);
    return at ? strtoul(at + strlen(name), NULL, 10) : otherwise;
}

static void start_stream(const cn_http_request *r)
{
    const unsigned long bytes = query_number(r->query, "bytes=", 16);
    while (!cn_http_start(the.http, r->exchange, 200, "text/event-stream", CN_HTTP_LENGTH_STREAM,
                          "Cache-Control: no-store\r\n")) {
        wait_for_room();
    }
    the.streams[the.stream_count++] =
        (stream){r->exchange, query_number(r->query, "chunks=", 1),
                 bytes < CHUNK_BYTES_MAX ? bytes : CHUNK_BYTES_MAX,
                 query_number(r->query, "stamp=", 0) && bytes >= STAMP_BYTES};
}

static void forget_stream(cn_exchange x)
{
    for (uint32_t i = 0; i < the.stream_count; i++) {
        if (the.streams[i].exchange.index != x.index) continue;
        if (the.streams[i].exchange.generation != x.generation) continue;
        the.streams[i] = the.streams[--the.stream_count];
        return;
    }
}

static void count_port(void)
{
    cn_nic_stats stats;
    if (!the.nic) return;
    the.nic->ops->stats(the.nic, &stats);
    cn_metrics_set(&the.metrics.port_link_up, stats.link_up);
    cn_metrics_set(&the.metrics.port_rx_frames, stats.rx_frames);
    cn_metrics_set(&the.metrics.port_tx_frames, stats.tx_frames);
    cn_metrics_set(&the.metrics.port_rx_missed, stats.rx_missed);
    cn_metrics_set(&the.metrics.port_rx_no_frame, stats.rx_no_frame);
    cn_metrics_set(&the.metrics.port_tx_full, stats.tx_full);
}

static void take(cn_http_message *m)
{
    if (m->kind == CN_HTTP_GONE) {
        forget_stream(m->exchange);
        return;
    }
    const char *path = m->request->path;
    if (strcmp(path, "/ok") == 0) {
        answer(m->exchange, "text/plain", "ok", 2);
    } else if (strcmp(path, "/stream") == 0) {
        start_stream(m->request);
    } else if (strcmp(path, "/metrics") == 0) {
        count_port();
        cn_buf_clear(&the.text);
        cn_metrics_text text = {&the.text, CN_METRICS_PROMETHEUS};
        const cn_metrics_sink sink = cn_metrics_text_sink(&text);
        cn_metrics_catalogue_show(&(cn_metrics_source){&the.metrics, "none", false}, &sink);
        answer(m->exchange, "text/plain; version=0.0.4", the.text.data, the.text.len);
    } else if (strcmp(path, "/hang") != 0) {
        echo(m->request);
    }
    cn_http_request_free(the.http, m->request);
}

static void write_stamp(void)
{
    static const char digits[] = "0123456789abcdef";
    const cn_clock clock = cn_clock_system();
    uint64_t now_ns = cn_clock_now_ns(&clock);
    for (int i = STAMP_BYTES - 1; i >= 0; i--, now_ns >>= 4) the.filler[i] = digits[now_ns & 15];
}

// With a pace every stream gets its chunk in every round, whatever the ring says.
static void feed(stream *s)
{
    if (s->is_stamped) write_stamp();
    bool is_sent;
    while (!(is_sent = cn_http_send(the.http, s->exchange, the.filler, s->chunk_bytes)) &&
           the.pace_ns && !atomic_load(&the.stop)) {
        wait_for_room();
    }
    s->left -= is_sent;
    if (s->is_stamped) memset(the.filler, 'x', STAMP_BYTES);
}

static void feed_streams(void)
{
    for (uint32_t i = 0; i < the.stream_count;) {
        stream *s = &the.streams[i];
        if (s->left) feed(s);
        if (s->left == 0 && cn_http_end(the.http, s->exchange)) forget_stream(s->exchange);
        else i++;
    }
}

static bool take_all(void)
{
    cn_http_message m;
    bool did = false;
    while (cn_http_next(the.http, &m)) {
        take(&m);
        did = true;
    }
    return did;
}

static void *api_main(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "api");
    while (!atomic_load(&the.stop)) {
        const bool did = take_all();
        feed_streams();
        cn_http_flush(the.http);
        if (did || (the.stream_count && !the.pace_ns)) continue;
        cn_wake_prepare(&the.api_wake);
        // What came before prepare was not signalled: look at everything once more.
        if (atomic_load(&the.stop) || take_all()) cn_wake_cancel(&the.api_wake);
        else cn_wake_wait(&the.api_wake, the.stream_count ? the.pace_ns : UINT64_MAX);
    }
    return NULL;
}

// ---- net thread --------------------------------------------------------------------------------

static void serve(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, api_main, NULL) != 0) abort();
    printf("%s\n", cn_http_address(the.http));
    fflush(stdout);
    while (!terminated) cn_http_poll(the.http, UINT64_MAX);
    cn_http_drain(the.http);
    const cn_clock clock = cn_clock_system();
    const uint64_t end_ns = cn_clock_now_ns(&clock) + DRAIN_NS;
    while (cn_http_connection_count(the.http) && cn_clock_now_ns(&clock) < end_ns) {
        cn_http_poll(the.http, DRAIN_NS / 100);
    }
    atomic_store(&the.stop, true);
    cn_wake_signal(&the.api_wake);
    pthread_join(thread, NULL);
}

static bool set_limit(const char *assignment)
{
#define X(key, unit, initial, min, max, what)                                                      \
    if (strncmp(assignment, #key "=", sizeof #key) == 0) {                                         \
        the.limits.key = strtoull(assignment + sizeof #key, NULL, 10);                             \
        return true;                                                                               \
    }
    CN_LIMITS(X)
#undef X
    return false;
}

static const char *parse_arguments(int argc, char **argv)
{
    const char *address = "127.0.0.1:0";
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) return NULL;
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--address") == 0) address = value;
        else if (strcmp(argv[i], "--pace-us") == 0) the.pace_ns = strtoull(value, NULL, 10) * 1000;
        else if (strcmp(argv[i], "--idle-polls") == 0) the.idle_polls = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--damage") == 0) the.damage = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--dpdk-device") == 0) the.device = value;
        else if (strcmp(argv[i], "--dpdk-address") == 0) the.address4 = value;
        else if (strcmp(argv[i], "--dpdk-address6") == 0) the.address6 = value;
        else if (strcmp(argv[i], "--limit") != 0 || !set_limit(value)) return NULL;
    }
    return address;
}

static cn_code open_lossy(cn_err *err)
{
    const cn_nic_lossy_rates all = {the.damage, the.damage, the.damage, the.damage, the.damage};
    const char *seed = getenv("CN_SEED");
    const cn_nic_lossy_options options = {the.nic, cn_clock_system(), seed ? strtoull(seed, NULL, 0) : 1,
                                          all, all, DAMAGE_DELAY_NS};
    return cn_nic_lossy_open(&options, &the.nic, err);
}

static void print_damage(void)
{
    cn_nic_lossy_counts c;
    if (!the.damage) return;
    cn_nic_lossy_counted(the.nic, &c);
    printf("%llu dropped, %llu repeated, %llu overtaken, %llu delayed, %llu damaged\n",
           (unsigned long long)c.dropped, (unsigned long long)c.duplicated,
           (unsigned long long)c.reordered, (unsigned long long)c.delayed,
           (unsigned long long)c.corrupted);
}

static cn_code open_http(const char *address, cn_err *err)
{
    cn_http_options options = {
        .transport = &cn_transport_kernel_ops, .address = address, .limits = &the.limits,
        .clock = cn_clock_system(), .metrics = &the.metrics, .net_wake = &the.net_wake,
        .api_wake = &the.api_wake};
    if (the.device) {
        const cn_nic_dpdk_options port = {.device = the.device, .cpu = -1};
        cn_code code = cn_nic_dpdk_open(&port, &the.nic, err);
        if (!code && the.damage) code = open_lossy(err);
        if (code) return code;
        cn_transport_dpdk_use(&(cn_transport_dpdk_options){.idle_polls = the.idle_polls, .stack = {
            .nic = the.nic, .clock = options.clock, .random = cn_random_system(),
            .ipv4 = the.address4, .ipv6 = the.address6}});
        options.transport = &cn_transport_dpdk_ops;
    }
    return cn_http_open(&options, &the.http, err);
}

int main(int argc, char **argv)
{
    cn_err err;
    the.limits = cn_limits_default();
    cn_metrics_init(&the.metrics);
    const char *address = parse_arguments(argc, argv);
    if (!address) {
        fprintf(stderr, "usage: %s [--address A] [--pace-us N] [--limit KEY=VALUE]...\n", argv[0]);
        return 2;
    }
    cn_buf_init(&the.text, SIZE_MAX / 2);
    the.streams = calloc(the.limits.connections, sizeof *the.streams);
    the.filler = malloc(CHUNK_BYTES_MAX);
    if (!the.streams || !the.filler || cn_wake_open(&the.net_wake, &err) ||
        cn_wake_open(&the.api_wake, &err)) {
        return 1;
    }
    memset(the.filler, 'x', CHUNK_BYTES_MAX);
    if (open_http(address, &err)) {
        fprintf(stderr, "echo_server: %s\n", err.text);
        return 1;
    }
    const struct sigaction term = {.sa_handler = on_term};
    sigaction(SIGTERM, &term, NULL);
    serve();
    cn_http_close(the.http);
    print_damage();
    if (the.nic) the.nic->ops->close(the.nic);
    cn_wake_close(&the.net_wake);
    cn_wake_close(&the.api_wake);
    cn_buf_close(&the.text);
    free(the.streams);
    free(the.filler);
    return 0;
}
