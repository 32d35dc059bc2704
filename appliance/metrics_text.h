/* appliance/metrics_text.h: the metrics as text for Prometheus.
 *
 * Threads: any.
 * Memory:  what is written belongs to the caller. */
#pragma once

#include "base/buf.h"
#include "base/metrics.h"

/* Appends everything in the Prometheus text format, version 0.0.4. */
void cn_metrics_text_write(const cn_metrics *metrics, cn_buf *out);
