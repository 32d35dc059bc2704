#include "appliance/metrics_text.h"

#include <string.h>

#include "appliance/metrics_catalogue.h"

// Upper edges in microseconds; they contain vLLM's and SGLang's edges of the same names.
static const uint32_t edges_us[] = {
    100,    250,    500,    1000,    2000,    3000,    4000,    6000,    8000,     10000,   15000,
    20000,  25000,  30000,  40000,   50000,   60000,   80000,   100000,  150000,   200000,  250000,
    300000, 400000, 500000, 750000,  1000000, 2500000, 5000000, 7500000, 10000000, 20000000,
    40000000, 80000000, 160000000, 640000000};

static void write_head(cn_buf *out, const cn_metrics_row *row)
{
    cn_buf_add_format(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name,
                      cn_metrics_catalogue_type(row->kind));
}

static void write_value(cn_buf *out, const cn_metrics_row *row, const cn_metrics *metrics)
{
    const double value = cn_metrics_catalogue_value(row, metrics);
    cn_buf_add_text(out, row->name);
    if (row->labels[0]) cn_buf_add_format(out, "{%s}", row->labels);
    cn_buf_add_format(out, cn_metrics_catalogue_is_ns(row) ? " %.9f\n" : " %.0f\n", value);
}

static void write_histogram(cn_buf *out, const cn_metrics_row *row, const cn_metrics *metrics)
{
    const cn_histogram *histogram = cn_metrics_catalogue_histogram(row, metrics);
    const char *name = row->name;
    // The total is read first: buckets only grow, and clamping keeps them cumulative.
    const uint64_t total = cn_metrics_get(&histogram->count);
    for (size_t i = 0; i < sizeof edges_us / sizeof *edges_us; i++) {
        uint64_t below = cn_histogram_count_at_most(histogram, (uint64_t)edges_us[i] * 1000u);
        if (below > total) below = total;
        cn_buf_add_format(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, row->labels,
                          row->labels[0] ? "," : "", edges_us[i] / 1e6, (unsigned long long)below);
    }
    cn_buf_add_format(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, row->labels,
                      row->labels[0] ? "," : "", (unsigned long long)total);
    cn_buf_add_format(out, row->labels[0] ? "%s_sum{%s} %.9f\n" : "%s_sum%s %.9f\n", name,
                      row->labels, (double)cn_metrics_get(&histogram->sum) / 1e9);
    cn_buf_add_format(out, row->labels[0] ? "%s_count{%s} %llu\n" : "%s_count%s %llu\n", name,
                      row->labels, (unsigned long long)total);
}

void cn_metrics_text_write(const cn_metrics *metrics, cn_buf *out)
{
    uint32_t count;
    const cn_metrics_row *rows = cn_metrics_catalogue_rows(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(rows[i].name, rows[i - 1].name) != 0) write_head(out, &rows[i]);
        if (rows[i].kind == CN_METRICS_HISTOGRAM) write_histogram(out, &rows[i], metrics);
        else write_value(out, &rows[i], metrics);
    }
}
