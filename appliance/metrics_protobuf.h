/* appliance/metrics_protobuf.h: metrics as protobuf (proto/metrics.proto), with native histograms.
 *
 * Threads: the api thread.
 * Memory:  one family at a time, until end. */
#pragma once

#include "appliance/metrics_catalogue.h"
#include "base/buf.h"

typedef struct cn_metrics_protobuf {
    cn_buf *out;                 // what is shown is appended to it
    cn_buf family;               // the one that is being written
    cn_metrics_type type;
} cn_metrics_protobuf;

/* Starts to write to `out`. The sink refers to *protobuf, which must outlive it; end must follow. */
cn_metrics_sink cn_metrics_protobuf_sink(cn_metrics_protobuf *protobuf, cn_buf *out);
void cn_metrics_protobuf_end(cn_metrics_protobuf *protobuf);
