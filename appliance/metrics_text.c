#include "appliance/metrics_text.h"

#include <math.h>
#include <string.h>

static void add_number(cn_buf *out, double value)
{
    cn_buf_add_format(out, value == floor(value) && fabs(value) < 1e15 ? "%.0f" : "%.15g", value);
}

// As Prometheus itself writes it, so that a series is the same in every format.
static void add_edge(cn_buf *out, double value)
{
    cn_buf_add_format(out, "%g%s", value, value == floor(value) && value < 1e6 ? ".0" : "");
}

/* The part of a name that OpenMetrics calls the family: counters lose `_total`, facts `_info`. */
static int family_len(const cn_metrics_text *text, const char *name, cn_metrics_type type)
{
    const size_t len = strlen(name);
    const bool cut = text->dialect == CN_METRICS_OPENMETRICS &&
                     (type == CN_METRICS_COUNTER || type == CN_METRICS_INFO);
    return (int)(cut ? len - strlen(type == CN_METRICS_COUNTER ? "_total" : "_info") : len);
}

static void add_family(void *self, const char *name, cn_metrics_type type, const char *help)
{
    static const char *const types[] = {"counter", "gauge", "info", "histogram"};
    const cn_metrics_text *text = self;
    const int len = family_len(text, name, type);
    const bool no_info = text->dialect == CN_METRICS_PROMETHEUS && type == CN_METRICS_INFO;
    cn_buf_add_format(text->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", len, name, help, len, name,
                      no_info ? "gauge" : types[type]);
}

static void add_series(cn_buf *out, const char *name, const char *suffix, const char *labels)
{
    cn_buf_add_text(out, name);
    cn_buf_add_text(out, suffix);
    if (labels[0]) cn_buf_add_format(out, "{%s}", labels);
    cn_buf_add_char(out, ' ');
}

static void add_value(void *self, const char *name, const char *labels, double value)
{
    const cn_metrics_text *text = self;
    add_series(text->out, name, "", labels);
    add_number(text->out, value);
    cn_buf_add_char(text->out, '\n');
}

static void add_exemplar(const cn_metrics_text *text, const cn_metrics_shown_histogram *h, uint32_t i)
{
    const cn_metrics_exemplar *e = h->exemplars ? &h->exemplars[i] : NULL;
    if (!e || !e->request_id[0] || text->dialect != CN_METRICS_OPENMETRICS) return;
    cn_buf_add_format(text->out, " # {request_id=\"%s\",trace_id=\"%s\"} ", e->request_id, e->trace_id);
    add_number(text->out, (double)e->value / h->edges->value_per_shown);
    cn_buf_add_format(text->out, " %.3f", (double)e->wall_ns / 1e9);
}

static void add_histogram(void *self, const char *name, const char *labels,
                          const cn_metrics_shown_histogram *h)
{
    const cn_metrics_text *text = self;
    cn_buf *out = text->out;
    uint64_t upto = 0;
    for (uint32_t i = 0; i <= h->edges->count; i++) {
        upto += cn_metrics_get(&h->buckets->counts[i]);
        cn_buf_add_format(out, "%s_bucket{%s%sle=\"", name, labels, labels[0] ? "," : "");
        if (i < h->edges->count) add_edge(out, cn_metrics_catalogue_edge(h->edges, i));
        else cn_buf_add_text(out, "+Inf");
        cn_buf_add_text(out, "\"} ");
        cn_buf_add_u64(out, upto);
        add_exemplar(text, h, i);
        cn_buf_add_char(out, '\n');
    }
    add_series(out, name, "_sum", labels);
    add_number(out, (double)cn_metrics_get(&h->buckets->sum) / h->edges->value_per_shown);
    cn_buf_add_char(out, '\n');
    add_series(out, name, "_count", labels);
    cn_buf_add_u64(out, upto);
    cn_buf_add_char(out, '\n');
}

cn_metrics_sink cn_metrics_text_sink(cn_metrics_text *text)
{
    return (cn_metrics_sink){add_family, add_value, add_histogram, text};
}

void cn_metrics_text_end(cn_metrics_text *text)
{
    if (text->dialect == CN_METRICS_OPENMETRICS) cn_buf_add_text(text->out, "# EOF\n");
}
