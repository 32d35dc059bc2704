#include "base/metrics.h"

#include <string.h>

#define COUNT(...) (sizeof(uint64_t[]){__VA_ARGS__} / sizeof(uint64_t))
#define X(set, per_shown, per_edge, ...)                                                                   \
    _Static_assert(COUNT(__VA_ARGS__) <= CN_METRICS_EDGES_MAX, "more edges than there is room for"); \
    const cn_metrics_edges cn_metrics_edges_##set = {per_shown, per_edge, {__VA_ARGS__}, COUNT(__VA_ARGS__)};
CN_METRICS_EDGES(X)
#undef X

void cn_metrics_init(cn_metrics *metrics)
{
    memset(metrics, 0, sizeof *metrics);
#define X(id, set, name, labels, writer, help) metrics->id.edges = &cn_metrics_edges_##set;
    CN_HISTOGRAMS(X)
#undef X
}

// One writer: a load and a store are enough, and cheaper than an atomic addition.
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    cn_metrics_set(counter, cn_metrics_get(counter) + n);
}

static uint32_t count(cn_metrics_buckets *buckets, const cn_metrics_edges *edges, uint64_t value)
{
    uint32_t low = 0, high = edges->count;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (value <= edges->edges[middle] * edges->value_per_edge) high = middle;
        else low = middle + 1;
    }
    add(&buckets->counts[low], 1);
    add(&buckets->sum, value);
    return low;
}

void cn_metrics_observe(cn_metrics_histogram *histogram, uint64_t value)
{
    count(&histogram->buckets, histogram->edges, value);
    cn_histogram_add(&histogram->all, value);
}

void cn_metrics_observe_request(cn_metrics_histogram *histogram, uint64_t value, uint64_t wall_ns,
                                const char *request_id, const char *trace_id)
{
    const uint32_t bucket = count(&histogram->buckets, histogram->edges, value);
    const size_t id_len = strlen(request_id), trace_len = strlen(trace_id);
    cn_metrics_exemplar *exemplar = &histogram->exemplars[bucket];
    cn_histogram_add(&histogram->all, value);
    if (id_len >= sizeof exemplar->request_id || trace_len >= sizeof exemplar->trace_id) return;
    // Whoever reads them has this one missed; the api thread waits for nobody.
    if (atomic_exchange_explicit(&histogram->busy, true, memory_order_acquire)) return;
    exemplar->value = value;
    exemplar->wall_ns = wall_ns;
    memcpy(exemplar->request_id, request_id, id_len + 1);
    memcpy(exemplar->trace_id, trace_id, trace_len + 1);
    atomic_store_explicit(&histogram->busy, false, memory_order_release);
}

void cn_metrics_route_add(cn_metrics_route *route, unsigned status, uint64_t took_ns)
{
    add(&route->codes[status >= 500 ? 2 : status >= 400 ? 1 : 0], 1);
    count(&route->took, &cn_metrics_edges_request, took_ns);
}
