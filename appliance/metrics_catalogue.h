/* appliance/metrics_catalogue.h: the table of metrics as data: what every form of it is written from.
 *
 * Threads: any.
 * Memory:  constant data. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/metrics.h"

typedef enum cn_metrics_kind {
    CN_METRICS_COUNTER,
    CN_METRICS_COUNTER_NS,
    CN_METRICS_GAUGE,
    CN_METRICS_GAUGE_NS,
    CN_METRICS_HISTOGRAM
} cn_metrics_kind;

/* One series. Lines of one name follow each other. */
typedef struct cn_metrics_row {
    const char *name, *labels, *help;        // labels as in the text format, without braces
    cn_metrics_kind kind;
    size_t offset;                           // of the field in cn_metrics
} cn_metrics_row;

const cn_metrics_row *cn_metrics_catalogue_rows(uint32_t *count);
/* "counter", "gauge" or "histogram". */
const char *cn_metrics_catalogue_type(cn_metrics_kind kind);
/* What a counter or gauge shows now: nanoseconds are seconds. */
double cn_metrics_catalogue_value(const cn_metrics_row *row, const cn_metrics *metrics);
/* Whether it is shown with a fraction. */
bool cn_metrics_catalogue_is_ns(const cn_metrics_row *row);
const cn_histogram *cn_metrics_catalogue_histogram(const cn_metrics_row *row,
                                                   const cn_metrics *metrics);
