/* appliance/metrics_catalogue.h: every series there is, one after another, for whoever writes them down.
 * A sink is one way to write: text, protobuf, a list. Series of a family follow each other.
 *
 * Threads: any; while another one has the exemplars of a histogram, it is shown without.
 * Memory:  none of its own; what a sink is given is valid until it returns. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/metrics.h"

typedef enum cn_metrics_type {
    CN_METRICS_COUNTER,
    CN_METRICS_GAUGE,
    CN_METRICS_INFO,             // a gauge that is 1, whose labels are what it says
    CN_METRICS_HISTOGRAM
} cn_metrics_type;

typedef struct cn_metrics_shown_histogram {
    const cn_metrics_edges *edges;
    const cn_metrics_buckets *buckets;
    const cn_histogram *all;                 // NULL: there is none
    const cn_metrics_exemplar *exemplars;    // one for each bucket; NULL: none
} cn_metrics_shown_histogram;

/* Names are whole, with `_total` and `_info`; labels are those of the text format, without braces. */
typedef struct cn_metrics_sink {
    void (*family)(void *self, const char *name, cn_metrics_type type, const char *help);
    void (*value)(void *self, const char *name, const char *labels, double value);
    void (*histogram)(void *self, const char *name, const char *labels,
                      const cn_metrics_shown_histogram *histogram);
    void *self;
} cn_metrics_sink;

typedef struct cn_metrics_source {
    const cn_metrics *metrics;
    const char *model_name;
    bool unused_routes;          // also the histograms of routes that nobody has asked for yet
} cn_metrics_source;

/* Cairn's own names. */
void cn_metrics_catalogue_show(const cn_metrics_source *source, const cn_metrics_sink *sink);
/* What dashboards, autoscalers and endpoint pickers for vLLM read, under its names. */
void cn_metrics_catalogue_show_vllm(const cn_metrics_source *source, const cn_metrics_sink *sink);

/* Cumulative: values up to edge `i`, all of them for i == edges->count. */
uint64_t cn_metrics_catalogue_upto(const cn_metrics_shown_histogram *histogram, uint32_t i);
/* Edge `i` as it is shown. */
double cn_metrics_catalogue_edge(const cn_metrics_edges *edges, uint32_t i);
