/* base/metrics.h: what Cairn counts: a field for every line of base/metrics_table.h.
 * How they are shown is appliance/metrics_text.h.
 *
 * Threads: counters and gauges from any thread; each histogram has the one writer that its line
 *          names; read from any thread.
 * Memory:  one cn_metrics, about 100 KiB, allocated by the appliance. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/metrics_table.h"

typedef struct cn_metrics {
    // Relaxed: each is a figure of its own and orders nothing.
#define X(id, kind, name, labels, help) _Atomic uint64_t id;
    CN_METRICS(X)
#undef X
#define X(id, edges, name, labels, writer, help) cn_histogram id;
    CN_HISTOGRAMS(X)
#undef X
} cn_metrics;

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
