#include "base/metrics.h"

#include <string.h>

// Upper edges in microseconds; they contain vLLM's and SGLang's edges of the same names.
static const uint32_t edges_us[] = {
    100,    250,    500,    1000,    2000,    3000,    4000,    6000,    8000,     10000,   15000,
    20000,  25000,  30000,  40000,   50000,   60000,   80000,   100000,  150000,   200000,  250000,
    300000, 400000, 500000, 750000,  1000000, 2500000, 5000000, 7500000, 10000000, 20000000,
    40000000, 80000000, 160000000, 640000000};

void cn_metrics_init(cn_metrics *metrics) { memset(metrics, 0, sizeof *metrics); }

static void write_head(cn_buf *out, const char *name, const char *kind, const char *help)
{
    cn_buf_add_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void write_histogram(cn_buf *out, const char *name, const char *help,
                            const cn_histogram *histogram)
{
    write_head(out, name, "histogram", help);
    // The total is read first: buckets only grow, and clamping keeps them cumulative.
    const uint64_t total = cn_metrics_get(&histogram->count);
    for (size_t i = 0; i < sizeof edges_us / sizeof *edges_us; i++) {
        uint64_t below = cn_histogram_count_at_most(histogram, (uint64_t)edges_us[i] * 1000u);
        if (below > total) below = total;
        cn_buf_add_format(out, "%s_bucket{le=\"%g\"} %llu\n", name, edges_us[i] / 1e6,
                          (unsigned long long)below);
    }
    cn_buf_add_format(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name,
                      (unsigned long long)total, name,
                      (double)cn_metrics_get(&histogram->sum) / 1e9, name,
                      (unsigned long long)total);
}

void cn_metrics_write(const cn_metrics *metrics, cn_buf *out)
{
    const char *last = "";
#define X(id, kind, name, labels, help)                                                            \
    if (strcmp(last, name) != 0) write_head(out, last = name, #kind, help);                        \
    cn_buf_add_format(out, labels[0] ? "%s{%s} %llu\n" : "%s%s %llu\n", name, labels,              \
                      (unsigned long long)cn_metrics_get(&metrics->id));
    CN_METRICS(X)
#undef X
#define X(id, name, writer, help) write_histogram(out, name, help, &metrics->id);
    CN_HISTOGRAMS(X)
#undef X
}
