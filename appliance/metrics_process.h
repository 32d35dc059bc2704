/* appliance/metrics_process.h: what the system says of this process, under the names that Prometheus'
 * own clients use.
 *
 * Threads: any.
 * Memory:  none. */
#pragma once

#include <stdint.h>

typedef struct cn_metrics_process {
    double cpu_seconds, start_seconds;
    uint64_t resident_bytes, virtual_bytes, open_descriptors, descriptors_max, threads;
} cn_metrics_process;

/* Reads /proc; what cannot be read is 0. */
void cn_metrics_process_read(cn_metrics_process *out);
