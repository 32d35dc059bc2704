/* appliance/metrics_page.h: GET /metrics: what to write, and in which format.
 *
 *   Accept                                       format
 *   application/vnd.google.protobuf (delimited)  protobuf, with native histograms and exemplars
 *   application/openmetrics-text                 OpenMetrics 1.0, with exemplars
 *   text/plain, or nothing that Cairn writes     Prometheus text 0.0.4
 *
 *   ?names=vllm    what is read by dashboards, autoscalers and endpoint pickers made for vLLM
 *
 * Threads: any.
 * Memory:  what is written belongs to the caller. */
#pragma once

#include "appliance/metrics_catalogue.h"
#include "base/buf.h"
#include "base/err.h"

typedef enum cn_metrics_format {
    CN_METRICS_FORMAT_TEXT,
    CN_METRICS_FORMAT_OPENMETRICS,
    CN_METRICS_FORMAT_PROTOBUF
} cn_metrics_format;

/* The format that a client would rather have, by its field `Accept` (NULL: none). */
cn_metrics_format cn_metrics_page_format(const char *accept);
/* Appends the page that `query` asks for and gives its content type. Errors: CN_E_INVALID (names). */
cn_code cn_metrics_page_write(const cn_metrics_source *source, const char *accept, const char *query,
                              cn_buf *out, const char **content_type, cn_err *err);
