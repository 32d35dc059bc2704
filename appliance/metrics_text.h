/* appliance/metrics_text.h: metrics as text: Prometheus 0.0.4, and OpenMetrics 1.0, which has exemplars.
 *
 * Threads: the api thread.
 * Memory:  what is written belongs to the caller. */
#pragma once

#include "appliance/metrics_catalogue.h"
#include "base/buf.h"

typedef enum cn_metrics_dialect { CN_METRICS_PROMETHEUS, CN_METRICS_OPENMETRICS } cn_metrics_dialect;

typedef struct cn_metrics_text {
    cn_buf *out;                 // what is shown is appended to it
    cn_metrics_dialect dialect;
} cn_metrics_text;

/* The sink that writes to *text, which must outlive it. */
cn_metrics_sink cn_metrics_text_sink(cn_metrics_text *text);
/* Ends the page. */
void cn_metrics_text_end(cn_metrics_text *text);
