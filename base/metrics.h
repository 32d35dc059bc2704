/* base/metrics.h: what Cairn counts: a field for every line of base/metrics_table.h.
 * How they are shown is appliance/metrics_page.h.
 *
 * Threads: counters and gauges from any thread; each histogram has the one writer that its line
 *          names; read from any thread.
 * Memory:  one cn_metrics, about 450 KiB, allocated by the appliance. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/metrics_table.h"

enum {
    CN_METRICS_EDGES_MAX = 40,
    CN_METRICS_ROUTES_MAX = 80,
    CN_METRICS_REQUEST_BYTES = 80,
    CN_METRICS_TRACE_BYTES = 33
};

typedef struct cn_metrics_edges {
    double value_per_shown;              // 1e9: nanoseconds, shown as seconds
    uint64_t value_per_edge;             // 1000: edges are microseconds
    uint64_t edges[CN_METRICS_EDGES_MAX];
    uint32_t count;
} cn_metrics_edges;

/* How many values lie in each bucket: up to the edge of the same number, and above the one before. */
typedef struct cn_metrics_buckets {
    // Relaxed, as all of these: each is a figure of its own and orders nothing.
    _Atomic uint64_t counts[CN_METRICS_EDGES_MAX + 1];
    _Atomic uint64_t sum;
} cn_metrics_buckets;

/* One request, as an example of what lies in a bucket. */
typedef struct cn_metrics_exemplar {
    char request_id[CN_METRICS_REQUEST_BYTES];   // "": none
    char trace_id[CN_METRICS_TRACE_BYTES];
    uint64_t value, wall_ns;
} cn_metrics_exemplar;

typedef struct cn_metrics_histogram {
    cn_histogram all;                    // for quantiles and native histograms
    cn_metrics_buckets buckets;
    const cn_metrics_edges *edges;
    atomic_bool busy;                    // whoever set it may touch the exemplars
    cn_metrics_exemplar exemplars[CN_METRICS_EDGES_MAX + 1];
} cn_metrics_histogram;

/* What became of the requests to one route; the api's. */
typedef struct cn_metrics_route {
    _Atomic uint64_t codes[3];           // 2xx, 4xx, 5xx
    cn_metrics_buckets took;             // edges: request
} cn_metrics_route;

typedef struct cn_metrics {
#define X(id, kind, name, labels, help) _Atomic uint64_t id;
    CN_METRICS(X)
#undef X
#define X(id, edges, name, labels, writer, help) cn_metrics_histogram id;
    CN_HISTOGRAMS(X)
#undef X
    cn_metrics_route routes[CN_METRICS_ROUTES_MAX];  // [route]; its names are dataplane/route.h's
} cn_metrics;

#define X(set, ...) extern const cn_metrics_edges cn_metrics_edges_##set;
CN_METRICS_EDGES(X)
#undef X

static inline void cn_metrics_add(_Atomic uint64_t *metric, uint64_t n)
{
    atomic_fetch_add_explicit(metric, n, memory_order_relaxed);
}
static inline void cn_metrics_set(_Atomic uint64_t *metric, uint64_t value)
{
    atomic_store_explicit(metric, value, memory_order_relaxed);
}
static inline uint64_t cn_metrics_get(const _Atomic uint64_t *metric)
{
    return atomic_load_explicit(metric, memory_order_relaxed);
}

void cn_metrics_init(cn_metrics *metrics);

/* One more value of a histogram. */
void cn_metrics_observe(cn_metrics_histogram *histogram, uint64_t value);
/* The same, of a request that is to be found by its ids; too long a request id makes it no exemplar. */
void cn_metrics_observe_request(cn_metrics_histogram *histogram, uint64_t value, uint64_t wall_ns,
                                const char *request_id, const char *trace_id);
/* One more request to a route, answered with `status`. */
void cn_metrics_route_add(cn_metrics_route *route, unsigned status, uint64_t took_ns);
