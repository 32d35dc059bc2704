#include "appliance/metrics_catalogue.h"

#include "base/assert.h"

enum {
    KIND_counter = CN_METRICS_COUNTER,
    KIND_counter_ns = CN_METRICS_COUNTER_NS,
    KIND_gauge = CN_METRICS_GAUGE,
    KIND_gauge_ns = CN_METRICS_GAUGE_NS
};

static const cn_metrics_row rows[] = {
#define X(id, kind, name, labels, help)                                                            \
    {name, labels, help, (cn_metrics_kind)KIND_##kind, offsetof(cn_metrics, id)},
    CN_METRICS(X)
#undef X
#define X(id, edges, name, labels, writer, help)                                                   \
    {name, labels, help, CN_METRICS_HISTOGRAM, offsetof(cn_metrics, id)},
    CN_HISTOGRAMS(X)
#undef X
};

const cn_metrics_row *cn_metrics_catalogue_rows(uint32_t *count)
{
    *count = sizeof rows / sizeof *rows;
    return rows;
}

const char *cn_metrics_catalogue_type(cn_metrics_kind kind)
{
    if (kind == CN_METRICS_HISTOGRAM) return "histogram";
    return kind == CN_METRICS_COUNTER || kind == CN_METRICS_COUNTER_NS ? "counter" : "gauge";
}

bool cn_metrics_catalogue_is_ns(const cn_metrics_row *row)
{
    return row->kind == CN_METRICS_COUNTER_NS || row->kind == CN_METRICS_GAUGE_NS;
}

static const void *field(const cn_metrics_row *row, const cn_metrics *metrics)
{
    return (const char *)metrics + row->offset;
}

double cn_metrics_catalogue_value(const cn_metrics_row *row, const cn_metrics *metrics)
{
    CN_ASSERT(row->kind != CN_METRICS_HISTOGRAM);
    const _Atomic uint64_t *value = field(row, metrics);
    const double shown = (double)cn_metrics_get(value);
    return cn_metrics_catalogue_is_ns(row) ? shown / 1e9 : shown;
}

const cn_histogram *cn_metrics_catalogue_histogram(const cn_metrics_row *row,
                                                   const cn_metrics *metrics)
{
    CN_ASSERT(row->kind == CN_METRICS_HISTOGRAM);
    return field(row, metrics);
}
